/* Which tensor of the file plays which part: names, shapes and types in one table.
 *
 * A shape is columns (shape[0], the inputs) x rows (shape[1], the outputs). Matrices may be of any
 * type that has a decoder, vectors F32, F16 or BF16. Layer patterns begin with "blk.%u.".
 * Thread: any. */
#ifndef HEARTH_MODEL_WEIGHTS_H
#define HEARTH_MODEL_WEIGHTS_H

#include "runtime/base/err.h"
#include "runtime/model/gguf.h"
#include "runtime/model/hparams.h"

enum weight_dim { /* a size in terms of struct hparams */
    DIM_1,        /* a vector's second dimension */
    DIM_EMBD,
    DIM_VOCAB,
    DIM_Q,        /* n_head * head_k */
    DIM_K,        /* n_head_kv * head_k */
    DIM_V,        /* n_head_kv * head_v */
    DIM_QKV,      /* the three above: rows of q, then k, then v */
    DIM_O,        /* n_head * head_v */
    DIM_FF,
    DIM_UP,       /* n_ff; with the gate's rows first 2 * n_ff */
    DIM_HEAD_K,
    DIM_PAIRS,    /* n_rot / 2 */
};

enum weight_rule { /* must the file have it? What is forbidden is an error, not passed over: it
                      would have changed what the model computes */
    NEED,          /* yes */
    MAY,           /* optional: NULL when absent */
    NEED_BIASED,   /* required where the row says biased, else optional */
    NEED_SERIAL,   /* required unless parallel, then forbidden */
    BIAS_SERIAL,   /* a bias of the above: required where biased, else optional */
    NEED_QK_NORM,  /* required where the row says so, else forbidden, as with the next */
    NEED_SANDWICH,
    NEED_GATE,     /* gated families: this, or ffn_up with twice the rows; else forbidden */
    BIAS_GATE,     /* optional with the above, else forbidden */
    NEED_SPLIT,    /* q, k, v apart: required unless W_QKV is there, then forbidden */
    BIAS_SPLIT,    /* optional with the above, else forbidden */
    BIAS_FUSED,    /* optional with W_QKV, else forbidden */
};

/*    role           name                          columns     rows       rule */
#define WEIGHT_MODEL_TABLE(X)                                                                      \
    X(W_TOKEN_EMBD,  "token_embd.weight",          DIM_EMBD,   DIM_VOCAB, NEED)                    \
    X(W_OUT_NORM,    "output_norm.weight",         DIM_EMBD,   DIM_1,     NEED)                    \
    X(W_OUT_NORM_B,  "output_norm.bias",           DIM_EMBD,   DIM_1,     NEED_BIASED)             \
    X(W_OUTPUT,      "output.weight",              DIM_EMBD,   DIM_VOCAB, MAY)                     \
    X(W_OUTPUT_B,    "output.bias",                DIM_VOCAB,  DIM_1,     NEED_BIASED)             \
    X(W_ROPE_FREQS,  "rope_freqs.weight",          DIM_PAIRS,  DIM_1,     MAY)                     \
    X(W_ROPE_LONG,   "rope_factors_long.weight",   DIM_PAIRS,  DIM_1,     MAY)                     \
    X(W_ROPE_SHORT,  "rope_factors_short.weight",  DIM_PAIRS,  DIM_1,     MAY)
#define WEIGHT_LAYER_TABLE(X)                                                                      \
    X(W_ATTN_NORM,   "attn_norm.weight",           DIM_EMBD,   DIM_1,     NEED)                    \
    X(W_ATTN_NORM_B, "attn_norm.bias",             DIM_EMBD,   DIM_1,     NEED_BIASED)             \
    X(W_QKV,         "attn_qkv.weight",            DIM_EMBD,   DIM_QKV,   MAY)                     \
    X(W_QKV_B,       "attn_qkv.bias",              DIM_QKV,    DIM_1,     BIAS_FUSED)              \
    X(W_Q,           "attn_q.weight",              DIM_EMBD,   DIM_Q,     NEED_SPLIT)              \
    X(W_Q_B,         "attn_q.bias",                DIM_Q,      DIM_1,     BIAS_SPLIT)              \
    X(W_K,           "attn_k.weight",              DIM_EMBD,   DIM_K,     NEED_SPLIT)              \
    X(W_K_B,         "attn_k.bias",                DIM_K,      DIM_1,     BIAS_SPLIT)              \
    X(W_V,           "attn_v.weight",              DIM_EMBD,   DIM_V,     NEED_SPLIT)              \
    X(W_V_B,         "attn_v.bias",                DIM_V,      DIM_1,     BIAS_SPLIT)              \
    X(W_Q_NORM,      "attn_q_norm.weight",         DIM_HEAD_K, DIM_1,     NEED_QK_NORM)            \
    X(W_K_NORM,      "attn_k_norm.weight",         DIM_HEAD_K, DIM_1,     NEED_QK_NORM)            \
    X(W_O,           "attn_output.weight",         DIM_O,      DIM_EMBD,  NEED)                    \
    X(W_O_B,         "attn_output.bias",           DIM_EMBD,   DIM_1,     NEED_BIASED)             \
    X(W_POST_ATTN,   "post_attention_norm.weight", DIM_EMBD,   DIM_1,     NEED_SANDWICH)           \
    X(W_FFN_NORM,    "ffn_norm.weight",            DIM_EMBD,   DIM_1,     NEED_SERIAL)             \
    X(W_FFN_NORM_B,  "ffn_norm.bias",              DIM_EMBD,   DIM_1,     BIAS_SERIAL)             \
    X(W_UP,          "ffn_up.weight",              DIM_EMBD,   DIM_UP,    NEED)                    \
    X(W_UP_B,        "ffn_up.bias",                DIM_UP,     DIM_1,     NEED_BIASED)             \
    X(W_GATE,        "ffn_gate.weight",            DIM_EMBD,   DIM_FF,    NEED_GATE)               \
    X(W_GATE_B,      "ffn_gate.bias",              DIM_FF,     DIM_1,     BIAS_GATE)               \
    X(W_DOWN,        "ffn_down.weight",            DIM_FF,     DIM_EMBD,  NEED)                    \
    X(W_DOWN_B,      "ffn_down.bias",              DIM_EMBD,   DIM_1,     NEED_BIASED)             \
    X(W_POST_FFN,    "post_ffw_norm.weight",       DIM_EMBD,   DIM_1,     NEED_SANDWICH)

enum model_weight {
#define X(role, name, cols, rows, rule) role,
    WEIGHT_MODEL_TABLE(X) W_MODEL_COUNT
};
enum layer_weight {
    WEIGHT_LAYER_TABLE(X) W_LAYER_COUNT
#undef X
};

struct layer_weights {
    const struct gguf_tensor *t[W_LAYER_COUNT]; /* by enum layer_weight; NULL: not in the file */
};
struct weights {
    const struct gguf_tensor *t[W_MODEL_COUNT]; /* by enum model_weight */
    struct layer_weights *layer;                /* [n_layer] */
    uint32_t n_layer;
    uint32_t n_unused; /* tensors of the file that have no part in the model */
    bool gate_in_up;   /* ffn_up holds gate's n_ff rows, then up's; the same in every layer */
    bool qkv_fused;    /* W_QKV and not W_Q, W_K, W_V; the same in every layer */
};

/* Finds every tensor of the model in the file and checks its shape and type. Reads no weight.
 * ERR_FORMAT: one is missing or has another shape; ERR_UNSUPPORTED: its type has no decoder, the
 * family has no place for it, or the file has no weights at all. The sentence names the tensor.
 * w must be finished in any case; its pointers live as long as g. */
enum err_code weights_bind(const struct gguf *g, const struct hparams *hp, struct weights *w,
                           struct err *e);
void weights_finish(struct weights *w);

/* The matrix that makes logits: output.weight, or the embeddings where they are tied. */
const struct gguf_tensor *weights_output(const struct weights *w);
/* The tensor of divisors of RoPE's frequencies for a session of n_ctx tokens, or NULL. */
const struct gguf_tensor *weights_rope_factors(const struct weights *w, const struct hparams *hp,
                                               uint32_t n_ctx);

/* A vector (norm, bias, factors) as float32: n must be its number of elements. */
enum err_code weights_read_vector(const struct gguf *g, const struct gguf_tensor *t, float *out,
                                  size_t n, struct err *e);

#endif
