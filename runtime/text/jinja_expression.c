/* Expressions of templates: one function a level of precedence, from primaries up. */
#include <string.h>

#include "runtime/text/jinja_parser.h"

static struct node *parse_unary(struct parser *p, bool with_filter);

static struct node *parse_name(struct parser *p)
{
    static const struct {
        const char *name;
        struct value v;
    } constants[] = {
        { "true", { .type = V_BOOL, .u.b = true } },   { "True", { .type = V_BOOL, .u.b = true } },
        { "false", { .type = V_BOOL } },               { "False", { .type = V_BOOL } },
        { "none", { .type = V_NONE } },                { "None", { .type = V_NONE } },
    };
    struct token t = p->now;
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (!str_is(t.text, constants[i].name))
            continue;
        struct node *n = parser_node(p, N_CONST);
        if (!n || !parser_next(p))
            return NULL;
        n->u.constant = constants[i].v;
        return n;
    }
    return parser_next(p) ? parser_name_node(p, t.text, t.line) : NULL;
}

/* "a" "b" is one string. */
static struct node *parse_string(struct parser *p)
{
    struct node *n = parser_node(p, N_CONST);
    struct str s = p->now.text;
    if (!n || !parser_next(p))
        return NULL;
    while (parser_is(p, T_STRING)) {
        struct str more = p->now.text;
        char *both = arena_alloc(&p->tree->arena, s.n + more.n);
        if (!both)
            return parser_no_memory(p, s.n + more.n);
        memcpy(both, s.p, s.n);
        memcpy(both + s.n, more.p, more.n);
        s = (struct str){ both, s.n + more.n };
        if (!parser_next(p))
            return NULL;
    }
    n->u.constant = value_str(s);
    return n;
}

static struct node *parse_list(struct parser *p)
{
    struct node *n = parser_node(p, N_LIST);
    if (!n || !parser_expect(p, T_LBRACKET))
        return NULL;
    while (!parser_is(p, T_RBRACKET)) {
        if (n->u.items.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (parser_is(p, T_RBRACKET))
            break;
        struct node *item = parser_expression(p, true);
        if (!item || !parser_lift(p, n, item))
            return NULL;
        parser_append(&n->u.items, item);
    }
    return parser_expect(p, T_RBRACKET) ? n : NULL;
}

static struct node *parse_dict(struct parser *p)
{
    struct node *n = parser_node(p, N_DICT);
    if (!n || !parser_expect(p, T_LBRACE))
        return NULL;
    while (!parser_is(p, T_RBRACE)) {
        if (n->u.items.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (parser_is(p, T_RBRACE))
            break;
        struct node *key = parser_expression(p, true);
        if (!key || !parser_expect(p, T_COLON) || !parser_lift(p, n, key))
            return NULL;
        struct node *value = parser_expression(p, true);
        if (!value || !parser_lift(p, n, value))
            return NULL;
        parser_append(&n->u.items, key);
        parser_append(&n->u.items, value);
    }
    return parser_expect(p, T_RBRACE) ? n : NULL;
}

static struct node *parse_number(struct parser *p)
{
    struct node *n = parser_node(p, N_CONST);
    if (!n)
        return NULL;
    n->u.constant = parser_is(p, T_INTEGER) ? value_int(p->now.i) : value_float(p->now.f);
    return parser_next(p) ? n : NULL;
}

static struct node *parse_primary(struct parser *p)
{
    struct node *n = NULL;
    switch (p->now.kind) {
    case T_NAME:
        return parse_name(p);
    case T_STRING:
        return parse_string(p);
    case T_INTEGER:
    case T_FLOAT:
        return parse_number(p);
    case T_LPAREN:
        if (!parser_next(p) || !(n = parser_tuple(p, false, true, NULL, true)) ||
            !parser_expect(p, T_RPAREN))
            return NULL;
        return n;
    case T_LBRACKET:
        return parse_list(p);
    case T_LBRACE:
        return parse_dict(p);
    default:
        err_set(p->e, ERR_FORMAT, "%s:%u: unexpected '%s'", p->name, p->now.line,
                jinja_token_name(p->now.kind));
        return NULL;
    }
}

static bool tuple_ends(const struct parser *p, const char *end)
{
    return parser_is(p, T_VARIABLE_END) || parser_is(p, T_BLOCK_END) || parser_is(p, T_RPAREN) ||
           (end && parser_is_name(p, end));
}

/* A part of a target: a primary, or namespace.attribute. */
static struct node *parse_simple(struct parser *p)
{
    const struct token *t = NULL;
    if (!p->namespaces || !parser_is(p, T_NAME))
        return parse_primary(p);
    if (!parser_look(p, &t))
        return NULL;
    if (t->kind != T_DOT)
        return parse_primary(p);
    struct node *n = parser_node(p, N_NSREF);
    bool ok = n && (n->u.nsref.object = parser_target_name(p)) && parser_next(p) &&
              parser_take_name(p, &n->u.nsref.attr);
    return ok ? n : NULL;
}

/* One expression, or several with commas, which make a tuple. simple: primaries only (targets). */
struct node *parser_tuple(struct parser *p, bool simple, bool with_cond, const char *end,
                                bool parentheses)
{
    struct node *t = parser_node(p, N_TUPLE);
    bool is_tuple = false;
    if (!t || !parser_enter(p))
        return NULL;
    for (;;) {
        if (t->u.items.n && !parser_expect(p, T_COMMA))
            return NULL;
        if (tuple_ends(p, end))
            break;
        struct node *n = simple ? parse_simple(p) : parser_expression(p, with_cond);
        if (!n || !parser_lift(p, t, n))
            return NULL;
        parser_append(&t->u.items, n);
        if (!parser_is(p, T_COMMA))
            break;
        is_tuple = true;
    }
    p->nesting--;
    if (is_tuple)
        return t;
    if (t->u.items.n)
        return t->u.items.first;
    if (parentheses)
        return t;
    parser_fail(p, "expected an expression");
    return NULL;
}

static struct node *parse_cut_or_index(struct parser *p, struct node *object)
{
    struct node *part[3] = { NULL };
    struct node *n = NULL;
    if (!parser_is(p, T_COLON)) {
        if (!(part[0] = parser_expression(p, true)))
            return NULL;
        if (!parser_is(p, T_COLON)) {
            n = parser_node_at(p, N_ITEM, part[0]->line);
            if (!n || !parser_lift(p, n, object) || !parser_lift(p, n, part[0]))
                return NULL;
            n->u.item.object = object;
            n->u.item.index = part[0];
            return n;
        }
    }
    n = parser_node(p, N_CUT);
    if (!n)
        return NULL;
    for (int i = 1; i < 3 && parser_is(p, T_COLON); i++) {
        if (!parser_next(p))
            return NULL;
        if (parser_is(p, T_COLON) || parser_is(p, T_RBRACKET) || parser_is(p, T_COMMA))
            continue;
        if (!(part[i] = parser_expression(p, true)))
            return NULL;
    }
    n->u.cut.object = object;
    if (!parser_lift(p, n, object))
        return NULL;
    for (int i = 0; i < 3; i++) {
        n->u.cut.part[i] = part[i];
        if (!parser_lift(p, n, part[i]))
            return NULL;
    }
    return n;
}

/* a[1, 2] asks for the item (1, 2). */
static struct node *parse_item_tuple(struct parser *p, struct node *n)
{
    if (n->kind != N_ITEM) {
        parser_fail(p, "a slice among several subscripts is not supported");
        return NULL;
    }
    struct node *t = parser_node(p, N_TUPLE);
    if (!t || !parser_lift(p, t, n->u.item.index))
        return NULL;
    parser_append(&t->u.items, n->u.item.index);
    while (parser_is(p, T_COMMA)) {
        if (!parser_next(p))
            return NULL;
        struct node *i = parser_expression(p, true);
        if (!i || !parser_lift(p, t, i))
            return NULL;
        parser_append(&t->u.items, i);
    }
    n->u.item.index = t;
    return parser_lift(p, n, t) ? n : NULL;
}

static struct node *parse_subscript(struct parser *p, struct node *object)
{
    struct node *n;
    if (parser_is(p, T_LBRACKET)) {
        if (!parser_next(p))
            return NULL;
        n = parse_cut_or_index(p, object);
        if (n && parser_is(p, T_COMMA))
            n = parse_item_tuple(p, n);
        return n && parser_expect(p, T_RBRACKET) ? n : NULL;
    }
    if (!parser_next(p)) /* the dot */
        return NULL;
    if (parser_is(p, T_INTEGER)) {
        n = parser_node(p, N_ITEM);
        if (!n || !parser_lift(p, n, object) || !(n->u.item.index = parse_number(p)))
            return NULL;
        n->u.item.object = object;
        return n;
    }
    n = parser_node(p, N_ATTR);
    if (!n || !parser_lift(p, n, object) || !parser_take_name(p, &n->u.attr.name))
        return NULL;
    n->u.attr.object = object;
    n->u.attr.is_method = jinja_is_method(n->u.attr.name);
    return n;
}

static bool parse_keyword(struct parser *p, struct call_args *a, size_t *cap)
{
    struct str name = p->now.text;
    if (a->kw.n == *cap) {
        size_t want = *cap ? *cap * 2 : 4;
        struct str *names = arena_alloc(&p->tree->arena, want * sizeof *names);
        if (!names)
            return parser_no_memory(p, want * sizeof *names);
        if (*cap)
            memcpy(names, a->kw_names, *cap * sizeof *names);
        a->kw_names = names;
        *cap = want;
    }
    for (size_t i = 0; i < a->kw.n; i++)
        if (str_eq(a->kw_names[i], name))
            return parser_fail(p, "a keyword argument repeated");
    if (a->kw.n == 256)
        return parser_fail(p, "more than 256 keyword arguments");
    a->kw_names[a->kw.n] = name;
    struct node *v = parser_next(p) && parser_next(p) ? parser_expression(p, true) : NULL;
    if (v)
        parser_append(&a->kw, v);
    return v != NULL;
}

static bool parse_argument(struct parser *p, struct call_args *a, size_t *kw_cap)
{
    const struct token *t = NULL;
    if (parser_is(p, T_MUL) || parser_is(p, T_POW)) {
        struct node **to = parser_is(p, T_MUL) ? &a->dyn_pos : &a->dyn_kw;
        if (*to || a->dyn_kw)
            return parser_fail(p, "invalid syntax for function call expression");
        return parser_next(p) && (*to = parser_expression(p, true)) != NULL;
    }
    if (parser_is(p, T_NAME)) {
        if (!parser_look(p, &t))
            return false;
        if (t->kind == T_ASSIGN)
            return a->dyn_kw ? parser_fail(p, "invalid syntax for function call expression")
                             : parse_keyword(p, a, kw_cap);
    }
    if (a->dyn_pos || a->dyn_kw || a->kw.n)
        return parser_fail(p, "invalid syntax for function call expression");
    struct node *v = parser_expression(p, true);
    if (v)
        parser_append(&a->pos, v);
    return v != NULL;
}

static struct call_args *parse_args(struct parser *p)
{
    struct call_args *a = parser_alloc(p, sizeof *a);
    size_t kw_cap = 0;
    bool comma = false;
    if (!a || !parser_expect(p, T_LPAREN))
        return NULL;
    while (!parser_is(p, T_RPAREN)) {
        if (comma) {
            if (!parser_expect(p, T_COMMA))
                return NULL;
            if (parser_is(p, T_RPAREN))
                break;
        }
        if (!parse_argument(p, a, &kw_cap))
            return NULL;
        comma = true;
    }
    return parser_expect(p, T_RPAREN) ? a : NULL;
}

static struct node *parse_call(struct parser *p, struct node *callee)
{
    struct node *n = parser_node(p, N_CALL);
    if (!n || !parser_enter(p) || !(n->u.call.args = parse_args(p)))
        return NULL;
    p->nesting--;
    n->u.call.callee = callee;
    return parser_lift(p, n, callee) && parser_lift_args(p, n, n->u.call.args) ? n : NULL;
}

static struct node *parse_postfix(struct parser *p, struct node *n)
{
    while (n && (parser_is(p, T_DOT) || parser_is(p, T_LBRACKET) || parser_is(p, T_LPAREN)))
        n = parser_is(p, T_LPAREN) ? parse_call(p, n) : parse_subscript(p, n);
    return n;
}

/* a | b.c is one filter name with a dot. */
static bool parse_dotted(struct parser *p, struct str *out)
{
    struct str first = p->now.text, part;
    if (!parser_take_name(p, &part))
        return false;
    while (parser_is(p, T_DOT)) {
        if (!parser_next(p) || !parser_take_name(p, &part))
            return false;
    }
    *out = (struct str){ first.p, (size_t)(part.p + part.n - first.p) };
    return true;
}

struct node *parser_filters(struct parser *p, struct node *input, bool inline_name)
{
    while (parser_is(p, T_PIPE) || inline_name) {
        if (!inline_name && !parser_next(p))
            return NULL;
        inline_name = false;
        struct node *n = parser_node(p, N_FILTER);
        if (!n || !parse_dotted(p, &n->u.apply.name))
            return NULL;
        n->u.apply.input = input;
        n->u.apply.fn = jinja_filter(n->u.apply.name);
        n->u.apply.args =
            parser_is(p, T_LPAREN) ? parse_args(p) : parser_alloc(p, sizeof *n->u.apply.args);
        if (!n->u.apply.args || !parser_lift(p, n, input) ||
            !parser_lift_args(p, n, n->u.apply.args))
            return NULL;
        input = n;
    }
    return input;
}

/* The argument of a test may come without parentheses: x is divisibleby 3. */
static bool test_argument_follows(const struct parser *p)
{
    switch (p->now.kind) {
    case T_NAME:
        return !parser_is_name(p, "else") && !parser_is_name(p, "or") && !parser_is_name(p, "and");
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    default:
        return false;
    }
}

static struct node *parse_test(struct parser *p, struct node *input)
{
    struct node *n = parser_node(p, N_TEST), *no = NULL;
    if (!n || !parser_next(p))
        return NULL;
    if (parser_is_name(p, "not")) {
        if (!(no = parser_node(p, N_NOT)) || !parser_next(p))
            return NULL;
    }
    if (!parse_dotted(p, &n->u.apply.name))
        return NULL;
    n->u.apply.fn = jinja_test(n->u.apply.name);
    n->u.apply.input = input;
    if (parser_is(p, T_LPAREN)) {
        n->u.apply.args = parse_args(p);
    } else if ((n->u.apply.args = parser_alloc(p, sizeof *n->u.apply.args)) &&
               test_argument_follows(p)) {
        if (parser_is_name(p, "is")) {
            parser_fail(p, "tests cannot be chained with is");
            return NULL;
        }
        struct node *arg = parse_postfix(p, parse_primary(p));
        if (!arg)
            return NULL;
        parser_append(&n->u.apply.args->pos, arg);
    }
    if (!n->u.apply.args || !parser_lift(p, n, input) || !parser_lift_args(p, n, n->u.apply.args))
        return NULL;
    if (!no)
        return n;
    no->u.pair.left = n;
    return parser_lift(p, no, n) ? no : NULL;
}

static struct node *parse_filter_expr(struct parser *p, struct node *n)
{
    while (n) {
        if (parser_is(p, T_PIPE))
            n = parser_filters(p, n, false);
        else if (parser_is_name(p, "is"))
            n = parse_test(p, n);
        else if (parser_is(p, T_LPAREN))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

static struct node *parse_unary(struct parser *p, bool with_filter)
{
    struct node *n;
    if (!parser_enter(p))
        return NULL;
    if (parser_is(p, T_SUB) || parser_is(p, T_ADD)) {
        n = parser_node(p, parser_is(p, T_SUB) ? N_NEG : N_POS);
        if (!n || !parser_next(p) || !(n->u.pair.left = parse_unary(p, false)) ||
            !parser_lift(p, n, n->u.pair.left))
            return NULL;
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    if (with_filter)
        n = parse_filter_expr(p, n);
    p->nesting--;
    return n;
}

static struct node *pair(struct parser *p, enum node_kind kind, struct node *left,
                         struct node *right, uint32_t line)
{
    struct node *n = right ? parser_node_at(p, kind, line) : NULL;
    if (!n || !parser_lift(p, n, left) || !parser_lift(p, n, right))
        return NULL;
    n->u.pair.left = left;
    n->u.pair.right = right;
    return n;
}

/* Levels of binary operators, from the tightest; each leans to the left. */
struct level {
    enum token_kind token;
    enum op op;
};
static const struct level power[] = { { T_POW, OP_POW }, { T_EOF, 0 } };
static const struct level product[] = {
    { T_MUL, OP_MUL }, { T_DIV, OP_DIV }, { T_FLOORDIV, OP_FLOORDIV }, { T_MOD, OP_MOD },
    { T_EOF, 0 },
};
static const struct level sum[] = { { T_ADD, OP_ADD }, { T_SUB, OP_SUB }, { T_EOF, 0 } };

static const struct level *level_of(const struct level *l, enum token_kind k)
{
    while (l->token != T_EOF && l->token != k)
        l++;
    return l->token == T_EOF ? NULL : l;
}

static struct node *parse_pow(struct parser *p)
{
    struct node *n = parse_unary(p, true);
    const struct level *l;
    while (n && (l = level_of(power, p->now.kind))) {
        uint32_t line = p->now.line;
        n = parser_next(p) ? pair(p, N_BINARY, n, parse_unary(p, true), line) : NULL;
        if (n)
            n->op = (uint8_t)l->op;
    }
    return n;
}

static struct node *parse_product(struct parser *p)
{
    struct node *n = parse_pow(p);
    const struct level *l;
    while (n && (l = level_of(product, p->now.kind))) {
        uint32_t line = p->now.line;
        n = parser_next(p) ? pair(p, N_BINARY, n, parse_pow(p), line) : NULL;
        if (n)
            n->op = (uint8_t)l->op;
    }
    return n;
}

static struct node *parse_concat(struct parser *p)
{
    struct node *first = parse_product(p);
    if (!first || !parser_is(p, T_TILDE))
        return first;
    struct node *n = parser_node(p, N_CONCAT);
    if (!n || !parser_lift(p, n, first))
        return NULL;
    parser_append(&n->u.items, first);
    while (parser_is(p, T_TILDE)) {
        struct node *more = parser_next(p) ? parse_product(p) : NULL;
        if (!more || !parser_lift(p, n, more))
            return NULL;
        parser_append(&n->u.items, more);
    }
    return n;
}

static struct node *parse_sum(struct parser *p)
{
    struct node *n = parse_concat(p);
    const struct level *l;
    while (n && (l = level_of(sum, p->now.kind))) {
        uint32_t line = p->now.line;
        n = parser_next(p) ? pair(p, N_BINARY, n, parse_concat(p), line) : NULL;
        if (n)
            n->op = (uint8_t)l->op;
    }
    return n;
}

static bool compare_op(struct parser *p, enum op *op, bool *found)
{
    static const struct level ops[] = {
        { T_EQ, OP_EQ }, { T_NE, OP_NE }, { T_LT, OP_LT }, { T_LE, OP_LE },
        { T_GT, OP_GT }, { T_GE, OP_GE }, { T_EOF, 0 },
    };
    const struct level *l = level_of(ops, p->now.kind);
    const struct token *t = NULL;
    *found = true;
    if (l) {
        *op = l->op;
        return parser_next(p);
    }
    if (parser_is_name(p, "in")) {
        *op = OP_IN;
        return parser_next(p);
    }
    if (parser_is_name(p, "not")) {
        if (!parser_look(p, &t))
            return false;
        if (t->kind == T_NAME && str_is(t->text, "in")) {
            *op = OP_NOT_IN;
            return parser_next(p) && parser_next(p);
        }
    }
    *found = false;
    return true;
}

/* a < b < c keeps its operands in a list, each with the operator before it. */
static struct node *parse_compare(struct parser *p)
{
    struct node *first = parse_sum(p), *n = NULL;
    while (first) {
        enum op op = OP_EQ;
        bool found;
        uint32_t line = p->now.line;
        if (!compare_op(p, &op, &found))
            return NULL;
        if (!found)
            break;
        if (!n) {
            n = parser_node_at(p, N_COMPARE, line);
            if (!n || !parser_lift(p, n, first))
                return NULL;
            parser_append(&n->u.items, first);
        }
        struct node *right = parse_sum(p), *holder = parser_node_at(p, N_COMPARE, line);
        if (!right || !holder || !parser_lift(p, holder, right) || !parser_lift(p, n, holder))
            return NULL;
        holder->op = (uint8_t)op;
        parser_append(&holder->u.items, right);
        parser_append(&n->u.items, holder);
    }
    return n ? n : first;
}

static struct node *parse_not(struct parser *p)
{
    if (!parser_is_name(p, "not"))
        return parse_compare(p);
    struct node *n = parser_node(p, N_NOT);
    if (!n || !parser_enter(p) || !parser_next(p))
        return NULL;
    n->u.pair.left = parse_not(p);
    p->nesting--;
    return n->u.pair.left && parser_lift(p, n, n->u.pair.left) ? n : NULL;
}

static struct node *parse_and(struct parser *p)
{
    struct node *n = parse_not(p);
    while (n && parser_is_name(p, "and")) {
        uint32_t line = p->now.line;
        n = parser_next(p) ? pair(p, N_AND, n, parse_not(p), line) : NULL;
    }
    return n;
}

static struct node *parse_or(struct parser *p)
{
    struct node *n = parse_and(p);
    while (n && parser_is_name(p, "or")) {
        uint32_t line = p->now.line;
        n = parser_next(p) ? pair(p, N_OR, n, parse_and(p), line) : NULL;
    }
    return n;
}

static struct node *parse_cond(struct parser *p)
{
    struct node *yes = parse_or(p);
    while (yes && parser_is_name(p, "if")) {
        struct node *n = parser_node(p, N_COND);
        if (!n || !parser_next(p) || !(n->u.cond.test = parse_or(p)))
            return NULL;
        if (parser_is_name(p, "else")) {
            if (!parser_next(p) || !parser_enter(p) || !(n->u.cond.no = parse_cond(p)))
                return NULL;
            p->nesting--;
        }
        n->u.cond.yes = yes;
        if (!parser_lift(p, n, yes) || !parser_lift(p, n, n->u.cond.test) ||
            !parser_lift(p, n, n->u.cond.no))
            return NULL;
        yes = n;
    }
    return yes;
}

struct node *parser_expression(struct parser *p, bool with_cond)
{
    if (!parser_enter(p))
        return NULL;
    struct node *n = with_cond ? parse_cond(p) : parse_or(p);
    p->nesting--;
    return n;
}
