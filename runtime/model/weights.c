#include "runtime/model/weights.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

struct weight_row {
    const char *name; /* in a layer: behind "blk.%u." */
    enum weight_dim cols, rows;
    enum weight_rule rule;
};

static const struct weight_row model_rows[W_MODEL_COUNT] = {
#define X(role, name, cols, rows, rule) [role] = { name, cols, rows, rule },
    WEIGHT_MODEL_TABLE(X)
};
static const struct weight_row layer_rows[W_LAYER_COUNT] = {
    WEIGHT_LAYER_TABLE(X)
#undef X
};

/* What a layer's rows depend on besides the family. */
struct binding {
    const struct gguf *g;
    const struct hparams *hp;
    struct err *e;
    bool qkv_fused, gate_in_up; /* of this layer */
    uint32_t n_used;
};

/* ---- one row against one tensor ------------------------------------------------------------------- */

static uint64_t dim_size(const struct binding *b, enum weight_dim d)
{
    const struct hparams *hp = b->hp;
    uint64_t q = hparams_q_rows(hp), k = hparams_k_rows(hp), v = hparams_v_rows(hp);
    const uint64_t sizes[] = {
        [DIM_1] = 1,
        [DIM_EMBD] = hp->n_embd,
        [DIM_VOCAB] = hp->n_vocab,
        [DIM_Q] = q,
        [DIM_K] = k,
        [DIM_V] = v,
        [DIM_QKV] = q + k + v,
        [DIM_O] = (uint64_t)hp->n_head * hp->head_v,
        [DIM_FF] = hp->n_ff,
        [DIM_UP] = (uint64_t)hp->n_ff * (b->gate_in_up ? 2 : 1),
        [DIM_HEAD_K] = hp->head_k,
        [DIM_PAIRS] = hp->n_rot / 2,
    };
    return sizes[d];
}

enum presence { REQUIRED, OPTIONAL, FORBIDDEN };

static enum presence presence_of(const struct binding *b, enum weight_rule rule)
{
    const struct arch *a = b->hp->arch;
    const enum presence table[] = {
        [NEED] = REQUIRED,
        [MAY] = OPTIONAL,
        [NEED_BIASED] = a->biased ? REQUIRED : OPTIONAL,
        [NEED_SERIAL] = a->parallel ? FORBIDDEN : REQUIRED,
        [BIAS_SERIAL] = a->parallel ? FORBIDDEN : a->biased ? REQUIRED : OPTIONAL,
        [NEED_QK_NORM] = a->qk_norm ? REQUIRED : FORBIDDEN,
        [NEED_SANDWICH] = a->sandwich ? REQUIRED : FORBIDDEN,
        [NEED_GATE] = !a->gated || b->gate_in_up ? FORBIDDEN : REQUIRED,
        [BIAS_GATE] = !a->gated || b->gate_in_up ? FORBIDDEN : OPTIONAL,
        [NEED_SPLIT] = b->qkv_fused ? FORBIDDEN : REQUIRED,
        [BIAS_SPLIT] = b->qkv_fused ? FORBIDDEN : OPTIONAL,
        [BIAS_FUSED] = b->qkv_fused ? OPTIONAL : FORBIDDEN,
    };
    return table[rule];
}

static enum err_code check_type(const struct binding *b, const struct gguf_tensor *t, bool vector)
{
    struct gguf_quoted name = gguf_quote(t->name);
    if (!t->type)
        return err_set(b->e, ERR_UNSUPPORTED, "tensor '%s' has type %" PRIu32
                                              ", which this build does not know", name.text, t->type_id);
    bool plain = t->type_id == TENSOR_F32 || t->type_id == TENSOR_F16 || t->type_id == TENSOR_BF16;
    if (!t->type->decode || (vector && !plain))
        return err_set(b->e, ERR_UNSUPPORTED, "tensor '%s' has type %s, which this build does not "
                                              "run%s", name.text, t->type->name,
                       t->type->decode ? " for a vector" : "");
    return ERR_OK;
}

static enum err_code check_tensor(struct binding *b, const struct weight_row *row,
                                  const struct gguf_tensor *t)
{
    uint64_t cols = dim_size(b, row->cols), rows = dim_size(b, row->rows);
    if (t->shape[0] != cols || t->shape[1] != rows || t->shape[2] != 1 || t->shape[3] != 1)
        return err_set(b->e, ERR_FORMAT,
                       "tensor '%s' has shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                       "]; expected [%" PRIu64 ", %" PRIu64 "]",
                       gguf_quote(t->name).text, t->shape[0], t->shape[1], t->shape[2], t->shape[3],
                       cols, rows);
    b->n_used++;
    return check_type(b, t, row->rows == DIM_1);
}

static enum err_code bind_row(struct binding *b, const struct weight_row *row, struct str name,
                              const struct gguf_tensor **out)
{
    enum presence p = presence_of(b, row->rule);
    const struct gguf_tensor *t = gguf_find_tensor(b->g, name);
    *out = p == FORBIDDEN ? NULL : t;
    if (t && p == FORBIDDEN)
        return err_set(b->e, ERR_UNSUPPORTED, "tensor '%s' has no place here in family '%s'",
                       gguf_quote(name).text, b->hp->arch->name);
    if (!t && p == REQUIRED)
        return err_set(b->e, ERR_FORMAT, "tensor '%s' is missing", gguf_quote(name).text);
    return t ? check_tensor(b, row, t) : ERR_OK;
}

/* ---- a layer, the model ---------------------------------------------------------------------------- */

struct name {
    char text[GGUF_MAX_NAME_BYTES];
};

static struct str layer_name(struct name *n, uint32_t layer, const char *what)
{
    int len = snprintf(n->text, sizeof n->text, "blk.%" PRIu32 ".%s", layer, what);
    return (struct str){ n->text, (size_t)len };
}

static const struct gguf_tensor *layer_tensor(const struct binding *b, uint32_t layer,
                                              enum layer_weight role)
{
    struct name n;
    return gguf_find_tensor(b->g, layer_name(&n, layer, layer_rows[role].name));
}

/* Which of the two forms of qkv and of gate and up the layer has. */
static void find_forms(struct binding *b, uint32_t layer)
{
    const struct gguf_tensor *up = layer_tensor(b, layer, W_UP);
    b->qkv_fused = layer_tensor(b, layer, W_QKV) != NULL;
    b->gate_in_up = b->hp->arch->gated && !layer_tensor(b, layer, W_GATE) && up &&
                    up->shape[1] == 2 * (uint64_t)b->hp->n_ff;
}

static enum err_code bind_layer(struct binding *b, struct weights *w, uint32_t layer)
{
    struct name n;
    enum err_code c = ERR_OK;
    find_forms(b, layer);
    if (layer == 0) {
        w->qkv_fused = b->qkv_fused;
        w->gate_in_up = b->gate_in_up;
    }
    for (int role = 0; role < W_LAYER_COUNT && c == ERR_OK; role++)
        c = bind_row(b, &layer_rows[role], layer_name(&n, layer, layer_rows[role].name),
                     &w->layer[layer].t[role]);
    if (c == ERR_OK && (w->qkv_fused != b->qkv_fused || w->gate_in_up != b->gate_in_up))
        c = err_set(b->e, ERR_UNSUPPORTED,
                    "tensors of 'blk.%" PRIu32 "' are fused otherwise than those of 'blk.0'", layer);
    return c;
}

enum err_code weights_bind(const struct gguf *g, const struct hparams *hp, struct weights *w,
                           struct err *e)
{
    struct binding b = { .g = g, .hp = hp, .e = e };
    enum err_code c = ERR_OK;
    *w = (struct weights){ 0 };
    if (gguf_n_tensors(g) == 0)
        c = err_set(e, ERR_UNSUPPORTED, "the file holds a vocabulary or settings, but no weights");
    for (int role = 0; role < W_MODEL_COUNT && c == ERR_OK; role++)
        c = bind_row(&b, &model_rows[role], str_from(model_rows[role].name), &w->t[role]);
    if (c == ERR_OK && !w->t[W_ROPE_LONG] != !w->t[W_ROPE_SHORT])
        c = err_set(e, ERR_FORMAT, "tensors 'rope_factors_long.weight' and "
                                   "'rope_factors_short.weight': one of the two is missing");
    if (c == ERR_OK) {
        w->layer = mem_zero(hp->n_layer, sizeof *w->layer);
        if (!w->layer)
            return err_no_memory(e, hp->n_layer * sizeof *w->layer, "the table of layers");
        w->n_layer = hp->n_layer;
    }
    for (uint32_t i = 0; i < w->n_layer && c == ERR_OK; i++)
        c = bind_layer(&b, w, i);
    w->n_unused = (uint32_t)gguf_n_tensors(g) - b.n_used;
    return c == ERR_OK ? c : err_prefix(e, "%s", gguf_name(g, 0));
}

void weights_finish(struct weights *w)
{
    mem_free(w->layer);
    *w = (struct weights){ 0 };
}

const struct gguf_tensor *weights_output(const struct weights *w)
{
    return w->t[W_OUTPUT] ? w->t[W_OUTPUT] : w->t[W_TOKEN_EMBD];
}

const struct gguf_tensor *weights_rope_factors(const struct weights *w, const struct hparams *hp,
                                               uint32_t n_ctx)
{
    if (w->t[W_ROPE_FREQS])
        return w->t[W_ROPE_FREQS];
    return w->t[n_ctx > hp->n_ctx_orig ? W_ROPE_LONG : W_ROPE_SHORT];
}

enum err_code weights_read_vector(const struct gguf *g, const struct gguf_tensor *t, float *out,
                                  size_t n, struct err *e)
{
    if (!t->type || !t->type->decode || t->type->block_len != 1 || t->n_elements != n)
        return err_set(e, ERR_INVALID, "tensor '%s' is not a plain vector of %zu",
                       gguf_quote(t->name).text, n);
    /* Blocks are at most as wide as floats: read into the end of out, decode towards its front. */
    unsigned char *raw = (unsigned char *)out + n * sizeof *out - (size_t)t->bytes;
    enum err_code c = gguf_read_tensor(g, t, 0, (size_t)t->bytes, raw, e);
    unsigned char block[4];
    for (size_t i = 0; i < n && c == ERR_OK; i++) {
        memcpy(block, raw + i * t->type->block_bytes, t->type->block_bytes);
        t->type->decode(block, 1, &out[i]);
    }
    return c;
}
