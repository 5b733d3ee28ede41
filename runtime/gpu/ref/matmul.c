/* v[row][o] = mult * sum over k of W[o][k] x[row][k], then an epilogue.
 *
 * Weights are decoded once for all rows of the step: an output block by 256 inputs at a time, which fits
 * the first cache. Sums are f64. The epilogue takes four blocks at once: whatever it makes of them, whole
 * blocks of 32 inputs of the next matmul are among it. */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"

#define CHUNK_BLOCKS 8
#define CHUNK (32 * CHUNK_BLOCKS)
#define UNIT 4 /* output blocks */
#define UNIT_OUTPUTS (UNIT * BLOCK_OUTPUTS)

struct job {
    const struct ref_call *c;
    const struct push_matmul *p;
    struct planes w;
    bool x_q8;
    uint32_t n_rows, mode;
    uint32_t lanes; /* of an output block in a workgroup */
};

static void get_x(const struct job *j, uint32_t row, uint32_t kb, uint32_t n_kb, double *out)
{
    const uint32_t *x = (const uint32_t *)j->c->at[2] + (size_t)row * j->p->x_stride * 4;
    if (j->x_q8) {
        q8_get(x, kb, n_kb, out);
        return;
    }
    const float *f = (const float *)(const void *)x + (size_t)kb * 32;
    for (uint32_t i = 0; i < n_kb * 32; i++)
        out[i] = (double)f[i];
}

static void get_weights(const struct job *j, uint32_t ob, uint32_t kb, uint32_t n_kb,
                        double w[BLOCK_OUTPUTS][CHUNK])
{
    for (uint32_t o = 0; o < BLOCK_OUTPUTS; o++)
        for (uint32_t b = 0; b < n_kb; b++) {
            float f[32];
            planes_decode(&j->w, ob * BLOCK_OUTPUTS + o, kb + b, f);
            for (int i = 0; i < 32; i++)
                w[o][32 * b + (uint32_t)i] = (double)f[i];
        }
}

/* n a multiple of 32. Eight sums, so that it becomes vectors. */
static double dot(const double *a, const double *b, uint32_t n)
{
    double s[8] = { 0 };
    for (uint32_t i = 0; i < n; i += 8)
        for (int t = 0; t < 8; t++)
            s[t] += a[i + (uint32_t)t] * b[i + (uint32_t)t];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

/* ---- the epilogue ------------------------------------------------------------------------------- */

static double activation(uint32_t mode, double v)
{
    if ((mode & EPI_ACT_MASK) == EPI_SILU)
        return v / (1 + exp(-v));
    if ((mode & EPI_ACT_MASK) == EPI_GELU)
        return 0.5 * v * (1 + tanh(0.7978845608028654 * (v + 0.044715 * v * v * v)));
    return 0.5 * v * (1 + erf(v * 0.7071067811865476));
}

static float *row_of(const struct job *j, int binding, uint32_t row, uint32_t stride)
{
    return (float *)j->c->at[binding] + (size_t)row * stride;
}

static void put(const struct job *j, float *y, uint32_t o, double v)
{
    if (o >= j->p->m)
        return;
    if ((j->mode & EPI_MASK) == EPI_ACT)
        v = activation(j->mode, v);
    if (j->mode & MM_SOFTCAP)
        v = (double)j->p->softcap * tanh(v / (double)j->p->softcap);
    if ((j->mode & EPI_MASK) == EPI_ADD)
        v += (double)y[o];
    y[o] = (float)v;
}

static void put_plain(const struct job *j, uint32_t row, uint32_t ob, uint32_t n, const double *v)
{
    for (uint32_t i = 0; i < n * BLOCK_OUTPUTS; i++) {
        uint32_t o = QUADS_OUTPUT(ob + i / BLOCK_OUTPUTS, i % BLOCK_LANES, i / BLOCK_LANES % 2);
        put(j, row_of(j, 3, row, j->p->y_stride), j->p->first + o, v[i]);
    }
}

static void put_glu(const struct job *j, uint32_t row, uint32_t ob, uint32_t n, const double *v)
{
    float h[UNIT * BLOCK_LANES] = { 0 }, *y = row_of(j, 3, row, j->p->y_stride);
    uint32_t first = j->p->first / 2 + ob * BLOCK_LANES;
    for (uint32_t b = 0; b < n; b++)
        for (uint32_t lane = 0; lane < BLOCK_LANES; lane++) {
            const double *gate = v + b * BLOCK_OUTPUTS + lane;
            h[GLU_PAIR(b, lane)] = (float)(activation(j->mode, gate[0]) * gate[BLOCK_LANES]);
        }
    if (j->mode & MM_NEXT_Q8) {
        uint32_t *q8 = (uint32_t *)j->c->at[7] + (size_t)row * j->p->next_stride * 4;
        q8_put_block(q8, first / 32, h);
        return;
    }
    for (uint32_t b = 0; b < n; b++)
        for (uint32_t lane = 0; lane < BLOCK_LANES; lane++)
            if (2 * (first + GLU_PAIR(b, lane)) < j->p->m)
                y[first + GLU_PAIR(b, lane)] = h[GLU_PAIR(b, lane)];
}

/* A residual stream, and what the next matmul wants of it. */
static void put_residual(const struct job *j, uint32_t row, uint32_t ob, uint32_t n, const double *v)
{
    const struct push_matmul *p = j->p;
    const float *g = j->c->at[9];
    uint32_t lanes = j->lanes, *q8 = (uint32_t *)j->c->at[7] + (size_t)row * p->next_stride * 4;
    float *y = row_of(j, 3, row, p->y_stride), *next = row_of(j, 6, row, p->y_stride);
    float *partial = row_of(j, 8, row, p->part_stride * 4), a[UNIT_OUTPUTS];
    put_plain(j, row, ob, n, v);
    for (uint32_t b = 0; b < n; b++) {
        double sum[BLOCK_LANES] = { 0 };
        for (uint32_t i = 0; i < BLOCK_OUTPUTS; i++) {
            uint32_t o = p->first + QUADS_OUTPUT(ob + b, i % BLOCK_LANES, i / BLOCK_LANES);
            sum[i % BLOCK_LANES / lanes] += (double)y[o] * (double)y[o];
            a[QUADS_OUTPUT(b, i % BLOCK_LANES, i / BLOCK_LANES)] = y[o] * g[o];
            if (j->mode & MM_NEXT_F32)
                next[o] = y[o] * g[o];
        }
        for (uint32_t i = 0; i < BLOCK_LANES / lanes; i++)
            partial[(p->first / 2 + (ob + b) * BLOCK_LANES) / lanes + i] = (float)sum[i];
        if (b % 2 && j->mode & MM_NEXT_Q8)
            q8_put_block(q8, (p->first / BLOCK_OUTPUTS + ob + b) / 2, a + b / 2 * 32);
    }
}

static void put_heads(const struct job *j, uint32_t row, uint32_t ob, uint32_t n, const double *v)
{
    const struct push_matmul *p = j->p;
    const uint32_t *pages = (const uint32_t *)j->c->at[8] + step_row(j->c, row, ROW_PAGES);
    uint32_t pos = step_row(j->c, row, ROW_POS), half = p->head_dim / 2;
    const float *table = (const float *)j->c->at[9] + (size_t)pos * half * 2;
    for (uint32_t i = 0; i < n * BLOCK_OUTPUTS; i++) {
        uint32_t o = p->first + (ob + i / BLOCK_OUTPUTS) * BLOCK_OUTPUTS, h = o / p->head_dim;
        uint32_t u = o % p->head_dim / 2 + i % BLOCK_LANES;
        bool is_q = h < p->n_head, is_v = h >= p->n_head + p->n_kv, hi = i / BLOCK_LANES % 2;
        uint32_t d = j->mode & MM_NEOX && !is_v ? u + (hi ? half : 0) : 2 * u + hi;
        double other = v[hi ? i - BLOCK_LANES : i + BLOCK_LANES], x = v[i];
        if (o >= p->m)
            continue;
        if (!is_v)
            x = hi ? other * (double)table[2 * u + 1] + x * (double)table[2 * u]
                   : x * (double)table[2 * u] - other * (double)table[2 * u + 1];
        if (is_q) {
            row_of(j, 3, row, p->y_stride)[h * p->kv_dim + d] = (float)(x * (double)p->q_scale);
            continue;
        }
        struct kv_slot slot = kv_slot(j->c->at[is_v ? 7 : 6], pages[pos / KV_PAGE_TOKENS], p->n_kv,
                                      (h - p->n_head) % p->n_kv, j->mode & MM_KV_F32 ? KVT_F32 : KVT_F16,
                                      p->kv_dim);
        size_t at = (size_t)(pos % KV_PAGE_TOKENS) * p->kv_dim + d;
        if (j->mode & MM_KV_F32)
            ((float *)(void *)slot.at)[at] = (float)x;
        else
            ((uint16_t *)(void *)slot.at)[at] = f32_to_half((float)x);
    }
}

/* 1 / sqrt(mean of squares + eps), from the row's partials. */
static double rms_scale(const struct job *j, uint32_t row)
{
    const float *partial = row_of(j, 5, row, j->p->part_stride * 4);
    double sum = 0;
    for (uint32_t i = 0; i < j->p->rms_parts; i++)
        sum += (double)partial[i];
    return 1 / sqrt(sum / j->p->rms_n + (double)j->p->eps);
}

/* v: [n blocks][lo of 8 lanes, hi of 8 lanes] */
static void put_unit(const struct job *j, uint32_t row, uint32_t ob, uint32_t n, double *v)
{
    uint32_t epi = j->mode & EPI_MASK;
    const float *bias = (const float *)j->c->at[4];
    double scale = (double)j->p->mult * (j->mode & MM_RMS ? rms_scale(j, row) : 1);
    for (uint32_t i = 0; i < n * BLOCK_OUTPUTS; i++) {
        v[i] *= scale;
        if (j->mode & MM_BIAS)
            v[i] += (double)bias[j->p->first + ob * BLOCK_OUTPUTS + i];
    }
    if (epi == EPI_GLU)
        put_glu(j, row, ob, n, v);
    else if (epi == EPI_HEADS)
        put_heads(j, row, ob, n, v);
    else if (epi == EPI_ADD && j->mode & (MM_NEXT_F32 | MM_NEXT_Q8))
        put_residual(j, row, ob, n, v);
    else
        put_plain(j, row, ob, n, v);
}

/* ---- the product ----------------------------------------------------------------------------------- */

static void add_products(const struct job *j, uint32_t ob, double (*sum)[UNIT_OUTPUTS], uint32_t at)
{
    double w[BLOCK_OUTPUTS][CHUNK], x[CHUNK];
    for (uint32_t kb = 0; kb < j->p->n_kb; kb += CHUNK_BLOCKS) {
        uint32_t n_kb = min_u32(CHUNK_BLOCKS, j->p->n_kb - kb);
        get_weights(j, ob, kb, n_kb, w);
        for (uint32_t row = 0; row < j->n_rows; row++) {
            get_x(j, row, kb, n_kb, x);
            for (uint32_t o = 0; o < BLOCK_OUTPUTS; o++)
                sum[row][at + o] += dot(w[o], x, n_kb * 32);
        }
    }
}

static void do_unit(const struct job *j, uint32_t ob, uint32_t n)
{
    double sum[MAX_STEP_ROWS][UNIT_OUTPUTS];
    memset(sum, 0, sizeof sum[0] * j->n_rows);
    for (uint32_t b = 0; b < n; b++)
        add_products(j, ob + b, sum, b * BLOCK_OUTPUTS);
    for (uint32_t row = 0; row < j->n_rows; row++)
        put_unit(j, row, ob, n, sum[row]);
}

/* Output blocks of all workgroups. */
static uint32_t blocks_of(const struct ref_call *c, uint32_t lanes)
{
    uint32_t eighths = c->spec[SPEC_KPARTS] > 1 ? lanes : c->spec[SPEC_LOCAL];
    return c->groups[0] * c->spec[SPEC_BLOCKS] * c->spec[SPEC_PASSES] * eighths / BLOCK_LANES;
}

void ref_matmul(const struct ref_call *c)
{
    const struct push_matmul *p = c->push;
    struct job j = { .c = c, .p = p, .mode = c->spec[SPEC_MODE] };
    const uint32_t *step = c->at[0], plane[4] = { p->plane0, p->plane1, p->plane2, p->plane3 };
    j.w = planes_of(c->kernel, c->at[1], plane, p->n_kb, &j.x_q8);
    j.n_rows = min_u32(step[j.mode & MM_GATHERED ? STEP_N_OUT : STEP_N_ROWS], MAX_STEP_ROWS);
    j.n_rows = min_u32(j.n_rows, c->groups[1] * c->spec[SPEC_COLS]);
    j.lanes = c->spec[SPEC_KPARTS] > 1 ? c->spec[SPEC_LOCAL] / c->spec[SPEC_KPARTS] : BLOCK_LANES;
    uint32_t n_ob = min_u32(p->n_ob, blocks_of(c, j.lanes));
    for (uint32_t ob = 0; ob < n_ob && j.n_rows; ob += UNIT)
        do_unit(&j, ob, min_u32(UNIT, n_ob - ob));
}
