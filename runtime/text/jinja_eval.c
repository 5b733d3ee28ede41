/* Expressions and calls. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/chat_template.h"
#include "runtime/text/jinja.h"

/* ---- what a rendering spends, and how it fails ---- */

bool jinja_fail(struct render *r, const char *fmt, ...)
{
    if (r->code)
        return false;
    char text[sizeof r->err.text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    r->code = err_set(&r->err, ERR_INVALID, "%s", text);
    return false;
}

bool jinja_too_large(struct render *r, const char *what)
{
    if (!r->code)
        r->code = err_set(&r->err, ERR_TOO_LARGE, "%s", what);
    return false;
}

void *jinja_alloc(struct render *r, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        jinja_too_large(r, "the template asks for too much memory");
        return NULL;
    }
    void *p = arena_alloc(&r->arena, bytes);
    if (p || r->code)
        return p;
    if (r->arena.limit - r->arena.used < bytes + 16)
        jinja_too_large(r, "the template takes more than its share of memory");
    else
        r->code = err_no_memory(&r->err, bytes, "a chat template's rendering");
    return NULL;
}

bool jinja_spend(struct render *r, int64_t units)
{
    r->fuel -= units;
    if (r->fuel >= 0)
        return true;
    r->fuel = 0;
    return jinja_too_large(r, "the template takes too many steps");
}

bool jinja_spend_bytes(struct render *r, size_t bytes)
{
    return jinja_spend(r, (int64_t)(bytes / JINJA_STEP_BYTES));
}

bool jinja_emit(struct render *r, struct str s)
{
    if (r->out->n - r->out_base + s.n > CHAT_TEMPLATE_MAX_OUTPUT)
        return jinja_too_large(r, "the template's output is too long");
    buf_put(r->out, s.p, s.n);
    if (!r->out->failed)
        return jinja_spend_bytes(r, s.n);
    if (r->out->n + s.n > r->out->max)
        return jinja_too_large(r, "the template's output is too long");
    if (!r->code)
        r->code = err_no_memory(&r->err, s.n, "a chat template's output");
    return false;
}

bool jinja_emit_value(struct render *r, const struct value *v)
{
    struct value s;
    return jinja_str(r, v, &s) &&
           origin_copy(r, &r->content, r->out->n, &s, s.u.s.p, s.u.s.n) && jinja_emit(r, s.u.s);
}

/* ---- names ---- */

struct frame *jinja_frame(struct render *r, struct frame *up, uint32_t nslots)
{
    struct frame *f = jinja_alloc(r, 1, sizeof *f + nslots * sizeof f->slot[0]);
    if (!f)
        return NULL;
    f->up = up;
    memset(f->slot, 0, nslots * sizeof f->slot[0]); /* V_MISSING is 0 */
    return f;
}

static struct value *slot_at(struct render *r, uint32_t hops, uint32_t slot)
{
    struct frame *f = r->frame;
    while (hops--)
        f = f->up;
    return &f->slot[slot];
}

/* [A-Za-z_][A-Za-z0-9_-]*, at most 32 bytes */
static bool is_plain_role(struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
        if (!letter && c != '_' && (i == 0 || (c != '-' && !(c >= '0' && c <= '9'))))
            return false;
    }
    return s.n > 0 && s.n <= 32;
}

/* Templates make control tokens out of roles: '<|' + message.role + '|>'. */
static void trust_roles(const struct value *messages)
{
    size_t n = messages->type == V_LIST ? messages->u.list->n : 0;
    for (size_t i = 0; i < n; i++) {
        const struct value *m = &messages->u.list->v[i];
        for (size_t k = 0; m->type == V_DICT && k < m->u.dict->n; k++) {
            struct entry *e = &m->u.dict->e[k];
            if (str_is(e->key.u.s, "role") && e->value.type == V_STR &&
                is_plain_role(e->value.u.s))
                e->value.origin = ORIGIN_TEMPLATE;
        }
    }
}

bool jinja_global(struct render *r, uint32_t name, struct value *out)
{
    struct value *g = &r->globals[name];
    if (!r->resolved[name]) {
        struct str s = r->tree->names.v[name];
        const json_t *j = json_object_getn(r->vars, s.p, s.n);
        const struct builtin *fn = j ? NULL : jinja_function(s);
        bool ours = !r->tracks || chat_template_trusts(s);
        if (j && !jinja_from_json(r, j, ours ? ORIGIN_TEMPLATE : ORIGIN_CONTENT, g))
            return false;
        if (j && str_is(s, "messages"))
            trust_roles(g);
        if (fn)
            *g = (struct value){ .type = V_FUNCTION, .u.function = fn };
        r->resolved[name] = true;
    }
    *out = *g;
    return true;
}

bool jinja_enter(struct render *r, const struct scope *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct load *l = &s->loads[i];
        struct value *to = &r->frame->slot[l->slot];
        if (l->kind == LOAD_RESOLVE && !jinja_global(r, l->name, to))
            return false;
        if (l->kind == LOAD_ALIAS)
            *to = *slot_at(r, l->hops, l->from);
        if (l->kind == LOAD_UNDEFINED)
            to->type = V_MISSING;
    }
    return jinja_spend(r, (int64_t)s->n / 4);
}

static bool eval_name(struct render *r, const struct node *n, struct value *out)
{
    *out = *slot_at(r, n->u.name.hops, n->u.name.slot);
    if (out->type == V_MISSING)
        *out = value_undefined(UNDEF_NAME, r->tree->names.v[n->u.name.id]);
    return true;
}

static bool eval_const(struct render *r, const struct node *n, struct value *out)
{
    (void)r;
    *out = n->u.constant;
    return true;
}

/* ---- collections ---- */

static bool eval_items(struct render *r, const struct node *n, enum value_type type,
                       struct value *out)
{
    struct list l = { jinja_alloc(r, n->u.items.n, sizeof *l.v), 0 };
    if (!l.v)
        return false;
    for (const struct node *i = n->u.items.first; i; i = i->next)
        if (!jinja_eval(r, i, &l.v[l.n++]))
            return false;
    return jinja_list(r, l, type, out);
}

static bool eval_tuple(struct render *r, const struct node *n, struct value *out)
{
    return eval_items(r, n, V_TUPLE, out);
}

static bool eval_list(struct render *r, const struct node *n, struct value *out)
{
    return eval_items(r, n, V_LIST, out);
}

static bool eval_dict(struct render *r, const struct node *n, struct value *out)
{
    struct dict *d = jinja_dict(r, n->u.items.n / 2);
    if (!d)
        return false;
    for (const struct node *k = n->u.items.first; k; k = k->next->next) {
        struct value key, v;
        if (!jinja_eval(r, k, &key) || !jinja_eval(r, k->next, &v) ||
            !jinja_dict_put(r, d, &key, &v))
            return false;
    }
    *out = (struct value){ .type = V_DICT, .u.dict = d };
    return true;
}

/* ---- operators ---- */

static bool eval_binary(struct render *r, const struct node *n, struct value *out)
{
    struct value a, b;
    return jinja_eval(r, n->u.pair.left, &a) && jinja_eval(r, n->u.pair.right, &b) &&
           jinja_binary(r, (enum op)n->op, &a, &b, out);
}

static bool eval_and_or(struct render *r, const struct node *n, struct value *out)
{
    bool truth;
    if (!jinja_eval(r, n->u.pair.left, out) || !jinja_truth(r, out, &truth))
        return false;
    return truth == (n->kind == N_OR) || jinja_eval(r, n->u.pair.right, out);
}

static bool eval_not(struct render *r, const struct node *n, struct value *out)
{
    bool truth;
    struct value v;
    if (!jinja_eval(r, n->u.pair.left, &v) || !jinja_truth(r, &v, &truth))
        return false;
    *out = value_bool(!truth);
    return true;
}

static bool eval_sign(struct render *r, const struct node *n, struct value *out)
{
    struct value v;
    return jinja_eval(r, n->u.pair.left, &v) && jinja_negate(r, &v, n->kind == N_NEG, out);
}

static bool eval_concat(struct render *r, const struct node *n, struct value *out)
{
    struct value v, s;
    *out = value_str((struct str){ "", 0 });
    for (const struct node *i = n->u.items.first; i; i = i->next)
        if (!jinja_eval(r, i, &v) || !jinja_str(r, &v, &s) || !jinja_concat(r, out, &s, out))
            return false;
    return true;
}

static bool eval_compare(struct render *r, const struct node *n, struct value *out)
{
    struct value left, right;
    if (!jinja_eval(r, n->u.items.first, &left))
        return false;
    for (const struct node *i = n->u.items.first->next; i; i = i->next) {
        bool yes;
        if (!jinja_eval(r, i->u.items.first, &right) ||
            !jinja_compare(r, (enum op)i->op, &left, &right, &yes))
            return false;
        *out = value_bool(yes);
        if (!yes)
            break;
        left = right;
    }
    return true;
}

static bool eval_cond(struct render *r, const struct node *n, struct value *out)
{
    bool truth;
    struct value v;
    if (!jinja_eval(r, n->u.cond.test, &v) || !jinja_truth(r, &v, &truth))
        return false;
    if (truth)
        return jinja_eval(r, n->u.cond.yes, out);
    if (n->u.cond.no)
        return jinja_eval(r, n->u.cond.no, out);
    *out = value_undefined(UNDEF_HINT, STR("the inline if-expression evaluated to false and no "
                                           "else section was defined"));
    return true;
}

static bool eval_attr(struct render *r, const struct node *n, struct value *out)
{
    struct value o;
    return jinja_eval(r, n->u.attr.object, &o) && jinja_attr(r, &o, n->u.attr.name, out);
}

static bool eval_item(struct render *r, const struct node *n, struct value *out)
{
    struct value o, key;
    return jinja_eval(r, n->u.item.object, &o) && jinja_eval(r, n->u.item.index, &key) &&
           jinja_item(r, &o, &key, out);
}

static bool eval_cut(struct render *r, const struct node *n, struct value *out)
{
    struct value o, part[3];
    if (!jinja_eval(r, n->u.cut.object, &o))
        return false;
    for (int i = 0; i < 3; i++) {
        part[i] = value_none();
        if (n->u.cut.part[i] && !jinja_eval(r, n->u.cut.part[i], &part[i]))
            return false;
    }
    return jinja_cut(r, &o, part, out);
}

/* ---- calls ---- */

static bool more_positional(struct render *r, const struct node *n, struct gather *g)
{
    struct value v, item;
    enum iter_step step = ITER_FAIL;
    struct iter *it = jinja_eval(r, n, &v) ? jinja_iter(r, &v) : NULL;
    while (it && (step = jinja_next(r, it, &item)) == ITER_ITEM)
        if (!jinja_gather(g, &item))
            return false;
    return step == ITER_END;
}

static bool more_keywords(struct render *r, const struct node *n, struct kwarg *kw, size_t known,
                          size_t *count, const struct value *given)
{
    (void)n;
    for (size_t i = 0; i < given->u.dict->n; i++) {
        const struct entry *e = &given->u.dict->e[i];
        if (e->key.type != V_STR)
            return jinja_fail(r, "keywords must be strings");
        for (size_t k = 0; k < known; k++)
            if (str_eq(kw[k].name, e->key.u.s))
                return jinja_fail(r, "got multiple values for keyword argument");
        kw[(*count)++] = (struct kwarg){ e->key.u.s, e->key.origin, e->value };
    }
    return true;
}

static bool eval_keywords(struct render *r, const struct call_args *in,
                          const struct value *caller, struct args *out)
{
    struct value dyn = { .type = V_MISSING };
    size_t n = in->kw.n + (caller != NULL);
    if (in->dyn_kw) {
        if (!jinja_eval(r, in->dyn_kw, &dyn))
            return false;
        if (dyn.type != V_DICT)
            return jinja_fail(r, "argument after ** must be a mapping, not %s",
                              jinja_type_name(dyn.type));
        n += dyn.u.dict->n;
    }
    struct kwarg *kw = jinja_alloc(r, n, sizeof *kw);
    if (!kw)
        return false;
    size_t count = 0;
    for (const struct node *i = in->kw.first; i; i = i->next, count++) {
        kw[count].name = in->kw_names[count];
        kw[count].origin = ORIGIN_TEMPLATE;
        if (!jinja_eval(r, i, &kw[count].v))
            return false;
    }
    if (caller)
        kw[count++] = (struct kwarg){ STR("caller"), ORIGIN_TEMPLATE, *caller };
    if (in->dyn_kw && !more_keywords(r, in->dyn_kw, kw, count, &count, &dyn))
        return false;
    out->kw = kw;
    out->nkw = count;
    return true;
}

/* few: room of the caller for the usual handful. */
bool jinja_eval_args(struct render *r, const struct call_args *in, const struct value *caller,
                     struct args *out, struct value *few, size_t nfew)
{
    struct value *v = few;
    *out = (struct args){ 0 };
    if (in->pos.n > nfew && !(v = jinja_alloc(r, in->pos.n, sizeof *v)))
        return false;
    for (const struct node *i = in->pos.first; i; i = i->next)
        if (!jinja_eval(r, i, &v[out->n++]))
            return false;
    out->v = v;
    if (in->dyn_pos) {
        struct gather g = { .r = r };
        for (size_t i = 0; i < out->n; i++)
            if (!jinja_gather(&g, &v[i]))
                return false;
        if (!more_positional(r, in->dyn_pos, &g))
            return false;
        out->v = g.v;
        out->n = g.n;
    }
    return (in->kw.n == 0 && !in->dyn_kw && !caller) || eval_keywords(r, in, caller, out);
}

/* Puts keyword arguments where the row names them. */
static bool bind_keyword(struct render *r, const struct builtin *fn, const struct kwarg *kw,
                         struct value *a)
{
    for (int i = 0; i < BUILTIN_MAX_PARAMS && fn->params[i]; i++) {
        if (!str_is(kw->name, fn->params[i]) || kw->name.n == 0)
            continue;
        if (value_given(&a[i + 1]))
            return jinja_fail(r, "%s() got multiple values for argument '%s'", fn->name,
                              fn->params[i]);
        a[i + 1] = kw->v;
        return true;
    }
    return jinja_fail(r, "%s() got an unexpected keyword argument '%.*s'", fn->name,
                      (int)(kw->name.n > 64 ? 64 : kw->name.n), kw->name.p);
}

bool jinja_call_builtin(struct render *r, const struct builtin *fn, const struct value *self,
                        const struct args *args, struct value *out)
{
    struct value a[BUILTIN_MAX_PARAMS + 1];
    memset(a, 0, sizeof a);
    if (self)
        a[0] = *self;
    if (!jinja_spend(r, JINJA_STEP))
        return false;
    if (!fn->call)
        return jinja_fail(r, "the method '%s' is not supported", fn->name);
    if (fn->required < 0)
        return fn->call(r, a, args, out);
    size_t most = 0;
    while (most < BUILTIN_MAX_PARAMS && fn->params[most])
        most++;
    if (args->n > most)
        return jinja_fail(r, "%s() takes at most %zu arguments (%zu given)", fn->name, most,
                          args->n);
    for (size_t i = 0; i < args->n; i++)
        a[i + 1] = args->v[i];
    for (size_t i = 0; i < args->nkw; i++)
        if (!bind_keyword(r, fn, &args->kw[i], a))
            return false;
    for (int i = 1; i <= fn->required; i++)
        if (!value_given(&a[i]))
            return jinja_fail(r, "%s() is missing a required argument", fn->name);
    return fn->call(r, a, args, out);
}

bool jinja_call(struct render *r, const struct value *fn, const struct args *args,
                struct value *out)
{
    switch (fn->type) {
    case V_MACRO:
        return jinja_call_macro(r, fn->u.macro, args, out);
    case V_METHOD:
        return jinja_call_builtin(r, fn->u.method->fn, &fn->u.method->self, args, out);
    case V_FUNCTION:
        return jinja_call_builtin(r, fn->u.function, NULL, args, out);
    case V_LOOP:
        if (args->n != 1 || args->nkw)
            return jinja_fail(r, "loop() takes one argument");
        return jinja_call_loop(r, fn->u.loop, &args->v[0], out);
    case V_JOINER:
        if (args->n || args->nkw)
            return jinja_fail(r, "a joiner takes no arguments");
        *out = fn->u.joiner->used ? fn->u.joiner->separator : value_text("");
        fn->u.joiner->used = true;
        return true;
    case V_UNDEFINED:
        return jinja_use_undefined(r, fn);
    default:
        return jinja_fail(r, "'%s' object is not callable", jinja_type_name(fn->type));
    }
}

/* caller: of a call block, or NULL. */
static bool call_node(struct render *r, const struct node *n, const struct value *caller,
                      struct value *out)
{
    const struct node *callee = n->u.call.callee;
    struct value fn, few[3];
    const struct builtin *method = NULL;
    struct args args;
    if (callee->kind == N_ATTR && callee->u.attr.is_method) {
        if (!jinja_eval(r, callee->u.attr.object, &fn))
            return false;
        if (fn.type == V_STR || fn.type == V_DICT || fn.type == V_LIST)
            method = jinja_method((enum value_type)fn.type, callee->u.attr.name);
        if (method && !method->call)
            method = NULL;
        struct value object = fn;
        if (!method && !jinja_attr(r, &object, callee->u.attr.name, &fn))
            return false;
    } else if (!jinja_eval(r, callee, &fn)) {
        return false;
    }
    if (!jinja_eval_args(r, n->u.call.args, caller, &args, few, 3))
        return false;
    return method ? jinja_call_builtin(r, method, &fn, &args, out)
                  : jinja_call(r, &fn, &args, out);
}

static bool eval_call(struct render *r, const struct node *n, struct value *out)
{
    return call_node(r, n, NULL, out);
}

bool jinja_call_with(struct render *r, const struct node *n, const struct value *caller,
                     struct value *out)
{
    return call_node(r, n, caller, out);
}

bool jinja_apply(struct render *r, const struct node *n, const struct value *input,
                 struct value *out)
{
    struct value v, few[3];
    struct args args;
    if (n->u.apply.input) {
        bool chained = n->u.apply.input->kind == N_FILTER && input;
        if (!(chained ? jinja_apply(r, n->u.apply.input, input, &v)
                      : jinja_eval(r, n->u.apply.input, &v)))
            return false;
        input = &v;
    }
    if (!n->u.apply.fn)
        return jinja_fail(r, "no %s named '%.*s' found", n->kind == N_TEST ? "test" : "filter",
                          (int)(n->u.apply.name.n > 64 ? 64 : n->u.apply.name.n),
                          n->u.apply.name.p);
    return jinja_eval_args(r, n->u.apply.args, NULL, &args, few, 3) &&
           jinja_call_builtin(r, n->u.apply.fn, input, &args, out);
}

static bool eval_apply(struct render *r, const struct node *n, struct value *out)
{
    return jinja_apply(r, n, NULL, out);
}

typedef bool eval_fn(struct render *r, const struct node *n, struct value *out);

bool jinja_eval(struct render *r, const struct node *n, struct value *out)
{
    static eval_fn *const table[N_KINDS] = {
        [N_CONST] = eval_const,     [N_NAME] = eval_name,       [N_TUPLE] = eval_tuple,
        [N_LIST] = eval_list,       [N_DICT] = eval_dict,       [N_BINARY] = eval_binary,
        [N_AND] = eval_and_or,      [N_OR] = eval_and_or,       [N_NOT] = eval_not,
        [N_NEG] = eval_sign,        [N_POS] = eval_sign,        [N_CONCAT] = eval_concat,
        [N_COMPARE] = eval_compare, [N_COND] = eval_cond,       [N_ATTR] = eval_attr,
        [N_ITEM] = eval_item,       [N_CUT] = eval_cut,         [N_CALL] = eval_call,
        [N_FILTER] = eval_apply,    [N_TEST] = eval_apply,
    };
    bool ok = false;
    if (++r->depth > JINJA_MAX_DEPTH)
        jinja_too_large(r, "the template recurses too deeply");
    else if (jinja_spend(r, 1))
        ok = table[n->kind](r, n, out);
    r->depth--;
    if (!ok && !r->error_line)
        r->error_line = n->line;
    return ok;
}
