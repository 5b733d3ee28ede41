/* What the store wants of a network: requests, their heads, and their bytes as they arrive.
 *
 * A transport belongs to one job and one thread, which drives it: transport_start any number of
 * requests, then transport_wait until they have ended. Callbacks run inside transport_wait.
 * transport_curl.c is the only implementation that has sockets; tests bring others (ops).
 *
 * The transport keeps these rules, so that nobody above it can break them (security.md 4.3):
 *   - TLS with a verified name, but for the one origin of transport_trust; plain http only where `plain` says so, and then only to that origin
 *   - at most 5 redirects, each to https (or to the plain origin itself); never another scheme
 *   - `authorization` goes to the origin (scheme, host, port) of the URL it was given for, and to no
 *     other that a redirect leads to
 *   - the address that is connected to counts, not its name: where the first URL of a request leads
 *     to a public address, a redirect may not lead to a loopback, link-local, private or
 *     multicast one
 *   - no content coding is asked for, and one that comes all the same is refused
 *   - a head of more than 64 KiB, a body beyond `max_body` (of an error's reply: cut there, or at 64 KiB)
 *     and a body that is shorter than its length are errors; what follows the length is not read
 *   - a transfer that moves no byte for `stall_s` seconds, and a head that takes longer, is ERR_TIMEOUT
 *   - after transport_options.offline no name is looked up and nothing is connected to
 *
 * Errors: ERR_IO (cannot connect, TLS, reset: worth another try), ERR_TIMEOUT, ERR_FORBIDDEN (one of
 * the rules above), ERR_TOO_LARGE, ERR_CONFLICT (offline), ERR_CANCELLED. A status of 400 and
 * more is no error here. Sentences name host and what was tried, never a query or a credential. */
#ifndef HEARTH_STORE_TRANSPORT_H
#define HEARTH_STORE_TRANSPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define TRANSPORT_STALL_S 30
#define TRANSPORT_MAX_REDIRECTS 5

/* The parts of a reply's head that the store reads. Strings are "" when absent or over-long; they
 * live as long as the transfer. */
struct transport_head {
    int status;
    bool has_length;
    uint64_t length;                       /* Content-Length */
    bool ends;                             /* a length or chunks: a body that was cut off is noticed */
    bool has_range;
    uint64_t first, last, total;           /* Content-Range: bytes first-last/total */
    bool accepts_ranges;                   /* Accept-Ranges: bytes, or a Content-Range */
    long retry_after_s;                    /* -1: none; a date is turned into seconds */
    const char *url;                       /* where it came from, after redirects */
    bool first_public;                     /* the URL that was asked led to a public address */
    const char *location, *content_type, *etag, *last_modified, *docker_digest, *www_authenticate;
    const char *linked_etag, *linked_size, *repo_commit; /* X-Linked-*, X-Repo-Commit of the hub */
    const char *next_url;                  /* Link: <...>; rel="next" */
    const char *range;                     /* Range: how far an upload is, "0-1023" */
};

struct transport_header {
    const char *name, *value;
};

/* The caller's until its transfer has ended; strings are copied by transport_start. */
struct transport_request {
    const char *method;        /* NULL: GET */
    const char *url;
    const char *authorization; /* the header's value; NULL: none */
    const struct transport_header *headers;
    size_t n_headers;
    bool plain;                /* http:// to this origin is wanted by the user (--insecure, loopback) */
    bool from_public;          /* an earlier redirect led here, by transport_head's first_public */
    bool no_redirect;          /* a 3xx is handed out as it is */
    bool has_range;
    uint64_t first, last;      /* Range: bytes=first-last */
    uint64_t max_body;         /* 0: any */
    struct str body;           /* sent; or, with fd >= 0, body_size bytes of the file from body_at */
    int body_fd;               /* -1: none */
    uint64_t body_at, body_size;

    /* Not ERR_OK ends the transfer with it. head: once, before the first byte of the body, of the last
     * reply only (no redirect). sent: bytes of our body so far. All may be NULL. */
    enum err_code (*on_head)(void *user, const struct transport_head *h, struct err *e);
    enum err_code (*on_body)(void *user, const void *p, size_t n, struct err *e);
    void (*on_sent)(void *user, uint64_t sent);
    void *user;
};

struct transfer {
    struct transport_head head; /* status 0: none came */
    struct err err;             /* code ERR_OK: the whole body came */
    void *user;                 /* the request's */
};

struct transport;
struct transport_ops {
    enum err_code (*start)(struct transport *t, const struct transport_request *r,
                           struct transfer **out, struct err *e);
    struct transfer *(*wait)(struct transport *t, struct transfer *only, int timeout_ms);
    void (*end)(struct transport *t, struct transfer *x);
    void (*wake)(struct transport *t);
    enum err_code (*trust)(struct transport *t, const char *url, struct err *e); /* NULL: all are checked */
    void (*destroy)(struct transport *t);
};
struct transport { /* an implementation's first member */
    const struct transport_ops *ops;
};

struct transport_options {
    bool offline;
    const char *ca_file;       /* PEM, beside the system's; NULL: none */
    unsigned connections;      /* to one host; 0: 8 */
    uint64_t limit_rate;       /* bytes a second over all transfers; 0: none */
    unsigned stall_s;          /* 0: TRANSPORT_STALL_S */
    const char *user_agent;    /* NULL: hearth/VERSION */
};
/* The first one in a process loads libcurl (ERR_UNSUPPORTED: it is not there), and SIGPIPE is ignored from
 * then on. */
enum err_code transport_curl_create(const struct transport_options *o, struct transport **out,
                                    struct err *e);
void transport_destroy(struct transport *t); /* ends what is under way; NULL is fine */

/* From now on the certificate of this URL's origin (https, host and port) may be anybody's, as the user wants it
 * (--insecure). Of every other origin it is checked still, be it one that this one redirects to. The last call
 * counts. */
enum err_code transport_trust(struct transport *t, const char *url, struct err *e);

enum err_code transport_start(struct transport *t, const struct transport_request *r,
                              struct transfer **out, struct err *e);
/* The next transfer that has ended, to be given back by transport_end; NULL after timeout_ms (-1:
 * for ever), after transport_wake, and when none is under way. transport_wait_for: that one alone; the
 * others go on meanwhile, and their callbacks run. */
struct transfer *transport_wait(struct transport *t, int timeout_ms);
struct transfer *transport_wait_for(struct transport *t, struct transfer *x, int timeout_ms);
void transport_end(struct transport *t, struct transfer *x); /* one that has not ended is cut off */
void transport_wake(struct transport *t);                    /* Thread: any */

/* One request from start to end, its body (at most max_body bytes, which must not be 0) into *body
 * (buf_init'ed by the callee; NULL: dropped). `cancel` may be NULL. *out (may be NULL when the caller
 * wants none of the head) is given back by transport_end. */
enum err_code transport_fetch(struct transport *t, const struct transport_request *r,
                              const atomic_bool *cancel, struct buf *body,
                              struct transfer **out, struct err *e);

#endif
