#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "runtime/base/log.h"
#include "store/download_priv.h"

#define LOOK_NS 100000000

struct sharer {
    struct sharer *next;
    struct downloaded *out;
    bool has, left; /* it was given the bytes; the leader went without */
};

struct share {
    struct share *next;
    char key[DIGEST_HEX_SIZE];
    uint64_t completed, total;
    struct sharer *waiting;
};

void share_table_init(struct share_table *t)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &clock);
    pthread_condattr_destroy(&clock);
    t->first = NULL;
}

void share_table_finish(struct share_table *t)
{
    pthread_mutex_destroy(&t->mutex);
    pthread_cond_destroy(&t->changed);
}

static struct share **find(struct share_table *t, const char *key)
{
    struct share **at = &t->first;
    while (*at && strcmp((*at)->key, key) != 0)
        at = &(*at)->next;
    return at;
}

static void look_later(struct share_table *t)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&t->changed, &t->mutex, &until);
}

static void stop_waiting(struct share *share, struct sharer *me)
{
    struct sharer **at = &share->waiting;
    while (*at != me)
        at = &(*at)->next;
    *at = me->next;
}

/* Locked at the start and at the end. True: somebody else's download is ours as well, or we were cancelled. */
static bool wait_for(struct share_table *t, struct share *share, struct sharer *me, const struct digest *id,
                     const char *label, const struct store_job *job)
{
    me->next = share->waiting;
    share->waiting = me;
    while (!me->has && !me->left) {
        uint64_t completed = share->completed, total = share->total;
        pthread_mutex_unlock(&t->mutex);
        store_job_progress(job, label, id, completed, total);
        pthread_mutex_lock(&t->mutex);
        if (!me->has && !me->left && store_job_cancelled(job)) {
            stop_waiting(share, me);
            return true;
        }
        if (!me->has && !me->left)
            look_later(t);
    }
    return me->has;
}

enum share_role share_enter(struct store *s, const char *key, const struct digest *id, const char *label,
                            const struct store_job *job, struct downloaded *out)
{
    struct share_table *t = &s->shares;
    struct sharer me = { .out = out };
    bool ended = false;
    pthread_mutex_lock(&t->mutex);
    for (struct share *share; !ended && (share = *find(t, key));) {
        me = (struct sharer){ .out = out };
        ended = wait_for(t, share, &me, id, label, job);
    }
    if (!ended) {
        struct share *mine = mem_zero(1, sizeof *mine); /* NULL: then nobody waits for us */
        if (mine) {
            snprintf(mine->key, sizeof mine->key, "%s", key);
            mine->next = t->first;
            t->first = mine;
        }
    }
    pthread_mutex_unlock(&t->mutex);
    if (me.has)
        store_job_progress(job, label, id, out->part.size, out->part.size);
    return !ended ? SHARE_LEADS : me.has ? SHARE_HAS : SHARE_CANCELLED;
}

void share_progress(struct store *s, const char *key, uint64_t completed, uint64_t total)
{
    struct share_table *t = &s->shares;
    pthread_mutex_lock(&t->mutex);
    struct share *share = *find(t, key);
    if (share) {
        share->completed = completed;
        share->total = total;
    }
    pthread_mutex_unlock(&t->mutex);
}

/* A second name for the same bytes, and the same facts about them. */
static bool give(struct store *s, const struct downloaded *from, struct downloaded *to)
{
    buf_put(&to->chunks, from->chunks.p, from->chunks.n);
    if (to->chunks.failed)
        return false;
    do
        snprintf(to->alias, sizeof to->alias, "part-%" PRIu64, atomic_fetch_add(&s->blobs.next_part, 1));
    while (s->ops->alias(s->blobs.tmp, from->part.name, to->alias) < 0 && errno == EEXIST);
    struct stat st;
    if (s->ops->stat_at(s->blobs.tmp, to->alias, &st) < 0) {
        log_line(LOG_WARN, "msg=\"a download cannot be shared: it is made again\" errno=%d", errno);
        to->alias[0] = '\0';
        buf_clear(&to->chunks);
        return false;
    }
    to->part = from->part;
    snprintf(to->part.name, sizeof to->part.name, "%s", to->alias);
    memcpy(to->etag, from->etag, sizeof to->etag);
    memcpy(to->repo_commit, from->repo_commit, sizeof to->repo_commit);
    return true;
}

void share_leave(struct store *s, const char *key, const struct downloaded *result)
{
    struct share_table *t = &s->shares;
    pthread_mutex_lock(&t->mutex);
    struct share **at = find(t, key), *share = *at;
    if (share) {
        *at = share->next;
        for (struct sharer *w = share->waiting; w; w = w->next) {
            w->has = result && give(s, result, w->out);
            w->left = !w->has;
        }
        pthread_cond_broadcast(&t->changed);
    }
    pthread_mutex_unlock(&t->mutex);
    mem_free(share);
}
