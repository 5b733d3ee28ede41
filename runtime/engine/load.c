/* From a file to a model that can step. */
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/engine/engine.h"
#include "runtime/model/rope.h"

#define STAGE_BYTES ((size_t)4 << 20)

struct loader {
    struct model *m;
    struct gguf *g;
    struct weights w;
    uint8_t *stage;   /* source rows */
    size_t stage_cap;
    uint8_t *raw;     /* rows as they lie in the file, and decoded, where they are not staged so */
    size_t raw_cap;
    uint32_t *perm;   /* packed output -> staged row */
    size_t perm_cap;
    uint8_t *packed;  /* a slice, where the device's memory is not mapped */
    size_t packed_cap;
    struct err *e;
};

static bool room(void *array, size_t *cap, size_t n, size_t size)
{
    return mem_grow(array, cap, n, size, SIZE_MAX / 2 / size);
}

/* ---- vectors -------------------------------------------------------------------------------------- */

static enum err_code fill_rope(struct loader *l, const struct plan_vector *v, float *out)
{
    struct rope r = { 0 };
    const struct plan *p = l->m->plan;
    enum err_code code =
        rope_load(&r, l->g, &l->m->hp, &l->w, p->n_ctx, v->rope == 2, l->e);
    float *cos_sin = NULL;
    if (code == ERR_OK && r.n_pairs > 0 && !(cos_sin = mem_alloc(2 * r.n_pairs * sizeof *cos_sin)))
        code = err_no_memory(l->e, r.n_pairs * 8, "the rotation table");
    for (uint32_t pos = 0; code == ERR_OK && r.n_pairs && pos < p->n_ctx; pos++) {
        float *to = out + (size_t)pos * r.n_pairs * 2;
        rope_at(&r, pos, cos_sin, cos_sin + r.n_pairs);
        for (uint32_t i = 0; i < r.n_pairs; i++) {
            to[2 * i] = cos_sin[i];
            to[2 * i + 1] = cos_sin[r.n_pairs + i];
        }
    }
    mem_free(cos_sin);
    rope_finish(&r);
    return code;
}

/* Biases in the packed order of their matrices. */
static void put_in_order(const struct plan *p, const struct plan_vector *v, const float *in, float *out)
{
    for (uint32_t i = 0; i < v->n_order; i++) {
        const struct plan_matrix *m = &p->matrices[v->order[i].matrix];
        uint32_t first = v->order[i].first, end = i + 1 < v->n_order ? v->order[i + 1].first : v->n;
        for (uint32_t at = first; at < end; at++) {
            uint32_t row = plan_row(m, at - first);
            out[at] = row == UINT32_MAX ? 0 : in[first + row];
        }
    }
}

static enum err_code fill_parts(struct loader *l, const struct plan_vector *v, float *out)
{
    enum err_code code = ERR_OK;
    uint32_t at = 0;
    for (int i = 0; i < 3 && code == ERR_OK; i++) {
        if (v->part[i])
            code = weights_read_vector(l->g, v->part[i], out + at, v->part_n[i], l->e);
        at += v->part_n[i] + v->gap;
    }
    for (uint32_t i = 0; i < v->n; i++)
        out[i] *= v->scale;
    return code;
}

static enum err_code load_vector(struct loader *l, const struct plan_vector *v)
{
    size_t n = (size_t)v->n * (v->n_order ? 2 : 1);
    float *out = mem_zero(n, sizeof *out);
    if (!out)
        return err_no_memory(l->e, n * sizeof *out, "a vector of weights");
    enum err_code code;
    if (v->rope) {
        code = fill_rope(l, v, out);
    } else if (v->n_order) {
        code = fill_parts(l, v, out + v->n);
        put_in_order(l->m->plan, v, out + v->n, out);
    } else {
        code = fill_parts(l, v, out);
    }
    if (code == ERR_OK)
        code = gpu_buffer_write(l->m->rt->gpu, l->m->buf[BUF_VECTORS], v->offset, out,
                                (uint64_t)v->n * sizeof *out, l->e);
    mem_free(out);
    return code;
}

/* ---- matrices ------------------------------------------------------------------------------------- */

static size_t row_bytes(const struct gguf_tensor *t)
{
    return (size_t)t->shape[0] / t->type->block_len * t->type->block_bytes;
}

/* Bytes of a row as it is staged: padded to whole blocks of 32 inputs, decoded where parts differ. */
static size_t staged_bytes(const struct plan_matrix *m)
{
    const struct tensor_type *t = tensor_type_find(m->type_id);
    return (size_t)m->k / t->block_len * t->block_bytes;
}

/* Copies `n` rows of `bytes` each to rows of `to_bytes`, the rest of each zero. */
static void spread_rows(uint8_t *dst, size_t to_bytes, const uint8_t *src, size_t bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        memcpy(dst + i * to_bytes, src + i * bytes, bytes);
        memset(dst + i * to_bytes + bytes, 0, to_bytes - bytes);
    }
}

/* Rows of one tensor that cannot be staged as they lie: decoded, padded, or both. */
static enum err_code convert_rows(struct loader *l, const struct plan_matrix *m,
                                  const struct gguf_tensor *t, uint32_t first, uint32_t n, uint8_t *dst)
{
    size_t bytes = row_bytes(t), to_bytes = staged_bytes(m);
    size_t floats = m->as_f32 ? (size_t)n * t->shape[0] * sizeof(float) : 0;
    if (!room(&l->raw, &l->raw_cap, n * bytes + floats, 1))
        return err_no_memory(l->e, n * bytes + floats, "rows of weights");
    uint8_t *file = l->raw + floats;
    enum err_code code = gguf_read_tensor(l->g, t, (uint64_t)first * bytes, n * bytes, file, l->e);
    if (code != ERR_OK)
        return code;
    if (!m->as_f32) {
        spread_rows(dst, to_bytes, file, bytes, n);
        return ERR_OK;
    }
    t->type->decode(file, (size_t)n * t->shape[0] / t->type->block_len, (float *)(void *)l->raw);
    spread_rows(dst, to_bytes, l->raw, (size_t)t->shape[0] * sizeof(float), n);
    return ERR_OK;
}

/* Reads rows first .. first + n - 1 of the matrix's tensors, one after another, to stage row `to`. */
static enum err_code read_rows(struct loader *l, const struct plan_matrix *m, uint32_t first, uint32_t n,
                               uint32_t to)
{
    for (uint32_t i = 0; i < m->n_part && n > 0; i++) {
        const struct gguf_tensor *t = m->part[i];
        uint32_t rows = (uint32_t)t->shape[1];
        if (first >= rows) {
            first -= rows;
            continue;
        }
        uint32_t take = rows - first < n ? rows - first : n;
        uint8_t *dst = l->stage + (size_t)to * staged_bytes(m);
        enum err_code code;
        if (m->as_f32 || t->shape[0] != m->k)
            code = convert_rows(l, m, t, first, take, dst);
        else
            code = gguf_read_tensor(l->g, t, (uint64_t)first * row_bytes(t), take * row_bytes(t), dst, l->e);
        if (code != ERR_OK)
            return code;
        first = 0;
        to += take;
        n -= take;
    }
    return ERR_OK;
}

/* Stages the source rows of n_ob output blocks, a whole run of rows, and says where each lies. */
static enum err_code stage_outputs(struct loader *l, const struct plan_matrix *m, uint32_t ob, uint32_t n_ob)
{
    uint32_t first = ob * BLOCK_OUTPUTS, n = n_ob * BLOCK_OUTPUTS, half = m->m / 2;
    bool glu = m->order == ORDER_GLU;
    uint32_t begin = glu ? first / 2 : first, end = glu ? half : m->m, most = glu ? n / 2 : n;
    uint32_t have = begin >= end ? 0 : end - begin < most ? end - begin : most;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = plan_row(m, first + i);
        bool up = glu && row != UINT32_MAX && row >= half;
        l->perm[i] = row == UINT32_MAX ? REPACK_NONE : up ? row - half - begin + have : row - begin;
    }
    enum err_code code = read_rows(l, m, begin, have, 0);
    return code == ERR_OK && glu ? read_rows(l, m, half + begin, have, have) : code;
}

static enum err_code load_slice(struct loader *l, const struct plan_matrix *m, const struct plan_slice *s)
{
    const struct tensor_type *type = tensor_type_find(m->type_id);
    size_t stage_row = staged_bytes(m);
    size_t least = plan_block_step(m), per = STAGE_BYTES / (stage_row * BLOCK_OUTPUTS) / least * least;
    uint32_t step = (uint32_t)(per < least ? least : per > s->n_ob ? s->n_ob : per);
    uint8_t *mapped = gpu_buffer_map(l->m->buf[s->buffer]), *dst;
    if (!room(&l->stage, &l->stage_cap, step * BLOCK_OUTPUTS * stage_row, 1) ||
        !room(&l->perm, &l->perm_cap, (size_t)step * BLOCK_OUTPUTS, sizeof *l->perm) ||
        (!mapped && !room(&l->packed, &l->packed_cap, s->layout.bytes, 1)))
        return err_no_memory(l->e, s->layout.bytes, "repacking weights");
    dst = mapped ? mapped + s->offset : l->packed;
    for (uint32_t ob = 0; ob < s->n_ob; ob += step) {
        uint32_t n = s->n_ob - ob < step ? s->n_ob - ob : step;
        enum err_code code = stage_outputs(l, m, s->first_ob + ob, n);
        if (code != ERR_OK)
            return code;
        repack_blocks(type, &s->layout, l->stage, l->perm, ob, n, dst);
    }
    if (mapped)
        return ERR_OK;
    return gpu_buffer_write(l->m->rt->gpu, l->m->buf[s->buffer], s->offset, dst, s->layout.bytes, l->e);
}

static enum err_code load_weights(struct loader *l)
{
    const struct plan *p = l->m->plan;
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < p->n_vectors && code == ERR_OK; i++)
        code = load_vector(l, &p->vectors[i]);
    for (size_t i = 0; i < p->n_matrices && code == ERR_OK; i++)
        for (uint32_t k = 0; k < p->matrices[i].n_slices && code == ERR_OK; k++)
            code = load_slice(l, &p->matrices[i], &p->matrices[i].slices[k]);
    return code;
}

/* ---- buffers -------------------------------------------------------------------------------------- */

static enum err_code make_buffers(struct model *m, struct err *e)
{
    const struct plan *p = m->plan;
    m->buf = mem_zero(p->n_buffers, sizeof *m->buf);
    if (!m->buf)
        return err_no_memory(e, p->n_buffers * sizeof *m->buf, "buffers");
    for (size_t i = 0; i < p->n_buffers; i++) {
        const struct plan_buffer_spec *s = &p->buffers[i];
        /* What the model does not use is still bound somewhere: a small buffer stands in. */
        enum err_code code = gpu_buffer_create(m->rt->gpu, s->bytes ? s->bytes : 256, s->where, &m->buf[i], e);
        if (code != ERR_OK)
            return err_prefix(e, "%s", s->name);
        m->info.device_bytes += s->bytes;
    }
    return ERR_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------ */

static enum err_code make_sessions(struct model *m, struct err *e)
{
    const struct plan *p = m->plan;
    m->sessions = mem_zero(p->n_seq, sizeof *m->sessions);
    m->event = mem_zero(MAX_STEP_ROWS + (size_t)p->n_seq * HOLD_MAX, sizeof *m->event);
    int32_t *tokens = mem_zero((size_t)p->n_seq * p->n_ctx, sizeof *tokens);
    if (!m->sessions || !m->event || !tokens) {
        mem_free(tokens);
        return err_no_memory(e, (size_t)p->n_seq * p->n_ctx * 4, "timelines");
    }
    for (uint32_t i = 0; i < p->n_seq; i++)
        m->sessions[i] = (struct session){ .m = m, .slot = i, .tokens = tokens + (size_t)i * p->n_ctx };
    m->step = gpu_buffer_map(m->buf[BUF_STEP]);
    m->logits = gpu_buffer_map(m->buf[BUF_LOGITS]);
    enum err_code code =
        kv_init(&m->kv, p->n_pages, p->max_pages, gpu_buffer_map(m->buf[BUF_PAGES]), e);
    return code == ERR_OK ? sampler_init(&m->sampler, m->hp.n_vocab, p->n_ctx, e) : code;
}

static void describe(struct model *m)
{
    const struct plan *p = m->plan;
    const struct hparams *hp = &m->hp;
    struct model_info *i = &m->info;
    memcpy(i->arch, hp->arch->name, strlen(hp->arch->name) + 1);
    i->n_vocab = hp->n_vocab;
    i->n_ctx = p->n_ctx;
    i->n_seq = p->n_seq;
    i->n_ctx_train = hp->n_ctx_train;
    i->n_embd = hp->n_embd;
    i->n_layer = hp->n_layer;
    i->weight_bytes = p->weight_bytes;
    i->kv_bytes = p->kv_bytes;
    i->reproducible = plan_reproducible(p);
}

static enum err_code load(struct loader *l, const struct model_options *o)
{
    struct model *m = l->m;
    struct plan_options po = { o->n_ctx, o->n_seq, o->kv_type, o->unfused };
    enum err_code code = hparams_read(l->g, &m->hp, l->e);
    if (code == ERR_OK)
        code = weights_bind(l->g, &m->hp, &l->w, l->e);
    if (code == ERR_OK)
        code = plan_create(&m->hp, &l->w, &m->rt->plan_device, &po, &m->plan, l->e);
    if (code == ERR_OK && m->rt->reproducible && !plan_reproducible(m->plan))
        code = err_set(l->e, ERR_UNSUPPORTED, "%s", "this model's plan for this device is not reproducible");
    if (code == ERR_OK)
        code = make_buffers(m, l->e);
    if (code == ERR_OK)
        code = make_sessions(m, l->e);
    if (code == ERR_OK)
        code = load_weights(l);
    return code;
}

enum err_code model_load(struct runtime *r, const struct model_options *o, struct model **out,
                         struct err *e)
{
    int64_t began = clock_ns();
    struct loader l = { .e = e };
    *out = NULL;
    l.m = mem_zero(1, sizeof *l.m);
    if (!l.m)
        return err_no_memory(e, sizeof *l.m, "the model");
    l.m->rt = r;
    enum err_code code = gguf_open(o->path, &l.g, e);
    if (code == ERR_OK)
        code = load(&l, o);
    weights_finish(&l.w);
    gguf_close(l.g);
    mem_free(l.stage);
    mem_free(l.raw);
    mem_free(l.perm);
    mem_free(l.packed);
    if (code != ERR_OK) {
        model_unload(l.m);
        return code;
    }
    describe(l.m);
    l.m->info.load_ns = clock_ns() - began;
    *out = l.m;
    return ERR_OK;
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

void model_unload(struct model *m)
{
    if (!m)
        return;
    record_finish(m);
    for (size_t i = 0; m->buf && i < m->plan->n_buffers; i++)
        gpu_buffer_destroy(m->rt->gpu, m->buf[i]);
    if (m->sessions)
        mem_free(m->sessions[0].tokens);
    mem_free(m->sessions);
    mem_free(m->event);
    mem_free(m->buf);
    kv_finish(&m->kv);
    sampler_finish(&m->sampler);
    plan_destroy(m->plan);
    mem_free(m);
}
