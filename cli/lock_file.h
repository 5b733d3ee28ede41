/* hearth.lock: which models a project uses, by digest.
 *
 * A text with a line a model, sorted by name, so that a change of one is a change of one line:
 *
 *     # hearth.lock 1
 *     NAME sha256:HEX SIZE ORIGIN SOURCE REVISION
 *
 * Fields have one blank between them; one that is not known is "-"; a blank, a '%' or a control byte in one is %XX.
 * Lines that begin with '#' are comments, and go when the file is written anew. Thread: one at a time. */
#ifndef HEARTH_CLI_LOCK_FILE_H
#define HEARTH_CLI_LOCK_FILE_H

#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"

#define LOCK_FILE_MAX ((size_t)4 << 20)
#define LOCK_FILE_ROWS 10000

struct lock_row {
    struct str name;   /* with its tag */
    struct str digest; /* 64 hex digits */
    uint64_t size;
    struct str origin, source, revision; /* of the protocol's model_entry; may be empty */
};
struct lock_file { /* zero-initialised: empty */
    struct lock_row *row;
    size_t n, cap;
    struct arena arena; /* of the rows' texts */
};

/* ERR_NOT_FOUND: there is no such file. ERR_FORMAT: the sentence names the line. */
enum err_code lock_file_read(const char *path, struct lock_file *out, struct err *e);
enum err_code lock_file_parse(struct str text, const char *path, struct lock_file *out, struct err *e);
/* Adds a row, or takes the place of the one with its name. Copies all texts. */
enum err_code lock_file_put(struct lock_file *l, const struct lock_row *row, struct err *e);
/* Sorts; the file is replaced when the new one is whole and on the disk. */
enum err_code lock_file_write(const char *path, struct lock_file *l, struct err *e);
void lock_file_text(struct lock_file *l, struct buf *out);
void lock_file_finish(struct lock_file *l);

#endif
