/* Repacked weights, read as shaders/push.h writes them down. */
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"

enum scales { S_NONE, S32, S16, SK_MIN, SK_NIBBLES, SK_SIGNED }; /* SK_SIGNED: Q3_K, Q6_K */

struct planes_type {
    enum kernel embed, matmul_f, matmul_q8; /* KERNEL_COUNT: none */
    uint8_t bits_a, bits_b, shift_b;        /* float types: bits_a is that of a weight, 16 or 32 */
    uint8_t zero;
    enum scales scales;
};

#define KERNELS(t) KERNEL_embed_##t, KERNEL_matmul_##t##_f
static const struct planes_type types[] = {
    { KERNELS(f32), KERNEL_COUNT, 32, 0, 0, 0, S_NONE },
    { KERNELS(f16), KERNEL_COUNT, 16, 0, 0, 0, S_NONE },
    { KERNELS(bf16), KERNEL_COUNT, 16, 0, 0, 0, S_NONE },
    { KERNELS(q4_0), KERNEL_matmul_q4_0, 4, 0, 0, 8, S16 },
    { KERNELS(q4_1), KERNEL_matmul_q4_1, 4, 0, 0, 0, S32 },
    { KERNELS(q5_0), KERNEL_matmul_q5_0, 4, 1, 4, 16, S16 },
    { KERNELS(q5_1), KERNEL_matmul_q5_1, 4, 1, 4, 0, S32 },
    { KERNELS(q8_0), KERNEL_matmul_q8_0, 4, 4, 4, 128, S16 },
    { KERNELS(q2_k), KERNEL_matmul_q2_k, 2, 0, 0, 0, SK_NIBBLES },
    { KERNELS(q3_k), KERNEL_matmul_q3_k, 2, 1, 2, 4, SK_SIGNED },
    { KERNELS(q4_k), KERNEL_matmul_q4_k, 4, 0, 0, 0, SK_MIN },
    { KERNELS(q5_k), KERNEL_matmul_q5_k, 4, 1, 4, 0, SK_MIN },
    { KERNELS(q6_k), KERNEL_matmul_q6_k, 4, 2, 4, 32, SK_SIGNED },
};

struct planes planes_of(enum kernel k, const void *words, const uint32_t plane[4], uint32_t n_kb,
                        bool *x_q8)
{
    struct planes p = { .words = words, .n_kb = n_kb };
    memcpy(p.plane, plane, sizeof p.plane);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].embed == k || types[i].matmul_f == k || types[i].matmul_q8 == k)
            p.type = &types[i];
    if (x_q8)
        *x_q8 = p.type->matmul_q8 == k;
    return p;
}

/* Where an output is: its block, its lane in it, and 0 lo or 1 hi. */
struct place {
    uint64_t ob;
    uint32_t lane, h;
};

/* The four words of quad i of a lane, which has `n` in the plane. */
static const uint32_t *quad(const struct planes *p, int plane, const struct place *at, uint64_t n,
                            uint64_t i)
{
    return p->words + 4 * (p->plane[plane] + LANE_QUAD(at->ob, n, i, at->lane));
}

/* The same where lo and hi have quads of their own. */
static const uint32_t *half_quad(const struct planes *p, int plane, const struct place *at, uint64_t n,
                                 uint64_t i)
{
    return quad(p, plane, at, 2 * n, 2 * i + at->h);
}

/* q[i] += field i << shift; `bits` is a constant where this is called, so that the loops become vectors. */
static inline void add_fields(const uint32_t *words, uint32_t bits, uint32_t h, uint32_t shift, int32_t q[32])
{
    uint32_t each = 16 / bits, mask = (1u << bits) - 1;
    for (uint32_t w = 0; w < 2 * bits; w++)
        for (uint32_t t = 0; t < each; t++)
            q[w * each + t] += (int32_t)((words[w] >> (16 * h) >> (bits * t) & mask) << shift);
}

/* The same with block kb of a plane. */
static void add_plane(const struct planes *p, int plane, uint32_t bits, uint32_t shift,
                      const struct place *at, uint32_t kb, int32_t q[32])
{
    uint64_t n_kb = p->n_kb;
    if (bits == 4) {
        uint32_t words[8];
        memcpy(words, quad(p, plane, at, 2 * n_kb, 2 * (uint64_t)kb), 16);
        memcpy(words + 4, quad(p, plane, at, 2 * n_kb, 2 * (uint64_t)kb + 1), 16);
        add_fields(words, 4, at->h, shift, q);
    } else if (bits == 2) {
        add_fields(quad(p, plane, at, n_kb, kb), 2, at->h, shift, q);
    } else {
        add_fields(quad(p, plane, at, (n_kb + 1) / 2, kb / 2) + kb % 2 * 2, 1, at->h, shift, q);
    }
}

static float low_half(uint32_t word)
{
    return half_to_f32((uint16_t)word);
}

static float high_half(uint32_t word)
{
    return half_to_f32((uint16_t)(word >> 16));
}

/* Scale and minimum of each half of block kb: weight = scale * (q - Z) + min. */
static void scales_of(const struct planes *p, const struct place *at, uint32_t kb, float scale[2],
                      float min[2])
{
    uint32_t n_kb = p->n_kb, n_sb = n_kb / 8, sb = kb / 8, word;
    min[0] = min[1] = 0;
    if (p->type->scales == S32) {
        word = half_quad(p, 2, at, (n_kb + 3) / 4, kb / 4)[kb % 4];
        scale[0] = scale[1] = low_half(word);
        min[0] = min[1] = high_half(word);
        return;
    }
    word = quad(p, 2, at, (n_kb + 3) / 4, kb / 4)[kb % 4] >> (16 * at->h);
    if (p->type->scales == S16) {
        scale[0] = scale[1] = low_half(word);
        return;
    }
    uint32_t dd = quad(p, 3, at, (n_sb + 1) / 2, sb / 2)[sb % 2 * 2 + at->h];
    float d = low_half(dd), dmin = high_half(dd);
    const uint8_t two[2] = { (uint8_t)word, (uint8_t)(word >> 8) };
    for (int part = 0; part < 2; part++) {
        if (p->type->scales == SK_SIGNED) {
            scale[part] = d * (float)(int8_t)two[part];
        } else if (p->type->scales == SK_NIBBLES) {
            scale[part] = d * (float)(two[part] & 15);
            min[part] = -(dmin * (float)(two[part] >> 4));
        } else {
            scale[part] = d * (float)two[0];
            min[part] = -(dmin * (float)two[1]);
        }
    }
}

static void decode_floats(const struct planes *p, const struct place *at, uint32_t kb, float out[32])
{
    uint32_t each = 128 / p->type->bits_a, n = 32 / each; /* weights of a quad, quads of a block */
    for (uint32_t i = 0; i < n; i++, out += each) {
        const uint32_t *w = half_quad(p, 0, at, (uint64_t)p->n_kb * n, (uint64_t)kb * n + i);
        const uint16_t *h = (const uint16_t *)(const void *)w;
        for (uint32_t t = 0; t < each; t++) {
            uint32_t bits = each == 4 ? w[t] : (uint32_t)h[t] << 16;
            if (p->type->embed == KERNEL_embed_f16)
                out[t] = half_to_f32(h[t]);
            else
                memcpy(out + t, &bits, sizeof bits);
        }
    }
}

void planes_decode(const struct planes *p, uint32_t place, uint32_t kb, float out[32])
{
    const struct planes_type *t = p->type;
    struct place at = { place / BLOCK_OUTPUTS, place % BLOCK_LANES, place / BLOCK_LANES % 2 };
    if (t->scales == S_NONE) {
        decode_floats(p, &at, kb, out);
        return;
    }
    int32_t q[32] = { 0 };
    float scale[2], min[2];
    add_plane(p, 0, t->bits_a, 0, &at, kb, q);
    if (t->bits_b)
        add_plane(p, 1, t->bits_b, t->shift_b, &at, kb, q);
    scales_of(p, &at, kb, scale, min);
    bool has_min = t->zero == 0; /* without one, adding 0 would make 0 of -0 */
    for (int i = 0; i < 32; i++) {
        out[i] = scale[i / 16] * (float)(q[i] - t->zero);
        if (has_min)
            out[i] += min[i / 16];
    }
}
