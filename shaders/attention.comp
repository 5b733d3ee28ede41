#version 450
// Attention of one row over one split of its timeline, for SPEC_BLOCKS heads that share a KV head: online
// softmax (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022) over aligned runs of TOKENS tokens.
//
// The lanes of the workgroup (one subgroup) share a head's dimensions: a *slice* is 8 of them, lane l has
// slices l, l + SUBGROUP, ... (SPEC_COLS of them). Group x = kv head * chunks + chunk of heads, y = row,
// z = split. What a row computes depends on its position alone.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

layout(push_constant) uniform Push { PUSH_ATTENTION } p;
QUADS(1, q);
QUADS(2, k_pages);
QUADS(3, v_pages);
WORDS_IN(4, pages);
FLOATS_OUT(5, out_f32);
WORDS_OUT(6, out_q8);
FLOATS_OUT(7, partials);

#define SLICES COLS  // of a lane
#define HEADS BLOCKS // of a workgroup
#define TOKENS 4u
#define HIDDEN -3.0e38 // score of a token that the row does not see

float acc[HEADS * SLICES * 8];
float q_reg[HEADS * SLICES * 8];
float top[HEADS], sum[HEADS];

uint lane = gl_SubgroupInvocationID;

float add_lanes(float v)
{
    [[unroll]] for (uint d = 1; d < SUBGROUP; d *= 2)
        v += subgroupShuffleXor(v, d);
    return v;
}

void unpack8(uvec4 w, out float f[8])
{
    [[unroll]] for (uint i = 0; i < 4; i++) {
        vec2 two = unpackHalf2x16(w[i]);
        f[2 * i] = two.x;
        f[2 * i + 1] = two.y;
    }
}

// 8 elements of the slice `s` of token t in its page's slot. Past the head: zeros.
#define LOAD_SLICE(buf, slot, t, s, f)                                                             \
    {                                                                                              \
        uint s_ = min(s, p.kv_dim / 8 - 1);                                                        \
        if ((MODE & KVT_MASK) == KVT_F16) {                                                        \
            unpack8(QUAD(buf, ((slot) * KV_PAGE_TOKENS + (t)) * (p.kv_dim / 8) + s_), f);          \
        } else if ((MODE & KVT_MASK) == KVT_F32) {                                                 \
            uint at_ = ((slot) * KV_PAGE_TOKENS + (t)) * (p.kv_dim / 4) + 2 * s_;                  \
            vec4 a_ = uintBitsToFloat(QUAD(buf, at_)), b_ = uintBitsToFloat(QUAD(buf, at_ + 1));   \
            [[unroll]] for (uint i_ = 0; i_ < 4; i_++) {                                           \
                f[i_] = a_[i_];                                                                    \
                f[4 + i_] = b_[i_];                                                                \
            }                                                                                      \
        } else {                                                                                   \
            uint quads_ = (KV_PAGE_TOKENS * p.kv_dim + KV_PAGE_TOKENS * p.kv_dim / 8) / 16;        \
            uint byte_ = (t) * p.kv_dim + s_ * 8;                                                  \
            uvec4 w_ = QUAD(buf, (slot) * quads_ + byte_ / 16);                                    \
            uint d_ = (t) * (p.kv_dim / 32) + s_ / 4;                                              \
            float scale_ = uintBitsToFloat(                                                        \
                QUAD(buf, (slot) * quads_ + KV_PAGE_TOKENS * p.kv_dim / 16 + d_ / 4)[d_ & 3]);     \
            uvec2 two_ = (byte_ & 8) == 0 ? w_.xy : w_.zw;                                         \
            [[unroll]] for (uint i_ = 0; i_ < 8; i_++)                                             \
                f[i_] = float(int(two_[i_ / 4] << (24 - 8 * (i_ & 3))) >> 24) * scale_;            \
        }                                                                                          \
    }

void load_q(uint row, uint head0)
{
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            uint slice = s * SUBGROUP + lane;
            uint at = (row * p.q_stride + min(head0 + h, p.n_head - 1) * p.kv_dim) / 4 +
                      2 * min(slice, p.kv_dim / 8 - 1);
            vec4 a = uintBitsToFloat(QUAD(q, at)), b = uintBitsToFloat(QUAD(q, at + 1));
            float keep = slice < p.kv_dim / 8 ? 1.0 : 0.0;
            [[unroll]] for (uint i = 0; i < 4; i++) {
                q_reg[(h * SLICES + s) * 8 + i] = a[i] * keep;
                q_reg[(h * SLICES + s) * 8 + 4 + i] = b[i] * keep;
            }
        }
}

// Tokens t0 .. t0 + TOKENS - 1, all of one page; those outside [low, high] count nothing.
void run(uint slot, uint t0, uint low, uint high)
{
    float score[HEADS * TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        float dot[HEADS];
        [[unroll]] for (uint h = 0; h < HEADS; h++)
            dot[h] = 0;
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            float k[8];
            LOAD_SLICE(k_pages, slot, (t0 + t) % KV_PAGE_TOKENS, s * SUBGROUP + lane, k)
            [[unroll]] for (uint h = 0; h < HEADS; h++)
                [[unroll]] for (uint i = 0; i < 8; i++)
                    dot[h] = mac(dot[h], q_reg[(h * SLICES + s) * 8 + i], k[i]);
        }
        bool seen = t0 + t >= low && t0 + t <= high;
        [[unroll]] for (uint h = 0; h < HEADS; h++) {
            float v = add_lanes(dot[h]);
            if (p.softcap > 0)
                v = p.softcap * tanh(v / p.softcap);
            score[h * TOKENS + t] = seen ? v : HIDDEN;
        }
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        float best = top[h];
        [[unroll]] for (uint t = 0; t < TOKENS; t++)
            best = max(best, score[h * TOKENS + t]);
        float fade = exp(top[h] - best);
        top[h] = best;
        sum[h] *= fade;
        [[unroll]] for (uint i = 0; i < SLICES * 8; i++)
            acc[h * SLICES * 8 + i] *= fade;
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            float w = score[h * TOKENS + t] > HIDDEN ? exp(score[h * TOKENS + t] - best) : 0.0;
            score[h * TOKENS + t] = w;
            sum[h] += w;
        }
    }
    [[unroll]] for (uint t = 0; t < TOKENS; t++)
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            float v[8];
            LOAD_SLICE(v_pages, slot, (t0 + t) % KV_PAGE_TOKENS, s * SUBGROUP + lane, v)
            bool seen = t0 + t >= low && t0 + t <= high; // pages may hold anything beyond
            [[unroll]] for (uint h = 0; h < HEADS; h++)
                [[unroll]] for (uint i = 0; i < 8; i++)
                    acc[(h * SLICES + s) * 8 + i] =
                        mac(acc[(h * SLICES + s) * 8 + i], score[h * TOKENS + t], seen ? v[i] : 0.0);
        }
}

// A slice's 8 values as q8: blocks of 32 are four neighbouring lanes.
void put_q8(uint row, uint k, float v[8], bool mine)
{
    float m = 0;
    [[unroll]] for (uint i = 0; i < 8; i++)
        m = max(m, abs(v[i]));
    m = max(m, subgroupShuffleXor(m, 1));
    m = max(m, subgroupShuffleXor(m, 2));
    float inv = m > 0 ? 127.0 / m : 0;
    ivec4 a = ivec4(roundEven(vec4(v[0], v[1], v[2], v[3]) * inv));
    ivec4 b = ivec4(roundEven(vec4(v[4], v[5], v[6], v[7]) * inv));
    float total = float(a.x + a.y + a.z + a.w + b.x + b.y + b.z + b.w);
    total += subgroupShuffleXor(total, 1);
    if (!mine)
        return;
    uint at = (row * p.outq_stride + k / 128 * Q8_GROUP_QUADS) * 4, in_group = k % 128;
    out_q8[at + in_group / 4] = pack_bytes(a);
    out_q8[at + in_group / 4 + 1] = pack_bytes(b);
    if (in_group % 32 == 0)
        out_q8[at + 32 + in_group / 32] = floatBitsToUint(m / 127.0);
    if (in_group % 16 == 0)
        out_q8[at + 36 + in_group % 32 / 16 * 4 + in_group / 32] = floatBitsToUint(total);
}

void put_out(uint row, uint head0)
{
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            uint d = (s * SUBGROUP + lane) * 8;
            bool mine = d < p.head_dim && head0 + h < p.n_head;
            float v[8];
            [[unroll]] for (uint i = 0; i < 8; i++)
                v[i] = acc[(h * SLICES + s) * 8 + i] / sum[h];
            uint k = (head0 + h) * p.head_dim + d;
            if ((MODE & ATTN_TO_Q8) != 0)
                put_q8(row, k, v, mine);
            else if (mine)
                [[unroll]] for (uint i = 0; i < 8; i++)
                    out_f32[row * p.out_stride + k + i] = v[i];
        }
}

void put_partial(uint row, uint head0, uint split)
{
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        if (head0 + h >= p.n_head)
            continue;
        uint at = ((row * p.n_head + head0 + h) * p.max_splits + split) * (p.kv_dim + 2);
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            uint d = (s * SUBGROUP + lane) * 8;
            if (d < p.kv_dim)
                [[unroll]] for (uint i = 0; i < 8; i++)
                    partials[at + d + i] = acc[(h * SLICES + s) * 8 + i];
        }
        if (lane == 0) {
            partials[at + p.kv_dim] = top[h];
            partials[at + p.kv_dim + 1] = sum[h];
        }
    }
}

void main()
{
    uint per_kv = p.n_head / p.n_kv, chunks = (per_kv + HEADS - 1) / HEADS;
    uint kv_head = gl_WorkGroupID.x / chunks, row = gl_WorkGroupID.y, split = gl_WorkGroupID.z;
    uint head0 = kv_head * per_kv + gl_WorkGroupID.x % chunks * HEADS;
    uint high = STEP_ROW(row, ROW_POS), first_page = STEP_ROW(row, ROW_PAGES);
    uint low = p.window > 0 && high + 1 > p.window ? high + 1 - p.window : 0;
    uint first_split = low / p.split_tokens, last_split = high / p.split_tokens;
    if (split < first_split || split > last_split)
        return;

    [[unroll]] for (uint i = 0; i < HEADS * SLICES * 8; i++)
        acc[i] = 0;
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        top[h] = HIDDEN;
        sum[h] = 0;
    }
    load_q(row, head0);
    uint from = max(low / TOKENS * TOKENS, split * p.split_tokens);
    uint end = min(high + 1, (split + 1) * p.split_tokens);
    for (uint t = from; t < end; t += TOKENS) {
        uint slot = pages[first_page + t / KV_PAGE_TOKENS] * p.n_kv + kv_head;
        run(slot, t, low, high);
    }
    if (first_split == last_split)
        put_out(row, head0);
    else
        put_partial(row, head0, split);
}
