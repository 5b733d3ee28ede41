/* What the host and the shaders say to each other: push-constant blocks, specialisation ids, the
 * layout of the step buffer and of repacked weights. Read by C (gcc, clang) and GLSL (glslang)
 * both, so that units and shapes are written once.
 *
 * Words: a *row* is one token of a step (activations are [row][k]); an *output* is one row of a
 * weight matrix (a matmul turns k inputs into m outputs); a *quad* is 16 bytes, one uvec4.
 *
 * ---- Repacked weights ----------------------------------------------------------------------
 * A matrix of m outputs and k inputs (k a multiple of 32; m padded to 16 with zero outputs) is
 * stored by *output blocks* of 16: lane r = 0..7 of a block holds the pair of outputs r (lo) and
 * r + 8 (hi) of the block, in the order that the repack's permutation gave them. kb counts
 * blocks of 32 inputs, NKB = k/32; NG = ceil(NKB/4) groups of 128 inputs; NSB = k/256.
 *
 * Blocks stand in pairs, so that what a workgroup reads lies in the order in which it reads it: of the n
 * quads that a lane has in a plane, quad i is at ((ob/2 * n + i) * 2 + ob%2) * 8 + lane (LANE_QUAD), and
 * the number of blocks is even. Below, [i] is a lane's quads in that order.
 *
 * Quantised types are unsigned bit planes of output pairs:
 *   P4   [kb][h = 0,1]     quad h holds inputs kb*32 + h*16 .. +15; word w (0..3) has
 *                          inputs 4w..4w+3 of them: input 4w+t of output lo in bits
 *                          4t..4t+3, of output hi in bits 16+4t..16+4t+3
 *   P2   [kb]              word w (0..3) has inputs kb*32 + 8w .. +7: input 8w+t, lo in
 *                          bits 2t..2t+1, hi in bits 16+2t..
 *   P1   [ceil(NKB/2)]     quad j covers blocks kb = 2j, 2j+1: word w has inputs
 *                          j*64 + 16w .. +15: input 16w+t, lo in bit t, hi in bit 16+t
 * and the weight is d*(q - Z) or d*q + m, with scales in planes of their own:
 *   S32  [NG][h = lo,hi]   word j: block 4g+j: f16 d (bits 0..15), f16 m (bits 16..31)
 *   S16  [NG]              word j: block 4g+j: f16 d of lo (bits 0..15), of hi (16..31)
 *   SK   [NG]              word j: block 4g+j: two bytes of lo (bits 0..15), two of hi (16..31). Q4_K
 *                          Q5_K: sc, mn. Q2_K: one for each 16 inputs: sc low nibble, mn high. Q3_K
 *                          Q6_K: likewise, signed scales (Q3_K: the 6-bit scale minus 32)
 *   SD   [ceil(NSB/2)]     f16 d, f16 dmin (0 where none) of super-block 2i of lo, of hi, then of 2i+1
 *
 * Type   bit planes  q             Z    scale planes   weight (f32, in this order of operations)
 * Q4_0   P4          p4            8    S16            d * (q - Z)
 * Q4_1   P4          p4            -    S32            d * q + m
 * Q5_0   P4 P1       p4 + 16 p1    16   S16            d * (q - Z)
 * Q5_1   P4 P1       p4 + 16 p1    -    S32            d * q + m
 * Q8_0   P4 P4'      p4 + 16 p4'   128  S16            d * (q - Z)      (q = int8 + 128)
 * Q2_K   P2          p2            -    SK SD          (d*sc)*q - dmin*mn
 * Q3_K   P2 P1       p2 + 4 p1     4    SK SD          (d*sc)*(q - Z)
 * Q4_K   P4          p4            -    SK SD          (d*sc)*q - dmin*mn
 * Q5_K   P4 P1       p4 + 16 p1    -    SK SD          (d*sc)*q - dmin*mn
 * Q6_K   P4 P2       p4 + 16 p2    32   SK SD          (d*sc)*(q - Z)
 * push.plane[0], [1] are the bit planes, plane[2], [3] the scale planes (offsets in quads from the
 * start of the binding; unused ones 0). Float types have one plane, plane[0]:
 * F32        [k/4][h = lo,hi]   quad: 4 inputs
 * F16 BF16   [k/8][h]           quad: 8 inputs, two to a word, the lower one in bits 0..15
 *
 * ---- Quantised activations (q8) ------------------------------------------------------------
 * A row of k inputs takes NG * 11 quads: per group g of 128 inputs 8 quads of int8 (quad i: inputs
 * g*128 + 16i .. +15, the first in bits 0..7 of word 0), then 3 quads of f32, one word for each of the
 * 4 blocks: dx; the sum of q over the block's first 16 (a whole number); the same over its second 16.
 * dx = max|x| / 127 over the block; q = rint(x * (1/dx)), ties to even; where max|x| is at most Q8_LEAST
 * (1/dx might be infinite): dx = 0 and q = 0. Blocks past k are never read. f32 activations are rows of k
 * floats, k/4 quads.
 *
 * ---- The order of a matrix's outputs -----------------------------------------------------------------
 * Which output is where among the blocks, so that a lane's share suits the epilogue:
 *   ORDER_QUADS   lane r of blocks 2p, 2p+1 has outputs 32p + 4r .. +3: lo, hi of 2p, then of 2p+1
 *   ORDER_GLU     gate in lo, up in hi: lane r of block 4p + i has pair 32p + 4r + i
 *   ORDER_NEOX    heads of d outputs: lane r of the head's block t has pair u = 8t + r of the rotation:
 *                 lo is output u of the head, hi is u + d/2
 *   ORDER_PAIRS   likewise, lo is 2u, hi is 2u + 1 */
#ifndef HEARTH_SHADERS_PUSH_H
#define HEARTH_SHADERS_PUSH_H

#ifdef __STDC__
#include <stdint.h>
#define U32 uint32_t
#define F32 float
#else
#define U32 uint
#define F32 float
#endif

#define BLOCK_OUTPUTS 16 /* outputs of an output block */
#define BLOCK_LANES 8
#define QUADS_OUTPUT(ob, lane, h) ((ob) / 2 * 32 + (lane) * 4 + (ob) % 2 * 2 + (h))
#define QUADS_PLACE(o) (((o) / 32 * 2 + (o) / 2 % 2) * 16 + (o) % 2 * 8 + (o) % 32 / 4) /* ob*16 + h*8 + lane */
#define GLU_PAIR(ob, lane) ((ob) / 4 * 32 + (lane) * 4 + (ob) % 4)
#define LANE_STEP 16 /* quads between a lane's quads */
#define LANE_QUAD(ob, n, i, lane) ((((ob) / 2 * (n) + (i)) * 2 + (ob) % 2) * BLOCK_LANES + (lane))
#define Q8_GROUP_QUADS 11
#define Q8_LEAST 1e-30
#define MAX_STEP_ROWS 128
#define KV_PAGE_TOKENS 32

/* ---- The step buffer (u32 words), written by the host before each step ------------------------ */
#define STEP_N_ROWS 0 /* rows of this step */
#define STEP_N_OUT 1  /* rows whose logits are wanted */
#define STEP_OUT 16   /* [MAX_STEP_ROWS] row index of each wanted row */
#define STEP_ROWS (STEP_OUT + MAX_STEP_ROWS)
#define STEP_ROW_WORDS 8 /* a row: */
#define ROW_TOKEN 0
#define ROW_POS 1   /* position in its timeline; it sees the KV of positions 0..pos */
#define ROW_PAGES 2 /* index in the page table of its session's first page */
#define STEP_WORDS (STEP_ROWS + MAX_STEP_ROWS * STEP_ROW_WORDS)

/* ---- Specialisation constants: the same id means the same thing in every kernel ---------------- */
#define SPEC_LOCAL 0    /* workgroup size */
#define SPEC_COLS 1     /* matmul: rows in a tile */
#define SPEC_BLOCKS 2   /* matmul: output blocks that a lane accumulates */
#define SPEC_MODE 3     /* kernel-specific flags */
#define SPEC_SUBGROUP 4 /* subgroup size that the device reports */
#define SPEC_KPARTS 5   /* matmul: lanes that share one output pair (GPU); attention: kv_dim / 8 */
#define SPEC_PASSES 6   /* matmul: how often a workgroup repeats itself with the next blocks */
#define SPEC_TAIL 7     /* matmul of q8 rows: blocks of 32 inputs after the last whole group of 128 */
#define N_SPEC 8

/* matmul: what becomes of the products (SPEC_MODE) */
#define EPI_STORE 0 /* y[row][o] = v */
#define EPI_ADD 1   /* y[row][o] += v */
#define EPI_GLU 2   /* pair (gate, up): y[row][pair] = act(gate) * up */
#define EPI_ACT 3   /* y[row][o] = act(v) */
#define EPI_HEADS 4 /* q heads to y, rotated and scaled; k (rotated) and v heads to their pages */
#define EPI_MASK 7
#define EPI_SILU 0 /* bits 3..4: activation */
#define EPI_GELU 8 /* tanh form */
#define EPI_GELU_ERF 16
#define EPI_ACT_MASK 24
#define MM_BIAS 32      /* v += bias[o] before anything else (GLU: gate's and up's); in packed order */
#define MM_SOFTCAP 64   /* v = cap * tanh(v / cap), last */
#define MM_GATHERED 128 /* STEP_N_OUT rows instead of STEP_N_ROWS */
#define MM_RMS 256      /* v /= sqrt(sum of the row's partials / rms_n + eps), before the bias */
/* EPI_ADD: what follows is a norm, then a matmul: besides y, its input y[row][o] * g[o] is written (all of
 * RMSNorm but the row's scale, which MM_RMS applies later), and the sum of y^2 over the outputs of a
 * block, partials[row][ob]; where L < 8 lanes of a block are in a workgroup, over those of each: partials
 * [row][ob * 8/L + which]. EPI_GLU with MM_NEXT_Q8: the result goes there and not to y. */
#define MM_NEXT_F32 512
#define MM_NEXT_Q8 1024
#define MM_KV_F32 2048 /* EPI_HEADS: pages are f32, not f16 */
#define MM_NEOX 4096   /* EPI_HEADS: ORDER_NEOX, else ORDER_PAIRS; v heads are in ORDER_PAIRS always */

/* norm (SPEC_MODE) */
#define NM_RMS 1     /* x / sqrt(mean(x^2) + eps) * w */
#define NM_LAYER 2   /* (x - mean) / sqrt(var + eps) * w; neither: x itself, no w */
#define NM_TO_F32 4  /* y[row][i] = v */
#define NM_TO_Q8 8   /* q8 row */
#define NM_ADD 16    /* y[row][i] += v */
#define NM_GATHER 32 /* input row is STEP_OUT[row]; there are STEP_N_OUT rows */
#define NM_BIAS 64   /* w is followed by n biases, added after w */

/* rope, attention: KV element type (SPEC_MODE bits 0..1) */
#define KVT_F16 0
#define KVT_F32 1
#define KVT_Q8 2
#define KVT_MASK 3
#define ROPE_NEOX 4   /* pairs (i, i + n_rot/2); else (2i, 2i+1) */
#define ROPE_QKNORM 8 /* RMS norm of each q and k head before rotation, weights in `norms` */
#define ATTN_SOFTCAP 4 /* scores = cap * tanh(score / cap) */

/* ---- Push-constant blocks (at most 124 bytes; program constants only) --------------------------
 * PUSH_x is the member list, for C structs and GLSL blocks alike. The last word of the 128 that every
 * device has says which share of a launch this is (gpu_launch): bits 0..15 are added to the x of a workgroup's
 * id; its y is multiplied with 1 + bits 24..31, then bits 16..23 are added (GROUP_X, GROUP_Y). */
#define PUSH_SHARE 124

/* embed: x[row] = scale * W[token[row]]. Group x = 32-input block / SPEC_LOCAL, y = row; one lane
 * does one block. */
#define PUSH_EMBED                                                                                 \
    U32 plane0, plane1, plane2, plane3; /* quads */                                                \
    U32 n_kb;                           /* blocks of 32 in a row */                                \
    U32 first, m;                       /* tokens first..first+m-1 are in this slice */            \
    U32 x_stride;                       /* floats between rows of x */                             \
    F32 scale;

/* norm: one workgroup a row (group x = row) */
#define PUSH_NORM                                                                                  \
    U32 n;        /* elements of a row: a multiple of 32 */                                        \
    U32 x_stride; /* floats between rows of x */                                                   \
    U32 y_stride; /* floats between rows of y */                                                   \
    U32 q_stride; /* quads between rows of the q8 output */                                        \
    F32 eps;                                                                                       \
    F32 scale; /* the result is multiplied with it */                                              \
    U32 n_row; /* elements that mean and variance are of; what lies behind them in the row is zero */

/* matmul: v[row][o] = mult * sum_k W[o][k] x[row][k], then the epilogue. Group x = output blocks /
 * those of a workgroup, y = tile of SPEC_COLS rows. With SPEC_KPARTS > 1 a workgroup is SPEC_KPARTS *
 * L lanes and does L of a block's 8 lanes (8, 4 or 2; with texel loads always 8): x = n_ob * 8 / L.
 * The order of outputs is ORDER_QUADS, for EPI_GLU ORDER_GLU, for EPI_HEADS as there. q8 outputs want a
 * subgroup of at least 8 lanes, and a workgroup that does whole blocks of 32: SPEC_BLOCKS 2 and for EPI_GLU
 * SPEC_PASSES 2. EPI_HEADS: head_dim is a multiple of 32 and wholly rotated; K and V pages as below. */
#define PUSH_MATMUL                                                                                \
    U32 plane0, plane1, plane2, plane3; /* quads */                                                \
    U32 n_kb;                           /* blocks of 32 inputs */                                  \
    U32 n_ob;                           /* output blocks of this slice of the matrix */            \
    U32 first;                          /* o of the slice's first output, in y and bias */         \
    U32 m;                              /* o < m is written; the rest is padding */                \
    U32 x_stride;                       /* quads between rows of x */                              \
    U32 y_stride;                       /* floats between rows of y */                             \
    F32 mult;                                                                                      \
    F32 softcap;                                                                                   \
    U32 rms_n, rms_parts;               /* MM_RMS: elements of a row, its partials */              \
    F32 eps;                                                                                       \
    U32 part_stride;                    /* quads between rows of partials, read or written */      \
    U32 next_stride;                    /* quads between rows of the q8 written */                 \
    U32 n_head, n_kv, head_dim, kv_dim; /* EPI_HEADS: see rope */                                  \
    F32 q_scale;

/* rope: reads qkv[row] = q heads, k heads, v heads (f32); writes q (normed, rotated, scaled) and the K
 * and V pages. One workgroup does one head of one row: group x = 0..n_head+2*n_kv-1, y = row.
 * table: [pos][n_rot/2] of (cos, sin) f32. norms: f32 [2][head_dim], of q and of k. */
#define PUSH_ROPE                                                                                  \
    U32 n_head, n_kv;                                                                              \
    U32 head_dim, kv_dim; /* kv_dim: head_dim padded to a multiple of 32, as in the pages */       \
    U32 n_rot;                                                                                     \
    U32 qkv_stride, q_stride; /* floats between rows; q is [row][head][kv_dim], padding zero */    \
    F32 q_scale;                                                                                   \
    F32 eps;

/* attention: out[row][head] = softmax(scores) V over the row's timeline, by online softmax; scores =
 * q . K (q is scaled already), capped with ATTN_SOFTCAP. Group x = kv head, or a
 * part of its heads (SPEC_BLOCKS at most), y = row, z = split. Split z is the tokens z*split_tokens ..; a row that needs one split only (all the tokens it
 * sees lie in one) writes `out`; else each split writes its partial, f32 [row][head][max_splits][kv_dim +
 * 2]: sum of p*V, then the maximum score, then the sum of p; attention_join makes `out` of them, in
 * ascending order of splits, and leaves one-split rows alone. */
#define PUSH_ATTENTION                                                                             \
    U32 n_head, n_kv;                                                                              \
    U32 head_dim, kv_dim;                                                                          \
    U32 q_stride;    /* floats between rows of q */                                                \
    U32 out_stride;  /* floats between rows of out: [row][head * head_dim] */                      \
    U32 window;      /* tokens that a row sees, itself included; 0: all */                         \
    U32 max_splits;                                                                                \
    U32 split_tokens; /* a multiple of KV_PAGE_TOKENS */                                           \
    F32 softcap;

/* K and V pages of a layer: [page][kv head][token in page][kv_dim] elements; q8: per (page, kv head)
 * [token][kv_dim] int8, then [token][kv_dim/32] f32 scales (d and q as in q8 rows).
 * Bytes of one (page, kv head), T = KV_PAGE_TOKENS, D = kv_dim: f16 T*D*2, f32 T*D*4, q8 T*D + T*D/8. */

/* meet: members that run the same commands wait for each other: none goes on before all have arrived.
 * One workgroup of one subgroup; then (again 1, 2) as many as the launch before left in the member's words,
 * which wait on: 0 as a rule. */
#define PUSH_MEET                                                                                  \
    U32 members, member;                                                                           \
    U32 again; /* which launch of the three; not 0: this member has arrived */
#define MEET_ARRIVED 0  /* words: how many have arrived, ever; */
#define MEET_RELEASED 1 /* not 0: nobody waits any more; */
#define MEET_MEMBERS 4  /* then of each member: groups of launch 1 (x, y, z), the goal, groups of launch 2 */
#define MEET_GOAL 3     /* how many must have arrived */
#define MEET_MEMBER_WORDS 8

#ifdef __STDC__
struct push_meet { PUSH_MEET };
struct push_embed { PUSH_EMBED };
struct push_norm { PUSH_NORM };
struct push_matmul { PUSH_MATMUL };
struct push_rope { PUSH_ROPE };
struct push_attention { PUSH_ATTENTION };
#undef U32
#undef F32
#endif

#endif
