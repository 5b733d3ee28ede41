#include "store/store_priv.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "runtime/base/clock.h"

#define FACT_MAX 1024
#define MEDIA_TYPE_MAX 255

/* One file on its way in. */
struct item {
    const char *media_type;
    struct blob_source from;
    struct blob_part part;   /* copy: until it is published */
    struct manifest_layer layer;
    struct file_id id;       /* reference: as it was hashed; copy: of the published blob */
};

struct job {
    struct store *s;
    const struct store_import *in;
    struct name name;
    struct store_facts facts; /* without NULLs */
    char parameter_size[24];
    struct item *items;
    struct manifest_layer *layers; /* the config, then the items' */
    struct buf config, manifest;
    struct digest digest;
    uint64_t size;
};

/* ---- what is asked for ----------------------------------------------------------------------- */

static enum err_code check_text(const char **text, const char *what, size_t max, struct err *e)
{
    *text = *text ? *text : "";
    size_t n = strlen(*text);
    if (n > max)
        return err_set(e, ERR_TOO_LARGE, "the model's %s has %zu bytes; at most %zu are taken",
                       what, n, max);
    if (utf8_valid(*text, n) != n)
        return err_set(e, ERR_INVALID, "the model's %s is not valid UTF-8", what);
    return ERR_OK;
}

static enum err_code check_facts(struct store_facts *f, struct err *e)
{
    const struct {
        const char **text, *what;
    } rows[] = { { &f->format, "format" },
                 { &f->family, "family" },
                 { &f->quantization, "quantisation" },
                 { &f->capabilities, "list of capabilities" } };
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < sizeof rows / sizeof *rows; i++)
        code = check_text(rows[i].text, rows[i].what, FACT_MAX, e);
    if (!code && f->n_params > INT64_MAX)
        code = err_set(e, ERR_INVALID, "the model cannot have so many parameters");
    return code;
}

/* The path must lead to the very file that is open: it is the path that will be loaded. */
static enum err_code check_path(struct store *s, const struct blob_source *from,
                                const struct stat *open_file, struct err *e)
{
    struct stat st;
    if (from->path[0] != '/')
        return err_set(e, ERR_INVALID, "'%s' must be an absolute path to be referred to",
                       from->path);
    if (s->ops->stat_path(from->path, &st) < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "looking at '%s'",
                         from->path);
    if (st.st_dev != open_file->st_dev || st.st_ino != open_file->st_ino)
        return err_set(e, ERR_INVALID, "'%s' is not the file that was opened", from->path);
    return ERR_OK;
}

static enum err_code check_file(struct job *j, size_t i, struct blob_meter *meter, struct err *e)
{
    const struct store_import_file *f = &j->in->files[i];
    struct item *item = &j->items[i];
    struct stat st;
    item->media_type = f->media_type ? f->media_type : MANIFEST_MEDIA_MODEL;
    item->from = (struct blob_source){ .fd = f->fd, .path = f->path };
    if (!f->path || !f->path[0] || strlen(f->path) >= PATH_MAX)
        return err_set(e, ERR_INVALID, "file %zu of the import has no usable path", i + 1);
    if (j->s->ops->stat(f->fd, &st) < 0)
        return err_errno(e, ERR_IO, errno, "looking at '%s'", f->path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "'%s' is not a regular file", f->path);
    meter->total += (uint64_t)st.st_size;
    enum err_code code = check_text(&item->media_type, "media type", MEDIA_TYPE_MAX, e);
    if (!code && j->in->mode == STORE_REFERENCE)
        code = check_path(j->s, &item->from, &st, e);
    return code;
}

static enum err_code check_request(struct job *j, struct blob_meter *meter, struct err *e)
{
    const struct store_import *in = j->in;
    bool model = false;
    enum err_code code = store_new_name(in->name, &j->name, e);
    if (!code)
        code = check_facts(&j->facts, e);
    if (!code && (in->n_files == 0 || in->n_files > STORE_MAX_FILES))
        code = err_set(e, ERR_INVALID, "a model has 1 to %d files, not %zu", STORE_MAX_FILES,
                       in->n_files);
    if (code)
        return code;
    j->items = mem_zero(in->n_files, sizeof *j->items);
    j->layers = mem_zero(in->n_files + 1, sizeof *j->layers);
    if (!j->items || !j->layers)
        return err_no_memory(e, in->n_files * sizeof *j->items, "importing a model");
    for (size_t i = 0; !code && i < in->n_files; i++) {
        code = check_file(j, i, meter, e);
        model = model || (!code && strcmp(j->items[i].media_type, MANIFEST_MEDIA_MODEL) == 0);
    }
    if (!code && !model)
        code = err_set(e, ERR_INVALID, "no file of '%s' is a model", in->name);
    return code;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static enum err_code take_bytes(struct job *j, struct blob_meter *meter, struct err *e)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < j->in->n_files; i++) {
        struct item *item = &j->items[i];
        if (j->in->mode == STORE_COPY) {
            code = blob_stage(&j->s->blobs, &item->from, meter, &item->part, e);
            item->id.size = item->part.size;
            item->layer.digest = item->part.digest;
        } else {
            code = blob_hash(j->s->ops, &item->from, meter, &item->layer.digest, &item->id, e);
        }
        item->layer.media_type = item->media_type;
        item->layer.size = item->id.size;
        j->layers[i + 1] = item->layer;
        j->size += item->layer.size;
    }
    return code;
}

static enum err_code write_manifest(struct job *j, struct err *e)
{
    manifest_parameter_size(j->facts.n_params, j->parameter_size);
    enum err_code code = manifest_config(&j->facts, &j->config, &j->layers[0], e);
    return code ? code
                : manifest_write(&j->layers[0], j->layers + 1, j->in->n_files, &j->manifest,
                                 &j->digest, e);
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* Before a blob is moved into place the catalog says that it may have to go again. */
static enum err_code announce(struct job *j, struct err *e)
{
    struct catalog *c = j->s->catalog;
    enum err_code code = catalog_begin(c, e);
    for (size_t i = 0; !code && i < j->in->n_files; i++)
        code = catalog_put_trash(c, &j->items[i].layer.digest, e);
    if (!code)
        code = catalog_commit(c, NULL, e);
    catalog_rollback(c);
    return code;
}

static enum err_code publish(struct job *j, struct err *e)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < j->in->n_files; i++)
        code = blob_publish(&j->s->blobs, &j->items[i].part, &j->items[i].id, e);
    return code ? code : blob_sync(&j->s->blobs, e);
}

/* A file of the store's own must not be taken for one of the user's. */
static bool is_our_blob(struct job *j, const struct item *item)
{
    char name[DIGEST_FILE_SIZE];
    struct stat ours, theirs;
    digest_file_name(&item->layer.digest, name);
    return j->s->ops->stat_at(j->s->blobs.blobs, name, &ours) == 0 &&
           j->s->ops->stat(item->from.fd, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
           ours.st_ino == theirs.st_ino;
}

static enum err_code put_files(struct job *j, struct err *e)
{
    struct catalog *c = j->s->catalog;
    bool copy = j->in->mode == STORE_COPY;
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < j->in->n_files; i++) {
        const struct item *item = &j->items[i];
        const struct digest *d = &item->layer.digest;
        bool own = false;
        code = catalog_put_blob(c, d, item->layer.size, NULL, e);
        if (!code && !copy && is_our_blob(j, item))
            code = catalog_has_own_file(c, d, &own, e);
        if (!code && !own)
            code = catalog_put_file(c, d, copy ? "" : item->from.path, &item->id, true, e);
    }
    return code;
}

static enum err_code put_rows(struct job *j, struct catalog_ref *ref, struct err *e)
{
    struct catalog *c = j->s->catalog;
    struct str config = buf_str(&j->config);
    struct catalog_new_model m = {
        .digest = j->digest,
        .manifest = buf_str(&j->manifest),
        .facts = &j->facts,
        .parameter_size = j->parameter_size,
        .size = j->size,
        .layers = j->layers,
        .n_layers = j->in->n_files + 1,
        .kind = j->in->mode == STORE_COPY ? "import" : "reference",
        .source = j->in->files[0].path,
    };
    enum err_code code = put_files(j, e);
    if (!code)
        code = catalog_put_blob(c, &j->layers[0].digest, j->layers[0].size, &config, e);
    if (!code)
        code = catalog_put_model(c, &m, &ref->model_id, e);
    if (!code)
        code = catalog_put_tag(c, &j->name, ref->model_id, &ref->tag_id, e);
    return code ? code : catalog_prune(c, e);
}

/* The model as the caller will see it, made before the commit: after it nothing may fail. */
static enum err_code make_answer(struct job *j, const struct catalog_ref *ref,
                                 struct model_box **box, struct err *e)
{
    struct catalog_layer *layers = NULL;
    size_t n = 0;
    enum err_code code = model_box_read(j->s, ref, box, &layers, &n, e);
    return code ? code : model_box_settle(j->s, *box, layers, n, true, e);
}

static enum err_code commit_import(struct job *j, struct model_box **box, struct err *e)
{
    struct store *s = j->s;
    struct catalog_ref ref = { 0 };
    bool doubtful = false, copy = j->in->mode == STORE_COPY;
    enum err_code code = copy ? announce(j, e) : ERR_OK;
    if (code)
        return code;
    if (copy)
        code = publish(j, e);
    if (!code)
        code = catalog_begin(s->catalog, e);
    if (!code)
        code = put_rows(j, &ref, e);
    if (!code)
        code = make_answer(j, &ref, box, e);
    if (!code)
        code = catalog_commit(s->catalog, &doubtful, e);
    catalog_rollback(s->catalog);
    if (!doubtful) /* else the files stay until a commit has shown what the disk holds */
        store_collect(s, NULL);
    return code;
}

/* ---- the call -------------------------------------------------------------------------------- */

static enum err_code run_job(struct job *j, struct model_box **box, struct err *e)
{
    struct blob_meter meter = { .progress = j->in->progress, .user = j->in->user };
    enum err_code code = check_request(j, &meter, e);
    if (!code)
        code = take_bytes(j, &meter, e);
    if (!code)
        code = write_manifest(j, e);
    if (code)
        return code;
    pthread_mutex_lock(&j->s->mutex);
    code = commit_import(j, box, e);
    pthread_mutex_unlock(&j->s->mutex);
    return code;
}

static void job_finish(struct job *j)
{
    for (size_t i = 0; j->items && i < j->in->n_files; i++)
        blob_discard(&j->s->blobs, &j->items[i].part);
    buf_finish(&j->config);
    buf_finish(&j->manifest);
    mem_free(j->items);
    mem_free(j->layers);
}

enum err_code store_import(struct store *s, const struct store_import *in,
                           struct store_model **out, struct err *e)
{
    struct job j = { .s = s, .in = in, .facts = in->facts };
    struct model_box *box = NULL;
    buf_init(&j.config, MANIFEST_MAX_BYTES);
    buf_init(&j.manifest, MANIFEST_MAX_BYTES);
    enum err_code code = run_job(&j, &box, e);
    job_finish(&j);
    if (code || !out)
        model_box_destroy(box);
    else
        *out = &box->model;
    return code;
}
