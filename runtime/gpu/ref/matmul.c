/* v[row][o] = mult * sum over k of W[o][k] x[row][k], then an epilogue.
 *
 * Weights are decoded once for all rows of the step: an output block by 256 inputs at a time, which fits
 * the first cache. Sums are f64. */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"

#define CHUNK_BLOCKS 8
#define CHUNK (32 * CHUNK_BLOCKS)

struct job {
    const struct ref_call *c;
    const struct push_matmul *p;
    struct planes w;
    bool x_q8;
    uint32_t n_rows, mode;
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

static void put(const struct job *j, float *y, uint32_t o, double v)
{
    const float *bias = j->c->at[4];
    if (o >= j->p->m)
        return;
    if (j->mode & MM_BIAS)
        v += (double)bias[o];
    if ((j->mode & EPI_MASK) == EPI_ACT)
        v = activation(j->mode, v);
    if (j->mode & MM_SOFTCAP)
        v = (double)j->p->softcap * tanh(v / (double)j->p->softcap);
    if ((j->mode & EPI_MASK) == EPI_ADD)
        v += (double)y[o];
    y[o] = (float)v;
}

/* gate and up of pair `lane` of output block ob */
static void put_glu(const struct job *j, float *y, uint32_t ob, uint32_t lane, double gate, double up)
{
    const float *bias = j->c->at[4];
    uint32_t o = j->p->first + ob * BLOCK_OUTPUTS + lane, pair = j->p->first / 2 + ob * BLOCK_LANES + lane;
    if (2 * pair >= j->p->m)
        return;
    if (j->mode & MM_BIAS) {
        gate += (double)bias[o];
        up += (double)bias[o + BLOCK_LANES];
    }
    y[pair] = (float)(activation(j->mode, gate) * up);
}

static void put_block(const struct job *j, uint32_t row, uint32_t ob, double v[BLOCK_OUTPUTS])
{
    float *y = (float *)j->c->at[3] + (size_t)row * j->p->y_stride;
    for (uint32_t o = 0; o < BLOCK_OUTPUTS; o++)
        v[o] *= (double)j->p->mult;
    if ((j->mode & EPI_MASK) == EPI_GLU)
        for (uint32_t lane = 0; lane < BLOCK_LANES; lane++)
            put_glu(j, y, ob, lane, v[lane], v[lane + BLOCK_LANES]);
    else
        for (uint32_t o = 0; o < BLOCK_OUTPUTS; o++)
            put(j, y, j->p->first + ob * BLOCK_OUTPUTS + o, v[o]);
}

/* ---- the product ----------------------------------------------------------------------------------- */

static void do_block(const struct job *j, uint32_t ob)
{
    double sum[MAX_STEP_ROWS][BLOCK_OUTPUTS], w[BLOCK_OUTPUTS][CHUNK], x[CHUNK];
    memset(sum, 0, sizeof sum[0] * j->n_rows);
    for (uint32_t kb = 0; kb < j->p->n_kb; kb += CHUNK_BLOCKS) {
        uint32_t n_kb = min_u32(CHUNK_BLOCKS, j->p->n_kb - kb);
        get_weights(j, ob, kb, n_kb, w);
        for (uint32_t row = 0; row < j->n_rows; row++) {
            get_x(j, row, kb, n_kb, x);
            for (uint32_t o = 0; o < BLOCK_OUTPUTS; o++)
                sum[row][o] += dot(w[o], x, n_kb * 32);
        }
    }
    for (uint32_t row = 0; row < j->n_rows; row++)
        put_block(j, row, ob, sum[row]);
}

/* Output blocks of a workgroup. */
static uint32_t blocks_of_group(const uint32_t *spec)
{
    return spec[SPEC_BLOCKS] * (spec[SPEC_KPARTS] > 1 ? 1 : spec[SPEC_LOCAL] / BLOCK_LANES);
}

void ref_matmul(const struct ref_call *c)
{
    const struct push_matmul *p = c->push;
    struct job j = { .c = c, .p = p, .mode = c->spec[SPEC_MODE] };
    const uint32_t *step = c->at[0], plane[4] = { p->plane0, p->plane1, p->plane2, p->plane3 };
    j.w = planes_of(c->kernel, c->at[1], plane, p->n_kb, &j.x_q8);
    j.n_rows = min_u32(step[j.mode & MM_GATHERED ? STEP_N_OUT : STEP_N_ROWS], MAX_STEP_ROWS);
    j.n_rows = min_u32(j.n_rows, c->groups[1] * c->spec[SPEC_COLS]);
    uint32_t n_ob = min_u32(p->n_ob, c->groups[0] * blocks_of_group(c->spec));
    for (uint32_t ob = 0; ob < n_ob && j.n_rows; ob++)
        do_block(&j, ob);
}
