/* What the files of this folder share: the store itself, its lock, and models on their way out.
 *
 *   store.c    open and close; list, copy, remove; the trash
 *   resolve.c  a name -> files that were just checked
 *   import.c   open files -> a named model */
#ifndef HEARTH_STORE_STORE_PRIV_H
#define HEARTH_STORE_STORE_PRIV_H

#include <pthread.h>

#include "runtime/base/mem.h"
#include "store/blob.h"
#include "store/catalog.h"
#include "store/name.h"
#include "store/store.h"

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
};

/* store_open with another table of file operations: for tests. */
enum err_code store_open_with(const struct file_ops *ops, const char *home, struct store **out,
                              struct err *e);

/* A model that is handed out, and the memory that it lives in. */
struct model_box {
    struct store_model model; /* first: store_model_destroy gets back from it */
    struct arena arena;
};

/* Parses and looks up; fails when there is no such model, or another than was pinned. Locked. */
enum err_code store_find(struct store *s, const char *text, struct name *name,
                         struct catalog_ref *ref, struct err *e);
/* A name that something is to be given: it may not be pinned. */
enum err_code store_new_name(const char *text, struct name *name, struct err *e);

/* Rows -> box, without looking at any file. Locked. */
enum err_code model_box_read(struct store *s, const struct catalog_ref *ref, struct model_box **out,
                             struct catalog_layer **layers, size_t *n, struct err *e);
/* Chooses and checks a file for every layer. `locked`: within a change of the caller's, where
 * nothing may be hashed: a file that is not as recorded is then taken as changed. */
enum err_code model_box_settle(struct store *s, struct model_box *box,
                               const struct catalog_layer *layers, size_t n, bool locked,
                               struct err *e);
void model_box_destroy(struct model_box *box); /* NULL is fine */

/* Removes the files that `trash` lists and nobody owns. Failures are logged, and made up for the
 * next time. Locked; no transaction may be open. */
void store_collect(struct store *s, uint64_t *freed);

#endif
