/* protocol: every request and reply there and back, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/protocol.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define S INT64_C(1000000000)

static json_t *tree(const char *text)
{
    struct err e;
    json_t *root;
    if (json_read(str_from(text), 1 << 20, "test", &root, &e))
        fail_msg("%s: %s", text, e.text);
    return root;
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool bare, ok;
        int64_t ns;
    } rows[] = {
        { "5m", false, true, 300 * S },     { "1h30m", false, true, 5400 * S },
        { "1.5h", false, true, 5400 * S },  { "90s", false, true, 90 * S },
        { "300ms", false, true, S * 3 / 10 }, { "2us", false, true, 2000 },
        { "7ns", false, true, 7 },          { "-1m", false, true, -60 * S },
        { "+1s", false, true, S },          { "0", false, true, 0 },
        { "-0", false, true, 0 },           { "10", false, false, 0 },
        { "10", true, true, 10 * S },       { "-1", true, true, -S },
        { "", true, false, 0 },             { "-", true, false, 0 },
        { "5 m", false, false, 0 },         { "m", false, false, 0 },
        { "1h5", true, false, 0 },          { "1.2.3s", false, false, 0 },
        { "5x", false, false, 0 },          { "99999999999h", false, true, INT64_MAX },
        { ".5s", false, true, S / 2 },      { "1.s", false, true, S },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t ns = 0;
        bool ok = duration_read(str_from(rows[i].text), rows[i].bare, &ns);
        if (ok != rows[i].ok || (ok && ns != rows[i].ns))
            fail_msg("'%s': %d, %lld", rows[i].text, ok, (long long)ns);
    }
    struct buf b;
    static const int64_t values[] = { 0, S, 300 * S, 5400 * S, 1500000000, -60 * S, 1 };
    buf_init(&b, 100);
    for (size_t i = 0; i < 7; i++) {
        int64_t back;
        buf_clear(&b);
        duration_write(&b, values[i]);
        assert_true(duration_read(buf_str(&b), false, &back));
        assert_int_equal(back, values[i]);
    }
    buf_clear(&b);
    duration_write(&b, 5400 * S);
    assert_string_equal(b.p, "1h30m0s");
    buf_finish(&b);
}

static void time_stamps(void **state)
{
    (void)state;
    char text[RFC3339_SIZE];
    int64_t ns;
    assert_string_equal(rfc3339_write(1700000000123456789, text), "2023-11-14T22:13:20.123456789Z");
    assert_true(rfc3339_read(str_from(text), &ns));
    assert_int_equal(ns, 1700000000123456789);
    assert_true(rfc3339_read(STR("2023-11-14T23:13:20.1+01:00"), &ns));
    assert_int_equal(ns, 1700000000100000000);
    assert_true(rfc3339_read(STR("2023-11-14T22:13:20Z"), &ns));
    assert_int_equal(ns, 1700000000000000000);
    assert_string_equal(rfc3339_write(-1, text), "1969-12-31T23:59:59.999999999Z");
    assert_true(rfc3339_read(str_from(text), &ns));
    assert_int_equal(ns, -1);
    static const char *const wrong[] = { "", "2023", "2023-13-01T00:00:00Z", "2023-01-01T00:00:00",
                                         "2023-01-01T00:00:00.Z", "2023-01-01T25:00:00Z",
                                         "2023-01-01T00:00:00Zx" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(rfc3339_read(str_from(wrong[i]), &ns));
}

static void options(void **state)
{
    (void)state;
    struct gen_options o;
    struct err e;
    json_t *t = tree("{\"num_ctx\": 2048, \"num_predict\": 40.0, \"temperature\": 1, \"top_p\": 0.5,"
                     "\"seed\": -1, \"stop\": [\"a\", \"\", \"bc\"], \"mirostat\": 2, \"top_k\": null,"
                     "\"reproducible\": true}");
    assert_int_equal(gen_options_read(t, &o, &e), ERR_OK);
    assert_int_equal(o.num_ctx, 2048);
    assert_int_equal(o.num_predict, 40);
    assert_true(o.temperature == 1 && o.top_p == 0.5);
    assert_int_equal(o.seed, -1);
    assert_int_equal(o.n_stop, 2);
    assert_true(str_is(o.stop[1], "bc"));
    assert_true(o.reproducible);
    assert_false(option_given(&o, OPTION_TOP_K));
    assert_true(option_given(&o, OPTION_STOP));

    struct buf b;
    buf_init(&b, 1000);
    gen_options_write(&b, &o);
    json_t *back = tree(b.p);
    struct gen_options again;
    assert_int_equal(gen_options_read(back, &again, &e), ERR_OK);
    assert_int_equal(again.given, o.given);
    assert_int_equal(again.num_predict, 40);
    assert_int_equal(again.n_stop, 2);

    struct gen_options base = { 0 };
    assert_int_equal(gen_options_set(&base, STR("temperature"), STR("0.25"), &e), ERR_OK);
    assert_int_equal(gen_options_set(&base, STR("top_k"), STR("7"), &e), ERR_OK);
    assert_int_equal(gen_options_set(&base, STR("stop"), STR("x y"), &e), ERR_OK);
    assert_int_equal(gen_options_set(&base, STR("top_k"), STR("7.5"), &e), ERR_INVALID);
    assert_int_equal(gen_options_set(&base, STR("frob"), STR("7"), &e), ERR_NOT_FOUND);
    assert_int_equal(gen_options_set(&base, STR("temperature"), STR("1e400"), &e), ERR_INVALID);
    assert_int_equal(gen_options_set(&base, STR("temperature"), STR("-inf"), &e), ERR_INVALID);
    assert_int_equal(gen_options_set(&base, STR("seed"), STR("9223372036854775808"), &e), ERR_INVALID);
    assert_int_equal(gen_options_set(&base, STR("ignore_eos"), STR("True"), &e), ERR_OK);
    assert_true(base.ignore_eos);
    assert_int_equal(gen_options_set(&base, STR("ignore_eos"), STR("0"), &e), ERR_OK);
    assert_false(base.ignore_eos);
    assert_int_equal(gen_options_set(&base, STR("ignore_eos"), STR("yes"), &e), ERR_INVALID);
    gen_options_merge(&base, &o);
    assert_true(base.temperature == 1 && base.top_k == 7 && base.n_stop == 2);
    buf_finish(&b);
    json_decref(back);
    json_decref(t);
}

static void wrong_options(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "{\"num_ctx\": \"x\"}", "option \"num_ctx\" must be of type integer" },
        { "{\"num_ctx\": 1.5}", "option \"num_ctx\" must be of type integer" },
        { "{\"num_ctx\": 1e300}", "option \"num_ctx\" must be of type integer" },
        { "{\"temperature\": \"hot\"}", "option \"temperature\" must be of type float32" },
        { "{\"stop\": \"x\"}", "option \"stop\" must be of type array" },
        { "{\"stop\": [1]}", "option \"stop\" must be of an array of strings" },
        { "{\"reproducible\": 1}", "option \"reproducible\" must be of type boolean" },
        { "[]", "\"options\" must be an object" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gen_options o;
        struct err e;
        json_t *t = tree(rows[i][0]);
        assert_int_equal(gen_options_read(t, &o, &e), ERR_INVALID);
        assert_string_equal(e.text, rows[i][1]);
        json_decref(t);
    }
}

static void generate_there_and_back(void **state)
{
    (void)state;
    struct gen_request r, again;
    struct err e;
    struct buf b;
    gen_request_init(&r, GEN_GENERATE);
    assert_true(r.stream && r.truncate && r.shift);
    r.model = STR("m:1");
    r.prompt = STR("caf\xC3\xA9 \"x\"\n");
    r.has_keep_alive = true;
    r.keep_alive_ns = 90 * S;
    r.think = THINK_LOW;
    r.echo = true;
    r.stream = false;
    r.options.given = 1U << OPTION_SEED;
    r.options.seed = 9;
    buf_init(&b, 4096);
    gen_request_write(&b, &r);
    assert_int_equal(gen_request_read(GEN_GENERATE, tree(b.p), &again, &e), ERR_OK);
    assert_true(str_eq(again.model, r.model) && str_eq(again.prompt, r.prompt));
    assert_int_equal(again.keep_alive_ns, 90 * S);
    assert_int_equal(again.think, THINK_LOW);
    assert_false(again.stream);
    assert_true(again.echo);
    assert_int_equal(again.options.seed, 9);
    gen_request_finish(&again);
    buf_finish(&b);
}

static void keep_alives(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum err_code code;
        int64_t ns;
    } rows[] = {
        { "\"5m\"", ERR_OK, 300 * S }, { "0", ERR_OK, 0 },        { "\"0\"", ERR_OK, 0 },
        { "-1", ERR_OK, -1 },          { "\"-1m\"", ERR_OK, -1 }, { "1.5", ERR_OK, S * 3 / 2 },
        { "1e30", ERR_OK, INT64_MAX }, { "\"10\"", ERR_INVALID, 0 }, { "true", ERR_INVALID, 0 },
        { "\"\"", ERR_INVALID, 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[100];
        struct gen_request r;
        struct err e;
        snprintf(text, sizeof text, "{\"model\":\"m\",\"keep_alive\":%s}", rows[i].value);
        assert_int_equal(gen_request_read(GEN_GENERATE, tree(text), &r, &e), rows[i].code);
        if (!rows[i].code) {
            assert_true(r.has_keep_alive);
            assert_int_equal(r.keep_alive_ns, rows[i].ns);
        }
        gen_request_finish(&r);
    }
}

static void chat_requests(void **state)
{
    (void)state;
    struct gen_request r;
    struct err e;
    assert_int_equal(gen_request_read(GEN_CHAT, tree("{\"model\":\"m\",\"messages\":["
        "{\"role\":\"SYSTEM\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\",\"images\":[\"aa\"]},"
        "{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"b\":1,\"a\":2}}}]}"
        "],\"think\":true,\"n\":3,\"logprobs\":true,\"top_logprobs\":3,\"format\":\"\"}"), &r, &e), ERR_OK);
    assert_string_equal(json_string_value(json_object_get(json_array_get(r.messages, 0), "role")),
                        "system");
    assert_string_equal(json_string_value(json_object_get(json_array_get(r.messages, 2), "content")),
                        "");
    assert_int_equal(r.n_images, 1);
    assert_int_equal(r.think, THINK_ON);
    assert_int_equal(r.top_logprobs, 3);
    assert_int_equal(r.n, 3);
    assert_null(r.format);
    gen_request_finish(&r);
}

/* The shapes that clients of OpenAI and of Ollama send. */
static void tools_and_calls(void **state)
{
    (void)state;
    struct gen_request r, again;
    struct err e;
    struct buf b;
    static const char text[] =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"u\"}]},"
        "{\"role\":\"assistant\",\"content\":null,\"reasoning\":\"hm\",\"tool_calls\":["
        "{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"b\\\": 1}\"}},"
        "{\"function\":{\"name\":\"f\",\"arguments\":\"{b\"}}]},"
        "{\"role\":\"tool\",\"content\":\"1\",\"tool_call_id\":\"a\"}],"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}],"
        "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},"
        "\"chat_template_kwargs\":{\"x\":1}}";
    assert_int_equal(gen_request_read(GEN_CHAT, tree(text), &r, &e), ERR_OK);
    assert_int_equal(r.tool_choice, TOOLS_NAMED);
    assert_true(str_is(r.tool_name, "f"));
    buf_init(&b, 4096);
    gen_request_write(&b, &r);
    assert_int_equal(gen_request_read(GEN_CHAT, tree(b.p), &again, &e), ERR_OK);
    assert_true(json_equal(again.messages, r.messages) && json_equal(again.tools, r.tools));
    assert_true(again.tool_choice == TOOLS_NAMED && str_is(again.tool_name, "f"));
    assert_int_equal(json_integer_value(json_object_get(again.template_kwargs, "x")), 1);
    gen_request_finish(&again);
    gen_request_finish(&r);
    buf_finish(&b);
}

static void formats(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum format_kind kind;
        json_type of; /* of what comes with it; JSON_NULL: nothing */
    } rows[] = {
        { "\"\"", FORMAT_NONE, JSON_NULL },
        { "null", FORMAT_NONE, JSON_NULL },
        { "\"json\"", FORMAT_JSON, JSON_NULL },
        { "{}", FORMAT_SCHEMA, JSON_OBJECT },
        { "{\"type\":\"object\"}", FORMAT_SCHEMA, JSON_OBJECT },
        { "{\"type\":[\"string\"]}", FORMAT_SCHEMA, JSON_OBJECT },
        { "{\"type\":\"grammar\",\"grammar\":\"root ::= [0-9]\"}", FORMAT_GRAMMAR, JSON_STRING },
        { "{\"type\":\"regex\",\"regex\":\"a+\"}", FORMAT_REGEX, JSON_STRING },
        { "{\"type\":\"choice\",\"choice\":[\"a\",\"b\"]}", FORMAT_CHOICE, JSON_ARRAY },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[200];
        struct gen_request r;
        struct err e;
        snprintf(text, sizeof text, "{\"model\":\"m\",\"format\":%s}", rows[i].value);
        assert_int_equal(gen_request_read(GEN_GENERATE, tree(text), &r, &e), ERR_OK);
        assert_int_equal(r.format_kind, rows[i].kind);
        assert_true(r.format_of ? json_typeof(r.format_of) == rows[i].of : rows[i].of == JSON_NULL);
        gen_request_finish(&r);
    }
}

static void wrong_requests(void **state)
{
    (void)state;
    static const struct {
        enum gen_kind kind;
        const char *text, *holds;
    } rows[] = {
        { GEN_GENERATE, "{}", "model is required" },
        { GEN_GENERATE, "[]", "JSON object" },
        { GEN_GENERATE, "{\"model\":1}", "\"model\" must be a string" },
        { GEN_GENERATE, "{\"model\":\"a\\u0000b\"}", "NUL" },
        { GEN_GENERATE, "{\"model\":\"m\",\"prompt\":[]}", "\"prompt\"" },
        { GEN_GENERATE, "{\"model\":\"m\",\"stream\":1}", "\"stream\"" },
        { GEN_GENERATE, "{\"model\":\"m\",\"think\":\"hard\"}", "\"think\"" },
        { GEN_GENERATE, "{\"model\":\"m\",\"format\":\"xml\"}", "\"format\"" },
        { GEN_GENERATE, "{\"model\":\"m\",\"context\":[1,-2]}", "\"context\"[1]" },
        { GEN_GENERATE, "{\"model\":\"m\",\"context\":[1.5]}", "\"context\"[0]" },
        { GEN_GENERATE, "{\"model\":\"m\",\"raw\":true,\"system\":\"s\"}",
          "raw mode does not support template, system, or context" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":{}}", "\"messages\"" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[1]}", "messages[0]" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[{\"content\":\"x\"}]}", "messages[0]" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[1]}]}", "content" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":1}]}", "messages[0]: \"content\"" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", "\"text\"" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"tool\",\"tool_call_id\":1}]}", "tool_call_id" },
        { GEN_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}",
          "messages[0]: \"tool_calls\"[0]" },
        { GEN_CHAT, "{\"model\":\"m\",\"tools\":[{}]}", "tools[0]: there is no \"function\"" },
        { GEN_CHAT, "{\"model\":\"m\",\"tools\":[{\"function\":{\"name\":\"f\",\"parameters\":1}}]}", "\"parameters\"" },
        { GEN_CHAT, "{\"model\":\"m\",\"tool_choice\":\"required\"}", "no tools" },
        { GEN_CHAT, "{\"model\":\"m\",\"tool_choice\":\"any\"}", "\"tool_choice\" must be" },
        { GEN_CHAT, "{\"model\":\"m\",\"tools\":[{\"function\":{\"name\":\"f\"}}],"
                    "\"tool_choice\":{\"function\":{\"name\":\"g\"}}}", "no tool \"g\"" },
        { GEN_CHAT, "{\"model\":\"m\",\"chat_template_kwargs\":1}", "chat_template_kwargs" },
        { GEN_GENERATE, "{\"model\":\"m\",\"format\":[]}", "\"format\"" },
        { GEN_GENERATE, "{\"model\":\"m\",\"format\":{\"type\":\"grammar\"}}", "\"grammar\" must be a string" },
        { GEN_GENERATE, "{\"model\":\"m\",\"format\":{\"type\":\"choice\",\"choice\":[]}}", "empty" },
        { GEN_GENERATE, "{\"model\":\"m\",\"format\":{\"type\":\"choice\",\"choice\":[1]}}", "[0] must be" },
        { GEN_CHAT, "{\"model\":\"m\",\"top_logprobs\":21}", "top_logprobs must be between 0 and 20" },
        { GEN_CHAT, "{\"model\":\"m\",\"top_logprobs\":-1}", "top_logprobs must be between 0 and 20" },
        { GEN_CHAT, "{\"model\":\"m\",\"n\":0}", "\"n\" must be between 1 and 8" },
        { GEN_GENERATE, "{\"model\":\"m\",\"n\":9}", "\"n\" must be between 1 and 8" },
        { GEN_TOKENIZE, "{\"model\":\"m\"}", "content is required" },
        { GEN_DETOKENIZE, "{\"model\":\"m\"}", "tokens is required" },
        { GEN_DETOKENIZE, "{\"model\":\"m\",\"tokens\":[3000000000]}", "\"tokens\"[0]" },
        { GEN_RENDER, "{\"model\":\"m\"}", "messages" },
        { GEN_RENDER, "{\"model\":\"m\",\"prompt\":\"\",\"messages\":[]}", "either" },
        { GEN_SCORE, "{\"model\":\"m\"}", "content" },
        { GEN_SCORE, "{\"model\":\"m\",\"content\":\"\",\"window\":-1}", "\"window\"" },
        { GEN_SCORE, "{\"model\":\"m\",\"content\":\"\",\"window\":1}", "\"window\"" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct gen_request r;
        struct err e;
        if (gen_request_read(rows[i].kind, tree(rows[i].text), &r, &e) != ERR_INVALID ||
            !strstr(e.text, rows[i].holds))
            fail_msg("%s: %s", rows[i].text, e.text);
        gen_request_finish(&r);
    }
}

static void chunks(void **state)
{
    (void)state;
    struct gen_logprobs lp = { .chosen = { { "\xC3", 1 }, -0.5 }, .n_top = 1,
                               .top = { { { "a", 1 }, -0.25 } } };
    int32_t context[] = { 1, 2, 3 };
    struct gen_tool_call call = { STR("call_1"), STR("f"), STR("{\"b\":1,\"a\":[]}"), 2 };
    struct gen_chunk c = {
        .kind = GEN_CHAT, .model = STR("m"), .created_wall_ns = 1700000000000000000,
        .text = STR("hi \"there\""), .thinking = STR("hm"), .done = true,
        .done_reason = STR("stop"), .has_metrics = true,
        .metrics = { .total_duration = 9, .load_duration = 1, .eval_count = 4 },
        .logprobs = &lp, .n_logprobs = 1, .tool_calls = &call, .n_tool_calls = 1,
    };
    struct buf b;
    struct err e;
    buf_init(&b, 4096);
    gen_chunk_write(&b, &c);
    json_t *t = tree(b.p);
    assert_null(json_object_get(t, "eval_duration")); /* zero is absent */
    assert_null(strchr(b.p, '\n'));
    json_t *first = json_array_get(json_object_get(t, "logprobs"), 0);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(first, "bytes"), 0)), 0xC3);
    assert_int_equal(json_array_size(json_object_get(first, "top_logprobs")), 1);
    assert_non_null(strstr(b.p, "\"tool_calls\":[{\"id\":\"call_1\",\"function\":{\"index\":2,\"name\":\"f\","
                                "\"arguments\":{\"b\":1,\"a\":[]}}}]"));
    struct gen_chunk back;
    assert_int_equal(gen_chunk_read(t, &back, &e), ERR_OK);
    assert_int_equal(back.kind, GEN_CHAT);
    assert_true(str_eq(back.text, c.text) && str_eq(back.thinking, c.thinking));
    assert_true(back.done && back.has_metrics && str_is(back.done_reason, "stop"));
    assert_int_equal(back.metrics.eval_count, 4);
    assert_true(back.created_wall_ns == c.created_wall_ns);
    json_decref(t);

    buf_clear(&b);
    c = (struct gen_chunk){ .kind = GEN_GENERATE, .model = STR("m"), .text = STR("x"),
                            .context = context, .n_context = 3 };
    gen_chunk_write(&b, &c);
    assert_non_null(strstr(b.p, "\"response\":\"x\",\"done\":false,\"context\":[1,2,3]"));
    assert_null(strstr(b.p, "done_reason"));
    assert_null(strstr(b.p, "index"));

    struct gen_chunk two[2] = { { .kind = GEN_GENERATE, .text = STR("x"), .done_reason = STR("stop"), .metrics.eval_count = 1 },
                                { .kind = GEN_GENERATE, .index = 1, .thinking = STR("y"), .done_reason = STR("length") } };
    buf_clear(&b);
    c = (struct gen_chunk){ .kind = GEN_GENERATE, .has_index = true, .index = 1, .choices = two, .n_choices = 2 };
    gen_chunk_write(&b, &c);
    assert_non_null(strstr(b.p, "\"choices\":[{\"index\":0,\"response\":\"x\",\"done_reason\":\"stop\",\"eval_count\":1},"
                                "{\"index\":1,\"response\":\"\",\"thinking\":\"y\",\"done_reason\":\"length\",\"eval_count\":0}]"));
    t = tree(b.p);
    assert_int_equal(gen_chunk_read(t, &back, &e), ERR_OK);
    assert_true(back.has_index && back.index == 1);
    json_decref(t);

    t = tree("{\"error\":\"model 'x' not found\"}");
    assert_int_equal(gen_chunk_read(t, &back, &e), ERR_INTERNAL);
    assert_string_equal(e.text, "model 'x' not found");
    assert_int_equal(error_read(t, 404, &e), ERR_NOT_FOUND);
    assert_int_equal(error_read(t, 503, &e), ERR_BUSY);
    assert_int_equal(error_read(NULL, 502, &e), ERR_NO_DAEMON);
    json_decref(t);
    buf_finish(&b);
}

static void lists(void **state)
{
    (void)state;
    struct model_entry in[] = {
        { .name = STR("a:latest"), .digest = STR("00ff"), .size = UINT64_C(5000000000),
          .modified_wall_ns = S, .details = { .format = STR("gguf"), .family = STR("llama") },
          .context_length = 8192 },
        { .name = STR("b:1"), .digest = STR("11"), .expires_wall_ns = 7 * S, .size_vram = 3,
          .sessions = 4, .active = 2, .reproducible = true },
    };
    struct buf b;
    struct err e;
    buf_init(&b, 8192);
    for (enum model_list_kind kind = LIST_TAGS; kind <= LIST_PS; kind++) {
        struct model_entry *out;
        size_t n;
        buf_clear(&b);
        model_list_write(&b, kind, in, 2, (struct str){ 0 });
        json_t *t = tree(b.p);
        assert_int_equal(model_list_read(t, kind, &out, &n, &e), ERR_OK);
        assert_int_equal(n, 2);
        assert_true(str_is(out[0].name, "a:latest") && out[0].size == in[0].size);
        assert_true(str_is(out[0].details.family, "llama"));
        assert_int_equal(out[0].context_length, 8192);
        if (kind == LIST_TAGS)
            assert_true(out[0].modified_wall_ns == S);
        else
            assert_true(out[1].expires_wall_ns == 7 * S && out[1].active == 2 && out[1].reproducible);
        mem_free(out);
        json_decref(t);
    }
    buf_clear(&b);
    model_list_write(&b, LIST_TAGS, NULL, 0, (struct str){ 0 });
    assert_string_equal(b.p, "{\"models\":[]}");
    buf_finish(&b);
}

static void model_requests(void **state)
{
    (void)state;
    struct model_request r;
    struct err e;
    assert_int_equal(model_request_read(REQUEST_SHOW, tree("{\"name\":\"a\",\"verbose\":true}"), &r, &e),
                     ERR_OK);
    assert_true(str_is(r.model, "a") && r.verbose);
    model_request_finish(&r);
    assert_int_equal(model_request_read(REQUEST_COPY, tree("{\"source\":\"a\"}"), &r, &e), ERR_INVALID);
    model_request_finish(&r);
    assert_int_equal(model_request_read(REQUEST_IMPORT, tree("{\"model\":\"a\",\"path\":\"x.gguf\"}"), &r,
                                        &e), ERR_INVALID);
    model_request_finish(&r);
    struct model_request in = { .model = STR("a"), .path = STR("/x.gguf"), .reference = true };
    struct buf b;
    buf_init(&b, 1000);
    model_request_write(&b, REQUEST_IMPORT, &in);
    assert_int_equal(model_request_read(REQUEST_IMPORT, tree(b.p), &r, &e), ERR_OK);
    assert_true(str_is(r.path, "/x.gguf") && r.reference);
    model_request_finish(&r);
    buf_finish(&b);
}

static void shows_scores_tokens(void **state)
{
    (void)state;
    struct show_reply in = { .template = STR("t"), .template_family = STR("chatml"), .model_info = STR("{\"general.architecture\":\"llama\"}"),
                             .capabilities = { STR("completion"), STR("tools") }, .n_capabilities = 2,
                             .modified_wall_ns = S }, out;
    struct buf b;
    struct err e;
    buf_init(&b, 8192);
    show_reply_write(&b, &in);
    json_t *t = tree(b.p);
    assert_int_equal(show_reply_read(t, &out, &e), ERR_OK);
    assert_true(str_is(out.template, "t") && str_is(out.template_family, "chatml") && out.n_capabilities == 2);
    assert_string_equal(json_string_value(json_object_get(out.model_info_tree, "general.architecture")),
                        "llama");
    json_decref(t);

    int32_t id[] = { 5, 6 };
    float lp[] = { NAN, -1.5f };
    struct score_reply score;
    buf_clear(&b);
    score_write(&b, id, lp, 2);
    assert_string_equal(b.p, "{\"tokens\":[5,6],\"logprobs\":[null,-1.5]}");
    t = tree(b.p);
    assert_int_equal(score_read(t, &score, &e), ERR_OK);
    assert_true(score.n == 2 && isnan(score.logprobs[0]) && score.logprobs[1] == -1.5);
    score_reply_finish(&score);
    json_decref(t);
    t = tree("{\"tokens\":[5,6],\"logprobs\":[null]}");
    assert_int_equal(score_read(t, &score, &e), ERR_INVALID);
    json_decref(t);

    struct str pieces[] = { STR("a"), { "\xC3", 1 } };
    struct tokens_reply tr = { .tokens = id, .n = 2, .pieces = pieces };
    buf_clear(&b);
    tokens_write(&b, &tr);
    assert_string_equal(b.p, "{\"tokens\":[5,6],\"pieces\":[\"a\",[195]]}");
    buf_finish(&b);
}

/* Every allocation of a reader fails once: an error, no leak. */
static void out_of_memory(void **state)
{
    (void)state;
    static const char text[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"USER\",\"content\":\"x\"},"
                               "{\"role\":\"Assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
                               "\"arguments\":\"{}\"}}]}],\"options\":{\"stop\":[\"a\"]}}";
    json_setup();
    uint64_t live = mem_live();
    for (uint64_t n = 1; n < 60; n++) {
        struct gen_request r = { 0 };
        struct err e;
        json_t *root;
        mem_fail_after(n, false);
        if (json_read(str_from(text), 1 << 20, "test", &root, &e) == ERR_OK)
            gen_request_read(GEN_CHAT, root, &r, &e);
        mem_fail_after(0, false);
        gen_request_finish(&r);
        assert_int_equal(mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),        cmocka_unit_test(time_stamps),
        cmocka_unit_test(options),          cmocka_unit_test(wrong_options),
        cmocka_unit_test(generate_there_and_back), cmocka_unit_test(keep_alives),
        cmocka_unit_test(chat_requests),    cmocka_unit_test(wrong_requests),
        cmocka_unit_test(tools_and_calls),  cmocka_unit_test(formats),
        cmocka_unit_test(chunks),           cmocka_unit_test(lists),
        cmocka_unit_test(model_requests),   cmocka_unit_test(shows_scores_tokens),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
