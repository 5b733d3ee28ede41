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

/* Quads of a row's sums of squares: one for each block, on a GPU for each two lanes at most. */
static uint32_t part_quads(const struct plan_device *d, const struct hparams *hp)
{
    return ceil_div(hp->n_embd / (d->software ? BLOCK_OUTPUTS : 4), 4);
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
    bool fused;                /* norms and rotation are parts of matmuls */
    bool heads;                /* rotation too */
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
        fail(b, err_prefix(b->e, "tensor %s", q.text));
        return;
    }
    uint64_t most = b->p->device.max_range < SLAB ? b->p->device.max_range : SLAB;
    uint64_t per = most / one.bytes * step;
    if (per == 0) {
        fail(b, err_set(b->e, ERR_TOO_LARGE, "%u rows of %u weights take %llu bytes; the device binds %llu",
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

/* Adds a matrix made of `n` tensors; returns its index. The parts must have one type, or become F32. */
static uint32_t add_matrix(struct builder *b, const struct gguf_tensor *const *part, uint32_t n,
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

/* A bias: n tensors, those of piece i in the packed order of its matrix. Room for the padding at the end. */
static uint32_t add_bias(struct builder *b, struct plan_vector v, const uint32_t *matrix, const uint32_t *first,
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
    return add_vector(b, v);
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

static uint32_t terms_of(uint32_t mode)
{
    return mode & NM_TERMS ? 2 : 1;
}

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
    uint32_t x_terms;     /* that the rows of x_q8 have; 0: one */
    uint32_t y, y_stride;
    uint32_t y_first;     /* y's index of the matrix's first output */
    uint32_t mode;        /* EPI_*, MM_* */
    uint32_t bias;        /* vector, with MM_BIAS */
    uint32_t next_q8;     /* buffer, with MM_NEXT_Q8 */
    uint32_t next_k;      /* inputs of the matmul that reads it */
    uint32_t norm;        /* vector: weights of the next norm, with EPI_ADD and MM_NEXT_* */
    uint32_t rms_parts;   /* partial sums of a row, with MM_RMS */
    uint32_t table, kv;   /* cos/sin vector and first page buffer, with EPI_HEADS */
    float mult, softcap;
};

static bool uses_q8(const struct builder *b, uint32_t matrix)
{
    if (b->code != ERR_OK)
        return false;
    const struct plan_matrix *m = &b->p->matrices[matrix];
    return b->p->device.q8 && kernels_of(m->type_id)->quantised;
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
        l->spec[SPEC_BLOCKS] = q8 || to_q8 ? 2 : 1;
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
    uint32_t terms = q8 && m->exact ? 2 : 1;
    l->spec[SPEC_COLS] = b->prog->cols;
    l->spec[SPEC_MODE] = a->mode | (terms > 1 ? MM_TERMS : 0u);
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
        .x_stride = q8 ? q8_quads(m->k) * (a->x_terms > terms ? a->x_terms : 1) : m->k / 4,
        .y_stride = a->y_stride,
        .mult = a->mult,
        .softcap = a->softcap,
        .rms_n = hp->n_embd,
        .eps = hp->norm_eps,
        .rms_parts = a->rms_parts,
        .part_stride = part_quads(&b->p->device, hp),
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

/* A piece of q, k and v: its first row among them all. Queries and keys go through a softmax, which makes
 * much of little: their input has two terms where it is quantised. Measured on SmolLM2-135M Q4_1 with an
 * f32 input: the rounding noise of the logits halves, for a sixth of the multiplications. */
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
    p->matrix = add_matrix(b, part, n, order, !b->heads ? UINT32_MAX : v > first ? v - first : 0);
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
    uint32_t bias = add_bias(b, v, matrix, first, lp->n_qkv);
    for (uint32_t i = 0; i < lp->n_qkv; i++) {
        lp->qkv[i].bias = bias;
        lp->qkv[i].has_bias = true;
    }
}

/* Groups q, k, v into as few matrices as their types allow. */
static void plan_qkv(struct builder *b, const struct layer_weights *lw, struct layer_plan *lp)
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

static struct piece plan_piece(struct builder *b, const struct gguf_tensor *t,
                               const struct gguf_tensor *bias, float bias_scale)
{
    struct piece out = { .matrix = add_matrix(b, &t, 1, ORDER_QUADS, UINT32_MAX), .has_bias = bias != NULL };
    uint32_t n = (uint32_t)t->shape[1];
    if (bias)
        out.bias = add_bias(b, (struct plan_vector){ .n = n, .part = { bias }, .part_n = { n }, .scale = bias_scale },
                            &out.matrix, &(uint32_t){ 0 }, 1);
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
    out.matrix = b->w->gate_in_up ? add_matrix(b, &part[1], 1, ORDER_GLU, UINT32_MAX)
                                  : add_matrix(b, part, 2, ORDER_GLU, UINT32_MAX);
    if (out.has_bias)
        out.bias = add_bias(
            b, (struct plan_vector){
                   .n = 2 * hp->n_ff,
                   .part = { b->w->gate_in_up ? lw->t[W_UP_B] : lw->t[W_GATE_B],
                             b->w->gate_in_up ? NULL : lw->t[W_UP_B], NULL },
                   .part_n = { b->w->gate_in_up ? 2 * hp->n_ff : hp->n_ff,
                               b->w->gate_in_up ? 0 : hp->n_ff, 0 } },
            &out.matrix, &(uint32_t){ 0 }, 1);
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

/* Which forms of an activation its readers take: NM_TO_F32, NM_TO_Q8 or both, NM_TERMS. */
static uint32_t forms(const struct builder *b, const struct piece *p, uint32_t n)
{
    uint32_t mode = 0;
    for (uint32_t i = 0; i < n && b->code == ERR_OK; i++) {
        bool q8 = uses_q8(b, p[i].matrix);
        mode |= q8 ? NM_TO_Q8 : NM_TO_F32;
        if (q8 && b->p->matrices[p[i].matrix].exact)
            mode |= NM_TERMS;
    }
    return mode;
}

/* The same as the epilogue of the matmul before writes them. */
static uint32_t next_mode(uint32_t forms)
{
    return (forms & NM_TO_F32 ? MM_NEXT_F32 : 0u) | (forms & NM_TO_Q8 ? MM_NEXT_Q8 : 0u) |
           (forms & NM_TERMS ? MM_NEXT_TERMS : 0u);
}

static void use_piece(struct builder *b, const struct piece *p, struct matmul_args a)
{
    a.matrix = p->matrix;
    a.y_first = p->y_first;
    a.bias = p->bias;
    a.mode |= p->has_bias ? MM_BIAS : 0u;
    matmul(b, a);
}

static uint32_t kvt_of(enum kv_type t)
{
    return t == KV_F16 ? KVT_F16 : t == KV_F32 ? KVT_F32 : KVT_Q8;
}

static uint32_t kv_buffer(uint32_t il, bool v) /* V is the buffer after K */
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

/* How many sums of squares a piece that ends a branch leaves for each row. */
static uint32_t parts_of(const struct builder *b, const struct piece *p)
{
    const struct plan_device *d = &b->p->device;
    if (b->code != ERR_OK)
        return 0;
    return b->hp->n_embd / 2 / (d->software ? BLOCK_LANES : spread_of(d, &b->p->matrices[p->matrix]).lanes);
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
    a.y_stride = hp->n_embd;
    if (!hp->arch->sandwich) {
        a.y = BUF_X;
        a.mode = EPI_ADD | next_mode(next.forms);
        a.mult = hp->residual_scale;
        a.next_q8 = BUF_AQ;
        a.next_k = hp->n_embd;
        a.norm = next.norm;
        use_piece(b, p, a);
        return;
    }
    a.y = BUF_Y;
    a.mode = EPI_STORE;
    use_piece(b, p, a);
    norm(b, (struct norm_args){ "post norm", BUF_Y, norm_mode(b) | NM_ADD, post_norm, hp->n_embd, BUF_X,
                                BUF_X, hp->residual_scale });
}

static uint32_t attn_forms(const struct builder *b, const struct layer_plan *lp)
{
    return forms(b, lp->qkv, lp->n_qkv) | (b->hp->arch->parallel ? forms(b, lp->up, 1) : 0);
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
                             .x_terms = terms_of(attn_forms(b, lp)),
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
        a.kv = kv_buffer(il, false);
    }
    for (uint32_t i = 0; i < lp->n_qkv; i++)
        use_piece(b, &lp->qkv[i], a);
    if (!b->heads)
        rope(b, lp, il, tables);
}

static void emit_ffn(struct builder *b, const struct layer_plan *lp, struct next next)
{
    const struct hparams *hp = b->hp;
    bool q8 = uses_q8(b, lp->down.matrix), direct = q8 && b->fused && hp->arch->gated;
    uint32_t act = hp->arch->act == ACT_SILU ? EPI_SILU : EPI_GELU;
    use_piece(b, &lp->up[0],
              (struct matmul_args){ .label = "up",
                                    .x_f32 = BUF_A,
                                    .x_q8 = BUF_AQ,
                                    .x_terms = hp->arch->parallel ? terms_of(attn_forms(b, lp)) : 1,
                                    .y = BUF_H,
                                    .y_stride = pad32(hp->n_ff),
                                    .mode = (hp->arch->gated ? EPI_GLU : EPI_ACT) | act |
                                            (b->fused ? MM_RMS : 0u) | (direct ? MM_NEXT_Q8 : 0u),
                                    .rms_parts = parts_of(b, &lp->out),
                                    .next_q8 = BUF_HQ,
                                    .next_k = pad32(hp->n_ff) });
    if (q8 && !direct)
        norm(b, (struct norm_args){ "quantise", BUF_H, NM_TO_Q8, 0, pad32(hp->n_ff), BUF_HQ, BUF_HQ, 1 });
    close_branch(b, &lp->down, (struct matmul_args){ .label = "down", .x_f32 = BUF_H, .x_q8 = BUF_HQ },
                 lp->post_ffn, next);
}

static void emit_layer(struct builder *b, uint32_t il, const struct layer_plan *layers,
                       const uint32_t tables[2])
{
    const struct layer_plan *lp = &layers[il], *after = il + 1 < b->hp->n_layer ? lp + 1 : NULL;
    const struct hparams *hp = b->hp;
    bool ready = b->fused && il > 0; /* the layer before began this one's norm */
    struct next ffn = { 0 }, attn = { 0 };
    if (b->fused)
        ffn = (struct next){ forms(b, lp->up, 1), lp->ffn_norm };
    if (b->fused && after)
        attn = (struct next){ attn_forms(b, after), after->attn_norm };
    if (!ready)
        norm(b, (struct norm_args){ "norm", BUF_X,
                                    norm_mode(b) | attn_forms(b, lp) | (lp->norm_bias ? NM_BIAS : 0u),
                                    lp->attn_norm, hp->n_embd, BUF_A, BUF_AQ, 1 });
    emit_qkv(b, il, lp, ready ? parts_of(b, &layers[il - 1].down) : 0, tables);

    bool out_q8 = uses_q8(b, lp->out.matrix), direct = out_q8 && hp->head_k % 32 == 0;
    attention(b, il, direct);
    if (out_q8 && !direct)
        norm(b, (struct norm_args){ "quantise", BUF_O, NM_TO_Q8, 0, pad32(hp->n_head * hp->head_k),
                                    BUF_OQ, BUF_OQ, 1 });
    close_branch(b, &lp->out, (struct matmul_args){ .label = "out", .x_f32 = BUF_O, .x_q8 = BUF_OQ },
                 lp->post_attn, ffn);

    if (!hp->arch->parallel && !b->fused)
        norm(b, (struct norm_args){ "norm", BUF_X,
                                    norm_mode(b) | forms(b, lp->up, 1) |
                                        (lp->ffn_norm_bias ? NM_BIAS : 0u),
                                    lp->ffn_norm, hp->n_embd, BUF_A, BUF_AQ, 1 });
    emit_ffn(b, lp, attn);
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
        [BUF_AQ] = { "a (q8)", q8 ? 2 * q * q8_quads(hp->n_embd) : 0, GPU_DEVICE },
        [BUF_QKV] = { "qkv", rows * n_qkv * f, GPU_DEVICE },
        [BUF_Q] = { "q", rows * hp->n_head * p->kv_dim * f, GPU_DEVICE },
        [BUF_O] = { "o", rows * n_o * f, GPU_DEVICE },
        [BUF_OQ] = { "o (q8)", q8 ? q * q8_quads(n_o) : 0, GPU_DEVICE },
        [BUF_PARTIAL] = { "partials", partial_bytes(p, hp, p->split_tokens), GPU_DEVICE },
        [BUF_Y] = { "y", hp->arch->sandwich ? rows * hp->n_embd * f : 0, GPU_DEVICE },
        [BUF_H] = { "h", rows * pad32(hp->n_ff) * f, GPU_DEVICE },
        [BUF_HQ] = { "h (q8)", q8 ? q * q8_quads(hp->n_ff) : 0, GPU_DEVICE },
        [BUF_PARTS] = { "sums of squares", q * part_quads(&p->device, hp), GPU_DEVICE },
        [BUF_NONE] = { "nothing", 256, GPU_DEVICE },
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

/* Norms join the matmuls around them where they are RMS norms and each stands before one branch. */
static void choose_fusion(struct builder *b, bool unfused)
{
    const struct hparams *hp = b->hp;
    const struct arch *a = hp->arch;
    bool norm_bias = false;
    for (uint32_t il = 0; il < hp->n_layer; il++)
        norm_bias = norm_bias || b->w->layer[il].t[W_ATTN_NORM_B] || b->w->layer[il].t[W_FFN_NORM_B];
    b->fused = !unfused && !b->p->device.ref && b->p->device.subgroup >= BLOCK_LANES &&
               a->norm == NORM_RMS && !a->sandwich && !a->parallel && !norm_bias;
    b->heads = b->fused && hp->rope && !a->qk_norm && hp->n_rot == hp->head_k && hp->head_k % 32 == 0 &&
               b->p->kv_type != KV_Q8_0;
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
        emit_layer(b, il, layers, tables);
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
    head.embd = add_matrix(b, &embd, 1, ORDER_QUADS, UINT32_MAX);
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
        head.out.bias = add_bias(b, (struct plan_vector){ .n = hp->n_vocab, .part = { b->w->t[W_OUTPUT_B] },
                                                          .part_n = { hp->n_vocab } },
                                 &head.out.matrix, &(uint32_t){ 0 }, 1);
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
        choose_fusion(&b, o->unfused);
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
