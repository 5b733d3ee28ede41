/* What the files of this folder share: the store itself, its lock, and models on their way out.
 *
 *   store.c    open and close; list, copy, remove; the trash
 *   resolve.c  a name -> files that were just checked
 *   commit.c   the change that names a model, and leases
 *   parts.c    names for the parts of a model
 *   import.c   open files -> a named model */
#ifndef HEARTH_STORE_STORE_PRIV_H
#define HEARTH_STORE_STORE_PRIV_H

#include <pthread.h>

#include "runtime/base/mem.h"
#include "store/blob.h"
#include "store/catalog.h"
#include "store/lease.h"
#include "store/name.h"
#include "store/store.h"

/* download_share.c */
struct share;
struct share_table {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct share *first;
};
void share_table_init(struct share_table *t);
void share_table_finish(struct share_table *t);

struct store {
    const struct file_ops *ops;
    char *home;             /* absolute, without links */
    int home_fd, lock_fd;   /* lock_fd: db.lock, flock()ed while open */
    bool looking;           /* store_look: without the lock, nothing is written */
    struct blob_dir blobs;
    struct catalog *catalog;
    /* Guards the catalog, and every change of blobs/: from the rename of a blob to the commit that
     * names it nobody else may commit. Not held while a file is read through. */
    pthread_mutex_t mutex;
    struct share_table shares;  /* downloads that others may wait for */
    struct lease_table *leases; /* outlives the store while a model does */
    struct store_net net;   /* strings are the store's own; NULL or not empty */
    store_inspect *inspect; /* NULL: none was set */
    void *inspect_user;
};

/* store_open with another table of file operations: for tests. */
enum err_code store_open_with(const struct file_ops *ops, const char *home, struct store **out,
                              struct err *e);

/* A model that is handed out, and the memory that it lives in. */
struct model_box {
    struct store_model model; /* first: store_model_destroy gets back from it */
    struct arena arena;
    struct lease_table *leases;
    const struct digest *leased;
    size_t n_leased;
};

/* Parses and looks up; fails when there is no such model, or another than was pinned. Locked. */
enum err_code store_find(struct store *s, const char *text, struct name *name,
                         struct catalog_ref *ref, struct err *e);
/* A name that something is to be given: it may not be pinned. */
enum err_code store_new_name(const char *text, struct name *name, struct err *e);

/* Rows -> box, which leases its files; looks at none. Locked. */
enum err_code model_box_read(struct store *s, const struct catalog_ref *ref, struct model_box **out,
                             struct catalog_layer **layers, size_t *n, struct err *e);
/* Chooses and checks a file for every layer. `locked`: within a change of the caller's, where
 * nothing may be hashed: a file that is not as recorded is then taken as changed. */
enum err_code model_box_settle(struct store *s, struct model_box *box,
                               const struct catalog_layer *layers, size_t n, bool locked,
                               struct err *e);
void model_box_destroy(struct model_box *box); /* NULL is fine */

/* Whether a place of the blob holds its bytes now; may hash. Not locked. */
bool store_blob_is_sound(struct store *s, const struct catalog_layer *places);
/* Where the blob (leased by the caller) can be read: a place that holds its bytes now; may hash. Not locked. */
enum err_code store_blob_path(struct store *s, const struct digest *d, uint64_t size, struct arena *a,
                              const char **out, struct err *e);

/* Whether the file at a place of the blob (path "": in blobs/) is still that one: what was found of it may be noted. Locked. */
bool store_place_is(struct store *s, const struct digest *d, const char *path, const struct file_id *id);

/* What quantising and downloads of unknown length leave of the disk: the catalog must be written too. */
#define STORE_SPARE_BYTES ((uint64_t)16 << 20)

/* catalog_prune, with what is in use left alone. Within a change. Locked. */
enum err_code store_prune_rows(struct store *s, struct err *e);
/* Removes the files that `trash` lists and nobody owns. Failures are logged, and made up for the
 * next time. Locked; no transaction may be open. */
void store_collect(struct store *s, uint64_t *freed);
/* Before a collection, where a commit has failed or a kill came between: downloads among what it would remove
 * go back to tmp/. Locked; no transaction may be open. */
void store_salvage(struct store *s);
/* What frees room may have to write first: where it failed with `code` for want of room, the store's reserve is given
 * back to the disk, and true says that another try may go better. Then, whatever came of it, store_keep_reserve. */
bool store_spend_reserve(struct store *s, enum err_code code);
void store_keep_reserve(struct store *s);
/* Removes what was left alone for a lease that has ended since. Cheap when there is none. Locked; no
 * transaction may be open. */
void store_catch_up(struct store *s);

/* Are the parts of a model (in order) called as GGUF's split convention has it, and beside each other? */
bool store_parts_are_named(const char *const *paths, size_t n);

/* The paths (absolute; of one model, in order) by which a reader finds its parts: they themselves, or names in
 * tmp/ that store_unname_parts takes away again, also after a failure. The owner is any address that lives until then
 * and has no other names. */
enum err_code store_name_parts(struct store *s, const void *owner, const char *const *paths, size_t n, struct arena *a,
                               const char *const **out, struct err *e);
void store_unname_parts(struct store *s, const void *owner, size_t n);

/* What the inspector says of staged files; ERR_UNSUPPORTED when there is none. Not locked. */
enum err_code store_look_into(struct store *s, const char *const *paths, size_t n, struct str template,
                              struct arena *a, struct store_facts *out, struct err *e);
/* Where a sentence begins with the name of the store's file at `path`, it begins with the model's instead: that is what
 * its reader knows. */
void store_say_model(struct err *e, const char *path, const char *model);

#endif
