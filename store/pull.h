/* A model from a network into the store: resolve, diff, fetch, verify, commit. */
#ifndef HEARTH_STORE_PULL_H
#define HEARTH_STORE_PULL_H

#include "store/job.h"
#include "store/name.h"
#include "store/store.h"

struct store_pull {
    const char *name;           /* anything of name.h's grammar, hf.co/ORG/REPO[:QUANT], https://.../x.gguf */
    const char *as;             /* another name for it here; NULL */
    bool insecure;              /* plain http and unverified TLS to the named registry, or to the
                                   URL's own origin; to no other place */
    uint64_t limit_rate;        /* bytes a second; 0: none */
    struct store_secrets secrets;
    struct store_job job;
};

/* Events in Ollama's order: "pulling manifest", "pulling HEX12"..., "verifying sha256 digest", "writing
 * manifest", ("removing unused layers",) "success". A model that is here already is looked up again and
 * costs one request. *out (may be NULL) as store_resolve would give it.
 * ERR_CONFLICT: offline. ERR_NOT_FOUND, ERR_FORBIDDEN (the place refused, or a rule of transport.h),
 * ERR_FORMAT (its answer), ERR_IO, ERR_TIMEOUT: what is there stays, and a later pull goes on from it. */
enum err_code store_pull(struct store *s, const struct store_pull *in, struct store_model **out,
                         struct err *e);

/* What a pull would do. */
struct store_plan_file {
    const char *name, *kind;    /* file name or digest; media_kind_name */
    uint64_t size;              /* 0: not known */
    uint64_t missing;           /* bytes that a pull would fetch: less what is here or begun */
};
struct store_plan {
    const char *name, *source, *revision, *license;
    struct store_plan_file *files;
    size_t n_files;
    uint64_t size, missing, disk_free;
    bool present;               /* the same model is here under this name */
};
enum err_code store_pull_plan(struct store *s, const struct store_pull *in, struct store_plan **out,
                              struct err *e);
void store_plan_destroy(struct store_plan *p);

/* Whether the place has another model under this name now. in: the name of a model that is here; `as` and
 * `limit_rate` are not looked at. A repository of the hub that has moved on is outdated only where a file that the
 * model is made of is another now. revision: what is there. source (may be NULL): what to pull for it, as it was asked
 * for when it came. ERR_UNSUPPORTED: it was not pulled. */
enum err_code store_outdated(struct store *s, const struct store_pull *in, bool *outdated, char revision[80],
                             char source[SOURCE_TEXT_MAX + 1], struct err *e);

#endif
