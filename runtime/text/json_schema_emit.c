/* Shapes -> nodes of the grammar. */
#include <string.h>

#include "runtime/text/json_schema_priv.h"

/* Behind { [ , and before } ]; behind : */
static const char space[] = "( |\\n[ \\t]{0,64})?", gap[] = " ?";
#define ESCAPE                                                                                                         \
    "\\\\([\"\\\\/bfnrt]|u([0-9A-Ca-cE-Fe-f][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2}"                                    \
    "|[Dd][89ABab][0-9A-Fa-f]{2}\\\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}))"
#define CHARACTER "([^\"\\\\\\x00-\\x1F]|" ESCAPE ")"
#define MOST_STATES 20000 /* of members and their number, in an object that counts them */

static uint32_t regex_node(struct schema *c, const char *whole, uint32_t *node)
{
    if (!*node) {
        const struct dfa *d = lang_regex(c, whole);
        *node = d ? gram_dfa(c->g, d) : GRAM_NONE;
    }
    return *node;
}

static uint32_t space_node(struct schema *c)
{
    return regex_node(c, space, &c->node_space);
}

static uint32_t gap_node(struct schema *c)
{
    return regex_node(c, gap, &c->node_gap);
}

static uint32_t literal(struct schema *c, const char *text)
{
    return gram_literal(c->g, str_from(text));
}

/* ---- scalars ---- */

static uint32_t literals_node(struct schema *c, const struct dfa *names)
{
    struct language *l = lang_find(c, names);
    if (l && l->node)
        return l->node;
    struct dfa *d = string_literals(names, &c->err);
    uint32_t node = d ? gram_dfa(c->g, d) : GRAM_NONE;
    if (!d)
        schema_refuse(c, c->err.code, NULL, NULL, "the texts of a string need %s", c->err.text);
    dfa_destroy(d);
    if (l)
        l->node = node;
    return node;
}

static uint32_t string_node(struct schema *c, const struct dfa *d)
{
    const struct language *l = lang_find(c, d);
    if (d == c->all_strings)
        return regex_node(c, "\"" CHARACTER "*\"", &c->node_string);
    if (!l || !l->is_length)
        return literals_node(c, d);
    uint32_t min = (uint32_t)l->min, max = l->max == DFA_NO_MAX ? GRAM_MANY : (uint32_t)l->max;
    uint32_t chars = gram_repeat(c->g, regex_node(c, CHARACTER, &c->node_char), min, max); /* l may have moved */
    return gram_seq_of(c->g, literal(c, "\""), chars, literal(c, "\""));
}

/* null, true, false and numbers are one automaton. */
static uint32_t plain_node(struct schema *c, unsigned simple, const struct dfa *number)
{
    static const char *const names[] = { "null", "true", "false" };
    struct str words[3];
    size_t n = 0;
    for (size_t i = 0; i < 3; i++)
        if (simple & 1u << i)
            words[n++] = str_from(names[i]);
    const struct dfa *d = n ? lang_own(c, dfa_words(words, n, &c->err)) : NULL;
    d = lang_join(c, d, number);
    return d ? gram_dfa(c->g, d) : GRAM_NONE;
}

/* ---- arrays ---- */

static bool has_text(const struct schema *c, goal_id g)
{
    return c->goal[g].has_text;
}

/* , and an item, so many times. */
static uint32_t more_items(struct schema *c, uint32_t item, uint32_t min, uint32_t max)
{
    uint32_t one = gram_seq_of(c->g, literal(c, ","), space_node(c), item);
    return gram_repeat(c->g, one, min, max);
}

/* What stands behind the items of the prefix; n of those. */
static uint32_t rest_node(struct schema *c, const struct array_shape *a, uint32_t n)
{
    uint32_t min = a->min > n ? a->min - n : 0, max = a->max == NO_MAX ? GRAM_MANY : a->max - n;
    if (!max || !has_text(c, a->rest))
        return min ? GRAM_NONE : gram_seq(c->g, NULL, 0);
    uint32_t item = emit_goal(c, a->rest);
    if (n)
        return more_items(c, item, min, max);
    uint32_t others = max == 1 ? gram_seq(c->g, NULL, 0)
                               : more_items(c, item, min ? min - 1 : 0, max == GRAM_MANY ? max : max - 1);
    uint32_t some = gram_seq_of(c->g, item, others, space_node(c));
    return min ? some : gram_alt_of(c->g, gram_seq(c->g, NULL, 0), some);
}

uint32_t emit_array(struct schema *c, const struct array_shape *a)
{
    uint32_t n = 0, empty = gram_seq(c->g, NULL, 0);
    while (n < a->n_prefix && n < a->max && has_text(c, a->prefix[n]))
        n++;
    uint32_t node = n < a->n_prefix ? (a->min > n ? GRAM_NONE : empty) : rest_node(c, a, n);
    if (node && n)
        node = gram_seq_of(c->g, node, space_node(c));
    for (uint32_t i = n; i-- > 0 && !gram_failed(c->g) && !c->failed;) {
        /* Without the items from here on, the array is closed behind the one before. */
        uint32_t closed = i ? space_node(c) : empty, item = emit_goal(c, a->prefix[i]);
        uint32_t from_here = GRAM_NONE;
        if (node)
            from_here = i ? gram_seq_of(c->g, literal(c, ","), space_node(c), item, node)
                          : gram_seq_of(c->g, item, node);
        bool may_end = i >= a->min;
        node = node && may_end ? gram_alt_of(c->g, closed, from_here) : node ? from_here : may_end ? closed : GRAM_NONE;
        if (node && i % 16 == 15) { /* a rule now and then keeps the tree low */
            uint32_t rule = gram_rule(c->g, STR(""));
            gram_define(c->g, rule, node);
            node = gram_ref(c->g, rule);
        }
    }
    return node ? gram_seq_of(c->g, literal(c, "["), space_node(c), node, literal(c, "]")) : GRAM_NONE;
}

/* ---- objects ---- */

/* Members in order. State (i, k): the members before i are decided, k keys are written (or at least `most`). */
struct object_writer {
    struct schema *c;
    const struct object_shape *o;
    const struct member **member; /* those that have a text */
    uint32_t n, min, max, most;
    uint32_t free_key; /* a node for any free key and its value, or GRAM_NONE */
    uint32_t *node, *uses; /* [n + 1][most + 1] */
};

static uint32_t next_count(const struct object_writer *w, uint32_t k)
{
    return k < w->most ? k + 1 : k;
}

static bool may_take(const struct object_writer *w, uint32_t k)
{
    return w->max == NO_MAX || k < w->max;
}

static uint32_t value_node(struct schema *c, uint32_t key, goal_id goal)
{
    return gram_seq_of(c->g, key, literal(c, ":"), gap_node(c), emit_goal(c, goal));
}

static uint32_t member_node(struct schema *c, const struct member *m)
{
    struct buf key;
    buf_init(&key, 6 * m->name.n + 3);
    string_literal(&key, m->name);
    uint32_t node = key.failed ? GRAM_NONE : gram_literal(c->g, buf_str(&key));
    if (key.failed)
        schema_no_memory(c);
    buf_finish(&key);
    return value_node(c, node, m->goal);
}

const struct dfa *free_names(struct schema *c, const struct object_shape *o, uint32_t i)
{
    struct str *names = schema_alloc(c, o->n_members, sizeof *names);
    for (uint32_t k = 0; names && k < o->n_members; k++)
        names[k] = o->member[k].name;
    const struct dfa *taken = names ? lang_own(c, dfa_words(names, o->n_members, &c->err)) : NULL;
    const struct dfa *with_nul = taken ? lang_regex(c, "[^]*\\0[^]*") : NULL; /* which parsers refuse in a key */
    const struct dfa *left = with_nul ? lang_minus(c, o->class[i].names, with_nul) : NULL;
    return c->failed ? NULL : lang_minus(c, left, taken);
}

static uint32_t free_key_node(struct schema *c, const struct object_shape *o)
{
    uint32_t v[SCHEMA_MAX_CLASSES];
    size_t n = 0;
    for (uint32_t i = 0; i < o->n_classes; i++) {
        const struct dfa *names = has_text(c, o->class[i].goal) ? free_names(c, o, i) : NULL;
        if (names)
            v[n++] = value_node(c, literals_node(c, names), o->class[i].goal);
    }
    if (!n)
        return GRAM_NONE;
    uint32_t rule = gram_rule(c->g, STR(""));
    gram_define(c->g, rule, gram_alt(c->g, v, n));
    return gram_ref(c->g, rule);
}

/* Behind the last member: free keys, and the space before }. */
static uint32_t tail_node(const struct object_writer *w, uint32_t k)
{
    struct schema *c = w->c;
    uint32_t min = w->min > k ? w->min - k : 0, max = w->max == NO_MAX ? GRAM_MANY : w->max - k;
    uint32_t empty = gram_seq(c->g, NULL, 0), end = k ? space_node(c) : empty;
    if (!w->free_key || !max)
        return min ? GRAM_NONE : end;
    if (min > 1) { /* two keys could be the same one twice */
        schema_refuse(c, ERR_UNSUPPORTED, w->o->counted, "minProperties", "needs more than one free key");
        return GRAM_NONE;
    }
    if (k)
        return gram_seq_of(c->g, more_items(c, w->free_key, min, max), end);
    uint32_t others = max == 1 ? empty : more_items(c, w->free_key, 0, max == GRAM_MANY ? max : max - 1);
    uint32_t some = gram_seq_of(c->g, w->free_key, others, space_node(c));
    return min ? some : gram_alt_of(c->g, empty, some);
}

static uint32_t state_node(const struct object_writer *w, uint32_t i, uint32_t k)
{
    struct schema *c = w->c;
    const struct member *m = w->member[i];
    const uint32_t *next = w->node + (size_t)(i + 1) * (w->most + 1);
    uint32_t take = may_take(w, k) ? next[next_count(w, k)] : GRAM_NONE, skip = m->required ? GRAM_NONE : next[k];
    if (take && k)
        take = gram_seq_of(c->g, literal(c, ","), space_node(c), member_node(c, m), take);
    else if (take)
        take = gram_seq_of(c->g, member_node(c, m), take);
    uint32_t node = take && skip ? gram_alt_of(c->g, take, skip) : take ? take : skip;
    if (node && (w->uses[(size_t)i * (w->most + 1) + k] > 1 || i % 16 == 15)) {
        uint32_t rule = gram_rule(c->g, STR(""));
        gram_define(c->g, rule, node);
        node = gram_ref(c->g, rule);
    }
    return node;
}

static void count_uses(struct object_writer *w)
{
    uint32_t wide = w->most + 1;
    w->uses[0] = 1;
    for (uint32_t i = 0; i < w->n; i++)
        for (uint32_t k = 0; k < wide; k++) {
            if (!w->uses[(size_t)i * wide + k])
                continue;
            if (may_take(w, k))
                w->uses[(size_t)(i + 1) * wide + next_count(w, k)]++;
            if (!w->member[i]->required)
                w->uses[(size_t)(i + 1) * wide + k]++;
        }
}

/* False: no text, or failed. */
static bool read_members(struct object_writer *w)
{
    const struct object_shape *o = w->o;
    uint32_t required = 0;
    w->member = schema_alloc(w->c, o->n_members, sizeof *w->member);
    for (uint32_t i = 0; w->member && i < o->n_members; i++) {
        if (o->member[i].required && !has_text(w->c, o->member[i].goal))
            return false;
        required += o->member[i].required;
        if (has_text(w->c, o->member[i].goal))
            w->member[w->n++] = &o->member[i];
    }
    w->free_key = w->member ? free_key_node(w->c, o) : GRAM_NONE;
    w->min = o->min <= required ? 0 : o->min;
    w->max = w->free_key || o->max < w->n ? o->max : NO_MAX;
    w->most = w->max != NO_MAX ? w->max : w->min > 1 ? w->min : 1;
    return w->member && required <= o->max;
}

uint32_t emit_object(struct schema *c, const struct object_shape *o)
{
    struct object_writer w = { .c = c, .o = o };
    if (!read_members(&w) || c->failed)
        return GRAM_NONE;
    size_t states = ((size_t)w.n + 1) * ((size_t)w.most + 1);
    if (states > MOST_STATES && w.most > 1) {
        schema_refuse(c, ERR_TOO_LARGE, o->counted, w.max != NO_MAX ? "maxProperties" : "minProperties",
                      "counts too many properties");
        return GRAM_NONE;
    }
    w.node = schema_alloc(c, states, sizeof *w.node);
    w.uses = schema_alloc(c, states, sizeof *w.uses);
    if (!w.node || !w.uses)
        return GRAM_NONE;
    count_uses(&w);
    for (uint32_t i = w.n + 1; i-- > 0;)
        for (uint32_t k = 0; k <= w.most && !c->failed && !gram_failed(c->g); k++) {
            size_t at = (size_t)i * (w.most + 1) + k;
            if (w.uses[at])
                w.node[at] = i < w.n ? state_node(&w, i, k) : tail_node(&w, k);
        }
    return w.node[0] ? gram_seq_of(c->g, literal(c, "{"), space_node(c), w.node[0], literal(c, "}")) : GRAM_NONE;
}

/* ---- goals ---- */

static uint32_t goal_node(struct schema *c, goal_id g)
{
    const struct shape *s = c->goal[g].shape;
    uint32_t *v, plain = plain_node(c, s->simple, c->goal[g].number);
    size_t n = 0, most = 2;
    for (const struct array_shape *a = s->array; a; a = a->next)
        most++;
    for (const struct object_shape *o = s->object; o; o = o->next)
        most++;
    if (!(v = schema_alloc(c, most, sizeof *v)))
        return GRAM_NONE;
    if (plain)
        v[n++] = plain;
    if (s->string)
        v[n++] = string_node(c, s->string);
    for (const struct array_shape *a = s->array; a && !c->failed; a = a->next)
        if ((v[n] = emit_array(c, a)))
            n++;
    for (const struct object_shape *o = s->object; o && !c->failed; o = o->next)
        if ((v[n] = emit_object(c, o)))
            n++;
    return n ? gram_alt(c->g, v, n) : GRAM_NONE;
}

uint32_t emit_goal(struct schema *c, goal_id g)
{
    struct goal *goal = &c->goal[g];
    if (goal->rule)
        return gram_ref(c->g, goal->rule);
    if (!goal->node && !goal->shape->array && !goal->shape->object)
        goal->node = goal_node(c, g);
    if (goal->node)
        return goal->node;
    goal->rule = gram_rule(c->g, STR(""));
    return goal_push(c, g) ? gram_ref(c->g, goal->rule) : GRAM_NONE;
}

void emit_rule(struct schema *c, goal_id g)
{
    uint32_t node = goal_node(c, g);
    if (!c->failed)
        gram_define(c->g, c->goal[g].rule, node);
}
