/* What the files of the grammar share: the nodes of a tree of grammar_ir.h. For runtime/text/grammar*.c only. */
#ifndef HEARTH_TEXT_GRAMMAR_PRIV_H
#define HEARTH_TEXT_GRAMMAR_PRIV_H

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/text/dfa.h"
#include "runtime/text/grammar_ir.h"

enum node_kind {
    NODE_NONE,
    NODE_LITERAL, /* n bytes at `bytes` */
    NODE_SET,     /* n ranges, sorted, apart, without surrogates; negation is worked in */
    NODE_DFA,     /* n: the NODE_DFA made before it, or GRAM_NONE */
    NODE_TOKEN,
    NODE_TEXT,
    NODE_SEQ,     /* n children */
    NODE_ALT,
    NODE_REPEAT,
    NODE_REF,
};

struct text_leaf {
    struct gram_marker *marker;
    size_t n, which; /* which == n: no marker at all */
    unsigned flags;
};

struct token_leaf {
    struct str text;
    uint32_t id;        /* with by_id */
    bool by_id, exact, negated;
};

struct node {
    enum node_kind kind;
    uint32_t n;
    uint32_t depth;
    union {
        const char *bytes;
        const struct gram_range *range;
        const uint32_t *child;
        const struct dfa *dfa;
        const struct token_leaf *token;
        const struct text_leaf *text;
        struct {
            uint32_t node, min, max;
        } repeat;
        uint32_t rule;
    } u;
};

struct rule {
    struct str name;
    uint32_t node; /* GRAM_NONE: not defined yet */
    char *place;   /* of its first use or definition */
};

struct gram {
    struct node *node; /* node[0] and rule[0] are unused */
    size_t n_nodes, cap_nodes;
    struct rule *rule;
    size_t n_rules, cap_rules;
    struct map names;
    uint32_t start, last_dfa, max_calls;
    struct arena arena; /* of all that nodes point to */
    char place[128];
    struct err err;
};

#endif
