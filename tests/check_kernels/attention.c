/* attention over paged KV in splits, and attention_join. Pages hold NaN wherever no row may look. */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"
#include "tests/check_kernels/judge.h"

static const struct {
    uint32_t n_head, n_kv, head_dim, in_group; /* heads of a workgroup */
} heads[] = {
    { 9, 3, 64, 3 }, { 4, 1, 32, 4 },  { 6, 3, 80, 1 },  { 8, 1, 128, 3 },
    { 10, 2, 64, 4 }, { 4, 2, 104, 2 }, { 10, 2, 256, 2 }, { 1, 1, 512, 1 },
};
static const struct {
    uint32_t split_tokens, window;
    float softcap, q_size;
    enum fill kv;
} spans[] = {
    { 1024, 0, 0, 1, PLAIN },  { 32, 0, 0, 1, PLAIN },     { 64, 40, 0, 1, PLAIN },   { 96, 0, 5, 1, SPIKES },
    { 1024, 7, 0, 1, PLAIN },  { 1024, 0, 0, 0, SIGNS },   { 128, 1, 2, 1, PLAIN },   { 64, 0, 0, 40, PLAIN },
};
static const uint32_t positions[] = { 0, 3, 31, 32, 33, 127, 200, 255 };
#define N_ROWS (sizeof positions / sizeof positions[0])
#define ROW_SPAN 8 /* pages of a session */

struct setup {
    uint32_t n_head, n_kv, head_dim, kv_dim, mode, heads_per_group;
    struct push_attention push;
    struct call call;
    double most_v, score_size; /* largest |v|; largest sum of |q k| */
};

static void poison(void *to, uint64_t bytes)
{
    memset(to, 0xFF, bytes); /* NaN as f16, f32 and as a scale */
}

/* K and V of what the rows see; everything else in the pages stays poison. */
static void make_kv(struct judge *j, struct setup *s, enum fill fill)
{
    uint32_t n_pages = N_ROWS * ROW_SPAN, kvt = s->mode & KVT_MASK;
    uint32_t *pages = call_bind(j, &s->call, 4, n_pages * 4);
    for (uint32_t i = 2; i < 4; i++) {
        uint64_t bytes = page_bytes(s->n_kv, kvt, s->kv_dim) * n_pages;
        poison(call_bind(j, &s->call, i, bytes), bytes);
    }
    for (uint32_t i = 0; i < n_pages; i++)
        pages[i] = (i * 37 + 11) % n_pages; /* 37 and 64 have no common divisor */
    for (uint32_t row = 0; row < N_ROWS; row++) {
        uint32_t high = positions[row], window = s->push.window;
        for (uint32_t t = window && high + 1 > window ? high + 1 - window : 0; t <= high; t++)
            for (uint32_t head = 0; head < s->n_kv; head++)
                for (uint32_t i = 2; i < 4; i++) {
                    float x[REF_MAX_HEAD] = { 0 };
                    fill_floats(j, x, s->head_dim, fill);
                    for (uint32_t d = 0; d < s->head_dim && i == 3; d++)
                        s->most_v = fmax(s->most_v, fabs((double)x[d]));
                    kv_put(kv_slot(s->call.bind[i].data, pages[row * ROW_SPAN + t / KV_PAGE_TOKENS],
                                   s->n_kv, head, kvt, s->kv_dim),
                           t % KV_PAGE_TOKENS, x);
                }
    }
}

static void make(struct judge *j, struct setup *s, size_t which_heads, size_t which_span, uint32_t mode)
{
    *s = (struct setup){ .n_head = heads[which_heads].n_head, .n_kv = heads[which_heads].n_kv,
                         .head_dim = heads[which_heads].head_dim, .mode = mode,
                         .heads_per_group = heads[which_heads].in_group };
    uint32_t per_kv = s->n_head / s->n_kv, subgroup = j->info->subgroup;
    s->kv_dim = (s->head_dim + 31) / 32 * 32;
    uint32_t split = spans[which_span].split_tokens, splits = (256 + split - 1) / split;
    s->push = (struct push_attention){ s->n_head, s->n_kv, s->head_dim, s->kv_dim, s->n_head * s->kv_dim,
                                       s->n_head * s->head_dim,
                                       spans[which_span].window, splits, split, spans[which_span].softcap };
    s->call = (struct call){ .push = &s->push,
                             .by_rows = j->kernel == KERNEL_attention && which_span % 2 == 1 };
    uint32_t spec[N_SPEC] = { subgroup, (s->kv_dim / 8 + subgroup - 1) / subgroup, s->heads_per_group, mode,
                              subgroup, s->kv_dim / 8 };
    memcpy(s->call.spec, spec, sizeof spec);
    uint32_t *step = judge_step(j, &s->call, N_ROWS, 0);
    for (uint32_t row = 0; row < N_ROWS; row++) {
        step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_POS] = positions[row];
        step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_PAGES] = row * ROW_SPAN;
    }
    s->call.groups[0] = s->n_kv * ((per_kv + s->heads_per_group - 1) / s->heads_per_group);
    s->call.groups[1] = N_ROWS;
    s->call.groups[2] = splits;
}

/* Partials hold sums that are relative to their maximum: off by as much as the score is. */
static void judge_partials(struct judge *j, const struct setup *s, double off)
{
    uint32_t n = s->kv_dim + 2;
    size_t count = (size_t)N_ROWS * s->n_head * s->push.max_splits;
    double *allow = judge_alloc(j, s->call.bind[6].bytes / 4 * sizeof *allow);
    const float *ref = s->call.bind[6].ref;
    for (size_t i = 0; i < count; i++) {
        double weight = fabs((double)ref[i * n + s->kv_dim + 1]);
        for (uint32_t d = 0; d < n; d++)
            allow[i * n + d] = d < s->kv_dim ? off * weight * s->most_v : off * weight;
        allow[i * n + s->kv_dim] = off;
    }
    judge_floats(j, &s->call, 6, s->call.bind[6].bytes / 4, allow);
}

static void judge_out(struct judge *j, const struct setup *s, uint32_t at, double off)
{
    double *allow = judge_alloc(j, s->call.bind[at].bytes / 4 * sizeof *allow);
    for (uint64_t i = 0; i < s->call.bind[at].bytes / 4; i++)
        allow[i] = off * s->most_v;
    judge_floats(j, &s->call, at, s->call.bind[at].bytes / 4, allow);
}

static void bind_out(struct judge *j, struct setup *s, uint32_t at)
{
    call_bind(j, &s->call, at, (uint64_t)N_ROWS * s->push.out_stride * 4);
}

static void check_one(struct judge *j, size_t h, size_t span, uint32_t mode)
{
    struct setup s;
    judge_case(j, "%u/%u heads of %u, split %u window %u cap %g, mode %u, %s", heads[h].n_head,
               heads[h].n_kv, heads[h].head_dim, spans[span].split_tokens, spans[span].window,
               (double)spans[span].softcap, mode, fill_name(spans[span].kv));
    make(j, &s, h, span, mode);
    float *q = call_bind(j, &s.call, 1, (uint64_t)N_ROWS * s.push.q_stride * 4);
    for (uint32_t i = 0; i < N_ROWS * s.n_head; i++)
        for (uint32_t d = 0; d < s.head_dim; d++)
            q[i * s.kv_dim + d] = judge_uniform(j) * spans[span].q_size / sqrtf((float)s.head_dim);
    make_kv(j, &s, spans[span].kv);
    bind_out(j, &s, 5);
    call_bind(j, &s.call, 6, (uint64_t)N_ROWS * s.n_head * s.push.max_splits * (s.kv_dim + 2) * 4);
    if (!call_run(j, &s.call))
        return;
    /* a score is off by a few roundings of its largest terms; exp passes that on */
    double most = spans[span].kv == SPIKES ? 1000 : 1;
    double off = 1.5e-6 + 1.5e-7 * (double)spans[span].q_size * sqrt((double)s.head_dim) * most;
    judge_out(j, &s, 5, off);
    judge_partials(j, &s, off);
}

/* Wide heads take long to compile, and meet fewer spans. */
void check_attention(struct judge *j)
{
    static const uint32_t kinds[] = { KVT_F16, KVT_F32, KVT_Q8 };
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++)
        for (size_t span = 0; span < sizeof spans / sizeof spans[0]; span++) {
            uint32_t mode = kinds[(h + span / 3) % 3];
            if (heads[h].head_dim > 128 && span >= 3)
                break;
            if (spans[span].softcap > 0)
                mode |= ATTN_SOFTCAP;
            check_one(j, h, span, mode);
        }
}

/* ---- attention_join ------------------------------------------------------------------------------------ */

static void check_join_one(struct judge *j, size_t h, size_t span, uint32_t local)
{
    struct setup s;
    judge_case(j, "%u heads of %u, split %u window %u, local %u", heads[h].n_head, heads[h].head_dim,
               spans[span].split_tokens, spans[span].window, local);
    make(j, &s, h, span, 0);
    uint32_t n = s.kv_dim + 2;
    size_t count = (size_t)N_ROWS * s.n_head * s.push.max_splits;
    float *partials = call_bind(j, &s.call, 1, count * n * 4);
    for (size_t i = 0; i < count; i++) {
        float weight = 1 + fabsf(judge_uniform(j)) * 30;
        for (uint32_t d = 0; d < s.kv_dim; d++)
            partials[i * n + d] = judge_uniform(j) * weight;
        partials[i * n + s.kv_dim] = judge_uniform(j) * (i % 5 ? 4 : 90); /* some count for nothing */
        partials[i * n + s.kv_dim + 1] = weight;
    }
    s.most_v = 1;
    bind_out(j, &s, 2);
    s.call.spec[SPEC_LOCAL] = local;
    s.call.groups[0] = s.n_head;
    s.call.groups[2] = 1;
    if (call_run(j, &s.call))
        judge_out(j, &s, 2, 1e-6);
}

void check_join(struct judge *j)
{
    static const uint32_t locals[] = { 8, 32, 4, 16 };
    uint32_t n = 0;
    for (size_t h = 0; h < sizeof heads / sizeof heads[0]; h++)
        for (size_t span = 0; span < sizeof spans / sizeof spans[0]; span++, n++)
            check_join_one(j, h, span, locals[n % 4]);
}
