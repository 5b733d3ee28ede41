/* Tests: x is NAME. */
#include <string.h>

#include "runtime/text/jinja.h"

#define TEST(name) \
    static bool name(struct render *r, const struct value *a, const struct args *args, \
                     struct value *out)

static bool answer(bool yes, struct value *out)
{
    *out = value_bool(yes);
    return true;
}

#define TYPE_TEST(name, condition) \
    TEST(name) \
    { \
        (void)r, (void)args; \
        return answer(condition, out); \
    }

TYPE_TEST(test_defined, a[0].type != V_UNDEFINED)
TYPE_TEST(test_undefined, a[0].type == V_UNDEFINED)
TYPE_TEST(test_none, a[0].type == V_NONE)
TYPE_TEST(test_boolean, a[0].type == V_BOOL)
TYPE_TEST(test_true, a[0].type == V_BOOL && a[0].u.b)
TYPE_TEST(test_false, a[0].type == V_BOOL && !a[0].u.b)
TYPE_TEST(test_integer, a[0].type == V_INT)
TYPE_TEST(test_float, a[0].type == V_FLOAT)
TYPE_TEST(test_number, value_is_number(&a[0]))
TYPE_TEST(test_string, a[0].type == V_STR)
TYPE_TEST(test_mapping, a[0].type == V_DICT)
TYPE_TEST(test_iterable, jinja_iterable(&a[0]) || a[0].type == V_LOOP)
TYPE_TEST(test_escaped, a[0].type == V_STR && a[0].markup)
TYPE_TEST(test_callable, a[0].type == V_MACRO || a[0].type == V_METHOD ||
                             a[0].type == V_FUNCTION || a[0].type == V_LOOP ||
                             a[0].type == V_JOINER || a[0].type == V_UNDEFINED)
/* has a length and can be indexed */
TYPE_TEST(test_sequence, a[0].type == V_STR || a[0].type == V_LIST || a[0].type == V_TUPLE ||
                             a[0].type == V_DICT || a[0].type == V_RANGE ||
                             a[0].type == V_UNDEFINED)

/* Is there a filter (or test) of this name? */
static bool known(struct render *r, const struct value *name, bool filter, struct value *out)
{
    if (name->type == V_LIST || name->type == V_DICT || name->type == V_VIEW)
        return jinja_fail(r, "unhashable type: '%s'",
                          jinja_type_name((enum value_type)name->type));
    return answer(name->type == V_STR &&
                      (filter ? jinja_filter(name->u.s) : jinja_test(name->u.s)) != NULL,
                  out);
}

TEST(test_filter)
{
    (void)args;
    return known(r, &a[0], true, out);
}

TEST(test_test)
{
    (void)args;
    return known(r, &a[0], false, out);
}

TEST(test_lower)
{
    struct value s;
    (void)args;
    return jinja_str(r, &a[0], &s) && answer(jinja_str_is(s.u.s, 'l'), out);
}

TEST(test_upper)
{
    struct value s;
    (void)args;
    return jinja_str(r, &a[0], &s) && answer(jinja_str_is(s.u.s, 'u'), out);
}

static bool remainder_is(struct render *r, const struct value *v, const struct value *by,
                         int64_t wanted, struct value *out)
{
    struct value rest, want = value_int(wanted);
    bool same;
    if (!jinja_binary(r, OP_MOD, v, by, &rest) || !jinja_equal(r, &rest, &want, &same))
        return false;
    return answer(same, out);
}

TEST(test_odd)
{
    struct value two = value_int(2);
    (void)args;
    return remainder_is(r, &a[0], &two, 1, out);
}

TEST(test_even)
{
    struct value two = value_int(2);
    (void)args;
    return remainder_is(r, &a[0], &two, 0, out);
}

TEST(test_divisible)
{
    (void)args;
    return remainder_is(r, &a[0], &a[1], 0, out);
}

TEST(test_in)
{
    bool found;
    (void)args;
    return jinja_contains(r, &a[1], &a[0], &found) && answer(found, out);
}

/* Identity: of the small things that Python keeps once, equality. */
TEST(test_sameas)
{
    bool same = a[0].type == a[1].type;
    (void)args;
    if (same && (value_is_number(&a[0]) || a[0].type == V_STR || a[0].type == V_NONE)) {
        if (!jinja_equal(r, &a[0], &a[1], &same))
            return false;
    } else if (same) {
        same = a[0].u.list == a[1].u.list;
    }
    return answer(same, out);
}

#define COMPARE_TEST(name, op) \
    TEST(name) \
    { \
        bool yes; \
        (void)args; \
        return jinja_compare(r, op, &a[0], &a[1], &yes) && answer(yes, out); \
    }
COMPARE_TEST(test_eq, OP_EQ)
COMPARE_TEST(test_ne, OP_NE)
COMPARE_TEST(test_lt, OP_LT)
COMPARE_TEST(test_le, OP_LE)
COMPARE_TEST(test_gt, OP_GT)
COMPARE_TEST(test_ge, OP_GE)

static const struct builtin tests[] = {
    { "defined", test_defined, 0, { NULL } },
    { "undefined", test_undefined, 0, { NULL } },
    { "none", test_none, 0, { NULL } },
    { "string", test_string, 0, { NULL } },
    { "mapping", test_mapping, 0, { NULL } },
    { "iterable", test_iterable, 0, { NULL } },
    { "sequence", test_sequence, 0, { NULL } },
    { "boolean", test_boolean, 0, { NULL } },
    { "true", test_true, 0, { NULL } },
    { "false", test_false, 0, { NULL } },
    { "integer", test_integer, 0, { NULL } },
    { "float", test_float, 0, { NULL } },
    { "number", test_number, 0, { NULL } },
    { "callable", test_callable, 0, { NULL } },
    { "escaped", test_escaped, 0, { NULL } },
    { "filter", test_filter, 0, { NULL } },
    { "test", test_test, 0, { NULL } },
    { "lower", test_lower, 0, { NULL } },
    { "upper", test_upper, 0, { NULL } },
    { "odd", test_odd, 0, { NULL } },
    { "even", test_even, 0, { NULL } },
    { "divisibleby", test_divisible, 1, { "num" } },
    { "in", test_in, 1, { "seq" } },
    { "sameas", test_sameas, 1, { "other" } },
    { "==", test_eq, 1, { "" } },
    { "eq", test_eq, 1, { "" } },
    { "equalto", test_eq, 1, { "" } },
    { "!=", test_ne, 1, { "" } },
    { "ne", test_ne, 1, { "" } },
    { "<", test_lt, 1, { "" } },
    { "lt", test_lt, 1, { "" } },
    { "lessthan", test_lt, 1, { "" } },
    { "<=", test_le, 1, { "" } },
    { "le", test_le, 1, { "" } },
    { ">", test_gt, 1, { "" } },
    { "gt", test_gt, 1, { "" } },
    { "greaterthan", test_gt, 1, { "" } },
    { ">=", test_ge, 1, { "" } },
    { "ge", test_ge, 1, { "" } },
    { NULL, NULL, 0, { NULL } },
};

const struct builtin *jinja_find(const struct builtin *rows, struct str name)
{
    for (; rows->name; rows++)
        if (str_is(name, rows->name))
            return rows;
    return NULL;
}

const struct builtin *jinja_test(struct str name)
{
    return jinja_find(tests, name);
}
