#include "store/lease.h"

#include <stdint.h>

#include "runtime/base/mem.h"

struct lease_table *lease_create(void)
{
    struct lease_table *t = mem_zero(1, sizeof *t);
    if (t)
        pthread_mutex_init(&t->mutex, NULL);
    return t;
}

static void destroy(struct lease_table *t)
{
    pthread_mutex_destroy(&t->mutex);
    mem_free(t->rows);
    mem_free(t);
}

void lease_close(struct lease_table *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->mutex);
    t->closed = true;
    bool last = t->n == 0;
    pthread_mutex_unlock(&t->mutex);
    if (last)
        destroy(t);
}

static struct lease *find(struct lease_table *t, const struct digest *d)
{
    for (size_t i = 0; i < t->n; i++)
        if (digest_eq(&t->rows[i].digest, d))
            return &t->rows[i];
    return NULL;
}

bool lease_take(struct lease_table *t, const struct digest *d)
{
    pthread_mutex_lock(&t->mutex);
    struct lease *l = find(t, d);
    if (!l && mem_grow(&t->rows, &t->cap, t->n + 1, sizeof *t->rows, SIZE_MAX / sizeof *t->rows)) {
        l = &t->rows[t->n++];
        *l = (struct lease){ .digest = *d };
    }
    if (l)
        l->count++;
    pthread_mutex_unlock(&t->mutex);
    return l != NULL;
}

void lease_put(struct lease_table *t, const struct digest *d)
{
    pthread_mutex_lock(&t->mutex);
    struct lease *l = find(t, d);
    if (l && --l->count == 0) {
        *l = t->rows[--t->n];
        t->ripe = t->ripe || t->wanted;
    }
    bool last = t->closed && t->n == 0;
    pthread_mutex_unlock(&t->mutex);
    if (last)
        destroy(t);
}

bool lease_is_held(struct lease_table *t, const struct digest *d)
{
    pthread_mutex_lock(&t->mutex);
    bool held = find(t, d) != NULL;
    pthread_mutex_unlock(&t->mutex);
    return held;
}

void lease_begin_prune(struct lease_table *t)
{
    pthread_mutex_lock(&t->mutex);
    t->wanted = t->ripe = false;
    pthread_mutex_unlock(&t->mutex);
}

bool lease_keeps(struct lease_table *t, const struct digest *d)
{
    pthread_mutex_lock(&t->mutex);
    bool held = find(t, d) != NULL;
    t->wanted = t->wanted || held;
    pthread_mutex_unlock(&t->mutex);
    return held;
}

bool lease_ripe(struct lease_table *t)
{
    pthread_mutex_lock(&t->mutex);
    bool ripe = t->ripe;
    pthread_mutex_unlock(&t->mutex);
    return ripe;
}
