#include "store/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_below(int dir, const char *name, int flags, mode_t mode)
{
    struct open_how how = { .flags = (unsigned)(flags | O_CLOEXEC),
                            .mode = flags & O_CREAT ? mode : 0,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    long fd = syscall(SYS_openat2, dir, name, &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* before Linux 5.6; old seccomp filters */
        fd = openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
    return (int)fd;
}

static int close_file(int fd)
{
    return close(fd);
}

static ssize_t read_at(int fd, void *p, size_t n, uint64_t offset)
{
    return pread(fd, p, n, (off_t)offset);
}

static ssize_t write_at(int fd, const void *p, size_t n, uint64_t offset)
{
    return pwrite(fd, p, n, (off_t)offset);
}

static int flush(int fd, uint64_t at, uint64_t n)
{
    return sync_file_range(fd, (off_t)at, (off_t)n, SYNC_FILE_RANGE_WRITE);
}

static int space(int fd, uint64_t *bytes, bool *in_memory)
{
    struct statfs v;
    if (fstatfs(fd, &v) < 0)
        return -1;
    *bytes = (uint64_t)v.f_bavail * (uint64_t)(v.f_frsize ? v.f_frsize : v.f_bsize);
    *in_memory = v.f_type == TMPFS_MAGIC;
    return 0;
}

static int reserve(int fd, uint64_t bytes)
{
    return fallocate(fd, 0, 0, (off_t)bytes);
}

static int reflink(int to, int from)
{
    return ioctl(to, FICLONE, from);
}

static int alias(int dir, const char *from, const char *to)
{
    return linkat(dir, from, dir, to, 0);
}

static int link_to(const char *target, int dir, const char *name)
{
    return symlinkat(target, dir, name);
}

static int unlink_below(int dir, const char *name)
{
    return unlinkat(dir, name, 0);
}

static int stat_fd(int fd, struct stat *st)
{
    return fstat(fd, st);
}

static int stat_below(int dir, const char *name, struct stat *st)
{
    return fstatat(dir, name, st, AT_SYMLINK_NOFOLLOW);
}

static int stat_path(const char *path, struct stat *st)
{
    return stat(path, st);
}

const struct file_ops file_system = {
    .open = open_below,
    .close = close_file,
    .read = read_at,
    .write = write_at,
    .flush = flush,
    .space = space,
    .reserve = reserve,
    .reflink = reflink,
    .mode = fchmod,
    .sync = fsync,
    .rename = renameat,
    .alias = alias,
    .link = link_to,
    .unlink = unlink_below,
    .make_dir = mkdirat,
    .stat = stat_fd,
    .stat_at = stat_below,
    .stat_path = stat_path,
};

bool file_write_all(const struct file_ops *ops, int fd, const void *p, size_t n, uint64_t at)
{
    for (size_t done = 0; done < n;) {
        ssize_t w = ops->write(fd, (const uint8_t *)p + done, n - done, at + done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w == 0)
            errno = EIO;
        if (w <= 0)
            return false;
        done += (size_t)w;
    }
    return true;
}

ssize_t file_read_all(const struct file_ops *ops, int fd, void *p, size_t n, uint64_t at)
{
    size_t done = 0;
    while (done < n) {
        ssize_t r = ops->read(fd, (uint8_t *)p + done, n - done, at + done);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -1;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

struct file_id file_id_of(const struct stat *st)
{
    /* a time beyond the year 2262 wraps: it need only differ from others */
    uint64_t ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
    return (struct file_id){ .inode = st->st_ino,
                             .size = (uint64_t)st->st_size,
                             .mtime_ns = (int64_t)ns };
}

bool file_id_eq(const struct file_id *a, const struct file_id *b)
{
    return a->inode == b->inode && a->size == b->size && a->mtime_ns == b->mtime_ns;
}
