#include "store/verify.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "runtime/base/clock.h"

#define MAX_THREADS 4
#define TELL_NS 100000000

/* What the threads share: each takes the next MiB until there is none. */
struct team {
    struct chunk_check *c;
    uint64_t n_chunks;
    atomic_uint_least64_t next, done;
    atomic_bool stop;
    atomic_int error;   /* errno of a read that failed for another reason than the medium */
    pthread_mutex_t mutex;
    pthread_cond_t over;
    unsigned running;
};

static size_t chunk_size(const struct chunk_check *c, uint64_t i)
{
    uint64_t left = c->size - i * CHUNK_BYTES;
    return (size_t)(left < CHUNK_BYTES ? left : CHUNK_BYTES);
}

/* False: it could not be read. */
static bool read_chunk(struct team *t, uint64_t i, uint8_t *p, size_t n)
{
    ssize_t have = file_read_all(t->c->ops, t->c->fd, p, n, i * CHUNK_BYTES);
    if (have < 0 && errno != EIO)
        atomic_store(&t->error, errno);
    return have == (ssize_t)n;
}

static void hash_chunks(struct team *t, uint8_t *p)
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    if (!sha)
        atomic_store(&t->error, ENOMEM);
    for (uint64_t i; sha && !atomic_load(&t->stop) && (i = atomic_fetch_add(&t->next, 1)) < t->n_chunks;) {
        uint8_t d[32];
        size_t n = chunk_size(t->c, i);
        bool right = read_chunk(t, i, p, n) && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) &&
                     EVP_DigestUpdate(sha, p, n) && EVP_DigestFinal_ex(sha, d, NULL) &&
                     memcmp(d, t->c->hashes.p + 32 * i, 32) == 0;
        t->c->bad[i] = !right;
        atomic_fetch_add(&t->done, n);
    }
    EVP_MD_CTX_free(sha);
}

static void *work(void *user)
{
    struct team *t = user;
    uint8_t *p = mem_alloc((size_t)CHUNK_BYTES);
    if (p)
        hash_chunks(t, p);
    else
        atomic_store(&t->error, ENOMEM);
    mem_free(p);
    pthread_mutex_lock(&t->mutex);
    if (--t->running == 0)
        pthread_cond_signal(&t->over);
    pthread_mutex_unlock(&t->mutex);
    return NULL;
}

/* The caller's thread tells how far they are, and passes on that they shall stop. */
static void attend(struct team *t)
{
    pthread_mutex_lock(&t->mutex);
    while (t->running) {
        clock_wait(&t->over, &t->mutex, TELL_NS);
        pthread_mutex_unlock(&t->mutex);
        if (store_job_cancelled(t->c->job) || atomic_load(&t->error))
            atomic_store(&t->stop, true);
        store_job_progress(t->c->job, t->c->status, &t->c->digest, atomic_load(&t->done), t->c->size);
        pthread_mutex_lock(&t->mutex);
    }
    pthread_mutex_unlock(&t->mutex);
}

static unsigned team_size(const struct chunk_check *c, uint64_t n_chunks)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = c->threads ? c->threads : cores > 0 ? (unsigned)cores : 1;
    n = n < MAX_THREADS ? n : MAX_THREADS;
    return n < n_chunks ? n : (unsigned)n_chunks;
}

static void run_team(struct team *t, unsigned n)
{
    pthread_t threads[MAX_THREADS];
    unsigned made = 0;
    t->running = n;
    while (made < n && pthread_create(&threads[made], NULL, work, t) == 0)
        made++;
    pthread_mutex_lock(&t->mutex);
    t->running -= n - made;
    pthread_mutex_unlock(&t->mutex);
    if (made == 0) { /* then this one works */
        t->running = 1;
        work(t);
    }
    attend(t);
    for (unsigned i = 0; i < made; i++)
        pthread_join(threads[i], NULL);
    store_job_progress(t->c->job, t->c->status, &t->c->digest, atomic_load(&t->done), t->c->size); /* its end */
}

enum err_code check_chunks(struct chunk_check *c, struct err *e)
{
    struct team t = { .c = c, .n_chunks = (c->size + CHUNK_BYTES - 1) / CHUNK_BYTES };
    pthread_mutex_init(&t.mutex, NULL);
    pthread_cond_init(&t.over, NULL);
    if (t.n_chunks)
        run_team(&t, team_size(c, t.n_chunks));
    pthread_cond_destroy(&t.over);
    pthread_mutex_destroy(&t.mutex);
    int error = atomic_load(&t.error);
    if (error == ENOMEM)
        return err_no_memory(e, (size_t)CHUNK_BYTES, "verifying a file");
    if (error)
        return err_errno(e, ERR_IO, error, "reading a file to verify it");
    return store_job_cancelled(c->job) ? err_set(e, ERR_CANCELLED, "verifying was cancelled") : ERR_OK;
}
