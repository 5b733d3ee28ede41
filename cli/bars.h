/* The news of a long call as a person sees it: on a terminal one line a blob, repainted in place; else a
 * line a status and one a second for the bytes. All of it on standard error.
 *
 *   pulling 0123456789ab   38% |███████          | 512 MB/1.3 GB   25 MB/s   32s left
 *
 * What a bar shows is a table of columns; where the terminal is narrow, the later ones go first.
 * Speeds are those of the last seconds, and leave out what was there at the beginning.
 * Thread: one; times are clock_ns. */
#ifndef HEARTH_CLI_BARS_H
#define HEARTH_CLI_BARS_H

#include "cli/term.h"
#include "daemon/protocol_transfer.h"

#define BARS_LABEL_SIZE 96
#define BARS_DIGEST_SIZE 72
#define BARS_LINE_SIZE 256

struct bar {
    char label[BARS_LABEL_SIZE], digest[BARS_DIGEST_SIZE];
    bool has_total;              /* else a plain status */
    uint64_t completed, total;
    /* speed */
    int64_t at_ns;               /* of the last sample; 0: none yet */
    uint64_t at;                 /* completed, then */
    double per_s;                /* 0: not known */
};

struct bars {
    bool tty;
    struct bar *bar;
    size_t n, cap;
    size_t settled;              /* the first so many are painted for good */
    size_t painted;              /* lines below which the cursor stands */
    int64_t painted_ns, line_ns; /* when it was painted, when the last line of bytes was printed */
    char line[BARS_LINE_SIZE];   /* that line */
};
void bars_init(struct bars *b, const struct term *t);
void bars_event(struct bars *b, const struct transfer_event *ev, int64_t now_ns);
/* Nothing came for a while: speeds fall. To be called about once a second. */
void bars_idle(struct bars *b, int64_t now_ns);
bool bars_arrived(const struct bars *b); /* some byte is there */
/* Paints the last state; what was shown stays. */
void bars_finish(struct bars *b);

/* For tests: one bar as text of at most `width` columns. */
void bar_put(struct buf *out, const struct bar *x, size_t width);
/* Bytes of all bars together, as one line without a newline. */
void bars_put_sum(struct buf *out, const struct bars *b);

#endif
