/* bundle, tar: models out into one file and back, and files that lie. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "store/bundle.h"
#include "store/commit.h"
#include "tests/store/place.h"

/* ---- archives of our own making: independent of tar.c's writer --------------------------------- */

struct entry {
    const char *name;
    char type;          /* 0: '0' */
    const char *bytes;  /* NULL: zeros */
    size_t n;
    uint64_t says;      /* size in the head, when not n */
    unsigned mode;      /* 0: 0644 */
    bool bad_sum;
};

static void put_entry(struct buf *b, const struct entry *x)
{
    char head[512] = { 0 };
    unsigned sum = 0;
    uint64_t size = x->says ? x->says : x->n;
    memcpy(head, x->name, strlen(x->name) < 100 ? strlen(x->name) : 100);
    snprintf(head + 100, 8, "%07o", (x->mode ? x->mode : x->type == '5' ? 0755u : 0644u) & 07777);
    snprintf(head + 108, 8, "%07o", 1000u);
    snprintf(head + 116, 8, "%07o", 1000u);
    if (size < (uint64_t)1 << 33) {
        snprintf(head + 124, 12, "%011llo", (unsigned long long)size);
    } else { /* GNU's base 256 */
        head[124] = (char)0x80;
        for (int i = 0; i < 8; i++)
            head[135 - i] = (char)(size >> (8 * i));
    }
    snprintf(head + 136, 12, "%011o", 1234567u);
    memset(head + 148, ' ', 8);
    head[156] = x->type ? x->type : '0';
    memcpy(head + 257, "ustar\0" "00", 8);
    for (size_t i = 0; i < sizeof head; i++)
        sum += (unsigned char)head[i];
    snprintf(head + 148, 8, "%06o", sum + x->bad_sum);
    buf_put(b, head, sizeof head);
    for (size_t i = 0; i < x->n; i++)
        buf_putc(b, x->bytes ? x->bytes[i] : '\0');
    while (b->n % 512)
        buf_putc(b, '\0');
}

static void put_end(struct buf *b)
{
    for (int i = 0; i < 1024; i++)
        buf_putc(b, '\0');
}

/* ---- stores ------------------------------------------------------------------------------------- */

static long most_memory; /* pages of this process, while something was looked into */

static long memory(void)
{
    long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &all, &resident), 2);
    fclose(f);
    return resident;
}

static enum err_code inspect(void *user, const char *const *paths, size_t n, struct str template, struct arena *a, struct store_facts *out, struct err *e)
{
    most_memory = memory() > most_memory ? memory() : most_memory;
    (void)user, (void)a;
    for (size_t i = 0; i < n; i++) {
        size_t size;
        char *bytes = read_file(paths[i], &size);
        bool program = size >= 4 && memcmp(bytes, "\177ELF", 4) == 0;
        free(bytes);
        if (program)
            return err_set(e, ERR_FORMAT, "not a GGUF file");
    }
    *out = llama;
    out->capabilities = template.n ? "completion,insert" : "completion";
    return ERR_OK;
}

static void open_place(struct place *p)
{
    reopen(p);
    store_set_inspector(p->s, inspect, NULL);
}

static enum err_code to_buf(void *user, const void *bytes, size_t n, struct err *e)
{
    struct buf *b = user;
    buf_put(b, bytes, n);
    return b->failed ? err_no_memory(e, n, "a test's bundle") : ERR_OK;
}

static enum err_code export(struct place *p, struct buf *out, const char *names, struct err *e)
{
    char text[256], *list[8], *save = NULL;
    size_t n = 0;
    struct tar_sink sink = { to_buf, out };
    snprintf(text, sizeof text, "%s", names);
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        list[n++] = w;
    buf_init(out, (size_t)64 << 20);
    return store_export(p->s, (const char *const *)list, n, &sink, NULL, e);
}

static enum err_code import(struct place *p, struct str bytes, const char *as, struct err *e)
{
    const char *path = write_file(in(p, "bundle.tar"), bytes.p ? bytes.p : "", bytes.n);
    struct store_bundle b = { .fd = open(path, O_RDONLY), .path = path, .as = as };
    enum err_code code = store_import_bundle(p->s, &b, e);
    close(b.fd);
    return code;
}

/* A second home beside the first: what is imported there came from the bundle alone. */
static void move_home(struct place *p)
{
    store_close(p->s);
    p->s = NULL;
    snprintf(p->home, sizeof p->home, "%s/home-two", p->root);
    open_place(p);
}

/* A model with a file and two texts, made by a commit as pull and create make theirs. */
static void add_with_texts(struct place *p, const char *name)
{
    struct name n;
    struct blob_meter meter = { 0 };
    struct blob_part part = { 0 };
    struct store_facts facts = llama;
    struct manifest_layer config, layers[3];
    struct buf config_text, manifest;
    const char *path = model_file(p, "weights of it");
    struct blob_source from = { .fd = open(path, O_RDONLY), .path = path };
    struct str license = STR("Do as you like."), template = STR("{{ .Prompt }}");
    struct digest d[2], digest;
    buf_init(&config_text, 1 << 16);
    buf_init(&manifest, 1 << 16);
    ok(store_facts_check(&facts, e));
    ok(name_parse(str_from(name), &n, e));
    ok(blob_stage(&p->s->blobs, &from, &meter, &part, NULL, e));
    close(from.fd);
    ok(manifest_config(&facts, &config_text, &config, e));
    ok(manifest_digest(license, &d[0], e));
    ok(manifest_digest(template, &d[1], e));
    layers[0] = (struct manifest_layer){ .media_type = media_type_of(MEDIA_MODEL), .digest = part.digest, .size = part.size };
    layers[1] = (struct manifest_layer){ .media_type = media_type_of(MEDIA_LICENSE), .digest = d[0], .size = license.n };
    layers[2] = (struct manifest_layer){ .media_type = media_type_of(MEDIA_TEMPLATE), .digest = d[1], .size = template.n };
    ok(manifest_write(&config, layers, 3, &manifest, &digest, e));
    struct commit_layer l[4] = {
        { .media_type = config.media_type, .digest = config.digest, .size = config.size, .where = COMMIT_TEXT, .text = buf_str(&config_text) },
        { .media_type = layers[0].media_type, .digest = part.digest, .size = part.size, .where = COMMIT_PART, .part = &part },
        { .media_type = layers[1].media_type, .digest = d[0], .size = license.n, .where = COMMIT_TEXT, .text = license },
        { .media_type = layers[2].media_type, .digest = d[1], .size = template.n, .where = COMMIT_TEXT, .text = template },
    };
    struct commit c = { .name = &n, .manifest = buf_str(&manifest), .digest = digest, .layers = l, .n_layers = 4,
                        .facts = &facts, .kind = "create", .source = path };
    ok(store_commit(p->s, &c, NULL, e));
    buf_finish(&config_text);
    buf_finish(&manifest);
}

/* ---- out and back ---------------------------------------------------------------------------------- */

static void check_model(struct place *p, const char *name, const char *digest, const char *bytes)
{
    struct store_model *m = NULL;
    ok(store_resolve(p->s, name, &m, e));
    assert_string_equal(m->digest_hex, digest);
    assert_file_is(m->path, bytes, strlen(bytes));
    store_model_destroy(m);
}

static void out_and_back(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    struct buf one, two;
    struct str text;
    struct arena a = { 0 };
    char big[DIGEST_HEX_SIZE], rich[DIGEST_HEX_SIZE];
    const char *shards[2];
    open_place(p);
    shards[0] = model_file(p, "first shard");
    shards[1] = model_file(p, "second");
    ok(import_files(p->s, "me/big:q4", shards, 2, STORE_REFERENCE, &m, e));
    memcpy(big, m->digest_hex, sizeof big);
    store_model_destroy(m);
    add_with_texts(p, "rich");
    ok(store_resolve(p->s, "rich", &m, e));
    memcpy(rich, m->digest_hex, sizeof rich);
    store_model_destroy(m);
    ok(store_copy(p->s, "rich", "alias", e));
    ok(export(p, &one, "rich me/big:q4 alias rich", e));
    ok(export(p, &two, "alias rich me/big:q4", e));
    assert_int_equal(one.n, two.n);
    assert_memory_equal(one.p, two.p, one.n);
    buf_finish(&two);
    move_home(p);
    ok(import(p, buf_str(&one), NULL, e));
    check_model(p, "rich", rich, "weights of it");
    check_model(p, "alias", rich, "weights of it");
    ok(store_resolve(p->s, "me/big:q4", &m, e));
    assert_string_equal(m->digest_hex, big);
    assert_int_equal(m->n_files, 2);
    assert_false(m->by_reference);
    store_model_destroy(m);
    ok(store_resolve(p->s, "rich", &m, e));
    ok(store_layer_text(p->s, m, MEDIA_LICENSE, 0, &a, &text, e));
    assert_true(str_is(text, "Do as you like."));
    assert_string_equal(m->facts.capabilities, "completion,insert"); /* the template was looked at too */
    store_model_destroy(m);
    arena_finish(&a);
    assert_int_equal(entries(p->home, "tmp"), 2); /* the names that the shards are loaded by */
    /* from there again: the same bytes */
    ok(export(p, &two, "rich me/big:q4 alias", e));
    assert_int_equal(one.n, two.n);
    assert_memory_equal(one.p, two.p, one.n);
    ok(import(p, buf_str(&one), NULL, e)); /* again: all is there */
    assert_int_equal(entries(p->home, "blobs"), 3);
    buf_finish(&one);
    buf_finish(&two);
}

static void a_name_of_ones_own(void **state)
{
    struct place *p = *state;
    struct buf b;
    open_place(p);
    add(p, "m", "bytes", STORE_COPY);
    add(p, "n", "others", STORE_COPY);
    ok(export(p, &b, "m", e));
    ok(import(p, buf_str(&b), "other:1", e));
    ok(resolve(p->s, "other:1", e));
    fails_with(ERR_INVALID, "takes no digest", import(p, buf_str(&b), "m@sha256:0000000000000000000000000000000000000000000000000000000000000000", e));
    buf_finish(&b);
    ok(export(p, &b, "m n", e));
    fails_with(ERR_INVALID, "has 2 models: they keep their names", import(p, buf_str(&b), "other:1", e));
    buf_finish(&b);
    fails_with(ERR_NOT_FOUND, "not found", export(p, &b, "m none", e));
    buf_finish(&b);
    const char *many[BUNDLE_MAX_MODELS + 1];
    for (size_t i = 0; i <= BUNDLE_MAX_MODELS; i++)
        many[i] = "m";
    buf_init(&b, 1 << 20);
    const struct tar_sink sink = { to_buf, &b };
    fails_with(ERR_INVALID, "1 to 256 models, not 0", store_export(p->s, many, 0, &sink, NULL, e));
    fails_with(ERR_INVALID, "not 257", store_export(p->s, many, BUNDLE_MAX_MODELS + 1, &sink, NULL, e));
    buf_finish(&b);
}

static uint64_t written;

static ssize_t counted(int fd, const void *bytes, size_t n, uint64_t at)
{
    written += n;
    return file_system.write(fd, bytes, n, at);
}

/* A large blob that the store has is compared, and not written a second time. */
static void what_is_there_is_not_written(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    struct buf b;
    size_t n = (size_t)5 << 20;
    char *bytes = calloc(1, n);
    open_place(p);
    bytes[17] = 'x';
    ok(import_file(p->s, "m", write_file(in(p, "large"), bytes, n), STORE_COPY, e));
    ok(export(p, &b, "m", e));
    ok(store_copy(p->s, "m", "kept", e));
    ok(store_remove(p->s, "m", NULL, e));
    struct store_model *m = NULL;
    struct stat was, is;
    store_close(p->s);
    ops.write = counted;
    ok(store_open_with(&ops, p->home, &p->s, e));
    store_set_inspector(p->s, inspect, NULL);
    ok(store_resolve(p->s, "kept", &m, e));
    assert_int_equal(stat(m->path, &was), 0);
    written = 0;
    ok(import(p, buf_str(&b), NULL, e));
    assert_true(written < n / 2);
    assert_int_equal(stat(m->path, &is), 0);
    assert_true(was.st_ino == is.st_ino);
    store_model_destroy(m);
    ok(resolve(p->s, "m", e));
    /* the same with one byte of it wrong: it is noticed although nothing would be taken */
    char *at = memmem(b.p, b.n, "x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
    assert_non_null(at);
    *at = 'y';
    fails_with(ERR_FORMAT, "holds other bytes than its name says", import(p, buf_str(&b), NULL, e));
    store_close(p->s); /* with the table that ends here */
    p->s = NULL;
    buf_finish(&b);
    free(bytes);
}

/* Of two files of the user's that hold the blob, one is damaged: the other is looked into. */
static void a_sound_place_is_looked_into(void **state)
{
    struct place *p = *state;
    struct buf b;
    size_t n = (size_t)5 << 20;
    char *bytes = calloc(1, n);
    const char *const files[] = { "a.gguf", "b.gguf" };
    open_place(p);
    for (size_t i = 0; i < 2; i++)
        ok(import_file(p->s, files[i], write_file(in(p, files[i]), bytes, n), STORE_REFERENCE, e));
    ok(export(p, &b, "a.gguf", e));
    memcpy(bytes, "\177ELF", 4);
    for (size_t i = 0; i < 2; i++) {
        write_file(in(p, files[i]), bytes, n);
        ok(import(p, buf_str(&b), "again", e));
        assert_int_equal(unlink(in(p, files[i])), 0);
        ok(import(p, buf_str(&b), "again", e));
        memset(bytes, 0, 4);
        write_file(in(p, files[i]), bytes, n);
        memcpy(bytes, "\177ELF", 4);
    }
    assert_int_equal(entries(p->home, "blobs"), 0);
    buf_finish(&b);
    free(bytes);
}

static void a_changed_reference_is_not_exported(void **state)
{
    struct place *p = *state;
    struct stat st;
    struct buf b;
    open_place(p);
    add(p, "m", "bytes", STORE_REFERENCE);
    const char *file = in(p, "bytes");
    assert_int_equal(stat(file, &st), 0);
    write_file(file, "BYTES", 5);
    struct timespec times[2] = { st.st_mtim, st.st_mtim }; /* as if nothing had happened */
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    fails_with(ERR_CONFLICT, "is no longer what it was", export(p, &b, "m", e));
    buf_finish(&b);
}

/* As soon as the first byte is exported, the file that `user` names loses its own, or goes. */
static enum err_code cut_it(void *user, const void *bytes, size_t n, struct err *e)
{
    (void)bytes, (void)n, (void)e;
    return truncate(user, 2) == 0 ? ERR_OK : ERR_INTERNAL;
}

static enum err_code remove_it(void *user, const void *bytes, size_t n, struct err *e)
{
    (void)bytes, (void)n, (void)e;
    return unlink(user) == 0 || errno == ENOENT ? ERR_OK : ERR_INTERNAL;
}

static void what_goes_while_it_is_exported(void **state)
{
    struct place *p = *state;
    const char *name = "m";
    char path[512];
    snprintf(path, sizeof path, "%s", in(p, "bytes"));
    open_place(p);
    add(p, "m", "bytes", STORE_REFERENCE);
    alarm(60); /* who waits for bytes that are not there waits for ever */
    fails_with(ERR_CONFLICT, "is no longer what it was", store_export(p->s, &name, 1, &(struct tar_sink){ cut_it, path }, NULL, e));
    alarm(0);
    model_file(p, "bytes");
    fails_with(ERR_NOT_FOUND, "opening '", store_export(p->s, &name, 1, &(struct tar_sink){ remove_it, path }, NULL, e));
}

static void a_damaged_text_is_not_exported(void **state)
{
    struct place *p = *state;
    struct buf b;
    open_place(p);
    add_with_texts(p, "rich");
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"), "UPDATE blobs SET body = CAST('Do as we like..' AS BLOB) WHERE size = 15");
    open_place(p);
    fails_with(ERR_FORMAT, "the catalog is damaged", export(p, &b, "rich", e));
    buf_finish(&b);
}

static bool stop_now(const struct store_event *ev)
{
    return ev->total > 0;
}

static void on_event(void *user, const struct store_event *ev)
{
    atomic_store((atomic_bool *)user, stop_now(ev));
}

static void it_can_be_cancelled(void **state)
{
    struct place *p = *state;
    struct buf b, none;
    atomic_bool cancel = false;
    struct store_job job = { .event = on_event, .user = &cancel, .cancel = &cancel };
    open_place(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(export(p, &b, "m", e));
    const char *path = write_file(in(p, "b.tar"), b.p, b.n), *name = "m";
    struct store_bundle in_ = { .fd = open(path, O_RDONLY), .path = path, .as = "z", .job = job };
    fails_with(ERR_CANCELLED, "was cancelled", store_import_bundle(p->s, &in_, e));
    close(in_.fd);
    buf_init(&none, 1 << 20);
    fails_with(ERR_CANCELLED, "was cancelled", store_export(p->s, &name, 1, &(struct tar_sink){ to_buf, &none }, &job, e));
    assert_string_equal(listed(p->s), "m:latest ");
    assert_int_equal(entries(p->home, "tmp"), 0);
    buf_finish(&b);
    buf_finish(&none);
}

/* ---- lies -------------------------------------------------------------------------------------------- */

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

/* What a hostile bundle is made of: a whole one, and what is done to it. */
struct lies {
    struct buf config, manifest, index;
    char config_at[90], model_at[90], manifest_at[90], digest[3][65];
    struct entry entry[8];
};

static void lies_begin(struct lies *l, const char *model_type, long long model_size)
{
    hex_of("MODEL", 5, l->digest[0]);
    hex_of("{}", 2, l->digest[1]);
    buf_init(&l->manifest, 4096);
    buf_init(&l->index, 4096);
    buf_printf(&l->manifest, "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"sha256:%s\",\"size\":2},"
               "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%lld}]}", l->digest[1], model_type, l->digest[0], model_size);
    hex_of(l->manifest.p, l->manifest.n, l->digest[2]);
    buf_printf(&l->index, "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:%s\","
               "\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref.name\":\"m:1\"}}]}", l->digest[2], l->manifest.n);
    snprintf(l->model_at, sizeof l->model_at, "blobs/sha256/%s", l->digest[0]);
    snprintf(l->config_at, sizeof l->config_at, "blobs/sha256/%s", l->digest[1]);
    snprintf(l->manifest_at, sizeof l->manifest_at, "./blobs/sha256/%s", l->digest[2]);
    const struct entry all[8] = {
        { "./", '5', NULL, 0, 0, 0, false },
        { "blobs/sha256", '5', NULL, 0, 0, 0, false },
        { l->model_at, 0, "MODEL", 5, 0, 0, false },
        { l->manifest_at, 0, l->manifest.p, l->manifest.n, 0, 0, false },
        { l->config_at, 0, "{}", 2, 0, 0, false },
        { "manifest.json", 0, "[]", 2, 0, 0, false },
        { "index.json", 0, l->index.p, l->index.n, 0, 0, false },
        { "oci-layout", 0, layout_text, sizeof layout_text - 1, 0, 0, false },
    };
    memcpy(l->entry, all, sizeof all);
}

static void lies_finish(struct lies *l)
{
    buf_finish(&l->manifest);
    buf_finish(&l->index);
}

static void lies_write(const struct lies *l, const struct entry *more, struct buf *out)
{
    buf_init(out, (size_t)64 << 20);
    for (size_t i = 0; i < 8; i++)
        if (l->entry[i].name)
            put_entry(out, &l->entry[i]);
    if (more)
        put_entry(out, more);
    put_end(out);
}

/* One entry more than a whole bundle has. */
static const struct {
    struct entry entry;
    const char *sentence;
} more_rows[] = {
    { { "../evil", 0, "x", 1, 0, 0, false }, "'../evil' is no part of a bundle" },
    { { "/etc/cron.d/evil", 0, "x", 1, 0, 0, false }, "is no part of a bundle" },
    { { "blobs/../../evil", 0, "x", 1, 0, 0, false }, "is no part of a bundle" },
    { { "blobs/sha256/../../../evil", 0, "x", 1, 0, 0, false }, "is not named by a digest" },
    { { "blobs/sha256/", '5', NULL, 0, 0, 0, false }, NULL },
    { { "blobs/sha256/0123", 0, "x", 1, 0, 0, false }, "is not named by a digest" },
    { { "blobs/sha256/2D711642B726B04401627CA9FBAC32F5C8530FB1903CC4DB02258717921A4881", 0, "x", 1, 0, 0, false }, "is not named by a digest" },
    { { "blobs/sha512/00", 0, "x", 1, 0, 0, false }, "is no part of a bundle" },
    { { "blobs/sha256/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", 0, "y", 1, 0, 0, false },
      "holds other bytes than its name says" },
    { { "blobs/sha256/e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", '5', NULL, 0, 0, 0, false }, "is no part of a bundle" },
    { { "oci-layout", '5', NULL, 0, 0, 0, false }, "'oci-layout' is no part of a bundle" },
    { { "index.json", '5', NULL, 0, 0, 0, false }, "'index.json' is no part of a bundle" },
    { { "evil", '2', NULL, 0, 0, 0, false }, "'evil' is a symbolic link, which a bundle has none of" },
    { { "evil", '1', NULL, 0, 0, 0, false }, "a hard link" },
    { { "evil", '3', NULL, 0, 0, 0, false }, "a device" },
    { { "evil", '4', NULL, 0, 0, 0, false }, "a device" },
    { { "evil", '6', NULL, 0, 0, 0, false }, "a named pipe" },
    { { "evil", 'S', NULL, 0, 0, 0, false }, "a sparse file" },
    { { "evil", 'L', "x", 1, 0, 0, false }, "an over-long name" },
    { { "evil", 'Q', NULL, 0, 0, 0, false }, "of a kind that is not known (0x51)" },
    { { "run.sh", 0, "#!", 2, 0, 0755, false }, "'run.sh' is marked as a program" },
    { { "run.sh", 0, "#!", 2, 0, 04644, false }, "marked as a program" },
    { { "manifest.json", 0, "x", 1, 0, 0, true }, "the head of an entry is damaged" },
    { { "manifest.json", 0, "x", 1, 1 << 20, 0, false }, "it was cut off" },
    { { "blobs/sha256/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", 0, "x", 1, (uint64_t)1 << 40, 0, false },
      "is said to be longer than the whole bundle" },
    { { "blobs/sha256/2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", 0, "x", 1, 600, 0, false },
      "holds other bytes than its name says" },
    { { "oci-layout", 0, layout_text, sizeof layout_text - 1, 0, 0, false }, "'oci-layout' is in the bundle twice" },
    { { "index.json", 0, "{}", 2, 0, 0, false }, "'index.json' is in the bundle twice" },
    { { "evil/", 0, "x", 1, 0, 0, false }, "a file with the name of a directory" },
    { { "evil", '5', NULL, 0, 512, 0, false }, "is a directory with 512 bytes" },
    { { "x", 'x', "9 path=a\n", 9, 0, 0, false }, "extended records without an entry" },
    { { "x", 'x', "99 path=a\n", 10, 0, 0, false }, "extended records are broken" },
    { { "x", 'x', "11 size=-1\n", 11, 0, 0, false }, "size is not a number" },
    { { "x", 'x', "11 size=1:\n", 11, 0, 0, false }, "size is not a number" },
    { { "x", 'x', "8 size=\n", 8, 0, 0, false }, "size is not a number" },
    { { "x", 'x', "28 size=1000000000000000000\n", 28, 0, 0, false }, "size is not a number" },
    { { "x", 'x', "9:path=a\n", 9, 0, 0, false }, "extended records are broken" },
    { { "x", 'x', "2 path=a\n", 9, 0, 0, false }, "extended records are broken" },
    { { "x", 'x', " path=a\n", 8, 0, 0, false }, "extended records are broken" },
    { { "x", 'x', "9", 1, 0, 0, false }, "extended records are broken" },
    { { "x", 'x', "22 GNU.sparse.major=1\n", 22, 0, 0, false }, "a sparse file or a link" },
    { { "x", 'g', "14 linkpath=x\n", 14, 0, 0, false }, "a sparse file or a link" },
    { { "x", 'x', NULL, 70000, 0, 0, false }, "bytes of extended records" },
    { { "x", 'x', "10 path=ab", 10, 0, 0, false }, "extended records are broken" },
    { { "x", 'x', "8 abcde\n", 8, 0, 0, false }, "extended records are broken" },
    { { "manifest.json", 0, "x", 1, (uint64_t)1 << 63, 0, false }, "size is not a number" },
    { { "\x1b[2J", 0, "x", 1, 0, 0, false }, "not printable ASCII" },
    { { "a\x7f", 0, "x", 1, 0, 0, false }, "not printable ASCII" },
    { { "", 0, "x", 1, 0, 0, false }, "an entry's name has 0 bytes" },
};

static void lies_of_one_entry(void **state)
{
    struct place *p = *state;
    struct lies l;
    struct buf b;
    open_place(p);
    lies_begin(&l, "application/vnd.ollama.image.model", 5);
    for (size_t i = 0; i < sizeof more_rows / sizeof *more_rows; i++) {
        lies_write(&l, &more_rows[i].entry, &b);
        if (more_rows[i].sentence)
            fails_with(ERR_FORMAT, more_rows[i].sentence, import(p, buf_str(&b), NULL, e));
        else
            ok(import(p, buf_str(&b), NULL, e));
        buf_finish(&b);
        if (!more_rows[i].sentence)
            ok(store_remove(p->s, "m:1", NULL, e));
        assert_string_equal(listed(p->s), "");
        assert_int_equal(entries(p->home, "tmp"), 0);
        assert_int_equal(entries(p->home, "blobs"), 0);
    }
    lies_finish(&l);
}

/* What one of the eight entries is replaced by. */
static const struct {
    size_t which;
    const char *bytes; /* NULL: the entry is left out */
    enum err_code code;
    const char *sentence;
} changed_rows[] = {
    { 7, NULL, ERR_FORMAT, "it has no oci-layout" },
    { 7, "", ERR_FORMAT, "'oci-layout' has 0 bytes" },
    { 6, NULL, ERR_FORMAT, "it has no index.json" },
    { 2, NULL, ERR_FORMAT, "the bundle lacks a layer, sha256:" },
    { 3, NULL, ERR_FORMAT, "the bundle lacks a manifest, sha256:" },
    { 4, NULL, ERR_FORMAT, "the bundle lacks a config, sha256:" },
    { 7, "{\"imageLayoutVersion\":\"2.0.0\"}", ERR_UNSUPPORTED, "layout of version 2.0.0" },
    { 7, "{}", ERR_UNSUPPORTED, "layout of version ?" },
    { 7, "nonsense", ERR_INVALID, "oci-layout" },
    { 6, "[]", ERR_FORMAT, "has 0 models" },
    { 6, "{\"manifests\":[]}", ERR_FORMAT, "has 0 models" },
    { 6, "{\"manifests\":[{}]}", ERR_INVALID, "has no name" },
    { 6, "{\"manifests\":[{\"annotations\":{\"org.opencontainers.image.ref.name\":\"../x\"}}]}", ERR_INVALID, "" },
    { 6, "{\"manifests\":[{\"annotations\":{\"org.opencontainers.image.ref.name\":\"m\"},\"digest\":\"sha512:00\",\"size\":1}]}", ERR_FORMAT,
      "descriptor of a manifest has no digest by SHA-256" },
    { 6, "{\"manifests\":[{\"annotations\":{\"org.opencontainers.image.ref.name\":\"m\"},\"digest\":"
         "\"sha256-2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\",\"size\":1}]}", ERR_FORMAT,
      "descriptor of a manifest has no digest by SHA-256" },
    { 6, "{\"manifests\":[{\"annotations\":{\"org.opencontainers.image.ref.name\":\"m\"},\"digest\":"
         "\"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\",\"size\":-1}]}", ERR_FORMAT,
      "or no size" },
    { 6, "{\"manifests\":[{\"annotations\":{\"org.opencontainers.image.ref.name\":\"m\"},\"digest\":"
         "\"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\",\"size\":\"1\"}]}", ERR_FORMAT,
      "or no size" },
    { 6, "{\"manifests\":[{\"annotations\":{\"org.opencontainers.image.ref.name\":\"m\"},\"digest\":\"sha256:../../../../../../../../../../etc/passwd/\",\"size\":1}]}",
      ERR_FORMAT, "has no digest by SHA-256" },
};

static void lies_of_what_is_in_it(void **state)
{
    struct place *p = *state;
    struct lies l;
    struct buf b;
    open_place(p);
    for (size_t i = 0; i < sizeof changed_rows / sizeof *changed_rows; i++) {
        lies_begin(&l, "application/vnd.ollama.image.model", 5);
        struct entry *x = &l.entry[changed_rows[i].which];
        if (!changed_rows[i].bytes)
            x->name = NULL;
        x->bytes = changed_rows[i].bytes;
        x->n = changed_rows[i].bytes ? strlen(x->bytes) : 0;
        lies_write(&l, NULL, &b);
        fails_with(changed_rows[i].code, changed_rows[i].sentence, import(p, buf_str(&b), NULL, e));
        assert_string_equal(listed(p->s), "");
        assert_int_equal(entries(p->home, "tmp"), 0);
        buf_finish(&b);
        lies_finish(&l);
    }
    lies_begin(&l, "application/vnd.ollama.image.model", 6);
    lies_write(&l, NULL, &b);
    fails_with(ERR_FORMAT, "has 5 bytes in the bundle, and 6 by its descriptor", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    lies_finish(&l);
    lies_begin(&l, "application/vnd.ollama.image.license", 5);
    lies_write(&l, NULL, &b);
    fails_with(ERR_UNSUPPORTED, "none of its 1 layers is a GGUF model", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    lies_finish(&l);
    lies_begin(&l, "application/x-executable", 5);
    lies_write(&l, NULL, &b);
    fails_with(ERR_UNSUPPORTED, "'m' of the bundle: the manifest: layer 1 is 'application/x-executable'", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    lies_finish(&l);
}

/* A blob that is there twice, an index and a text that are too long, an end that is none. */
static void lies_of_its_whole(void **state)
{
    struct place *p = *state;
    struct lies l;
    struct buf b;
    char hex[65], name[90], *text = calloc(1, MEDIA_TEXT_MAX + 1);
    assert_non_null(text);
    open_place(p);
    lies_begin(&l, "application/vnd.ollama.image.model", 5);
    lies_write(&l, &l.entry[2], &b);
    fails_with(ERR_FORMAT, "is in the bundle twice", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    struct entry index = l.entry[6];
    l.entry[6] = (struct entry){ .name = "index.json", .bytes = text, .n = MEDIA_TEXT_MAX + 1 };
    lies_write(&l, NULL, &b);
    fails_with(ERR_FORMAT, "'index.json' has", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    l.entry[6] = index;
    lies_write(&l, NULL, &b);
    memcpy(b.p + b.n - 512, "no zeros", 8); /* in the second of the two blocks at its end */
    fails_with(ERR_FORMAT, "goes on behind half of its end", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    snprintf(text, 400, "310 path=%0300d\n", 7);
    lies_write(&l, &(struct entry){ .name = "x", .type = 'x', .bytes = text, .n = 310 }, &b);
    fails_with(ERR_FORMAT, "an entry's name has 300 bytes", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    memset(text, 0, 400);
    lies_finish(&l);
    hex_of(text, MEDIA_TEXT_MAX + 1, hex);
    snprintf(name, sizeof name, "blobs/sha256/%s", hex);
    lies_begin(&l, "application/vnd.ollama.image.model", 5);
    l.entry[2] = (struct entry){ .name = name, .bytes = text, .n = MEDIA_TEXT_MAX + 1 };
    buf_clear(&l.index); /* whose manifest is that blob */
    buf_printf(&l.index, "{\"manifests\":[{\"digest\":\"sha256:%s\",\"size\":%zu,\"annotations\":"
               "{\"org.opencontainers.image.ref.name\":\"m:1\"}}]}", hex, MEDIA_TEXT_MAX + 1);
    l.entry[6].bytes = l.index.p;
    l.entry[6].n = l.index.n;
    lies_write(&l, NULL, &b);
    fails_with(ERR_FORMAT, "a text of the bundle has", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    lies_finish(&l);
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "tmp"), 0);
    free(text);
}

static void cut_at_every_place(void **state)
{
    struct place *p = *state;
    struct lies l;
    struct buf b;
    open_place(p);
    lies_begin(&l, "application/vnd.ollama.image.model", 5);
    lies_write(&l, NULL, &b);
    for (size_t n = 0; n < b.n; n += n % 512 < 2 || n % 512 > 509 ? 1 : 101)
        fails_with(ERR_FORMAT, "it was cut off", import(p, (struct str){ b.p, n }, NULL, e));
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "tmp"), 0);
    ok(import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    lies_finish(&l);
}

/* One text that many models have many times is held once; and so much is held, and no more. */
static void texts_take_little_memory(void **state)
{
    struct place *p = *state;
    struct lies l;
    struct buf b;
    char hex[2][65], at[90], *text = calloc(1, MEDIA_TEXT_MAX);
    assert_non_null(text);
    open_place(p);
    lies_begin(&l, "application/vnd.ollama.image.model", 5);
    hex_of(text, MEDIA_TEXT_MAX, hex[0]);
    snprintf(at, sizeof at, "blobs/sha256/%s", hex[0]);
    l.manifest.n -= 2;
    for (int i = 0; i < 4; i++)
        buf_printf(&l.manifest, ",{\"mediaType\":\"application/vnd.ollama.image.license\",\"digest\":\"sha256:%s\",\"size\":%zu}",
                   hex[0], MEDIA_TEXT_MAX);
    buf_puts(&l.manifest, "]}");
    hex_of(l.manifest.p, l.manifest.n, hex[1]);
    snprintf(l.manifest_at, sizeof l.manifest_at, "blobs/sha256/%s", hex[1]);
    l.entry[3].bytes = l.manifest.p;
    l.entry[3].n = l.manifest.n;
    buf_clear(&l.index);
    buf_puts(&l.index, "{\"manifests\":[");
    for (int i = 0; i < 20; i++)
        buf_printf(&l.index, "%s{\"digest\":\"sha256:%s\",\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref.name\":\"m:%d\"}}",
                   i ? "," : "", hex[1], l.manifest.n, i);
    buf_puts(&l.index, "]}");
    l.entry[6].bytes = l.index.p;
    l.entry[6].n = l.index.n;
    lies_write(&l, &(struct entry){ .name = at, .bytes = text, .n = MEDIA_TEXT_MAX }, &b);
    long before = memory(), page = sysconf(_SC_PAGESIZE);
    most_memory = 0;
    ok(import(p, buf_str(&b), NULL, e));
    assert_true((most_memory - before) * page < 64 << 20);
    buf_finish(&b);
    lies_finish(&l);
    free(text);
}

/* The manifest says more of layers, each behind a comma; the index follows. */
static void lies_more_layers(struct lies *l, const char *layers)
{
    l->manifest.n -= 2;
    buf_printf(&l->manifest, "%s]}", layers);
    hex_of(l->manifest.p, l->manifest.n, l->digest[2]);
    snprintf(l->manifest_at, sizeof l->manifest_at, "blobs/sha256/%s", l->digest[2]);
    buf_clear(&l->index);
    buf_printf(&l->index, "{\"manifests\":[{\"digest\":\"sha256:%s\",\"size\":%zu,\"annotations\":"
               "{\"org.opencontainers.image.ref.name\":\"m:1\"}}]}", l->digest[2], l->manifest.n);
    l->entry[3].bytes = l->manifest.p;
    l->entry[3].n = l->manifest.n;
    l->entry[6].bytes = l->index.p;
    l->entry[6].n = l->index.n;
}

/* Two models with as many as a manifest may have of texts: with their manifests it is more than a bundle may. */
static void many_long_texts(void **state)
{
    struct place *p = *state;
    struct lies l[2];
    struct buf b, layers;
    enum { TEXTS = BUNDLE_MAX_TEXTS / MEDIA_TEXT_MAX };
    char hex[65], at[TEXTS][90], *text = calloc(1, MEDIA_TEXT_MAX);
    assert_non_null(text);
    open_place(p);
    buf_init(&layers, 1 << 16);
    for (int i = 0; i < TEXTS; i++) {
        text[0] = (char)('a' + i);
        hex_of(text, MEDIA_TEXT_MAX, hex);
        snprintf(at[i], sizeof at[i], "blobs/sha256/%s", hex);
        buf_printf(&layers, ",{\"mediaType\":\"application/vnd.ollama.image.license\",\"digest\":\"sha256:%s\",\"size\":%zu}",
                   hex, MEDIA_TEXT_MAX);
        if (i != TEXTS / 2 - 1 && i != TEXTS - 1)
            continue;
        struct lies *to = &l[i / (TEXTS / 2)];
        lies_begin(to, "application/vnd.ollama.image.model", 5);
        lies_more_layers(to, layers.p);
        buf_clear(&layers);
    }
    buf_clear(&l[0].index);
    for (int i = 0; i < 2; i++)
        buf_printf(&l[0].index, "%s{\"digest\":\"sha256:%s\",\"size\":%zu,\"annotations\":{\"org.opencontainers.image.ref.name\":\"m:%d\"}}",
                   i ? "," : "{\"manifests\":[", l[i].digest[2], l[i].manifest.n, i);
    buf_puts(&l[0].index, "]}");
    l[0].entry[6].bytes = l[0].index.p;
    l[0].entry[6].n = l[0].index.n;
    lies_write(&l[0], &l[1].entry[3], &b);
    b.n -= 1024;
    for (int i = 0; i < TEXTS; i++) {
        text[0] = (char)('a' + i);
        put_entry(&b, &(struct entry){ .name = at[i], .bytes = text, .n = MEDIA_TEXT_MAX });
    }
    put_end(&b);
    fails_with(ERR_TOO_LARGE, "the bundle's manifests and texts have more than", import(p, buf_str(&b), NULL, e));
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "tmp"), 0);
    buf_finish(&b);
    buf_finish(&layers);
    lies_finish(&l[0]);
    lies_finish(&l[1]);
    free(text);
}

/* One blob that is two layers is one file, and goes with its model. */
static void one_blob_twice_in_a_model(void **state)
{
    struct place *p = *state;
    struct lies l;
    struct buf b;
    char layer[256];
    static const char *const kinds[] = { "model", "projector", "license" };
    open_place(p);
    for (size_t i = 0; i < 3; i++) {
        lies_begin(&l, "application/vnd.ollama.image.model", 5);
        snprintf(layer, sizeof layer, ",{\"mediaType\":\"application/vnd.ollama.image.%s\",\"digest\":\"sha256:%s\",\"size\":5}",
                 kinds[i], l.digest[0]);
        lies_more_layers(&l, layer);
        lies_write(&l, NULL, &b);
        ok(import(p, buf_str(&b), NULL, e));
        ok(resolve(p->s, "m:1", e));
        assert_int_equal(entries(p->home, "blobs"), 1);
        ok(store_remove(p->s, "m:1", NULL, e));
        assert_int_equal(entries(p->home, "blobs"), 0);
        buf_finish(&b);
        lies_finish(&l);
    }
}

/* A million entries are refused at the first that is too many. */
static enum err_code endless(void *user, void *bytes, size_t n, size_t *got, struct err *e)
{
    const struct buf *b = user;
    (void)e;
    memcpy(bytes, b->p, n);
    *got = n;
    return ERR_OK;
}

static void too_many(void **state)
{
    struct place *p = *state;
    struct buf b;
    open_place(p);
    buf_init(&b, (size_t)64 << 20);
    for (size_t i = 0; i <= BUNDLE_MAX_ENTRIES; i++)
        put_entry(&b, &(struct entry){ .name = "repositories" });
    put_end(&b);
    fails_with(ERR_FORMAT, "more than 16384 entries", import(p, buf_str(&b), NULL, e));
    buf_finish(&b);
    struct lies l;
    lies_begin(&l, "application/vnd.ollama.image.model", 5);
    buf_clear(&l.index);
    buf_puts(&l.index, "{\"manifests\":[0");
    for (size_t i = 1; i <= BUNDLE_MAX_MODELS; i++)
        buf_puts(&l.index, ",0");
    buf_puts(&l.index, "]}");
    l.entry[6].bytes = l.index.p;
    l.entry[6].n = l.index.n;
    lies_write(&l, NULL, &b);
    fails_with(ERR_FORMAT, "has 257 models; 1 to 256 are taken", import(p, buf_str(&b), NULL, e));
    lies_finish(&l);
    /* records behind records */
    b.n = 0;
    put_entry(&b, &(struct entry){ .name = "x", .type = 'x' });
    struct tar_reader t;
    struct tar_entry entry;
    bool end;
    tar_reader_init(&t, &(struct tar_source){ endless, &b });
    fails_with(ERR_FORMAT, "extended records of extended records", tar_next(&t, &entry, &end, e));
    buf_finish(&b);
}

/* ---- sizes that octal digits do not hold --------------------------------------------------------------- */

static enum err_code from_buf(void *user, void *bytes, size_t n, size_t *got, struct err *e)
{
    struct str *s = user;
    (void)e;
    *got = n < s->n ? n : s->n;
    memcpy(bytes, s->p, *got);
    s->p += *got;
    s->n -= *got;
    return ERR_OK;
}

static void large_sizes(void **state)
{
    (void)state;
    const uint64_t sizes[] = { 0, 1, 511, 512, 077777777777, 0100000000000, (uint64_t)20 << 40, INT64_MAX / 1000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b;
        struct tar_reader t;
        struct tar_entry entry;
        bool end;
        buf_init(&b, 1 << 16);
        ok(tar_put_head(&(struct tar_sink){ to_buf, &b }, "a/b", false, sizes[i], e));
        struct str s = buf_str(&b);
        tar_reader_init(&t, &(struct tar_source){ from_buf, &s });
        ok(tar_next(&t, &entry, &end, e));
        assert_true(entry.size == sizes[i] && !end && !entry.is_dir);
        assert_string_equal(entry.name, "a/b");
        b.n = 0; /* and as GNU writes it */
        put_entry(&b, &(struct entry){ .name = "c", .says = sizes[i] });
        s = buf_str(&b);
        tar_reader_init(&t, &(struct tar_source){ from_buf, &s });
        ok(tar_next(&t, &entry, &end, e));
        assert_true(entry.size == sizes[i]);
        buf_finish(&b);
    }
}

/* ---- heads -------------------------------------------------------------------------------------------- */

static enum err_code read_first(struct buf *b, struct tar_entry *entry, struct err *e)
{
    struct tar_reader t;
    struct str s = buf_str(b);
    bool end;
    tar_reader_init(&t, &(struct tar_source){ from_buf, &s });
    enum err_code code = tar_next(&t, entry, &end, e);
    assert_true(code || !end);
    return code;
}

/* Bytes of a head are others, and its sum is right. */
static void change_head(struct buf *b, size_t at, const char *bytes, size_t n)
{
    unsigned sum = 0;
    memcpy(b->p + at, bytes, n);
    memset(b->p + 148, ' ', 8);
    for (size_t k = 0; k < 512; k++)
        sum += (unsigned char)b->p[k];
    snprintf(b->p + 148, 8, "%06o", sum);
}

static void heads_that_are_none(void **state)
{
    static const struct {
        size_t at;
        const char *bytes, *sentence;
    } rows[] = { { 257, "ustaR", "no POSIX archive" },
                 { 124, "0000000000z", "size is not a number" },
                 { 124, "0000000 001", "size is not a number" },
                 { 100, "0000z44", "marked as a program" },
                 { 156, "Q", "of a kind that is not known" } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b;
        struct tar_entry entry;
        buf_init(&b, 4096);
        put_entry(&b, &(struct entry){ .name = "a" });
        ok(read_first(&b, &entry, e));
        change_head(&b, rows[i].at, rows[i].bytes, strlen(rows[i].bytes));
        fails_with(ERR_FORMAT, rows[i].sentence, read_first(&b, &entry, e));
        assert_false(tar_is(b.p, 511));
        buf_finish(&b);
    }
}

/* What records say of all entries, and what they say beside a name and a size, changes nothing. */
static void other_records_are_passed_over(void **state)
{
    static const struct entry rows[] = { { .name = "x", .type = 'g', .bytes = "10 path=z\n", .n = 10 },
                                         { .name = "x", .type = 'g', .bytes = "9 size=7\n", .n = 9 },
                                         { .name = "x", .type = 'x', .bytes = "11 mtime=7\n", .n = 11 } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b;
        struct tar_entry entry;
        buf_init(&b, 8192);
        put_entry(&b, &rows[i]);
        put_entry(&b, &(struct entry){ .name = "a", .bytes = "123", .n = 3 });
        ok(read_first(&b, &entry, e));
        assert_string_equal(entry.name, "a");
        assert_int_equal(entry.size, 3);
        buf_finish(&b);
    }
}

static void heads_as_they_are_written(void **state)
{
    struct buf b;
    struct tar_sink to = { to_buf, &b };
    char name[102];
    (void)state;
    memset(name, 'n', sizeof name);
    buf_init(&b, 8192);
    ok(tar_put_head(&to, "file", false, 1, e));
    ok(tar_put_head(&to, "dir/", true, 0, e));
    assert_string_equal(b.p + 100, "0000644");
    assert_string_equal(b.p + 512 + 100, "0000755");
    name[101] = '\0';
    fails_with(ERR_INTERNAL, "too long a name", tar_put_head(&to, name, false, 1, e));
    assert_int_equal(b.n, 1024);
    name[100] = '\0';
    ok(tar_put_head(&to, name, false, 1, e));
    buf_finish(&b);
}

/* As older archives, and those with long names, have it. */
static void other_heads(void **state)
{
    static const struct {
        size_t at;
        const char *bytes, *name;
    } rows[] = { { 156, "", "a" }, { 345, "in/here", "in/here/a" } };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b;
        struct tar_entry entry;
        buf_init(&b, 4096);
        put_entry(&b, &(struct entry){ .name = "a" });
        change_head(&b, rows[i].at, rows[i].bytes, strlen(rows[i].bytes) + 1);
        ok(read_first(&b, &entry, e));
        assert_string_equal(entry.name, rows[i].name);
        assert_false(entry.is_dir);
        buf_finish(&b);
    }
}

static void what_is_no_file_is_no_bundle(void **state)
{
    struct place *p = *state;
    int ends[2];
    open_place(p);
    assert_int_equal(pipe(ends), 0);
    struct store_bundle in_ = { .fd = ends[0], .path = "pipe" };
    fails_with(ERR_INVALID, "'pipe' is not a regular file", store_import_bundle(p->s, &in_, e));
    close(ends[0]);
    close(ends[1]);
    in_.fd = -1;
    fails_with(ERR_IO, "looking at 'pipe'", store_import_bundle(p->s, &in_, e));
}

/* ---- calls that fail ----------------------------------------------------------------------------------- */

static void every_operation_fails_once(void **state)
{
    struct place *p = *state;
    struct buf b;
    open_place(p);
    add_with_texts(p, "rich");
    add(p, "other", "more", STORE_COPY);
    ok(export(p, &b, "rich other", e));
    const int errors[] = { EIO, ENOSPC };
    for (size_t k = 0; k < 2; k++)
        for (uint64_t at = 1, n = 2; at <= n; at++) {
            struct err why = { 0 };
            store_close(p->s);
            p->s = NULL;
            snprintf(p->home, sizeof p->home, "%s/fault-%zu-%d", p->root, k, (int)at);
            open_place(p);
            uint64_t before = fault_count();
            fault_after(at, errors[k], k == 1);
            enum err_code code = import(p, buf_str(&b), NULL, &why);
            n = fault_count() - before;
            fault_after(0, 0, false);
            assert_true(code == ERR_OK || why.text[0]);
            open_place(p); /* what is listed resolves */
            struct store_list *list = NULL;
            ok(store_list(p->s, &list, e));
            for (size_t i = 0; i < list->n; i++)
                ok(resolve(p->s, list->models[i].name, e));
            assert_true(code != ERR_OK || list->n == 2);
            store_list_destroy(list);
            assert_int_equal(entries(p->home, "tmp"), 0);
        }
    buf_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(out_and_back, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(a_name_of_ones_own, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(what_is_there_is_not_written, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(a_sound_place_is_looked_into, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(a_changed_reference_is_not_exported, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(what_goes_while_it_is_exported, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_text_is_not_exported, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(it_can_be_cancelled, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(lies_of_one_entry, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(lies_of_what_is_in_it, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(lies_of_its_whole, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(cut_at_every_place, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(too_many, setup_in_memory, teardown),
        cmocka_unit_test(large_sizes),
        cmocka_unit_test_setup_teardown(texts_take_little_memory, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(many_long_texts, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(one_blob_twice_in_a_model, setup_in_memory, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_no_bundle, setup_in_memory, teardown),
        cmocka_unit_test(heads_that_are_none),
        cmocka_unit_test(other_heads),
        cmocka_unit_test(other_records_are_passed_over),
        cmocka_unit_test(heads_as_they_are_written),
        cmocka_unit_test_setup_teardown(every_operation_fails_once, setup_in_memory, teardown),
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
