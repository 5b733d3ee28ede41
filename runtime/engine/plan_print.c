#include "runtime/engine/plan.h"

#include <string.h>

struct plan_totals plan_program_totals(const struct plan *p, uint32_t which)
{
    const struct plan_program *g = &p->program[which];
    struct plan_totals t = { .launches = g->n };
    size_t in_layer = 0;
    for (size_t i = 0; i < g->n; i++) {
        const struct plan_launch *l = &g->launch[i];
        in_layer = i > 0 && l->layer == g->launch[i - 1].layer ? in_layer + 1 : 1;
        if (l->layer >= 0 && in_layer > t.most_a_layer)
            t.most_a_layer = in_layer;
        t.weight_bytes += l->weight_bytes;
    }
    t.pipelines = plan_pipelines(p, which, which + 1);
    return t;
}

static bool same_pipeline(const struct plan_launch *a, const struct plan_launch *b)
{
    return a->kernel == b->kernel && memcmp(a->spec, b->spec, sizeof a->spec) == 0;
}

/* Has launch `at` of program `which` a pipeline that no launch before it, from program `from` on, has? */
static bool is_new(const struct plan *p, uint32_t from, uint32_t which, size_t at)
{
    const struct plan_launch *l = &p->program[which].launch[at];
    for (uint32_t i = from; i <= which; i++)
        for (size_t k = 0; k < (i < which ? p->program[i].n : at); k++)
            if (same_pipeline(&p->program[i].launch[k], l))
                return false;
    return true;
}

size_t plan_pipelines(const struct plan *p, uint32_t from, uint32_t to)
{
    size_t n = 0;
    for (uint32_t i = from; i < to; i++)
        for (size_t k = 0; k < p->program[i].n; k++)
            n += is_new(p, from, i, k);
    return n;
}

/* One launch in two programs: all but the tile is equal. */
static bool same_sums(const struct plan_launch *a, const struct plan_launch *b)
{
    bool tiled = a->weight_bytes != 0;
    for (int i = 0; i < N_SPEC; i++)
        if (a->spec[i] != b->spec[i] && !(tiled && (i == SPEC_COLS || i == SPEC_BLOCKS)))
            return false;
    for (int i = 0; i < GPU_MAX_BINDINGS; i++)
        if (a->bind[i].buffer != b->bind[i].buffer || a->bind[i].offset != b->bind[i].offset)
            return false;
    return a->kernel == b->kernel && a->layer == b->layer && a->weight_bytes == b->weight_bytes &&
           memcmp(a->push.bytes, b->push.bytes, sizeof a->push.bytes) == 0;
}

bool plan_reproducible(const struct plan *p)
{
    const struct plan_program *one = &p->program[0];
    for (uint32_t i = 1; i < PLAN_PROGRAMS && !p->device.software; i++) {
        const struct plan_program *g = &p->program[i];
        if (g->n != one->n || g->n_body != one->n_body)
            return false;
        for (size_t k = 0; k < g->n; k++)
            if (!same_sums(&one->launch[k], &g->launch[k]))
                return false;
    }
    return true;
}

static void print_launch(const struct plan *p, const struct plan_program *g, const struct plan_launch *l,
                         struct buf *out)
{
    static const char *const dims[] = { "", "rows", "tiles", "out", "out tiles", "splits", "rows if split" };
    if (l->layer >= 0)
        buf_printf(out, "  %3d  ", l->layer);
    else
        buf_puts(out, "    -  ");
    buf_printf(out, "%-10s %-16s local %-3u", l->label, kernel_info(l->kernel)->name, l->spec[SPEC_LOCAL]);
    if (l->weight_bytes)
        buf_printf(out, " tile %u blocks %u kparts %u", g->cols, l->spec[SPEC_BLOCKS], l->spec[SPEC_KPARTS]);
    buf_puts(out, " groups ");
    for (int i = 0; i < 3; i++) {
        const char *sep = i ? " x " : "";
        if (l->dim[i] != DIM_FIXED)
            buf_printf(out, "%s%s", sep, dims[l->dim[i]]);
        else if (i == 0 || l->groups[i] > 1)
            buf_printf(out, "%s%u", sep, l->groups[i]);
    }
    if (l->weight_bytes)
        buf_printf(out, " weights %llu", (unsigned long long)l->weight_bytes);
    buf_puts(out, "  ");
    const char *letters = kernel_info(l->kernel)->bindings;
    for (size_t i = 1; letters[i]; i++)
        buf_printf(out, "%s%s%s", i > 1 ? ", " : "", letters[i] == 'w' ? "=> " : "",
                   p->buffers[l->bind[i].buffer].name);
    buf_putc(out, '\n');
}

void plan_print(const struct plan *p, struct buf *out)
{
    const struct hparams *hp = p->hp;
    buf_printf(out, "%s: %u layers, n_embd %u, n_ff %u, %u heads of %u on %u KV heads, vocabulary %u\n",
               hp->arch->name, hp->n_layer, hp->n_embd, hp->n_ff, hp->n_head, hp->head_k, hp->n_head_kv,
               hp->n_vocab);
    buf_printf(out, "context %u x %u sessions; weights %llu bytes, KV %llu, scratch %llu\n", p->n_ctx,
               p->n_seq, (unsigned long long)p->weight_bytes, (unsigned long long)p->kv_bytes,
               (unsigned long long)p->scratch_bytes);
    const struct plan_device *d = &p->device;
    buf_printf(out,
               "%s device of subgroup %u and %u cores, workgroups of at most %u, bindings of %llu MiB; %zu "
               "pipelines in all; %sreproducible\n",
               d->ref ? "ref" : d->software ? "software" : "real", d->subgroup, d->cores, d->max_local,
               (unsigned long long)(d->max_range >> 20), plan_pipelines(p, 0, PLAN_PROGRAMS),
               plan_reproducible(p) ? "" : "not ");
    for (uint32_t i = 0; i < PLAN_PROGRAMS; i++) {
        const struct plan_program *g = &p->program[i];
        struct plan_totals t = plan_program_totals(p, i);
        buf_printf(out,
                   "\nprogram for tiles of %u: %zu launches, at most %zu a layer, %zu pipelines, %llu bytes of "
                   "weights a tile\n",
                   g->cols, t.launches, t.most_a_layer, t.pipelines, (unsigned long long)t.weight_bytes);
        for (size_t k = 0; k < g->n; k++)
            print_launch(p, g, &g->launch[k], out);
    }
}
