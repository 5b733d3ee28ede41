/* Events of a run -> the reply of generate and chat. */
#include <string.h>

#include "daemon/gen.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

static void take_news(struct gen *g);

static void on_drain(struct http_request *r)
{
    struct gen *g = r->user;
    g->choked = false;
    take_news(g);
}

/* What the answer begins with, where an assistant's message is gone on with. */
static struct str begun_answer(const struct gen *g)
{
    const struct buf *t = &g->prompt.text;
    return (struct str){ t->p ? t->p + g->prompt.answer_at : "", t->n - g->prompt.answer_at };
}

enum err_code output_begin(struct gen_choice *c, struct err *e)
{
    struct gen *g = c->g;
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
        .id_seed = (uint64_t)clock_wall_ns() + ((uint64_t)c->index << 56),
    };
    enum err_code code = stream_init(&c->stream, &o, e);
    c->streaming = true;
    if (code)
        return code;
    if (g->http)
        g->http->on_drain = on_drain;
    if (!mem_grow(&c->answer.id, &c->answer.cap, 64, sizeof *c->answer.id, SIZE_MAX / 4))
        return err_no_memory(e, 64 * sizeof *c->answer.id, "an answer");
    return g->req.echo ? echo_put(c, e) : ERR_OK;
}

/* ---- lines ------------------------------------------------------------------------------------------ */

static struct gen_chunk chunk_of(const struct gen_choice *c)
{
    return (struct gen_chunk){
        .kind = c->g->kind,
        .has_index = c->g->req.n > 1,
        .index = c->index,
        .model = c->g->req.model,
        .created_wall_ns = clock_wall_ns(),
        .text = buf_str(&c->stream.text),
        .thinking = buf_str(&c->stream.thinking),
        .tool_calls = c->stream.calls,
        .n_tool_calls = c->stream.n_calls,
        .logprobs = c->logprobs,
        .n_logprobs = c->n_logprobs,
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

void output_pass_on(struct gen_choice *c)
{
    struct stream *s = &c->stream;
    if (!c->g->req.stream || (!s->text.n && !s->thinking.n && !s->n_calls && !c->n_logprobs))
        return;
    struct gen_chunk line = chunk_of(c);
    send_line(c->g, &line);
    c->n_logprobs = 0;
    arena_finish(&c->pieces);
    stream_taken(s);
}

static struct str reason_of(const struct gen_choice *c)
{
    if (c->stream.stopped || c->finish == FINISH_STOP)
        return STR("stop");
    return STR("length");
}

static int64_t at_least_one(int64_t ns)
{
    return ns > 0 ? ns : 1;
}

/* Of the answers: the time from the first token of any to the last of any. */
static void measure_runs(struct gen *g, int64_t *first_ns, int64_t *last_ns)
{
    struct metrics *m = &g->d->metrics;
    *first_ns = INT64_MAX;
    *last_ns = 0;
    for (uint32_t i = 0; i < g->req.n; i++) {
        const struct gen_choice *c = &g->choice[i];
        const struct run *r = &c->run;
        *first_ns = r->first_ns < *first_ns ? r->first_ns : *first_ns;
        *last_ns = r->last_ns > *last_ns ? r->last_ns : *last_ns;
        m->eval_tokens += c->n_eval;
        if (c->n_eval > 1)
            histogram_add(&m->per_token, at_least_one(r->last_ns - r->first_ns) / (int64_t)(c->n_eval - 1));
        g->metrics.eval_count += g->silent ? 0 : c->n_eval;
    }
}

/* The prompt is the first run's: the others share what it computes. */
static void measure(struct gen *g)
{
    const struct run *r = &g->choice[0].run;
    int64_t now = clock_ns(), first_ns, last_ns;
    g->metrics = (struct gen_metrics){
        .total_duration = at_least_one(now - g->begun_ns),
        .load_duration = at_least_one(g->placed_ns - g->begun_ns),
        .prompt_eval_duration = at_least_one(g->echo_ns + r->first_ns - r->begun_ns),
        .queue_duration = at_least_one(r->begun_ns - g->submitted_ns),
        .prompt_eval_count = r->n_tokens,
        .prompt_cached_count = g->echo_ns ? 0 : r->n_cached, /* scored: every row was computed */
    };
    measure_runs(g, &first_ns, &last_ns);
    g->metrics.eval_duration = at_least_one(last_ns - first_ns);
    struct metrics *m = &g->d->metrics;
    m->prompt_tokens += r->n_tokens;
    histogram_add(&m->total, g->metrics.total_duration);
    histogram_add(&m->first_token, first_ns - g->begun_ns);
}

/* Prompt and (first) answer as one list, for the next request's "context". */
static void add_context(struct gen *g, struct gen_chunk *c)
{
    if (g->kind != GEN_GENERATE || g->req.raw)
        return;
    const struct token_list *answer = &g->choice[0].answer;
    struct token_list *p = &g->prompt.tokens;
    if (!mem_grow(&p->id, &p->cap, p->n + answer->n, sizeof *p->id, SIZE_MAX / 4))
        return; /* deprecated, and better absent than wrong */
    memcpy(p->id + p->n, answer->id, answer->n * sizeof *p->id);
    c->context = p->id;
    c->n_context = p->n + answer->n;
}

static void add_choices(struct gen *g, struct gen_chunk *c, struct gen_chunk choices[])
{
    for (uint32_t i = 0; i < g->req.n; i++) {
        choices[i] = chunk_of(&g->choice[i]);
        choices[i].done_reason = reason_of(&g->choice[i]);
        choices[i].metrics.eval_count = g->silent ? 0 : g->choice[i].n_eval;
    }
    c->has_index = false;
    c->choices = choices;
    c->n_choices = g->req.n > 1 ? g->req.n : 0;
}

static void finish_reply(struct gen *g)
{
    struct gen_chunk choices[PROTOCOL_MAX_CHOICES], c = chunk_of(&g->choice[0]);
    measure(g);
    c.done = true;
    c.done_reason = reason_of(&g->choice[0]);
    c.has_metrics = true;
    c.metrics = g->metrics;
    c.dropped_messages = g->prompt.dropped;
    add_choices(g, &c, choices);
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
    struct gen_chunk c = {
        .kind = g->kind,
        .model = g->req.model,
        .created_wall_ns = clock_wall_ns(),
        .done = true,
        .done_reason = str_from(reason),
    };
    gen_chunk_write(&g->line, &c);
    gen_reply_line(g, 200);
}

/* ---- logprobs --------------------------------------------------------------------------------------- */

static bool put_piece(struct gen_choice *c, int32_t token, float logprob, struct gen_logprob *out)
{
    struct buf piece;
    int32_t id = token;
    const struct tokenizer *t = words_tokenizer(lookup_words(&c->g->lookup));
    buf_init(&piece, 1 << 20);
    bool ok = tokenizer_decode(t, &id, 1, true, &piece, NULL) == ERR_OK && !piece.failed;
    char *p = ok ? arena_strndup(&c->pieces, buf_str(&piece).p, piece.n) : NULL;
    *out = (struct gen_logprob){ { p, p ? piece.n : 0 }, (double)logprob };
    buf_finish(&piece);
    return p != NULL;
}

enum err_code output_add_logprobs(struct gen_choice *c, const struct logprob_of *of, struct err *e)
{
    if (!mem_grow(&c->logprobs, &c->cap_logprobs, c->n_logprobs + 1, sizeof *c->logprobs,
                  SIZE_MAX / sizeof *c->logprobs))
        return err_no_memory(e, sizeof *c->logprobs, "log-probabilities");
    struct gen_logprobs *l = &c->logprobs[c->n_logprobs];
    bool ok = put_piece(c, of->token, of->logprob, &l->chosen);
    l->n_top = of->n_top;
    for (uint32_t i = 0; ok && i < of->n_top; i++)
        ok = put_piece(c, of->top[i].token, of->top[i].logprob, &l->top[i]);
    if (!ok)
        return err_no_memory(e, 0, "log-probabilities");
    c->n_logprobs++;
    return ERR_OK;
}

static enum err_code add_logprobs(struct gen_choice *c, const struct run_event *ev, struct err *e)
{
    struct run_top top[RUN_MAX_TOP];
    for (uint32_t i = 0; i < ev->n_top; i++)
        top[i] = (struct run_top){ ev->top_token[i], ev->top_logprob[i] };
    struct logprob_of of = { ev->token, ev->logprob, top, ev->n_top };
    return output_add_logprobs(c, &of, e);
}

/* ---- events ----------------------------------------------------------------------------------------- */

static void take_event(struct gen_choice *c, const struct run_event *ev)
{
    struct gen *g = c->g;
    c->n_eval += ev->token != TOKEN_NONE; /* a format's end needs no token */
    c->finish = ev->finish;
    if (g->silent || ev->finish == FINISH_STOP)
        return;
    if (!mem_grow(&c->answer.id, &c->answer.cap, c->answer.n + 1, sizeof *c->answer.id,
                  SIZE_MAX / 4)) {
        err_no_memory(&g->err, sizeof *c->answer.id, "an answer");
        return;
    }
    c->answer.id[c->answer.n++] = ev->token;
    if ((g->req.logprobs && gen_failed(g, add_logprobs(c, ev, &g->err))) ||
        gen_failed(g, stream_feed(&c->stream, ev->token, &g->err)))
        return;
    output_pass_on(c);
}

static void drain_ring(struct gen_choice *c)
{
    struct gen *g = c->g;
    struct run_event ev;
    while (c->lent && !g->choked && run_next(&c->run, &ev)) {
        if (g->gone || g->err.code || c->stream.stopped)
            continue; /* nobody wants them any more */
        take_event(c, &ev);
        if (g->err.code)
            gen_cancel_runs(g);
        else if (c->stream.stopped)
            run_cancel(&c->run);
    }
}

/* One of several answers is whole: a line of its own says why it ended. */
static void send_reason(struct gen_choice *c)
{
    if (!c->g->req.stream || c->g->req.n == 1 || c->g->err.code)
        return;
    struct gen_chunk line = chunk_of(c);
    line.done_reason = reason_of(c);
    send_line(c->g, &line);
}

/* The run has ended and its events are worked off. */
static void end_choice(struct gen_choice *c)
{
    struct gen *g = c->g;
    const struct err *why = &c->run.err;
    c->over = true;
    g->counted--;
    g->d->n_generating--;
    if (g->gone || g->err.code)
        return;
    if (why->code && !(why->code == ERR_CANCELLED && c->stream.stopped))
        g->err = *why;
    if (!g->err.code && !gen_failed(g, stream_end(&c->stream, &g->err)))
        output_pass_on(c);
    send_reason(c);
    if (g->err.code)
        gen_cancel_runs(g);
}

/* True when all have come to their end and nothing of them waits for the client. */
static bool work_off(struct gen *g)
{
    bool over = true;
    for (uint32_t i = 0; i < g->req.n; i++) {
        struct gen_choice *c = &g->choice[i];
        drain_ring(c);
        if (c->lent && !c->over && !g->choked && run_ended(&c->run))
            end_choice(c);
        over = over && (c->over || !c->lent);
    }
    return over;
}

/* The gen may end only when its runs have and their events are worked off. */
static void take_news(struct gen *g)
{
    bool over;
    g->in_output = true;
    do {
        if (g->gone)
            g->choked = false;
        over = work_off(g);
    } while (g->gone && g->choked);
    g->in_output = false;
    if (!over)
        return;
    g->wait = WAIT_NOTHING;
    if (g->gone)
        g->err = g->stop;
    if (g->err.code)
        gen_fail(g);
    else
        finish_reply(g);
}

void output_run_notify(struct run *r)
{
    take_news(((struct gen_choice *)r->user)->g);
}
