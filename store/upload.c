#include "store/upload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "store/commit.h"

#define LOOK_NS 100000000 /* how often who waits looks whether its job goes on */

struct upload_entry {
    struct upload_entry *next;
    struct blob_part part;
    struct buf chunks;
    int64_t used_ns;
    bool held;
};

struct uploads {
    struct store *s;
    pthread_mutex_t mutex; /* of the list, and of what its entries say of themselves */
    pthread_cond_t let_go;
    struct upload_entry *first;
    size_t n;
};

struct upload {
    struct uploads *u;
    struct digest digest;
    bool has_size;
    uint64_t size, at;
    int fd;
    struct hasher hasher;
    struct upload_entry *entry;
};

/* ---- the list -------------------------------------------------------------------------------- */

enum err_code uploads_create(struct store *s, struct uploads **out, struct err *e)
{
    *out = mem_zero(1, sizeof **out);
    if (!*out)
        return err_no_memory(e, sizeof **out, "uploads");
    (*out)->s = s;
    pthread_mutex_init(&(*out)->mutex, NULL);
    pthread_cond_init(&(*out)->let_go, NULL);
    return ERR_OK;
}

static void entry_free(struct uploads *u, struct upload_entry *x)
{
    if (!x)
        return;
    blob_discard(&u->s->blobs, &x->part);
    buf_finish(&x->chunks);
    mem_free(x);
}

void uploads_destroy(struct uploads *u)
{
    if (!u)
        return;
    while (u->first) {
        struct upload_entry *x = u->first;
        u->first = x->next;
        entry_free(u, x);
    }
    pthread_cond_destroy(&u->let_go);
    pthread_mutex_destroy(&u->mutex);
    mem_free(u);
}

/* Locked. */
static struct upload_entry *find(const struct uploads *u, const struct digest *d)
{
    struct upload_entry *x = u->first;
    while (x && !digest_eq(&x->part.digest, d))
        x = x->next;
    return x;
}

/* Locked. */
static void unlink_entry(struct uploads *u, struct upload_entry *x)
{
    struct upload_entry **at = &u->first;
    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    u->n--;
}

bool uploads_has(struct uploads *u, const struct digest *d, uint64_t *size)
{
    pthread_mutex_lock(&u->mutex);
    struct upload_entry *x = find(u, d);
    if (x) {
        x->used_ns = clock_ns();
        if (size)
            *size = x->part.size;
    }
    pthread_mutex_unlock(&u->mutex);
    if (x)
        return true;
    bool there = !store_lease(u->s, d, size, NULL);
    if (there)
        store_release(u->s, d);
    return there;
}

void uploads_prune(struct uploads *u, int64_t now_ns)
{
    struct upload_entry *gone = NULL, *next;
    pthread_mutex_lock(&u->mutex);
    for (struct upload_entry *x = u->first; x; x = next) {
        next = x->next;
        if (x->held || now_ns - x->used_ns < (int64_t)UPLOAD_KEEP_S * 1000000000)
            continue;
        unlink_entry(u, x);
        x->next = gone;
        gone = x;
    }
    pthread_mutex_unlock(&u->mutex);
    for (; gone; gone = next) {
        next = gone->next;
        entry_free(u, gone);
    }
}

/* ---- one upload ------------------------------------------------------------------------------ */

static void upload_free(struct upload *x)
{
    if (x->fd >= 0)
        x->u->s->ops->close(x->fd);
    hasher_finish(&x->hasher);
    entry_free(x->u, x->entry);
    mem_free(x);
}

void upload_abort(struct upload *x)
{
    if (x)
        upload_free(x);
}

static enum err_code open_part(struct upload *x, struct err *e)
{
    x->entry = mem_zero(1, sizeof *x->entry);
    if (!x->entry)
        return err_no_memory(e, sizeof *x->entry, "an upload");
    buf_init(&x->entry->chunks, CHUNK_HASHES_MAX);
    enum err_code c = hasher_begin(&x->hasher, &x->entry->chunks, e);
    return c ? c : blob_part_create(&x->u->s->blobs, x->size, &x->entry->part, &x->fd, e);
}

enum err_code upload_begin(struct uploads *u, const struct digest *d, bool has_size, uint64_t size,
                           struct upload **out, struct err *e)
{
    *out = NULL;
    uploads_prune(u, clock_ns());
    if (uploads_has(u, d, NULL))
        return ERR_OK;
    if (size > UPLOAD_MAX_BYTES)
        return err_set(e, ERR_TOO_LARGE, "a blob has at most %" PRIu64 " bytes, not %" PRIu64,
                       UPLOAD_MAX_BYTES, size);
    struct upload *x = mem_zero(1, sizeof *x);
    if (!x)
        return err_no_memory(e, sizeof *x, "an upload");
    *x = (struct upload){ .u = u, .digest = *d, .has_size = has_size, .size = size, .fd = -1 };
    enum err_code c = open_part(x, e);
    if (c)
        upload_free(x);
    else
        *out = x;
    return c;
}

enum err_code upload_write(struct upload *x, const void *p, size_t n, struct err *e)
{
    uint64_t most = x->has_size ? x->size : UPLOAD_MAX_BYTES;
    if (n > most - x->at)
        return err_set(e, x->has_size ? ERR_INVALID : ERR_TOO_LARGE,
                       "the blob has more than the %" PRIu64 " bytes that it may have", most);
    if (!file_write_all(x->u->s->ops, x->fd, p, n, x->at))
        return err_errno(e, ERR_IO, errno, "writing an uploaded blob");
    x->at += n;
    return hasher_add(&x->hasher, p, n, e);
}

static enum err_code seal(struct upload *x, struct err *e)
{
    struct digest found;
    char want[DIGEST_TEXT_SIZE], have[DIGEST_TEXT_SIZE];
    if (x->has_size && x->at != x->size)
        return err_set(e, ERR_INVALID, "the blob has %" PRIu64 " bytes instead of %" PRIu64, x->at, x->size);
    enum err_code c = hasher_end(&x->hasher, &found, e);
    if (c)
        return c;
    digest_text(&x->digest, want);
    digest_text(&found, have);
    if (!digest_eq(&found, &x->digest))
        return err_set(e, ERR_INVALID, "digest mismatch, expected \"%s\", got \"%s\"", want, have);
    return blob_part_seal(&x->u->s->blobs, &x->entry->part, x->fd, &found, x->at, e);
}

/* Of two that sent the same, the second's part goes. */
static enum err_code list_entry(struct upload *x, struct err *e)
{
    struct uploads *u = x->u;
    enum err_code c = ERR_OK;
    pthread_mutex_lock(&u->mutex);
    bool there = find(u, &x->digest) != NULL;
    if (!there && u->n >= UPLOADS_MAX) {
        c = err_set(e, ERR_BUSY, "%d uploaded blobs wait for a model to name them: try again later", UPLOADS_MAX);
    } else if (!there) {
        x->entry->used_ns = clock_ns();
        x->entry->next = u->first;
        u->first = x->entry;
        u->n++;
        x->entry = NULL;
    }
    pthread_mutex_unlock(&u->mutex);
    return c;
}

enum err_code upload_end(struct upload *x, struct err *e)
{
    enum err_code c = seal(x, e);
    if (x->u->s->ops->close(x->fd) < 0 && !c)
        c = err_errno(e, ERR_IO, errno, "writing an uploaded blob");
    x->fd = -1;
    if (!c)
        c = list_entry(x, e);
    upload_free(x);
    return c;
}

/* ---- for a create ---------------------------------------------------------------------------- */

static char *path_of(const struct uploads *u, const struct blob_part *part)
{
    size_t n = strlen(u->s->home) + strlen(part->name) + sizeof "/tmp/";
    char *path = mem_alloc(n);
    if (path)
        snprintf(path, n, "%s/tmp/%s", u->s->home, part->name);
    return path;
}

bool uploads_hold(struct uploads *u, const struct digest *d, const struct store_job *job, struct upload_hold *out)
{
    struct upload_entry *x;
    *out = (struct upload_hold){ 0 };
    pthread_mutex_lock(&u->mutex);
    while ((x = find(u, d)) && x->held && !store_job_cancelled(job))
        clock_wait(&u->let_go, &u->mutex, LOOK_NS);
    if (x && !x->held && (out->path = path_of(u, &x->part))) {
        x->held = true;
        out->part = &x->part;
        out->chunks = buf_str(&x->chunks);
        out->entry = x;
    }
    pthread_mutex_unlock(&u->mutex);
    return out->entry != NULL;
}

void uploads_let_go(struct uploads *u, struct upload_hold *h)
{
    struct upload_entry *x = h->entry;
    bool moved = x && !x->part.name[0];
    mem_free(h->path);
    *h = (struct upload_hold){ 0 };
    if (!x)
        return;
    pthread_mutex_lock(&u->mutex);
    x->held = false;
    x->used_ns = clock_ns();
    if (moved)
        unlink_entry(u, x);
    pthread_cond_broadcast(&u->let_go);
    pthread_mutex_unlock(&u->mutex);
    if (moved)
        entry_free(u, x);
}
