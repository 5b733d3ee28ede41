/* A model made of another one, or of files, with texts: what a Modelfile says.
 *
 * FROM a model: its layers, in their order; FROM files: the files, model shards in order. What is new
 * follows, as Ollama has it: adapters, then template, system, licences, parameters, messages. A text
 * takes the place of an inherited one of its kind, but for licences, which are added, and parameters,
 * which are merged key by key. Nothing of a file is changed, so its digest is kept, but
 * where a writer is given. The config says what
 * the model is: the inherited one, or one of the facts, with `config` over it.
 * The same input gives the same digest. Thread: a store thread. */
#ifndef HEARTH_STORE_CREATE_H
#define HEARTH_STORE_CREATE_H

#include <jansson.h>

#include "store/derive.h"
#include "store/upload.h"

#define CREATE_MAX_TEXTS 1024

struct store_create_file {
    enum media_kind kind;  /* MODEL, PROJECTOR (MODEL that turns out to be one is taken as one), ADAPTER */
    const char *name;      /* its file's, for order and sentences */
    bool has_digest;       /* uploaded, or in the store already; else: */
    struct digest digest;
    int fd;                /* open for reading, the caller's */
    const char *path;      /* absolute */
};
struct store_create_text {
    enum media_kind kind;  /* TEMPLATE, SYSTEM, LICENSE, PARAMS and MESSAGES (JSON, checked by the caller) */
    struct str text;
};
struct store_create {
    const char *name;
    const char *from;      /* a model in the store; NULL: the files are the model */
    const struct store_create_file *files;
    size_t n_files;
    enum store_mode mode;  /* of files with a path */
    const struct store_create_text *texts;
    size_t n_texts;
    const json_t *config;  /* members to be set; NULL */
    const struct derive_writer *writer; /* writes the model's weights anew; NULL */
    const char *family, *quantization; /* instead of what the file says; NULL */
    struct uploads *uploads;
    struct store_job job;  /* told as Ollama's clients expect it, but for "success" */
};

/* ERR_NOT_FOUND: no `from`, or no such blob. ERR_INVALID, ERR_FORMAT, ERR_UNSUPPORTED: what is asked
 * for, or a file. *out (may be NULL): as store_resolve would give it. */
enum err_code store_create(struct store *s, const struct store_create *in, struct store_model **out,
                           struct err *e);

#endif
