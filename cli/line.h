/* Lines typed at a terminal. Editing within a line is the terminal's own. Thread: one. */
#ifndef HEARTH_CLI_LINE_H
#define HEARTH_CLI_LINE_H

#include "cli/interrupt.h"
#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"

struct line {
    struct interrupt *interrupt;
    struct buf ahead;  /* read, and not yet given out */
    struct arena kept; /* text that has to outlive its line */
};
void line_init(struct line *l, struct interrupt *i);
void line_finish(struct line *l);
/* Prints the prompt and appends one line, without its newline, to `out`. ERR_NOT_FOUND: the input
 * has ended (Ctrl-D); ERR_CANCELLED: Ctrl-C, which is then seen to; ERR_TOO_LARGE. */
enum err_code line_read(struct line *l, const char *prompt, struct buf *out, struct err *e);

#endif
