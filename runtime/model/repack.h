/* Weights as the device wants them: GGUF blocks into the planes of shaders/push.h (quads of 16 bytes,
 * scales apart, outputs in blocks of 16). Nothing is rounded: unpacking gives the decoder's floats.
 *
 * A loader calls repack_layout once for a matrix (or a slice of one), then repack_blocks for runs of
 * output blocks in any order, so that it needs no more memory than the rows of one run.
 * Little-endian hosts. Thread: any; nothing is kept, nothing is allocated. */
#ifndef HEARTH_MODEL_REPACK_H
#define HEARTH_MODEL_REPACK_H

#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/model/tensor_type.h"
#include "shaders/push.h"

#define REPACK_NONE UINT32_MAX /* in a permutation: an output that is zero */

struct repack_layout {
    uint32_t plane[4]; /* offsets in quads, as push.plane0..3; unused ones 0 */
    uint64_t bytes;    /* of all planes: a multiple of 16 */
    uint32_t k;        /* inputs */
    uint32_t n_ob;     /* output blocks */
};

/* The layout of m outputs (padded to whole pairs of blocks of 16) of k inputs each.
 * ERR_UNSUPPORTED: a type that we do not run (`type` may be NULL), or a k that is not a multiple of 32
 * (K types: of 256). ERR_TOO_LARGE: an offset does not fit 32 bits. */
enum err_code repack_layout(const struct tensor_type *type, uint32_t k, uint32_t m,
                            struct repack_layout *out, struct err *e);

/* push.h, "The order of a matrix's outputs": which output stands at a packed place, block * 16 + h * 8 +
 * lane. ORDER_GLU: the gate of pair j counts as output 2j, its up as 2j + 1. head_dim is of the last two. */
enum repack_order { ORDER_QUADS, ORDER_GLU, ORDER_NEOX, ORDER_PAIRS };
uint32_t repack_output(enum repack_order order, uint32_t head_dim, uint32_t place);

/* Writes output blocks first_ob .. first_ob + n_ob - 1.
 * src: rows of l->k weights in blocks of `type`, any alignment. perm: [n_ob * 16], packed output (from
 * first_ob on) -> row of src, or REPACK_NONE. dst: start of the whole layout's bytes, aligned to 16;
 * every byte of these output blocks is written once and none is read, as mapped device memory likes. */
void repack_blocks(const struct tensor_type *type, const struct repack_layout *l, const void *src,
                   const uint32_t *perm, uint32_t first_ob, uint32_t n_ob, void *dst);

/* The k weights of packed output `output` (0 .. n_ob * 16 - 1): bit for bit what the type's decoder
 * gives for the row that went there. Slow; the C twins have a decoder of their own, which the tests
 * hold against this one. */
void repack_unpack(const struct tensor_type *type, const struct repack_layout *l, const void *planes,
                   uint32_t output, float *out);

#endif
