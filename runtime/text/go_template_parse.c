#include <string.h>

#include "runtime/text/go_template_priv.h"

/* Names of variables that stand where the parser is. */
struct names {
    struct str *v;
    size_t n, cap;
};

struct parser {
    struct go_tree *tree;
    struct go_tokens tokens;
    size_t at;
    const char *name; /* of the template, for errors */
    struct names vars;
    uint32_t nesting;
    uint32_t ranges; /* open {{range}}s */
    enum err_code code;
    struct err *e;
};

static const struct go_token *token(const struct parser *p)
{
    return &p->tokens.v[p->at];
}

static bool fail(struct parser *p, enum err_code code, const char *what, struct str s)
{
    const char *line_end = s.n ? memchr(s.p, '\n', s.n) : NULL;
    if (line_end)
        s.n = (size_t)(line_end - s.p);
    if (!p->code)
        p->code = err_set(p->e, code, "%s:%u: %s%s%.*s%s", p->name, token(p)->line, what,
                          s.n ? " \"" : "", (int)(s.n < 60 ? s.n : 60), s.p ? s.p : "",
                          s.n ? "\"" : "");
    return false;
}

static bool wrong(struct parser *p, const char *what)
{
    return fail(p, ERR_FORMAT, what, (struct str){ 0 });
}

static bool unexpected(struct parser *p, const char *where)
{
    const struct go_token *t = token(p);
    char what[80];
    if (t->type == GO_T_ERROR)
        return fail(p, ERR_FORMAT, t->val.p, (struct str){ 0 });
    snprintf(what, sizeof what, "unexpected token in %s:", where);
    return fail(p, ERR_FORMAT, what, t->val);
}

static void *alloc(struct parser *p, size_t n, size_t size)
{
    void *block = arena_zero(&p->tree->arena, n, size);
    if (!block)
        fail(p, ERR_NO_MEMORY, "no memory for the template", (struct str){ 0 });
    return block;
}

static struct go_node *node(struct parser *p, enum go_node_kind kind, uint32_t line)
{
    struct go_node *n = alloc(p, 1, sizeof *n);
    if (n) {
        n->kind = (uint8_t)kind;
        n->line = line;
    }
    return n;
}

static void append(struct go_nodes *list, struct go_node *n)
{
    *(list->last ? &list->last->next : &list->first) = n;
    list->last = n;
    list->n++;
}

/* The last token is never passed: the end, or the lexer's error. */
static const struct go_token *next(struct parser *p)
{
    const struct go_token *t = token(p);
    if (p->at + 1 < p->tokens.n)
        p->at++;
    return t;
}

static enum go_token_type skip_space(struct parser *p)
{
    while (token(p)->type == GO_T_SPACE)
        next(p);
    return token(p)->type;
}

static bool expect(struct parser *p, enum go_token_type type, const char *where)
{
    if (skip_space(p) != type)
        return unexpected(p, where);
    next(p);
    return true;
}

static bool declare(struct parser *p, struct str name)
{
    struct names *v = &p->vars;
    if (!mem_grow(&v->v, &v->cap, v->n + 1, sizeof *v->v, SIZE_MAX / sizeof *v->v))
        return fail(p, ERR_NO_MEMORY, "no memory for the template", (struct str){ 0 });
    v->v[v->n++] = name;
    return true;
}

static bool deeper(struct parser *p)
{
    if (++p->nesting <= GO_MAX_NESTING)
        return true;
    return fail(p, ERR_TOO_LARGE, "nested too deeply", (struct str){ 0 });
}

/* ---- operands ---- */

static struct go_node *pipeline(struct parser *p, const char *where, enum go_token_type end);

static struct go_node *variable(struct parser *p, const struct go_token *t)
{
    struct go_node *n = node(p, GO_N_VARIABLE, t->line);
    for (size_t i = 0; i < p->vars.n; i++)
        if (str_eq(p->vars.v[i], t->val)) {
            struct str *name = n ? alloc(p, 1, sizeof *name) : NULL;
            if (!name)
                return NULL;
            *name = t->val;
            n->u.path.names = name;
            n->u.path.n = 1;
            return n;
        }
    fail(p, ERR_FORMAT, "undefined variable", t->val);
    return NULL;
}

static struct go_node *literal(struct parser *p, const struct go_token *t)
{
    const char *why = "malformed character constant";
    uint32_t cp = 0;
    struct go_node *n = node(p, t->type == GO_T_STRING || t->type == GO_T_RAW ? GO_N_STRING
                                : t->type == GO_T_BOOL ? GO_N_BOOL : GO_N_NUMBER, t->line);
    if (!n)
        return NULL;
    if (n->kind == GO_N_BOOL)
        n->u.b = str_is(t->val, "true");
    else if (n->kind == GO_N_STRING) {
        if (!go_unquote(&p->tree->arena, t->val, &n->u.text, &why))
            return fail(p, ERR_FORMAT, why, t->val), NULL;
    } else if (t->type == GO_T_CHAR) {
        if (!go_unquote_char(t->val, &cp))
            return fail(p, ERR_FORMAT, why, t->val), NULL;
        n->u.number = go_of_int(cp);
    } else if (!go_number(t->val, &n->u.number))
        return fail(p, ERR_FORMAT, "illegal number syntax", t->val), NULL;
    return n;
}

static struct go_node *function(struct parser *p, const struct go_token *t)
{
    struct go_node *n = node(p, GO_N_FUNCTION, t->line);
    if (n && !(n->u.function = go_find_call(t->val))) {
        fail(p, ERR_FORMAT, "no such function:", t->val);
        return NULL;
    }
    return n;
}

static struct str without_dot(struct str s)
{
    return (struct str){ s.p + 1, s.n - 1 };
}

static struct go_node *first_field(struct parser *p, const struct go_token *t)
{
    struct go_node *n = node(p, GO_N_FIELD, t->line);
    struct str *name = n ? alloc(p, 1, sizeof *name) : NULL;
    if (!name)
        return NULL;
    *name = without_dot(t->val);
    n->u.path.names = name;
    n->u.path.n = 1;
    return n;
}

/* NULL and no error: what comes is not a term. */
static struct go_node *term(struct parser *p)
{
    struct go_node *n = NULL;
    skip_space(p);
    const struct go_token *t = token(p);
    switch (t->type) {
    case GO_T_NAME:
        n = function(p, t);
        break;
    case GO_T_DOT:
    case GO_T_NIL:
        n = node(p, t->type == GO_T_DOT ? GO_N_DOT : GO_N_NIL, t->line);
        break;
    case GO_T_VARIABLE:
        n = variable(p, t);
        break;
    case GO_T_FIELD:
        n = first_field(p, t);
        break;
    case GO_T_BOOL:
    case GO_T_CHAR:
    case GO_T_NUMBER:
    case GO_T_STRING:
    case GO_T_RAW:
        n = literal(p, t);
        break;
    case GO_T_OPEN:
        next(p);
        if (!deeper(p))
            return NULL;
        n = pipeline(p, "parenthesized pipeline", GO_T_CLOSE);
        p->nesting--;
        return n;
    default:
        return NULL;
    }
    if (n)
        next(p);
    return n;
}

/* A term and the fields behind it. */
static struct go_node *operand(struct parser *p)
{
    struct go_node *n = term(p), *chain = n;
    size_t begin = p->at, fields = 0;
    if (!n || token(p)->type != GO_T_FIELD)
        return n;
    for (; token(p)->type == GO_T_FIELD; fields++)
        next(p);
    if (n->kind == GO_N_DOT || n->kind == GO_N_NIL || n->kind == GO_N_BOOL ||
        n->kind == GO_N_NUMBER || n->kind == GO_N_STRING) {
        wrong(p, "unexpected . after a term");
        return NULL;
    }
    size_t own = n->kind == GO_N_FIELD || n->kind == GO_N_VARIABLE ? n->u.path.n : 0;
    if (!own && !(chain = node(p, GO_N_CHAIN, n->line)))
        return NULL;
    struct str *names = alloc(p, own + fields, sizeof *names);
    if (!names)
        return NULL;
    for (size_t i = 0; i < own; i++)
        names[i] = n->u.path.names[i];
    for (size_t i = 0; i < fields; i++)
        names[own + i] = without_dot(p->tokens.v[begin + i].val);
    if (!own)
        chain->u.path.of = n;
    chain->u.path.names = names;
    chain->u.path.n = own + fields;
    return chain;
}

/* ---- pipelines ---- */

static struct go_node *command(struct parser *p)
{
    skip_space(p);
    struct go_node *n = node(p, GO_N_COMMAND, token(p)->line);
    while (n) {
        struct go_node *arg = operand(p);
        if (p->code)
            return NULL;
        if (arg)
            append(&n->u.args, arg);
        enum go_token_type type = token(p)->type;
        if (type == GO_T_SPACE) {
            next(p);
            continue;
        }
        if (type == GO_T_PIPE)
            next(p);
        else if (type != GO_T_RIGHT && type != GO_T_CLOSE)
            return unexpected(p, "operand"), NULL;
        break;
    }
    if (n && !n->u.args.n)
        return wrong(p, "empty command"), NULL;
    return n;
}

/* $x := or $x = or $i, $x := in front of a pipeline; false: an error. */
static bool declarations(struct parser *p, struct go_node *pipe, bool range)
{
    while (skip_space(p) == GO_T_VARIABLE) {
        size_t back = p->at;
        struct str name = next(p)->val;
        enum go_token_type type = skip_space(p);
        bool comma = type == GO_T_COMMA && str_is(token(p)->val, ",");
        if (type != GO_T_ASSIGN && type != GO_T_DECLARE && !comma) {
            p->at = back;
            return true;
        }
        next(p);
        if (pipe->u.pipe.n_decl == 2)
            return wrong(p, "too many declarations");
        pipe->u.pipe.decl[pipe->u.pipe.n_decl++] = name;
        pipe->assign = type == GO_T_ASSIGN;
        if (!declare(p, name))
            return false;
        if (!comma)
            return true;
        if (!range || pipe->u.pipe.n_decl == 2)
            return wrong(p, "too many declarations");
        type = skip_space(p);
        if (type != GO_T_VARIABLE && type != GO_T_RIGHT && type != GO_T_CLOSE)
            return wrong(p, "range can only initialize variables");
    }
    return true;
}

/* Only the first command of a pipeline may be a plain value. */
static bool check_stages(struct parser *p, const struct go_node *pipe, const char *where)
{
    if (!pipe->u.pipe.cmds.n)
        return fail(p, ERR_FORMAT, "missing value for", str_from(where));
    for (const struct go_node *c = pipe->u.pipe.cmds.first->next; c; c = c->next) {
        enum go_node_kind kind = c->u.args.first->kind;
        if (kind >= GO_N_DOT && kind <= GO_N_STRING)
            return wrong(p, "a plain value cannot take what is piped into it");
    }
    return true;
}

static struct go_node *pipeline(struct parser *p, const char *where, enum go_token_type end)
{
    skip_space(p);
    struct go_node *pipe = node(p, GO_N_PIPE, token(p)->line);
    if (!pipe || !declarations(p, pipe, strcmp(where, "range") == 0))
        return NULL;
    while (skip_space(p) != end) {
        enum go_token_type type = token(p)->type;
        if (type != GO_T_OPEN && (type < GO_T_BOOL || type > GO_T_NIL))
            return unexpected(p, where), NULL;
        struct go_node *c = command(p);
        if (!c)
            return NULL;
        append(&pipe->u.pipe.cmds, c);
    }
    next(p);
    return check_stages(p, pipe, where) ? pipe : NULL;
}

/* ---- statements ---- */

enum ended { ENDED_NOT, BY_END, BY_ELSE };

static bool body(struct parser *p, struct go_nodes *list, enum ended *by);

static bool define_named(struct parser *p, struct str name, struct go_nodes content);

/* Behind {{else}} of an if: `if` again, whose {{end}} ends both. */
static bool control(struct parser *p, enum go_node_kind kind, struct go_node **out);

static bool else_part(struct parser *p, struct go_node *n)
{
    enum ended by;
    enum go_token_type type = token(p)->type;
    struct go_node *again = NULL;
    n->has_else = true;
    if ((n->kind == GO_N_IF && type == GO_T_IF) || (n->kind == GO_N_WITH && type == GO_T_WITH)) {
        next(p);
        if (!control(p, n->kind, &again))
            return false;
        append(&n->u.block.no, again);
        return true;
    }
    return body(p, &n->u.block.no, &by) && (by == BY_END || wrong(p, "expected end; found else"));
}

static bool control(struct parser *p, enum go_node_kind kind, struct go_node **out)
{
    static const char *const word[] = { [GO_N_IF] = "if", [GO_N_WITH] = "with",
                                        [GO_N_RANGE] = "range" };
    size_t mark = p->vars.n;
    enum ended by;
    struct go_node *n = node(p, kind, token(p)->line);
    if (!n || !deeper(p) || !(n->u.block.pipe = pipeline(p, word[kind], GO_T_RIGHT)))
        return false;
    p->ranges += kind == GO_N_RANGE;
    if (!body(p, &n->u.block.yes, &by))
        return false;
    p->ranges -= kind == GO_N_RANGE;
    if (by == BY_ELSE && !else_part(p, n))
        return false;
    p->vars.n = mark;
    p->nesting--;
    *out = n;
    return true;
}

static bool jump(struct parser *p, enum go_node_kind kind, struct go_node **out)
{
    if (skip_space(p) != GO_T_RIGHT)
        return unexpected(p, kind == GO_N_BREAK ? "{{break}}" : "{{continue}}");
    next(p);
    if (!p->ranges)
        return wrong(p, kind == GO_N_BREAK ? "{{break}} outside {{range}}"
                                           : "{{continue}} outside {{range}}");
    return (*out = node(p, kind, token(p)->line)) != NULL;
}

static bool template_name(struct parser *p, struct str *out, const char *where)
{
    const char *why = "";
    enum go_token_type type = skip_space(p);
    if (type != GO_T_STRING && type != GO_T_RAW)
        return unexpected(p, where);
    if (!go_unquote(&p->tree->arena, token(p)->val, out, &why))
        return fail(p, ERR_FORMAT, why, token(p)->val);
    next(p);
    return true;
}

/* The body of a {{define}} or {{block}}: variables and loops begin anew. */
static bool definition(struct parser *p, struct str name)
{
    struct names outer = p->vars;
    uint32_t ranges = p->ranges;
    struct go_nodes content = { 0 };
    enum ended by = ENDED_NOT;
    p->vars = (struct names){ 0 };
    p->ranges = 0;
    bool ok = declare(p, STR("$")) && deeper(p) && body(p, &content, &by) &&
              (by == BY_END || wrong(p, "unexpected else in a definition")) &&
              define_named(p, name, content);
    mem_free(p->vars.v);
    p->nesting--;
    p->vars = outer;
    p->ranges = ranges;
    return ok;
}

static bool call_template(struct parser *p, bool block, struct go_node **out)
{
    const char *where = block ? "block clause" : "template clause";
    struct go_node *n = node(p, GO_N_TEMPLATE, token(p)->line);
    if (!n || !template_name(p, &n->u.block.name, where))
        return false;
    if (!block && skip_space(p) == GO_T_RIGHT)
        next(p);
    else if (!(n->u.block.pipe = pipeline(p, where, GO_T_RIGHT)))
        return false;
    *out = n;
    return !block || definition(p, n->u.block.name);
}

/* What stands between {{ and }}: a node, or the end of the list. */
static bool action(struct parser *p, struct go_node **out, enum ended *by)
{
    enum go_token_type type = skip_space(p);
    if (type >= GO_T_BLOCK)
        next(p);
    switch (type) {
    case GO_T_IF:
        return control(p, GO_N_IF, out);
    case GO_T_WITH:
        return control(p, GO_N_WITH, out);
    case GO_T_RANGE:
        return control(p, GO_N_RANGE, out);
    case GO_T_BREAK:
        return jump(p, GO_N_BREAK, out);
    case GO_T_CONTINUE:
        return jump(p, GO_N_CONTINUE, out);
    case GO_T_BLOCK:
    case GO_T_TEMPLATE:
        return call_template(p, type == GO_T_BLOCK, out);
    case GO_T_END:
        *by = BY_END;
        return expect(p, GO_T_RIGHT, "end");
    case GO_T_ELSE:
        *by = BY_ELSE;
        type = skip_space(p);
        return type == GO_T_IF || type == GO_T_WITH || expect(p, GO_T_RIGHT, "else");
    case GO_T_DEFINE:
        return wrong(p, "{{define}} inside a block");
    default:
        break;
    }
    struct go_node *n = node(p, GO_N_ACTION, token(p)->line);
    *out = n;
    return n && (n->u.block.pipe = pipeline(p, "command", GO_T_RIGHT));
}

/* {{define "name"}} stands only at the top. */
static bool top_define(struct parser *p, bool *was)
{
    size_t back = p->at;
    struct str name = { 0 };
    next(p);
    *was = skip_space(p) == GO_T_DEFINE;
    if (!*was) {
        p->at = back;
        return true;
    }
    next(p);
    return template_name(p, &name, "define clause") &&
           expect(p, GO_T_RIGHT, "define clause") && definition(p, name);
}

static bool statement(struct parser *p, struct go_node **out, enum ended *by)
{
    *out = NULL;
    if (token(p)->type == GO_T_TEXT) {
        if ((*out = node(p, GO_N_TEXT, token(p)->line)))
            (*out)->u.text = next(p)->val;
        return *out != NULL;
    }
    if (token(p)->type != GO_T_LEFT)
        return unexpected(p, "input");
    next(p);
    return action(p, out, by);
}

static bool body(struct parser *p, struct go_nodes *list, enum ended *by)
{
    struct go_node *n;
    for (*by = ENDED_NOT; skip_space(p) != GO_T_EOF;) {
        if (!statement(p, &n, by))
            return false;
        if (*by)
            return true;
        append(list, n);
    }
    return wrong(p, "unexpected end of the template");
}

static bool whole(struct parser *p)
{
    struct go_node *n;
    enum ended by = ENDED_NOT;
    bool defined;
    while (token(p)->type != GO_T_EOF) {
        if (token(p)->type == GO_T_LEFT) {
            if (!top_define(p, &defined))
                return false;
            if (defined)
                continue;
        }
        if (!statement(p, &n, &by))
            return false;
        if (by)
            return wrong(p, by == BY_END ? "unexpected {{end}}" : "unexpected {{else}}");
        append(&p->tree->root, n);
    }
    return define_named(p, STR(""), p->tree->root);
}

/* ---- definitions ---- */

static bool is_blank(struct go_nodes list)
{
    for (const struct go_node *n = list.first; n; n = n->next) {
        if (n->kind != GO_N_TEXT)
            return false;
        for (size_t i = 0; i < n->u.text.n; i++)
            if (!strchr(" \t\r\n\v\f", n->u.text.p[i]) || !n->u.text.p[i])
                return false;
    }
    return true;
}

/* A second definition stands where one of the two is blank. */
static bool define_named(struct parser *p, struct str name, struct go_nodes content)
{
    struct go_define *d = p->tree->defines;
    while (d && !str_eq(d->name, name))
        d = d->next;
    if (d && !is_blank(d->body)) {
        if (!is_blank(content))
            return fail(p, ERR_FORMAT, "defined twice:", name);
        return true;
    }
    if (!d) {
        if (!(d = alloc(p, 1, sizeof *d)))
            return false;
        d->name = name;
        d->next = p->tree->defines;
        p->tree->defines = d;
    }
    d->body = content;
    return true;
}

enum err_code go_parse(struct str source, const char *name, struct go_tree *t, struct err *e)
{
    struct parser p = { .tree = t, .name = name, .e = e };
    t->arena.limit = GO_PARSE_ARENA;
    if (!go_lex(source, &p.tokens))
        p.code = err_no_memory(e, source.n, "a template's tokens");
    else if (declare(&p, STR("$")))
        whole(&p);
    mem_free(p.vars.v);
    mem_free(p.tokens.v);
    return p.code;
}

/* ---- the turn that is to be answered ---- */

struct cutter {
    struct go_tree *tree;
    bool cut, failed; /* cut: the field is behind us */
};

static struct go_node *cut_node(struct cutter *c, const struct go_node *n);

static struct go_nodes cut_list(struct cutter *c, struct go_nodes list)
{
    struct go_nodes out = { 0 };
    for (const struct go_node *n = list.first; n; n = n->next) {
        struct go_node *kept = cut_node(c, n);
        if (kept)
            append(&out, kept);
    }
    return out;
}

/* A command that loses all of its arguments takes the pipeline with it. */
static bool cut_pipe(struct cutter *c, struct go_node *pipe)
{
    struct go_nodes cmds = { 0 };
    for (const struct go_node *cmd = pipe->u.pipe.cmds.first; cmd; cmd = cmd->next) {
        struct go_nodes args = cut_list(c, cmd->u.args);
        struct go_node *kept = arena_alloc(&c->tree->arena, sizeof *kept);
        if (!kept)
            return !(c->failed = true);
        if (!args.n)
            return false;
        *kept = *cmd;
        kept->next = NULL;
        kept->u.args = args;
        append(&cmds, kept);
    }
    pipe->u.pipe.cmds = cmds;
    return true;
}

static bool names_response(const struct go_node *n)
{
    for (size_t i = 0; n->kind == GO_N_FIELD && i < n->u.path.n; i++)
        if (str_is(n->u.path.names[i], "Response"))
            return true;
    return false;
}

/* A copy of what is left; NULL: nothing. */
static struct go_node *cut_node(struct cutter *c, const struct go_node *n)
{
    bool response = names_response(n);
    if (c->cut && !response)
        return NULL;
    struct go_node *kept = arena_alloc(&c->tree->arena, sizeof *kept);
    if (!kept) {
        c->failed = true;
        return NULL;
    }
    *kept = *n;
    kept->next = NULL;
    c->cut |= response;
    switch (n->kind) {
    case GO_N_IF:
    case GO_N_WITH:
    case GO_N_RANGE:
        kept->u.block.yes = cut_list(c, n->u.block.yes);
        kept->has_else = n->has_else && !c->cut;
        if (kept->has_else)
            kept->u.block.no = cut_list(c, n->u.block.no);
        break;
    case GO_N_PIPE:
        return cut_pipe(c, kept) ? kept : NULL;
    case GO_N_ACTION:
        kept->u.block.pipe = cut_node(c, n->u.block.pipe);
        return kept->u.block.pipe ? kept : NULL;
    default:
        break;
    }
    return kept;
}

bool go_cut_at_response(struct go_tree *t)
{
    struct cutter c = { .tree = t };
    t->cut = cut_list(&c, t->root);
    return !c.failed;
}
