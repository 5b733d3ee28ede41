/* What a model may answer, as a language (grammar_ir.h): reasoning as it likes, then content that is bound, or
 * calls of the tools that were offered, spelled as the model's format spells them. What the language holds,
 * output_parser.h reads back: each call is whole, and its arguments are valid by the tool's schema.
 *
 * Reasoning and, with OUTPUT_CALLS_FREE, the text around calls are free; the mask begins behind them, at the
 * marker that opens a call. Thread: one for a gram. */
#ifndef HEARTH_TEXT_OUTPUT_GRAMMAR_H
#define HEARTH_TEXT_OUTPUT_GRAMMAR_H

#include "runtime/text/grammar_ir.h"
#include "runtime/text/output_parser.h"

enum output_calls {
    OUTPUT_CALLS_NONE,
    OUTPUT_CALLS_FREE, /* where the model likes; but what it begins it says whole */
    OUTPUT_CALLS_MUST, /* at least one, and nothing else */
};
struct output_binding {
    enum output_calls calls;
    const json_t *tools; /* as in a request */
    struct str named;    /* MUST: one call of this tool; {NULL, 0}: any */
    bool thinking;       /* as in output_options */
    struct str prompt;   /* its text: what it opened counts */
    uint32_t content;    /* node of the content; GRAM_NONE: free */
};
/* There is something to bind; else the answer is free and the function below must not be called. */
bool output_binds(const struct output_format *f, const struct output_binding *b);
/* The node of a whole answer; GRAM_NONE where gram_error has the reason: a schema that cannot be honoured
 * ("tools[0].function.parameters...: ..."), or not in this format. */
uint32_t output_grammar(struct gram *g, const struct output_format *f, const struct tokenizer *words,
                        const struct output_binding *b);

#endif
