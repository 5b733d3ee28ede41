#include "store/commit.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define MEDIA_TYPE_MAX 255

/* One file on its way in. */
struct item {
    const char *media_type;
    struct blob_source from;
    struct blob_part part;   /* copy: until it is published */
    struct buf chunks;
    struct manifest_layer layer;
    struct file_id id;       /* reference: as it was hashed */
};

struct job {
    struct store *s;
    const struct store_import *in;
    struct name name;
    struct store_facts facts; /* without NULLs */
    struct item *items;
    struct manifest_layer *layers; /* the config, then the items' */
    struct commit_layer *commits;  /* likewise */
    struct buf config, manifest;
    struct digest digest;
};

/* ---- what is asked for ----------------------------------------------------------------------- */

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
    size_t n = strlen(item->media_type);
    if (n > MEDIA_TYPE_MAX || utf8_valid(item->media_type, n) != n)
        return err_set(e, ERR_INVALID, "'%s': its media type is not UTF-8 of at most %d bytes", f->path,
                       MEDIA_TYPE_MAX);
    return j->in->mode == STORE_REFERENCE ? check_path(j->s, &item->from, &st, e) : ERR_OK;
}

static enum err_code check_request(struct job *j, struct blob_meter *meter, struct err *e)
{
    const struct store_import *in = j->in;
    bool model = false;
    enum err_code code = store_new_name(in->name, &j->name, e);
    if (!code)
        code = store_facts_check(&j->facts, e);
    if (!code && (in->n_files == 0 || in->n_files > STORE_MAX_FILES))
        code = err_set(e, ERR_INVALID, "a model has 1 to %d files, not %zu", STORE_MAX_FILES,
                       in->n_files);
    if (code)
        return code;
    j->items = mem_zero(in->n_files, sizeof *j->items);
    j->layers = mem_zero(in->n_files + 1, sizeof *j->layers);
    j->commits = mem_zero(in->n_files + 1, sizeof *j->commits);
    if (!j->items || !j->layers || !j->commits)
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
        buf_init(&item->chunks, CHUNK_HASHES_MAX);
        if (j->in->mode == STORE_COPY) {
            code = blob_stage(&j->s->blobs, &item->from, meter, &item->part, &item->chunks, e);
            item->id.size = item->part.size;
            item->layer.digest = item->part.digest;
        } else {
            code = blob_hash(j->s->ops, &item->from, meter, &item->layer.digest, &item->chunks, &item->id,
                             e);
        }
        item->layer.media_type = item->media_type;
        item->layer.size = item->id.size;
        j->layers[i + 1] = item->layer;
    }
    return code;
}

static enum err_code write_manifest(struct job *j, struct err *e)
{
    enum err_code code = manifest_config(&j->facts, &j->config, &j->layers[0], e);
    return code ? code
                : manifest_write(&j->layers[0], j->layers + 1, j->in->n_files, &j->manifest,
                                 &j->digest, e);
}

/* ---- the commit ------------------------------------------------------------------------------ */

static enum err_code commit_import(struct job *j, struct model_box **box, struct err *e)
{
    bool copy = j->in->mode == STORE_COPY;
    j->commits[0] = (struct commit_layer){ .media_type = j->layers[0].media_type,
                                           .digest = j->layers[0].digest,
                                           .size = j->layers[0].size,
                                           .where = COMMIT_TEXT,
                                           .text = buf_str(&j->config) };
    for (size_t i = 0; i < j->in->n_files; i++) {
        struct item *item = &j->items[i];
        j->commits[i + 1] = (struct commit_layer){ .media_type = item->media_type,
                                                   .digest = item->layer.digest,
                                                   .size = item->layer.size,
                                                   .where = copy ? COMMIT_PART : COMMIT_FILE,
                                                   .part = &item->part,
                                                   .path = item->from.path,
                                                   .fd = item->from.fd,
                                                   .id = item->id,
                                                   .chunks = buf_str(&item->chunks),
                                                   .source = item->from.path };
    }
    struct commit c = { .name = &j->name,
                        .manifest = buf_str(&j->manifest),
                        .digest = j->digest,
                        .layers = j->commits,
                        .n_layers = j->in->n_files + 1,
                        .facts = &j->facts,
                        .kind = copy ? "import" : "reference",
                        .source = j->in->files[0].path };
    return store_commit(j->s, &c, box, e);
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
    return code ? code : commit_import(j, box, e);
}

static void job_finish(struct job *j)
{
    for (size_t i = 0; j->items && i < j->in->n_files; i++) {
        blob_discard(&j->s->blobs, &j->items[i].part);
        buf_finish(&j->items[i].chunks);
    }
    buf_finish(&j->config);
    buf_finish(&j->manifest);
    mem_free(j->items);
    mem_free(j->layers);
    mem_free(j->commits);
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
    if (!code && out)
        *out = &box->model;
    else
        model_box_destroy(box);
    return code;
}
