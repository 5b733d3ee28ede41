/* What the three files of http share: http.c connections, http_parse.c requests, http_reply.c
 * answers. */
#ifndef HEARTH_DAEMON_HTTP_PRIV_H
#define HEARTH_DAEMON_HTTP_PRIV_H

#include <llhttp.h>

#include "daemon/http.h"

enum phase {
    PHASE_IDLE,     /* between requests */
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_TAKING,   /* a handler has the request, and its body is still coming */
    PHASE_HANDLING, /* a handler has the request */
    PHASE_LINGER,   /* everything is sent; what still comes in is thrown away */
};

struct header {
    uint16_t name, value, end; /* offsets into text: name up to value, value up to end */
};
struct head {
    struct buf text; /* target, then names and values, one after the other */
    size_t target_n;
    struct header header[HTTP_MAX_HEADERS];
    size_t n;
    bool in_header;  /* header[n - 1] is being read */
    bool newline;    /* a line ended since the last piece of header[n - 1] */
    char *path;      /* decoded */
    size_t path_n;
};

struct conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    struct http_server *server;
    struct conn *prev, *next;
    llhttp_t parser;
    enum phase phase;
    bool pumping;   /* conn_pump is on the stack */
    bool complete;  /* the parser has a whole request */
    bool head_only; /* ... or the head of one whose body is streamed */
    bool expects;   /* the client of such a one waits to be told to go on */
    bool held;      /* http_body_pause */
    bool closed;    /* uv_close was called */
    bool gone_io;   /* ... and the handle is closed: only a handler holds the connection */
    bool eof;       /* the client has ended its side */
    bool last;      /* nothing is read after what is being answered */
    bool paused;    /* reading is stopped: the client is too far ahead */
    bool choked;    /* http_stream_write returned false */
    bool writing, shutting;
    /* the request being read */
    struct head *head;
    struct buf body;
    const char *in, *in_end, *mark; /* the bytes being parsed; behind the last piece seen */
    size_t head_bytes, gap, gaps;
    uint64_t body_bytes;
    int fail_status;
    struct err fail;
    /* bytes that came before their turn */
    struct buf ahead;
    size_t ahead_at;
    /* the answer */
    struct buf out, flight;
    size_t flight_at, last_queue;
    uv_write_t write;
    uv_shutdown_t shutdown;
    bool keep_alive, begun, chunked, no_body;
    char extra[208];
    uint64_t deadline, head_deadline, stall_deadline; /* uv_now */
    struct http_request r;
};

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } io;
    struct http_server *server;
    struct listener *next;
    bool pending; /* a connection waits that could not be taken for want of memory */
};

struct http_server {
    struct http_options o;
    llhttp_settings_t settings;
    struct listener *listeners;
    struct conn *conns;
    uv_timer_t timer;
    bool ticking, draining, closing;
    unsigned tick_ms;
    size_t alive; /* handles and connections that still point here */
    struct http_counts counts;
    time_t date_of;
    char date[40];
    void (*on_closed)(void *user);
    void *closed_user;
    char input[HTTP_MAX_PIECE];
};

/* A handler has the request and has not ended it. */
static inline bool is_handled(const struct conn *c)
{
    return c->phase == PHASE_HANDLING || c->phase == PHASE_TAKING;
}

/* http.c */
void conn_close(struct conn *c);
void conn_pump(struct conn *c);
void conn_set_phase(struct conn *c, enum phase phase);
void conn_release(struct conn *c); /* frees it when nothing holds it any more */

/* http_parse.c */
void parse_setup(llhttp_settings_t *s);
/* Feeds bytes to the parser; gives how many it took: fewer when a request is complete. A refused
 * request has been answered when it returns. */
size_t parse_feed(struct conn *c, const char *p, size_t n);
void parse_forget(struct conn *c); /* frees the request's memory */
struct str head_get(const struct head *h, const char *name, size_t *count);

/* http_reply.c */
void reply_refuse(struct conn *c, int status, const char *sentence);
void reply_flush(struct conn *c);
size_t reply_backlog(const struct conn *c);
void reply_continue(struct conn *c); /* 100 */

#endif
