#include "store/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "store/commit.h"

#define RUN_MAX 64 /* MiB that are asked for at once: then they are checked */

/* A blob on its way to be made anew. */
struct mending {
    struct store *s;
    const struct repair *r;
    struct blob_part part;
    int fd;              /* of the part */
    char label[32];
    struct arena arena;
    struct str hashes;   /* 32 bytes a MiB; empty: not recorded */
    uint8_t *todo;       /* a byte a MiB: not there yet */
    uint64_t n, fetched, wanted; /* MiB in all, bytes that came, bytes that have to */
    uint8_t *chunk;
    struct buf chunks;   /* as they were found in the end */
    struct downloaded got; /* a blob of which nothing was there: instead of part, todo and chunks */
    const char *from;    /* the place */
};

static uint64_t chunk_at(uint64_t chunk)
{
    return chunk * CHUNK_BYTES;
}

static uint64_t run_end(const struct mending *m, uint64_t end)
{
    return end * CHUNK_BYTES < m->r->layer->size ? end * CHUNK_BYTES : m->r->layer->size;
}

/* ---- what is bad ----------------------------------------------------------------------------- */

static enum err_code read_hashes(struct mending *m, struct err *e)
{
    pthread_mutex_lock(&m->s->mutex);
    enum err_code code = catalog_chunks(m->s->catalog, &m->r->layer->digest, &m->arena, &m->hashes, e);
    pthread_mutex_unlock(&m->s->mutex);
    if (!code && (!m->hashes.p || m->hashes.n != 32 * m->n))
        m->hashes = (struct str){ 0 };
    return code;
}

/* A file of another length was not looked into: what of it is as it was need not come again. */
static enum err_code look_into_it(struct mending *m, struct err *e)
{
    struct chunk_check c = { .ops = m->s->ops, .fd = m->r->fd, .size = m->r->layer->size, .hashes = m->hashes,
                             .threads = m->r->in->threads, .job = &m->r->in->job, .status = m->label,
                             .digest = m->r->layer->digest, .bad = m->todo };
    enum err_code code = check_chunks(&c, e);
    if (code == ERR_IO) { /* then all of it comes */
        memset(m->todo, 1, (size_t)m->n);
        code = ERR_OK;
    }
    return code;
}

static enum err_code plan(struct mending *m, struct err *e)
{
    m->n = (m->r->layer->size + CHUNK_BYTES - 1) / CHUNK_BYTES;
    m->chunk = mem_alloc((size_t)CHUNK_BYTES);
    m->todo = mem_alloc((size_t)m->n + 1);
    if (!m->chunk || !m->todo)
        return err_no_memory(e, (size_t)CHUNK_BYTES, "repairing a file");
    memset(m->todo, 1, (size_t)m->n);
    enum err_code code = read_hashes(m, e);
    if (!code && m->r->bad)
        memcpy(m->todo, m->r->bad, (size_t)m->n);
    else if (!code && m->r->fd >= 0 && m->hashes.n)
        code = look_into_it(m, e);
    for (uint64_t i = 0; i < m->n; i++)
        m->wanted += m->todo[i] ? run_end(m, i + 1) - chunk_at(i) : 0;
    return code;
}

/* ---- the part -------------------------------------------------------------------------------- */

static enum err_code read_chunk(struct mending *m, int from, uint64_t chunk, size_t *n, struct err *e)
{
    uint64_t at = chunk_at(chunk);
    *n = (size_t)(run_end(m, chunk + 1) - at);
    ssize_t got = file_read_all(m->s->ops, from, m->chunk, *n, at);
    if (got != (ssize_t)*n)
        return err_errno(e, ERR_IO, got < 0 ? errno : EIO, "reading MiB %" PRIu64, chunk + 1);
    return ERR_OK;
}

static enum err_code copy_chunk(struct mending *m, int from, uint64_t chunk, struct err *e)
{
    size_t n;
    enum err_code code = read_chunk(m, from, chunk, &n, e);
    if (!code && !file_write_all(m->s->ops, m->fd, m->chunk, n, chunk_at(chunk)))
        code = err_errno(e, ERR_IO, errno, "writing MiB %" PRIu64, chunk + 1);
    return code;
}

static enum err_code cancelled(const struct mending *m, struct err *e)
{
    return store_job_cancelled(&m->r->in->job) ? err_set(e, ERR_CANCELLED, "repairing was cancelled") : ERR_OK;
}

static enum err_code copy_good(struct mending *m, struct err *e)
{
    enum err_code code = ERR_OK;
    if (m->r->fd >= 0 && m->r->bad && m->s->ops->reflink(m->fd, m->r->fd) == 0)
        return ERR_OK; /* of the same length, and one write turns the bad ones into ours */
    for (uint64_t i = 0; !code && i < m->n; i++) {
        code = cancelled(m, e);
        if (!code && !m->todo[i])
            code = copy_chunk(m, m->r->fd, i, e);
    }
    return code;
}

/* ---- one place ------------------------------------------------------------------------------- */

static enum err_code other_file(const struct mending *m, struct err *e)
{
    return err_set(e, ERR_CONFLICT, "what is at '%.300s' is another file now", m->from);
}

/* As they are in the part now; where no hash is recorded, the whole's will tell. */
static enum err_code check_run(struct mending *m, uint64_t first, uint64_t end, struct err *e)
{
    bool right = true;
    for (uint64_t i = first; i < end; i++) {
        uint8_t d[32];
        size_t n;
        enum err_code code = m->hashes.n ? read_chunk(m, m->fd, i, &n, e) : ERR_OK;
        if (code)
            return code;
        if (m->hashes.n && !EVP_Digest(m->chunk, n, d, NULL, EVP_sha256(), NULL))
            return err_no_memory(e, n, "repairing a file");
        if (m->hashes.n && memcmp(d, m->hashes.p + 32 * i, sizeof d) == 0)
            m->todo[i] = 0;
        else if (m->hashes.n)
            right = false;
    }
    return right ? ERR_OK : other_file(m, e);
}

static enum err_code fetch_run(struct mending *m, const struct repair_place *p, uint64_t first, uint64_t end,
                               struct err *e)
{
    enum err_code code = ERR_OK;
    uint64_t from = chunk_at(first), to = run_end(m, end);
    if (p->fd < 0)
        code = download_range(p->transport, &p->download, from, to - 1, m->s->ops, m->fd, &m->r->in->job, e);
    for (uint64_t i = first; p->fd >= 0 && !code && i < end; i++)
        code = copy_chunk(m, p->fd, i, e);
    if (!code)
        code = check_run(m, first, end, e);
    m->fetched += code ? 0 : to - from;
    if (!code)
        store_job_progress(&m->r->in->job, m->label, &m->r->layer->digest, m->fetched, m->wanted);
    return code;
}

/* Hashed as it now is in the file: what was good, and what came, together. */
static enum err_code check_whole(struct mending *m, struct err *e)
{
    struct blob_source from = { .fd = m->fd, .path = "the repaired file" };
    struct blob_meter meter = { 0 };
    struct digest d;
    struct file_id id;
    buf_clear(&m->chunks);
    enum err_code code = blob_hash(m->s->ops, &from, &meter, &d, &m->chunks, &id, e);
    return code || digest_eq(&d, &m->r->layer->digest) ? code : other_file(m, e);
}

/* The bad MiB that no earlier place had, run by run. */
static enum err_code fetch_bad(void *user, const struct repair_place *p, struct err *e)
{
    struct mending *m = user;
    enum err_code code = ERR_OK;
    m->from = p->name;
    for (uint64_t i = 0, end; !code && i < m->n; i = end) {
        end = i + 1;
        if (!m->todo[i])
            continue;
        while (end < m->n && m->todo[end] && (end - i < RUN_MAX || !m->hashes.n))
            end++;
        code = cancelled(m, e);
        if (!code)
            code = fetch_run(m, p, i, end, e);
    }
    if (!code)
        code = check_whole(m, e);
    if (code && !m->hashes.n)
        m->fetched = 0;
    return code;
}

/* ---- nothing is there ------------------------------------------------------------------------ */

static bool tell(void *user, uint64_t done, uint64_t total)
{
    const struct mending *m = user;
    store_job_progress(&m->r->in->job, m->label, &m->r->layer->digest, done, total);
    return !store_job_cancelled(&m->r->in->job);
}

/* As a pull or an import brings it: what has arrived of a download outlives a kill. */
static enum err_code fetch_missing(void *user, const struct repair_place *p, struct err *e)
{
    struct mending *m = user;
    m->from = p->name;
    if (p->fd < 0)
        return download_blob(m->s, p->transport, &p->download, &m->r->in->job, &m->got, e);
    struct blob_source from = { .fd = p->fd, .path = p->name };
    struct blob_meter meter = { .progress = tell, .user = m, .total = m->r->layer->size };
    buf_finish(&m->got.chunks);
    buf_init(&m->got.chunks, CHUNK_HASHES_MAX);
    enum err_code code = blob_stage(&m->s->blobs, &from, &meter, &m->got.part, &m->got.chunks, e);
    if (!code && !digest_eq(&m->got.part.digest, &m->r->layer->digest)) {
        blob_discard(&m->s->blobs, &m->got.part);
        code = other_file(m, e);
    }
    return code;
}

/* ---- into its place -------------------------------------------------------------------------- */

/* As store_commit does it: listed as trash, moved, synced, and then the row. */
static enum err_code publish(struct mending *m, struct blob_part *part, struct str chunks, struct err *e)
{
    struct store *s = m->s;
    struct catalog *c = s->catalog;
    const struct digest *d = &part->digest;
    struct file_id id;
    bool doubtful = false;
    enum err_code code = catalog_begin(c, e);
    if (!code)
        code = catalog_put_trash(c, d, e);
    if (!code)
        code = catalog_commit(c, NULL, e);
    catalog_rollback(c);
    if (code)
        return code;
    code = blob_publish(&s->blobs, part, &id, e);
    if (!code)
        code = blob_sync(&s->blobs, e);
    if (!code)
        code = catalog_begin(c, e);
    if (!code)
        code = catalog_put_blob(c, d, m->r->layer->size, NULL, "", e);
    if (!code)
        code = catalog_put_file(c, d, "", &id, true, e);
    if (!code)
        code = catalog_put_chunks(c, d, chunks, e);
    if (!code)
        code = catalog_commit(c, &doubtful, e);
    catalog_rollback(c);
    if (!doubtful)
        store_collect(s, NULL);
    return code;
}

static enum err_code publish_locked(struct mending *m, struct blob_part *part, const struct buf *chunks, struct err *e)
{
    pthread_mutex_lock(&m->s->mutex);
    enum err_code code = publish(m, part, buf_str(chunks), e);
    pthread_mutex_unlock(&m->s->mutex);
    return code;
}

/* What was fetched and could not be put in its place stays for the next time. */
static enum err_code bring(struct mending *m, struct err *e)
{
    enum err_code code = repair_from(m->s, m->r, m->label, fetch_missing, m, e);
    if (!code)
        code = publish_locked(m, &m->got.part, &m->got.chunks, e);
    if (code && m->got.journal[0])
        downloaded_keep(m->s, &m->got);
    else
        downloaded_finish(m->s, &m->got);
    return code;
}

static enum err_code mend(struct mending *m, struct err *e)
{
    enum err_code code = plan(m, e);
    if (!code)
        code = blob_part_create(&m->s->blobs, m->r->layer->size, &m->part, &m->fd, e);
    if (!code)
        code = copy_good(m, e);
    if (!code) /* one that is too long may have all that it needs */
        code = m->wanted ? repair_from(m->s, m->r, m->label, fetch_bad, m, e) : check_whole(m, e);
    if (!code)
        code = blob_part_seal(&m->s->blobs, &m->part, m->fd, &m->r->layer->digest, m->r->layer->size, e);
    return code ? code : publish_locked(m, &m->part, &m->chunks, e);
}

enum err_code repair_blob(struct store *s, const struct repair *r, struct err *e)
{
    struct mending m = { .s = s, .r = r, .fd = -1, .from = "its place" };
    char hex[DIGEST_HEX_SIZE];
    digest_hex(&r->layer->digest, hex);
    snprintf(m.label, sizeof m.label, "repairing %.12s", hex);
    buf_init(&m.chunks, CHUNK_HASHES_MAX);
    enum err_code code = r->fd < 0 ? bring(&m, e) : mend(&m, e);
    if (m.fd >= 0)
        s->ops->close(m.fd);
    blob_discard(&s->blobs, &m.part);
    buf_finish(&m.chunks);
    mem_free(m.todo);
    mem_free(m.chunk);
    arena_finish(&m.arena);
    return code;
}
