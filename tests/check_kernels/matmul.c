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
    EPI_STORE | MM_RMS | MM_BIAS,
    EPI_ADD | MM_NEXT_F32 | MM_RMS,
    EPI_ADD | MM_NEXT_F32 | MM_NEXT_Q8 | MM_BIAS,
    EPI_ADD | MM_NEXT_Q8,
    EPI_GLU | EPI_SILU | MM_NEXT_Q8 | MM_RMS,
    EPI_GLU | EPI_GELU | MM_NEXT_Q8 | MM_BIAS,
    EPI_HEADS | MM_NEOX | MM_BIAS,
    EPI_HEADS | MM_RMS | MM_NEOX | MM_KV_F32,
    EPI_HEADS | MM_RMS,
    EPI_HEADS | MM_KV_F32 | MM_BIAS,
};
#define MM_NEXT (MM_NEXT_F32 | MM_NEXT_Q8)

/* EPI_HEADS: 3 q heads on one k and one v head of 64; rows at these positions of sessions of their own. */
#define N_HEAD 3
#define HEAD_DIM 64
static const struct shape heads = { 768, (N_HEAD + 2) * HEAD_DIM, 7, SANE, PLAIN };
static const struct shape residual = { 768, 96, 7, SANE, PLAIN };
static const uint32_t positions[] = { 0, 31, 32, 63, 100, 159, 7 };
#define N_POS 160
#define ROW_SPAN (N_POS / KV_PAGE_TOKENS)

/* A launch, with what is needed to say how far its floats may be off. */
struct product {
    struct call call;
    struct push_matmul push;
    struct weights w;
    bool q8;
    uint32_t rows, mode, y_stride, lanes;
    uint32_t *place; /* [n_ob * 16] where an output is among the blocks; UINT32_MAX: nowhere */
    double *scale;   /* [rows] MM_RMS */
    double *x;    /* [rows][k], as the kernel sees them */
    double *sum;  /* [rows][n_ob * 16] */
    double *size; /* the same of |products|, a block's weights taken as its largest */
};

/* Some blocks beyond the last group of 128, where the type's own blocks allow it. */
static struct shape usual(const struct judge *j)
{
    uint32_t k = tensor_type_find(kernel_type(j->kernel))->block_len <= 32 ? 864 : 768;
    return (struct shape){ k, 56, 7, SANE, PLAIN };
}

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
            *sum *= p->scale[row];
            *size *= p->scale[row];
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

static void make_partials(struct judge *j, struct product *p)
{
    uint32_t n = p->push.rms_parts;
    float *parts = call_bind(j, &p->call, 5, (uint64_t)p->rows * p->push.part_stride * 16);
    p->scale = judge_alloc(j, p->rows * sizeof *p->scale);
    for (uint32_t row = 0; row < p->rows; row++, parts += p->push.part_stride * 4) {
        double sum = 0;
        for (uint32_t i = 0; i < p->push.part_stride * 4; i++)
            parts[i] = i < n ? fabsf(judge_uniform(j)) * 40 : NAN; /* padding does not count */
        for (uint32_t i = 0; i < n; i++)
            sum += (double)parts[i];
        p->scale[row] = p->mode & MM_RMS ? 1 / sqrt(sum / p->push.rms_n + (double)p->push.eps) : 1;
    }
}

/* Positions, page tables, pages, cosines and sines. */
static void make_heads(struct judge *j, struct product *p, uint32_t *step)
{
    uint32_t n_pages = p->rows * ROW_SPAN, kvt = p->mode & MM_KV_F32 ? KVT_F32 : KVT_F16;
    for (uint32_t row = 0; row < p->rows; row++) {
        step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_POS] = positions[row];
        step[STEP_ROWS + row * STEP_ROW_WORDS + ROW_PAGES] = row * ROW_SPAN;
    }
    for (uint32_t i = 6; i < 8; i++)
        call_bind(j, &p->call, i, page_bytes(1, kvt, HEAD_DIM) * n_pages);
    uint32_t *pages = call_bind(j, &p->call, 8, n_pages * 4 + 16 - n_pages * 4 % 16);
    for (uint32_t i = 0; i < n_pages; i++)
        pages[i] = n_pages - 1 - i;
    float *table = call_bind(j, &p->call, 9, N_POS * HEAD_DIM * 4);
    for (uint32_t i = 0; i < N_POS * HEAD_DIM / 2; i++) {
        table[2 * i] = cosf((float)i);
        table[2 * i + 1] = sinf((float)i);
    }
}

static void make_next(struct judge *j, struct product *p)
{
    uint32_t all = p->push.first + p->w.l.n_ob * BLOCK_OUTPUTS;
    call_bind(j, &p->call, 6, (uint64_t)p->rows * p->y_stride * 4);
    call_bind(j, &p->call, 7, (uint64_t)p->rows * p->push.next_stride * 16);
    call_bind(j, &p->call, 8, (uint64_t)p->rows * p->push.part_stride * 16);
    fill_floats(j, call_bind(j, &p->call, 9, (uint64_t)all * 4), all, PLAIN);
}

static enum repack_order order_of(uint32_t mode)
{
    uint32_t epi = mode & EPI_MASK;
    return epi == EPI_GLU ? ORDER_GLU : epi != EPI_HEADS ? ORDER_QUADS : mode & MM_NEOX ? ORDER_NEOX : ORDER_PAIRS;
}

/* Output r's weights are row r. With EPI_HEADS the v head is in ORDER_PAIRS. */
static void place_weights(struct judge *j, struct product *p, void *planes)
{
    enum repack_order order = order_of(p->mode);
    uint32_t n = p->w.l.n_ob * BLOCK_OUTPUTS, *perm = judge_alloc(j, n * sizeof *perm);
    uint32_t v = (p->mode & EPI_MASK) == EPI_HEADS ? (N_HEAD + 1) * HEAD_DIM : UINT32_MAX;
    p->place = judge_alloc(j, n * sizeof *p->place);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t o = i < v ? repack_output(order, HEAD_DIM, i) : v + repack_output(ORDER_PAIRS, HEAD_DIM, i - v);
        perm[i] = o < p->w.m ? o : REPACK_NONE;
        if (o < n)
            p->place[o] = i;
    }
    repack_blocks(p->w.type, &p->w.l, p->w.src, perm, 0, p->w.l.n_ob, planes);
}

static void make(struct judge *j, struct product *p, const struct shape *s, const struct way *w, uint32_t mode)
{
    uint32_t local = local_of(j, w), epi = mode & EPI_MASK;
    uint32_t passes = epi == EPI_GLU && mode & MM_NEXT_Q8 ? 2 : 1;
    uint32_t per_group = w->blocks * passes * (w->kparts > 1 ? 1 : local / BLOCK_LANES);
    *p = (struct product){ .q8 = is_q8(j->kernel), .rows = s->rows, .mode = mode, .lanes = lanes_of(w) };
    p->call = (struct call){ .spec = { local, w->cols, w->blocks, mode, j->info->subgroup, w->kparts, passes,
                                        p->q8 ? s->k / 32 % 4 : 0 } };
    uint32_t other = s->rows + 40; /* the count that does not count */
    uint32_t *step = judge_step(j, &p->call, mode & MM_GATHERED ? other : s->rows,
                                mode & MM_GATHERED ? s->rows : other);
    p->w = weights_make(j, kernel_type(j->kernel), s->k, (s->m + 63) / 64 * 64, s->how);
    p->w.m = s->m;
    place_weights(j, p, call_bind(j, &p->call, 1, p->w.l.bytes));
    uint32_t first = epi == EPI_HEADS || mode & MM_NEXT ? 0 : s->m % 3 * 16; /* as a slice further down */
    uint32_t all = first + p->w.l.n_ob * BLOCK_OUTPUTS;
    p->push = (struct push_matmul){ p->w.l.plane[0], p->w.l.plane[1], p->w.l.plane[2], p->w.l.plane[3],
                                    s->k / 32, p->w.l.n_ob, first, first + s->m, 0, 0,
                                    (mode & MM_SOFTCAP) ? 0.7f : 1.0f, 0.5f, .rms_n = 288, .rms_parts = 18, .eps = 1e-5f,
                                    .part_stride = 7, .next_stride = (all + 127) / 128 * Q8_GROUP_QUADS,
                                    .n_head = N_HEAD, .n_kv = 1, .head_dim = HEAD_DIM, .kv_dim = HEAD_DIM,
                                    .q_scale = 0.125f };
    if (mode & MM_NEXT)
        p->push.n_ob = epi == EPI_GLU ? p->w.l.n_ob : s->m / 16;
    make_x(j, p, s, w->cols);
    make_partials(j, p);
    p->y_stride = p->push.y_stride = all + 4;
    float *y = call_bind(j, &p->call, 3, (uint64_t)s->rows * p->y_stride * 4);
    float *bias = call_bind(j, &p->call, 4, (uint64_t)all * 4);
    fill_floats(j, bias, all, PLAIN);
    if (epi == EPI_HEADS)
        make_heads(j, p, step);
    else
        make_next(j, p);
    for (uint32_t i = 0; i < s->rows * p->y_stride && epi == EPI_ADD; i++)
        y[i] = judge_uniform(j) * 2;
    p->call.push = &p->push;
    p->call.groups[0] = (p->push.n_ob + per_group - 1) / per_group * (BLOCK_LANES / lanes_of(w));
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
        double bias = (double)((const float *)p->call.bind[4].data)[p->push.first + p->place[o]];
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
static double allow_pair(const struct product *p, uint32_t row, uint32_t pair)
{
    uint32_t n = p->w.l.n_ob * BLOCK_OUTPUTS, gate = 2 * pair, up = gate + 1;
    const float *bias = (const float *)p->call.bind[4].data + p->push.first;
    double g = p->sum[(size_t)row * n + gate], u = p->sum[(size_t)row * n + up];
    double g_off = PER_SUM * p->size[(size_t)row * n + gate], u_off = PER_SUM * p->size[(size_t)row * n + up];
    if (p->mode & MM_BIAS) {
        g += (double)bias[p->place[gate]];
        u += (double)bias[p->place[up]];
    }
    return (1.2 * g_off + PER_VALUE * act_size(g)) * (fabs(u) + u_off) +
           act_size(g) * (u_off + PER_VALUE * fabs(u));
}

/* A rotated query: both of its pair may be off. */
static double allow_head(const struct product *p, uint32_t row, uint32_t o)
{
    uint32_t in = o % HEAD_DIM, half = HEAD_DIM / 2;
    uint32_t with = p->mode & MM_NEOX ? o - in + (in + half) % HEAD_DIM : o ^ 1;
    return (allow_one(p, row, o) + allow_one(p, row, with)) * (double)p->push.q_scale;
}

/* Where output o goes in y, and how far off it may be there; UINT32_MAX: elsewhere. */
static uint32_t allow_at(const struct product *p, uint32_t row, uint32_t o, double *off)
{
    uint32_t epi = p->mode & EPI_MASK;
    if (epi == EPI_GLU) {
        if (o % 2 || p->mode & MM_NEXT_Q8)
            return UINT32_MAX;
        *off = allow_pair(p, row, o / 2);
        return (p->push.first + o) / 2;
    }
    if (epi == EPI_HEADS && o >= N_HEAD * HEAD_DIM)
        return UINT32_MAX;
    *off = epi == EPI_HEADS ? allow_head(p, row, o) : allow_one(p, row, o);
    return p->push.first + o;
}

static double *allow(struct judge *j, const struct product *p)
{
    double *a = judge_alloc(j, p->call.bind[3].bytes / 4 * sizeof *a), off;
    for (uint32_t row = 0; row < p->rows; row++)
        for (uint32_t o = 0; o < p->w.m; o++) {
            uint32_t at = allow_at(p, row, o, &off);
            if (at != UINT32_MAX)
                a[(size_t)row * p->y_stride + at] = off;
        }
    return a;
}

/* What is written for the next matmul. */
static void judge_next(struct judge *j, const struct product *p, const double *y_off)
{
    uint32_t m = p->w.m, n_ob = m / 16;
    const float *y = p->call.bind[3].ref, *g = p->call.bind[9].data;
    double *next = judge_alloc(j, p->call.bind[6].bytes / 4 * sizeof *next);
    double *parts = judge_alloc(j, p->call.bind[8].bytes / 4 * sizeof *parts);
    if ((p->mode & EPI_MASK) == EPI_ADD)
        for (uint32_t row = 0; row < p->rows; row++)
            for (uint32_t o = 0; o < n_ob * 16; o++) {
                size_t at = (size_t)row * p->y_stride + o;
                double v = fabs((double)y[at]);
                next[at] = (y_off[at] + PER_VALUE * v) * fabs((double)g[o]);
                uint32_t eighth = p->place[o] / 16 * 8 + p->place[o] % 8;
                parts[row * p->push.part_stride * 4 + eighth / p->lanes] += 2 * v * y_off[at] + PER_VALUE * v * v;
            }
    judge_floats(j, &p->call, 6, p->call.bind[6].bytes / 4, next);
    judge_floats(j, &p->call, 8, p->call.bind[8].bytes / 4, parts);
    judge_untouched(j, &p->call, 7);
    uint32_t k = (p->mode & EPI_MASK) == EPI_GLU ? (m / 2 + 31) / 32 * 32 : m;
    if (p->mode & MM_NEXT_Q8)
        judge_q8(j, &p->call, 7, p->rows, k, p->push.next_stride);
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
    double *off = allow(j, &p);
    judge_floats(j, &p.call, 3, p.call.bind[3].bytes / 4, off);
    if (mode & MM_NEXT)
        judge_next(j, &p, off);
    for (uint32_t i = 6; i < 8 && (mode & EPI_MASK) == EPI_HEADS; i++)
        judge_pages(j, &p.call, i, p.rows * ROW_SPAN, mode & MM_KV_F32 ? KVT_F32 : KVT_F16, HEAD_DIM, 1e-5);
}

/* The same rows in tiles of one and of `cols`: equal bits, with each number of K parts. */
static void check_company(struct judge *j, const struct way *way)
{
    struct product p[2];
    struct way w[2] = { { 1, 1, way->kparts, true, 0 }, *way };
    struct shape s = usual(j);
    uint64_t seed = j->seed;
    judge_case(j, "same bits: cols %u blocks %u kparts %u lanes %u", way->cols, way->blocks, way->kparts,
               lanes_of(way));
    for (int i = 0; i < 2; i++) {
        j->seed = seed;
        make(j, &p[i], &s, &w[i], EPI_STORE);
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

/* What needs whole blocks of q8 needs two output blocks a lane and eight lanes a subgroup. */
static void check_epilogue(struct judge *j, uint32_t mode, size_t turn)
{
    bool q8 = mode & MM_NEXT_Q8, eight = mode & MM_NEXT || mode & MM_RMS || (mode & EPI_MASK) == EPI_HEADS;
    const struct way *w = q8 ? &ways[turn % 2 ? 5 : 6] : &ways[turn % 2 ? 0 : 3];
    const struct shape most = usual(j);
    const struct shape *s = (mode & EPI_MASK) == EPI_HEADS ? &heads
                            : mode & MM_NEXT && (mode & EPI_MASK) == EPI_ADD ? &residual
                                                                             : &most;
    if (eight && j->info->subgroup < BLOCK_LANES)
        return;
    check(j, s, w, mode);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0] && eight && !q8; i++)
        if (i == 9 || (ways[i].lanes && fits(j, &ways[i])))
            check(j, s, &ways[i], mode);
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
    struct shape w = wide, most = usual(j);
    w.k = type->block_len <= 32 ? 32 : 256;
    check(j, &w, &ways[0], EPI_STORE);
    for (size_t i = 1; i < sizeof ways / sizeof ways[0]; i++)
        if (fits(j, &ways[i]) && (all || ways[i].all)) {
            check(j, &most, &ways[i], EPI_STORE);
            if (ways[i].cols > 1 || ways[i].lanes)
                check_company(j, &ways[i]);
        }
    for (size_t i = 0; i < sizeof epilogues / sizeof epilogues[0]; i++)
        if (all || i == j->kernel % (sizeof epilogues / sizeof epilogues[0]))
            check_epilogue(j, epilogues[i], i);
}
