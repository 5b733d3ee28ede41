/* From bytes to a checked request. */
#include <stdio.h>
#include <string.h>

#include "daemon/http_priv.h"
#include "runtime/base/mem.h"

/* ---- what is refused ----------------------------------------------------------------------------- */

/* Remembers why; the value makes llhttp stop. */
static int fail(struct conn *c, int status, const char *sentence)
{
    c->fail_status = status;
    err_set(&c->fail, ERR_INVALID, "%s", sentence);
    return -1;
}

static int fail_memory(struct conn *c)
{
    return fail(c, 500, "out of memory");
}

/* ---- pieces of the head -------------------------------------------------------------------------- */

static int on_begin(llhttp_t *parser)
{
    struct conn *c = parser->data;
    conn_set_phase(c, PHASE_HEAD);
    c->head = mem_zero(1, sizeof *c->head);
    if (!c->head)
        return fail_memory(c);
    buf_init(&c->head->text, HTTP_MAX_HEAD);
    c->fail_status = 0;
    c->gap = c->gaps = 0;
    c->body_bytes = 0;
    return 0;
}

static int keep(struct conn *c, const char *p, size_t n)
{
    buf_put(&c->head->text, p, n);
    if (!c->head->text.failed)
        return 0;
    return c->head->text.n + n > HTTP_MAX_HEAD ? fail(c, 431, "the request's head is too large")
                                               : fail_memory(c);
}

static int on_url(llhttp_t *parser, const char *p, size_t n)
{
    struct conn *c = parser->data;
    c->head->target_n += n;
    c->mark = p + n;
    return keep(c, p, n);
}

static bool in_body(const struct conn *c)
{
    return c->phase != PHASE_HEAD;
}

static int on_field(llhttp_t *parser, const char *p, size_t n)
{
    struct conn *c = parser->data;
    struct head *h = c->head;
    if (in_body(c)) /* a trailer: counted as a gap, else passed over */
        return 0;
    if (!h->in_header) {
        if (h->n == HTTP_MAX_HEADERS)
            return fail(c, 431, "the request has too many headers");
        h->header[h->n++] = (struct header){ .name = (uint16_t)h->text.n };
        h->in_header = true;
    }
    h->newline = false;
    c->mark = p + n;
    return keep(c, p, n);
}

static int on_field_complete(llhttp_t *parser)
{
    struct conn *c = parser->data;
    if (!in_body(c) && c->head->n)
        c->head->header[c->head->n - 1].value = (uint16_t)c->head->text.n;
    return 0;
}

static bool line_ended(const char *from, const char *to)
{
    return from < to && memchr(from, '\n', (size_t)(to - from)) != NULL;
}

/* A value that goes on behind the end of its line is folded (RFC 9112 5.2): refused. */
static int on_value(llhttp_t *parser, const char *p, size_t n)
{
    struct conn *c = parser->data;
    if (in_body(c))
        return 0;
    if (n && (c->head->newline || line_ended(c->mark, p)))
        return fail(c, 400, "a header is folded over lines");
    c->mark = p + n;
    return keep(c, p, n);
}

static int on_value_complete(llhttp_t *parser)
{
    struct conn *c = parser->data;
    struct head *h = c->head;
    if (in_body(c))
        return 0;
    h->header[h->n - 1].end = (uint16_t)h->text.n;
    h->in_header = false;
    h->newline = false;
    return 0;
}

/* The last header of that name, trimmed; *count: how many there are. */
struct str head_get(const struct head *h, const char *name, size_t *count)
{
    struct str found = { 0 };
    *count = 0;
    for (size_t i = 0; i < h->n; i++) {
        const struct header *x = &h->header[i];
        struct str key = { h->text.p + x->name, (size_t)(x->value - x->name) };
        if (!str_ieq(key, str_from(name)))
            continue;
        found = (struct str){ h->text.p + x->value, (size_t)(x->end - x->value) };
        while (found.n && (found.p[found.n - 1] == ' ' || found.p[found.n - 1] == '\t'))
            found.n--;
        ++*count;
    }
    return found;
}

/* ---- the whole head ------------------------------------------------------------------------------ */

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if ((ch >= 'a' && ch <= 'f') || (ch >= 'A' && ch <= 'F'))
        return (ch | 32) - 'a' + 10;
    return -1;
}

/* Into raw.n + 1 bytes at `out`; gives the length. */
static size_t decode(struct str raw, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < raw.n; i++) {
        int a = i + 2 < raw.n ? hex(raw.p[i + 1]) : -1, b = i + 2 < raw.n ? hex(raw.p[i + 2]) : -1;
        bool coded = raw.p[i] == '%' && a >= 0 && b >= 0;
        out[n++] = coded ? (char)(a * 16 + b) : raw.p[i];
        i += coded ? 2 : 0;
    }
    out[n] = '\0';
    return n;
}

static bool decode_path(struct head *h, struct str raw)
{
    h->path = mem_alloc(raw.n + 1);
    if (h->path)
        h->path_n = decode(raw, h->path);
    return h->path != NULL;
}

char *http_query(const struct http_request *r, const char *key)
{
    for (size_t at = 0, end; at < r->query.n; at = end + 1) {
        for (end = at; end < r->query.n && r->query.p[end] != '&';)
            end++;
        struct str pair = { r->query.p + at, end - at };
        const char *mark = memchr(pair.p, '=', pair.n);
        size_t n = mark ? (size_t)(mark - pair.p) : pair.n;
        if (!str_is((struct str){ pair.p, n }, key))
            continue;
        struct str raw = mark ? (struct str){ mark + 1, pair.n - n - 1 } : (struct str){ "", 0 };
        char *value = mem_strndup(raw.p, raw.n);
        for (char *p = value; p && *p; p++)
            *p = *p == '+' ? ' ' : *p;
        if (value)
            decode((struct str){ value, raw.n }, value); /* never longer */
        return value;
    }
    return NULL;
}

/* Origin form, or absolute form whose authority then counts as the Host (RFC 9112 3.2.2). */
static int read_target(struct conn *c, struct str *authority)
{
    struct head *h = c->head;
    struct str t = { h->text.p, h->target_n };
    if (t.n > 7 && str_ieq((struct str){ t.p, 7 }, STR("http://"))) {
        t = (struct str){ t.p + 7, t.n - 7 };
        const char *slash = memchr(t.p, '/', t.n);
        if (!slash)
            return fail(c, 400, "the request's target has no path");
        *authority = (struct str){ t.p, (size_t)(slash - t.p) };
        t = (struct str){ slash, t.n - authority->n };
    }
    bool star = t.n == 1 && *t.p == '*' && c->parser.method == HTTP_OPTIONS;
    if (!star && (t.n == 0 || *t.p != '/'))
        return fail(c, 400, "the request's target is not a path");
    const char *mark = memchr(t.p, '?', t.n);
    if (mark) {
        c->r.query = (struct str){ mark + 1, t.n - (size_t)(mark - t.p) - 1 };
        t.n = (size_t)(mark - t.p);
    }
    if (!decode_path(h, t))
        return fail_memory(c);
    if (memchr(h->path, 0, h->path_n))
        return fail(c, 400, "the request's path holds a NUL character");
    if (mark && memmem(c->r.query.p, c->r.query.n, "%00", 3))
        return fail(c, 400, "the request's query holds a NUL character");
    c->r.path = (struct str){ h->path, h->path_n };
    return 0;
}

/* Host, Origin and key, where the connection is TCP. */
static int check_caller(struct conn *c, struct str authority)
{
    size_t n, n_origin;
    struct head *h = c->head;
    const struct auth *auth = c->server->o.auth;
    struct str host = head_get(h, "host", &n);
    if (n > 1)
        return fail(c, 400, "the request has two Host headers");
    if (c->r.local)
        return 0;
    struct sockaddr_storage local;
    int size = (int)sizeof local;
    bool known = uv_tcp_getsockname(&c->io.tcp, (void *)&local, &size) == 0;
    c->fail_status = auth_host(auth, authority.p ? authority : host, known ? (void *)&local : NULL,
                               &c->fail);
    if (c->fail_status)
        return -1;
    unsigned m = c->parser.method;
    struct auth_page page = {
        .origin = head_get(h, "origin", &n_origin),
        .fetch_site = head_get(h, "sec-fetch-site", &n),
        .content_type = head_get(h, "content-type", &n),
        .has_origin = n_origin > 0,
        .takes_body = m != HTTP_GET && m != HTTP_HEAD && m != HTTP_OPTIONS,
    };
    if (n_origin > 1)
        return fail(c, 400, "the request has two Origin headers");
    c->fail_status = auth_page(auth, &page, &c->fail);
    if (c->fail_status)
        return -1;
    if (page.has_origin) {
        char value[128];
        snprintf(value, sizeof value, "%.*s", (int)page.origin.n, page.origin.p);
        if (page.origin.n < sizeof value)
            http_set_header(&c->r, "Access-Control-Allow-Origin", value);
    }
    if (auth->keys && m != HTTP_OPTIONS &&
        !auth_key(auth, head_get(h, "authorization", &n), head_get(h, "x-api-key", &n)))
        return fail(c, 401, "unauthorized: this daemon asks TCP clients for an API key");
    return 0;
}

static int check_coding(struct conn *c)
{
    size_t n;
    struct str v = head_get(c->head, "transfer-encoding", &n);
    if (n > 1 || (n == 1 && !str_ieq(v, STR("chunked"))))
        return fail(c, 501, "only the transfer coding \"chunked\" is known");
    if (n && c->parser.http_minor == 0)
        return fail(c, 400, "a transfer coding in HTTP/1.0");
    v = head_get(c->head, "content-encoding", &n);
    if (n && v.n && !str_ieq(v, STR("identity")))
        return fail(c, 415, "compressed request bodies are not taken");
    return 0;
}

/* A body that there is, and that its handler wants as it comes. */
static bool is_streamed(const struct conn *c, bool chunked, bool has_length)
{
    const struct http_options *o = &c->server->o;
    return (chunked || (has_length && c->parser.content_length > 0)) && o->streams &&
           o->streams(o->user, &c->r);
}

static int check_body(struct conn *c)
{
    size_t n;
    bool chunked = (c->parser.flags & F_CHUNKED) != 0;
    bool has_length = !chunked && (c->parser.flags & F_CONTENT_LENGTH);
    c->r.streamed = is_streamed(c, chunked, has_length);
    c->r.has_length = has_length;
    c->r.length = has_length ? c->parser.content_length : 0;
    if (!c->r.streamed && has_length && c->parser.content_length > c->server->o.max_body)
        return fail(c, 413, "the request's body is too large");
    struct str expect = head_get(c->head, "expect", &n);
    if (n && !str_ieq(expect, STR("100-continue")))
        return fail(c, 417, "the only expectation met is 100-continue");
    bool expects = n && c->parser.http_minor > 0 && (chunked || c->parser.content_length > 0);
    c->expects = expects && c->r.streamed;
    if (expects && !c->r.streamed)
        reply_continue(c);
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct conn *c = parser->data;
    struct str authority = { 0 };
    c->r = (struct http_request){ .local = c->r.local, .peer_uid = c->r.peer_uid };
    c->r.method = llhttp_method_name((llhttp_method_t)parser->method);
    c->no_body = parser->method == HTTP_HEAD;
    c->extra[0] = '\0';
    parser->upgrade = 0; /* what follows is another request, whatever the client wished for */
    if (parser->http_major != 1 || parser->http_minor > 1)
        return fail(c, 505, "only HTTP/1.0 and HTTP/1.1 are spoken");
    if (read_target(c, &authority) || check_caller(c, authority) || check_coding(c) ||
        check_body(c))
        return -1;
    conn_set_phase(c, PHASE_BODY);
    if (!c->r.streamed)
        return 0;
    c->head_only = true;
    c->keep_alive = false; /* until all of the body is there */
    return HPE_PAUSED;
}

/* ---- the body ------------------------------------------------------------------------------------ */

/* Bytes that carry no body: chunk sizes, extensions, trailers. */
static int add_gap(struct conn *c, const char *up_to)
{
    size_t n = up_to > c->mark ? (size_t)(up_to - c->mark) : 0;
    c->gap += n;
    c->gaps += n;
    c->mark = up_to;
    if (c->gap > HTTP_MAX_GAP || c->gaps > 65536 + 8 * c->body_bytes)
        return fail(c, 413, "the request's chunk extensions or trailers are too large");
    return 0;
}

static int on_body(llhttp_t *parser, const char *p, size_t n)
{
    struct conn *c = parser->data;
    if (add_gap(c, p))
        return -1;
    c->gap = 0;
    c->mark = p + n;
    c->body_bytes += n;
    conn_set_phase(c, c->phase);
    buf_put(&c->body, p, n); /* of a streamed one: until this feed has ended */
    if (!c->body.failed)
        return 0;
    return c->body.n + n > c->server->o.max_body ? fail(c, 413, "the request's body is too large")
                                                 : fail_memory(c);
}

static int on_complete(llhttp_t *parser)
{
    struct conn *c = parser->data;
    c->keep_alive = llhttp_should_keep_alive(parser) && parser->method != HTTP_CONNECT;
    c->complete = true;
    return HPE_PAUSED;
}

void parse_setup(llhttp_settings_t *s)
{
    llhttp_settings_init(s);
    s->on_message_begin = on_begin;
    s->on_url = on_url;
    s->on_header_field = on_field;
    s->on_header_field_complete = on_field_complete;
    s->on_header_value = on_value;
    s->on_header_value_complete = on_value_complete;
    s->on_headers_complete = on_headers_complete;
    s->on_body = on_body;
    s->on_message_complete = on_complete;
}

/* ---- feeding -------------------------------------------------------------------------------------- */

/* What is left over of a read that ended inside a request. */
static void end_of_input(struct conn *c, size_t n)
{
    if (c->phase == PHASE_BODY || c->phase == PHASE_TAKING) {
        add_gap(c, c->in_end);
    } else if (c->phase == PHASE_HEAD) {
        c->head->newline |= c->head->in_header && line_ended(c->mark, c->in_end);
        c->head_bytes += n;
        if (c->head_bytes > HTTP_MAX_HEAD)
            fail(c, 431, "the request's head is too large");
        conn_set_phase(c, PHASE_HEAD);
    }
}

/* A handler that has the request hears that its client has left. */
static void refuse(struct conn *c, int status, const char *sentence)
{
    if (is_handled(c))
        conn_close(c);
    else
        reply_refuse(c, status, sentence);
}

size_t parse_feed(struct conn *c, const char *p, size_t n)
{
    c->in = c->mark = p;
    c->in_end = p + n;
    c->fail_status = 0;
    enum llhttp_errno code = llhttp_execute(&c->parser, p, n);
    if (c->closed)
        return n;
    if (code == HPE_PAUSED && (c->complete || c->head_only)) {
        const char *end = llhttp_get_error_pos(&c->parser);
        llhttp_resume(&c->parser);
        c->head_bytes = 0;
        return (size_t)(end - p);
    }
    if (code == HPE_OK)
        end_of_input(c, n);
    if (c->fail_status)
        refuse(c, c->fail_status, c->fail.text);
    else if (code != HPE_OK)
        refuse(c, 400, "this is not a well-formed HTTP/1.1 request");
    return n;
}

void parse_forget(struct conn *c)
{
    if (c->head) {
        buf_finish(&c->head->text);
        mem_free(c->head->path);
        mem_free(c->head);
        c->head = NULL;
    }
    buf_finish(&c->body);
}
