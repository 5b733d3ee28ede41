/* The sentences of a grammar's tree (grammar_ir.h), slowly and plainly: what the tests measure automata against.
 * Nodes of tokens and of free text are not of a text alone: they match nothing here. */
#ifndef HEARTH_TESTS_SENTENCES_H
#define HEARTH_TESTS_SENTENCES_H

#include "runtime/text/grammar_ir.h"

/* Whether the text is a sentence of the node. Cost: rules times length of the text, and memory for that. */
bool sentence_is(const struct gram *g, uint32_t node, struct str text);
/* A random sentence; loops end early and recursion stops below some depth. False: it would be longer than `out`
 * takes, or there is none. */
bool sentence_random(const struct gram *g, uint32_t node, uint64_t *seed, struct buf *out);

#endif
