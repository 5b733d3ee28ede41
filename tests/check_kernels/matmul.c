/* matmul: every type at many shapes, every way of cutting it up, every epilogue; and a row's bits must not
 * depend on its company (the tile that it stands in). */
#include <math.h>
#include <string.h>

#include "runtime/gpu/ref/ref_priv.h"
#include "tests/check_kernels/judge.h"

struct way { /* of cutting up */
    uint32_t cols, blocks, kparts;
    bool all; /* for every type, not only for some: a pipeline takes long to compile */
    uint32_t lanes; /* of an output block in a workgroup; 0: all eight */
};
struct shape {
    uint32_t k, m, rows;
    enum blocks how;
    enum fill fill;
};
static const struct way ways[] = {
    { 1, 1, 1, true, 0 }, { 2, 1, 1, false, 0 }, { 3, 1, 1, false, 0 }, { 4, 1, 1, true, 0 },
    { 8, 1, 1, false, 0 }, { 1, 2, 1, true, 0 }, { 4, 2, 1, true, 0 }, { 1, 1, 4, false, 0 },
    { 1, 1, 16, true, 0 }, { 4, 1, 4, false, 0 }, { 2, 2, 4, false, 0 }, { 1, 1, 8, false, 4 },
    { 4, 1, 16, false, 2 },
};
/* Those that meet every way and every epilogue: one and two planes, sub-blocks, floats. */
static const enum kernel thorough[] = { KERNEL_matmul_q4_0, KERNEL_matmul_q6_k, KERNEL_matmul_q5_1_f,
                                        KERNEL_matmul_f16_f };
static const struct shape shapes[] = {
    { 32, 1, 1, SANE, PLAIN },        { 64, 33, 3, SANE, PLAIN },     { 256, 17, 5, SANE, SPIKES },
    { 576, 40, 2, SANE, PLAIN },      { 576, 16, 9, ALL_ONES, SIGNS }, { 1280, 24, 3, SANE, HUGE_ONES },
    { 2048, 100, 1, SANE, TINY },     { 2048, 31, 4, ALL_ONES, SIGNS }, { 4096, 20, 2, SANE, PLAIN },
    { 768, 48, 3, EXTREME, PLAIN },   { 512, 16, 2, SANE, ZEROS },    { 512, 50, 2, ALL_ZERO, PLAIN },
};
static const struct shape wide = { 256, 65552, 2, SANE, PLAIN }; /* 32 where the type allows it */
static const struct shape usual = { 768, 56, 7, SANE, PLAIN };

static const uint32_t epilogues[] = {
    EPI_ADD,
    EPI_STORE | MM_BIAS | MM_SOFTCAP,
    EPI_STORE | MM_GATHERED,
    EPI_ADD | MM_BIAS,
    EPI_GLU | EPI_SILU,
    EPI_GLU | EPI_GELU | MM_BIAS,
    EPI_GLU | EPI_GELU_ERF,
    EPI_ACT | EPI_SILU,
    EPI_ACT | EPI_GELU | MM_BIAS,
    EPI_ACT | EPI_GELU_ERF,
};

/* A launch, with what is needed to say how far its floats may be off. */
struct product {
    struct call call;
    struct push_matmul push;
    struct weights w;
    bool q8;
    uint32_t rows, mode, y_stride;
    double *x;    /* [rows][k], as the kernel sees them */
    double *sum;  /* [rows][n_ob * 16] */
    double *size; /* the same of |products|, a block's weights taken as its largest */
};

static bool is_q8(enum kernel k)
{
    const char *name = kernel_info(k)->name;
    return strncmp(name, "matmul_", 7) == 0 && strcmp(name + strlen(name) - 2, "_f") != 0;
}

/* Rows past the step's hold NaN, as a tile may read them and must not care. */
static void make_x(struct judge *j, struct product *p, const struct shape *s, uint32_t cols)
{
    uint32_t rows = (s->rows + cols - 1) / cols * cols, k = s->k;
    p->push.x_stride = p->q8 ? (k + 127) / 128 * Q8_GROUP_QUADS : k / 4;
    uint32_t *x = call_bind(j, &p->call, 2, (uint64_t)rows * p->push.x_stride * 16);
    float *row = judge_alloc(j, k * sizeof *row);
    p->x = judge_alloc(j, (size_t)s->rows * k * sizeof *p->x);
    for (uint32_t r = 0; r < rows; r++, x += p->push.x_stride * 4) {
        fill_floats(j, row, k, s->fill);
        if (r >= s->rows)
            memset(x, 0xFF, p->push.x_stride * 16);
        else if (p->q8)
            for (uint32_t kb = 0; kb < k / 32; kb++) {
                q8_put_block(x, kb, row + 32 * kb);
                q8_get(x, kb, 1, p->x + (size_t)r * k + 32 * kb);
            }
        else
            memcpy(x, row, k * sizeof *row);
        for (uint32_t i = 0; i < k && r < s->rows && !p->q8; i++)
            p->x[(size_t)r * k + i] = (double)row[i];
    }
}

/* The products themselves, from the type's own decoder. */
static void make_sums(struct judge *j, struct product *p)
{
    uint32_t k = p->w.l.k, n = p->w.l.n_ob * BLOCK_OUTPUTS;
    float *w = judge_alloc(j, k * sizeof *w);
    p->sum = judge_alloc(j, (size_t)p->rows * n * sizeof *p->sum);
    p->size = judge_alloc(j, (size_t)p->rows * n * sizeof *p->size);
    for (uint32_t o = 0; o < p->w.m; o++) {
        weights_row(&p->w, o, w);
        for (uint32_t row = 0; row < p->rows; row++) {
            const double *x = p->x + (size_t)row * k;
            double *sum = &p->sum[(size_t)row * n + o], *size = &p->size[(size_t)row * n + o];
            for (uint32_t b = 0; b < k; b += 32) {
                double most = 0, all = 0;
                for (uint32_t i = b; i < b + 32; i++) {
                    *sum += (double)w[i] * x[i];
                    most = fmax(most, fabs((double)w[i]));
                    all += fabs(x[i]);
                }
                *size += most * all;
            }
        }
    }
}

static uint32_t lanes_of(const struct way *w)
{
    return w->lanes ? w->lanes : BLOCK_LANES;
}

static uint32_t local_of(const struct judge *j, const struct way *w)
{
    uint32_t least = j->info->subgroup < BLOCK_LANES ? BLOCK_LANES : j->info->subgroup;
    return w->kparts > 1 ? lanes_of(w) * w->kparts : least;
}

static void make(struct judge *j, struct product *p, const struct shape *s, const struct way *w, uint32_t mode)
{
    uint32_t local = local_of(j, w), per_group = w->blocks * (w->kparts > 1 ? 1 : local / BLOCK_LANES);
    *p = (struct product){ .q8 = is_q8(j->kernel), .rows = s->rows, .mode = mode };
    p->call = (struct call){ .spec = { local, w->cols, w->blocks, mode, j->info->subgroup, w->kparts } };
    uint32_t other = s->rows + 40; /* the count that does not count */
    judge_step(j, &p->call, mode & MM_GATHERED ? other : s->rows, mode & MM_GATHERED ? s->rows : other);
    p->w = weights_make(j, kernel_type(j->kernel), s->k, s->m, s->how);
    weights_pack(j, &p->w, call_bind(j, &p->call, 1, p->w.l.bytes));
    uint32_t first = s->m % 3 * 16; /* as a slice further down would have it */
    p->push = (struct push_matmul){ p->w.l.plane[0], p->w.l.plane[1], p->w.l.plane[2], p->w.l.plane[3],
                                    s->k / 32, p->w.l.n_ob, first, first + s->m, 0, 0,
                                    (mode & MM_SOFTCAP) ? 0.7f : 1.0f, 0.5f };
    make_x(j, p, s, w->cols);
    p->y_stride = p->push.y_stride = first + p->w.l.n_ob * BLOCK_OUTPUTS + 3;
    float *y = call_bind(j, &p->call, 3, (uint64_t)s->rows * p->y_stride * 4);
    float *bias = call_bind(j, &p->call, 4, (uint64_t)(first + p->w.l.n_ob * BLOCK_OUTPUTS) * 4);
    fill_floats(j, bias, first + p->w.l.n_ob * BLOCK_OUTPUTS, PLAIN);
    for (uint32_t i = 0; i < s->rows * p->y_stride && (mode & EPI_MASK) == EPI_ADD; i++)
        y[i] = judge_uniform(j) * 2;
    p->call.push = &p->push;
    p->call.groups[0] = (p->w.l.n_ob + per_group - 1) / per_group * (BLOCK_LANES / lanes_of(w));
    p->call.groups[1] = (s->rows + w->cols - 1) / w->cols;
    p->call.groups[2] = 1;
}

/* ---- how far off --------------------------------------------------------------------------------------- */

#define PER_SUM 1e-6      /* of the sum of |products| */
#define PER_VALUE 2e-6    /* of the result: exp, tanh, division, the last rounding */

static double act_size(double v) /* at least |act(v)|; no activation is steeper than 1.2 */
{
    return fabs(v) + 0.2;
}

static double allow_one(const struct product *p, uint32_t row, uint32_t o)
{
    uint32_t n = p->w.l.n_ob * BLOCK_OUTPUTS;
    double v = p->sum[(size_t)row * n + o], off = PER_SUM * p->size[(size_t)row * n + o];
    if (p->mode & MM_BIAS) {
        double bias = (double)((const float *)p->call.bind[4].data)[p->push.first + o];
        v += bias;
        off += PER_VALUE * fabs(bias);
    }
    if ((p->mode & EPI_MASK) == EPI_ACT || (p->mode & EPI_MASK) == EPI_GLU)
        off = 1.2 * off + PER_VALUE * act_size(v);
    if ((p->mode & EPI_MASK) == EPI_ADD) {
        size_t at = (size_t)row * p->y_stride + p->push.first + o;
        off += PER_VALUE * fabs((double)((const float *)p->call.bind[3].data)[at]);
    }
    return off + PER_VALUE * fmin(fabs(v), p->mode & MM_SOFTCAP ? (double)p->push.softcap : HUGE_VAL);
}

/* |gate'| off * up + |act(gate)| off' */
static double allow_pair(const struct product *p, uint32_t row, uint32_t gate, uint32_t up)
{
    uint32_t n = p->w.l.n_ob * BLOCK_OUTPUTS;
    const float *bias = (const float *)p->call.bind[4].data + p->push.first;
    double g = p->sum[(size_t)row * n + gate], u = p->sum[(size_t)row * n + up];
    double g_off = PER_SUM * p->size[(size_t)row * n + gate], u_off = PER_SUM * p->size[(size_t)row * n + up];
    if (p->mode & MM_BIAS) {
        g += (double)bias[gate];
        u += (double)bias[up];
    }
    return (1.2 * g_off + PER_VALUE * act_size(g)) * (fabs(u) + u_off) +
           act_size(g) * (u_off + PER_VALUE * fabs(u));
}

static double *allow(struct judge *j, const struct product *p)
{
    double *a = judge_alloc(j, p->call.bind[3].bytes / 4 * sizeof *a);
    for (uint32_t row = 0; row < p->rows; row++)
        for (uint32_t o = 0; o < p->w.m; o++) {
            uint32_t lane = o % BLOCK_OUTPUTS, ob = o / BLOCK_OUTPUTS;
            double *to = a + (size_t)row * p->y_stride;
            if ((p->mode & EPI_MASK) != EPI_GLU)
                to[p->push.first + o] = allow_one(p, row, o);
            else if (lane < BLOCK_LANES)
                to[p->push.first / 2 + ob * BLOCK_LANES + lane] = allow_pair(p, row, o, o + BLOCK_LANES);
        }
    return a;
}

/* The twin against the plain sums: it must be nearer than a device. */
static void check_twin(struct judge *j, const struct product *p)
{
    uint32_t n = p->w.l.n_ob * BLOCK_OUTPUTS;
    const float *ref = p->call.bind[3].ref;
    for (uint32_t row = 0; row < p->rows; row++)
        for (uint32_t o = 0; o < p->w.m; o++) {
            double want = p->sum[(size_t)row * n + o];
            double got = (double)ref[(size_t)row * p->y_stride + p->push.first + o];
            if (!(fabs(got - want) <= 1e-7 * fabs(want) + 1e-12 * p->size[(size_t)row * n + o])) {
                judge_fail(j, "twin: row %u output %u: %a, not %a", row, o, got, want);
                return;
            }
        }
}

static void check(struct judge *j, const struct shape *s, const struct way *w, uint32_t mode)
{
    struct product p;
    judge_case(j, "k %u, m %u, %u rows, cols %u blocks %u kparts %u, mode %u, blocks %d, x %s", s->k, s->m,
               s->rows, w->cols, w->blocks, w->kparts, mode, (int)s->how, fill_name(s->fill));
    make(j, &p, s, w, mode);
    make_sums(j, &p);
    if (!call_run(j, &p.call))
        return;
    if (mode == EPI_STORE)
        check_twin(j, &p);
    judge_floats(j, &p.call, 3, p.call.bind[3].bytes / 4, allow(j, &p));
}

/* The same rows in tiles of one and of `cols`: equal bits, with each number of K parts. */
static void check_company(struct judge *j, const struct way *way)
{
    struct product p[2];
    struct way w[2] = { { 1, 1, way->kparts, true, 0 }, *way };
    uint64_t seed = j->seed;
    judge_case(j, "same bits: cols %u blocks %u kparts %u lanes %u", way->cols, way->blocks, way->kparts,
               lanes_of(way));
    for (int i = 0; i < 2; i++) {
        j->seed = seed;
        make(j, &p[i], &usual, &w[i], EPI_STORE);
        if (!call_run(j, &p[i].call))
            return;
    }
    p[0].call.bind[3].ref = p[1].call.bind[3].dev;
    judge_floats(j, &p[0].call, 3, p[0].call.bind[3].bytes / 4, NULL);
}

static bool fits(const struct judge *j, const struct way *w)
{
    uint32_t shared = w->kparts > 1 ? w->kparts * BLOCK_LANES * 2 * w->blocks * w->cols * 4 : 0;
    return local_of(j, w) <= j->info->max_local && shared <= j->info->max_shared &&
           (lanes_of(w) == BLOCK_LANES || !j->info->texel_loads);
}

void check_matmul(struct judge *j)
{
    bool all = false;
    for (size_t i = 0; i < sizeof thorough / sizeof thorough[0]; i++)
        all = all || thorough[i] == j->kernel;
    const struct tensor_type *type = tensor_type_find(kernel_type(j->kernel));
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (shapes[i].k % type->block_len == 0)
            check(j, &shapes[i], &ways[0], EPI_STORE);
    struct shape w = wide;
    w.k = type->block_len <= 32 ? 32 : 256;
    check(j, &w, &ways[0], EPI_STORE);
    for (size_t i = 1; i < sizeof ways / sizeof ways[0]; i++)
        if (fits(j, &ways[i]) && (all || ways[i].all)) {
            check(j, &usual, &ways[i], EPI_STORE);
            if (ways[i].cols > 1 || ways[i].lanes)
                check_company(j, &ways[i]);
        }
    for (size_t i = 0; i < sizeof epilogues / sizeof epilogues[0]; i++)
        if (all || i == j->kernel % (sizeof epilogues / sizeof epilogues[0]))
            check(j, &usual, &ways[i % 2 ? 0 : 3], epilogues[i]);
}
