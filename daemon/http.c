#include "daemon/http.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/http_priv.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define TICK_MS 1000
#define RETRY_MS 20 /* a connection that could not be taken */

/* ---- time limits ------------------------------------------------------------------------------ */

static uint64_t after(const struct conn *c, unsigned ms)
{
    unsigned hurry = c->server->o.hurry ? c->server->o.hurry : 1;
    return uv_now(c->server->o.loop) + ms / hurry;
}

void conn_set_phase(struct conn *c, enum phase phase)
{
    static const unsigned limit_ms[] = {
        [PHASE_IDLE] = HTTP_KEEP_ALIVE_MS, [PHASE_HEAD] = HTTP_HEAD_IDLE_MS,
        [PHASE_BODY] = HTTP_BODY_IDLE_MS,  [PHASE_TAKING] = HTTP_BODY_IDLE_MS,
        [PHASE_HANDLING] = 0,              [PHASE_LINGER] = HTTP_LINGER_MS,
    };
    if (phase == PHASE_HEAD && c->phase != PHASE_HEAD)
        c->head_deadline = after(c, HTTP_HEAD_TOTAL_MS);
    c->phase = phase;
    c->deadline = limit_ms[phase] ? after(c, limit_ms[phase]) : UINT64_MAX;
    if (phase == PHASE_HEAD && c->deadline > c->head_deadline)
        c->deadline = c->head_deadline;
}

static void check_stall(struct conn *c, uint64_t now)
{
    size_t queue = c->writing ? uv_stream_get_write_queue_size(&c->io.stream) : 0;
    if (!queue || queue != c->last_queue)
        c->stall_deadline = after(c, HTTP_STALL_MS);
    else if (now >= c->stall_deadline)
        conn_close(c);
    c->last_queue = queue;
}

static void check_deadline(struct conn *c, uint64_t now)
{
    if (c->closed)
        return;
    check_stall(c, now);
    if (c->closed || now < c->deadline)
        return;
    if (c->phase == PHASE_HEAD || c->phase == PHASE_BODY)
        reply_refuse(c, 408, "the request took too long to arrive");
    else
        conn_close(c);
}

static void on_tick(uv_timer_t *timer);

/* Once a second while there is a connection; sooner where one waits for memory. */
static void start_ticking(struct http_server *s, unsigned ms)
{
    if ((s->ticking && s->tick_ms <= ms) || s->closing)
        return;
    unsigned hurry = s->o.hurry ? s->o.hurry : 1;
    unsigned period = ms / hurry ? ms / hurry : 1;
    s->ticking = uv_timer_start(&s->timer, on_tick, period, period) == 0;
    s->tick_ms = ms;
}

/* ---- closing ------------------------------------------------------------------------------------ */

static void unlink_conn(struct conn *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        c->server->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
}

/* One thing less points at the server; the last one to go frees it. */
static void let_go(struct http_server *s)
{
    if (--s->alive || !s->closing)
        return;
    void (*on_closed)(void *) = s->on_closed;
    void *user = s->closed_user;
    mem_free(s);
    if (on_closed)
        on_closed(user);
}

void conn_release(struct conn *c)
{
    if (!c->gone_io || is_handled(c))
        return;
    struct http_server *s = c->server;
    unlink_conn(c);
    parse_forget(c);
    buf_finish(&c->ahead);
    buf_finish(&c->out);
    buf_finish(&c->flight);
    mem_free(c);
    let_go(s);
}

static void on_conn_closed(uv_handle_t *h)
{
    struct conn *c = h->data;
    c->gone_io = true;
    c->server->counts.open--;
    conn_release(c);
}

static void tell_gone(struct conn *c)
{
    if (!is_handled(c) || c->r.gone)
        return;
    c->r.gone = true;
    if (c->r.on_gone)
        c->r.on_gone(&c->r);
}

void conn_close(struct conn *c)
{
    if (c->closed)
        return;
    c->closed = true;
    uv_close(&c->io.handle, on_conn_closed);
    tell_gone(c);
}

/* ---- reading ----------------------------------------------------------------------------------- */

static void give_buffer(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    struct conn *c = h->data;
    *buf = uv_buf_init(c->server->input, sizeof c->server->input);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

static size_t n_ahead(const struct conn *c)
{
    return c->ahead.n - c->ahead_at;
}

static void keep_ahead(struct conn *c, const char *p, size_t n)
{
    if (!n)
        return;
    if (c->ahead_at == c->ahead.n) {
        buf_clear(&c->ahead);
        c->ahead_at = 0;
    }
    buf_put(&c->ahead, p, n);
    if (c->ahead.failed)
        conn_close(c);
    else if (n_ahead(c) >= HTTP_MAX_AHEAD && !c->paused) {
        c->paused = true;
        uv_read_stop(&c->io.stream);
    }
}

/* Hands the request to its handler, which may answer before this returns. */
static void hand_out(struct conn *c, enum phase phase)
{
    struct http_server *s = c->server;
    conn_set_phase(c, phase);
    c->begun = false;
    c->held = false;
    c->r.begun_ns = clock_ns();
    s->counts.requests++;
    s->counts.busy++;
    s->o.on_request(s->o.user, &c->r);
}

/* A piece of a streamed body, and its end: the handler may end the request in either. */
static void deliver(struct conn *c)
{
    bool pumping = c->pumping;
    c->pumping = true; /* what the handler resumes or ends goes on when it has returned */
    if (c->body.n && c->r.on_body && !c->r.gone)
        c->r.on_body(&c->r, buf_str(&c->body));
    c->pumping = pumping;
    if (c->phase != PHASE_TAKING)
        return;
    buf_clear(&c->body);
    if (!c->complete)
        return;
    c->complete = false;
    conn_set_phase(c, PHASE_HANDLING);
    if (c->r.on_body_end && !c->r.gone)
        c->r.on_body_end(&c->r);
}

/* Tells a client that waits for it to send the body, once the handler wants it. */
static void go_on(struct conn *c)
{
    if (c->phase != PHASE_TAKING || c->held || c->closed || !c->expects)
        return;
    c->expects = false;
    reply_continue(c);
}

/* What a feed has brought goes to the handler. */
static void dispatch(struct conn *c)
{
    if (c->head_only) {
        c->head_only = false;
        hand_out(c, PHASE_TAKING);
        go_on(c);
    } else if (c->phase == PHASE_TAKING) {
        deliver(c);
    } else if (c->complete) {
        c->complete = false;
        c->r.body = buf_str(&c->body);
        hand_out(c, PHASE_HANDLING);
    }
}

static bool may_parse(const struct conn *c)
{
    return !c->closed && !c->last && c->phase < PHASE_HANDLING &&
           !(c->phase == PHASE_TAKING && (c->held || c->r.gone)) && reply_backlog(c) < HTTP_HIGH_WATER;
}

void http_body_pause(struct http_request *r)
{
    struct conn *c = (struct conn *)(void *)((char *)r - offsetof(struct conn, r));
    c->held = true;
    if (c->phase == PHASE_TAKING)
        c->deadline = UINT64_MAX;
}

void http_body_resume(struct http_request *r)
{
    struct conn *c = (struct conn *)(void *)((char *)r - offsetof(struct conn, r));
    c->held = false;
    if (c->phase == PHASE_TAKING)
        conn_set_phase(c, PHASE_TAKING);
    go_on(c);
    if (!c->closed)
        conn_pump(c);
}

/* Works off what came ahead of its turn. */
void conn_pump(struct conn *c)
{
    if (c->pumping)
        return;
    c->pumping = true;
    while (may_parse(c) && n_ahead(c)) {
        size_t n = n_ahead(c) < HTTP_MAX_PIECE ? n_ahead(c) : HTTP_MAX_PIECE;
        c->ahead_at += parse_feed(c, c->ahead.p + c->ahead_at, n);
        if (!c->closed)
            dispatch(c);
    }
    if (c->last || !n_ahead(c)) {
        buf_finish(&c->ahead);
        c->ahead_at = 0;
    }
    if (c->paused && !c->closed && n_ahead(c) < HTTP_MAX_AHEAD) {
        c->paused = false;
        if (uv_read_start(&c->io.stream, give_buffer, on_read))
            conn_close(c);
    }
    c->pumping = false;
    if (c->eof && !c->closed && c->phase < PHASE_TAKING && !c->last) {
        c->last = true; /* no more will come: close once all is sent */
        reply_flush(c);
    }
}

static void take_bytes(struct conn *c, const char *p, size_t n)
{
    c->server->counts.bytes_in += n;
    if (c->last)
        return;
    if (n_ahead(c) || !may_parse(c)) {
        keep_ahead(c, p, n);
        return;
    }
    size_t took = parse_feed(c, p, n);
    if (took < n && !c->closed && !c->last)
        keep_ahead(c, p + took, n - took);
    if (!c->closed)
        dispatch(c);
}

/* The client has ended its side. A generation is cancelled by it (as Ollama does); a short answer
 * that is under way is still sent. */
static void take_eof(struct conn *c)
{
    c->eof = true;
    uv_read_stop(&c->io.stream);
    if (is_handled(c))
        tell_gone(c);
    else if (c->phase == PHASE_LINGER && !reply_backlog(c))
        conn_close(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *c = stream->data;
    if (n == UV_EOF)
        take_eof(c);
    else if (n < 0)
        conn_close(c);
    else
        take_bytes(c, buf->base, (size_t)n);
    if (!c->closed)
        conn_pump(c);
}

/* ---- accepting ---------------------------------------------------------------------------------- */

static void read_peer(struct conn *c)
{
    struct ucred cred;
    socklen_t n = sizeof cred;
    uv_os_fd_t fd;
    if (uv_fileno(&c->io.handle, &fd) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n)) {
        conn_close(c); /* no tenant, no service */
        return;
    }
    c->r.peer_uid = cred.uid;
}

static struct conn *conn_create(struct http_server *s, bool local)
{
    struct conn *c = mem_zero(1, sizeof *c);
    if (!c)
        return NULL;
    c->server = s;
    c->r.local = local;
    c->r.peer_uid = (uid_t)-1;
    if (local)
        uv_pipe_init(s->o.loop, &c->io.pipe, 0);
    else
        uv_tcp_init(s->o.loop, &c->io.tcp);
    c->io.handle.data = c;
    llhttp_init(&c->parser, HTTP_REQUEST, &s->settings);
    c->parser.data = c;
    buf_init(&c->body, s->o.max_body);
    buf_init(&c->ahead, HTTP_MAX_AHEAD + sizeof s->input);
    buf_init(&c->out, HTTP_MAX_REPLY);
    buf_init(&c->flight, HTTP_MAX_REPLY);
    conn_set_phase(c, PHASE_IDLE);
    c->next = s->conns;
    if (s->conns)
        s->conns->prev = c;
    s->conns = c;
    s->alive++;
    s->counts.open++;
    s->counts.connections++;
    start_ticking(s, TICK_MS);
    return c;
}

static void accept_one(struct listener *l)
{
    struct http_server *s = l->server;
    bool local = l->io.handle.type == UV_NAMED_PIPE;
    struct conn *c = conn_create(s, local);
    l->pending = !c;
    if (!c) {
        start_ticking(s, RETRY_MS);
        return;
    }
    if (uv_accept(&l->io.stream, &c->io.stream)) {
        conn_close(c);
        return;
    }
    if (local) {
        read_peer(c);
    } else {
        uv_tcp_nodelay(&c->io.tcp, 1);
        uv_tcp_keepalive(&c->io.tcp, 1, 60);
    }
    if (c->closed)
        return;
    if (s->counts.open > HTTP_MAX_CONNECTIONS)
        reply_refuse(c, 503, "too many connections");
    else if (uv_read_start(&c->io.stream, give_buffer, on_read))
        conn_close(c);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct listener *l = stream->data;
    if (status == 0)
        accept_one(l);
}

static void on_tick(uv_timer_t *timer)
{
    struct http_server *s = timer->data;
    uint64_t now = uv_now(s->o.loop);
    bool pending = false;
    for (struct listener *l = s->listeners; l; l = l->next) {
        if (l->pending)
            accept_one(l);
        pending |= l->pending;
    }
    for (struct conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        check_deadline(c, now);
    }
    if (pending)
        return;
    uv_timer_stop(&s->timer);
    s->ticking = false;
    if (s->conns)
        start_ticking(s, TICK_MS);
}

/* ---- the server ---------------------------------------------------------------------------------- */

enum err_code http_server_create(const struct http_options *o, struct http_server **out,
                                 struct err *e)
{
    *out = NULL;
    struct http_server *s = mem_zero(1, sizeof *s);
    if (!s)
        return err_no_memory(e, sizeof *s, "the HTTP server");
    s->o = *o;
    parse_setup(&s->settings);
    uv_timer_init(o->loop, &s->timer);
    s->timer.data = s;
    s->alive = 1;
    *out = s;
    return ERR_OK;
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = h->data;
    struct http_server *s = l->server;
    mem_free(l);
    let_go(s);
}

static void close_listeners(struct http_server *s)
{
    while (s->listeners) {
        struct listener *l = s->listeners;
        s->listeners = l->next;
        uv_close(&l->io.handle, on_listener_closed);
    }
}

enum err_code http_server_listen(struct http_server *s, int fd, struct err *e)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    struct listener *l = mem_zero(1, sizeof *l);
    if (!l || getsockname(fd, (void *)&a, &n)) {
        enum err_code c = l ? err_errno(e, ERR_IO, errno, "listening on descriptor %d", fd)
                            : err_no_memory(e, sizeof *l, "a listener");
        mem_free(l);
        close(fd);
        return c;
    }
    l->server = s;
    int rc;
    if (a.ss_family == AF_UNIX) {
        uv_pipe_init(s->o.loop, &l->io.pipe, 0);
        rc = uv_pipe_open(&l->io.pipe, fd);
    } else {
        uv_tcp_init(s->o.loop, &l->io.tcp);
        rc = uv_tcp_open(&l->io.tcp, fd);
    }
    l->io.handle.data = l;
    l->next = s->listeners;
    s->listeners = l;
    s->alive++;
    if (rc) {
        close(fd); /* the handle has not taken it */
    } else {
        rc = uv_listen(&l->io.stream, 1024, on_connection);
    }
    if (!rc)
        return ERR_OK;
    s->listeners = l->next;
    uv_close(&l->io.handle, on_listener_closed);
    return err_set(e, ERR_IO, "listening: %s", uv_strerror(rc));
}

void http_server_drain(struct http_server *s)
{
    s->draining = true;
    close_listeners(s);
    for (struct conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        if (c->phase == PHASE_IDLE && !reply_backlog(c))
            conn_close(c);
    }
}

static void on_timer_closed(uv_handle_t *h)
{
    let_go(h->data);
}

void http_server_close(struct http_server *s, void (*on_closed)(void *user), void *user)
{
    s->on_closed = on_closed;
    s->closed_user = user;
    s->closing = true;
    s->draining = true;
    close_listeners(s);
    for (struct conn *c = s->conns, *next; c; c = next) {
        next = c->next;
        conn_close(c);
    }
    uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

struct http_counts http_server_counts(const struct http_server *s)
{
    return s->counts;
}
