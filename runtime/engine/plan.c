#include "runtime/engine/plan.h"

#include <math.h>
#include <string.h>

#define ALIGN 256u
#define SLAB ((uint64_t)512 << 20) /* a weight slab; a slice never straddles two */
#define MAX_GROUPS 65534u /* of a dispatch in one dimension, an even number */
#define MAX_PARTIAL_BYTES ((uint64_t)128 << 20)
/* Multiplications and additions of attention that a core is given in one dispatch: at 8 GFLOP/s, which a
 * slow one does, 125 ms. A submit holds the attention of a few layers and must end well before 2 s. */
#define CORE_ATTENTION 1000000000ull
#define MAX_LOGIT_BYTES ((uint64_t)64 << 20)

/* Rows of a tile in each program. Eight rows in one tile read every weight once. */
static const uint32_t plan_cols[PLAN_PROGRAMS] = { 1, 4, 8 };

uint32_t plan_program_for(uint32_t n_rows)
{
    uint32_t which = 0;
    while (which + 1 < PLAN_PROGRAMS && plan_cols[which] < n_rows)
        which++;
    return which;
}

static uint64_t align_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* Inputs of a matmul come in blocks of 32; a short last one is padded with zeros. */
static uint32_t pad32(uint32_t n)
{
    return ceil_div(n, 32) * 32;
}

static uint32_t q8_quads(uint32_t k)
{
    return ceil_div(k, 128) * Q8_GROUP_QUADS;
}

struct plan_device plan_device_of(const struct gpu_info *info)
{
    return (struct plan_device){
        .software = info->software,
        .ref = info->ref,
        .q8 = info->software && !info->ref,
        .subgroup = info->subgroup,
        .cores = info->cores,
        .max_local = info->max_local,
        .max_range = info->texel_loads && info->max_texel_range > info->max_storage_range
                         ? info->max_texel_range
                         : info->max_storage_range,
    };
}

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

/* ---- the builder -------------------------------------------------------------------------------- */

struct builder {
    struct plan *p;
    const struct hparams *hp;
    const struct weights *w;
    struct plan_program *prog; /* being written */
    int32_t layer;
    uint32_t slab;             /* buffer of the weight slab being filled */
    struct plan_launch sink;   /* written to and never read, after an error */
    enum err_code code;        /* the first error; later calls do nothing */
    struct err *e;
};

static void fail(struct builder *b, enum err_code code)
{
    if (b->code == ERR_OK)
        b->code = code;
}

static bool grow(struct builder *b, void *array, size_t *cap, size_t need, size_t size)
{
    if (b->code == ERR_OK && !mem_grow(array, cap, need, size, 1u << 20))
        fail(b, err_no_memory(b->e, need * size, "the plan"));
    return b->code == ERR_OK;
}

static uint32_t add_buffer(struct builder *b, const char *name, uint64_t bytes, enum gpu_memory where)
{
    struct plan *p = b->p;
    if (!grow(b, &p->buffers, &p->cap_buffers, p->n_buffers + 1, sizeof *p->buffers))
        return 0;
    p->buffers[p->n_buffers] = (struct plan_buffer_spec){ name, bytes, where };
    return (uint32_t)p->n_buffers++;
}

/* Takes room for a slice in the current slab, or begins a new one. */
static struct plan_bind place(struct builder *b, uint64_t bytes)
{
    struct plan *p = b->p;
    struct plan_buffer_spec *slab = b->slab ? &p->buffers[b->slab] : NULL;
    if (!slab || align_up(slab->bytes, ALIGN) + bytes > SLAB) {
        b->slab = add_buffer(b, "weights", 0, GPU_DEVICE);
        if (b->code != ERR_OK)
            return (struct plan_bind){ 0 };
        slab = &p->buffers[b->slab];
    }
    uint64_t at = align_up(slab->bytes, ALIGN);
    slab->bytes = at + bytes;
    p->weight_bytes += bytes;
    return (struct plan_bind){ b->slab, at, bytes };
}

static bool add_slice(struct builder *b, struct plan_matrix *m, size_t *cap, uint32_t first_ob,
                      uint32_t n_ob)
{
    if (!grow(b, &m->slices, cap, m->n_slices + 1u, sizeof *m->slices))
        return false;
    struct plan_slice s = { .first_ob = first_ob, .n_ob = n_ob };
    fail(b, repack_layout(tensor_type_find(m->type_id), m->k, n_ob * BLOCK_OUTPUTS, &s.layout, b->e));
    if (b->code != ERR_OK)
        return false;
    struct plan_bind at = place(b, s.layout.bytes);
    s.buffer = at.buffer;
    s.offset = at.offset;
    m->slices[m->n_slices++] = s;
    return b->code == ERR_OK;
}

/* Cuts a matrix into slices that one binding can span. */
static void slice_matrix(struct builder *b, struct plan_matrix *m)
{
    struct repack_layout one;
    size_t cap = 0;
    uint32_t n_ob = 2 * ceil_div(m->m, 2 * BLOCK_OUTPUTS); /* blocks stand in pairs */
    enum err_code code =
        repack_layout(tensor_type_find(m->type_id), m->k, 2 * BLOCK_OUTPUTS, &one, b->e);
    if (code != ERR_OK) {
        struct gguf_quoted q = gguf_quote(m->part[0]->name);
        fail(b, err_prefix(b->e, "tensor %s", q.text));
        return;
    }
    uint64_t most = b->p->device.max_range < SLAB ? b->p->device.max_range : SLAB;
    uint64_t per = most / one.bytes * 2;
    if (per == 0) {
        fail(b, err_set(b->e, ERR_TOO_LARGE, "%u rows of %u weights take %llu bytes; the device binds %llu",
                        2 * BLOCK_OUTPUTS, m->k, (unsigned long long)one.bytes, (unsigned long long)most));
        return;
    }
    if (per > MAX_GROUPS)
        per = MAX_GROUPS;
    for (uint32_t ob = 0; ob < n_ob;) {
        uint32_t n = (uint64_t)(n_ob - ob) < per ? n_ob - ob : (uint32_t)per;
        if (!add_slice(b, m, &cap, ob, n))
            return;
        ob += n;
    }
}

/* Adds a matrix made of `n` tensors; returns its index. The parts must have one type, or become F32. */
static uint32_t add_matrix(struct builder *b, const struct gguf_tensor *const *part, uint32_t n,
                           bool paired)
{
    struct plan *p = b->p;
    struct plan_matrix m = { .n_part = n, .paired = paired, .type_id = part[0]->type_id };
    m.k = pad32((uint32_t)part[0]->shape[0]);
    for (uint32_t i = 0; i < n; i++) {
        m.part[i] = part[i];
        m.m += (uint32_t)part[i]->shape[1];
        m.as_f32 = m.as_f32 || part[i]->type_id != m.type_id;
    }
    if (m.as_f32)
        m.type_id = TENSOR_F32;
    if (!grow(b, &p->matrices, &p->cap_matrices, p->n_matrices + 1, sizeof *p->matrices))
        return 0;
    slice_matrix(b, &m);
    p->matrices[p->n_matrices] = m;
    return (uint32_t)p->n_matrices++;
}

static uint32_t add_vector(struct builder *b, struct plan_vector v)
{
    struct plan *p = b->p;
    if (!grow(b, &p->vectors, &p->cap_vectors, p->n_vectors + 1, sizeof *p->vectors))
        return 0;
    struct plan_buffer_spec *all = &p->buffers[BUF_VECTORS];
    v.offset = align_up(all->bytes, ALIGN);
    all->bytes = v.offset + align_up((uint64_t)v.n * sizeof(float), ALIGN);
    if (v.scale == 0)
        v.scale = 1;
    p->vectors[p->n_vectors] = v;
    return (uint32_t)p->n_vectors++;
}

/* Tensors one after another; those that are NULL give zeros. */
static uint32_t vector_of(struct builder *b, const struct gguf_tensor *x, uint32_t nx,
                          const struct gguf_tensor *y, uint32_t ny, float scale)
{
    return add_vector(b, (struct plan_vector){ .n = nx + ny,
                                               .part = { x, y, NULL },
                                               .part_n = { nx, ny, 0 },
                                               .scale = scale });
}

/* ---- launches ------------------------------------------------------------------------------------ */

static struct plan_launch *add_launch(struct builder *b, const char *label, enum kernel kernel)
{
    struct plan_program *g = b->prog;
    if (!grow(b, &g->launch, &g->cap, g->n + 1, sizeof *g->launch))
        return &b->sink;
    struct plan_launch *l = &g->launch[g->n++];
    *l = (struct plan_launch){ .label = label, .layer = b->layer, .kernel = kernel, .groups = { 1, 1, 1 } };
    l->spec[SPEC_COLS] = 1;
    l->spec[SPEC_BLOCKS] = 1;
    l->spec[SPEC_SUBGROUP] = b->p->device.subgroup;
    l->spec[SPEC_KPARTS] = 1;
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
    l->bind[at] = (struct plan_bind){ BUF_VECTORS, v->offset, align_up((uint64_t)v->n * 4, ALIGN) };
}

static uint32_t lanes_of(const struct plan_device *d)
{
    return d->software ? (d->subgroup > BLOCK_LANES ? d->subgroup : BLOCK_LANES) : 64;
}

struct norm_args {
    const char *label;
    uint32_t from;
    uint32_t mode;    /* NM_* */
    uint32_t vector;  /* weights (and biases) */
    uint32_t n;
    uint32_t y, q;    /* outputs, where the mode asks for them */
    float scale;
};

static void norm(struct builder *b, struct norm_args a)
{
    struct plan_launch *l = add_launch(b, a.label, KERNEL_norm);
    l->spec[SPEC_LOCAL] = lanes_of(&b->p->device);
    l->spec[SPEC_MODE] = a.mode;
    l->push.norm = (struct push_norm){ .n = a.n,
                                       .x_stride = a.n,
                                       .y_stride = a.n,
                                       .q_stride = q8_quads(a.n),
                                       .eps = b->hp->norm_eps,
                                       .scale = a.scale };
    bind(l, 1, a.from);
    if (a.mode & (NM_RMS | NM_LAYER))
        bind_vector(b, l, 2, a.vector);
    else
        bind(l, 2, a.from);
    bind(l, 3, a.mode & (NM_TO_F32 | NM_ADD) ? a.y : a.q);
    bind(l, 4, a.mode & NM_TO_Q8 ? a.q : a.y);
    l->dim[0] = a.mode & NM_GATHER ? DIM_OUT : DIM_ROWS;
}

static uint32_t norm_mode(const struct builder *b)
{
    return b->hp->arch->norm == NORM_RMS ? NM_RMS : NM_LAYER;
}

struct matmul_args {
    const char *label;
    uint32_t matrix;
    uint32_t x_f32, x_q8; /* the input in both forms */
    uint32_t y, y_stride;
    uint32_t y_first;     /* y's index of the matrix's first output */
    uint32_t mode;        /* EPI_*, MM_* */
    uint32_t bias;        /* vector, with MM_BIAS */
    float mult, softcap;
};

/* Queries and keys go through a softmax, which makes much of little: their input stays f32. Measured on
 * SmolLM2-135M Q4_1: the rounding noise of the logits halves, for a sixth of the multiplications. */
static bool uses_q8(const struct builder *b, uint32_t matrix)
{
    if (b->code != ERR_OK)
        return false;
    const struct plan_matrix *m = &b->p->matrices[matrix];
    return b->p->device.q8 && kernels_of(m->type_id)->quantised && !m->exact;
}

/* How a workgroup of a real GPU stands over a matrix: `kparts` lanes share an output pair, and the
 * workgroup does `lanes` of an output block's eight. */
struct spread {
    uint32_t kparts, lanes;
};

/* Enough subgroups to fill the device and none with nothing to do, then enough workgroups that every core
 * has two and none with less than a subgroup. It does not look at the tile: the order of a sum is the same
 * in every program (plan.h). */
static struct spread spread_of(const struct plan_device *d, uint32_t n_ob, uint32_t n_kb)
{
    struct spread s = { 4, BLOCK_LANES };
    while (s.kparts < 32 && s.kparts * BLOCK_LANES * 2 <= d->max_local && s.kparts * 8 <= n_kb &&
           (uint64_t)n_ob * s.kparts * BLOCK_LANES / 32 < (uint64_t)d->cores * 16)
        s.kparts *= 2;
    while (s.lanes > 2 && n_ob * (BLOCK_LANES / s.lanes) < 2 * d->cores &&
           s.kparts * s.lanes / 2 >= d->subgroup)
        s.lanes /= 2;
    return s;
}

static void matmul_slice(struct builder *b, const struct matmul_args *a, const struct plan_matrix *m,
                         const struct plan_slice *s, bool q8)
{
    const struct plan_device *d = &b->p->device;
    const struct type_kernels *t = kernels_of(m->type_id);
    struct plan_launch *l = add_launch(b, a->label, q8 ? t->matmul_q8 : t->matmul_f);
    uint32_t n_kb = m->k / 32;
    l->spec[SPEC_COLS] = b->prog->cols;
    l->spec[SPEC_MODE] = a->mode;
    if (d->software) {
        l->spec[SPEC_LOCAL] = lanes_of(d);
        l->spec[SPEC_BLOCKS] = q8 ? 2 : 1;
        l->groups[0] = ceil_div(s->n_ob, l->spec[SPEC_LOCAL] / BLOCK_LANES * l->spec[SPEC_BLOCKS]);
    } else {
        struct spread over = spread_of(d, s->n_ob, n_kb);
        l->spec[SPEC_KPARTS] = over.kparts;
        l->spec[SPEC_LOCAL] = over.lanes * over.kparts;
        l->groups[0] = s->n_ob * (BLOCK_LANES / over.lanes);
    }
    l->push.matmul = (struct push_matmul){
        .plane0 = s->layout.plane[0],
        .plane1 = s->layout.plane[1],
        .plane2 = s->layout.plane[2],
        .plane3 = s->layout.plane[3],
        .n_kb = n_kb,
        .n_ob = s->n_ob,
        .first = a->y_first + s->first_ob * BLOCK_OUTPUTS,
        .m = a->y_first + m->m,
        .x_stride = q8 ? q8_quads(m->k) : m->k / 4,
        .y_stride = a->y_stride,
        .mult = a->mult,
        .softcap = a->softcap,
    };
    l->bind[1] = (struct plan_bind){ s->buffer, s->offset, align_up(s->layout.bytes, 16) };
    bind(l, 2, q8 ? a->x_q8 : a->x_f32);
    bind(l, 3, a->y);
    if (a->mode & MM_BIAS)
        bind_vector(b, l, 4, a->bias);
    else
        bind(l, 4, BUF_STEP);
    l->dim[1] = a->mode & MM_GATHERED ? DIM_OUT_TILES : DIM_TILES;
    l->weight_bytes = s->layout.bytes;
}

static void matmul(struct builder *b, struct matmul_args a)
{
    if (b->code != ERR_OK)
        return;
    const struct plan_matrix *m = &b->p->matrices[a.matrix];
    bool q8 = uses_q8(b, a.matrix);
    if (a.mult == 0)
        a.mult = 1;
    for (uint32_t i = 0; i < m->n_slices; i++)
        matmul_slice(b, &a, m, &m->slices[i], q8);
}

/* ---- a layer's parts: matrices and vectors, made once, used by both programs ---------------------- */

struct piece { /* a matrix with its bias and where its outputs go */
    uint32_t matrix, bias, y_first;
    bool has_bias;
};
struct layer_plan {
    uint32_t attn_norm, ffn_norm, post_attn, post_ffn; /* vectors */
    uint32_t head_norms, no_norms;
    struct piece qkv[3], out, up[2], down;
    uint32_t n_qkv;
    bool norm_bias, ffn_norm_bias;
};

static bool same_type(const struct gguf_tensor *a, const struct gguf_tensor *b)
{
    return a->type_id == b->type_id;
}

static void make_exact(struct builder *b, uint32_t matrix)
{
    if (b->code == ERR_OK)
        b->p->matrices[matrix].exact = true;
}

/* Groups q, k, v into as few matrices as their types allow. */
static void plan_qkv(struct builder *b, const struct layer_weights *lw, struct layer_plan *lp)
{
    static const enum layer_weight roles[3] = { W_Q, W_K, W_V };
    static const enum layer_weight biases[3] = { W_Q_B, W_K_B, W_V_B };
    const struct hparams *hp = b->hp;
    uint32_t rows[3] = { hparams_q_rows(hp), hparams_k_rows(hp), hparams_v_rows(hp) };
    uint32_t total = rows[0] + rows[1] + rows[2], bias = 0;
    bool has_bias;
    if (b->w->qkv_fused) {
        has_bias = lw->t[W_QKV_B] != NULL;
        if (has_bias)
            bias = vector_of(b, lw->t[W_QKV_B], total, NULL, 0, 1);
        lp->qkv[lp->n_qkv++] =
            (struct piece){ add_matrix(b, &lw->t[W_QKV], 1, false), bias, 0, has_bias };
        make_exact(b, lp->qkv[0].matrix);
        return;
    }
    has_bias = lw->t[W_Q_B] || lw->t[W_K_B] || lw->t[W_V_B];
    if (has_bias)
        bias = add_vector(b, (struct plan_vector){
                                 .n = total,
                                 .part = { lw->t[biases[0]], lw->t[biases[1]], lw->t[biases[2]] },
                                 .part_n = { rows[0], rows[1], rows[2] } });
    for (uint32_t i = 0, first = 0; i < 3;) {
        const struct gguf_tensor *part[3];
        uint32_t n = 0, at = first;
        do {
            part[n++] = lw->t[roles[i]];
            first += rows[i++];
        } while (i < 3 && same_type(part[0], lw->t[roles[i]]));
        lp->qkv[lp->n_qkv++] = (struct piece){ add_matrix(b, part, n, false), bias, at, has_bias };
        make_exact(b, lp->qkv[lp->n_qkv - 1].matrix);
    }
}

static struct piece plan_piece(struct builder *b, const struct gguf_tensor *t,
                               const struct gguf_tensor *bias, float bias_scale)
{
    struct piece out = { .matrix = add_matrix(b, &t, 1, false), .has_bias = bias != NULL };
    if (bias)
        out.bias = vector_of(b, bias, (uint32_t)t->shape[1], NULL, 0, bias_scale);
    return out;
}

/* Gate and up as one paired matrix; without a gate, up alone. */
static struct piece plan_up(struct builder *b, const struct layer_weights *lw)
{
    const struct hparams *hp = b->hp;
    if (!hp->arch->gated)
        return plan_piece(b, lw->t[W_UP], lw->t[W_UP_B], 1);
    const struct gguf_tensor *part[2] = { lw->t[W_GATE], lw->t[W_UP] };
    struct piece out = { .has_bias = lw->t[W_GATE_B] || lw->t[W_UP_B] };
    out.matrix = b->w->gate_in_up ? add_matrix(b, &part[1], 1, true) : add_matrix(b, part, 2, true);
    if (out.has_bias)
        out.bias = add_vector(
            b, (struct plan_vector){
                   .n = ceil_div(hp->n_ff, BLOCK_LANES) * BLOCK_OUTPUTS,
                   .part = { b->w->gate_in_up ? lw->t[W_UP_B] : lw->t[W_GATE_B],
                             b->w->gate_in_up ? NULL : lw->t[W_UP_B], NULL },
                   .part_n = { b->w->gate_in_up ? 2 * hp->n_ff : hp->n_ff,
                               b->w->gate_in_up ? 0 : hp->n_ff, 0 },
                   .paired = true });
    return out;
}

static void plan_layer(struct builder *b, uint32_t il, struct layer_plan *lp)
{
    const struct hparams *hp = b->hp;
    const struct layer_weights *lw = &b->w->layer[il];
    uint32_t n = hp->n_embd;
    lp->norm_bias = lw->t[W_ATTN_NORM_B] != NULL;
    lp->attn_norm = vector_of(b, lw->t[W_ATTN_NORM], n, lw->t[W_ATTN_NORM_B], n, 1);
    lp->ffn_norm_bias = lw->t[W_FFN_NORM_B] != NULL;
    if (lw->t[W_FFN_NORM])
        lp->ffn_norm = vector_of(b, lw->t[W_FFN_NORM], n, lw->t[W_FFN_NORM_B], n, 1);
    if (lw->t[W_POST_ATTN])
        lp->post_attn = vector_of(b, lw->t[W_POST_ATTN], n, NULL, 0, 1);
    if (lw->t[W_POST_FFN])
        lp->post_ffn = vector_of(b, lw->t[W_POST_FFN], n, NULL, 0, 1);
    if (hp->arch->qk_norm)
        lp->head_norms = vector_of(b, lw->t[W_Q_NORM], hp->head_k, lw->t[W_K_NORM], hp->head_k, 1);
    plan_qkv(b, lw, lp);
    lp->out = plan_piece(b, lw->t[W_O], lw->t[W_O_B], hp->residual_scale);
    lp->up[0] = plan_up(b, lw);
    lp->down = plan_piece(b, lw->t[W_DOWN], lw->t[W_DOWN_B], hp->residual_scale);
}

/* ---- the layer's launches ----------------------------------------------------------------------- */

/* Which forms of an activation its readers take: NM_TO_F32, NM_TO_Q8 or both. */
static uint32_t forms(const struct builder *b, const struct piece *p, uint32_t n)
{
    uint32_t mode = 0;
    for (uint32_t i = 0; i < n; i++)
        mode |= uses_q8(b, p[i].matrix) ? NM_TO_Q8 : NM_TO_F32;
    return mode;
}

static void use_piece(struct builder *b, const char *label, const struct piece *p, uint32_t x_f32,
                      uint32_t x_q8, uint32_t y, uint32_t y_stride, uint32_t mode, float mult)
{
    matmul(b, (struct matmul_args){ .label = label,
                                    .matrix = p->matrix,
                                    .x_f32 = x_f32,
                                    .x_q8 = x_q8,
                                    .y = y,
                                    .y_stride = y_stride,
                                    .y_first = p->y_first,
                                    .mode = mode | (p->has_bias ? MM_BIAS : 0u),
                                    .bias = p->bias,
                                    .mult = mult });
}

static uint32_t kvt_of(enum kv_type t)
{
    return t == KV_F16 ? KVT_F16 : t == KV_F32 ? KVT_F32 : KVT_Q8;
}

static uint32_t kv_buffer(uint32_t il, bool v)
{
    return BUF_FIXED_COUNT + 2 * il + (v ? 1 : 0);
}

static void rope(struct builder *b, const struct layer_plan *lp, uint32_t il, const uint32_t tables[2])
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
    bind(l, 6, kv_buffer(il, false));
    bind(l, 7, kv_buffer(il, true));
    l->groups[0] = hp->n_head + 2 * hp->n_head_kv;
    l->dim[1] = DIM_ROWS;
}

static void attention(struct builder *b, uint32_t il, bool to_q8)
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
        .outq_stride = q8_quads(hp->n_head * hp->head_k),
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
    l->spec[SPEC_MODE] = kvt_of(p->kv_type) | (to_q8 ? ATTN_TO_Q8 : 0u) |
                         (hp->attn_cap > 0 ? ATTN_SOFTCAP : 0u);
    l->push.attention = push;
    bind(l, 1, BUF_Q);
    bind(l, 2, kv_buffer(il, false));
    bind(l, 3, kv_buffer(il, true));
    bind(l, 4, BUF_PAGES);
    bind(l, 5, to_q8 ? BUF_OQ : BUF_O);
    bind(l, 6, to_q8 ? BUF_OQ : BUF_O);
    bind(l, 7, BUF_PARTIAL);
    l->groups[0] = hp->n_head_kv * ceil_div(per_kv, heads);
    l->dim[1] = DIM_ROWS;
    l->dim[2] = DIM_SPLITS;

    l = add_launch(b, "join", KERNEL_attention_join);
    l->spec[SPEC_LOCAL] = lanes_of(&p->device) < 32 ? lanes_of(&p->device) : 32;
    l->spec[SPEC_MODE] = to_q8 ? ATTN_TO_Q8 : 0;
    l->push.attention = push;
    bind(l, 1, BUF_PARTIAL);
    bind(l, 2, to_q8 ? BUF_OQ : BUF_O);
    bind(l, 3, to_q8 ? BUF_OQ : BUF_O);
    l->groups[0] = hp->n_head;
    l->dim[1] = DIM_JOIN;
}

/* A branch's end: added to x by the matmul itself, or through the sandwich's norm. */
static void close_branch(struct builder *b, const char *label, const struct piece *p, uint32_t x_f32,
                         uint32_t x_q8, uint32_t post_norm)
{
    const struct hparams *hp = b->hp;
    if (!hp->arch->sandwich) {
        use_piece(b, label, p, x_f32, x_q8, BUF_X, hp->n_embd, EPI_ADD, hp->residual_scale);
        return;
    }
    use_piece(b, label, p, x_f32, x_q8, BUF_Y, hp->n_embd, EPI_STORE, 1);
    norm(b, (struct norm_args){ "post norm", BUF_Y, norm_mode(b) | NM_ADD, post_norm, hp->n_embd, BUF_X,
                                BUF_X, hp->residual_scale });
}

static void emit_layer(struct builder *b, uint32_t il, const struct layer_plan *lp,
                       const uint32_t tables[2])
{
    const struct hparams *hp = b->hp;
    uint32_t mode = norm_mode(b), n_qkv = hparams_q_rows(hp) + hparams_k_rows(hp) + hparams_v_rows(hp);
    uint32_t reads = forms(b, lp->qkv, lp->n_qkv);
    if (hp->arch->parallel)
        reads |= forms(b, lp->up, 1);
    norm(b, (struct norm_args){ "norm", BUF_X, mode | reads | (lp->norm_bias ? NM_BIAS : 0u),
                                lp->attn_norm, hp->n_embd, BUF_A, BUF_AQ, 1 });
    for (uint32_t i = 0; i < lp->n_qkv; i++)
        use_piece(b, "qkv", &lp->qkv[i], BUF_A, BUF_AQ, BUF_QKV, n_qkv, EPI_STORE, 1);
    rope(b, lp, il, tables);

    bool out_q8 = uses_q8(b, lp->out.matrix), direct = out_q8 && hp->head_k % 32 == 0;
    attention(b, il, direct);
    if (out_q8 && !direct)
        norm(b, (struct norm_args){ "quantise", BUF_O, NM_TO_Q8, 0, pad32(hp->n_head * hp->head_k),
                                    BUF_OQ, BUF_OQ, 1 });
    close_branch(b, "out", &lp->out, BUF_O, BUF_OQ, lp->post_attn);

    if (!hp->arch->parallel)
        norm(b, (struct norm_args){ "norm", BUF_X,
                                    mode | forms(b, lp->up, 1) | (lp->ffn_norm_bias ? NM_BIAS : 0u),
                                    lp->ffn_norm, hp->n_embd, BUF_A, BUF_AQ, 1 });
    uint32_t act = hp->arch->act == ACT_SILU ? EPI_SILU : EPI_GELU;
    use_piece(b, "up", &lp->up[0], BUF_A, BUF_AQ, BUF_H, pad32(hp->n_ff),
              (hp->arch->gated ? EPI_GLU : EPI_ACT) | act, 1);
    if (uses_q8(b, lp->down.matrix))
        norm(b, (struct norm_args){ "quantise", BUF_H, NM_TO_Q8, 0, pad32(hp->n_ff), BUF_HQ, BUF_HQ, 1 });
    close_branch(b, "down", &lp->down, BUF_H, BUF_HQ, lp->post_ffn);
}

struct head_plan {
    uint32_t norm;
    bool norm_bias;
    struct piece out;
    uint32_t embd; /* matrix */
};

static void emit_embed(struct builder *b, const struct head_plan *h)
{
    if (b->code != ERR_OK)
        return;
    const struct plan_matrix *m = &b->p->matrices[h->embd];
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
            .x_stride = b->hp->n_embd,
            .scale = b->hp->embd_scale,
        };
        l->bind[1] = (struct plan_bind){ s->buffer, s->offset, align_up(s->layout.bytes, 16) };
        bind(l, 2, BUF_X);
        l->groups[0] = ceil_div(m->k / 32, l->spec[SPEC_LOCAL]);
        l->dim[1] = DIM_ROWS;
    }
}

static void emit_head(struct builder *b, const struct head_plan *h)
{
    const struct hparams *hp = b->hp;
    norm(b, (struct norm_args){ "final norm", BUF_X,
                                norm_mode(b) | NM_GATHER | forms(b, &h->out, 1) |
                                    (h->norm_bias ? NM_BIAS : 0u),
                                h->norm, hp->n_embd, BUF_A, BUF_AQ, 1 });
    matmul(b, (struct matmul_args){
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

/* ---- sizes ---------------------------------------------------------------------------------------- */

static enum err_code check_shapes(const struct hparams *hp, struct err *e)
{
    struct {
        const char *what;
        uint32_t n, multiple;
    } rows[] = {
        { "embedding_length", hp->n_embd, 32 },
        { "head size", hp->head_k, 8 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].n % rows[i].multiple)
            return err_set(e, ERR_UNSUPPORTED, "%s is %u; our kernels want a multiple of %u",
                           rows[i].what, rows[i].n, rows[i].multiple);
    if (hp->head_k != hp->head_v)
        return err_set(e, ERR_UNSUPPORTED, "keys of %u and values of %u a head; ours are equal",
                       hp->head_k, hp->head_v);
    if (hp->head_k > 512)
        return err_set(e, ERR_UNSUPPORTED, "heads of %u; ours are at most 512", hp->head_k);
    if (hp->n_embd > 65536 || hp->n_ff > 65536)
        return err_set(e, ERR_UNSUPPORTED, "rows of %u and %u; ours are at most 65536", hp->n_embd,
                       hp->n_ff);
    return ERR_OK;
}

static uint64_t kv_slot_bytes(const struct plan *p)
{
    uint64_t n = (uint64_t)KV_PAGE_TOKENS * p->kv_dim;
    return p->kv_type == KV_F16 ? n * 2 : p->kv_type == KV_F32 ? n * 4 : n + n / 8;
}

static uint64_t partial_bytes(const struct plan *p, const struct hparams *hp, uint32_t split_tokens)
{
    return (uint64_t)MAX_STEP_ROWS * hp->n_head * ceil_div(p->n_ctx, split_tokens) * (p->kv_dim + 2) * 4;
}

/* Tokens of an attention split. A real GPU has many cores to fill and one split a workgroup: there it is
 * halved while the partials of a full step do not take too much. */
static uint32_t split_tokens_of(const struct plan *p, const struct hparams *hp)
{
    uint64_t most = p->device.max_range < MAX_PARTIAL_BYTES ? p->device.max_range : MAX_PARTIAL_BYTES;
    uint32_t n = 512;
    while (!p->device.software && n > 2 * KV_PAGE_TOKENS && partial_bytes(p, hp, n / 2) <= most)
        n /= 2;
    return n;
}

static void size_context(struct plan *p, const struct hparams *hp, const struct plan_options *o)
{
    p->n_ctx = o->n_ctx ? o->n_ctx : hp->n_ctx_train < 4096 ? hp->n_ctx_train : 4096;
    if (p->n_ctx > hp->n_ctx_train)
        p->n_ctx = hp->n_ctx_train;
    if (p->n_ctx < 1)
        p->n_ctx = 1;
    p->n_seq = o->n_seq ? o->n_seq : 4;
    p->kv_type = o->kv_type;
    p->kv_dim = ceil_div(hp->head_k, 32) * 32;
    p->max_pages = ceil_div(p->n_ctx, KV_PAGE_TOKENS);
    p->n_pages = p->max_pages * p->n_seq;
    p->split_tokens = split_tokens_of(p, hp);
    p->max_splits = ceil_div(p->n_ctx, p->split_tokens);
    p->step_span = (p->device.cores ? p->device.cores : 1) * CORE_ATTENTION / (4ull * hp->n_head * hp->head_k);
}

static void add_fixed_buffers(struct builder *b)
{
    struct plan *p = b->p;
    const struct hparams *hp = b->hp;
    uint64_t rows = MAX_STEP_ROWS, f = sizeof(float), q = 16 * rows;
    uint32_t n_qkv = hparams_q_rows(hp) + hparams_k_rows(hp) + hparams_v_rows(hp);
    uint32_t n_o = pad32(hp->n_head * hp->head_k);
    uint64_t most = p->device.max_range < MAX_LOGIT_BYTES ? p->device.max_range : MAX_LOGIT_BYTES;
    uint64_t fit = most / (f * hp->n_vocab);
    p->max_out = fit < 1 ? 1 : fit > rows ? MAX_STEP_ROWS : (uint32_t)fit;
    bool q8 = p->device.q8;
    struct plan_buffer_spec fixed[BUF_FIXED_COUNT] = {
        [BUF_STEP] = { "step", STEP_WORDS * 4, GPU_HOST },
        [BUF_PAGES] = { "page tables", (uint64_t)p->n_seq * p->max_pages * 4, GPU_HOST },
        [BUF_VECTORS] = { "vectors", 0, GPU_DEVICE },
        [BUF_X] = { "x", rows * hp->n_embd * f, GPU_DEVICE },
        [BUF_A] = { "a", rows * hp->n_embd * f, GPU_DEVICE },
        [BUF_AQ] = { "a (q8)", q8 ? q * q8_quads(hp->n_embd) : 0, GPU_DEVICE },
        [BUF_QKV] = { "qkv", rows * n_qkv * f, GPU_DEVICE },
        [BUF_Q] = { "q", rows * hp->n_head * p->kv_dim * f, GPU_DEVICE },
        [BUF_O] = { "o", rows * n_o * f, GPU_DEVICE },
        [BUF_OQ] = { "o (q8)", q8 ? q * q8_quads(n_o) : 0, GPU_DEVICE },
        [BUF_PARTIAL] = { "partials", partial_bytes(p, hp, p->split_tokens), GPU_DEVICE },
        [BUF_Y] = { "y", hp->arch->sandwich ? rows * hp->n_embd * f : 0, GPU_DEVICE },
        [BUF_H] = { "h", rows * pad32(hp->n_ff) * f, GPU_DEVICE },
        [BUF_HQ] = { "h (q8)", q8 ? q * q8_quads(hp->n_ff) : 0, GPU_DEVICE },
        [BUF_LOGITS] = { "logits", p->max_out * f * hp->n_vocab, GPU_HOST },
    };
    for (uint32_t i = 0; i < BUF_FIXED_COUNT; i++)
        add_buffer(b, fixed[i].name, fixed[i].bytes, fixed[i].where);
    for (uint32_t i = 0; i < 2 * hp->n_layer; i++)
        add_buffer(b, i & 1 ? "V pages" : "K pages", (uint64_t)p->n_pages * hp->n_head_kv * kv_slot_bytes(p),
                   GPU_DEVICE);
}

/* Every buffer but the slabs (whose slices are cut to size) is bound whole. */
static void check_ranges(struct builder *b)
{
    struct plan *p = b->p;
    size_t n = BUF_FIXED_COUNT + 2 * (size_t)b->hp->n_layer;
    uint64_t most = p->device.max_range < GPU_MAX_BUFFER ? p->device.max_range : GPU_MAX_BUFFER;
    for (size_t i = 0; i < n && b->code == ERR_OK; i++)
        if (p->buffers[i].bytes > most)
            fail(b, err_set(b->e, ERR_TOO_LARGE,
                            "%s take %llu MiB at %u sessions of %u tokens; the device binds at most %llu "
                            "MiB at once: choose a smaller context or fewer sequences",
                            p->buffers[i].name, (unsigned long long)(p->buffers[i].bytes >> 20), p->n_seq,
                            p->n_ctx, (unsigned long long)(most >> 20)));
}

static void check_locals(struct builder *b)
{
    const struct plan *p = b->p;
    for (uint32_t i = 0; i < PLAN_PROGRAMS && !p->device.ref; i++)
        for (size_t k = 0; k < p->program[i].n && b->code == ERR_OK; k++) {
            const struct plan_launch *l = &p->program[i].launch[k];
            if (l->spec[SPEC_LOCAL] > p->device.max_local)
                fail(b, err_set(b->e, ERR_UNSUPPORTED, "'%s' wants workgroups of %u; the device has at most %u",
                                l->label, l->spec[SPEC_LOCAL], p->device.max_local));
        }
}

static void sum_bytes(struct plan *p, uint32_t n_layer)
{
    for (size_t i = 0; i < p->n_buffers; i++) {
        bool kv = i >= BUF_FIXED_COUNT && i < BUF_FIXED_COUNT + 2 * (size_t)n_layer;
        if (kv)
            p->kv_bytes += p->buffers[i].bytes;
        else if (i < BUF_FIXED_COUNT)
            p->scratch_bytes += p->buffers[i].bytes;
    }
}

static void add_tables(struct builder *b, uint32_t tables[2])
{
    const struct hparams *hp = b->hp;
    uint32_t pairs = hp->rope ? hp->n_rot / 2 : 0, n = pairs ? b->p->n_ctx * pairs * 2 : 64;
    tables[0] = add_vector(b, (struct plan_vector){ .n = n, .rope = 1 });
    tables[1] = hp->arch->local_rope ? add_vector(b, (struct plan_vector){ .n = n, .rope = 2 }) : tables[0];
}

static void emit_program(struct builder *b, uint32_t which, const struct layer_plan *layers,
                         const struct head_plan *head, const uint32_t tables[2])
{
    b->prog = &b->p->program[which];
    b->prog->cols = plan_cols[which];
    b->layer = -1;
    emit_embed(b, head);
    for (uint32_t il = 0; il < b->hp->n_layer; il++) {
        b->layer = (int32_t)il;
        emit_layer(b, il, &layers[il], tables);
    }
    b->layer = -1;
    b->prog->n_body = b->prog->n;
    emit_head(b, head);
}

static void build(struct builder *b, struct layer_plan *layers)
{
    const struct hparams *hp = b->hp;
    const struct gguf_tensor *embd = b->w->t[W_TOKEN_EMBD], *out = weights_output(b->w);
    uint32_t tables[2] = { 0, 0 };
    struct head_plan head = { .norm_bias = b->w->t[W_OUT_NORM_B] != NULL };
    add_fixed_buffers(b);
    if (b->code != ERR_OK)
        return;
    add_tables(b, tables);
    head.embd = add_matrix(b, &embd, 1, false);
    for (uint32_t il = 0; il < hp->n_layer && b->code == ERR_OK; il++)
        plan_layer(b, il, &layers[il]);
    if (b->code != ERR_OK)
        return;
    head.norm = vector_of(b, b->w->t[W_OUT_NORM], hp->n_embd, b->w->t[W_OUT_NORM_B], hp->n_embd, 1);
    if (out == embd)
        head.out = (struct piece){ .matrix = head.embd };
    else
        head.out = plan_piece(b, out, NULL, 1);
    head.out.has_bias = b->w->t[W_OUTPUT_B] != NULL;
    if (head.out.has_bias)
        head.out.bias = vector_of(b, b->w->t[W_OUTPUT_B], hp->n_vocab, NULL, 0, 1);
    check_ranges(b);
    for (uint32_t i = 0; i < PLAN_PROGRAMS && b->code == ERR_OK; i++)
        emit_program(b, i, layers, &head, tables);
    check_locals(b);
    sum_bytes(b->p, hp->n_layer);
}

enum err_code plan_create(const struct hparams *hp, const struct weights *w,
                          const struct plan_device *device, const struct plan_options *o,
                          struct plan **out, struct err *e)
{
    *out = NULL;
    enum err_code code = check_shapes(hp, e);
    if (code != ERR_OK)
        return code;
    struct plan *p = mem_zero(1, sizeof *p);
    struct layer_plan *layers = mem_zero(hp->n_layer, sizeof *layers);
    struct builder b = { .p = p, .hp = hp, .w = w, .e = e, .layer = -1 };
    if (!p || !layers) {
        code = err_no_memory(e, sizeof *p, "the plan");
    } else {
        p->hp = hp;
        p->device = *device;
        size_context(p, hp, o);
        build(&b, layers);
        code = b.code;
    }
    mem_free(layers);
    if (code != ERR_OK) {
        plan_destroy(p);
        return code;
    }
    *out = p;
    return ERR_OK;
}

void plan_destroy(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_matrices; i++)
        mem_free(p->matrices[i].slices);
    for (uint32_t i = 0; i < PLAN_PROGRAMS; i++)
        mem_free(p->program[i].launch);
    mem_free(p->matrices);
    mem_free(p->vectors);
    mem_free(p->buffers);
    arena_finish(&p->arena);
    mem_free(p);
}
