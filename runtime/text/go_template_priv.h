/* The parts of the Go template interpreter behind go_template.h, for this folder only, in call
 * order:
 *
 *   go_template_lex      source -> tokens; {{- and -}}; comments
 *   go_template_parse    tokens -> a tree in the template's arena
 *   go_template_literal  numbers and quoted strings, as Go's strconv reads and writes them
 *   go_template_data     the request's JSON -> values of the types that Ollama gives its templates
 *   go_template_exec     statements; go_template_eval: pipelines, commands, fields
 *   go_template_calls    and, or, index, eq, ...: a table of rows
 *   go_template_fmt      what values print as; printf
 *   go_template_json     what values marshal to
 *   go_template_text     texts that know which of their bytes came from the request
 *
 * Go's templates look at a value's static type (a missing field of a struct is an error, that of
 * a map is nothing), so values carry one: struct go_type, all of them rows in go_template_data.
 * Functions that return bool return false after setting the error. */
#ifndef HEARTH_TEXT_GO_TEMPLATE_PRIV_H
#define HEARTH_TEXT_GO_TEMPLATE_PRIV_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"
#include "runtime/text/spans.h"

/* Caps that keep recursion within half a MiB of stack. */
#define GO_MAX_NESTING 200 /* blocks and parentheses inside each other, in the source */
#define GO_MAX_DEPTH 500   /* of the evaluation: nesting times {{template}} calls */
#define GO_MAX_WALK 200    /* of data, where it is read, printed or marshalled */
#define GO_MAX_WIDTH 10000 /* of a field of printf */
#define GO_PARSE_ARENA ((size_t)256 << 20)
#define GO_STEP_BYTES 512 /* of text for one step */

/* ---- values ---------------------------------------------------------------------------- */

enum go_kind {
    GO_INVALID, /* no value at all, as a pipeline makes of nil */
    GO_NIL,     /* an interface{} that holds nothing; as a type: interface{} */
    GO_BOOL,
    GO_INT,
    GO_UINT8, /* what indexing a string gives */
    GO_FLOAT,
    GO_STRING,
    GO_LIST,
    GO_MAP, /* keys are strings */
    GO_STRUCT,
    GO_POINTER, /* to a struct; or to properties in their order, which the template cannot see */
    GO_BYTES,   /* an image: only its length can be seen */
};

enum go_string_method {
    GO_NO_METHOD,
    GO_STRING_JSON, /* prints as its JSON; a nil map as {} */
    GO_STRING_TYPE, /* a property's type: one name, or the list of them */
};

struct go_type {
    const char *name; /* as Go prints it */
    enum go_kind kind;
    const struct go_type *of; /* of elements, or of what is pointed to */
    const struct go_field *fields; /* GO_STRUCT */
    size_t n;
    enum go_string_method string;
};

struct go_field {
    const char *name;
    const char *in;  /* key in the request's JSON */
    const char *out; /* key where it is marshalled */
    bool omit_empty;
    const struct go_type *type;
};

struct go_list {
    const struct go_value *v;
    size_t n;
};
struct go_map {
    const struct go_entry *e; /* ascending by key, but behind a GO_POINTER */
    size_t n;
};

struct go_value {
    uint8_t kind; /* enum go_kind */
    bool nil;     /* GO_LIST, GO_MAP, GO_POINTER */
    union {
        const struct go_type *type;
        const struct spans *content; /* GO_STRING: bytes that came from the request; see below */
    };
    union {
        bool b;
        int64_t i; /* GO_INT, GO_UINT8 */
        double f;
        struct str s; /* GO_STRING, GO_BYTES */
        struct go_list list;
        struct go_map map; /* also a GO_POINTER to properties */
        const struct go_value *fields; /* GO_STRUCT: type->n; GO_POINTER: the struct's */
    } u;
};
struct go_entry {
    struct str key;
    struct go_value v;
};

extern const struct go_type go_any, go_bool, go_int, go_uint8, go_float, go_string;
extern const struct go_type go_anys, go_any_map, go_tools, go_messages, go_message;
extern const struct go_type go_property, go_properties, go_ordered_properties, go_plain_properties;

const struct go_type *go_type_of(const struct go_value *v); /* NULL: GO_INVALID */
const char *go_type_name(const struct go_value *v);
struct go_value go_zero(const struct go_type *t); /* of a type that is no struct but go_property */
static inline struct go_value go_of_bool(bool b)
{
    return (struct go_value){ .kind = GO_BOOL, .type = &go_bool, .u.b = b };
}
static inline struct go_value go_of_int(int64_t i)
{
    return (struct go_value){ .kind = GO_INT, .type = &go_int, .u.i = i };
}
static inline struct go_value go_of_str(struct str s, const struct spans *content)
{
    return (struct go_value){ .kind = GO_STRING, .content = content, .u.s = s };
}

/* ---- tree ------------------------------------------------------------------------------ */

enum go_node_kind {
    GO_N_TEXT,
    GO_N_ACTION,
    GO_N_IF,
    GO_N_WITH,
    GO_N_RANGE,
    GO_N_TEMPLATE,
    GO_N_BREAK,
    GO_N_CONTINUE,
    /* operands */
    GO_N_PIPE,
    GO_N_COMMAND,
    GO_N_DOT,
    GO_N_NIL,
    GO_N_BOOL,
    GO_N_NUMBER,
    GO_N_STRING,
    GO_N_FUNCTION,
    GO_N_FIELD,
    GO_N_VARIABLE,
    GO_N_CHAIN,
};

struct go_nodes {
    struct go_node *first, *last;
    size_t n;
};

struct go_node {
    uint8_t kind; /* enum go_node_kind */
    bool assign;  /* GO_N_PIPE: = and not := */
    bool has_else;
    uint32_t line;
    struct go_node *next; /* in a list */
    union {
        struct str text; /* TEXT, STRING */
        bool b;
        struct go_value number; /* GO_INVALID: too large for an int */
        const struct go_call *function;
        struct {
            struct go_node *of; /* CHAIN */
            const struct str *names; /* VARIABLE: the first is the variable's, with its $ */
            size_t n;
        } path; /* FIELD, VARIABLE, CHAIN */
        struct {
            struct go_nodes cmds;
            struct str decl[2];
            size_t n_decl;
        } pipe;
        struct go_nodes args; /* COMMAND */
        struct {
            struct go_node *pipe; /* ACTION, IF, WITH, RANGE; TEMPLATE: may be NULL */
            struct go_nodes yes, no;
            struct str name; /* TEMPLATE */
        } block;
    } u;
};

/* {{define}}s and {{block}}s, and the template itself by the name "". */
struct go_define {
    struct str name;
    struct go_nodes body;
    struct go_define *next;
};
struct go_tree {
    struct arena arena;
    struct go_define *defines; /* the last one first */
    struct go_nodes root;
    struct go_nodes cut; /* root up to .Response, for the turn that the model is to answer */
};

enum go_token_type {
    GO_T_ERROR, /* val: why */
    GO_T_EOF,
    GO_T_TEXT,
    GO_T_LEFT,
    GO_T_RIGHT,
    GO_T_SPACE,
    GO_T_ASSIGN,
    GO_T_DECLARE,
    GO_T_PIPE,
    GO_T_COMMA, /* any other character, too: all of them are errors but a comma in its place */
    GO_T_OPEN,
    GO_T_CLOSE,
    GO_T_BOOL,
    GO_T_CHAR,
    GO_T_NUMBER,
    GO_T_STRING,
    GO_T_RAW,
    GO_T_FIELD,
    GO_T_VARIABLE,
    GO_T_NAME,
    GO_T_DOT,
    GO_T_NIL,
    /* keywords */
    GO_T_BLOCK,
    GO_T_BREAK,
    GO_T_CONTINUE,
    GO_T_DEFINE,
    GO_T_ELSE,
    GO_T_END,
    GO_T_IF,
    GO_T_RANGE,
    GO_T_TEMPLATE,
    GO_T_WITH,
};
struct go_token {
    uint8_t type; /* enum go_token_type */
    uint32_t line;
    struct str val;
};
struct go_tokens {
    struct go_token *v; /* ends in GO_T_EOF or GO_T_ERROR */
    size_t n, cap;
};
bool go_lex(struct str source, struct go_tokens *out); /* false: no memory */

enum err_code go_parse(struct str source, const char *name, struct go_tree *t, struct err *e);
/* The nodes up to the first field .Response in a tree of their own; false: no memory. */
bool go_cut_at_response(struct go_tree *t);

/* ---- literals -------------------------------------------------------------------------- */

/* s: with its quotes. Escapes become bytes. */
bool go_unquote(struct arena *a, struct str s, struct str *out, const char **why);
bool go_unquote_char(struct str s, uint32_t *out);
/* An int or a float as the text says; *out GO_INVALID: larger than an int. */
bool go_number(struct str s, struct go_value *out);
bool go_is_letter_or_digit(uint32_t cp);
bool go_is_print(uint32_t cp);

/* ---- rendering ------------------------------------------------------------------------- */

/* A text that grows in the rendering's arena, with the ranges of it that came from the request. */
struct go_text {
    struct go_render *r;
    char *p;
    size_t n, cap, max;
    struct spans content;
};
#define GO_ALL (&go_all_content)
extern const struct spans go_all_content; /* as a value's content: every byte came from there */

/* JSON that values point into, until the rendering ends. */
struct go_kept {
    json_t *json;
    struct go_kept *next;
};

struct go_var {
    struct str name;
    struct go_value v;
};

struct go_render {
    const struct go_tree *tree;
    int64_t now;
    struct arena arena;
    struct go_text out;
    struct go_var *vars;
    size_t n_vars, cap_vars;
    size_t base_vars; /* the first of the template that runs */
    struct go_kept *kept;
    int64_t fuel; /* steps left */
    uint32_t depth;
    uint32_t line; /* of what is evaluated */
    enum err_code code;
    struct err err;
};

bool go_fail(struct go_render *r, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool go_spend(struct go_render *r, size_t bytes); /* one step, and one for each GO_STEP_BYTES */
void *go_alloc(struct go_render *r, size_t n, size_t size);

bool go_put(struct go_text *t, const char *p, size_t n); /* the template's own */
bool go_puts(struct go_text *t, const char *s);
bool go_put_outside(struct go_text *t, const char *p, size_t n); /* from the request */
/* A piece [from, from + n) of a GO_STRING. */
bool go_put_piece(struct go_text *t, const struct go_value *v, size_t from, size_t n);
bool go_put_str(struct go_text *t, const struct go_value *v); /* a GO_STRING */
bool go_text_take(struct go_text *t, struct go_value *out);
bool go_piece(struct go_render *r, const struct go_value *v, size_t from, size_t n,
              struct go_value *out);
static inline struct go_text go_text_new(struct go_render *r)
{
    return (struct go_text){ .r = r, .max = SIZE_MAX };
}

/* Reads the request's JSON as a value of type t. where: names it in errors. */
bool go_read(struct go_render *r, const json_t *j, const struct go_type *t, const char *where,
             struct go_value *out);
/* The list with neighbours of one role joined, and all of the system's. prompt: the only message
 * where there is no list. */
bool go_read_messages(struct go_render *r, const json_t *messages, const struct go_value *prompt,
                      struct go_value *out, struct go_value *system);
void go_message_of(const struct go_value *message, struct str *role, struct go_value *content);
/* A name that may be part of a control token: [A-Za-z_][A-Za-z0-9_-]*, at most 32 bytes. */
bool go_is_plain_name(struct str s);
bool go_map_get(const struct go_map *m, struct str key, const struct go_value **out);
bool go_sort_map(struct go_render *r, struct go_map *m);

/* Executes a list of nodes with `data` as . and $. */
bool go_exec(struct go_render *r, const struct go_nodes *body, const struct go_value *data);
bool go_pipeline(struct go_render *r, const struct go_value *dot, const struct go_node *pipe,
                 struct go_value *out);
bool go_true(const struct go_value *v);
bool go_push(struct go_render *r, struct str name, const struct go_value *v);
struct go_var *go_find_var(struct go_render *r, struct str name); /* NULL: not there */

/* A row of the table of functions. a: n values, as many as it takes. */
typedef bool go_call_fn(struct go_render *r, const struct go_value *a, size_t n,
                        struct go_value *out);
enum go_lazy { GO_EAGER, GO_AND, GO_OR };
struct go_call {
    const char *name;
    go_call_fn *call;
    uint8_t min, max; /* arguments; 255: any number */
    uint8_t strings;  /* 1: the first argument must be a string; 2: all */
    enum go_lazy lazy;
};
const struct go_call *go_find_call(struct str name);
/* Methods without arguments; NULL: the value has none of this name. */
const struct go_call *go_find_method(const struct go_value *v, struct str name);

bool go_fmt_value(struct go_text *t, const struct go_value *v); /* %v */
bool go_sprint(struct go_text *t, const struct go_value *a, size_t n, bool line);
bool go_sprintf(struct go_text *t, const struct go_value *a, size_t n); /* a[0]: the format */
bool go_string_of(struct go_render *r, const struct go_value *v, struct go_value *out);
/* What an action prints. */
bool go_print(struct go_text *t, const struct go_value *v);

bool go_json(struct go_text *t, const struct go_value *v);
/* The shortest digits that read back: 0.d1d2d3... times 10 to the *point. f: finite, not 0. */
size_t go_float_digits(double f, char digits[24], int *point);

#endif
