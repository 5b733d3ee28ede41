#include "store/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "store/commit.h"
#include "store/download.h"
#include "store/remote.h"

/* How a layer comes to be here. */
enum have { HAVE_NOTHING, HAVE_LEASE, HAVE_TWIN, HAVE_PART, HAVE_TEXT };

struct piece {
    const struct remote_layer *layer;
    enum have have;
    struct digest digest; /* the layer's, or found out while it was fetched */
    uint64_t size;
    size_t twin;          /* an earlier layer with the same bytes */
    struct downloaded got;
    struct buf text;
};

struct pull {
    struct store *s;
    const struct store_pull *in;
    struct transport *transport;
    struct remote *remote;
    const struct remote_model *m;
    struct piece *pieces; /* one a layer, in their order */
    struct arena arena;
    struct store_facts facts;
    struct buf config, manifest; /* ours, where the place has none */
    struct digest digest, old;
    bool moved;           /* the name stood for `old` here */
    bool done;            /* it is committed */
    bool wrong;           /* what came is no model: nothing of it is worth keeping */
};

static enum err_code no_memory(struct err *e)
{
    return err_no_memory(e, 0, "pulling a model");
}

static const struct store_job *job_of(const struct pull *p)
{
    return &p->in->job;
}

/* Where nobody has given one: the last part of the URL's path. */
static struct str file_name_of(const struct remote_layer *l)
{
    struct str name = str_from(l->file_name);
    if (name.n)
        return name;
    name = (struct str){ l->url, strcspn(l->url, "?#") };
    const char *slash = memrchr(name.p, '/', name.n);
    return slash ? (struct str){ slash + 1, name.n - (size_t)(slash + 1 - name.p) } : name;
}

/* "pulling 0123456789ab" */
static void label_of(const struct piece *x, char out[96])
{
    char hex[DIGEST_HEX_SIZE];
    if (!x->layer->has_digest) {
        struct str name = file_name_of(x->layer);
        snprintf(out, 96, "pulling %.*s", (int)(name.n < 80 ? name.n : 80), name.p);
        return;
    }
    digest_hex(&x->layer->digest, hex);
    snprintf(out, 96, "pulling %.12s", hex);
}

/* ---- the beginning --------------------------------------------------------------------------- */

static struct remote_request request_of(const struct store_pull *in)
{
    return (struct remote_request){ .text = in->name,
                                    .as = in->as,
                                    .insecure = in->insecure,
                                    .secrets = &in->secrets,
                                    .job = &in->job };
}

static enum err_code open_remote(struct pull *p, struct err *e)
{
    struct remote_request r = request_of(p->in);
    enum err_code code = remote_open(p->s, p->transport, &r, &p->remote, &p->m, e);
    if (code)
        return code;
    p->pieces = arena_zero(&p->arena, p->m->n_layers, sizeof *p->pieces);
    if (!p->pieces)
        return no_memory(e);
    for (size_t i = 0; i < p->m->n_layers; i++) {
        struct piece *x = &p->pieces[i];
        x->layer = &p->m->layers[i];
        x->digest = x->layer->digest;
        x->size = x->layer->size;
    }
    return ERR_OK;
}

/* ---- what is here ---------------------------------------------------------------------------- */

static bool holds(const struct store_model *m, const struct digest *d)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (digest_eq(&m->files[i].digest, d))
            return true;
    return false;
}

/* Without a registry's manifest it is the same when it came from the same place, in the same revision. */
static bool is_same(const struct pull *p, const struct store_model *here)
{
    if (p->m->manifest.n)
        return digest_eq(&here->digest, &p->m->digest);
    if (!p->m->revision || !p->m->revision[0] || strcmp(here->revision, p->m->revision) != 0 ||
        strcmp(here->source, p->m->source) != 0)
        return false;
    for (size_t i = 0; i < p->m->n_layers; i++) {
        const struct remote_layer *l = &p->m->layers[i];
        if (media_is_file(l->kind) && l->has_digest && !holds(here, &l->digest))
            return false;
    }
    return true;
}

/* The model that is here under the name, when it is the very one that the place has; NULL. */
static struct store_model *find_here(struct pull *p)
{
    char name[NAME_TEXT_MAX + 1];
    struct store_model *here = NULL;
    name_canonical(&p->m->name, name);
    if (store_resolve(p->s, name, &here, NULL))
        return NULL;
    if (is_same(p, here))
        return here;
    store_model_destroy(here);
    return NULL;
}

/* What the name stands for so far. */
static enum err_code look_up_old(struct pull *p, struct err *e)
{
    struct catalog_ref ref = { 0 };
    pthread_mutex_lock(&p->s->mutex);
    enum err_code code = catalog_find(p->s->catalog, &p->m->name, &ref, e);
    pthread_mutex_unlock(&p->s->mutex);
    p->moved = !code && ref.model_id != 0;
    p->old = ref.digest;
    return code;
}

static enum err_code is_text_here(struct store *s, const struct digest *d, bool *text, struct err *e)
{
    struct catalog_blob row = { 0 };
    pthread_mutex_lock(&s->mutex);
    enum err_code code = catalog_blob(s->catalog, d, &row, e);
    pthread_mutex_unlock(&s->mutex);
    *text = row.there && row.is_text;
    return code;
}

/* Takes a lease on what is here in the form that the layer wants. */
static enum err_code lease(struct pull *p, struct piece *x, struct err *e)
{
    bool text;
    uint64_t size;
    if (!x->layer->has_digest)
        return ERR_OK;
    enum err_code code = is_text_here(p->s, &x->digest, &text, e);
    if (code || text == media_is_file(x->layer->kind) || store_lease(p->s, &x->digest, &size, NULL))
        return code;
    if (x->layer->has_size && x->layer->size != size) {
        store_release(p->s, &x->digest);
        return err_set(e, ERR_FORMAT, "the place says that a layer has %llu bytes, but that digest has %llu",
                       (unsigned long long)x->layer->size, (unsigned long long)size);
    }
    x->size = size;
    x->have = HAVE_LEASE;
    return ERR_OK;
}

static bool find_twin(const struct pull *p, size_t i, size_t *twin)
{
    const struct remote_layer *l = p->pieces[i].layer;
    for (*twin = 0; *twin < i; ++*twin) {
        const struct remote_layer *other = p->pieces[*twin].layer;
        if (l->has_digest && other->has_digest && digest_eq(&l->digest, &other->digest) &&
            media_is_file(l->kind) == media_is_file(other->kind))
            return true;
    }
    return false;
}

/* ---- text ------------------------------------------------------------------------------------ */

static enum err_code check_text(const struct piece *x, struct str text, struct err *e)
{
    struct digest is;
    char label[96], should[DIGEST_TEXT_SIZE], found[DIGEST_TEXT_SIZE];
    label_of(x, label);
    if (x->layer->has_size && text.n != x->layer->size)
        return err_set(e, ERR_FORMAT, "%s: %zu bytes came instead of %llu", label, text.n,
                       (unsigned long long)x->layer->size);
    enum err_code code = manifest_digest(text, &is, e);
    if (code || !x->layer->has_digest || digest_eq(&is, &x->layer->digest))
        return code;
    digest_text(&x->layer->digest, should);
    digest_text(&is, found);
    return err_set(e, ERR_FORMAT, "%s: what came has the digest %s instead of %s", label, found, should);
}

/* One try at one address. *again: a new credential may help. */
static enum err_code fetch_once(struct pull *p, const struct piece *x, const char *url, const char *credential,
                                struct buf *out, bool *again, struct err *e)
{
    struct transport_request r = { .url = url,
                                   .authorization = credential,
                                   .plain = p->m->plain,
                                   .max_body = x->layer->has_size && x->layer->size < MEDIA_TEXT_MAX
                                                   ? x->layer->size + 1
                                                   : MEDIA_TEXT_MAX,
                                   .body_fd = -1 };
    struct transfer *t = NULL;
    char label[96];
    *again = false;
    label_of(x, label);
    enum err_code code = transport_fetch(p->transport, &r, p->in->job.cancel, out, &t, e);
    if (code && code != ERR_CANCELLED)
        err_prefix(e, "%s", label);
    if (code)
        return code;
    int status = t->head.status;
    transport_end(p->transport, t);
    if (status == 200)
        code = check_text(x, buf_str(out), e);
    else
        code = err_set(e, status == 404 ? ERR_NOT_FOUND : status < 500 && status != 429 ? ERR_FORBIDDEN : ERR_IO,
                       "%s: the place answered %d", label, status);
    *again = status == 401;
    if (code)
        buf_finish(out);
    return code;
}

static bool worth_another(enum err_code code)
{
    return code == ERR_IO || code == ERR_TIMEOUT;
}

static enum err_code pause_before(const struct pull *p, unsigned attempt, struct err *e)
{
    for (unsigned i = 0; i < (4u << attempt); i++) {
        if (store_job_cancelled(job_of(p)))
            return err_set(e, ERR_CANCELLED, "cancelled");
        usleep(50000);
    }
    return ERR_OK;
}

static enum err_code fetch_from_place(struct pull *p, const struct piece *x, struct buf *out, struct err *e)
{
    const char *credential = NULL;
    bool again = false, refused = false;
    enum err_code code = remote_authorize(p->remote, false, &credential, e);
    for (unsigned attempt = 0; !code; attempt++) {
        code = fetch_once(p, x, x->layer->url, credential, out, &again, e);
        if (!code)
            return ERR_OK;
        if (again && !refused) {
            refused = true;
            code = remote_authorize(p->remote, true, &credential, e);
        } else if (worth_another(code) && attempt < 4) {
            code = pause_before(p, attempt, e);
        }
    }
    return code;
}

static enum err_code fetch_text(struct pull *p, struct piece *x, struct err *e)
{
    char label[96];
    bool again;
    struct err why = { 0 };
    enum err_code code = ERR_NOT_FOUND;
    label_of(x, label);
    if (x->layer->mirror)
        code = fetch_once(p, x, x->layer->mirror, NULL, &x->text, &again, &why);
    if (code == ERR_CANCELLED)
        return err_set(e, code, "cancelled");
    if (code)
        code = fetch_from_place(p, x, &x->text, e);
    if (!code)
        code = manifest_digest(buf_str(&x->text), &x->digest, e);
    if (code)
        return code;
    x->size = x->text.n;
    x->have = HAVE_TEXT;
    store_job_progress(job_of(p), label, &x->digest, x->size, x->size);
    return ERR_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static struct download download_of(const struct pull *p, const struct piece *x, const char *label)
{
    return (struct download){ .label = label,
                              .has_digest = x->layer->has_digest,
                              .digest = x->layer->digest,
                              .has_size = x->layer->has_size,
                              .size = x->layer->size,
                              .url = x->layer->url,
                              .plain = p->m->plain,
                              .unproven = p->in->insecure,
                              .authorize = remote_authorize,
                              .mirrors = x->layer->mirror ? &x->layer->mirror : NULL,
                              .n_mirrors = x->layer->mirror ? 1 : 0,
                              .user = p->remote,
                              .connections = p->s->net.connections };
}

/* What has no digest beforehand may have git's name. */
static enum err_code check_git_name(struct pull *p, const struct piece *x, const char *label, struct err *e)
{
    uint8_t is[BLOB_GIT_SIZE];
    int fd = p->s->ops->open(p->s->blobs.tmp, x->got.part.name, O_RDONLY, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "%s: opening what came", label);
    enum err_code code = blob_git_name(p->s->ops, fd, x->got.part.size, is, e);
    p->s->ops->close(fd);
    if (code || memcmp(is, x->layer->git, sizeof is) == 0)
        return code;
    return err_set(e, ERR_FORMAT, "%s: what came is not the file that the place's list tells of: it was thrown away",
                   label);
}

static enum err_code fetch_file(struct pull *p, struct piece *x, struct err *e)
{
    char label[96];
    label_of(x, label);
    struct download d = download_of(p, x, label);
    struct err why = { 0 };
    enum err_code code = download_blob(p->s, p->transport, &d, job_of(p), &x->got, &why);
    if (code == ERR_FORMAT && d.n_mirrors) {
        log_line(LOG_WARN, "msg=\"the mirror was passed over\" blob=%s why=\"%s\"", label, why.text);
        d.n_mirrors = 0;
        code = download_blob(p->s, p->transport, &d, job_of(p), &x->got, &why);
    }
    if (code && e)
        *e = why;
    if (!code && x->layer->git && (code = check_git_name(p, x, label, e)))
        downloaded_finish(p->s, &x->got);
    if (code)
        return code;
    x->have = HAVE_PART;
    x->digest = x->got.part.digest;
    x->size = x->got.part.size;
    return ERR_OK;
}

static enum err_code obtain(struct pull *p, size_t i, struct err *e)
{
    struct piece *x = &p->pieces[i];
    char label[96];
    enum err_code code = ERR_OK;
    if (store_job_cancelled(job_of(p)))
        return err_set(e, ERR_CANCELLED, "cancelled");
    if (find_twin(p, i, &x->twin)) {
        x->have = HAVE_TWIN;
        return ERR_OK;
    }
    code = lease(p, x, e);
    if (!code && x->have == HAVE_LEASE) {
        label_of(x, label);
        store_job_progress(job_of(p), label, &x->digest, x->size, x->size);
        return ERR_OK;
    }
    if (code)
        return code;
    return media_is_file(x->layer->kind) ? fetch_file(p, x, e) : fetch_text(p, x, e);
}

/* A config that came with the look at the place is taken from there. */
static enum err_code obtain_config(struct pull *p, struct err *e)
{
    struct piece *x = &p->pieces[0];
    if (!p->m->config.n)
        return obtain(p, 0, e);
    buf_init(&x->text, MEDIA_TEXT_MAX);
    buf_put(&x->text, p->m->config.p, p->m->config.n);
    if (x->text.failed)
        return no_memory(e);
    x->have = HAVE_TEXT;
    x->size = x->text.n;
    return check_text(x, buf_str(&x->text), e);
}

/* What is still to come, for the disk: of each file once, less what an earlier pull has left of it. */
static enum err_code count_missing(struct pull *p, uint64_t *missing, struct err *e)
{
    enum err_code code = ERR_OK;
    *missing = 0;
    for (size_t i = 0; !code && i < p->m->n_layers; i++) {
        const struct piece *x = &p->pieces[i];
        struct catalog_blob row = { 0 };
        size_t twin;
        if (!media_is_file(x->layer->kind) || !x->layer->has_size || find_twin(p, i, &twin))
            continue;
        pthread_mutex_lock(&p->s->mutex);
        if (x->layer->has_digest)
            code = catalog_blob(p->s->catalog, &x->digest, &row, e);
        pthread_mutex_unlock(&p->s->mutex);
        struct download d = download_of(p, x, "");
        uint64_t begun = row.there ? x->layer->size : download_begun(p->s, &d);
        uint64_t left = x->layer->size > begun ? x->layer->size - begun : 0;
        *missing = left > UINT64_MAX - *missing ? UINT64_MAX : *missing + left;
    }
    return code;
}

static enum err_code free_space(struct store *s, uint64_t *room, struct err *e)
{
    bool in_memory;
    return s->ops->space(s->blobs.tmp, room, &in_memory) == 0
               ? ERR_OK
               : err_errno(e, ERR_IO, errno, "looking for the free space of the store");
}

/* Before the first byte of the first file: no use in one that leaves no room for the next. */
static enum err_code check_room(struct pull *p, struct err *e)
{
    uint64_t missing, room;
    enum err_code code = count_missing(p, &missing, e);
    if (!code)
        code = free_space(p->s, &room, e);
    if (code)
        return code;
    return missing <= room ? ERR_OK
                           : err_set(e, ERR_IO, "the disk is too full for '%.200s': %llu bytes are still to come, and "
                                     "%llu are free", p->in->name, (unsigned long long)missing,
                                     (unsigned long long)room);
}

/* The config last, as Ollama has it. */
static enum err_code obtain_all(struct pull *p, struct err *e)
{
    size_t first = p->m->manifest.n ? 1 : 0;
    enum err_code code = ERR_OK;
    for (size_t i = first; !code && i < p->m->n_layers; i++)
        code = obtain(p, i, e);
    return code || !first ? code : obtain_config(p, e);
}

/* ---- a look into it -------------------------------------------------------------------------- */

static enum err_code join_path(struct pull *p, const char *folder, const char *name, const char **out,
                               struct err *e)
{
    struct buf b;
    buf_init(&b, 8192);
    buf_printf(&b, "%s/%s/%s", p->s->home, folder, name);
    *out = b.failed ? NULL : arena_strndup(&p->arena, b.p, b.n);
    buf_finish(&b);
    return *out ? ERR_OK : no_memory(e);
}

/* Where a leased blob is: its own file, or a sound one of the user's. */
static enum err_code path_of_blob(struct pull *p, const struct piece *x, const char **out, struct err *e)
{
    struct catalog_layer places = { 0 };
    char name[DIGEST_FILE_SIZE];
    digest_file_name(&x->digest, name);
    pthread_mutex_lock(&p->s->mutex);
    enum err_code code = catalog_places(p->s->catalog, &x->digest, x->size, &p->arena, &places, e);
    pthread_mutex_unlock(&p->s->mutex);
    for (size_t i = 0; !code && i < places.n_files; i++) {
        if (!places.files[i].sound)
            continue;
        *out = places.files[i].path;
        return *out[0] ? ERR_OK : join_path(p, "blobs", name, out, e);
    }
    return code ? code : err_set(e, ERR_CONFLICT, "%s went away while it was wanted: pull again", name);
}

static enum err_code path_of(struct pull *p, const struct piece *x, const char **out, struct err *e)
{
    const struct piece *real = x->have == HAVE_TWIN ? &p->pieces[x->twin] : x;
    return real->have == HAVE_PART ? join_path(p, "tmp", real->got.part.name, out, e)
                                   : path_of_blob(p, real, out, e);
}

/* A template among its layers, fetched now or here before. */
static enum err_code own_template(struct pull *p, struct str *out, struct err *e)
{
    enum err_code code = ERR_OK;
    *out = (struct str){ 0 };
    for (size_t i = 0; !code && i < p->m->n_layers; i++) {
        struct piece *x = &p->pieces[i], *real = x->have == HAVE_TWIN ? &p->pieces[x->twin] : x;
        if (x->layer->kind != MEDIA_TEMPLATE)
            continue;
        if (real->have == HAVE_TEXT) {
            *out = buf_str(&real->text);
            continue;
        }
        pthread_mutex_lock(&p->s->mutex);
        code = catalog_body(p->s->catalog, &real->digest, &p->arena, out, e);
        pthread_mutex_unlock(&p->s->mutex);
    }
    return code;
}

static enum err_code look_into(struct pull *p, struct err *e)
{
    size_t n = 0;
    struct str template;
    const char **paths = arena_zero(&p->arena, p->m->n_layers, sizeof *paths);
    enum err_code code = paths ? ERR_OK : no_memory(e);
    for (size_t i = 0; !code && i < p->m->n_layers; i++)
        if (p->pieces[i].layer->kind == MEDIA_MODEL)
            code = path_of(p, &p->pieces[i], &paths[n++], e);
    if (code)
        return code;
    if (n == 0)
        return err_set(e, ERR_UNSUPPORTED, "'%s' holds no GGUF model", p->in->name);
    code = own_template(p, &template, e);
    if (code)
        return code;
    code = store_look_into(p->s, paths, n, template, &p->arena, &p->facts, e);
    p->wrong = code == ERR_FORMAT || code == ERR_UNSUPPORTED || code == ERR_TOO_LARGE;
    for (size_t i = 0; code && i < n; i++)
        store_say_model(e, paths[i], p->m->source);
    if (!code && (!p->facts.license || !p->facts.license[0]))
        p->facts.license = p->m->license;
    return code ? code : store_facts_check(&p->facts, e);
}

/* ---- the commit ------------------------------------------------------------------------------ */

static struct commit_layer commit_layer_of(struct pull *p, struct piece *x)
{
    struct piece *real = x->have == HAVE_TWIN ? &p->pieces[x->twin] : x;
    struct commit_layer l = { .media_type = x->layer->media_type,
                              .kind = x->layer->kind,
                              .digest = real->digest,
                              .size = real->size,
                              .fd = -1,
                              .where = COMMIT_THERE };
    if (real->have == HAVE_PART) {
        l.where = COMMIT_PART;
        l.part = &real->got.part;
        l.chunks = buf_str(&real->got.chunks);
    } else if (real->have == HAVE_TEXT) {
        l.where = COMMIT_TEXT;
        l.text = buf_str(&real->text);
    }
    return l;
}

/* Where the place has no manifest we write one, with the config that our facts make. */
static enum err_code write_manifest(struct pull *p, struct commit_layer *layers, size_t n, struct err *e)
{
    struct manifest_layer *rows = arena_zero(&p->arena, n + 1, sizeof *rows);
    enum err_code code = rows ? manifest_config(&p->facts, &p->config, &rows[0], e) : no_memory(e);
    for (size_t i = 0; !code && i < n; i++)
        rows[i + 1] = (struct manifest_layer){ .media_type = layers[i + 1].media_type,
                                               .digest = layers[i + 1].digest,
                                               .size = layers[i + 1].size };
    if (!code)
        code = manifest_write(&rows[0], rows + 1, n, &p->manifest, &p->digest, e);
    if (code)
        return code;
    layers[0] = (struct commit_layer){ .media_type = rows[0].media_type,
                                       .kind = MEDIA_CONFIG,
                                       .digest = rows[0].digest,
                                       .size = rows[0].size,
                                       .fd = -1,
                                       .where = COMMIT_TEXT,
                                       .text = buf_str(&p->config) };
    return ERR_OK;
}

static enum err_code commit(struct pull *p, struct model_box **box, struct err *e)
{
    bool own = p->m->manifest.n == 0;
    size_t n = p->m->n_layers, first = own ? 1 : 0;
    struct commit_layer *layers = arena_zero(&p->arena, n + first, sizeof *layers);
    enum err_code code = layers ? ERR_OK : no_memory(e);
    for (size_t i = 0; !code && i < n; i++)
        layers[i + first] = commit_layer_of(p, &p->pieces[i]);
    if (!code && own)
        code = write_manifest(p, layers, n, e);
    if (code)
        return code;
    if (!own)
        p->digest = p->m->digest;
    struct commit c = { .name = &p->m->name,
                        .manifest = own ? buf_str(&p->manifest) : p->m->manifest,
                        .digest = p->digest,
                        .layers = layers,
                        .n_layers = n + first,
                        .facts = &p->facts,
                        .kind = p->m->kind,
                        .source = p->m->source,
                        .revision = p->m->revision };
    return store_commit(p->s, &c, box, e);
}

static void tell_of_move(const struct pull *p, const struct store_model *m)
{
    char from[DIGEST_TEXT_SIZE], to[DIGEST_TEXT_SIZE], text[2 * DIGEST_TEXT_SIZE + 32];
    if (!p->moved || digest_eq(&p->old, &m->digest))
        return;
    digest_text(&p->old, from);
    digest_text(&m->digest, to);
    log_line(LOG_INFO, "msg=\"a name stands for another model now\" model=%s from=%s to=%s", m->name, from, to);
    snprintf(text, sizeof text, "moved from %s to %s", from, to);
    store_job_tell(job_of(p), text);
    store_job_tell(job_of(p), "removing unused layers");
}

/* ---- the call -------------------------------------------------------------------------------- */

static void tell_of_all(struct pull *p)
{
    char label[96];
    size_t n = p->m->n_layers, first = p->m->manifest.n ? 1 : 0;
    for (size_t i = 0; i < n; i++) {
        const struct piece *x = &p->pieces[(i + first) % n]; /* the config last */
        label_of(x, label);
        if (x->layer->has_digest && x->layer->has_size)
            store_job_progress(job_of(p), label, &x->layer->digest, x->layer->size, x->layer->size);
    }
}

static enum err_code bring(struct pull *p, struct store_model **model, struct err *e)
{
    struct model_box *box = NULL;
    enum err_code code = look_up_old(p, e);
    if (!code)
        code = check_room(p, e);
    if (!code)
        code = obtain_all(p, e);
    if (code)
        return code;
    store_job_tell(job_of(p), "verifying sha256 digest");
    code = look_into(p, e);
    if (code)
        return code;
    store_job_tell(job_of(p), "writing manifest");
    code = commit(p, &box, e);
    if (code)
        return code;
    p->done = true;
    *model = &box->model;
    tell_of_move(p, *model);
    return ERR_OK;
}

static enum err_code pull_run(struct pull *p, struct store_model **model, struct err *e)
{
    struct remote_request r = request_of(p->in);
    enum err_code code = remote_check(&r, e); /* before the first news: the client gets its status */
    if (!code)
        code = remote_online(p->s, p->in->name, p->in->limit_rate, &p->transport, e);
    if (code)
        return code;
    store_job_tell(job_of(p), "pulling manifest");
    code = open_remote(p, e);
    if (code)
        return code;
    *model = find_here(p);
    if (!*model)
        return bring(p, model, e);
    tell_of_all(p);
    store_job_tell(job_of(p), "verifying sha256 digest");
    store_job_tell(job_of(p), "writing manifest");
    return ERR_OK;
}

static void pull_finish(struct pull *p)
{
    for (size_t i = 0; p->pieces && i < p->m->n_layers; i++) {
        struct piece *x = &p->pieces[i];
        if (x->have == HAVE_LEASE)
            store_release(p->s, &x->digest);
        if (x->have == HAVE_PART && (p->wrong || p->done))
            downloaded_finish(p->s, &x->got);
        else if (x->have == HAVE_PART)
            downloaded_keep(p->s, &x->got);
        buf_finish(&x->text);
    }
    buf_finish(&p->config);
    buf_finish(&p->manifest);
    remote_close(p->remote);
    transport_destroy(p->transport);
    arena_finish(&p->arena);
}

static void pull_begin(struct pull *p, struct store *s, const struct store_pull *in)
{
    *p = (struct pull){ .s = s, .in = in };
    buf_init(&p->config, MANIFEST_MAX_BYTES);
    buf_init(&p->manifest, MANIFEST_MAX_BYTES);
}

enum err_code store_pull(struct store *s, const struct store_pull *in, struct store_model **out,
                         struct err *e)
{
    struct pull p;
    struct store_model *model = NULL;
    pull_begin(&p, s, in);
    enum err_code code = pull_run(&p, &model, e);
    pull_finish(&p);
    if (code)
        return code;
    store_job_tell(&in->job, "success");
    if (out)
        *out = model;
    else
        store_model_destroy(model);
    return ERR_OK;
}

/* ---- what a pull would do -------------------------------------------------------------------- */

struct plan_box {
    struct store_plan plan; /* first: store_plan_destroy gets back from it */
    struct arena arena;
};

static enum err_code plan_file(struct pull *p, struct plan_box *box, size_t i, struct err *e)
{
    struct piece *x = &p->pieces[i];
    struct store_plan_file *f = &box->plan.files[i];
    char digest[DIGEST_TEXT_SIZE], label[96];
    size_t twin;
    const char *name = x->layer->file_name;
    digest_text(&x->layer->digest, digest);
    label_of(x, label);
    if (!name || !name[0])
        name = digest;
    enum err_code code = lease(p, x, e);
    if (code)
        return code;
    f->name = arena_strndup(&box->arena, name, strlen(name));
    f->kind = media_kind_name(x->layer->kind);
    f->size = x->size;
    if (x->have != HAVE_LEASE && !box->plan.present && !find_twin(p, i, &twin)) {
        struct download d = download_of(p, x, label);
        uint64_t begun = media_is_file(x->layer->kind) ? download_begun(p->s, &d) : 0;
        f->missing = f->size > begun ? f->size - begun : 0;
    }
    box->plan.size += f->size;
    box->plan.missing += f->missing;
    return f->name ? ERR_OK : no_memory(e);
}

static enum err_code plan_fill(struct pull *p, struct plan_box *box, struct err *e)
{
    char name[NAME_TEXT_MAX + 1];
    struct store_model *here = find_here(p);
    struct store_plan *plan = &box->plan;
    const char *revision = p->m->revision ? p->m->revision : "", *license = p->m->license ? p->m->license : "";
    plan->present = here != NULL;
    store_model_destroy(here);
    name_short(&p->m->name, name);
    plan->name = arena_strndup(&box->arena, name, strlen(name));
    plan->source = arena_strndup(&box->arena, p->m->source, strlen(p->m->source));
    plan->revision = arena_strndup(&box->arena, revision, strlen(revision));
    plan->license = arena_strndup(&box->arena, license, strlen(license));
    plan->files = arena_zero(&box->arena, p->m->n_layers, sizeof *plan->files);
    if (!plan->name || !plan->source || !plan->revision || !plan->license || !plan->files)
        return no_memory(e);
    plan->n_files = p->m->n_layers;
    enum err_code code = free_space(p->s, &plan->disk_free, e);
    for (size_t i = 0; !code && i < plan->n_files; i++)
        code = plan_file(p, box, i, e);
    return code;
}

enum err_code store_pull_plan(struct store *s, const struct store_pull *in, struct store_plan **out,
                              struct err *e)
{
    struct pull p;
    struct plan_box *box = mem_zero(1, sizeof *box);
    if (!box)
        return no_memory(e);
    pull_begin(&p, s, in);
    enum err_code code = remote_online(s, in->name, in->limit_rate, &p.transport, e);
    if (!code)
        code = open_remote(&p, e);
    if (!code)
        code = plan_fill(&p, box, e);
    pull_finish(&p);
    if (code)
        store_plan_destroy(&box->plan);
    else
        *out = &box->plan;
    return code;
}

void store_plan_destroy(struct store_plan *p)
{
    struct plan_box *box = (struct plan_box *)(void *)p;
    if (!box)
        return;
    arena_finish(&box->arena);
    mem_free(box);
}
