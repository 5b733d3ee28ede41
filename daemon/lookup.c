#include "daemon/lookup.h"

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "store/upload.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))

static void work_resolve(struct job *j)
{
    struct lookup *l = OWNER(struct lookup, job, j);
    uploads_prune(l->d->uploads, clock_ns()); /* by the way: what nobody named goes */
    if (store_resolve(l->d->store, l->name, &l->model, &l->err)) {
        l->model = NULL;
        return;
    }
    if (!l->model->path || !file_identity_read(l->model->path, &l->identity)) {
        err_set(&l->err, ERR_NOT_FOUND, "model '%s': its file is gone", l->name);
        store_model_destroy(l->model);
        l->model = NULL;
    } else if (model_texts_read(l->d->store, l->model, &l->texts, &l->err)) {
        store_model_destroy(l->model);
        l->model = NULL;
    }
}

static void words_ready(struct words_want *w)
{
    struct lookup *l = OWNER(struct lookup, want, w);
    l->entry = w->entry;
    if (!l->entry)
        l->err = w->err;
    l->done(l);
}

static void done_resolve(struct job *j)
{
    struct lookup *l = OWNER(struct lookup, job, j);
    if (!l->model || l->without_words) {
        l->done(l);
        return;
    }
    l->want = (struct words_want){
        .path = l->model->path,
        .identity = l->identity,
        .template = l->texts.template,
        .ready = words_ready,
    };
    words_cache_get(l->d->words, &l->want);
}

enum err_code lookup_start(struct lookup *l, struct daemon *d, struct str name, bool without_words,
                           void (*done)(struct lookup *l), struct err *e)
{
    *l = (struct lookup){ .d = d, .done = done, .without_words = without_words };
    l->name = mem_strndup(name.p, name.n);
    if (!l->name)
        return err_no_memory(e, name.n, "a model's name");
    l->job.work = work_resolve;
    l->job.done = done_resolve;
    return jobs_submit(d->jobs, LANE_STORE, &l->job, e);
}

void lookup_finish(struct lookup *l)
{
    if (l->d)
        words_cache_put(l->d->words, l->entry);
    store_model_destroy(l->model);
    model_texts_finish(&l->texts);
    mem_free(l->name);
    *l = (struct lookup){ 0 };
}

const struct words *lookup_words(const struct lookup *l)
{
    return words_entry_words(l->entry);
}

const struct chat_template *lookup_template(const struct lookup *l)
{
    return words_entry_template(l->entry);
}
