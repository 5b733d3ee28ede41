/* verify, repair, prune: what is found, what is made anew, what goes. Real files, real SQLite. */
#include <errno.h>
#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include "store/commit.h"
#include "store/verify.h"
#include "tests/store/place.h"

#define MIB ((size_t)1 << 20)
#define BIG (5 * MIB + 77)
#define SWEPT (MIB + 77)

/* ---- what is told ---------------------------------------------------------------------------- */

static struct {
    char text[2048], status[64];
    enum verdict verdict;
    size_t n, n_bad;
    uint64_t bad[8], progress, last;
    atomic_bool cancel;
} told;

static void hear(void *user, const struct store_verdict *v)
{
    (void)user;
    told.n++;
    told.verdict = v->verdict;
    snprintf(told.text, sizeof told.text, "%s", v->text);
    told.n_bad = v->n_bad;
    for (size_t i = 0; i < v->n_bad && i < 8; i++)
        told.bad[i] = v->bad[i];
}

static void follow(void *user, const struct store_event *ev)
{
    (void)user;
    assert_true(ev->completed >= told.last || told.progress == 0 || strcmp(ev->status, told.status) != 0);
    snprintf(told.status, sizeof told.status, "%s", ev->status);
    told.last = ev->completed;
    told.progress++;
}

static struct store_verified verify(struct place *p, const char *name, bool repair)
{
    struct store_verify in = { .name = name, .repair = repair, .report = hear, .job = { .event = follow } };
    struct store_verified out;
    memset(&told, 0, sizeof told);
    ok(store_verify(p->s, &in, &out, e));
    return out;
}

static char *some_bytes(size_t n)
{
    char *bytes = malloc(n);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i * 2654435761u >> 23);
    return bytes;
}

static char *big_bytes(void)
{
    return some_bytes(BIG);
}

static const char *big_file(struct place *p)
{
    char *bytes = big_bytes();
    const char *path = write_file(in(p, "big.gguf"), bytes, BIG);
    free(bytes);
    return path;
}

static const char *blob_path(struct place *p, const char *name)
{
    static char path[512];
    struct store_model *m = NULL;
    ok(store_resolve(p->s, name, &m, e));
    snprintf(path, sizeof path, "%s", m->path);
    store_model_destroy(m);
    return path;
}

/* One byte of it is another, as a bad disk leaves it: neither size nor time tell. */
static void flip(const char *path, off_t at)
{
    struct stat st;
    char byte;
    assert_int_equal(stat(path, &st), 0);
    chmod(path, 0640);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte = (char)(byte ^ 1);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    struct timespec t[2] = { st.st_mtim, st.st_mtim };
    assert_int_equal(futimens(fd, t), 0);
    close(fd);
    chmod(path, 0440);
}

/* ---- verify ---------------------------------------------------------------------------------- */

static void a_sound_model_is_said_to_be(void **state)
{
    struct place *p = *state;
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    ok(import_file(p->s, "r", in(p, "big.gguf"), STORE_REFERENCE, e)); /* a second place of the same blob */
    add(p, "small", "x", STORE_COPY);
    ok(import_file(p->s, "empty", write_file(in(p, "empty"), "", 0), STORE_COPY, e));
    struct store_verified v = verify(p, "small", false);
    assert_int_equal(v.files, 1);
    v = verify(p, NULL, false);
    assert_int_equal(v.files, 4);
    assert_int_equal(v.bytes, 2 * BIG + 1);
    assert_int_equal(v.bad, 0);
    assert_int_equal(told.verdict, VERDICT_SOUND);
    assert_string_equal(told.text, "");
    assert_true(told.progress > 0);
    fails_with(ERR_NOT_FOUND, "model 'none' not found",
               store_verify(p->s, &(struct store_verify){ .name = "none" }, &v, e));
}

static void the_bad_parts_are_named(void **state)
{
    struct place *p = *state;
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    const char *blob = blob_path(p, "m");
    ok(resolve(p->s, "m", e)); /* a look at its size and time shows nothing */
    flip(blob, (off_t)(MIB + 5));
    flip(blob, (off_t)(2 * MIB + 5));
    flip(blob, (off_t)(BIG - 1));
    ok(resolve(p->s, "m", e));
    struct store_verified v = verify(p, "m", false);
    assert_int_equal(v.bad, 1);
    assert_int_equal(told.verdict, VERDICT_DAMAGED);
    assert_int_equal(told.n_bad, 3);
    assert_int_equal(told.bad[0], 2);
    assert_int_equal(told.bad[2], 6);
    assert_non_null(strstr(told.text, "model 'm:latest': MiB 2, 3 and 6 of 6 of blob "));
    assert_non_null(strstr(told.text, " are damaged"));
    fails_with(ERR_CONFLICT, "damaged", resolve(p->s, "m", e)); /* and now it is not loaded */
    reopen(p);
    fails_with(ERR_CONFLICT, "damaged", resolve(p->s, "m", e));
}

static void a_damaged_file_is_mended_from_where_it_came(void **state)
{
    struct place *p = *state;
    struct stat before, after;
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    char *bytes = big_bytes();
    const char *blob = blob_path(p, "m");
    flip(blob, (off_t)(3 * MIB));
    assert_int_equal(stat(in(p, "big.gguf"), &before), 0);
    struct store_verified v = verify(p, "m", true);
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.repaired, 1);
    assert_non_null(strstr(told.text, "MiB 4 of 6 of blob "));
    assert_non_null(strstr(told.text, "was damaged, and is repaired"));
    ok(resolve(p->s, "m", e));
    assert_file_is(blob, bytes, BIG);
    assert_int_equal(mode_of(p->home, blob + strlen(p->home) + 1), 0440);
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_int_equal(verify(p, "m", false).bad, 0);
    /* one that is gone, or cut short, is made whole */
    assert_int_equal(unlink(blob), 0);
    assert_int_equal(verify(p, "m", false).bad, 1);
    assert_non_null(strstr(told.text, "is gone"));
    assert_int_equal(verify(p, "m", true).repaired, 1);
    assert_file_is(blob, bytes, BIG);
    chmod(blob, 0640);
    assert_int_equal(truncate(blob, 100), 0);
    assert_int_equal(verify(p, "m", false).bad, 1);
    assert_non_null(strstr(told.text, "has 100 bytes, not "));
    assert_int_equal(verify(p, "m", true).repaired, 1);
    assert_file_is(blob, bytes, BIG);
    assert_int_equal(stat(in(p, "big.gguf"), &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    /* where the source is another file by now, nothing is made of it */
    flip(blob, 9);
    bytes[0] = (char)(bytes[0] + 1);
    write_file(in(p, "big.gguf"), bytes, BIG);
    assert_int_equal(verify(p, "m", true).bad, 1);
    assert_non_null(strstr(told.text, "it could not be repaired: what is at '"));
    assert_int_equal(entries(p->home, "tmp"), 0);
    unlink(in(p, "big.gguf"));
    assert_int_equal(verify(p, "m", true).bad, 1);
    assert_non_null(strstr(told.text, "could not be repaired: opening '"));
    free(bytes);
}

static void a_file_of_the_users_is_never_written(void **state)
{
    struct place *p = *state;
    size_t n;
    reopen(p);
    const char *file = big_file(p);
    ok(import_file(p->s, "r", file, STORE_REFERENCE, e));
    flip(file, 1);
    char *damaged = read_file(file, &n);
    assert_int_equal(verify(p, "r", true).bad, 1);
    assert_int_equal(told.verdict, VERDICT_DAMAGED);
    assert_non_null(strstr(told.text, "MiB 1 of 6 of /"));
    assert_file_is(file, damaged, n);
    assert_int_equal(entries(p->home, "blobs"), 0);
    fails_with(ERR_CONFLICT, "has changed", resolve(p->s, "r", e));
    free(damaged);
}

/* What a model has elsewhere as well is not missing from it; nor is such a place asked for ever after. */
static void a_place_that_is_not_needed_is_forgotten(void **state)
{
    struct place *p = *state;
    char one[300], two[300];
    reopen(p);
    snprintf(one, sizeof one, "%s", write_file(in(p, "one.gguf"), "weights", 7));
    snprintf(two, sizeof two, "%s", write_file(in(p, "two.gguf"), "weights", 7));
    ok(import_file(p->s, "a", one, STORE_REFERENCE, e));
    ok(import_file(p->s, "b", two, STORE_REFERENCE, e));
    assert_int_equal(verify(p, NULL, false).files, 2);
    unlink(one);
    struct store_verified v = verify(p, NULL, false);
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.files, 1);
    ok(resolve(p->s, "a", e));
    write_file(two, "another", 7); /* the last place is not forgotten */
    v = verify(p, NULL, false);
    assert_int_equal(v.bad, 1);
    assert_int_equal(v.files, 1);
    write_file(one, "weights", 7);
    ok(import_file(p->s, "c", one, STORE_COPY, e));
    assert_int_equal(verify(p, NULL, false).bad, 0);
    ok(resolve(p->s, "b", e));
    flip(blob_path(p, "c"), 1);
    assert_int_equal(verify(p, NULL, false).bad, 1);
}

/* One that has rotted where it lies is told of, though the model has it elsewhere; one that is another file by now is not
 * missed. */
static void rotten_and_replaced(void **state)
{
    struct place *p = *state;
    char one[300];
    reopen(p);
    snprintf(one, sizeof one, "%s", write_file(in(p, "one.gguf"), "weights", 7));
    ok(import_file(p->s, "a", one, STORE_REFERENCE, e));
    ok(import_file(p->s, "b", write_file(in(p, "two.gguf"), "weights", 7), STORE_COPY, e));
    flip(one, 3);
    assert_int_equal(verify(p, NULL, false).bad, 1);
    ok(resolve(p->s, "a", e));
    unlink(one);
    write_file(one, "weights", 7);
    ok(import_file(p->s, "a", one, STORE_REFERENCE, e));
    assert_int_equal(verify(p, NULL, false).bad, 0);
    unlink(one);
    write_file(one, "another", 7);
    struct store_verified v = verify(p, NULL, false);
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.files, 1);
}

static void *import_again(void *user)
{
    struct place *p = user;
    struct err e = { 0 };
    return import_file(p->s, "again", in(p, "big.gguf"), STORE_COPY, &e) ? user : NULL;
}

/* While it is read, another call puts a new file in its place. */
static void replace_once(void *user, const struct store_event *ev)
{
    struct place *p = user;
    pthread_t thread;
    void *failed = p;
    if (ev->completed == 0 || told.n++)
        return;
    assert_int_equal(pthread_create(&thread, NULL, import_again, p), 0);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
}

static void what_was_found_of_a_file_is_not_said_of_the_next(void **state)
{
    struct place *p = *state;
    struct store_verified out;
    struct stat st;
    struct store_verify how = { .name = "m", .threads = 1, .job = { .event = replace_once, .user = p } };
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    const char *blob = blob_path(p, "m");
    memset(&told, 0, sizeof told);
    ok(store_verify(p->s, &how, &out, e));
    assert_true(told.n > 0);
    assert_int_equal(stat(blob, &st), 0);
    store_close(p->s);
    p->s = NULL;
    assert_int_equal(sql_int(in(p, "home/db"), "SELECT inode FROM files"), st.st_ino);
}

static void hashes_that_were_not_recorded_are(void **state)
{
    struct place *p = *state;
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    const char *blob = blob_path(p, "m");
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"), "DELETE FROM chunks");
    reopen(p);
    assert_int_equal(verify(p, "m", false).bad, 0);
    flip(blob, 0);
    assert_int_equal(verify(p, "m", false).bad, 1);
    assert_int_equal(told.n_bad, 1);
    assert_int_equal(told.bad[0], 1);
    store_close(p->s);
    p->s = NULL;
    sql(in(p, "home/db"), "DELETE FROM chunks");
    reopen(p);
    assert_int_equal(verify(p, "m", false).bad, 1); /* then only that it is */
    assert_int_equal(told.n_bad, 0);
    assert_non_null(strstr(told.text, " is damaged"));
    assert_int_equal(verify(p, "m", true).repaired, 1);
    assert_int_equal(verify(p, "m", false).bad, 0);
}

static void verifying_can_be_stopped(void **state)
{
    struct place *p = *state;
    struct store_verified out;
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    memset(&told, 0, sizeof told);
    atomic_store(&told.cancel, true);
    struct store_verify in = { .job = { .cancel = &told.cancel } };
    fails_with(ERR_CANCELLED, "cancelled", store_verify(p->s, &in, &out, e));
    ok(resolve(p->s, "m", e)); /* and nothing was noted */
}

/* One operation of a verify fails: of which verdict there were how many. */
static unsigned verdicts_when_failing(struct place *p, int error, enum verdict verdict)
{
    struct store_verify in = { .name = "m", .report = hear, .threads = 1 };
    struct store_verified out;
    unsigned hits = 0;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct err why = { 0 };
        uint64_t before = fault_count();
        memset(&told, 0, sizeof told);
        fault_after(n, error, false);
        enum err_code code = store_verify(p->s, &in, &out, &why);
        failed = fault_count() - before >= n;
        fault_after(0, 0, false);
        hits += !code && told.verdict == verdict;
        assert_true(verdict == VERDICT_GONE || told.n_bad < 2);
        assert_true(verdict == VERDICT_DAMAGED || told.verdict != VERDICT_DAMAGED);
        assert_int_equal(verify(p, "m", false).bad, 0); /* it was that once */
        ok(resolve(p->s, "m", e));
    }
    return hits;
}

/* A MiB that the disk cannot read is a bad one; what fails in another way is told as a file that cannot be had. It is the
 * model's fault, not the call's. */
static void what_cannot_be_read_is_told(void **state)
{
    struct place *p = *state;
    reopen(p);
    char *bytes = calloc(1, BIG); /* each MiB as the one before: what was read last is not taken for it */
    assert_non_null(bytes);
    ok(import_file(p->s, "m", write_file(in(p, "zeros.gguf"), bytes, BIG), STORE_COPY, e));
    free(bytes);
    assert_int_equal(verdicts_when_failing(p, EIO, VERDICT_DAMAGED), BIG / MIB + 1);
    assert_true(verdicts_when_failing(p, ESTALE, VERDICT_GONE) > BIG / MIB);
}

/* Every file that it came from is asked, until one has it; what is longer now is another file, however it begins. */
static void each_place_is_asked_until_one_has_it(void **state)
{
    struct place *p = *state;
    char one[300], two[300];
    char *bytes = big_bytes();
    reopen(p);
    snprintf(one, sizeof one, "%s", write_file(in(p, "one.gguf"), bytes, BIG));
    snprintf(two, sizeof two, "%s", write_file(in(p, "two.gguf"), bytes, BIG));
    ok(import_file(p->s, "a", one, STORE_COPY, e));
    ok(import_file(p->s, "b", two, STORE_COPY, e));
    const char *places[] = { one, two }, *blob = blob_path(p, "a");
    for (size_t i = 0; i < 2; i++) {
        flip(blob, 5);
        unlink(places[i]);
        assert_int_equal(verify(p, "a", true).repaired, 1);
        write_file(places[i], bytes, BIG);
        flip(blob, 5);
        assert_int_equal(unlink(places[i]) | mkdir(places[i], 0700), 0);
        assert_int_equal(verify(p, "a", true).repaired, 1);
        assert_int_equal(rmdir(places[i]), 0);
        write_file(places[i], bytes, BIG);
    }
    flip(blob, 5);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(truncate(places[i], BIG + 1), 0);
    assert_int_equal(verify(p, "a", true).repaired, 0);
    assert_non_null(strstr(told.text, "it could not be repaired: what is at '"));
    assert_int_equal(truncate(two, BIG), 0);
    assert_int_equal(verify(p, "a", true).repaired, 1);
    assert_file_is(blob, bytes, BIG);
    free(bytes);
}

/* told.n: at which event it is given up */
static void give_up(void *user, const struct store_event *ev)
{
    (void)user;
    (void)ev;
    if (told.n-- == 0)
        atomic_store(&told.cancel, true);
}

/* Gives a repair up at each of its events: how many there were until one went through. */
static size_t times_given_up(struct place *p)
{
    struct store_verified out = { 0 };
    struct store_verify in = { .name = "m", .repair = true, .job = { .event = give_up, .cancel = &told.cancel } };
    enum err_code code = ERR_CANCELLED;
    size_t n;
    for (n = 0; code; n++) {
        struct err why = { 0 };
        memset(&told, 0, sizeof told);
        told.n = n;
        code = store_verify(p->s, &in, &out, &why);
        if (code)
            assert_int_equal(code, ERR_CANCELLED);
        assert_true(n < 100);
        assert_int_equal(verify(p, "m", false).bad, code ? 1 : 0);
        assert_int_equal(entries(p->home, "tmp"), 0);
    }
    assert_int_equal(out.repaired, 1);
    return n - 1;
}

/* Whenever it is given up, the blob is as damaged as it was, or whole. Of one that is gone nothing is verified: what is given
 * up then is the repair. */
static void a_repair_can_be_stopped(void **state)
{
    struct place *p = *state;
    reopen(p);
    ok(import_file(p->s, "m", big_file(p), STORE_COPY, e));
    flip(blob_path(p, "m"), 5);
    times_given_up(p);
    assert_int_equal(unlink(blob_path(p, "m")), 0);
    assert_true(times_given_up(p) > 0);
}

/* Whatever fails in the middle of a repair: the blob is damaged or whole, and the next one makes it whole. */
static void judge_repair(struct place *p, enum err_code code, struct store_verified v)
{
    char *bytes = some_bytes(SWEPT);
    fault_after(0, 0, false);
    mem_fail_after(0, false);
    reopen(p);
    assert_int_equal(entries(p->home, "tmp"), 0);
    assert_int_equal(entries(p->home, "blobs"), 1);
    bool whole = resolve(p->s, "m", NULL) == ERR_OK && verify(p, "m", false).bad == 0;
    if (!code && v.repaired)
        assert_true(whole);
    verify(p, "m", true);
    const char *blob = blob_path(p, "m");
    assert_file_is(blob, bytes, SWEPT);
    free(bytes);
    flip(blob, (off_t)MIB);
}

static void a_repair_may_fail_anywhere(void **state)
{
    struct place *p = *state;
    struct store_verify what = { .name = "m", .repair = true, .threads = 1 };
    reopen(p);
    char *bytes = some_bytes(SWEPT);
    ok(import_file(p->s, "m", write_file(in(p, "m.gguf"), bytes, SWEPT), STORE_COPY, e));
    free(bytes);
    flip(blob_path(p, "m"), (off_t)MIB);
    for (int kind = 0; kind < 2; kind++) {
        bool through = false;
        for (uint64_t n = 1; !through; n += kind ? 3 : 1) {
            struct store_verified v = { 0 };
            struct err e = { 0 };
            if (kind)
                mem_fail_after(n, false);
            else
                fault_after(n, n % 2 ? EIO : ENOSPC, false);
            uint64_t before = kind ? mem_count() : fault_count();
            enum err_code code = store_verify(p->s, &what, &v, &e);
            through = (kind ? mem_count() : fault_count()) - before < n;
            assert_true(code == ERR_OK || e.text[0]);
            judge_repair(p, code, v);
            assert_true(n < 2000);
        }
    }
}

/* ---- prune ----------------------------------------------------------------------------------- */

static char pruned[1024];

static void hear_item(void *user, const struct store_pruned_item *i)
{
    size_t n = strlen(pruned);
    (void)user;
    snprintf(pruned + n, sizeof pruned - n, "%c:%.14s ", "bds"[i->kind], i->name);
}

static uint64_t prune(struct place *p, bool dry, uint64_t older)
{
    struct store_prune in = { .dry_run = dry, .older_s = older, .item = hear_item };
    uint64_t freed = 0;
    pruned[0] = '\0';
    ok(store_prune(p->s, &in, &freed, e));
    return freed;
}

static void leave_download(struct place *p, char letter, const char *tail, long age)
{
    char path[512], key[65];
    struct timespec t[2];
    memset(key, letter, 64);
    key[64] = '\0';
    snprintf(path, sizeof path, "%s/tmp/dl-%s.%s", p->home, key, tail);
    write_file(path, "bytes", 5);
    clock_gettime(CLOCK_REALTIME, &t[0]);
    t[0].tv_sec -= age;
    t[1] = t[0];
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void prune_takes_what_nothing_names(void **state)
{
    struct place *p = *state;
    struct digest d, key;
    char path[512];
    reopen(p);
    add(p, "kept", "kept", STORE_COPY);
    add(p, "held", "held", STORE_COPY);
    ok(manifest_digest(STR("held"), &d, e));
    ok(store_lease(p->s, &d, NULL, e));
    ok(store_remove(p->s, "held", NULL, e));
    snprintf(path, sizeof path, "%s/blobs/stranger", p->home);
    write_file(path, "x", 1);
    leave_download(p, 'a', "part", PRUNE_OLDER_S + 10);
    leave_download(p, 'a', "journal", PRUNE_OLDER_S + 10);
    leave_download(p, 'b', "part", 60);
    leave_download(p, 'c', "part", PRUNE_OLDER_S + 10);
    leave_download(p, 'd', "part", -PRUNE_OLDER_S); /* by a clock that was set back since */
    memset(key.b, 0xcc, sizeof key.b);
    assert_true(store_hold(p->s, &key)); /* somebody is at it */
    assert_int_equal(prune(p, false, 0), 2 * 4096);
    assert_null(strstr(pruned, "b:")); /* it is leased */
    assert_non_null(strstr(pruned, "d:dl-aaaaaaaaaaa"));
    assert_non_null(strstr(pruned, "s:stranger"));
    assert_int_equal(entries(p->home, "tmp"), 3);
    assert_int_equal(entries(p->home, "blobs"), 3); /* kept, held, the stranger */
    /* without its lease it would go, and goes */
    lease_put(p->s->leases, &d);
    assert_int_equal(prune(p, true, 30), 2 * 4096);
    assert_non_null(strstr(pruned, "b:sha256-"));
    assert_non_null(strstr(pruned, "d:dl-bbbbbbbbbbb"));
    assert_int_equal(entries(p->home, "tmp"), 3);
    assert_int_equal(entries(p->home, "blobs"), 3);
    assert_int_equal(prune(p, false, 30), 2 * 4096);
    assert_int_equal(entries(p->home, "tmp"), 2);
    assert_int_equal(entries(p->home, "blobs"), 2);
    assert_int_equal(prune(p, false, 30), 0);
    store_release(p->s, &key);
    unlink(path);
    ok(resolve(p->s, "kept", e));
}

/* Old files in tmp/ that are not called as a download's are somebody's who is at work. */
static void prune_takes_downloads_by_their_names(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {
        "dl-ab.part", "part-9",
        "xx-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.part",
        "dl-gggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggggg.part",
        "dl-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.other",
    };
    const struct timespec long_ago[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    char path[512];
    reopen(p);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/tmp/%s", p->home, names[i]);
        write_file(path, "bytes", 5);
        assert_int_equal(utimensat(AT_FDCWD, path, long_ago, 0), 0);
    }
    assert_int_equal(prune(p, false, 1), 0);
    assert_int_equal(entries(p->home, "tmp"), sizeof names / sizeof *names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup_in_memory, teardown)
        T(a_sound_model_is_said_to_be),
        T(the_bad_parts_are_named),
        T(a_damaged_file_is_mended_from_where_it_came),
        T(a_file_of_the_users_is_never_written),
        T(a_place_that_is_not_needed_is_forgotten),
        T(what_was_found_of_a_file_is_not_said_of_the_next),
        T(hashes_that_were_not_recorded_are),
        T(rotten_and_replaced),
        T(what_cannot_be_read_is_told),
        T(each_place_is_asked_until_one_has_it),
        T(a_repair_can_be_stopped),
        T(a_repair_may_fail_anywhere),
        T(verifying_can_be_stopped),
        T(prune_takes_what_nothing_names),
        T(prune_takes_downloads_by_their_names),
#undef T
    };
    return prepare_process() ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
