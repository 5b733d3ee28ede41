/* The parser's state and helpers, shared by jinja_parse.c (statements) and jinja_expression.c.
 * All return NULL or false after setting the error. */
#ifndef HEARTH_TEXT_JINJA_PARSER_H
#define HEARTH_TEXT_JINJA_PARSER_H

#include "runtime/text/jinja.h"

struct parser {
    struct lexer lex;
    struct token now, ahead;
    bool has_ahead;
    struct tree *tree;
    const char *name;
    struct err *e;
    uint32_t nesting;
    bool namespaces; /* a target may be an attribute of a namespace */
};

/* Errors and memory. */
bool parser_fail_at(struct parser *p, uint32_t line, const char *reason);
bool parser_fail(struct parser *p, const char *reason);
void *parser_no_memory(struct parser *p, size_t bytes);
void *parser_alloc(struct parser *p, size_t bytes);
int parser_shown(struct str s);
bool parser_next(struct parser *p);
bool parser_look(struct parser *p, const struct token **t);
bool parser_is(const struct parser *p, enum token_kind k);
bool parser_is_name(const struct parser *p, const char *name);
bool parser_expect(struct parser *p, enum token_kind k);
bool parser_expect_name(struct parser *p, const char *name);
bool parser_take_name(struct parser *p, struct str *out);
struct node *parser_node_at(struct parser *p, enum node_kind kind, uint32_t line);
struct node *parser_node(struct parser *p, enum node_kind kind);
bool parser_lift(struct parser *p, struct node *n, const struct node *child);
bool parser_lift_list(struct parser *p, struct node *n, const struct node_list *l);
bool parser_lift_args(struct parser *p, struct node *n, const struct call_args *a);
void parser_append(struct node_list *l, struct node *n);
bool parser_intern(struct parser *p, struct str name, uint32_t *id);
struct node *parser_target_name(struct parser *p);
struct node *parser_name_node(struct parser *p, struct str name, uint32_t line);
bool parser_enter(struct parser *p);

/* One expression; with_cond: `a if b else c` may stand there. */
struct node *parser_expression(struct parser *p, bool with_cond);
/* One expression, or several with commas, which make a tuple. simple: primaries only (targets);
 * end: a name that ends it, or NULL; parentheses: it may be empty. */
struct node *parser_tuple(struct parser *p, bool simple, bool with_cond, const char *end,
                          bool parentheses);
/* "| name(...) | ..." after input; inline_name: the first "|" is left out. */
struct node *parser_filters(struct parser *p, struct node *input, bool inline_name);

#endif
