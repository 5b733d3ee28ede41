#include "store/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/commit.h"
#include "store/download.h"
#include "store/origin.h"

#define HUB "https://huggingface.co"

/* A blob on its way to be made anew. */
struct mending {
    struct store *s;
    const struct repair *r;
    struct blob_part part;
    int fd;                    /* of the part */
    char source[4096];         /* where its bytes came from */
    int source_fd;             /* when that is a path; else -1 */
    struct transport *transport;
    struct download download;
    char label[32], bearer[1024];
    uint8_t *chunk;
};

static bool is_bad(const struct mending *m, uint64_t chunk)
{
    return !m->r->bad || m->r->bad[chunk];
}

/* ---- where the bytes come from --------------------------------------------------------------- */

static enum err_code read_source(struct mending *m, struct err *e)
{
    struct arena a = { 0 };
    struct str source;
    pthread_mutex_lock(&m->s->mutex);
    enum err_code code = catalog_source(m->s->catalog, &m->r->layer->digest, &a, &source, e);
    pthread_mutex_unlock(&m->s->mutex);
    if (!code && source.n >= sizeof m->source)
        code = err_set(e, ERR_UNSUPPORTED, "where it came from has too long a name");
    if (!code)
        snprintf(m->source, sizeof m->source, "%s", source.p ? source.p : "");
    arena_finish(&a);
    return code;
}

/* The hub's token goes to the hub alone; the transport sees to redirects. */
static enum err_code authorize(void *user, bool refused, const char **value, struct err *e)
{
    struct mending *m = user;
    const char *token = m->r->in->secrets.hf_token, *hub = m->s->net.hf_endpoint;
    struct origin is, hubs;
    *value = NULL;
    if (refused)
        return err_set(e, ERR_FORBIDDEN, "'%s' is not open to all: pull the model again", m->r->model->name);
    if (!token || !token[0] || !origin_of(str_from(m->source), &is) ||
        !origin_of(hub ? str_from(hub) : STR(HUB), &hubs) || !origin_eq(&is, &hubs))
        return ERR_OK;
    if ((size_t)snprintf(m->bearer, sizeof m->bearer, "Bearer %s", token) >= sizeof m->bearer)
        return err_set(e, ERR_INVALID, "the hub's token is too long");
    *value = m->bearer;
    return ERR_OK;
}

static enum err_code open_network(struct mending *m, struct err *e)
{
    const struct store_net *net = &m->s->net;
    char hex[DIGEST_HEX_SIZE];
    struct transport_options o = { .offline = net->offline, .ca_file = net->ca_file,
                                   .connections = net->connections };
    digest_hex(&m->r->layer->digest, hex);
    snprintf(m->label, sizeof m->label, "repairing %.12s", hex);
    m->download = (struct download){ .label = m->label, .has_digest = true, .digest = m->r->layer->digest,
                                     .has_size = true, .size = m->r->layer->size, .url = m->source,
                                     .plain = strncmp(m->source, "http://", 7) == 0, .authorize = authorize,
                                     .user = m, .connections = net->connections };
    if (net->offline)
        return err_set(e, ERR_CONFLICT, "%s: this store is offline", m->label);
    return transport_curl_create(&o, &m->transport, e);
}

static enum err_code open_source(struct mending *m, struct err *e)
{
    enum err_code code = read_source(m, e);
    if (code)
        return code;
    if (strncmp(m->source, "https://", 8) == 0 || strncmp(m->source, "http://", 7) == 0)
        return open_network(m, e);
    if (m->source[0] != '/')
        return err_set(e, ERR_UNSUPPORTED, "nobody knows where it came from: import or pull the model again");
    m->source_fd = open(m->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    return m->source_fd >= 0 ? ERR_OK : err_errno(e, ERR_IO, errno, "opening '%s', where it came from", m->source);
}

/* ---- the part -------------------------------------------------------------------------------- */

static enum err_code copy_chunk(struct mending *m, int from, uint64_t chunk, struct err *e)
{
    const struct file_ops *ops = m->s->ops;
    uint64_t at = chunk * CHUNK_BYTES, left = m->r->layer->size - at;
    size_t n = (size_t)(left < CHUNK_BYTES ? left : CHUNK_BYTES), have = 0, done = 0;
    while (have < n) {
        ssize_t r = ops->read(from, m->chunk + have, n - have, at + have);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return err_errno(e, ERR_IO, r < 0 ? errno : EIO, "reading MiB %" PRIu64, chunk + 1);
        have += (size_t)r;
    }
    while (done < n) {
        ssize_t w = ops->write(m->fd, m->chunk + done, n - done, at + done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return err_errno(e, ERR_IO, w < 0 ? errno : EIO, "writing MiB %" PRIu64, chunk + 1);
        done += (size_t)w;
    }
    return ERR_OK;
}

/* The bad MiB from `first` on, up to the next good one. */
static enum err_code fetch_run(struct mending *m, uint64_t first, uint64_t end, struct err *e)
{
    enum err_code code = ERR_OK;
    if (m->source_fd < 0) {
        uint64_t last = end * CHUNK_BYTES < m->download.size ? end * CHUNK_BYTES : m->download.size;
        return download_range(m->transport, &m->download, first * CHUNK_BYTES, last - 1, m->s->ops, m->fd,
                              &m->r->in->job, e);
    }
    for (uint64_t i = first; !code && i < end; i++)
        code = copy_chunk(m, m->source_fd, i, e);
    return code;
}

static enum err_code fill(struct mending *m, struct err *e)
{
    uint64_t n = (m->r->layer->size + CHUNK_BYTES - 1) / CHUNK_BYTES;
    bool shared = m->r->fd >= 0 && m->s->ops->reflink(m->fd, m->r->fd) == 0;
    enum err_code code = ERR_OK;
    for (uint64_t i = 0, end; !code && i < n; i = end) {
        end = i + 1;
        if (store_job_cancelled(&m->r->in->job))
            return err_set(e, ERR_CANCELLED, "repairing was cancelled");
        if (!is_bad(m, i)) {
            code = shared ? ERR_OK : copy_chunk(m, m->r->fd, i, e);
            continue;
        }
        while (end < n && is_bad(m, end))
            end++;
        code = fetch_run(m, i, end, e);
    }
    return code;
}

/* Hashed as it now is in the file: what was good, and what came, together. */
static enum err_code seal(struct mending *m, struct buf *chunks, struct err *e)
{
    struct blob_source from = { .fd = m->fd, .path = "the repaired file" };
    struct blob_meter meter = { 0 };
    struct digest d;
    struct file_id id;
    enum err_code code = blob_hash(m->s->ops, &from, &meter, &d, chunks, &id, e);
    if (!code && !digest_eq(&d, &m->r->layer->digest))
        code = err_set(e, ERR_CONFLICT, "what is at '%s' is another file now", m->source);
    return code ? code : blob_part_seal(&m->s->blobs, &m->part, m->fd, &d, m->r->layer->size, e);
}

/* ---- into its place -------------------------------------------------------------------------- */

/* As store_commit does it: listed as trash, moved, synced, and then the row. */
static enum err_code publish(struct mending *m, struct str chunks, struct err *e)
{
    struct store *s = m->s;
    struct catalog *c = s->catalog;
    const struct digest *d = &m->part.digest;
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
    code = blob_publish(&s->blobs, &m->part, &id, e);
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

static enum err_code mend(struct mending *m, struct err *e)
{
    struct buf chunks;
    buf_init(&chunks, CHUNK_HASHES_MAX);
    enum err_code code = blob_part_create(&m->s->blobs, m->r->layer->size, &m->part, &m->fd, e);
    if (!code)
        code = fill(m, e);
    if (!code)
        code = seal(m, &chunks, e);
    if (!code) {
        pthread_mutex_lock(&m->s->mutex);
        code = publish(m, buf_str(&chunks), e);
        pthread_mutex_unlock(&m->s->mutex);
    }
    if (m->fd >= 0)
        m->s->ops->close(m->fd);
    blob_discard(&m->s->blobs, &m->part);
    buf_finish(&chunks);
    return code;
}

enum err_code repair_blob(struct store *s, const struct repair *r, struct err *e)
{
    struct mending m = { .s = s, .r = r, .fd = -1, .source_fd = -1 };
    m.chunk = mem_alloc((size_t)CHUNK_BYTES);
    enum err_code code = m.chunk ? ERR_OK : err_no_memory(e, (size_t)CHUNK_BYTES, "repairing a file");
    if (!code)
        code = open_source(&m, e);
    if (!code)
        code = mend(&m, e);
    if (m.source_fd >= 0)
        close(m.source_fd);
    transport_destroy(m.transport);
    mem_free(m.chunk);
    return code;
}
