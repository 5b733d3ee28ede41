#include "tests/store/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <sqlite3.h>

#include "tests/store/record.h"

/* The state of the one fault under way, for every thread. */
static atomic_uint_least64_t operations, fail_at, lost_syncs;
static atomic_int fail_with;
static atomic_bool fail_sticky;

void fault_after(uint64_t n, int errnum, bool sticky)
{
    atomic_store(&fail_with, errnum);
    atomic_store(&fail_sticky, sticky);
    atomic_store(&fail_at, n ? atomic_load(&operations) + n : 0);
}

uint64_t fault_count(void)
{
    return atomic_load(&operations);
}

uint64_t fault_lost_syncs(void)
{
    return atomic_load(&lost_syncs);
}

/* Counts one operation; true: it is to fail, with errno set. */
static bool fails(bool needs_space)
{
    uint64_t now = atomic_fetch_add(&operations, 1) + 1, at = atomic_load(&fail_at);
    int errnum = atomic_load(&fail_with);
    if (!at || now < at || (now > at && !atomic_load(&fail_sticky)))
        return false;
    if (errnum == 0)
        raise(SIGKILL);
    if (errnum == ENOSPC && !needs_space)
        return false;
    errno = errnum;
    return true;
}

/* ---- the store's table ----------------------------------------------------------------------- */

static int f_open(int dir, const char *name, int flags, mode_t mode)
{
    struct stat st;
    if (fails(flags & O_CREAT))
        return -1;
    record_begin();
    bool made = flags & O_CREAT && file_system.stat_at(dir, name, &st) < 0;
    int fd = file_system.open(dir, name, flags, mode);
    if (fd >= 0 && made)
        record_create(dir, name, fd);
    else if (fd >= 0 && flags & O_TRUNC)
        record_fd('T', fd, 0);
    record_end();
    return fd;
}
static int f_close(int fd)
{
    bool bad = fails(false); /* a failing close closes all the same */
    int r = file_system.close(fd);
    if (bad)
        errno = EIO;
    return bad ? -1 : r;
}
static ssize_t f_read(int fd, void *p, size_t n, uint64_t offset)
{
    return fails(false) ? -1 : file_system.read(fd, p, n, offset);
}
static ssize_t f_write(int fd, const void *p, size_t n, uint64_t offset)
{
    bool bad = fails(true);
    int error = errno;
    record_begin();
    ssize_t done = file_system.write(fd, p, bad ? n / 2 : n, offset); /* half of it got there */
    if (done > 0)
        record_write(fd, p, (size_t)done, offset);
    record_end();
    if (bad)
        errno = error;
    return bad ? -1 : done;
}
static int f_reserve(int fd, uint64_t bytes)
{
    if (fails(true))
        return -1;
    record_begin();
    int r = file_system.reserve(fd, bytes);
    if (r == 0)
        record_fd('G', fd, bytes);
    record_end();
    return r;
}
static int f_reflink(int to, int from)
{
    if (fails(true))
        return -1;
    record_begin();
    int r = file_system.reflink(to, from);
    if (r == 0)
        record_clone(to, from);
    record_end();
    return r;
}
static int f_mode(int fd, mode_t mode)
{
    if (fails(false))
        return -1;
    record_begin();
    int r = file_system.mode(fd, mode);
    if (r == 0)
        record_fd('M', fd, mode);
    record_end();
    return r;
}
static int f_sync(int fd)
{
    if (fails(true)) {
        atomic_fetch_add(&lost_syncs, 1);
        return -1;
    }
    record_begin();
    int r = file_system.sync(fd);
    if (r == 0)
        record_fd('S', fd, 0);
    record_end();
    return r;
}
static int f_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    if (fails(true))
        return -1;
    record_begin();
    int r = file_system.rename(from_dir, from, to_dir, to);
    if (r == 0)
        record_rename(from_dir, from, to_dir, to);
    record_end();
    return r;
}
static int f_flush(int fd, uint64_t at, uint64_t n)
{
    return fails(false) ? -1 : file_system.flush(fd, at, n);
}
static int f_space(int fd, uint64_t *bytes, bool *in_memory)
{
    return fails(false) ? -1 : file_system.space(fd, bytes, in_memory);
}
static int f_alias(int dir, const char *from, const char *to)
{
    if (fails(true))
        return -1;
    record_begin();
    int r = file_system.alias(dir, from, to);
    if (r == 0)
        record_name('H', dir, to, from);
    record_end();
    return r;
}
static int f_link(const char *target, int dir, const char *name)
{
    if (fails(true))
        return -1;
    record_begin();
    int r = file_system.link(target, dir, name);
    if (r == 0)
        record_name('L', dir, name, target);
    record_end();
    return r;
}
static int f_unlink(int dir, const char *name)
{
    if (fails(false))
        return -1;
    record_begin();
    int r = file_system.unlink(dir, name);
    if (r == 0)
        record_name('U', dir, name, NULL);
    record_end();
    return r;
}
static int f_make_dir(int dir, const char *name, mode_t mode)
{
    if (fails(true))
        return -1;
    record_begin();
    int r = file_system.make_dir(dir, name, mode);
    if (r == 0)
        record_make_dir(dir, name);
    record_end();
    return r;
}
static int f_stat(int fd, struct stat *st)
{
    return fails(false) ? -1 : file_system.stat(fd, st);
}
static int f_stat_at(int dir, const char *name, struct stat *st)
{
    return fails(false) ? -1 : file_system.stat_at(dir, name, st);
}
static int f_stat_path(const char *path, struct stat *st)
{
    return fails(false) ? -1 : file_system.stat_path(path, st);
}

const struct file_ops fault_ops = {
    .open = f_open,     .close = f_close,     .read = f_read,       .write = f_write,
    .reserve = f_reserve, .reflink = f_reflink, .mode = f_mode,     .sync = f_sync,
    .rename = f_rename, .link = f_link,       .unlink = f_unlink,   .stat = f_stat,
    .stat_at = f_stat_at, .stat_path = f_stat_path,
    .flush = f_flush,   .space = f_space,     .alias = f_alias,     .make_dir = f_make_dir,
};

/* ---- SQLite's -------------------------------------------------------------------------------- */

struct shim_file {
    sqlite3_file base;
    sqlite3_file *real; /* follows in the same block */
    const char *path;   /* SQLite keeps it as long as the file is open; NULL: temporary */
    bool sync_name;     /* SQLite's first sync of a new journal or WAL syncs its directory too */
};

static struct shim_file *shim(sqlite3_file *f)
{
    return (struct shim_file *)f;
}

static sqlite3_file *real(sqlite3_file *f)
{
    return ((struct shim_file *)f)->real;
}

static int full_or(int rc)
{
    return errno == ENOSPC ? SQLITE_FULL : rc;
}

static int v_close(sqlite3_file *f)
{
    fails(false);
    return real(f)->pMethods->xClose(real(f));
}
static int v_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
    return fails(false) ? SQLITE_IOERR_READ : real(f)->pMethods->xRead(real(f), p, n, at);
}
static int v_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
    bool bad = fails(true);
    int why = bad ? full_or(SQLITE_IOERR_WRITE) : SQLITE_OK, part = bad ? n / 2 : n;
    record_begin();
    int rc = real(f)->pMethods->xWrite(real(f), p, part, at);
    if (rc == SQLITE_OK && shim(f)->path)
        record_path_write(shim(f)->path, p, (size_t)part, (uint64_t)at);
    record_end();
    return bad ? why : rc;
}
static int v_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    if (fails(false))
        return SQLITE_IOERR_TRUNCATE;
    record_begin();
    int rc = real(f)->pMethods->xTruncate(real(f), size);
    if (rc == SQLITE_OK && shim(f)->path)
        record_path('T', shim(f)->path, (uint64_t)size);
    record_end();
    return rc;
}
static int v_sync(sqlite3_file *f, int flags)
{
    if (fails(true))
        return full_or(SQLITE_IOERR_FSYNC);
    record_begin();
    int rc = real(f)->pMethods->xSync(real(f), flags);
    if (rc == SQLITE_OK && shim(f)->path) {
        record_path('S', shim(f)->path, 0);
        if (shim(f)->sync_name)
            record_path('D', shim(f)->path, 0);
        shim(f)->sync_name = false;
    }
    record_end();
    return rc;
}
static int v_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return fails(false) ? SQLITE_IOERR_FSTAT : real(f)->pMethods->xFileSize(real(f), size);
}
static int v_lock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xLock(real(f), level);
}
static int v_unlock(sqlite3_file *f, int level)
{
    return real(f)->pMethods->xUnlock(real(f), level);
}
static int v_reserved(sqlite3_file *f, int *out)
{
    return real(f)->pMethods->xCheckReservedLock(real(f), out);
}
static int v_control(sqlite3_file *f, int op, void *arg)
{
    return real(f)->pMethods->xFileControl(real(f), op, arg);
}
static int v_sector(sqlite3_file *f)
{
    return real(f)->pMethods->xSectorSize(real(f));
}
static int v_device(sqlite3_file *f)
{
    return real(f)->pMethods->xDeviceCharacteristics(real(f));
}
static int v_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out)
{
    return fails(extend) ? full_or(SQLITE_IOERR_SHMMAP)
                         : real(f)->pMethods->xShmMap(real(f), region, size, extend, out);
}
static int v_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
    return real(f)->pMethods->xShmLock(real(f), offset, n, flags);
}
static void v_shm_barrier(sqlite3_file *f)
{
    real(f)->pMethods->xShmBarrier(real(f));
}
static int v_shm_unmap(sqlite3_file *f, int remove)
{
    return real(f)->pMethods->xShmUnmap(real(f), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = v_close,
    .xRead = v_read,
    .xWrite = v_write,
    .xTruncate = v_truncate,
    .xSync = v_sync,
    .xFileSize = v_size,
    .xLock = v_lock,
    .xUnlock = v_unlock,
    .xCheckReservedLock = v_reserved,
    .xFileControl = v_control,
    .xSectorSize = v_sector,
    .xDeviceCharacteristics = v_device,
    .xShmMap = v_shm_map,
    .xShmLock = v_shm_lock,
    .xShmBarrier = v_shm_barrier,
    .xShmUnmap = v_shm_unmap,
};

static sqlite3_vfs *usual(sqlite3_vfs *v)
{
    return v->pAppData;
}

static int v_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    struct shim_file *s = (struct shim_file *)f;
    s->real = (sqlite3_file *)(s + 1);
    s->base.pMethods = NULL;
    if (fails(flags & SQLITE_OPEN_CREATE))
        return full_or(SQLITE_CANTOPEN);
    record_begin();
    bool made = name && flags & SQLITE_OPEN_CREATE && !record_exists(name);
    int rc = usual(v)->xOpen(usual(v), name, s->real, flags, out);
    s->path = name;
    s->sync_name = made && flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL);
    if (rc == SQLITE_OK && made)
        record_path_create(name);
    record_end();
    s->base.pMethods = s->real->pMethods ? &methods : NULL;
    return rc;
}

static int v_delete(sqlite3_vfs *v, const char *name, int sync)
{
    if (fails(false))
        return SQLITE_IOERR_DELETE;
    record_begin();
    bool there = record_exists(name);
    int rc = usual(v)->xDelete(usual(v), name, sync);
    if (rc == SQLITE_OK && there)
        record_path('U', name, 0);
    if (rc == SQLITE_OK && there && sync)
        record_path('D', name, 0);
    record_end();
    return rc;
}

static int v_access(sqlite3_vfs *v, const char *name, int flags, int *out)
{
    return usual(v)->xAccess(usual(v), name, flags, out);
}

static int v_full_path(sqlite3_vfs *v, const char *name, int n, char *out)
{
    return usual(v)->xFullPathname(usual(v), name, n, out);
}

void fault_install(void)
{
    static sqlite3_vfs shim; /* SQLite keeps it */
    sqlite3_vfs *v = sqlite3_vfs_find(NULL);
    if (!v)
        abort();
    shim = *v;
    shim.pNext = NULL;
    shim.zName = "fault";
    shim.pAppData = v;
    shim.szOsFile = v->szOsFile + (int)sizeof(struct shim_file);
    shim.xOpen = v_open;
    shim.xDelete = v_delete;
    shim.xAccess = v_access;
    shim.xFullPathname = v_full_path;
    shim.iVersion = 1;
    sqlite3_vfs_register(&shim, 1);
}
