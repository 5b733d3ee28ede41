/* Are the models what they were? And taking away what nothing names.
 *
 * verify.c       goes through the files of models, and notes what it finds
 * verify_hash.c  one file, by the hashes of its MiB, on several threads
 * repair.c       a damaged file made anew: its good MiB, and the bad ones from where it came
 * repair_from.c  the places that it came from: files, registries, the hub, URLs
 * prune.c        what nothing names */
#ifndef HEARTH_STORE_VERIFY_H
#define HEARTH_STORE_VERIFY_H

#include "store/download.h"
#include "store/store_priv.h"

enum verdict {
    VERDICT_SOUND,
    VERDICT_REPAIRED,
    VERDICT_DAMAGED,  /* its bytes, or its length */
    VERDICT_GONE,     /* no file there, or none that can be read */
    VERDICT_CHANGED,  /* somebody wrote to it meanwhile: nothing can be said */
};

/* What was found of one file. Good until the report returns. */
struct store_verdict {
    const char *model;      /* a name that has it */
    const char *path;       /* absolute; of a file of ours: in blobs/ */
    struct digest digest;
    uint64_t size;
    bool by_reference;
    enum verdict verdict;
    const uint64_t *bad;    /* DAMAGED, REPAIRED: which MiB, from 1; none where their hashes were not recorded */
    size_t n_bad;
    uint64_t n_chunks;
    const char *text;       /* a sentence, but for SOUND */
};

struct store_verify {
    const char *name;       /* NULL: every model */
    bool repair;
    unsigned threads;       /* 0: one a core, at most 4 */
    bool insecure;          /* repair: as for a pull, of every place that is asked */
    struct store_secrets secrets; /* repair: as for a pull */
    struct store_job job;   /* events: "verifying 0123456789ab" with bytes */
    void (*report)(void *user, const struct store_verdict *v); /* on the caller's thread; NULL: none */
    void *user;
};
struct store_verified {
    uint64_t files, bytes;  /* looked at */
    uint64_t bad, repaired; /* of the files; bad: still */
};

/* Hashes every file of the model by its MiB (as a whole, and notes those hashes, where none are recorded),
 * and marks what is damaged so that it is not loaded. With `repair` a file that was damaged in blobs/ (or
 * lies by reference, and is damaged) is made anew in blobs/: never written in place, and no file of the
 * user's is touched. ERR_OK when all was looked at, whatever was found. */
enum err_code store_verify(struct store *s, const struct store_verify *in, struct store_verified *out,
                           struct err *e);

/* ---- prune ----------------------------------------------------------------------------------- */

#define PRUNE_OLDER_S 86400

enum prune_kind { PRUNE_BLOB, PRUNE_DOWNLOAD, PRUNE_STRANGER };
struct store_pruned_item {
    const char *name;       /* of the file: "sha256-HEX", "dl-HEX.part" */
    enum prune_kind kind;
    uint64_t size;          /* bytes on the disk */
};
struct store_prune {
    bool dry_run;           /* tells, and removes nothing */
    uint64_t older_s;       /* downloads that did not change for that long; 0: PRUNE_OLDER_S */
    void (*item)(void *user, const struct store_pruned_item *i); /* NULL: none */
    void *user;
};
/* Removes blobs that no model has and nobody uses, and downloads that nobody goes on with. A file in blobs/
 * that the catalog does not list is not the store's to remove: it is told of as a stranger, and stays.
 * *freed: bytes (dry_run: that would be). */
enum err_code store_prune(struct store *s, const struct store_prune *in, uint64_t *freed, struct err *e);

/* ---- between the files of this part ----------------------------------------------------------- */

struct chunk_check {
    const struct file_ops *ops;
    int fd;
    uint64_t size;
    struct str hashes;      /* 32 bytes a MiB */
    unsigned threads;
    const struct store_job *job;
    const char *status;     /* of its events */
    struct digest digest;
    uint8_t *bad;           /* out: one byte a MiB */
};
/* ERR_IO: a read failed (that MiB counts as bad only where it is the medium: EIO). ERR_CANCELLED. */
enum err_code check_chunks(struct chunk_check *c, struct err *e);

/* A file that was verified and is damaged, or none. */
struct repair {
    const struct store_verify *in;
    const struct catalog_layer *layer;
    int fd;                 /* what there is of it; -1: nothing */
    const uint8_t *bad;     /* a byte a MiB; NULL: not known, or it is of another length */
};
enum err_code repair_blob(struct store *s, const struct repair *r, struct err *e);

/* One place that may have its bytes. */
struct repair_place {
    const char *name;       /* a path, or a URL or name without a query */
    int fd;                 /* a file; -1: it is `download` that has it */
    struct transport *transport;
    struct download download;
};
/* Opens one place after the other - files, then where the models that have the blob were pulled from, by
 * the revision that was pulled and else by the name - and calls `use` for each, until one call is ERR_OK
 * or it is no use to go on (ERR_CANCELLED, ERR_NO_MEMORY, ERR_INTERNAL). Else the error is the first
 * place's of the network, or the last file's.
 * The secrets of r->in: the hub's token goes to the hub, name and password to the registry that
 * r->in->name names, and to no other. ERR_UNSUPPORTED: nobody knows where it came from. */
typedef enum err_code repair_use(void *user, const struct repair_place *p, struct err *e);
enum err_code repair_from(struct store *s, const struct repair *r, const char *label, repair_use *use, void *user,
                          struct err *e);

#endif
