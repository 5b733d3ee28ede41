#version 450
// x[row] = scale * W[token[row]]: one lane does one block of 32 inputs.
// Also the device's decoder of every type: with scale 1 it must agree bit for bit with the C decoder.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

PUSH_BLOCK(PUSH_EMBED);
QUADS(1, weights);
FLOATS_OUT(2, x);
#include "weights.glsl"

void main()
{
    uint kb = GROUP_X * gl_WorkGroupSize.x + gl_LocalInvocationID.x, row = gl_WorkGroupID.y;
    uint token = STEP_ROW(row, ROW_TOKEN) - p.first;
    if (kb >= p.n_kb || token >= p.m)
        return;
    uint ob = token / 32 * 2 + token / 2 % 2, lane = token % 32 / 4, h = token % 2; // ORDER_QUADS
    uint to = row * p.x_stride + kb * 32;
    lane_at at = lane_begin(ob, lane);
#if defined(TYPE_F32)
    [[unroll]] for (uint i = 0; i < 8; i++) {
        vec4 v = uintBitsToFloat(float_quad(at, kb * 8 + i, h));
        [[unroll]] for (uint t = 0; t < 4; t++)
            x[to + 4 * i + t] = v[t] * p.scale;
    }
#elif defined(TYPE_F16) || defined(TYPE_BF16)
    [[unroll]] for (uint i = 0; i < 4; i++) {
        uvec4 v = float_quad(at, kb * 4 + i, h);
        [[unroll]] for (uint t = 0; t < 4; t++) {
            vec2 two = two_floats(v[t]) * p.scale;
            x[to + 8 * i + 2 * t] = two.x;
            x[to + 8 * i + 2 * t + 1] = two.y;
        }
    }
#else
    uint a[8], b[8];
    FETCH_PLANE(PLANE_A, at.a, kb, a)
    FETCH_PLANE(PLANE_B, at.b, kb, b)
    scale_words sw = fetch_scales(at, kb / 4);
    [[unroll]] for (uint part = 0; part < 2; part++) {
        vec2 s = scale_of(sw, kb & 3, h, part);
        [[unroll]] for (uint k = 0; k < 16; k++) { // counted from 0: else it stays a loop
            uint i = part * 16 + k;
            uint q = PLANE_PAIR(PLANE_A, a, 0, i);
#if PLANE_B
            q += PLANE_PAIR(PLANE_B, b, 0, i) << SHIFT_B;
#endif
            precise float w = s.x * float(int(q >> (16 * h) & 0xFFFFu) - ZERO);
#ifdef HAS_MIN
            w += s.y;
#endif
            x[to + i] = w * p.scale;
        }
    }
#endif
}
