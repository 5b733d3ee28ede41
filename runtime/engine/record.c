/* From a part of a program to commands: when a step first needs it, or before, when there is time. */
#include <string.h>

#include "runtime/engine/engine.h"

#define LAYERS_A_SEGMENT 4

enum err_code record_launch(struct model *m, struct gpu_command *c, struct gpu_buffer *args, size_t index,
                            const struct plan_launch *l, struct err *e)
{
    struct gpu_launch g = { .kernel = l->kernel, .push = l->push.bytes, .by_rows = l->by_rows };
    bool dynamic = false;
    memcpy(g.spec, l->spec, sizeof g.spec);
    memcpy(g.groups, l->groups, sizeof g.groups);
    for (size_t i = 0; kernel_info(l->kernel)->bindings[i]; i++)
        g.bind[i] = (struct gpu_bind){ m->buf[l->bind[i].buffer], l->bind[i].offset, l->bind[i].bytes };
    for (int i = 0; i < 3; i++)
        dynamic = dynamic || l->dim[i] != DIM_FIXED;
    if (l->dim[0] != DIM_FIXED)
        g.groups[0] = 0;
    if (dynamic) {
        g.indirect = args;
        g.indirect_offset = index * 12;
    }
    enum err_code code = gpu_command_launch(c, &g, e);
    return code == ERR_OK ? code : err_prefix(e, "%s", l->label);
}

static bool runs(enum part part, const struct plan_launch *l)
{
    return part != PART_SHORT || l->dim[1] != DIM_JOIN;
}

/* All kernels that it runs, made side by side. */
static enum err_code prepare(struct model *m, enum part part, struct recording *r, struct err *e)
{
    struct gpu_pipeline *p = mem_zero(r->n_launch, sizeof *p);
    if (!p)
        return err_no_memory(e, r->n_launch * sizeof *p, "a list of kernels");
    r->n_run = 0;
    for (size_t i = 0; i < r->n_launch; i++)
        if (runs(part, &r->launch[i])) {
            p[r->n_run].kernel = r->launch[i].kernel;
            memcpy(p[r->n_run++].spec, r->launch[i].spec, sizeof p->spec);
        }
    enum err_code code = gpu_prepare(m->rt->gpu, p, r->n_run, e);
    mem_free(p);
    return code;
}

/* Indices of launches where the commands of a part begin; the last entry is the end. */
static uint32_t cut(const struct plan_launch *l, size_t n, size_t *cuts)
{
    uint32_t n_cuts = 0;
    int32_t next = LAYERS_A_SEGMENT;
    cuts[n_cuts++] = 0;
    for (size_t i = 1; i < n; i++)
        if (l[i].layer >= next) {
            next = l[i].layer + LAYERS_A_SEGMENT;
            cuts[n_cuts++] = i;
        }
    cuts[n_cuts] = n;
    return n_cuts;
}

static enum err_code record_segment(struct model *m, enum part part, struct recording *r, size_t from, size_t to,
                                    struct err *e)
{
    struct gpu_command **c = &r->segment[r->n];
    enum err_code code = gpu_command_create(m->rt->gpu, c, e);
    r->n += code == ERR_OK;
    for (size_t i = from; i < to && code == ERR_OK; i++)
        if (runs(part, &r->launch[i]))
            code = record_launch(m, *c, r->args, i, &r->launch[i], e);
    return code == ERR_OK ? gpu_command_end(*c, e) : code;
}

static enum err_code record(struct model *m, enum part part, struct recording *r, struct err *e)
{
    size_t cuts[HPARAMS_MAX_LAYERS + 2];
    uint32_t n_cuts = cut(r->launch, r->n_launch, cuts);
    enum err_code code = prepare(m, part, r, e);
    if (code != ERR_OK)
        return code;
    r->segment = mem_zero(n_cuts, sizeof *r->segment);
    if (!r->segment)
        return err_no_memory(e, n_cuts * sizeof *r->segment, "commands");
    code = gpu_buffer_create(m->rt->gpu, r->n_launch * 12, GPU_HOST, &r->args, e);
    for (uint32_t i = 0; i < n_cuts && code == ERR_OK; i++)
        code = record_segment(m, part, r, cuts[i], cuts[i + 1], e);
    return code;
}

static void drop(struct model *m, struct recording *r)
{
    for (uint32_t i = 0; i < r->n; i++)
        gpu_command_destroy(r->segment[i]);
    mem_free(r->segment);
    gpu_buffer_destroy(m->rt->gpu, r->args);
    *r = (struct recording){ 0 };
}

enum err_code record_ready(struct model *m, uint32_t which, enum part part, struct err *e)
{
    struct recording *r = &m->rec[which][part];
    const struct plan_program *g = &m->plan->program[which];
    if (r->n > 0)
        return ERR_OK;
    if (part != PART_HEAD)
        *r = (struct recording){ .launch = g->launch, .n_launch = g->n_body };
    else
        *r = (struct recording){ .launch = g->launch + g->n_body, .n_launch = g->n - g->n_body };
    enum err_code code = record(m, part, r, e);
    if (code != ERR_OK)
        drop(m, r);
    return code;
}

bool model_prepare(struct model *m)
{
    struct err e;
    for (uint32_t which = 0; which < PLAN_PROGRAMS; which++)
        for (enum part part = 0; part < PARTS; part++)
            if (m->rec[which][part].n == 0)
                return record_ready(m, which, part, &e) == ERR_OK;
    return false;
}

void record_finish(struct model *m)
{
    for (uint32_t which = 0; which < PLAN_PROGRAMS; which++)
        for (enum part part = 0; part < PARTS; part++)
            drop(m, &m->rec[which][part]);
}
