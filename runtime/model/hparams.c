#include "runtime/model/hparams.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Reading goes on until the first error; what follows it does nothing. */
struct keys {
    const struct gguf *g;
    struct err *e;
    enum err_code code;
};

static void fail(struct keys *k, enum err_code code, const char *key, const char *what)
{
    struct str arch = { "", 0 };
    if (k->code != ERR_OK)
        return;
    (void)gguf_str(k->g, "general.architecture", &arch, NULL);
    bool prefixed = strncmp(key, "{arch}", 6) == 0;
    k->code = err_set(k->e, code, "key '%.*s%s' %s", prefixed ? (int)arch.n : 0, arch.p,
                      prefixed ? key + 6 : key, what);
}

static void check_range(struct keys *k, const char *key, uint64_t v, uint64_t low, uint64_t high)
{
    char text[96];
    snprintf(text, sizeof text, "is %" PRIu64 ", not within %" PRIu64 " to %" PRIu64, v, low, high);
    if (v < low || v > high)
        fail(k, ERR_FORMAT, key, text);
}

/* One number for all layers: a scalar, or an array of equal ones. */
static void read_equal(struct keys *k, const char *key, uint32_t n_layer, uint32_t *out)
{
    const struct gguf_value *v = gguf_find(k->g, key);
    int64_t first = 0, next = 0;
    if (!v || k->code != ERR_OK)
        return;
    if (!v->is_array) {
        k->code = gguf_u32(k->g, key, out, k->e);
        return;
    }
    if (v->n < n_layer || n_layer == 0 || !gguf_at_i64(v, 0, &first))
        fail(k, ERR_FORMAT, key, "must be an integer, or an array of one for each layer");
    for (uint32_t i = 1; i < n_layer && k->code == ERR_OK; i++)
        if (!gguf_at_i64(v, i, &next) || next != first)
            fail(k, ERR_UNSUPPORTED, key, "differs from layer to layer, which is not run");
    if (k->code == ERR_OK && (first < 0 || first > UINT32_MAX))
        fail(k, ERR_FORMAT, key, "is out of range");
    if (k->code == ERR_OK)
        *out = (uint32_t)first;
}

static void need(struct keys *k, const char *key)
{
    if (k->code == ERR_OK)
        k->code = gguf_need(k->g, key, k->e);
}

static void read_u32(struct keys *k, const char *key, uint32_t low, uint32_t high, uint32_t *out)
{
    if (k->code == ERR_OK)
        k->code = gguf_u32(k->g, key, out, k->e);
    if (k->code == ERR_OK)
        check_range(k, key, *out, low, high);
}

/* low <= value <= high, which excludes NaN and infinities. */
static void read_f32(struct keys *k, const char *key, float low, float high, float *out)
{
    char text[96];
    if (k->code == ERR_OK)
        k->code = gguf_f32(k->g, key, out, k->e);
    if (k->code == ERR_OK && !(*out >= low && *out <= high)) {
        snprintf(text, sizeof text, "is %g, not within %g to %g", (double)*out, (double)low,
                 (double)high);
        fail(k, ERR_FORMAT, key, text);
    }
}

/* ---- parts ---------------------------------------------------------------------------------------- */

static void read_family(struct keys *k, struct hparams *hp)
{
    struct str name = { "", 0 }, type = STR("model");
    need(k, "general.architecture");
    if (k->code == ERR_OK)
        k->code = gguf_str(k->g, "general.architecture", &name, k->e);
    if (k->code == ERR_OK)
        k->code = gguf_str(k->g, "general.type", &type, k->e);
    if (k->code != ERR_OK)
        return;
    if (!str_is(type, "model"))
        fail(k, ERR_UNSUPPORTED, "general.type", "says that this is not a model");
    hp->arch = arch_find(name);
    if (!hp->arch && k->code == ERR_OK)
        k->code = err_set(k->e, ERR_UNSUPPORTED, "model family '%s' is not one that this build runs",
                          gguf_quote(name).text);
}

/* What would change the layer in ways that no row can say. */
static void refuse_others(struct keys *k)
{
    uint32_t n = 0;
    bool causal = true;
    read_equal(k, "{arch}.expert_count", 1, &n);
    if (n > 0)
        fail(k, ERR_UNSUPPORTED, "{arch}.expert_count", "asks for a mixture of experts");
    if (k->code == ERR_OK)
        k->code = gguf_bool(k->g, "{arch}.attention.causal", &causal, k->e);
    if (!causal)
        fail(k, ERR_UNSUPPORTED, "{arch}.attention.causal", "asks for attention in both directions");
}

static void read_vocab(struct keys *k, struct hparams *hp)
{
    const struct gguf_value *tokens = NULL;
    const struct gguf_tensor *embd = gguf_find_tensor(k->g, STR("token_embd.weight"));
    const char *key = "{arch}.vocab_size";
    if (k->code == ERR_OK)
        k->code = gguf_array(k->g, "tokenizer.ggml.tokens", &tokens, k->e);
    if (k->code != ERR_OK)
        return;
    if (tokens) {
        key = "tokenizer.ggml.tokens";
        check_range(k, key, tokens->n, 1, HPARAMS_MAX_VOCAB);
        hp->n_vocab = (uint32_t)tokens->n;
    } else if (gguf_find(k->g, key)) {
        read_u32(k, key, 1, HPARAMS_MAX_VOCAB, &hp->n_vocab);
    } else if (embd) {
        check_range(k, key, embd->shape[1], 1, HPARAMS_MAX_VOCAB);
        hp->n_vocab = (uint32_t)embd->shape[1];
    } else {
        fail(k, ERR_FORMAT, key, "is missing, and so are tokens and embeddings");
    }
}

static void read_sizes(struct keys *k, struct hparams *hp)
{
    need(k, "{arch}.context_length");
    read_u32(k, "{arch}.context_length", 1, HPARAMS_MAX_CTX, &hp->n_ctx_train);
    need(k, "{arch}.embedding_length");
    read_u32(k, "{arch}.embedding_length", 1, HPARAMS_MAX_EMBD, &hp->n_embd);
    need(k, "{arch}.block_count");
    read_u32(k, "{arch}.block_count", 1, HPARAMS_MAX_LAYERS, &hp->n_layer);
    need(k, "{arch}.feed_forward_length");
    read_equal(k, "{arch}.feed_forward_length", hp->n_layer, &hp->n_ff);
    check_range(k, "{arch}.feed_forward_length", hp->n_ff, 1, HPARAMS_MAX_FF);
    const char *eps = hp->arch && hp->arch->norm == NORM_LAYER
                          ? "{arch}.attention.layer_norm_epsilon"
                          : "{arch}.attention.layer_norm_rms_epsilon";
    need(k, eps);
    read_f32(k, eps, 0.0f, 1.0f, &hp->norm_eps);
}

static void read_heads(struct keys *k, struct hparams *hp)
{
    need(k, "{arch}.attention.head_count");
    read_equal(k, "{arch}.attention.head_count", hp->n_layer, &hp->n_head);
    check_range(k, "{arch}.attention.head_count", hp->n_head, 1, HPARAMS_MAX_HEADS);
    hp->n_head_kv = hp->n_head;
    read_equal(k, "{arch}.attention.head_count_kv", hp->n_layer, &hp->n_head_kv);
    check_range(k, "{arch}.attention.head_count_kv", hp->n_head_kv, 1, hp->n_head);
    if (k->code != ERR_OK)
        return;
    if (hp->n_head % hp->n_head_kv != 0)
        fail(k, ERR_FORMAT, "{arch}.attention.head_count_kv", "does not divide the number of heads");
    hp->head_k = hp->head_v = hp->n_embd / hp->n_head;
    if (hp->n_embd % hp->n_head != 0 && (!gguf_find(k->g, "{arch}.attention.key_length") ||
                                         !gguf_find(k->g, "{arch}.attention.value_length")))
        fail(k, ERR_FORMAT, "{arch}.attention.head_count", "does not divide embedding_length");
    read_u32(k, "{arch}.attention.key_length", 2, HPARAMS_MAX_HEAD_DIM, &hp->head_k);
    read_u32(k, "{arch}.attention.value_length", 1, HPARAMS_MAX_HEAD_DIM, &hp->head_v);
    check_range(k, "{arch}.attention.key_length", hp->head_k, 2, HPARAMS_MAX_HEAD_DIM);
    check_range(k, "{arch}.attention.value_length", hp->head_v, 1, HPARAMS_MAX_HEAD_DIM);
}

static const struct {
    const char *name;
    enum rope_scaling kind;
} scalings[] = {
    { "none", ROPE_SCALE_NONE },
    { "linear", ROPE_SCALE_LINEAR },
    { "yarn", ROPE_SCALE_YARN },
    { "longrope", ROPE_SCALE_LONGROPE },
};

static void read_rope_scaling(struct keys *k, struct hparams *hp)
{
    struct str name = STR("linear");
    if (k->code == ERR_OK)
        k->code = gguf_str(k->g, "{arch}.rope.scaling.type", &name, k->e);
    size_t i = 0, n = sizeof scalings / sizeof scalings[0];
    while (i < n && !str_is(name, scalings[i].name))
        i++;
    if (i == n) {
        fail(k, ERR_UNSUPPORTED, "{arch}.rope.scaling.type",
             "is none of none, linear, yarn and longrope");
        return;
    }
    hp->rope_scaling = scalings[i].kind;
    hp->rope_factor = 0.0f; /* a zero counts as absent */
    read_f32(k, "{arch}.rope.scale_linear", 0.0f, 1e6f, &hp->rope_factor);
    read_f32(k, "{arch}.rope.scaling.factor", 0.0f, 1e6f, &hp->rope_factor);
    if (hp->rope_factor == 0.0f || hp->rope_scaling == ROPE_SCALE_NONE)
        hp->rope_factor = 1.0f;
    if (hp->rope_factor < 1e-6f)
        fail(k, ERR_FORMAT, "{arch}.rope.scaling.factor", "is less than 0.000001");
    hp->n_ctx_orig = hp->n_ctx_train;
    read_u32(k, "{arch}.rope.scaling.original_context_length", 0, HPARAMS_MAX_CTX, &hp->n_ctx_orig);
    if (hp->n_ctx_orig == 0)
        hp->n_ctx_orig = hp->n_ctx_train;
}

/* Peng et al. (arXiv:2309.00071), section 3.4: attention's temperature as a factor on cos and sin. */
static float yarn_magnitude(float factor, float multiplier)
{
    return factor <= 1.0f ? 1.0f : 0.1f * multiplier * logf(factor) + 1.0f;
}

static void read_yarn(struct keys *k, struct hparams *hp)
{
    float log_mul = 0.0f, magnitude = 1.0f;
    hp->yarn_beta_fast = 32.0f;
    hp->yarn_beta_slow = 1.0f;
    hp->yarn_ext = 0.0f;
    if (hp->rope_scaling == ROPE_SCALE_YARN) {
        hp->yarn_ext = 1.0f;
        read_f32(k, "{arch}.rope.scaling.yarn_ext_factor", 0.0f, 1.0f, &hp->yarn_ext);
        read_f32(k, "{arch}.rope.scaling.yarn_beta_fast", 1e-3f, 1e6f, &hp->yarn_beta_fast);
        read_f32(k, "{arch}.rope.scaling.yarn_beta_slow", 1e-3f, 1e6f, &hp->yarn_beta_slow);
        read_f32(k, "{arch}.rope.scaling.yarn_log_multiplier", 0.0f, 100.0f, &log_mul);
        magnitude = yarn_magnitude(hp->rope_factor, 1.0f);
        if (log_mul != 0.0f)
            magnitude /= yarn_magnitude(hp->rope_factor, log_mul);
        read_f32(k, "{arch}.rope.scaling.yarn_attn_factor", 1e-3f, 1e3f, &magnitude);
    }
    hp->rope_attn = 1.0f;
    read_f32(k, "{arch}.rope.scaling.attn_factor", 1e-3f, 1e3f, &hp->rope_attn);
    hp->rope_attn *= magnitude;
}

static void read_rope(struct keys *k, struct hparams *hp)
{
    hp->rope = true;
    if (k->code == ERR_OK && hp->arch->rope_optional)
        k->code = gguf_bool(k->g, "{arch}.rope.scaling.finetuned", &hp->rope, k->e);
    hp->n_rot = hp->head_k;
    read_u32(k, "{arch}.rope.dimension_count", 2, hp->head_k, &hp->n_rot);
    if (hp->n_rot % 2 != 0)
        fail(k, ERR_FORMAT, "{arch}.rope.dimension_count", "is odd");
    hp->rope_base = 10000.0f;
    read_f32(k, "{arch}.rope.freq_base", 1.001f, 1e12f, &hp->rope_base);
    if (k->code != ERR_OK)
        return;
    hp->rope_base_local = hp->arch->local_rope ? 10000.0f : hp->rope_base;
    read_f32(k, "{arch}.rope.freq_base_swa", 1.001f, 1e12f, &hp->rope_base_local);
    read_rope_scaling(k, hp);
    read_yarn(k, hp);
}

static void read_pattern(struct keys *k, struct hparams *hp)
{
    const char *key = "{arch}.attention.sliding_window_pattern";
    const struct gguf_value *v = gguf_find(k->g, key);
    uint32_t period = hp->arch->window_period;
    if (v && v->is_array) {
        if (v->n < hp->n_layer)
            fail(k, ERR_FORMAT, key, "has fewer elements than the model has layers");
        for (uint32_t i = 0; i < hp->n_layer && k->code == ERR_OK; i++) {
            int64_t local = 0;
            if (!gguf_at_i64(v, i, &local))
                fail(k, ERR_FORMAT, key, "must be an integer, or an array of bools");
            hp->local[i] = hp->window > 0 && local != 0;
        }
        return;
    }
    read_u32(k, key, 0, HPARAMS_MAX_LAYERS, &period);
    for (uint32_t i = 0; i < hp->n_layer && k->code == ERR_OK; i++)
        hp->local[i] = hp->window > 0 && (period == 0 || (i + 1) % period != 0);
}

static void read_window(struct keys *k, struct hparams *hp)
{
    hp->window = hp->arch->window;
    read_u32(k, "{arch}.attention.sliding_window", 0, UINT32_MAX, &hp->window);
    if (k->code == ERR_OK)
        read_pattern(k, hp);
}

/* A multiplier of 0 counts as absent, as writers mean it. */
static void read_scale(struct keys *k, const char *key, float *out)
{
    float v = 0.0f;
    read_f32(k, key, -1e6f, 1e6f, &v);
    if (v != 0.0f)
        *out = v;
}

static void read_scales(struct keys *k, struct hparams *hp)
{
    const struct arch *a = hp->arch;
    hp->embd_scale = hp->residual_scale = hp->logit_scale = 1.0f;
    read_scale(k, "{arch}.embedding_scale", &hp->embd_scale);
    if (a->embd_sqrt)
        hp->embd_scale *= sqrtf((float)hp->n_embd);
    read_scale(k, "{arch}.residual_scale", &hp->residual_scale);
    read_scale(k, "{arch}.logit_scale", &hp->logit_scale);
    bool deep = a->deep && hp->n_layer == a->deep;
    hp->attn_scale = 1.0f / sqrtf((float)(deep ? hp->n_embd / hp->n_head : hp->head_k));
    read_scale(k, "{arch}.attention.scale", &hp->attn_scale);
    hp->attn_cap = a->attn_cap;
    hp->final_cap = a->final_cap;
    read_f32(k, "{arch}.attn_logit_softcapping", 0.0f, 1e6f, &hp->attn_cap);
    read_f32(k, "{arch}.final_logit_softcapping", 0.0f, 1e6f, &hp->final_cap);
    if (deep && hp->n_embd < hp->n_head)
        fail(k, ERR_FORMAT, "{arch}.embedding_length", "is less than one for each head");
}

enum err_code hparams_read(const struct gguf *g, struct hparams *hp, struct err *e)
{
    static void (*const parts[])(struct keys *, struct hparams *) = {
        read_vocab, read_sizes, read_heads, read_rope, read_window, read_scales,
    };
    struct keys k = { g, e, ERR_OK };
    *hp = (struct hparams){ 0 };
    read_family(&k, hp);
    refuse_others(&k);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && k.code == ERR_OK; i++)
        parts[i](&k, hp);
    return k.code == ERR_OK ? ERR_OK : err_prefix(e, "%s", gguf_name(g, 0));
}
