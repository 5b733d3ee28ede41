/* The transformer, written down: a model's hyper-parameters and tensors become buffers and a flat array
 * of kernel launches, for one row and for a batch of rows.
 *
 * A plan is made from the header alone: it needs no device and no weights, so that it can be printed
 * (plan_print, hearthd --explain), tested for any device, and used to tell what a load would take. What
 * a launch does in each step is fixed here; what changes from step to step (rows, positions, pages,
 * how many of each) lies in the step buffer and in the group counts, which stand in the argument buffer.
 *
 * The layer, in the order of launches (see model/arch.h for the mathematics; activations that meet
 * quantised weights on a software device are q8, else f32):
 *
 *   qkv       a -> q, K and V pages   scale of the norm, bias, rotation and KV write in the epilogue
 *   attention q, pages -> o           online softmax, split over long timelines
 *   join      partials -> o           runs only when a row has more than one split
 *   out       o -> x +=, a            residual, the next norm but for its scale, sums of squares
 *   up        a -> h                  gate and up interleaved, act(gate) * up in the epilogue
 *   down      h -> x +=, a            like out; the last one leaves the norm to the head
 *
 * The first layer has a norm before it, and qkv is a launch for each tensor type among q, k, v. Where heads
 * have norms of their own, are rotated in part or K and V are q8, qkv -> qkv and a rope launch follows; up
 * without a gate is quantised by a launch, and so is o where heads are not of whole blocks.
 *
 * That needs a family of RMS norms, one before each branch, and eight lanes in a subgroup. What does
 * not fit (and everything, with options.unfused: the reference that the judge compares with) takes
 * launches of its own:
 *
 *   norm      x -> a                  RMS or layer norm, quantised for the next matmul
 *   qkv       a -> qkv                one launch, or one for each tensor type among q, k, v
 *   rope      qkv -> q, K and V pages head norms, rotation, scale, KV write
 *   attention q, pages -> o           online softmax, split over long timelines
 *   join      partials -> o           runs only when a row has more than one split
 *   out       o -> x +=               residual in the epilogue; sandwich: -> y, then norm adds to x
 *   norm      x -> a                  (parallel families: the first a serves both)
 *   up        a -> h                  gate and up interleaved, act(gate) * up in the epilogue
 *   quantise  h -> hq                 (q8 only)
 *   down      h -> x +=
 *
 * The same bits, alone or in company. A row's logits depend on its timeline and on the device, not on the
 * rows beside it, on where its prompt was cut, or on the pages it got. On every device, for these reasons:
 *
 *   - A workgroup of embed, norm, rope, attention and join reads one row, and each of these launches is
 *     the same pipeline in every program. norm sums blocks of 32 in index order, whatever its size.
 *   - Of matmul the programs have variants, but they differ in SPEC_COLS and SPEC_BLOCKS alone: which
 *     outputs of which rows a lane holds. Each output is one chain of `precise` multiply-adds in ascending
 *     k; with SPEC_KPARTS lanes to an output, lane i has every KPARTS-th block from i on, and the chains
 *     are added from 0 up. KPARTS comes of the matrix and the device, never of the tile. Decoding the
 *     weights, the epilogue and the activations are `precise`, so that no variant fuses what another
 *     rounds twice; exp, tanh and division are the driver's, the same code in each.
 *   - Attention's splits lie at absolute positions (split z: tokens z * split_tokens ..), its runs at
 *     multiples of their length; which splits a row has comes of its position and window. One split
 *     writes the output, several are joined in ascending order, also where the step needs more for
 *     another row. A row of the chunk under way reads its K and V from the pages, rounded as all are.
 *   - No atomics, no tuner, no choice by load.
 *
 * plan_reproducible checks what of this can be seen in a plan, tests/check_kernels the kernels ("same
 * bits"), tests/golden/batch_test the whole. A faster plan that breaks it must be another plan, not used
 * where the caller asked for `reproducible` (struct runtime_options, options.reproducible).
 *
 * Thread: any; a plan is constant once made. */
#ifndef HEARTH_ENGINE_PLAN_H
#define HEARTH_ENGINE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"
#include "runtime/engine/runtime.h"
#include "runtime/gpu/gpu.h"
#include "runtime/model/gguf.h"
#include "runtime/model/hparams.h"
#include "runtime/model/repack.h"
#include "runtime/model/weights.h"

/* What a plan must know of the device. */
struct plan_device {
    bool software, ref;
    bool q8;            /* quantised activations meet quantised weights */
    uint32_t subgroup, cores, max_local;
    uint64_t max_range; /* bytes of one binding */
};
struct plan_device plan_device_of(const struct gpu_info *info);

enum plan_buffer {
    BUF_STEP,   /* rows of the step; host */
    BUF_PAGES,  /* page tables [n_seq][max_pages]; host */
    BUF_VECTORS, /* norms, biases, cos/sin tables */
    BUF_X,      /* residual stream, f32 [row][n_embd] */
    BUF_A,      /* normed, f32 [row][n_embd] */
    BUF_AQ,     /* normed, q8 */
    BUF_QKV,    /* f32 [row][q rows + k rows + v rows] */
    BUF_Q,      /* f32 [row][n_head][kv_dim] */
    BUF_O,      /* attention's output, f32 [row][n_head * head, padded to 32 with zeros] */
    BUF_PARTIAL, /* attention's partials */
    BUF_Y,      /* a branch's output before its norm, f32 [row][n_embd] */
    BUF_H,      /* feed-forward, f32 [row][n_ff, padded to 32 with zeros] */
    BUF_HQ,     /* the same, q8 */
    BUF_PARTS,  /* sums of squares of x, one for every 16 elements, on a GPU every 4 at most: f32 [row][..] */
    BUF_LOGITS, /* f32 [out row][n_vocab]; host */
    BUF_NONE,   /* bound where a kernel has a binding that a launch does not use */
    BUF_FIXED_COUNT,
    /* then K and V pages: BUF_FIXED_COUNT + 2 * layer (K), + 1 (V); then the weight slabs */
};

struct plan_buffer_spec {
    const char *name;
    uint64_t bytes; /* 0: not used by this model */
    enum gpu_memory where;
};

/* A slice of a repacked matrix in a weight slab: output blocks first_ob .. + n_ob. */
struct plan_slice {
    uint32_t buffer; /* index in plan.buffers */
    uint64_t offset;
    uint32_t first_ob, n_ob;
    struct repack_layout layout;
};
/* A repacked matrix: up to three tensors of one type, their outputs one after another, or two
 * interleaved as pairs (gate, up). */
struct plan_matrix {
    const struct gguf_tensor *part[3];
    uint32_t n_part;
    enum repack_order order; /* of its outputs; ORDER_GLU: gate is the first half of the rows */
    uint32_t head_dim;  /* ORDER_NEOX, ORDER_PAIRS */
    uint32_t pairs_from; /* outputs from here on are in ORDER_PAIRS whatever `order` says */
    bool exact;         /* its activations are never quantised */
    bool as_f32;        /* parts of different types, decoded to F32 */
    uint32_t type_id;
    uint32_t k, m;      /* inputs, padded to 32; outputs that exist */
    uint32_t n_slices;
    struct plan_slice *slices;
};

/* A vector of floats in BUF_VECTORS. */
struct plan_vector {
    uint64_t offset; /* bytes */
    uint32_t n;
    const struct gguf_tensor *part[3]; /* concatenated; NULL: zeros */
    uint32_t part_n[3];
    uint32_t gap;    /* zeros behind each part */
    float scale;     /* every element times this */
    struct {
        uint32_t matrix, first;
    } order[3];      /* elements from `first` on are a bias in the packed order of that matrix */
    uint32_t n_order;
    int rope;        /* 1: cos/sin of global layers, 2: of local ones; 0: none */
};

enum plan_dim { DIM_FIXED, DIM_ROWS, DIM_TILES, DIM_OUT, DIM_OUT_TILES, DIM_SPLITS, DIM_JOIN };

struct plan_bind {
    uint32_t buffer;
    uint64_t offset, bytes;
};
struct plan_launch {
    const char *label; /* "qkv", "attention" */
    int32_t layer;     /* -1: outside of layers */
    enum kernel kernel;
    uint32_t spec[N_SPEC];
    union {
        struct push_embed embed;
        struct push_norm norm;
        struct push_matmul matmul;
        struct push_rope rope;
        struct push_attention attention;
        uint8_t bytes[128];
    } push;
    struct plan_bind bind[GPU_MAX_BINDINGS];
    uint32_t groups[3]; /* x, y, z; those with a dim other than DIM_FIXED are set each step */
    uint8_t dim[3];     /* enum plan_dim */
    bool by_rows;       /* see gpu_launch */
    uint64_t weight_bytes;
};

/* The launches of a step with tiles of `cols` rows. */
struct plan_program {
    uint32_t cols;
    size_t n, cap;
    struct plan_launch *launch;
    size_t n_body; /* launches before the head (the final norm and what follows) */
};
#define PLAN_PROGRAMS 3 /* tiles of 1, 4 and 8 rows */

struct plan {
    struct arena arena;
    const struct hparams *hp; /* of the caller, who keeps it */
    struct plan_device device;
    uint32_t n_ctx, n_seq, max_pages, n_pages; /* pages a session can hold; in all */
    uint32_t kv_dim;
    enum kv_type kv_type;
    uint32_t max_out;      /* rows of BUF_LOGITS */
    uint32_t split_tokens, max_splits;
    uint64_t step_span; /* tokens that the prompt rows of a step may see in all (a row at position p sees
                           p + 1): bounds one attention dispatch, which cannot be cut. Decode rows, of
                           which a session has one, are not counted */
    size_t n_buffers, cap_buffers;
    struct plan_buffer_spec *buffers;
    size_t n_matrices, cap_matrices;
    struct plan_matrix *matrices;
    size_t n_vectors, cap_vectors;
    struct plan_vector *vectors;
    struct plan_program program[PLAN_PROGRAMS];
    uint64_t weight_bytes, kv_bytes, scratch_bytes;
};

struct plan_options {
    uint32_t n_ctx, n_seq; /* 0: defaults of struct model_options */
    enum kv_type kv_type;
    bool unfused; /* a launch for each operation */
};

/* Row of the matrix (its parts one after another) whose weights stand at a packed place; UINT32_MAX: none,
 * padding. */
uint32_t plan_row(const struct plan_matrix *m, uint32_t place);
/* Output blocks that cover whole runs of rows: slices and their parts begin at multiples. */
uint32_t plan_block_step(const struct plan_matrix *m);

/* hp and w must outlive the plan. ERR_UNSUPPORTED names the shape that no kernel of ours does, or the
 * size of a workgroup that the device does not have;
 * ERR_TOO_LARGE a binding that the device cannot span, with the numbers. */
enum err_code plan_create(const struct hparams *hp, const struct weights *w,
                          const struct plan_device *device, const struct plan_options *o,
                          struct plan **out, struct err *e);
void plan_destroy(struct plan *p);

/* The program whose tile fits n_rows best; the last one for all larger steps. */
uint32_t plan_program_for(uint32_t n_rows);

/* Prompt rows, from position `from` on and at most `most`, that a step has room for whose other prompt
 * rows see `seen` tokens in all. */
uint32_t plan_rows_in_span(const struct plan *p, uint64_t seen, uint32_t from, uint32_t most);

/* What the groups of a launch are for a step of n_rows rows of which n_out want logits, the longest
 * timeline needing n_splits splits. */
void plan_groups(const struct plan_launch *l, uint32_t cols, uint32_t n_rows, uint32_t n_out,
                 uint32_t n_splits, uint32_t groups[3]);

/* What a program amounts to. */
struct plan_totals {
    size_t launches, most_a_layer; /* of all; of the layer that has most */
    size_t pipelines;              /* different kernels and specialisations */
    uint64_t weight_bytes;         /* read for each tile of rows */
};
struct plan_totals plan_program_totals(const struct plan *p, uint32_t which);
/* Different pipelines of programs from .. to - 1 together. */
size_t plan_pipelines(const struct plan *p, uint32_t from, uint32_t to);

/* Do the programs differ in their matmuls' tiles alone, so that a row's bits are the same in each? On the
 * software device that is the rule, and not looked at. */
bool plan_reproducible(const struct plan *p);

/* The programs as text, one launch a line, each program under its totals. */
void plan_print(const struct plan *p, struct buf *out);

#endif
