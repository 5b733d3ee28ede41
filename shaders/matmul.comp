#version 450
// v[row][o] = mult * sum over k of W[o][k] x[row][k], then an epilogue. Decode and prefill are this one
// kernel with tiles of SPEC_COLS rows; an output is summed by one lane in ascending k (or, on a GPU, by
// SPEC_KPARTS lanes that take every KPARTS-th block of 32 inputs, of q8 rows every KPARTS-th group of 128,
// joined in order), whatever the tile, so that a row's bits do not depend on its company.
//
// Quantised weights meet q8 activations: a 32-bit product (lo | hi << 16) * x serves two outputs; sums of
// 16 inputs stay below 2^15 (15 * 127 * 16 = 30480), then the halves are split.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

layout(push_constant) uniform Push { PUSH_MATMUL } p;
QUADS(1, weights);
QUADS(2, x);
FLOATS_OUT(3, y);
FLOATS_IN(4, bias);
#include "weights.glsl"

#define PAIRS (BLOCKS * COLS)
shared float part[KPARTS > 1 ? KPARTS * BLOCK_LANES * 2 * PAIRS : 1];

float acc[2 * PAIRS]; // [block][col][lo, hi]

// Lanes of an output block in one workgroup: where blocks are few, several workgroups share one.
#if TEXEL
#define LANES BLOCK_LANES
#else
#define LANES (KPARTS > 1 ? gl_WorkGroupSize.x / KPARTS : BLOCK_LANES)
#endif

// Lanes of one output block that share an x load; a subgroup may hold fewer or more.
#define X_LANES (SUBGROUP < BLOCK_LANES ? SUBGROUP : BLOCK_LANES)
#if TEXEL
#define X_FETCHES (BLOCK_LANES / X_LANES)
#else
#define X_FETCHES 1
#endif
uvec4 xq[COLS * X_FETCHES];

// Makes the 8 quads from `at` on of each of the tile's rows ready for X_WORD.
void load_x(uint row0, uint at)
{
#if TEXEL
    uint lane = gl_SubgroupInvocationID & (X_LANES - 1);
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint f = 0; f < X_FETCHES; f++)
            xq[c * X_FETCHES + f] = QUAD(x, (row0 + c) * p.x_stride + at + f * X_LANES + lane);
#endif
}
#if TEXEL
uint x_word(uint row0, uint c, uint at, uint quad, uint w)
{
    uvec4 q = xq[c * X_FETCHES];
    [[unroll]] for (uint f = 1; f < X_FETCHES; f++)
        q = quad / X_LANES == f ? xq[c * X_FETCHES + f] : q;
    // K parts that share a subgroup are at different inputs: each has its own eight lanes
    uint from = KPARTS > 1 && SUBGROUP > BLOCK_LANES ? gl_SubgroupInvocationID & ~(X_LANES - 1) : 0;
    return subgroupShuffle(q[w], from + quad % X_LANES);
}
#else
uint x_word(uint row0, uint c, uint at, uint quad, uint w)
{
    return x[(row0 + c) * p.x_stride + at + quad][w];
}
#endif

uint block_of(uint b)
{
    uint lanes = gl_LocalInvocationID.x / BLOCK_LANES;
    uint ob = KPARTS > 1 ? gl_WorkGroupID.x / (BLOCK_LANES / LANES) * BLOCKS + b
                         : (gl_WorkGroupID.x * (gl_WorkGroupSize.x / BLOCK_LANES) + lanes) * BLOCKS + b;
    return min(ob, p.n_ob - 1);
}

#ifndef X_F32
void group(uint row0, uint g, uint lane)
{
    uint at = g * Q8_GROUP_QUADS;
    load_x(row0, at);
    vec4 dx[COLS], sum_a[COLS], sum_b[COLS];
    [[unroll]] for (uint c = 0; c < COLS; c++) {
        uint q = (row0 + c) * p.x_stride + at + 8;
        dx[c] = uintBitsToFloat(QUAD(x, q));
        sum_a[c] = uintBitsToFloat(QUAD(x, q + 1));
        sum_b[c] = uintBitsToFloat(QUAD(x, q + 2));
    }
    scale_words sw[2 * BLOCKS];
    [[unroll]] for (uint b = 0; b < BLOCKS; b++)
        [[unroll]] for (uint h = 0; h < 2; h++)
            sw[b * 2 + h] = fetch_scales(block_of(b), g * 4, h, lane);

    [[unroll]] for (uint j = 0; j < 4; j++) { // constant lanes: a shuffle is one instruction
        uint kb = g * 4 + j;
        if (kb >= p.n_kb)
            break;
        int wa[BLOCKS * 32], wb[BLOCKS * 32];
        vec2 s[4 * BLOCKS];
        [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
            uint a_[8], b_[8];
            FETCH_PLANE(PLANE_A, p.plane0, block_of(b), kb, lane, a_)
            FETCH_PLANE(PLANE_B, p.plane1, block_of(b), kb, lane, b_)
            [[unroll]] for (uint i = 0; i < 32; i++) {
                wa[b * 32 + i] = int(PLANE_PAIR(PLANE_A, a_, i));
#if PLANE_B
                wb[b * 32 + i] = int(PLANE_PAIR(PLANE_B, b_, i));
#endif
            }
            [[unroll]] for (uint h = 0; h < 2; h++) {
                s[b * 4 + h * 2] = scale_of(sw[b * 2 + h], kb, 0);
#ifdef SUB16
                s[b * 4 + h * 2 + 1] = scale_of(sw[b * 2 + h], kb, 1);
#endif
            }
        }
        [[unroll]] for (uint c = 0; c < COLS; c++) {
            float d = dx[c][j];
            vec2 xs = vec2(sum_a[c][j], sum_b[c][j]);
            ivec2 sum[2 * BLOCKS]; // [block][part], (lo, hi)
            [[unroll]] for (uint part = 0; part < 2; part++) {
                int pa[BLOCKS], pb[BLOCKS];
                [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                    pa[b] = pb[b] = 0;
                [[unroll]] for (uint w = 0; w < 4; w++) {
                    int four = int(x_word(row0, c, at, 2 * j + part, w));
                    [[unroll]] for (uint t = 0; t < 4; t++) {
                        int v = four << (24 - 8 * t) >> 24;
                        [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                            uint i = b * 32 + part * 16 + w * 4 + t;
                            pa[b] += wa[i] * v;
#if PLANE_B
                            pb[b] += wb[i] * v;
#endif
                        }
                    }
                }
                [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
#if PLANE_B && PLANE_A == 2 // at most 7 * 127 * 16: still fits
                    pa[b] += pb[b] << SHIFT_B;
#endif
                    int lo = pa[b] << 16 >> 16;
                    ivec2 v = ivec2(lo, (pa[b] - lo) >> 16);
#if PLANE_B && PLANE_A == 4
                    lo = pb[b] << 16 >> 16;
                    v += ivec2(lo, (pb[b] - lo) >> 16) << SHIFT_B;
#endif
                    sum[b * 2 + part] = v;
                }
            }
            [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                [[unroll]] for (uint h = 0; h < 2; h++) {
                    uint o = (b * COLS + c) * 2 + h;
                    vec2 s0 = s[b * 4 + h * 2];
#ifdef SUB16
                    vec2 s1 = s[b * 4 + h * 2 + 1];
                    acc[o] = mac(acc[o], s0.x * d, float(sum[b * 2][h]) - ZERO * xs.x);
                    acc[o] = mac(acc[o], s1.x * d, float(sum[b * 2 + 1][h]) - ZERO * xs.y);
#ifdef HAS_MIN
                    acc[o] = mac(acc[o], s0.y, d * xs.x);
                    acc[o] = mac(acc[o], s1.y, d * xs.y);
#endif
#else
                    acc[o] = mac(acc[o], s0.x * d,
                                 float(sum[b * 2][h] + sum[b * 2 + 1][h]) - ZERO * (xs.x + xs.y));
#ifdef HAS_MIN
                    acc[o] = mac(acc[o], s0.y, d * (xs.x + xs.y));
#endif
#endif
                }
        }
    }
}
#else
// f32 activations: the weight itself, in the decoder's order of operations, times x.
void block(uint row0, uint kb, uint lane)
{
    uint at = kb * 8;
    load_x(row0, at);
    float w[2 * BLOCKS * 32]; // [block][i][lo, hi]
    [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
        uint ob = block_of(b);
#if defined(TYPE_F32)
        [[unroll]] for (uint i = 0; i < 8; i++)
            [[unroll]] for (uint h = 0; h < 2; h++) {
                vec4 v = f32_quad(ob, kb * 8 + i, h, lane);
                [[unroll]] for (uint t = 0; t < 4; t++)
                    w[(b * 32 + 4 * i + t) * 2 + h] = v[t];
            }
#elif defined(TYPE_F16) || defined(TYPE_BF16)
        [[unroll]] for (uint i = 0; i < 4; i++)
            [[unroll]] for (uint h = 0; h < 2; h++) {
                uvec4 v = half_quad(ob, kb * 4 + i, h, lane);
                [[unroll]] for (uint t = 0; t < 4; t++) {
                    vec2 two = two_floats(v[t]);
                    w[(b * 32 + 8 * i + 2 * t) * 2 + h] = two.x;
                    w[(b * 32 + 8 * i + 2 * t + 1) * 2 + h] = two.y;
                }
            }
#else
        uint a_[8], b_[8];
        FETCH_PLANE(PLANE_A, p.plane0, ob, kb, lane, a_)
        FETCH_PLANE(PLANE_B, p.plane1, ob, kb, lane, b_)
        [[unroll]] for (uint h = 0; h < 2; h++) {
            scale_words sw = fetch_scales(ob, kb, h, lane);
            [[unroll]] for (uint part = 0; part < 2; part++) {
                vec2 s = scale_of(sw, kb, part);
                [[unroll]] for (uint k = 0; k < 16; k++) { // counted from 0: else it stays a loop
                    uint i = part * 16 + k;
                    uint q = PLANE_PAIR(PLANE_A, a_, i);
#if PLANE_B
                    q += PLANE_PAIR(PLANE_B, b_, i) << SHIFT_B;
#endif
                    precise float v = s.x * float(int(q >> (16 * h) & 0xFFFFu) - ZERO);
#ifdef HAS_MIN
                    v += s.y;
#endif
                    w[(b * 32 + i) * 2 + h] = v;
                }
            }
        }
#endif
    }
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint i = 0; i < 32; i++) {
            float v = uintBitsToFloat(x_word(row0, c, at, i / 4, i % 4));
            [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                [[unroll]] for (uint h = 0; h < 2; h++)
                    acc[(b * COLS + c) * 2 + h] =
                        mac(acc[(b * COLS + c) * 2 + h], w[(b * 32 + i) * 2 + h], v);
        }
}
#endif

// Roundings are fixed (precise) here too: variants of this kernel must agree to the bit.
float activation(float v)
{
    if ((MODE & EPI_ACT_MASK) == EPI_SILU)
        return v / (1.0 + exp(-v));
    if ((MODE & EPI_ACT_MASK) == EPI_GELU) { // 0.5 v (1 + tanh(u)), written so that exp cannot overflow
        precise float u = v + 0.044715 * v * v * v;
        return v / (1.0 + exp(-2.0 * 0.7978845608028654 * u));
    }
    // erf by Abramowitz & Stegun 7.1.26 is not enough for f32: this is 7.1.28's rational form, 3e-7
    float z = abs(v) * 0.7071067811865476;
    precise float t = 1.0 + z * (0.0705230784 + z * (0.0422820123 + z * (0.0092705272 +
              z * (0.0001520143 + z * (0.0002765672 + z * 0.0000430638)))));
    t *= t; t *= t; t *= t; t *= t;
    float erf = 1.0 - 1.0 / t;
    return 0.5 * v * (1.0 + (v < 0 ? -erf : erf));
}

// o: the output's index in the packed order of the whole matrix.
void put(uint row, uint o, float v)
{
    if (o >= p.m)
        return;
    if ((MODE & MM_BIAS) != 0)
        v += bias[o];
    if ((MODE & EPI_MASK) == EPI_ACT)
        v = activation(v);
    if ((MODE & MM_SOFTCAP) != 0)
        v = p.softcap * tanh(v / p.softcap);
    if ((MODE & EPI_MASK) == EPI_ADD)
        v += y[row * p.y_stride + o];
    y[row * p.y_stride + o] = v;
}

void put_pair(uint row, uint ob, uint lane, float lo, float hi)
{
    uint o = p.first + ob * BLOCK_OUTPUTS + lane;
    if ((MODE & EPI_MASK) == EPI_GLU) {
        uint pair = p.first / 2 + ob * BLOCK_LANES + lane;
        if (2 * pair >= p.m)
            return;
        if ((MODE & MM_BIAS) != 0) {
            lo += bias[o];
            hi += bias[o + BLOCK_LANES];
        }
        y[row * p.y_stride + pair] = activation(lo) * hi;
    } else {
        put(row, o, lo);
        put(row, o + BLOCK_LANES, hi);
    }
}

void main()
{
    uint mine = gl_LocalInvocationID.x % LANES, row0 = gl_WorkGroupID.y * COLS;
    uint lane = mine + gl_WorkGroupID.x % (BLOCK_LANES / LANES) * LANES;
    uint kpart = KPARTS > 1 ? gl_LocalInvocationID.x / LANES : 0;
    [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
        acc[i] = 0;
#ifdef X_F32
    for (uint kb = kpart; kb < p.n_kb; kb += KPARTS)
        block(row0, kb, lane);
#else
    uint n_groups = (p.n_kb + 3) / 4;
    for (uint g = kpart; g < n_groups; g += KPARTS)
        group(row0, g, lane);
#endif

    if (KPARTS > 1) {
        [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
            part[(kpart * 2 * PAIRS + i) * BLOCK_LANES + mine] = acc[i];
        barrier();
        if (kpart > 0)
            return;
        for (uint k = 1; k < KPARTS; k++)
            [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
                acc[i] += part[(k * 2 * PAIRS + i) * BLOCK_LANES + mine];
    }

    uint n_rows = step_words[(MODE & MM_GATHERED) != 0 ? STEP_N_OUT : STEP_N_ROWS];
    [[unroll]] for (uint c = 0; c < COLS; c++)
        if (row0 + c < n_rows)
            [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                uint lanes = gl_LocalInvocationID.x / BLOCK_LANES;
                uint ob = KPARTS > 1
                              ? gl_WorkGroupID.x / (BLOCK_LANES / LANES) * BLOCKS + b
                              : (gl_WorkGroupID.x * (gl_WorkGroupSize.x / BLOCK_LANES) + lanes) * BLOCKS + b;
                precise vec2 v = vec2(acc[(b * COLS + c) * 2], acc[(b * COLS + c) * 2 + 1]) * p.mult;
                if (ob < p.n_ob)
                    put_pair(row0 + c, ob, lane, v.x, v.y);
            }
}
