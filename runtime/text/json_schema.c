#include "runtime/text/json_schema.h"

#include <stdio.h>
#include <string.h>

#include "runtime/text/json_schema_priv.h"
#include "runtime/text/regex.h"

/* ---- errors ---- */

/* Puts the way from v down to `at` behind `out`. False: it is not there. */
static bool put_way(const json_t *v, const json_t *at, struct buf *out)
{
    size_t n = out->n, i;
    const char *name;
    json_t *part;
    if (v == at)
        return true;
    if (json_is_object(v))
        json_object_foreach((json_t *)(uintptr_t)v, name, part) {
            bool plain = name[0] && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$-") ==
                                        strlen(name);
            buf_printf(out, plain ? ".%s" : "[\"%s\"]", name);
            if (put_way(part, at, out))
                return true;
            out->n = n;
        }
    if (json_is_array(v))
        json_array_foreach((json_t *)(uintptr_t)v, i, part) {
            buf_printf(out, "[%zu]", i);
            if (put_way(part, at, out))
                return true;
            out->n = n;
        }
    return false;
}

void schema_path(const struct schema *c, const json_t *at, struct buf *out)
{
    buf_puts(out, c->where);
    if (json_is_object(at))
        put_way(c->root, at, out);
    if (out->n < out->max && out->p)
        out->p[out->n] = '\0';
}

bool schema_refuse(struct schema *c, enum err_code code, const json_t *at, const char *keyword, const char *fmt, ...)
{
    if (c->probing && at && code != ERR_NO_MEMORY) {
        c->unknown = true;
        return false;
    }
    if (c->failed)
        return false;
    c->failed = true;
    struct buf path;
    char text[300];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    buf_init(&path, GRAM_MAX_SOURCE);
    schema_path(c, at, &path);
    err_set(&c->err, code, "%.200s%s%.80s: %s", path.p ? path.p : "$", keyword ? "." : "", keyword ? keyword : "", text);
    buf_finish(&path);
    gram_place(c->g, "%s", "");
    gram_fail(c->g, code, "%s", c->err.text);
    return false;
}

bool schema_no_memory(struct schema *c)
{
    return schema_refuse(c, ERR_NO_MEMORY, NULL, NULL, "no memory for the schema");
}

bool schema_step(struct schema *c, size_t n)
{
    c->steps += n < SCHEMA_MAX_STEPS ? n : SCHEMA_MAX_STEPS;
    return c->steps <= SCHEMA_MAX_STEPS ||
           schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "the schema takes more than %zu steps", SCHEMA_MAX_STEPS);
}

void *schema_alloc(struct schema *c, size_t n, size_t size)
{
    void *p = arena_zero(&c->arena, n ? n : 1, size);
    if (!p && c->arena.used > c->arena.limit / 2)
        schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "the schema needs more than %zu MiB", SCHEMA_ARENA >> 20);
    else if (!p)
        schema_no_memory(c);
    return p;
}

/* ---- languages ---- */

const struct dfa *lang_own(struct schema *c, struct dfa *d)
{
    if (!d) {
        struct err e = c->err;
        schema_refuse(c, e.code == ERR_NO_MEMORY ? e.code : ERR_TOO_LARGE, c->at ? c->at : c->root, c->keyword, "%s",
                      e.text);
        return NULL;
    }
    c->work += (size_t)d->n_states * d->n_classes;
    for (size_t i = c->n_langs; i-- > 0;)
        if (dfa_equal(c->lang[i].d, d)) {
            dfa_destroy(d);
            return c->lang[i].d;
        }
    if (c->work > SCHEMA_MAX_WORK || c->n_langs >= SCHEMA_MAX_LANGUAGES) {
        dfa_destroy(d);
        schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "the strings and numbers of the schema need too many states");
        return NULL;
    }
    if (!mem_grow(&c->lang, &c->langs_cap, c->n_langs + 1, sizeof *c->lang, SCHEMA_MAX_LANGUAGES)) {
        dfa_destroy(d);
        schema_no_memory(c);
        return NULL;
    }
    c->lang[c->n_langs++] = (struct language){ .d = d };
    return d;
}

struct language *lang_find(const struct schema *c, const struct dfa *d)
{
    for (size_t i = 0; i < c->n_langs; i++)
        if (c->lang[i].d == d)
            return &c->lang[i];
    return NULL;
}

const struct dfa *lang_length(struct schema *c, size_t min, size_t max)
{
    if (min > max) {
        schema_refuse(c, ERR_UNSUPPORTED, c->at, "minLength", "is more than maxLength");
        return NULL;
    }
    const struct dfa *d = lang_own(c, dfa_length(min, max, &c->err));
    struct language *l = d ? lang_find(c, d) : NULL;
    if (l) {
        l->is_length = true;
        l->min = min;
        l->max = max;
    }
    return d;
}

/* NULL for the empty language. */
static const struct dfa *or_none(const struct dfa *d)
{
    return d && !dfa_is_empty(d) ? d : NULL;
}

const struct dfa *lang_meet(struct schema *c, const struct dfa *a, const struct dfa *b)
{
    if (!a || !b || a == b || c->failed)
        return c->failed || !b ? NULL : a;
    if (a == c->all_strings || b == c->all_strings)
        return a == c->all_strings ? b : a;
    if (a == c->all_numbers || b == c->all_numbers)
        return a == c->all_numbers ? b : a;
    return or_none(lang_own(c, dfa_meet(a, b, &c->err)));
}

const struct dfa *lang_numbers(struct schema *c, const struct dfa *d)
{
    return d && !c->failed ? or_none(lang_own(c, dfa_meet(d, c->plain_numbers, &c->err))) : NULL;
}

const struct dfa *lang_join(struct schema *c, const struct dfa *a, const struct dfa *b)
{
    if (!a || !b || a == b || c->failed)
        return c->failed ? NULL : a ? a : b;
    return or_none(lang_own(c, dfa_union(a, b, &c->err)));
}

const struct dfa *lang_minus(struct schema *c, const struct dfa *a, const struct dfa *b)
{
    if (!a || !b || a == b || c->failed)
        return c->failed || a == b ? NULL : a;
    return or_none(lang_own(c, dfa_minus(a, b, &c->err)));
}

const struct dfa *lang_regex(struct schema *c, const char *whole)
{
    return lang_own(c, regex_dfa(str_from(whole), REGEX_WHOLE, &c->err));
}

/* ---- the walk ---- */

bool goal_push(struct schema *c, goal_id g)
{
    if (!mem_grow(&c->queue, &c->queue_cap, c->n_queue + 1, sizeof *c->queue, SCHEMA_MAX_GOALS))
        return schema_no_memory(c);
    c->queue[c->n_queue++] = g;
    return true;
}

static bool reach(struct schema *c, goal_id g)
{
    if (c->goal[g].reached || g == GOAL_FALSE)
        return true;
    c->goal[g].reached = true;
    return goal_push(c, g);
}

static bool reach_parts(struct schema *c, goal_id g)
{
    const struct shape *s = goal_shape(c, g);
    if (!s)
        return false;
    bool good = true;
    c->goal[g].number = s->number ? number_written(c, s->number) : NULL;
    for (const struct array_shape *a = s->array; a && good; a = a->next) {
        for (uint32_t i = 0; good && i < a->n_prefix && i < a->max; i++)
            good = reach(c, a->prefix[i]);
        if (good && a->max > a->n_prefix)
            good = reach(c, a->rest);
    }
    for (const struct object_shape *o = s->object; o && good; o = o->next) {
        if (s->object->next && object_is_dead(c, o))
            continue;
        for (uint32_t i = 0; good && i < o->n_members; i++)
            good = reach(c, o->member[i].goal);
        for (uint32_t i = 0; good && i < o->n_classes; i++)
            good = reach(c, o->class[i].goal);
    }
    return good && !c->failed;
}

static bool array_has_text(const struct schema *c, const struct array_shape *a)
{
    bool good = a->min <= a->max;
    for (uint32_t i = 0; good && i < a->n_prefix && i < a->min; i++)
        good = c->goal[a->prefix[i]].has_text;
    return good && (a->min <= a->n_prefix || c->goal[a->rest].has_text);
}

static bool object_has_text(struct schema *c, const struct object_shape *o)
{
    uint32_t n = 0, required = 0;
    for (uint32_t i = 0; i < o->n_members; i++) {
        bool has = c->goal[o->member[i].goal].has_text;
        if (o->member[i].required && !has)
            return false;
        n += has;
        required += o->member[i].required;
    }
    bool free_keys = false;
    for (uint32_t i = 0; n < o->min && i < o->n_classes && !free_keys; i++)
        free_keys = c->goal[o->class[i].goal].has_text && free_names(c, o, i);
    return required <= o->max && o->min <= o->max && (n >= o->min || free_keys);
}

static bool shape_has_text(struct schema *c, goal_id g)
{
    const struct shape *s = c->goal[g].shape;
    bool has = s->simple || s->string || c->goal[g].number;
    for (const struct array_shape *a = s->array; a && !has; a = a->next)
        has = array_has_text(c, a);
    for (const struct object_shape *o = s->object; o && !has; o = o->next)
        has = object_has_text(c, o);
    return has;
}

/* Goals have a text when what they need has one: from the back, where most needs are met, until nothing changes. */
static bool find_texts(struct schema *c)
{
    for (bool more = true; more;) {
        more = false;
        for (size_t i = c->n_queue; i-- > 0;) {
            struct goal *g = &c->goal[c->queue[i]];
            if (g->has_text)
                continue;
            if (!schema_step(c, 1))
                return false;
            g->has_text = shape_has_text(c, c->queue[i]);
            more |= g->has_text;
        }
    }
    return !c->failed;
}

/* ---- the whole ---- */

/* Nesting and size, as the text of the schema would have them. */
static bool measure(struct schema *c, const json_t *v, unsigned depth, size_t *size)
{
    const char *name;
    json_t *part;
    size_t i;
    *size += 2 + json_string_length(v);
    if (depth > GRAM_MAX_DEPTH)
        return schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "nested deeper than %d", GRAM_MAX_DEPTH);
    if (*size > GRAM_MAX_SOURCE)
        return schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "more than %zu bytes", GRAM_MAX_SOURCE);
    bool good = true;
    if (json_is_object(v))
        json_object_foreach((json_t *)(uintptr_t)v, name, part) {
            *size += strlen(name) + 3;
            good = good && measure(c, part, depth + 1, size);
        }
    if (json_is_array(v))
        json_array_foreach((json_t *)(uintptr_t)v, i, part)
            good = good && measure(c, part, depth + 1, size);
    return good;
}

static enum json_schema_draft draft_of(const json_t *schema)
{
    const char *s = json_string_value(json_object_get(schema, "$schema"));
    if (s && (strstr(s, "draft-07") || strstr(s, "draft-06") || strstr(s, "draft-04") || strstr(s, "draft-03")))
        return JSON_SCHEMA_7;
    return s && strstr(s, "2019-09") ? JSON_SCHEMA_2019 : JSON_SCHEMA_2020;
}

static bool prepare(struct schema *c)
{
    size_t size = 0;
    struct shape *none = schema_alloc(c, 1, sizeof *none);
    if (!none || !measure(c, c->root, 1, &size) || !schema_number_init(c))
        return false;
    c->none = none;
    c->all_strings = lang_length(c, 0, DFA_NO_MAX);
    if (!c->all_strings || !goal_init(c))
        return false;
    c->any = shape_types(c, HAS_ALL);
    return c->any && schema_find_resources(c);
}

static uint32_t compile(struct schema *c)
{
    goal_id root;
    if (!prepare(c) || !goal_schema(c, c->root, 0, &root) || !reach(c, root))
        return GRAM_NONE;
    for (size_t i = 0; i < c->n_queue; i++)
        if (!reach_parts(c, c->queue[i]))
            return GRAM_NONE;
    if (!find_texts(c))
        return GRAM_NONE;
    if (!c->goal[root].has_text) {
        schema_refuse(c, ERR_UNSUPPORTED, c->root, NULL, "nothing that could be written fulfils the schema");
        return GRAM_NONE;
    }
    c->n_queue = 0;
    uint32_t node = emit_goal(c, root);
    for (size_t i = 0; i < c->n_queue && !c->failed && !gram_failed(c->g); i++)
        emit_rule(c, c->queue[i]);
    return node;
}

static void finish(struct schema *c)
{
    for (size_t i = 0; i < c->n_langs; i++)
        dfa_destroy(c->lang[i].d);
    void *blocks[] = { c->lang, c->goal, c->goal_slots, c->resource, c->anchor, c->queue };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        mem_free(blocks[i]);
    arena_finish(&c->arena);
}

uint32_t json_schema_node(struct gram *g, const json_t *schema, const char *where, enum json_schema_draft draft)
{
    struct schema c = { .g = g, .root = schema, .where = where ? where : "$", .arena.limit = SCHEMA_ARENA };
    if (gram_failed(g))
        return GRAM_NONE;
    c.draft = draft == JSON_SCHEMA_BY_ITSELF ? draft_of(schema) : draft;
    c.at = schema;
    uint32_t node = compile(&c);
    finish(&c);
    return c.failed ? GRAM_NONE : node;
}
