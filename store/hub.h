/* Hugging Face's hub, less its requests: what its API says of a repository, and which of its files
 * make up the model that a name asks for. hub.c asks; hub_api.c reads; hub_choose.c chooses.
 *
 * Every string here came from outside and was checked by hub_api.c: valid UTF-8, relative, without
 * control bytes, empty pieces, `.` or `..`. None becomes a path of this machine.
 * Thread: any. The arena owns all strings and arrays. */
#ifndef HEARTH_STORE_HUB_H
#define HEARTH_STORE_HUB_H

#include "runtime/base/mem.h"
#include "runtime/base/str.h"
#include "store/digest.h"
#include "store/name.h"

#define HUB_REPLY_MAX ((size_t)4 << 20) /* bytes of one reply of the API */
#define HUB_REPLY_VALUES 100000         /* values in it */
#define HUB_MAX_FILES 10000             /* entries of a repository, folders too */
#define HUB_MAX_PAGES 50
#define HUB_PATH_MAX 1024
#define HUB_FILE_MAX ((uint64_t)1 << 42) /* bytes of one file */
#define HUB_REVISION_MAX 200
#define HUB_LABEL_MAX 32

/* What a name asks of the hub: hf.co/ORG/REPO[:WANT][@REVISION], or a link to a file as its pages show
 * it: https://huggingface.co/ORG/REPO/blob/REVISION/FILE (or resolve/, or raw/). */
struct hub_ask {
    struct name name;    /* hf.co, organisation, repository; the tag is WANT, or latest */
    struct str want;     /* a quantisation or a file's name; empty: the default */
    struct str revision; /* a branch, tag or commit; empty: the main branch */
    bool exact;          /* `want` is a whole path in the repository */
};
bool hub_takes(struct str text);
/* Views of `text`, or of the arena. ERR_INVALID. */
enum err_code hub_ask_parse(struct str text, struct arena *a, struct hub_ask *out, struct err *e);

struct hub_file {
    const char *path;       /* in the repository, with its folders */
    uint64_t size;
    bool has_sha256, has_blob;
    struct digest sha256;   /* of a file in LFS or Xet: all that are large */
    uint8_t blob[20];       /* of any other: git's SHA-1 of "blob SIZE\0" and the bytes */
};
struct hub_repo {
    char commit[65];        /* 40 or 64 hex digits */
    const char *license;    /* a short name ("apache-2.0"); "" */
    bool gated;
    struct hub_file *files; /* in no order */
    size_t n, cap;
    size_t entries;         /* seen, folders too */
};

/* Read one reply into *r. ERR_FORMAT: the reply is not what the hub's API gives. */
enum err_code hub_read_info(struct str json, struct arena *a, struct hub_repo *r, struct err *e);
enum err_code hub_read_tree(struct str json, struct arena *a, struct hub_repo *r, struct err *e);
bool hub_blob_is(const struct hub_file *f, struct str bytes); /* false: other bytes, or no memory */

/* Indexes into files. */
struct hub_choice {
    const size_t *models;   /* shards in order */
    size_t n_models;
    size_t projector, template, system, params, license; /* HUB_NONE */
};
#define HUB_NONE SIZE_MAX

/* The quantisation that a file's path tells ("Q4_K_M", "UD-Q4_K_XL", "BF16"), in upper case; "". */
void hub_label(struct str path, char out[HUB_LABEL_MAX]);

/* Cuts "-00002-of-00005" off the end; false: it is not there. */
bool hub_cut_shard(struct str *stem, unsigned *part, unsigned *total);

/* Chooses, in this order:
 *   with `want`  the file of that name, any case, with or without .gguf (a shard stands for its set);
 *                the sets whose label it is; those whose label it is behind UD-; those in whose path it
 *                stands as a whole word (next to no letter, digit or '_')
 *   without      the only set there is, or the first of the table of defaults (Q4_K_M leads)
 * Of sets with one file name, the one that is not split, then the one in fewer folders. Beside the
 * model: a projector (mmproj), and at the root `template`, `system`, `params` and a licence's text.
 * ERR_NOT_FOUND: none, or more than one; the sentence lists what there is. ERR_FORMAT: a set
 * lacks shards. */
enum err_code hub_choose(const struct hub_repo *r, const struct hub_ask *ask, struct arena *a,
                         struct hub_choice *out, struct err *e);

#endif
