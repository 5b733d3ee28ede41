#include "store/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "store/remote.h"

/* The places of one blob, being tried. */
struct trying {
    struct store *s;
    const struct repair *r;
    const char *label;
    repair_use *use;
    void *user;
    struct arena arena;
    struct transport *transport; /* made for the first place that wants one */
    struct err why;              /* the error to give; code ERR_OK: none so far */
    bool why_of_file;
    const char *source;          /* the blob's own */
    struct catalog_origin *origins;
    size_t n;
};

static bool is_path(const char *source)
{
    return source[0] == '/';
}

/* Nothing that another place could make good. */
static bool is_end(enum err_code code)
{
    return code == ERR_OK || code == ERR_CANCELLED || code == ERR_NO_MEMORY || code == ERR_INTERNAL;
}

static void note_failure(struct trying *t, const char *place, const struct err *why)
{
    bool file = is_path(place);
    log_line(LOG_INFO, "msg=\"%s: a place was of no use\" place=\"%s\" why=\"%s\"", t->label, place, why->text);
    if (t->why.code && !t->why_of_file)
        return;
    t->why = *why;
    t->why_of_file = file;
}

/* ---- files ----------------------------------------------------------------------------------- */

static enum err_code try_file(struct trying *t, const char *path, struct err *e)
{
    struct stat st;
    struct repair_place p = { .name = path, .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) };
    enum err_code code;
    if (p.fd < 0 || fstat(p.fd, &st) < 0)
        code = err_errno(e, ERR_IO, errno, "opening '%s', where it came from", path);
    else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != t->r->layer->size)
        code = err_set(e, ERR_CONFLICT, "what is at '%s' is another file now", path);
    else
        code = t->use(t->user, &p, e);
    if (p.fd >= 0)
        close(p.fd);
    return code;
}

/* ---- the network ----------------------------------------------------------------------------- */

/* Name and password were given for the registry of the model's name, and not for where some model
 * with these bytes came from. */
static bool is_named_registry(const struct trying *t, const char *source)
{
    struct name named, from;
    const char *name = t->r->in->name;
    return name && !name_parse(str_from(name), &named, NULL) && !name_parse(str_from(source), &from, NULL) &&
           str_ieq(str_from(named.host), str_from(from.host));
}

/* The layer's bytes may be these; the hashes tell. */
static bool may_be(const struct trying *t, const struct remote_layer *l)
{
    if (l->has_digest)
        return digest_eq(&l->digest, &t->r->layer->digest);
    return media_is_file(l->kind) && (!l->has_size || l->size == t->r->layer->size);
}

static enum err_code use_layer(struct trying *t, struct remote *remote, const struct remote_model *m,
                               const struct remote_layer *l, struct err *e)
{
    struct repair_place p = { .name = l->url, .fd = -1, .transport = t->transport };
    p.download = (struct download){ .label = t->label, .has_digest = true, .digest = t->r->layer->digest,
                                    .has_size = true, .size = t->r->layer->size, .url = l->url, .plain = m->plain,
                                    .authorize = remote_authorize, .user = remote,
                                    .mirrors = l->mirror ? &l->mirror : NULL, .n_mirrors = l->mirror ? 1 : 0,
                                    .connections = t->s->net.connections };
    enum err_code code = t->use(t->user, &p, e);
    if (is_end(code) || !p.download.n_mirrors)
        return code;
    log_line(LOG_WARN, "msg=\"the mirror was passed over\" blob=\"%s\"", t->label);
    p.download.n_mirrors = 0;
    return t->use(t->user, &p, e);
}

/* text: as remote_open takes it */
static enum err_code try_remote(struct trying *t, const char *text, struct err *e)
{
    const struct store_verify *in = t->r->in;
    struct store_secrets secrets = in->secrets;
    struct remote_request r = { .text = text, .secrets = &secrets, .job = &in->job,
                                /* http: as it was allowed when it was pulled */
                                .insecure = in->insecure || strncmp(text, "http://", 7) == 0 };
    struct remote *remote = NULL;
    const struct remote_model *m = NULL;
    if (!is_named_registry(t, text))
        secrets.username = secrets.password = NULL;
    enum err_code code = t->transport ? ERR_OK : remote_online(t->s, t->label, 0, &t->transport, e);
    if (!code)
        code = remote_open(t->s, t->transport, &r, &remote, &m, e);
    if (code)
        return code;
    code = err_set(e, ERR_NOT_FOUND, "%s: '%.300s' does not have it any more", t->label, text);
    for (size_t i = 0; i < m->n_layers && !is_end(code); i++)
        if (may_be(t, &m->layers[i]))
            code = use_layer(t, remote, m, &m->layers[i], e);
    remote_close(remote);
    return code;
}

/* ---- the revision that was pulled ------------------------------------------------------------ */

static bool is_kind(const struct catalog_origin *o, const struct remote_kind *kind)
{
    return strcmp(o->kind, kind->name) == 0;
}

/* https://HOST/ORG/REPO/blob/REVISION/FILE, hf.co/ORG/REPO[:WANT][@REVISION] */
static void pin_hub(struct buf *b, const struct catalog_origin *o)
{
    const char *view = strstr(o->source, "/blob/"), *file = view ? strchr(view + 6, '/') : NULL;
    if (strncmp(o->source, "https://", 8) == 0 && file)
        buf_printf(b, "%.*s%s%s", (int)(view + 6 - o->source), o->source, o->revision, file);
    else
        buf_printf(b, "%.*s@%s", (int)strcspn(o->source, "@"), o->source, o->revision);
}

/* NULL: it cannot be pinned, or there is no memory. */
static const char *pinned(struct trying *t, const struct catalog_origin *o)
{
    struct buf b;
    buf_init(&b, SOURCE_TEXT_MAX);
    if (o->revision[0] && is_kind(o, &remote_hub))
        pin_hub(&b, o);
    else if (o->revision[0] && is_kind(o, &remote_registry))
        buf_printf(&b, "%s@%s", o->source, o->revision);
    const char *text = b.n && !b.failed ? arena_strndup(&t->arena, b.p, b.n) : NULL;
    buf_finish(&b);
    return text;
}

static enum err_code try_origin(struct trying *t, const struct catalog_origin *o, struct err *e)
{
    const char *text = pinned(t, o);
    enum err_code code = ERR_NOT_FOUND;
    if (text)
        code = try_remote(t, text, e);
    return code == ERR_NOT_FOUND ? try_remote(t, o->source, e) : code; /* what it stands for now may still have it */
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool was_pulled(const struct catalog_origin *o)
{
    return is_kind(o, &remote_registry) || is_kind(o, &remote_hub) || is_kind(o, &remote_url);
}

static enum err_code read_places(struct trying *t, struct err *e)
{
    struct str own = { 0 };
    const struct digest *d = &t->r->layer->digest;
    pthread_mutex_lock(&t->s->mutex);
    enum err_code code = catalog_source(t->s->catalog, d, &t->arena, &own, e);
    if (!code)
        code = catalog_origins(t->s->catalog, d, &t->arena, &t->origins, &t->n, e);
    pthread_mutex_unlock(&t->s->mutex);
    t->source = own.p ? own.p : "";
    return code;
}

/* The first of the list says it already. */
static bool is_told(const struct trying *t, size_t n, const char *source)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(t->origins[i].source, source) == 0 && (is_path(source) || was_pulled(&t->origins[i])))
            return true;
    return false;
}

static enum err_code failed(struct trying *t, const char *place, struct err *why)
{
    if (!is_end(why->code))
        note_failure(t, place, why);
    return why->code;
}

static enum err_code try_files(struct trying *t)
{
    struct err why = { 0 };
    enum err_code code = ERR_NOT_FOUND;
    for (size_t i = 0; i < t->n && !is_end(code); i++)
        if (is_path(t->origins[i].source) && strcmp(t->origins[i].source, t->source) != 0 &&
            (code = try_file(t, t->origins[i].source, &why)))
            code = failed(t, t->origins[i].source, &why);
    if (!is_end(code) && is_path(t->source) && (code = try_file(t, t->source, &why)))
        code = failed(t, t->source, &why);
    if (code && is_end(code))
        t->why = why;
    return code;
}

static enum err_code try_network(struct trying *t)
{
    struct err why = { 0 };
    enum err_code code = ERR_NOT_FOUND;
    for (size_t i = 0; i < t->n && !is_end(code); i++)
        if (was_pulled(&t->origins[i]) && (code = try_origin(t, &t->origins[i], &why)))
            code = failed(t, t->origins[i].source, &why);
    /* of a model that is not here any more */
    if (!is_end(code) && t->source[0] && !is_path(t->source) && !is_told(t, t->n, t->source) &&
        (code = try_remote(t, t->source, &why)))
        code = failed(t, t->source, &why);
    if (code && is_end(code))
        t->why = why;
    return code;
}

enum err_code repair_from(struct store *s, const struct repair *r, const char *label, repair_use *use, void *user,
                          struct err *e)
{
    struct trying t = { .s = s, .r = r, .label = label, .use = use, .user = user };
    enum err_code code = read_places(&t, e);
    if (!code) {
        code = try_files(&t);
        if (!is_end(code))
            code = try_network(&t);
        if (code && !t.why.code)
            err_set(&t.why, ERR_UNSUPPORTED, "nobody knows where it came from: import or pull the model again");
        if (code && e)
            *e = t.why;
        code = code ? t.why.code : ERR_OK;
    }
    transport_destroy(t.transport);
    arena_finish(&t.arena);
    return code;
}
