/* What gguf.c and gguf_parse.c share. */
#ifndef HEARTH_MODEL_GGUF_PRIV_H
#define HEARTH_MODEL_GGUF_PRIV_H

#include "runtime/model/gguf.h"

struct shard {
    char *path;
    const char *name;         /* the last part of path: errors show no folders */
    int fd;                   /* -1: in memory */
    const unsigned char *p;   /* the file's first bytes: the header and perhaps some data */
    unsigned char *own;       /* the same, when it is ours */
    uint64_t n;               /* bytes at p */
    uint64_t file_bytes;      /* of the whole file */
    struct gguf_value *keys;  /* [n_keys], in file order */
    uint32_t *by_key;         /* [n_keys], sorted by key */
    size_t n_keys, cap_keys;
    size_t first_tensor;      /* in struct gguf; the shard's are the last while it is parsed */
    uint32_t version;
};

struct gguf {
    struct shard *shards;
    uint32_t n_shards;
    uint64_t header_bytes; /* read so far, over all shards */
    struct gguf_tensor *tensors;
    uint32_t *by_name; /* [n_tensors], sorted by name */
    size_t n_tensors, cap_tensors;
    uint64_t tensor_bytes;
    struct str arch; /* general.architecture, "" when absent */
};

/* gguf_parse.c: one file's header, from its first byte to the place of its last tensor. Fills
 * keys and by_key, and appends to the tensors of g. s->p or s->fd and file_bytes are set. */
enum err_code gguf_parse(struct gguf *g, struct shard *s, struct err *e);

/* gguf.c */
enum err_code gguf_pread(const struct shard *s, uint64_t at, unsigned char *dst, size_t n,
                         struct err *e);
const struct gguf_value *gguf_find_key(const struct shard *s, struct str key);
uint32_t gguf_type_bytes(enum gguf_type t);             /* 0: strings and arrays */
uint64_t gguf_le(const unsigned char *p, uint32_t bytes); /* little-endian, 1 to 8 bytes */

uint64_t gguf_le64(const unsigned char *p);

/* The numbers 0..n-1 in the order that `compare` gives them (merge sort: n log n whatever order a
 * file chooses, no recursion); NULL: no memory. Caller frees. */
typedef int gguf_compare(const void *of, uint32_t a, uint32_t b);
uint32_t *gguf_sorted(size_t n, const void *of, gguf_compare *compare);
int gguf_compare_str(struct str a, struct str b); /* by length, then by bytes */

#endif
