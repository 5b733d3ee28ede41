#include "store/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/log.h"

#define MAX_RUNS 6 /* of bad MiB that a sentence names */

/* One call. */
struct verifying {
    struct store *s;
    const struct store_verify *in;
    struct store_verified *out;
    struct digest *seen;  /* a file of several models is looked at once */
    size_t n_seen, cap;
};

/* One place of one blob, being looked at. */
struct look {
    struct verifying *v;
    const struct store_model *model;
    const struct catalog_layer *layer;
    const struct catalog_file *file;
    char path[PATH_MAX + 128], hex12[13], status[32];
    int fd;
    struct file_id id;
    uint8_t *bad;         /* a byte a MiB; NULL: not known */
    uint64_t *list, n_chunks;
    size_t n_list;
    struct store_verdict verdict;
    struct buf text;
    bool given_up;        /* its repair was cancelled */
};

static bool is_own(const struct look *l)
{
    return l->file->path[0] == '\0';
}

/* ---- sentences ------------------------------------------------------------------------------- */

/* "MiB 3, 17 to 20 and 33" */
static void put_runs(struct buf *b, const uint64_t *bad, size_t n)
{
    size_t runs = 0;
    buf_puts(b, "MiB ");
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && bad[end] == bad[end - 1] + 1;)
            end++;
        if (++runs > MAX_RUNS) {
            buf_printf(b, " and %zu more", n - i);
            return;
        }
        buf_printf(b, "%s%" PRIu64, i == 0 ? "" : end == n ? " and " : ", ", bad[i]);
        if (end - i == 2)
            buf_printf(b, "%s%" PRIu64, i == 0 && end == n ? " and " : ", ", bad[end - 1]);
        else if (end - i > 2)
            buf_printf(b, " to %" PRIu64, bad[end - 1]);
    }
}

static void describe(struct look *l)
{
    const struct store_verdict *v = &l->verdict;
    const char *what = is_own(l) ? "blob " : l->path, *id = is_own(l) ? l->hex12 : "";
    buf_printf(&l->text, "model '%s': ", l->model->name);
    if (v->n_bad)
        put_runs(&l->text, v->bad, v->n_bad);
    if (v->n_bad)
        buf_printf(&l->text, " of %" PRIu64 " of %s%s %s", v->n_chunks, what, id,
                   v->verdict == VERDICT_REPAIRED ? v->n_bad == 1 ? "was damaged, and is repaired" :
                                                                    "were damaged, and are repaired" :
                   v->n_bad == 1 ? "is damaged" : "are damaged");
    else if (v->verdict == VERDICT_CHANGED)
        buf_printf(&l->text, "%s%s was written to while it was read: verify again", what, id);
    else if (v->verdict == VERDICT_GONE)
        buf_printf(&l->text, "%s%s is gone or cannot be read", what, id);
    else if (l->id.size != l->layer->size)
        buf_printf(&l->text, "%s%s has %" PRIu64 " bytes, not %" PRIu64, what, id, l->id.size, l->layer->size);
    else
        buf_printf(&l->text, "%s%s is damaged", what, id);
    if (!v->n_bad && v->verdict == VERDICT_REPAIRED)
        buf_puts(&l->text, ", and is made anew");
}

/* ---- one place ------------------------------------------------------------------------------- */

static void note(struct look *l, bool sound, struct str chunks)
{
    struct catalog *c = l->v->s->catalog;
    const struct digest *d = &l->layer->digest;
    struct err e;
    pthread_mutex_lock(&l->v->s->mutex);
    if (!store_place_is(l->v->s, d, l->file->path, &l->id)) { /* a commit has put another there, and noted that */
        pthread_mutex_unlock(&l->v->s->mutex);
        return;
    }
    enum err_code code = catalog_begin(c, &e);
    if (!code && sound)
        code = catalog_put_blob(c, d, l->layer->size, NULL, "", &e);
    if (!code)
        code = catalog_put_file(c, d, l->file->path, &l->id, sound, &e);
    if (!code && chunks.n)
        code = catalog_put_chunks(c, d, chunks, &e);
    if (!code)
        code = catalog_commit(c, NULL, &e);
    catalog_rollback(c);
    pthread_mutex_unlock(&l->v->s->mutex);
    if (code)
        log_line(LOG_WARN, "msg=\"what was verified could not be noted\" error=\"%s\"", e.text);
}

static bool tell(void *user, uint64_t done, uint64_t total)
{
    struct look *l = user;
    store_job_progress(&l->v->in->job, l->status, &l->layer->digest, done, total);
    return !store_job_cancelled(&l->v->in->job);
}

/* As a whole, where the hashes of its MiB are not recorded; they are from now on. */
static enum err_code check_whole(struct look *l, bool *right, struct err *e)
{
    struct blob_source from = { .fd = l->fd, .path = l->path };
    struct blob_meter meter = { .progress = tell, .user = l, .total = l->layer->size };
    struct digest d;
    struct buf chunks;
    buf_init(&chunks, CHUNK_HASHES_MAX);
    enum err_code code = blob_hash(l->v->s->ops, &from, &meter, &d, &chunks, &l->id, e);
    *right = !code && digest_eq(&d, &l->layer->digest);
    if (!code)
        note(l, *right, *right ? buf_str(&chunks) : (struct str){ 0 });
    buf_finish(&chunks);
    return code;
}

static enum err_code list_bad(struct look *l, struct err *e)
{
    for (uint64_t i = 0; i < l->n_chunks; i++)
        l->n_list += l->bad[i];
    l->list = mem_zero(l->n_list, sizeof *l->list);
    if (!l->list)
        return err_no_memory(e, l->n_list * sizeof *l->list, "verifying a file");
    l->n_list = 0;
    for (uint64_t i = 0; i < l->n_chunks; i++)
        if (l->bad[i])
            l->list[l->n_list++] = i + 1;
    return ERR_OK;
}

static enum err_code check_by_chunks(struct look *l, struct str hashes, bool *right, struct err *e)
{
    struct stat st;
    struct chunk_check c = { .ops = l->v->s->ops, .fd = l->fd, .size = l->layer->size, .hashes = hashes,
                             .threads = l->v->in->threads, .job = &l->v->in->job, .status = l->status,
                             .digest = l->layer->digest };
    l->bad = c.bad = mem_zero((size_t)l->n_chunks + 1, 1);
    enum err_code code = l->bad ? check_chunks(&c, e) : err_no_memory(e, (size_t)l->n_chunks, "verifying a file");
    if (!code)
        code = list_bad(l, e);
    if (code)
        return code;
    if (l->v->s->ops->stat(l->fd, &st) < 0)
        return err_errno(e, ERR_IO, errno, "looking at '%s'", l->path);
    struct file_id now = file_id_of(&st);
    if (!file_id_eq(&now, &l->id))
        return err_set(e, ERR_CONFLICT, "'%s' changed while it was read", l->path);
    *right = l->n_list == 0;
    note(l, *right, (struct str){ 0 });
    return ERR_OK;
}

static enum err_code check_bytes(struct look *l, bool *right, struct err *e)
{
    struct arena a = { 0 };
    struct str hashes;
    l->n_chunks = (l->layer->size + CHUNK_BYTES - 1) / CHUNK_BYTES;
    pthread_mutex_lock(&l->v->s->mutex);
    enum err_code code = catalog_chunks(l->v->s->catalog, &l->layer->digest, &a, &hashes, e);
    pthread_mutex_unlock(&l->v->s->mutex);
    if (!code)
        code = hashes.p && hashes.n == 32 * l->n_chunks ? check_by_chunks(l, hashes, right, e)
                                                        : check_whole(l, right, e);
    arena_finish(&a);
    return code;
}

static int open_place(struct look *l)
{
    return is_own(l) ? blob_open(&l->v->s->blobs, &l->layer->digest)
                     : open(l->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/* What can be said of the place; errors are those of the call alone. */
static enum err_code judge(struct look *l, struct err *e)
{
    struct stat st;
    struct err why = { 0 };
    bool right = false;
    l->fd = open_place(l);
    l->verdict.verdict = VERDICT_GONE;
    if (l->fd < 0 || l->v->s->ops->stat(l->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return ERR_OK;
    l->id = file_id_of(&st);
    l->verdict.verdict = VERDICT_DAMAGED;
    if (l->id.size != l->layer->size)
        return ERR_OK;
    enum err_code code = check_bytes(l, &right, &why);
    if (code == ERR_CONFLICT || code == ERR_IO) {
        l->verdict.verdict = code == ERR_IO ? VERDICT_GONE : VERDICT_CHANGED;
        return ERR_OK;
    }
    if (code && e)
        *e = why;
    if (!code && right)
        l->verdict.verdict = VERDICT_SOUND;
    return code;
}

static void try_repair(struct look *l)
{
    struct err e = { 0 };
    struct repair r = { .in = l->v->in, .layer = l->layer, .fd = l->fd };
    if (l->fd >= 0 && l->id.size == l->layer->size)
        r.bad = l->bad;
    enum err_code code = repair_blob(l->v->s, &r, &e);
    l->given_up = code == ERR_CANCELLED;
    if (code)
        buf_printf(&l->text, "; it could not be repaired: %s", e.text);
    else
        l->verdict.verdict = VERDICT_REPAIRED;
}

static void report(struct look *l)
{
    struct store_verified *out = l->v->out;
    struct store_verdict *v = &l->verdict;
    out->files++;
    out->bytes += l->layer->size;
    v->bad = l->list;
    v->n_bad = l->n_list;
    v->n_chunks = l->n_chunks;
    if (v->verdict != VERDICT_SOUND)
        describe(l);
    if (l->v->in->repair && (v->verdict == VERDICT_DAMAGED || v->verdict == VERDICT_GONE))
        try_repair(l);
    if (v->verdict == VERDICT_REPAIRED) {
        buf_clear(&l->text);
        describe(l);
    }
    out->repaired += v->verdict == VERDICT_REPAIRED;
    out->bad += v->verdict != VERDICT_SOUND && v->verdict != VERDICT_REPAIRED;
    v->text = v->verdict == VERDICT_SOUND || !l->text.p ? "" : l->text.p;
    if (l->v->in->report)
        l->v->in->report(l->v->in->user, v);
}

/* ---- places that are none any more ----------------------------------------------------------- */

/* The other places of the blob: does one of them hold it? */
static bool is_elsewhere(const struct look *l)
{
    struct catalog_layer others = *l->layer;
    struct catalog_file *files = mem_zero(l->layer->n_files, sizeof *files);
    others.files = files;
    others.n_files = 0;
    for (size_t i = 0; files && i < l->layer->n_files; i++)
        if (&l->layer->files[i] != l->file)
            files[others.n_files++] = l->layer->files[i];
    bool there = others.n_files && store_blob_is_sound(l->v->s, &others);
    mem_free(files);
    return there;
}

/* Gone, or not the file that was referred to; one that has rotted where it lies is still told of. */
static bool is_another_now(const struct look *l)
{
    return l->verdict.verdict == VERDICT_GONE ||
           (l->verdict.verdict == VERDICT_DAMAGED && !(l->file->sound && file_id_eq(&l->id, &l->file->id)));
}

/* A file of the user's that is no more, and is not needed: no model is damaged by it. */
static bool forget_place(struct look *l)
{
    struct catalog *c = l->v->s->catalog;
    struct err e;
    if (is_own(l) || !is_another_now(l) || !is_elsewhere(l))
        return false;
    pthread_mutex_lock(&l->v->s->mutex);
    enum err_code code = catalog_begin(c, &e);
    if (!code)
        code = catalog_drop_file(c, &l->layer->digest, l->file->path, &e);
    if (!code)
        code = catalog_commit(c, NULL, &e);
    catalog_rollback(c);
    pthread_mutex_unlock(&l->v->s->mutex);
    log_line(LOG_INFO, "msg=\"a file by reference is no longer what it was, and its model has it elsewhere\" path=\"%s\"",
             l->path);
    if (code)
        log_line(LOG_WARN, "msg=\"a place could not be forgotten\" error=\"%s\"", e.text);
    return !code;
}

static enum err_code look_at(struct verifying *v, const struct store_model *m, const struct catalog_layer *layer,
                             const struct catalog_file *file, struct err *e)
{
    char hex[DIGEST_HEX_SIZE], name[DIGEST_FILE_SIZE];
    struct look l = { .v = v, .model = m, .layer = layer, .file = file, .fd = -1 };
    buf_init(&l.text, sizeof((struct err *)0)->text * 2);
    digest_hex(&layer->digest, hex);
    digest_file_name(&layer->digest, name);
    snprintf(l.hex12, sizeof l.hex12, "%.12s", hex);
    snprintf(l.status, sizeof l.status, "verifying %s", l.hex12);
    if (is_own(&l))
        snprintf(l.path, sizeof l.path, "%s/blobs/%s", v->s->home, name);
    else
        snprintf(l.path, sizeof l.path, "%s", file->path);
    l.verdict = (struct store_verdict){ .model = m->name, .path = l.path, .digest = layer->digest,
                                        .size = layer->size, .by_reference = !is_own(&l) };
    enum err_code code = judge(&l, e);
    if (!code && !forget_place(&l))
        report(&l);
    if (l.given_up)
        code = err_set(e, ERR_CANCELLED, "repairing was cancelled");
    if (l.fd >= 0)
        close(l.fd);
    mem_free(l.bad);
    mem_free(l.list);
    buf_finish(&l.text);
    return code;
}

/* ---- the files of models --------------------------------------------------------------------- */

static bool seen(const struct verifying *v, const struct digest *d)
{
    for (size_t i = 0; i < v->n_seen; i++)
        if (digest_eq(&v->seen[i], d))
            return true;
    return false;
}

static enum err_code verify_layer(struct verifying *v, const struct store_model *m,
                                  const struct catalog_layer *layer, struct err *e)
{
    enum err_code code = ERR_OK;
    if (seen(v, &layer->digest))
        return ERR_OK;
    if (!mem_grow(&v->seen, &v->cap, v->n_seen + 1, sizeof *v->seen, SIZE_MAX / sizeof *v->seen))
        return err_no_memory(e, sizeof *v->seen, "verifying models");
    v->seen[v->n_seen++] = layer->digest;
    for (size_t i = 0; !code && i < layer->n_files; i++) {
        code = store_job_cancelled(&v->in->job) ? err_set(e, ERR_CANCELLED, "verifying was cancelled") : ERR_OK;
        if (!code)
            code = look_at(v, m, layer, &layer->files[i], e);
    }
    return code;
}

static enum err_code verify_model(struct verifying *v, const char *text, struct err *e)
{
    struct name name;
    struct catalog_ref ref;
    struct catalog_layer *layers = NULL;
    struct model_box *box = NULL;
    size_t n = 0;
    pthread_mutex_lock(&v->s->mutex);
    enum err_code code = store_find(v->s, text, &name, &ref, e);
    if (!code)
        code = model_box_read(v->s, &ref, &box, &layers, &n, e);
    pthread_mutex_unlock(&v->s->mutex);
    for (size_t i = 0; !code && i < n; i++)
        code = verify_layer(v, &box->model, &layers[i], e);
    model_box_destroy(box);
    return code;
}

static enum err_code verify_all(struct verifying *v, struct err *e)
{
    struct store_list *list = NULL;
    enum err_code code = store_list(v->s, &list, e);
    for (size_t i = 0; !code && i < list->n; i++) {
        code = verify_model(v, list->models[i].canonical, e);
        if (code == ERR_NOT_FOUND) /* removed since */
            code = ERR_OK;
    }
    store_list_destroy(list);
    return code;
}

enum err_code store_verify(struct store *s, const struct store_verify *in, struct store_verified *out,
                           struct err *e)
{
    struct verifying v = { .s = s, .in = in, .out = out };
    *out = (struct store_verified){ 0 };
    enum err_code code = in->name ? verify_model(&v, in->name, e) : verify_all(&v, e);
    mem_free(v.seen);
    return code;
}
