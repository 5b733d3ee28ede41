/* Brings models into memory and lets them go: acts on what residency.h decides.
 *
 *   loader_place ⇒ (open the device, estimate, make room, load) ⇒ place.ready: it is in memory
 *   loader_leave: a request is done with it; its keep-alive runs from the last one
 *
 * Places are served first come first served; one model loads at a time. A place that wants a
 * longer context than the loaded model has waits until nobody uses it, and then it is loaded
 * anew. Thread: loop. */
#ifndef HEARTH_DAEMON_LOADER_H
#define HEARTH_DAEMON_LOADER_H

#include "daemon/daemon.h"
#include "daemon/residency.h"
#include "daemon/words_cache.h"

struct resident { /* a model in memory, or on its way in or out */
    struct resident *next;
    struct resident_fact fact;
    char *path, *name, *digest, *quantization, *parameter_size;
    struct file_identity identity;
    uint32_t n_ctx, n_seq;
    struct engine_model *model;  /* NULL while it is loading or unloading */
    struct model_info info;
    struct device_info device;
    bool leaving;                /* is being unloaded, or will be */
    bool lost;                   /* its device is gone */
    /* loader.c's */
    struct loader *loader;
    struct engine_load load;
    struct engine_unload unload;
};

struct place {
    /* the caller's; strings must stay until `ready` */
    const char *path, *name, *digest;
    const char *quantization, *parameter_size; /* for lists: "Q4_K_M", "8.0B" */
    struct file_identity identity;
    uint32_t n_ctx;          /* wanted; 0: any */
    uint32_t n_ctx_train;    /* the model's own limit; 0: unknown */
    void (*ready)(struct place *p);
    /* results: the resident, held for the caller, or NULL and the error */
    struct resident *resident;
    struct err err;
    /* loader.c's */
    struct place *next;
    struct estimate_job *estimate;
    struct resident *loading;
    bool queued;
};

enum err_code loader_create(struct daemon *d, struct loader **out, struct err *e);
void loader_close(struct loader *l);   /* closes its handle of the loop */
void loader_destroy(struct loader *l); /* after the engine's thread has ended */
/* `ready` may be called before it returns. */
void loader_place(struct loader *l, struct place *p);
void loader_withdraw(struct loader *l, struct place *p); /* before `ready`: it is not called then */
/* keep: replaces the model's keep-alive when has_keep. */
void loader_leave(struct loader *l, struct resident *r, bool has_keep, int64_t keep_ns);
/* Unloads the file's model as soon as nobody uses it; nothing when it is not in memory. */
void loader_drop(struct loader *l, const char *path);
void loader_device_lost(struct loader *l);
const struct resident *loader_first(const struct loader *l); /* follow ->next */
/* Bytes of the device's memory that models may take. */
uint64_t loader_budget(const struct device_info *device);
/* Sequences that the models in memory can run together; what a load would give while none is. */
uint32_t loader_capacity(const struct loader *l);

#endif
