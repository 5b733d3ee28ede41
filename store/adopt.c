#include "store/adopt_priv.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/commit.h"
#include "store/manifest.h"

/* ---- finding ------------------------------------------------------------------------------------- */

size_t adopt_n_finders(void)
{
    return adopt_finder_count;
}

const char *adopt_finder_name(size_t i)
{
    return i < adopt_finder_count ? adopt_finders[i].name : NULL;
}

static enum err_code find_below(struct scan *c, const struct adopt_root *root, struct err *e)
{
    const struct finder *f = NULL;
    char path[PATH_MAX];
    for (size_t i = 0; i < adopt_finder_count; i++)
        if (strcmp(adopt_finders[i].name, root->finder) == 0)
            f = &adopt_finders[i];
    if (!f)
        return err_set(e, ERR_INVALID, "'%.60s' is none of the caches that are known", root->finder);
    if (root->path[0] != '/')
        return err_set(e, ERR_INVALID, "'%.200s' must be an absolute path", root->path);
    if (!realpath(root->path, path)) {
        if (errno != ENOENT && errno != ENOTDIR)
            scan_note(c, root->path, "%s", strerror(errno));
        return ERR_OK;
    }
    c->finder = f->name;
    return f->find(c, scan_text(c, "%s", path), e);
}

/* Which names the store has already. */
static enum err_code mark_those_here(struct scan *c, struct err *e)
{
    struct store_list *have = NULL;
    enum err_code code = store_list(c->s, &have, e);
    for (size_t i = 0; !code && i < c->list.n_found; i++)
        for (size_t k = 0; k < have->n; k++)
            c->list.found[i].here |= str_ieq(str_from(have->models[k].name), str_from(c->list.found[i].name));
    store_list_destroy(have);
    return code;
}

enum err_code adopt_find(struct store *s, const struct adopt_root *roots, size_t n,
                         const struct store_job *job, struct adopt_list **out, struct err *e)
{
    struct scan *c = mem_zero(1, sizeof *c);
    enum err_code code = c ? ERR_OK : err_no_memory(e, sizeof *c, "looking for models");
    if (c) {
        c->s = s;
        c->job = job;
        if (!map_init(&c->visited, 1024) || !map_init(&c->names, 256))
            code = err_no_memory(e, 1024, "looking for models");
    }
    store_job_tell(job, "looking for models");
    for (size_t i = 0; !code && i < n; i++)
        code = find_below(c, &roots[i], e);
    if (!code)
        code = mark_those_here(c, e);
    if (c) {
        map_finish(&c->visited);
        map_finish(&c->names);
    }
    if (code && c)
        adopt_list_destroy(&c->list);
    *out = code ? NULL : &c->list;
    return code;
}

void adopt_list_destroy(struct adopt_list *l)
{
    struct scan *c = (struct scan *)(void *)l;
    if (!c)
        return;
    mem_free(l->found);
    mem_free(l->notes);
    arena_finish(&c->arena);
    mem_free(c);
}

/* ---- taking ------------------------------------------------------------------------------------------ */

/* One layer on its way: a file of the user's that is open, or a text that was read. */
struct piece {
    int fd;
    struct file_id id;
    struct buf chunks;
};

struct adopt {
    struct store *s;
    const struct adopt_found *f;
    const struct store_job *job;
    struct scan reader;           /* its arena alone: for texts and facts */
    struct piece *pieces;
    struct commit_layer *commits; /* the config first */
    struct manifest_layer *layers;
    struct name name;
    struct store_facts facts;
    struct buf config, manifest;
    struct digest digest;
    struct store_pace pace;
    const char *status;
};

static bool heed(void *user, uint64_t done, uint64_t total)
{
    struct adopt *a = user;
    struct store_event ev = { .status = a->status, .completed = done, .total = total };
    if (a->job && a->job->event && store_pace_due(&a->pace, done == total))
        a->job->event(a->job->user, &ev);
    return !store_job_cancelled(a->job);
}

/* The path is what will be loaded: it must lead to the file that was read. */
static enum err_code check_path(struct adopt *a, const struct adopt_file *f, int fd, struct err *e)
{
    struct stat st, at;
    if (fstat(fd, &st) < 0 || a->s->ops->stat_path(f->path, &at) < 0)
        return err_errno(e, ERR_IO, errno, "looking at '%s'", f->path);
    if (st.st_dev != at.st_dev || st.st_ino != at.st_ino)
        return err_set(e, ERR_CONFLICT, "'%s' was replaced while it was being read: try again", f->path);
    return ERR_OK;
}

static enum err_code not_as_said(const struct adopt_file *f, const struct digest *is, struct err *e)
{
    char says[DIGEST_TEXT_SIZE], has[DIGEST_TEXT_SIZE];
    digest_text(&f->digest, says);
    digest_text(is, has);
    return err_set(e, ERR_CONFLICT, "'%s' is damaged: its cache says %s, and it is %s; let the program whose "
                                    "cache it is fetch it again", f->path, says, has);
}

static enum err_code take_file(struct adopt *a, size_t i, struct blob_meter *meter, struct err *e)
{
    const struct adopt_file *f = &a->f->files[i];
    struct piece *p = &a->pieces[i];
    struct digest digest;
    p->fd = adopt_open(f->path, 0);
    if (p->fd < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening '%s'", f->path);
    struct blob_source from = { p->fd, f->path };
    enum err_code code = check_path(a, f, p->fd, e);
    if (!code)
        code = blob_hash(a->s->ops, &from, meter, &digest, &p->chunks, &p->id, e);
    if (!code)
        code = check_path(a, f, p->fd, e);
    if (!code && f->has_digest && !digest_eq(&digest, &f->digest))
        code = not_as_said(f, &digest, e);
    if (code)
        return code;
    a->commits[i + 1] = (struct commit_layer){
        .media_type = f->media_type, .kind = f->kind, .digest = digest, .size = p->id.size,
        .where = COMMIT_FILE, .path = f->path, .fd = p->fd, .id = p->id, .chunks = buf_str(&p->chunks),
        .source = f->path,
    };
    return ERR_OK;
}

/* Its bytes are hashed by the commit. */
static enum err_code take_text(struct adopt *a, size_t i, struct commit_layer *out, struct err *e)
{
    const struct adopt_file *f = &a->f->files[i];
    struct str text;
    enum err_code code = adopt_read(&a->reader, f->path, MEDIA_TEXT_MAX, &text, e);
    *out = (struct commit_layer){ .media_type = f->media_type, .kind = f->kind, .digest = f->digest,
                                  .size = text.n, .where = COMMIT_TEXT, .text = text, .source = f->path };
    return code;
}

static size_t n_layers(const struct adopt *a)
{
    return a->f->n_files - (a->f->manifest.n ? 1 : 0); /* the config is the last of them */
}

static enum err_code take_all(struct adopt *a, struct err *e)
{
    struct blob_meter meter = { .progress = heed, .user = a };
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < n_layers(a); i++)
        meter.total += media_is_file(a->f->files[i].kind) ? a->f->files[i].size : 0;
    for (size_t i = 0; !code && i < n_layers(a); i++)
        code = media_is_file(a->f->files[i].kind) ? take_file(a, i, &meter, e)
                                                  : take_text(a, i, &a->commits[i + 1], e);
    if (!code && a->f->manifest.n)
        code = take_text(a, n_layers(a), &a->commits[0], e);
    return code;
}

static enum err_code look_into(struct adopt *a, struct err *e)
{
    size_t n = 0;
    const char **paths = arena_zero(&a->reader.arena, a->f->n_files, sizeof *paths);
    if (!paths)
        return err_no_memory(e, a->f->n_files * sizeof *paths, "the files of a model");
    for (size_t i = 0; i < n_layers(a); i++)
        if (a->f->files[i].kind == MEDIA_MODEL)
            paths[n++] = a->f->files[i].path;
    if (!n)
        return err_set(e, ERR_UNSUPPORTED, "'%s' has no model file", a->f->path);
    struct str template = { 0 };
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < n_layers(a); i++)
        if (a->f->files[i].kind == MEDIA_TEMPLATE)
            code = adopt_read(&a->reader, a->f->files[i].path, MEDIA_TEXT_MAX, &template, e);
    if (!code)
        code = store_look_into(a->s, paths, n, template, &a->reader.arena, &a->facts, e);
    return code ? code : store_facts_check(&a->facts, e);
}

/* Ollama's manifest is kept, so that the model's digest is the one that Ollama shows. */
static enum err_code settle_manifest(struct adopt *a, struct err *e)
{
    enum err_code code = ERR_OK;
    if (a->f->manifest.n) {
        buf_put(&a->manifest, a->f->manifest.p, a->f->manifest.n);
        return a->manifest.failed ? err_no_memory(e, a->f->manifest.n, "a manifest")
                                  : manifest_digest(buf_str(&a->manifest), &a->digest, e);
    }
    code = manifest_config(&a->facts, &a->config, &a->layers[0], e);
    a->commits[0] = (struct commit_layer){ .media_type = a->layers[0].media_type, .kind = MEDIA_CONFIG,
                                           .digest = a->layers[0].digest, .size = a->layers[0].size,
                                           .where = COMMIT_TEXT, .text = buf_str(&a->config) };
    for (size_t i = 1; i <= n_layers(a); i++)
        a->layers[i] = (struct manifest_layer){ .media_type = a->commits[i].media_type,
                                                .digest = a->commits[i].digest, .size = a->commits[i].size };
    return code ? code : manifest_write(&a->layers[0], a->layers + 1, n_layers(a), &a->manifest, &a->digest, e);
}

static enum err_code run(struct adopt *a, struct model_box **box, struct err *e)
{
    const struct adopt_found *f = a->f;
    enum err_code code = f->problem ? err_set(e, ERR_UNSUPPORTED, "'%s' cannot be adopted: %s", f->name, f->problem)
                                    : store_new_name(f->name, &a->name, e);
    if (!code)
        code = look_into(a, e);
    if (!code)
        code = take_all(a, e);
    if (!code)
        code = settle_manifest(a, e);
    if (code)
        return code;
    struct commit c = {
        .name = &a->name,
        .manifest = buf_str(&a->manifest),
        .digest = a->digest,
        .layers = a->commits,
        .n_layers = n_layers(a) + 1,
        .facts = &a->facts,
        .kind = "adopt",
        .source = f->path,
        .revision = f->revision,
        .only_new = true, /* what the store has is never replaced by what was found */
    };
    store_job_tell(a->job, "writing manifest");
    return store_commit(a->s, &c, box, e);
}

static enum err_code make_room(struct adopt *a, struct err *e)
{
    size_t n = a->f->n_files + 1;
    a->pieces = arena_zero(&a->reader.arena, n, sizeof *a->pieces);
    a->commits = arena_zero(&a->reader.arena, n, sizeof *a->commits);
    a->layers = arena_zero(&a->reader.arena, n, sizeof *a->layers);
    a->status = scan_text(&a->reader, "checking %s", a->f->name);
    for (size_t i = 0; a->pieces && i < n; i++) {
        a->pieces[i].fd = -1;
        buf_init(&a->pieces[i].chunks, CHUNK_HASHES_MAX);
    }
    return a->pieces && a->commits && a->layers && *a->status
               ? ERR_OK
               : err_no_memory(e, n * sizeof *a->commits, "adopting a model");
}

enum err_code store_adopt(struct store *s, const struct adopt_found *f, const struct store_job *job,
                          struct store_model **out, struct err *e)
{
    struct adopt a = { .s = s, .f = f, .job = job };
    struct model_box *box = NULL;
    buf_init(&a.config, MANIFEST_MAX_BYTES);
    buf_init(&a.manifest, MANIFEST_MAX_BYTES);
    enum err_code code = make_room(&a, e);
    if (!code)
        code = run(&a, &box, e);
    for (size_t i = 0; a.pieces && i < f->n_files; i++) {
        if (a.pieces[i].fd >= 0)
            close(a.pieces[i].fd);
        buf_finish(&a.pieces[i].chunks);
    }
    buf_finish(&a.config);
    buf_finish(&a.manifest);
    arena_finish(&a.reader.arena);
    if (!code && out)
        *out = &box->model;
    else
        model_box_destroy(box);
    return code;
}
