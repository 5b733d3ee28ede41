/* tokenize, detokenize, render: no model in memory. And score, which has one compute every row. */
#include <math.h>
#include <string.h>

#include "daemon/gen.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define MAX_CONTENT ((size_t)16 << 20)

/* ---- on a worker: from text to tokens, and the reply's text ------------------------------------ */

static enum err_code take_ids(struct gen *g, struct err *e)
{
    struct token_list *t = &g->prompt.tokens;
    size_t n = json_array_size(g->req.tokens);
    if (!mem_grow(&t->id, &t->cap, n, sizeof *t->id, SIZE_MAX / sizeof *t->id))
        return err_no_memory(e, n * sizeof *t->id, "tokens");
    for (size_t i = 0; i < n; i++)
        t->id[t->n++] = (int32_t)json_number_value(json_array_get(g->req.tokens, i));
    return ERR_OK;
}

static enum err_code put_pieces(struct gen *g, const struct tokenizer *t, struct tokens_reply *r,
                                struct err *e)
{
    struct buf all;
    struct str *piece = arena_alloc(&g->pieces, (r->n ? r->n : 1) * sizeof *piece);
    size_t *end = arena_alloc(&g->pieces, (r->n ? r->n : 1) * sizeof *end);
    buf_init(&all, MAX_CONTENT * 4);
    enum err_code c = piece && end ? ERR_OK : err_no_memory(e, r->n * sizeof *piece, "pieces");
    for (size_t i = 0; i < r->n && !c; i++) {
        c = tokenizer_decode(t, &r->tokens[i], 1, true, &all, e);
        end[i] = all.n;
    }
    if (!c && all.failed)
        c = err_no_memory(e, all.n, "pieces");
    for (size_t i = 0; i < r->n && !c; i++) {
        size_t from = i ? end[i - 1] : 0;
        piece[i] = (struct str){ all.p ? all.p + from : "", end[i] - from };
    }
    r->pieces = piece;
    if (!c)
        tokens_write(&g->line, r);
    buf_finish(&all);
    return c;
}

static enum err_code tokenize(struct gen *g, const struct tokenizer *t, struct err *e)
{
    struct token_list *list = &g->prompt.tokens;
    enum err_code c = tokenizer_encode(t, g->req.content, g->req.add_special, g->req.parse_special,
                                       list, e);
    struct tokens_reply r = { .tokens = list->id, .n = list->n };
    if (c)
        return c;
    if (g->req.pieces)
        return put_pieces(g, t, &r, e);
    tokens_write(&g->line, &r);
    return ERR_OK;
}

static enum err_code detokenize(struct gen *g, const struct tokenizer *t, struct err *e)
{
    struct buf text;
    buf_init(&text, MAX_CONTENT * 4);
    enum err_code c = take_ids(g, e);
    if (!c)
        c = tokenizer_decode(t, g->prompt.tokens.id, g->prompt.tokens.n, true, &text, e);
    if (!c && text.failed)
        c = err_no_memory(e, text.n, "text");
    if (!c) {
        struct json_out j;
        json_begin(&j, &g->line);
        json_obj(&j);
        json_key(&j, "content");
        json_str_value(&j, buf_str(&text));
        json_obj_end(&j);
    }
    buf_finish(&text);
    return c;
}

static enum err_code render(struct gen *g, struct err *e)
{
    struct prompt_want want = {
        .words = lookup_words(&g->lookup),
        .template = lookup_template(&g->lookup),
        .history = model_texts_history(&g->lookup.texts, &g->req),
        .req = &g->req,
        .now_s = clock_wall_ns() / 1000000000,
    };
    enum err_code c = prompt_make(&want, &g->prompt, e);
    if (!c)
        render_write(&g->line, buf_str(&g->prompt.text), g->prompt.tokens.id, g->prompt.tokens.n);
    return c;
}

/* The tokens to score; BOS is in front where the model adds one. */
static enum err_code score_tokens(struct gen *g, const struct tokenizer *t, struct err *e)
{
    struct token_list *list = &g->prompt.tokens;
    enum err_code c = g->req.tokens ? take_ids(g, e)
                                    : tokenizer_encode(t, g->req.content, false, true, list, e);
    int32_t bos = tokenizer_bos(t);
    bool add = tokenizer_adds_bos(t) && bos != TOKEN_NONE && !g->req.tokens;
    if (c || !add || (list->n && list->id[0] == bos))
        return c;
    if (!mem_grow(&list->id, &list->cap, list->n + 1, sizeof *list->id, SIZE_MAX / 8))
        return err_no_memory(e, sizeof *list->id, "tokens");
    memmove(list->id + 1, list->id, list->n * sizeof *list->id);
    list->id[0] = bos;
    list->n++;
    return ERR_OK;
}

void words_work(struct job *j)
{
    struct gen *g = (struct gen *)(void *)((char *)j - offsetof(struct gen, job));
    const struct words *w = lookup_words(&g->lookup);
    const struct tokenizer *t = words_tokenizer(w);
    if (!t)
        prompt_no_tokenizer(w, &g->err);
    else if (g->kind == GEN_TOKENIZE)
        gen_failed(g, tokenize(g, t, &g->err));
    else if (g->kind == GEN_DETOKENIZE)
        gen_failed(g, detokenize(g, t, &g->err));
    else if (g->kind == GEN_RENDER)
        gen_failed(g, render(g, &g->err));
    else
        gen_failed(g, score_tokens(g, t, &g->err));
}

void words_reply(struct gen *g)
{
    gen_reply_line(g, 200);
}

/* ---- score ------------------------------------------------------------------------------------------ */

static void score_reply(struct gen *g)
{
    score_write(&g->line, g->prompt.tokens.id, g->scores, g->prompt.tokens.n);
    gen_reply_line(g, 200);
}

enum err_code score_submit(struct gen *g, size_t at, size_t n, void (*notify)(struct run *),
                           struct err *e)
{
    struct gen_choice *first = &g->choice[0];
    enum err_code c = gen_run_init(first, e);
    if (c)
        return c;
    struct run *r = &first->run;
    r->model = g->resident->model;
    r->kind = TURN_SCORE;
    r->tokens = g->prompt.tokens.id + at;
    r->n_tokens = n;
    r->sampling = sampling_default();
    r->scores = g->scores + at;
    r->tops = g->score_tops;
    r->n_top = g->score_tops ? g->req.top_logprobs : 0;
    r->notify = notify;
    return gen_submit_run(first, e);
}

enum err_code score_room(struct gen *g, struct err *e)
{
    size_t n = g->prompt.tokens.n;
    g->scores = mem_zero(n, sizeof *g->scores);
    if (!g->scores)
        return err_no_memory(e, n * sizeof *g->scores, "log-probabilities");
    for (size_t i = 0; i < n; i++)
        g->scores[i] = NAN; /* null in JSON: the first token of a window has none */
    return ERR_OK;
}

static void on_score(struct run *r);

/* Begins the next window, or replies when there is none. A window of one token has nothing to
 * score. Where the model adds a BOS, it stands in the place of a later window's first token while
 * that is computed, as llama.cpp's perplexity has it. */
static void next_window(struct gen *g)
{
    struct token_list *t = &g->prompt.tokens;
    size_t window = g->req.window ? g->req.window : t->n;
    while (g->window_at < t->n && t->n - g->window_at < 2)
        g->window_at++;
    if (g->window_at >= t->n) {
        score_reply(g);
        return;
    }
    g->window_n = t->n - g->window_at < window ? t->n - g->window_at : window;
    const struct tokenizer *tk = words_tokenizer(lookup_words(&g->lookup));
    int32_t *first = &t->id[g->window_at];
    g->window_first = *first;
    if (g->req.window && tokenizer_adds_bos(tk) && tokenizer_bos(tk) != TOKEN_NONE)
        *first = tokenizer_bos(tk);
    if (gen_failed(g, score_submit(g, g->window_at, g->window_n, on_score, &g->err)))
        gen_fail(g);
}

static void on_score(struct run *r)
{
    struct gen *g = ((struct gen_choice *)r->user)->g;
    if (!run_ended(r))
        return;
    g->wait = WAIT_NOTHING;
    g->prompt.tokens.id[g->window_at] = g->window_first;
    if (g->gone)
        g->err = g->stop;
    else
        g->err = r->err;
    if (g->err.code) {
        gen_fail(g);
        return;
    }
    g->window_at += g->window_n;
    next_window(g);
}

void score_begin(struct gen *g)
{
    size_t n = g->prompt.tokens.n, window = g->req.window ? g->req.window : n;
    if (window > n)
        window = n;
    if (window > g->resident->n_ctx) {
        err_set(&g->err, ERR_INVALID,
                "%zu tokens are to be scored in one window and the context has %u: give a smaller "
                "\"window\"",
                window, g->resident->n_ctx);
        gen_fail(g);
        return;
    }
    if (gen_failed(g, score_room(g, &g->err)))
        gen_fail(g);
    else
        next_window(g);
}
