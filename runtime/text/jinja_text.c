/* Texts that grow, and values as str() and repr() print them. */
#include <stdio.h>
#include <string.h>

#include "runtime/text/jinja.h"

void text_put(struct text *t, const char *p, size_t n)
{
    if (t->failed || n == 0)
        return;
    if (n > t->cap - t->n) {
        size_t cap = t->cap ? t->cap * 2 : 64;
        while (cap < t->n + n)
            cap *= 2;
        char *more = jinja_alloc(t->r, cap, 1);
        if (!more) {
            t->failed = true;
            return;
        }
        if (t->n)
            memcpy(more, t->p, t->n);
        t->p = more;
        t->cap = cap;
    }
    memcpy(t->p + t->n, p, n);
    t->n += n;
}

void text_from(struct text *t, const struct value *v, const char *p, size_t n)
{
    if (v->origin && !t->failed && !origin_copy(t->r, &t->content, t->n, v, p, n))
        t->failed = true;
    text_put(t, p, n);
}

void text_all(struct text *t, const struct value *v)
{
    text_from(t, v, v->u.s.p, v->u.s.n);
}

void text_made(struct text *t, size_t start, const struct value *v, const char *p, size_t n)
{
    if (v->origin && !t->failed && origin_touches(t->r, v, p, n) &&
        !origin_add(t->r, &t->content, start, t->n))
        t->failed = true;
}

void text_str(struct text *t, struct str s)
{
    text_put(t, s.p, s.n);
}

void text_lit(struct text *t, const char *s)
{
    text_put(t, s, strlen(s));
}

void text_char(struct text *t, char c)
{
    text_put(t, &c, 1);
}

void text_cp(struct text *t, uint32_t cp)
{
    char utf8[4];
    text_put(t, utf8, utf8_put(cp, utf8));
}

void text_fill(struct text *t, uint32_t cp, int64_t n)
{
    if (n > 0 && !jinja_spend(t->r, n / JINJA_STEP_BYTES))
        t->failed = true;
    for (; n > 0 && !t->failed; n--)
        text_cp(t, cp);
}

bool text_take(struct text *t, struct value *out)
{
    if (t->failed)
        return false;
    *out = value_str((struct str){ t->p ? t->p : "", t->n });
    return origin_take(t->r, t->p, t->n, &t->content, &out->origin) &&
           jinja_spend_bytes(t->r, t->n);
}

static void repr_escape(struct text *t, uint32_t cp)
{
    char hex[12];
    const char *fmt = cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x";
    snprintf(hex, sizeof hex, fmt, (unsigned)cp);
    text_lit(t, hex);
}

static void repr_char(struct text *t, uint32_t cp)
{
    static const char from[] = "\n\r\t", to[] = "nrt";
    const char *known = cp < 0x80 ? memchr(from, (int)cp, sizeof from - 1) : NULL;
    if (known) {
        text_char(t, '\\');
        text_char(t, to[known - from]);
    } else {
        repr_escape(t, cp);
    }
}

static void repr_str(struct text *t, const struct value *v)
{
    struct str s = v->u.s;
    bool single = memchr(s.p, '\'', s.n), twice = memchr(s.p, '"', s.n);
    char quote = single && !twice ? '"' : '\'';
    text_char(t, quote);
    for (size_t i = 0; i < s.n && !t->failed;) {
        uint32_t cp;
        size_t n = jinja_utf8(s, i, &cp), start = t->n;
        bool quoted = cp == (uint32_t)quote || cp == '\\';
        if (quoted)
            text_char(t, '\\');
        if (quoted || jinja_is_printable(cp))
            text_put(t, s.p + i, n);
        else
            repr_char(t, cp);
        text_made(t, start, v, s.p + i, n);
        i += n;
    }
    text_char(t, quote);
}

static bool repr_list(struct text *t, const struct list *l, bool tuple)
{
    text_char(t, tuple ? '(' : '[');
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            text_lit(t, ", ");
        if (!text_repr(t, &l->v[i]))
            return false;
    }
    if (tuple && l->n == 1)
        text_char(t, ',');
    text_char(t, tuple ? ')' : ']');
    return true;
}

static bool repr_dict(struct text *t, const struct dict *d)
{
    text_char(t, '{');
    for (size_t i = 0; i < d->n; i++) {
        if (i)
            text_lit(t, ", ");
        if (!text_repr(t, &d->e[i].key))
            return false;
        text_lit(t, ": ");
        if (!text_repr(t, &d->e[i].value))
            return false;
    }
    text_char(t, '}');
    return true;
}

static bool repr_view(struct text *t, const struct value *v)
{
    static const char *const names[] = { "dict_keys(", "dict_values(", "dict_items(" };
    struct list l;
    text_lit(t, names[v->reason]);
    if (!jinja_collect(t->r, v, &l) || !repr_list(t, &l, false))
        return false;
    text_char(t, ')');
    return true;
}

static void repr_range(struct text *t, const struct range *g)
{
    char s[96];
    if (g->step == 1)
        snprintf(s, sizeof s, "range(%lld, %lld)", (long long)g->start, (long long)g->stop);
    else
        snprintf(s, sizeof s, "range(%lld, %lld, %lld)", (long long)g->start, (long long)g->stop,
                 (long long)g->step);
    text_lit(t, s);
}

static bool repr_loop(struct text *t, const struct value *v)
{
    char s[64];
    int64_t n;
    if (!jinja_length(t->r, v, &n))
        return false;
    snprintf(s, sizeof s, "<LoopContext %lld/%lld>", (long long)v->u.loop->index0 + 1,
             (long long)n);
    text_lit(t, s);
    return true;
}

static void repr_int(struct text *t, int64_t i)
{
    char s[24];
    snprintf(s, sizeof s, "%lld", (long long)i);
    text_lit(t, s);
}

static bool repr_any(struct text *t, const struct value *v)
{
    switch ((enum value_type)v->type) {
    case V_NONE:
        text_lit(t, "None");
        return true;
    case V_BOOL:
        text_lit(t, v->u.b ? "True" : "False");
        return true;
    case V_INT:
        repr_int(t, v->u.i);
        return true;
    case V_FLOAT:
        text_float(t, v->u.f);
        return true;
    case V_STR:
        if (v->markup)
            text_lit(t, "Markup(");
        repr_str(t, v);
        if (v->markup)
            text_char(t, ')');
        return true;
    case V_LIST:
    case V_TUPLE:
        return repr_list(t, v->u.list, v->type == V_TUPLE);
    case V_DICT:
        return repr_dict(t, v->u.dict);
    case V_VIEW:
        return repr_view(t, v);
    case V_RANGE:
        repr_range(t, v->u.range);
        return true;
    case V_LOOP:
        return repr_loop(t, v);
    case V_MACRO: {
        struct value name = value_str(v->u.macro->def->name);
        text_lit(t, "<Macro ");
        repr_str(t, &name);
        text_char(t, '>');
        return true;
    }
    case V_NAMESPACE:
        text_lit(t, "<Namespace ");
        if (!repr_dict(t, v->u.dict))
            return false;
        text_char(t, '>');
        return true;
    case V_UNDEFINED:
    case V_MISSING:
        text_lit(t, "Undefined");
        return true;
    default:
        text_char(t, '<');
        text_lit(t, jinja_type_name((enum value_type)v->type));
        text_char(t, '>');
        return true;
    }
}

bool text_repr(struct text *t, const struct value *v)
{
    size_t start = t->n;
    bool ok = jinja_deeper(t->r) && jinja_spend(t->r, 1) && repr_any(t, v);
    t->r->walk--;
    if (v->type == V_NONE || value_is_number(v))
        text_made(t, start, v, NULL, 0);
    return ok && !t->failed;
}

bool text_value(struct text *t, const struct value *v)
{
    if (v->type == V_STR)
        text_all(t, v);
    else if (v->type != V_UNDEFINED)
        return text_repr(t, v);
    return !t->failed;
}

bool jinja_str(struct render *r, const struct value *v, struct value *out)
{
    struct text t = { .r = r };
    if (v->type == V_STR)
        *out = *v;
    else if (v->type == V_UNDEFINED || v->type == V_MISSING)
        *out = value_text("");
    else if (!text_value(&t, v) || !text_take(&t, out))
        return false;
    out->markup = false;
    return true;
}
