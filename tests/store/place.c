#include "tests/store/place.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <sqlite3.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"

/* ---- a place to work in ---------------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int setup_in(void **state, const char *dir)
{
    struct place *p = calloc(1, sizeof *p);
    if (!p)
        return -1;
    snprintf(p->root, sizeof p->root, "%s/hearth-store-XXXXXX", dir);
    if (!mkdtemp(p->root))
        return -1;
    snprintf(p->home, sizeof p->home, "%s/home", p->root);
    *state = p;
    return 0;
}

int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    return setup_in(state, tmp && strlen(tmp) < 100 ? tmp : "/tmp");
}

int setup_in_memory(void **state)
{
    return access("/dev/shm", W_OK) == 0 ? setup_in(state, "/dev/shm") : setup(state);
}

int teardown(void **state)
{
    struct place *p = *state;
    fault_after(0, 0, false);
    mem_fail_after(0, false);
    store_close(p->s);
    nftw(p->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(p);
    return 0;
}

void reopen(struct place *p)
{
    store_close(p->s);
    p->s = NULL;
    ok(store_open_with(&fault_ops, p->home, &p->s, e));
}

const char *in(const struct place *p, const char *name)
{
    static char text[4][512]; /* a few at a time */
    static int next;
    char *t = text[next++ % 4];
    snprintf(t, sizeof text[0], "%s/%s", p->root, name);
    return t;
}

const char *write_file(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    return path;
}

char *read_file(const char *path, size_t *n)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0)
        fail_msg("no file '%s'", path);
    char *bytes = malloc((size_t)st.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    *n = (size_t)st.st_size;
    return bytes;
}

void assert_file_is(const char *path, const void *bytes, size_t n)
{
    size_t have;
    char *is = read_file(path, &have);
    assert_int_equal(have, n);
    assert_memory_equal(is, bytes, n);
    free(is);
}

size_t entries(const char *home, const char *dir)
{
    char path[512];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", home, dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

void hex_of(const void *bytes, size_t n, char out[65])
{
    struct digest d;
    assert_true(EVP_Digest(bytes, n, d.b, NULL, EVP_sha256(), NULL));
    digest_hex(&d, out);
}

/* ---- importing ------------------------------------------------------------------------------- */

const struct store_facts llama = { .format = "gguf",
                                          .family = "llama",
                                          .quantization = "Q4_1",
                                          .capabilities = "completion",
                                          .n_params = 134515008,
                                          .context_length = 2048,
                                          .embedding_length = 576,
                                          .has_weights = true };

enum err_code import_files(struct store *s, const char *name, const char *const *paths,
                                  size_t n, enum store_mode mode, struct store_model **out,
                                  struct err *e)
{
    struct store_import_file files[8];
    assert_true(n <= 8);
    for (size_t i = 0; i < n; i++) {
        files[i] = (struct store_import_file){ .fd = open(paths[i], O_RDONLY), .path = paths[i] };
        assert_true(files[i].fd >= 0);
    }
    struct store_import in = {
        .name = name, .files = files, .n_files = n, .mode = mode, .facts = llama
    };
    enum err_code code = store_import(s, &in, out, e);
    for (size_t i = 0; i < n; i++)
        close(files[i].fd);
    return code;
}

enum err_code import_file(struct store *s, const char *name, const char *path,
                                 enum store_mode mode, struct err *e)
{
    return import_files(s, name, &path, 1, mode, NULL, e);
}

const char *model_file(struct place *p, const char *text)
{
    return write_file(in(p, text), text, strlen(text));
}

void add(struct place *p, const char *name, const char *text, enum store_mode mode)
{
    ok(import_file(p->s, name, model_file(p, text), mode, e));
}

const char *listed(struct store *s)
{
    static char text[4096];
    struct store_list *l = NULL;
    size_t n = 0;
    ok(store_list(s, &l, e));
    text[0] = '\0';
    for (size_t i = 0; i < l->n; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s ", l->models[i].name);
    store_list_destroy(l);
    return text;
}

/* ---- looking ----------------------------------------------------------------------------------- */

mode_t mode_of(const char *home, const char *name)
{
    char path[512];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", home, name);
    assert_int_equal(lstat(path, &st), 0);
    return st.st_mode & 07777;
}

void sql(const char *db, const char *text)
{
    sqlite3 *c;
    assert_int_equal(sqlite3_open(db, &c), SQLITE_OK);
    if (sqlite3_exec(c, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(c));
    assert_int_equal(sqlite3_close(c), SQLITE_OK);
}

int64_t sql_int(const char *db, const char *text)
{
    sqlite3 *c;
    sqlite3_stmt *st;
    assert_int_equal(sqlite3_open_v2(db, &c, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(c, text, -1, &st, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t v = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(c);
    return v;
}

enum err_code resolve(struct store *s, const char *name, struct err *e)
{
    struct store_model *m = NULL;
    enum err_code code = store_resolve(s, name, &m, e);
    store_model_destroy(m);
    return code;
}

int prepare_process(void)
{
    json_setup();
    log_set_level(LOG_ERROR);
    if (store_setup(NULL) != ERR_OK)
        return -1;
    fault_install();
    return 0;
}
