#include "runtime/model/quantize_priv.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/encode.h"
#include "runtime/model/gguf_priv.h"

#define QUANTIZATION_VERSION 2 /* of the block formats, as every K type has had it */
#define ALIGNMENT_MAX 65536    /* more would be a way to fill a disk with zeros */
#define PIECE ((size_t)4096)   /* weights that a thread has as floats: a multiple of every block */

/* ---- targets ------------------------------------------------------------------------------------ */

static const struct quantize_target targets[] = {
    { "F16", 1, TENSOR_F16 },     { "BF16", 32, TENSOR_BF16 },  { "Q8_0", 7, TENSOR_Q8_0 },
    { "Q6_K", 18, TENSOR_Q6_K },  { "Q5_K_M", 17, TENSOR_Q5_K }, { "Q5_K_S", 16, TENSOR_Q5_K },
    { "Q4_K_M", 15, TENSOR_Q4_K }, { "Q4_K_S", 14, TENSOR_Q4_K }, { "Q4_0", 2, TENSOR_Q4_0 },
};
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

size_t quantize_target_count(void)
{
    return N_TARGETS;
}

const struct quantize_target *quantize_target_at(size_t i)
{
    return i < N_TARGETS ? &targets[i] : NULL;
}

const struct quantize_target *quantize_target_find(struct str name, struct err *e)
{
    struct str full = name;
    if (str_ieq(name, STR("Q4_K")))
        full = STR("Q4_K_M");
    if (str_ieq(name, STR("Q5_K")))
        full = STR("Q5_K_M");
    struct buf names;
    buf_init(&names, 256);
    for (size_t i = 0; i < N_TARGETS; i++) {
        if (str_ieq(full, str_from(targets[i].name))) {
            buf_finish(&names);
            return &targets[i];
        }
        buf_printf(&names, "%s%s", i ? ", " : "", targets[i].name);
    }
    err_set(e, ERR_INVALID, "'%s' is no type to quantise to; there are %s", gguf_quote(name).text,
            names.failed ? "no others to name" : names.p);
    buf_finish(&names);
    return NULL;
}

/* ---- the new header ------------------------------------------------------------------------------ */

static void put_le(struct buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_putc(b, (char)(v >> (8 * i)));
}

static void put_text(struct buf *b, struct str s)
{
    put_le(b, s.n, 8);
    buf_put(b, s.p, s.n);
}

static void put_u32_key(struct buf *b, const char *key, uint32_t v)
{
    put_text(b, str_from(key));
    put_le(b, GGUF_U32, 4);
    put_le(b, v, 4);
}

/* A key as it stands in the file: from the length of its name to the end of its value. */
static struct str key_bytes(const struct gguf_value *v)
{
    const char *begin = v->key.p - 8, *end = (const char *)v->p;
    struct gguf_strings it = gguf_strings(v);
    struct str s;
    while (gguf_next_str(&it, &s))
        end = s.p + s.n;
    if (v->type != GGUF_STRING)
        end += v->n * gguf_type_bytes(v->type);
    else if (!v->is_array)
        end += v->n;
    return (struct str){ begin, (size_t)(end - begin) };
}

/* Keys that say how the file is quantised: they get a new value where they stand. */
struct own_key {
    const char *name;
    uint32_t value;
    bool there;
};

static uint64_t put_keys(struct buf *b, const struct gguf *g, struct own_key own[2])
{
    static const char *const dropped[] = { "split.no", "split.count", "split.tensors.count" };
    uint64_t n = 0;
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
        const struct gguf_value *v = gguf_key_at(g, i);
        bool keep = true;
        for (size_t k = 0; k < sizeof dropped / sizeof dropped[0]; k++)
            keep = keep && !str_is(v->key, dropped[k]);
        if (!keep)
            continue;
        n++;
        int mine = str_is(v->key, own[0].name) ? 0 : str_is(v->key, own[1].name) ? 1 : -1;
        if (mine >= 0 && gguf_n_tensors(g)) {
            own[mine].there = true;
            put_u32_key(b, own[mine].name, own[mine].value);
        } else {
            struct str bytes = key_bytes(v);
            buf_put(b, bytes.p, bytes.n);
        }
    }
    for (int k = 0; k < 2 && gguf_n_tensors(g); k++)
        if (!own[k].there) {
            put_u32_key(b, own[k].name, own[k].value);
            n++;
        }
    return n;
}

static void put_tensors(struct buf *b, const struct quantize_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        const struct gguf_tensor *t = p->items[i].from;
        put_text(b, t->name);
        put_le(b, t->n_dims, 4);
        for (uint32_t d = 0; d < t->n_dims; d++)
            put_le(b, t->shape[d], 8);
        put_le(b, p->items[i].to->id, 4);
        put_le(b, p->items[i].offset, 8);
    }
}

static enum err_code make_header(struct quantize_plan *p, uint32_t alignment, struct err *e)
{
    struct own_key own[2] = { { "general.file_type", p->target->file_type, false },
                              { "general.quantization_version", QUANTIZATION_VERSION, false } };
    struct buf b, keys;
    buf_init(&b, 2 * (size_t)GGUF_MAX_HEADER);
    buf_init(&keys, (size_t)GGUF_MAX_HEADER);
    uint64_t n_keys = put_keys(&keys, p->from, own);
    buf_puts(&b, "GGUF");
    put_le(&b, gguf_version(p->from), 4);
    put_le(&b, p->n, 8);
    put_le(&b, n_keys, 8);
    buf_put(&b, keys.p, keys.n);
    put_tensors(&b, p);
    while (b.n % alignment && !b.failed)
        buf_putc(&b, 0);
    p->header_bytes = b.n;
    p->header = keys.failed ? NULL : buf_take(&b);
    buf_finish(&b);
    buf_finish(&keys);
    return p->header ? ERR_OK : err_no_memory(e, p->header_bytes, "the new file's header");
}

/* ---- the plan --------------------------------------------------------------------------------------- */

static enum err_code check_tensor(const struct gguf *g, const struct gguf_tensor *t, struct err *e)
{
    struct gguf_quoted name = gguf_quote(t->name);
    const char *file = gguf_name(g, t->file);
    if (!t->type || !t->bytes)
        return err_set(e, ERR_UNSUPPORTED, "%s: cannot quantise: tensor '%s' is of type %" PRIu32
                                           ", which is not known", file, name.text, t->type_id);
    if (t->type->block_len > 1)
        return err_set(e, ERR_UNSUPPORTED, "%s is quantised already (tensor '%s' is %s); quantise the "
                                           "F32, F16 or BF16 file that it was made from", file,
                       name.text, t->type->name);
    return ERR_OK;
}

/* What can be decoded is the only thing that is converted; a table of integers is not. */
static enum err_code check_change(const struct gguf *g, const struct quantize_item *it,
                                  struct err *e)
{
    if (it->to == it->from->type || it->from->type->decode)
        return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "%s: tensor '%s' is %s; only F32, F16 and BF16 can be "
                                       "quantised", gguf_name(g, it->from->file),
                   gguf_quote(it->from->name).text, it->from->type->name);
}

static uint64_t padded(uint64_t n, uint32_t alignment)
{
    return (n + alignment - 1) / alignment * alignment;
}

static enum err_code lay_out(struct quantize_plan *p, uint32_t alignment, struct err *e)
{
    uint64_t at = 0;
    enum err_code c = ERR_OK;
    for (size_t i = 0; c == ERR_OK && i < p->n; i++) {
        struct quantize_item *it = &p->items[i];
        c = check_change(p->from, it, e);
        it->bytes = it->from->n_elements / it->to->block_len * it->to->block_bytes;
        it->offset = at;
        at += padded(it->bytes, alignment);
    }
    if (c == ERR_OK)
        c = make_header(p, alignment, e);
    p->file_bytes = p->header_bytes + at;
    return c;
}

/* The type that most weights have. */
static const char *main_type(const struct gguf *g)
{
    const struct tensor_type *best = NULL;
    uint64_t most = 0;
    for (size_t k = 0; k < tensor_type_count(); k++) {
        uint64_t n = 0;
        for (size_t i = 0; i < gguf_n_tensors(g); i++)
            n += gguf_tensor_at(g, i)->type == tensor_type_at(k) ? gguf_tensor_at(g, i)->n_elements : 0;
        best = n > most ? tensor_type_at(k) : best;
        most = n > most ? n : most;
    }
    return best ? best->name : "";
}

enum err_code quantize_plan_make(const struct gguf *g, const struct quantize_target *target,
                                 struct quantize_plan **out, struct err *e)
{
    size_t n = gguf_n_tensors(g);
    uint32_t alignment = 32;
    enum err_code c = gguf_u32(g, "general.alignment", &alignment, e);
    if (c == ERR_OK && alignment > ALIGNMENT_MAX)
        c = err_set(e, ERR_UNSUPPORTED, "%s: tensors are aligned to %" PRIu32 " bytes; at most %d can be "
                                        "written", gguf_name(g, 0), alignment, ALIGNMENT_MAX);
    struct quantize_plan *p = mem_zero(1, sizeof *p);
    struct quantize_item *items = mem_zero(n ? n : 1, sizeof *items);
    if (c == ERR_OK && (!p || !items))
        c = err_no_memory(e, n * sizeof *items, "the plan of the new file");
    for (size_t i = 0; c == ERR_OK && i < n; i++) {
        items[i].from = gguf_tensor_at(g, i);
        c = check_tensor(g, items[i].from, e);
    }
    if (c == ERR_OK)
        c = quantize_mix(g, target, items, n, e);
    if (c == ERR_OK) {
        *p = (struct quantize_plan){ .from = g, .target = target, .items = items, .n = n,
                                     .from_name = main_type(g) };
        c = lay_out(p, alignment, e);
        items = NULL;
    }
    mem_free(items);
    if (c != ERR_OK) {
        quantize_plan_destroy(p);
        p = NULL;
    }
    *out = p;
    return c;
}

void quantize_plan_destroy(struct quantize_plan *p)
{
    if (!p)
        return;
    mem_free(p->items);
    mem_free(p->header);
    mem_free(p);
}

/* ---- a slice: weights of one tensor, on several threads ---------------------------------------------- */

struct share {
    const struct tensor_type *from, *to;
    const struct tensor_encoder *encoder;
    const unsigned char *in;
    unsigned char *out;
    size_t weights;  /* a multiple of the type's block */
    bool refused;
    float refused_at; /* the weight that cannot be held */
    pthread_t thread;
    bool started;
};

static bool all_fit(struct share *s, const float *x, size_t n)
{
    float largest = s->encoder->max_abs;
    size_t good = 0;
    for (size_t i = 0; i < n; i++)
        good += fabsf(x[i]) <= largest;
    for (size_t i = 0; good != n && !s->refused && i < n; i++)
        if (!(fabsf(x[i]) <= largest)) {
            s->refused = true;
            s->refused_at = x[i];
        }
    return good == n;
}

static void *share_main(void *arg)
{
    struct share *s = arg;
    float x[PIECE];
    for (size_t at = 0; at < s->weights && !s->refused;) {
        size_t n = s->weights - at < PIECE ? s->weights - at : PIECE;
        s->from->decode(s->in + at * s->from->block_bytes, n, x);
        if (all_fit(s, x, n))
            s->encoder->encode(x, n / s->to->block_len,
                               s->out + at / s->to->block_len * s->to->block_bytes);
        at += n;
    }
    return NULL;
}

struct run {
    const struct quantize_plan *p;
    const struct quantize_sink *sink;
    unsigned threads;
    unsigned char *in, *out; /* a slice as it was and as it is to be */
    uint64_t written;
};

static enum err_code put(struct run *r, const void *bytes, size_t n, struct err *e)
{
    enum err_code c = n ? r->sink->write(r->sink->user, bytes, n, e) : ERR_OK;
    r->written += n;
    return c;
}

static enum err_code tell(struct run *r, struct err *e)
{
    if (!r->sink->progress || r->sink->progress(r->sink->user, r->written, r->p->file_bytes))
        return ERR_OK;
    return err_set(e, ERR_CANCELLED, "quantising was stopped after %" PRIu64 " of %" PRIu64 " bytes",
                   r->written, r->p->file_bytes);
}

static enum err_code refusal(const struct run *r, const struct quantize_item *it, float weight,
                             struct err *e)
{
    const char *file = gguf_name(r->p->from, it->from->file);
    struct gguf_quoted name = gguf_quote(it->from->name);
    if (isfinite(weight))
        return err_set(e, ERR_FORMAT, "%s: tensor '%s' has a weight of %g, more than %s can hold", file,
                       name.text, (double)weight, it->to->name);
    return err_set(e, ERR_FORMAT, "%s: tensor '%s' has a weight that is %s; the file is damaged", file,
                   name.text, isnan(weight) ? "no number" : "infinite");
}

static enum err_code convert(struct run *r, const struct quantize_item *it, size_t weights,
                             struct err *e)
{
    struct share shares[QUANTIZE_MAX_THREADS];
    size_t each = weights / r->threads / PIECE * PIECE, at = 0;
    for (unsigned i = 0; i < r->threads; i++) {
        size_t n = i + 1 < r->threads ? each : weights - at;
        shares[i] = (struct share){
            .from = it->from->type, .to = it->to, .weights = n,
            .encoder = tensor_encoder_find(it->to->id),
            .in = r->in + at * it->from->type->block_bytes,
            .out = r->out + at / it->to->block_len * it->to->block_bytes };
        at += n;
        shares[i].started = n && i + 1 < r->threads &&
                            pthread_create(&shares[i].thread, NULL, share_main, &shares[i]) == 0;
        if (!shares[i].started)
            share_main(&shares[i]);
    }
    const struct share *bad = NULL;
    for (unsigned i = 0; i < r->threads; i++) {
        if (shares[i].started)
            pthread_join(shares[i].thread, NULL);
        bad = !bad && shares[i].refused ? &shares[i] : bad;
    }
    return bad ? refusal(r, it, bad->refused_at, e) : ERR_OK;
}

static enum err_code put_item(struct run *r, const struct quantize_item *it, struct err *e)
{
    const struct tensor_type *from = it->from->type, *to = it->to;
    enum err_code c = ERR_OK;
    for (uint64_t at = 0; c == ERR_OK && at < it->from->n_elements;) {
        uint64_t left = it->from->n_elements - at;
        size_t n = left < QUANTIZE_SLICE ? (size_t)left : QUANTIZE_SLICE;
        c = gguf_read_tensor(r->p->from, it->from, at * from->block_bytes, n * from->block_bytes, r->in,
                             e);
        if (c == ERR_OK && from != to)
            c = convert(r, it, n, e);
        if (c == ERR_OK)
            c = put(r, from == to ? r->in : r->out, n / to->block_len * to->block_bytes, e);
        if (c == ERR_OK)
            c = tell(r, e);
        at += n;
    }
    return c;
}

static enum err_code put_padding(struct run *r, uint64_t until, struct err *e)
{
    static const char zeros[256];
    enum err_code c = ERR_OK;
    while (c == ERR_OK && r->written < until) {
        uint64_t left = until - r->written;
        c = put(r, zeros, left < sizeof zeros ? (size_t)left : sizeof zeros, e);
    }
    return c;
}

enum err_code quantize_run(const struct quantize_plan *p, const struct quantize_sink *sink,
                           unsigned threads, struct err *e)
{
    struct run r = { .p = p, .sink = sink,
                     .threads = threads < 1 ? 1 : threads < QUANTIZE_MAX_THREADS ? threads
                                                                        : QUANTIZE_MAX_THREADS };
    enum err_code c = ERR_OK;
    r.in = mem_alloc(QUANTIZE_SLICE * 8); /* the widest type is F64 */
    r.out = mem_alloc(QUANTIZE_SLICE * sizeof(float));
    if (!r.in || !r.out)
        c = err_no_memory(e, QUANTIZE_SLICE * 12, "a slice of weights");
    if (c == ERR_OK)
        c = put(&r, p->header, p->header_bytes, e);
    for (size_t i = 0; c == ERR_OK && i < p->n; i++) {
        c = put_item(&r, &p->items[i], e);
        uint64_t end = i + 1 < p->n ? p->header_bytes + p->items[i + 1].offset : p->file_bytes;
        if (c == ERR_OK)
            c = put_padding(&r, end, e);
    }
    if (c == ERR_OK)
        c = tell(&r, e);
    mem_free(r.in);
    mem_free(r.out);
    return c;
}
