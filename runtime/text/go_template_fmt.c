#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/go_template_priv.h"

/* One verb of a format, with its flags. */
struct spec {
    bool plus, minus, sharp, space, zero;
    bool names;       /* %+v: of a struct's fields */
    int width, prec;  /* -1: none */
    uint32_t verb;
};

static bool print_value(struct go_text *t, const struct spec *s, const struct go_value *v,
                        int depth);

static const struct spec plain = { .width = -1, .prec = -1, .verb = 'v' };

/* ---- padding ---- */

static size_t runes(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++) {
        size_t step = utf8_step(s.p + i, s.n - i, NULL);
        i += step ? step : 1;
    }
    return n;
}

static bool fill(struct go_text *t, char c, int64_t n)
{
    for (; n > 0; n--)
        if (!go_put(t, &c, 1))
            return false;
    return true;
}

static bool pad_value(struct go_text *t, const struct spec *s, const struct go_value *v)
{
    int64_t room = s->width > 0 ? s->width - (int64_t)runes(v->u.s) : 0;
    return fill(t, s->zero && !s->minus ? '0' : ' ', s->minus ? 0 : room) && go_put_str(t, v) &&
           fill(t, ' ', s->minus ? room : 0);
}

static bool pad(struct go_text *t, const struct spec *s, const char *p, size_t n)
{
    struct go_value v = go_of_str((struct str){ p, n }, NULL);
    return pad_value(t, s, &v);
}

static bool pad_spaces(struct go_text *t, const struct spec *s, const char *p, size_t n)
{
    struct spec spaces = *s;
    spaces.zero = false;
    return pad(t, &spaces, p, n);
}

/* ---- verbs ---- */

static bool put_rune(struct go_text *t, uint32_t cp)
{
    char bytes[4];
    return go_put(t, bytes, utf8_put(cp, bytes));
}

static bool bad_verb(struct go_text *t, const struct spec *s, const struct go_value *v)
{
    struct spec as_v = *s;
    as_v.verb = 'v';
    if (!go_puts(t, "%!") || !put_rune(t, s->verb) || !go_puts(t, "("))
        return false;
    if (v->kind == GO_INVALID || v->kind == GO_NIL)
        return go_puts(t, "<nil>)");
    return go_puts(t, go_type_name(v)) && go_puts(t, "=") && print_value(t, &as_v, v, 0) &&
           go_puts(t, ")");
}

static uint32_t code_point(const struct go_value *v)
{
    return v->u.i < 0 || v->u.i > 0x10FFFF || (v->u.i >= 0xD800 && v->u.i < 0xE000)
               ? 0xFFFD : (uint32_t)v->u.i;
}

/* The digits of u, at least `least` of them. */
static size_t digits(uint64_t u, unsigned base, bool upper, int least, char *end)
{
    const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    char *p = end;
    do
        *--p = set[u % base];
    while (u /= base);
    while (end - p < least)
        *--p = '0';
    return (size_t)(end - p);
}

static bool integer(struct go_text *t, const struct spec *s, int64_t i, unsigned base)
{
    char text[GO_MAX_WIDTH + 80], *end = text + sizeof text, *p;
    bool minus = i < 0, upper = s->verb == 'X';
    int least = s->prec;
    uint64_t u = minus ? 0 - (uint64_t)i : (uint64_t)i;
    if (s->prec == 0 && u == 0)
        return pad_spaces(t, s, "", 0);
    if (s->prec < 0 && s->zero && !s->minus && s->width > 0)
        least = s->width - (minus || s->plus || s->space);
    p = end - digits(u, base, upper, least, end);
    if (s->sharp && (base == 2 || base == 16)) {
        *--p = base == 2 ? 'b' : upper ? 'X' : 'x';
        *--p = '0';
    }
    if (s->sharp && base == 8 && *p != '0')
        *--p = '0';
    if (s->verb == 'O') {
        *--p = 'o';
        *--p = '0';
    }
    if (minus || s->plus || s->space)
        *--p = minus ? '-' : s->plus ? '+' : ' ';
    return pad_spaces(t, s, p, (size_t)(end - p));
}

static bool quote(struct go_text *t, const struct spec *s, struct str in, char mark, bool outside);

static bool unicode(struct go_text *t, const struct spec *s, int64_t i)
{
    char text[GO_MAX_WIDTH + 40], *end = text + sizeof text - 8, *p;
    size_t n = digits((uint64_t)i, 16, true, s->prec > 4 ? s->prec : 4, end);
    p = end - n;
    *--p = '+';
    *--p = 'U';
    if (s->sharp && i >= 0 && i <= 0x10FFFF && go_is_print((uint32_t)i)) {
        *end++ = ' ';
        *end++ = '\'';
        end += utf8_put((uint32_t)i, end);
        *end++ = '\'';
    }
    return pad_spaces(t, s, p, (size_t)(end - p));
}

static bool print_integer(struct go_text *t, const struct spec *s, const struct go_value *v)
{
    char bytes[4];
    switch (s->verb) {
    case 'v':
    case 'd':
        return integer(t, s, v->u.i, 10);
    case 'b':
        return integer(t, s, v->u.i, 2);
    case 'o':
    case 'O':
        return integer(t, s, v->u.i, 8);
    case 'x':
    case 'X':
        return integer(t, s, v->u.i, 16);
    case 'c':
        return pad(t, s, bytes, utf8_put(code_point(v), bytes));
    case 'q':
        return quote(t, s, (struct str){ bytes, utf8_put(code_point(v), bytes) }, '\'', false);
    case 'U':
        return unicode(t, s, v->u.i);
    default:
        return bad_verb(t, s, v);
    }
}

size_t go_float_digits(double f, char out[24], int *point)
{
    char text[40];
    size_t n = 0;
    for (int precision = 0; precision <= 17; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, fabs(f));
        if (strtod(text, NULL) == fabs(f))
            break;
    }
    const char *p = text;
    for (; *p && *p != 'e'; p++)
        if (*p != '.')
            out[n++] = *p;
    *point = (int)strtol(p + 1, NULL, 10) + 1;
    while (n > 1 && out[n - 1] == '0')
        n--;
    return n;
}

/* As Go's %g with the fewest digits: an exponent below 1e-4 and from 1e6 on. */
static size_t shortest(double f, bool upper, char *out, size_t cap)
{
    char d[24];
    int point = 1;
    size_t n = 1;
    d[0] = '0';
    if (f != 0)
        n = go_float_digits(f, d, &point);
    int size = (int)n, e = point - 1;
    const char *sign = signbit(f) ? "-" : "+";
    if (e < -4 || e >= 6)
        return (size_t)snprintf(out, cap, "%s%c%s%.*s%c%c%02d", sign, d[0], size > 1 ? "." : "",
                                size - 1, d + 1, upper ? 'E' : 'e', e < 0 ? '-' : '+', abs(e));
    if (point <= 0)
        return (size_t)snprintf(out, cap, "%s0.%.*s%.*s", sign, -point, "0000", size, d);
    if (point >= size)
        return (size_t)snprintf(out, cap, "%s%.*s%.*s", sign, size, d, point - size,
                                "000000000000000000000");
    return (size_t)snprintf(out, cap, "%s%.*s.%.*s", sign, point, d, size - point, d + point);
}

/* text: with its sign in front. */
static bool pad_float(struct go_text *t, const struct spec *s, char *text, size_t n, bool number)
{
    if (text[0] == '+' && s->space && !s->plus)
        text[0] = ' ';
    if (!number) {
        bool nan = text[1] == 'N' && !s->space && !s->plus;
        bool bare = nan || (text[0] == '+' && !s->plus);
        return pad_spaces(t, s, text + bare, n - bare);
    }
    if (!s->plus && text[0] == '+')
        return pad(t, s, text + 1, n - 1);
    if (s->zero && !s->minus && s->width > (int)n)
        return go_put(t, text, 1) && fill(t, '0', s->width - (int64_t)n) &&
               go_put(t, text + 1, n - 1);
    return pad(t, s, text, n);
}

static bool print_float(struct go_text *t, const struct spec *s, const struct go_value *v)
{
    char text[GO_MAX_WIDTH + 400];
    double f = v->u.f;
    int n;
    char verb = s->verb < 0x80 && s->verb ? (char)s->verb : '?';
    if (!strchr("vgGfFeE", verb))
        return strchr("bxX", verb) ? go_fail(t->r, ERR_UNSUPPORTED, "%%%c of a float", verb)
                                   : bad_verb(t, s, v);
    if (s->sharp)
        return go_fail(t->r, ERR_UNSUPPORTED, "%%#%c of a float", verb);
    if (!isfinite(f)) {
        n = snprintf(text, sizeof text, "%s", isnan(f) ? "+NaN" : f < 0 ? "-Inf" : "+Inf");
        return pad_float(t, s, text, (size_t)n, false);
    }
    if (strchr("vgG", verb) && s->prec < 0)
        return pad_float(t, s, text, shortest(f, verb == 'G', text, sizeof text), true);
    char fmt[] = "%+.*f";
    fmt[4] = verb == 'v' ? 'g' : verb == 'F' ? 'f' : verb;
    n = snprintf(text, sizeof text, fmt, s->prec < 0 ? 6 : s->prec, f);
    return pad_float(t, s, text, (size_t)n, true);
}

/* ---- strings ---- */

static bool put_escape(struct go_text *t, uint32_t cp)
{
    static const char from[] = "\a\b\f\n\r\t\v", to[] = "abfnrtv";
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    char text[16];
    if (known)
        snprintf(text, sizeof text, "\\%c", to[known - from]);
    else
        snprintf(text, sizeof text, cp < ' ' || cp == 0x7F ? "\\x%02x"
                                    : cp < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)cp);
    return go_puts(t, text);
}

static bool put_quoted(struct go_text *t, struct str in, char mark, bool ascii)
{
    char text[8];
    for (size_t i = 0; i < in.n;) {
        uint32_t cp = 0;
        size_t step = utf8_step(in.p + i, in.n - i, &cp);
        bool ok;
        if (!step) {
            snprintf(text, sizeof text, "\\x%02x", (unsigned char)in.p[i]);
            ok = go_puts(t, text);
            step = 1;
        } else if (cp == (uint32_t)(unsigned char)mark || cp == '\\') {
            ok = go_puts(t, "\\") && put_rune(t, cp);
        } else if (cp < 0x80 ? cp >= ' ' && cp < 0x7F : !ascii && go_is_print(cp)) {
            ok = put_rune(t, cp);
        } else {
            ok = put_escape(t, cp);
        }
        if (!ok)
            return false;
        i += step;
    }
    return true;
}

static bool quote(struct go_text *t, const struct spec *s, struct str in, char mark, bool outside)
{
    struct go_text q = go_text_new(t->r);
    struct go_value v;
    if (!go_put(&q, &mark, 1) || !put_quoted(&q, in, mark, s->plus) || !go_put(&q, &mark, 1) ||
        !go_text_take(&q, &v))
        return false;
    v.content = outside ? GO_ALL : NULL;
    return pad_value(t, s, &v);
}

static bool hex_string(struct go_text *t, const struct spec *s, struct str in)
{
    bool upper = s->verb == 'X';
    const char *set = upper ? "0123456789ABCDEF" : "0123456789abcdef";
    const char *prefix = s->sharp ? upper ? "0X" : "0x" : "";
    struct go_text h = go_text_new(t->r);
    size_t n = s->prec >= 0 && (size_t)s->prec < in.n ? (size_t)s->prec : in.n;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)in.p[i];
        char pair[2] = { set[c >> 4], set[c & 15] };
        if ((s->space && i && !go_puts(&h, " ")) ||
            ((i == 0 || s->space) && !go_puts(&h, prefix)) || !go_put(&h, pair, 2))
            return false;
    }
    return pad(t, s, h.p ? h.p : "", h.n);
}

/* At most prec characters. */
static bool cut(struct go_render *r, const struct spec *s, const struct go_value *v,
                struct go_value *out)
{
    size_t i = 0;
    for (int n = 0; i < v->u.s.n && (s->prec < 0 || n < s->prec); n++) {
        size_t step = utf8_step(v->u.s.p + i, v->u.s.n - i, NULL);
        if (s->prec < 0)
            break;
        i += step ? step : 1;
    }
    return go_piece(r, v, 0, s->prec < 0 ? v->u.s.n : i, out);
}

static bool print_string(struct go_text *t, const struct spec *s, const struct go_value *v)
{
    struct go_value piece;
    switch (s->verb) {
    case 'v':
    case 's':
        return cut(t->r, s, v, &piece) && pad_value(t, s, &piece);
    case 'x':
    case 'X':
        return hex_string(t, s, v->u.s);
    case 'q':
        if (s->sharp)
            return go_fail(t->r, ERR_UNSUPPORTED, "%%#q");
        return cut(t->r, s, v, &piece) &&
               quote(t, s, piece.u.s, '"', piece.content != NULL);
    default:
        return bad_verb(t, s, v);
    }
}

bool go_string_of(struct go_render *r, const struct go_value *v, struct go_value *out)
{
    struct go_text t = go_text_new(r);
    bool ok = true;
    if (v->type->string == GO_STRING_JSON)
        ok = v->kind == GO_MAP && v->nil ? go_puts(&t, "{}") : go_json(&t, v);
    else if (v->u.list.n == 1)
        ok = go_put_str(&t, &v->u.list.v[0]);
    else if (v->u.list.n) {
        ok = go_puts(&t, "[");
        for (size_t i = 0; ok && i < v->u.list.n; i++)
            ok = (!i || go_puts(&t, " ")) && go_put_str(&t, &v->u.list.v[i]);
        ok = ok && go_puts(&t, "]");
    }
    return ok && go_text_take(&t, out);
}

/* ---- values ---- */

static bool print_map(struct go_text *t, const struct spec *s, const struct go_value *v, int depth)
{
    if (!go_puts(t, "map["))
        return false;
    for (size_t i = 0; i < v->u.map.n; i++) {
        struct go_value key = go_of_str(v->u.map.e[i].key, GO_ALL);
        if ((i && !go_puts(t, " ")) || !print_string(t, s, &key) || !go_puts(t, ":") ||
            !print_value(t, s, &v->u.map.e[i].v, depth + 1))
            return false;
    }
    return go_puts(t, "]");
}

static bool print_many(struct go_text *t, const struct spec *s, const struct go_value *v, int depth)
{
    bool list = v->kind == GO_LIST;
    const struct go_value *of = list ? v->u.list.v : v->u.fields;
    const struct go_type *type = v->kind == GO_POINTER ? v->type->of : v->type;
    size_t n = list ? v->u.list.n : type->n;
    if (!go_puts(t, list ? "[" : "{"))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (i && !go_puts(t, " "))
            return false;
        if (!list && s->names && (!go_puts(t, type->fields[i].name) || !go_puts(t, ":")))
            return false;
        if (!print_value(t, s, &of[i], depth + 1))
            return false;
    }
    return go_puts(t, list ? "]" : "}");
}

static bool print_pointer(struct go_text *t, const struct spec *s, const struct go_value *v,
                          int depth)
{
    if (v->nil && s->verb == 'v')
        return pad(t, s, "<nil>", 5);
    if (depth > 0 || v->nil || v->type->of->kind != GO_STRUCT)
        return go_fail(t->r, ERR_INVALID, "a value of type %s prints as an address in memory",
                       v->type->name);
    return go_puts(t, "&") && print_many(t, s, v, depth);
}

static bool stringer(const struct spec *s, const struct go_value *v)
{
    const struct go_type *t = go_type_of(v);
    return t && t->string && s->verb < 0x80 && strchr("vsxXq", (int)s->verb);
}

static bool print_value(struct go_text *t, const struct spec *s, const struct go_value *v,
                        int depth)
{
    struct go_value text;
    if (depth > GO_MAX_WALK)
        return go_fail(t->r, ERR_TOO_LARGE, "a value is nested too deeply to print");
    if (stringer(s, v))
        return go_string_of(t->r, v, &text) && print_string(t, s, &text);
    switch (v->kind) {
    case GO_INVALID:
    case GO_NIL:
        if (depth == 0)
            return s->verb == 'v' ? pad(t, s, "<nil>", 5) : bad_verb(t, s, v);
        return go_puts(t, "<nil>");
    case GO_BOOL:
        if (s->verb != 't' && s->verb != 'v')
            return bad_verb(t, s, v);
        return pad(t, s, v->u.b ? "true" : "false", v->u.b ? 4 : 5);
    case GO_INT:
    case GO_UINT8:
        return print_integer(t, s, v);
    case GO_FLOAT:
        return print_float(t, s, v);
    case GO_STRING:
        return print_string(t, s, v);
    case GO_MAP:
        return print_map(t, s, v, depth);
    case GO_LIST:
    case GO_STRUCT:
        return print_many(t, s, v, depth);
    case GO_POINTER:
        return print_pointer(t, s, v, depth);
    default:
        return go_fail(t->r, ERR_UNSUPPORTED, "an image cannot be printed");
    }
}

bool go_fmt_value(struct go_text *t, const struct go_value *v)
{
    return print_value(t, &plain, v, 0);
}

bool go_print(struct go_text *t, const struct go_value *v)
{
    if (v->kind == GO_STRING)
        return go_put_str(t, v);
    if (v->kind == GO_INVALID || v->kind == GO_NIL)
        return go_puts(t, "<no value>");
    if (v->kind == GO_POINTER && !v->nil && v->type->of->kind == GO_STRUCT)
        return print_many(t, &plain, v, 0);
    return go_fmt_value(t, v);
}

bool go_sprint(struct go_text *t, const struct go_value *a, size_t n, bool line)
{
    for (size_t i = 0; i < n; i++) {
        bool strings = a[i].kind == GO_STRING || (i && a[i - 1].kind == GO_STRING);
        if ((i && (line || !strings) && !go_puts(t, " ")) || !go_fmt_value(t, &a[i]))
            return false;
    }
    return !line || go_puts(t, "\n");
}

/* ---- printf ---- */

struct format {
    const struct go_value *text; /* the format, a GO_STRING */
    size_t i;
    const struct go_value *a;
    size_t n, used;
};

static char format_at(const struct format *f)
{
    return f->i < f->text->u.s.n ? f->text->u.s.p[f->i] : '\0';
}

/* A width or precision: digits, or * for an argument's. -1: none there. */
static bool width_of(struct go_text *t, struct format *f, const char *bad, int *out)
{
    int64_t w = -1;
    if (format_at(f) == '*') {
        f->i++;
        const struct go_value *v = f->used < f->n ? &f->a[f->used++] : NULL;
        if (!v || (v->kind != GO_INT && v->kind != GO_UINT8) || v->u.i > 1000000 ||
            v->u.i < -1000000)
            return go_puts(t, bad);
        w = v->u.i;
    } else {
        for (; format_at(f) >= '0' && format_at(f) <= '9'; f->i++)
            if ((w = (w < 0 ? 0 : w) * 10 + format_at(f) - '0') > GO_MAX_WIDTH)
                break;
    }
    if (w > GO_MAX_WIDTH || w < -GO_MAX_WIDTH)
        return go_fail(t->r, ERR_TOO_LARGE, "a width of printf is over %d", GO_MAX_WIDTH);
    *out = (int)w;
    return true;
}

static bool flags(struct go_text *t, struct format *f, struct spec *s)
{
    *s = plain;
    for (; format_at(f) && strchr("#0+- ", format_at(f)); f->i++) {
        char c = format_at(f);
        *(c == '#' ? &s->sharp : c == '0' ? &s->zero : c == '+' ? &s->plus
          : c == '-' ? &s->minus : &s->space) = true;
    }
    if (format_at(f) == '[')
        return go_fail(t->r, ERR_UNSUPPORTED, "printf with numbered arguments");
    bool star = format_at(f) == '*';
    if (!width_of(t, f, "%!(BADWIDTH)", &s->width))
        return false;
    if (star && s->width < -1) {
        s->width = -s->width;
        s->minus = true;
        s->zero = false;
    }
    if (format_at(f) == '.' && f->i + 1 < f->text->u.s.n) {
        f->i++;
        star = format_at(f) == '*';
        if (!width_of(t, f, "%!(BADPREC)", &s->prec))
            return false;
        s->prec = s->prec < 0 && !star ? 0 : s->prec < 0 ? -1 : s->prec;
    }
    if (format_at(f) == '[')
        return go_fail(t->r, ERR_UNSUPPORTED, "printf with numbered arguments");
    return true;
}

static bool print_argument(struct go_text *t, struct spec *s, const struct go_value *v)
{
    if (s->verb == 'v') {
        if (s->sharp)
            return go_fail(t->r, ERR_UNSUPPORTED, "%%#v");
        s->names = s->plus;
        s->plus = false;
    }
    if (s->verb == 'p')
        return go_fail(t->r, ERR_UNSUPPORTED, "%%p");
    if (s->verb == 'T') {
        const char *name = v->kind == GO_INVALID || v->kind == GO_NIL ? "<nil>" : go_type_name(v);
        struct go_value text = go_of_str(str_from(name), NULL);
        struct spec as_s = *s;
        as_s.verb = 's';
        return *name == '<' ? pad_value(t, s, &text) : print_string(t, &as_s, &text);
    }
    return print_value(t, s, v, 0);
}

/* What begins with the % at f->i. */
static bool verb(struct go_text *t, struct format *f)
{
    struct spec s;
    f->i++;
    if (!flags(t, f, &s))
        return false;
    if (f->i >= f->text->u.s.n)
        return go_puts(t, "%!(NOVERB)");
    size_t step = utf8_step(f->text->u.s.p + f->i, f->text->u.s.n - f->i, &s.verb);
    if (!step)
        s.verb = 0xFFFD;
    f->i += step ? step : 1;
    if (s.verb == '%')
        return go_puts(t, "%");
    if (f->used >= f->n)
        return go_puts(t, "%!") && put_rune(t, s.verb) && go_puts(t, "(MISSING)");
    return print_argument(t, &s, &f->a[f->used++]);
}

static bool extra(struct go_text *t, struct format *f)
{
    if (f->used >= f->n)
        return true;
    if (!go_puts(t, "%!(EXTRA "))
        return false;
    for (size_t i = f->used; i < f->n; i++) {
        const struct go_value *v = &f->a[i];
        if (i > f->used && !go_puts(t, ", "))
            return false;
        if (v->kind == GO_INVALID || v->kind == GO_NIL) {
            if (!go_puts(t, "<nil>"))
                return false;
        } else if (!go_puts(t, go_type_name(v)) || !go_puts(t, "=") || !go_fmt_value(t, v)) {
            return false;
        }
    }
    return go_puts(t, ")");
}

bool go_sprintf(struct go_text *t, const struct go_value *a, size_t n)
{
    struct format f = { .text = a, .a = a + 1, .n = n - 1 };
    struct str s = a->u.s;
    while (f.i < s.n) {
        const char *percent = memchr(s.p + f.i, '%', s.n - f.i);
        size_t end = percent ? (size_t)(percent - s.p) : s.n;
        if (!go_put_piece(t, a, f.i, end - f.i))
            return false;
        f.i = end;
        if (percent && !verb(t, &f))
            return false;
    }
    return extra(t, &f);
}
