/* HEAD and POST /api/blobs/sha256:HEX: what a client sends for a model that it is about to create.
 *
 * A body goes through two buffers: the loop fills one while a thread of this upload's own writes and hashes
 * the other (store/upload.h). When the one is full the client is held up. Where the bytes are in the
 * store already, what comes is read and dropped, so that clients which send first and listen later hear so. */
#include <pthread.h>
#include <string.h>

#include "daemon/blobs.h"
#include "daemon/routes.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))
#define FULL ((size_t)1 << 20) /* a buffer, but for one piece more */
#define MAX_UPLOADS 32         /* at once: each has a thread */

struct blob_upload {
    struct blob_upload *prev, *next;
    struct daemon *d;
    struct http_request *http;
    struct digest digest;
    bool has_length;
    uint64_t length;
    bool held;                /* loop: the client is */
    pthread_t thread;
    struct post news;
    pthread_mutex_t lock;     /* of what follows */
    pthread_cond_t wake;
    struct buf filling;
    bool ended;               /* all of the body came */
    bool stop;                /* the client has left, or the daemon ends */
    bool done;                /* the thread has nothing more to do */
    /* the thread's until done */
    struct upload *upload;
    struct buf writing;
    bool there;               /* before it was sent */
    struct err err;
};

/* ---- the thread ------------------------------------------------------------------------------------ */

/* Waits for bytes, and takes them: false when none will come. */
static bool take_bytes(struct blob_upload *x)
{
    pthread_mutex_lock(&x->lock);
    while (!x->filling.n && !x->ended && !x->stop)
        pthread_cond_wait(&x->wake, &x->lock);
    struct buf full = x->filling;
    bool some = full.n > 0 && !x->stop;
    x->filling = x->writing;
    pthread_mutex_unlock(&x->lock);
    x->writing = full;
    return some;
}

static enum err_code write_body(struct blob_upload *x, struct err *e)
{
    enum err_code c = ERR_OK;
    while (!c && take_bytes(x)) {
        jobs_post(x->d->jobs, &x->news); /* there is room again */
        if (x->writing.failed)
            return err_no_memory(e, x->writing.n, "an uploaded blob");
        if (x->upload)
            c = upload_write(x->upload, x->writing.p, x->writing.n, e);
        buf_clear(&x->writing);
    }
    return c;
}

static void run_upload(struct blob_upload *x)
{
    enum err_code c = upload_begin(x->d->uploads, &x->digest, x->has_length, x->length, &x->upload, &x->err);
    x->there = !c && !x->upload;
    if (!c)
        c = write_body(x, &x->err);
    pthread_mutex_lock(&x->lock);
    bool stop = x->stop;
    pthread_mutex_unlock(&x->lock);
    if (c || stop)
        upload_abort(x->upload);
    else if (x->upload)
        c = upload_end(x->upload, &x->err);
    x->err.code = c;
}

static void *upload_thread(void *user)
{
    struct blob_upload *x = user;
    run_upload(x);
    pthread_mutex_lock(&x->lock);
    x->done = true;
    pthread_mutex_unlock(&x->lock);
    jobs_post(x->d->jobs, &x->news);
    return NULL;
}

/* ---- the loop -------------------------------------------------------------------------------------- */

static void answer(struct blob_upload *x)
{
    struct daemon *d = x->d;
    if (x->http->gone) {
        http_abort(x->http);
        return;
    }
    if (!x->err.code && x->stop)
        err_set(&x->err, ERR_BUSY, "the daemon is shutting down");
    if (x->err.code) {
        log_line(LOG_DEBUG, "msg=\"upload refused\" error=\"%s\"", x->err.text);
        reply_err(d, x->http, &x->err);
        return;
    }
    d->metrics.requests[2]++;
    http_reply(x->http, x->there ? 200 : 201, NULL, (struct str){ 0 });
}

static void free_upload(struct blob_upload *x)
{
    if (x->prev)
        x->prev->next = x->next;
    else
        x->d->blob_uploads = x->next;
    if (x->next)
        x->next->prev = x->prev;
    pthread_cond_destroy(&x->wake);
    pthread_mutex_destroy(&x->lock);
    buf_finish(&x->filling);
    buf_finish(&x->writing);
    mem_free(x);
}

static void on_news(struct post *p)
{
    struct blob_upload *x = OWNER(struct blob_upload, news, p);
    pthread_mutex_lock(&x->lock);
    bool done = x->done, room = x->filling.n < FULL;
    pthread_mutex_unlock(&x->lock);
    if (done) {
        pthread_join(x->thread, NULL);
        answer(x);
        free_upload(x);
    } else if (x->held && room) {
        x->held = false;
        http_body_resume(x->http);
    }
}

static void on_body(struct http_request *r, struct str piece)
{
    struct blob_upload *x = r->user;
    pthread_mutex_lock(&x->lock);
    if (!x->done)
        buf_put(&x->filling, piece.p, piece.n);
    bool full = x->filling.n >= FULL;
    pthread_cond_signal(&x->wake);
    pthread_mutex_unlock(&x->lock);
    if (full && !x->held) {
        x->held = true;
        http_body_pause(r);
    }
}

static void on_body_end(struct http_request *r)
{
    struct blob_upload *x = r->user;
    pthread_mutex_lock(&x->lock);
    x->ended = true;
    pthread_cond_signal(&x->wake);
    pthread_mutex_unlock(&x->lock);
}

static void stop_upload(struct blob_upload *x)
{
    pthread_mutex_lock(&x->lock);
    x->stop = true;
    pthread_cond_signal(&x->wake);
    pthread_mutex_unlock(&x->lock);
}

static void on_gone(struct http_request *r)
{
    stop_upload(r->user);
}

void blobs_stop_all(struct daemon *d)
{
    for (struct blob_upload *x = d->blob_uploads; x; x = x->next)
        stop_upload(x);
}

/* ---- beginning -------------------------------------------------------------------------------------- */

static enum err_code digest_of(const struct http_request *r, struct digest *out, struct err *e)
{
    static const struct str front = { "/api/blobs/", sizeof "/api/blobs/" - 1 };
    struct str text = { r->path.p + front.n, r->path.n - front.n };
    if (digest_parse(text, out))
        return ERR_OK;
    return err_set(e, ERR_INVALID, "invalid digest format: '%.*s' is not sha256: and 64 hex digits",
                   (int)(text.n < 100 ? text.n : 100), text.p);
}

static size_t count_uploads(const struct daemon *d)
{
    size_t n = 0;
    for (const struct blob_upload *x = d->blob_uploads; x; x = x->next)
        n++;
    return n;
}

static enum err_code start_upload(struct daemon *d, struct http_request *r, const struct digest *digest,
                                  struct err *e)
{
    if (count_uploads(d) >= MAX_UPLOADS)
        return err_set(e, ERR_BUSY, "%d uploads are under way: try again later", MAX_UPLOADS);
    struct blob_upload *x = mem_zero(1, sizeof *x);
    if (!x)
        return err_no_memory(e, sizeof *x, "an upload");
    *x = (struct blob_upload){ .next = d->blob_uploads, .d = d, .http = r, .digest = *digest,
                               .has_length = r->has_length || !r->streamed, .length = r->length,
                               .ended = !r->streamed };
    if (x->next)
        x->next->prev = x;
    d->blob_uploads = x;
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->wake, NULL);
    buf_init(&x->filling, FULL + HTTP_MAX_PIECE);
    buf_init(&x->writing, FULL + HTTP_MAX_PIECE);
    x->news.on_loop = on_news;
    r->user = x;
    r->on_gone = on_gone;
    r->on_body = on_body;
    r->on_body_end = on_body_end;
    if (pthread_create(&x->thread, NULL, upload_thread, x) == 0)
        return ERR_OK;
    r->on_gone = NULL;
    r->on_body = NULL;
    r->on_body_end = NULL;
    free_upload(x);
    return err_set(e, ERR_NO_MEMORY, "starting a thread for an upload");
}

void blobs_post(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct digest digest;
    struct err e = { 0 };
    if (digest_of(r, &digest, &e) || start_upload(d, r, &digest, &e))
        reply_err(d, r, &e);
}

/* ---- HEAD ------------------------------------------------------------------------------------------ */

struct blob_head {
    struct daemon *d;
    struct http_request *http;
    struct job job;
    struct digest digest;
    bool there;
};

static void work_head(struct job *j)
{
    struct blob_head *h = OWNER(struct blob_head, job, j);
    uploads_prune(h->d->uploads, clock_ns());
    h->there = uploads_has(h->d->uploads, &h->digest, NULL);
}

static void done_head(struct job *j)
{
    struct blob_head *h = OWNER(struct blob_head, job, j);
    h->d->metrics.requests[h->there ? 2 : 4]++;
    http_reply(h->http, h->there ? 200 : 404, NULL, (struct str){ 0 });
    mem_free(h);
}

void blobs_head(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e = { 0 };
    struct blob_head *h = mem_zero(1, sizeof *h);
    enum err_code c = h ? digest_of(r, &h->digest, &e) : err_no_memory(&e, sizeof *h, "a request");
    if (!c) {
        h->d = d;
        h->http = r;
        h->job = (struct job){ .work = work_head, .done = done_head };
        c = jobs_submit(d->jobs, LANE_STORE, &h->job, &e);
    }
    if (!c)
        return;
    mem_free(h);
    reply_err(d, r, &e);
}
