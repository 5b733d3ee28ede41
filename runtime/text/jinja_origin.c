/* Origin: which bytes of a text came from the variables, that is from messages, tools and what
 * else the request says. Most texts are wholly of one kind and carry that in their value; the
 * others have an entry of render.mixed, with ranges. */
#include <string.h>

#include "runtime/text/jinja.h"

bool origin_add(struct render *r, struct spans *s, size_t begin, size_t end)
{
    if (spans_join(s, begin, end))
        return true;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 4;
        struct span *more = jinja_alloc(r, cap, sizeof *more);
        if (!more)
            return false;
        if (s->n)
            memcpy(more, s->v, s->n * sizeof *more);
        s->v = more;
        s->cap = cap;
    }
    s->v[s->n++] = (struct span){ begin, end };
    return true;
}

/* The first range that ends behind `at`. */
static size_t first_behind(const struct spans *s, size_t at)
{
    size_t low = 0, high = s->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (s->v[mid].end > at)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static const struct mixed *mixed_of(const struct render *r, uint32_t origin)
{
    return &r->mixed[origin - ORIGIN_MIXED];
}

bool origin_copy(struct render *r, struct spans *to, size_t at, const struct value *v,
                 const char *p, size_t n)
{
    if (v->origin == ORIGIN_TEMPLATE || n == 0)
        return true;
    if (v->origin == ORIGIN_CONTENT)
        return origin_add(r, to, at, at + n);
    struct mixed m = *mixed_of(r, v->origin); /* a copy: `to` may be its own */
    size_t begin = (size_t)(p - m.base), end = begin + n;
    size_t first = first_behind(&m.at, begin), i = first;
    for (; i < m.at.n && m.at.v[i].begin < end; i++) {
        struct span s = m.at.v[i];
        s.begin = s.begin < begin ? begin : s.begin;
        s.end = s.end > end ? end : s.end;
        if (!origin_add(r, to, at + s.begin - begin, at + s.end - begin))
            return false;
    }
    return jinja_spend(r, (int64_t)(i - first) / JINJA_STEP);
}

bool origin_touches(const struct render *r, const struct value *v, const char *p, size_t n)
{
    if (v->origin < ORIGIN_MIXED)
        return v->origin == ORIGIN_CONTENT;
    const struct mixed *m = mixed_of(r, v->origin);
    size_t begin = (size_t)(p - m->base);
    return spans_touch(&m->at, begin, begin + n);
}

static bool add_mixed(struct render *r, const char *base, const struct spans *s, uint32_t *out)
{
    if (r->nmixed == r->capmixed) {
        size_t cap = r->capmixed ? r->capmixed * 2 : 32;
        struct mixed *more = jinja_alloc(r, cap, sizeof *more);
        if (!more)
            return false;
        if (r->nmixed)
            memcpy(more, r->mixed, r->nmixed * sizeof *more);
        r->mixed = more;
        r->capmixed = cap;
    }
    *out = (uint32_t)r->nmixed + ORIGIN_MIXED;
    r->mixed[r->nmixed++] = (struct mixed){ base, *s };
    return true;
}

bool origin_take(struct render *r, const char *base, size_t n, const struct spans *s,
                 uint32_t *out)
{
    *out = ORIGIN_TEMPLATE;
    if (s->n == 0)
        return true;
    *out = ORIGIN_CONTENT;
    if (s->n == 1 && s->v[0].begin == 0 && s->v[0].end >= n)
        return true;
    return add_mixed(r, base, s, out);
}

bool origin_move(struct render *r, const struct value *v, const char *base, uint32_t *out)
{
    struct spans s = { 0 };
    *out = v->origin;
    return v->origin < ORIGIN_MIXED ||
           (origin_copy(r, &s, 0, v, v->u.s.p, v->u.s.n) &&
            origin_take(r, base, v->u.s.n, &s, out));
}

bool origin_append(struct render *r, const char *base, size_t n, const struct value *v,
                   uint32_t *origin)
{
    struct spans s = { 0 };
    if (*origin == v->origin && *origin < ORIGIN_MIXED)
        return true;
    if (*origin < ORIGIN_MIXED &&
        ((*origin == ORIGIN_CONTENT && !origin_add(r, &s, 0, n)) ||
         !add_mixed(r, base, &s, origin)))
        return false;
    s = mixed_of(r, *origin)->at;
    if (!origin_copy(r, &s, n, v, v->u.s.p, v->u.s.n))
        return false;
    r->mixed[*origin - ORIGIN_MIXED].at = s;
    return true;
}

bool origin_cut(struct render *r, size_t mark, struct spans *out)
{
    struct spans *s = &r->content;
    *out = (struct spans){ 0 };
    size_t first = first_behind(s, mark);
    for (size_t i = first; i < s->n; i++) {
        size_t begin = s->v[i].begin < mark ? mark : s->v[i].begin;
        if (!origin_add(r, out, begin - mark, s->v[i].end - mark))
            return false;
    }
    if (first < s->n && s->v[first].begin < mark)
        s->v[first++].end = mark;
    s->n = first;
    return true;
}
