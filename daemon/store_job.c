#include "daemon/store_job.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "daemon/progress.h"
#include "daemon/routes.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "store/name.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))
#define MAX_LAST ((size_t)64 << 20)

struct store_call {
    struct store_call *next;
    struct daemon *d;
    struct http_request *http;
    struct store_call_options o;
    char *name, *shown;        /* as it was written; for others to see */
    struct job job;
    struct post news;          /* progress has something */
    atomic_bool cancel;
    pthread_mutex_t lock;      /* of progress */
    struct progress progress;
    struct buf last, line;
    struct err err;
    bool begun;                /* the reply's head is out */
    bool choked;               /* the client takes nothing now */
    int64_t started_ns, started_wall_ns;
};

/* ---- to the client ------------------------------------------------------------------------------- */

static void send_line(struct store_call *c)
{
    buf_putc(&c->line, '\n');
    if (!c->begun) {
        c->begun = true;
        c->d->metrics.requests[2]++;
        http_stream_begin(c->http, 200, "application/x-ndjson");
    }
    if (!c->line.failed && !http_stream_write(c->http, buf_str(&c->line)))
        c->choked = true;
}

static void send_news(struct store_call *c, const struct progress_line *l)
{
    char digest[DIGEST_TEXT_SIZE] = "";
    if (l->has_digest)
        digest_text(&l->digest, digest);
    struct transfer_event ev = {
        .status = str_from(l->status),
        .digest = str_from(l->has_digest ? digest : NULL),
        .has_total = l->has_total,
        .total = l->total,
        .completed = l->completed,
    };
    buf_clear(&c->line);
    transfer_event_write(&c->line, &ev);
    send_line(c);
}

static bool take_news(struct store_call *c, struct progress_line *l)
{
    pthread_mutex_lock(&c->lock);
    bool some = progress_take(&c->progress, l);
    pthread_mutex_unlock(&c->lock);
    return some;
}

/* all: although the client takes nothing now; for the end. */
static void flush_news(struct store_call *c, bool all)
{
    struct progress_line l;
    while (c->o.stream && (all || !c->choked) && take_news(c, &l))
        if (strcmp(l.status, "success") != 0)
            send_news(c, &l);
}

static void on_news(struct post *p)
{
    flush_news(OWNER(struct store_call, news, p), false);
}

static void on_drain(struct http_request *r)
{
    struct store_call *c = r->user;
    c->choked = false;
    flush_news(c, false);
}

/* One that waits for a thread ends at once, and its place is another's. */
static void withdraw(struct store_call *c)
{
    if (jobs_withdraw(c->d->jobs, LANE_TRANSFER, &c->job)) {
        err_set(&c->err, ERR_CANCELLED, "request canceled");
        jobs_finish(c->d->jobs, &c->job);
    }
}

static void cancel(struct store_call *c)
{
    atomic_store(&c->cancel, true);
    withdraw(c);
}

static void on_gone(struct http_request *r)
{
    struct store_call *c = r->user;
    if (!c->o.detach)
        cancel(c);
}

static void put_error(struct buf *out, const struct err *err)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "error", err->text);
    json_kstr(&j, "code", err_name(err->code));
    json_obj_end(&j);
}

static void answer(struct store_call *c)
{
    if (!c->err.code && !c->last.n)
        buf_puts(&c->last, "{\"status\":\"success\"}");
    if (!c->err.code && c->last.failed)
        err_no_memory(&c->err, c->last.n, "a reply");
    flush_news(c, true);
    if (!c->begun && c->err.code) {
        reply_err(c->d, c->http, &c->err);
    } else if (!c->o.stream) {
        reply_json(c->d, c->http, 200, &c->last);
    } else {
        buf_clear(&c->line);
        if (c->err.code)
            put_error(&c->line, &c->err);
        else
            buf_put(&c->line, c->last.p, c->last.n);
        send_line(c);
        if (c->line.failed)
            http_abort(c->http);
        else
            http_stream_end(c->http);
    }
}

/* ---- the work -------------------------------------------------------------------------------------- */

static void on_event(void *user, const struct store_event *ev)
{
    struct store_call *c = user;
    pthread_mutex_lock(&c->lock);
    progress_put(&c->progress, ev);
    pthread_mutex_unlock(&c->lock);
    jobs_post(c->d->jobs, &c->news);
}

static void call_work(struct job *j)
{
    struct store_call *c = OWNER(struct store_call, job, j);
    struct store_job job = { .event = on_event, .user = c, .cancel = &c->cancel };
    if (store_job_cancelled(&job))
        err_set(&c->err, ERR_CANCELLED, "request canceled");
    else
        c->err.code = c->o.work(c->o.user, &job, &c->last, &c->err);
}

static void unlink_call(struct store_call *c)
{
    struct store_call **at = &c->d->calls;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
}

static void free_call(struct store_call *c)
{
    pthread_mutex_destroy(&c->lock);
    progress_finish(&c->progress);
    buf_finish(&c->last);
    buf_finish(&c->line);
    mem_free(c->name);
    mem_free(c->shown);
    mem_free(c);
}

static void call_done(struct job *j)
{
    struct store_call *c = OWNER(struct store_call, job, j);
    enum err_code result = c->err.code;
    unlink_call(c);
    log_line(LOG_INFO, "msg=\"%s %s\" name=\"%s\" ms=%lld", c->o.kind,
             result ? err_name(result) : "done", c->shown,
             (long long)((clock_ns() - c->started_ns) / 1000000));
    if (result == ERR_CANCELLED && c->d->draining)
        err_set(&c->err, ERR_BUSY, "the daemon is shutting down: what is there of '%s' is kept",
                c->shown);
    answer(c);
    c->o.done(c->o.user, result);
    free_call(c);
}

/* ---- beginning -------------------------------------------------------------------------------------- */

static enum err_code make_call(struct daemon *d, struct http_request *r,
                               const struct store_call_options *o, struct store_call **out,
                               struct err *e)
{
    struct store_call *c = mem_zero(1, sizeof *c);
    *out = c;
    if (!c)
        return err_no_memory(e, sizeof *c, "a transfer");
    *c = (struct store_call){ .d = d, .http = r, .o = *o };
    pthread_mutex_init(&c->lock, NULL);
    buf_init(&c->last, MAX_LAST);
    buf_init(&c->line, MAX_LAST + 1);
    c->started_ns = clock_ns();
    c->started_wall_ns = clock_wall_ns();
    c->news.on_loop = on_news;
    c->job = (struct job){ .work = call_work, .done = call_done };
    c->name = mem_strndup(o->name.n ? o->name.p : "", o->name.n);
    c->shown = mem_alloc(o->name.n + 8);
    if (c->shown)
        name_shown(o->name, c->shown, o->name.n + 8);
    if (!c->name || !c->shown)
        return err_no_memory(e, o->name.n, "a model's name");
    return progress_init(&c->progress, e);
}

void store_call_start(struct daemon *d, struct http_request *r, const struct store_call_options *o)
{
    struct store_call *c, **at = &d->calls;
    struct err e = { 0 };
    enum err_code code = make_call(d, r, o, &c, &e);
    if (!code && d->draining)
        code = err_set(&e, ERR_BUSY, "the daemon is shutting down");
    if (!code)
        code = jobs_submit(d->jobs, LANE_TRANSFER, &c->job, &e);
    if (code) {
        reply_err(d, r, &e);
        o->done(o->user, code);
        if (c)
            free_call(c);
        return;
    }
    r->user = c;
    r->on_gone = on_gone;
    r->on_drain = on_drain;
    while (*at)
        at = &(*at)->next;
    *at = c;
    if (r->gone) /* while the request was read */
        on_gone(r);
}

/* Those that wait first: the thread of one that ends would begin them. */
void store_call_stop_all(struct daemon *d)
{
    for (struct store_call *c = d->calls; c; c = c->next)
        withdraw(c);
    for (struct store_call *c = d->calls; c; c = c->next)
        cancel(c);
}

size_t store_call_stop(struct daemon *d, struct str name)
{
    size_t n = 0;
    for (struct store_call *c = d->calls; c; c = c->next)
        if (str_ieq(str_from(c->name), name) || str_ieq(str_from(c->shown), name) || name_same(str_from(c->name), name)) {
            cancel(c);
            n++;
        }
    return n;
}

size_t store_call_list(struct daemon *d, struct transfer_entry *v, size_t max)
{
    size_t n = 0;
    for (struct store_call *c = d->calls; c && n < max; c = c->next, n++) {
        struct transfer_entry *x = &v[n];
        *x = (struct transfer_entry){
            .name = str_from(c->shown),
            .kind = str_from(c->o.kind),
            .started_wall_ns = c->started_wall_ns,
            .detached = c->o.detach && c->http->gone,
        };
        pthread_mutex_lock(&c->lock);
        progress_sum(&c->progress, &x->completed, &x->total);
        snprintf(x->status_text, sizeof x->status_text, "%s",
                 c->progress.now.status[0] ? c->progress.now.status : "waiting");
        pthread_mutex_unlock(&c->lock);
        x->status = str_from(x->status_text);
    }
    return n;
}
