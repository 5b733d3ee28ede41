/* x[row] = scale * W[token[row]] */
#include "runtime/gpu/ref/ref_priv.h"

void ref_embed(const struct ref_call *c)
{
    const struct push_embed *p = c->push;
    const uint32_t plane[4] = { p->plane0, p->plane1, p->plane2, p->plane3 };
    struct planes w = planes_of(c->kernel, c->at[1], plane, p->n_kb, NULL);
    uint32_t n_kb = min_u32(p->n_kb, c->groups[0] * c->spec[SPEC_LOCAL]);
    for (uint32_t row = 0; row < c->groups[1]; row++) {
        float *x = (float *)c->at[2] + (size_t)row * p->x_stride;
        uint32_t token = step_row(c, row, ROW_TOKEN) - p->first;
        if (token >= p->m)
            continue; /* another slice has it */
        for (uint32_t kb = 0; kb < n_kb; kb++, x += 32) {
            planes_decode(&w, QUADS_PLACE(token), kb, x);
            for (int i = 0; i < 32; i++)
                x[i] *= p->scale;
        }
    }
}
