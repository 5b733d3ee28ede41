#include "cli/client.h"

#include <errno.h>
#include <inttypes.h>
#include <llhttp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/protocol.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define SEND_BYTES ((size_t)1 << 20)
#define READ_BYTES ((size_t)64 << 10)

/* A file as a request's body. */
struct outgoing {
    int fd;
    uint64_t size;
    void (*sent)(void *user, uint64_t sent, uint64_t size);
    void *user;
};

/* One request on its way, and what has come of its reply. */
struct exchange {
    llhttp_t parser; /* its data points back here */
    struct client *client;
    int fd;
    const struct outgoing *file; /* the body that is sent, instead of a text; NULL */
    struct buf body;   /* the whole reply, or the line that is not complete yet */
    client_line *line; /* NULL: no stream */
    void *user;
    bool complete;
    struct err *e;
    enum err_code code; /* what a line or a cap said */
};

enum err_code client_init(struct client *c, const char *host, const struct interrupt *i,
                          struct err *e)
{
    const char *key = getenv("HEARTH_API_KEY");

    *c = (struct client){ .api_key = key && *key ? key : NULL };
    return reach_init(&c->reach, host, i, e);
}

/* ---- the reply ------------------------------------------------------------------------------- */

static bool succeeded(const struct exchange *x)
{
    return x->parser.status_code >= 200 && x->parser.status_code < 300;
}

static enum err_code take_line(struct exchange *x)
{
    struct str raw = buf_str(&x->body);
    json_t *root = NULL;
    enum err_code code;

    if (raw.n && raw.p[raw.n - 1] == '\r')
        raw.n--;
    if (raw.n == 0)
        return ERR_OK;
    code = json_read(raw, PROTOCOL_MAX_LINE, "a line of the daemon's reply", &root, x->e);
    if (code == ERR_OK && json_is_object(root) && json_object_get(root, "error"))
        code = error_read(root, 500, x->e);
    else if (code == ERR_OK)
        code = x->line(x->user, root, raw, x->e);
    json_decref(root);
    buf_clear(&x->body);
    return code;
}

static enum err_code take_lines(struct exchange *x, struct str s)
{
    while (s.n > 0) {
        const char *end = memchr(s.p, '\n', s.n);
        size_t n = end ? (size_t)(end - s.p) : s.n;
        enum err_code code;

        buf_put(&x->body, s.p, n);
        if (x->body.failed)
            return err_set(x->e, ERR_TOO_LARGE, "a line of the daemon's reply is longer than %zu bytes",
                           PROTOCOL_MAX_LINE);
        if (!end)
            return ERR_OK;
        if ((code = take_line(x)) != ERR_OK)
            return code;
        s = (struct str){ end + 1, s.n - n - 1 };
    }
    return ERR_OK;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
    struct exchange *x = p->data;

    if (x->line && succeeded(x)) {
        x->code = take_lines(x, (struct str){ at, n });
    } else {
        buf_put(&x->body, at, n);
        if (x->body.failed)
            x->code = err_set(x->e, ERR_TOO_LARGE, "the daemon's reply is larger than %zu bytes",
                              CLIENT_MAX_REPLY);
    }
    return x->code == ERR_OK ? 0 : HPE_USER;
}

static int on_complete(llhttp_t *p)
{
    struct exchange *x = p->data;

    /* An interim reply (100 to 199) is followed by the real one. */
    x->complete = p->status_code >= 200;
    return x->complete ? HPE_PAUSED : 0;
}

static enum err_code reply_error(struct exchange *x)
{
    json_t *root = NULL;
    enum err_code code;

    if (json_read(buf_str(&x->body), CLIENT_MAX_REPLY, "reply", &root, NULL) != ERR_OK)
        root = NULL;
    code = error_read(root, x->parser.status_code, x->e);
    json_decref(root);
    return code;
}

/* ---- the exchange ---------------------------------------------------------------------------- */

static void write_head(struct buf *out, const struct client *c, const char *method,
                       const char *path, uint64_t body)
{
    const struct reach_target *t = &c->reach.found;

    buf_printf(out, "%s %s HTTP/1.1\r\n", method, path);
    if (t->kind == REACH_UNIX)
        buf_puts(out, "Host: localhost\r\n");
    else
        buf_printf(out, "Host: %s\r\n", t->label + 7);
    buf_puts(out, "Connection: close\r\nUser-Agent: hearth/" HEARTH_VERSION "\r\n");
    if (c->api_key)
        buf_printf(out, "Authorization: Bearer %s\r\n", c->api_key);
    if (body > 0)
        buf_printf(out, "Content-Type: application/json\r\nContent-Length: %" PRIu64 "\r\n", body);
    buf_puts(out, "\r\n");
}

/* A daemon may refuse a body before it has all of it: then its reply is what matters. */
static enum err_code send_all(struct exchange *x, struct str s)
{
    while (s.n > 0) {
        ssize_t n = send(x->fd, s.p, s.n, MSG_NOSIGNAL);
        if (n > 0)
            s = (struct str){ s.p + n, s.n - (size_t)n };
        else if (errno == EPIPE || errno == ECONNRESET)
            return ERR_OK;
        else if (errno != EAGAIN && errno != EINTR)
            return err_errno(x->e, ERR_IO, errno, "cannot send to %s", x->client->reach.found.label);
        else if (interrupt_wait(x->client->reach.interrupt, x->fd, POLLOUT, -1, x->e) != ERR_OK)
            return x->e->code;
    }
    return ERR_OK;
}

static enum err_code send_outgoing(struct exchange *x)
{
    const struct outgoing *o = x->file;
    enum err_code code = ERR_OK;
    char *chunk = mem_alloc(SEND_BYTES);

    if (!chunk)
        return err_no_memory(x->e, SEND_BYTES, "sending a file");
    for (uint64_t at = 0; code == ERR_OK && at < o->size;) {
        size_t want = o->size - at < SEND_BYTES ? (size_t)(o->size - at) : SEND_BYTES;
        ssize_t n = pread(o->fd, chunk, want, (off_t)at);
        struct pollfd reply = { .fd = x->fd, .events = POLLIN };

        if (n <= 0)
            code = n < 0 ? err_errno(x->e, ERR_IO, errno, "reading the file") :
                           err_set(x->e, ERR_CONFLICT, "the file became shorter while it was read");
        else if (poll(&reply, 1, 0) > 0)
            break; /* it is answered before its end: nothing more is wanted */
        else
            code = send_all(x, (struct str){ chunk, (size_t)n });
        at += n > 0 ? (uint64_t)n : 0;
        if (code == ERR_OK && o->sent)
            o->sent(o->user, at, o->size);
    }
    mem_free(chunk);
    return code;
}

static enum err_code broken(struct exchange *x, int error)
{
    const char *label = x->client->reach.found.label;

    if (error)
        return err_errno(x->e, ERR_IO, error, "the connection to %s broke", label);
    return err_set(x->e, ERR_IO, "%s closed the connection before its reply was complete", label);
}

/* What has been received goes through the parser. */
static enum err_code parse(struct exchange *x, const char *bytes, size_t n)
{
    llhttp_errno_t rc = n > 0 ? llhttp_execute(&x->parser, bytes, n) : llhttp_finish(&x->parser);

    if (x->code != ERR_OK)
        return x->code;
    if (x->complete || rc == HPE_OK)
        return n > 0 || x->complete ? ERR_OK : broken(x, 0);
    if (n == 0)
        return broken(x, 0);
    return err_set(x->e, ERR_FORMAT, "%s does not speak HTTP as Hearth does: %s",
                   x->client->reach.found.label, llhttp_get_error_reason(&x->parser));
}

static enum err_code await_bytes(struct exchange *x)
{
    struct client *c = x->client;
    enum err_code code;

    do {
        code = interrupt_wait(c->reach.interrupt, x->fd, POLLIN, c->idle ? 1000 : -1, x->e);
        if (code == ERR_TIMEOUT && c->idle(c->idle_user, x->e) != ERR_OK)
            code = x->e->code;
    } while (code == ERR_TIMEOUT);
    return code;
}

static enum err_code receive_all(struct exchange *x)
{
    char bytes[READ_BYTES];
    enum err_code code = ERR_OK;

    while (code == ERR_OK && !x->complete) {
        ssize_t n;

        code = await_bytes(x);
        if (code != ERR_OK)
            break;
        n = recv(x->fd, bytes, sizeof bytes, 0);
        if (n >= 0)
            code = parse(x, bytes, (size_t)n);
        else if (errno != EAGAIN && errno != EINTR)
            code = broken(x, errno);
    }
    return code;
}

static void note_peer(struct client *c, int fd)
{
    struct ucred peer = { 0 };
    socklen_t size = sizeof peer;

    c->peer_pid = 0;
    c->peer_uid = (uid_t)-1;
    if (c->reach.found.kind == REACH_UNIX &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        c->peer_pid = peer.pid;
        c->peer_uid = peer.uid;
    }
}

static enum err_code exchange_run(struct exchange *x, const char *method, const char *path,
                                  struct str body)
{
    llhttp_settings_t settings;
    struct buf head;
    enum err_code code = reach_connect(&x->client->reach, &x->fd, x->e);

    if (code != ERR_OK)
        return code;
    note_peer(x->client, x->fd);
    llhttp_settings_init(&settings);
    settings.on_body = on_body;
    settings.on_message_complete = on_complete;
    llhttp_init(&x->parser, HTTP_RESPONSE, &settings);
    x->parser.data = x;
    buf_init(&head, 8192);
    write_head(&head, x->client, method, path, x->file ? x->file->size : body.n);
    code = head.failed ? err_set(x->e, ERR_TOO_LARGE, "HEARTH_API_KEY is too long") :
                         send_all(x, buf_str(&head));
    buf_finish(&head);
    if (code == ERR_OK)
        code = x->file ? send_outgoing(x) : send_all(x, body);
    if (code == ERR_OK)
        code = receive_all(x);
    if (code == ERR_OK && !succeeded(x))
        code = reply_error(x);
    return code;
}

enum err_code client_call(struct client *c, const char *method, const char *path, struct str body,
                          struct buf *reply, struct err *e)
{
    struct err own;
    struct exchange x = { .client = c, .fd = -1, .e = e ? e : &own };
    enum err_code code;

    buf_init(&x.body, CLIENT_MAX_REPLY);
    code = exchange_run(&x, method, path, body);
    if (x.fd >= 0)
        close(x.fd);
    *reply = x.body;
    return code;
}

enum err_code client_send_file(struct client *c, const char *path, int fd, uint64_t size,
                               void (*sent)(void *user, uint64_t sent, uint64_t size), void *user,
                               struct err *e)
{
    struct err own;
    struct outgoing file = { .fd = fd, .size = size, .sent = sent, .user = user };
    struct exchange x = { .client = c, .fd = -1, .file = &file, .e = e ? e : &own };
    enum err_code code;

    buf_init(&x.body, CLIENT_MAX_REPLY);
    code = exchange_run(&x, "POST", path, (struct str){ 0 });
    if (x.fd >= 0)
        close(x.fd);
    buf_finish(&x.body);
    return code;
}

enum err_code client_json(struct client *c, const char *method, const char *path, struct str body,
                          json_t **root, struct err *e)
{
    struct buf reply;
    enum err_code code = client_call(c, method, path, body, &reply, e);

    *root = NULL;
    if (code == ERR_OK && reply.n > 0)
        code = json_read(buf_str(&reply), CLIENT_MAX_REPLY, "the daemon's reply", root, e);
    buf_finish(&reply);
    return code;
}

enum err_code client_stream(struct client *c, const char *path, struct str body, client_line *line,
                            void *user, struct err *e)
{
    struct err own;
    struct exchange x = { .client = c, .fd = -1, .line = line, .user = user, .e = e ? e : &own };
    enum err_code code;

    buf_init(&x.body, PROTOCOL_MAX_LINE);
    code = exchange_run(&x, "POST", path, body);
    if (code == ERR_OK && x.body.n > 0) /* a last line without its newline */
        code = take_line(&x);
    if (x.fd >= 0)
        close(x.fd);
    buf_finish(&x.body);
    return code;
}
