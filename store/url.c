/* A model at a plain URL: https://HOST/.../FILE.gguf[?QUERY], with @sha256:HEX or #sha256=HEX behind it
 * where its digest is known. A shard's name stands for all shards beside it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "store/hub.h"
#include "store/remote.h"
#include "store/web.h"

#define URL_SHOWN 300 /* characters of a URL in a sentence */

#define MAGIC "GGUF"

/* ---- what was written -------------------------------------------------------------------------- */

struct written {
    struct source source;     /* its text without the pin */
    struct str before, after; /* sharded: the URL around "-00001-of-00003" */
    unsigned total;           /* shards; 0: it is one file */
    bool plain, pinned;
    struct digest digest;
};

static struct str until(struct str s, const char *stop)
{
    size_t n = 0;
    while (n < s.n && s.p[n] && !strchr(stop, s.p[n]))
        n++;
    return (struct str){ s.p, n };
}

static bool starts_ci(struct str s, struct str with)
{
    return s.n >= with.n && str_ieq((struct str){ s.p, with.n }, with);
}

/* Takes "@sha256:HEX" off the end, or "#sha256=HEX"; another fragment stays. *pin: 64 hex digits, or
 * whatever stands there instead. */
static bool cut_pin(struct str *text, struct str *pin)
{
    static const char *const marks[] = { "@sha256:", "#sha256=" };
    for (size_t i = 0; i < 2; i++) {
        struct str mark = str_from(marks[i]);
        const char *at = text->n ? memmem(text->p, text->n, mark.p, mark.n) : NULL;
        if (!at)
            continue;
        *pin = (struct str){ at + mark.n, text->n - (size_t)(at - text->p) - mark.n };
        text->n = (size_t)(at - text->p);
        return true;
    }
    return false;
}

static bool url_takes(struct str text)
{
    struct str pin;
    if (hub_takes(text) || !(starts_ci(text, STR("https://")) || starts_ci(text, STR("http://"))))
        return false;
    cut_pin(&text, &pin);
    struct str path = until(text, "?#");
    return path.n > 5 && str_ieq((struct str){ path.p + path.n - 5, 5 }, STR(".gguf"));
}

static enum err_code read_pin(struct str pin, struct digest *out, struct err *e)
{
    char text[DIGEST_TEXT_SIZE] = "sha256:";
    if (pin.n == DIGEST_HEX_SIZE - 1)
        memcpy(text + strlen(text), pin.p, pin.n);
    return digest_parse(str_from(text), out)
               ? ERR_OK
               : err_set(e, ERR_INVALID, "a URL's digest is written @sha256: (or #sha256=) and 64 hex digits");
}

static enum err_code read_url(struct remote *r, struct written *w, struct err *e)
{
    struct str text = str_from(r->request.text), pin;
    enum err_code code = ERR_OK;
    w->pinned = cut_pin(&text, &pin);
    if (w->pinned)
        code = read_pin(pin, &w->digest, e);
    if (!code)
        code = source_parse(text, &w->source, e);
    if (!code && w->source.kind != SOURCE_URL)
        code = err_set(e, ERR_INVALID, "not the URL of a GGUF file");
    struct str url = str_from(w->source.text);
    if (!code)
        code = web_check(url, r->request.insecure, "the model's URL", &w->plain, e);
    if (!code && r->request.insecure && !w->plain)
        code = transport_trust(r->transport, w->source.text, e);
    if (code)
        return code;
    struct str path = until(url, "?"), stem = { path.p, path.n - 5 };
    unsigned part;
    if (!hub_cut_shard(&stem, &part, &w->total))
        return ERR_OK;
    w->before = stem;
    w->after = (struct str){ path.p + path.n - 5, url.n - path.n + 5 };
    if (w->total > STORE_MAX_FILES || part == 0 || part > w->total)
        return err_set(e, ERR_INVALID, "the model's URL names shard %u of %u; 1 to %d are taken", part, w->total,
                       STORE_MAX_FILES);
    if (w->pinned && w->total > 1)
        return err_set(e, ERR_INVALID, "a digest pins one file; this URL stands for %u", w->total);
    return ERR_OK;
}

static const char *shard_url(struct remote *r, const struct written *w, unsigned part, struct err *e)
{
    struct buf b;
    buf_init(&b, SOURCE_TEXT_MAX);
    if (!w->total) {
        buf_puts(&b, w->source.text);
    } else {
        buf_put(&b, w->before.p, w->before.n);
        buf_printf(&b, "-%05u-of-%05u", part, w->total);
        buf_put(&b, w->after.p, w->after.n);
    }
    char *url = b.failed ? NULL : arena_strndup(&r->arena, b.p, b.n);
    if (!url)
        err_no_memory(e, b.n, "asking for a file");
    buf_finish(&b);
    return url;
}

/* ---- what is there ----------------------------------------------------------------------------- */

struct probe {
    struct arena *arena;
    bool cut;          /* a whole body would follow, which is not wanted now */
    int status;
    bool has_size, page;
    uint64_t size;
    const char *etag;
};

static enum err_code probe_head(void *user, const struct transport_head *h, struct err *e)
{
    struct probe *p = user;
    p->status = h->status;
    p->page = h->content_type && starts_ci(str_from(h->content_type), STR("text/html"));
    p->has_size = h->status == 206 ? h->has_range : h->has_length;
    p->size = h->status == 206 ? h->total : h->length;
    p->etag = h->etag ? arena_strndup(p->arena, h->etag, strlen(h->etag)) : "";
    if (!p->etag)
        return err_no_memory(e, 0, "asking for a file");
    p->cut = h->status == 200;
    return p->cut ? err_set(e, ERR_CANCELLED, "the head was enough") : ERR_OK;
}

/* "https://host/path", without a query */
struct shown {
    char text[URL_SHOWN + 4];
};
static struct shown show(const char *url)
{
    struct shown s;
    struct str u = until(str_from(url), "?#");
    snprintf(s.text, sizeof s.text, "%.*s%s", (int)(u.n < URL_SHOWN ? u.n : URL_SHOWN), u.p,
             u.n > URL_SHOWN ? "..." : "");
    return s;
}

static enum err_code judge(const struct probe *p, const char *url, const struct buf *body, struct err *e)
{
    if (p->status == 404 || p->status == 410)
        return err_set(e, ERR_NOT_FOUND, "there is no file at %s (status %d)", show(url).text, p->status);
    if (p->status == 401 || p->status == 403)
        return err_set(e, ERR_FORBIDDEN, "%s is not open to all (status %d)", show(url).text, p->status);
    if (p->status == 416)
        return err_set(e, ERR_FORMAT, "the file at %s is empty", show(url).text);
    if (p->status != 200 && p->status != 206)
        return err_set(e, p->status >= 500 ? ERR_IO : ERR_FORMAT, "%s answered with status %d", show(url).text,
                       p->status);
    if (p->page)
        return err_set(e, ERR_FORMAT, "%s is a page, not a file: look for its download link", show(url).text);
    if (p->has_size && (p->size == 0 || p->size > HUB_FILE_MAX))
        return err_set(e, p->size ? ERR_TOO_LARGE : ERR_FORMAT, "the file at %s has %" PRIu64 " bytes",
                       show(url).text, p->size);
    if (p->status == 206 && !str_eq(buf_str(body), STR(MAGIC)))
        return err_set(e, ERR_FORMAT, "the file at %s is not GGUF: it does not begin with those letters",
                       show(url).text);
    return ERR_OK;
}

static enum err_code ask(struct remote *r, const char *url, bool plain, bool by_head, struct probe *p,
                         struct buf *body, struct err *e)
{
    struct transport_request q = { .method = by_head ? "HEAD" : NULL, .url = url, .plain = plain,
                                   .has_range = !by_head, .first = 0, .last = sizeof MAGIC - 2,
                                   .max_body = sizeof MAGIC - 1, .on_head = probe_head, .user = p };
    struct transfer *x = NULL;
    *p = (struct probe){ .arena = &r->arena, .etag = "" };
    enum err_code code = web_fetch(r->transport, &q, r->request.job, body, &x, e);
    transport_end(r->transport, x);
    if (code != ERR_CANCELLED || !p->cut || store_job_cancelled(r->request.job))
        return code;
    if (e)
        err_clear(e);
    return ERR_OK;
}

/* Asks for the first four bytes, as HEAD is refused by many a signed URL; a server without ranges is
 * asked by HEAD. */
static enum err_code probe(struct remote *r, const char *url, bool plain, struct probe *p, struct err *e)
{
    struct buf body = { 0 };
    struct err first = { 0 };
    enum err_code code = ask(r, url, plain, false, p, &body, &first);
    if (code == ERR_TOO_LARGE && !p->status)
        code = ask(r, url, plain, true, p, &body, e);
    else if (code && e)
        *e = first;
    if (!code)
        code = judge(p, url, &body, e);
    buf_finish(&body);
    return code;
}

/* ---- revisions: an ETag without its quotes, or the length --------------------------------------------------------- */

static void put_revision(struct buf *b, const struct probe *p)
{
    for (const char *c = p->etag; *c; c++)
        if (*c > ' ' && *c <= '~' && *c != '"' && *c != '\\')
            buf_putc(b, *c);
    if (!p->etag[0] && p->has_size)
        buf_printf(b, "length=%" PRIu64, p->size);
}

/* Of more than one file, and of a long ETag, the SHA-256. */
static enum err_code fit_revision(const struct buf *all, bool one, char revision[80], struct err *e)
{
    if (all->failed)
        return err_no_memory(e, all->n, "asking for a file");
    if (one && all->n < 80) {
        memcpy(revision, all->n ? all->p : "", all->n);
        revision[all->n] = '\0';
        return ERR_OK;
    }
    struct digest d;
    char hex[DIGEST_HEX_SIZE];
    if (!EVP_Digest(all->p, all->n, d.b, NULL, EVP_sha256(), NULL))
        return err_no_memory(e, all->n, "asking for a file");
    digest_hex(&d, hex);
    memcpy(revision, hex, sizeof hex);
    return ERR_OK;
}

/* Looks at each file; with `layers`, writes them down. */
static enum err_code look(struct remote *r, const struct written *w, struct remote_layer *layers, char revision[80],
                          struct err *e)
{
    const unsigned n = w->total ? w->total : 1;
    struct buf all;
    buf_init(&all, (size_t)4 << 20);
    enum err_code code = ERR_OK;
    for (unsigned i = 0; !code && i < n; i++) {
        struct probe p;
        const char *url = shard_url(r, w, i + 1, e);
        code = url ? probe(r, url, w->plain, &p, e) : ERR_NO_MEMORY;
        if (code)
            break;
        put_revision(&all, &p);
        if (n > 1)
            buf_putc(&all, '\n');
        if (layers)
            layers[i] = (struct remote_layer){ .kind = MEDIA_MODEL, .media_type = media_type_of(MEDIA_MODEL),
                                               .file_name = "", .has_digest = w->pinned, .digest = w->digest,
                                               .has_size = p.has_size, .size = p.has_size ? p.size : 0,
                                               .url = url, .etag = p.etag };
    }
    if (!code)
        code = fit_revision(&all, n == 1, revision, e);
    buf_finish(&all);
    return code;
}

/* ---- the row ----------------------------------------------------------------------------------- */

static enum err_code describe(struct remote *r, const struct written *w, const struct remote_layer *layers,
                              const char revision[80], struct err *e)
{
    struct remote_model *m = &r->model;
    m->name = w->source.name;
    m->name.http = false;
    m->kind = "url";
    m->plain = w->plain;
    m->license = "";
    m->source = arena_strndup(&r->arena, w->source.text, w->source.public_n);
    m->revision = arena_strndup(&r->arena, revision, strlen(revision));
    m->layers = layers;
    m->n_layers = w->total ? w->total : 1;
    return m->source && m->revision ? ERR_OK : err_no_memory(e, w->source.public_n, "asking for a file");
}

static enum err_code read_and_look(struct remote *r, bool open, char revision[80], struct err *e)
{
    struct written *w = arena_zero(&r->arena, 1, sizeof *w);
    struct remote_layer *layers = NULL;
    if (!w)
        return err_no_memory(e, sizeof *w, "asking for a file");
    enum err_code code = read_url(r, w, e);
    if (code)
        return code;
    if (open) {
        layers = arena_zero(&r->arena, w->total ? w->total : 1, sizeof *layers);
        if (!layers)
            return err_no_memory(e, w->total * sizeof *layers, "asking for a file");
    }
    code = look(r, w, layers, revision, e);
    return code || !open ? code : describe(r, w, layers, revision, e);
}

static enum err_code url_open(struct remote *r, struct err *e)
{
    char revision[80];
    return read_and_look(r, true, revision, e);
}

static enum err_code url_authorize(struct remote *r, bool refused, const char **value, struct err *e)
{
    *value = NULL;
    return refused ? err_set(e, ERR_FORBIDDEN, "%s is not open to all (status 401)", show(r->model.source).text) : ERR_OK;
}

static enum err_code url_revision(struct remote *r, char revision[80], struct err *e)
{
    return read_and_look(r, false, revision, e);
}

static void url_close(struct remote *r)
{
    (void)r; /* the arena owns it all */
}

const struct remote_kind remote_url = { .name = "url", .takes = url_takes, .open = url_open,
                                        .authorize = url_authorize, .revision = url_revision, .close = url_close };
