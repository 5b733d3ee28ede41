/* What stands between the store and a loss, one by one: syncs in their places, files that are not what they
 * were, links that nobody follows. Each test here fails when its line of the store is taken away. */
#include <errno.h>
#include <fcntl.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "store/adopt.h"
#include "store/commit.h"
#include "store/create.h"
#include "store/download.h"
#include "store/journal.h"
#include "store/keys.h"
#include "store/verify.h"
#include "tests/store/place.h"

/* ---- syncs -------------------------------------------------------------------------------------- */

/* Of each inode: is there something that a power cut could take, and how often was it synced? */
static struct watched {
    uint64_t inode;
    bool dirty;
    unsigned syncs;
} watched[512];
static size_t n_watched;
static char too_early[256];   /* the name that a file was moved to before its bytes were safe */
static char unannounced[256]; /* a blob that the catalog did not list as trash when it was moved into place */
static const char *catalog;   /* whose trash is looked at; NULL: none */

static struct watched *watch(uint64_t inode)
{
    for (size_t i = 0; i < n_watched; i++)
        if (watched[i].inode == inode)
            return &watched[i];
    assert_true(n_watched < sizeof watched / sizeof *watched);
    watched[n_watched] = (struct watched){ .inode = inode };
    return &watched[n_watched++];
}

static struct watched *watch_fd(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return watch(st.st_ino);
}

static struct watched *watch_path(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return watch(st.st_ino);
}

static int w_open(int dir, const char *name, int flags, mode_t mode)
{
    bool makes = flags & O_CREAT && faccessat(dir, name, F_OK, 0) < 0;
    int fd = file_system.open(dir, name, flags, mode);
    if (fd >= 0 && makes) {
        watch_fd(dir)->dirty = true;
        *watch_fd(fd) = (struct watched){ .inode = watch_fd(fd)->inode, .dirty = true }; /* inodes come back */
    }
    return fd;
}
static ssize_t w_write(int fd, const void *p, size_t n, uint64_t offset)
{
    watch_fd(fd)->dirty = true;
    return file_system.write(fd, p, n, offset);
}
static int w_reflink(int to, int from)
{
    watch_fd(to)->dirty = true;
    return file_system.reflink(to, from);
}
static int w_mode(int fd, mode_t mode)
{
    watch_fd(fd)->dirty = true;
    return file_system.mode(fd, mode);
}
static int w_sync(int fd)
{
    watch_fd(fd)->dirty = false;
    watch_fd(fd)->syncs++;
    return file_system.sync(fd);
}
static int w_rename(int from_dir, const char *from, int to_dir, const char *to)
{
    struct stat st;
    if (fstatat(from_dir, from, &st, AT_SYMLINK_NOFOLLOW) == 0 && watch(st.st_ino)->dirty)
        snprintf(too_early, sizeof too_early, "%s", to);
    if (catalog && strncmp(to, "sha256-", 7) == 0) {
        char text[200];
        snprintf(text, sizeof text, "SELECT count(*) FROM trash WHERE lower(hex(digest)) = '%.64s'", to + 7);
        if (sql_int(catalog, text) == 0)
            snprintf(unannounced, sizeof unannounced, "%s", to);
    }
    watch_fd(from_dir)->dirty = watch_fd(to_dir)->dirty = true;
    return file_system.rename(from_dir, from, to_dir, to);
}
static int w_unlink(int dir, const char *name)
{
    watch_fd(dir)->dirty |= faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    return file_system.unlink(dir, name);
}

static struct file_ops watching(void)
{
    struct file_ops ops = file_system;
    ops.open = w_open;
    ops.write = w_write;
    ops.reflink = w_reflink;
    ops.mode = w_mode;
    ops.sync = w_sync;
    ops.rename = w_rename;
    ops.unlink = w_unlink;
    n_watched = 0;
    too_early[0] = unannounced[0] = '\0';
    return ops;
}

static enum err_code look(void *user, const char *const *paths, size_t n, struct str texts, struct arena *a,
                          struct store_facts *out, struct err *e)
{
    (void)user, (void)paths, (void)n, (void)texts, (void)a, (void)e;
    *out = llama;
    return ERR_OK;
}

static struct digest digest_of(const char *text)
{
    struct digest d;
    assert_int_equal(manifest_digest(str_from(text), &d, NULL), ERR_OK);
    return d;
}

static void take_in(struct place *p)
{
    add(p, "m", "imported", STORE_COPY);
}

static enum err_code send(struct uploads *u, const char *text, struct err *e)
{
    struct digest d = digest_of(text);
    struct upload *x = NULL;
    enum err_code c = upload_begin(u, &d, true, strlen(text), &x, e);
    if (c || !x)
        return c;
    c = upload_write(x, text, strlen(text), e);
    if (c)
        upload_abort(x);
    return c ? c : upload_end(x, e);
}

static void upload_and_create(struct place *p)
{
    struct uploads *u = NULL;
    struct store_create_file f = { .kind = MEDIA_MODEL, .name = "f.gguf", .has_digest = true,
                                   .digest = digest_of("uploaded"), .fd = -1 };
    ok(uploads_create(p->s, &u, e));
    ok(send(u, "uploaded", e));
    struct store_create in = { .name = "u", .files = &f, .n_files = 1, .uploads = u };
    ok(store_create(p->s, &in, NULL, e));
    uploads_destroy(u);
}

static void mend(struct place *p)
{
    struct store_model *m = NULL;
    struct store_verify in = { .name = "m", .repair = true };
    struct store_verified out;
    ok(store_resolve(p->s, "m", &m, e));
    assert_int_equal(unlink(m->path), 0);
    store_model_destroy(m);
    ok(store_verify(p->s, &in, &out, e));
    assert_int_equal(out.repaired, 1);
}

static void take_out(struct place *p)
{
    ok(store_remove(p->s, "m", NULL, e));
}

static void make_keys(struct place *p)
{
    struct buf b;
    buf_init(&b, 1024);
    ok(keys_public(p->s, &b, e));
    buf_finish(&b);
}

/* After each of them nothing that it did to names in blobs/ or keys/ is left to luck, no file came to stand
 * under its name before its bytes and its mode were on the disk, and none in blobs/ before the catalog
 * said that it may have to go again. */
static void what_is_named_is_on_the_disk(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *what, *dir;
        void (*call)(struct place *p);
    } rows[] = { { "import", "home/blobs", take_in }, { "create", "home/blobs", upload_and_create },
                 { "repair", "home/blobs", mend }, { "remove", "home/blobs", take_out },
                 { "keys", "home/keys", make_keys } };
    struct file_ops ops = watching();
    ok(store_open_with(&ops, p->home, &p->s, e));
    store_set_inspector(p->s, look, NULL);
    char db[300];
    snprintf(db, sizeof db, "%s/db", p->home);
    catalog = db;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rows[i].call(p);
        if (unannounced[0])
            fail_msg("%s: '%s' was moved into place before the catalog knew", rows[i].what, unannounced);
        if (too_early[0])
            fail_msg("%s: '%s' had its name before it was synced", rows[i].what, too_early);
        if (watch_path(in(p, rows[i].dir))->dirty)
            fail_msg("%s: a name in %s is not synced", rows[i].what, rows[i].dir);
    }
    catalog = NULL;
    assert_true(watch_path(in(p, "home/blobs"))->syncs > 0 && watch_path(in(p, "home/keys"))->syncs > 0);
    store_close(p->s);
    p->s = NULL;
}

/* Also one that a process had made which was killed before it synced. */
static void a_new_home_is_on_the_disk(void **state)
{
    struct place *p = *state;
    static const char *const above[] = { "", "a", "a/b", "a/b/home" };
    for (int begun = 0; begun < 2; begun++) {
        struct file_ops ops = watching();
        if (begun)
            assert_int_equal(unlink(in(p, "a/b/home/db")), 0);
        ok(store_open_with(&ops, in(p, "a/b/home"), &p->s, e));
        for (size_t i = 0; i < sizeof above / sizeof *above; i++)
            if (watch_path(in(p, above[i]))->syncs == 0)
                fail_msg("%d: a name in '%s' is not synced", begun, above[i]);
        store_close(p->s);
        p->s = NULL;
    }
}

/* ---- where a home can be ---------------------------------------------------------------------------- */

static uint32_t pretended; /* the kind of file system; 0: the true one; 1: nobody can say */

int __real_fstatfs(int fd, struct statfs *out);
int __wrap_fstatfs(int fd, struct statfs *out);
int __wrap_fstatfs(int fd, struct statfs *out)
{
    int r = __real_fstatfs(fd, out);
    if (pretended)
        out->f_type = pretended;
    errno = EIO;
    return pretended == 1 ? -1 : r;
}

static void no_catalog_is_kept_on_a_network(void **state)
{
    struct place *p = *state;
    static const struct {
        uint32_t kind;
        enum err_code code;
        const char *sentence;
    } rows[] = { { 0x6969, ERR_UNSUPPORTED, "is on NFS" },     { 0x517b, ERR_UNSUPPORTED, "is on SMB" },
                 { 0xfe534d42, ERR_UNSUPPORTED, "is on SMB" }, { 0xff534d42, ERR_UNSUPPORTED, "is on SMB" },
                 { 0x5346414f, ERR_UNSUPPORTED, "is on AFS" }, { 0x01021997, ERR_UNSUPPORTED, "is on 9P" },
                 { 1, ERR_IO, "looking at" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        pretended = rows[i].kind;
        struct err why = { 0 };
        enum err_code code = store_open(p->home, &p->s, &why);
        pretended = 0;
        if (code != rows[i].code || !strstr(why.text, rows[i].sentence))
            fail_msg("%x: %s", rows[i].kind, why.text);
        assert_int_equal(access(in(p, "home/db"), F_OK), -1);
    }
}

/* ---- a file that is another one now --------------------------------------------------------------- */

static void set_time(const char *path, const struct stat *as, long seconds)
{
    struct timespec t[2] = { as->st_mtim, as->st_mtim };
    t[0].tv_sec += seconds;
    t[1].tv_sec += seconds;
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void another_in_its_place(const char *path, const struct stat *as)
{
    char beside[600];
    snprintf(beside, sizeof beside, "%s.new", path);
    write_file(beside, "other one", 9);
    set_time(beside, as, 0);
    assert_int_equal(rename(beside, path), 0);
}

static void written_later(const char *path, const struct stat *as)
{
    write_file(path, "other one", 9);
    set_time(path, as, 1);
}

static void cut_off(const char *path, const struct stat *as)
{
    assert_int_equal(truncate(path, 5), 0);
    set_time(path, as, 0);
}

/* The inode, the time and the size tell, each where the two others do not. */
static void each_sign_of_a_change_is_seen(void **state)
{
    struct place *p = *state;
    void (*const rows[])(const char *path, const struct stat *as) = { another_in_its_place, written_later, cut_off };
    reopen(p);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct stat st, now;
        const char *path = write_file(in(p, "ref.gguf"), "first one", 9);
        assert_int_equal(stat(path, &st), 0);
        ok(import_file(p->s, "r", path, STORE_REFERENCE, e));
        ok(resolve(p->s, "r", e));
        struct file_id was = file_id_of(&st);
        rows[i](path, &st);
        assert_int_equal(stat(path, &now), 0);
        struct file_id is = file_id_of(&now);
        assert_int_equal((was.inode != is.inode) + (was.size != is.size) + (was.mtime_ns != is.mtime_ns), 1);
        assert_false(file_id_eq(&was, &is));
        fails_with(ERR_CONFLICT, "ref.gguf", resolve(p->s, "r", e));
        ok(store_remove(p->s, "r", NULL, e));
        unlink(path);
    }
}

/* ---- while it is read ----------------------------------------------------------------------------- */

/* What is done once, at the first read of anything. */
static const char *at_read;
static void (*do_at_read)(const char *path, const struct stat *as);

static ssize_t r_read(int fd, void *p, size_t n, uint64_t offset)
{
    struct stat st;
    ssize_t got = file_system.read(fd, p, n, offset);
    if (at_read) {
        assert_int_equal(stat(at_read, &st), 0);
        do_at_read(at_read, &st);
        at_read = NULL;
    }
    return got;
}

static void touched(const char *path, const struct stat *as)
{
    set_time(path, as, 1);
}

static enum verdict last_verdict;

static void hear(void *user, const struct store_verdict *v)
{
    (void)user;
    last_verdict = v->verdict;
}

static struct store_verified verify(struct place *p, const char *name)
{
    struct store_verify in = { .name = name, .report = hear };
    struct store_verified out;
    ok(store_verify(p->s, &in, &out, e));
    return out;
}

static void open_reading(struct place *p, const char *path, void (*what)(const char *path, const struct stat *as))
{
    static struct file_ops ops;
    ops = file_system;
    ops.read = r_read;
    store_close(p->s);
    p->s = NULL;
    ok(store_open_with(&ops, p->home, &p->s, e));
    store_set_inspector(p->s, look, NULL);
    at_read = path;
    do_at_read = what;
}

static void verify_sees_that_it_is_written_to(void **state)
{
    struct place *p = *state;
    reopen(p);
    add(p, "m", "verified", STORE_COPY);
    add(p, "r", "referenced", STORE_REFERENCE);
    struct store_model *m = NULL;
    char path[512];
    ok(store_resolve(p->s, "r", &m, e));
    snprintf(path, sizeof path, "%s", m->path);
    store_model_destroy(m);
    open_reading(p, path, touched);
    assert_int_equal(verify(p, "r").bad, 1);
    assert_int_equal(last_verdict, VERDICT_CHANGED);
    assert_int_equal(verify(p, "r").bad, 0); /* a touch changes no bytes */
    open_reading(p, NULL, NULL);
    assert_int_equal(verify(p, "m").bad, 0);
}

static struct adopt_found found_of(const struct adopt_file *file)
{
    return (struct adopt_found){ .name = "found", .finder = "folder", .path = file->path, .files = file, .n_files = 1,
                                 .revision = "", .family = "", .quantization = "" };
}

/* The file that was hashed, and not one that has taken its place meanwhile. */
static void adopting_looks_twice_where_the_path_leads(void **state)
{
    struct place *p = *state;
    const char *path = write_file(in(p, "found.gguf"), "found one", 9);
    struct adopt_file file = { .path = path, .media_type = media_type_of(MEDIA_MODEL), .kind = MEDIA_MODEL, .size = 9 };
    struct adopt_found f = found_of(&file);
    open_reading(p, path, another_in_its_place);
    fails_with(ERR_CONFLICT, "was replaced while it was being read", store_adopt(p->s, &f, NULL, NULL, e));
    assert_string_equal(listed(p->s), "");
    f.problem = "it is a picture";
    fails_with(ERR_UNSUPPORTED, "it is a picture", store_adopt(p->s, &f, NULL, NULL, e));
    f.problem = NULL;
    add(p, "found", "mine", STORE_COPY);
    fails_with(ERR_CONFLICT, "another model called 'found", store_adopt(p->s, &(struct adopt_found){
        .name = "found:latest", .finder = "folder", .path = path, .files = &file, .n_files = 1, .revision = "",
        .family = "", .quantization = "" }, NULL, NULL, e));
    ok(store_remove(p->s, "found", NULL, e));
    ok(store_adopt(p->s, &f, NULL, NULL, e));
}

/* ---- where a path leads --------------------------------------------------------------------------- */

/* What is said of a user's path from now on. */
static enum { THE_TRUTH, OTHER_DEVICE, OTHER_INODE, GONE } said;

static int l_stat_path(const char *path, struct stat *st)
{
    int r = file_system.stat_path(path, st);
    st->st_dev += said == OTHER_DEVICE;
    st->st_ino += said == OTHER_INODE;
    errno = ENOENT;
    return said == GONE ? -1 : r;
}

static enum err_code adopt_it(struct place *p, int fd, const char *path, struct err *e)
{
    struct adopt_file file = { .path = path, .media_type = media_type_of(MEDIA_MODEL), .kind = MEDIA_MODEL, .size = 2 };
    struct adopt_found f = found_of(&file);
    (void)fd;
    return store_adopt(p->s, &f, NULL, NULL, e);
}

static enum err_code create_from_it(struct place *p, int fd, const char *path, struct err *e)
{
    struct store_create_file f = { .kind = MEDIA_MODEL, .name = "it.gguf", .fd = fd, .path = path };
    struct store_create in_ = { .name = "found", .files = &f, .n_files = 1, .mode = STORE_REFERENCE };
    return store_create(p->s, &in_, NULL, e);
}

static enum err_code refer_to_it(struct place *p, int fd, const char *path, struct err *e)
{
    struct store_import_file f = { .fd = fd, .path = path };
    struct store_import in_ = { .name = "found", .files = &f, .n_files = 1, .mode = STORE_REFERENCE, .facts = llama };
    return store_import(p->s, &in_, NULL, e);
}

/* It is the path that will be loaded: it must lead to the file that is open. */
static void a_path_leads_to_the_open_file(void **state)
{
    struct place *p = *state;
    static const struct {
        enum err_code (*call)(struct place *p, int fd, const char *path, struct err *e);
        enum err_code other, gone;
        const char *other_says, *gone_says;
    } rows[] = { { adopt_it, ERR_CONFLICT, ERR_IO, "was replaced", "looking at '" },
                 { create_from_it, ERR_INVALID, ERR_INVALID, "is not the file that was opened", "is not the file that was opened" },
                 { refer_to_it, ERR_INVALID, ERR_NOT_FOUND, "is not the file that was opened", "looking at '" } };
    struct file_ops ops = file_system;
    char path[512];
    ops.stat_path = l_stat_path;
    ok(store_open_with(&ops, p->home, &p->s, e));
    store_set_inspector(p->s, look, NULL);
    snprintf(path, sizeof path, "%s", model_file(p, "it"));
    int fd = open(path, O_RDONLY), nothing = open(p->root, O_RDONLY | O_DIRECTORY), ends[2];
    assert_int_equal(pipe(ends), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (said = OTHER_DEVICE; said <= OTHER_INODE; said++)
            fails_with(rows[i].other, rows[i].other_says, rows[i].call(p, fd, path, e));
        fails_with(rows[i].gone, rows[i].gone_says, rows[i].call(p, fd, path, e));
        said = THE_TRUTH;
        assert_string_equal(listed(p->s), "");
        ok(rows[i].call(p, fd, path, e));
        ok(store_remove(p->s, "found", NULL, e));
    }
    for (size_t i = 1; i < sizeof rows / sizeof *rows; i++) {
        struct err why = { 0 };
        assert_int_equal(chdir(p->root), 0);
        assert_int_equal(rows[i].call(p, fd, "it", &why), ERR_INVALID);
        assert_int_equal(chdir("/"), 0);
        fails_with(ERR_INVALID, "is not a regular file", rows[i].call(p, nothing, p->root, e));
        fails_with(ERR_INVALID, "is not a regular file", rows[i].call(p, ends[0], path, e));
        assert_int_not_equal(rows[i].call(p, -1, path, &why), ERR_OK);
    }
    close(fd);
    close(nothing);
    close(ends[0]);
    close(ends[1]);
    store_close(p->s);
    p->s = NULL;
}

static bool unreadable;

static ssize_t u_read(int fd, void *bytes, size_t n, uint64_t at)
{
    errno = EIO;
    return unreadable ? -1 : file_system.read(fd, bytes, n, at);
}

/* A place that is gone is told from one that cannot be read now, which is none the worse for it afterwards. */
static void a_reference_that_is_out_of_reach(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    struct stat st;
    ops.read = u_read;
    ok(store_open_with(&ops, p->home, &p->s, e));
    assert_int_equal(mkdir(in(p, "disk"), 0700), 0);
    const char *path = write_file(in(p, "disk/it.gguf"), "it", 2);
    ok(import_file(p->s, "r", path, STORE_REFERENCE, e));
    assert_int_equal(rename(in(p, "disk"), in(p, "away")), 0);
    fails_with(ERR_NOT_FOUND, "which the model 'r:latest' refers to, is gone", resolve(p->s, "r", e));
    write_file(in(p, "disk"), "", 0); /* nor is there a directory of that name */
    fails_with(ERR_NOT_FOUND, "which the model 'r:latest' refers to, is gone", resolve(p->s, "r", e));
    assert_int_equal(unlink(in(p, "disk")), 0);
    assert_int_equal(rename(in(p, "away"), in(p, "disk")), 0);
    assert_int_equal(stat(in(p, "disk/it.gguf"), &st), 0);
    set_time(in(p, "disk/it.gguf"), &st, 1);
    unreadable = true;
    fails_with(ERR_IO, "it.gguf", resolve(p->s, "r", e));
    unreadable = false;
    ok(resolve(p->s, "r", e));
    store_close(p->s);
    p->s = NULL;
}

/* ---- parts ---------------------------------------------------------------------------------------- */

static int no_link(const char *target, int dir, const char *name)
{
    (void)target, (void)dir, (void)name;
    errno = EPERM;
    return -1;
}

/* A reader finds the parts of a model by their names: as they are, where they are right, else by names in tmp/. */
static void parts_have_their_names(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *one, *two;
        bool named;
    } rows[] = { { "/d/x-00001-of-00002.gguf", "/d/x-00002-of-00002.gguf", true },
                 { "/d/x-00002-of-00002.gguf", "/d/x-00001-of-00002.gguf", false },
                 { "/d/x-00001-of-00003.gguf", "/d/x-00002-of-00003.gguf", false },
                 { "/d/x-00001-of-00002.gguf", "/e/x-00002-of-00002.gguf", false },
                 { "/d/xx-00001-of-00002.gguf", "/d/x-00002-of-00002.gguf", false },
                 { "/d/x", "/d/x", false } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (store_parts_are_named((const char *const[]){ rows[i].one, rows[i].two }, 2) != rows[i].named)
            fail_msg("%s and %s", rows[i].one, rows[i].two);
    struct store_model *m = NULL;
    struct arena a = { 0 };
    struct file_ops ops = file_system;
    const char *files[] = { write_file(in(p, "x-00001-of-00002.gguf"), "one", 3), write_file(in(p, "x-00002-of-00002.gguf"), "two", 3) };
    const char *const turned[] = { files[1], files[0] }, *const *named = NULL;
    ok(store_open_with(&ops, p->home, &p->s, e));
    ok(import_files(p->s, "r", files, 2, STORE_REFERENCE, &m, e));
    assert_string_equal(m->path, in(p, "x-00001-of-00002.gguf"));
    assert_int_equal(entries(p->home, "tmp"), 0);
    store_model_destroy(m);
    ok(store_name_parts(p->s, &a, files, 2, &a, &named, e));
    assert_ptr_equal(named, files);
    ok(store_name_parts(p->s, &a, turned, 2, &a, &named, e));
    assert_true(store_parts_are_named(named, 2));
    assert_file_is(named[0], "two", 3);
    store_unname_parts(p->s, &a, 2);
    assert_int_equal(entries(p->home, "tmp"), 0);
    ops.link = no_link;
    fails_with(ERR_IO, "naming a part of a model", store_name_parts(p->s, &a, turned, 2, &a, &named, e));
    arena_finish(&a);
    store_close(p->s);
    p->s = NULL;
}

/* Neither verify nor anybody else waits for who will write to a pipe. */
static void a_pipe_is_no_file(void **state)
{
    struct place *p = *state;
    static const char *const names[] = { "m", "r" };
    alarm(30); /* who waits waits for ever */
    reopen(p);
    add(p, "m", "in blobs", STORE_COPY);
    add(p, "r", "elsewhere", STORE_REFERENCE);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct store_model *m = NULL;
        char path[512];
        ok(store_resolve(p->s, names[i], &m, e));
        snprintf(path, sizeof path, "%s", m->path);
        store_model_destroy(m);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0640), 0);
        assert_int_equal(verify(p, names[i]).bad, 1);
        assert_int_equal(last_verdict, VERDICT_GONE);
        struct err why = { 0 };
        assert_int_not_equal(resolve(p->s, names[i], &why), ERR_OK);
    }
    alarm(0);
}

/* Hashes of the wrong number are as good as none. */
static void torn_hashes_are_not_believed(void **state)
{
    struct place *p = *state;
    reopen(p);
    add(p, "m", "hashed", STORE_COPY);
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"), "PRAGMA ignore_check_constraints = ON; UPDATE chunks SET hashes = zeroblob(64)");
    reopen(p);
    assert_int_equal(verify(p, "m").bad, 0);
}

/* ---- what goes and what stays ---------------------------------------------------------------------- */

/* A part is sealed at the size that was hashed, and at no other. */
static void a_part_of_another_size_is_not_sealed(void **state)
{
    struct place *p = *state;
    struct digest d = digest_of("nine byte");
    struct blob_part part;
    int fd;
    reopen(p);
    ok(blob_part_create(&p->s->blobs, 100, &part, &fd, e));
    assert_int_equal(pwrite(fd, "nine byte", 9, 0), 9);
    fails_with(ERR_IO, "has 100 bytes, not 9", blob_part_seal(&p->s->blobs, &part, fd, &d, 9, e));
    close(fd);
    blob_discard(&p->s->blobs, &part);
    assert_int_equal(entries(p->home, "tmp"), 0);
}

/* Only files; and one that was just written to is left alone for as long as its time stamp may lag behind. */
static void what_is_hashed_is_a_file_at_rest(void **state)
{
    struct place *p = *state;
    struct blob_source from = { .fd = open("/dev/zero", O_RDONLY), .path = "it" };
    struct blob_meter meter = { 0 };
    struct digest d, expected = digest_of("just written");
    struct file_id id;
    fails_with(ERR_INVALID, "'it' is not a regular file", blob_hash(&file_system, &from, &meter, &d, NULL, &id, e));
    close(from.fd);
    fails_with(ERR_IO, "looking at 'it'", blob_hash(&file_system, &from, &meter, &d, NULL, &id, e));
    from.fd = open(model_file(p, "just written"), O_RDONLY);
    ok(blob_hash(&file_system, &from, &meter, &d, NULL, &id, e));
    assert_true(clock_wall_ns() - id.mtime_ns >= 10000000);
    assert_true(digest_eq(&d, &expected));
    close(from.fd);
}

/* Of a file that others can write to meanwhile, more is shared than was there when it was looked at. */
static int clone_more(int to, int from)
{
    (void)from;
    return pwrite(to, "nine byte, and more", 19, 0) == 19 ? 0 : -1;
}

static void a_clone_of_another_size_is_not_taken(void **state)
{
    struct place *p = *state;
    struct file_ops ops = file_system;
    ops.reflink = clone_more;
    ok(store_open_with(&ops, p->home, &p->s, e));
    fails_with(ERR_CONFLICT, "changed while it was being read",
               import_file(p->s, "m", model_file(p, "nine byte"), STORE_COPY, e));
    assert_int_equal(entries(p->home, "tmp") + entries(p->home, "blobs"), 0);
    store_close(p->s);
    p->s = NULL;
}

/* A part is nobody else's to read before it is a blob, nor one that is being sent. */
static bool look_at_parts(void *user, uint64_t done, uint64_t total)
{
    struct place *p = user;
    (void)done, (void)total;
    assert_int_equal(mode_of(p->home, "tmp/part-0"), 0600);
    return true;
}

static void a_part_is_for_its_owner_alone(void **state)
{
    struct place *p = *state;
    mode_t before = umask(0);
    reopen(p);
    const char *path = model_file(p, "a part");
    struct store_import_file f = { .fd = open(path, O_RDONLY), .path = path };
    struct store_import in_ = { .name = "m", .files = &f, .n_files = 1, .facts = llama, .progress = look_at_parts,
                                .user = p };
    ok(store_import(p->s, &in_, NULL, e));
    umask(before);
    close(f.fd);
}

static int64_t references(struct place *p)
{
    store_close(p->s);
    p->s = NULL;
    int64_t n = sql_int(in(p, "home/db"), "SELECT count(*) FROM files WHERE length(path) > 0");
    reopen(p);
    return n;
}

/* The store's own blob by its path is no file of the user's; a file of the same bytes elsewhere is. */
static void own_blobs_are_no_references(void **state)
{
    struct place *p = *state;
    struct store_model *m = NULL;
    char path[512];
    reopen(p);
    add(p, "m", "the same bytes", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    snprintf(path, sizeof path, "%s", m->path);
    store_model_destroy(m);
    ok(import_file(p->s, "r", path, STORE_REFERENCE, e));
    assert_int_equal(references(p), 0);
    ok(import_file(p->s, "s", in(p, "the same bytes"), STORE_REFERENCE, e));
    assert_int_equal(references(p), 1);
}

/* When it is not known whether a commit is on the disk, the files that it names stay: a power cut may show
 * that it is. */
static void files_of_a_doubtful_commit_stay(void **state)
{
    struct place *p = *state;
    size_t stayed = 0;
    uint64_t most = 1;
    for (uint64_t n = 1; n <= most; n++) {
        reopen(p);
        const char *file = model_file(p, "doubtful");
        struct err why = { 0 };
        uint64_t before = fault_count();
        fault_after(n, EIO, false);
        enum err_code code = import_file(p->s, "m", file, STORE_COPY, &why);
        fault_after(0, 0, false);
        most = code ? n + 1 : fault_count() - before;
        stayed += code && entries(p->home, "blobs") == 1;
        reopen(p); /* which knows, and collects */
        assert_int_equal(entries(p->home, "blobs"), *listed(p->s) ? 1 : 0);
        if (*listed(p->s))
            ok(store_remove(p->s, "m", NULL, e));
    }
    assert_true(stayed > 0);
}

static void leave(struct place *p, const char *name, long age)
{
    char path[512];
    struct timespec t[2];
    clock_gettime(CLOCK_REALTIME, &t[0]);
    t[0].tv_sec -= age;
    t[1] = t[0];
    snprintf(path, sizeof path, "%s/tmp/%s", p->home, name);
    write_file(path, "x", 1);
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

/* tmp/ is emptied when a store is opened, but for downloads that a pull may go on with. */
static void downloads_that_may_go_on_stay(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *name;
        long age;
        bool stays;
    } rows[] = { { "dl-a.part", 60, true },
                 { "dl-a.journal", 60, true },
                 { "dl-b.part", DOWNLOAD_KEEP_S + 60, false },
                 { "dl-c.part", -DOWNLOAD_KEEP_S - 60, false },
                 { "dl-d.other", 60, false },
                 { "dl-f.journal", 60, false }, /* of one that has become a blob */
                 { "dl-g", 60, false },
                 { "part-7", 60, false } };
    char path[512];
    reopen(p);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        leave(p, rows[i].name, rows[i].age);
    assert_int_equal(symlink("/nowhere", in(p, "home/tmp/dl-e.part")), 0);
    reopen(p);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(path, sizeof path, "%s/tmp/%s", p->home, rows[i].name);
        if ((access(path, F_OK) == 0) != rows[i].stays)
            fail_msg("%s %s", rows[i].name, rows[i].stays ? "has gone" : "has stayed");
    }
    assert_int_equal(entries(p->home, "tmp"), 2);
}

/* ---- what a journal of a download says -------------------------------------------------------------- */

#define URL "https://example.org/m.gguf"
#define SIZE (3 * DOWNLOAD_PIECE + 5)

/* In bytes of the file: the head's text, what its sum is of, and the sum. */
#define HEAD_AT 16
#define HEAD_SUM (HEAD_AT + sizeof(struct journal_head))

struct journal_row {
    const char *what;
    bool has_digest, other_digest, bare; /* bare: no ETag in the head */
    uint64_t wanted;                     /* the size that is asked for now; 0: not known */
    size_t flip;                         /* a byte of the file, from 1; 0: none */
    bool sum_anew;                       /* and the sum of the head is made right again */
    uint64_t piece;                      /* a record of it, beside that of the first */
    uint64_t begun;
};

static const struct journal_row journal_rows[] = {
    { "whole", true, false, false, SIZE, 0, false, 1, 2 * DOWNLOAD_PIECE },
    { "whole, by its ETag", false, false, false, SIZE, 0, false, 1, 2 * DOWNLOAD_PIECE },
    { "whole, of a size not known", false, false, false, 0, 0, false, 1, 2 * DOWNLOAD_PIECE },
    { "of another size", true, false, false, SIZE + 1, 0, false, 1, 0 },
    { "of another digest", true, true, false, SIZE, 0, false, 1, 0 },
    { "without digest and ETag", false, false, true, SIZE, 0, false, 1, 0 },
    { "a flipped head", true, false, false, SIZE, HEAD_AT + sizeof(struct journal_head) - 3, false, 1, 0 },
    { "another magic", true, false, false, SIZE, 3, true, 1, 0 },
    { "a piece behind the end", true, false, false, SIZE, 0, false, 4, DOWNLOAD_PIECE },
    { "a torn record", true, false, false, SIZE, HEAD_SUM + 8 + 24 + 2, false, 1, DOWNLOAD_PIECE },
};

static void write_journal(const char *path, const struct journal_row *r, const struct digest *d)
{
    struct journal_head h = { .size = SIZE, .has_digest = r->has_digest };
    struct journal j = { .ops = &file_system, .part = -1, .fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600) };
    if (r->has_digest)
        h.digest = *d;
    h.digest.b[0] = (uint8_t)(h.digest.b[0] ^ r->other_digest);
    snprintf(h.etag, sizeof h.etag, "%s", r->bare ? "" : "\"e\"");
    assert_true(j.fd >= 0);
    ok(journal_begin(&j, &h, e));
    ok(journal_add(&j, 0, 1, e));
    ok(journal_add(&j, r->piece, 2, e));
    close(j.fd);
    size_t n;
    char *bytes = read_file(path, &n);
    if (r->flip)
        bytes[r->flip - 1] ^= 1;
    uint64_t sum = piece_sum(bytes, HEAD_SUM);
    if (r->sum_anew)
        memcpy(bytes + HEAD_SUM, &sum, sizeof sum);
    write_file(path, bytes, n);
    free(bytes);
}

static void only_a_sound_journal_is_gone_on_with(void **state)
{
    struct place *p = *state;
    struct digest by_url;
    reopen(p);
    assert_int_equal(manifest_digest(STR(URL), &by_url, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof journal_rows / sizeof *journal_rows; i++) {
        const struct journal_row *r = &journal_rows[i];
        struct download d = { .label = "it", .url = URL, .has_digest = r->has_digest, .digest = digest_of("it"),
                              .has_size = r->wanted > 0, .size = r->wanted };
        char hex[DIGEST_HEX_SIZE], path[512];
        digest_hex(r->has_digest ? &d.digest : &by_url, hex);
        snprintf(path, sizeof path, "%s/tmp/dl-%s.journal", p->home, hex);
        write_journal(path, r, &d.digest);
        uint64_t begun = download_begun(p->s, &d);
        if (begun != r->begun)
            fail_msg("%s: %llu bytes", r->what, (unsigned long long)begun);
        unlink(path);
    }
}

/* Interrupted at each byte, and then there are no more. */
static unsigned calls;
static size_t enough;

static ssize_t one_byte(ssize_t (*call)(int fd, void *p, size_t n, uint64_t at), int fd, void *p, uint64_t at)
{
    if (at == enough)
        return 0;
    errno = EINTR;
    return ++calls % 2 ? -1 : call(fd, p, 1, at);
}
static ssize_t write_const(int fd, void *p, size_t n, uint64_t at)
{
    return file_system.write(fd, p, n, at);
}
static ssize_t write_one(int fd, const void *p, size_t n, uint64_t at)
{
    char byte = *(const char *)p;
    (void)n;
    return one_byte(write_const, fd, &byte, at);
}
static ssize_t read_one(int fd, void *p, size_t n, uint64_t at)
{
    (void)n;
    return one_byte(file_system.read, fd, p, at);
}

static void interruptions_are_waited_out(void **state)
{
    struct place *p = *state;
    char back[8] = "";
    struct file_ops ops = file_system;
    int fd = open(in(p, "file"), O_RDWR | O_CREAT, 0600);
    ops.write = write_one;
    ops.read = read_one;
    enough = 100;
    assert_true(file_write_all(&ops, fd, "slowly", 6, 0));
    assert_int_equal(file_read_all(&ops, fd, back, 8, 0), 6);
    assert_string_equal(back, "slowly");
    enough = 3;
    assert_int_equal(file_read_all(&ops, fd, back, 8, 0), 3);
    assert_false(file_write_all(&ops, fd, "slowly", 6, 0));
    assert_int_equal(errno, EIO);
    close(fd);
    assert_int_equal(file_read_all(&file_system, fd, back, 8, 0), -1);
    assert_false(file_write_all(&file_system, fd, back, 8, 0));
}

/* Neither a size that cannot be nor a text without an end does harm. */
static void a_journal_has_limits(void **state)
{
    struct place *p = *state;
    struct pieces pieces = { 0 };
    struct journal_head h = { .size = SIZE }, back;
    const char *path = in(p, "journal");
    struct journal j = { .ops = &file_system, .part = -1, .fd = open(path, O_RDWR | O_CREAT, 0600) };
    fails_with(ERR_TOO_LARGE, "too large to download", pieces_resize(&pieces, UINT64_MAX, e));
    memset(h.etag, 'e', sizeof h.etag);
    memset(h.origin, 'o', sizeof h.origin);
    ok(journal_begin(&j, &h, e));
    assert_true(journal_read_head(&j, &back));
    assert_int_equal(strnlen(back.etag, sizeof back.etag), sizeof back.etag - 1);
    assert_int_equal(strnlen(back.origin, sizeof back.origin), sizeof back.origin - 1);
    assert_false(pieces_has(&pieces, 0)); /* there is no room for one yet */
    ok(pieces_resize(&pieces, SIZE, e));
    assert_false(pieces_has(&pieces, UINT64_MAX));
    ok(journal_add(&j, 0, 1, e));
    atomic_bool cancel = true;
    assert_true(journal_read_head(&j, &back));
    fails_with(ERR_CANCELLED, "cancelled", journal_replay(&j, &pieces, &cancel, e));
    assert_true(journal_read_head(&j, &back));
    ok(journal_tell(&j, &pieces, e));
    assert_int_equal(pieces.have, piece_length(&pieces, 0));
    close(j.fd);
    j.fd = open(path, O_RDONLY);
    fails_with(ERR_IO, "writing down what has been downloaded", journal_begin(&j, &h, e));
    fails_with(ERR_IO, "writing down what has been downloaded", journal_add(&j, 1, 1, e));
    close(j.fd);
    pieces_finish(&pieces);
}

/* ---- links ---------------------------------------------------------------------------------------- */

static void no_link_is_followed(void **state)
{
    struct place *p = *state;
    struct digest d = digest_of("linked to");
    struct store_model *m = NULL;
    char path[512];
    reopen(p);
    add(p, "m", "linked to", STORE_COPY);
    ok(store_resolve(p->s, "m", &m, e));
    snprintf(path, sizeof path, "%s", m->path);
    store_model_destroy(m);
    assert_int_equal(rename(path, in(p, "elsewhere")), 0);
    assert_int_equal(symlink(in(p, "elsewhere"), path), 0);
    assert_int_equal(blob_open(&p->s->blobs, &d), -1);
    struct err why = { 0 };
    assert_int_not_equal(resolve(p->s, "m", &why), ERR_OK);
    assert_int_equal(file_system.open(p->s->blobs.blobs, "../db", O_RDONLY, 0), -1);
    assert_int_equal(file_system.open(p->s->blobs.blobs, in(p, "elsewhere"), O_RDONLY, 0), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_in_memory, teardown)
        T(what_is_named_is_on_the_disk),
        T(a_new_home_is_on_the_disk),
        T(no_catalog_is_kept_on_a_network),
        T(each_sign_of_a_change_is_seen),
        T(verify_sees_that_it_is_written_to),
        T(adopting_looks_twice_where_the_path_leads),
        T(a_path_leads_to_the_open_file),
        T(a_reference_that_is_out_of_reach),
        T(parts_have_their_names),
        T(a_pipe_is_no_file),
        T(torn_hashes_are_not_believed),
        T(a_part_of_another_size_is_not_sealed),
        T(what_is_hashed_is_a_file_at_rest),
        T(a_clone_of_another_size_is_not_taken),
        T(a_part_is_for_its_owner_alone),
        T(own_blobs_are_no_references),
        T(files_of_a_doubtful_commit_stay),
        T(downloads_that_may_go_on_stay),
        T(only_a_sound_journal_is_gone_on_with),
        T(interruptions_are_waited_out),
        T(a_journal_has_limits),
        T(no_link_is_followed),
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
