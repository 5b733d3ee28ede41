/* store, catalog, manifest: opening, importing, names, lists; real SQLite, real files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "tests/store/place.h"

/* ---- opening --------------------------------------------------------------------------------- */

static void open_makes_what_is_missing_whatever_the_umask(void **state)
{
    struct place *p = *state;
    static const mode_t masks[] = { 0, 022, 077, 0777 };
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        snprintf(p->home, sizeof p->home, "%s/%zu//deep/home//", p->root, i);
        mode_t before = umask(masks[i]);
        reopen(p);
        const char *file = model_file(p, "m");
        assert_int_equal(chmod(file, 0644), 0);
        ok(import_file(p->s, "m", file, STORE_COPY, e));
        umask(before);
        assert_int_equal(mode_of(p->home, ".."), 0750);
        assert_int_equal(mode_of(p->home, "."), 0750);
        assert_int_equal(mode_of(p->home, "blobs"), 0750);
        assert_int_equal(mode_of(p->home, "tmp"), 0700);
        assert_int_equal(mode_of(p->home, "db"), 0640);
        assert_int_equal(mode_of(p->home, "db-wal"), 0640);
        assert_int_equal(mode_of(p->home, "db-shm"), 0640);
        assert_int_equal(mode_of(p->home, "db.lock"), 0640);
        assert_int_equal(mode_of(p->home, "db.reserve"), 0640);
        char hex[65], blob[80];
        hex_of("m", 1, hex);
        snprintf(blob, sizeof blob, "blobs/sha256-%s", hex);
        assert_int_equal(mode_of(p->home, blob), 0440);
        unlink(file);
    }
}

static int no_room(int fd, uint64_t bytes)
{
    (void)fd, (void)bytes;
    errno = ENOSPC;
    return -1;
}

/* What was put aside stays aside when the disk is full; where nothing can be, there is no empty file. */
static void the_reserve_is_kept(void **state)
{
    struct place *p = *state;
    struct file_ops full = file_system;
    full.reserve = no_room;
    ok(store_open_with(&full, p->home, &p->s, e));
    assert_int_equal(access(in(p, "home/db.reserve"), F_OK), -1);
    store_close(p->s);
    p->s = NULL;
    reopen(p);
    store_close(p->s);
    ok(store_open_with(&full, p->home, &p->s, e));
    assert_int_equal(access(in(p, "home/db.reserve"), F_OK), 0);
    store_close(p->s);
    p->s = NULL;
}

static void open_narrows_what_is_too_open(void **state)
{
    struct place *p = *state;
    char path[512];
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    static const char *const names[] = { "blobs", "tmp", "db", "db.lock" };
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", p->home, names[i]);
        assert_int_equal(chmod(path, 0777), 0);
    }
    reopen(p);
    assert_int_equal(mode_of(p->home, "blobs"), 0750);
    assert_int_equal(mode_of(p->home, "tmp"), 0700);
    assert_int_equal(mode_of(p->home, "db"), 0640);
    assert_int_equal(mode_of(p->home, "db.lock"), 0640);
}

/* Exit status of a child that opens the store: 0 opened, 3 in use by `holder`. */
static int open_in_child(const char *home, pid_t holder)
{
    pid_t child = fork();
    if (child == 0) {
        struct store *s;
        struct err e;
        char pid[32];
        enum err_code code = store_open(home, &s, &e);
        snprintf(pid, sizeof pid, "process %ld", (long)holder);
        if (!code)
            store_close(s);
        _exit(!code ? 0 : code == ERR_CONFLICT && strstr(e.text, pid) ? 3 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static void a_second_opener_is_told_who_has_it(void **state)
{
    struct place *p = *state;
    struct store *second;
    char who[32];
    reopen(p);
    snprintf(who, sizeof who, "process %ld", (long)getpid());
    fails_with(ERR_CONFLICT, who, store_open(p->home, &second, e));
    assert_int_equal(open_in_child(p->home, getpid()), 3);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(open_in_child(p->home, 0), 0);
}

static void the_lock_of_a_killed_process_is_free(void **state)
{
    struct place *p = *state;
    int ready[2];
    char byte = 0;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *s;
        byte = store_open(p->home, &s, NULL) == ERR_OK;
        _exit(write(ready[1], &byte, 1) == 1 ? pause() : 1);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    assert_int_equal(open_in_child(p->home, child), 3);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    reopen(p);
    close(ready[0]);
    close(ready[1]);
}

/* What a process that only looks finds under `name`: 0 the file of that text, else a sign of what went wrong. */
static int look_in_child(const char *home, const char *name, const char *path)
{
    pid_t child = fork();
    if (child == 0) {
        struct store *s;
        struct store_model *m = NULL;
        if (store_look(home, &s, NULL))
            _exit(1);
        if (store_resolve(s, name, &m, NULL))
            _exit(2);
        int wrong = strcmp(m->path, path) != 0 || access(m->path, R_OK) != 0;
        store_model_destroy(m);
        store_close(s);
        _exit(wrong ? 3 : 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
}

static void another_may_look_while_it_is_open(void **state)
{
    struct place *p = *state;
    struct store *s;
    reopen(p);
    const char *file = model_file(p, "by reference");
    ok(import_file(p->s, "m", file, STORE_REFERENCE, e));
    assert_int_equal(look_in_child(p->home, "m", file), 0);
    ok(store_look(p->home, &s, e)); /* what is written while it looks, it sees */
    assert_string_equal(listed(s), "m:latest ");
    add(p, "n", "copied in", STORE_COPY);
    assert_string_equal(listed(s), "n:latest m:latest ");
    fails_with(ERR_NOT_FOUND, "not found", resolve(s, "o", e));
    /* touched: hashed again, and that is not noted */
    const struct timespec times[2] = { { 1000000, 0 }, { 1000000, 0 } };
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    ok(resolve(s, "m", e));
    store_close(s);
    ok(store_remove(p->s, "n", NULL, e));
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(look_in_child(p->home, "m", file), 0); /* nobody else has it open */
    reopen(p);
    assert_string_equal(listed(p->s), "m:latest ");
}

static void looking_makes_nothing(void **state)
{
    struct place *p = *state;
    struct store *s;
    char db[256];
    fails_with(ERR_NOT_FOUND, "no store", store_look(p->home, &s, e));
    assert_int_equal(access(p->home, F_OK), -1);
    assert_int_equal(mkdir(p->home, 0750), 0);
    fails_with(ERR_NOT_FOUND, "no store", store_look(p->home, &s, e));
    assert_int_equal(access(in(p, "home/db"), F_OK), -1);
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    snprintf(db, sizeof db, "%s/db", p->home);
    sql(db, "PRAGMA user_version = 99");
    fails_with(ERR_CONFLICT, "99", store_look(p->home, &s, e));
}

static void homes_that_cannot_be(void **state)
{
    struct place *p = *state;
    struct store *s;
    char path[512];
    fails_with(ERR_INVALID, "home must be a path", store_open("", &s, e));
    write_file(in(p, "file"), "x", 1);
    fails_with(ERR_IO, "file", store_open(in(p, "file"), &s, e));
    fails_with(ERR_IO, "file", store_open(in(p, "file/below"), &s, e));
    /* a link where the store's own files should be is not followed */
    assert_int_equal(mkdir(p->home, 0750), 0);
    snprintf(path, sizeof path, "%s/db", p->home);
    assert_int_equal(symlink(in(p, "file"), path), 0);
    fails_with(ERR_IO, "db", store_open(p->home, &s, e));
    assert_file_is(in(p, "file"), "x", 1);
    /* but the home itself may be one */
    unlink(path);
    assert_int_equal(symlink("home", in(p, "link")), 0);
    snprintf(p->home, sizeof p->home, "%s", in(p, "link"));
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    assert_string_equal(listed(p->s), "m:latest ");
}

/* ---- schemas --------------------------------------------------------------------------------- */

/* The store refuses what stands at home/db, and leaves every byte of it. */
static void refused_untouched(struct place *p, const char *sentence)
{
    static const char *const names[] = { "home/db", "home/db-wal" };
    char *before[2] = { NULL, NULL };
    size_t n[2];
    struct store *s;
    for (size_t i = 0; i < 2; i++)
        if (access(in(p, names[i]), F_OK) == 0)
            before[i] = read_file(in(p, names[i]), &n[i]);
    fails_with(ERR_CONFLICT, sentence, store_open(p->home, &s, e));
    fails_with(ERR_CONFLICT, "nothing was written", store_open(p->home, &s, e));
    for (size_t i = 0; i < 2; i++) {
        if (before[i])
            assert_file_is(in(p, names[i]), before[i], n[i]);
        free(before[i]);
    }
    assert_non_null(before[0]);
}

static void a_newer_schema_is_refused_and_untouched(void **state)
{
    struct place *p = *state;
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"), "PRAGMA user_version = 3; CREATE TABLE news (x); INSERT INTO news VALUES (1)");
    refused_untouched(p, "schema 3");
    sql(in(p, "home/db"), "PRAGMA user_version = 2000000000");
    refused_untouched(p, "newer");
    sql(in(p, "home/db"), "PRAGMA user_version = -1");
    refused_untouched(p, "schema");
    sql(in(p, "home/db"), "DROP TABLE news; PRAGMA user_version = 2");
    reopen(p);
    assert_string_equal(listed(p->s), "m:latest ");
}

/* A newer program was killed: its version stands in the WAL only. */
static void a_newer_schema_in_the_wal_is_refused_and_untouched(void **state)
{
    struct place *p = *state;
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *c;
        sqlite3_open(in(p, "home/db"), &c);
        int rc = sqlite3_exec(c, "PRAGMA user_version = 7", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            raise(SIGKILL);
        _exit(1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status));
    struct stat st;
    assert_int_equal(stat(in(p, "home/db-wal"), &st), 0);
    assert_true(st.st_size > 0);
    refused_untouched(p, "schema 7");
}

static void what_is_not_ours_is_refused_and_untouched(void **state)
{
    struct place *p = *state;
    assert_int_equal(mkdir(p->home, 0750), 0);
    write_file(in(p, "home/db"), "dear diary", 10);
    refused_untouched(p, "not a catalog");
    char page[4096];
    memset(page, 'x', sizeof page);
    write_file(in(p, "home/db"), page, sizeof page);
    refused_untouched(p, "not a catalog");
    memset(page, 0, sizeof page);
    write_file(in(p, "home/db"), page, sizeof page);
    refused_untouched(p, "not a catalog");
    write_file(in(p, "home/db"), "SQLite format 3", 16);
    refused_untouched(p, "not a catalog");
    unlink(in(p, "home/db"));
    sql(in(p, "home/db"), "CREATE TABLE t (x); PRAGMA application_id = 77");
    refused_untouched(p, "not a catalog");
    sql(in(p, "home/db"), "PRAGMA application_id = 0");
    refused_untouched(p, "not a catalog");
    sql(in(p, "home/db"), "PRAGMA user_version = 1");
    refused_untouched(p, "not a catalog");
    sql(in(p, "home/db"), "DROP TABLE t");
    refused_untouched(p, "not a catalog");
}

/* Who only looks migrates nothing, and follows no link to another's catalog. */
static void looking_is_at_a_catalog_of_now(void **state)
{
    struct place *p = *state;
    struct store *s;
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"), "PRAGMA user_version = 1");
    fails_with(ERR_CONFLICT, "has schema 1 and is read at 2: start hearthd on it once", store_look(p->home, &s, e));
    sql(in(p, "home/db"), "PRAGMA user_version = 2");
    ok(store_look(p->home, &s, e));
    store_close(s);
    assert_int_equal(rename(in(p, "home/db"), in(p, "elsewhere")), 0);
    assert_int_equal(symlink(in(p, "elsewhere"), in(p, "home/db")), 0);
    fails_with(ERR_IO, "reading '", store_look(p->home, &s, e));
}

/* What a process of others left half done is not rolled back either: SQLite would, before it tells a version. */
static void a_hot_journal_is_left_to_whose_it_is(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *set, *sentence;
    } rows[] = { { "PRAGMA application_id = 0x48525448; PRAGMA user_version = 99", "schema 99" },
                 { "PRAGMA application_id = 77", "not a catalog" } };
    assert_int_equal(mkdir(p->home, 0750), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *path = in(p, i ? "other" : "newer");
        char journal[300];
        size_t n, n_journal;
        sqlite3 *c;
        snprintf(journal, sizeof journal, "%s-journal", path);
        sql(path, rows[i].set);
        sql(path, "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(200000))");
        assert_int_equal(sqlite3_open(path, &c), SQLITE_OK);
        assert_int_equal(sqlite3_exec(c, "PRAGMA cache_size = 2; BEGIN; UPDATE t SET x = randomblob(200000)", NULL,
                                      NULL, NULL), SQLITE_OK);
        char *db = read_file(path, &n), *hot = read_file(journal, &n_journal);
        write_file(in(p, "home/db"), db, n);
        write_file(in(p, "home/db-journal"), hot, n_journal);
        sqlite3_close(c);
        refused_untouched(p, rows[i].sentence);
        assert_file_is(in(p, "home/db-journal"), hot, n_journal);
        assert_true(n_journal > 4096);
        free(db);
        free(hot);
    }
}

static void an_empty_catalog_is_migrated(void **state)
{
    struct place *p = *state;
    assert_int_equal(mkdir(p->home, 0750), 0);
    write_file(in(p, "home/db"), "", 0); /* killed at once */
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "PRAGMA user_version"), CATALOG_SCHEMA);
    assert_int_equal(sql_int(in(p, "home/db"), "PRAGMA application_id"), CATALOG_APPLICATION);
    unlink(in(p, "home/db"));
    sql(in(p, "home/db"), "PRAGMA journal_mode = WAL"); /* killed before the first step */
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    assert_string_equal(listed(p->s), "m:latest ");
}

static void close_with_20_models(struct place *p)
{
    reopen(p);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        add(p, name, name, STORE_COPY);
    }
    store_close(p->s);
    p->s = NULL;
}

static void a_damaged_catalog_is_an_error(void **state)
{
    struct place *p = *state;
    struct store *s;
    close_with_20_models(p);
    size_t n;
    char *bytes = read_file(in(p, "home/db"), &n);
    for (size_t at = 100; at + 64 < n; at += 256)
        memset(bytes + at, 0xff, 64);
    write_file(in(p, "home/db"), bytes, n);
    free(bytes);
    fails_with(ERR_FORMAT, "catalog", store_open(p->home, &s, e));
}

/* Pages that are sound in themselves, and in the wrong place: no start may take what they say for the truth, and remove
 * files by it. */
static void a_misplaced_page_costs_no_file(void **state)
{
    struct place *p = *state;
    size_t page = 4096, n, refused = 0;
    close_with_20_models(p);
    char *right = read_file(in(p, "home/db"), &n), *wrong = malloc(n);
    for (size_t at = page; at + page < n; at += page)
        for (size_t from = page; from + page < n; from += page) {
            struct store *s = NULL;
            struct err e = { 0 };
            memcpy(wrong, right, n);
            memcpy(wrong + at, right + from, page);
            write_file(in(p, "home/db"), wrong, n);
            if (store_open(p->home, &s, &e) != ERR_OK) {
                refused++;
                assert_true(e.code == ERR_FORMAT && strlen(e.text) > 20);
                assert_file_is(in(p, "home/db"), wrong, n);
            } else {
                const char *names = listed(s);
                for (int i = 0; i < 20; i++) {
                    char name[24];
                    snprintf(name, sizeof name, "m%d:latest ", i);
                    assert_non_null(strstr(names, name));
                }
            }
            store_close(s);
            assert_int_equal(entries(p->home, "blobs"), 20);
        }
    assert_true(refused > n / page);
    free(right);
    free(wrong);
}

static void a_catalog_cut_off_to_nothing_is_not_a_new_one(void **state)
{
    struct place *p = *state;
    struct store *s;
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(truncate(in(p, "home/db"), 0), 0);
    fails_with(ERR_FORMAT, "is empty, and blobs/ beside it is not", store_open(p->home, &s, e));
    assert_file_is(in(p, "home/db"), "", 0);
    unlink(in(p, "home/db")); /* as the sentence says */
    reopen(p);
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "blobs"), 1);
}

/* ---- import and resolve ---------------------------------------------------------------------- */

static void import_by_copy(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL, *again = NULL;
    size_t size = 3 * 1024 * 1024 + 17;
    char *bytes = malloc(size), hex[65], blob[512];
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)(i * 2654435761u >> 24);
    const char *file = write_file(in(p, "model.gguf"), bytes, size);
    hex_of(bytes, size, hex);
    reopen(p);
    ok(import_files(p->s, "SmolLM2:135m", &file, 1, STORE_COPY, &m, e));
    snprintf(blob, sizeof blob, "%s/blobs/sha256-%s", p->home, hex);
    assert_string_equal(m->path, blob);
    assert_file_is(blob, bytes, size);
    assert_string_equal(m->name, "SmolLM2:135m");
    assert_string_equal(m->canonical, "registry.ollama.ai/library/SmolLM2:135m");
    assert_string_equal(m->parameter_size, "134.5M");
    assert_string_equal(m->facts.family, "llama");
    assert_string_equal(m->facts.format, "gguf");
    assert_string_equal(m->facts.quantization, "Q4_1");
    assert_string_equal(m->facts.capabilities, "completion");
    assert_int_equal(m->facts.n_params, llama.n_params);
    assert_int_equal(m->facts.context_length, 2048);
    assert_int_equal(m->facts.embedding_length, 576);
    assert_true(m->facts.has_weights && !m->by_reference);
    assert_int_equal(m->size, size);
    assert_string_equal(m->source, file);
    assert_int_equal(m->n_files, 1);
    assert_true(llabs(clock_wall_ns() - m->modified_ns) < 60000000000);
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_int_equal(entries(p->home, "blobs"), 1);
    unlink(file); /* ours is whole without it */
    reopen(p);
    ok(store_resolve(p->s, "smollm2:135M", &again, e));
    assert_string_equal(again->digest_hex, m->digest_hex);
    assert_string_equal(again->path, m->path);
    assert_string_equal(again->name, "SmolLM2:135m"); /* the stored case wins */
    store_model_destroy(m);
    store_model_destroy(again);
    free(bytes);
}

/* The digest is that of a manifest in Ollama's format whose parts hash to their names. */
static void the_manifest_is_ollamas(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    char hex[65], text[80];
    json_t *manifest, *config;
    reopen(p);
    add(p, "m", "bytes of a model", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    hex_of(m->manifest, strlen(m->manifest), hex);
    assert_string_equal(hex, m->digest_hex);
    ok(json_read(str_from(m->manifest), 4096, "manifest", &manifest, e));
    ok(json_read(str_from(m->config), 4096, "config", &config, e));
    assert_int_equal(json_integer_value(json_object_get(manifest, "schemaVersion")), 2);
    json_t *c = json_object_get(manifest, "config"), *l = json_object_get(manifest, "layers");
    hex_of(m->config, strlen(m->config), hex);
    snprintf(text, sizeof text, "sha256:%s", hex);
    assert_string_equal(json_string_value(json_object_get(c, "digest")), text);
    assert_int_equal(json_integer_value(json_object_get(c, "size")), strlen(m->config));
    assert_int_equal(json_array_size(l), 1);
    l = json_array_get(l, 0);
    hex_of("bytes of a model", 16, hex);
    snprintf(text, sizeof text, "sha256:%s", hex);
    assert_string_equal(json_string_value(json_object_get(l, "digest")), text);
    assert_int_equal(json_integer_value(json_object_get(l, "size")), 16);
    assert_string_equal(json_string_value(json_object_get(l, "mediaType")),
                        "application/vnd.ollama.image.model");
    assert_string_equal(json_string_value(json_object_get(config, "model_format")), "gguf");
    assert_string_equal(json_string_value(json_object_get(config, "model_type")), "134.5M");
    assert_string_equal(json_string_value(json_object_get(config, "file_type")), "Q4_1");
    assert_string_equal(
        json_string_value(json_array_get(json_object_get(config, "model_families"), 0)), "llama");
    json_decref(manifest);
    json_decref(config);
    store_model_destroy(m);
}

static void parameter_sizes(void **state)
{
    (void)state;
    static const struct {
        uint64_t n;
        const char *text;
    } rows[] = { { 0, "" },
                 { 1, "1" },
                 { 999, "999" },
                 { 1000, "1.0K" },
                 { 134515008, "134.5M" },
                 { 999949999, "999.9M" },
                 { 999950000, "1.0B" },
                 { 1235814432, "1.2B" },
                 { 8030261248, "8.0B" },
                 { 70553706496, "70.6B" },
                 { 671026419200, "671.0B" },
                 { 1000000000000, "1.0T" },
                 { UINT64_MAX, "18446.7Q" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[24];
        manifest_parameter_size(rows[i].n, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void import_by_reference(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL, *copied = NULL;
    struct stat before, after;
    reopen(p);
    const char *file = model_file(p, "referenced");
    assert_int_equal(chmod(file, 0604), 0);
    assert_int_equal(stat(file, &before), 0);
    ok(import_files(p->s, "ref", &file, 1, STORE_REFERENCE, &m, e));
    assert_string_equal(m->path, file);
    assert_true(m->by_reference && m->files[0].by_reference);
    assert_int_equal(entries(p->home, "blobs"), 0);
    /* the same bytes are the same model, however they came in */
    ok(import_files(p->s, "own", &file, 1, STORE_COPY, &copied, e));
    assert_string_equal(m->digest_hex, copied->digest_hex);
    assert_false(copied->by_reference);
    assert_int_equal(entries(p->home, "blobs"), 1);
    store_model_destroy(m);
    store_model_destroy(copied);
    uint64_t freed = 9;
    ok(store_remove(p->s, "own", &freed, e));
    assert_int_equal(freed, 0); /* `ref` names the same model */
    ok(store_remove(p->s, "ref", &freed, e));
    assert_int_equal(freed, 10);
    assert_int_equal(entries(p->home, "blobs"), 0);
    ok(import_file(p->s, "ref", file, STORE_REFERENCE, e));
    ok(store_remove(p->s, "ref", &freed, e));
    assert_int_equal(freed, 0);
    assert_int_equal(stat(file, &after), 0);
    assert_int_equal(before.st_mode, after.st_mode);
    assert_int_equal(before.st_ino, after.st_ino);
    assert_int_equal(before.st_nlink, after.st_nlink);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);
    assert_file_is(file, "referenced", 10);
}

/* What a progress callback of the tests does to the file that is being read. */
struct meddler {
    const char *path;
    int calls, stop_at;
    bool append, truncate;
    uint64_t last, total;
};

static bool meddle(void *user, uint64_t done, uint64_t total)
{
    struct meddler *m = user;
    m->calls++;
    assert_true(done >= m->last && done <= total);
    m->last = done;
    m->total = total;
    int fd = m->append || m->truncate ? open(m->path, O_WRONLY | O_APPEND) : -1;
    if (m->append)
        assert_int_equal(write(fd, "more", 4), 4);
    if (m->truncate)
        assert_int_equal(ftruncate(fd, 1000), 0);
    if (fd >= 0)
        close(fd);
    return m->calls != m->stop_at;
}

static void what_cannot_be_imported(void **state)
{
    struct place *p = *state;
    struct store_import_file f = { .fd = open(model_file(p, "x"), O_RDONLY), .path = in(p, "x") };
    struct store_import job = { .name = "m", .files = &f, .n_files = 1, .facts = llama };
    reopen(p);
    job.name = "../m";
    fails_with(ERR_INVALID, "not a model name", store_import(p->s, &job, NULL, e));
    job.name = "m@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    fails_with(ERR_INVALID, "takes no digest", store_import(p->s, &job, NULL, e));
    job.name = "m";
    job.n_files = 0;
    fails_with(ERR_INVALID, "1 to 1024 files", store_import(p->s, &job, NULL, e));
    job.n_files = 1;
    job.mode = STORE_REFERENCE;
    f.path = "x";
    fails_with(ERR_INVALID, "absolute", store_import(p->s, &job, NULL, e));
    f.path = model_file(p, "y");
    fails_with(ERR_INVALID, "not the file that was opened", store_import(p->s, &job, NULL, e));
    f.path = in(p, "nowhere");
    fails_with(ERR_NOT_FOUND, "nowhere", store_import(p->s, &job, NULL, e));
    job.mode = STORE_COPY;
    f.path = NULL;
    fails_with(ERR_INVALID, "no usable path", store_import(p->s, &job, NULL, e));
    f.path = "x";
    job.facts.family = "\xff";
    fails_with(ERR_INVALID, "family is not valid UTF-8", store_import(p->s, &job, NULL, e));
    char big[2000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\0';
    job.facts.family = big;
    fails_with(ERR_TOO_LARGE, "family has 1999 bytes", store_import(p->s, &job, NULL, e));
    job.facts = llama;
    job.facts.n_params = UINT64_MAX;
    fails_with(ERR_INVALID, "so many parameters", store_import(p->s, &job, NULL, e));
    job.facts = llama;
    f.path = "";
    fails_with(ERR_INVALID, "no usable path", store_import(p->s, &job, NULL, e));
    char *far = calloc(1, PATH_MAX + 1);
    memset(far, '/', PATH_MAX);
    f.path = far;
    fails_with(ERR_INVALID, "no usable path", store_import(p->s, &job, NULL, e));
    free(far);
    f.path = "x";
    big[256] = '\0';
    const char *const types[] = { big, "\xff" };
    for (size_t i = 0; i < 2; i++) {
        f.media_type = types[i];
        fails_with(ERR_INVALID, "media type is not UTF-8 of at most 255", store_import(p->s, &job, NULL, e));
    }
    struct store_import_file *many = calloc(STORE_MAX_FILES + 1, sizeof *many);
    job.files = many;
    job.n_files = STORE_MAX_FILES + 1;
    fails_with(ERR_INVALID, "1 to 1024 files, not 1025", store_import(p->s, &job, NULL, e));
    free(many);
    job.files = &f;
    job.n_files = 1;
    f.media_type = "application/vnd.ollama.image.projector";
    fails_with(ERR_INVALID, "no file of 'm' is a model", store_import(p->s, &job, NULL, e));
    close(f.fd);
    assert_string_equal(listed(p->s), "");
}

static void files_that_cannot_be_read(void **state)
{
    struct place *p = *state;
    struct store_import_file f = { .fd = -1, .path = "x" };
    struct store_import job = { .name = "m", .files = &f, .n_files = 1, .facts = llama };
    int fd = open(model_file(p, "x"), O_RDONLY);
    reopen(p);
    f.fd = open(p->root, O_RDONLY);
    fails_with(ERR_INVALID, "not a regular file", store_import(p->s, &job, NULL, e));
    close(f.fd);
    f.fd = open("/dev/zero", O_RDONLY);
    fails_with(ERR_INVALID, "not a regular file", store_import(p->s, &job, NULL, e));
    close(f.fd);
    f.fd = -1;
    fails_with(ERR_IO, "looking at 'x'", store_import(p->s, &job, NULL, e));
    f.fd = open(in(p, "x"), O_WRONLY);
    fails_with(ERR_IO, "reading 'x'", store_import(p->s, &job, NULL, e));
    close(f.fd);
    struct store_import_file two[] = { { .fd = fd, .path = "x" }, { .fd = open(in(p, "x"), O_WRONLY), .path = "x" } };
    job.files = two;
    job.n_files = 2;
    fails_with(ERR_IO, "reading 'x'", store_import(p->s, &job, NULL, e)); /* when the first is staged */
    close(two[1].fd);
    struct meddler looking = { 0 };
    two[1].fd = open(p->root, O_RDONLY);
    job.progress = meddle;
    job.user = &looking;
    fails_with(ERR_INVALID, "not a regular file", store_import(p->s, &job, NULL, e));
    assert_int_equal(looking.calls, 0); /* before anything is copied */
    close(two[1].fd);
    job.progress = NULL;
    job.files = &f;
    job.n_files = 1;
    assert_string_equal(listed(p->s), "");
    assert_int_equal(entries(p->home, "blobs"), 0);
    assert_int_equal(entries(p->home, "tmp"), 0);
    f.fd = fd;
    job.facts = (struct store_facts){ 0 }; /* nothing known is fine */
    ok(store_import(p->s, &job, NULL, e));
    close(fd);
}

static void progress_cancel_and_files_that_change(void **state)
{
    struct place *p = *state;
    size_t size = 20 * 1024 * 1024;
    char *bytes = calloc(1, size);
    assert_non_null(bytes);
    reopen(p);
    for (int mode = STORE_COPY; mode <= STORE_REFERENCE; mode++)
        for (int what = 0; what < 4; what++) {
            const char *path = write_file(in(p, "big"), bytes, size);
            struct meddler m = { .path = path,
                                 .stop_at = what == 1 ? 2 : 0,
                                 .append = what == 2,
                                 .truncate = what == 3 };
            struct store_import_file f = { .fd = open(path, O_RDONLY), .path = path };
            struct store_import job = { .name = "m",
                                        .files = &f,
                                        .n_files = 1,
                                        .mode = (enum store_mode)mode,
                                        .facts = llama,
                                        .progress = meddle,
                                        .user = &m };
            struct err said = { 0 };
            enum err_code code = store_import(p->s, &job, NULL, &said);
            close(f.fd);
            static const enum err_code expected[] = { ERR_OK, ERR_CANCELLED, ERR_CONFLICT,
                                                      ERR_CONFLICT };
            assert_int_equal(code, expected[what]);
            if (what == 0) {
                assert_true(m.calls >= 3 && m.last == size && m.total == size);
                ok(store_remove(p->s, "m", NULL, e));
            } else if (what > 1) {
                assert_non_null(strstr(said.text, "changed while"));
            }
            assert_string_equal(listed(p->s), "");
            assert_int_equal(entries(p->home, "blobs"), 0);
            assert_int_equal(entries(p->home, "tmp"), 0);
        }
    free(bytes);
}

static void shards_stay_together(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    const char *files[3] = { model_file(p, "a-00001-of-00003.gguf"),
                             model_file(p, "a-00002-of-00003.gguf"),
                             model_file(p, "a-00003-of-00003.gguf") };
    reopen(p);
    ok(import_files(p->s, "ref", files, 3, STORE_REFERENCE, &m, e));
    assert_int_equal(m->n_files, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(m->files[i].path, files[i]);
    assert_string_equal(m->path, files[0]);
    store_model_destroy(m);
    ok(import_files(p->s, "own", files, 3, STORE_COPY, &m, e));
    store_model_destroy(m);
    for (int round = 0; round < 2; round++) { /* before and after a restart */
        ok(store_resolve(p->s, "own", &m, e));
        assert_int_equal(m->size, 63);
        for (size_t i = 0; i < 3; i++) {
            char end[32], text[40];
            snprintf(end, sizeof end, "-%05zu-of-00003.gguf", i + 1);
            snprintf(text, sizeof text, "a%s", end);
            assert_true(str_ends(str_from(m->files[i].path), str_from(end)));
            assert_file_is(m->files[i].path, text, 21);
        }
        assert_string_equal(m->path, m->files[0].path);
        store_model_destroy(m);
        reopen(p);
    }
    ok(store_remove(p->s, "ref", NULL, e));
    ok(store_remove(p->s, "own", NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 0);
}

/* Files of the user's that a loader would not find by their names. */
static void shards_by_reference_get_names(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    const char *files[2] = { model_file(p, "one"), model_file(p, "two") };
    reopen(p);
    ok(import_files(p->s, "ref", files, 2, STORE_REFERENCE, &m, e));
    store_model_destroy(m);
    ok(store_resolve(p->s, "ref", &m, e));
    assert_true(m->by_reference && m->files[1].by_reference);
    assert_true(str_ends(str_from(m->path), STR("-00001-of-00002.gguf")));
    assert_true(str_ends(str_from(m->files[1].path), STR("-00002-of-00002.gguf")));
    assert_file_is(m->path, "one", 3);
    assert_file_is(m->files[1].path, "two", 3);
    store_model_destroy(m);
}

static atomic_bool enough;
static atomic_int refused;

static void *resolve_on(void *user)
{
    struct place *p = user;
    while (!atomic_load(&enough))
        atomic_fetch_add(&refused, resolve(p->s, "own", NULL) != ERR_OK);
    return NULL;
}

/* While one thread loads, others may resolve the same model. */
static void shards_keep_their_names(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    const char *files[2] = { model_file(p, "one"), model_file(p, "two") };
    pthread_t thread;
    reopen(p);
    ok(import_files(p->s, "own", files, 2, STORE_COPY, &m, e));
    assert_int_equal(pthread_create(&thread, NULL, resolve_on, p), 0);
    for (int i = 0; i < 20000; i++) {
        int fd = open(m->path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            fail_msg("after %d times: %s", i, strerror(errno));
        close(fd);
    }
    atomic_store(&enough, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&refused), 0);
    store_model_destroy(m);
    assert_int_equal(entries(p->home, "tmp"), 2);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(entries(p->home, "tmp"), 0);
}

static void names_find_models(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    char pinned[200], hex[65];
    reopen(p);
    add(p, "hf.co/Org/Repo:Q4_K_M", "one", STORE_COPY);
    add(p, "M", "two", STORE_COPY);
    add(p, "m:OLD", "three", STORE_COPY);
    ok(store_resolve(p->s, "https://HF.co/org/repo:q4_k_m", &m, e));
    assert_string_equal(m->name, "hf.co/Org/Repo:Q4_K_M");
    store_model_destroy(m);
    fails_with(ERR_NOT_FOUND, "model 'm:new' not found", store_resolve(p->s, "m:new", &m, e));
    fails_with(ERR_NOT_FOUND, "model 'x/m' not found", store_resolve(p->s, "x/m", &m, e));
    fails_with(ERR_INVALID, "not a model name", store_resolve(p->s, "/etc/passwd", &m, e));
    ok(store_resolve(p->s, "m:old", &m, e));
    memcpy(hex, m->digest_hex, sizeof hex);
    store_model_destroy(m);
    snprintf(pinned, sizeof pinned, "m@sha256:%s", hex); /* any tag that has it */
    ok(store_resolve(p->s, pinned, &m, e));
    assert_string_equal(m->name, "m:OLD");
    store_model_destroy(m);
    snprintf(pinned, sizeof pinned, "m:old@sha256:%s", hex);
    ok(store_resolve(p->s, pinned, &m, e));
    store_model_destroy(m);
    snprintf(pinned, sizeof pinned, "m:latest@sha256:%s", hex);
    fails_with(ERR_CONFLICT, hex, store_resolve(p->s, pinned, &m, e));
    fails_with(ERR_CONFLICT, hex, store_remove(p->s, pinned, NULL, e));
    hex[0] = hex[0] == '0' ? '1' : '0';
    snprintf(pinned, sizeof pinned, "m@sha256:%s", hex);
    fails_with(ERR_NOT_FOUND, "not found", store_resolve(p->s, pinned, &m, e));
}

/* ---- list, copy, remove ---------------------------------------------------------------------- */

static void list_is_newest_first(void **state)
{
    struct place *p = *state;
    reopen(p);
    assert_string_equal(listed(p->s), "");
    add(p, "a", "one", STORE_COPY);
    add(p, "b", "two", STORE_REFERENCE);
    add(p, "me/c:t", "three", STORE_COPY);
    assert_string_equal(listed(p->s), "me/c:t b:latest a:latest ");
    add(p, "A", "four", STORE_COPY); /* renewed: moves up, keeps its case */
    assert_string_equal(listed(p->s), "a:latest me/c:t b:latest ");
    ok(store_copy(p->s, "b", "d", e));
    assert_string_equal(listed(p->s), "d:latest a:latest me/c:t b:latest ");
    reopen(p);
    assert_string_equal(listed(p->s), "d:latest a:latest me/c:t b:latest ");
}

static void copy_and_remove_free_what_nothing_names(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    uint64_t freed;
    reopen(p);
    add(p, "a", "aaaa", STORE_COPY);
    add(p, "b", "bbbbbb", STORE_COPY);
    ok(store_copy(p->s, "a", "x:1", e));
    ok(store_copy(p->s, "A:LATEST", "x:2", e));
    assert_int_equal(entries(p->home, "blobs"), 2);
    ok(store_remove(p->s, "a", &freed, e));
    assert_int_equal(freed, 0);
    ok(store_resolve(p->s, "x:1", &m, e));
    assert_file_is(m->path, "aaaa", 4);
    store_model_destroy(m);
    ok(store_copy(p->s, "b", "x:1", e)); /* takes the place of the other */
    ok(store_resolve(p->s, "x:1", &m, e));
    assert_file_is(m->path, "bbbbbb", 6);
    store_model_destroy(m);
    assert_int_equal(entries(p->home, "blobs"), 2);
    ok(store_copy(p->s, "b", "x:2", e)); /* the last name of `aaaa` */
    assert_int_equal(entries(p->home, "blobs"), 1);
    ok(store_copy(p->s, "x:1", "X:1", e)); /* itself */
    fails_with(ERR_NOT_FOUND, "model 'a' not found", store_copy(p->s, "a", "c", e));
    fails_with(ERR_NOT_FOUND, "model 'a' not found", store_remove(p->s, "a", &freed, e));
    fails_with(ERR_INVALID, "not a model name", store_copy(p->s, "b", "../b", e));
    fails_with(ERR_INVALID, "not a model name", store_copy(p->s, "../b", "b", e));
    ok(store_remove(p->s, "x:1", &freed, e));
    ok(store_remove(p->s, "b", &freed, e));
    assert_int_equal(freed, 0);
    ok(store_remove(p->s, "X:2", &freed, e));
    assert_int_equal(freed, 6);
    assert_int_equal(entries(p->home, "blobs"), 0);
    assert_string_equal(listed(p->s), "");
    store_close(p->s);
    p->s = NULL;
    static const char *const tables[] = { "models", "tags",       "blobs", "layers",
                                          "files",  "provenance", "trash" };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        char q[64];
        snprintf(q, sizeof q, "SELECT count(*) FROM %s", tables[i]);
        assert_int_equal(sql_int(in(p, "home/db"), q), 0);
    }
}

static void models_share_blobs(void **state)
{
    struct place *p = *state;
    uint64_t freed;
    reopen(p);
    const char *one[2] = { model_file(p, "shared"), model_file(p, "first") };
    ok(import_files(p->s, "one", one, 2, STORE_COPY, NULL, e));
    const char *two[2] = { model_file(p, "second"), model_file(p, "shared") };
    ok(import_files(p->s, "two", two, 2, STORE_COPY, NULL, e));
    const char *same[2] = { model_file(p, "second"), model_file(p, "second") };
    ok(import_files(p->s, "three", same, 2, STORE_COPY, NULL, e));
    assert_int_equal(entries(p->home, "blobs"), 3);
    ok(store_remove(p->s, "one", &freed, e));
    assert_int_equal(freed, 5);
    ok(store_remove(p->s, "two", &freed, e));
    assert_int_equal(freed, 6);
    ok(store_remove(p->s, "three", &freed, e));
    assert_int_equal(freed, 6);
    assert_int_equal(entries(p->home, "blobs"), 0);
}

/* What the store never heard of is not its to remove; what it announced is. */
static void open_collects_leftovers_and_nothing_else(void **state)
{
    struct place *p = *state;
    char hex[65], path[512], stranger[512];
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    store_close(p->s);
    p->s = NULL;
    write_file(in(p, "home/tmp/part-7"), "half", 4);
    assert_int_equal(symlink(in(p, "bytes"), in(p, "home/tmp/link")), 0);
    hex_of("trash", 5, hex);
    snprintf(path, sizeof path, "%s/blobs/sha256-%s", p->home, hex);
    write_file(path, "trash", 5);
    char text[200];
    snprintf(text, sizeof text, "INSERT INTO trash VALUES (x'%s')", hex);
    sql(in(p, "home/db"), text);
    hex_of("bytes", 5, hex); /* killed after the commit that named it */
    snprintf(text, sizeof text, "INSERT INTO trash VALUES (x'%s')", hex);
    sql(in(p, "home/db"), text);
    hex_of("stranger", 8, hex);
    snprintf(stranger, sizeof stranger, "%s/blobs/sha256-%s", p->home, hex);
    write_file(stranger, "stranger", 8);
    reopen(p);
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_file_is(stranger, "stranger", 8);
    assert_file_is(in(p, "bytes"), "bytes", 5);
    struct store_model *m = NULL;
    ok(store_resolve(p->s, "m", &m, e));
    assert_file_is(m->path, "bytes", 5);
    store_model_destroy(m);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM trash"), 0);
}

/* Of this thread alone: what else the machine does is not the store's. */
static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void list_of_1000_models_takes_milliseconds(void **state)
{
    struct place *p = *state;
    reopen(p);
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"),
        "BEGIN; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
        "INSERT INTO models SELECT i, randomblob(32), x'7b7d', i * 1000000, 'gguf', 'llama', '8.0B',"
        " 'Q4_K_M', 'completion,tools', i, 8192, 4096, 1, 'apache-2.0' FROM n;"
        "INSERT INTO provenance SELECT id, 'hub', CAST('https://huggingface.co/organisation/some-model' AS BLOB),"
        " hex(randomblob(20)), 1 FROM models;"
        "INSERT INTO tags SELECT id, 'hf.co', 'organisation', 'some-model-' || id, 'Q4_K_M', id,"
        " 1700000000000000000 + id * 7919 % 1000 FROM models;"
        "INSERT INTO blobs SELECT randomblob(32), id, NULL, id, x'' FROM models;"
        "INSERT INTO blobs SELECT randomblob(32), 2, x'7b7d', id, x'' FROM models;"
        "INSERT INTO layers SELECT id, 1, 'application/vnd.ollama.image.model',"
        " (SELECT digest FROM blobs WHERE rowid = id), 'model' FROM models;"
        "INSERT INTO layers SELECT id, 0, 'application/vnd.docker.container.image.v1+json',"
        " (SELECT digest FROM blobs WHERE rowid = 1000 + id), 'config' FROM models;"
        "INSERT INTO files SELECT digest, x'', 1, 1, 1 FROM blobs WHERE body IS NULL; COMMIT");
    int64_t t = clock_ns();
    reopen(p);
    int64_t open_ns = clock_ns() - t, best = INT64_MAX;
    for (int i = 0; i < 30; i++) {
        struct store_list *l = NULL;
        t = cpu_ns();
        ok(store_list(p->s, &l, e));
        t = cpu_ns() - t;
        best = t < best ? t : best;
        assert_int_equal(l->n, 1000);
        for (size_t k = 1; k < l->n; k++)
            assert_true(l->models[k - 1].modified_ns >= l->models[k].modified_ns);
        assert_false(l->models[0].by_reference);
        store_list_destroy(l);
    }
    print_message("list of 1000 models: %.2f ms; open with them: %.2f ms\n", (double)best / 1e6,
                  (double)open_ns / 1e6);
    assert_true(best <= 50000000 * SLOWER); /* 3 to 5 ms; what would go through all for each takes seconds */
    assert_true(open_ns < 2000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(open_makes_what_is_missing_whatever_the_umask),
        T(the_reserve_is_kept),
        T(open_narrows_what_is_too_open),
        T(a_second_opener_is_told_who_has_it),
        T(the_lock_of_a_killed_process_is_free),
        T(another_may_look_while_it_is_open),
        T(looking_makes_nothing),
        T(homes_that_cannot_be),
        T(a_newer_schema_is_refused_and_untouched),
        T(a_newer_schema_in_the_wal_is_refused_and_untouched),
        T(what_is_not_ours_is_refused_and_untouched),
        T(looking_is_at_a_catalog_of_now),
        T(a_hot_journal_is_left_to_whose_it_is),
        T(an_empty_catalog_is_migrated),
        T(a_damaged_catalog_is_an_error),
        cmocka_unit_test_setup_teardown(a_misplaced_page_costs_no_file, setup_in_memory, teardown),
        T(a_catalog_cut_off_to_nothing_is_not_a_new_one),
        T(import_by_copy),
        T(the_manifest_is_ollamas),
        T(parameter_sizes),
        T(import_by_reference),
        T(what_cannot_be_imported),
        T(files_that_cannot_be_read),
        T(progress_cancel_and_files_that_change),
        T(shards_stay_together),
        T(shards_by_reference_get_names),
        T(shards_keep_their_names),
        T(names_find_models),
        T(list_is_newest_first),
        T(copy_and_remove_free_what_nothing_names),
        T(models_share_blobs),
        T(open_collects_leftovers_and_nothing_else),
        T(list_of_1000_models_takes_milliseconds),
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
