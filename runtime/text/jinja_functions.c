/* Functions that a template can call by name. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/text/jinja.h"

#define FUNCTION(name) \
    static bool name(struct render *r, const struct value *a, const struct args *args, \
                     struct value *out)

#define RANGE_MOST 100000 /* as Jinja's sandbox has it */

FUNCTION(fn_range)
{
    int64_t v[3] = { 0, 0, 1 }, span;
    (void)a;
    if (args->n < 1 || args->n > 3 || args->nkw)
        return jinja_fail(r, "range expected 1 to 3 arguments, got %zu", args->n);
    for (size_t i = 0; i < args->n; i++)
        if (!jinja_int_arg(r, &args->v[i], 0, &v[args->n == 1 ? 1 : i]))
            return false;
    if (v[2] == 0)
        return jinja_fail(r, "range() arg 3 must not be zero");
    struct range *g = jinja_alloc(r, 1, sizeof *g);
    if (!g)
        return false;
    bool over = v[2] > 0 ? __builtin_sub_overflow(v[1], v[0], &span)
                         : __builtin_sub_overflow(v[0], v[1], &span);
    if (v[2] == INT64_MIN)
        v[2]++;
    int64_t step = v[2] > 0 ? v[2] : -v[2];
    *g = (struct range){ v[0], v[1], v[2], over || span <= 0 ? 0 : (span - 1) / step + 1 };
    if (over ? v[2] > 0 ? v[1] > v[0] : v[0] > v[1] : g->n > RANGE_MOST)
        return jinja_fail(r, "range too big: at most %d items", RANGE_MOST);
    *out = (struct value){ .type = V_RANGE, .u.range = g };
    return true;
}

static bool put_pair(struct render *r, struct dict *d, const struct value *pair)
{
    struct list l;
    if (!jinja_collect(r, pair, &l))
        return false;
    if (l.n != 2)
        return jinja_fail(r, "a sequence of pairs is required");
    return jinja_dict_put(r, d, &l.v[0], &l.v[1]);
}

/* dict(mapping or pairs, key=value, ...) */
static bool make_dict(struct render *r, const struct args *args, struct value *out)
{
    struct dict *d = jinja_dict(r, args->nkw);
    if (!d)
        return false;
    if (args->n > 1)
        return jinja_fail(r, "dict expected at most 1 argument, got %zu", args->n);
    if (args->n && args->v[0].type == V_DICT) {
        const struct dict *from = args->v[0].u.dict;
        for (size_t i = 0; i < from->n; i++)
            if (!jinja_dict_put(r, d, &from->e[i].key, &from->e[i].value))
                return false;
    } else if (args->n) {
        struct list l;
        if (!jinja_collect(r, &args->v[0], &l))
            return false;
        for (size_t i = 0; i < l.n; i++)
            if (!put_pair(r, d, &l.v[i]))
                return false;
    }
    for (size_t i = 0; i < args->nkw; i++) {
        struct value key = value_key(&args->kw[i]);
        if (!jinja_dict_put(r, d, &key, &args->kw[i].v))
            return false;
    }
    *out = (struct value){ .type = V_DICT, .u.dict = d };
    return true;
}

FUNCTION(fn_dict)
{
    (void)a;
    return make_dict(r, args, out);
}

FUNCTION(fn_namespace)
{
    (void)a;
    if (!make_dict(r, args, out))
        return false;
    out->type = V_NAMESPACE;
    return true;
}

FUNCTION(fn_raise)
{
    struct value text;
    (void)args, (void)out;
    if (!jinja_str(r, &a[1], &text))
        return false;
    struct str s = text.u.s;
    size_t n = s.n > 400 ? utf8_complete(s.p, 400) : s.n;
    return jinja_fail(r, "%.*s", (int)n, s.p);
}

/* %z and %Z are empty (the time has no zone), %f is 000000; the rest is the C library's. */
static bool time_format(struct render *r, struct str from, struct value *out)
{
    struct text t = { .r = r };
    for (size_t i = 0; i < from.n; i++) {
        char c = from.p[i], k = i + 1 < from.n ? from.p[i + 1] : '\0';
        if (c != '%') {
            text_char(&t, c);
            continue;
        }
        i++;
        if (k == 'f')
            text_lit(&t, "000000");
        else if (k != 'z' && k != 'Z') {
            text_char(&t, '%');
            if (k)
                text_char(&t, k);
        }
    }
    text_char(&t, '\0');
    return text_take(&t, out);
}

FUNCTION(fn_strftime)
{
    struct value format;
    struct str s;
    struct tm tm;
    time_t now = (time_t)r->now;
    (void)args;
    if (!jinja_str_arg(r, &a[1], &s) || !time_format(r, s, &format))
        return false;
    if (s.n > 4096 || memchr(s.p, '\0', s.n))
        return jinja_fail(r, "a time format that is too long or holds a NUL");
    if (!localtime_r(&now, &tm))
        return jinja_fail(r, "strftime_now: the time is out of range");
    size_t cap = format.u.s.n * 64 + 64;
    char *p = jinja_alloc(r, cap, 1);
    if (!p)
        return false;
    /* The format is the template's: its text goes nowhere but into this buffer. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(p, cap, format.u.s.p, &tm);
#pragma GCC diagnostic pop
    *out = value_str((struct str){ p, n });
    out->origin = origin_touches(r, &a[1], s.p, s.n) ? ORIGIN_CONTENT : ORIGIN_TEMPLATE;
    return true;
}

FUNCTION(fn_cycler)
{
    (void)a;
    if (args->n == 0 || args->nkw)
        return jinja_fail(r, "at least one item has to be provided");
    struct cycler *c = jinja_alloc(r, 1, sizeof *c);
    struct value *v = jinja_alloc(r, args->n, sizeof *v);
    if (!c || !v)
        return false;
    memcpy(v, args->v, args->n * sizeof *v);
    *c = (struct cycler){ .items = { v, args->n } };
    *out = (struct value){ .type = V_CYCLER, .u.cycler = c };
    return true;
}

FUNCTION(fn_joiner)
{
    struct joiner *j = jinja_alloc(r, 1, sizeof *j);
    struct str s;
    (void)args;
    if (!j)
        return false;
    *j = (struct joiner){ .separator = value_given(&a[1]) ? a[1] : value_text(", ") };
    *out = (struct value){ .type = V_JOINER, .u.joiner = j };
    return jinja_str_arg(r, &j->separator, &s);
}

static const struct builtin functions[] = {
    { "range", fn_range, -1, { NULL } },
    { "dict", fn_dict, -1, { NULL } },
    { "namespace", fn_namespace, -1, { NULL } },
    { "raise_exception", fn_raise, 1, { "message" } },
    { "strftime_now", fn_strftime, 1, { "format" } },
    { "cycler", fn_cycler, -1, { NULL } },
    { "joiner", fn_joiner, 0, { "sep" } },
    { NULL, NULL, 0, { NULL } },
};

const struct builtin *jinja_function(struct str name)
{
    return jinja_find(functions, name);
}
