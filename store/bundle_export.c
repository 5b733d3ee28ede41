/* Models -> one tar. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "store/bundle.h"
#include "store/commit.h"
#include "store/manifest.h"

#define MAX_INDEX ((size_t)1 << 20)
#define PIECE ((size_t)1 << 20)

/* One blob on its way out: text in memory, or a file. */
struct piece {
    struct digest digest;
    uint64_t size;
    struct str text;                /* p NULL: a file */
    const struct store_file *file;
};

struct export {
    struct store *s;
    const struct tar_sink *to;
    const struct store_job *job;
    struct store_model **model;     /* [n] sorted by name */
    size_t n;
    struct piece *piece;            /* texts first, then files: who reads learns early what it is about */
    size_t n_pieces, cap_pieces;
    struct arena arena;             /* texts */
    uint64_t total, done;
    struct store_pace pace;
    uint8_t *bytes;                 /* [PIECE] */
};

/* ---- what goes in ------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    const struct store_model *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum err_code resolve_all(struct export *x, const char *const *names, size_t n, struct err *e)
{
    enum err_code code = ERR_OK;
    if (n == 0 || n > BUNDLE_MAX_MODELS)
        return err_set(e, ERR_INVALID, "a bundle has 1 to %d models, not %zu", BUNDLE_MAX_MODELS, n);
    x->model = mem_zero(n, sizeof *x->model);
    if (!x->model)
        return err_no_memory(e, n * sizeof *x->model, "a bundle");
    for (size_t i = 0; !code && i < n; i++) {
        code = store_resolve(x->s, names[i], &x->model[x->n], e);
        bool twice = false;
        for (size_t k = 0; !code && k < x->n; k++)
            twice = twice || strcmp(x->model[k]->canonical, x->model[x->n]->canonical) == 0;
        if (twice)
            store_model_destroy(x->model[x->n]);
        else if (!code)
            x->n++;
    }
    qsort(x->model, x->n, sizeof *x->model, by_name);
    return code;
}

static enum err_code add(struct export *x, const struct piece *p, struct err *e)
{
    for (size_t i = 0; i < x->n_pieces; i++)
        if (digest_eq(&x->piece[i].digest, &p->digest))
            return ERR_OK;
    if (!mem_grow(&x->piece, &x->cap_pieces, x->n_pieces + 1, sizeof *x->piece, SIZE_MAX / sizeof *x->piece))
        return err_no_memory(e, sizeof *x->piece, "a bundle");
    x->piece[x->n_pieces++] = *p;
    x->total += p->size;
    return ERR_OK;
}

static enum err_code add_text(struct export *x, struct str text, const struct digest *d, struct err *e)
{
    struct digest is;
    char hex[DIGEST_HEX_SIZE];
    enum err_code code = manifest_digest(text, &is, e);
    if (code)
        return code;
    digest_hex(d, hex);
    if (!digest_eq(&is, d))
        return err_set(e, ERR_FORMAT, "the catalog is damaged: a text of it is not sha256:%s", hex);
    return add(x, &(struct piece){ .digest = *d, .size = text.n, .text = { text.p ? text.p : "", text.n } }, e);
}

/* A layer that the catalog keeps: the nth of its kind. */
static enum err_code add_layer_text(struct export *x, const struct store_model *m, const struct manifest_layer *l,
                                    size_t nth[], struct err *e)
{
    struct str text;
    for (size_t i = 0; i < m->n_files; i++)
        if (digest_eq(&m->files[i].digest, &l->digest))
            return ERR_OK;
    enum err_code code = store_layer_text(x->s, m, l->kind, nth[l->kind]++, &x->arena, &text, e);
    return code ? code : add_text(x, text, &l->digest, e);
}

static enum err_code add_layer_texts(struct export *x, const struct store_model *m, struct err *e)
{
    size_t nth[MEDIA_KINDS] = { 0 };
    struct manifest all;
    enum err_code code = manifest_read(str_from(m->manifest), &x->arena, &all, e);
    if (code == ERR_FORMAT)
        err_prefix(e, "the manifest of '%s' is damaged", m->name);
    for (size_t i = 0; !code && i < all.n_layers; i++)
        code = add_layer_text(x, m, &all.layers[i], nth, e);
    return code;
}

static enum err_code add_texts(struct export *x, const struct store_model *m, struct err *e)
{
    struct digest d;
    struct str config = str_from(m->config);
    enum err_code code = add_text(x, str_from(m->manifest), &m->digest, e);
    if (!code)
        code = manifest_digest(config, &d, e);
    if (!code)
        code = add_text(x, config, &d, e);
    return code ? code : add_layer_texts(x, m, e);
}

static enum err_code gather(struct export *x, struct err *e)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < x->n; i++)
        code = add_texts(x, x->model[i], e);
    for (size_t i = 0; !code && i < x->n; i++)
        for (size_t k = 0; !code && k < x->model[i]->n_files; k++) {
            const struct store_file *f = &x->model[i]->files[k];
            code = add(x, &(struct piece){ .digest = f->digest, .size = f->size, .file = f }, e);
        }
    return code;
}

/* ---- bytes --------------------------------------------------------------------------------------- */

static enum err_code put_text(struct export *x, const char *name, struct str text, struct err *e)
{
    enum err_code code = tar_put_head(x->to, name, false, text.n, e);
    if (!code && text.n)
        code = x->to->write(x->to->user, text.p, text.n, e);
    return code ? code : tar_pad(x->to, text.n, e);
}

static enum err_code advance(struct export *x, uint64_t n, struct err *e)
{
    x->done += n;
    if (store_job_cancelled(x->job))
        return err_set(e, ERR_CANCELLED, "the export was cancelled");
    if (x->job && x->job->event && store_pace_due(&x->pace, x->done == x->total))
        x->job->event(x->job->user, &(struct store_event){ .status = "writing the bundle", .total = x->total,
                                                           .completed = x->done });
    return ERR_OK;
}

static enum err_code changed(const struct store_file *f, struct err *e)
{
    return err_set(e, ERR_CONFLICT, "'%s' is no longer what it was when it came into the store: nothing was exported",
                   f->path);
}

static enum err_code copy_bytes(struct export *x, int fd, const struct piece *p, struct hasher *h, struct err *e)
{
    enum err_code code = ERR_OK;
    for (uint64_t at = 0; !code && at < p->size;) {
        size_t want = p->size - at < PIECE ? (size_t)(p->size - at) : PIECE;
        ssize_t n = file_read_all(x->s->ops, fd, x->bytes, want, at);
        if (n < 0)
            return err_errno(e, ERR_IO, errno, "reading '%s'", p->file->path);
        if (n == 0)
            return changed(p->file, e);
        code = hasher_add(h, x->bytes, (size_t)n, e);
        if (!code)
            code = x->to->write(x->to->user, x->bytes, (size_t)n, e);
        if (!code)
            code = advance(x, (uint64_t)n, e);
        at += (uint64_t)n;
    }
    return code;
}

/* The digest is known only at the end: what was written by then is thrown away when it is another one. */
static enum err_code put_file(struct export *x, const char *name, const struct piece *p, struct err *e)
{
    struct hasher h = { 0 };
    struct digest is;
    int fd = p->file->by_reference ? open(p->file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
                                   : blob_open(&x->s->blobs, &p->digest);
    if (fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening '%s'", p->file->path);
    enum err_code code = hasher_begin(&h, NULL, e);
    if (!code)
        code = tar_put_head(x->to, name, false, p->size, e);
    if (!code)
        code = copy_bytes(x, fd, p, &h, e);
    if (!code)
        code = hasher_end(&h, &is, e);
    if (!code && !digest_eq(&is, &p->digest))
        code = changed(p->file, e);
    if (!code)
        code = tar_pad(x->to, p->size, e);
    hasher_finish(&h);
    x->s->ops->close(fd);
    return code;
}

/* Of every descriptor, also where a manifest calls itself Docker's: the fields are the same, and readers of a layout
 * (skopeo) look for no other. */
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

static void write_index(struct export *x, struct buf *out)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kint(&j, "schemaVersion", 2);
    json_kstr(&j, "mediaType", "application/vnd.oci.image.index.v1+json");
    json_key(&j, "manifests");
    json_arr(&j);
    for (size_t i = 0; i < x->n; i++) {
        char digest[DIGEST_TEXT_SIZE];
        digest_text(&x->model[i]->digest, digest);
        json_obj(&j);
        json_kstr(&j, "mediaType", MANIFEST_TYPE);
        json_kstr(&j, "digest", digest);
        json_kint(&j, "size", (int64_t)strlen(x->model[i]->manifest));
        json_key(&j, "annotations");
        json_obj(&j);
        json_kstr(&j, BUNDLE_REF_NAME, x->model[i]->name);
        json_obj_end(&j);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    json_obj_end(&j);
}

static enum err_code put_heads(struct export *x, struct err *e)
{
    struct buf index;
    buf_init(&index, MAX_INDEX);
    write_index(x, &index);
    enum err_code code = index.failed ? err_no_memory(e, index.n, "a bundle's index") : ERR_OK;
    if (!code)
        code = put_text(x, BUNDLE_LAYOUT, STR("{\"imageLayoutVersion\":\"1.0.0\"}"), e);
    if (!code)
        code = put_text(x, BUNDLE_INDEX, buf_str(&index), e);
    if (!code)
        code = tar_put_head(x->to, "blobs/", true, 0, e);
    if (!code)
        code = tar_put_head(x->to, BUNDLE_BLOBS "/", true, 0, e);
    buf_finish(&index);
    return code;
}

static enum err_code put_pieces(struct export *x, struct err *e)
{
    char name[sizeof BUNDLE_BLOBS + DIGEST_HEX_SIZE] = BUNDLE_BLOBS "/";
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < x->n_pieces; i++) {
        const struct piece *p = &x->piece[i];
        digest_hex(&p->digest, name + sizeof BUNDLE_BLOBS);
        code = p->text.p ? put_text(x, name, p->text, e) : put_file(x, name, p, e);
        if (!code && p->text.p)
            code = advance(x, p->size, e);
    }
    return code;
}

enum err_code store_export(struct store *s, const char *const *names, size_t n, const struct tar_sink *to,
                           const struct store_job *job, struct err *e)
{
    struct export x = { .s = s, .to = to, .job = job, .bytes = mem_alloc(PIECE) };
    enum err_code code = x.bytes ? resolve_all(&x, names, n, e) : err_no_memory(e, PIECE, "a bundle");
    if (!code)
        code = gather(&x, e);
    if (!code)
        code = put_heads(&x, e);
    if (!code)
        code = put_pieces(&x, e);
    if (!code)
        code = tar_put_end(to, e);
    for (size_t i = 0; i < x.n; i++)
        store_model_destroy(x.model[i]);
    mem_free(x.model);
    mem_free(x.piece);
    mem_free(x.bytes);
    arena_finish(&x.arena);
    return code;
}
