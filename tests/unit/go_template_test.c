/* Go templates: the three ways in which Ollama runs one, the language in short cases, what counts as
 * content, limits, and every allocation failing in turn. What random templates and those in the
 * styles of models give is compared with Go's own text/template by tests/text/go_oracle.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/go_template.h"

#define NOW 1764000000

static const char talk[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be terse.\"},"
    "{\"role\":\"user\",\"content\":\"One\"},{\"role\":\"User\",\"content\":\"two\"},"
    "{\"role\":\"assistant\",\"content\":\"1 < 2\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
    "\"arguments\":{\"b\":[1,2.5,null],\"a\":\"<x>\"}}}]},"
    "{\"role\":\"user\",\"content\":\"Go on\"}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\","
    "\"parameters\":{\"type\":\"object\",\"properties\":{\"z\":{\"type\":[\"string\",\"null\"]},"
    "\"a\":{\"type\":\"integer\"}}}}}]}";

static enum err_code render(struct str source, const char *json, struct buf *out,
                            struct spans *content, struct err *e)
{
    struct go_template *t = NULL;
    json_t *vars = NULL;
    enum err_code code = json_read(str_from(json), 1 << 20, "vars", &vars, e);
    if (!code)
        code = go_template_create(source, "t", &t, e);
    if (!code)
        code = go_template_render(t, vars, NOW, out, content, e);
    go_template_destroy(t);
    json_decref(vars);
    return code;
}

static void gives(const char *source, const char *json, const char *wanted)
{
    struct buf out;
    struct err e = { 0 };
    buf_init(&out, 1 << 20);
    if (render(str_from(source), json, &out, NULL, &e))
        fail_msg("%s: %s", source, e.text);
    if (!str_is(buf_str(&out), wanted))
        fail_msg("%s: got '%.*s', wanted '%s'", source, (int)out.n, out.p, wanted);
    buf_finish(&out);
}

static void refuses(struct str source, enum err_code code, const char *reason)
{
    struct buf out;
    struct err e = { 0 };
    struct spans content = { 0 };
    buf_init(&out, (size_t)8 << 20);
    buf_puts(&out, "before");
    enum err_code got = render(source, talk, &out, &content, &e);
    if (got != code || !strstr(e.text, reason))
        fail_msg("%.60s: got %s '%s', wanted '%s'", source.p, err_name(got), e.text, reason);
    assert_true(str_is(buf_str(&out), "before")); /* nothing half done is left */
    assert_int_equal(content.n, 0);
    spans_finish(&content);
    buf_finish(&out);
}

static void test_messages(void **state)
{
    (void)state;
    gives("{{ .System }}|{{ range .Messages }}{{ .Role }}={{ .Content }};{{ end }}", talk,
          "Be terse.|system=Be terse.;user=One\n\ntwo;assistant=1 < 2;user=Go on;");
    gives("{{ range $i, $m := .Messages }}{{ range .ToolCalls }}{{ $i }}{{ .Function.Arguments }}"
          "{{ .Function.Arguments.b }}{{ end }}{{ end }}", talk,
          "2{\"a\":\"\\u003cx\\u003e\",\"b\":[1,2.5,null]}[1 2.5 <nil>]");
    gives("{{ .Tools }}{{ len .Messages }}", talk,
          "[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"d\",\"parameters\":"
          "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"z\":{\"type\":"
          "[\"string\",\"null\"]}}}}}]4");
    gives("{{ .Tools }}{{ .Messages | len }}{{ .Nope }}", "{}", "null0<no value>");
    gives("{{ range .Messages }}{{ .Content }}{{ end }}",
          "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
          "{\"type\":\"text\",\"text\":\"b\"}]}]}", "ab");
    gives("{{ range .Messages }}{{ range .ToolCalls }}{{ .Function.Arguments.x }}{{ end }}{{ end }}",
          "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{\"name\":\"f\","
          "\"arguments\":\"{\\\"x\\\": 1000000}\"}}]}]}", "1e+06");
    gives("{{ .Messages | len }}{{ .IsThinkSet }}{{ .Think }}{{ .ThinkLevel }}",
          "{\"enable_thinking\":true,\"reasoning_effort\":\"high\"}", "0truetruehigh");
}

static void test_turns(void **state)
{
    (void)state;
    const char *turns = "[{{ .System }}|{{ .Prompt }}|{{ .Response }}]{{ if .Prompt }}.{{ end }}";
    gives(turns, talk, "[Be terse.|One\n\ntwo|1 < 2].[|Go on|");
    gives(turns, "{\"prompt\":\"Hi\"}", "[|Hi|");
    gives("Q: {{ .Prompt }} A: ", talk, "Q: One\n\ntwo A: 1 < 2Q: Go on A: ");
    gives("{{ if .Suffix }}<{{ .Prompt }}^{{ .Suffix }}>{{ else }}{{ .Prompt }}{{ end }}",
          "{\"prompt\":\"a\",\"suffix\":\"b\"}", "<a^b>");
}

static void test_language(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "a  {{- \"b\" -}}  c{{/* x */}}", "abc" },
        { "{{ $x := 1 }}{{ range 3 }}{{ $x = . }}{{ end }}{{ $x }}", "2" },
        { "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ else if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
          "02" },
        { "{{ with \"\" }}a{{ else with \"v\" }}{{ . }}{{ else }}c{{ end }}", "v" },
        { "{{ define \"T\" }}<{{ . }}>{{ end }}{{ template \"T\" 1 }}{{ block \"B\" 2 }}{{ . }}{{ end }}", "<1>2" },
        { "{{ or 0 \"\" \"x\" }}{{ and 1 0 }}{{ not 0 }}{{ eq 1 2 1 }}{{ ne \"a\" \"b\" }}{{ lt 1 2 }}", "x0truetruetruetrue" },
        { "{{ or true (index \"\" 9) }}", "true" },
        { "{{ printf \"%05d|%-4s|%q|%.2f|%v|%x\" 42 \"ab\" \"c\\n\" 1.5 true \"hi\" }}",
          "00042|ab  |\"c\\n\"|1.50|true|6869" },
        { "{{ printf \"%d %s\" \"a\" }}{{ print 1 2 \"a\" 3 }}", "%!d(string=a) %!s(MISSING)1 2a3" },
        { "{{ slice \"hello\" 1 3 }}{{ index \"a\" 0 }}{{ len \"\xC3\xBC\" }}", "el972" },
        { "{{ html \"<&>\" }}{{ js \"'\" }}{{ urlquery \"a b&\" }}{{ json \"<\" }}",
          "&lt;&amp;&gt;\\'a+b%26\"\\u003c\"" },
        { "{{ 0x1F }}{{ 'a' }}{{ 1e6 }}{{ 1_0 }}{{ `a\\n` }}{{ -1 }}", "31971e+0610a\\n-1" },
        { "{{ 1 | printf \"%d-%d\" 2 }}", "2-1" },
        { "{{ range (index .Tools 0).Function.Parameters.Properties }}{{ toTypeScriptType . }};{{ .Type }};{{ end }}"
          "{{ range .Messages }}{{ end }}", "number;integer;string | null;[string null];" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char source[512];
        snprintf(source, sizeof source, "%s{{ if false }}{{ .Messages }}{{ end }}", rows[i][0]);
        gives(source, talk, rows[i][1]);
    }
}

static void test_errors(void **state)
{
    (void)state;
    refuses(STR("a\n{{ .Foo"), ERR_FORMAT, "t:2: unclosed action");
    refuses(STR("{{ if .X }}"), ERR_FORMAT, "unexpected end");
    refuses(STR("{{ end }}"), ERR_FORMAT, "unexpected {{end}}");
    refuses(STR("{{ nope .X }}"), ERR_FORMAT, "no such function: \"nope\"");
    refuses(STR("{{ $x }}"), ERR_FORMAT, "undefined variable");
    refuses(STR("{{ break }}"), ERR_FORMAT, "outside");
    refuses(STR("\xFF"), ERR_FORMAT, "UTF-8");
    refuses(STR("\n\n{{ (index .Messages 0).Nope }}{{ .Messages }}"), ERR_INVALID,
            "t:3: can't evaluate field Nope");
    refuses(STR("{{ index .Messages 9 }}"), ERR_INVALID, "out of range");
    refuses(STR("{{ .Messages }}"), ERR_INVALID, "address in memory");
    refuses(STR("{{ range .Messages }}{{ eq .Role 1 }}{{ end }}"), ERR_INVALID, "incompatible");
    refuses(STR("{{ len .Nope }}{{ .Messages }}"), ERR_INVALID, "len of");
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 22);
    for (int i = 0; i < 100000; i++)
        buf_puts(&b, "{{if 1}}");
    refuses(buf_str(&b), ERR_TOO_LARGE, "nested");
    buf_clear(&b);
    buf_puts(&b, "{{ print ");
    for (int i = 0; i < 100000; i++)
        buf_putc(&b, '(');
    refuses(buf_str(&b), ERR_TOO_LARGE, "nested");
    while (b.n <= CHAT_TEMPLATE_MAX_SOURCE)
        buf_puts(&b, "                                                                ");
    refuses(buf_str(&b), ERR_TOO_LARGE, "bytes");
    buf_finish(&b);
    refuses(STR("{{ range 100000 }}{{ range 100000 }}{{ end }}{{ end }}"), ERR_TOO_LARGE, "steps");
    refuses(STR("{{ define \"T\" }}{{ template \"T\" . }}{{ end }}{{ template \"T\" . }}"),
            ERR_TOO_LARGE, "deep");
    refuses(STR("{{ $x := \"0123456789\" }}{{ range 40 }}{{ $x = print $x $x }}{{ end }}"),
            ERR_TOO_LARGE, "");
    refuses(STR("{{ range 900000 }}0123456789{{ end }}"), ERR_TOO_LARGE, "bytes");
    refuses(STR("{{ printf \"%99999d\" 1 }}"), ERR_TOO_LARGE, "width");
}

/* The output with what came from the request in brackets. */
static void marks(const char *source, const char *wanted)
{
    struct buf out, marked;
    struct err e = { 0 };
    struct spans s = { 0 };
    buf_init(&out, 1 << 20);
    buf_init(&marked, 1 << 20);
    buf_puts(&out, "@");
    if (render(str_from(source), talk, &out, &s, &e))
        fail_msg("%s: %s", source, e.text);
    size_t at = 1;
    for (size_t i = 0; i < s.n; i++) {
        buf_put(&marked, out.p + at, s.v[i].begin - at);
        buf_printf(&marked, "[%.*s]", (int)(s.v[i].end - s.v[i].begin), out.p + s.v[i].begin);
        at = s.v[i].end;
    }
    buf_put(&marked, out.p + at, out.n - at);
    if (!str_is(buf_str(&marked), wanted))
        fail_msg("%s: got '%s', wanted '%s'", source, marked.p, wanted);
    spans_finish(&s);
    buf_finish(&out);
    buf_finish(&marked);
}

static void test_content(void **state)
{
    (void)state;
    marks("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}",
          "<system>[Be terse.]<user>[One]\n\n[two]<assistant>[1 < 2]<user>[Go on]");
    marks("{{ $x := printf \"<%s|%d>\" .System 5 }}{{ $x }}{{ slice $x 0 4 }}{{ .Messages | len }}",
          "<[Be terse.]|5><[Be ]4");
    marks("{{ range .Messages }}{{ range .ToolCalls }}<c>{{ .Function.Name }} {{ .Function.Arguments }}"
          "{{ end }}{{ end }}", "<c>[f] [{\"a\":\"\\u003cx\\u003e\",\"b\":[1,2.5,null]}]");
    marks("<u>{{ .Prompt }}<a>{{ .Response }}</a>",
          "<u>[One]\n\n[two]<a>[1 < 2]</a><u>[Go on]<a>");
}

static void test_what_it_is(void **state)
{
    (void)state;
    static const char *const go[] = { "{{ .Prompt }}", "{{- range .Messages }}x{{ end }}",
                                      "{{ if .System }}{{ end }}", "{{ json .Tools }}",
                                      "{{ if .System }}" };
    static const char *const other[] = { "", "text", "{{ messages }}", "{% if x %}{{ x }}{% endif %}",
                                         "{{ bos_token }}", "{{ 'a' + b }}", "{{ \"x\" }}",
                                         "{{ endpoint }}", "{{ if_ }}",
                                         "{{ messages[0].content }}" };
    for (size_t i = 0; i < sizeof go / sizeof *go; i++)
        if (!go_template_looks_like(str_from(go[i])))
            fail_msg("%s is a Go template", go[i]);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (go_template_looks_like(str_from(other[i])))
            fail_msg("%s is none", other[i]);
}

/* chat_template takes either language. */
static void test_as_chat_template(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "{{ range .Messages }}<{{ .Role }}>{{ end }}", "<system><user><assistant><user>" },
        { "{% for m in messages %}<{{ m.role }}>{% endfor %}", "<system><user><User><assistant><user>" },
    };
    for (size_t i = 0; i < 2; i++) {
        struct chat_template *t = NULL;
        struct err e = { 0 };
        struct spans content = { 0 };
        struct buf out;
        json_t *vars = NULL;
        buf_init(&out, 1 << 20);
        assert_int_equal(json_read(str_from(talk), 1 << 20, "vars", &vars, &e), ERR_OK);
        assert_int_equal(chat_template_create(str_from(rows[i][0]), "t", &t, &e), ERR_OK);
        assert_int_equal(chat_template_render(t, vars, NOW, &out, &content, &e), ERR_OK);
        assert_true(str_is(buf_str(&out), rows[i][1]) && content.n == 0);
        assert_true(str_is(chat_template_source(t), rows[i][0]));
        chat_template_destroy(t);
        json_decref(vars);
        spans_finish(&content);
        buf_finish(&out);
    }
}

static void test_uses(void **state)
{
    (void)state;
    struct go_template *t = NULL;
    struct str open, close;
    assert_int_equal(go_template_create(
                         STR("{{ if .Suffix }}{{ end }}{{ range $m := .Messages }}{{ $m.Role }}"
                             "{{ if .Thinking }} <think> {{ .Thinking }}</think>{{ end }}{{ end }}"
                             "{{ define \"x\" }}{{ json .Tools }}{{ end }}"), "t", &t, NULL), ERR_OK);
    assert_true(go_template_uses(t, ".Suffix"));
    assert_true(go_template_uses(t, "tools"));
    assert_true(go_template_uses(t, ".role"));
    assert_false(go_template_uses(t, ".ToolCalls"));
    assert_true(go_template_thinking_tags(t, &open, &close));
    assert_true(str_is(open, "<think>") && str_is(close, "</think>"));
    go_template_destroy(t);
}

static void test_no_memory(void **state)
{
    (void)state;
    const char *source = "{{ range .Messages }}{{ printf \"%s %q\" .Role .Content }}{{ json .ToolCalls }}"
                         "{{ end }}{{ .Tools }}";
    uint64_t live = mem_live();
    for (uint64_t n = 1;; n++) {
        struct buf out;
        struct err e = { 0 };
        struct spans s = { 0 };
        buf_init(&out, 1 << 20);
        json_t *vars = NULL;
        struct go_template *t = NULL;
        assert_int_equal(json_read(str_from(talk), 1 << 20, "vars", &vars, &e), ERR_OK);
        mem_fail_after(n, true);
        enum err_code code = go_template_create(str_from(source), "t", &t, &e);
        if (!code)
            code = go_template_render(t, vars, NOW, &out, &s, &e);
        mem_fail_after(0, false);
        bool done = !code && !out.failed;
        assert_true(done || code == ERR_NO_MEMORY || out.failed);
        go_template_destroy(t);
        json_decref(vars);
        spans_finish(&s);
        buf_finish(&out);
        assert_int_equal(mem_live(), live);
        if (done)
            break;
        assert_true(n < 500);
    }
}

static int set_up(void **state)
{
    (void)state;
    json_setup();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages),   cmocka_unit_test(test_turns),
        cmocka_unit_test(test_language),   cmocka_unit_test(test_errors),
        cmocka_unit_test(test_limits),     cmocka_unit_test(test_content),
        cmocka_unit_test(test_what_it_is), cmocka_unit_test(test_uses),
        cmocka_unit_test(test_as_chat_template), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
