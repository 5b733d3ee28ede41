/* How fast the products are: GMAC/s of each tensor type, and its time per weight relative to Q4_0's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "tests/check_kernels/judge.h"

#define OUTPUTS 4096
#define AT_LEAST_NS 200000000 /* of a measurement */

static const uint32_t ks[] = { 576, 2048, 4096 }, rows[] = { 1, 4, 8 };

struct bench {
    struct judge *j;
    const struct bench_options *o;
    struct json_out *json;
};

/* A product that can be submitted. */
struct product {
    enum kernel kernel;
    struct weights w;
    uint32_t k, rows;
    bool q8;
    struct gpu_buffer *buffer[5];
    struct gpu_command *command;
    double best; /* seconds */
};

static enum err_code make_buffers(struct bench *b, struct product *p, struct err *e)
{
    uint32_t step[STEP_WORDS] = { p->rows, p->rows };
    void *planes = judge_alloc(b->j, p->w.l.bytes);
    uint64_t bytes[5] = { sizeof step, p->w.l.bytes, (uint64_t)p->rows * p->k * 4 + 1024,
                          (uint64_t)p->rows * OUTPUTS * 4, 256 };
    weights_pack(b->j, &p->w, ORDER_QUADS, 0, planes);
    for (int i = 0; i < 5; i++)
        if (gpu_buffer_create(b->j->dev, bytes[i], i ? GPU_DEVICE : GPU_HOST, &p->buffer[i], e))
            return e->code;
    if (gpu_buffer_write(b->j->dev, p->buffer[0], 0, step, sizeof step, e))
        return e->code;
    return gpu_buffer_write(b->j->dev, p->buffer[1], 0, planes, p->w.l.bytes, e);
}

static uint32_t or_else(uint32_t chosen, uint32_t usual)
{
    return chosen ? chosen : usual;
}

/* As plan_launch.c has it for a matrix of so many outputs on a device of up to 128 cores. */
static uint32_t usual_kparts(const struct gpu_info *d, uint32_t k)
{
    uint32_t parts = 4;
    while (!d->software && parts < 32 && parts * 8 <= k / 32)
        parts *= 2;
    return d->software ? 1 : parts;
}

static enum err_code record(struct bench *b, struct product *p, struct err *e)
{
    const struct gpu_info *d = b->j->info;
    const struct repack_layout *w = &p->w.l;
    uint32_t kparts = or_else(b->o->kparts, usual_kparts(d, p->k)), cols = or_else(b->o->cols, p->rows);
    uint32_t blocks = or_else(b->o->blocks, d->software && p->q8 ? 2 : 1);
    uint32_t least = d->subgroup < BLOCK_LANES ? BLOCK_LANES : d->subgroup;
    uint32_t local = kparts > 1 ? BLOCK_LANES * kparts : or_else(b->o->local, least);
    uint32_t per_group = blocks * (kparts > 1 ? 1 : local / BLOCK_LANES);
    struct push_matmul push = { w->plane[0], w->plane[1], w->plane[2], w->plane[3], p->k / 32, w->n_ob, 0,
                                OUTPUTS, p->q8 ? (p->k + 127) / 128 * Q8_GROUP_QUADS : p->k / 4, OUTPUTS,
                                .mult = 1 };
    struct gpu_launch l = { .kernel = p->kernel,
                            .spec = { local, cols, blocks, EPI_STORE, d->subgroup, kparts, 1,
                                      p->q8 ? p->k / 32 % 4 : 0 },
                            .push = &push,
                            .groups = { (w->n_ob + per_group - 1) / per_group,
                                        (p->rows + cols - 1) / cols, 1 } };
    for (int i = 0; i < GPU_MAX_BINDINGS; i++)
        l.bind[i].buffer = p->buffer[i < 5 ? i : 4];
    if (gpu_command_create(b->j->dev, &p->command, e) || gpu_command_launch(p->command, &l, e) ||
        gpu_command_end(p->command, e))
        return e->code;
    return ERR_OK;
}

static bool is_q8(enum kernel k)
{
    const char *name = kernel_info(k)->name;
    return strcmp(name + strlen(name) - 2, "_f") != 0;
}

static enum err_code product_make(struct bench *b, struct product *p, enum kernel k, uint32_t inputs,
                                  uint32_t n_rows, struct err *e)
{
    *p = (struct product){ .kernel = k, .k = inputs, .rows = n_rows, .q8 = is_q8(k), .best = 1e9 };
    p->w = weights_make(b->j, kernel_type(k), inputs, OUTPUTS, SANE);
    b->j->kernel = k;
    enum err_code rc = make_buffers(b, p, e);
    return rc ? rc : record(b, p, e);
}

static void product_free(struct bench *b, struct product *p)
{
    gpu_command_destroy(p->command);
    for (int i = 0; i < 5; i++)
        gpu_buffer_destroy(b->j->dev, p->buffer[i]);
}

/* The best of many submits of each, by turns, so that both meet the same machine. */
static enum err_code measure(struct bench *b, struct product p[2], struct err *e)
{
    int64_t spent = 0, ns = 0;
    for (int i = 0; i < 8 || spent < AT_LEAST_NS; i++, spent += ns) {
        struct product *one = &p[i % 2];
        uint64_t ticket;
        if (gpu_submit(b->j->dev, &one->command, 1, &ticket, e) || gpu_wait(b->j->dev, ticket, &ns, e))
            return e->code;
        if (i > 1 && (double)ns * 1e-9 < one->best) /* the first one may compile */
            one->best = (double)ns * 1e-9;
    }
    return ERR_OK;
}

static void report(struct bench *b, const struct product *p, double relative)
{
    const char *name = kernel_info(p->kernel)->name;
    double gmacs = (double)p->k * OUTPUTS * p->rows / p->best / 1e9;
    if (!b->json) {
        printf("%-14s K %4u rows %u: %7.2f GMAC/s %8.3f ms  %5.2f x Q4_0's time\n", name, p->k, p->rows,
               gmacs, p->best * 1e3, relative);
        fflush(stdout);
        return;
    }
    json_obj(b->json);
    json_kstr(b->json, "kernel", name);
    json_kint(b->json, "k", p->k);
    json_kint(b->json, "rows", p->rows);
    json_knum(b->json, "gmac_per_s", gmacs);
    json_knum(b->json, "time_vs_q4_0", relative);
    json_obj_end(b->json);
}

static bool bench_one(struct bench *b, enum kernel k, uint32_t inputs, uint32_t n_rows)
{
    struct product p[2] = { 0 };
    struct err e = { 0 };
    arena_finish(b->j->arena);
    enum kernel q4_0 = b->j->info->software ? KERNEL_matmul_q4_0 : KERNEL_matmul_q4_0_f;
    enum err_code rc = product_make(b, &p[0], q4_0, inputs, n_rows, &e);
    if (!rc)
        rc = product_make(b, &p[1], k, inputs, n_rows, &e);
    if (!rc)
        rc = measure(b, p, &e);
    if (rc)
        fprintf(stderr, "%s: %s\n", kernel_info(k)->name, e.text);
    else
        report(b, &p[1], p[1].best / p[0].best);
    product_free(b, &p[0]);
    product_free(b, &p[1]);
    return rc == ERR_OK;
}

static bool bench_kernel(struct bench *b, enum kernel k)
{
    uint32_t block = tensor_type_find(kernel_type(k))->block_len;
    bool good = true;
    for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++)
        for (size_t r = 0; r < sizeof rows / sizeof rows[0] && ks[i] % block == 0; r++)
            good = bench_one(b, k, ks[i], rows[r]) && good;
    return good;
}

/* Software devices get quantised activations where a type has a kernel for them, others never. */
static bool engine_runs(const struct judge *j, enum kernel k)
{
    return k <= KERNEL_matmul_bf16_f || is_q8(k) == j->info->software;
}

/* What the engine runs. With `only`, whatever that names. */
bool bench(struct judge *j, const char *only, const struct bench_options *o)
{
    struct buf text;
    struct json_out json;
    struct bench b = { .j = j, .o = o, .json = o->json ? &json : NULL };
    bool good = true;
    buf_init(&text, 1 << 20);
    json_begin(&json, &text);
    json_arr(&json);
    for (int k = KERNEL_matmul_f32_f; k <= KERNEL_matmul_q6_k; k++) {
        if (only ? strstr(kernel_info((enum kernel)k)->name, only) != NULL : engine_runs(j, (enum kernel)k))
            good = bench_kernel(&b, (enum kernel)k) && good;
    }
    json_arr_end(&json);
    if (o->json)
        printf("%.*s\n", (int)text.n, text.p);
    buf_finish(&text);
    return good;
}
