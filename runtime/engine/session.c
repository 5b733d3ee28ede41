#include "runtime/engine/engine.h"

#include <math.h>
#include <string.h>

enum err_code session_create(struct model *m, struct session **out, struct err *e)
{
    *out = NULL;
    for (uint32_t i = 0; i < m->plan->n_seq; i++) {
        struct session *s = &m->sessions[i];
        if (s->used)
            continue;
        int32_t *tokens = s->tokens;
        *s = (struct session){ .m = m, .slot = i, .used = true, .tokens = tokens };
        *out = s;
        return ERR_OK;
    }
    return err_set(e, ERR_BUSY, "all %u sequences of the model are in use", m->plan->n_seq);
}

void session_destroy(struct session *s)
{
    if (!s)
        return;
    kv_truncate(&s->m->kv, s->slot, &s->n_pages, 0);
    s->used = s->active = false;
}

static enum err_code check_turn(const struct session *s, const struct turn *t, struct err *e)
{
    const struct plan *p = s->m->plan;
    if (t->n_tokens == 0)
        return err_set(e, ERR_INVALID, "a prompt needs at least one token");
    if (t->n_tokens > p->n_ctx)
        return err_set(e, ERR_TOO_LARGE, "the prompt has %zu tokens; the context holds %u", t->n_tokens,
                       p->n_ctx);
    if (t->n_top > 20)
        return err_set(e, ERR_INVALID, "%u most likely tokens wanted; at most 20 are given", t->n_top);
    for (size_t i = 0; i < t->n_tokens; i++)
        if (t->tokens[i] < 0 || (uint32_t)t->tokens[i] >= s->m->hp.n_vocab)
            return err_set(e, ERR_INVALID, "token %d at %zu is not of this vocabulary of %u",
                           t->tokens[i], i, s->m->hp.n_vocab);
    return ERR_OK;
}

enum err_code session_begin(struct session *s, const struct turn *t, uint32_t *n_cached, struct err *e)
{
    enum err_code code = check_turn(s, t, e);
    if (code != ERR_OK)
        return code;
    uint32_t keep = 0, n = (uint32_t)t->n_tokens, most = n - 1; /* the last row gives the logits */
    if (t->kind == TURN_SCORE)
        most = 0;
    while (keep < most && keep < s->n_held && s->tokens[keep] == t->tokens[keep])
        keep++;
    memcpy(s->tokens, t->tokens, n * sizeof *t->tokens);
    kv_truncate(&s->m->kv, s->slot, &s->n_pages, keep);
    s->n_held = keep;
    s->n_tokens = n;
    s->turn = *t;
    s->turn.tokens = NULL;
    s->n_made = 0;
    s->active = t->kind == TURN_GENERATE || n > 1;
    if (n_cached)
        *n_cached = keep;
    return ERR_OK;
}

void session_stop(struct session *s)
{
    s->active = false;
}

bool session_active(const struct session *s)
{
    return s->active;
}

uint32_t session_n_tokens(const struct session *s)
{
    return s->n_held;
}

uint32_t session_pending(const struct session *s)
{
    return s->active ? s->n_tokens - s->n_held : 0;
}

bool session_wants_logits(const struct session *s, uint32_t index)
{
    bool last = index + 1 == s->n_tokens;
    return s->turn.kind == TURN_SCORE ? !last : last;
}

static void describe(const struct session *s, const float *logits, struct event *ev)
{
    uint32_t n_vocab = s->m->hp.n_vocab;
    ev->logits = s->turn.want_logits ? logits : NULL;
    ev->logprob = NAN;
    if (s->turn.kind == TURN_GENERATE && !s->turn.want_logprob && s->turn.n_top == 0)
        return;
    double z = sampler_log_sum(logits, n_vocab);
    ev->logprob = (float)((double)logits[ev->token] - z);
    ev->n_top = s->turn.n_top < n_vocab ? s->turn.n_top : n_vocab;
    sampler_top(logits, n_vocab, ev->n_top, ev->top_token);
    for (uint32_t i = 0; i < ev->n_top; i++)
        ev->top_logprob[i] = (float)((double)logits[ev->top_token[i]] - z);
}

static bool is_end(const struct session *s, int32_t token)
{
    const struct words *w = s->turn.words;
    return w && !s->turn.ignore_eog && words_tokenizer(w) &&
           tokenizer_is_eog(words_tokenizer(w), token);
}

/* Puts the sampled token on the timeline and says whether the turn is over. */
static enum finish grow(struct session *s, int32_t token)
{
    s->n_made++;
    if (is_end(s, token))
        return FINISH_STOP;
    if (s->n_tokens == s->m->plan->n_ctx)
        return FINISH_LENGTH;
    s->tokens[s->n_tokens++] = token;
    return s->turn.max_tokens && s->n_made >= s->turn.max_tokens ? FINISH_LENGTH : FINISH_NONE;
}

void session_take(struct session *s, uint32_t index, const float *logits, struct event *ev)
{
    *ev = (struct event){ .session = s, .user = s->turn.user, .position = index + 1 };
    if (s->turn.kind == TURN_SCORE) {
        ev->kind = EVENT_SCORE;
        ev->token = s->tokens[index + 1];
        ev->finish = index + 2 == s->n_tokens ? FINISH_STOP : FINISH_NONE;
    } else {
        ev->kind = EVENT_TOKEN;
        ev->token = sampler_pick(&s->m->sampler, logits, &s->turn.sampling, s->tokens, s->n_tokens,
                                 index + 1);
        ev->finish = grow(s, ev->token);
    }
    describe(s, logits, ev);
    if (ev->finish != FINISH_NONE)
        s->active = false;
}
