/* tojson as transformers defines it (json.dumps of Python, keys in their order, texts not
 * escaped to ASCII unless asked) and its inverse. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/jinja.h"

struct dump {
    struct text t;
    bool ascii, sort, pretty;
    struct value indent, item, key;
    uint32_t level;
};

static void dump_cp(struct text *t, uint32_t cp)
{
    char hex[16];
    if (cp >= 0x10000) {
        cp -= 0x10000;
        snprintf(hex, sizeof hex, "\\u%04x\\u%04x", (unsigned)(0xD800 + (cp >> 10)),
                 (unsigned)(0xDC00 + (cp & 0x3FF)));
    } else {
        snprintf(hex, sizeof hex, "\\u%04x", (unsigned)cp);
    }
    text_lit(t, hex);
}

static void dump_str(struct dump *d, const struct value *v)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    struct str s = v->u.s;
    size_t plain = 0, n = 1;
    text_char(&d->t, '"');
    for (size_t i = 0; i < s.n; i += n) {
        unsigned char c = (unsigned char)s.p[i];
        n = 1;
        bool escape = c < 0x20 || c == '"' || c == '\\' || (d->ascii && c >= 0x7F);
        if (!escape)
            continue;
        text_from(&d->t, v, s.p + plain, i - plain);
        size_t start = d->t.n;
        const char *known = c ? strchr(from, c) : NULL;
        if (known) {
            text_char(&d->t, '\\');
            text_char(&d->t, to[known - from]);
        } else {
            uint32_t cp;
            n = jinja_utf8(s, i, &cp);
            dump_cp(&d->t, cp);
        }
        text_made(&d->t, start, v, s.p + i, n);
        plain = i + n;
    }
    text_from(&d->t, v, s.p + plain, s.n - plain);
    text_char(&d->t, '"');
}

static void dump_float(struct dump *d, double f)
{
    if (isnan(f))
        text_lit(&d->t, "NaN");
    else if (isinf(f))
        text_lit(&d->t, f > 0 ? "Infinity" : "-Infinity");
    else
        text_float(&d->t, f);
}

static void dump_line(struct dump *d)
{
    text_char(&d->t, '\n');
    for (uint32_t i = 0; i < d->level && !d->t.failed; i++)
        text_all(&d->t, &d->indent);
}

static bool dump_any(struct dump *d, const struct value *v);

static bool dump_list(struct dump *d, const struct list *l)
{
    if (l->n == 0) {
        text_lit(&d->t, "[]");
        return true;
    }
    text_char(&d->t, '[');
    d->level++;
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            text_all(&d->t, &d->item);
        if (d->pretty)
            dump_line(d);
        if (!dump_any(d, &l->v[i]))
            return false;
    }
    d->level--;
    if (d->pretty)
        dump_line(d);
    text_char(&d->t, ']');
    return true;
}

static bool dump_key(struct dump *d, const struct value *k)
{
    struct text t = { .r = d->t.r };
    struct value s = *k;
    if (k->type == V_BOOL)
        s = value_text(k->u.b ? "true" : "false");
    else if (k->type == V_NONE)
        s = value_text("null");
    else if (k->type == V_INT || k->type == V_FLOAT) {
        if (!text_value(&t, k) || !text_take(&t, &s))
            return false;
    } else if (k->type != V_STR)
        return jinja_fail(d->t.r, "keys must be str, int, float, bool or None, not %s",
                          jinja_type_name((enum value_type)k->type));
    s.origin = s.origin || k->origin ? ORIGIN_CONTENT : ORIGIN_TEMPLATE;
    dump_str(d, &s);
    return true;
}

/* Entries sorted by key, in a copy. */
static bool sorted_entries(struct render *r, const struct dict *from, struct dict *to)
{
    struct value *keys = jinja_alloc(r, from->n, sizeof *keys);
    struct value *at = jinja_alloc(r, from->n, sizeof *at);
    struct entry *e = jinja_alloc(r, from->n, sizeof *e);
    if (!keys || !at || !e)
        return false;
    for (size_t i = 0; i < from->n; i++) {
        keys[i] = from->e[i].key;
        at[i] = value_int((int64_t)i);
    }
    if (!jinja_stable_sort(r, keys, at, from->n, false))
        return false;
    for (size_t i = 0; i < from->n; i++)
        e[i] = from->e[at[i].u.i];
    *to = (struct dict){ .e = e, .n = from->n };
    return true;
}

static bool dump_dict(struct dump *d, const struct dict *from)
{
    struct dict sorted = *from;
    if (from->n == 0) {
        text_lit(&d->t, "{}");
        return true;
    }
    if (d->sort && !sorted_entries(d->t.r, from, &sorted))
        return false;
    text_char(&d->t, '{');
    d->level++;
    for (size_t i = 0; i < sorted.n; i++) {
        if (i)
            text_all(&d->t, &d->item);
        if (d->pretty)
            dump_line(d);
        if (!dump_key(d, &sorted.e[i].key))
            return false;
        text_all(&d->t, &d->key);
        if (!dump_any(d, &sorted.e[i].value))
            return false;
    }
    d->level--;
    if (d->pretty)
        dump_line(d);
    text_char(&d->t, '}');
    return true;
}

static bool dump_any(struct dump *d, const struct value *v)
{
    struct render *r = d->t.r;
    size_t start = d->t.n;
    bool ok = jinja_deeper(r) && jinja_spend(r, 1);
    switch ((enum value_type)v->type) {
    case V_STR:
        dump_str(d, v);
        break;
    case V_NONE:
        text_lit(&d->t, "null");
        break;
    case V_BOOL:
        text_lit(&d->t, v->u.b ? "true" : "false");
        break;
    case V_INT:
        ok = ok && text_value(&d->t, v);
        break;
    case V_FLOAT:
        dump_float(d, v->u.f);
        break;
    case V_LIST:
    case V_TUPLE:
        ok = ok && dump_list(d, v->u.list);
        break;
    case V_DICT:
        ok = ok && dump_dict(d, v->u.dict);
        break;
    default:
        ok = jinja_fail(r, "Object of type %s is not JSON serializable",
                        jinja_type_name((enum value_type)v->type));
    }
    r->walk--;
    if (v->type == V_NONE || value_is_number(v))
        text_made(&d->t, start, v, NULL, 0);
    return ok && !d->t.failed;
}

static bool dump_separators(struct dump *d, const struct value *v)
{
    struct list l;
    if (!value_given(v) || v->type == V_NONE) {
        d->item = value_text(d->pretty ? "," : ", ");
        d->key = value_text(": ");
        return true;
    }
    if (!jinja_collect(d->t.r, v, &l))
        return false;
    if (l.n != 2)
        return jinja_fail(d->t.r, "separators must be two strings");
    struct str s;
    d->item = l.v[0];
    d->key = l.v[1];
    return jinja_str_arg(d->t.r, &d->item, &s) && jinja_str_arg(d->t.r, &d->key, &s);
}

static bool dump_indent(struct dump *d, const struct value *v)
{
    int64_t n = 0;
    struct text t = { .r = d->t.r };
    if (!value_given(v) || v->type == V_NONE)
        return true;
    d->pretty = true;
    d->indent = *v;
    if (v->type == V_STR)
        return true;
    if (!jinja_int_arg(d->t.r, v, 0, &n))
        return false;
    text_fill(&t, ' ', n);
    return text_take(&t, &d->indent);
}

/* a: value, ensure_ascii, indent, separators, sort_keys */
bool jinja_tojson(struct render *r, const struct value *a, const struct args *args,
                  struct value *out)
{
    struct dump d = { .t = { .r = r } };
    (void)args;
    return (!value_given(&a[1]) || jinja_truth(r, &a[1], &d.ascii)) &&
           (!value_given(&a[4]) || jinja_truth(r, &a[4], &d.sort)) && dump_indent(&d, &a[2]) &&
           dump_separators(&d, &a[3]) && dump_any(&d, &a[0]) && text_take(&d.t, out);
}

/* ---- from_json: as json.loads, straight into values ---- */

struct load_json {
    struct render *r;
    const struct value *v; /* the document */
    struct str s;          /* its text */
    size_t at;
};

static bool load_any(struct load_json *l, struct value *out);

static bool load_fail(struct load_json *l, const char *expected)
{
    return jinja_fail(l->r, "from_json: expected %s at byte %zu", expected, l->at);
}

static char load_peek(struct load_json *l)
{
    while (l->at < l->s.n && l->s.p[l->at] && strchr(" \t\n\r", l->s.p[l->at]))
        l->at++;
    return l->at < l->s.n ? l->s.p[l->at] : '\0';
}

static bool load_hex(struct load_json *l, uint32_t *cp)
{
    *cp = 0;
    for (int i = 0; i < 4; i++, l->at++) {
        char c = l->at < l->s.n ? l->s.p[l->at] : '\0';
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                            : 16;
        if (d == 16)
            return load_fail(l, "four hexadecimal digits");
        *cp = *cp * 16 + d;
    }
    return true;
}

static bool load_escape(struct load_json *l, struct text *t)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = l->at < l->s.n ? l->s.p[l->at++] : '\0';
    const char *known = c ? strchr(from, c) : NULL;
    uint32_t cp, low;
    if (known) {
        text_char(t, to[known - from]);
        return true;
    }
    if (c != 'u')
        return load_fail(l, "an escape");
    if (!load_hex(l, &cp))
        return false;
    if (cp >= 0xD800 && cp < 0xDC00 &&
        str_starts((struct str){ l->s.p + l->at, l->s.n - l->at }, STR("\\u"))) {
        l->at += 2;
        if (!load_hex(l, &low))
            return false;
        cp = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00)
                                           : 0xD800;
    }
    if (cp >= 0xD800 && cp < 0xE000)
        return load_fail(l, "no lone surrogate");
    text_cp(t, cp);
    return true;
}

/* l->at is after the quote. */
static bool load_str(struct load_json *l, struct value *out)
{
    struct text t = { .r = l->r };
    size_t plain = l->at;
    for (;;) {
        char c = l->at < l->s.n ? l->s.p[l->at] : '\0';
        if ((unsigned char)c < 0x20)
            return load_fail(l, "the end of a string");
        l->at++;
        if (c != '"' && c != '\\')
            continue;
        text_from(&t, l->v, l->s.p + plain, l->at - 1 - plain);
        if (c == '"')
            return text_take(&t, out);
        size_t start = t.n, from = l->at;
        if (!load_escape(l, &t))
            return false;
        text_made(&t, start, l->v, l->s.p + from, l->at - from);
        plain = l->at;
    }
}

static bool load_digits(struct load_json *l)
{
    size_t start = l->at;
    while (l->at < l->s.n && l->s.p[l->at] >= '0' && l->s.p[l->at] <= '9')
        l->at++;
    return l->at > start || load_fail(l, "a digit");
}

static bool load_at(const struct load_json *l, const char *set)
{
    return l->at < l->s.n && l->s.p[l->at] && strchr(set, l->s.p[l->at]);
}

static bool load_number(struct load_json *l, struct value *out)
{
    size_t start = l->at;
    bool whole = true, big = false;
    l->at += load_at(l, "-");
    if (load_at(l, "0"))
        l->at++;
    else if (!load_digits(l))
        return false;
    if (load_at(l, ".")) {
        whole = false;
        l->at++;
        if (!load_digits(l))
            return false;
    }
    if (load_at(l, "eE")) {
        whole = false;
        l->at++;
        l->at += load_at(l, "+-");
        if (!load_digits(l))
            return false;
    }
    struct str s = { l->s.p + start, l->at - start };
    *out = whole ? value_int(0) : value_float(0);
    if (whole ? !jinja_parse_int(s, 10, &out->u.i, &big) || big
              : !jinja_parse_float(s, &out->u.f))
        return load_fail(l, "a number of usual size");
    return true;
}

static bool load_list(struct load_json *l, struct value *out)
{
    struct gather g = { .r = l->r };
    struct value v;
    if (load_peek(l) == ']')
        l->at++;
    else
        for (char c = ','; c != ']';) {
            if (!load_any(l, &v) || !jinja_gather(&g, &v))
                return false;
            c = load_peek(l);
            if (c != ',' && c != ']')
                return load_fail(l, "',' or ']'");
            l->at++;
        }
    return jinja_list(l->r, (struct list){ g.v, g.n }, V_LIST, out);
}

static bool load_pair(struct load_json *l, struct dict *d)
{
    struct value key, v;
    if (load_peek(l) != '"')
        return load_fail(l, "a key in quotes");
    l->at++;
    if (!load_str(l, &key))
        return false;
    if (load_peek(l) != ':')
        return load_fail(l, "':'");
    l->at++;
    return load_any(l, &v) && jinja_dict_put(l->r, d, &key, &v);
}

static bool load_dict(struct load_json *l, struct value *out)
{
    struct dict *d = jinja_dict(l->r, 0);
    if (!d)
        return false;
    if (load_peek(l) == '}')
        l->at++;
    else
        for (char c = ','; c != '}';) {
            if (!load_pair(l, d))
                return false;
            c = load_peek(l);
            if (c != ',' && c != '}')
                return load_fail(l, "',' or '}'");
            l->at++;
        }
    *out = (struct value){ .type = V_DICT, .u.dict = d };
    return true;
}

static bool load_word(struct load_json *l, struct value *out)
{
    const struct {
        struct str word;
        struct value v;
    } words[] = {
        { STR("null"), value_none() },        { STR("true"), value_bool(true) },
        { STR("false"), value_bool(false) },  { STR("NaN"), value_float(NAN) },
        { STR("Infinity"), value_float(INFINITY) },
        { STR("-Infinity"), value_float(-INFINITY) },
    };
    struct str rest = { l->s.p + l->at, l->s.n - l->at };
    size_t start = l->at;
    bool ok = false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!ok && str_starts(rest, words[i].word)) {
            *out = words[i].v;
            l->at += words[i].word.n;
            ok = true;
        }
    if (!ok && !load_number(l, out))
        return false;
    if (origin_touches(l->r, l->v, rest.p, l->at - start))
        out->origin = ORIGIN_CONTENT;
    return true;
}

static bool load_any(struct load_json *l, struct value *out)
{
    bool ok = jinja_deeper(l->r) && jinja_spend(l->r, 1);
    char c = load_peek(l);
    l->at += c == '{' || c == '[' || c == '"';
    ok = ok && (c == '{'   ? load_dict(l, out)
                : c == '[' ? load_list(l, out)
                : c == '"' ? load_str(l, out)
                           : load_word(l, out));
    l->r->walk--;
    return ok;
}

bool jinja_fromjson(struct render *r, const struct value *a, const struct args *args,
                    struct value *out)
{
    struct load_json l = { .r = r, .v = &a[0] };
    (void)args;
    if (!jinja_str_arg(r, &a[0], &l.s) || !jinja_spend_bytes(r, l.s.n) || !load_any(&l, out))
        return false;
    load_peek(&l);
    return l.at == l.s.n || load_fail(&l, "the end");
}
