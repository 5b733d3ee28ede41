/* Where bytes of a text came from: ranges of it, for parts that talk about one text.
 *
 * chat_template_render gives the ranges of its output that came from message content;
 * tokenizer_encode_spans takes them and matches no control token there.
 *
 * Thread: one at a time for a list. */
#ifndef HEARTH_TEXT_SPANS_H
#define HEARTH_TEXT_SPANS_H

#include <stdbool.h>
#include <stddef.h>

struct span {
    size_t begin, end; /* bytes [begin, end) */
};
struct spans { /* ascending, not empty, neither touching nor overlapping */
    struct span *v;
    size_t n, cap;
};
/* A range at or behind the last one becomes part of it where they touch. False: it stands apart. */
bool spans_join(struct spans *s, size_t begin, size_t end);
/* The same, and a range that stands apart is added. False: out of memory. */
bool spans_add(struct spans *s, size_t begin, size_t end);
/* Whether any byte of [begin, end) lies in a range. Cost: log n. */
bool spans_touch(const struct spans *s, size_t begin, size_t end);
void spans_finish(struct spans *s);

#endif
