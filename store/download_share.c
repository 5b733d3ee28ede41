#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "store/download_priv.h"

#define LOOK_NS 100000000

/* HAS: it was given the bytes. LEFT: the leader went away without giving them. */
enum sharing { WAITS, HAS, LEFT, FAILED };

struct sharer {
    struct sharer *next;
    struct downloaded *out;
    enum sharing state;
};

struct share {
    struct share *next;
    char key[DIGEST_HEX_SIZE];
    uint64_t completed, total;
    const struct downloaded *result; /* the leader's, all of it there; NULL: it is under way */
    struct sharer *waiting;
};

void share_table_init(struct share_table *t)
{
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->changed, NULL);
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
    if (me->state == WAITS) {
        me->next = share->waiting;
        share->waiting = me;
    }
    while (me->state == WAITS) {
        uint64_t completed = share->completed, total = share->total;
        pthread_mutex_unlock(&t->mutex);
        store_job_progress(job, label, id, completed, total);
        pthread_mutex_lock(&t->mutex);
        if (me->state == WAITS && store_job_cancelled(job)) {
            stop_waiting(share, me);
            return true;
        }
        if (me->state == WAITS)
            clock_wait(&t->changed, &t->mutex, LOOK_NS);
    }
    return me->state != LEFT;
}

/* A second name for the same bytes, and the same facts about them. WAITS: the part has just been moved, so the leader
 * is about to let go of it. The leader's own part is not asked for its name: its thread may be emptying it. */
static enum sharing give(struct store *s, const struct share *share, struct downloaded *to)
{
    const struct downloaded *from = share->result;
    char part[sizeof from->part.name];
    int bad;
    snprintf(part, sizeof part, "dl-%s.part", share->key);
    buf_put(&to->chunks, from->chunks.p, from->chunks.n);
    do
        snprintf(to->alias, sizeof to->alias, "part-%" PRIu64, atomic_fetch_add(&s->blobs.next_part, 1));
    while ((bad = s->ops->alias(s->blobs.tmp, part, to->alias)) < 0 && errno == EEXIST);
    if (bad || to->chunks.failed) {
        int error = errno;
        if (!bad)
            s->ops->unlink(s->blobs.tmp, to->alias);
        to->alias[0] = '\0';
        buf_clear(&to->chunks);
        return bad && error == ENOENT ? WAITS : FAILED;
    }
    to->part = (struct blob_part){ .digest = from->part.digest, .size = from->part.size };
    snprintf(to->part.name, sizeof to->part.name, "%s", to->alias);
    memcpy(to->etag, from->etag, sizeof to->etag);
    memcpy(to->repo_commit, from->repo_commit, sizeof to->repo_commit);
    return HAS;
}

enum share_role share_enter(struct store *s, const char *key, const struct digest *id, const char *label,
                            const struct store_job *job, struct downloaded *out)
{
    static const enum share_role roles[] = { [WAITS] = SHARE_CANCELLED, [HAS] = SHARE_HAS, [FAILED] = SHARE_FAILED };
    struct share_table *t = &s->shares;
    struct sharer me = { .state = LEFT };
    bool ended = false;
    pthread_mutex_lock(&t->mutex);
    for (struct share *share; !ended && (share = *find(t, key));) {
        me = (struct sharer){ .out = out, .state = share->result ? give(s, share, out) : WAITS };
        ended = wait_for(t, share, &me, id, label, job);
    }
    struct share *mine = ended ? NULL : mem_zero(1, sizeof *mine);
    if (mine) {
        snprintf(mine->key, sizeof mine->key, "%s", key);
        mine->next = t->first;
        t->first = mine;
    }
    pthread_mutex_unlock(&t->mutex);
    if (me.state == HAS)
        store_job_progress(job, label, id, out->part.size, out->part.size);
    return ended ? roles[me.state] : mine ? SHARE_LEADS : SHARE_NO_MEMORY;
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

void share_done(struct store *s, const char *key, const struct downloaded *result)
{
    struct share_table *t = &s->shares;
    pthread_mutex_lock(&t->mutex);
    struct share *share = *find(t, key);
    share->result = result;
    for (struct sharer **at = &share->waiting, *w; (w = *at);) {
        w->state = give(s, share, w->out);
        if (w->state == WAITS)
            at = &w->next;
        else
            *at = w->next;
    }
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
}

void share_leave(struct store *s, const char *key)
{
    struct share_table *t = &s->shares;
    pthread_mutex_lock(&t->mutex);
    struct share **at = find(t, key), *share = *at;
    *at = share->next;
    for (struct sharer *w = share->waiting; w; w = w->next)
        w->state = LEFT;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    mem_free(share);
}
