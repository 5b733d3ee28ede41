#version 450
// Attention of one row over one split of its timeline, for SPEC_BLOCKS heads that share a KV head: online
// softmax (Milakov & Gimelshein 2018; FlashAttention, Dao et al. 2022) over aligned runs of tokens, as many
// as the subgroup has lanes.
//
// Scores: each lane takes a token of the run and goes over the head's dimensions. Values: the lanes share
// the dimensions, 8 to a *slice*: lane l has slices l, l + SUBGROUP, ... (SPEC_COLS of them). So neither
// half needs a sum over lanes. The workgroup is one subgroup. Group x = kv head * chunks + chunk of heads,
// y = row, z = split. What a row computes depends on its position alone.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

PUSH_BLOCK(PUSH_ATTENTION);
QUADS(1, q);
QUADS(2, k_pages);
QUADS(3, v_pages);
WORDS_IN(4, pages);
FLOATS_OUT(5, out_f32);
FLOATS_OUT(6, partials);

#define SLICES COLS  // of a lane
#define HEADS BLOCKS // of a workgroup
#define ALL_SLICES KPARTS // of a head: kv_dim / 8
#define RUN (SUBGROUP < KV_PAGE_TOKENS ? SUBGROUP : KV_PAGE_TOKENS) // tokens; of one page
#define NIL (p.kv_dim >> 31) // zero that no compiler sees
#define HIDDEN -3.0e38 // score of a token that the row does not see

vec4 acc[HEADS * SLICES * 2];
vec4 q_reg[HEADS * SLICES * 2];
float top[HEADS], sum[HEADS];

uint lane = gl_SubgroupInvocationID;

// 8 elements of slice s of token t in its page's slot, as two vectors.
#define LOAD_SLICE(buf, slot, t, s, a, b)                                                          \
    if ((MODE & KVT_MASK) == KVT_F16) {                                                            \
        uvec4 w_ = QUAD(buf, ((slot) * KV_PAGE_TOKENS + (t)) * (p.kv_dim / 8) + (s));              \
        a = vec4(unpackHalf2x16(w_.x), unpackHalf2x16(w_.y));                                      \
        b = vec4(unpackHalf2x16(w_.z), unpackHalf2x16(w_.w));                                      \
    } else if ((MODE & KVT_MASK) == KVT_F32) {                                                     \
        uint at_ = ((slot) * KV_PAGE_TOKENS + (t)) * (p.kv_dim / 4) + 2 * (s);                     \
        a = uintBitsToFloat(QUAD(buf, at_));                                                       \
        b = uintBitsToFloat(QUAD(buf, at_ + 1));                                                   \
    } else {                                                                                       \
        uint quads_ = (KV_PAGE_TOKENS * p.kv_dim + KV_PAGE_TOKENS * p.kv_dim / 8) / 16;            \
        uint byte_ = (t) * p.kv_dim + (s) * 8;                                                     \
        uvec4 w_ = QUAD(buf, (slot) * quads_ + byte_ / 16);                                        \
        uint d_ = (t) * (p.kv_dim / 32) + (s) / 4;                                                 \
        float scale_ = uintBitsToFloat(                                                            \
            QUAD(buf, (slot) * quads_ + KV_PAGE_TOKENS * p.kv_dim / 16 + d_ / 4)[d_ & 3]);         \
        a = signed_bytes((byte_ & 8) == 0 ? w_.x : w_.z) * scale_;                                 \
        b = signed_bytes((byte_ & 8) == 0 ? w_.y : w_.w) * scale_;                                 \
    }

vec4 signed_bytes(uint w)
{
    return vec4(ivec4(int(w) << 24, int(w) << 16, int(w) << 8, int(w)) >> 24);
}

vec4 mac4(vec4 a, float b, vec4 c)
{
    precise vec4 r = a + b * c;
    return r;
}

void load_q(uint row, uint head0, uint n_heads)
{
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            uint slice = min(s * SUBGROUP + lane, ALL_SLICES - 1);
            uint at = (row * p.q_stride + (head0 + min(h, n_heads - 1)) * p.kv_dim) / 4 + 2 * slice;
            q_reg[(h * SLICES + s) * 2] = uintBitsToFloat(QUAD(q, at));
            q_reg[(h * SLICES + s) * 2 + 1] = uintBitsToFloat(QUAD(q, at + 1));
        }
}

// The run of tokens t0 .. t0 + RUN - 1, all of one page; those outside [low, high] count nothing.
void run(uint slot, uint t0, uint low, uint high)
{
    uint mine = t0 + lane % RUN;
    bool seen = lane < RUN && mine >= low && mine <= high;
    float score[HEADS];
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        score[h] = 0;
    [[unroll]] for (uint s = 0; s < ALL_SLICES; s++) { // constant lanes: a shuffle is one instruction
        vec4 a, b;
        LOAD_SLICE(k_pages, slot, mine % KV_PAGE_TOKENS, s, a, b)
        [[unroll]] for (uint h = 0; h < HEADS; h++) {
            vec4 qa = subgroupShuffle(q_reg[(h * SLICES + s / SUBGROUP) * 2], s % SUBGROUP);
            vec4 qb = subgroupShuffle(q_reg[(h * SLICES + s / SUBGROUP) * 2 + 1], s % SUBGROUP);
            [[unroll]] for (uint i = 0; i < 4; i++)
                score[h] = mac(score[h], qa[i], a[i]);
            [[unroll]] for (uint i = 0; i < 4; i++)
                score[h] = mac(score[h], qb[i], b[i]);
        }
    }
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        if ((MODE & ATTN_SOFTCAP) != 0)
            score[h] = p.softcap * tanh(score[h] / p.softcap);
        score[h] = seen ? score[h] : HIDDEN;
        float best = max(top[h], max_lanes(score[h]));
        float fade = exp(top[h] - best);
        top[h] = best;
        score[h] = seen ? exp(score[h] - best) : 0.0;
        sum[h] = sum[h] * fade + add_lanes(score[h]);
        [[unroll]] for (uint i = 0; i < SLICES * 2; i++)
            acc[h * SLICES * 2 + i] *= fade;
    }
    [[unroll]] for (uint t = 0; t < RUN; t++) {
        bool held = t0 + t >= low && t0 + t <= high; // pages may hold anything elsewhere
        float w[HEADS];
        [[unroll]] for (uint h = 0; h < HEADS; h++)
            w[h] = subgroupShuffle(score[h], t + NIL);
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            vec4 a, b;
            LOAD_SLICE(v_pages, slot, (t0 + t) % KV_PAGE_TOKENS, min(s * SUBGROUP + lane, ALL_SLICES - 1), a, b)
            a = held ? a : vec4(0);
            b = held ? b : vec4(0);
            [[unroll]] for (uint h = 0; h < HEADS; h++) {
                acc[(h * SLICES + s) * 2] = mac4(acc[(h * SLICES + s) * 2], w[h], a);
                acc[(h * SLICES + s) * 2 + 1] = mac4(acc[(h * SLICES + s) * 2 + 1], w[h], b);
            }
        }
    }
}

void put_out(uint row, uint head0, uint n_heads)
{
    [[unroll]] for (uint h = 0; h < HEADS; h++)
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            uint d = (s * SUBGROUP + lane) * 8;
            [[unroll]] for (uint i = 0; i < 8; i++)
                if (h < n_heads && d + i < p.head_dim)
                    out_f32[row * p.out_stride + (head0 + h) * p.head_dim + d + i] =
                        acc[(h * SLICES + s) * 2 + i / 4][i % 4] / sum[h];
        }
}

void put_partial(uint row, uint head0, uint n_heads, uint split)
{
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        uint at = ((row * p.n_head + head0 + h) * p.max_splits + split) * (p.kv_dim + 2);
        bool mine = h < n_heads;
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            uint d = (s * SUBGROUP + lane) * 8;
            if (mine && d < p.kv_dim)
                [[unroll]] for (uint i = 0; i < 8; i++)
                    partials[at + d + i] = acc[(h * SLICES + s) * 2 + i / 4][i % 4];
        }
        if (mine && lane == 0) {
            partials[at + p.kv_dim] = top[h];
            partials[at + p.kv_dim + 1] = sum[h];
        }
    }
}

void main()
{
    uint per_kv = p.n_head / p.n_kv, chunks = (per_kv + HEADS - 1) / HEADS;
    uint kv_head = GROUP_X / chunks, row = GROUP_Y, split = gl_WorkGroupID.z;
    uint first = GROUP_X % chunks * HEADS, n_heads = min(HEADS, per_kv - first);
    uint head0 = kv_head * per_kv + first;
    uint high = STEP_ROW(row, ROW_POS), first_page = STEP_ROW(row, ROW_PAGES);
    uint low = p.window > 0 && high + 1 > p.window ? high + 1 - p.window : 0;
    uint first_split = low / p.split_tokens, last_split = high / p.split_tokens;
    if (split < first_split || split > last_split)
        return;

    [[unroll]] for (uint i = 0; i < HEADS * SLICES * 2; i++)
        acc[i] = vec4(0);
    [[unroll]] for (uint h = 0; h < HEADS; h++) {
        top[h] = HIDDEN;
        sum[h] = 0;
    }
    load_q(row, head0, n_heads);
    uint from = max(low / RUN * RUN, split * p.split_tokens);
    uint end = min(high + 1, (split + 1) * p.split_tokens);
    for (uint t = from; t < end; t += RUN) {
        uint slot = pages[first_page + t / KV_PAGE_TOKENS] * p.n_kv + kv_head;
        run(slot, t, low, high);
    }
    if (first_split == last_split)
        put_out(row, head0, n_heads);
    else
        put_partial(row, head0, n_heads, split);
}
