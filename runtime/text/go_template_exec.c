#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/go_template_priv.h"

/* What a statement leaves behind. */
enum flow { FLOW_FAIL, FLOW_ON, FLOW_BREAK, FLOW_CONTINUE };

bool go_fail(struct go_render *r, enum err_code code, const char *fmt, ...)
{
    va_list args;
    if (r->code)
        return false;
    r->code = code;
    va_start(args, fmt);
    vsnprintf(r->err.text, sizeof r->err.text, fmt, args);
    va_end(args);
    return false;
}

bool go_spend(struct go_render *r, size_t bytes)
{
    r->fuel -= 1 + (int64_t)(bytes / GO_STEP_BYTES);
    return r->fuel >= 0 || go_fail(r, ERR_TOO_LARGE, "more steps than a template may take");
}

void *go_alloc(struct go_render *r, size_t n, size_t size)
{
    void *block = size && n > SIZE_MAX / size ? NULL : arena_alloc(&r->arena, n * size);
    if (block)
        return block;
    if (n >= (r->arena.limit - r->arena.used) / (size ? size : 1))
        go_fail(r, ERR_TOO_LARGE, "more than %zu bytes of values", r->arena.limit);
    else
        go_fail(r, ERR_NO_MEMORY, "no memory for %zu values", n);
    return NULL;
}

bool go_push(struct go_render *r, struct str name, const struct go_value *v)
{
    if (r->n_vars == r->cap_vars) {
        size_t cap = r->cap_vars ? r->cap_vars * 2 : 32;
        struct go_var *block = go_alloc(r, cap, sizeof *block);
        if (!block)
            return false;
        if (r->n_vars)
            memcpy(block, r->vars, r->n_vars * sizeof *block);
        r->vars = block;
        r->cap_vars = cap;
    }
    r->vars[r->n_vars++] = (struct go_var){ name, *v };
    return true;
}

/* A called template sees nothing of its caller's: the search ends at its $. */
struct go_var *go_find_var(struct go_render *r, struct str name)
{
    for (size_t i = r->n_vars; i-- > r->base_vars;)
        if (str_eq(r->vars[i].name, name))
            return &r->vars[i];
    go_fail(r, ERR_INVALID, "undefined variable: %.*s", (int)name.n, name.p);
    return NULL;
}

static enum flow exec_list(struct go_render *r, const struct go_value *dot,
                           const struct go_nodes *list);

static enum flow exec_branch(struct go_render *r, const struct go_value *dot,
                             const struct go_node *n)
{
    size_t mark = r->n_vars;
    struct go_value v;
    enum flow flow = FLOW_ON;
    if (!go_pipeline(r, dot, n->u.block.pipe, &v))
        return FLOW_FAIL;
    if (go_true(&v))
        flow = exec_list(r, n->kind == GO_N_WITH ? &v : dot, &n->u.block.yes);
    else if (n->has_else)
        flow = exec_list(r, dot, &n->u.block.no);
    r->n_vars = mark;
    return flow;
}

/* ---- range ---- */

struct loop {
    const struct go_node *n;
    size_t mark; /* variables before the body's */
};

static bool assign(struct go_render *r, struct str name, const struct go_value *v)
{
    struct go_var *var = go_find_var(r, name);
    if (var)
        var->v = *v;
    return var != NULL;
}

/* One variable gets the element; of two the first gets the index. */
static bool set_vars(struct go_render *r, const struct loop *l, const struct go_value *index,
                     const struct go_value *element)
{
    const struct go_node *pipe = l->n->u.block.pipe;
    size_t n = pipe->u.pipe.n_decl;
    if (pipe->assign)
        return n == 0 || (assign(r, pipe->u.pipe.decl[0], n == 2 ? index : element) &&
                          (n == 1 || assign(r, pipe->u.pipe.decl[1], element)));
    if (n)
        r->vars[l->mark - 1].v = *element;
    if (n == 2)
        r->vars[l->mark - 2].v = *index;
    return true;
}

static enum flow turn(struct go_render *r, const struct loop *l, const struct go_value *index,
                      const struct go_value *element)
{
    if (!go_spend(r, 0) || !set_vars(r, l, index, element))
        return FLOW_FAIL;
    enum flow flow = exec_list(r, element, &l->n->u.block.yes);
    r->n_vars = l->mark;
    return flow == FLOW_CONTINUE ? FLOW_ON : flow;
}

/* How many turns there are; false: not something to walk over. */
static bool turns_of(struct go_render *r, const struct go_node *n, const struct go_value *v,
                     int64_t *turns)
{
    *turns = 0;
    switch (v->kind) {
    case GO_INVALID:
    case GO_NIL:
        return true;
    case GO_INT:
    case GO_UINT8:
        if (n->u.block.pipe->u.pipe.n_decl > 1)
            return go_fail(r, ERR_INVALID,
                           "can't use a number to iterate over more than one variable");
        *turns = v->u.i;
        return true;
    case GO_LIST:
        *turns = (int64_t)v->u.list.n;
        return true;
    case GO_MAP:
        *turns = (int64_t)v->u.map.n;
        return true;
    default:
        return go_fail(r, ERR_INVALID, "range can't iterate over a value of type %s",
                       go_type_name(v));
    }
}

static enum flow turn_of(struct go_render *r, const struct loop *l, const struct go_value *over,
                         int64_t i)
{
    struct go_value index = go_of_int(i), element = index;
    if (over->kind == GO_LIST) {
        element = over->u.list.v[i];
    } else if (over->kind == GO_MAP) {
        index = go_of_str(over->u.map.e[i].key, GO_ALL);
        element = over->u.map.e[i].v;
    } else if (over->kind == GO_UINT8) {
        element.kind = GO_UINT8;
        element.type = &go_uint8;
    }
    return turn(r, l, &index, &element);
}

static enum flow exec_range(struct go_render *r, const struct go_value *dot,
                            const struct go_node *n)
{
    size_t mark = r->n_vars;
    struct go_value over;
    int64_t turns;
    enum flow flow = FLOW_ON;
    if (!go_pipeline(r, dot, n->u.block.pipe, &over) || !turns_of(r, n, &over, &turns))
        return FLOW_FAIL;
    struct loop l = { n, r->n_vars };
    for (int64_t i = 0; i < turns && flow == FLOW_ON; i++)
        flow = turn_of(r, &l, &over, i);
    if (turns <= 0 && n->has_else)
        flow = exec_list(r, dot, &n->u.block.no);
    r->n_vars = mark;
    return flow == FLOW_BREAK ? FLOW_ON : flow; /* also that of the else part, as in Go */
}

/* ---- other statements ---- */

static enum flow exec_template(struct go_render *r, const struct go_value *dot,
                               const struct go_node *n)
{
    const struct go_define *d = r->tree->defines;
    struct go_value data = { .kind = GO_INVALID };
    while (d && !str_eq(d->name, n->u.block.name))
        d = d->next;
    if (!d) {
        go_fail(r, ERR_INVALID, "template \"%.*s\" not defined", (int)n->u.block.name.n,
                n->u.block.name.p);
        return FLOW_FAIL;
    }
    if (n->u.block.pipe && !go_pipeline(r, dot, n->u.block.pipe, &data))
        return FLOW_FAIL;
    size_t mark = r->n_vars;
    if (!go_exec(r, &d->body, &data))
        return FLOW_FAIL;
    r->n_vars = mark;
    return FLOW_ON;
}

static enum flow exec_action(struct go_render *r, const struct go_value *dot,
                             const struct go_node *n)
{
    struct go_value v;
    const struct go_node *pipe = n->u.block.pipe;
    if (!go_pipeline(r, dot, pipe, &v) || (!pipe->u.pipe.n_decl && !go_print(&r->out, &v)))
        return FLOW_FAIL;
    return FLOW_ON;
}

static enum flow exec_node(struct go_render *r, const struct go_value *dot,
                           const struct go_node *n)
{
    r->line = n->line;
    if (!go_spend(r, 0))
        return FLOW_FAIL;
    switch (n->kind) {
    case GO_N_TEXT:
        return go_put(&r->out, n->u.text.p, n->u.text.n) ? FLOW_ON : FLOW_FAIL;
    case GO_N_ACTION:
        return exec_action(r, dot, n);
    case GO_N_IF:
    case GO_N_WITH:
        return exec_branch(r, dot, n);
    case GO_N_RANGE:
        return exec_range(r, dot, n);
    case GO_N_TEMPLATE:
        return exec_template(r, dot, n);
    default:
        return n->kind == GO_N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
    }
}

static enum flow exec_list(struct go_render *r, const struct go_value *dot,
                           const struct go_nodes *list)
{
    enum flow flow = FLOW_ON;
    if (++r->depth > GO_MAX_DEPTH) {
        go_fail(r, ERR_TOO_LARGE, "templates that call each other too deeply");
        return FLOW_FAIL;
    }
    for (const struct go_node *n = list->first; n && flow == FLOW_ON; n = n->next)
        flow = exec_node(r, dot, n);
    r->depth--;
    return flow;
}

bool go_exec(struct go_render *r, const struct go_nodes *body, const struct go_value *data)
{
    size_t base = r->base_vars;
    r->base_vars = r->n_vars;
    bool ok = go_push(r, STR("$"), data) && exec_list(r, data, body) != FLOW_FAIL;
    r->base_vars = base;
    return ok;
}
