/* What a hub, a registry, its token server or any web server may answer, to whoever asks for a model: the
 * name is refused with a sentence, or is a model whose layers stand where they may; no credential leaves its
 * origin, and nothing is kept.
 *
 * Input: a line with the name; then the replies, in the order of the requests, each begun by a line "----":
 *   STATUS, then header lines as one letter and a value (see `headers`), an empty line, the body.
 * After the last reply every request is answered 404. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "store/origin.h"
#include "store/remote.h"

#define HUB "https://huggingface.co"
#define TOKEN "Bearer hf_secret"
#define MAX_REQUESTS 2000 /* more is a loop */

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a transport that has no network: the fuzzer's bytes are the answers ------------------------ */

struct answer {
    struct transfer x;
    struct transport_request r;
    char *url;
    struct arena arena;
};

struct fake {
    struct transport t;
    struct str left;        /* replies not given yet */
    struct answer *waiting; /* one at a time is asked for */
    unsigned requests;
};

static const char *copy(struct answer *a, struct str s)
{
    const char *p = arena_strndup(&a->arena, s.p, s.n);
    if (!p)
        abort();
    return p;
}

static struct str take_line(struct str *s)
{
    const char *end = s->n ? memchr(s->p, '\n', s->n) : NULL;
    size_t n = end ? (size_t)(end - s->p) : s->n;
    struct str line = { s->p, n };
    s->p += n + (end != NULL);
    s->n -= n + (end != NULL);
    return line;
}

static uint64_t number(struct str s)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++)
        v = v * 10 + (uint64_t)(s.p[i] - '0');
    return v;
}

static struct str next_reply(struct fake *f)
{
    static const char mark[] = "\n----\n";
    const char *end = f->left.n ? memmem(f->left.p, f->left.n, mark, sizeof mark - 1) : NULL;
    struct str reply = f->left;
    if (end)
        reply.n = (size_t)(end - f->left.p);
    size_t used = reply.n + (end ? sizeof mark - 1 : 0);
    f->left = (struct str){ f->left.p + used, f->left.n - used };
    return reply;
}

/* The head, up to an empty line; what is left of *reply is the body. */
static void read_head(struct answer *a, struct str *reply)
{
    struct transport_head *h = &a->x.head;
    const struct {
        char letter;
        const char **to;
    } headers[] = { { 'A', &h->www_authenticate }, { 'C', &h->content_type }, { 'D', &h->docker_digest },
                    { 'E', &h->etag },             { 'L', &h->next_url },     { 'O', &h->location } };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        *headers[i].to = "";
    h->url = a->url;
    h->linked_etag = h->linked_size = h->repo_commit = "";
    h->retry_after_s = 0;
    h->status = reply->n ? (int)(number(take_line(reply)) % 600) : 404;
    h->status += h->status < 200 ? 200 : 0;
    for (struct str line = take_line(reply); line.n; line = take_line(reply)) {
        struct str value = { line.p + 1, line.n - 1 };
        for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
            if (headers[i].letter == line.p[0])
                *headers[i].to = copy(a, value);
        if (line.p[0] == 'N')
            h->has_length = true, h->length = number(value);
        if (line.p[0] == 'R')
            h->has_range = true, h->total = number(value);
    }
}

/* A credential goes to its own origin alone. */
static void look_for_leaks(const struct transport_request *r)
{
    struct origin at, hub;
    if (!r->authorization || strcmp(r->authorization, TOKEN) != 0)
        return;
    if (!origin_of(STR(HUB), &hub) || !origin_of(str_from(r->url), &at) || !origin_eq(&at, &hub))
        abort();
}

static enum err_code fake_start(struct transport *t, const struct transport_request *r, struct transfer **out,
                                struct err *e)
{
    struct fake *f = (struct fake *)t;
    struct answer *a = mem_zero(1, sizeof *a);
    (void)e;
    if (!a || !r->url || f->waiting || ++f->requests > MAX_REQUESTS)
        abort();
    look_for_leaks(r);
    a->r = *r;
    a->url = mem_strdup(r->url);
    a->x.user = r->user;
    f->waiting = a;
    *out = &a->x;
    return ERR_OK;
}

static struct transfer *fake_wait(struct transport *t, struct transfer *only, int timeout_ms)
{
    struct fake *f = (struct fake *)t;
    struct answer *a = f->waiting;
    (void)only, (void)timeout_ms;
    if (!a)
        return NULL;
    f->waiting = NULL;
    struct str body = next_reply(f);
    read_head(a, &body);
    enum err_code code = a->r.on_head ? a->r.on_head(a->r.user, &a->x.head, &a->x.err) : ERR_OK;
    if (!code && a->r.max_body && body.n > a->r.max_body)
        code = err_set(&a->x.err, ERR_TOO_LARGE, "too much");
    if (!code && body.n && a->r.on_body && !(a->r.method && strcmp(a->r.method, "HEAD") == 0))
        code = a->r.on_body(a->r.user, body.p, body.n, &a->x.err);
    if (code && a->x.err.code != code)
        abort();
    return &a->x;
}

static void fake_end(struct transport *t, struct transfer *x)
{
    struct fake *f = (struct fake *)t;
    struct answer *a = (struct answer *)x;
    if (f->waiting == a)
        f->waiting = NULL;
    arena_finish(&a->arena);
    mem_free(a->url);
    mem_free(a);
}

static void fake_nothing(struct transport *t)
{
    (void)t;
}

static const struct transport_ops ops = { fake_start, fake_wait, fake_end, fake_nothing, NULL, fake_nothing };

/* ---- what must hold ---------------------------------------------------------------------------- */

static struct store *store; /* an empty one, for all inputs */
static char home[] = "/tmp/hearth-fuzz-XXXXXX";

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void end(void)
{
    store_close(store);
    nftw(home, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    struct err e;
    (void)argc, (void)argv;
    json_setup();
    if (store_setup(&e) || !mkdtemp(home) || store_open(home, &store, &e))
        abort();
    atexit(end);
    return 0;
}

static void check_layer(const struct remote_model *m, const struct remote_layer *l)
{
    struct origin at, hub;
    if (!l->url || !l->file_name || !l->media_type || !l->etag || !origin_of(str_from(l->url), &at))
        abort();
    if (strstr(l->file_name, "../") || l->file_name[0] == '/')
        abort();
    if (strcmp(m->kind, "hub") == 0 && (!origin_of(STR(HUB), &hub) || !origin_eq(&at, &hub)))
        abort();
    if (!at.https && !m->plain)
        abort();
}

static void check_model(const struct remote_model *m)
{
    if (!m->kind || !m->source || !m->revision || !m->license || m->n_layers == 0)
        abort();
    for (size_t i = 0; i < m->n_layers; i++)
        check_layer(m, &m->layers[i]);
}

static void ask(const char *name, struct str replies, bool open)
{
    struct fake f = { .t = { &ops }, .left = replies };
    const struct store_secrets secrets = { .hf_token = "hf_secret" };
    const struct remote_request q = { .text = name, .secrets = &secrets };
    const struct remote_model *m;
    struct remote *r = NULL;
    struct err e = { 0 };
    char revision[80];
    enum err_code code = open ? remote_open(store, &f.t, &q, &r, &m, &e) : remote_revision(store, &f.t, &q, revision, &e);
    if (code && (e.code != code || !e.text[0] || code == ERR_INTERNAL))
        abort();
    if (strstr(e.text, "hf_secret") && !strstr(name, "hf_secret") && !memmem(replies.p, replies.n, "hf_secret", 9))
        abort();
    if (!code && open) {
        const char *value = NULL;
        check_model(m);
        (void)remote_authorize(r, true, &value, &e);
    }
    if (!code && !open && memchr(revision, '\0', sizeof revision) == NULL)
        abort();
    remote_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str replies = { (const char *)data, size }, name = take_line(&replies);
    const uint64_t live = mem_live();
    char *text = mem_strndup(name.p, name.n);
    if (!text)
        abort();
    if (replies.n >= 5 && memcmp(replies.p, "----\n", 5) == 0)
        replies = (struct str){ replies.p + 5, replies.n - 5 };
    ask(text, replies, true);
    ask(text, replies, false);
    mem_free(text);
    if (mem_live() != live)
        abort();
    return 0;
}
