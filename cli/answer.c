#include "cli/answer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"

struct reading {
    struct answer *answer;
    bool raw_lines;
    answer_piece *piece;
    void *user;
};

static void take_piece(struct reading *r, struct str text, bool thinking)
{
    struct answer *a = r->answer;

    if (text.n == 0)
        return;
    if (a->n_pieces++ == 0)
        a->first_ns = a->end_ns;
    buf_put(thinking ? &a->thinking : &a->text, text.p, text.n);
    if (r->piece && !r->raw_lines)
        r->piece(r->user, text, thinking);
}

static enum err_code take_chunk(void *user, json_t *root, struct str raw, struct err *e)
{
    struct reading *r = user;
    struct answer *a = r->answer;
    struct gen_chunk chunk;
    enum err_code code = gen_chunk_read(root, &chunk, e);

    if (code != ERR_OK)
        return code;
    if (r->raw_lines) {
        printf("%.*s\n", (int)raw.n, raw.p);
        fflush(stdout);
    }
    a->end_ns = clock_ns();
    take_piece(r, chunk.thinking, true);
    take_piece(r, chunk.text, false);
    if (chunk.done) {
        if (a->n_pieces == 0)
            a->first_ns = a->end_ns; /* nothing that could be shown */
        snprintf(a->done_reason, sizeof a->done_reason, "%.*s", (int)chunk.done_reason.n,
                 chunk.done_reason.n ? chunk.done_reason.p : "");
        a->metrics = chunk.metrics;
    }
    return ERR_OK;
}

enum err_code answer_get(struct client *c, const struct gen_request *r, bool raw_lines,
                         answer_piece *piece, void *user, struct answer *a, struct err *e)
{
    struct reading reading = { a, raw_lines, piece, user };
    struct buf body;
    enum err_code code;

    *a = (struct answer){ 0 };
    buf_init(&a->text, ANSWER_MAX_TEXT);
    buf_init(&a->thinking, ANSWER_MAX_TEXT);
    buf_init(&body, PROTOCOL_MAX_BODY);
    gen_request_write(&body, r);
    a->sent_ns = clock_ns();
    code = body.failed ? err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes",
                                 PROTOCOL_MAX_BODY) :
                         client_stream(c, gen_request_path(r->kind), buf_str(&body), take_chunk,
                                       &reading, e);
    if (code == ERR_OK && (a->text.failed || a->thinking.failed))
        code = err_set(e, ERR_TOO_LARGE, "the answer is larger than %zu bytes", ANSWER_MAX_TEXT);
    buf_finish(&body);
    return code;
}

void answer_finish(struct answer *a)
{
    buf_finish(&a->text);
    buf_finish(&a->thinking);
}

/* ---- on the screen ----------------------------------------------------------------------------- */

void answer_print_piece(void *user, struct str text, bool thinking)
{
    struct answer_print *p = user;
    const struct term *t = &p->c->term;

    if (thinking && p->hide_thinking)
        return;
    term_progress_end(&p->c->term);
    if (thinking && !p->in_thought)
        printf("%sThinking...\n", term_on(t, STYLE_DIM));
    else if (!thinking)
        answer_print_done(p);
    p->in_thought = thinking;
    term_write(t, text);
}

void answer_print_done(struct answer_print *p)
{
    if (p->in_thought)
        printf("\n...done thinking.%s\n\n", term_on(&p->c->term, STYLE_PLAIN));
    p->in_thought = false;
}

/* ---- stats ------------------------------------------------------------------------------------- */

static void print_duration(const char *label, int64_t ns)
{
    char text[WORDS_SIZE];

    if (ns > 0)
        fprintf(stderr, "%-22s%s\n", label, words_duration(ns, text));
}

static void print_rate(const char *label, uint64_t tokens, int64_t ns)
{
    if (tokens > 0 && ns > 0)
        fprintf(stderr, "%-22s%.2f tokens/s\n", label, (double)tokens * 1e9 / (double)ns);
}

static void print_count(const char *label, uint64_t n)
{
    if (n > 0)
        fprintf(stderr, "%-22s%" PRIu64 " token(s)\n", label, n);
}

/* A rate is of the work done: tokens found in the cache were not computed, and the steps after the
 * first token are one fewer than the tokens. */
void answer_print_stats(const struct gen_metrics *m)
{
    print_duration("total duration:", m->total_duration);
    print_duration("load duration:", m->load_duration);
    print_count("prompt eval count:", m->prompt_eval_count);
    print_duration("prompt eval duration:", m->prompt_eval_duration);
    print_rate("prompt eval rate:", m->prompt_eval_count - m->prompt_cached_count,
               m->prompt_eval_duration);
    print_count("eval count:", m->eval_count);
    print_duration("eval duration:", m->eval_duration);
    print_rate("eval rate:", m->eval_count > 0 ? m->eval_count - 1 : 0, m->eval_duration);
}

void answer_print_cut(const struct cli *c, const struct answer *a)
{
    if (strcmp(a->done_reason, "length") == 0)
        fprintf(stderr, "%s(the answer was cut after %" PRIu64 " tokens)%s\n",
                term_on(&c->term, STYLE_DIM), a->metrics.eval_count, term_on(&c->term, STYLE_PLAIN));
}

/* ---- requests ---------------------------------------------------------------------------------- */

static enum err_code take_option(struct gen_options *o, const char *text, struct err *e)
{
    const char *equals = strchr(text, '=');
    struct str name = { text, equals ? (size_t)(equals - text) : 0 };

    if (!equals)
        return err_set(e, ERR_USAGE, "--option %s: write NAME=VALUE", text);
    if (gen_options_set(o, name, str_from(equals + 1), e) == ERR_OK)
        return ERR_OK;
    e->code = ERR_USAGE;
    return err_prefix(e, "--option %s", text);
}

enum err_code answer_read_think(const char *text, enum think *out, struct err *e)
{
    static const struct {
        const char *name;
        enum think think;
    } rows[] = {
        { "", THINK_ON },       { "true", THINK_ON },       { "false", THINK_OFF },
        { "low", THINK_LOW },   { "medium", THINK_MEDIUM }, { "high", THINK_HIGH },
        { "max", THINK_MAX },
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(text ? text : "", rows[i].name) == 0) {
            *out = rows[i].think;
            return ERR_OK;
        }
    return err_set(e, ERR_USAGE, "think \"%s\": write true, false, low, medium, high or max", text);
}

static enum err_code read_file(const char *path, struct buf *out, struct err *e)
{
    char bytes[4096];
    FILE *f = fopen(path, "rb");
    size_t n;

    if (!f)
        return err_errno(e, ERR_USAGE, errno, "format \"%s\" is neither json nor a schema nor a file", path);
    while ((n = fread(bytes, 1, sizeof bytes, f)) > 0)
        buf_put(out, bytes, n);
    n = (size_t)ferror(f);
    fclose(f);
    if (n)
        return err_errno(e, ERR_IO, EIO, "cannot read %s", path);
    return out->failed ? err_set(e, ERR_TOO_LARGE, "%s is larger than %zu bytes", path, out->max) : ERR_OK;
}

enum err_code answer_read_format(const char *text, json_t **out, struct err *e)
{
    struct str all = str_from(text);
    struct buf file;
    enum err_code code = ERR_OK;

    *out = NULL;
    if (strcmp(text, "json") == 0) {
        *out = json_string(text);
        return *out ? ERR_OK : err_no_memory(e, 4, "a format");
    }
    buf_init(&file, 1 << 20);
    if (text[strspn(text, " \t\r\n")] != '{') {
        code = read_file(text, &file, e);
        all = buf_str(&file);
    }
    if (code == ERR_OK && str_ends(str_from(text), STR(".gbnf"))) {
        *out = json_pack("{s:s, s:s%}", "type", "grammar", "grammar", all.n ? all.p : "", all.n);
        code = *out ? ERR_OK : err_set(e, ERR_USAGE, "%s is not UTF-8", text);
    } else if (code == ERR_OK && (code = json_read(all, 1 << 20, "the format", out, e)) != ERR_OK) {
        e->code = code = ERR_USAGE;
    }
    buf_finish(&file);
    return code;
}

enum err_code answer_take_options(const struct cli *c, struct gen_request *r, json_t **format,
                                  struct err *e)
{
    enum err_code code = ERR_OK;

    *format = NULL;
    for (size_t i = 0; code == ERR_OK && i < c->n_options; i++)
        code = take_option(&r->options, c->options[i], e);
    if (code == ERR_OK && c->given[ARG_KEEP_ALIVE]) {
        r->has_keep_alive = duration_read(str_from(c->value[ARG_KEEP_ALIVE]), true, &r->keep_alive_ns);
        if (!r->has_keep_alive)
            code = err_set(e, ERR_USAGE, "--keepalive %s: write 90s, 5m, 1h30m, 0 or -1",
                           c->value[ARG_KEEP_ALIVE]);
    }
    if (code == ERR_OK && c->given[ARG_THINK])
        code = answer_read_think(c->value[ARG_THINK], &r->think, e);
    if (code == ERR_OK && c->given[ARG_FORMAT])
        code = answer_read_format(c->value[ARG_FORMAT], format, e);
    r->format = *format;
    return code;
}

enum err_code answer_explain(enum err_code code, struct err *e)
{
    size_t n = strlen(e->text);

    if (code == ERR_NOT_FOUND)
        snprintf(e->text + n, sizeof e->text - n,
                 " (`hearth list` shows what there is, `hearth import FILE NAME` adds a GGUF file)");
    return code;
}
