#include "daemon/routes.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/body.h"
#include "daemon/gen.h"

static void start_gen(struct daemon *d, struct http_request *r, int kind)
{
    gen_start(d, r, (enum gen_kind)kind);
}

struct route {
    const char *method, *path;
    route_handler *handler;
    int arg;
    enum { FOR_ALL, FOR_OWNER } who;
    size_t max_json; /* bytes of its body, which is then read as body.h says */
    const char *help;
};
#define SMALL ((size_t)1 << 20)
#define LARGE PROTOCOL_MAX_BODY
static const struct route routes[] = {
    { "GET", "/", health_root, 0, FOR_ALL, 0, "says that the daemon runs" },
    { "GET", "/api/version", models_version, 0, FOR_ALL, 0, "the version of Ollama's API, and the daemon's own" },
    { "GET", "/api/key", models_key, 0, FOR_OWNER, 0, "the store's public key, by which Ollama's registry knows it" },
    { "GET", "/api/tags", models_tags, 0, FOR_ALL, 0, "all models, newest first" },
    { "GET", "/api/ps", models_ps, 0, FOR_ALL, 0, "the models in memory" },
    { "POST", "/api/show", models_show, 0, FOR_ALL, SMALL, "what is known of a model" },
    { "POST", "/api/copy", models_copy, 0, FOR_OWNER, SMALL, "a second name for a model" },
    { "DELETE", "/api/delete", models_delete, 0, FOR_OWNER, SMALL, "takes a model's name away" },
    { "POST", "/api/pull", transfer_pull, PULL_PULL, FOR_OWNER, SMALL, "a model from a registry, the hub or a URL" },
    { "POST", "/api/push", transfer_pull, PULL_PUSH, FOR_OWNER, SMALL, "a model to a registry" },
    { "POST", "/api/outdated", transfer_pull, PULL_OUTDATED, FOR_OWNER, SMALL, "models that have changed where they are from" },
    { "DELETE", "/api/pull", transfer_stop, 0, FOR_OWNER, SMALL, "stops what is under way for a model" },
    { "POST", "/api/import", transfer_import, 0, FOR_OWNER, SMALL, "a model from a file of this machine" },
    { "POST", "/api/export", bundle_export, 0, FOR_OWNER, SMALL, "models into a file of this machine" },
    { "POST", "/api/create", models_create, 0, FOR_OWNER, LARGE, "a model of another one, or of files, with texts" },
    { "HEAD", "/api/blobs/*", blobs_head, 0, FOR_ALL, 0, "whether a blob is here" },
    { "POST", "/api/blobs/*", blobs_post, 0, FOR_OWNER, 0, "takes a blob for a model to be created" },
    { "POST", "/api/quantize", transfer_quantize, 0, FOR_OWNER, SMALL, "a model made into one of a smaller type" },
    { "POST", "/api/adopt", transfer_adopt, 0, FOR_OWNER, SMALL, "other programs' models: listed, and taken in place" },
    { "POST", "/api/verify", store_care, CARE_VERIFY, FOR_OWNER, SMALL, "whether models are as they came, by each MiB" },
    { "POST", "/api/prune", store_care, CARE_PRUNE, FOR_OWNER, SMALL, "removes what nothing names" },
    { "POST", "/api/generate", start_gen, GEN_GENERATE, FOR_ALL, 0, "continues a prompt" },
    { "POST", "/api/chat", start_gen, GEN_CHAT, FOR_ALL, 0, "answers messages" },
    { "POST", "/api/tokenize", start_gen, GEN_TOKENIZE, FOR_ALL, 0, "text to token ids" },
    { "POST", "/api/detokenize", start_gen, GEN_DETOKENIZE, FOR_ALL, 0, "token ids to text" },
    { "POST", "/api/render", start_gen, GEN_RENDER, FOR_ALL, 0, "the prompt that chat would be given" },
    { "POST", "/api/score", start_gen, GEN_SCORE, FOR_ALL, 0, "log-probability of each token" },
    { "GET", "/healthz", health_live, 0, FOR_ALL, 0, "proves that engine and device answer" },
    { "GET", "/readyz", health_ready, 0, FOR_ALL, 0, "whether requests are taken" },
    { "GET", "/metrics", health_metrics, 0, FOR_ALL, 0, "figures for Prometheus" },
};
#define N_ROUTES (sizeof routes / sizeof *routes)

static bool method_fits(const struct route *x, const char *method)
{
    return strcmp(x->method, method) == 0 ||
           (strcmp(x->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* A path that ends in "*" stands for all that begin as it does. */
static bool path_fits(const struct route *x, struct str path)
{
    struct str row = str_from(x->path);
    if (row.p[row.n - 1] != '*')
        return str_eq(path, row);
    return path.n >= row.n && memcmp(path.p, row.p, row.n - 1) == 0;
}

bool routes_streams(const struct http_request *r)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        if (path_fits(&routes[i], r->path) && strcmp(routes[i].method, r->method) == 0)
            return routes[i].handler == blobs_post;
    return false;
}

/* "GET, HEAD, OPTIONS": those of a path's rows. */
static void list_methods(struct str path, char out[64])
{
    static const char *const names[] = { "GET", "HEAD", "POST", "DELETE", "OPTIONS" };
    size_t n = 0;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        bool fits = strcmp(names[k], "OPTIONS") == 0;
        for (size_t i = 0; i < N_ROUTES; i++)
            fits |= path_fits(&routes[i], path) && method_fits(&routes[i], names[k]);
        if (fits)
            n += (size_t)snprintf(out + n, 64 - n, "%s%s", n ? ", " : "", names[k]);
    }
}

/* What changes the store is, on the Unix socket, for the daemon's own user and root. Over TCP, Host,
 * Origin and keys decide: auth.h. */
static bool may(const struct route *x, const struct http_request *r)
{
    return x->who == FOR_ALL || !r->local || r->peer_uid == geteuid() || r->peer_uid == 0;
}

/* A browser asks before it calls. What gets here has an origin that is allowed, or none. */
static void answer_options(struct http_request *r, const char *methods)
{
    http_set_header(r, "Allow", methods);
    http_set_header(r, "Access-Control-Allow-Methods", methods);
    http_set_header(r, "Access-Control-Allow-Headers", "*, Authorization");
    http_reply(r, 204, NULL, (struct str){ 0 });
}

void routes_dispatch(struct daemon *d, struct http_request *r)
{
    const struct route *same_path = NULL;
    struct err e;
    for (size_t i = 0; i < N_ROUTES; i++) {
        const struct route *x = &routes[i];
        if (!path_fits(x, r->path))
            continue;
        if (method_fits(x, r->method) && may(x, r)) {
            if (x->max_json)
                body_begin(d, r, x->max_json, x->handler, x->arg);
            else
                x->handler(d, r, x->arg);
            return;
        }
        if (method_fits(x, r->method)) {
            err_set(&e, ERR_FORBIDDEN, "%s is for the daemon's own user (uid %u) and root: you are uid %u",
                    x->path, (unsigned)geteuid(), (unsigned)r->peer_uid);
            reply_err(d, r, &e);
            return;
        }
        same_path = x;
    }
    char methods[64] = "GET, POST, DELETE";
    if (same_path)
        list_methods(r->path, methods);
    if (strcmp(r->method, "OPTIONS") == 0) {
        answer_options(r, methods);
        return;
    }
    if (same_path) {
        http_set_header(r, "Allow", methods);
        d->metrics.requests[4]++;
        http_reply_error(r, 405, "method not allowed");
        return;
    }
    err_set(&e, ERR_NOT_FOUND, "no such route: %.100s", r->path.p);
    reply_err(d, r, &e);
}

void routes_help(struct buf *out)
{
    for (size_t i = 0; i < N_ROUTES; i++)
        buf_printf(out, "  %-6s %-17s %s\n", routes[i].method, routes[i].path, routes[i].help);
}

void reply_json(struct daemon *d, struct http_request *r, int status, struct buf *b)
{
    if (b->failed) {
        d->metrics.requests[5]++;
        http_reply_error(r, 500, "out of memory");
    } else {
        d->metrics.requests[status / 100 % 6]++;
        http_reply(r, status, "application/json; charset=utf-8", buf_str(b));
    }
    buf_finish(b);
}

void reply_err(struct daemon *d, struct http_request *r, const struct err *e)
{
    int status = err_http_status(e->code);
    d->metrics.requests[status / 100 % 6]++;
    if (status == 503)
        http_set_header(r, "Retry-After", "1");
    http_reply_error(r, status, e->text);
}

enum err_code path_allowed(const struct http_request *r, struct err *e)
{
    if (r->local && r->peer_uid == geteuid())
        return ERR_OK;
    return err_set(e, ERR_FORBIDDEN, "a path is taken only over the Unix socket, from the daemon's own user");
}
