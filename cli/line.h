/* Lines typed at a terminal: editing, the lines before, and pasted text kept whole.
 *
 * Between two calls the terminal is as it was found. Where it cannot be driven (TERM is dumb, or it
 * is no terminal) lines are read as they come. Thread: one. */
#ifndef HEARTH_CLI_LINE_H
#define HEARTH_CLI_LINE_H

#include <stdbool.h>

#include "cli/interrupt.h"
#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"

#define LINE_HISTORY 200

struct line {
    struct interrupt *interrupt;
    bool editing;      /* the terminal can be driven */
    struct buf ahead;  /* read, and not yet given out */
    struct arena kept; /* text that has to outlive its line */
    char *history[LINE_HISTORY]; /* owned, the latest last */
    size_t n_history;
};
void line_init(struct line *l, struct interrupt *i);
void line_finish(struct line *l);
/* Prints the prompt and appends one line, without its newline, to `out`; a pasted one may hold
 * newlines. ERR_NOT_FOUND: the input has ended (Ctrl-D); ERR_CANCELLED: Ctrl-C, which is then seen
 * to; ERR_TOO_LARGE, ERR_NO_MEMORY. */
enum err_code line_read(struct line *l, const char *prompt, struct buf *out, struct err *e);

#endif
