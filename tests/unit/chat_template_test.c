/* Chat templates: the shape of a model's own template, the language in short cases, limits,
 * hostile templates, and every allocation failing in turn. What random templates and real ones
 * give is compared with Jinja2 by tests/text/jinja_oracle.py. */
#include <pthread.h>
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

#define NOW 1764000000

#if defined(__has_feature)
#define SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static const char chat[] =
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|begin|>system\nBe helpful.<|end|>\n' }}{% endif %}"
    "{{'<|begin|>' + message['role'] + '\n' + message['content'] + '<|end|>' + '\n'}}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|begin|>assistant\n' }}{% endif %}";

static const char france[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}],"
    "\"add_generation_prompt\":true}";

static const char everything[] =
    "{\"a\":1,\"s\":\"Text\",\"xs\":[3,1,2],\"d\":{\"k\":\"v\",\"items\":[1]},\"n\":null,\"f\":2.5,"
    "\"m\":[{\"a\":2},{\"a\":1}]}";

static enum err_code render(const char *source, size_t n, const char *json, struct buf *out,
                            struct err *e)
{
    struct chat_template *t = NULL;
    json_t *vars = NULL;
    struct spans content = { 0 };
    enum err_code code = json_read(str_from(json), 1 << 20, "vars", &vars, e);
    if (!code)
        code = chat_template_create((struct str){ source, n }, "t", &t, e);
    if (!code)
        code = chat_template_render(t, vars, NOW, out, &content, e);
    spans_finish(&content);
    chat_template_destroy(t);
    json_decref(vars);
    return code;
}

static void gives(const char *source, const char *json, const char *wanted)
{
    struct buf out;
    struct err e = { 0 };
    buf_init(&out, 1 << 20);
    if (render(source, strlen(source), json, &out, &e))
        fail_msg("%s: %s", source, e.text);
    if (!str_is(buf_str(&out), wanted))
        fail_msg("%s: got '%.*s', wanted '%s'", source, (int)out.n, out.p, wanted);
    buf_finish(&out);
}

static void refuses_n(const char *source, size_t n, enum err_code code, const char *reason)
{
    struct buf out;
    struct err e = { 0 };
    buf_init(&out, (size_t)8 << 20);
    enum err_code got = render(source, n, everything, &out, &e);
    if (got != code || !strstr(e.text, reason))
        fail_msg("%.60s: got %s '%s', wanted %s '%s'", source, err_name(got), e.text,
                 err_name(code), reason);
    assert_int_equal(out.n, 0); /* nothing half done is left */
    buf_finish(&out);
}

static void refuses(const char *source, enum err_code code, const char *reason)
{
    refuses_n(source, strlen(source), code, reason);
}

/* head, middle repeated n times, tail */
static char *repeated(const char *head, const char *middle, size_t n, const char *tail, size_t *len)
{
    struct buf b;
    buf_init(&b, (size_t)64 << 20);
    buf_puts(&b, head);
    for (size_t i = 0; i < n; i++)
        buf_puts(&b, middle);
    buf_puts(&b, tail);
    *len = b.n;
    char *p = buf_take(&b);
    assert_non_null(p);
    return p;
}

static void refuses_repeated(const char *head, const char *middle, size_t n, const char *tail,
                             enum err_code code, const char *reason)
{
    size_t len;
    char *p = repeated(head, middle, n, tail, &len);
    refuses_n(p, len, code, reason);
    mem_free(p);
}

static void a_conversation_becomes_its_prompt(void **state)
{
    (void)state;
    gives(chat, france,
          "<|begin|>system\nBe helpful.<|end|>\n<|begin|>user\nWhat is the capital of "
          "France?<|end|>\n<|begin|>assistant\n");
}

static void white_space_is_kept_as_jinja_keeps_it(void **state)
{
    (void)state;
    static const struct {
        const char *source, *wanted;
    } cases[] = {
        { "a\n", "a" },
        { "a\n\n", "a\n" },
        { "  {% if a %}\n x\n  {% endif %}\ny", " x\ny" },
        { "z  {% if a %}\nx{% endif %}", "z  x" },
        { "  {%+ if a %}x{% endif %}", "  x" },
        { "{% if a +%}\nx{% endif %}", "\nx" },
        { "q \n {%- if a -%} \n x \n {%- endif %}", "qx" },
        { "a \n {{- 1 -}} \n b", "a1b" },
        { "{{ 1 }}\nb", "1\nb" },
        { "a {# note #}\nb", "a b" },
        { "  {#- note +#}\nb", "\nb" },
        { "{% raw %}\n {{ x }} {% endraw %}\ny", "\n {{ x }} y" },
        { "a\r\nb\rc", "a\nb\nc" },
        { "{% if a %}\r\nx{% endif %}", "x" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gives(cases[i].source, everything, cases[i].wanted);
}

static void expressions_mean_what_python_means(void **state)
{
    (void)state;
    static const struct {
        const char *source, *wanted;
    } cases[] = {
        { "{{ 7 // -2 }} {{ 7 % -2 }} {{ 2 ** 3 ** 2 }} {{ 1 / 2 }}", "-4 -1 64 0.5" },
        { "{{ 1e16 }} {{ 0.1 }} {{ 1e-5 }} {{ 100.0 }}", "1e+16 0.1 1e-05 100.0" },
        { "{{ [1, 'a', none, true, 1.5, {'k': ()}] }}", "[1, 'a', None, True, 1.5, {'k': ()}]" },
        { "{{ \"it's\" in [\"it's\"] }} {{ [\"it's\", 'q\"'] }}", "True [\"it's\", 'q\"']" },
        { "{{ 1 < 2 < 3 }} {{ 1 == 1.0 == true }} {{ 'a' < 'b' }}", "True True True" },
        { "{{ 'abc'[::-1] }} {{ xs[-2:] }} {{ 'é日x'[1] }}", "cba [1, 2] 日" },
        { "{{ d.items }}|{{ d['items'] }}|{{ d.k }}|{{ d.z }}", NULL },
        { "{{ nope }}|{{ nope is defined }}|{% for x in nope %}x{% endfor %}", "|False|" },
        { "{{ 'a' ~ 1 ~ none }} {{ 'x' * 3 }} {{ 'yes' if a }}{{ 'no' if not a }}",
          "a1None xxx yes" },
        { "{{ -1 | abs }} {{ 'a,b' .split(',') }} {{ not a or s }}", "1 ['a', 'b'] Text" },
        { "{{ d | tojson }} {{ '\\u00e9<' | tojson }} {{ [1, {}] | tojson(indent=1) }}",
          "{\"k\": \"v\", \"items\": [1]} \"é<\" [\n 1,\n {}\n]" },
        { "{{ m | map(attribute='a') | list }} {{ m | selectattr('a', 'gt', 1) | list }}",
          "[2, 1] [{'a': 2}]" },
        { "{{ '%s-%03d' % ('a', 7) }} {{ '{}{x!r:>5}'.format(1, x='q') }}", "a-007 1  'q'" },
        { "{{ ('<' | safe) + '<' }} {{ 'x' | e }}", "<&lt; x" },
        { "{{ 'stra\u00dfe' | upper }} {{ '\u0391\u03a3' | lower }}", "STRASSE ας" },
        { "{{ strftime_now('%Y') }}", "2025" },
        { "{{ ' a b '.split(none, 1) }}{{ ' a b '.rsplit(none, 1) }}", "['a', 'b '][' a', 'b']" },
        { "{{ '{:>{}}|{:{}}'.format('a', 3, 'b', 2) }}", "  a|b " },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (cases[i].wanted)
            gives(cases[i].source, everything, cases[i].wanted);
}

static void names_live_where_jinja_puts_them(void **state)
{
    (void)state;
    static const struct {
        const char *source, *wanted;
    } cases[] = {
        { "{% set x = 1 %}{% for i in xs %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "4231" },
        { "{% set ns = namespace(n=0) %}{% for i in xs %}{% set ns.n = ns.n + i %}{% endfor %}"
          "{{ ns.n }}",
          "6" },
        { "{% macro f(p, q='Q', r=p) %}[{{ p }}{{ q }}{{ r }}{{ kwargs }}{{ varargs }}]{% endmacro "
          "%}"
          "{{ f(1) }}{{ f(1, 2, 3, 4, z=5) }}",
          "[1Q1{}()][123{'z': 5}(4,)]" },
        { "{% macro f() %}<{{ caller(1) }}>{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}",
          "<1>" },
        { "{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{% set a = 2 %}{{ m() }}", "2" },
        { "{% for i in xs if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }} {% else %}none"
          "{% endfor %}",
          "1/2:3 2/2:2 " },
        { "{% for i in xs %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}", "3" },
        { "{% for k, v in d.items() recursive %}{{ k }}{{ loop.depth }}{% endfor %}", "k1items1" },
        { "{% set x %}a{{ a }}{% endset %}{% filter upper %}{{ x }}{% endfilter %}", "A1" },
        { "{% with y = 5 %}{{ y }}{% endwith %}{{ y }}", "5" },
        { "{% set ns = namespace() %}{% set ns.x, y = 1, 2 %}{{ ns.x }}{{ y }}", "12" },
        { "{% for g in m | groupby('a') %}{{ g.grouper }}{{ g.list }}{% endfor %}",
          "1[{'a': 1}]2[{'a': 2}]" },
        { "{% for i in xs %}{% continue %}{% else %}E{% endfor %}", "E" },
        { "{% generation %}{{ a }}{% endgeneration %}", "1" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        gives(cases[i].source, everything, cases[i].wanted);
}

/* The output with « » around what is content. */
static void marks(const char *source, const char *json, const char *wanted)
{
    struct chat_template *t = NULL;
    json_t *vars = NULL;
    struct buf out, shown;
    struct spans content = { 0 };
    struct err e = { 0 };
    size_t at = 0;
    buf_init(&out, 1 << 20);
    buf_init(&shown, 1 << 20);
    buf_puts(&out, "before"); /* appended to: ranges count from the buffer's start */
    assert_int_equal(json_read(str_from(json), 1 << 20, "vars", &vars, &e), ERR_OK);
    if (chat_template_create(str_from(source), "t", &t, &e) ||
        chat_template_render(t, vars, NOW, &out, &content, &e))
        fail_msg("%s: %s", source, e.text);
    for (size_t i = 0; i < content.n; i++) {
        assert_true(content.v[i].begin >= (i ? at + 1 : 6) && content.v[i].end <= out.n &&
                    content.v[i].begin < content.v[i].end);
        buf_put(&shown, out.p + at, content.v[i].begin - at);
        at = content.v[i].end;
        buf_puts(&shown, "«");
        buf_put(&shown, out.p + content.v[i].begin, at - content.v[i].begin);
        buf_puts(&shown, "»");
    }
    buf_put(&shown, out.p + at, out.n - at);
    if (!str_is((struct str){ shown.p + 6, shown.n - 6 }, wanted))
        fail_msg("%s: got '%s', wanted '%s'", source, shown.p + 6, wanted);
    chat_template_destroy(t);
    json_decref(vars);
    spans_finish(&content);
    buf_finish(&out);
    buf_finish(&shown);
}

static void content_is_told_from_the_templates_words(void **state)
{
    (void)state;
    static const struct {
        const char *source, *wanted;
    } cases[] = {
        { "<{{ s }}>{{ nope }}", "<«Text»>" },
        { "{{ 'a' + s + 'b' ~ s }}", "a«Text»b«Text»" },
        { "{{ s[1:3] }}{{ (s + '!')[-2:] }}{{ ('x' + s)[::-1] }}", "«ext»!«txeT»x" },
        { "{{ (' ' + s + ' ') | trim | upper }}{{ ('<' + s + '>').title() }}", "«TEXT»<«Text»>" },
        { "{{ s.replace('ex', 'XX') }}{{ 'abc'.replace('b', s) }}", "«T»XX«t»a«Text»c" },
        { "{{ ('a|' + s + '|b').split('|') | join('+') }}", "a+«Text»+b" },
        { "{{ d | tojson }}{{ [s, 1] }}",
          "{\"«k»\": \"«v»\", \"«items»\": [«1»]}['«Text»', 1]" },
        { "{{ f }}{{ f * 2 }}{{ n }}{{ xs | sum }}{{ xs | length }}", "«2.55.0None6»3" },
        { "{{ '%s-%3d' % (s, 7) }}{{ '{:>6}{}'.format(s, 'q') }}", "«Text»-  7  «Text»q" },
        { "{% for c in 'a' + s %}{{ c }},{% endfor %}", "a,«T»,«e»,«x»,«t»," },
        { "{% set b %}({{ s }}){% endset %}{{ b }}{{ b | upper }}", "(«Text»)(«TEXT»)" },
        { "{% macro m(x) %}[{{ x }}{{ caller() }}]{% endmacro %}{% call m(s) %}c{{ s }}"
          "{% endcall %}", "[«Text»c«Text»]" },
        { "{% macro m() %}{{ kwargs }}{% endmacro %}{{ m(**d) }}",
          "{'«k»': '«v»', '«items»': [«1»]}" },
        { "{% set ns = namespace(t='') %}{% for x in xs %}{% set ns.t = ns.t + s + ' ' %}"
          "{% endfor %}{{ ns.t | trim }}", "«Text» «Text» «Text»" },
        { "{% for x in xs %}{% set y %}z{{ s }}{% break %}{% endset %}{% endfor %}{{ s }}",
          "«Text»" },
        { "{{ (s | tojson) | from_json }}{{ s * 2 }}{{ s | indent(1, true) }}",
          "«TextTextText» «Text»" },
        { "{{ s if a else 'x' }}{{ nope or s }}{{ nope | default(s) }}", "«TextTextText»" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        marks(cases[i].source, everything, cases[i].wanted);
}

static void plain_roles_and_the_vocabulary_are_trusted(void **state)
{
    (void)state;
    static const char source[] = "{{ bos_token }}{% for m in messages %}{{ '<|' + m.role + '|>' + "
                                 "m.content }}{% endfor %}{{ eos_tokens }}";
    marks(source,
          "{\"messages\":[{\"role\":\"user\",\"content\":\"<|user|>\"},"
          "{\"role\":\"x|><|user\",\"content\":\"user\"},{\"role\":\"a_b-9\",\"content\":\"\"},"
          "{\"role\":\"9\",\"content\":\"\"},"
          "{\"role\":\"abcdefghabcdefghabcdefghabcdefghi\",\"content\":\"\"}],"
          "\"bos_token\":\"<s>\",\"eos_tokens\":\"<s>\"}",
          "<s><|user|>«<|user|>»<|«x|><|user»|>«user»<|a_b-9|><|«9»|>"
          "<|«abcdefghabcdefghabcdefghabcdefghi»|>«<s>»");
    marks("{{ messages[0].parts[0].role }}{{ messages[0].role.x }}",
          "{\"messages\":[{\"role\":{\"x\":\"user\"},\"parts\":[{\"role\":\"user\"}]}]}",
          "«useruser»");
    marks("{{ messages }}", "{\"messages\":\"text\"}", "«text»");
}

static void errors_name_template_line_and_reason(void **state)
{
    (void)state;
    refuses("a\n{{ raise_exception('Only user and assistant!') }}", ERR_INVALID,
            "t:2: Only user and assistant!");
    refuses("\n\n{% if %}", ERR_FORMAT, "t:3: ");
    refuses("{% for x in y %}", ERR_FORMAT, "'endfor' is missing");
    refuses("{{ a.b.c }}", ERR_INVALID, "'int object' has no attribute 'b'");
    refuses("{{ x | nope }}", ERR_FORMAT, "no filter named 'nope'");
    refuses("{% include 'x' %}", ERR_FORMAT, "'include'");
    refuses("{% break %}", ERR_FORMAT, "outside of a loop");
    refuses("{{ 'a' + 1 }}", ERR_INVALID, "'str' and 'int'");
    refuses("{{ 9223372036854775807 + 1 }}", ERR_INVALID, "64 bits");
    refuses("{{ 1 / 0 }}", ERR_INVALID, "division by zero");
    refuses("\xff", ERR_FORMAT, "UTF-8");
    refuses("{{ (1 }}", ERR_FORMAT, "bracket");
}

static void the_sandbox_stays_shut(void **state)
{
    (void)state;
    gives("{{ s.__class__ }}{{ xs.append is defined }}{{ d['__class__'] }}", everything, "False");
    refuses("{{ s.__class__.__mro__ }}{{ s.__class__() }}", ERR_INVALID, "unsafe");
    refuses("{{ xs.append(1) }}", ERR_INVALID, "unsafe");
    refuses("{{ d.pop('k') }}", ERR_INVALID, "unsafe");
    refuses("{{ '{0.__class__.x}'.format(s) }}", ERR_INVALID, "unsafe");
    refuses("{{ range(1000000) }}", ERR_INVALID, "range");
}

static void work_is_limited(void **state)
{
    (void)state;
    refuses("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            ERR_TOO_LARGE, "steps");
    refuses("{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}", ERR_TOO_LARGE, "");
    refuses("{{ 'x' * 9999999999 }}", ERR_TOO_LARGE, "memory");
    refuses("{{ [0] * 9999999 }}", ERR_TOO_LARGE, "");
    refuses("{{ '%99999999d' % 1 }}", ERR_TOO_LARGE, "");
    refuses("{{ '{:99999999}'.format(1) }}", ERR_TOO_LARGE, "");
    refuses("{{ 'x'.center(9999999999) }}", ERR_TOO_LARGE, "");
    refuses("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ERR_TOO_LARGE, "deep");
    refuses("{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}"
            "{% endfor %}{{ ns.x }}", ERR_TOO_LARGE, "nested");
    refuses(
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = ns.x|map('int') %}"
        "{% endfor %}{{ ns.x|list }}",
        ERR_TOO_LARGE, "deep");
    refuses("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", ERR_TOO_LARGE, "nested");
    refuses(
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
        "{% endfor %}",
        ERR_TOO_LARGE, "memory");
}

/* Nothing here may take long: what a step is charged covers what it does. */
static void hostile_templates_end_soon(void **state)
{
    (void)state;
    refuses("{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}"
            "{% endfor %}{{ {ns.x: 1} }}", ERR_TOO_LARGE, "steps");
    refuses("{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
            "{% endfor %}{{ ns.x == [ns.x] }}{{ ns.x == ns.x|list }}", ERR_TOO_LARGE, "steps");
    refuses("{{ 10 ** 10 ** 10 }}", ERR_INVALID, "64 bits");
    gives("{{ (-1) ** 9223372036854775807 }}", everything, "-1");
    gives("{{ ('<!--' * 250000)|striptags|length }} {{ ('<' * 1000000)|striptags|length }}",
          everything, "1000000 1000000");
    gives("{{ ('a' * 1000000).count('a' * 500000 ~ 'b') }}", everything, "0");
    gives("{{ (\"Σ'\" * 200000)|lower|length }}", everything, "400000");
    refuses("{{ ('[' * 100000)|from_json }}", ERR_TOO_LARGE, "nested");
    refuses("{{ [1]|slice(100000000)|list }}", ERR_TOO_LARGE, "memory");
    refuses("{{ [[[1]]]|tojson(indent=99999999) }}", ERR_TOO_LARGE, "memory");
    /* origins cost memory that counts too */
    refuses("{% set ns = namespace(t='x' ~ s) %}{% for i in range(99) %}{% set ns.t = ns.t ~ ns.t "
            "%}{% endfor %}", ERR_TOO_LARGE, "memory");
    refuses("{{ ('x' ~ s) * 9999999 }}", ERR_TOO_LARGE, "memory");
    refuses("{% set t = ('x' ~ s) * 100000 %}{% for i in range(99999) %}{% set y = t|upper %}"
            "{% endfor %}", ERR_TOO_LARGE, "");
}

static void giant_sources_are_refused(void **state)
{
    (void)state;
    refuses_repeated("", "0123456789abcdef", 65537, "", ERR_TOO_LARGE, "bytes");
    refuses_repeated("{{ ", "(", 100, "", ERR_FORMAT, "");
    refuses_repeated("{{ ", "(", 300000, "", ERR_FORMAT, "deep");
    refuses_repeated("{{ ", "-", 300000, "1 }}", ERR_FORMAT, "deep");
    refuses_repeated("{{ ", "not ", 200000, "1 }}", ERR_FORMAT, "deep");
    refuses_repeated("{{ 1", "+1", 300000, " }}", ERR_FORMAT, "deep");
    refuses_repeated("{{ a", ".b", 300000, " }}", ERR_FORMAT, "deep");
    refuses_repeated("{{ a", "|e", 300000, " }}", ERR_FORMAT, "deep");
    refuses_repeated("{{ 1", " if 1 else 1", 50000, " }}", ERR_FORMAT, "deep");
    refuses_repeated("", "{% if 1 %}", 90000, "", ERR_FORMAT, "deep");
    refuses_repeated("{{ ", "[", 300000, "", ERR_FORMAT, "deep");
    refuses_repeated("{{ ", "{1:", 200000, "", ERR_FORMAT, "deep");
    refuses_repeated("{{ '%s'.format(", "f(", 200000, "", ERR_FORMAT, "deep");
}

static void long_conversations_fit(void **state)
{
    (void)state;
    size_t n;
    char *json = repeated("{\"messages\":[", "{\"role\":\"user\",\"content\":\"x\"},", 9999,
                          "{\"role\":\"user\",\"content\":\"y\"}]}", &n);
    struct buf out;
    struct err e = { 0 };
    buf_init(&out, (size_t)8 << 20);
    if (render(chat, sizeof chat - 1, json, &out, &e))
        fail_msg("%s", e.text);
    assert_true(out.n > 200000);
    buf_finish(&out);
    mem_free(json);
}

/* A template that touches most of the code. */
static const char wide[] =
    "{% set ns = namespace(n=0, t='') %}{% macro f(x, y='d') %}{% if x > 0 %}{{ f(x - 1, y=y ~ x) "
    "}}"
    "{% else %}{{ y }}{{ kwargs }}{{ varargs }}{% endif %}{% endmacro %}{{ f(3) }}"
    "{% for k, v in d.items() if k recursive %}{{ k|upper }}{{ v|tojson(indent=2) }}"
    "{{ loop.cycle('a', 'b') }}{{ loop.last }}{{ loop.length }}{% endfor %}"
    "{% for i in xs|sort %}{% set ns.n = ns.n + i %}{% set ns.t = ns.t + s + '\\u00e9' %}{% endfor "
    "%}"
    "{{ ns.t|length }}{{ ns }}{% set b %}{{ xs|join(', ') }}{% endset %}{{ b|indent(4, true)|title "
    "}}"
    "{{ m|map(attribute='a')|list }}{{ m|groupby('a') }}{{ [1, 2, 3, 4, 5]|batch(2, 0)|list }}"
    "{{ xs|unique|list }}{{ '{:>8} {}'.format('x', f) }}{{ '%5.2f|%s' % (2.5, d) }}{{ d|dictsort }}"
    "{{ 'a b c'.split() }}{{ 'x'.join(['1', '2']) }}{{ 'A-B'.replace('-', '+') }}{{ s[::-1] }}"
    "{{ '{\"a\": [1, 2.5, null]}'|from_json }}{{ range(5)[1:3]|list }}{{ 'x' is string }}"
    "{% filter trim %} {{ strftime_now('%d %b') }} {% endfilter %}{% call(q) f(0) %}{% endcall %}";

static void every_allocation_may_fail(void **state)
{
    (void)state;
    static const char source[] =
        "{% set ns = namespace(n=0) %}{% macro f(x, y='d') %}{{ x ~ y }}"
        "{% endmacro %}{{ f(3) }}{{ d|tojson(indent=2) }}{{ xs|sort }}"
        "{% for i in range(900) %}{{ [i, s]|list|string|upper }}{% endfor %}{{ s }}"
        "{{ '{\"a\": [1]}'|from_json }}";
    json_t *vars = NULL;
    assert_int_equal(json_read(str_from(everything), 1 << 20, "vars", &vars, NULL), ERR_OK);
    for (int sticky = 0; sticky < 2; sticky++) {
        enum err_code code = ERR_NO_MEMORY;
        for (uint64_t n = 1; code; n++) {
            struct chat_template *t = NULL;
            struct err e = { 0 };
            struct buf out;
            struct spans content = { 0 };
            uint64_t live = mem_live();
            buf_init(&out, 1 << 20);
            mem_fail_after(n, sticky);
            code = chat_template_create(str_from(source), "t", &t, &e);
            if (!code)
                code = chat_template_render(t, vars, NOW, &out, &content, &e);
            mem_fail_after(0, false);
            assert_true(code == ERR_OK || content.n == 0);
            spans_finish(&content);
            chat_template_destroy(t);
            buf_finish(&out);
            assert_int_equal(mem_live(), live);
            if (code && code != ERR_NO_MEMORY)
                fail_msg("allocation %u: %s", (unsigned)n, e.text);
            assert_true(n < 10000);
        }
    }
    json_decref(vars);
}

struct shared {
    const struct chat_template *t;
    const json_t *vars;
    const char *wanted;
    bool ok;
};

static void *render_often(void *arg)
{
    struct shared *s = arg;
    s->ok = true;
    for (int i = 0; i < 200 && s->ok; i++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        s->ok = !chat_template_render(s->t, s->vars, NOW, &out, NULL, NULL) &&
                str_is(buf_str(&out), s->wanted);
        buf_finish(&out);
    }
    return NULL;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    struct chat_template *t = NULL;
    json_t *vars = NULL;
    struct buf out;
    struct err e = { 0 };
    pthread_t thread[4];
    struct shared shared[4];
    buf_init(&out, 1 << 20);
    assert_int_equal(json_read(str_from(everything), 1 << 20, "vars", &vars, &e), ERR_OK);
    if (chat_template_create(str_from(wide), "t", &t, &e) ||
        chat_template_render(t, vars, NOW, &out, NULL, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < 4; i++) {
        shared[i] = (struct shared){ t, vars, out.p, false };
        assert_int_equal(pthread_create(&thread[i], NULL, render_often, &shared[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        assert_true(shared[i].ok);
    }
    chat_template_destroy(t);
    json_decref(vars);
    buf_finish(&out);
}

/* The deepest recursions that the caps allow, on a small stack. */
static void *on_small_stack(void *arg)
{
    (void)arg;
    static const char *const deep[] = {
        "{% macro f() %}{% for x in [1] %}{{ [f()]|join|upper }}{% endfor %}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% call f() %}x{% endcall %}{{ caller() }}{% endmacro %}{{ f() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    };
    for (size_t i = 0; i < sizeof deep / sizeof *deep; i++)
        refuses(deep[i], ERR_TOO_LARGE, "deep");
    refuses_repeated("{{ ", "(", 300000, "", ERR_FORMAT, "deep");
    return NULL;
}

static void recursion_fits_a_small_stack(void **state)
{
    (void)state;
    pthread_attr_t attr;
    pthread_t thread;
    size_t stack = (size_t)(SANITIZED ? 8 : 1) << 20;
    pthread_attr_init(&attr);
    assert_int_equal(pthread_attr_setstacksize(&attr, stack), 0);
    assert_int_equal(pthread_create(&thread, &attr, on_small_stack, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_becomes_its_prompt),
        cmocka_unit_test(white_space_is_kept_as_jinja_keeps_it),
        cmocka_unit_test(expressions_mean_what_python_means),
        cmocka_unit_test(names_live_where_jinja_puts_them),
        cmocka_unit_test(content_is_told_from_the_templates_words),
        cmocka_unit_test(plain_roles_and_the_vocabulary_are_trusted),
        cmocka_unit_test(errors_name_template_line_and_reason),
        cmocka_unit_test(the_sandbox_stays_shut),
        cmocka_unit_test(work_is_limited),
        cmocka_unit_test(hostile_templates_end_soon),
        cmocka_unit_test(giant_sources_are_refused),
        cmocka_unit_test(long_conversations_fit),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(threads_share_a_template),
        cmocka_unit_test(recursion_fits_a_small_stack),
    };
    json_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
