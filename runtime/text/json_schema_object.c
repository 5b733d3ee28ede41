/* properties, required, patternProperties and the like.
 *
 * Members are the names that the schema writes down. Free keys fall into classes: for each set of patterns, the
 * keys that match these and no others. */
#include <string.h>

#include "runtime/text/json_schema_priv.h"
#include "runtime/text/regex.h"

struct object_reader {
    struct schema *c;
    const json_t *s;
    uint32_t of;
    struct member *member;
    uint32_t n_members;
    struct key_class *class;
    bool *matched; /* of each class: by a pattern */
    uint32_t n_classes;
    struct { const struct dfa *names; goal_id goal; } *pattern;
    size_t n_patterns;
};

static const json_t *object_at(struct object_reader *r, const char *keyword, bool *good)
{
    const json_t *v = json_object_get(r->s, keyword);
    *good = !v || json_is_object(v) || schema_refuse(r->c, ERR_INVALID, r->s, keyword, "must be an object");
    return v;
}

/* Cuts every class in two: the keys that match the pattern, and the others. */
static bool split_classes(struct object_reader *r, const struct dfa *names, goal_id goal)
{
    struct schema *c = r->c;
    uint32_t n = r->n_classes;
    for (uint32_t i = 0; i < n; i++) {
        const struct dfa *in = lang_meet(c, r->class[i].names, names);
        const struct dfa *out = c->failed ? NULL : lang_minus(c, r->class[i].names, names);
        if (c->failed || !schema_step(c, 1))
            return false;
        if (!in)
            continue;
        uint32_t to = out ? r->n_classes++ : i;
        if (to >= SCHEMA_MAX_CLASSES)
            return schema_refuse(c, ERR_TOO_LARGE, r->s, "patternProperties", "more than %d kinds of keys",
                                 SCHEMA_MAX_CLASSES);
        goal_id before = r->class[i].goal;
        if (out)
            r->class[i].names = out;
        r->class[to].names = in;
        r->matched[to] = true;
        if (!goal_both(c, before, goal, &r->class[to].goal))
            return false;
    }
    return true;
}

static bool read_patterns(struct object_reader *r)
{
    bool good;
    const json_t *all = object_at(r, "patternProperties", &good);
    const char *text;
    json_t *v;
    r->class = schema_alloc(r->c, SCHEMA_MAX_CLASSES, sizeof *r->class);
    r->matched = schema_alloc(r->c, SCHEMA_MAX_CLASSES, sizeof *r->matched);
    r->pattern = schema_alloc(r->c, json_object_size(all), sizeof *r->pattern);
    if (!good || !r->class || !r->matched || !r->pattern)
        return false;
    r->class[r->n_classes++] = (struct key_class){ r->c->all_strings, GOAL_ANY };
    json_object_foreach((json_t *)(uintptr_t)all, text, v) {
        struct err e = { 0 };
        struct dfa *d = regex_dfa(str_from(text), REGEX_SEARCH, &e);
        if (!d)
            return schema_refuse(r->c, e.code, r->s, "patternProperties", "%s", e.text);
        r->pattern[r->n_patterns].names = lang_own(r->c, d);
        if (r->c->failed || !goal_schema(r->c, v, r->of, &r->pattern[r->n_patterns].goal) ||
            !split_classes(r, r->pattern[r->n_patterns].names, r->pattern[r->n_patterns].goal))
            return false;
        r->n_patterns++;
    }
    return true;
}

/* What keys may be that neither a name nor a pattern mentions. */
static bool read_additional(struct object_reader *r)
{
    const json_t *v = json_object_get(r->s, "additionalProperties");
    goal_id goal = GOAL_ANY;
    if (!v) {
        v = json_object_get(r->s, "unevaluatedProperties");
        if (v && !json_is_true(v) && has_applicator(r->s))
            return schema_refuse(r->c, ERR_UNSUPPORTED, r->s, "unevaluatedProperties",
                                 "is not supported beside other schemas");
    }
    if (v && !goal_schema(r->c, v, r->of, &goal))
        return false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->n_classes; i++) {
        r->class[kept] = r->class[i];
        if (!r->matched[i])
            r->class[kept].goal = goal;
        kept += r->class[kept].goal != GOAL_FALSE;
    }
    r->n_classes = kept;
    return true;
}

static bool read_properties(struct object_reader *r)
{
    bool good;
    const json_t *all = object_at(r, "properties", &good), *required = json_object_get(r->s, "required");
    size_t n = json_object_size(all) + json_array_size(required);
    const char *name;
    json_t *v;
    r->member = schema_alloc(r->c, n, sizeof *r->member);
    if (!good || !r->member || !schema_step(r->c, n + json_object_size(all) * r->n_patterns))
        return false;
    json_object_foreach((json_t *)(uintptr_t)all, name, v) {
        struct member *m = &r->member[r->n_members++];
        m->name = str_from(name);
        if (!goal_schema(r->c, v, r->of, &m->goal))
            return false;
        for (size_t i = 0; i < r->n_patterns; i++)
            if (r->pattern[i].names && dfa_accepts(r->pattern[i].names, m->name) &&
                !goal_both(r->c, m->goal, r->pattern[i].goal, &m->goal))
                return false;
    }
    return true;
}

static struct member *find_member(struct object_reader *r, struct str name)
{
    for (uint32_t i = 0; i < r->n_members; i++)
        if (str_eq(r->member[i].name, name))
            return &r->member[i];
    return NULL;
}

/* Also draft 3's and OpenAPI's slip, required: true beside type, is refused here. */
static bool read_required(struct object_reader *r)
{
    const json_t *all = json_object_get(r->s, "required");
    size_t n = json_array_size(all), i;
    json_t *v;
    if (all && !json_is_array(all))
        return schema_refuse(r->c, ERR_INVALID, r->s, "required", "must be an array of names");
    if (!schema_step(r->c, n * r->n_members / 64))
        return false;
    json_array_foreach((json_t *)(uintptr_t)all, i, v) {
        struct str name = { json_string_value(v), json_string_length(v) };
        if (!json_is_string(v) || memchr(name.p, 0, name.n))
            return schema_refuse(r->c, ERR_INVALID, r->s, "required", "must be an array of names");
        struct member *m = find_member(r, name);
        if (!m) {
            const struct object_shape free_keys = { .class = r->class, .n_classes = r->n_classes };
            m = &r->member[r->n_members++];
            *m = (struct member){ .name = name, .goal = object_goal(&free_keys, name) };
        }
        m->required = true;
    }
    return true;
}

static bool read_names(struct object_reader *r)
{
    const json_t *v = json_object_get(r->s, "propertyNames");
    goal_id g;
    if (!v)
        return true;
    const struct shape *s = goal_schema(r->c, v, r->of, &g) ? goal_shape(r->c, g) : NULL;
    if (!s)
        return false;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->n_classes; i++) {
        r->class[kept] = r->class[i];
        r->class[kept].names = lang_meet(r->c, r->class[i].names, s->string);
        kept += r->class[kept].names != NULL;
    }
    r->n_classes = kept;
    for (uint32_t i = 0; i < r->n_members; i++)
        if (!s->string || !dfa_accepts(s->string, r->member[i].name))
            r->member[i].goal = GOAL_FALSE;
    return !r->c->failed;
}

const struct shape *schema_object(struct schema *c, const json_t *s, uint32_t of)
{
    struct object_reader r = { .c = c, .s = s, .of = of };
    struct object_shape *o = schema_alloc(c, 1, sizeof *o);
    if (!o || !read_patterns(&r) || !read_properties(&r) || !read_additional(&r) || !read_required(&r) ||
        !read_names(&r) || !schema_count(c, s, "minProperties", 0, &o->min) ||
        !schema_count(c, s, "maxProperties", NO_MAX, &o->max))
        return NULL;
    o->member = r.member;
    o->n_members = r.n_members;
    o->class = r.class;
    o->n_classes = r.n_classes;
    o->counted = o->min || o->max != NO_MAX ? s : NULL;
    return shape_of_objects(c, o);
}

/* ---- dependencies ---- */

/* Objects with these names; n - 1 of them beside the first. absent: without the first instead. */
static const struct shape *with_names(struct schema *c, struct str first, const json_t *others, bool absent)
{
    const struct object_shape *any = object_any(c);
    struct object_shape *o = schema_alloc(c, 1, sizeof *o);
    size_t n = json_array_size(others);
    struct member *m = schema_alloc(c, n + 1, sizeof *m);
    if (!any || !o || !m)
        return NULL;
    *o = *any;
    m[o->n_members++] = (struct member){ first, absent ? GOAL_FALSE : GOAL_ANY, !absent };
    for (size_t i = 0; i < n && !absent; i++) {
        const json_t *v = json_array_get(others, i);
        struct str name = { json_string_value(v), json_string_length(v) };
        if (!json_is_string(v) || memchr(name.p, 0, name.n))
            return schema_refuse(c, ERR_INVALID, c->at, c->keyword, "must hold arrays of names"), NULL;
        o->member = m;
        if (!object_member(o, name))
            m[o->n_members++] = (struct member){ name, GOAL_ANY, true };
    }
    o->member = m;
    return shape_of_objects(c, o);
}

const struct shape *schema_dependent(struct schema *c, const json_t *s, const char *keyword, uint32_t of)
{
    const json_t *all = json_object_get(s, keyword);
    const struct shape *out = c->any;
    const char *name;
    json_t *v;
    if (!json_is_object(all))
        return schema_refuse(c, ERR_INVALID, s, keyword, "must be an object"), NULL;
    json_object_foreach((json_t *)(uintptr_t)all, name, v) {
        const struct shape *without = with_names(c, str_from(name), NULL, true);
        const struct shape *with = with_names(c, str_from(name), json_is_array(v) ? v : NULL, false);
        goal_id g;
        if (with && !json_is_array(v)) {
            const struct shape *more = goal_schema(c, v, of, &g) ? goal_shape(c, g) : NULL;
            with = more ? shape_meet(c, with, more) : NULL;
        }
        c->at = s;
        c->keyword = keyword;
        const struct shape *either = without && with ? shape_join(c, without, with) : NULL;
        if (!either || !(out = shape_meet(c, out, either)))
            return NULL;
    }
    return out;
}
