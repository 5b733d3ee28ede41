#include "store/derive.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "store/commit.h"
#include "store/manifest.h"


/* ---- the part ----------------------------------------------------------------------------------- */

struct writing {
    struct store *s;
    const struct store_job *job;
    struct hasher hasher;
    struct store_pace pace;
    const char *status;
    int fd;
    uint64_t at, bytes; /* written, and in all */
};

static void tell(struct writing *w)
{
    struct store_event ev = { .status = w->status, .completed = w->at, .total = w->bytes };
    if (w->job && w->job->event && store_pace_due(&w->pace, w->at == w->bytes))
        w->job->event(w->job->user, &ev);
}

static enum err_code put_bytes(void *user, const void *bytes, size_t n, struct err *e)
{
    struct writing *w = user;
    if (store_job_cancelled(w->job))
        return err_set(e, ERR_CANCELLED, "%s was cancelled", w->status);
    if (n > w->bytes - w->at)
        return err_set(e, ERR_INTERNAL, "%s: more bytes came than were planned", w->status);
    enum err_code code = hasher_add(&w->hasher, bytes, n, e);
    if (!code && !file_write_all(w->s->ops, w->fd, bytes, n, w->at))
        return err_errno(e, ERR_IO, errno, "%s: writing into the store", w->status);
    w->at += n;
    tell(w);
    return code;
}

static enum err_code check_room(struct store *s, uint64_t bytes, struct err *e)
{
    uint64_t room;
    bool in_memory;
    if (s->ops->space(s->blobs.tmp, &room, &in_memory) < 0)
        return ERR_OK; /* the write will tell */
    if (room >= STORE_SPARE_BYTES && room - STORE_SPARE_BYTES >= bytes)
        return ERR_OK;
    return err_set(e, ERR_IO, "the new file takes %" PRIu64 " bytes, and the store's disk has %" PRIu64
                              " free: remove models that are not needed (hearth rm)", bytes, room);
}

static enum err_code write_part(struct writing *w, const struct derive_writer *by,
                                struct blob_part *part, struct buf *chunks, struct err *e)
{
    struct digest digest;
    struct derive_sink sink = { put_bytes, w };
    enum err_code code = hasher_begin(&w->hasher, chunks, e);
    if (!code)
        code = by->write(by->user, &sink, e);
    if (!code && w->at != w->bytes)
        code = err_set(e, ERR_INTERNAL, "%s: %" PRIu64 " bytes came of %" PRIu64, w->status, w->at, w->bytes);
    if (!code)
        code = hasher_end(&w->hasher, &digest, e);
    if (!code)
        code = blob_part_seal(&w->s->blobs, part, w->fd, &digest, w->bytes, e);
    hasher_finish(&w->hasher);
    return code;
}

enum err_code derive_part(struct store *s, const char *path, const struct derive_writer *by,
                          const struct store_job *job, struct blob_part *part, struct buf *chunks,
                          struct err *e)
{
    struct writing w = { .s = s, .job = job, .status = "writing a model", .fd = -1 };
    *part = (struct blob_part){ 0 };
    enum err_code code = by->plan(by->user, path, &w.bytes, &w.status, e);
    if (!code)
        code = check_room(s, w.bytes, e);
    if (!code)
        code = blob_part_create(&s->blobs, w.bytes, part, &w.fd, e);
    if (code)
        return code;
    tell(&w);
    code = write_part(&w, by, part, chunks, e);
    s->ops->close(w.fd);
    if (code)
        blob_discard(&s->blobs, part);
    return code;
}

/* ---- the model ----------------------------------------------------------------------------------- */

struct derive {
    struct store *s;
    const struct store_derive *in;
    struct arena arena;
    struct name name;
    struct store_model *from; /* NULL: of a path */
    struct manifest old;
    struct manifest_layer *layers; /* the config, then the new model's */
    struct commit_layer *commits;  /* likewise */
    size_t n;
    struct blob_part part;
    struct buf chunks, config, manifest;
    struct store_facts facts;
    struct digest digest;
};

/* What the layer is: the store knows it of its files, where the media type does not tell. */
static enum media_kind kind_of(const struct derive *d, const struct manifest_layer *l)
{
    for (size_t i = 0; d->from && i < d->from->n_files; i++)
        if (digest_eq(&d->from->files[i].digest, &l->digest) && d->from->files[i].kind)
            return d->from->files[i].kind;
    return l->kind;
}

static enum err_code add_layer(struct derive *d, const struct commit_layer *l, struct err *e)
{
    enum err_code code = l->where == COMMIT_THERE ? store_lease(d->s, &l->digest, NULL, e) : ERR_OK;
    if (code) {
        err_prefix(e, "a part of '%s'", d->in->from);
        return code;
    }
    d->commits[d->n] = *l;
    d->layers[d->n] = (struct manifest_layer){
        .media_type = l->media_type, .digest = l->digest, .size = l->size, .kind = l->kind
    };
    d->n++;
    return ERR_OK;
}

static struct commit_layer new_weights(struct derive *d)
{
    return (struct commit_layer){ .media_type = MANIFEST_MEDIA_MODEL, .kind = MEDIA_MODEL,
                                  .digest = d->part.digest, .size = d->part.size, .where = COMMIT_PART,
                                  .part = &d->part, .chunks = buf_str(&d->chunks) };
}

/* The new weights stand where the first of the old ones did. */
static enum err_code take_layers(struct derive *d, struct err *e)
{
    struct commit_layer weights = new_weights(d);
    bool placed = false;
    enum err_code code = ERR_OK;
    d->n = 1;
    for (size_t i = 0; !code && i < d->old.n_layers; i++) {
        const struct manifest_layer *l = &d->old.layers[i];
        enum media_kind kind = kind_of(d, l);
        struct commit_layer keep = { .media_type = media_type_alone(l->media_type, kind),
                                     .kind = kind, .digest = l->digest, .size = l->size,
                                     .where = COMMIT_THERE };
        if (kind != MEDIA_MODEL)
            code = add_layer(d, &keep, e);
        else if (!placed)
            code = add_layer(d, &weights, e);
        placed = placed || kind == MEDIA_MODEL;
    }
    return code || placed ? code : add_layer(d, &weights, e);
}

/* ---- its config and manifest --------------------------------------------------------------------- */

static bool set_text(json_t *root, const char *key, const char *value)
{
    return json_object_set_new(root, key, json_string(value)) == 0;
}

/* The digests that a config lists are those of the layers now. */
static bool set_diff_ids(struct derive *d, json_t *root)
{
    json_t *rootfs = json_object_get(root, "rootfs");
    if (!json_is_array(json_object_get(rootfs, "diff_ids")))
        return true;
    json_t *ids = json_array();
    char text[DIGEST_TEXT_SIZE];
    bool good = ids != NULL;
    for (size_t i = 1; good && i < d->n; i++) {
        digest_text(&d->layers[i].digest, text);
        good = json_array_append_new(ids, json_string(text)) == 0;
    }
    return json_object_set_new(rootfs, "diff_ids", ids) == 0 && good;
}

/* The old config, with what has changed: it may say things that we know nothing of. */
static enum err_code change_config(struct derive *d, struct err *e)
{
    json_t *root = NULL;
    struct json_out j;
    enum err_code code = json_read(str_from(d->from->config), MANIFEST_MAX_BYTES, "the model's config",
                                   &root, e);
    if (!code && !json_is_object(root))
        code = err_set(e, ERR_FORMAT, "the config of '%s' is no JSON object", d->from->name);
    if (!code && !(set_text(root, "file_type", d->facts.quantization) && set_diff_ids(d, root)))
        code = err_no_memory(e, 0, "a model's config");
    if (!code) {
        json_begin(&j, &d->config);
        json_tree_value(&j, root);
    }
    json_decref(root);
    d->layers[0] = (struct manifest_layer){ .media_type = d->old.config.media_type,
                                            .size = d->config.n, .kind = MEDIA_CONFIG };
    if (!code && d->config.failed)
        code = err_no_memory(e, d->config.n, "a model's config");
    return code ? code : manifest_digest(buf_str(&d->config), &d->layers[0].digest, e);
}

static enum err_code write_manifest(struct derive *d, struct err *e)
{
    enum err_code code = d->from && d->from->config ? change_config(d, e)
                                                    : manifest_config(&d->facts, &d->config, &d->layers[0], e);
    if (code)
        return code;
    d->commits[0] = (struct commit_layer){ .media_type = d->layers[0].media_type, .kind = MEDIA_CONFIG,
                                           .digest = d->layers[0].digest, .size = d->layers[0].size,
                                           .where = COMMIT_TEXT, .text = buf_str(&d->config) };
    return manifest_write(&d->layers[0], d->layers + 1, d->n - 1, &d->manifest, &d->digest, e);
}

/* ---- the call ------------------------------------------------------------------------------------- */

static enum err_code begin(struct derive *d, struct err *e)
{
    enum err_code code = store_new_name(d->in->to, &d->name, e);
    if (!code && d->in->from)
        code = store_resolve(d->s, d->in->from, &d->from, e);
    if (!code && d->from)
        code = manifest_read(str_from(d->from->manifest), &d->arena, &d->old, e);
    size_t n = d->old.n_layers + 2;
    d->layers = arena_zero(&d->arena, n, sizeof *d->layers);
    d->commits = arena_zero(&d->arena, n, sizeof *d->commits);
    if (!code && (!d->layers || !d->commits))
        code = err_no_memory(e, n * sizeof *d->commits, "the parts of a model");
    return code;
}

static enum err_code look_into(struct derive *d, struct err *e)
{
    char path[PATH_MAX];
    const char *paths[] = { path };
    int n = snprintf(path, sizeof path, "%s/tmp/%s", d->s->home, d->part.name);
    if (n < 0 || n >= (int)sizeof path)
        return err_set(e, ERR_INVALID, "the store's path is too long");
    struct str template = { 0 };
    enum err_code code = d->from ? store_layer_text(d->s, d->from, MEDIA_TEMPLATE, 0, &d->arena, &template, e) : ERR_OK;
    if (!code)
        code = store_look_into(d->s, paths, 1, template, &d->arena, &d->facts, e);
    return code ? code : store_facts_check(&d->facts, e);
}

static enum err_code commit(struct derive *d, struct model_box **box, struct err *e)
{
    struct commit c = {
        .name = &d->name,
        .manifest = buf_str(&d->manifest),
        .digest = d->digest,
        .layers = d->commits,
        .n_layers = d->n,
        .facts = &d->facts,
        .kind = "create",
        .source = d->from ? d->from->name : d->in->from_path,
    };
    store_job_tell(&d->in->job, "writing manifest");
    return store_commit(d->s, &c, box, e);
}

static enum err_code run(struct derive *d, struct model_box **box, struct err *e)
{
    enum err_code code = begin(d, e);
    const char *path = d->from ? d->from->path : d->in->from_path;
    if (!code)
        code = derive_part(d->s, path, d->in->writer, &d->in->job, &d->part, &d->chunks, e);
    if (code && d->from && path)
        store_say_model(e, path, d->from->name);
    if (!code) {
        store_job_tell(&d->in->job, "verifying the new file");
        code = look_into(d, e);
    }
    if (!code)
        code = take_layers(d, e);
    if (!code)
        code = write_manifest(d, e);
    return code ? code : commit(d, box, e);
}

enum err_code store_derive(struct store *s, const struct store_derive *in, struct store_model **out,
                           struct err *e)
{
    struct derive d = { .s = s, .in = in };
    struct model_box *box = NULL;
    buf_init(&d.chunks, CHUNK_HASHES_MAX);
    buf_init(&d.config, MANIFEST_MAX_BYTES);
    buf_init(&d.manifest, MANIFEST_MAX_BYTES);
    enum err_code code = run(&d, &box, e);
    blob_discard(&s->blobs, &d.part);
    for (size_t i = 1; i < d.n; i++)
        if (d.commits[i].where == COMMIT_THERE)
            store_release(s, &d.commits[i].digest);
    store_model_destroy(d.from);
    buf_finish(&d.chunks);
    buf_finish(&d.config);
    buf_finish(&d.manifest);
    arena_finish(&d.arena);
    if (!code && out)
        *out = &box->model;
    else
        model_box_destroy(box);
    return code;
}
