#include "runtime/text/chat_template.h"

#include <string.h>

#include "runtime/text/go_template.h"
#include "runtime/text/jinja.h"

struct chat_template {
    struct go_template *go; /* NULL: it is in Jinja, and this is its tree */
    struct tree tree;
    char *source, *name;
    size_t source_n;
};

enum err_code chat_template_create(struct str source, const char *name, struct chat_template **out,
                                   struct err *e)
{
    *out = NULL;
    if (source.n > CHAT_TEMPLATE_MAX_SOURCE)
        return err_set(e, ERR_TOO_LARGE, "%s: %zu bytes; at most %zu are taken", name, source.n,
                       CHAT_TEMPLATE_MAX_SOURCE);
    struct chat_template *t = mem_zero(1, sizeof *t);
    enum err_code code = ERR_NO_MEMORY;
    if (!t)
        return err_no_memory(e, sizeof *t, "a chat template");
    t->source = mem_strndup(source.p ? source.p : "", source.n);
    t->source_n = source.n;
    t->name = mem_strdup(name);
    if (!t->source || !t->name) {
        err_no_memory(e, source.n, "a chat template");
        goto out;
    }
    struct str copy = { t->source, t->source_n };
    if (go_template_looks_like(copy))
        code = go_template_create(copy, t->name, &t->go, e);
    else if (!(code = jinja_parse(copy, t->name, &t->tree, e)))
        code = jinja_scope(&t->tree, t->name, e);
    if (code)
        goto out;
    *out = t;
    return ERR_OK;
out:
    chat_template_destroy(t);
    return code;
}

void chat_template_destroy(struct chat_template *t)
{
    if (!t)
        return;
    go_template_destroy(t->go);
    arena_finish(&t->tree.arena);
    map_finish(&t->tree.names.ids);
    mem_free(t->tree.names.v);
    mem_free(t->source);
    mem_free(t->name);
    mem_free(t);
}

struct str chat_template_source(const struct chat_template *t)
{
    return (struct str){ t->source, t->source_n };
}

bool chat_template_fills_in(const struct chat_template *t)
{
    return t->go && go_template_uses(t->go, "suffix");
}

bool chat_template_trusts(struct str name)
{
    static const char *const names[] = { "bos_token", "eos_token", "unk_token", "pad_token",
                                         "sep_token", "cls_token", "mask_token" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(name, names[i]))
            return true;
    return false;
}

/* The ranges of the output, for the caller; on failure *to is as before. */
static void give_content(struct render *r, struct spans *to)
{
    size_t n = r->content.n;
    if (!mem_grow(&to->v, &to->cap, to->n + n, sizeof *to->v, SIZE_MAX / sizeof *to->v)) {
        r->code = err_no_memory(&r->err, n * sizeof *to->v, "the origins of a prompt");
        return;
    }
    for (size_t i = 0; i < n; i++)
        (void)spans_add(to, r->content.v[i].begin, r->content.v[i].end); /* there is room */
}

enum err_code chat_template_render(const struct chat_template *t, const json_t *vars, int64_t now,
                                   struct buf *out, struct spans *content, struct err *e)
{
    if (t->go)
        return go_template_render(t->go, vars, now, out, content, e);
    size_t names = t->tree.names.n;
    struct render r = { .tree = &t->tree, .vars = vars, .now = now, .out = out,
                        .out_base = out->n, .tracks = content != NULL,
                        .fuel = (int64_t)CHAT_TEMPLATE_MAX_STEPS * JINJA_STEP };
    r.arena.limit = CHAT_TEMPLATE_MAX_ARENA;
    r.globals = jinja_alloc(&r, names, sizeof *r.globals);
    r.resolved = jinja_alloc(&r, names, sizeof *r.resolved);
    if (r.globals && r.resolved) {
        memset(r.globals, 0, names * sizeof *r.globals);
        memset(r.resolved, 0, names * sizeof *r.resolved);
        if (jinja_exec(&r) && content)
            give_content(&r, content);
    }
    arena_finish(&r.arena);
    if (!r.code)
        return ERR_OK;
    out->n = r.out_base;
    if (out->p)
        out->p[out->n] = '\0';
    return err_set(e, r.code, "%s:%u: %s", t->name, r.error_line, r.err.text);
}
