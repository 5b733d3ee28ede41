#include "tests/check_kernels/judge.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/gpu/ref/ref_priv.h"

#define MOST_SHOWN 12 /* failures of a kernel that are printed */

void *judge_alloc(struct judge *j, size_t bytes)
{
    void *p = arena_zero(j->arena, bytes ? bytes : 1, 1);
    if (!p) {
        fprintf(stderr, "check_kernels: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    return p;
}

void judge_case(struct judge *j, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->label, sizeof j->label, fmt, ap);
    va_end(ap);
    arena_finish(j->arena);
    j->cases++;
}

void judge_fail(struct judge *j, const char *fmt, ...)
{
    j->failures++;
    if (++j->shown > MOST_SHOWN)
        return;
    va_list ap;
    printf("%s [%s] ", kernel_info(j->kernel)->name, j->label);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
}

/* ---- a launch on both ---------------------------------------------------------------------------- */

void *call_bind(struct judge *j, struct call *c, uint32_t at, uint64_t bytes)
{
    bytes = (bytes + 15) / 16 * 16;
    c->bind[at].bytes = bytes < 256 ? 256 : bytes;
    c->bind[at].data = judge_alloc(j, c->bind[at].bytes);
    uint32_t *words = c->bind[at].data;
    for (uint64_t i = 0; kernel_info(j->kernel)->bindings[at] == 'w' && i < c->bind[at].bytes / 4; i++)
        words[i] = UNTOUCHED;
    return words;
}

struct run {
    struct gpu *g;
    struct gpu_buffer *buffer[GPU_MAX_BINDINGS];
    struct gpu_command *command;
};

static enum err_code run_launch(struct judge *j, struct run *r, const struct call *c, struct err *e)
{
    struct gpu_launch l = { .kernel = j->kernel, .push = c->push, .by_rows = c->by_rows };
    memcpy(l.spec, c->spec, sizeof l.spec);
    memcpy(l.groups, c->groups, sizeof l.groups);
    for (uint32_t i = 0; kernel_info(j->kernel)->bindings[i]; i++) {
        enum gpu_memory where = i == 0 ? GPU_HOST : GPU_DEVICE;
        if (gpu_buffer_create(r->g, c->bind[i].bytes, where, &r->buffer[i], e) ||
            gpu_buffer_write(r->g, r->buffer[i], 0, c->bind[i].data, c->bind[i].bytes, e))
            return e->code;
        l.bind[i].buffer = r->buffer[i];
    }
    uint64_t ticket;
    if (gpu_command_create(r->g, &r->command, e) || gpu_command_launch(r->command, &l, e) ||
        gpu_command_end(r->command, e) || gpu_submit(r->g, &r->command, 1, &ticket, e) ||
        gpu_wait(r->g, ticket, NULL, e))
        return e->code;
    return ERR_OK;
}

static enum err_code run_read(struct judge *j, struct run *r, struct call *c, struct err *e)
{
    for (uint32_t i = 0; kernel_info(j->kernel)->bindings[i]; i++) {
        if (kernel_info(j->kernel)->bindings[i] != 'w')
            continue;
        void *to = judge_alloc(j, c->bind[i].bytes);
        if (gpu_buffer_read(r->g, r->buffer[i], 0, to, c->bind[i].bytes, e))
            return e->code;
        if (r->g == j->dev)
            c->bind[i].dev = to;
        else
            c->bind[i].ref = to;
    }
    return ERR_OK;
}

static bool run_on(struct judge *j, struct gpu *g, struct call *c)
{
    struct run r = { .g = g };
    struct err e = { 0 };
    enum err_code rc = run_launch(j, &r, c, &e);
    if (!rc)
        rc = run_read(j, &r, c, &e);
    if (rc)
        judge_fail(j, "on %s: %s", gpu_info(g)->name, e.text);
    gpu_command_destroy(r.command);
    for (uint32_t i = 0; i < GPU_MAX_BINDINGS; i++)
        gpu_buffer_destroy(g, r.buffer[i]);
    return rc == ERR_OK;
}

bool call_run(struct judge *j, struct call *c)
{
    if (j->of && j->cases % j->of != j->share)
        return false;
    j->ran++;
    return run_on(j, j->dev, c) && run_on(j, j->ref, c);
}

/* ---- comparing ------------------------------------------------------------------------------------ */

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

void judge_floats(struct judge *j, const struct call *c, uint32_t at, size_t n, const double *allow)
{
    const float *dev = c->bind[at].dev, *ref = c->bind[at].ref;
    size_t wrong = 0;
    for (size_t i = 0; i < n; i++) {
        double error = fabs((double)dev[i] - (double)ref[i]);
        bool untouched = bits_of(ref[i]) == UNTOUCHED, exact = untouched || !allow;
        bool same = bits_of(dev[i]) == bits_of(ref[i]) || (isnan(dev[i]) && isnan(ref[i]) && !untouched);
        if (!same && (exact || !(error <= allow[i])) && ++wrong <= 3)
            judge_fail(j, "binding %u float %zu: %a, twin %a%s", at, i, (double)dev[i], (double)ref[i],
                       untouched ? " (untouched)" : "");
        if (!same && !exact && allow[i] > 0 && error / allow[i] > j->worst)
            j->worst = error / allow[i];
    }
    if (wrong > 3)
        judge_fail(j, "binding %u: %zu of %zu floats", at, wrong, n);
}

void judge_untouched(struct judge *j, const struct call *c, uint32_t at)
{
    const uint32_t *dev = c->bind[at].dev, *ref = c->bind[at].ref;
    for (uint64_t i = 0; i < c->bind[at].bytes / 4; i++)
        if ((dev[i] == UNTOUCHED) != (ref[i] == UNTOUCHED)) {
            judge_fail(j, "binding %u word %llu: %s", at, (unsigned long long)i,
                       dev[i] == UNTOUCHED ? "not written" : "written");
            return;
        }
}

static bool near(double a, double b, double share)
{
    return fabs(a - b) <= share * fabs(b) || (isnan(a) && isnan(b));
}

struct q8_tally {
    uint64_t n, off;
};

static void judge_q8_block(struct judge *j, const uint32_t *dev, const uint32_t *ref, uint32_t b,
                           struct q8_tally *tally)
{
    const int8_t *dq = (const int8_t *)(dev + b * 8), *rq = (const int8_t *)(ref + b * 8);
    float dd[3], rd, sum[2] = { 0, 0 };
    memcpy(&rd, ref + 32 + b, 4);
    for (uint32_t i = 0; i < 3; i++)
        memcpy(&dd[i], dev + 32 + 4 * i + b, 4);
    for (uint32_t i = 0; i < 32; i++) {
        int apart = abs(dq[i] - rq[i]);
        tally->n++;
        tally->off += apart != 0;
        sum[i / 16] += (float)dq[i];
        if (apart > 1)
            judge_fail(j, "q8 block %u input %u: %d, twin %d", b, i, dq[i], rq[i]);
    }
    if (!near((double)dd[0], (double)rd, 1e-5))
        judge_fail(j, "q8 block %u scale: %a, twin %a", b, (double)dd[0], (double)rd);
    if (dd[1] != sum[0] || dd[2] != sum[1])
        judge_fail(j, "q8 block %u sums: %g %g, not %g %g", b, (double)dd[1], (double)dd[2],
                   (double)sum[0], (double)sum[1]);
}

void judge_q8(struct judge *j, const struct call *c, uint32_t at, uint32_t rows, uint32_t k, uint32_t stride)
{
    const uint32_t *dev = c->bind[at].dev, *ref = c->bind[at].ref;
    struct q8_tally t = { 0 };
    for (uint32_t row = 0; row < rows; row++)
        for (uint32_t kb = 0; kb < k / 32; kb++) {
            size_t group = ((size_t)row * stride + kb / 4 * Q8_GROUP_QUADS) * 4;
            judge_q8_block(j, dev + group, ref + group, kb % 4, &t);
        }
    if (t.off > t.n / 200 + 4) /* a value near the middle of two steps may go either way */
        judge_fail(j, "q8: %llu of %llu values differ", (unsigned long long)t.off, (unsigned long long)t.n);
    if (t.n && (double)t.off / ((double)t.n / 200 + 4) > j->worst)
        j->worst = (double)t.off / ((double)t.n / 200 + 4);
}

void judge_pages(struct judge *j, const struct call *c, uint32_t at, uint32_t n_slots, uint32_t kvt,
                 uint32_t kv_dim, double near)
{
    judge_untouched(j, c, at);
    uint64_t differ = 0, n = 0;
    for (uint32_t slot = 0; slot < n_slots; slot++)
        for (uint32_t t = 0; t < KV_PAGE_TOKENS; t++) {
            float dev[REF_MAX_HEAD], ref[REF_MAX_HEAD];
            kv_get(kv_slot(c->bind[at].dev, slot, 1, 0, kvt, kv_dim), t, dev);
            kv_get(kv_slot(c->bind[at].ref, slot, 1, 0, kvt, kv_dim), t, ref);
            for (uint32_t i = 0; i < kv_dim; i++) {
                double most = 0; /* of the block of 32 */
                for (uint32_t b = i / 32 * 32; b < i / 32 * 32 + 32; b++)
                    most = fmax(most, fabs((double)ref[b]));
                double step = kvt == KVT_F16   ? fabs((double)ref[i]) * 0x1p-10 + 0x1p-24
                              : kvt == KVT_F32 ? 0
                                               : most / 127;
                double error = fabs((double)dev[i] - (double)ref[i]);
                n++;
                differ += error > near * most;
                if (!(error <= step * 1.001 + near * most) && !isnan(ref[i]))
                    judge_fail(j, "binding %u slot %u token %u element %u: %a, twin %a", at, slot, t, i,
                               (double)dev[i], (double)ref[i]);
            }
        }
    if (differ > n / 200 + 4) /* rounded to the other side of a middle */
        judge_fail(j, "binding %u: %llu of %llu elements differ", at, (unsigned long long)differ,
                   (unsigned long long)n);
}

/* ---- inputs ------------------------------------------------------------------------------------------ */

uint32_t judge_random(struct judge *j)
{
    j->seed = j->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(j->seed >> 33);
}

float judge_uniform(struct judge *j)
{
    return (float)judge_random(j) * 0x1p-30f - 1;
}

uint32_t *judge_step(struct judge *j, struct call *c, uint32_t n_rows, uint32_t n_out)
{
    uint32_t *step = call_bind(j, c, 0, STEP_WORDS * 4);
    step[STEP_N_ROWS] = n_rows;
    step[STEP_N_OUT] = n_out;
    return step;
}

const char *fill_name(enum fill f)
{
    static const char *const names[] = { "plain", "zeros", "huge", "tiny", "spikes", "signs", "vanishing" };
    return names[f];
}

void fill_floats(struct judge *j, float *x, size_t n, enum fill f)
{
    for (size_t i = 0; i < n; i++) {
        float v = judge_uniform(j);
        x[i] = f == PLAIN       ? v
               : f == ZEROS     ? 0
               : f == HUGE_ONES ? v * 1e15f
               : f == TINY      ? v * 1e-15f
               : f == VANISHING ? (judge_random(j) % 2 ? v * 1e-36f : v * 1e-40f)
               : f == SPIKES    ? (judge_random(j) % 61 == 0 ? v * 1000 : v * 0.01f)
                                : (v < 0 ? -1.0f : 1.0f);
    }
}

/* Halves of a block: offsets of d and m (dmin); -1: none. */
struct halves {
    uint32_t id;
    int at[2];
};
static const struct halves halves_of[] = {
    { TENSOR_Q4_0, { 0, -1 } },  { TENSOR_Q4_1, { 0, 2 } },    { TENSOR_Q5_0, { 0, -1 } },
    { TENSOR_Q5_1, { 0, 2 } },   { TENSOR_Q8_0, { 0, -1 } },   { TENSOR_Q2_K, { 80, 82 } },
    { TENSOR_Q3_K, { 108, -1 } }, { TENSOR_Q4_K, { 0, 2 } },   { TENSOR_Q5_K, { 0, 2 } },
    { TENSOR_Q6_K, { 208, -1 } },
};

static uint16_t scale_half(struct judge *j, enum blocks how)
{
    static const uint16_t hard[] = { 0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00 };
    static const uint16_t harder[] = { 0x7C00, 0xFC00, 0x7C01, 0xFE00, 0x7FFF };
    uint32_t r = judge_random(j);
    if (how == ANY_SCALE && r % 4 == 0)
        return harder[r / 4 % 5];
    if (how == ANY_SCALE || how == EXTREME)
        return r % 3 ? hard[r / 4 % 8] : (uint16_t)(r & 0xBBFF);
    return f32_to_half(judge_uniform(j) * 0.05f);
}

/* One weight of a float type, in its bytes. */
static void float_weight(struct judge *j, uint32_t id, uint8_t *to, enum blocks how)
{
    float v = how == ALL_ZERO ? 0 : how == ALL_ONES ? -1 : judge_uniform(j);
    uint32_t bits = judge_random(j) << 1 ^ judge_random(j);
    if (how == EXTREME)
        v *= judge_random(j) % 2 ? 6e4f : 6e-8f;
    if (how != ANY_SCALE)
        bits = bits_of(v);
    if (id == TENSOR_F16) {
        uint16_t h = how == ANY_SCALE ? (uint16_t)bits : f32_to_half(v);
        memcpy(to, &h, 2);
    } else if (id == TENSOR_BF16) {
        memcpy(to, (const uint8_t *)&bits + 2, 2);
    } else {
        memcpy(to, &bits, 4);
    }
}

static void block_fill(struct judge *j, const struct tensor_type *t, uint8_t *b, enum blocks how)
{
    for (uint32_t i = 0; i < t->block_bytes; i++)
        b[i] = how == ALL_ZERO ? 0 : how == ALL_ONES ? 0xFF : (uint8_t)judge_random(j);
    for (size_t i = 0; i < sizeof halves_of / sizeof halves_of[0]; i++)
        for (int h = 0; h < 2; h++)
            if (halves_of[i].id == t->id && halves_of[i].at[h] >= 0) {
                uint16_t d = scale_half(j, how);
                memcpy(b + halves_of[i].at[h], &d, 2);
            }
}

struct weights weights_make(struct judge *j, uint32_t type_id, uint32_t k, uint32_t m, enum blocks how)
{
    struct weights w = { .type = tensor_type_find(type_id), .m = m };
    struct err e;
    if (repack_layout(w.type, k, m, &w.l, &e)) {
        judge_fail(j, "%s", e.text);
        exit(1);
    }
    w.row_bytes = (size_t)k / w.type->block_len * w.type->block_bytes;
    w.src = judge_alloc(j, w.row_bytes * m);
    for (size_t at = 0; at < w.row_bytes * m; at += w.type->block_bytes)
        if (w.type->block_len == 1)
            float_weight(j, type_id, w.src + at, how);
        else
            block_fill(j, w.type, w.src + at, how);
    return w;
}

void weights_row(const struct weights *w, uint32_t row, float *out)
{
    w->type->decode(w->src + row * w->row_bytes, w->l.k / w->type->block_len, out);
}

void weights_pack(struct judge *j, const struct weights *w, enum repack_order order, uint32_t head_dim,
                  void *planes)
{
    uint32_t n = w->l.n_ob * BLOCK_OUTPUTS, *perm = judge_alloc(j, n * sizeof *perm);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t o = repack_output(order, head_dim, i);
        perm[i] = o < w->m ? o : REPACK_NONE;
    }
    repack_blocks(w->type, &w->l, w->src, perm, 0, w->l.n_ob, planes);
}

uint64_t page_bytes(uint32_t n_kv, uint32_t kvt, uint32_t kv_dim)
{
    uint64_t n = (uint64_t)n_kv * KV_PAGE_TOKENS * kv_dim;
    return kvt == KVT_F16 ? n * 2 : kvt == KVT_F32 ? n * 4 : n + n / 8;
}

uint32_t kernel_type(enum kernel k)
{
    const char *name = kernel_info(k)->name, *at = strchr(name, '_');
    char type[16];
    if (!at || (strncmp(name, "embed_", 6) != 0 && strncmp(name, "matmul_", 7) != 0))
        return UINT32_MAX;
    snprintf(type, sizeof type, "%s", at + 1);
    size_t n = strlen(type);
    if (n > 2 && strcmp(type + n - 2, "_f") == 0)
        type[n - 2] = 0;
    return tensor_type_named(str_from(type))->id;
}
