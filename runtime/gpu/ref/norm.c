/* RMSNorm, LayerNorm or neither of each row, to f32, to q8, or added to a residual stream. */
#include <math.h>

#include "runtime/gpu/ref/ref_priv.h"

struct moments {
    double mean, scale;
};

static struct moments moments_of(const float *x, uint32_t n, uint32_t mode, double eps)
{
    struct moments m = { 0, 1 };
    double sum = 0;
    if (!(mode & (NM_RMS | NM_LAYER)))
        return m;
    for (uint32_t i = 0; mode & NM_LAYER && i < n; i++)
        sum += (double)x[i];
    m.mean = sum / n;
    sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += ((double)x[i] - m.mean) * ((double)x[i] - m.mean);
    m.scale = 1 / sqrt(sum / n + eps);
    return m;
}

static void norm_row(const struct ref_call *c, uint32_t row)
{
    const struct push_norm *p = c->push;
    uint32_t mode = c->spec[SPEC_MODE];
    uint32_t from = mode & NM_GATHER ? ((const uint32_t *)c->at[0])[STEP_OUT + row] : row;
    const float *x = (const float *)c->at[1] + (size_t)from * p->x_stride, *w = c->at[2];
    float *y = (float *)c->at[3] + (size_t)row * p->y_stride;
    uint32_t *q8 = (uint32_t *)c->at[4] + (size_t)row * p->q_stride * 4;
    struct moments m = moments_of(x, p->n_row, mode, (double)p->eps);

    for (uint32_t b = 0; b < p->n / 32; b++) {
        float v[32];
        for (uint32_t t = 0, i = b * 32; t < 32; t++, i++) {
            double d = ((double)x[i] - m.mean) * m.scale;
            if (mode & (NM_RMS | NM_LAYER))
                d *= (double)w[i];
            if (mode & NM_BIAS)
                d += (double)w[p->n + i];
            v[t] = (float)(d * (double)p->scale);
            if (mode & NM_ADD)
                y[i] += v[t];
            else if (mode & NM_TO_F32)
                y[i] = v[t];
        }
        if (mode & NM_TO_Q8)
            q8_put_block(q8, b, v);
    }
}

void ref_norm(const struct ref_call *c)
{
    for (uint32_t row = 0; row < c->groups[0]; row++)
        norm_row(c, row);
}
