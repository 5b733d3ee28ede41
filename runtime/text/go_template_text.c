#include <string.h>

#include "runtime/text/go_template_priv.h"

const struct spans go_all_content = { 0 };

/* Room for n more elements in an array that grows in the arena. */
static bool room(struct go_render *r, void **array, size_t *cap, size_t n, size_t more, size_t size)
{
    if (*cap - n >= more)
        return true;
    size_t want = *cap * 2 > n + more ? *cap * 2 : n + more;
    want = want < 16 ? 16 : want;
    void *block = go_alloc(r, want, size);
    if (!block)
        return false;
    if (n)
        memcpy(block, *array, n * size);
    *array = block;
    *cap = want;
    return true;
}

static bool put(struct go_text *t, const char *p, size_t n)
{
    void *block = t->p;
    if (!n)
        return true;
    if (n > t->max - t->n)
        return go_fail(t->r, ERR_TOO_LARGE, "the text is over %zu bytes", t->max);
    if (n >= GO_STEP_BYTES && !go_spend(t->r, n))
        return false;
    if (!room(t->r, &block, &t->cap, t->n, n, 1))
        return false;
    t->p = block;
    memcpy(t->p + t->n, p, n);
    t->n += n;
    return true;
}

/* Bytes [begin, end), the last ones, came from the request. */
static bool mark(struct go_text *t, size_t begin, size_t end)
{
    struct spans *s = &t->content;
    void *block = s->v;
    if (begin == end)
        return true;
    if (s->n && s->v[s->n - 1].end == begin) {
        s->v[s->n - 1].end = end;
        return true;
    }
    if (!room(t->r, &block, &s->cap, s->n, 1, sizeof *s->v))
        return false;
    s->v = block;
    s->v[s->n++] = (struct span){ begin, end };
    return true;
}

bool go_put(struct go_text *t, const char *p, size_t n)
{
    return put(t, p, n);
}

bool go_puts(struct go_text *t, const char *s)
{
    return put(t, s, strlen(s));
}

bool go_put_outside(struct go_text *t, const char *p, size_t n)
{
    return put(t, p, n) && mark(t, t->n - n, t->n);
}

bool go_put_piece(struct go_text *t, const struct go_value *v, size_t from, size_t n)
{
    size_t base = t->n;
    if (!put(t, v->u.s.p + from, n))
        return false;
    if (v->content == GO_ALL)
        return mark(t, base, t->n);
    for (size_t i = 0; v->content && i < v->content->n; i++) {
        struct span s = v->content->v[i];
        size_t begin = s.begin > from ? s.begin - from : 0;
        size_t end = s.end < from ? 0 : s.end - from < n ? s.end - from : n;
        if (begin < end && !mark(t, base + begin, base + end))
            return false;
    }
    return true;
}

bool go_put_str(struct go_text *t, const struct go_value *v)
{
    return go_put_piece(t, v, 0, v->u.s.n);
}

bool go_text_take(struct go_text *t, struct go_value *out)
{
    const struct spans *content = NULL;
    const struct spans *s = &t->content;
    if (s->n == 1 && s->v[0].begin == 0 && s->v[0].end == t->n) {
        content = GO_ALL;
    } else if (s->n) {
        struct spans *copy = go_alloc(t->r, 1, sizeof *copy);
        if (!copy)
            return false;
        *copy = *s;
        content = copy;
    }
    *out = go_of_str((struct str){ t->p ? t->p : "", t->n }, content);
    return true;
}

bool go_piece(struct go_render *r, const struct go_value *v, size_t from, size_t n,
              struct go_value *out)
{
    struct go_text t = go_text_new(r);
    if (!v->content || v->content == GO_ALL) {
        *out = go_of_str((struct str){ v->u.s.p + from, n }, v->content);
        return true;
    }
    return go_put_piece(&t, v, from, n) && go_text_take(&t, out);
}
