/* Model families: one row each says how a family's layer differs from the plain one.
 *
 * The plain layer, in which every row takes its own turns (x: residual stream, f32 [n_embd]):
 *
 *   x  = token_embd[token] * embd_scale
 *   a  = norm(x, attn_norm)
 *   q,k,v = a Wq, a Wk, a Wv (one matrix or three)        + bias where the file has one
 *   q,k = norm of each head (qk_norm)
 *   q,k = rope(q,k; position)
 *   o  = softmax(softcap(q k^T * attn_scale) | causal, window) v Wo
 *   x += norm(o, post_attention_norm) * residual_scale    (the norm: sandwich)
 *   f  = act(norm(x, ffn_norm) Wgate) * (... Wup) Wdown   (gated; else act(.. Wup) Wdown)
 *   x += norm(f, post_ffw_norm) * residual_scale
 *   logits = softcap(norm(x, output_norm) Woutput / logit_scale)   (no Woutput: token_embd)
 *
 * parallel: f reads the same a as attention does, there is no ffn_norm, and x += o + f.
 * Facts are those of llama.cpp's files and the families' papers; a row is all that a further
 * dense family needs. Thread: any; constant data. */
#ifndef HEARTH_MODEL_ARCH_H
#define HEARTH_MODEL_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/str.h"

enum rope_pairs {
    ROPE_NEXT, /* turns (x[2i], x[2i+1]): "interleaved", GPT-J */
    ROPE_HALF, /* turns (x[i], x[i + n_rot/2]): GPT-NeoX */
};
enum norm_kind {
    NORM_RMS,   /* x / sqrt(mean(x^2) + eps) * w (+ b) */
    NORM_LAYER, /* (x - mean(x)) / sqrt(var(x) + eps) * w (+ b) */
};
enum activation {
    ACT_SILU,      /* x / (1 + exp(-x)) */
    ACT_GELU_TANH, /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
};

struct arch {
    const char *name; /* general.architecture */
    enum rope_pairs rope_pairs;
    enum norm_kind norm;
    enum activation act;
    bool gated;         /* act(gate) * up; gate in a tensor of its own, or as the first n_ff rows of
                           ffn_up (any family may have either form) */
    bool parallel;      /* attention and feed-forward side by side on one norm */
    bool qk_norm;       /* RMS norm of each head of q and k before RoPE, weights [head_k] */
    bool sandwich;      /* norms of what attention and feed-forward give */
    bool biased;        /* biases of norms, attn_output, ffn_up, ffn_down and output are required;
                           elsewhere every bias is optional */
    bool embd_sqrt;     /* embeddings are scaled by sqrt(n_embd) */
    bool rope_optional; /* rope.scaling.finetuned = false turns RoPE off */
    bool local_rope;    /* window layers have a base of their own (default 10000), never scaled */
    uint32_t window;        /* default of attention.sliding_window; 0: none */
    uint32_t window_period; /* layer i is local unless (i + 1) % period == 0; 0: all are local,
                               1: none is; default of attention.sliding_window_pattern */
    uint32_t deep;          /* the n_layer of the one size whose queries are scaled by
                               1/sqrt(n_embd / n_head), not 1/sqrt(head_k); 0: none */
    float attn_cap, final_cap; /* default softcaps, x -> cap * tanh(x / cap); 0: none */
};

size_t arch_count(void);
const struct arch *arch_at(size_t i);
const struct arch *arch_find(struct str name); /* NULL: a family that we do not run */

#endif
