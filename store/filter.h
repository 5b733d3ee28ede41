/* Which models a list is to have: words, all of which must be true of a model.
 *
 *   qwen            its name holds that (of either case)
 *   name:T source:T license:T         holds that
 *   family:llama                      is that
 *   quant:Q4_K                        begins so
 *   cap:tools                         can do that
 *   context>=8192 size<4GB params<8B  < <= = >= >; K M G T B, and for context 8k is 8192
 *
 * Thread: any; nothing here allocates. */
#ifndef HEARTH_STORE_FILTER_H
#define HEARTH_STORE_FILTER_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "store/store.h"

#define FILTER_MAX_WORDS 16

struct filter_key;
struct filter_word {
    const struct filter_key *key;
    struct str text; /* borrows */
    unsigned holds;  /* of a comparison: bit 0 less, 1 equal, 2 more */
    double number;
};
struct store_filter {
    struct filter_word words[FILTER_MAX_WORDS];
    size_t n;
};

/* Words stand apart by spaces; none is every model. Borrows from text. ERR_INVALID: the sentence names
 * the word, and for an unknown key those that there are. */
enum err_code store_filter_parse(struct str text, struct store_filter *out, struct err *e);
bool store_filter_matches(const struct store_filter *f, const struct store_model *m);

#endif
