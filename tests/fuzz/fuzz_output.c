/* Any bytes as what a model says. The first byte chooses the format, the second the cuts.
 * Whole and cut, the same events; arguments of calls parse; without a call and without thinking
 * every byte is content. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/output_parser.h"

#define CALLS(before, inside, between, after)                                                      \
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}"                \
    "{% if m.role == 'assistant' %}<|a|>{% if m.reasoning_content %}<think>"                       \
    "{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"                                  \
    "{% for c in m.tool_calls or [] %}{% if loop.first %}" before "{% else %}" between             \
    "{% endif %}" inside "{% if loop.last %}" after "{% endif %}{% endfor %}<|e|>"                 \
    "{% else %}<|u|>{{ m.content }}{% endif %}{% endfor %}"                                        \
    "{% if add_generation_prompt %}<|a|>{% endif %}"
#define NAME "{{ c.function.name }}"
#define ARGS "{{ c.function.arguments | tojson }}"
#define EACH "{% for k, v in c.function.arguments.items() %}"

static const char *const source[] = {
    CALLS("", "<tool_call>{\"name\": \"" NAME "\", \"arguments\": " ARGS "}</tool_call>", "", ""),
    CALLS("<T>[", "{\"name\": \"" NAME "\", \"arguments\": " ARGS ", \"id\": \"{{ c.id }}\"}", ", ",
          "]</T>"),
    CALLS("<T>[", "{\"" NAME "\": " ARGS "}", ", ", "]</T>"),
    CALLS("", "{\"name\": \"" NAME "\", \"parameters\": " ARGS "}", "{{ raise_exception('') }}", ""),
    CALLS("<T>", "<C>{{ c.id }}<N>" NAME "<A>" ARGS "</C>", "", "</T>"),
    CALLS("", "[C]" NAME "[I]{{ c.id }}[A]" ARGS, "", ""),
    CALLS("", "<C><f=" NAME ">" EACH "<p={{ k }}>\n{{ v }}\n</p>{% endfor %}</f></C>", "", ""),
    CALLS("<T>", "<f n=\"" NAME "\">" EACH "<p k=\"{{ k }}\" s=\"{{ v is string }}\">{{ v }}</p>"
          "{% endfor %}</f>", "", "</T>"),
    CALLS("", "<f n=\"" NAME "\">" EACH "<{{ k }}>{{ v }}</{{ k }}>{% endfor %}</f>", "", ""),
    CALLS("<T>[", NAME "(" EACH "{{ k }}='{{ v }}',{% endfor %})", ", ", "]</T>"),
    "{{ '<|tool_call>call:' }}",
    "{{ '<|channel|><|message|><|start|>' }}",
    "{{ '<|tool_call_argument_begin|>' }}",
    "{{ '<|tool_call|><think></think><response></response>' }}",
    "{{ tools }}",
};
#define N_SOURCES (sizeof source / sizeof *source)

static const char tools_json[] =
    "[{\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"s\":{\"type\":\"string\"},"
    "\"n\":{\"type\":\"integer\"},\"u\":{\"type\":[\"string\",\"null\"]},\"o\":{\"type\":\"object\","
    "\"properties\":{\"n\":{\"type\":\"number\"}}},\"a\":{\"items\":{\"type\":\"integer\"}}}}}},"
    "{\"function\":{\"name\":\"fg\"}}]";

static struct output_format *format[N_SOURCES]; /* made once */
static json_t *tools;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    struct err e = { 0 };
    json_setup();
    tools = json_loads(tools_json, 0, NULL);
    for (size_t i = 0; i < N_SOURCES; i++) {
        struct chat_template *t = NULL;
        if (chat_template_create(str_from(source[i]), "t", &t, &e) ||
            output_format_create(t, NULL, &format[i], &e) || !output_format_info(format[i]).tools)
            abort();
        chat_template_destroy(t);
    }
    return 0;
}

struct heard {
    struct buf all, content, arguments; /* all: kinds and texts, joined; arguments: of this call */
    int kind;
    size_t calls, begun;
    bool valid; /* the input is UTF-8 */
};

static void end_call(struct heard *h)
{
    json_t *v = json_loadb(h->arguments.p, h->arguments.n, JSON_ALLOW_NUL, NULL);
    if (h->valid && !json_is_object(v))
        abort();
    json_decref(v);
    h->calls++;
}

static void hear(struct heard *h, struct output_parser *p)
{
    size_t n;
    const struct output_event *ev = output_parser_events(p, &n);
    for (size_t i = 0; i < n; i++) {
        struct str s = output_event_text(p, &ev[i]);
        if ((int)ev[i].kind != h->kind || ev[i].kind >= OUTPUT_CALL_BEGIN)
            if (!(ev[i].kind == OUTPUT_CALL_ARGUMENTS && h->kind == OUTPUT_CALL_ARGUMENTS))
                buf_putc(&h->all, (char)('0' + ev[i].kind));
        h->kind = (int)ev[i].kind;
        buf_put(&h->all, s.p, s.n);
        if (ev[i].kind == OUTPUT_CONTENT)
            buf_put(&h->content, s.p, s.n);
        if (ev[i].kind == OUTPUT_CALL_BEGIN)
            buf_clear(&h->arguments);
        if (ev[i].kind == OUTPUT_CALL_ARGUMENTS)
            buf_put(&h->arguments, s.p, s.n);
        if (ev[i].kind == OUTPUT_CALL_END)
            end_call(h);
    }
    output_parser_taken(p);
}

static void listen(struct heard *h, const struct output_format *f, struct str text, bool thinking,
                   unsigned cut)
{
    struct output_options o = { .tools = tools, .thinking = thinking };
    struct output_parser *p = NULL;
    struct err e = { 0 };
    *h = (struct heard){ .kind = -1, .valid = utf8_valid(text.p, text.n) == text.n };
    buf_init(&h->all, 1 << 26);
    buf_init(&h->content, 1 << 26);
    buf_init(&h->arguments, 1 << 26);
    if (output_parser_create(f, &o, &p, &e))
        abort();
    unsigned state = cut;
    for (size_t at = 0, n; at < text.n; at += n) {
        state = state * 1103515245 + 12345;
        n = cut ? 1 + (state >> 16) % (cut % 16 + 1) : text.n;
        n = n > text.n - at ? text.n - at : n;
        if (output_parser_feed(p, (struct str){ text.p + at, n }, false, &e))
            abort();
        hear(h, p);
    }
    if (output_parser_end(p, &e))
        abort();
    hear(h, p);
    output_parser_destroy(p);
}

static void finish(struct heard *h)
{
    buf_finish(&h->all);
    buf_finish(&h->content);
    buf_finish(&h->arguments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct heard whole, cut;
    if (size < 2)
        return 0;
    size_t which = data[0] % N_SOURCES;
    bool thinking = data[0] >= 128;
    struct str text = { (const char *)data + 2, size - 2 };
    uint64_t live = mem_live();
    listen(&whole, format[which], text, thinking, 0);
    listen(&cut, format[which], text, thinking, data[1] | 1u);
    if (!str_eq(buf_str(&whole.all), buf_str(&cut.all)))
        abort();
    bool channels = str_is(output_format_info(format[which]).style, "channels");
    bool framed = str_is(output_format_info(format[which]).name, "granite-3");
    if (!whole.calls && !thinking && !channels && !framed && !str_eq(buf_str(&whole.content), text))
        abort();
    finish(&whole);
    finish(&cut);
    if (mem_live() != live)
        abort();
    return 0;
}
