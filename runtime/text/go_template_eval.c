#include <string.h>

#include "runtime/text/go_template_priv.h"

bool go_true(const struct go_value *v)
{
    switch (v->kind) {
    case GO_BOOL:
        return v->u.b;
    case GO_INT:
    case GO_UINT8:
        return v->u.i != 0;
    case GO_FLOAT:
        return v->u.f != 0;
    case GO_STRING:
    case GO_BYTES:
        return v->u.s.n > 0;
    case GO_LIST:
        return v->u.list.n > 0;
    case GO_MAP:
        return v->u.map.n > 0;
    case GO_POINTER:
        return !v->nil;
    default:
        return v->kind == GO_STRUCT;
    }
}

/* ---- fields ---- */

static bool struct_field(struct go_render *r, const struct go_value *v, const struct go_type *t,
                         struct str name, bool has_args, struct go_value *out)
{
    for (size_t i = 0; i < t->n; i++) {
        if (!str_is(name, t->fields[i].name))
            continue;
        if (has_args)
            return go_fail(r, ERR_INVALID, "%.*s has arguments but cannot be invoked as function",
                           (int)name.n, name.p);
        *out = v->u.fields[i];
        return true;
    }
    return go_fail(r, ERR_INVALID, "can't evaluate field %.*s in type %s", (int)name.n, name.p,
                   t->name);
}

static bool map_field(struct go_render *r, const struct go_value *v, struct str name, bool has_args,
                      struct go_value *out)
{
    const struct go_value *found;
    if (has_args)
        return go_fail(r, ERR_INVALID, "%.*s is not a method but has arguments", (int)name.n,
                       name.p);
    *out = go_map_get(&v->u.map, name, &found) ? *found : go_zero(v->type->of);
    return true;
}

/* v.name; has_args: the command gives it arguments, which only a method could take. */
static bool field(struct go_render *r, const struct go_value *v, struct str name, bool has_args,
                  struct go_value *out)
{
    struct go_value receiver = *v;
    const struct go_call *method = go_find_method(&receiver, name);
    if (receiver.kind == GO_INVALID) {
        *out = receiver;
        return true;
    }
    if (receiver.kind == GO_NIL)
        return go_fail(r, ERR_INVALID, "nil pointer evaluating interface {}.%.*s", (int)name.n,
                       name.p);
    if (method) {
        if (has_args)
            return go_fail(r, ERR_INVALID, "wrong number of args for %s: want 0", method->name);
        return method->call(r, &receiver, 1, out);
    }
    if (receiver.kind == GO_MAP)
        return map_field(r, &receiver, name, has_args, out);
    if (receiver.kind == GO_STRUCT)
        return struct_field(r, &receiver, receiver.type, name, has_args, out);
    if (receiver.kind == GO_POINTER && !receiver.nil)
        return struct_field(r, &receiver, receiver.type->of, name, has_args, out);
    return go_fail(r, ERR_INVALID, "can't evaluate field %.*s in type %s", (int)name.n, name.p,
                   go_type_name(&receiver));
}

static bool fields(struct go_render *r, const struct go_value *from, const struct str *names,
                   size_t n, bool has_args, struct go_value *out)
{
    struct go_value v = *from;
    for (size_t i = 0; i < n; i++) {
        struct go_value receiver = v;
        if (!field(r, &receiver, names[i], has_args && i + 1 == n, &v))
            return false;
    }
    *out = v;
    return true;
}

/* ---- operands ---- */

static bool operand(struct go_render *r, const struct go_value *dot, const struct go_node *n,
                    struct go_value *out);

static bool path(struct go_render *r, const struct go_value *dot, const struct go_node *n,
                 bool has_args, struct go_value *out)
{
    struct go_value from = *dot;
    size_t skip = n->kind == GO_N_VARIABLE;
    if (n->kind == GO_N_VARIABLE) {
        const struct go_var *var = go_find_var(r, n->u.path.names[0]);
        if (!var)
            return false;
        from = var->v;
        if (n->u.path.n == 1 && has_args)
            return go_fail(r, ERR_INVALID, "can't give argument to non-function %.*s",
                           (int)n->u.path.names[0].n, n->u.path.names[0].p);
    } else if (n->kind == GO_N_CHAIN && !operand(r, dot, n->u.path.of, &from)) {
        return false;
    }
    return fields(r, &from, n->u.path.names + skip, n->u.path.n - skip, has_args, out);
}

static bool check_string(struct go_render *r, const struct go_call *f, const struct go_value *v,
                         size_t i)
{
    bool wanted = f->strings == 2 || (f->strings == 1 && i == 0);
    if (!wanted || v->kind == GO_STRING)
        return true;
    return go_fail(r, ERR_INVALID, "%s: argument %zu must be a string and is %s", f->name, i + 1,
                   go_type_name(v));
}

/* and, or: the first argument that decides, or the last; those behind it are not looked at. */
static bool lazy(struct go_render *r, const struct go_value *dot, const struct go_call *f,
                 const struct go_node *arg, const struct go_value *final, struct go_value *out)
{
    for (; arg; arg = arg->next) {
        if (!operand(r, dot, arg, out))
            return false;
        if (go_true(out) == (f->lazy == GO_OR))
            return true;
    }
    if (final)
        *out = *final;
    return true;
}

static bool call(struct go_render *r, const struct go_value *dot, const struct go_call *f,
                 const struct go_node *args, size_t n_args, const struct go_value *final,
                 struct go_value *out)
{
    size_t n = n_args + (final != NULL), i = 0;
    if (n < f->min || (f->max != UINT8_MAX && n > f->max))
        return go_fail(r, ERR_INVALID, "wrong number of args for %s: %zu", f->name, n);
    if (!go_spend(r, 0))
        return false;
    if (f->lazy)
        return lazy(r, dot, f, args, final, out);
    struct go_value few[4], *v = few;
    if (n > 4 && !(v = go_alloc(r, n, sizeof *v)))
        return false;
    for (const struct go_node *arg = args; arg; arg = arg->next, i++)
        if (!operand(r, dot, arg, &v[i]) || !check_string(r, f, &v[i], i))
            return false;
    if (final) {
        v[i] = *final;
        if (!check_string(r, f, &v[i], i))
            return false;
    }
    return f->call(r, v, n, out);
}

static bool number(struct go_render *r, const struct go_node *n, struct go_value *out)
{
    *out = n->u.number;
    return out->kind != GO_INVALID || go_fail(r, ERR_INVALID, "a number overflows int");
}

static bool operand(struct go_render *r, const struct go_value *dot, const struct go_node *n,
                    struct go_value *out)
{
    r->line = n->line;
    switch (n->kind) {
    case GO_N_DOT:
        *out = *dot;
        return true;
    case GO_N_NIL:
        *out = (struct go_value){ .kind = GO_INVALID };
        return true;
    case GO_N_BOOL:
        *out = go_of_bool(n->u.b);
        return true;
    case GO_N_NUMBER:
        return number(r, n, out);
    case GO_N_STRING:
        *out = go_of_str(n->u.text, NULL);
        return true;
    case GO_N_FUNCTION:
        return call(r, dot, n->u.function, NULL, 0, NULL, out);
    case GO_N_PIPE:
        return go_pipeline(r, dot, n, out);
    default:
        return path(r, dot, n, false, out);
    }
}

/* ---- commands ---- */

static bool command(struct go_render *r, const struct go_value *dot, const struct go_node *cmd,
                    const struct go_value *final, struct go_value *out)
{
    const struct go_node *first = cmd->u.args.first;
    bool has_args = first->next || final;
    r->line = cmd->line;
    switch (first->kind) {
    case GO_N_FUNCTION:
        return call(r, dot, first->u.function, first->next, cmd->u.args.n - 1, final, out);
    case GO_N_FIELD:
    case GO_N_VARIABLE:
    case GO_N_CHAIN:
        return path(r, dot, first, has_args, out);
    default:
        break;
    }
    if (has_args)
        return go_fail(r, ERR_INVALID, "can't give argument to a value that is no function");
    if (first->kind == GO_N_NIL)
        return go_fail(r, ERR_INVALID, "nil is not a command");
    return operand(r, dot, first, out);
}

bool go_pipeline(struct go_render *r, const struct go_value *dot, const struct go_node *pipe,
                 struct go_value *out)
{
    struct go_value v = { .kind = GO_INVALID }, final;
    if (++r->depth > GO_MAX_DEPTH)
        return go_fail(r, ERR_TOO_LARGE, "nested too deeply");
    for (const struct go_node *c = pipe->u.pipe.cmds.first; c; c = c->next) {
        bool piped = c != pipe->u.pipe.cmds.first;
        final = v;
        if (!command(r, dot, c, piped ? &final : NULL, &v))
            return false;
        if (v.kind == GO_NIL) /* an empty interface becomes no value */
            v = (struct go_value){ .kind = GO_INVALID };
    }
    r->depth--;
    for (size_t i = 0; i < pipe->u.pipe.n_decl; i++) {
        struct str name = pipe->u.pipe.decl[i];
        struct go_var *var;
        if (!pipe->assign) {
            if (!go_push(r, name, &v))
                return false;
        } else if (!(var = go_find_var(r, name)))
            return false;
        else
            var->v = v;
    }
    *out = v;
    return true;
}
