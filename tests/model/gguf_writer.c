#include "tests/model/gguf_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

static const size_t MOST = (size_t)1 << 30;

void gguf_writer_init(struct gguf_writer *w, const char *arch)
{
    *w = (struct gguf_writer){ .version = 3, .alignment = 32 };
    buf_init(&w->keys, MOST);
    buf_init(&w->tensors, MOST);
    if (arch) {
        snprintf(w->arch, sizeof w->arch, "%s", arch);
        gw_str(w, "general.architecture", arch);
    }
}

void gguf_writer_finish(struct gguf_writer *w)
{
    buf_finish(&w->keys);
    buf_finish(&w->tensors);
}

void gw_int(struct buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes && i < 8; i++)
        buf_putc(b, (char)(v >> (8 * i) & 0xFF));
}

void gw_text(struct buf *b, struct str s)
{
    gw_int(b, s.n, 8);
    buf_put(b, s.p, s.n);
}

void gw_f32_bytes(struct buf *b, float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    gw_int(b, bits, 4);
}

void gw_key(struct gguf_writer *w, const char *key, uint32_t type)
{
    char text[128];
    if (strncmp(key, "{arch}.", 7) == 0) {
        snprintf(text, sizeof text, "%s.%s", w->arch, key + 7);
        key = text;
    }
    gw_text(&w->keys, str_from(key));
    gw_int(&w->keys, type, 4);
    w->n_keys++;
}

void gw_array(struct gguf_writer *w, const char *key, uint32_t element_type, uint64_t n)
{
    gw_key(w, key, GGUF_ARRAY);
    gw_int(&w->keys, element_type, 4);
    gw_int(&w->keys, n, 8);
}

void gw_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gw_key(w, key, GGUF_U32);
    gw_int(&w->keys, v, 4);
}

void gw_f32(struct gguf_writer *w, const char *key, float v)
{
    gw_key(w, key, GGUF_F32);
    gw_f32_bytes(&w->keys, v);
}

void gw_bool(struct gguf_writer *w, const char *key, bool v)
{
    gw_key(w, key, GGUF_BOOL);
    gw_int(&w->keys, v, 1);
}

void gw_str(struct gguf_writer *w, const char *key, const char *v)
{
    gw_key(w, key, GGUF_STRING);
    gw_text(&w->keys, str_from(v));
}

void gw_tokens(struct gguf_writer *w, uint32_t n)
{
    char text[16];
    gw_array(w, "tokenizer.ggml.tokens", GGUF_STRING, n);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text, sizeof text, "t%" PRIu32, i);
        gw_text(&w->keys, str_from(text));
    }
}

void gw_tensor_at(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                  const uint64_t *dims, uint64_t offset)
{
    gw_text(&w->tensors, str_from(name));
    gw_int(&w->tensors, n_dims, 4);
    for (uint32_t i = 0; i < n_dims; i++)
        gw_int(&w->tensors, dims[i], 8);
    gw_int(&w->tensors, type, 4);
    gw_int(&w->tensors, offset, 8);
    w->n_tensors++;
}

void gw_tensor(struct gguf_writer *w, const char *name, uint32_t type, const uint64_t dims[4])
{
    const struct tensor_type *t = tensor_type_find(type);
    uint64_t n = 1;
    uint32_t n_dims = 0;
    while (n_dims < 4 && dims[n_dims])
        n *= dims[n_dims++];
    uint64_t at = (w->data + w->alignment - 1) / w->alignment * w->alignment;
    gw_tensor_at(w, name, type, n_dims, dims, at);
    w->data = at + (t && t->block_len ? n / t->block_len * t->block_bytes : 1);
}

unsigned char *gw_file(const struct gguf_writer *w, bool with_data, size_t *n, size_t *header_n)
{
    struct buf b;
    buf_init(&b, MOST);
    buf_puts(&b, "GGUF");
    gw_int(&b, w->version, 4);
    gw_int(&b, w->n_tensors, 8);
    gw_int(&b, w->n_keys, 8);
    buf_put(&b, w->keys.p, w->keys.n);
    buf_put(&b, w->tensors.p, w->tensors.n);
    while (w->n_tensors && b.n % w->alignment)
        buf_putc(&b, '\0');
    if (header_n)
        *header_n = b.n;
    for (uint64_t i = 0; with_data && i < w->data; i += 4)
        gw_f32_bytes(&b, 1.0f + (float)(i / 4 % 64) / 64.0f);
    if (b.failed || w->keys.failed || w->tensors.failed)
        abort();
    *n = b.n;
    return (unsigned char *)buf_take(&b);
}

/* ---- a tiny model -------------------------------------------------------------------------------- */

enum { EMBD = 64, HEADS = 4, KV_HEADS = 2, FF = 96, VOCAB = 40, HEAD = EMBD / HEADS };

static bool omitted(const struct tiny *t, const char *name)
{
    return t->omit && strcmp(t->omit, name) == 0;
}

static void tiny_u32(struct gguf_writer *w, const struct tiny *t, const char *key, uint32_t v)
{
    if (!omitted(t, key))
        gw_u32(w, key, v);
}

static void tiny_keys(struct gguf_writer *w, const struct tiny *t)
{
    const char *eps = strcmp(t->arch, "phi2") == 0 ? "{arch}.attention.layer_norm_epsilon"
                                                   : "{arch}.attention.layer_norm_rms_epsilon";
    tiny_u32(w, t, "{arch}.context_length", 256);
    tiny_u32(w, t, "{arch}.embedding_length", EMBD);
    tiny_u32(w, t, "{arch}.block_count", t->n_layer ? t->n_layer : 2);
    tiny_u32(w, t, "{arch}.feed_forward_length", FF);
    tiny_u32(w, t, "{arch}.attention.head_count", HEADS);
    tiny_u32(w, t, "{arch}.attention.head_count_kv", KV_HEADS);
    if (!omitted(t, eps))
        gw_f32(w, eps, 1e-5f);
    gw_tokens(w, VOCAB);
}

static void tiny_tensor(struct gguf_writer *w, const struct tiny *t, const char *name,
                        uint64_t cols, uint64_t rows)
{
    bool retype = t->retype && strcmp(t->retype, name) == 0;
    bool reshape = t->reshape && strcmp(t->reshape, name) == 0;
    uint64_t dims[4] = { reshape ? cols + 32 : cols, rows, 0, 0 };
    if (!omitted(t, name))
        gw_tensor(w, name, retype ? t->type : rows ? t->matrix_type : TENSOR_F32, dims);
}

static void tiny_linear(struct gguf_writer *w, const struct tiny *t, const char *prefix,
                        const char *what, uint64_t cols, uint64_t rows)
{
    char name[64];
    bool biased = t->biased || strcmp(t->arch, "phi2") == 0;
    snprintf(name, sizeof name, "%s%s.weight", prefix, what);
    tiny_tensor(w, t, name, cols, rows);
    snprintf(name, sizeof name, "%s%s.bias", prefix, what);
    if (biased)
        tiny_tensor(w, t, name, rows, 0);
}

static void tiny_norm(struct gguf_writer *w, const struct tiny *t, const char *prefix,
                      const char *what, uint64_t n)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s.weight", prefix, what);
    tiny_tensor(w, t, name, n, 0);
    snprintf(name, sizeof name, "%s%s.bias", prefix, what);
    if (strcmp(t->arch, "phi2") == 0)
        tiny_tensor(w, t, name, n, 0);
}

static void tiny_layer(struct gguf_writer *w, const struct tiny *t, const char *blk)
{
    bool phi2 = strcmp(t->arch, "phi2") == 0, phi3 = strcmp(t->arch, "phi3") == 0;
    bool gemma = strncmp(t->arch, "gemma", 5) == 0;
    tiny_norm(w, t, blk, "attn_norm", EMBD);
    if (t->fused_qkv || phi3) {
        tiny_linear(w, t, blk, "attn_qkv", EMBD, EMBD + 2 * KV_HEADS * HEAD);
    } else {
        tiny_linear(w, t, blk, "attn_q", EMBD, EMBD);
        tiny_linear(w, t, blk, "attn_k", EMBD, KV_HEADS * HEAD);
        tiny_linear(w, t, blk, "attn_v", EMBD, KV_HEADS * HEAD);
    }
    if (strcmp(t->arch, "qwen3") == 0 || strcmp(t->arch, "gemma3") == 0) {
        tiny_norm(w, t, blk, "attn_q_norm", HEAD);
        tiny_norm(w, t, blk, "attn_k_norm", HEAD);
    }
    tiny_linear(w, t, blk, "attn_output", EMBD, EMBD);
    if (gemma)
        tiny_norm(w, t, blk, "post_attention_norm", EMBD);
    if (!phi2)
        tiny_norm(w, t, blk, "ffn_norm", EMBD);
    bool fused = t->fused_up || phi3;
    if (!phi2 && !fused)
        tiny_linear(w, t, blk, "ffn_gate", EMBD, FF);
    tiny_linear(w, t, blk, "ffn_up", EMBD, fused ? 2 * FF : FF);
    tiny_linear(w, t, blk, "ffn_down", FF, EMBD);
    if (gemma)
        tiny_norm(w, t, blk, "post_ffw_norm", EMBD);
}

void gw_tiny(struct gguf_writer *w, const struct tiny *t)
{
    char blk[32];
    gguf_writer_init(w, t->arch);
    tiny_keys(w, t);
    tiny_tensor(w, t, "token_embd.weight", EMBD, VOCAB);
    for (uint32_t i = 0; i < (t->n_layer ? t->n_layer : 2); i++) {
        snprintf(blk, sizeof blk, "blk.%" PRIu32 ".", i);
        tiny_layer(w, t, blk);
    }
    tiny_norm(w, t, "", "output_norm", EMBD);
    if (t->untied || strcmp(t->arch, "phi2") == 0)
        tiny_linear(w, t, "", "output", EMBD, VOCAB);
}
