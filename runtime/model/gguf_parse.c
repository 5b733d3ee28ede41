#include "runtime/model/gguf_priv.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/mem.h"

#define FIRST_READ ((uint64_t)256 * 1024)

/* ---- bytes of the header, read as far as the parser has got -------------------------------------- */

struct reader {
    struct gguf *g;
    struct shard *s;
    uint64_t at;
    struct err *e;
};

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
    enum err_code c = gguf_pread(s, s->n, bigger + s->n, (size_t)(size - s->n), r->e);
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

static enum err_code take_int(struct reader *r, uint32_t bytes, const char *what, uint64_t *out)
{
    enum err_code c = want(r, bytes, what);
    if (c == ERR_OK) {
        *out = bytes == 8 ? gguf_le64(r->s->p + r->at) : gguf_le(r->s->p + r->at, bytes);
        r->at += bytes;
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

/* Names that a person can read: not empty, UTF-8, no control bytes. */
static bool is_name(struct str s)
{
    bool ascii = true;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        ascii = ascii && c < 0x80;
        if (c < 0x20 || c == 0x7F)
            return false;
    }
    return s.n > 0 && (ascii || utf8_valid(s.p, s.n) == s.n);
}

static enum err_code take_bools(struct reader *r, uint64_t n)
{
    const unsigned char *p = r->s->p + r->at;
    for (uint64_t i = 0; i < n; i++)
        if (p[i] > 1)
            return err_set(r->e, ERR_FORMAT, "the bool at byte %" PRIu64 " is %u, not 0 or 1",
                           r->at + i, p[i]);
    return ERR_OK;
}

/* Vocabularies have 10^5 strings: a short loop takes those that are right and in memory, and take_str
 * the next one, which is not. */
static enum err_code skip_strings(struct reader *r, uint64_t n)
{
    enum err_code c = ERR_OK;
    while (n && c == ERR_OK) {
        uint64_t at, bytes;
        for (; n && r->at <= r->s->n && r->s->n - r->at >= 8; n--) {
            bytes = gguf_le64(r->s->p + r->at);
            if (bytes > GGUF_MAX_STRING || bytes > r->s->n - r->at - 8)
                break;
            r->at += 8 + bytes;
        }
        if (n) {
            c = take_str(r, GGUF_MAX_STRING, "a string", &at, &bytes);
            n--;
        }
    }
    return c;
}

/* The value at r->at, n elements of one type; leaves r->at behind it. */
static enum err_code skip_elements(struct reader *r, enum gguf_type type, uint64_t n)
{
    enum err_code c;
    if (type == GGUF_STRING)
        return skip_strings(r, n);
    uint64_t bytes = n * gguf_type_bytes(type); /* n is at most GGUF_MAX_ELEMENTS */
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

static int compare_keys(const void *of, uint32_t a, uint32_t b)
{
    const struct gguf_value *v = of;
    return gguf_compare_str(v[a].key, v[b].key);
}

static enum err_code index_keys(struct reader *r)
{
    struct shard *s = r->s;
    s->by_key = gguf_sorted(s->n_keys, s->keys, compare_keys);
    if (!s->by_key)
        return err_no_memory(r->e, s->n_keys * sizeof *s->by_key, "the index of keys");
    for (size_t i = 1; i < s->n_keys; i++) {
        const struct gguf_value *a = &s->keys[s->by_key[i - 1]], *b = &s->keys[s->by_key[i]];
        if (gguf_compare_str(a->key, b->key) == 0)
            return err_set(r->e, ERR_FORMAT, "key '%s' is there twice", gguf_quote(a->key).text);
    }
    return ERR_OK;
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

static int compare_offsets(const void *of, uint32_t a, uint32_t b)
{
    const struct gguf_tensor *t = of;
    return t[a].offset < t[b].offset ? -1 : t[a].offset > t[b].offset;
}

/* No two share a byte; one of unknown size takes at least one. */
static enum err_code check_overlap(struct reader *r)
{
    size_t n = r->g->n_tensors - r->s->first_tensor;
    enum err_code c = ERR_OK;
    if (n == 0)
        return ERR_OK;
    const struct gguf_tensor *t = r->g->tensors + r->s->first_tensor;
    uint32_t *order = gguf_sorted(n, t, compare_offsets);
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
    const struct gguf_value *v = gguf_find_key(r->s, STR("general.alignment"));
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

/* ---- the header -------------------------------------------------------------------------------------- */

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

enum err_code gguf_parse(struct gguf *g, struct shard *s, struct err *e)
{
    struct reader r = { g, s, 0, e };
    s->first_tensor = g->n_tensors;
    enum err_code c = parse(&r);
    g->header_bytes += r.at < GGUF_MAX_HEADER - g->header_bytes ? r.at
                                                               : GGUF_MAX_HEADER - g->header_bytes;
    return c == ERR_OK ? c : err_prefix(e, "%s", s->name);
}

