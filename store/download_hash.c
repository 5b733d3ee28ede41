#include <errno.h>

#include "runtime/base/clock.h"
#include "store/download_priv.h"

#define READ_BYTES ((size_t)512 * 1024)
#define STEP ((uint64_t)1024 * 1024)           /* not woken for less */
#define FLUSH_EVERY ((uint64_t)8 * 1024 * 1024) /* then the disk is told to begin */
#define LOOK_NS 100000000

/* Waits until there is enough to read; how much there is. False: stop, or the end was reached. */
static bool next_bytes(struct hash_job *h, uint64_t at, uint64_t *ready)
{
    pthread_mutex_lock(&h->mutex);
    while (!h->stop && !h->end && h->ready < at + STEP)
        pthread_cond_wait(&h->changed, &h->mutex);
    *ready = h->ready;
    bool more = !h->stop && at < h->ready;
    pthread_mutex_unlock(&h->mutex);
    return more;
}

static enum err_code hash_bytes(struct hash_job *h, struct hasher *sha, uint8_t *room, uint64_t at,
                                uint64_t end, struct err *e)
{
    size_t n = end - at < READ_BYTES ? (size_t)(end - at) : READ_BYTES;
    ssize_t got = file_read_all(h->ops, h->fd, room, n, at);
    if (got < 0)
        return err_errno(e, ERR_IO, errno, "reading what was downloaded");
    if ((size_t)got < n)
        return err_set(e, ERR_IO, "reading what was downloaded: the file is shorter than was written");
    return hasher_add(sha, room, n, e);
}

static enum err_code hash_all(struct hash_job *h, struct hasher *sha, uint8_t *room, struct err *e)
{
    uint64_t at = 0, flushed = 0, ready;
    enum err_code code = ERR_OK;
    while (!code && next_bytes(h, at, &ready)) {
        for (; !code && at < ready && !h->stop; at += READ_BYTES < ready - at ? READ_BYTES : ready - at)
            code = hash_bytes(h, sha, room, at, ready, e);
        if (at - flushed >= FLUSH_EVERY) { /* best effort: the sync at the end is what counts */
            h->ops->flush(h->fd, flushed, at - flushed);
            flushed = at;
        }
    }
    return code;
}

static void *hash_thread(void *user)
{
    struct hash_job *h = user;
    struct hasher sha = { 0 };
    uint8_t *room = mem_alloc(READ_BYTES);
    struct err e = { 0 };
    enum err_code code = room ? ERR_OK : err_no_memory(&e, READ_BYTES, "hashing a download");
    if (!code)
        code = hasher_begin(&sha, &h->chunks, &e);
    if (!code)
        code = hash_all(h, &sha, room, &e);
    if (!code)
        code = hasher_end(&sha, &h->digest, &e);
    hasher_finish(&sha);
    mem_free(room);
    pthread_mutex_lock(&h->mutex);
    h->running = false;
    h->err = e;
    pthread_cond_signal(&h->changed);
    pthread_mutex_unlock(&h->mutex);
    return NULL;
}

enum err_code hash_begin(struct hash_job *h, const struct file_ops *ops, int fd, struct err *e)
{
    *h = (struct hash_job){ .ops = ops, .fd = fd, .running = true };
    buf_init(&h->chunks, CHUNK_HASHES_MAX);
    pthread_mutex_init(&h->mutex, NULL);
    pthread_cond_init(&h->changed, NULL);
    int bad = pthread_create(&h->thread, NULL, hash_thread, h);
    if (!bad)
        return ERR_OK;
    pthread_mutex_destroy(&h->mutex);
    pthread_cond_destroy(&h->changed);
    *h = (struct hash_job){ 0 };
    return err_errno(e, ERR_NO_MEMORY, bad, "starting a thread to hash a download");
}

void hash_ready(struct hash_job *h, uint64_t bytes)
{
    pthread_mutex_lock(&h->mutex);
    if (bytes >= h->ready + STEP) {
        h->ready = bytes;
        pthread_cond_signal(&h->changed);
    }
    pthread_mutex_unlock(&h->mutex);
}

enum err_code hash_end(struct hash_job *h, uint64_t size, const atomic_bool *cancel, struct err *e)
{
    bool cancelled = false;
    pthread_mutex_lock(&h->mutex);
    h->ready = size;
    h->end = true;
    pthread_cond_signal(&h->changed);
    while (h->running && !cancelled) {
        clock_wait(&h->changed, &h->mutex, LOOK_NS);
        cancelled = cancel && atomic_load_explicit(cancel, memory_order_relaxed);
    }
    struct err err = h->err;
    pthread_mutex_unlock(&h->mutex);
    if (cancelled)
        return err_set(e, ERR_CANCELLED, "cancelled");
    if (err.code && e)
        *e = err;
    return err.code;
}

void hash_finish(struct hash_job *h)
{
    if (!h->ops)
        return;
    pthread_mutex_lock(&h->mutex);
    h->stop = true;
    pthread_cond_signal(&h->changed);
    pthread_mutex_unlock(&h->mutex);
    pthread_join(h->thread, NULL);
    pthread_mutex_destroy(&h->mutex);
    pthread_cond_destroy(&h->changed);
    buf_finish(&h->chunks);
    *h = (struct hash_job){ 0 };
}
