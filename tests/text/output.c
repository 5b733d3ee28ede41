/* output show TEMPLATE..   what output_format_create finds
 * output serve             one JSON object a line in: {template, text, prompt, prefill, tools,
 *                          thinking, cuts: lengths of the pieces}; one out: {reasoning, content,
 *                          calls: [{name, id, arguments}], dropped}; see round_trip.py */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/output_parser.h"

#define MOST ((size_t)64 << 20)

static bool read_file(const char *path, struct buf *b)
{
    char block[65536];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    while ((n = fread(block, 1, sizeof block, f)) > 0)
        buf_put(b, block, n);
    fclose(f);
    return !b->failed;
}

static enum err_code format_of(struct str source, struct output_format **f, struct err *e)
{
    struct chat_template *t = NULL;
    enum err_code c = chat_template_create(source, "t", &t, e);
    if (!c)
        c = output_format_create(t, NULL, f, e);
    chat_template_destroy(t);
    return c;
}

static void put_info(struct json_out *j, const struct output_format *f)
{
    struct output_format_info i = output_format_info(f);
    const struct {
        const char *key;
        struct str value;
    } text[] = {
        { "name", i.name },           { "style", i.style },
        { "think_open", i.think_open }, { "think_close", i.think_close },
        { "call_open", i.call_open }, { "call_close", i.call_close },
    };
    json_obj(j);
    for (size_t k = 0; k < sizeof text / sizeof *text; k++) {
        json_key(j, text[k].key);
        json_str_value(j, text[k].value);
    }
    json_kbool(j, "tools", i.tools);
    json_kbool(j, "reasoning", i.reasoning);
    json_kbool(j, "parallel", i.parallel);
    json_kbool(j, "arguments_text", i.arguments_text);
    json_obj_end(j);
}

static int show(char **path)
{
    int status = 0;
    for (; *path; path++) {
        struct buf source, out;
        struct json_out j;
        struct output_format *f = NULL;
        struct err e = { 0 };
        buf_init(&source, MOST);
        buf_init(&out, MOST);
        json_begin(&j, &out);
        if (!read_file(*path, &source) || format_of(buf_str(&source), &f, &e)) {
            printf("%s: %s\n", *path, e.text);
            status = 1;
        } else {
            put_info(&j, f);
            printf("%s: %s\n", *path, out.p);
        }
        output_format_destroy(f);
        buf_finish(&source);
        buf_finish(&out);
    }
    return status;
}

/* ---- serve --------------------------------------------------------------------------------- */

struct call {
    struct buf name, id, arguments;
    bool ended;
};
struct answer {
    struct buf reasoning, content;
    struct call call[64];
    size_t n_calls, dropped;
};

static void call_reset(struct call *c)
{
    buf_init(&c->name, MOST);
    buf_init(&c->id, MOST);
    buf_init(&c->arguments, MOST);
    c->ended = false;
}

static void call_finish(struct call *c)
{
    buf_finish(&c->name);
    buf_finish(&c->id);
    buf_finish(&c->arguments);
}

static void take(struct output_parser *p, struct answer *a)
{
    size_t n;
    const struct output_event *ev = output_parser_events(p, &n);
    for (size_t i = 0; i < n; i++) {
        struct str text = output_event_text(p, &ev[i]);
        struct call *c = &a->call[ev[i].call < 64 ? ev[i].call : 63];
        struct buf *to[] = { [OUTPUT_REASONING] = &a->reasoning, [OUTPUT_CONTENT] = &a->content,
                             [OUTPUT_CALL_BEGIN] = &c->name, [OUTPUT_CALL_ID] = &c->id,
                             [OUTPUT_CALL_ARGUMENTS] = &c->arguments };
        if (ev[i].kind <= OUTPUT_CALL_ARGUMENTS)
            buf_put(to[ev[i].kind], text.p, text.n);
        else if (ev[i].kind == OUTPUT_CALL_END) {
            c->ended = true;
            a->n_calls = ev[i].call + 1;
        } else {
            call_finish(c);
            call_reset(c);
            a->dropped++;
        }
    }
    output_parser_taken(p);
}

static struct str text_of(const json_t *in, const char *key)
{
    const json_t *v = json_object_get(in, key);
    return (struct str){ json_string_value(v), json_string_length(v) };
}

static enum err_code parse(const struct output_format *f, const json_t *in, struct answer *a,
                           struct err *e)
{
    struct output_options o = { .tools = json_object_get(in, "tools"),
                                .thinking = !json_is_false(json_object_get(in, "thinking")),
                                .prompt = text_of(in, "prompt"),
                                .prefill = text_of(in, "prefill") };
    struct output_parser *p = NULL;
    struct str text = text_of(in, "text");
    const json_t *cuts = json_object_get(in, "cuts");
    enum err_code c = output_parser_create(f, &o, &p, e);
    for (size_t i = 0; !c && text.n; i++) {
        size_t n_cuts = json_array_size(cuts), k = n_cuts ? i % n_cuts : 0;
        size_t n = (size_t)json_integer_value(json_array_get(cuts, k));
        if (!n || n > text.n)
            n = text.n;
        c = output_parser_feed(p, (struct str){ text.p, n }, false, e);
        text = (struct str){ text.p + n, text.n - n };
        take(p, a);
    }
    if (!c && !(c = output_parser_end(p, e)))
        take(p, a);
    output_parser_destroy(p);
    return c;
}

static void put_answer(struct json_out *j, const struct answer *a)
{
    json_key(j, "reasoning");
    json_str_value(j, buf_str(&a->reasoning));
    json_key(j, "content");
    json_str_value(j, buf_str(&a->content));
    json_key(j, "calls");
    json_arr(j);
    for (size_t i = 0; i < a->n_calls; i++) {
        json_obj(j);
        json_key(j, "name");
        json_str_value(j, buf_str(&a->call[i].name));
        json_key(j, "id");
        json_str_value(j, buf_str(&a->call[i].id));
        json_key(j, "arguments");
        json_str_value(j, buf_str(&a->call[i].arguments));
        json_kbool(j, "ended", a->call[i].ended);
        json_obj_end(j);
    }
    json_arr_end(j);
    json_kint(j, "dropped", (int64_t)a->dropped);
}

/* The format of the last request's template is kept. */
struct known {
    char *source;
    struct output_format *f;
};

static enum err_code known_format(struct known *k, struct str source, struct err *e)
{
    if (k->f && str_is(source, k->source))
        return ERR_OK;
    output_format_destroy(k->f);
    mem_free(k->source);
    *k = (struct known){ .source = mem_strndup(source.p, source.n) };
    return format_of(source, &k->f, e);
}

static void serve_one(const char *line, size_t n, struct json_out *j, struct known *known)
{
    struct answer a = { .n_calls = 0 };
    struct err e = { 0 };
    json_t *in = json_loadb(line, n, JSON_ALLOW_NUL, NULL);
    buf_init(&a.reasoning, MOST);
    buf_init(&a.content, MOST);
    for (size_t i = 0; i < 64; i++)
        call_reset(&a.call[i]);
    enum err_code c = known_format(known, text_of(in, "template"), &e);
    if (!c)
        c = parse(known->f, in, &a, &e);
    json_obj(j);
    if (c)
        json_kstr(j, "error", e.text);
    else {
        put_answer(j, &a);
        json_key(j, "format");
        put_info(j, known->f);
    }
    json_obj_end(j);
    for (size_t i = 0; i < 64; i++)
        call_finish(&a.call[i]);
    buf_finish(&a.reasoning);
    buf_finish(&a.content);
    json_decref(in);
}

int main(int argc, char **argv)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    struct buf reply;
    struct known known = { 0 };
    json_setup();
    if (argc > 2 && strcmp(argv[1], "show") == 0)
        return show(argv + 2);
    if (argc != 2 || strcmp(argv[1], "serve") != 0) {
        fprintf(stderr, "usage: output show TEMPLATE.. | output serve\n");
        return 2;
    }
    buf_init(&reply, MOST);
    while ((n = getline(&line, &cap, stdin)) > 0) {
        struct json_out j;
        buf_clear(&reply);
        json_begin(&j, &reply);
        serve_one(line, (size_t)n, &j, &known);
        fwrite(reply.p, 1, reply.n, stdout);
        putchar('\n');
        fflush(stdout);
    }
    free(line);
    output_format_destroy(known.f);
    mem_free(known.source);
    buf_finish(&reply);
    return 0;
}
