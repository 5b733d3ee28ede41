/* Terms and goals: each set of terms is one goal, with a number. */
#include <stdlib.h>
#include <string.h>

#include "runtime/text/json_schema_priv.h"

#define MAX_TERMS 4096 /* of one goal */
#define MAX_PROBES 12  /* inside each other */

static int by_term(const void *a, const void *b)
{
    const struct term *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->v != y->v)
        return (uintptr_t)x->v < (uintptr_t)y->v ? -1 : 1;
    return (x->of > y->of) - (x->of < y->of);
}

static uint32_t hash_terms(const struct term *t, size_t n)
{
    uint64_t h = 14695981039346656037U;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ t[i].kind) * 1099511628211U;
        h = (h ^ (uintptr_t)t[i].v) * 1099511628211U;
        h = (h ^ t[i].of) * 1099511628211U;
    }
    return (uint32_t)(h ^ h >> 32);
}

static bool grow_slots(struct schema *c)
{
    uint32_t n = c->n_goal_slots ? c->n_goal_slots * 2 : 256;
    uint32_t *slots = mem_zero(n, sizeof *slots);
    if (!slots)
        return schema_no_memory(c);
    for (size_t i = 0; i < c->n_goals; i++) {
        uint32_t at = hash_terms(c->goal[i].term, c->goal[i].n) & (n - 1);
        while (slots[at])
            at = (at + 1) & (n - 1);
        slots[at] = (uint32_t)i + 1;
    }
    mem_free(c->goal_slots);
    c->goal_slots = slots;
    c->n_goal_slots = n;
    return true;
}

static bool same_terms(const struct goal *g, const struct term *t, size_t n)
{
    bool same = g->n == n;
    for (size_t i = 0; i < n && same; i++)
        same = by_term(&g->term[i], &t[i]) == 0;
    return same;
}

/* The goal of terms that differ. */
static bool intern(struct schema *c, const struct term *t, size_t n, goal_id *out)
{
    if (c->n_goals * 2 >= c->n_goal_slots && !grow_slots(c))
        return false;
    uint32_t at = hash_terms(t, n) & (c->n_goal_slots - 1);
    for (; c->goal_slots[at]; at = (at + 1) & (c->n_goal_slots - 1))
        if (same_terms(&c->goal[c->goal_slots[at] - 1], t, n)) {
            *out = c->goal_slots[at] - 1;
            return true;
        }
    if (c->n_goals >= SCHEMA_MAX_GOALS)
        return schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "the schema has more than %d combinations of its parts",
                             SCHEMA_MAX_GOALS);
    struct term *copy = schema_alloc(c, n, sizeof *copy);
    if (!copy || !mem_grow(&c->goal, &c->goals_cap, c->n_goals + 1, sizeof *c->goal, SCHEMA_MAX_GOALS))
        return schema_no_memory(c);
    if (n)
        memcpy(copy, t, n * sizeof *t);
    c->goal[c->n_goals] = (struct goal){ .term = copy, .n = (uint32_t)n };
    c->goal_slots[at] = (uint32_t)c->n_goals + 1;
    *out = (goal_id)c->n_goals++;
    return true;
}

bool goal_init(struct schema *c)
{
    goal_id any, none;
    struct term never = { .kind = TERM_SCHEMA, .v = json_false() };
    bool good = intern(c, NULL, 0, &any) && intern(c, &never, 1, &none);
    return good && any == GOAL_ANY && none == GOAL_FALSE;
}

/* Terms keep their order: which of two comes first decides the order of keys. */
bool goal_of(struct schema *c, const struct term *terms, size_t n, goal_id *out)
{
    struct term few[8], *t = few;
    size_t kept = 0;
    if (n > MAX_TERMS)
        return schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "more than %d schemas for one value", MAX_TERMS);
    if (n > 8 && !(t = mem_alloc(n * sizeof *t)))
        return schema_no_memory(c);
    bool good = true, never = false;
    for (size_t i = 0; i < n; i++) {
        never |= terms[i].kind == TERM_SCHEMA && json_is_false(terms[i].v);
        never |= terms[i].kind == TERM_NOT && terms[i].of == GOAL_ANY;
        bool seen = (terms[i].kind == TERM_SCHEMA && json_is_true(terms[i].v)) ||
                    (terms[i].kind == TERM_NOT && terms[i].of == GOAL_FALSE);
        for (size_t j = 0; j < kept && !seen; j++)
            seen = by_term(&t[j], &terms[i]) == 0;
        if (!seen)
            t[kept++] = terms[i];
    }
    if (never)
        *out = GOAL_FALSE;
    else
        good = intern(c, t, kept, out);
    if (t != few)
        mem_free(t);
    return good;
}

bool goal_schema(struct schema *c, const json_t *s, uint32_t of, goal_id *out)
{
    struct term t = { TERM_SCHEMA, schema_resource(c, s, of), s };
    if (json_is_boolean(s))
        t.of = 0;
    return goal_of(c, &t, 1, out);
}

bool goal_both(struct schema *c, goal_id a, goal_id b, goal_id *out)
{
    size_t n = c->goal[a].n, m = c->goal[b].n;
    if (a == GOAL_FALSE || b == GOAL_FALSE || a == b || !n || !m) {
        *out = a == GOAL_FALSE || b == GOAL_FALSE ? GOAL_FALSE : n ? a : b;
        return true;
    }
    struct term *t = mem_alloc((n + m) * sizeof *t);
    if (!t)
        return schema_no_memory(c);
    memcpy(t, c->goal[a].term, n * sizeof *t);
    memcpy(t + n, c->goal[b].term, m * sizeof *t);
    bool good = schema_step(c, n + m) && goal_of(c, t, n + m, out);
    mem_free(t);
    return good;
}

bool goal_not(struct schema *c, goal_id a, goal_id *out)
{
    const struct goal *g = &c->goal[a];
    if (g->n == 1 && g->term[0].kind == TERM_NOT) {
        *out = g->term[0].of;
        return true;
    }
    return goal_of(c, &(struct term){ .kind = TERM_NOT, .of = a }, 1, out);
}

/* ---- shapes of goals ---- */

static const struct shape *term_shape(struct schema *c, struct term t)
{
    if (t.kind == TERM_SCHEMA)
        return schema_shape(c, t.v, t.of);
    if (t.kind == TERM_VALUE)
        return value_shape(c, t.v);
    const struct shape *s = goal_shape(c, t.of);
    return s ? shape_not(c, s, HAS_ALL) : NULL;
}

const struct shape *goal_shape(struct schema *c, goal_id g)
{
    if (c->failed || c->goal[g].state == GOAL_DONE)
        return c->failed ? NULL : c->goal[g].shape;
    if (c->goal[g].state == GOAL_BUSY) {
        schema_refuse(c, ERR_INVALID, c->at, c->keyword, "refers to itself without end");
        return NULL;
    }
    if (!schema_step(c, 1))
        return NULL;
    if (c->nesting >= SCHEMA_MAX_NESTING) {
        schema_refuse(c, ERR_TOO_LARGE, c->at, c->keyword, "more than %d schemas for one value", SCHEMA_MAX_NESTING);
        return NULL;
    }
    c->goal[g].state = GOAL_BUSY;
    c->nesting++;
    bool outer = c->unknown;
    c->unknown = false;
    const struct shape *s = g == GOAL_FALSE ? c->none : c->any;
    for (uint32_t i = 0; s && i < c->goal[g].n; i++) {
        const struct shape *t = term_shape(c, c->goal[g].term[i]);
        s = t ? shape_meet(c, s, t) : NULL;
    }
    c->nesting--;
    c->goal[g].state = s && !c->unknown ? GOAL_DONE : GOAL_NEW;
    c->goal[g].shape = s;
    c->unknown |= outer;
    return s;
}

static bool array_is_dead(struct schema *c, const struct array_shape *a)
{
    for (uint32_t i = 0; i < a->min && i < a->n_prefix; i++)
        if (goal_is_empty(c, a->prefix[i]))
            return true;
    return a->min > a->max || (a->min > a->n_prefix && goal_is_empty(c, a->rest));
}

bool object_is_dead(struct schema *c, const struct object_shape *o)
{
    for (uint32_t i = 0; i < o->n_members; i++)
        if (o->member[i].required && goal_is_empty(c, o->member[i].goal))
            return true;
    return o->min > o->max;
}

unsigned shape_has(struct schema *c, const struct shape *s)
{
    unsigned types = s->simple | (s->number ? HAS_NUMBER : 0u) | (s->string ? HAS_STRING : 0u);
    for (const struct array_shape *a = s->array; a && !(types & HAS_ARRAY); a = a->next)
        if (!array_is_dead(c, a))
            types |= HAS_ARRAY;
    for (const struct object_shape *o = s->object; o && !(types & HAS_OBJECT); o = o->next)
        if (!object_is_dead(c, o))
            types |= HAS_OBJECT;
    return types;
}

bool goal_is_empty(struct schema *c, goal_id g)
{
    if (g == GOAL_FALSE || g == GOAL_ANY || c->failed || c->probing >= MAX_PROBES || c->goal[g].state == GOAL_BUSY)
        return g == GOAL_FALSE;
    bool outer = c->unknown;
    const json_t *at = c->at;
    const char *keyword = c->keyword;
    c->unknown = false;
    c->probing++;
    const struct shape *s = goal_shape(c, g);
    bool empty = s && !c->unknown && !shape_has(c, s);
    c->probing--;
    c->unknown = outer;
    c->at = at;
    c->keyword = keyword;
    return empty;
}
