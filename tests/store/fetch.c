/* The store's network calls, for tests that bring the other end.
 *
 *   fetch get URL [OPTION...]   one request; its body goes to --out, its head to stdout as JSON
 *
 *   --ca FILE --plain --offline --no-redirect --auth VALUE --header NAME:VALUE --method M --body TEXT
 *   --body-file FILE --range FIRST-LAST --max BYTES --stall S --rate BYTES --cancel-ms MS --out FILE
 *   --times N (the same request N times, one after the other) */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "store/transport.h"

struct options {
    const char *url, *out, *body_file;
    struct transport_options net;
    struct transport_request r;
    struct transport_header headers[8];
    unsigned times, cancel_ms;
};

static atomic_bool cancelled;

static void *cancel_later(void *user)
{
    unsigned ms = *(unsigned *)user;
    nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 }, NULL);
    atomic_store(&cancelled, true);
    return NULL;
}

/* ---- arguments --------------------------------------------------------------------------------- */

static uint64_t number(const char *s)
{
    return strtoull(s, NULL, 10);
}

static void take_header(struct options *o, char *value)
{
    char *colon = strchr(value, ':');
    if (!colon || o->r.n_headers == sizeof o->headers / sizeof *o->headers)
        exit(2);
    *colon = '\0';
    o->headers[o->r.n_headers++] = (struct transport_header){ value, colon + 1 };
}

static void take_range(struct options *o, char *value)
{
    char *end;
    o->r.has_range = true;
    o->r.first = strtoull(value, &end, 10);
    o->r.last = strtoull(end + 1, NULL, 10);
}

static void take_body(struct options *o, char *value)
{
    o->r.body = str_from(value);
}

static void take_file(struct options *o, char *value)
{
    off_t size;
    o->r.body_fd = open(value, O_RDONLY);
    size = lseek(o->r.body_fd, 0, SEEK_END);
    o->r.body_size = size < 0 ? 0 : (uint64_t)size;
}

/* An option: a flag, a text, a number, or what a function makes of it. */
struct option_row {
    const char *name;
    bool *flag;
    const char **text;
    uint64_t *n;
    unsigned *small;
    void (*take)(struct options *o, char *value);
};

static bool parse(struct options *o, int argc, char **argv)
{
    const struct option_row rows[] = {
        { .name = "--ca", .text = &o->net.ca_file },
        { .name = "--plain", .flag = &o->r.plain },
        { .name = "--offline", .flag = &o->net.offline },
        { .name = "--no-redirect", .flag = &o->r.no_redirect },
        { .name = "--auth", .text = &o->r.authorization },
        { .name = "--header", .take = take_header },
        { .name = "--method", .text = &o->r.method },
        { .name = "--body", .take = take_body },
        { .name = "--body-file", .take = take_file },
        { .name = "--range", .take = take_range },
        { .name = "--max", .n = &o->r.max_body },
        { .name = "--stall", .small = &o->net.stall_s },
        { .name = "--rate", .n = &o->net.limit_rate },
        { .name = "--cancel-ms", .small = &o->cancel_ms },
        { .name = "--times", .small = &o->times },
        { .name = "--out", .text = &o->out },
    };
    for (int i = 0; i < argc; i++) {
        const struct option_row *row = NULL;
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++)
            if (strcmp(rows[k].name, argv[i]) == 0)
                row = &rows[k];
        if (!row || (!row->flag && ++i == argc))
            return false;
        if (row->flag)
            *row->flag = true;
        else if (row->text)
            *row->text = argv[i];
        else if (row->n)
            *row->n = number(argv[i]);
        else if (row->small)
            *row->small = (unsigned)number(argv[i]);
        else
            row->take(o, argv[i]);
    }
    return true;
}

/* ---- one request ------------------------------------------------------------------------------- */

static void print_head(const struct transport_head *h, const struct err *err, size_t body)
{
    struct buf b;
    struct json_out j;
    buf_init(&b, 1 << 20);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "code", err_name(err->code));
    json_kstr(&j, "error", err->text);
    json_kint(&j, "body", (int64_t)body);
    json_kint(&j, "status", h->status);
    json_kint(&j, "length", h->has_length ? (int64_t)h->length : -1);
    if (h->has_range) {
        json_kint(&j, "first", (int64_t)h->first);
        json_kint(&j, "last", (int64_t)h->last);
        json_kint(&j, "total", (int64_t)h->total);
    }
    json_kbool(&j, "accepts_ranges", h->accepts_ranges);
    json_kint(&j, "retry_after", h->retry_after_s);
    json_kstr(&j, "url", h->url);
    json_kstr(&j, "location", h->location);
    json_kstr(&j, "content_type", h->content_type);
    json_kstr(&j, "etag", h->etag);
    json_kstr(&j, "www_authenticate", h->www_authenticate);
    json_kstr(&j, "next_url", h->next_url);
    json_obj_end(&j);
    buf_putc(&b, '\n');
    if (b.failed || write(1, b.p, b.n) < 0)
        exit(4);
    buf_finish(&b);
}

struct sink {
    struct transport_head head;
    size_t body;
    int fd;
};

static enum err_code on_head(void *user, const struct transport_head *h, struct err *e)
{
    (void)e;
    ((struct sink *)user)->head = *h;
    return ERR_OK;
}

static enum err_code on_body(void *user, const void *p, size_t n, struct err *e)
{
    struct sink *s = user;
    s->body += n;
    if (s->fd >= 0 && write(s->fd, p, n) != (ssize_t)n)
        return err_set(e, ERR_IO, "writing the body");
    return ERR_OK;
}

static void get_once(struct transport *t, const struct options *o)
{
    struct sink s = { .fd = -1 };
    struct transport_request r = o->r;
    struct transfer *x = NULL;
    struct err e = { 0 };
    if (o->out)
        s.fd = open(o->out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    r.on_head = on_head;
    r.on_body = on_body;
    r.user = &s;
    if (transport_start(t, &r, &x, &e) == ERR_OK) {
        bool ended = false;
        while (!ended && !atomic_load(&cancelled))
            ended = transport_wait(t, 50) != NULL;
        if (!ended)
            err_set(&x->err, ERR_CANCELLED, "cancelled");
        e = x->err;
        s.head = x->head;
    } else {
        s.head = (struct transport_head){ .retry_after_s = -1 };
    }
    print_head(&s.head, &e, s.body);
    transport_end(t, x);
    if (s.fd >= 0)
        close(s.fd);
}

static int get(struct options *o)
{
    struct transport *t;
    struct err e;
    pthread_t thread;
    if (transport_curl_create(&o->net, &t, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    if (o->cancel_ms && pthread_create(&thread, NULL, cancel_later, &o->cancel_ms) == 0)
        pthread_detach(thread);
    for (unsigned i = 0; i < o->times; i++)
        get_once(t, o);
    transport_destroy(t);
    return 0;
}

int main(int argc, char **argv)
{
    struct err e;
    struct options o = { .times = 1, .r.body_fd = -1 };
    json_setup();
    log_set_level(LOG_ERROR);
    if (argc < 3 || strcmp(argv[1], "get") != 0 || !parse(&o, argc - 3, argv + 3)) {
        fprintf(stderr, "usage: fetch get URL [OPTION...]\n");
        return 2;
    }
    if (transport_setup(&e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    o.r.url = argv[2];
    o.r.headers = o.headers;
    return get(&o);
}
