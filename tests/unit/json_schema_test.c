/* JSON Schema -> grammar: numbers exhaustively in windows, forms, refusals with their path. The JSON Schema Test
 * Suite and generated documents are tests/text/schema_suite.py and schema_walks.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/json_schema.h"
#include "tests/text/sentences.h"

struct compiled {
    struct gram *g;
    uint32_t node;
    struct err e;
};

static struct compiled compile(const char *schema)
{
    struct compiled c = { .g = gram_create() };
    json_t *v = NULL;
    assert_int_equal(json_read(str_from(schema), GRAM_MAX_SOURCE, "schema", &v, &c.e), ERR_OK);
    uint32_t rule = gram_rule(c.g, STR("root"));
    c.node = json_schema_node(c.g, v, NULL, JSON_SCHEMA_BY_ITSELF);
    if (c.node)
        gram_define(c.g, rule, c.node);
    gram_start(c.g, rule);
    gram_error(c.g, &c.e);
    json_decref(v);
    return c;
}

static struct compiled must(const char *schema)
{
    struct compiled c = compile(schema);
    if (c.e.code)
        fail_msg("%s: %s", schema, c.e.text);
    return c;
}

static bool takes(const struct compiled *c, const char *text)
{
    return sentence_is(c->g, c->node, str_from(text));
}

/* ---- numbers ---- */

static void check_integers(long min, long max, bool open_min, bool open_max, long step)
{
    char schema[256], text[32];
    (void)snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"%s\":%ld,\"%s\":%ld%s%.0ld}",
                   open_min ? "exclusiveMinimum" : "minimum", min, open_max ? "exclusiveMaximum" : "maximum", max,
                   step ? ",\"multipleOf\":" : "", step);
    struct compiled c = compile(schema);
    long found = 0;
    for (long i = -130; i <= 130; i++) {
        bool want = (open_min ? i > min : i >= min) && (open_max ? i < max : i <= max) && (!step || i % step == 0);
        static const char *const forms[] = { "%ld", "%ld.0" };
        found += want;
        for (size_t f = 0; f < 2 && !c.e.code; f++) {
            (void)snprintf(text, sizeof text, forms[f], i);
            if (takes(&c, text) != want)
                fail_msg("%s: %s: %d wanted", schema, text, want);
        }
        (void)snprintf(text, sizeof text, "%ld.5", i);
        if (!c.e.code && takes(&c, text))
            fail_msg("%s: %s", schema, text);
    }
    if (!c.e.code != (found > 0))
        fail_msg("%s: %ld numbers, but: %s", schema, found, c.e.text);
    gram_destroy(c.g);
}

static void integers_keep_their_limits(void **state)
{
    (void)state;
    static const long ends[] = { -120, -101, -100, -99, -10, -9, -1, 0, 1, 7, 9, 10, 12, 99, 100, 119 };
    size_t n = sizeof ends / sizeof ends[0];
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j += 1 + (i + j) % 3)
            check_integers(ends[i], ends[j], (i + j) % 2, (i + j) % 3 == 0, (long)((i * j) % 9));
}

/* Hundredths against bounds that are hundredths. */
static void decimals_keep_their_limits(void **state)
{
    (void)state;
    static const struct {
        const char *schema;
        long min, max, step; /* in hundredths */
    } rows[] = {
        { "{\"type\":\"number\",\"minimum\":-1.25,\"maximum\":1.5}", -125, 150, 1 },
        { "{\"type\":\"number\",\"exclusiveMinimum\":-0.01,\"exclusiveMaximum\":0.1}", 0, 9, 1 },
        { "{\"type\":\"number\",\"minimum\":0,\"exclusiveMaximum\":1}", 0, 99, 1 },
        { "{\"type\":\"number\",\"minimum\":1e-2,\"maximum\":12e-1}", 1, 120, 1 },
        { "{\"type\":\"number\",\"minimum\":-1.1,\"maximum\":1.1,\"multipleOf\":0.25}", -100, 100, 25 },
        { "{\"type\":\"number\",\"minimum\":-1,\"maximum\":2,\"multipleOf\":0.03}", -99, 198, 3 },
        { "{\"type\":\"number\",\"minimum\":0.99,\"maximum\":1.01}", 99, 101, 1 },
        { "{\"minimum\":0,\"type\":\"number\",\"exclusiveMinimum\":true,\"maximum\":1}", 1, 100, 1 },
        { "{\"enum\":[0.5,-0.07,1]}", 0, 0, 0 },
    };
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        struct compiled c = must(rows[r].schema);
        for (long i = -230; i <= 230; i++) {
            char text[32];
            long whole = (i < 0 ? -i : i) / 100, part = (i < 0 ? -i : i) % 100;
            bool want = rows[r].step ? i >= rows[r].min && i <= rows[r].max && i % rows[r].step == 0
                                     : i == 50 || i == -7 || i == 100;
            const char *sign = i < 0 ? "-" : "";
            if (part % 10 == 0)
                (void)snprintf(text, sizeof text, "%s%ld.%ld", sign, whole, part / 10);
            else
                (void)snprintf(text, sizeof text, "%s%ld.%02ld", sign, whole, part);
            if (takes(&c, text) != want)
                fail_msg("%s: %s: %d wanted", rows[r].schema, text, want);
            (void)snprintf(text, sizeof text, "%s%ld.%02ld1", sign, whole, part);
            bool between = rows[r].step == 1 && (i < 0 ? i > rows[r].min : i >= rows[r].min && i < rows[r].max);
            if (i != 0 && i != rows[r].max && r != 1 && takes(&c, text) != between && i != rows[r].min - 1)
                fail_msg("%s: %s: %d wanted", rows[r].schema, text, between);
        }
        gram_destroy(c.g);
    }
}

/* ---- forms ---- */

struct verdict {
    const char *schema, *text;
    bool want;
};

static void judge(const struct verdict *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct compiled c = must(v[i].schema);
        if (takes(&c, v[i].text) != v[i].want)
            fail_msg("%s: %s: %d wanted", v[i].schema, v[i].text, v[i].want);
        gram_destroy(c.g);
    }
}

static void documents_are_taken_or_not(void **state)
{
    (void)state;
    static const struct verdict rows[] = {
        { "true", "{\"a\": [1, 2.5e3, \"\\u0041\\ud83d\\ude00\", null]}", true },
        { "true", "\"\\ud83d\"", false },
        { "true", "01", false },
        { "true", "[1,]", false },
        { "true", "{\"a\"\n:1}", false },
        { "true", "[\n\t1\n]", true },
        { "{\"type\":\"string\",\"maxLength\":2}", "\"\\u0041\\n\"", true },
        { "{\"type\":\"string\",\"maxLength\":2}", "\"abc\"", false },
        { "{\"type\":\"string\",\"minLength\":2}", "\"\xF0\x9F\x98\x80\"", false },
        { "{\"type\":\"string\",\"pattern\":\"^a\\\"b$\"}", "\"a\\\"b\"", true },
        { "{\"type\":\"string\",\"pattern\":\"^b$\"}", "\"\\u0062\"", false },
        { "{\"type\":\"string\",\"pattern\":\"^\\\\n$\"}", "\"\\n\"", true },
        { "{\"enum\":[\"\\u0001\",null]}", "\"\\u0001\"", true },
        { "{\"enum\":[{\"a\":[1]},[]]}", "{\"a\":[1.0]}", true },
        { "{\"enum\":[{\"a\":[1]},[]]}", "{\"a\":[1,1]}", false },
        { "{\"const\":9007199254740993}", "9007199254740993", true },
        { "{\"const\":9007199254740993}", "9007199254740993.0", false },
        { "{\"const\":0.12345678901234568}", "0.12345678901234568", true },
        { "{\"properties\":{\"a\":true,\"b\":true},\"required\":[\"b\"]}", "{\"a\":1,\"b\":2,\"c\":3}", true },
        { "{\"properties\":{\"a\":true,\"b\":true},\"required\":[\"b\"]}", "{\"b\":2,\"a\":1}", false },
        { "{\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"\\u0061\":\"x\"}", false },
        { "{\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"a\":1,\"a\":\"x\"}", false },
        { "{\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"a\":1,\"aa\":\"x\"}", true },
        { "{\"properties\":{\"a\":true,\"b\":true,\"c\":true},\"maxProperties\":2,\"minProperties\":1,"
          "\"additionalProperties\":false}", "{\"a\":1,\"c\":1}", true },
        { "{\"properties\":{\"a\":true,\"b\":true,\"c\":true},\"maxProperties\":2,\"minProperties\":1,"
          "\"additionalProperties\":false}", "{\"a\":1,\"b\":1,\"c\":1}", false },
        { "{\"properties\":{\"a\":true,\"b\":true,\"c\":true},\"maxProperties\":2,\"minProperties\":1,"
          "\"additionalProperties\":false,\"type\":\"object\"}", "{}", false },
        { "{\"patternProperties\":{\"^x\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"boolean\"}}",
          "{\"x1\":null,\"y\":true}", true },
        { "{\"patternProperties\":{\"^x\":{\"type\":\"null\"}},\"additionalProperties\":{\"type\":\"boolean\"}}",
          "{\"x1\":true}", false },
        { "{\"propertyNames\":{\"maxLength\":1}}", "{\"ab\":1}", false },
        { "{\"dependentRequired\":{\"a\":[\"b\"]},\"properties\":{\"a\":true,\"b\":true}}", "{\"a\":1}", false },
        { "{\"dependentRequired\":{\"a\":[\"b\"]},\"properties\":{\"a\":true,\"b\":true}}", "{\"a\":1,\"b\":1}", true },
        { "{\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":2}", "[1, 2]", true },
        { "{\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":2}", "[1, 2, 3]", false },
        { "{\"prefixItems\":[{\"type\":\"null\"}],\"items\":{\"type\":\"integer\"}}", "[null, 2, 3]", true },
        { "{\"prefixItems\":[{\"type\":\"null\"}],\"items\":false}", "[null, 2]", false },
        { "{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2,\"type\":\"number\"}]}", "3", false },
        { "{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2,\"type\":\"number\"}]}", "2.5", true },
        { "{\"not\":{\"maximum\":3},\"type\":\"number\"}", "3.5", true },
        { "{\"not\":{\"maximum\":3},\"type\":\"number\"}", "3", false },
        { "{\"not\":{\"const\":3},\"type\":\"number\"}", "3e0", false },
        { "{\"not\":{\"required\":[\"a\"]},\"type\":\"object\"}", "{\"a\":1}", false },
        { "{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":{\"required\":[\"v\"]},"
          "\"properties\":{\"k\":true,\"v\":true}}", "{\"k\":1}", false },
        { "{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":{\"required\":[\"v\"]},"
          "\"properties\":{\"k\":true,\"v\":true}}", "{\"k\":2}", true },
        { "{\"format\":\"date\",\"type\":\"string\"}", "\"2024-02-29\"", true },
        { "{\"format\":\"date\",\"type\":\"string\"}", "\"2023-02-29\"", false },
        { "{\"format\":\"date\",\"type\":\"string\"}", "\"1900-02-29\"", false },
        { "{\"format\":\"ipv4\",\"minLength\":15}", "\"255.255.255.255\"", true },
        { "{\"type\":\"integer\",\"format\":\"int32\"}", "2147483648", false },
        { "{\"type\":[\"string\",\"null\"],\"nullable\":true,\"x-y\":1,\"title\":\"t\"}", "null", true },
        { "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"l\":{\"$ref\":\"#/$defs/t\"}},"
          "\"additionalProperties\":false}}}", "{\"l\":{\"l\":{}}}", true },
        { "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"l\":{\"$ref\":\"#/$defs/t\"}},"
          "\"additionalProperties\":false}}}", "{\"l\":{\"m\":{}}}", false },
    };
    judge(rows, sizeof rows / sizeof rows[0]);
}

/* With a length they are written with names only, and not in full length. */
static void addresses_may_have_a_length(void **state)
{
    (void)state;
    static const struct verdict rows[] = {
        { "{\"format\":\"uri\"}", "\"http://[::1]/\"", true },
        { "{\"format\":\"uri\",\"maxLength\":2048}", "\"https://u@h.example:8/a?b#c\"", true },
        { "{\"format\":\"uri\",\"maxLength\":2048}", "\"no address\"", false },
        { "{\"format\":\"uri\",\"maxLength\":12}", "\"http://a/bcd\"", true },
        { "{\"format\":\"uri\",\"maxLength\":12}", "\"http://a/bcde\"", false },
        { "{\"format\":\"uri\",\"minLength\":12,\"maxLength\":300}", "\"http://a/bc\"", false },
        { "{\"format\":\"uri-reference\",\"maxLength\":300}", "\"//h/p\"", true },
    };
    judge(rows, sizeof rows / sizeof rows[0]);
}

/* ---- refusals ---- */

static void refusals_name_the_keyword(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *says;
    } rows[] = {
        { "{\"properties\":{\"a\":{\"items\":{\"uniqueItems\":true}}}}", "$.properties.a.items.uniqueItems: " },
        { "{\"properties\":{\"a b\":{\"contains\":{}}}}", "$.properties[\"a b\"].contains: " },
        { "{\"anyOf\":[true,{\"minLength\":-1}]}", "$.anyOf[1].minLength: must be a count" },
        { "{\"$ref\":\"http://example.com/x\"}", "$.$ref: \"http://example.com/x\" is not in the schema" },
        { "{\"$ref\":\"#\"}", "$.$ref: refers to itself without end" },
        { "{\"$dynamicRef\":\"#x\"}", "$.$dynamicRef: is not supported" },
        { "{\"type\":\"strin\"}", "$.type: is no type" },
        { "{\"minlength\":3}", "$.minlength: is an unknown keyword" },
        { "{\"pattern\":\"(?=a)\"}", "$.pattern: a look-ahead at byte 0" },
        { "{\"pattern\":\"^(a|b)*a(a|b){40}$\"}", "$.pattern: an automaton of more" },
        { "{\"maxLength\":10001}", "$.maxLength: is more than 10000" },
        { "{\"minItems\":20000}", "$.minItems: is more than 10000" },
        { "{\"multipleOf\":0.123456789}", "$.multipleOf: the step has too many digits" },
        { "{\"multipleOf\":0}", "$.multipleOf: must be more than 0" },
        { "{\"minProperties\":2,\"type\":\"object\"}", "$.minProperties: needs more than one free key" },
        { "{\"unevaluatedProperties\":false,\"allOf\":[{\"properties\":{\"a\":true}}]}", "$.unevaluatedProperties: " },
        { "{\"not\":{\"additionalProperties\":false},\"type\":\"object\"}", "$.not: takes the opposite" },
        { "{\"not\":{\"items\":{\"type\":\"null\"}},\"type\":\"array\"}", "$.not: takes the opposite" },
        { "{\"format\":\"regex\"}", "$.format: \"regex\" cannot be kept" },
        { "{\"const\":1e30}", "$.const: leaves only numbers" },
        { "{\"properties\":{\"a\":3}}", "$" },
        { "{\"type\":\"string\",\"enum\":[1]}", "$: nothing that could be written" },
        { "{\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":\"#\"}},\"type\":\"object\"}",
          "$: nothing that could be written" },
        { "false", "$: nothing that could be written" },
        { "{\"enum\":[]}", "$.enum: must be" },
        { "{\"required\":true}", "$.required: must be" },
        { "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "$.minLength: is more than maxLength" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t live = mem_live();
        struct compiled c = compile(rows[i].schema);
        if (!c.e.code || strncmp(c.e.text, rows[i].says, strlen(rows[i].says)) != 0)
            fail_msg("%s: \"%s\"", rows[i].schema, c.e.text);
        gram_destroy(c.g);
        assert_int_equal(mem_live(), live);
    }
}

static void memory_may_run_out(void **state)
{
    (void)state;
    json_t *v = json_loads("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^a+$\"},"
                           "\"b\":{\"anyOf\":[{\"type\":\"integer\",\"minimum\":3},{\"type\":\"null\"}]}}}", 0, NULL);
    uint64_t live = mem_live();
    for (uint64_t n = 1; n < 3000; n += n / 8 + 1) {
        struct err e = { 0 };
        mem_fail_after(n, true);
        struct gram *g = gram_create();
        if (g)
            json_schema_node(g, v, NULL, JSON_SCHEMA_BY_ITSELF);
        if (g && gram_failed(g))
            assert_int_equal(gram_error(g, &e), ERR_NO_MEMORY);
        gram_destroy(g);
        mem_fail_after(0, false);
        assert_int_equal(mem_live(), live);
    }
    json_decref(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_keep_their_limits), cmocka_unit_test(decimals_keep_their_limits),
        cmocka_unit_test(documents_are_taken_or_not), cmocka_unit_test(addresses_may_have_a_length),
        cmocka_unit_test(refusals_name_the_keyword),
        cmocka_unit_test(memory_may_run_out),
    };
    json_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
