/* What the four files that make a plan share. For runtime/engine only.
 *
 *   plan.c          from a header to a plan: sizes, buffers, which form a model gets, the programs
 *   plan_weights.c  the builder, then what lies on the device: matrices in slabs, vectors, a layer's parts
 *   plan_launch.c   one operation as a launch: kernel, constants, bindings, groups
 *   plan_layer.c    the operations of a layer in their order, and the head's
 *
 * Errors: a function that takes the builder does nothing once b->code is an error, and what it gives back
 * then (an index, a launch) is not to be looked up in the plan. Callers go on and look at b->code in the end. */
#ifndef HEARTH_ENGINE_PLAN_PRIV_H
#define HEARTH_ENGINE_PLAN_PRIV_H

#include "runtime/engine/plan.h"

#define PLAN_ALIGN 256u /* of what begins in a buffer, bytes */

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

struct piece { /* a matrix with its bias and where its outputs go */
    uint32_t matrix, bias, y_first;
    bool has_bias;
};
/* A layer's parts: made once, used by every program. */
struct layer_plan {
    uint32_t attn_norm, ffn_norm, post_attn, post_ffn; /* vectors */
    uint32_t head_norms;
    struct piece qkv[3], out, up, down;
    uint32_t n_qkv;
    bool norm_bias, ffn_norm_bias;
};
struct head_plan {
    uint32_t norm;
    bool norm_bias;
    struct piece out;
    uint32_t embd; /* matrix */
};

static inline uint64_t align_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static inline uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* Inputs of a matmul come in blocks of 32; a short last one is padded with zeros. */
static inline uint32_t pad32(uint32_t n)
{
    return ceil_div(n, 32) * 32;
}

/* Floats of a row of the residual stream: zeros behind its n_embd. */
static inline uint32_t row_width(const struct hparams *hp)
{
    return pad32(hp->n_embd);
}

/* Quads of 16 bytes that a row of k quantised activations takes, one term of it. */
static inline uint32_t q8_quads(uint32_t k)
{
    return ceil_div(k, 128) * Q8_GROUP_QUADS;
}

static inline uint32_t plan_kv_buffer(uint32_t il, bool v) /* V is the buffer after K */
{
    return BUF_FIXED_COUNT + 2 * il + (v ? 1 : 0);
}

/* ---- plan_weights.c ------------------------------------------------------------------------------ */

/* Keeps `code` if it is the first error; ERR_OK is let pass. The caller has set b->e. */
void plan_fail(struct builder *b, enum err_code code);
/* Room for `need` elements of `size` bytes. False: there was an error, this one or one before. */
bool plan_grow(struct builder *b, void *array, size_t *cap, size_t need, size_t size);
/* Index of a new buffer; `bytes` may grow later (vectors, slabs). `name` is kept. */
uint32_t plan_add_buffer(struct builder *b, const char *name, uint64_t bytes, enum gpu_memory where);
/* A matrix made of `n` tensors, up to three; returns its index. The parts have one type, or become F32.
 * Outputs from pairs_from on are in ORDER_PAIRS; UINT32_MAX: none. */
uint32_t plan_add_matrix(struct builder *b, const struct gguf_tensor *const *part, uint32_t n,
                         enum repack_order order, uint32_t pairs_from);
/* A vector as it stands there, but for its offset, which is set here; scale 0 is 1. Returns its index. */
uint32_t plan_add_vector(struct builder *b, struct plan_vector v);
/* A norm's weights, then its biases (NULL: zeros), each as wide as a row of the residual stream. */
uint32_t plan_norm_vector(struct builder *b, const struct gguf_tensor *weight, const struct gguf_tensor *bias);
/* The bias of n matrices, up to three, that write one row: v's tensors one after another, those from first[i]
 * on in the packed order of matrix[i], whose padding at the end has room too. */
uint32_t plan_add_bias(struct builder *b, struct plan_vector v, const uint32_t *matrix,
                       const uint32_t *first, uint32_t n);
/* A matrix of one tensor in plain order, and its bias, where there is one, times bias_scale. */
struct piece plan_piece(struct builder *b, const struct gguf_tensor *t, const struct gguf_tensor *bias,
                        float bias_scale);
/* Matrices and vectors of layer il. b->heads must be chosen: the order of q and k depends on it. lp is
 * zeros before. */
void plan_layer_weights(struct builder *b, uint32_t il, struct layer_plan *lp);

/* ---- plan_launch.c: each appends to b->prog ------------------------------------------------------- */

struct norm_args {
    const char *label;
    uint32_t from;
    uint32_t mode;    /* NM_* */
    uint32_t vector;  /* weights (and biases) */
    uint32_t n;
    uint32_t y, q;    /* outputs, where the mode asks for them */
    float scale;
};
void plan_norm(struct builder *b, struct norm_args a);

struct matmul_args {
    const char *label;
    uint32_t matrix;
    uint32_t x_f32, x_q8; /* the input in both forms */
    uint32_t y, y_stride;
    uint32_t y_first;     /* y's index of the matrix's first output */
    uint32_t mode;        /* EPI_*, MM_* */
    uint32_t bias;        /* vector, with MM_BIAS */
    uint32_t next_q8;     /* buffer, with MM_NEXT_Q8 */
    uint32_t next_k;      /* inputs of the matmul that reads it */
    uint32_t norm;        /* vector: weights of the next norm, with EPI_ADD and MM_NEXT_* */
    uint32_t rms_parts;   /* partial sums of a row, with MM_RMS */
    uint32_t table, kv;   /* cos/sin vector and first page buffer, with EPI_HEADS */
    float mult, softcap;  /* mult 0: one */
};
/* A launch for each slice of the matrix. Which of the inputs is read is plan_uses_q8's to say. */
void plan_matmul(struct builder *b, struct matmul_args a);
/* Does this matrix read its input quantised, on this device? */
bool plan_uses_q8(const struct builder *b, uint32_t matrix);
/* Quads of a row of BUF_PARTS; and how many sums of squares a piece that ends a branch leaves there, which
 * is never more than they hold. */
uint32_t plan_part_quads(const struct plan_device *d, const struct hparams *hp);
uint32_t plan_rms_parts(const struct builder *b, const struct piece *p);

/* A launch for each slice of the table of embeddings. */
void plan_embed(struct builder *b, uint32_t matrix);
/* tables: the cos/sin vectors of global and of local layers. */
void plan_rope(struct builder *b, const struct layer_plan *lp, uint32_t il, const uint32_t tables[2]);
/* Attention and its join, to BUF_O. */
void plan_attention(struct builder *b, uint32_t il);

/* ---- plan_layer.c: each appends to b->prog -------------------------------------------------------- */

/* Layer il of `layers`. Where the plan is fused it looks at the one before, whose last launch began its
 * norm, and at the one after, whose norm it begins: all must be made. */
void plan_emit_layer(struct builder *b, uint32_t il, const struct layer_plan *layers,
                     const uint32_t tables[2]);
/* The final norm and the logits, of the rows that want them. */
void plan_emit_head(struct builder *b, const struct head_plan *h);

#endif
