/* What the files of the sampler share: the list that the chain works on.
 *
 *   sampler.c        the row: edits, greedy, the draw; runs the chain
 *   sampler_list.c   candidates: from the row to a list, the k best, those nearest to a centre
 *   sampler_chain.c  the samplers, and the table of them
 *   sampling.c       names, orders, defaults, ranges */
#ifndef HEARTH_ENGINE_SAMPLER_PRIV_H
#define HEARTH_ENGINE_SAMPLER_PRIV_H

#include <math.h>
#include <string.h>

#include "runtime/engine/sampler.h"

/* What is left of the row. It begins as the whole row, without a list of it. */
struct list {
    struct sampler *s;
    const struct sampling *how;
    const struct sampler_input *in;
    struct candidate *c; /* [n] unless `whole` */
    uint32_t n;
    bool whole;
    bool sorted;         /* best first */
    double scale;        /* logits count times this: what temperature made of them */
};

/* exp(x) for x <= 0, within 2e-7 of itself: 2^n by the exponent bits times a polynomial on
 * [-ln2/2, ln2/2]; branch free, for vector code. */
static inline float exp_neg(float x)
{
    x = x > -87.0f ? x : -87.0f;
    float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to a whole number */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float two_n;
    memcpy(&two_n, &bits, sizeof two_n);
    return p * two_n;
}

/* sampler.c */
float row_max(const float *v, uint32_t n);
void row_edit(struct sampler *s, float *v, int32_t id, float logit); /* until the call ends */

/* sampler_list.c. A list that is made of a row has at least one candidate, none of them NaN or minus infinity
 * where the row has any other, and where there is plus infinity that one alone. */
float list_best(const struct list *l);              /* logit of the best, before scale */
void list_all(struct list *l);                      /* the row becomes a list */
void list_above(struct list *l, double limit);      /* those of at least this logit, before scale */
void list_top(struct list *l, uint32_t k);          /* the k best, sorted */
void list_only_best(struct list *l);
/* Those nearest to a logit, until their share of the probability reaches p (`beyond`: exceeds it). */
void list_nearest(struct list *l, double centre, double p, bool beyond);
/* exp of the scaled logit less the best one's. */
static inline float list_weight(const struct list *l, float best, uint32_t i)
{
    return exp_neg((float)(((double)l->c[i].logit - (double)best) * l->scale));
}
double list_total(const struct list *l, float best); /* sum of the weights */
int32_t list_draw(const struct list *l, double u, double *p);  /* *p: the probability that it had */

/* sampler_chain.c */
void chain_edits(struct list *l);  /* penalties and dry alone */
void chain_run(struct list *l);
void chain_mirostat(struct list *l);

#endif
