#include "store/create.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "store/commit.h"
#include "store/manifest.h"

/* A layer to be, and what is held for it until the commit. */
struct made {
    struct commit_layer layer;
    const char *name;           /* of a file: for order and sentences */
    const char *path;           /* where a file can be looked into; its bytes may be ours */
    bool leased, existing;
    struct blob_part part;
    struct buf chunks;
};

/* An upload, kept from others until the end. */
struct held {
    struct digest digest;
    struct upload_hold upload;
};

struct work {
    struct store *s;
    const struct store_create *in;
    struct name name;
    struct arena arena;
    struct store_model *base;   /* NULL: there is none */
    struct store_facts facts;
    struct made *slots;         /* all that there ever were: their parts and leases end together */
    size_t n_slots;
    struct made **made;         /* of them, the model's layers, the config first */
    size_t n;
    struct held *held;          /* uploads */
    size_t n_held;
    struct buf config, manifest, params;
    struct digest digest;
    struct str template;        /* a layer's; empty: none */
    /* progress over files that are read here */
    struct blob_meter meter;
    const char *reading;
    struct store_pace pace;
};

static enum err_code check_cancel(const struct work *w, struct err *e)
{
    return store_job_cancelled(&w->in->job) ? err_set(e, ERR_CANCELLED, "creating '%s' was cancelled", w->in->name) : ERR_OK;
}

static struct made *add(struct work *w, enum media_kind kind)
{
    struct made *m = &w->slots[w->n_slots++];
    w->made[w->n++] = m;
    m->layer.kind = kind;
    m->layer.media_type = media_type_of(kind);
    m->layer.fd = -1;
    return m;
}

/* ---- layers of the model that it comes from ------------------------------------------------------ */

static enum err_code lease(struct work *w, struct made *m, struct err *e)
{
    char text[DIGEST_TEXT_SIZE];
    m->leased = !store_lease(w->s, &m->layer.digest, &m->layer.size, NULL);
    m->existing = m->leased;
    m->layer.where = COMMIT_THERE;
    if (m->leased)
        return ERR_OK;
    digest_text(&m->layer.digest, text);
    return err_set(e, ERR_NOT_FOUND, "blob %s%s%s is not here: upload it first", text,
                   m->name ? " of " : "", m->name ? m->name : "");
}

static enum err_code inherit_layer(struct work *w, const struct manifest_layer *l, struct err *e)
{
    struct made *m = add(w, l->kind);
    m->layer.digest = l->digest;
    m->layer.media_type = media_type_alone(l->media_type, l->kind);
    return lease(w, m, e);
}

static enum err_code read_json(struct str text, const char *what, json_t **out, struct err *e)
{
    return json_read(text, MANIFEST_MAX_BYTES, what, out, e);
}

/* Room for every layer that can come: the inherited ones, the files and the texts, and a config. */
static enum err_code make_room(struct work *w, size_t inherited, struct err *e)
{
    size_t most = 2 + inherited + w->in->n_files + w->in->n_texts;
    w->slots = mem_zero(most, sizeof *w->slots);
    w->made = arena_zero(&w->arena, most, sizeof *w->made);
    if (!w->slots || !w->made)
        return err_no_memory(e, most * sizeof *w->slots, "creating a model");
    add(w, MEDIA_CONFIG);
    return ERR_OK;
}

static enum err_code inherit(struct work *w, struct err *e)
{
    struct manifest old;
    enum err_code c = store_resolve(w->s, w->in->from, &w->base, e);
    if (c)
        return c;
    c = manifest_read(str_from(w->base->manifest), &w->arena, &old, e);
    if (c == ERR_FORMAT)
        err_prefix(e, "the manifest of '%s' is damaged: pull or import it again", w->in->from);
    if (c)
        return c;
    c = make_room(w, old.n_layers, e);
    for (size_t i = 0; !c && i < old.n_layers; i++)
        c = inherit_layer(w, &old.layers[i], e);
    w->facts = w->base->facts;
    return c;
}

/* ---- files ------------------------------------------------------------------------------------ */

static bool on_read(void *user, uint64_t done, uint64_t total)
{
    struct work *w = user;
    struct store_event ev = { .status = w->reading, .total = total, .completed = done };
    if (w->in->job.event && store_pace_due(&w->pace, done == total))
        w->in->job.event(w->in->job.user, &ev);
    return !store_job_cancelled(&w->in->job);
}

/* Bytes from a file of the user's: a part, or where they are. */
static enum err_code take_path(struct work *w, const struct store_create_file *f, struct made *m, struct err *e)
{
    struct commit_layer *l = &m->layer;
    struct blob_source from = { .fd = f->fd, .path = f->path };
    struct stat st, named;
    bool refer = w->in->mode == STORE_REFERENCE;
    if (w->s->ops->stat(f->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "'%s' is not a regular file", f->path);
    if (refer && (f->path[0] != '/' || w->s->ops->stat_path(f->path, &named) < 0 || named.st_dev != st.st_dev ||
                  named.st_ino != st.st_ino))
        return err_set(e, ERR_INVALID, "'%s' is not the file that was opened", f->path);
    buf_init(&m->chunks, CHUNK_HASHES_MAX);
    w->meter = (struct blob_meter){ .progress = on_read, .user = w, .total = (uint64_t)st.st_size };
    w->reading = refer ? "checking the file" : "copying the file";
    l->path = f->path;
    l->source = f->path;
    l->fd = f->fd;
    m->path = f->path;
    enum err_code c;
    if (refer) {
        l->where = COMMIT_FILE;
        c = blob_hash(w->s->ops, &from, &w->meter, &l->digest, &m->chunks, &l->id, e);
        l->size = l->id.size;
    } else {
        l->where = COMMIT_PART;
        l->part = &m->part;
        c = blob_stage(&w->s->blobs, &from, &w->meter, &m->part, &m->chunks, e);
        l->digest = m->part.digest;
        l->size = m->part.size;
    }
    l->chunks = buf_str(&m->chunks);
    return c;
}

static int by_digest(const void *a, const void *b)
{
    return memcmp(((const struct held *)a)->digest.b, ((const struct held *)b)->digest.b, sizeof((struct digest *)0)->b);
}

/* All of them, each once, and in an order that every create keeps to: two that want the same never wait for each other. */
static enum err_code hold_uploads(struct work *w, struct err *e)
{
    size_t n = 0;
    if (!w->in->uploads)
        return ERR_OK;
    w->held = mem_zero(w->in->n_files + 1, sizeof *w->held);
    if (!w->held)
        return err_no_memory(e, w->in->n_files * sizeof *w->held, "creating a model");
    for (size_t i = 0; i < w->in->n_files; i++)
        if (w->in->files[i].has_digest)
            w->held[n++].digest = w->in->files[i].digest;
    qsort(w->held, n, sizeof *w->held, by_digest);
    for (size_t i = 0; i < n; i++)
        if (w->n_held == 0 || by_digest(&w->held[w->n_held - 1], &w->held[i]) != 0)
            w->held[w->n_held++].digest = w->held[i].digest;
    for (size_t i = 0; i < w->n_held; i++)
        uploads_hold(w->in->uploads, &w->held[i].digest, &w->in->job, &w->held[i].upload);
    return check_cancel(w, e);
}

static enum err_code take_blob(struct work *w, const struct store_create_file *f, struct made *m, struct err *e)
{
    const struct upload_hold *up = NULL;
    m->layer.digest = f->digest;
    for (size_t i = 0; !up && i < w->n_held; i++)
        if (w->held[i].upload.entry && digest_eq(&w->held[i].digest, &f->digest))
            up = &w->held[i].upload;
    if (!up) {
        enum err_code c = lease(w, m, e);
        return c ? c : store_blob_path(w->s, &m->layer.digest, m->layer.size, &w->arena, &m->path, e);
    }
    m->layer.where = COMMIT_PART;
    m->layer.part = up->part;
    m->layer.size = up->part->size;
    m->layer.chunks = up->chunks;
    m->path = up->path;
    return ERR_OK;
}

static enum err_code take_file(struct work *w, const struct store_create_file *f, struct err *e)
{
    struct made *m = add(w, f->kind);
    m->name = f->name;
    enum err_code c = f->has_digest ? take_blob(w, f, m, e) : take_path(w, f, m, e);
    uint64_t ignored;
    if (!c && m->layer.where != COMMIT_THERE && !store_lease(w->s, &m->layer.digest, &ignored, NULL)) {
        m->existing = true; /* for the news: its bytes are here already */
        store_release(w->s, &m->layer.digest);
    }
    return c;
}

static bool is_shard(const char *name, unsigned *number, unsigned *count)
{
    size_t n = strlen(name);
    int used = 0;
    return n >= 20 && sscanf(name + n - 20, "-%5u-of-%5u.gguf%n", number, count, &used) == 2 && used == 20;
}

static bool is_clip(const struct store_facts *f)
{
    return strcmp(f->family, "clip") == 0;
}

static const struct store_create_text *given_template(const struct work *w)
{
    const struct store_create_text *found = NULL;
    for (size_t i = 0; i < w->in->n_texts; i++)
        if (w->in->texts[i].kind == MEDIA_TEMPLATE)
            found = &w->in->texts[i]; /* the last one takes the place of those before */
    return found;
}

/* The template that the model will have beside its files, which decides what it can do; empty: none. */
static enum err_code find_template(struct work *w, struct err *e)
{
    const struct store_create_text *given = given_template(w);
    w->template = given ? given->text : (struct str){ 0 };
    return given || !w->base ? ERR_OK : store_layer_text(w->s, w->base, MEDIA_TEMPLATE, 0, &w->arena, &w->template, e);
}

/* Another template than the base's: what the model can do is found out anew. */
static enum err_code look_again(struct work *w, struct err *e)
{
    struct store_facts facts = { 0 };
    if (!w->base || w->in->writer || !given_template(w))
        return ERR_OK;
    enum err_code c = store_look_into(w->s, &w->base->path, 1, w->template, &w->arena, &facts, e);
    w->facts.capabilities = facts.capabilities;
    return c;
}

/* Those among the files that are called as parts are. */
static enum err_code find_parts(struct work *w, size_t first, const char ***out, size_t *n, struct err *e)
{
    unsigned number, count;
    *n = 0;
    *out = arena_zero(&w->arena, w->n + 1, sizeof **out);
    if (!*out)
        return err_no_memory(e, w->n * sizeof **out, "the parts of a model");
    for (size_t i = first; i < w->n; i++)
        if (w->made[i]->layer.kind == MEDIA_MODEL && is_shard(w->made[i]->name, &number, &count))
            (*out)[(*n)++] = w->made[i]->path;
    return ERR_OK;
}

/* The facts of the model files, which are alone or shards of one; others among them that turn out to be
 * projectors become layers of that kind. */
static enum err_code look_into_files(struct work *w, size_t first, struct err *e)
{
    const char *path = NULL, *name = NULL, **parts;
    unsigned number, count;
    size_t n_parts;
    bool seen = false;
    enum err_code c = find_parts(w, first, &parts, &n_parts, e);
    for (size_t i = first; !c && i < w->n; i++) {
        struct made *m = w->made[i];
        struct store_facts facts = { 0 };
        if (m->layer.kind != MEDIA_MODEL)
            continue;
        bool part = is_shard(m->name, &number, &count);
        if (part && seen) /* in order: the first has told all */
            continue;
        seen = seen || part;
        if (part && n_parts != count)
            return err_set(e, ERR_INVALID, "the model has %u parts, and %zu came: all of them are needed", count, n_parts);
        c = part ? store_look_into(w->s, parts, n_parts, w->template, &w->arena, &facts, e)
                 : store_look_into(w->s, &m->path, 1, w->template, &w->arena, &facts, e);
        c = c ? c : store_facts_check(&facts, e);
        if (c)
            return err_prefix(e, "%s", m->name);
        if (is_clip(&facts)) {
            m->layer.kind = MEDIA_PROJECTOR;
            m->layer.media_type = media_type_of(MEDIA_PROJECTOR);
            continue;
        }
        if (path)
            return err_set(e, ERR_INVALID, "'%s' and '%s' are two models: name one of them", name, m->name);
        path = m->path;
        name = m->name;
        w->facts = facts;
    }
    return c || path ? c : err_set(e, ERR_INVALID, "no file of '%s' is a model", w->in->name);
}

static enum err_code take_files(struct work *w, struct err *e)
{
    size_t first = w->n;
    enum err_code c = hold_uploads(w, e);
    for (size_t i = 0; !c && i < w->in->n_files; i++)
        c = take_file(w, &w->in->files[i], e);
    return c || w->base ? c : look_into_files(w, first, e);
}

static void drop(struct work *w, size_t i)
{
    memmove(w->made + i, w->made + i + 1, (w->n - i - 1) * sizeof *w->made);
    w->n--;
}

/* ---- weights that are written anew ------------------------------------------------------------ */

/* The model's files, parts in order. */
static enum err_code paths_of_model(struct work *w, const char *const **out, size_t *n, struct err *e)
{
    const char **paths = arena_zero(&w->arena, w->n + 1, sizeof *paths);
    if (!paths)
        return err_no_memory(e, w->n * sizeof *paths, "the parts of a model");
    *n = 0;
    if (w->base && w->base->path)
        paths[(*n)++] = w->base->path; /* the parts that it has are beside it */
    for (size_t i = 1; !w->base && i < w->n; i++)
        if (w->made[i]->layer.kind == MEDIA_MODEL)
            paths[(*n)++] = w->made[i]->path;
    *out = paths;
    return *n ? ERR_OK : err_set(e, ERR_INVALID, "no file of '%s' is a model", w->in->name);
}

static enum err_code look_into_part(struct work *w, const struct blob_part *part, struct err *e)
{
    size_t n = strlen(w->s->home) + sizeof "/tmp/" + strlen(part->name);
    char *path = arena_alloc(&w->arena, n);
    if (!path)
        return err_no_memory(e, n, "a path");
    snprintf(path, n, "%s/tmp/%s", w->s->home, part->name);
    return store_look_into(w->s, (const char *const[]){ path }, 1, w->template, &w->arena, &w->facts, e);
}

/* One new file in the place of the model's. */
static enum err_code rewrite(struct work *w, struct err *e)
{
    const char *const *paths;
    size_t first = 0, n = 0;
    struct made *m = &w->slots[w->n_slots++];
    m->layer = (struct commit_layer){ .kind = MEDIA_MODEL, .media_type = media_type_of(MEDIA_MODEL),
                                      .where = COMMIT_PART, .part = &m->part, .fd = -1 };
    buf_init(&m->chunks, CHUNK_HASHES_MAX);
    enum err_code c = paths_of_model(w, &paths, &n, e);
    c = c ? c : store_name_parts(w->s, w, paths, n, &w->arena, &paths, e);
    c = c ? c : derive_part(w->s, paths[0], w->in->writer, &w->in->job, &m->part, &m->chunks, e);
    store_unname_parts(w->s, w, n);
    c = c ? c : look_into_part(w, &m->part, e);
    if (c)
        return c;
    m->layer.digest = m->part.digest;
    m->layer.size = m->part.size;
    m->layer.chunks = buf_str(&m->chunks);
    for (size_t i = w->n; i-- > 1;)
        if (w->made[i]->layer.kind == MEDIA_MODEL) {
            drop(w, i);
            first = i;
        }
    memmove(w->made + first + 1, w->made + first, (w->n - first) * sizeof *w->made);
    w->made[first] = m;
    w->n++;
    return ERR_OK;
}

/* ---- texts ------------------------------------------------------------------------------------ */

static void drop_kind(struct work *w, enum media_kind kind)
{
    for (size_t i = w->n; i-- > 1;)
        if (w->made[i]->layer.kind == kind)
            drop(w, i);
}

/* The given parameters over those that the base has. */
static enum err_code merge_params(struct work *w, struct str given, struct str *out, struct err *e)
{
    struct str old = { 0 };
    json_t *over = NULL, *all = NULL;
    struct json_out j;
    enum err_code c = store_layer_text(w->s, w->base, MEDIA_PARAMS, 0, &w->arena, &old, e);
    if (c || !old.n) {
        *out = given;
        return c;
    }
    c = read_json(old, "the parameters of the model", &all, e);
    c = c ? c : read_json(given, "the parameters", &over, e);
    if (!c && (!json_is_object(all) || json_object_update(all, over)))
        c = err_set(e, ERR_FORMAT, "the parameters of '%s' are no JSON object", w->in->from);
    json_begin(&j, &w->params);
    if (!c)
        json_tree_value(&j, all);
    json_decref(all);
    json_decref(over);
    *out = buf_str(&w->params);
    return c ? c : w->params.failed ? err_no_memory(e, w->params.n, "parameters") : ERR_OK;
}

static enum err_code take_text(struct work *w, const struct store_create_text *t, struct err *e)
{
    struct str text = t->text;
    enum err_code c = t->kind == MEDIA_PARAMS && w->base ? merge_params(w, t->text, &text, e) : ERR_OK;
    if (c)
        return c;
    if (text.n > MEDIA_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "the model's %s has %zu bytes; at most %zu are taken",
                       media_kind_name(t->kind), text.n, MEDIA_TEXT_MAX);
    if (t->kind != MEDIA_LICENSE)
        drop_kind(w, t->kind);
    if (!text.n)
        return ERR_OK;
    struct made *m = add(w, t->kind);
    m->layer.where = COMMIT_TEXT;
    m->layer.text = text;
    m->layer.size = text.n;
    c = manifest_digest(text, &m->layer.digest, e);
    uint64_t size;
    m->existing = !c && !store_lease(w->s, &m->layer.digest, &size, NULL);
    if (m->existing)
        store_release(w->s, &m->layer.digest);
    return c;
}

static enum err_code take_texts(struct work *w, struct err *e)
{
    enum err_code c = ERR_OK;
    for (size_t i = 0; !c && i < w->in->n_texts; i++)
        c = take_text(w, &w->in->texts[i], e);
    return c;
}

/* ---- config and manifest ---------------------------------------------------------------------- */

static enum err_code first_config(struct work *w, json_t **out, struct err *e)
{
    struct manifest_layer layer;
    struct buf plain;
    buf_init(&plain, MANIFEST_MAX_BYTES);
    enum err_code c = w->base ? ERR_OK : manifest_config(&w->facts, &plain, &layer, e);
    if (!c)
        c = read_json(w->base ? str_from(w->base->config) : buf_str(&plain), "the model's config", out, e);
    buf_finish(&plain);
    if (!c && !json_is_object(*out)) {
        json_decref(*out);
        c = err_set(e, ERR_FORMAT, "the config of '%s' is no JSON object", w->in->from ? w->in->from : w->in->name);
    }
    return c;
}

/* What the inherited config says of them, where it does. */
static bool set_capabilities(struct work *w, json_t *config)
{
    if (!json_object_get(config, "capabilities"))
        return true;
    json_t *list = json_array();
    bool ok = list != NULL;
    for (const char *p = w->facts.capabilities; ok && *p;) {
        size_t n = strcspn(p, ",");
        ok = json_array_append_new(list, json_stringn(p, n)) == 0;
        p += n + (p[n] != '\0');
    }
    return json_object_set_new(config, "capabilities", list) == 0 && ok;
}

static enum err_code write_config(struct work *w, struct err *e)
{
    struct commit_layer *l = &w->made[0]->layer;
    json_t *config = NULL;
    struct json_out j;
    enum err_code c = first_config(w, &config, e);
    if (c)
        return c;
    bool ok = set_capabilities(w, config) && (!w->in->writer || !json_object_set_new(config, "file_type", json_string(w->facts.quantization))) &&
              (!w->in->config || !json_object_update(config, (json_t *)(uintptr_t)w->in->config));
    json_begin(&j, &w->config);
    json_tree_value(&j, config);
    json_decref(config);
    if (!ok || w->config.failed)
        return err_no_memory(e, w->config.n, "the model's config");
    *l = (struct commit_layer){ .kind = MEDIA_CONFIG, .media_type = MANIFEST_MEDIA_CONFIG, .where = COMMIT_TEXT,
                                .text = buf_str(&w->config), .size = w->config.n, .fd = -1 };
    return manifest_digest(l->text, &l->digest, e);
}

static enum err_code write_manifest(struct work *w, struct err *e)
{
    struct manifest_layer *layers = arena_zero(&w->arena, w->n, sizeof *layers);
    if (!layers)
        return err_no_memory(e, w->n * sizeof *layers, "the model's manifest");
    for (size_t i = 0; i < w->n; i++)
        layers[i] = (struct manifest_layer){ .media_type = w->made[i]->layer.media_type,
                                             .digest = w->made[i]->layer.digest,
                                             .size = w->made[i]->layer.size,
                                             .kind = w->made[i]->layer.kind };
    struct manifest again; /* what is made here has the limits of what comes from elsewhere, and can go there */
    enum err_code c = manifest_write(&layers[0], layers + 1, w->n - 1, &w->manifest, &w->digest, e);
    return c ? c : manifest_read(buf_str(&w->manifest), &w->arena, &again, e);
}

static void tell_layers(struct work *w)
{
    for (size_t i = 1; i < w->n; i++) {
        char digest[DIGEST_TEXT_SIZE], status[DIGEST_TEXT_SIZE + 32];
        digest_text(&w->made[i]->layer.digest, digest);
        snprintf(status, sizeof status, "%s layer %s", w->made[i]->existing ? "using existing" : "creating new",
                 digest);
        store_job_tell(&w->in->job, status);
    }
    store_job_tell(&w->in->job, "writing manifest");
}

static enum err_code commit(struct work *w, struct model_box **box, struct err *e)
{
    struct commit_layer *layers = arena_zero(&w->arena, w->n, sizeof *layers);
    if (!layers)
        return err_no_memory(e, w->n * sizeof *layers, "creating a model");
    for (size_t i = 0; i < w->n; i++)
        layers[i] = w->made[i]->layer;
    struct commit c = {
        .name = &w->name,
        .manifest = buf_str(&w->manifest),
        .digest = w->digest,
        .layers = layers,
        .n_layers = w->n,
        .facts = &w->facts,
        .kind = "create",
        .source = w->in->from ? w->in->from : w->in->n_files ? w->in->files[0].name : "",
        .revision = "",
    };
    return check_cancel(w, e) ? ERR_CANCELLED : store_commit(w->s, &c, box, e);
}

/* ---- the call --------------------------------------------------------------------------------- */

static enum err_code check(struct work *w, struct err *e)
{
    const struct store_create *in = w->in;
    enum err_code c = store_new_name(in->name, &w->name, e);
    if (!c && in->n_files > STORE_MAX_FILES)
        c = err_set(e, ERR_INVALID, "a model has at most %d files, not %zu", STORE_MAX_FILES, in->n_files);
    if (!c && in->n_texts > CREATE_MAX_TEXTS)
        c = err_set(e, ERR_INVALID, "a model has at most %d texts, not %zu", CREATE_MAX_TEXTS, in->n_texts);
    if (!c && !in->from && !in->n_files)
        c = err_set(e, ERR_INVALID, "neither 'from' or 'files' was specified");
    return c;
}

static enum err_code run(struct work *w, struct model_box **box, struct err *e)
{
    enum err_code c = check(w, e);
    if (!c && w->in->n_files)
        store_job_tell(&w->in->job, "parsing GGUF");
    if (!c)
        c = w->in->from ? inherit(w, e) : make_room(w, 0, e);
    if (!c)
        c = find_template(w, e);
    if (!c)
        c = take_files(w, e);
    if (!c)
        c = look_again(w, e);
    if (!c && w->in->writer)
        c = rewrite(w, e);
    if (!c && w->in->family)
        w->facts.family = w->in->family;
    if (!c && w->in->quantization)
        w->facts.quantization = w->in->quantization;
    if (!c)
        c = store_facts_check(&w->facts, e);
    if (!c)
        c = take_texts(w, e);
    if (!c)
        c = write_config(w, e);
    if (!c)
        c = write_manifest(w, e);
    if (c)
        return c;
    tell_layers(w);
    return commit(w, box, e);
}

static void finish(struct work *w)
{
    for (size_t i = 0; i < w->n_slots; i++) {
        struct made *m = &w->slots[i];
        if (m->leased)
            store_release(w->s, &m->layer.digest);
        blob_discard(&w->s->blobs, &m->part);
        buf_finish(&m->chunks);
    }
    for (size_t i = 0; i < w->n_held; i++)
        uploads_let_go(w->in->uploads, &w->held[i].upload);
    mem_free(w->held);
    mem_free(w->slots);
    store_model_destroy(w->base);
    buf_finish(&w->config);
    buf_finish(&w->manifest);
    buf_finish(&w->params);
    arena_finish(&w->arena);
}

enum err_code store_create(struct store *s, const struct store_create *in, struct store_model **out,
                           struct err *e)
{
    struct work w = { .s = s, .in = in };
    struct model_box *box = NULL;
    buf_init(&w.config, MANIFEST_MAX_BYTES);
    buf_init(&w.manifest, MANIFEST_MAX_BYTES);
    buf_init(&w.params, MANIFEST_MAX_BYTES);
    enum err_code c = run(&w, &box, e);
    finish(&w);
    if (c || !out)
        model_box_destroy(box);
    else
        *out = &box->model;
    return c;
}
