/* Strings in a text of tokens, which may straddle them: sequence breakers, banned phrases.
 *
 * Text is what the tokens show, byte for byte; control tokens show nothing. Thread: one at a time. */
#ifndef HEARTH_ENGINE_PHRASES_H
#define HEARTH_ENGINE_PHRASES_H

#include "runtime/base/str.h"
#include "runtime/engine/runtime.h"

struct phrases {
    const struct tokenizer *t;
    const struct str *s; /* [n], borrowed; the empty string is nowhere */
    size_t n, longest;   /* bytes of the longest */
    struct buf piece, text;
};
void phrases_init(struct phrases *p, const struct tokenizer *t, const struct str *s, size_t n);
void phrases_finish(struct phrases *p);

/* The bytes that this token adds to a text; valid until the next call. */
struct str phrases_piece(struct phrases *p, int32_t token);
/* Does the token's own text hold one? */
bool phrases_in_token(struct phrases *p, int32_t token);
/* Does one end in the last of n tokens, n > 0? */
bool phrases_end(struct phrases *p, const int32_t *tokens, size_t n);
/* How many of the newest tokens come after the last in which one ends; n where none does. */
size_t phrases_since(struct phrases *p, const int32_t *tokens, size_t n);

/* ---- banned phrases ------------------------------------------------------------------------------- */

/* Events whose text may be the beginning of a banned phrase, newest last, and what was banned where. */
#define HOLD_MAX (SESSION_MAX_EVENTS - 1)
#define HOLD_BANS 256 /* ways tried in one turn */
struct hold {
    struct phrases phrases;
    struct buf text;           /* of the tokens held, and some before them: after going back, what is out
                                  already may turn out to begin a phrase */
    struct event *event;       /* [HOLD_MAX], [n] */
    size_t at[HOLD_MAX];       /* where in `text` each begins */
    double mu[HOLD_MAX];       /* the sampler's state before each */
    uint32_t n;
    struct { uint32_t position; int32_t token; } ban[HOLD_BANS];
    uint32_t n_ban, n_tried;
    int32_t here[HOLD_BANS];   /* what hold_banned gave */
};
enum err_code hold_create(struct hold **out, const struct tokenizer *t, const struct str *s, size_t n,
                          struct err *e);
void hold_destroy(struct hold *h); /* NULL is fine */

#define HOLD_CLEAN (-1)
/* Would the token after those held complete a phrase? HOLD_CLEAN: no. Else which of those held began it, by
 * index; h->n: the token itself, or one that is out already. */
int hold_check(struct hold *h, int32_t token);
/* Bans a token at a position. False: too many have been. */
bool hold_ban(struct hold *h, uint32_t position, int32_t token);
/* What is banned at this position: h->here, so many. */
size_t hold_banned(struct hold *h, uint32_t position);
/* Forgets those from index i on, and what was banned after that position. */
void hold_back_to(struct hold *h, uint32_t i, uint32_t position);
void hold_push(struct hold *h, const struct event *ev, double mu);
/* Moves those that can begin no phrase any more, or with `all` every one, to out; how many. Fewer than HOLD_MAX
 * stay: where more would, the oldest goes, and a phrase that it began can only be met at its end. */
size_t hold_release(struct hold *h, bool all, struct event *out);

#endif
