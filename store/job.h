/* What every long call of the store is given: whom to tell, and when to stop. */
#ifndef HEARTH_STORE_JOB_H
#define HEARTH_STORE_JOB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "store/digest.h"

/* One piece of news. `status` is what Ollama's clients expect ("pulling manifest", "pulling 0123456789ab",
 * "verifying sha256 digest", "writing manifest", "success"); with has_digest, completed of total bytes
 * of that blob are there (never going back within one call of the job). */
struct store_event {
    const char *status;
    bool has_digest;
    struct digest digest;
    uint64_t total, completed;
};

struct store_job {
    /* Called on the job's thread, for one blob at most 10 times a second and once at its end; must not
     * call the store. NULL: nobody listens. */
    void (*event)(void *user, const struct store_event *ev);
    void *user;
    const atomic_bool *cancel; /* set by any thread: the call ends with ERR_CANCELLED within a second;
                                  what is resumable stays. NULL: never */
};

static inline bool store_job_cancelled(const struct store_job *j)
{
    return j && j->cancel && atomic_load_explicit(j->cancel, memory_order_relaxed);
}

void store_job_tell(const struct store_job *j, const char *status); /* an event without a digest */
void store_job_progress(const struct store_job *j, const char *status, const struct digest *d,
                        uint64_t completed, uint64_t total);

/* Whether a further event is due by the rule above; one for each blob, zeroed at its start. */
struct store_pace {
    int64_t last_ns;
};
bool store_pace_due(struct store_pace *p, bool at_its_end);

/* Who may go where. Lives with the store; set once after store_open. Strings are copied. */
struct store_net {
    bool offline;             /* every call that wants a network is ERR_CONFLICT at once */
    const char *mirror;       /* URL that stands in for every registry and hub; never given a credential */
    const char *ca_file;
    const char *hf_endpoint;  /* NULL: https://huggingface.co */
    unsigned connections;     /* 0: 8 */
    const char *realms;       /* "REGISTRY=HOST,...": hosts that make a registry's tokens, beside its own */
    const char *key_hosts;    /* "REGISTRY,...": where the store's key is shown, beside Ollama's */
};

/* Secrets travel with one job; they are in no log, no sentence, and not in the catalog. */
struct store_secrets {
    const char *hf_token;           /* for the hub's own origin alone */
    const char *username, *password;/* for the registry that the name names */
};

#endif
