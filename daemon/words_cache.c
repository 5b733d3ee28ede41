#include "daemon/words_cache.h"

#include <string.h>
#include <sys/stat.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

struct words_entry {
    struct words_entry *next;
    struct words_cache *cache;
    struct job job;
    char *path;
    struct file_identity identity;
    char *source;        /* of the model's own template; NULL: none */
    size_t source_n;
    struct words *words; /* the worker's until `ready`, and so the next three */
    struct chat_template *template;
    struct output_format *format;
    struct grammars *grammars;
    bool ready, failed;
    struct err err;
    unsigned users;
    uint64_t used;       /* of the cache's clock */
    struct words_want *waiting, **last;
};

struct words_cache {
    struct jobs *jobs;
    struct words_entry *entries;
    uint64_t clock;
};

bool file_identity_read(const char *path, struct file_identity *out)
{
    struct stat st;
    if (stat(path, &st))
        return false;
    *out = (struct file_identity){
        .dev = st.st_dev,
        .ino = st.st_ino,
        .size = (uint64_t)st.st_size,
        .mtime_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec,
    };
    return true;
}

static bool same_file(const struct file_identity *a, const struct file_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->mtime_ns == b->mtime_ns;
}

enum err_code words_cache_create(struct jobs *jobs, struct words_cache **out, struct err *e)
{
    *out = mem_zero(1, sizeof **out);
    if (!*out)
        return err_no_memory(e, sizeof **out, "the cache of vocabularies");
    (*out)->jobs = jobs;
    return ERR_OK;
}

static void entry_free(struct words_entry *x)
{
    grammars_destroy(x->grammars);
    output_format_destroy(x->format);
    chat_template_destroy(x->template);
    words_destroy(x->words);
    mem_free(x->path);
    mem_free(x->source);
    mem_free(x);
}

static void unlink_entry(struct words_entry *x)
{
    struct words_entry **at = &x->cache->entries;
    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
}

void words_cache_destroy(struct words_cache *c)
{
    if (!c)
        return;
    while (c->entries) {
        struct words_entry *x = c->entries;
        c->entries = x->next;
        entry_free(x);
    }
    mem_free(c);
}

/* Keeps the last used of what nobody holds. */
static void trim(struct words_cache *c)
{
    for (;;) {
        struct words_entry *oldest = NULL;
        size_t n = 0;
        for (struct words_entry *x = c->entries; x; x = x->next) {
            if (x->users || !x->ready)
                continue;
            n++;
            if (!oldest || x->used < oldest->used)
                oldest = x;
        }
        if (n <= WORDS_KEEP)
            return;
        unlink_entry(oldest);
        entry_free(oldest);
    }
}

static enum err_code load_template(struct words_entry *x, struct err *e)
{
    if (!x->source)
        return ERR_OK;
    enum err_code c = chat_template_create((struct str){ x->source, x->source_n }, "the model's template",
                                           &x->template, e);
    if (c == ERR_OK || c == ERR_NO_MEMORY || !words_template(x->words))
        return c;
    log_line(LOG_WARN, "msg=\"a model's template cannot be used: its file's is\" path=\"%s\"", x->path);
    return ERR_OK;
}

static enum err_code load(struct words_entry *x, struct err *e)
{
    enum err_code c = words_load(x->path, &x->words, e);
    if (c || (c = load_template(x, e)))
        return c;
    const struct tokenizer *t = words_tokenizer(x->words);
    c = output_format_create(words_entry_template(x), t, &x->format, e);
    return c || !t ? c : grammars_create(t, &x->grammars, e);
}

static void work_load(struct job *j)
{
    struct words_entry *x = (struct words_entry *)(void *)((char *)j -
                                                          offsetof(struct words_entry, job));
    x->failed = load(x, &x->err) != ERR_OK;
}

static void give(struct words_entry *x, struct words_want *w)
{
    x->users++;
    x->used = ++x->cache->clock;
    w->entry = x;
    w->ready(w);
}

static void done_load(struct job *j)
{
    struct words_entry *x = (struct words_entry *)(void *)((char *)j -
                                                          offsetof(struct words_entry, job));
    struct words_want *w = x->waiting;
    bool loaded = !x->failed;
    x->ready = true;
    x->waiting = NULL;
    if (!loaded)
        unlink_entry(x);
    x->users++; /* ours, while the wants are told */
    while (w) {
        struct words_want *next = w->next;
        if (loaded) {
            give(x, w);
        } else {
            w->err = x->err;
            w->ready(w);
        }
        w = next;
    }
    if (loaded)
        words_cache_put(x->cache, x);
    else
        entry_free(x);
}

static void fail(struct words_want *w)
{
    w->entry = NULL;
    w->ready(w);
}

static void start_load(struct words_cache *c, struct words_want *w)
{
    struct words_entry *x = mem_zero(1, sizeof *x);
    char *path = mem_strdup(w->path), *source = w->template.n ? mem_strndup(w->template.p, w->template.n) : NULL;
    if (!x || !path || (w->template.n && !source)) {
        mem_free(x);
        mem_free(path);
        mem_free(source);
        err_no_memory(&w->err, sizeof *x, "a vocabulary");
        fail(w);
        return;
    }
    *x = (struct words_entry){
        .next = c->entries, .cache = c, .path = path, .identity = w->identity, .source = source,
        .source_n = w->template.n, .waiting = w,
    };
    x->job.work = work_load;
    x->job.done = done_load;
    x->last = &w->next;
    if (jobs_submit(c->jobs, LANE_WORDS, &x->job, &w->err)) {
        entry_free(x);
        fail(w);
        return;
    }
    c->entries = x;
}

static bool is_wanted(const struct words_entry *x, const struct words_want *w)
{
    return same_file(&x->identity, &w->identity) && strcmp(x->path, w->path) == 0 &&
           str_eq((struct str){ x->source, x->source_n }, w->template);
}

void words_cache_get(struct words_cache *c, struct words_want *w)
{
    struct words_entry *x = c->entries;
    w->entry = NULL;
    w->next = NULL;
    while (x && !is_wanted(x, w))
        x = x->next;
    if (!x) {
        start_load(c, w);
    } else if (x->ready) {
        give(x, w);
    } else {
        *x->last = w;
        x->last = &w->next;
    }
}

void words_cache_put(struct words_cache *c, struct words_entry *entry)
{
    if (!entry)
        return;
    entry->users--;
    trim(c);
}

const struct words *words_entry_words(const struct words_entry *entry)
{
    return entry->words;
}

const struct chat_template *words_entry_template(const struct words_entry *entry)
{
    return entry->template ? entry->template : words_template(entry->words);
}

bool words_entry_own_template(const struct words_entry *entry)
{
    return entry->template != NULL;
}

const struct output_format *words_entry_format(const struct words_entry *entry)
{
    return entry->format;
}

struct grammars *words_entry_grammars(const struct words_entry *entry)
{
    return entry->grammars;
}
