// What every kernel begins with: the two load paths, and names for the specialisation constants.
//
// QUADS(binding, name) declares read-only quads and QUAD(name, i) loads one: a texel view on CPU
// devices (lavapipe compiles texelFetch to straight vector code, and storage loads in control flow to a
// loop over lanes), a storage buffer on GPUs.
#extension GL_EXT_control_flow_attributes : enable
#extension GL_KHR_shader_subgroup_basic : enable
#extension GL_KHR_shader_subgroup_shuffle : enable
#include "push.h"

layout(local_size_x_id = SPEC_LOCAL, local_size_y = 1, local_size_z = 1) in;
layout(constant_id = SPEC_COLS) const uint COLS = 1;
layout(constant_id = SPEC_BLOCKS) const uint BLOCKS = 1;
layout(constant_id = SPEC_MODE) const uint MODE = 0;
layout(constant_id = SPEC_SUBGROUP) const uint SUBGROUP = 8;
layout(constant_id = SPEC_KPARTS) const uint KPARTS = 1;
layout(constant_id = SPEC_PASSES) const uint PASSES = 1;
layout(constant_id = SPEC_TAIL) const uint TAIL = 0;

// The push constants, and the workgroup's place in the whole launch, of which this may be a share.
#define PUSH_BLOCK(members)                                                                        \
    layout(push_constant) uniform Push                                                             \
    {                                                                                              \
        members                                                                                    \
        layout(offset = PUSH_SHARE) uint share_;                                                     \
    } p
#define GROUP_X (gl_WorkGroupID.x + (p.share_ & 0xFFFFu))
#define GROUP_Y (gl_WorkGroupID.y * (1 + (p.share_ >> 24)) + (p.share_ >> 16 & 0xFFu))

#if TEXEL
#define QUADS(b, name) layout(set = 0, binding = b) uniform usamplerBuffer name
#define QUAD(name, i) texelFetch(name, int(i))
#else
#define QUADS(b, name)                                                                             \
    layout(set = 0, binding = b, std430) readonly buffer name##_binding { uvec4 name[]; }
#define QUAD(name, i) name[i]
#endif
#define WORDS_IN(b, name)                                                                          \
    layout(set = 0, binding = b, std430) readonly buffer name##_binding { uint name[]; }
#define WORDS_OUT(b, name)                                                                         \
    layout(set = 0, binding = b, std430) buffer name##_binding { uint name[]; }
#define FLOATS_IN(b, name)                                                                         \
    layout(set = 0, binding = b, std430) readonly buffer name##_binding { float name[]; }
#define FLOATS_OUT(b, name)                                                                        \
    layout(set = 0, binding = b, std430) buffer name##_binding { float name[]; }

WORDS_IN(0, step_words);
#define STEP_ROW(row, word) step_words[STEP_ROWS + (row) * STEP_ROW_WORDS + (word)]

// Scale of a q8 block whose largest magnitude is `top`, and the scale's inverse.
float q8_scale(float top)
{
    return top > Q8_LEAST ? top / 127.0 : 0.0;
}
float q8_inverse(float top)
{
    return top > Q8_LEAST ? 127.0 / top : 0.0;
}

uint pack_bytes(ivec4 v)
{
    return uint(v.x & 255) | uint(v.y & 255) << 8 | uint(v.z & 255) << 16 | uint(v.w) << 24;
}

// Writes block kb of a q8 row that begins at word `to`: lane r (0..7) of eight neighbours has inputs 4r..4r+3.
#define PUT_Q8(q8, to, kb, lane, value)                                                            \
    {                                                                                              \
        uint at_ = (to) + (kb) / 4 * (Q8_GROUP_QUADS * 4), j_ = (kb) % 4;                          \
        vec4 v_ = value, size_ = abs(v_);                                                          \
        float top_ = max(max(size_.x, size_.y), max(size_.z, size_.w));                            \
        top_ = max(top_, subgroupShuffleXor(top_, 1));                                             \
        top_ = max(top_, subgroupShuffleXor(top_, 2));                                             \
        top_ = max(top_, subgroupShuffleXor(top_, 4));                                             \
        ivec4 q_ = ivec4(roundEven(v_ * q8_inverse(top_)));                                        \
        int sum_ = q_.x + q_.y + q_.z + q_.w;                                                      \
        sum_ += subgroupShuffleXor(sum_, 1);                                                       \
        sum_ += subgroupShuffleXor(sum_, 2);                                                       \
        q8[at_ + j_ * 8 + lane] = pack_bytes(q_);                                                  \
        if ((lane & 3) == 0) /* lane 0 has the first half's sum, 4 the second's */                 \
            q8[at_ + 36 + lane + j_] = floatBitsToUint(float(sum_));                               \
        if (lane == 0)                                                                             \
            q8[at_ + 32 + j_] = floatBitsToUint(q8_scale(top_));                                   \
    }

// a + b * c in two roundings everywhere: what keeps the bits of a sum the same in every variant.
float mac(float a, float b, float c)
{
    precise float r = a + b * c;
    return r;
}

// Over the lanes of the subgroup; every lane gets the result.
// Written out: a loop over doubling distances stays a loop in some compilers, and then everything around
// it is indexed at run time.
#define OVER_LANES(v, op)                                                                          \
    if (SUBGROUP > 1) v = op(v, subgroupShuffleXor(v, 1));                                         \
    if (SUBGROUP > 2) v = op(v, subgroupShuffleXor(v, 2));                                         \
    if (SUBGROUP > 4) v = op(v, subgroupShuffleXor(v, 4));                                         \
    if (SUBGROUP > 8) v = op(v, subgroupShuffleXor(v, 8));                                         \
    if (SUBGROUP > 16) v = op(v, subgroupShuffleXor(v, 16));                                       \
    if (SUBGROUP > 32) v = op(v, subgroupShuffleXor(v, 32));
#define PLUS(a, b) ((a) + (b))

float max_lanes(float v)
{
    OVER_LANES(v, max)
    return v;
}

float add_lanes(float v)
{
    OVER_LANES(v, PLUS)
    return v;
}
