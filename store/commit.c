#include "store/commit.h"

#include <string.h>

#define FACT_MAX 1024

/* ---- what is to be committed ----------------------------------------------------------------- */

static enum err_code check_text(const char **text, const char *what, struct err *e)
{
    *text = *text ? *text : "";
    size_t n = strlen(*text);
    if (n > FACT_MAX)
        return err_set(e, ERR_TOO_LARGE, "the model's %s has %zu bytes; at most %d are taken", what, n,
                       FACT_MAX);
    if (utf8_valid(*text, n) != n)
        return err_set(e, ERR_INVALID, "the model's %s is not valid UTF-8", what);
    return ERR_OK;
}

enum err_code store_facts_check(struct store_facts *f, struct err *e)
{
    const struct {
        const char **text, *what;
    } rows[] = { { &f->format, "format" },
                 { &f->family, "family" },
                 { &f->quantization, "quantisation" },
                 { &f->capabilities, "list of capabilities" },
                 { &f->license, "licence" } };
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < sizeof rows / sizeof *rows; i++)
        code = check_text(rows[i].text, rows[i].what, e);
    if (!code && f->n_params > INT64_MAX)
        code = err_set(e, ERR_INVALID, "the model cannot have so many parameters");
    return code;
}

static enum err_code check_bytes(struct str bytes, const struct digest *d, const char *what, struct err *e)
{
    struct digest is;
    char text[DIGEST_TEXT_SIZE];
    enum err_code code = manifest_digest(bytes, &is, e);
    if (code || digest_eq(&is, d))
        return code;
    digest_text(d, text);
    return err_set(e, ERR_CONFLICT, "%s is not what its digest says (%s)", what, text);
}

static enum err_code check_layer(const struct commit_layer *l, struct err *e)
{
    if (l->where != COMMIT_TEXT)
        return ERR_OK;
    if (l->size > MEDIA_TEXT_MAX || l->text.n != l->size)
        return err_set(e, ERR_TOO_LARGE, "a text of the model has %zu bytes; at most %zu are taken",
                       l->text.n, MEDIA_TEXT_MAX);
    return check_bytes(l->text, &l->digest, "a text of the model", e);
}

static enum err_code check_commit(const struct commit *c, struct err *e)
{
    enum err_code code = ERR_OK;
    if (c->n_layers < 2)
        return err_set(e, ERR_INVALID, "a model has a config and at least one file");
    for (size_t i = 0; !code && i < c->n_layers; i++)
        code = check_layer(&c->layers[i], e);
    return code ? code : check_bytes(c->manifest, &c->digest, "the model's manifest", e);
}

/* ---- files ----------------------------------------------------------------------------------- */

static size_t count_parts(const struct commit *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_layers; i++)
        n += c->layers[i].where == COMMIT_PART;
    return n;
}

/* Before a blob is moved into place the catalog says that it may have to go again. */
static enum err_code announce(struct store *s, const struct commit *c, struct err *e)
{
    enum err_code code = catalog_begin(s->catalog, e);
    for (size_t i = 0; !code && i < c->n_layers; i++)
        if (c->layers[i].where == COMMIT_PART)
            code = catalog_put_trash(s->catalog, &c->layers[i].digest, e);
    if (!code)
        code = catalog_commit(s->catalog, NULL, e);
    catalog_rollback(s->catalog);
    return code;
}

/* One part may stand for several layers with the same bytes: it is moved once. */
static const struct commit_layer *moved_before(const struct commit *c, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (c->layers[k].where == COMMIT_PART && c->layers[k].part == c->layers[i].part)
            return &c->layers[k];
    return NULL;
}

static enum err_code publish(struct store *s, const struct commit *c, struct err *e)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < c->n_layers; i++) {
        struct commit_layer *l = &c->layers[i];
        const struct commit_layer *twin = l->where == COMMIT_PART ? moved_before(c, i) : NULL;
        if (twin)
            l->id = twin->id;
        else if (l->where == COMMIT_PART)
            code = blob_publish(&s->blobs, l->part, &l->id, e);
    }
    return code ? code : blob_sync(&s->blobs, e);
}

/* A file of the store's own must not be taken for one of the user's. */
static bool is_our_blob(struct store *s, const struct commit_layer *l)
{
    char name[DIGEST_FILE_SIZE];
    struct stat ours, theirs;
    digest_file_name(&l->digest, name);
    return s->ops->stat_at(s->blobs.blobs, name, &ours) == 0 && s->ops->stat(l->fd, &theirs) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static enum err_code check_there(struct store *s, const struct commit_layer *l, struct err *e)
{
    struct catalog_blob row;
    char text[DIGEST_TEXT_SIZE];
    enum err_code code = catalog_blob(s->catalog, &l->digest, &row, e);
    if (code || (row.there && row.size == l->size))
        return code;
    digest_text(&l->digest, text);
    return err_set(e, ERR_CONFLICT, "%s is no longer in the store as it was: try again", text);
}

static enum err_code put_file(struct store *s, const struct commit_layer *l, struct err *e)
{
    bool own = false, part = l->where == COMMIT_PART;
    enum err_code code = ERR_OK;
    if (!part && is_our_blob(s, l))
        code = catalog_has_own_file(s->catalog, &l->digest, &own, e);
    if (!code && !own)
        code = catalog_put_file(s->catalog, &l->digest, part ? "" : l->path, &l->id, true, e);
    if (!code && l->chunks.n)
        code = catalog_put_chunks(s->catalog, &l->digest, l->chunks, e);
    return code;
}

static enum err_code put_layer(struct store *s, const struct commit *c, const struct commit_layer *l,
                               struct err *e)
{
    const char *source = l->source ? l->source : c->source;
    bool text = l->where == COMMIT_TEXT;
    if (l->where == COMMIT_THERE)
        return check_there(s, l, e);
    enum err_code code = catalog_put_blob(s->catalog, &l->digest, l->size, text ? &l->text : NULL, source, e);
    return code || text ? code : put_file(s, l, e);
}

static enum err_code put_model(struct store *s, const struct commit *c, int64_t *id, struct err *e)
{
    char parameter_size[24];
    struct catalog_new_model m = {
        .digest = c->digest,
        .manifest = c->manifest,
        .facts = c->facts,
        .parameter_size = parameter_size,
        .n_layers = c->n_layers,
        .kind = c->kind,
        .source = c->source,
        .revision = c->revision,
    };
    struct manifest_layer *layers = mem_zero(c->n_layers, sizeof *layers);
    if (!layers)
        return err_no_memory(e, c->n_layers * sizeof *layers, "naming a model");
    for (size_t i = 0; i < c->n_layers; i++) {
        const struct commit_layer *l = &c->layers[i];
        enum media_kind kind = i == 0 ? MEDIA_CONFIG : l->kind ? l->kind : media_kind_of(l->media_type, NULL);
        layers[i] = (struct manifest_layer){
            .media_type = l->media_type, .digest = l->digest, .size = l->size, .kind = kind
        };
        m.size += i ? l->size : 0;
    }
    m.layers = layers;
    manifest_parameter_size(c->facts->n_params, parameter_size);
    enum err_code code = catalog_put_model(s->catalog, &m, id, e);
    mem_free(layers);
    return code;
}

static enum err_code check_name(struct store *s, const struct commit *c, struct err *e)
{
    struct catalog_ref old = { 0 };
    char name[NAME_TEXT_MAX + 1];
    enum err_code code = c->only_new ? catalog_find(s->catalog, c->name, &old, e) : ERR_OK;
    if (code || !old.tag_id || digest_eq(&old.digest, &c->digest))
        return code;
    name_short(c->name, name);
    return err_set(e, ERR_CONFLICT, "there is another model called '%s' here: give that one another name (hearth cp, "
                   "hearth rm), and try again", name);
}

static enum err_code put_rows(struct store *s, const struct commit *c, struct catalog_ref *ref,
                              struct err *e)
{
    enum err_code code = check_name(s, c, e);
    for (size_t i = 0; !code && i < c->n_layers; i++)
        code = put_layer(s, c, &c->layers[i], e);
    if (!code)
        code = put_model(s, c, &ref->model_id, e);
    if (!code)
        code = catalog_put_tag(s->catalog, c->name, ref->model_id, &ref->tag_id, e);
    return code ? code : store_prune_rows(s, e);
}

/* The model as the caller will see it, made before the commit: after it nothing may fail. */
static enum err_code make_answer(struct store *s, const struct catalog_ref *ref, struct model_box **box,
                                 struct err *e)
{
    struct catalog_layer *layers = NULL;
    size_t n = 0;
    enum err_code code = model_box_read(s, ref, box, &layers, &n, e);
    return code ? code : model_box_settle(s, *box, layers, n, true, e);
}

static enum err_code commit_locked(struct store *s, const struct commit *c, struct model_box **box,
                                   struct err *e)
{
    struct catalog_ref ref = { 0 };
    bool doubtful = false, parts = count_parts(c) > 0;
    enum err_code code = parts ? announce(s, c, e) : ERR_OK;
    if (code)
        return code;
    if (parts)
        code = publish(s, c, e);
    if (!code)
        code = catalog_begin(s->catalog, e);
    if (!code)
        code = put_rows(s, c, &ref, e);
    if (!code)
        code = make_answer(s, &ref, box, e);
    if (!code)
        code = catalog_commit(s->catalog, &doubtful, e);
    catalog_rollback(s->catalog);
    if (code && !doubtful)
        store_salvage(s);
    if (!doubtful) /* else the files stay until a commit has shown what the disk holds */
        store_collect(s, NULL);
    return code;
}

enum err_code store_commit(struct store *s, const struct commit *c, struct model_box **box, struct err *e)
{
    struct model_box *made = NULL;
    enum err_code code = check_commit(c, e);
    if (code)
        return code;
    pthread_mutex_lock(&s->mutex);
    code = commit_locked(s, c, &made, e);
    pthread_mutex_unlock(&s->mutex);
    if (code || !box)
        model_box_destroy(made);
    else
        *box = made;
    return code;
}

/* ---- leases ---------------------------------------------------------------------------------- */

bool store_hold(struct store *s, const struct digest *d)
{
    return lease_take(s->leases, d);
}

void store_release(struct store *s, const struct digest *d)
{
    lease_put(s->leases, d);
    if (!lease_ripe(s->leases))
        return;
    pthread_mutex_lock(&s->mutex);
    store_catch_up(s);
    pthread_mutex_unlock(&s->mutex);
}

static enum err_code not_here(const struct digest *d, struct err *e)
{
    char text[DIGEST_TEXT_SIZE];
    digest_text(d, text);
    return err_set(e, ERR_CONFLICT, "%s is not in the store as it should be", text);
}

/* The lease is taken while the row is known to be there. */
static enum err_code lease_locked(struct store *s, const struct digest *d, struct arena *a, struct catalog_blob *row,
                                  struct catalog_layer *places, struct err *e)
{
    enum err_code code = catalog_blob(s->catalog, d, row, e);
    if (!code && !row->there)
        code = not_here(d, e);
    if (!code)
        code = catalog_places(s->catalog, d, row->size, a, places, e);
    if (!code && !lease_take(s->leases, d))
        code = err_no_memory(e, sizeof *d, "a lease");
    return code;
}

enum err_code store_lease(struct store *s, const struct digest *d, uint64_t *size, struct err *e)
{
    struct catalog_blob row = { 0 };
    struct catalog_layer places = { 0 };
    struct arena a = { 0 };
    pthread_mutex_lock(&s->mutex);
    enum err_code code = lease_locked(s, d, &a, &row, &places, e);
    pthread_mutex_unlock(&s->mutex);
    if (!code && !row.is_text && !store_blob_is_sound(s, &places)) {
        store_release(s, d);
        code = not_here(d, e);
    }
    arena_finish(&a);
    if (!code && size)
        *size = row.size;
    return code;
}

enum err_code store_layer_text(struct store *s, const struct store_model *m, enum media_kind kind,
                               size_t nth, struct arena *a, struct str *out, struct err *e)
{
    pthread_mutex_lock(&s->mutex);
    enum err_code code = catalog_text(s->catalog, &m->digest, kind, nth, a, out, e);
    pthread_mutex_unlock(&s->mutex);
    return code;
}
