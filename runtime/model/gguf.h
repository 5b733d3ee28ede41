/* GGUF files: what they hold, checked whole before anything else looks.
 *
 * The format (versions 2 and 3, little-endian; ggml's docs/gguf.md). A `string` is a u64 length
 * and that many bytes, no NUL.
 *
 *   offset  bytes  what
 *        0      4  magic "GGUF"
 *        4      4  u32 version
 *        8      8  u64 number of tensors
 *       16      8  u64 number of keys
 *       24         keys, each:     string key, u32 value type, value
 *                                  a value of type array: u32 element type, u64 n, n elements
 *                  tensors, each:  string name, u32 n_dims, u64 dims[n_dims] (fastest first),
 *                                  u32 tensor type, u64 offset from the start of the data
 *                  padding to `general.alignment` (u32, default 32), then the data
 *
 * A big model may be cut into shards NAME-00001-of-0000N.gguf, each a whole GGUF file with keys
 * split.no, split.count and split.tensors.count; the metadata is the first one's.
 *
 * The header is read by pread into memory of our own and never mapped, and weights come out by
 * gguf_read_tensor: a file that shrinks or changes under us is an error, never a SIGBUS, and what
 * was checked stays as it was checked.
 *
 * Limits below; a header over one of them is ERR_TOO_LARGE, a broken one ERR_FORMAT, another
 * version or byte order ERR_UNSUPPORTED, and the sentence names the file, the key or tensor, the
 * offset and what was expected. Time and memory are O(header bytes * log entries), whatever the
 * file says of itself.
 *
 * Ownership: everything returned points into the struct gguf and lives until gguf_close.
 * Thread: open and close by one; all else is const and may be called from any number at once. */
#ifndef HEARTH_MODEL_GGUF_H
#define HEARTH_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/model/tensor_type.h"

#define GGUF_MAX_KEYS 65536
#define GGUF_MAX_KEY_BYTES 65535
#define GGUF_MAX_TENSORS 262144 /* over all shards */
#define GGUF_MAX_NAME_BYTES 64
#define GGUF_MAX_DIMS 4
#define GGUF_MAX_STRING ((uint64_t)16 << 20)
#define GGUF_MAX_ELEMENTS ((uint64_t)64 << 20)
#define GGUF_MAX_HEADER ((uint64_t)256 << 20) /* bytes before the data, over all shards */
#define GGUF_MAX_SHARDS 512

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPE_COUNT
};
const char *gguf_type_name(enum gguf_type t); /* "u8" ... "array" */

/* A name out of a file, as it may stand in a sentence: printable ASCII, cut to 96 bytes. */
struct gguf_quoted {
    char text[104];
};
struct gguf_quoted gguf_quote(struct str s);

struct gguf_value {
    struct str key;
    enum gguf_type type; /* of an array: that of its elements, never GGUF_ARRAY */
    bool is_array;
    uint64_t n;             /* elements of an array; bytes of a string; else 1 */
    const unsigned char *p; /* little-endian, unaligned; a string's first byte; an array of strings
                               begins with the first one's length */
};

struct gguf_tensor {
    struct str name;
    uint32_t type_id;
    const struct tensor_type *type; /* NULL: an id that our table does not know */
    uint32_t n_dims;                /* 0..4 */
    uint64_t shape[GGUF_MAX_DIMS];  /* shape[0] runs fastest; 1 beyond n_dims; never 0 */
    uint64_t n_elements;
    uint64_t bytes;                 /* 0: the type's block size is not known to us */
    uint64_t offset;                /* of its first byte in the file */
    uint32_t file;                  /* which shard, from 0 */
};

struct gguf;

/* Opens a file, and when it is the first of several shards, the others beside it. */
enum err_code gguf_open(const char *path, struct gguf **out, struct err *e);
/* The same from memory that the caller keeps until gguf_close. `file_bytes` (at least n) is how
 * long the whole file is said to be: with only its header at hand, gguf_read_tensor is ERR_IO
 * where bytes are missing. No shards. */
enum err_code gguf_open_memory(const void *p, size_t n, uint64_t file_bytes, struct gguf **out,
                               struct err *e);
void gguf_close(struct gguf *g); /* NULL is fine */

uint32_t gguf_version(const struct gguf *g);
uint32_t gguf_n_files(const struct gguf *g);
const char *gguf_path(const struct gguf *g, uint32_t file); /* "memory" for an in-memory one */
const char *gguf_name(const struct gguf *g, uint32_t file); /* its last part, as in errors */

/* ---- keys, in the file's order ---- */
size_t gguf_n_keys(const struct gguf *g);
const struct gguf_value *gguf_key_at(const struct gguf *g, size_t i);
/* NULL when absent. Here and below a key may begin with "{arch}.", which stands for the value of
 * general.architecture. */
const struct gguf_value *gguf_find(const struct gguf *g, const char *key);

/* Typed reads. An absent key is ERR_OK and leaves *out alone, so put the default there first.
 * Integers of any width are taken where the value fits, floats of either width, and an integer
 * where a float is asked for; anything else is ERR_FORMAT and names the key. */
enum err_code gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e);
enum err_code gguf_i64(const struct gguf *g, const char *key, int64_t *out, struct err *e);
enum err_code gguf_f32(const struct gguf *g, const char *key, float *out, struct err *e);
enum err_code gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *e);
enum err_code gguf_str(const struct gguf *g, const char *key, struct str *out, struct err *e);
/* *out is NULL when absent. */
enum err_code gguf_array(const struct gguf *g, const char *key, const struct gguf_value **out,
                         struct err *e);
/* ERR_FORMAT "key 'k' is missing" when it is. */
enum err_code gguf_need(const struct gguf *g, const char *key, struct err *e);

/* Element i of an array, or the scalar itself with i = 0. False: i out of range, or not such a
 * number (gguf_at_i64: an integer or a bool that fits; gguf_at_f64: any number). */
bool gguf_at_i64(const struct gguf_value *v, uint64_t i, int64_t *out);
bool gguf_at_f64(const struct gguf_value *v, uint64_t i, double *out);
/* Walks an array of strings: for (it = gguf_strings(v); gguf_next_str(&it, &s);). Nothing comes
 * when v is NULL or no such array. */
struct gguf_strings {
    const unsigned char *p;
    uint64_t left;
};
struct gguf_strings gguf_strings(const struct gguf_value *v);
bool gguf_next_str(struct gguf_strings *at, struct str *out);

/* ---- tensors, in the files' order ---- */
size_t gguf_n_tensors(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, struct str name); /* NULL: none */
uint64_t gguf_tensor_bytes(const struct gguf *g); /* of all tensors */

/* Copies `n` bytes of the tensor from `offset` on. ERR_INVALID: beyond the tensor; ERR_IO: the
 * file could not be read or has become shorter. Thread: any, also on one tensor at once. */
enum err_code gguf_read_tensor(const struct gguf *g, const struct gguf_tensor *t, uint64_t offset,
                               size_t n, void *dst, struct err *e);

#endif
