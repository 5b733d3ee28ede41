/* A model made from another one's (store/derive.h). */
#include <errno.h>
#include <unistd.h>

#include "store/commit.h"
#include "store/derive.h"
#include "store/manifest.h"
#include "tests/store/place.h"

#define OLD_CONFIG \
    "{\"model_format\":\"gguf\",\"file_type\":\"F16\",\"renderer\":\"x\",\"rootfs\":{\"type\":\"layers\"," \
    "\"diff_ids\":[\"sha256:00\"]}}"

/* ---- who writes, and who looks ------------------------------------------------------------------ */

struct writer {
    struct derive_writer w;
    uint64_t planned;
    size_t pieces;            /* of "new!" */
    size_t fail_at, cancel_at; /* pieces; 0: never */
    atomic_bool *cancel;
    char path[512];
};

static enum err_code plan(void *user, const char *path, uint64_t *bytes, const char **status, struct err *e)
{
    struct writer *w = user;
    (void)e;
    snprintf(w->path, sizeof w->path, "%s", path);
    *bytes = w->planned;
    *status = "quantizing F16 model to Q8_0";
    return ERR_OK;
}

static enum err_code write_pieces(void *user, const struct derive_sink *sink, struct err *e)
{
    struct writer *w = user;
    enum err_code c = ERR_OK;
    for (size_t i = 1; !c && i <= w->pieces; i++) {
        if (i == w->fail_at)
            return err_set(e, ERR_FORMAT, "a weight is no number");
        if (i == w->cancel_at)
            atomic_store(w->cancel, true);
        c = sink->write(sink->user, "new!", 4, e);
    }
    return c;
}

static void writer_init(struct writer *w, size_t pieces)
{
    *w = (struct writer){ .w = { plan, write_pieces, w }, .planned = 4 * pieces, .pieces = pieces };
}

static const char *quantization = "Q8_0"; /* that the inspector tells of */

static enum err_code inspect(void *user, const char *const *paths, size_t n, struct str template, struct arena *a,
                             struct store_facts *out, struct err *e)
{
    (void)template;
    (void)user;
    (void)a;
    (void)e;
    size_t bytes;
    char *file = read_file(paths[0], &bytes);
    assert_int_equal(n, 1);
    assert_memory_equal(file, "new!", 4);
    free(file);
    *out = llama;
    out->quantization = quantization;
    return ERR_OK;
}

static void open_with_inspector(struct place *p)
{
    reopen(p);
    store_set_inspector(p->s, inspect, NULL);
}

struct news {
    char text[512];
    uint64_t completed, total;
};

static void hear(void *user, const struct store_event *ev)
{
    struct news *n = user;
    if (!strstr(n->text, ev->status))
        snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%s. ", ev->status);
    if (ev->total) {
        assert_true(ev->completed >= n->completed && ev->completed <= ev->total);
        n->completed = ev->completed;
        n->total = ev->total;
    }
}

/* ---- a model with texts ------------------------------------------------------------------------- */

struct text_row {
    enum media_kind kind;
    const char *text;
};
static const struct text_row texts[] = { { MEDIA_TEMPLATE, "{{ .Prompt }}" }, { MEDIA_LICENSE, "one" },
                                         { MEDIA_LICENSE, "two" }, { MEDIA_PARAMS, "{\"stop\":[\"x\"]}" } };
enum { TEXTS = 4 };

/* Layers: a licence's place is before the weights', the others' behind. */
static void add_with_texts(struct place *p, const char *model, const char *weights)
{
    struct commit_layer v[TEXTS + 2] = { 0 };
    struct manifest_layer rows[TEXTS + 2] = { 0 };
    struct store_facts facts = llama;
    struct blob_part part = { 0 };
    struct buf manifest;
    struct name name;
    const char *path = write_file(in(p, "weights"), weights, strlen(weights));
    FILE *f = fopen(path, "rb");
    struct blob_meter meter = { 0 };
    struct blob_source from = { fileno(f), path };
    ok(blob_stage(&p->s->blobs, &from, &meter, &part, NULL, e));
    fclose(f);
    v[0] = (struct commit_layer){ .media_type = media_type_of(MEDIA_CONFIG), .text = STR(OLD_CONFIG) };
    for (size_t i = 0; i < TEXTS; i++)
        v[i < 2 ? i + 1 : i + 2] = (struct commit_layer){ .media_type = media_type_of(texts[i].kind),
                                                          .text = str_from(texts[i].text) };
    v[3] = (struct commit_layer){ .media_type = media_type_of(MEDIA_MODEL), .where = COMMIT_PART,
                                  .part = &part, .digest = part.digest, .size = part.size };
    for (size_t i = 0; i < TEXTS + 2; i++) {
        if (i != 3) {
            v[i].where = COMMIT_TEXT;
            v[i].size = v[i].text.n;
            ok(manifest_digest(v[i].text, &v[i].digest, e));
        }
        rows[i] = (struct manifest_layer){ .media_type = v[i].media_type, .digest = v[i].digest, .size = v[i].size };
    }
    struct commit c = { .name = &name, .layers = v, .n_layers = TEXTS + 2, .facts = &facts, .kind = "registry",
                        .source = "https://registry.example/m" };
    ok(name_parse(str_from(model), &name, e));
    ok(store_facts_check(&facts, e));
    buf_init(&manifest, MANIFEST_MAX_BYTES);
    ok(manifest_write(&rows[0], rows + 1, TEXTS + 1, &manifest, &c.digest, e));
    c.manifest = buf_str(&manifest);
    ok(store_commit(p->s, &c, NULL, e));
    buf_finish(&manifest);
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void all_but_the_weights_stays(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    struct writer w;
    struct news news = { 0 };
    struct arena a = { 0 };
    struct manifest old, new;
    open_with_inspector(p);
    add_with_texts(p, "big:f16", "old weights");
    ok(store_resolve(p->s, "big:f16", &m, e));
    ok(manifest_read(str_from(m->manifest), &a, &old, e));
    store_model_destroy(m);
    writer_init(&w, 3);
    struct store_derive in = { .from = "big:f16", .to = "small:q8", .writer = &w.w,
                               .job = { .event = hear, .user = &news } };
    ok(store_derive(p->s, &in, &m, e));
    assert_string_equal(m->name, "small:q8");
    assert_string_equal(m->facts.quantization, "Q8_0");
    assert_string_equal(m->origin, "create");
    assert_string_equal(m->source, "big:f16");
    assert_file_is(m->path, "new!new!new!", 12);
    ok(manifest_read(str_from(m->manifest), &a, &new, e));
    assert_int_equal(new.n_layers, old.n_layers);
    for (size_t i = 0; i < new.n_layers; i++) {
        assert_string_equal(new.layers[i].media_type, old.layers[i].media_type);
        assert_int_equal(digest_eq(&new.layers[i].digest, &old.layers[i].digest), i != 2);
    }
    for (size_t i = 0; i < TEXTS; i++) {
        struct str text;
        ok(store_layer_text(p->s, m, texts[i].kind, i == 2, &a, &text, e));
        assert_true(str_is(text, texts[i].text));
    }
    assert_non_null(strstr(m->config, "\"file_type\":\"Q8_0\""));
    assert_non_null(strstr(m->config, "\"renderer\":\"x\""));
    char digest[DIGEST_TEXT_SIZE];
    digest_text(&new.layers[2].digest, digest);
    assert_non_null(strstr(m->config, digest));
    assert_null(strstr(m->config, "sha256:00\""));
    assert_string_equal(news.text, "quantizing F16 model to Q8_0. verifying the new file. writing manifest. ");
    assert_int_equal(news.completed, 12);
    store_model_destroy(m);
    arena_finish(&a);
    ok(store_remove(p->s, "big:f16", NULL, e)); /* texts are shared: each model keeps its own */
    ok(resolve(p->s, "small:q8", e));
    ok(store_remove(p->s, "small:q8", NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 0);
}

static void a_file_is_made_a_model(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    struct writer w;
    writer_init(&w, 1);
    open_with_inspector(p);
    const char *path = model_file(p, "some file");
    struct store_derive in = { .from_path = path, .to = "made", .writer = &w.w };
    ok(store_derive(p->s, &in, &m, e));
    assert_string_equal(w.path, path);
    assert_string_equal(m->source, path);
    assert_int_equal(m->n_files, 1);
    assert_false(m->by_reference);
    assert_file_is(path, "some file", 9);
    store_model_destroy(m);
}

static void what_fails_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct writer w;
    atomic_bool cancel = false;
    open_with_inspector(p);
    add_with_texts(p, "big:f16", "old weights");
    size_t blobs = entries(p->home, "blobs");
    struct store_derive in = { .from = "big:f16", .to = "small", .writer = &w.w, .job = { .cancel = &cancel } };
    writer_init(&w, 5);
    w.fail_at = 3;
    fails_with(ERR_FORMAT, "no number", store_derive(p->s, &in, NULL, e));
    writer_init(&w, 5);
    w.planned = 12;
    fails_with(ERR_INTERNAL, "more bytes", store_derive(p->s, &in, NULL, e));
    w.planned = 24;
    fails_with(ERR_INTERNAL, "20 bytes came of 24", store_derive(p->s, &in, NULL, e));
    w.planned = UINT64_C(1) << 60;
    fails_with(ERR_IO, "1152921504606846976 bytes, and the store's disk has", store_derive(p->s, &in, NULL, e));
    writer_init(&w, 5);
    w.cancel_at = 2;
    w.cancel = &cancel;
    fails_with(ERR_CANCELLED, "cancelled", store_derive(p->s, &in, NULL, e));
    atomic_store(&cancel, false);
    writer_init(&w, 5);
    quantization = "\xff";
    fails_with(ERR_INVALID, "quantisation is not valid UTF-8", store_derive(p->s, &in, NULL, e));
    quantization = "Q8_0";
    assert_int_equal(entries(p->home, "tmp"), 0);
    struct blob_part part;
    struct buf chunks;
    writer_init(&w, 5);
    w.fail_at = 3;
    buf_init(&chunks, 4096);
    fails_with(ERR_FORMAT, "no number", derive_part(p->s, "weights", &w.w, NULL, &part, &chunks, e));
    assert_string_equal(part.name, "");
    buf_finish(&chunks);
    writer_init(&w, 5);
    in.to = "a@b";
    fails_with(ERR_INVALID, "", store_derive(p->s, &in, NULL, e));
    in.to = "small";
    in.from = "nosuch";
    fails_with(ERR_NOT_FOUND, "nosuch", store_derive(p->s, &in, NULL, e));
    assert_string_equal(listed(p->s), "big:f16 ");
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_int_equal(entries(p->home, "blobs"), blobs);
    assert_int_equal(store_lease(p->s, &(struct digest){ { 0 } }, NULL, NULL), ERR_CONFLICT);
    ok(store_remove(p->s, "big:f16", NULL, e)); /* no lease is left behind */
    assert_int_equal(entries(p->home, "blobs"), 0);
}

/* Bytes that are free; UINT64_MAX: it is not known. */
static uint64_t room;

static int space(int fd, uint64_t *bytes, bool *in_memory)
{
    (void)fd;
    *bytes = room;
    *in_memory = false;
    return room == UINT64_MAX ? -1 : 0;
}

static void room_for_the_catalog_is_left(void **state)
{
    struct place *p = *state;
    struct writer w;
    static const struct {
        uint64_t room;
        enum err_code code;
    } rows[] = { { 1, ERR_IO }, { (16 << 20) + 7, ERR_IO }, { (16 << 20) + 8, ERR_OK }, { UINT64_MAX, ERR_OK } };
    struct file_ops ops = file_system;
    ops.space = space;
    ok(store_open_with(&ops, p->home, &p->s, e));
    store_set_inspector(p->s, inspect, NULL);
    add_with_texts(p, "big:f16", "old weights");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct store_derive in = { .from = "big:f16", .to = "small", .writer = &w.w };
        writer_init(&w, 2);
        room = rows[i].room;
        assert_int_equal(store_derive(p->s, &in, NULL, NULL), rows[i].code);
    }
    struct digest kept;
    ok(manifest_digest(STR("one"), &kept, e));
    assert_false(lease_is_held(p->s->leases, &kept)); /* what it was made of was let go */
    ok(store_remove(p->s, "big:f16", NULL, e));
    ok(store_remove(p->s, "small", NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 0);
    store_close(p->s);
    p->s = NULL;
}

static void no_allocation_that_fails_leaves_a_trace(void **state)
{
    struct place *p = *state;
    struct writer w;
    open_with_inspector(p);
    add_with_texts(p, "big:f16", "old weights");
    enum err_code code = ERR_NO_MEMORY;
    for (uint64_t n = 1; code; n++) {
        struct err e = { 0 };
        struct store_derive in = { .from = "big:f16", .to = "small", .writer = &w.w };
        writer_init(&w, 2);
        mem_fail_after(n, false);
        code = store_derive(p->s, &in, NULL, &e);
        mem_fail_after(0, false);
        if (code && code != ERR_NO_MEMORY)
            fail_msg("allocation %d: %s", (int)n, e.text);
        assert_string_equal(listed(p->s), code ? "big:f16 " : "small:latest big:f16 ");
        assert_int_equal(entries(p->home, "tmp"), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_but_the_weights_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_made_a_model, setup, teardown),
        cmocka_unit_test_setup_teardown(what_fails_leaves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(room_for_the_catalog_is_left, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(no_allocation_that_fails_leaves_a_trace, setup_in_memory, teardown),
    };
    if (prepare_process())
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
