/* Plans for devices that are not here: what real GPUs of 128 cores are asked to do with models of 1B, 8B
 * and 32B, from headers alone, and what Mesa's software device is with SmolLM2-135M. Speed comes of few
 * dependent steps, full workgroups and bytes read once; that it runs at all, of the limits that Vulkan
 * lets a driver have. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/engine/plan.h"
#include "runtime/gpu/gpu_priv.h"
#include "tests/model/gguf_writer.h"
#include "tests/unit/spirv_shared.h"

/* Launches of a layer: qkv, attention, join, out, up, down. More are counted in most_of_layer. */
#define MOST_A_LAYER 6
/* Embedding, last norm and logits: one of each, but for a table of 1 GiB in bindings of 128 MiB. */
#define MOST_BESIDE 20
#define CORES 128
#define MIB ((uint64_t)1 << 20)

/* What a driver may insist on. */
enum {
    LIMIT_PUSH = 128,
    LIMIT_LOCAL = 256, /* comfortable everywhere */
    LIMIT_GROUPS = 65535,
    LIMIT_SHARED = 32768,
    LIMIT_PIPELINES = 60,
    BIND_ALIGN = 256,
};

/* ---- models ---------------------------------------------------------------------------------- */

enum files { Q4_0, Q4_1, Q8_0, F16, Q4_K_M }; /* what llama-quantize makes of them */

struct model {
    const char *name, *arch;
    uint32_t n_embd, n_layer, n_head, n_kv, head, n_ff, n_vocab;
    bool tied, head_norms, rope_factors;
    enum files file;
};
#define LLAMA_1B 2048, 16, 32, 8, 64, 8192, 128256, true, false, true
#define LLAMA_8B 4096, 32, 32, 8, 128, 14336, 128256, false, false, true
#define QWEN_32B 5120, 64, 64, 8, 128, 25600, 151936, false, true, false
#define SMOLLM2 576, 30, 9, 3, 64, 1536, 49152, true, false, false
static const struct model on_gpu[] = {
    { "1B Q4_0", "llama", LLAMA_1B, Q4_0 },     { "1B Q4_K_M", "llama", LLAMA_1B, Q4_K_M },
    { "8B Q4_0", "llama", LLAMA_8B, Q4_0 },     { "8B Q4_K_M", "llama", LLAMA_8B, Q4_K_M },
    { "8B Q8_0", "llama", LLAMA_8B, Q8_0 },     { "8B F16", "llama", LLAMA_8B, F16 },
    { "32B Q4_0", "qwen3", QWEN_32B, Q4_0 },    { "32B Q4_K_M", "qwen3", QWEN_32B, Q4_K_M },
};
static const struct model on_cpu[] = { { "135M Q4_1", "llama", SMOLLM2, Q4_1 },
                                       { "135M Q4_0", "llama", SMOLLM2, Q4_0 } };

static uint32_t plain_type(enum files f)
{
    static const uint32_t types[] = { TENSOR_Q4_0, TENSOR_Q4_1, TENSOR_Q8_0, TENSOR_F16, TENSOR_Q4_K };
    return types[f];
}

/* The layers whose v and down have six bits in a Q4_K_M file: the first and last eighth, and every third
 * of the others. */
static bool more_bits(uint32_t layer, uint32_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static void tensor(struct gguf_writer *w, const char *pattern, uint32_t layer, uint32_t type, uint64_t cols,
                   uint64_t rows)
{
    char name[64];
    const uint64_t dims[4] = { cols, rows, 0, 0 };
    snprintf(name, sizeof name, "blk.%u.%s.weight", layer, pattern);
    gw_tensor(w, layer == UINT32_MAX ? pattern : name, type, dims);
}

static void write_keys(struct gguf_writer *w, const struct model *m)
{
    gguf_writer_init(w, m->arch);
    gw_u32(w, "{arch}.context_length", 131072);
    gw_u32(w, "{arch}.embedding_length", m->n_embd);
    gw_u32(w, "{arch}.block_count", m->n_layer);
    gw_u32(w, "{arch}.feed_forward_length", m->n_ff);
    gw_u32(w, "{arch}.attention.head_count", m->n_head);
    gw_u32(w, "{arch}.attention.head_count_kv", m->n_kv);
    gw_u32(w, "{arch}.attention.key_length", m->head);
    gw_u32(w, "{arch}.attention.value_length", m->head);
    gw_u32(w, "{arch}.rope.dimension_count", m->head);
    gw_f32(w, "{arch}.attention.layer_norm_rms_epsilon", 1e-5f);
}

static void write_layer(struct gguf_writer *w, const struct model *m, uint32_t i)
{
    uint32_t plain = plain_type(m->file), f32 = TENSOR_F32;
    uint32_t big = m->file == Q4_K_M && more_bits(i, m->n_layer) ? TENSOR_Q6_K : plain;
    uint64_t q = (uint64_t)m->n_head * m->head, kv = (uint64_t)m->n_kv * m->head;
    tensor(w, "attn_norm", i, f32, m->n_embd, 0);
    tensor(w, "attn_q", i, plain, m->n_embd, q);
    tensor(w, "attn_k", i, plain, m->n_embd, kv);
    tensor(w, "attn_v", i, big, m->n_embd, kv);
    if (m->head_norms) {
        tensor(w, "attn_q_norm", i, f32, m->head, 0);
        tensor(w, "attn_k_norm", i, f32, m->head, 0);
    }
    tensor(w, "attn_output", i, plain, q, m->n_embd);
    tensor(w, "ffn_norm", i, f32, m->n_embd, 0);
    tensor(w, "ffn_gate", i, plain, m->n_embd, m->n_ff);
    tensor(w, "ffn_up", i, plain, m->n_embd, m->n_ff);
    tensor(w, "ffn_down", i, big, m->n_ff, m->n_embd);
}

static uint32_t head_type(const struct model *m)
{
    if (m->file == F16 || m->file == Q8_0)
        return plain_type(m->file);
    return m->n_embd % 256 ? TENSOR_Q8_0 : TENSOR_Q6_K;
}

static void write_model(struct gguf_writer *w, const struct model *m)
{
    const uint32_t none = UINT32_MAX;
    write_keys(w, m);
    tensor(w, "token_embd.weight", none, m->tied ? head_type(m) : plain_type(m->file), m->n_embd, m->n_vocab);
    if (m->rope_factors)
        tensor(w, "rope_freqs.weight", none, TENSOR_F32, m->head / 2, 0);
    for (uint32_t i = 0; i < m->n_layer; i++)
        write_layer(w, m, i);
    tensor(w, "output_norm.weight", none, TENSOR_F32, m->n_embd, 0);
    if (!m->tied)
        tensor(w, "output.weight", none, head_type(m), m->n_embd, m->n_vocab);
}

/* A header, read, and a plan of it. */
struct paper {
    const struct model *m;
    const struct plan_device *d;
    unsigned char *bytes;
    struct gguf *g;
    struct hparams hp;
    struct weights w;
    struct plan *p;
};

static enum err_code paper_make(struct paper *x, const struct model *m, const struct plan_device *d,
                                struct plan_options o, struct err *e)
{
    struct gguf_writer w;
    size_t n;
    *x = (struct paper){ .m = m, .d = d };
    write_model(&w, m);
    x->bytes = gw_file(&w, false, &n, NULL);
    enum err_code code = gguf_open_memory(x->bytes, n, n + w.data, &x->g, e);
    gguf_writer_finish(&w);
    if (code == ERR_OK)
        code = hparams_read(x->g, &x->hp, e);
    if (code == ERR_OK)
        code = weights_bind(x->g, &x->hp, &x->w, e);
    return code == ERR_OK ? plan_create(&x->hp, &x->w, d, &o, &x->p, e) : code;
}

static void paper_drop(struct paper *x)
{
    plan_destroy(x->p);
    weights_finish(&x->w);
    gguf_close(x->g);
    mem_free(x->bytes);
}

/* ---- devices --------------------------------------------------------------------------------- */

#define REAL(lanes, range)                                                                         \
    { .subgroup = lanes, .cores = CORES, .max_local = 1024, .max_range = range }
#define SOFTWARE(lanes)                                                                            \
    { .software = true, .q8 = true, .subgroup = lanes, .cores = 2, .max_local = 1024,              \
      .max_range = 2048 * MIB }
static const struct plan_device gpus[] = {
    REAL(32, 128 * MIB), REAL(32, 2048 * MIB), REAL(32, 4096 * MIB - 1),
    REAL(64, 128 * MIB), REAL(64, 2048 * MIB), REAL(64, 4096 * MIB - 1),
};
static const struct plan_device cpus[] = { SOFTWARE(4), SOFTWARE(8), SOFTWARE(16) };

/* ---- saying where ---------------------------------------------------------------------------- */

struct where {
    const struct paper *x;
    const struct plan_program *g; /* NULL: the whole plan */
    size_t at;                    /* launch; SIZE_MAX: the whole program */
};

__attribute__((format(printf, 2, 3), noreturn)) static void fail_at(struct where w, const char *format, ...)
{
    char what[256], place[128] = "", step[32] = "";
    const struct plan_device *d = w.x->d;
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (w.g)
        snprintf(place, sizeof place, ", tiles of %u", w.g->cols);
    if (w.g && w.at < w.g->n)
        snprintf(step, sizeof step, ", launch %zu", w.at);
    fail_msg("%s, %s subgroup %u range %llu MiB local %u%s%s%s%s: %s", w.x->m->name,
             d->software ? "software" : "real", d->subgroup, (unsigned long long)(d->max_range / MIB),
             d->max_local, place, step, *step ? " " : "", *step ? w.g->launch[w.at].label : "", what);
    abort(); /* not reached */
}
#define HOLDS(where, good, ...)                                                                    \
    do {                                                                                           \
        if (!(good))                                                                               \
            fail_at(where, __VA_ARGS__);                                                           \
    } while (0)

/* ---- limits ---------------------------------------------------------------------------------- */

static void check_binds(struct where w, const struct plan_launch *l)
{
    const struct plan *p = w.x->p;
    for (size_t i = 0; kernel_info(l->kernel)->bindings[i]; i++) {
        const struct plan_bind *b = &l->bind[i];
        HOLDS(w, b->buffer < p->n_buffers, "binding %zu is of buffer %u of %zu", i, b->buffer, p->n_buffers);
        uint64_t all = p->buffers[b->buffer].bytes ? p->buffers[b->buffer].bytes : BIND_ALIGN;
        HOLDS(w, b->offset % BIND_ALIGN == 0, "binding %zu begins at %llu", i, (unsigned long long)b->offset);
        HOLDS(w, b->offset < all, "binding %zu begins at %llu of %llu", i, (unsigned long long)b->offset,
              (unsigned long long)all);
        uint64_t bytes = b->bytes ? b->bytes : all - b->offset;
        HOLDS(w, bytes <= w.x->d->max_range, "binding %zu spans %llu bytes", i, (unsigned long long)bytes);
        HOLDS(w, bytes <= all - b->offset, "binding %zu leaves its buffer '%s' by %llu bytes", i,
              p->buffers[b->buffer].name, (unsigned long long)(bytes - (all - b->offset)));
    }
}

static void check_groups(struct where w, const struct plan_launch *l)
{
    const struct plan *p = w.x->p;
    const uint32_t rows[] = { 1, 4, 5, 8, MAX_STEP_ROWS };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint32_t out = rows[i] < p->max_out ? rows[i] : p->max_out, groups[3];
        plan_groups(l, w.g->cols, rows[i], out, p->max_splits, groups);
        for (int k = 0; k < 3; k++)
            HOLDS(w, groups[k] <= LIMIT_GROUPS, "%u groups in dimension %d at %u rows", groups[k], k, rows[i]);
        bool runs = groups[0] && groups[1] && groups[2];
        HOLDS(w, runs || strcmp(l->label, "join") == 0, "nothing runs at %u rows", rows[i]);
    }
}

static void check_launch(struct where w)
{
    const struct plan_launch *l = &w.g->launch[w.at];
    const struct plan_device *d = w.x->d;
    uint32_t local = l->spec[SPEC_LOCAL];
    HOLDS(w, kernel_info(l->kernel)->push_bytes <= LIMIT_PUSH, "%u bytes of push constants",
          kernel_info(l->kernel)->push_bytes);
    HOLDS(w, local > 0 && local <= LIMIT_LOCAL && local <= d->max_local, "a workgroup of %u", local);
    for (int texel = 0; texel < 2; texel++) {
        struct spirv code = kernel_spirv(l->kernel, texel);
        uint64_t shared = spirv_shared_bytes(code.code, code.bytes, l->spec, N_SPEC);
        HOLDS(w, shared <= LIMIT_SHARED, "%llu bytes of shared memory", (unsigned long long)shared);
    }
    check_groups(w, l);
    check_binds(w, l);
}

static void check_buffers(const struct paper *x)
{
    struct where w = { .x = x };
    for (size_t i = 0; i < x->p->n_buffers; i++)
        HOLDS(w, x->p->buffers[i].bytes <= GPU_MAX_BUFFER, "buffer %zu, '%s', of %llu bytes", i,
              x->p->buffers[i].name, (unsigned long long)x->p->buffers[i].bytes);
    size_t pipelines = plan_pipelines(x->p, 0, PLAN_PROGRAMS);
    HOLDS(w, pipelines <= LIMIT_PIPELINES, "%zu pipelines", pipelines);
}

static void check_limits(const struct paper *x)
{
    check_buffers(x);
    for (int i = 0; i < PLAN_PROGRAMS; i++)
        for (size_t k = 0; k < x->p->program[i].n; k++)
            check_launch((struct where){ x, &x->p->program[i], k });
}

/* ---- speed ----------------------------------------------------------------------------------- */

/* The first layer has a norm before it, a v of another type than q and k a launch, and so have norms of
 * heads (with the rotation). Gate and up that are larger than a binding are cut in two. */
static size_t most_of_layer(const struct paper *x, uint32_t il)
{
    const struct gguf_tensor *const *t = x->w.layer[il].t;
    bool more[] = { il == 0, t[W_V]->type_id != t[W_K]->type_id, x->m->head_norms,
                    t[W_GATE]->bytes + t[W_UP]->bytes > x->d->max_range };
    size_t n = MOST_A_LAYER;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        n += more[i];
    return n;
}

static void check_layers(const struct paper *x)
{
    for (uint32_t i = 0; i < PLAN_PROGRAMS; i++) {
        struct where w = { x, &x->p->program[i], SIZE_MAX };
        size_t all = MOST_BESIDE, longest = 0;
        for (uint32_t il = 0; il < x->m->n_layer; il++) {
            size_t n = 0, most = most_of_layer(x, il);
            for (size_t k = 0; k < w.g->n; k++)
                n += w.g->launch[k].layer == (int32_t)il;
            HOLDS(w, n <= most, "%zu launches in layer %u, more than %zu", n, il, most);
            longest = n > longest ? n : longest;
            all += most;
        }
        struct plan_totals t = plan_program_totals(x->p, i);
        HOLDS(w, t.launches == w.g->n && t.launches <= all, "%zu launches", t.launches);
        HOLDS(w, t.most_a_layer == longest, "%zu launches in a layer, not %zu", longest, t.most_a_layer);
    }
}

/* Bytes of what one decode step reads of the file: all but what the embedding is looked up in. */
static uint64_t file_bytes(const struct paper *x)
{
    uint64_t n = gguf_tensor_bytes(x->g);
    return x->m->tied ? n : n - x->w.t[W_TOKEN_EMBD]->bytes;
}

static void check_bytes(const struct paper *x)
{
    for (uint32_t i = 0; i < PLAN_PROGRAMS; i++) {
        struct where w = { x, &x->p->program[i], SIZE_MAX };
        double share = (double)plan_program_totals(x->p, i).weight_bytes / (double)file_bytes(x);
        HOLDS(w, share <= 1.05 && share >= 0.99, "%.4f times the file's weights are read", share);
    }
}

/* The decode program's products: enough workgroups that every core has two, where there are outputs
 * enough; a matrix of K or V rows alone may have a quarter of that. */
static void check_workgroups(const struct paper *x)
{
    const struct plan_program *g = &x->p->program[0];
    for (size_t i = 0; i < g->n; i++) {
        struct where w = { x, g, i };
        const struct plan_launch *l = &g->launch[i];
        if (!l->weight_bytes)
            continue;
        uint32_t groups = l->groups[0] * l->groups[1] * l->groups[2];
        uint32_t outputs = l->push.matmul.n_ob * BLOCK_OUTPUTS;
        uint32_t least = outputs > 2 * x->m->n_kv * x->m->head ? 2 * CORES : CORES / 2;
        HOLDS(w, groups >= least, "%u workgroups for %u outputs on %u cores", groups, outputs, CORES);
    }
}

/* Attention of one row over a whole default context fills the cores; of a step's rows, no dispatch has
 * more than a slow core does in an eighth of a second (8 GFLOP/s). */
static void check_attention(const struct paper *x)
{
    const struct plan *p = x->p;
    struct where w = { .x = x, .g = &p->program[0] };
    while (strcmp(w.g->launch[w.at].label, "attention") != 0)
        w.at++;
    uint32_t groups[3], step = 0;
    plan_groups(&w.g->launch[w.at], 1, 1, 1, p->max_splits, groups);
    HOLDS(w, groups[0] * groups[2] >= 2 * CORES, "%u workgroups of %u tokens", groups[0] * groups[2],
          p->split_tokens);
    HOLDS(w, p->split_tokens % KV_PAGE_TOKENS == 0, "splits of %u tokens", p->split_tokens);
    double a_token = 4.0 * x->m->n_head * x->m->head;
    for (uint32_t at = 0; at < 131072; at += step) { /* a prompt, step by step */
        step = plan_rows_in_span(p, 0, at, MAX_STEP_ROWS);
        HOLDS(w, step > 0, "no room for a row at %u", at);
        double tokens = step * (at + 1.0) + step * (step - 1.0) / 2;
        HOLDS(w, tokens * a_token <= 1e9 * CORES, "%u rows at %u in one dispatch", step, at);
        HOLDS(w, step == MAX_STEP_ROWS || (tokens + at + step) * a_token > 0.99e9 * CORES,
              "only %u rows at %u", step, at);
    }
    HOLDS(w, plan_rows_in_span(p, p->step_span, 0, 1) == 0, "room where all is taken");
}

/* What makes a row's bits independent of its company (plan.h): the programs differ in their tiles alone. */
static void check_same_sums(const struct paper *x)
{
    struct plan_launch *l = &x->p->program[2].launch[x->p->program[2].n / 2], was = *l;
    HOLDS(((struct where){ .x = x }), plan_reproducible(x->p), "not reproducible");
    l->spec[SPEC_KPARTS] *= 2; /* and it does look */
    HOLDS(((struct where){ .x = x }), !plan_reproducible(x->p), "other sums are not seen");
    *l = was;
    l->push.bytes[0] ^= 1;
    HOLDS(((struct where){ .x = x }), !plan_reproducible(x->p), "another push constant is not seen");
    *l = was;
    x->p->program[1].n--;
    HOLDS(((struct where){ .x = x }), !plan_reproducible(x->p), "a missing launch is not seen");
    x->p->program[1].n++;
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void each(const struct model *m, size_t n_m, const struct plan_device *d, size_t n_d,
                 void (*check)(const struct paper *x))
{
    for (size_t i = 0; i < n_m; i++)
        for (size_t k = 0; k < n_d; k++) {
            struct paper x;
            struct err e;
            if (paper_make(&x, &m[i], &d[k], (struct plan_options){ 0 }, &e) != ERR_OK)
                fail_at((struct where){ .x = &x }, "%s", e.text);
            check(&x);
            paper_drop(&x);
        }
}
#define COUNT(a) (sizeof(a) / sizeof *(a))
#define ON_GPUS(check) each(on_gpu, COUNT(on_gpu), gpus, COUNT(gpus), check)
#define ON_CPUS(check) each(on_cpu, COUNT(on_cpu), cpus, COUNT(cpus), check)

static void test_limits_real(void **state)
{
    (void)state;
    ON_GPUS(check_limits);
}

static void test_limits_software(void **state)
{
    (void)state;
    ON_CPUS(check_limits);
}

static void test_launches(void **state)
{
    (void)state;
    ON_GPUS(check_layers);
}

static void test_bytes(void **state)
{
    (void)state;
    ON_GPUS(check_bytes);
    ON_CPUS(check_bytes);
}

static void test_workgroups(void **state)
{
    (void)state;
    ON_GPUS(check_workgroups);
}

static void test_attention(void **state)
{
    (void)state;
    ON_GPUS(check_attention);
}

static void test_same_sums(void **state)
{
    (void)state;
    ON_GPUS(check_same_sums);
}

/* The numbers of the shared memory itself: what the shaders declare at known constants. */
static void test_shared_memory(void **state)
{
    (void)state;
    struct {
        enum kernel kernel;
        uint32_t spec[N_SPEC];
        uint64_t bytes;
    } rows[] = {
        { KERNEL_norm, { 64, 1, 1, NM_RMS | NM_TO_F32, 32, 1 }, 2048 * 4 },
        { KERNEL_norm, { 64, 1, 1, NM_TO_F32, 32, 1 }, 4 },
        { KERNEL_matmul_q4_0_f, { 128, 4, 1, 0, 32, 16 }, 16 * 8 * 2 * 4 * 4 },
        { KERNEL_matmul_q4_0_f, { 8, 4, 1, 0, 8, 1 }, 4 },
        { KERNEL_attention, { 32, 1, 4, 0, 32, 16 }, 0 },
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct spirv code = kernel_spirv(rows[i].kernel, false);
        assert_int_equal(spirv_shared_bytes(code.code, code.bytes, rows[i].spec, N_SPEC), rows[i].bytes);
    }
}

static bool names_number(const char *text)
{
    while (*text && !isdigit((unsigned char)*text))
        text++;
    return *text != '\0';
}

/* A device with less of something: a plan within it, or an error that says how much was wanted. */
static void test_small_devices(void **state)
{
    (void)state;
    const uint32_t locals[] = { 16, 64, 128, 256 };
    const uint64_t ranges[] = { 64 << 10, MIB, 16 * MIB, 64 * MIB };
    size_t planned = 0, refused = 0;
    for (size_t i = 0; i < COUNT(on_gpu); i++)
        for (size_t k = 0; k < COUNT(locals) * COUNT(ranges); k++) {
            struct plan_device d = REAL(32, ranges[k / COUNT(locals)]);
            struct paper x;
            struct err e;
            d.max_local = locals[k % COUNT(locals)];
            if (paper_make(&x, &on_gpu[i], &d, (struct plan_options){ 0 }, &e) == ERR_OK) {
                check_limits(&x);
                assert_true(d.max_local >= 64);
                planned++;
            } else {
                bool said = e.code == ERR_TOO_LARGE || (e.code == ERR_UNSUPPORTED && d.max_local < 64);
                HOLDS(((struct where){ .x = &x }), said && names_number(e.text), "%s: %s", err_name(e.code),
                      e.text);
                refused++;
            }
            paper_drop(&x);
        }
    assert_true(planned >= COUNT(on_gpu) * (COUNT(locals) - 1)); /* 64 MiB and 64 lanes do for all of them */
    assert_true(refused >= COUNT(on_gpu) * COUNT(locals)); /* 64 KiB for none */
}

/* The largest vocabulary that a file may have, and long contexts. */
static void test_large_things(void **state)
{
    (void)state;
    static const struct model wide = { "vocabulary of 4M", "llama", 256,  1, 4, 4, 64, 512, HPARAMS_MAX_VOCAB,
                                       true,               false,   false, Q4_0 };
    const struct plan_options options[] = { { 0, 1, KV_F16, false }, { 16384, 1, KV_F16, false }, { 131072, 1, KV_F16, false },
                                            { 65536, 1, KV_F32, false }, { 131072, 1, KV_Q8_0, false }, { 4096, 64, KV_F16, false } };
    struct paper x;
    struct err e;
    for (size_t i = 0; i < COUNT(gpus); i++) {
        if (paper_make(&x, &wide, &gpus[i], (struct plan_options){ 0 }, &e) != ERR_OK)
            fail_at((struct where){ .x = &x }, "%s", e.text);
        check_limits(&x);
        paper_drop(&x);
        for (size_t k = 0; k < COUNT(options) * COUNT(on_gpu); k++) {
            enum err_code code = paper_make(&x, &on_gpu[k % COUNT(on_gpu)], &gpus[i],
                                            options[k / COUNT(on_gpu)], &e);
            HOLDS(((struct where){ .x = &x }), code == ERR_OK || (code == ERR_TOO_LARGE && names_number(e.text)),
                  "%s: %s", err_name(code), e.text);
            if (code == ERR_OK)
                check_limits(&x);
            paper_drop(&x);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shared_memory), cmocka_unit_test(test_limits_real),
        cmocka_unit_test(test_limits_software), cmocka_unit_test(test_launches),
        cmocka_unit_test(test_bytes), cmocka_unit_test(test_workgroups),
        cmocka_unit_test(test_attention), cmocka_unit_test(test_same_sums), cmocka_unit_test(test_small_devices),
        cmocka_unit_test(test_large_things),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
