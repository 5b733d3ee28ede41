/* Where each name lives, decided before the template runs, by the rules of Jinja's compiler:
 *
 * A scope (template, macro, loop body, with, block set, ...) is first read as a whole, without
 * the scopes inside it: a name that it loads first is taken from the variables of the rendering,
 * or from the outer scope that has it; a name that it stores gets a slot of its own, filled
 * when the scope is entered from the outer scope's, if there is one. A name that only some
 * branches of an `if` store is filled as if it were loaded. So an assignment inside a loop ends
 * with the turn, and a macro sees the template's variables as they are when it is called.
 *
 * Macros, call blocks, recursive loops and a loop's filter are functions with their own frames;
 * the other scopes use slots of the function around them. */
#include <string.h>

#include "runtime/text/jinja.h"

struct symbol {
    uint32_t name, slot;
    uint32_t function; /* depth of the function that owns the slot */
    enum load_kind load;
    const struct symbol *outer; /* the same name further out: what LOAD_ALIAS copies */
    bool stored;
    uint32_t branches; /* of the current `if` that store it; for merging */
    struct level *level;
    struct symbol *next; /* in its level, newest first */
};

/* One scope while it is compiled. */
struct level {
    struct level *up;
    struct scope *out;
    struct symbol *symbols;
    size_t n;
    uint32_t function;
    uint32_t *nslots; /* of that function */
    bool in_loop;     /* break and continue have a loop here */
    bool soft;        /* inside an if: unknown filters fail only when reached */
};

struct scoper {
    struct tree *tree;
    const char *name;
    struct err *e;
    struct level *level;
    struct symbol **top; /* by name id: the innermost symbol */
    struct arena scratch;
    uint32_t id_loop, id_caller, id_kwargs, id_varargs;
};

static bool fail(struct scoper *s, uint32_t line, const char *reason)
{
    err_set(s->e, ERR_FORMAT, "%s:%u: %s", s->name, line, reason);
    return false;
}

static bool no_memory(struct scoper *s)
{
    if (s->tree->arena.used + 4096 > s->tree->arena.limit)
        err_set(s->e, ERR_TOO_LARGE, "%s: the template's tree is over %zu MiB", s->name,
                s->tree->arena.limit >> 20);
    else
        err_no_memory(s->e, 4096, "a chat template");
    return false;
}

/* ---- symbols ---- */

static struct symbol *find(const struct scoper *s, uint32_t name)
{
    return s->top[name];
}

static struct symbol *find_own(const struct scoper *s, uint32_t name)
{
    struct symbol *y = s->top[name];
    return y && y->level == s->level ? y : NULL;
}

static struct symbol *define(struct scoper *s, uint32_t name, enum load_kind load)
{
    struct symbol *y = arena_zero(&s->scratch, 1, sizeof *y);
    if (!y) {
        no_memory(s);
        return NULL;
    }
    struct level *l = s->level;
    *y = (struct symbol){ .name = name, .slot = (*l->nslots)++, .function = l->function,
                          .load = load, .outer = s->top[name], .level = l, .next = l->symbols };
    l->symbols = y;
    l->n++;
    s->top[name] = y;
    return y;
}

static bool load_name(struct scoper *s, uint32_t name)
{
    return find(s, name) || define(s, name, LOAD_RESOLVE);
}

static bool store_name(struct scoper *s, uint32_t name)
{
    struct symbol *y = find_own(s, name);
    if (!y)
        y = define(s, name, find(s, name) ? LOAD_ALIAS : LOAD_UNDEFINED);
    if (y)
        y->stored = true;
    return y != NULL;
}

static struct symbol *declare_param(struct scoper *s, uint32_t name)
{
    struct symbol *y = find_own(s, name);
    if (!y)
        y = define(s, name, LOAD_PARAM);
    if (y) {
        y->load = LOAD_PARAM;
        y->stored = true;
    }
    return y;
}

/* Takes symbols of this level off again, down to `mark`; gives them as a chain. */
static struct symbol *unwind(struct scoper *s, const struct symbol *mark)
{
    struct symbol *taken = NULL;
    while (s->level->symbols != mark) {
        struct symbol *y = s->level->symbols;
        s->level->symbols = y->next;
        s->level->n--;
        s->top[y->name] = (struct symbol *)y->outer;
        y->next = taken;
        taken = y;
    }
    return taken;
}

/* ---- the parts of an expression, in the order in which Jinja visits them ---- */

typedef bool visit_fn(void *ctx, struct node *n);

static bool visit_list(const struct node_list *l, visit_fn *visit, void *ctx)
{
    for (struct node *n = l->first; n; n = n->next)
        if (!visit(ctx, n))
            return false;
    return true;
}

static bool visit_args(const struct call_args *a, visit_fn *visit, void *ctx)
{
    return visit_list(&a->pos, visit, ctx) && visit_list(&a->kw, visit, ctx) &&
           visit(ctx, a->dyn_pos) && visit(ctx, a->dyn_kw);
}

/* visit is also called with NULL, where a part is absent. */
static bool visit_parts(const struct node *n, visit_fn *visit, void *ctx)
{
    switch ((enum node_kind)n->kind) {
    case N_TUPLE:
    case N_LIST:
    case N_DICT:
    case N_CONCAT:
    case N_COMPARE:
    case N_PRINT:
        return visit_list(&n->u.items, visit, ctx);
    case N_BINARY:
    case N_AND:
    case N_OR:
    case N_NOT:
    case N_NEG:
    case N_POS:
        return visit(ctx, n->u.pair.left) && visit(ctx, n->u.pair.right);
    case N_COND:
        return visit(ctx, n->u.cond.test) && visit(ctx, n->u.cond.yes) &&
               visit(ctx, n->u.cond.no);
    case N_ATTR:
        return visit(ctx, n->u.attr.object);
    case N_ITEM:
        return visit(ctx, n->u.item.object) && visit(ctx, n->u.item.index);
    case N_CUT:
        return visit(ctx, n->u.cut.object) && visit(ctx, n->u.cut.part[0]) &&
               visit(ctx, n->u.cut.part[1]) && visit(ctx, n->u.cut.part[2]);
    case N_CALL:
        return visit(ctx, n->u.call.callee) && visit_args(n->u.call.args, visit, ctx);
    case N_FILTER:
    case N_TEST:
        return visit(ctx, n->u.apply.input) && visit_args(n->u.apply.args, visit, ctx);
    default:
        return true; /* constants, texts; names and statements are the caller's */
    }
}

/* ---- reading a scope: which names it loads and stores ---- */

static bool read_node(void *ctx, struct node *n);

static bool read_list(struct scoper *s, const struct node_list *l)
{
    return visit_list(l, read_node, s);
}

static bool read_target(struct scoper *s, const struct node *n, bool param)
{
    if (n->kind == N_NSREF)
        return load_name(s, n->u.nsref.object->u.name.id);
    if (n->kind == N_NAME)
        return param ? declare_param(s, n->u.name.id) != NULL : store_name(s, n->u.name.id);
    for (const struct node *i = n->u.items.first; i; i = i->next)
        if (!read_target(s, i, param))
            return false;
    return true;
}

/* Puts back what one branch defined; a name that several define is one symbol. */
static bool merge_branch(struct scoper *s, struct symbol *taken)
{
    while (taken) {
        struct symbol *y = taken, *own = find_own(s, y->name);
        taken = y->next;
        if (!own) {
            if (!(own = define(s, y->name, y->load)))
                return false;
            own->slot = y->slot;
            --*s->level->nslots;
        }
        own->load = y->load;
        own->branches += y->stored;
        own->stored = own->stored || y->stored;
    }
    return true;
}

/* The branches of an if are body, all of elif, and else; each starts from the same symbols. */
static bool read_if(struct scoper *s, const struct node *n)
{
    const struct node_list *parts[] = { &n->u.branch.body, &n->u.branch.elifs,
                                        &n->u.branch.otherwise };
    struct symbol *mark = s->level->symbols, *taken[3];
    if (!read_node(s, n->u.branch.test))
        return false;
    mark = s->level->symbols;
    for (int i = 0; i < 3; i++) {
        if (!read_list(s, parts[i]))
            return false;
        taken[i] = unwind(s, mark);
    }
    for (int i = 0; i < 3; i++)
        if (!merge_branch(s, taken[i]))
            return false;
    for (struct symbol *y = s->level->symbols; y != mark; y = y->next) {
        if (y->branches > 0 && y->branches < 3)
            y->load = y->outer ? LOAD_ALIAS : LOAD_RESOLVE;
        y->branches = 0;
    }
    return true;
}

/* Scopes inside this one contribute only what is evaluated outside of them. */
static bool read_node(void *ctx, struct node *n)
{
    struct scoper *s = ctx;
    if (!n)
        return true;
    switch ((enum node_kind)n->kind) {
    case N_NAME:
        return load_name(s, n->u.name.id);
    case N_IF:
        return read_if(s, n);
    case N_FOR:
        return read_node(s, n->u.loop->iter);
    case N_SET:
        return read_node(s, n->u.set.value) && read_target(s, n->u.set.target, false);
    case N_SET_BLOCK:
        return read_target(s, n->u.block.target, false);
    case N_FILTER_BLOCK:
        return read_node(s, n->u.block.filter);
    case N_MACRO:
        return store_name(s, n->u.macro.target->u.name.id);
    case N_CALL_BLOCK:
        return read_node(s, n->u.macro.call);
    case N_WITH:
        return read_list(s, &n->u.with.values);
    default:
        return visit_parts(n, read_node, s);
    }
}

/* ---- does a body use `loop`, `caller`, ... without having made it? ---- */

struct search {
    uint32_t id;
    bool found, made;
};

/* Visitors return false once it is known. */
static bool search_node(void *ctx, struct node *n);

static bool search_list(struct search *q, const struct node_list *l)
{
    return visit_list(l, search_node, q);
}

static bool search_target(struct search *q, const struct node *n)
{
    if (n->kind == N_NAME)
        q->made = q->made || n->u.name.id == q->id;
    else if (n->kind == N_TUPLE)
        for (const struct node *i = n->u.items.first; i; i = i->next)
            search_target(q, i);
    return !q->made;
}

static bool search_targets(struct search *q, const struct node_list *l)
{
    for (const struct node *i = l->first; i; i = i->next)
        if (!search_target(q, i))
            return false;
    return true;
}

static bool search_macro(struct search *q, const struct node *n)
{
    const struct macro_def *d = n->u.macro.def;
    return search_node(q, n->u.macro.call) && search_targets(q, &d->params) &&
           search_list(q, &d->defaults) && search_list(q, &d->body);
}

static bool search_for(struct search *q, const struct for_def *d)
{
    return search_target(q, d->target) && search_node(q, d->iter) && search_list(q, &d->body) &&
           search_list(q, &d->otherwise) && search_node(q, d->test);
}

static bool search_if(struct search *q, const struct node *n)
{
    return search_node(q, n->u.branch.test) && search_list(q, &n->u.branch.body) &&
           search_list(q, &n->u.branch.elifs) && search_list(q, &n->u.branch.otherwise);
}

/* The first use or making of the name decides. */
static bool search_node(void *ctx, struct node *n)
{
    struct search *q = ctx;
    if (!n)
        return true;
    switch ((enum node_kind)n->kind) {
    case N_NAME:
        q->found = n->u.name.id == q->id;
        return !q->found;
    case N_IF:
        return search_if(q, n);
    case N_FOR:
        return search_for(q, n->u.loop);
    case N_SET:
        return search_target(q, n->u.set.target) && search_node(q, n->u.set.value);
    case N_SET_BLOCK:
        return search_target(q, n->u.block.target) && search_node(q, n->u.block.filter) &&
               search_list(q, &n->u.block.body);
    case N_FILTER_BLOCK:
        return search_list(q, &n->u.block.body) && search_node(q, n->u.block.filter);
    case N_MACRO:
    case N_CALL_BLOCK:
        return search_macro(q, n);
    case N_WITH:
        return search_targets(q, &n->u.with.targets) && search_list(q, &n->u.with.values) &&
               search_list(q, &n->u.with.body);
    default:
        return visit_parts(n, search_node, q);
    }
}

static bool uses(const struct node_list *body, uint32_t id)
{
    struct search q = { .id = id };
    search_list(&q, body);
    return q.found;
}

/* ---- binding: each name node gets its slot ---- */

static bool bind_node(void *ctx, struct node *n);

static void begin(struct scoper *s, struct level *l, struct scope *out, uint32_t *nslots)
{
    struct level *up = s->level;
    *l = (struct level){ .up = up, .out = out };
    l->function = nslots ? (up ? up->function + 1 : 0) : up->function;
    l->nslots = nslots ? nslots : up->nslots;
    l->in_loop = !nslots && up->in_loop;
    s->level = l;
}

/* Ends the level: its loads become instructions. */
static bool end(struct scoper *s)
{
    struct level *l = s->level;
    struct scope *out = l->out;
    out->loads = arena_zero(&s->tree->arena, l->n, sizeof *out->loads);
    if (!out->loads)
        return no_memory(s);
    out->n = l->n;
    size_t i = l->n;
    for (struct symbol *y = l->symbols; y; y = y->next) {
        struct load *to = &out->loads[--i];
        *to = (struct load){ .kind = y->load, .slot = y->slot, .name = y->name };
        if (y->load == LOAD_ALIAS) {
            to->hops = y->function - y->outer->function;
            to->from = y->outer->slot;
        }
    }
    unwind(s, NULL);
    s->level = l->up;
    return true;
}

static bool bind_list(struct scoper *s, const struct node_list *l)
{
    return visit_list(l, bind_node, s);
}

static bool bind_name(struct scoper *s, struct node *n)
{
    if (!load_name(s, n->u.name.id))
        return false;
    const struct symbol *y = find(s, n->u.name.id);
    n->u.name.slot = y->slot;
    n->u.name.hops = s->level->function - y->function;
    return true;
}

static bool bind_apply(struct scoper *s, struct node *n, const char *what)
{
    if (!n->u.apply.fn && !s->level->soft) {
        struct str name = n->u.apply.name;
        err_set(s->e, ERR_FORMAT, "%s:%u: no %s named '%.*s'", s->name, n->line, what,
                name.n > 64 ? 64 : (int)name.n, name.p);
        return false;
    }
    return visit_parts(n, bind_node, s);
}

static bool bind_soft(struct scoper *s, const struct node_list *l)
{
    bool was = s->level->soft;
    s->level->soft = true;
    bool ok = bind_list(s, l);
    s->level->soft = was;
    return ok;
}

static bool bind_if(struct scoper *s, struct node *n)
{
    bool was = s->level->soft;
    s->level->soft = true;
    bool ok = bind_node(s, n->u.branch.test) && bind_list(s, &n->u.branch.body) &&
              bind_soft(s, &n->u.branch.elifs) && bind_list(s, &n->u.branch.otherwise);
    s->level->soft = was;
    return ok;
}

static bool bind_cond(struct scoper *s, struct node *n)
{
    bool was = s->level->soft;
    s->level->soft = true;
    bool ok = visit_parts(n, bind_node, s);
    s->level->soft = was;
    return ok;
}

/* The body of a macro or a call block, as a function. */
static bool bind_function(struct scoper *s, struct macro_def *d, uint32_t line)
{
    struct level l;
    begin(s, &l, &d->scope, &d->scope.nslots);
    size_t index = 0;
    for (struct node *p = d->params.first; p; p = p->next, index++) {
        uint32_t id = p->u.name.id;
        if (!declare_param(s, id) || !bind_name(s, p))
            return false;
        d->explicit_caller = d->explicit_caller || id == s->id_caller;
        if (id == s->id_caller && index < d->params.n - d->defaults.n &&
            uses(&d->body, s->id_caller))
            return fail(s, line, "the parameter 'caller' must have a default");
    }
    struct {
        uint32_t id, *slot;
        bool *takes;
    } special[] = {
        { s->id_caller, &d->caller_slot, &d->takes_caller },
        { s->id_kwargs, &d->kwargs_slot, &d->takes_kwargs },
        { s->id_varargs, &d->varargs_slot, &d->takes_varargs },
    };
    if (!read_list(s, &d->defaults) || !read_list(s, &d->body))
        return false;
    for (size_t i = 0; i < 3; i++) {
        struct symbol *y = find_own(s, special[i].id);
        bool is_param = y && y->load == LOAD_PARAM;
        if (is_param || !uses(&d->body, special[i].id))
            continue;
        if (!(y = declare_param(s, special[i].id)))
            return false;
        *special[i].takes = true;
        *special[i].slot = y->slot;
    }
    return bind_list(s, &d->defaults) && bind_list(s, &d->body) && end(s);
}

static bool has_loop_target(const struct node_list *l, uint32_t id);

/* Is `loop` assigned anywhere inside? Jinja refuses that in loops. */
static bool sets_name(const struct node *n, uint32_t id)
{
    struct search q = { .id = id };
    switch ((enum node_kind)n->kind) {
    case N_SET:
        search_target(&q, n->u.set.target);
        return q.made;
    case N_SET_BLOCK:
        search_target(&q, n->u.block.target);
        return q.made || has_loop_target(&n->u.block.body, id);
    case N_IF:
        return has_loop_target(&n->u.branch.body, id) || has_loop_target(&n->u.branch.elifs, id) ||
               has_loop_target(&n->u.branch.otherwise, id);
    case N_FILTER_BLOCK:
        return has_loop_target(&n->u.block.body, id);
    case N_WITH:
        return has_loop_target(&n->u.with.body, id);
    case N_MACRO:
    case N_CALL_BLOCK:
        return has_loop_target(&n->u.macro.def->body, id);
    default:
        return false;
    }
}

static bool has_loop_target(const struct node_list *l, uint32_t id)
{
    for (const struct node *n = l->first; n; n = n->next)
        if (sets_name(n, id))
            return true;
    return false;
}

/* The filter has the target in slots of its own. */
static struct node *copy_target(struct scoper *s, const struct node *from)
{
    struct node *n = arena_alloc(&s->tree->arena, sizeof *n);
    if (!n) {
        no_memory(s);
        return NULL;
    }
    *n = *from;
    n->next = NULL;
    if (n->kind != N_TUPLE)
        return n;
    n->u.items = (struct node_list){ 0 };
    for (const struct node *i = from->u.items.first; i; i = i->next) {
        struct node *c = copy_target(s, i);
        if (!c)
            return NULL;
        if (n->u.items.last)
            n->u.items.last->next = c;
        else
            n->u.items.first = c;
        n->u.items.last = c;
        n->u.items.n++;
    }
    return n;
}

static bool bind_loop_test(struct scoper *s, struct for_def *d)
{
    struct level l;
    if (!d->test)
        return true;
    if (!(d->test_target = copy_target(s, d->target)))
        return false;
    begin(s, &l, &d->test_scope, &d->test_scope.nslots);
    return read_target(s, d->test_target, true) && read_node(s, d->test) &&
           bind_node(s, d->test_target) && bind_node(s, d->test) && end(s);
}

static bool bind_loop_body(struct scoper *s, struct for_def *d)
{
    struct level l;
    begin(s, &l, &d->scope, NULL);
    l.in_loop = true;
    if (d->extended) {
        struct symbol *y = declare_param(s, s->id_loop);
        if (!y)
            return false;
        d->loop_slot = y->slot;
    }
    return read_target(s, d->target, true) && read_list(s, &d->body) &&
           bind_node(s, d->target) && bind_list(s, &d->body) && end(s);
}

static bool bind_loop_else(struct scoper *s, struct for_def *d)
{
    struct level l;
    begin(s, &l, &d->else_scope, NULL);
    return read_list(s, &d->otherwise) && bind_list(s, &d->otherwise) && end(s);
}

static bool bind_for(struct scoper *s, struct node *n)
{
    struct for_def *d = n->u.loop;
    struct search target = { .id = s->id_loop };
    search_target(&target, d->target);
    if (target.made || has_loop_target(&d->body, s->id_loop) ||
        has_loop_target(&d->otherwise, s->id_loop))
        return fail(s, n->line, "cannot assign to the special variable loop");
    if (!bind_node(s, d->iter))
        return false;
    d->extended = d->recursive || uses(&d->body, s->id_loop);
    struct level fn;
    struct scope *inner = NULL;
    /* The filter stands outside of a recursive loop's function: bound from the scope around. */
    if (!bind_loop_test(s, d))
        return false;
    if (d->recursive) {
        if (!(inner = arena_zero(&s->scratch, 1, sizeof *inner)))
            return no_memory(s);
        begin(s, &fn, inner, &d->nslots);
    }
    if (!bind_loop_body(s, d) || !bind_loop_else(s, d))
        return false;
    return !d->recursive || end(s);
}

static bool bind_block(struct scoper *s, struct node *n)
{
    struct level l;
    begin(s, &l, n->u.block.scope, NULL);
    if (!read_list(s, &n->u.block.body) || !read_node(s, n->u.block.filter) ||
        !bind_list(s, &n->u.block.body) || !bind_node(s, n->u.block.filter) || !end(s))
        return false;
    return !n->u.block.target || bind_node(s, n->u.block.target);
}

static bool bind_with(struct scoper *s, struct node *n)
{
    struct level l;
    if (!bind_list(s, &n->u.with.values))
        return false;
    begin(s, &l, n->u.with.scope, NULL);
    for (const struct node *t = n->u.with.targets.first; t; t = t->next)
        if (!read_target(s, t, true))
            return false;
    return read_list(s, &n->u.with.body) && bind_list(s, &n->u.with.targets) &&
           bind_list(s, &n->u.with.body) && end(s);
}

static bool bind_break(struct scoper *s, const struct node *n)
{
    return s->level->in_loop || fail(s, n->line, "break or continue outside of a loop");
}

static bool bind_node(void *ctx, struct node *n)
{
    struct scoper *s = ctx;
    if (!n)
        return true;
    switch ((enum node_kind)n->kind) {
    case N_NAME:
        return bind_name(s, n);
    case N_NSREF:
        return bind_name(s, n->u.nsref.object);
    case N_COND:
        return bind_cond(s, n);
    case N_FILTER:
        return bind_apply(s, n, "filter");
    case N_TEST:
        return bind_apply(s, n, "test");
    case N_IF:
        return bind_if(s, n);
    case N_FOR:
        return bind_for(s, n);
    case N_SET:
        return bind_node(s, n->u.set.value) && bind_node(s, n->u.set.target);
    case N_SET_BLOCK:
    case N_FILTER_BLOCK:
        return bind_block(s, n);
    case N_MACRO:
        return bind_node(s, n->u.macro.target) && bind_function(s, n->u.macro.def, n->line);
    case N_CALL_BLOCK:
        return bind_function(s, n->u.macro.def, n->line) && bind_node(s, n->u.macro.call);
    case N_WITH:
        return bind_with(s, n);
    case N_BREAK:
    case N_CONTINUE:
        return bind_break(s, n);
    default:
        return visit_parts(n, bind_node, s);
    }
}

static bool intern(struct scoper *s, const char *name, uint32_t *id)
{
    struct names *names = &s->tree->names;
    struct str key = str_from(name);
    if (map_get(&names->ids, key, id))
        return true;
    *id = (uint32_t)names->n;
    if (!mem_grow(&names->v, &names->cap, names->n + 1, sizeof *names->v, SIZE_MAX / 64) ||
        !map_put(&names->ids, key, *id))
        return no_memory(s);
    names->v[names->n++] = key;
    return true;
}

enum err_code jinja_scope(struct tree *t, const char *name, struct err *e)
{
    struct err local;
    struct scoper s = { .tree = t, .name = name, .e = e ? e : &local };
    struct level root;
    err_clear(s.e);
    if (!intern(&s, "loop", &s.id_loop) || !intern(&s, "caller", &s.id_caller) ||
        !intern(&s, "kwargs", &s.id_kwargs) || !intern(&s, "varargs", &s.id_varargs))
        return s.e->code;
    s.top = arena_zero(&s.scratch, t->names.n, sizeof *s.top);
    if (!s.top) {
        no_memory(&s);
        goto out;
    }
    begin(&s, &root, &t->scope, &t->scope.nslots);
    (void)(read_list(&s, &t->body) && bind_list(&s, &t->body) && end(&s));
out:
    arena_finish(&s.scratch);
    return s.e->code;
}
