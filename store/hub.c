#include "store/hub.h"

#include <string.h>

#include <openssl/evp.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "store/origin.h"
#include "store/remote.h"
#include "store/web.h"

#define HUB_ENDPOINT "https://huggingface.co"
#define HUB_URL_MAX 8192
#define HUB_TOKEN_MAX 1024

struct hub {
    struct hub_ask ask;
    struct hub_repo repo;
    const char *endpoint, *mirror; /* without a slash at the end; mirror: NULL */
    bool endpoint_plain, mirror_plain;
    const char *authorization;     /* "Bearer ..."; NULL */
};

/* ---- where, and as whom ------------------------------------------------------------------------ */

static enum err_code take_base(struct remote *r, const char *url, bool insecure, const char *what,
                               const char **out, bool *plain, struct err *e)
{
    struct str base = str_from(url);
    while (base.n && base.p[base.n - 1] == '/')
        base.n--;
    enum err_code code = web_check(base, insecure, what, plain, e);
    if (!code && (memchr(base.p, '?', base.n) || memchr(base.p, '#', base.n) || base.n > 1024))
        code = err_set(e, ERR_INVALID, "%s is an address without a query, of at most 1024 characters", what);
    if (code)
        return code;
    *out = arena_strndup(&r->arena, base.p, base.n);
    return *out ? ERR_OK : err_no_memory(e, base.n, "asking the hub");
}

/* The token may end in a newline, as files of tokens do; it may hold nothing that would end a header. */
static enum err_code take_token(struct remote *r, struct hub *h, struct err *e)
{
    struct str token = str_from(r->request.secrets ? r->request.secrets->hf_token : NULL);
    while (token.n && (unsigned char)token.p[token.n - 1] <= ' ')
        token.n--;
    if (!token.n)
        return ERR_OK;
    for (size_t i = 0; i < token.n; i++)
        if (token.p[i] <= ' ' || token.p[i] > '~')
            return err_set(e, ERR_INVALID, "HF_TOKEN holds a byte that no token has");
    if (token.n > HUB_TOKEN_MAX)
        return err_set(e, ERR_INVALID, "HF_TOKEN has %zu characters; at most %d are taken", token.n, HUB_TOKEN_MAX);
    static const char bearer[] = "Bearer ";
    char *value = arena_zero(&r->arena, 1, sizeof bearer + token.n);
    if (!value)
        return err_no_memory(e, token.n, "asking the hub");
    memcpy(value, bearer, sizeof bearer - 1);
    memcpy(value + sizeof bearer - 1, token.p, token.n);
    h->authorization = value;
    return ERR_OK;
}

static enum err_code prepare(struct remote *r, struct hub **out, struct err *e)
{
    const struct store_net *net = &r->store->net;
    struct hub *h = arena_zero(&r->arena, 1, sizeof *h);
    r->state = *out = h;
    if (!h)
        return err_no_memory(e, sizeof *h, "asking the hub");
    enum err_code code = hub_ask_parse(str_from(r->request.text), &r->arena, &h->ask, e);
    if (!code)
        code = take_base(r, net->hf_endpoint ? net->hf_endpoint : HUB_ENDPOINT, r->request.insecure, "HF_ENDPOINT",
                         &h->endpoint, &h->endpoint_plain, e);
    if (!code && net->mirror)
        code = take_base(r, net->mirror, r->request.insecure, "HEARTH_MIRROR", &h->mirror, &h->mirror_plain, e);
    return code ? code : take_token(r, h, e);
}

/* ---- refusals: what the hub's statuses mean, and what to do -------------------------------------- */

static bool body_says(const struct buf *b, const char *text)
{
    size_t n = strlen(text);
    return b && b->n >= n && memmem(b->p, b->n, text, n);
}

static enum err_code refused_gated(const struct hub *h, struct err *e)
{
    const char *org = h->ask.name.namespace, *repo = h->ask.name.model;
    if (!h->authorization)
        return err_set(e, ERR_FORBIDDEN,
                       "hf.co/%s/%s is gated: accept its terms at %s/%s/%s, then set HF_TOKEN to a token of that "
                       "account",
                       org, repo, h->endpoint, org, repo);
    return err_set(e, ERR_FORBIDDEN,
                   "hf.co/%s/%s is gated, and the account of HF_TOKEN may not read it: accept its terms (or wait "
                   "until its owner grants the request) at %s/%s/%s",
                   org, repo, h->endpoint, org, repo);
}

static enum err_code refused_401(const struct hub *h, struct err *e)
{
    const char *org = h->ask.name.namespace, *repo = h->ask.name.model;
    if (h->authorization)
        return err_set(e, ERR_FORBIDDEN,
                       "the hub does not take the token in HF_TOKEN for hf.co/%s/%s: make another at "
                       "%s/settings/tokens",
                       org, repo, h->endpoint);
    return err_set(e, ERR_NOT_FOUND,
                   "the hub has no hf.co/%s/%s that is open to all: look at its spelling; if it is private, set "
                   "HF_TOKEN",
                   org, repo);
}

static enum err_code refused_404(const struct hub *h, const struct buf *body, struct err *e)
{
    const char *org = h->ask.name.namespace, *repo = h->ask.name.model;
    if (h->ask.revision.n && !body_says(body, "epository not found"))
        return err_set(e, ERR_NOT_FOUND, "hf.co/%s/%s has no revision '%.*s'", org, repo, (int)h->ask.revision.n,
                       h->ask.revision.p);
    return err_set(e, ERR_NOT_FOUND, "the hub has no hf.co/%s/%s%s", org, repo,
                   h->authorization ? ", or the account of HF_TOKEN may not see it"
                                    : ": look at its spelling; if it is private, set HF_TOKEN");
}

static enum err_code refused(const struct hub *h, int status, const struct buf *body, struct err *e)
{
    const char *org = h->ask.name.namespace, *repo = h->ask.name.model;
    if ((status == 401 || status == 403) &&
        (h->repo.gated || body_says(body, "gated") || body_says(body, "Access to model")))
        return refused_gated(h, e);
    if (status == 401)
        return refused_401(h, e);
    if (status == 403)
        return err_set(e, ERR_FORBIDDEN, "the hub refuses hf.co/%s/%s (status 403)%s", org, repo,
                       h->authorization ? "; the token in HF_TOKEN may lack the right to read it" : "");
    if (status == 404)
        return refused_404(h, body, e);
    return err_set(e, status >= 500 ? ERR_IO : ERR_FORMAT, "the hub answered hf.co/%s/%s with status %d", org, repo,
                   status);
}

/* ---- requests ---------------------------------------------------------------------------------- */

/* Where the API is asked: the mirror first, without a credential. */
struct base {
    const char *url;
    bool plain;
    const char *authorization;
};

static struct transport_request request_of(const struct base *at, const char *url, size_t max_body)
{
    return (struct transport_request){ .url = url, .plain = at->plain, .authorization = at->authorization,
                                       .max_body = max_body };
}

/* *body: of a 200. *next (may be NULL): the next page, in the arena; NULL at the end. */
static enum err_code get(struct remote *r, const struct base *at, const char *url, size_t max, struct buf *body,
                         const char **next, struct err *e)
{
    const struct transport_request q = request_of(at, url, max);
    struct transfer *x = NULL;
    enum err_code code = web_fetch(r->transport, &q, r->request.job, body, &x, e);
    if (code)
        return code;
    if (x->head.status != 200)
        code = refused(r->state, x->head.status, body, e);
    if (!code && next && x->head.next_url && x->head.next_url[0]) {
        *next = arena_strndup(&r->arena, x->head.next_url, strlen(x->head.next_url));
        code = *next ? ERR_OK : err_no_memory(e, HUB_URL_MAX, "asking the hub");
    }
    transport_end(r->transport, x);
    if (code)
        buf_finish(body);
    return code;
}

/* BASE/api/models/ORG/REPO... or BASE/ORG/REPO... */
static void put_repo(struct buf *b, const struct hub *h, const char *base, const char *api)
{
    buf_printf(b, "%s%s/%s/%s", base, api, h->ask.name.namespace, h->ask.name.model);
}

static const char *take_url(struct remote *r, struct buf *b, struct err *e)
{
    char *url = b->failed ? NULL : arena_strndup(&r->arena, b->p, b->n);
    if (!url)
        err_no_memory(e, b->n, "asking the hub");
    buf_finish(b);
    return url;
}

/* BASE/ORG/REPO/resolve/COMMIT/PATH */
static const char *file_url(struct remote *r, const struct hub *h, const char *base, const struct hub_file *f,
                            struct err *e)
{
    struct buf b;
    buf_init(&b, HUB_URL_MAX);
    put_repo(&b, h, base, "");
    buf_printf(&b, "/resolve/%s/", h->repo.commit);
    web_escape(&b, str_from(f->path), true);
    return take_url(r, &b, e);
}

/* A page's link must lead to where we are: it is followed with the token. An endpoint that stands in for
 * the hub may hand out the hub's own links. */
static enum err_code next_page(struct remote *r, const struct base *at, const char **next, struct err *e)
{
    struct origin here, there;
    struct str url = str_from(*next);
    if (!origin_of(str_from(at->url), &here) || !origin_of(url, &there))
        return err_set(e, ERR_FORMAT, "the hub's answer names a next page that is no URL");
    if (origin_eq(&here, &there))
        return ERR_OK;
    if (!str_eq(there.text, STR(HUB_ENDPOINT)))
        return err_set(e, ERR_FORBIDDEN, "the hub's answer names a next page at another place: %.*s",
                       (int)(there.text.n < 200 ? there.text.n : 200), there.text.p);
    struct buf b;
    buf_init(&b, HUB_URL_MAX);
    buf_puts(&b, at->url);
    buf_put(&b, url.p + there.text.n, url.n - there.text.n);
    *next = take_url(r, &b, e);
    return *next ? ERR_OK : ERR_NO_MEMORY;
}

static enum err_code ask_info(struct remote *r, struct hub *h, const struct base *at, struct err *e)
{
    struct buf b, body;
    buf_init(&b, HUB_URL_MAX);
    put_repo(&b, h, at->url, "/api/models");
    if (h->ask.revision.n) {
        buf_puts(&b, "/revision/");
        web_escape(&b, h->ask.revision, false);
    }
    buf_puts(&b, "?expand=sha&expand=cardData&expand=gated");
    const char *url = take_url(r, &b, e);
    enum err_code code = url ? get(r, at, url, HUB_REPLY_MAX, &body, NULL, e) : ERR_NO_MEMORY;
    if (code)
        return code;
    code = hub_read_info(buf_str(&body), &r->arena, &h->repo, e);
    buf_finish(&body);
    struct str asked = h->ask.revision;
    bool commit = asked.n && asked.n == strlen(h->repo.commit) && strspn(asked.p, "0123456789abcdefABCDEF") >= asked.n;
    if (!code && commit && !str_ieq(asked, str_from(h->repo.commit)))
        code = err_set(e, ERR_FORMAT, "the hub was asked for commit %.*s and answered with %s", (int)asked.n, asked.p,
                       h->repo.commit);
    return code;
}

static enum err_code ask_tree(struct remote *r, struct hub *h, const struct base *at, struct err *e)
{
    struct buf b, body;
    buf_init(&b, HUB_URL_MAX);
    put_repo(&b, h, at->url, "/api/models");
    buf_printf(&b, "/tree/%s?recursive=true", h->repo.commit);
    const char *url = take_url(r, &b, e);
    enum err_code code = url ? ERR_OK : ERR_NO_MEMORY;
    for (size_t page = 0; !code && url; page++) {
        const char *next = NULL;
        if (page == HUB_MAX_PAGES)
            return err_set(e, ERR_TOO_LARGE, "the repository's list of files has more than %d pages", HUB_MAX_PAGES);
        code = get(r, at, url, HUB_REPLY_MAX, &body, &next, e);
        if (code)
            return code;
        code = hub_read_tree(buf_str(&body), &r->arena, &h->repo, e);
        buf_finish(&body);
        if (!code && next)
            code = next_page(r, at, &next, e);
        url = next;
    }
    return code;
}

static enum err_code ask_at(struct remote *r, struct hub *h, const struct base *at, bool tree, struct err *e)
{
    h->repo = (struct hub_repo){ .license = "" };
    enum err_code code = ask_info(r, h, at, e);
    return !code && tree ? ask_tree(r, h, at, e) : code;
}

static struct base at_home(const struct hub *h)
{
    return (struct base){ h->endpoint, h->endpoint_plain, h->authorization };
}

/* No other place is asked after these. */
static bool is_end(enum err_code code)
{
    return code == ERR_CANCELLED || code == ERR_NO_MEMORY || code == ERR_CONFLICT;
}

/* A mirror that does not have it, or does not answer, is passed over. */
static enum err_code ask(struct remote *r, struct hub *h, bool tree, struct base *at, struct err *e)
{
    struct err why = { 0 };
    if (h->mirror) {
        *at = (struct base){ h->mirror, h->mirror_plain, NULL };
        enum err_code code = ask_at(r, h, at, tree, &why);
        if (!code)
            return ERR_OK;
        if (is_end(code))
            return err_set(e, code, "%s", why.text);
        log_line(LOG_INFO, "msg=\"the mirror does not have it\" repo=%s/%s error=\"%s\"", h->ask.name.namespace,
                 h->ask.name.model, why.text);
    }
    *at = at_home(h);
    return ask_at(r, h, at, tree, e);
}

/* ---- layers ------------------------------------------------------------------------------------ */

struct layers {
    struct remote *r;
    struct hub *h;
    const struct base *at;
    struct remote_layer *v;
    size_t n;
};

static enum err_code add(struct layers *l, size_t file, enum media_kind kind, struct err *e)
{
    const struct hub_file *f = &l->h->repo.files[file];
    struct remote_layer *layer = &l->v[l->n];
    *layer = (struct remote_layer){ .kind = kind, .media_type = media_type_of(kind), .file_name = f->path,
                                    .has_digest = f->has_sha256, .digest = f->sha256,
                                    .git = f->has_sha256 || !f->has_blob ? NULL : f->blob, .has_size = true,
                                    .size = f->size, .etag = "" };
    layer->url = file_url(l->r, l->h, l->h->endpoint, f, e);
    if (layer->url && l->h->mirror)
        layer->mirror = file_url(l->r, l->h, l->h->mirror, f, e);
    if (!layer->url || (l->h->mirror && !layer->mirror))
        return ERR_NO_MEMORY;
    l->n++;
    return ERR_OK;
}

static enum err_code check_text(const struct hub_file *f, enum media_kind kind, struct str text, struct digest *out,
                                struct err *e)
{
    json_t *json;
    if (!EVP_Digest(text.p ? text.p : "", text.n, out->b, NULL, EVP_sha256(), NULL))
        return err_no_memory(e, text.n, "hashing a file of the hub");
    if (text.n != f->size || (f->has_sha256 && !digest_eq(out, &f->sha256)) ||
        (f->has_blob && !hub_blob_is(f, text)))
        return err_set(e, ERR_FORMAT, "the hub sent other bytes for '%s' than its list tells: pull again", f->path);
    if (utf8_valid(text.p, text.n) != text.n)
        return err_set(e, ERR_FORMAT, "the repository's file '%s' is not UTF-8 text", f->path);
    if (kind != MEDIA_PARAMS)
        return ERR_OK;
    enum err_code code = json_read_bounded(text, MEDIA_TEXT_MAX, HUB_REPLY_VALUES, "the repository's file 'params'",
                                           &json, e);
    if (!code && !json_is_object(json))
        code = err_set(e, ERR_FORMAT, "the repository's file 'params' is not a JSON object");
    json_decref(json);
    return code;
}

static enum err_code fetch_text(struct layers *l, const struct base *at, const struct hub_file *f, enum media_kind kind,
                                struct digest *out, struct err *e)
{
    struct buf body;
    const char *url = file_url(l->r, l->h, at->url, f, e);
    enum err_code code = url ? get(l->r, at, url, (size_t)f->size, &body, NULL, e) : ERR_NO_MEMORY;
    if (code)
        return code;
    code = check_text(f, kind, buf_str(&body), out, e);
    buf_finish(&body);
    return code;
}

/* Texts have no SHA-256 on the hub: they are fetched now, held against git's hash, and hashed. */
static enum err_code add_text(struct layers *l, size_t file, enum media_kind kind, struct err *e)
{
    struct hub_file *f = &l->h->repo.files[file];
    const struct base home = at_home(l->h);
    struct digest is;
    struct err why = { 0 };
    if (f->size > MEDIA_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "the repository's file '%s' has %llu bytes; at most %zu are taken", f->path,
                       (unsigned long long)f->size, MEDIA_TEXT_MAX);
    if (f->size == 0)
        return ERR_OK;
    enum err_code code = fetch_text(l, l->at, f, kind, &is, &why);
    if (code && l->at->url == l->h->mirror && !is_end(code))
        code = fetch_text(l, &home, f, kind, &is, &why);
    if (code)
        return err_set(e, code, "%s", why.text);
    f->sha256 = is;
    f->has_sha256 = true;
    return add(l, file, kind, e);
}

static enum err_code add_all(struct layers *l, const struct hub_choice *c, struct err *e)
{
    const struct {
        size_t file;
        enum media_kind kind;
    } texts[] = { { c->template, MEDIA_TEMPLATE }, { c->system, MEDIA_SYSTEM },
                  { c->params, MEDIA_PARAMS }, { c->license, MEDIA_LICENSE } };
    const size_t n_texts = sizeof texts / sizeof *texts;
    l->v = arena_zero(&l->r->arena, c->n_models + 1 + n_texts, sizeof *l->v);
    if (!l->v)
        return err_no_memory(e, c->n_models * sizeof *l->v, "asking the hub");
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < c->n_models; i++)
        code = add(l, c->models[i], MEDIA_MODEL, e);
    if (!code && c->projector != HUB_NONE)
        code = add(l, c->projector, MEDIA_PROJECTOR, e);
    for (size_t i = 0; !code && i < n_texts; i++)
        if (texts[i].file != HUB_NONE)
            code = add_text(l, texts[i].file, texts[i].kind, e);
    return code;
}

/* A gated repository shows its list to everybody, and its files to those who were let in: better told
 * now than in the middle of a pull. */
static enum err_code knock(struct remote *r, struct hub *h, const struct base *at, const struct hub_file *f,
                           struct err *e)
{
    const char *url = file_url(r, h, at->url, f, e);
    struct transport_request q = request_of(at, url, 1);
    struct transfer *x = NULL;
    if (!url)
        return ERR_NO_MEMORY;
    q.method = "HEAD";
    q.no_redirect = true;
    enum err_code code = web_fetch(r->transport, &q, r->request.job, NULL, &x, e);
    if (code)
        return code;
    if (x->head.status >= 400)
        code = refused(h, x->head.status, NULL, e);
    transport_end(r->transport, x);
    return code;
}

/* As the name is read again when the model is looked up anew. */
static const char *source_of(struct remote *r, const struct hub_ask *ask, struct err *e)
{
    struct buf b;
    buf_init(&b, HUB_URL_MAX);
    if (ask->exact) {
        buf_printf(&b, "%s/%s/%s/blob/", HUB_ENDPOINT, ask->name.namespace, ask->name.model);
        web_escape(&b, ask->revision, false);
        buf_putc(&b, '/');
        web_escape(&b, ask->want, true);
        return take_url(r, &b, e);
    }
    buf_printf(&b, NAME_HUB_HOST "/%s/%s", ask->name.namespace, ask->name.model);
    if (ask->want.n) {
        buf_putc(&b, ':');
        buf_put(&b, ask->want.p, ask->want.n);
    }
    if (ask->revision.n) {
        buf_putc(&b, '@');
        buf_put(&b, ask->revision.p, ask->revision.n);
    }
    return take_url(r, &b, e);
}

static enum err_code describe(struct remote *r, const struct hub *h, const struct layers *l, struct err *e)
{
    struct remote_model *m = &r->model;
    m->name = h->ask.name;
    m->kind = "hub";
    m->plain = h->endpoint_plain || h->mirror_plain;
    m->source = source_of(r, &h->ask, e);
    m->revision = h->repo.commit;
    m->license = h->repo.license;
    m->layers = l->v;
    m->n_layers = l->n;
    return m->source ? ERR_OK : ERR_NO_MEMORY;
}

/* ---- the row ----------------------------------------------------------------------------------- */

static enum err_code hub_open(struct remote *r, struct err *e)
{
    struct hub *h;
    struct base at;
    struct hub_choice choice;
    enum err_code code = prepare(r, &h, e);
    if (!code)
        code = ask(r, h, true, &at, e);
    if (!code)
        code = hub_choose(&h->repo, &h->ask, &r->arena, &choice, e);
    if (!code && h->repo.gated)
        code = knock(r, h, &at, &h->repo.files[choice.models[0]], e);
    struct layers l = { .r = r, .h = h, .at = &at };
    if (!code)
        code = add_all(&l, &choice, e);
    return code ? code : describe(r, h, &l, e);
}

static enum err_code hub_authorize(struct remote *r, bool was_refused, const char **value, struct err *e)
{
    struct hub *h = r->state;
    *value = h->authorization;
    return was_refused ? refused(h, 401, NULL, e) : ERR_OK;
}

static enum err_code hub_revision(struct remote *r, char revision[80], struct err *e)
{
    struct hub *h;
    struct base at;
    enum err_code code = prepare(r, &h, e);
    if (!code)
        code = ask(r, h, false, &at, e);
    if (!code)
        memcpy(revision, h->repo.commit, sizeof h->repo.commit);
    return code;
}

static void hub_close(struct remote *r)
{
    (void)r; /* the arena owns it all */
}

const struct remote_kind remote_hub = { .name = "hub", .takes = hub_takes, .open = hub_open,
                                        .authorize = hub_authorize, .revision = hub_revision, .close = hub_close };
