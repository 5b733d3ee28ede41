/* Floats into tensor types: the other direction of tensor_type.h's decoders. One row a type.
 *
 * F16, BF16, Q8_0, Q4_0, Q5_0 and Q5_1 are fixed by the format's reference, and come out bit for bit
 * as `gguf.quants.quantize` of the gguf package gives them. The K types leave the choice of scales
 * to whoever writes them; encode_k.c says how ours are found.
 *
 * x: finite, and none beyond max_abs in magnitude; else the output is some block without meaning.
 * Thread: any; constant data. */
#ifndef HEARTH_MODEL_ENCODE_H
#define HEARTH_MODEL_ENCODE_H

#include <stddef.h>
#include <stdint.h>

struct tensor_encoder {
    uint32_t id;   /* enum tensor_type_id */
    float max_abs; /* the largest weight that every block of this type can hold */
    /* x: n_blocks * block_len floats; blocks: n_blocks * block_bytes, any alignment. */
    void (*encode)(const float *x, size_t n_blocks, void *blocks);
};
const struct tensor_encoder *tensor_encoder_find(uint32_t id); /* NULL: no such row */

uint16_t float_to_half(float f); /* to nearest, ties to even; 65520 and beyond: infinity */

/* encode_k.c */
void encode_q4_k(const float *x, size_t n_blocks, void *blocks);
void encode_q5_k(const float *x, size_t n_blocks, void *blocks);
void encode_q6_k(const float *x, size_t n_blocks, void *blocks);

#endif
