/* How automata are made, for this folder only.
 *
 *   nfa    states joined by ranges of bytes, empty edges and assertions -> nfa_take determinises
 *   draft  a deterministic automaton that is neither minimal nor trimmed -> draft_take minimises
 *
 * Both remember the first failure (memory or a cap): build on, and look once, at the end. */
#ifndef HEARTH_TEXT_DFA_PRIV_H
#define HEARTH_TEXT_DFA_PRIV_H

#include "runtime/text/dfa.h"

enum dfa_trouble { DFA_FINE, DFA_NO_MEMORY, DFA_TOO_LARGE };

struct draft {
    uint32_t n, n_classes, start; /* states, with DFA_DEAD as the first */
    uint8_t class_of[256];
    uint32_t *next; /* [n][n_classes] */
    uint8_t *accept;
    size_t next_cap, accept_cap;
    enum dfa_trouble trouble;
};
/* class_of: copied; its classes are numbered without a gap from 0. */
void draft_init(struct draft *d, const uint8_t class_of[256]);
uint32_t draft_state(struct draft *d, bool accept); /* its edges lead to DFA_DEAD */
void draft_edge(struct draft *d, uint32_t from, uint32_t byte_class, uint32_t to);
struct dfa *draft_take(struct draft *d, struct err *e); /* finishes the draft */
void draft_finish(struct draft *d);

enum nfa_kind {
    NFA_BYTES, /* lo..hi */
    NFA_EMPTY,
    NFA_BEGIN, /* passed only before the first byte */
    NFA_END,   /* passed only behind the last */
};
struct nfa_edge {
    uint32_t to, next; /* next: edge of the same state + 1; 0: none */
    uint8_t kind, lo, hi;
};
struct nfa {
    uint32_t *first; /* of each state: edge + 1 */
    struct nfa_edge *edges;
    size_t n, n_edges, cap, edges_cap;
    enum dfa_trouble trouble;
};
uint32_t nfa_state(struct nfa *m);
void nfa_edge(struct nfa *m, enum nfa_kind kind, uint32_t from, uint32_t to);
void nfa_bytes(struct nfa *m, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to);
void nfa_text(struct nfa *m, uint32_t from, struct str text, uint32_t to);
/* UTF-8 of the code points lo..hi without surrogates. */
void nfa_code_points(struct nfa *m, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to);
void nfa_dfa(struct nfa *m, uint32_t from, const struct dfa *d, uint32_t to);
struct dfa *nfa_take(struct nfa *m, uint32_t start, uint32_t final, struct err *e); /* finishes m */
void nfa_free(struct nfa *m);

enum err_code dfa_fail(enum dfa_trouble t, struct err *e);

#endif
