#version 450
// RMSNorm (Zhang & Sennrich 2019), LayerNorm (Ba et al. 2016), or neither, of one row a workgroup, to f32,
// to q8, or added to a residual stream. A lane does whole blocks of 32; sums are kept per block and added
// in index order, so that the bits depend on n alone.
#extension GL_GOOGLE_include_directive : enable
#include "common.glsl"

PUSH_BLOCK(PUSH_NORM);
QUADS(1, x);
QUADS(2, weights); // n weights, then n biases
FLOATS_OUT(3, y);
WORDS_OUT(4, q8);

#define MAX_BLOCKS 2048
shared float partial[(MODE & (NM_RMS | NM_LAYER)) != 0 ? MAX_BLOCKS : 1];

vec4 load_x(uint row, uint i4)
{
    return uintBitsToFloat(QUAD(x, row * (p.x_stride / 4) + i4));
}

float sum_partials(uint n_blocks)
{
    barrier();
    precise float sum = 0;
    for (uint b = 0; b < n_blocks; b++)
        sum += partial[b];
    barrier();
    return sum;
}

void main()
{
    uint row = GROUP_X, from = row;
    if ((MODE & NM_GATHER) != 0)
        from = step_words[STEP_OUT + row];
    uint n_blocks = p.n / 32, lane = gl_LocalInvocationID.x, local = gl_WorkGroupSize.x;
    float mean = 0, scale = 1;

    if ((MODE & NM_LAYER) != 0) {
        for (uint b = lane; b < n_blocks; b += local) {
            precise float s = 0;
            [[unroll]] for (uint i = 0; i < 8; i++) {
                vec4 v = load_x(from, b * 8 + i);
                s += (v.x + v.y) + (v.z + v.w);
            }
            partial[b] = s;
        }
        mean = sum_partials(n_blocks) / float(p.n_row);
    }
    if ((MODE & (NM_RMS | NM_LAYER)) != 0) {
        for (uint b = lane; b < n_blocks; b += local) {
            precise float s = 0;
            [[unroll]] for (uint i = 0; i < 8; i++) {
                vec4 v = load_x(from, b * 8 + i) - mean;
                if ((MODE & NM_LAYER) != 0)
                    [[unroll]] for (uint t = 0; t < 4; t++)
                        v[t] = b * 32 + i * 4 + t < p.n_row ? v[t] : 0.0;
                s += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
            }
            partial[b] = s;
        }
        scale = 1.0 / sqrt(sum_partials(n_blocks) / float(p.n_row) + p.eps);
    }

    for (uint b = lane; b < n_blocks; b += local) {
        vec4 v[8];
        float top = 0;
        [[unroll]] for (uint i = 0; i < 8; i++) {
            v[i] = (load_x(from, b * 8 + i) - mean) * scale;
            if ((MODE & (NM_RMS | NM_LAYER)) != 0)
                v[i] *= uintBitsToFloat(QUAD(weights, b * 8 + i));
            if ((MODE & NM_BIAS) != 0)
                v[i] += uintBitsToFloat(QUAD(weights, (n_blocks + b) * 8 + i));
            v[i] *= p.scale;
            top = max(top, max(max(abs(v[i].x), abs(v[i].y)), max(abs(v[i].z), abs(v[i].w))));
        }
        if ((MODE & (NM_TO_F32 | NM_ADD)) != 0)
            [[unroll]] for (uint i = 0; i < 8; i++)
                [[unroll]] for (uint t = 0; t < 4; t++) {
                    uint at = row * p.y_stride + b * 32 + i * 4 + t;
                    if ((MODE & NM_ADD) != 0)
                        y[at] += v[i][t];
                    else
                        y[at] = v[i][t];
                }
        if ((MODE & NM_TO_Q8) != 0) {
            float dx = q8_scale(top), inv = q8_inverse(top);
            uint at = (row * p.q_stride + b / 4 * Q8_GROUP_QUADS) * 4, j = b & 3;
            vec2 sums = vec2(0);
            [[unroll]] for (uint i = 0; i < 8; i++) {
                ivec4 q = ivec4(roundEven(v[i] * inv));
                sums[i / 4] += float(q.x + q.y + q.z + q.w);
                q8[at + j * 8 + i] = pack_bytes(q);
            }
            q8[at + 32 + j] = floatBitsToUint(dx);
            q8[at + 36 + j] = floatBitsToUint(sums.x);
            q8[at + 40 + j] = floatBitsToUint(sums.y);
        }
    }
}
