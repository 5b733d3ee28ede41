/* Routes about models: what there is, what is in memory, and taking models in and out. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/body.h"
#include "daemon/loader.h"
#include "daemon/lookup.h"
#include "daemon/model_texts.h"
#include "daemon/prompt.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/commit.h"
#include "store/keys.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))
#define MAX_REPLY ((size_t)512 << 20)
#define MAX_TRANSFERS 80 /* of the lane: at work and waiting */
#define FOREVER_NS (INT64_C(100) * 365 * 86400 * 1000000000) /* how "for ever" is shown */

void models_version(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct buf b;
    buf_init(&b, 256);
    version_write(&b, OLLAMA_SPOKEN, HEARTH_VERSION);
    reply_json(d, r, 200, &b);
}

/* ---- one request that a thread works on ---------------------------------------------------------- */

struct task {
    struct daemon *d;
    struct http_request *http;
    struct job job;
    struct lookup lookup;
    bool looked_up;
    struct model_request req;
    struct buf reply;    /* the body of a 200; empty for copy and delete */
    char *path;          /* delete: of the model's file */
    char *filter;        /* tags; NULL: none */
    atomic_bool gone;
    enum err_code (*act)(struct task *t, struct err *e); /* Thread: the lane's */
    struct err err;      /* set when err.code is */
};

static void task_end(struct task *t)
{
    if (t->looked_up)
        lookup_finish(&t->lookup);
    model_request_finish(&t->req);
    buf_finish(&t->reply);
    mem_free(t->path);
    mem_free(t->filter);
    mem_free(t);
}

static void task_reply(struct task *t)
{
    if (t->err.code)
        reply_err(t->d, t->http, &t->err);
    else
        reply_json(t->d, t->http, 200, &t->reply);
    task_end(t);
}

static void task_done(struct job *j)
{
    task_reply(OWNER(struct task, job, j));
}

static void task_gone(struct http_request *r)
{
    struct task *t = r->user;
    atomic_store(&t->gone, true);
}

static struct task *task_create(struct daemon *d, struct http_request *r)
{
    struct task *t = mem_zero(1, sizeof *t);
    if (!t) {
        struct err e;
        err_no_memory(&e, sizeof *t, "a request");
        reply_err(d, r, &e);
        return NULL;
    }
    t->d = d;
    t->http = r;
    r->user = t;
    r->on_gone = task_gone;
    buf_init(&t->reply, MAX_REPLY);
    return t;
}

static void task_work(struct job *j)
{
    struct task *t = OWNER(struct task, job, j);
    t->err.code = t->act(t, &t->err);
}

static void task_submit(struct task *t, enum lane lane,
                        enum err_code (*act)(struct task *t, struct err *e),
                        void (*done)(struct job *))
{
    t->act = act;
    t->job = (struct job){ .work = task_work, .done = done };
    if (jobs_submit(t->d->jobs, lane, &t->job, &t->err))
        task_reply(t);
}

/* A task with its body read; NULL: answered. */
static struct task *task_read(struct daemon *d, struct http_request *r,
                              enum model_request_kind kind)
{
    struct task *t = task_create(d, r);
    json_t *root;
    if (!t)
        return NULL;
    t->err.code = body_json(r, &root, &t->err);
    if (!t->err.code)
        t->err.code = model_request_read(kind, root, &t->req, &t->err);
    if (!t->err.code)
        return t;
    task_reply(t);
    return NULL;
}

static char *text_of(struct str s)
{
    return mem_strndup(s.p, s.n);
}

/* The store names a model as it keeps it; the client gets the name that it sent. */
static enum err_code not_found(enum err_code c, struct str name, struct err *e)
{
    if (c != ERR_NOT_FOUND || !str_ends(str_from(e->text), STR("not found")))
        return c;
    return err_set(e, c, "model '%.*s' not found", (int)(name.n < 200 ? name.n : 200), name.p);
}

/* ---- tags, ps ------------------------------------------------------------------------------------- */

static struct model_details details_of(const struct store_model *m)
{
    return (struct model_details){
        .format = str_from(m->facts.format),
        .family = str_from(m->facts.family),
        .parameter_size = str_from(m->parameter_size),
        .quantization_level = str_from(m->facts.quantization),
        .context_length = m->facts.context_length,
        .embedding_length = m->facts.embedding_length,
    };
}

static enum err_code act_tags(struct task *t, struct err *e)
{
    struct store_list *list;
    enum err_code c = store_list_matching(t->d->store, t->filter ? t->filter : "", &list, e);
    if (c)
        return c;
    struct model_entry *v = mem_zero(list->n, sizeof *v);
    if (!v)
        c = err_no_memory(e, list->n * sizeof *v, "the list of models");
    for (size_t i = 0; v && i < list->n; i++) {
        const struct store_model *m = &list->models[i];
        v[i] = (struct model_entry){
            .name = str_from(m->name),
            .digest = str_from(m->digest_hex),
            .size = m->size,
            .modified_wall_ns = m->modified_ns,
            .details = details_of(m),
            .context_length = m->facts.context_length,
            .referenced = m->by_reference,
            .capabilities = str_from(m->facts.capabilities),
            .origin = str_from(m->origin),
            .source = str_from(m->source),
            .revision = str_from(m->revision),
            .license = str_from(m->facts.license),
        };
    }
    if (v)
        model_list_write(&t->reply, LIST_TAGS, v, list->n, (struct str){ 0 });
    mem_free(v);
    store_list_destroy(list);
    return c;
}

static enum err_code act_key(struct task *t, struct err *e)
{
    struct json_out j;
    struct buf key;
    buf_init(&key, 4096);
    enum err_code c = keys_public(t->d->store, &key, e);
    if (!c) {
        json_begin(&j, &t->reply);
        json_obj(&j);
        json_kstr(&j, "key", key.p);
        json_obj_end(&j);
        if (key.failed || t->reply.failed)
            c = err_no_memory(e, key.n, "the store's key");
    }
    buf_finish(&key);
    return c;
}

void models_key(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct task *t = task_create(d, r);
    if (t)
        task_submit(t, LANE_STORE, act_key, task_done);
}

void models_tags(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct task *t = task_create(d, r);
    if (!t)
        return;
    t->filter = http_query(r, "filter");
    task_submit(t, LANE_STORE, act_tags, task_done);
}

static struct model_entry running_entry(struct daemon *d, const struct resident *r)
{
    int64_t at = residency_deadline(&r->fact), now = clock_ns(), wall = clock_wall_ns();
    if (r->fact.users && r->fact.keep_ns >= 0) /* at work: as if it ended now */
        at = now + r->fact.keep_ns;
    return (struct model_entry){
        .name = str_from(r->name),
        .digest = str_from(r->digest),
        .size = r->info.device_bytes,
        .size_vram = r->device.software ? 0 : r->info.device_bytes,
        .details = { .format = STR("gguf"), .family = str_from(r->info.arch),
                     .parameter_size = str_from(r->parameter_size),
                     .quantization_level = str_from(r->quantization) },
        .expires_wall_ns = wall + (at == RESIDENCY_NEVER ? FOREVER_NS : at - now),
        .context_length = r->n_ctx,
        .sessions = r->n_seq,
        .active = engine_model_active(d->engine, r->model),
        .reproducible = r->info.reproducible,
    };
}

static void sort_by_expiry(struct model_entry *v, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = i; k && v[k].expires_wall_ns > v[k - 1].expires_wall_ns; k--) {
            struct model_entry x = v[k];
            v[k] = v[k - 1];
            v[k - 1] = x;
        }
}

void models_ps(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct model_entry v[64];
    struct transfer_entry under_way[MAX_TRANSFERS];
    struct buf b, transfers;
    size_t n = 0;
    for (const struct resident *x = loader_first(d->loader); x && n < 64; x = x->next)
        if (x->model && !x->lost)
            v[n++] = running_entry(d, x);
    sort_by_expiry(v, n);
    buf_init(&b, MAX_REPLY);
    buf_init(&transfers, MAX_REPLY);
    transfer_entry_put(&transfers, under_way, store_call_list(d, under_way, MAX_TRANSFERS));
    model_list_write(&b, LIST_PS, v, n, buf_str(&transfers));
    b.failed |= transfers.failed;
    buf_finish(&transfers);
    reply_json(d, r, 200, &b);
}

/* ---- show ----------------------------------------------------------------------------------------- */

#define MAX_LICENSES 64

/* Every licence of the model, and all of them as one text. */
static enum err_code read_licenses(struct task *t, struct arena *a, struct str out[MAX_LICENSES], size_t *n,
                                   struct buf *all, struct err *e)
{
    enum err_code c = ERR_OK;
    for (*n = 0; *n < MAX_LICENSES; ++*n) {
        struct str *text = &out[*n];
        c = store_layer_text(t->d->store, t->lookup.model, MEDIA_LICENSE, *n, a, text, e);
        if (c || !text->p)
            return c;
        buf_puts(all, *n ? "\n" : "");
        buf_put(all, text->p, text->n);
    }
    return c;
}

static void add_capabilities(struct show_reply *s, const struct lookup *l)
{
    const struct words *w = lookup_words(l);
    struct model_can can = model_can(w, lookup_template(l), words_entry_format(l->entry));
    if (words_header(w)->has_weights && !prompt_no_model(w))
        s->capabilities[s->n_capabilities++] = STR("completion");
    if (can.tools)
        s->capabilities[s->n_capabilities++] = STR("tools");
    if (can.insert)
        s->capabilities[s->n_capabilities++] = STR("insert");
    if (can.thinking)
        s->capabilities[s->n_capabilities++] = STR("thinking");
}

static struct show_reply show_of(const struct lookup *l)
{
    const struct store_model *m = l->model;
    const struct model_header *h = words_header(lookup_words(l));
    const struct chat_template *template = lookup_template(l);
    struct show_reply s = {
        .details = details_of(m),
        .template = template ? chat_template_source(template) : (struct str){ 0 },
        .template_family = words_entry_own_template(l->entry) ? (struct str){ 0 }
                                                              : str_from(words_template_family(lookup_words(l))),
        .system = l->texts.system,
        .renderer = l->texts.renderer,
        .parser = l->texts.parser,
        .requires = l->texts.requires,
        .messages = l->texts.messages,
        .modified_wall_ns = m->modified_ns,
        .digest = str_from(m->digest_hex),
        .origin = str_from(m->origin),
        .source = str_from(m->source),
        .revision = str_from(m->revision),
        .size = m->size,
    };
    if (!s.details.family.n)
        s.details.family = str_from(h->arch);
    if (!s.details.quantization_level.n)
        s.details.quantization_level = str_from(h->file_type);
    add_capabilities(&s, l);
    return s;
}

static enum err_code act_show(struct task *t, struct err *e)
{
    enum { INFO, TENSORS, MODELFILE, LICENSE, PARAMETERS, BUFS };
    const struct words *w = lookup_words(&t->lookup);
    struct model_texts *texts = &t->lookup.texts;
    if (t->req.system.n)
        texts->system = t->req.system;
    struct show_reply s = show_of(&t->lookup);
    if (t->req.template.n)
        s.template = t->req.template;
    struct str licenses[MAX_LICENSES];
    struct arena arena = { 0 };
    struct buf b[BUFS];
    size_t n = 0;
    for (int i = 0; i < BUFS; i++)
        buf_init(&b[i], MAX_REPLY);
    enum err_code c = read_licenses(t, &arena, licenses, &n, &b[LICENSE], e);
    if (!c && !(c = words_metadata(w, t->req.verbose ? SIZE_MAX : 5, &b[INFO], e)) && !(c = words_tensors(w, &b[TENSORS], e))) {
        model_texts_parameters(texts, &b[PARAMETERS]);
        model_texts_modelfile(texts, t->lookup.model, s.template, licenses, n, &b[MODELFILE]);
        s.model_info = buf_str(&b[INFO]);
        s.tensors = buf_str(&b[TENSORS]);
        s.modelfile = buf_str(&b[MODELFILE]);
        s.license = buf_str(&b[LICENSE]);
        s.parameters = buf_str(&b[PARAMETERS]);
        show_reply_write(&t->reply, &s);
    }
    for (int i = 0; i < BUFS; i++) {
        t->reply.failed |= b[i].failed;
        buf_finish(&b[i]);
    }
    arena_finish(&arena);
    return c;
}

static void show_found(struct lookup *l)
{
    struct task *t = OWNER(struct task, lookup, l);
    if (l->entry) {
        task_submit(t, LANE_WORDS, act_show, task_done);
        return;
    }
    t->err = l->err;
    not_found(l->err.code, t->req.model, &t->err);
    task_reply(t);
}

void models_show(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct task *t = task_read(d, r, REQUEST_SHOW);
    if (!t)
        return;
    t->looked_up = true;
    if (lookup_start(&t->lookup, d, t->req.model, false, show_found, &t->err))
        task_reply(t);
}

/* ---- copy, delete ----------------------------------------------------------------------------------- */

static enum err_code act_copy(struct task *t, struct err *e)
{
    char *from = text_of(t->req.source), *to = text_of(t->req.destination);
    enum err_code c = from && to ? not_found(store_copy(t->d->store, from, to, e), t->req.source, e)
                                 : err_no_memory(e, t->req.source.n + t->req.destination.n, "names");
    mem_free(from);
    mem_free(to);
    return c;
}

void models_copy(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct task *t = task_read(d, r, REQUEST_COPY);
    if (t)
        task_submit(t, LANE_STORE, act_copy, task_done);
}

static enum err_code act_delete(struct task *t, struct err *e)
{
    struct store_model *m = NULL;
    char *name = text_of(t->req.model);
    if (!name)
        return err_no_memory(e, t->req.model.n, "a name");
    if (store_resolve(t->d->store, name, &m, NULL) == ERR_OK && m->path)
        t->path = mem_strdup(m->path); /* for unloading it; without it, its time runs out */
    store_model_destroy(m);
    enum err_code c = not_found(store_remove(t->d->store, name, NULL, e), t->req.model, e);
    mem_free(name);
    return c;
}

static void done_delete(struct job *j)
{
    struct task *t = OWNER(struct task, job, j);
    if (!t->err.code && t->path)
        loader_drop(t->d->loader, t->path);
    task_reply(t);
}

void models_delete(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct task *t = task_read(d, r, REQUEST_DELETE);
    if (t)
        task_submit(t, LANE_STORE, act_delete, done_delete);
}
