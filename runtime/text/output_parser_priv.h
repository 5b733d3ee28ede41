/* The parts behind output_parser.h, for this folder only, in call order:
 *
 *   output_parser_format  a template -> a format: the table of rows, choosing one
 *   output_parser_probe   the markers and keys of a format, from what the template renders
 *   output_parser         text -> reasoning, content, begun calls; events
 *   output_parser_call    calls: what all styles share, and the table of styles
 *   output_parser_json    {"name": .., "arguments": ..}; a name and JSON; {"name": {..}}
 *   output_parser_tagged  <parameter=key>value</parameter> and its like
 *   output_parser_keyword name(key=value, ..) and its like
 *   output_parser_channel messages with a header that says for whom they are (harmony)
 *   output_parser_value   a value's text -> JSON, by the tool's schema
 *
 * The parser works on `in`, what came and is not settled: bytes [0, base) are gone, [base, at)
 * are read but could still become content, the rest waits. Steps are small and can stop after
 * any byte: they say STEP_MORE and are called again when there is more. */
#ifndef HEARTH_TEXT_OUTPUT_PARSER_PRIV_H
#define HEARTH_TEXT_OUTPUT_PARSER_PRIV_H

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/output_parser.h"

#define MARKER_MAX 200   /* bytes of a marker */
#define BLANKS_MAX 256   /* white space that is held back to see what follows */
#define HEAD_MAX 65536   /* bytes of a call before its name is known */
#define KEY_MAX 512      /* bytes of a parameter's name */

/* ---- formats ------------------------------------------------------------------------------- */

/* Literal text to be met. White space in it stands for any, also none. */
struct marker {
    char p[MARKER_MAX];
    bool control[MARKER_MAX]; /* the byte must come from a control token */
    size_t n;
};

enum style {
    STYLE_NONE,
    STYLE_JSON,    /* {"name": "f", "arguments": {..}} */
    STYLE_KEYED,   /* {"f": {..}} */
    STYLE_NAMED,   /* f <name_end> {..} */
    STYLE_TAGGED,  /* f <name_end> [<key_open> k <key_close> v <value_close>].. */
    STYLE_PYTHON,  /* f(k=v, ..) */
    STYLE_GEMMA,   /* f{k:v, ..}, text in <|"|> */
    STYLE_CHANNEL, /* <|channel|>commentary to=functions.f <|message|>{..} */
    STYLE_COUNT
};

/* How calls are spelled:
 * section_open [ call_open id? name name_end id? arguments call_close ].. section_close */
struct spelling {
    enum style style;
    bool array;       /* the calls of a section stand in [ , ] */
    bool id_first, id_behind; /* an id before the name (id_end follows) or behind name_end */
    bool counted;     /* ":0", ":1", .. follows the name (Kimi) */
    bool close_key;   /* value_close is followed by the key and ">" */
    struct marker section_open, call_open, id_end, name_end, call_close, section_close;
    struct marker key_open, key_close, value_close;
    struct marker key_close_text; /* instead of key_close where the value is text; n 0: no such */
    bool newline_before, newline_after; /* a value's own line: these newlines are layout */
    char name_key[32], arguments_key[32], id_key[32]; /* STYLE_JSON */
};

#define SPELLINGS_MAX 3
struct output_format {
    const char *name;
    bool tools, reasoning, parallel, arguments_text;
    bool opened;       /* the prompt ends with the first bytes of call_open and content_open */
    bool skip_blanks;  /* blanks before plain content are layout */
    bool trims_end;    /* and those behind it */
    struct marker think_open, think_close, content_open, content_close;
    struct spelling spelling[SPELLINGS_MAX]; /* the first is the template's own */
    size_t n_spellings;
    char call_open[2 * MARKER_MAX], call_close[2 * MARKER_MAX]; /* for show */
};

/* Fills f from what t renders: reasoning, framed content, spelling[0]. takes_tools: the template
 * renders the tools that are offered. */
enum err_code output_probe(const struct chat_template *t, const struct tokenizer *words,
                           struct output_format *f, bool *takes_tools, struct err *e);
void marker_set(struct marker *m, struct str text);      /* trimmed; too long: empty */
struct str marker_str(const struct marker *m);
bool str_holds(struct str text, struct str what);
struct str str_trim(struct str s);
bool is_blank(char c);
bool one_of(const char *set, char c); /* NUL is in none */

/* ---- the parser ------------------------------------------------------------------------------ */

enum step { STEP_MORE, STEP_ON, STEP_FAIL };

/* One JSON value, byte by byte (RFC 8259). Zero-initialised is at its start. */
struct json_scan {
    uint8_t state, sub, depth;
    bool key;
    uint64_t objects; /* bit d: the level d is an object */
};
enum scan_result { SCAN_MORE, SCAN_LAST, SCAN_BEFORE, SCAN_BAD };
/* SCAN_LAST: c was the value's last byte. SCAN_BEFORE: the value ended before c. */
enum scan_result json_scan_byte(struct json_scan *s, char c);

enum phase { PHASE_TEXT, PHASE_SECTION, PHASE_CALL, PHASE_BETWEEN };

struct output_parser {
    const struct output_format *f;
    const json_t *tools;
    bool thinking;
    struct buf in, flags;   /* flags: 1 for each byte of a control token */
    size_t base, at, solid; /* solid: end of the last byte that is not blank, in text */
    size_t silent;          /* bytes at the front of `in` that the prompt said */
    bool ended, mute;       /* mute: events are not kept */
    enum phase phase;
    bool in_thought, fresh; /* fresh: nothing but layout so far in this stretch of content */
    bool skip_blanks;       /* blanks before the next text are layout */
    bool in_section, in_frame; /* in_frame: content_open came */
    uint8_t first[256];     /* bytes that may begin a marker */
    /* the call */
    const struct spelling *sp;
    uint8_t stage;
    bool begun;             /* OUTPUT_CALL_BEGIN is out */
    const json_t *tool;
    size_t n_calls, mark, key_begin, key_end, args_begin, args_end, id_begin, id_end;
    struct json_scan scan;
    uint8_t nest, quote, depth;
    bool escaped, text_value, has_args, args_out, n_params;
    struct buf args;        /* arguments that were made, not copied */
    /* events */
    struct output_event *event;
    size_t n_events, cap_events;
    struct buf text;
    char carry[4];
    size_t n_carry;
    enum output_event_kind carry_kind;
    bool failed;
};

enum match { MATCH_NO, MATCH_MORE, MATCH_YES };
enum match match_at(const struct output_parser *p, size_t at, const struct marker *m, size_t *end);
/* Passes the marker, with blanks before it. */
enum match take_marker(struct output_parser *p, const struct marker *m);
bool take_blanks(struct output_parser *p); /* false: there may be more of them to come */
/* Whether the marker stands at p->at, where it counts `when`; *more: it may yet. */
bool output_meets(const struct output_parser *p, const struct marker *m, bool when, size_t *end,
                  bool *more);
void output_mark(struct output_parser *p);
void output_turn(struct output_parser *p, size_t end, bool in_thought); /* text goes on at end */
void output_emit(struct output_parser *p, enum output_event_kind kind, struct str text);
/* [base, to) as content or reasoning; base = to. */
void output_flush(struct output_parser *p, size_t to);
struct str output_slice(const struct output_parser *p, size_t begin, size_t end);

enum step output_section(struct output_parser *p);
enum step output_call(struct output_parser *p);
enum step output_between(struct output_parser *p);
void call_start(struct output_parser *p, const struct spelling *sp, size_t at);
const json_t *call_tool(const struct output_parser *p, struct str name); /* NULL: not offered */
const char *tool_name(const json_t *tool);
const json_t *tool_parameters(const json_t *tool);
enum match call_name(struct output_parser *p); /* the longest offered name here -> p->tool */
void call_begin(struct output_parser *p);      /* p->tool is the one */
void call_arguments(struct output_parser *p, struct str text);
enum step call_end(struct output_parser *p);

enum step call_json(struct output_parser *p);
enum step call_named(struct output_parser *p);
enum step call_keyed(struct output_parser *p);
enum step call_tagged(struct output_parser *p);
enum step call_keyword(struct output_parser *p);
enum step channel_head(struct output_parser *p);
bool channel_turn(struct output_parser *p, bool *more);
enum step stream_arguments(struct output_parser *p);
void begin_value(struct output_parser *p, uint8_t next);
enum step call_fail(struct output_parser *p);

/* Appends the JSON of a value's text. Never fails: what is nothing else is a string. */
void value_json(struct buf *out, struct str text, const json_t *schema, const json_t *root);
void value_string(struct buf *out, struct str text);
bool value_key(struct str key); /* it may name a parameter: not empty, no control characters */
/* A literal as Python, or Gemma (gemma), writes it. False: it is none; *out as before. */
bool value_literal(struct buf *out, struct str text, bool gemma);
/* The schema of a property of an object's schema, or NULL. */
const json_t *schema_property(const json_t *schema, struct str key, const json_t *root);
const json_t *schema_items(const json_t *schema, const json_t *root);

#endif
