#include "store/blob.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "store/download.h"

#define CHUNK ((size_t)CHUNK_BYTES)
#define REPORT_EVERY ((uint64_t)8 * 1024 * 1024)
#define SETTLE_NS 20000000 /* file time stamps move in steps of at most 10 ms */

/* ---- directories ----------------------------------------------------------------------------- */

static enum err_code open_dir(const struct file_ops *ops, int home, const char *name, int *out,
                              struct err *e)
{
    *out = ops->open(home, name, O_RDONLY | O_DIRECTORY, 0);
    return *out >= 0 ? ERR_OK : err_errno(e, ERR_IO, errno, "opening the store's '%s/'", name);
}

/* What is whole is moved from tmp/ to blobs/, which no mount may come between: better said now than when a download is
 * done. A kernel without mount ids (before 5.8) tells file systems apart. */
static enum err_code same_mount(const struct blob_dir *d, struct err *e)
{
    struct statx blobs, tmp;
    if (statx(d->blobs, "", AT_EMPTY_PATH, STATX_MNT_ID, &blobs) < 0 ||
        statx(d->tmp, "", AT_EMPTY_PATH, STATX_MNT_ID, &tmp) < 0)
        return ERR_OK;
    bool known = blobs.stx_mask & tmp.stx_mask & STATX_MNT_ID;
    if (known ? blobs.stx_mnt_id == tmp.stx_mnt_id
              : blobs.stx_dev_major == tmp.stx_dev_major && blobs.stx_dev_minor == tmp.stx_dev_minor)
        return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED,
                   "the store's 'blobs/' and 'tmp/' are different mounts, and files cannot be moved from one to the "
                   "other: mount the whole home instead, or choose another one (--home)");
}

enum err_code blob_dir_open(struct blob_dir *d, const struct file_ops *ops, int home,
                            struct err *e)
{
    d->ops = ops;
    d->blobs = d->tmp = -1;
    enum err_code code = open_dir(ops, home, "blobs", &d->blobs, e);
    if (!code)
        code = open_dir(ops, home, "tmp", &d->tmp, e);
    if (!code)
        code = same_mount(d, e);
    if (code)
        blob_dir_close(d);
    return code;
}

void blob_dir_close(struct blob_dir *d)
{
    if (d->blobs >= 0)
        d->ops->close(d->blobs);
    if (d->tmp >= 0)
        d->ops->close(d->tmp);
    d->blobs = d->tmp = -1;
}

/* A download that a later pull may go on with: dl-KEY.part or dl-KEY.journal, changed not long ago. A journal
 * alone is of one that has become a blob. */
static bool is_resumable(struct blob_dir *d, const char *name)
{
    struct str text = str_from(name), stem = { text.p, text.n - strlen(".journal") };
    char part[256];
    struct stat st;
    bool journal = str_ends(text, STR(".journal"));
    if (!str_starts(text, STR("dl-")) || !(str_ends(text, STR(".part")) || journal))
        return false;
    if (journal && (snprintf(part, sizeof part, "%.*s.part", (int)stem.n, stem.p) >= (int)sizeof part ||
                    d->ops->stat_at(d->tmp, part, &st) < 0))
        return false;
    if (d->ops->stat_at(d->tmp, name, &st) < 0 || !S_ISREG(st.st_mode))
        return false;
    int64_t age = clock_wall_ns() / 1000000000 - (int64_t)st.st_mtim.tv_sec;
    return age < DOWNLOAD_KEEP_S && age > -DOWNLOAD_KEEP_S; /* a clock may have been set back */
}

void blob_clean_tmp(struct blob_dir *d)
{
    int fd = d->ops->open(d->tmp, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        log_line(LOG_WARN, "msg=\"tmp/ of the store cannot be read\" errno=%d", errno);
        if (fd >= 0)
            d->ops->close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            is_resumable(d, entry->d_name))
            continue;
        if (d->ops->unlink(d->tmp, entry->d_name) < 0)
            log_line(LOG_WARN, "msg=\"a leftover in tmp/ of the store stays\" errno=%d", errno);
    }
    closedir(dir);
}

/* ---- hashing --------------------------------------------------------------------------------- */

static enum err_code report(struct blob_meter *m, uint64_t bytes, uint64_t *unreported,
                            const struct blob_source *from, struct err *e)
{
    m->done += bytes;
    *unreported += bytes;
    if (bytes && *unreported < REPORT_EVERY)
        return ERR_OK;
    *unreported = 0;
    if (m->progress && !m->progress(m->user, m->done, m->total))
        return err_set(e, ERR_CANCELLED, "reading '%s' was cancelled", from->path);
    return ERR_OK;
}

static enum err_code changed(const struct blob_source *from, struct err *e)
{
    return err_set(e, ERR_CONFLICT,
                   "'%s' changed while it was being read: try again when nothing writes to it",
                   from->path);
}

/* What reads a file from end to end. */
struct pass {
    const struct file_ops *ops;
    const struct blob_source *from;
    int fd;  /* read here: the source, or a clone of it */
    int out; /* and written here; -1: nowhere */
    struct blob_meter *meter;
    struct buf *chunks; /* hashes of each MiB; NULL: not wanted */
    uint8_t *chunk;
    struct hasher hasher;
};

static enum err_code pass_bytes(struct pass *p, uint64_t size, struct err *e)
{
    uint64_t at = 0, unreported = 0;
    enum err_code code = ERR_OK;
    while (!code && at < size) {
        size_t want = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        ssize_t n = file_read_all(p->ops, p->fd, p->chunk, want, at);
        if (n < 0)
            return err_errno(e, ERR_IO, errno, "reading '%s'", p->from->path);
        if (n == 0)
            return changed(p->from, e);
        if (p->out >= 0 && !file_write_all(p->ops, p->out, p->chunk, (size_t)n, at))
            return err_errno(e, ERR_IO, errno, "copying '%s' into the store", p->from->path);
        if (!code)
            code = hasher_add(&p->hasher, p->chunk, (size_t)n, e);
        if (!code)
            code = report(p->meter, (uint64_t)n, &unreported, p->from, e);
        at += (uint64_t)n;
    }
    return code ? code : report(p->meter, 0, &unreported, p->from, e);
}

static enum err_code run_pass(struct pass *p, uint64_t size, struct digest *digest, struct err *e)
{
    p->chunk = mem_alloc(CHUNK);
    enum err_code code = p->chunk ? ERR_OK : err_no_memory(e, CHUNK, "hashing a file");
    if (!code)
        code = hasher_begin(&p->hasher, p->chunks, e);
    if (!code)
        code = pass_bytes(p, size, e);
    if (!code)
        code = hasher_end(&p->hasher, digest, e);
    hasher_finish(&p->hasher);
    mem_free(p->chunk);
    return code;
}

static enum err_code stat_source(const struct file_ops *ops, const struct blob_source *from,
                                 struct file_id *id, struct err *e)
{
    struct stat st;
    if (ops->stat(from->fd, &st) < 0)
        return err_errno(e, ERR_IO, errno, "looking at '%s'", from->path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "'%s' is not a regular file", from->path);
    *id = file_id_of(&st);
    return ERR_OK;
}

static enum err_code still_the_same(const struct file_ops *ops, const struct blob_source *from,
                                    const struct file_id *before, struct err *e)
{
    struct file_id now;
    enum err_code code = stat_source(ops, from, &now, e);
    if (!code && !file_id_eq(&now, before))
        code = changed(from, e);
    return code;
}

static void settle(const struct file_id *id)
{
    int64_t age = clock_wall_ns() - id->mtime_ns;
    if (age >= 0 && age < SETTLE_NS)
        nanosleep(&(struct timespec){ .tv_nsec = SETTLE_NS - age }, NULL);
}

enum err_code blob_hash(const struct file_ops *ops, const struct blob_source *from,
                        struct blob_meter *meter, struct digest *digest, struct buf *chunks,
                        struct file_id *id, struct err *e)
{
    enum err_code code = stat_source(ops, from, id, e);
    if (code)
        return code;
    settle(id);
    struct pass p = {
        .ops = ops, .from = from, .fd = from->fd, .out = -1, .meter = meter, .chunks = chunks
    };
    code = run_pass(&p, id->size, digest, e);
    return code ? code : still_the_same(ops, from, id, e);
}

/* ---- git's name ------------------------------------------------------------------------------ */

static enum err_code git_add_file(EVP_MD_CTX *sha, const struct file_ops *ops, int fd, uint64_t size, uint8_t *room,
                                  struct err *e)
{
    for (uint64_t at = 0; at < size; at += CHUNK) {
        size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        ssize_t got = file_read_all(ops, fd, room, n, at);
        if (got != (ssize_t)n)
            return err_errno(e, ERR_IO, got < 0 ? errno : EIO, "reading a file");
        if (!EVP_DigestUpdate(sha, room, n))
            return err_no_memory(e, n, "hashing a file");
    }
    return ERR_OK;
}

enum err_code blob_git_name(const struct file_ops *ops, int fd, uint64_t size, uint8_t out[BLOB_GIT_SIZE],
                            struct err *e)
{
    char head[32];
    int n = snprintf(head, sizeof head, "blob %" PRIu64, size); /* its NUL is hashed too */
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    uint8_t *room = mem_alloc(CHUNK);
    bool begun = sha && room && EVP_DigestInit_ex(sha, EVP_sha1(), NULL) && EVP_DigestUpdate(sha, head, (size_t)n + 1);
    enum err_code code = begun ? git_add_file(sha, ops, fd, size, room, e) : err_no_memory(e, CHUNK, "hashing a file");
    if (!code && !EVP_DigestFinal_ex(sha, out, NULL))
        code = err_no_memory(e, BLOB_GIT_SIZE, "hashing a file");
    EVP_MD_CTX_free(sha);
    mem_free(room);
    return code;
}

/* ---- staging --------------------------------------------------------------------------------- */

static enum err_code create_part(struct blob_dir *d, struct blob_part *part, int *fd, struct err *e)
{
    do {
        uint64_t n = atomic_fetch_add(&d->next_part, 1);
        snprintf(part->name, sizeof part->name, "part-%" PRIu64, n);
        *fd = d->ops->open(d->tmp, part->name, O_RDWR | O_CREAT | O_EXCL, 0600);
    } while (*fd < 0 && errno == EEXIST);
    if (*fd >= 0)
        return ERR_OK;
    part->name[0] = '\0';
    return err_errno(e, ERR_IO, errno, "making a file in the store");
}

/* The bytes, by sharing the source's extents or by copying them; hashed as they are in the part's
 * clone, or as they pass. */
static enum err_code fill_part(struct blob_dir *d, int fd, const struct blob_source *from,
                               struct blob_meter *meter, struct blob_part *part, struct buf *chunks,
                               struct err *e)
{
    struct file_id before;
    enum err_code code = stat_source(d->ops, from, &before, e);
    if (code)
        return code;
    part->size = before.size;
    struct pass p = {
        .ops = d->ops, .from = from, .fd = from->fd, .out = fd, .meter = meter, .chunks = chunks
    };
    if (d->ops->reflink(fd, from->fd) == 0) {
        p.fd = fd;
        p.out = -1;
    } else if (part->size && d->ops->reserve(fd, part->size) < 0 && errno == ENOSPC) {
        return err_errno(e, ERR_IO, errno, "copying '%s' into the store (%" PRIu64 " bytes)",
                         from->path, part->size);
    }
    code = run_pass(&p, part->size, &part->digest, e);
    return code ? code : still_the_same(d->ops, from, &before, e);
}

static enum err_code seal_part(struct blob_dir *d, int fd, const struct blob_source *from,
                               const struct blob_part *part, struct err *e)
{
    struct stat st;
    if (d->ops->stat(fd, &st) < 0)
        return err_errno(e, ERR_IO, errno, "copying '%s' into the store", from->path);
    if ((uint64_t)st.st_size != part->size)
        return changed(from, e);
    if (d->ops->mode(fd, 0440) < 0 || d->ops->sync(fd) < 0)
        return err_errno(e, ERR_IO, errno, "copying '%s' into the store", from->path);
    return ERR_OK;
}

enum err_code blob_stage(struct blob_dir *d, const struct blob_source *from,
                         struct blob_meter *meter, struct blob_part *out, struct buf *chunks,
                         struct err *e)
{
    int fd = -1;
    *out = (struct blob_part){ 0 };
    enum err_code code = create_part(d, out, &fd, e);
    if (code)
        return code;
    code = fill_part(d, fd, from, meter, out, chunks, e);
    if (!code)
        code = seal_part(d, fd, from, out, e);
    if (d->ops->close(fd) < 0 && !code)
        code = err_errno(e, ERR_IO, errno, "copying '%s' into the store", from->path);
    if (code)
        blob_discard(d, out);
    return code;
}

enum err_code blob_part_create(struct blob_dir *d, uint64_t reserve, struct blob_part *out, int *fd,
                               struct err *e)
{
    *out = (struct blob_part){ 0 };
    enum err_code code = create_part(d, out, fd, e);
    if (code)
        return code;
    if (reserve && d->ops->reserve(*fd, reserve) < 0 && errno == ENOSPC) {
        code = err_errno(e, ERR_IO, errno, "making a file of %" PRIu64 " bytes in the store", reserve);
        d->ops->close(*fd);
        *fd = -1;
        blob_discard(d, out);
    }
    return code;
}

enum err_code blob_part_seal(struct blob_dir *d, struct blob_part *part, int fd,
                             const struct digest *digest, uint64_t size, struct err *e)
{
    struct stat st;
    if (d->ops->stat(fd, &st) < 0)
        return err_errno(e, ERR_IO, errno, "looking at a new file of the store");
    if ((uint64_t)st.st_size != size)
        return err_set(e, ERR_IO, "a new file of the store has %" PRIu64 " bytes, not %" PRIu64,
                       (uint64_t)st.st_size, size);
    if (d->ops->mode(fd, 0440) < 0 || d->ops->sync(fd) < 0)
        return err_errno(e, ERR_IO, errno, "syncing a new file of the store");
    part->digest = *digest;
    part->size = size;
    return ERR_OK;
}

enum err_code blob_publish(struct blob_dir *d, struct blob_part *part, struct file_id *id,
                           struct err *e)
{
    char name[DIGEST_FILE_SIZE];
    struct stat st;
    digest_file_name(&part->digest, name);
    if (d->ops->rename(d->tmp, part->name, d->blobs, name) < 0)
        return err_errno(e, ERR_IO, errno, "moving %s into place", name);
    bool there = d->ops->stat_at(d->blobs, name, &st) == 0;
    int error = errno;
    if (there && st.st_nlink > 1) /* of one file's two names rename(2) leaves both */
        d->ops->unlink(d->tmp, part->name);
    part->name[0] = '\0';
    if (!there)
        return err_errno(e, ERR_IO, error, "looking at %s", name);
    *id = file_id_of(&st);
    return ERR_OK;
}

void blob_discard(struct blob_dir *d, struct blob_part *part)
{
    if (part->name[0] && d->ops->unlink(d->tmp, part->name) < 0)
        log_line(LOG_WARN, "msg=\"a part stays in tmp/ until the next start\" errno=%d", errno);
    part->name[0] = '\0';
}

enum err_code blob_sync(struct blob_dir *d, struct err *e)
{
    return d->ops->sync(d->blobs) == 0 ? ERR_OK
                                       : err_errno(e, ERR_IO, errno, "syncing the store's blobs/");
}

enum err_code blob_unlink(struct blob_dir *d, const struct digest *digest, uint64_t *freed,
                          struct err *e)
{
    char name[DIGEST_FILE_SIZE];
    struct stat st;
    digest_file_name(digest, name);
    bool there = d->ops->stat_at(d->blobs, name, &st) == 0;
    if (d->ops->unlink(d->blobs, name) < 0)
        return errno == ENOENT ? ERR_OK : err_errno(e, ERR_IO, errno, "removing %s", name);
    if (there)
        *freed += (uint64_t)st.st_size;
    return ERR_OK;
}

int blob_open(struct blob_dir *d, const struct digest *digest)
{
    char name[DIGEST_FILE_SIZE];
    digest_file_name(digest, name);
    return d->ops->open(d->blobs, name, O_RDONLY | O_NONBLOCK, 0);
}
