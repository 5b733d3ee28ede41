/* HTTP/1.1 on libuv: connections, their caps and time limits; llhttp reads the requests.
 *
 * A request's life: `on_request` gets it when head and body are there. The handler, at once or
 * later, ends it by one http_reply, or by http_stream_begin, any number of http_stream_write, and
 * http_stream_end. Until it has ended it the request stays valid, even when the client has left:
 * then `on_gone` is called (when set) and what is written goes nowhere. After it has ended it, the
 * handler must not touch it. Requests of one connection are handed out one after the other, so
 * answers keep their order.
 *
 * A request for which `streams` says so is handed out when its head is there, its body in pieces by
 * on_body and on_body_end. The handler may hold the pieces up (http_body_pause), which holds the client up
 * after HTTP_MAX_AHEAD bytes more; and it may answer before the body's end: the connection then closes
 * after the answer. max_body does not count for such a body. One that breaks off or is malformed is a
 * client that has left.
 *
 * Refused here, before any handler: what llhttp's strict mode refuses (smuggling), obsolete line
 * folding, a missing or second Host, transfer codings but chunked, compressed bodies, heads,
 * bodies, chunk extensions and trailers beyond the caps, and over TCP what auth.h refuses.
 *
 * Caps and times: security.md 4.3; all in HTTP_* below.
 * Thread: the loop's. Memory: on failure the connection is closed, never the daemon. */
#ifndef HEARTH_DAEMON_HTTP_H
#define HEARTH_DAEMON_HTTP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "daemon/auth.h"
#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define HTTP_MAX_HEAD 16384          /* request line and headers */
#define HTTP_MAX_HEADERS 64
#define HTTP_MAX_GAP 4096            /* chunk extensions, trailers: bytes between body bytes */
#define HTTP_MAX_AHEAD 65536         /* bytes that a client may send ahead of its answers */
#define HTTP_MAX_PIECE 65536         /* of a streamed body */
#define HTTP_MAX_REPLY ((size_t)1 << 30)
#define HTTP_HIGH_WATER 262144       /* unsent bytes at which a stream should pause */
#define HTTP_LOW_WATER 65536         /* ... and at which on_drain is called */
#define HTTP_MAX_CONNECTIONS 10240
#define HTTP_HEAD_IDLE_MS 10000      /* between two reads of a head */
#define HTTP_HEAD_TOTAL_MS 15000
#define HTTP_BODY_IDLE_MS 30000
#define HTTP_KEEP_ALIVE_MS 75000
#define HTTP_STALL_MS 30000          /* a client that takes nothing of its answer */
#define HTTP_LINGER_MS 2000          /* after a refusal: read on, so that it is not reset away */

struct http_server;
struct http_request {
    const char *method;    /* "GET" */
    struct str path;       /* percent-decoded, without the query */
    struct str query;      /* as sent; empty when there is none */
    struct str body;
    bool local;            /* came over a Unix socket ... */
    uid_t peer_uid;        /* ... from this user */
    int64_t begun_ns;      /* clock_ns when the request was complete */
    bool gone;             /* the client has left */
    bool streamed;         /* the body comes by on_body: `body` is empty */
    bool has_length;       /* ... and is to have */
    uint64_t length;       /* ... so many bytes */
    struct body *read;     /* its JSON, where it was read before the handler was called: body.h */
    /* the handler's */
    void *user;
    void (*on_gone)(struct http_request *r);
    void (*on_drain)(struct http_request *r);
    void (*on_body)(struct http_request *r, struct str piece); /* of a streamed body; gone when it returns */
    void (*on_body_end)(struct http_request *r);               /* all of it came */
};

/* Of a streamed body: no piece comes until http_body_resume. Meanwhile no time limit runs. */
void http_body_pause(struct http_request *r);
void http_body_resume(struct http_request *r); /* may call on_body before it returns */

/* The value of `key` in the query, decoded ("+" is a space), mem_alloc'ed; NULL: absent, or no memory. */
char *http_query(const struct http_request *r, const char *key);

/* The body's memory, to be freed with mem_free; the request's own slice is then empty. */
char *http_take_body(struct http_request *r, size_t *n);
/* Adds "NAME: VALUE" to the reply to come; at most 200 bytes of such lines. */
void http_set_header(struct http_request *r, const char *name, const char *value);
void http_reply(struct http_request *r, int status, const char *content_type, struct str body);
void http_reply_error(struct http_request *r, int status, const char *sentence);
void http_stream_begin(struct http_request *r, int status, const char *content_type);
/* False: HTTP_HIGH_WATER bytes wait to be sent, write no more until on_drain. */
bool http_stream_write(struct http_request *r, struct str bytes);
void http_stream_end(struct http_request *r);
/* Ends the request by closing its connection: a reply that was begun cannot be completed. */
void http_abort(struct http_request *r);

struct http_options {
    uv_loop_t *loop;
    const struct auth *auth;
    size_t max_body; /* at least HTTP_MAX_PIECE */
    void (*on_request)(void *user, struct http_request *r);
    /* Whether a request with this method, path and query takes its body in pieces; must not answer it. NULL: none */
    bool (*streams)(void *user, const struct http_request *r);
    void *user;
    unsigned hurry; /* tests: time limits are divided by this; 0 is 1 */
};
enum err_code http_server_create(const struct http_options *o, struct http_server **out,
                                 struct err *e);
/* Serves a listening socket; takes over fd (also on failure). */
enum err_code http_server_listen(struct http_server *s, int fd, struct err *e);
/* Stops listening, closes idle connections, and closes others after their answer. */
void http_server_drain(struct http_server *s);
/* Closes everything. The server is freed by the loop once its handles are closed and the handlers
 * have ended their requests; `on_closed` (may be NULL) is called then. */
void http_server_close(struct http_server *s, void (*on_closed)(void *user), void *user);

struct http_counts {
    uint64_t connections, requests, refused; /* since the start; refused: before any handler */
    size_t open, busy;                       /* connections now; requests with a handler now */
    uint64_t bytes_in, bytes_out;
};
struct http_counts http_server_counts(const struct http_server *s);

#endif
