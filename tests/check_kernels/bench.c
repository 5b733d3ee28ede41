/* How fast the products are: GMAC/s of each tensor type, and its time per weight relative to Q4_0's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "tests/check_kernels/judge.h"

#define OUTPUTS 4096
#define AT_LEAST_NS 150000000 /* of a measurement */

static const uint32_t ks[] = { 576, 2048, 4096 }, rows[] = { 1, 4, 8 };

struct bench {
    struct judge *j;
    const struct bench_options *o;
    struct gpu_buffer *buffer[5];
    struct gpu_command *command;
    double q4_0[3][3]; /* seconds per weight */
    struct json_out *json;
};

static enum err_code make_buffers(struct bench *b, const struct weights *w, uint32_t k, uint32_t n_rows,
                                  struct err *e)
{
    uint32_t step[STEP_WORDS] = { n_rows, n_rows };
    void *planes = judge_alloc(b->j, w->l.bytes);
    uint64_t bytes[5] = { sizeof step, w->l.bytes, (uint64_t)n_rows * k * 4 + 1024,
                          (uint64_t)n_rows * OUTPUTS * 4, 256 };
    weights_pack(b->j, w, planes);
    for (int i = 0; i < 5; i++)
        if (gpu_buffer_create(b->j->dev, bytes[i], i ? GPU_DEVICE : GPU_HOST, &b->buffer[i], e))
            return e->code;
    if (gpu_buffer_write(b->j->dev, b->buffer[0], 0, step, sizeof step, e))
        return e->code;
    return gpu_buffer_write(b->j->dev, b->buffer[1], 0, planes, w->l.bytes, e);
}

static uint32_t or_else(uint32_t chosen, uint32_t usual)
{
    return chosen ? chosen : usual;
}

static enum err_code record(struct bench *b, const struct weights *w, uint32_t k, uint32_t n_rows, bool q8,
                            struct err *e)
{
    const struct gpu_info *d = b->j->info;
    uint32_t kparts = or_else(b->o->kparts, d->software ? 1 : 8), cols = or_else(b->o->cols, n_rows);
    uint32_t blocks = or_else(b->o->blocks, d->software && q8 ? 2 : 1);
    uint32_t least = d->subgroup < BLOCK_LANES ? BLOCK_LANES : d->subgroup;
    uint32_t local = kparts > 1 ? BLOCK_LANES * kparts : or_else(b->o->local, least);
    uint32_t per_group = blocks * (kparts > 1 ? 1 : local / BLOCK_LANES);
    struct push_matmul push = { w->l.plane[0], w->l.plane[1], w->l.plane[2], w->l.plane[3], k / 32, w->l.n_ob,
                                0, OUTPUTS, q8 ? (k + 127) / 128 * Q8_GROUP_QUADS : k / 4, OUTPUTS, 1, 0 };
    struct gpu_launch l = { .kernel = b->j->kernel,
                            .spec = { local, cols, blocks, EPI_STORE, d->subgroup, kparts },
                            .push = &push,
                            .groups = { (w->l.n_ob + per_group - 1) / per_group, (n_rows + cols - 1) / cols, 1 } };
    for (int i = 0; i < 5; i++)
        l.bind[i].buffer = b->buffer[i];
    if (gpu_command_create(b->j->dev, &b->command, e) || gpu_command_launch(b->command, &l, e) ||
        gpu_command_end(b->command, e))
        return e->code;
    return ERR_OK;
}

/* The best of many submits, in seconds. */
static enum err_code measure(struct bench *b, double *best, struct err *e)
{
    int64_t spent = 0, ns = 0;
    *best = 1e9;
    for (int i = 0; i < 3 || spent < AT_LEAST_NS; i++, spent += ns) {
        uint64_t ticket;
        if (gpu_submit(b->j->dev, &b->command, 1, &ticket, e) || gpu_wait(b->j->dev, ticket, &ns, e))
            return e->code;
        if (i && (double)ns * 1e-9 < *best) /* the first one may compile */
            *best = (double)ns * 1e-9;
    }
    return ERR_OK;
}

static void report(struct bench *b, uint32_t k_at, uint32_t row_at, double seconds)
{
    double weights = (double)ks[k_at] * OUTPUTS, per = seconds / weights, *base = &b->q4_0[k_at][row_at];
    double gmacs = weights * rows[row_at] / seconds / 1e9;
    if (b->j->kernel == KERNEL_matmul_q4_0)
        *base = per;
    if (!b->json) {
        printf("%-14s K %4u rows %u: %7.2f GMAC/s", kernel_info(b->j->kernel)->name, ks[k_at], rows[row_at], gmacs);
        if (*base > 0)
            printf("  %5.2f x Q4_0's time", per / *base);
        printf("\n");
        return;
    }
    json_obj(b->json);
    json_kstr(b->json, "kernel", kernel_info(b->j->kernel)->name);
    json_kint(b->json, "k", ks[k_at]);
    json_kint(b->json, "rows", rows[row_at]);
    json_knum(b->json, "gmac_per_s", gmacs);
    if (*base > 0)
        json_knum(b->json, "time_vs_q4_0", per / *base);
    json_obj_end(b->json);
}

static bool bench_one(struct bench *b, uint32_t k_at, uint32_t row_at, bool q8)
{
    struct err e = { 0 };
    double seconds = 0;
    arena_finish(b->j->arena);
    struct weights w = weights_make(b->j, kernel_type(b->j->kernel), ks[k_at], OUTPUTS, SANE);
    enum err_code rc = make_buffers(b, &w, ks[k_at], rows[row_at], &e);
    if (!rc)
        rc = record(b, &w, ks[k_at], rows[row_at], q8, &e);
    if (!rc)
        rc = measure(b, &seconds, &e);
    if (rc)
        fprintf(stderr, "%s: %s\n", kernel_info(b->j->kernel)->name, e.text);
    else
        report(b, k_at, row_at, seconds);
    gpu_command_destroy(b->command);
    b->command = NULL;
    for (int i = 0; i < 5; i++) {
        gpu_buffer_destroy(b->j->dev, b->buffer[i]);
        b->buffer[i] = NULL;
    }
    return rc == ERR_OK;
}

static bool bench_kernel(struct bench *b, enum kernel k)
{
    const char *name = kernel_info(k)->name;
    bool q8 = strcmp(name + strlen(name) - 2, "_f") != 0, good = true;
    uint32_t block = tensor_type_find(kernel_type(k))->block_len;
    b->j->kernel = k;
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t r = 0; r < 3 && ks[i] % block == 0; r++)
            good = bench_one(b, i, r, q8) && good;
    return good;
}

/* Q4_0 first, that the others be compared with; then what the engine runs: q8 where there is one. */
bool bench(struct judge *j, const char *only, const struct bench_options *o)
{
    struct buf text;
    struct json_out json;
    struct bench b = { .j = j, .o = o, .json = o->json ? &json : NULL };
    bool good = true;
    buf_init(&text, 1 << 20);
    json_begin(&json, &text);
    json_arr(&json);
    good = bench_kernel(&b, KERNEL_matmul_q4_0);
    for (int k = KERNEL_matmul_f32_f; k <= KERNEL_matmul_q6_k; k++) {
        bool engine = k <= KERNEL_matmul_bf16_f || k >= KERNEL_matmul_q4_0;
        if (k != KERNEL_matmul_q4_0 && (only ? strstr(kernel_info((enum kernel)k)->name, only) != NULL : engine))
            good = bench_kernel(&b, (enum kernel)k) && good;
    }
    json_arr_end(&json);
    if (o->json)
        printf("%.*s\n", (int)text.n, text.p);
    buf_finish(&text);
    return good;
}
