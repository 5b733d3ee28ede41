#include "store/store_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <sqlite3.h>

#include "runtime/base/log.h"
#include "store/filter.h"

/* ---- SQLite's memory ------------------------------------------------------------------------- */

/* SQLite asks a block for its size, so each carries it in front. */
#define BLOCK_HEAD 16

static void *sql_alloc(int n)
{
    char *p = mem_alloc((size_t)n + BLOCK_HEAD);
    if (!p)
        return NULL;
    memcpy(p, &n, sizeof n);
    return p + BLOCK_HEAD;
}

static void sql_free(void *p)
{
    if (p)
        mem_free((char *)p - BLOCK_HEAD);
}

static int sql_size(void *p)
{
    int n = 0;
    if (p)
        memcpy(&n, (char *)p - BLOCK_HEAD, sizeof n);
    return n;
}

static void *sql_resize(void *old, int n)
{
    char *p = mem_resize((char *)old - BLOCK_HEAD, (size_t)n + BLOCK_HEAD, 1);
    if (!p)
        return NULL;
    memcpy(p, &n, sizeof n);
    return p + BLOCK_HEAD;
}

static int sql_round(int n)
{
    return (n + 7) & ~7;
}

static int sql_init(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void sql_shutdown(void *unused)
{
    (void)unused;
}

static void sql_log(void *unused, int rc, const char *text)
{
    (void)unused;
    log_line(LOG_DEBUG, "msg=sqlite code=%d text=\"%s\"", rc, text);
}

enum err_code store_setup(struct err *e)
{
    sqlite3_mem_methods memory = { .xMalloc = sql_alloc,
                                   .xFree = sql_free,
                                   .xRealloc = sql_resize,
                                   .xSize = sql_size,
                                   .xRoundup = sql_round,
                                   .xInit = sql_init,
                                   .xShutdown = sql_shutdown };
    int rc = sqlite3_config(SQLITE_CONFIG_MALLOC, &memory);
    if (rc == SQLITE_OK)
        rc = sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (rc == SQLITE_OK)
        rc = sqlite3_config(SQLITE_CONFIG_LOG, sql_log, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_initialize();
    if (rc == SQLITE_NOMEM)
        return err_no_memory(e, 0, "SQLite");
    return rc == SQLITE_OK ? ERR_OK
                           : err_set(e, ERR_INTERNAL, "SQLite was in use before it was set up");
}

/* ---- directories and the lock ---------------------------------------------------------------- */

/* Where a directory cannot be synced at all (it is not ours to read, or its file system has no such thing), there is
 * nothing to be done about it. */
static enum err_code sync_parent(const struct file_ops *ops, const char *path, struct err *e)
{
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof parent)
        return ERR_OK;
    memcpy(parent, path, n);
    memcpy(parent + n, n ? "" : slash ? "/" : ".", n ? 1 : 2);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return ERR_OK;
    bool lost = ops->sync(fd) < 0 && (errno == EIO || errno == ENOSPC || errno == EDQUOT);
    int errnum = errno;
    close(fd);
    return lost ? err_errno(e, ERR_IO, errnum, "syncing '%s'", parent) : ERR_OK;
}

/* anew: one that is there may have been made by a process that was killed before it synced. */
static enum err_code make_dir(const struct file_ops *ops, const char *path, bool anew, struct err *e)
{
    if (ops->make_dir(AT_FDCWD, path, 0750) < 0) {
        if (errno != EEXIST)
            return err_errno(e, ERR_IO, errno, "making '%s'", path);
        return anew ? sync_parent(ops, path, e) : ERR_OK;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && ops->mode(fd, 0750) == 0; /* the umask may have taken bits away */
    int errnum = errno;
    if (fd >= 0)
        close(fd);
    if (!good)
        return err_errno(e, ERR_IO, errnum, "making '%s'", path);
    return sync_parent(ops, path, e);
}

/* The home and what is missing above it. */
static enum err_code make_home(const struct file_ops *ops, const char *home, struct err *e)
{
    char path[PATH_MAX], db[PATH_MAX + 4];
    struct stat st;
    size_t n = strlen(home);
    if (n == 0 || n >= sizeof path)
        return err_set(e, ERR_INVALID, "the store's home must be a path of 1 to %zu bytes",
                       sizeof path - 1);
    memcpy(path, home, n + 1);
    snprintf(db, sizeof db, "%s/db", home);
    bool anew = ops->stat_path(db, &st) < 0; /* the catalog is made when the home is on the disk */
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    for (char *p = path + 1; *p; p++) {
        if (*p != '/' || p[-1] == '/')
            continue;
        *p = '\0';
        enum err_code code = make_dir(ops, path, anew, e);
        *p = '/';
        if (code)
            return code;
    }
    return make_dir(ops, path, anew, e);
}

/* SQLite's WAL needs shared memory and locks that these do not give it (sqlite.org/wal.html). */
static enum err_code check_file_system(const struct store *s, struct err *e)
{
    static const struct {
        uint32_t magic;
        const char *name;
    } remote[] = { { 0x6969, "NFS" },     { 0x517b, "SMB" },  { 0xfe534d42, "SMB" },
                   { 0xff534d42, "SMB" }, { 0x5346414f, "AFS" }, { 0x01021997, "9P" } };
    struct statfs fs;
    if (fstatfs(s->home_fd, &fs) < 0)
        return err_errno(e, ERR_IO, errno, "looking at '%s'", s->home);
    for (size_t i = 0; i < sizeof remote / sizeof *remote; i++)
        if ((uint32_t)fs.f_type == remote[i].magic)
            return err_set(e, ERR_UNSUPPORTED,
                           "'%s' is on %s, where SQLite's WAL is not safe: choose a home on a local "
                           "file system",
                           s->home, remote[i].name);
    return ERR_OK;
}

/* A directory or file of ours: made when missing, and never more open than `mode`. */
static enum err_code own_entry(struct store *s, const char *name, bool dir, mode_t mode,
                               struct err *e)
{
    struct stat st;
    bool made = dir && s->ops->make_dir(s->home_fd, name, mode) == 0;
    if (dir && !made && errno != EEXIST)
        return err_errno(e, ERR_IO, errno, "making '%s/%s'", s->home, name);
    int fd = s->ops->open(s->home_fd, name, dir ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT, mode);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "opening '%s/%s'", s->home, name);
    enum err_code code = ERR_OK;
    if (s->ops->stat(fd, &st) < 0)
        code = err_errno(e, ERR_IO, errno, "looking at '%s/%s'", s->home, name);
    made = made || (!dir && st.st_size == 0);
    mode_t want = made ? mode : st.st_mode & mode;
    if (!code && (st.st_mode & 07777) != want && s->ops->mode(fd, want) < 0)
        code = err_errno(e, ERR_IO, errno, "setting the mode of '%s/%s'", s->home, name);
    s->ops->close(fd);
    return code;
}

static enum err_code in_use(struct store *s, struct err *e)
{
    char text[24] = "";
    ssize_t n = pread(s->lock_fd, text, sizeof text - 1, 0);
    long pid = n > 0 ? strtol(text, NULL, 10) : 0;
    if (pid > 0)
        return err_set(e, ERR_CONFLICT, "the store at '%s' is in use by process %ld", s->home, pid);
    return err_set(e, ERR_CONFLICT, "the store at '%s' is in use by another process", s->home);
}

/* The lock goes with the process, however it ends; the pid in the file is for the sentence. */
static enum err_code take_lock(struct store *s, struct err *e)
{
    char text[24];
    s->lock_fd = s->ops->open(s->home_fd, "db.lock", O_RDWR, 0);
    if (s->lock_fd < 0)
        return err_errno(e, ERR_IO, errno, "opening '%s/db.lock'", s->home);
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? in_use(s, e)
                                    : err_errno(e, ERR_IO, errno, "locking '%s/db.lock'", s->home);
    int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    if (pwrite(s->lock_fd, text, (size_t)n, 0) != n || ftruncate(s->lock_fd, n) < 0)
        log_line(LOG_WARN, "msg=\"the pid could not be written to db.lock\" errno=%d", errno);
    return ERR_OK;
}

/* ---- a full disk ----------------------------------------------------------------------------- */

/* Removing a model needs some room for the WAL, and so does opening the catalog. So much is put
 * aside while there is some, and given back to the disk when there is none left. */
#define RESERVE "db.reserve"
#define RESERVE_MOST ((uint64_t)1024 * 1024)
#define RESERVE_LEAST ((uint64_t)128 * 1024)

void store_keep_reserve(struct store *s)
{
    int fd = s->ops->open(s->home_fd, RESERVE, O_WRONLY | O_CREAT | O_EXCL, 0640);
    if (fd < 0)
        return; /* there already, or no room for a name */
    bool kept = false;
    for (uint64_t n = RESERVE_MOST; !kept && n >= RESERVE_LEAST; n /= 2)
        kept = s->ops->reserve(fd, n) == 0;
    kept = s->ops->mode(fd, 0640) == 0 && kept;
    s->ops->close(fd);
    if (!kept)
        s->ops->unlink(s->home_fd, RESERVE);
}

bool store_spend_reserve(struct store *s, enum err_code code)
{
    return code == ERR_IO && s->ops->unlink(s->home_fd, RESERVE) == 0;
}

/* ---- settings -------------------------------------------------------------------------------- */

static void free_net(struct store_net *net)
{
    mem_free((char *)net->mirror);
    mem_free((char *)net->ca_file);
    mem_free((char *)net->hf_endpoint);
    mem_free((char *)net->realms);
    mem_free((char *)net->key_hosts);
    *net = (struct store_net){ 0 };
}

enum err_code store_set_net(struct store *s, const struct store_net *net, struct err *e)
{
    struct store_net copy = { .offline = net->offline, .connections = net->connections };
    const struct {
        const char *from, **to;
    } rows[] = { { net->mirror, &copy.mirror },
                 { net->ca_file, &copy.ca_file },
                 { net->hf_endpoint, &copy.hf_endpoint },
                 { net->realms, &copy.realms },
                 { net->key_hosts, &copy.key_hosts } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].from && rows[i].from[0] && !(*rows[i].to = mem_strdup(rows[i].from))) {
            free_net(&copy);
            return err_no_memory(e, 0, "the store's settings");
        }
    free_net(&s->net);
    s->net = copy;
    return ERR_OK;
}

void store_set_inspector(struct store *s, store_inspect *fn, void *user)
{
    s->inspect = fn;
    s->inspect_user = user;
}

void store_say_model(struct err *e, const char *path, const char *model)
{
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    struct err said;
    if (!e || !str_starts(str_from(e->text), str_from(file)))
        return;
    said = *e;
    err_set(e, said.code, "'%.200s'%s", model, said.text + strlen(file));
}

enum err_code store_look_into(struct store *s, const char *const *paths, size_t n, struct str template,
                              struct arena *a, struct store_facts *out, struct err *e)
{
    *out = (struct store_facts){ 0 };
    if (!s->inspect)
        return err_set(e, ERR_UNSUPPORTED, "'%s': there is nobody here to look into a model file", paths[0]);
    const char *const *named = NULL;
    enum err_code code = store_name_parts(s, &named, paths, n, a, &named, e);
    if (!code)
        code = s->inspect(s->inspect_user, named, n, template, a, out, e);
    store_unname_parts(s, &named, n);
    return code;
}

/* ---- open and close -------------------------------------------------------------------------- */

/* What a process left that had it in use when it was killed. */
static void prune_and_collect(struct store *s);
static bool is_leased(void *s, const struct digest *d);

static enum err_code open_home(struct store *s, const char *home, struct err *e)
{
    char real[PATH_MAX];
    enum err_code code = s->looking ? ERR_OK : make_home(s->ops, home, e);
    if (code)
        return code;
    if (!realpath(home, real))
        return s->looking && errno == ENOENT ? err_set(e, ERR_NOT_FOUND, "there is no store at '%s'", home)
                                             : err_errno(e, ERR_IO, errno, "looking for '%s'", home);
    s->home = mem_strdup(real);
    if (!s->home)
        return err_no_memory(e, strlen(real), "the store");
    s->home_fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->home_fd < 0)
        return err_errno(e, ERR_IO, errno, "opening '%s'", real);
    return check_file_system(s, e);
}

/* One that was cut off to nothing is not a new one: what is in blobs/ would be forgotten. */
static enum err_code check_not_cut_off(struct store *s, struct err *e)
{
    struct stat st;
    bool any = false;
    if (s->ops->stat_at(s->home_fd, "db", &st) < 0 || st.st_size)
        return ERR_OK;
    int fd = s->ops->open(s->home_fd, "blobs", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *entry; dir && !any && (entry = readdir(dir));)
        any = entry->d_name[0] != '.';
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        s->ops->close(fd);
    return any ? err_set(e, ERR_FORMAT, "'%s/db' is empty, and blobs/ beside it is not: nothing was written. Put back a "
                         "copy of it, or remove it and import again what is in blobs/", s->home)
               : ERR_OK;
}

static enum err_code own_entries(struct store *s, struct err *e)
{
    static const struct {
        const char *name;
        bool dir;
        mode_t mode;
    } rows[] = { { "db", false, 0640 }, { "blobs", true, 0750 }, { "tmp", true, 0700 } };
    enum err_code code = check_not_cut_off(s, e);
    for (size_t i = 0; !code && i < sizeof rows / sizeof *rows; i++)
        code = own_entry(s, rows[i].name, rows[i].dir, rows[i].mode, e);
    if (!code && s->ops->sync(s->home_fd) < 0)
        code = err_errno(e, ERR_IO, errno, "syncing '%s'", s->home);
    return code;
}

static enum err_code open_catalog(struct store *s, struct err *e)
{
    char path[PATH_MAX + 4];
    snprintf(path, sizeof path, "%s/db", s->home);
    if (!s->looking)
        return catalog_open(path, &s->catalog, e);
    if (faccessat(s->home_fd, "db", F_OK, 0) < 0 && errno == ENOENT)
        return err_set(e, ERR_NOT_FOUND, "there is no store at '%s'", s->home);
    return catalog_look(path, &s->catalog, e);
}

static struct store *new_store(const struct file_ops *ops, bool looking, struct err *e)
{
    struct store *s = mem_zero(1, sizeof *s);
    if (!s) {
        err_no_memory(e, sizeof *s, "the store");
        return NULL;
    }
    s->ops = s->blobs.ops = ops;
    s->looking = looking;
    s->home_fd = s->lock_fd = s->blobs.blobs = s->blobs.tmp = -1;
    pthread_mutex_init(&s->mutex, NULL);
    share_table_init(&s->shares);
    s->leases = lease_create();
    if (!s->leases) {
        err_no_memory(e, sizeof *s->leases, "the store");
        store_close(s);
        return NULL;
    }
    return s;
}

enum err_code store_open_with(const struct file_ops *ops, const char *home, struct store **out,
                              struct err *e)
{
    struct store *s = new_store(ops, false, e);
    if (!s)
        return ERR_NO_MEMORY;
    enum err_code code = open_home(s, home, e);
    if (!code)
        code = own_entry(s, "db.lock", false, 0640, e);
    if (!code)
        code = take_lock(s, e);
    if (!code)
        code = own_entries(s, e);
    if (!code)
        code = open_catalog(s, e);
    if (store_spend_reserve(s, code))
        code = open_catalog(s, e);
    if (!code)
        code = blob_dir_open(&s->blobs, ops, s->home_fd, e);
    if (code) {
        store_close(s);
        return code;
    }
    store_salvage(s);
    blob_clean_tmp(&s->blobs);
    catalog_set_leased(s->catalog, is_leased, s);
    prune_and_collect(s);
    store_keep_reserve(s);
    *out = s;
    return ERR_OK;
}

enum err_code store_open(const char *home, struct store **out, struct err *e)
{
    return store_open_with(&file_system, home, out, e);
}

enum err_code store_look(const char *home, struct store **out, struct err *e)
{
    struct store *s = new_store(&file_system, true, e);
    if (!s)
        return ERR_NO_MEMORY;
    enum err_code code = open_home(s, home, e);
    if (!code)
        code = open_catalog(s, e);
    if (!code)
        code = blob_dir_open(&s->blobs, s->ops, s->home_fd, e);
    if (code)
        store_close(s);
    else
        *out = s;
    return code;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    bool opened = s->catalog != NULL && !s->looking;
    catalog_close(s->catalog);
    if (opened && s->blobs.tmp >= 0)
        blob_clean_tmp(&s->blobs); /* names of shards; nothing is under way any more */
    if (opened)
        store_keep_reserve(s); /* the WAL's room is free again */
    blob_dir_close(&s->blobs);
    if (s->home_fd >= 0)
        close(s->home_fd);
    if (s->lock_fd >= 0)
        s->ops->close(s->lock_fd); /* last: now another may open */
    pthread_mutex_destroy(&s->mutex);
    share_table_finish(&s->shares);
    lease_close(s->leases);
    free_net(&s->net);
    mem_free(s->home);
    mem_free(s);
}

/* ---- the trash ------------------------------------------------------------------------------- */

static enum err_code collect(struct store *s, struct arena *a, uint64_t *freed, struct err *e)
{
    struct catalog_trash *rows;
    size_t n, unlinked = 0;
    enum err_code code = catalog_trash(s->catalog, a, &rows, &n, e);
    if (code || n == 0)
        return code;
    for (size_t i = 0; !code && i < n; i++)
        if (!rows[i].owned) {
            code = blob_unlink(&s->blobs, &rows[i].digest, freed, e);
            unlinked++;
        }
    if (!code && unlinked)
        code = blob_sync(&s->blobs, e); /* a file must be gone before it is forgotten */
    if (!code)
        code = catalog_begin(s->catalog, e);
    if (!code)
        code = catalog_empty_trash(s->catalog, e);
    if (!code)
        code = catalog_commit(s->catalog, NULL, e);
    catalog_rollback(s->catalog);
    return code;
}

void store_collect(struct store *s, uint64_t *freed)
{
    struct arena a = { 0 };
    struct err e;
    uint64_t bytes = 0;
    if (collect(s, &a, &bytes, &e))
        log_line(LOG_WARN, "msg=\"files that nothing names stay for now\" error=\"%s\"", e.text);
    if (freed)
        *freed = bytes;
    arena_finish(&a);
}

/* A download that was moved to blobs/ and then not named goes back to where a pull goes on from, while its
 * journal still lies there. What is at its name there by now has the same digest to come to. */
static void salvage_one(struct store *s, const struct digest *d)
{
    char hex[DIGEST_HEX_SIZE], name[DIGEST_FILE_SIZE], part[88], journal[88];
    struct stat st;
    digest_hex(d, hex);
    digest_file_name(d, name);
    snprintf(part, sizeof part, "dl-%s.part", hex);
    snprintf(journal, sizeof journal, "dl-%s.journal", hex);
    if (s->ops->stat_at(s->blobs.tmp, journal, &st) == 0 && s->ops->stat_at(s->blobs.tmp, part, &st) < 0 &&
        errno == ENOENT)
        s->ops->rename(s->blobs.blobs, name, s->blobs.tmp, part); /* where it fails, it is fetched again */
}

void store_salvage(struct store *s)
{
    struct arena a = { 0 };
    struct catalog_trash *rows;
    size_t n;
    if (catalog_trash(s->catalog, &a, &rows, &n, NULL))
        n = 0;
    for (size_t i = 0; i < n; i++)
        if (!rows[i].owned)
            salvage_one(s, &rows[i].digest);
    arena_finish(&a);
}

static bool is_leased(void *s, const struct digest *d)
{
    return lease_keeps(((struct store *)s)->leases, d);
}

enum err_code store_prune_rows(struct store *s, struct err *e)
{
    lease_begin_prune(s->leases);
    return catalog_prune(s->catalog, e);
}

static void prune_and_collect(struct store *s)
{
    struct err e;
    enum err_code code = catalog_begin(s->catalog, &e);
    if (!code)
        code = store_prune_rows(s, &e);
    if (!code)
        code = catalog_commit(s->catalog, NULL, &e);
    catalog_rollback(s->catalog);
    if (code)
        log_line(LOG_WARN, "msg=\"blobs that nothing names stay for now\" error=\"%s\"", e.text);
    else
        store_collect(s, NULL);
}

void store_catch_up(struct store *s)
{
    if (!s->looking && lease_ripe(s->leases))
        prune_and_collect(s);
}

/* ---- names ----------------------------------------------------------------------------------- */

enum err_code store_find(struct store *s, const char *text, struct name *name,
                         struct catalog_ref *ref, struct err *e)
{
    char is[DIGEST_TEXT_SIZE], asked[DIGEST_TEXT_SIZE];
    enum err_code code = name_parse(str_from(text), name, e);
    if (!code)
        code = catalog_find(s->catalog, name, ref, e);
    if (code)
        return code;
    if (!ref->tag_id)
        return err_set(e, ERR_NOT_FOUND, "model '%s' not found", text);
    if (!name->pinned || digest_eq(&name->digest, &ref->digest))
        return ERR_OK;
    digest_text(&ref->digest, is);
    digest_text(&name->digest, asked);
    return err_set(e, ERR_CONFLICT, "'%s:%s' is %s here, not %s", name->model, name->tag, is,
                   asked);
}

enum err_code store_known(struct store *s, const char *text, struct err *e)
{
    struct name name;
    struct catalog_ref ref;
    pthread_mutex_lock(&s->mutex);
    enum err_code code = store_find(s, text, &name, &ref, e);
    pthread_mutex_unlock(&s->mutex);
    return code;
}

enum err_code store_new_name(const char *text, struct name *name, struct err *e)
{
    enum err_code code = name_parse(str_from(text), name, e);
    if (!code && name->pinned)
        code = err_set(e, ERR_INVALID, "'%s:%s': a name that is given takes no digest", name->model,
                       name->tag);
    return code;
}

/* ---- list, copy, remove ---------------------------------------------------------------------- */

struct list_box {
    struct store_list list; /* first: store_list_destroy gets back from it */
    struct arena arena;
};

static size_t keep_matching(const struct store_filter *f, struct store_model *models, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (store_filter_matches(f, &models[i]))
            models[kept++] = models[i];
    return kept;
}

enum err_code store_list(struct store *s, struct store_list **out, struct err *e)
{
    return store_list_matching(s, "", out, e);
}

enum err_code store_list_matching(struct store *s, const char *filter, struct store_list **out,
                                  struct err *e)
{
    struct store_model *models = NULL;
    struct store_filter f;
    enum err_code code = store_filter_parse(str_from(filter), &f, e);
    if (code)
        return code;
    struct list_box *box = mem_zero(1, sizeof *box);
    if (!box)
        return err_no_memory(e, sizeof *box, "listing models");
    pthread_mutex_lock(&s->mutex);
    store_catch_up(s);
    code = catalog_list(s->catalog, &box->arena, &models, &box->list.n, e);
    pthread_mutex_unlock(&s->mutex);
    if (!code && f.n)
        box->list.n = keep_matching(&f, models, box->list.n);
    box->list.models = models;
    if (code)
        store_list_destroy(&box->list);
    else
        *out = &box->list;
    return code;
}

void store_list_destroy(struct store_list *l)
{
    struct list_box *box = (struct list_box *)l;
    if (!box)
        return;
    arena_finish(&box->arena);
    mem_free(box);
}

/* Ends a change that may have left models without a name: prunes, commits and collects. */
static enum err_code finish_change(struct store *s, enum err_code code, uint64_t *freed,
                                   struct err *e)
{
    if (!code)
        code = store_prune_rows(s, e);
    if (!code)
        code = catalog_commit(s->catalog, NULL, e);
    catalog_rollback(s->catalog);
    if (!code)
        store_collect(s, freed);
    return code;
}

static enum err_code copy_locked(struct store *s, const char *from, const struct name *to,
                                 struct err *e)
{
    struct name name;
    struct catalog_ref ref, old;
    int64_t tag;
    enum err_code code = store_find(s, from, &name, &ref, e);
    if (!code)
        code = catalog_find(s->catalog, to, &old, e);
    if (code || old.tag_id == ref.tag_id)
        return code;
    code = catalog_begin(s->catalog, e);
    if (!code)
        code = catalog_put_tag(s->catalog, to, ref.model_id, &tag, e);
    return finish_change(s, code, NULL, e);
}

enum err_code store_copy(struct store *s, const char *from, const char *to, struct err *e)
{
    struct name name;
    enum err_code code = store_new_name(to, &name, e);
    if (code)
        return code;
    pthread_mutex_lock(&s->mutex);
    code = copy_locked(s, from, &name, e);
    pthread_mutex_unlock(&s->mutex);
    return code;
}

static enum err_code remove_tag(struct store *s, int64_t tag_id, uint64_t *freed, struct err *e)
{
    enum err_code code = catalog_begin(s->catalog, e);
    if (!code)
        code = catalog_drop_tag(s->catalog, tag_id, e);
    return finish_change(s, code, freed, e);
}

enum err_code store_remove(struct store *s, const char *text, uint64_t *freed, struct err *e)
{
    struct name name;
    struct catalog_ref ref;
    pthread_mutex_lock(&s->mutex);
    enum err_code code = store_find(s, text, &name, &ref, e);
    if (!code) {
        code = remove_tag(s, ref.tag_id, freed, e);
        if (store_spend_reserve(s, code)) {
            err_clear(e);
            code = remove_tag(s, ref.tag_id, freed, e);
        }
        store_keep_reserve(s);
    }
    pthread_mutex_unlock(&s->mutex);
    return code;
}
