#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "runtime/text/go_template_priv.h"

bool go_is_letter_or_digit(uint32_t cp)
{
    if (cp < 0x80)
        return cp == '_' || (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z');
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) || c == UTF8PROC_CATEGORY_ND;
}

/* Letters, marks, numbers, punctuation, symbols and the ASCII space. */
bool go_is_print(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= ' ' && cp < 0x7F;
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_SO;
}

/* ---- quoted strings ---- */

static bool digits_of(struct str s, size_t at, size_t n, int base, uint32_t *out)
{
    *out = 0;
    if (s.n - at < n)
        return false;
    for (size_t i = at; i < at + n; i++) {
        int c = s.p[i], lower = c | 32;
        int d = c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
        if (d >= base)
            return false;
        *out = *out * (uint32_t)base + (uint32_t)d;
    }
    return true;
}

/* The character at *at, escaped or not. byte: *cp is a byte of the string and no code point. */
static bool unquote_one(struct str s, size_t *at, char quote, uint32_t *cp, bool *byte)
{
    static const char from[] = "abfnrtv\\", to[] = "\a\b\f\n\r\t\v\\";
    *byte = false;
    if (s.p[*at] != '\\') {
        size_t n = utf8_step(s.p + *at, s.n - *at, cp);
        *at += n;
        return n > 0;
    }
    if (++*at >= s.n)
        return false;
    char c = s.p[(*at)++];
    const char *plain = c ? strchr(from, c) : NULL;
    if (plain || c == quote) {
        *cp = (uint32_t)(unsigned char)(plain ? to[plain - from] : quote);
        return true;
    }
    if (c >= '0' && c <= '7') {
        *byte = true;
        if (!digits_of(s, *at - 1, 3, 8, cp))
            return false;
        *at += 2;
        return *cp < 256;
    }
    size_t n = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (!n || !digits_of(s, *at, n, 16, cp))
        return false;
    *at += n;
    *byte = c == 'x';
    return *byte || (*cp <= 0x10FFFF && (*cp < 0xD800 || *cp > 0xDFFF));
}

static void raw(struct str s, char *to, size_t *n)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\r')
            to[(*n)++] = s.p[i];
}

bool go_unquote(struct arena *a, struct str s, struct str *out, const char **why)
{
    char quote = s.p[0];
    char *to = arena_alloc(a, s.n);
    size_t n = 0;
    *why = to ? "invalid syntax of a string" : "no memory for the template";
    s = (struct str){ s.p + 1, s.n - 2 };
    if (!to)
        return false;
    if (quote == '`')
        raw(s, to, &n);
    for (size_t at = 0; quote != '`' && at < s.n;) {
        uint32_t cp;
        bool byte;
        if (!unquote_one(s, &at, quote, &cp, &byte))
            return false;
        if (byte)
            to[n++] = (char)(unsigned char)cp;
        else
            n += utf8_put(cp, to + n);
    }
    *out = (struct str){ to, n };
    return true;
}

bool go_unquote_char(struct str s, uint32_t *out)
{
    bool byte;
    size_t at = 0;
    if (s.n < 3 || s.p[1] == '\'')
        return false;
    s = (struct str){ s.p + 1, s.n - 2 };
    return unquote_one(s, &at, '\'', out, &byte) && at == s.n;
}

/* ---- numbers ---- */

/* Underscores stand between digits, or behind 0x. Copies without them. */
static bool plain_digits(struct str s, char *to, size_t cap, size_t *n)
{
    char saw = '^';
    size_t i = s.n && (s.p[0] == '-' || s.p[0] == '+');
    bool prefix = s.n > i + 1 && s.p[i] == '0' && strchr("box", s.p[i + 1] | 32);
    bool hex = prefix && (s.p[i + 1] | 32) == 'x';
    size_t digits_at = prefix ? i + 2 : i;
    *n = 0;
    if (s.n >= cap)
        return false;
    for (size_t k = 0; k < s.n; k++) {
        char c = s.p[k];
        if (k < digits_at) {
            saw = prefix ? '0' : '^';
        } else if ((c >= '0' && c <= '9') || (hex && (c | 32) >= 'a' && (c | 32) <= 'f')) {
            saw = '0';
        } else if (c == '_') {
            if (saw != '0')
                return false;
            saw = '_';
            continue;
        } else {
            if (saw == '_')
                return false;
            saw = '!';
        }
        to[(*n)++] = c;
    }
    to[*n] = '\0';
    return saw != '_';
}

/* Digits of base 0 as Go has them: 0x, 0o, 0b, and a leading 0 for octal. */
static bool parse_int(const char *s, bool *overflow, int64_t *out)
{
    bool minus = *s == '-';
    int base = 10;
    char *end;
    *overflow = false;
    s += *s == '-' || *s == '+';
    if (s[0] == '0' && s[1]) {
        char mark = (char)(s[1] | 32);
        base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
        s += mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1;
    }
    if (!strchr("0123456789abcdefABCDEF", *s) || !*s || (base == 16 && (s[1] | 32) == 'x'))
        return false;
    errno = 0;
    uint64_t u = strtoull(s, &end, base);
    if (*end)
        return false;
    *overflow = errno == ERANGE || u > (uint64_t)INT64_MAX + minus;
    *out = minus ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}

static bool parse_float(const char *s, double *out)
{
    char *end;
    const char *digits = s + (*s == '-' || *s == '+');
    bool hex = digits[0] == '0' && (digits[1] | 32) == 'x';
    if (!strpbrk(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") ||
        (hex && !strpbrk(s, "pP")))
        return false;
    errno = 0;
    *out = strtod(s, &end);
    return !*end && !(errno == ERANGE && (*out > 1 || *out < -1));
}

/* What looks like a float is one; only that. */
bool go_number(struct str s, struct go_value *out)
{
    char text[512];
    size_t n;
    int64_t i;
    double f;
    bool overflow;
    if (!plain_digits(s, text, sizeof text, &n) || n == 0)
        return false;
    bool is_int = parse_int(text, &overflow, &i);
    bool hex = n > 2 && text[0] == '0' && (text[1] | 32) == 'x' && !strpbrk(text, "pP");
    bool looks_float = !hex && strpbrk(text, ".eEpP") != NULL;
    if (is_int && looks_float) /* 0x1e with a sign */
        *out = (struct go_value){ .kind = GO_FLOAT, .type = &go_float, .u.f = (double)i };
    else if (is_int && overflow) {
        errno = 0;
        char *end;
        strtoull(text, &end, 0);
        *out = (struct go_value){ .kind = GO_INVALID };
        return errno == 0 && text[0] != '-' && text[0] != '+';
    } else if (is_int)
        *out = go_of_int(i);
    else if (looks_float && parse_float(text, &f))
        *out = (struct go_value){ .kind = GO_FLOAT, .type = &go_float, .u.f = f };
    else
        return false;
    return true;
}
