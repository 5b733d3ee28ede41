#include "runtime/text/grammar_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NODE_DEPTH (4 * GRAM_MAX_DEPTH)
#define MAX_CALLS 200

struct gram *gram_create(void)
{
    struct gram *g = mem_zero(1, sizeof *g);
    if (!g)
        return NULL;
    g->arena.limit = GRAM_MAX_BYTES;
    g->n_nodes = g->n_rules = 1;
    g->max_calls = MAX_CALLS;
    if (mem_grow(&g->node, &g->cap_nodes, 64, sizeof *g->node, GRAM_MAX_NODES) &&
        mem_grow(&g->rule, &g->cap_rules, 16, sizeof *g->rule, GRAM_MAX_RULES + 1) && map_init(&g->names, 16))
        return g;
    gram_destroy(g);
    return NULL;
}

void gram_destroy(struct gram *g)
{
    if (!g)
        return;
    map_finish(&g->names);
    arena_finish(&g->arena);
    mem_free(g->node);
    mem_free(g->rule);
    mem_free(g);
}

/* ---- errors -------------------------------------------------------------------------------- */

bool gram_failed(const struct gram *g)
{
    return g->err.code != ERR_OK;
}

void gram_place(struct gram *g, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(g->place, sizeof g->place, fmt, args);
    va_end(args);
    g->place[utf8_complete(g->place, strlen(g->place))] = '\0';
}

uint32_t gram_fail(struct gram *g, enum err_code code, const char *fmt, ...)
{
    if (gram_failed(g))
        return GRAM_NONE;
    char text[sizeof g->err.text];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(&g->err, code, "%s", text);
    if (g->place[0])
        err_prefix(&g->err, "%s", g->place);
    return GRAM_NONE;
}

static uint32_t no_room(struct gram *g)
{
    if (g->arena.used > g->arena.limit / 2)
        return gram_fail(g, ERR_TOO_LARGE, "the grammar needs more than %zu MiB", GRAM_MAX_BYTES >> 20);
    return gram_fail(g, ERR_NO_MEMORY, "no memory for the grammar");
}

enum err_code gram_error(struct gram *g, struct err *e)
{
    for (size_t i = 1; i < g->n_rules && !gram_failed(g); i++) {
        const struct rule *r = &g->rule[i];
        if (r->node != GRAM_NONE)
            continue;
        gram_place(g, "%s", r->place);
        gram_fail(g, ERR_INVALID, "the rule \"%.*s\" is used and not defined", (int)r->name.n, r->name.p);
    }
    if (!gram_failed(g) && !g->start)
        gram_fail(g, ERR_INVALID, "the grammar has no start");
    return gram_failed(g) ? err_set(e, g->err.code, "%s", g->err.text) : ERR_OK;
}

/* ---- leaves -------------------------------------------------------------------------------- */

static bool has_node(const struct gram *g, uint32_t node)
{
    return node != GRAM_NONE && node < g->n_nodes;
}

static uint32_t add(struct gram *g, struct node node)
{
    if (gram_failed(g))
        return GRAM_NONE;
    if (node.depth > MAX_NODE_DEPTH)
        return gram_fail(g, ERR_TOO_LARGE, "nested deeper than %d", GRAM_MAX_DEPTH);
    if (g->n_nodes >= GRAM_MAX_NODES)
        return gram_fail(g, ERR_TOO_LARGE, "the grammar has more than %zu parts", GRAM_MAX_NODES);
    if (!mem_grow(&g->node, &g->cap_nodes, g->n_nodes + 1, sizeof *g->node, GRAM_MAX_NODES))
        return no_room(g);
    g->node[g->n_nodes] = node;
    return (uint32_t)g->n_nodes++;
}

static void *keep(struct gram *g, const void *p, size_t bytes)
{
    void *copy = arena_alloc(&g->arena, bytes);
    if (copy && bytes)
        memcpy(copy, p, bytes);
    return copy;
}

static bool keep_text(struct gram *g, struct str *text)
{
    text->p = arena_strndup(&g->arena, text->n ? text->p : "", text->n);
    return text->p != NULL;
}

uint32_t gram_literal(struct gram *g, struct str bytes)
{
    if (gram_failed(g))
        return GRAM_NONE;
    if (bytes.n > GRAM_MAX_SOURCE)
        return gram_fail(g, ERR_TOO_LARGE, "a text of more than %zu bytes", GRAM_MAX_SOURCE);
    size_t bad = utf8_valid(bytes.p, bytes.n);
    if (bad != bytes.n)
        return gram_fail(g, ERR_INVALID, "a text is not UTF-8 at its byte %zu", bad);
    if (!keep_text(g, &bytes))
        return no_room(g);
    return add(g, (struct node){ .kind = NODE_LITERAL, .n = (uint32_t)bytes.n, .u.bytes = bytes.p });
}

static int by_low(const void *a, const void *b)
{
    const struct gram_range *x = a, *y = b;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

/* Puts lo..hi less the surrogates behind the n ranges of `out`. */
static size_t put_range(struct gram_range *out, size_t n, uint32_t lo, uint32_t hi)
{
    if (lo < 0xD800 && lo <= hi)
        out[n++] = (struct gram_range){ lo, hi < 0xD800 ? hi : 0xD7FF };
    if (hi > 0xDFFF && lo <= hi)
        out[n++] = (struct gram_range){ lo > 0xDFFF ? lo : 0xE000, hi };
    return n;
}

uint32_t gram_set(struct gram *g, const struct gram_range *ranges, size_t n, bool negated)
{
    if (gram_failed(g))
        return GRAM_NONE;
    struct gram_range *sorted = arena_alloc(&g->arena, n * sizeof *sorted);
    struct gram_range *out = arena_alloc(&g->arena, (2 * n + 2) * sizeof *out);
    if (!sorted || !out)
        return no_room(g);
    for (size_t i = 0; i < n; i++) {
        if (ranges[i].lo > ranges[i].hi || ranges[i].hi > 0x10FFFF)
            return gram_fail(g, ERR_INVALID, "U+%04X-U+%04X is no range of characters", ranges[i].lo, ranges[i].hi);
        sorted[i] = ranges[i];
    }
    qsort(sorted, n, sizeof *sorted, by_low);
    size_t n_out = 0;
    uint32_t next = 0; /* the first character that no range so far has */
    for (size_t i = 0; i < n; i++) {
        uint32_t lo = sorted[i].lo > next ? sorted[i].lo : next;
        if (sorted[i].hi < lo)
            continue;
        if (!negated)
            n_out = put_range(out, n_out, lo, sorted[i].hi);
        else if (lo > next)
            n_out = put_range(out, n_out, next, lo - 1);
        next = sorted[i].hi + 1;
    }
    if (negated && next <= 0x10FFFF)
        n_out = put_range(out, n_out, next, 0x10FFFF);
    return add(g, (struct node){ .kind = NODE_SET, .n = (uint32_t)n_out, .u.range = out });
}

/* The node of an equal automaton, or GRAM_NONE. */
static uint32_t find_dfa(const struct gram *g, const struct dfa *d)
{
    uint32_t i = g->last_dfa;
    while (i != GRAM_NONE) {
        const struct dfa *x = g->node[i].u.dfa;
        if (x->n_states == d->n_states && x->n_classes == d->n_classes && x->start == d->start &&
            memcmp(x->class_of, d->class_of, sizeof x->class_of) == 0 &&
            memcmp(x->accept, d->accept, x->n_states) == 0 &&
            memcmp(x->next, d->next, (size_t)x->n_states * x->n_classes * sizeof *x->next) == 0)
            break;
        i = g->node[i].n;
    }
    return i;
}

uint32_t gram_dfa(struct gram *g, const struct dfa *d)
{
    if (gram_failed(g))
        return GRAM_NONE;
    uint32_t node = find_dfa(g, d);
    if (node != GRAM_NONE)
        return node;
    struct dfa *copy = arena_alloc(&g->arena, sizeof *copy);
    if (!copy)
        return no_room(g);
    *copy = *d;
    copy->next = keep(g, d->next, (size_t)d->n_states * d->n_classes * sizeof *d->next);
    copy->accept = keep(g, d->accept, d->n_states);
    if (!copy->next || !copy->accept)
        return no_room(g);
    node = add(g, (struct node){ .kind = NODE_DFA, .n = g->last_dfa, .u.dfa = copy });
    if (node != GRAM_NONE)
        g->last_dfa = node;
    return node;
}

static uint32_t add_token(struct gram *g, struct token_leaf t)
{
    if (gram_failed(g))
        return GRAM_NONE;
    if (!t.by_id && t.text.n == 0)
        return gram_fail(g, ERR_INVALID, "a token without text");
    if (!t.by_id && (t.text.n > GRAM_MAX_SOURCE || utf8_valid(t.text.p, t.text.n) != t.text.n))
        return gram_fail(g, ERR_INVALID, "the text of a token is not UTF-8, or too long");
    if (!keep_text(g, &t.text))
        return no_room(g);
    const struct token_leaf *leaf = keep(g, &t, sizeof t);
    return leaf ? add(g, (struct node){ .kind = NODE_TOKEN, .u.token = leaf }) : no_room(g);
}

uint32_t gram_token(struct gram *g, struct str text)
{
    return add_token(g, (struct token_leaf){ .text = text });
}

uint32_t gram_token_exact(struct gram *g, struct str text)
{
    return add_token(g, (struct token_leaf){ .text = text, .exact = true });
}

uint32_t gram_token_id(struct gram *g, uint32_t id)
{
    return add_token(g, (struct token_leaf){ .id = id, .by_id = true, .exact = true });
}

uint32_t gram_token_not(struct gram *g, uint32_t token)
{
    if (gram_failed(g))
        return GRAM_NONE;
    if (!has_node(g, token) || g->node[token].kind != NODE_TOKEN || !g->node[token].u.token->exact)
        return gram_fail(g, ERR_INVALID, "only one token can be negated");
    struct token_leaf t = *g->node[token].u.token;
    t.negated = !t.negated;
    return add_token(g, t);
}

static uint32_t add_text(struct gram *g, const struct gram_marker *markers, size_t n, size_t which, unsigned flags)
{
    if (gram_failed(g))
        return GRAM_NONE;
    struct gram_marker *copy = arena_zero(&g->arena, n, sizeof *copy);
    if (!copy)
        return no_room(g);
    for (size_t i = 0; i < n; i++) {
        copy[i] = markers[i];
        if (!copy[i].text.n || utf8_valid(copy[i].text.p, copy[i].text.n) != copy[i].text.n)
            return gram_fail(g, ERR_INVALID, "a marker is empty or not UTF-8");
        if (!keep_text(g, &copy[i].text))
            return no_room(g);
    }
    const struct text_leaf *leaf = keep(g, &(struct text_leaf){ copy, n, which, flags }, sizeof *leaf);
    return leaf ? add(g, (struct node){ .kind = NODE_TEXT, .u.text = leaf }) : no_room(g);
}

uint32_t gram_text(struct gram *g, const struct gram_marker *markers, size_t n, unsigned flags)
{
    return add_text(g, markers, n, n, flags);
}

uint32_t gram_until(struct gram *g, const struct gram_marker *markers, size_t n, size_t which, unsigned flags)
{
    if (which >= n)
        return gram_fail(g, ERR_INVALID, "free text until a marker that is not there");
    return add_text(g, markers, n, which, flags);
}

/* ---- what holds nodes ---------------------------------------------------------------------- */

static uint32_t add_list(struct gram *g, enum node_kind kind, const uint32_t *nodes, size_t n)
{
    uint32_t depth = 0;
    for (size_t i = 0; i < n && !gram_failed(g); i++) {
        if (!has_node(g, nodes[i]))
            return gram_fail(g, ERR_INTERNAL, "a part is missing");
        if (g->node[nodes[i]].depth > depth)
            depth = g->node[nodes[i]].depth;
    }
    if (gram_failed(g))
        return GRAM_NONE;
    if (n == 1)
        return nodes[0];
    const uint32_t *child = keep(g, nodes, n * sizeof *nodes);
    return child ? add(g, (struct node){ .kind = kind, .n = (uint32_t)n, .depth = depth + 1, .u.child = child })
                 : no_room(g);
}

uint32_t gram_seq(struct gram *g, const uint32_t *nodes, size_t n)
{
    return add_list(g, NODE_SEQ, nodes, n);
}

uint32_t gram_alt(struct gram *g, const uint32_t *nodes, size_t n)
{
    return n ? add_list(g, NODE_ALT, nodes, n) : gram_fail(g, ERR_INVALID, "a choice of nothing");
}

uint32_t gram_repeat(struct gram *g, uint32_t node, uint32_t min, uint32_t max)
{
    if (gram_failed(g))
        return GRAM_NONE;
    if (!has_node(g, node))
        return gram_fail(g, ERR_INTERNAL, "a part is missing");
    if (max < min)
        return gram_fail(g, ERR_INVALID, "a repetition of at least %u and at most %u", min, max);
    if (min > GRAM_MAX_REPEAT || (max != GRAM_MANY && max > GRAM_MAX_REPEAT))
        return gram_fail(g, ERR_TOO_LARGE, "a repetition of more than %d", GRAM_MAX_REPEAT);
    if (min == 1 && max == 1)
        return node;
    struct node r = { .kind = NODE_REPEAT, .depth = g->node[node].depth + 1 };
    r.u.repeat.node = node;
    r.u.repeat.min = min;
    r.u.repeat.max = max;
    return add(g, r);
}

/* ---- rules --------------------------------------------------------------------------------- */

uint32_t gram_rule(struct gram *g, struct str name)
{
    uint32_t rule = 0;
    if (gram_failed(g))
        return GRAM_NONE;
    if (name.n && map_get(&g->names, name, &rule))
        return rule;
    if (g->n_rules > GRAM_MAX_RULES)
        return gram_fail(g, ERR_TOO_LARGE, "more than %d rules", GRAM_MAX_RULES);
    rule = (uint32_t)g->n_rules;
    char *place = arena_strndup(&g->arena, g->place, strlen(g->place));
    if (!place || !keep_text(g, &name) || (name.n && !map_put(&g->names, name, rule)) ||
        !mem_grow(&g->rule, &g->cap_rules, g->n_rules + 1, sizeof *g->rule, GRAM_MAX_RULES + 1))
        return no_room(g);
    g->rule[g->n_rules++] = (struct rule){ .name = name, .place = place };
    return rule;
}

static bool has_rule(struct gram *g, uint32_t rule)
{
    if (!gram_failed(g) && (rule == 0 || rule >= g->n_rules))
        gram_fail(g, ERR_INTERNAL, "there is no such rule");
    return !gram_failed(g);
}

bool gram_defined(const struct gram *g, uint32_t rule)
{
    return rule < g->n_rules && g->rule[rule].node != GRAM_NONE;
}

void gram_define(struct gram *g, uint32_t rule, uint32_t node)
{
    if (!has_rule(g, rule))
        return;
    struct rule *r = &g->rule[rule];
    if (r->node != GRAM_NONE)
        gram_fail(g, ERR_INVALID, "the rule \"%.*s\" is defined twice", (int)r->name.n, r->name.p);
    else if (!has_node(g, node))
        gram_fail(g, ERR_INTERNAL, "a part is missing");
    else
        r->node = node;
}

uint32_t gram_ref(struct gram *g, uint32_t rule)
{
    return has_rule(g, rule) ? add(g, (struct node){ .kind = NODE_REF, .u.rule = rule }) : GRAM_NONE;
}

void gram_start(struct gram *g, uint32_t rule)
{
    if (has_rule(g, rule))
        g->start = rule;
}

void gram_max_calls(struct gram *g, uint32_t n)
{
    if (n < g->max_calls)
        g->max_calls = n;
}
