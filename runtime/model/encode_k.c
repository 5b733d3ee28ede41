/* The scales of Q4_K, Q5_K and Q6_K.
 *
 * Each group of a block is fitted by itself first: for a row of trial scales around range/top, the
 * weights are rounded to quants, and for these quants the best scale (and offset) is the weighted
 * least squares' solution, whose error is known from the same sums. The best of the trials is then
 * improved in turns, quants for the scale and scale for the quants, as long as the error falls. Large
 * weights count for more: by rms + |x| where there is an offset, by x^2 where there is none.
 *
 * Then the groups' scales are rounded to six bits (eight in Q6_K) of the block's half, and the quants are
 * chosen anew for the scales as a reader will have them.
 *
 * Sums run in LANES lanes side by side, so that a compiler may use vectors without being allowed to
 * change the order of additions: the bytes are the same from every compiler. */
#include "runtime/model/encode.h"

#include <math.h>
#include <string.h>

#include "runtime/model/tensor_type.h"

enum { LANES = 8, TURNS = 4 };

/* To nearest, ties to even, for |v| < 2^22. */
static inline float nearest(float v)
{
    return v + 0x1.8p23f - 0x1.8p23f;
}

static inline float within(float v, float low, float high)
{
    v = v < low ? low : v;
    return v > high ? high : v;
}

static float lanes_sum(const float s[LANES])
{
    float pairs[4] = { s[0] + s[4], s[1] + s[5], s[2] + s[6], s[3] + s[7] };
    return (pairs[0] + pairs[2]) + (pairs[1] + pairs[3]);
}

static void put_half(uint8_t *p, uint16_t h)
{
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

/* ---- groups of 32 with an offset: x = scale*q - min ------------------------------------------- */

struct affine {
    float scale, min; /* both at least 0 */
};

/* A group moved to begin at 0: u = x - low, low <= 0, and its sums over the weights w. */
struct group {
    float u[32], w[32];
    float low, range;
    float sw, su;
};

struct fit {
    float scale, offset; /* u = scale*q + offset */
    float gain;          /* how much of sum(w*u*u) it explains */
};

static void group_begin(struct group *g, const float *x)
{
    float high = x[0], squares[LANES] = { 0 }, sw[LANES] = { 0 }, su[LANES] = { 0 };
    g->low = 0;
    for (int i = 0; i < 32; i++) {
        g->low = x[i] < g->low ? x[i] : g->low;
        high = x[i] > high ? x[i] : high;
        squares[i % LANES] += x[i] * x[i];
    }
    g->range = high - g->low;
    float rms = sqrtf(lanes_sum(squares) / 32);
    for (int i = 0; i < 32; i++) {
        g->u[i] = x[i] - g->low;
        g->w[i] = rms + fabsf(x[i]);
        sw[i % LANES] += g->w[i];
        su[i % LANES] += g->w[i] * g->u[i];
    }
    g->sw = lanes_sum(sw);
    g->su = lanes_sum(su);
}

/* Rounds by `inv` and `offset`, and solves for the quants that come out. */
static struct fit group_fit(const struct group *g, float inv, float offset, float top)
{
    float q1[LANES] = { 0 }, q2[LANES] = { 0 }, qu[LANES] = { 0 };
    for (int i = 0; i < 32; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float u = g->u[i + k], w = g->w[i + k];
            float q = within(nearest((u - offset) * inv), 0, top);
            float wq = w * q;
            q1[k] += wq;
            q2[k] += wq * q;
            qu[k] += wq * u;
        }
    float sq = lanes_sum(q1), sqq = lanes_sum(q2), squ = lanes_sum(qu);
    float det = g->sw * sqq - sq * sq;
    struct fit f = { 0, 0, -1 };
    if (det > 0) {
        f.scale = (g->sw * squ - g->su * sq) / det;
        f.offset = (sqq * g->su - sq * squ) / det;
        if (f.offset + g->low > 0) { /* the format subtracts only */
            f.offset = -g->low;
            f.scale = (squ - f.offset * sq) / sqq;
        }
        f.gain = 2 * (f.scale * squ + f.offset * g->su) - f.scale * f.scale * sqq -
                 2 * f.scale * f.offset * sq - f.offset * f.offset * g->sw;
    }
    return f;
}

struct trials {
    float top, first, step; /* quants 0..top; (top + first + i*step) / range */
    int n;
};

static struct affine fit_affine(const float *x, const struct trials *t)
{
    struct group g;
    group_begin(&g, x);
    if (!(g.range > 0))
        return (struct affine){ 0, -g.low };
    struct fit best = group_fit(&g, t->top / g.range, 0, t->top);
    for (int i = 0; i < t->n; i++) {
        float inv = (t->top + t->first + t->step * (float)i) / g.range;
        struct fit f = group_fit(&g, inv, 0, t->top);
        best = f.gain > best.gain ? f : best;
    }
    for (int turn = 0; turn < TURNS && best.scale > 0; turn++) {
        struct fit f = group_fit(&g, 1 / best.scale, best.offset, t->top);
        if (!(f.gain > best.gain))
            break;
        best = f;
    }
    if (!(best.scale > 0)) /* the range is too small for floats to tell its parts */
        return (struct affine){ 0, -g.low };
    return (struct affine){ best.scale, -(best.offset + g.low) };
}

/* The block's half for the largest of n values of which each is to be half * 0..63, and those. */
static uint16_t six_bits(const float *v, int n, uint8_t *out)
{
    float largest = 0;
    for (int i = 0; i < n; i++)
        largest = v[i] > largest ? v[i] : largest;
    uint16_t half = float_to_half(largest / 63);
    float d = half_to_float(half), inv = d > 0 ? 1 / d : 0;
    for (int i = 0; i < n; i++)
        out[i] = (uint8_t)within(nearest(v[i] * inv), 0, 63);
    return half;
}

static void put_scales(const uint8_t sc[8], const uint8_t mn[8], uint8_t *p)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(sc[i] | (sc[i + 4] >> 4) << 6);
        p[i + 4] = (uint8_t)(mn[i] | (mn[i + 4] >> 4) << 6);
        p[i + 8] = (uint8_t)((sc[i + 4] & 15) | (mn[i + 4] & 15) << 4);
    }
}

/* What Q4_K and Q5_K share: d, dmin and scales[12] at p, and the quants. */
static void affine_block(const float *x, const struct trials *t, uint8_t *p, uint8_t q[256])
{
    float scales[8], mins[8];
    uint8_t sc[8], mn[8];
    for (int g = 0; g < 8; g++) {
        struct affine a = fit_affine(x + 32 * g, t);
        scales[g] = a.scale;
        mins[g] = a.min;
    }
    uint16_t d = six_bits(scales, 8, sc), dmin = six_bits(mins, 8, mn);
    put_half(p, d);
    put_half(p + 2, dmin);
    put_scales(sc, mn, p + 4);
    for (int g = 0; g < 8; g++) {
        float scale = half_to_float(d) * (float)sc[g], min = half_to_float(dmin) * (float)mn[g];
        float inv = scale > 0 ? 1 / scale : 0;
        for (int i = 32 * g; i < 32 * g + 32; i++)
            q[i] = (uint8_t)within(nearest(within((x[i] + min) * inv, -1, 64)), 0, t->top);
    }
}

void encode_q4_k(const float *x, size_t n_blocks, void *blocks)
{
    static const struct trials trials = { 15, -1, 0.1f, 21 };
    uint8_t *b = blocks, q[256];
    for (; n_blocks; n_blocks--, b += 144, x += 256) {
        affine_block(x, &trials, b, q);
        for (int i = 0; i < 128; i++)
            b[16 + i] = (uint8_t)(q[i / 32 * 64 + i % 32] | q[i / 32 * 64 + 32 + i % 32] << 4);
    }
}

void encode_q5_k(const float *x, size_t n_blocks, void *blocks)
{
    static const struct trials trials = { 31, -0.6f, 0.1f, 17 };
    uint8_t *b = blocks, q[256];
    for (; n_blocks; n_blocks--, b += 176, x += 256) {
        affine_block(x, &trials, b, q);
        memset(b + 16, 0, 32);
        for (int i = 0; i < 256; i++)
            b[16 + i % 32] = (uint8_t)(b[16 + i % 32] | (q[i] >> 4) << (i / 32));
        for (int i = 0; i < 128; i++)
            b[48 + i] = (uint8_t)((q[i / 32 * 64 + i % 32] & 15) |
                                  (q[i / 32 * 64 + 32 + i % 32] & 15) << 4);
    }
}

/* ---- groups of 16 around zero: x = scale*q, -32 <= q < 32 --------------------------------------- */

struct sums {
    float qx, qq; /* of w*q*x, w*q*q with w = x*x */
};

static struct sums around_zero(const float *x, float inv)
{
    float qx[LANES] = { 0 }, qq[LANES] = { 0 };
    for (int i = 0; i < 16; i += LANES)
        for (int k = 0; k < LANES; k++) {
            float v = x[i + k], q = within(nearest(v * inv), -32, 31);
            float wq = v * v * q;
            qx[k] += wq * v;
            qq[k] += wq * q;
        }
    return (struct sums){ lanes_sum(qx), lanes_sum(qq) };
}

static float fit_around_zero(const float *from)
{
    float largest = 0, x[16];
    for (int i = 0; i < 16; i++)
        largest = fabsf(from[i]) > fabsf(largest) ? from[i] : largest;
    float unit = 1 / largest; /* squares of small weights are to be floats still */
    if (!isfinite(unit))
        return 0;
    for (int i = 0; i < 16; i++)
        x[i] = from[i] * unit;
    float scale = -1.0f / 32, best = -1;
    for (int i = -9; i <= 9; i++) {
        struct sums s = around_zero(x, -(32 + 0.1f * (float)i));
        if (s.qx * s.qx > best * s.qq) {
            scale = s.qx / s.qq;
            best = scale * s.qx;
        }
    }
    for (int turn = 0; turn < TURNS; turn++) {
        struct sums s = around_zero(x, 1 / scale);
        if (!(s.qx * s.qx > best * s.qq))
            break;
        scale = s.qx / s.qq;
        best = scale * s.qx;
    }
    return scale * largest;
}

static void put_q6_k(const uint8_t q[256], uint8_t *b)
{
    for (int h = 0; h < 2; h++)
        for (int l = 0; l < 32; l++) {
            const uint8_t *of = q + 128 * h + l;
            b[64 * h + l] = (uint8_t)((of[0] & 15) | (of[64] & 15) << 4);
            b[64 * h + 32 + l] = (uint8_t)((of[32] & 15) | (of[96] & 15) << 4);
            b[128 + 32 * h + l] = (uint8_t)(of[0] >> 4 | (of[32] >> 4) << 2 | (of[64] >> 4) << 4 |
                                            (of[96] >> 4) << 6);
        }
}

void encode_q6_k(const float *x, size_t n_blocks, void *blocks)
{
    uint8_t *b = blocks, q[256];
    for (; n_blocks; n_blocks--, b += 210, x += 256) {
        float scales[16], largest = 0;
        for (int g = 0; g < 16; g++) {
            scales[g] = fit_around_zero(x + 16 * g);
            largest = fabsf(scales[g]) > fabsf(largest) ? scales[g] : largest;
        }
        uint16_t half = float_to_half(largest / -128);
        float d = half_to_float(half), inv = d != 0 ? 1 / d : 0;
        put_half(b + 208, half);
        for (int g = 0; g < 16; g++) {
            float sc = within(nearest(scales[g] * inv), -128, 127), scale = d * sc;
            float to = scale != 0 ? 1 / scale : 0;
            b[192 + g] = (uint8_t)(int8_t)sc;
            for (int i = 16 * g; i < 16 * g + 16; i++)
                q[i] = (uint8_t)(within(nearest(within(x[i] * to, -64, 64)), -32, 31) + 32);
        }
        put_q6_k(q, b);
    }
}
