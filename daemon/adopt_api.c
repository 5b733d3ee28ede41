/* /api/adopt: models in the caches of other programs, listed and taken in place. */

#include "daemon/body.h"
#include "daemon/protocol_local.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "store/adopt.h"
#include "store/name.h"

struct adopt {
    struct daemon *d;
    struct adopt_request req;
};

static bool is_called(const struct adopt_found *f, struct str name)
{
    return str_ieq(name, str_from(f->name)) || name_same(name, str_from(f->name));
}

static bool is_wanted(const struct adopt_request *r, const struct adopt_found *f)
{
    bool named = false;
    for (size_t i = 0; i < r->n_names; i++)
        named = named || is_called(f, r->names[i]);
    return named || (r->all && !f->here && !f->problem);
}

static enum err_code check_names(const struct adopt_request *r, const struct adopt_list *l, struct err *e)
{
    for (size_t i = 0; i < r->n_names; i++) {
        bool there = false;
        for (size_t k = 0; k < l->n_found; k++)
            there = there || is_called(&l->found[k], r->names[i]);
        if (!there)
            return err_set(e, ERR_NOT_FOUND, "no model '%.*s' was found in another program's cache (hearth adopt "
                                             "lists them)", (int)(r->names[i].n < 200 ? r->names[i].n : 200),
                           r->names[i].p);
    }
    return ERR_OK;
}

/* One that was named must go well; of all, each goes as it can. */
static enum err_code take(struct adopt *a, const struct adopt_found *f, struct adopt_entry *x,
                          const struct store_job *job, struct buf *why, struct err *e)
{
    struct err one = { 0 };
    if (!is_wanted(&a->req, f))
        return ERR_OK;
    enum err_code c = store_adopt(a->d->store, f, job, NULL, &one);
    x->adopted = !c;
    if (!c)
        return ERR_OK;
    if (c == ERR_CANCELLED || !a->req.all || c == ERR_NO_MEMORY)
        return err_set(e, c, "%s", one.text);
    log_line(LOG_WARN, "msg=\"a model was not adopted\" error=\"%s\"", one.text);
    buf_puts(why, one.text);
    x->problem = buf_str(why);
    return ERR_OK;
}

static enum err_code take_all(struct adopt *a, const struct adopt_list *l, struct adopt_reply *reply,
                              struct buf *whys, const struct store_job *job, struct err *e)
{
    enum err_code c = check_names(&a->req, l, e);
    for (size_t i = 0; i < l->n_found; i++) {
        const struct adopt_found *f = &l->found[i];
        buf_init(&whys[i], sizeof ((struct err *)0)->text);
        reply->models[i] = (struct adopt_entry){
            .name = str_from(f->name), .kind = str_from(f->finder), .path = str_from(f->path),
            .family = str_from(f->family), .quantization = str_from(f->quantization), .size = f->size,
            .here = f->here, .problem = str_from(f->problem),
        };
        c = c ? c : take(a, f, &reply->models[i], job, &whys[i], e);
    }
    for (size_t i = 0; i < l->n_notes; i++)
        reply->notes[i] = (struct adopt_remark){ str_from(l->notes[i].path), str_from(l->notes[i].why) };
    reply->n_models = l->n_found;
    reply->n_notes = l->n_notes;
    return c;
}

static enum err_code adopt_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct adopt *a = user;
    struct adopt_root roots[ADOPT_MAX_ROOTS];
    struct adopt_list *l = NULL;
    struct adopt_reply reply = { 0 };
    for (size_t i = 0; i < a->req.n_roots; i++)
        roots[i] = (struct adopt_root){ a->req.roots[i].kind.p, a->req.roots[i].path.p };
    enum err_code c = adopt_find(a->d->store, roots, a->req.n_roots, job, &l, e);
    if (c)
        return c;
    struct buf *whys = mem_zero(l->n_found + 1, sizeof *whys);
    reply.models = mem_zero(l->n_found + 1, sizeof *reply.models);
    reply.notes = mem_zero(l->n_notes + 1, sizeof *reply.notes);
    if (!whys || !reply.models || !reply.notes)
        c = err_no_memory(e, l->n_found * sizeof *reply.models, "the models that were found");
    else
        c = take_all(a, l, &reply, whys, job, e);
    if (!c)
        adopt_reply_write(last, &reply);
    for (size_t i = 0; whys && i < reply.n_models; i++)
        buf_finish(&whys[i]);
    mem_free(whys);
    adopt_reply_finish(&reply);
    adopt_list_destroy(l);
    return c;
}

static void adopt_free(struct adopt *a)
{
    adopt_request_finish(&a->req);
    mem_free(a);
}

static void adopt_done(void *user, enum err_code result)
{
    (void)result;
    adopt_free(user);
}

static enum err_code read_request(struct adopt *a, const struct http_request *r, struct err *e)
{
    json_t *root = NULL;
    enum err_code c = body_json(r, &root, e);
    c = c ? c : adopt_request_read(root, &a->req, e);
    if (!c && path_allowed(r, NULL))
        c = err_set(e, ERR_FORBIDDEN,
                    "other programs' caches are looked into only over the Unix socket, for the daemon's own user");
    return c;
}

void transfer_adopt(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e = { 0 };
    struct adopt *a = mem_zero(1, sizeof *a);
    enum err_code c = a ? read_request(a, r, &e) : err_no_memory(&e, sizeof *a, "a request");
    if (c) {
        reply_err(d, r, &e);
        if (a)
            adopt_free(a);
        return;
    }
    a->d = d;
    store_call_start(d, r, &(struct store_call_options){
        .kind = "adopt",
        .name = a->req.n_names ? a->req.names[0] : STR(""),
        .stream = a->req.stream,
        .user = a,
        .work = adopt_work,
        .done = adopt_done,
    });
}
