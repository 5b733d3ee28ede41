/* /api/export, and /api/import of what it wrote: bundles of models (store/bundle.h).
 *
 * A path is the client's: it is opened for whoever may open it without us, a client of this user on
 * the Unix socket. A file appears whole or not at all; a named pipe that is there is written into, which is how the
 * command gets a bundle for its standard output. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/body.h"
#include "daemon/bundle_api.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define MAX_TOOK ((size_t)1 << 20) /* bytes that tell of the models */
#define POLL_MS 200

/* ---- export ---------------------------------------------------------------------------------------- */

struct export {
    struct daemon *d;
    struct export_request req;
    const char *path;          /* of req */
    const struct store_job *job;
    char part[PATH_MAX + 32];  /* a file's name until it is whole; "": a pipe */
    int fd;
    uint64_t written;
};

/* A pipe takes what its reader leaves room for; a client that leaves is noticed. */
static enum err_code wait_for_room(struct export *x, struct err *e)
{
    struct pollfd p = { .fd = x->fd, .events = POLLOUT };
    while (poll(&p, 1, POLL_MS) == 0 || !p.revents)
        if (store_job_cancelled(x->job))
            return err_set(e, ERR_CANCELLED, "the export was cancelled");
    return ERR_OK;
}

static enum err_code write_out(void *user, const void *bytes, size_t n, struct err *e)
{
    struct export *x = user;
    enum err_code c = ERR_OK;
    for (size_t done = 0; done < n && !c;) {
        ssize_t w = write(x->fd, (const char *)bytes + done, n - done);
        if (w < 0 && errno == EAGAIN)
            c = wait_for_room(x, e);
        else if (w < 0 && errno != EINTR)
            c = err_errno(e, ERR_IO, errno, "writing '%s'", x->path);
        done += w > 0 ? (size_t)w : 0;
        x->written += w > 0 ? (uint64_t)w : 0;
    }
    return c;
}

static enum err_code open_out(struct export *x, struct err *e)
{
    struct stat st;
    bool there = lstat(x->path, &st) == 0;
    if (there && !S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
        return err_set(e, ERR_INVALID, "'%s' is there, and is no plain file", x->path);
    if (there && S_ISFIFO(st.st_mode)) {
        x->fd = open(x->path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    } else {
        snprintf(x->part, sizeof x->part, "%s.%08x.part", x->path, (unsigned)clock_wall_ns());
        x->fd = open(x->part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (x->fd < 0)
            x->part[0] = '\0';
    }
    return x->fd >= 0 ? ERR_OK : err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening '%s' for writing", x->path);
}

static void sync_folder(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int n = (int)(slash - path);
    snprintf(dir, sizeof dir, "%.*s", n ? n : 1, path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static enum err_code close_out(struct export *x, enum err_code c, struct err *e)
{
    bool file = x->part[0] != '\0';
    if (!c && file && fsync(x->fd) < 0)
        c = err_errno(e, ERR_IO, errno, "writing '%s'", x->path);
    if (x->fd >= 0 && close(x->fd) < 0 && !c)
        c = err_errno(e, ERR_IO, errno, "writing '%s'", x->path);
    if (!c && file && rename(x->part, x->path) < 0)
        c = err_errno(e, ERR_IO, errno, "writing '%s'", x->path);
    if (c && file)
        unlink(x->part);
    if (!c && file)
        sync_folder(x->path);
    return c;
}

static enum err_code export_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct export *x = user;
    const char *names[EXPORT_MAX_MODELS];
    size_t n = json_array_size(x->req.models);
    for (size_t i = 0; i < n; i++)
        names[i] = json_string_value(json_array_get(x->req.models, i));
    x->job = job;
    enum err_code c = open_out(x, e);
    if (!c)
        c = store_export(x->d->store, names, n, &(struct tar_sink){ write_out, x }, job, e);
    c = close_out(x, c, e);
    if (!c) {
        struct json_out j;
        json_begin(&j, last);
        json_obj(&j);
        json_kstr(&j, "status", "success");
        json_kstr(&j, "path", x->path);
        json_kint(&j, "size", (int64_t)x->written);
        json_obj_end(&j);
    }
    return c;
}

static void export_free(struct export *x)
{
    export_request_finish(&x->req);
    mem_free(x);
}

static void export_done(void *user, enum err_code result)
{
    (void)result;
    export_free(user);
}

static enum err_code export_read(struct export *x, const struct http_request *r, struct err *e)
{
    json_t *root = NULL;
    enum err_code c = body_json(r, &root, e);
    c = c ? c : export_request_read(root, &x->req, e);
    x->path = x->req.path.p;
    return c ? c : path_allowed(r, e);
}

void bundle_export(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e = { 0 };
    struct export *x = mem_zero(1, sizeof *x);
    enum err_code c = x ? export_read(x, r, &e) : err_no_memory(&e, sizeof *x, "a request");
    if (c) {
        reply_err(d, r, &e);
        if (x)
            export_free(x);
        return;
    }
    x->d = d;
    x->fd = -1;
    store_call_start(d, r, &(struct store_call_options){
        .kind = "export",
        .name = str_from(json_string_value(json_array_get(x->req.models, 0))),
        .stream = x->req.stream,
        .user = x,
        .work = export_work,
        .done = export_done,
    });
}

/* ---- import ---------------------------------------------------------------------------------------- */

struct took {
    struct json_out j;
    struct buf list;
};

static void on_took(void *user, const struct store_model *m)
{
    struct took *t = user;
    json_obj(&t->j);
    json_kstr(&t->j, "model", m->name);
    json_kstr(&t->j, "digest", m->digest_hex);
    json_kint(&t->j, "size", (int64_t)m->size);
    json_obj_end(&t->j);
}

enum err_code bundle_import(struct daemon *d, int fd, const char *path, const char *as, const struct store_job *job,
                            struct buf *last, struct err *e)
{
    struct took t;
    struct store_bundle in = { .fd = fd, .path = path, .as = as, .job = *job, .took = on_took, .user = &t };
    buf_init(&t.list, MAX_TOOK);
    json_begin(&t.j, &t.list);
    json_arr(&t.j);
    enum err_code c = store_import_bundle(d->store, &in, e);
    json_arr_end(&t.j);
    if (!c) {
        struct json_out j;
        json_begin(&j, last);
        json_obj(&j);
        json_kstr(&j, "status", "success");
        json_key(&j, "models");
        json_raw_value(&j, buf_str(&t.list));
        json_obj_end(&j);
    }
    buf_finish(&t.list);
    return c;
}
