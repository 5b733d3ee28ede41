#include "runtime/engine/sampler.h"

#include <math.h>
#include <string.h>

#include "runtime/base/mem.h"

struct sampling sampling_default(void)
{
    return (struct sampling){ .temperature = 0.8f,
                              .top_k = 40,
                              .top_p = 0.9f,
                              .repeat_penalty = 1,
                              .repeat_last_n = 64 };
}

enum err_code sampler_init(struct sampler *s, uint32_t n_vocab, struct err *e)
{
    *s = (struct sampler){ .n_vocab = n_vocab,
                           .heap = mem_alloc(n_vocab * sizeof *s->heap),
                           .work = mem_alloc(n_vocab * sizeof *s->work),
                           .count = mem_zero(n_vocab, sizeof *s->count) };
    if (s->heap && s->work && s->count)
        return ERR_OK;
    sampler_finish(s);
    return err_no_memory(e, n_vocab * (sizeof *s->heap + sizeof *s->work), "the sampler");
}

void sampler_finish(struct sampler *s)
{
    mem_free(s->heap);
    mem_free(s->work);
    mem_free(s->count);
    *s = (struct sampler){ 0 };
}

/* ---- whole rows ------------------------------------------------------------------------------- */

/* The largest of 16 interleaved strands, which a compiler turns into vector code; NaN loses. */
static float row_max(const float *v, uint32_t n)
{
    float best[16];
    for (int k = 0; k < 16; k++)
        best[k] = -INFINITY;
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t k = 0; k < 16; k++)
            best[k] = v[i + k] > best[k] ? v[i + k] : best[k];
    for (; i < n; i++)
        best[0] = v[i] > best[0] ? v[i] : best[0];
    for (int k = 1; k < 16; k++)
        best[0] = best[k] > best[0] ? best[k] : best[0];
    return best[0];
}

static int32_t arg_max(const float *v, uint32_t n)
{
    float best = row_max(v, n);
    for (uint32_t i = 0; i < n; i++)
        if (v[i] == best)
            return (int32_t)i;
    return 0; /* nothing but NaN */
}

/* exp(x) for x <= 0, within 2e-7 of itself: 2^n by the exponent bits times a polynomial on
 * [-ln2/2, ln2/2]; branch free, for vector code. */
static float exp_neg(float x)
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

double sampler_log_sum(const float *logits, uint32_t n)
{
    float best = row_max(logits, n);
    if (!(best > -INFINITY))
        return -INFINITY;
    double sum = 0;
    for (uint32_t from = 0; from < n; from += 1024) {
        float part[16] = { 0 };
        uint32_t end = n - from < 1024 ? n : from + 1024, i = from;
        for (; i + 16 <= end; i += 16)
            for (uint32_t k = 0; k < 16; k++)
                part[k] += exp_neg(logits[i + k] - best);
        for (; i < end; i++)
            part[0] += exp_neg(logits[i] - best);
        for (int k = 0; k < 16; k++)
            sum += part[k];
    }
    return (double)best + log(sum);
}

/* ---- candidates in order ------------------------------------------------------------------------ */

static bool better(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Restores a heap whose root (worst: the worst candidate; else the best) may be out of place. */
static void sift(struct candidate *h, uint32_t n, uint32_t i, bool worst)
{
    for (;;) {
        uint32_t top = i, left = 2 * i + 1, right = left + 1;
        if (left < n && better(h[left], h[top]) != worst)
            top = left;
        if (right < n && better(h[right], h[top]) != worst)
            top = right;
        if (top == i)
            return;
        struct candidate t = h[i];
        h[i] = h[top];
        h[top] = t;
        i = top;
    }
}

/* Sorts a heap of the k best, worst on top, into descending order. */
static void sort_down(struct candidate *h, uint32_t k)
{
    for (uint32_t n = k; n > 1; n--) {
        struct candidate worst = h[0];
        h[0] = h[n - 1];
        h[n - 1] = worst;
        sift(h, n - 1, 0, true);
    }
}

static uint32_t keep_best(struct candidate *h, const float *logits, uint32_t n_vocab, uint32_t k)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (n == k && !(logits[i] > h[0].logit))
            continue;
        struct candidate c = { logits[i] == logits[i] ? logits[i] : -INFINITY, (int32_t)i };
        if (n < k) {
            h[n++] = c;
            if (n == k)
                for (uint32_t j = k / 2 + 1; j-- > 0;)
                    sift(h, k, j, true);
        } else if (better(c, h[0])) {
            h[0] = c;
            sift(h, k, 0, true);
        }
    }
    if (n < k)
        for (uint32_t j = n / 2 + 1; j-- > 0;)
            sift(h, n, j, true);
    sort_down(h, n);
    return n;
}

void sampler_top(const float *logits, uint32_t n_vocab, uint32_t n, int32_t *ids)
{
    struct candidate h[20];
    uint32_t k = keep_best(h, logits, n_vocab, n < 20 ? n : 20);
    for (uint32_t i = 0; i < k; i++)
        ids[i] = h[i].id;
}

/* ---- the draw ------------------------------------------------------------------------------------ */

static double uniform(uint64_t seed, uint32_t position)
{
    uint64_t z = seed + ((uint64_t)position + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static const float *penalise(struct sampler *s, const float *logits, const struct sampling *how,
                             const int32_t *recent, size_t n_recent)
{
    size_t n = how->repeat_last_n < 0 || (size_t)how->repeat_last_n > n_recent
                   ? n_recent
                   : (size_t)how->repeat_last_n;
    bool off = how->repeat_penalty == 1 && how->presence_penalty == 0 && how->frequency_penalty == 0;
    if (off || n == 0)
        return logits;
    memcpy(s->work, logits, s->n_vocab * sizeof *logits);
    const int32_t *from = recent + (n_recent - n);
    for (size_t i = 0; i < n; i++)
        if (s->count[from[i]] < UINT16_MAX)
            s->count[from[i]]++;
    for (size_t i = 0; i < n; i++) {
        uint16_t *count = &s->count[from[i]];
        float *v = &s->work[from[i]];
        if (*count == 0)
            continue;
        *v = *v > 0 ? *v / how->repeat_penalty : *v * how->repeat_penalty;
        *v -= (float)*count * how->frequency_penalty + how->presence_penalty;
        *count = 0;
    }
    return s->work;
}

/* How many of the sorted candidates top-p and min-p leave. `total`: sum of exp(logit - best). */
static uint32_t cut(const struct candidate *h, uint32_t n, const struct sampling *how, double total)
{
    uint32_t kept = n;
    if (how->top_p < 1) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            sum += exp((double)h[i].logit - (double)h[0].logit);
            if (sum >= (double)how->top_p * total) {
                kept = i + 1;
                break;
            }
        }
    }
    if (how->min_p > 0)
        while (kept > 1 && exp((double)h[kept - 1].logit - (double)h[0].logit) < (double)how->min_p)
            kept--;
    return kept;
}

static int32_t draw(const struct candidate *h, uint32_t n, double temperature, double u)
{
    double total = 0, best = (double)h[0].logit;
    for (uint32_t i = 0; i < n; i++)
        total += exp(((double)h[i].logit - best) / temperature);
    double at = u * total;
    for (uint32_t i = 0; i < n; i++) {
        at -= exp(((double)h[i].logit - best) / temperature);
        if (at < 0)
            return h[i].id;
    }
    return h[n - 1].id;
}

/* The whole distribution, unsorted. */
static int32_t draw_any(const float *v, uint32_t n, float temperature, double u)
{
    float best = row_max(v, n);
    double total = 0, at;
    int32_t last = arg_max(v, n);
    for (uint32_t i = 0; i < n; i++)
        total += v[i] == v[i] ? (double)exp_neg((v[i] - best) / temperature) : 0;
    at = u * total;
    for (uint32_t i = 0; i < n; i++) {
        if (!(v[i] > -INFINITY))
            continue;
        last = (int32_t)i;
        at -= (double)exp_neg((v[i] - best) / temperature);
        if (at < 0)
            break;
    }
    return last;
}

int32_t sampler_pick(struct sampler *s, const float *logits, const struct sampling *how,
                     const int32_t *recent, size_t n_recent, uint32_t position)
{
    const float *v = penalise(s, logits, how, recent, n_recent);
    if (!(how->temperature > 0) || how->top_k == 1)
        return arg_max(v, s->n_vocab);
    double u = uniform(how->seed, position);
    bool all = how->top_k <= 0 || (uint32_t)how->top_k >= s->n_vocab;
    if (all && how->top_p >= 1 && !(how->min_p > 0))
        return draw_any(v, s->n_vocab, how->temperature, u);
    uint32_t n = keep_best(s->heap, v, s->n_vocab, all ? s->n_vocab : (uint32_t)how->top_k);
    if (!(s->heap[0].logit > -INFINITY) || s->heap[0].logit == INFINITY)
        return s->heap[0].id;
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += exp((double)s->heap[i].logit - (double)s->heap[0].logit);
    n = cut(s->heap, n, how, total);
    return draw(s->heap, n, (double)how->temperature, u);
}
