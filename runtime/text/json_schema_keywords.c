/* One schema -> its shape. Keywords are read in the order in which they stand there, so that keys of objects keep
 * the order of the schema. */
#include <string.h>

#include "runtime/text/json_schema_priv.h"

enum group { G_NOTE, G_NEVER, G_REF, G_TYPE, G_ENUM, G_CONST, G_NUMBER, G_STRING, G_FORMAT, G_ARRAY, G_OBJECT,
             G_ALL, G_ANY, G_ONE, G_NOT, G_IF, G_DEPENDENT };

/* G_NOTE: says nothing about values. G_NEVER: refused. */
static const struct keyword {
    const char *name;
    enum group group;
} keywords[] = {
    { "$ref", G_REF },
    { "type", G_TYPE },
    { "enum", G_ENUM },
    { "const", G_CONST },
    { "minimum", G_NUMBER },
    { "maximum", G_NUMBER },
    { "exclusiveMinimum", G_NUMBER },
    { "exclusiveMaximum", G_NUMBER },
    { "multipleOf", G_NUMBER },
    { "minLength", G_STRING },
    { "maxLength", G_STRING },
    { "pattern", G_STRING },
    { "format", G_FORMAT },
    { "items", G_ARRAY },
    { "prefixItems", G_ARRAY },
    { "additionalItems", G_ARRAY },
    { "unevaluatedItems", G_ARRAY },
    { "minItems", G_ARRAY },
    { "maxItems", G_ARRAY },
    { "uniqueItems", G_ARRAY },
    { "contains", G_ARRAY },
    { "minContains", G_ARRAY },
    { "maxContains", G_ARRAY },
    { "properties", G_OBJECT },
    { "required", G_OBJECT },
    { "additionalProperties", G_OBJECT },
    { "patternProperties", G_OBJECT },
    { "propertyNames", G_OBJECT },
    { "unevaluatedProperties", G_OBJECT },
    { "minProperties", G_OBJECT },
    { "maxProperties", G_OBJECT },
    { "dependencies", G_DEPENDENT },
    { "dependentRequired", G_DEPENDENT },
    { "dependentSchemas", G_DEPENDENT },
    { "allOf", G_ALL },
    { "anyOf", G_ANY },
    { "oneOf", G_ONE },
    { "not", G_NOT },
    { "if", G_IF },
    { "then", G_IF },
    { "else", G_IF },
    { "$recursiveRef", G_NEVER },
    { "$dynamicRef", G_NEVER },
    { "$recursiveAnchor", G_NOTE },
    { "$schema", G_NOTE },
    { "$id", G_NOTE },
    { "id", G_NOTE },
    { "$anchor", G_NOTE },
    { "$dynamicAnchor", G_NOTE },
    { "$defs", G_NOTE },
    { "definitions", G_NOTE },
    { "$vocabulary", G_NOTE },
    { "$comment", G_NOTE },
    { "title", G_NOTE },
    { "description", G_NOTE },
    { "default", G_NOTE },
    { "examples", G_NOTE },
    { "example", G_NOTE },
    { "deprecated", G_NOTE },
    { "readOnly", G_NOTE },
    { "writeOnly", G_NOTE },
    { "contentMediaType", G_NOTE },
    { "contentEncoding", G_NOTE },
    { "contentSchema", G_NOTE },
    { "nullable", G_NOTE }, /* OpenAPI 3.0's; for JSON Schema null stays forbidden where type forbids it */
    { "discriminator", G_NOTE },
    { "xml", G_NOTE },
    { "externalDocs", G_NOTE },
    { "strict", G_NOTE },
    { "propertyOrdering", G_NOTE },
    { "enumNames", G_NOTE },
    { "enumDescriptions", G_NOTE },
    { "markdownDescription", G_NOTE },
    { "errorMessage", G_NOTE },
};

static const struct keyword *find_keyword(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof keywords[0]; i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

bool has_applicator(const json_t *s)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)s, name, v) {
        const struct keyword *k = find_keyword(name);
        if (k && (k->group == G_REF || k->group == G_NEVER || k->group == G_DEPENDENT || k->group >= G_ALL))
            return true;
    }
    return false;
}

bool schema_count(struct schema *c, const json_t *s, const char *keyword, uint32_t absent, uint32_t *out)
{
    const json_t *v = json_object_get(s, keyword);
    *out = absent;
    if (!v)
        return true;
    double n = json_number_value(v);
    if (!json_is_number(v) || n < 0 || n > 1e15 || n != (double)(int64_t)n)
        return schema_refuse(c, ERR_INVALID, s, keyword, "must be a count");
    if (n > GRAM_MAX_REPEAT)
        return schema_refuse(c, ERR_TOO_LARGE, s, keyword, "is more than %d", GRAM_MAX_REPEAT);
    *out = (uint32_t)n;
    return true;
}

/* ---- types and values ---- */

static const struct type_name {
    const char *name;
    unsigned type;
} types[] = {
    { "null", HAS_NULL },     { "boolean", HAS_BOOLEAN }, { "number", HAS_NUMBER }, { "integer", HAS_NUMBER },
    { "string", HAS_STRING }, { "array", HAS_ARRAY },     { "object", HAS_OBJECT },
};

/* The types that the keyword allows; all where it is absent or wrong. *whole: numbers only as integers. */
static unsigned allowed_types(const json_t *type, bool *whole)
{
    bool number = false, integer = false;
    unsigned all = 0;
    size_t n = json_is_array(type) ? json_array_size(type) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_is_array(type) ? json_array_get(type, i) : type);
        unsigned one = 0;
        for (size_t t = 0; name && t < sizeof types / sizeof types[0]; t++)
            if (strcmp(types[t].name, name) == 0) {
                one = types[t].type;
                integer |= strcmp(name, "integer") == 0;
                number |= strcmp(name, "number") == 0;
            }
        if (!one)
            return 0;
        all |= one;
    }
    *whole = integer && !number;
    return all;
}

static const struct shape *type_shape(struct schema *c, const json_t *s)
{
    bool whole = false;
    unsigned all = allowed_types(json_object_get(s, "type"), &whole);
    if (!all) {
        schema_refuse(c, ERR_INVALID, s, "type", "is no type of JSON");
        return NULL;
    }
    const struct shape *of = shape_types(c, all);
    struct shape *out = schema_alloc(c, 1, sizeof *out);
    if (!of || !out)
        return NULL;
    *out = *of;
    if (whole)
        out->number = number_integers(c);
    return c->failed ? NULL : out;
}

static const struct array_shape *array_value(struct schema *c, const json_t *v)
{
    struct array_shape *a = schema_alloc(c, 1, sizeof *a);
    uint32_t n = (uint32_t)json_array_size(v);
    goal_id *prefix = schema_alloc(c, n, sizeof *prefix);
    if (!a || !prefix || !schema_step(c, n))
        return NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct term t = { TERM_VALUE, 0, json_array_get(v, i) };
        if (!goal_of(c, &t, 1, &prefix[i]))
            return NULL;
    }
    *a = (struct array_shape){ .prefix = prefix, .n_prefix = n, .rest = GOAL_FALSE, .min = n, .max = n };
    return a;
}

static const struct object_shape *object_value(struct schema *c, const json_t *v)
{
    struct object_shape *o = schema_alloc(c, 1, sizeof *o);
    struct member *m = schema_alloc(c, json_object_size(v), sizeof *m);
    uint32_t n = 0;
    const char *name;
    json_t *item;
    if (!o || !m || !schema_step(c, json_object_size(v)))
        return NULL;
    json_object_foreach((json_t *)(uintptr_t)v, name, item) {
        struct term t = { TERM_VALUE, 0, item };
        m[n] = (struct member){ str_from(name), GOAL_ANY, true };
        if (!goal_of(c, &t, 1, &m[n].goal))
            return NULL;
        n++;
    }
    *o = (struct object_shape){ .member = m, .n_members = n, .max = NO_MAX };
    return o;
}

/* Any of the numbers from..to of the array. */
static const struct dfa *number_values(struct schema *c, json_t *const *v, size_t n)
{
    if (n == 1)
        return number_constant(c, v[0]) ? number_compare(c, v[0], NUMBER_EQUAL) : NULL;
    const struct dfa *a = number_values(c, v, n / 2), *b = c->failed ? NULL : number_values(c, v + n / 2, n - n / 2);
    return c->failed ? NULL : lang_join(c, a, b);
}

static const struct shape *shape_of_values(struct schema *c, json_t *const *v, size_t n)
{
    struct shape *s = schema_alloc(c, 1, sizeof *s);
    struct str *words = schema_alloc(c, n, sizeof *words);
    json_t **numbers = schema_alloc(c, n, sizeof *numbers);
    size_t n_words = 0, n_numbers = 0;
    if (!s || !words || !numbers || !schema_step(c, n))
        return NULL;
    const struct shape *out = s;
    for (size_t i = 0; i < n && out; i++) {
        struct shape *one;
        switch (json_typeof(v[i])) {
        case JSON_NULL:
            s->simple |= HAS_NULL;
            break;
        case JSON_TRUE:
            s->simple |= HAS_TRUE;
            break;
        case JSON_FALSE:
            s->simple |= HAS_FALSE;
            break;
        case JSON_STRING:
            words[n_words++] = (struct str){ json_string_value(v[i]), json_string_length(v[i]) };
            break;
        case JSON_INTEGER:
        case JSON_REAL:
            numbers[n_numbers++] = v[i];
            break;
        case JSON_ARRAY:
        case JSON_OBJECT:
            if (!(one = schema_alloc(c, 1, sizeof *one)))
                return NULL;
            one->array = json_is_array(v[i]) ? array_value(c, v[i]) : NULL;
            one->object = json_is_object(v[i]) ? object_value(c, v[i]) : NULL;
            out = c->failed ? NULL : shape_join(c, out, one);
            break;
        }
    }
    if (!out)
        return NULL;
    struct shape *all = schema_alloc(c, 1, sizeof *all);
    if (!all)
        return NULL;
    *all = *out;
    all->simple = s->simple;
    all->string = n_words ? lang_own(c, dfa_words(words, n_words, &c->err)) : NULL;
    all->number = n_numbers ? number_values(c, numbers, n_numbers) : NULL;
    return c->failed ? NULL : all;
}

const struct shape *value_shape(struct schema *c, const json_t *v)
{
    json_t *one = (json_t *)(uintptr_t)v;
    return shape_of_values(c, &one, 1);
}

static const struct shape *enum_shape(struct schema *c, const json_t *s)
{
    const json_t *array = json_object_get(s, "enum");
    size_t n = json_array_size(array);
    json_t **v = schema_alloc(c, n, sizeof *v);
    if (!json_is_array(array) || !n)
        return schema_refuse(c, ERR_INVALID, s, "enum", "must be an array of values"), NULL;
    for (size_t i = 0; v && i < n; i++)
        v[i] = json_array_get(array, i);
    return v ? shape_of_values(c, v, n) : NULL;
}

/* ---- schemas of the same value ---- */

static const struct shape *shape_at(struct schema *c, const json_t *s, uint32_t of)
{
    goal_id g;
    return goal_schema(c, s, of, &g) ? goal_shape(c, g) : NULL;
}

static const struct shape *ref_shape(struct schema *c, const json_t *s, uint32_t of)
{
    struct term t;
    goal_id g;
    return schema_resolve(c, s, "$ref", of, &t) && goal_of(c, &t, 1, &g) ? goal_shape(c, g) : NULL;
}

/* What lies in `a` and in no other of the shapes. */
static const struct shape *alone(struct schema *c, const struct shape *const *all, size_t n, size_t i)
{
    const struct shape *out = all[i];
    for (size_t j = 0; j < n && out; j++) {
        if (j == i)
            continue;
        const struct shape *meet = shape_meet(c, all[i], all[j]);
        unsigned common = meet ? shape_has(c, meet) : 0;
        const struct shape *not = common ? shape_not(c, all[j], common) : c->any;
        out = meet && not && !c->failed ? shape_meet(c, out, not) : NULL;
    }
    return out;
}

static const struct shape *list_shape(struct schema *c, const json_t *s, const char *keyword, enum group group,
                                      uint32_t of)
{
    const json_t *array = json_object_get(s, keyword);
    size_t n = json_array_size(array);
    if (!json_is_array(array) || !n)
        return schema_refuse(c, ERR_INVALID, s, keyword, "must be an array of schemas"), NULL;
    const struct shape **v = schema_alloc(c, n, sizeof *v), *out = group == G_ALL ? c->any : c->none;
    if (!v || !schema_step(c, group == G_ONE ? n * n : n))
        return NULL;
    for (size_t i = 0; i < n; i++) {
        c->at = s;
        c->keyword = keyword;
        if (!(v[i] = shape_at(c, json_array_get(array, i), of)))
            return NULL;
    }
    c->at = s;
    c->keyword = keyword;
    for (size_t i = 0; i < n && out; i++) {
        const struct shape *one = group == G_ONE ? alone(c, v, n, i) : v[i];
        out = !one ? NULL : group == G_ALL ? shape_meet(c, out, one) : shape_join(c, out, one);
    }
    return out;
}

static const struct shape *not_shape(struct schema *c, const json_t *s, const char *keyword, uint32_t of)
{
    const struct shape *a = shape_at(c, json_object_get(s, keyword), of);
    c->at = s;
    c->keyword = keyword;
    return a ? shape_not(c, a, HAS_ALL) : NULL;
}

static const struct shape *if_shape(struct schema *c, const json_t *s, uint32_t of)
{
    const json_t *if_ = json_object_get(s, "if"), *then = json_object_get(s, "then"), *else_ = json_object_get(s, "else");
    if (!if_ || (!then && !else_))
        return c->any;
    const struct shape *yes = shape_at(c, if_, of), *no = yes ? not_shape(c, s, "if", of) : NULL;
    if (yes && then) {
        const struct shape *t = shape_at(c, then, of);
        yes = t ? shape_meet(c, yes, t) : NULL;
    }
    if (no && else_) {
        const struct shape *t = shape_at(c, else_, of);
        no = t ? shape_meet(c, no, t) : NULL;
    }
    return yes && no ? shape_join(c, yes, no) : NULL;
}

/* ---- the schema ---- */

/* The types that a group speaks of; 0: of all. */
static unsigned group_types(enum group g)
{
    switch (g) {
    case G_NUMBER:
        return HAS_NUMBER;
    case G_STRING:
        return HAS_STRING;
    case G_FORMAT:
        return HAS_STRING | HAS_NUMBER;
    case G_ARRAY:
        return HAS_ARRAY;
    case G_OBJECT:
    case G_DEPENDENT:
        return HAS_OBJECT;
    default:
        return 0;
    }
}

static const struct shape *format_shape(struct schema *c, const json_t *s)
{
    const struct shape *a = schema_string(c, s), *b = a ? schema_number(c, s) : NULL;
    return b ? shape_meet(c, a, b) : NULL;
}

static const struct shape *keyword_shape(struct schema *c, const json_t *s, const struct keyword *k, uint32_t of)
{
    switch (k->group) {
    case G_NOTE:
        return c->any;
    case G_NEVER:
        return schema_refuse(c, ERR_UNSUPPORTED, s, k->name, "is not supported"), NULL;
    case G_REF:
        return ref_shape(c, s, of);
    case G_TYPE:
        return type_shape(c, s);
    case G_ENUM:
        return enum_shape(c, s);
    case G_CONST:
        return value_shape(c, json_object_get(s, "const"));
    case G_NUMBER:
        return schema_number(c, s);
    case G_STRING:
        return schema_string(c, s);
    case G_FORMAT:
        return format_shape(c, s);
    case G_ARRAY:
        return schema_array(c, s, of);
    case G_OBJECT:
        return schema_object(c, s, of);
    case G_DEPENDENT:
        return schema_dependent(c, s, k->name, of);
    case G_ALL:
    case G_ANY:
    case G_ONE:
        return list_shape(c, s, k->name, k->group, of);
    case G_NOT:
        return not_shape(c, s, "not", of);
    case G_IF:
        return if_shape(c, s, of);
    }
    return NULL;
}

const struct shape *schema_shape(struct schema *c, const json_t *s, uint32_t of)
{
    if (json_is_boolean(s))
        return json_is_true(s) ? c->any : c->none;
    if (!json_is_object(s))
        return schema_refuse(c, ERR_INVALID, c->at, c->keyword, "holds something that is no schema"), NULL;
    const struct shape *out = c->any;
    bool whole, only_ref = c->draft == JSON_SCHEMA_7 && json_object_get(s, "$ref");
    unsigned allowed = json_object_get(s, "type") ? allowed_types(json_object_get(s, "type"), &whole) : HAS_ALL;
    unsigned done = 0; /* groups: one call reads all keywords of a type */
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)s, name, v) {
        const struct keyword *k = find_keyword(name);
        if (only_ref && strcmp(name, "$ref") != 0)
            continue;
        if (!k && strncmp(name, "x-", 2) == 0)
            continue;
        if (!k)
            return schema_refuse(c, ERR_UNSUPPORTED, s, name, "is an unknown keyword"), NULL;
        unsigned bit = 1u << k->group, of_types = group_types(k->group);
        if ((of_types && !(of_types & allowed)) || (done & bit && k->group != G_DEPENDENT))
            continue;
        done |= bit;
        c->at = s;
        c->keyword = name;
        const struct shape *one = schema_step(c, 1) ? keyword_shape(c, s, k, of) : NULL;
        c->at = s;
        c->keyword = name;
        if (!one || !(out = shape_meet(c, out, one)))
            return NULL;
    }
    return out;
}
