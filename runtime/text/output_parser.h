/* What a model says -> reasoning, content and tool calls, while it is being said.
 *
 * An `output_format` is how one model spells these: made once a model from its chat template,
 * by rendering it with a probe (an assistant turn with known reasoning, content and calls) and
 * looking where the parts came out. A template that renders none is matched with the table of
 * known formats by the markers in its source. Const once made; any thread.
 *
 * An `output_parser` reads one answer. Text goes in as pieces cut anywhere, events come out. The
 * events' texts, joined, do not depend on the cuts.
 *
 * What is not a call comes out as content, byte by byte as it came, the markers too: a marker
 * with something else behind it, arguments that do not parse, a call cut off by the end, the
 * name of a tool that was not offered. A call that had begun and broke is withdrawn by
 * OUTPUT_CALL_DROPPED and its whole text follows as content. White space between the parts is
 * layout and belongs to none of them.
 *
 * Bounds: a call has at most OUTPUT_MAX_CALL bytes, JSON nests JSON_MAX_DEPTH deep; what goes
 * beyond is content. Cost: linear in the text. */
#ifndef HEARTH_TEXT_OUTPUT_PARSER_H
#define HEARTH_TEXT_OUTPUT_PARSER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

#define OUTPUT_MAX_CALL ((size_t)4 << 20) /* bytes of one call's text */
#define OUTPUT_MAX_EVENTS ((size_t)64 << 20) /* bytes of events not yet taken */

/* ---- formats ------------------------------------------------------------------------------- */

struct output_format;

/* t: NULL gives the format of plain text. words: where markers are control tokens of this
 * vocabulary, only these tokens count and text that merely spells them does not; NULL: text
 * counts. ERR_NO_MEMORY only. Cost: about twenty renderings of short conversations. */
enum err_code output_format_create(const struct chat_template *t, const struct tokenizer *words,
                                   struct output_format **out, struct err *e);
void output_format_destroy(struct output_format *f);

/* For `show` and for decisions. Slices live as long as f. */
struct output_format_info {
    bool tools, reasoning;
    struct str name;                      /* row of the table, "derived" when none is like it; "" */
    struct str style;                     /* "json", "tagged", "pythonic", ...; "" without tools */
    struct str think_open, think_close;   /* "" without reasoning */
    struct str call_open, call_close;     /* all that stands before a call's name, behind its end */
    bool parallel;                        /* several calls in one turn were seen to be rendered */
    bool arguments_text; /* the template takes a call's arguments as JSON text, not as an object */
};
struct output_format_info output_format_info(const struct output_format *f);

/* The prompt's end opened a thought that the model goes on with. */
bool output_format_in_thought(const struct output_format *f, struct str prompt);

/* ---- parsing --------------------------------------------------------------------------------- */

enum output_event_kind {
    OUTPUT_REASONING,      /* text: more of it */
    OUTPUT_CONTENT,        /* text: more of it */
    OUTPUT_CALL_BEGIN,     /* text: the tool's name */
    OUTPUT_CALL_ID,        /* text: the id that the model gave; only where the format has them */
    OUTPUT_CALL_ARGUMENTS, /* text: more of the JSON object */
    OUTPUT_CALL_END,       /* the arguments are complete: a JSON object */
    OUTPUT_CALL_DROPPED,   /* it was none: forget it; its text comes as content */
};
struct output_event {
    enum output_event_kind kind;
    size_t call;        /* which call of this answer, from 0; a dropped call's number is reused */
    size_t begin, end;  /* text: bytes of output_event_text's buffer */
};

struct output_options {
    const json_t *tools; /* as in a request, or NULL: no calls are looked for. Borrowed until finish */
    bool thinking;       /* look for reasoning; false: its markers are content */
    struct str prompt;   /* the prompt's text, or its last 256 bytes: what it opened counts */
    struct str prefill;  /* the begun answer of an assistant message that is continued; its own
                          * events are not given */
};

struct output_parser;
/* f must outlive it. Thread: one at a time. ERR_NO_MEMORY. */
enum err_code output_parser_create(const struct output_format *f, const struct output_options *o,
                                   struct output_parser **out, struct err *e);
void output_parser_destroy(struct output_parser *p);

/* control: the piece is the text of a control token. One that the format does not know is left
 * out. ERR_NO_MEMORY, ERR_TOO_LARGE (events that nobody takes). */
enum err_code output_parser_feed(struct output_parser *p, struct str piece, bool control,
                                 struct err *e);
/* No more text: what was held back comes out. */
enum err_code output_parser_end(struct output_parser *p, struct err *e);

/* What came since output_parser_taken: *n events, in order; texts of one kind are joined.
 * No text ends within a UTF-8 sequence while there is more to come. */
const struct output_event *output_parser_events(const struct output_parser *p, size_t *n);
struct str output_event_text(const struct output_parser *p, const struct output_event *e);
void output_parser_taken(struct output_parser *p);

#endif
