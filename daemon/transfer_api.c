/* Routes whose work takes long: each reads its request, and hands a call of the store to
 * store_job.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/body.h"
#include "daemon/bundle_api.h"
#include "daemon/inspect.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

/* ---- stop ----------------------------------------------------------------------------------------- */

/* DELETE /api/pull: ends what is under way about a name, detached or not. */
void transfer_stop(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct model_request req = { 0 };
    struct err e = { 0 };
    struct buf reply;
    struct json_out j;
    json_t *root = NULL;
    size_t n = 0;
    enum err_code c = body_json(r, &root, &e);
    c = c ? c : model_request_read(REQUEST_DELETE, root, &req, &e);
    if (!c && !(n = store_call_stop(d, req.model)))
        c = err_set(&e, ERR_NOT_FOUND, "nothing is under way for '%.*s'", (int)(req.model.n < 200 ? req.model.n : 200),
                    req.model.p);
    model_request_finish(&req);
    if (c) {
        reply_err(d, r, &e);
        return;
    }
    buf_init(&reply, 256);
    json_begin(&j, &reply);
    json_obj(&j);
    json_kint(&j, "stopped", (int64_t)n);
    json_obj_end(&j);
    reply_json(d, r, 200, &reply);
}

/* ---- import --------------------------------------------------------------------------------------- */

/* "NAME-00001-of-00003.gguf": where the two numbers stand. */
static bool split_name(const char *path, size_t *at, unsigned *count)
{
    size_t n = strlen(path);
    unsigned one;
    int used = 0;
    if (n < 20)
        return false;
    *at = n - 20;
    return sscanf(path + *at, "-%5u-of-%5u.gguf%n", &one, count, &used) == 2 && used == 20 &&
           *count >= 1 && *count <= STORE_MAX_FILES;
}

struct parts {
    struct store_import_file *file;
    char **path;
    size_t n;
};

static void parts_close(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->file && p->file[i].fd >= 0)
            close(p->file[i].fd);
        if (p->path)
            mem_free(p->path[i]);
    }
    mem_free(p->file);
    mem_free(p->path);
    *p = (struct parts){ 0 };
}

static enum err_code parts_open(const char *path, struct parts *p, struct err *e)
{
    size_t at = 0;
    unsigned count = 0;
    bool split = split_name(path, &at, &count);
    size_t n = split ? count : 1;
    *p = (struct parts){ .file = mem_zero(n, sizeof *p->file), .path = mem_zero(n, sizeof *p->path) };
    if (!p->file || !p->path)
        return err_no_memory(e, n * sizeof *p->file, "the parts of a model");
    for (size_t i = 0; i < n; i++)
        p->file[i].fd = -1;
    p->n = n;
    for (unsigned i = 0; i < p->n; i++) {
        p->path[i] = mem_strdup(path);
        if (!p->path[i])
            return err_no_memory(e, strlen(path), "a path");
        if (split) {
            char number[16];
            snprintf(number, sizeof number, "%05u", i + 1);
            memcpy(p->path[i] + at + 1, number, 5);
        }
        p->file[i].path = p->path[i];
        p->file[i].fd = open(p->path[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (p->file[i].fd < 0)
            return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening '%s'",
                             p->path[i]);
    }
    return ERR_OK;
}

struct import {
    struct daemon *d;
    struct model_request req;
    char *path, *name;
    const struct store_job *job; /* while it runs */
};

static void import_free(struct import *i)
{
    model_request_finish(&i->req);
    mem_free(i->path);
    mem_free(i->name);
    mem_free(i);
}

static bool import_progress(void *user, uint64_t done, uint64_t total)
{
    struct import *i = user;
    struct store_event ev = { .status = i->req.reference ? "checking the file" : "copying the file",
                              .completed = done, .total = total };
    i->job->event(i->job->user, &ev);
    return !store_job_cancelled(i->job);
}

static void put_imported(struct buf *out, const struct store_model *m)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "status", "success");
    json_kstr(&j, "model", m->name);
    json_kstr(&j, "digest", m->digest_hex);
    json_kint(&j, "size", (int64_t)m->size);
    json_obj_end(&j);
}

static enum err_code import_work(void *user, const struct store_job *job, struct buf *last,
                                 struct err *e)
{
    struct import *i = user;
    struct parts parts = { 0 };
    struct store_facts facts;
    struct arena arena = { 0 };
    struct store_model *m = NULL;
    i->job = job;
    enum err_code c = parts_open(i->path, &parts, e);
    if (!c && store_is_bundle(parts.file[0].fd)) {
        c = bundle_import(i->d, parts.file[0].fd, i->path, i->name[0] ? i->name : NULL, job, last, e);
        parts_close(&parts);
        return c;
    }
    if (!c && !i->name[0])
        c = err_set(e, ERR_INVALID, "model is required");
    c = c ? c : inspect_files(NULL, (const char *const *)parts.path, parts.n, (struct str){ 0 }, &arena, &facts, e);
    if (!c) {
        struct store_import in = {
            .name = i->name,
            .files = parts.file,
            .n_files = parts.n,
            .mode = i->req.reference ? STORE_REFERENCE : STORE_COPY,
            .facts = facts,
            .progress = import_progress,
            .user = i,
        };
        c = store_import(i->d->store, &in, &m, e);
    }
    if (!c)
        put_imported(last, m);
    store_model_destroy(m);
    arena_finish(&arena);
    parts_close(&parts);
    return c;
}

static void import_done(void *user, enum err_code result)
{
    (void)result;
    import_free(user);
}

static enum err_code import_read(struct import *i, const struct http_request *r, struct err *e)
{
    json_t *root = NULL;
    enum err_code c = body_json(r, &root, e);
    c = c ? c : model_request_read(REQUEST_IMPORT, root, &i->req, e);
    if (c)
        return c;
    c = path_allowed(r, e);
    if (c)
        return c;
    i->path = mem_strndup(i->req.path.p, i->req.path.n);
    i->name = mem_strndup(i->req.model.n ? i->req.model.p : "", i->req.model.n);
    return i->path && i->name ? ERR_OK : err_no_memory(e, i->req.path.n, "a path");
}

/* A path is opened for whoever may open it without us: a client of this user on the socket. */
void transfer_import(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e = { 0 };
    struct import *i = mem_zero(1, sizeof *i);
    enum err_code c = i ? import_read(i, r, &e) : err_no_memory(&e, sizeof *i, "a request");
    if (c) {
        reply_err(d, r, &e);
        if (i)
            import_free(i);
        return;
    }
    i->d = d;
    store_call_start(d, r, &(struct store_call_options){
        .kind = "import",
        .name = i->req.model,
        .stream = i->req.stream,
        .user = i,
        .work = import_work,
        .done = import_done,
    });
}
