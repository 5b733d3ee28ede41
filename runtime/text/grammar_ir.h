/* A language as a tree: what GBNF, JSON Schema and tool calls are compiled into, and what grammar_create
 * (grammar.h) makes an automaton of.
 *
 * A node stands for a set of sentences. Nodes are made by the functions below, from the leaves up; one node may
 * be used in many places. A rule is a node with a name, which makes recursion possible. The sentences of the
 * grammar are those of the rule that gram_start names.
 *
 * Errors are sticky: after the first one every call gives GRAM_NONE, which every call accepts, so the caller
 * looks once, at the end (gram_error). Its sentence begins with the place that gram_place named last.
 *
 * Ownership: everything handed in is copied. Thread: one. Memory is bounded by the limits below. */
#ifndef HEARTH_TEXT_GRAMMAR_IR_H
#define HEARTH_TEXT_GRAMMAR_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define GRAM_MAX_SOURCE ((size_t)256 * 1024) /* bytes of a grammar or schema, for whoever reads one */
#define GRAM_MAX_DEPTH 64                    /* of nesting in a source; nodes may nest four times as deep */
#define GRAM_MAX_RULES 10000
#define GRAM_MAX_REPEAT 10000
#define GRAM_MAX_NODES ((size_t)1 << 20)
#define GRAM_MAX_BYTES ((size_t)64 << 20)    /* of literals, names, sets and leaves */

#define GRAM_NONE 0u
#define GRAM_MANY UINT32_MAX /* no upper limit of a repetition */

struct gram;
struct dfa;

struct gram *gram_create(void); /* NULL: no memory */
void gram_destroy(struct gram *g);

/* ---- errors -------------------------------------------------------------------------------- */

/* The first error, or ERR_OK. Also one: no start, a rule that is used and not defined. */
enum err_code gram_error(struct gram *g, struct err *e);
/* Where the caller is in its source ("line 3, column 7", "at /properties/a"); stands in front of errors. */
void gram_place(struct gram *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Records an error of the caller's own, unless there is one; gives GRAM_NONE. */
uint32_t gram_fail(struct gram *g, enum err_code code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool gram_failed(const struct gram *g);

/* ---- leaves -------------------------------------------------------------------------------- */

/* These bytes of UTF-8; "" is the empty sentence. */
uint32_t gram_literal(struct gram *g, struct str bytes);

/* One character. Ranges may overlap and come in any order; surrogates are never in a set. */
struct gram_range {
    uint32_t lo, hi; /* code points, both included */
};
uint32_t gram_set(struct gram *g, const struct gram_range *ranges, size_t n, bool negated);

/* What a byte automaton accepts (dfa.h). It becomes a part of its own in the compiled grammar: equal automata are
 * compiled once, however often they are used. */
uint32_t gram_dfa(struct gram *g, const struct dfa *d);

/* One token. By text: where the vocabulary has a control or user-defined token of this text, that token and
 * nothing else; where it has not, the text itself, spelled in any way. Literals, sets and automata never match
 * a control token. */
uint32_t gram_token(struct gram *g, struct str text);
/* The same, but a vocabulary without a token of this text (of any type) is an error. */
uint32_t gram_token_exact(struct gram *g, struct str text);
uint32_t gram_token_id(struct gram *g, uint32_t id);
/* Any one token but that one (a node of gram_token_exact or gram_token_id), end-of-generation tokens left out. */
uint32_t gram_token_not(struct gram *g, uint32_t token);

/* Free text: any UTF-8 and, with GRAM_CONTROL, any control tokens but those that end a generation. A marker ends
 * it: text, or a token as in gram_token. */
enum gram_text_flag {
    GRAM_CONTROL = 1,
};
struct gram_marker {
    struct str text; /* not empty */
    bool token;
};
/* Text, maybe empty, in which no marker occurs. For what may go on to the end of the generation. */
uint32_t gram_text(struct gram *g, const struct gram_marker *markers, size_t n, unsigned flags);
/* Text up to and with the first end of a marker, which is markers[which]. */
uint32_t gram_until(struct gram *g, const struct gram_marker *markers, size_t n, size_t which, unsigned flags);

/* ---- what holds nodes ---------------------------------------------------------------------- */

uint32_t gram_seq(struct gram *g, const uint32_t *nodes, size_t n); /* n = 0: the empty sentence */
uint32_t gram_alt(struct gram *g, const uint32_t *nodes, size_t n); /* n > 0 */
/* min..max times; max GRAM_MANY: no limit. Else max <= GRAM_MAX_REPEAT, min <= max. */
uint32_t gram_repeat(struct gram *g, uint32_t node, uint32_t min, uint32_t max);
#define gram_seq_of(g, ...)                                                                                            \
    gram_seq((g), (const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))
#define gram_alt_of(g, ...)                                                                                            \
    gram_alt((g), (const uint32_t[]){ __VA_ARGS__ }, sizeof((const uint32_t[]){ __VA_ARGS__ }) / sizeof(uint32_t))

/* ---- rules --------------------------------------------------------------------------------- */

/* The rule of this name, made when it is new; "" makes one without a name. A rule may be used before it is
 * defined. Left recursion is refused when the grammar is compiled. */
uint32_t gram_rule(struct gram *g, struct str name);
bool gram_defined(const struct gram *g, uint32_t rule);
void gram_define(struct gram *g, uint32_t rule, uint32_t node); /* a second time: an error */
uint32_t gram_ref(struct gram *g, uint32_t rule);               /* the node that stands for it */
void gram_start(struct gram *g, uint32_t rule);

/* How many references to rules may be open at once, beside those that end a rule, before a generation is led to its
 * end: the least that was given, else 200. */
void gram_max_calls(struct gram *g, uint32_t n);

/* ---- JSON ---------------------------------------------------------------------------------- */

/* Any JSON value, or any object: no white space around it, at most one blank or a line's end and 20 blanks between its
 * parts; numbers, escapes and nesting as far as common readers take them. */
uint32_t gram_json(struct gram *g, bool object_only);

#endif
