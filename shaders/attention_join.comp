#version 450
// Joins the partials of a row whose timeline took more than one split, in ascending order of splits; rows
// with one split are left alone. One workgroup does one head of one row; a lane does whole blocks of 32.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

PUSH_BLOCK(PUSH_ATTENTION);
FLOATS_IN(1, partials);
FLOATS_OUT(2, out_f32);

void main()
{
    uint head = GROUP_X, row = gl_WorkGroupID.y;
    uint high = STEP_ROW(row, ROW_POS);
    uint low = p.window > 0 && high + 1 > p.window ? high + 1 - p.window : 0;
    uint first = low / p.split_tokens, last = high / p.split_tokens;
    if (first == last)
        return;
    uint base = (row * p.n_head + head) * p.max_splits, stride = p.kv_dim + 2;
    float best = -3.0e38;
    for (uint s = first; s <= last; s++)
        best = max(best, partials[(base + s) * stride + p.kv_dim]);
    precise float sum = 0;
    for (uint s = first; s <= last; s++)
        sum += partials[(base + s) * stride + p.kv_dim + 1] *
               exp(partials[(base + s) * stride + p.kv_dim] - best);

    uint local = gl_WorkGroupSize.x;
    for (uint d = gl_LocalInvocationID.x * 32; d < p.head_dim; d += local * 32) {
        float v[32];
        for (uint i = 0; i < 32; i++)
            v[i] = 0;
        for (uint s = first; s <= last; s++) {
            float w = exp(partials[(base + s) * stride + p.kv_dim] - best);
            for (uint i = 0; i < 32; i++)
                v[i] = mac(v[i], partials[(base + s) * stride + d + i], w); // kv_dim % 32 is 0
        }
        for (uint i = 0; i < 32; i++)
            if (d + i < p.head_dim)
                out_f32[row * p.out_stride + head * p.head_dim + d + i] = v[i] / sum;
    }
}
