/* The daemon about itself. */
#include "daemon/loader.h"
#include "daemon/routes.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define HEALTH_TIMEOUT_MS 10000
#define LOAD_MAX_NS (INT64_C(300) * 1000000000) /* a load that takes longer is none */

void health_root(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    d->metrics.requests[2]++;
    http_reply(r, 200, "text/plain; charset=utf-8", STR("Ollama is running"));
}

void health_ready(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct buf b;
    struct json_out j;
    buf_init(&b, 4096);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "status", d->draining ? "shutting down" : "ready");
    json_obj_end(&j);
    reply_json(d, r, d->draining ? 503 : 200, &b);
}

void health_metrics(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct engine_stats engine = engine_stats(d->engine);
    struct http_counts http = http_server_counts(d->http);
    struct metrics_now now = {
        .engine = &engine,
        .http = &http,
        .generating = d->n_generating,
        .waiting = d->n_generating > engine.active ? d->n_generating - engine.active : 0,
        .live_blocks = mem_live(),
        .uptime_ns = clock_ns() - d->started_ns,
    };
    for (const struct resident *x = loader_first(d->loader); x; x = x->next) {
        now.models += x->model != NULL;
        now.device_bytes += x->model ? x->info.device_bytes : 0;
    }
    struct buf b;
    buf_init(&b, 1 << 20);
    metrics_write(&b, &d->metrics, &now);
    d->metrics.requests[2]++;
    if (b.failed)
        http_reply_error(r, 500, "out of memory");
    else
        http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", buf_str(&b));
    buf_finish(&b);
}

/* ---- healthz: the engine's thread is asked, and given a time to answer -------------------------- *
 *
 * It answers between two steps. A load is one long piece of work, and a daemon that loads is well: that is
 * said at once, of any that has not gone on for minutes. */

struct health {
    struct daemon *d;
    struct http_request *r; /* NULL: answered already */
    struct engine_check check;
    uv_timer_t timer;
    bool timer_closed, checked;
};

static void health_free(struct health *h)
{
    if (h->timer_closed && h->checked)
        mem_free(h);
}

static void on_timer_closed(uv_handle_t *t)
{
    struct health *h = t->data;
    h->timer_closed = true;
    health_free(h);
}

static void put_health(struct buf *b, const struct health *h, const char *error)
{
    struct json_out j;
    json_begin(&j, b);
    json_obj(&j);
    json_kstr(&j, "status", error ? "error" : "ok");
    if (error)
        json_kstr(&j, "error", error);
    if (h->checked) {
        json_kstr(&j, "device", h->check.open ? h->check.device.name : "not opened");
        if (h->check.open) {
            json_kstr(&j, "driver", h->check.device.driver);
            json_kbool(&j, "software", h->check.device.software);
        }
    } else if (!error) {
        json_kstr(&j, "engine", "loading");
    }
    json_obj_end(&j);
}

static void answer(struct health *h, const char *error)
{
    struct http_request *r = h->r;
    struct buf b;
    if (!r)
        return;
    h->r = NULL;
    buf_init(&b, 8192);
    put_health(&b, h, error);
    reply_json(h->d, r, error ? 503 : 200, &b);
    uv_close((uv_handle_t *)&h->timer, on_timer_closed);
}

static bool is_loading(const struct daemon *d)
{
    int64_t since = engine_stats(d->engine).loading_ns;
    return since && clock_ns() - since < LOAD_MAX_NS;
}

static void on_timeout(uv_timer_t *t)
{
    struct health *h = t->data;
    answer(h, is_loading(h->d) ? NULL : "the engine did not answer in time");
}

static void answer_loading(struct daemon *d, struct http_request *r)
{
    struct health h = { .d = d };
    struct buf b;
    buf_init(&b, 8192);
    put_health(&b, &h, NULL);
    reply_json(d, r, 200, &b);
}

static void done_check(struct job *j)
{
    struct health *h = (struct health *)(void *)((char *)j - offsetof(struct health, check.job));
    h->checked = true;
    answer(h, h->check.err.code ? h->check.err.text : NULL);
    health_free(h);
}

void health_live(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e;
    if (is_loading(d)) {
        answer_loading(d, r);
        return;
    }
    struct health *h = mem_zero(1, sizeof *h);
    if (!h) {
        err_no_memory(&e, sizeof *h, "a health check");
        reply_err(d, r, &e);
        return;
    }
    h->d = d;
    h->check.job.done = done_check;
    if (engine_check(d->engine, &h->check, &e)) {
        mem_free(h);
        reply_err(d, r, &e);
        return;
    }
    h->r = r;
    uv_timer_init(&d->loop, &h->timer);
    h->timer.data = h;
    uv_timer_start(&h->timer, on_timeout, HEALTH_TIMEOUT_MS, 0);
}
