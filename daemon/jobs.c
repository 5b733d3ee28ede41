#include "daemon/jobs.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "runtime/base/mem.h"

/* One row a lane: what its work is called, its threads, and how many jobs may wait. */
static const struct {
    const char *work;
    unsigned threads; /* 0: somebody else takes its jobs (jobs_take) */
    size_t max_queue;
} lanes[LANE_COUNT] = {
    [LANE_STORE]    = { "the store",    1, 4096 },
    [LANE_TRANSFER] = { "transfers",    8, 64 },
    [LANE_WORDS]    = { "tokenising",   2, 4096 },
    [LANE_ENGINE]   = { "the engine",   0, 8192 },
};
#define MAX_WORKERS 16

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job *first, **last;
    size_t n, max;
    bool woken, ending;
};

struct worker {
    struct jobs *jobs;
    enum lane lane;
    pthread_t thread;
};

struct jobs {
    struct queue queue[LANE_COUNT];
    pthread_mutex_t lock; /* of what goes to the loop */
    struct post *first, **last;
    uv_async_t async;
    struct worker worker[MAX_WORKERS];
    size_t n_workers;
};

/* ---- to the loop ------------------------------------------------------------------------------- */

void jobs_post(struct jobs *j, struct post *p)
{
    pthread_mutex_lock(&j->lock);
    if (!p->queued) {
        p->queued = true;
        p->next = NULL;
        *j->last = p;
        j->last = &p->next;
    }
    pthread_mutex_unlock(&j->lock);
    uv_async_send(&j->async);
}

static struct post *take_post(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    struct post *p = j->first;
    if (p) {
        j->first = p->next;
        if (!j->first)
            j->last = &j->first;
        p->queued = false;
    }
    pthread_mutex_unlock(&j->lock);
    return p;
}

static void on_async(uv_async_t *async)
{
    struct jobs *j = async->data;
    struct post *p;
    while ((p = take_post(j)))
        p->on_loop(p);
}

static void on_done(struct post *p)
{
    struct job *job = (struct job *)(void *)((char *)p - offsetof(struct job, post));
    if (job->done)
        job->done(job);
}

void jobs_finish(struct jobs *j, struct job *job)
{
    job->post.on_loop = on_done;
    jobs_post(j, &job->post);
}

/* ---- lanes --------------------------------------------------------------------------------------- */

enum err_code jobs_submit(struct jobs *j, enum lane lane, struct job *job, struct err *e)
{
    struct queue *q = &j->queue[lane];
    pthread_mutex_lock(&q->lock);
    bool full = q->n >= q->max;
    if (!full) {
        job->next = NULL;
        *q->last = job;
        q->last = &job->next;
        q->n++;
        pthread_cond_signal(&q->wake);
    }
    pthread_mutex_unlock(&q->lock);
    return full ? err_set(e, ERR_BUSY, "server busy: too much work waits for %s", lanes[lane].work)
                : ERR_OK;
}

bool jobs_withdraw(struct jobs *j, enum lane lane, struct job *job)
{
    struct queue *q = &j->queue[lane];
    struct job **at = &q->first;
    pthread_mutex_lock(&q->lock);
    while (*at && *at != job)
        at = &(*at)->next;
    bool waits = *at != NULL;
    if (waits) {
        *at = job->next;
        if (!*at)
            q->last = at;
        q->n--;
    }
    pthread_mutex_unlock(&q->lock);
    return waits;
}

void jobs_wake(struct jobs *j, enum lane lane)
{
    struct queue *q = &j->queue[lane];
    pthread_mutex_lock(&q->lock);
    q->woken = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
}

struct job *jobs_take(struct jobs *j, enum lane lane, int64_t wait_ns)
{
    struct queue *q = &j->queue[lane];
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    int64_t ns = until.tv_nsec + (wait_ns > 0 ? wait_ns : 0);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = ns % 1000000000;
    int rc = 0;
    pthread_mutex_lock(&q->lock);
    while (wait_ns != 0 && !q->first && !q->woken && !rc)
        rc = wait_ns < 0 ? pthread_cond_wait(&q->wake, &q->lock) : pthread_cond_timedwait(&q->wake, &q->lock, &until);
    struct job *all = q->first;
    q->first = NULL;
    q->last = &q->first;
    q->n = 0;
    q->woken = false;
    pthread_mutex_unlock(&q->lock);
    return all;
}

/* One job for one of the lane's threads; NULL: the daemon ends. */
static struct job *take_one(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (!q->first && !q->ending)
        pthread_cond_wait(&q->wake, &q->lock);
    struct job *job = q->ending ? NULL : q->first;
    if (job) {
        q->first = job->next;
        if (!q->first)
            q->last = &q->first;
        q->n--;
    }
    pthread_mutex_unlock(&q->lock);
    return job;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct job *job;
    while ((job = take_one(&w->jobs->queue[w->lane]))) {
        job->work(job);
        jobs_finish(w->jobs, job);
    }
    return NULL;
}

/* ---- birth and end ------------------------------------------------------------------------------- */

static enum err_code start_worker(struct jobs *j, enum lane lane, struct err *e)
{
    assert(j->n_workers < MAX_WORKERS);
    struct worker *w = &j->worker[j->n_workers];
    *w = (struct worker){ .jobs = j, .lane = lane };
    int rc = pthread_create(&w->thread, NULL, worker_main, w);
    if (rc)
        return err_errno(e, ERR_NO_MEMORY, rc, "starting a thread");
    j->n_workers++;
    return ERR_OK;
}

static void stop_workers(struct jobs *j)
{
    for (enum lane l = 0; l < LANE_COUNT; l++) {
        pthread_mutex_lock(&j->queue[l].lock);
        j->queue[l].ending = true;
        pthread_cond_broadcast(&j->queue[l].wake);
        pthread_mutex_unlock(&j->queue[l].lock);
    }
    for (size_t i = 0; i < j->n_workers; i++)
        pthread_join(j->worker[i].thread, NULL);
}

static void jobs_free(struct jobs *j)
{
    for (enum lane l = 0; l < LANE_COUNT; l++) {
        pthread_mutex_destroy(&j->queue[l].lock);
        pthread_cond_destroy(&j->queue[l].wake);
    }
    pthread_mutex_destroy(&j->lock);
    mem_free(j);
}

static void on_async_closed(uv_handle_t *h)
{
    jobs_free(h->data);
}

void jobs_destroy(struct jobs *j)
{
    if (!j)
        return;
    stop_workers(j);
    on_async(&j->async);
    uv_close((uv_handle_t *)&j->async, on_async_closed);
}

enum err_code jobs_create(const struct jobs_options *o, struct jobs **out, struct err *e)
{
    *out = NULL;
    struct jobs *j = mem_zero(1, sizeof *j);
    if (!j)
        return err_no_memory(e, sizeof *j, "the job queues");
    for (enum lane l = 0; l < LANE_COUNT; l++) {
        struct queue *q = &j->queue[l];
        pthread_mutex_init(&q->lock, NULL);
        pthread_cond_init(&q->wake, NULL);
        q->last = &q->first;
        q->max = o->max_queue[l] ? o->max_queue[l] : lanes[l].max_queue;
    }
    pthread_mutex_init(&j->lock, NULL);
    j->last = &j->first;
    int rc = uv_async_init(o->loop, &j->async, on_async);
    if (rc) {
        jobs_free(j);
        return err_set(e, ERR_IO, "making the loop's wake-up: %s", uv_strerror(rc));
    }
    j->async.data = j;
    enum err_code c = ERR_OK;
    for (enum lane l = 0; l < LANE_COUNT; l++)
        for (unsigned i = 0; i < lanes[l].threads && !c; i++)
            c = start_worker(j, l, e);
    if (c) {
        jobs_destroy(j);
        return c;
    }
    *out = j;
    return ERR_OK;
}
