/* The chat template of a model whose file has none: the well-known one of its family, told by the
 * control tokens of its vocabulary. Written by us from the published formats. A row of the table in
 * the .c is all that a further family needs. Thread: any. */
#ifndef HEARTH_TEXT_FAMILY_TEMPLATE_H
#define HEARTH_TEXT_FAMILY_TEMPLATE_H

#include "runtime/text/tokenizer.h"

#define FAMILY_MAX_TOKENS 4

struct family_template {
    const char *name; /* "chatml" */
    /* Special tokens that the vocabulary must have; the first one ends a turn. NULL ends the list. */
    const char *tokens[FAMILY_MAX_TOKENS];
    const char *word;   /* a usual token that it must have too, or NULL */
    const char *source; /* Jinja */
    bool over_others;   /* fine-tunes put it over vocabularies of other families: it goes before them
                           where its turns end with the vocabulary's EOS */
};

/* The first row that fits, or NULL. */
const struct family_template *family_template_of(const struct tokenizer *t);
/* The rows, for tests: NULL behind the last. */
const struct family_template *family_template_at(size_t i);

#endif
