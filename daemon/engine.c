#include "daemon/engine.h"

#include <pthread.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define STALE_NS (INT64_C(300) * 1000000000) /* a conversation idle for longer is thought over */

/* A session and what is known of it. */
struct seat {
    struct session *session; /* NULL: not yet made */
    struct run *run;         /* NULL: idle */
    bool paused;             /* the run's ring is too full for what a step may give */
    int32_t *tokens;         /* [n_ctx] the timeline: prompt and what was sampled */
    uint32_t n;
    int64_t used_ns;
};

struct engine_model {
    struct engine_model *next;
    struct model *model;     /* NULL: lost with its device */
    uint32_t n_ctx, n_seq;
    struct seat *seat;       /* [n_seq] */
    struct run *first, **last; /* runs that wait for a seat */
    uint32_t active;         /* under the lock of the engine's figures */
};

struct engine {
    struct engine_options o;
    pthread_t thread;
    atomic_bool ending;
    struct runtime *runtime;
    struct engine_model *models;
    struct post lost_post;
    pthread_mutex_t lock;    /* of stats, models' `active`, and `ended` */
    pthread_cond_t gone;
    bool ended;
    struct engine_stats stats;
};

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))

/* ---- runs ------------------------------------------------------------------------------------------ */

static void on_news(struct post *p)
{
    struct run *r = OWNER(struct run, news, p);
    r->notify(r);
}

static void on_end(struct post *p)
{
    struct run *r = OWNER(struct run, end, p);
    r->ended = true;
    r->notify(r);
}

enum err_code run_init(struct run *r, struct err *e)
{
    *r = (struct run){ .news.on_loop = on_news, .end.on_loop = on_end };
    r->ring = mem_zero(RUN_RING, sizeof *r->ring);
    return r->ring ? ERR_OK : err_no_memory(e, RUN_RING * sizeof *r->ring, "a run's events");
}

void run_finish(struct run *r)
{
    mem_free(r->ring);
    r->ring = NULL;
}

void run_cancel(struct run *r)
{
    atomic_store(&r->cancel, true);
    jobs_wake(r->engine->o.jobs, LANE_ENGINE);
}

bool run_ended(const struct run *r)
{
    return r->ended;
}

static unsigned ring_n(struct run *r)
{
    return atomic_load(&r->put) - atomic_load(&r->got);
}

bool run_next(struct run *r, struct run_event *out)
{
    if (!ring_n(r))
        return false;
    *out = r->ring[atomic_load(&r->got) % RUN_RING];
    atomic_fetch_add(&r->got, 1);
    if (atomic_load(&r->starved) && ring_n(r) <= RUN_RING / 2)
        jobs_wake(r->engine->o.jobs, LANE_ENGINE);
    return true;
}

/* The last word about a run: after it the run is the loop's again. */
static void end_run(struct engine *en, struct run *r)
{
    if (r->seat) {
        r->seat->run = NULL;
        r->seat->paused = false;
        r->seat->used_ns = clock_ns();
        r->seat = NULL;
    }
    pthread_mutex_lock(&en->lock);
    en->stats.runs++;
    en->stats.cancelled += r->err.code == ERR_CANCELLED;
    en->stats.failed += r->err.code != ERR_OK && r->err.code != ERR_CANCELLED;
    pthread_mutex_unlock(&en->lock);
    jobs_post(en->o.jobs, &r->end);
}

static void fail_run(struct engine *en, struct run *r, const struct err *why)
{
    r->err = *why;
    end_run(en, r);
}

/* ---- losing the device ---------------------------------------------------------------------------- */

static void fail_model_runs(struct engine *en, struct engine_model *m, const struct err *why)
{
    for (uint32_t i = 0; i < m->n_seq; i++) {
        struct seat *s = &m->seat[i];
        if (s->run) {
            session_stop(s->session);
            fail_run(en, s->run, why);
        }
    }
    while (m->first) {
        struct run *r = m->first;
        m->first = r->next;
        fail_run(en, r, why);
    }
    m->last = &m->first;
}

/* Frees what the device holds of a model; the handle stays. */
static void drop_model(struct engine_model *m)
{
    for (uint32_t i = 0; i < m->n_seq; i++) {
        session_destroy(m->seat[i].session);
        m->seat[i].session = NULL;
        m->seat[i].n = 0;
    }
    if (m->model)
        model_unload(m->model);
    m->model = NULL;
}

/* The loop hears of the loss before the runs end: who asks again then gets a new device. */
static void lose_device(struct engine *en, const struct err *why)
{
    log_line(LOG_ERROR, "msg=\"device lost\" error=\"%s\"", why->text);
    pthread_mutex_lock(&en->lock);
    en->stats.lost++;
    en->stats.open = false;
    pthread_mutex_unlock(&en->lock);
    jobs_post(en->o.jobs, &en->lost_post);
    for (struct engine_model *m = en->models; m; m = m->next) {
        fail_model_runs(en, m, why);
        drop_model(m);
    }
    runtime_destroy(en->runtime);
    en->runtime = NULL;
}

static void on_lost(struct post *p)
{
    struct engine *en = OWNER(struct engine, lost_post, p);
    if (en->o.lost)
        en->o.lost(en->o.user);
}

/* ---- seats ------------------------------------------------------------------------------------------ */

#define SHARE_LEAST 32 /* tokens worth sharing, or waiting for */

static uint32_t common_prefix(const struct seat *s, uint32_t n, const struct run *r)
{
    uint32_t i = 0;
    n = n < s->n ? n : s->n;
    while (i < n && i < r->n_tokens && s->tokens[i] == r->tokens[i])
        i++;
    return i;
}

/* Tokens of the prompt whose rows this seat has. */
static uint32_t held_prefix(const struct seat *s, const struct run *r)
{
    return s->session ? common_prefix(s, session_n_tokens(s->session), r) : 0;
}

static struct seat *best_holder(struct engine_model *m, const struct run *r)
{
    struct seat *best = &m->seat[0];
    uint32_t most = held_prefix(best, r);
    for (uint32_t i = 1; i < m->n_seq; i++) {
        uint32_t n = held_prefix(&m->seat[i], r);
        if (n > most) {
            most = n;
            best = &m->seat[i];
        }
    }
    return best;
}

/* Is another run about to have rows that this one needs? Then they are shared once they are there: several
 * completions of one prompt compute it once. */
static bool is_coming(struct engine_model *m, const struct run *r)
{
    uint32_t held = held_prefix(best_holder(m, r), r);
    for (uint32_t i = 0; i < m->n_seq && r->kind == TURN_GENERATE; i++) {
        const struct seat *s = &m->seat[i];
        if (s->run && common_prefix(s, s->n, r) >= held + SHARE_LEAST &&
            session_n_tokens(s->session) + 1 < s->run->n_tokens)
            return true;
    }
    return false;
}

/* Rows to compute now, and half of those that are lost should the other conversation go on. `held`: what some
 * seat has of the prompt. */
static uint64_t seat_cost(const struct seat *s, const struct run *r, uint32_t held, int64_t now)
{
    uint32_t own = held_prefix(s, r), common = held >= own + SHARE_LEAST ? held : own;
    bool stale = now - s->used_ns > STALE_NS;
    uint64_t lost = s->session && !stale ? s->n - own : 0;
    return 2 * (r->n_tokens - common) + lost;
}

/* The idle seat that serves this prompt at the least cost, or NULL while all are taken. */
static struct seat *choose_seat(struct engine_model *m, const struct run *r)
{
    struct seat *best = NULL;
    uint64_t least = UINT64_MAX;
    int64_t now = clock_ns();
    uint32_t held = r->kind == TURN_GENERATE ? held_prefix(best_holder(m, r), r) : 0;
    for (uint32_t i = 0; i < m->n_seq; i++) {
        struct seat *s = &m->seat[i];
        uint64_t cost = s->run ? UINT64_MAX : seat_cost(s, r, held, now);
        if (cost < least || (best && cost == least && s->used_ns < best->used_ns)) {
            least = cost;
            best = s;
        }
    }
    return best;
}

static enum err_code begin_turn(struct engine *en, struct seat *s, struct run *r, struct err *e)
{
    struct turn t = {
        .kind = r->kind,
        .tokens = s->tokens,
        .n_tokens = s->n,
        .sampling = r->sampling,
        .max_tokens = r->max_tokens,
        .words = r->words,
        .want_logprob = r->want_logprob,
        .ignore_eog = r->ignore_eog,
        .min_tokens = r->min_tokens,
        .stop = r->stop,
        .n_stop = r->n_stop,
        .ban = r->ban,
        .n_ban = r->n_ban,
        .constraint = r->constraint,
        .phrase = r->phrase,
        .n_phrase = r->n_phrase,
        .n_top = r->n_top,
        .user = r,
    };
    uint32_t cached = 0;
    enum err_code c = session_begin(s->session, &t, &cached, e);
    if (c)
        return c;
    r->begun_ns = clock_ns();
    r->n_cached = cached;
    pthread_mutex_lock(&en->lock);
    en->stats.cached_tokens += cached;
    en->stats.prompt_tokens += r->n_tokens;
    pthread_mutex_unlock(&en->lock);
    return ERR_OK;
}

/* What another seat holds of the prompt beyond what this one does. */
static enum err_code share_prefix(struct engine_model *m, struct seat *s, const struct run *r, struct err *e)
{
    const struct seat *from = best_holder(m, r);
    uint32_t n = held_prefix(from, r);
    if (r->kind != TURN_GENERATE || n < held_prefix(s, r) + SHARE_LEAST)
        return ERR_OK;
    return session_share(s->session, from->session, n, e);
}

static enum err_code seat_run(struct engine *en, struct engine_model *m, struct seat *s,
                              struct run *r, struct err *e)
{
    if (r->n_tokens > m->n_ctx)
        return err_set(e, ERR_INVALID, "the prompt has %zu tokens and the context %u", r->n_tokens,
                       m->n_ctx);
    if (!s->session) {
        enum err_code c = session_create(m->model, &s->session, e);
        if (c)
            return c;
    }
    enum err_code c = share_prefix(m, s, r, e);
    memcpy(s->tokens, r->tokens, r->n_tokens * sizeof *s->tokens);
    s->n = (uint32_t)r->n_tokens;
    c = c ? c : begin_turn(en, s, r, e);
    if (c) {
        s->n = 0; /* what it holds is no longer known */
        return c;
    }
    s->run = r;
    r->seat = s;
    return ERR_OK;
}

static void unlink_run(struct engine_model *m, struct run **at)
{
    *at = (*at)->next;
    if (!*at)
        m->last = at;
}

/* Gives seats to runs that wait, first come first served. False: the device was lost. */
static bool admit(struct engine *en, struct engine_model *m)
{
    struct run **at = &m->first;
    while (*at) {
        struct run *r = *at;
        struct seat *s = choose_seat(m, r);
        if (!s)
            return true;
        if (is_coming(m, r)) {
            at = &r->next;
            continue;
        }
        unlink_run(m, at);
        struct err why = { 0 };
        enum err_code c = seat_run(en, m, s, r, &why);
        if (c == ERR_GPU_LOST)
            lose_device(en, &why);
        if (c)
            fail_run(en, r, &why);
        if (c == ERR_GPU_LOST)
            return false;
    }
    return true;
}

/* ---- between steps ------------------------------------------------------------------------------- */

static const struct err cancelled = { ERR_CANCELLED, "request canceled" };

static void drop_cancelled_waiting(struct engine *en, struct engine_model *m)
{
    struct run **at = &m->first;
    while (*at) {
        struct run *r = *at;
        if (atomic_load(&r->cancel)) {
            *at = r->next;
            fail_run(en, r, &cancelled);
        } else {
            at = &r->next;
        }
    }
    m->last = at;
}

/* Hears cancels, and takes up runs whose client has caught up. */
static void look_at_seat(struct engine *en, struct seat *s)
{
    struct run *r = s->run;
    if (atomic_load(&r->cancel)) {
        session_stop(s->session);
        fail_run(en, r, &cancelled);
    } else if (s->paused && ring_n(r) <= RUN_RING / 2) {
        s->paused = false;
        atomic_store(&r->starved, false);
        session_pause(s->session, false);
    }
}

static bool between_steps(struct engine *en, struct engine_model *m)
{
    drop_cancelled_waiting(en, m);
    for (uint32_t i = 0; i < m->n_seq; i++)
        if (m->seat[i].run)
            look_at_seat(en, &m->seat[i]);
    return admit(en, m);
}

/* ---- steps ---------------------------------------------------------------------------------------- */

static void put_event(struct run *r, const struct event *ev)
{
    struct run_event *to = &r->ring[atomic_load(&r->put) % RUN_RING];
    to->token = ev->token;
    to->position = ev->position;
    to->finish = ev->finish;
    to->logprob = ev->logprob;
    to->n_top = ev->n_top < RUN_MAX_TOP ? ev->n_top : RUN_MAX_TOP;
    memcpy(to->top_token, ev->top_token, to->n_top * sizeof *to->top_token);
    memcpy(to->top_logprob, ev->top_logprob, to->n_top * sizeof *to->top_logprob);
    atomic_fetch_add(&r->put, 1);
}

static void take_token(struct engine *en, struct engine_model *m, struct run *r,
                       const struct event *ev)
{
    struct seat *s = r->seat;
    if (ev->finish == FINISH_FAILED) {
        fail_run(en, r, ev->err);
        return;
    }
    put_event(r, ev);
    if (ev->position < m->n_ctx) {
        s->tokens[ev->position] = ev->token;
        s->n = ev->position + 1;
    }
    if (ev->finish != FINISH_NONE) {
        end_run(en, r);
        return;
    }
    if (!s->paused && ring_n(r) > RUN_RING - SESSION_MAX_EVENTS) { /* the client does not keep up */
        session_pause(s->session, true);
        s->paused = true;
        atomic_store(&r->starved, true);
    }
    jobs_post(en->o.jobs, &r->news);
}

static void take_score(struct engine *en, struct run *r, const struct event *ev)
{
    if (ev->position < r->n_tokens) {
        r->scores[ev->position] = ev->logprob;
        for (uint32_t i = 0; r->tops && i < r->n_top && i < ev->n_top; i++)
            r->tops[(size_t)ev->position * r->n_top + i] =
                (struct run_top){ ev->top_token[i], ev->top_logprob[i] };
    }
    if (ev->finish != FINISH_NONE)
        end_run(en, r);
}

static void take_events(struct engine *en, struct engine_model *m, const struct step *step)
{
    int64_t now = clock_ns();
    for (size_t i = 0; i < step->n_events; i++) {
        const struct event *ev = &step->events[i];
        struct run *r = ev->user;
        r->first_ns = r->first_ns ? r->first_ns : now;
        r->last_ns = now;
        if (ev->kind == EVENT_SCORE)
            take_score(en, r, ev);
        else
            take_token(en, m, r, ev);
    }
}

static void count_step(struct engine *en, const struct step *step)
{
    pthread_mutex_lock(&en->lock);
    en->stats.steps++;
    en->stats.rows += step->n_rows;
    en->stats.prefill_rows += step->n_prefill;
    en->stats.tokens += step->n_events;
    en->stats.step_ns += step->step_ns;
    en->stats.device_ns += step->device_ns;
    pthread_mutex_unlock(&en->lock);
}

static void count_seats(struct engine *en)
{
    pthread_mutex_lock(&en->lock);
    en->stats.models = en->stats.sessions = en->stats.active = en->stats.waiting = 0;
    for (struct engine_model *m = en->models; m; m = m->next) {
        en->stats.models += m->model != NULL;
        m->active = 0;
        for (uint32_t i = 0; i < m->n_seq; i++) {
            en->stats.sessions += m->seat[i].session != NULL;
            m->active += m->seat[i].run != NULL;
        }
        en->stats.active += m->active;
        for (const struct run *r = m->first; r; r = r->next)
            en->stats.waiting++;
    }
    pthread_mutex_unlock(&en->lock);
}

/* One step of one model. True: it had work. */
static bool step_model(struct engine *en, struct engine_model *m)
{
    struct step step;
    struct err why = { 0 };
    if (!m->model || !between_steps(en, m) || !model_has_work(m->model))
        return false;
    enum err_code c = model_step(m->model, &step, &why);
    if (c == ERR_GPU_LOST) {
        lose_device(en, &why);
    } else if (c) {
        log_line(LOG_ERROR, "msg=\"a step failed\" error=\"%s\"", why.text);
        fail_model_runs(en, m, &why);
    } else {
        count_step(en, &step);
        take_events(en, m, &step);
    }
    return true;
}

/* ---- jobs ------------------------------------------------------------------------------------------ */

static enum err_code open_device(struct engine *en, struct device_info *info, struct err *e)
{
    if (!en->runtime) {
        enum err_code c = runtime_create(&en->o.runtime, &en->runtime, e);
        if (c) {
            en->runtime = NULL;
            return c;
        }
        const struct device_info *d = runtime_device(en->runtime);
        log_line(LOG_INFO, "msg=\"device opened\" device=\"%s\" driver=\"%s\" software=%d", d->name,
                 d->driver, d->software);
        pthread_mutex_lock(&en->lock);
        en->stats.open = true;
        pthread_mutex_unlock(&en->lock);
    }
    *info = *runtime_device(en->runtime);
    return ERR_OK;
}

/* For who asks meanwhile: the device is opened or a model loaded, which takes as long as it takes. */
static void set_loading(struct engine *en, bool loading)
{
    pthread_mutex_lock(&en->lock);
    en->stats.loading_ns = loading ? clock_ns() : 0;
    pthread_mutex_unlock(&en->lock);
}

static void work_open(struct job *j)
{
    struct engine_open *o = OWNER(struct engine_open, job, j);
    set_loading(o->engine, true);
    o->err.code = open_device(o->engine, &o->device, &o->err);
    set_loading(o->engine, false);
}

static void free_model(struct engine_model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; m->seat && i < m->n_seq; i++)
        mem_free(m->seat[i].tokens);
    mem_free(m->seat);
    mem_free(m);
}

static struct engine_model *make_handle(const struct model_info *info, struct err *e)
{
    size_t bytes = (size_t)info->n_seq * info->n_ctx * sizeof(int32_t);
    struct engine_model *m = mem_zero(1, sizeof *m);
    struct seat *seat = m ? mem_zero(info->n_seq, sizeof *seat) : NULL;
    bool whole = seat != NULL;
    if (m) {
        m->seat = seat;
        m->n_ctx = info->n_ctx;
        m->n_seq = info->n_seq;
        m->last = &m->first;
    }
    for (uint32_t i = 0; whole && i < info->n_seq; i++) {
        seat[i].tokens = mem_zero(info->n_ctx, sizeof *seat[i].tokens);
        whole = seat[i].tokens != NULL;
    }
    if (whole)
        return m;
    free_model(m);
    err_no_memory(e, bytes, "a model's sessions");
    return NULL;
}

static void load(struct engine_load *l)
{
    struct engine *en = l->engine;
    struct model *model = NULL;
    enum err_code c = open_device(en, &l->device, &l->err);
    if (!c)
        c = model_load(en->runtime, &l->options, &model, &l->err);
    l->err.code = c;
    if (c == ERR_GPU_LOST)
        lose_device(en, &l->err);
    if (c)
        return;
    l->info = *model_info(model);
    struct engine_model *m = make_handle(&l->info, &l->err);
    if (!m) {
        model_unload(model);
        return;
    }
    m->model = model;
    m->next = en->models;
    en->models = m;
    l->model = m;
}

static void work_load(struct job *j)
{
    struct engine_load *l = OWNER(struct engine_load, job, j);
    set_loading(l->engine, true);
    load(l);
    set_loading(l->engine, false);
}

static void work_unload(struct job *j)
{
    struct engine_unload *u = OWNER(struct engine_unload, job, j);
    struct engine_model **at = &u->engine->models;
    while (*at && *at != u->model)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = u->model->next;
    drop_model(u->model);
    free_model(u->model);
}

static void work_check(struct job *j)
{
    struct engine_check *k = OWNER(struct engine_check, job, j);
    struct engine *en = k->engine;
    k->open = en->runtime != NULL;
    if (!k->open)
        return;
    k->device = *runtime_device(en->runtime);
    k->err.code = runtime_check(en->runtime, &k->err);
    if (k->err.code == ERR_GPU_LOST)
        lose_device(en, &k->err);
}

static void work_run(struct job *j)
{
    struct run *r = OWNER(struct run, job, j);
    struct engine_model *m = r->model;
    if (!m->model) {
        struct err why;
        err_set(&why, ERR_GPU_LOST, "the device was lost and the model with it; please try again");
        fail_run(r->engine, r, &why);
        return;
    }
    r->next = NULL;
    *m->last = r;
    m->last = &r->next;
}

static enum err_code submit(struct engine *en, struct job *j, void (*work)(struct job *),
                            struct err *e)
{
    j->work = work;
    return jobs_submit(en->o.jobs, LANE_ENGINE, j, e);
}

enum err_code engine_open(struct engine *en, struct engine_open *o, struct err *e)
{
    o->engine = en;
    err_clear(&o->err);
    return submit(en, &o->job, work_open, e);
}

enum err_code engine_load(struct engine *en, struct engine_load *l, struct err *e)
{
    l->engine = en;
    l->model = NULL;
    err_clear(&l->err);
    return submit(en, &l->job, work_load, e);
}

enum err_code engine_unload(struct engine *en, struct engine_unload *u, struct err *e)
{
    u->engine = en;
    return submit(en, &u->job, work_unload, e);
}

enum err_code engine_check(struct engine *en, struct engine_check *k, struct err *e)
{
    k->engine = en;
    err_clear(&k->err);
    return submit(en, &k->job, work_check, e);
}

enum err_code run_submit(struct engine *en, struct run *r, struct err *e)
{
    r->engine = en;
    r->job.done = NULL;
    return submit(en, &r->job, work_run, e);
}

/* ---- the thread ------------------------------------------------------------------------------------ */

/* A run is lent by its job: the loop is told by end_run alone, which may free it. */
static void work_off(struct engine *en, struct job *jobs)
{
    while (jobs) {
        struct job *j = jobs;
        jobs = j->next;
        bool is_run = j->work == work_run;
        j->work(j);
        if (!is_run)
            jobs_finish(en->o.jobs, j);
    }
}

/* Between a load and the run that asked for it nobody has work either: quiet is when it lasts. */
#define QUIET_NS ((int64_t)50 * 1000000)

/* While nobody waits: one more thing that a later step would otherwise stop for. */
static bool prepare_one(struct engine *en)
{
    for (struct engine_model *m = en->models; m; m = m->next)
        if (m->model && model_prepare(m->model))
            return true;
    return false;
}

static void *engine_main(void *arg)
{
    struct engine *en = arg;
    bool work = false, prepared = true;
    while (!atomic_load(&en->ending)) {
        struct job *jobs = jobs_take(en->o.jobs, LANE_ENGINE, work ? 0 : prepared ? -1 : QUIET_NS);
        bool quiet = !jobs && !work;
        work_off(en, jobs);
        work = false;
        for (struct engine_model *m = en->models; m && !atomic_load(&en->ending); m = m->next)
            work |= step_model(en, m);
        count_seats(en);
        if (!quiet || work)
            prepared = false;
        else if (!prepared && !atomic_load(&en->ending))
            prepared = !prepare_one(en);
    }
    for (struct engine_model *m = en->models, *next; m; m = next) {
        next = m->next;
        drop_model(m);
        free_model(m);
    }
    runtime_destroy(en->runtime);
    pthread_mutex_lock(&en->lock);
    en->ended = true;
    pthread_cond_signal(&en->gone);
    pthread_mutex_unlock(&en->lock);
    return NULL;
}

enum err_code engine_create(const struct engine_options *o, struct engine **out, struct err *e)
{
    *out = NULL;
    struct engine *en = mem_zero(1, sizeof *en);
    if (!en)
        return err_no_memory(e, sizeof *en, "the engine's thread");
    en->o = *o;
    en->lost_post.on_loop = on_lost;
    pthread_mutex_init(&en->lock, NULL);
    pthread_cond_init(&en->gone, NULL);
    int rc = pthread_create(&en->thread, NULL, engine_main, en);
    if (rc) {
        pthread_mutex_destroy(&en->lock);
        pthread_cond_destroy(&en->gone);
        mem_free(en);
        return err_errno(e, ERR_NO_MEMORY, rc, "starting the engine's thread");
    }
    *out = en;
    return ERR_OK;
}

bool engine_stop(struct engine *en, int64_t timeout_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_ns / 1000000000);
    until.tv_nsec += timeout_ns % 1000000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    atomic_store(&en->ending, true);
    jobs_wake(en->o.jobs, LANE_ENGINE);
    pthread_mutex_lock(&en->lock);
    int rc = 0;
    while (!en->ended && !rc)
        rc = pthread_cond_timedwait(&en->gone, &en->lock, &until);
    bool ended = en->ended;
    pthread_mutex_unlock(&en->lock);
    if (ended)
        pthread_join(en->thread, NULL);
    return ended;
}

void engine_destroy(struct engine *en)
{
    if (!en)
        return;
    pthread_mutex_destroy(&en->lock);
    pthread_cond_destroy(&en->gone);
    mem_free(en);
}

struct engine_stats engine_stats(struct engine *en)
{
    pthread_mutex_lock(&en->lock);
    struct engine_stats s = en->stats;
    pthread_mutex_unlock(&en->lock);
    return s;
}

uint32_t engine_model_active(struct engine *en, const struct engine_model *m)
{
    pthread_mutex_lock(&en->lock);
    uint32_t n = m->active;
    pthread_mutex_unlock(&en->lock);
    return n;
}
