/* Writes small GGUF files in memory, right ones and, piece by piece, wrong ones. For tests only:
 * memory that runs out aborts. */
#ifndef HEARTH_TESTS_MODEL_GGUF_WRITER_H
#define HEARTH_TESTS_MODEL_GGUF_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/str.h"
#include "runtime/model/gguf.h"

struct gguf_writer {
    struct buf keys, tensors;
    uint64_t n_keys, n_tensors; /* as the header will count them: change them to lie */
    uint64_t data;              /* bytes of tensor data so far */
    uint32_t version, alignment;
    char arch[64];              /* stands for "{arch}" in keys */
};
void gguf_writer_init(struct gguf_writer *w, const char *arch); /* NULL: no general.architecture */
void gguf_writer_finish(struct gguf_writer *w);

void gw_int(struct buf *b, uint64_t v, int bytes);
void gw_text(struct buf *b, struct str s); /* length and bytes */
void gw_f32_bytes(struct buf *b, float f);
/* Begins a key: name and type; its value follows as bytes of w->keys. */
void gw_key(struct gguf_writer *w, const char *key, uint32_t type);
void gw_array(struct gguf_writer *w, const char *key, uint32_t element_type, uint64_t n);
void gw_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gw_f32(struct gguf_writer *w, const char *key, float v);
void gw_bool(struct gguf_writer *w, const char *key, bool v);
void gw_str(struct gguf_writer *w, const char *key, const char *v);
void gw_tokens(struct gguf_writer *w, uint32_t n); /* tokenizer.ggml.tokens: "t0", "t1", ... */
/* A tensor behind the last one, aligned. dims end with the first 0. */
void gw_tensor(struct gguf_writer *w, const char *name, uint32_t type, const uint64_t dims[4]);
void gw_tensor_at(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dims,
                  const uint64_t *dims, uint64_t offset);

/* The file: header, padding, and (with_data) the tensors' bytes, a pattern of floats near 1.
 * *header_n (may be NULL): where the data begins. mem_free it. */
unsigned char *gw_file(const struct gguf_writer *w, bool with_data, size_t *n, size_t *header_n);

/* A whole tiny model of a family that we run, keys and tensors: 2 layers unless n_layer says
 * otherwise, n_embd 64, 4 heads on 2, n_ff 96, 40 tokens. */
struct tiny {
    const char *arch;
    uint32_t n_layer; /* 0: 2 */
    bool fused_qkv, fused_up, untied, biased;
    uint32_t matrix_type; /* of every matrix; F32 when 0 */
    const char *omit;     /* a key or a tensor to leave out */
    const char *reshape;  /* a tensor that gets one more column */
    const char *retype;   /* a tensor that gets type `type` */
    uint32_t type;
};
void gw_tiny(struct gguf_writer *w, const struct tiny *t); /* init and all; the caller may add keys */

#endif
