/* Where a model can be had: one struct for a registry, the hub and a plain URL.
 *
 * registry.c (OCI and Docker v2 with their tokens), hub.c (Hugging Face's API) and url.c each turn a
 * name into a struct remote_model: what it is made of and where each piece lies. pull.c fetches what is
 * missing and commits it, and knows none of the three. A new kind of place is a row in remote.c. */
#ifndef HEARTH_STORE_REMOTE_H
#define HEARTH_STORE_REMOTE_H

#include "runtime/base/mem.h"
#include "store/job.h"
#include "store/media.h"
#include "store/name.h"
#include "store/store_priv.h"
#include "store/transport.h"

struct remote_layer {
    enum media_kind kind;
    const char *media_type;      /* as it will stand in the manifest */
    const char *file_name;       /* the hub's, an annotation's; "" */
    bool has_digest, has_size;
    struct digest digest;
    const uint8_t *git;          /* without a digest: blob_git_name; NULL: not told */
    uint64_t size;
    const char *url;
    const char *mirror;          /* the same bytes at store_net.mirror, asked first; NULL: none */
    const char *etag;            /* ""; what a resume must still see */
};

struct remote_model {
    struct remote *remote;       /* whom to ask for authorization */
    struct name name;            /* what it will be called here */
    const char *kind;            /* provenance: registry, hub, url */
    bool plain;                  /* its layers' http:// URLs (and theirs alone) are wanted by the user */
    const char *source, *revision; /* source: without a query; read again by source_parse */
    struct str manifest;         /* the registry's, byte for byte; empty: the store writes one */
    struct digest digest;        /* of it */
    struct str config;           /* likewise */
    const char *license;         /* a short name, for --dry-run; "" */
    const struct remote_layer *layers; /* config first where there is a manifest; model shards in order */
    size_t n_layers;
};

struct remote_request {
    const char *text;            /* the name or URL as the user wrote it */
    const char *as;              /* another local name; NULL */
    bool insecure;
    const struct store_secrets *secrets;
    const struct store_job *job;
};

/* Whether the names can be names at all: nobody is asked. */
enum err_code remote_check(const struct remote_request *r, struct err *e);
/* A transport as the store's settings have it. ERR_CONFLICT: offline; `what` was not asked for. */
enum err_code remote_online(struct store *s, const char *what, uint64_t limit_rate, struct transport **out,
                            struct err *e);
/* Finds out all about the model; fetches no layer but the manifest and its config.
 * ERR_NOT_FOUND: no such model there (the sentence lists what there is instead, where the place tells). */
enum err_code remote_open(struct store *s, struct transport *t, const struct remote_request *r,
                          struct remote **out, const struct remote_model **model, struct err *e);
void remote_close(struct remote *r); /* NULL is fine */
/* For struct download's authorize. */
enum err_code remote_authorize(void *remote, bool refused, const char **value, struct err *e);
/* Only what the name now stands for: digest or revision, for --outdated. */
enum err_code remote_revision(struct store *s, struct transport *t, const struct remote_request *r,
                              char revision[80], struct err *e);

/* One row: does this place know the name, and how it is asked. */
struct remote_kind {
    const char *name;
    bool (*takes)(struct str text);
    enum err_code (*open)(struct remote *r, struct err *e);
    enum err_code (*authorize)(struct remote *r, bool refused, const char **value, struct err *e);
    enum err_code (*revision)(struct remote *r, char revision[80], struct err *e);
    void (*close)(struct remote *r);
};
extern const struct remote_kind remote_registry, remote_hub, remote_url;

struct remote {
    const struct remote_kind *kind;
    struct store *store;
    struct transport *transport;
    struct remote_request request;
    struct remote_model model;
    struct arena arena;          /* owns all that model points to */
    void *state;                 /* the kind's */
};

#endif
