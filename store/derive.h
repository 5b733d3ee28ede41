/* A model made from another one: its weights are written anew by somebody who knows how, and all
 * else that it has (template, system prompt, parameters, licences, messages, projector) stays.
 *
 * The bytes go into a part of the store's, hashed as they come; a kill or an error leaves nothing. */
#ifndef HEARTH_STORE_DERIVE_H
#define HEARTH_STORE_DERIVE_H

#include "store/blob.h"
#include "store/job.h"
#include "store/store.h"

struct derive_sink {
    enum err_code (*write)(void *user, const void *bytes, size_t n, struct err *e);
    void *user;
};

/* Who writes. Thread: that of the call. */
struct derive_writer {
    /* Looks at the old file (the first, of shards): *bytes that will come, and a sentence for the
     * events, which lives as long as the writer. */
    enum err_code (*plan)(void *user, const char *path, uint64_t *bytes, const char **status, struct err *e);
    /* Writes exactly so many. Called after plan, and not more than once. */
    enum err_code (*write)(void *user, const struct derive_sink *sink, struct err *e);
    void *user;
};

/* The part alone, for who makes a model of several pieces (create): planned, room checked (ERR_IO with both
 * numbers), written, hashed and sealed. `chunks`: as hasher.h has them, buf_init'ed by the caller. On
 * failure there is no part. */
enum err_code derive_part(struct store *s, const char *path, const struct derive_writer *w,
                          const struct store_job *job, struct blob_part *part, struct buf *chunks,
                          struct err *e);

struct store_derive {
    const char *from;     /* a model of the store; NULL: from_path */
    const char *from_path;/* a file: whoever asks may read it */
    const char *to;       /* the new model's name */
    const struct derive_writer *writer;
    struct store_job job;
};
/* Events: the writer's sentence with how far it is, "verifying the new file", "writing manifest".
 * *out (may be NULL): as store_resolve would give it. Errors: those of store_resolve and the writer's;
 * ERR_IO: no room. */
enum err_code store_derive(struct store *s, const struct store_derive *in, struct store_model **out,
                           struct err *e);

#endif
