/* http: what is refused before any handler, pipelining, limits, and clients that leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/http.h"
#include "runtime/base/mem.h"

#define MAX_BODY 100000
#define HURRY 100 /* ten milliseconds stand for a second */

struct bench {
    uv_loop_t loop;
    struct auth auth;
    struct http_server *server;
    char socket[64];
    uint16_t port;
    int calls;
    char seen[256];                /* "METHOD path?query" of each call, one after the other */
    struct http_request *held;     /* of /hold */
    int gone, drains;
    size_t to_write;               /* of /flood */
    size_t most_backlog;
    struct http_request *taking;   /* of /take: a streamed body */
    size_t taken, n_pieces, ends;
    unsigned sum;                  /* of its bytes */
};

/* The caller knows that it fits. */
__attribute__((format(printf, 2, 3))) static size_t text(char *out, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(out, 20000, fmt, ap);
    va_end(ap);
    assert_true(n >= 0 && n < 20000);
    return (size_t)n;
}

/* ---- the handler ------------------------------------------------------------------------------------ */

static void on_gone(struct http_request *r)
{
    struct bench *b = r->user;
    b->gone++;
}

static void flood(struct http_request *r)
{
    struct bench *b = r->user;
    static char chunk[10000];
    memset(chunk, 'x', sizeof chunk);
    bool more = true;
    while (more && b->to_write) {
        size_t n = b->to_write < sizeof chunk ? b->to_write : sizeof chunk;
        b->to_write -= n;
        more = http_stream_write(r, (struct str){ chunk, n });
    }
    if (!b->to_write)
        http_stream_end(r);
}

static void on_drain(struct http_request *r)
{
    struct bench *b = r->user;
    b->drains++;
    flood(r);
}

static bool streams(void *user, const struct http_request *r)
{
    (void)user;
    return str_is(r->path, "/take") && strcmp(r->method, "POST") == 0;
}

static void take_gone(struct http_request *r)
{
    struct bench *b = r->user;
    b->gone++;
    b->taking = NULL;
    http_abort(r);
}

static void take_piece(struct http_request *r, struct str piece)
{
    struct bench *b = r->user;
    assert_true(piece.n > 0 && piece.n <= HTTP_MAX_PIECE);
    for (size_t i = 0; i < piece.n; i++)
        b->sum = b->sum * 31 + (unsigned char)piece.p[i];
    b->taken += piece.n;
    b->n_pieces++;
    if (str_is(r->query, "slow"))
        http_body_pause(r);
    if (str_is(r->query, "early") && b->taken >= 1000) {
        b->taking = NULL;
        http_reply(r, 400, "text/plain", STR("enough"));
    }
}

static void take_end(struct http_request *r)
{
    struct bench *b = r->user;
    b->ends++;
    b->taking = NULL;
    http_reply(r, 201, "text/plain", STR("taken"));
}

static void take(struct bench *b, struct http_request *r)
{
    if (!r->streamed) {
        http_reply(r, 201, "text/plain", STR("empty"));
        return;
    }
    b->taking = r;
    r->on_gone = take_gone;
    r->on_body = take_piece;
    r->on_body_end = take_end;
    if (str_is(r->query, "late"))
        http_body_pause(r);
    if (str_is(r->query, "refuse")) {
        b->taking = NULL;
        http_reply(r, 409, "text/plain", STR("no"));
    }
}

static void on_request(void *user, struct http_request *r)
{
    struct bench *b = user;
    size_t n = strlen(b->seen);
    snprintf(b->seen + n, sizeof b->seen - n, "%s %.*s?%.*s;", r->method, (int)r->path.n, r->path.p,
             (int)r->query.n, r->query.p ? r->query.p : "");
    b->calls++;
    r->user = b;
    if (str_is(r->path, "/take")) {
        take(b, r);
    } else if (str_is(r->path, "/echo")) {
        http_reply(r, 200, "text/plain", r->body);
    } else if (str_is(r->path, "/hold")) {
        r->on_gone = on_gone;
        b->held = r;
    } else if (str_is(r->path, "/flood")) {
        r->on_drain = on_drain;
        http_stream_begin(r, 200, "text/plain");
        flood(r);
    } else if (str_is(r->path, "/lines")) {
        http_stream_begin(r, 200, "application/x-ndjson");
        http_stream_write(r, STR("one\n"));
        http_stream_write(r, STR("two\n"));
        http_stream_end(r);
    } else {
        http_reply(r, 200, "text/plain", STR("ok"));
    }
}

/* ---- a server and its clients --------------------------------------------------------------------- */

static int listen_unix_at(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    unlink(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && bind(fd, (void *)&a, sizeof a) == 0 && listen(fd, 64) == 0);
    return fd;
}

static int listen_loopback(uint16_t *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && bind(fd, (void *)&a, sizeof a) == 0 && listen(fd, 64) == 0);
    assert_int_equal(getsockname(fd, (void *)&a, &n), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e;
    signal(SIGPIPE, SIG_IGN);
    assert_non_null(b);
    uv_loop_init(&b->loop);
    assert_int_equal(auth_init(&b->auth, "box.example,other", "https://good.example", "", &e), 0);
    struct http_options o = {
        .loop = &b->loop, .auth = &b->auth, .max_body = MAX_BODY, .on_request = on_request,
        .user = b, .streams = streams, .hurry = HURRY,
    };
    assert_int_equal(http_server_create(&o, &b->server, &e), 0);
    snprintf(b->socket, sizeof b->socket, "/tmp/hearth-http-test-%d.sock", (int)getpid());
    assert_int_equal(http_server_listen(b->server, listen_unix_at(b->socket), &e), 0);
    assert_int_equal(http_server_listen(b->server, listen_loopback(&b->port), &e), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    http_server_close(b->server, NULL, NULL);
    if (b->taking)
        http_abort(b->taking);
    if (b->held)
        http_reply(b->held, 200, "text/plain", STR("late"));
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    auth_finish(&b->auth);
    unlink(b->socket);
    free(b);
    return 0;
}

static int dial(struct bench *b, bool tcp)
{
    int fd;
    if (tcp) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons(b->port) };
        fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (void *)&a, sizeof a), 0);
    } else {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        memcpy(a.sun_path, b->socket, sizeof b->socket);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (void *)&a, sizeof a), 0);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void spin(struct bench *b, int ms)
{
    uint64_t until = uv_hrtime() + (uint64_t)ms * 1000000;
    while (uv_hrtime() < until) {
        uv_run(&b->loop, UV_RUN_NOWAIT);
        usleep(200);
    }
}

static void send_all(struct bench *b, int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t put = send(fd, p, n, MSG_NOSIGNAL);
        if (put < 0 && errno != EAGAIN)
            return; /* the server has closed: the answer says why */
        if (put > 0) {
            p += put;
            n -= (size_t)put;
        }
        uv_run(&b->loop, UV_RUN_NOWAIT);
    }
}

/* Reads until the server closes, or `quiet_ms` pass without a byte. *closed says which. */
static size_t receive(struct bench *b, int fd, char *out, size_t cap, int quiet_ms, bool *closed)
{
    size_t n = 0;
    uint64_t until = uv_hrtime() + (uint64_t)quiet_ms * 1000000;
    *closed = false;
    while (uv_hrtime() < until && n + 1 < cap) {
        uv_run(&b->loop, UV_RUN_NOWAIT);
        ssize_t got = recv(fd, out + n, cap - 1 - n, 0);
        if (got > 0) {
            n += (size_t)got;
            until = uv_hrtime() + (uint64_t)quiet_ms * 1000000;
        } else if (got == 0 || errno != EAGAIN) {
            *closed = true;
            break;
        } else {
            usleep(100);
        }
    }
    out[n] = '\0';
    return n;
}

static int status_of(const char *answer)
{
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

/* One connection that sends the bytes; the first status, and whether the server closed it. */
static int ask(struct bench *b, bool tcp, const char *bytes, size_t n, char *answer, size_t cap,
               bool *closed)
{
    char own[4096];
    bool ignored;
    int fd = dial(b, tcp);
    send_all(b, fd, bytes, n);
    receive(b, fd, answer ? answer : own, answer ? cap : sizeof own, 15, closed ? closed : &ignored);
    close(fd);
    spin(b, 2);
    return status_of(answer ? answer : own);
}

/* ---- what is refused --------------------------------------------------------------------------------- */

#define H "Host: localhost\r\n"
#define ANY_REFUSAL 400 /* where versions of the parser differ in what they say: 400 or 501 */
struct probe {
    const char *name;
    const char *bytes;
    int status;   /* of the first answer, or ANY_REFUSAL */
    int calls;    /* of the handler */
    bool closed;  /* afterwards */
};
/* Each is one of the hostile requests of the servers that were compared for this one. */
static const struct probe probes[] = {
    { "plain", "GET / HTTP/1.1\r\n" H "\r\n", 200, 1, false },
    { "content-length and chunked",
      "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
      0, true },
    { "two content-lengths",
      "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, 0, true },
    { "two equal content-lengths",
      "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, 0, true },
    { "signed content-length", "POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\nhello", 400, 0,
      true },
    { "negative content-length", "POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", 400, 0, true },
    { "content-length overflow",
      "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n", 400, 0, true },
    { "content-length list", "POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\nhello", 400, 0,
      true },
    { "body over the cap", "POST / HTTP/1.1\r\n" H "Content-Length: 100001\r\n\r\n", 413, 0, true },
    { "bare line feeds", "GET / HTTP/1.1\nHost: localhost\n\n", 400, 0, true },
    { "chunk without its line end",
      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n", 400, 0,
      true },
    { "chunk size not hex", "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, 0,
      true },
    { "chunk size overflow",
      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n11111111111111111\r\n", 400, 0, true },
    { "space before colon", "GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400, 0, true },
    { "space in a name", "GET / HTTP/1.1\r\n" H "X Y: 1\r\n\r\n", 400, 0, true },
    { "CR before a smuggled header",
      "GET / HTTP/1.1\r\n" H "X-Abc:\rxTransfer-Encoding: chunked\r\n\r\n", 400, 0, true },
    { "CRLF CR X", "GET / HTTP/1.1\r\n" H "\r\rX", 400, 0, true },
    { "folded header", "GET / HTTP/1.1\r\n" H "X-A: one\r\n two\r\n\r\n", 400, 0, true },
    { "folded from an empty line", "GET / HTTP/1.1\r\n" H "X-A:\r\n two\r\n\r\n", 400, 0, true },
    { "folded with a tab", "GET / HTTP/1.1\r\n" H "X-A: one\r\n\ttwo\r\n\r\n", 400, 0, true },
    { "no host over TCP", "GET / HTTP/1.1\r\n\r\n", 400, 0, true },
    { "empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", 400, 0, true },
    { "two hosts", "GET / HTTP/1.1\r\n" H H "\r\n", 400, 0, true },
    { "host with a path", "GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400, 0, true },
    { "host with a user", "GET / HTTP/1.1\r\nHost: a@localhost\r\n\r\n", 400, 0, true },
    { "host with a bad port", "GET / HTTP/1.1\r\nHost: localhost:99x\r\n\r\n", 400, 0, true },
    { "foreign host", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421, 0, true },
    { "foreign host that ends alike", "GET / HTTP/1.1\r\nHost: evillocalhost\r\n\r\n", 421, 0, true },
    { "foreign address", "GET / HTTP/1.1\r\nHost: 203.0.113.9\r\n\r\n", 421, 0, true },
    { "any address", "GET / HTTP/1.1\r\nHost: 0.0.0.0\r\n\r\n", 421, 0, true },
    { "number for an address", "GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n", 421, 0, true },
    { "loopback by another number", "GET / HTTP/1.1\r\nHost: 127.9.8.7:1\r\n\r\n", 200, 1, false },
    { "IPv6 loopback", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 200, 1, false },
    { "name under localhost", "GET / HTTP/1.1\r\nHost: A.LocalHost:80\r\n\r\n", 200, 1, false },
    { "root dot", "GET / HTTP/1.1\r\nHost: localhost.\r\n\r\n", 200, 1, false },
    { "allowed host", "GET / HTTP/1.1\r\nHost: Box.Example:11434\r\n\r\n", 200, 1, false },
    { "authority wins over host",
      "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 421, 0, true },
    { "absolute form", "GET http://localhost/a?b HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, 1,
      false },
    { "foreign origin", "GET / HTTP/1.1\r\n" H "Origin: https://evil.example\r\n\r\n", 403, 0, true },
    { "null origin", "GET / HTTP/1.1\r\n" H "Origin: null\r\n\r\n", 403, 0, true },
    { "empty origin", "GET / HTTP/1.1\r\n" H "Origin:\r\n\r\n", 403, 0, true },
    { "localhost origin", "GET / HTTP/1.1\r\n" H "Origin: http://localhost:3000\r\n\r\n", 403, 0,
      true },
    { "allowed origin", "GET / HTTP/1.1\r\n" H "Origin: https://good.example\r\n\r\n", 200, 1, false },
    { "allowed origin, plain text body",
      "POST / HTTP/1.1\r\n" H "Origin: https://good.example\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n{}", 415, 0, true },
    { "allowed origin, JSON body",
      "POST / HTTP/1.1\r\n" H "Origin: https://good.example\r\n"
      "Content-Type: application/json; charset=utf-8\r\nContent-Length: 2\r\n\r\n{}", 200, 1, false },
    { "page of another site", "GET / HTTP/1.1\r\n" H "Sec-Fetch-Site: cross-site\r\n\r\n", 403, 0,
      true },
    { "page of the same site", "GET / HTTP/1.1\r\n" H "Sec-Fetch-Site: same-site\r\n\r\n", 403, 0,
      true },
    { "typed by hand", "GET / HTTP/1.1\r\n" H "Sec-Fetch-Site: none\r\n\r\n", 200, 1, false },
    { "compressed body",
      "POST / HTTP/1.1\r\n" H "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 415, 0, true },
    { "gzip then chunked",
      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, 0, true },
    { "chunked twice",
      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
      "0\r\n\r\n", ANY_REFUSAL, 0, true },
    { "chunked then gzip",
      "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, 0, true },
    { "chunked in HTTP/1.0",
      "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, 0, true },
    { "HTTP/2.0", "GET / HTTP/2.0\r\n" H "\r\n", 505, 0, true },
    { "HTTP/0.9", "GET /\r\n\r\n", 505, 0, true },
    { "no such version", "GET / HTTP/1.7\r\n" H "\r\n", 400, 0, true },
    { "no such method", "BREW / HTTP/1.1\r\n" H "\r\n", 400, 0, true },
    { "lower-case method", "get / HTTP/1.1\r\n" H "\r\n", 400, 0, true },
    { "encoded NUL in the path", "GET /a%00b HTTP/1.1\r\n" H "\r\n", 400, 0, true },
    { "encoded NUL in the query", "GET /a?filter=a%00b HTTP/1.1\r\n" H "\r\n", 400, 0, true },
    { "asterisk for GET", "GET * HTTP/1.1\r\n" H "\r\n", 400, 0, true },
    { "expectation", "POST / HTTP/1.1\r\n" H "Expect: coffee\r\nContent-Length: 1\r\n\r\nx", 417, 0,
      true },
    { "TLS hello", "\x16\x03\x01\x02\x01\x01\xfc\x03\x03", 400, 0, true },
    { "upgrade is ignored",
      "GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 200, 1, false },
};

static void hostile_requests(void **state)
{
    struct bench *b = *state;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        const struct probe *p = &probes[i];
        bool closed;
        b->calls = 0;
        int status = ask(b, true, p->bytes, strlen(p->bytes), NULL, 0, &closed);
        status = status == 501 && p->status == ANY_REFUSAL ? ANY_REFUSAL : status;
        if (status != p->status || b->calls != p->calls || closed != p->closed)
            fail_msg("%s: status %d (%d), calls %d (%d), closed %d (%d)", p->name, status, p->status,
                     b->calls, p->calls, closed, p->closed);
        b->seen[0] = '\0';
    }
}

/* The same byte by byte: a verdict does not hang on how the bytes were cut. */
static void hostile_requests_in_pieces(void **state)
{
    struct bench *b = *state;
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        const struct probe *p = &probes[i];
        char answer[2048];
        bool closed;
        int fd = dial(b, true);
        b->calls = 0;
        for (size_t k = 0; k < strlen(p->bytes); k++)
            send_all(b, fd, p->bytes + k, 1);
        receive(b, fd, answer, sizeof answer, 30, &closed);
        close(fd);
        spin(b, 2);
        if (status_of(answer) != p->status || b->calls != p->calls)
            fail_msg("%s, in pieces: status %d (%d), calls %d (%d)", p->name, status_of(answer),
                     p->status, b->calls, p->calls);
        b->seen[0] = '\0';
    }
}

static void nul_bytes_are_refused(void **state)
{
    struct bench *b = *state;
    static const char in_header[] = "GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n";
    static const char in_target[] = "GET /a\0b HTTP/1.1\r\n" H "\r\n";
    assert_int_equal(ask(b, true, in_header, sizeof in_header - 1, NULL, 0, NULL), 400);
    assert_int_equal(ask(b, true, in_target, sizeof in_target - 1, NULL, 0, NULL), 400);
    assert_int_equal(b->calls, 0);
}

static void socket_asks_for_no_host_or_origin(void **state)
{
    struct bench *b = *state;
    static const char *const fine[] = {
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET / HTTP/1.1\r\nOrigin: https://evil.example\r\n\r\n",
    };
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ask(b, false, fine[i], strlen(fine[i]), NULL, 0, NULL), 200);
    static const char two[] = "GET / HTTP/1.1\r\n" H H "\r\n";
    assert_int_equal(ask(b, false, two, sizeof two - 1, NULL, 0, NULL), 400);
}

/* ---- caps --------------------------------------------------------------------------------------------- */

static void heads_have_a_cap(void **state)
{
    struct bench *b = *state;
    size_t n = 0;
    char *big = malloc(200000);
    assert_non_null(big);
    n = text(big, "GET /");
    memset(big + n, 'a', 17000);
    n += 17000;
    n += text(big + n, " HTTP/1.1\r\n" H "\r\n");
    assert_int_equal(ask(b, true, big, n, NULL, 0, NULL), 431);
    n = text(big, "GET / HTTP/1.1\r\n" H);
    for (int i = 0; i < 64; i++) /* one more than the cap, with Host */
        n += text(big + n, "X-%d: v\r\n", i);
    n += text(big + n, "\r\n");
    assert_int_equal(ask(b, true, big, n, NULL, 0, NULL), 431);
    n = text(big, "GET / HTTP/1.1\r\n" H "X:");
    memset(big + n, ' ', 150000); /* blanks that no callback counts */
    n += 150000;
    n += text(big + n, "v\r\n\r\n");
    assert_int_equal(ask(b, true, big, n, NULL, 0, NULL), 431);
    assert_int_equal(b->calls, 0);
    n = text(big, "GET / HTTP/1.1\r\n" H "X: ");
    memset(big + n, 'v', 15000);
    n += 15000;
    n += text(big + n, "\r\n\r\n");
    assert_int_equal(ask(b, true, big, n, NULL, 0, NULL), 200);
    free(big);
}

static void chunk_extensions_and_trailers_have_a_cap(void **state)
{
    struct bench *b = *state;
    char *big = malloc(400000);
    assert_non_null(big);
    size_t n = text(big, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;x=");
    memset(big + n, 'e', 200000);
    n += 200000;
    n += text(big + n, "\r\nhello\r\n0\r\n\r\n");
    assert_int_equal(ask(b, true, big, n, NULL, 0, NULL), 413);
    n = text(big, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: ");
    memset(big + n, 't', 200000);
    n += 200000;
    n += text(big + n, "\r\n\r\n");
    assert_int_equal(ask(b, true, big, n, NULL, 0, NULL), 413);
    assert_int_equal(b->calls, 0);
    char answer[1024];
    n = text(big, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
                             "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX: t\r\n\r\n");
    assert_int_equal(ask(b, true, big, n, answer, sizeof answer, NULL), 200);
    assert_non_null(strstr(answer, "\r\n\r\nhello world"));
    free(big);
}

static void chunked_body_over_the_cap_is_refused(void **state)
{
    struct bench *b = *state;
    int fd = dial(b, true);
    char chunk[1100], answer[1024];
    bool closed;
    size_t n = text(chunk, "POST /echo HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n");
    send_all(b, fd, chunk, n);
    n = text(chunk, "3e8\r\n");
    memset(chunk + n, 'b', 1000);
    n += 1000;
    n += text(chunk + n, "\r\n");
    for (int i = 0; i < 120; i++)
        send_all(b, fd, chunk, n);
    receive(b, fd, answer, sizeof answer, 30, &closed);
    close(fd);
    assert_int_equal(status_of(answer), 413);
    assert_int_equal(b->calls, 0);
}

/* ---- what works ---------------------------------------------------------------------------------------- */

static void pipelined_answers_keep_their_order(void **state)
{
    struct bench *b = *state;
    char all[4096] = "", answer[8192];
    bool closed;
    for (int i = 0; i < 20; i++)
        text(all + strlen(all), "POST /echo?%d HTTP/1.1\r\n" H "Content-Length: 4\r\n\r\n<%02d>", i,
                i);
    assert_int_equal(ask(b, true, all, strlen(all), answer, sizeof answer, &closed), 200);
    assert_int_equal(b->calls, 20);
    assert_false(closed);
    const char *at = answer;
    for (int i = 0; i < 20; i++) {
        char want[8];
        snprintf(want, sizeof want, "<%02d>", i);
        at = strstr(at, want);
        assert_non_null(at);
    }
}

static void requests_behind_one_that_is_held_wait(void **state)
{
    struct bench *b = *state;
    static const char two[] = "GET /hold HTTP/1.1\r\n" H "\r\nGET /second HTTP/1.1\r\n" H "\r\n";
    char answer[2048];
    bool closed;
    int fd = dial(b, true);
    send_all(b, fd, two, sizeof two - 1);
    assert_int_equal(receive(b, fd, answer, sizeof answer, 30, &closed), 0);
    assert_int_equal(b->calls, 1);
    struct http_request *r = b->held;
    b->held = NULL;
    http_reply(r, 200, "text/plain", STR("first"));
    receive(b, fd, answer, sizeof answer, 30, &closed);
    const char *first = strstr(answer, "first");
    assert_non_null(first);
    assert_non_null(strstr(first, "ok"));
    assert_int_equal(b->calls, 2);
    close(fd);
}

static void pipelined_before_eof_is_answered(void **state)
{
    struct bench *b = *state;
    static const char two[] = "GET / HTTP/1.1\r\n" H "\r\nGET / HTTP/1.1\r\n" H "\r\n";
    char answer[2048];
    bool closed;
    int fd = dial(b, false);
    send_all(b, fd, two, sizeof two - 1);
    shutdown(fd, SHUT_WR);
    receive(b, fd, answer, sizeof answer, 100, &closed);
    close(fd);
    assert_true(closed);
    assert_int_equal(b->calls, 2);
}

static void gone_clients_are_noticed(void **state)
{
    struct bench *b = *state;
    static const char hold[] = "GET /hold HTTP/1.1\r\n" H "\r\n";
    for (int how = 0; how < 6; how++) {
        int fd = dial(b, how % 2 == 0);
        b->gone = 0;
        send_all(b, fd, hold, sizeof hold - 1);
        spin(b, 5);
        assert_non_null(b->held);
        assert_int_equal(b->gone, 0);
        struct linger reset = { .l_onoff = 1, .l_linger = 0 };
        if (how / 2 == 0)
            shutdown(fd, SHUT_WR);
        if (how / 2 == 1)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        if (how / 2 > 0)
            close(fd);
        spin(b, 10);
        assert_int_equal(b->gone, 1);
        assert_true(b->held->gone);
        struct http_request *r = b->held;
        b->held = NULL;
        http_reply(r, 499, "text/plain", STR("nobody hears this"));
        spin(b, 10);
        if (how / 2 == 0)
            close(fd);
    }
    spin(b, 10);
    assert_int_equal(http_server_counts(b->server).open, 0);
}

static void streams_are_chunked(void **state)
{
    struct bench *b = *state;
    static const char get[] = "GET /lines HTTP/1.1\r\n" H "\r\n";
    static const char old[] = "GET /lines HTTP/1.0\r\n" H "\r\n";
    char answer[2048];
    bool closed;
    assert_int_equal(ask(b, true, get, sizeof get - 1, answer, sizeof answer, &closed), 200);
    assert_non_null(strstr(answer, "Transfer-Encoding: chunked\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"));
    assert_false(closed);
    assert_int_equal(ask(b, true, old, sizeof old - 1, answer, sizeof answer, &closed), 200);
    assert_null(strstr(answer, "chunked"));
    assert_non_null(strstr(answer, "\r\n\r\none\ntwo\n"));
    assert_true(closed);
}

static void head_gets_no_body(void **state)
{
    struct bench *b = *state;
    static const char head[] = "HEAD / HTTP/1.1\r\n" H "\r\n";
    char answer[1024];
    assert_int_equal(ask(b, true, head, sizeof head - 1, answer, sizeof answer, NULL), 200);
    assert_non_null(strstr(answer, "Content-Length: 2\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}

static void expecting_clients_are_told_to_go_on(void **state)
{
    struct bench *b = *state;
    static const char head[] =
        "POST /echo HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    char answer[1024];
    bool closed;
    int fd = dial(b, true);
    send_all(b, fd, head, sizeof head - 1);
    receive(b, fd, answer, sizeof answer, 20, &closed);
    assert_string_equal(answer, "HTTP/1.1 100 Continue\r\n\r\n");
    send_all(b, fd, "hello", 5);
    receive(b, fd, answer, sizeof answer, 20, &closed);
    assert_int_equal(status_of(answer), 200);
    close(fd);
}

static void a_slow_reader_pauses_the_stream(void **state)
{
    struct bench *b = *state;
    static const char get[] = "GET /flood HTTP/1.1\r\n" H "\r\n";
    static char sink[1 << 16];
    size_t total = 0, want = (size_t)8 << 20;
    int fd = dial(b, true), small = 32768;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    b->to_write = want;
    send_all(b, fd, get, sizeof get - 1);
    spin(b, 30);
    size_t left = b->to_write;
    assert_true(left > 0); /* it waits for us */
    spin(b, 30);
    assert_int_equal(b->to_write, left);
    for (int idle = 0; idle < 1000 && total < want + 20000;) {
        uv_run(&b->loop, UV_RUN_NOWAIT);
        ssize_t n = recv(fd, sink, sizeof sink, 0);
        if (n > 0) {
            total += (size_t)n;
            idle = 0;
        } else {
            idle++;
            usleep(200);
        }
    }
    assert_true(total > want);
    assert_true(b->drains > 0);
    close(fd);
}

/* ---- streamed bodies -------------------------------------------------------------------------------- */

static unsigned sum_of(const char *p, size_t n)
{
    unsigned sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + (unsigned char)p[i];
    return sum;
}

#define BIG ((size_t)3 << 20) /* far over max_body */
static char *big_body(void)
{
    char *p = malloc(BIG);
    assert_non_null(p);
    for (size_t i = 0; i < BIG; i++)
        p[i] = (char)(i * 2654435761U >> 13);
    return p;
}

/* In one piece with a length, and in chunks; then the connection takes the next request. */
static void streamed_bodies_arrive_in_pieces(void **state)
{
    struct bench *b = *state;
    char *body = big_body(), head[200], answer[2048];
    for (int chunked = 0; chunked < 2; chunked++)
        for (int slow = 0; slow < 2; slow++) {
            bool closed;
            int fd = dial(b, chunked != 0);
            b->taken = b->n_pieces = b->ends = b->sum = 0;
            size_t n = text(head, "POST /take%s HTTP/1.1\r\n" H, slow ? "?late" : "");
            n += chunked ? text(head + n, "Transfer-Encoding: chunked\r\n\r\n")
                         : text(head + n, "Content-Length: %zu\r\n\r\n", BIG);
            send_all(b, fd, head, n);
            if (slow) { /* held from the start: the client is held too */
                size_t sent = 0;
                for (int i = 0; !chunked && i < 2000; i++) {
                    ssize_t put = send(fd, body + sent, BIG - sent, MSG_NOSIGNAL);
                    sent += put > 0 ? (size_t)put : 0;
                    uv_run(&b->loop, UV_RUN_NOWAIT);
                }
                spin(b, 5);
                assert_non_null(b->taking);
                assert_int_equal(b->taken, 0);
                assert_true(sent < BIG);
                http_body_resume(b->taking);
                if (!chunked)
                    send_all(b, fd, body + sent, BIG - sent);
            } else if (!chunked) {
                send_all(b, fd, body, BIG);
            }
            for (size_t at = 0; chunked && at < BIG; at += 50000) {
                size_t part = BIG - at < 50000 ? BIG - at : 50000;
                send_all(b, fd, head, text(head, "%zx\r\n", part));
                send_all(b, fd, body + at, part);
                send_all(b, fd, "\r\n", 2);
            }
            if (chunked)
                send_all(b, fd, "0\r\n\r\n", 5);
            receive(b, fd, answer, sizeof answer, 30, &closed);
            assert_int_equal(status_of(answer), 201);
            assert_false(closed);
            assert_int_equal(b->taken, BIG);
            assert_int_equal(b->ends, 1);
            assert_int_equal(b->sum, sum_of(body, BIG));
            assert_true(b->n_pieces >= BIG / HTTP_MAX_PIECE);
            send_all(b, fd, head, text(head, "GET /next HTTP/1.1\r\n" H "\r\n"));
            receive(b, fd, answer, sizeof answer, 20, &closed);
            assert_int_equal(status_of(answer), 200);
            close(fd);
            spin(b, 5);
        }
    free(body);
}

static void a_piece_at_a_time(void **state)
{
    struct bench *b = *state;
    static const char all[] = "POST /take?slow HTTP/1.1\r\n" H "Content-Length: 10\r\n\r\n01234";
    char answer[1024];
    bool closed;
    int fd = dial(b, true);
    send_all(b, fd, all, sizeof all - 1);
    spin(b, 5);
    assert_int_equal(b->taken, 5);
    send_all(b, fd, "56789GET / HTTP/1.1\r\n" H "\r\n", 7 + sizeof "GET / HTTP/1.1\r\n" H - 1);
    spin(b, 400); /* longer than a client may be silent: the handler is the one that waits */
    assert_int_equal(b->taken, 5);
    assert_non_null(b->taking);
    http_body_resume(b->taking);
    receive(b, fd, answer, sizeof answer, 20, &closed);
    assert_int_equal(b->taken, 10);
    assert_non_null(strstr(answer, "taken"));
    assert_non_null(strstr(answer, "ok")); /* the one behind it */
    close(fd);
}

static const struct {
    const char *name, *bytes, *more; /* more: after the first have been handled */
    int status, gone, closed;
    size_t taken, calls;
} bodies[] = {
    { "no body", "POST /take HTTP/1.1\r\n" H "\r\n", "", 201, 0, 0, 0, 1 },
    { "empty", "POST /take HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", "", 201, 0, 0, 0, 1 },
    { "empty chunks", "POST /take HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", 201, 0, 0, 0, 1 },
    { "whole at once", "POST /take HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", "", 201, 0, 0, 3, 1 },
    { "another method", "PUT /take HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", "", 201, 0, 0, 0, 1 },
    { "refused at the head", "POST /take?refuse HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc", "", 409, 0, 1, 0, 1 },
    { "a malformed chunk", "POST /take HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "zz\r\n", 0, 1, 1, 3, 1 },
    { "long extensions", "POST /take HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3;" , "", 0, 1, 1, 0, 1 },
    { "old", "POST /take HTTP/1.0\r\nContent-Length: 3\r\nHost: localhost\r\n\r\nabc", "", 201, 0, 1, 3, 1 },
    { "two lengths", "POST /take HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", "", 400, 0, 1, 0, 0 },
};

static void streamed_bodies_as_they_come(void **state)
{
    struct bench *b = *state;
    char many_x[1000];
    memset(many_x, 'x', sizeof many_x);
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        for (int piecemeal = 0; piecemeal < 2; piecemeal++) {
            char answer[2048];
            bool closed;
            int fd = dial(b, true), calls = b->calls, gone = b->gone;
            size_t n = strlen(bodies[i].bytes);
            b->taken = 0;
            for (size_t at = 0; piecemeal && at < n; at++)
                send_all(b, fd, bodies[i].bytes + at, 1);
            if (!piecemeal)
                send_all(b, fd, bodies[i].bytes, n);
            spin(b, 2);
            send_all(b, fd, bodies[i].more, strlen(bodies[i].more));
            for (int k = 0; strcmp(bodies[i].name, "long extensions") == 0 && k < 10; k++)
                send_all(b, fd, many_x, sizeof many_x);
            receive(b, fd, answer, sizeof answer, 15, &closed);
            close(fd);
            spin(b, 2);
            if (status_of(answer) != bodies[i].status || b->gone - gone != bodies[i].gone ||
                closed != bodies[i].closed || b->taken != bodies[i].taken ||
                (size_t)(b->calls - calls) != bodies[i].calls)
                fail_msg("%s: status %d gone %d closed %d taken %zu calls %d", bodies[i].name, status_of(answer),
                         b->gone - gone, closed, b->taken, b->calls - calls);
        }
}

/* Answered in the middle: the client hears it, and then the end. */
static void an_answer_before_the_body_ends(void **state)
{
    struct bench *b = *state;
    static const char head[] = "POST /take?early HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n";
    static char body[100000];
    char answer[1024];
    bool closed;
    int fd = dial(b, true);
    send_all(b, fd, head, sizeof head - 1);
    send_all(b, fd, body, 60000);
    receive(b, fd, answer, sizeof answer, 60, &closed);
    assert_int_equal(status_of(answer), 400);
    assert_non_null(strstr(answer, "Connection: close"));
    assert_true(closed);
    assert_true(b->taken >= 1000 && b->taken < 100000);
    assert_int_equal(b->ends, 0);
    close(fd);
}

static void clients_that_leave_in_the_middle(void **state)
{
    struct bench *b = *state;
    static const char some[] = "POST /take HTTP/1.1\r\n" H "Content-Length: 100\r\n\r\nabc";
    for (int how = 0; how < 4; how++) {
        int fd = dial(b, how % 2 == 0);
        b->gone = 0;
        send_all(b, fd, some, sizeof some - 1);
        spin(b, 5);
        assert_non_null(b->taking);
        if (how / 2)
            shutdown(fd, SHUT_WR);
        else
            close(fd);
        spin(b, 10);
        assert_int_equal(b->gone, 1);
        assert_null(b->taking);
        if (how / 2)
            close(fd);
    }
    int fd = dial(b, true); /* and one that says nothing more */
    b->gone = 0;
    send_all(b, fd, some, sizeof some - 1);
    spin(b, HTTP_BODY_IDLE_MS / HURRY + 100);
    assert_int_equal(b->gone, 1);
    close(fd);
    spin(b, 10);
    assert_int_equal(http_server_counts(b->server).open, 0);
    assert_int_equal(http_server_counts(b->server).busy, 0);
}

static void expecting_clients_of_streams(void **state)
{
    struct bench *b = *state;
    static const char *const query[] = { "", "?late", "?refuse" };
    for (size_t i = 0; i < 3; i++) {
        char head[300], answer[1024];
        bool closed;
        int fd = dial(b, true);
        send_all(b, fd, head, text(head, "POST /take%s HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", query[i]));
        receive(b, fd, answer, sizeof answer, 20, &closed);
        assert_int_equal(status_of(answer), i == 2 ? 409 : i == 0 ? 100 : 0);
        if (i == 1) {
            http_body_resume(b->taking);
            receive(b, fd, answer, sizeof answer, 20, &closed);
            assert_string_equal(answer, "HTTP/1.1 100 Continue\r\n\r\n");
        }
        if (i < 2) {
            send_all(b, fd, "hello", 5);
            receive(b, fd, answer, sizeof answer, 20, &closed);
            assert_int_equal(status_of(answer), 201);
        }
        close(fd);
        spin(b, 5);
    }
}

/* ---- time ----------------------------------------------------------------------------------------------- */

static void slow_heads_and_bodies_time_out(void **state)
{
    struct bench *b = *state;
    static const char *const begun[] = { "GET / HT", "POST / HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\nx" };
    for (int i = 0; i < 2; i++) {
        char answer[1024];
        bool closed;
        int fd = dial(b, true);
        send_all(b, fd, begun[i], strlen(begun[i]));
        receive(b, fd, answer, sizeof answer, 2000, &closed);
        assert_true(closed);
        assert_int_equal(status_of(answer), 408);
        close(fd);
    }
}

static void a_dripped_head_has_a_total_limit(void **state)
{
    struct bench *b = *state;
    char answer[1024];
    bool closed = false;
    int fd = dial(b, true);
    uint64_t began = uv_hrtime();
    send_all(b, fd, "GET / HTTP/1.1\r\n", 16);
    while (uv_hrtime() - began < UINT64_C(3000000000) && !closed) {
        send(fd, "X", 1, MSG_NOSIGNAL);
        receive(b, fd, answer, sizeof answer, 20, &closed);
        if (*answer)
            break;
    }
    assert_true(uv_hrtime() - began > UINT64_C(100000000)); /* longer than one pause may be */
    assert_int_equal(status_of(answer), 408);
    close(fd);
}

static void idle_connections_are_closed(void **state)
{
    struct bench *b = *state;
    char answer[64];
    bool closed;
    int fd = dial(b, false);
    receive(b, fd, answer, sizeof answer, 4000, &closed);
    assert_true(closed);
    close(fd);
}

/* ---- draining, memory ------------------------------------------------------------------------------------ */

static void draining_ends_connections_after_their_answer(void **state)
{
    struct bench *b = *state;
    static const char hold[] = "GET /hold HTTP/1.1\r\n" H "\r\n";
    char answer[1024];
    bool closed;
    int idle = dial(b, false), busy = dial(b, false);
    send_all(b, busy, hold, sizeof hold - 1);
    spin(b, 5);
    http_server_drain(b->server);
    receive(b, idle, answer, sizeof answer, 50, &closed);
    assert_true(closed);
    struct http_request *r = b->held;
    b->held = NULL;
    http_reply(r, 200, "text/plain", STR("last"));
    receive(b, busy, answer, sizeof answer, 200, &closed);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    assert_non_null(strstr(answer, "last"));
    close(idle);
    close(busy);
}

/* Every allocation fails once: the connection may be lost, the server goes on. */
static void running_out_of_memory_costs_a_connection(void **state)
{
    struct bench *b = *state;
    static const char post[] = "POST /echo HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello";
    static const char lines[] = "GET /lines HTTP/1.1\r\n" H "\r\n";
    for (uint64_t n = 1; n < 40; n++) {
        mem_fail_after(n, false);
        ask(b, n % 2 == 0, post, sizeof post - 1, NULL, 0, NULL);
        mem_fail_after(n, false);
        ask(b, n % 2 == 0, lines, sizeof lines - 1, NULL, 0, NULL);
        mem_fail_after(0, false);
        assert_int_equal(ask(b, true, post, sizeof post - 1, NULL, 0, NULL), 200);
        b->seen[0] = '\0';
    }
    spin(b, 150);
    assert_int_equal(http_server_counts(b->server).busy, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(hostile_requests),
        T(hostile_requests_in_pieces),
        T(nul_bytes_are_refused),
        T(socket_asks_for_no_host_or_origin),
        T(heads_have_a_cap),
        T(chunk_extensions_and_trailers_have_a_cap),
        T(chunked_body_over_the_cap_is_refused),
        T(pipelined_answers_keep_their_order),
        T(requests_behind_one_that_is_held_wait),
        T(pipelined_before_eof_is_answered),
        T(gone_clients_are_noticed),
        T(streams_are_chunked),
        T(head_gets_no_body),
        T(expecting_clients_are_told_to_go_on),
        T(a_slow_reader_pauses_the_stream),
        T(streamed_bodies_arrive_in_pieces),
        T(a_piece_at_a_time),
        T(streamed_bodies_as_they_come),
        T(an_answer_before_the_body_ends),
        T(clients_that_leave_in_the_middle),
        T(expecting_clients_of_streams),
        T(slow_heads_and_bodies_time_out),
        T(a_dripped_head_has_a_total_limit),
        T(idle_connections_are_closed),
        T(draining_ends_connections_after_their_answer),
        T(running_out_of_memory_costs_a_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
