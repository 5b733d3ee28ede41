#include "runtime/engine/plan_priv.h"

#define SLAB ((uint64_t)512 << 20) /* a weight slab; a slice never straddles two */
#define MAX_GROUPS 65534u /* of a dispatch in one dimension, an even number */

/* ---- the builder ----------------------------------------------------------------------------- */

void plan_fail(struct builder *b, enum err_code code)
{
    if (b->code == ERR_OK)
        b->code = code;
}

bool plan_grow(struct builder *b, void *array, size_t *cap, size_t need, size_t size)
{
    if (b->code == ERR_OK && !mem_grow(array, cap, need, size, 1u << 20))
        plan_fail(b, err_no_memory(b->e, need * size, "the plan"));
    return b->code == ERR_OK;
}

uint32_t plan_add_buffer(struct builder *b, const char *name, uint64_t bytes, enum gpu_memory where)
{
    struct plan *p = b->p;
    if (!plan_grow(b, &p->buffers, &p->cap_buffers, p->n_buffers + 1, sizeof *p->buffers))
        return 0;
    p->buffers[p->n_buffers] = (struct plan_buffer_spec){ name, bytes, where };
    return (uint32_t)p->n_buffers++;
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* Takes room for a slice in the current slab, or begins a new one. */
static struct plan_bind place(struct builder *b, uint64_t bytes)
{
    struct plan *p = b->p;
    struct plan_buffer_spec *slab = b->slab ? &p->buffers[b->slab] : NULL;
    if (!slab || align_up(slab->bytes, PLAN_ALIGN) + bytes > SLAB) {
        b->slab = plan_add_buffer(b, "weights", 0, GPU_DEVICE);
        if (b->code != ERR_OK)
            return (struct plan_bind){ 0 };
        slab = &p->buffers[b->slab];
    }
    uint64_t at = align_up(slab->bytes, PLAN_ALIGN);
    slab->bytes = at + bytes;
    p->weight_bytes += bytes;
    return (struct plan_bind){ b->slab, at, bytes };
}

static bool add_slice(struct builder *b, struct plan_matrix *m, size_t *cap, uint32_t first_ob,
                      uint32_t n_ob)
{
    if (!plan_grow(b, &m->slices, cap, m->n_slices + 1u, sizeof *m->slices))
        return false;
    struct plan_slice s = { .first_ob = first_ob, .n_ob = n_ob };
    plan_fail(b, repack_layout(tensor_type_find(m->type_id), m->k, n_ob * BLOCK_OUTPUTS, &s.layout, b->e));
    if (b->code != ERR_OK)
        return false;
    struct plan_bind at = place(b, s.layout.bytes);
    s.buffer = at.buffer;
    s.offset = at.offset;
    m->slices[m->n_slices++] = s;
    return b->code == ERR_OK;
}

uint32_t plan_block_step(const struct plan_matrix *m)
{
    return m->order == ORDER_QUADS ? 2 : m->order == ORDER_GLU ? 4 : m->head_dim / BLOCK_OUTPUTS;
}

uint32_t plan_row(const struct plan_matrix *m, uint32_t place)
{
    uint32_t o = place >= m->pairs_from
                     ? m->pairs_from + repack_output(ORDER_PAIRS, m->head_dim, place - m->pairs_from)
                     : repack_output(m->order, m->head_dim, place);
    if (o >= m->m)
        return UINT32_MAX;
    return m->order == ORDER_GLU ? o / 2 + o % 2 * (m->m / 2) : o;
}

/* Cuts a matrix into slices that one binding can span. */
static void slice_matrix(struct builder *b, struct plan_matrix *m)
{
    struct repack_layout one;
    size_t cap = 0;
    uint32_t step = plan_block_step(m), n_ob = step * ceil_div(m->m, step * BLOCK_OUTPUTS);
    enum err_code code =
        repack_layout(tensor_type_find(m->type_id), m->k, step * BLOCK_OUTPUTS, &one, b->e);
    if (code != ERR_OK) {
        struct gguf_quoted q = gguf_quote(m->part[0]->name);
        plan_fail(b, err_prefix(b->e, "tensor %s", q.text));
        return;
    }
    uint64_t most = b->p->device.max_range < SLAB ? b->p->device.max_range : SLAB;
    uint64_t per = most / one.bytes * step;
    if (per == 0) {
        plan_fail(b, err_set(b->e, ERR_TOO_LARGE, "%u rows of %u weights take %llu bytes; the device binds %llu",
                             step * BLOCK_OUTPUTS, m->k, (unsigned long long)one.bytes, (unsigned long long)most));
        return;
    }
    if (per > MAX_GROUPS)
        per = MAX_GROUPS / step * step;
    for (uint32_t ob = 0; ob < n_ob;) {
        uint32_t n = (uint64_t)(n_ob - ob) < per ? n_ob - ob : (uint32_t)per;
        if (!add_slice(b, m, &cap, ob, n))
            return;
        ob += n;
    }
}

uint32_t plan_add_matrix(struct builder *b, const struct gguf_tensor *const *part, uint32_t n,
                         enum repack_order order, uint32_t pairs_from)
{
    struct plan *p = b->p;
    struct plan_matrix m = { .n_part = n, .order = order, .pairs_from = pairs_from,
                             .head_dim = b->hp->head_k, .type_id = part[0]->type_id };
    m.k = pad32((uint32_t)part[0]->shape[0]);
    for (uint32_t i = 0; i < n; i++) {
        m.part[i] = part[i];
        m.m += (uint32_t)part[i]->shape[1];
        m.as_f32 = m.as_f32 || part[i]->type_id != m.type_id;
    }
    if (m.as_f32)
        m.type_id = TENSOR_F32;
    if (!plan_grow(b, &p->matrices, &p->cap_matrices, p->n_matrices + 1, sizeof *p->matrices))
        return 0;
    slice_matrix(b, &m);
    p->matrices[p->n_matrices] = m;
    return (uint32_t)p->n_matrices++;
}

/* ---- vectors --------------------------------------------------------------------------------- */

uint32_t plan_add_vector(struct builder *b, struct plan_vector v)
{
    struct plan *p = b->p;
    if (!plan_grow(b, &p->vectors, &p->cap_vectors, p->n_vectors + 1, sizeof *p->vectors))
        return 0;
    struct plan_buffer_spec *all = &p->buffers[BUF_VECTORS];
    v.offset = align_up(all->bytes, PLAN_ALIGN);
    all->bytes = v.offset + align_up((uint64_t)v.n * sizeof(float), PLAN_ALIGN);
    if (v.scale == 0)
        v.scale = 1;
    p->vectors[p->n_vectors] = v;
    return (uint32_t)p->n_vectors++;
}

uint32_t plan_norm_vector(struct builder *b, const struct gguf_tensor *weight, const struct gguf_tensor *bias)
{
    uint32_t n = b->hp->n_embd;
    return plan_add_vector(b, (struct plan_vector){ .n = 2 * row_width(b->hp),
                                                    .part = { weight, bias },
                                                    .part_n = { n, n },
                                                    .gap = row_width(b->hp) - n });
}

uint32_t plan_add_bias(struct builder *b, struct plan_vector v, const uint32_t *matrix, const uint32_t *first,
                       uint32_t n)
{
    if (b->code != ERR_OK)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        const struct plan_matrix *m = &b->p->matrices[matrix[i]];
        uint32_t end = first[i] + plan_block_step(m) * BLOCK_OUTPUTS *
                                      ceil_div(m->m, plan_block_step(m) * BLOCK_OUTPUTS);
        v.order[i].matrix = matrix[i];
        v.order[i].first = first[i];
        v.n = v.n > end ? v.n : end;
    }
    v.n_order = n;
    return plan_add_vector(b, v);
}

/* ---- a layer's parts ------------------------------------------------------------------------- */

static bool same_type(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    return a->type_id == b->type_id;
}

/* A piece of q, k and v: its first row among them all. Queries and keys go through a softmax, which makes
 * much of little: their input stays f32. Measured on SmolLM2-135M Q4_1: the rounding noise of the logits
 * halves, for a sixth of the multiplications. */
static void add_qkv(struct builder *b, struct layer_plan *lp, const struct gguf_tensor *const *part,
                    uint32_t n, uint32_t first)
{
    const struct hparams *hp = b->hp;
    uint32_t v = hparams_q_rows(hp) + hparams_k_rows(hp);
    enum repack_order order = !b->heads                          ? ORDER_QUADS
                              : hp->arch->rope_pairs == ROPE_HALF ? ORDER_NEOX
                                                                  : ORDER_PAIRS;
    struct piece *p = &lp->qkv[lp->n_qkv++];
    *p = (struct piece){ .y_first = first };
    p->matrix = plan_add_matrix(b, part, n, order, !b->heads ? UINT32_MAX : v > first ? v - first : 0);
    if (b->code == ERR_OK)
        b->p->matrices[p->matrix].exact = true;
}

static void add_qkv_bias(struct builder *b, struct layer_plan *lp, struct plan_vector v)
{
    uint32_t matrix[3], first[3];
    for (uint32_t i = 0; i < lp->n_qkv; i++) {
        matrix[i] = lp->qkv[i].matrix;
        first[i] = lp->qkv[i].y_first;
    }
    uint32_t bias = plan_add_bias(b, v, matrix, first, lp->n_qkv);
    for (uint32_t i = 0; i < lp->n_qkv; i++) {
        lp->qkv[i].bias = bias;
        lp->qkv[i].has_bias = true;
    }
}

/* Groups q, k, v into as few matrices as their types allow. */
static void qkv_pieces(struct builder *b, const struct layer_weights *lw, struct layer_plan *lp)
{
    static const enum layer_weight roles[3] = { W_Q, W_K, W_V };
    const struct hparams *hp = b->hp;
    uint32_t rows[3] = { hparams_q_rows(hp), hparams_k_rows(hp), hparams_v_rows(hp) };
    uint32_t total = rows[0] + rows[1] + rows[2];
    if (b->w->qkv_fused) {
        add_qkv(b, lp, &lw->t[W_QKV], 1, 0);
        if (lw->t[W_QKV_B])
            add_qkv_bias(b, lp, (struct plan_vector){ .n = total, .part = { lw->t[W_QKV_B] }, .part_n = { total } });
        return;
    }
    for (uint32_t i = 0, first = 0; i < 3;) {
        const struct gguf_tensor *part[3];
        uint32_t n = 0, at = first;
        do {
            part[n++] = lw->t[roles[i]];
            first += rows[i++];
        } while (i < 3 && same_type(part[0], lw->t[roles[i]]));
        add_qkv(b, lp, part, n, at);
    }
    if (lw->t[W_Q_B] || lw->t[W_K_B] || lw->t[W_V_B])
        add_qkv_bias(b, lp, (struct plan_vector){ .n = total,
                                                  .part = { lw->t[W_Q_B], lw->t[W_K_B], lw->t[W_V_B] },
                                                  .part_n = { rows[0], rows[1], rows[2] } });
}

struct piece plan_piece(struct builder *b, const struct gguf_tensor *t, const struct gguf_tensor *bias,
                        float bias_scale)
{
    struct piece out = { .matrix = plan_add_matrix(b, &t, 1, ORDER_QUADS, UINT32_MAX), .has_bias = bias != NULL };
    uint32_t n = (uint32_t)t->shape[1];
    struct plan_vector v = { .n = n, .part = { bias }, .part_n = { n }, .scale = bias_scale };
    if (bias)
        out.bias = plan_add_bias(b, v, &out.matrix, &(uint32_t){ 0 }, 1);
    return out;
}

/* Gate and up as one paired matrix; without a gate, up alone. */
static struct piece up_piece(struct builder *b, const struct layer_weights *lw)
{
    const struct hparams *hp = b->hp;
    if (!hp->arch->gated)
        return plan_piece(b, lw->t[W_UP], lw->t[W_UP_B], 1);
    const struct gguf_tensor *part[2] = { lw->t[W_GATE], lw->t[W_UP] };
    struct piece out = { .has_bias = lw->t[W_GATE_B] || lw->t[W_UP_B] };
    out.matrix = b->w->gate_in_up ? plan_add_matrix(b, &part[1], 1, ORDER_GLU, UINT32_MAX)
                                  : plan_add_matrix(b, part, 2, ORDER_GLU, UINT32_MAX);
    struct plan_vector bias = { .n = 2 * hp->n_ff,
                                .part = { lw->t[W_GATE_B], lw->t[W_UP_B] },
                                .part_n = { hp->n_ff, hp->n_ff } };
    if (b->w->gate_in_up)
        bias = (struct plan_vector){ .n = bias.n, .part = { lw->t[W_UP_B] }, .part_n = { bias.n } };
    if (out.has_bias)
        out.bias = plan_add_bias(b, bias, &out.matrix, &(uint32_t){ 0 }, 1);
    return out;
}

void plan_layer_weights(struct builder *b, uint32_t il, struct layer_plan *lp)
{
    const struct hparams *hp = b->hp;
    const struct layer_weights *lw = &b->w->layer[il];
    lp->norm_bias = lw->t[W_ATTN_NORM_B] != NULL;
    lp->attn_norm = plan_norm_vector(b, lw->t[W_ATTN_NORM], lw->t[W_ATTN_NORM_B]);
    lp->ffn_norm_bias = lw->t[W_FFN_NORM_B] != NULL;
    if (lw->t[W_FFN_NORM])
        lp->ffn_norm = plan_norm_vector(b, lw->t[W_FFN_NORM], lw->t[W_FFN_NORM_B]);
    if (lw->t[W_POST_ATTN])
        lp->post_attn = plan_norm_vector(b, lw->t[W_POST_ATTN], NULL);
    if (lw->t[W_POST_FFN])
        lp->post_ffn = plan_norm_vector(b, lw->t[W_POST_FFN], NULL);
    if (hp->arch->qk_norm)
        lp->head_norms = plan_add_vector(
            b, (struct plan_vector){ .n = 2 * hp->head_k,
                                     .part = { lw->t[W_Q_NORM], lw->t[W_K_NORM] },
                                     .part_n = { hp->head_k, hp->head_k } });
    qkv_pieces(b, lw, lp);
    lp->out = plan_piece(b, lw->t[W_O], lw->t[W_O_B], hp->residual_scale);
    if (b->code == ERR_OK)
        b->p->matrices[lp->out.matrix].exact = true; /* what attention gives: small, and its noise is seen */
    lp->up = up_piece(b, lw);
    lp->down = plan_piece(b, lw->t[W_DOWN], lw->t[W_DOWN_B], hp->residual_scale);
}
