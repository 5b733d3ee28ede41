#version 450
// Rotary position embedding (Su et al. 2021) of the q and k heads of one row, after an optional RMS norm
// of each head (Qwen3, Gemma 3), and the write of K and V into their pages. One workgroup does one head.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

PUSH_BLOCK(PUSH_ROPE);
FLOATS_IN(1, qkv);
FLOATS_IN(2, table);
FLOATS_IN(3, norms);
WORDS_IN(4, pages);
FLOATS_OUT(5, q_out);
WORDS_OUT(6, k_pages);
WORDS_OUT(7, v_pages);

#define MAX_HEAD 512
shared float head[MAX_HEAD];
shared float partial[1024];

uint lane = gl_LocalInvocationID.x, local = gl_WorkGroupSize.x;

void norm_head(uint weights)
{
    precise float s = 0;
    for (uint i = lane; i < p.head_dim; i += local)
        s += head[i] * head[i];
    partial[lane] = s;
    barrier();
    precise float sum = 0;
    for (uint i = 0; i < local; i++)
        sum += partial[i];
    float scale = 1.0 / sqrt(sum / float(p.head_dim) + p.eps);
    for (uint i = lane; i < p.head_dim; i += local)
        head[i] = head[i] * scale * norms[weights + i];
    barrier();
}

void rotate(uint pos)
{
    uint half_rot = p.n_rot / 2;
    for (uint i = lane; i < half_rot; i += local) {
        uint a = (MODE & ROPE_NEOX) != 0 ? i : 2 * i;
        uint b = (MODE & ROPE_NEOX) != 0 ? i + half_rot : 2 * i + 1;
        float c = table[(pos * half_rot + i) * 2], s = table[(pos * half_rot + i) * 2 + 1];
        float x = head[a], y = head[b];
        head[a] = x * c - y * s;
        head[b] = x * s + y * c;
    }
    barrier();
}

#define PUT(to, at, value)                                                                         \
    if (is_k)                                                                                      \
        k_pages[at] = value;                                                                       \
    else                                                                                           \
        v_pages[at] = value;

void write_kv(uint row, uint pos, uint kv_head, bool is_k)
{
    uint page = pages[STEP_ROW(row, ROW_PAGES) + pos / KV_PAGE_TOKENS], t = pos % KV_PAGE_TOKENS;
    uint slot = page * p.n_kv + kv_head;
    if ((MODE & KVT_MASK) == KVT_F16) {
        uint at = (slot * KV_PAGE_TOKENS + t) * p.kv_dim / 2;
        for (uint i = lane; i < p.kv_dim / 2; i += local) {
            uint two = packHalf2x16(vec2(head[2 * i], head[2 * i + 1]));
            PUT(k_pages, at + i, two)
        }
    } else if ((MODE & KVT_MASK) == KVT_F32) {
        uint at = (slot * KV_PAGE_TOKENS + t) * p.kv_dim;
        for (uint i = lane; i < p.kv_dim; i += local) {
            uint bits = floatBitsToUint(head[i]);
            PUT(k_pages, at + i, bits)
        }
    } else {
        uint words = KV_PAGE_TOKENS * p.kv_dim / 4 + KV_PAGE_TOKENS * p.kv_dim / 32;
        uint at = slot * words + t * p.kv_dim / 4;
        uint scale_at = slot * words + KV_PAGE_TOKENS * p.kv_dim / 4 + t * p.kv_dim / 32;
        for (uint b = lane; b < p.kv_dim / 32; b += local) {
            float top = 0;
            for (uint i = 0; i < 32; i++)
                top = max(top, abs(head[b * 32 + i]));
            float inv = q8_inverse(top);
            for (uint i = 0; i < 8; i++) {
                vec4 v = vec4(head[b * 32 + 4 * i], head[b * 32 + 4 * i + 1], head[b * 32 + 4 * i + 2],
                              head[b * 32 + 4 * i + 3]);
                uint four = pack_bytes(ivec4(roundEven(v * inv)));
                PUT(k_pages, at + b * 8 + i, four)
            }
            uint bits = floatBitsToUint(q8_scale(top));
            PUT(k_pages, scale_at + b, bits)
        }
    }
}

void main()
{
    uint h = GROUP_X, row = gl_WorkGroupID.y;
    uint pos = STEP_ROW(row, ROW_POS);
    bool is_q = h < p.n_head, is_k = !is_q && h < p.n_head + p.n_kv;
    for (uint i = lane; i < p.kv_dim; i += local)
        head[i] = i < p.head_dim ? qkv[row * p.qkv_stride + h * p.head_dim + i] : 0.0;
    barrier();
    if (is_q || is_k) {
        if ((MODE & ROPE_QKNORM) != 0)
            norm_head(is_q ? 0 : p.head_dim);
        rotate(pos);
    }
    if (is_q) {
        for (uint i = lane; i < p.kv_dim; i += local)
            q_out[row * p.q_stride + h * p.kv_dim + i] = head[i] * p.q_scale;
    } else {
        write_kv(row, pos, (h - p.n_head) % p.n_kv, is_k);
    }
}
