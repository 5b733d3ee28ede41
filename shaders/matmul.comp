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

PUSH_BLOCK(PUSH_MATMUL);
QUADS(1, weights);
QUADS(2, x);
FLOATS_OUT(3, y);
FLOATS_IN(4, bias);
QUADS(5, x_partials);
WORDS_OUT(6, next_or_k);
WORDS_OUT(7, q8_or_v);
WORDS_OUT(8, partials_or_pages);
QUADS(9, norm_or_table);
#include "weights.glsl"

#define PAIRS (BLOCKS * COLS)
shared float part[KPARTS > 1 ? KPARTS * BLOCK_LANES * 2 * PAIRS : 1];

float acc[2 * PAIRS]; // [block][col][lo, hi]
float glu[COLS * 2 * PASSES < 4 ? 4 : COLS * 2 * PASSES]; // [col][pass][block]: pairs that wait to be quantised
lane_at w_at[BLOCKS];
uint x_at[COLS]; // quads

// Lanes of an output block in one workgroup: where blocks are few, several workgroups share one.
#if TEXEL
#define LANES BLOCK_LANES
#else
#define LANES (KPARTS > 1 ? gl_WorkGroupSize.x / KPARTS : BLOCK_LANES)
#endif

// x comes by one load for a whole group of 128 inputs, whose blocks are then written out one by one, or, in
// tiles, by one for each block: written out they would be more code than the instruction cache holds.
#define WHOLE_GROUPS (COLS <= 2)
// Lanes of one output block that share an x load; a subgroup may hold fewer or more.
#define X_LANES (SUBGROUP < BLOCK_LANES ? SUBGROUP : BLOCK_LANES)
#if TEXEL
#define X_FETCHES (BLOCK_LANES / X_LANES)
#else
#define X_FETCHES 1
#endif
uvec4 xq[COLS * X_FETCHES], xs[COLS];

#if TEXEL
uint x_lane()
{
    return gl_SubgroupInvocationID & (X_LANES - 1);
}
// K parts that share a subgroup are at different inputs: each has its own eight lanes.
uint first_lane()
{
    return KPARTS > 1 && SUBGROUP > BLOCK_LANES ? gl_SubgroupInvocationID & ~(X_LANES - 1) : 0;
}
// Word w of quad `quad` among those loaded for row c.
uint x_quad(uint c, uint quad, uint w)
{
    uvec4 q = xq[c * X_FETCHES];
    [[unroll]] for (uint f = 1; f < X_FETCHES; f++)
        q = quad / X_LANES == f ? xq[c * X_FETCHES + f] : q;
    return subgroupShuffle(q[w], first_lane() + quad % X_LANES);
}
#endif

// Makes the 8 quads from x_at[c] + at on of each of the tile's rows ready.
void load_x(uint at)
{
#if TEXEL
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint f = 0; f < X_FETCHES; f++)
            xq[c * X_FETCHES + f] = QUAD(x, x_at[c] + at + f * X_LANES + x_lane());
#endif
}
// The scales and sums of the q8 group at `at`.
void load_x_scales(uint at)
{
#if TEXEL
    [[unroll]] for (uint c = 0; c < COLS; c++)
        xs[c] = QUAD(x, x_at[c] + at + 8 + min(x_lane(), 2u));
#endif
}
// Block j alone: quads 0 and 1 its inputs, 2 to 4 the group's scales and sums.
void load_x_block(uint at, uint j)
{
#if TEXEL
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint f = 0; f < X_FETCHES; f++) {
            uint quad = min(f * X_LANES + x_lane(), 4u);
            xq[c * X_FETCHES + f] = QUAD(x, x_at[c] + at + (quad < 2 ? 2 * j + quad : 6 + quad));
        }
#endif
}

// Word w of half `part` of the group's block j.
uint x_word(uint c, uint at, uint j, uint part, uint w)
{
#if TEXEL
    return x_quad(c, WHOLE_GROUPS ? 2 * j + part : part, w);
#else
    return x[x_at[c] + at + 2 * j + part][w];
#endif
}
// which: 0 dx, 1 and 2 the sums of the halves.
float x_scale(uint c, uint at, uint which, uint j)
{
#if TEXEL
    return uintBitsToFloat(WHOLE_GROUPS ? subgroupShuffle(xs[c][j], first_lane() + which)
                                        : x_quad(c, 2 + which, j));
#else
    return uintBitsToFloat(x[x_at[c] + at + 8 + which][j]);
#endif
}

// The first output block of a pass.
uint first_block(uint pass)
{
    uint eight = KPARTS > 1 ? GROUP_X / (BLOCK_LANES / LANES)
                            : GROUP_X * (gl_WorkGroupSize.x / BLOCK_LANES) +
                                  gl_LocalInvocationID.x / BLOCK_LANES;
    return (eight * PASSES + pass) * BLOCKS;
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
                int four = int(x_word(c, at, j, part, w));
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

// The first n blocks of group g.
void group(uint g, uint n)
{
    uint at = g * Q8_GROUP_QUADS;
    scale_words sw[BLOCKS];
    [[unroll]] for (uint b = 0; b < BLOCKS; b++)
        sw[b] = fetch_scales(w_at[b], g);
    if (WHOLE_GROUPS) {
        load_x(at);
        load_x_scales(at);
        [[unroll]] for (uint j = 0; j < 4; j++) // constant lanes: a shuffle is one instruction
            if (j < n)
                block(g, at, j, sw);
    } else {
        uint j = 0;
        do {
            load_x_block(at, j);
            block(g, at, j, sw);
        } while (++j < n);
    }
}
#else
uint x_float(uint c, uint at, uint quad, uint w)
{
#if TEXEL
    return x_quad(c, quad, w);
#else
    return x[x_at[c] + at + quad][w];
#endif
}

#ifdef PLANE_A
// f32 activations, quantised weights: whole numbers times x, then the block's scale and minimum.
void block(uint kb)
{
    uint at = kb * 8;
    load_x(at);
    uint a_[BLOCKS * 8], b_[BLOCKS * 8];
    vec2 s[4 * BLOCKS]; // [block][lo, hi][part]
    [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
        uint a8[8], b8[8];
        FETCH_PLANE(PLANE_A, w_at[b].a, kb, a8)
        FETCH_PLANE(PLANE_B, w_at[b].b, kb, b8)
        [[unroll]] for (uint i = 0; i < 8; i++) {
            a_[b * 8 + i] = a8[i];
            b_[b * 8 + i] = b8[i];
        }
        scale_words sw = fetch_scales(w_at[b], kb / 4);
        [[unroll]] for (uint h = 0; h < 2; h++)
            [[unroll]] for (uint part = 0; part < 2; part++)
                s[(b * 2 + h) * 2 + part] = scale_of(sw, kb & 3, h, part);
    }
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint part = 0; part < 2; part++) {
            float sum[2 * BLOCKS], xs = 0; // [block][lo, hi]
            [[unroll]] for (uint i = 0; i < 2 * BLOCKS; i++)
                sum[i] = 0;
            [[unroll]] for (uint k = 0; k < 16; k++) { // counted from 0: else it stays a loop
                uint i = part * 16 + k;
                float v = uintBitsToFloat(x_float(c, at, i / 4, i % 4));
#ifdef HAS_MIN
                xs += v;
#endif
                [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                    [[unroll]] for (uint h = 0; h < 2; h++) {
                        uint q = PLANE_FIELD(PLANE_A, a_, b * 8, i, h);
#if PLANE_B
                        q += PLANE_FIELD(PLANE_B, b_, b * 8, i, h) << SHIFT_B;
#endif
                        sum[b * 2 + h] = mac(sum[b * 2 + h], float(int(q) - ZERO), v);
                    }
            }
            [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                [[unroll]] for (uint h = 0; h < 2; h++) {
                    uint o = (b * COLS + c) * 2 + h;
                    vec2 w = s[(b * 2 + h) * 2 + part];
                    acc[o] = mac(acc[o], w.x, sum[b * 2 + h]);
#ifdef HAS_MIN
                    acc[o] = mac(acc[o], w.y, xs);
#endif
                }
        }
}
#else
void block(uint kb)
{
    uint at = kb * 8;
    load_x(at);
    float w[2 * BLOCKS * 32]; // [block][i][lo, hi]
    [[unroll]] for (uint b = 0; b < BLOCKS; b++)
        [[unroll]] for (uint h = 0; h < 2; h++) {
#if defined(TYPE_F32)
            [[unroll]] for (uint i = 0; i < 8; i++) {
                vec4 v = uintBitsToFloat(float_quad(w_at[b], kb * 8 + i, h));
                [[unroll]] for (uint t = 0; t < 4; t++)
                    w[(b * 32 + 4 * i + t) * 2 + h] = v[t];
            }
#else
            [[unroll]] for (uint i = 0; i < 4; i++) {
                uvec4 v = float_quad(w_at[b], kb * 4 + i, h);
                [[unroll]] for (uint t = 0; t < 4; t++) {
                    vec2 two = two_floats(v[t]);
                    w[(b * 32 + 8 * i + 2 * t) * 2 + h] = two.x;
                    w[(b * 32 + 8 * i + 2 * t + 1) * 2 + h] = two.y;
                }
            }
#endif
        }
    [[unroll]] for (uint c = 0; c < COLS; c++)
        [[unroll]] for (uint i = 0; i < 32; i++) {
            float v = uintBitsToFloat(x_float(c, at, i / 4, i % 4));
            [[unroll]] for (uint b = 0; b < BLOCKS; b++)
                [[unroll]] for (uint h = 0; h < 2; h++)
                    acc[(b * COLS + c) * 2 + h] =
                        mac(acc[(b * COLS + c) * 2 + h], w[(b * 32 + i) * 2 + h], v);
        }
}
#endif
#endif

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

// Output o, or pair o, of the whole matrix.
void put(uint row, uint o, float v)
{
    if (o >= p.m)
        return;
    if ((MODE & EPI_MASK) == EPI_ACT)
        v = activation(v);
    if ((MODE & MM_SOFTCAP) != 0)
        v = p.softcap * tanh(v / p.softcap);
    if ((MODE & EPI_MASK) == EPI_ADD)
        v += y[row * p.y_stride + o];
    y[row * p.y_stride + o] = v;
}

// A product of its own: never part of a fused multiply-add.
float scaled(float v, float by)
{
    precise float r = v * by;
    return r;
}

// Sum over the lanes of an output block that are here.
float add_block(float v)
{
    v += subgroupShuffleXor(v, 1);
    if (LANES > 2)
        v += subgroupShuffleXor(v, 2);
    if (LANES > 4)
        v += subgroupShuffleXor(v, 4);
    return v;
}

// 1 / sqrt(mean of squares + eps) of a row, from its partials.
float rms_scale(uint row, uint lane)
{
    uint n = p.rms_parts, quads = (n + 3) / 4;
    precise float sum = 0;
    for (uint i = 0; i < quads; i += LANES) {
        uint at = i + lane % LANES;
        vec4 v = uintBitsToFloat(QUAD(x_partials, row * p.part_stride + min(at, quads - 1)));
        [[unroll]] for (uint t = 0; t < 4; t++)
            sum += at * 4 + t < n ? v[t] : 0.0;
    }
    return 1.0 / sqrt(add_block(sum) / float(p.rms_n) + p.eps);
}

// Four neighbouring outputs of a residual stream: it, the next matmul's input, and the sums of squares.
void put_residual(uint row, uint ob, uint lane, vec4 v)
{
    uint o = p.first + QUADS_OUTPUT(ob, lane, 0);
    vec4 g = uintBitsToFloat(QUAD(norm_or_table, o / 4)), a;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        v[i] += y[row * p.y_stride + o + i];
        y[row * p.y_stride + o + i] = v[i];
        a[i] = v[i] * g[i];
        if ((MODE & MM_NEXT_F32) != 0)
            next_or_k[row * p.y_stride + o + i] = floatBitsToUint(a[i]);
    }
    precise float low2 = v.x * v.x + v.y * v.y, high2 = v.z * v.z + v.w * v.w;
    float lower = add_block(low2), upper = add_block(high2);
    if (lane < 2)
        partials_or_pages[row * p.part_stride * 4 + p.first / BLOCK_OUTPUTS + ob + lane] =
            floatBitsToUint(lane == 0 ? lower : upper);
    if ((MODE & MM_NEXT_Q8) != 0)
        PUT_Q8(q8_or_v, row * p.next_stride * 4, o / 32, lane, a)
}

// The same by one block: two outputs.
void put_residual_half(uint row, uint ob, uint lane, vec2 v)
{
    uint o = p.first + QUADS_OUTPUT(ob, lane, 0);
    vec4 g = uintBitsToFloat(QUAD(norm_or_table, o / 4));
    [[unroll]] for (uint i = 0; i < 2; i++) {
        v[i] += y[row * p.y_stride + o + i];
        y[row * p.y_stride + o + i] = v[i];
        next_or_k[row * p.y_stride + o + i] = floatBitsToUint(v[i] * g[o % 4 + i]);
    }
    precise float squares = v.x * v.x + v.y * v.y;
    float sum = add_block(squares);
    if (lane % LANES == 0)
        partials_or_pages[row * p.part_stride * 4 +
                          (p.first / 2 + ob * BLOCK_LANES + lane) / LANES] = floatBitsToUint(sum);
}

// A pair of a head: rotated, scaled, and put where it belongs.
void put_head_pair(uint row, uint ob, uint lane, float lo, float hi)
{
    uint o = p.first + ob * BLOCK_OUTPUTS, h = o / p.head_dim, u = o % p.head_dim / 2 + lane;
    uint pos = STEP_ROW(row, ROW_POS), half_dim = p.head_dim / 2;
    bool is_q = h < p.n_head, is_v = h >= p.n_head + p.n_kv;
    vec4 two = uintBitsToFloat(QUAD(norm_or_table, (pos * half_dim + u) / 2));
    vec2 t = is_v ? vec2(1, 0) : (u & 1) == 0 ? two.xy : two.zw;
    bool apart = (MODE & MM_NEOX) != 0 && !is_v; // the pair is not two neighbours
    uint a = apart ? u : 2 * u, b = apart ? u + half_dim : 2 * u + 1;
    precise float x = lo * t.x - hi * t.y, z = lo * t.y + hi * t.x;
    if (is_q) {
        uint to = row * p.y_stride + h * p.kv_dim;
        y[to + a] = x * p.q_scale;
        y[to + b] = z * p.q_scale;
        return;
    }
    uint page = partials_or_pages[STEP_ROW(row, ROW_PAGES) + pos / KV_PAGE_TOKENS];
    uint to = ((page * p.n_kv + (h - p.n_head) % p.n_kv) * KV_PAGE_TOKENS + pos % KV_PAGE_TOKENS) * p.kv_dim;
    if ((MODE & MM_KV_F32) != 0) {
        if (is_v) {
            q8_or_v[to + a] = floatBitsToUint(x);
            q8_or_v[to + b] = floatBitsToUint(z);
        } else {
            next_or_k[to + a] = floatBitsToUint(x);
            next_or_k[to + b] = floatBitsToUint(z);
        }
        return;
    }
    // a word has two neighbouring dimensions: apart, they are those of two lanes
    float other = subgroupShuffleXor((lane & 1) == 0 ? z : x, 1);
    uint odd = lane & 1, at = apart ? (odd == 0 ? a : b - 1) : a;
    uint word = packHalf2x16(!apart ? vec2(x, z) : odd == 0 ? vec2(x, other) : vec2(other, z));
    if (is_v)
        q8_or_v[(to + at) / 2] = word;
    else
        next_or_k[(to + at) / 2] = word;
}

// What a pass computed, of one row: v has lo, hi of each block.
void finish(uint row, uint ob, uint lane, uint c, uint pass, vec2 v[BLOCKS])
{
    if ((MODE & MM_RMS) != 0) {
        float scale = rms_scale(row, lane);
        [[unroll]] for (uint b = 0; b < BLOCKS; b++)
            v[b] = vec2(scaled(v[b].x, scale), scaled(v[b].y, scale));
    }
    if ((MODE & MM_BIAS) != 0)
        [[unroll]] for (uint b = 0; b < BLOCKS; b++)
            [[unroll]] for (uint h = 0; h < 2; h++) {
                uint o = p.first + (ob + b) * BLOCK_OUTPUTS + h * BLOCK_LANES + lane;
                v[b][h] += bias[o];
            }
    if ((MODE & EPI_MASK) == EPI_ADD && (MODE & (MM_NEXT_F32 | MM_NEXT_Q8)) != 0) {
        if (BLOCKS > 1)
            put_residual(row, ob, lane, vec4(v[0], v[BLOCKS - 1]));
        else
            put_residual_half(row, ob, lane, v[0]);
        return;
    }
    [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
        uint o = p.first + QUADS_OUTPUT(ob + b, lane, 0);
        if ((MODE & EPI_MASK) == EPI_HEADS) {
            if (p.first + (ob + b) * BLOCK_OUTPUTS < p.m)
                put_head_pair(row, ob + b, lane, v[b].x, v[b].y);
        } else if ((MODE & EPI_MASK) == EPI_GLU) {
            float h = activation(v[b].x) * v[b].y;
            uint pair = p.first / 2 + GLU_PAIR(ob + b, lane);
            if ((MODE & MM_NEXT_Q8) != 0)
                glu[(c * PASSES + pass) * 2 + b] = h;
            else if (2 * pair < p.m)
                y[row * p.y_stride + pair] = h;
        } else if (ob + b < p.n_ob) {
            put(row, o, v[b].x);
            put(row, o + 1, v[b].y);
        }
    }
}

// Every K part's sums become those of part 0.
void join_parts(uint kpart, uint lane)
{
    [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
        part[(kpart * 2 * PAIRS + i) * BLOCK_LANES + lane] = acc[i];
    barrier();
    if (kpart == 0)
        for (uint k = 1; k < KPARTS; k++)
            [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
                acc[i] += part[(k * 2 * PAIRS + i) * BLOCK_LANES + lane];
}

void main()
{
    uint mine = gl_LocalInvocationID.x % LANES, row0 = gl_WorkGroupID.y * COLS;
    uint lane = mine + (KPARTS > 1 ? GROUP_X % (BLOCK_LANES / LANES) * LANES : 0);
    uint kpart = KPARTS > 1 ? gl_LocalInvocationID.x / LANES : 0;
    uint n_kb = p.n_kb, x_stride = p.x_stride;
    uint n_rows = step_words[(MODE & MM_GATHERED) != 0 ? STEP_N_OUT : STEP_N_ROWS];
    [[unroll]] for (uint c = 0; c < COLS; c++)
        x_at[c] = (row0 + c) * x_stride;
    // Loops that test at their end: CPU devices run the body once more, masked, where a loop tests first.
    uint pass = 0;
    do {
        uint ob = first_block(pass);
        [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
            acc[i] = 0;
        [[unroll]] for (uint b = 0; b < BLOCKS; b++)
            w_at[b] = lane_begin(min(ob + b, p.n_ob - 1), lane);
#ifdef X_F32
        uint kb = kpart;
        if (kb < n_kb)
            do
                block(kb);
            while ((kb += KPARTS) < n_kb);
#else
        uint n_groups = WHOLE_GROUPS ? n_kb / 4 : (n_kb + 3) / 4, g = kpart;
        if (g < n_groups)
            do
                group(g, WHOLE_GROUPS ? 4 : min(4, n_kb - g * 4));
            while ((g += KPARTS) < n_groups);
        if (WHOLE_GROUPS && TAIL > 0 && kpart == n_groups % KPARTS)
            group(n_groups, TAIL);
#endif
        if (KPARTS > 1)
            join_parts(kpart, mine);
        // A loop, over a copy that may be indexed: written out for each row, the stores would be so many basic
        // blocks that compilers take minutes.
        float done[2 * PAIRS];
        [[unroll]] for (uint i = 0; i < 2 * PAIRS; i++)
            done[i] = scaled(acc[i], p.mult);
        for (uint c = 0; c < COLS; c++)
            if (kpart == 0 && row0 + c < n_rows && ob < p.n_ob) {
                vec2 v[BLOCKS];
                [[unroll]] for (uint b = 0; b < BLOCKS; b++) {
                    uint o = (b * COLS + c) * 2;
                    v[b] = vec2(done[o], done[o + 1]);
                }
                finish(row0 + c, ob, lane, c, pass, v);
            }
    } while (++pass < PASSES);
    if ((MODE & EPI_MASK) == EPI_GLU && (MODE & MM_NEXT_Q8) != 0)
        for (uint c = 0; c < COLS; c++)
            if (kpart == 0 && row0 + c < n_rows && first_block(0) < p.n_ob) {
                vec4 h = vec4(glu[c * 2 * PASSES], glu[c * 2 * PASSES + 1], glu[c * 2 * PASSES + 2],
                              glu[c * 2 * PASSES + 3]);
                PUT_Q8(q8_or_v, (row0 + c) * p.next_stride * 4, p.first / 64 + first_block(0) / 4, lane, h)
            }
}
