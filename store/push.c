#include "store/push.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "store/commit.h"
#include "store/registry.h"

#define CHUNK ((uint64_t)16 << 20) /* bytes in one request */
#define MAX_FAILURES 6             /* in a row, without a byte more */

struct push {
    struct store *s;
    const struct store_push *in;
    struct transport *transport;
    struct session session;
    struct name to;
    struct store_model *model;
    struct manifest manifest;
    char mount_from[NAME_PART_MAX + NAME_HUB_REPO_MAX + 2]; /* "": nowhere */
    bool from_public;     /* the registry has a public address: it may not lead us to one that is not */
    struct arena arena;
};

/* One blob on its way. */
struct upload {
    struct push *p;
    const struct manifest_layer *layer;
    char label[32], digest[DIGEST_TEXT_SIZE];
    struct str text;      /* its bytes, or */
    int fd;               /* its file; -1: text */
    const char *location; /* where the next bytes go; NULL: no upload is open */
    uint64_t at;          /* bytes that the registry has said it has */
    uint64_t chunk_at;    /* where the request under way began */
    struct store_pace pace;
    uint64_t told;
};

static enum err_code no_memory(struct err *e)
{
    return err_no_memory(e, 0, "pushing a model");
}

/* ---- a blob's bytes -------------------------------------------------------------------------- */

static const struct store_file *file_of(const struct store_model *m, const struct digest *d)
{
    for (size_t i = 0; i < m->n_files; i++)
        if (digest_eq(&m->files[i].digest, d))
            return &m->files[i];
    return NULL;
}

static enum err_code open_file(struct upload *u, const struct store_file *f, struct err *e)
{
    struct push *p = u->p;
    struct stat st;
    u->fd = f->by_reference ? open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
                            : blob_open(&p->s->blobs, &f->digest);
    if (u->fd < 0 || p->s->ops->stat(u->fd, &st) < 0)
        return err_errno(e, ERR_IO, errno, "opening a file of '%s' (%s)", p->model->name, u->digest);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != u->layer->size)
        return err_set(e, ERR_CONFLICT, "a file of '%s' has changed (%s): verify the model", p->model->name,
                       u->digest);
    return ERR_OK;
}

/* Of the texts of its kind the one with this digest. */
static enum err_code find_text(struct upload *u, enum media_kind kind, struct err *e)
{
    struct digest is;
    for (size_t nth = 0;; nth++) {
        struct str text = { 0 };
        enum err_code code = store_layer_text(u->p->s, u->p->model, kind, nth, &u->p->arena, &text, e);
        if (!code && !text.p)
            return err_set(e, ERR_NOT_FOUND, "'%s' has lost a part of it (%s): pull or create it again",
                           u->p->model->name, u->digest);
        if (!code)
            code = manifest_digest(text, &is, e);
        if (code)
            return code;
        if (digest_eq(&is, &u->layer->digest)) {
            u->text = text;
            return ERR_OK;
        }
    }
}

static enum err_code open_bytes(struct upload *u, bool config, struct err *e)
{
    const struct store_file *f = config ? NULL : file_of(u->p->model, &u->layer->digest);
    return f ? open_file(u, f, e) : find_text(u, config ? MEDIA_CONFIG : u->layer->kind, e);
}

/* ---- requests -------------------------------------------------------------------------------- */

static void tell(struct upload *u, uint64_t completed)
{
    bool end = completed == u->layer->size;
    if (completed < u->told || !store_pace_due(&u->pace, end))
        return; /* a repeated chunk is not told of until it is past where the last one got */
    u->told = completed;
    store_job_progress(&u->p->in->job, u->label, &u->layer->digest, completed, u->layer->size);
}

static void on_sent(void *user, uint64_t sent)
{
    struct upload *u = user;
    tell(u, u->chunk_at + sent);
}

struct answer {
    int status;
    struct str body; /* of an error; in the arena */
    const char *location;
    const char *digest; /* of what the registry says that it has stored; "" where it does not */
    uint64_t range_end; /* bytes that are there; 0: it does not say */
};

/* "0-1023" -> 1024; 2^64 is 0 as well */
static uint64_t read_range(const char *text)
{
    unsigned long long last;
    int n = 0;
    return sscanf(text, "0-%20llu%n", &last, &n) != 1 || text[n] ? 0 : (uint64_t)last + 1;
}

static enum err_code keep_answer(struct push *p, const struct transfer *x, struct str body, struct answer *out,
                                 struct err *e)
{
    struct buf url;
    struct str location = str_from(x->head.location);
    out->status = x->head.status;
    out->range_end = read_range(x->head.range);
    out->body = (struct str){ arena_strndup(&p->arena, body.p ? body.p : "", body.n), body.n };
    out->digest = arena_strndup(&p->arena, x->head.docker_digest, strlen(x->head.docker_digest));
    p->from_public |= x->head.first_public;
    if (!out->body.p || !out->digest)
        return no_memory(e);
    if (!location.n)
        return ERR_OK;
    buf_init(&url, 16384);
    bool good = origin_join(str_from(x->head.url), location, &url);
    out->location = good ? arena_strndup(&p->arena, url.p, url.n) : NULL;
    buf_finish(&url);
    if (!good)
        return err_set(e, ERR_FORMAT, "the registry %s says that an upload goes on at what is no URL",
                       p->session.host);
    return out->location ? ERR_OK : no_memory(e);
}

static enum err_code ask(struct push *p, struct transport_request *r, unsigned tries, struct answer *out,
                         struct err *e)
{
    struct transfer *x = NULL;
    struct buf body;
    *out = (struct answer){ 0 };
    r->max_body = SESSION_ERROR_MAX;
    r->from_public = p->from_public;
    if (!r->url)
        return no_memory(e);
    enum err_code code = session_ask(&p->session, r, tries, &body, &x, e);
    if (code)
        return code;
    code = keep_answer(p, x, buf_str(&body), out, e);
    transport_end(p->transport, x);
    buf_finish(&body);
    return code;
}

static enum err_code refused(struct upload *u, const struct answer *a, struct err *e)
{
    char what[160];
    snprintf(what, sizeof what, "the layer %s", u->digest);
    return session_refused(&u->p->session, a->status, a->body, what, e);
}

static bool is_good(const struct answer *a)
{
    return a->status >= 200 && a->status < 300;
}

/* What has been stored is what was sent, as far as the registry tells. */
static enum err_code check_stored(const struct push *p, const struct answer *a, const char *digest, struct err *e)
{
    if (!a->digest[0] || str_ieq(str_from(a->digest), str_from(digest)))
        return ERR_OK;
    return err_set(e, ERR_FORMAT, "the registry %s has stored what was sent as %.100s, and not as %s", p->session.host,
                   a->digest, digest);
}

/* ---- one blob -------------------------------------------------------------------------------- */

static enum err_code is_there(struct upload *u, bool *there, struct err *e)
{
    struct session *s = &u->p->session;
    struct answer a;
    struct transport_request r = { .method = "HEAD",
                                   .url = registry_url(s, s->url, "blobs", u->digest),
                                   .body_fd = -1 };
    enum err_code code = ask(u->p, &r, 4, &a, e);
    *there = !code && a.status == 200;
    bool missing = a.status == 404 || a.status == 405; /* some know no HEAD */
    return code || *there || missing ? code : refused(u, &a, e);
}

static enum err_code post(struct upload *u, const char *query, struct answer *a, struct err *e)
{
    struct session *s = &u->p->session;
    char which[512];
    snprintf(which, sizeof which, "uploads/%s", query);
    struct transport_request r = { .method = "POST",
                                   .url = registry_url(s, s->url, "blobs", which),
                                   .body_fd = -1 };
    return ask(u->p, &r, 4, a, e);
}

/* Opens an upload, unless the registry has the blob in another repository and takes it from there. */
static enum err_code begin(struct upload *u, bool *mounted, struct err *e)
{
    struct answer a = { 0 };
    struct buf query;
    enum err_code code = ERR_OK;
    bool may_mount = u->p->mount_from[0];
    u->location = NULL;
    u->at = 0;
    if (may_mount) {
        buf_init(&query, 480);
        buf_puts(&query, "?mount=");
        origin_escape(&query, str_from(u->digest));
        buf_puts(&query, "&from=");
        origin_escape(&query, str_from(u->p->mount_from));
        code = query.failed ? no_memory(e) : post(u, query.p, &a, e);
        buf_finish(&query);
    }
    may_mount = may_mount && a.status == 201;
    *mounted = !code && may_mount;
    if (!code && !may_mount && a.status != 202)
        code = post(u, "", &a, e);
    if (code)
        return code;
    u->location = a.location;
    if (*mounted || (a.status == 202 && a.location))
        return ERR_OK;
    return a.status == 202 ? err_set(e, ERR_FORMAT, "the registry %s opened an upload without saying where",
                                     u->p->session.host)
                           : refused(u, &a, e);
}

static struct transport_request bytes_request(struct upload *u, const char *method, const char *url,
                                              uint64_t n)
{
    u->chunk_at = u->at;
    struct transport_request r = { .method = method, .url = url, .body_fd = -1, .on_sent = on_sent, .user = u };
    if (u->fd >= 0 && n) {
        r.body_fd = u->fd;
        r.body_at = u->at;
        r.body_size = n;
    } else if (n) {
        r.body = (struct str){ u->text.p + u->at, (size_t)n };
    }
    return r;
}

/* The last request, with the bytes that are still to go (all of them, where it is the only one). */
static enum err_code put(struct upload *u, struct answer *a, struct err *e)
{
    static const struct transport_header type = { "Content-Type", "application/octet-stream" };
    struct buf url;
    buf_init(&url, 16384);
    buf_printf(&url, "%s%sdigest=", u->location, strchr(u->location, '?') ? "&" : "?");
    origin_escape(&url, str_from(u->digest));
    struct transport_request r = bytes_request(u, "PUT", url.p, u->layer->size - u->at);
    r.headers = &type;
    r.n_headers = 1;
    enum err_code code = url.failed ? no_memory(e) : ask(u->p, &r, 1, a, e);
    buf_finish(&url);
    return code;
}

static enum err_code patch(struct upload *u, uint64_t n, struct answer *a, struct err *e)
{
    char range[64];
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)u->at,
             (unsigned long long)(u->at + n - 1));
    const struct transport_header headers[] = { { "Content-Type", "application/octet-stream" },
                                                { "Content-Range", range } };
    struct transport_request r = bytes_request(u, "PATCH", u->location, n);
    r.headers = headers;
    r.n_headers = sizeof headers / sizeof *headers;
    enum err_code code = ask(u->p, &r, 1, a, e);
    if (code || !is_good(a))
        return code;
    u->location = a->location ? a->location : u->location;
    u->at = a->range_end > u->at && a->range_end <= u->at + n ? a->range_end : u->at + n;
    return ERR_OK;
}

/* After a failure: how much has come, or *location NULL when the upload is no more. */
static enum err_code ask_how_far(struct upload *u, struct err *e)
{
    struct answer a;
    struct transport_request r = { .url = u->location, .body_fd = -1 };
    enum err_code code = ask(u->p, &r, 2, &a, e);
    if (code)
        return code;
    /* "0-0" is one byte, or none, or a registry that does not tell: then it begins anew */
    if (!is_good(&a) || a.range_end < 2 || a.range_end > u->layer->size) {
        u->location = NULL;
        return ERR_OK;
    }
    u->at = a.range_end;
    u->location = a.location ? a.location : u->location;
    return ERR_OK;
}

static bool is_passing(enum err_code code, const struct answer *a)
{
    if (code)
        return code == ERR_IO || code == ERR_TIMEOUT;
    return a->status == 404 || a->status == 408 || a->status == 416 || a->status == 429 || a->status >= 500;
}

/* The next request of the upload. *done: the registry has said that it has the blob. */
static enum err_code step(struct upload *u, bool *done, struct answer *a, struct err *e)
{
    uint64_t left = u->layer->size - u->at;
    bool mounted = false;
    *done = false;
    *a = (struct answer){ .status = 200, .digest = "" };
    if (!u->location) {
        enum err_code code = begin(u, &mounted, e);
        *done = mounted;
        return code;
    }
    if (left > CHUNK || (u->at && left))
        return patch(u, left < CHUNK ? left : CHUNK, a, e);
    enum err_code code = put(u, a, e);
    *done = !code && is_good(a);
    return *done ? check_stored(u->p, a, u->digest, e) : code;
}

/* What is to be done about a failure: nothing (its sentence stays), or a pause and another try. */
static enum err_code recover(struct upload *u, enum err_code code, const struct answer *a, unsigned failures,
                             struct err *e)
{
    struct err lost = { 0 };
    if (!is_passing(code, a) || failures >= MAX_FAILURES)
        return code ? code : refused(u, a, e);
    log_line(LOG_INFO, "msg=\"an upload is tried again\" registry=%s blob=%s at=%llu status=%d error=\"%s\"",
             u->p->session.host, u->digest, (unsigned long long)u->at, a->status, code && e ? e->text : "");
    code = session_rest(&u->p->session, (int64_t)250 << failures, e);
    if (code || !u->location)
        return code;
    if (ask_how_far(u, &lost) == ERR_CANCELLED)
        return err_set(e, ERR_CANCELLED, "cancelled");
    if (lost.code)
        u->location = NULL;
    return ERR_OK;
}

static enum err_code send(struct upload *u, struct err *e)
{
    unsigned failures = 0;
    for (bool done = false; !done;) {
        struct answer a;
        uint64_t best = u->at;
        enum err_code code = step(u, &done, &a, e);
        if (!code && is_good(&a)) {
            failures = u->at > best ? 0 : failures;
            continue;
        }
        code = recover(u, code, &a, failures++, e);
        if (code)
            return code;
    }
    tell(u, u->layer->size);
    return ERR_OK;
}

static enum err_code push_blob(struct push *p, const struct manifest_layer *layer, bool config, struct err *e)
{
    struct upload u = { .p = p, .layer = layer, .fd = -1 };
    bool there = false;
    digest_text(&layer->digest, u.digest);
    snprintf(u.label, sizeof u.label, "pushing %.12s", u.digest + 7);
    enum err_code code = open_bytes(&u, config, e);
    if (!code)
        code = is_there(&u, &there, e);
    if (!code && there)
        tell(&u, layer->size);
    else if (!code)
        code = send(&u, e);
    if (u.fd >= 0)
        p->s->ops->close(u.fd);
    return code;
}

/* ---- the manifest ---------------------------------------------------------------------------- */

/* What the manifest says it is, or OCI's, which need not say. */
static enum err_code manifest_type(struct push *p, struct str bytes, const char **out, struct err *e)
{
    json_t *tree = NULL;
    enum err_code code = json_read(bytes, MANIFEST_MAX_BYTES, "the model's manifest", &tree, e);
    if (code)
        return code;
    const char *type = json_string_value(json_object_get(tree, "mediaType"));
    type = type && type[0] ? type : "application/vnd.oci.image.manifest.v1+json";
    *out = arena_strndup(&p->arena, type, strlen(type));
    json_decref(tree);
    return *out ? ERR_OK : no_memory(e);
}

static enum err_code push_manifest(struct push *p, struct err *e)
{
    struct session *s = &p->session;
    struct str bytes = str_from(p->model->manifest);
    struct transport_header type = { "Content-Type", NULL };
    struct answer a;
    enum err_code code = manifest_type(p, bytes, &type.value, e);
    if (code)
        return code;
    struct transport_request r = { .method = "PUT",
                                   .url = registry_url(s, s->url, "manifests", p->to.tag),
                                   .headers = &type,
                                   .n_headers = 1,
                                   .body = bytes,
                                   .body_fd = -1 };
    code = ask(p, &r, 4, &a, e);
    if (code)
        return code;
    char digest[DIGEST_TEXT_SIZE];
    snprintf(digest, sizeof digest, "sha256:%s", p->model->digest_hex);
    return is_good(&a) ? check_stored(p, &a, digest, e) : session_refused(s, a.status, a.body, "the manifest", e);
}

/* ---- the call -------------------------------------------------------------------------------- */

/* Another repository of the same registry that had the model when it was pulled. */
static void find_mount(struct push *p)
{
    struct name from;
    if (strcmp(p->model->origin, "registry") != 0 || name_parse(str_from(p->model->source), &from, NULL) ||
        !str_ieq(str_from(from.host), str_from(p->to.host)))
        return;
    snprintf(p->mount_from, sizeof p->mount_from, "%s/%s", from.namespace, from.model);
    if (strcmp(p->mount_from, p->session.path) == 0)
        p->mount_from[0] = '\0';
}

static enum err_code check_destination(struct push *p, struct err *e)
{
    const char *to = p->in->to && p->in->to[0] ? p->in->to : p->in->name;
    struct source s;
    char shown[200];
    enum err_code code = source_parse(str_from(to), &s, e);
    if (code)
        return code;
    name_shown(str_from(to), shown, sizeof shown);
    if (s.kind != SOURCE_REGISTRY)
        return err_set(e, ERR_UNSUPPORTED, "'%s' is no registry: a model is pushed to host/namespace/model:tag", shown);
    p->to = s.name;
    return p->to.pinned ? err_set(e, ERR_INVALID, "'%s': what is pushed gets a tag, and its digest is its own", shown)
                        : ERR_OK;
}

static enum err_code push_open(struct push *p, struct err *e)
{
    const struct transport_options o = { .offline = p->s->net.offline,
                                         .ca_file = p->s->net.ca_file,
                                         .connections = p->s->net.connections,
                                         .limit_rate = p->in->limit_rate };
    enum err_code code = store_resolve(p->s, p->in->name, &p->model, e);
    if (!code)
        code = manifest_read(str_from(p->model->manifest), &p->arena, &p->manifest, e);
    if (!code)
        code = transport_curl_create(&o, &p->transport, e);
    if (code)
        return code;
    p->session = (struct session){ .store = p->s,
                                   .transport = p->transport,
                                   .secrets = &p->in->secrets,
                                   .job = &p->in->job,
                                   .arena = &p->arena,
                                   .push = true };
    code = session_open(&p->session, &p->to, p->in->insecure, e);
    if (!code)
        find_mount(p);
    return code;
}

static enum err_code push_run(struct push *p, struct err *e)
{
    const struct store_job *job = &p->in->job;
    enum err_code code = check_destination(p, e);
    if (!code && p->s->net.offline)
        code = err_set(e, ERR_CONFLICT, "offline: '%.200s' was not pushed", p->in->name);
    if (code)
        return code;
    store_job_tell(job, "retrieving manifest");
    code = push_open(p, e);
    for (size_t i = 0; !code && i < p->manifest.n_layers; i++)
        code = push_blob(p, &p->manifest.layers[i], false, e);
    if (!code)
        code = push_blob(p, &p->manifest.config, true, e);
    if (code)
        return code;
    store_job_tell(job, "pushing manifest");
    code = push_manifest(p, e);
    if (!code)
        store_job_tell(job, "success");
    return code;
}

enum err_code store_push(struct store *s, const struct store_push *in, struct err *e)
{
    struct push p = { .s = s, .in = in };
    enum err_code code = push_run(&p, e);
    store_model_destroy(p.model);
    transport_destroy(p.transport);
    arena_finish(&p.arena);
    return code;
}
