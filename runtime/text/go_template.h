/* Messages -> prompt text by a Go template, as an Ollama Modelfile's TEMPLATE and the `template`
 * layer of its registry hold them.
 *
 * The language is Go's text/template (https://pkg.go.dev/text/template) with missingkey=zero and
 * Ollama's functions json, currentDate, yesterdayDate and toTypeScriptType. All of it is there but
 * complex numbers and, in printf, %p, %#v, %#q, %b and %x of floats and numbered arguments; what
 * would print an address in memory is an error. Parsed once; rendering is const and may run on any
 * number of threads.
 *
 * Ollama runs a template in one of three ways, by the names that stand in it:
 *   prompt and suffix given  once, with .Prompt and .Suffix (to fill in the middle)
 *   .Messages is used        once, with .Messages, .System (all system messages) and .Tools
 *   else                     once a turn, with .System, .Prompt and .Response; in the last turn it
 *                            ends at .Response. One that names neither gets .Response at its end.
 * All have .Response, .Think, .ThinkLevel and .IsThinkSet. Neighbours of one role (but tool) are
 * joined by an empty line before.
 *
 * Limits: those of chat_template.h. */
#ifndef HEARTH_TEXT_GO_TEMPLATE_H
#define HEARTH_TEXT_GO_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/text/spans.h"

struct go_template;

/* `name` appears in errors ("template:12: ..."). ERR_FORMAT: not a template that Go would parse,
 * with line and reason. */
enum err_code go_template_create(struct str source, const char *name, struct go_template **out,
                                 struct err *e);
void go_template_destroy(struct go_template *t);
struct str go_template_source(const struct go_template *t);

/* Renders with these of the JSON object `vars`, all optional:
 *   messages   [{role, content, thinking (or reasoning_content), tool_calls [{id, function {name,
 *              arguments, index}}], tool_name (or name), tool_call_id, images}]; content may be a
 *              list of {type: "text", text}; arguments an object, or the text of one
 *   tools      [{type, function {name, description, parameters}}]
 *   prompt, suffix   texts; a prompt without messages is a user's message
 *   think      true, false, or a level; else enable_thinking and reasoning_effort
 * now: what currentDate tells (seconds since 1970, local time). Appends to *out.
 * content: NULL, or gets the ranges of *out that came from vars, as chat_template_render says.
 * ERR_INVALID: an error of the template or of vars, with template, line and reason. */
enum err_code go_template_render(const struct go_template *t, const json_t *vars, int64_t now,
                                 struct buf *out, struct spans *content, struct err *e);

/* Whether a field or variable of this name stands in it, in any case: ".Suffix" or "suffix".
 * Ollama reads from it what a model can: .Suffix insert, .Tools tools. */
bool go_template_uses(const struct go_template *t, const char *name);
/* What stands around a message's .Thinking, as Ollama finds it; false: one of the two is missing,
 * and to Ollama the model does not think. */
bool go_template_thinking_tags(const struct go_template *t, struct str *open, struct str *close);
/* Whether a text is a Go template, and not one in Jinja or none at all. */
bool go_template_looks_like(struct str source);

#endif
