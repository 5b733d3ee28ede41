/* The automaton behind a grammar. For runtime/text/grammar*.c and constraint*.c only.
 *
 * A map, in the order of a compilation:
 *     grammar_nfa.c    tree -> one nondeterministic automaton for each rule, with calls of others
 *     grammar_text.c   free text until a marker, as a deterministic one
 *     grammar_dfa.c    subsets: each rule deterministic, one table of states for all
 *     grammar_cost.c   the shortest way to end from every state; what has none goes; left recursion
 *     grammar_vocab.c  the tokens as a trie
 *     grammar_sim.c    sets of stacks, read symbol by symbol; walks over the trie
 *     grammar.c        what a state allows whatever comes after: worked out once, when first asked
 * and of a generation: constraint.c.
 *
 * A symbol is a byte, or SYM_TOKEN + id for a token as such. A rule is its states; a call reads a sentence of a
 * rule that is not empty (that it may be empty is an arc without symbol, gone after grammar_dfa.c), so reading
 * never returns from a rule without having read something there, and no rule calls itself without that. */
#ifndef HEARTH_TEXT_GRAMMAR_AUTO_H
#define HEARTH_TEXT_GRAMMAR_AUTO_H

#include <stdatomic.h>

#include "runtime/text/grammar.h"
#include "runtime/text/grammar_priv.h"

#define AUTO_MAX_NFA ((size_t)1 << 19)    /* states of all rules, and arcs, before they are made deterministic */
#define AUTO_MAX_STATES ((size_t)1 << 18) /* and after */
#define AUTO_MAX_ARCS ((size_t)1 << 21)
#define AUTO_MAX_WORK ((size_t)1 << 22)   /* members and arcs of sets met on the way */
#define AUTO_FAR (UINT32_MAX / 4)         /* a way that is too long, or none */

#define SYM_TOKEN 256u
#define STATE_END 0u /* the sentence is whole: no arcs, no calls, not final */

struct arc {
    uint32_t lo, hi, to; /* symbols, both included */
};

struct call {
    uint32_t entry; /* state where a not empty sentence of the rule begins */
    uint32_t to;
};

struct state {
    uint32_t arc, n_arcs, n_byte_arcs; /* arcs by lo, apart; the first n_byte_arcs are of bytes */
    uint32_t call, n_calls;            /* a rule is called at most once */
    uint32_t rule;
    uint32_t symbols;                  /* fewest to a final state of the rule */
    uint32_t tokens;                   /* enough to a final state; a token that goes beyond does not count */
    uint32_t best;                     /* index of the first arc or call of a way of `symbols` */
    bool best_is_call;
    bool final;
};

struct automaton {
    struct state *state; /* state[STATE_END] */
    size_t n_states, cap_states;
    struct arc *arc;
    size_t n_arcs, cap_arcs;
    struct call *call;
    size_t n_calls, cap_calls;
    uint32_t start;
};
void automaton_finish(struct automaton *a);

/* The state that `symbol` leads to, or AUTO_FAR. */
static inline uint32_t automaton_step(const struct automaton *a, uint32_t state, uint32_t symbol)
{
    const struct state *s = &a->state[state];
    uint32_t low = s->arc, high = s->arc + s->n_arcs;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        if (a->arc[mid].hi < symbol)
            low = mid + 1;
        else
            high = mid;
    }
    return low < s->arc + s->n_arcs && a->arc[low].lo <= symbol ? a->arc[low].to : AUTO_FAR;
}

/* ---- grammar_vocab.c ----------------------------------------------------------------------- */

/* Nodes in preorder; node 0 is the root. Those below n are n + 1 .. end[n] - 1. */
struct grammar_vocab {
    const struct tokenizer *t;
    size_t n_tokens, words;  /* of a mask */
    size_t n_nodes;
    uint8_t *byte;
    uint16_t *depth;
    uint32_t *end;
    uint32_t *first;         /* [n_nodes + 1] index into id of the tokens that end here */
    uint32_t *id;            /* tokens with bytes, in the order of the nodes */
    size_t n_ids;
    uint32_t *node_of;       /* [n_tokens] 0: the token has no bytes that text may have */
    uint32_t root[256];      /* child of the root by byte, or 0 */
    bool has_byte[256];      /* there is a token of this byte alone */
    uint16_t max_depth;
    uint32_t *eog;           /* tokens that end a generation */
    size_t n_eog;
};
uint32_t vocab_child(const struct grammar_vocab *v, uint32_t node, uint8_t byte); /* 0: none */
bool vocab_is_eog(const struct grammar_vocab *v, uint32_t id);

/* ---- grammar_nfa.c, grammar_text.c --------------------------------------------------------- */

#define ARC_FREE UINT32_MAX        /* lo of an arc without symbol */
#define ARC_CALL (UINT32_MAX - 1) /* lo of a call; hi is the part */

struct part_arc {
    uint32_t lo, hi, to, next; /* next: index of the state's next arc, 0: none */
};

enum part_kind { PART_NODE, PART_DFA, PART_TEXT };

/* What becomes an automaton of its own: a rule, or a node that many places share. */
struct part {
    enum part_kind kind;
    uint32_t node;
    uint32_t rule;       /* of the tree, for errors; 0: none */
    uint32_t start, end; /* of PART_NODE: states of the nfa */
    bool nullable;
    uint32_t first, entry; /* states of the automaton: of the whole, and of what is not empty */
};

struct parts {
    const struct gram *g;
    const struct grammar_vocab *v;
    uint32_t *head; /* [n_states] first arc, 0: none */
    size_t n_states, cap_states;
    struct part_arc *arc; /* arc[0] is unused */
    size_t n_arcs, cap_arcs;
    struct part *part;
    size_t n_parts, cap_parts;
    uint32_t *part_of_rule, *part_of_node; /* UINT32_MAX: none yet */
    uint32_t place;                        /* rule of the tree under work */
    struct err *e;
};
enum err_code parts_create(struct parts *b, const struct gram *g, const struct grammar_vocab *v, struct err *e);
void parts_finish(struct parts *b);
/* "in rule x" in front of an error. */
enum err_code parts_fail(const struct parts *b, uint32_t rule, enum err_code code, const char *what);
/* The token that a leaf names, or UINT32_MAX: its text stands for itself. */
enum err_code parts_find_token(struct parts *b, const struct token_leaf *leaf, uint32_t *id);

/* Adds the states of a part of free text to `a`; sets `first` and `nullable` of the part. */
enum err_code text_automaton(struct parts *b, uint32_t part, struct automaton *a);

/* ---- grammar_dfa.c, grammar_cost.c --------------------------------------------------------- */

enum err_code automaton_build(struct parts *b, struct automaton *a);
uint32_t automaton_add_state(struct automaton *a, uint32_t rule, bool final); /* AUTO_FAR: over a cap, or no memory */
/* Adds an arc to the state that was added last; arcs that touch and go the same way become one. */
bool automaton_add_arc(struct automaton *a, uint32_t lo, uint32_t hi, uint32_t to);
enum err_code automaton_cost(const struct parts *b, struct automaton *a);

/* ---- grammar_sim.c ------------------------------------------------------------------------- */

/* Stacks are shared: a frame is a state and what is below it, a set of frames to go on with when the rule of the
 * state is read. Sets are kept once, sorted by state, a state once: frames of one state merge what is below. */
struct frame {
    uint32_t state, below;
};
struct frame_set {
    uint32_t first, n; /* in stacks.frame */
    uint32_t tokens;   /* enough to end */
    uint32_t depth;
    uint32_t hash, next;
};
#define SET_NONE 0u
#define SET_END 1u /* nothing below: the sentence ends */

/* A growing list of frames, a state once. */
struct frame_list {
    struct frame *v;
    size_t n, cap;
};

struct sim {
    const struct automaton *a;
    const struct grammar_vocab *v;
    struct frame *frame;
    size_t n_frames, cap_frames;
    struct frame_set *set;
    size_t n_sets, cap_sets;
    uint32_t *bucket;
    size_t n_buckets;
    uint32_t *seen, *seen_at; /* [n_states] where a state is in the list under work */
    uint32_t epoch;
    struct frame_list level;  /* of a walk: closed frames of all depths, one after the other */
    uint32_t *level_at;       /* [max_depth + 2] */
    bool *dirty;              /* of the list under closure */
    size_t cap_dirty;
    uint64_t work;            /* frames looked at since it was last set to 0 */
    bool failed;              /* no memory, or too many sets */
};
bool sim_init(struct sim *s, const struct automaton *a, const struct grammar_vocab *v);
void sim_finish(struct sim *s);
void sim_clear(struct sim *s); /* forgets all sets */
size_t sim_bytes(const struct sim *s);
uint32_t sim_set(struct sim *s, const struct frame *v, size_t n); /* any order, a state once; SET_NONE: failed */
uint32_t sim_unite(struct sim *s, uint32_t a, uint32_t b);
uint32_t sim_copy(struct sim *to, const struct sim *from, uint32_t set);
/* Appends to the list what `symbol` leads to from its n frames at `from`, which are closed. */
void sim_step(struct sim *s, struct frame_list *l, size_t from, size_t n, uint32_t symbol);
/* Adds to the list from `at` on what its frames return to and call. True: the sentence may end. */
bool sim_close(struct sim *s, struct frame_list *l, size_t at);
void sim_return(struct sim *s, struct frame_list *l, size_t at); /* what they return to alone */
uint32_t sim_tokens(const struct sim *s, const struct frame *v, size_t n); /* enough to end */

/* Calls found() for each node below `node` that the frames, which are closed, allow. `tokens` are enough to end from
 * there; ends: the sentence may end there. */
typedef void (*walk_fn)(void *user, uint32_t node, uint32_t tokens, bool ends);
void sim_walk(struct sim *s, const struct frame *from, size_t n, uint32_t node, walk_fn found, void *user);

/* ---- grammar.c ----------------------------------------------------------------------------- */

struct odd_token {
    uint32_t tokens, id;
};

/* What a state allows, whatever is below it. */
struct verdict {
    uint32_t *bits;        /* tokens that leave `common` to go in the rule; NULL: none */
    uint32_t common;
    struct odd_token *odd; /* the others, by tokens */
    size_t n_odd;
    uint32_t max_tokens;
    uint32_t *exit;        /* nodes below the root where the rule may end, with more below them */
    size_t n_exits;
    size_t bytes;
    bool shared;
};

struct grammar {
    atomic_uint refs;
    const struct grammar_vocab *v;
    struct automaton a;
    uint32_t max_calls; /* open ones; over that, only what comes nearer to the end is allowed */
    _Atomic(struct verdict *) *verdict; /* [n_states] */
    _Atomic(size_t) bytes;
};
/* Borrowed when `shared`, else the caller's. s: a scratch of the caller's. NULL: no memory. */
struct verdict *grammar_verdict(struct grammar *g, struct sim *s, uint32_t state);
void verdict_destroy(struct verdict *v);

#endif
