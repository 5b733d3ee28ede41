/* The catalog: what is in the store, in SQLite.
 *
 * WAL, synchronous=FULL (a commit that returned is on the disk), foreign keys on. The schema and
 * what each table is for: schema.sql. All SQL stands in one table: catalog_sql.h.
 *
 * Thread: one at a time (the store's lock). Changes stand between catalog_begin and
 * catalog_commit; catalog_rollback is always safe to call. Everything that is read is copied into
 * the caller's arena. */
#ifndef HEARTH_STORE_CATALOG_H
#define HEARTH_STORE_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "store/file.h"
#include "store/manifest.h"
#include "store/name.h"
#include "store/store.h"

#define CATALOG_SCHEMA 2
#define CATALOG_APPLICATION 0x48525448 /* "HRTH" in the file's header */

struct catalog;

/* db: the file, made beforehand (empty is fine) with the mode it is to have. Runs the migrations.
 * ERR_CONFLICT: a newer schema, or not a catalog; the file and its WAL are then as before. */
enum err_code catalog_open(const char *db, struct catalog **out, struct err *e);
/* To read alone, whoever else reads and writes. ERR_CONFLICT: another schema, or not a catalog. */
enum err_code catalog_look(const char *db, struct catalog **out, struct err *e);
void catalog_close(struct catalog *c); /* NULL is fine */
/* Who says of a blob without a model that it is in use: catalog_prune then leaves it. Called within
 * catalog_prune, on its thread. */
void catalog_set_leased(struct catalog *c, bool (*leased)(void *user, const struct digest *d), void *user);

enum err_code catalog_begin(struct catalog *c, struct err *e);
/* On failure rolled back; *doubtful (may be NULL) when the disk may hold the commit all the same:
 * then nothing that it names may be removed before a later commit has succeeded. */
enum err_code catalog_commit(struct catalog *c, bool *doubtful, struct err *e);
void catalog_rollback(struct catalog *c);

/* ---- reading --------------------------------------------------------------------------------- */

struct catalog_ref {
    int64_t tag_id, model_id; /* 0: there is no such name */
    struct digest digest;
};
/* A pinned name without a tag finds the newest tag with that digest. */
enum err_code catalog_find(struct catalog *c, const struct name *n, struct catalog_ref *out,
                           struct err *e);

/* Fills all of *m that a list has; with `deep`, manifest and config as well. */
enum err_code catalog_model(struct catalog *c, int64_t tag_id, bool deep, struct arena *a,
                            struct store_model *m, struct err *e);
enum err_code catalog_list(struct catalog *c, struct arena *a, struct store_model **out, size_t *n,
                           struct err *e);

struct catalog_file {
    const char *path; /* "": in blobs/ */
    struct file_id id;
    bool sound;
};
struct catalog_layer {
    const char *media_type;
    struct digest digest;
    uint64_t size;
    enum media_kind kind;
    const struct catalog_file *files; /* the one in blobs/ first */
    size_t n_files;
};
/* The layers that are files: not the config. */
enum err_code catalog_layers(struct catalog *c, int64_t model_id, struct arena *a,
                             struct catalog_layer **out, size_t *n, struct err *e);
/* The places of one blob, as a layer without a media type. */
enum err_code catalog_places(struct catalog *c, const struct digest *d, uint64_t size, struct arena *a,
                             struct catalog_layer *out, struct err *e);
struct catalog_blob {
    bool there, is_text; /* text: its bytes are in the catalog */
    uint64_t size;
};
enum err_code catalog_blob(struct catalog *c, const struct digest *d, struct catalog_blob *out,
                           struct err *e);
/* The nth text of that kind which the model has; *out is empty (p NULL) when there is none. */
enum err_code catalog_text(struct catalog *c, const struct digest *model, enum media_kind kind, size_t nth,
                           struct arena *a, struct str *out, struct err *e);
/* One text by its digest; p NULL: it is not here. */
enum err_code catalog_body(struct catalog *c, const struct digest *d, struct arena *a, struct str *out,
                           struct err *e);
/* The SHA-256 of each MiB, one after the other; p NULL: not recorded. */
enum err_code catalog_chunks(struct catalog *c, const struct digest *d, struct arena *a, struct str *out,
                             struct err *e);
/* Where its bytes came from last: p NULL or "" when that is not known. */
enum err_code catalog_source(struct catalog *c, const struct digest *d, struct arena *a, struct str *out,
                             struct err *e);
struct catalog_origin {
    const char *kind, *source, *revision;
};
/* Where the models that have it came from, the latest first; 16 at most. */
enum err_code catalog_origins(struct catalog *c, const struct digest *d, struct arena *a,
                              struct catalog_origin **out, size_t *n, struct err *e);
/* Whether blobs/ has a file of it by right: it is a blob's, or to be collected. */
enum err_code catalog_lists_file(struct catalog *c, const struct digest *d, bool *out, struct err *e);
/* Those whose files catalog_prune and the collection after it would remove. */
enum err_code catalog_unnamed(struct catalog *c, struct arena *a, struct digest **out, size_t *n,
                              struct err *e);
struct catalog_trash {
    struct digest digest;
    bool owned; /* blobs/ is to keep its file after all */
};
enum err_code catalog_trash(struct catalog *c, struct arena *a, struct catalog_trash **out,
                            size_t *n, struct err *e);

/* ---- writing --------------------------------------------------------------------------------- */

enum err_code catalog_put_trash(struct catalog *c, const struct digest *d, struct err *e);
enum err_code catalog_empty_trash(struct catalog *c, struct err *e);

/* Adds a blob, or confirms one. body NULL: its bytes are in files. source "": not known. */
enum err_code catalog_put_blob(struct catalog *c, const struct digest *d, uint64_t size,
                               const struct str *body, const char *source, struct err *e);
enum err_code catalog_put_chunks(struct catalog *c, const struct digest *d, struct str hashes,
                                 struct err *e);
/* Adds a place of a blob's bytes, or what is now known of it. */
enum err_code catalog_put_file(struct catalog *c, const struct digest *d, const char *path,
                               const struct file_id *id, bool sound, struct err *e);
/* Forgets a file of the user's. */
enum err_code catalog_drop_file(struct catalog *c, const struct digest *d, const char *path, struct err *e);
enum err_code catalog_has_own_file(struct catalog *c, const struct digest *d, bool *out,
                                   struct err *e);

struct catalog_new_model {
    struct digest digest;
    struct str manifest;
    const struct store_facts *facts;
    const char *parameter_size;
    uint64_t size;
    const struct manifest_layer *layers; /* the config first */
    size_t n_layers;
    const char *kind, *source, *revision; /* provenance */
};
/* Adds the model, or renews the facts of one with the same digest. Its blobs are there already. */
enum err_code catalog_put_model(struct catalog *c, const struct catalog_new_model *m,
                                int64_t *model_id, struct err *e);
/* Points a name at a model. One that exists keeps its case. */
enum err_code catalog_put_tag(struct catalog *c, const struct name *n, int64_t model_id,
                              int64_t *tag_id, struct err *e);
enum err_code catalog_drop_tag(struct catalog *c, int64_t tag_id, struct err *e);
/* Removes models without a tag and blobs that no model has and nobody uses, and puts the own files of
 * these in `trash`. */
enum err_code catalog_prune(struct catalog *c, struct err *e);

#endif
