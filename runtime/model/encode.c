#include "runtime/model/encode.h"

#include <math.h>
#include <string.h>

#include "runtime/model/tensor_type.h"

/* ---- pieces ------------------------------------------------------------------------------- */

uint16_t float_to_half(float f)
{
    uint32_t bits, sign, a;
    memcpy(&bits, &f, sizeof bits);
    sign = bits >> 16 & 0x8000;
    a = bits & 0x7FFFFFFF;
    if (a > 0x7F800000)
        return (uint16_t)(sign | 0x7E00);
    if (a >= 0x47800000) /* 65536 */
        return (uint16_t)(sign | 0x7C00);
    if (a < 0x38800000) { /* 2^-14: beside 0.5 the last bit of a float is worth 2^-24, as here */
        float half = fabsf(f) + 0.5f;
        memcpy(&bits, &half, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3F000000));
    }
    a += 0xFFF + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000) >> 13);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* 1/d, and 0 where there is none: such a block is all zeros, or too small for its scale. */
static float inverse(float d)
{
    float i = d != 0 ? 1 / d : 0;
    return isfinite(i) ? i : 0;
}

static float signed_largest(const float *x)
{
    float largest = x[0];
    for (int i = 1; i < 32; i++)
        if (fabsf(x[i]) > fabsf(largest))
            largest = x[i];
    return largest;
}

static unsigned at_most(float v, unsigned top)
{
    unsigned q = v > 0 ? (unsigned)v : 0;
    return q < top ? q : top;
}

/* ---- blocks of one weight ------------------------------------------------------------------- */

static void encode_f32(const float *x, size_t n_blocks, void *blocks)
{
    memcpy(blocks, x, n_blocks * sizeof *x);
}

static void encode_f16(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++)
        put16(b + 2 * i, float_to_half(x[i]));
}

static void encode_bf16(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        if ((bits & 0x7FFFFFFF) > 0x7F800000)
            bits |= 0x400000; /* a NaN stays one */
        else
            bits += 0x7FFF + (bits >> 16 & 1);
        put16(b + 2 * i, (uint16_t)(bits >> 16));
    }
}

/* ---- blocks of 32 --------------------------------------------------------------------------- */

static void encode_q8_0(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 34, x += 32) {
        float d = fabsf(signed_largest(x)) / 127, inv = inverse(d);
        put16(b, float_to_half(d));
        for (int i = 0; i < 32; i++)
            b[2 + i] = (uint8_t)(int8_t)roundf(x[i] * inv);
    }
}

static void encode_q4_0(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 18, x += 32) {
        float d = signed_largest(x) / -8, inv = inverse(d);
        put16(b, float_to_half(d));
        for (int j = 0; j < 16; j++)
            b[2 + j] = (uint8_t)(at_most(x[j] * inv + 8.5f, 15) |
                                 at_most(x[j + 16] * inv + 8.5f, 15) << 4);
    }
}

/* Quants of five bits as Q5_0 and Q5_1 keep them: qh[4], qs[16]. */
static void put_five_bits(const unsigned q[32], uint8_t *p)
{
    memset(p, 0, 4);
    for (int i = 0; i < 32; i++)
        p[i / 8] = (uint8_t)(p[i / 8] | (q[i] >> 4) << (i % 8));
    for (int j = 0; j < 16; j++)
        p[4 + j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void encode_q5_0(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 22, x += 32) {
        unsigned q[32];
        float d = signed_largest(x) / -16, inv = inverse(d);
        put16(b, float_to_half(d));
        for (int i = 0; i < 32; i++)
            q[i] = at_most(x[i] * inv + 16.5f, 31);
        put_five_bits(q, b + 2);
    }
}

static void encode_q5_1(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 24, x += 32) {
        unsigned q[32];
        float low = x[0], high = x[0];
        for (int i = 1; i < 32; i++) {
            low = x[i] < low ? x[i] : low;
            high = x[i] > high ? x[i] : high;
        }
        float d = (high - low) / 31, inv = inverse(d);
        put16(b, float_to_half(d));
        put16(b + 2, float_to_half(low));
        for (int i = 0; i < 32; i++)
            q[i] = at_most((x[i] - low) * inv + 0.5f, 31);
        put_five_bits(q, b + 4);
    }
}

/* ---- the table -------------------------------------------------------------------------------- */

#define HALF_MAX 65504.0f
#define FLOAT_MAX 0x1.fffffep+127f
#define BF16_MAX 0x1.fep+127f

static const struct tensor_encoder encoders[] = {
    { TENSOR_F32, FLOAT_MAX, encode_f32 }, { TENSOR_F16, HALF_MAX, encode_f16 },
    { TENSOR_BF16, BF16_MAX, encode_bf16 }, { TENSOR_Q8_0, HALF_MAX, encode_q8_0 },
    { TENSOR_Q4_0, HALF_MAX, encode_q4_0 }, { TENSOR_Q5_0, HALF_MAX, encode_q5_0 },
    { TENSOR_Q5_1, HALF_MAX, encode_q5_1 }, { TENSOR_Q4_K, HALF_MAX, encode_q4_k },
    { TENSOR_Q5_K, HALF_MAX, encode_q5_k }, { TENSOR_Q6_K, HALF_MAX, encode_q6_k },
};

const struct tensor_encoder *tensor_encoder_find(uint32_t id)
{
    for (size_t i = 0; i < sizeof encoders / sizeof encoders[0]; i++)
        if (encoders[i].id == id)
            return &encoders[i];
    return NULL;
}
