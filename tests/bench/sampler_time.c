/* What a token costs the sampler: nanoseconds a call for chains that are often asked for, on rows of normally
 * distributed logits, the best of the rounds.
 *
 *   sampler_time [VOCABULARY...]        49152 and 128256 where none is named */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/base/clock.h"
#include "runtime/engine/sampler.h"

#define ROWS 16
#define CALLS 64
#define ROUNDS 15
#define RECENT 4096

struct bench {
    struct sampler s;
    uint32_t n;
    float *rows;
    uint32_t *mask;
    int32_t recent[RECENT];
};

static uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void measure(struct bench *b, const char *name, struct sampling how, bool masked)
{
    double best = 1e30, mu = 10;
    int32_t sum = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t began = clock_ns();
        for (uint32_t i = 0; i < CALLS; i++) {
            struct sampler_input in = { .logits = b->rows + (size_t)(i % ROWS) * b->n, .recent = b->recent,
                                        .n_recent = RECENT, .position = i, .unbroken = RECENT, .mu = &mu,
                                        .mask = masked ? b->mask : NULL, .n_mask = (b->n + 31) / 32 };
            sum += sampler_pick(&b->s, &how, &in);
        }
        double ns = (double)(clock_ns() - began) / CALLS;
        best = ns < best ? ns : best;
    }
    printf("%7u %-28s %9.0f ns  (%d)\n", b->n, name, best, (int)sum);
}

static void chains(struct bench *b)
{
    struct sampling d = sampling_default(), h = d;
    measure(b, "default", d, false);
    measure(b, "default, a mask of 1 in 64", d, true);
    h.temperature = 0;
    measure(b, "greedy", h, false);
    h = d, h.repeat_penalty = 1.1f;
    measure(b, "repeat_penalty 1.1", h, false);
    h = d, h.dry_multiplier = 0.8f;
    measure(b, "dry 0.8", h, false);
    h = d, h.top_k = 0, h.top_p = 1;
    measure(b, "temperature alone", h, false);
    h = d, h.top_k = 0;
    measure(b, "top_p 0.9 alone", h, false);
    h = d, h.top_k = 0, h.top_p = 1, h.min_p = 0.05f;
    measure(b, "min_p 0.05 alone", h, false);
    h = d, h.top_k = 0, h.top_p = 1, h.typical_p = 0.9f;
    measure(b, "typical_p 0.9 alone", h, false);
    h = d, h.top_k = 0, h.top_p = 1, h.top_n_sigma = 2;
    measure(b, "top_n_sigma 2 alone", h, false);
    h = d, h.top_k = 0, h.top_p = 1, h.xtc_probability = 0.5f;
    measure(b, "xtc 0.5 alone", h, false);
    h = d, h.mirostat = 1;
    measure(b, "mirostat 1", h, false);
    h = d, h.mirostat = 2;
    measure(b, "mirostat 2", h, false);
}

static int one(uint32_t n)
{
    static struct bench b;
    struct err e;
    uint64_t state = 1;
    b.n = n;
    b.rows = malloc((size_t)ROWS * n * sizeof *b.rows);
    b.mask = calloc((n + 31) / 32, sizeof *b.mask);
    if (!b.rows || !b.mask || sampler_init(&b.s, n, RECENT, &e) != ERR_OK)
        return 1;
    for (size_t i = 0; i < (size_t)ROWS * n; i++) {
        double u = (next(&state) + 1.0) / 2147483649.0, v = next(&state) / 2147483648.0;
        b.rows[i] = (float)(2.5 * sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
    }
    for (uint32_t i = 0; i < RECENT; i++)
        b.recent[i] = (int32_t)(next(&state) % n);
    for (uint32_t i = 0; i < n; i += 64)
        b.mask[i / 32] |= UINT32_C(1) << (i % 32);
    chains(&b);
    sampler_finish(&b.s);
    free(b.rows);
    free(b.mask);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = argc > 1 ? 0 : one(49152) || one(128256);
    for (int i = 1; i < argc && !failed; i++) {
        long n = strtol(argv[i], NULL, 10);
        failed = n < 1 || n > 1 << 24 || one((uint32_t)n);
    }
    return failed;
}
