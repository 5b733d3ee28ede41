/* A GGUF file of F32, F16 or BF16 into one of smaller types: what becomes of each tensor, and the
 * file that comes out, as a stream.
 *
 * The mixes are those that the names stand for everywhere else (llama.cpp's llama-quantize without an
 * importance matrix, tensor by tensor: quantize_mix.c). Keys keep their order and their bytes,
 * but for general.file_type and general.quantization_version, which say what the file now is (appended
 * where there were none), and split.*, which goes: one file comes out, also of shards. Tensors keep their
 * order. A file without tensors comes out as it went in, but for padding.
 *
 * Memory: the header, and QUANTIZE_SLICE weights and what becomes of them; the largest tensor does not
 * matter. The bytes written depend on the input and the target alone, not on the number of threads.
 *
 * Errors: ERR_INVALID (unknown target: the sentence lists them), ERR_UNSUPPORTED (the input is quantised
 * already, or has a tensor of a type that nobody knows), ERR_FORMAT (a weight is infinite, no number, or
 * too large for the target), ERR_IO (reading), ERR_CANCELLED, and the sink's own. */
#ifndef HEARTH_MODEL_QUANTIZE_H
#define HEARTH_MODEL_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/model/gguf.h"

#define QUANTIZE_SLICE ((size_t)512 * 1024) /* weights that are in memory at a time */
#define QUANTIZE_MAX_THREADS 16

struct quantize_target {
    const char *name;   /* "Q4_K_M" */
    uint32_t file_type; /* general.file_type */
    uint32_t type;      /* of most matrices */
};
size_t quantize_target_count(void);
const struct quantize_target *quantize_target_at(size_t i);
/* ASCII case-insensitive; Q4_K and Q5_K stand for their _M. NULL: e lists the names (ERR_INVALID). */
const struct quantize_target *quantize_target_find(struct str name, struct err *e);

struct quantize_item {
    const struct gguf_tensor *from;
    const struct tensor_type *to;
    uint64_t bytes, offset; /* in the new file; offset from the start of its data */
};

struct quantize_plan {
    const struct gguf *from;
    const struct quantize_target *target;
    struct quantize_item *items; /* [n], in the order of the source's tensors */
    size_t n;
    char *header;                /* the new file's first bytes, padded to where the data begins */
    size_t header_bytes;
    uint64_t file_bytes;         /* of the whole new file */
    const char *from_name;       /* "F16", "F32", "BF16": what most of the source's weights are; "" */
};

/* Reads no weight. `g` and `target` must outlive the plan. */
enum err_code quantize_plan_make(const struct gguf *g, const struct quantize_target *target,
                                 struct quantize_plan **out, struct err *e);
void quantize_plan_destroy(struct quantize_plan *p); /* NULL is fine */

/* Called on the caller's thread. */
struct quantize_sink {
    /* The file's next bytes. Not ERR_OK ends the run with it. */
    enum err_code (*write)(void *user, const void *bytes, size_t n, struct err *e);
    /* Bytes written so far, of plan->file_bytes; after each slice. False: ERR_CANCELLED. May be NULL. */
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};
/* threads: 0 is 1, at most QUANTIZE_MAX_THREADS; those that cannot be started are done without. */
enum err_code quantize_run(const struct quantize_plan *p, const struct quantize_sink *sink,
                           unsigned threads, struct err *e);

#endif
