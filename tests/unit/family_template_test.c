/* Which family's template a vocabulary gets. That the templates say what the makers' do is shown by
 * tests/text/family_oracle.py. */
#include "runtime/text/family_template.h"
#include "runtime/text/chat_template.h"
#include "tests/unit/text_kit.h"

/* The family of a vocabulary of these control tokens, the first its EOS. types: of all of them. */
static const char *family_of(const char *const *special, enum token_type type)
{
    struct str tokens[16] = { STR("<unk>"), STR("a"), STR("\xE2\x96\x81") };
    int32_t types[16] = { TOKEN_UNKNOWN, TOKEN_NORMAL, TOKEN_NORMAL };
    float scores[16] = { 0 };
    struct tokenizer_spec spec = { .model = STR("llama"), .tokens = tokens, .types = types,
                                   .scores = scores, .n_tokens = 3, .bos = TOKEN_NONE, .eos = 3,
                                   .unk = 0, .pad = TOKEN_NONE, .sep = TOKEN_NONE,
                                   .mask = TOKEN_NONE, .eot = TOKEN_NONE, .eom = TOKEN_NONE,
                                   .add_bos = 0, .add_eos = 0, .add_space_prefix = -1,
                                   .remove_extra_whitespaces = -1 };
    for (; *special; special++) {
        tokens[spec.n_tokens] = str_from(*special);
        types[spec.n_tokens++] = str_is(str_from(*special), "▁the") ? TOKEN_NORMAL : (int32_t)type;
    }
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    if (tokenizer_create(&spec, &t, &e))
        fail_msg("%s", e.text);
    const struct family_template *f = family_template_of(t);
    tokenizer_destroy(t);
    return f ? f->name : "none";
}

static void a_vocabulary_tells_its_family(void **state)
{
    (void)state;
    static const struct {
        const char *family, *special[8];
    } cases[] = {
        { "none", { "</s>" } },
        { "none", { "<|endoftext|>", "<|fim_prefix|>", "<|user|>" } },
        { "chatml", { "<|im_end|>", "<|im_start|>", "<|endoftext|>" } },
        { "chatml", { "<|endoftext|>", "<|im_start|>", "<|im_end|>" } },
        { "none", { "<|endoftext|>", "<|im_start|>" } },
        { "llama3", { "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>" } },
        /* a fine-tune in ChatML over Llama 3's vocabulary, and the other way round */
        { "chatml",
          { "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|start_header_id|>",
            "<|end_header_id|>" } },
        { "llama3",
          { "<|eot_id|>", "<|im_end|>", "<|im_start|>", "<|start_header_id|>",
            "<|end_header_id|>" } },
        { "phi4", { "<|im_end|>", "<|im_start|>", "<|im_sep|>" } },
        { "phi3", { "<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>", "<|system|>" } },
        { "stablelm", { "<|endoftext|>", "<|user|>", "<|assistant|>" } },
        { "zephyr", { "</s>", "<|user|>", "<|assistant|>" } },
        { "glm4", { "<|endoftext|>", "<|user|>", "<|assistant|>", "[gMASK]", "<sop>" } },
        { "gemma", { "<eos>", "<start_of_turn>", "<end_of_turn>" } },
        { "granite", { "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>" } },
        { "deepseek", { "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>" } },
        { "mistral-v7", { "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]" } },
        { "mistral", { "</s>", "[INST]", "[/INST]", "▁the" } },
        { "mistral-tekken", { "</s>", "[INST]", "[/INST]" } },
        { "harmony", { "<|return|>", "<|start|>", "<|message|>", "<|channel|>", "<|end|>" } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(family_of(cases[i].special, TOKEN_CONTROL), cases[i].family);
        assert_string_equal(family_of(cases[i].special, TOKEN_USER_DEFINED), cases[i].family);
        if (strcmp(cases[i].family, "harmony") != 0) /* whose tokens the tokenizer knows by name */
            assert_string_equal(family_of(cases[i].special, TOKEN_NORMAL), "none");
    }
}

static void every_template_is_one(void **state)
{
    (void)state;
    const struct family_template *f;
    for (size_t i = 0; (f = family_template_at(i)); i++) {
        struct chat_template *t = NULL;
        struct err e = { 0 };
        if (chat_template_create(str_from(f->source), f->name, &t, &e))
            fail_msg("%s", e.text);
        assert_non_null(f->tokens[0]);
        chat_template_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vocabulary_tells_its_family),
        cmocka_unit_test(every_template_is_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
