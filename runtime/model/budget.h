/* What a model takes, from its header alone. Bytes; a sum that does not fit is UINT64_MAX.
 * Thread: any. */
#ifndef HEARTH_MODEL_BUDGET_H
#define HEARTH_MODEL_BUDGET_H

#include "runtime/model/hparams.h"
#include "runtime/model/weights.h"

/* Of every tensor that has a part in the model, as the file stores it; a tied matrix counts once. */
uint64_t budget_weights(const struct weights *w);

struct budget_kv {
    uint64_t full;  /* bytes a token over all layers that see the whole context */
    uint64_t local; /* bytes a token over all layers that look through a window */
};
/* k, v: the types of the cache (F16, F32, Q8_0), in blocks along the head; a last short block takes
 * a whole one's room. */
struct budget_kv budget_kv_token(const struct hparams *hp, const struct tensor_type *k,
                                 const struct tensor_type *v);
/* For sessions of n_ctx tokens that keep every token, and n_seq of them. */
uint64_t budget_kv(const struct hparams *hp, const struct tensor_type *k,
                   const struct tensor_type *v, uint64_t n_ctx, uint64_t n_seq);

#endif
