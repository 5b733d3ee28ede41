#include "runtime/engine/plan_priv.h"

/* ---- kernels by tensor type ------------------------------------------------------------------ */

static const struct type_kernels {
    uint32_t type_id;
    enum kernel embed, matmul_f, matmul_q8;
    bool quantised;
} type_kernels[] = {
    { TENSOR_F32, KERNEL_embed_f32, KERNEL_matmul_f32_f, KERNEL_COUNT, false },
    { TENSOR_F16, KERNEL_embed_f16, KERNEL_matmul_f16_f, KERNEL_COUNT, false },
    { TENSOR_BF16, KERNEL_embed_bf16, KERNEL_matmul_bf16_f, KERNEL_COUNT, false },
    { TENSOR_Q4_0, KERNEL_embed_q4_0, KERNEL_matmul_q4_0_f, KERNEL_matmul_q4_0, true },
    { TENSOR_Q4_1, KERNEL_embed_q4_1, KERNEL_matmul_q4_1_f, KERNEL_matmul_q4_1, true },
    { TENSOR_Q5_0, KERNEL_embed_q5_0, KERNEL_matmul_q5_0_f, KERNEL_matmul_q5_0, true },
    { TENSOR_Q5_1, KERNEL_embed_q5_1, KERNEL_matmul_q5_1_f, KERNEL_matmul_q5_1, true },
    { TENSOR_Q8_0, KERNEL_embed_q8_0, KERNEL_matmul_q8_0_f, KERNEL_matmul_q8_0, true },
    { TENSOR_Q2_K, KERNEL_embed_q2_k, KERNEL_matmul_q2_k_f, KERNEL_matmul_q2_k, true },
    { TENSOR_Q3_K, KERNEL_embed_q3_k, KERNEL_matmul_q3_k_f, KERNEL_matmul_q3_k, true },
    { TENSOR_Q4_K, KERNEL_embed_q4_k, KERNEL_matmul_q4_k_f, KERNEL_matmul_q4_k, true },
    { TENSOR_Q5_K, KERNEL_embed_q5_k, KERNEL_matmul_q5_k_f, KERNEL_matmul_q5_k, true },
    { TENSOR_Q6_K, KERNEL_embed_q6_k, KERNEL_matmul_q6_k_f, KERNEL_matmul_q6_k, true },
};

static const struct type_kernels *kernels_of(uint32_t type_id)
{
    for (size_t i = 0; i < sizeof type_kernels / sizeof *type_kernels; i++)
        if (type_kernels[i].type_id == type_id)
            return &type_kernels[i];
    return NULL;
}

/* ---- any launch ------------------------------------------------------------------------------ */

static struct plan_launch *add_launch(struct builder *b, const char *label, enum kernel kernel)
{
    struct plan_program *g = b->prog;
    if (!plan_grow(b, &g->launch, &g->cap, g->n + 1, sizeof *g->launch))
        return &b->sink;
    struct plan_launch *l = &g->launch[g->n++];
    *l = (struct plan_launch){ .label = label, .layer = b->layer, .kernel = kernel, .groups = { 1, 1, 1 } };
    l->spec[SPEC_COLS] = 1;
    l->spec[SPEC_BLOCKS] = 1;
    l->spec[SPEC_SUBGROUP] = b->p->device.subgroup;
    l->spec[SPEC_KPARTS] = 1;
    l->spec[SPEC_PASSES] = 1;
    l->bind[0] = (struct plan_bind){ BUF_STEP, 0, 0 };
    return l;
}

static void bind(struct plan_launch *l, uint32_t at, uint32_t buffer)
{
    l->bind[at] = (struct plan_bind){ buffer, 0, 0 };
}

static void bind_vector(struct builder *b, struct plan_launch *l, uint32_t at, uint32_t vector)
{
    if (b->code != ERR_OK)
        return;
    const struct plan_vector *v = &b->p->vectors[vector];
    l->bind[at] = (struct plan_bind){ BUF_VECTORS, v->offset, align_up((uint64_t)v->n * 4, PLAN_ALIGN) };
}

static uint32_t lanes_of(const struct plan_device *d)
{
    return d->software ? (d->subgroup > BLOCK_LANES ? d->subgroup : BLOCK_LANES) : 64;
}

/* ---- norm and embedding ---------------------------------------------------------------------- */

void plan_norm(struct builder *b, struct norm_args a)
{
    struct plan_launch *l = add_launch(b, a.label, KERNEL_norm);
    l->spec[SPEC_LOCAL] = lanes_of(&b->p->device);
    l->spec[SPEC_MODE] = a.mode;
    l->push.norm = (struct push_norm){ .n = a.n,
                                       .x_stride = a.n,
                                       .y_stride = a.n,
                                       .q_stride = q8_quads(a.n),
                                       .eps = b->hp->norm_eps,
                                       .scale = a.scale,
                                       .n_row = b->hp->n_embd };
    bind(l, 1, a.from);
    if (a.mode & (NM_RMS | NM_LAYER))
        bind_vector(b, l, 2, a.vector);
    else
        bind(l, 2, a.from);
    bind(l, 3, a.mode & (NM_TO_F32 | NM_ADD) ? a.y : a.q);
    bind(l, 4, a.mode & NM_TO_Q8 ? a.q : a.y);
    l->dim[0] = a.mode & NM_GATHER ? DIM_OUT : DIM_ROWS;
}

void plan_embed(struct builder *b, uint32_t matrix)
{
    if (b->code != ERR_OK)
        return;
    const struct plan_matrix *m = &b->p->matrices[matrix];
    for (uint32_t i = 0; i < m->n_slices; i++) {
        const struct plan_slice *s = &m->slices[i];
        struct plan_launch *l = add_launch(b, "embed", kernels_of(m->type_id)->embed);
        uint32_t first = s->first_ob * BLOCK_OUTPUTS, left = m->m - first;
        l->spec[SPEC_LOCAL] = lanes_of(&b->p->device);
        l->push.embed = (struct push_embed){
            .plane0 = s->layout.plane[0],
            .plane1 = s->layout.plane[1],
            .plane2 = s->layout.plane[2],
            .plane3 = s->layout.plane[3],
            .n_kb = m->k / 32,
            .first = first,
            .m = left < s->n_ob * BLOCK_OUTPUTS ? left : s->n_ob * BLOCK_OUTPUTS,
            .x_stride = row_width(b->hp),
            .scale = b->hp->embd_scale,
        };
        l->bind[1] = (struct plan_bind){ s->buffer, s->offset, align_up(s->layout.bytes, 16) };
        bind(l, 2, BUF_X);
        l->groups[0] = ceil_div(m->k / 32, l->spec[SPEC_LOCAL]);
        l->dim[1] = DIM_ROWS;
    }
}

/* ---- matmul ---------------------------------------------------------------------------------- */

bool plan_uses_q8(const struct builder *b, uint32_t matrix)
{
    if (b->code != ERR_OK)
        return false;
    const struct plan_matrix *m = &b->p->matrices[matrix];
    return b->p->device.q8 && kernels_of(m->type_id)->quantised && !m->exact;
}

/* One sum for each block, on a GPU for each two lanes at most. */
uint32_t plan_part_quads(const struct plan_device *d, const struct hparams *hp)
{
    return ceil_div(row_width(hp) / (d->software ? BLOCK_OUTPUTS : 4), 4);
}

/* How a workgroup of a real GPU stands over a matrix: `kparts` lanes share an output pair, and the
 * workgroup does `lanes` of an output block's eight. */
struct spread {
    uint32_t kparts, lanes;
};

/* Enough subgroups to fill the device and none with nothing to do, then enough workgroups that every core
 * has two and none with less than a subgroup. It does not look at the tile: the order of a sum is the same
 * in every program (plan.h). */
static struct spread spread_of(const struct plan_device *d, const struct plan_matrix *m)
{
    struct spread s = { 4, BLOCK_LANES };
    uint32_t n_ob = m->n_slices ? m->slices[0].n_ob : 1, n_kb = m->k / 32;
    while (s.kparts < 32 && s.kparts * BLOCK_LANES * 2 <= d->max_local && s.kparts * 8 <= n_kb &&
           (uint64_t)n_ob * s.kparts * BLOCK_LANES / 32 < (uint64_t)d->cores * 16)
        s.kparts *= 2;
    while (s.lanes > 2 && n_ob * (BLOCK_LANES / s.lanes) < 2 * d->cores &&
           s.kparts * s.lanes / 2 >= d->subgroup)
        s.lanes /= 2;
    return s;
}

/* How the outputs are cut up among workgroups and lanes. */
static void cut_matmul(const struct builder *b, struct plan_launch *l, const struct plan_matrix *m,
                       const struct plan_slice *s, uint32_t mode, bool q8)
{
    const struct plan_device *d = &b->p->device;
    bool to_q8 = mode & MM_NEXT_Q8;
    uint32_t eights = 1;
    if (d->software) {
        l->spec[SPEC_LOCAL] = lanes_of(d);
        l->spec[SPEC_BLOCKS] = q8 || to_q8 || kernels_of(m->type_id)->quantised ? 2 : 1;
        l->spec[SPEC_PASSES] = to_q8 && (mode & EPI_MASK) == EPI_GLU ? 2 : 1;
        eights = l->spec[SPEC_LOCAL] / BLOCK_LANES;
    } else {
        struct spread over = spread_of(d, m);
        l->spec[SPEC_KPARTS] = over.kparts;
        l->spec[SPEC_LOCAL] = over.lanes * over.kparts;
        l->groups[0] = s->n_ob * (BLOCK_LANES / over.lanes);
        return;
    }
    l->groups[0] = ceil_div(s->n_ob, eights * l->spec[SPEC_BLOCKS] * l->spec[SPEC_PASSES]);
}

static void bind_heads(struct builder *b, struct plan_launch *l, const struct matmul_args *a)
{
    bind(l, 6, a->kv);
    bind(l, 7, a->kv + 1);
    bind(l, 8, BUF_PAGES);
    bind_vector(b, l, 9, a->table);
}

static void bind_matmul(struct builder *b, struct plan_launch *l, const struct matmul_args *a, bool q8)
{
    bool next = (a->mode & EPI_MASK) == EPI_ADD && a->mode & (MM_NEXT_F32 | MM_NEXT_Q8);
    bind(l, 2, q8 ? a->x_q8 : a->x_f32);
    bind(l, 3, a->y);
    bind(l, 4, BUF_NONE);
    if (a->mode & MM_BIAS)
        bind_vector(b, l, 4, a->bias);
    bind(l, 5, a->mode & MM_RMS ? BUF_PARTS : BUF_NONE);
    bind(l, 6, next && a->mode & MM_NEXT_F32 ? BUF_A : BUF_NONE);
    bind(l, 7, a->mode & MM_NEXT_Q8 ? a->next_q8 : BUF_NONE);
    bind(l, 8, next ? BUF_PARTS : BUF_NONE);
    bind(l, 9, BUF_NONE);
    if (next)
        bind_vector(b, l, 9, a->norm);
    if ((a->mode & EPI_MASK) == EPI_HEADS)
        bind_heads(b, l, a);
}

static void matmul_slice(struct builder *b, const struct matmul_args *a, const struct plan_matrix *m,
                         const struct plan_slice *s, bool q8)
{
    const struct type_kernels *t = kernels_of(m->type_id);
    const struct hparams *hp = b->hp;
    struct plan_launch *l = add_launch(b, a->label, q8 ? t->matmul_q8 : t->matmul_f);
    l->spec[SPEC_COLS] = b->prog->cols;
    l->spec[SPEC_MODE] = a->mode;
    l->spec[SPEC_TAIL] = q8 ? m->k / 32 % 4 : 0;
    cut_matmul(b, l, m, s, a->mode, q8);
    l->push.matmul = (struct push_matmul){
        .plane0 = s->layout.plane[0],
        .plane1 = s->layout.plane[1],
        .plane2 = s->layout.plane[2],
        .plane3 = s->layout.plane[3],
        .n_kb = m->k / 32,
        .n_ob = s->n_ob,
        .first = a->y_first + s->first_ob * BLOCK_OUTPUTS,
        .m = a->y_first + m->m,
        .x_stride = q8 ? q8_quads(m->k) : m->k / 4,
        .y_stride = a->y_stride,
        .mult = a->mult,
        .softcap = a->softcap,
        .rms_n = hp->n_embd,
        .eps = hp->norm_eps,
        .rms_parts = a->rms_parts,
        .part_stride = plan_part_quads(&b->p->device, hp),
        .next_stride = q8_quads(a->next_k),
        .n_head = hp->n_head,
        .n_kv = hp->n_head_kv,
        .head_dim = hp->head_k,
        .kv_dim = b->p->kv_dim,
        .q_scale = hp->attn_scale,
    };
    l->bind[1] = (struct plan_bind){ s->buffer, s->offset, align_up(s->layout.bytes, 16) };
    bind_matmul(b, l, a, q8);
    l->dim[1] = a->mode & MM_GATHERED ? DIM_OUT_TILES : DIM_TILES;
    l->weight_bytes = s->layout.bytes;
}

void plan_matmul(struct builder *b, struct matmul_args a)
{
    if (b->code != ERR_OK)
        return;
    const struct plan_matrix *m = &b->p->matrices[a.matrix];
    bool q8 = plan_uses_q8(b, a.matrix);
    if (a.mult == 0)
        a.mult = 1;
    for (uint32_t i = 0; i < m->n_slices; i++)
        matmul_slice(b, &a, m, &m->slices[i], q8);
}

uint32_t plan_rms_parts(const struct builder *b, const struct piece *p)
{
    const struct plan_device *d = &b->p->device;
    if (b->code != ERR_OK)
        return 0;
    return row_width(b->hp) / 2 / (d->software ? BLOCK_LANES : spread_of(d, &b->p->matrices[p->matrix]).lanes);
}

/* ---- rotation and attention ------------------------------------------------------------------ */

static uint32_t kvt_of(enum kv_type t)
{
    return t == KV_F16 ? KVT_F16 : t == KV_F32 ? KVT_F32 : KVT_Q8;
}

void plan_rope(struct builder *b, const struct layer_plan *lp, uint32_t il, const uint32_t tables[2])
{
    const struct hparams *hp = b->hp;
    const struct plan *p = b->p;
    bool whole = hp->rope && hp->n_rot == hp->head_k && hp->head_k % 8 == 0 && p->kv_type != KV_Q8_0;
    struct plan_launch *l = add_launch(b, "rope", whole ? KERNEL_rope_whole : KERNEL_rope);
    uint32_t mode = kvt_of(p->kv_type);
    if (hp->arch->rope_pairs == ROPE_HALF)
        mode |= ROPE_NEOX;
    if (hp->arch->qk_norm)
        mode |= ROPE_QKNORM;
    l->spec[SPEC_LOCAL] = whole ? p->device.subgroup : p->device.software ? lanes_of(&p->device) : 32;
    l->spec[SPEC_COLS] = whole ? ceil_div(p->kv_dim / 8, p->device.subgroup) : 1;
    l->spec[SPEC_MODE] = mode;
    l->push.rope = (struct push_rope){
        .n_head = hp->n_head,
        .n_kv = hp->n_head_kv,
        .head_dim = hp->head_k,
        .kv_dim = p->kv_dim,
        .n_rot = hp->rope ? hp->n_rot : 0,
        .qkv_stride = hparams_q_rows(hp) + hparams_k_rows(hp) + hparams_v_rows(hp),
        .q_stride = hp->n_head * p->kv_dim,
        .q_scale = hp->attn_scale,
        .eps = hp->norm_eps,
    };
    bind(l, 1, BUF_QKV);
    bind_vector(b, l, 2, tables[hp->local[il] && hp->arch->local_rope ? 1 : 0]);
    if (hp->arch->qk_norm)
        bind_vector(b, l, 3, lp->head_norms);
    else
        bind(l, 3, BUF_STEP);
    bind(l, 4, BUF_PAGES);
    bind(l, 5, BUF_Q);
    bind(l, 6, plan_kv_buffer(il, false));
    bind(l, 7, plan_kv_buffer(il, true));
    l->groups[0] = hp->n_head + 2 * hp->n_head_kv;
    l->dim[1] = DIM_ROWS;
}

void plan_attention(struct builder *b, uint32_t il)
{
    const struct hparams *hp = b->hp;
    const struct plan *p = b->p;
    struct push_attention push = {
        .n_head = hp->n_head,
        .n_kv = hp->n_head_kv,
        .head_dim = hp->head_k,
        .kv_dim = p->kv_dim,
        .q_stride = hp->n_head * p->kv_dim,
        .out_stride = pad32(hp->n_head * hp->head_k),
        .window = hp->local[il] ? hp->window : 0,
        .max_splits = p->max_splits,
        .split_tokens = p->split_tokens,
        .softcap = hp->attn_cap,
    };
    uint32_t per_kv = hp->n_head / hp->n_head_kv, heads = per_kv < 4 ? per_kv : 4;
    struct plan_launch *l = add_launch(b, "attention", KERNEL_attention);
    l->spec[SPEC_LOCAL] = p->device.subgroup;
    l->spec[SPEC_COLS] = ceil_div(p->kv_dim / 8, p->device.subgroup);
    l->spec[SPEC_BLOCKS] = heads;
    l->spec[SPEC_KPARTS] = p->kv_dim / 8;
    l->spec[SPEC_MODE] = kvt_of(p->kv_type) | (hp->attn_cap > 0 ? ATTN_SOFTCAP : 0u);
    l->push.attention = push;
    bind(l, 1, BUF_Q);
    bind(l, 2, plan_kv_buffer(il, false));
    bind(l, 3, plan_kv_buffer(il, true));
    bind(l, 4, BUF_PAGES);
    bind(l, 5, BUF_O);
    bind(l, 6, BUF_PARTIAL);
    l->groups[0] = hp->n_head_kv * ceil_div(per_kv, heads);
    l->dim[1] = DIM_ROWS;
    l->dim[2] = DIM_SPLITS;
    l->by_rows = b->prog->cols > 1;

    l = add_launch(b, "join", KERNEL_attention_join);
    l->spec[SPEC_LOCAL] = lanes_of(&p->device) < 32 ? lanes_of(&p->device) : 32;
    l->push.attention = push;
    bind(l, 1, BUF_PARTIAL);
    bind(l, 2, BUF_O);
    l->groups[0] = hp->n_head;
    l->dim[1] = DIM_JOIN;
}
