/* The numbers of one model, read from its keys, every one checked.
 *
 * Keys are "{arch}.NAME"; the comment behind a field gives NAME and what holds where it is absent.
 * Thread: any; plain data. */
#ifndef HEARTH_MODEL_HPARAMS_H
#define HEARTH_MODEL_HPARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/model/arch.h"
#include "runtime/model/gguf.h"

#define HPARAMS_MAX_LAYERS 512
#define HPARAMS_MAX_VOCAB (1u << 22)
#define HPARAMS_MAX_CTX (1u << 30)
#define HPARAMS_MAX_EMBD (1u << 17)
#define HPARAMS_MAX_FF (1u << 20)
#define HPARAMS_MAX_HEADS 1024
#define HPARAMS_MAX_HEAD_DIM 1024

enum rope_scaling { ROPE_SCALE_NONE, ROPE_SCALE_LINEAR, ROPE_SCALE_YARN, ROPE_SCALE_LONGROPE };

struct hparams {
    const struct arch *arch;
    uint32_t n_vocab;     /* length of tokenizer.ggml.tokens; vocab_size; rows of token_embd */
    uint32_t n_ctx_train; /* context_length */
    uint32_t n_embd;      /* embedding_length */
    uint32_t n_layer;     /* block_count */
    uint32_t n_ff;        /* feed_forward_length */
    uint32_t n_head;      /* attention.head_count */
    uint32_t n_head_kv;   /* attention.head_count_kv; n_head */
    uint32_t head_k;      /* attention.key_length; n_embd / n_head */
    uint32_t head_v;      /* attention.value_length; n_embd / n_head */
    uint32_t n_rot;       /* rope.dimension_count; head_k. The rest of a head is not turned */
    float norm_eps;       /* attention.layer_norm_rms_epsilon, or layer_norm_epsilon */

    bool rope;            /* false: positions do not enter at all */
    float rope_base;      /* rope.freq_base; 10000 */
    float rope_base_local; /* of window layers: rope.freq_base_swa; 10000 with local_rope, else
                              rope_base */
    enum rope_scaling rope_scaling; /* rope.scaling.type; linear */
    float rope_factor;    /* rope.scaling.factor, rope.scale_linear; 1. Positions are divided by it */
    float rope_attn;      /* on cos and sin: rope.scaling.attn_factor, times YaRN's magnitude */
    uint32_t n_ctx_orig;  /* rope.scaling.original_context_length; n_ctx_train */
    float yarn_ext;       /* rope.scaling.yarn_ext_factor; 1 with YaRN, else 0 */
    float yarn_beta_fast, yarn_beta_slow; /* rope.scaling.yarn_beta_fast, _slow; 32 and 1 */

    uint32_t window;      /* attention.sliding_window: a local layer's token sees itself and the
                             window - 1 before it; 0: no layer is local */
    uint8_t local[HPARAMS_MAX_LAYERS]; /* 1: layer looks through the window */

    float embd_scale;     /* embedding_scale, times sqrt(n_embd) with embd_sqrt; 1 */
    float attn_scale;     /* on q k^T: attention.scale; 1/sqrt(head_k) */
    float residual_scale; /* residual_scale; 1 */
    float logit_scale;    /* logits are DIVIDED by it: logit_scale; 1 */
    float attn_cap;       /* attn_logit_softcapping; 0: none */
    float final_cap;      /* final_logit_softcapping; 0: none */
};

/* ERR_UNSUPPORTED: a family, scaling or shape that we do not run, by name; ERR_FORMAT: a key that
 * is missing, of the wrong type or out of its range, by name. */
enum err_code hparams_read(const struct gguf *g, struct hparams *hp, struct err *e);

static inline uint32_t hparams_q_rows(const struct hparams *hp)
{
    return hp->n_head * hp->head_k;
}
static inline uint32_t hparams_k_rows(const struct hparams *hp)
{
    return hp->n_head_kv * hp->head_k;
}
static inline uint32_t hparams_v_rows(const struct hparams *hp)
{
    return hp->n_head_kv * hp->head_v;
}

#endif
