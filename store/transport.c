#include "store/transport.h"

#include <string.h>

#define CANCEL_MS 100 /* how often a fetch looks whether it is wanted still */

void transport_destroy(struct transport *t)
{
    if (t)
        t->ops->destroy(t);
}

enum err_code transport_trust(struct transport *t, const char *url, struct err *e)
{
    return t->ops->trust ? t->ops->trust(t, url, e) : ERR_OK;
}

enum err_code transport_start(struct transport *t, const struct transport_request *r,
                              struct transfer **out, struct err *e)
{
    return t->ops->start(t, r, out, e);
}

struct transfer *transport_wait(struct transport *t, int timeout_ms)
{
    return t->ops->wait(t, NULL, timeout_ms);
}

struct transfer *transport_wait_for(struct transport *t, struct transfer *x, int timeout_ms)
{
    return t->ops->wait(t, x, timeout_ms);
}

void transport_end(struct transport *t, struct transfer *x)
{
    if (x)
        t->ops->end(t, x);
}

void transport_wake(struct transport *t)
{
    t->ops->wake(t);
}

/* ---- one request from start to end ----------------------------------------------------------- */

struct fetch {
    const struct transport_request *request;
    struct buf *body;
};

static enum err_code fetch_head(void *user, const struct transport_head *h, struct err *e)
{
    struct fetch *f = user;
    return f->request->on_head ? f->request->on_head(f->request->user, h, e) : ERR_OK;
}

static enum err_code fetch_body(void *user, const void *p, size_t n, struct err *e)
{
    struct fetch *f = user;
    if (!f->body)
        return ERR_OK;
    buf_put(f->body, p, n);
    return f->body->failed ? err_no_memory(e, n, "the body of a reply") : ERR_OK;
}

static void fetch_sent(void *user, uint64_t sent)
{
    struct fetch *f = user;
    if (f->request->on_sent)
        f->request->on_sent(f->request->user, sent);
}

static bool wanted(const atomic_bool *cancel)
{
    return !cancel || !atomic_load_explicit(cancel, memory_order_relaxed);
}

static enum err_code fetch_run(struct transport *t, const struct transport_request *r,
                               const atomic_bool *cancel, struct transfer **out, struct err *e)
{
    enum err_code code = transport_start(t, r, out, e);
    if (code)
        return code;
    bool ended = false;
    while (!ended && wanted(cancel))
        ended = transport_wait_for(t, *out, CANCEL_MS) != NULL;
    if (!ended)
        return err_set(e, ERR_CANCELLED, "cancelled");
    if ((*out)->err.code && e)
        *e = (*out)->err;
    return (*out)->err.code;
}

enum err_code transport_fetch(struct transport *t, const struct transport_request *r,
                              const atomic_bool *cancel, struct buf *body,
                              struct transfer **out, struct err *e)
{
    struct fetch f = { .request = r, .body = body };
    struct transport_request mine = *r;
    struct transfer *x = NULL;
    mine.on_head = fetch_head;
    mine.on_body = fetch_body;
    mine.on_sent = fetch_sent;
    mine.user = &f;
    if (body)
        buf_init(body, (size_t)r->max_body);
    if (out)
        *out = NULL;
    enum err_code code = r->max_body ? fetch_run(t, &mine, cancel, &x, e)
                                     : err_set(e, ERR_INTERNAL, "a fetch without a limit");
    if (x)
        x->user = r->user;
    if (!code && out)
        *out = x;
    else
        transport_end(t, x);
    if (code && body)
        buf_finish(body);
    return code;
}
