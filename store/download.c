#include "store/download.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "store/commit.h"
#include "store/download_priv.h"

#define STEP_MS 100
#define MAX_RESTARTS 10

_Static_assert(PIECE_BYTES == DOWNLOAD_PIECE, "the journal's pieces are the download's");

/* The one who downloads, while it does. */
struct leader {
    struct store *s;
    const struct download *d;
    const struct store_job *job;
    struct downloaded *out;
    struct fetching f; /* its callbacks get back to us by `user` of on_piece: see of() */
    struct digest id;  /* the key: the digest, or that of the URL */
    char key[DIGEST_HEX_SIZE];
    struct journal journal;
    struct hash_job hash;
    bool begun; /* the journal has its head */
    unsigned restarts;
    uint64_t shown;
    struct store_pace pace;
};

static struct leader *of(struct fetching *f)
{
    return (struct leader *)((char *)f - offsetof(struct leader, f));
}

static const atomic_bool *cancel_of(const struct store_job *job)
{
    return job ? job->cancel : NULL;
}

/* ---- the two files ----------------------------------------------------------------------------- */

static enum err_code files_failed(const struct leader *l, struct err *e)
{
    return err_errno(e, ERR_IO, errno, "%s: making a file in the store", l->d->label);
}

/* A part that was sealed and never committed is ours to write to again. */
static int open_sealed(struct leader *l, const char *name)
{
    const struct file_ops *ops = l->s->ops;
    int fd = ops->open(l->s->blobs.tmp, name, O_RDONLY, 0);
    if (fd < 0)
        return -1;
    int bad = ops->mode(fd, 0600);
    ops->close(fd);
    return bad ? -1 : ops->open(l->s->blobs.tmp, name, O_RDWR, 0);
}

static int open_file(struct leader *l, const char *name, int flags)
{
    int fd = l->s->ops->open(l->s->blobs.tmp, name, O_RDWR | O_CREAT | flags, 0600);
    return fd < 0 && errno == EACCES ? open_sealed(l, name) : fd;
}

static void close_files(struct leader *l)
{
    if (l->journal.part >= 0)
        l->s->ops->close(l->journal.part);
    if (l->journal.fd >= 0)
        l->s->ops->close(l->journal.fd);
    l->journal.part = l->journal.fd = -1;
}

/* Of a part that was shared: what its other name is may be a blob by now, and is not ours to write to. */
static void drop_second_name(struct leader *l)
{
    const struct file_ops *ops = l->s->ops;
    struct stat st;
    if (ops->stat_at(l->s->blobs.tmp, l->out->part.name, &st) == 0 && st.st_nlink > 1)
        ops->unlink(l->s->blobs.tmp, l->out->part.name);
}

static enum err_code open_files(struct leader *l, int flags, struct err *e)
{
    close_files(l);
    drop_second_name(l);
    l->journal.end = 0;
    l->journal.part = open_file(l, l->out->part.name, flags);
    if (l->journal.part >= 0)
        l->journal.fd = open_file(l, l->out->journal, flags);
    return l->journal.part >= 0 && l->journal.fd >= 0 ? ERR_OK : files_failed(l, e);
}

/* Room for the whole file, less what the part has already. */
static enum err_code make_room(struct leader *l, struct err *e)
{
    const struct file_ops *ops = l->s->ops;
    uint64_t size = l->f.size, there, room;
    bool in_memory;
    struct stat st;
    if (ops->stat(l->journal.part, &st) < 0 || ops->space(l->journal.part, &room, &in_memory) < 0)
        return files_failed(l, e);
    there = (uint64_t)st.st_blocks * 512;
    uint64_t need = there < size ? size - there : 0;
    if (!need && (uint64_t)st.st_size == size)
        return ERR_OK;
    if (need <= room && (in_memory || ops->reserve(l->journal.part, size) == 0 || errno != ENOSPC))
        return ERR_OK;
    return err_set(e, ERR_IO, "%s: the disk is too full: %" PRIu64 " bytes are needed, and %" PRIu64
                   " are free. What is there already is kept for the next time", l->d->label, need, room);
}

/* Of a body whose length nobody tells: what it may have. */
static enum err_code limit_to_room(struct leader *l, struct err *e)
{
    uint64_t room;
    bool in_memory;
    if (l->s->ops->space(l->journal.part, &room, &in_memory) < 0)
        return files_failed(l, e);
    l->f.room = room > STORE_SPARE_BYTES ? room - STORE_SPARE_BYTES : 0;
    return ERR_OK;
}

/* ---- resume ------------------------------------------------------------------------------------ */

static bool head_fits(const struct leader *l, const struct journal_head *h)
{
    const struct download *d = l->d;
    if (d->has_size && h->size != d->size)
        return false;
    if (d->has_digest)
        return h->has_digest && digest_eq(&h->digest, &d->digest);
    return !h->has_digest && h->etag[0]; /* without either nothing tells that it is the same body */
}

/* What an earlier call left, as far as it is sound. */
static enum err_code resume(struct leader *l, struct err *e)
{
    struct fetching *f = &l->f;
    struct journal_head h;
    bool there = journal_read_head(&l->journal, &h);
    if (!there || !head_fits(l, &h)) {
        if (there)
            log_line(LOG_INFO, "msg=\"%s begins anew: another file was begun\"", l->d->label);
        return open_files(l, O_TRUNC, e);
    }
    f->size = h.size;
    f->size_known = l->begun = true;
    snprintf(f->etag, sizeof f->etag, "%s", h.etag);
    snprintf(f->origin, sizeof f->origin, "%s", h.origin);
    enum err_code code = pieces_resize(&f->pieces, h.size, e);
    if (!code)
        code = journal_replay(&l->journal, &f->pieces, cancel_of(l->job), e);
    if (!l->d->has_digest)
        pieces_drop_last(&f->pieces); /* so that the place is asked whether it is the same file still */
    l->out->resumed = f->pieces.have;
    return code;
}

static enum err_code on_size(struct fetching *f, struct err *e)
{
    struct leader *l = of(f);
    if (l->begun || !f->size_known)
        return ERR_OK;
    struct journal_head h = { .size = f->size, .has_digest = l->d->has_digest };
    if (l->d->has_digest)
        h.digest = l->d->digest;
    snprintf(h.etag, sizeof h.etag, "%s", f->etag);
    snprintf(h.origin, sizeof h.origin, "%s", f->origin);
    l->begun = true;
    enum err_code code = make_room(l, e);
    return code ? code : journal_begin(&l->journal, &h, e);
}

static enum err_code on_piece(struct fetching *f, uint64_t piece, const uint8_t *p, size_t n, struct err *e)
{
    struct leader *l = of(f);
    const struct file_ops *ops = l->s->ops;
    enum err_code code = ERR_OK;
    if (!file_write_all(ops, l->journal.part, p, n, piece * PIECE_BYTES))
        code = err_errno(e, ERR_IO, errno, "%s: writing to the store%s", l->d->label,
                         l->begun ? " (what is there already is kept for the next time)" : "");
    if (!code && l->begun) /* a stream of unknown length cannot be resumed */
        code = journal_add(&l->journal, piece, piece_sum(p, n), e);
    if (!code) {
        pieces_add(&f->pieces, piece);
        hash_ready(&l->hash, pieces_in_order(&f->pieces));
    }
    return code;
}

static enum err_code begin_anew(struct leader *l, struct err *e)
{
    struct fetching *f = &l->f;
    fetching_stop(f);
    hash_finish(&l->hash);
    if (l->restarts++ == MAX_RESTARTS)
        return f->last.code ? err_set(e, ERR_IO, "%s began anew %d times: %s", l->d->label, MAX_RESTARTS, f->last.text)
                            : err_set(e, ERR_CONFLICT, "%s: the file changes each time", l->d->label);
    log_line(LOG_WARN, "msg=\"%s begins anew: the file there is another one\"", l->d->label);
    pieces_finish(&f->pieces);
    f->changed = f->unordered = l->begun = false;
    f->mode = FETCH_PROBE;
    f->size = l->d->size;
    f->size_known = l->d->has_size;
    f->etag[0] = f->origin[0] = '\0';
    l->out->resumed = 0;
    enum err_code code = open_files(l, O_TRUNC, e);
    if (!code)
        code = f->size_known ? pieces_resize(&f->pieces, f->size, e) : limit_to_room(l, e);
    return code ? code : hash_begin(&l->hash, l->s->ops, l->journal.part, e);
}

/* ---- the whole --------------------------------------------------------------------------------- */

static void report(struct leader *l, bool at_its_end)
{
    uint64_t now = fetching_completed(&l->f), total = l->f.size_known ? l->f.size : 0;
    l->shown = now > l->shown ? now : l->shown; /* a restart shows nobody less than before */
    if (total && l->shown > total)
        l->shown = total;
    share_progress(l->s, l->key, l->shown, total);
    if (store_pace_due(&l->pace, at_its_end))
        store_job_progress(l->job, l->d->label, &l->id, l->shown, total);
}

static enum err_code fetch_all(struct leader *l, struct err *e)
{
    struct fetching *f = &l->f;
    enum err_code code = ERR_OK;
    hash_ready(&l->hash, pieces_in_order(&f->pieces));
    while (!code && !fetching_done(f)) {
        report(l, false);
        if (store_job_cancelled(l->job))
            code = err_set(e, ERR_CANCELLED, "%s: cancelled; what is there is kept for the next time",
                           l->d->label);
        else
            code = fetching_step(f, STEP_MS, e);
        if (!code && f->changed)
            code = begin_anew(l, e);
    }
    fetching_stop(f);
    return code;
}

static enum err_code wrong_hash(struct leader *l, struct err *e)
{
    const struct file_ops *ops = l->s->ops;
    char is[DIGEST_TEXT_SIZE], should[DIGEST_TEXT_SIZE];
    struct str host = url_host(l->d->url);
    digest_text(&l->hash.digest, is);
    digest_text(&l->d->digest, should);
    ops->unlink(l->s->blobs.tmp, l->out->journal);
    ops->unlink(l->s->blobs.tmp, l->out->part.name);
    return err_set(e, ERR_FORMAT, "%s: what came from %.*s is %s and not the %s that was promised: it was "
                   "thrown away", l->d->label, (int)host.n, host.p, is, should);
}

static enum err_code finish(struct leader *l, struct err *e)
{
    struct downloaded *out = l->out;
    enum err_code code = hash_end(&l->hash, l->f.size, cancel_of(l->job), e);
    if (code)
        return code;
    if (l->d->has_digest && !digest_eq(&l->hash.digest, &l->d->digest))
        return wrong_hash(l, e);
    code = blob_part_seal(&l->s->blobs, &out->part, l->journal.part, &l->hash.digest, l->f.size, e);
    if (code)
        return code;
    buf_finish(&out->chunks);
    out->chunks = l->hash.chunks;
    buf_init(&l->hash.chunks, 1);
    snprintf(out->etag, sizeof out->etag, "%s", l->f.etag);
    snprintf(out->repo_commit, sizeof out->repo_commit, "%s", l->f.repo_commit);
    report(l, true);
    return ERR_OK;
}

static enum err_code lead(struct leader *l, struct err *e)
{
    struct fetching *f = &l->f;
    enum err_code code = fetching_begin(f, e);
    if (!code)
        code = open_files(l, 0, e);
    if (!code)
        code = resume(l, e);
    if (!code)
        code = f->size_known ? make_room(l, e) : limit_to_room(l, e);
    if (!code)
        code = hash_begin(&l->hash, l->s->ops, l->journal.part, e);
    if (!code)
        code = fetch_all(l, e);
    bool resumed = l->out->resumed > 0;
    if (!code)
        code = finish(l, e);
    /* what was there from before may be the lie, where what came was as it should be */
    if (code == ERR_FORMAT && resumed && (fetching_done(f) || !l->d->has_size)) {
        code = begin_anew(l, e);
        if (!code)
            code = fetch_all(l, e);
        if (!code)
            code = finish(l, e);
    }
    if (code && !l->begun) { /* nothing tells how far it is: no use to anybody, and it may be large */
        l->s->ops->unlink(l->s->blobs.tmp, l->out->journal);
        l->s->ops->unlink(l->s->blobs.tmp, l->out->part.name);
    }
    l->out->fetched = f->fetched;
    hash_finish(&l->hash);
    fetching_finish(f);
    close_files(l);
    return code;
}

static enum err_code key_of(const struct download *d, struct digest *key, struct err *e)
{
    *key = d->digest;
    if (!d->has_digest && !EVP_Digest(d->url, strlen(d->url), key->b, NULL, EVP_sha256(), NULL))
        return err_set(e, ERR_INTERNAL, "hashing a URL failed");
    key->b[0] ^= !d->has_digest && d->unproven;
    return ERR_OK;
}

static enum err_code lead_and_share(struct leader *l, struct err *e)
{
    struct downloaded *out = l->out;
    snprintf(out->part.name, sizeof out->part.name, "dl-%s.part", l->key);
    snprintf(out->journal, sizeof out->journal, "dl-%s.journal", l->key);
    enum err_code code = lead(l, e);
    if (code) {
        out->part.name[0] = out->journal[0] = '\0'; /* the files stay for the next time */
        share_leave(l->s, l->key);
        return code;
    }
    out->leads = true;
    out->id = l->id;
    share_done(l->s, l->key, out);
    return ERR_OK;
}

enum err_code download_blob(struct store *s, struct transport *t, const struct download *d,
                            const struct store_job *job, struct downloaded *out, struct err *e)
{
    struct leader l = {
        .s = s, .d = d, .job = job, .out = out, .journal = { .ops = s->ops, .part = -1, .fd = -1 },
        .f = { .t = t, .d = d, .job = job, .on_piece = on_piece, .on_size = on_size },
    };
    *out = (struct downloaded){ 0 };
    buf_init(&out->chunks, CHUNK_HASHES_MAX);
    enum err_code code = key_of(d, &l.id, e);
    if (code)
        return code;
    digest_hex(&l.id, l.key);
    if (!store_hold(s, &l.id))
        return err_no_memory(e, sizeof l, d->label);
    switch (share_enter(s, l.key, &l.id, d->label, job, out)) {
    case SHARE_LEADS:
        code = lead_and_share(&l, e);
        break;
    case SHARE_CANCELLED:
        code = err_set(e, ERR_CANCELLED, "%s: cancelled", d->label);
        break;
    case SHARE_FAILED:
        code = err_set(e, ERR_BUSY, "%s: another call has it, and it could not be shared: try again when that has ended",
                       d->label);
        break;
    case SHARE_NO_MEMORY:
        code = err_no_memory(e, sizeof l, d->label);
        break;
    case SHARE_HAS:
        break;
    }
    if (!out->leads)
        store_release(s, &l.id);
    if (code)
        downloaded_finish(s, out);
    return code;
}

uint64_t download_begun(struct store *s, const struct download *d)
{
    struct downloaded out = { 0 };
    struct leader l = { .s = s, .d = d, .out = &out, .journal = { .ops = s->ops, .part = -1 } };
    struct pieces p = { 0 };
    struct journal_head h;
    if (key_of(d, &l.id, NULL))
        return 0;
    digest_hex(&l.id, l.key);
    snprintf(out.journal, sizeof out.journal, "dl-%s.journal", l.key);
    l.journal.fd = s->ops->open(s->blobs.tmp, out.journal, O_RDONLY, 0);
    if (l.journal.fd < 0)
        return 0;
    if (journal_read_head(&l.journal, &h) && head_fits(&l, &h) && !pieces_resize(&p, h.size, NULL))
        journal_tell(&l.journal, &p, NULL);
    uint64_t have = p.have;
    pieces_finish(&p);
    s->ops->close(l.journal.fd);
    return have;
}

/* Another call has made a blob of it, of which this is a second name. */
static bool is_blob_by_now(struct store *s, const struct downloaded *d)
{
    char name[DIGEST_FILE_SIZE];
    struct stat part, blob;
    digest_file_name(&d->part.digest, name);
    return d->part.name[0] && s->ops->stat_at(s->blobs.tmp, d->part.name, &part) == 0 && part.st_nlink > 1 &&
           s->ops->stat_at(s->blobs.blobs, name, &blob) == 0 && blob.st_ino == part.st_ino;
}

static void end_downloaded(struct store *s, struct downloaded *d, bool discard)
{
    char key[DIGEST_HEX_SIZE];
    digest_hex(&d->id, key);
    discard = discard || is_blob_by_now(s, d);
    if (discard && d->part.name[0])
        blob_discard(&s->blobs, &d->part);
    if (d->journal[0] && discard)
        s->ops->unlink(s->blobs.tmp, d->journal);
    if (d->alias[0]) /* nobody could go on with it by this name */
        s->ops->unlink(s->blobs.tmp, d->alias);
    if (d->leads) {
        share_leave(s, key);
        store_release(s, &d->id);
    }
    buf_finish(&d->chunks);
    *d = (struct downloaded){ 0 };
}

void downloaded_finish(struct store *s, struct downloaded *d)
{
    end_downloaded(s, d, true);
}

void downloaded_keep(struct store *s, struct downloaded *d)
{
    end_downloaded(s, d, false);
}

/* ---- a few bytes ------------------------------------------------------------------------------- */

struct range_job {
    struct fetching f;
    const struct file_ops *ops;
    int fd;
    uint64_t first, end;
};

static enum err_code range_size(struct fetching *f, struct err *e)
{
    (void)f;
    (void)e;
    return ERR_OK;
}

static enum err_code range_piece(struct fetching *f, uint64_t piece, const uint8_t *p, size_t n, struct err *e)
{
    struct range_job *r = (struct range_job *)f;
    uint64_t at = piece * PIECE_BYTES, end = at + n;
    uint64_t from = at > r->first ? at : r->first, to = end < r->end ? end : r->end;
    if (!file_write_all(r->ops, r->fd, p + (from - at), (size_t)(to - from), from))
        return err_errno(e, ERR_IO, errno, "%s: writing to the file", f->d->label);
    pieces_add(&f->pieces, piece);
    return ERR_OK;
}

enum err_code download_range(struct transport *t, const struct download *d, uint64_t first,
                             uint64_t last, const struct file_ops *ops, int fd,
                             const struct store_job *job, struct err *e)
{
    struct range_job r = {
        .f = { .t = t, .d = d, .job = job, .on_piece = range_piece, .on_size = range_size },
        .ops = ops, .fd = fd, .first = first, .end = last + 1,
    };
    if (first > last || last >= d->size)
        return err_set(e, ERR_INTERNAL, "%s: no such bytes", d->label);
    enum err_code code = fetching_begin(&r.f, e);
    for (uint64_t i = 0; !code && i < r.f.pieces.n; i++)
        if (i < first / PIECE_BYTES || i > last / PIECE_BYTES)
            pieces_add(&r.f.pieces, i); /* not wanted: as good as there */
    while (!code && !fetching_done(&r.f)) {
        code = store_job_cancelled(job) ? err_set(e, ERR_CANCELLED, "%s: cancelled", d->label)
                                        : fetching_step(&r.f, STEP_MS, e);
        if (!code && r.f.changed)
            code = err_set(e, ERR_CONFLICT, "%s: the file there is another one now", d->label);
    }
    fetching_finish(&r.f);
    return code;
}
