/* Reading what a model says: each style's own text, what is no call, cuts anywhere, bounds, every
 * allocation failing in turn. Real templates are read back by tests/text/round_trip.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/output_parser.h"

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"find\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"q\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},\"x\":{\"type\":"
    "[\"number\",\"null\"]},\"on\":{\"type\":\"boolean\"},\"any\":{},\"list\":{\"type\":\"array\"},"
    "\"o\":{\"$ref\":\"#/$defs/o\"}},\"$defs\":{\"o\":{\"type\":\"object\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"find_more\"}},"
    "{\"name\":\"halt\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}]";

/* ---- a transcript: [r:..][c:..]{name#id(arguments)} and X where a call was dropped ------------- */

#define TALK 8192
struct talk {
    char text[TALK];
    size_t n;
    int kind;
    size_t call_at;
};

static void put(struct talk *t, struct str s)
{
    assert_true(t->n + s.n < TALK);
    memcpy(t->text + t->n, s.p, s.n);
    t->n += s.n;
    t->text[t->n] = '\0';
}

static void close_text(struct talk *t, int kind)
{
    if (t->kind != kind && (t->kind == OUTPUT_CONTENT || t->kind == OUTPUT_REASONING))
        put(t, STR("]"));
    if (t->kind != kind && kind == OUTPUT_CONTENT)
        put(t, STR("[c:"));
    if (t->kind != kind && kind == OUTPUT_REASONING)
        put(t, STR("[r:"));
    t->kind = kind;
}

static void hear(struct talk *t, struct output_parser *p)
{
    size_t n;
    const struct output_event *ev = output_parser_events(p, &n);
    for (size_t i = 0; i < n; i++) {
        struct str s = output_event_text(p, &ev[i]);
        int before = t->kind;
        close_text(t, (int)ev[i].kind);
        if (ev[i].kind == OUTPUT_CALL_BEGIN) {
            t->call_at = t->n;
            put(t, STR("{"));
        } else if (ev[i].kind == OUTPUT_CALL_ID)
            put(t, STR("#"));
        else if (ev[i].kind == OUTPUT_CALL_ARGUMENTS && before != OUTPUT_CALL_ARGUMENTS)
            put(t, STR("("));
        else if (ev[i].kind == OUTPUT_CALL_END)
            s = before == OUTPUT_CALL_ARGUMENTS ? STR(")}") : STR("}");
        else if (ev[i].kind == OUTPUT_CALL_DROPPED) {
            t->n = t->call_at;
            s = STR("X");
        }
        put(t, s);
    }
    output_parser_taken(p);
}

struct said {
    const char *prompt, *prefill;
    bool no_tools, no_thinking;
};

static void listen(const struct output_format *f, const struct said *how, struct str text,
                   size_t cut, struct talk *t)
{
    struct err e = { 0 };
    struct output_parser *p = NULL;
    json_t *tools = json_loads(tools_json, 0, NULL);
    struct output_options o = { .tools = how->no_tools ? NULL : tools,
                                .thinking = !how->no_thinking,
                                .prompt = str_from(how->prompt),
                                .prefill = str_from(how->prefill) };
    *t = (struct talk){ .kind = -1 };
    assert_int_equal(output_parser_create(f, &o, &p, &e), ERR_OK);
    uint64_t seed = cut;
    for (size_t at = 0, n; at < text.n; at += n) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        n = cut < 8 ? cut : 1 + (size_t)(seed >> 33) % cut;
        n = !n || n > text.n - at ? text.n - at : n;
        assert_int_equal(output_parser_feed(p, (struct str){ text.p + at, n }, false, &e), ERR_OK);
        hear(t, p);
    }
    assert_int_equal(output_parser_end(p, &e), ERR_OK);
    hear(t, p);
    close_text(t, -1);
    output_parser_destroy(p);
    json_decref(tools);
}

static struct output_format *format_of(const char *source)
{
    struct err e = { 0 };
    struct chat_template *t = NULL;
    struct output_format *f = NULL;
    if (source && chat_template_create(str_from(source), "t", &t, &e))
        fail_msg("%s", e.text);
    assert_int_equal(output_format_create(t, NULL, &f, &e), ERR_OK);
    chat_template_destroy(t);
    return f;
}

/* However it is cut, the text is heard as `want`. */
static void heard(const struct output_format *f, const struct said *how, const char *text,
                  const char *want)
{
    static const size_t cuts[] = { 0, 1, 2, 3, 9, 30 };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct talk t;
        listen(f, how, str_from(text), cuts[i], &t);
        if (strcmp(t.text, want) != 0)
            fail_msg("%s (cut %zu)\n  got  %s\n  want %s", text, cuts[i], t.text, want);
    }
}

struct example {
    const char *text, *want;
};

static void examples(const char *source, const char *name, const struct example *v, size_t n)
{
    struct output_format *f = format_of(source);
    struct said plain = { 0 };
    struct str got = output_format_info(f).name;
    if (!str_is(got, name))
        fail_msg("the format is called %.*s, not %s", (int)got.n, got.p, name);
    for (size_t i = 0; i < n; i++)
        heard(f, &plain, v[i].text, v[i].want);
    output_format_destroy(f);
}
#define EXAMPLES(source, name, v) examples(source, name, v, sizeof(v) / sizeof *(v))

/* ---- templates, of our own making ------------------------------------------------------------ */

#define LOOP(assistant, generation)                                                                \
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}"                \
    "{% if m.role == 'assistant' %}" assistant "{% else %}<|u|>{{ m.content }}{% endif %}"         \
    "{% endfor %}{% if add_generation_prompt %}" generation "{% endif %}"
#define THOUGHT "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
#define CALLS(before, inside, between, after)                                                      \
    "{% for c in m.tool_calls or [] %}{% if loop.first %}" before "{% else %}" between             \
    "{% endif %}" inside "{% if loop.last %}" after "{% endif %}{% endfor %}"
#define NAME "{{ c.function.name }}"
#define ARGS "{{ c.function.arguments | tojson }}"

static const char hermes[] = LOOP("<|a|>" THOUGHT "{{ m.content }}" CALLS("",
    "\n<tool_call>\n{\"name\": \"" NAME "\", \"arguments\": " ARGS "}\n</tool_call>", "", "")
    "<|e|>", "<|a|>");

static void test_hermes(void **state)
{
    (void)state;
    static const struct example v[] = {
        { "Hello.", "[c:Hello.]" },
        { "\n\nHello. \n", "[c:\n\nHello. \n]" },
        { "<think>\nHm.\n\nHm!\n</think>\n\nYes.", "[r:Hm.\n\nHm!][c:Yes.]" },
        { "<think></think>Yes <think>", "[c:Yes <think>]" },
        { "<think>\n\n</think>\n", "" },
        { "</think>\n\nYes", "[c:Yes]" },
        { "a </think> b", "[c:a </think> b]" },
        { "<think>never done ", "[r:never done]" },
        { "<tool_call>\n{\"name\": \"find\", \"arguments\": {\"q\": \"a}<\\\"\"}}\n</tool_call>",
          "{find({\"q\": \"a}<\\\"\"})}" },
        { "Look:\n<tool_call>{\"name\":\"find\",\"arguments\":{}}</tool_call>\n"
          "<tool_call>\n{\"name\": \"find_more\", \"arguments\": {\"a\": [1, 2.5e-3, null]}}\n"
          "</tool_call>\nDone.",
          "[c:Look:]{find({})}{find_more({\"a\": [1, 2.5e-3, null]})}[c:Done.]" },
        { "<tool_call>{\"arguments\": {\"q\": \"x\"}, \"name\": \"find\"}</tool_call>",
          "{find({\"q\": \"x\"})}" },
        { "<tool_call>{\"id\": \"c1\", \"name\": \"find\", \"parameters\": {}}</tool_call>",
          "{find#c1({})}" },
        { "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"find\", \"arguments\": "
          "\"{\\\"q\\\": 1}\"}}</tool_call>",
          "{find({\"q\": 1})}" },
        { "<tool_call>{\"name\": \"halt\"}</tool_call>", "{halt({})}" },
        { "<tool_call>{\"name\": \"halt\", \"arguments\": null}", "{halt({})}" },
        { "<tool_call>{\"name\": \"halt\", \"arguments\": {}} and more",
          "{halt({})}[c:and more]" },
        /* none */
        { "<tool_call> is how I call.", "[c:<tool_call> is how I call.]" },
        { "<tool_ca", "[c:<tool_ca]" },
        { "a <tool_call", "[c:a <tool_call]" },
        { "<tool_call>", "[c:<tool_call>]" },
        { "<tool_call>{\"name\": \"gone\", \"arguments\": {}}</tool_call>",
          "[c:<tool_call>{\"name\": \"gone\", \"arguments\": {}}</tool_call>]" },
        { "<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": tru}}</tool_call> x",
          "X[c:<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": tru}}</tool_call> x]" },
        { "<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"\\ud800\"}}</tool_call>",
          "X[c:<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"\\ud800\"}}</tool_call>]" },
        { "<tool_call>{\"name\": \"find\", \"arguments\": [1]}</tool_call>",
          "X[c:<tool_call>{\"name\": \"find\", \"arguments\": [1]}</tool_call>]" },
        { "<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"cut",
          "X[c:<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"cut]" },
        { "<tool_call>{\"name\": \"find\", \"name\": \"halt\"}",
          "X[c:<tool_call>{\"name\": \"find\", \"name\": \"halt\"}]" },
        { "<tool_call>no<tool_call>{\"name\":\"halt\"}</tool_call>",
          "[c:<tool_call>no]{halt({})}" },
        { "caf\xc3\xa9 \xe6\x9d\xb1 \xf0\x9f\x8c\xa7", "[c:caf\xc3\xa9 \xe6\x9d\xb1 \xf0\x9f\x8c\xa7]" },
    };
    EXAMPLES(hermes, "hermes", v);
}

static void test_options(void **state)
{
    (void)state;
    struct output_format *f = format_of(hermes);
    static const char call[] = "<tool_call>{\"name\": \"halt\"}</tool_call>";
    heard(f, &(struct said){ .no_tools = true }, call,
          "[c:<tool_call>{\"name\": \"halt\"}</tool_call>]");
    heard(f, &(struct said){ .no_thinking = true }, "<think>a</think>b", "[c:<think>a</think>b]");
    heard(f, &(struct said){ .prompt = "<|a|><think>\n" }, "a</think>b", "[r:a][c:b]");
    heard(f, &(struct said){ .prompt = "<|a|><think>\n\n</think>\n\n" }, "a</think>b",
          "[c:a</think>b]");
    heard(f, &(struct said){ .prompt = "<|a|>", .prefill = "<think>so" }, " far</think>b",
          "[r: far][c:b]");
    heard(f, &(struct said){ .prefill = "The sky" }, " is <think>blue", "[c: is <think>blue]");
    assert_true(output_format_in_thought(f, STR("x<think>\n")));
    assert_false(output_format_in_thought(f, STR("x<think>\n</think>")));
    output_format_destroy(f);
    f = format_of(NULL);
    heard(f, &(struct said){ 0 }, "<think>a</think>", "[c:<think>a</think>]");
    heard(f, &(struct said){ 0 }, call, "[c:<tool_call>{\"name\": \"halt\"}</tool_call>]");
    output_format_destroy(f);
}

static void test_tagged(void **state)
{
    (void)state;
    static const char source[] = LOOP("<|a|>{{ m.content }}" CALLS("",
        "\n<tool_call>\n<function=" NAME ">\n{% for k, v in c.function.arguments.items() %}"
        "<parameter={{ k }}>\n{{ v if v is string else v | tojson }}\n</parameter>\n{% endfor %}"
        "</function>\n</tool_call>", "", "") "<|e|>", "<|a|>");
    static const struct example v[] = {
        { "<tool_call>\n<function=find>\n<parameter=q>\nif a < b:\n  </p>\n</parameter>\n"
          "<parameter=n>\n12\n</parameter>\n</function>\n</tool_call>",
          "{find({\"q\": \"if a < b:\\n  </p>\", \"n\": 12})}" },
        { "<tool_call><function=find><parameter=x>null</parameter><parameter=on>True</parameter>"
          "<parameter=o>{'a': (1, \"b\")}</parameter></function></tool_call>ok",
          "{find({\"x\": null, \"on\": true, \"o\": {\"a\": [1, \"b\"]}})}[c:ok]" },
        { "<tool_call><function=find><parameter=q>12</parameter><parameter=any>12</parameter>"
          "<parameter=n>twelve</parameter><parameter=list>[1,</parameter></function></tool_call>",
          "{find({\"q\": \"12\", \"any\": 12, \"n\": \"twelve\", \"list\": \"[1,\"})}" },
        { "<tool_call><function=find_more></function></tool_call>", "{find_more({})}" },
        { "<tool_call><function=fin></function></tool_call>",
          "[c:<tool_call><function=fin></function></tool_call>]" },
        { "<tool_call><function=find><parameter=q>a", "X[c:<tool_call><function=find><parameter=q>a]" },
        { "<tool_call><function=find>text</function>", "[c:<tool_call><function=find>text</function>]" },
        { "<tool_call><function=find><parameter=q>\n\n</parameter></function></tool_call>",
          "{find({\"q\": \"\"})}" },
    };
    EXAMPLES(source, "qwen3-coder", v);
}

static void test_tagged_types(void **state)
{
    (void)state;
    static const char source[] = LOOP("<|a|>{{ m.content }}" CALLS("<calls>\n",
        "<call f=\"" NAME "\">\n{% for k, v in c.function.arguments.items() %}"
        "<p k=\"{{ k }}\" text=\"{{ 'yes' if v is string else 'no' }}\">"
        "{{ v if v is string else v | tojson }}</p>\n{% endfor %}</call>\n", "", "</calls>")
        "<|e|>", "<|a|>");
    static const struct example v[] = {
        { "<calls>\n<call f=\"find_more\">\n<p k=\"n\" text=\"no\">12</p>\n<p k=\"s\" "
          "text=\"yes\">12</p>\n</call>\n<call f=\"halt\">\n</call>\n</calls>",
          "{find_more({\"n\": 12, \"s\": \"12\"})}{halt({})}" },
        { "Use \n<calls> now.", "[c:Use \n<calls> now.]" },
    };
    EXAMPLES(source, "derived", v);
}

static void test_repeated_keys_as_tags(void **state)
{
    (void)state;
    static const char source[] = LOOP("<|a|>{{ m.content }}" CALLS("<calls>",
        "<do name=\"" NAME "\">{% for k, v in c.function.arguments.items() %}"
        "<{{ k }}>{{ v }}</{{ k }}>{% endfor %}</do>", "", "</calls>") "<|e|>", "<|a|>");
    static const struct example v[] = {
        { "<calls><do name=\"find\"><q>a<q>b</q>c</q><n>3</n></do></calls>",
          "{find({\"q\": \"a<q>b</q>c\", \"n\": 3})}" },
        { "<calls><do name=\"find\"><list><item>1</item><item>b</item></list>"
          "<any><k>v</k><m><k>2</k></m></any></do></calls>",
          "{find({\"list\": [1, \"b\"], \"any\": {\"k\": \"v\", \"m\": {\"k\": 2}}})}" },
    };
    EXAMPLES(source, "derived", v);
}

static void test_pythonic(void **state)
{
    (void)state;
    static const char source[] = LOOP("<|a|>{{ m.content }}" CALLS("<|tool_call_start|>[",
        NAME "({% for k, v in c.function.arguments.items() %}{{ k }}="
        "{{ \"'\" + v + \"'\" if v is string else v }}{{ ', ' if not loop.last }}{% endfor %})",
        ", ", "]<|tool_call_end|>") "<|e|>", "<|a|>");
    static const struct example v[] = {
        { "<|tool_call_start|>[find(q='it\\'s', n=3, on=False, x=None), halt()]<|tool_call_end|>go",
          "{find({\"q\": \"it's\", \"n\": 3, \"on\": false, \"x\": null})}{halt({})}[c:go]" },
        { "<|tool_call_start|>[find(q=\"I'm, (you)\", o={'k': [1, (2,)]})]",
          "{find({\"q\": \"I'm, (you)\", \"o\": {\"k\": [1, [2]]}})}" },
        { "<|tool_call_start|>[find(q='it's ok')]", "{find({\"q\": \"it's ok\"})}" },
        { "<|tool_call_start|>[find(q='\\u00e9\\x41\\n\\q')]",
          "{find({\"q\": \"\xc3\xa9" "A\\n\\\\q\"})}" },
        { "<|tool_call_start|>[gone(q=1)]", "[c:<|tool_call_start|>[gone(q=1)]]" },
        { "<|tool_call_start|>[find(1)]", "X[c:<|tool_call_start|>[find(1)]]" },
        { "<|tool_call_start|>[find(q=)]", "X[c:<|tool_call_start|>[find(q=)]]" },
        { "<|tool_call_start|>[find(n=99999999999999999999)]", "{find({\"n\": \"99999999999999999999\"})}" },
    };
    EXAMPLES(source, "lfm2", v);
}

static void test_mistral(void **state)
{
    (void)state;
    static const char old[] = LOOP("{{ m.content }}" CALLS("[TOOL_CALLS][",
        "{\"name\": \"" NAME "\", \"arguments\": " ARGS ", \"id\": \"{{ c.id }}\"}", ", ", "]")
        "</s>", "");
    static const struct example of_old[] = {
        { "[TOOL_CALLS][{\"name\": \"find\", \"arguments\": {\"q\": \"]\"}, \"id\": \"abc\"}, "
          "{\"name\": \"halt\", \"arguments\": {}}]",
          "{find({\"q\": \"]\"}#abc}{halt({})}" },
        { "[TOOL_CALLS] [{\"name\": \"halt\", \"arguments\": {}}", "{halt({})}" },
        { "[TOOL_CALLS]halt[ARGS]{}", "[c:[TOOL_CALLS]halt[ARGS]{}]" },
        { "[TOOL_CALLS][]", "[c:[TOOL_CALLS][]]" },
        { "[1, 2] {\"name\": \"halt\"}", "[c:[1, 2] {\"name\": \"halt\"}]" },
    };
    static const char with_id[] = LOOP("{{ m.content }}" CALLS("",
        "[TOOL_CALLS]" NAME "[CALL_ID]{{ c.id }}[ARGS]" ARGS, "", "") "</s>", "");
    static const struct example of_id[] = {
        { "Now[TOOL_CALLS]find[CALL_ID]x9[ARGS]{\"q\": \"a\"}[TOOL_CALLS]halt[CALL_ID]x8[ARGS]{}",
          "[c:Now]{find#x9({\"q\": \"a\"})}{halt#x8({})}" },
        { "[TOOL_CALLS]find{\"q\": \"a\"}", "{find({\"q\": \"a\"})}" },
    };
    EXAMPLES(old, "mistral", of_old);
    EXAMPLES(with_id, "mistral-named", of_id);
}

static void test_bare(void **state)
{
    (void)state;
    static const char source[] = LOOP("<|a|>{{ m.content }}" CALLS("",
        "{\"name\": \"" NAME "\", \"parameters\": " ARGS "}", "{{ raise_exception('one') }}", "")
        "<|e|>", "<|a|>");
    static const struct example v[] = {
        { "{\"name\": \"find\", \"parameters\": {\"q\": \"a\"}}", "{find({\"q\": \"a\"})}" },
        { "{\"name\": \"halt\", \"parameters\": {}}; {\"name\": \"halt\", \"parameters\": {}}",
          "{halt({})}{halt({})}" },
        { "<|python_tag|>{\"name\": \"halt\", \"parameters\": {}}", "{halt({})}" },
        { "{\"a\": 1}", "[c:{\"a\": 1}]" },
        { "{\"name\": \"Bob\", \"age\": 3}", "[c:{\"name\": \"Bob\", \"age\": 3}]" },
        { "So {\"name\": \"halt\", \"parameters\": {}}",
          "[c:So {\"name\": \"halt\", \"parameters\": {}}]" },
    };
    EXAMPLES(source, "llama-3", v);
}

static void test_channels(void **state)
{
    (void)state;
    static const char source[] =
        "{% for m in messages %}<|start|>{{ m.role }}<|channel|>final<|message|>{{ m.content }}"
        "<|end|>{% endfor %}<|start|>assistant";
    static const struct example v[] = {
        { "<|channel|>analysis<|message|>Hm. <|end|><|start|>assistant<|channel|>final<|message|>"
          "Yes.<|return|>",
          "[r:Hm.][c:Yes.]" },
        { "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary "
          "to=functions.find <|constrain|>json<|message|>{\"q\": \"a\"}<|call|>",
          "[r:Hm]{find({\"q\": \"a\"})}" },
        { " to=functions.halt<|channel|>commentary json<|message|>{}", "{halt({})}" },
        { "<|channel|>commentary<|message|>First,<|end|><|start|>assistant to=functions.halt"
          "<|channel|>commentary<|message|>{}<|call|>",
          "[c:First,]{halt({})}" },
        { "<|channel|>commentary to=functions.gone<|message|>{}",
          "[c:<|channel|>commentary to=functions.gone<|message|>{}]" },
        { "<|channel|>commentary to=functions.find<|message|>{\"q\" 1}<|call|>",
          "X[c:<|channel|>commentary to=functions.find<|message|>{\"q\" 1}]" },
        { "plain", "[c:plain]" },
        { "<|channel|>final", "[c:<|channel|>final]" },
    };
    EXAMPLES(source, "harmony", v);
}

static void test_rows(void **state)
{
    (void)state;
    /* Templates that name the markers and render no calls. */
    static const struct example kimi[] = {
        { "On it.<|tool_calls_section_begin|><|tool_call_begin|>functions.find:0"
          "<|tool_call_argument_begin|>{\"q\": \"a\"}<|tool_call_end|><|tool_call_begin|>"
          "functions.find_more:1<|tool_call_argument_begin|>{}<|tool_call_end|>"
          "<|tool_calls_section_end|>",
          "[c:On it.]{find#functions.find:0({\"q\": \"a\"})}{find_more#functions.find_more:1({})}" },
    };
    EXAMPLES(LOOP("{{ m.content }}<|tool_call_argument_begin|>", ""), "kimi-k2", kimi);
    static const struct example granite[] = {
        { "<|tool_call|>[{\"name\": \"find\", \"arguments\": {\"q\": \"a\"}}]",
          "{find({\"q\": \"a\"})}" },
        { "<tool_call>{\"name\": \"halt\"}</tool_call>", "{halt({})}" },
        { "<think>a</think><response>b</response>", "[r:a][c:b]" },
    };
    EXAMPLES(LOOP("{{ m.content }}", "{{ '<|tool_call|> <think></think> <response></response>' }}"),
             "granite-3", granite);
    static const struct example phi[] = {
        { "<|tool_call|>[{\"name\": \"find\", \"arguments\": {}}]<|/tool_call|>ok",
          "{find({})}[c:ok]" },
    };
    EXAMPLES(LOOP("{{ m.content }}", "{{ '<|tool_call|><|/tool_call|>' }}"), "phi-4", phi);
    static const struct example command[] = {
        { "Action: ```json\n[\n  {\"tool_name\": \"find\", \"parameters\": {\"q\": \"a\"}}\n]```",
          "{find({\"q\": \"a\"})}" },
    };
    EXAMPLES(LOOP("{{ m.content }}", "{{ 'Action: ```json tool_name ```' }}"), "command-r", command);
    static const struct example any[] = {
        { "{\"name\": \"halt\", \"arguments\": {}}", "{halt({})}" },
        { "<tool_call>{\"name\": \"halt\", \"arguments\": {}}</tool_call>", "{halt({})}" },
    };
    EXAMPLES(LOOP("{{ m.content }}", ""), "generic", any);
}

/* Prompts that end inside of the marker: what the model says goes on from there. */
static void test_opened(void **state)
{
    (void)state;
    static const char source[] = LOOP("<|a|>{% if m.content %}>>>all\n{{ m.content }}{% endif %}"
        CALLS("", ">>>" NAME "\n" ARGS, "", "") "<|e|>", "<|a|>>>>");
    struct output_format *f = format_of(source);
    struct said how = { .prompt = "<|u|>x<|a|>>>>" };
    heard(f, &how, "all\nHello", "[c:Hello]");
    heard(f, &how, "find\n{\"q\": \"a\"}>>>halt\n{}", "{find({\"q\": \"a\"})}{halt({})}");
    heard(f, &how, "all\nWait>>>halt\n{}", "[c:Wait]{halt({})}");
    heard(f, &how, "gone\n{}", "[c:gone\n{}]");
    output_format_destroy(f);
}

/* A control token is not what merely spells it. */
static void test_control(void **state)
{
    (void)state;
    static const char *const word[] = { "<|call|>", "<|x|>", "a" };
    struct str tokens[3];
    int32_t types[3] = { TOKEN_CONTROL, TOKEN_CONTROL, TOKEN_NORMAL };
    for (size_t i = 0; i < 3; i++)
        tokens[i] = str_from(word[i]);
    struct tokenizer_spec spec = { .model = STR("gpt2"), .pre = STR("gpt-2"), .tokens = tokens,
                                   .types = types, .n_tokens = 3, .merges = tokens, .bos = TOKEN_NONE,
                                   .eos = TOKEN_NONE, .unk = TOKEN_NONE, .pad = TOKEN_NONE,
                                   .sep = TOKEN_NONE, .mask = TOKEN_NONE, .eot = TOKEN_NONE,
                                   .eom = TOKEN_NONE, .add_bos = 0, .add_eos = 0,
                                   .add_space_prefix = 0, .remove_extra_whitespaces = -1 };
    static const char source[] = LOOP("{{ m.content }}" CALLS("",
        "<|call|>{\"name\": \"" NAME "\", \"arguments\": " ARGS "}", "", ""), "");
    struct tokenizer *words = NULL;
    struct chat_template *t = NULL;
    struct output_format *f = NULL;
    struct output_parser *p = NULL;
    struct err e = { 0 };
    if (tokenizer_create(&spec, &words, &e))
        fail_msg("%s", e.text);
    assert_int_equal(chat_template_create(str_from(source), "t", &t, &e), ERR_OK);
    assert_int_equal(output_format_create(t, words, &f, &e), ERR_OK);
    json_t *tools = json_loads(tools_json, 0, NULL);
    struct output_options o = { .tools = tools };
    struct talk talk = { .kind = -1 };
    assert_int_equal(output_parser_create(f, &o, &p, &e), ERR_OK);
    static const struct {
        const char *text;
        bool control;
    } piece[] = { { "<|call|>{\"name\"", false }, { "<|x|>", true }, { "<|call|>", true },
                  { "{\"name\": \"halt\"}", false } };
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        assert_int_equal(output_parser_feed(p, str_from(piece[i].text), piece[i].control, &e), 0);
        hear(&talk, p);
    }
    assert_int_equal(output_parser_end(p, &e), ERR_OK);
    hear(&talk, p);
    close_text(&talk, -1);
    assert_string_equal(talk.text, "[c:<|call|>{\"name\"]{halt({})}");
    output_parser_destroy(p);
    output_format_destroy(f);
    chat_template_destroy(t);
    tokenizer_destroy(words);
    json_decref(tools);
}

/* ---- bounds ------------------------------------------------------------------------------------ */

static void feed_much(struct output_parser *p, struct str piece, size_t times, size_t *content)
{
    struct err e = { 0 };
    for (size_t i = 0; i <= times; i++) {
        size_t n;
        assert_int_equal(i < times ? output_parser_feed(p, piece, false, &e)
                                   : output_parser_end(p, &e), ERR_OK);
        const struct output_event *ev = output_parser_events(p, &n);
        for (size_t k = 0; k < n; k++)
            if (ev[k].kind == OUTPUT_CONTENT)
                *content += output_event_text(p, &ev[k]).n;
        output_parser_taken(p);
    }
}

/* A call that never ends is content once it is too long; long runs of anything stay linear. */
static void test_bounds(void **state)
{
    (void)state;
    static const char *const begin[] = {
        "", "<tool_call>", "<tool_call>{\"arguments\": \"", "<tool_call>{\"", "<think",
        "<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"",
    };
    static const char *const piece[] = { "x", " ", "<tool_call>", "<tool_", "{\"", "\n" };
    struct output_format *f = format_of(hermes);
    json_t *tools = json_loads(tools_json, 0, NULL);
    struct output_options o = { .tools = tools, .thinking = true };
    struct err e = { 0 };
    for (size_t b = 0; b < sizeof begin / sizeof *begin; b++)
        for (size_t k = 0; k < sizeof piece / sizeof *piece; k++) {
            struct output_parser *p = NULL;
            size_t content = 0, times = b == 5 && k == 0 ? OUTPUT_MAX_CALL + 5 : 100000;
            assert_int_equal(output_parser_create(f, &o, &p, &e), ERR_OK);
            assert_int_equal(output_parser_feed(p, str_from(begin[b]), false, &e), ERR_OK);
            feed_much(p, str_from(piece[k]), times, &content);
            assert_int_equal(content, strlen(begin[b]) + times * strlen(piece[k]));
            output_parser_destroy(p);
        }
    output_format_destroy(f);
    json_decref(tools);
}

static void test_no_memory(void **state)
{
    (void)state;
    static const char text[] = "a<tool_call>{\"name\": \"find\", \"arguments\": {\"q\": \"x\"}}"
                               "</tool_call><tool_call>no";
    struct err e = { 0 };
    struct chat_template *t = NULL;
    json_t *tools = json_loads(tools_json, 0, NULL);
    struct output_options o = { .tools = tools, .thinking = true };
    assert_int_equal(chat_template_create(str_from(hermes), "t", &t, &e), ERR_OK);
    uint64_t live = mem_live();
    bool done = false;
    for (uint64_t n = 1; !done && n < 100000; n += n < 300 ? 1 : 37) {
        struct output_format *f = NULL;
        struct output_parser *p = NULL;
        mem_fail_after(n, true);
        enum err_code c = output_format_create(t, NULL, &f, &e);
        if (!c)
            c = output_parser_create(f, &o, &p, &e);
        if (!c)
            c = output_parser_feed(p, str_from(text), false, &e);
        if (!c)
            c = output_parser_end(p, &e);
        done = !c;
        mem_fail_after(0, false);
        assert_true(!c || c == ERR_NO_MEMORY);
        output_parser_destroy(p);
        output_format_destroy(f);
        assert_int_equal(mem_live(), live);
    }
    assert_true(done);
    chat_template_destroy(t);
    json_decref(tools);
}

/* Pieces of every format in random order: however cut, the same is heard. */
static void test_random(void **state)
{
    (void)state;
    static const char *const piece[] = {
        "<tool_call>", "</tool_call>", "{\"name\": \"find\"", ", \"arguments\": ", "{\"q\": \"a\"}",
        "}", "\n", " ", "<think>", "</think>", "text", "\xc3\xa9", "\xf0\x9f", "\"", "\\", "{", "[",
        "]", "<|start|>", "<|channel|>", "analysis", "<|message|>", "to=functions.find", "find",
        "halt()", "(q='", "')", "<function=", "<parameter=q>", "</parameter>", "</function>", ">>>",
    };
    static const char *const source[] = { hermes, LOOP("{{ m.content }}", "<|channel|><|message|><|start|>"),
                                          LOOP("{{ m.content }}", "List of tools: "),
                                          LOOP("{{ m.content }}", "<tool_call><function=<parameter="),
                                          LOOP("{{ m.content }}", "") };
    uint64_t seed = 7;
    for (size_t s = 0; s < sizeof source / sizeof *source; s++) {
        struct output_format *f = format_of(source[s]);
        for (int i = 0; i < 400; i++) {
            char text[1024] = "";
            for (int k = 0; k < 12; k++) {
                seed = seed * 6364136223846793005U + 1442695040888963407U;
                strncat(text, piece[(seed >> 33) % (sizeof piece / sizeof *piece)], 40);
            }
            struct talk whole, cut;
            struct said plain = { 0 };
            listen(f, &plain, str_from(text), 0, &whole);
            for (size_t n = 1; n < 20; n += 6) {
                listen(f, &plain, str_from(text), n, &cut);
                if (strcmp(whole.text, cut.text) != 0)
                    fail_msg("%s (cut %zu)\n  got  %s\n  want %s", text, n, cut.text, whole.text);
            }
        }
        output_format_destroy(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hermes),       cmocka_unit_test(test_options),
        cmocka_unit_test(test_tagged),       cmocka_unit_test(test_tagged_types),
        cmocka_unit_test(test_repeated_keys_as_tags), cmocka_unit_test(test_pythonic),
        cmocka_unit_test(test_mistral),      cmocka_unit_test(test_bare),
        cmocka_unit_test(test_channels),     cmocka_unit_test(test_rows),
        cmocka_unit_test(test_opened),       cmocka_unit_test(test_control),
        cmocka_unit_test(test_bounds),       cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_random),
    };
    json_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
