/* norm: every mode, to each of its outputs. */
#include <math.h>

#include "tests/check_kernels/judge.h"

static const uint32_t modes[] = {
    NM_RMS | NM_TO_F32,
    NM_RMS | NM_TO_Q8,
    NM_RMS | NM_TO_F32 | NM_TO_Q8,
    NM_RMS | NM_ADD,
    NM_RMS | NM_TO_F32 | NM_GATHER,
    NM_RMS | NM_TO_Q8 | NM_GATHER,
    NM_RMS | NM_ADD | NM_TO_Q8,
    NM_LAYER | NM_TO_F32,
    NM_LAYER | NM_TO_F32 | NM_BIAS,
    NM_LAYER | NM_TO_Q8 | NM_BIAS,
    NM_TO_Q8,
    NM_TO_F32,
};
#define LEAST 0x1p-126 /* devices may flush what is smaller */
static const struct {
    uint32_t n, rows, pad; /* pad: floats between rows */
    float scale, eps;
    enum fill fill;
    uint32_t zeros; /* of n, behind what counts */
} shapes[] = {
    { 32, 1, 0, 1, 1e-5f, PLAIN, 0 }, { 64, 3, 32, 1, 1e-6f, SIGNS, 0 },
    { 96, 5, 0, 0.22f, 1e-5f, PLAIN, 0 }, { 576, 128, 0, 1, 1e-5f, PLAIN, 0 },
    { 576, 2, 0, 1, 1e-5f, ZEROS, 0 }, { 576, 4, 4, 1, 1e-5f, HUGE_ONES, 0 },
    { 576, 4, 4, 3, 1e-5f, TINY, 0 }, { 2048, 7, 0, 1, 1e-6f, SPIKES, 0 },
    { 4096, 2, 0, 1, 1e-5f, PLAIN, 0 }, { 65536, 1, 0, 1, 1e-5f, SPIKES, 0 },
    { 576, 3, 0, 1, 1e-5f, VANISHING, 0 }, { 64, 3, 0, 1, 1e-5f, PLAIN, 17 },
    { 32, 2, 4, 2, 1e-5f, SPIKES, 31 },
};

/* How far each float may be off: a few roundings of each term, and of what the mean takes away; the
 * sums of n/32 blocks are added one after another. */
static void allow_row(const float *x, const float *w, uint32_t n, uint32_t n_row, uint32_t mode, float out_scale,
                      float eps, double *allow)
{
    double sum = 0, square = 0, size = 0, mean = 0, scale = 1;
    for (uint32_t i = 0; i < n; i++) {
        sum += (double)x[i];
        size += fabs((double)x[i]);
    }
    if (mode & NM_LAYER)
        mean = sum / n_row;
    for (uint32_t i = 0; i < n_row; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean);
    if (mode & (NM_RMS | NM_LAYER))
        scale = 1 / sqrt(square / n_row + (double)eps);
    for (uint32_t i = 0; i < n; i++) {
        double v = fabs((double)x[i]) + (mode & NM_LAYER ? fabs(mean) + size / n_row : 0);
        v *= scale * (mode & (NM_RMS | NM_LAYER) ? fabs((double)w[i]) : 1);
        v += mode & NM_BIAS ? fabs((double)w[n + i]) : 0;
        allow[i] = (3e-6 + n / 32 * 1.5e-8) * v * fabs((double)out_scale) + LEAST;
    }
}

static void check_shape(struct judge *j, uint32_t mode, size_t which, uint32_t local)
{
    uint32_t n = shapes[which].n, rows = shapes[which].rows, stride = n + shapes[which].pad;
    uint32_t q_stride = (n + 127) / 128 * Q8_GROUP_QUADS;
    struct call c = { .spec = { [SPEC_LOCAL] = local, [SPEC_MODE] = mode,
                                [SPEC_SUBGROUP] = j->info->subgroup } };
    uint32_t *step = judge_step(j, &c, rows, rows);
    float *x = call_bind(j, &c, 1, (uint64_t)rows * stride * 4), *w = call_bind(j, &c, 2, 2 * n * 4);
    float *y = call_bind(j, &c, 3, (uint64_t)rows * stride * 4);
    call_bind(j, &c, 4, (uint64_t)rows * q_stride * 16);
    fill_floats(j, x, (size_t)rows * stride, shapes[which].fill);
    fill_floats(j, w, 2 * n, PLAIN);
    uint32_t n_row = mode & (NM_RMS | NM_LAYER) ? n - shapes[which].zeros : n;
    for (uint32_t i = n_row; i < n; i++) {
        w[i] = w[n + i] = 0;
        for (uint32_t row = 0; row < rows; row++)
            x[row * stride + i] = 0;
    }
    double *allow = judge_alloc(j, c.bind[3].bytes / 4 * sizeof *allow);
    for (uint32_t row = 0; row < rows; row++) {
        step[STEP_OUT + row] = rows - 1 - row / 2;
        uint32_t from = mode & NM_GATHER ? step[STEP_OUT + row] : row;
        allow_row(x + (size_t)from * stride, w, n, n_row, mode, shapes[which].scale, shapes[which].eps,
                  allow + (size_t)row * stride);
        for (uint32_t i = 0; i < n && mode & NM_ADD; i++) {
            y[row * stride + i] = judge_uniform(j) * 4;
            allow[row * stride + i] += 2e-7 * fabs((double)y[row * stride + i]);
        }
    }
    c.push = &(struct push_norm){ n, stride, stride, q_stride, shapes[which].eps, shapes[which].scale,
                                  n_row };
    c.groups[0] = rows;
    c.groups[1] = c.groups[2] = 1;
    if (!call_run(j, &c))
        return;
    judge_floats(j, &c, 3, c.bind[3].bytes / 4, allow);
    judge_untouched(j, &c, 4);
    if (mode & NM_TO_Q8)
        judge_q8(j, &c, 4, rows, n, q_stride);
}

void check_norm(struct judge *j)
{
    uint32_t locals[2] = { j->info->subgroup, 64 };
    for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
            judge_case(j, "mode %u, n %u, %u rows, %s", modes[m], shapes[i].n, shapes[i].rows,
                       fill_name(shapes[i].fill));
            check_shape(j, modes[m], i, locals[m % 2]);
        }
}
