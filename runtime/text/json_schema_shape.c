/* Shapes: meet, join and complement, type by type. */
#include <string.h>

#include "runtime/text/json_schema_priv.h"

#define MAX_NOT_ITEMS 64 /* positions at which an item may differ, in the complement of an array */

static struct shape *fresh(struct schema *c)
{
    return schema_alloc(c, 1, sizeof(struct shape));
}

const struct array_shape *array_any(struct schema *c)
{
    struct array_shape *a = schema_alloc(c, 1, sizeof *a);
    if (a)
        a->max = NO_MAX;
    return a;
}

const struct object_shape *object_any(struct schema *c)
{
    struct object_shape *o = schema_alloc(c, 1, sizeof *o);
    struct key_class *all = schema_alloc(c, 1, sizeof *all);
    if (!o || !all)
        return NULL;
    *all = (struct key_class){ c->all_strings, GOAL_ANY };
    *o = (struct object_shape){ .class = all, .n_classes = 1, .max = NO_MAX };
    return o;
}

const struct shape *shape_types(struct schema *c, unsigned types)
{
    struct shape *s = fresh(c);
    if (!s)
        return NULL;
    s->simple = types & (HAS_NULL | HAS_BOOLEAN);
    s->number = types & HAS_NUMBER ? c->all_numbers : NULL;
    s->string = types & HAS_STRING ? c->all_strings : NULL;
    s->array = types & HAS_ARRAY ? array_any(c) : NULL;
    s->object = types & HAS_OBJECT ? object_any(c) : NULL;
    return c->failed ? NULL : s;
}

const struct shape *shape_of_arrays(struct schema *c, const struct array_shape *a)
{
    struct shape *s = fresh(c);
    if (!s || c->failed)
        return NULL;
    *s = *c->any;
    s->array = a;
    return s;
}

const struct shape *shape_of_objects(struct schema *c, const struct object_shape *o)
{
    struct shape *s = fresh(c);
    if (!s || c->failed)
        return NULL;
    *s = *c->any;
    s->object = o;
    return s;
}

const struct member *object_member(const struct object_shape *o, struct str name)
{
    for (uint32_t i = 0; i < o->n_members; i++)
        if (str_eq(o->member[i].name, name))
            return &o->member[i];
    return NULL;
}

goal_id object_goal(const struct object_shape *o, struct str name)
{
    const struct member *m = object_member(o, name);
    if (m)
        return m->goal;
    for (uint32_t i = 0; i < o->n_classes; i++)
        if (dfa_accepts(o->class[i].names, name))
            return o->class[i].goal;
    return GOAL_FALSE;
}

/* ---- meet ---- */

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static goal_id item_goal(const struct array_shape *a, uint32_t i)
{
    return i < a->n_prefix ? a->prefix[i] : a->rest;
}

static struct array_shape *meet_arrays(struct schema *c, const struct array_shape *a, const struct array_shape *b)
{
    struct array_shape *out = schema_alloc(c, 1, sizeof *out);
    uint32_t n = larger(a->n_prefix, b->n_prefix);
    goal_id *prefix = schema_alloc(c, n, sizeof *prefix);
    if (!out || !prefix || !schema_step(c, n + 1))
        return NULL;
    for (uint32_t i = 0; i < n; i++)
        if (!goal_both(c, item_goal(a, i), item_goal(b, i), &prefix[i]))
            return NULL;
    *out = (struct array_shape){ .prefix = prefix, .n_prefix = n };
    out->min = larger(a->min, b->min);
    out->max = smaller(a->max, b->max);
    return goal_both(c, a->rest, b->rest, &out->rest) ? out : NULL;
}

static bool meet_classes(struct schema *c, const struct object_shape *a, const struct object_shape *b,
                         struct object_shape *out)
{
    struct key_class *v = schema_alloc(c, (size_t)a->n_classes * b->n_classes, sizeof *v);
    uint32_t n = 0;
    for (uint32_t i = 0; v && i < a->n_classes; i++)
        for (uint32_t j = 0; j < b->n_classes; j++) {
            const struct dfa *names = lang_meet(c, a->class[i].names, b->class[j].names);
            if (c->failed || !schema_step(c, 1))
                return false;
            if (!names)
                continue;
            v[n].names = names;
            if (!goal_both(c, a->class[i].goal, b->class[j].goal, &v[n].goal))
                return false;
            n += v[n].goal != GOAL_FALSE;
        }
    if (n > SCHEMA_MAX_CLASSES)
        return schema_refuse(c, ERR_TOO_LARGE, c->at, c->keyword, "more than %d kinds of keys", SCHEMA_MAX_CLASSES);
    out->class = v;
    out->n_classes = n;
    return v != NULL;
}

/* The members of a, then those of b that a does not name. */
static bool meet_members(struct schema *c, const struct object_shape *a, const struct object_shape *b,
                         struct object_shape *out)
{
    uint32_t n = a->n_members;
    struct member *v = schema_alloc(c, (size_t)n + b->n_members, sizeof *v);
    if (!v || !schema_step(c, (size_t)a->n_members * b->n_members / 64 + n + b->n_members))
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const struct member *m = object_member(b, a->member[i].name);
        v[i] = a->member[i];
        v[i].required |= m && m->required;
        if (!goal_both(c, v[i].goal, m ? m->goal : object_goal(b, v[i].name), &v[i].goal))
            return false;
    }
    for (uint32_t i = 0; i < b->n_members; i++) {
        struct member m = b->member[i];
        if (object_member(a, m.name))
            continue;
        if (!goal_both(c, object_goal(a, m.name), m.goal, &m.goal))
            return false;
        v[n++] = m;
    }
    out->member = v;
    out->n_members = n;
    return true;
}

static struct object_shape *meet_objects(struct schema *c, const struct object_shape *a, const struct object_shape *b)
{
    struct object_shape *out = schema_alloc(c, 1, sizeof *out);
    if (!out || !meet_members(c, a, b, out) || !meet_classes(c, a, b, out))
        return NULL;
    out->min = larger(a->min, b->min);
    out->max = smaller(a->max, b->max);
    out->counted = a->counted ? a->counted : b->counted;
    return out;
}

/* What no value fulfils, as far as one sees without looking into goals. */
static bool plainly_dead(const struct object_shape *o)
{
    for (uint32_t i = 0; i < o->n_members; i++)
        if (o->member[i].required && o->member[i].goal == GOAL_FALSE)
            return true;
    return o->min > o->max;
}

static bool count_alternatives(struct schema *c, size_t n)
{
    return n <= SCHEMA_MAX_ALTERNATIVES ||
           schema_refuse(c, ERR_TOO_LARGE, c->at, c->keyword, "more than %d alternatives of one value",
                         SCHEMA_MAX_ALTERNATIVES);
}

static const struct array_shape *meet_array_lists(struct schema *c, const struct array_shape *a,
                                                  const struct array_shape *b)
{
    const struct array_shape *first = NULL, **end = &first;
    size_t n = 0;
    for (; a; a = a->next)
        for (const struct array_shape *y = b; y; y = y->next) {
            struct array_shape *m = meet_arrays(c, a, y);
            if (!m || !count_alternatives(c, ++n))
                return NULL;
            if (m->min <= m->max) {
                *end = m;
                end = &m->next;
            }
        }
    return first;
}

static const struct object_shape *meet_object_lists(struct schema *c, const struct object_shape *a,
                                                    const struct object_shape *b)
{
    const struct object_shape *first = NULL, **end = &first;
    bool many = a && b && a->next && b->next;
    size_t n = 0;
    for (; a; a = a->next)
        for (const struct object_shape *y = b; y; y = y->next) {
            struct object_shape *m = meet_objects(c, a, y);
            if (!m)
                return NULL;
            if (plainly_dead(m) || (many && object_is_dead(c, m)))
                continue;
            if (!count_alternatives(c, ++n))
                return NULL;
            *end = m;
            end = &m->next;
        }
    return first;
}

const struct shape *shape_meet(struct schema *c, const struct shape *a, const struct shape *b)
{
    if (a == c->any || b == c->any || a == b)
        return a == c->any ? b : a;
    struct shape *s = fresh(c);
    if (!s)
        return NULL;
    s->simple = a->simple & b->simple;
    s->number = lang_meet(c, a->number, b->number);
    s->string = lang_meet(c, a->string, b->string);
    s->array = meet_array_lists(c, a->array, b->array);
    s->object = meet_object_lists(c, a->object, b->object);
    return c->failed ? NULL : s;
}

/* ---- join ---- */

static bool is_any_array(const struct array_shape *a)
{
    return a->n_prefix == 0 && a->rest == GOAL_ANY && a->min == 0 && a->max == NO_MAX;
}

static bool is_any_object(const struct schema *c, const struct object_shape *o)
{
    return o->n_members == 0 && o->n_classes == 1 && o->class[0].names == c->all_strings &&
           o->class[0].goal == GOAL_ANY && o->min == 0 && o->max == NO_MAX;
}

static bool same_array(const struct array_shape *a, const struct array_shape *b)
{
    return a->n_prefix == b->n_prefix && a->rest == b->rest && a->min == b->min && a->max == b->max &&
           (!a->n_prefix || memcmp(a->prefix, b->prefix, a->n_prefix * sizeof *a->prefix) == 0);
}

static bool same_object(const struct object_shape *a, const struct object_shape *b)
{
    bool same = a->n_members == b->n_members && a->n_classes == b->n_classes && a->min == b->min && a->max == b->max;
    for (uint32_t i = 0; same && i < a->n_members; i++)
        same = str_eq(a->member[i].name, b->member[i].name) && a->member[i].goal == b->member[i].goal &&
               a->member[i].required == b->member[i].required;
    for (uint32_t i = 0; same && i < a->n_classes; i++)
        same = a->class[i].names == b->class[i].names && a->class[i].goal == b->class[i].goal;
    return same;
}

/* Puts copies of a's alternatives, then of b's that a has not, into a list. */
static const struct array_shape *join_arrays(struct schema *c, const struct array_shape *a,
                                             const struct array_shape *b)
{
    const struct array_shape *first = NULL, **end = &first, *from = a ? a : b;
    size_t n = 0;
    for (bool in_a = a != NULL; from; from = from->next ? from->next : in_a ? b : NULL, in_a &= from != b) {
        bool seen = false;
        if (is_any_array(from))
            return array_any(c);
        for (const struct array_shape *x = first; x && !seen; x = x->next)
            seen = same_array(x, from);
        struct array_shape *copy = seen ? NULL : schema_alloc(c, 1, sizeof *copy);
        if (seen)
            continue;
        if (!copy || !schema_step(c, ++n) || !count_alternatives(c, n))
            return NULL;
        *copy = *from;
        copy->next = NULL;
        *end = copy;
        end = &copy->next;
    }
    return first;
}

static const struct object_shape *join_objects(struct schema *c, const struct object_shape *a,
                                               const struct object_shape *b)
{
    const struct object_shape *first = NULL, **end = &first, *from = a ? a : b;
    size_t n = 0;
    for (bool in_a = a != NULL; from; from = from->next ? from->next : in_a ? b : NULL, in_a &= from != b) {
        bool seen = false;
        if (is_any_object(c, from))
            return object_any(c);
        for (const struct object_shape *x = first; x && !seen; x = x->next)
            seen = same_object(x, from);
        struct object_shape *copy = seen ? NULL : schema_alloc(c, 1, sizeof *copy);
        if (seen)
            continue;
        if (!copy || !schema_step(c, ++n) || !count_alternatives(c, n))
            return NULL;
        *copy = *from;
        copy->next = NULL;
        *end = copy;
        end = &copy->next;
    }
    return first;
}

const struct shape *shape_join(struct schema *c, const struct shape *a, const struct shape *b)
{
    if (a == b || a == c->none || b == c->any)
        return b;
    if (b == c->none || a == c->any)
        return a;
    struct shape *s = fresh(c);
    if (!s)
        return NULL;
    s->simple = a->simple | b->simple;
    s->number = lang_join(c, a->number, b->number);
    s->string = lang_join(c, a->string, b->string);
    s->array = join_arrays(c, a->array, b->array);
    s->object = join_objects(c, a->object, b->object);
    return c->failed ? NULL : s;
}

/* ---- complement ---- */

/* Adds the arrays whose item i is not of the goal. */
static struct array_shape *array_unlike(struct schema *c, const struct array_shape *a, uint32_t i)
{
    struct array_shape *out = schema_alloc(c, 1, sizeof *out);
    goal_id *prefix = schema_alloc(c, (size_t)i + 1, sizeof *prefix); /* the others are GOAL_ANY */
    if (!out || !prefix || !goal_not(c, item_goal(a, i), &prefix[i]))
        return NULL;
    *out = (struct array_shape){ .prefix = prefix, .n_prefix = i + 1, .min = i + 1, .max = NO_MAX };
    return out;
}

static const struct shape *not_array(struct schema *c, const struct array_shape *a)
{
    struct array_shape *list = NULL, *one;
    uint32_t end = a->n_prefix;
    if (a->rest == GOAL_FALSE)
        end = smaller(a->max, end);
    else if (a->rest != GOAL_ANY)
        end = a->max;
    if (end > a->n_prefix && end > MAX_NOT_ITEMS) {
        schema_refuse(c, ERR_UNSUPPORTED, c->at, c->keyword, "takes the opposite of an array of any length");
        return NULL;
    }
    uint32_t max = a->rest == GOAL_FALSE ? smaller(a->max, a->n_prefix) : a->max;
    for (uint32_t i = 0; i < smaller(end, max); i++) {
        if (item_goal(a, i) == GOAL_ANY)
            continue;
        if (!(one = array_unlike(c, a, i)))
            return NULL;
        one->next = list;
        list = one;
    }
    for (int side = 0; side < 2; side++) {
        if (side ? max == NO_MAX : a->min == 0)
            continue;
        if (!(one = schema_alloc(c, 1, sizeof *one)))
            return NULL;
        one->min = side ? max + 1 : 0;
        one->max = side ? NO_MAX : a->min - 1;
        one->next = list;
        list = one;
    }
    return shape_of_arrays(c, list);
}

/* An object of any kind with one member. */
static struct object_shape *object_with(struct schema *c, struct str name, goal_id goal, bool required)
{
    const struct object_shape *any = object_any(c);
    struct object_shape *o = schema_alloc(c, 1, sizeof *o);
    struct member *m = schema_alloc(c, 1, sizeof *m);
    if (!any || !o || !m)
        return NULL;
    *o = *any;
    *m = (struct member){ name, goal, required };
    o->member = m;
    o->n_members = 1;
    return o;
}

static bool frees_all_keys(const struct schema *c, const struct object_shape *o)
{
    return o->n_classes == 1 && o->class[0].names == c->all_strings && o->class[0].goal == GOAL_ANY;
}

static const struct shape *not_object(struct schema *c, const struct object_shape *o)
{
    struct object_shape *list = NULL, *one;
    if (!frees_all_keys(c, o)) {
        schema_refuse(c, ERR_UNSUPPORTED, c->at, c->keyword, "takes the opposite of what limits free keys");
        return NULL;
    }
    for (uint32_t i = 0; i < o->n_members; i++) {
        struct str name = o->member[i].name;
        goal_id not = GOAL_FALSE;
        if (!goal_not(c, o->member[i].goal, &not))
            return NULL;
        for (int side = 0; side < 2; side++) {
            if (side ? not == GOAL_FALSE : !o->member[i].required)
                continue;
            if (!(one = object_with(c, name, side ? not : GOAL_FALSE, side)))
                return NULL;
            one->next = list;
            list = one;
        }
    }
    for (int side = 0; side < 2; side++) {
        if (side ? o->max == NO_MAX : o->min == 0)
            continue;
        const struct object_shape *any = object_any(c);
        if (!any || !(one = schema_alloc(c, 1, sizeof *one)))
            return NULL;
        *one = *any;
        one->min = side ? o->max + 1 : 0;
        one->max = side ? NO_MAX : o->min - 1;
        one->counted = o->counted;
        one->next = list;
        list = one;
    }
    return shape_of_objects(c, list);
}

const struct shape *shape_not(struct schema *c, const struct shape *a, unsigned types)
{
    struct shape *s = fresh(c);
    if (!s)
        return NULL;
    *s = *c->any;
    s->simple = ~(a->simple & types) & (HAS_NULL | HAS_BOOLEAN);
    if (types & HAS_NUMBER)
        s->number = a->number ? lang_minus(c, c->plain_numbers, a->number) : c->all_numbers;
    if (types & HAS_STRING)
        s->string = lang_minus(c, c->all_strings, a->string);
    const struct shape *out = s;
    for (const struct array_shape *x = a->array; x && out && types & HAS_ARRAY; x = x->next) {
        const struct shape *not = not_array(c, x);
        out = not ? shape_meet(c, out, not) : NULL;
    }
    for (const struct object_shape *x = a->object; x && out && types & HAS_OBJECT; x = x->next) {
        const struct shape *not = not_object(c, x);
        out = not ? shape_meet(c, out, not) : NULL;
    }
    return c->failed ? NULL : out;
}
