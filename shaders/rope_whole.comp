#version 450
// rope.comp for the common case: the whole head is rotated (n_rot = head_dim, a multiple of 8) and pages
// are f16 or f32. No shared memory: a lane holds 4 pairs at a time, that is 8 dimensions, SPEC_COLS times.
// The workgroup is one subgroup and does one head of one row.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

PUSH_BLOCK(PUSH_ROPE);
QUADS(1, qkv);
QUADS(2, table);
QUADS(3, norms);
WORDS_IN(4, pages);
FLOATS_OUT(5, q_out);
WORDS_OUT(6, k_pages);
WORDS_OUT(7, v_pages);

#define SLICES COLS

vec4 a[SLICES], b[SLICES]; // NeoX: dimensions 4u.. and half + 4u..; else 8u.. and 8u + 4..
uint lane = gl_SubgroupInvocationID;

uint slices()
{
    return p.head_dim / 8;
}

// Index of the first of a's and of b's 4 dimensions, for slice u; beyond the head lies the padding.
uvec2 dims(uint u)
{
    return (MODE & ROPE_NEOX) != 0 && u < slices() ? uvec2(4 * u, p.head_dim / 2 + 4 * u) : uvec2(8 * u, 8 * u + 4);
}

void load(uint row, uint head)
{
    [[unroll]] for (uint s = 0; s < SLICES; s++) {
        uint u = s * SUBGROUP + lane;
        uvec2 d = dims(min(u, slices() - 1));
        uint at = row * p.qkv_stride + head * p.head_dim;
        bool keep = u < slices();
        a[s] = keep ? uintBitsToFloat(QUAD(qkv, (at + d.x) / 4)) : vec4(0);
        b[s] = keep ? uintBitsToFloat(QUAD(qkv, (at + d.y) / 4)) : vec4(0);
    }
}

void norm_head(uint weights)
{
    float sum = 0;
    [[unroll]] for (uint s = 0; s < SLICES; s++)
        sum += dot(a[s], a[s]) + dot(b[s], b[s]);
    sum = add_lanes(sum);
    float scale = 1.0 / sqrt(sum / float(p.head_dim) + p.eps);
    [[unroll]] for (uint s = 0; s < SLICES; s++) {
        uvec2 d = dims(min(s * SUBGROUP + lane, slices() - 1));
        a[s] *= scale * uintBitsToFloat(QUAD(norms, (weights + d.x) / 4));
        b[s] *= scale * uintBitsToFloat(QUAD(norms, (weights + d.y) / 4));
    }
}

void rotate(uint pos)
{
    [[unroll]] for (uint s = 0; s < SLICES; s++) {
        uint u = min(s * SUBGROUP + lane, slices() - 1), at = (pos * (p.head_dim / 2) + 4 * u) / 2;
        vec4 t0 = uintBitsToFloat(QUAD(table, at)), t1 = uintBitsToFloat(QUAD(table, at + 1));
        vec4 c = vec4(t0.xz, t1.xz), n = vec4(t0.yw, t1.yw);
        if ((MODE & ROPE_NEOX) != 0) {
            vec4 x = a[s];
            a[s] = x * c - b[s] * n;
            b[s] = x * n + b[s] * c;
        } else {
            vec4 x = vec4(a[s].xz, b[s].xz), y = vec4(a[s].yw, b[s].yw);
            vec4 rx = x * c - y * n, ry = x * n + y * c;
            a[s] = vec4(rx.x, ry.x, rx.y, ry.y);
            b[s] = vec4(rx.z, ry.z, rx.w, ry.w);
        }
    }
}

void write_q(uint to)
{
    [[unroll]] for (uint s = 0; s < SLICES; s++) {
        uint u = s * SUBGROUP + lane;
        uvec2 d = dims(u);
        if (u < p.kv_dim / 8)
            [[unroll]] for (uint i = 0; i < 4; i++) {
                q_out[to + d.x + i] = a[s][i] * p.q_scale;
                q_out[to + d.y + i] = b[s][i] * p.q_scale;
            }
    }
}

#define WRITE_KV(buf, to)                                                                          \
    [[unroll]] for (uint s = 0; s < SLICES; s++) {                                                 \
        uint u = s * SUBGROUP + lane;                                                              \
        uvec2 d = dims(u);                                                                         \
        if (u < p.kv_dim / 8) {                                                                    \
            if ((MODE & KVT_MASK) == KVT_F16) {                                                    \
                buf[(to + d.x) / 2] = packHalf2x16(a[s].xy);                                       \
                buf[(to + d.x) / 2 + 1] = packHalf2x16(a[s].zw);                                   \
                buf[(to + d.y) / 2] = packHalf2x16(b[s].xy);                                       \
                buf[(to + d.y) / 2 + 1] = packHalf2x16(b[s].zw);                                   \
            } else {                                                                               \
                [[unroll]] for (uint i = 0; i < 4; i++) {                                          \
                    buf[to + d.x + i] = floatBitsToUint(a[s][i]);                                  \
                    buf[to + d.y + i] = floatBitsToUint(b[s][i]);                                  \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

void main()
{
    uint h = GROUP_X, row = gl_WorkGroupID.y;
    uint pos = STEP_ROW(row, ROW_POS);
    uint page = pages[STEP_ROW(row, ROW_PAGES) + pos / KV_PAGE_TOKENS];
    uint kv_head = (h - p.n_head) % p.n_kv;
    uint to = ((page * p.n_kv + kv_head) * KV_PAGE_TOKENS + pos % KV_PAGE_TOKENS) * p.kv_dim;
    load(row, h);
    if (h < p.n_head + p.n_kv) {
        if ((MODE & ROPE_QKNORM) != 0)
            norm_head(h < p.n_head ? 0 : p.head_dim);
        rotate(pos);
    }
    if (h < p.n_head) {
        write_q(row * p.q_stride + h * p.kv_dim);
    } else if (h < p.n_head + p.n_kv) {
        WRITE_KV(k_pages, to)
    } else {
        WRITE_KV(v_pages, to)
    }
}
