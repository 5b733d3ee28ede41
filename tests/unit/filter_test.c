/* filter: which models a list is to have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/filter.h"

static const struct store_model model = {
    .name = "hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M",
    .size = 4000000000u,
    .source = "https://huggingface.co/Qwen/Qwen3-8B-GGUF",
    .facts = { .family = "qwen3", .quantization = "Q4_K_M", .capabilities = "completion,tools,thinking",
               .license = "apache-2.0", .n_params = 8190735360u, .context_length = 40960 },
};

static void words_are_true_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *filter;
        bool matches;
    } rows[] = {
        { "", true }, { "   ", true }, { "qwen", true }, { "QWEN3", true }, { "8b-gguf:q4", true }, { "llama", false },
        { "hf.co/Qwen", true }, { "qwen llama", false }, { "qwen 8b", true }, { "name:qwen", true },
        { "name:gguf:Q4_K_M", true }, { "family:qwen3", true }, { "FAMILY:Qwen3", true }, { "family:qwen", false },
        { "family=qwen3", true }, { "quant:Q4_K_M", true }, { "quant:q4", true }, { "quant:Q5", false },
        { "quant:4_K", false }, { "cap:tools", true }, { "cap:tool", false }, { "cap:completion", true },
        { "cap:thinking", true }, { "cap:vision", false }, { "cap:completion,tools", false },
        { "license:apache", true }, { "license:mit", false }, { "source:huggingface", true },
        { "size<4GB", false }, { "size<=4GB", true }, { "size:4GB", true }, { "size>=4GB", true }, { "size>4GB", false },
        { "size<4.5gb", true }, { "size<4GiB", true }, { "size>3.7GiB", true }, { "size=4000000000", true },
        { "size>3999M", true }, { "size<4000000001B", true }, { "size<4000000000b", false }, { "size<1TB", true }, { "params<8B", false }, { "params<8.2B", true },
        { "params>8000M", true }, { "context>=40960", true }, { "context>=40k", true }, { "context<40k", false },
        { "context>128K", false }, { "context:40960 cap:tools size<5GB qwen", true },
        { "context:40960 cap:tools size<5GB llama", false }, { "  q q q q q q q q q q q q q q q q  ", true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_filter f;
        struct err e = { 0 };
        if (store_filter_parse(str_from(rows[i].filter), &f, &e))
            fail_msg("%s", e.text);
        if (store_filter_matches(&f, &model) != rows[i].matches)
            fail_msg("'%s' is %s", rows[i].filter, rows[i].matches ? "false" : "true");
    }
}

static void what_is_no_filter_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *sentence;
    } rows[] = {
        { "colour=red", "'colour=red': a filter compares name, family" }, { "ctx>=8192", "a filter compares" },
        { ">8", "a filter compares" }, { "size<", "nothing stands behind size" }, { "family:", "nothing stands" },
        { "family<llama", "of family only ':'" }, { "size<big", "size wants a number" }, { "size<4XB", "wants a number" },
        { "size<-4", "wants a number" }, { "size<1.2.3", "wants a number" }, { "params<8GB", "wants a number" },
        { "context>8kb", "wants a number" }, { "size<4GBB", "wants a number" }, { "size<.", "wants a number" },
        { "size<1234567890123456789012345", "wants a number" }, { "qwen size<<4", "wants a number" },
        { "size<4kx", "wants a number" }, { "size<4kix", "wants a number" }, { "size<4kibs", "wants a number" },
        { "context>1B", "wants a number" }, { "\xff", "not valid UTF-8" }, { "a b c d e f g h i j k l m n o p q", "at most 16 words" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_filter f;
        struct err e = { 0 };
        enum err_code code = store_filter_parse(str_from(rows[i].filter), &f, &e);
        if (code == ERR_OK || !strstr(e.text, rows[i].sentence))
            fail_msg("'%s': '%s'", rows[i].filter, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_true_or_not),
        cmocka_unit_test(what_is_no_filter_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
