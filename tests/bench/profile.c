/* Where a step's time goes: every kind of launch of a model's program, run alone.
 *
 *   profile MODEL [--rows N] [--at POSITION] [--device X] [--repeat N] [--only LABEL]
 *
 * Per label: launches, wall and CPU microseconds a step (all layers together, the best of the repeats),
 * and GMAC/s of wall time where weights are read. The timeline's contents are zeros: the arithmetic takes
 * the same time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/engine/engine.h"

static double cpu_us(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1e6 +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(1);
}

static void fill_step(struct model *m, uint32_t rows, uint32_t at)
{
    uint32_t held = 0;
    kv_extend(&m->kv, 0, &held, at + 1);
    m->step[STEP_N_ROWS] = rows;
    m->step[STEP_N_OUT] = 1;
    m->n_rows = rows;
    for (uint32_t r = 0; r < rows; r++) {
        uint32_t *row = m->step + STEP_ROWS + r * STEP_ROW_WORDS;
        row[ROW_TOKEN] = r;
        row[ROW_POS] = at - (at < rows - 1 - r ? 0 : rows - 1 - r);
        row[ROW_PAGES] = 0;
    }
}

struct row {
    const char *label, *kernel;
    uint32_t launches;
    double wall, cpu, macs;
};

/* All launches of the program that share a label and kernel. */
static struct row measure(struct model *m, uint32_t which, size_t first, uint32_t rows, uint32_t splits,
                          int repeat)
{
    const struct plan_program *g = &m->plan->program[which];
    const struct plan_launch *like = &g->launch[first];
    struct row out = { like->label, kernel_info(like->kernel)->name, 0, 1e30, 1e30, 0 };
    struct gpu_command *c;
    struct err e;
    struct gpu_buffer *args;
    if (gpu_buffer_create(m->rt->gpu, g->n * 12, GPU_HOST, &args, &e) != ERR_OK ||
        gpu_command_create(m->rt->gpu, &c, &e) != ERR_OK)
        die("command", &e);
    for (size_t i = 0; i < g->n; i++) {
        const struct plan_launch *l = &g->launch[i];
        if (strcmp(l->label, like->label) != 0 || l->kernel != like->kernel)
            continue;
        plan_groups(l, g->cols, rows, 1, splits, (uint32_t *)gpu_buffer_map(args) + 3 * i);
        if (record_launch(m, c, args, i, l, &e) != ERR_OK)
            die(l->label, &e);
        out.launches++;
        if (l->weight_bytes)
            out.macs += (double)l->push.matmul.n_ob * BLOCK_OUTPUTS * l->push.matmul.n_kb * 32 *
                        (l->dim[1] == DIM_OUT_TILES ? 1 : rows);
    }
    if (gpu_command_end(c, &e) != ERR_OK)
        die("command", &e);
    for (int i = 0; i < repeat + 1; i++) {
        uint64_t ticket;
        double cpu = cpu_us(), wall = (double)clock_ns();
        if (gpu_submit(m->rt->gpu, &c, 1, &ticket, &e) != ERR_OK ||
            gpu_wait(m->rt->gpu, ticket, NULL, &e) != ERR_OK)
            die("submit", &e);
        wall = ((double)clock_ns() - wall) / 1e3;
        cpu = cpu_us() - cpu;
        if (i > 0 && wall < out.wall)
            out.wall = wall;
        if (i > 0 && cpu < out.cpu)
            out.cpu = cpu;
    }
    gpu_command_destroy(c);
    gpu_buffer_destroy(m->rt->gpu, args);
    return out;
}

static void profile(struct model *m, uint32_t rows, uint32_t at, int repeat, const char *only)
{
    uint32_t which = plan_program_for(rows), splits = at / m->plan->split_tokens + 1;
    const struct plan_program *g = &m->plan->program[which];
    struct row total = { 0 };
    fill_step(m, rows, at);
    printf("%-10s %-16s %8s %10s %10s %8s\n", "label", "kernel", "launches", "wall us", "cpu us", "GMAC/s");
    for (size_t i = 0; i < g->n; i++) {
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = strcmp(g->launch[k].label, g->launch[i].label) == 0 && g->launch[k].kernel == g->launch[i].kernel;
        if (seen || (only && strcmp(only, g->launch[i].label) != 0))
            continue;
        struct row r = measure(m, which, i, rows, splits, repeat);
        printf("%-10s %-16s %8u %10.0f %10.0f", r.label, r.kernel, r.launches, r.wall, r.cpu);
        if (r.macs > 0)
            printf(" %8.2f", r.macs / r.wall / 1e3);
        printf("\n");
        total.wall += r.wall;
        total.cpu += r.cpu;
    }
    printf("%-10s %-16s %8zu %10.0f %10.0f   %.1f rows/s\n", "all", "", g->n, total.wall, total.cpu,
           rows * 1e6 / total.wall);
}

int main(int argc, char **argv)
{
    const char *path = NULL, *device = NULL, *only = NULL;
    uint32_t rows = 1, at = 128;
    int repeat = 20;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--rows") == 0 && i + 1 < argc)
            rows = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--at") == 0 && i + 1 < argc)
            at = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--repeat") == 0 && i + 1 < argc)
            repeat = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            device = argv[++i];
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            only = argv[++i];
        else
            path = argv[i];
    }
    if (!path || rows < 1 || rows > MAX_STEP_ROWS || at > 4000) {
        fprintf(stderr, "usage: profile MODEL [--rows N] [--at POSITION] [--device X] [--repeat N] [--only LABEL]\n");
        return 2;
    }
    struct err e;
    struct runtime *rt;
    struct model *m = NULL;
    json_setup();
    struct runtime_options ro = { .device = device };
    struct model_options mo = { .path = path, .n_ctx = at + 64, .n_seq = 1 };
    if (runtime_create(&ro, &rt, &e) != ERR_OK || model_load(rt, &mo, &m, &e) != ERR_OK)
        die(path, &e);
    profile(m, rows, at, repeat, only);
    model_unload(m);
    runtime_destroy(rt);
    return 0;
}
