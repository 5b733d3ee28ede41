/* commit, leases, media types, chunk hashes, the catalog of an older program; real SQLite, real files. */
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include "store/commit.h"
#include "store/download.h"
#include "store/lease.h"
#include "tests/store/place.h"

/* ---- an older catalog ------------------------------------------------------------------------ */

#define SCHEMA_1 "7997edac96bbe05d41a8c2e3b4f01ee4e435208340d97f4ec4efd301f18210bd"

/* home/db as a Hearth of schema 1 left it, with one model in blobs/ and one by reference. */
static void make_old_store(struct place *p)
{
    char hex[65], text[2048];
    const char *db = in(p, "home/db");
    size_t n;
    char *schema = read_file("store/schema.sql", &n);
    schema[n] = '\0';
    hex_of(schema, n, hex);
    assert_string_equal(hex, SCHEMA_1); /* what was released stays as it is */
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    unlink(db);
    sql(db, "PRAGMA journal_mode = WAL; PRAGMA application_id = 1213355080; PRAGMA user_version = 1");
    sql(db, schema);
    free(schema);
    struct stat st;
    char blob[512], one[65], two[65];
    hex_of("one", 3, one);
    hex_of("two", 3, two);
    snprintf(blob, sizeof blob, "%s/blobs/sha256-%s", p->home, one);
    write_file(blob, "one", 3);
    assert_int_equal(stat(blob, &st), 0);
    long long ino = (long long)st.st_ino, ns = (long long)file_id_of(&st).mtime_ns;
    const char *file = model_file(p, "two");
    assert_int_equal(stat(file, &st), 0);
    snprintf(text, sizeof text,
             "INSERT INTO models VALUES (1, randomblob(32), x'7b7d', 3, 'gguf', 'llama', '1', 'F16', '', 1, 2, 3, 1),"
             " (2, randomblob(32), x'7b7d', 3, 'gguf', 'qwen2', '1', 'F16', '', 1, 2, 3, 1);"
             "INSERT INTO tags VALUES (1, 'registry.ollama.ai', 'library', 'a', 'latest', 1, 5),"
             " (2, 'registry.ollama.ai', 'library', 'r', 'latest', 2, 6);"
             "INSERT INTO blobs VALUES (x'%s', 3, NULL, 1), (x'%s', 3, NULL, 1),"
             " (x'0000000000000000000000000000000000000000000000000000000000000000', 2, x'7b7d', 1);"
             "INSERT INTO layers SELECT id, 0, 'application/vnd.docker.container.image.v1+json', zeroblob(32)"
             "  FROM models;"
             "INSERT INTO layers VALUES (1, 1, 'application/vnd.ollama.image.model', x'%s'),"
             " (2, 1, 'application/vnd.ollama.image.model', x'%s');"
             "INSERT INTO files VALUES (x'%s', x'', %lld, %lld, 1), (x'%s', CAST('%s' AS BLOB), %lld, %lld, 1);"
             "INSERT INTO provenance VALUES (1, 'import', CAST('/old/one' AS BLOB), '', 7)",
             one, two, one, two, one, ino, ns, two, file, (long long)st.st_ino,
             (long long)file_id_of(&st).mtime_ns);
    sql(db, text);
}

static void schema_1_is_migrated_with_all_that_is_in_it(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    make_old_store(p);
    reopen(p);
    assert_string_equal(listed(p->s), "r:latest a:latest ");
    ok(store_resolve(p->s, "a", &m, e));
    assert_string_equal(m->source, "/old/one");
    assert_string_equal(m->revision, "");
    assert_string_equal(m->origin, "import");
    assert_string_equal(m->facts.license, "");
    assert_string_equal(m->config, "{}");
    assert_int_equal(m->n_files, 1);
    assert_int_equal(m->files[0].kind, MEDIA_MODEL);
    assert_false(m->by_reference);
    store_model_destroy(m);
    ok(store_resolve(p->s, "r", &m, e));
    assert_true(m->by_reference);
    store_model_destroy(m);
    ok(store_remove(p->s, "a", NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 0);
    add(p, "n", "three", STORE_COPY);
    reopen(p);
    assert_string_equal(listed(p->s), "n:latest r:latest ");
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "PRAGMA user_version"), 2);
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM chunks"), 1);
}

/* Each statement of the step may be the last: the next program finds schema 1, whole, or schema 2. */
static void a_migration_that_fails_changes_nothing(void **state)
{
    struct place *p = *state;
    make_old_store(p);
    enum err_code code = ERR_NO_MEMORY;
    uint64_t n = 0;
    while (code) {
        struct err e = { 0 };
        mem_fail_after(++n, false);
        code = store_open_with(&fault_ops, p->home, &p->s, &e);
        mem_fail_after(0, false);
        if (!code)
            break;
        assert_int_equal(code, ERR_NO_MEMORY);
        int64_t version = sql_int(in(p, "home/db"), "PRAGMA user_version");
        int64_t has = sql_int(in(p, "home/db"), "SELECT count(*) FROM sqlite_schema WHERE name = 'chunks'");
        assert_true((version == 1 && !has) || (version == 2 && has));
    }
    assert_true(n > 20);
    assert_string_equal(listed(p->s), "r:latest a:latest ");
}

/* ---- commits --------------------------------------------------------------------------------- */

struct text_layer {
    enum media_kind kind;
    const char *text;
};

/* A model of a staged file and texts, as a pull commits it. */
static void commit_with(struct place *p, const char *model, struct blob_part *part,
                        const struct text_layer *texts, size_t n, struct store_model **out)
{
    struct commit_layer layers[8] = { 0 };
    struct manifest_layer rows[8] = { 0 };
    struct name name;
    struct buf manifest;
    struct model_box *box = NULL;
    struct commit c = { .name = &name, .layers = layers, .n_layers = n + 2, .facts = &llama, .kind = "registry",
                        .source = "https://registry.example/v2/m", .revision = "r1" };
    struct store_facts facts = llama;
    ok(store_facts_check(&facts, e));
    c.facts = &facts;
    layers[0].media_type = media_type_of(MEDIA_CONFIG);
    layers[0].text = STR("{\"model_format\":\"gguf\"}");
    for (size_t i = 0; i < n; i++) {
        layers[i + 2].media_type = media_type_of(texts[i].kind);
        layers[i + 2].text = str_from(texts[i].text);
    }
    for (size_t i = 0; i < n + 2; i++)
        if (i != 1) {
            layers[i].where = COMMIT_TEXT;
            layers[i].size = layers[i].text.n;
            ok(manifest_digest(layers[i].text, &layers[i].digest, e));
        }
    layers[1] = (struct commit_layer){ .media_type = media_type_of(MEDIA_MODEL), .digest = part->digest,
                                       .size = part->size, .where = COMMIT_PART, .part = part };
    for (size_t i = 0; i < n + 2; i++)
        rows[i] = (struct manifest_layer){ .media_type = layers[i].media_type, .digest = layers[i].digest,
                                           .size = layers[i].size };
    buf_init(&manifest, MANIFEST_MAX_BYTES);
    ok(manifest_write(&rows[0], rows + 1, n + 1, &manifest, &c.digest, e));
    c.manifest = buf_str(&manifest);
    ok(store_new_name(model, &name, e));
    ok(store_commit(p->s, &c, out ? &box : NULL, e));
    buf_finish(&manifest);
    if (out)
        *out = &box->model;
}

static struct blob_part stage(struct place *p, const char *text)
{
    struct blob_part part;
    struct digest d;
    int fd = -1;
    ok(blob_part_create(&p->s->blobs, strlen(text), &part, &fd, e));
    assert_int_equal(p->s->ops->write(fd, text, strlen(text), 0), strlen(text));
    ok(manifest_digest(str_from(text), &d, e));
    fails_with(ERR_IO, "bytes, not", blob_part_seal(&p->s->blobs, &part, fd, &d, strlen(text) + 1, e));
    ok(blob_part_seal(&p->s->blobs, &part, fd, &d, strlen(text), e));
    close(fd);
    return part;
}

static void texts_live_in_the_catalog(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    struct arena a = { 0 };
    struct str text;
    static const struct text_layer texts[] = {
        { MEDIA_TEMPLATE, "{{ .Prompt }}" }, { MEDIA_LICENSE, "one" }, { MEDIA_LICENSE, "two" }, { MEDIA_SYSTEM, "" }
    };
    reopen(p);
    struct blob_part part = stage(p, "model bytes");
    commit_with(p, "m", &part, texts, 4, &m);
    assert_string_equal(part.name, "");
    assert_int_equal(m->n_files, 1);
    assert_false(m->by_reference);
    assert_int_equal(m->size, 11 + 13 + 3 + 3);
    assert_string_equal(m->revision, "r1");
    assert_string_equal(m->origin, "registry");
    assert_string_equal(m->config, "{\"model_format\":\"gguf\"}");
    ok(store_layer_text(p->s, m, MEDIA_TEMPLATE, 0, &a, &text, e));
    assert_string_equal(text.p, "{{ .Prompt }}");
    ok(store_layer_text(p->s, m, MEDIA_LICENSE, 1, &a, &text, e));
    assert_string_equal(text.p, "two");
    assert_int_equal(text.n, 3);
    ok(store_layer_text(p->s, m, MEDIA_SYSTEM, 0, &a, &text, e));
    assert_non_null(text.p);
    assert_int_equal(text.n, 0);
    ok(store_layer_text(p->s, m, MEDIA_LICENSE, 2, &a, &text, e));
    assert_null(text.p);
    ok(store_layer_text(p->s, m, MEDIA_PARAMS, 0, &a, &text, e));
    assert_null(text.p);
    arena_finish(&a);
    store_model_destroy(m);
    assert_int_equal(entries(p->home, "blobs"), 1);
    ok(store_remove(p->s, "m", NULL, e));
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM blobs"), 0);
}

/* The same bytes are one model's licence and another's file. */
static void a_text_may_be_a_file_too(void **state)
{
    struct place *p = *state;
    static const struct text_layer texts[] = { { MEDIA_LICENSE, "both" } };
    for (int order = 0; order < 2; order++) {
        reopen(p);
        if (order)
            add(p, "file", "both", STORE_COPY);
        struct blob_part part = stage(p, "other");
        commit_with(p, "text", &part, texts, 1, NULL);
        if (!order)
            add(p, "file", "both", STORE_COPY);
        ok(resolve(p->s, "file", e));
        ok(resolve(p->s, "text", e));
        ok(store_remove(p->s, "file", NULL, e));
        ok(store_remove(p->s, "text", NULL, e));
        assert_int_equal(entries(p->home, "blobs"), 0);
    }
}

static void what_does_not_hash_to_its_digest_is_not_committed(void **state)
{
    struct place *p = *state;
    struct name name;
    struct store_facts facts = llama;
    reopen(p);
    ok(store_facts_check(&facts, e));
    ok(store_new_name("m", &name, e));
    struct commit_layer layers[2] = { { .media_type = "x", .where = COMMIT_TEXT, .text = STR("{}"), .size = 2 },
                                      { .media_type = media_type_of(MEDIA_MODEL), .where = COMMIT_THERE } };
    struct commit c = { .name = &name, .manifest = STR("{}"), .layers = layers, .n_layers = 2, .facts = &facts,
                        .kind = "url", .source = "u" };
    fails_with(ERR_CONFLICT, "not what its digest says", store_commit(p->s, &c, NULL, e));
    ok(manifest_digest(STR("{}"), &layers[0].digest, e));
    fails_with(ERR_CONFLICT, "the model's manifest is not", store_commit(p->s, &c, NULL, e));
    c.digest = layers[0].digest;
    fails_with(ERR_CONFLICT, "no longer in the store", store_commit(p->s, &c, NULL, e));
    add(p, "there", "bytes", STORE_COPY);
    ok(manifest_digest(STR("bytes"), &layers[1].digest, e));
    layers[1].size = 6;
    fails_with(ERR_CONFLICT, "no longer in the store as it was", store_commit(p->s, &c, NULL, e));
    ok(store_remove(p->s, "there", NULL, e));
    layers[0].size = 3;
    fails_with(ERR_TOO_LARGE, "a text of the model", store_commit(p->s, &c, NULL, e));
    layers[0].size = MEDIA_TEXT_MAX + 1;
    layers[0].text = (struct str){ calloc(1, layers[0].size), layers[0].size };
    ok(manifest_digest(layers[0].text, &layers[0].digest, e));
    fails_with(ERR_TOO_LARGE, "has 4194305 bytes", store_commit(p->s, &c, NULL, e));
    free((char *)layers[0].text.p);
    c.n_layers = 1;
    fails_with(ERR_INVALID, "at least one file", store_commit(p->s, &c, NULL, e));
    assert_string_equal(listed(p->s), "");
}

/* ---- leases ---------------------------------------------------------------------------------- */

static void what_is_leased_stays(void **state)
{
    struct place *p = *state;
    struct digest d;
    uint64_t size = 0, freed = 1;
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(manifest_digest(STR("bytes"), &d, e));
    ok(store_lease(p->s, &d, &size, e));
    assert_int_equal(size, 5);
    ok(store_lease(p->s, &d, NULL, e));
    ok(store_remove(p->s, "m", &freed, e));
    assert_int_equal(freed, 0);
    assert_int_equal(entries(p->home, "blobs"), 1);
    store_release(p->s, &d);
    assert_int_equal(entries(p->home, "blobs"), 1);
    ok(store_lease(p->s, &d, NULL, e)); /* it is still there for who asks */
    store_release(p->s, &d);
    store_release(p->s, &d);
    assert_int_equal(entries(p->home, "blobs"), 0);
    assert_int_equal(store_lease(p->s, &d, NULL, NULL), ERR_CONFLICT);
    /* a process that is gone leases nothing */
    add(p, "m", "bytes", STORE_COPY);
    ok(store_lease(p->s, &d, NULL, e));
    ok(store_remove(p->s, "m", NULL, e));
    struct lease_table *gone = p->s->leases;
    reopen(p);
    assert_int_equal(entries(p->home, "blobs"), 0);
    lease_put(gone, &d);
}

/* Models outlive their store: the last of them ends what they share. */
static void models_outlive_their_store(void **state)
{
    struct place *p = *state;
    struct store_model *one = NULL, *two = NULL;
    reopen(p);
    add(p, "one", "first", STORE_COPY);
    add(p, "two", "second", STORE_COPY);
    ok(store_resolve(p->s, "one", &one, e));
    ok(store_resolve(p->s, "two", &two, e));
    store_close(p->s);
    p->s = NULL;
    uint64_t held = mem_live();
    store_model_destroy(one);
    uint64_t left = mem_live();
    store_model_destroy(two);
    assert_true(held > left && left > mem_live());
}

static void a_model_that_is_open_keeps_its_files(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    ok(store_remove(p->s, "m", NULL, e));
    assert_file_is(m->path, "bytes", 5);
    store_model_destroy(m);
    assert_string_equal(listed(p->s), ""); /* the next call takes it away */
    assert_int_equal(entries(p->home, "blobs"), 0);
}

/* Memory that is missing is not said of the blob; with each number of leases the table may be full. */
static void a_lease_without_memory(void **state)
{
    struct place *p = *state;
    struct digest d, other = { 0 };
    struct err why;
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(manifest_digest(STR("bytes"), &d, e));
    for (other.b[0] = 1; other.b[0] < 20; other.b[0]++) {
        enum err_code code = ERR_NO_MEMORY;
        for (uint64_t n = 1; code; n++) {
            mem_fail_after(n, false);
            code = store_lease(p->s, &d, NULL, &why);
            mem_fail_after(0, false);
            assert_true(code == ERR_OK || code == ERR_NO_MEMORY);
            assert_int_equal(lease_is_held(p->s->leases, &d), !code);
        }
        store_release(p->s, &d);
        assert_true(store_hold(p->s, &other));
    }
    for (other.b[0] = 1; other.b[0] < 20; other.b[0]++)
        store_release(p->s, &other);
}

static void only_sound_blobs_are_leased(void **state)
{
    struct place *p = *state;
    struct digest d;
    char path[512], hex[65];
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(manifest_digest(STR("bytes"), &d, e));
    hex_of("bytes", 5, hex);
    snprintf(path, sizeof path, "%s/blobs/sha256-%s", p->home, hex);
    assert_int_equal(chmod(path, 0640), 0);
    write_file(path, "BYTES", 5);
    assert_int_equal(store_lease(p->s, &d, NULL, NULL), ERR_CONFLICT);
    unlink(path);
    assert_int_equal(store_lease(p->s, &d, NULL, NULL), ERR_CONFLICT);
    write_file(path, "BYTES", 5);
    ok(store_remove(p->s, "m", NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 0); /* for nobody holds it */
}

/* ---- tmp/, chunk hashes, media types --------------------------------------------------------- */

static void downloads_outlive_a_restart_for_a_week(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *name;
        long age;
        bool stays;
    } rows[] = { { "dl-a.part", 60, true },
                 { "dl-a.journal", DOWNLOAD_KEEP_S - 60, true },
                 { "dl-b.part", DOWNLOAD_KEEP_S + 60, false },
                 { "dl-c.journal", -2L * DOWNLOAD_KEEP_S, false },
                 { "dl-d.part.x", 0, false },
                 { "part-3", 0, false },
                 { "xdl-e.part", 0, false } };
    char path[512];
    reopen(p);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct timespec t[2];
        clock_gettime(CLOCK_REALTIME, &t[0]);
        t[0].tv_sec -= rows[i].age;
        t[1] = t[0];
        snprintf(path, sizeof path, "%s/tmp/%s", p->home, rows[i].name);
        write_file(path, "x", 1);
        assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
    }
    assert_int_equal(symlink("/etc/passwd", in(p, "home/tmp/dl-f.part")), 0);
    reopen(p);
    assert_int_equal(entries(p->home, "tmp"), 2);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(path, sizeof path, "%s/tmp/%s", p->home, rows[i].name);
        assert_int_equal(access(path, F_OK) == 0, rows[i].stays);
    }
}

static void each_mib_is_hashed_in_the_same_pass(void **state)
{
    struct place *p = *state;
    static const size_t sizes[] = { 0, 1, 1048575, 1048576, 1048577, 3 * 1048576, 3 * 1048576 + 5 };
    char *bytes = malloc(4 << 20);
    assert_non_null(bytes);
    memset(bytes, 'x', 4 << 20);
    reopen(p);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char name[32];
        struct arena a = { 0 };
        struct digest d, part;
        struct str hashes;
        snprintf(name, sizeof name, "m%zu", i);
        bytes[0] = (char)i;
        ok(import_file(p->s, name, write_file(in(p, name), bytes, sizes[i]),
                       i % 2 ? STORE_REFERENCE : STORE_COPY, e));
        ok(manifest_digest((struct str){ bytes, sizes[i] }, &d, e));
        ok(catalog_chunks(p->s->catalog, &d, &a, &hashes, e));
        assert_int_equal(hashes.n, 32 * ((sizes[i] + 1048575) / 1048576));
        for (size_t k = 0; k < hashes.n / 32; k++) {
            size_t n = sizes[i] - k * 1048576;
            ok(manifest_digest((struct str){ bytes + k * 1048576, n < 1048576 ? n : 1048576 }, &part, e));
            assert_memory_equal(part.b, hashes.p + 32 * k, 32);
        }
        arena_finish(&a);
    }
    free(bytes);
}

static void media_types_become_kinds(void **state)
{
    (void)state;
    static const struct {
        const char *type, *title;
        enum media_kind kind;
    } rows[] = {
        { "application/vnd.ollama.image.model", NULL, MEDIA_MODEL },
        { "application/vnd.ollama.image.params", NULL, MEDIA_PARAMS },
        { "application/vnd.ollama.image.prompt", NULL, MEDIA_TEMPLATE },
        { "application/vnd.ollama.image.tensor", NULL, MEDIA_UNKNOWN },
        { "application/vnd.docker.ai.gguf.v3", NULL, MEDIA_MODEL },
        { "application/vnd.docker.ai.gguf.v3.lora", NULL, MEDIA_ADAPTER },
        { "application/vnd.docker.ai.mmproj", NULL, MEDIA_PROJECTOR },
        { "application/vnd.docker.ai.license", NULL, MEDIA_LICENSE },
        { "application/vnd.docker.ai.model.config.v0.1+json", NULL, MEDIA_CONFIG },
        { "application/vnd.docker.container.image.v1+json", NULL, MEDIA_CONFIG },
        { "application/octet-stream", "dir/Model-Q4_0.GGUF", MEDIA_MODEL },
        { "application/octet-stream", "a/mmproj-model-f16.gguf", MEDIA_PROJECTOR },
        { "application/octet-stream", "run.sh", MEDIA_UNKNOWN },
        { "text/plain", "a/chat.JINJA", MEDIA_TEMPLATE },
        { "text/plain", "jinja", MEDIA_UNKNOWN },
        { "application/octet-stream", NULL, MEDIA_UNKNOWN },
        { "application/vnd.acme.weights", "x.gguf", MEDIA_MODEL },
        { "application/vnd.acme.weights", "LICENSE", MEDIA_UNKNOWN },
        { "text/plain", "LICENSE.txt", MEDIA_LICENSE },
        { "application/vnd.oci.image.layer.v1.tar+gzip", NULL, MEDIA_UNKNOWN },
        { "", "", MEDIA_UNKNOWN },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (media_kind_of(rows[i].type, rows[i].title) != rows[i].kind)
            fail_msg("'%s' '%s' is %s", rows[i].type, rows[i].title ? rows[i].title : "",
                     media_kind_name(media_kind_of(rows[i].type, rows[i].title)));
    for (int k = MEDIA_UNKNOWN + 1; k < MEDIA_KINDS; k++) {
        enum media_kind kind = (enum media_kind)k;
        assert_int_equal(media_kind_of(media_type_of(kind), NULL), kind);
        assert_int_equal(media_kind_named(media_kind_name(kind)), kind);
        assert_int_equal(media_is_file(kind), kind >= MEDIA_MODEL && kind <= MEDIA_ADAPTER);
    }
    assert_int_equal(media_kind_named("no such"), MEDIA_UNKNOWN);
}

static void settings_are_copied(void **state)
{
    struct place *p = *state;
    char mirror[] = "https://mirror.example";
    struct store_net net = { .offline = true, .mirror = mirror, .ca_file = "" };
    reopen(p);
    ok(store_set_net(p->s, &net, e));
    mirror[0] = 'X';
    assert_string_equal(p->s->net.mirror, "https://mirror.example");
    assert_null(p->s->net.ca_file);
    assert_true(p->s->net.offline);
    net.mirror = NULL;
    ok(store_set_net(p->s, &net, e));
    assert_null(p->s->net.mirror);
    struct store_facts facts;
    struct arena a = { 0 };
    const char *path = "/x.gguf";
    fails_with(ERR_UNSUPPORTED, "nobody here to look into", store_look_into(p->s, &path, 1, (struct str){ 0 }, &a, &facts, e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_in_memory, teardown)
        T(schema_1_is_migrated_with_all_that_is_in_it),
        T(a_migration_that_fails_changes_nothing),
        T(texts_live_in_the_catalog),
        T(a_text_may_be_a_file_too),
        T(what_does_not_hash_to_its_digest_is_not_committed),
        T(what_is_leased_stays),
        T(a_lease_without_memory),
        T(models_outlive_their_store),
        T(a_model_that_is_open_keeps_its_files),
        T(only_sound_blobs_are_leased),
        T(downloads_outlive_a_restart_for_a_week),
        T(each_mib_is_hashed_in_the_same_pass),
        cmocka_unit_test(media_types_become_kinds),
        T(settings_are_copied),
#undef T
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
