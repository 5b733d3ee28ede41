/* "echo": the prompt as the beginning of the answer, as OpenAI's completions have it. With
 * log-probabilities asked for, the prompt is scored first, in a run of its own; the answer's run
 * then finds it in the cache. */
#include <math.h>

#include "daemon/gen.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define TOKENS_A_LINE 256

static void on_scored(struct run *r)
{
    struct gen *g = ((struct gen_choice *)r->user)->g;
    if (!run_ended(r))
        return;
    g->wait = WAIT_NOTHING;
    g->echo_ns = r->last_ns - r->begun_ns;
    g->err = g->gone ? g->stop : r->err;
    if (g->err.code)
        gen_fail(g);
    else
        g->scored(g);
}

enum err_code echo_score(struct gen *g, void (*scored)(struct gen *g), struct err *e)
{
    size_t n = g->prompt.tokens.n;
    enum err_code c = score_room(g, e);
    if (c)
        return c;
    if (g->req.top_logprobs) {
        g->score_tops = mem_zero(n * g->req.top_logprobs, sizeof *g->score_tops);
        if (!g->score_tops)
            return err_no_memory(e, n * sizeof *g->score_tops, "log-probabilities");
    }
    g->scored = scored;
    if (n > 1)
        return score_submit(g, 0, n, on_scored, e);
    scored(g);
    return ERR_OK;
}

enum err_code echo_put(struct gen_choice *c, struct err *e)
{
    const struct gen *g = c->g;
    const struct token_list *t = &g->prompt.tokens;
    uint32_t n_top = g->score_tops ? g->req.top_logprobs : 0;
    buf_put(&c->stream.text, g->prompt.text.n ? g->prompt.text.p : "", g->prompt.text.n);
    for (size_t i = 0; g->scores && i < t->n; i++) {
        struct logprob_of of = {
            .token = t->id[i],
            .logprob = g->scores[i],
            .top = n_top ? g->score_tops + i * n_top : NULL,
            .n_top = i ? n_top : 0, /* nothing comes before the first */
        };
        enum err_code code = output_add_logprobs(c, &of, e);
        if (code)
            return code;
        if (c->n_logprobs == TOKENS_A_LINE && g->req.stream)
            output_pass_on(c);
    }
    output_pass_on(c);
    return g->err.code;
}
