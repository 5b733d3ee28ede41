#include "runtime/engine/engine.h"

#include <string.h>

#include "runtime/base/mem.h"

enum err_code session_create(struct model *m, struct session **out, struct err *e)
{
    *out = NULL;
    for (uint32_t i = 0; i < m->plan->n_seq; i++) {
        struct session *s = &m->sessions[i];
        if (s->used)
            continue;
        int32_t *tokens = s->tokens;
        *s = (struct session){ .m = m, .slot = i, .used = true, .tokens = tokens };
        *out = s;
        return ERR_OK;
    }
    return err_set(e, ERR_BUSY, "all %u sequences of the model are in use", m->plan->n_seq);
}

void session_destroy(struct session *s)
{
    if (!s)
        return;
    session_end_turn(s);
    kv_truncate(&s->m->kv, s->slot, &s->n_pages, 0);
    s->used = s->active = false;
}

/* ---- sharing -------------------------------------------------------------------------------------- */

/* All layers of one page. */
static enum err_code copy_page(struct model *m, uint32_t from, uint32_t to, struct err *e)
{
    const struct plan *p = m->plan;
    enum err_code code = ERR_OK;
    uint64_t bytes = p->buffers[BUF_FIXED_COUNT].bytes / p->n_pages;
    void *page = mem_alloc(bytes);
    if (!page)
        return err_no_memory(e, bytes, "a KV page");
    for (uint32_t i = 0; i < 2 * m->hp.n_layer && code == ERR_OK; i++) {
        struct gpu_buffer *b = m->buf[BUF_FIXED_COUNT + i];
        code = gpu_buffer_read(m->rt->gpu, b, from * bytes, page, bytes, e);
        if (code == ERR_OK)
            code = gpu_buffer_write(m->rt->gpu, b, to * bytes, page, bytes, e);
    }
    mem_free(page);
    return code;
}

enum err_code session_share(struct session *s, const struct session *from, uint32_t n, struct err *e)
{
    struct kv *kv = &s->m->kv;
    uint32_t whole;
    enum err_code code = ERR_OK;
    n = n < from->n_held ? n : from->n_held;
    whole = n / KV_PAGE_TOKENS;
    s->active = false;
    s->n_tokens = s->n_held = 0;
    kv_truncate(kv, s->slot, &s->n_pages, 0);
    kv_share(kv, s->slot, &s->n_pages, from->slot, whole);
    if (n % KV_PAGE_TOKENS && kv_extend(kv, s->slot, &s->n_pages, n))
        code = copy_page(s->m, kv_page(kv, from->slot, whole), kv_page(kv, s->slot, whole), e);
    else
        n = whole * KV_PAGE_TOKENS;
    if (code != ERR_OK) {
        kv_truncate(kv, s->slot, &s->n_pages, 0);
        return code;
    }
    memcpy(s->tokens, from->tokens, n * sizeof *s->tokens);
    s->n_tokens = s->n_held = n;
    return ERR_OK;
}

enum err_code session_fork(const struct session *s, struct session **out, struct err *e)
{
    enum err_code code = session_create(s->m, out, e);
    if (code == ERR_OK)
        code = session_share(*out, s, s->n_held, e);
    if (code != ERR_OK) {
        session_destroy(*out);
        *out = NULL;
    }
    return code;
}

void session_keep(struct session *s, uint32_t n)
{
    struct kv *kv = &s->m->kv;
    uint32_t part = n % KV_PAGE_TOKENS;
    if (n < s->n_held && part && kv_shared(kv, s->slot, n / KV_PAGE_TOKENS))
        n -= part;
    kv_truncate(kv, s->slot, &s->n_pages, n);
    s->n_held = n;
}

/* ---- turns ---------------------------------------------------------------------------------------- */

static enum err_code check_ids(const struct session *s, const int32_t *id, size_t n, const char *what, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (id[i] < 0 || (uint32_t)id[i] >= s->m->hp.n_vocab)
            return err_set(e, ERR_INVALID, "%s %d at %zu is not of this vocabulary of %u", what, id[i], i,
                           s->m->hp.n_vocab);
    return ERR_OK;
}

static enum err_code check_strings(const struct turn *t, const struct str *s, size_t n, const char *what,
                                   struct err *e)
{
    if (n > SAMPLING_MAX_STRINGS)
        return err_set(e, ERR_INVALID, "%zu %ss; at most %d are taken", n, what, SAMPLING_MAX_STRINGS);
    if (n > 0 && (!t->words || !words_tokenizer(t->words)))
        return err_set(e, ERR_INVALID, "a %s needs the model's vocabulary", what);
    for (size_t i = 0; i < n; i++)
        if (s[i].n > SAMPLING_MAX_STRING)
            return err_set(e, ERR_INVALID, "a %s of %zu bytes; at most %d are taken", what, s[i].n,
                           SAMPLING_MAX_STRING);
    return ERR_OK;
}

static enum err_code check_sampling(const struct session *s, const struct turn *t, struct err *e)
{
    const struct sampling *how = &t->sampling;
    if (how->n_bias > SAMPLING_MAX_BIAS)
        return err_set(e, ERR_INVALID, "%u tokens with a bias; at most %d are taken", how->n_bias, SAMPLING_MAX_BIAS);
    for (uint32_t i = 0; i < how->n_bias; i++)
        if (check_ids(s, &how->bias[i].token, 1, "a biased token", e))
            return ERR_INVALID;
    return check_strings(t, how->dry_breaker, how->n_dry_breaker, "sequence breaker", e);
}

static enum err_code check_turn(const struct session *s, const struct turn *t, struct err *e)
{
    const struct plan *p = s->m->plan;
    enum err_code code;
    if (t->n_tokens == 0)
        return err_set(e, ERR_INVALID, "a prompt needs at least one token");
    if (t->n_tokens > p->n_ctx)
        return err_set(e, ERR_TOO_LARGE, "the prompt has %zu tokens; the context holds %u", t->n_tokens,
                       p->n_ctx);
    if (t->n_top > 20)
        return err_set(e, ERR_INVALID, "%u most likely tokens wanted; at most 20 are given", t->n_top);
    if (t->want_logits && t->n_phrase)
        return err_set(e, ERR_INVALID, "rows of logits are not held back for banned phrases");
    if ((code = check_ids(s, t->tokens, t->n_tokens, "token", e)) ||
        (code = check_ids(s, t->stop, t->n_stop, "stop token", e)) ||
        (code = check_ids(s, t->ban, t->n_ban, "banned token", e)) ||
        (code = check_strings(t, t->phrase, t->n_phrase, "banned phrase", e)))
        return code;
    return check_sampling(s, t, e);
}

enum err_code session_begin(struct session *s, const struct turn *t, uint32_t *n_cached, struct err *e)
{
    enum err_code code = check_turn(s, t, e);
    if (code != ERR_OK)
        return code;
    uint32_t keep = 0, n = (uint32_t)t->n_tokens, most = n - 1; /* the last row gives the logits */
    if (t->kind == TURN_SCORE)
        most = 0;
    while (keep < most && keep < s->n_held && s->tokens[keep] == t->tokens[keep])
        keep++;
    memcpy(s->tokens, t->tokens, n * sizeof *t->tokens);
    session_keep(s, keep);
    s->n_tokens = n;
    code = session_begin_turn(s, t, e);
    if (code != ERR_OK)
        return code;
    s->active = t->kind == TURN_GENERATE || n > 1;
    if (n_cached)
        *n_cached = s->n_held;
    return ERR_OK;
}

void session_stop(struct session *s)
{
    s->active = false;
}

void session_pause(struct session *s, bool paused)
{
    s->paused = paused;
}

bool session_active(const struct session *s)
{
    return s->active;
}

uint32_t session_n_tokens(const struct session *s)
{
    return s->n_held;
}

uint32_t session_pending(const struct session *s)
{
    return s->active && !s->paused ? s->n_tokens - s->n_held : 0;
}

bool session_wants_logits(const struct session *s, uint32_t index)
{
    bool last = index + 1 == s->n_tokens;
    return s->turn.kind == TURN_SCORE ? !last : last;
}
