/* A set of texts, walked byte by byte: what begins at a place of a text, and what it is worth.
 *
 * Made once from all its texts; nodes lie in breadth-first order, so that the children of one are
 * a run of bytes to look through. Thread: const after trie_init. */
#ifndef HEARTH_TEXT_TRIE_H
#define HEARTH_TEXT_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/str.h"

#define TRIE_NONE UINT32_MAX

struct trie_entry {
    struct str text; /* not empty */
    uint32_t value;  /* of equal texts the least is kept */
};
struct trie {
    uint32_t *first; /* [n + 1] the children of node i are first[i] .. first[i + 1] - 1, ascending */
    uint32_t *value; /* [n] of the text that ends there, or TRIE_NONE */
    unsigned char *byte; /* [n] the step from the parent */
    size_t n;
};

/* Sorts the entries; keeps no pointer into them. False: no memory, *t is empty. */
bool trie_init(struct trie *t, struct trie_entry *entry, size_t n);
void trie_finish(struct trie *t);

/* The child of `node` (the root is 0), or 0 when there is none. The trie has a node. */
uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte);

#endif
