/* What of a download is on the disk: a bitmap of its pieces, and the journal that outlives a kill.
 *
 * The journal is a head, then one record for each piece in the order of their arrival. A record
 * counts when it is whole and the piece's bytes on the disk still have its checksum: so neither file is ever synced
 * while it grows. Its numbers are as the processor has them: it is read by the machine that wrote it.
 * Thread: one at a time. */
#ifndef HEARTH_STORE_JOURNAL_H
#define HEARTH_STORE_JOURNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "store/digest.h"
#include "store/file.h"

#define PIECE_BYTES ((uint64_t)64 * 1024)

/* Pieces 0..n-1 of a file of `size` bytes; all but the last have PIECE_BYTES. */
struct pieces {
    uint8_t *bits;
    uint64_t size, n, cap; /* cap: pieces that there are bits for */
    uint64_t have;         /* bytes of the pieces that are there */
    uint64_t frontier;     /* the first piece that is not */
};
enum err_code pieces_resize(struct pieces *p, uint64_t size, struct err *e); /* keeps what is there */
void pieces_finish(struct pieces *p);
bool pieces_has(const struct pieces *p, uint64_t i);
void pieces_add(struct pieces *p, uint64_t i); /* one that is there already is fine */
void pieces_drop_last(struct pieces *p);       /* the file's last piece is not there */
uint64_t piece_length(const struct pieces *p, uint64_t i);
uint64_t pieces_in_order(const struct pieces *p); /* bytes before the frontier */

/* Of bytes at rest, against a torn or lost write and not against an enemy. */
uint64_t piece_sum(const void *p, size_t n);

struct journal_head {
    uint64_t size;
    uint8_t has_digest;
    struct digest digest;
    char etag[256], origin[264]; /* the ETag, and who gave it */
};

struct journal {
    const struct file_ops *ops;
    int part, fd; /* dl-KEY.part, dl-KEY.journal; the caller's */
    uint64_t end; /* where the next record goes */
};

/* False: none, a torn one, or one that cannot be read. */
bool journal_read_head(struct journal *j, struct journal_head *h);
/* Writes the head; the records that follow it are those yet to come. */
enum err_code journal_begin(struct journal *j, const struct journal_head *h, struct err *e);
enum err_code journal_add(struct journal *j, uint64_t piece, uint64_t sum, struct err *e);
/* Checks every piece of the journal on the disk, and adds those that are sound. `cancel` may be NULL. */
enum err_code journal_replay(struct journal *j, struct pieces *p, const atomic_bool *cancel,
                             struct err *e);
/* The same by the journal's word alone (j->part may be -1). */
enum err_code journal_tell(struct journal *j, struct pieces *p, struct err *e);

#endif
