/* libFuzzer harness: GGUF parse, validation, load planning and quantising.
 *
 * An input is a file's first bytes. Of odd length it is the whole file; of even length a header
 * whose data, a tebibyte of it, is elsewhere: so both "inside the file" and what lies beyond it are
 * reached. What opens must keep its promises, which are asserted here by abort(); one input in
 * eight also has an allocation fail. The mutator knows where keys and tensors lie, so that counts
 * stay true while records come, go and change. One input in eight goes through a file of memory, so
 * that it is read by pread as in earnest; there what lies beyond the input is a mebibyte of zeros,
 * because all that a header spans is read into memory. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/model/budget.h"
#include "runtime/model/gguf.h"
#include "runtime/model/hparams.h"
#include "runtime/model/quantize.h"
#include "runtime/model/rope.h"
#include "runtime/model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

static void demand(bool promise)
{
    if (!promise)
        abort();
}

/* ---- what an open file promises ---------------------------------------------------------------- */

static void check_keys(const struct gguf *g)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        const struct gguf_value *v = gguf_key_at(g, i);
        struct gguf_strings it = gguf_strings(v);
        struct str s;
        uint64_t n = 0;
        int64_t whole = 0;
        double real = 0;
        for (; gguf_next_str(&it, &s); n++)
            for (size_t k = 0; k < s.n; k++)
                sum += (unsigned char)s.p[k];
        demand(!v->is_array || v->type != GGUF_STRING || n == v->n);
        for (uint64_t k = 0; v->type != GGUF_STRING && k < v->n; k++) {
            demand(gguf_at_f64(v, k, &real) || v->type == GGUF_U64);
            if (gguf_at_i64(v, k, &whole))
                sum += (uint64_t)whole;
        }
        demand(!gguf_at_i64(v, v->n, &whole) || v->type == GGUF_STRING);
        sum += v->key.n ? (unsigned char)v->key.p[v->key.n - 1] : 0;
    }
    static volatile uint64_t sink; /* the bytes must really be read */
    sink = sum;
    (void)sink;
}

static void check_tensors(const struct gguf *g, uint64_t file_bytes)
{
    unsigned char byte;
    for (size_t i = 0; i < gguf_n_tensors(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        demand(t->bytes <= file_bytes && t->offset <= file_bytes - t->bytes);
        demand(gguf_find_tensor(g, t->name) == t);
        for (int d = 0; d < GGUF_MAX_DIMS; d++)
            demand(t->shape[d] > 0);
        demand(gguf_read_tensor(g, t, t->bytes, 1, &byte, NULL) == ERR_INVALID);
        (void)gguf_read_tensor(g, t, 0, 1, &byte, NULL);
    }
}

static void check_rope(const struct gguf *g, const struct hparams *hp, const struct weights *w,
                       uint32_t n_ctx, bool local)
{
    static float cosines[HPARAMS_MAX_HEAD_DIM], sines[HPARAMS_MAX_HEAD_DIM];
    struct rope r;
    if (rope_load(&r, g, hp, w, n_ctx, local, NULL) == ERR_OK) {
        demand(r.n_pairs <= hp->head_k / 2);
        rope_at(&r, hp->n_ctx_train, cosines, sines);
        for (uint32_t i = 0; i < r.n_pairs; i++)
            demand(isfinite(cosines[i]) && isfinite(sines[i]));
    }
    rope_finish(&r);
}

static void check_plan(const struct gguf *g, struct err *e)
{
    struct hparams hp;
    struct weights w;
    const struct tensor_type *f16 = tensor_type_find(TENSOR_F16);
    if (hparams_read(g, &hp, e) != ERR_OK)
        return;
    demand(hp.n_head % hp.n_head_kv == 0 && hp.n_rot <= hp.head_k && hp.n_layer > 0);
    demand(isfinite(hp.attn_scale) && isfinite(hp.embd_scale) && hp.logit_scale != 0.0f);
    demand(budget_kv(&hp, f16, tensor_type_find(TENSOR_Q8_0), hp.n_ctx_train, 4) > 0);
    if (weights_bind(g, &hp, &w, e) == ERR_OK) {
        demand(budget_weights(&w) <= gguf_tensor_bytes(g));
        demand(weights_output(&w)->shape[1] == hp.n_vocab);
        check_rope(g, &hp, &w, 1, false);
        check_rope(g, &hp, &w, hp.n_ctx_train, true);
    }
    weights_finish(&w);
}

static enum err_code keep(void *user, const void *bytes, size_t n, struct err *e)
{
    (void)e;
    buf_put(user, bytes, n);
    return ERR_OK;
}

/* What is written is a file again, of as many bytes as were planned, with the same tensors. */
static void check_quantised(const struct gguf *g, uint8_t pick, struct err *e)
{
    const struct quantize_target *t = quantize_target_at(pick % quantize_target_count());
    struct quantize_plan *p = NULL;
    struct gguf *again = NULL;
    struct buf file;
    buf_init(&file, 1 << 20);
    struct quantize_sink sink = { .write = keep, .user = &file };
    if (quantize_plan_make(g, t, &p, e) == ERR_OK && p->file_bytes <= 1 << 20 &&
        quantize_run(p, &sink, 1, e) == ERR_OK && !file.failed) {
        demand(file.n == p->file_bytes);
        enum err_code c = gguf_open_memory(file.p, file.n, file.n, &again, e);
        demand(c == ERR_OK || c == ERR_NO_MEMORY || c == ERR_TOO_LARGE);
        demand(c != ERR_OK || gguf_n_tensors(again) == gguf_n_tensors(g));
        for (size_t i = 0; c == ERR_OK && i < p->n; i++)
            demand(str_eq(gguf_tensor_at(again, i)->name, p->items[i].from->name) &&
                   gguf_tensor_at(again, i)->bytes == p->items[i].bytes);
    }
    gguf_close(again);
    quantize_plan_destroy(p);
    buf_finish(&file);
}

static enum err_code open_as_file(const uint8_t *data, size_t size, uint64_t file_bytes,
                                  struct gguf **g, struct err *e)
{
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    demand(fd >= 0 && write(fd, data, size) == (ssize_t)size && ftruncate(fd, (off_t)file_bytes) == 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    enum err_code c = gguf_open(path, g, e);
    close(fd);
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g = NULL;
    struct err e = { 0 };
    uint8_t pick = size ? data[size / 2] : 1;
    bool as_file = pick % 8 == 1;
    uint64_t live = mem_live();
    uint64_t file_bytes = size % 2 ? size : as_file ? size + (1 << 20) : (uint64_t)1 << 40;
    mem_fail_after(pick % 8 ? 0 : 1 + pick / 8, false);
    enum err_code c = as_file ? open_as_file(data, size, file_bytes, &g, &e)
                              : gguf_open_memory(data, size, file_bytes, &g, &e);
    if (c == ERR_OK) {
        check_keys(g);
        check_tensors(g, file_bytes);
        check_plan(g, &e);
        check_quantised(g, pick / 8, &e);
    } else {
        demand(g == NULL && e.text[0] != '\0');
    }
    gguf_close(g);
    mem_fail_after(0, false);
    demand(mem_live() == live);
    return 0;
}

/* ---- the mutator -------------------------------------------------------------------------------- */

enum { MOST_RECORDS = 512, HEADER = 24 };

struct record {
    size_t at, n;
};
struct map_of_file {
    struct record keys[MOST_RECORDS], tensors[MOST_RECORDS];
    size_t n_keys, n_tensors;
};

static uint64_t number(const uint8_t *p, size_t bytes)
{
    uint64_t v = 0;
    memcpy(&v, p, bytes);
    return v;
}

static const uint8_t widths[13] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

/* End of the value of `type` at `at`, or 0. */
static size_t value_end(const uint8_t *p, size_t size, size_t at, uint64_t type, uint64_t n)
{
    if (type == 8) {
        for (; n; n--) {
            if (size - at < 8 || number(p + at, 8) > size - at - 8)
                return 0;
            at += 8 + (size_t)number(p + at, 8);
        }
        return at;
    }
    if (type >= 13 || !widths[type] || n > (size - at) / widths[type])
        return 0;
    return at + (size_t)n * widths[type];
}

static size_t key_end(const uint8_t *p, size_t size, size_t at)
{
    size_t i = value_end(p, size, at, 8, 1);
    if (!i || size - i < 4)
        return 0;
    uint64_t type = number(p + i, 4), n = 1;
    i += 4;
    if (type == 9) {
        if (size - i < 12)
            return 0;
        type = number(p + i, 4);
        n = number(p + i + 4, 8);
        i += 12;
    }
    return value_end(p, size, i, type, n);
}

static size_t tensor_end(const uint8_t *p, size_t size, size_t at)
{
    size_t i = value_end(p, size, at, 8, 1);
    if (!i || size - i < 4 || number(p + i, 4) > 8)
        return 0;
    size_t rest = 4 + 8 * (size_t)number(p + i, 4) + 12;
    return size - i < rest ? 0 : i + rest;
}

static bool survey(const uint8_t *p, size_t size, struct map_of_file *m)
{
    *m = (struct map_of_file){ 0 };
    if (size < HEADER)
        return false;
    uint64_t n_tensors = number(p + 8, 8), n_keys = number(p + 16, 8);
    size_t at = HEADER, end;
    while (m->n_keys < n_keys && m->n_keys < MOST_RECORDS && (end = key_end(p, size, at))) {
        m->keys[m->n_keys++] = (struct record){ at, end - at };
        at = end;
    }
    while (m->n_keys == n_keys && m->n_tensors < n_tensors && m->n_tensors < MOST_RECORDS &&
           (end = tensor_end(p, size, at))) {
        m->tensors[m->n_tensors++] = (struct record){ at, end - at };
        at = end;
    }
    return m->n_keys > 0;
}

static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* Bytes [at, at+n) become `with`; 0 when that does not fit. */
static size_t splice(uint8_t *p, size_t size, size_t max, size_t at, size_t n, const uint8_t *with,
                     size_t with_n)
{
    if (size - n > max - with_n || with_n > max)
        return 0;
    memmove(p + at + with_n, p + at + n, size - at - n);
    memcpy(p + at, with, with_n);
    return size - n + with_n;
}

static void recount(uint8_t *p, bool tensors, int64_t by)
{
    uint64_t n = number(p + (tensors ? 8 : 16), 8) + (uint64_t)by;
    memcpy(p + (tensors ? 8 : 16), &n, 8);
}

static const uint64_t interesting[] = {
    0, 1, 2, 3, 4, 8, 16, 31, 32, 33, 40, 63, 64, 96, 127, 128, 255, 256, 512, 513, 1024, 4096,
    65535, 65536, 1u << 20, 1u << 30, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x3F800000, 0x7F800000,
    0x7FC00000, 0x100000000, (uint64_t)1 << 40, INT64_MAX, (uint64_t)1 << 63, UINT64_MAX,
};

/* One field of a tensor record, behind its name: dimensions' count, one of them, type or offset. */
static void change_tensor(uint8_t *p, struct record r, uint32_t *seed)
{
    size_t name = (size_t)number(p + r.at, 8), fields = r.at + 8 + name;
    size_t n_dims = (size_t)number(p + fields, 4);
    uint64_t v = interesting[next(seed) % (sizeof interesting / sizeof interesting[0])];
    switch (next(seed) % 4) {
    case 0:
        if (n_dims)
            memcpy(p + fields + 4 + 8 * (next(seed) % n_dims), &v, 8);
        return;
    case 1:
        v = next(seed) % 44;
        memcpy(p + fields + 4 + 8 * n_dims, &v, 4);
        return;
    case 2:
        v = next(seed) % 64 * 32;
        memcpy(p + fields + 8 + 8 * n_dims, &v, 8);
        return;
    default:
        if (name)
            p[r.at + 8 + next(seed) % name] ^= (uint8_t)(1u << (next(seed) % 5));
    }
}

static void change_key(uint8_t *p, struct record r, uint32_t *seed)
{
    size_t name = (size_t)number(p + r.at, 8), type_at = r.at + 8 + name, value = type_at + 4;
    uint64_t type = number(p + type_at, 4);
    uint64_t v = interesting[next(seed) % (sizeof interesting / sizeof interesting[0])];
    size_t width = type < 13 ? widths[type] : 0;
    if (width && next(seed) % 4)
        memcpy(p + value, &v, width);
    else if (type == 8 && next(seed) % 2 && r.n > name + 20)
        p[value + 8 + next(seed) % (r.n - name - 20)] ^= (uint8_t)(1u << (next(seed) % 8));
    else if (name)
        p[r.at + 8 + next(seed) % name] ^= (uint8_t)(1u << (next(seed) % 5));
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    static struct map_of_file m;
    static uint8_t copy[1 << 16];
    uint32_t s = seed;
    if (next(&s) % 4 == 0 || !survey(data, size, &m))
        return LLVMFuzzerMutate(data, size, max_size);
    bool tensors = m.n_tensors && next(&s) % 2;
    size_t n = tensors ? m.n_tensors : m.n_keys, got = 0;
    const struct record *all = tensors ? m.tensors : m.keys;
    struct record one = all[next(&s) % n], other = all[next(&s) % n];
    switch (next(&s) % 8) {
    case 0: /* leave one out */
        got = splice(data, size, max_size, one.at, one.n, copy, 0);
        if (got)
            recount(data, tensors, -1);
        break;
    case 1: /* twice, or put before another */
        if (other.n > sizeof copy)
            break;
        memcpy(copy, data + other.at, other.n);
        got = splice(data, size, max_size, one.at, 0, copy, other.n);
        if (got)
            recount(data, tensors, 1);
        break;
    case 2: /* mutate the bytes of one, whatever becomes of its lengths */
        if (one.n + 64 > sizeof copy)
            break;
        memcpy(copy, data + one.at, one.n);
        got = splice(data, size, max_size, one.at, one.n, copy,
                     LLVMFuzzerMutate(copy, one.n, one.n + 64));
        break;
    case 3: /* the data is here, or it is not */
        got = splice(data, size, max_size, size, 0, (const uint8_t *)"", 1);
        break;
    default:
        (tensors ? change_tensor : change_key)(data, one, &s);
        return size;
    }
    return got ? got : LLVMFuzzerMutate(data, size, max_size);
}
