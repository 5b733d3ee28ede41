/* The one way a model gets into the store: import, pull, create, a bundle and adopt all end here.
 *
 * store_commit announces, publishes and names in the order of blob.h, under the store's lock; a kill
 * anywhere leaves the model wholly there or wholly not. */
#ifndef HEARTH_STORE_COMMIT_H
#define HEARTH_STORE_COMMIT_H

#include "store/media.h"
#include "store/store_priv.h"

/* Where a layer's bytes are at the moment of the commit. */
enum commit_where {
    COMMIT_PART,   /* in tmp/, hashed and synced (blob_part): is moved to blobs/ */
    COMMIT_FILE,   /* a file of the user's, hashed: stays where it is */
    COMMIT_TEXT,   /* in memory: goes into the catalog */
    COMMIT_THERE,  /* in the store already; the caller holds a lease on it */
};

struct commit_layer {
    const char *media_type;
    enum media_kind kind;     /* UNKNOWN: as the media type tells */
    struct digest digest;
    uint64_t size;
    enum commit_where where;
    struct blob_part *part;   /* PART; emptied when it was moved */
    const char *path;         /* FILE */
    int fd;                   /* FILE: open, to tell a file of ours from one of the user's */
    struct file_id id;        /* FILE */
    struct str text;          /* TEXT */
    struct str chunks;        /* PART, FILE: SHA-256 of each CHUNK_BYTES, one after the other; may be empty */
    const char *source;       /* where the bytes came from: a path or URL without a query; NULL: the model's */
};

struct commit {
    const struct name *name;
    struct str manifest;            /* byte for byte: its SHA-256 is the model's digest */
    struct digest digest;
    struct commit_layer *layers;    /* the config first */
    size_t n_layers;
    const struct store_facts *facts;/* no NULLs */
    const char *kind;               /* provenance: import, reference, adopt, registry, hub, url, create, bundle */
    const char *source, *revision;  /* revision: the hub's commit, the registry's digest; NULL: "" */
    bool only_new;                  /* a name that stands for another model is ERR_CONFLICT */
};

/* NULLs become "", and what has no place in a catalog is refused: over-long or broken text. For
 * whoever makes a struct commit, beforehand. */
enum err_code store_facts_check(struct store_facts *f, struct err *e);

/* Texts are hashed once more, and so is the manifest: ERR_CONFLICT when a digest is not theirs.
 * ERR_CONFLICT too when a layer that is THERE is not.
 * *box (may be NULL): as store_resolve would give it, owned by the caller. */
enum err_code store_commit(struct store *s, const struct commit *c, struct model_box **box,
                           struct err *e);

/* ---- leases: bytes that are in use or under way, which prune and rm leave alone ---------------- */

/* The blob is in the store, sound as far as its file tells, and stays until store_release; else ERR_CONFLICT.
 * Leases are counted, and end with the process. A store_model from store_resolve holds its own.
 * Thread: any. */
enum err_code store_lease(struct store *s, const struct digest *d, uint64_t *size, struct err *e);
void store_release(struct store *s, const struct digest *d);
/* The same without looking, for what is on its way: while a download's KEY is held, store_prune
 * leaves its two files in tmp/. False: no memory. Ended by store_release. */
bool store_hold(struct store *s, const struct digest *d);

/* The text of a layer that the catalog keeps (NUL-terminated in `a`; empty str when there is none).
 * nth: of several with one kind (licences). */
enum err_code store_layer_text(struct store *s, const struct store_model *m, enum media_kind kind,
                               size_t nth, struct arena *a, struct str *out, struct err *e);

#endif
