/* Numbers as text and back, "..." % values, and "...".format(values). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/jinja.h"

#define MAX_WIDTH ((int64_t)64 << 20) /* what a field cannot be padded to anyway */

/* ---- numbers ---- */

/* Shortest digits that read back, laid out as repr() does: an exponent below 1e-4 and from
 * 1e16 on. */
void text_float(struct text *t, double f)
{
    char s[40], digits[24];
    int exponent = 0, precision = 0;
    if (!isfinite(f)) {
        text_lit(t, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
        return;
    }
    do
        snprintf(s, sizeof s, "%.*e", precision, f);
    while (strtod(s, NULL) != f && ++precision < 17);
    const char *p = s + (s[0] == '-');
    int n = 0;
    for (; *p && *p != 'e'; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    exponent = (int)strtol(p + 1, NULL, 10);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    if (s[0] == '-')
        text_char(t, '-');
    if (exponent < -4 || exponent >= 16) {
        text_put(t, digits, 1);
        if (n > 1)
            text_char(t, '.');
        text_put(t, digits + 1, (size_t)n - 1);
        snprintf(s, sizeof s, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        text_lit(t, s);
        return;
    }
    if (exponent < 0) {
        text_lit(t, "0.");
        text_fill(t, '0', -exponent - 1);
        text_put(t, digits, (size_t)n);
        return;
    }
    int whole = exponent + 1;
    text_put(t, digits, (size_t)(n < whole ? n : whole));
    text_fill(t, '0', whole - n);
    text_char(t, '.');
    text_put(t, digits + whole, n > whole ? (size_t)(n - whole) : 0);
    if (n <= whole)
        text_char(t, '0');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Copies without the underscores between digits; false where one stands elsewhere. */
static bool without_underscores(struct str s, char *to, size_t cap, size_t *n)
{
    *n = 0;
    if (s.n >= cap)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '_')
            to[(*n)++] = s.p[i];
        else if (i == 0 || i + 1 == s.n || s.p[i - 1] == '_' || s.p[i + 1] == '_')
            return false;
    }
    to[*n] = '\0';
    return true;
}

bool jinja_parse_float(struct str s, double *out)
{
    char copy[512], *end;
    size_t n;
    s = jinja_strip(s, true, true);
    if (!without_underscores(s, copy, sizeof copy, &n) || n == 0)
        return false;
    const char *p = copy + (copy[0] == '-' || copy[0] == '+');
    static const char *const words[] = { "inf", "infinity", "nan" };
    for (size_t i = 0; i < 3; i++)
        if (str_ieq(str_from(p), str_from(words[i]))) {
            *out = i == 2 ? NAN : *copy == '-' ? -INFINITY : INFINITY;
            return true;
        }
    if (!is_digit(*p) && !(*p == '.' && is_digit(p[1])))
        return false;
    if (strpbrk(copy, "xXpPnN"))
        return false;
    *out = strtod(copy, &end);
    return end == copy + n;
}

bool jinja_parse_int(struct str s, int base, int64_t *out, bool *overflow)
{
    char copy[128], *end;
    size_t n;
    *overflow = false;
    s = jinja_strip(s, true, true);
    if (!without_underscores(s, copy, sizeof copy, &n) || n == 0)
        return false;
    size_t i = copy[0] == '-' || copy[0] == '+';
    char mark = n > i + 2 && copy[i] == '0' ? (char)(copy[i + 1] | 32) : '\0';
    int marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (marked && (base == marked || base == 0)) {
        base = marked;
        memmove(copy + i, copy + i + 2, n - i - 1);
        n -= 2;
    } else if (base == 0) {
        base = 10;
        if (copy[i] == '0' && strspn(copy + i, "0") != n - i)
            return false;
    }
    if (copy[i] == '\0' || copy[i] == '-' || copy[i] == '+' || copy[i] == ' ' ||
        (base == 16 && (copy[i + 1] | 32) == 'x'))
        return false;
    errno = 0;
    *out = strtoll(copy, &end, base);
    *overflow = errno == ERANGE;
    return end == copy + n;
}

/* ---- one field with width, fill, sign and precision ---- */

struct spec {
    uint32_t fill;
    char align, sign, type, group;
    bool alternate, zero;
    int64_t width, precision; /* -1: none */
    uint32_t origin;          /* of a number */
};

static void pad(struct text *t, const struct spec *s, const struct value *v, size_t sign_n)
{
    struct str body = v->u.s;
    int64_t room = s->width - (int64_t)jinja_cp_count(body);
    int64_t left = s->align == '<' ? 0 : s->align == '^' ? room / 2 : room;
    if (room <= 0) {
        text_all(t, v);
        return;
    }
    if (s->align == '=') {
        text_from(t, v, body.p, sign_n);
        text_fill(t, s->fill, room);
        text_from(t, v, body.p + sign_n, body.n - sign_n);
        return;
    }
    text_fill(t, s->fill, left);
    text_all(t, v);
    text_fill(t, s->fill, room - left);
}

/* Digits with a separator every three (four for hex and its kin). */
static void grouped(struct text *t, struct str digits, char separator, size_t every)
{
    for (size_t i = 0; i < digits.n; i++) {
        if (separator && i && (digits.n - i) % every == 0)
            text_char(t, separator);
        text_char(t, digits.p[i]);
    }
}

static char sign_of(bool negative, char wanted)
{
    return negative ? '-' : wanted == '+' || wanted == ' ' ? wanted : '\0';
}

static bool format_int(struct text *to, const struct spec *s, int64_t v)
{
    char digits[72];
    size_t n = sizeof digits;
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    uint64_t base = s->type == 'x' || s->type == 'X' ? 16 : s->type == 'o' ? 8
                    : s->type == 'b'                 ? 2
                                                     : 10;
    const char *set = s->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    do
        digits[--n] = set[u % base];
    while (u /= base);
    while (s->precision > (int64_t)(sizeof digits - n) && n > 0)
        digits[--n] = '0';
    struct text t = { .r = to->r };
    char sign = sign_of(v < 0, s->sign);
    if (sign)
        text_char(&t, sign);
    if (s->alternate && base != 10) {
        text_char(&t, '0');
        text_char(&t, s->type);
    }
    size_t head = t.n;
    grouped(&t, (struct str){ digits + n, sizeof digits - n }, s->group, base == 10 ? 3 : 4);
    struct value body;
    if (!text_take(&t, &body))
        return false;
    body.origin = s->origin;
    pad(to, s, &body, head);
    return !to->failed;
}

/* type: e E f F g G %, or 0 for repr with a precision as %g's. */
static bool format_float(struct text *to, const struct spec *s, double v)
{
    char body[512], fmt[16];
    struct text t = { .r = to->r };
    int64_t precision = s->precision < 0 ? 6 : s->precision;
    bool percent = s->type == '%';
    char type = percent ? 'f' : s->type == 'n' ? 'g' : s->type;
    if (precision > 100)
        return jinja_fail(to->r, "a precision over 100 is not supported");
    if (percent)
        v *= 100;
    char sign = sign_of(signbit(v) && !isnan(v), s->sign);
    if (sign)
        text_char(&t, sign);
    size_t head = t.n;
    v = fabs(v);
    if (!isfinite(v)) {
        text_lit(&t, isnan(v) ? "nan" : "inf");
    } else if (!type && s->precision < 0) {
        text_float(&t, v);
    } else {
        snprintf(fmt, sizeof fmt, "%%%s.*%c", s->alternate ? "#" : "", type ? type : 'g');
        int n = type ? snprintf(body, sizeof body, fmt, (int)precision, v)
                     : snprintf(body, sizeof body, "%.*g", (int)precision, v);
        if (n < 0 || (size_t)n >= sizeof body)
            return jinja_fail(to->r, "a number too long to format");
        size_t whole = strspn(body, "0123456789");
        grouped(&t, (struct str){ body, whole }, s->group, 3);
        text_lit(&t, body + whole);
        if (!type && !strpbrk(body, ".e"))
            text_lit(&t, ".0");
    }
    if (percent)
        text_char(&t, '%');
    struct value out;
    if (!text_take(&t, &out))
        return false;
    out.origin = s->origin;
    pad(to, s, &out, head);
    return !to->failed;
}

static void format_text(struct text *to, const struct spec *s, const struct value *v)
{
    struct value cut = *v;
    if (s->precision >= 0)
        cut.u.s.n = jinja_cp_offset(v->u.s, (size_t)s->precision);
    pad(to, s, &cut, 0);
}

/* The character of this code point; false: there is none. */
static bool format_cp(struct text *to, const struct spec *s, int64_t cp)
{
    char utf8[4];
    size_t n = cp >= 0 && cp < 0x110000 ? utf8_put((uint32_t)cp, utf8) : 0;
    struct value v = value_str((struct str){ utf8, n });
    v.origin = s->origin;
    if (n)
        format_text(to, s, &v);
    return n != 0;
}

/* ---- "..." % values ---- */

struct percent {
    struct text t;
    const struct value *arg;
    size_t used;
    bool is_tuple, markup;
};

static bool next_arg(struct percent *p, const struct value **v)
{
    size_t n = p->is_tuple ? p->arg->u.list->n : 1;
    if (p->used >= n)
        return jinja_fail(p->t.r, "not enough arguments for format string");
    *v = p->is_tuple ? &p->arg->u.list->v[p->used] : p->arg;
    p->used++;
    return true;
}

static bool percent_number(struct percent *p, struct str f, size_t *i, int64_t *n)
{
    const struct value *v;
    if (*i < f.n && f.p[*i] == '*') {
        ++*i;
        return next_arg(p, &v) && jinja_int_arg(p->t.r, v, 0, n);
    }
    *n = 0;
    for (; *i < f.n && is_digit(f.p[*i]); ++*i)
        if ((*n = *n * 10 + (f.p[*i] - '0')) > MAX_WIDTH)
            return jinja_too_large(p->t.r, "a width that is too big");
    return true;
}

static bool percent_text(struct percent *p, struct spec *s, const struct value *v)
{
    struct text t = { .r = p->t.r };
    struct value text;
    bool ok = s->type == 's' ? text_value(&t, v) : text_repr(&t, v);
    if (!ok || !text_take(&t, &text))
        return false;
    text.markup = s->type == 's' && v->type == V_STR && v->markup;
    if (p->markup && !jinja_escape(p->t.r, &text, &text))
        return false;
    format_text(&p->t, s, &text);
    return !p->t.failed;
}

static bool percent_int(struct percent *p, struct spec *s, const struct value *v)
{
    if (!value_is_number(v))
        return v->type == V_UNDEFINED && strchr("diu", s->type)
                   ? jinja_use_undefined(p->t.r, v)
                   : jinja_fail(p->t.r, "%%%c format: a real number is required, not %s", s->type,
                                jinja_type_name((enum value_type)v->type));
    if (v->type == V_FLOAT && (!strchr("diu", s->type) || !(fabs(v->u.f) < 9.2e18)))
        return jinja_fail(p->t.r, "%%%c format: an integer is required", s->type);
    if (s->zero && s->align != '<') {
        s->fill = '0';
        s->align = '=';
    }
    s->type = strchr("iu", s->type) ? 'd' : s->type;
    return format_int(&p->t, s, v->type == V_FLOAT ? (int64_t)v->u.f : value_as_int(v));
}

static bool percent_float(struct percent *p, struct spec *s, const struct value *v)
{
    if (!value_is_number(v))
        return jinja_fail(p->t.r, "must be real number, not %s",
                          jinja_type_name((enum value_type)v->type));
    if (s->zero && s->align != '<') {
        s->fill = '0';
        s->align = '=';
    }
    return format_float(&p->t, s, value_as_float(v));
}

static bool percent_char(struct percent *p, struct spec *s, const struct value *v)
{
    if (v->type == V_STR && jinja_cp_count(v->u.s) == 1) {
        format_text(&p->t, s, v);
        return !p->t.failed;
    }
    if (v->type != V_INT || !format_cp(&p->t, s, v->u.i))
        return jinja_fail(p->t.r, "%%c requires int or char");
    return !p->t.failed;
}

static bool percent_key(struct percent *p, struct str f, size_t *i, struct value *out)
{
    size_t depth = 1, start = ++*i;
    for (; *i < f.n && depth; ++*i)
        depth += (f.p[*i] == '(') - (size_t)(f.p[*i] == ')');
    if (depth)
        return jinja_fail(p->t.r, "incomplete format key");
    if (p->arg->type != V_DICT)
        return jinja_fail(p->t.r, "format requires a mapping");
    struct value key = value_str((struct str){ f.p + start, *i - 1 - start });
    bool found;
    if (!jinja_dict_find(p->t.r, p->arg->u.dict, &key, out, &found))
        return false;
    return found || jinja_fail(p->t.r, "a key of the format string is not in the mapping");
}

/* One conversion; f.p[*i] is the character after the "%". */
static bool percent_one(struct percent *p, struct str f, size_t *i)
{
    struct spec s = { .fill = ' ', .align = '>', .precision = -1 };
    struct value keyed = { .type = V_MISSING };
    const struct value *v = &keyed;
    if (*i < f.n && f.p[*i] == '(' && !percent_key(p, f, i, &keyed))
        return false;
    for (; *i < f.n && f.p[*i] && strchr("-+ #0", f.p[*i]); ++*i) {
        char c = f.p[*i];
        s.align = c == '-' ? '<' : s.align;
        s.sign = c == '+' ? '+' : c == ' ' && !s.sign ? ' ' : s.sign;
        s.alternate = s.alternate || c == '#';
        s.zero = s.zero || c == '0';
    }
    if (!percent_number(p, f, i, &s.width))
        return false;
    if (s.width < 0) {
        s.align = '<';
        s.width = -s.width;
    }
    if (*i < f.n && f.p[*i] == '.') {
        ++*i;
        if (!percent_number(p, f, i, &s.precision))
            return false;
        s.precision = s.precision < 0 ? 0 : s.precision;
    }
    while (*i < f.n && f.p[*i] && strchr("hlL", f.p[*i]))
        ++*i;
    if (*i >= f.n)
        return jinja_fail(p->t.r, "incomplete format");
    s.type = f.p[(*i)++];
    if (s.type == '%') {
        text_char(&p->t, '%');
        return true;
    }
    if (!value_given(&keyed) && !next_arg(p, &v))
        return false;
    s.origin = v->origin;
    if (s.type == 's' || s.type == 'r')
        return percent_text(p, &s, v);
    if (s.type && strchr("diuxXo", s.type))
        return percent_int(p, &s, v);
    if (s.type && strchr("eEfFgG", s.type))
        return percent_float(p, &s, v);
    if (s.type == 'c')
        return percent_char(p, &s, v);
    return jinja_fail(p->t.r, "unsupported format character");
}

bool jinja_percent(struct render *r, const struct value *fmt, const struct value *arg,
                   struct value *out)
{
    struct str f = fmt->u.s;
    struct percent p = { .t = { .r = r }, .arg = arg, .is_tuple = arg->type == V_TUPLE,
                         .markup = fmt->markup };
    for (size_t i = 0; i < f.n;) {
        const char *next = memchr(f.p + i, '%', f.n - i);
        size_t plain = next ? (size_t)(next - f.p) - i : f.n - i;
        text_from(&p.t, fmt, f.p + i, plain);
        i += plain + 1;
        size_t start = p.t.n, from = i;
        if (next && !percent_one(&p, f, &i))
            return false;
        if (next)
            text_made(&p.t, start, fmt, f.p + from, i - from);
    }
    /* what Python can subscript may be left unused */
    bool reads_keys = arg->type == V_DICT || arg->type == V_LIST || arg->type == V_RANGE ||
                      arg->type == V_UNDEFINED;
    size_t n = p.is_tuple ? arg->u.list->n : reads_keys ? 0 : 1;
    if (p.used < n)
        return jinja_fail(r, "not all arguments converted during string formatting");
    if (!text_take(&p.t, out))
        return false;
    out->markup = fmt->markup;
    return true;
}

/* ---- "...".format(values) ---- */

struct formatter {
    struct text t;
    const struct args *args;
    int64_t automatic; /* next field number; -1 once fields are numbered by hand */
    bool markup;
};

static bool format_number(struct str s, size_t *i, int64_t *n)
{
    size_t start = *i;
    for (*n = 0; *i < s.n && is_digit(s.p[*i]); ++*i)
        if (*n < MAX_WIDTH)
            *n = *n * 10 + (s.p[*i] - '0');
    return *i > start;
}

/* [[fill]align][sign][z][#][0][width][grouping][.precision][type] */
static bool parse_spec(struct render *r, struct str s, struct spec *out)
{
    size_t i = 0, n;
    uint32_t cp = ' ';
    *out = (struct spec){ .fill = ' ', .precision = -1 };
    n = s.n ? jinja_utf8(s, 0, &cp) : 0;
    if (n && n < s.n && strchr("<>=^", s.p[n])) {
        out->fill = cp;
        out->align = s.p[n];
        i = n + 1;
    } else if (s.n && s.p[0] && strchr("<>=^", s.p[0])) {
        out->align = s.p[i++];
    }
    if (i < s.n && s.p[i] && strchr("+- ", s.p[i]))
        out->sign = s.p[i++];
    if (i < s.n && s.p[i] == '#') {
        out->alternate = true;
        i++;
    }
    if (i < s.n && s.p[i] == '0') {
        out->zero = true;
        if (!out->align) {
            out->fill = '0';
            out->align = '=';
        }
        i++;
    }
    format_number(s, &i, &out->width);
    if (i < s.n && (s.p[i] == ',' || s.p[i] == '_'))
        out->group = s.p[i++];
    if (i < s.n && s.p[i] == '.') {
        i++;
        if (!format_number(s, &i, &out->precision))
            return jinja_fail(r, "format specifier missing precision");
    }
    if (i < s.n)
        out->type = s.p[i++];
    return i == s.n || jinja_fail(r, "invalid format specifier");
}

static bool format_value(struct formatter *f, const struct value *v, struct str spec)
{
    struct render *r = f->t.r;
    struct spec s;
    if (spec.n == 0 && !f->markup)
        return text_value(&f->t, v);
    if (!parse_spec(r, spec, &s))
        return false;
    bool number = value_is_number(v) && !(v->type == V_BOOL && spec.n == 0);
    if (!number || (v->type == V_BOOL && !s.type && spec.n == 0)) {
        struct value text;
        if (v->type != V_STR && spec.n)
            return jinja_fail(r, "unsupported format string passed to %s.__format__",
                              jinja_type_name((enum value_type)v->type));
        if ((s.type && s.type != 's') || s.sign || s.alternate || s.group || s.align == '=')
            if (!(s.zero && s.align == '=' && !s.sign && !s.alternate && !s.group))
                return jinja_fail(r, "invalid format specifier for a string");
        if (!jinja_str(r, v, &text))
            return false;
        s.align = s.align && s.align != '=' ? s.align : '<';
        text.markup = v->type == V_STR && v->markup;
        if (f->markup && !jinja_escape(r, &text, &text))
            return false;
        format_text(&f->t, &s, &text);
        return !f->t.failed;
    }
    s.origin = v->origin;
    s.align = s.align ? s.align : '>';
    if (s.type == 'n')
        s.type = v->type == V_FLOAT ? 'g' : 'd';
    if (s.type && strchr("eEfFgG%", s.type))
        return format_float(&f->t, &s, value_as_float(v));
    if (v->type == V_FLOAT)
        return s.type ? jinja_fail(r, "unknown format code for a float")
                      : format_float(&f->t, &s, v->u.f);
    if (s.type == 'c') {
        s.align = s.align == '>' ? '<' : s.align;
        return format_cp(&f->t, &s, value_as_int(v)) ? !f->t.failed
                                                     : jinja_fail(r, "%%c arg not in range");
    }
    if (s.precision >= 0)
        return jinja_fail(r, "precision not allowed in integer format specifier");
    if (s.type && !strchr("dxXob", s.type))
        return jinja_fail(r, "unknown format code for an integer");
    s.type = s.type ? s.type : 'd';
    return format_int(&f->t, &s, value_as_int(v));
}

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_digit(s.p[i]))
            return false;
    return s.n > 0 && s.n < 10;
}

static bool field_base(struct formatter *f, struct str name, struct value *out)
{
    struct render *r = f->t.r;
    int64_t index = 0;
    size_t i = 0;
    if (name.n == 0 || all_digits(name)) {
        if (name.n == 0 && f->automatic < 0)
            return jinja_fail(r, "cannot switch from manual field specification to automatic "
                                 "field numbering");
        if (name.n && f->automatic > 0)
            return jinja_fail(r, "cannot switch from automatic field numbering to manual field "
                                 "specification");
        if (name.n == 0)
            index = f->automatic++;
        else {
            format_number(name, &i, &index);
            f->automatic = -1;
        }
        if ((size_t)index >= f->args->n)
            return jinja_fail(r, "replacement index %lld out of range", (long long)index);
        *out = f->args->v[index];
        return true;
    }
    for (size_t k = 0; k < f->args->nkw; k++)
        if (str_eq(f->args->kw[k].name, name)) {
            *out = f->args->kw[k].v;
            return true;
        }
    return jinja_fail(r, "format(): no argument named '%.*s'", (int)(name.n > 64 ? 64 : name.n),
                      name.p);
}

/* name.attr[index]... through the sandbox's own look-ups. */
static bool field_value(struct formatter *f, struct str field, struct value *out)
{
    struct render *r = f->t.r;
    size_t i = 0;
    while (i < field.n && field.p[i] != '.' && field.p[i] != '[')
        i++;
    if (!field_base(f, (struct str){ field.p, i }, out))
        return false;
    while (i < field.n) {
        bool item = field.p[i++] == '[';
        size_t start = i;
        while (i < field.n && (item ? field.p[i] != ']' : field.p[i] != '.' && field.p[i] != '['))
            i++;
        struct str name = { field.p + start, i - start };
        if (name.n == 0 || (item && i == field.n))
            return jinja_fail(r, "a malformed field in a format string");
        i += item;
        if (item && i < field.n && field.p[i] != '.' && field.p[i] != '[')
            return jinja_fail(r, "a malformed field in a format string");
        struct value key = value_str(name);
        int64_t index = 0;
        size_t at = 0;
        if (item && all_digits(name)) {
            format_number(name, &at, &index);
            key = value_int(index);
        }
        if (!(item ? jinja_item(r, out, &key, out) : jinja_attr(r, out, name, out)))
            return false;
    }
    return true;
}

static bool convert(struct render *r, char kind, struct value *v)
{
    struct text t = { .r = r };
    if (kind == 's' ? !text_value(&t, v) : !text_repr(&t, v))
        return false;
    return text_take(&t, v);
}

static bool expand(struct formatter *f, const struct value *fmt, int depth);

/* One field, without its braces. */
static bool format_field(struct formatter *f, const struct value *whole, int depth)
{
    struct render *r = f->t.r;
    struct str field = whole->u.s;
    size_t end = 0, brackets = 0;
    struct value v;
    while (end < field.n &&
           (brackets || (field.p[end] != '!' && field.p[end] != ':'))) {
        brackets = field.p[end] == '[' ? 1 : field.p[end] == ']' ? 0 : brackets;
        end++;
    }
    char kind = '\0';
    size_t spec = end;
    if (end < field.n && field.p[end] == '!') {
        kind = end + 1 < field.n ? field.p[end + 1] : '\0';
        spec = end + 2;
        if (!kind || !strchr("sra", kind) || (spec < field.n && field.p[spec] != ':'))
            return jinja_fail(r, "a malformed conversion in a format string");
    }
    if (!field_value(f, (struct str){ field.p, end }, &v) || (kind && !convert(r, kind, &v)))
        return false;
    spec += spec < field.n; /* the colon */
    struct value rest = value_part(whole, (struct str){ field.p + spec, 0 });
    rest.u.s.n = spec < field.n ? field.n - spec : 0;
    struct formatter inner = { .t = { .r = r }, .args = f->args, .automatic = f->automatic };
    struct value text;
    if (!expand(&inner, &rest, depth + 1) || !text_take(&inner.t, &text))
        return false;
    f->automatic = inner.automatic;
    return format_value(f, &v, text.u.s);
}

/* What a field makes counts as content where the field itself is. */
static bool expand(struct formatter *f, const struct value *fmt, int depth)
{
    struct str s = fmt->u.s;
    if (depth > 3)
        return jinja_fail(f->t.r, "max string recursion exceeded");
    for (size_t i = 0; i < s.n && !f->t.failed; i++) {
        char c = s.p[i];
        bool twice = i + 1 < s.n && s.p[i + 1] == c;
        if ((c != '{' && c != '}') || twice) {
            text_from(&f->t, fmt, s.p + i, 1);
            i += c == '{' || c == '}';
            continue;
        }
        size_t start = i + 1, open = 1, begin = f->t.n;
        if (c == '}')
            return jinja_fail(f->t.r, "single '}' encountered in format string");
        for (i++; i < s.n; i++) {
            open += s.p[i] == '{';
            open -= s.p[i] == '}';
            if (!open)
                break;
        }
        if (open)
            return jinja_fail(f->t.r, "expected '}' before end of string");
        struct value field = value_part(fmt, (struct str){ s.p + start, i - start });
        if (!format_field(f, &field, depth))
            return false;
        text_made(&f->t, begin, fmt, s.p + start, i - start);
    }
    return !f->t.failed;
}

bool jinja_str_format(struct render *r, const struct value *fmt, const struct args *args,
                      struct value *out)
{
    struct formatter f = { .t = { .r = r }, .args = args, .markup = fmt->markup };
    if (!expand(&f, fmt, 1) || !text_take(&f.t, out))
        return false;
    out->markup = fmt->markup;
    return true;
}
