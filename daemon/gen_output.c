/* Events of a run -> the reply of generate and chat. */
#include <string.h>

#include "daemon/gen.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static void on_drain(struct http_request *r)
{
    struct gen *g = r->user;
    g->choked = false;
    output_run_notify(&g->run);
}

/* What the answer begins with, where an assistant's message is gone on with. */
static struct str begun_answer(const struct gen *g)
{
    const struct buf *t = &g->prompt.text;
    return (struct str){ t->p ? t->p + g->prompt.answer_at : "", t->n - g->prompt.answer_at };
}

enum err_code output_begin(struct gen *g, struct err *e)
{
    struct stream_options o = {
        .tokenizer = words_tokenizer(lookup_words(&g->lookup)),
        .format = g->format,
        .output = {
            .tools = g->calls ? g->req.tools : NULL,
            .thinking = g->thinking,
            .prompt = { g->prompt.text.p ? g->prompt.text.p : "", g->prompt.answer_at },
            .prefill = begun_answer(g),
        },
        .stop = g->req.options.stop,
        .n_stop = g->req.options.n_stop,
        .id_seed = (uint64_t)clock_wall_ns(),
    };
    enum err_code c = stream_init(&g->stream, &o, e);
    if (c)
        return c;
    g->streaming = true;
    if (g->http)
        g->http->on_drain = on_drain;
    g->answer.n = 0;
    if (!mem_grow(&g->answer.id, &g->answer.cap, 64, sizeof *g->answer.id, SIZE_MAX / 4))
        return err_no_memory(e, 64 * sizeof *g->answer.id, "an answer");
    return g->req.echo ? echo_put(g, e) : ERR_OK;
}

/* ---- lines ------------------------------------------------------------------------------------------ */

static struct gen_chunk chunk_of(const struct gen *g)
{
    return (struct gen_chunk){
        .kind = g->kind,
        .model = g->req.model,
        .created_wall_ns = clock_wall_ns(),
        .text = buf_str(&g->stream.text),
        .thinking = buf_str(&g->stream.thinking),
        .tool_calls = g->stream.calls,
        .n_tool_calls = g->stream.n_calls,
        .logprobs = g->logprobs,
        .n_logprobs = g->n_logprobs,
    };
}

static void send_line(struct gen *g, const struct gen_chunk *c)
{
    buf_clear(&g->line);
    gen_chunk_write(&g->line, c);
    buf_putc(&g->line, '\n');
    if (!g->begun) {
        g->begun = true;
        g->d->metrics.requests[2]++;
        http_stream_begin(g->http, 200, "application/x-ndjson");
    }
    if (g->line.failed)
        err_set(&g->err, ERR_NO_MEMORY, "out of memory");
    else if (!http_stream_write(g->http, buf_str(&g->line)))
        g->choked = true;
}

void output_pass_on(struct gen *g)
{
    struct stream *s = &g->stream;
    if (!g->req.stream || (!s->text.n && !s->thinking.n && !s->n_calls && !g->n_logprobs))
        return;
    struct gen_chunk c = chunk_of(g);
    send_line(g, &c);
    g->n_logprobs = 0;
    arena_finish(&g->pieces);
    stream_taken(s);
}

static struct str reason_of(const struct gen *g)
{
    if (g->stream.stopped || g->finish == FINISH_STOP)
        return STR("stop");
    return STR("length");
}

static int64_t at_least_one(int64_t ns)
{
    return ns > 0 ? ns : 1;
}

static void measure(struct gen *g)
{
    const struct run *r = &g->run;
    int64_t now = clock_ns();
    g->metrics = (struct gen_metrics){
        .total_duration = at_least_one(now - g->begun_ns),
        .load_duration = at_least_one(g->placed_ns - g->begun_ns),
        .prompt_eval_duration = at_least_one(g->echo_ns + r->first_ns - r->begun_ns),
        .eval_duration = at_least_one(r->last_ns - r->first_ns),
        .queue_duration = at_least_one(r->begun_ns - g->submitted_ns),
        .prompt_eval_count = r->n_tokens,
        .prompt_cached_count = g->echo_ns ? 0 : r->n_cached, /* scored: every row was computed */
        .eval_count = g->silent ? 0 : g->n_eval,
    };
    struct metrics *m = &g->d->metrics;
    m->prompt_tokens += r->n_tokens;
    m->eval_tokens += g->n_eval;
    histogram_add(&m->total, g->metrics.total_duration);
    histogram_add(&m->first_token, r->first_ns - g->begun_ns);
    if (g->n_eval > 1)
        histogram_add(&m->per_token, g->metrics.eval_duration / (int64_t)(g->n_eval - 1));
}

/* Prompt and answer as one list, for the next request's "context". */
static void add_context(struct gen *g, struct gen_chunk *c)
{
    if (g->kind != GEN_GENERATE || g->req.raw)
        return;
    struct token_list *p = &g->prompt.tokens;
    if (!mem_grow(&p->id, &p->cap, p->n + g->answer.n, sizeof *p->id, SIZE_MAX / 4))
        return; /* deprecated, and better absent than wrong */
    memcpy(p->id + p->n, g->answer.id, g->answer.n * sizeof *p->id);
    c->context = p->id;
    c->n_context = p->n + g->answer.n;
}

static void finish_reply(struct gen *g)
{
    measure(g);
    struct gen_chunk c = chunk_of(g);
    c.done = true;
    c.done_reason = reason_of(g);
    c.has_metrics = true;
    c.metrics = g->metrics;
    c.dropped_messages = g->prompt.dropped;
    add_context(g, &c);
    if (!g->req.stream) {
        buf_clear(&g->line);
        gen_chunk_write(&g->line, &c);
        gen_reply_line(g, 200);
        return;
    }
    send_line(g, &c);
    g->wait = WAIT_NOTHING;
    if (g->err.code)
        http_abort(g->http);
    else
        http_stream_end(g->http);
    gen_end(g);
}

void output_reply_load(struct gen *g, const char *reason)
{
    if (!g->http) { /* preload */
        gen_end(g);
        return;
    }
    struct gen_chunk c = chunk_of(g);
    c.done = true;
    c.done_reason = str_from(reason);
    gen_chunk_write(&g->line, &c);
    gen_reply_line(g, 200);
}

/* ---- logprobs --------------------------------------------------------------------------------------- */

static bool put_piece(struct gen *g, int32_t token, float logprob, struct gen_logprob *out)
{
    struct buf piece;
    int32_t id = token;
    const struct tokenizer *t = words_tokenizer(lookup_words(&g->lookup));
    buf_init(&piece, 1 << 20);
    bool ok = tokenizer_decode(t, &id, 1, true, &piece, NULL) == ERR_OK && !piece.failed;
    char *p = ok ? arena_strndup(&g->pieces, buf_str(&piece).p, piece.n) : NULL;
    *out = (struct gen_logprob){ { p, p ? piece.n : 0 }, (double)logprob };
    buf_finish(&piece);
    return p != NULL;
}

enum err_code output_add_logprobs(struct gen *g, const struct logprob_of *of, struct err *e)
{
    if (!mem_grow(&g->logprobs, &g->cap_logprobs, g->n_logprobs + 1, sizeof *g->logprobs,
                  SIZE_MAX / sizeof *g->logprobs))
        return err_no_memory(e, sizeof *g->logprobs, "log-probabilities");
    struct gen_logprobs *l = &g->logprobs[g->n_logprobs];
    bool ok = put_piece(g, of->token, of->logprob, &l->chosen);
    l->n_top = of->n_top;
    for (uint32_t i = 0; ok && i < of->n_top; i++)
        ok = put_piece(g, of->top[i].token, of->top[i].logprob, &l->top[i]);
    if (!ok)
        return err_no_memory(e, 0, "log-probabilities");
    g->n_logprobs++;
    return ERR_OK;
}

static enum err_code add_logprobs(struct gen *g, const struct run_event *ev, struct err *e)
{
    struct run_top top[RUN_MAX_TOP];
    for (uint32_t i = 0; i < ev->n_top; i++)
        top[i] = (struct run_top){ ev->top_token[i], ev->top_logprob[i] };
    struct logprob_of of = { ev->token, ev->logprob, top, ev->n_top };
    return output_add_logprobs(g, &of, e);
}

/* ---- events ----------------------------------------------------------------------------------------- */

static void take_event(struct gen *g, const struct run_event *ev)
{
    g->n_eval += ev->token != TOKEN_NONE; /* a format's end needs no token */
    g->finish = ev->finish;
    if (g->silent || ev->finish == FINISH_STOP)
        return;
    if (!mem_grow(&g->answer.id, &g->answer.cap, g->answer.n + 1, sizeof *g->answer.id,
                  SIZE_MAX / 4)) {
        err_no_memory(&g->err, sizeof *g->answer.id, "an answer");
        return;
    }
    g->answer.id[g->answer.n++] = ev->token;
    if ((g->req.logprobs && gen_failed(g, add_logprobs(g, ev, &g->err))) ||
        gen_failed(g, stream_feed(&g->stream, ev->token, &g->err)))
        return;
    output_pass_on(g);
}

static void drain_ring(struct gen *g)
{
    struct run_event ev;
    while (!g->choked && run_next(&g->run, &ev)) {
        if (g->gone || g->err.code || g->stream.stopped)
            continue; /* nobody wants them any more */
        take_event(g, &ev);
        if (g->err.code || g->stream.stopped)
            run_cancel(&g->run);
    }
}

/* There is news of the run. The gen may end only when the run has and its events are worked off. */
void output_run_notify(struct run *r)
{
    struct gen *g = r->user;
    g->in_output = true;
    do {
        if (g->gone)
            g->choked = false;
        drain_ring(g);
    } while (g->gone && g->choked);
    g->in_output = false;
    if (!run_ended(r) || g->choked)
        return;
    g->wait = WAIT_NOTHING;
    if (g->gone)
        g->err = g->stop;
    else if (!g->err.code && r->err.code && !(r->err.code == ERR_CANCELLED && g->stream.stopped))
        g->err = r->err;
    if (!g->err.code && !gen_failed(g, stream_end(&g->stream, &g->err)))
        output_pass_on(g);
    if (g->err.code)
        gen_fail(g);
    else
        finish_reply(g);
}
