/* words: what a file says without its weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"
#include "tests/model/gguf_writer.h"
#include "tests/unit/text_kit.h"

#define KEY(name) "tokenizer.ggml." name
static char path[] = "/tmp/hearth-words-XXXXXX"; /* one file, made anew by each test */

static void strings(struct gguf_writer *w, const char *key, const char *const *s, size_t n)
{
    gw_array(w, key, GGUF_STRING, n);
    for (size_t i = 0; i < n; i++)
        gw_text(&w->keys, str_from(s[i]));
}

/* A whole tiny model with an SPM vocabulary of its 40 tokens. */
static struct gguf_writer begun(const struct tiny *tiny, bool tokenizer)
{
    struct gguf_writer w;
    gw_tiny(&w, tiny);
    if (!tokenizer)
        return w;
    gw_str(&w, KEY("model"), "llama");
    gw_array(&w, KEY("scores"), GGUF_F32, 40);
    for (int i = 0; i < 40; i++)
        gw_f32_bytes(&w.keys, (float)-i);
    gw_array(&w, KEY("token_type"), GGUF_I32, 40);
    for (int i = 0; i < 40; i++)
        gw_int(&w.keys, i == 0 ? 2 : i < 3 ? 3 : 1, 4);
    gw_u32(&w, KEY("bos_token_id"), 1);
    gw_u32(&w, KEY("eos_token_id"), 2);
    return w;
}

static void save(const struct gguf_writer *w, bool with_data)
{
    size_t n;
    unsigned char *p = gw_file(w, with_data, &n, NULL);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    mem_free(p);
}

static struct words *load(struct gguf_writer *w)
{
    struct err e = { 0 };
    struct words *out = NULL;
    save(w, true);
    gguf_writer_finish(w);
    if (words_load(path, &out, &e))
        fail_msg("%s", e.text);
    assert_non_null(out);
    return out;
}

/* The load fails, and its sentence has these words in it. */
static void refused(struct gguf_writer *w, enum err_code code, const char *says)
{
    struct err e = { 0 };
    struct words *out = NULL;
    save(w, true);
    gguf_writer_finish(w);
    assert_int_equal(words_load(path, &out, &e), code);
    assert_null(out);
    if (!strstr(e.text, says))
        fail_msg("'%s' does not say '%s'", e.text, says);
}

static void test_a_model(void **state)
{
    (void)state;
    struct gguf_writer w = begun(&(struct tiny){ .arch = "llama" }, true);
    gw_str(&w, "general.name", "Tiny");
    gw_u32(&w, "general.file_type", 1);
    gw_str(&w, "tokenizer.chat_template", "{{ messages }}");
    struct words *words = load(&w);
    const struct model_header *h = words_header(words);
    assert_string_equal(h->arch, "llama");
    assert_string_equal(h->name, "Tiny");
    assert_string_equal(h->file_type, "F16");
    assert_string_equal(h->why, "");
    assert_true(h->has_weights && h->runnable);
    assert_int_equal(h->n_vocab, 40);
    assert_int_equal(h->n_embd, 64);
    assert_int_equal(h->n_layer, 2);
    assert_true(h->n_params > 40 * 64 && h->tensor_bytes >= h->n_params * 4 && h->n_tensors > 10);
    const struct tokenizer *t = words_tokenizer(words);
    assert_non_null(t);
    assert_int_equal(tokenizer_n_tokens(t), 40);
    assert_int_equal(tokenizer_bos(t), 1);
    assert_true(tokenizer_adds_bos(t));
    assert_true(tokenizer_is_eog(t, 2));
    assert_non_null(words_template(words));
    assert_null(words_template_family(words));
    words_destroy(words);
    words_destroy(NULL);
}

static void test_without_words(void **state)
{
    (void)state;
    struct gguf_writer w = begun(&(struct tiny){ .arch = "llama" }, false);
    struct words *words = load(&w);
    assert_null(words_tokenizer(words));
    assert_null(words_template(words));
    assert_int_equal(words_no_tokenizer(words)->code, ERR_OK);
    assert_false(words_header(words)->runnable);
    assert_non_null(strstr(words_header(words)->why, "tokenizer"));
    assert_string_equal(words_header(words)->file_type, "F32"); /* no key: what most weights are */
    words_destroy(words);
}

/* Well formed and not for us: shown all the same. */
static void test_not_for_us(void **state)
{
    (void)state;
    struct gguf_writer w = begun(&(struct tiny){ .arch = "llama" }, false);
    gw_str(&w, KEY("model"), "rwkv");
    gw_str(&w, "tokenizer.chat_template", "{% if %}");
    struct words *words = load(&w);
    assert_null(words_tokenizer(words));
    assert_int_equal(words_no_tokenizer(words)->code, ERR_UNSUPPORTED);
    assert_non_null(strstr(words_no_tokenizer(words)->text, "rwkv"));
    assert_non_null(strstr(words_header(words)->why, "rwkv"));
    assert_null(words_template(words));
    assert_int_equal(words_no_template(words)->code, ERR_FORMAT);
    words_destroy(words);

    gguf_writer_init(&w, "unheard");
    gw_tensor(&w, "x", TENSOR_F32, (const uint64_t[4]){ 8 });
    words = load(&w);
    assert_false(words_header(words)->runnable);
    assert_non_null(strstr(words_header(words)->why, "unheard"));
    words_destroy(words);

    gguf_writer_init(&w, "llama");
    words = load(&w);
    assert_false(words_header(words)->has_weights);
    assert_non_null(strstr(words_header(words)->why, "weights"));
    words_destroy(words);
}

static void test_broken_keys(void **state)
{
    (void)state;
    static const char *const abc[] = { "a", "b", "c" };
    const struct tiny tiny = { .arch = "llama" };
    struct gguf_writer w;
    w = begun(&tiny, false);
    gw_u32(&w, KEY("model"), 3);
    refused(&w, ERR_FORMAT, KEY("model"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "gpt2");
    refused(&w, ERR_FORMAT, KEY("merges"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "gpt2");
    strings(&w, KEY("merges"), abc, 3);
    refused(&w, ERR_FORMAT, KEY("merges"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "gpt2");
    gw_array(&w, KEY("merges"), GGUF_U8, 2);
    gw_int(&w.keys, 0, 2);
    refused(&w, ERR_FORMAT, KEY("merges"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "llama");
    gw_array(&w, KEY("scores"), GGUF_F32, 39);
    for (int i = 0; i < 39; i++)
        gw_f32_bytes(&w.keys, 0);
    refused(&w, ERR_FORMAT, KEY("scores"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "llama");
    strings(&w, KEY("token_type"), abc, 3);
    refused(&w, ERR_FORMAT, KEY("token_type"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "llama");
    gw_str(&w, KEY("eos_token_id"), "two");
    refused(&w, ERR_FORMAT, KEY("eos_token_id"));
    w = begun(&tiny, false);
    gw_str(&w, KEY("model"), "llama");
    gw_str(&w, KEY("add_bos_token"), "yes");
    refused(&w, ERR_FORMAT, KEY("add_bos_token"));
    w = begun(&tiny, false);
    gw_u32(&w, "tokenizer.chat_template", 1);
    refused(&w, ERR_FORMAT, "tokenizer.chat_template");
    gguf_writer_init(&w, "llama");
    gw_str(&w, KEY("model"), "llama");
    refused(&w, ERR_FORMAT, KEY("tokens"));
}

static void test_json(void **state)
{
    (void)state;
    struct gguf_writer w = begun(&(struct tiny){ .arch = "llama" }, true);
    gw_f32(&w, "test.tenth", 0.1F);
    gw_bool(&w, "test.yes", true);
    gw_key(&w, "test.big", GGUF_U64);
    gw_int(&w.keys, UINT64_MAX, 8);
    gw_key(&w, "test.less", GGUF_I64);
    gw_int(&w.keys, (uint64_t)INT64_MIN, 8);
    gw_array(&w, "test.list", GGUF_I16, 3);
    for (int i = 0; i < 3; i++)
        gw_int(&w.keys, (uint64_t)(i - 1), 2);
    gw_str(&w, "test.text", "\xC3\xA9\"\xFF");
    struct words *words = load(&w);
    struct err e = { 0 };
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(words_metadata(words, 8, &b, &e), ERR_OK);
    assert_non_null(strstr(b.p, "\"test.tenth\":0.1"));
    assert_non_null(strstr(b.p, "\"test.yes\":true"));
    assert_non_null(strstr(b.p, "\"test.big\":18446744073709551615"));
    assert_non_null(strstr(b.p, "\"test.less\":-9223372036854775808"));
    assert_non_null(strstr(b.p, "\"test.list\":[-1,0,1]"));
    assert_non_null(strstr(b.p, "\"test.text\":\"\xC3\xA9\\\"\xEF\xBF\xBD\""));
    assert_non_null(strstr(b.p, "\"" KEY("tokens") "\":null"));
    buf_clear(&b);
    assert_int_equal(words_metadata(words, 1000, &b, &e), ERR_OK);
    assert_non_null(strstr(b.p, "\"" KEY("tokens") "\":[\"t0\",\"t1\""));
    buf_clear(&b);
    json_t *tree = NULL;
    assert_int_equal(words_tensors(words, &b, &e), ERR_OK);
    assert_int_equal(json_read(buf_str(&b), 1 << 20, "tensors", &tree, &e), ERR_OK);
    assert_int_equal(json_array_size(tree), words_header(words)->n_tensors);
    const json_t *first = json_array_get(tree, 0);
    assert_string_equal(json_string_value(json_object_get(first, "type")), "F32");
    assert_true(json_array_size(json_object_get(first, "shape")) > 0);
    json_decref(tree);
    buf_finish(&b);
    buf_init(&b, 10); /* too little room is an error, not half a document */
    assert_int_equal(words_metadata(words, 8, &b, &e), ERR_NO_MEMORY);
    buf_finish(&b);
    words_destroy(words);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct gguf_writer w = begun(&(struct tiny){ .arch = "llama" }, true);
    gw_str(&w, "tokenizer.chat_template", "{{ messages[0].content }}");
    save(&w, true);
    gguf_writer_finish(&w);
    uint64_t live = mem_live(), n = 1;
    for (enum err_code code = ERR_NO_MEMORY; code; n++) {
        struct err e = { 0 };
        struct words *words = NULL;
        mem_fail_after(n, n % 2 == 0);
        code = words_load(path, &words, &e);
        mem_fail_after(0, false);
        assert_true(code == ERR_OK || (code == ERR_NO_MEMORY && e.text[0]));
        words_destroy(words);
        assert_true(mem_live() == live);
    }
    assert_true(n > 20);
}

/* A vocabulary without weights: shown and tokenised, and not runnable. */
static void test_vocabulary_file(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct words *words = NULL;
    if (words_load("../shared/data/tokenizers/ggml-vocab-gpt-2.gguf", &words, &e))
        skip();
    assert_false(words_header(words)->has_weights || words_header(words)->runnable);
    assert_int_equal(words_header(words)->n_vocab, 50257);
    struct token_list ids = { 0 };
    assert_int_equal(tokenizer_encode(words_tokenizer(words), STR("Hello world"), true, true, &ids,
                                      &e), ERR_OK);
    assert_true(ids.n == 2 && ids.id[0] == 15496 && ids.id[1] == 995);
    token_list_finish(&ids);
    words_destroy(words);
}

static int clean(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_model),     cmocka_unit_test(test_without_words),
        cmocka_unit_test(test_not_for_us),  cmocka_unit_test(test_broken_keys),
        cmocka_unit_test(test_json),        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_vocabulary_file),
    };
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    json_setup();
    return cmocka_run_group_tests(tests, NULL, clean);
}
