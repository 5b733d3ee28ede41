/* A model from the store to a registry: what is not there yet, then the manifest, byte for byte. */
#ifndef HEARTH_STORE_PUSH_H
#define HEARTH_STORE_PUSH_H

#include "store/job.h"
#include "store/store.h"

struct store_push {
    const char *name;             /* the model here */
    const char *to;               /* what it is called there; NULL: `name`, which then names a registry */
    bool insecure;                /* plain http and unverified TLS to that registry */
    uint64_t limit_rate;          /* bytes a second; 0: none */
    struct store_secrets secrets; /* username and password: of that registry */
    struct store_job job;
};

/* Events in Ollama's order: "retrieving manifest", "pushing HEX12"..., "pushing manifest", "success".
 * ERR_CONFLICT: offline. ERR_NOT_FOUND: no such model here. ERR_FORBIDDEN: the registry refused. The rest
 * as store_pull. A push that failed can be repeated: what is there is not sent again. */
enum err_code store_push(struct store *s, const struct store_push *in, struct err *e);

#endif
