/* A language compiled for one vocabulary: a pushdown automaton over bytes and tokens.
 *
 * The way: a tree (grammar_ir.h; gbnf.h and others make one) -> grammar_create -> constraint_create (constraint.h),
 * one for each generation. Each rule becomes a deterministic automaton with calls of other rules in it.
 *
 * Sentences are read by bytes, so a token may straddle anything; a control token is a symbol of its own, which
 * only those parts of a language match that name it. */
#ifndef HEARTH_TEXT_GRAMMAR_H
#define HEARTH_TEXT_GRAMMAR_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/text/grammar_ir.h"
#include "runtime/text/tokenizer.h"

/* The bytes of all tokens as a trie. Made once for a tokenizer, which must outlive it; const from then on and
 * for any thread. Cost: for 128k tokens about 50 ms and 8 MB. */
struct grammar_vocab;
enum err_code grammar_vocab_create(const struct tokenizer *t, struct grammar_vocab **out, struct err *e);
void grammar_vocab_destroy(struct grammar_vocab *v); /* after all grammars made with it; NULL is fine */

/* Shared and counted: a cache and any number of constraints may hold one. Its language never changes; what it
 * learns of tokens on the way (which of them a state allows, whatever comes after) helps all who use it, on any thread at
 * once. Errors: what gram_error has; ERR_INVALID: left recursion, no finite sentence, no such token;
 * ERR_TOO_LARGE: one of the caps in grammar_auto.h. */
struct grammar;
enum err_code grammar_create(struct gram *tree, const struct grammar_vocab *v, struct grammar **out, struct err *e);
struct grammar *grammar_ref(struct grammar *g);  /* gives g */
void grammar_unref(struct grammar *g);           /* NULL is fine */
uint32_t grammar_min_tokens(const struct grammar *g); /* enough for the shortest sentence, end token left out */
size_t grammar_bytes(const struct grammar *g);        /* of memory, by now */

#endif
