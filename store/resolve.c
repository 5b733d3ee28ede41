#include "store/adopt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

/* ---- one place of a blob --------------------------------------------------------------------- */

/* A layer's file as it is being checked. */
struct place {
    struct store *s;
    const char *model; /* for sentences */
    const struct catalog_layer *layer;
    const struct catalog_file *file;
};

static bool is_own(const struct place *p)
{
    return p->file->path[0] == '\0';
}

static enum err_code gone(const struct place *p, struct err *e)
{
    char digest[DIGEST_TEXT_SIZE];
    digest_text(&p->layer->digest, digest);
    if (is_own(p))
        return err_set(e, ERR_NOT_FOUND,
                       "a file of '%s' is gone from the store (%s): import or pull the model again",
                       p->model, digest);
    return err_set(e, ERR_NOT_FOUND,
                   "'%s', which the model '%s' refers to, is gone: put it back, or import the model "
                   "again from where the file is now",
                   p->file->path, p->model);
}

static enum err_code changed(const struct place *p, uint64_t size, struct err *e)
{
    char digest[DIGEST_TEXT_SIZE];
    digest_text(&p->layer->digest, digest);
    if (is_own(p))
        return err_set(e, ERR_CONFLICT,
                       "a file of '%s' is damaged in the store (%s, %" PRIu64 " of %" PRIu64
                       " bytes): import or pull the model again",
                       p->model, digest, size, p->layer->size);
    return err_set(e, ERR_CONFLICT,
                   "'%s', which the model '%s' refers to, has changed since it was imported (%" PRIu64
                   " bytes now, %" PRIu64 " then): import it again, or remove the model",
                   p->file->path, p->model, size, p->layer->size);
}

static enum err_code unreadable(const struct place *p, int errnum, struct err *e)
{
    if (errnum == ENOENT || errnum == ENOTDIR)
        return gone(p, e);
    return err_errno(e, ERR_IO, errnum, "looking at '%s' of the model '%s'",
                     is_own(p) ? "a file" : p->file->path, p->model);
}

static int stat_place(struct store *s, const struct digest *d, const char *path, struct stat *st)
{
    char name[DIGEST_FILE_SIZE];
    if (path[0])
        return s->ops->stat_path(path, st);
    digest_file_name(d, name);
    return s->ops->stat_at(s->blobs.blobs, name, st);
}

bool store_place_is(struct store *s, const struct digest *d, const char *path, const struct file_id *id)
{
    struct stat st;
    struct file_id now = { 0 };
    if (stat_place(s, d, path, &st) == 0)
        now = file_id_of(&st);
    return file_id_eq(&now, id);
}

/* Writes down what was found, unless a commit has put another file there meanwhile and noted that. Should it fail, the
 * next resolve hashes once more. */
static void remember(const struct place *p, const struct file_id *id, bool sound)
{
    struct err e;
    struct catalog *c = p->s->catalog;
    if (p->s->looking)
        return;
    pthread_mutex_lock(&p->s->mutex);
    bool still = store_place_is(p->s, &p->layer->digest, p->file->path, id);
    enum err_code code = still ? catalog_begin(c, &e) : ERR_OK;
    if (!code && still)
        code = catalog_put_file(c, &p->layer->digest, p->file->path, id, sound, &e);
    if (!code && still)
        code = catalog_commit(c, NULL, &e);
    catalog_rollback(c);
    pthread_mutex_unlock(&p->s->mutex);
    if (code)
        log_line(LOG_WARN, "msg=\"a checked file could not be noted\" error=\"%s\"", e.text);
}

/* The file is not as it was when it was last hashed: perhaps only touched, or copied back. */
static enum err_code hash_again(const struct place *p, struct err *e)
{
    struct digest digest;
    struct file_id id;
    struct blob_meter meter = { 0 };
    int fd = is_own(p) ? blob_open(&p->s->blobs, &p->layer->digest)
                       : adopt_open(p->file->path, 0);
    if (fd < 0)
        return unreadable(p, errno, e);
    struct blob_source from = { .fd = fd, .path = is_own(p) ? "a file in blobs/" : p->file->path };
    enum err_code code = blob_hash(p->s->ops, &from, &meter, &digest, NULL, &id, e);
    close(fd);
    if (code)
        return code;
    bool sound = digest_eq(&digest, &p->layer->digest);
    remember(p, &id, sound);
    return sound ? ERR_OK : changed(p, id.size, e);
}

static enum err_code check_place(const struct place *p, bool may_hash, struct err *e)
{
    struct stat st;
    if (stat_place(p->s, &p->layer->digest, p->file->path, &st) < 0)
        return unreadable(p, errno, e);
    struct file_id now = file_id_of(&st);
    bool same = file_id_eq(&now, &p->file->id);
    if (!S_ISREG(st.st_mode) || now.size != p->layer->size || (same && !p->file->sound) ||
        (!same && !may_hash))
        return changed(p, now.size, e);
    return same ? ERR_OK : hash_again(p, e);
}

/* ---- the files of a model -------------------------------------------------------------------- */

static const char *join(struct arena *a, const char *home, const char *dir, const char *name)
{
    size_t n = strlen(home) + strlen(dir) + strlen(name) + 1;
    char *p = arena_alloc(a, n);
    if (p)
        snprintf(p, n, "%s%s%s", home, dir, name);
    return p;
}

/* The first of its places that holds the layer's bytes now; else the error of the last. */
static enum err_code choose_place(struct place *p, bool may_hash, struct err *e)
{
    struct err why;
    enum err_code code = err_set(&why, ERR_FORMAT, "the catalog: a layer of '%s' has no file",
                                 p->model);
    for (size_t i = 0; code && i < p->layer->n_files; i++) {
        p->file = &p->layer->files[i];
        code = check_place(p, may_hash, &why);
    }
    if (code && e)
        *e = why;
    return code;
}

bool store_blob_is_sound(struct store *s, const struct catalog_layer *places)
{
    struct place p = { .s = s, .model = "", .layer = places };
    return choose_place(&p, true, NULL) == ERR_OK;
}

static const char *path_of(const struct place *p, struct arena *a)
{
    char name[DIGEST_FILE_SIZE];
    if (!is_own(p))
        return p->file->path;
    digest_file_name(&p->layer->digest, name);
    return join(a, p->s->home, "/blobs/", name);
}

enum err_code store_blob_path(struct store *s, const struct digest *d, uint64_t size, struct arena *a,
                              const char **out, struct err *e)
{
    char text[DIGEST_TEXT_SIZE];
    struct catalog_layer places = { 0 };
    struct place p = { .s = s, .model = "", .layer = &places };
    pthread_mutex_lock(&s->mutex);
    enum err_code code = catalog_places(s->catalog, d, size, a, &places, e);
    pthread_mutex_unlock(&s->mutex);
    digest_text(d, text);
    if (!code && !places.n_files)
        code = err_set(e, ERR_INVALID, "the blob %s is a text, and no model file", text);
    if (!code)
        code = choose_place(&p, true, e);
    *out = code ? NULL : path_of(&p, a);
    return code || *out ? code : err_no_memory(e, 0, "a path");
}

static enum err_code settle_layer(struct store *s, struct model_box *box,
                                  const struct catalog_layer *layer, bool may_hash,
                                  struct store_file *out, struct err *e)
{
    struct place p = { .s = s, .model = box->model.name, .layer = layer };
    enum err_code code = choose_place(&p, may_hash, e);
    if (code)
        return code;
    *out = (struct store_file){
        .path = path_of(&p, &box->arena),
        .media_type = layer->media_type,
        .kind = layer->kind,
        .digest = layer->digest,
        .size = layer->size,
        .by_reference = !is_own(&p),
    };
    return out->path ? ERR_OK : err_no_memory(e, 0, "resolving a model");
}

static bool is_model(const struct store_file *f)
{
    return f->kind == MEDIA_MODEL;
}

/* A link of that name in tmp/; one that is there is replaced in one step, for another thread may be about to follow it. */
static bool link_in_tmp(struct store *s, const char *to, const char *name)
{
    char own[32];
    int bad;
    if (s->looking)
        return s->ops->link(to, s->blobs.tmp, name) == 0 || errno == EEXIST;
    do
        snprintf(own, sizeof own, "link-%" PRIu64, atomic_fetch_add(&s->blobs.next_part, 1));
    while ((bad = s->ops->link(to, s->blobs.tmp, own)) < 0 && errno == EEXIST);
    if (bad || s->ops->rename(s->blobs.tmp, own, s->blobs.tmp, name) == 0)
        return !bad;
    int error = errno;
    s->ops->unlink(s->blobs.tmp, own);
    errno = error;
    return false;
}

/* A loader finds the shards of a split model by name. Blobs have none, so they get one in tmp/. */
static enum err_code name_shard(struct store *s, struct model_box *box, struct store_file *f,
                                size_t k, size_t n, struct err *e)
{
    char name[DIGEST_HEX_SIZE + 64];
    snprintf(name, sizeof name, "%s-%05zu-of-%05zu.gguf", box->model.digest_hex, k, n);
    if (!link_in_tmp(s, f->path, name))
        return err_errno(e, ERR_IO, errno, "naming a shard of '%s'", box->model.name);
    f->path = join(&box->arena, s->home, "/tmp/", name);
    return f->path ? ERR_OK : err_no_memory(e, 0, "resolving a model");
}

static enum err_code name_shards(struct store *s, struct model_box *box, struct store_file *files,
                                 size_t n_files, struct err *e)
{
    size_t n = 0, k = 0;
    enum err_code code = ERR_OK;
    const char **paths = arena_zero(&box->arena, n_files, sizeof *paths);
    if (!paths)
        return err_no_memory(e, n_files * sizeof *paths, "resolving a model");
    for (size_t i = 0; i < n_files; i++)
        if (is_model(&files[i]))
            paths[n++] = files[i].path;
    if (n < 2 || store_parts_are_named(paths, n))
        return ERR_OK;
    for (size_t i = 0; !code && i < n_files; i++)
        if (is_model(&files[i]))
            code = name_shard(s, box, &files[i], ++k, n, e);
    return code;
}

enum err_code model_box_settle(struct store *s, struct model_box *box,
                               const struct catalog_layer *layers, size_t n, bool locked,
                               struct err *e)
{
    struct store_model *m = &box->model;
    struct store_file *files = arena_zero(&box->arena, n, sizeof *files);
    enum err_code code = files ? ERR_OK : err_no_memory(e, n * sizeof *files, "resolving a model");
    for (size_t i = 0; !code && i < n; i++)
        code = settle_layer(s, box, &layers[i], !locked, &files[i], e);
    if (!code)
        code = name_shards(s, box, files, n, e);
    if (code)
        return code;
    m->files = files;
    m->n_files = n;
    m->by_reference = false;
    for (size_t i = n; i-- > 0;) {
        m->by_reference = m->by_reference || files[i].by_reference;
        m->path = is_model(&files[i]) ? files[i].path : m->path;
    }
    return m->path ? ERR_OK : err_set(e, ERR_FORMAT, "'%s' has no model file", m->name);
}

/* What the box is made of stays in the store until it goes. */
static enum err_code lease_layers(struct store *s, struct model_box *box, const struct catalog_layer *layers,
                                  size_t n, struct err *e)
{
    struct digest *leased = arena_alloc(&box->arena, n * sizeof *leased);
    if (!leased)
        return err_no_memory(e, n * sizeof *leased, "resolving a model");
    box->leased = leased;
    for (size_t i = 0; i < n; i++) {
        leased[i] = layers[i].digest;
        if (!lease_take(s->leases, &leased[i]))
            return err_no_memory(e, sizeof *leased, "resolving a model");
        box->n_leased++;
    }
    return ERR_OK;
}

enum err_code model_box_read(struct store *s, const struct catalog_ref *ref, struct model_box **out,
                             struct catalog_layer **layers, size_t *n, struct err *e)
{
    struct model_box *box = mem_zero(1, sizeof *box);
    if (!box)
        return err_no_memory(e, sizeof *box, "resolving a model");
    box->leases = s->leases;
    enum err_code code = catalog_model(s->catalog, ref->tag_id, true, &box->arena, &box->model, e);
    if (!code)
        code = catalog_layers(s->catalog, ref->model_id, &box->arena, layers, n, e);
    if (!code)
        code = lease_layers(s, box, *layers, *n, e);
    if (code)
        model_box_destroy(box);
    else
        *out = box;
    return code;
}

void model_box_destroy(struct model_box *box)
{
    if (!box)
        return;
    for (size_t i = 0; i < box->n_leased; i++)
        lease_put(box->leases, &box->leased[i]);
    arena_finish(&box->arena);
    mem_free(box);
}

/* ---- calls ----------------------------------------------------------------------------------- */

enum err_code store_resolve(struct store *s, const char *text, struct store_model **out,
                            struct err *e)
{
    struct name name;
    struct catalog_ref ref;
    struct catalog_layer *layers = NULL;
    struct model_box *box = NULL;
    size_t n = 0;
    pthread_mutex_lock(&s->mutex);
    store_catch_up(s);
    enum err_code code = store_find(s, text, &name, &ref, e);
    if (!code)
        code = model_box_read(s, &ref, &box, &layers, &n, e);
    pthread_mutex_unlock(&s->mutex);
    if (!code)
        code = model_box_settle(s, box, layers, n, false, e);
    if (code)
        model_box_destroy(box);
    else
        *out = &box->model;
    return code;
}

void store_model_destroy(struct store_model *m)
{
    model_box_destroy((struct model_box *)m);
}
