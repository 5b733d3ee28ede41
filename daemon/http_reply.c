/* From answers to bytes. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/http_priv.h"
#include "daemon/protocol.h"
#include "runtime/base/mem.h"

#define JSON_TYPE "application/json; charset=utf-8"

static struct conn *conn_of(struct http_request *r)
{
    return (struct conn *)(void *)((char *)r - offsetof(struct conn, r));
}

size_t reply_backlog(const struct conn *c)
{
    return c->out.n + (c->writing ? c->flight.n - c->flight_at : 0);
}

/* ---- sending -------------------------------------------------------------------------------------- */

static void on_shutdown(uv_shutdown_t *req, int status)
{
    struct conn *c = req->data;
    if (status || c->eof)
        conn_close(c);
}

/* All is sent and nothing more will be: say so, and wait a little for the client's own end, so
 * that bytes which it is still sending do not reset the answer away. */
static void say_goodbye(struct conn *c)
{
    if (c->shutting || is_handled(c))
        return;
    c->shutting = true;
    conn_set_phase(c, PHASE_LINGER);
    c->shutdown.data = c;
    if (c->eof || uv_shutdown(&c->shutdown, &c->io.stream, on_shutdown))
        conn_close(c);
}

static void on_written(uv_write_t *req, int status)
{
    struct conn *c = req->data;
    c->writing = false;
    if (!status)
        c->server->counts.bytes_out += c->flight.n - c->flight_at;
    buf_finish(&c->flight);
    if (c->closed)
        return;
    if (status) {
        conn_close(c);
        return;
    }
    reply_flush(c);
    if (!c->closed && c->choked && reply_backlog(c) <= HTTP_LOW_WATER) {
        c->choked = false;
        if (is_handled(c) && c->r.on_drain)
            c->r.on_drain(&c->r);
    }
    if (!c->closed)
        conn_pump(c);
}

/* Sends what the socket takes now, and leaves the rest to the loop. */
void reply_flush(struct conn *c)
{
    if (c->closed || c->writing)
        return;
    if (c->out.failed) { /* a hole in the answer: it cannot go on */
        conn_close(c);
        return;
    }
    if (c->out.n) {
        uv_buf_t b = uv_buf_init(c->out.p, (unsigned)c->out.n);
        int n = uv_try_write(&c->io.stream, &b, 1);
        if (n < 0 && n != UV_EAGAIN) {
            conn_close(c);
            return;
        }
        size_t sent = n > 0 ? (size_t)n : 0;
        c->server->counts.bytes_out += sent;
        if (sent < c->out.n) {
            struct buf empty = c->flight;
            c->flight = c->out;
            c->out = empty;
            c->flight_at = sent;
            b = uv_buf_init(c->flight.p + sent, (unsigned)(c->flight.n - sent));
            c->write.data = c;
            c->writing = uv_write(&c->write, &c->io.stream, &b, 1, on_written) == 0;
            if (!c->writing)
                conn_close(c);
            return;
        }
        if (c->out.cap > 65536)
            buf_finish(&c->out);
        buf_clear(&c->out);
    }
    if (c->last)
        say_goodbye(c);
}

/* ---- heads ---------------------------------------------------------------------------------------- */

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = {
        { 200, "OK" },
        { 201, "Created" },
        { 204, "No Content" },
        { 400, "Bad Request" },
        { 401, "Unauthorized" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 408, "Request Timeout" },
        { 409, "Conflict" },
        { 413, "Content Too Large" },
        { 415, "Unsupported Media Type" },
        { 417, "Expectation Failed" },
        { 421, "Misdirected Request" },
        { 431, "Request Header Fields Too Large" },
        { 499, "Client Closed Request" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 502, "Bad Gateway" },
        { 503, "Service Unavailable" },
        { 504, "Gateway Timeout" },
        { 505, "HTTP Version Not Supported" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].status == status)
            return rows[i].reason;
    return "Unknown";
}

static const char *date_now(struct http_server *s)
{
    time_t now = time(NULL);
    if (now != s->date_of) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(s->date, sizeof s->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        s->date_of = now;
    }
    return s->date;
}

static void put_head(struct conn *c, int status, const char *type)
{
    if (c->server->draining || c->eof)
        c->keep_alive = false;
    buf_printf(&c->out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, reason_of(status),
               date_now(c->server));
    if (type)
        buf_printf(&c->out, "Content-Type: %s\r\n", type);
    if (!c->r.local)
        buf_puts(&c->out, "Vary: Origin\r\n");
    buf_puts(&c->out, c->extra);
    if (!c->keep_alive)
        buf_puts(&c->out, "Connection: close\r\n");
    else if (c->parser.http_minor == 0)
        buf_puts(&c->out, "Connection: keep-alive\r\n");
}

static void put_whole(struct conn *c, int status, const char *type, struct str body)
{
    put_head(c, status, type);
    if (status != 204 && status != 304)
        buf_printf(&c->out, "Content-Length: %zu\r\n", body.n);
    buf_puts(&c->out, "\r\n");
    if (!c->no_body)
        buf_put(&c->out, body.p, body.n);
}

void reply_continue(struct conn *c)
{
    buf_puts(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    reply_flush(c);
}

/* The request's turn is over: sends, and goes on with what came ahead. */
static void end_request(struct conn *c)
{
    c->server->counts.busy--;
    if (!c->keep_alive)
        c->last = true;
    conn_set_phase(c, PHASE_IDLE);
    parse_forget(c);
    c->r = (struct http_request){ .local = c->r.local, .peer_uid = c->r.peer_uid };
    if (c->gone_io) {
        conn_release(c);
        return;
    }
    reply_flush(c);
    if (!c->closed && !c->writing && !c->out.n)
        buf_finish(&c->out); /* an idle connection holds no memory */
    if (!c->closed)
        conn_pump(c);
}

void reply_refuse(struct conn *c, int status, const char *sentence)
{
    struct buf body;
    buf_init(&body, 4096);
    error_write(&body, sentence);
    c->server->counts.refused++;
    c->keep_alive = false;
    c->last = true;
    put_whole(c, status, JSON_TYPE, buf_str(&body));
    if (body.failed)
        c->out.failed = true;
    buf_finish(&body);
    parse_forget(c);
    c->no_body = false;
    conn_set_phase(c, PHASE_LINGER);
    reply_flush(c);
}

/* ---- what handlers call --------------------------------------------------------------------------- */

char *http_take_body(struct http_request *r, size_t *n)
{
    struct conn *c = conn_of(r);
    *n = c->body.n;
    r->body = (struct str){ 0 };
    return buf_take(&c->body);
}

void http_set_header(struct http_request *r, const char *name, const char *value)
{
    struct conn *c = conn_of(r);
    size_t used = strlen(c->extra);
    int n = snprintf(c->extra + used, sizeof c->extra - used, "%s: %s\r\n", name, value);
    if (n < 0 || (size_t)n >= sizeof c->extra - used)
        c->extra[used] = '\0'; /* all of it or nothing */
}

void http_reply(struct http_request *r, int status, const char *content_type, struct str body)
{
    struct conn *c = conn_of(r);
    if (!c->closed)
        put_whole(c, status, content_type, body);
    end_request(c);
}

void http_reply_error(struct http_request *r, int status, const char *sentence)
{
    struct buf body;
    buf_init(&body, 4096);
    error_write(&body, sentence);
    if (body.failed)
        http_abort(r);
    else
        http_reply(r, status, JSON_TYPE, buf_str(&body));
    buf_finish(&body);
}

void http_stream_begin(struct http_request *r, int status, const char *content_type)
{
    struct conn *c = conn_of(r);
    if (c->closed)
        return;
    c->begun = true;
    c->chunked = c->parser.http_minor > 0;
    if (!c->chunked)
        c->keep_alive = false; /* HTTP/1.0: the end of the connection is the end of the answer */
    put_head(c, status, content_type);
    buf_puts(&c->out, c->chunked ? "Transfer-Encoding: chunked\r\n\r\n" : "\r\n");
}

bool http_stream_write(struct http_request *r, struct str bytes)
{
    struct conn *c = conn_of(r);
    if (c->closed || c->no_body || !bytes.n)
        return true;
    if (c->chunked)
        buf_printf(&c->out, "%zx\r\n", bytes.n);
    buf_put(&c->out, bytes.p, bytes.n);
    if (c->chunked)
        buf_puts(&c->out, "\r\n");
    reply_flush(c);
    if (c->closed || reply_backlog(c) < HTTP_HIGH_WATER)
        return true;
    c->choked = true;
    return false;
}

void http_stream_end(struct http_request *r)
{
    struct conn *c = conn_of(r);
    if (!c->closed && c->chunked && !c->no_body)
        buf_puts(&c->out, "0\r\n\r\n");
    end_request(c);
}

void http_abort(struct http_request *r)
{
    struct conn *c = conn_of(r);
    c->r.on_gone = NULL;
    conn_close(c);
    end_request(c);
}
