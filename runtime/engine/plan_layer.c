/* A layer's operations in their order, and the head's.
 *
 * Where the plan is fused, a norm has no launch of its own: the matmul that writes the residual stream also
 * writes the next norm's product with its weights and the sums of squares, and the matmul that reads it
 * divides by the root of their mean (EPI_ADD with MM_NEXT_*, MM_RMS). The first norm of all, which follows
 * the table of embeddings, and the last, of the rows that want logits, are launches. */
#include "runtime/engine/plan_priv.h"

static uint32_t norm_mode(const struct builder *b)
{
    return b->hp->arch->norm == NORM_RMS ? NM_RMS : NM_LAYER;
}

/* Which forms of an activation its readers take: NM_TO_F32, NM_TO_Q8 or both. */
static uint32_t forms(const struct builder *b, const struct piece *p, uint32_t n)
{
    uint32_t mode = 0;
    for (uint32_t i = 0; i < n && b->code == ERR_OK; i++)
        mode |= plan_uses_q8(b, p[i].matrix) ? NM_TO_Q8 : NM_TO_F32;
    return mode;
}

/* The same as the epilogue of the matmul before writes them. */
static uint32_t next_mode(uint32_t forms)
{
    return (forms & NM_TO_F32 ? MM_NEXT_F32 : 0u) | (forms & NM_TO_Q8 ? MM_NEXT_Q8 : 0u);
}

static void use_piece(struct builder *b, const struct piece *p, struct matmul_args a)
{
    a.matrix = p->matrix;
    a.y_first = p->y_first;
    a.bias = p->bias;
    a.mode |= p->has_bias ? MM_BIAS : 0u;
    plan_matmul(b, a);
}

/* What reads x next, through an RMS norm that the matmul before may begin. */
struct next {
    uint32_t forms, norm; /* NM_*; vector. forms 0: nothing, or a norm of its own */
};

/* A branch's end: added to x by the matmul itself, or through the sandwich's norm. */
static void close_branch(struct builder *b, const struct piece *p, struct matmul_args a, uint32_t post_norm,
                         struct next next)
{
    const struct hparams *hp = b->hp;
    a.y_stride = row_width(hp);
    if (!hp->arch->sandwich) {
        a.y = BUF_X;
        a.mode = EPI_ADD | next_mode(next.forms);
        a.mult = hp->residual_scale;
        a.next_q8 = BUF_AQ;
        a.next_k = row_width(hp);
        a.norm = next.norm;
        use_piece(b, p, a);
        return;
    }
    a.y = BUF_Y;
    a.mode = EPI_STORE;
    use_piece(b, p, a);
    plan_norm(b, (struct norm_args){ "post norm", BUF_Y, norm_mode(b) | NM_ADD, post_norm, row_width(hp), BUF_X,
                                     BUF_X, hp->residual_scale });
}

static uint32_t attn_forms(const struct builder *b, const struct layer_plan *lp)
{
    return forms(b, lp->qkv, lp->n_qkv) | (b->hp->arch->parallel ? forms(b, &lp->up, 1) : 0);
}

/* rms_parts: sums that the layer before left, 0: x is normed. */
static void emit_qkv(struct builder *b, uint32_t il, const struct layer_plan *lp, uint32_t rms_parts,
                     const uint32_t tables[2])
{
    const struct hparams *hp = b->hp;
    uint32_t n_qkv = hparams_q_rows(hp) + hparams_k_rows(hp) + hparams_v_rows(hp);
    struct matmul_args a = { .label = "qkv",
                             .x_f32 = BUF_A,
                             .x_q8 = BUF_AQ,
                             .y = BUF_QKV,
                             .y_stride = n_qkv,
                             .rms_parts = rms_parts,
                             .mode = EPI_STORE | (rms_parts ? MM_RMS : 0u) };
    if (b->heads) {
        a.y = BUF_Q;
        a.y_stride = hp->n_head * b->p->kv_dim;
        a.mode = EPI_HEADS | (rms_parts ? MM_RMS : 0u) | (b->p->kv_type == KV_F32 ? MM_KV_F32 : 0u) |
                 (hp->arch->rope_pairs == ROPE_HALF ? MM_NEOX : 0u);
        a.table = tables[hp->local[il] && hp->arch->local_rope ? 1 : 0];
        a.kv = plan_kv_buffer(il, false);
    }
    for (uint32_t i = 0; i < lp->n_qkv; i++)
        use_piece(b, &lp->qkv[i], a);
    if (!b->heads)
        plan_rope(b, lp, il, tables);
}

static void emit_ffn(struct builder *b, const struct layer_plan *lp, struct next next)
{
    const struct hparams *hp = b->hp;
    bool q8 = plan_uses_q8(b, lp->down.matrix), direct = q8 && b->fused && hp->arch->gated;
    uint32_t act = hp->arch->act == ACT_SILU ? EPI_SILU : EPI_GELU;
    use_piece(b, &lp->up,
              (struct matmul_args){ .label = "up",
                                    .x_f32 = BUF_A,
                                    .x_q8 = BUF_AQ,
                                    .y = BUF_H,
                                    .y_stride = pad32(hp->n_ff),
                                    .mode = (hp->arch->gated ? EPI_GLU : EPI_ACT) | act |
                                            (b->fused ? MM_RMS : 0u) | (direct ? MM_NEXT_Q8 : 0u),
                                    .rms_parts = plan_rms_parts(b, &lp->out),
                                    .next_q8 = BUF_HQ,
                                    .next_k = pad32(hp->n_ff) });
    if (q8 && !direct)
        plan_norm(b, (struct norm_args){ "quantise", BUF_H, NM_TO_Q8, 0, pad32(hp->n_ff), BUF_HQ, BUF_HQ, 1 });
    close_branch(b, &lp->down, (struct matmul_args){ .label = "down", .x_f32 = BUF_H, .x_q8 = BUF_HQ },
                 lp->post_ffn, next);
}

void plan_emit_layer(struct builder *b, uint32_t il, const struct layer_plan *layers,
                     const uint32_t tables[2])
{
    const struct layer_plan *lp = &layers[il], *after = il + 1 < b->hp->n_layer ? lp + 1 : NULL;
    const struct hparams *hp = b->hp;
    bool ready = b->fused && il > 0; /* the layer before began this one's norm */
    struct next ffn = { 0 }, attn = { 0 };
    if (b->fused)
        ffn = (struct next){ forms(b, &lp->up, 1), lp->ffn_norm };
    if (b->fused && after)
        attn = (struct next){ attn_forms(b, after), after->attn_norm };
    if (!ready)
        plan_norm(b, (struct norm_args){ "norm", BUF_X,
                                         norm_mode(b) | attn_forms(b, lp) | (lp->norm_bias ? NM_BIAS : 0u),
                                         lp->attn_norm, row_width(hp), BUF_A, BUF_AQ, 1 });
    emit_qkv(b, il, lp, ready ? plan_rms_parts(b, &layers[il - 1].down) : 0, tables);

    plan_attention(b, il);
    close_branch(b, &lp->out, (struct matmul_args){ .label = "out", .x_f32 = BUF_O }, lp->post_attn, ffn);

    if (!hp->arch->parallel && !b->fused)
        plan_norm(b, (struct norm_args){ "norm", BUF_X,
                                         norm_mode(b) | forms(b, &lp->up, 1) |
                                             (lp->ffn_norm_bias ? NM_BIAS : 0u),
                                         lp->ffn_norm, row_width(hp), BUF_A, BUF_AQ, 1 });
    emit_ffn(b, lp, attn);
}

void plan_emit_head(struct builder *b, const struct head_plan *h)
{
    const struct hparams *hp = b->hp;
    plan_norm(b, (struct norm_args){ "final norm", BUF_X,
                                     norm_mode(b) | NM_GATHER | forms(b, &h->out, 1) |
                                         (h->norm_bias ? NM_BIAS : 0u),
                                     h->norm, row_width(hp), BUF_A, BUF_AQ, 1 });
    plan_matmul(b, (struct matmul_args){
                       .label = "logits",
                       .matrix = h->out.matrix,
                       .x_f32 = BUF_A,
                       .x_q8 = BUF_AQ,
                       .y = BUF_LOGITS,
                       .y_stride = hp->n_vocab,
                       .mode = EPI_STORE | MM_GATHERED | (h->out.has_bias ? MM_BIAS : 0u) |
                               (hp->final_cap > 0 ? MM_SOFTCAP : 0u),
                       .bias = h->out.bias,
                       .mult = 1 / hp->logit_scale,
                       .softcap = hp->final_cap,
                   });
}
