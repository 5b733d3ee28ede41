/* What the twins share: numbers, the q8 rows and KV pages of shaders/push.h, and repacked weights.
 *
 * This room may not look into runtime/model, so planes.c reads the planes of push.h by itself;
 * tests/check_kernels holds it against runtime/model/repack.h, bit for bit. Hosts are little-endian. */
#ifndef HEARTH_GPU_REF_PRIV_H
#define HEARTH_GPU_REF_PRIV_H

#include <stdbool.h>

#include "runtime/gpu/ref/ref.h"

#define REF_MAX_HEAD 512 /* kv_dim that rope and attention take, as in the shaders */

/* ---- numbers --------------------------------------------------------------------------------- */

float half_to_f32(uint16_t h); /* exact */
uint16_t f32_to_half(float f); /* to nearest, ties to even; over the largest half: infinity */

/* A word of the step buffer's row. */
static inline uint32_t step_row(const struct ref_call *c, uint32_t row, uint32_t word)
{
    return ((const uint32_t *)c->at[0])[STEP_ROWS + row * STEP_ROW_WORDS + word];
}

static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ---- q8 ---------------------------------------------------------------------------------------- */

/* 32 floats -> int8 and the scale d = max|x| / 127. */
float q8_quantise(const float *x, int8_t q[32]);
/* Writes block kb of the q8 row that begins at `row`. */
void q8_put_block(uint32_t *row, uint32_t kb, const float *x);
/* Blocks kb .. kb + n - 1 of the row, as q * dx. */
void q8_get(const uint32_t *row, uint32_t kb, uint32_t n, double *out);

/* ---- KV pages ---------------------------------------------------------------------------------- */

struct kv_slot {    /* one (page, kv head) */
    uint8_t *at;
    uint32_t kvt;    /* KVT_* */
    uint32_t kv_dim;
};
struct kv_slot kv_slot(void *pages, uint32_t page, uint32_t n_kv, uint32_t kv_head, uint32_t kvt,
                       uint32_t kv_dim);
void kv_put(struct kv_slot s, uint32_t token, const float *x); /* kv_dim floats */
void kv_get(struct kv_slot s, uint32_t token, float *x);

/* ---- repacked weights ---------------------------------------------------------------------------- */

struct planes {
    const uint32_t *words; /* the binding */
    uint32_t plane[4];     /* quads */
    uint32_t n_kb;         /* blocks of 32 in a row */
    const struct planes_type *type;
};
/* The weights of an embed or matmul kernel; x_q8 (may be NULL): that kernel's x is q8. */
struct planes planes_of(enum kernel k, const void *words, const uint32_t plane[4], uint32_t n_kb,
                        bool *x_q8);
/* The 32 weights of block kb of the output at a packed place (block * 16 + h * 8 + lane): the type's floats,
 * bit for bit. */
void planes_decode(const struct planes *p, uint32_t place, uint32_t kb, float out[32]);

/* ---- the twins -------------------------------------------------------------------------------------- */

ref_kernel ref_embed, ref_norm, ref_matmul, ref_rope, ref_attention, ref_attention_join;

#endif
