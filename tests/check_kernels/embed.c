/* embed: the device's decoder of every type. It, the twin, repack_unpack and the type's own decoder must
 * agree bit for bit, whatever the scales. */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"
#include "tests/check_kernels/judge.h"

struct shape {
    uint32_t k, m, rows, first;
    float scale;
    enum blocks how;
};
static const struct shape shapes[] = {
    { 32, 1, 1, 0, 1, SANE },          { 32, 70001, 5, 0, 1, SANE },      { 64, 33, 3, 0, 1, ANY_SCALE },
    { 256, 17, 2, 100, 1, ANY_SCALE }, { 256, 65552, 4, 0, 1, ANY_SCALE }, { 576, 40, 128, 8, 1, ANY_SCALE },
    { 1280, 19, 7, 0, 1, ANY_SCALE },  { 2048, 50, 3, 0, 37.5f, SANE },   { 4096, 16, 2, 0, 1, ALL_ONES },
    { 512, 31, 1, 0, 0.25f, EXTREME }, { 768, 16, 2, 0, 1, ALL_ZERO },
};

/* Twin's planes, unpacked planes and the type's decoder: one row. */
static void check_decoders(struct judge *j, const struct weights *w, const void *data, uint32_t row)
{
    const uint32_t *p = w->l.plane, plane[4] = { p[0], p[1], p[2], p[3] };
    struct planes planes = planes_of(j->kernel, data, plane, w->l.k / 32, NULL);
    float *want = judge_alloc(j, w->l.k * 4), *got[2];
    for (int i = 0; i < 2; i++)
        got[i] = judge_alloc(j, w->l.k * 4);
    weights_row(w, row, want);
    repack_unpack(w->type, &w->l, data, QUADS_PLACE(row), got[0]);
    for (uint32_t kb = 0; kb < w->l.k / 32; kb++)
        planes_decode(&planes, QUADS_PLACE(row), kb, got[1] + 32 * kb);
    for (uint32_t i = 0; i < w->l.k; i++)
        for (int which = 0; which < 2; which++)
            if (memcmp(&got[which][i], &want[i], 4) != 0 && !(isnan(want[i]) && isnan(got[which][i]))) {
                judge_fail(j, "%s: row %u weight %u: %a, not %a", which ? "twin" : "unpack", row, i,
                           (double)got[which][i], (double)want[i]);
                return;
            }
}

static void check_shape(struct judge *j, const struct shape *s, uint32_t local)
{
    struct call c = { .spec = { [SPEC_LOCAL] = local, [SPEC_SUBGROUP] = j->info->subgroup } };
    uint32_t *step = judge_step(j, &c, s->rows, 0), stride = s->k + 32;
    struct weights w = weights_make(j, kernel_type(j->kernel), s->k, s->m, s->how);
    weights_pack(j, &w, ORDER_QUADS, 0, call_bind(j, &c, 1, w.l.bytes));
    call_bind(j, &c, 2, (uint64_t)s->rows * stride * 4);
    for (uint32_t row = 0; row < s->rows; row++) {
        uint32_t *token = &step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_TOKEN];
        *token = row == 0 ? s->first : row == 1 ? s->first + s->m - 1 : s->first + judge_random(j) % s->m;
        if (row == 2) /* of other slices: these rows stay as they are */
            *token = s->first + s->m;
        if (row == 3)
            *token = s->first - 1;
        else if (row < 8 && *token - s->first < s->m)
            check_decoders(j, &w, c.bind[1].data, *token - s->first);
    }
    c.push = &(struct push_embed){ w.l.plane[0], w.l.plane[1], w.l.plane[2], w.l.plane[3], s->k / 32,
                                   s->first, s->m, stride, s->scale };
    c.groups[0] = (s->k / 32 + local - 1) / local;
    c.groups[1] = s->rows;
    c.groups[2] = 1;
    if (call_run(j, &c))
        judge_floats(j, &c, 2, c.bind[2].bytes / 4, NULL);
}

void check_embed(struct judge *j)
{
    const struct tensor_type *type = tensor_type_find(kernel_type(j->kernel));
    uint32_t locals[2] = { j->info->subgroup < 8 ? 8 : j->info->subgroup, 64 };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i];
        if (s->k % type->block_len)
            continue;
        judge_case(j, "k %u, m %u from %u, %u rows, blocks %d", s->k, s->m, s->first, s->rows, (int)s->how);
        check_shape(j, s, locals[i % 2]);
    }
}
