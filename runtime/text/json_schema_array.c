/* items, prefixItems and the like. */
#include "runtime/text/json_schema_priv.h"

/* The schemas of the first items: prefixItems, or items as an array (until 2019-09). */
static bool read_prefix(struct schema *c, const json_t *v, const json_t *s, const char *keyword, uint32_t of,
                        struct array_shape *a)
{
    size_t n = json_array_size(v);
    goal_id *prefix = schema_alloc(c, n, sizeof *prefix);
    if (!json_is_array(v))
        return schema_refuse(c, ERR_INVALID, s, keyword, "must be an array of schemas");
    if (n > GRAM_MAX_REPEAT)
        return schema_refuse(c, ERR_TOO_LARGE, s, keyword, "has more than %d schemas", GRAM_MAX_REPEAT);
    for (size_t i = 0; prefix && i < n; i++)
        if (!goal_schema(c, json_array_get(v, i), of, &prefix[i]))
            return false;
    a->prefix = prefix;
    a->n_prefix = (uint32_t)n;
    return prefix != NULL;
}

static bool read_items(struct schema *c, const json_t *s, uint32_t of, struct array_shape *a)
{
    const json_t *items = json_object_get(s, "items"), *prefix = json_object_get(s, "prefixItems"), *rest = items;
    if (prefix && !read_prefix(c, prefix, s, "prefixItems", of, a))
        return false;
    if (!prefix && json_is_array(items)) {
        if (!read_prefix(c, items, s, "items", of, a))
            return false;
        rest = json_object_get(s, "additionalItems");
    }
    if (!rest) {
        rest = json_object_get(s, "unevaluatedItems");
        if (rest && !json_is_true(rest) && has_applicator(s))
            return schema_refuse(c, ERR_UNSUPPORTED, s, "unevaluatedItems", "is not supported beside other schemas");
    }
    a->rest = GOAL_ANY;
    return !rest || goal_schema(c, rest, of, &a->rest);
}

/* An array that contains at least one item of a kind has no automaton of ours; nor has one without repetition. */
static bool refuse_the_rest(struct schema *c, const json_t *s, const struct array_shape *a)
{
    const json_t *least = json_object_get(s, "minContains");
    bool trivial = json_is_number(least) && json_number_value(least) == 0 && !json_object_get(s, "maxContains");
    uint32_t max = a->rest == GOAL_FALSE && a->n_prefix < a->max ? a->n_prefix : a->max;
    if (json_object_get(s, "contains") && !trivial)
        return schema_refuse(c, ERR_UNSUPPORTED, s, "contains", "is not supported");
    if (json_is_true(json_object_get(s, "uniqueItems")) && max > 1)
        return schema_refuse(c, ERR_UNSUPPORTED, s, "uniqueItems", "is not supported");
    return true;
}

const struct shape *schema_array(struct schema *c, const json_t *s, uint32_t of)
{
    struct array_shape *a = schema_alloc(c, 1, sizeof *a);
    if (!a || !read_items(c, s, of, a) || !schema_count(c, s, "minItems", 0, &a->min) ||
        !schema_count(c, s, "maxItems", NO_MAX, &a->max) || !refuse_the_rest(c, s, a))
        return NULL;
    return shape_of_arrays(c, a->min <= a->max ? a : NULL);
}
