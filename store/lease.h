/* Which blobs are in use: counted, in memory, gone with the process. Thread: any; never blocks on a
 * disk. What the counts mean: commit.h. */
#ifndef HEARTH_STORE_LEASE_H
#define HEARTH_STORE_LEASE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "store/digest.h"

struct lease {
    struct digest digest;
    size_t count;
};
struct lease_table {
    pthread_mutex_t mutex;
    struct lease *rows;
    size_t n, cap;
    bool wanted; /* a blob was left alone for its lease since the last lease_begin_prune */
    bool ripe;   /* and a last lease has ended since */
    bool closed; /* the store is gone; the table goes with the last lease */
};

struct lease_table *lease_create(void); /* NULL: no memory */
void lease_close(struct lease_table *t); /* the store's last word; NULL is fine */
bool lease_take(struct lease_table *t, const struct digest *d); /* false: no memory */
void lease_put(struct lease_table *t, const struct digest *d);  /* one that is not there is fine */
bool lease_is_held(struct lease_table *t, const struct digest *d);

/* A prune asks lease_keeps of each blob that it would remove; lease_ripe says when another is worth
 * its while. */
void lease_begin_prune(struct lease_table *t);
bool lease_keeps(struct lease_table *t, const struct digest *d);
bool lease_ripe(struct lease_table *t);

#endif
