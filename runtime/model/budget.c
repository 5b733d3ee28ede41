#include "runtime/model/budget.h"

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t times(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t bytes_of(const struct gguf_tensor *const *t, int n)
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum = add(sum, t[i] ? t[i]->bytes : 0);
    return sum;
}

uint64_t budget_weights(const struct weights *w)
{
    uint64_t sum = bytes_of(w->t, W_MODEL_COUNT);
    for (uint32_t i = 0; i < w->n_layer; i++)
        sum = add(sum, bytes_of(w->layer[i].t, W_LAYER_COUNT));
    return sum;
}

static uint64_t head_bytes(uint32_t dim, const struct tensor_type *t)
{
    return ((uint64_t)dim + t->block_len - 1) / t->block_len * t->block_bytes;
}

struct budget_kv budget_kv_token(const struct hparams *hp, const struct tensor_type *k,
                                 const struct tensor_type *v)
{
    struct budget_kv b = { 0 };
    uint64_t layer = times(hp->n_head_kv, head_bytes(hp->head_k, k) + head_bytes(hp->head_v, v));
    for (uint32_t i = 0; i < hp->n_layer; i++)
        *(hp->local[i] ? &b.local : &b.full) += layer;
    return b;
}

uint64_t budget_kv(const struct hparams *hp, const struct tensor_type *k,
                   const struct tensor_type *v, uint64_t n_ctx, uint64_t n_seq)
{
    struct budget_kv b = budget_kv_token(hp, k, v);
    return times(times(add(b.full, b.local), n_ctx), n_seq);
}
