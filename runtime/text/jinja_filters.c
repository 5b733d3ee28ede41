/* Filters over texts and numbers: value | NAME(...). Those over sequences are in
 * jinja_sequences.c. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/jinja.h"

#define FILTER(name) \
    static bool name(struct render *r, const struct value *a, const struct args *args, \
                     struct value *out)

/* What soft_str() gives: marked text stays marked. */
static bool soft_str(struct render *r, const struct value *v, struct value *out)
{
    bool markup = v->type == V_STR && v->markup;
    if (!jinja_str(r, v, out))
        return false;
    out->markup = markup;
    return true;
}

static bool truth_arg(struct render *r, const struct value *v, bool *out)
{
    *out = false;
    return !value_given(v) || jinja_truth(r, v, out);
}

/* ---- HTML ---- */

bool jinja_escape(struct render *r, const struct value *v, struct value *out)
{
    struct value plain;
    struct text t = { .r = r };
    if (v->type == V_STR && v->markup) {
        *out = *v;
        return true;
    }
    if (!jinja_str(r, v, &plain))
        return false;
    struct str s = plain.u.s;
    for (size_t i = 0; i < s.n && !t.failed; i++) {
        size_t start = t.n;
        switch (s.p[i]) {
        case '&':
            text_lit(&t, "&amp;");
            break;
        case '<':
            text_lit(&t, "&lt;");
            break;
        case '>':
            text_lit(&t, "&gt;");
            break;
        case '"':
            text_lit(&t, "&#34;");
            break;
        case '\'':
            text_lit(&t, "&#39;");
            break;
        default:
            text_char(&t, s.p[i]);
        }
        text_made(&t, start, &plain, s.p + i, 1);
    }
    if (!text_take(&t, out))
        return false;
    out->markup = true;
    return true;
}

FILTER(filter_escape)
{
    (void)args;
    return jinja_escape(r, &a[0], out);
}

FILTER(filter_forceescape)
{
    struct value plain = a[0];
    (void)args;
    plain.markup = false;
    return jinja_escape(r, &plain, out);
}

FILTER(filter_safe)
{
    (void)args;
    if (!soft_str(r, &a[0], out))
        return false;
    out->markup = true;
    return true;
}

FILTER(filter_string)
{
    (void)args;
    return soft_str(r, &a[0], out);
}

/* ---- case ---- */

static bool case_filter(struct render *r, const struct value *v, enum case_kind kind,
                        struct value *out)
{
    struct value s;
    if (!soft_str(r, v, &s) || !jinja_case(r, &s, kind, out))
        return false;
    out->markup = s.markup;
    return true;
}

FILTER(filter_upper)
{
    (void)args;
    return case_filter(r, &a[0], CASE_UPPER, out);
}

FILTER(filter_lower)
{
    (void)args;
    return case_filter(r, &a[0], CASE_LOWER, out);
}

FILTER(filter_capitalize)
{
    (void)args;
    return case_filter(r, &a[0], CASE_CAPITALIZE, out);
}

/* A word begins after "-", white space, "(", "{", "[" and "<". */
FILTER(filter_title)
{
    struct text t = { .r = r };
    struct value whole;
    bool word = false;
    (void)args;
    if (!jinja_str(r, &a[0], &whole))
        return false;
    struct str s = whole.u.s;
    for (size_t i = 0, n; i < s.n && !t.failed; i += n) {
        uint32_t cp;
        size_t end = i;
        struct value part;
        n = jinja_utf8(s, i, &cp);
        word = !(jinja_is_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp)));
        if (!word) {
            text_from(&t, &whole, s.p + i, n);
            continue;
        }
        for (end = i + n; end < s.n; end += jinja_utf8(s, end, &cp)) {
            jinja_utf8(s, end, &cp);
            if (jinja_is_space(cp) || (cp < 0x80 && cp && strchr("-({[<", (int)cp)))
                break;
        }
        struct value first = value_part(&whole, (struct str){ s.p + i, n });
        struct value rest = value_part(&whole, (struct str){ s.p + i + n, end - i - n });
        if (!jinja_case(r, &first, CASE_UPPER, &part))
            return false;
        text_all(&t, &part);
        if (!jinja_case(r, &rest, CASE_LOWER, &part))
            return false;
        text_all(&t, &part);
        n = end - i;
    }
    if (!text_take(&t, out))
        return false;
    return true;
}

/* ---- white space ---- */

FILTER(filter_trim)
{
    struct value s;
    struct str chars = { 0 };
    (void)args;
    if (!soft_str(r, &a[0], &s) ||
        (value_given(&a[1]) && a[1].type != V_NONE && !jinja_str_arg(r, &a[1], &chars)))
        return false;
    *out = value_part(&s, jinja_strip_chars(s.u.s, chars, true, true));
    return jinja_spend_bytes(r, s.u.s.n);
}

static bool indent_text(struct render *r, const struct value *width, struct value *out)
{
    struct text t = { .r = r };
    int64_t n;
    if (width->type == V_STR) {
        *out = *width;
        return true;
    }
    if (!jinja_int_arg(r, width, 4, &n))
        return false;
    text_fill(&t, ' ', n);
    return text_take(&t, out);
}

/* width=4, first=False, blank=False */
FILTER(filter_indent)
{
    struct text t = { .r = r };
    struct value indent;
    struct str s;
    bool first, blank;
    (void)args;
    if (a[0].type != V_STR)
        return a[0].type == V_UNDEFINED ? jinja_use_undefined(r, &a[0])
                                        : jinja_fail(r, "indent needs a string");
    s = a[0].u.s;
    if (!indent_text(r, &a[1], &indent) || !truth_arg(r, &a[2], &first) ||
        !truth_arg(r, &a[3], &blank))
        return false;
    if (a[0].markup && !jinja_escape(r, &indent, &indent))
        return false;
    if (first)
        text_all(&t, &indent);
    for (size_t at = 0, line = 0; at <= s.n && !t.failed; line++) {
        size_t end = at, newline = 0;
        while (end < s.n && !(newline = jinja_newline_at(s, end)))
            end++;
        if (line) {
            text_char(&t, '\n');
            text_made(&t, t.n - 1, &a[0], s.p + at - 1, 1);
            if (blank || end > at)
                text_all(&t, &indent);
        }
        text_from(&t, &a[0], s.p + at, end - at);
        if (!newline)
            break;
        at = end + newline;
    }
    if (!text_take(&t, out))
        return false;
    out->markup = a[0].markup;
    return true;
}

FILTER(filter_center)
{
    struct value s;
    int64_t width;
    (void)args;
    if (!soft_str(r, &a[0], &s) || !jinja_int_arg(r, &a[1], 80, &width))
        return false;
    struct text t = { .r = r };
    int64_t room = width - (int64_t)jinja_cp_count(s.u.s);
    int64_t left = room > 0 ? room / 2 + (room & width & 1) : 0;
    text_fill(&t, ' ', left);
    text_all(&t, &s);
    text_fill(&t, ' ', room - left);
    if (!text_take(&t, out))
        return false;
    out->markup = s.markup;
    return true;
}

/* length=255, killwords=False, end="...", leeway=5 */
FILTER(filter_truncate)
{
    int64_t length, leeway, have;
    struct value ending = value_given(&a[3]) ? a[3] : value_text("...");
    struct str s, end;
    bool kill;
    (void)args;
    if (!jinja_int_arg(r, &a[1], 255, &length) || !truth_arg(r, &a[2], &kill) ||
        !jinja_str_arg(r, &ending, &end) || !jinja_length(r, &a[0], &have))
        return false;
    struct value lee = a[4].type == V_NONE ? (struct value){ 0 } : a[4];
    if (!jinja_int_arg(r, &lee, 5, &leeway))
        return false;
    int64_t keep = length - (int64_t)jinja_cp_count(end);
    if (keep < 0 || leeway < 0)
        return jinja_fail(r, "truncate: the length is shorter than the end");
    *out = a[0];
    if (length >= have || leeway >= have - length)
        return true;
    if (!jinja_str_arg(r, &a[0], &s))
        return false;
    struct str cut = { s.p, jinja_cp_offset(s, (size_t)keep) };
    size_t space = jinja_rfind_str(cut, STR(" "), cut.n);
    if (!kill && space != SIZE_MAX)
        cut.n = space;
    struct value head = value_part(&a[0], cut);
    return jinja_concat(r, &head, &ending, out);
}

FILTER(filter_wordcount)
{
    struct value text;
    int64_t n = 0;
    bool word = false;
    (void)args;
    if (!jinja_str(r, &a[0], &text))
        return false;
    struct str s = text.u.s;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        size_t k = jinja_utf8(s, i, &cp);
        bool part = cp == '_' || jinja_str_is((struct str){ s.p + i, k }, 'w');
        n += part && !word;
        word = part;
        i += k;
    }
    *out = value_int(n);
    return jinja_spend_bytes(r, s.n);
}

FILTER(filter_replace)
{
    struct value s, with[3] = { [2] = a[3] };
    struct args rest = { .v = with, .n = value_given(&a[3]) && a[3].type != V_NONE ? 3 : 2 };
    (void)args;
    if (!jinja_str(r, &a[0], &s) || !jinja_str(r, &a[1], &with[0]) ||
        !jinja_str(r, &a[2], &with[1]))
        return false;
    return jinja_call_builtin(r, jinja_method(V_STR, STR("replace")), &s, &rest, out);
}

FILTER(filter_format)
{
    struct value s, arg;
    if (args->n && args->nkw)
        return jinja_fail(r, "format: can't handle positional and keyword arguments at the same "
                             "time");
    if (!soft_str(r, &a[0], &s))
        return false;
    if (args->nkw) {
        struct dict *d = jinja_dict(r, args->nkw);
        for (size_t i = 0; d && i < args->nkw; i++) {
            struct value key = value_key(&args->kw[i]);
            if (!jinja_dict_put(r, d, &key, &args->kw[i].v))
                return false;
        }
        arg = (struct value){ .type = V_DICT, .u.dict = d };
        return d && jinja_percent(r, &s, &arg, out);
    }
    struct list l = { jinja_alloc(r, args->n, sizeof *l.v), args->n };
    if (!l.v)
        return false;
    if (l.n)
        memcpy(l.v, args->v, l.n * sizeof *l.v);
    return jinja_list(r, l, V_TUPLE, &arg) && jinja_percent(r, &s, &arg, out);
}

FILTER(filter_striptags)
{
    static const struct {
        const char *name, *text;
    } entities[] = { { "&amp;", "&" },  { "&lt;", "<" },   { "&gt;", ">" },
                     { "&#34;", "\"" }, { "&#39;", "'" }, { "&quot;", "\"" } };
    struct text t = { .r = r };
    struct value whole;
    bool gap = false, endless[2] = { false }; /* no tag's, no comment's end lies ahead */
    (void)args;
    if (!jinja_str(r, &a[0], &whole) || !jinja_spend_bytes(r, whole.u.s.n))
        return false;
    struct str s = whole.u.s;
    for (size_t i = 0; i < s.n && !t.failed;) {
        struct str rest = { s.p + i, s.n - i };
        bool comment = str_starts(rest, STR("<!--"));
        size_t end = s.p[i] != '<' || endless[comment]
                         ? SIZE_MAX
                         : jinja_find_str(rest, comment ? STR("-->") : STR(">"), 0);
        endless[comment] = endless[comment] || (s.p[i] == '<' && end == SIZE_MAX);
        if (end != SIZE_MAX) {
            i += end + (comment ? 3 : 1);
            continue;
        }
        uint32_t cp;
        size_t n = jinja_utf8(s, i, &cp);
        bool space = jinja_is_space(cp);
        if (space) {
            gap = t.n > 0;
            i += n;
            continue;
        }
        size_t start = t.n;
        if (gap)
            text_char(&t, ' ');
        gap = false;
        bool entity = false;
        for (size_t k = 0; k < sizeof entities / sizeof *entities && !entity; k++)
            if (str_starts(rest, str_from(entities[k].name))) {
                text_lit(&t, entities[k].text);
                n = strlen(entities[k].name);
                entity = true;
            }
        if (!entity)
            text_put(&t, s.p + i, n);
        text_made(&t, start, &whole, s.p + i, n);
        i += n;
    }
    return text_take(&t, out);
}

static bool quote_url(struct text *t, const struct value *v, bool query)
{
    struct str s = v->u.s;
    for (size_t i = 0; i < s.n && !t->failed; i++) {
        unsigned char c = (unsigned char)s.p[i];
        size_t start = t->n;
        char hex[4];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        if (plain) {
            text_char(t, (char)c);
        } else if (c == ' ' && query) {
            text_char(t, '+');
        } else {
            snprintf(hex, sizeof hex, "%%%02X", c);
            text_lit(t, hex);
        }
        text_made(t, start, v, s.p + i, 1);
    }
    return !t->failed;
}

FILTER(filter_urlencode)
{
    struct text t = { .r = r };
    struct value s;
    struct list l;
    struct value pairs = a[0];
    (void)args;
    if (a[0].type == V_STR || !jinja_iterable(&a[0]))
        return jinja_str(r, &a[0], &s) && quote_url(&t, &s, false) && text_take(&t, out);
    if (a[0].type == V_DICT) {
        pairs.type = V_VIEW;
        pairs.reason = 2;
    }
    if (!jinja_collect(r, &pairs, &l))
        return false;
    for (size_t i = 0; i < l.n; i++) {
        struct list kv;
        if (!jinja_collect(r, &l.v[i], &kv))
            return false;
        if (kv.n != 2)
            return jinja_fail(r, "urlencode needs pairs");
        if (i)
            text_char(&t, '&');
        if (!jinja_str(r, &kv.v[0], &s) || !quote_url(&t, &s, true))
            return false;
        text_char(&t, '=');
        if (!jinja_str(r, &kv.v[1], &s) || !quote_url(&t, &s, true))
            return false;
    }
    return text_take(&t, out);
}

/* ---- numbers ---- */

FILTER(filter_abs)
{
    struct value zero = value_int(0);
    bool negative = false;
    (void)args;
    if (!value_is_number(&a[0]))
        return a[0].type == V_UNDEFINED
                   ? jinja_use_undefined(r, &a[0])
                   : jinja_fail(r, "bad operand type for abs(): '%s'",
                                jinja_type_name((enum value_type)a[0].type));
    if (a[0].type == V_FLOAT) {
        *out = a[0];
        out->u.f = fabs(a[0].u.f);
        return true;
    }
    return jinja_order(r, OP_LT, &a[0], &zero, &negative) &&
           jinja_negate(r, &a[0], negative, out);
}

/* A number that was made of another, or of a text, came from where that did. */
static bool number_from(const struct value *from, struct value number, struct value *out)
{
    number.origin = from->origin ? ORIGIN_CONTENT : ORIGIN_TEMPLATE;
    *out = number;
    return true;
}

static bool truncated(struct render *r, const struct value *from, double f, struct value *out)
{
    if (!(fabs(f) < 9223372036854775808.0))
        return jinja_fail(r, "cannot convert this float to an integer of 64 bits");
    return number_from(from, value_int((int64_t)f), out);
}

/* default=0, base=10 */
FILTER(filter_int)
{
    int64_t base, v;
    bool big;
    double f;
    (void)args;
    *out = value_given(&a[1]) ? a[1] : value_int(0);
    if (!jinja_int_arg(r, &a[2], 10, &base))
        return false;
    if (a[0].type == V_UNDEFINED)
        return jinja_use_undefined(r, &a[0]);
    if (a[0].type == V_FLOAT) {
        if (a[0].u.f != a[0].u.f)
            return true;
        return truncated(r, &a[0], a[0].u.f, out);
    }
    if (value_is_number(&a[0]))
        return number_from(&a[0], value_int(value_as_int(&a[0])), out);
    if (a[0].type != V_STR)
        return true;
    if (base >= 0 && base <= 36 && base != 1 && jinja_parse_int(a[0].u.s, (int)base, &v, &big)) {
        if (big)
            return jinja_fail(r, "an integer that needs more than 64 bits");
        return number_from(&a[0], value_int(v), out);
    }
    if (!jinja_parse_float(a[0].u.s, &f) || f != f)
        return true;
    return truncated(r, &a[0], f, out);
}

FILTER(filter_float)
{
    double f;
    (void)args;
    *out = value_given(&a[1]) ? a[1] : value_float(0);
    if (a[0].type == V_UNDEFINED)
        return jinja_use_undefined(r, &a[0]);
    if (value_is_number(&a[0]))
        return number_from(&a[0], value_float(value_as_float(&a[0])), out);
    if (a[0].type == V_STR && jinja_parse_float(a[0].u.s, &f))
        return number_from(&a[0], value_float(f), out);
    return true;
}

/* Half to even on the decimal value that the float prints as, like round(). */
static double round_half_even(double f, int precision)
{
    char s[512];
    double result = f;
    if (precision >= 0) {
        int n = snprintf(s, sizeof s, "%.*f", precision > 300 ? 300 : precision, f);
        return n > 0 && (size_t)n < sizeof s ? strtod(s, NULL) : result;
    }
    double unit = pow(10, -precision);
    return isfinite(unit) ? nearbyint(f / unit) * unit : 0;
}

static bool round_int(struct render *r, int64_t v, int64_t precision, struct value *out)
{
    int64_t unit = 1;
    for (int64_t i = precision; i < 0; i++)
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            *out = value_int(0);
            return true;
        }
    int64_t rest = ((v % unit) + unit) % unit, low;
    if (__builtin_sub_overflow(v, rest, &low))
        return jinja_fail(r, "an integer that needs more than 64 bits");
    bool up = rest * 2 > unit || (rest * 2 == unit && (low / unit) % 2 != 0);
    if (up && __builtin_add_overflow(low, unit, &low))
        return jinja_fail(r, "an integer that needs more than 64 bits");
    *out = value_int(unit == 1 ? v : low);
    return true;
}

/* precision=0, method="common" */
FILTER(filter_round)
{
    struct value v;
    struct str method = STR("common");
    int64_t precision;
    (void)args;
    if (!jinja_int_arg(r, &a[1], 0, &precision) ||
        (value_given(&a[2]) && !jinja_str_arg(r, &a[2], &method)))
        return false;
    if (!str_is(method, "common") && !str_is(method, "ceil") && !str_is(method, "floor"))
        return jinja_fail(r, "method must be common, ceil or floor");
    if (!value_is_number(&a[0]))
        return a[0].type == V_UNDEFINED ? jinja_use_undefined(r, &a[0])
                                        : jinja_fail(r, "round needs a number");
    precision = precision > 400 ? 400 : precision < -400 ? -400 : precision;
    if (str_is(method, "common")) {
        if (a[0].type != V_FLOAT)
            return round_int(r, value_as_int(&a[0]), precision, &v) &&
                   number_from(&a[0], v, out);
        v = value_float(round_half_even(a[0].u.f, (int)precision));
        return number_from(&a[0], v, out);
    }
    double unit = pow(10, (double)precision), f = value_as_float(&a[0]) * unit;
    if (!isfinite(f))
        return jinja_fail(r, "cannot round this number");
    v = value_float((method.p[0] == 'c' ? ceil(f) : floor(f)) / unit);
    return number_from(&a[0], v, out);
}

FILTER(filter_filesize)
{
    static const char *const prefixes = "kMGTPEZY";
    char s[64];
    struct value n = { 0 };
    bool binary;
    struct args none = { 0 };
    (void)args;
    struct value only[2] = { a[0], { .type = V_NONE } };
    if (!filter_float(r, only, &none, &n) || !truth_arg(r, &a[1], &binary))
        return false;
    if (n.type == V_NONE)
        return jinja_fail(r, "filesizeformat needs a number");
    double f = value_as_float(&n), base = binary ? 1024 : 1000, unit = base;
    if (f == 1) {
        *out = value_text("1 Byte");
        return true;
    }
    if (f < base) {
        snprintf(s, sizeof s, "%lld Bytes", (long long)f);
    } else {
        int i = 0;
        for (unit *= base; f >= unit && i < 7; i++)
            unit *= base;
        char prefix = binary && i == 0 ? 'K' : prefixes[i];
        snprintf(s, sizeof s, "%.1f %c%sB", base * f / unit, prefix, binary ? "i" : "");
    }
    struct text t = { .r = r };
    text_lit(&t, s);
    text_made(&t, 0, &n, NULL, 0);
    return text_take(&t, out);
}

FILTER(filter_default)
{
    bool boolean, truth = true;
    (void)args;
    if (!truth_arg(r, &a[2], &boolean) || (boolean && !jinja_truth(r, &a[0], &truth)))
        return false;
    bool use = a[0].type == V_UNDEFINED || !truth;
    *out = !use ? a[0] : value_given(&a[1]) ? a[1] : value_text("");
    return true;
}

FILTER(filter_attr)
{
    struct str name;
    (void)args;
    if (!jinja_str_arg(r, &a[1], &name))
        return false;
    if (a[0].type == V_UNDEFINED)
        return jinja_use_undefined(r, &a[0]);
    struct value object = a[0];
    bool keyed = object.type == V_DICT;
    if (!jinja_attr(r, &object, name, out))
        return false;
    if (keyed && out->type != V_METHOD && out->type != V_UNDEFINED) {
        *out = value_undefined(UNDEF_ATTRIBUTE, name); /* attributes only, no items */
        out->of = object.type;
    }
    return true;
}

const struct builtin jinja_text_filters[] = {
    { "tojson", jinja_tojson, 0, { "ensure_ascii", "indent", "separators", "sort_keys" } },
    { "from_json", jinja_fromjson, 0, { NULL } },
    { "trim", filter_trim, 0, { "chars" } },
    { "default", filter_default, 0, { "default_value", "boolean" } },
    { "d", filter_default, 0, { "default_value", "boolean" } },
    { "string", filter_string, 0, { NULL } },
    { "upper", filter_upper, 0, { NULL } },
    { "lower", filter_lower, 0, { NULL } },
    { "capitalize", filter_capitalize, 0, { NULL } },
    { "title", filter_title, 0, { NULL } },
    { "safe", filter_safe, 0, { NULL } },
    { "escape", filter_escape, 0, { NULL } },
    { "e", filter_escape, 0, { NULL } },
    { "forceescape", filter_forceescape, 0, { NULL } },
    { "striptags", filter_striptags, 0, { NULL } },
    { "urlencode", filter_urlencode, 0, { NULL } },
    { "indent", filter_indent, 0, { "width", "first", "blank" } },
    { "replace", filter_replace, 2, { "old", "new", "count" } },
    { "format", filter_format, -1, { NULL } },
    { "center", filter_center, 0, { "width" } },
    { "truncate", filter_truncate, 0, { "length", "killwords", "end", "leeway" } },
    { "wordcount", filter_wordcount, 0, { NULL } },
    { "int", filter_int, 0, { "default", "base" } },
    { "float", filter_float, 0, { "default" } },
    { "abs", filter_abs, 0, { NULL } },
    { "round", filter_round, 0, { "precision", "method" } },
    { "filesizeformat", filter_filesize, 0, { "binary" } },
    { "attr", filter_attr, 1, { "name" } },
    { NULL, NULL, 0, { NULL } },
};

const struct builtin *jinja_filter(struct str name)
{
    const struct builtin *b = jinja_find(jinja_text_filters, name);
    return b ? b : jinja_find(jinja_sequence_filters, name);
}
