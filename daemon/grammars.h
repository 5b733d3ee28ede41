/* The grammars of one model: what binds an answer, compiled once and shared.
 *
 * Compiling happens on the worker that asks; who asks for the same meanwhile waits for it. The
 * vocabulary's trie is made at the first use. Kept are the GRAMMARS_KEEP last used of at most
 * GRAMMARS_BYTES. Thread: any; a grammar that was given out is the caller's own reference, and the
 * words, the format and this must outlive it. */
#ifndef HEARTH_DAEMON_GRAMMARS_H
#define HEARTH_DAEMON_GRAMMARS_H

#include "daemon/protocol.h"
#include "runtime/engine/runtime.h"
#include "runtime/text/grammar.h"
#include "runtime/text/output_parser.h"

#define GRAMMARS_KEEP 32
#define GRAMMARS_BYTES ((size_t)256 << 20)

struct grammars;
enum err_code grammars_create(const struct tokenizer *t, struct grammars **out, struct err *e);
void grammars_destroy(struct grammars *g); /* NULL is fine */

/* What binds the answer to a request. */
struct grammar_want {
    const struct gen_request *req;
    const struct output_format *format;
    bool own_format;   /* it is this request's alone: nothing is kept */
    bool tools;        /* calls are looked for in the answer */
    bool thinking;     /* as in output_options */
    struct str prompt; /* its text up to where the answer begins */
};
/* *out is NULL where nothing does. ERR_INVALID, ERR_UNSUPPORTED, ERR_TOO_LARGE: the grammar or schema is not one
 * that can be honoured; the sentence names the place in the request. */
enum err_code grammars_get(struct grammars *g, const struct grammar_want *want, struct grammar **out,
                           struct err *e);

#endif
