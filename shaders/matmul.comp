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
lane_at w_at[BLOCKS];
uint x_at[COLS];      // quads

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
uvec4 xq[COLS * X_FETCHES], xs[COLS];

// Makes the 8 quads from x_at[c] + at on of each of the tile's rows ready for x_word.
void load_x(uint at)
{
#if TEXEL
    uint lane = gl_SubgroupInvocationID & (X_LANES - 1);
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint f = 0; f < X_FETCHES; f++)
            xq[c * X_FETCHES + f] = QUAD(x, x_at[c] + at + f * X_LANES + lane);
#endif
}
#if TEXEL
// K parts that share a subgroup are at different inputs: each has its own eight lanes.
uint first_lane()
{
    return KPARTS > 1 && SUBGROUP > BLOCK_LANES ? gl_SubgroupInvocationID & ~(X_LANES - 1) : 0;
}
uint x_word(uint c, uint at, uint quad, uint w)
{
    uvec4 q = xq[c * X_FETCHES];
    [[unroll]] for (uint f = 1; f < X_FETCHES; f++)
        q = quad / X_LANES == f ? xq[c * X_FETCHES + f] : q;
    return subgroupShuffle(q[w], first_lane() + quad % X_LANES);
}
#else
uint x_word(uint c, uint at, uint quad, uint w)
{
    return x[x_at[c] + at + quad][w];
}
#endif

// The scales and sums of a q8 group: quad 0 dx, 1 and 2 the sums; word j for block j.
void load_x_scales(uint at)
{
#if TEXEL
    uint quad = 8 + min(gl_SubgroupInvocationID & (X_LANES - 1), 2u);
    [[unroll]] for (uint c = 0; c < COLS; c++)
        xs[c] = QUAD(x, x_at[c] + at + quad);
#endif
}
float x_scale(uint c, uint at, uint quad, uint j)
{
#if TEXEL
    return uintBitsToFloat(subgroupShuffle(xs[c][j], first_lane() + quad));
#else
    return uintBitsToFloat(x[x_at[c] + at + 8 + quad][j]);
#endif
}

uint block_of(uint b)
{
    uint lanes = gl_LocalInvocationID.x / BLOCK_LANES;
    uint ob = KPARTS > 1 ? gl_WorkGroupID.x / (BLOCK_LANES / LANES) * BLOCKS + b
                         : (gl_WorkGroupID.x * (gl_WorkGroupSize.x / BLOCK_LANES) + lanes) * BLOCKS + b;
    return min(ob, p.n_ob - 1);
}

#ifndef X_F32
// Block j of the group whose q8 quads are at `at`, of every pair.
void block(uint g, uint at, uint j, scale_words sw[BLOCKS])
{
    uint a_[BLOCKS * 8], b_[BLOCKS * 8];
    vec2 s[4 * BLOCKS]; // [block][lo, hi][part]
    [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
        uint a8[8], b8[8];
        FETCH_PLANE(PLANE_A, w_at[b].a + g * (PLANE_QUADS(PLANE_A, 4) * LANE_STEP), j, a8)
        FETCH_PLANE(PLANE_B, w_at[b].b + g * (PLANE_QUADS(PLANE_B, 4) * LANE_STEP), j, b8)
        [[unroll]] for (uint i = 0; i < 8; i++) {
            a_[b * 8 + i] = a8[i];
            b_[b * 8 + i] = b8[i];
        }
        [[unroll]] for (uint h = 0; h < 2; h++) {
            s[b * 4 + h * 2] = scale_of(sw[b], j, h, 0);
#ifdef SUB16
            s[b * 4 + h * 2 + 1] = scale_of(sw[b], j, h, 1);
#endif
        }
    }
    [[unroll]] for (uint c = 0; c < COLS; c++) {
        float d = x_scale(c, at, 0, j);
        vec2 xs = vec2(x_scale(c, at, 1, j), x_scale(c, at, 2, j));
        ivec2 sum[2 * BLOCKS]; // [block][part], (lo, hi)
        [[unroll]] for (uint part = 0; part < 2; part++) {
            int pa[BLOCKS], pb[BLOCKS];
            [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                pa[b] = pb[b] = 0;
            // the weights are taken apart where they are used: made ready before, they would be spilled
            [[unroll]] for (uint w = 0; w < 4; w++) {
                int four = int(x_word(c, at, 2 * j + part, w));
                [[unroll]] for (uint t = 0; t < 4; t++) {
                    int v = four << (24 - 8 * t) >> 24;
                    [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                        uint i = part * 16 + w * 4 + t;
                        pa[b] += int(PLANE_PAIR(PLANE_A, a_, b * 8, i)) * v;
#if PLANE_B
                        pb[b] += int(PLANE_PAIR(PLANE_B, b_, b * 8, i)) * v;
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

void group(uint g, uint n_kb)
{
    uint at = g * Q8_GROUP_QUADS;
    load_x(at);
    load_x_scales(at);
    scale_words sw[BLOCKS];
    [[unroll]] for (uint b = 0; b < BLOCKS; b++)
        sw[b] = fetch_scales(w_at[b], g);
    [[unroll]] for (uint j = 0; j < 4; j++) // constant lanes: a shuffle is one instruction
        if (g * 4 + j < n_kb)
            block(g, at, j, sw);
}
#else
// f32 activations: the weight itself, in the decoder's order of operations, times x.
void block(uint kb)
{
    uint at = kb * 8;
    load_x(at);
    float w[2 * BLOCKS * 32]; // [block][i][lo, hi]
    [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
#if defined(TYPE_F32)
        [[unroll]] for (uint i = 0; i < 8; i++)
            [[unroll]] for (uint h = 0; h < 2; h++) {
                vec4 v = uintBitsToFloat(float_quad(w_at[b], kb * 8 + i, h));
                [[unroll]] for (uint t = 0; t < 4; t++)
                    w[(b * 32 + 4 * i + t) * 2 + h] = v[t];
            }
#elif defined(TYPE_F16) || defined(TYPE_BF16)
        [[unroll]] for (uint i = 0; i < 4; i++)
            [[unroll]] for (uint h = 0; h < 2; h++) {
                uvec4 v = float_quad(w_at[b], kb * 4 + i, h);
                [[unroll]] for (uint t = 0; t < 4; t++) {
                    vec2 two = two_floats(v[t]);
                    w[(b * 32 + 8 * i + 2 * t) * 2 + h] = two.x;
                    w[(b * 32 + 8 * i + 2 * t + 1) * 2 + h] = two.y;
                }
            }
#else
        uint a_[8], b_[8];
        FETCH_PLANE(PLANE_A, w_at[b].a, kb, a_)
        FETCH_PLANE(PLANE_B, w_at[b].b, kb, b_)
        scale_words sw = fetch_scales(w_at[b], kb / 4);
        [[unroll]] for (uint h = 0; h < 2; h++) {
            [[unroll]] for (uint part = 0; part < 2; part++) {
                vec2 s = scale_of(sw, kb & 3, h, part);
                [[unroll]] for (uint k = 0; k < 16; k++) { // counted from 0: else it stays a loop
                    uint i = part * 16 + k;
                    uint q = PLANE_PAIR(PLANE_A, a_, 0, i);
#if PLANE_B
                    q += PLANE_PAIR(PLANE_B, b_, 0, i) << SHIFT_B;
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
            float v = uintBitsToFloat(x_word(c, at, i / 4, i % 4));
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
    uint n_kb = p.n_kb, x_stride = p.x_stride;
    [[unroll]] for (uint c = 0; c < COLS; c++)
        x_at[c] = (row0 + c) * x_stride;
    [[unroll]] for (uint b = 0; b < BLOCKS; b++)
        w_at[b] = lane_begin(block_of(b), lane);
#ifdef X_F32
    for (uint kb = kpart; kb < n_kb; kb += KPARTS)
        block(kb);
#else
    uint n_groups = (n_kb + 3) / 4;
    for (uint g = kpart; g < n_groups; g += KPARTS)
        group(g, n_kb);
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
