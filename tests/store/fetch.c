/* The store's network calls, for tests that bring the other end.
 *
 *   fetch get URL [OPTION...]   one request; its body goes to --out, its head to stdout as JSON
 *   fetch blob URL [OPTION...]  a download into the store at --home; what came of it to stdout as JSON
 *   fetch part URL [OPTION...]  --range of it into --out, at its place
 *
 *   --ca FILE --plain --offline --no-redirect --auth VALUE --header NAME:VALUE --method M --body TEXT
 *   --body-file FILE --range FIRST-LAST --max BYTES --stall S --rate BYTES --cancel-ms MS --out FILE
 *   --times N (the same request N times, one after the other) --then URL (from the second time on)
 *   --home DIR --digest HEX --size BYTES --mirror URL --connections N --give-up S --keep --events
 *   --token VALUE (given after a 401) --threads N (as many downloads at once; --cancel-ms ends the first) */
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
#include "store/download.h"

struct options {
    const char *url, *out, *body_file;
    struct transport_options net;
    struct transport_request r;
    struct transport_header headers[8];
    unsigned times, cancel_ms, threads;
    const char *home, *digest, *token, *mirror, *then;
    uint64_t size;
    bool keep, events;
    struct download d;
    struct store *store;
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
        { .name = "--then", .text = &o->then },
        { .name = "--out", .text = &o->out },
        { .name = "--home", .text = &o->home },
        { .name = "--digest", .text = &o->digest },
        { .name = "--token", .text = &o->token },
        { .name = "--mirror", .text = &o->mirror },
        { .name = "--size", .n = &o->size },
        { .name = "--connections", .small = &o->d.connections },
        { .name = "--give-up", .small = &o->d.give_up_s },
        { .name = "--threads", .small = &o->threads },
        { .name = "--keep", .flag = &o->keep },
        { .name = "--events", .flag = &o->events },
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

static void print_head(const struct transport_head *h, const struct err *err, size_t body, int64_t since)
{
    struct buf b;
    struct json_out j;
    buf_init(&b, 1 << 20);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "code", err_name(err->code));
    json_kstr(&j, "error", err->text);
    json_kint(&j, "body", (int64_t)body);
    json_kint(&j, "ms", (clock_ns() - since) / 1000000);
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
    int64_t since = clock_ns();
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
    print_head(&s.head, &e, s.body, since);
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
    for (unsigned i = 0; i < o->times; i++) {
        o->r.url = i && o->then ? o->then : o->url;
        get_once(t, o);
    }
    transport_destroy(t);
    return 0;
}

/* ---- a download -------------------------------------------------------------------------------- */

static enum err_code authorize(void *user, bool refused, const char **value, struct err *e)
{
    struct options *o = user;
    static atomic_bool has; /* from the first refusal on */
    (void)e;
    if (refused)
        atomic_store(&has, true);
    *value = o->token && atomic_load(&has) ? o->token : o->r.authorization;
    return ERR_OK;
}

static void event(void *user, const struct store_event *ev)
{
    if (((struct options *)user)->events)
        printf("{\"status\": \"%s\", \"completed\": %llu, \"total\": %llu}\n", ev->status,
               (unsigned long long)ev->completed, (unsigned long long)ev->total);
}

/* KiB that are this process's alone. */
static int64_t anonymous(void)
{
    char line[256];
    long long n = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lld", &n) == 1)
            break;
    if (f)
        fclose(f);
    return n;
}

static void print_downloaded(enum err_code code, const struct err *err, const struct downloaded *d,
                             int64_t idle, int64_t since)
{
    struct buf b;
    struct json_out j;
    char hex[DIGEST_HEX_SIZE];
    digest_hex(&d->part.digest, hex);
    buf_init(&b, 1 << 20);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "code", err_name(code));
    json_kstr(&j, "error", err->text);
    json_kstr(&j, "digest", hex);
    json_kstr(&j, "part", d->part.name);
    json_kstr(&j, "etag", d->etag);
    json_kint(&j, "size", (int64_t)d->part.size);
    json_kint(&j, "fetched", (int64_t)d->fetched);
    json_kint(&j, "resumed", (int64_t)d->resumed);
    json_kint(&j, "idle_kib", idle);
    json_kint(&j, "ms", (clock_ns() - since) / 1000000);
    json_key(&j, "chunks");
    json_arr(&j);
    for (size_t i = 0; i + 32 <= d->chunks.n; i += 32) {
        struct digest chunk;
        memcpy(chunk.b, d->chunks.p + i, 32);
        digest_hex(&chunk, hex);
        json_str_value(&j, str_from(hex));
    }
    json_arr_end(&j);
    json_obj_end(&j);
    buf_putc(&b, '\n');
    fflush(stdout);
    if (b.failed || write(1, b.p, b.n) < 0)
        exit(4);
    buf_finish(&b);
}

static void one_blob(struct options *o, bool first)
{
    struct transport *t;
    struct err e = { 0 };
    struct downloaded out;
    struct store_job job = { .event = event, .user = o, .cancel = first ? &cancelled : NULL };
    int64_t idle = anonymous(), since = clock_ns();
    if (transport_curl_create(&o->net, &t, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    enum err_code code = download_blob(o->store, t, &o->d, &job, &out, &e);
    print_downloaded(code, &e, &out, idle, since);
    if (o->keep)
        downloaded_keep(o->store, &out);
    else
        downloaded_finish(o->store, &out);
    transport_destroy(t);
}

static void *another_blob(void *user)
{
    one_blob(user, false);
    return NULL;
}

static int blobs(struct options *o)
{
    pthread_t canceller, threads[8];
    struct err e = { 0 };
    unsigned n = o->threads > 8 ? 8 : o->threads;
    if (!o->home || store_open(o->home, &o->store, &e)) {
        fprintf(stderr, "--home DIR is missing or bad: %s\n", e.text);
        return 1;
    }
    if (o->cancel_ms && pthread_create(&canceller, NULL, cancel_later, &o->cancel_ms) == 0)
        pthread_detach(canceller);
    for (unsigned i = 1; i < n; i++)
        if (pthread_create(&threads[i], NULL, another_blob, o))
            return 1;
    one_blob(o, true);
    for (unsigned i = 1; i < n; i++)
        pthread_join(threads[i], NULL);
    store_close(o->store);
    return 0;
}

static int part(struct options *o)
{
    struct transport *t;
    struct err e = { 0 };
    int fd = o->out ? open(o->out, O_RDWR) : -1;
    struct store_job job = { .cancel = &cancelled };
    if (fd < 0 || transport_curl_create(&o->net, &t, &e))
        return 1;
    enum err_code code = download_range(t, &o->d, o->r.first, o->r.last, &file_system, fd, &job, &e);
    printf("{\"code\": \"%s\", \"error\": \"%s\"}\n", err_name(code), e.text);
    transport_destroy(t);
    close(fd);
    return 0;
}

/* What the options say of a download. */
static bool describe(struct options *o)
{
    char text[DIGEST_TEXT_SIZE];
    o->d.label = "pulling it";
    o->d.url = o->url;
    o->d.plain = o->r.plain;
    o->d.authorize = authorize;
    o->d.user = o;
    o->d.mirrors = &o->mirror;
    o->d.n_mirrors = o->mirror != NULL;
    o->d.has_size = o->size != UINT64_MAX;
    o->d.size = o->d.has_size ? o->size : 0;
    o->d.has_digest = o->digest != NULL;
    snprintf(text, sizeof text, "sha256:%s", o->digest ? o->digest : "");
    return !o->digest || digest_parse(str_from(text), &o->d.digest);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct options *o);
    } commands[] = { { "get", get }, { "blob", blobs }, { "part", part } };
    struct err e;
    struct options o = { .times = 1, .threads = 1, .size = UINT64_MAX, .r.body_fd = -1 };
    json_setup();
    log_set_level(LOG_WARN);
    if (store_setup(&e)) {
        fprintf(stderr, "%s\n", e.text);
        return 1;
    }
    for (size_t i = 0; argc > 2 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[1], commands[i].name) != 0 || !parse(&o, argc - 3, argv + 3))
            continue;
        o.url = o.r.url = argv[2];
        o.r.headers = o.headers;
        if (describe(&o))
            return commands[i].run(&o);
    }
    fprintf(stderr, "usage: fetch get|blob|part URL [OPTION...]\n");
    return 2;
}
