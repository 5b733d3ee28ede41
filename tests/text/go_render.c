/* go_render serve                     lines of JSON in, {template, vars, now}; a line out for each:
 *                                     "T " and the text's bytes in hex, or "E " and the error
 * go_render bench TEMPLATE VARS.json  microseconds of parsing and of one rendering */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/go_template.h"

#define MOST ((size_t)64 << 20)

static enum err_code render(struct str source, const json_t *vars, int64_t now, struct buf *out,
                            struct err *e)
{
    struct go_template *t = NULL;
    enum err_code code = go_template_create(source, "t", &t, e);
    if (!code)
        code = go_template_render(t, vars, now, out, NULL, e);
    go_template_destroy(t);
    return code;
}

static void serve_one(const char *line, size_t n, struct buf *out)
{
    json_error_t je;
    struct err e = { ERR_FORMAT, "not a request" };
    json_t *in = json_loadb(line, n, 0, &je);
    const json_t *source = json_object_get(in, "template"), *vars = json_object_get(in, "vars");
    struct str s = { json_string_value(source), json_string_length(source) };
    int64_t now = json_integer_value(json_object_get(in, "now"));
    if (!json_is_string(source) || !json_is_object(vars) || render(s, vars, now, out, &e)) {
        for (char *p = e.text; (p = strchr(p, '\n'));)
            *p = ' ';
        printf("E %s\n", e.text);
    } else {
        fputs("T ", stdout);
        for (size_t i = 0; i < out->n; i++)
            printf("%02x", (unsigned char)out->p[i]);
        putchar('\n');
    }
    json_decref(in);
}

static int serve(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    struct buf out;
    buf_init(&out, MOST);
    while ((n = getline(&line, &cap, stdin)) > 0) {
        buf_clear(&out);
        serve_one(line, (size_t)n, &out);
        fflush(stdout);
    }
    free(line);
    buf_finish(&out);
    return 0;
}

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

/* The fastest of 21 each. */
static enum err_code bench(struct str source, const json_t *vars, struct err *e)
{
    int64_t parse = INT64_MAX, run = INT64_MAX;
    struct buf out;
    enum err_code code = ERR_OK;
    buf_init(&out, MOST);
    for (int i = 0; i < 21 && !code; i++) {
        struct go_template *t = NULL;
        int64_t start = clock_ns();
        if ((code = go_template_create(source, "t", &t, e)))
            break;
        int64_t parsed = clock_ns();
        buf_clear(&out);
        code = go_template_render(t, vars, 0, &out, NULL, e);
        int64_t end = clock_ns();
        parse = parsed - start < parse ? parsed - start : parse;
        run = end - parsed < run ? end - parsed : run;
        go_template_destroy(t);
    }
    if (!code)
        printf("%8.1f %8.1f %8zu\n", (double)parse / 1e3, (double)run / 1e3, out.n);
    buf_finish(&out);
    return code;
}

int main(int argc, char **argv)
{
    struct buf source, text;
    struct err e = { 0 };
    json_t *vars = NULL;
    json_setup();
    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc != 4 || strcmp(argv[1], "bench") != 0) {
        fprintf(stderr, "usage: go_render serve | go_render bench TEMPLATE VARS.json\n");
        return 2;
    }
    buf_init(&source, MOST);
    buf_init(&text, MOST);
    if (!read_file(argv[2], &source) || !read_file(argv[3], &text))
        err_set(&e, ERR_IO, "cannot read %s or %s", argv[2], argv[3]);
    else if (!json_read(buf_str(&text), MOST, argv[3], &vars, &e))
        bench(buf_str(&source), vars, &e);
    if (e.code)
        fprintf(stderr, "%s\n", e.text);
    json_decref(vars);
    buf_finish(&source);
    buf_finish(&text);
    return e.code != ERR_OK;
}
