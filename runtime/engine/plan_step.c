/* What a step asks of its plan. */
#include "runtime/engine/plan.h"

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

uint32_t plan_rows_in_span(const struct plan *p, uint64_t seen, uint32_t from, uint32_t most)
{
    uint32_t n = 0;
    while (n < most && (seen += from + n + 1) <= p->step_span)
        n++;
    return n;
}

void plan_groups(const struct plan_launch *l, uint32_t cols, uint32_t n_rows, uint32_t n_out,
                 uint32_t n_splits, uint32_t groups[3])
{
    const uint32_t by_dim[] = {
        [DIM_ROWS] = n_rows,
        [DIM_TILES] = ceil_div(n_rows, cols),
        [DIM_OUT] = n_out,
        [DIM_OUT_TILES] = ceil_div(n_out, cols),
        [DIM_SPLITS] = n_splits,
        [DIM_JOIN] = n_splits > 1 ? n_rows : 0,
    };
    for (int i = 0; i < 3; i++)
        groups[i] = l->dim[i] == DIM_FIXED ? l->groups[i] : by_dim[l->dim[i]];
}
