/* Filters over sequences. Where Python has a generator, so do we: map, select, items, unique,
 * batch and slice are consumed once, and compute an item when it is asked for. */
#include <string.h>

#include "runtime/text/jinja.h"

#define FILTER(name) \
    static bool name(struct render *r, const struct value *a, const struct args *args, \
                     struct value *out)

static bool truth_arg(struct render *r, const struct value *v, bool *out)
{
    *out = false;
    return !value_given(v) || jinja_truth(r, v, out);
}

static const struct value *keyword(const struct args *args, const char *name)
{
    for (size_t i = 0; i < args->nkw; i++)
        if (str_is(args->kw[i].name, name))
            return &args->kw[i].v;
    return NULL;
}

/* ---- attributes by path: "a.b.0" ---- */

static bool path_step(struct render *r, struct value *v, struct str part)
{
    struct value key = value_str(part);
    bool digits = part.n > 0 && part.n < 19;
    int64_t n = 0;
    for (size_t i = 0; i < part.n && digits; i++) {
        digits = part.p[i] >= '0' && part.p[i] <= '9';
        n = n * 10 + (part.p[i] - '0');
    }
    if (digits)
        key = value_int(n);
    return jinja_item(r, v, &key, v);
}

/* attribute: V_MISSING or None: the item itself. fallback: for what is undefined, or NULL. */
static bool get_path(struct render *r, const struct value *item, const struct value *attribute,
                     const struct value *fallback, struct value *out)
{
    *out = *item;
    if (!value_given(attribute) || attribute->type == V_NONE)
        return true;
    if (attribute->type != V_STR)
        return jinja_item(r, item, attribute, out);
    struct str path = attribute->u.s;
    for (size_t start = 0; start <= path.n;) {
        size_t end = jinja_find_str(path, STR("."), start);
        end = end == SIZE_MAX ? path.n : end;
        struct value before = *out;
        if (!path_step(r, &before, (struct str){ path.p + start, end - start }))
            return false;
        *out = before;
        if (fallback && fallback->type != V_NONE && out->type == V_UNDEFINED)
            *out = *fallback;
        start = end + 1;
    }
    return true;
}

/* Strings compare without case unless asked otherwise. */
static bool fold(struct render *r, bool case_sensitive, struct value *v)
{
    bool markup = v->markup;
    if (case_sensitive || v->type != V_STR)
        return true;
    if (!jinja_case(r, v, CASE_LOWER, v))
        return false;
    v->markup = markup;
    return true;
}

static bool sort_key(struct render *r, const struct value *item, const struct value *attribute,
                     bool case_sensitive, const struct value *fallback, struct value *out)
{
    return get_path(r, item, attribute, fallback, out) && fold(r, case_sensitive, out);
}

/* ---- length, ends, lists ---- */

FILTER(filter_length)
{
    int64_t n;
    (void)args;
    if (!jinja_length(r, &a[0], &n))
        return false;
    *out = value_int(n);
    return true;
}

FILTER(filter_list)
{
    struct list l;
    (void)args;
    return jinja_collect(r, &a[0], &l) && jinja_list(r, l, V_LIST, out);
}

FILTER(filter_first)
{
    struct iter *it = jinja_iter(r, &a[0]);
    (void)args;
    enum iter_step step = it ? jinja_next(r, it, out) : ITER_FAIL;
    if (step == ITER_END)
        *out = value_undefined(UNDEF_HINT, STR("No first item, sequence was empty."));
    return step != ITER_FAIL;
}

FILTER(filter_last)
{
    struct list l;
    (void)args;
    if (a[0].type == V_ITER)
        return jinja_fail(r, "'generator' object is not reversible");
    if (!jinja_collect(r, &a[0], &l))
        return false;
    *out = l.n ? l.v[l.n - 1]
               : value_undefined(UNDEF_HINT, STR("No last item, sequence was empty."));
    return true;
}

FILTER(filter_reverse)
{
    struct list from, to;
    struct value l;
    struct value whole[3] = { value_none(), value_none(), value_int(-1) };
    (void)args;
    if (a[0].type == V_STR) {
        if (!jinja_cut(r, &a[0], whole, out))
            return false;
        return true;
    }
    if (!jinja_collect(r, &a[0], &from))
        return false;
    to = (struct list){ jinja_alloc(r, from.n, sizeof *to.v), from.n };
    if (!to.v)
        return false;
    for (size_t i = 0; i < from.n; i++)
        to.v[i] = from.v[from.n - 1 - i];
    if (!jinja_list(r, to, V_LIST, &l))
        return false;
    struct iter *it = jinja_iter(r, &l);
    *out = (struct value){ .type = V_ITER, .u.iter = it };
    return it != NULL;
}

FILTER(filter_join)
{
    struct text t = { .r = r };
    struct value d = value_text("");
    struct iter *it;
    struct value item, v;
    enum iter_step step = ITER_FAIL;
    size_t n = 0;
    (void)args;
    if ((value_given(&a[1]) && !jinja_str(r, &a[1], &d)) || !(it = jinja_iter(r, &a[0])))
        return false;
    while ((step = jinja_next(r, it, &item)) == ITER_ITEM) {
        if (!get_path(r, &item, &a[2], NULL, &v))
            return false;
        if (n++)
            text_all(&t, &d);
        if (!text_value(&t, &v))
            return false;
    }
    return step == ITER_END && text_take(&t, out);
}

/* ---- dicts ---- */

static enum iter_step next_item(struct render *r, struct iter *it, struct value *out)
{
    if (it->over.type == V_UNDEFINED)
        return ITER_END;
    if (it->over.type != V_DICT) {
        jinja_fail(r, "can only get item pairs from a mapping");
        return ITER_FAIL;
    }
    const struct dict *d = it->over.u.dict;
    if (it->at >= d->n)
        return ITER_END;
    const struct entry *e = &d->e[it->at++];
    return jinja_tuple2(r, e->key, e->value, out) ? ITER_ITEM : ITER_FAIL;
}

FILTER(filter_items)
{
    (void)args;
    return jinja_generator(r, next_item, &a[0], NULL, out);
}

/* case_sensitive=False, by="key", reverse=False */
FILTER(filter_dictsort)
{
    struct str by = STR("key");
    bool sensitive, reverse;
    (void)args;
    if (!truth_arg(r, &a[1], &sensitive) || !truth_arg(r, &a[3], &reverse) ||
        (value_given(&a[2]) && !jinja_str_arg(r, &a[2], &by)))
        return false;
    if (!str_is(by, "key") && !str_is(by, "value"))
        return jinja_fail(r, "you can only sort by either \"key\" or \"value\"");
    if (a[0].type == V_UNDEFINED)
        return jinja_use_undefined(r, &a[0]);
    if (a[0].type != V_DICT)
        return jinja_fail(r, "dictsort needs a mapping, not %s",
                          jinja_type_name((enum value_type)a[0].type));
    const struct dict *d = a[0].u.dict;
    struct list l = { jinja_alloc(r, d->n, sizeof *l.v), d->n };
    struct value *keys = jinja_alloc(r, d->n, sizeof *keys);
    if (!l.v || !keys)
        return false;
    for (size_t i = 0; i < d->n; i++) {
        keys[i] = str_is(by, "key") ? d->e[i].key : d->e[i].value;
        if (!fold(r, sensitive, &keys[i]) ||
            !jinja_tuple2(r, d->e[i].key, d->e[i].value, &l.v[i]))
            return false;
    }
    return jinja_stable_sort(r, keys, l.v, l.n, reverse) && jinja_list(r, l, V_LIST, out);
}

/* ---- sort, unique, min, max, sum, groupby ---- */

/* "a,b" sorts by a, then b: keys are lists. */
static bool sort_keys(struct render *r, const struct value *item, const struct value *attribute,
                      bool sensitive, struct value *out)
{
    struct gather g = { .r = r };
    struct str paths = attribute->type == V_STR ? attribute->u.s : (struct str){ 0 };
    for (size_t start = 0; start <= paths.n;) {
        size_t end = paths.n ? jinja_find_str(paths, STR(","), start) : SIZE_MAX;
        end = end == SIZE_MAX ? paths.n : end;
        struct value part = *attribute, key;
        if (attribute->type == V_STR)
            part = value_str((struct str){ paths.p + start, end - start });
        if (!sort_key(r, item, &part, sensitive, NULL, &key) || !jinja_gather(&g, &key))
            return false;
        start = end + 1;
    }
    return jinja_list(r, (struct list){ g.v, g.n }, V_LIST, out);
}

static bool copy_list(struct render *r, const struct value *v, struct list *out)
{
    struct list from;
    if (!jinja_collect(r, v, &from))
        return false;
    *out = (struct list){ jinja_alloc(r, from.n, sizeof *out->v), from.n };
    if (out->v && from.n)
        memcpy(out->v, from.v, from.n * sizeof *out->v);
    return out->v != NULL;
}

/* reverse=False, case_sensitive=False, attribute=None */
FILTER(filter_sort)
{
    struct list l;
    bool reverse, sensitive;
    (void)args;
    if (!truth_arg(r, &a[1], &reverse) || !truth_arg(r, &a[2], &sensitive) ||
        !copy_list(r, &a[0], &l))
        return false;
    struct value *keys = jinja_alloc(r, l.n, sizeof *keys);
    if (!keys)
        return false;
    for (size_t i = 0; i < l.n; i++)
        if (!sort_keys(r, &l.v[i], &a[3], sensitive, &keys[i]))
            return false;
    return jinja_stable_sort(r, keys, l.v, l.n, reverse) && jinja_list(r, l, V_LIST, out);
}

struct unique {
    struct value attribute;
    bool sensitive;
    struct dict *seen;
};

static enum iter_step next_unique(struct render *r, struct iter *it, struct value *out)
{
    struct unique *u = it->state;
    struct value key, old;
    bool found = true;
    enum iter_step step = ITER_ITEM;
    if (!it->from && !(it->from = jinja_iter(r, &it->over)))
        return ITER_FAIL;
    while (found && (step = jinja_next(r, it->from, out)) == ITER_ITEM)
        if (!sort_key(r, out, &u->attribute, u->sensitive, NULL, &key) ||
            !jinja_dict_find(r, u->seen, &key, &old, &found) ||
            (!found && !jinja_dict_put(r, u->seen, &key, &key)))
            return ITER_FAIL;
    return step;
}

FILTER(filter_unique)
{
    struct unique *u = jinja_alloc(r, 1, sizeof *u);
    (void)args;
    if (!u || !(u->seen = jinja_dict(r, 8)) || !truth_arg(r, &a[1], &u->sensitive))
        return false;
    u->attribute = a[2];
    return jinja_generator(r, next_unique, &a[0], u, out);
}

static bool extreme(struct render *r, const struct value *a, bool max, struct value *out)
{
    struct iter *it = jinja_iter(r, &a[0]);
    struct value item, key, best = { 0 };
    enum iter_step step = ITER_FAIL;
    bool sensitive, better = true, any = false;
    if (!truth_arg(r, &a[1], &sensitive))
        return false;
    while (it && (step = jinja_next(r, it, &item)) == ITER_ITEM) {
        if (!sort_key(r, &item, &a[2], sensitive, NULL, &key) ||
            (any && !jinja_order(r, max ? OP_GT : OP_LT, &key, &best, &better)))
            return false;
        if (better) {
            best = key;
            *out = item;
        }
        any = true;
    }
    if (!any)
        *out = value_undefined(UNDEF_HINT, STR("No aggregated item, sequence was empty."));
    return step == ITER_END;
}

FILTER(filter_min)
{
    (void)args;
    return extreme(r, a, false, out);
}

FILTER(filter_max)
{
    (void)args;
    return extreme(r, a, true, out);
}

/* attribute=None, start=0 */
FILTER(filter_sum)
{
    struct iter *it = jinja_iter(r, &a[0]);
    struct value item, v;
    enum iter_step step = ITER_FAIL;
    (void)args;
    *out = value_given(&a[2]) ? a[2] : value_int(0);
    if (out->type == V_STR)
        return jinja_fail(r, "sum() can't sum strings");
    while (it && (step = jinja_next(r, it, &item)) == ITER_ITEM)
        if (!get_path(r, &item, &a[1], NULL, &v) || !jinja_binary(r, OP_ADD, out, &v, out))
            return false;
    return step == ITER_END;
}

/* attribute, default=None, case_sensitive=False: pairs (key, items). */
FILTER(filter_groupby)
{
    struct gather groups = { .r = r };
    struct list l;
    bool sensitive, same = false;
    (void)args;
    if (!truth_arg(r, &a[3], &sensitive) || !copy_list(r, &a[0], &l))
        return false;
    struct value *keys = jinja_alloc(r, l.n, sizeof *keys);
    const struct value *fallback = value_given(&a[2]) ? &a[2] : NULL;
    if (!keys)
        return false;
    for (size_t i = 0; i < l.n; i++)
        if (!sort_key(r, &l.v[i], &a[1], sensitive, fallback, &keys[i]))
            return false;
    if (!jinja_stable_sort(r, keys, l.v, l.n, false))
        return false;
    for (size_t i = 0, end; i < l.n; i = end) {
        struct value label, items, pair;
        for (end = i + 1; end < l.n; end++) {
            if (!jinja_equal(r, &keys[i], &keys[end], &same))
                return false;
            if (!same)
                break;
        }
        if (!get_path(r, &l.v[i], &a[1], fallback, &label) ||
            !jinja_list(r, (struct list){ l.v + i, end - i }, V_LIST, &items) ||
            !jinja_tuple2(r, label, items, &pair))
            return false;
        pair.reason = 1;
        if (!jinja_gather(&groups, &pair))
            return false;
    }
    return jinja_list(r, (struct list){ groups.v, groups.n }, V_LIST, out);
}

/* ---- map, select, reject ---- */

struct picker {
    const struct builtin *fn; /* filter or test; NULL: attribute, or truth */
    struct args args;
    struct value attribute, fallback;
    bool by_attribute, wanted;
};

static bool copy_args(struct render *r, const struct args *from, size_t skip, struct args *to)
{
    struct value *v = jinja_alloc(r, from->n, sizeof *v);
    struct kwarg *kw = jinja_alloc(r, from->nkw, sizeof *kw);
    if (!v || !kw)
        return false;
    if (from->n > skip)
        memcpy(v, from->v + skip, (from->n - skip) * sizeof *v);
    if (from->nkw)
        memcpy(kw, from->kw, from->nkw * sizeof *kw);
    *to = (struct args){ v, from->n > skip ? from->n - skip : 0, kw, from->nkw };
    return true;
}

static bool named(struct render *r, const struct value *name, bool filter,
                  const struct builtin **out)
{
    struct str s;
    if (!jinja_str_arg(r, name, &s))
        return false;
    *out = filter ? jinja_filter(s) : jinja_test(s);
    return *out || jinja_fail(r, "no %s named '%.*s'", filter ? "filter" : "test",
                              (int)(s.n > 64 ? 64 : s.n), s.p);
}

/* The work that Python does at a generator's first item. */
static bool map_begin(struct render *r, struct iter *it, struct picker *p)
{
    bool truth;
    if (!jinja_truth(r, &it->over, &truth))
        return false;
    if (!truth) {
        it->done = true;
        return true;
    }
    const struct value *attribute = keyword(&p->args, "attribute");
    if (p->args.n == 0 && attribute) {
        const struct value *fallback = keyword(&p->args, "default");
        if (p->args.nkw > 1 + (fallback != NULL))
            return jinja_fail(r, "map: unexpected keyword argument");
        p->by_attribute = true;
        p->attribute = *attribute;
        p->fallback = fallback ? *fallback : value_none();
    } else if (p->args.n == 0) {
        return jinja_fail(r, "map requires a filter argument");
    } else {
        if (!named(r, &p->args.v[0], true, &p->fn))
            return false;
        p->args.v++;
        p->args.n--;
    }
    return (it->from = jinja_iter(r, &it->over)) != NULL;
}

static enum iter_step next_mapped(struct render *r, struct iter *it, struct value *out)
{
    struct picker *p = it->state;
    struct value item;
    if (!it->from && !map_begin(r, it, p))
        return ITER_FAIL;
    if (it->done)
        return ITER_END;
    enum iter_step step = jinja_next(r, it->from, &item);
    if (step != ITER_ITEM)
        return step;
    bool ok = p->by_attribute ? get_path(r, &item, &p->attribute, &p->fallback, out)
                              : jinja_call_builtin(r, p->fn, &item, &p->args, out);
    return ok ? ITER_ITEM : ITER_FAIL;
}

FILTER(filter_map)
{
    struct picker *p = jinja_alloc(r, 1, sizeof *p);
    if (!p)
        return false;
    *p = (struct picker){ 0 };
    return copy_args(r, args, 0, &p->args) && jinja_generator(r, next_mapped, &a[0], p, out);
}

static bool select_begin(struct render *r, struct iter *it, struct picker *p)
{
    bool truth;
    if (!jinja_truth(r, &it->over, &truth))
        return false;
    if (!truth) {
        it->done = true;
        return true;
    }
    if (p->by_attribute) {
        if (p->args.n == 0)
            return jinja_fail(r, "missing parameter for attribute name");
        p->attribute = *p->args.v++;
        p->args.n--;
    }
    if (p->args.n) {
        if (!named(r, p->args.v, false, &p->fn))
            return false;
        p->args.v++;
        p->args.n--;
    }
    return (it->from = jinja_iter(r, &it->over)) != NULL;
}

static enum iter_step next_selected(struct render *r, struct iter *it, struct value *out)
{
    struct picker *p = it->state;
    enum iter_step step = ITER_FAIL;
    if (!it->from && !select_begin(r, it, p))
        return ITER_FAIL;
    if (it->done)
        return ITER_END;
    while ((step = jinja_next(r, it->from, out)) == ITER_ITEM) {
        struct value v = *out, result;
        bool truth;
        if (p->by_attribute && !get_path(r, out, &p->attribute, NULL, &v))
            return ITER_FAIL;
        result = v;
        if ((p->fn && !jinja_call_builtin(r, p->fn, &v, &p->args, &result)) ||
            !jinja_truth(r, &result, &truth))
            return ITER_FAIL;
        if (truth == p->wanted)
            break;
    }
    return step;
}

static bool select_filter(struct render *r, const struct value *v, const struct args *args,
                          bool by_attribute, bool wanted, struct value *out)
{
    struct picker *p = jinja_alloc(r, 1, sizeof *p);
    if (!p)
        return false;
    *p = (struct picker){ .by_attribute = by_attribute, .wanted = wanted };
    return copy_args(r, args, 0, &p->args) && jinja_generator(r, next_selected, v, p, out);
}

FILTER(filter_select)
{
    return select_filter(r, &a[0], args, false, true, out);
}

FILTER(filter_reject)
{
    return select_filter(r, &a[0], args, false, false, out);
}

FILTER(filter_selectattr)
{
    return select_filter(r, &a[0], args, true, true, out);
}

FILTER(filter_rejectattr)
{
    return select_filter(r, &a[0], args, true, false, out);
}

/* ---- batch, slice ---- */

struct cutter {
    int64_t n, at;
    struct value fill;
    struct list items;
    bool begun;
};

static bool fill_up(struct gather *g, const struct cutter *c, size_t n)
{
    while (value_given(&c->fill) && c->fill.type != V_NONE && g->n < n)
        if (!jinja_spend(g->r, 1) || !jinja_gather(g, &c->fill))
            return false;
    return true;
}

static enum iter_step next_batch(struct render *r, struct iter *it, struct value *out)
{
    struct cutter *c = it->state;
    struct gather g = { .r = r };
    struct value item;
    enum iter_step step = ITER_ITEM;
    if (!it->from && !(it->from = jinja_iter(r, &it->over)))
        return ITER_FAIL;
    /* a count of 0 never matches: one batch of all */
    while ((c->n <= 0 || (int64_t)g.n < c->n) &&
           (step = jinja_next(r, it->from, &item)) == ITER_ITEM)
        if (!jinja_gather(&g, &item))
            return ITER_FAIL;
    if (step == ITER_FAIL || g.n == 0)
        return step == ITER_FAIL ? ITER_FAIL : ITER_END;
    if (c->n > 0 && !fill_up(&g, c, (size_t)c->n))
        return ITER_FAIL;
    return jinja_list(r, (struct list){ g.v, g.n }, V_LIST, out) ? ITER_ITEM : ITER_FAIL;
}

static enum iter_step next_slice(struct render *r, struct iter *it, struct value *out)
{
    struct cutter *c = it->state;
    if (!c->begun && !jinja_collect(r, &it->over, &c->items))
        return ITER_FAIL;
    c->begun = true;
    if (c->n == 0) {
        jinja_fail(r, "integer division or modulo by zero");
        return ITER_FAIL;
    }
    if (c->at >= c->n)
        return ITER_END;
    size_t n = (size_t)c->n, i = (size_t)c->at++;
    size_t each = c->items.n / n, extra = c->items.n % n;
    size_t start = i * each + (i < extra ? i : extra), count = each + (i < extra);
    struct gather g = { .r = r };
    for (size_t k = 0; k < count; k++)
        if (!jinja_gather(&g, &c->items.v[start + k]))
            return ITER_FAIL;
    if (i >= extra && !fill_up(&g, c, g.n + 1))
        return ITER_FAIL;
    return jinja_list(r, (struct list){ g.v, g.n }, V_LIST, out) ? ITER_ITEM : ITER_FAIL;
}

static bool cut_filter(struct render *r, const struct value *a,
                       enum iter_step (*next)(struct render *, struct iter *, struct value *),
                       struct value *out)
{
    struct cutter *c = jinja_alloc(r, 1, sizeof *c);
    if (!c)
        return false;
    *c = (struct cutter){ .fill = a[2] };
    return jinja_int_arg(r, &a[1], 0, &c->n) && jinja_generator(r, next, &a[0], c, out);
}

FILTER(filter_batch)
{
    (void)args;
    return cut_filter(r, a, next_batch, out);
}

FILTER(filter_slice)
{
    (void)args;
    return cut_filter(r, a, next_slice, out);
}

const struct builtin jinja_sequence_filters[] = {
    { "length", filter_length, 0, { NULL } },
    { "count", filter_length, 0, { NULL } },
    { "join", filter_join, 0, { "d", "attribute" } },
    { "items", filter_items, 0, { NULL } },
    { "list", filter_list, 0, { NULL } },
    { "first", filter_first, 0, { NULL } },
    { "last", filter_last, 0, { NULL } },
    { "reverse", filter_reverse, 0, { NULL } },
    { "dictsort", filter_dictsort, 0, { "case_sensitive", "by", "reverse" } },
    { "sort", filter_sort, 0, { "reverse", "case_sensitive", "attribute" } },
    { "unique", filter_unique, 0, { "case_sensitive", "attribute" } },
    { "min", filter_min, 0, { "case_sensitive", "attribute" } },
    { "max", filter_max, 0, { "case_sensitive", "attribute" } },
    { "sum", filter_sum, 0, { "attribute", "start" } },
    { "groupby", filter_groupby, 1, { "attribute", "default", "case_sensitive" } },
    { "map", filter_map, -1, { NULL } },
    { "select", filter_select, -1, { NULL } },
    { "reject", filter_reject, -1, { NULL } },
    { "selectattr", filter_selectattr, -1, { NULL } },
    { "rejectattr", filter_rejectattr, -1, { NULL } },
    { "batch", filter_batch, 1, { "linecount", "fill_with" } },
    { "slice", filter_slice, 1, { "slices", "fill_with" } },
    { NULL, NULL, 0, { NULL } },
};
