/* Content-addressed files.
 *
 * A blob becomes visible in this order, and a kill between any two of them leaves at most a file
 * in tmp/, or one in blobs/ that the catalog has listed as trash beforehand (store.c):
 *   part file in tmp/ (0600) -> bytes written, hashed as they pass -> length compared -> mode 0440
 *   -> fsync(file)                                                             blob_stage
 *   -> rename to blobs/sha256-HEX                                              blob_publish
 *   -> fsync(blobs/)                                                           blob_sync
 *   -> the catalog's transaction                                               (the caller's)
 *
 * A rename replaces a file of the same name: its bytes are the same, or it was damaged.
 * Thread: any; calls may overlap, but for those on one part. */
#ifndef HEARTH_STORE_BLOB_H
#define HEARTH_STORE_BLOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "store/digest.h"
#include "store/file.h"
#include "store/hasher.h"

struct blob_dir {
    const struct file_ops *ops;
    int blobs, tmp; /* directory descriptors; -1: not open */
    atomic_uint_least64_t next_part;
};

/* Progress of one job over all its files. */
struct blob_meter {
    bool (*progress)(void *user, uint64_t done, uint64_t total); /* NULL: none */
    void *user;
    uint64_t done, total;
};

/* An open file of somebody else's, and what to call it. */
struct blob_source {
    int fd;
    const char *path;
};

struct blob_part {
    char name[88]; /* in tmp/; "": none */
    struct digest digest;
    uint64_t size;
};

/* Both directories must exist below `home`. */
enum err_code blob_dir_open(struct blob_dir *d, const struct file_ops *ops, int home,
                            struct err *e);
void blob_dir_close(struct blob_dir *d); /* zero descriptors must be -1 */
/* Removes every file and link in tmp/ but the two files of a download (download.h) that changed in
 * the last DOWNLOAD_KEEP_S; what it cannot remove is logged and left. */
void blob_clean_tmp(struct blob_dir *d);

/* SHA-256 of the whole file, read by pread, and into *chunks (NULL: not wanted) those of its MiB as
 * hasher.h has them. *id: the file as it was before; ERR_CONFLICT when it was no longer so after. A
 * file that was written a moment ago is first left to settle, so that a later change is sure to show
 * in its mtime. */
enum err_code blob_hash(const struct file_ops *ops, const struct blob_source *from,
                        struct blob_meter *meter, struct digest *digest, struct buf *chunks,
                        struct file_id *id, struct err *e);

/* Git's name for the first `size` bytes of a file: SHA-1 of "blob SIZE\0" and the bytes. */
#define BLOB_GIT_SIZE 20
enum err_code blob_git_name(const struct file_ops *ops, int fd, uint64_t size, uint8_t out[BLOB_GIT_SIZE],
                            struct err *e);

/* Copies (or shares the extents of) a file into tmp/. On failure nothing is left there. */
enum err_code blob_stage(struct blob_dir *d, const struct blob_source *from,
                         struct blob_meter *meter, struct blob_part *out, struct buf *chunks,
                         struct err *e);

/* A part that somebody else writes: made here with room for `reserve` bytes (ERR_IO when the disk has
 * not so many; 0: not asked), written through ops->write at any offset, then sealed. */
enum err_code blob_part_create(struct blob_dir *d, uint64_t reserve, struct blob_part *out, int *fd,
                               struct err *e);
/* All its bytes were written, and were hashed to `digest` by the caller: compares the length, sets the
 * mode and syncs. fd stays the caller's. On failure the part is still to be discarded. */
enum err_code blob_part_seal(struct blob_dir *d, struct blob_part *part, int fd,
                             const struct digest *digest, uint64_t size, struct err *e);
/* Moves the part to its name in blobs/; *id: the blob as it now is. */
enum err_code blob_publish(struct blob_dir *d, struct blob_part *part, struct file_id *id,
                           struct err *e);
void blob_discard(struct blob_dir *d, struct blob_part *part); /* an empty one is fine */
enum err_code blob_sync(struct blob_dir *d, struct err *e);
/* Removes a blob's file. *freed grows by its size. One that is not there is no error. */
enum err_code blob_unlink(struct blob_dir *d, const struct digest *digest, uint64_t *freed,
                          struct err *e);
/* Opens a blob's file for reading; -1 and errno. */
int blob_open(struct blob_dir *d, const struct digest *digest);

#endif
