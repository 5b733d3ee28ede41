/* Operators, attributes, items and slices, with Python's meaning. */
#include <math.h>
#include <string.h>

#include "runtime/text/jinja.h"

/* ---- numbers ---- */

static bool overflow(struct render *r)
{
    return jinja_fail(r, "an integer that needs more than 64 bits");
}

static bool int_pow(struct render *r, int64_t a, int64_t b, struct value *out)
{
    int64_t p = 1;
    if (b < 0) {
        if (a == 0)
            return jinja_fail(r, "0.0 cannot be raised to a negative power");
        *out = value_float(pow((double)a, (double)b));
        return true;
    }
    while (b) {
        if ((b & 1) && __builtin_mul_overflow(p, a, &p))
            return overflow(r);
        b >>= 1;
        if (b && __builtin_mul_overflow(a, a, &a))
            return overflow(r);
    }
    *out = value_int(p);
    return true;
}

static bool int_divide(struct render *r, enum op op, int64_t a, int64_t b, struct value *out)
{
    if (b == 0)
        return jinja_fail(r, op == OP_MOD ? "integer modulo by zero" : "division by zero");
    if (op == OP_DIV) {
        *out = value_float((double)a / (double)b);
        return true;
    }
    if (b == -1) {
        if (op == OP_FLOORDIV && a == INT64_MIN)
            return overflow(r);
        *out = value_int(op == OP_MOD ? 0 : -a);
        return true;
    }
    int64_t q = a / b, m = a % b;
    bool down = m != 0 && (m < 0) != (b < 0);
    *out = value_int(op == OP_MOD ? m + (down ? b : 0) : q - down);
    return true;
}

static bool int_op(struct render *r, enum op op, int64_t a, int64_t b, struct value *out)
{
    int64_t c = 0;
    bool over = false;
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &c);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &c);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &c);
        break;
    case OP_POW:
        return int_pow(r, a, b, out);
    default:
        return int_divide(r, op, a, b, out);
    }
    *out = value_int(c);
    return !over || overflow(r);
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0)
        return (b < 0) != (m < 0) ? m + b : m;
    return copysign(0.0, b);
}

static double float_floordiv(double a, double b)
{
    double m = fmod(a, b), q = (a - m) / b;
    if (m != 0 && (b < 0) != (m < 0))
        q -= 1.0;
    if (q == 0)
        return copysign(0.0, a / b);
    double whole = floor(q);
    return q - whole > 0.5 ? whole + 1.0 : whole;
}

static bool float_op(struct render *r, enum op op, double a, double b, struct value *out)
{
    double c = 0;
    if (b == 0 && (op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD))
        return jinja_fail(r, "float division by zero");
    switch (op) {
    case OP_ADD:
        c = a + b;
        break;
    case OP_SUB:
        c = a - b;
        break;
    case OP_MUL:
        c = a * b;
        break;
    case OP_DIV:
        c = a / b;
        break;
    case OP_MOD:
        c = float_mod(a, b);
        break;
    case OP_FLOORDIV:
        c = float_floordiv(a, b);
        break;
    default:
        if (a == 0 && b < 0)
            return jinja_fail(r, "0.0 cannot be raised to a negative power");
        if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b))
            return jinja_fail(r, "complex numbers are not supported");
        c = pow(a, b);
        if (isinf(c) && isfinite(a) && isfinite(b))
            return jinja_fail(r, "the result is too large");
    }
    *out = value_float(c);
    return true;
}

bool jinja_negate(struct render *r, const struct value *v, bool minus, struct value *out)
{
    uint32_t origin = v->origin;
    if (v->type == V_FLOAT) {
        *out = value_float(minus ? -v->u.f : v->u.f);
        out->origin = origin;
        return true;
    }
    if (value_is_number(v)) {
        int64_t i = value_as_int(v);
        if (minus && i == INT64_MIN)
            return overflow(r);
        *out = value_int(minus ? -i : i);
        out->origin = origin;
        return true;
    }
    if (v->type == V_UNDEFINED)
        return jinja_use_undefined(r, v);
    return jinja_fail(r, "bad operand type for unary %c: '%s'", minus ? '-' : '+',
                      jinja_type_name((enum value_type)v->type));
}

/* ---- sequences ---- */

static struct tail *tail_of(struct render *r, const struct value *a, size_t more)
{
    for (int i = 0; i < JINJA_TAILS; i++) {
        struct tail *t = &r->tail[i];
        if (t->p && t->p == a->u.s.p && t->n == a->u.s.n && t->origin == a->origin &&
            t->cap - t->n >= more)
            return t;
    }
    return NULL;
}

/* A text that begins as a's and has room for `more` bytes. */
static struct tail *new_tail(struct render *r, const struct value *a, size_t more)
{
    struct str s = a->u.s;
    size_t cap = s.n + more < 64 ? s.n + more : (s.n + more) * 2;
    struct tail t = { jinja_alloc(r, cap, 1), s.n, cap, ORIGIN_TEMPLATE };
    if (!t.p || !jinja_spend_bytes(r, s.n) || !origin_move(r, a, t.p, &t.origin))
        return NULL;
    memcpy(t.p, s.p, s.n);
    struct tail *to = &r->tail[r->next_tail++ % JINJA_TAILS];
    *to = t;
    return to;
}

/* Appends in place where `a` is the newest text of its memory, so that text = text + more costs
 * what it adds; older values still see their own length. */
bool jinja_concat(struct render *r, const struct value *a, const struct value *b,
                  struct value *out)
{
    struct str more = b->u.s;
    if (a->u.s.n == 0 || more.n == 0) {
        *out = a->u.s.n ? *a : *b;
        out->markup = false;
        return true;
    }
    struct tail *t = tail_of(r, a, more.n);
    if (!t && !(t = new_tail(r, a, more.n)))
        return false;
    if (!origin_append(r, t->p, t->n, b, &t->origin))
        return false;
    memmove(t->p + t->n, more.p, more.n);
    t->n += more.n;
    *out = value_str((struct str){ t->p, t->n });
    out->origin = t->origin;
    return jinja_spend_bytes(r, more.n);
}

static bool add_strings(struct render *r, const struct value *a, const struct value *b,
                        struct value *out)
{
    struct value x = *a, y = *b;
    bool markup = a->markup || b->markup;
    if (markup && (!jinja_escape(r, a, &x) || !jinja_escape(r, b, &y)))
        return false;
    if (!jinja_concat(r, &x, &y, out))
        return false;
    out->markup = markup;
    return true;
}

static bool add_lists(struct render *r, const struct value *a, const struct value *b,
                      struct value *out)
{
    const struct list *x = a->u.list, *y = b->u.list;
    struct list l = { jinja_alloc(r, x->n + y->n, sizeof *l.v), x->n + y->n };
    if (!l.v || !jinja_spend(r, (int64_t)(l.n / 4)))
        return false;
    if (x->n)
        memcpy(l.v, x->v, x->n * sizeof *l.v);
    if (y->n)
        memcpy(l.v + x->n, y->v, y->n * sizeof *l.v);
    return jinja_list(r, l, (enum value_type)a->type, out);
}

static bool repeat_str(struct render *r, const struct value *v, int64_t n, struct value *out)
{
    struct str s = v->u.s;
    struct spans content = { 0 };
    size_t bytes;
    if (n <= 0 || s.n == 0) {
        *out = value_text("");
    } else {
        char *p = __builtin_mul_overflow(s.n, (size_t)n, &bytes) ? NULL
                                                                 : jinja_alloc(r, bytes, 1);
        if (!p)
            return jinja_too_large(r, "the template takes more than its share of memory");
        if (!jinja_spend_bytes(r, bytes))
            return false;
        for (size_t at = 0; at < bytes; at += s.n) {
            memcpy(p + at, s.p, s.n);
            if (v->origin && !origin_copy(r, &content, at, v, s.p, s.n))
                return false;
        }
        *out = value_str((struct str){ p, bytes });
        if (!origin_take(r, p, bytes, &content, &out->origin))
            return false;
    }
    out->markup = v->markup;
    return true;
}

static bool repeat(struct render *r, const struct value *v, int64_t n, struct value *out)
{
    if (v->type == V_STR)
        return repeat_str(r, v, n, out);
    const struct list *a = v->u.list;
    struct list l = { 0 };
    size_t total = 0;
    if (n > 0 && __builtin_mul_overflow(a->n, (size_t)n, &total))
        return jinja_too_large(r, "the template takes more than its share of memory");
    l.n = total;
    if (!(l.v = jinja_alloc(r, l.n, sizeof *l.v)) || !jinja_spend(r, (int64_t)(total / 4)))
        return false;
    for (size_t i = 0; i < l.n; i++)
        l.v[i] = a->v[i % a->n];
    return jinja_list(r, l, (enum value_type)v->type, out);
}

static bool repeatable(const struct value *v, const struct value *n)
{
    return (v->type == V_STR || v->type == V_LIST || v->type == V_TUPLE) &&
           (n->type == V_INT || n->type == V_BOOL);
}

bool jinja_binary(struct render *r, enum op op, const struct value *a, const struct value *b,
                  struct value *out)
{
    static const char *const signs[] = { [OP_ADD] = "+", [OP_SUB] = "-", [OP_MUL] = "*",
                                         [OP_DIV] = "/", [OP_FLOORDIV] = "//", [OP_MOD] = "%",
                                         [OP_POW] = "**" };
    struct value x = *a, y = *b; /* out may be one of them */
    if (value_is_number(a) && value_is_number(b)) {
        bool whole = a->type != V_FLOAT && b->type != V_FLOAT;
        bool ok = whole ? int_op(r, op, value_as_int(&x), value_as_int(&y), out)
                        : float_op(r, op, value_as_float(&x), value_as_float(&y), out);
        out->origin = x.origin | y.origin;
        return ok;
    }
    if (op == OP_MOD && a->type == V_STR)
        return jinja_percent(r, &x, &y, out);
    if (a->type == V_UNDEFINED || b->type == V_UNDEFINED)
        return jinja_use_undefined(r, a->type == V_UNDEFINED ? a : b);
    if (op == OP_ADD && a->type == V_STR && b->type == V_STR)
        return add_strings(r, &x, &y, out);
    if (op == OP_ADD && a->type == b->type && (a->type == V_LIST || a->type == V_TUPLE))
        return add_lists(r, &x, &y, out);
    if (op == OP_MUL && repeatable(a, b))
        return repeat(r, &x, value_as_int(&y), out);
    if (op == OP_MUL && repeatable(b, a))
        return repeat(r, &y, value_as_int(&x), out);
    return jinja_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", signs[op],
                      jinja_type_name((enum value_type)a->type),
                      jinja_type_name((enum value_type)b->type));
}

bool jinja_compare(struct render *r, enum op op, const struct value *a, const struct value *b,
                   bool *out)
{
    switch (op) {
    case OP_EQ:
    case OP_NE:
        if (!jinja_equal(r, a, b, out))
            return false;
        *out = *out == (op == OP_EQ);
        return true;
    case OP_IN:
    case OP_NOT_IN:
        if (!jinja_contains(r, b, a, out))
            return false;
        *out = *out == (op == OP_IN);
        return true;
    default:
        return jinja_order(r, op, a, b, out);
    }
}

/* ---- attributes ---- */

/* Methods that would change what a template only reads: the sandbox does not give them out. */
static bool changes_object(enum value_type t, struct str name)
{
    static const char *const list[] = { "append", "reverse", "insert", "sort", "extend", "remove",
                                        "clear", "pop", NULL };
    static const char *const dict[] = { "clear", "pop", "popitem", "setdefault", "update", NULL };
    for (const char *const *s = t == V_LIST ? list : t == V_DICT ? dict : &list[8]; *s; s++)
        if (str_is(name, *s))
            return true;
    return false;
}

static bool bound(struct render *r, const struct builtin *fn, const struct value *o,
                  struct value *out)
{
    struct method *m = jinja_alloc(r, 1, sizeof *m);
    if (!m)
        return false;
    memset(m, 0, sizeof *m);
    *m = (struct method){ fn, *o };
    *out = (struct value){ .type = V_METHOD, .u.method = m };
    return true;
}

static bool macro_attr(struct render *r, const struct macro *m, struct str name,
                       struct value *out, bool *found)
{
    const struct macro_def *d = m->def;
    *found = true;
    if (str_is(name, "name"))
        *out = value_str(d->name);
    else if (str_is(name, "catch_kwargs"))
        *out = value_bool(d->takes_kwargs);
    else if (str_is(name, "catch_varargs"))
        *out = value_bool(d->takes_varargs);
    else if (str_is(name, "caller"))
        *out = value_bool(d->takes_caller || d->explicit_caller);
    else if (str_is(name, "arguments")) {
        struct list l = { jinja_alloc(r, d->params.n, sizeof *l.v), 0 };
        if (!l.v)
            return false;
        for (const struct node *p = d->params.first; p; p = p->next)
            l.v[l.n++] = value_str(r->tree->names.v[p->u.name.id]);
        return jinja_list(r, l, V_TUPLE, out);
    } else {
        *found = false;
    }
    return true;
}

bool jinja_loop_attr(struct render *r, struct loop *l, struct str name, struct value *out,
                     bool *found)
{
    static const char *const names[] = { "index", "index0", "revindex", "revindex0", "first",
                                         "last", "length", "depth", "depth0", "previtem",
                                         "nextitem", NULL };
    int which = 0;
    int64_t n = 0;
    while (names[which] && !str_is(name, names[which]))
        which++;
    *found = names[which] != NULL;
    struct value self = { .type = V_LOOP, .u.loop = l };
    if ((which == 2 || which == 3 || which == 6) && !jinja_length(r, &self, &n))
        return false;
    enum iter_step step = ITER_END;
    if ((which == 5 || which == 10) && (step = jinja_loop_peek(r, l)) == ITER_FAIL)
        return false;
    const struct value results[] = {
        value_int(l->index0 + 1),
        value_int(l->index0),
        value_int(n - l->index0),
        value_int(n - l->index0 - 1),
        value_bool(l->index0 == 0),
        value_bool(step == ITER_END),
        value_int(n),
        value_int(l->depth),
        value_int(l->depth - 1),
        l->index0 == 0 ? value_undefined(UNDEF_HINT, STR("there is no previous item"))
                       : l->before,
        step == ITER_ITEM ? l->after
                          : value_undefined(UNDEF_HINT, STR("there is no next item")),
    };
    if (*found)
        *out = results[which];
    return true;
}

static bool number_attr(const struct value *o, struct str name, struct value *out)
{
    bool whole = o->type != V_FLOAT;
    if (str_is(name, "real"))
        *out = whole ? value_int(value_as_int(o)) : *o;
    else if (str_is(name, "imag"))
        *out = whole ? value_int(0) : value_float(0);
    else if (whole && str_is(name, "numerator"))
        *out = value_int(value_as_int(o));
    else if (whole && str_is(name, "denominator"))
        *out = value_int(1);
    else
        return false;
    return true;
}

static bool data_attr(struct render *r, const struct value *o, struct str name,
                      struct value *out, bool *found)
{
    *found = false;
    switch ((enum value_type)o->type) {
    case V_NAMESPACE:
        *found = jinja_dict_find_str(r, o->u.dict, name, out);
        return !r->code;
    case V_MACRO:
        return macro_attr(r, o->u.macro, name, out, found);
    case V_LOOP:
        return jinja_loop_attr(r, o->u.loop, name, out, found);
    case V_TUPLE: {
        bool items = str_is(name, "list");
        *found = o->reason && (items || str_is(name, "grouper"));
        if (*found)
            *out = o->u.list->v[items];
        return true;
    }
    case V_CYCLER:
        *found = str_is(name, "current");
        if (*found)
            *out = o->u.cycler->items.v[o->u.cycler->at];
        return true;
    case V_BOOL:
    case V_INT:
    case V_FLOAT:
        *found = number_attr(o, name, out);
        return true;
    case V_RANGE:
        *found = true;
        if (str_is(name, "start"))
            *out = value_int(o->u.range->start);
        else if (str_is(name, "stop"))
            *out = value_int(o->u.range->stop);
        else if (str_is(name, "step"))
            *out = value_int(o->u.range->step);
        else
            *found = false;
        return true;
    default:
        return true;
    }
}

static struct value no_attr(const struct value *o, enum undefined_reason why, struct str name)
{
    struct value v = value_undefined(why, name);
    v.of = o->type;
    return v;
}

/* What getattr() gives; the sandbox turns away what is private or changes its object. */
static bool get_attr(struct render *r, const struct value *o, struct str name, struct value *out,
                     bool *found)
{
    if (!data_attr(r, o, name, out, found) || *found)
        return !r->code;
    if (str_starts(name, STR("__")) && o->type != V_NAMESPACE) {
        static const char *const real[] = {
            "__class__",        "__init__",      "__doc__",
            "__dict__",         "__eq__",        "__hash__",
            "__repr__",         "__str__",       "__len__",
            "__iter__",         "__getitem__",   "__contains__",
            "__add__",          "__new__",       "__reduce__",
            "__subclasshook__", "__dir__",       "__format__",
            "__getattribute__", "__globals__",   "__init_subclass__",
            "__module__",       "__call__",      "__lt__",
            "__le__",           "__gt__",        "__ge__",
            "__ne__",           "__sizeof__",    "__setattr__",
            "__delattr__",      "__reduce_ex__", "__class_getitem__",
            "__mul__"
        };
        for (size_t i = 0; i < sizeof real / sizeof *real && !*found; i++)
            *found = str_is(name, real[i]);
        *out = no_attr(o, UNDEF_UNSAFE, name);
        return true;
    }
    const struct builtin *fn = jinja_method((enum value_type)o->type, name);
    *found = fn != NULL;
    if (!fn)
        return true;
    if (changes_object((enum value_type)o->type, name)) {
        *out = no_attr(o, UNDEF_UNSAFE, name);
        return true;
    }
    return bound(r, fn, o, out);
}

/* What o[key] gives. */
static bool get_item(struct render *r, const struct value *o, const struct value *key,
                     struct value *out, bool *found)
{
    *found = false;
    if (o->type == V_DICT) {
        if (key->type == V_LIST || key->type == V_DICT || key->type == V_VIEW)
            return true; /* not hashable: an error that becomes undefined */
        return jinja_dict_find(r, o->u.dict, key, out, found);
    }
    if (key->type != V_INT && key->type != V_BOOL)
        return true;
    int64_t i = value_as_int(key), n = 0;
    if (o->type != V_STR && o->type != V_LIST && o->type != V_TUPLE && o->type != V_RANGE)
        return true;
    if (!jinja_length(r, o, &n))
        return false;
    if (i < 0)
        i += n;
    *found = i >= 0 && i < n;
    if (!*found)
        return true;
    if (o->type == V_STR) {
        size_t at = jinja_cp_offset(o->u.s, (size_t)i);
        uint32_t cp;
        *out = value_part(o, (struct str){ o->u.s.p + at, jinja_utf8(o->u.s, at, &cp) });
    } else if (o->type == V_RANGE) {
        *out = value_int(o->u.range->start + i * o->u.range->step);
    } else {
        *out = o->u.list->v[i];
    }
    return true;
}

bool jinja_attr(struct render *r, const struct value *o, struct str name, struct value *out)
{
    struct value object = *o, key = value_str(name);
    bool found;
    if (!get_attr(r, &object, name, out, &found))
        return false;
    if (!found && object.type == V_UNDEFINED)
        return jinja_use_undefined(r, &object);
    if (!found && !get_item(r, &object, &key, out, &found))
        return false;
    if (!found)
        *out = no_attr(&object, UNDEF_ATTRIBUTE, name);
    return true;
}

bool jinja_item(struct render *r, const struct value *o, const struct value *key,
                struct value *out)
{
    struct value object = *o, k = *key;
    bool found;
    if (object.type == V_UNDEFINED)
        return jinja_use_undefined(r, &object);
    if (!get_item(r, &object, &k, out, &found))
        return false;
    if (!found && k.type == V_STR && !get_attr(r, &object, k.u.s, out, &found))
        return false;
    if (found)
        return true;
    if (k.type == V_STR) {
        *out = no_attr(&object, UNDEF_ATTRIBUTE, k.u.s);
        return true;
    }
    *out = no_attr(&object, UNDEF_ELEMENT, (struct str){ 0 });
    out->u.i = value_is_number(&k) && k.type != V_FLOAT ? value_as_int(&k) : 0;
    return true;
}

/* ---- slices ---- */

static bool cut_part(struct render *r, const struct value *v, int64_t *out)
{
    if (v->type != V_INT && v->type != V_BOOL)
        return v->type == V_UNDEFINED
                   ? jinja_use_undefined(r, v)
                   : jinja_fail(r, "slice indices must be integers or None");
    *out = value_as_int(v);
    return true;
}

/* Python's clamping of start and stop for a sequence of n. */
static bool cut_bounds(struct render *r, const struct value part[3], int64_t n, int64_t b[3])
{
    b[2] = 1;
    if (part[2].type != V_NONE && !cut_part(r, &part[2], &b[2]))
        return false;
    if (b[2] == 0)
        return jinja_fail(r, "slice step cannot be zero");
    if (b[2] == INT64_MIN)
        b[2]++;
    int64_t low = b[2] < 0 ? -1 : 0, high = b[2] < 0 ? n - 1 : n;
    for (int i = 0; i < 2; i++) {
        b[i] = (i == 0) == (b[2] < 0) ? high : low;
        if (part[i].type == V_NONE)
            continue;
        if (!cut_part(r, &part[i], &b[i]))
            return false;
        if (b[i] < 0)
            b[i] = b[i] < -n ? low : b[i] + n;
        b[i] = b[i] < low ? low : b[i] > high ? high : b[i];
    }
    return true;
}

static int64_t cut_count(const int64_t b[3])
{
    int64_t span = b[2] > 0 ? b[1] - b[0] : b[0] - b[1];
    int64_t step = b[2] > 0 ? b[2] : -b[2];
    return span <= 0 ? 0 : (span - 1) / step + 1;
}

static bool cut_str(struct render *r, const struct value *o, const int64_t b[3], int64_t n,
                    int64_t count, struct value *out)
{
    struct str s = o->u.s;
    if (b[2] == 1) {
        size_t from = jinja_cp_offset(s, (size_t)b[0]), to = jinja_cp_offset(s, (size_t)b[1]);
        *out = value_part(o, (struct str){ s.p + from, to > from ? to - from : 0 });
    } else {
        struct text t = { .r = r };
        bool ascii = (size_t)n == s.n;
        uint32_t *offsets = ascii ? NULL : jinja_alloc(r, (size_t)n + 1, sizeof *offsets);
        uint32_t cp;
        if (!ascii && !offsets)
            return false;
        for (size_t i = 0, at = 0; !ascii && at < s.n; i++) {
            offsets[i] = (uint32_t)at;
            at += jinja_utf8(s, at, &cp);
        }
        for (int64_t i = 0; i < count && !t.failed; i++) {
            size_t k = (size_t)(b[0] + i * b[2]), at = ascii ? k : offsets[k];
            text_from(&t, o, s.p + at, jinja_utf8(s, at, &cp));
        }
        if (!text_take(&t, out))
            return false;
    }
    out->markup = o->markup;
    return jinja_spend_bytes(r, s.n);
}

static bool cut_list(struct render *r, const struct value *o, const int64_t b[3], int64_t count,
                     struct value *out)
{
    struct list l = { NULL, (size_t)count };
    if (b[2] == 1 && count) {
        l.v = o->u.list->v + b[0];
    } else if (!(l.v = jinja_alloc(r, l.n, sizeof *l.v)) || !jinja_spend(r, count / 4)) {
        return false;
    } else {
        for (int64_t i = 0; i < count; i++)
            l.v[i] = o->u.list->v[b[0] + i * b[2]];
    }
    return jinja_list(r, l, (enum value_type)o->type, out);
}

static bool cut_range(struct render *r, const struct range *g, const int64_t b[3], int64_t count,
                      struct value *out)
{
    struct range *cut = jinja_alloc(r, 1, sizeof *cut);
    if (!cut)
        return false;
    *cut = (struct range){ g->start + b[0] * g->step, g->start + b[1] * g->step, g->step, count };
    if (__builtin_mul_overflow(g->step, b[2], &cut->step))
        return overflow(r);
    *out = (struct value){ .type = V_RANGE, .u.range = cut };
    return true;
}

bool jinja_cut(struct render *r, const struct value *o, const struct value part[3],
               struct value *out)
{
    struct value object = *o;
    int64_t n, b[3];
    switch ((enum value_type)object.type) {
    case V_STR:
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
        break;
    case V_UNDEFINED:
        return jinja_use_undefined(r, &object);
    default:
        return jinja_fail(r, "'%s' object cannot be sliced",
                          jinja_type_name((enum value_type)object.type));
    }
    if (!jinja_length(r, &object, &n) || !cut_bounds(r, part, n, b))
        return false;
    int64_t count = cut_count(b);
    if (object.type == V_STR)
        return cut_str(r, &object, b, n, count, out);
    if (object.type == V_RANGE)
        return cut_range(r, object.u.range, b, count, out);
    return cut_list(r, &object, b, count, out);
}

/* ---- arguments of builtins ---- */

bool jinja_int_arg(struct render *r, const struct value *v, int64_t absent, int64_t *out)
{
    *out = absent;
    if (v->type == V_MISSING)
        return true;
    if (v->type == V_UNDEFINED)
        return jinja_use_undefined(r, v);
    if (v->type != V_INT && v->type != V_BOOL)
        return jinja_fail(r, "'%s' object cannot be interpreted as an integer",
                          jinja_type_name((enum value_type)v->type));
    *out = value_as_int(v);
    return true;
}

bool jinja_str_arg(struct render *r, const struct value *v, struct str *out)
{
    if (v->type == V_UNDEFINED)
        return jinja_use_undefined(r, v);
    if (v->type != V_STR)
        return jinja_fail(r, "expected a string, got '%s'",
                          jinja_type_name((enum value_type)v->type));
    *out = v->u.s;
    return true;
}
