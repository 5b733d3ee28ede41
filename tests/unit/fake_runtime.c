#include "tests/unit/fake_runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"

#define CHUNK 64
#define MAX_SEQ 64

struct fake_runtime fake = { .memory = (uint64_t)8 << 30, .n_ctx = 4096 };

struct runtime {
    struct device_info device;
    int models;
    bool lost;
};
struct session {
    struct model *m;
    struct turn turn;
    int32_t *tokens;
    uint32_t n, held, made;
    bool active, paused;
};
struct model {
    struct runtime *r;
    struct model_info info;
    struct session *session[MAX_SEQ];
    struct event events[4096];
};

int32_t fake_next(int32_t last, uint32_t n)
{
    return (int32_t)(((uint32_t)last * 31u + n * 7u) % 60u) + 36;
}

static bool falls_due(atomic_int *count)
{
    int n = atomic_load(count);
    while (n > 0 && !atomic_compare_exchange_weak(count, &n, n - 1))
        ;
    return n == 1;
}

static void take(atomic_int *micros)
{
    int us = atomic_load(micros);
    if (us)
        nanosleep(&(struct timespec){ us / 1000000, us % 1000000 * 1000 }, NULL);
}

/* For hearthd_fake, which a test drives from outside: the file that HEARTH_FAKE names is read at
 * every health check of an open device, and at its opening. Lines of `name value`. */
static void read_orders(void)
{
    const char *path = getenv("HEARTH_FAKE");
    FILE *f = path ? fopen(path, "r") : NULL;
    char name[32];
    int value;
    uint64_t fail_after = 0;
    while (f && fscanf(f, "%31s %d", name, &value) == 2) {
        if (strcmp(name, "step_us") == 0)
            atomic_store(&fake.step_us, value);
        else if (strcmp(name, "load_us") == 0)
            atomic_store(&fake.load_us, value);
        else if (strcmp(name, "lose_at_step") == 0)
            atomic_store(&fake.lose_at_step, value);
        else if (strcmp(name, "fail_load") == 0)
            atomic_store(&fake.fail_load, value);
        else if (strcmp(name, "irreproducible") == 0)
            atomic_store(&fake.irreproducible, value);
        else if (strcmp(name, "n_ctx") == 0)
            atomic_store(&fake.n_ctx, value);
        else if (strcmp(name, "eog_at") == 0)
            atomic_store(&fake.eog_at, value);
        else if (strcmp(name, "fail_allocation") == 0)
            fail_after = (uint64_t)value;
    }
    if (f)
        fclose(f);
    if (path)
        mem_fail_after(fail_after, false);
}

enum err_code runtime_create(const struct runtime_options *o, struct runtime **out, struct err *e)
{
    struct runtime *r = mem_zero(1, sizeof *r);
    *out = r;
    if (!r)
        return err_no_memory(e, sizeof *r, "the runtime");
    snprintf(r->device.name, sizeof r->device.name, "fake%s", o->device ? o->device : "");
    snprintf(r->device.driver, sizeof r->device.driver, "fake");
    r->device.memory_bytes = atomic_load(&fake.memory);
    r->device.software = true;
    atomic_fetch_add(&fake.opened, 1);
    read_orders();
    return ERR_OK;
}

void runtime_destroy(struct runtime *r)
{
    if (r && r->models)
        abort(); /* models go first */
    mem_free(r);
}

const struct device_info *runtime_device(const struct runtime *r)
{
    return &r->device;
}

static enum err_code lost(struct runtime *r, struct err *e)
{
    r->lost = true;
    return err_set(e, ERR_GPU_LOST, "the device is lost (as told)");
}

enum err_code runtime_check(struct runtime *r, struct err *e)
{
    atomic_fetch_add(&fake.checks, 1);
    read_orders();
    return r->lost ? lost(r, e) : ERR_OK;
}

enum err_code model_estimate(const struct model_options *o, struct model_estimate *out,
                             struct err *e)
{
    (void)e;
    uint32_t n_ctx = o->n_ctx ? o->n_ctx : (uint32_t)atomic_load(&fake.n_ctx), n_seq = o->n_seq ? o->n_seq : 4;
    *out = (struct model_estimate){
        .weight_bytes = 1 << 20, .kv_bytes = (uint64_t)n_ctx * n_seq * 1000,
        .scratch_bytes = 1 << 16, .n_ctx = n_ctx, .n_seq = n_seq,
    };
    return ERR_OK;
}

enum err_code model_load(struct runtime *r, const struct model_options *o, struct model **out,
                         struct err *e)
{
    struct model_estimate q;
    *out = NULL;
    take(&fake.load_us);
    int failure = atomic_load(&fake.fail_load);
    if (failure)
        return failure == ERR_GPU_LOST ? lost(r, e)
                                       : err_set(e, (enum err_code)failure, "no load (as told)");
    struct model *m = mem_zero(1, sizeof *m);
    if (!m)
        return err_no_memory(e, sizeof *m, "a model");
    model_estimate(o, &q, e);
    m->r = r;
    m->info = (struct model_info){
        .arch = "fake", .n_vocab = FAKE_VOCAB, .n_ctx = q.n_ctx,
        .n_seq = q.n_seq < MAX_SEQ ? q.n_seq : MAX_SEQ, .n_ctx_train = q.n_ctx,
        .weight_bytes = q.weight_bytes, .kv_bytes = q.kv_bytes,
        .device_bytes = q.weight_bytes + q.kv_bytes + q.scratch_bytes, .load_ns = 1000,
        .reproducible = !atomic_load(&fake.irreproducible),
    };
    r->models++;
    atomic_fetch_add(&fake.loads, 1);
    *out = m;
    return ERR_OK;
}

void model_unload(struct model *m)
{
    for (uint32_t i = 0; i < m->info.n_seq; i++)
        if (m->session[i])
            abort(); /* sessions go first */
    m->r->models--;
    atomic_fetch_add(&fake.unloads, 1);
    mem_free(m);
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

struct model_counters model_counters(const struct model *m)
{
    (void)m;
    return (struct model_counters){ 0 };
}

enum err_code session_create(struct model *m, struct session **out, struct err *e)
{
    *out = NULL;
    for (uint32_t i = 0; i < m->info.n_seq; i++) {
        if (m->session[i])
            continue;
        struct session *s = mem_zero(1, sizeof *s);
        int32_t *tokens = mem_zero(m->info.n_ctx + 1, sizeof *tokens);
        if (!s || !tokens) {
            mem_free(s);
            mem_free(tokens);
            return err_no_memory(e, sizeof *s, "a session");
        }
        s->m = m;
        s->tokens = tokens;
        m->session[i] = s;
        int n = atomic_fetch_add(&fake.sessions, 1) + 1;
        if (n > atomic_load(&fake.most_sessions))
            atomic_store(&fake.most_sessions, n);
        *out = s;
        return ERR_OK;
    }
    return err_set(e, ERR_BUSY, "all sessions are in use");
}

void session_destroy(struct session *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->m->info.n_seq; i++)
        if (s->m->session[i] == s)
            s->m->session[i] = NULL;
    atomic_fetch_sub(&fake.sessions, 1);
    mem_free(s->tokens);
    mem_free(s);
}

enum err_code session_begin(struct session *s, const struct turn *t, uint32_t *n_cached,
                            struct err *e)
{
    if (t->n_tokens > s->m->info.n_ctx)
        return err_set(e, ERR_TOO_LARGE, "too many tokens");
    uint32_t same = 0;
    while (same < s->held && same < t->n_tokens && s->tokens[same] == t->tokens[same])
        same++;
    if (same == t->n_tokens)
        same--;
    if (t->kind == TURN_SCORE)
        same = 0;
    if (s->tokens != t->tokens)
        memcpy(s->tokens, t->tokens, t->n_tokens * sizeof *s->tokens);
    s->turn = *t;
    s->n = (uint32_t)t->n_tokens;
    s->held = same;
    s->made = 0;
    s->active = true;
    s->paused = false;
    atomic_store(&fake.n_cached, (int)same);
    atomic_fetch_add(&fake.begins, 1);
    if (n_cached)
        *n_cached = same;
    return ERR_OK;
}

void session_stop(struct session *s)
{
    s->active = false;
}

enum err_code session_share(struct session *s, const struct session *from, uint32_t n, struct err *e)
{
    (void)e;
    n = n < from->held ? n : from->held;
    memcpy(s->tokens, from->tokens, n * sizeof *s->tokens);
    s->n = s->held = n;
    s->active = false;
    atomic_fetch_add(&fake.shares, 1);
    return ERR_OK;
}

void session_pause(struct session *s, bool paused)
{
    s->paused = paused;
}

bool session_active(const struct session *s)
{
    return s->active;
}

uint32_t session_n_tokens(const struct session *s)
{
    return s->held;
}

bool model_prepare(struct model *m)
{
    (void)m;
    return false;
}

bool model_has_work(const struct model *m)
{
    for (uint32_t i = 0; i < m->info.n_seq; i++)
        if (m->session[i] && m->session[i]->active && !m->session[i]->paused)
            return true;
    return false;
}

static void score(struct session *s, uint32_t from, struct step *out)
{
    for (uint32_t i = from ? from : 1; i < s->held; i++)
        s->m->events[out->n_events++] = (struct event){
            .kind = EVENT_SCORE, .session = s, .user = s->turn.user, .token = s->tokens[i],
            .position = i, .logprob = -(float)i,
            .finish = i + 1 == s->n ? FINISH_STOP : FINISH_NONE,
        };
    if (s->held == s->n)
        s->active = false;
}

static void generate(struct session *s, struct step *out)
{
    int eog = atomic_load(&fake.eog_at);
    struct event ev = {
        .kind = EVENT_TOKEN, .session = s, .user = s->turn.user,
        .token = fake_next(s->tokens[s->n - 1], s->n), .position = s->n, .logprob = -0.5f,
        .n_top = s->turn.n_top,
    };
    for (uint32_t i = 0; i < ev.n_top; i++) {
        ev.top_token[i] = ev.token + (int32_t)i;
        ev.top_logprob[i] = -0.5f - (float)i;
    }
    s->made++;
    if (eog && (int)s->n == eog && !s->turn.ignore_eog)
        ev.finish = FINISH_STOP;
    else if (s->made == s->turn.max_tokens || s->n + 1 >= s->m->info.n_ctx)
        ev.finish = FINISH_LENGTH;
    s->tokens[s->n++] = ev.token;
    s->active = ev.finish == FINISH_NONE;
    s->m->events[out->n_events++] = ev;
}

enum err_code model_step(struct model *m, struct step *out, struct err *e)
{
    *out = (struct step){ .events = m->events, .step_ns = 1000, .device_ns = 500 };
    take(&fake.step_us);
    atomic_fetch_add(&fake.steps, 1);
    if (falls_due(&fake.lose_at_step))
        return lost(m->r, e);
    if (falls_due(&fake.fail_at_step))
        return err_set(e, ERR_GPU, "a step failed (as told)");
    for (uint32_t i = 0; i < m->info.n_seq; i++) {
        struct session *s = m->session[i];
        if (!s || !s->active || s->paused)
            continue;
        uint32_t from = s->held, rows = s->n - s->held < CHUNK ? s->n - s->held : CHUNK;
        s->held += rows;
        out->n_rows += rows;
        out->n_prefill += rows > 1 ? rows : 0;
        if (s->turn.kind == TURN_SCORE)
            score(s, from, out);
        else if (s->held == s->n)
            generate(s, out);
    }
    return ERR_OK;
}

enum err_code model_explain(const struct explain_options *o, struct buf *out, struct err *e)
{
    (void)o;
    (void)e;
    buf_puts(out, "nothing is launched here\n");
    return ERR_OK;
}
