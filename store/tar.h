/* Tar archives of plain files, as a bundle is one: POSIX ustar, with PAX records for what does not fit.
 *
 * The reader takes bytes from a function, in order, and holds one block of them. It knows regular files and
 * directories, and refuses what a bundle has no use for, by name: links, devices, pipes, sparse and
 * continued files, programs. It does not judge names: bundle_import.c does. Neither side allocates.
 * Thread: one at a time. Errors: ERR_FORMAT with a sentence that names the entry, and those of the functions. */
#ifndef HEARTH_STORE_TAR_H
#define HEARTH_STORE_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define TAR_BLOCK 512
#define TAR_NAME_MAX 255
#define TAR_RECORDS_MAX 65536 /* bytes of PAX records before one entry */

/* *got is less than n only at the end of the bytes. */
struct tar_source {
    enum err_code (*read)(void *user, void *p, size_t n, size_t *got, struct err *e);
    void *user;
};
struct tar_sink {
    enum err_code (*write)(void *user, const void *p, size_t n, struct err *e);
    void *user;
};

struct tar_entry {
    char name[TAR_NAME_MAX + 1]; /* as it stands, but for a directory's last '/'; printable ASCII */
    bool is_dir;
    uint64_t size;               /* of a directory: 0 */
};

struct tar_reader {
    struct tar_source from;
    uint64_t left;               /* of the entry that was last given */
    unsigned pad;                /* bytes behind it up to the next block */
};

void tar_reader_init(struct tar_reader *t, const struct tar_source *from);
/* Passes over what is left of the entry before. *end: the archive's own end was read. Bytes that end before that
 * are an error: a file that was cut off. */
enum err_code tar_next(struct tar_reader *t, struct tar_entry *out, bool *end, struct err *e);
/* The next bytes of the entry, exactly as many as min(n, t->left). */
enum err_code tar_read(struct tar_reader *t, void *p, size_t n, size_t *got, struct err *e);
/* Whether these are the first bytes of such an archive. */
bool tar_is(const void *first, size_t n);

/* A head; then the caller writes exactly `size` bytes, then tar_pad. The same arguments give the same bytes: no
 * time, no owner. name: at most 100 bytes. */
enum err_code tar_put_head(const struct tar_sink *to, const char *name, bool is_dir, uint64_t size, struct err *e);
enum err_code tar_pad(const struct tar_sink *to, uint64_t size, struct err *e);
enum err_code tar_put_end(const struct tar_sink *to, struct err *e);

#endif
