/* Byte slices, a bounded string builder, and UTF-8 one step at a time. Thread: any. */
#ifndef HEARTH_BASE_STR_H
#define HEARTH_BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view: not owned, not NUL-terminated. */
struct str {
    const char *p;
    size_t n;
};
#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })
struct str str_from(const char *nul_terminated); /* NULL gives the empty slice */
bool str_eq(struct str a, struct str b);
bool str_is(struct str a, const char *nul_terminated);
bool str_starts(struct str a, struct str prefix);
bool str_ends(struct str a, struct str suffix);
bool str_ieq(struct str a, struct str b); /* ASCII case-insensitive */

/* A string builder with a cap fixed at birth. Once an append does not fit (cap or memory),
 * `failed` stays true and further appends do nothing: check once, at the end.
 * Owns p; p is always NUL-terminated once something was appended. */
struct buf {
    char *p;
    size_t n, cap;
    size_t max; /* most bytes of content */
    bool failed;
};
void buf_init(struct buf *b, size_t max);
void buf_finish(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_put(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_put_uint(struct buf *b, uint64_t v); /* decimal */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct str buf_str(const struct buf *b);
char *buf_take(struct buf *b); /* hands the memory over (mem_free it); NULL when failed */

/* One UTF-8 step: length of the sequence at p (1..4) and its code point, or 0 when the bytes are
 * not well formed (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF).
 * *cp may be NULL. */
size_t utf8_step(const char *p, size_t n, uint32_t *cp);
size_t utf8_put(uint32_t cp, char out[4]); /* 0 for what is not a code point */
/* Offset of the first byte that is not valid UTF-8, or n. */
size_t utf8_valid(const char *p, size_t n);
/* How many bytes at the front of p end on a sequence boundary: a trailing sequence that is begun
 * but not complete is left out (for streaming); invalid bytes count as boundaries. */
size_t utf8_complete(const char *p, size_t n);

#endif
