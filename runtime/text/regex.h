/* Regular expressions as automata: those of ECMA-262 with the flag u, as JSON Schema's `pattern` has them,
 * less what is not regular.
 *
 * Taken: literals, . (no line ends), classes with ranges and negation, \d \w \s \D \W \S, \p{...} and \P{...}
 * for general categories, escapes (\n \t ... \cX \xXX \uXXXX, pairs, \u{...}), groups, (?:...), (?<name>...),
 * |, * + ? {m} {m,} {m,n} and their lazy forms, ^ and $ anywhere. \d and \w are ASCII; \s is
 * ECMA's white space, and \S leaves out what Python calls white space, too.
 * Refused by name (ERR_UNSUPPORTED): look-around, back-references, \b and \B, flags inside, other
 * properties. A repetition goes to REGEX_MAX_REPEAT; beyond, and beyond the caps of dfa.h: ERR_TOO_LARGE.
 *
 * Thread: any. */
#ifndef HEARTH_TEXT_REGEX_H
#define HEARTH_TEXT_REGEX_H

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/text/dfa.h"

#define REGEX_MAX_REPEAT 10000
#define REGEX_MAX_DEPTH 100 /* of groups inside each other */

enum regex_mode {
    REGEX_SEARCH, /* texts in which it matches somewhere, as `pattern` means it */
    REGEX_WHOLE,  /* texts that it matches from end to end */
};
/* NULL: `e` says what is wrong, and where (a byte of the pattern, from 0). */
struct dfa *regex_dfa(struct str pattern, enum regex_mode mode, struct err *e);

#endif
