/* tojson as transformers defines it (json.dumps of Python, keys in their order, texts not
 * escaped to ASCII unless asked) and its inverse. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/jinja.h"

struct dump {
    struct text t;
    bool ascii, sort, pretty;
    struct str indent, item, key;
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

static void dump_str(struct dump *d, struct str s)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    size_t plain = 0, n = 1;
    text_char(&d->t, '"');
    for (size_t i = 0; i < s.n; i += n) {
        unsigned char c = (unsigned char)s.p[i];
        n = 1;
        bool escape = c < 0x20 || c == '"' || c == '\\' || (d->ascii && c >= 0x7F);
        if (!escape)
            continue;
        text_put(&d->t, s.p + plain, i - plain);
        const char *known = c ? strchr(from, c) : NULL;
        if (known) {
            text_char(&d->t, '\\');
            text_char(&d->t, to[known - from]);
        } else {
            uint32_t cp;
            n = jinja_utf8(s, i, &cp);
            dump_cp(&d->t, cp);
        }
        plain = i + n;
    }
    text_put(&d->t, s.p + plain, s.n - plain);
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
        text_str(&d->t, d->indent);
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
            text_str(&d->t, d->item);
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
    dump_str(d, s.u.s);
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
            text_str(&d->t, d->item);
        if (d->pretty)
            dump_line(d);
        if (!dump_key(d, &sorted.e[i].key))
            return false;
        text_str(&d->t, d->key);
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
    bool ok = jinja_deeper(r) && jinja_spend(r, 1);
    switch ((enum value_type)v->type) {
    case V_STR:
        dump_str(d, v->u.s);
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
    return ok && !d->t.failed;
}

static bool dump_separators(struct dump *d, const struct value *v)
{
    struct list l;
    if (!value_given(v) || v->type == V_NONE) {
        d->item = d->pretty ? STR(",") : STR(", ");
        d->key = STR(": ");
        return true;
    }
    if (!jinja_collect(d->t.r, v, &l))
        return false;
    if (l.n != 2)
        return jinja_fail(d->t.r, "separators must be two strings");
    return jinja_str_arg(d->t.r, &l.v[0], &d->item) && jinja_str_arg(d->t.r, &l.v[1], &d->key);
}

static bool dump_indent(struct dump *d, const struct value *v)
{
    int64_t n = 0;
    struct text t = { .r = d->t.r };
    struct value s;
    if (!value_given(v) || v->type == V_NONE)
        return true;
    d->pretty = true;
    if (v->type == V_STR) {
        d->indent = v->u.s;
        return true;
    }
    if (!jinja_int_arg(d->t.r, v, 0, &n))
        return false;
    text_fill(&t, ' ', n);
    if (!text_take(&t, &s))
        return false;
    d->indent = s.u.s;
    return true;
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

bool jinja_fromjson(struct render *r, const struct value *a, const struct args *args,
                    struct value *out)
{
    json_t *j = NULL;
    struct str s;
    (void)args;
    if (!jinja_str_arg(r, &a[0], &s) || !jinja_spend_bytes(r, s.n * 4))
        return false;
    enum err_code code = json_read(s, CHAT_TEMPLATE_MAX_SOURCE, "from_json", &j, &r->err);
    if (code) {
        r->code = code == ERR_NO_MEMORY ? code : ERR_INVALID;
        r->err.code = r->code;
        return false;
    }
    bool ok = jinja_from_json(r, j, true, out);
    json_decref(j);
    return ok;
}
