#include "cli/answer.h"

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
    if (chunk.text.n > 0) {
        if (a->n_pieces++ == 0)
            a->first_ns = a->end_ns;
        buf_put(&a->text, chunk.text.p, chunk.text.n);
        if (r->piece && !r->raw_lines)
            r->piece(r->user, chunk.text);
    }
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
    buf_init(&body, PROTOCOL_MAX_BODY);
    gen_request_write(&body, r);
    a->sent_ns = clock_ns();
    code = body.failed ? err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes",
                                 PROTOCOL_MAX_BODY) :
                         client_stream(c, gen_request_path(r->kind), buf_str(&body), take_chunk,
                                       &reading, e);
    if (code == ERR_OK && a->text.failed)
        code = err_set(e, ERR_TOO_LARGE, "the answer is larger than %zu bytes", ANSWER_MAX_TEXT);
    buf_finish(&body);
    return code;
}

void answer_finish(struct answer *a)
{
    buf_finish(&a->text);
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

enum err_code answer_take_options(const struct cli *c, struct gen_request *r, struct err *e)
{
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < c->n_options; i++)
        code = take_option(&r->options, c->options[i], e);
    if (code == ERR_OK && c->given[ARG_KEEP_ALIVE]) {
        r->has_keep_alive = duration_read(str_from(c->value[ARG_KEEP_ALIVE]), true, &r->keep_alive_ns);
        if (!r->has_keep_alive)
            code = err_set(e, ERR_USAGE, "--keepalive %s: write 90s, 5m, 1h30m, 0 or -1",
                           c->value[ARG_KEEP_ALIVE]);
    }
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
