/* transport.h over libcurl's multi interface, on the caller's thread.
 *
 * Redirects are followed here, hop by hop with a new easy handle each, because libcurl's own way of it
 * cannot tell us where it is going before it goes. libcurl's memory stays malloc's: it is bounded by
 * the buffers below, and what it does when an allocation fails is for its own tests. HTTP/1.1 alone:
 * ranges in parallel want connections of their own, and the small requests are few. */
#include "store/transport.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "store/file.h"
#include "store/transport_curl_lib.h"
#include "store/transport_curl_proxy.h"
#include "store/transport_head.h"

#define CONNECTIONS 8
#define CONNECT_S 15
#define BUFFER_BYTES ((long)64 * 1024)
#define ERROR_BODY ((uint64_t)64 * 1024) /* of a reply that is an error or a redirect */
#define TICK_MS 500                      /* the longest sleep while something is under way */
#define SECOND ((int64_t)1000000000)
#define MAX_URL 16384

struct origin {
    char scheme[8], host[256], port[8];
};

struct transport_curl {
    struct transport base;
    CURLM *multi;
    struct curl_transfer *all;
    bool offline;
    struct origin trusted; /* its certificate is not checked; no host: there is none */
    unsigned stall_s;
    char user_agent[128];
    int ca_fd; /* the system's certificates and ca_file, in memory; -1: the system's alone */
    char ca_path[32];
    uint64_t limit_rate;
    int64_t budget, budget_at; /* bytes that may move now; when it was filled last */
    atomic_bool woken;
};

struct curl_transfer {
    struct transfer x; /* first */
    struct transport_curl *t;
    struct curl_transfer *next, *prev;
    struct transport_request r; /* strings in the arena */
    struct arena arena;
    CURL *easy; /* of this hop; NULL: none under way */
    struct curl_slist *headers;
    const char *url;
    struct origin first, here;
    char from[300];       /* `here`, for sentences */
    unsigned hops;
    bool left;            /* a redirect led to another origin: from then on no authorization */
    const char *proxy;    /* of this hop; "": none */
    bool first_public;
    bool sending, paused; /* the request is on its way; the rate limit holds it */
    bool head_done, redirect, cut; /* cut: we want no more of this body */
    bool ended, handed_out;
    int64_t moved_at;     /* when a byte last moved */
    uint64_t got, sent;
    struct head_reader reader;
    struct err refused;   /* why a callback of ours stopped it */
    char reason[CURL_ERROR_SIZE], address[64];
};

/* ---- where a URL leads ------------------------------------------------------------------------ */

static bool url_part(CURLU *u, CURLUPart part, unsigned flags, char *out, size_t n)
{
    char *text = NULL;
    bool good = curl_url_get(u, part, &text, flags) == CURLUE_OK && text && strlen(text) < n;
    if (good)
        snprintf(out, n, "%s", text);
    curl_free(text);
    return good;
}

/* `url`, seen from `base` (NULL: it is whole), without its fragment. False: not a URL we take. */
static bool url_resolve(const char *base, const char *url, struct arena *a, const char **out,
                        struct origin *o)
{
    CURLU *u = curl_url();
    char *text = NULL;
    *out = NULL;
    bool good = u && strlen(url) < MAX_URL &&
                (!base || curl_url_set(u, CURLUPART_URL, base, 0) == CURLUE_OK) &&
                curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
                curl_url_set(u, CURLUPART_FRAGMENT, NULL, 0) == CURLUE_OK &&
                url_part(u, CURLUPART_SCHEME, 0, o->scheme, sizeof o->scheme);
    if (good && (strcmp(o->scheme, "https") == 0 || strcmp(o->scheme, "http") == 0)) {
        good = url_part(u, CURLUPART_HOST, 0, o->host, sizeof o->host) &&
               url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT, o->port, sizeof o->port) &&
               curl_url_get(u, CURLUPART_USER, &text, 0) == CURLUE_NO_USER &&
               curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK;
        *out = good ? arena_strndup(a, text, strlen(text)) : NULL;
    }
    curl_free(text);
    curl_url_cleanup(u);
    return good;
}

static bool same_origin(const struct origin *a, const struct origin *b)
{
    return strcmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
           strcmp(a->port, b->port) == 0;
}

static bool is_https(const struct origin *o)
{
    return strcmp(o->scheme, "https") == 0;
}

static void name_origin(struct curl_transfer *c)
{
    bool usual = strcmp(c->here.port, is_https(&c->here) ? "443" : "80") == 0;
    snprintf(c->from, sizeof c->from, "%s%s%s", c->here.host, usual ? "" : ":",
             usual ? "" : c->here.port);
}

/* ---- the rate --------------------------------------------------------------------------------- */

static void fill_budget(struct transport_curl *t)
{
    int64_t now = clock_ns();
    double more = (double)t->limit_rate * (double)(now - t->budget_at) / (double)SECOND;
    double most = (double)t->limit_rate / 10; /* a tenth of a second saved up */
    double sum = (double)t->budget + more;
    t->budget = (int64_t)(sum > most ? most : sum);
    t->budget_at = now;
}

/* True: the bytes may move. A transfer that may not is paused until the debt is paid. */
static bool spend(struct curl_transfer *c, size_t n)
{
    struct transport_curl *t = c->t;
    if (!t->limit_rate)
        return true;
    fill_budget(t);
    c->paused = t->budget <= 0;
    if (!c->paused)
        t->budget -= (int64_t)n;
    return !c->paused;
}

static void release_paused(struct transport_curl *t)
{
    if (!t->limit_rate)
        return;
    fill_budget(t);
    for (struct curl_transfer *c = t->all; c && t->budget > 0; c = c->next) {
        if (!c->paused || !c->easy)
            continue;
        c->paused = false;
        c->moved_at = clock_ns();
        curl_easy_pause(c->easy, CURLPAUSE_CONT); /* the callback may pause it again */
    }
}

static int pause_ms(const struct transport_curl *t)
{
    bool any = false;
    for (struct curl_transfer *c = t->all; c; c = c->next)
        any |= c->paused;
    if (!any)
        return TICK_MS;
    double ms = (double)-t->budget * 1000 / (double)t->limit_rate + 1;
    return ms < 1 ? 1 : ms > TICK_MS ? TICK_MS : (int)ms;
}

/* ---- libcurl's callbacks ----------------------------------------------------------------------- */

static void refuse_address(struct curl_transfer *c)
{
    err_set(&c->refused, ERR_FORBIDDEN,
            "a redirect of %s leads to %s at %s, an address of this machine or of its network",
            c->first.host, c->from, c->address);
}

static bool address_allowed(const struct curl_transfer *c, bool is_public)
{
    bool led = c->hops > 0 || c->r.from_public;
    return *c->proxy || !led || is_public || !c->first_public;
}

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct curl_transfer *c = user;
    (void)purpose;
    if (!address_allowed(c, address_is_public(&a->addr))) {
        if (getnameinfo(&a->addr, a->addrlen, c->address, sizeof c->address, NULL, 0, NI_NUMERICHOST))
            c->address[0] = '\0';
        return CURL_SOCKET_BAD;
    }
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

/* Connected, perhaps by a connection of an earlier request: nothing was sent yet. */
static int before_request(void *user, char *address, char *local, int port, int local_port)
{
    struct curl_transfer *c = user;
    (void)local;
    (void)port;
    (void)local_port;
    bool is_public = address_text_is_public(address);
    if (c->hops == 0)
        c->first_public = is_public || *c->proxy || c->r.from_public;
    snprintf(c->address, sizeof c->address, "%s", address);
    if (!address_allowed(c, is_public)) {
        refuse_address(c);
        return CURL_PREREQFUNC_ABORT;
    }
    c->address[0] = '\0';
    c->sending = true;
    c->moved_at = clock_ns();
    return CURL_PREREQFUNC_OK;
}

static bool too_long(struct curl_transfer *c)
{
    if (!c->r.max_body || c->x.head.status >= 400 || !c->x.head.has_length ||
        c->x.head.length <= c->r.max_body || (c->r.method && strcmp(c->r.method, "HEAD") == 0))
        return false;
    err_set(&c->refused, ERR_TOO_LARGE, "%s sends %llu bytes, more than %llu", c->from,
            (unsigned long long)c->x.head.length, (unsigned long long)c->r.max_body);
    return true;
}

static bool take_head(struct curl_transfer *c)
{
    int status = c->reader.head.status;
    c->head_done = true;
    c->redirect = !c->r.no_redirect && (status == 301 || status == 302 || status == 303 ||
                                        status == 307 || status == 308);
    c->x.head = c->reader.head;
    c->x.head.url = c->url;
    c->x.head.first_public = c->first_public;
    if (c->redirect)
        return true;
    if (too_long(c))
        return false;
    return !c->r.on_head || c->r.on_head(c->r.user, &c->x.head, &c->refused) == ERR_OK;
}

static size_t on_header(char *p, size_t size, size_t n, void *user)
{
    struct curl_transfer *c = user;
    (void)size;
    if (!c->reader.status_line) /* the rest of a head has no second stall to wait */
        c->moved_at = clock_ns();
    if (c->head_done) { /* trailers */
        c->reader.bytes += n;
        return c->reader.bytes <= HEAD_MAX_BYTES ? n : 0;
    }
    enum head_line line = head_line(&c->reader, p, n, c->from, &c->refused);
    if (line == HEAD_DONE) {
        c->moved_at = clock_ns();
        return take_head(c) ? n : 0;
    }
    return line == HEAD_MORE ? n : 0;
}

/* Of a reply that is an error or a redirect nobody wants more than a little. */
static bool wants_body(struct curl_transfer *c, size_t n)
{
    bool failed = c->redirect || c->x.head.status >= 400;
    uint64_t most = failed && (!c->r.max_body || c->redirect) ? ERROR_BODY : c->r.max_body;
    if (!most || c->got + n <= most)
        return true;
    c->cut = failed;
    if (!failed)
        err_set(&c->refused, ERR_TOO_LARGE, "%s sends more than %llu bytes", c->from,
                (unsigned long long)most);
    return false;
}

static size_t on_body(char *p, size_t size, size_t n, void *user)
{
    struct curl_transfer *c = user;
    (void)size;
    if (!wants_body(c, n))
        return 0;
    if (!spend(c, n))
        return CURL_WRITEFUNC_PAUSE;
    c->got += n;
    c->moved_at = clock_ns();
    if (!c->redirect && c->r.on_body && c->r.on_body(c->r.user, p, n, &c->refused))
        return 0;
    c->moved_at = clock_ns();
    return n;
}

static uint64_t body_size(const struct transport_request *r)
{
    return r->body_fd >= 0 ? r->body_size : r->body.n;
}

static size_t give_body(char *p, size_t size, size_t n, void *user)
{
    struct curl_transfer *c = user;
    uint64_t left = body_size(&c->r) - c->sent;
    n = size * n < left ? size * n : (size_t)left;
    if (n && !spend(c, n))
        return CURL_READFUNC_PAUSE;
    if (n && c->r.body_fd >= 0) {
        ssize_t got = file_system.read(c->r.body_fd, p, n, c->r.body_at + c->sent);
        if (got <= 0) {
            err_set(&c->refused, ERR_IO, "reading what is sent to %s: %s", c->from,
                    got ? strerror(errno) : "the file is shorter than it was");
            return CURL_READFUNC_ABORT;
        }
        n = (size_t)got;
    } else if (n) {
        memcpy(p, c->r.body.p + c->sent, n);
    }
    c->sent += n;
    c->moved_at = clock_ns();
    if (n && c->r.on_sent)
        c->r.on_sent(c->r.user, c->sent);
    return n;
}

/* libcurl sends the body again where a kept connection turned out to be closed. */
static int seek_body(void *user, curl_off_t offset, int origin)
{
    struct curl_transfer *c = user;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > body_size(&c->r))
        return CURL_SEEKFUNC_FAIL;
    c->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- one hop ----------------------------------------------------------------------------------- */

static bool add_header(struct curl_transfer *c, const char *name, const char *value)
{
    struct buf line;
    buf_init(&line, MAX_URL);
    buf_printf(&line, "%s:%s%s", name, *value ? " " : "", value);
    struct curl_slist *more = line.failed ? NULL : curl_slist_append(c->headers, line.p);
    buf_finish(&line);
    if (more)
        c->headers = more;
    return more != NULL;
}

static bool make_headers(struct curl_transfer *c)
{
    char range[64];
    bool good = add_header(c, "Expect", ""); /* nothing is gained by waiting for a 100 */
    for (size_t i = 0; good && i < c->r.n_headers; i++)
        good = add_header(c, c->r.headers[i].name, c->r.headers[i].value);
    if (good && c->r.authorization && !c->left)
        good = add_header(c, "Authorization", c->r.authorization);
    if (good && c->r.has_range) {
        snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)c->r.first,
                 (unsigned long long)c->r.last);
        good = add_header(c, "Range", range);
    }
    return good;
}

#define SET(option, value) bad |= curl_easy_setopt(c->easy, option, value) != CURLE_OK

static bool set_method(struct curl_transfer *c)
{
    const char *method = c->r.method ? c->r.method : "GET";
    bool bad = false, get = strcmp(method, "GET") == 0;
    if (strcmp(method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (body_size(&c->r) || (!get && strcmp(method, "DELETE") != 0)) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)body_size(&c->r));
        SET(CURLOPT_READFUNCTION, give_body);
        SET(CURLOPT_READDATA, c);
        SET(CURLOPT_SEEKFUNCTION, seek_body);
        SET(CURLOPT_SEEKDATA, c);
        SET(CURLOPT_CUSTOMREQUEST, method);
    } else if (!get) {
        SET(CURLOPT_CUSTOMREQUEST, method);
    }
    return !bad;
}

/* Cookies, .netrc, HSTS and Alt-Svc stores, and decoding of contents are off unless they are asked for. */
static bool set_rules(struct curl_transfer *c)
{
    bool bad = false;
#if LIBCURL_VERSION_NUM >= 0x075500
    SET(CURLOPT_PROTOCOLS_STR, is_https(&c->here) ? "https" : "http");
#else
    SET(CURLOPT_PROTOCOLS, is_https(&c->here) ? CURLPROTO_HTTPS : CURLPROTO_HTTP);
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
    SET(CURLOPT_QUICK_EXIT, 1L); /* a name server that does not answer holds up nobody */
#endif
    bool checked = !c->t->trusted.host[0] || !same_origin(&c->here, &c->t->trusted);
    SET(CURLOPT_PROXY, c->proxy);
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2); /* at least, whatever the system lets pass */
    SET(CURLOPT_SSL_VERIFYPEER, checked ? 1L : 0L);
    SET(CURLOPT_SSL_VERIFYHOST, checked ? 2L : 0L);
    SET(CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_BUFFERSIZE, BUFFER_BYTES);
    SET(CURLOPT_USERAGENT, c->t->user_agent);
    /* one file and no folder of certificates: then the connections share them in memory */
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
    if (c->t->ca_fd >= 0)
        SET(CURLOPT_CAINFO, c->t->ca_path);
    if (c->t->ca_fd >= 0 || (v->cainfo && access(v->cainfo, R_OK) == 0))
        SET(CURLOPT_CAPATH, NULL);
    return !bad;
}

static bool set_callbacks(struct curl_transfer *c)
{
    bool bad = false;
    SET(CURLOPT_PRIVATE, c);
    SET(CURLOPT_ERRORBUFFER, c->reason);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, c);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, c);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_OPENSOCKETDATA, c);
    SET(CURLOPT_PREREQFUNCTION, before_request);
    SET(CURLOPT_PREREQDATA, c);
    SET(CURLOPT_HTTPHEADER, c->headers);
    SET(CURLOPT_URL, c->url);
    return !bad;
}

static void hop_end(struct curl_transfer *c)
{
    if (c->easy) {
        curl_multi_remove_handle(c->t->multi, c->easy);
        curl_easy_cleanup(c->easy);
    }
    curl_slist_free_all(c->headers);
    c->easy = NULL;
    c->headers = NULL;
    c->paused = false;
}

static enum err_code hop_begin(struct curl_transfer *c, struct err *e)
{
    c->sending = c->head_done = c->redirect = c->cut = false;
    c->got = c->sent = 0;
    c->reason[0] = c->address[0] = '\0';
    head_begin(&c->reader, &c->arena);
    name_origin(c);
    enum err_code code = proxy_for(is_https(&c->here), c->here.host, &c->proxy, e);
    if (code)
        return code;
    c->easy = curl_easy_init();
    bool good = c->easy && make_headers(c) && set_method(c) && set_rules(c) && set_callbacks(c) &&
                curl_multi_add_handle(c->t->multi, c->easy) == CURLM_OK;
    if (good)
        return ERR_OK;
    hop_end(c);
    return err_set(e, ERR_NO_MEMORY, "out of memory asking %s", c->from);
}

/* ---- the end of a hop -------------------------------------------------------------------------- */

static void transfer_done(struct curl_transfer *c)
{
    hop_end(c);
    c->ended = true;
    if (c->x.err.code)
        return;
    err_clear(&c->x.err);
}

static bool change_method(struct curl_transfer *c)
{
    if (c->x.head.status != 303 || !c->r.method || strcmp(c->r.method, "HEAD") == 0)
        return true;
    c->r.method = NULL;
    c->r.body = (struct str){ 0 };
    c->r.body_fd = -1;
    return true;
}

static enum err_code redirect(struct curl_transfer *c, struct err *e)
{
    struct origin to = { 0 };
    const char *url;
    if (++c->hops > TRANSPORT_MAX_REDIRECTS)
        return err_set(e, ERR_FORBIDDEN, "%s redirects once more, after %d redirects", c->from,
                       TRANSPORT_MAX_REDIRECTS);
    bool good = c->x.head.location[0] &&
                url_resolve(c->url, c->x.head.location, &c->arena, &url, &to);
    if (!to.scheme[0])
        return err_set(e, ERR_FORBIDDEN, "%s redirects, but to no URL", c->from);
    bool back = c->r.plain && same_origin(&to, &c->first);
    if (!is_https(&to) && !back)
        return err_set(e, ERR_FORBIDDEN, "%s redirects to %s://%s: only https may be redirected to",
                       c->from, to.scheme, to.host);
    if (!good)
        return err_set(e, ERR_FORBIDDEN, "%s redirects to a URL that is not taken: one with a "
                       "user's name, or too long", c->from);
    if (!url)
        return err_no_memory(e, strlen(c->x.head.location), "a redirect");
    c->left |= !same_origin(&to, &c->first);
    c->here = to;
    c->url = url;
    change_method(c);
    hop_end(c);
    return hop_begin(c, e);
}

struct curl_row {
    CURLcode code;
    enum err_code err;
    const char *what, *more; /* before the place, and after the reason */
};

static const struct curl_row curl_errors[] = {
    { CURLE_COULDNT_RESOLVE_HOST, ERR_IO, "looking up the name of", "" },
    { CURLE_COULDNT_RESOLVE_PROXY, ERR_IO, "looking up the proxy for", "" },
    { CURLE_COULDNT_CONNECT, ERR_IO, "connecting to", "" },
    { CURLE_OPERATION_TIMEDOUT, ERR_TIMEOUT, "connecting to", "" },
    { CURLE_PEER_FAILED_VERIFICATION, ERR_FORBIDDEN, "checking the certificate of", "" },
    { CURLE_SSL_CACERT_BADFILE, ERR_FORBIDDEN, "reading the certificates to check", "" },
    { CURLE_SSL_CONNECT_ERROR, ERR_IO, "making a TLS connection to",
      " (TLS 1.2 is the oldest that is spoken here)" },
    { CURLE_UNSUPPORTED_PROTOCOL, ERR_FORBIDDEN, "understanding", "" },
    { CURLE_WEIRD_SERVER_REPLY, ERR_FORBIDDEN, "understanding", "" },
    { CURLE_GOT_NOTHING, ERR_IO, "waiting for an answer of", "" },
    { CURLE_PARTIAL_FILE, ERR_IO, "receiving from", "" },
    { CURLE_RECV_ERROR, ERR_IO, "receiving from", "" },
    { CURLE_SEND_ERROR, ERR_IO, "sending to", "" },
    { CURLE_OUT_OF_MEMORY, ERR_NO_MEMORY, "asking", "" },
};

static void curl_failed(struct curl_transfer *c, CURLcode code)
{
    struct curl_row row = { code, ERR_IO, "asking", "" };
    for (size_t i = 0; i < sizeof curl_errors / sizeof *curl_errors; i++)
        if (curl_errors[i].code == code)
            row = curl_errors[i];
    if (code == CURLE_SSL_CONNECT_ERROR && strstr(c->reason, "wrong version number")) /* of TLS: it is no TLS */
        row.more = " (it may speak plain http: --insecure takes that)";
    /* libcurl keeps no header of more than 100 KB, and has no other word for it */
    if (row.err == ERR_NO_MEMORY && c->sending && !c->head_done)
        err_set(&c->x.err, ERR_TOO_LARGE, "%s sent a head of more than %zu bytes", c->from,
                HEAD_MAX_BYTES);
    else
        err_set(&c->x.err, row.err, "%s %s failed: %s%s", row.what, c->from,
                c->reason[0] ? c->reason : curl_easy_strerror(code), row.more);
}

static void hop_done(struct curl_transfer *c, CURLcode code)
{
    if (c->refused.code) {
        c->x.err = c->refused;
    } else if (code == CURLE_OK || c->cut) {
        if (!c->redirect)
            err_clear(&c->x.err);
        else if (!redirect(c, &c->x.err))
            return;
    } else if (c->address[0] && !c->sending) {
        refuse_address(c);
        c->x.err = c->refused;
    } else {
        curl_failed(c, code);
    }
    transfer_done(c);
}

static void collect(struct transport_curl *t)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(t->multi, &left));) {
        struct curl_transfer *c = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        hop_done(c, m->data.result);
    }
}

static void stop_stalled(struct transport_curl *t)
{
    int64_t now = clock_ns();
    for (struct curl_transfer *c = t->all; c; c = c->next) {
        if (c->ended || !c->sending || c->paused ||
            now - c->moved_at <= (int64_t)t->stall_s * SECOND)
            continue;
        err_set(&c->x.err, ERR_TIMEOUT, "%s sent nothing for %u seconds", c->from, t->stall_s);
        transfer_done(c);
    }
}

/* ---- the table --------------------------------------------------------------------------------- */

static struct transport_curl *of(struct transport *t)
{
    return (struct transport_curl *)t;
}

static struct curl_transfer *next_ended(struct transport_curl *t, struct transfer *only,
                                        bool *under_way)
{
    *under_way = false;
    for (struct curl_transfer *c = t->all; c; c = c->next) {
        if (only && &c->x != only)
            continue;
        *under_way |= !c->ended;
        if (c->ended && !c->handed_out) {
            c->handed_out = true;
            return c;
        }
    }
    return NULL;
}

static void perform(struct transport_curl *t)
{
    int running;
    release_paused(t);
    CURLMcode code = curl_multi_perform(t->multi, &running);
    collect(t);
    for (struct curl_transfer *c = t->all; code && c; c = c->next) {
        if (c->ended)
            continue;
        err_set(&c->x.err, ERR_INTERNAL, "asking %s: %s", c->from, curl_multi_strerror(code));
        transfer_done(c);
    }
    stop_stalled(t);
}

static struct transfer *curl_wait(struct transport *base, struct transfer *only, int timeout_ms)
{
    struct transport_curl *t = of(base);
    int64_t end = timeout_ms < 0 ? INT64_MAX : clock_ns() + (int64_t)timeout_ms * 1000000;
    for (;;) {
        bool under_way;
        perform(t);
        struct curl_transfer *c = next_ended(t, only, &under_way);
        if (c)
            return &c->x;
        int64_t left = end - clock_ns();
        if (!under_way || atomic_exchange(&t->woken, false) || left <= 0)
            return NULL;
        int ms = pause_ms(t);
        if (left / 1000000 < ms)
            ms = (int)(left / 1000000) + 1;
        curl_multi_poll(t->multi, NULL, 0, ms, NULL);
    }
}

static bool visible(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    return true;
}

static const char *keep(struct curl_transfer *c, const char *s, bool *bad)
{
    const char *copy = s ? arena_strndup(&c->arena, s, strlen(s)) : NULL;
    *bad |= s && !copy;
    return copy;
}

static enum err_code copy_request(struct curl_transfer *c, const struct transport_request *r,
                                  struct err *e)
{
    bool bad = false, good = visible(r->authorization ? r->authorization : "");
    c->r = *r;
    c->r.method = keep(c, r->method, &bad);
    c->r.authorization = keep(c, r->authorization, &bad);
    struct transport_header *h = arena_zero(&c->arena, r->n_headers + 1, sizeof *h);
    for (size_t i = 0; h && i < r->n_headers; i++) {
        h[i].name = keep(c, r->headers[i].name, &bad);
        h[i].value = keep(c, r->headers[i].value, &bad);
        good = good && visible(r->headers[i].name) && visible(r->headers[i].value) &&
               strcasecmp(r->headers[i].name, "authorization") != 0;
    }
    c->r.headers = h;
    if (!h || bad)
        return err_no_memory(e, sizeof *r, "a request");
    return good ? ERR_OK : err_set(e, ERR_INVALID, "a header of a request holds what may not be in one");
}

static enum err_code first_url(struct curl_transfer *c, const char *url, struct err *e)
{
    if (!url_resolve(NULL, url, &c->arena, &c->url, &c->first) || !c->first.host[0])
        return err_set(e, ERR_INVALID, "not a URL that can be fetched: it must be http or https, of at "
                       "most %d bytes and without a user's name", MAX_URL);
    if (!c->url)
        return err_no_memory(e, strlen(url), "a URL");
    c->here = c->first;
    name_origin(c);
    if (c->t->offline)
        return err_set(e, ERR_CONFLICT, "offline: %s was not asked", c->from);
    if (!is_https(&c->first) && !c->r.plain)
        return err_set(e, ERR_FORBIDDEN, "%s is only to be had by plain http, which nobody has allowed",
                       c->from);
    return ERR_OK;
}

static void curl_end(struct transport *base, struct transfer *x)
{
    struct transport_curl *t = of(base);
    struct curl_transfer *c = (struct curl_transfer *)x;
    hop_end(c);
    if (c->prev)
        c->prev->next = c->next;
    else if (t->all == c)
        t->all = c->next;
    if (c->next)
        c->next->prev = c->prev;
    arena_finish(&c->arena);
    mem_free(c);
}

static enum err_code curl_start(struct transport *base, const struct transport_request *r,
                                struct transfer **out, struct err *e)
{
    struct transport_curl *t = of(base);
    struct curl_transfer *c = mem_zero(1, sizeof *c);
    *out = NULL;
    if (!c)
        return err_no_memory(e, sizeof *c, "a request");
    c->t = t;
    c->x.user = r->user;
    head_begin(&c->reader, &c->arena);
    c->x.head = c->reader.head;
    enum err_code code = copy_request(c, r, e);
    c->first_public = r->from_public;
    if (!code)
        code = first_url(c, r->url, e);
    if (!code)
        code = hop_begin(c, e);
    c->next = t->all;
    if (t->all)
        t->all->prev = c;
    t->all = c;
    if (code)
        curl_end(base, &c->x);
    else
        *out = &c->x;
    return code;
}

static void curl_wake(struct transport *base)
{
    struct transport_curl *t = of(base);
    atomic_store(&t->woken, true);
    curl_multi_wakeup(t->multi);
}

static enum err_code curl_trust(struct transport *base, const char *url, struct err *e)
{
    struct transport_curl *t = of(base);
    struct arena a = { 0 };
    const char *text;
    bool good = url_resolve(NULL, url, &a, &text, &t->trusted) && is_https(&t->trusted) && t->trusted.host[0];
    arena_finish(&a);
    if (!good)
        t->trusted = (struct origin){ 0 };
    return good ? ERR_OK : err_set(e, ERR_INVALID, "only an https origin can be had unchecked");
}

static void curl_destroy(struct transport *base)
{
    struct transport_curl *t = of(base);
    while (t->all)
        curl_end(base, &t->all->x);
    curl_multi_cleanup(t->multi);
    if (t->ca_fd >= 0)
        close(t->ca_fd);
    mem_free(t);
}

static const struct transport_ops curl_ops = {
    .start = curl_start,
    .wait = curl_wait,
    .end = curl_end,
    .wake = curl_wake,
    .trust = curl_trust,
    .destroy = curl_destroy,
};

/* ---- certificates ------------------------------------------------------------------------------ */

static bool append_file(int to, const char *path)
{
    char chunk[8192];
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool good = true;
    for (size_t n; good && (n = fread(chunk, 1, sizeof chunk, f)) > 0;)
        good = write(to, chunk, n) == (ssize_t)n;
    good = good && !ferror(f) && write(to, "\n", 1) == 1;
    fclose(f);
    return good;
}

/* libcurl takes one file: ours and the system's go into one that exists in memory alone. */
static enum err_code add_certificates(struct transport_curl *t, const char *ca_file, struct err *e)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
    t->ca_fd = memfd_create("certificates", MFD_CLOEXEC);
    if (t->ca_fd < 0)
        return err_errno(e, ERR_IO, errno, "keeping the certificates of '%s'", ca_file);
    if (!append_file(t->ca_fd, ca_file))
        return err_errno(e, ERR_IO, errno, "reading the certificates in '%s'", ca_file);
    if (v->cainfo)
        append_file(t->ca_fd, v->cainfo); /* where there are none, ours have to do */
    snprintf(t->ca_path, sizeof t->ca_path, "/proc/self/fd/%d", t->ca_fd);
    return ERR_OK;
}

enum err_code transport_curl_create(const struct transport_options *o, struct transport **out,
                                    struct err *e)
{
    struct transport_curl *t = mem_zero(1, sizeof *t);
    enum err_code code = ERR_OK;
    long connections = (long)(o->connections ? o->connections : CONNECTIONS);
    *out = NULL;
    if (!t)
        return err_no_memory(e, sizeof *t, "a transport");
    code = curl_lib_load(e);
    if (code) {
        mem_free(t);
        return code;
    }
    t->base.ops = &curl_ops;
    t->offline = o->offline;
    t->stall_s = o->stall_s ? o->stall_s : TRANSPORT_STALL_S;
    t->limit_rate = o->limit_rate;
    t->budget_at = clock_ns();
    t->ca_fd = -1;
    snprintf(t->user_agent, sizeof t->user_agent, "%s",
             o->user_agent ? o->user_agent : "hearth/" HEARTH_VERSION);
    t->multi = curl_multi_init();
    if (!t->multi || curl_multi_setopt(t->multi, CURLMOPT_MAX_HOST_CONNECTIONS, connections) ||
        curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, connections + 4))
        code = err_no_memory(e, sizeof *t, "libcurl");
    if (!code && o->ca_file)
        code = add_certificates(t, o->ca_file, e);
    if (code)
        curl_destroy(&t->base);
    else
        *out = &t->base;
    return code;
}
