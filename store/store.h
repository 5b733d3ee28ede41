/* The store: bytes at rest, and names for them. Turns a name into checked file paths and facts.
 *
 * A map, in the order of a call:
 *   store_setup     once in a process: SQLite's memory goes through base/mem
 *   store_open      makes or opens a home; one process at a time
 *   store_look      opens a home to list and resolve, beside the process that has it open
 *   store_import    open files -> a named model, copied in or by reference
 *   store_list      every model, newest first
 *   store_resolve   name -> file paths that were just checked, and facts
 *   store_copy, store_remove
 *
 * Under the home:
 *   db db-wal db-shm  the catalog (SQLite): catalog.h, schema.sql
 *   db.lock           held while a process has the store open; holds its pid
 *   db.reserve        1 MiB put aside, so that a full disk can be opened and removed from
 *   blobs/            sha256-HEX, 0440, named by what they hold: blob.h
 *   tmp/              what is under way, and names for loading; emptied by store_open and store_close,
 *                     but for downloads that can go on
 * Files taken by reference stay where they are and are never written, moved or removed.
 *
 * Promises. A call that returned ERR_OK is on the disk: it outlives a kill and a power cut. A call
 * that failed, or was killed, changed nothing that a later call can see. What a listed model is
 * made of is whole: its files were hashed after their last write, before the name appeared. A
 * remove frees exactly the files that nothing names any more.
 *
 * Threads: any thread may call any function but store_open and store_close, and calls may overlap;
 * an import hashes and copies without holding up the others. Every call blocks on the disk: call
 * from a store thread, never from an event loop. Callbacks run on the calling thread and must not
 * call the store.
 *
 * Errors, beyond those named: ERR_IO (disk full, I/O error), ERR_NO_MEMORY, ERR_FORMAT (the
 * catalog is damaged), ERR_BUSY (another program holds the catalog locked). Sentences name the
 * model and, for a file of the user's, its path. `e` may be NULL. */
#ifndef HEARTH_STORE_STORE_H
#define HEARTH_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "store/digest.h"
#include "store/job.h"
#include "store/media.h"

struct arena;
struct store;

/* Once, before the first thread and the first other use of SQLite. ERR_INTERNAL when too late. */
enum err_code store_setup(struct err *e);

/* Makes what is missing (directories 0750, catalog 0640, whatever the umask), migrates an older
 * catalog, and collects what a killed process left behind. Cost: milliseconds.
 * ERR_CONFLICT: another process has it open (the sentence names its pid; a daemon exits 3), or the
 * catalog is newer than this program, or not one of ours: then nothing was written to it.
 * ERR_UNSUPPORTED: a network file system, where SQLite's WAL is not safe. */
enum err_code store_open(const char *home, struct store **out, struct err *e);
/* The same for store_list and store_resolve alone, whoever has the store open: nothing is made, migrated,
 * collected or noted (SQLite may make its db-wal and db-shm). ERR_NOT_FOUND: no store there.
 * ERR_CONFLICT: a catalog of another version than this program's. */
enum err_code store_look(const char *home, struct store **out, struct err *e);
void store_close(struct store *s); /* after all calls have returned; NULL is fine */

/* Once, after store_open and before the first call that wants a network. Without it: online, and
 * nothing set. */
enum err_code store_set_net(struct store *s, const struct store_net *net, struct err *e);

/* ---- what the store knows of a model --------------------------------------------------------- */

/* Facts about a model file, read by whoever can (the store parses no model file).
 * Strings may be NULL for ""; they are copied. */
struct store_facts {
    const char *format;           /* "gguf" */
    const char *family;           /* "llama" */
    const char *quantization;     /* "Q4_1" */
    const char *capabilities;     /* comma-separated: "completion,tools" */
    const char *license;          /* a short name: "apache-2.0" */
    uint64_t n_params;
    uint32_t context_length, embedding_length; /* 0: not known */
    bool has_weights;             /* false: vocabulary only */
};

/* Reads the facts of the model whose files these are (absolute paths; shards in order, the first
 * decides), as it will run: by its own template, where that is not empty, in the place of its file's.
 * Strings go into the arena. ERR_FORMAT, ERR_UNSUPPORTED: it is no model that can be
 * run, and the sentence says why. Called on the thread of a call of the store's, and must not call it. */
typedef enum err_code store_inspect(void *user, const char *const *paths, size_t n, struct str template,
                                    struct arena *a, struct store_facts *out, struct err *e);
/* Once, after store_open. Without one, nothing that must be looked into can be taken in. */
void store_set_inspector(struct store *s, store_inspect *fn, void *user);

struct store_file {
    const char *path;       /* absolute */
    const char *media_type; /* application/vnd.ollama.image.model, ... */
    enum media_kind kind;   /* what it is, where the media type does not tell */
    struct digest digest;
    uint64_t size;
    bool by_reference;      /* the user's file, not ours */
};

struct store_model {
    const char *name;           /* "smollm2:135m": short form, as stored, always with a tag */
    const char *canonical;      /* "registry.ollama.ai/library/smollm2:135m" */
    struct digest digest;       /* of the manifest */
    char digest_hex[DIGEST_HEX_SIZE];
    uint64_t size;              /* bytes of all layers */
    int64_t modified_ns;        /* since 1970 */
    struct store_facts facts;   /* no string is NULL */
    const char *parameter_size; /* "134.5M" */
    bool by_reference;          /* at least one file is the user's */
    const char *source;         /* where it came from: a path, or a URL without a query */
    const char *revision;       /* the hub's commit, the registry's digest; "" */
    const char *origin;         /* how it came: import, reference, adopt, registry, hub, url, create, bundle */

    /* From store_resolve only; NULL and 0 in a list. */
    const char *manifest;       /* the JSON whose digest this is */
    const char *config;         /* the JSON it names as its config */
    const struct store_file *files; /* in layer order: shards in theirs */
    size_t n_files;
    const char *path;           /* of the first model file: what model_load is given. The shards of
                                   a split model stand beside it under the names that GGUF's split
                                   convention expects (-00001-of-00003.gguf) */
};

/* ---- calls ----------------------------------------------------------------------------------- */

/* `name` is anything of name.h's grammar; case does not matter; a digest pins (a different one
 * under that tag is ERR_CONFLICT; without a tag, any tag with it will do).
 * Every file is looked at: same size, inode and mtime as when it was last hashed, else it is
 * hashed again (seconds for a large file) and either still right, or refused.
 * ERR_INVALID: not a name. ERR_NOT_FOUND: no such model, or a file of it is gone. ERR_CONFLICT: a
 * file has changed. The sentence says what to do.
 * The caller owns *out; until it is destroyed its files stay, whatever is removed. */
enum err_code store_resolve(struct store *s, const char *name, struct store_model **out,
                            struct err *e);
void store_model_destroy(struct store_model *m); /* NULL is fine; touches no disk: any thread may */

/* Whether there is a model of this name, which may be in need of a file: ERR_OK; ERR_NOT_FOUND: there is none. Other errors
 * as store_resolve's; looks at no file. */
enum err_code store_known(struct store *s, const char *name, struct err *e);

struct store_list {
    const struct store_model *models; /* newest first */
    size_t n;
};
/* Looks at no file. 1,000 models: a few milliseconds. */
enum err_code store_list(struct store *s, struct store_list **out, struct err *e);
/* Those of which all words of the filter are true (filter.h says which words there are); "": all. */
enum err_code store_list_matching(struct store *s, const char *filter, struct store_list **out,
                                  struct err *e);
void store_list_destroy(struct store_list *l); /* NULL is fine */

/* A second name for the same model; takes the place of what `to` named. ERR_NOT_FOUND: no `from`. */
enum err_code store_copy(struct store *s, const char *from, const char *to, struct err *e);

/* Takes the name away, and with its last name the model and the files that nothing else names; a
 * file that is in use (a store_model of it lives, a call works on it) goes when that ends.
 * *freed (may be NULL): bytes of files removed from blobs/. ERR_NOT_FOUND: no such model. */
enum err_code store_remove(struct store *s, const char *name, uint64_t *freed, struct err *e);

enum store_mode {
    STORE_COPY,      /* into blobs/: shares extents where the file system can (reflink), else copies */
    STORE_REFERENCE, /* stays where it is; the path must be absolute and lead to the open file */
};
struct store_import_file {
    int fd;                 /* open for reading, a regular file; stays the caller's; its offset is
                               not used. Whoever opened it checked that the client may read it */
    const char *path;       /* where it is (reference), or what to call it in sentences (copy) */
    const char *media_type; /* NULL: application/vnd.ollama.image.model */
};
struct store_import {
    const char *name;
    const struct store_import_file *files; /* shards in order; 1..STORE_MAX_FILES */
    size_t n_files;
    enum store_mode mode;
    struct store_facts facts;
    /* Called at least once a file and every 8 MiB, with bytes done of all files; false cancels
     * (ERR_CANCELLED). May be NULL. */
    bool (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
};
#define STORE_MAX_FILES 1024

/* Hashes (and copies) the files, then makes the name point at them, in the place of what it named.
 * The model's digest is that of a manifest in Ollama's format made from the files and the facts:
 * the same input gives the same digest, by copy and by reference.
 * *out (may be NULL): as store_resolve would give it.
 * ERR_INVALID: not a name, not a regular file, a path that is not the open file. ERR_CONFLICT: a
 * file changed while it was read. */
enum err_code store_import(struct store *s, const struct store_import *in,
                           struct store_model **out, struct err *e);

#endif
