/* Which tensor gets which type.
 *
 * These are the rules of llama.cpp's llama-quantize, so that a name means the same mix everywhere: some
 * tensors are left alone; attn_v and ffn_down get more bits in some layers, the output in all; a row that
 * is no multiple of the type's block gets a type that fits. "Layer" below is mostly a count:
 * of the attn_v (or attn_qkv, attn_kv_b) and of the ffn_down matrices that came before, in the order of
 * blk.N and then of the names; in a model of experts ffn_down goes by N itself. */
#include "runtime/model/quantize_priv.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/gguf_priv.h"

/* ---- names ---------------------------------------------------------------------------------- */

static bool has(struct str s, const char *part)
{
    return memmem(s.p, s.n, part, strlen(part)) != NULL;
}

/* N of "blk.N.", else -1. */
static int64_t layer_of(struct str name)
{
    struct str blk = STR("blk.");
    int64_t n = 0;
    size_t i = blk.n;
    if (!str_starts(name, blk))
        return -1;
    for (; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && n < 1000000; i++)
        n = n * 10 + (name.p[i] - '0');
    return i > blk.n && i < name.n && name.p[i] == '.' ? n : -1;
}

static int by_layer(const void *of, uint32_t a, uint32_t b)
{
    const struct quantize_item *items = of;
    struct str x = items[a].from->name, y = items[b].from->name;
    int64_t i = layer_of(x), j = layer_of(y);
    if (i != j)
        return i < j ? -1 : 1;
    int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

enum role { OUTPUT, EMBEDDING, VALUE, KEY, ATTENTION_OUTPUT, DOWN, OTHER };

static enum role role_of(struct str name)
{
    static const struct {
        const char *part;
        bool whole;
        enum role role;
    } rows[] = {
        { "output.weight", true, OUTPUT },
        { "token_embd.weight", true, EMBEDDING },
        { "per_layer_token_embd.weight", true, EMBEDDING },
        { "attn_qkv.weight", false, VALUE },
        { "attn_kv_b.weight", false, VALUE },
        { "attn_v.weight", false, VALUE },
        { "attn_k.weight", false, KEY },
        { "attn_output.weight", false, ATTENTION_OUTPUT },
        { "ffn_down", false, DOWN },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].whole ? str_is(name, rows[i].part) : has(name, rows[i].part))
            return rows[i].role;
    return OTHER;
}

/* Matrices that stay as they are: small ones, and ones that few bits would spoil. */
static bool left_alone(const struct gguf_tensor *t)
{
    static const char *const parts[] = {
        "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
        "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
        "indexer.q_proj.weight", "time_mix_first.weight", "time_mix_w0.weight",
        "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_v0.weight", "time_mix_v1.weight",
        "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight", "time_mix_a2.weight",
        "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight",
        ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd",
        ".patch_merger", "a.rvq.codebook", "mm.a.code_embd",
    };
    bool matrix = t->shape[1] > 1 || t->shape[2] > 1 || t->shape[3] > 1;
    if (!matrix || !str_ends(t->name, STR("weight")) || str_is(t->name, "position_embd.weight") ||
        str_is(t->name, "token_types.weight"))
        return true;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (has(t->name, parts[i]))
            return true;
    return false;
}

/* ---- the model as far as the rules ask ---------------------------------------------------------- */

struct mix {
    const struct quantize_target *target;
    bool falcon, seventy_b, tied;
    uint32_t n_experts;
    int64_t n_layers, n_values; /* n_values: VALUE matrices there are */
    int64_t values, downs;      /* that came before */
};

static int64_t first_integer(const struct gguf *g, const char *key)
{
    const struct gguf_value *v = gguf_find(g, key);
    int64_t n = 0;
    return v && gguf_at_i64(v, 0, &n) ? n : 0;
}

/* Models of eighty layers whose value heads are shared by eight: their attn_v is small. */
static bool is_seventy_b(const struct gguf *g, struct str arch, int64_t n_layers)
{
    static const struct {
        const char *arch;
        int64_t layers;
        bool if_shared;
    } rows[] = { { "llama", 80, true }, { "qwen2", 80, false }, { "deci", 80, false },
                 { "olmo", 80, false }, { "jais2", 68, false } };
    int64_t heads = first_integer(g, "{arch}.attention.head_count");
    int64_t kv = heads;
    if (gguf_find(g, "{arch}.attention.head_count_kv"))
        kv = first_integer(g, "{arch}.attention.head_count_kv");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (str_is(arch, rows[i].arch))
            return n_layers == rows[i].layers && (!rows[i].if_shared || heads != kv);
    return false;
}

static enum err_code mix_begin(struct mix *m, const struct gguf *g,
                               const struct quantize_target *target,
                               const struct quantize_item *items, size_t n, struct err *e)
{
    uint32_t layers = 0, experts = 0;
    struct str arch = STR("");
    enum err_code c = gguf_str(g, "general.architecture", &arch, e);
    if (c == ERR_OK)
        c = gguf_u32(g, "{arch}.block_count", &layers, e);
    if (c == ERR_OK)
        c = gguf_u32(g, "{arch}.expert_count", &experts, e);
    *m = (struct mix){ .target = target, .falcon = str_is(arch, "falcon"), .tied = true,
                       .n_experts = experts, .n_layers = layers,
                       .seventy_b = is_seventy_b(g, arch, layers) };
    for (size_t i = 0; i < n; i++) {
        enum role r = role_of(items[i].from->name);
        m->tied = m->tied && r != OUTPUT;
        m->n_values += r == VALUE;
    }
    return c;
}

/* ---- the rules ---------------------------------------------------------------------------------- */

/* The first eighth, the last, and every third between them. */
static bool more_bits(int64_t layer, int64_t n)
{
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

static bool is_target(const struct mix *m, const char *name)
{
    return strcmp(m->target->name, name) == 0;
}

static bool is_medium(const struct mix *m)
{
    return is_target(m, "Q4_K_M") || is_target(m, "Q5_K_M");
}

static uint32_t value_type(struct mix *m, uint32_t type)
{
    int64_t layer = m->values++;
    if (m->n_experts == 8)
        return TENSOR_Q8_0;
    if (is_medium(m) && more_bits(layer, m->n_values))
        type = TENSOR_Q6_K;
    else if (is_target(m, "Q4_K_S") && layer < 4)
        type = TENSOR_Q5_K;
    return m->seventy_b && type == TENSOR_Q4_K ? TENSOR_Q5_K : type;
}

static uint32_t down_type(struct mix *m, struct str name, uint32_t type)
{
    int64_t layer = m->downs++, n = m->n_layers;
    if (m->n_experts > 1 && layer_of(name) >= 0)
        layer = layer_of(name);
    if (m->falcon && is_target(m, "Q4_K_M"))
        return layer < n / 16 ? TENSOR_Q6_K : more_bits(layer, n) ? TENSOR_Q5_K : type;
    if (is_medium(m) && more_bits(layer, n))
        return TENSOR_Q6_K;
    return is_target(m, "Q4_K_S") && !m->falcon && layer < n / 8 ? TENSOR_Q5_K : type;
}

static uint32_t wanted_type(struct mix *m, const struct gguf_tensor *t)
{
    uint32_t type = m->target->type;
    enum role r = role_of(t->name);
    if (r == OUTPUT || (r == EMBEDDING && m->tied)) {
        bool fits = t->shape[0] % tensor_type_find(type)->block_len == 0;
        return m->falcon || !fits || type == TENSOR_Q8_0 ? TENSOR_Q8_0 : TENSOR_Q6_K;
    }
    if (r == VALUE)
        return value_type(m, type);
    if (r == DOWN)
        return down_type(m, t->name, type);
    if (r == KEY && m->n_experts == 8)
        return TENSOR_Q8_0;
    if (r == ATTENTION_OUTPUT && m->n_experts == 8 && !m->falcon && type == TENSOR_Q4_K)
        return TENSOR_Q5_K;
    return type;
}

/* A type whose blocks fill the row. */
static uint32_t fitting_type(const struct gguf_tensor *t, uint32_t type)
{
    static const uint32_t instead[][2] = { { TENSOR_Q4_K, TENSOR_Q5_0 },
                                           { TENSOR_Q5_K, TENSOR_Q5_1 },
                                           { TENSOR_Q6_K, TENSOR_Q8_0 } };
    if (t->shape[0] % tensor_type_find(type)->block_len == 0)
        return type;
    for (size_t i = 0; i < sizeof instead / sizeof instead[0]; i++)
        if (instead[i][0] == type && t->shape[0] % 32 == 0)
            return instead[i][1];
    return TENSOR_F16;
}

enum err_code quantize_mix(const struct gguf *g, const struct quantize_target *target,
                           struct quantize_item *items, size_t n, struct err *e)
{
    struct mix m;
    enum err_code c = mix_begin(&m, g, target, items, n, e);
    uint32_t *order = c == ERR_OK ? gguf_sorted(n, items, by_layer) : NULL;
    if (c == ERR_OK && !order)
        c = err_no_memory(e, n * sizeof *order, "the order of the tensors");
    bool blocks = tensor_type_find(target->type)->block_len > 1;
    for (size_t i = 0; c == ERR_OK && i < n; i++) {
        struct quantize_item *it = &items[order[i]];
        uint32_t type = it->from->type_id;
        if (!left_alone(it->from))
            type = blocks ? fitting_type(it->from, wanted_type(&m, it->from)) : target->type;
        it->to = tensor_type_find(type);
    }
    mem_free(order);
    return c;
}
