/* stream: stop strings across tokens, thinking and calls parted from the answer, whole UTF-8. */
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

static const char thinker[] =
    "{% if tools %}{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
    "{{ m.content }}{% for c in m.tool_calls %}\n<tool_call>\n{\"name\": \"{{ c.function.name }}\", \"arguments\": "
    "{{ c.function.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
static const char tools_text[] = "[{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]";

struct kit {
    struct tokenizer *t;
    struct output_format *plain, *thinker;
    json_t *tools;
};

struct result {
    char text[256], thinking[256], steps[512], calls[512]; /* steps: what came out after each byte, by '|' */
    char id[2][32];
    bool stopped;
};

/* A control token in `in` is a byte of 1 and its id as a byte. */
static size_t next_token(const char *in, size_t i, int32_t *token)
{
    bool control = in[i] == 1;
    *token = control ? in[i + 1] : 4 + (unsigned char)in[i];
    return i + 1 + control;
}

static void note(struct stream *s, struct result *r)
{
    strncat(r->text, s->text.n ? s->text.p : "", s->text.n);
    strncat(r->thinking, s->thinking.n ? s->thinking.p : "", s->thinking.n);
    strncat(r->steps, s->text.n ? s->text.p : "", s->text.n);
    strncat(r->steps, "|", 2);
    for (size_t i = 0; i < s->n_calls; i++) {
        const struct gen_tool_call *c = &s->calls[i];
        char one[200];
        snprintf(one, sizeof one, "%u:%.*s%.*s;", c->index, (int)c->name.n, c->name.p, (int)c->arguments.n,
                 c->arguments.p);
        strncat(r->calls, one, sizeof r->calls - strlen(r->calls) - 1);
        snprintf(r->id[c->index % 2], 32, "%.*s", (int)c->id.n, c->id.p);
    }
    stream_taken(s);
}

static void run_as(const struct kit *k, const char *in, const struct stream_options *o, struct result *r)
{
    struct stream s;
    struct err e;
    int32_t token;
    memset(r, 0, sizeof *r);
    assert_int_equal(stream_init(&s, o, &e), ERR_OK);
    for (size_t i = 0; i < strlen(in) && !s.stopped;) {
        i = next_token(in, i, &token);
        assert_int_equal(stream_feed(&s, token, &e), ERR_OK);
        note(&s, r);
    }
    assert_int_equal(stream_end(&s, &e), ERR_OK);
    note(&s, r);
    r->stopped = s.stopped;
    stream_finish(&s);
    (void)k;
}

static void run(const struct kit *k, const char *in, const struct str *stop, size_t n_stop,
                bool thinking, bool in_thought, struct result *r)
{
    struct stream_options o = {
        .tokenizer = k->t,
        .format = thinking ? k->thinker : k->plain,
        .output = { .thinking = thinking, .prompt = in_thought ? STR("<think>\n") : STR("x") },
        .stop = stop,
        .n_stop = n_stop,
    };
    run_as(k, in, &o, r);
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
    assert_string_equal(r.steps, "o|n|e|||| EN| t|w|o||"); /* held back while it may be one; blanks while they may be layout */
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
    assert_string_equal(r.thinking, "hm");
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
    assert_true(str_starts(str_from(r.text), STR("no")) && !strstr(r.text, "y"));
}

static struct stream_options with_tools(const struct kit *k, const struct str *stop, size_t n_stop)
{
    return (struct stream_options){
        .tokenizer = k->t, .format = k->thinker, .stop = stop, .n_stop = n_stop, .id_seed = 7,
        .output = { .thinking = true, .tools = k->tools, .prompt = STR("x") },
    };
}

static void calls_come_whole(void **state)
{
    struct kit *k = *state;
    struct result r, again;
    struct stream_options o = with_tools(k, NULL, 0);
    static const char two[] = "<think>\nso\n</think>\n\nyes<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>\n"
                              "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": [\"} \\\\\\\" \"]\n}}\n</tool_call>";
    run_as(k, two, &o, &r);
    assert_string_equal(r.calls, "0:f{\"a\":1};1:f{\"b\":[\"} \\\\\\\" \"]};");
    assert_string_equal(r.thinking, "so");
    assert_string_equal(r.text, "yes");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(strlen(r.id[i]), 13);
        assert_memory_equal(r.id[i], "call_", 5);
        assert_int_equal(strspn(r.id[i] + 5, "abcdefghijklmnopqrstuvwxyz0123456789"), 8);
    }
    assert_string_not_equal(r.id[0], r.id[1]);
    run_as(k, two, &o, &again);
    assert_memory_equal(r.id, again.id, sizeof r.id);
    o.id_seed++;
    run_as(k, two, &o, &again);
    assert_string_not_equal(r.id[0], again.id[0]);
    run_as(k, "<tool_call>\n{\"name\": \"g\", \"arguments\": {}}\n</tool_call>", &o, &r); /* not offered */
    assert_string_equal(r.calls, "");
    assert_non_null(strstr(r.text, "\"g\""));
}

static void stops_end_calls_too(void **state)
{
    struct kit *k = *state;
    struct result r;
    struct str stop[] = { STR("\"b\"") };
    struct stream_options o = with_tools(k, stop, 1);
    run_as(k, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": 1}}\n</tool_call>", &o, &r);
    assert_true(r.stopped);
    assert_string_equal(r.calls, "");
    assert_null(strstr(r.text, "\"b\""));
}

static void control_tokens_are_not_shown_but_stop(void **state)
{
    struct result r;
    run(*state, "ab\x01\x02" "cd", NULL, 0, false, false, &r); /* </s>, drawn though it ends */
    assert_string_equal(r.text, "abcd");
    run(*state, "ab</s>cd", NULL, 0, false, false, &r);
    assert_string_equal(r.text, "ab</s>cd");
    struct str stop[] = { STR("</s>") };
    run(*state, "ab\x01\x02" "cd", stop, 1, false, false, &r);
    assert_string_equal(r.text, "ab");
    assert_true(r.stopped);
    struct str half[] = { STR("s>x") };
    run(*state, "ab\x01\x02" "cd", half, 1, false, false, &r); /* held back with it, and it goes out whole */
    assert_string_equal(r.text, "abcd");
    run(*state, "a\xC3\x01\x02" "b", NULL, 0, false, false, &r);
    assert_string_equal(r.text, "a\xEF\xBF\xBD" "b");
}

static void begun_words_are_not_said_again(void **state)
{
    struct kit *k = *state;
    struct result r;
    struct stream_options o = with_tools(k, NULL, 0);
    o.output.prefill = STR("Well, ");
    run_as(k, "yes", &o, &r);
    assert_string_equal(r.text, "yes");
    o.output.prefill = STR("<think>\nso");
    run_as(k, " it is</think>yes", &o, &r);
    assert_string_equal(r.thinking, " it is");
    assert_string_equal(r.text, "yes");
}

static int set_up(void **state)
{
    static struct kit k;
    struct chat_template *t;
    struct err e;
    k.t = bytes_tokenizer();
    k.tools = json_loads(tools_text, 0, NULL);
    if (chat_template_create(str_from(thinker), "thinker", &t, &e) ||
        output_format_create(NULL, k.t, &k.plain, &e) || output_format_create(t, k.t, &k.thinker, &e))
        fail_msg("%s", e.text);
    chat_template_destroy(t);
    *state = &k;
    return 0;
}

static int tear_down(void **state)
{
    struct kit *k = *state;
    output_format_destroy(k->plain);
    output_format_destroy(k->thinker);
    tokenizer_destroy(k->t);
    json_decref(k->tools);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_out_at_once),
        cmocka_unit_test(stops_are_cut_out),
        cmocka_unit_test(thinking_is_parted),
        cmocka_unit_test(calls_come_whole),
        cmocka_unit_test(stops_end_calls_too),
        cmocka_unit_test(control_tokens_are_not_shown_but_stop),
        cmocka_unit_test(begun_words_are_not_said_again),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
