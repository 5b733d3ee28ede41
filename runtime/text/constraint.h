/* What one generation may say next: a mask over the vocabulary, by a grammar.
 *
 * How the engine uses it, for each token:
 *     submit the step to the device;
 *     constraint_mask(c, left, &mask, e)   while the device works;
 *     wait; give every token whose bit is 0 the logit -infinity; sample;
 *     constraint_accept(c, token, e).
 * The mask is never empty as long as there is a sentence to end. Tokens that end the generation are in it exactly where the
 * sentence is whole. After constraint_done nothing but these can come: the turn may as well stop there.
 *
 * Memory: bounded (CONSTRAINT_MAX_... in constraint.c). Thread: one at a time for each constraint; different ones
 * that share a grammar may run at once. No clocks: the same tokens always give the same masks. */
#ifndef HEARTH_TEXT_CONSTRAINT_H
#define HEARTH_TEXT_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/text/grammar.h"

struct constraint;

/* max_tokens: the limit of the generation, 0 for none. ERR_INVALID when the shortest sentence is longer; the error
 * says how long it is. Holds a reference of its own to g. */
enum err_code constraint_create(struct grammar *g, uint32_t max_tokens, struct constraint **out, struct err *e);
/* Another one in the same state, for several completions of one prompt. */
enum err_code constraint_clone(const struct constraint *c, struct constraint **out, struct err *e);
void constraint_destroy(struct constraint *c); /* NULL is fine */

/* Bit t % 32 of (*mask)[t / 32] is 1 when token t may come next. There are constraint_mask_words words, bits past
 * the vocabulary are 0; an id of the model past that is not allowed. Valid until the next call on c.
 * left: how many tokens may still be made, this one included, 0 for no limit: whatever is then sampled from the
 * masks, with left one less each time, the sentence is whole by the time that nothing is left. It must not be less than
 * what the calls before led to expect (max_tokens less the tokens accepted).
 * ERR_NO_MEMORY, or ERR_INVALID: nothing may come, for left is too small or the sentence has been ended. */
enum err_code constraint_mask(struct constraint *c, uint32_t left, const uint32_t **mask, struct err *e);
size_t constraint_mask_words(const struct constraint *c);

/* ERR_INVALID and unchanged when the token cannot come here. */
enum err_code constraint_accept(struct constraint *c, int32_t token, struct err *e);

bool constraint_may_end(const struct constraint *c); /* what was accepted is a whole sentence */
bool constraint_done(const struct constraint *c);    /* and nothing can follow */

#endif
