#include "store/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sqlite3.h>

#include "runtime/base/clock.h"
#include "store/catalog_sql.h"
#include "store/schema2_sql.h"
#include "store/schema_sql.h"

#define BUSY_MS 5000

enum statement {
#define X(name, what, sql) Q_##name,
    STATEMENTS(X)
#undef X
    Q_COUNT
};

static const struct {
    const char *what, *sql;
} statements[Q_COUNT] = {
#define X(name, what, sql) [Q_##name] = { what, sql },
    STATEMENTS(X)
#undef X
};

/* Step i makes schema i + 1 of schema i; each is one transaction. */
static const char *const migrations[CATALOG_SCHEMA] = { schema_sql, schema2_sql };

struct catalog {
    sqlite3 *db;
    sqlite3_stmt *prepared[Q_COUNT];
    bool (*leased)(void *user, const struct digest *d); /* NULL: nothing is */
    void *user;
};

/* ---- errors ---------------------------------------------------------------------------------- */

static enum err_code code_of(int rc)
{
    static const struct {
        int rc;
        enum err_code code;
    } rows[] = {
        { SQLITE_NOMEM, ERR_NO_MEMORY }, { SQLITE_BUSY, ERR_BUSY },     { SQLITE_LOCKED, ERR_BUSY },
        { SQLITE_CORRUPT, ERR_FORMAT },  { SQLITE_NOTADB, ERR_FORMAT }, { SQLITE_FULL, ERR_IO },
        { SQLITE_IOERR, ERR_IO },        { SQLITE_CANTOPEN, ERR_IO },   { SQLITE_READONLY, ERR_IO },
        { SQLITE_PERM, ERR_IO },
    };
    if (rc == SQLITE_IOERR_NOMEM)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].rc == (rc & 0xff))
            return rows[i].code;
    return ERR_INTERNAL;
}

static enum err_code failed(struct catalog *c, int rc, const char *what, struct err *e)
{
    int os = c->db ? sqlite3_system_errno(c->db) : 0;
    enum err_code code = code_of(rc);
    if ((rc & 0xff) == SQLITE_FULL && os == 0)
        os = ENOSPC;
    if (code == ERR_IO && os)
        return err_errno(e, code, os, "the catalog: %s: %s", what, sqlite3_errstr(rc));
    return err_set(e, code, "the catalog: %s: %s", what,
                   c->db && code == ERR_INTERNAL ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc));
}

/* ---- running statements ---------------------------------------------------------------------- */

static int bind_one(sqlite3_stmt *st, int at, char type, va_list *args)
{
    if (type == 'i')
        return sqlite3_bind_int64(st, at, va_arg(*args, int64_t));
    if (type == 't') {
        const char *text = va_arg(*args, const char *);
        return sqlite3_bind_text(st, at, text ? text : "", -1, SQLITE_STATIC);
    }
    if (type == 'd')
        return sqlite3_bind_blob64(st, at, va_arg(*args, const struct digest *)->b, 32,
                                   SQLITE_STATIC);
    const struct str *s = va_arg(*args, const struct str *); /* 'b'; NULL binds NULL */
    if (!s)
        return sqlite3_bind_null(st, at);
    return s->n ? sqlite3_bind_blob64(st, at, s->p, s->n, SQLITE_STATIC)
                : sqlite3_bind_zeroblob(st, at, 0);
}

/* Binds what `types` says: i int64_t, t const char *, d const struct digest *, b const struct
 * str *. Bound memory must live until the statement is reset. */
static enum err_code bind_all(struct catalog *c, enum statement q, struct err *e, const char *types,
                              va_list *args)
{
    int rc = SQLITE_OK;
    for (int i = 0; types[i] && rc == SQLITE_OK; i++)
        rc = bind_one(c->prepared[q], i + 1, types[i], args);
    return rc == SQLITE_OK ? ERR_OK : failed(c, rc, statements[q].what, e);
}

static void done(struct catalog *c, enum statement q)
{
    sqlite3_reset(c->prepared[q]);
    sqlite3_clear_bindings(c->prepared[q]);
}

/* Binds and leaves the statement to step_row. */
static enum err_code query(struct catalog *c, enum statement q, struct err *e, const char *types,
                           ...)
{
    va_list args;
    va_start(args, types);
    enum err_code code = bind_all(c, q, e, types, &args);
    va_end(args);
    return code;
}

/* *row is false after the last one. The caller calls done(). */
static enum err_code step_row(struct catalog *c, enum statement q, bool *row, struct err *e)
{
    int rc = sqlite3_step(c->prepared[q]);
    *row = rc == SQLITE_ROW;
    return *row || rc == SQLITE_DONE ? ERR_OK : failed(c, rc, statements[q].what, e);
}

/* A statement with no row to read, or (id not NULL) one that returns one integer. */
static enum err_code run(struct catalog *c, enum statement q, int64_t *id, struct err *e,
                         const char *types, ...)
{
    va_list args;
    bool row = true;
    va_start(args, types);
    enum err_code code = bind_all(c, q, e, types, &args);
    va_end(args);
    while (!code && row) {
        code = step_row(c, q, &row, e);
        if (!code && row && id)
            *id = sqlite3_column_int64(c->prepared[q], 0);
    }
    done(c, q);
    return code;
}

static const char *copy_text(sqlite3_stmt *st, int column, struct arena *a)
{
    const void *p = sqlite3_column_blob(st, column);
    int n = sqlite3_column_bytes(st, column);
    return p || n == 0 ? arena_strndup(a, p ? p : "", (size_t)n) : NULL;
}

/* False when the column is no digest: the schema's check forbids it. */
static bool read_digest(sqlite3_stmt *st, int column, struct digest *out)
{
    const void *p = sqlite3_column_blob(st, column);
    if (!p || sqlite3_column_bytes(st, column) != (int)sizeof out->b)
        return false;
    memcpy(out->b, p, sizeof out->b);
    return true;
}

static enum err_code bad_row(enum statement q, struct err *e)
{
    return err_set(e, ERR_FORMAT, "the catalog: %s: a row is damaged", statements[q].what);
}

/* ---- open and close -------------------------------------------------------------------------- */

static enum err_code not_ours(const char *db, struct err *e)
{
    return err_set(e, ERR_CONFLICT, "'%s' is not a catalog of Hearth's; nothing was written to it",
                   db);
}

static enum err_code too_new(const char *db, int64_t version, struct err *e)
{
    return err_set(e, ERR_CONFLICT,
                   "'%s' has schema %lld and this program knows up to %d: it was written by a newer "
                   "Hearth; nothing was written to it",
                   db, (long long)version, CATALOG_SCHEMA);
}

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Looks at the header before SQLite may touch anything: 16 bytes of magic, at 60 user_version, at
 * 68 application_id, big-endian (sqlite.org/fileformat2.html, 1.3). */
static enum err_code check_header(const char *db, struct err *e)
{
    uint8_t h[100];
    int fd = open(db, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd >= 0 ? pread(fd, h, sizeof h, 0) : -1;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0)
        return err_errno(e, ERR_IO, error, "reading '%s'", db);
    if (n == 0) /* new */
        return ERR_OK;
    if (n < (ssize_t)sizeof h || memcmp(h, "SQLite format 3", 16) != 0)
        return not_ours(db, e);
    if (big_endian(h + 68) != 0 && big_endian(h + 68) != CATALOG_APPLICATION)
        return not_ours(db, e);
    if (big_endian(h + 60) > CATALOG_SCHEMA)
        return too_new(db, big_endian(h + 60), e);
    return ERR_OK;
}

static enum err_code exec(struct catalog *c, const char *sql, const char *what, struct err *e)
{
    int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? ERR_OK : failed(c, rc, what, e);
}

static enum err_code ask_int(struct catalog *c, const char *sql, int64_t *out, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    if (rc == SQLITE_ROW)
        *out = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    return rc == SQLITE_ROW ? ERR_OK : failed(c, rc, "reading its version", e);
}

/* The version again, as it stands with what is in the WAL. */
static enum err_code check_version(struct catalog *c, const char *db, int64_t *version,
                                   struct err *e)
{
    int64_t application = 0, tables = 0;
    enum err_code code = ask_int(c, "PRAGMA user_version", version, e);
    if (!code)
        code = ask_int(c, "PRAGMA application_id", &application, e);
    if (!code)
        code = ask_int(c, "SELECT count(*) FROM sqlite_schema", &tables, e);
    if (code)
        return code;
    bool fresh = application == 0 && *version == 0 && tables == 0;
    if (!fresh && application != CATALOG_APPLICATION)
        return not_ours(db, e);
    return *version < 0 || *version > CATALOG_SCHEMA ? too_new(db, *version, e) : ERR_OK;
}

static enum err_code check_table(struct catalog *c, const char *table, struct err *e)
{
    char sql[64], found[160] = "";
    sqlite3_stmt *st = NULL;
    snprintf(sql, sizeof sql, "PRAGMA integrity_check(%s)", table);
    int rc = sqlite3_prepare_v2(c->db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    const unsigned char *text = rc == SQLITE_ROW ? sqlite3_column_text(st, 0) : NULL;
    snprintf(found, sizeof found, "%s", text ? (const char *)text : "");
    sqlite3_finalize(st);
    for (char *p = found; (p = strchr(p, '\n'));)
        *p = ' ';
    if (rc != SQLITE_ROW || !text)
        return failed(c, rc == SQLITE_ROW ? SQLITE_NOMEM : rc, "checking it", e);
    return strcmp(found, "ok") == 0 ? ERR_OK : err_set(e, ERR_FORMAT, "%s", found);
}

/* Of a damaged catalog a start would believe that models have no name, and remove their files. All is looked at but
 * the hashes of MiB, which are many and are only ever held against bytes. */
static enum err_code check_tables(struct catalog *c, const char *db, struct err *e)
{
    static const char *const tables[] = { "sqlite_schema", "tags", "models", "layers", "blobs", "files", "provenance", "trash" };
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < sizeof tables / sizeof *tables; i++)
        code = check_table(c, tables[i], e);
    if (code == ERR_FORMAT)
        err_prefix(e, "'%s' is damaged, and nothing was written to it (put back a copy of it, or move it away and import "
                      "again what is in blobs/)", db);
    return code;
}

static enum err_code set_wal(struct catalog *c, struct err *e)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode = WAL", -1, &st, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(st);
    const unsigned char *mode = rc == SQLITE_ROW ? sqlite3_column_text(st, 0) : NULL;
    bool wal = mode && strcmp((const char *)mode, "wal") == 0;
    sqlite3_finalize(st);
    if (rc == SQLITE_ROW && mode && !wal)
        return err_set(e, ERR_UNSUPPORTED, "the catalog: this file system cannot hold a WAL");
    return wal ? ERR_OK : failed(c, rc == SQLITE_ROW ? SQLITE_NOMEM : rc, "turning its WAL on", e);
}

static enum err_code migrate(struct catalog *c, int64_t version, struct err *e)
{
    enum err_code code = ERR_OK;
    for (int64_t v = version; !code && v < CATALOG_SCHEMA; v++) {
        char mark[96];
        snprintf(mark, sizeof mark, "PRAGMA application_id = %d; PRAGMA user_version = %d",
                 CATALOG_APPLICATION, (int)v + 1);
        code = exec(c, "BEGIN IMMEDIATE", "migrating", e);
        if (!code)
            code = exec(c, migrations[v], "migrating", e);
        if (!code)
            code = exec(c, mark, "migrating", e);
        if (!code)
            code = exec(c, "COMMIT", "migrating", e);
    }
    return code; /* an open transaction ends with the connection */
}

static enum err_code prepare_all(struct catalog *c, struct err *e)
{
    for (int q = 0; q < Q_COUNT; q++) {
        int rc = sqlite3_prepare_v3(c->db, statements[q].sql, -1, SQLITE_PREPARE_PERSISTENT,
                                    &c->prepared[q], NULL);
        if (rc != SQLITE_OK)
            return failed(c, rc, statements[q].what, e);
    }
    return ERR_OK;
}

static enum err_code configure_to_look(struct catalog *c, const char *db, struct err *e)
{
    int64_t version = 0;
    sqlite3_busy_timeout(c->db, BUSY_MS);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    enum err_code code = check_version(c, db, &version, e);
    if (!code && version != CATALOG_SCHEMA)
        code = err_set(e, ERR_CONFLICT, "'%s' has schema %lld and is read at %d: start hearthd on it once",
                       db, (long long)version, CATALOG_SCHEMA);
    return code ? code : prepare_all(c, e);
}

static enum err_code configure(struct catalog *c, const char *db, struct err *e)
{
    int64_t version = 0;
    sqlite3_busy_timeout(c->db, BUSY_MS);
    /* until the version is known, not even closing may write */
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    enum err_code code = check_version(c, db, &version, e);
    if (!code && version)
        code = check_tables(c, db, e);
    if (!code)
        code = set_wal(c, e);
    if (!code)
        code = exec(c,
                    "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                    "PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON",
                    "setting it up", e);
    if (!code)
        code = migrate(c, version, e);
    if (!code)
        sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
    return code ? code : prepare_all(c, e);
}

/* leased(digest), for NOBODYS */
static void sql_leased(sqlite3_context *x, int n, sqlite3_value **values)
{
    const struct catalog *c = sqlite3_user_data(x);
    const void *p = n == 1 ? sqlite3_value_blob(values[0]) : NULL;
    struct digest d;
    bool leased = false;
    if (c->leased && p && sqlite3_value_bytes(values[0]) == (int)sizeof d.b) {
        memcpy(d.b, p, sizeof d.b);
        leased = c->leased(c->user, &d);
    }
    sqlite3_result_int(x, leased);
}

void catalog_set_leased(struct catalog *c, bool (*leased)(void *user, const struct digest *d), void *user)
{
    c->leased = leased;
    c->user = user;
}

static enum err_code open_as(const char *db, int access,
                             enum err_code (*set_up)(struct catalog *c, const char *db, struct err *e),
                             struct catalog **out, struct err *e)
{
    enum err_code code = check_header(db, e);
    if (code)
        return code;
    struct catalog *c = mem_zero(1, sizeof *c);
    if (!c)
        return err_no_memory(e, sizeof *c, "the catalog");
    int rc = sqlite3_open_v2(db, &c->db,
                             access | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
                             NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function_v2(c->db, "leased", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, c, sql_leased,
                                        NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        code = failed(c, rc, "opening it", e);
    if (!code)
        code = set_up(c, db, e);
    if (code) {
        catalog_close(c);
        return code;
    }
    *out = c;
    return ERR_OK;
}

enum err_code catalog_open(const char *db, struct catalog **out, struct err *e)
{
    return open_as(db, SQLITE_OPEN_READWRITE, configure, out, e);
}

enum err_code catalog_look(const char *db, struct catalog **out, struct err *e)
{
    return open_as(db, SQLITE_OPEN_READONLY, configure_to_look, out, e);
}

void catalog_close(struct catalog *c)
{
    if (!c)
        return;
    for (int q = 0; q < Q_COUNT; q++)
        sqlite3_finalize(c->prepared[q]);
    sqlite3_close(c->db);
    mem_free(c);
}

/* ---- transactions ---------------------------------------------------------------------------- */

void catalog_rollback(struct catalog *c)
{
    if (!sqlite3_get_autocommit(c->db))
        run(c, Q_ROLLBACK, NULL, NULL, "");
}

enum err_code catalog_begin(struct catalog *c, struct err *e)
{
    catalog_rollback(c); /* one that could not be undone before */
    return run(c, Q_BEGIN, NULL, e, "");
}

enum err_code catalog_commit(struct catalog *c, bool *doubtful, struct err *e)
{
    int rc = sqlite3_step(c->prepared[Q_COMMIT]);
    enum err_code code = rc == SQLITE_DONE ? ERR_OK : failed(c, rc, statements[Q_COMMIT].what, e);
    done(c, Q_COMMIT);
    catalog_rollback(c);
    if (doubtful) /* all but a full disk may have come after the last frame was written */
        *doubtful = code && (rc & 0xff) != SQLITE_FULL;
    return code;
}

/* ---- reading --------------------------------------------------------------------------------- */

enum err_code catalog_find(struct catalog *c, const struct name *n, struct catalog_ref *out,
                           struct err *e)
{
    bool by_digest = n->pinned && !n->tagged, row = false;
    enum statement q = by_digest ? Q_FIND_PINNED : Q_FIND;
    *out = (struct catalog_ref){ 0 };
    enum err_code code =
        by_digest ? query(c, q, e, "tttd", n->model, n->namespace, n->host, &n->digest)
                  : query(c, q, e, "tttt", n->model, n->namespace, n->host, n->tag);
    if (!code)
        code = step_row(c, q, &row, e);
    if (!code && row) {
        out->tag_id = sqlite3_column_int64(c->prepared[q], 0);
        out->model_id = sqlite3_column_int64(c->prepared[q], 1);
        if (!read_digest(c->prepared[q], 2, &out->digest))
            code = bad_row(q, e);
    }
    done(c, q);
    return code;
}

static void copy_part(char *out, size_t size, sqlite3_stmt *st, int column)
{
    const unsigned char *p = sqlite3_column_text(st, column);
    snprintf(out, size, "%s", p ? (const char *)p : "");
}

static bool read_names(sqlite3_stmt *st, struct arena *a, struct store_model *m)
{
    struct name n = { 0 };
    char text[NAME_TEXT_MAX + 1];
    copy_part(n.host, sizeof n.host, st, 1);
    copy_part(n.namespace, sizeof n.namespace, st, 2);
    copy_part(n.model, sizeof n.model, st, 3);
    copy_part(n.tag, sizeof n.tag, st, 4);
    name_short(&n, text);
    m->name = arena_strndup(a, text, strlen(text));
    name_canonical(&n, text);
    m->canonical = arena_strndup(a, text, strlen(text));
    return m->name && m->canonical;
}

static enum err_code read_model(sqlite3_stmt *st, enum statement q, struct arena *a,
                                struct store_model *m, struct err *e)
{
    *m = (struct store_model){ .modified_ns = sqlite3_column_int64(st, 5),
                               .size = (uint64_t)sqlite3_column_int64(st, 7),
                               .by_reference = sqlite3_column_int(st, 17) != 0 };
    m->facts = (struct store_facts){
        .format = copy_text(st, 8, a),
        .family = copy_text(st, 9, a),
        .quantization = copy_text(st, 11, a),
        .capabilities = copy_text(st, 12, a),
        .n_params = (uint64_t)sqlite3_column_int64(st, 13),
        .context_length = (uint32_t)sqlite3_column_int64(st, 14),
        .embedding_length = (uint32_t)sqlite3_column_int64(st, 15),
        .has_weights = sqlite3_column_int(st, 16) != 0,
        .license = copy_text(st, 18, a),
    };
    m->parameter_size = copy_text(st, 10, a);
    m->source = copy_text(st, 19, a);
    m->revision = copy_text(st, 20, a);
    m->origin = copy_text(st, 21, a);
    if (!read_names(st, a, m) || !m->facts.format || !m->facts.family || !m->facts.quantization ||
        !m->facts.capabilities || !m->parameter_size || !m->facts.license || !m->source || !m->revision ||
        !m->origin)
        return err_no_memory(e, 0, "reading a model");
    if (!read_digest(st, 6, &m->digest))
        return bad_row(q, e);
    digest_hex(&m->digest, m->digest_hex);
    return ERR_OK;
}

enum err_code catalog_model(struct catalog *c, int64_t tag_id, bool deep, struct arena *a,
                            struct store_model *m, struct err *e)
{
    sqlite3_stmt *st = c->prepared[Q_MODEL];
    bool row = false;
    enum err_code code = query(c, Q_MODEL, e, "i", tag_id);
    if (!code)
        code = step_row(c, Q_MODEL, &row, e);
    if (!code)
        code = row ? read_model(st, Q_MODEL, a, m, e) : bad_row(Q_MODEL, e);
    if (!code && deep) {
        m->manifest = copy_text(st, 22, a);
        m->config = copy_text(st, 23, a);
        if (!m->manifest || !m->config)
            code = err_no_memory(e, 0, "reading a model");
    }
    done(c, Q_MODEL);
    return code;
}

/* Reads every row of a bound statement into an array in the arena. */
typedef enum err_code read_row(struct catalog *c, struct arena *a, void *row, struct err *e);

static enum err_code collect(struct catalog *c, enum statement q, size_t size, read_row *read,
                             struct arena *a, void **out, size_t *n, struct err *e)
{
    char *rows = NULL;
    size_t cap = 0;
    bool row = true;
    enum err_code code = ERR_OK;
    *out = NULL;
    *n = 0;
    while (!code && row) {
        code = step_row(c, q, &row, e);
        if (code || !row)
            break;
        if (!mem_grow(&rows, &cap, *n + 1, size, SIZE_MAX / size))
            code = err_no_memory(e, (*n + 1) * size, statements[q].what);
        else
            code = read(c, a, rows + *n * size, e);
        *n += !code;
    }
    if (!code && !(*out = arena_alloc(a, *n * size)))
        code = err_no_memory(e, *n * size, statements[q].what);
    if (!code && *n)
        memcpy(*out, rows, *n * size);
    mem_free(rows);
    return code;
}

static enum err_code list_row(struct catalog *c, struct arena *a, void *row, struct err *e)
{
    return read_model(c->prepared[Q_LIST], Q_LIST, a, row, e);
}

enum err_code catalog_list(struct catalog *c, struct arena *a, struct store_model **out, size_t *n,
                           struct err *e)
{
    void *rows = NULL;
    enum err_code code = collect(c, Q_LIST, sizeof **out, list_row, a, &rows, n, e);
    done(c, Q_LIST);
    *out = rows;
    return code;
}

static enum err_code file_row(struct catalog *c, struct arena *a, void *row, struct err *e)
{
    sqlite3_stmt *st = c->prepared[Q_FILES];
    struct catalog_file *f = row;
    *f = (struct catalog_file){ .path = copy_text(st, 0, a),
                                .id = { .inode = (uint64_t)sqlite3_column_int64(st, 1),
                                        .mtime_ns = sqlite3_column_int64(st, 2) },
                                .sound = sqlite3_column_int(st, 3) != 0 };
    return f->path ? ERR_OK : err_no_memory(e, 0, "reading a blob's places");
}

static enum err_code read_files(struct catalog *c, struct arena *a, struct catalog_layer *layer,
                                struct err *e)
{
    void *rows = NULL;
    enum err_code code = query(c, Q_FILES, e, "d", &layer->digest);
    if (!code)
        code = collect(c, Q_FILES, sizeof *layer->files, file_row, a, &rows, &layer->n_files, e);
    done(c, Q_FILES);
    struct catalog_file *files = rows;
    for (size_t i = 0; !code && i < layer->n_files; i++)
        files[i].id.size = layer->size;
    layer->files = files;
    return code;
}

static enum media_kind read_kind(sqlite3_stmt *st, int type, int kind)
{
    const char *name = (const char *)sqlite3_column_text(st, kind);
    const char *media_type = (const char *)sqlite3_column_text(st, type);
    if (name && name[0])
        return media_kind_named(name);
    return media_type ? media_kind_of(media_type, NULL) : MEDIA_UNKNOWN;
}

static enum err_code layer_row(struct catalog *c, struct arena *a, void *row, struct err *e)
{
    sqlite3_stmt *st = c->prepared[Q_LAYERS];
    struct catalog_layer *l = row;
    *l = (struct catalog_layer){ .media_type = copy_text(st, 0, a),
                                 .size = (uint64_t)sqlite3_column_int64(st, 2),
                                 .kind = read_kind(st, 0, 3) };
    if (!l->media_type)
        return err_no_memory(e, 0, "reading a model's layers");
    if (!read_digest(st, 1, &l->digest))
        return bad_row(Q_LAYERS, e);
    return read_files(c, a, l, e);
}

enum err_code catalog_layers(struct catalog *c, int64_t model_id, struct arena *a,
                             struct catalog_layer **out, size_t *n, struct err *e)
{
    void *rows = NULL;
    *n = 0;
    enum err_code code = query(c, Q_LAYERS, e, "i", model_id);
    if (!code)
        code = collect(c, Q_LAYERS, sizeof **out, layer_row, a, &rows, n, e);
    done(c, Q_LAYERS);
    *out = rows;
    return code;
}

enum err_code catalog_text(struct catalog *c, const struct digest *model, enum media_kind kind, size_t nth,
                           struct arena *a, struct str *out, struct err *e)
{
    sqlite3_stmt *st = c->prepared[Q_TEXTS];
    bool row = true;
    *out = (struct str){ 0 };
    enum err_code code = query(c, Q_TEXTS, e, "d", model);
    while (!code && row && !out->p) {
        code = step_row(c, Q_TEXTS, &row, e);
        if (code || !row || read_kind(st, 0, 1) != kind || nth-- > 0)
            continue;
        *out = (struct str){ copy_text(st, 2, a), (size_t)sqlite3_column_bytes(st, 2) };
        if (!out->p)
            code = err_no_memory(e, out->n, "reading a model's text");
    }
    done(c, Q_TEXTS);
    return code;
}

enum err_code catalog_blob(struct catalog *c, const struct digest *d, struct catalog_blob *out,
                           struct err *e)
{
    sqlite3_stmt *st = c->prepared[Q_BLOB];
    *out = (struct catalog_blob){ 0 };
    enum err_code code = query(c, Q_BLOB, e, "d", d);
    if (!code)
        code = step_row(c, Q_BLOB, &out->there, e);
    if (!code && out->there) {
        out->size = (uint64_t)sqlite3_column_int64(st, 0);
        out->is_text = sqlite3_column_int(st, 1) != 0;
    }
    done(c, Q_BLOB);
    return code;
}

enum err_code catalog_places(struct catalog *c, const struct digest *d, uint64_t size, struct arena *a,
                             struct catalog_layer *out, struct err *e)
{
    *out = (struct catalog_layer){ .media_type = "", .digest = *d, .size = size };
    return read_files(c, a, out, e);
}

/* The one column of a blob's row; p NULL when there is no such row. */
static enum err_code blob_bytes(struct catalog *c, enum statement q, const struct digest *d, struct arena *a,
                                struct str *out, struct err *e)
{
    sqlite3_stmt *st = c->prepared[q];
    bool row = false;
    *out = (struct str){ 0 };
    enum err_code code = query(c, q, e, "d", d);
    if (!code)
        code = step_row(c, q, &row, e);
    if (!code && row) {
        *out = (struct str){ copy_text(st, 0, a), (size_t)sqlite3_column_bytes(st, 0) };
        if (!out->p)
            code = err_no_memory(e, out->n, statements[q].what);
    }
    done(c, q);
    return code;
}

enum err_code catalog_body(struct catalog *c, const struct digest *d, struct arena *a, struct str *out,
                           struct err *e)
{
    return blob_bytes(c, Q_BODY, d, a, out, e);
}

enum err_code catalog_chunks(struct catalog *c, const struct digest *d, struct arena *a, struct str *out,
                             struct err *e)
{
    return blob_bytes(c, Q_CHUNKS, d, a, out, e);
}

enum err_code catalog_source(struct catalog *c, const struct digest *d, struct arena *a, struct str *out,
                             struct err *e)
{
    return blob_bytes(c, Q_SOURCE, d, a, out, e);
}

static enum err_code origin_row(struct catalog *c, struct arena *a, void *row, struct err *e)
{
    sqlite3_stmt *st = c->prepared[Q_ORIGINS];
    struct catalog_origin *o = row;
    *o = (struct catalog_origin){ copy_text(st, 0, a), copy_text(st, 1, a), copy_text(st, 2, a) };
    return o->kind && o->source && o->revision ? ERR_OK : err_no_memory(e, 0, statements[Q_ORIGINS].what);
}

enum err_code catalog_origins(struct catalog *c, const struct digest *d, struct arena *a,
                              struct catalog_origin **out, size_t *n, struct err *e)
{
    void *rows = NULL;
    *n = 0;
    enum err_code code = query(c, Q_ORIGINS, e, "d", d);
    if (!code)
        code = collect(c, Q_ORIGINS, sizeof **out, origin_row, a, &rows, n, e);
    done(c, Q_ORIGINS);
    *out = rows;
    return code;
}

enum err_code catalog_lists_file(struct catalog *c, const struct digest *d, bool *out, struct err *e)
{
    int64_t yes = 0;
    enum err_code code = run(c, Q_LISTED, &yes, e, "d", d);
    *out = yes != 0;
    return code;
}

static enum err_code unnamed_row(struct catalog *c, struct arena *a, void *row, struct err *e)
{
    (void)a;
    return read_digest(c->prepared[Q_UNNAMED], 0, row) ? ERR_OK : bad_row(Q_UNNAMED, e);
}

enum err_code catalog_unnamed(struct catalog *c, struct arena *a, struct digest **out, size_t *n,
                              struct err *e)
{
    void *rows = NULL;
    enum err_code code = collect(c, Q_UNNAMED, sizeof **out, unnamed_row, a, &rows, n, e);
    done(c, Q_UNNAMED);
    *out = rows;
    return code;
}

static enum err_code trash_row(struct catalog *c, struct arena *a, void *row, struct err *e)
{
    (void)a;
    struct catalog_trash *t = row;
    t->owned = sqlite3_column_int(c->prepared[Q_TRASH], 1) != 0;
    return read_digest(c->prepared[Q_TRASH], 0, &t->digest) ? ERR_OK : bad_row(Q_TRASH, e);
}

enum err_code catalog_trash(struct catalog *c, struct arena *a, struct catalog_trash **out,
                            size_t *n, struct err *e)
{
    void *rows = NULL;
    enum err_code code = collect(c, Q_TRASH, sizeof **out, trash_row, a, &rows, n, e);
    done(c, Q_TRASH);
    *out = rows;
    return code;
}

enum err_code catalog_has_own_file(struct catalog *c, const struct digest *d, bool *out,
                                   struct err *e)
{
    int64_t yes = 0;
    enum err_code code = run(c, Q_OWN, &yes, e, "d", d);
    *out = yes != 0;
    return code;
}

/* ---- writing --------------------------------------------------------------------------------- */

enum err_code catalog_put_trash(struct catalog *c, const struct digest *d, struct err *e)
{
    return run(c, Q_PUT_TRASH, NULL, e, "d", d);
}

enum err_code catalog_empty_trash(struct catalog *c, struct err *e)
{
    return run(c, Q_EMPTY_TRASH, NULL, e, "");
}

enum err_code catalog_put_blob(struct catalog *c, const struct digest *d, uint64_t size,
                               const struct str *body, const char *source, struct err *e)
{
    struct str from = str_from(source);
    return run(c, Q_PUT_BLOB, NULL, e, "dibib", d, (int64_t)size, body, clock_wall_ns(), &from);
}

enum err_code catalog_put_chunks(struct catalog *c, const struct digest *d, struct str hashes,
                                 struct err *e)
{
    return run(c, Q_PUT_CHUNKS, NULL, e, "db", d, &hashes);
}

enum err_code catalog_put_file(struct catalog *c, const struct digest *d, const char *path,
                               const struct file_id *id, bool sound, struct err *e)
{
    struct str bytes = str_from(path);
    return run(c, Q_PUT_FILE, NULL, e, "dbiii", d, &bytes, (int64_t)id->inode, id->mtime_ns,
               (int64_t)sound);
}

enum err_code catalog_drop_file(struct catalog *c, const struct digest *d, const char *path, struct err *e)
{
    struct str bytes = str_from(path);
    return run(c, Q_DROP_FILE, NULL, e, "db", d, &bytes);
}

static enum err_code put_layers(struct catalog *c, const struct catalog_new_model *m,
                                int64_t model_id, struct err *e)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < m->n_layers; i++)
        code = run(c, Q_PUT_LAYER, NULL, e, "iitdt", model_id, (int64_t)i, m->layers[i].media_type,
                   &m->layers[i].digest, media_kind_name(m->layers[i].kind));
    return code;
}

enum err_code catalog_put_model(struct catalog *c, const struct catalog_new_model *m,
                                int64_t *model_id, struct err *e)
{
    const struct store_facts *f = m->facts;
    struct str source = str_from(m->source);
    enum err_code code =
        run(c, Q_PUT_MODEL, model_id, e, "dbitttttiiiit", &m->digest, &m->manifest, (int64_t)m->size,
            f->format, f->family, m->parameter_size, f->quantization, f->capabilities,
            (int64_t)f->n_params, (int64_t)f->context_length, (int64_t)f->embedding_length,
            (int64_t)f->has_weights, f->license);
    if (!code)
        code = put_layers(c, m, *model_id, e);
    if (!code)
        code = run(c, Q_PUT_SOURCE, NULL, e, "itbti", *model_id, m->kind, &source, m->revision,
                   clock_wall_ns());
    return code;
}

enum err_code catalog_put_tag(struct catalog *c, const struct name *n, int64_t model_id,
                              int64_t *tag_id, struct err *e)
{
    return run(c, Q_PUT_TAG, tag_id, e, "ttttii", n->model, n->namespace, n->host, n->tag, model_id,
               clock_wall_ns());
}

enum err_code catalog_drop_tag(struct catalog *c, int64_t tag_id, struct err *e)
{
    return run(c, Q_DROP_TAG, NULL, e, "i", tag_id);
}

enum err_code catalog_prune(struct catalog *c, struct err *e)
{
    static const enum statement steps[] = { Q_DROP_MODELS, Q_TRASH_FILES, Q_DROP_BLOBS };
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < sizeof steps / sizeof *steps; i++)
        code = run(c, steps[i], NULL, e, "");
    return code;
}
