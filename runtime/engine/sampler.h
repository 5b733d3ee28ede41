/* One row of logits -> one token.
 *
 * In this order: logit bias and bans; then the chain, in the order that the sampling gives (sampling.c has the
 * names and the usual order), each sampler over what those before it have left; then the draw. The chain is a
 * table, a row a sampler (sampler_chain.c). Sources, where they differ in detail the rule that stands here:
 *
 *   penalties    tokens of the last repeat_last_n. Repetition (Keskar et al. 2019): positive logits divided,
 *                others multiplied; then less frequency times count, less presence
 *   dry          "don't repeat yourself": a token that would go on with a repetition of len tokens, len at least
 *                dry_allowed_length, loses dry_multiplier * dry_base^(len - allowed). A repetition does not reach
 *                back over a sequence breaker, and a token that holds one loses nothing
 *   top_n_sigma  (Tang et al. 2024) logits of at least the best one less n standard deviations
 *   top_k        the k best
 *   typ_p        (Meister et al. 2022) those whose surprise is nearest to the entropy, until their probability
 *                exceeds typical_p
 *   top_p        (Holtzman et al. 2020) the best, until their probability reaches top_p
 *   min_p        probability of at least min_p times the best one's
 *   xtc          with probability xtc_probability, of those of at least xtc_threshold all but the least
 *   temperature  divides logits; with a range r it is between t - r and t + r, by the entropy's share of its
 *                maximum to the power of the exponent
 *
 * Probabilities are of what is left at that place of the chain, by the temperature if it came before. At least
 * one candidate always stays. Ties go to the lower id. Minus infinity and NaN are never drawn while anything
 * else is there; where nothing is, the lowest token that the mask allows.
 *
 * temperature 0 or below: the best logit after bias, bans, penalties and dry; the rest of the chain has no say.
 * mirostat (Basu et al. 2021) 1 and 2 take the place of the truncating samplers: penalties, dry and temperature,
 * then the cut by mu, which follows the surprise of what was drawn.
 *
 * Random numbers are a function of seed, position and purpose alone (splitmix64), so that a draw can be
 * repeated.
 *
 * Thread: one at a time for a sampler. Cost: no allocation after sampler_init, no copy of the row: it is
 * edited and put back. */
#ifndef HEARTH_ENGINE_SAMPLER_H
#define HEARTH_ENGINE_SAMPLER_H

#include "runtime/base/err.h"
#include "runtime/engine/runtime.h"

struct candidate {
    float logit;
    int32_t id;
};
struct sampler {
    uint32_t n_vocab, n_ctx;
    struct candidate *list;    /* [n_vocab] */
    struct candidate *scratch; /* [n_vocab] */
    struct candidate *undo;    /* [n_vocab]: edited logits as they were; [n_undo] */
    uint32_t n_undo;
    uint32_t *edited;          /* [n_vocab / 32 + 1]: bits of those in undo; zero between calls */
    uint16_t *count;           /* [n_vocab]: zero between calls */
    uint32_t *match;           /* [n_ctx]: lengths of repetitions */
};
/* n_ctx: the longest timeline. */
enum err_code sampler_init(struct sampler *s, uint32_t n_vocab, uint32_t n_ctx, struct err *e);
void sampler_finish(struct sampler *s);

struct token_ids {
    const int32_t *id;
    size_t n;
};
#define SAMPLER_BANS 4
struct sampler_input {
    float *logits;               /* [n_vocab]; after the call as before */
    const uint32_t *mask;        /* [n_mask] bit i % 32 of word i / 32: token i may come, tokens past it may
                                    not; NULL: all may. It wins over bans */
    size_t n_mask;
    struct token_ids ban[SAMPLER_BANS]; /* tokens that may not come */
    const int32_t *recent;       /* [n_recent] the timeline so far, newest last */
    size_t n_recent;
    uint32_t position;           /* that the token will have */
    size_t unbroken;             /* dry: newest tokens that no sequence breaker ends in */
    bool (*breaks)(void *user, int32_t token); /* dry: whether its text holds a breaker; NULL: none does */
    void *user;
    double *mu;                  /* mirostat's state, kept up to date: begins as 2 * mirostat_tau */
};
int32_t sampler_pick(struct sampler *s, const struct sampling *how, const struct sampler_input *in);

/* What the token is drawn from: candidates and logits whose softmax are their probabilities. Valid until the
 * next call. Mirostat: before the draw, so mu stays. */
uint32_t sampler_candidates(struct sampler *s, const struct sampling *how, const struct sampler_input *in,
                            const struct candidate **out);

enum random_use { RANDOM_DRAW, RANDOM_XTC };
double sampler_random(uint64_t seed, uint32_t position, enum random_use use); /* in [0, 1) */

/* log of the sum of exp(logits): logits[i] - this is token i's log-probability. */
double sampler_log_sum(const float *logits, uint32_t n);

/* The n most likely tokens, best first, ties to the lower id; n <= 20. */
void sampler_top(const float *logits, uint32_t n_vocab, uint32_t n, int32_t *ids);

#endif
