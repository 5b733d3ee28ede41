/* News of a long call on its way to a client who may be slow: the newest of each blob, every status
 * in its order, never more than PROGRESS_LINES of them.
 *
 * A plain structure: no thread, no clock; the owner holds a lock around each call. Putting allocates
 * nothing that it needs, so it cannot fail. */
#ifndef HEARTH_DAEMON_PROGRESS_H
#define HEARTH_DAEMON_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "store/job.h"

#define PROGRESS_LINES 256
#define PROGRESS_STATUS_SIZE 192 /* a longer status is cut */

struct progress_line {
    char status[PROGRESS_STATUS_SIZE];
    bool has_digest, has_total;
    struct digest digest;
    uint64_t total, completed; /* bytes, with has_total */
};

struct progress {
    struct progress_line *line; /* a ring of PROGRESS_LINES */
    size_t first, n;
    struct progress_line now;   /* the newest */
    /* what is known of each blob, for the sum of all; digest all 0: news without one */
    struct progress_blob {
        struct digest digest;
        uint64_t total, completed;
    } *blobs;
    size_t n_blobs, cap_blobs;
};
enum err_code progress_init(struct progress *p, struct err *e);
void progress_finish(struct progress *p);

/* News of a blob takes the place of older news of it that still waits, unless a plain status came between.
 * A plain status that repeats the one before it says nothing. When the ring is full, the oldest
 * news of a blob goes, or, where there is none, the oldest status. */
void progress_put(struct progress *p, const struct store_event *ev);
/* The oldest that waits; false: none. */
bool progress_take(struct progress *p, struct progress_line *out);
/* Bytes of all blobs that were told of so far. */
void progress_sum(const struct progress *p, uint64_t *completed, uint64_t *total);

#endif
