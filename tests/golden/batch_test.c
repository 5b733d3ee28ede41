/* The same bits, alone or in company: the rule on software devices, and everywhere with `reproducible`:
 *
 *   batch_test MODEL... [--device X] [--as-gpu] [--long MODEL]
 *
 * For each model: the logits of a timeline alone; in a batch of 8 sessions with other timelines; with its
 * prompt cut at every place of a few; and after another timeline with a common prefix. And the batch is a
 * batch: a decode step of 8 sessions issues as many launches and reads as many weight bytes as a step of
 * one session of its program, in one submit.
 *
 * --long: a timeline of 600 tokens, whose attention takes several splits, against the same on the C twins, and
 * the same bits when one of 40 runs beside it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/engine/runtime.h"

#define N_TOKENS 40
#define N_LONG 600
#define N_SESSIONS 8

struct bench {
    struct model *m;
    const char *name;
    uint32_t n_vocab;
    int failed;
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(2);
}

static void timeline(int32_t *t, uint32_t n, uint32_t seed, uint32_t n_vocab)
{
    for (uint32_t i = 0; i < n; i++)
        t[i] = (int32_t)((seed * 7919u + i * 104729u + i * i * 31u) % n_vocab);
}

/* Steps until nothing is left; keeps the rows of `mine`. Returns the steps made. */
static uint32_t drain(struct bench *b, const struct session *mine, float *rows)
{
    struct err e;
    uint32_t steps = 0;
    while (model_has_work(b->m)) {
        struct step step;
        if (model_step(b->m, &step, &e) != ERR_OK)
            die(b->name, &e);
        steps++;
        for (size_t i = 0; i < step.n_events; i++)
            if (step.events[i].session == mine && rows)
                memcpy(rows + (size_t)(step.events[i].position - 1) * b->n_vocab, step.events[i].logits,
                       b->n_vocab * sizeof *rows);
    }
    return steps;
}

static struct session *begin(struct bench *b, struct session *s, enum turn_kind kind, const int32_t *tokens,
                             size_t n, uint32_t max_tokens)
{
    struct err e;
    struct turn t = { .kind = kind, .tokens = tokens, .n_tokens = n, .max_tokens = max_tokens,
                      .want_logits = true, .ignore_eog = true };
    if (!s && session_create(b->m, &s, &e) != ERR_OK)
        die(b->name, &e);
    if (session_begin(s, &t, NULL, &e) != ERR_OK)
        die(b->name, &e);
    return s;
}

static void same(struct bench *b, const char *what, const float *x, const float *y, size_t rows)
{
    bool ok = memcmp(x, y, rows * b->n_vocab * sizeof *x) == 0;
    printf("%-40s %-28s %s\n", b->name, what, ok ? "ok" : "FAILED");
    b->failed += !ok;
}

static void in_company(struct bench *b, const float *alone, float *got)
{
    struct session *s[N_SESSIONS];
    int32_t t[N_TOKENS];
    for (uint32_t i = 0; i < N_SESSIONS; i++) {
        timeline(t, N_TOKENS, i == 3 ? 0 : i + 1, b->n_vocab); /* ours is the fourth */
        s[i] = begin(b, NULL, TURN_SCORE, t, N_TOKENS - i % 3, 0);
    }
    drain(b, s[3], got);
    same(b, "in a batch of 8", alone, got, N_TOKENS - 1);
    for (uint32_t i = 0; i < N_SESSIONS; i++)
        session_destroy(s[i]);
}

static void cut_anywhere(struct bench *b, const float *alone, float *got)
{
    int32_t t[N_TOKENS];
    timeline(t, N_TOKENS, 0, b->n_vocab);
    for (uint32_t cut = 1; cut < N_TOKENS; cut += 6) {
        struct session *s = begin(b, NULL, TURN_GENERATE, t, cut, 1);
        drain(b, s, NULL);
        begin(b, s, TURN_GENERATE, t, N_TOKENS - 1, 1);
        drain(b, s, got);
        same(b, "prompt cut", alone + (size_t)(N_TOKENS - 2) * b->n_vocab,
             got + (size_t)(N_TOKENS - 2) * b->n_vocab, 1);
        session_destroy(s);
    }
}

/* Launches, weight bytes and submits of one decode step of n sessions. */
static struct model_counters decode_cost(struct bench *b, uint32_t n)
{
    struct session *s[N_SESSIONS];
    struct err e;
    struct step step;
    int32_t t[N_TOKENS];
    for (uint32_t i = 0; i < n; i++) {
        timeline(t, N_TOKENS, i, b->n_vocab);
        s[i] = begin(b, NULL, TURN_GENERATE, t, 4, 8);
    }
    do
        if (model_step(b->m, &step, &e) != ERR_OK)
            die(b->name, &e);
    while (step.n_prefill > 0);
    struct model_counters was = model_counters(b->m), now;
    if (model_step(b->m, &step, &e) != ERR_OK)
        die(b->name, &e);
    now = model_counters(b->m);
    if (step.n_rows != n)
        b->failed++;
    for (uint32_t i = 0; i < n; i++)
        session_destroy(s[i]);
    return (struct model_counters){ .launches = now.launches - was.launches,
                                    .submits = now.submits - was.submits,
                                    .weight_bytes = now.weight_bytes - was.weight_bytes };
}

static void is_a_batch(struct bench *b)
{
    struct model_counters one = decode_cost(b, 1), all = decode_cost(b, N_SESSIONS);
    bool ok = one.launches == all.launches && one.weight_bytes == all.weight_bytes && all.submits == 1;
    printf("%-40s 8 sessions: %llu launches, %llu weight bytes; one: %llu, %llu: %s\n", b->name,
           (unsigned long long)all.launches, (unsigned long long)all.weight_bytes,
           (unsigned long long)one.launches, (unsigned long long)one.weight_bytes, ok ? "ok" : "FAILED");
    b->failed += !ok;
}

static int one(struct runtime *rt, const char *path)
{
    struct err e;
    struct model_options o = { .path = path, .n_ctx = 64, .n_seq = N_SESSIONS };
    struct bench b = { .name = path };
    if (model_load(rt, &o, &b.m, &e) != ERR_OK)
        die(path, &e);
    b.n_vocab = model_info(b.m)->n_vocab;
    size_t bytes = (size_t)N_TOKENS * b.n_vocab * sizeof(float);
    float *alone = calloc(1, bytes), *got = calloc(1, bytes);
    int32_t t[N_TOKENS];
    timeline(t, N_TOKENS, 0, b.n_vocab);
    struct session *s = begin(&b, NULL, TURN_SCORE, t, N_TOKENS, 0);
    drain(&b, s, alone);
    session_destroy(s);
    in_company(&b, alone, got);
    cut_anywhere(&b, alone, got);
    is_a_batch(&b);
    free(alone);
    free(got);
    model_unload(b.m);
    return b.failed;
}

/* The rows of a long timeline; `beside`: a short one has its steps too. */
static float *long_rows(struct runtime *rt, const char *path, bool beside, struct bench *b)
{
    struct err e;
    struct model_options o = { .path = path, .n_ctx = N_LONG + 8, .n_seq = 2, .kv_type = KV_F32 };
    *b = (struct bench){ .name = path };
    if (model_load(rt, &o, &b->m, &e) != ERR_OK)
        die(path, &e);
    b->n_vocab = model_info(b->m)->n_vocab;
    float *rows = calloc(N_LONG, b->n_vocab * sizeof *rows);
    int32_t t[N_LONG], other[N_TOKENS];
    timeline(t, N_LONG, 0, b->n_vocab);
    timeline(other, N_TOKENS, 1, b->n_vocab);
    struct session *s = begin(b, NULL, TURN_SCORE, t, N_LONG, 0), *s2 = NULL;
    if (beside)
        s2 = begin(b, NULL, TURN_GENERATE, other, N_TOKENS, N_TOKENS);
    drain(b, s, rows);
    session_destroy(s);
    session_destroy(s2);
    model_unload(b->m);
    return rows;
}

static int one_long(struct runtime *rt, const char *path)
{
    struct err e;
    struct bench b;
    struct runtime *ref;
    if (runtime_create(&(struct runtime_options){ .device = "ref" }, &ref, &e) != ERR_OK)
        die("ref", &e);
    float *twin = long_rows(ref, path, false, &b), *alone = long_rows(rt, path, false, &b);
    float *got = long_rows(rt, path, true, &b), low = twin[0], high = twin[0], off = 0;
    size_t n = (size_t)(N_LONG - 1) * b.n_vocab;
    for (size_t i = 0; i < n; i++) {
        low = fminf(low, twin[i]);
        high = fmaxf(high, twin[i]);
        off = fmaxf(off, fabsf(twin[i] - alone[i]));
    }
    bool ok = off <= 1e-3f * (high - low);
    printf("%-40s %-28s %.2e of the spread: %s\n", path, "600 tokens", (double)(off / (high - low)),
           ok ? "ok" : "FAILED");
    same(&b, "600 tokens beside 40", alone, got, N_LONG - 1);
    runtime_destroy(ref);
    free(twin);
    free(alone);
    free(got);
    return b.failed + !ok;
}

int main(int argc, char **argv)
{
    struct runtime_options ro = { .device = getenv("HEARTH_TEST_DEVICE"), .reproducible = true };
    struct runtime *rt;
    struct err e;
    int failed = 0, n = 0;
    json_setup();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            ro.device = argv[i + 1];
        ro.as_gpu = ro.as_gpu || strcmp(argv[i], "--as-gpu") == 0;
    }
    if (runtime_create(&ro, &rt, &e) != ERR_OK)
        die("device", &e);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0) {
            i++;
            continue;
        }
        if (strcmp(argv[i], "--as-gpu") == 0)
            continue;
        bool is_long = strcmp(argv[i], "--long") == 0 && i + 1 < argc;
        i += is_long;
        n++;
        failed += is_long ? one_long(rt, argv[i]) : one(rt, argv[i]);
    }
    runtime_destroy(rt);
    printf("%d models, %d failures\n", n, failed);
    return failed || !n ? 1 : 0;
}
