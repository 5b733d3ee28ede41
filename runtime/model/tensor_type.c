#include "runtime/model/tensor_type.h"

#include <string.h>

/* ---- pieces ------------------------------------------------------------------------------- */

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1F, mantissa = h & 0x3FF;
    if (exponent == 0) { /* a zero or a subnormal: mantissa * 2^-24, normal as a float */
        float f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    exponent = exponent == 31 ? 255 : exponent + 112;
    return float_of_bits(sign | exponent << 23 | mantissa << 13);
}

static float half_at(const uint8_t *p)
{
    return half_to_float((uint16_t)(p[0] | p[1] << 8));
}

/* ---- blocks of one weight ------------------------------------------------------------------- */

static void decode_f32(const void *blocks, size_t n_blocks, float *out)
{
    memcpy(out, blocks, n_blocks * sizeof *out);
}

static void decode_f16(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++)
        out[i] = half_at(b + 2 * i);
}

static void decode_bf16(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n_blocks; i++)
        out[i] = float_of_bits((uint32_t)b[2 * i] << 16 | (uint32_t)b[2 * i + 1] << 24);
}

/* ---- blocks of 32 --------------------------------------------------------------------------- */

static void decode_q4_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 18, out += 32) {
        float d = half_at(b);
        const uint8_t *qs = b + 2;
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)((qs[j] & 15) - 8);
            out[j + 16] = d * (float)((qs[j] >> 4) - 8);
        }
    }
}

static void decode_q4_1(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 20, out += 32) {
        float d = half_at(b), m = half_at(b + 2);
        const uint8_t *qs = b + 4;
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)(qs[j] & 15) + m;
            out[j + 16] = d * (float)(qs[j] >> 4) + m;
        }
    }
}

/* Weight i of a block of Q5_0 or Q5_1: five bits, the fifth from qh. */
static int five_bits(const uint8_t *qh, const uint8_t *qs, int i)
{
    int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
    return low | (qh[i / 8] >> (i % 8) & 1) << 4;
}

static void decode_q5_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 22, out += 32) {
        float d = half_at(b);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(five_bits(b + 2, b + 6, i) - 16);
    }
}

static void decode_q5_1(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 24, out += 32) {
        float d = half_at(b), m = half_at(b + 2);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)five_bits(b + 4, b + 8, i) + m;
    }
}

static void decode_q8_0(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 34, out += 32) {
        float d = half_at(b);
        for (int i = 0; i < 32; i++)
            out[i] = d * (float)(int8_t)b[2 + i];
    }
}

/* ---- blocks of 256 -------------------------------------------------------------------------- */

/* Weight i of a block of Q2_K or Q3_K: two bits of qs[64]. */
static int two_bits(const uint8_t *qs, int i)
{
    return qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

static void decode_q2_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 84, out += 256) {
        const uint8_t *scales = b, *qs = b + 16;
        float d = half_at(b + 80), dmin = half_at(b + 82);
        for (int i = 0; i < 256; i++) {
            float scale = d * (float)(scales[i / 16] & 15);
            float min = dmin * (float)(scales[i / 16] >> 4);
            out[i] = scale * (float)two_bits(qs, i) - min;
        }
    }
}

static void decode_q3_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 110, out += 256) {
        const uint8_t *hmask = b, *qs = b + 32, *scales = b + 96;
        float d = half_at(b + 108);
        for (int i = 0; i < 256; i++) {
            int g = i / 16;
            int low = scales[g % 8] >> (g / 8 * 4) & 15, high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
            float scale = d * (float)((low | high << 4) - 32);
            int q = two_bits(qs, i) - (hmask[i % 32] >> (i / 32) & 1 ? 0 : 4);
            out[i] = scale * (float)q;
        }
    }
}

/* The six-bit scale and minimum of group g of 8, of Q4_K and Q5_K. */
static void scale_and_min(const uint8_t *scales, int g, float *scale, float *min)
{
    int sc, mn;
    if (g < 4) {
        sc = scales[g] & 63;
        mn = scales[4 + g] & 63;
    } else {
        sc = (scales[4 + g] & 15) | scales[g - 4] >> 6 << 4;
        mn = scales[4 + g] >> 4 | scales[g] >> 6 << 4;
    }
    *scale = (float)sc;
    *min = (float)mn;
}

/* Q5_K has a qh[32] with the fifth bits between scales and qs; Q4_K has none. */
static void decode_k45(const uint8_t *b, const uint8_t *qh, const uint8_t *qs, float *out)
{
    float d = half_at(b), dmin = half_at(b + 2);
    for (int g = 0; g < 8; g++) {
        float scale, min;
        scale_and_min(b + 4, g, &scale, &min);
        scale = d * scale;
        min = dmin * min;
        for (int l = 0; l < 32; l++) {
            int q = qs[g / 2 * 32 + l] >> (g % 2 * 4) & 15;
            if (qh)
                q |= (qh[l] >> g & 1) << 4;
            out[g * 32 + l] = scale * (float)q - min;
        }
    }
}

static void decode_q4_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 144, out += 256)
        decode_k45(b, NULL, b + 16, out);
}

static void decode_q5_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 176, out += 256)
        decode_k45(b, b + 16, b + 48, out);
}

static void decode_q6_k(const void *blocks, size_t n_blocks, float *out)
{
    const uint8_t *b = blocks;
    for (; n_blocks; n_blocks--, b += 210, out += 256) {
        const uint8_t *ql = b, *qh = b + 128, *scales = b + 192;
        float d = half_at(b + 208);
        for (int i = 0; i < 256; i++) {
            int h = i / 128, j = i / 32 % 4, l = i % 32;
            int low = ql[64 * h + 32 * (j & 1) + l] >> (j / 2 * 4) & 15;
            int high = qh[32 * h + l] >> (2 * j) & 3;
            float scale = d * (float)(int8_t)scales[i / 16];
            out[i] = scale * (float)((low | high << 4) - 32);
        }
    }
}

/* ---- the table ------------------------------------------------------------------------------ */

static const struct tensor_type types[] = {
    { TENSOR_F32, "F32", 1, 4, decode_f32 },
    { TENSOR_F16, "F16", 1, 2, decode_f16 },
    { TENSOR_BF16, "BF16", 1, 2, decode_bf16 },
    { TENSOR_Q4_0, "Q4_0", 32, 18, decode_q4_0 },
    { TENSOR_Q4_1, "Q4_1", 32, 20, decode_q4_1 },
    { TENSOR_Q5_0, "Q5_0", 32, 22, decode_q5_0 },
    { TENSOR_Q5_1, "Q5_1", 32, 24, decode_q5_1 },
    { TENSOR_Q8_0, "Q8_0", 32, 34, decode_q8_0 },
    { TENSOR_Q2_K, "Q2_K", 256, 84, decode_q2_k },
    { TENSOR_Q3_K, "Q3_K", 256, 110, decode_q3_k },
    { TENSOR_Q4_K, "Q4_K", 256, 144, decode_q4_k },
    { TENSOR_Q5_K, "Q5_K", 256, 176, decode_q5_k },
    { TENSOR_Q6_K, "Q6_K", 256, 210, decode_q6_k },
    /* known by name and size only */
    { 9, "Q8_1", 32, 36, NULL },
    { 15, "Q8_K", 256, 292, NULL },
    { 16, "IQ2_XXS", 256, 66, NULL },
    { 17, "IQ2_XS", 256, 74, NULL },
    { 18, "IQ3_XXS", 256, 98, NULL },
    { 19, "IQ1_S", 256, 50, NULL },
    { 20, "IQ4_NL", 32, 18, NULL },
    { 21, "IQ3_S", 256, 110, NULL },
    { 22, "IQ2_S", 256, 82, NULL },
    { 23, "IQ4_XS", 256, 136, NULL },
    { 24, "I8", 1, 1, NULL },
    { 25, "I16", 1, 2, NULL },
    { 26, "I32", 1, 4, NULL },
    { 27, "I64", 1, 8, NULL },
    { 28, "F64", 1, 8, NULL },
    { 29, "IQ1_M", 256, 56, NULL },
    { 34, "TQ1_0", 256, 54, NULL },
    { 35, "TQ2_0", 256, 66, NULL },
    { 39, "MXFP4", 32, 17, NULL },
    { 40, "NVFP4", 64, 36, NULL },
    { 41, "Q1_0", 128, 18, NULL },
    { 42, "Q2_0", 64, 18, NULL },
    /* once in the format, and taken out of it */
    { 4, "Q4_2", 0, 0, NULL },
    { 5, "Q4_3", 0, 0, NULL },
    { 31, "Q4_0_4_4", 0, 0, NULL },
    { 32, "Q4_0_4_8", 0, 0, NULL },
    { 33, "Q4_0_8_8", 0, 0, NULL },
    { 36, "IQ4_NL_4_4", 0, 0, NULL },
    { 37, "IQ4_NL_4_8", 0, 0, NULL },
    { 38, "IQ4_NL_8_8", 0, 0, NULL },
};

#define N_TYPES (sizeof types / sizeof types[0])

size_t tensor_type_count(void)
{
    return N_TYPES;
}

const struct tensor_type *tensor_type_at(size_t i)
{
    return i < N_TYPES ? &types[i] : NULL;
}

const struct tensor_type *tensor_type_find(uint32_t id)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

const struct tensor_type *tensor_type_named(struct str name)
{
    for (size_t i = 0; i < N_TYPES; i++)
        if (str_ieq(str_from(types[i].name), name))
            return &types[i];
    return NULL;
}

static const char *const file_types[] = {
    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",    [3] = "Q4_1",   [7] = "Q8_0",
    [8] = "Q5_0",     [9] = "Q5_1",     [10] = "Q2_K",   [11] = "Q3_K_S", [12] = "Q3_K_M",
    [13] = "Q3_K_L",  [14] = "Q4_K_S",  [15] = "Q4_K_M", [16] = "Q5_K_S", [17] = "Q5_K_M",
    [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS", [21] = "Q2_K_S", [22] = "IQ3_XS",
    [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL", [26] = "IQ3_S",  [27] = "IQ3_M",
    [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS", [31] = "IQ1_M",  [32] = "BF16",
    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4",  [39] = "NVFP4",  [40] = "Q1_0",
};

const char *file_type_name(uint32_t file_type)
{
    return file_type < sizeof file_types / sizeof file_types[0] ? file_types[file_type] : NULL;
}
