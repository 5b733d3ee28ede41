/* Text -> pieces, before the merges: no BPE merge crosses the border of a piece.
 *
 * Each name of `tokenizer.ggml.pre` is a row: up to six regular expressions, applied one after the
 * other, each to the pieces that the one before left (as the `Sequence` of `Split`s in a
 * tokenizer.json does); what an expression does not match stays a piece of its own. The
 * expressions are those of the models' own tokenizer.json, compiled by PCRE2 (JIT where the system
 * allows it). `\s` means Unicode's White_Space, 25 code points: PCRE2's own has U+180E as well.
 *
 * Thread: create and destroy by one thread, all else const; a pre_match belongs to one caller. */
#ifndef HEARTH_TEXT_PRETOKENIZER_H
#define HEARTH_TEXT_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

enum pre_flag {
    PRE_IGNORE_MERGES = 1, /* a piece that is a token is that token, whatever the merges say */
    PRE_ADD_BOS = 2,       /* BOS goes in front when the file does not say */
    PRE_RAW = 4,           /* tokens are plain UTF-8 with U+2581 for a space, not byte-encoded */
    PRE_NEWLINES = 8,      /* a run of newlines that is a token is that token */
    PRE_NO_BOS = 16,       /* no BOS unless the file names one */
    PRE_FORCE_BOS = 32,    /* BOS goes in front, and the file is wrong where it says not */
    PRE_WORDS = 64,        /* with PRE_RAW: white space only parts words, and is no token */
};

struct pretokenizer;
/* ERR_UNSUPPORTED: no row of this name. "" is "default". */
enum err_code pretokenizer_create(struct str name, struct pretokenizer **out, struct err *e);
void pretokenizer_destroy(struct pretokenizer *p);
unsigned pretokenizer_flags(const struct pretokenizer *p); /* of enum pre_flag */

/* What one caller needs while matching. */
struct pre_match;
enum err_code pre_match_create(const struct pretokenizer *p, struct pre_match **out, struct err *e);
void pre_match_destroy(struct pre_match *m);

/* Calls `piece` with every piece of `text` in order; together they are the text. `text` must be
 * valid UTF-8. Stops at the first error of `piece` and returns it.
 * Cost: linear in text.n. An expression that runs over its limits on some text is tried on the
 * next PRE_CHUNK bytes alone, and failing that these are one piece. */
#define PRE_CHUNK ((size_t)64 << 10)
typedef enum err_code (*pre_piece_fn)(void *user, struct str piece);
enum err_code pretokenizer_split(const struct pretokenizer *p, struct pre_match *m, struct str text,
                                 pre_piece_fn piece, void *user, struct err *e);

/* The rows' names, for tests and help; NULL after the last. */
const char *pretokenizer_name(size_t i);

#endif
