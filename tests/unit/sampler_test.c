/* sampler: every sampler, and chains of them, against a float64 reference that sorts everything and knows no
 * short cut; what is drawn against the probabilities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/engine/sampler.h"

#define MOST 5000
#define N_RECENT 200
#define CLOSE 2e-6 /* nearer to a limit than this, either side is right */

/* ---- numbers -------------------------------------------------------------------------------------- */

static uint64_t state;

static uint32_t next(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static double uniform(void)
{
    return (next() + 0.5) / 2147483648.0;
}

static float normal(void)
{
    return (float)(sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform()));
}

/* ---- the reference ---------------------------------------------------------------------------------- */

struct entry {
    double logit, p, key;
    int32_t id;
};
struct ref {
    struct entry *e;
    size_t n;
    bool unclear; /* a limit lies so near a value that rounding decides */
    const struct sampling *how;
    const struct sampler_input *in;
};

static int by_logit(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->id < y->id ? -1 : 1;
}

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->key != y->key ? (x->key < y->key ? -1 : 1) : by_logit(a, b);
}

static void softmax(struct ref *r)
{
    double sum = 0;
    qsort(r->e, r->n, sizeof *r->e, by_logit);
    for (size_t i = 0; i < r->n; i++)
        sum += r->e[i].p = exp(r->e[i].logit - r->e[0].logit);
    for (size_t i = 0; i < r->n; i++)
        r->e[i].p /= sum;
}

static double entropy(const struct ref *r)
{
    double h = 0;
    for (size_t i = 0; i < r->n; i++)
        h -= r->e[i].p > 0 ? r->e[i].p * log(r->e[i].p) : 0;
    return h;
}

static void keep_at_least(struct ref *r, double limit)
{
    size_t n = 0;
    softmax(r);
    for (size_t i = 0; i < r->n; i++) {
        r->unclear |= fabs(r->e[i].logit - limit) < CLOSE * (1 + fabs(limit));
        if (i == 0 || r->e[i].logit >= limit)
            r->e[n++] = r->e[i];
    }
    r->n = n;
}

static void keep_mass(struct ref *r, double p, bool beyond)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += r->e[i].p;
        r->unclear |= fabs(sum - p) < CLOSE;
        if (beyond ? sum > p : sum >= p) {
            r->unclear |= i + 1 < r->n && fabs(r->e[i + 1].key - r->e[i].key) < CLOSE && r->e[i + 1].id != r->e[i].id &&
                          r->e[i].logit != r->e[i + 1].logit;
            r->n = i + 1;
            return;
        }
    }
}

static void ref_penalties(struct ref *r)
{
    const struct sampling *h = r->how;
    size_t n = h->repeat_last_n < 0 || (size_t)h->repeat_last_n > r->in->n_recent ? r->in->n_recent
                                                                                  : (size_t)h->repeat_last_n;
    for (size_t i = 0; i < r->n; i++) {
        double count = 0, *v = &r->e[i].logit, repeat = (double)h->repeat_penalty;
        for (size_t k = r->in->n_recent - n; k < r->in->n_recent; k++)
            count += r->in->recent[k] == r->e[i].id;
        if (count > 0)
            *v = (*v > 0 ? *v / repeat : *v * repeat) - count * (double)h->frequency_penalty -
                 (double)h->presence_penalty;
    }
}

/* For every place where a token followed: how much of what is before it is what is at the end. */
static void ref_dry(struct ref *r)
{
    const struct sampling *h = r->how;
    const struct sampler_input *in = r->in;
    size_t n = h->dry_penalty_last_n < 0 || (size_t)h->dry_penalty_last_n > in->n_recent
                   ? in->n_recent
                   : (size_t)h->dry_penalty_last_n;
    const int32_t *t = in->recent + in->n_recent - n;
    if (h->dry_multiplier == 0 || n <= (size_t)h->dry_allowed_length)
        return;
    for (size_t i = 0; i < r->n; i++) {
        size_t longest = 0;
        for (size_t at = 1; at < n; at++) {
            size_t len = 0;
            while (t[at] == r->e[i].id && len < at && len < in->unbroken && t[at - 1 - len] == t[n - 1 - len])
                len++;
            longest = len > longest ? len : longest;
        }
        bool broken = in->breaks && in->breaks(in->user, r->e[i].id);
        if (!broken && longest >= (size_t)h->dry_allowed_length && longest > 0)
            r->e[i].logit -= (double)h->dry_multiplier *
                             pow((double)h->dry_base, (double)longest - h->dry_allowed_length);
    }
}

static void ref_top_n_sigma(struct ref *r)
{
    double mean = 0, squares = 0;
    softmax(r);
    if (!(r->how->top_n_sigma > 0))
        return;
    for (size_t i = 0; i < r->n; i++)
        mean += r->e[i].logit / (double)r->n;
    for (size_t i = 0; i < r->n; i++)
        squares += pow(r->e[i].logit - mean, 2) / (double)r->n;
    keep_at_least(r, r->e[0].logit - (double)r->how->top_n_sigma * sqrt(squares));
}

static void ref_top_k(struct ref *r)
{
    softmax(r);
    if (r->how->top_k > 0 && r->n > (size_t)r->how->top_k)
        r->n = (size_t)r->how->top_k;
}

static void ref_typical(struct ref *r)
{
    if (r->how->typical_p >= 1)
        return;
    softmax(r);
    double h = entropy(r);
    for (size_t i = 0; i < r->n; i++)
        r->e[i].key = fabs(-log(r->e[i].p) - h);
    qsort(r->e, r->n, sizeof *r->e, by_key);
    keep_mass(r, (double)r->how->typical_p, true);
}

static void ref_top_p(struct ref *r)
{
    softmax(r);
    for (size_t i = 0; i < r->n; i++)
        r->e[i].key = -r->e[i].logit;
    if (r->how->top_p < 1)
        keep_mass(r, (double)r->how->top_p, false);
}

static void ref_min_p(struct ref *r)
{
    softmax(r);
    if (r->how->min_p > 0)
        keep_at_least(r, r->e[0].logit + log((double)r->how->min_p));
}

static void ref_xtc(struct ref *r)
{
    const struct sampling *h = r->how;
    double u = sampler_random(h->seed, r->in->position, RANDOM_XTC);
    size_t last = 0;
    softmax(r);
    for (size_t i = 0; i < r->n; i++) {
        r->unclear |= fabs(r->e[i].p - (double)h->xtc_threshold) < CLOSE;
        if (r->e[i].p >= (double)h->xtc_threshold)
            last = i;
    }
    if (h->xtc_threshold <= 0.5f && u < (double)h->xtc_probability) {
        memmove(r->e, r->e + last, (r->n - last) * sizeof *r->e);
        r->n -= last;
    }
}

static void ref_temperature(struct ref *r)
{
    double t = (double)r->how->temperature, range = (double)r->how->dynatemp_range;
    softmax(r);
    if (range > 0 && r->n > 1) {
        double low = fmax(0, t - range);
        t = low + (t + range - low) * pow(entropy(r) / log((double)r->n), (double)r->how->dynatemp_exponent);
    }
    for (size_t i = 0; i < r->n; i++)
        r->e[i].logit /= t;
}

static void (*const ref_samplers[SAMPLERS])(struct ref *) = {
    [SAMPLER_PENALTIES] = ref_penalties, [SAMPLER_DRY] = ref_dry,         [SAMPLER_TOP_N_SIGMA] = ref_top_n_sigma,
    [SAMPLER_TOP_K] = ref_top_k,         [SAMPLER_TYPICAL_P] = ref_typical, [SAMPLER_TOP_P] = ref_top_p,
    [SAMPLER_MIN_P] = ref_min_p,         [SAMPLER_XTC] = ref_xtc,         [SAMPLER_TEMPERATURE] = ref_temperature,
};

static bool may_come(const struct sampler_input *in, uint32_t i)
{
    return !in->mask || (i / 32 < in->n_mask && (in->mask[i / 32] >> i % 32 & 1));
}

static void ref_mirostat(struct ref *r, double n_vocab)
{
    double mu = *r->in->mu;
    softmax(r);
    if (r->how->mirostat == 2) {
        double limit = r->e[0].logit - log(r->e[0].p); /* log of the total */
        keep_at_least(r, limit - mu * log(2));
        return;
    }
    double tb = 0, tt = 0;
    for (size_t i = 0; i < 99 && i + 1 < r->n; i++) {
        double t = log((double)(i + 2) / (double)(i + 1));
        tb += t * log(r->e[i].p / r->e[i + 1].p);
        tt += t * t;
    }
    double s = tb / tt, eps = s - 1, k = pow(eps * pow(2, mu) / (1 - pow(n_vocab, -eps)), 1 / s);
    r->unclear |= fabs(k - round(k)) < 1e-3;
    size_t keep = k >= 1 ? (size_t)fmin(k, 1e9) : 1;
    r->n = keep < r->n ? keep : r->n;
}

static struct ref reference(const struct sampling *how, const struct sampler_input *in, uint32_t n_vocab)
{
    struct ref r = { .e = calloc(n_vocab, sizeof *r.e), .how = how, .in = in };
    assert_non_null(r.e);
    for (uint32_t i = 0; i < n_vocab; i++) {
        double v = (double)in->logits[i];
        for (uint32_t k = 0; k < how->n_bias; k++)
            v += how->bias[k].token == (int32_t)i ? (double)how->bias[k].bias : 0;
        for (int k = 0; k < SAMPLER_BANS; k++)
            for (size_t j = 0; j < in->ban[k].n; j++)
                v = in->ban[k].id[j] == (int32_t)i ? -INFINITY : v;
        if (may_come(in, i) && v > -INFINITY)
            r.e[r.n++] = (struct entry){ .logit = v, .id = (int32_t)i };
    }
    for (uint32_t i = 0; i < how->n_chain; i++) {
        enum sampler_kind k = how->chain[i];
        if (!how->mirostat || k == SAMPLER_PENALTIES || k == SAMPLER_DRY || k == SAMPLER_TEMPERATURE)
            ref_samplers[k](&r);
    }
    if (how->mirostat)
        ref_mirostat(&r, n_vocab);
    softmax(&r);
    return r;
}

/* ---- rows ------------------------------------------------------------------------------------------- */

struct kit {
    struct sampler s;
    uint32_t n;
    float logits[MOST], before[MOST];
    int32_t recent[N_RECENT];
    uint32_t mask[MOST / 32 + 1];
    struct sampler_input in;
    size_t checked, unclear;
};

enum shape { SHAPE_NORMAL, SHAPE_PEAKED, SHAPE_FLAT, SHAPE_TIES, SHAPE_HOLES, SHAPES };

static float one_logit(enum shape shape, uint32_t i)
{
    float x = normal();
    switch (shape) {
    case SHAPE_PEAKED:
        return 3 * x + (i % 97 == 3 ? 15.0f : 0);
    case SHAPE_FLAT:
        return 0.01f * x;
    case SHAPE_TIES:
        return roundf(x * 2) / 2;
    case SHAPE_HOLES:
        return i % 7 == 2 ? -INFINITY : i % 11 == 5 ? NAN : 4 * x - 20;
    default:
        return 2.5f * x;
    }
}

/* Recent tokens repeat themselves: few different ones, in phrases. */
static void fill(struct kit *k, uint32_t n, enum shape shape, uint64_t seed)
{
    state = seed * 7919 + n;
    k->n = n;
    for (uint32_t i = 0; i < n; i++)
        k->logits[i] = one_logit(shape, i);
    for (size_t i = 0; i < N_RECENT; i++)
        k->recent[i] = i > 20 && next() % 6 ? k->recent[i - 7 - seed % 5] : (int32_t)(next() % (n < 12 ? n : 12));
    memcpy(k->before, k->logits, n * sizeof *k->logits);
    k->in = (struct sampler_input){ .logits = k->logits, .recent = k->recent, .n_recent = N_RECENT,
                                    .position = next(), .unbroken = N_RECENT };
    struct err e;
    sampler_finish(&k->s);
    assert_int_equal(sampler_init(&k->s, n, N_RECENT, &e), ERR_OK);
}

static int set_up(void **st)
{
    *st = calloc(1, sizeof(struct kit));
    return *st ? 0 : 1;
}

static int tear_down(void **st)
{
    struct kit *k = *st;
    sampler_finish(&k->s);
    free(k);
    return 0;
}

static const struct entry *find(const struct ref *r, int32_t id)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->e[i].id == id)
            return &r->e[i];
    return NULL;
}

/* The same candidates with the same probabilities; the row as before; what is drawn is one of them. */
static void check(struct kit *k, const struct sampling *how)
{
    const struct candidate *c;
    struct ref r = reference(how, &k->in, k->n);
    uint32_t n = sampler_candidates(&k->s, how, &k->in, &c);
    double sum = 0, best = -INFINITY;
    assert_memory_equal(k->logits, k->before, k->n * sizeof *k->logits);
    k->checked++;
    k->unclear += r.unclear;
    for (uint32_t i = 0; i < n; i++)
        best = fmax(best, (double)c[i].logit);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)c[i].logit - best);
    if (!r.unclear)
        assert_int_equal(n, r.n);
    for (uint32_t i = 0; i < n && !r.unclear; i++) {
        const struct entry *e = find(&r, c[i].id);
        assert_non_null(e);
        assert_true(fabs(e->p - exp((double)c[i].logit - best) / sum) < 1e-6);
    }
    double mu = 10;
    k->in.mu = k->in.mu ? k->in.mu : &mu;
    double was = *k->in.mu;
    int32_t id = sampler_pick(&k->s, how, &k->in);
    assert_memory_equal(k->logits, k->before, k->n * sizeof *k->logits);
    const struct entry *e = find(&r, id);
    assert_true(r.unclear || e);
    if (e && how->mirostat && !r.unclear)
        assert_true(fabs(*k->in.mu - (was - (double)how->mirostat_eta * (-log2(e->p) - (double)how->mirostat_tau))) <
                    1e-4);
    k->in.mu = k->in.mu == &mu ? NULL : k->in.mu;
    free(r.e);
}

static struct sampling off(void)
{
    struct sampling s = sampling_default();
    s.temperature = 1;
    s.top_k = 0;
    s.top_p = 1;
    s.seed = 42;
    return s;
}

static const uint32_t sizes[] = { 2, 5, 33, 300, 1000, 4999 };

static void each(void **st, void (*set)(struct sampling *, double u))
{
    struct kit *k = *st;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (enum shape shape = 0; shape < SHAPES; shape++)
            for (uint64_t seed = 1; seed <= 2; seed++) {
                struct sampling how = off();
                fill(k, sizes[i], shape, seed);
                set(&how, uniform());
                check(k, &how);
            }
    assert_true(k->unclear * 3 < k->checked);
}

#define SAMPLER_TEST(name, body)                                                                                   \
    static void set_##name(struct sampling *h, double u)                                                           \
    {                                                                                                              \
        body;                                                                                                      \
        (void)u;                                                                                                   \
    }                                                                                                              \
    static void test_##name(void **st)                                                                             \
    {                                                                                                              \
        each(st, set_##name);                                                                                      \
    }

SAMPLER_TEST(temperature, h->temperature = (float)(0.1 + 2 * u))
SAMPLER_TEST(dynamic_temperature, (h->dynatemp_range = (float)u, h->dynatemp_exponent = (float)(0.5 + u)))
SAMPLER_TEST(top_k, h->top_k = (int32_t)(1 + 100 * u))
SAMPLER_TEST(top_p, h->top_p = (float)u)
SAMPLER_TEST(min_p, h->min_p = (float)(u * u * u))
SAMPLER_TEST(typical_p, h->typical_p = (float)u)
SAMPLER_TEST(top_n_sigma, h->top_n_sigma = (float)(3 * u))
SAMPLER_TEST(xtc, (h->xtc_probability = 0.7f, h->xtc_threshold = (float)(0.3 * u * u)))
SAMPLER_TEST(penalties, (h->repeat_penalty = (float)(0.8 + u), h->frequency_penalty = (float)(u - 0.5),
                         h->presence_penalty = (float)(0.3 - u), h->repeat_last_n = u < 0.3 ? -1 : (int32_t)(90 * u)))
SAMPLER_TEST(dry, (h->dry_multiplier = (float)u, h->dry_base = (float)(1 + u), h->dry_allowed_length = (int32_t)(4 * u),
                   h->dry_penalty_last_n = u < 0.5 ? -1 : (int32_t)(200 * u)))

/* All of them at once, in any order, some left out. */
static void any_chain(struct sampling *h, double u)
{
    set_temperature(h, u);
    if (u < 0.5)
        set_dynamic_temperature(h, uniform());
    set_top_k(h, uniform());
    h->top_p = (float)(0.5 + uniform() / 2);
    h->min_p = (float)(0.05 * uniform());
    h->typical_p = (float)(0.5 + uniform() / 2);
    h->top_n_sigma = (float)(1 + 3 * uniform());
    set_xtc(h, uniform());
    set_penalties(h, uniform());
    set_dry(h, uniform());
    for (uint32_t i = SAMPLERS; i > 1; i--) {
        uint32_t j = next() % i;
        uint8_t t = h->chain[i - 1];
        h->chain[i - 1] = h->chain[j];
        h->chain[j] = t;
    }
    h->n_chain = SAMPLERS - next() % 3;
}

static void test_any_chain(void **st)
{
    for (int i = 0; i < 2; i++)
        each(st, any_chain);
}

static bool odd(void *user, int32_t token)
{
    (void)user;
    return token % 2 != 0;
}

static void test_dry_breakers(void **st)
{
    struct kit *k = *st;
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct sampling how = off();
        fill(k, 64, SHAPE_NORMAL, seed);
        set_dry(&how, 0.1 + uniform() * 0.4);
        k->in.unbroken = seed % 12;
        k->in.breaks = odd;
        check(k, &how);
    }
    struct sampling how = off(), none = off();
    int32_t again[] = { 1, 2, 3, 4, 1, 2, 3 };
    const struct candidate *c;
    fill(k, 6, SHAPE_FLAT, 1);
    how.dry_multiplier = 1;
    how.dry_base = 2;
    k->in.recent = again;
    k->in.n_recent = k->in.unbroken = 7;
    float fourth[2];
    for (int i = 0; i < 2; i++) {
        assert_int_equal(sampler_candidates(&k->s, i ? &how : &none, &k->in, &c), 6);
        fourth[i] = c[4].logit - c[0].logit;
    }
    assert_true(fabsf(fourth[0] - fourth[1] - 2) < 1e-5f); /* three that repeat, two allowed: 1 * 2^1 */
}

/* ---- masks, bias, bans -------------------------------------------------------------------------------- */

static void mask_some(struct kit *k, uint32_t one_in)
{
    memset(k->mask, 0, sizeof k->mask);
    for (uint32_t i = 0; i < k->n; i++)
        if (next() % one_in == 0 || i == k->n / 2)
            k->mask[i / 32] |= UINT32_C(1) << i % 32;
    k->in.mask = k->mask;
    k->in.n_mask = (k->n + 31) / 32;
}

static void test_masks(void **st)
{
    struct kit *k = *st;
    for (uint64_t seed = 0; seed < 120; seed++) {
        struct sampling how = off();
        fill(k, sizes[seed % 6], seed % 3 ? SHAPE_NORMAL : SHAPE_TIES, seed);
        mask_some(k, 1 + (uint32_t)(seed % 5) * (uint32_t)(seed % 5));
        if (seed % 4)
            any_chain(&how, uniform());
        if (seed % 4 == 2)
            how.temperature = 0;
        if (seed % 8 == 5 && k->n > 64)
            k->in.n_mask--;
        if (how.temperature > 0) {
            check(k, &how);
        } else {
            how = off();
            struct ref r = reference(&how, &k->in, k->n);
            how.temperature = 0;
            assert_int_equal(sampler_pick(&k->s, &how, &k->in), r.e[0].id);
            free(r.e);
        }
    }
    assert_true(k->unclear * 2 < k->checked);
}

static void test_bias_and_bans(void **st)
{
    struct kit *k = *st;
    struct token_bias bias[40];
    int32_t ban[30], more[] = { 1, -5, 1 << 30 };
    for (uint64_t seed = 1; seed < 60; seed++) {
        struct sampling how = off();
        fill(k, 100, SHAPE_NORMAL, seed);
        for (int i = 0; i < 40; i++)
            bias[i] = (struct token_bias){ (int32_t)(next() % 100), next() % 5 ? 3 * normal() : -INFINITY };
        for (int i = 0; i < 30; i++)
            ban[i] = (int32_t)(next() % 100);
        if (seed % 3)
            any_chain(&how, uniform());
        how.bias = bias;
        how.n_bias = seed % 2 ? 40 : 0;
        k->in.ban[0] = (struct token_ids){ ban, 30 };
        k->in.ban[3] = (struct token_ids){ more, 3 };
        check(k, &how);
    }
}

static void test_nothing_left(void **st)
{
    struct kit *k = *st;
    int32_t all[40];
    struct sampling how[] = { off(), sampling_default(), off(), off() };
    how[2].temperature = 0;
    how[3].mirostat = 2;
    for (int i = 0; i < 40; i++)
        all[i] = i;
    for (int h = 0; h < 4; h++) {
        fill(k, 40, SHAPE_NORMAL, 1);
        k->in.ban[1] = (struct token_ids){ all, 40 };
        assert_int_equal(sampler_pick(&k->s, &how[h], &k->in), 0);
        memset(k->mask, 0, sizeof k->mask);
        k->mask[1] = 3 << 4;
        k->in.mask = k->mask;
        k->in.n_mask = 2;
        assert_int_equal(sampler_pick(&k->s, &how[h], &k->in), 36);
        k->in.ban[1].n = 37; /* bans 36 */
        assert_int_equal(sampler_pick(&k->s, &how[h], &k->in), 37);
        fill(k, 40, SHAPE_NORMAL, 1);
        k->logits[7] = k->logits[9] = INFINITY;
        assert_int_equal(sampler_pick(&k->s, &how[h], &k->in), 7);
        for (int i = 0; i < 40; i++)
            k->logits[i] = NAN;
        assert_int_equal(sampler_pick(&k->s, &how[h], &k->in), 0);
        k->logits[31] = -3;
        assert_int_equal(sampler_pick(&k->s, &how[h], &k->in), 31);
    }
}

/* ---- temperature 0, mirostat, top lists ------------------------------------------------------------------- */

static void test_greedy(void **st)
{
    struct kit *k = *st;
    for (uint64_t seed = 1; seed < 40; seed++) {
        struct sampling how = off();
        fill(k, sizes[seed % 6], seed % 2 ? SHAPE_TIES : SHAPE_HOLES, seed);
        any_chain(&how, uniform());
        how.n_chain = SAMPLERS;
        how.temperature = 0;
        struct sampling plain = how;
        plain.n_chain = 0;
        for (uint32_t i = 0; i < SAMPLERS; i++)
            if (how.chain[i] == SAMPLER_PENALTIES || how.chain[i] == SAMPLER_DRY)
                plain.chain[plain.n_chain++] = how.chain[i];
        struct ref r = reference(&plain, &k->in, k->n);
        int32_t id = sampler_pick(&k->s, &how, &k->in);
        const struct entry *e = find(&r, id);
        assert_true(r.n == 0 || (e && r.e[0].logit - e->logit < 1e-5));
        if (r.n > 1 && r.e[0].logit - r.e[1].logit > 1e-4)
            assert_int_equal(id, r.e[0].id);
        free(r.e);
    }
    fill(k, 300, SHAPE_TIES, 3);
    struct sampling how = off();
    how.temperature = 0;
    int32_t id = sampler_pick(&k->s, &how, &k->in);
    for (int32_t i = 0; i < id; i++)
        assert_true(k->logits[i] < k->logits[id]);
}

static void mirostat(void **st, uint32_t version)
{
    struct kit *k = *st;
    for (uint64_t seed = 1; seed < 8; seed++) {
        struct sampling how = off();
        double mu = 8, average = 0;
        how.mirostat = version;
        how.mirostat_tau = 4;
        how.mirostat_eta = 0.1f;
        how.temperature = (float)(0.7 + 0.1 * (double)seed);
        for (uint32_t i = 0; i < 25; i++) {
            fill(k, seed % 2 ? 1000 : 300, SHAPE_NORMAL, seed * 100 + i);
            k->in.mu = &mu;
            k->in.position = i;
            check(k, &how);
            average += mu / 25;
        }
        assert_true(average > 0 && average < 20);
    }
    assert_true(k->unclear * 5 < k->checked);
}

static void test_mirostat_1(void **st)
{
    mirostat(st, 1);
}

static void test_mirostat_2(void **st)
{
    mirostat(st, 2);
}

static void test_top_and_sum(void **st)
{
    struct kit *k = *st;
    for (uint64_t seed = 1; seed < 40; seed++) {
        fill(k, sizes[seed % 6], SHAPE_TIES + (seed % 2 ? 0 : 1), seed);
        int32_t top[20];
        struct sampling how = off();
        struct ref r = reference(&how, &k->in, k->n);
        uint32_t n = r.n < 20 ? (uint32_t)r.n : 20;
        sampler_top(k->logits, k->n, n, top);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(top[i], r.e[i].id);
        if (n > 0) {
            double z = r.e[0].logit - log(r.e[0].p);
            assert_true(fabs(sampler_log_sum(k->logits, k->n) - z) < 1e-5);
        }
        free(r.e);
    }
}

/* ---- what is drawn ------------------------------------------------------------------------------------ */

/* The value that chi-square with so many degrees of freedom exceeds once in 10^6 (Wilson and Hilferty). */
static double chi_square_limit(double df)
{
    double a = 2 / (9 * df);
    return df * pow(1 - a + 4.75 * sqrt(a), 3);
}

#define DRAWS 20000
static void draws(struct kit *k, struct sampling *how, const double *p)
{
    uint32_t *seen = calloc(k->n, sizeof *seen);
    double chi = 0, rest_p = 0, rest_n = 0, df = -1;
    for (uint32_t i = 0; i < DRAWS; i++) {
        double mu = 8;
        k->in.position = i;
        k->in.mu = &mu;
        seen[sampler_pick(&k->s, how, &k->in)]++;
    }
    for (uint32_t i = 0; i < k->n; i++) {
        assert_true(p[i] > 0 || seen[i] == 0);
        if (p[i] * DRAWS < 5) {
            rest_p += p[i];
            rest_n += seen[i];
        } else {
            chi += pow(seen[i] - p[i] * DRAWS, 2) / (p[i] * DRAWS);
            df++;
        }
    }
    if (rest_p * DRAWS >= 5) {
        chi += pow(rest_n - rest_p * DRAWS, 2) / (rest_p * DRAWS);
        df++;
    }
    if (df > 0 && chi > chi_square_limit(df))
        fail_msg("chi-square %.1f with %.0f degrees of freedom", chi, df);
    free(seen);
}

static void add_probabilities(struct kit *k, const struct sampling *how, double share, double *p)
{
    struct ref r = reference(how, &k->in, k->n);
    assert_false(r.unclear);
    for (size_t i = 0; i < r.n; i++)
        p[r.e[i].id] += share * r.e[i].p;
    free(r.e);
}

static void test_draws(void **st)
{
    struct kit *k = *st;
    static void (*const sets[])(struct sampling *, double) = {
        set_temperature, set_dynamic_temperature, set_top_k, set_top_p, set_min_p, set_typical_p, set_top_n_sigma,
        set_penalties, set_dry,
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        for (int masked = 0; masked < 2; masked++) {
            struct sampling how = off();
            double p[60] = { 0 };
            fill(k, 60, SHAPE_NORMAL, i + 1);
            sets[i](&how, 0.4);
            how.seed = 77 + i;
            if (masked)
                mask_some(k, 2);
            add_probabilities(k, &how, 1, p);
            draws(k, &how, p);
        }
    for (uint32_t version = 1; version <= 2; version++) {
        struct sampling how = off();
        double p[60] = { 0 }, mu = 8;
        fill(k, 60, SHAPE_NORMAL, 9);
        how.mirostat = version;
        k->in.mu = &mu;
        add_probabilities(k, &how, 1, p);
        draws(k, &how, p);
    }
    struct sampling how = off();
    double p[60] = { 0 };
    fill(k, 60, SHAPE_PEAKED, 4);
    how.xtc_probability = 1;
    how.xtc_threshold = 0.02f;
    add_probabilities(k, &how, 0.3, p);
    how.xtc_probability = 0;
    add_probabilities(k, &how, 0.7, p);
    how.xtc_probability = 0.3f;
    draws(k, &how, p);
}

/* A long row is drawn from by blocks. */
static void test_draws_long(void **st)
{
    struct kit *k = *st;
    struct sampling how = off();
    static double p[4999];
    fill(k, 4999, SHAPE_NORMAL, 5);
    for (uint32_t i = 0; i < k->n; i++)
        k->logits[i] = i % 20 ? -40 : k->logits[i] / 3;
    memset(p, 0, sizeof p);
    add_probabilities(k, &how, 1, p);
    draws(k, &how, p);
}

static void test_repeatable(void **st)
{
    struct kit *k = *st;
    struct sampling how = sampling_default();
    int32_t a[50], b[50];
    fill(k, 1000, SHAPE_FLAT, 1);
    how.top_k = 0;
    how.top_p = 1;
    for (uint32_t i = 0; i < 50; i++) {
        k->in.position = i;
        a[i] = sampler_pick(&k->s, &how, &k->in);
    }
    for (uint32_t i = 50; i-- > 0;) {
        k->in.position = i;
        b[i] = sampler_pick(&k->s, &how, &k->in);
    }
    assert_memory_equal(a, b, sizeof a);
    how.seed = 1;
    int same = 0;
    for (uint32_t i = 0; i < 50; i++) {
        k->in.position = i;
        same += sampler_pick(&k->s, &how, &k->in) == a[i];
    }
    assert_true(same < 10);
    uint64_t was = mem_count();
    any_chain(&how, 0.3);
    sampler_pick(&k->s, &how, &k->in);
    assert_int_equal(mem_count(), was);
}

static void test_random(void **st)
{
    (void)st;
    double sum = 0, both = 0;
    assert_true(sampler_random(1, 2, RANDOM_DRAW) == sampler_random(1, 2, RANDOM_DRAW));
    for (uint32_t i = 0; i < 10000; i++) {
        double x = sampler_random(3, i, RANDOM_DRAW), y = sampler_random(3, i, RANDOM_XTC);
        assert_true(x >= 0 && x < 1 && y >= 0 && y < 1);
        sum += x;
        both += (x - 0.5) * (y - 0.5);
    }
    assert_true(fabs(sum / 10000 - 0.5) < 0.02 && fabs(both / 10000) < 0.005);
}

/* ---- orders ------------------------------------------------------------------------------------------- */

static void test_order(void **st)
{
    (void)st;
    struct sampling s = sampling_default();
    struct err e;
    const struct str some[] = { STR("temperature"), STR("typical_p"), STR("dry") };
    const struct str twice[] = { STR("typ_p"), STR("typical_p") }, wrong[] = { STR("top_q") };
    assert_int_equal(s.n_chain, SAMPLERS);
    assert_int_equal(sampling_order(&s, some, 3, &e), ERR_OK);
    assert_int_equal(s.n_chain, 3);
    assert_int_equal(s.chain[0], SAMPLER_TEMPERATURE);
    assert_int_equal(s.chain[1], SAMPLER_TYPICAL_P);
    assert_int_equal(s.chain[2], SAMPLER_DRY);
    assert_int_equal(sampling_order(&s, twice, 2, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "typ_p"));
    assert_int_equal(sampling_order(&s, wrong, 1, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "top_q"));
    assert_int_equal(s.n_chain, 3);
    assert_int_equal(sampling_order(&s, some, 0, &e), ERR_OK);
    assert_int_equal(s.n_chain, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(test_##f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(temperature), TEST(dynamic_temperature), TEST(top_k), TEST(top_p), TEST(min_p), TEST(typical_p),
        TEST(top_n_sigma), TEST(xtc), TEST(penalties), TEST(dry), TEST(any_chain), TEST(dry_breakers), TEST(masks),
        TEST(bias_and_bans), TEST(nothing_left), TEST(greedy), TEST(mirostat_1), TEST(mirostat_2),
        TEST(top_and_sum), TEST(draws), TEST(draws_long), TEST(repeatable), TEST(random), TEST(order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
