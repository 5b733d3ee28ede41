/* hearthd: settings, sockets, threads, run, drain. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/blobs.h"
#include "daemon/gen.h"
#include "daemon/inspect.h"
#include "daemon/listen.h"
#include "daemon/loader.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "daemon/words_cache.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define DRAIN_MS 4000       /* running answers may go on this long after SIGTERM */
#define GIVE_UP_MS 4700     /* ... and here the process ends whatever is left */
#define EXIT_TAKEN 3

struct program {
    struct daemon d;
    uv_signal_t term, interrupt;
    uv_timer_t drain;
    int64_t drain_began;
    bool cut;               /* running answers were told to end */
    struct unix_door door;
    char cache_dir[1100];
};

/* ---- the end -------------------------------------------------------------------------------------- */

static void leave_now(int number)
{
    (void)number;
    _exit(0);
}

/* The loop hears no signal any more: from here on one ends the process at once. */
static void stop_watching(struct program *p)
{
    sigset_t both;
    sigemptyset(&both);
    sigaddset(&both, SIGTERM);
    sigaddset(&both, SIGINT);
    pthread_sigmask(SIG_BLOCK, &both, NULL);
    uv_close((uv_handle_t *)&p->term, NULL);
    uv_close((uv_handle_t *)&p->interrupt, NULL);
    signal(SIGTERM, leave_now);
    signal(SIGINT, leave_now);
    pthread_sigmask(SIG_UNBLOCK, &both, NULL);
}

static void finish(struct program *p)
{
    struct daemon *d = &p->d;
    int64_t left = (int64_t)GIVE_UP_MS * 1000000 - (clock_ns() - p->drain_began);
    uv_close((uv_handle_t *)&p->drain, NULL);
    stop_watching(p);
    http_server_close(d->http, NULL, NULL);
    loader_close(d->loader);
    if (!engine_stop(d->engine, left > 0 ? left : 1)) {
        log_line(LOG_WARN, "msg=\"the engine is still busy: leaving without it\"");
        _exit(0);
    }
    jobs_destroy(d->jobs);
}

static void on_drain_tick(uv_timer_t *timer)
{
    static const struct err why = { ERR_BUSY, "the daemon is shutting down" };
    struct program *p = timer->data;
    struct daemon *d = &p->d;
    int64_t ms = (clock_ns() - p->drain_began) / 1000000;
    if (ms >= GIVE_UP_MS) {
        log_line(LOG_WARN, "msg=\"not done in time: leaving\"");
        _exit(0);
    }
    if (ms >= DRAIN_MS && !p->cut) {
        p->cut = true;
        gen_stop_all(d, true, &why);
    }
    if (!d->n_gens && !d->calls && !http_server_counts(d->http).busy)
        finish(p);
}

static void on_signal(uv_signal_t *signal, int number)
{
    static const struct err why = { ERR_BUSY, "the daemon is shutting down" };
    struct program *p = signal->data;
    if (p->d.draining) {
        log_line(LOG_INFO, "msg=\"second signal: leaving at once\" signal=%d", number);
        listen_unix_remove(&p->door);
        _exit(0);
    }
    log_line(LOG_INFO, "msg=\"shutting down\" signal=%d running=%zu", number, p->d.n_gens);
    listen_notify("STOPPING=1");
    p->d.draining = true;
    p->drain_began = clock_ns();
    listen_unix_remove(&p->door);
    http_server_drain(p->d.http);
    gen_stop_all(&p->d, false, &why);
    store_call_stop_all(&p->d);
    blobs_stop_all(&p->d);
    uv_timer_start(&p->drain, on_drain_tick, 0, 20);
}

/* ---- doors ------------------------------------------------------------------------------------------ */

static bool is_off(const char *setting)
{
    return strcmp(setting, "off") == 0;
}

static enum err_code serve(struct daemon *d, int fd, const char *path, struct err *e)
{
    char name[128];
    listen_name(fd, name, sizeof name);
    enum err_code c = http_server_listen(d->http, fd, e);
    if (!c)
        log_line(LOG_INFO, "msg=listening address=%s", path ? path : name);
    return c;
}

static enum err_code open_tcp(struct daemon *d, size_t *served, struct err *e)
{
    int fd[LISTEN_MAX];
    size_t n;
    enum err_code c = listen_tcp(d->config.listen, &d->auth, fd, &n, e);
    if (c == ERR_CONFLICT && *served) {
        log_line(LOG_WARN, "msg=\"%s; going on with the socket\"", e->text);
        err_clear(e);
        return ERR_OK;
    }
    for (size_t i = 0; i < n; i++) {
        if (!c)
            c = serve(d, fd[i], NULL, e);
        else
            close(fd[i]);
        *served += c == ERR_OK;
    }
    return c;
}

static enum err_code open_doors(struct program *p, struct err *e)
{
    struct daemon *d = &p->d;
    int fd[LISTEN_MAX];
    size_t n = listen_passed(fd), served = 0;
    enum err_code c = ERR_OK;
    for (size_t i = 0; i < n && !c; i++, served++)
        c = serve(d, fd[i], NULL, e);
    if (n || c)
        return c;
    if (!is_off(d->config.socket)) {
        c = listen_unix(d->config.socket, &p->door, e);
        if (!c)
            c = serve(d, p->door.fd, p->door.path, e);
        served += c == ERR_OK;
    }
    if (!c && !is_off(d->config.listen))
        c = open_tcp(d, &served, e);
    if (!c && !served)
        c = err_set(e, ERR_USAGE, "--socket off and --listen off leave nothing to listen on");
    return c;
}

/* ---- beginning --------------------------------------------------------------------------------------- */

static void on_request(void *user, struct http_request *r)
{
    routes_dispatch(user, r);
}

static bool streams(void *user, const struct http_request *r)
{
    (void)user;
    return routes_streams(r);
}

static void on_device_lost(void *user)
{
    struct daemon *d = user;
    loader_device_lost(d->loader);
}

/* Where pipelines are cached: beside the models. */
static const char *cache_dir(struct program *p)
{
    snprintf(p->cache_dir, sizeof p->cache_dir, "%s/cache", p->d.config.home);
    if (mkdir(p->cache_dir, 0700) && errno != EEXIST)
        return NULL;
    return p->cache_dir;
}

static enum err_code make_parts(struct program *p, struct err *e)
{
    struct daemon *d = &p->d;
    struct jobs_options jobs = { .loop = &d->loop };
    struct http_options http = {
        .loop = &d->loop,
        .auth = &d->auth,
        .max_body = (size_t)16 << 20,
        .on_request = on_request,
        .streams = streams,
        .user = d,
    };
    enum err_code c;
    if ((c = auth_init(&d->auth, d->config.allow_host, d->config.origins, d->config.api_key_file,
                       e)) ||
        (c = jobs_create(&jobs, &d->jobs, e)))
        return c;
    struct engine_options engine = {
        .jobs = d->jobs,
        .runtime = { .device = d->config.device, .cpu_threads = d->config.cpu_threads, .cache_dir = cache_dir(p),
                     .reproducible = d->config.reproducible },
        .lost = on_device_lost,
        .user = d,
    };
    if ((c = engine_create(&engine, &d->engine, e)) ||
        (c = words_cache_create(d->jobs, &d->words, e)) || (c = loader_create(d, &d->loader, e)))
        return c;
    return http_server_create(&http, &d->http, e);
}

static void watch_signals(struct program *p)
{
    uv_signal_init(&p->d.loop, &p->term);
    uv_signal_init(&p->d.loop, &p->interrupt);
    uv_timer_init(&p->d.loop, &p->drain);
    p->term.data = p->interrupt.data = p->drain.data = p;
    uv_signal_start(&p->term, on_signal, SIGTERM);
    uv_signal_start(&p->interrupt, on_signal, SIGINT);
}

static void preload(struct daemon *d)
{
    const char *list = d->config.preload;
    while (*list) {
        size_t n = strcspn(list, ",");
        if (n)
            gen_preload(d, (struct str){ list, n });
        list += n + (list[n] == ',');
    }
}

static void free_parts(struct program *p)
{
    struct daemon *d = &p->d;
    loader_destroy(d->loader);
    words_cache_destroy(d->words);
    engine_destroy(d->engine);
    uploads_destroy(d->uploads);
    store_close(d->store);
    auth_finish(&d->auth);
    uv_loop_close(&d->loop);
}

static const char *text_or_null(const char *setting)
{
    return *setting ? setting : NULL;
}

static enum err_code open_store(struct daemon *d, struct err *e)
{
    struct store_net net = {
        .offline = d->config.offline,
        .mirror = text_or_null(d->config.mirror),
        .ca_file = text_or_null(d->config.ca_file),
        .hf_endpoint = text_or_null(d->config.hf_endpoint),
        .connections = d->config.connections,
        .realms = text_or_null(d->config.realms),
        .key_hosts = text_or_null(d->config.key_hosts),
    };
    enum err_code c;
    if ((c = store_setup(e)) || (c = store_open(d->config.home, &d->store, e)))
        return c;
    store_set_inspector(d->store, inspect_files, NULL);
    c = store_set_net(d->store, &net, e);
    return c ? c : uploads_create(d->store, &d->uploads, e);
}

static enum err_code run(struct program *p, struct err *e)
{
    struct daemon *d = &p->d;
    enum err_code c;
    d->started_ns = clock_ns();
    if ((c = open_store(d, e)))
        return c;
    int rc = uv_loop_init(&d->loop);
    if (rc)
        return err_set(e, ERR_IO, "making the event loop: %s", uv_strerror(rc));
    if ((c = make_parts(p, e)) || (c = open_doors(p, e))) {
        store_close(d->store);
        return c; /* the process ends: threads and sockets with it */
    }
    watch_signals(p);
    log_line(LOG_INFO, "msg=ready version=%s home=%s", HEARTH_VERSION, d->config.home);
    listen_notify("READY=1");
    preload(d);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    free_parts(p);
    log_line(LOG_INFO, "msg=\"done\"");
    return ERR_OK;
}

/* As many descriptors as the system lets us have: connections are many. */
static void raise_limits(void)
{
    struct rlimit lim;
    if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < lim.rlim_max) {
        lim.rlim_cur = lim.rlim_max < 65536 ? lim.rlim_max : 65536;
        setrlimit(RLIMIT_NOFILE, &lim);
    }
}

static int print(struct buf *text)
{
    int rc = text->failed || fwrite(text->p ? text->p : "", 1, text->n, stdout) != text->n;
    buf_finish(text);
    return rc;
}

/* A file's path, or a model of the store, which another daemon may have open. */
static enum err_code find_model(const struct config *c, struct store **s, struct store_model **m,
                                const char **path, struct err *e)
{
    *path = c->explain;
    if (access(c->explain, R_OK) == 0)
        return ERR_OK;
    enum err_code code = store_setup(e);
    code = code ? code : store_look(c->home, s, e);
    code = code ? code : store_resolve(*s, c->explain, m, e);
    if (!code)
        *path = (*m)->path;
    return code;
}

static bool describes_device(const struct config *c)
{
    return c->subgroup || c->cores || c->max_local || c->max_range_mib;
}

static enum err_code explain(const struct config *c, struct buf *out, struct err *e)
{
    struct store *s = NULL;
    struct store_model *m = NULL;
    struct runtime *r = NULL;
    struct runtime_options device = { .device = c->device, .cpu_threads = c->cpu_threads };
    struct explain_options o = {
        .model = { .n_ctx = c->context, .n_seq = c->parallel, .kv_type = c->kv_type },
        .subgroup = c->subgroup,
        .cores = c->cores,
        .max_local = c->max_local,
        .max_range = (uint64_t)c->max_range_mib << 20,
    };
    enum err_code code = find_model(c, &s, &m, &o.model.path, e);
    if (!code && !describes_device(c) && (code = runtime_create(&device, &r, e)) == ERR_NO_DEVICE)
        code = err_prefix(e, "no device to plan for (--subgroup N describes one that is not here)");
    o.runtime = r;
    if (!code)
        code = model_explain(&o, out, e);
    runtime_destroy(r);
    store_model_destroy(m);
    store_close(s);
    return code;
}

static int act(struct program *p, enum config_action action, struct err *e)
{
    struct buf text;
    buf_init(&text, (size_t)64 << 20);
    switch (action) {
    case CONFIG_HELP:
        config_help(&text);
        buf_puts(&text, "\nRoutes:\n");
        routes_help(&text);
        return print(&text);
    case CONFIG_VERSION:
        buf_printf(&text, "hearthd %s\n", HEARTH_VERSION);
        return print(&text);
    case CONFIG_EXPLAIN:
        if (explain(&p->d.config, &text, e) == ERR_OK)
            return print(&text);
        buf_finish(&text);
        break;
    case CONFIG_RUN:
        if (run(p, e) == ERR_OK)
            return 0;
        break;
    }
    return -1;
}

static int exit_status(const struct err *e)
{
    return e->code == ERR_CONFLICT ? EXIT_TAKEN : err_exit_status(e->code) == 2 ? 2 : 1;
}

int main(int argc, char **argv)
{
    struct program *p = mem_zero(1, sizeof *p);
    struct err e = { 0 };
    enum config_action action;
    int status = -1;
    signal(SIGPIPE, SIG_IGN);
    json_setup();
    if (!p)
        return 1;
    p->door.fd = -1;
    if (config_read(argc, argv, getenv, &p->d.config, &action, &e) == ERR_OK) {
        log_set_level(p->d.config.log_level);
        raise_limits();
        umask(027);
        status = act(p, action, &e);
    }
    if (status < 0) {
        fprintf(stderr, "hearthd: %s\n", e.text);
        listen_unix_remove(&p->door);
        _exit(exit_status(&e)); /* threads may run: their memory is left to the system */
    }
    mem_free(p);
    return status;
}
