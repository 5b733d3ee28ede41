/* Statements: what writes text, binds names, loops and calls macros. The text of a block
 * (macro, set, filter, call) is written to the end of the output and taken from there. */
#include <string.h>

#include "runtime/text/jinja.h"

enum flow { FLOW_FAIL, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

static enum flow exec_list(struct render *r, const struct node_list *l);

static enum flow flow_of(bool ok)
{
    return ok ? FLOW_NEXT : FLOW_FAIL;
}

/* ---- targets ---- */

static struct value *name_slot(struct render *r, const struct node *n)
{
    struct frame *f = r->frame;
    for (uint32_t h = n->u.name.hops; h; h--)
        f = f->up;
    return &f->slot[n->u.name.slot];
}

static bool unpack(struct render *r, const struct node *target, const struct value *v)
{
    if (!jinja_iterable(v))
        return jinja_fail(r, "cannot unpack non-iterable %s object", jinja_type_name(v->type));
    struct iter *it = jinja_iter(r, v);
    struct value item;
    size_t got = 0;
    if (!it)
        return false;
    for (const struct node *i = target->u.items.first; i; i = i->next, got++) {
        enum iter_step step = jinja_next(r, it, &item);
        if (step == ITER_END)
            return jinja_fail(r, "not enough values to unpack (expected %zu, got %zu)",
                              target->u.items.n, got);
        if (step == ITER_FAIL || !jinja_assign(r, i, &item))
            return false;
    }
    switch (jinja_next(r, it, &item)) {
    case ITER_END:
        return true;
    case ITER_ITEM:
        return jinja_fail(r, "too many values to unpack (expected %zu)", target->u.items.n);
    default:
        return false;
    }
}

static bool is_namespace(struct render *r, const struct node *target)
{
    if (name_slot(r, target->u.nsref.object)->type == V_NAMESPACE)
        return true;
    if (!r->error_line)
        r->error_line = target->line;
    return jinja_fail(r, "cannot assign attribute on non-namespace object");
}

bool jinja_assign(struct render *r, const struct node *target, const struct value *v)
{
    if (target->kind == N_TUPLE)
        return unpack(r, target, v);
    if (target->kind == N_NSREF) {
        struct value key = value_str(target->u.nsref.attr);
        return is_namespace(r, target) &&
               jinja_dict_put(r, name_slot(r, target->u.nsref.object)->u.dict, &key, v);
    }
    *name_slot(r, target) = *v;
    return true;
}

/* ---- texts of blocks ---- */

/* Takes what was written since `mark` off the output. */
static bool take_text(struct render *r, size_t mark, struct value *out)
{
    struct spans content;
    size_t n = r->out->n - mark;
    char *p = jinja_alloc(r, n, 1);
    if (!p)
        return false;
    if (n)
        memcpy(p, r->out->p + mark, n);
    r->out->n = mark;
    if (r->out->p)
        r->out->p[mark] = '\0';
    *out = value_str((struct str){ p, n });
    return origin_cut(r, mark, &content) && origin_take(r, p, n, &content, &out->origin) &&
           jinja_spend_bytes(r, n);
}

/* Runs a body for its text. A break or continue out of it drops the text. */
static enum flow exec_for_text(struct render *r, const struct node_list *body, struct value *out)
{
    size_t mark = r->out->n;
    enum flow flow = exec_list(r, body);
    if (flow == FLOW_NEXT)
        return flow_of(take_text(r, mark, out));
    if (flow != FLOW_FAIL && !take_text(r, mark, out))
        return FLOW_FAIL;
    return flow;
}

static void leave(struct render *r, const struct scope *s)
{
    for (size_t i = 0; i < s->n; i++)
        r->frame->slot[s->loads[i].slot].type = V_MISSING;
}

/* ---- simple statements ---- */

static enum flow exec_text(struct render *r, const struct node *n)
{
    return flow_of(jinja_emit(r, n->u.text));
}

static enum flow exec_print(struct render *r, const struct node *n)
{
    for (const struct node *i = n->u.items.first; i; i = i->next) {
        struct value v;
        if (!jinja_eval(r, i, &v) || !jinja_emit_value(r, &v))
            return FLOW_FAIL;
    }
    return FLOW_NEXT;
}

static enum flow exec_if(struct render *r, const struct node *n)
{
    struct value v;
    bool truth;
    if (!jinja_eval(r, n->u.branch.test, &v) || !jinja_truth(r, &v, &truth))
        return FLOW_FAIL;
    if (truth)
        return exec_list(r, &n->u.branch.body);
    for (const struct node *i = n->u.branch.elifs.first; i; i = i->next) {
        if (!jinja_eval(r, i->u.branch.test, &v) || !jinja_truth(r, &v, &truth))
            return FLOW_FAIL;
        if (truth)
            return exec_list(r, &i->u.branch.body);
    }
    return exec_list(r, &n->u.branch.otherwise);
}

static enum flow exec_set(struct render *r, const struct node *n)
{
    struct value v;
    if (n->u.set.target->kind == N_NSREF && !is_namespace(r, n->u.set.target))
        return FLOW_FAIL;
    return flow_of(jinja_eval(r, n->u.set.value, &v) && jinja_assign(r, n->u.set.target, &v));
}

static enum flow exec_block(struct render *r, const struct node *n)
{
    struct value text, v;
    if (!jinja_enter(r, n->u.block.scope))
        return FLOW_FAIL;
    enum flow flow = exec_for_text(r, &n->u.block.body, &text);
    if (flow != FLOW_NEXT)
        return flow;
    v = text;
    if (n->u.block.filter && !jinja_apply(r, n->u.block.filter, &text, &v))
        return FLOW_FAIL;
    bool ok = n->kind == N_FILTER_BLOCK ? jinja_emit_value(r, &v)
                                        : jinja_assign(r, n->u.block.target, &v);
    leave(r, n->u.block.scope);
    return flow_of(ok);
}

static enum flow exec_with(struct render *r, const struct node *n)
{
    struct value *v = jinja_alloc(r, n->u.with.values.n, sizeof *v);
    size_t i = 0;
    if (!v)
        return FLOW_FAIL;
    for (const struct node *e = n->u.with.values.first; e; e = e->next)
        if (!jinja_eval(r, e, &v[i++]))
            return FLOW_FAIL;
    if (!jinja_enter(r, n->u.with.scope))
        return FLOW_FAIL;
    i = 0;
    for (const struct node *t = n->u.with.targets.first; t; t = t->next)
        if (!jinja_assign(r, t, &v[i++]))
            return FLOW_FAIL;
    enum flow flow = exec_list(r, &n->u.with.body);
    if (flow != FLOW_FAIL)
        leave(r, n->u.with.scope);
    return flow;
}

static enum flow exec_break(struct render *r, const struct node *n)
{
    (void)r;
    return n->kind == N_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
}

/* ---- macros ---- */

static bool macro_value(struct render *r, const struct macro_def *d, struct value *out)
{
    struct macro *m = jinja_alloc(r, 1, sizeof *m);
    if (!m)
        return false;
    *m = (struct macro){ d, r->frame };
    *out = (struct value){ .type = V_MACRO, .u.macro = m };
    return true;
}

static enum flow exec_macro(struct render *r, const struct node *n)
{
    struct value v;
    return flow_of(macro_value(r, n->u.macro.def, &v) && jinja_assign(r, n->u.macro.target, &v));
}


static enum flow exec_call_block(struct render *r, const struct node *n)
{
    struct value caller, v;
    if (!macro_value(r, n->u.macro.def, &caller))
        return FLOW_FAIL;
    if (n->u.macro.call)
        return flow_of(jinja_call_with(r, n->u.macro.call, &caller, &v) && jinja_emit_value(r, &v));
    struct args none = { 0 };
    return flow_of(jinja_call_macro(r, caller.u.macro, &none, &v) && jinja_emit_value(r, &v));
}

/* Arguments that no parameter takes: into kwargs and varargs, or an error. */
static bool bind_rest(struct render *r, const struct macro_def *d, const struct args *args,
                      const bool *used, struct frame *f)
{
    struct dict *rest = NULL;
    if (d->takes_kwargs && !(rest = jinja_dict(r, args->nkw)))
        return false;
    for (size_t i = 0; i < args->nkw; i++) {
        struct value key = value_key(&args->kw[i]);
        if (used[i])
            continue;
        if (!rest)
            return jinja_fail(r, "macro '%.*s' takes no keyword argument '%.*s'",
                              (int)(d->name.n > 64 ? 64 : d->name.n), d->name.p,
                              (int)(key.u.s.n > 64 ? 64 : key.u.s.n), key.u.s.p);
        if (!jinja_dict_put(r, rest, &key, &args->kw[i].v))
            return false;
    }
    if (rest)
        f->slot[d->kwargs_slot] = (struct value){ .type = V_DICT, .u.dict = rest };
    size_t extra = args->n > d->params.n ? args->n - d->params.n : 0;
    if (d->takes_varargs) {
        struct list l = { NULL, extra };
        if (!(l.v = jinja_alloc(r, extra, sizeof *l.v)))
            return false;
        if (extra)
            memcpy(l.v, args->v + d->params.n, extra * sizeof *l.v);
        return jinja_list(r, l, V_TUPLE, &f->slot[d->varargs_slot]);
    }
    return extra == 0 || jinja_fail(r, "macro '%.*s' takes not more than %zu argument(s)",
                                    (int)(d->name.n > 64 ? 64 : d->name.n), d->name.p,
                                    d->params.n);
}

static bool bind_params(struct render *r, const struct macro_def *d, const struct args *args,
                        struct frame *f)
{
    bool *used = jinja_alloc(r, args->nkw, sizeof *used);
    if (!used)
        return false;
    memset(used, 0, args->nkw * sizeof *used);
    size_t i = 0;
    for (const struct node *p = d->params.first; p; p = p->next, i++) {
        struct value *to = &f->slot[p->u.name.slot];
        if (i < args->n) {
            *to = args->v[i];
            continue;
        }
        for (size_t k = 0; k < args->nkw; k++)
            if (!used[k] && str_eq(args->kw[k].name, r->tree->names.v[p->u.name.id])) {
                *to = args->kw[k].v;
                used[k] = true;
            }
    }
    if (d->takes_caller) {
        struct value *to = &f->slot[d->caller_slot];
        *to = value_undefined(UNDEF_HINT, STR("No caller defined"));
        for (size_t k = 0; k < args->nkw; k++)
            if (!used[k] && str_is(args->kw[k].name, "caller")) {
                if (args->kw[k].v.type != V_NONE)
                    *to = args->kw[k].v;
                used[k] = true;
            }
    }
    return bind_rest(r, d, args, used, f);
}

static bool fill_defaults(struct render *r, const struct macro_def *d)
{
    size_t skip = d->params.n - d->defaults.n, i = 0;
    const struct node *v = d->defaults.first;
    for (const struct node *p = d->params.first; p; p = p->next, i++) {
        struct value *to = &r->frame->slot[p->u.name.slot], given;
        if (to->type == V_MISSING) {
            *to = value_undefined(UNDEF_NAME, r->tree->names.v[p->u.name.id]);
            if (i >= skip) {
                to->type = V_MISSING;
                if (!jinja_eval(r, v, &given))
                    return false;
                *to = given;
            }
        }
        if (i >= skip)
            v = v->next;
    }
    return true;
}

bool jinja_call_macro(struct render *r, const struct macro *m, const struct args *args,
                      struct value *out)
{
    const struct macro_def *d = m->def;
    struct frame *was = r->frame, *f = jinja_frame(r, m->up, d->scope.nslots);
    if (!f || !jinja_spend(r, JINJA_STEP) || !bind_params(r, d, args, f))
        return false;
    r->frame = f;
    bool ok = jinja_enter(r, &d->scope) && fill_defaults(r, d) &&
              exec_for_text(r, &d->body, out) == FLOW_NEXT;
    r->frame = was;
    return ok;
}

/* ---- loops ---- */

struct filter_state {
    const struct for_def *def;
    struct frame *frame; /* of the filter; made at the first item */
    struct frame *up;
};

/* for x in xs if test: a generator in a frame of its own. */
static enum iter_step next_passing(struct render *r, struct iter *it, struct value *out)
{
    struct filter_state *s = it->state;
    struct frame *was = r->frame;
    enum iter_step step = ITER_FAIL;
    bool first = !s->frame, truth = false;
    if (first && !(s->frame = jinja_frame(r, s->up, s->def->test_scope.nslots)))
        return ITER_FAIL;
    r->frame = s->frame;
    if (first && !jinja_enter(r, &s->def->test_scope))
        goto out;
    while ((step = jinja_next(r, it->from, out)) == ITER_ITEM) {
        struct value v;
        step = ITER_FAIL;
        if (!jinja_assign(r, s->def->test_target, out) || !jinja_eval(r, s->def->test, &v) ||
            !jinja_truth(r, &v, &truth) || !jinja_spend(r, JINJA_STEP))
            goto out;
        step = ITER_ITEM;
        if (truth)
            goto out;
    }
out:
    r->frame = was;
    return step;
}

static struct iter *filtered(struct render *r, const struct for_def *d, struct iter *from,
                             struct frame *up)
{
    if (!d->test)
        return from;
    struct filter_state *s = jinja_alloc(r, 1, sizeof *s);
    struct iter *it = jinja_alloc(r, 1, sizeof *it);
    if (!s || !it)
        return NULL;
    *s = (struct filter_state){ .def = d, .up = up };
    *it = (struct iter){ .next = next_passing, .from = from, .state = s };
    return it;
}

/* One item ahead, where loop.last or loop.nextitem ask for it. */
enum iter_step jinja_loop_peek(struct render *r, struct loop *l)
{
    if (l->after.type != V_MISSING)
        return ITER_ITEM;
    enum iter_step step = jinja_next(r, l->it, &l->after);
    if (step != ITER_ITEM)
        l->after.type = V_MISSING;
    return step;
}

static enum iter_step advance(struct render *r, struct loop *l)
{
    struct value item;
    enum iter_step step = jinja_loop_peek(r, l);
    if (step != ITER_ITEM)
        return step;
    item = l->after;
    l->after.type = V_MISSING;
    l->index0++;
    l->before = l->current;
    l->current = item;
    return jinja_spend(r, JINJA_STEP) ? ITER_ITEM : ITER_FAIL;
}

/* One turn. *whole: the body ran to its end. */
static enum flow turn(struct render *r, const struct for_def *d, struct loop *l, bool *whole)
{
    if (!jinja_assign(r, d->target, &l->current))
        return FLOW_FAIL;
    if (d->extended)
        r->frame->slot[d->loop_slot] = (struct value){ .type = V_LOOP, .u.loop = l };
    if (!jinja_enter(r, &d->scope))
        return FLOW_FAIL;
    enum flow flow = exec_list(r, &d->body);
    *whole = *whole || flow == FLOW_NEXT;
    return flow;
}

/* Runs in the current frame. As in Jinja, `else` also runs when no turn reached the end of the
 * body (break or continue in all of them). */
static enum flow run_loop(struct render *r, const struct node *n, struct loop *l)
{
    const struct for_def *d = n->u.loop;
    enum iter_step step;
    bool whole = false;
    while ((step = advance(r, l)) == ITER_ITEM) {
        enum flow flow = turn(r, d, l, &whole);
        if (flow == FLOW_FAIL)
            return flow;
        if (flow == FLOW_BREAK)
            break;
    }
    if (step == ITER_FAIL)
        return FLOW_FAIL;
    leave(r, &d->scope);
    if (whole || d->otherwise.n == 0)
        return FLOW_NEXT;
    if (!jinja_enter(r, &d->else_scope))
        return FLOW_FAIL;
    enum flow flow = exec_list(r, &d->otherwise);
    if (flow != FLOW_FAIL)
        leave(r, &d->else_scope);
    return flow;
}

/* up: the frame in which the loop stands. */
static struct loop *loop_over(struct render *r, const struct node *n, const struct value *over,
                              struct frame *up, int64_t depth)
{
    const struct for_def *d = n->u.loop;
    struct loop *l = jinja_alloc(r, 1, sizeof *l);
    struct iter *it = l ? jinja_iter(r, over) : NULL;
    if (!it || !(it = filtered(r, d, it, up)))
        return NULL;
    *l = (struct loop){ .it = it, .over = *over, .index0 = -1, .depth = depth, .length = -1,
                        .recurse = d->recursive ? n : NULL, .up = up };
    if (d->test)
        l->over.type = V_ITER; /* its length is not known before it is walked */
    return l;
}

static bool recursive_text(struct render *r, const struct node *n, const struct value *over,
                           struct frame *up, int64_t depth, struct value *out)
{
    struct frame *was = r->frame;
    struct loop *l = loop_over(r, n, over, up, depth);
    struct frame *f = l ? jinja_frame(r, up, n->u.loop->nslots) : NULL;
    if (!f)
        return false;
    size_t mark = r->out->n;
    r->frame = f;
    bool ok = run_loop(r, n, l) == FLOW_NEXT && take_text(r, mark, out);
    r->frame = was;
    return ok;
}

bool jinja_call_loop(struct render *r, struct loop *l, const struct value *over,
                     struct value *out)
{
    if (!l->recurse)
        return jinja_fail(r, "the loop must have the 'recursive' marker to be called recursively");
    return recursive_text(r, l->recurse, over, l->up, l->depth + 1, out);
}

static enum flow exec_for(struct render *r, const struct node *n)
{
    struct value over, text;
    if (!jinja_eval(r, n->u.loop->iter, &over))
        return FLOW_FAIL;
    if (n->u.loop->recursive)
        return flow_of(recursive_text(r, n, &over, r->frame, 1, &text) && jinja_emit_value(r, &text));
    struct loop *l = loop_over(r, n, &over, r->frame, 1);
    return l ? run_loop(r, n, l) : FLOW_FAIL;
}

/* ---- dispatch ---- */

typedef enum flow exec_fn(struct render *r, const struct node *n);

static enum flow exec_list(struct render *r, const struct node_list *l)
{
    static exec_fn *const table[N_KINDS] = {
        [N_TEXT] = exec_text,         [N_PRINT] = exec_print,
        [N_IF] = exec_if,             [N_FOR] = exec_for,
        [N_SET] = exec_set,           [N_SET_BLOCK] = exec_block,
        [N_MACRO] = exec_macro,       [N_CALL_BLOCK] = exec_call_block,
        [N_WITH] = exec_with,         [N_FILTER_BLOCK] = exec_block,
        [N_BREAK] = exec_break,       [N_CONTINUE] = exec_break,
    };
    enum flow flow = FLOW_NEXT;
    if (++r->depth > JINJA_MAX_DEPTH)
        flow = flow_of(jinja_too_large(r, "the template recurses too deeply"));
    for (const struct node *n = l->first; n && flow == FLOW_NEXT; n = n->next) {
        flow = jinja_spend(r, JINJA_STEP) ? table[n->kind](r, n) : FLOW_FAIL;
        if (flow == FLOW_FAIL && !r->error_line)
            r->error_line = n->line;
    }
    r->depth--;
    return flow;
}

bool jinja_exec(struct render *r)
{
    r->frame = jinja_frame(r, NULL, r->tree->scope.nslots);
    return r->frame && jinja_enter(r, &r->tree->scope) &&
           exec_list(r, &r->tree->body) == FLOW_NEXT;
}
