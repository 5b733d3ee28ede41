/* Models in the caches of other programs: found, and taken in place.
 *
 * Nothing there is ever written, moved, renamed or removed, and no time stamp changes (files are read with
 * O_NOATIME, where that is allowed). What is taken is hashed first, compared with what the cache says of it
 * where it says something, and then referred to: the bytes stay where they are.
 *
 *   finder       where                                            a model there
 *   ollama       manifests/HOST/NAMESPACE/MODEL/TAG, blobs/        manifest, texts and all; same digest
 *   huggingface  models--ORG--REPO/snapshots/COMMIT/FILE           hf.co/ORG/REPO:FILE; blobs named by SHA-256
 *   lm-studio    PUBLISHER/REPO/FILE.gguf                          FILE
 *   llama.cpp    FILE.gguf, FILE.gguf.etag or .json beside         FILE; compared with the etag
 *   directory    any tree of *.gguf                               FILE
 * Shards are one model; an mmproj in a model's folder goes with it (llama.cpp: in front of the same name).
 *
 * Caps: ADOPT_MAX_ENTRIES directory entries, ADOPT_MAX_FOUND models, a depth of ADOPT_MAX_DEPTH; a directory
 * is looked into once, however many links lead to it. What cannot be read is a note, never an error.
 * Thread: a store thread. Paths are the asker's: who calls has made sure that it may read them. */
#ifndef HEARTH_STORE_ADOPT_H
#define HEARTH_STORE_ADOPT_H

#include "store/job.h"
#include "store/media.h"
#include "store/store.h"

#define ADOPT_MAX_ENTRIES 100000
#define ADOPT_MAX_FOUND 10000
#define ADOPT_MAX_NOTES 1000
#define ADOPT_MAX_DEPTH 6

struct adopt_root {
    const char *finder; /* a name of the table above */
    const char *path;   /* absolute; one that is not there is passed over */
};
size_t adopt_n_finders(void);
const char *adopt_finder_name(size_t i);

struct adopt_file {
    const char *path;       /* absolute */
    const char *media_type;
    enum media_kind kind;
    uint64_t size;
    bool has_digest;        /* what the cache says */
    struct digest digest;
};

struct adopt_found {
    const char *name;       /* what it will be called here: short form */
    const char *finder;
    const char *path;       /* where it is, for people: a manifest, or the first file */
    const struct adopt_file *files; /* layers in order; of a manifest's its texts too, and its config last */
    size_t n_files;
    struct str manifest;    /* Ollama's, byte for byte; empty: one is written */
    const char *revision;   /* the hub's commit; "" */
    uint64_t size;
    const char *family, *quantization; /* "" where the file cannot be looked into */
    const char *problem;    /* why it cannot be taken; NULL */
    bool here;              /* there is a model of this name in the store */
};

struct adopt_note {
    const char *path, *why;
};

struct adopt_list {
    struct adopt_found *found; /* by root, then by path */
    size_t n_found;
    struct adopt_note *notes;
    size_t n_notes;
};
/* ERR_INVALID: no such finder, or a path that is not absolute. ERR_CANCELLED. */
enum err_code adopt_find(struct store *s, const struct adopt_root *roots, size_t n,
                         const struct store_job *job, struct adopt_list **out, struct err *e);
void adopt_list_destroy(struct adopt_list *l); /* NULL is fine */

/* Checks and takes one. Events: "checking NAME" with how far it is, "writing manifest".
 * ERR_CONFLICT: a file is not what its cache says it is, or changed, or another model has the name.
 * *out (may be NULL): as store_resolve would give it. */
enum err_code store_adopt(struct store *s, const struct adopt_found *f, const struct store_job *job,
                          struct store_model **out, struct err *e);

#endif
