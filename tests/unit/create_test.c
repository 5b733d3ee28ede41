/* uploads and create: what is kept, merged and refused, and that a failure anywhere leaves nothing. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "store/commit.h"
#include "store/create.h"
#include "tests/store/place.h"

/* A "model file" here is text: what it begins with is its family. */
static enum err_code look(void *user, const char *const *paths, size_t n, struct str template, struct arena *a, struct store_facts *out,
                          struct err *e)
{
    char text[8] = "";
    (void)user, (void)a;
    assert_true(n > 0);
    int fd = open(paths[0], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, 7) < 4)
        return err_set(e, ERR_FORMAT, "no model");
    close(fd);
    if (strncmp(text, "none", 4) == 0)
        return err_set(e, ERR_FORMAT, "no model");
    *out = llama;
    out->family = strncmp(text, "clip", 4) == 0 ? "clip" : "llama";
    out->capabilities = template.n ? "completion,insert" : "completion,thinking";
    return ERR_OK;
}

static struct digest digest_of(const char *text)
{
    struct digest d;
    assert_int_equal(manifest_digest(str_from(text), &d, NULL), ERR_OK);
    return d;
}

static enum err_code send(struct uploads *u, const char *text, struct err *e)
{
    struct digest d = digest_of(text);
    struct upload *x = NULL;
    enum err_code c = upload_begin(u, &d, true, strlen(text), &x, e);
    if (c || !x)
        return c;
    if ((c = upload_write(x, text, strlen(text) / 2, e)) ||
        (c = upload_write(x, text + strlen(text) / 2, strlen(text) - strlen(text) / 2, e))) {
        upload_abort(x);
        return c;
    }
    return upload_end(x, e);
}

static struct uploads *begin(struct place *p)
{
    struct uploads *u = NULL;
    reopen(p);
    store_set_inspector(p->s, look, NULL);
    ok(uploads_create(p->s, &u, e));
    return u;
}

static enum err_code create(struct place *p, struct uploads *u, const char *name, const char *from,
                            const char *const *files, const struct store_create_text *texts, size_t n_texts,
                            struct err *e)
{
    struct store_create_file f[4] = { 0 };
    size_t n = 0;
    for (; files && files[2 * n]; n++)
        f[n] = (struct store_create_file){ .kind = MEDIA_MODEL, .name = files[2 * n], .has_digest = true,
                                           .digest = digest_of(files[2 * n + 1]), .fd = -1 };
    struct store_create in = { .name = name, .from = from, .files = f, .n_files = n, .texts = texts,
                               .n_texts = n_texts, .uploads = u };
    return store_create(p->s, &in, NULL, e);
}

static void text_is(struct place *p, const char *name, enum media_kind kind, size_t nth, const char *expected)
{
    struct store_model *m = NULL;
    struct arena a = { 0 };
    struct str text = { 0 };
    ok(store_resolve(p->s, name, &m, e));
    ok(store_layer_text(p->s, m, kind, nth, &a, &text, e));
    assert_string_equal(text.n ? text.p : "", expected);
    store_model_destroy(m);
    arena_finish(&a);
}

static void uploads_wait_and_go(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    struct digest d = digest_of("llama one"), other = digest_of("x");
    struct upload *x = NULL;
    uint64_t size = 0;
    ok(send(u, "llama one", e));
    ok(send(u, "llama one", e));
    assert_true(uploads_has(u, &d, &size));
    assert_int_equal(size, 9);
    assert_false(uploads_has(u, &other, NULL));
    assert_int_equal(entries(p->home, "tmp"), 1);
    ok(upload_begin(u, &d, true, 9, &x, e));
    assert_null(x);
    ok(upload_begin(u, &other, true, 3, &x, e));
    fails_with(ERR_INVALID, "more than the 3 bytes", upload_write(x, "abcd", 4, e));
    upload_abort(x);
    ok(upload_begin(u, &other, true, 3, &x, e));
    ok(upload_write(x, "ab", 2, e));
    fails_with(ERR_INVALID, "2 bytes instead of 3", upload_end(x, e));
    ok(upload_begin(u, &other, false, 0, &x, e));
    ok(upload_write(x, "ab", 2, e));
    fails_with(ERR_INVALID, "digest mismatch", upload_end(x, e));
    fails_with(ERR_TOO_LARGE, "at most", upload_begin(u, &other, true, UPLOAD_MAX_BYTES + 1, &x, e));
    assert_int_equal(entries(p->home, "tmp"), 1);
    uploads_prune(u, clock_ns() + (int64_t)(UPLOAD_KEEP_S - 60) * 1000000000);
    assert_true(uploads_has(u, &d, NULL));
    uploads_prune(u, clock_ns() + (int64_t)(UPLOAD_KEEP_S + 60) * 1000000000);
    assert_false(uploads_has(u, &d, NULL));
    assert_int_equal(entries(p->home, "tmp"), 0);
    ok(send(u, "llama two", e));
    uploads_destroy(u);
    assert_int_equal(entries(p->home, "tmp"), 0);
}

/* Two who send the same at once leave one file; and so many may wait, and no more. */
static void uploads_are_counted(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    struct digest d = digest_of("same");
    struct upload *x[2];
    char text[24];
    for (size_t i = 0; i < 2; i++) {
        ok(upload_begin(u, &d, true, 4, &x[i], e));
        ok(upload_write(x[i], "same", 4, e));
    }
    ok(upload_end(x[0], e));
    for (size_t i = 1; i < UPLOADS_MAX; i++) {
        snprintf(text, sizeof text, "upload %zu", i);
        ok(send(u, text, e));
    }
    fails_with(ERR_BUSY, "wait for a model to name them", send(u, "one more", e));
    ok(upload_end(x[1], e));
    assert_int_equal(entries(p->home, "tmp"), UPLOADS_MAX);
    uploads_destroy(u);
}

struct second {
    struct uploads *u;
    struct digest d;
    struct upload_hold hold;
    atomic_bool got, cancel;
    struct store_job job;
};

static void *hold_too(void *user)
{
    struct second *s = user;
    uploads_hold(s->u, &s->d, &s->job, &s->hold);
    atomic_store(&s->got, true);
    return NULL;
}

/* One create holds it: the next waits, and age does not take it away. */
static void what_is_held_stays_and_is_waited_for(void **state)
{
    struct place *p = *state;
    struct second s = { .u = begin(p), .d = digest_of("llama one") };
    struct upload_hold hold;
    pthread_t thread;
    ok(send(s.u, "llama one", e));
    assert_true(uploads_hold(s.u, &s.d, NULL, &hold));
    uploads_prune(s.u, clock_ns() + (int64_t)(UPLOAD_KEEP_S + 60) * 1000000000);
    assert_int_equal(entries(p->home, "tmp"), 1);
    assert_true(uploads_has(s.u, &s.d, NULL));
    assert_int_equal(pthread_create(&thread, NULL, hold_too, &s), 0);
    usleep(50000);
    assert_false(atomic_load(&s.got));
    uploads_let_go(s.u, &hold);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_non_null(s.hold.part);
    uploads_let_go(s.u, &s.hold);
    uploads_prune(s.u, clock_ns() + (int64_t)(UPLOAD_KEEP_S + 60) * 1000000000);
    assert_int_equal(entries(p->home, "tmp"), 0);
    uploads_destroy(s.u);
}

/* Who waits and is cancelled has nothing. */
static void who_waits_may_give_up(void **state)
{
    struct place *p = *state;
    struct second s = { .u = begin(p), .d = digest_of("llama one") };
    struct upload_hold hold;
    pthread_t thread;
    s.job.cancel = &s.cancel;
    ok(send(s.u, "llama one", e));
    assert_true(uploads_hold(s.u, &s.d, NULL, &hold));
    assert_int_equal(pthread_create(&thread, NULL, hold_too, &s), 0);
    usleep(50000);
    assert_false(atomic_load(&s.got));
    atomic_store(&s.cancel, true);
    alarm(60);
    assert_int_equal(pthread_join(thread, NULL), 0);
    alarm(0);
    assert_null(s.hold.entry);
    assert_null(s.hold.path);
    uploads_let_go(s.u, &s.hold);
    uploads_let_go(s.u, &hold);
    uploads_destroy(s.u);
}

struct maker {
    struct place *p;
    struct uploads *u;
    const char *files[5];
    enum err_code code;
};

static void *make(void *user)
{
    struct maker *m = user;
    m->code = create(m->p, m->u, "one", NULL, m->files, NULL, 0, NULL);
    return NULL;
}

/* Two creates of the same two files, which name them in different order: none waits for the other for ever. */
static void two_that_want_the_same_both_end(void **state)
{
    struct place *p = *state;
    struct maker m = { .p = p, .u = begin(p) };
    const char *low = "llama one", *high = "clip two";
    struct upload_hold first, second;
    pthread_t thread;
    struct digest a = digest_of(low), b = digest_of(high);
    bool swap = memcmp(a.b, b.b, sizeof a.b) > 0;
    m.files[0] = "1.gguf"; /* the higher digest is named first */
    m.files[1] = swap ? low : high;
    m.files[2] = "2.gguf";
    m.files[3] = swap ? high : low;
    ok(send(m.u, low, e));
    ok(send(m.u, high, e));
    alarm(60);
    assert_true(uploads_hold(m.u, swap ? &b : &a, NULL, &first));
    assert_int_equal(pthread_create(&thread, NULL, make, &m), 0);
    usleep(100000);
    assert_true(uploads_hold(m.u, swap ? &a : &b, NULL, &second));
    uploads_let_go(m.u, &second);
    uploads_let_go(m.u, &first);
    assert_int_equal(pthread_join(thread, NULL), 0);
    alarm(0);
    assert_int_equal(m.code, ERR_OK);
    uploads_destroy(m.u);
    assert_int_equal(entries(p->home, "tmp"), 0);
}

static void texts_are_replaced_added_and_merged(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    static const char *const file[] = { "m.gguf", "llama one", NULL };
    const struct store_create_text first[] = {
        { MEDIA_TEMPLATE, STR("T1") }, { MEDIA_SYSTEM, STR("S1") }, { MEDIA_LICENSE, STR("L1") },
        { MEDIA_PARAMS, STR("{\"a\":1,\"b\":2}") }, { MEDIA_MESSAGES, STR("[1]") } };
    const struct store_create_text second[] = {
        { MEDIA_SYSTEM, STR("S2") }, { MEDIA_LICENSE, STR("L2") }, { MEDIA_PARAMS, STR("{\"b\":3,\"c\":4}") } };
    ok(send(u, "llama one", e));
    ok(create(p, u, "one", NULL, file, first, 5, e));
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_int_equal(entries(p->home, "blobs"), 1);
    ok(create(p, u, "two", "one", NULL, second, 3, e));
    text_is(p, "two", MEDIA_TEMPLATE, 0, "T1");
    text_is(p, "two", MEDIA_SYSTEM, 0, "S2");
    text_is(p, "two", MEDIA_LICENSE, 0, "L1");
    text_is(p, "two", MEDIA_LICENSE, 1, "L2");
    text_is(p, "two", MEDIA_LICENSE, 2, "");
    text_is(p, "two", MEDIA_PARAMS, 0, "{\"a\":1,\"b\":3,\"c\":4}");
    text_is(p, "two", MEDIA_MESSAGES, 0, "[1]");
    text_is(p, "one", MEDIA_SYSTEM, 0, "S1");
    ok(store_remove(p->s, "one", NULL, e)); /* what two inherited stays */
    text_is(p, "two", MEDIA_TEMPLATE, 0, "T1");
    ok(create(p, u, "two", "two", NULL, second, 1, e)); /* onto itself */
    text_is(p, "two", MEDIA_PARAMS, 0, "{\"a\":1,\"b\":3,\"c\":4}");
    ok(store_remove(p->s, "two", NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 0);
    uploads_destroy(u);
}

/* What a base has that this cannot be merged with: nothing, no object, no JSON. */
static void parameters_of_the_base(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    static const char *const file[] = { "m.gguf", "llama one", NULL };
    const struct store_create_text given = { MEDIA_PARAMS, STR("{\"a\":1}") }, list = { MEDIA_PARAMS, STR("[1]") },
                                   torn = { MEDIA_PARAMS, STR("{") };
    ok(send(u, "llama one", e));
    ok(create(p, u, "none", NULL, file, NULL, 0, e));
    ok(create(p, u, "new", "none", NULL, &given, 1, e));
    text_is(p, "new", MEDIA_PARAMS, 0, "{\"a\":1}");
    ok(create(p, u, "list", "none", NULL, &list, 1, e));
    fails_with(ERR_FORMAT, "the parameters of 'list' are no JSON object", create(p, u, "x", "list", NULL, &given, 1, e));
    ok(create(p, u, "torn", "none", NULL, &torn, 1, e));
    fails_with(ERR_INVALID, "the parameters of the model", create(p, u, "x", "torn", NULL, &given, 1, e));
    fails_with(ERR_INVALID, "the parameters", create(p, u, "x", "new", NULL, &torn, 1, e));
    assert_string_equal(listed(p->s), "torn:latest list:latest new:latest none:latest ");
    uploads_destroy(u);
}

static void can_is(struct place *p, const char *name, const char *expected, const char *in_config)
{
    struct store_model *m = NULL;
    ok(store_resolve(p->s, name, &m, e));
    assert_string_equal(m->facts.capabilities, expected);
    assert_non_null(strstr(m->config, in_config));
    store_model_destroy(m);
}

static void a_template_decides_what_it_can_do(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    const char *const file[] = { "m.gguf", "llama one", NULL };
    const struct store_create_text template = { MEDIA_TEMPLATE, STR("T") }, none = { MEDIA_TEMPLATE, STR("") },
                                   system = { MEDIA_SYSTEM, STR("S") };
    const char *own = "\"capabilities\":[\"completion\",\"thinking\"]", *other = "\"capabilities\":[\"completion\",\"insert\"]";
    ok(send(u, "llama one", e));
    ok(create(p, u, "a", NULL, file, NULL, 0, e));
    can_is(p, "a", "completion,thinking", own);
    ok(create(p, u, "b", NULL, file, &template, 1, e));
    can_is(p, "b", "completion,insert", other);
    ok(create(p, u, "c", "a", NULL, &template, 1, e));
    can_is(p, "c", "completion,insert", other);
    ok(create(p, u, "d", "c", NULL, &system, 1, e));
    can_is(p, "d", "completion,insert", other);
    ok(create(p, u, "f", "d", NULL, &none, 1, e)); /* the file's again */
    can_is(p, "f", "completion,thinking", own);
    struct store_model *m = NULL;
    ok(store_resolve(p->s, "f", &m, e));
    assert_null(strstr(m->manifest, "template"));
    store_model_destroy(m);
    uploads_destroy(u);
}

static void files_are_told_apart(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    struct store_model *m = NULL;
    static const char *const texts[] = { "llama one", "llama two", "clip one", "none at all" };
    static const char *const with_clip[] = { "a.gguf", "llama one", "b.gguf", "clip one", NULL };
    static const char *const shards[] = { "x-00001-of-00002.gguf", "llama one", "x-00002-of-00002.gguf", "llama two", NULL };
    static const char *const half[] = { "x-00001-of-00002.gguf", "llama one", NULL };
    static const char *const both[] = { "a.gguf", "llama one", "b.gguf", "llama two", NULL };
    static const char *const clip[] = { "b.gguf", "clip one", NULL }, *const junk[] = { "j.gguf", "none at all", NULL };
    static const char *const gone[] = { "g.gguf", "never sent", NULL };
    for (size_t i = 0; i < 4; i++)
        ok(send(u, texts[i], e));
    fails_with(ERR_INVALID, "2 parts, and 1 came", create(p, u, "x", NULL, half, NULL, 0, e));
    fails_with(ERR_INVALID, "two models", create(p, u, "x", NULL, both, NULL, 0, e));
    fails_with(ERR_INVALID, "no file of 'x' is a model", create(p, u, "x", NULL, clip, NULL, 0, e));
    fails_with(ERR_FORMAT, "j.gguf", create(p, u, "x", NULL, junk, NULL, 0, e));
    fails_with(ERR_NOT_FOUND, "upload it first", create(p, u, "x", NULL, gone, NULL, 0, e));
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "tmp"), 4); /* all of them wait as before */
    ok(create(p, u, "v", NULL, with_clip, NULL, 0, e));
    ok(store_resolve(p->s, "v", &m, e));
    assert_int_equal(m->n_files, 2);
    assert_int_equal(m->files[1].kind, MEDIA_PROJECTOR);
    assert_string_equal(m->facts.family, "llama");
    store_model_destroy(m);
    ok(create(p, u, "s", NULL, shards, NULL, 0, e)); /* one of them is in the store by now */
    ok(store_resolve(p->s, "s", &m, e));
    assert_int_equal(m->n_files, 2);
    store_model_destroy(m);
    uploads_destroy(u);
}

#define X16 "0123456789abcdef"

/* Of requests, and of what the catalog has of a base, which may come from anywhere. */
static void what_cannot_be_created(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    static const char *const file[] = { "m.gguf", "llama one", NULL }, *const text[] = { "t.gguf", "a text", NULL };
    static const struct {
        const char *change, *sentence;
    } rows[] = { { "blobs SET size = 2, body = CAST('{}' AS BLOB) WHERE digest = (SELECT digest FROM layers WHERE position = 0)", NULL },
                 { "blobs SET size = 2, body = CAST('[]' AS BLOB) WHERE digest = (SELECT digest FROM layers WHERE position = 0)",
                   "the config of 'm' is no JSON object" },
                 { "models SET manifest = CAST('{\"layers\":[{\"digest\":\"sha256:" X16 X16 X16 X16 "\"}]}' AS BLOB)", "the manifest of 'm' is damaged" },
                 { "models SET manifest = CAST('{\"layers\":[{\"mediaType\":\"x\"}]}' AS BLOB)", "the manifest of 'm' is damaged" },
                 { "models SET manifest = CAST('{\"layers\":[{\"mediaType\":\"x\",\"digest\":\"sha256:0\"}]}' AS BLOB)",
                   "the manifest of 'm' is damaged" } };
    struct store_create_file many_files[STORE_MAX_FILES + 1] = { 0 };
    struct store_create_text many_texts[CREATE_MAX_TEXTS + 1] = { 0 };
    const struct store_create_text system = { MEDIA_SYSTEM, STR("a text") };
    char *long_text = calloc(1, MEDIA_TEXT_MAX + 2), change[400];
    assert_non_null(long_text);
    memset(long_text, 'x', MEDIA_TEXT_MAX + 1);
    const struct store_create_text too_long = { MEDIA_SYSTEM, { long_text, MEDIA_TEXT_MAX + 1 } };
    struct store_create in_ = { .name = "x", .files = many_files, .n_files = STORE_MAX_FILES + 1, .texts = many_texts,
                                .n_texts = CREATE_MAX_TEXTS + 1 };
    fails_with(ERR_INVALID, "at most 1024 files, not 1025", store_create(p->s, &in_, NULL, e));
    in_.n_files = 0;
    fails_with(ERR_INVALID, "at most 1024 texts, not 1025", store_create(p->s, &in_, NULL, e));
    in_.n_texts = 0;
    fails_with(ERR_INVALID, "neither 'from' or 'files'", store_create(p->s, &in_, NULL, e));
    ok(send(u, "llama one", e));
    ok(create(p, u, "m", NULL, file, &system, 1, e));
    for (size_t i = 0; i < 5; i++) /* what could be pulled nowhere is not made */
        many_texts[i] = (struct store_create_text){ MEDIA_LICENSE, { long_text, MEDIA_TEXT_MAX - i } };
    fails_with(ERR_TOO_LARGE, "its texts have more than", create(p, u, "x", "m", NULL, many_texts, 5, e));
    fails_with(ERR_TOO_LARGE, "the model's system has 4194305 bytes", create(p, u, "x", "m", NULL, &too_long, 1, e));
    fails_with(ERR_INVALID, "is a text, and no model file", create(p, u, "x", NULL, text, NULL, 0, e));
    uploads_destroy(u);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        store_close(p->s);
        p->s = NULL;
        snprintf(change, sizeof change, "UPDATE %s", rows[i].change);
        sql(in(p, "home/db"), change);
        u = begin(p);
        if (rows[i].sentence) {
            fails_with(ERR_FORMAT, rows[i].sentence, create(p, u, "x", "m", NULL, &system, 1, e));
        } else {
            ok(create(p, u, "bare", "m", NULL, &system, 1, e));
            can_is(p, "bare", "completion,thinking", "{}"); /* what it did not say of them it does not say now */
            ok(store_remove(p->s, "bare", NULL, e));
        }
        uploads_destroy(u);
    }
    free(long_text);
}

static void stop_at_the_end(void *user, const struct store_event *ev)
{
    if (ev->status && strcmp(ev->status, "writing manifest") == 0)
        atomic_store((atomic_bool *)user, true);
}

static void it_can_be_cancelled_at_the_end(void **state)
{
    struct place *p = *state;
    struct uploads *u = begin(p);
    atomic_bool cancel = false;
    struct store_create_file file = { .kind = MEDIA_MODEL, .name = "m.gguf", .has_digest = true,
                                      .digest = digest_of("llama one"), .fd = -1 };
    struct store_create in_ = { .name = "x", .files = &file, .n_files = 1, .uploads = u,
                                .job = { .event = stop_at_the_end, .user = &cancel, .cancel = &cancel } };
    ok(send(u, "llama one", e));
    fails_with(ERR_CANCELLED, "was cancelled", store_create(p->s, &in_, NULL, e));
    assert_string_equal(listed(p->s), "");
    uploads_destroy(u);
}

static enum err_code send_in_two(struct uploads *u, const struct digest *d, struct err *e)
{
    struct upload *x = NULL;
    enum err_code code = upload_begin(u, d, true, 9, &x, e);
    if (!code)
        code = upload_write(x, "llama ", 6, e);
    if (!code)
        code = upload_write(x, "one", 3, e);
    if (!code)
        return upload_end(x, e);
    upload_abort(x);
    return code;
}

/* No failure of an upload's own operations is passed over, as its bytes might not be there; but for the one that reserves
 * room, which some file systems cannot do. */
static void an_upload_fails_with_each_operation(void **state)
{
    struct place *p = *state;
    struct digest d = digest_of("llama one");
    unsigned ignored = 0;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct uploads *u = begin(p);
        struct err e = { 0 };
        uint64_t before = fault_count();
        fault_after(n, EIO, false);
        enum err_code code = send_in_two(u, &d, &e);
        failed = fault_count() - before >= n;
        fault_after(0, 0, false);
        ignored += failed && !code;
        assert_true(code == (failed ? ERR_IO : ERR_OK) || ignored == 1);
        assert_int_equal(entries(p->home, "tmp"), code ? 0 : 1);
        uploads_destroy(u);
        assert_true(n < 100);
    }
    assert_int_equal(ignored, 1);
}

/* Sends and creates, from nothing. */
static enum err_code whole(struct place *p, struct uploads *u, struct err *e)
{
    static const char *const file[] = { "m.gguf", "llama one", NULL };
    const struct store_create_text texts[] = { { MEDIA_SYSTEM, STR("S") }, { MEDIA_PARAMS, STR("{\"b\":3}") } };
    enum err_code c = send(u, "llama one", e);
    if (!c)
        c = create(p, u, "m", NULL, file, texts, 2, e);
    return c ? c : create(p, u, "n", "m", NULL, texts, 2, e);
}

static void check_after_failure(struct place *p, struct uploads *u)
{
    struct err e;
    const char *names = listed(p->s);
    assert_true(!*names || strcmp(names, "m:latest ") == 0 || strcmp(names, "n:latest m:latest ") == 0);
    uploads_destroy(u);
    assert_int_equal(entries(p->home, "tmp"), 0);
    store_remove(p->s, "n", NULL, &e);
    store_remove(p->s, "m", NULL, &e);
    reopen(p);
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "blobs"), 0);
}

static void every_allocation_may_fail(void **state)
{
    struct place *p = *state;
    enum err_code c = ERR_NO_MEMORY;
    for (uint64_t n = 1; c; n += 1 + n / 40) {
        struct uploads *u = begin(p);
        struct err e = { 0 };
        mem_fail_after(n, false);
        c = whole(p, u, &e);
        mem_fail_after(0, false);
        assert_true(c == ERR_OK || c == ERR_NO_MEMORY || c == ERR_NOT_FOUND);
        check_after_failure(p, u);
        assert_true(n < 100000);
    }
}

static void every_file_operation_may_fail(void **state)
{
    struct place *p = *state;
    enum err_code c = ERR_IO;
    for (uint64_t n = 1; c; n++) {
        struct uploads *u = begin(p);
        struct err e = { 0 };
        uint64_t before = fault_count();
        fault_after(n, n % 2 ? EIO : ENOSPC, false);
        c = whole(p, u, &e);
        fault_after(0, 0, false);
        if (!c && fault_count() - before >= n)
            c = ERR_IO; /* one that did not matter: go on */
        check_after_failure(p, u);
        assert_true(n < 5000);
    }
}

int main(void)
{
    if (prepare_process())
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(uploads_wait_and_go, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(uploads_are_counted, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(what_is_held_stays_and_is_waited_for, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(who_waits_may_give_up, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(two_that_want_the_same_both_end, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(texts_are_replaced_added_and_merged, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(a_template_decides_what_it_can_do, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(parameters_of_the_base, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_created, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_cancelled_at_the_end, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(files_are_told_apart, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(an_upload_fails_with_each_operation, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(every_file_operation_may_fail, setup_in_memory, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
