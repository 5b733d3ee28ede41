/* Iteration, generators, and the order of lists. */
#include <string.h>

#include "runtime/text/jinja.h"

static enum iter_step next_list(struct render *r, struct iter *it, struct value *out)
{
    (void)r;
    if (it->at >= it->over.u.list->n)
        return ITER_END;
    *out = it->over.u.list->v[it->at++];
    return ITER_ITEM;
}

static enum iter_step next_dict(struct render *r, struct iter *it, struct value *out)
{
    const struct dict *d = it->over.u.dict;
    uint8_t what = it->over.type == V_VIEW ? it->over.reason : 0;
    if (it->at >= d->n)
        return ITER_END;
    const struct entry *e = &d->e[it->at++];
    if (what == 2)
        return jinja_tuple2(r, e->key, e->value, out) ? ITER_ITEM : ITER_FAIL;
    *out = what ? e->value : e->key;
    return ITER_ITEM;
}

static enum iter_step next_char(struct render *r, struct iter *it, struct value *out)
{
    (void)r;
    struct str s = it->over.u.s;
    uint32_t cp;
    if (it->at >= s.n)
        return ITER_END;
    size_t n = jinja_utf8(s, it->at, &cp);
    *out = value_part(&it->over, (struct str){ s.p + it->at, n });
    out->markup = false;
    it->at += n;
    return ITER_ITEM;
}

static enum iter_step next_range(struct render *r, struct iter *it, struct value *out)
{
    (void)r;
    const struct range *g = it->over.u.range;
    if ((int64_t)it->at >= g->n)
        return ITER_END;
    *out = value_int(g->start + (int64_t)it->at++ * g->step);
    return ITER_ITEM;
}

static enum iter_step next_nothing(struct render *r, struct iter *it, struct value *out)
{
    (void)r, (void)it, (void)out;
    return ITER_END;
}

typedef enum iter_step next_fn(struct render *r, struct iter *it, struct value *out);

static next_fn *next_of(const struct value *v)
{
    switch ((enum value_type)v->type) {
    case V_UNDEFINED:
        return next_nothing;
    case V_LIST:
    case V_TUPLE:
        return next_list;
    case V_DICT:
    case V_VIEW:
        return next_dict;
    case V_STR:
        return next_char;
    case V_RANGE:
        return next_range;
    default:
        return NULL;
    }
}

bool jinja_iterable(const struct value *v)
{
    return v->type == V_ITER || next_of(v);
}

struct iter *jinja_iter(struct render *r, const struct value *v)
{
    if (v->type == V_ITER)
        return v->u.iter;
    if (!next_of(v)) {
        jinja_fail(r, "'%s' object is not iterable", jinja_type_name((enum value_type)v->type));
        return NULL;
    }
    struct iter *it = jinja_alloc(r, 1, sizeof *it);
    if (it)
        *it = (struct iter){ .next = next_of(v), .over = *v };
    return it;
}

enum iter_step jinja_next(struct render *r, struct iter *it, struct value *out)
{
    if (it->done)
        return ITER_END;
    enum iter_step step = ITER_FAIL;
    if (++r->depth > JINJA_MAX_DEPTH) /* generators over generators */
        jinja_too_large(r, "the template recurses too deeply");
    else if (jinja_spend(r, 1))
        step = it->next(r, it, out);
    r->depth--;
    it->done = step != ITER_ITEM;
    return step;
}

bool jinja_collect(struct render *r, const struct value *v, struct list *out)
{
    if (v->type == V_LIST || v->type == V_TUPLE) {
        *out = *v->u.list;
        return true;
    }
    struct gather g = { .r = r };
    struct iter *it = jinja_iter(r, v);
    struct value item;
    enum iter_step step = ITER_FAIL;
    while (it && (step = jinja_next(r, it, &item)) == ITER_ITEM)
        if (!jinja_gather(&g, &item))
            return false;
    *out = (struct list){ g.v, g.n };
    return step == ITER_END;
}

bool jinja_generator(struct render *r,
                     enum iter_step (*next)(struct render *, struct iter *, struct value *),
                     const struct value *over, void *state, struct value *out)
{
    struct iter *it = jinja_alloc(r, 1, sizeof *it);
    if (!it)
        return false;
    *it = (struct iter){ .next = next, .over = *over, .state = state };
    *out = (struct value){ .type = V_ITER, .u.iter = it };
    return true;
}

/* ---- order of lists ---- */

/* Merges [a, b) and [b, c); keys and items move together. */
struct sorter {
    struct render *r;
    struct value *key, *item, *key_to, *item_to;
    bool reverse;
};

static bool merge(struct sorter *s, size_t a, size_t b, size_t c)
{
    size_t i = a, j = b;
    for (size_t k = a; k < c; k++) {
        bool right = i >= b;
        if (i < b && j < c) {
            bool less;
            /* stable: the right one goes first only when it must */
            if (!jinja_order(s->r, OP_LT, s->reverse ? &s->key[i] : &s->key[j],
                             s->reverse ? &s->key[j] : &s->key[i], &less))
                return false;
            right = less;
        }
        size_t from = right ? j++ : i++;
        s->key_to[k] = s->key[from];
        s->item_to[k] = s->item[from];
    }
    return true;
}

bool jinja_stable_sort(struct render *r, struct value *keys, struct value *items, size_t n,
                       bool reverse)
{
    struct sorter s = { .r = r, .key = keys, .item = items, .reverse = reverse };
    s.key_to = jinja_alloc(r, n, sizeof *s.key_to);
    s.item_to = jinja_alloc(r, n, sizeof *s.item_to);
    if (!s.key_to || !s.item_to)
        return false;
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t a = 0; a < n; a += 2 * width) {
            size_t b = a + width < n ? a + width : n;
            size_t c = a + 2 * width < n ? a + 2 * width : n;
            if (!merge(&s, a, b, c))
                return false;
        }
        struct value *k = s.key, *i = s.item;
        s.key = s.key_to;
        s.item = s.item_to;
        s.key_to = k;
        s.item_to = i;
    }
    if (s.key != keys && n) {
        memcpy(keys, s.key, n * sizeof *keys);
        memcpy(items, s.item, n * sizeof *items);
    }
    return true;
}
