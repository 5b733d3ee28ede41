/* Tokens to a tree: the parser's helpers, and statements. One function a rule of Jinja 2's
 * grammar; each returns NULL (or false) after setting the error. Nesting and the height of the tree
 * are capped here, so that the walks over a tree need no caps of their own. */
#include <string.h>

#include "runtime/text/jinja_parser.h"


bool parser_fail_at(struct parser *p, uint32_t line, const char *reason)
{
    err_set(p->e, ERR_FORMAT, "%s:%u: %s", p->name, line, reason);
    return false;
}

bool parser_fail(struct parser *p, const char *reason)
{
    return parser_fail_at(p, p->now.line, reason);
}

void *parser_no_memory(struct parser *p, size_t bytes)
{
    if (p->tree->arena.used + bytes > p->tree->arena.limit)
        err_set(p->e, ERR_TOO_LARGE, "%s: the template's tree is over %zu MiB", p->name,
                p->tree->arena.limit >> 20);
    else
        err_no_memory(p->e, bytes, "a chat template");
    return NULL;
}

void *parser_alloc(struct parser *p, size_t bytes)
{
    void *m = arena_zero(&p->tree->arena, 1, bytes);
    return m ? m : parser_no_memory(p, bytes);
}

/* How much of a name an error shows. */
int parser_shown(struct str s)
{
    return s.n > 64 ? 64 : (int)s.n;
}

/* ---- token stream ---- */

bool parser_next(struct parser *p)
{
    if (p->has_ahead) {
        p->now = p->ahead;
        p->has_ahead = false;
        return true;
    }
    return jinja_lex_next(&p->lex, &p->now);
}

bool parser_look(struct parser *p, const struct token **t)
{
    if (!p->has_ahead && !jinja_lex_next(&p->lex, &p->ahead))
        return false;
    p->has_ahead = true;
    *t = &p->ahead;
    return true;
}

bool parser_is(const struct parser *p, enum token_kind k)
{
    return p->now.kind == k;
}

bool parser_is_name(const struct parser *p, const char *name)
{
    return p->now.kind == T_NAME && str_is(p->now.text, name);
}

bool parser_expect(struct parser *p, enum token_kind k)
{
    if (parser_is(p, k))
        return parser_next(p);
    const char *got = jinja_token_name(p->now.kind);
    bool named = parser_is(p, T_NAME);
    err_set(p->e, ERR_FORMAT, "%s:%u: expected '%s', got '%.*s'", p->name, p->now.line,
            jinja_token_name(k), named ? parser_shown(p->now.text) : (int)strlen(got),
            named ? p->now.text.p : got);
    return false;
}

bool parser_expect_name(struct parser *p, const char *name)
{
    if (parser_is_name(p, name))
        return parser_next(p);
    err_set(p->e, ERR_FORMAT, "%s:%u: expected '%s'", p->name, p->now.line, name);
    return false;
}

bool parser_take_name(struct parser *p, struct str *out)
{
    *out = p->now.text;
    return parser_expect(p, T_NAME);
}

/* ---- nodes ---- */

struct node *parser_node_at(struct parser *p, enum node_kind kind, uint32_t line)
{
    struct node *n = parser_alloc(p, sizeof *n);
    if (!n)
        return NULL;
    n->kind = (uint8_t)kind;
    n->line = line;
    n->height = 1;
    return n;
}

struct node *parser_node(struct parser *p, enum node_kind kind)
{
    return parser_node_at(p, kind, p->now.line);
}

bool parser_lift(struct parser *p, struct node *n, const struct node *child)
{
    if (!child || child->height < n->height)
        return true;
    if (child->height >= JINJA_MAX_HEIGHT)
        return parser_fail_at(p, n->line, "nested too deeply");
    n->height = (uint16_t)(child->height + 1);
    return true;
}

bool parser_lift_list(struct parser *p, struct node *n, const struct node_list *l)
{
    for (const struct node *c = l->first; c; c = c->next)
        if (!parser_lift(p, n, c))
            return false;
    return true;
}

bool parser_lift_args(struct parser *p, struct node *n, const struct call_args *a)
{
    return parser_lift_list(p, n, &a->pos) && parser_lift_list(p, n, &a->kw) &&
           parser_lift(p, n, a->dyn_pos) && parser_lift(p, n, a->dyn_kw);
}

void parser_append(struct node_list *l, struct node *n)
{
    if (l->last)
        l->last->next = n;
    else
        l->first = n;
    l->last = n;
    l->n++;
}

bool parser_intern(struct parser *p, struct str name, uint32_t *id)
{
    struct names *names = &p->tree->names;
    if (map_get(&names->ids, name, id))
        return true;
    *id = (uint32_t)names->n;
    if (!mem_grow(&names->v, &names->cap, names->n + 1, sizeof *names->v, SIZE_MAX / 64) ||
        !map_put(&names->ids, name, *id)) {
        err_no_memory(p->e, name.n, "a chat template");
        return false;
    }
    names->v[names->n++] = name;
    return true;
}

struct node *parser_name_node(struct parser *p, struct str name, uint32_t line)
{
    struct node *n = parser_node_at(p, N_NAME, line);
    return n && parser_intern(p, name, &n->u.name.id) ? n : NULL;
}

bool parser_enter(struct parser *p)
{
    return ++p->nesting <= JINJA_MAX_NESTING || parser_fail(p, "nested too deeply");
}

/* ---- statements ---- */

static bool parse_body(struct parser *p, struct node_list *out, const char *const *ends);

/* ": %}" body "{% end", leaving the end's name as the current token. */
static bool parse_block(struct parser *p, struct node *n, struct node_list *out,
                        const char *const *ends)
{
    if (parser_is(p, T_COLON) && !parser_next(p))
        return false;
    return parser_expect(p, T_BLOCK_END) && parse_body(p, out, ends) && parser_lift_list(p, n, out);
}

static bool parse_block_to(struct parser *p, struct node *n, struct node_list *out,
                           const char *end)
{
    const char *const ends[] = { end, NULL };
    return parse_block(p, n, out, ends) && parser_next(p);
}

static bool can_assign(const struct node *n)
{
    if (n->kind != N_TUPLE)
        return n->kind == N_NAME || n->kind == N_NSREF;
    for (const struct node *i = n->u.items.first; i; i = i->next)
        if (!can_assign(i))
            return false;
    return true;
}

struct node *parser_target_name(struct parser *p)
{
    struct token t = p->now;
    struct str name;
    if (!parser_take_name(p, &name))
        return NULL;
    if (str_is(name, "true") || str_is(name, "false") || str_is(name, "none") ||
        str_is(name, "True") || str_is(name, "False") || str_is(name, "None")) {
        parser_fail_at(p, t.line, "cannot assign to a constant");
        return NULL;
    }
    return parser_name_node(p, name, t.line);
}

static struct node *parse_target(struct parser *p, const char *end, bool with_namespace)
{
    p->namespaces = with_namespace;
    struct node *n = parser_tuple(p, true, false, end, false);
    if (n && !can_assign(n)) {
        parser_fail_at(p, n->line, "cannot assign to this expression");
        return NULL;
    }
    return n;
}

static struct node *parse_if(struct parser *p)
{
    static const char *const ends[] = { "elif", "else", "endif", NULL };
    struct node *top = parser_node(p, N_IF), *n = top;
    while (n) {
        if (!parser_next(p) || !(n->u.branch.test = parser_tuple(p, false, false, NULL, false)) ||
            !parser_lift(p, n, n->u.branch.test) || !parse_block(p, n, &n->u.branch.body, ends))
            return NULL;
        if (n != top) {
            parser_append(&top->u.branch.elifs, n);
            if (!parser_lift(p, top, n))
                return NULL;
        }
        if (!parser_is_name(p, "elif"))
            break;
        n = parser_node(p, N_IF);
    }
    if (!n)
        return NULL;
    if (parser_is_name(p, "else"))
        return parser_next(p) && parse_block_to(p, top, &top->u.branch.otherwise, "endif") ? top
                                                                                           : NULL;
    return parser_next(p) ? top : NULL;
}

static struct node *parse_for(struct parser *p)
{
    static const char *const ends[] = { "endfor", "else", NULL };
    struct node *n = parser_node(p, N_FOR);
    struct for_def *d = n ? n->u.loop = parser_alloc(p, sizeof *d) : NULL;
    if (!d || !parser_next(p) || !(d->target = parse_target(p, "in", false)) ||
        !parser_expect_name(p, "in") ||
        !(d->iter = parser_tuple(p, false, false, "recursive", false)))
        return NULL;
    if (parser_is_name(p, "if")) {
        if (!parser_next(p) || !(d->test = parser_expression(p, true)))
            return NULL;
    }
    if (parser_is_name(p, "recursive")) {
        d->recursive = true;
        if (!parser_next(p))
            return NULL;
    }
    if (!parser_lift(p, n, d->target) || !parser_lift(p, n, d->iter) ||
        !parser_lift(p, n, d->test) || !parse_block(p, n, &d->body, ends))
        return NULL;
    if (parser_is_name(p, "else"))
        return parser_next(p) && parse_block_to(p, n, &d->otherwise, "endfor") ? n : NULL;
    return parser_next(p) ? n : NULL;
}

static struct node *parse_set(struct parser *p)
{
    uint32_t line = p->now.line;
    struct node *target = parser_next(p) ? parse_target(p, NULL, true) : NULL;
    if (!target)
        return NULL;
    if (parser_is(p, T_ASSIGN)) {
        struct node *n = parser_node_at(p, N_SET, line);
        if (!n || !parser_next(p) || !(n->u.set.value = parser_tuple(p, false, true, NULL, false)))
            return NULL;
        n->u.set.target = target;
        return parser_lift(p, n, target) && parser_lift(p, n, n->u.set.value) ? n : NULL;
    }
    struct node *n = parser_node_at(p, N_SET_BLOCK, line);
    if (!n || !(n->u.block.scope = parser_alloc(p, sizeof *n->u.block.scope)))
        return NULL;
    n->u.block.target = target;
    if (parser_is(p, T_PIPE) && !(n->u.block.filter = parser_filters(p, NULL, false)))
        return NULL;
    return parser_lift(p, n, target) && parser_lift(p, n, n->u.block.filter) &&
                   parse_block_to(p, n, &n->u.block.body, "endset")
               ? n
               : NULL;
}

static bool parse_signature(struct parser *p, struct node *n, struct macro_def *d)
{
    if (!parser_expect(p, T_LPAREN))
        return false;
    while (!parser_is(p, T_RPAREN)) {
        if (d->params.n && !parser_expect(p, T_COMMA))
            return false;
        struct node *param = parser_target_name(p);
        if (!param)
            return false;
        for (const struct node *o = d->params.first; o; o = o->next)
            if (o->u.name.id == param->u.name.id)
                return parser_fail_at(p, param->line, "a parameter repeated");
        if (parser_is(p, T_ASSIGN)) {
            struct node *v = parser_next(p) ? parser_expression(p, true) : NULL;
            if (!v || !parser_lift(p, n, v))
                return false;
            parser_append(&d->defaults, v);
        } else if (d->defaults.n) {
            return parser_fail(p, "non-default argument follows default argument");
        }
        parser_append(&d->params, param);
        if (d->params.n > 250)
            return parser_fail(p, "more than 250 parameters");
    }
    return parser_expect(p, T_RPAREN);
}

static struct node *parse_macro(struct parser *p)
{
    struct node *n = parser_node(p, N_MACRO);
    struct macro_def *d = n ? n->u.macro.def = parser_alloc(p, sizeof *d) : NULL;
    if (!d || !parser_next(p))
        return NULL;
    d->name = p->now.text;
    if (!(n->u.macro.target = parser_target_name(p)) || !parse_signature(p, n, d) ||
        !parse_block_to(p, n, &d->body, "endmacro"))
        return NULL;
    return n;
}

static struct node *parse_call_block(struct parser *p)
{
    struct node *n = parser_node(p, N_CALL_BLOCK);
    struct macro_def *d = n ? n->u.macro.def = parser_alloc(p, sizeof *d) : NULL;
    if (!d || !parser_next(p) || (parser_is(p, T_LPAREN) && !parse_signature(p, n, d)))
        return NULL;
    struct node *call = parser_expression(p, true);
    if (!call || !parser_lift(p, n, call))
        return NULL;
    if (call->kind != N_CALL) {
        parser_fail_at(p, n->line, "expected a call");
        return NULL;
    }
    d->name = STR("caller");
    n->u.macro.call = call;
    return parse_block_to(p, n, &d->body, "endcall") ? n : NULL;
}

/* Marks what the model said, for training; when rendering, a block that is its body. */
static struct node *parse_generation(struct parser *p)
{
    struct node *n = parser_node(p, N_CALL_BLOCK);
    struct macro_def *d = n ? n->u.macro.def = parser_alloc(p, sizeof *d) : NULL;
    if (!d || !parser_next(p))
        return NULL;
    d->name = STR("caller");
    return parse_block_to(p, n, &d->body, "endgeneration") ? n : NULL;
}

static struct node *parse_filter_block(struct parser *p)
{
    struct node *n = parser_node(p, N_FILTER_BLOCK);
    if (!n || !(n->u.block.scope = parser_alloc(p, sizeof *n->u.block.scope)) || !parser_next(p) ||
        !(n->u.block.filter = parser_filters(p, NULL, true)) ||
        !parser_lift(p, n, n->u.block.filter))
        return NULL;
    return parse_block_to(p, n, &n->u.block.body, "endfilter") ? n : NULL;
}

static struct node *parse_with(struct parser *p)
{
    struct node *n = parser_node(p, N_WITH);
    if (!n || !(n->u.with.scope = parser_alloc(p, sizeof *n->u.with.scope)) || !parser_next(p))
        return NULL;
    while (!parser_is(p, T_BLOCK_END)) {
        if (n->u.with.targets.n && !parser_expect(p, T_COMMA))
            return NULL;
        struct node *target = parse_target(p, NULL, false);
        struct node *v = target && parser_expect(p, T_ASSIGN) ? parser_expression(p, true) : NULL;
        if (!v || !parser_lift(p, n, target) || !parser_lift(p, n, v))
            return NULL;
        parser_append(&n->u.with.targets, target);
        parser_append(&n->u.with.values, v);
    }
    return parse_block_to(p, n, &n->u.with.body, "endwith") ? n : NULL;
}

static struct node *parse_print(struct parser *p)
{
    struct node *n = parser_node(p, N_PRINT);
    if (!n || !parser_next(p))
        return NULL;
    while (!parser_is(p, T_BLOCK_END)) {
        if (n->u.items.n && !parser_expect(p, T_COMMA))
            return NULL;
        struct node *v = parser_expression(p, true);
        if (!v || !parser_lift(p, n, v))
            return NULL;
        parser_append(&n->u.items, v);
    }
    return n;
}

static struct node *parse_break(struct parser *p)
{
    struct node *n = parser_node(p, N_BREAK);
    return n && parser_next(p) ? n : NULL;
}

static struct node *parse_continue(struct parser *p)
{
    struct node *n = parser_node(p, N_CONTINUE);
    return n && parser_next(p) ? n : NULL;
}

static struct node *parse_statement(struct parser *p)
{
    static const struct {
        const char *tag;
        struct node *(*parse)(struct parser *);
    } statements[] = {
        { "if", parse_if },
        { "for", parse_for },
        { "set", parse_set },
        { "macro", parse_macro },
        { "call", parse_call_block },
        { "filter", parse_filter_block },
        { "generation", parse_generation },
        { "with", parse_with },
        { "print", parse_print },
        { "break", parse_break },
        { "continue", parse_continue },
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (parser_is_name(p, statements[i].tag))
            return statements[i].parse(p);
    err_set(p->e, ERR_FORMAT, "%s:%u: unknown or misplaced tag '%.*s'", p->name, p->now.line,
            parser_is(p, T_NAME) ? parser_shown(p->now.text) : 0,
            p->now.text.p ? p->now.text.p : "");
    return NULL;
}

static bool ends_here(const struct parser *p, const char *const *ends)
{
    for (; *ends; ends++)
        if (parser_is_name(p, *ends))
            return true;
    return false;
}

static struct node *parse_text(struct parser *p)
{
    struct node *n = parser_node(p, N_TEXT);
    if (!n)
        return NULL;
    n->u.text = p->now.text;
    return parser_next(p) ? n : NULL;
}

static struct node *parse_variable(struct parser *p)
{
    struct node *n = parser_node(p, N_PRINT);
    struct node *v = n && parser_next(p) ? parser_tuple(p, false, true, NULL, false) : NULL;
    if (!v || !parser_expect(p, T_VARIABLE_END) || !parser_lift(p, n, v))
        return NULL;
    parser_append(&n->u.items, v);
    return n;
}

/* Statements up to one of the tags `ends`, or, with none, to the end of the source. */
static bool parse_body(struct parser *p, struct node_list *out, const char *const *ends)
{
    if (!parser_enter(p))
        return false;
    while (!parser_is(p, T_EOF)) {
        struct node *n = NULL;
        if (parser_is(p, T_DATA)) {
            n = parse_text(p);
        } else if (parser_is(p, T_VARIABLE_BEGIN)) {
            n = parse_variable(p);
        } else {
            if (!parser_next(p))
                return false;
            if (ends && ends_here(p, ends)) {
                p->nesting--;
                return true;
            }
            n = parse_statement(p);
            if (n && !parser_expect(p, T_BLOCK_END))
                return false;
        }
        if (!n)
            return false;
        parser_append(out, n);
    }
    p->nesting--;
    if (!ends)
        return true;
    err_set(p->e, ERR_FORMAT, "%s:%u: unexpected end of template, '%s' is missing", p->name,
            p->now.line, ends[0]);
    return false;
}

enum err_code jinja_parse(struct str source, const char *name, struct tree *t, struct err *e)
{
    struct err local;
    struct parser p = { .tree = t, .name = name, .e = e ? e : &local };
    err_clear(p.e);
    t->arena.limit = JINJA_PARSE_ARENA;
    if (!map_init(&t->names.ids, 64))
        return err_no_memory(p.e, 64, "a chat template");
    if (jinja_lex_init(&p.lex, source, name, &t->arena, p.e) && parser_next(&p))
        parse_body(&p, &t->body, NULL);
    return p.e->code;
}
