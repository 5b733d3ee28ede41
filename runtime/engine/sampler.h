/* One row of logits -> one token.
 *
 * Order: penalties on the logits of tokens seen in the last repeat_last_n (repetition: Keskar et al. 2019,
 * positive logits divided, negative ones multiplied; frequency times count; presence once); top-k; top-p
 * (Holtzman et al. 2020: the shortest prefix of the sorted candidates whose probability reaches top_p);
 * min-p (candidates of at least min_p times the best one's probability); temperature; draw. top-p and
 * min-p look at probabilities before temperature. Temperature 0 or below: the best logit after penalties,
 * ties to the lower id. NaN counts as minus infinity. The random number is a function of seed and position
 * alone (splitmix64), so that a draw can be repeated.
 *
 * Thread: one at a time for a sampler. Cost: no allocation after sampler_init. */
#ifndef HEARTH_ENGINE_SAMPLER_H
#define HEARTH_ENGINE_SAMPLER_H

#include "runtime/base/err.h"
#include "runtime/engine/runtime.h"

struct candidate {
    float logit;
    int32_t id;
};
struct sampler {
    uint32_t n_vocab;
    struct candidate *heap; /* [n_vocab] */
    float *work;            /* [n_vocab]: logits after penalties */
    uint16_t *count;        /* [n_vocab]: all zero between calls */
};

enum err_code sampler_init(struct sampler *s, uint32_t n_vocab, struct err *e);
void sampler_finish(struct sampler *s);

/* recent: the timeline so far, newest last. */
int32_t sampler_pick(struct sampler *s, const float *logits, const struct sampling *how,
                     const int32_t *recent, size_t n_recent, uint32_t position);

/* log of the sum of exp(logits): logits[i] - this is token i's log-probability. */
double sampler_log_sum(const float *logits, uint32_t n);

/* The n most likely tokens, best first, ties to the lower id; n <= 20. */
void sampler_top(const float *logits, uint32_t n_vocab, uint32_t n, int32_t *ids);

#endif
