/* Messages -> prompt text, by the template that ships with the model: in Jinja, as in its file, or in
 * Go's language, as from Ollama's registry. Which of the two a text is, go_template_looks_like says;
 * go_template.h has that language and what it takes of the variables.
 *
 * The other language is Jinja 2 (https://jinja.palletsprojects.com/en/3.1.x/templates/) as transformers
 * sets it up for chat templates: trim_blocks and lstrip_blocks on, loop controls, `generation`
 * blocks, tojson, raise_exception, strftime_now. Parsed once into a tree with source lines;
 * rendering is const and may run on any number of threads.
 *
 * Limits, decided by counts and never by the clock: CHAT_TEMPLATE_MAX_* below; beyond them
 * ERR_TOO_LARGE. A template can read its variables and nothing else. */
#ifndef HEARTH_TEXT_CHAT_TEMPLATE_H
#define HEARTH_TEXT_CHAT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/text/spans.h"

#define CHAT_TEMPLATE_MAX_SOURCE ((size_t)1 << 20)
#define CHAT_TEMPLATE_MAX_STEPS 1000000
#define CHAT_TEMPLATE_MAX_ARENA ((size_t)64 << 20)
#define CHAT_TEMPLATE_MAX_OUTPUT ((size_t)4 << 20)

struct chat_template;

/* `name` appears in errors ("tokenizer.chat_template:12: ..."). ERR_FORMAT: not a template that
 * we can parse, with line and reason. */
enum err_code chat_template_create(struct str source, const char *name, struct chat_template **out,
                                   struct err *e);
void chat_template_destroy(struct chat_template *t);
struct str chat_template_source(const struct chat_template *t);

/* Renders with the JSON object `vars` as the template's variables: messages, tools,
 * add_generation_prompt, bos_token, eos_token, ... as transformers passes them. `now` is what
 * strftime_now formats (seconds since 1970, local time). Appends to *out.
 * content: NULL, or a list to which the ranges of *out are added that came from the variables
 * (messages, tools, documents, whatever else is in vars) through whatever operations. Not in it
 * is what the template itself says, and of the variables those that chat_template_trusts, and a
 * message's role that is a plain identifier of at most 32 bytes ([A-Za-z_][A-Za-z0-9_-]*), for
 * templates make control tokens of it.
 * ERR_INVALID: raise_exception, or an error of the template, with template, line and reason. */
enum err_code chat_template_render(const struct chat_template *t, const json_t *vars, int64_t now,
                                   struct buf *out, struct spans *content, struct err *e);
/* Whether it has a place for a suffix (Go's .Suffix): with `prompt` and `suffix` among the variables it then makes
 * the prompt to fill in the middle. */
bool chat_template_fills_in(const struct chat_template *t);
/* Variables that hold texts of the vocabulary, such as bos_token. A caller lets no client set them. */
bool chat_template_trusts(struct str name);

#endif
