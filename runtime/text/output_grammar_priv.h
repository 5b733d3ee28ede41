/* For output_grammar*.c:
 *   output_grammar        the whole answer: reasoning, content, where calls may stand
 *   output_grammar_call   one call, a row a style
 *   output_grammar_value  parameters that are not JSON: elements, keyword arguments */
#ifndef HEARTH_TEXT_OUTPUT_GRAMMAR_PRIV_H
#define HEARTH_TEXT_OUTPUT_GRAMMAR_PRIV_H

#include "runtime/text/output_grammar.h"
#include "runtime/text/output_parser_priv.h"

struct output_maker {
    struct gram *g;
    const struct output_format *f;
    const struct tokenizer *words;
    const struct output_binding *b;
    uint32_t blank;  /* at most two blanks */
    uint32_t *arguments; /* [tools] JSON of each tool's arguments; GRAM_NONE: not made yet */
    uint32_t *list;      /* [tools] */
};

/* The marker without its first `skip` bytes: control tokens as tokens, the rest as it is written. */
uint32_t marker_node(struct output_maker *m, const struct marker *marker, size_t skip);
/* One call of the tools that may be called: from behind section_open to call_close, or with an array's
 * brackets; several where the format has that and `many`. */
uint32_t calls_node(struct output_maker *m, const struct spelling *sp, size_t skip, bool many);
uint32_t tool_arguments(struct output_maker *m, size_t tool);
uint32_t json_text_node(struct output_maker *m, struct str text); /* as a JSON string */

/* output_grammar_value.c: all parameters of a tool between its name and the call's end. */
uint32_t tagged_parameters(struct output_maker *m, const struct spelling *sp, size_t tool);
uint32_t keyword_parameters(struct output_maker *m, const struct spelling *sp, size_t tool);

#endif
