/* /api/pull, /api/push and /api/outdated: the store's calls that want a network. */
#include <string.h>

#include "daemon/body.h"
#include "daemon/loader.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/media.h"
#include "store/pull.h"
#include "store/push.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))

struct pull {
    struct daemon *d;
    struct http_request *http; /* until it is handed on */
    struct pull_request req;   /* its strings end with NUL, as the tree has them */
    const struct pull_kind *kind;
    struct engine_open open;   /* for a plan: the device that the model would run on */
};

struct pull_kind {
    const char *name;
    enum err_code (*work)(void *user, const struct store_job *job, struct buf *last, struct err *e);
};

static const char *text_or_null(struct str s)
{
    return s.n ? s.p : NULL;
}

static struct store_secrets secrets_of(const struct pull_request *r)
{
    return (struct store_secrets){ .hf_token = text_or_null(r->hf_token),
                                   .username = text_or_null(r->username),
                                   .password = text_or_null(r->password) };
}

/* ---- pull ------------------------------------------------------------------------------------------ */

/* The files of a model that go to the device. */
static bool on_device(const char *kind)
{
    return strcmp(kind, media_kind_name(MEDIA_MODEL)) == 0 ||
           strcmp(kind, media_kind_name(MEDIA_PROJECTOR)) == 0 ||
           strcmp(kind, media_kind_name(MEDIA_ADAPTER)) == 0;
}

/* What the model takes of the device. Of one that is here already its header tells; of another it is its
 * files and an eighth for the context. */
static uint64_t device_needs(struct pull *p, const struct store_plan *plan)
{
    struct store_model *m = NULL;
    struct model_estimate x;
    uint64_t here = 0, files = 0;
    bool known = true;
    if (plan->present && store_resolve(p->d->store, plan->name, &m, NULL) == ERR_OK && m->path &&
        model_estimate(&(struct model_options){ .path = m->path, .n_seq = 1 }, &x, NULL) == ERR_OK)
        here = x.weight_bytes + x.kv_bytes + x.scratch_bytes;
    store_model_destroy(m);
    for (size_t i = 0; i < plan->n_files; i++)
        if (on_device(plan->files[i].kind)) {
            known &= plan->files[i].size > 0;
            files += plan->files[i].size;
        }
    return here ? here : known ? files + files / 8 : 0;
}

static enum err_code put_plan(struct pull *p, const struct store_plan *plan, struct buf *out,
                              struct err *e)
{
    struct plan_file *files = mem_zero(plan->n_files, sizeof *files);
    if (!files)
        return err_no_memory(e, plan->n_files * sizeof *files, "the plan of a pull");
    for (size_t i = 0; i < plan->n_files; i++)
        files[i] = (struct plan_file){ .name = str_from(plan->files[i].name),
                                       .kind = str_from(plan->files[i].kind),
                                       .size = plan->files[i].size,
                                       .missing = plan->files[i].missing };
    struct plan_reply reply = {
        .model = str_from(plan->name),
        .source = str_from(plan->source),
        .revision = str_from(plan->revision),
        .license = str_from(plan->license),
        .files = files,
        .n_files = plan->n_files,
        .size = plan->size,
        .missing = plan->missing,
        .disk_free = plan->disk_free,
        .present = plan->present,
    };
    if (!p->open.err.code && p->open.device.name[0]) {
        reply.device = str_from(p->open.device.name);
        reply.device_budget = loader_budget(&p->open.device);
        reply.device_needs = device_needs(p, plan);
    }
    plan_write(out, &reply);
    mem_free(files);
    return ERR_OK;
}

static enum err_code pull_work(void *user, const struct store_job *job, struct buf *last,
                               struct err *e)
{
    struct pull *p = user;
    struct store_model *m = NULL;
    struct store_plan *plan = NULL;
    struct json_out j;
    struct store_pull in = {
        .name = p->req.model.p,
        .as = text_or_null(p->req.as),
        .insecure = p->req.insecure,
        .limit_rate = p->req.limit_rate,
        .secrets = secrets_of(&p->req),
        .job = *job,
    };
    enum err_code c = p->req.dry_run ? store_pull_plan(p->d->store, &in, &plan, e)
                                     : store_pull(p->d->store, &in, &m, e);
    if (!c && plan)
        c = put_plan(p, plan, last, e);
    if (!c && m) {
        json_begin(&j, last);
        json_obj(&j);
        json_kstr(&j, "status", "success");
        json_kstr(&j, "model", m->name); /* a URL's own name is made up here */
        json_kstr(&j, "model_digest", m->digest_hex); /* clients take a line with "digest" for one of a blob */
        json_obj_end(&j);
    }
    store_plan_destroy(plan);
    store_model_destroy(m);
    return c;
}

/* ---- push ------------------------------------------------------------------------------------------ */

static enum err_code push_work(void *user, const struct store_job *job, struct buf *last,
                               struct err *e)
{
    struct pull *p = user;
    struct store_push in = {
        .name = p->req.model.p,
        .to = text_or_null(p->req.destination),
        .insecure = p->req.insecure,
        .limit_rate = p->req.limit_rate,
        .secrets = secrets_of(&p->req),
        .job = *job,
    };
    (void)last;
    return store_push(p->d->store, &in, e);
}

/* ---- outdated -------------------------------------------------------------------------------------- */

struct check { /* of one model; lives with the list */
    struct outdated_entry entry;
    char revision[80];
    char *source;
    struct err err;
};

/* A place that does not answer is told of in its row; being offline is an error of them all. *told: there is a row. */
static enum err_code check_one(struct pull *p, const char *name, struct check *x, const struct store_job *job, bool *told,
                               struct err *e)
{
    struct store_secrets secrets = secrets_of(&p->req);
    char source[SOURCE_TEXT_MAX + 1] = "";
    *told = false;
    if (!p->req.model.n) /* a name and a password are one registry's, and these are many */
        secrets.username = secrets.password = NULL;
    const struct store_pull in = { .name = name, .insecure = p->req.insecure, .secrets = secrets, .job = *job };
    enum err_code c = store_outdated(p->d->store, &in, &x->entry.outdated, x->revision, source, &x->err);
    if (c == ERR_UNSUPPORTED)
        return ERR_OK;
    if (c == ERR_CONFLICT || c == ERR_CANCELLED)
        return err_set(e, c, "%s", x->err.text);
    x->source = mem_strdup(source);
    if (!x->source)
        return err_no_memory(e, sizeof source, "the list of models");
    x->entry.name = str_from(name);
    x->entry.source = str_from(x->source);
    x->entry.revision = str_from(c ? NULL : x->revision);
    x->entry.error = str_from(c ? x->err.text : NULL);
    *told = true;
    return ERR_OK;
}

/* Asks the place of each model once; only: of this one alone. */
static enum err_code check_all(struct pull *p, const struct store_list *list, const char *only, struct check *checks,
                               size_t *n, const struct store_job *job, struct err *e)
{
    enum err_code c = ERR_OK;
    bool told;
    *n = 0;
    for (size_t i = 0; i < list->n && !c; i++) {
        if (only && strcmp(only, list->models[i].name) != 0)
            continue;
        c = store_job_cancelled(job) ? err_set(e, ERR_CANCELLED, "request canceled")
                                     : check_one(p, list->models[i].name, &checks[*n], job, &told, e);
        *n += !c && told;
    }
    return c;
}

static enum err_code outdated_work(void *user, const struct store_job *job, struct buf *last,
                                   struct err *e)
{
    struct pull *p = user;
    struct store_list *list = NULL;
    struct store_model *only = NULL;
    struct check *checks = NULL;
    struct outdated_entry *rows = NULL;
    size_t n = 0;
    enum err_code c = store_list_matching(p->d->store, p->req.filter.n ? p->req.filter.p : "", &list, e);
    if (!c && p->req.model.n)
        c = store_resolve(p->d->store, p->req.model.p, &only, e);
    if (!c) {
        checks = mem_zero(list->n, sizeof *checks);
        rows = mem_zero(list->n, sizeof *rows);
        c = checks && rows ? check_all(p, list, only ? only->name : NULL, checks, &n, job, e)
                           : err_no_memory(e, list->n * sizeof *checks, "the list of models");
    }
    for (size_t i = 0; i < n && !c; i++)
        rows[i] = checks[i].entry;
    if (!c)
        outdated_write(last, rows, n);
    for (size_t i = 0; checks && i < list->n; i++)
        mem_free(checks[i].source);
    mem_free(rows);
    mem_free(checks);
    store_model_destroy(only);
    store_list_destroy(list);
    return c;
}

/* ---- the routes ------------------------------------------------------------------------------------ */

static const struct pull_kind kinds[] = {
    [PULL_PULL] = { "pull", pull_work },
    [PULL_PUSH] = { "push", push_work },
    [PULL_OUTDATED] = { "outdated", outdated_work },
};

static void pull_free(struct pull *p)
{
    pull_request_finish(&p->req);
    mem_free(p);
}

static void pull_done(void *user, enum err_code result)
{
    (void)result;
    pull_free(user);
}

static void begin(struct pull *p)
{
    store_call_start(p->d, p->http, &(struct store_call_options){
        .kind = p->kind->name,
        .name = p->req.model,
        .stream = p->req.stream,
        .detach = p->req.detach,
        .user = p,
        .work = p->kind->work,
        .done = pull_done,
    });
}

static void done_open(struct job *j)
{
    begin(OWNER(struct pull, open.job, j));
}

static enum err_code read_request(struct pull *p, enum pull_route route, struct err *e)
{
    json_t *root;
    pull_request_init(&p->req);
    if (route == PULL_OUTDATED && body_is_empty(p->http)) /* all models */
        return ERR_OK;
    enum err_code c = body_json(p->http, &root, e);
    return c ? c : pull_request_read(root, route != PULL_OUTDATED, &p->req, e);
}

void transfer_pull(struct daemon *d, struct http_request *r, int route)
{
    struct err e = { 0 };
    struct pull *p = mem_zero(1, sizeof *p);
    if (!p) {
        err_no_memory(&e, sizeof *p, "a request");
        reply_err(d, r, &e);
        return;
    }
    p->d = d;
    p->http = r;
    p->kind = &kinds[route];
    if (read_request(p, (enum pull_route)route, &e)) {
        reply_err(d, r, &e);
        pull_free(p);
        return;
    }
    if (route == PULL_OUTDATED)
        p->req.stream = false;
    p->open.job.done = done_open;
    if (!p->req.dry_run || engine_open(d->engine, &p->open, &p->open.err))
        begin(p);
}
