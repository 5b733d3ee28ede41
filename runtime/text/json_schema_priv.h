/* How a schema becomes a grammar; for runtime/text/json_schema*.c only. In call order:
 *
 *   json_schema           the walk: goals that can be reached, those that have a text, rules
 *   json_schema_ref       $id, $anchor, $ref
 *   json_schema_goal      terms and goals, with numbers
 *   json_schema_keywords  one schema -> a shape: a table, a row for each keyword
 *   json_schema_object, _array, _number, _string, _format: what keywords of a type say
 *   json_schema_shape     shapes: meet, join, complement
 *   json_schema_emit      shapes -> nodes
 *
 * A *goal* is a set of terms (schemas, constants, negated goals) that one value must fulfil together. Its *shape*
 * says, for each JSON type, which values do: numbers and strings as regular languages, over decimal texts and
 * over decoded characters, where meet, join and complement are exact; arrays and objects as lists of
 * alternatives, whose items and members are goals again. So everything but the shape of the value itself stays
 * symbolic, and recursion is a goal that is met twice. */
#ifndef HEARTH_TEXT_JSON_SCHEMA_PRIV_H
#define HEARTH_TEXT_JSON_SCHEMA_PRIV_H

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/text/dfa.h"
#include "runtime/text/json_schema.h"

#define SCHEMA_MAX_GOALS 20000
#define SCHEMA_MAX_LANGUAGES 4096 /* that differ from each other */
#define SCHEMA_MAX_STEPS ((size_t)1 << 20) /* keywords read, pairs met */
#define SCHEMA_MAX_WORK ((size_t)1 << 24)  /* cells of automata made */
#define SCHEMA_MAX_ALTERNATIVES 1024       /* of arrays or objects, in one shape */
#define SCHEMA_MAX_NESTING 100             /* of schemas in place: $ref to $ref, anyOf in allOf, ... */
#define SCHEMA_MAX_CLASSES 64              /* of free keys of an object, told apart by patterns */
#define SCHEMA_ARENA ((size_t)48 << 20)
#define NO_MAX UINT32_MAX

typedef uint32_t goal_id;
#define GOAL_ANY 0u   /* no term */
#define GOAL_FALSE 1u /* nothing fulfils it */

enum term_kind { TERM_SCHEMA, TERM_VALUE, TERM_NOT };

struct term {
    enum term_kind kind;
    uint32_t of;     /* TERM_SCHEMA: its resource; TERM_NOT: a goal */
    const json_t *v; /* the schema; TERM_VALUE: the value */
};

struct goal {
    const struct term *term;
    uint32_t n;
    enum { GOAL_NEW, GOAL_BUSY, GOAL_DONE } state;
    const struct shape *shape; /* GOAL_DONE */
    /* The walk: in use; the numbers that are written; has at least one text. */
    bool reached, has_text;
    const struct dfa *number;
    uint32_t rule, node; /* of the grammar; a goal with arrays or objects has a rule */
};

enum shape_type { HAS_NULL = 1, HAS_TRUE = 2, HAS_FALSE = 4, HAS_NUMBER = 8, HAS_STRING = 16, HAS_ARRAY = 32, HAS_OBJECT = 64 };
#define HAS_BOOLEAN (HAS_TRUE | HAS_FALSE)
#define HAS_ALL 127

struct array_shape {
    const goal_id *prefix;
    uint32_t n_prefix;
    goal_id rest; /* of the items behind */
    uint32_t min, max;
    const struct array_shape *next;
};

struct member {
    struct str name;
    goal_id goal; /* GOAL_FALSE: never there */
    bool required;
};
/* Free keys: those of a language, less the names of members. Classes have no key in common; a key in no class is
 * never there. */
struct key_class {
    const struct dfa *names;
    goal_id goal;
};
struct object_shape {
    const struct member *member;
    uint32_t n_members;
    const struct key_class *class;
    uint32_t n_classes;
    uint32_t min, max;
    const json_t *counted; /* the schema whose minProperties or maxProperties it has */
    const struct object_shape *next;
};

struct shape {
    unsigned simple;           /* of HAS_NULL, HAS_TRUE, HAS_FALSE */
    const struct dfa *number;  /* NULL: none */
    const struct dfa *string;  /* of decoded texts; NULL: none */
    const struct array_shape *array;
    const struct object_shape *object;
};

/* An automaton of the pool: equal ones are one. */
struct language {
    struct dfa *d;
    bool is_length; /* all texts of min..max code points */
    size_t min, max;
    uint32_t node; /* of its string literals, or GRAM_NONE */
};

struct resource {
    const json_t *root;
    struct str uri;
};
struct anchor {
    const json_t *at;
    uint32_t of; /* resource */
    struct str name;
};

struct schema {
    struct gram *g;
    const json_t *root;
    const char *where;
    enum json_schema_draft draft;
    struct arena arena;
    struct err err;
    bool failed;
    /* Where refusals point to. */
    const json_t *at;
    const char *keyword;
    /* A probe asks whether a goal is surely empty: what it would refuse, or has not finished, is unknown. */
    unsigned probing;
    bool unknown;
    unsigned nesting;
    size_t steps, work;

    struct goal *goal;
    size_t n_goals, goals_cap;
    uint32_t *goal_slots, n_goal_slots;
    struct language *lang;
    size_t n_langs, langs_cap;
    struct resource *resource;
    size_t n_resources, resources_cap;
    struct anchor *anchor;
    size_t n_anchors, anchors_cap;

    const struct shape *any, *none;
    const struct dfa *plain_numbers, *all_numbers, *all_strings;
    const struct dfa *integers, *number_form; /* made when they are needed */
    const struct dfa *constants; /* texts of the number constants so far, or NULL */
    /* Emitting. */
    uint32_t node_space, node_gap, node_string, node_char;
    goal_id *queue; /* reached goals, then goals whose rule waits for its node */
    size_t n_queue, queue_cap;
};

/* ---- errors: all give false; the first one stays. In a probe a refusal only makes the answer unknown, unless it
 * is of the whole (at NULL). ---- */

bool schema_refuse(struct schema *c, enum err_code code, const json_t *at, const char *keyword, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
bool schema_no_memory(struct schema *c);
bool schema_step(struct schema *c, size_t n); /* false: too many */
void *schema_alloc(struct schema *c, size_t n, size_t size); /* cleared, in the arena; NULL: failed */
void schema_path(const struct schema *c, const json_t *at, struct buf *out);

/* ---- references ---- */

bool schema_find_resources(struct schema *c);
/* The resource of a schema that stands inside `of`. */
uint32_t schema_resource(const struct schema *c, const json_t *s, uint32_t of);
bool schema_resolve(struct schema *c, const json_t *s, const char *keyword, uint32_t of, struct term *out);

/* ---- goals ---- */

bool goal_init(struct schema *c);
bool goal_of(struct schema *c, const struct term *terms, size_t n, goal_id *out);
bool goal_schema(struct schema *c, const json_t *s, uint32_t of, goal_id *out); /* `s` stands inside `of` */
bool goal_both(struct schema *c, goal_id a, goal_id b, goal_id *out);
bool goal_not(struct schema *c, goal_id a, goal_id *out);
const struct shape *goal_shape(struct schema *c, goal_id g); /* NULL: failed */
bool goal_is_empty(struct schema *c, goal_id g);             /* surely */

/* ---- languages ---- */

const struct dfa *lang_own(struct schema *c, struct dfa *d); /* takes it; NULL: failed. Equal ones are one */
const struct dfa *lang_length(struct schema *c, size_t min, size_t max);
struct language *lang_find(const struct schema *c, const struct dfa *d); /* NULL: not of the pool */
/* A language or NULL for the empty one; check c->failed. */
const struct dfa *lang_meet(struct schema *c, const struct dfa *a, const struct dfa *b);
/* Those of any texts that are numbers of ours: languages of numbers are made by this. */
const struct dfa *lang_numbers(struct schema *c, const struct dfa *d);
const struct dfa *lang_join(struct schema *c, const struct dfa *a, const struct dfa *b);
const struct dfa *lang_minus(struct schema *c, const struct dfa *a, const struct dfa *b);
const struct dfa *lang_regex(struct schema *c, const char *whole); /* one of ours */

/* ---- shapes ---- */

const struct shape *shape_types(struct schema *c, unsigned types); /* all values of these */
const struct shape *shape_meet(struct schema *c, const struct shape *a, const struct shape *b);
const struct shape *shape_join(struct schema *c, const struct shape *a, const struct shape *b);
/* What is not in `a`, of these types; of the others, everything. */
const struct shape *shape_not(struct schema *c, const struct shape *a, unsigned types);
unsigned shape_has(struct schema *c, const struct shape *a); /* types of which it may have values */
bool object_is_dead(struct schema *c, const struct object_shape *o);        /* surely no value */
const struct array_shape *array_any(struct schema *c);
const struct object_shape *object_any(struct schema *c);
const struct shape *shape_of_arrays(struct schema *c, const struct array_shape *a);  /* and all other types */
const struct shape *shape_of_objects(struct schema *c, const struct object_shape *o);
goal_id object_goal(const struct object_shape *o, struct str name);
const struct member *object_member(const struct object_shape *o, struct str name);

/* ---- keywords ---- */

const struct shape *schema_shape(struct schema *c, const json_t *s, uint32_t of);
const struct shape *value_shape(struct schema *c, const json_t *v);
const struct shape *values_shape(struct schema *c, const json_t *array);
/* What the keywords of one type say; NULL: failed. */
const struct shape *schema_object(struct schema *c, const json_t *s, uint32_t of);
const struct shape *schema_dependent(struct schema *c, const json_t *s, const char *keyword, uint32_t of);
const struct shape *schema_array(struct schema *c, const json_t *s, uint32_t of);
const struct shape *schema_number(struct schema *c, const json_t *s);
const struct shape *schema_string(struct schema *c, const json_t *s);
const struct dfa *format_language(struct schema *c, const json_t *s, struct str name, bool *known);
/* A count, as minLength has it: false also where it is none. */
bool schema_count(struct schema *c, const json_t *s, const char *keyword, uint32_t absent, uint32_t *out);
bool has_applicator(const json_t *s); /* a keyword that puts another schema in the same place */

/* ---- numbers ---- */

enum number_order { NUMBER_LESS = 1, NUMBER_EQUAL = 2, NUMBER_MORE = 4 };
/* Decimal texts whose value stands in one of these orders to v. */
const struct dfa *number_compare(struct schema *c, const json_t *v, unsigned orders);
const struct dfa *number_integers(struct schema *c);
/* The texts of a language that are written. */
const struct dfa *number_written(struct schema *c, const struct dfa *d);
bool number_constant(struct schema *c, const json_t *v); /* its own text may be written */
bool schema_number_init(struct schema *c);

/* ---- emitting ---- */

/* A language of decoded texts as JSON string literals, with their quotes. */
struct dfa *string_literals(const struct dfa *d, struct err *e);
void string_literal(struct buf *out, struct str text);
/* The keys of a class that no member has. NULL: none, or failed. */
const struct dfa *free_names(struct schema *c, const struct object_shape *o, uint32_t i);
bool goal_push(struct schema *c, goal_id g);
uint32_t emit_goal(struct schema *c, goal_id g); /* a node that stands for it; its rule may wait in the queue */
void emit_rule(struct schema *c, goal_id g);
uint32_t emit_object(struct schema *c, const struct object_shape *o); /* GRAM_NONE: no text, or failed */
uint32_t emit_array(struct schema *c, const struct array_shape *a);

#endif
