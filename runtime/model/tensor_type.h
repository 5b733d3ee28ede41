/* Tensor types: how weights lie in a file. One row a type.
 *
 * A row of a matrix is cut into blocks of `block_len` weights, `block_bytes` each, along shape[0].
 * The layouts are ggml's public block formats; `d`, `m`, `dmin` are IEEE halves, little-endian:
 *
 *   type  len bytes  block                                          weight i
 *   Q4_0   32    18  d, qs[16]                                      d*(q-8)
 *   Q4_1   32    20  d, m, qs[16]                                   d*q + m
 *   Q5_0   32    22  d, qh[4], qs[16]                               d*(q-16)
 *   Q5_1   32    24  d, m, qh[4], qs[16]                            d*q + m
 *   Q8_0   32    34  d, qs[32] (i8)                                 d*q
 *          nibbles: qs[j] low = weight j, high = weight j+16; bit i of qh = fifth bit of weight i
 *   Q2_K  256    84  scales[16], qs[64], d, dmin                    (d*sc)*q - (dmin*mn)
 *          16 groups of 16; scales[g] low nibble sc, high mn; qs[32*h + l] bits 2j..2j+1 =
 *          weight 128*h + 32*j + l
 *   Q3_K  256   110  hmask[32], qs[64], scales[12], d               (d*(sc-32))*(q - 4*!hbit)
 *          16 groups of 16, q as in Q2_K; bit 4*h+j of hmask[l] belongs to weight 128*h+32*j+l;
 *          scale g: low nibble at scales[g%8]>>4*(g/8), high two at scales[8+g%4]>>2*(g/4)
 *   Q4_K  256   144  d, dmin, scales[12], qs[128]                   (d*sc)*q - (dmin*mn)
 *   Q5_K  256   176  d, dmin, scales[12], qh[32], qs[128]           the same, fifth bit from qh
 *          8 groups of 32; group g < 4: sc = scales[g] & 63, mn = scales[4+g] & 63; g >= 4: sc =
 *          scales[4+g] & 15 | scales[g-4]>>6<<4, mn = scales[4+g]>>4 | scales[g]>>6<<4;
 *          qs[32*c + l] low nibble = weight 64*c + l, high = 64*c + 32 + l; bit g of qh[l]
 *   Q6_K  256   210  ql[128], qh[64], scales[16] (i8), d            (d*sc)*(q-32)
 *          16 groups of 16; half h, l < 32: weight 128*h + 32*j + l has its low nibble in
 *          ql[64*h + 32*(j&1) + l] (high half of the byte for j >= 2), high two bits in
 *          qh[32*h + l] >> 2*j
 *
 * The decoders here are the reference: float32, in exactly this order of evaluation, bit for bit
 * what `gguf.quants.dequantize` of the gguf package gives (the payload of a NaN excepted).
 * Rows without a decoder are there so that a refusal can name what it refuses.
 * Thread: any; constant data. */
#ifndef HEARTH_MODEL_TENSOR_TYPE_H
#define HEARTH_MODEL_TENSOR_TYPE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/str.h"

/* Ids as in files, of the types that we run. */
enum tensor_type_id {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q2_K = 10,
    TENSOR_Q3_K = 11,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_BF16 = 30,
};

struct tensor_type {
    uint32_t id;
    const char *name;                 /* "Q4_K" */
    uint32_t block_len, block_bytes;  /* 0: no longer defined by the format */
    /* blocks: n_blocks * block_bytes bytes, any alignment; out: n_blocks * block_len floats.
     * NULL: a type that we do not run. */
    void (*decode)(const void *blocks, size_t n_blocks, float *out);
};

size_t tensor_type_count(void);
const struct tensor_type *tensor_type_at(size_t i);
const struct tensor_type *tensor_type_find(uint32_t id);       /* NULL: no such row */
const struct tensor_type *tensor_type_named(struct str name);  /* NULL; ASCII case-insensitive */

/* The name of a whole file's mix of types (key general.file_type): "Q4_K_M", or NULL. */
const char *file_type_name(uint32_t file_type);

/* Exact: every half is a float. */
float half_to_float(uint16_t h);

#endif
