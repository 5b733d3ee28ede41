/* stream: stop strings across tokens, thinking parted from the answer, whole UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/stream.h"

/* A vocabulary whose token n is the byte n, as SentencePiece's byte fallback has them. */
static struct tokenizer *bytes_tokenizer(void)
{
    static char text[260][8];
    static struct str tokens[260];
    static int32_t types[260];
    static float scores[260];
    struct tokenizer *t;
    struct err e;
    static const char *const special[] = { "<unk>", "<s>", "</s>", "_" };
    for (int i = 0; i < 4; i++) {
        snprintf(text[i], sizeof text[i], "%s", special[i]);
        types[i] = i == 0 ? TOKEN_UNKNOWN : i < 3 ? TOKEN_CONTROL : TOKEN_NORMAL;
    }
    for (int i = 0; i < 256; i++) {
        snprintf(text[i + 4], sizeof text[i + 4], "<0x%02X>", (unsigned)i);
        types[i + 4] = TOKEN_BYTE;
    }
    for (int i = 0; i < 260; i++)
        tokens[i] = str_from(text[i]);
    struct tokenizer_spec spec = {
        .model = STR("llama"), .tokens = tokens, .scores = scores, .types = types, .n_tokens = 260,
        .bos = 1, .eos = 2, .unk = 0, .pad = TOKEN_NONE, .sep = TOKEN_NONE, .mask = TOKEN_NONE,
        .eot = TOKEN_NONE, .eom = TOKEN_NONE, .add_bos = 1, .add_eos = 0, .add_space_prefix = 0,
        .remove_extra_whitespaces = 0,
    };
    if (tokenizer_create(&spec, &t, &e))
        fail_msg("%s", e.text);
    return t;
}

struct result {
    char text[256], thinking[256], steps[512]; /* steps: what came out after each byte, by '|' */
    bool stopped;
};

static void run(const struct tokenizer *t, const char *in, const struct str *stop, size_t n_stop,
                bool thinking, bool in_thought, struct result *r)
{
    struct stream s;
    struct err e;
    memset(r, 0, sizeof *r);
    stream_init(&s, t, stop, n_stop, thinking, in_thought);
    for (size_t i = 0; i <= strlen(in); i++) {
        if (s.stopped && i < strlen(in))
            continue;
        if (i < strlen(in))
            assert_int_equal(stream_feed(&s, 4 + (unsigned char)in[i], &e), ERR_OK);
        else
            assert_int_equal(stream_end(&s, &e), ERR_OK);
        strncat(r->text, buf_str(&s.text).p, s.text.n);
        strncat(r->thinking, buf_str(&s.thinking).p, s.thinking.n);
        strncat(r->steps, buf_str(&s.text).p, s.text.n);
        strncat(r->steps, "|", 1);
        stream_taken(&s);
    }
    r->stopped = s.stopped;
    stream_finish(&s);
}

static void text_comes_out_at_once(void **state)
{
    struct result r;
    run(*state, "abc", NULL, 0, false, false, &r);
    assert_string_equal(r.steps, "a|b|c||");
    run(*state, "x<think>y", NULL, 0, false, false, &r); /* no thinker: tags are text */
    assert_string_equal(r.text, "x<think>y");
    run(*state, "a\xC3\xA9z", NULL, 0, false, false, &r);
    assert_string_equal(r.steps, "a||\xC3\xA9|z||");
    run(*state, "a\xC3", NULL, 0, false, false, &r);
    assert_string_equal(r.text, "a\xEF\xBF\xBD");
}

static void stops_are_cut_out(void **state)
{
    struct result r;
    struct str stop[] = { STR("END"), STR("\n\n") };
    run(*state, "one END two", stop, 2, false, false, &r);
    assert_string_equal(r.text, "one ");
    assert_true(r.stopped);
    run(*state, "one EN two", stop, 2, false, false, &r);
    assert_string_equal(r.text, "one EN two");
    assert_string_equal(r.steps, "o|n|e| |||EN |t|w|o||"); /* held back while it may be one */
    assert_false(r.stopped);
    run(*state, "a\n\nb", stop, 2, false, false, &r);
    assert_string_equal(r.text, "a");
    run(*state, "ends with EN", stop, 2, false, false, &r);
    assert_string_equal(r.text, "ends with EN");
    run(*state, "ENDa", stop, 2, false, false, &r);
    assert_string_equal(r.text, "");
    struct str self[] = { STR("aab") };
    run(*state, "aaab", self, 1, false, false, &r); /* begins anew inside itself */
    assert_string_equal(r.text, "a");
}

static void thinking_is_parted(void **state)
{
    struct result r;
    run(*state, "<think>\nhm\n</think>\n\nyes", NULL, 0, true, false, &r);
    assert_string_equal(r.thinking, "hm\n");
    assert_string_equal(r.text, "yes");
    run(*state, "  <think>a</think>b", NULL, 0, true, false, &r);
    assert_string_equal(r.thinking, "a");
    assert_string_equal(r.text, "b");
    run(*state, "a <b </think", NULL, 0, true, true, &r); /* the prompt opened it, nothing closes it */
    assert_string_equal(r.thinking, "a <b </think");
    assert_string_equal(r.text, "");
    run(*state, "plain <think>", NULL, 0, true, false, &r);
    assert_string_equal(r.text, "plain <think>");
    assert_string_equal(r.thinking, "");
    run(*state, "<thi", NULL, 0, true, false, &r);
    assert_string_equal(r.text, "<thi");
    struct str stop[] = { STR("yes") };
    run(*state, "<think>x</think>no yes no", stop, 1, true, false, &r);
    assert_string_equal(r.text, "no ");
}

static int set_up(void **state)
{
    *state = bytes_tokenizer();
    return 0;
}

static int tear_down(void **state)
{
    tokenizer_destroy(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_out_at_once),
        cmocka_unit_test(stops_are_cut_out),
        cmocka_unit_test(thinking_is_parted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
