#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "store/download_priv.h"

#define CONNECTIONS 8
#define SEGMENTS 64 /* a file's, between these sizes: few requests, and a frontier that trails little */
#define SEGMENT_MIN ((uint64_t)4 * 1024 * 1024)
#define SEGMENT_MAX ((uint64_t)32 * 1024 * 1024)
#define SEGMENT_LAST ((uint64_t)1024 * 1024)
#define SHARE_NS (SECOND / 2) /* a connection that would take longer for its rest is helped by an idle one */
#define SHARE_MIN (8 * PIECE_BYTES)
#define STRIKES 3
#define FUTILE 5 /* streams in a row that end no later than one before */
#define FIRST_DELAY_NS (SECOND / 4)
#define MAX_DELAY_NS (15 * SECOND)
#define MAX_RETRY_AFTER_S 600
#define UNKNOWN UINT64_MAX

/* ---- URLs -------------------------------------------------------------------------------------- */

static struct str url_origin(const char *url)
{
    const char *slashes = strstr(url, "://");
    size_t scheme = slashes ? (size_t)(slashes - url) + 3 : 0;
    return (struct str){ url, scheme + strcspn(url + scheme, "/?#") };
}

struct str url_host(const char *url)
{
    struct str o = url_origin(url);
    const char *slashes = strstr(url, "://");
    size_t scheme = slashes ? (size_t)(slashes - url) + 3 : 0;
    return (struct str){ o.p + scheme, o.n - scheme };
}

static bool from_mirror(const struct segment *g)
{
    return g->source < g->f->d->n_mirrors;
}

static const char *source_url(const struct segment *g)
{
    return from_mirror(g) ? g->f->d->mirrors[g->source] : g->f->d->url;
}

static void forget_redirect(struct fetching *f)
{
    mem_free(f->led_to);
    f->led_to = NULL;
}

#define FROM(g) (int)url_host(source_url(g)).n, url_host(source_url(g)).p

/* ---- segments ---------------------------------------------------------------------------------- */

static uint64_t segment_size(uint64_t size)
{
    uint64_t n = size / SEGMENTS / PIECE_BYTES * PIECE_BYTES;
    return n < SEGMENT_MIN ? SEGMENT_MIN : n > SEGMENT_MAX ? SEGMENT_MAX : n;
}

enum err_code fetching_begin(struct fetching *f, struct err *e)
{
    unsigned n = f->d->connections ? f->d->connections : CONNECTIONS;
    f->n = f->allowed = n > MAX_CONNECTIONS ? MAX_CONNECTIONS : n;
    f->size_known = f->d->has_size;
    f->size = f->d->size;
    f->byte_at = clock_ns();
    f->random = (uint64_t)f->byte_at | 1;
    f->segment_bytes = segment_size(f->size_known ? f->size : 0);
    for (size_t i = 0; i < f->n; i++) {
        f->segments[i].f = f;
        f->segments[i].piece = mem_alloc(PIECE_BYTES);
        if (!f->segments[i].piece)
            return err_no_memory(e, PIECE_BYTES, "a download");
    }
    return f->size_known ? pieces_resize(&f->pieces, f->size, e) : ERR_OK;
}

void fetching_stop(struct fetching *f)
{
    for (size_t i = 0; i < f->n; i++) {
        transport_end(f->t, f->segments[i].x);
        f->segments[i].x = NULL;
        f->segments[i].open = false;
    }
    f->cursor = 0;
}

void fetching_finish(struct fetching *f)
{
    fetching_stop(f);
    for (size_t i = 0; i < f->n; i++)
        mem_free(f->segments[i].piece);
    forget_redirect(f);
    pieces_finish(&f->pieces);
    f->n = 0;
}

bool fetching_done(const struct fetching *f)
{
    return f->size_known && f->pieces.have == f->size;
}

uint64_t fetching_completed(const struct fetching *f)
{
    uint64_t n = f->pieces.have;
    for (size_t i = 0; i < f->n; i++) {
        const struct segment *g = &f->segments[i];
        if (g->open && !pieces_has(&f->pieces, g->at / PIECE_BYTES))
            n += g->at % PIECE_BYTES;
    }
    return f->size_known && n > f->size ? f->size : n;
}

static size_t under_way(const struct fetching *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->segments[i].x != NULL;
    return n;
}

/* How long its rest would take at its pace so far; 0: too early to say, or not worth a connection. */
static int64_t rest_ns(const struct segment *g, int64_t now)
{
    int64_t since = now - g->asked_at;
    if (!g->x || !g->take || since < SHARE_NS || g->end - g->at < SHARE_MIN)
        return 0;
    double ns = (double)(g->end - g->at) * (double)since / (double)(g->at - g->from + 1);
    return ns < (double)INT64_MAX / 2 ? (int64_t)ns : INT64_MAX / 2;
}

/* Instead of a stretch that nobody has: the second half of what the slowest connection has still to bring. */
static bool help(struct fetching *f, struct segment *g)
{
    struct segment *slowest = NULL;
    int64_t most = SHARE_NS, now = clock_ns();
    for (size_t i = 0; i < f->n; i++) {
        int64_t ns = rest_ns(&f->segments[i], now);
        if (ns > most) {
            most = ns;
            slowest = &f->segments[i];
        }
    }
    if (!slowest)
        return false;
    g->end = slowest->end;
    g->at = (slowest->at + (slowest->end - slowest->at) / 2) / PIECE_BYTES * PIECE_BYTES;
    slowest->end = g->at;
    return true;
}

/* One slow connection holds up the hashing, which goes in order and would then be left for the end. */
static bool is_far_ahead(const struct fetching *f)
{
    return (f->cursor - f->pieces.frontier) * PIECE_BYTES > (f->n + f->n / 4) * f->segment_bytes;
}

/* Shorter and shorter towards the end: so that all connections end together, and little is left to hash then. */
static uint64_t next_size(const struct fetching *f)
{
    uint64_t share = (f->pieces.n - f->cursor) * PIECE_BYTES / (2 * f->n);
    if (share > f->segment_bytes)
        return f->segment_bytes;
    return share > SEGMENT_LAST ? share / PIECE_BYTES * PIECE_BYTES : SEGMENT_LAST;
}

/* The next stretch that nobody has. False: there is none. */
static bool plan(struct fetching *f, struct segment *g)
{
    struct pieces *p = &f->pieces;
    *g = (struct segment){ .f = f, .piece = g->piece, .open = true };
    if (f->mode == FETCH_STREAM || !f->size_known) {
        g->end = f->mode == FETCH_STREAM ? (f->size_known ? f->size : UNKNOWN) : f->segment_bytes;
        g->open = f->cursor == 0;
        f->cursor = 1;
        return g->open;
    }
    while (f->cursor < p->n && pieces_has(p, f->cursor))
        f->cursor++;
    if (is_far_ahead(f) && help(f, g))
        return true;
    uint64_t first = f->cursor, last = first, most = next_size(f) / PIECE_BYTES;
    while (last < p->n && !pieces_has(p, last) && last - first < most)
        last++;
    g->at = first * PIECE_BYTES;
    g->end = last < p->n ? last * PIECE_BYTES : f->size;
    f->cursor = last;
    g->open = last > first || help(f, g);
    return g->open;
}

/* ---- heads ------------------------------------------------------------------------------------- */

static enum err_code bad_head(struct segment *g, struct err *e, const char *what)
{
    struct fetching *f = g->f;
    err_set(&g->bad, ERR_FORMAT, "%s: %.*s %s", f->d->label, FROM(g), what);
    return err_set(e, ERR_FORMAT, "%s", g->bad.text);
}

/* Where the size was promised, another one is the place's fault; else the file is another one. */
static enum err_code other_size(struct segment *g, uint64_t size, struct err *e)
{
    struct fetching *f = g->f;
    if (!f->d->has_size) {
        f->changed = true;
        return err_set(e, ERR_CONFLICT, "it has another size now");
    }
    err_set(&g->bad, ERR_FORMAT, "%s: %.*s has %llu bytes of it, where %llu were promised", f->d->label,
            FROM(g), (unsigned long long)size, (unsigned long long)f->size);
    return err_set(e, ERR_FORMAT, "%s", g->bad.text);
}

static enum err_code take_size(struct segment *g, uint64_t size, struct err *e)
{
    struct fetching *f = g->f;
    if (f->size_known && f->size != size)
        return other_size(g, size, e);
    if (f->size_known)
        return ERR_OK;
    enum err_code code = pieces_resize(&f->pieces, size, e);
    f->size = size;
    f->size_known = true;
    f->segment_bytes = segment_size(size);
    f->cursor = g->end / PIECE_BYTES; /* the stretch that taught us */
    return code;
}

static bool same(struct str a, const char *b)
{
    return a.n == strlen(b) && strncasecmp(a.p, b, a.n) == 0;
}

/* What tells one body from another; "": nothing. Its time will do where no digest tells in the end. */
static const char *tag_of(const struct fetching *f, const struct transport_head *h)
{
    return h->etag[0] || f->d->has_digest ? h->etag : h->last_modified;
}

/* With a digest only the same place has to stay with its word: others may have words of their own. */
static enum err_code take_etag(struct fetching *f, const struct transport_head *h, struct err *e)
{
    struct str origin = url_origin(h->url);
    const char *tag = tag_of(f, h);
    bool comparable = f->etag[0] && (!f->d->has_digest || (tag[0] && same(origin, f->origin)));
    if (comparable && strcmp(f->etag, tag) != 0) {
        f->changed = true;
        return err_set(e, ERR_CONFLICT, "it has another ETag now");
    }
    if (!f->etag[0] && strlen(tag) < sizeof f->etag && origin.n < sizeof f->origin) {
        snprintf(f->etag, sizeof f->etag, "%s", tag);
        snprintf(f->origin, sizeof f->origin, "%.*s", (int)origin.n, origin.p);
    }
    if (strlen(h->repo_commit) < sizeof f->repo_commit && h->repo_commit[0])
        snprintf(f->repo_commit, sizeof f->repo_commit, "%s", h->repo_commit);
    return ERR_OK;
}

static enum err_code take_part(struct segment *g, const struct transport_head *h, struct err *e)
{
    uint64_t end = g->end < h->total ? g->end : h->total;
    if (g->f->mode == FETCH_STREAM || !h->has_range || h->first != g->at || h->last + 1 != end ||
        (h->has_length && h->length != end - g->at))
        return bad_head(g, e, "sent other bytes than it was asked for");
    if (!g->f->d->has_digest && !g->f->etag[0]) { /* parts of two files could be taken for one */
        g->f->unordered = true;
        return err_set(e, ERR_CONFLICT, "nothing tells what the part is of");
    }
    enum err_code code = take_size(g, h->total, e);
    if (!code)
        g->end = end;
    return code;
}

static enum err_code take_whole(struct segment *g, const struct transport_head *h, struct err *e)
{
    struct fetching *f = g->f;
    if (f->mode == FETCH_RANGES) {
        g->whole = true;
        return bad_head(g, e, "sent the whole where a part was asked for");
    }
    if (g->at) {
        f->unordered = true;
        return err_set(e, ERR_CONFLICT, "no ranges there");
    }
    if (!h->ends && !f->d->has_digest) /* libcurl takes a line that was cut for the end, under TLS as well */
        return err_set(e, ERR_FORMAT, "%s: %.*s tells neither its length nor its end, so nobody could see that it was cut "
                       "off: give its digest (@sha256:...)", f->d->label, FROM(g));
    enum err_code code = h->has_length ? take_size(g, h->length, e) : ERR_OK;
    f->mode = FETCH_STREAM;
    g->end = f->size_known ? f->size : UNKNOWN;
    return code;
}

/* Where the redirect led is asked at once from now on: a signed URL, without our token. */
static void note_redirect(struct segment *g, const struct transport_head *h)
{
    struct fetching *f = g->f;
    struct str asked = url_origin(f->d->url), came = url_origin(h->url);
    g->redirected = came.n != asked.n || strncasecmp(came.p, asked.p, came.n) != 0;
    if (h->status < 300 && g->redirected && !g->indirect && !from_mirror(g) && !f->led_to) {
        f->led_to = mem_strdup(h->url); /* NULL: then the long way each time */
        f->led_from_public = h->first_public;
    }
}

static enum err_code on_head(void *user, const struct transport_head *h, struct err *e)
{
    struct segment *g = user;
    struct fetching *f = g->f;
    enum err_code code = ERR_OK;
    note_redirect(g, h);
    if (h->status != 206 && h->status != 200)
        return ERR_OK;
    code = take_etag(f, h, e);
    if (!code)
        code = h->status == 206 ? take_part(g, h, e) : take_whole(g, h, e);
    if (!code && f->mode != FETCH_RANGES)
        code = f->on_size(f, e);
    if (code && !f->changed && !f->unordered && !g->bad.code && e)
        f->fatal = *e;
    if (code)
        return code;
    if (f->mode == FETCH_PROBE) {
        f->mode = FETCH_RANGES;
        transport_wake(f->t); /* the others may begin */
    }
    g->asked = g->end;
    g->take = true;
    return ERR_OK;
}

/* ---- bytes ------------------------------------------------------------------------------------- */

/* The piece that ends at g->at is whole, or is the file's last. */
static enum err_code end_piece(struct segment *g, struct err *e)
{
    struct fetching *f = g->f;
    uint64_t piece = (g->at - 1) / PIECE_BYTES;
    size_t n = (size_t)(g->at - piece * PIECE_BYTES);
    if (pieces_has(&f->pieces, piece))
        return ERR_OK; /* a stream passes by what is there: it may be hashed already */
    enum err_code code = f->size_known ? ERR_OK : pieces_resize(&f->pieces, g->at, e);
    if (!code)
        code = f->on_piece(f, piece, g->piece, n, e);
    return code;
}

static enum err_code on_body(void *user, const void *bytes, size_t n, struct err *e)
{
    struct segment *g = user;
    struct fetching *f = g->f;
    const uint8_t *p = bytes;
    enum err_code code = ERR_OK;
    if (!g->take)
        return ERR_OK;
    if (n > g->asked - g->at) /* not g->end: another connection may have taken over what is behind that */
        return bad_head(g, e, "sent more bytes than it was asked for");
    if (g->end == UNKNOWN && n > f->room - g->at)
        return err_set(&f->fatal, ERR_IO, "%s: %.*s has sent %llu bytes without an end, and the disk has room for no more",
                       f->d->label, FROM(g), (unsigned long long)g->at);
    while (!code && n && g->at < g->end) {
        size_t fill = (size_t)(g->at % PIECE_BYTES);
        size_t some = n < PIECE_BYTES - fill ? n : (size_t)PIECE_BYTES - fill;
        memcpy(g->piece + fill, p, some);
        g->at += some;
        p += some;
        n -= some;
        f->fetched += some;
        if (g->at % PIECE_BYTES == 0 || g->at == g->end)
            code = end_piece(g, e);
    }
    if (code && e)
        f->fatal = *e;
    f->byte_at = clock_ns();
    if (f->mode != FETCH_STREAM || g->at > f->furthest) /* a stream that begins again brings what was there */
        f->failures = f->strikes = 0;
    g->cut = !code && g->at == g->end && g->end < g->asked;
    return g->cut ? err_set(e, ERR_CANCELLED, "another connection has the rest") : code;
}

/* ---- what went wrong --------------------------------------------------------------------------- */

static int64_t delay(struct fetching *f)
{
    unsigned rounds = f->failures / (unsigned)f->n; /* all connections fail together */
    int64_t ns = FIRST_DELAY_NS << (rounds > 6 ? 6 : rounds);
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    ns = ns > MAX_DELAY_NS ? MAX_DELAY_NS : ns;
    return ns / 2 + (int64_t)((f->random >> 33) % (uint64_t)(ns / 2));
}

/* A stream has no middle to go on from: what came of it counts only where a digest will check it. */
static void rewind_stream(struct fetching *f, struct segment *g)
{
    if (f->mode != FETCH_STREAM)
        return;
    f->futile = g->at > f->furthest ? 0 : f->futile + 1;
    f->furthest = g->at > f->furthest ? g->at : f->furthest;
    g->at = 0;
    f->changed |= !f->d->has_digest;
}

static void again_later(struct fetching *f, struct segment *g, const struct err *why, long retry_after_s)
{
    int64_t now = clock_ns(), wait = delay(f);
    f->last = *why;
    if (f->failures++ < 3)
        log_line(LOG_WARN, "msg=\"%s is interrupted\" why=\"%s\"", f->d->label, why->text);
    if (from_mirror(g)) {
        f->source += f->source == g->source; /* not those who asked with us: the next one may have it */
        wait = 0;
    }
    if (g->indirect)
        forget_redirect(f);
    if (retry_after_s > 0)
        f->hold_until = now + (retry_after_s > MAX_RETRY_AFTER_S ? MAX_RETRY_AFTER_S : retry_after_s) * SECOND;
    g->not_before = now + wait;
    rewind_stream(f, g);
}

static bool is_passing(enum err_code code)
{
    return code == ERR_IO || code == ERR_TIMEOUT;
}

/* Asks for the login of the next request. False: there is none; *code says whether that is the end, or
 * (ERR_OK) the segment tries again later. */
static bool authorize(struct fetching *f, struct segment *g, bool refused, const char **value,
                      enum err_code *code, struct err *e)
{
    struct err why = { 0 };
    *value = NULL;
    *code = f->d->authorize ? f->d->authorize(f->d->user, refused, value, &why) : ERR_OK;
    if (!*code)
        return true;
    if (is_passing(*code)) {
        again_later(f, g, &why, 0);
        *code = ERR_OK;
    } else if (e) {
        *e = why;
    }
    return false;
}

/* ---- requests ---------------------------------------------------------------------------------- */

static enum err_code start(struct fetching *f, struct segment *g, struct err *e)
{
    struct transport_request r = {
        .body_fd = -1, .on_head = on_head, .on_body = on_body, .user = g, .plain = f->d->plain
    };
    enum err_code code;
    g->take = g->redirected = g->whole = g->cut = false;
    g->from = g->at;
    g->asked = g->end;
    g->asked_at = clock_ns();
    err_clear(&g->bad);
    g->source = f->source;
    g->indirect = !from_mirror(g) && f->led_to;
    r.url = g->indirect ? f->led_to : source_url(g);
    r.from_public = g->indirect && f->led_from_public;
    if (from_mirror(g))
        r.plain = true; /* the user's own choice */
    else if (!g->indirect && !authorize(f, g, false, &r.authorization, &code, e))
        return code;
    g->login = f->login;
    if (f->mode != FETCH_STREAM) {
        r.has_range = true;
        r.first = g->at;
        r.last = g->end - 1;
    }
    return transport_start(f->t, &r, &g->x, e);
}

static enum err_code start_all(struct fetching *f, struct err *e)
{
    enum err_code code = ERR_OK;
    int64_t now = clock_ns();
    if (now < f->hold_until)
        return ERR_OK;
    for (size_t i = 0; !code && i < f->n; i++) {
        struct segment *g = &f->segments[i];
        size_t most = f->mode == FETCH_RANGES ? f->allowed : 1;
        if (g->x || under_way(f) >= most || (g->open && now < g->not_before))
            continue;
        if (g->open || plan(f, g))
            code = start(f, g, e);
    }
    return code;
}

/* ---- refusals ---------------------------------------------------------------------------------- */

/* It will not get better by waiting: another source, the long way round, or the end. */
static enum err_code refused(struct fetching *f, struct segment *g, const struct err *why, struct err *e)
{
    bool other_way = from_mirror(g) || g->indirect || (g->redirected && f->strikes + 1 < STRIKES);
    f->strikes += !from_mirror(g);
    if (other_way || (why->code == ERR_FORMAT && f->strikes < STRIKES)) {
        again_later(f, g, why, 0);
        return ERR_OK;
    }
    f->unordered = g->whole && f->d->has_digest; /* it does so each time: then from the start */
    if (f->unordered)
        return ERR_OK;
    if (e)
        *e = *why;
    return why->code;
}

static enum err_code log_in(struct fetching *f, struct segment *g, const struct err *why, struct err *e)
{
    const char *value;
    if (g->login != f->login)
        return ERR_OK; /* another connection saw to it meanwhile */
    bool tried = f->login && f->fetched < f->login_at + PIECE_BYTES;
    if (tried || !f->d->authorize || from_mirror(g) || g->indirect)
        return refused(f, g, why, e);
    enum err_code code;
    if (authorize(f, g, true, &value, &code, e)) {
        f->login++;
        f->login_at = f->fetched;
    }
    return code;
}

struct status_row {
    int first, last;
    enum err_code code;
    bool passes; /* worth another try */
    const char *what;
};

static const struct status_row statuses[] = {
    { 401, 401, ERR_FORBIDDEN, false, "it wants a login" },
    { 403, 403, ERR_FORBIDDEN, false, "access is refused" },
    { 404, 404, ERR_NOT_FOUND, false, "it is not there" },
    { 410, 410, ERR_NOT_FOUND, false, "it is not there any more" },
    { 408, 408, ERR_TIMEOUT, true, "it waited too long" },
    { 416, 416, ERR_FORMAT, false, "it has not so many bytes" },
    { 425, 425, ERR_IO, true, "too early" },
    { 429, 429, ERR_IO, true, "too many requests" },
    { 500, 599, ERR_IO, true, "it has troubles of its own" },
    { 0, 999, ERR_IO, false, "which is no answer to that" },
};

static enum err_code bad_status(struct fetching *f, struct segment *g, int status, long retry_after_s,
                                struct err *e)
{
    const struct status_row *row = statuses;
    struct err why;
    while (status < row->first || status > row->last)
        row++;
    err_set(&why, row->code, "%s: %.*s answered %d, %s", f->d->label, FROM(g), status, row->what);
    if (status == 416 && f->mode == FETCH_PROBE && !f->size_known) {
        f->unordered = true; /* an empty file has no ranges */
        return ERR_OK;
    }
    if (status == 429 || status == 503)
        f->allowed = f->allowed > 1 ? f->allowed / 2 : 1;
    if (status == 401)
        return log_in(f, g, &why, e);
    if (!row->passes)
        return refused(f, g, &why, e);
    again_later(f, g, &why, retry_after_s);
    return ERR_OK;
}

/* ---- the end of a transfer --------------------------------------------------------------------- */

static enum err_code body_ended(struct fetching *f, struct segment *g, struct err *e)
{
    struct err why;
    enum err_code code = ERR_OK;
    if (g->end == UNKNOWN) { /* the end of the stream says how long it is */
        code = g->at % PIECE_BYTES ? end_piece(g, e) : ERR_OK;
        f->size = g->end = g->at;
        f->size_known = true;
        if (!code)
            code = pieces_resize(&f->pieces, f->size, e);
    }
    if (g->at == g->end) {
        g->open = false;
        return code;
    }
    err_set(&why, ERR_IO, "%s: %.*s sent fewer bytes than it was asked for", f->d->label, FROM(g));
    again_later(f, g, &why, 0);
    return code;
}

static enum err_code ended(struct fetching *f, struct segment *g, struct err *e)
{
    struct err why = g->x->err;
    int status = g->x->head.status;
    long retry_after_s = g->x->head.retry_after_s;
    transport_end(f->t, g->x);
    g->x = NULL;
    if (f->fatal.code) {
        if (e)
            *e = f->fatal;
        return f->fatal.code;
    }
    if (f->changed || f->unordered)
        return ERR_OK;
    if (g->bad.code) {
        why = g->bad;
        return refused(f, g, &why, e);
    }
    if (!why.code || g->cut)
        return g->take ? body_ended(f, g, e) : bad_status(f, g, status, retry_after_s, e);
    if (!is_passing(why.code))
        return refused(f, g, &why, e);
    again_later(f, g, &why, 0);
    return ERR_OK;
}

static enum err_code give_up(struct fetching *f, struct err *e)
{
    unsigned most = f->d->give_up_s ? f->d->give_up_s : DOWNLOAD_GIVE_UP_S;
    bool futile = f->futile >= FUTILE;
    if (!f->failures || (!futile && clock_ns() - f->byte_at < (int64_t)most * SECOND))
        return ERR_OK;
    if (e)
        *e = f->last;
    if (futile)
        err_prefix(e, "gave up after %d tries that came no further (there are no ranges there)", FUTILE);
    else
        err_prefix(e, "gave up after %u seconds without a byte (what is there is kept)", most);
    return f->last.code;
}

enum err_code fetching_step(struct fetching *f, int timeout_ms, struct err *e)
{
    if (f->unordered) {
        f->unordered = false;
        fetching_stop(f);
        f->mode = FETCH_STREAM;
    }
    enum err_code code = start_all(f, e);
    if (code)
        return code;
    if (!under_way(f)) { /* all wait for a better time */
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
        return give_up(f, e);
    }
    struct transfer *x = transport_wait(f->t, timeout_ms);
    if (x)
        code = ended(f, x->user, e);
    return code ? code : give_up(f, e);
}
