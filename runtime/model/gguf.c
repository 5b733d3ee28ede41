#include "runtime/model/gguf.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/model/gguf_priv.h"

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

uint32_t gguf_type_bytes(enum gguf_type t)
{
    return type_rows[t].bytes;
}

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

/* ---- sorted indices ----------------------------------------------------------------------------- */

struct order {
    const void *of;
    gguf_compare *compare;
};

static void merge(struct order o, const uint32_t *a, size_t na, const uint32_t *b, size_t nb,
                  uint32_t *out)
{
    while (na && nb) {
        bool first = o.compare(o.of, *a, *b) <= 0;
        *out++ = first ? *a++ : *b++;
        *(first ? &na : &nb) -= 1;
    }
    memcpy(out, na ? a : b, (na + nb) * sizeof *out);
}

uint32_t *gguf_sorted(size_t n, const void *of, gguf_compare *compare)
{
    uint32_t *v = mem_zero(n, 2 * sizeof *v);
    if (!v)
        return NULL;
    uint32_t *from = v, *to = v + n;
    for (size_t i = 0; i < n; i++)
        v[i] = (uint32_t)i;
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t mid = n - i < run ? n : i + run, end = n - i < 2 * run ? n : i + 2 * run;
            merge((struct order){ of, compare }, from + i, mid - i, from + mid, end - mid, to + i);
        }
        uint32_t *t = from;
        from = to;
        to = t;
    }
    if (from != v)
        memcpy(v, from, n * sizeof *v);
    return v;
}

int gguf_compare_str(struct str a, struct str b)
{
    if (a.n != b.n)
        return a.n < b.n ? -1 : 1;
    return memcmp(a.p, b.p, a.n);
}

const struct gguf_value *gguf_find_key(const struct shard *s, struct str key)
{
    size_t low = 0, high = s->n_keys;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        const struct gguf_value *v = &s->keys[s->by_key[mid]];
        int c = gguf_compare_str(v->key, key);
        if (c == 0)
            return v;
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* ---- bytes ---------------------------------------------------------------------------------------- */

enum err_code gguf_pread(const struct shard *s, uint64_t at, unsigned char *dst, size_t n,
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

uint64_t gguf_le64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

uint64_t gguf_le(const unsigned char *p, uint32_t bytes)
{
    uint64_t v = 0;
    for (uint32_t i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

/* ---- one file -------------------------------------------------------------------------------------- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static enum err_code open_shard(struct gguf *g, const char *path, struct err *e)
{
    struct shard *s = &g->shards[g->n_shards];
    struct stat st;
    *s = (struct shard){ .fd = -1, .path = mem_strdup(path) };
    if (!s->path)
        return err_no_memory(e, strlen(path) + 1, "a path");
    s->name = last_part(s->path);
    g->n_shards++;
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOATIME);
    if (s->fd < 0 && errno == EPERM) /* O_NOATIME is for a file's owner: what is lent leaves no trace */
        s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (s->fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening %s", s->name);
    if (fstat(s->fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s", s->name);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is not a regular file", s->name);
    s->file_bytes = (uint64_t)st.st_size;
    return gguf_parse(g, s, e);
}

/* ---- shards ---------------------------------------------------------------------------------------- */

static enum err_code split_key(const struct shard *s, const char *key, int64_t *out, struct err *e)
{
    const struct gguf_value *v = gguf_find_key(s, str_from(key));
    if (v && (v->is_array || v->type == GGUF_BOOL || !gguf_at_i64(v, 0, out)))
        return err_set(e, ERR_FORMAT, "%s: key '%s' must be an integer", s->name, key);
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
                                      ", counted from 0; expected %u of %u", s->name, no, n, i,
                       count);
    const struct gguf_value *arch = gguf_find_key(s, STR("general.architecture"));
    if (arch && (arch->is_array || arch->type != GGUF_STRING ||
                 !str_eq((struct str){ (const char *)arch->p, (size_t)arch->n }, g->arch)))
        return err_set(e, ERR_FORMAT, "%s: key 'general.architecture' differs from shard 1's",
                       s->name);
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
        return err_set(e, ERR_UNSUPPORTED, "%s: one of %" PRId64 " shards", s->name, count);
    if (count > GGUF_MAX_SHARDS)
        return err_set(e, ERR_TOO_LARGE, "%s: key 'split.count' is %" PRId64
                                         "; at most %d shards are read", s->name, count,
                       GGUF_MAX_SHARDS);
    if (no != 0)
        return err_set(e, ERR_INVALID, "%s is shard %" PRId64 " of %" PRId64
                                       "; open the first one, ...-00001-of-%05" PRId64 ".gguf",
                       s->name, no + 1, count, count);
    size_t stem = shard_stem(s->path, (uint32_t)count);
    if (!stem || stem > INT32_MAX)
        return err_set(e, ERR_FORMAT, "%s: the first of %" PRId64
                                      " shards, so its name must end in -00001-of-%05" PRId64
                                      ".gguf", s->name, count, count);
    struct shard *all = mem_resize(g->shards, (size_t)count, sizeof *all);
    if (!all)
        return err_no_memory(e, (size_t)count * sizeof *all, "the table of shards");
    g->shards = all;
    for (uint32_t i = 1; i < count && c == ERR_OK; i++)
        c = open_other(g, stem, i, (uint32_t)count, e);
    if (c == ERR_OK && total >= 0 && (uint64_t)total != g->n_tensors)
        c = err_set(e, ERR_FORMAT, "%s: key 'split.tensors.count' is %" PRId64
                                   ", but the shards hold %zu tensors", g->shards[0].name, total,
                    g->n_tensors);
    return c;
}

/* ---- open and close -------------------------------------------------------------------------------- */

static int compare_names(const void *of, uint32_t a, uint32_t b)
{
    const struct gguf_tensor *t = of;
    return gguf_compare_str(t[a].name, t[b].name);
}

static enum err_code index_tensors(struct gguf *g, struct err *e)
{
    g->by_name = gguf_sorted(g->n_tensors, g->tensors, compare_names);
    if (!g->by_name)
        return err_no_memory(e, g->n_tensors * sizeof *g->by_name, "the index of tensors");
    for (size_t i = 1; i < g->n_tensors; i++) {
        const struct gguf_tensor *a = &g->tensors[g->by_name[i - 1]];
        const struct gguf_tensor *b = &g->tensors[g->by_name[i]];
        if (gguf_compare_str(a->name, b->name) == 0)
            return err_set(e, ERR_FORMAT, "%s: tensor '%s' is there twice",
                           g->shards[b->file].name, gguf_quote(a->name).text);
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
        const struct gguf_value *arch = gguf_find_key(&g->shards[0], STR("general.architecture"));
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
                         .name = "memory",
                         .p = p ? p : (const void *)"",
                         .n = n,
                         .file_bytes = file_bytes > n ? file_bytes : n };
    g->n_shards = 1;
    if (!s->path)
        c = err_no_memory(e, 7, "a path");
    else
        c = gguf_parse(g, s, e);
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

const char *gguf_name(const struct gguf *g, uint32_t file)
{
    return file < g->n_shards ? g->shards[file].name : "";
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
    return expand(g, key, &k) ? gguf_find_key(&g->shards[0], str_from(k.text)) : NULL;
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
    uint32_t bytes = type_rows[v->type].bytes;
    uint64_t u = gguf_le(v->p + i * bytes, bytes);
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
        uint32_t bits = (uint32_t)gguf_le(v->p + i * 4, 4);
        float f;
        memcpy(&f, &bits, sizeof f);
        *out = (double)f;
        return true;
    }
    if (v->type == GGUF_F64 && i < v->n) {
        uint64_t bits = gguf_le(v->p + i * 8, 8);
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
    uint64_t n = gguf_le64(at->p); /* checked when the file was opened */
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
        int c = gguf_compare_str(t->name, name);
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
                                       PRIu64, s->name, gguf_quote(t->name).text, t->bytes, n, offset);
    uint64_t at = t->offset + offset;
    if (s->fd >= 0)
        c = gguf_pread(s, at, dst, n, e);
    else if (n > s->n || at > s->n - n)
        c = err_set(e, ERR_IO, "the file ends at byte %" PRIu64, s->n);
    else
        memcpy(dst, s->p + at, n);
    return c == ERR_OK ? c : err_prefix(e, "%s: tensor '%s'", s->name, gguf_quote(t->name).text);
}
