/* accepts: reads requests, one JSON object a line; answers each with one, in order.
 *
 *   {"schema": "text of a schema", "draft": 7, "docs": ["text", ...], "walks": 3, "seed": 1}
 *   {"accepts": [true, ...], "walks": ["text", ...], "ms": 1.2}    or    {"error": "..."}
 *
 * docs: whether each is a sentence of the schema's grammar. walks: random sentences of it. ms: to compile. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/json_schema.h"
#include "tests/text/sentences.h"

static enum json_schema_draft draft_of(const json_t *request)
{
    switch (json_integer_value(json_object_get(request, "draft"))) {
    case 7:
        return JSON_SCHEMA_7;
    case 2019:
        return JSON_SCHEMA_2019;
    case 2020:
        return JSON_SCHEMA_2020;
    default:
        return JSON_SCHEMA_BY_ITSELF;
    }
}

static struct str text_of(const json_t *v)
{
    return (struct str){ json_string_value(v), json_string_length(v) };
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void answer_docs(const struct gram *g, uint32_t node, const json_t *docs, struct json_out *out)
{
    json_key(out, "accepts");
    json_arr(out);
    for (size_t i = 0; i < json_array_size(docs); i++)
        json_bool_value(out, sentence_is(g, node, text_of(json_array_get(docs, i))));
    json_arr_end(out);
}

static void answer_walks(const struct gram *g, uint32_t node, const json_t *request, struct json_out *out)
{
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(request, "seed"));
    json_int_t n = json_integer_value(json_object_get(request, "walks"));
    json_key(out, "walks");
    json_arr(out);
    for (json_int_t i = 0; i < n; i++) {
        struct buf text;
        buf_init(&text, 1 << 16);
        if (sentence_random(g, node, &seed, &text))
            json_str_value(out, buf_str(&text));
        buf_finish(&text);
    }
    json_arr_end(out);
}

static enum err_code answer(const json_t *request, struct json_out *out, struct err *e)
{
    json_t *schema = NULL;
    struct gram *g = gram_create();
    enum err_code code = json_read(text_of(json_object_get(request, "schema")), GRAM_MAX_SOURCE, "the schema",
                                   &schema, e);
    if (!code) {
        double before = now_ms();
        uint32_t rule = gram_rule(g, STR("root")), node = json_schema_node(g, schema, NULL, draft_of(request));
        if (node)
            gram_define(g, rule, node);
        gram_start(g, rule);
        double ms = now_ms() - before;
        code = gram_error(g, e);
        if (!code) {
            json_knum(out, "ms", ms);
            answer_docs(g, node, json_object_get(request, "docs"), out);
            answer_walks(g, node, request, out);
        }
    }
    gram_destroy(g);
    json_decref(schema);
    return code;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    json_setup();
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 0;) {
        struct err e = { 0 };
        struct buf b;
        struct json_out out;
        json_t *request = NULL;
        buf_init(&b, (size_t)64 << 20);
        json_begin(&out, &b);
        json_obj(&out);
        if (json_read((struct str){ line, (size_t)n }, (size_t)64 << 20, "a request", &request, &e) ||
            answer(request, &out, &e))
            json_kstr(&out, "error", e.text);
        json_obj_end(&out);
        printf("%s\n", b.failed ? "{\"error\": \"the answer is too long\"}" : b.p);
        fflush(stdout);
        buf_finish(&b);
        json_decref(request);
    }
    free(line);
    return 0;
}
