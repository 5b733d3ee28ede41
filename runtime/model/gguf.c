#include "runtime/model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define FIRST_READ ((uint64_t)256 * 1024)

struct shard {
    char *path;
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

static const struct {
    const char *name;
    uint8_t bytes;
} type_rows[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = { "u8", 1 },         [GGUF_I8] = { "i8", 1 },       [GGUF_U16] = { "u16", 2 },
    [GGUF_I16] = { "i16", 2 },       [GGUF_U32] = { "u32", 4 },     [GGUF_I32] = { "i32", 4 },
    [GGUF_F32] = { "f32", 4 },       [GGUF_BOOL] = { "bool", 1 },   [GGUF_STRING] = { "string", 0 },
    [GGUF_ARRAY] = { "array", 0 },   [GGUF_U64] = { "u64", 8 },     [GGUF_I64] = { "i64", 8 },
    [GGUF_F64] = { "f64", 8 },
};

const char *gguf_type_name(enum gguf_type t)
{
    return t < GGUF_TYPE_COUNT ? type_rows[t].name : "?";
}

/* ---- text for sentences ----------------------------------------------------------------------- */

struct gguf_quoted gguf_quote(struct str s)
{
    struct gguf_quoted q;
    size_t n = s.n < 96 ? s.n : 96;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        q.text[i] = c < 0x20 || c > 0x7E ? '?' : (char)c;
    }
    memcpy(q.text + n, n < s.n ? "..." : "", n < s.n ? 4 : 1);
    return q;
}

/* Names that a person can read: not empty, UTF-8, no control bytes. */
static bool is_name(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7F)
            return false;
    return s.n > 0 && utf8_valid(s.p, s.n) == s.n;
}

/* ---- sorting: whatever order a file chooses, n log n and no recursion ---------------------------- */

typedef int compare_fn(const void *of, uint32_t a, uint32_t b);

static void sift_down(uint32_t *v, size_t root, size_t n, const void *of, compare_fn *compare)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && compare(of, v[child], v[child + 1]) < 0)
            child++;
        if (compare(of, v[root], v[child]) >= 0)
            return;
        uint32_t t = v[root];
        v[root] = v[child];
        v[child] = t;
    }
}

/* Heapsort of the numbers 0..n-1; NULL: no memory. */
static uint32_t *sorted_index(size_t n, const void *of, compare_fn *compare)
{
    uint32_t *v = mem_zero(n, sizeof *v);
    if (!v)
        return NULL;
    for (size_t i = 0; i < n; i++)
        v[i] = (uint32_t)i;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(v, i, n, of, compare);
    for (size_t end = n; end-- > 1;) {
        uint32_t t = v[0];
        v[0] = v[end];
        v[end] = t;
        sift_down(v, 0, end, of, compare);
    }
    return v;
}

static int compare_str(struct str a, struct str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n);
}

static int compare_keys(const void *of, uint32_t a, uint32_t b)
{
    const struct gguf_value *v = of;
    return compare_str(v[a].key, v[b].key);
}

static int compare_names(const void *of, uint32_t a, uint32_t b)
{
    const struct gguf_tensor *t = of;
    return compare_str(t[a].name, t[b].name);
}

static int compare_offsets(const void *of, uint32_t a, uint32_t b)
{
    const struct gguf_tensor *t = of;
    return t[a].offset < t[b].offset ? -1 : t[a].offset > t[b].offset;
}

/* ---- bytes of the header, read as far as the parser has got -------------------------------------- */

struct reader {
    struct gguf *g;
    struct shard *s;
    uint64_t at;
    struct err *e;
};

static enum err_code read_at(const struct shard *s, uint64_t at, unsigned char *dst, size_t n,
                             struct err *e)
{
    while (n > 0) {
        size_t piece = n < ((size_t)1 << 30) ? n : (size_t)1 << 30;
        ssize_t got = pread(s->fd, dst, piece, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(e, ERR_IO, errno, "reading %zu bytes at byte %" PRIu64, n, at);
        if (got == 0)
            return err_set(e, ERR_IO, "the file ends at byte %" PRIu64 "; it had %" PRIu64
                                      " bytes when it was opened", at, s->file_bytes);
        dst += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return ERR_OK;
}

/* Keys and names point into the buffer: they move with it. */
static void take_buffer(struct reader *r, unsigned char *bigger, uint64_t n)
{
    struct shard *s = r->s;
    for (size_t i = 0; i < s->n_keys; i++) {
        struct gguf_value *v = &s->keys[i];
        v->key.p = (const char *)bigger + (v->key.p - (const char *)s->p);
        v->p = bigger + (v->p - s->p);
    }
    for (size_t i = s->first_tensor; i < r->g->n_tensors; i++) {
        struct str *name = &r->g->tensors[i].name;
        name->p = (const char *)bigger + (name->p - (const char *)s->p);
    }
    mem_free(s->own);
    s->p = s->own = bigger;
    s->n = n;
}

static enum err_code read_more(struct reader *r, uint64_t need)
{
    struct shard *s = r->s;
    uint64_t limit = GGUF_MAX_HEADER - r->g->header_bytes;
    uint64_t size = s->n ? 2 * s->n : FIRST_READ;
    size = size > need ? size : need;
    size = size < s->file_bytes ? size : s->file_bytes;
    size = size < limit ? size : limit;
    if (s->fd < 0)
        return err_set(r->e, ERR_FORMAT, "the header is cut off at byte %" PRIu64, s->n);
    if (need > size)
        return err_set(r->e, ERR_TOO_LARGE,
                       "the header is longer than %" PRIu64 " MiB", GGUF_MAX_HEADER >> 20);
    unsigned char *bigger = mem_alloc((size_t)size);
    if (!bigger)
        return err_no_memory(r->e, (size_t)size, "the file's header");
    if (s->n)
        memcpy(bigger, s->p, (size_t)s->n);
    enum err_code c = read_at(s, s->n, bigger + s->n, (size_t)(size - s->n), r->e);
    if (c != ERR_OK) {
        mem_free(bigger);
        return c;
    }
    take_buffer(r, bigger, size);
    return ERR_OK;
}

/* Makes sure of n bytes at r->at. */
static enum err_code want(struct reader *r, uint64_t n, const char *what)
{
    if (n <= r->s->n && r->at <= r->s->n - n)
        return ERR_OK;
    if (n > r->s->file_bytes || r->at > r->s->file_bytes - n)
        return err_set(r->e, ERR_FORMAT,
                       "%s at byte %" PRIu64 " needs %" PRIu64 " bytes, but the file has %" PRIu64,
                       what, r->at, n, r->s->file_bytes);
    return read_more(r, r->at + n);
}

static uint64_t le(const unsigned char *p, int bytes)
{
    uint64_t v = 0;
    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

static enum err_code take_int(struct reader *r, int bytes, const char *what, uint64_t *out)
{
    enum err_code c = want(r, (uint64_t)bytes, what);
    if (c == ERR_OK) {
        *out = le(r->s->p + r->at, bytes);
        r->at += (uint64_t)bytes;
    }
    return c;
}

/* A string's place: *at is its first byte. Offsets, because the buffer may move. */
static enum err_code take_str(struct reader *r, uint64_t max, const char *what, uint64_t *at,
                              uint64_t *n)
{
    uint64_t begin = r->at;
    enum err_code c = take_int(r, 8, what, n);
    if (c != ERR_OK)
        return c;
    if (*n > max)
        return err_set(r->e, ERR_TOO_LARGE,
                       "%s at byte %" PRIu64 " is %" PRIu64 " bytes long; at most %" PRIu64
                       " are allowed", what, begin, *n, max);
    if ((c = want(r, *n, what)) != ERR_OK)
        return c;
    *at = r->at;
    r->at += *n;
    return ERR_OK;
}

static struct str str_at(const struct reader *r, uint64_t at, uint64_t n)
{
    return (struct str){ (const char *)r->s->p + at, (size_t)n };
}

/* ---- keys --------------------------------------------------------------------------------------- */

static enum err_code take_bools(struct reader *r, uint64_t n)
{
    const unsigned char *p = r->s->p + r->at;
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return err_set(r->e, ERR_FORMAT, "the bool at byte %" PRIu64 " is %u, not 0 or 1",
                           r->at + i, p[i]);
    return ERR_OK;
}

/* The value at r->at, n elements of one type; leaves r->at behind it. */
static enum err_code skip_elements(struct reader *r, enum gguf_type type, uint64_t n)
{
    enum err_code c = ERR_OK;
    if (type == GGUF_STRING) {
        uint64_t at, bytes;
        for (uint64_t i = 0; i < n && c == ERR_OK; i++)
            c = take_str(r, GGUF_MAX_STRING, "a string", &at, &bytes);
        return c;
    }
    uint64_t bytes = n * type_rows[type].bytes; /* n is at most GGUF_MAX_ELEMENTS */
    if ((c = want(r, bytes, "its value")) != ERR_OK)
        return c;
    if (type == GGUF_BOOL)
        c = take_bools(r, n);
    r->at += bytes;
    return c;
}

static enum err_code take_type(struct reader *r, const char *what, bool array_ok,
                               enum gguf_type *out)
{
    uint64_t v = 0, at = r->at;
    enum err_code c = take_int(r, 4, what, &v);
    if (c != ERR_OK)
        return c;
    if (v >= GGUF_TYPE_COUNT)
        return err_set(r->e, ERR_FORMAT, "%s at byte %" PRIu64 " is %" PRIu64 "; 0 to 12 exist",
                       what, at, v);
    if (v == GGUF_ARRAY && !array_ok)
        return err_set(r->e, ERR_FORMAT, "%s at byte %" PRIu64 ": arrays of arrays are not taken",
                       what, at);
    *out = (enum gguf_type)v;
    return ERR_OK;
}

/* Type and value of the key whose name has been read. v->p is set by the caller, from *at. */
static enum err_code take_value(struct reader *r, struct gguf_value *v, uint64_t *at)
{
    enum err_code c = take_type(r, "the value type", true, &v->type);
    if (c != ERR_OK)
        return c;
    v->n = 1;
    if (v->type == GGUF_STRING)
        return take_str(r, GGUF_MAX_STRING, "the string", at, &v->n);
    v->is_array = v->type == GGUF_ARRAY;
    if (v->is_array) {
        if ((c = take_type(r, "the element type", false, &v->type)) != ERR_OK ||
            (c = take_int(r, 8, "the array length", &v->n)) != ERR_OK)
            return c;
        if (v->n > GGUF_MAX_ELEMENTS)
            return err_set(r->e, ERR_TOO_LARGE,
                           "the array at byte %" PRIu64 " has %" PRIu64
                           " elements; at most %" PRIu64 " are allowed",
                           r->at - 8, v->n, GGUF_MAX_ELEMENTS);
    }
    *at = r->at;
    return skip_elements(r, v->type, v->n);
}

static enum err_code take_key(struct reader *r, uint64_t index)
{
    struct shard *s = r->s;
    struct gguf_value v = { 0 };
    uint64_t begin = r->at, key_at = 0, key_n = 0, at = 0;
    enum err_code c = take_str(r, GGUF_MAX_KEY_BYTES, "the key", &key_at, &key_n);
    if (c != ERR_OK)
        return err_prefix(r->e, "key %" PRIu64, index);
    if (!is_name(str_at(r, key_at, key_n)))
        return err_set(r->e, ERR_FORMAT,
                       "key %" PRIu64 " at byte %" PRIu64 ": its name must be UTF-8 text, not empty",
                       index, begin);
    if ((c = take_value(r, &v, &at)) != ERR_OK)
        return err_prefix(r->e, "key '%s'", gguf_quote(str_at(r, key_at, key_n)).text);
    if (!mem_grow(&s->keys, &s->cap_keys, s->n_keys + 1, sizeof *s->keys, GGUF_MAX_KEYS))
        return err_no_memory(r->e, sizeof *s->keys, "the table of keys");
    v.key = str_at(r, key_at, key_n);
    v.p = s->p + at;
    s->keys[s->n_keys++] = v;
    return ERR_OK;
}

static enum err_code index_keys(struct reader *r)
{
    struct shard *s = r->s;
    s->by_key = sorted_index(s->n_keys, s->keys, compare_keys);
    if (!s->by_key)
        return err_no_memory(r->e, s->n_keys * sizeof *s->by_key, "the index of keys");
    for (size_t i = 1; i < s->n_keys; i++) {
        const struct gguf_value *a = &s->keys[s->by_key[i - 1]], *b = &s->keys[s->by_key[i]];
        if (compare_str(a->key, b->key) == 0)
            return err_set(r->e, ERR_FORMAT, "key '%s' is there twice", gguf_quote(a->key).text);
    }
    return ERR_OK;
}

static const struct gguf_value *find_key(const struct shard *s, struct str key)
{
    size_t low = 0, high = s->n_keys;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct gguf_value *v = &s->keys[s->by_key[mid]];
        int c = compare_str(v->key, key);
        if (c == 0)
            return v;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* ---- tensors -------------------------------------------------------------------------------------- */

static enum err_code take_shape(struct reader *r, struct gguf_tensor *t)
{
    uint64_t n_dims = 0, at = r->at;
    enum err_code c = take_int(r, 4, "the number of dimensions", &n_dims);
    if (c != ERR_OK)
        return c;
    if (n_dims > GGUF_MAX_DIMS)
        return err_set(r->e, ERR_FORMAT, "%" PRIu64 " dimensions at byte %" PRIu64
                                         "; at most %d are allowed", n_dims, at, GGUF_MAX_DIMS);
    t->n_dims = (uint32_t)n_dims;
    t->n_elements = 1;
    for (uint32_t i = 0; i < GGUF_MAX_DIMS; i++) {
        t->shape[i] = 1;
        if (i < n_dims && (c = take_int(r, 8, "a dimension", &t->shape[i])) != ERR_OK)
            return c;
        if (t->shape[i] == 0)
            return err_set(r->e, ERR_FORMAT, "dimension %u at byte %" PRIu64 " is 0", i, r->at - 8);
        if (__builtin_mul_overflow(t->n_elements, t->shape[i], &t->n_elements) ||
            t->n_elements > INT64_MAX)
            return err_set(r->e, ERR_FORMAT, "its dimensions, ending at byte %" PRIu64
                                             ", have more than 2^63 elements", r->at);
    }
    return ERR_OK;
}

/* Type and size in bytes, 0 for a type without a known block. */
static enum err_code take_tensor_type(struct reader *r, struct gguf_tensor *t)
{
    uint64_t id = 0;
    enum err_code c = take_int(r, 4, "the tensor type", &id);
    if (c != ERR_OK)
        return c;
    t->type_id = (uint32_t)id;
    t->type = tensor_type_find(t->type_id);
    if (!t->type || !t->type->block_len)
        return ERR_OK;
    if (t->shape[0] % t->type->block_len != 0)
        return err_set(r->e, ERR_FORMAT, "rows of %" PRIu64 " elements do not consist of %s's "
                                         "blocks of %u", t->shape[0], t->type->name,
                       t->type->block_len);
    if (__builtin_mul_overflow(t->n_elements / t->type->block_len, (uint64_t)t->type->block_bytes,
                               &t->bytes))
        return err_set(r->e, ERR_FORMAT, "its size in bytes does not fit 64 bits");
    return ERR_OK;
}

static enum err_code take_tensor(struct reader *r, uint64_t index)
{
    struct gguf *g = r->g;
    struct gguf_tensor t = { .file = (uint32_t)(r->s - g->shards) };
    uint64_t begin = r->at, name_at = 0, name_n = 0;
    enum err_code c = take_str(r, GGUF_MAX_NAME_BYTES, "the name", &name_at, &name_n);
    if (c != ERR_OK)
        return err_prefix(r->e, "tensor %" PRIu64, index);
    if (!is_name(str_at(r, name_at, name_n)))
        return err_set(r->e, ERR_FORMAT, "tensor %" PRIu64 " at byte %" PRIu64
                                         ": its name must be UTF-8 text, not empty", index, begin);
    if ((c = take_shape(r, &t)) != ERR_OK || (c = take_tensor_type(r, &t)) != ERR_OK ||
        (c = take_int(r, 8, "the offset", &t.offset)) != ERR_OK)
        return err_prefix(r->e, "tensor '%s'", gguf_quote(str_at(r, name_at, name_n)).text);
    if (!mem_grow(&g->tensors, &g->cap_tensors, g->n_tensors + 1, sizeof *g->tensors,
                  GGUF_MAX_TENSORS))
        return err_no_memory(r->e, sizeof *g->tensors, "the table of tensors");
    t.name = str_at(r, name_at, name_n);
    g->tensors[g->n_tensors++] = t;
    return ERR_OK;
}

/* Offsets in the data become offsets in the file: aligned, inside. */
static enum err_code place_tensor(struct reader *r, struct gguf_tensor *t, uint64_t data,
                                  uint32_t alignment)
{
    uint64_t begin = 0, end = 0, relative = t->offset;
    if (relative % alignment != 0)
        return err_set(r->e, ERR_FORMAT, "tensor '%s': offset %" PRIu64
                                         " is not a multiple of the alignment, %u",
                       gguf_quote(t->name).text, relative, alignment);
    if (__builtin_add_overflow(data, relative, &begin) ||
        __builtin_add_overflow(begin, t->bytes, &end) || end > r->s->file_bytes)
        return err_set(r->e, ERR_FORMAT,
                       "tensor '%s': %" PRIu64 " bytes at offset %" PRIu64 " of the data at byte %"
                       PRIu64 " reach beyond the file's %" PRIu64,
                       gguf_quote(t->name).text, t->bytes, relative, data, r->s->file_bytes);
    t->offset = begin;
    r->g->tensor_bytes += t->bytes; /* cannot overflow: shards do not overlap in themselves */
    return ERR_OK;
}

/* No two share a byte; one of unknown size takes at least one. */
static enum err_code check_overlap(struct reader *r)
{
    const struct gguf_tensor *t = r->g->tensors + r->s->first_tensor;
    size_t n = r->g->n_tensors - r->s->first_tensor;
    enum err_code c = ERR_OK;
    uint32_t *order = sorted_index(n, t, compare_offsets);
    if (!order)
        return err_no_memory(r->e, n * sizeof *order, "the order of tensors");
    for (size_t i = 1; i < n && c == ERR_OK; i++) {
        const struct gguf_tensor *a = &t[order[i - 1]], *b = &t[order[i]];
        if (b->offset - a->offset < (a->bytes ? a->bytes : 1))
            c = err_set(r->e, ERR_FORMAT, "tensors '%s' and '%s' overlap at byte %" PRIu64,
                        gguf_quote(a->name).text, gguf_quote(b->name).text, b->offset);
    }
    mem_free(order);
    return c;
}

static enum err_code read_alignment(struct reader *r, uint32_t *out)
{
    const struct gguf_value *v = find_key(r->s, STR("general.alignment"));
    int64_t a = 32;
    if (v && (v->is_array || v->type == GGUF_BOOL || !gguf_at_i64(v, 0, &a)))
        return err_set(r->e, ERR_FORMAT, "key 'general.alignment' must be an integer, but is %s%s",
                       v->is_array ? "an array of " : "", gguf_type_name(v->type));
    if (a < 1 || a > INT64_C(1) << 31 || (a & (a - 1)) != 0)
        return err_set(r->e, ERR_FORMAT,
                       "key 'general.alignment' is %" PRId64 ", not a power of two", a);
    *out = (uint32_t)a;
    return ERR_OK;
}

static enum err_code place_tensors(struct reader *r)
{
    struct gguf *g = r->g;
    uint32_t alignment = 32;
    enum err_code c = read_alignment(r, &alignment);
    uint64_t data = (r->at + alignment - 1) / alignment * alignment;
    for (size_t i = r->s->first_tensor; i < g->n_tensors && c == ERR_OK; i++)
        c = place_tensor(r, &g->tensors[i], data, alignment);
    return c == ERR_OK ? check_overlap(r) : c;
}

/* ---- one file -------------------------------------------------------------------------------------- */

static enum err_code check_version(struct reader *r, uint64_t version)
{
    if (version == 2 || version == 3)
        return ERR_OK;
    if (version && (version & 0xFFFFFF) == 0)
        return err_set(r->e, ERR_UNSUPPORTED,
                       "a big-endian GGUF file; only little-endian ones are read");
    return err_set(r->e, ERR_UNSUPPORTED, "GGUF version %" PRIu64 "; versions 2 and 3 are read",
                   version);
}

static enum err_code check_count(struct reader *r, const char *what, uint64_t n, uint64_t max,
                                 uint64_t least_bytes)
{
    if (n > max)
        return err_set(r->e, ERR_TOO_LARGE,
                       "the header counts %" PRIu64 " %s; at most %" PRIu64 " are allowed", n, what,
                       max);
    if (n > r->s->file_bytes / least_bytes)
        return err_set(r->e, ERR_FORMAT,
                       "the header counts %" PRIu64 " %s, more than %" PRIu64 " bytes can hold", n,
                       what, r->s->file_bytes);
    return ERR_OK;
}

static enum err_code parse(struct reader *r)
{
    uint64_t version = 0, n_tensors = 0, n_keys = 0;
    enum err_code c = want(r, 4, "the magic number");
    if (c == ERR_OK && memcmp(r->s->p, "GGUF", 4) != 0)
        c = err_set(r->e, ERR_FORMAT, "not a GGUF file: it does not begin with \"GGUF\"");
    r->at = 4;
    if (c != ERR_OK || (c = take_int(r, 4, "the version", &version)) != ERR_OK ||
        (c = check_version(r, version)) != ERR_OK ||
        (c = take_int(r, 8, "the number of tensors", &n_tensors)) != ERR_OK ||
        (c = take_int(r, 8, "the number of keys", &n_keys)) != ERR_OK ||
        (c = check_count(r, "keys", n_keys, GGUF_MAX_KEYS, 14)) != ERR_OK ||
        (c = check_count(r, "tensors", n_tensors, GGUF_MAX_TENSORS - r->g->n_tensors, 25)) != ERR_OK)
        return c;
    r->s->version = (uint32_t)version;
    for (uint64_t i = 0; i < n_keys && c == ERR_OK; i++)
        c = take_key(r, i);
    if (c != ERR_OK || (c = index_keys(r)) != ERR_OK)
        return c;
    for (uint64_t i = 0; i < n_tensors && c == ERR_OK; i++)
        c = take_tensor(r, i);
    return c == ERR_OK ? place_tensors(r) : c;
}

static enum err_code parse_shard(struct gguf *g, struct shard *s, struct err *e)
{
    struct reader r = { g, s, 0, e };
    s->first_tensor = g->n_tensors;
    enum err_code c = parse(&r);
    g->header_bytes += r.at < GGUF_MAX_HEADER - g->header_bytes ? r.at
                                                               : GGUF_MAX_HEADER - g->header_bytes;
    return c == ERR_OK ? c : err_prefix(e, "%s", s->path);
}

static enum err_code open_shard(struct gguf *g, const char *path, struct err *e)
{
    struct shard *s = &g->shards[g->n_shards];
    struct stat st;
    *s = (struct shard){ .fd = -1, .path = mem_strdup(path) };
    if (!s->path)
        return err_no_memory(e, strlen(path) + 1, "a path");
    g->n_shards++;
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (s->fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening %s", path);
    if (fstat(s->fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is not a regular file", path);
    s->file_bytes = (uint64_t)st.st_size;
    return parse_shard(g, s, e);
}

/* ---- shards ---------------------------------------------------------------------------------------- */

static enum err_code split_key(const struct shard *s, const char *key, int64_t *out, struct err *e)
{
    const struct gguf_value *v = find_key(s, str_from(key));
    if (v && (v->is_array || v->type == GGUF_BOOL || !gguf_at_i64(v, 0, out)))
        return err_set(e, ERR_FORMAT, "%s: key '%s' must be an integer", s->path, key);
    return ERR_OK;
}

/* ".../NAME-00001-of-0000N.gguf" -> length of ".../NAME", or 0. */
static size_t shard_stem(const char *path, uint32_t count)
{
    char tail[32];
    int n = snprintf(tail, sizeof tail, "-00001-of-%05u.gguf", count);
    struct str whole = str_from(path);
    return str_ends(whole, (struct str){ tail, (size_t)n }) ? whole.n - (size_t)n : 0;
}

static enum err_code open_other(struct gguf *g, size_t stem, uint32_t i, uint32_t count,
                                struct err *e)
{
    const char *first = g->shards[0].path;
    size_t room = stem + 32;
    char *path = mem_alloc(room);
    if (!path)
        return err_no_memory(e, room, "a path");
    snprintf(path, room, "%.*s-%05u-of-%05u.gguf", (int)stem, first, i + 1, count);
    enum err_code c = open_shard(g, path, e);
    mem_free(path);
    if (c != ERR_OK)
        return err_prefix(e, "shard %u of %u", i + 1, count);
    struct shard *s = &g->shards[i];
    int64_t no = -1, n = -1;
    if ((c = split_key(s, "split.no", &no, e)) != ERR_OK ||
        (c = split_key(s, "split.count", &n, e)) != ERR_OK)
        return c;
    if (no != i || n != count)
        return err_set(e, ERR_FORMAT, "%s: keys say shard %" PRId64 " of %" PRId64
                                      ", counted from 0; expected %u of %u", s->path, no, n, i,
                       count);
    const struct gguf_value *arch = find_key(s, STR("general.architecture"));
    if (arch && (arch->is_array || arch->type != GGUF_STRING ||
                 !str_eq((struct str){ (const char *)arch->p, (size_t)arch->n }, g->arch)))
        return err_set(e, ERR_FORMAT, "%s: key 'general.architecture' differs from shard 1's",
                       s->path);
    mem_free(s->keys); /* only the first shard's metadata counts */
    mem_free(s->by_key);
    s->keys = NULL;
    s->by_key = NULL;
    s->n_keys = 0;
    return ERR_OK;
}

static enum err_code open_others(struct gguf *g, struct err *e)
{
    struct shard *s = &g->shards[0];
    int64_t count = 1, no = 0, total = -1;
    enum err_code c;
    if ((c = split_key(s, "split.count", &count, e)) != ERR_OK ||
        (c = split_key(s, "split.no", &no, e)) != ERR_OK ||
        (c = split_key(s, "split.tensors.count", &total, e)) != ERR_OK || count <= 1)
        return c;
    if (s->fd < 0)
        return err_set(e, ERR_UNSUPPORTED, "%s: one of %" PRId64 " shards", s->path, count);
    if (count > GGUF_MAX_SHARDS)
        return err_set(e, ERR_TOO_LARGE, "%s: key 'split.count' is %" PRId64
                                         "; at most %d shards are read", s->path, count,
                       GGUF_MAX_SHARDS);
    if (no != 0)
        return err_set(e, ERR_INVALID, "%s is shard %" PRId64 " of %" PRId64
                                       "; open the first one, ...-00001-of-%05" PRId64 ".gguf",
                       s->path, no + 1, count, count);
    size_t stem = shard_stem(s->path, (uint32_t)count);
    if (!stem || stem > INT32_MAX)
        return err_set(e, ERR_FORMAT, "%s: the first of %" PRId64
                                      " shards, so its name must end in -00001-of-%05" PRId64
                                      ".gguf", s->path, count, count);
    struct shard *all = mem_resize(g->shards, (size_t)count, sizeof *all);
    if (!all)
        return err_no_memory(e, (size_t)count * sizeof *all, "the table of shards");
    g->shards = all;
    for (uint32_t i = 1; i < count && c == ERR_OK; i++)
        c = open_other(g, stem, i, (uint32_t)count, e);
    if (c == ERR_OK && total >= 0 && (uint64_t)total != g->n_tensors)
        c = err_set(e, ERR_FORMAT, "%s: key 'split.tensors.count' is %" PRId64
                                   ", but the shards hold %zu tensors", g->shards[0].path, total,
                    g->n_tensors);
    return c;
}

/* ---- open and close -------------------------------------------------------------------------------- */

static enum err_code index_tensors(struct gguf *g, struct err *e)
{
    g->by_name = sorted_index(g->n_tensors, g->tensors, compare_names);
    if (!g->by_name)
        return err_no_memory(e, g->n_tensors * sizeof *g->by_name, "the index of tensors");
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = &g->tensors[g->by_name[i - 1]];
        const struct gguf_tensor *b = &g->tensors[g->by_name[i]];
        if (compare_str(a->name, b->name) == 0)
            return err_set(e, ERR_FORMAT, "%s: tensor '%s' is there twice",
                           g->shards[b->file].path, gguf_quote(a->name).text);
    }
    return ERR_OK;
}

static struct gguf *gguf_new(struct err *e)
{
    struct gguf *g = mem_zero(1, sizeof *g);
    if (g && !(g->shards = mem_zero(1, sizeof *g->shards))) {
        mem_free(g);
        g = NULL;
    }
    if (!g)
        err_no_memory(e, sizeof *g, "a model file");
    return g;
}

/* After the first shard is parsed. */
static enum err_code finish_open(struct gguf *g, struct gguf **out, enum err_code c, struct err *e)
{
    if (c == ERR_OK) {
        const struct gguf_value *arch = find_key(&g->shards[0], STR("general.architecture"));
        if (arch && !arch->is_array && arch->type == GGUF_STRING)
            g->arch = (struct str){ (const char *)arch->p, (size_t)arch->n };
        c = open_others(g, e);
    }
    if (c == ERR_OK)
        c = index_tensors(g, e);
    if (c != ERR_OK)
        gguf_close(g);
    else
        *out = g;
    return c;
}

enum err_code gguf_open(const char *path, struct gguf **out, struct err *e)
{
    *out = NULL;
    struct gguf *g = gguf_new(e);
    if (!g)
        return ERR_NO_MEMORY;
    return finish_open(g, out, open_shard(g, path, e), e);
}

enum err_code gguf_open_memory(const void *p, size_t n, uint64_t file_bytes, struct gguf **out,
                               struct err *e)
{
    *out = NULL;
    struct gguf *g = gguf_new(e);
    if (!g)
        return ERR_NO_MEMORY;
    enum err_code c = ERR_OK;
    struct shard *s = &g->shards[0];
    *s = (struct shard){ .fd = -1,
                         .path = mem_strdup("memory"),
                         .p = p ? p : (const void *)"",
                         .n = n,
                         .file_bytes = file_bytes > n ? file_bytes : n };
    g->n_shards = 1;
    if (!s->path)
        c = err_no_memory(e, 7, "a path");
    else
        c = parse_shard(g, s, e);
    return finish_open(g, out, c, e);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < g->n_shards; i++) {
        struct shard *s = &g->shards[i];
        if (s->fd >= 0)
            close(s->fd);
        mem_free(s->own);
        mem_free(s->keys);
        mem_free(s->by_key);
        mem_free(s->path);
    }
    mem_free(g->shards);
    mem_free(g->tensors);
    mem_free(g->by_name);
    mem_free(g);
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->shards[0].version;
}

uint32_t gguf_n_files(const struct gguf *g)
{
    return g->n_shards;
}

const char *gguf_path(const struct gguf *g, uint32_t file)
{
    return file < g->n_shards ? g->shards[file].path : "";
}

/* ---- reading keys ---------------------------------------------------------------------------------- */

#define ARCH_MAX 64

/* A key with its family in place of "{arch}"; false: longer than any key of ours. */
struct key_text {
    char text[256];
};

static bool expand(const struct gguf *g, const char *key, struct key_text *out)
{
    struct str k = str_from(key);
    bool prefixed = str_starts(k, STR("{arch}."));
    if (prefixed && g->arch.n > ARCH_MAX)
        return false;
    int n = prefixed ? snprintf(out->text, sizeof out->text, "%.*s%s", (int)g->arch.n, g->arch.p,
                                key + 6)
                     : snprintf(out->text, sizeof out->text, "%s", key);
    return n >= 0 && (size_t)n < sizeof out->text;
}

size_t gguf_n_keys(const struct gguf *g)
{
    return g->shards[0].n_keys;
}

const struct gguf_value *gguf_key_at(const struct gguf *g, size_t i)
{
    return i < g->shards[0].n_keys ? &g->shards[0].keys[i] : NULL;
}

const struct gguf_value *gguf_find(const struct gguf *g, const char *key)
{
    struct key_text k;
    return expand(g, key, &k) ? find_key(&g->shards[0], str_from(k.text)) : NULL;
}

enum err_code gguf_need(const struct gguf *g, const char *key, struct err *e)
{
    if (gguf_find(g, key))
        return ERR_OK;
    struct key_text k;
    return err_set(e, ERR_FORMAT, "key '%s' is missing",
                   expand(g, key, &k) ? gguf_quote(str_from(k.text)).text : key);
}

static enum err_code wrong_type(const struct gguf_value *v, const char *expected, struct err *e)
{
    return err_set(e, ERR_FORMAT, "key '%s' must be %s, but is %s%s", gguf_quote(v->key).text, expected,
                   v->is_array ? "an array of " : "", gguf_type_name(v->type));
}

static bool is_float(enum gguf_type t)
{
    return t == GGUF_F32 || t == GGUF_F64;
}

static bool is_int(enum gguf_type t)
{
    return t != GGUF_STRING && t != GGUF_BOOL && t != GGUF_ARRAY && !is_float(t);
}

enum err_code gguf_i64(const struct gguf *g, const char *key, int64_t *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return ERR_OK;
    if (v->is_array || !is_int(v->type))
        return wrong_type(v, "an integer", e);
    return gguf_at_i64(v, 0, out) ? ERR_OK : wrong_type(v, "an integer below 2^63", e);
}

enum err_code gguf_u32(const struct gguf *g, const char *key, uint32_t *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    int64_t wide = 0;
    enum err_code c = gguf_i64(g, key, &wide, e);
    if (!v || c != ERR_OK)
        return c;
    if (wide < 0 || wide > UINT32_MAX)
        return err_set(e, ERR_FORMAT, "key '%s' is %" PRId64 ", not within 0 to %" PRIu32,
                       gguf_quote(v->key).text, wide, UINT32_MAX);
    *out = (uint32_t)wide;
    return ERR_OK;
}

enum err_code gguf_f32(const struct gguf *g, const char *key, float *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    double wide;
    if (!v)
        return ERR_OK;
    if (v->is_array || v->type == GGUF_BOOL || !gguf_at_f64(v, 0, &wide))
        return wrong_type(v, "a number", e);
    *out = (float)wide;
    return ERR_OK;
}

enum err_code gguf_bool(const struct gguf *g, const char *key, bool *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return ERR_OK;
    if (v->is_array || v->type != GGUF_BOOL)
        return wrong_type(v, "a bool", e);
    *out = v->p[0] != 0;
    return ERR_OK;
}

enum err_code gguf_str(const struct gguf *g, const char *key, struct str *out, struct err *e)
{
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return ERR_OK;
    if (v->is_array || v->type != GGUF_STRING)
        return wrong_type(v, "a string", e);
    *out = (struct str){ (const char *)v->p, (size_t)v->n };
    return ERR_OK;
}

enum err_code gguf_array(const struct gguf *g, const char *key, const struct gguf_value **out,
                         struct err *e)
{
    *out = NULL;
    const struct gguf_value *v = gguf_find(g, key);
    if (!v)
        return ERR_OK;
    if (!v->is_array)
        return wrong_type(v, "an array", e);
    *out = v;
    return ERR_OK;
}

bool gguf_at_i64(const struct gguf_value *v, uint64_t i, int64_t *out)
{
    if (v->type == GGUF_STRING || i >= v->n || is_float(v->type))
        return false;
    int bytes = type_rows[v->type].bytes;
    uint64_t u = le(v->p + i * (uint64_t)bytes, bytes);
    switch (v->type) {
    case GGUF_I8:
        *out = (int8_t)u;
        return true;
    case GGUF_I16:
        *out = (int16_t)u;
        return true;
    case GGUF_I32:
        *out = (int32_t)u;
        return true;
    case GGUF_I64:
        *out = (int64_t)u;
        return true;
    default:
        *out = (int64_t)u;
        return u <= INT64_MAX;
    }
}

bool gguf_at_f64(const struct gguf_value *v, uint64_t i, double *out)
{
    int64_t whole;
    if (v->type == GGUF_F32 && i < v->n) {
        uint32_t bits = (uint32_t)le(v->p + i * 4, 4);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
        return true;
    }
    if (v->type == GGUF_F64 && i < v->n) {
        uint64_t bits = le(v->p + i * 8, 8);
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    if (!gguf_at_i64(v, i, &whole))
        return false;
    *out = (double)whole;
    return true;
}

struct gguf_strings gguf_strings(const struct gguf_value *v)
{
    bool is = v && v->is_array && v->type == GGUF_STRING;
    return (struct gguf_strings){ is ? v->p : NULL, is ? v->n : 0 };
}

bool gguf_next_str(struct gguf_strings *at, struct str *out)
{
    if (!at->left)
        return false;
    uint64_t n = le(at->p, 8); /* checked when the file was opened */
    *out = (struct str){ (const char *)at->p + 8, (size_t)n };
    at->p += 8 + n;
    at->left--;
    return true;
}

/* ---- reading tensors ------------------------------------------------------------------------------- */

size_t gguf_n_tensors(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const struct gguf_tensor *gguf_find_tensor(const struct gguf *g, struct str name)
{
    size_t low = 0, high = g->n_tensors;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct gguf_tensor *t = &g->tensors[g->by_name[mid]];
        int c = compare_str(t->name, name);
        if (c == 0)
            return t;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

uint64_t gguf_tensor_bytes(const struct gguf *g)
{
    return g->tensor_bytes;
}

enum err_code gguf_read_tensor(const struct gguf *g, const struct gguf_tensor *t, uint64_t offset,
                               size_t n, void *dst, struct err *e)
{
    const struct shard *s = &g->shards[t->file];
    enum err_code c = ERR_OK;
    if (n > t->bytes || offset > t->bytes - n)
        return err_set(e, ERR_INVALID, "%s: tensor '%s' has %" PRIu64 " bytes; asked for %zu at %"
                                       PRIu64, s->path, gguf_quote(t->name).text, t->bytes, n, offset);
    uint64_t at = t->offset + offset;
    if (s->fd >= 0)
        c = read_at(s, at, dst, n, e);
    else if (n > s->n || at > s->n - n)
        c = err_set(e, ERR_IO, "the file ends at byte %" PRIu64, s->n);
    else
        memcpy(dst, s->p + at, n);
    return c == ERR_OK ? c : err_prefix(e, "%s: tensor '%s'", s->path, gguf_quote(t->name).text);
}
