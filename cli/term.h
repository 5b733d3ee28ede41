/* What a person sees: colour and progress only on a terminal, tables, sizes and times in words,
 * and text of strangers without control sequences. Thread: one. */
#ifndef HEARTH_CLI_TERM_H
#define HEARTH_CLI_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/str.h"

struct term {
    bool in_tty, out_tty, err_tty;
    bool colour;        /* stdout and stderr are terminals, TERM is not dumb, NO_COLOR is not set */
    bool progress_shown;
};
void term_init(struct term *t);

enum term_style { STYLE_PLAIN, STYLE_DIM, STYLE_BOLD, STYLE_RED };
const char *term_on(const struct term *t, enum term_style s); /* "" without colour */

/* A line on stderr that the next call replaces; nothing when stderr is not a terminal. */
void term_progress(struct term *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void term_progress_end(struct term *t); /* clears it */

/* `s` to stdout, flushed. On a terminal control characters but newline and tab become U+FFFD, so
 * that neither a model nor a file can drive the terminal. */
void term_write(const struct term *t, struct str s);
/* The same substitution into a buffer. */
void term_clean(struct buf *out, struct str s);

/* A table: cells are copied, columns padded to the widest cell, four spaces apart. */
struct table {
    size_t n_columns;
    struct buf cells; /* NUL-ended, row by row */
    size_t n_cells;
};
void table_init(struct table *t, const char *const *heads, size_t n_columns);
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints to stdout and frees; false: no memory. */
bool table_print(struct table *t);

/* Ollama's words: decimal units ("1.9 GB", "986 MB"), "3 minutes ago", "4 minutes from now". */
#define WORDS_SIZE 48
const char *words_bytes(uint64_t bytes, char out[WORDS_SIZE]);
const char *words_span(int64_t ns, char out[WORDS_SIZE]); /* "3 minutes", "About an hour" */
const char *words_duration(int64_t ns, char out[WORDS_SIZE]); /* "1m2.5s", "60ms", as Go prints */

/* Columns that UTF-8 text takes on a terminal. */
size_t term_columns(struct str s);

#endif
