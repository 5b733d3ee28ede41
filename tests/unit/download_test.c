/* Downloads from a server that is a table: what it answers to the n-th request, and where it breaks. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "store/commit.h"
#include "store/download.h"
#include "store/verify.h"
#include "tests/store/place.h"

#define SIZE ((size_t)9 * 1024 * 1024 + 77)
#define CHUNK ((size_t)48 * 1024)
#define URL "https://first.example/blob"

/* ---- the server ---------------------------------------------------------------------------------- */

struct answer {
    int status;           /* 0: as an honest server would */
    const char *etag, *modified, *url;
    uint64_t shift;       /* added to the range that is told */
    uint64_t shift_first, shift_last, longer; /* to its first byte, its last, and the length alone */
    uint64_t extra;       /* bytes of the body that nobody asked for */
    uint64_t other_until; /* before here the bytes are others */
    uint64_t total;       /* 0: the size */
    uint64_t cut_after;   /* bytes of the body, then `err`; 0: all of them */
    enum err_code err;    /* with cut_after 0: instead of a head */
    long retry_after_s;
    bool no_ranges, no_length, other_bytes;
};

struct server {
    struct transport base;
    uint8_t *data;
    size_t size;
    /* What it does at request n (0..) */
    struct answer (*script)(struct server *s, unsigned n, const struct transport_request *r);
    struct answer always; /* without a script */
    unsigned n;
    struct fake_transfer *all;
    uint64_t sent;
    char authorization[32];
    uint64_t first[64];
    bool woken;
};

struct fake_transfer {
    struct transfer x;
    struct fake_transfer *next;
    struct transport_request r;
    struct answer a;
    char url[64];
    uint64_t at, end, sent;
    bool begun, ended, handed;
};

static enum err_code fake_start(struct transport *t, const struct transport_request *r, struct transfer **out,
                                struct err *e)
{
    struct server *s = (struct server *)t;
    struct fake_transfer *f = mem_zero(1, sizeof *f);
    *out = NULL;
    if (!f)
        return err_no_memory(e, sizeof *f, "a request");
    f->r = *r;
    f->x.user = r->user;
    snprintf(f->url, sizeof f->url, "%s", r->url);
    if (s->n < 64)
        s->first[s->n] = r->has_range ? r->first : 0;
    snprintf(s->authorization, sizeof s->authorization, "%s", r->authorization ? r->authorization : "");
    f->a = s->script ? s->script(s, s->n, r) : s->always;
    s->n++;
    f->next = s->all;
    s->all = f;
    *out = &f->x;
    return ERR_OK;
}

static void fake_head(struct server *s, struct fake_transfer *f)
{
    bool ranges = f->r.has_range && !f->a.no_ranges;
    int status = f->a.status ? f->a.status : ranges && f->r.first >= s->size ? 416 : ranges ? 206 : 200;
    struct transport_head *h = &f->x.head;
    *h = (struct transport_head){
        .status = status, .url = f->a.url ? f->a.url : f->url, .etag = f->a.etag ? f->a.etag : "\"one\"",
        .last_modified = f->a.modified ? f->a.modified : "",
        .retry_after_s = f->a.retry_after_s ? f->a.retry_after_s : -1, .repo_commit = "", .location = "",
        .content_type = "", .docker_digest = "", .www_authenticate = "", .linked_etag = "",
        .linked_size = "", .next_url = "", .first_public = true,
    };
    if (status >= 300)
        return;
    f->at = ranges ? f->r.first : 0;
    f->end = ranges && f->r.last + 1 < s->size ? f->r.last + 1 : s->size;
    h->has_range = ranges;
    h->first = f->at + f->a.shift + f->a.shift_first;
    h->last = f->end - 1 + f->a.shift + f->a.shift_last;
    h->total = f->a.total ? f->a.total : s->size;
    h->has_length = !f->a.no_length;
    h->length = f->a.no_length ? 0 : f->end - f->at + f->a.longer;
    f->end = f->end + f->a.extra < s->size ? f->end + f->a.extra : s->size;
    h->ends = true;
}

/* One step of one transfer: its head, or some bytes. */
static void fake_step(struct server *s, struct fake_transfer *f)
{
    struct err *e = &f->x.err;
    if (!f->begun) {
        f->begun = true;
        if (f->a.err && !f->a.cut_after) {
            err_set(e, f->a.err, "first.example broke it off");
            f->ended = true;
            return;
        }
        fake_head(s, f);
        f->ended = f->r.on_head(f->r.user, &f->x.head, e) != ERR_OK;
        return;
    }
    uint8_t other[CHUNK];
    size_t n = f->end - f->at < CHUNK ? (size_t)(f->end - f->at) : CHUNK;
    if (f->a.cut_after && f->sent + n > f->a.cut_after)
        n = (size_t)(f->a.cut_after - f->sent);
    memset(other, 'o', sizeof other);
    if (n && f->r.on_body(f->r.user, f->a.other_bytes || f->at < f->a.other_until ? other : s->data + f->at,
                          n, e))
        f->ended = true;
    f->at += n;
    f->sent += n;
    s->sent += n;
    if (!f->ended && f->a.cut_after && f->sent == f->a.cut_after) {
        err_set(e, f->a.err, "first.example broke it off");
        f->ended = true;
    }
    f->ended |= f->at == f->end;
}

static struct transfer *hand_out(struct server *s, const struct transfer *only)
{
    for (struct fake_transfer *f = s->all; f; f = f->next)
        if (f->ended && !f->handed && (!only || only == &f->x)) {
            f->handed = true;
            return &f->x;
        }
    return NULL;
}

/* What has ended is handed out before others go on: those that are refused together are told of together. */
static struct transfer *fake_wait(struct transport *t, struct transfer *only, int timeout_ms)
{
    struct server *s = (struct server *)t;
    struct transfer *x = hand_out(s, only);
    (void)timeout_ms;
    for (struct fake_transfer *f = s->all; !x && f; f = f->next)
        if (!f->ended && (!only || only == &f->x))
            fake_step(s, f);
    return x ? x : hand_out(s, only);
}

static void fake_end(struct transport *t, struct transfer *x)
{
    struct fake_transfer **at = &((struct server *)t)->all;
    while (&(*at)->x != x)
        at = &(*at)->next;
    *at = (*at)->next;
    mem_free(x);
}

static void fake_wake(struct transport *t)
{
    ((struct server *)t)->woken = true;
}

static const struct transport_ops fake_ops = {
    .start = fake_start, .wait = fake_wait, .end = fake_end, .wake = fake_wake
};

static struct server *serve(size_t size, struct answer (*script)(struct server *, unsigned,
                                                                 const struct transport_request *))
{
    struct server *s = calloc(1, sizeof *s);
    s->base.ops = &fake_ops;
    s->size = size;
    s->script = script;
    s->data = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        s->data[i] = (uint8_t)(i * 2654435761u >> 13);
    return s;
}

static void unserve(struct server *s)
{
    assert_null(s->all);
    free(s->data);
    free(s);
}

/* ---- what is asked of it ------------------------------------------------------------------------- */

static struct download want(const struct server *s, bool digest, bool size)
{
    struct download d = { .label = "pulling it", .url = URL, .has_size = size, .size = size ? s->size : 0,
                          .has_digest = digest };
    char hex[65], text[80];
    hex_of(s->data, s->size, hex);
    snprintf(text, sizeof text, "sha256:%s", hex);
    if (digest)
        assert_true(digest_parse(str_from(text), &d.digest));
    return d;
}

static void assert_whole(struct place *p, const struct server *s, const struct downloaded *out)
{
    char name[200], hex[65], is[65];
    snprintf(name, sizeof name, "home/tmp/%s", out->part.name);
    assert_file_is(in(p, name), s->data, s->size);
    snprintf(name, sizeof name, "tmp/%s", out->part.name);
    assert_int_equal(mode_of(p->home, name), 0440);
    assert_int_equal(out->part.size, s->size);
    assert_int_equal(out->chunks.n, (s->size + CHUNK_BYTES - 1) / CHUNK_BYTES * 32);
    for (size_t i = 0; i * CHUNK_BYTES < s->size; i++) {
        size_t at = i * CHUNK_BYTES, n = s->size - at < CHUNK_BYTES ? s->size - at : CHUNK_BYTES;
        struct digest d;
        memcpy(d.b, out->chunks.p + 32 * i, 32);
        digest_hex(&d, is);
        hex_of(s->data + at, n, hex);
        assert_string_equal(is, hex);
    }
}

static void get_whole(struct place *p, struct server *s, const struct download *d, struct downloaded *out)
{
    ok(download_blob(p->s, &s->base, d, NULL, out, e));
    assert_whole(p, s, out);
}

static void drop(struct place *p, struct downloaded *out, struct server *s)
{
    downloaded_finish(p->s, out);
    assert_int_equal(entries(p->home, "tmp"), 0);
    unserve(s);
}

static void test_whole(void **state)
{
    struct place *p = *state;
    static const size_t sizes[] = { 0, 1, 131071, 131072, 131073, (size_t)4 << 20, SIZE };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int how = 0; how < 5; how++) {
            struct server *s = serve(sizes[i], NULL);
            struct download d = want(s, how & 1, how & 2);
            struct downloaded out;
            s->always.no_length = how & 4;
            d.connections = how == 3 ? 1000 : 0; /* more than there ever are */
            get_whole(p, s, &d, &out);
            assert_int_equal(out.fetched, s->size);
            drop(p, &out, s);
        }
}

/* The server dies on the way: what is there stays. */
static void leave_half(struct place *p, struct server *s, const struct download *d)
{
    struct downloaded out;
    s->sent = 0;
    fails_with(ERR_IO, "broke it off", download_blob(p->s, &s->base, d, NULL, &out, e));
    assert_int_equal(entries(p->home, "tmp"), 2);
}

static struct answer break_each(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return n < 3 ? (struct answer){ .cut_after = 1000000, .err = ERR_IO } : (struct answer){ 0 };
}

static void test_broken_off(void **state)
{
    struct place *p = *state;
    struct server *s = serve(SIZE, break_each);
    struct download d = want(s, true, true);
    struct downloaded out;
    get_whole(p, s, &d, &out);
    assert_int_equal(out.fetched, SIZE); /* not a byte twice */
    drop(p, &out, s);
}

static struct answer ends_early(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .cut_after = n < 3 ? 1000000 : 0 };
}

/* A body that ends without an error, and before its end. */
static void test_ends_early(void **state)
{
    struct place *p = *state;
    struct server *s = serve(SIZE, ends_early);
    struct download d = want(s, true, true);
    struct downloaded out;
    alarm(60); /* what is never asked for again is waited for for ever */
    get_whole(p, s, &d, &out);
    alarm(0);
    drop(p, &out, s);
}

static struct answer dies_at_half(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)n;
    (void)r;
    if (s->sent > 3000000)
        return (struct answer){ .err = ERR_IO };
    return (struct answer){ .cut_after = 1500000, .err = ERR_IO };
}

static void test_resume(void **state)
{
    struct place *p = *state;
    for (int digest = 0; digest < 2; digest++) {
        struct server *s = serve(SIZE, dies_at_half);
        struct download d = want(s, digest, true);
        struct downloaded out;
        d.give_up_s = 1;
        leave_half(p, s, &d);
        uint64_t before = s->sent, begun = download_begun(p->s, &d);
        assert_true(begun > 0 && begun <= before && before - begun <= 8 * DOWNLOAD_PIECE);
        d.unproven = true; /* a digest proves it whoever sent it */
        assert_int_equal(download_begun(p->s, &d), digest ? begun : 0);
        d.unproven = false;
        reopen(p);
        s->script = NULL;
        get_whole(p, s, &d, &out);
        assert_true(out.resumed >= begun - (digest ? 0 : DOWNLOAD_PIECE));
        assert_true(before + out.fetched - SIZE <= 8 * DOWNLOAD_PIECE);
        downloaded_keep(p->s, &out);
        ok(download_blob(p->s, &s->base, &d, NULL, &out, e)); /* sealed, and fetched no more */
        assert_true(out.fetched <= (digest ? 0 : DOWNLOAD_PIECE));
        assert_whole(p, s, &out);
        if (!digest) { /* another file there: nothing of the old one is taken for it, nor is its length */
            downloaded_keep(p->s, &out);
            s->data[0] ^= 1;
            s->script = NULL;
            s->always.etag = "\"two\"";
            get_whole(p, s, &d, &out);
            assert_int_equal(out.fetched, SIZE);
            downloaded_keep(p->s, &out);
            s->size = SIZE / 2;
            d.size = s->size;
            get_whole(p, s, &d, &out);
        }
        drop(p, &out, s);
    }
}

static void test_rot(void **state)
{
    struct place *p = *state;
    struct server *s = serve(SIZE, NULL);
    struct download d = want(s, true, true);
    struct downloaded out;
    char part[300], journal[300];
    get_whole(p, s, &d, &out);
    snprintf(part, sizeof part, "%s/tmp/%s", p->home, out.part.name);
    snprintf(journal, sizeof journal, "%s/tmp/%s", p->home, out.journal);
    downloaded_keep(p->s, &out);
    size_t n;
    char *bytes = read_file(part, &n), *records = read_file(journal, &n);
    bytes[5 * DOWNLOAD_PIECE + 3] ^= 1; /* a piece that is not as it was */
    chmod(part, 0600);
    write_file(part, bytes, SIZE);
    records[n - 3] ^= 1;                /* a record that is torn */
    write_file(journal, records, n);
    free(bytes);
    free(records);
    get_whole(p, s, &d, &out);
    assert_true(out.fetched > DOWNLOAD_PIECE && out.fetched <= 2 * DOWNLOAD_PIECE);
    drop(p, &out, s);
}

static struct answer changes_once(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .etag = n < 2 ? "\"one\"" : "\"two\"", .other_bytes = n < 2 };
}

static struct answer changes_always(struct server *s, unsigned n, const struct transport_request *r)
{
    static const char *const tags[] = { "\"a\"", "\"b\"" };
    (void)s;
    (void)r;
    return (struct answer){ .etag = tags[n % 2] };
}

/* Of another length, with the same ETag. */
static struct answer grows_once(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .total = n == 1 ? SIZE + 1 : 0 };
}

static struct answer shrinks(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)r;
    s->size = n < 3 ? SIZE : 100000;
    return (struct answer){ .etag = n < 2 ? "\"one\"" : "\"two\"" };
}

static void within_the_total(void *user, const struct store_event *ev)
{
    (void)user;
    assert_true(!ev->total || ev->completed <= ev->total);
}

static struct answer changes_unmarked(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    return (struct answer){ .etag = "", .other_bytes = n < 3 && r->has_range };
}

static struct answer changes_time(struct server *s, unsigned n, const struct transport_request *r)
{
    struct answer a = changes_unmarked(s, n, r);
    a.modified = a.other_bytes ? "Sat, 01 Jan 2000 00:00:00 GMT" : "Sun, 02 Jan 2000 00:00:00 GMT";
    return a;
}

/* A place without ETags: a time is as good; where there is none either, all comes in one body. */
static void test_unmarked(void **state)
{
    struct place *p = *state;
    for (int time = 0; time < 2; time++) {
        struct server *s = serve(SIZE, time ? changes_time : changes_unmarked);
        struct download d = want(s, false, time);
        struct downloaded out;
        get_whole(p, s, &d, &out);
        drop(p, &out, s);
    }
}

static void test_changed(void **state)
{
    struct place *p = *state;
    struct store_job job = { .event = within_the_total };
    struct server *s = serve(SIZE, dies_at_half);
    struct download d = want(s, false, false);
    struct downloaded out;
    d.give_up_s = 1;
    leave_half(p, s, &d);
    s->script = NULL;
    s->always.etag = "\"two\"";
    get_whole(p, s, &d, &out);
    assert_int_equal(out.resumed, 0);
    assert_string_equal(out.etag, "\"two\"");
    downloaded_finish(p->s, &out);
    s->script = dies_at_half;
    leave_half(p, s, &d);
    s->script = NULL;
    s->always.etag = ""; /* nothing says that it is the same still */
    s->data[0] ^= 1;
    get_whole(p, s, &d, &out);
    downloaded_finish(p->s, &out);
    s->data[0] ^= 1;
    s->script = changes_once;
    s->n = 0;
    get_whole(p, s, &d, &out);
    downloaded_finish(p->s, &out);
    s->script = changes_always;
    fails_with(ERR_CONFLICT, "changes each time", download_blob(p->s, &s->base, &d, NULL, &out, e));
    s->script = grows_once;
    s->n = 0;
    get_whole(p, s, &d, &out);
    assert_true(out.fetched > SIZE);
    downloaded_finish(p->s, &out);
    s->script = shrinks;
    s->n = 0;
    d.connections = 1;
    ok(download_blob(p->s, &s->base, &d, &job, &out, e));
    assert_int_equal(s->size, 100000);
    assert_whole(p, s, &out);
    drop(p, &out, s);
}

static struct answer wrong_bytes(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .other_bytes = n == 1 };
}

static void test_lies(void **state)
{
    struct place *p = *state;
    static const struct {
        struct answer (*script)(struct server *, unsigned, const struct transport_request *);
        enum err_code code;
        const char *says;
        size_t left; /* files in tmp/ */
        struct answer always; /* where there is no script */
    } rows[] = {
        { NULL, ERR_FORMAT, "sent other bytes than it was asked for", 0, { .shift = 1 } },
        { NULL, ERR_FORMAT, "sent other bytes than it was asked for", 0, { .shift_first = 1 } },
        { NULL, ERR_FORMAT, "sent other bytes than it was asked for", 0, { .shift_last = 1 } },
        { NULL, ERR_FORMAT, "sent other bytes than it was asked for", 0, { .longer = 1 } },
        { NULL, ERR_FORMAT, "sent more bytes than it was asked for", 2, { .extra = 1 } },
        { NULL, ERR_FORMAT, "where 9437261 were promised", 0, { .total = SIZE + 1 } },
        { wrong_bytes, ERR_FORMAT, "that was promised: it was thrown away", 0, { 0 } },
        { NULL, ERR_NOT_FOUND, "first.example answered 404", 0, { .status = 404 } },
        { NULL, ERR_FORBIDDEN, "first.example answered 403", 0, { .status = 403 } },
        { NULL, ERR_FORBIDDEN, "broke it off", 0, { .err = ERR_FORBIDDEN } },
        { NULL, ERR_IO, "gave up after 1 seconds without a byte", 0, { .status = 502 } },
        { NULL, ERR_FORMAT, "first.example answered 416", 0, { .status = 416 } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = serve(SIZE, rows[i].script);
        struct download d = want(s, true, true);
        struct downloaded out;
        s->always = rows[i].always;
        d.give_up_s = 1;
        fails_with(rows[i].code, rows[i].says, download_blob(p->s, &s->base, &d, NULL, &out, e));
        assert_int_equal(entries(p->home, "tmp"), rows[i].left);
        s->script = NULL;
        s->always = (struct answer){ 0 };
        get_whole(p, s, &d, &out);
        drop(p, &out, s);
    }
}

/* A place (or who answers instead of it) that goes mad costs nothing of what is there. */
static void test_lies_to_a_resume(void **state)
{
    struct place *p = *state;
    static const struct answer rows[] = { { .shift = 1 }, { .total = SIZE + 1 }, { .extra = 1 },
                                          { .no_ranges = true, .other_bytes = true, .longer = 1 } };
    struct server *s = serve(SIZE, dies_at_half);
    struct download d = want(s, true, true);
    struct downloaded out;
    d.give_up_s = 1;
    leave_half(p, s, &d);
    uint64_t begun = download_begun(p->s, &d);
    s->script = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        s->always = rows[i];
        fails_with(ERR_FORMAT, "first.example", download_blob(p->s, &s->base, &d, NULL, &out, e));
        assert_true(download_begun(p->s, &d) >= begun);
    }
    s->always = (struct answer){ 0 };
    get_whole(p, s, &d, &out);
    assert_true(out.fetched <= SIZE - begun);
    drop(p, &out, s);
}

static struct answer no_ranges(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .no_ranges = true, .no_length = n % 2, .cut_after = n == 0 ? 700000 : 0,
                            .err = n == 0 ? ERR_IO : ERR_OK };
}

static struct answer some_ranges(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .no_ranges = n > 0 };
}

/* The first body breaks off; the second begins with other bytes than the first one did. */
static struct answer second_is_other(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return n == 0 ? (struct answer){ .no_ranges = true, .etag = "", .cut_after = 4000000, .err = ERR_IO }
                  : (struct answer){ .no_ranges = true, .etag = "", .other_until = 1000000 };
}

static struct answer first_is_other(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .no_ranges = true, .etag = "", .other_bytes = n == 0, .cut_after = n == 0 ? 4000000 : 0,
                            .err = n == 0 ? ERR_IO : ERR_OK };
}

static struct answer a_bit_further(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .no_ranges = true, .cut_after = 1000 + 1000 * n, .err = ERR_IO };
}

/* What was hashed is what is in the file, and no file is made of two. */
static void test_streams_are_not_mixed(void **state)
{
    struct place *p = *state;
    struct downloaded out;
    struct server *s = serve(SIZE, second_is_other);
    struct download d = want(s, true, true);
    get_whole(p, s, &d, &out);
    drop(p, &out, s);
    s = serve(SIZE, first_is_other);
    d = want(s, false, true);
    get_whole(p, s, &d, &out);
    drop(p, &out, s);
    s = serve(SIZE, some_ranges);
    d = want(s, false, true);
    fails_with(ERR_FORMAT, "sent the whole where a part was asked for", download_blob(p->s, &s->base, &d, NULL, &out, e));
    s->script = a_bit_further;
    s->n = 0;
    fails_with(ERR_IO, "times: first.example broke it off", download_blob(p->s, &s->base, &d, NULL, &out, e));
    unserve(s);
}

static void test_without_ranges(void **state)
{
    struct place *p = *state;
    for (int how = 0; how < 4; how++) {
        struct server *s = serve(SIZE, no_ranges);
        struct download d = want(s, how & 1, how & 2);
        struct downloaded out;
        get_whole(p, s, &d, &out);
        drop(p, &out, s);
    }
    struct server *s = serve(SIZE, some_ranges); /* first it has them, then no more */
    struct download d = want(s, true, true);
    struct downloaded out;
    get_whole(p, s, &d, &out);
    downloaded_finish(p->s, &out);
    for (int digest = 0; digest < 2; digest++) { /* ... and what was begun with them goes on without */
        s->script = dies_at_half;
        d = want(s, digest, true);
        d.give_up_s = 1;
        leave_half(p, s, &d);
        s->script = no_ranges;
        s->n = 1;
        get_whole(p, s, &d, &out);
        assert_true(out.resumed > 0);
        downloaded_finish(p->s, &out);
    }
    s->script = NULL;
    s->always.status = 416; /* to who asks for the whole, too */
    d = want(s, true, false);
    alarm(60);
    fails_with(ERR_FORMAT, "answered 416", download_blob(p->s, &s->base, &d, NULL, &out, e));
    alarm(0);
    unserve(s);
}

/* ---- room, and who is in the way ------------------------------------------------------------------- */

static uint64_t room; /* 0: as it is */
static int no_reserve; /* an errno */

static int x_space(int fd, uint64_t *bytes, bool *in_memory)
{
    int r = file_system.space(fd, bytes, in_memory);
    *in_memory = false;
    *bytes = room ? room : *bytes;
    return r;
}

static int x_reserve(int fd, uint64_t bytes)
{
    if (!no_reserve)
        return file_system.reserve(fd, bytes);
    errno = no_reserve;
    return -1;
}

static void reopen_with(struct place *p, const struct file_ops *ops)
{
    store_close(p->s);
    p->s = NULL;
    ok(store_open_with(ops, p->home, &p->s, e));
}

static void open_with_room(struct place *p, struct file_ops *ops)
{
    *ops = file_system;
    ops->space = x_space;
    ops->reserve = x_reserve;
    reopen_with(p, ops);
}

/* What never ends leaves some of the disk, and nothing of itself. */
static void test_no_end(void **state)
{
    struct place *p = *state;
    struct file_ops ops;
    struct downloaded out;
    struct server *s = serve(SIZE, no_ranges);
    struct download d = want(s, true, false);
    open_with_room(p, &ops);
    for (int i = 0; i < 2; i++) {
        room = i ? STORE_SPARE_BYTES + SIZE - 1 : 1000;
        s->n = 1; /* no length is told */
        fails_with(ERR_IO, "without an end", download_blob(p->s, &s->base, &d, NULL, &out, e));
        assert_int_equal(entries(p->home, "tmp"), 0);
    }
    room = STORE_SPARE_BYTES + SIZE;
    s->n = 1;
    get_whole(p, s, &d, &out);
    room = 0;
    drop(p, &out, s);
    reopen(p);
}

/* Either sign of a full disk is enough, before a byte is asked for. */
static void test_room(void **state)
{
    struct place *p = *state;
    struct file_ops ops;
    open_with_room(p, &ops);
    for (int how = 0; how < 2; how++) {
        struct server *s = serve(SIZE, NULL);
        struct download d = want(s, true, true);
        struct downloaded out;
        room = how == 0 ? 1000 : 0;
        no_reserve = how == 1 ? ENOSPC : 0;
        fails_with(ERR_IO, "the disk is too full", download_blob(p->s, &s->base, &d, NULL, &out, e));
        assert_int_equal(s->n, 0);
        room = 0;
        no_reserve = EOPNOTSUPP; /* there are file systems that reserve nothing */
        get_whole(p, s, &d, &out);
        drop(p, &out, s);
    }
    no_reserve = 0;
    reopen(p);
}

/* As the disk answers everybody but root. */
static int x_open(int dir, const char *name, int flags, mode_t mode)
{
    struct stat st;
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (!writes || file_system.stat_at(dir, name, &st) < 0 || st.st_mode & S_IWUSR)
        return file_system.open(dir, name, flags, mode);
    errno = EACCES;
    return -1;
}

/* A part that is whole and sealed, and was not committed, is gone on with by who may not write to it as it is. */
static void test_sealed(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    struct server *s = serve(SIZE, NULL);
    struct download d = want(s, true, true);
    struct downloaded out;
    ops.open = x_open;
    reopen_with(p, &ops);
    for (size_t i = 0; i < 2; i++) {
        get_whole(p, s, &d, &out);
        assert_int_equal(out.fetched, i ? 0 : SIZE);
        downloaded_keep(p->s, &out);
    }
    get_whole(p, s, &d, &out);
    drop(p, &out, s);
    reopen(p);
}

/* Somebody has cut the file off meanwhile. */
static ssize_t x_read(int fd, void *p, size_t n, uint64_t at)
{
    return at >= SIZE / 2 ? 0 : file_system.read(fd, p, n, at);
}

static void test_cut_off(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    struct server *s = serve(SIZE, NULL);
    struct download d = want(s, false, true);
    struct downloaded out;
    ops.read = x_read;
    reopen_with(p, &ops);
    fails_with(ERR_IO, "the file is shorter than was written", download_blob(p->s, &s->base, &d, NULL, &out, e));
    reopen(p);
    get_whole(p, s, &d, &out);
    drop(p, &out, s);
}

static struct place *pruned;

static struct answer prunes(struct server *s, unsigned n, const struct transport_request *r)
{
    struct store_prune what = { .older_s = 1 };
    struct timespec long_ago[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
    static const char *const tails[] = { "part", "journal" };
    char hex[65], name[128];
    (void)r;
    hex_of(s->data, s->size, hex);
    for (size_t i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "tmp/dl-%s.%s", hex, tails[i]);
        assert_int_equal(mode_of(pruned->home, name), 0600); /* nobody reads it before it is whole */
        snprintf(name, sizeof name, "home/tmp/dl-%s.%s", hex, tails[i]);
        assert_int_equal(utimensat(AT_FDCWD, in(pruned, name), long_ago, 0), 0);
    }
    if (n == 1)
        ok(store_prune(pruned->s, &what, NULL, e));
    return (struct answer){ 0 };
}

/* What is under way is not pruned, however old its files look; and it is its owner's alone. */
static void test_not_pruned(void **state)
{
    pruned = *state;
    struct server *s = serve(SIZE, prunes);
    struct download d = want(s, true, true);
    struct downloaded out;
    get_whole(pruned, s, &d, &out);
    drop(pruned, &out, s);
}

/* ---- logins, redirects, mirrors ------------------------------------------------------------------ */

struct login {
    unsigned asked, refused, fails; /* fails: so many calls, with `code` */
    enum err_code code;
};

static enum err_code authorize(void *user, bool refused, const char **value, struct err *e)
{
    static const char *const values[] = { "Bearer 0", "Bearer 1", "Bearer 2" };
    struct login *l = user;
    if (l->asked++ < l->fails)
        return err_set(e, l->code, "first.example makes no token");
    l->refused += refused;
    *value = values[l->refused % 3];
    return ERR_OK;
}

/* The first token is good for one request, and the second for half of the file. */
static struct answer wants_new(struct server *s, unsigned n, const struct transport_request *r)
{
    char want = n == 0 ? '0' : s->sent < s->size / 2 ? '1' : '2';
    return (struct answer){ .status = r->authorization[7] < want ? 401 : 0 };
}

static void test_login(void **state)
{
    struct place *p = *state;
    static const struct {
        bool login;
        unsigned asked; /* requests until it is given up */
    } rows[] = { { true, 2 }, { false, 1 } };
    struct server *s = serve(SIZE * 4, wants_new);
    struct download d = want(s, true, true);
    struct downloaded out;
    struct login l = { .fails = 1, .code = ERR_IO }; /* once: then it is asked again */
    d.authorize = authorize;
    d.user = &l;
    get_whole(p, s, &d, &out);
    assert_int_equal(l.refused, 2); /* those that are refused together are one refusal */
    assert_int_equal(out.fetched, s->size);
    downloaded_finish(p->s, &out);
    l = (struct login){ .fails = 1, .code = ERR_FORBIDDEN };
    fails_with(ERR_FORBIDDEN, "makes no token", download_blob(p->s, &s->base, &d, NULL, &out, e));
    s->script = NULL;
    s->always.status = 401;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        l = (struct login){ 0 };
        s->n = 0;
        d.authorize = rows[i].login ? authorize : NULL;
        fails_with(ERR_FORBIDDEN, "answered 401", download_blob(p->s, &s->base, &d, NULL, &out, e));
        assert_int_equal(s->n, rows[i].asked); /* no loop */
        assert_int_equal(l.refused, rows[i].login);
    }
    unserve(s);
}

static int no_more; /* what a signed URL says that is good no more */

/* A signed URL that is good for three requests; nobody brings it our login. */
static struct answer signs(struct server *s, unsigned n, const struct transport_request *r)
{
    bool there = strncmp(r->url, "https://second.example/", 23) == 0;
    (void)s;
    assert_true(there == !r->authorization && there == r->from_public);
    if (there)
        return (struct answer){ .status = n % 4 == 3 ? no_more : 0 };
    return (struct answer){ .url = "https://second.example/signed?key=1" };
}

static void test_redirect(void **state)
{
    struct place *p = *state;
    static const int statuses[] = { 403, 401 };
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        struct server *s = serve(SIZE * 4, signs);
        struct download d = want(s, true, true);
        struct downloaded out;
        struct login l = { 0 };
        no_more = statuses[i];
        d.authorize = authorize;
        d.user = &l;
        get_whole(p, s, &d, &out);
        assert_int_equal(out.fetched, s->size);
        assert_int_equal(l.refused, 0); /* it is not our login that was refused */
        drop(p, &out, s);
    }
}

/* What answers from the second request on, with an ETag of its own. */
static const char *answers;

static struct answer answers_for_it(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return (struct answer){ .url = n ? answers : NULL, .etag = n ? "\"two\"" : NULL };
}

/* One place in other letters is that place: its ETag may not change, and the login goes on to it. */
static void test_same_place(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *answers;
        bool same;
    } rows[] = { { "https://FIRST.example/other", true }, { "https://other.example/blob", false },
                 { "https://first.example.org/blob", false }, { "http://first.example/blob", false },
                 { "https://first.exampl/blob", false } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = serve(SIZE, answers_for_it);
        struct download d = want(s, true, true);
        struct downloaded out;
        struct login l = { 0 };
        answers = rows[i].answers;
        d.authorize = authorize;
        d.user = &l;
        get_whole(p, s, &d, &out);
        if ((out.fetched > SIZE) != rows[i].same)
            fail_msg("%s: %d bytes", answers, (int)out.fetched);
        assert_true(!rows[i].same || l.asked == s->n);
        drop(p, &out, s);
    }
}

static unsigned good_for, at_mirror[2]; /* how many requests are answered well by mirrors; how often they were asked */
static bool second_is_good;

static struct answer mirrored(struct server *s, unsigned n, const struct transport_request *r)
{
    bool mirror = strncmp(r->url, "http://mirror", 13) == 0;
    assert_true(r->plain == mirror && (mirror ? !r->authorization : r->authorization != NULL));
    if (!mirror)
        return (struct answer){ 0 };
    at_mirror[r->url[13] - '1']++;
    return n < good_for || (second_is_good && r->url[13] == '2') ? (struct answer){ 0 } : s->always;
}

/* One after the other, whatever they say, and to however many requests at once: one that has it all is the last. */
static void test_mirrors(void **state)
{
    struct place *p = *state;
    static const char *const mirrors[] = { "http://mirror1/x", "http://mirror2/x" };
    static const struct answer says[] = { { .status = 404 }, { .status = 401 }, { .status = 403 }, { .err = ERR_IO },
                                          { .err = ERR_FORBIDDEN }, { .shift = 1 } };
    for (size_t i = 0; i < sizeof says / sizeof *says; i++)
        for (unsigned k = 0; k < 8; k++) {
            struct server *s = serve(SIZE, mirrored);
            struct download d = want(s, true, true);
            struct downloaded out;
            struct login l = { 0 };
            good_for = k / 2;
            second_is_good = k % 2;
            s->always = says[i];
            at_mirror[0] = at_mirror[1] = 0;
            d.authorize = authorize;
            d.user = &l;
            d.mirrors = mirrors;
            d.n_mirrors = 2;
            get_whole(p, s, &d, &out);
            assert_int_equal(out.fetched, SIZE);
            assert_true(at_mirror[0] && at_mirror[1]);
            assert_int_equal(l.asked > 0, !second_is_good);
            assert_int_equal(l.refused, 0); /* a mirror has no login of ours to refuse */
            drop(p, &out, s);
        }
}

static struct answer busy(struct server *s, unsigned n, const struct transport_request *r)
{
    (void)s;
    (void)r;
    return n ? (struct answer){ 0 } : (struct answer){ .status = 429, .retry_after_s = 1 };
}

static void test_busy(void **state)
{
    struct place *p = *state;
    struct server *s = serve(SIZE, busy);
    struct download d = want(s, true, true);
    struct downloaded out;
    int64_t start = clock_ns();
    get_whole(p, s, &d, &out);
    int64_t ms = (clock_ns() - start) / 1000000;
    assert_true(ms >= 1000 && ms < 1000 + 1000 * SLOWER);
    drop(p, &out, s);
}

/* ---- two of one; a few bytes --------------------------------------------------------------------- */

struct one {
    struct place *p;
    struct server *s;
    struct download d;
    struct store_job job;
    enum err_code code;
    struct downloaded out;
};

static void *download(void *user)
{
    struct one *o = user;
    o->code = download_blob(o->p->s, &o->s->base, &o->d, &o->job, &o->out, NULL);
    return NULL;
}

static atomic_bool first_is_there, second_heard, stop;

static void first_event(void *user, const struct store_event *ev)
{
    (void)user;
    (void)ev;
    atomic_store(&first_is_there, true);
    while (!atomic_load(&second_heard)) /* the first goes on when the second has heard of it */
        usleep(1000);
}

enum who { NOBODY, FIRST, SECOND };

static void second_event(void *user, const struct store_event *ev)
{
    enum who *cancel = user;
    assert_true(ev->has_digest);
    atomic_store(&stop, *cancel != NOBODY);
    atomic_store(&second_heard, *cancel != SECOND);
}

/* `cancel`: who is called off when the second waits for the first. */
static void share(struct place *p, enum who cancel)
{
    struct server *a = serve(SIZE, NULL), *b = serve(SIZE, NULL);
    struct one first = { .p = p, .s = a, .d = want(a, true, true), .job = { first_event, NULL, cancel == FIRST ? &stop : NULL } };
    struct one second = { .p = p, .s = b, .d = first.d, .job = { second_event, &cancel, cancel == SECOND ? &stop : NULL } };
    pthread_t threads[2];
    atomic_store(&stop, false);
    atomic_store(&first_is_there, false);
    atomic_store(&second_heard, false);
    assert_int_equal(pthread_create(&threads[0], NULL, download, &first), 0);
    while (!atomic_load(&first_is_there))
        usleep(1000);
    assert_int_equal(pthread_create(&threads[1], NULL, download, &second), 0);
    alarm(60);
    if (cancel != SECOND)
        pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL); /* called off, it does not wait for the first */
    alarm(0);
    atomic_store(&second_heard, true);
    if (cancel == SECOND)
        pthread_join(threads[0], NULL);
    assert_int_equal(first.code, cancel == FIRST ? ERR_CANCELLED : ERR_OK);
    assert_int_equal(second.code, cancel == SECOND ? ERR_CANCELLED : ERR_OK);
    if (cancel != SECOND)
        assert_whole(p, b, &second.out);
    assert_int_equal(b->sent, cancel == FIRST ? SIZE : 0);
    if (cancel != FIRST)
        assert_whole(p, a, &first.out);
    downloaded_finish(p->s, &first.out);
    drop(p, &second.out, a);
    unserve(b);
}

static void test_shared(void **state)
{
    share(*state, NOBODY);
    share(*state, FIRST);
    share(*state, SECOND);
}

static void publish(struct place *p, struct downloaded *d)
{
    struct file_id id;
    ok(blob_publish(&p->s->blobs, &d->part, &id, e));
}

static void assert_blob(struct place *p, const struct server *s)
{
    char name[128] = "home/blobs/sha256-";
    hex_of(s->data, s->size, name + strlen(name));
    assert_file_is(in(p, name), s->data, s->size);
}

/* What one call has downloaded and not yet committed is its own: prune leaves it, and who wants the same gets a second
 * name for it and writes to none. Whoever commits first, no name stays in tmp/, and nobody writes to the blob. */
static void test_held_until_the_end(void **state)
{
    struct place *p = *state;
    for (int how = 0; how < 8; how++) {
        bool digest = how & 1, second_first = how & 2, keep = how & 4;
        struct server *a = serve(SIZE, NULL), *b = serve(SIZE, NULL);
        struct download d = want(a, digest, true);
        struct downloaded first, second;
        struct store_prune prune = { .older_s = 1 };
        b->data[5] ^= 1;
        b->always.etag = "\"two\"";
        get_whole(p, a, &d, &first);
        char path[200];
        snprintf(path, sizeof path, "home/tmp/%s", first.part.name);
        assert_int_equal(utimensat(AT_FDCWD, in(p, path), (struct timespec[]){ { .tv_sec = 1 }, { .tv_sec = 1 } }, 0), 0);
        ok(store_prune(p->s, &prune, NULL, e));
        assert_whole(p, a, &first);
        ok(download_blob(p->s, &b->base, &d, NULL, &second, e));
        assert_int_equal(b->sent, 0);
        assert_whole(p, a, &second);
        publish(p, second_first ? &second : &first);
        if (keep) {
            downloaded_keep(p->s, second_first ? &first : &second);
        } else {
            publish(p, second_first ? &first : &second);
            downloaded_finish(p->s, second_first ? &first : &second);
        }
        downloaded_finish(p->s, second_first ? &second : &first);
        assert_int_equal(entries(p->home, "tmp"), 0);
        assert_blob(p, a);
        if (!digest)
            get_whole(p, b, &d, &first);
        assert_blob(p, a);
        if (!digest)
            downloaded_finish(p->s, &first);
        unserve(a);
        unserve(b);
    }
}

/* A part that a kill has left with a second name, which is a blob by now. */
static void test_second_name(void **state)
{
    struct place *p = *state;
    struct server *a = serve(SIZE, NULL), *b = serve(SIZE, NULL);
    struct download d = want(a, false, true);
    struct downloaded out;
    char part[200];
    b->data[5] ^= 1;
    b->always.etag = "\"two\"";
    get_whole(p, a, &d, &out);
    snprintf(part, sizeof part, "home/tmp/%s", out.part.name);
    downloaded_keep(p->s, &out);
    assert_int_equal(link(in(p, part), in(p, "home/blobs/other")), 0);
    get_whole(p, b, &d, &out);
    assert_file_is(in(p, "home/blobs/other"), a->data, SIZE);
    unserve(a);
    drop(p, &out, b);
}

static void test_range(void **state)
{
    struct place *p = *state;
    struct server *s = serve(SIZE, break_each);
    struct download d = want(s, true, true);
    uint8_t *bad = malloc(SIZE);
    memset(bad, 0, SIZE);
    static const uint64_t rows[][2] = { { 0, 0 }, { 1000, 300000 }, { 2 << 20, (3 << 20) - 1 }, { SIZE - 1, SIZE - 1 },
                                        { 0, SIZE - 1 } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        FILE *f = fopen(write_file(in(p, "bad"), bad, SIZE), "r+");
        ok(download_range(&s->base, &d, rows[i][0], rows[i][1], &file_system, fileno(f), NULL, e));
        fclose(f);
        memcpy(bad + rows[i][0], s->data + rows[i][0], rows[i][1] - rows[i][0] + 1);
        assert_file_is(in(p, "bad"), bad, SIZE);
        memset(bad, 0, SIZE);
    }
    free(bad);
    unserve(s);
}

/* What is no stretch of the file, cannot be written, is called off, or is of another file by now. */
static void test_no_range(void **state)
{
    struct place *p = *state;
    static const struct {
        uint64_t first, last;
        bool no_size, no_digest, read_only, cancelled;
        enum err_code code;
        const char *says;
    } rows[] = {
        { 0, SIZE, .code = ERR_INTERNAL, .says = "no such bytes" },
        { 2, 1, .code = ERR_INTERNAL, .says = "no such bytes" },
        { 0, 1, .no_size = true, .code = ERR_INTERNAL, .says = "no such bytes" },
        { 0, 1, .read_only = true, .code = ERR_IO, .says = "writing to the file" },
        { 0, 1, .cancelled = true, .code = ERR_CANCELLED, .says = "cancelled" },
        { 0, SIZE - 1, .no_digest = true, .code = ERR_CONFLICT, .says = "is another one now" },
    };
    write_file(in(p, "bad"), "", 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct server *s = serve(SIZE, rows[i].no_digest ? changes_always : NULL);
        struct download d = want(s, !rows[i].no_digest, !rows[i].no_size);
        atomic_bool cancel = rows[i].cancelled;
        struct store_job job = { .cancel = &cancel };
        FILE *f = fopen(in(p, "bad"), rows[i].read_only ? "r" : "r+");
        alarm(60);
        fails_with(rows[i].code, rows[i].says,
                   download_range(&s->base, &d, rows[i].first, rows[i].last, &file_system, fileno(f), &job, e));
        alarm(0);
        fclose(f);
        unserve(s);
    }
}

/* ---- faults -------------------------------------------------------------------------------------- */

/* After whatever went wrong: nothing is leaked, and the next time all is well. */
static void see_after(struct place *p, struct server *s, const struct download *d, uint64_t live)
{
    struct downloaded out;
    assert_true(entries(p->home, "tmp") <= 2);
    assert_int_equal(mem_live(), live);
    get_whole(p, s, d, &out);
    drop(p, &out, s);
}

static enum err_code try(struct place *p, struct server *s, const struct download *d)
{
    struct downloaded out;
    struct err err = { 0 };
    enum err_code code = download_blob(p->s, &s->base, d, NULL, &out, &err);
    fault_after(0, 0, false);
    mem_fail_after(0, false);
    if (!code)
        assert_whole(p, s, &out);
    else
        assert_true(err.code == code && strlen(err.text) > 10);
    downloaded_finish(p->s, &out);
    return code;
}

static void test_faults(void **state)
{
    struct place *p = *state;
    static const int errors[] = { EIO, ENOSPC };
    struct server *warm = serve(1, NULL); /* the table of leases, which stays */
    struct download first = want(warm, true, true);
    see_after(p, warm, &first, mem_live());
    for (size_t i = 0; i < 2; i++) {
        unsigned bad = 0;
        for (uint64_t n = 1, good = 0; good < 8; n++) { /* a flush or a close may fail unseen */
            struct server *s = serve(300000, NULL);
            struct download d = want(s, true, true);
            uint64_t live = mem_live();
            fault_after(n, errors[i], errors[i] == ENOSPC);
            enum err_code code = try(p, s, &d);
            assert_true(code == ERR_OK || code == ERR_IO);
            good = code ? 0 : good + 1;
            bad += code != ERR_OK;
            see_after(p, s, &d, live);
        }
        assert_true(bad > 5);
    }
}

static void test_no_memory(void **state)
{
    struct place *p = *state;
    unsigned bad = 0;
    for (uint64_t n = 1, good = 0; good < 6; n++) {
        struct server *s = serve(300000, NULL);
        struct download d = want(s, true, true);
        uint64_t live = mem_live();
        mem_fail_after(n, n % 2);
        enum err_code code = try(p, s, &d);
        assert_true(code == ERR_OK || code == ERR_NO_MEMORY);
        good = code ? 0 : good + 1;
        bad += code != ERR_OK;
        see_after(p, s, &d, live);
    }
    assert_true(bad > 10);
}

static int setup_store(void **state)
{
    int bad = setup_in_memory(state);
    if (!bad)
        reopen(*state);
    return bad;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_store, teardown)
    const struct CMUnitTest tests[] = {
        T(test_whole), T(test_broken_off), T(test_ends_early), T(test_resume), T(test_rot), T(test_changed), T(test_unmarked),
        T(test_lies), T(test_lies_to_a_resume),
        T(test_streams_are_not_mixed), T(test_no_end), T(test_room), T(test_sealed), T(test_cut_off), T(test_not_pruned),
        T(test_without_ranges), T(test_login), T(test_redirect), T(test_same_place), T(test_mirrors), T(test_busy),
        T(test_shared), T(test_held_until_the_end), T(test_second_name), T(test_range), T(test_no_range), T(test_faults), T(test_no_memory),
    };
    log_set_level(LOG_ERROR);
    if (prepare_process())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
