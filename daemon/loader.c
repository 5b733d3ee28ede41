#include "daemon/loader.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))
#define MAX_RESIDENTS 64
#define PARALLEL_GPU 8 /* sequences, where nothing else is said */
#define PARALLEL_CPU 4 /* ... whose memory is the machine's */

/* What a load would take, worked out on a worker from the file's head. It owns itself, so that a
 * place can be withdrawn meanwhile. */
struct estimate_job {
    struct job job;
    struct loader *loader;
    struct place *place; /* NULL: withdrawn */
    char *path;
    struct model_options options;
    uint32_t parallel, usual;
    uint64_t budget;
    bool exact;          /* the context was asked for: it is not made smaller */
    struct model_estimate estimate;
    uint64_t bytes;
    struct err err;
    bool done;
};

struct loader {
    struct daemon *d;
    struct resident *residents;
    struct place *first, **last; /* places that wait */
    struct engine_open open;
    bool opening, device_known, kicking, kick_again;
    uint64_t budget;
    uv_timer_t timer;
};

/* ---- residents -------------------------------------------------------------------------------- */

static void resident_free(struct resident *r)
{
    if (!r)
        return;
    mem_free(r->path);
    mem_free(r->name);
    mem_free(r->digest);
    mem_free(r->quantization);
    mem_free(r->parameter_size);
    mem_free(r);
}

static void resident_unlink(struct loader *l, struct resident *r)
{
    struct resident **at = &l->residents;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
}

static struct resident *resident_create(struct loader *l, const struct place *p)
{
    struct resident *r = mem_zero(1, sizeof *r);
    if (!r)
        return NULL;
    r->loader = l;
    r->path = mem_strdup(p->path);
    r->name = mem_strdup(p->name);
    r->digest = mem_strdup(p->digest);
    r->quantization = mem_strdup(p->quantization ? p->quantization : "");
    r->parameter_size = mem_strdup(p->parameter_size ? p->parameter_size : "");
    r->identity = p->identity;
    r->fact.keep_ns = l->d->config.keep_alive_ns;
    if (r->path && r->name && r->digest && r->quantization && r->parameter_size)
        return r;
    resident_free(r);
    return NULL;
}

static bool same_identity(const struct file_identity *a, const struct file_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

static struct resident *find(struct loader *l, const struct place *p)
{
    for (struct resident *r = l->residents; r; r = r->next)
        if (strcmp(r->path, p->path) == 0)
            return r;
    return NULL;
}

static size_t facts_of(const struct loader *l, struct resident_fact *fact, struct resident **who)
{
    size_t n = 0;
    for (struct resident *r = l->residents; r && n < MAX_RESIDENTS; r = r->next) {
        fact[n] = r->fact;
        fact[n].moving |= r->leaving;
        who[n++] = r;
    }
    return n;
}

/* ---- the end of a place ------------------------------------------------------------------------ */

static void estimate_free(struct estimate_job *q)
{
    mem_free(q->path);
    mem_free(q);
}

static void drop_estimate(struct place *p)
{
    struct estimate_job *q = p->estimate;
    p->estimate = NULL;
    if (!q)
        return;
    if (q->done)
        estimate_free(q);
    else
        q->place = NULL;
}

static void unqueue(struct loader *l, struct place *p)
{
    if (!p->queued)
        return;
    struct place **at = &l->first;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (!*at)
        l->last = at;
    p->queued = false;
}

static void end_place(struct loader *l, struct place *p)
{
    unqueue(l, p);
    drop_estimate(p);
    p->loading = NULL;
    p->ready(p);
}

static void fail_place(struct loader *l, struct place *p, const struct err *why)
{
    p->resident = NULL;
    p->err = *why;
    end_place(l, p);
}

void loader_withdraw(struct loader *l, struct place *p)
{
    unqueue(l, p);
    drop_estimate(p);
}

/* ---- letting go ---------------------------------------------------------------------------------- */

static void kick(struct loader *l);
static void set_timer(struct loader *l);

static void done_unload(struct job *j)
{
    struct resident *r = OWNER(struct resident, unload.job, j);
    struct loader *l = r->loader;
    log_line(LOG_INFO, "msg=\"model unloaded\" model=\"%s\"", r->name);
    resident_unlink(l, r);
    resident_free(r);
    kick(l);
}

/* An idle resident leaves; a busy one is marked and leaves with its last user. */
static void start_unload(struct loader *l, struct resident *r)
{
    r->leaving = true;
    if (r->fact.users || r->fact.moving)
        return;
    r->fact.moving = true;
    r->unload.model = r->model;
    r->unload.job.done = done_unload;
    if (engine_unload(l->d->engine, &r->unload, NULL))
        r->fact.moving = false; /* the engine's queue is full: tried again by the timer */
    else
        r->model = NULL; /* the engine's to free: nobody may look at it any more */
}

static void on_timer(uv_timer_t *timer)
{
    struct loader *l = timer->data;
    int64_t now = clock_ns();
    for (struct resident *r = l->residents, *next; r; r = next) {
        next = r->next;
        if (residency_deadline(&r->fact) <= now || r->leaving)
            start_unload(l, r);
    }
    set_timer(l);
}

static void set_timer(struct loader *l)
{
    struct resident_fact fact[MAX_RESIDENTS];
    struct resident *who[MAX_RESIDENTS];
    size_t n = facts_of(l, fact, who);
    int64_t next = residency_next(fact, n), now = clock_ns();
    for (size_t i = 0; i < n; i++)
        if (who[i]->leaving && !who[i]->fact.users && !who[i]->fact.moving)
            next = now + 100000000;
    if (next == RESIDENCY_NEVER) {
        uv_timer_stop(&l->timer);
        return;
    }
    /* The loop's clock stands still in suspend and ours does not: look at least once a minute. */
    int64_t ms = next > now ? (next - now) / 1000000 + 1 : 0;
    uv_timer_start(&l->timer, on_timer, (uint64_t)(ms < 60000 ? ms : 60000), 0);
}

void loader_leave(struct loader *l, struct resident *r, bool has_keep, int64_t keep_ns)
{
    if (has_keep)
        r->fact.keep_ns = keep_ns;
    r->fact.users--;
    if (!r->fact.users) {
        r->fact.idle_since = clock_ns();
        if (r->leaving || r->fact.keep_ns == 0)
            start_unload(l, r);
        kick(l);
    }
    set_timer(l);
}

void loader_drop(struct loader *l, const char *path)
{
    for (struct resident *r = l->residents, *next; r; r = next) {
        next = r->next;
        if (strcmp(r->path, path) == 0 && !r->leaving)
            start_unload(l, r);
    }
    set_timer(l);
}

void loader_device_lost(struct loader *l)
{
    l->device_known = false;
    for (struct resident *r = l->residents, *next; r; r = next) {
        next = r->next;
        r->lost = true;
        start_unload(l, r);
    }
    set_timer(l);
}

/* ---- opening, estimating --------------------------------------------------------------------------- */

uint64_t loader_budget(const struct device_info *device)
{
    return device->memory_bytes / 20 * 17;
}

static void done_open(struct job *j)
{
    struct loader *l = OWNER(struct loader, open.job, j);
    l->opening = false;
    if (!l->open.err.code) {
        l->device_known = true;
        l->budget = loader_budget(&l->open.device);
        kick(l);
        return;
    }
    struct err why = l->open.err;
    while (l->first) /* nothing can run: all that wait are told why */
        fail_place(l, l->first, &why);
}

static void open_device(struct loader *l, struct place *p)
{
    if (l->opening)
        return;
    struct err why;
    l->open.job.done = done_open;
    if (engine_open(l->d->engine, &l->open, &why))
        fail_place(l, p, &why);
    else
        l->opening = true;
}

static enum err_code estimate_as(struct estimate_job *q, uint32_t n_seq, uint32_t n_ctx)
{
    struct model_options o = q->options;
    o.n_seq = n_seq;
    o.n_ctx = n_ctx;
    enum err_code c = model_estimate(&o, &q->estimate, &q->err);
    q->bytes = q->estimate.weight_bytes + q->estimate.kv_bytes + q->estimate.scratch_bytes;
    return c;
}

/* As many sequences as is good, as long a context as fits. */
static enum err_code estimate(struct estimate_job *q)
{
    enum err_code c = estimate_as(q, 1, q->options.n_ctx);
    while (!c && q->bytes > q->budget && !q->exact && q->estimate.n_ctx > 512)
        c = estimate_as(q, 1, q->estimate.n_ctx / 2);
    if (c)
        return c;
    uint64_t rest = q->estimate.weight_bytes + q->estimate.scratch_bytes;
    uint64_t kv = q->estimate.kv_bytes;
    uint32_t n_ctx = q->estimate.n_ctx;
    uint32_t n = residency_parallel(q->parallel, q->usual, kv, rest, q->budget);
    while (!(c = estimate_as(q, n, n_ctx)) && q->bytes > q->budget && n > 1)
        n /= 2;
    if (c || q->bytes <= q->budget || !q->exact || !kv)
        return c;
    uint64_t room = q->budget > rest ? (q->budget - rest) / (kv / n_ctx ? kv / n_ctx : 1) : 0;
    return err_set(&q->err, ERR_NO_DEVICE_MEMORY,
                   "a context of %u tokens needs %" PRIu64 " bytes of device memory and %" PRIu64
                   " can be used: at most %" PRIu64 " tokens fit",
                   n_ctx, q->bytes, q->budget, room);
}

static void work_estimate(struct job *j)
{
    struct estimate_job *q = OWNER(struct estimate_job, job, j);
    q->err.code = estimate(q);
}

static void done_estimate(struct job *j)
{
    struct estimate_job *q = OWNER(struct estimate_job, job, j);
    struct loader *l = q->loader;
    q->done = true;
    if (!q->place) {
        estimate_free(q);
        return;
    }
    if (q->err.code) {
        struct err why = q->err;
        fail_place(l, q->place, &why);
    }
    kick(l);
}

static void start_estimate(struct loader *l, struct place *p)
{
    struct err why;
    const struct config *c = &l->d->config;
    uint32_t n_ctx = p->n_ctx ? p->n_ctx : c->context;
    struct estimate_job *q = mem_zero(1, sizeof *q);
    char *path = mem_strdup(p->path);
    if (!q || !path) {
        mem_free(q);
        mem_free(path);
        err_no_memory(&why, sizeof *q, "an estimate");
        fail_place(l, p, &why);
        return;
    }
    if (p->n_ctx_train && n_ctx > p->n_ctx_train)
        n_ctx = p->n_ctx_train;
    *q = (struct estimate_job){
        .job = { .work = work_estimate, .done = done_estimate },
        .loader = l, .place = p, .path = path,
        .options = { .path = path, .n_ctx = n_ctx, .kv_type = c->kv_type },
        .parallel = c->parallel,
        .usual = l->open.device.software ? PARALLEL_CPU : PARALLEL_GPU,
        .budget = l->budget, .exact = n_ctx != 0,
    };
    p->estimate = q;
    if (jobs_submit(l->d->jobs, LANE_WORDS, &q->job, &why)) {
        p->estimate = NULL;
        estimate_free(q);
        fail_place(l, p, &why);
    }
}

/* ---- loading ----------------------------------------------------------------------------------------- */

static void fail_all_of(struct loader *l, const struct resident *r, const struct err *why)
{
    for (struct place *p = l->first, *next; p; p = next) {
        next = p->next;
        if (p->loading == r)
            fail_place(l, p, why);
    }
}

/* The device has less room than the estimate said: all that is idle goes. False: nothing is. */
static bool unload_idle(struct loader *l)
{
    bool any = false;
    for (struct resident *r = l->residents, *next; r; r = next) {
        next = r->next;
        if (r->fact.users || r->fact.moving)
            continue;
        start_unload(l, r);
        any = true;
    }
    set_timer(l);
    return any;
}

static void done_load(struct job *j)
{
    struct resident *r = OWNER(struct resident, load.job, j);
    struct loader *l = r->loader;
    r->fact.moving = false;
    if (r->load.err.code) {
        struct err why = r->load.err;
        log_line(LOG_ERROR, "msg=\"load failed\" model=\"%s\" error=\"%s\"", r->name, why.text);
        resident_unlink(l, r);
        if (why.code != ERR_NO_DEVICE_MEMORY || !unload_idle(l))
            fail_all_of(l, r, &why); /* else they try again once that room is free */
        resident_free(r);
        kick(l);
        return;
    }
    r->model = r->load.model;
    r->info = r->load.info;
    r->device = r->load.device;
    r->n_ctx = r->info.n_ctx;
    r->n_seq = r->info.n_seq;
    r->fact.bytes = r->info.device_bytes;
    r->fact.idle_since = clock_ns();
    l->d->metrics.loads++;
    l->d->metrics.load_ns += r->info.load_ns;
    log_line(LOG_INFO, "msg=\"model loaded\" model=\"%s\" n_ctx=%u n_seq=%u bytes=%" PRIu64
             " ms=%" PRId64, r->name, r->n_ctx, r->n_seq, r->fact.bytes, r->info.load_ns / 1000000);
    if (r->leaving)
        start_unload(l, r);
    kick(l);
    set_timer(l);
}

static bool any_moving(const struct loader *l)
{
    for (const struct resident *r = l->residents; r; r = r->next)
        if (r->fact.moving)
            return true;
    return false;
}

static void start_load(struct loader *l, struct place *p)
{
    struct err why;
    const struct estimate_job *q = p->estimate;
    struct resident *r = resident_create(l, p);
    if (!r) {
        err_no_memory(&why, sizeof *r, "a model");
        fail_place(l, p, &why);
        return;
    }
    r->fact.bytes = q->bytes;
    r->fact.moving = true;
    r->n_ctx = q->estimate.n_ctx;
    r->n_seq = q->estimate.n_seq;
    r->load.options = (struct model_options){
        .path = r->path, .n_ctx = r->n_ctx, .n_seq = r->n_seq, .kv_type = q->options.kv_type,
    };
    r->load.job.done = done_load;
    if (engine_load(l->d->engine, &r->load, &why)) {
        resident_free(r);
        fail_place(l, p, &why);
        return;
    }
    r->next = l->residents;
    l->residents = r;
    p->loading = r;
}

static void make_room(struct loader *l, struct place *p)
{
    struct resident_fact fact[MAX_RESIDENTS];
    struct resident *who[MAX_RESIDENTS];
    bool evict[MAX_RESIDENTS];
    struct err why;
    size_t n = facts_of(l, fact, who);
    if (any_moving(l) || n == MAX_RESIDENTS)
        return; /* one at a time; asked again when it has moved */
    switch (residency_decide(fact, n, p->estimate->bytes, l->budget, evict)) {
    case RESIDENCY_FITS:
        start_load(l, p);
        break;
    case RESIDENCY_EVICT:
        for (size_t i = 0; i < n; i++)
            if (evict[i])
                start_unload(l, who[i]);
        set_timer(l);
        break;
    case RESIDENCY_WAIT:
        break;
    case RESIDENCY_REFUSE:
        err_set(&why, ERR_NO_DEVICE_MEMORY,
                "model '%s' needs %" PRIu64 " bytes of device memory and %" PRIu64 " can be used",
                p->name, p->estimate->bytes, l->budget);
        fail_place(l, p, &why);
        break;
    }
}

/* ---- places -------------------------------------------------------------------------------------- */

/* Is the loaded model what the place wants? A longer context than it has is not, as long as the
 * model could have one. */
static bool suits(const struct place *p, const struct resident *r)
{
    uint32_t want = p->n_ctx;
    if (p->n_ctx_train && want > p->n_ctx_train)
        want = p->n_ctx_train;
    return !r->lost && want <= r->n_ctx && same_identity(&p->identity, &r->identity);
}

static void take(struct loader *l, struct place *p, struct resident *r)
{
    r->fact.users++;
    p->resident = r;
    end_place(l, p);
}

/* Moves one place on as far as it goes now. */
static void advance(struct loader *l, struct place *p)
{
    struct resident *r = find(l, p);
    p->loading = NULL;
    if (r && !r->leaving && suits(p, r)) {
        p->loading = r;
        if (!r->fact.moving)
            take(l, p, r);
    } else if (r) {
        if (!r->leaving && !r->fact.moving) {
            start_unload(l, r); /* by its last user, if it has one */
            set_timer(l);
        }
    } else if (!l->device_known) {
        open_device(l, p);
    } else if (!p->estimate) {
        start_estimate(l, p);
    } else if (p->estimate->done) {
        make_room(l, p);
    }
}

/* Something has changed: all that wait are looked at again, in their order. */
static void kick(struct loader *l)
{
    l->kick_again = true;
    if (l->kicking)
        return;
    l->kicking = true;
    while (l->kick_again) {
        l->kick_again = false;
        size_t n = 0, i = 0;
        for (const struct place *p = l->first; p; p = p->next)
            n++;
        for (struct place *p = l->first, *next; p && i < n; p = next, i++) {
            next = p->next;
            advance(l, p);
        }
    }
    l->kicking = false;
}

void loader_place(struct loader *l, struct place *p)
{
    p->resident = NULL;
    p->estimate = NULL;
    p->next = NULL;
    p->queued = true;
    *l->last = p;
    l->last = &p->next;
    kick(l);
}

/* ---- the loader ---------------------------------------------------------------------------------- */

const struct resident *loader_first(const struct loader *l)
{
    return l->residents;
}

uint32_t loader_capacity(const struct loader *l)
{
    uint32_t n = 0;
    for (const struct resident *r = l->residents; r; r = r->next)
        n += r->n_seq;
    return n ? n : l->d->config.parallel ? l->d->config.parallel : 4;
}

enum err_code loader_create(struct daemon *d, struct loader **out, struct err *e)
{
    struct loader *l = mem_zero(1, sizeof *l);
    *out = l;
    if (!l)
        return err_no_memory(e, sizeof *l, "the loader");
    l->d = d;
    l->last = &l->first;
    uv_timer_init(&d->loop, &l->timer);
    l->timer.data = l;
    return ERR_OK;
}

void loader_close(struct loader *l)
{
    uv_close((uv_handle_t *)&l->timer, NULL);
}

void loader_destroy(struct loader *l)
{
    if (!l)
        return;
    while (l->residents) {
        struct resident *r = l->residents;
        l->residents = r->next;
        resident_free(r);
    }
    mem_free(l);
}
