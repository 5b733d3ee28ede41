#include "runtime/engine/sampler_priv.h"

/* ---- penalties: logits of tokens that were there ----------------------------------------------------- */

/* What becomes of the logit of a token with this count; `how` may be asked. */
typedef double (*adjust_fn)(const struct sampling *how, uint32_t count, double logit);

static float adjusted(const struct list *l, adjust_fn f, int32_t id, float logit)
{
    return (float)(f(l->how, l->s->count[id], (double)logit * l->scale) / l->scale);
}

/* Adjusts the tokens among the newest n whose count is not zero, and zeroes the counts. */
static void adjust(struct list *l, size_t n, adjust_fn f)
{
    const int32_t *from = l->in->recent + (l->in->n_recent - n);
    uint16_t *count = l->s->count;
    for (uint32_t i = 0; i < l->n && !l->whole; i++)
        if (count[l->c[i].id])
            l->c[i].logit = adjusted(l, f, l->c[i].id, l->c[i].logit);
    for (size_t i = 0; i < n; i++) {
        int32_t id = from[i];
        if (l->whole && count[id])
            row_edit(l->s, l->in->logits, id, adjusted(l, f, id, l->in->logits[id]));
        count[id] = 0;
    }
    l->sorted = false;
}

static size_t window(const struct list *l, int32_t last_n)
{
    return last_n < 0 || (size_t)last_n > l->in->n_recent ? l->in->n_recent : (size_t)last_n;
}

static double penalise(const struct sampling *how, uint32_t count, double logit)
{
    double repeat = (double)how->repeat_penalty;
    logit = logit > 0 ? logit / repeat : logit * repeat;
    return logit - (double)how->frequency_penalty * count - (double)how->presence_penalty;
}

static void penalties(struct list *l)
{
    const struct sampling *how = l->how;
    size_t n = window(l, how->repeat_last_n);
    if (how->repeat_penalty == 1 && how->presence_penalty == 0 && how->frequency_penalty == 0)
        return;
    for (size_t i = l->in->n_recent - n; i < l->in->n_recent; i++) {
        uint16_t *count = &l->s->count[l->in->recent[i]];
        *count = (uint16_t)(*count + (*count < UINT16_MAX));
    }
    adjust(l, n, penalise);
}

/* ---- dry ------------------------------------------------------------------------------------------------ */

static double dry_penalise(const struct sampling *how, uint32_t len, double logit)
{
    double more = (double)len - how->dry_allowed_length;
    return logit - fmin((double)how->dry_multiplier * pow((double)how->dry_base, more), 1e30);
}

/* match[k]: how many of the newest tokens stand k before the end too. The Z function of the reversed timeline
 * (Gusfield 1997): linear. */
static void find_matches(const int32_t *newest, uint32_t n, uint32_t *match)
{
    uint32_t from = 0, to = 0; /* [from, to): the match that reaches furthest back */
    for (uint32_t k = 1; k < n; k++) {
        uint32_t known = k < to ? to - k : 0, len = known && match[k - from] < known ? match[k - from] : known;
        while (k + len < n && newest[-(ptrdiff_t)len] == newest[-(ptrdiff_t)(k + len)])
            len++;
        if (k + len > to) {
            from = k;
            to = k + len;
        }
        match[k] = len;
    }
}

static void dry(struct list *l)
{
    const struct sampling *how = l->how;
    const struct sampler_input *in = l->in;
    size_t n = window(l, how->dry_penalty_last_n);
    uint32_t most = (uint32_t)(in->unbroken < n ? in->unbroken : n), least = (uint32_t)how->dry_allowed_length;
    if (how->dry_multiplier == 0 || how->dry_base < 1 || n > l->s->n_ctx || n <= least || most < least)
        return;
    const int32_t *newest = in->recent + in->n_recent - 1;
    find_matches(newest, (uint32_t)n, l->s->match);
    for (uint32_t k = 1; k < n; k++) {
        uint32_t len = l->s->match[k] < most ? l->s->match[k] : most;
        int32_t next = newest[1 - (ptrdiff_t)k];
        uint16_t *count = &l->s->count[next];
        len = len < UINT16_MAX ? len : UINT16_MAX;
        if (len >= least && len > *count && !(in->breaks && in->breaks(in->user, next)))
            *count = (uint16_t)len;
    }
    adjust(l, n, dry_penalise);
}

/* ---- fewer candidates ----------------------------------------------------------------------------------- */

static void top_n_sigma(struct list *l)
{
    double sum = 0, squares = 0;
    if (!(l->how->top_n_sigma > 0))
        return;
    list_all(l);
    for (uint32_t i = 0; i < l->n; i++)
        sum += (double)l->c[i].logit;
    double mean = sum / l->n;
    for (uint32_t i = 0; i < l->n; i++)
        squares += ((double)l->c[i].logit - mean) * ((double)l->c[i].logit - mean);
    list_above(l, (double)list_best(l) - (double)l->how->top_n_sigma * sqrt(squares / l->n));
}

static void top_k(struct list *l)
{
    if (l->how->top_k > 0 && (uint32_t)l->how->top_k < l->s->n_vocab)
        list_top(l, (uint32_t)l->how->top_k);
}

/* Mean surprise less log of the total: what lies this much below the best is of mean surprise. */
static double entropy_below_best(const struct list *l, float best, double total)
{
    double sum = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        double x = ((double)l->c[i].logit - (double)best) * l->scale;
        sum -= (double)list_weight(l, best, i) * x;
    }
    return sum / total;
}

static void typical_p(struct list *l)
{
    if (!(l->how->typical_p < 1))
        return;
    list_all(l);
    float best = list_best(l);
    double below = entropy_below_best(l, best, list_total(l, best));
    list_nearest(l, (double)best - below / l->scale, (double)l->how->typical_p, true);
}

static void top_p(struct list *l)
{
    if (!(l->how->top_p < 1))
        return;
    list_all(l);
    list_nearest(l, (double)list_best(l), (double)l->how->top_p, false);
}

static void min_p(struct list *l)
{
    if (l->how->min_p > 0)
        list_above(l, (double)list_best(l) + log((double)l->how->min_p) / l->scale);
}

static bool worse(struct candidate a, struct candidate b)
{
    return a.logit < b.logit || (a.logit == b.logit && a.id > b.id);
}

static void xtc(struct list *l)
{
    const struct sampling *how = l->how;
    if (!(how->xtc_probability > 0) || how->xtc_threshold > 0.5f ||
        sampler_random(how->seed, l->in->position, RANDOM_XTC) >= (double)how->xtc_probability)
        return;
    list_all(l);
    float best = list_best(l);
    double limit = (double)how->xtc_threshold * list_total(l, best);
    struct candidate least = { INFINITY, -1 };
    for (uint32_t i = 0; i < l->n; i++)
        if ((double)list_weight(l, best, i) >= limit && worse(l->c[i], least))
            least = l->c[i];
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if (!worse(least, l->c[i]))
            l->c[n++] = l->c[i];
    l->n = n;
}

/* ---- temperature ---------------------------------------------------------------------------------------- */

static double dynamic_temperature(struct list *l)
{
    double t = (double)l->how->temperature, range = (double)l->how->dynatemp_range;
    if (!(range > 0))
        return t;
    list_all(l);
    if (l->n < 2)
        return t;
    float best = list_best(l);
    double total = list_total(l, best), entropy = entropy_below_best(l, best, total) + log(total);
    double share = fmin(fmax(entropy / log(l->n), 0), 1), low = fmax(0, t - range);
    return low + (t + range - low) * pow(share, (double)l->how->dynatemp_exponent);
}

#define COLDEST 1e-6 /* below it the best candidate alone is left */

static void temperature(struct list *l)
{
    double t = dynamic_temperature(l);
    if (t >= COLDEST)
        l->scale /= t;
    else
        list_only_best(l);
}

/* ---- the chain --------------------------------------------------------------------------------------------- */

static void (*const samplers[SAMPLERS])(struct list *) = {
    [SAMPLER_PENALTIES] = penalties,
    [SAMPLER_DRY] = dry,
    [SAMPLER_TOP_N_SIGMA] = top_n_sigma,
    [SAMPLER_TOP_K] = top_k,
    [SAMPLER_TYPICAL_P] = typical_p,
    [SAMPLER_TOP_P] = top_p,
    [SAMPLER_MIN_P] = min_p,
    [SAMPLER_XTC] = xtc,
    [SAMPLER_TEMPERATURE] = temperature,
};

void chain_run(struct list *l)
{
    for (uint32_t i = 0; i < l->how->n_chain; i++)
        samplers[l->how->chain[i]](l);
}

static bool in_chain(const struct sampling *how, enum sampler_kind k)
{
    return memchr(how->chain, (int)k, how->n_chain) != NULL;
}

void chain_edits(struct list *l)
{
    for (uint32_t i = 0; i < l->how->n_chain; i++)
        if (l->how->chain[i] == SAMPLER_PENALTIES || l->how->chain[i] == SAMPLER_DRY)
            samplers[l->how->chain[i]](l);
}

/* ---- mirostat ------------------------------------------------------------------------------------------------ */

#define ZIPF_TOKENS 100 /* of the best, from which version 1 estimates Zipf's exponent */

static double mirostat_k(const struct list *l, double mu)
{
    double tb = 0, tt = 0;
    for (uint32_t i = 0; i + 1 < l->n && i + 1 < ZIPF_TOKENS; i++) {
        double t = log((double)(i + 2) / (i + 1));
        tb += t * ((double)l->c[i].logit - (double)l->c[i + 1].logit) * l->scale;
        tt += t * t;
    }
    double s = tb / tt, epsilon = s - 1;
    return pow(epsilon * exp2(mu) / (1 - pow(l->s->n_vocab, -epsilon)), 1 / s);
}

static void mirostat_1(struct list *l, double mu)
{
    uint32_t all = l->n;
    list_top(l, ZIPF_TOKENS);
    double k = mirostat_k(l, mu);
    uint32_t keep = !(k >= 1) ? 1 : k < all ? (uint32_t)k : all;
    l->n = all; /* what list_top left behind is there still */
    l->sorted = all <= ZIPF_TOKENS;
    list_top(l, keep);
}

static void mirostat_2(struct list *l, double mu)
{
    float best = list_best(l);
    double limit = (log(list_total(l, best)) - mu * 0.69314718055994530942) / l->scale;
    list_above(l, (double)best + fmin(limit, 0));
}

void chain_mirostat(struct list *l)
{
    double mu = l->in->mu ? *l->in->mu : 2 * (double)l->how->mirostat_tau;
    chain_edits(l);
    if (in_chain(l->how, SAMPLER_TEMPERATURE))
        temperature(l);
    list_all(l);
    if (l->how->mirostat == 1)
        mirostat_1(l, mu);
    else
        mirostat_2(l, mu);
}
