/* Any bytes as a JSON Schema: it becomes a grammar or an error, within its caps. A random sentence of the grammar is
 * JSON, and the plain matcher takes it for a sentence. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/grammar_priv.h"
#include "runtime/text/json_schema.h"
#include "tests/text/sentences.h"

#define MAX_RULES 500 /* of a grammar that is walked: the matcher is slow */
#define MAX_WALK 256

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    json_setup();
    return 0;
}

static void walk(const struct gram *g, uint32_t node, uint64_t seed)
{
    struct buf text;
    struct err e = { 0 };
    json_t *v = NULL;
    buf_init(&text, MAX_WALK);
    if (g->n_rules < MAX_RULES && g->n_nodes < 100 * MAX_RULES && sentence_random(g, node, &seed, &text)) {
        if (json_read(buf_str(&text), MAX_WALK, "a sentence", &v, &e) && !strstr(e.text, "levels"))
            abort();
        if (!sentence_is(g, node, buf_str(&text)))
            abort();
    }
    json_decref(v);
    buf_finish(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t live = mem_live();
    struct gram *g = gram_create();
    struct err e = { 0 };
    json_t *schema = NULL;
    if (json_read((struct str){ (const char *)data, size }, GRAM_MAX_SOURCE, "schema", &schema, &e) == ERR_OK) {
        uint32_t rule = gram_rule(g, STR("root")), node = json_schema_node(g, schema, NULL, JSON_SCHEMA_BY_ITSELF);
        if (node)
            gram_define(g, rule, node);
        gram_start(g, rule);
        enum err_code code = gram_error(g, &e);
        if (code == ERR_INTERNAL || !code != (node != GRAM_NONE) || (code && !e.text[0]))
            abort();
        if (!code)
            walk(g, node, size);
    }
    json_decref(schema);
    gram_destroy(g);
    if (mem_live() != live)
        abort();
    return 0;
}
