/* Attention of each row over each split of its timeline: softmax(scores) V, token by token, in f64. */
#include <math.h>

#include "runtime/gpu/ref/ref_priv.h"

struct head {
    double sum[REF_MAX_HEAD]; /* of p * V */
    double top, weight;       /* maximum score; sum of p */
};

/* What a row sees, and the splits that this is cut into. */
struct span {
    uint32_t low, high, first_split, last_split;
};

static struct span span_of(const struct ref_call *c, uint32_t row)
{
    const struct push_attention *p = c->push;
    struct span s = { .high = step_row(c, row, ROW_POS) };
    s.low = p->window > 0 && s.high + 1 > p->window ? s.high + 1 - p->window : 0;
    s.first_split = s.low / p->split_tokens;
    s.last_split = s.high / p->split_tokens;
    return s;
}

static void see(struct head *h, double score, const float *v, uint32_t n)
{
    double top = fmax(h->top, score), fade = exp(h->top - top), weight = exp(score - top);
    h->top = top;
    h->weight = h->weight * fade + weight;
    for (uint32_t i = 0; i < n; i++)
        h->sum[i] = h->sum[i] * fade + weight * (double)v[i];
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double s[8] = { 0 };
    for (uint32_t i = 0; i < n; i += 8)
        for (uint32_t t = 0; t < 8; t++)
            s[t] += (double)a[i + t] * (double)b[i + t];
    return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
}

static void put_head(const struct push_attention *p, float *out, uint32_t row, uint32_t head, const double *sum,
                     double weight)
{
    float *to = out + (size_t)row * p->out_stride + (size_t)head * p->head_dim;
    for (uint32_t i = 0; i < p->head_dim; i++)
        to[i] = (float)(sum[i] / weight);
}

static float *partial_of(const struct push_attention *p, void *partials, uint32_t row, uint32_t head,
                         uint32_t split)
{
    size_t index = ((size_t)row * p->n_head + head) * p->max_splits + split;
    return (float *)partials + index * (p->kv_dim + 2);
}

static void put_partial(const struct push_attention *p, float *to, const struct head *h)
{
    for (uint32_t i = 0; i < p->kv_dim; i++)
        to[i] = (float)h->sum[i];
    to[p->kv_dim] = (float)h->top;
    to[p->kv_dim + 1] = (float)h->weight;
}

static void do_head(const struct ref_call *c, uint32_t row, uint32_t head, uint32_t split)
{
    const struct push_attention *p = c->push;
    const uint32_t *pages = (const uint32_t *)c->at[4] + step_row(c, row, ROW_PAGES);
    const float *q = (const float *)c->at[1] + (size_t)row * p->q_stride + (size_t)head * p->kv_dim;
    uint32_t kv_head = head / (p->n_head / p->n_kv), kvt = c->spec[SPEC_MODE] & KVT_MASK;
    struct span s = span_of(c, row);
    if (split < s.first_split || split > s.last_split)
        return;
    uint32_t from = split * p->split_tokens, end = min_u32(s.high + 1, from + p->split_tokens);
    struct head h = { .top = -HUGE_VAL };
    for (uint32_t t = from < s.low ? s.low : from; t < end; t++) {
        uint32_t page = pages[t / KV_PAGE_TOKENS];
        float kv[REF_MAX_HEAD];
        kv_get(kv_slot(c->at[2], page, p->n_kv, kv_head, kvt, p->kv_dim), t % KV_PAGE_TOKENS, kv);
        double score = dot(q, kv, p->kv_dim);
        if (c->spec[SPEC_MODE] & ATTN_SOFTCAP)
            score = (double)p->softcap * tanh(score / (double)p->softcap);
        kv_get(kv_slot(c->at[3], page, p->n_kv, kv_head, kvt, p->kv_dim), t % KV_PAGE_TOKENS, kv);
        see(&h, score, kv, p->kv_dim);
    }
    if (s.first_split == s.last_split)
        put_head(p, c->at[5], row, head, h.sum, h.weight);
    else
        put_partial(p, partial_of(p, c->at[6], row, head, split), &h);
}

void ref_attention(const struct ref_call *c)
{
    const struct push_attention *p = c->push;
    uint32_t per_kv = p->n_head / p->n_kv, per_group = c->spec[SPEC_BLOCKS];
    uint32_t chunks = (per_kv + per_group - 1) / per_group;
    for (uint32_t row = 0; row < c->groups[1]; row++)
        for (uint32_t x = 0; x < c->groups[0]; x++)
            for (uint32_t i = x % chunks * per_group; i < min_u32(per_kv, (x % chunks + 1) * per_group); i++)
                for (uint32_t split = 0; split < c->groups[2]; split++)
                    do_head(c, row, x / chunks * per_kv + i, split);
}

/* ---- attention_join: the partials of a row that took more than one split ------------------------------- */

static void join_head(const struct ref_call *c, uint32_t row, uint32_t head)
{
    const struct push_attention *p = c->push;
    struct span s = span_of(c, row);
    double sum[REF_MAX_HEAD] = { 0 }, weight = 0, top = -HUGE_VAL;
    if (s.first_split == s.last_split)
        return;
    for (uint32_t split = s.first_split; split <= s.last_split; split++)
        top = fmax(top, (double)partial_of(p, c->at[1], row, head, split)[p->kv_dim]);
    for (uint32_t split = s.first_split; split <= s.last_split; split++) {
        const float *part = partial_of(p, c->at[1], row, head, split);
        double fade = exp((double)part[p->kv_dim] - top);
        weight += (double)part[p->kv_dim + 1] * fade;
        for (uint32_t i = 0; i < p->head_dim; i++)
            sum[i] += (double)part[i] * fade;
    }
    put_head(p, c->at[2], row, head, sum, weight);
}

void ref_attention_join(const struct ref_call *c)
{
    for (uint32_t row = 0; row < c->groups[1]; row++)
        for (uint32_t head = 0; head < c->groups[0]; head++)
            join_head(c, row, head);
}
