/* meet: a team of one goes on at once; one of two, when it is released. (A whole team: tests/unit/gpu_test.c
 * and all that runs on a software device.) */
#include "tests/check_kernels/judge.h"

void check_meet(struct judge *j)
{
    static const struct {
        uint32_t members, arrived, released, again;
    } cases[] = { { 1, 0, 0, 0 }, { 1, 41, 0, 0 }, { 2, 1, 0, 0 }, { 3, 5, 0, 0 }, { 2, 0, 1, 0 },
                  { 2, UINT32_MAX, 0, 0 }, { 2, 2, 0, 1 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c = { .spec = { [SPEC_LOCAL] = j->info->subgroup },
                          .push = &(struct push_meet){ cases[i].members, 0, cases[i].again },
                          .groups = { 1, 1, 1 } };
        judge_case(j, "%u members, %u arrived, released %u", cases[i].members, cases[i].arrived,
                   cases[i].released);
        uint32_t *words = call_bind(j, &c, 0, 48);
        words[MEET_ARRIVED] = cases[i].arrived;
        words[MEET_RELEASED] = cases[i].released;
        words[MEET_MEMBERS + MEET_GOAL] = 2;
        if (call_run(j, &c))
            judge_floats(j, &c, 0, 12, NULL);
    }
}
