/* render TEMPLATE VARS.json NOW    the text; or the error on stderr and exit status 1
 * render bench TEMPLATE VARS.json  microseconds of parsing and of one rendering
 * render families                  {name: source} of the templates that we bring
 * render serve                     one JSON object a line in, {template, vars, now}; one out,
 *                                  {text, content: [begin, end, ...]} or {error}; see
 *                                  jinja_oracle.py */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/family_template.h"

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

static enum err_code render(struct str source, const char *name, const json_t *vars, int64_t now,
                            struct buf *out, struct spans *content, struct err *e)
{
    struct chat_template *t = NULL;
    enum err_code code = chat_template_create(source, name, &t, e);
    if (!code)
        code = chat_template_render(t, vars, now, out, content, e);
    chat_template_destroy(t);
    return code;
}

/* The text of a Python string may hold what json_read refuses, such as NUL: jansson directly. */
static void serve_one(const char *line, size_t n, struct buf *out, struct json_out *j)
{
    json_error_t je;
    json_t *in = json_loadb(line, n, JSON_ALLOW_NUL, &je);
    const json_t *source = json_object_get(in, "template"), *vars = json_object_get(in, "vars");
    struct err e = { ERR_FORMAT, "not a request" };
    struct spans content = { 0 };
    enum err_code code = ERR_FORMAT;
    if (json_is_string(source) && json_is_object(vars))
        code = render((struct str){ json_string_value(source), json_string_length(source) }, "t",
                      vars, json_integer_value(json_object_get(in, "now")), out, &content, &e);
    json_obj(j);
    json_key(j, code ? "error" : "text");
    json_str_value(j, code ? str_from(e.text) : buf_str(out));
    if (code)
        json_kstr(j, "code", err_name(code));
    json_key(j, "content");
    json_arr(j);
    for (size_t i = 0; i < content.n; i++) {
        json_uint_value(j, content.v[i].begin);
        json_uint_value(j, content.v[i].end);
    }
    json_arr_end(j);
    json_obj_end(j);
    json_decref(in);
    spans_finish(&content);
}

static int serve(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    struct buf out, reply;
    buf_init(&out, MOST);
    buf_init(&reply, MOST);
    while ((n = getline(&line, &cap, stdin)) > 0) {
        struct json_out j;
        buf_clear(&out);
        buf_clear(&reply);
        json_begin(&j, &reply);
        serve_one(line, (size_t)n, &out, &j);
        fwrite(reply.p, 1, reply.n, stdout);
        putchar('\n');
        fflush(stdout);
    }
    free(line);
    buf_finish(&out);
    buf_finish(&reply);
    return 0;
}

static int families(void)
{
    struct buf out;
    struct json_out j;
    buf_init(&out, MOST);
    json_begin(&j, &out);
    json_obj(&j);
    for (size_t i = 0; family_template_at(i); i++)
        json_kstr(&j, family_template_at(i)->name, family_template_at(i)->source);
    json_obj_end(&j);
    printf("%s\n", out.p);
    buf_finish(&out);
    return 0;
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static int bench(struct str source, const char *name, const json_t *vars)
{
    enum { TIMES = 21 };
    int64_t parse[TIMES], run[TIMES];
    struct buf out;
    struct err e = { 0 };
    buf_init(&out, MOST);
    for (int i = 0; i < TIMES; i++) {
        struct spans content = { 0 };
        struct chat_template *t = NULL;
        int64_t start = clock_ns();
        chat_template_create(source, name, &t, &e);
        parse[i] = clock_ns() - start;
        buf_clear(&out);
        start = clock_ns();
        if (t)
            chat_template_render(t, vars, 0, &out, &content, &e);
        run[i] = clock_ns() - start;
        chat_template_destroy(t);
        spans_finish(&content);
    }
    qsort(parse, TIMES, sizeof *parse, compare_ns);
    qsort(run, TIMES, sizeof *run, compare_ns);
    printf("%8.1f %8.1f %8zu %s\n", (double)parse[TIMES / 2] / 1e3, (double)run[TIMES / 2] / 1e3,
           out.n, e.code ? e.text : name);
    buf_finish(&out);
    return e.code != ERR_OK;
}

int main(int argc, char **argv)
{
    struct buf source, text, out;
    struct err e = { 0 };
    json_t *vars = NULL;
    int status = 1;
    bool timing = argc == 4 && strcmp(argv[1], "bench") == 0;
    json_setup();
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc == 2 && strcmp(argv[1], "families") == 0)
        return families();
    if (argc != 4) {
        fprintf(stderr, "usage: render TEMPLATE VARS.json NOW | bench ... | serve | families\n");
        return 2;
    }
    const char *path = argv[timing ? 2 : 1], *vars_path = argv[timing ? 3 : 2];
    buf_init(&source, MOST);
    buf_init(&text, MOST);
    buf_init(&out, MOST);
    if (!read_file(path, &source) || !read_file(vars_path, &text)) {
        fprintf(stderr, "render: cannot read %s or %s\n", path, vars_path);
        goto out;
    }
    if (json_read(buf_str(&text), MOST, vars_path, &vars, &e))
        goto out;
    if (timing)
        status = bench(buf_str(&source), path, vars);
    else if (!render(buf_str(&source), path, vars, strtoll(argv[3], NULL, 10), &out, NULL, &e))
        status = fwrite(out.p ? out.p : "", 1, out.n, stdout) != out.n;
out:
    if (e.code)
        fprintf(stderr, "%s\n", e.text);
    json_decref(vars);
    buf_finish(&source);
    buf_finish(&text);
    buf_finish(&out);
    return status;
}
