/* store, blob: files that changed, calls that fail in the middle, many calls at once. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "tests/store/place.h"

/* ---- files that are not as they were --------------------------------------------------------- */

static void a_changed_referenced_file_is_noticed(void **state)
{
    struct place *p = *state;
    struct timespec times[2];
    struct stat st;
    reopen(p);
    add(p, "m", "bytes", STORE_REFERENCE);
    const char *file = in(p, "bytes"), *away = in(p, "away");
    ok(resolve(p->s, "m", e));
    assert_int_equal(rename(file, away), 0);
    fails_with(ERR_NOT_FOUND, "is gone: put it back", resolve(p->s, "m", e));
    assert_int_equal(mkdir(file, 0755), 0);
    fails_with(ERR_CONFLICT, "has changed", resolve(p->s, "m", e));
    assert_int_equal(rmdir(file), 0);
    assert_int_equal(rename(away, file), 0);
    ok(resolve(p->s, "m", e));
    /* touched only: its bytes are looked at, and found right */
    assert_int_equal(stat(file, &st), 0);
    times[0] = times[1] = (struct timespec){ .tv_sec = st.st_mtim.tv_sec - 1000 };
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    ok(resolve(p->s, "m", e));
    /* another file with the same bytes in its place */
    write_file(away, "bytes", 5);
    assert_int_equal(rename(away, file), 0);
    ok(resolve(p->s, "m", e));
    /* written in place at once, same size: the next resolve sees it, and the one after too */
    write_file(file, "BYTES", 5);
    fails_with(ERR_CONFLICT, "has changed since it was imported", resolve(p->s, "m", e));
    fails_with(ERR_CONFLICT, file, resolve(p->s, "m", e));
    reopen(p);
    fails_with(ERR_CONFLICT, "import it again", resolve(p->s, "m", e));
    assert_string_equal(listed(p->s), "m:latest "); /* still listed, and can be removed */
    write_file(file, "bytes", 5);
    ok(resolve(p->s, "m", e));
    write_file(file, "byt", 3);
    fails_with(ERR_CONFLICT, "(3 bytes now, 5 then)", resolve(p->s, "m", e));
    write_file(file, "bytes more", 10);
    fails_with(ERR_CONFLICT, "(10 bytes now, 5 then)", resolve(p->s, "m", e));
    /* imported again, it is another model under the old name */
    ok(import_file(p->s, "m", file, STORE_REFERENCE, e));
    ok(resolve(p->s, "m", e));
    unlink(file);
    ok(store_remove(p->s, "m", NULL, e));
}

static void a_moved_file_can_be_imported_from_its_new_place(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    reopen(p);
    add(p, "m", "bytes", STORE_REFERENCE);
    const char *file = in(p, "bytes"), *moved = in(p, "abc");
    assert_int_equal(rename(file, moved), 0);
    ok(import_files(p->s, "m", &moved, 1, STORE_REFERENCE, &m, e));
    assert_string_equal(m->path, moved);
    store_model_destroy(m);
    const char *last = in(p, "zzz");
    assert_int_equal(rename(moved, last), 0);
    ok(import_files(p->s, "n", &last, 1, STORE_REFERENCE, &m, e));
    assert_string_equal(m->path, last);
    store_model_destroy(m);
    ok(resolve(p->s, "m", e)); /* the same model */
    ok(import_file(p->s, "o", last, STORE_COPY, e));
    unlink(last);
    ok(resolve(p->s, "m", e));
}

static void a_link_is_followed_to_the_file(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    reopen(p);
    const char *file = model_file(p, "target"), *link = in(p, "link");
    assert_int_equal(symlink(file, link), 0);
    ok(import_files(p->s, "m", &link, 1, STORE_REFERENCE, &m, e));
    assert_string_equal(m->path, link);
    store_model_destroy(m);
    unlink(link);
    assert_int_equal(symlink(model_file(p, "others"), link), 0);
    fails_with(ERR_CONFLICT, "has changed", resolve(p->s, "m", e));
}

static void our_own_blob_is_not_taken_for_the_users(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    ok(import_file(p->s, "n", m->path, STORE_REFERENCE, e));
    store_model_destroy(m);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM files WHERE path != x''"), 0);
    reopen(p);
    ok(store_remove(p->s, "m", NULL, e));
    ok(resolve(p->s, "n", e));
}

static void a_lost_or_damaged_blob_is_noticed_and_repaired_by_import(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    char path[512];
    reopen(p);
    add(p, "m", "bytes", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    snprintf(path, sizeof path, "%s", m->path);
    store_model_destroy(m);
    unlink(path);
    fails_with(ERR_NOT_FOUND, "is gone from the store", resolve(p->s, "m", e));
    add(p, "m", "bytes", STORE_COPY);
    ok(resolve(p->s, "m", e));
    assert_int_equal(chmod(path, 0640), 0);
    write_file(path, "BYTES", 5);
    fails_with(ERR_CONFLICT, "is damaged in the store", resolve(p->s, "m", e));
    add(p, "other", "bytes", STORE_REFERENCE); /* the user's file has the bytes */
    ok(store_resolve(p->s, "m", &m, e));
    assert_true(m->by_reference);
    store_model_destroy(m);
    add(p, "m", "bytes", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    assert_false(m->by_reference);
    store_model_destroy(m);
    assert_file_is(path, "bytes", 5);
    assert_int_equal(mode_of(p->home, path + strlen(p->home) + 1), 0440);
}

/* ---- reflink --------------------------------------------------------------------------------- */

/* Stands for FICLONE where the file system has none: the clone appears at once. */
static int pretend_reflink(int to, int from)
{
    char bytes[64];
    ssize_t n = pread(from, bytes, sizeof bytes, 0);
    return n >= 0 && pwrite(to, bytes, (size_t)n, 0) == n ? 0 : -1;
}

static ssize_t no_write(int fd, const void *p, size_t n, uint64_t offset)
{
    (void)fd, (void)p, (void)n, (void)offset;
    errno = EIO;
    return -1;
}

static void a_reflink_is_hashed_and_not_copied(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    struct store_model *m = NULL;
    ops.reflink = pretend_reflink;
    ops.write = no_write;
    ok(store_open_with(&ops, p->home, &p->s, e));
    const char *file = model_file(p, "bytes");
    ok(import_files(p->s, "m", &file, 1, STORE_COPY, &m, e));
    assert_file_is(m->path, "bytes", 5);
    store_model_destroy(m);
    ops.reflink = file_system.reflink; /* and where both fail, nothing is left */
    ops.reserve = file_system.reserve;
    fails_with(ERR_IO, "copying", import_file(p->s, "n", model_file(p, "more"), STORE_COPY, e));
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_string_equal(listed(p->s), "m:latest ");
    store_close(p->s);
    p->s = NULL;
}

/* ---- the order of things --------------------------------------------------------------------- */

static char order[64]; /* what was done to a blob, a letter each */

static void note(char c)
{
    size_t n = strlen(order);
    if (n + 1 < sizeof order)
        order[n] = c;
}
static ssize_t noted_write(int fd, const void *p, size_t n, uint64_t offset)
{
    note('w');
    return file_system.write(fd, p, n, offset);
}
static int noted_sync(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    note(S_ISDIR(st.st_mode) ? 'D' : 'F');
    return file_system.sync(fd);
}
static int noted_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    note('r');
    return file_system.rename(from_dir, from, to_dir, to);
}
static int noted_unlink(int dir, const char *name)
{
    note('u');
    return file_system.unlink(dir, name);
}

/* No kill can show a missing sync, for the page cache survives it. This can. */
static void a_blob_is_synced_before_it_is_named(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    ops.write = noted_write;
    ops.sync = noted_sync;
    ops.rename = noted_rename;
    ops.unlink = noted_unlink;
    ok(store_open_with(&ops, p->home, &p->s, e));
    memset(order, 0, sizeof order);
    ok(import_file(p->s, "m", model_file(p, "bytes"), STORE_COPY, e));
    assert_string_equal(order, "wFrD"); /* bytes, file, its name, the directory */
    memset(order, 0, sizeof order);
    ok(store_remove(p->s, "m", NULL, e));
    assert_string_equal(order, "uD");
    store_close(p->s);
    p->s = NULL;
}

/* ---- what fails in the middle ---------------------------------------------------------------- */

/* Every file in blobs/ is named by the catalog, every model's files hold what they should, and
 * nothing lies in tmp/: asked of a store that was opened anew. */
static void assert_whole(struct place *p)
{
    struct store_list *l = NULL;
    assert_int_equal(entries(p->home, "tmp"), 0);
    ok(store_list(p->s, &l, e));
    for (size_t i = 0; i < l->n; i++) {
        struct store_model *m = NULL;
        ok(store_resolve(p->s, l->models[i].canonical, &m, e));
        for (size_t k = 0; k < m->n_files; k++) {
            size_t n;
            struct stat st;
            char hex[65], is[65], *bytes = read_file(m->files[k].path, &n);
            hex_of(bytes, n, is);
            digest_hex(&m->files[k].digest, hex);
            assert_string_equal(is, hex);
            assert_int_equal(stat(m->files[k].path, &st), 0);
            if (strstr(m->files[k].path, "/blobs/"))
                assert_int_equal(st.st_mode & 07777, 0440);
            free(bytes);
        }
        store_model_destroy(m);
    }
    store_list_destroy(l);
    size_t files = entries(p->home, "blobs");
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM files WHERE path = x''"),
                     files);
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM trash"), 0);
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM pragma_integrity_check"
                                               " WHERE integrity_check != 'ok'"),
                     0);
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT count(*) FROM pragma_foreign_key_check"), 0);
}

/* Each does one thing to a store that holds `a` (copied) and `r` (by reference). */
struct operation {
    const char *what;
    enum err_code (*run)(struct place *p, struct err *e);
    const char *before, *after; /* what is listed */
    bool closed;                /* begins with a store that is closed */
};

static enum err_code op_import(struct place *p, struct err *e)
{
    const char *files[2] = { in(p, "two"), in(p, "three") };
    struct store_model *m = NULL;
    enum err_code code = import_files(p->s, "new", files, 2, STORE_COPY, &m, e);
    store_model_destroy(m);
    return code;
}
static enum err_code op_replace(struct place *p, struct err *e)
{
    return import_file(p->s, "a:latest", in(p, "two"), STORE_COPY, e);
}
static enum err_code op_reference(struct place *p, struct err *e)
{
    return import_file(p->s, "new", in(p, "two"), STORE_REFERENCE, e);
}
static enum err_code op_copy(struct place *p, struct err *e)
{
    return store_copy(p->s, "r", "a", e);
}
static enum err_code op_remove(struct place *p, struct err *e)
{
    return store_remove(p->s, "a", NULL, e);
}
static enum err_code op_resolve(struct place *p, struct err *e)
{
    enum err_code code = resolve(p->s, "a", e);
    return code ? code : resolve(p->s, "r", e);
}
static enum err_code op_list(struct place *p, struct err *e)
{
    struct store_list *l = NULL;
    enum err_code code = store_list(p->s, &l, e);
    store_list_destroy(l);
    return code;
}
static enum err_code op_open(struct place *p, struct err *e)
{
    return store_open_with(&fault_ops, p->home, &p->s, e);
}

static const struct operation operations[] = {
    { "import", op_import, "r:latest a:latest ", "new:latest r:latest a:latest ", false },
    { "replace", op_replace, "r:latest a:latest ", "a:latest r:latest ", false },
    { "reference", op_reference, "r:latest a:latest ", "new:latest r:latest a:latest ", false },
    { "copy", op_copy, "r:latest a:latest ", "a:latest r:latest ", false },
    { "remove", op_remove, "r:latest a:latest ", "r:latest ", false },
    { "resolve", op_resolve, "r:latest a:latest ", "r:latest a:latest ", false },
    { "list", op_list, "r:latest a:latest ", "r:latest a:latest ", false },
    { "open", op_open, "r:latest a:latest ", "r:latest a:latest ", true },
};

/* The store as every experiment finds it. */
static void prepare(struct place *p, const struct operation *op)
{
    reopen(p);
    struct store_list *l = NULL;
    ok(store_list(p->s, &l, e));
    for (size_t i = 0; i < l->n; i++)
        ok(store_remove(p->s, l->models[i].name, NULL, e));
    store_list_destroy(l);
    ok(import_file(p->s, "a", in(p, "one"), STORE_COPY, e));
    ok(import_file(p->s, "r", in(p, "ref"), STORE_REFERENCE, e));
    if (op->closed) {
        store_close(p->s);
        p->s = NULL;
    }
}

/* After an operation that failed (or not): as before, or as after; and whole. */
static void judge(struct place *p, const struct operation *op, enum err_code code, bool doubt)
{
    if (!p->s)
        reopen(p);
    if (code) /* whatever the disk may hold */
        assert_string_equal(listed(p->s), op->before);
    reopen(p);
    const char *is = listed(p->s);
    if (!code)
        assert_string_equal(is, op->after);
    else if (strcmp(is, op->before) != 0 && (!doubt || strcmp(is, op->after) != 0))
        fail_msg("%s left '%s'", op->what, is);
    assert_whole(p);
    assert_file_is(in(p, "ref"), "ref", 3);
    assert_file_is(in(p, "two"), "two", 3);
}

static void files_for_operations(struct place *p)
{
    model_file(p, "one");
    model_file(p, "two");
    model_file(p, "three");
    model_file(p, "ref");
}

static void every_allocation_may_fail(void **state)
{
    struct place *p = *state;
    files_for_operations(p);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        enum err_code code = ERR_NO_MEMORY;
        uint64_t n = 0;
        for (bool sticky = false; code; sticky = !sticky && n % 4 == 0) {
            n += !sticky; /* once, and at times from there on */
            prepare(p, &operations[i]);
            struct err e = { 0 };
            mem_fail_after(n, sticky);
            code = operations[i].run(p, &e);
            mem_fail_after(0, false);
            if (code) {
                if (code != ERR_NO_MEMORY)
                    fail_msg("%s %d: %s", operations[i].what, (int)n, e.text);
                assert_true(e.text[0]);
            }
            judge(p, &operations[i], code, false);
        }
        print_message("%s: %d allocations\n", operations[i].what, (int)n - 1);
        assert_true(n > 1);
    }
}

/* Nothing that a store made outlives it, when an allocation failed in it as when none did. */
static void nothing_leaks(void **state)
{
    struct place *p = *state;
    files_for_operations(p);
    prepare(p, &operations[sizeof operations / sizeof *operations - 1]);
    uint64_t live = mem_live();
    for (uint64_t n = 0; n < 400; n += 7) {
        struct err e;
        for (size_t i = 0; !operations[i].closed; i++) {
            if (!p->s && store_open(p->home, &p->s, &e))
                continue;
            mem_fail_after(n, false);
            operations[i].run(p, &e);
            mem_fail_after(0, false);
        }
        store_close(p->s);
        p->s = NULL;
        assert_int_equal(mem_live(), live);
    }
}

/* Of a commit whose sync failed nobody can say whether the disk has it; of all else we can. Nothing is done of which a
 * sync failed, but for files that are on the way out: the trash names them still. */
static void every_file_operation_may_fail(void **state)
{
    struct place *p = *state;
    static const int errors[] = { EIO, ENOSPC };
    uint64_t all = 0;
    files_for_operations(p);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        uint64_t most = 0;
        for (int kind = 0; kind < 4; kind++) {
            uint64_t n = 0, count;
            int errnum = errors[kind % 2];
            do {
                n++;
                prepare(p, &operations[i]);
                struct err e = { 0 };
                count = fault_count();
                uint64_t lost = fault_lost_syncs();
                fault_after(n, errnum, kind >= 2);
                enum err_code code = operations[i].run(p, &e);
                fault_after(0, 0, false);
                count = fault_count() - count;
                if (!code && !operations[i].closed && fault_lost_syncs() > lost &&
                    sql_int(in(p, "home/db"), "SELECT count(*) FROM trash") == 0)
                    fail_msg("%s: a sync failed at %d, and it was done all the same", operations[i].what, (int)n);
                if (code && !e.text[0])
                    fail_msg("%s fails without a word", operations[i].what);
                judge(p, &operations[i], code, true);
            } while (count >= n);
            most = n - 1 > most ? n - 1 : most;
        }
        print_message("%s: %d file operations\n", operations[i].what, (int)most);
        all += most;
    }
    assert_true(all > 200);
}

static void a_full_disk_says_so(void **state)
{
    struct place *p = *state;
    size_t size = 4 * 1024 * 1024;
    char *bytes = calloc(1, size);
    assert_non_null(bytes);
    reopen(p);
    const char *file = write_file(in(p, "big"), bytes, size);
    free(bytes);
    fault_after(1, ENOSPC, true);
    fails_with(ERR_IO, "No space left", import_file(p->s, "m", file, STORE_COPY, e));
    fault_after(0, 0, false);
    fault_after(1, ENOSPC, true);
    fails_with(ERR_IO, "full", import_file(p->s, "m", file, STORE_REFERENCE, e));
    fault_after(0, 0, false);
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_string_equal(listed(p->s), "");
    ok(import_file(p->s, "m", file, STORE_COPY, e));
}

/* ---- many at once ---------------------------------------------------------------------------- */

struct worker {
    struct place *p;
    unsigned id;
    pthread_t thread;
    int unexpected;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    for (unsigned i = 0; i < 25; i++) {
        char name[32], path[512];
        struct store_model *m = NULL;
        struct store_list *l = NULL;
        /* two workers share each name, and all share the bytes */
        snprintf(name, sizeof name, "m%u", (w->id / 2 + i) % 3);
        snprintf(path, sizeof path, "%s/%s", w->p->root, i % 2 ? "two" : "three");
        struct store_import_file f = { .fd = open(path, O_RDONLY), .path = path };
        struct store_import job = { .name = name,
                                    .files = &f,
                                    .n_files = 1,
                                    .mode = i % 3 ? STORE_COPY : STORE_REFERENCE,
                                    .facts = llama };
        w->unexpected += store_import(w->p->s, &job, NULL, NULL) != ERR_OK;
        close(f.fd);
        enum err_code code = store_resolve(w->p->s, name, &m, NULL);
        w->unexpected += code && code != ERR_NOT_FOUND;
        store_model_destroy(m);
        w->unexpected += store_list(w->p->s, &l, NULL) != ERR_OK;
        store_list_destroy(l);
        code = i % 4 == 3 ? store_remove(w->p->s, name, NULL, NULL)
                          : store_copy(w->p->s, name, "copy", NULL);
        w->unexpected += code && code != ERR_NOT_FOUND;
    }
    return NULL;
}

static void calls_may_overlap(void **state)
{
    struct place *p = *state;
    struct worker w[6];
    files_for_operations(p);
    reopen(p);
    for (unsigned i = 0; i < 6; i++) {
        w[i] = (struct worker){ .p = p, .id = i };
        assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].unexpected, 0);
    }
    assert_whole(p);
}

/* A store that opens is on the disk, its home and what is above it too. */
static void an_open_store_lost_no_sync(void **state)
{
    struct place *p = *state;
    char home[600];
    size_t refused = 0;
    bool through = false;
    for (uint64_t n = 1; !through; n++) {
        snprintf(home, sizeof home, "%s/%d/above/home", p->home, (int)n);
        struct store *s = NULL;
        struct err e;
        uint64_t lost = fault_lost_syncs(), before = fault_count();
        fault_after(n, EIO, false);
        enum err_code code = store_open_with(&fault_ops, home, &s, &e);
        through = fault_count() - before < n;
        fault_after(0, 0, false);
        lost = fault_lost_syncs() - lost;
        if (!code && lost)
            fail_msg("operation %d: a sync failed", (int)n);
        refused += lost > 0;
        store_close(s);
    }
    assert_true(refused > 3);
}

static ino_t watched;
static unsigned syncs_of_it;

static int watching_sync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0)
        syncs_of_it += st.st_ino == watched;
    return fsync(fd);
}

/* Whoever made the home may have been killed before it was synced, with the WAL there already: SQLite syncs the
 * directory for a new one alone. */
static void an_open_syncs_its_home_each_time(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    struct stat st;
    ops.sync = watching_sync;
    for (int i = 0; i < 2; i++) {
        reopen(p);
        store_close(p->s);
        p->s = NULL;
        assert_int_equal(stat(p->home, &st), 0);
        watched = st.st_ino;
        syncs_of_it = 0;
        ok(store_open_with(&ops, p->home, &p->s, e));
        assert_int_equal(syncs_of_it, 1);
        store_close(p->s);
        p->s = NULL;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define M(f) cmocka_unit_test_setup_teardown(f, setup_in_memory, teardown)
        T(a_changed_referenced_file_is_noticed),
        T(a_moved_file_can_be_imported_from_its_new_place),
        T(a_link_is_followed_to_the_file),
        T(our_own_blob_is_not_taken_for_the_users),
        T(a_lost_or_damaged_blob_is_noticed_and_repaired_by_import),
        T(a_reflink_is_hashed_and_not_copied),
        T(a_blob_is_synced_before_it_is_named),
        M(every_allocation_may_fail),
        M(nothing_leaks),
        M(every_file_operation_may_fail),
        M(an_open_store_lost_no_sync),
        M(an_open_syncs_its_home_each_time),
        T(a_full_disk_says_so),
        T(calls_may_overlap),
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
