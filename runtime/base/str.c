#include "runtime/base/str.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

struct str str_from(const char *s)
{
    return (struct str){ s, s ? strlen(s) : 0 };
}

bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool str_is(struct str a, const char *s)
{
    return str_eq(a, str_from(s));
}

bool str_starts(struct str a, struct str prefix)
{
    return a.n >= prefix.n && str_eq((struct str){ a.p, prefix.n }, prefix);
}

bool str_ends(struct str a, struct str suffix)
{
    return a.n >= suffix.n && str_eq((struct str){ a.p + (a.n - suffix.n), suffix.n }, suffix);
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

bool str_ieq(struct str a, struct str b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        if (lower(a.p[i]) != lower(b.p[i]))
            return false;
    return true;
}

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){ .max = max < SIZE_MAX - 1 ? max : SIZE_MAX - 2 };
}

void buf_finish(struct buf *b)
{
    mem_free(b->p);
    *b = (struct buf){ .max = b->max };
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
    if (b->p)
        b->p[0] = '\0';
}

static bool reserve(struct buf *b, size_t more)
{
    if (!b->failed && more < b->cap - b->n) /* there is room, and for the NUL */
        return true;
    if (b->failed || more > b->max || b->n > b->max - more ||
        !mem_grow(&b->p, &b->cap, b->n + more + 1, 1, b->max + 1))
        b->failed = true;
    return !b->failed;
}

void buf_put(struct buf *b, const void *bytes, size_t n)
{
    if (!reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, bytes, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void buf_puts(struct buf *b, const char *s)
{
    buf_put(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
    buf_put(b, &c, 1);
}

void buf_put_uint(struct buf *b, uint64_t v)
{
    char text[20], *p = text + sizeof text;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    buf_put(b, p, (size_t)(text + sizeof text - p));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->failed = true;
    else if (reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

struct str buf_str(const struct buf *b)
{
    return (struct str){ b->p ? b->p : "", b->n };
}

char *buf_take(struct buf *b)
{
    buf_put(b, "", 0);
    char *p = b->failed ? NULL : b->p;
    if (!p)
        mem_free(b->p);
    *b = (struct buf){ .max = b->max };
    return p;
}

size_t utf8_step(const char *s, size_t n, uint32_t *cp)
{
    const unsigned char *p = (const unsigned char *)s;
    uint32_t c;
    size_t len;
    if (n == 0)
        return 0;
    if (p[0] < 0x80) {
        c = p[0];
        len = 1;
    } else if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        c = p[0] & 0x1FU;
        len = 2;
    } else if (p[0] >= 0xE0 && p[0] <= 0xEF) {
        c = p[0] & 0x0FU;
        len = 3;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        c = p[0] & 0x07U;
        len = 4;
    } else {
        return 0;
    }
    if (len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0U) != 0x80U)
            return 0;
        c = c << 6 | (p[i] & 0x3FU);
    }
    if ((len == 3 && (c < 0x800 || (c >= 0xD800 && c <= 0xDFFF))) ||
        (len == 4 && (c < 0x10000 || c > 0x10FFFF)))
        return 0;
    if (cp)
        *cp = c;
    return len;
}

size_t utf8_put(uint32_t cp, char out[4])
{
    unsigned char *o = (unsigned char *)out;
    if (cp < 0x80) {
        o[0] = (unsigned char)cp;
        return 1;
    }
    if (cp < 0x800) {
        o[0] = (unsigned char)(0xC0U | cp >> 6);
        o[1] = (unsigned char)(0x80U | (cp & 0x3FU));
        return 2;
    }
    if (cp >= 0xD800 && cp <= 0xDFFF)
        return 0;
    if (cp < 0x10000) {
        o[0] = (unsigned char)(0xE0U | cp >> 12);
        o[1] = (unsigned char)(0x80U | (cp >> 6 & 0x3FU));
        o[2] = (unsigned char)(0x80U | (cp & 0x3FU));
        return 3;
    }
    if (cp > 0x10FFFF)
        return 0;
    o[0] = (unsigned char)(0xF0U | cp >> 18);
    o[1] = (unsigned char)(0x80U | (cp >> 12 & 0x3FU));
    o[2] = (unsigned char)(0x80U | (cp >> 6 & 0x3FU));
    o[3] = (unsigned char)(0x80U | (cp & 0x3FU));
    return 4;
}

size_t utf8_valid(const char *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        size_t len = utf8_step(p + i, n - i, NULL);
        if (!len)
            break;
        i += len;
    }
    return i;
}

/* Bytes that the sequence begun by `lead` takes in all; 1 for what begins none. */
static size_t announced(unsigned char lead)
{
    if (lead >= 0xC2 && lead <= 0xDF)
        return 2;
    if (lead >= 0xE0 && lead <= 0xEF)
        return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 1;
}

size_t utf8_complete(const char *p, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = (unsigned char)p[n - back];
        if ((c & 0xC0U) == 0x80U)
            continue;
        return announced(c) > back ? n - back : n;
    }
    return n;
}
