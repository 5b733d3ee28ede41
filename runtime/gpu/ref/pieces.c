/* Numbers, q8 rows and KV pages. */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"

static float f32_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Without branches, so that loops over it become vectors. 2^112 moves the exponent's bias from 15 to
 * 127, and makes subnormal halves normal. */
float half_to_f32(uint16_t h)
{
    uint32_t magnitude = (h & 0x7FFFu) << 13, sign = (h & 0x8000u) << 16;
    uint32_t special = (h & 0x7C00) == 0x7C00 ? 0x7F800000 : 0;
    uint32_t bits;
    float f = f32_of(magnitude) * 0x1p112f;
    memcpy(&bits, &f, sizeof bits);
    return f32_of(special ? sign | special | magnitude : sign | bits);
}

uint16_t f32_to_half(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    float size = fabsf(f);
    if (isnan(f))
        return sign | 0x7E00;
    if (size < 0x1p-14f) /* subnormal: a whole number of 2^-24, which rounds up into the normal ones */
        return sign | (uint16_t)rintf(size * 0x1p24f);
    if (size >= 65520.0f) /* half a step over 65504 */
        return sign | 0x7C00;
    bits &= 0x7FFFFFFF;
    bits += 0xFFF + (bits >> 13 & 1); /* ties to even */
    return sign | (uint16_t)((bits >> 13) - (112u << 10));
}

/* ---- q8 ---------------------------------------------------------------------------------------- */

float q8_quantise(const float *x, int8_t q[32])
{
    float top = 0;
    for (int i = 0; i < 32; i++)
        top = fmaxf(top, fabsf(x[i]));
    if (!(top > (float)Q8_LEAST)) {
        memset(q, 0, 32);
        return 0;
    }
    float inv = 127.0f / top;
    for (int i = 0; i < 32; i++)
        q[i] = (int8_t)rintf(x[i] * inv);
    return top / 127.0f;
}

/* The group of 128 inputs that block kb lies in. */
static uint32_t *group_of(const uint32_t *row, uint32_t kb)
{
    return (uint32_t *)(uintptr_t)(row + (size_t)(kb / 4) * Q8_GROUP_QUADS * 4);
}

void q8_put_block(uint32_t *row, uint32_t kb, const float *x)
{
    uint32_t *group = group_of(row, kb), j = kb % 4;
    int8_t q[32];
    float dx = q8_quantise(x, q), sum[2] = { 0, 0 };
    for (int i = 0; i < 32; i++)
        sum[i / 16] += (float)q[i];
    memcpy(group + 8 * j, q, sizeof q);
    memcpy(group + 32 + j, &dx, sizeof dx);
    memcpy(group + 36 + j, &sum[0], sizeof sum[0]);
    memcpy(group + 40 + j, &sum[1], sizeof sum[1]);
}

void q8_get(const uint32_t *row, uint32_t kb, uint32_t n, double *out)
{
    for (uint32_t end = kb + n; kb < end; kb++, out += 32) {
        const uint32_t *group = group_of(row, kb);
        const int8_t *q = (const int8_t *)(group + kb % 4 * 8);
        double dx = (double)f32_of(group[32 + kb % 4]);
        for (int i = 0; i < 32; i++)
            out[i] = dx * q[i];
    }
}

/* ---- KV pages ---------------------------------------------------------------------------------- */

struct kv_slot kv_slot(void *pages, uint32_t page, uint32_t n_kv, uint32_t kv_head, uint32_t kvt,
                       uint32_t kv_dim)
{
    static const uint8_t eighths[] = { [KVT_F16] = 16, [KVT_F32] = 32, [KVT_Q8] = 9 };
    size_t bytes = (size_t)KV_PAGE_TOKENS * kv_dim / 8 * eighths[kvt];
    size_t index = (size_t)page * n_kv + kv_head;
    return (struct kv_slot){ (uint8_t *)pages + index * bytes, kvt, kv_dim };
}

/* Scales of a token in a q8 slot. */
static float *kv_scales(struct kv_slot s, uint32_t token)
{
    void *scales = s.at + (size_t)KV_PAGE_TOKENS * s.kv_dim;
    return (float *)scales + (size_t)token * (s.kv_dim / 32);
}

void kv_put(struct kv_slot s, uint32_t token, const float *x)
{
    size_t first = (size_t)token * s.kv_dim;
    if (s.kvt == KVT_F16) {
        uint16_t *to = (uint16_t *)(void *)s.at + first;
        for (uint32_t i = 0; i < s.kv_dim; i++)
            to[i] = f32_to_half(x[i]);
    } else if (s.kvt == KVT_F32) {
        memcpy((float *)(void *)s.at + first, x, s.kv_dim * sizeof *x);
    } else {
        for (uint32_t b = 0; b < s.kv_dim / 32; b++)
            kv_scales(s, token)[b] = q8_quantise(x + 32 * b, (int8_t *)s.at + first + 32 * b);
    }
}

void kv_get(struct kv_slot s, uint32_t token, float *x)
{
    size_t first = (size_t)token * s.kv_dim;
    if (s.kvt == KVT_F16) {
        const uint16_t *from = (const uint16_t *)(const void *)s.at + first;
        for (uint32_t i = 0; i < s.kv_dim; i++)
            x[i] = half_to_f32(from[i]);
    } else if (s.kvt == KVT_F32) {
        memcpy(x, (const float *)(const void *)s.at + first, s.kv_dim * sizeof *x);
    } else {
        for (uint32_t i = 0; i < s.kv_dim; i++)
            x[i] = (float)((const int8_t *)s.at)[first + i] * kv_scales(s, token)[i / 32];
    }
}
