/* A turn: from a row of logits to events. */
#include <math.h>

#include "runtime/base/mem.h"
#include "runtime/engine/engine.h"
#include "runtime/text/constraint.h"

void session_end_turn(struct session *s)
{
    phrases_finish(&s->breakers);
    s->breakers = (struct phrases){ 0 };
    hold_destroy(s->hold);
    s->hold = NULL;
    s->mask = NULL;
    s->paused = false;
}

/* Sequence breakers are looked for where dry looks. */
static void find_breaker(struct session *s)
{
    int32_t last_n = s->turn.sampling.dry_penalty_last_n;
    size_t n = last_n < 0 || (uint32_t)last_n > s->n_tokens ? s->n_tokens : (size_t)last_n;
    s->unbroken = s->breakers.n ? phrases_since(&s->breakers, s->tokens + s->n_tokens - n, n) : s->n_tokens;
}

enum err_code session_begin_turn(struct session *s, const struct turn *t, struct err *e)
{
    const struct tokenizer *words = t->words ? words_tokenizer(t->words) : NULL;
    const struct sampling *how = &t->sampling;
    session_end_turn(s);
    s->active = false;
    s->turn = *t;
    s->turn.tokens = NULL;
    s->n_made = 0;
    s->mu = 2 * (double)how->mirostat_tau;
    if (how->dry_multiplier != 0 && how->n_dry_breaker > 0)
        phrases_init(&s->breakers, words, how->dry_breaker, how->n_dry_breaker);
    find_breaker(s);
    return t->n_phrase ? hold_create(&s->hold, words, t->phrase, t->n_phrase, e) : ERR_OK;
}

/* ---- what may come -------------------------------------------------------------------------------- */

static uint32_t left(const struct session *s)
{
    uint32_t room = s->m->plan->n_ctx - s->n_tokens + 1, most = s->turn.max_tokens;
    return most && most - s->n_made < room ? most - s->n_made : room;
}

void session_constrain(struct session *s)
{
    s->mask = NULL;
    err_clear(&s->err);
    if (s->turn.kind == TURN_GENERATE && s->turn.constraint)
        s->err.code = constraint_mask(s->turn.constraint, left(s), &s->mask, &s->err);
}

static bool breaks(void *user, int32_t token)
{
    struct session *s = user;
    return s->breakers.n && phrases_in_token(&s->breakers, token);
}

static int32_t pick(struct session *s, uint32_t index, float *logits)
{
    const struct turn *t = &s->turn;
    struct sampler_input in = {
        .logits = logits,
        .mask = s->mask,
        .n_mask = s->mask ? constraint_mask_words(t->constraint) : 0,
        .ban = { { t->ban, t->n_ban } },
        .recent = s->tokens,
        .n_recent = s->n_tokens,
        .position = index + 1,
        .unbroken = s->unbroken,
        .breaks = breaks,
        .user = s,
        .mu = &s->mu,
    };
    bool early = s->n_made < t->min_tokens;
    if (early)
        in.ban[1] = (struct token_ids){ t->stop, t->n_stop };
    if (t->words && (early || t->ignore_eog))
        in.ban[2].id = words_eog(t->words, &in.ban[2].n);
    if (s->hold)
        in.ban[3] = (struct token_ids){ s->hold->here, hold_banned(s->hold, index + 1) };
    return sampler_pick(&s->m->sampler, &t->sampling, &in);
}

static bool is_end(const struct session *s, int32_t token)
{
    const struct words *w = s->turn.words;
    for (size_t i = 0; i < s->turn.n_stop; i++)
        if (s->turn.stop[i] == token)
            return true;
    return w && words_tokenizer(w) && tokenizer_is_eog(words_tokenizer(w), token);
}

/* ---- banned phrases ------------------------------------------------------------------------------- */

/* The timeline ends before the i-th token that is held back, whose row is computed again. */
static void roll_back(struct session *s, uint32_t i)
{
    uint32_t position = s->hold->event[i].position;
    s->mu = s->hold->mu[i];
    s->n_made -= s->hold->n - i;
    hold_back_to(s->hold, i, position);
    s->n_tokens = position;
    session_keep(s, position - 1);
    find_breaker(s);
}

static bool is_banned(struct hold *h, uint32_t position, int32_t token)
{
    size_t n = hold_banned(h, position);
    while (n > 0 && h->here[n - 1] != token)
        n--;
    return n > 0;
}

enum verdict { TAKE, AGAIN, BACK, NO_WAY };

/* A constraint hears tokens once and cannot go back: there, and where the phrase's first token is out already,
 * the last one is banned instead. */
static enum verdict judge(struct session *s, uint32_t position, int32_t token)
{
    struct hold *h = s->hold;
    int at = h && !is_end(s, token) ? hold_check(h, token) : HOLD_CLEAN;
    if (at == HOLD_CLEAN)
        return TAKE;
    if ((uint32_t)at == h->n || s->turn.constraint)
        return !is_banned(h, position, token) && hold_ban(h, position, token) ? AGAIN : NO_WAY;
    struct event first = h->event[at];
    roll_back(s, (uint32_t)at);
    return hold_ban(h, first.position, first.token) ? BACK : NO_WAY;
}

/* ---- events ---------------------------------------------------------------------------------------- */

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

/* Puts the sampled token on the timeline and says whether the turn is over. */
static enum finish grow(struct session *s, int32_t token)
{
    struct constraint *c = s->turn.constraint;
    s->n_made++;
    if (is_end(s, token))
        return FINISH_STOP;
    if (c && (s->err.code = constraint_accept(c, token, &s->err)))
        return FINISH_FAILED;
    if (s->n_tokens == s->m->plan->n_ctx)
        return FINISH_LENGTH;
    s->tokens[s->n_tokens++] = token;
    s->unbroken = s->breakers.n && phrases_end(&s->breakers, s->tokens, s->n_tokens) ? 0 : s->unbroken + 1;
    return s->turn.max_tokens && s->n_made >= s->turn.max_tokens ? FINISH_LENGTH : FINISH_NONE;
}

/* What goes out of what is held, and the event or, while it may begin a phrase, not yet. */
static size_t let_out(struct session *s, const struct event *ev, double mu, struct event *out)
{
    size_t n = 0;
    bool last = ev->finish != FINISH_NONE;
    if (s->hold && !last)
        hold_push(s->hold, ev, mu);
    if (s->hold)
        n = hold_release(s->hold, last, out);
    if (!s->hold || last)
        out[n++] = *ev;
    if (last)
        s->active = false;
    return n;
}

static size_t fail(struct session *s, struct event *ev, struct event *out)
{
    ev->token = TOKEN_NONE;
    ev->finish = FINISH_FAILED;
    ev->err = &s->err;
    ev->logprob = NAN;
    return let_out(s, ev, s->mu, out);
}

static size_t end_by_constraint(struct session *s, struct event *ev, struct event *out)
{
    if (!constraint_done(s->turn.constraint))
        return fail(s, ev, out);
    ev->token = TOKEN_NONE;
    ev->finish = FINISH_STOP;
    ev->logprob = NAN;
    return let_out(s, ev, s->mu, out);
}

static size_t take_token(struct session *s, uint32_t index, float *logits, struct event *ev, struct event *out)
{
    enum verdict v = AGAIN;
    double mu = s->mu;
    if (s->turn.constraint && !s->mask)
        return end_by_constraint(s, ev, out);
    while (v == AGAIN) {
        s->mu = mu;
        ev->token = pick(s, index, logits);
        v = judge(s, index + 1, ev->token);
    }
    if (v == BACK)
        return 0;
    if (v == NO_WAY) {
        err_set(&s->err, ERR_INVALID, "no way around the banned phrases was found in %d tries", HOLD_BANS);
        return fail(s, ev, out);
    }
    ev->finish = grow(s, ev->token);
    if (ev->finish == FINISH_FAILED)
        return fail(s, ev, out);
    describe(s, logits, ev);
    return let_out(s, ev, mu, out);
}

size_t session_take(struct session *s, uint32_t index, float *logits, struct event *out)
{
    struct event ev = { .session = s, .user = s->turn.user, .position = index + 1 };
    if (s->turn.kind == TURN_GENERATE) {
        ev.kind = EVENT_TOKEN;
        return take_token(s, index, logits, &ev, out);
    }
    ev.kind = EVENT_SCORE;
    ev.token = s->tokens[index + 1];
    ev.finish = index + 2 == s->n_tokens ? FINISH_STOP : FINISH_NONE;
    describe(s, logits, &ev);
    *out = ev;
    if (ev.finish != FINISH_NONE)
        s->active = false;
    return 1;
}
