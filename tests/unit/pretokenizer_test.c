/* Rows of the pre-tokenizer table: pieces by hand for each kind of expression, and for all rows
 * that the pieces are the text, on random and on hostile texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/text/pretokenizer.h"
#include "tests/unit/text_kit.h"

/* Pieces joined by U+001F, which no text here has. */
static enum err_code add_piece(void *user, struct str piece)
{
    struct buf *b = user;
    if (b->n)
        buf_putc(b, '\x1F');
    buf_put(b, piece.p, piece.n);
    return piece.n ? ERR_OK : ERR_INTERNAL;
}

static void split(const struct pretokenizer *p, struct str text, struct buf *out)
{
    struct err e = { 0 };
    struct pre_match *m = NULL;
    assert_int_equal(pre_match_create(p, &m, &e), ERR_OK);
    assert_int_equal(pretokenizer_split(p, m, text, add_piece, out, &e), ERR_OK);
    pre_match_destroy(m);
}

static void pieces_are(const char *name, const char *text, const char *want)
{
    struct err e = { 0 };
    struct pretokenizer *p = NULL;
    struct buf got;
    buf_init(&got, 4096);
    assert_int_equal(pretokenizer_create(str_from(name), &p, &e), ERR_OK);
    split(p, str_from(text), &got);
    for (size_t i = 0; i < got.n; i++)
        got.p[i] = got.p[i] == '\x1F' ? '_' : got.p[i];
    if (strcmp(got.p, want) != 0)
        fail_msg("%s: got '%s', want '%s'", name, got.p, want);
    buf_finish(&got);
    pretokenizer_destroy(p);
}

static void test_pieces(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        { "gpt-2", "I'm  12345 a,b \n x", "I_'m_ _ 12345_ a_,_b_ \n_ x" },
        { "gpt-2", "end  ", "end_  " },
        { "gpt-2", "I'M", "I_'_M" },
        { "smollm", "a1234 5", "a_1_2_3_4_ _5" },
        { "llama-bpe", "I'M 12345.\n\n x", "I_'M_ _123_45_.\n\n_ x" },
        { "llama-bpe", "\t\tx (y)", "\t_\tx_ (_y_)" },
        { "llama-bpe", "'\xC5\xBFo", "'\xC5\xBF_o" }, /* long s folds to s */
        { "qwen2", "ab12 c", "ab_1_2_ c" },
        { "qwen2", "e\xCC\x81" "a", "e_\xCC\x81" "a" },
        { "qwen35", "e\xCC\x81" "a", "e\xCC\x81" "a" },
        { "gpt-4o", "HelloWorld isn't", "Hello_World_ isn't" },
        { "tekken", "HelloWorld isn't1", "Hello_World_ isn_'t_1" },
        { "deepseek-v3", "12345 it's", "123_45_ it_'s" },
        { "deepseek-v3", "\xE6\x97\xA5\xE6\x9C\xAC" "a", "\xE6\x97\xA5\xE6\x9C\xAC_a" },
        { "deepseek-coder", "a 1\n b", "a_ _1_\n_ b" },
        { "deepseek-llm", "ab  \ncd 12", "ab_  _\n_cd_ _12" },
        { "deepseek-llm", "ab   cd", "ab_  _ cd" },
        { "falcon", "a+b 12345", "a_+_b_ _123_45" },
        { "default", "a+b 12345", "a_+_b_ _123_45" },
        { "tiny_aya", "1234567 x", "1_234_567_ x" },
        { "tiny_aya", "1234567x", "123_456_7_x" },
        { "afmoe", "1234567x", "1_234_567_x" },
        { "superbpe", "ab 1234567 c", "ab _1_234_567_ c" },
        { "bloom", "Hi, you(x)", "Hi_,_ you_(_x_)" },
        { "kimi-k2", "Hello\xE6\x97\xA5x1234", "Hello_\xE6\x97\xA5_x_123_4" },
        { "bailingmoe", "a\n\nb", "a_\n\n_b" },
        { "seed-coder", "a!\nb", "a_!_\n_b" },
        { "chameleon", "IMGIMGABZa    b", "IMGIMGABZ_a_    _b" },
        { "gemma4", "a b\n\nc", "a b_\n\n_c" },
        { "exaone-moe", "ab cd ef 1", "ab cd ef_ _1" },
        { "minicpm5", "a12345", "a_123_45" },
        /* U+180E is no white space, U+0085 is */
        { "gpt-2", "a\xE1\xA0\x8E" "b", "a_\xE1\xA0\x8E_b" },
        { "gpt-2", "a\xC2\x85" "b", "a_\xC2\x85_b" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        pieces_are(rows[i][0], rows[i][1], rows[i][2]);
}

/* Without the marks, the pieces are the text again. */
static void check_whole(const struct pretokenizer *p, const char *name, struct str text)
{
    struct buf got;
    buf_init(&got, (size_t)1 << 26);
    split(p, text, &got);
    size_t n = 0;
    for (size_t i = 0; i < got.n; i++)
        if (got.p[i] != '\x1F')
            got.p[n++] = got.p[i];
    if (!str_eq((struct str){ got.p, n }, text))
        fail_msg("%s: the pieces are not the text", name);
    buf_finish(&got);
}

static void check_row(const char *name)
{
    struct err e = { 0 };
    struct pretokenizer *p = NULL;
    uint64_t seed = 1;
    assert_int_equal(pretokenizer_create(str_from(name), &p, &e), ERR_OK);
    for (int i = 0; i < 100; i++) {
        struct buf text;
        buf_init(&text, 1 << 20);
        put_random_text(&text, &seed, next_random(&seed) % 200);
        for (size_t k = 0; k < text.n; k++)
            text.p[k] = text.p[k] == '\x1F' ? 'x' : text.p[k];
        check_whole(p, name, buf_str(&text));
        buf_finish(&text);
    }
    pretokenizer_destroy(p);
}

static void test_all_rows(void **state)
{
    (void)state;
    size_t n = 0;
    for (; pretokenizer_name(n); n++) {
        for (size_t k = 0; k < n; k++)
            assert_string_not_equal(pretokenizer_name(n), pretokenizer_name(k));
        check_row(pretokenizer_name(n));
    }
    assert_true(n > 80);
}

/* 128 KiB of one thing: every row is through in a time that no quadratic one could keep. */
static void test_long_runs(void **state)
{
    (void)state;
    static const char *const fill[] = { "a", " ", "1", "\n", "'", "\xE4\xB8\xAD", "A", "aB", " \n" };
    for (size_t i = 0; pretokenizer_name(i); i++) {
        struct err e = { 0 };
        struct pretokenizer *p = NULL;
        assert_int_equal(pretokenizer_create(str_from(pretokenizer_name(i)), &p, &e), ERR_OK);
        for (size_t f = 0; f < sizeof fill / sizeof fill[0]; f++) {
            struct buf text;
            buf_init(&text, 1 << 20);
            while (text.n < 128 << 10)
                buf_puts(&text, fill[f]);
            buf_putc(&text, 'z');
            int64_t begin = clock_ns();
            check_whole(p, pretokenizer_name(i), buf_str(&text));
            if (clock_ns() - begin > 5000000000)
                fail_msg("%s takes %d ms on a run of '%s'", pretokenizer_name(i),
                         (int)((clock_ns() - begin) / 1000000), fill[f]);
            buf_finish(&text);
        }
        pretokenizer_destroy(p);
    }
}

static void test_unknown(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct pretokenizer *p = NULL;
    assert_int_equal(pretokenizer_create(STR("no-such"), &p, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "no-such"));
    assert_null(p);
}

/* The n-th allocation fails, for every n until none does. */
static void test_no_memory(void **state)
{
    (void)state;
    uint64_t live = mem_live();
    enum err_code code = ERR_NO_MEMORY;
    for (uint64_t n = 1; code; n++) {
        struct err e = { 0 };
        struct pretokenizer *p = NULL;
        struct pre_match *m = NULL;
        struct buf b;
        buf_init(&b, 4096);
        buf_puts(&b, "0123456789abcdefghij0123456789abcdefghij0123456789abcdefghij");
        buf_clear(&b);
        mem_fail_after(n, n % 2 == 0);
        code = pretokenizer_create(STR("deepseek-llm"), &p, &e);
        if (!code)
            code = pre_match_create(p, &m, &e);
        if (!code)
            code = pretokenizer_split(p, m, STR("Hello 12 \n\xE4\xB8\xAD."), add_piece, &b, &e);
        mem_fail_after(0, false);
        assert_true(code == ERR_OK || code == ERR_NO_MEMORY);
        pre_match_destroy(m);
        pretokenizer_destroy(p);
        buf_finish(&b);
        assert_true(mem_live() == live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),   cmocka_unit_test(test_all_rows),
        cmocka_unit_test(test_long_runs), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
