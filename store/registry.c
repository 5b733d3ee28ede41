/* A model in a registry: OCI's distribution protocol, which Docker's v2 is too. */
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "store/registry.h"
#include "store/remote.h"
#include "store/session.h"

#define TAGS_SHOWN 12
#define TAGS_MAX_BYTES ((size_t)1 << 20)
#define MAX_VALUES 65536 /* of a JSON document */

static const struct transport_header accepts[] = {
    { "Accept", "application/vnd.docker.distribution.manifest.v2+json" },
    { "Accept", "application/vnd.oci.image.manifest.v1+json" },
    { "Accept", "application/vnd.oci.image.index.v1+json" },
    { "Accept", "application/vnd.docker.distribution.manifest.list.v2+json" },
};

struct registry {
    struct session session;
    struct name name;      /* what is asked for */
    const char *reference; /* a tag or a digest */
    struct manifest manifest;
};

static enum err_code no_memory(struct err *e)
{
    return err_no_memory(e, 0, "looking at a registry's model");
}

/* ---- addresses ------------------------------------------------------------------------------- */

const char *registry_url(const struct session *s, const char *base, const char *what, const char *which)
{
    struct buf b;
    buf_init(&b, NAME_HOST_MAX + 1024);
    buf_printf(&b, "%s/v2/%s/%s/%s", base, s->path, what, which);
    if (base != s->url)
        buf_printf(&b, "?ns=%s", s->host);
    const char *url = b.failed ? NULL : arena_strndup(s->arena, b.p, b.n);
    buf_finish(&b);
    return url;
}

static const char *mirror_of(const struct remote *r)
{
    return r->store->net.mirror;
}

/* ---- the manifest ---------------------------------------------------------------------------- */

/* What a registry says of the digest may be absent, but not wrong. */
static enum err_code check_digest(const struct registry *g, const char *from, const struct transfer *x,
                                  struct str body, const struct digest *wanted, struct digest *digest,
                                  struct err *e)
{
    struct digest said;
    char is[DIGEST_TEXT_SIZE], should[DIGEST_TEXT_SIZE];
    enum err_code code = manifest_digest(body, digest, e);
    if (code)
        return code;
    digest_text(digest, is);
    if (x->head.docker_digest[0] &&
        (!digest_parse(str_from(x->head.docker_digest), &said) || !digest_eq(&said, digest)))
        return err_set(e, ERR_FORMAT,
                       "%s sent a manifest for %s:%s whose digest is not the one that it states: it is %s", from,
                       g->session.path, g->reference, is);
    if (!wanted || digest_eq(wanted, digest))
        return ERR_OK;
    digest_text(wanted, should);
    return err_set(e, ERR_FORMAT, "%s sent another manifest of %s than was asked for: %s instead of %s", from,
                   g->session.path, is, should);
}

/* "; it has the tags a, b, c" */
static void list_tags(struct registry *g, struct buf *out)
{
    struct buf body;
    struct transfer *x = NULL;
    json_t *tree = NULL;
    struct transport_request r = { .url = registry_url(&g->session, g->session.url, "tags", "list?n=100"),
                                   .max_body = TAGS_MAX_BYTES,
                                   .body_fd = -1 };
    if (!r.url || session_ask(&g->session, &r, 1, &body, &x, NULL))
        return;
    if (x->head.status == 200 && !json_read_bounded(buf_str(&body), TAGS_MAX_BYTES, MAX_VALUES, "a list of tags", &tree, NULL)) {
        const json_t *tags = json_object_get(tree, "tags");
        size_t n = json_array_size(tags), shown = 0;
        for (size_t i = 0; i < n && shown < TAGS_SHOWN; i++) {
            struct name tag;
            const json_t *t = json_array_get(tags, i);
            struct str text = { json_string_value(t), json_string_length(t) };
            if (!text.n || name_parse(text, &tag, NULL) || text.n > NAME_PART_MAX)
                continue;
            buf_puts(out, shown++ ? ", " : "; it has the tags ");
            buf_put(out, text.p, text.n);
        }
        if (n > shown && shown)
            buf_puts(out, ", ...");
    }
    json_decref(tree);
    transport_end(g->session.transport, x);
    buf_finish(&body);
}

static enum err_code refused(struct registry *g, const struct transfer *x, struct str body, struct err *e)
{
    char what[NAME_TEXT_MAX + 2];
    struct buf tags;
    bool pinned = strchr(g->reference, ':') != NULL;
    snprintf(what, sizeof what, "%s%s%s", g->session.path, pinned ? "@" : ":", g->reference);
    enum err_code code = session_refused(&g->session, x->head.status, body, what, e);
    if (code != ERR_NOT_FOUND || pinned)
        return code;
    buf_init(&tags, 300);
    list_tags(g, &tags);
    if (tags.n)
        err_set(e, code, "the registry %s does not have %s%s", g->session.host, what, tags.p);
    buf_finish(&tags);
    return code;
}

static enum err_code keep(struct remote *r, struct str body, struct err *e)
{
    r->model.manifest = (struct str){ arena_strndup(&r->arena, body.p ? body.p : "", body.n), body.n };
    return r->model.manifest.p ? ERR_OK : no_memory(e);
}

static enum err_code ask_registry(struct remote *r, const char *reference, const struct digest *wanted,
                                  struct err *e)
{
    struct registry *g = r->state;
    struct transfer *x = NULL;
    struct buf body;
    struct transport_request q = { .url = registry_url(&g->session, g->session.url, "manifests", reference),
                                   .headers = accepts,
                                   .n_headers = sizeof accepts / sizeof *accepts,
                                   .max_body = MANIFEST_MAX_BYTES,
                                   .body_fd = -1 };
    enum err_code code = q.url ? session_ask(&g->session, &q, 4, &body, &x, e) : no_memory(e);
    if (code)
        return code;
    if (x->head.status != 200)
        code = refused(g, x, buf_str(&body), e);
    else
        code = check_digest(g, g->session.host, x, buf_str(&body), wanted, &r->model.digest, e);
    if (!code)
        code = keep(r, buf_str(&body), e);
    transport_end(r->transport, x);
    buf_finish(&body);
    return code;
}

/* As far as a mirror's word for a tag can be held against anything. */
static bool looks_like_manifest(struct str body)
{
    json_t *tree = NULL;
    bool good = !json_read_bounded(body, MANIFEST_MAX_BYTES, MAX_VALUES, "the manifest", &tree, NULL) &&
                (json_is_array(json_object_get(tree, "layers")) || json_is_array(json_object_get(tree, "manifests")));
    json_decref(tree);
    return good;
}

/* False: ask the registry itself. */
static bool ask_mirror(struct remote *r, const char *reference, const struct digest *wanted)
{
    struct registry *g = r->state;
    struct transfer *x = NULL;
    struct buf body;
    struct err e = { 0 };
    const char *mirror = mirror_of(r);
    struct transport_request q = { .url = registry_url(&g->session, mirror, "manifests", reference),
                                   .headers = accepts,
                                   .n_headers = sizeof accepts / sizeof *accepts,
                                   .max_body = MANIFEST_MAX_BYTES,
                                   .plain = true,
                                   .body_fd = -1 };
    const atomic_bool *cancel = r->request.job ? r->request.job->cancel : NULL;
    enum err_code code = q.url ? transport_fetch(r->transport, &q, cancel, &body, &x, &e) : no_memory(&e);
    if (!code) {
        if (x->head.status != 200)
            code = err_set(&e, ERR_NOT_FOUND, "status %d", x->head.status);
        else
            code = check_digest(g, "the mirror", x, buf_str(&body), wanted, &r->model.digest, &e);
        if (!code && !looks_like_manifest(buf_str(&body)))
            code = err_set(&e, ERR_FORMAT, "what it sent is no manifest");
        if (!code)
            code = keep(r, buf_str(&body), &e);
        transport_end(r->transport, x);
        buf_finish(&body);
    }
    if (code)
        log_line(code == ERR_NOT_FOUND ? LOG_INFO : LOG_WARN,
                 "msg=\"the mirror was passed over\" model=%s why=\"%s\"", g->session.path, e.text);
    return !code;
}

static enum err_code fetch_manifest(struct remote *r, const char *reference, const struct digest *wanted,
                                    struct err *e)
{
    if (mirror_of(r) && ask_mirror(r, reference, wanted))
        return ERR_OK;
    return ask_registry(r, reference, wanted, e);
}

/* ---- an index -------------------------------------------------------------------------------- */

static bool mentions_gguf(const json_t *entry)
{
    const char *type = json_string_value(json_object_get(entry, "artifactType"));
    const json_t *notes = json_object_get(entry, "annotations");
    const char *title = json_string_value(json_object_get(notes, MANIFEST_TITLE));
    return (type && (strstr(type, "gguf") || strstr(type, "docker.ai.model"))) ||
           (title && str_ends(str_from(title), STR(".gguf")));
}

/* The only manifest of an index, or the only one that says it is a GGUF model. */
static const json_t *pick(const json_t *list)
{
    const json_t *found = NULL;
    size_t n = json_array_size(list), hits = 0;
    if (n == 1)
        return json_array_get(list, 0);
    for (size_t i = 0; i < n; i++)
        if (mentions_gguf(json_array_get(list, i)) && ++hits == 1)
            found = json_array_get(list, i);
    return hits == 1 ? found : NULL;
}

/* *found: what has been kept is an index, and this is the manifest to ask for. */
static enum err_code look_for_index(struct remote *r, bool *found, struct digest *out, struct err *e)
{
    struct registry *g = r->state;
    json_t *tree = NULL;
    enum err_code code = json_read_bounded(r->model.manifest, MANIFEST_MAX_BYTES, MAX_VALUES, "the manifest", &tree, e);
    if (code) {
        err_prefix(e, "the registry %s", g->session.host);
        if (code == ERR_INVALID && e)
            e->code = ERR_FORMAT;
        return code == ERR_INVALID ? ERR_FORMAT : code;
    }
    const json_t *list = json_object_get(tree, "manifests");
    *found = json_is_array(list) && !json_object_get(tree, "layers");
    if (*found) {
        const json_t *one = pick(list);
        const char *digest = json_string_value(json_object_get(one, "digest"));
        if (!one)
            code = err_set(e, ERR_UNSUPPORTED,
                           "%s:%s at %s is an index of %zu manifests, and not just one of them says that it "
                           "is a GGUF model: name one by @sha256:...",
                           g->session.path, g->reference, g->session.host, json_array_size(list));
        else if (!digest || !digest_parse(str_from(digest), out))
            code = err_set(e, ERR_FORMAT, "%s:%s at %s is an index without a usable digest", g->session.path,
                           g->reference, g->session.host);
    }
    json_decref(tree);
    return code;
}

static enum err_code find_manifest(struct remote *r, struct err *e)
{
    struct registry *g = r->state;
    struct digest inner;
    char text[DIGEST_TEXT_SIZE];
    bool index = false;
    enum err_code code = fetch_manifest(r, g->reference, g->name.pinned ? &g->name.digest : NULL, e);
    if (!code)
        code = look_for_index(r, &index, &inner, e);
    if (code || !index)
        return code;
    digest_text(&inner, text);
    code = fetch_manifest(r, text, &inner, e);
    if (!code)
        code = look_for_index(r, &index, &inner, e);
    if (!code && index)
        code = err_set(e, ERR_UNSUPPORTED, "%s:%s at %s is an index of an index", g->session.path, g->reference,
                       g->session.host);
    return code;
}

/* ---- its layers ------------------------------------------------------------------------------ */

static enum err_code take_layer(struct remote *r, const struct manifest_layer *from, struct remote_layer *to,
                                struct err *e)
{
    struct registry *g = r->state;
    char digest[DIGEST_TEXT_SIZE];
    digest_text(&from->digest, digest);
    *to = (struct remote_layer){
        .kind = from->kind,
        .media_type = from->media_type,
        .file_name = from->title ? from->title : "",
        .has_digest = true,
        .has_size = true,
        .digest = from->digest,
        .size = from->size,
        .url = registry_url(&g->session, g->session.url, "blobs", digest),
        .mirror = mirror_of(r) ? registry_url(&g->session, mirror_of(r), "blobs", digest) : NULL,
        .etag = "",
    };
    return to->url && (to->mirror || !mirror_of(r)) ? ERR_OK : no_memory(e);
}

static enum err_code take_layers(struct remote *r, struct err *e)
{
    struct registry *g = r->state;
    const struct manifest *m = &g->manifest;
    struct remote_layer *layers = arena_zero(&r->arena, m->n_layers + 1, sizeof *layers);
    enum err_code code = layers ? take_layer(r, &m->config, &layers[0], e) : no_memory(e);
    for (size_t i = 0; !code && i < m->n_layers; i++)
        code = take_layer(r, &m->layers[i], &layers[i + 1], e);
    r->model.layers = layers;
    r->model.n_layers = m->n_layers + 1;
    return code;
}

/* ---- the row --------------------------------------------------------------------------------- */

static bool takes(struct str text)
{
    struct source s;
    return !source_parse(text, &s, NULL) && s.kind == SOURCE_REGISTRY;
}

/* A name that came from a registry is asked for again as it was then, whatever case it is written in now: here
 * case does not count, there it does. */
static void spell_as_before(struct remote *r, struct name *name)
{
    struct catalog *c = r->store->catalog;
    struct name tagged = *name;
    struct catalog_ref ref = { 0 };
    struct store_model here = { 0 };
    struct source before;
    tagged.pinned = false;
    pthread_mutex_lock(&r->store->mutex);
    bool known = !catalog_find(c, &tagged, &ref, NULL) && ref.tag_id &&
                 !catalog_model(c, ref.tag_id, false, &r->arena, &here, NULL);
    pthread_mutex_unlock(&r->store->mutex);
    if (!known || strcmp(here.origin, remote_registry.name) != 0 || source_parse(str_from(here.source), &before, NULL) ||
        !name_eq(&before.name, name))
        return;
    memcpy(name->host, before.name.host, sizeof name->host);
    memcpy(name->namespace, before.name.namespace, sizeof name->namespace);
    memcpy(name->model, before.name.model, sizeof name->model);
    memcpy(name->tag, before.name.tag, sizeof name->tag);
}

static enum err_code set_up(struct remote *r, struct err *e)
{
    struct registry *g = arena_zero(&r->arena, 1, sizeof *g);
    struct source s;
    char digest[DIGEST_TEXT_SIZE];
    r->state = g;
    if (!g)
        return no_memory(e);
    enum err_code code = source_parse(str_from(r->request.text), &s, e);
    if (code)
        return code;
    g->name = s.name;
    spell_as_before(r, &g->name);
    digest_text(&g->name.digest, digest);
    const char *reference = g->name.pinned ? digest : g->name.tag;
    g->reference = arena_strndup(&r->arena, reference, strlen(reference));
    g->session = (struct session){ .store = r->store,
                                   .transport = r->transport,
                                   .secrets = r->request.secrets,
                                   .job = r->request.job,
                                   .arena = &r->arena };
    return g->reference ? session_open(&g->session, &g->name, r->request.insecure, e) : no_memory(e);
}

static enum err_code describe(struct remote *r, struct err *e)
{
    struct registry *g = r->state;
    char source[NAME_TEXT_MAX + 16], canonical[NAME_TEXT_MAX + 1], digest[DIGEST_TEXT_SIZE];
    name_canonical(&g->name, canonical);
    snprintf(source, sizeof source, "%s%s", g->session.plain ? "http://" : "https://", canonical);
    digest_text(&r->model.digest, digest);
    r->model.remote = r;
    r->model.kind = "registry";
    r->model.license = "";
    r->model.plain = g->session.plain || (mirror_of(r) && str_starts(str_from(mirror_of(r)), STR("http:")));
    r->model.source = arena_strndup(&r->arena, source, strlen(source));
    r->model.revision = arena_strndup(&r->arena, digest, strlen(digest));
    r->model.name = g->name;
    r->model.name.pinned = r->model.name.http = false;
    return r->model.source && r->model.revision ? ERR_OK : no_memory(e);
}

static enum err_code open_model(struct remote *r, struct err *e)
{
    struct registry *g;
    enum err_code code = set_up(r, e);
    if (!code)
        code = find_manifest(r, e);
    if (code)
        return code;
    g = r->state;
    code = manifest_read(r->model.manifest, &r->arena, &g->manifest, e);
    if (code) {
        err_prefix(e, "%s:%s at %s", g->session.path, g->reference, g->session.host);
        return code;
    }
    code = take_layers(r, e);
    return code ? code : describe(r, e);
}

static enum err_code authorize(struct remote *r, bool was_refused, const char **value, struct err *e)
{
    struct registry *g = r->state;
    return session_authorize(&g->session, was_refused, value, e);
}

static enum err_code revision(struct remote *r, char out[80], struct err *e)
{
    char digest[DIGEST_TEXT_SIZE];
    enum err_code code = set_up(r, e);
    if (!code)
        code = find_manifest(r, e);
    if (code)
        return code;
    digest_text(&r->model.digest, digest);
    snprintf(out, 80, "%s", digest);
    return ERR_OK;
}

const struct remote_kind remote_registry = { .name = "registry",
                                             .takes = takes,
                                             .open = open_model,
                                             .authorize = authorize,
                                             .revision = revision };
