/* Between line.c and edit.c. */
#ifndef HEARTH_CLI_LINE_PRIV_H
#define HEARTH_CLI_LINE_PRIV_H

#include "cli/line.h"

#define LINE_MAX_AHEAD ((size_t)16 << 20)

/* Reads what the terminal has into l->ahead. timeout_ms as interrupt_wait's. */
enum err_code line_fill(struct line *l, int timeout_ms, struct err *e);
void line_drop(struct line *l, size_t n); /* the first n bytes of l->ahead */
/* line_read where the terminal can be driven. */
enum err_code line_edit(struct line *l, const char *prompt, struct buf *out, struct err *e);

#endif
