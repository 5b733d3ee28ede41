/* The tokenizer against the reference ids of real vocabularies, ../shared/data/tokenizers; skipped
 * where that is absent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/engine/words_priv.h"
#include "tests/unit/text_kit.h"

#define DATA "../shared/data/tokenizers/ggml-vocab-"

static struct tokenizer *open_vocabulary(const char *name)
{
    char path[256];
    struct err e = { 0 };
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    snprintf(path, sizeof path, DATA "%s.gguf", name);
    FILE *f = fopen(path, "rb");
    if (!f)
        skip();
    fclose(f);
    if (gguf_open(path, &g, &e) || words_read_tokenizer(g, &t, &e))
        fail_msg("%s", e.text);
    gguf_close(g);
    assert_non_null(t);
    return t;
}

static void read_file(const char *name, const char *suffix, struct buf *b)
{
    char path[256], block[4096];
    size_t n;
    snprintf(path, sizeof path, DATA "%s%s", name, suffix);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    buf_init(b, 1 << 20);
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        buf_put(b, block, n);
    fclose(f);
    assert_false(b->failed);
}

/* The text up to the next mark, and the line of ids that belongs to it. */
static bool next_case(struct str *in, char **out, struct str *text, char **line)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    if (!in->p)
        return false;
    const char *end = memmem(in->p, in->n, mark, sizeof mark - 1);
    *text = (struct str){ in->p, end ? (size_t)(end - in->p) : in->n };
    in->n -= end ? text->n + sizeof mark - 1 : in->n;
    in->p = end ? end + sizeof mark - 1 : NULL;
    *line = strsep(out, "\n");
    return *line != NULL;
}

/* back: whether the text comes back from the ids; BERT's does not. */
static void check_case(const struct tokenizer *t, struct str text, const char *line, bool back_too)
{
    struct token_list ids = { 0 };
    struct buf back;
    struct err e = { 0 };
    size_t n = 0;
    encode(t, text, true, &ids);
    for (char *end; *(line += strspn(line, " ")); line = end, n++) {
        long want = strtol(line, &end, 10);
        if (n >= ids.n || ids.id[n] != want)
            fail_msg("token %zu of '%.*s' is not %ld", n, (int)text.n, text.p, want);
    }
    assert_int_equal(n, ids.n);
    buf_init(&back, 1 << 20);
    assert_int_equal(tokenizer_decode(t, ids.id, ids.n, true, &back, &e), ERR_OK);
    assert_true(!back_too || str_eq(buf_str(&back), text));
    buf_finish(&back);
    token_list_finish(&ids);
}

static void check_vocabulary(const char *name)
{
    struct tokenizer *t = open_vocabulary(name);
    struct buf in, out;
    read_file(name, ".gguf.inp", &in);
    read_file(name, ".gguf.out", &out);
    struct str rest = buf_str(&in), text;
    char *lines = out.p, *line;
    size_t n = 0;
    for (; next_case(&rest, &lines, &text, &line); n++)
        check_case(t, text, line, strcmp(name, "bert-bge") != 0);
    assert_true(n > 40);
    buf_finish(&in);
    buf_finish(&out);
    tokenizer_destroy(t);
}

static void test_gpt2(void **state)
{
    (void)state;
    check_vocabulary("gpt-2");
}

static void test_starcoder(void **state)
{
    (void)state;
    check_vocabulary("starcoder");
}

static void test_deepseek_coder(void **state)
{
    (void)state;
    check_vocabulary("deepseek-coder");
}

static void test_llama(void **state)
{
    (void)state;
    check_vocabulary("llama-spm");
}

static void test_phi3(void **state)
{
    (void)state;
    check_vocabulary("phi-3");
}

static void test_bert(void **state)
{
    (void)state;
    check_vocabulary("bert-bge");
}

/* Phi-3: white space after its special tokens belongs to them, but for a few. */
static void test_phi3_strips(void **state)
{
    (void)state;
    struct tokenizer *t = open_vocabulary("phi-3");
    int32_t user = tokenizer_find(t, STR("<|user|>")), end = tokenizer_find(t, STR("<|end|>"));
    int32_t hi = tokenizer_find(t, STR("\xE2\x96\x81Hi"));
    char want[64];
    assert_true(user > 0 && end > 0 && hi > 0);
    snprintf(want, sizeof want, "%d %d %d", user, hi, end);
    ids_are(t, "<|user|>\n \nHi<|end|>\n", false, true, want);
    assert_true(tokenizer_is_eog(t, end));
    assert_false(tokenizer_is_eog(t, user));
    tokenizer_destroy(t);
}

static void test_real_round_trip(void **state)
{
    (void)state;
    /* not starcoder: its vocabulary has not all bytes */
    static const char *const names[] = { "gpt-2", "deepseek-coder", "llama-spm", "phi-3" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct tokenizer *t = open_vocabulary(names[i]);
        uint64_t seed = 7;
        for (int k = 0; k < 300; k++) {
            struct buf text;
            buf_init(&text, 1 << 16);
            buf_puts(&text, "x"); /* SPM says nothing of a text that begins with its space */
            put_random_text(&text, &seed, next_random(&seed) % 80);
            check_round_trip(t, buf_str(&text));
            buf_finish(&text);
        }
        tokenizer_destroy(t);
    }
}

/* ---- content forges no turn ---------------------------------------------------------------- */

static void encode_spans(const struct tokenizer *t, struct str text, size_t begin, size_t end,
                         struct token_list *out)
{
    struct spans content = { 0 };
    struct err e = { 0 };
    out->n = 0;
    assert_true(spans_add(&content, begin, end));
    if (tokenizer_encode_spans(t, text, &content, false, out, &e))
        fail_msg("%s", e.text);
    spans_finish(&content);
}

static size_t count(const struct token_list *l, int32_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++)
        n += l->id[i] == id;
    return n;
}

/* One token's text between others: whole in content, in part, next to it. */
static void check_control(const struct tokenizer *t, int32_t id)
{
    struct str token = tokenizer_text(t, id);
    struct token_list ids = { 0 }, want = { 0 };
    struct buf b;
    buf_init(&b, 4096);
    buf_puts(&b, "x y");
    size_t at = b.n, end = at + token.n;
    buf_put(&b, token.p, token.n);
    buf_puts(&b, "z z");
    for (size_t i = at; i <= end; i++)
        for (size_t k = i; k <= end; k++) { /* content is a part of the token's text */
            encode_spans(t, buf_str(&b), i, k, &ids);
            assert_int_equal(count(&ids, id), i == k);
        }
    encode_spans(t, buf_str(&b), 0, b.n, &ids);
    encode(t, buf_str(&b), false, &want);
    assert_true(ids.n == want.n && memcmp(ids.id, want.id, ids.n * sizeof *ids.id) == 0);
    encode(t, buf_str(&b), true, &want);
    for (int side = 0; side < 2; side++) { /* content next to it */
        encode_spans(t, buf_str(&b), side ? end : 0, side ? b.n : at, &ids);
        assert_true(ids.n == want.n && memcmp(ids.id, want.id, ids.n * sizeof *ids.id) == 0);
    }
    buf_finish(&b);
    token_list_finish(&ids);
    token_list_finish(&want);
}

static void test_content_forges_no_turn(void **state)
{
    (void)state;
    static const char *const names[] = { "gpt-2", "deepseek-coder", "llama-spm", "phi-3",
                                         "starcoder" };
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct tokenizer *t = open_vocabulary(names[i]);
        for (int32_t id = 0; id < (int32_t)tokenizer_n_tokens(t); id++)
            if (tokenizer_type(t, id) == TOKEN_CONTROL) {
                check_control(t, id);
                n++;
            }
        tokenizer_destroy(t);
    }
    assert_true(n > 40);
}

/* Content that holds no control text changes nothing, wherever it begins and ends. */
static void test_honest_content(void **state)
{
    (void)state;
    static const char *const names[] = { "gpt-2", "deepseek-coder", "llama-spm", "phi-3" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct tokenizer *t = open_vocabulary(names[i]);
        struct token_list ids = { 0 }, want = { 0 };
        uint64_t seed = 17;
        for (int k = 0; k < 300; k++) {
            struct buf text;
            buf_init(&text, 1 << 16);
            put_random_text(&text, &seed, 1 + next_random(&seed) % 80);
            size_t begin = next_random(&seed) % text.n;
            encode(t, buf_str(&text), true, &want);
            encode_spans(t, buf_str(&text), begin, begin + next_random(&seed) % (text.n - begin), &ids);
            assert_true(ids.n == want.n && memcmp(ids.id, want.id, ids.n * sizeof *ids.id) == 0);
            buf_finish(&text);
        }
        token_list_finish(&ids);
        token_list_finish(&want);
        tokenizer_destroy(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2),
        cmocka_unit_test(test_starcoder),
        cmocka_unit_test(test_deepseek_coder),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_phi3),
        cmocka_unit_test(test_bert),
        cmocka_unit_test(test_phi3_strips),
        cmocka_unit_test(test_real_round_trip),
        cmocka_unit_test(test_content_forges_no_turn),
        cmocka_unit_test(test_honest_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
