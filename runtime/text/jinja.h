/* The parts of the Jinja interpreter behind chat_template.h, for this folder only, in call order:
 *
 *   jinja_lex     source -> tokens; the whitespace rules of trim_blocks, lstrip_blocks, - and +
 *   jinja_parse   tokens -> a tree in the template's arena; jinja_expression: the expressions
 *   jinja_scope   names -> slots: where each name lives is decided once, as Jinja's compiler does
 *   jinja_exec    statements; jinja_eval: expressions and calls
 *   jinja_value   Python's values: truth, equality, order, dicts; jinja_iter, jinja_text
 *   jinja_origin  which bytes of a text came from the variables
 *   jinja_ops     operators, attributes, items, slices
 *   jinja_filters, jinja_sequences, jinja_tests, jinja_methods, jinja_functions: tables of rows
 *   jinja_format  %-formatting, str.format, float text; jinja_json; jinja_unicode
 *
 * A tree is immutable once built and shared by any number of renderings; a rendering owns an
 * arena and everything it makes. Functions that return bool return false after setting the
 * error; the first false ends the rendering. */
#ifndef HEARTH_TEXT_JINJA_H
#define HEARTH_TEXT_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"
#include "runtime/text/spans.h"

/* Caps that keep recursion within about half a MiB of stack (jinja_depth in the unit test). */
#define JINJA_MAX_NESTING 400 /* parentheses and blocks inside each other, in the source */
#define JINJA_MAX_HEIGHT 400  /* of the tree: also a + b + c + ... leans to the left */
#define JINJA_MAX_DEPTH 1600  /* of the evaluation: height times macro calls */
#define JINJA_MAX_WALK 200    /* of data, where it is compared, printed or converted */
#define JINJA_PARSE_ARENA ((size_t)256 << 20)
/* One step is a statement, a turn of a loop or a call; 8 smaller nodes, or 512 bytes walked. */
#define JINJA_STEP 8
#define JINJA_STEP_BYTES 64 /* of text for an eighth of a step */

/* ---- values ---------------------------------------------------------------------------- */

enum value_type {
    V_MISSING, /* a slot that holds nothing: reads as undefined */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_RANGE,
    V_VIEW,      /* dict.keys(), .values(), .items() */
    V_ITER,      /* what Python makes a generator of: consumed once */
    V_MACRO,
    V_METHOD,    /* bound to its object */
    V_FUNCTION,
    V_NAMESPACE,
    V_LOOP,
    V_CYCLER,
    V_JOINER,
    V_TYPES
};

/* Why a value is undefined, for the sentence when it is used. */
enum undefined_reason {
    UNDEF_NAME, /* u.s: the name */
    UNDEF_HINT, /* u.s: the whole sentence */
    UNDEF_UNSAFE, /* u.s: the attribute that the sandbox keeps closed */
    UNDEF_ATTRIBUTE, /* u.s: the attribute; `of`: the type that lacks it */
    UNDEF_ELEMENT, /* u.i: the index */
};

struct list {
    struct value *v;
    size_t n;
};

struct range {
    int64_t start, stop, step; /* as they were given */
    int64_t n;
};

/* Where the bytes of a text came from, or those that a number prints as. From ORIGIN_MIXED on:
 * an entry of render.mixed, which holds for the memory that the text lies in, so that a slice
 * keeps its text's. */
enum { ORIGIN_TEMPLATE, ORIGIN_CONTENT, ORIGIN_MIXED };

/* Immutable once handed to a template; slices share the memory of what they were cut from. */
struct value {
    uint8_t type;   /* enum value_type */
    uint8_t reason; /* V_UNDEFINED: enum undefined_reason. V_VIEW: 0 keys, 1 values, 2 items.
                       V_TUPLE: 1 of groupby's, with attributes grouper and list */
    uint8_t of;     /* V_UNDEFINED: enum value_type of the object */
    bool markup;    /* V_STR: marked by |safe or |escape: what is joined to it is escaped */
    uint32_t origin; /* V_STR, numbers and None */
    union {
        bool b;
        int64_t i;
        double f;
        struct str s;
        const struct list *list; /* V_LIST, V_TUPLE */
        struct dict *dict;       /* V_DICT, V_VIEW, V_NAMESPACE */
        const struct range *range;
        struct iter *iter;
        const struct macro *macro;
        const struct method *method;
        const struct builtin *function;
        struct loop *loop;
        struct cycler *cycler;
        struct joiner *joiner;
    } u;
};

struct entry {
    struct value key, value;
};

struct dict {
    struct entry *e; /* in order of insertion */
    size_t n, cap;
    uint32_t *index; /* open addressing, entry number + 1; NULL while small */
    size_t mask;
};

struct cycler {
    struct list items;
    size_t at;
};

struct joiner {
    struct value separator;
    bool used;
};

struct kwarg {
    struct str name;
    uint32_t origin; /* of the name: ** takes it from a dict */
    struct value v;
};

struct args {
    const struct value *v;
    size_t n;
    const struct kwarg *kw;
    size_t nkw;
};

struct render;

/* A row of the tables of filters, tests, methods and functions.
 * a: what it is applied to (nothing for functions: a[0] is V_MISSING), then the parameters bound
 * by `params`, absent ones V_MISSING. */
typedef bool builtin_fn(struct render *r, const struct value *a, const struct args *args,
                        struct value *out);
#define BUILTIN_MAX_PARAMS 6
struct builtin {
    const char *name;
    builtin_fn *call;
    int required; /* parameters that must be given; -1: takes any arguments, reads `args` itself */
    const char *params[BUILTIN_MAX_PARAMS]; /* "": by position only */
};

struct method {
    const struct builtin *fn;
    struct value self;
};

/* Iteration. `next` gives ITER_ITEM with *out, ITER_END, or ITER_FAIL with the error set. */
enum iter_step { ITER_FAIL, ITER_ITEM, ITER_END };
struct iter {
    enum iter_step (*next)(struct render *r, struct iter *it, struct value *out);
    struct value over; /* what is walked */
    size_t at;
    struct iter *from; /* generators: where items come from */
    void *state;
    bool done;
};

/* ---- tree ------------------------------------------------------------------------------ */

enum node_kind {
    /* expressions */
    N_CONST,
    N_NAME,
    N_TUPLE,
    N_LIST,
    N_DICT,
    N_BINARY,
    N_AND,
    N_OR,
    N_NOT,
    N_NEG,
    N_POS,
    N_CONCAT,
    N_COMPARE,
    N_COND,
    N_ATTR,
    N_ITEM,
    N_CUT, /* a[start:stop:step] */
    N_CALL,
    N_FILTER,
    N_TEST,
    N_NSREF, /* only as a target: ns.attr */
    /* statements */
    N_TEXT,
    N_PRINT,
    N_IF,
    N_FOR,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_CALL_BLOCK,
    N_FILTER_BLOCK,
    N_WITH,
    N_BREAK,
    N_CONTINUE,
    N_KINDS
};

enum op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

/* How a slot is filled when its scope is entered. */
enum load_kind {
    LOAD_PARAM,     /* by whoever enters */
    LOAD_RESOLVE,   /* from the variables of the rendering */
    LOAD_ALIAS,     /* from the slot of an outer scope */
    LOAD_UNDEFINED, /* by nothing yet */
};

struct load {
    enum load_kind kind;
    uint32_t slot;
    uint32_t hops, from; /* LOAD_ALIAS */
    uint32_t name;       /* LOAD_RESOLVE */
};

struct scope {
    struct load *loads;
    size_t n;
    uint32_t nslots; /* of the function that this scope begins; 0 where it begins none */
};

struct node_list {
    struct node *first, *last;
    size_t n;
};

struct call_args {
    struct node_list pos;
    struct node_list kw;  /* values; names in kw_names */
    struct str *kw_names;
    struct node *dyn_pos, *dyn_kw;
};

struct macro_def {
    struct str name;
    struct node_list params;   /* N_NAME */
    struct node_list defaults; /* of the last params */
    struct node_list body;
    struct scope scope;
    bool takes_caller, takes_kwargs, takes_varargs;
    bool explicit_caller;
    uint32_t caller_slot, kwargs_slot, varargs_slot;
};

/* The methods of this name, one per type that has one. */
struct method_row {
    enum value_type type;
    struct builtin fn;
};

struct node {
    uint8_t kind; /* enum node_kind */
    uint8_t op;   /* enum op: N_BINARY; N_COMPARE's operands carry theirs */
    uint16_t height;
    uint32_t line;
    struct node *next; /* in a list */
    union {
        struct value constant;
        struct str text;
        struct {
            uint32_t id, slot, hops;
        } name;
        struct node_list items; /* TUPLE LIST DICT (key, value, ...) CONCAT COMPARE PRINT */
        struct {
            struct node *left, *right; /* BINARY AND OR; NOT NEG POS: left */
        } pair;
        struct {
            struct node *test, *yes, *no;
        } cond;
        struct {
            struct node *object;
            struct str name;
            bool is_method; /* some type has a method of this name */
        } attr;
        struct {
            struct node *object, *index;
        } item;
        struct {
            struct node *object, *part[3];
        } cut;
        struct {
            struct node *callee;
            struct call_args *args;
        } call;
        struct {
            struct node *input; /* NULL: the text of the block */
            const struct builtin *fn; /* NULL: no such filter; fails when it is reached */
            struct str name;
            struct call_args *args;
        } apply;
        struct {
            struct node *object; /* N_NAME */
            struct str attr;
        } nsref;
        struct {
            struct node *test;
            struct node_list body, elifs, otherwise;
        } branch;
        struct for_def *loop;
        struct {
            struct node *target, *value;
        } set;
        struct {
            struct node *target, *filter;
            struct node_list body;
            struct scope *scope;
        } block; /* SET_BLOCK, FILTER_BLOCK (no target) */
        struct {
            struct node *target; /* N_NAME; NULL in a call block */
            struct macro_def *def;
            struct node *call; /* CALL_BLOCK; NULL: the body is called once, in place */
        } macro;
        struct {
            struct node_list targets, values, body;
            struct scope *scope;
        } with;
    } u;
};

struct for_def {
    struct node *target, *iter, *test, *test_target;
    struct node_list body, otherwise;
    bool recursive, extended;
    uint32_t loop_slot;
    uint32_t nslots; /* recursive: of its function */
    struct scope scope, test_scope, else_scope;
};

struct names {
    struct map ids; /* name -> id */
    struct str *v;
    size_t n, cap;
};

struct tree {
    struct arena arena;
    struct names names;
    struct node_list body;
    struct scope scope;
};

/* name: for errors. The tree is finished by the caller, also after an error. */
enum err_code jinja_parse(struct str source, const char *name, struct tree *t, struct err *e);
enum err_code jinja_scope(struct tree *t, const char *name, struct err *e);

/* ---- tokens ---------------------------------------------------------------------------- */

enum token_kind {
    T_EOF,
    T_DATA,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_VARIABLE_BEGIN,
    T_VARIABLE_END,
    T_NAME,
    T_STRING,
    T_INTEGER,
    T_FLOAT,
    T_ADD,
    T_ASSIGN,
    T_COLON,
    T_COMMA,
    T_DIV,
    T_DOT,
    T_EQ,
    T_FLOORDIV,
    T_GT,
    T_GE,
    T_LBRACE,
    T_LBRACKET,
    T_LPAREN,
    T_LT,
    T_LE,
    T_MOD,
    T_MUL,
    T_NE,
    T_PIPE,
    T_POW,
    T_RBRACE,
    T_RBRACKET,
    T_RPAREN,
    T_SEMICOLON,
    T_SUB,
    T_TILDE,
};

struct token {
    enum token_kind kind;
    uint32_t line;
    struct str text; /* T_DATA, T_NAME; T_STRING: escapes undone */
    int64_t i;
    double f;
};

struct lexer {
    struct str src; /* newlines are \n */
    size_t pos;
    uint32_t line;
    bool line_starting; /* the last token ended with a newline */
    enum { LEX_TEXT, LEX_BLOCK, LEX_VARIABLE } mode;
    char open[256]; /* brackets that wait for their end */
    size_t nopen;
    struct token queue[2]; /* found together with the text before them */
    size_t nqueue;
    struct arena *arena;
    const char *name;
    struct err *e;
};

bool jinja_lex_init(struct lexer *l, struct str source, const char *name, struct arena *a,
                    struct err *e);
bool jinja_lex_next(struct lexer *l, struct token *t);
const char *jinja_token_name(enum token_kind k);

/* ---- a rendering ----------------------------------------------------------------------- */

/* The variables of one function call: the template, a macro, a recursive loop, a loop's filter. */
struct frame {
    struct frame *up;
    struct value slot[];
};

struct macro {
    const struct macro_def *def;
    struct frame *up;
};

struct loop {
    struct iter *it;
    struct value over;
    int64_t index0, depth;
    struct value after, current, before; /* V_MISSING: none (or not asked for) */
    int64_t length;                      /* -1: not asked for */
    struct value changed;
    const struct node *recurse; /* N_FOR with `recursive` */
    struct frame *up;           /* of the recursion: the frame around the loop */
};

/* A text that can still grow in place: what a = a + b needs to stay linear. */
#define JINJA_TAILS 4
struct tail {
    char *p;
    size_t n, cap;
    uint32_t origin;
};

/* Ranges of the memory from `base` on that came from the variables. */
struct mixed {
    const char *base;
    struct spans at;
};

struct render {
    const struct tree *tree;
    const json_t *vars;
    int64_t now;
    struct arena arena;
    struct buf *out; /* block texts are taken from its end */
    size_t out_base;
    bool tracks;          /* somebody asks for origins; else all counts as the template's */
    struct spans content; /* of out */
    struct mixed *mixed;
    size_t nmixed, capmixed;
    struct frame *frame;
    struct value *globals; /* by name id, V_MISSING until asked for */
    bool *resolved;
    int64_t fuel; /* steps * JINJA_STEP left */
    uint32_t depth, walk;
    struct tail tail[JINJA_TAILS];
    uint32_t next_tail;
    uint32_t error_line;
    enum err_code code;
    struct err err;
};

bool jinja_fail(struct render *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool jinja_too_large(struct render *r, const char *what);
void *jinja_alloc(struct render *r, size_t count, size_t size); /* NULL: error set */
bool jinja_spend(struct render *r, int64_t units);
bool jinja_spend_bytes(struct render *r, size_t bytes);
bool jinja_emit(struct render *r, struct str s);              /* the template's words */
bool jinja_emit_value(struct render *r, const struct value *v); /* as str() */

bool jinja_exec(struct render *r); /* the template's body into r->out */
bool jinja_eval(struct render *r, const struct node *n, struct value *out);
bool jinja_eval_args(struct render *r, const struct call_args *in, const struct value *caller,
                     struct args *out, struct value *few, size_t nfew);
/* N_CALL, with a call block as the keyword argument `caller`. */
bool jinja_call_with(struct render *r, const struct node *n, const struct value *caller,
                     struct value *out);
bool jinja_call(struct render *r, const struct value *fn, const struct args *args,
                struct value *out);
bool jinja_call_builtin(struct render *r, const struct builtin *fn, const struct value *self,
                        const struct args *args, struct value *out);
bool jinja_call_macro(struct render *r, const struct macro *m, const struct args *args,
                      struct value *out);
bool jinja_call_loop(struct render *r, struct loop *l, const struct value *over,
                     struct value *out);
bool jinja_apply(struct render *r, const struct node *n, const struct value *input,
                 struct value *out); /* N_FILTER */
bool jinja_assign(struct render *r, const struct node *target, const struct value *v);
bool jinja_enter(struct render *r, const struct scope *s);
bool jinja_global(struct render *r, uint32_t name, struct value *out);
struct frame *jinja_frame(struct render *r, struct frame *up, uint32_t nslots);
enum iter_step jinja_loop_peek(struct render *r, struct loop *l);
bool jinja_loop_attr(struct render *r, struct loop *l, struct str name, struct value *out,
                     bool *found);

/* ---- values ---------------------------------------------------------------------------- */

static inline struct value value_none(void)
{
    return (struct value){ .type = V_NONE };
}
static inline struct value value_bool(bool b)
{
    return (struct value){ .type = V_BOOL, .u.b = b };
}
static inline struct value value_int(int64_t i)
{
    return (struct value){ .type = V_INT, .u.i = i };
}
static inline struct value value_float(double f)
{
    return (struct value){ .type = V_FLOAT, .u.f = f };
}
static inline struct value value_str(struct str s)
{
    return (struct value){ .type = V_STR, .u.s = s };
}
static inline struct value value_text(const char *s)
{
    return value_str(str_from(s));
}
static inline struct value value_undefined(enum undefined_reason why, struct str s)
{
    return (struct value){ .type = V_UNDEFINED, .reason = (uint8_t)why, .u.s = s };
}
/* A piece of v's text; it stays marked as v is. */
static inline struct value value_part(const struct value *v, struct str s)
{
    struct value part = *v;
    part.u.s = s;
    return part;
}
static inline struct value value_key(const struct kwarg *kw)
{
    return (struct value){ .type = V_STR, .origin = kw->origin, .u.s = kw->name };
}
static inline bool value_given(const struct value *v)
{
    return v->type != V_MISSING;
}
static inline bool value_is_number(const struct value *v)
{
    return v->type == V_INT || v->type == V_FLOAT || v->type == V_BOOL;
}
static inline int64_t value_as_int(const struct value *v) /* V_INT, V_BOOL */
{
    return v->type == V_BOOL ? v->u.b : v->u.i;
}
static inline double value_as_float(const struct value *v) /* a number */
{
    return v->type == V_FLOAT ? v->u.f : (double)value_as_int(v);
}

const char *jinja_type_name(enum value_type t);
bool jinja_use_undefined(struct render *r, const struct value *v); /* fails with its sentence */
bool jinja_deeper(struct render *r); /* one more level of data; r->walk-- after it */
bool jinja_from_json(struct render *r, const json_t *j, uint32_t origin, struct value *out);
bool jinja_truth(struct render *r, const struct value *v, bool *out);
bool jinja_equal(struct render *r, const struct value *a, const struct value *b, bool *out);
/* op: one of OP_LT .. OP_GE */
bool jinja_order(struct render *r, enum op op, const struct value *a, const struct value *b,
                 bool *out);
bool jinja_contains(struct render *r, const struct value *in, const struct value *v, bool *out);
bool jinja_length(struct render *r, const struct value *v, int64_t *out);
bool jinja_has_length(const struct value *v);
bool jinja_str(struct render *r, const struct value *v, struct value *out); /* a V_STR, not marked */
bool jinja_list(struct render *r, struct list l, enum value_type type, struct value *out);
bool jinja_tuple2(struct render *r, struct value a, struct value b, struct value *out);
bool jinja_stable_sort(struct render *r, struct value *keys, struct value *items, size_t n,
                       bool reverse);

struct dict *jinja_dict(struct render *r, size_t expected);
bool jinja_dict_put(struct render *r, struct dict *d, const struct value *k,
                    const struct value *v);
bool jinja_dict_find(struct render *r, const struct dict *d, const struct value *k,
                     struct value *out, bool *found);
bool jinja_dict_find_str(struct render *r, const struct dict *d, struct str k, struct value *out);

bool jinja_iterable(const struct value *v);
struct iter *jinja_iter(struct render *r, const struct value *v); /* NULL: error set */
enum iter_step jinja_next(struct render *r, struct iter *it, struct value *out);
bool jinja_collect(struct render *r, const struct value *v, struct list *out);
bool jinja_generator(struct render *r,
                     enum iter_step (*next)(struct render *, struct iter *, struct value *),
                     const struct value *over, void *state, struct value *out);

/* A list that grows in the arena. */
struct gather {
    struct render *r;
    struct value *v;
    size_t n, cap;
};
bool jinja_gather(struct gather *g, const struct value *v);

/* A text that grows in the arena; `failed` stays and is reported by text_take. What is put is the
 * template's, but where the function takes the value that the bytes came from. */
struct text {
    struct render *r;
    char *p;
    size_t n, cap;
    struct spans content;
    bool failed;
};
void text_put(struct text *t, const char *p, size_t n);
void text_from(struct text *t, const struct value *v, const char *p, size_t n); /* a piece of v */
void text_all(struct text *t, const struct value *v);                           /* V_STR: all of it */
/* What was put since `start` was made of the piece [p, p + n) of v. */
void text_made(struct text *t, size_t start, const struct value *v, const char *p, size_t n);
void text_str(struct text *t, struct str s);
void text_lit(struct text *t, const char *s);
void text_char(struct text *t, char c);
void text_cp(struct text *t, uint32_t cp);
void text_fill(struct text *t, uint32_t cp, int64_t n);
bool text_value(struct text *t, const struct value *v); /* as str() */
bool text_repr(struct text *t, const struct value *v);
bool text_take(struct text *t, struct value *out);

/* ---- origin ---------------------------------------------------------------------------- */

/* As spans_add, in the arena. */
bool origin_add(struct render *r, struct spans *s, size_t begin, size_t end);
/* Adds the ranges of the piece [p, p + n) of v's text, as it now stands at `at`. */
bool origin_copy(struct render *r, struct spans *to, size_t at, const struct value *v,
                 const char *p, size_t n);
bool origin_touches(const struct render *r, const struct value *v, const char *p, size_t n);
/* The origin of a text of n bytes at `base` with these ranges, which it takes over. */
bool origin_take(struct render *r, const char *base, size_t n, const struct spans *s,
                 uint32_t *out);
/* Byte i of the text at `base` was made of byte i of v's: what is the origin there? */
bool origin_move(struct render *r, const struct value *v, const char *base, uint32_t *out);
/* v's text now stands behind the n bytes at `base`, whose origin is *origin. */
bool origin_append(struct render *r, const char *base, size_t n, const struct value *v,
                   uint32_t *origin);
/* Takes the ranges of the output behind `mark` off, as those of a text of their own. */
bool origin_cut(struct render *r, size_t mark, struct spans *out);

/* ---- operators ------------------------------------------------------------------------- */

bool jinja_binary(struct render *r, enum op op, const struct value *a, const struct value *b,
                  struct value *out);
bool jinja_negate(struct render *r, const struct value *v, bool minus, struct value *out);
bool jinja_compare(struct render *r, enum op op, const struct value *a, const struct value *b,
                   bool *out);
bool jinja_concat(struct render *r, const struct value *a, const struct value *b,
                  struct value *out); /* V_STR both */
bool jinja_attr(struct render *r, const struct value *o, struct str name, struct value *out);
bool jinja_item(struct render *r, const struct value *o, const struct value *key,
                struct value *out);
bool jinja_cut(struct render *r, const struct value *o, const struct value part[3],
               struct value *out);
bool jinja_int_arg(struct render *r, const struct value *v, int64_t absent, int64_t *out);
bool jinja_str_arg(struct render *r, const struct value *v, struct str *out);

/* ---- tables ---------------------------------------------------------------------------- */

const struct builtin *jinja_find(const struct builtin *rows, struct str name);
const struct builtin *jinja_filter(struct str name);
const struct builtin *jinja_test(struct str name);
const struct builtin *jinja_function(struct str name);
const struct builtin *jinja_method(enum value_type type, struct str name);
bool jinja_is_method(struct str name);
extern const struct builtin jinja_text_filters[], jinja_sequence_filters[];

/* ---- text ------------------------------------------------------------------------------ */

bool jinja_escape(struct render *r, const struct value *v, struct value *out); /* HTML, markup */
bool jinja_tojson(struct render *r, const struct value *a, const struct args *args,
                  struct value *out);
bool jinja_fromjson(struct render *r, const struct value *a, const struct args *args,
                    struct value *out);
void text_float(struct text *t, double f); /* as repr() */
bool jinja_percent(struct render *r, const struct value *fmt, const struct value *arg,
                   struct value *out);
bool jinja_str_format(struct render *r, const struct value *fmt, const struct args *args,
                      struct value *out);
bool jinja_parse_float(struct str s, double *out); /* as float(str) */
bool jinja_parse_int(struct str s, int base, int64_t *out, bool *overflow); /* as int(str) */

size_t jinja_utf8(struct str s, size_t at, uint32_t *cp); /* length of the sequence there */
size_t jinja_cp_count(struct str s);
size_t jinja_cp_offset(struct str s, size_t index); /* byte offset of a code point */
bool jinja_is_space(uint32_t cp);
bool jinja_is_printable(uint32_t cp);
bool jinja_is_name_start(uint32_t cp);
bool jinja_is_name_part(uint32_t cp);
struct str jinja_strip(struct str s, bool left, bool right);
struct str jinja_strip_chars(struct str s, struct str chars, bool left, bool right);
size_t jinja_newline_at(struct str s, size_t at); /* bytes of the line end there, or 0 */
size_t jinja_find_str(struct str s, struct str needle, size_t from); /* SIZE_MAX: none */
size_t jinja_rfind_str(struct str s, struct str needle, size_t end);

enum case_kind { CASE_UPPER, CASE_LOWER, CASE_CAPITALIZE, CASE_TITLE, CASE_SWAP,
                 CASE_FOLD };
bool jinja_case(struct render *r, const struct value *v, enum case_kind kind, struct value *out);
/* what: 'a' alpha, 'd' digit, 'D' decimal, 'n' numeric, 'w' alnum, 's' space, 'p' printable,
 * 'i' identifier, 'l' lower, 'u' upper, 't' title, '7' ascii */
bool jinja_str_is(struct str s, char what);

#endif
