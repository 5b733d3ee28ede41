/* Python's values: making them, truth, equality, order, dicts. */
#include <math.h>
#include <string.h>

#include "runtime/text/jinja.h"

const char *jinja_type_name(enum value_type t)
{
    static const char *const names[V_TYPES] = {
        [V_MISSING] = "Undefined", [V_UNDEFINED] = "Undefined", [V_NONE] = "NoneType",
        [V_BOOL] = "bool",         [V_INT] = "int",             [V_FLOAT] = "float",
        [V_STR] = "str",           [V_LIST] = "list",           [V_TUPLE] = "tuple",
        [V_DICT] = "dict",         [V_RANGE] = "range",         [V_VIEW] = "dict view",
        [V_ITER] = "generator",    [V_MACRO] = "Macro",         [V_METHOD] = "method",
        [V_FUNCTION] = "function", [V_NAMESPACE] = "Namespace", [V_LOOP] = "LoopContext",
        [V_CYCLER] = "Cycler",     [V_JOINER] = "Joiner",
    };
    return names[t];
}

bool jinja_use_undefined(struct render *r, const struct value *v)
{
    struct str s = v->u.s;
    int n = v->reason == UNDEF_ELEMENT ? 0 : s.n > 128 ? 128 : (int)s.n;
    const char *of = jinja_type_name((enum value_type)v->of);
    switch ((enum undefined_reason)v->reason) {
    case UNDEF_NAME:
        return jinja_fail(r, "'%.*s' is undefined", n, s.p);
    case UNDEF_HINT:
        return jinja_fail(r, "%.*s", n, s.p);
    case UNDEF_UNSAFE:
        return jinja_fail(r, "access to attribute '%.*s' of '%s' object is unsafe", n, s.p, of);
    case UNDEF_ATTRIBUTE:
        return jinja_fail(r, "'%s object' has no attribute '%.*s'", of, n, s.p);
    case UNDEF_ELEMENT:
        return jinja_fail(r, "%s object has no element %lld", of, (long long)v->u.i);
    }
    return false;
}

bool jinja_deeper(struct render *r)
{
    return ++r->walk <= JINJA_MAX_WALK || jinja_too_large(r, "data is nested too deeply");
}

/* ---- making values ---- */

bool jinja_list(struct render *r, struct list l, enum value_type type, struct value *out)
{
    struct list *copy = jinja_alloc(r, 1, sizeof *copy);
    if (!copy)
        return false;
    *copy = l;
    *out = (struct value){ .type = (uint8_t)type, .u.list = copy };
    return true;
}

bool jinja_tuple2(struct render *r, struct value a, struct value b, struct value *out)
{
    struct list l = { jinja_alloc(r, 2, sizeof *l.v), 2 };
    if (!l.v)
        return false;
    l.v[0] = a;
    l.v[1] = b;
    return jinja_list(r, l, V_TUPLE, out);
}

bool jinja_gather(struct gather *g, const struct value *v)
{
    if (g->n == g->cap) {
        size_t cap = g->cap ? g->cap * 2 : 8;
        struct value *more = jinja_alloc(g->r, cap, sizeof *more);
        if (!more)
            return false;
        if (g->n)
            memcpy(more, g->v, g->n * sizeof *more);
        g->v = more;
        g->cap = cap;
    }
    g->v[g->n++] = *v;
    return true;
}

static bool from_array(struct render *r, const json_t *j, uint32_t origin, struct value *out)
{
    struct list l = { jinja_alloc(r, json_array_size(j), sizeof *l.v), json_array_size(j) };
    if (!l.v)
        return false;
    for (size_t i = 0; i < l.n; i++)
        if (!jinja_from_json(r, json_array_get(j, i), origin, &l.v[i]))
            return false;
    return jinja_list(r, l, V_LIST, out);
}

static bool from_object(struct render *r, const json_t *j, uint32_t origin, struct value *out)
{
    struct dict *d = jinja_dict(r, json_object_size(j));
    if (!d)
        return false;
    json_t *object = (json_t *)(uintptr_t)j; /* jansson's iterators do not change it */
    for (void *i = json_object_iter(object); i; i = json_object_iter_next(object, i)) {
        struct value v, key = value_str((struct str){ json_object_iter_key(i),
                                                      json_object_iter_key_len(i) });
        key.origin = origin;
        if (!jinja_from_json(r, json_object_iter_value(i), origin, &v) ||
            !jinja_dict_put(r, d, &key, &v))
            return false;
    }
    *out = (struct value){ .type = V_DICT, .u.dict = d };
    return true;
}

/* Texts stay the document's. */
bool jinja_from_json(struct render *r, const json_t *j, uint32_t origin, struct value *out)
{
    bool ok = jinja_deeper(r) && jinja_spend(r, 1);
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        ok = ok && from_object(r, j, origin, out);
        break;
    case JSON_ARRAY:
        ok = ok && from_array(r, j, origin, out);
        break;
    case JSON_STRING:
        *out = value_str((struct str){ json_string_value(j), json_string_length(j) });
        break;
    case JSON_INTEGER:
        *out = value_int(json_integer_value(j));
        break;
    case JSON_REAL:
        *out = value_float(json_real_value(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = value_bool(json_is_true(j));
        break;
    case JSON_NULL:
        *out = value_none();
        break;
    }
    r->walk--;
    out->origin = origin;
    return ok;
}

/* ---- length and truth ---- */

bool jinja_has_length(const struct value *v)
{
    switch ((enum value_type)v->type) {
    case V_UNDEFINED:
    case V_STR:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_RANGE:
    case V_VIEW:
    case V_LOOP:
        return true;
    default:
        return false;
    }
}

static bool loop_length(struct render *r, struct loop *l, int64_t *out)
{
    if (l->length < 0 && jinja_has_length(&l->over))
        return jinja_length(r, &l->over, &l->length) && (*out = l->length, true);
    if (l->length < 0) {
        struct gather rest = { .r = r };
        struct value v;
        enum iter_step step;
        while ((step = jinja_next(r, l->it, &v)) == ITER_ITEM)
            if (!jinja_gather(&rest, &v))
                return false;
        if (step == ITER_FAIL)
            return false;
        struct list list = { rest.v, rest.n };
        struct value again;
        if (!jinja_list(r, list, V_LIST, &again) || !(l->it = jinja_iter(r, &again)))
            return false;
        l->length = (int64_t)rest.n + l->index0 + 1 + (l->after.type != V_MISSING);
    }
    *out = l->length;
    return true;
}

bool jinja_length(struct render *r, const struct value *v, int64_t *out)
{
    switch ((enum value_type)v->type) {
    case V_UNDEFINED:
        *out = 0;
        return true;
    case V_STR:
        *out = (int64_t)jinja_cp_count(v->u.s);
        return jinja_spend_bytes(r, v->u.s.n);
    case V_LIST:
    case V_TUPLE:
        *out = (int64_t)v->u.list->n;
        return true;
    case V_DICT:
    case V_VIEW:
        *out = (int64_t)v->u.dict->n;
        return true;
    case V_RANGE:
        *out = v->u.range->n;
        return true;
    case V_LOOP:
        return loop_length(r, v->u.loop, out);
    default:
        return jinja_fail(r, "object of type '%s' has no len()",
                          jinja_type_name((enum value_type)v->type));
    }
}

bool jinja_truth(struct render *r, const struct value *v, bool *out)
{
    int64_t n;
    switch ((enum value_type)v->type) {
    case V_NONE:
    case V_UNDEFINED:
    case V_MISSING:
        *out = false;
        return true;
    case V_BOOL:
        *out = v->u.b;
        return true;
    case V_INT:
        *out = v->u.i != 0;
        return true;
    case V_FLOAT:
        *out = v->u.f != 0;
        return true;
    case V_STR:
        *out = v->u.s.n != 0;
        return true;
    default:
        *out = true;
        if (!jinja_has_length(v))
            return true;
        if (!jinja_length(r, v, &n))
            return false;
        *out = n != 0;
        return true;
    }
}

/* ---- equality and order ---- */

/* -1, 0, 1; 2 when one is NaN. Exact, also for integers that a double cannot hold. */
static int compare_numbers(const struct value *a, const struct value *b)
{
    if (a->type != V_FLOAT && b->type != V_FLOAT) {
        int64_t x = value_as_int(a), y = value_as_int(b);
        return (x > y) - (x < y);
    }
    if (a->type == V_FLOAT && b->type == V_FLOAT) {
        double x = a->u.f, y = b->u.f;
        return x != x || y != y ? 2 : (x > y) - (x < y);
    }
    bool swap = a->type == V_FLOAT;
    double f = swap ? a->u.f : b->u.f;
    int64_t i = value_as_int(swap ? b : a);
    int c;
    if (f != f)
        return 2;
    if (f >= 9223372036854775808.0)
        c = -1;
    else if (f < -9223372036854775808.0)
        c = 1;
    else {
        int64_t whole = (int64_t)f;
        double rest = f - (double)whole;
        c = i != whole ? (i > whole) - (i < whole) : (rest < 0) - (rest > 0);
    }
    return swap ? -c : c;
}

static int compare_strings(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0; /* UTF-8 sorts as its code points do */
    return c ? (c > 0) - (c < 0) : (a.n > b.n) - (a.n < b.n);
}

static bool equal_lists(struct render *r, const struct list *a, const struct list *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++)
        if (!jinja_equal(r, &a->v[i], &b->v[i], out))
            return false;
    return true;
}

static bool equal_dicts(struct render *r, const struct dict *a, const struct dict *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; i < a->n && *out; i++) {
        struct value v;
        bool found;
        if (!jinja_dict_find(r, b, &a->e[i].key, &v, &found))
            return false;
        if (!found)
            *out = false;
        else if (!jinja_equal(r, &a->e[i].value, &v, out))
            return false;
    }
    return true;
}

static bool equal_ranges(const struct range *a, const struct range *b)
{
    return a->n == b->n && (a->n == 0 || (a->start == b->start && (a->n == 1 ||
                                                                  a->step == b->step)));
}

static bool equal_same_type(struct render *r, const struct value *a, const struct value *b,
                            bool *out)
{
    switch ((enum value_type)a->type) {
    case V_UNDEFINED:
    case V_NONE:
        *out = true;
        return true;
    case V_STR:
        *out = str_eq(a->u.s, b->u.s);
        return jinja_spend_bytes(r, *out ? a->u.s.n : 0);
    case V_LIST:
    case V_TUPLE:
        return equal_lists(r, a->u.list, b->u.list, out);
    case V_DICT:
        return equal_dicts(r, a->u.dict, b->u.dict, out);
    case V_RANGE:
        *out = equal_ranges(a->u.range, b->u.range);
        return true;
    case V_METHOD:
        *out = a->u.method->fn == b->u.method->fn &&
               memcmp(&a->u.method->self, &b->u.method->self, sizeof(struct value)) == 0;
        return true;
    default:
        *out = a->u.list == b->u.list; /* identity */
        return true;
    }
}

bool jinja_equal(struct render *r, const struct value *a, const struct value *b, bool *out)
{
    if (value_is_number(a) && value_is_number(b)) {
        *out = compare_numbers(a, b) == 0;
        return true;
    }
    if (a->type != b->type) {
        *out = false;
        return true;
    }
    bool ok = jinja_deeper(r) && jinja_spend(r, 1) && equal_same_type(r, a, b, out);
    r->walk--;
    return ok;
}

static bool holds(enum op op, int c)
{
    switch (op) {
    case OP_LT:
        return c == -1;
    case OP_LE:
        return c == -1 || c == 0;
    case OP_GT:
        return c == 1;
    default:
        return c == 1 || c == 0;
    }
}

static bool order_lists(struct render *r, enum op op, const struct list *a, const struct list *b,
                        bool *out)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        bool same;
        if (!jinja_equal(r, &a->v[i], &b->v[i], &same))
            return false;
        if (!same)
            return jinja_order(r, op, &a->v[i], &b->v[i], out);
    }
    *out = holds(op, (a->n > b->n) - (a->n < b->n));
    return true;
}

bool jinja_order(struct render *r, enum op op, const struct value *a, const struct value *b,
                 bool *out)
{
    static const char *const signs[] = { [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">",
                                         [OP_GE] = ">=" };
    if (value_is_number(a) && value_is_number(b)) {
        *out = holds(op, compare_numbers(a, b));
        return true;
    }
    if (a->type == V_STR && b->type == V_STR) {
        *out = holds(op, compare_strings(a->u.s, b->u.s));
        return jinja_spend(r, 1);
    }
    if (a->type == b->type && (a->type == V_LIST || a->type == V_TUPLE)) {
        bool ok =
            jinja_deeper(r) && jinja_spend(r, 1) && order_lists(r, op, a->u.list, b->u.list, out);
        r->walk--;
        return ok;
    }
    if (a->type == V_UNDEFINED || b->type == V_UNDEFINED)
        return jinja_use_undefined(r, a->type == V_UNDEFINED ? a : b);
    return jinja_fail(r, "'%s' not supported between instances of '%s' and '%s'", signs[op],
                      jinja_type_name((enum value_type)a->type),
                      jinja_type_name((enum value_type)b->type));
}

static bool in_range(const struct range *g, const struct value *v)
{
    if (v->type == V_FLOAT && v->u.f != floor(v->u.f))
        return false;
    if (v->type == V_FLOAT && !(fabs(v->u.f) < 9e18))
        return false;
    int64_t i = v->type == V_FLOAT ? (int64_t)v->u.f : value_as_int(v), off;
    if (__builtin_sub_overflow(i, g->start, &off) || off % g->step)
        return false;
    off /= g->step;
    return off >= 0 && off < g->n;
}

bool jinja_contains(struct render *r, const struct value *in, const struct value *v, bool *out)
{
    *out = false;
    if (in->type == V_STR) {
        if (v->type != V_STR)
            return jinja_fail(r, "'in <string>' requires string as left operand, not %s",
                              jinja_type_name((enum value_type)v->type));
        *out = jinja_find_str(in->u.s, v->u.s, 0) != SIZE_MAX;
        return jinja_spend_bytes(r, in->u.s.n);
    }
    if (in->type == V_DICT || (in->type == V_VIEW && in->reason == 0)) {
        struct value found;
        return jinja_dict_find(r, in->u.dict, v, &found, out);
    }
    if (in->type == V_RANGE && value_is_number(v)) {
        *out = in_range(in->u.range, v);
        return true;
    }
    if (!jinja_iterable(in))
        return jinja_fail(r, "argument of type '%s' is not iterable",
                          jinja_type_name((enum value_type)in->type));
    struct iter *it = jinja_iter(r, in);
    struct value item;
    enum iter_step step = it ? ITER_ITEM : ITER_FAIL;
    while (!*out && step == ITER_ITEM && (step = jinja_next(r, it, &item)) == ITER_ITEM)
        if (!jinja_equal(r, &item, v, out))
            return false;
    return step != ITER_FAIL;
}

/* ---- dicts ---- */

#define DICT_SMALL 8 /* entries that are found by looking at each */

struct dict *jinja_dict(struct render *r, size_t expected)
{
    struct dict *d = jinja_alloc(r, 1, sizeof *d);
    if (!d)
        return NULL;
    *d = (struct dict){ .cap = expected ? expected : 4 };
    d->e = jinja_alloc(r, d->cap, sizeof *d->e);
    return d->e ? d : NULL;
}

static bool hash_value(struct render *r, const struct value *v, uint64_t *h)
{
    switch ((enum value_type)v->type) {
    case V_STR:
        *h = map_hash(v->u.s);
        return jinja_spend_bytes(r, v->u.s.n);
    case V_BOOL:
    case V_INT:
    case V_FLOAT: {
        /* 1, 1.0 and true are one key */
        double f = value_as_float(v);
        f = f == 0 ? 0 : f;
        *h = map_hash((struct str){ (const char *)&f, sizeof f });
        return true;
    }
    case V_TUPLE: {
        bool ok = jinja_deeper(r) && jinja_spend(r, 1);
        *h = v->u.list->n;
        for (size_t i = 0; i < v->u.list->n && ok; i++) {
            uint64_t one = 0;
            ok = hash_value(r, &v->u.list->v[i], &one);
            *h = *h * 1000003 ^ one;
        }
        r->walk--;
        return ok;
    }
    case V_LIST:
    case V_DICT:
    case V_VIEW:
        return jinja_fail(r, "unhashable type: '%s'", jinja_type_name((enum value_type)v->type));
    default:
        *h = v->type;
        return true;
    }
}

static bool key_equal(struct render *r, const struct value *a, const struct value *b, bool *out)
{
    if (a->type == V_STR && b->type == V_STR) {
        *out = str_eq(a->u.s, b->u.s);
        return true;
    }
    return jinja_equal(r, a, b, out);
}

/* *at: the entry, or SIZE_MAX. */
static bool dict_locate(struct render *r, const struct dict *d, const struct value *k, size_t *at)
{
    uint64_t h;
    bool same = false;
    *at = SIZE_MAX;
    if (k->type != V_STR && !hash_value(r, k, &h)) /* also refuses what cannot be a key */
        return false;
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++) {
            if (!key_equal(r, &d->e[i].key, k, &same))
                return false;
            if (same) {
                *at = i;
                return true;
            }
        }
        return true;
    }
    if (!hash_value(r, k, &h))
        return false;
    for (size_t i = (size_t)h & d->mask; d->index[i]; i = (i + 1) & d->mask) {
        if (!jinja_spend(r, 1) || !key_equal(r, &d->e[d->index[i] - 1].key, k, &same))
            return false;
        if (same) {
            *at = d->index[i] - 1;
            return true;
        }
    }
    return true;
}

static bool dict_reindex(struct render *r, struct dict *d)
{
    size_t slots = 32;
    while (slots < d->cap * 2)
        slots *= 2;
    d->index = jinja_alloc(r, slots, sizeof *d->index);
    if (!d->index)
        return false;
    memset(d->index, 0, slots * sizeof *d->index);
    d->mask = slots - 1;
    for (size_t i = 0; i < d->n; i++) {
        uint64_t h;
        if (!hash_value(r, &d->e[i].key, &h))
            return false;
        size_t at = (size_t)h & d->mask;
        while (d->index[at])
            at = (at + 1) & d->mask;
        d->index[at] = (uint32_t)i + 1;
    }
    return true;
}

bool jinja_dict_put(struct render *r, struct dict *d, const struct value *k,
                    const struct value *v)
{
    size_t at;
    uint64_t h = 0;
    if (!dict_locate(r, d, k, &at))
        return false;
    if (at != SIZE_MAX) {
        d->e[at].value = *v;
        return true;
    }
    bool grow = d->n == d->cap;
    if (grow) {
        struct entry *more = jinja_alloc(r, d->cap * 2, sizeof *more);
        if (!more)
            return false;
        memcpy(more, d->e, d->n * sizeof *more);
        d->e = more;
        d->cap *= 2;
    }
    d->e[d->n++] = (struct entry){ *k, *v };
    if (d->n > DICT_SMALL && (!d->index || grow))
        return dict_reindex(r, d);
    if (!d->index)
        return true;
    if (!hash_value(r, k, &h))
        return false;
    size_t i = (size_t)h & d->mask;
    while (d->index[i])
        i = (i + 1) & d->mask;
    d->index[i] = (uint32_t)d->n;
    return true;
}

bool jinja_dict_find(struct render *r, const struct dict *d, const struct value *k,
                     struct value *out, bool *found)
{
    size_t at;
    if (!dict_locate(r, d, k, &at))
        return false;
    *found = at != SIZE_MAX;
    if (*found)
        *out = d->e[at].value;
    return true;
}

bool jinja_dict_find_str(struct render *r, const struct dict *d, struct str k, struct value *out)
{
    struct value key = value_str(k);
    bool found = false;
    return jinja_dict_find(r, d, &key, out, &found) && found;
}
