/* rope: q heads, and K and V in their pages. */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"
#include "tests/check_kernels/judge.h"

static const struct {
    uint32_t n_head, n_kv, head_dim, n_rot;
} heads[] = {
    { 9, 3, 64, 64 }, { 4, 1, 32, 32 }, { 2, 2, 80, 32 },  { 3, 3, 100, 100 },
    { 8, 2, 128, 64 }, { 4, 2, 256, 256 }, { 2, 1, 512, 512 }, { 2, 2, 64, 0 },
};
static const uint32_t modes[] = { KVT_F16,
                                  KVT_F16 | ROPE_NEOX,
                                  KVT_F32 | ROPE_NEOX | ROPE_QKNORM,
                                  KVT_Q8,
                                  KVT_Q8 | ROPE_NEOX | ROPE_QKNORM,
                                  KVT_F32 };
static const uint32_t positions[] = { 0, 31, 32, 63, 100, 159, 7 };
#define N_ROWS (sizeof positions / sizeof positions[0])
#define N_POS 160
#define ROW_SPAN (N_POS / KV_PAGE_TOKENS) /* pages of a session */

/* Every session has pages of its own, scattered. */
static void make_pages(struct judge *j, uint32_t *pages, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        pages[i] = i;
    for (uint32_t i = n - 1; i > 0; i--) {
        uint32_t with = judge_random(j) % (i + 1), t = pages[i];
        pages[i] = pages[with];
        pages[with] = t;
    }
}

static void check(struct judge *j, size_t which, uint32_t mode, uint32_t local, enum fill fill)
{
    uint32_t n_head = heads[which].n_head, n_kv = heads[which].n_kv, head_dim = heads[which].head_dim;
    uint32_t n_rot = heads[which].n_rot, kv_dim = (head_dim + 31) / 32 * 32, all = n_head + 2 * n_kv;
    struct call c = { .spec = { [SPEC_LOCAL] = local, [SPEC_MODE] = mode,
                                [SPEC_SUBGROUP] = j->info->subgroup } };
    if (j->kernel == KERNEL_rope_whole) {
        c.spec[SPEC_LOCAL] = j->info->subgroup;
        c.spec[SPEC_COLS] = (kv_dim / 8 + j->info->subgroup - 1) / j->info->subgroup;
    }
    uint32_t *step = judge_step(j, &c, N_ROWS, 0), n_pages = N_ROWS * ROW_SPAN;
    float *qkv = call_bind(j, &c, 1, N_ROWS * all * head_dim * 4);
    float *table = call_bind(j, &c, 2, N_POS * n_rot * 4), *norms = call_bind(j, &c, 3, 2 * head_dim * 4);
    make_pages(j, call_bind(j, &c, 4, n_pages * 4), n_pages);
    call_bind(j, &c, 5, (uint64_t)N_ROWS * n_head * kv_dim * 4);
    for (uint32_t i = 6; i < 8; i++)
        call_bind(j, &c, i, page_bytes(n_kv, mode & KVT_MASK, kv_dim) * n_pages);
    fill_floats(j, qkv, N_ROWS * all * head_dim, fill);
    fill_floats(j, norms, 2 * head_dim, PLAIN);
    for (uint32_t i = 0; i < N_POS * (n_rot / 2); i++) {
        table[2 * i] = cosf((float)i);
        table[2 * i + 1] = sinf((float)i);
    }
    for (uint32_t row = 0; row < N_ROWS; row++) {
        step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_POS] = positions[row];
        step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_PAGES] = row * ROW_SPAN;
    }
    c.push = &(struct push_rope){ n_head, n_kv, head_dim, kv_dim, n_rot, all * head_dim,
                                  n_head * kv_dim, 0.125f, 1e-6f };
    c.groups[0] = all;
    c.groups[1] = N_ROWS;
    c.groups[2] = 1;
    if (!call_run(j, &c))
        return;
    double *allow = judge_alloc(j, c.bind[5].bytes / 4 * sizeof *allow);
    const float *ref = c.bind[5].ref;
    for (uint32_t h = 0; h < N_ROWS * n_head; h++) {
        double most = 0;
        for (uint32_t i = 0; i < kv_dim; i++)
            most = fmax(most, fabs((double)ref[h * kv_dim + i]));
        for (uint32_t i = 0; i < kv_dim; i++)
            allow[h * kv_dim + i] = 1e-6 * most;
    }
    judge_floats(j, &c, 5, c.bind[5].bytes / 4, allow);
    judge_pages(j, &c, 6, n_pages * n_kv, mode & KVT_MASK, kv_dim, 2e-6);
    judge_pages(j, &c, 7, n_pages * n_kv, mode & KVT_MASK, kv_dim, 2e-6);
}

void check_rope(struct judge *j)
{
    static const uint32_t locals[] = { 8, 32, 64, 16, 4 };
    static const enum fill fills[] = { PLAIN, SPIKES, ZEROS, SIGNS, VANISHING };
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++, n++) {
            bool whole = heads[i].n_rot == heads[i].head_dim && heads[i].head_dim % 8 == 0 &&
                         (modes[m] & KVT_MASK) != KVT_Q8;
            if (j->kernel == KERNEL_rope_whole && !whole)
                continue;
            judge_case(j, "%u+%u heads of %u, rotated %u, mode %u, local %u, %s", heads[i].n_head,
                       heads[i].n_kv, heads[i].head_dim, heads[i].n_rot, modes[m], locals[m % 5],
                       fill_name(fills[n % 5]));
            check(j, i, modes[m], locals[m % 5], fills[n % 5]);
        }
}
