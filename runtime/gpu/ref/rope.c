/* Rotary position embedding of the q and k heads, after an optional RMS norm of each; K and V into pages. */
#include <math.h>

#include "runtime/gpu/ref/ref_priv.h"

static void norm_head(double *head, uint32_t n, const float *weights, double eps)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += head[i] * head[i];
    double scale = 1 / sqrt(sum / n + eps);
    for (uint32_t i = 0; i < n; i++)
        head[i] *= scale * (double)weights[i];
}

/* table: (cos, sin) of this position's n_rot/2 angles */
static void rotate(double *head, uint32_t n_rot, const float *table, bool neox)
{
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        double *a = head + (neox ? i : 2 * i), *b = head + (neox ? i + n_rot / 2 : 2 * i + 1);
        double cosine = (double)table[2 * i], sine = (double)table[2 * i + 1], x = *a, y = *b;
        *a = x * cosine - y * sine;
        *b = x * sine + y * cosine;
    }
}

static void do_head(const struct ref_call *c, uint32_t h, uint32_t row)
{
    const struct push_rope *p = c->push;
    const float *qkv = (const float *)c->at[1] + (size_t)row * p->qkv_stride + (size_t)h * p->head_dim;
    const uint32_t *pages = (const uint32_t *)c->at[4] + step_row(c, row, ROW_PAGES);
    uint32_t pos = step_row(c, row, ROW_POS), mode = c->spec[SPEC_MODE];
    bool is_q = h < p->n_head, is_k = !is_q && h < p->n_head + p->n_kv;
    double head[REF_MAX_HEAD] = { 0 };
    float out[REF_MAX_HEAD];
    for (uint32_t i = 0; i < p->head_dim; i++)
        head[i] = (double)qkv[i];
    if (is_q || is_k) {
        if (mode & ROPE_QKNORM)
            norm_head(head, p->head_dim, (const float *)c->at[3] + (is_q ? 0 : p->head_dim),
                      (double)p->eps);
        rotate(head, p->n_rot, (const float *)c->at[2] + (size_t)pos * (p->n_rot / 2) * 2,
               mode & ROPE_NEOX);
    }
    for (uint32_t i = 0; i < p->kv_dim; i++)
        out[i] = (float)(is_q ? head[i] * (double)p->q_scale : head[i]);
    if (is_q) {
        float *q = (float *)c->at[5] + (size_t)row * p->q_stride + (size_t)h * p->kv_dim;
        for (uint32_t i = 0; i < p->kv_dim; i++)
            q[i] = out[i];
        return;
    }
    kv_put(kv_slot(c->at[is_k ? 6 : 7], pages[pos / KV_PAGE_TOKENS], p->n_kv, (h - p->n_head) % p->n_kv,
                   mode & KVT_MASK, p->kv_dim),
           pos % KV_PAGE_TOKENS, out);
}

void ref_rope(const struct ref_call *c)
{
    for (uint32_t row = 0; row < c->groups[1]; row++)
        for (uint32_t h = 0; h < c->groups[0]; h++)
            do_head(c, h, row);
}
