#include "runtime/engine/plan_priv.h"

#define MAX_PARTIAL_BYTES ((uint64_t)128 << 20)
/* Multiplications and additions of attention that a core is given in one dispatch: at 8 GFLOP/s, which a
 * slow one does, 125 ms. A submit holds the attention of a few layers and must end well before 2 s. */
#define CORE_ATTENTION 1000000000ull
#define MAX_LOGIT_BYTES ((uint64_t)64 << 20)

/* Rows of a tile in each program. Eight rows in one tile read every weight once. */
static const uint32_t plan_cols[PLAN_PROGRAMS] = { 1, 4, 8 };

uint32_t plan_program_for(uint32_t n_rows)
{
    uint32_t which = 0;
    while (which + 1 < PLAN_PROGRAMS && plan_cols[which] < n_rows)
        which++;
    return which;
}

struct plan_device plan_device_of(const struct gpu_info *info)
{
    return (struct plan_device){
        .software = info->software,
        .ref = info->ref,
        .q8 = info->software && !info->ref,
        .subgroup = info->subgroup,
        .cores = info->cores,
        .max_local = info->max_local,
        .max_range = info->texel_loads && info->max_texel_range > info->max_storage_range
                         ? info->max_texel_range
                         : info->max_storage_range,
    };
}

/* ---- sizes ---------------------------------------------------------------------------------------- */

static enum err_code check_shapes(const struct hparams *hp, struct err *e)
{
    struct {
        const char *what;
        uint32_t n, multiple;
    } rows[] = {
        { "head size", hp->head_k, 2 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].n % rows[i].multiple)
            return err_set(e, ERR_UNSUPPORTED, "%s is %u; our kernels want a multiple of %u",
                           rows[i].what, rows[i].n, rows[i].multiple);
    if (hp->head_k != hp->head_v)
        return err_set(e, ERR_UNSUPPORTED, "keys of %u and values of %u a head; ours are equal",
                       hp->head_k, hp->head_v);
    if (hp->head_k > 512)
        return err_set(e, ERR_UNSUPPORTED, "heads of %u; ours are at most 512", hp->head_k);
    if (hp->n_embd > 65536 || hp->n_ff > 65536)
        return err_set(e, ERR_UNSUPPORTED, "rows of %u and %u; ours are at most 65536", hp->n_embd,
                       hp->n_ff);
    return ERR_OK;
}

static uint64_t kv_slot_bytes(const struct plan *p)
{
    uint64_t n = (uint64_t)KV_PAGE_TOKENS * p->kv_dim;
    return p->kv_type == KV_F16 ? n * 2 : p->kv_type == KV_F32 ? n * 4 : n + n / 8;
}

static uint64_t partial_bytes(const struct plan *p, const struct hparams *hp, uint32_t split_tokens)
{
    return (uint64_t)MAX_STEP_ROWS * hp->n_head * ceil_div(p->n_ctx, split_tokens) * (p->kv_dim + 2) * 4;
}

/* Tokens of an attention split. A real GPU has many cores to fill and one split a workgroup: there it is
 * halved while the partials of a full step do not take too much. */
static uint32_t split_tokens_of(const struct plan *p, const struct hparams *hp)
{
    uint64_t most = p->device.max_range < MAX_PARTIAL_BYTES ? p->device.max_range : MAX_PARTIAL_BYTES;
    uint32_t n = 512;
    while (!p->device.software && n > 2 * KV_PAGE_TOKENS && partial_bytes(p, hp, n / 2) <= most)
        n /= 2;
    return n;
}

static void size_context(struct plan *p, const struct hparams *hp, const struct plan_options *o)
{
    p->n_ctx = o->n_ctx ? o->n_ctx : hp->n_ctx_train < 4096 ? hp->n_ctx_train : 4096;
    if (p->n_ctx > hp->n_ctx_train)
        p->n_ctx = hp->n_ctx_train;
    if (p->n_ctx < 1)
        p->n_ctx = 1;
    p->n_seq = o->n_seq ? o->n_seq : 4;
    p->kv_type = o->kv_type;
    p->kv_dim = ceil_div(hp->head_k, 32) * 32;
    p->max_pages = ceil_div(p->n_ctx, KV_PAGE_TOKENS);
    p->n_pages = p->max_pages * p->n_seq;
    p->split_tokens = split_tokens_of(p, hp);
    p->max_splits = ceil_div(p->n_ctx, p->split_tokens);
    p->step_span = (p->device.cores ? p->device.cores : 1) * CORE_ATTENTION / (4ull * hp->n_head * hp->head_k);
}

static void add_fixed_buffers(struct builder *b)
{
    struct plan *p = b->p;
    const struct hparams *hp = b->hp;
    uint64_t rows = MAX_STEP_ROWS, f = sizeof(float), q = 16 * rows;
    uint32_t n_qkv = hparams_q_rows(hp) + hparams_k_rows(hp) + hparams_v_rows(hp);
    uint32_t n_o = pad32(hp->n_head * hp->head_k);
    uint64_t most = p->device.max_range < MAX_LOGIT_BYTES ? p->device.max_range : MAX_LOGIT_BYTES;
    uint64_t fit = most / (f * hp->n_vocab);
    p->max_out = fit < 1 ? 1 : fit > rows ? MAX_STEP_ROWS : (uint32_t)fit;
    bool q8 = p->device.q8;
    struct plan_buffer_spec fixed[BUF_FIXED_COUNT] = {
        [BUF_STEP] = { "step", STEP_WORDS * 4, GPU_HOST },
        [BUF_PAGES] = { "page tables", (uint64_t)p->n_seq * p->max_pages * 4, GPU_HOST },
        [BUF_VECTORS] = { "vectors", 0, GPU_DEVICE },
        [BUF_X] = { "x", rows * row_width(hp) * f, GPU_DEVICE },
        [BUF_A] = { "a", rows * row_width(hp) * f, GPU_DEVICE },
        [BUF_AQ] = { "a (q8)", q8 ? q * q8_quads(row_width(hp)) : 0, GPU_DEVICE },
        [BUF_QKV] = { "qkv", rows * n_qkv * f, GPU_DEVICE },
        [BUF_Q] = { "q", rows * hp->n_head * p->kv_dim * f, GPU_DEVICE },
        [BUF_O] = { "o", rows * n_o * f, GPU_DEVICE },
        [BUF_PARTIAL] = { "partials", partial_bytes(p, hp, p->split_tokens), GPU_DEVICE },
        [BUF_Y] = { "y", hp->arch->sandwich ? rows * row_width(hp) * f : 0, GPU_DEVICE },
        [BUF_H] = { "h", rows * pad32(hp->n_ff) * f, GPU_DEVICE },
        [BUF_HQ] = { "h (q8)", q8 ? q * q8_quads(hp->n_ff) : 0, GPU_DEVICE },
        [BUF_PARTS] = { "sums of squares", q * plan_part_quads(&p->device, hp), GPU_DEVICE },
        [BUF_NONE] = { "nothing", 256, GPU_DEVICE },
        [BUF_LOGITS] = { "logits", p->max_out * f * hp->n_vocab, GPU_HOST },
    };
    for (uint32_t i = 0; i < BUF_FIXED_COUNT; i++)
        plan_add_buffer(b, fixed[i].name, fixed[i].bytes, fixed[i].where);
    for (uint32_t i = 0; i < 2 * hp->n_layer; i++)
        plan_add_buffer(b, i & 1 ? "V pages" : "K pages", (uint64_t)p->n_pages * hp->n_head_kv * kv_slot_bytes(p),
                        GPU_DEVICE);
}

/* Every buffer but the slabs (whose slices are cut to size) is bound whole. */
static void check_ranges(struct builder *b)
{
    struct plan *p = b->p;
    size_t n = BUF_FIXED_COUNT + 2 * (size_t)b->hp->n_layer;
    uint64_t most = p->device.max_range < GPU_MAX_BUFFER ? p->device.max_range : GPU_MAX_BUFFER;
    for (size_t i = 0; i < n && b->code == ERR_OK; i++)
        if (p->buffers[i].bytes > most)
            plan_fail(b, err_set(b->e, ERR_TOO_LARGE,
                                 "%s take %llu MiB at %u sessions of %u tokens; the device binds at most %llu "
                                 "MiB at once: choose a smaller context or fewer sequences",
                                 p->buffers[i].name, (unsigned long long)(p->buffers[i].bytes >> 20), p->n_seq,
                                 p->n_ctx, (unsigned long long)(most >> 20)));
}

static void check_locals(struct builder *b)
{
    const struct plan *p = b->p;
    for (uint32_t i = 0; i < PLAN_PROGRAMS && !p->device.ref; i++)
        for (size_t k = 0; k < p->program[i].n && b->code == ERR_OK; k++) {
            const struct plan_launch *l = &p->program[i].launch[k];
            if (l->spec[SPEC_LOCAL] > p->device.max_local)
                plan_fail(b, err_set(b->e, ERR_UNSUPPORTED, "'%s' wants workgroups of %u; the device has at most %u",
                                     l->label, l->spec[SPEC_LOCAL], p->device.max_local));
        }
}

/* Norms join the matmuls around them where they are RMS norms and each stands before one branch. */
static void choose_fusion(struct builder *b, bool unfused)
{
    const struct hparams *hp = b->hp;
    const struct arch *a = hp->arch;
    bool norm_bias = false;
    for (uint32_t il = 0; il < hp->n_layer; il++)
        norm_bias = norm_bias || b->w->layer[il].t[W_ATTN_NORM_B] || b->w->layer[il].t[W_FFN_NORM_B];
    b->fused = !unfused && !b->p->device.ref && b->p->device.subgroup >= BLOCK_LANES &&
               a->norm == NORM_RMS && !a->sandwich && !a->parallel && !norm_bias;
    b->heads = b->fused && hp->rope && !a->qk_norm && hp->n_rot == hp->head_k && hp->head_k % 32 == 0 &&
               b->p->kv_type != KV_Q8_0;
}

static void sum_bytes(struct plan *p, uint32_t n_layer)
{
    for (size_t i = 0; i < p->n_buffers; i++) {
        bool kv = i >= BUF_FIXED_COUNT && i < BUF_FIXED_COUNT + 2 * (size_t)n_layer;
        if (kv)
            p->kv_bytes += p->buffers[i].bytes;
        else if (i < BUF_FIXED_COUNT)
            p->scratch_bytes += p->buffers[i].bytes;
    }
}

static void add_tables(struct builder *b, uint32_t tables[2])
{
    const struct hparams *hp = b->hp;
    uint32_t pairs = hp->rope ? hp->n_rot / 2 : 0, n = pairs ? b->p->n_ctx * pairs * 2 : 64;
    tables[0] = plan_add_vector(b, (struct plan_vector){ .n = n, .rope = 1 });
    tables[1] = hp->arch->local_rope ? plan_add_vector(b, (struct plan_vector){ .n = n, .rope = 2 }) : tables[0];
}

static void emit_program(struct builder *b, uint32_t which, const struct layer_plan *layers,
                         const struct head_plan *head, const uint32_t tables[2])
{
    b->prog = &b->p->program[which];
    b->prog->cols = plan_cols[which];
    b->layer = -1;
    plan_embed(b, head->embd);
    for (uint32_t il = 0; il < b->hp->n_layer; il++) {
        b->layer = (int32_t)il;
        plan_emit_layer(b, il, layers, tables);
    }
    b->layer = -1;
    b->prog->n_body = b->prog->n;
    plan_emit_head(b, head);
}

static void build(struct builder *b, struct layer_plan *layers)
{
    const struct hparams *hp = b->hp;
    const struct gguf_tensor *embd = b->w->t[W_TOKEN_EMBD], *out = weights_output(b->w);
    uint32_t tables[2] = { 0, 0 };
    struct head_plan head = { .norm_bias = b->w->t[W_OUT_NORM_B] != NULL };
    add_fixed_buffers(b);
    if (b->code != ERR_OK)
        return;
    add_tables(b, tables);
    head.embd = plan_add_matrix(b, &embd, 1, ORDER_QUADS, UINT32_MAX);
    for (uint32_t il = 0; il < hp->n_layer && b->code == ERR_OK; il++)
        plan_layer_weights(b, il, &layers[il]);
    if (b->code != ERR_OK)
        return;
    head.norm = plan_norm_vector(b, b->w->t[W_OUT_NORM], b->w->t[W_OUT_NORM_B]);
    if (out == embd)
        head.out = (struct piece){ .matrix = head.embd };
    else
        head.out = plan_piece(b, out, NULL, 1);
    head.out.has_bias = b->w->t[W_OUTPUT_B] != NULL;
    if (head.out.has_bias)
        head.out.bias = plan_add_bias(b, (struct plan_vector){ .n = hp->n_vocab, .part = { b->w->t[W_OUTPUT_B] },
                                                               .part_n = { hp->n_vocab } },
                                      &head.out.matrix, &(uint32_t){ 0 }, 1);
    check_ranges(b);
    for (uint32_t i = 0; i < PLAN_PROGRAMS && b->code == ERR_OK; i++)
        emit_program(b, i, layers, &head, tables);
    check_locals(b);
    sum_bytes(b->p, hp->n_layer);
}

enum err_code plan_create(const struct hparams *hp, const struct weights *w,
                          const struct plan_device *device, const struct plan_options *o,
                          struct plan **out, struct err *e)
{
    *out = NULL;
    enum err_code code = check_shapes(hp, e);
    if (code != ERR_OK)
        return code;
    struct plan *p = mem_zero(1, sizeof *p);
    struct layer_plan *layers = mem_zero(hp->n_layer, sizeof *layers);
    struct builder b = { .p = p, .hp = hp, .w = w, .e = e, .layer = -1 };
    if (!p || !layers) {
        code = err_no_memory(e, sizeof *p, "the plan");
    } else {
        p->hp = hp;
        p->device = *device;
        size_context(p, hp, o);
        choose_fusion(&b, o->unfused);
        build(&b, layers);
        code = b.code;
    }
    mem_free(layers);
    if (code != ERR_OK) {
        plan_destroy(p);
        return code;
    }
    *out = p;
    return ERR_OK;
}

void plan_destroy(struct plan *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n_matrices; i++)
        mem_free(p->matrices[i].slices);
    for (uint32_t i = 0; i < PLAN_PROGRAMS; i++)
        mem_free(p->program[i].launch);
    mem_free(p->matrices);
    mem_free(p->vectors);
    mem_free(p->buffers);
    arena_finish(&p->arena);
    mem_free(p);
}
