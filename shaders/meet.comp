#version 450
// A barrier between the members of a team (runtime/gpu/gpu_team.c), each of which runs this on a thread of
// its own. Only for those: on a GPU nothing promises that the others run. Mesa ends a loop after 65536
// turns (some milliseconds): then it goes on in the workgroups of a second launch, and of a third, whose
// numbers this leaves behind. Those that come after all have arrived cost time: 64, then 65535.
#extension GL_GOOGLE_include_directive : enable
#extension GL_KHR_shader_subgroup_basic : enable
#extension GL_KHR_shader_subgroup_shuffle : enable
#include "push.h"

layout(local_size_x_id = SPEC_LOCAL, local_size_y = 1, local_size_z = 1) in;
layout(push_constant) uniform Push { PUSH_MEET } p;
layout(set = 0, binding = 0, std430) coherent buffer words_binding { uint words[]; };

// What one lane does, all lanes know: lanes that are masked off would keep a loop going.
uint of_lane_0(uint v)
{
    return subgroupShuffle(v, 0);
}

void main()
{
    bool one = gl_LocalInvocationID.x == 0;
    uint own = MEET_MEMBERS + p.member * MEET_MEMBER_WORDS, all = 0, n = 0, turns = 0;
    if (one) {
        if (p.again == 0) {
            uint ticket = atomicAdd(words[MEET_ARRIVED], 1);
            words[own + MEET_GOAL] = ticket - ticket % p.members + p.members;
        }
        all = words[own + MEET_GOAL];
    }
    all = of_lane_0(all);
    do {
        if (one)
            n = atomicAdd(words[MEET_RELEASED], 0) != 0 ? all : atomicAdd(words[MEET_ARRIVED], 0);
        n = of_lane_0(n);
    } while (int(n - all) < 0 && ++turns < 60000);
    bool waits = int(n - all) < 0;
    if (one && p.again == 0) {
        words[own] = waits ? 64u : 0u;
        words[own + 1] = words[own + 2] = words[own + 5] = words[own + 6] = 1u;
    }
    if (one && p.again < 2)
        words[own + 4] = p.again == 1 && waits ? 65535u : 0u;
}
