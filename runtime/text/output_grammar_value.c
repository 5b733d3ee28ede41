/* Parameters that do not come as one JSON object: elements (STYLE_TAGGED) and keyword arguments (STYLE_PYTHON,
 * STYLE_GEMMA). Each property is bound by its own schema; of what an object's schema says of the properties
 * together, `required` alone can be told, and all else but annotations is refused. */
#include <stdio.h>
#include <string.h>

#include "runtime/text/dfa.h"
#include "runtime/text/json_schema.h"
#include "runtime/text/output_grammar_priv.h"
#include "runtime/text/regex.h"

static uint32_t literal(struct output_maker *m, const char *text)
{
    return gram_literal(m->g, str_from(text));
}

/* ---- what a schema of an object may hold ---------------------------------------------------------- */

static bool among(const char *const *list, const char *key)
{
    while (*list && strcmp(*list, key) != 0)
        list++;
    return *list != NULL;
}

/* What is neither an annotation nor in `can` cannot be told in this way of spelling. */
static void check_keywords(struct output_maker *m, const json_t *schema, const char *const *can, const char *where)
{
    static const char *const always[] = { "type", "$defs", "definitions", "$schema", "$id", "$comment", "title",
                                          "description", "default", "examples", "deprecated", "readOnly",
                                          "writeOnly", NULL };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)schema, key, value)
        if (!among(always, key) && !among(can, key))
            gram_fail(m->g, ERR_UNSUPPORTED, "%s.%s: not in the way that this model spells calls", where, key);
}

static bool is_required(const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (str_is((struct str){ json_string_value(json_array_get(list, i)),
                                 json_string_length(json_array_get(list, i)) }, key))
            return true;
    return false;
}

/* A required property that is not among them could not be given. */
static void check_required(struct output_maker *m, const json_t *schema, const char *where)
{
    const json_t *list = json_object_get(schema, "required"), *properties = json_object_get(schema, "properties");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (!name || !json_object_get(properties, name))
            gram_fail(m->g, ERR_UNSUPPORTED, "%s.required[%zu]: not one of the properties", where, i);
    }
}

/* The property's schema with what its references may name; a new reference. */
static json_t *with_definitions(const json_t *property, const json_t *root)
{
    static const char *const keys[] = { "$defs", "definitions", "$schema" };
    json_t *s = json_is_object(property) ? json_copy((json_t *)(uintptr_t)property) : json_object();
    for (size_t i = 0; s && i < 3; i++) {
        json_t *v = json_object_get(root, keys[i]);
        if (v && !json_object_get(s, keys[i]) && json_object_set(s, keys[i], v)) {
            json_decref(s);
            return NULL;
        }
    }
    return s;
}

static uint32_t json_value(struct output_maker *m, const json_t *schema, const char *where)
{
    return json_schema_node(m->g, schema, where, JSON_SCHEMA_BY_ITSELF);
}

/* ---- text as it stands --------------------------------------------------------------------------- */

static bool says_string(const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *all = json_object_get(schema, "enum");
    const json_t *one = json_object_get(schema, "const");
    bool strings = json_array_size(all) > 0;
    for (size_t i = 0; i < json_array_size(all); i++)
        strings &= json_is_string(json_array_get(all, i));
    return str_is((struct str){ json_string_value(type), json_string_length(type) }, "string") ||
           (!type && (strings || json_is_string(one)));
}

/* Strings that were listed, each as it is. */
static uint32_t listed(struct output_maker *m, const json_t *all)
{
    size_t n = json_array_size(all), k = 0;
    uint32_t *node = mem_alloc(n * sizeof *node);
    if (!node)
        return gram_fail(m->g, ERR_NO_MEMORY, "out of memory: an enum");
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(all, i);
        if (json_is_string(v))
            node[k++] = gram_literal(m->g, (struct str){ json_string_value(v), json_string_length(v) });
    }
    uint32_t out = k ? gram_alt(m->g, node, k) : gram_fail(m->g, ERR_UNSUPPORTED, "an enum without strings");
    mem_free(node);
    return out;
}

/* a, or what a and b have in common; both are taken over. */
static struct dfa *meet(struct dfa *a, struct dfa *b, bool minus, struct err *e)
{
    struct dfa *both = a && b ? (minus ? dfa_minus(a, b, e) : dfa_meet(a, b, e)) : NULL;
    dfa_destroy(a);
    dfa_destroy(b);
    return both;
}

/* Texts that hold `what` somewhere. */
static struct dfa *holding(struct str what, struct err *e)
{
    struct dfa *any = dfa_length(0, DFA_NO_MAX, e), *word = any ? dfa_literal(what, e) : NULL;
    struct dfa *front = word ? dfa_concat(any, word, e) : NULL;
    struct dfa *whole = front ? dfa_concat(front, any, e) : NULL;
    dfa_destroy(any);
    dfa_destroy(word);
    dfa_destroy(front);
    return whole;
}

/* Text by pattern and length in which `stop` does not occur. */
static uint32_t bound_text(struct output_maker *m, const json_t *schema, struct str stop)
{
    const json_t *pattern = json_object_get(schema, "pattern"), *min = json_object_get(schema, "minLength");
    const json_t *max = json_object_get(schema, "maxLength");
    struct err e = { 0 };
    json_int_t lo = json_integer_value(min), hi = max ? json_integer_value(max) : -1;
    struct dfa *d = dfa_length(lo > 0 ? (size_t)lo : 0, hi >= 0 ? (size_t)hi : DFA_NO_MAX, &e);
    if (d && json_is_string(pattern))
        d = meet(d, regex_dfa((struct str){ json_string_value(pattern), json_string_length(pattern) },
                              REGEX_SEARCH, &e), false, &e);
    if (d && stop.n)
        d = meet(d, holding(stop, &e), true, &e);
    uint32_t node = d ? gram_dfa(m->g, d) : gram_fail(m->g, e.code, "%s", e.text);
    dfa_destroy(d);
    return node;
}

/* A string that stands for itself up to `stop`, which is not in it. */
static uint32_t plain_text(struct output_maker *m, const json_t *schema, const char *where, struct str stop)
{
    static const char *const can[] = { "const", "enum", "pattern", "minLength", "maxLength", "format", NULL };
    const json_t *one = json_object_get(schema, "const"), *all = json_object_get(schema, "enum");
    check_keywords(m, schema, can, where);
    gram_place(m->g, "%s", where);
    if (json_is_string(one))
        return gram_literal(m->g, (struct str){ json_string_value(one), json_string_length(one) });
    return all ? listed(m, all) : bound_text(m, schema, stop);
}

/* ---- parameters ---------------------------------------------------------------------------------- */

typedef uint32_t put_parameter(struct output_maker *m, const struct spelling *sp, const char *key,
                               const json_t *schema, const char *where);

struct parameter {
    uint32_t node;
    bool must;
};

/* From the last to the first, a rule for each, so that nothing nests: what may follow where none came yet, and
 * where one did. */
static uint32_t chain(struct output_maker *m, const struct parameter *v, size_t n, const char *comma)
{
    uint32_t first = literal(m, ""), more = first, separator = literal(m, comma);
    for (size_t i = n; i-- > 0;) {
        uint32_t here = gram_seq_of(m->g, v[i].node, more);
        uint32_t next = gram_seq_of(m->g, separator, v[i].node, more);
        uint32_t start = gram_rule(m->g, STR("")), rest = gram_rule(m->g, STR(""));
        gram_define(m->g, start, v[i].must ? here : gram_alt_of(m->g, here, first));
        gram_define(m->g, rest, v[i].must ? next : gram_alt_of(m->g, next, more));
        first = gram_ref(m->g, start);
        more = gram_ref(m->g, rest);
    }
    return first;
}

/* The properties in their order, those that are not required where the model likes. */
static uint32_t parameters(struct output_maker *m, const struct spelling *sp, const json_t *schema,
                           const char *where, const char *comma, put_parameter *put)
{
    static const char *const can[] = { "properties", "required", "additionalProperties", NULL };
    json_t *properties = json_object_get(schema, "properties"), *value;
    struct parameter *v = mem_zero(json_object_size(properties) + 1, sizeof *v);
    size_t n = 0;
    const char *key;
    if (!v)
        return gram_fail(m->g, ERR_NO_MEMORY, "out of memory: parameters");
    check_keywords(m, schema, can, where);
    check_required(m, schema, where);
    json_object_foreach(properties, key, value) {
        char path[512];
        json_t *one = with_definitions(value, schema);
        snprintf(path, sizeof path, "%.400s.properties.%.64s", where, key);
        v[n].must = is_required(schema, key);
        v[n++].node = one ? put(m, sp, key, one, path) : gram_fail(m->g, ERR_NO_MEMORY, "out of memory");
        json_decref(one);
    }
    uint32_t all = chain(m, v, n, comma);
    mem_free(v);
    return all;
}

/* ---- elements ------------------------------------------------------------------------------------ */

static uint32_t element(struct output_maker *m, const struct spelling *sp, const char *key,
                        const json_t *schema, const char *where)
{
    char close[MARKER_MAX + KEY_MAX + 2];
    bool text = says_string(schema);
    const struct marker *behind = text && sp->key_close_text.n ? &sp->key_close_text : &sp->key_close;
    snprintf(close, sizeof close, "%.*s%s%s", (int)sp->value_close.n, sp->value_close.p,
             sp->close_key ? key : "", sp->close_key ? ">" : "");
    uint32_t before = literal(m, sp->newline_before ? "\n" : "");
    uint32_t after = literal(m, sp->newline_after ? "\n" : "");
    uint32_t value = text ? plain_text(m, schema, where, marker_str(&sp->value_close))
                          : json_value(m, schema, where);
    uint32_t end = marker_node(m, &sp->value_close, 0);
    if (sp->close_key)
        end = gram_seq_of(m->g, end, literal(m, key), literal(m, ">"));
    return gram_seq_of(m->g, m->blank, marker_node(m, &sp->key_open, 0), literal(m, key),
                       marker_node(m, behind, 0), before, value, after, end);
}

uint32_t tagged_parameters(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    const json_t *schema = tool_parameters(json_array_get(m->b->tools, tool));
    char where[64];
    snprintf(where, sizeof where, "tools[%zu].function.parameters", tool);
    return parameters(m, sp, schema, where, "", element);
}

/* ---- keyword arguments ----------------------------------------------------------------------------- */

static uint32_t keyword(struct output_maker *m, const struct spelling *sp, const char *key,
                        const json_t *schema, const char *where)
{
    (void)sp;
    return gram_seq_of(m->g, literal(m, key), literal(m, "="), json_value(m, schema, where));
}

static const struct str gemma_quote = { "<|\"|>", 5 };

static uint32_t gemma_member(struct output_maker *m, const struct spelling *sp, const char *key,
                             const json_t *schema, const char *where);

static uint32_t gemma_value(struct output_maker *m, const struct spelling *sp, const json_t *schema,
                            const char *where);

static uint32_t gemma_list(struct output_maker *m, const struct spelling *sp, const json_t *schema,
                           const char *where)
{
    static const char *const can[] = { "items", "minItems", "maxItems", NULL };
    const json_t *max = json_object_get(schema, "maxItems");
    json_int_t lo = json_integer_value(json_object_get(schema, "minItems"));
    json_int_t hi = max ? json_integer_value(max) : GRAM_MANY;
    char path[512];
    check_keywords(m, schema, can, where);
    if (lo < 0 || lo > GRAM_MAX_REPEAT || (max && (hi < lo || hi > GRAM_MAX_REPEAT)))
        return gram_fail(m->g, ERR_TOO_LARGE, "%s: minItems or maxItems is out of range", where);
    json_t *item = with_definitions(json_object_get(schema, "items"), schema);
    snprintf(path, sizeof path, "%.500s.items", where);
    uint32_t one = gemma_value(m, sp, item, path), none = literal(m, "[]");
    json_decref(item);
    if (!hi)
        return none;
    uint32_t rest = gram_repeat(m->g, gram_seq_of(m->g, literal(m, ","), one), lo ? (uint32_t)lo - 1 : 0,
                                max ? (uint32_t)hi - 1 : GRAM_MANY);
    uint32_t some = gram_seq_of(m->g, literal(m, "["), one, rest, literal(m, "]"));
    return lo ? some : gram_alt_of(m->g, none, some);
}

/* Text between its marks, lists, objects; numbers and words as JSON has them. */
static uint32_t gemma_value(struct output_maker *m, const struct spelling *sp, const json_t *schema,
                            const char *where)
{
    uint32_t quote = gram_token(m->g, gemma_quote);
    if (says_string(schema))
        return gram_seq_of(m->g, quote, plain_text(m, schema, where, gemma_quote), quote);
    if (json_object_get(schema, "items"))
        return gemma_list(m, sp, schema, where);
    if (json_object_get(schema, "properties"))
        return gram_seq_of(m->g, literal(m, "{"), parameters(m, sp, schema, where, ",", gemma_member),
                           literal(m, "}"));
    return json_value(m, schema, where);
}

static uint32_t gemma_member(struct output_maker *m, const struct spelling *sp, const char *key,
                             const json_t *schema, const char *where)
{
    return gram_seq_of(m->g, literal(m, key), literal(m, ":"), gemma_value(m, sp, schema, where));
}

uint32_t keyword_parameters(struct output_maker *m, const struct spelling *sp, size_t tool)
{
    bool gemma = sp->style == STYLE_GEMMA;
    const json_t *schema = tool_parameters(json_array_get(m->b->tools, tool));
    char where[64];
    snprintf(where, sizeof where, "tools[%zu].function.parameters", tool);
    return parameters(m, sp, schema, where, gemma ? "," : ", ", gemma ? gemma_member : keyword);
}
