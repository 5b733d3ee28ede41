/* Regular languages over bytes, as minimal deterministic automata.
 *
 * Texts are UTF-8: the languages that the rest of runtime/text makes hold only well-formed
 * texts, and a length counts code points. Every function that gives an automaton gives a new
 * and minimal one, in one heap block (dfa_destroy), immutable from then on; NULL means that `e`
 * says why (memory, or ERR_TOO_LARGE for one of the caps below). Two automata of one language
 * are equal byte by byte.
 *
 * Cost: time and memory are bounded by counts alone (DFA_MAX_...), whatever the input.
 * Thread: any. Sources: Hopcroft 1971 (minimal automata), RFC 3629 (UTF-8). */
#ifndef HEARTH_TEXT_DFA_H
#define HEARTH_TEXT_DFA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define DFA_MAX_STATES ((size_t)1 << 17)
#define DFA_MAX_CELLS ((size_t)1 << 22) /* of `next` */
#define DFA_MAX_NFA ((size_t)1 << 20)   /* states or edges before determinisation */
#define DFA_MAX_WORK ((size_t)1 << 22)  /* members of the sets of states met on the way */

#define DFA_DEAD 0u /* the state that nothing leaves; never accepts */
#define DFA_NO_MAX SIZE_MAX
#define DFA_FAR UINT32_MAX /* no accepting state can be reached */

struct dfa {
    uint32_t n_states;  /* with DFA_DEAD */
    uint32_t n_classes; /* bytes of one class are never told apart */
    uint32_t start;     /* DFA_DEAD: the language is empty */
    uint8_t class_of[256];
    uint32_t *next;  /* [n_states][n_classes] */
    uint8_t *accept; /* [n_states]: 0 or 1 */
};

static inline uint32_t dfa_step(const struct dfa *d, uint32_t state, uint8_t byte)
{
    return d->next[(size_t)state * d->n_classes + d->class_of[byte]];
}

void dfa_destroy(struct dfa *d); /* NULL is fine */
struct dfa *dfa_copy(const struct dfa *d, struct err *e);

struct dfa *dfa_nothing(struct err *e);
struct dfa *dfa_literal(struct str text, struct err *e);
struct dfa *dfa_words(const struct str *words, size_t n, struct err *e); /* one of these */
/* All well-formed UTF-8 texts of min..max code points. max: DFA_NO_MAX for no end. */
struct dfa *dfa_length(size_t min, size_t max, struct err *e);
/* One code point out of n ranges (first, last, first, last, ...), in any order. */
struct dfa *dfa_code_points(const uint32_t *ranges, size_t n, struct err *e);

struct dfa *dfa_union(const struct dfa *a, const struct dfa *b, struct err *e);
struct dfa *dfa_meet(const struct dfa *a, const struct dfa *b, struct err *e);
struct dfa *dfa_minus(const struct dfa *a, const struct dfa *b, struct err *e);
struct dfa *dfa_concat(const struct dfa *a, const struct dfa *b, struct err *e);
/* The texts of min..max (DFA_NO_MAX) pieces of the language, put together. */
struct dfa *dfa_repeat(const struct dfa *d, size_t min, size_t max, struct err *e);

bool dfa_is_empty(const struct dfa *d);
bool dfa_equal(const struct dfa *a, const struct dfa *b);
bool dfa_accepts(const struct dfa *d, struct str text);
/* far[n_states]: fewest bytes from each state to an accepting one, or DFA_FAR. False: memory. */
bool dfa_distances(const struct dfa *d, uint32_t *far);

#endif
