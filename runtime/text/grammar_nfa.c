/* Tree -> nondeterministic automata (Thompson 1968), one for each part. */
#include "runtime/text/grammar_auto.h"

#include <string.h>

#define NO_PART UINT32_MAX
#define SHARE_COPIES 4    /* repeated more often than that, */
#define SHARE_STATES 4096 /* and larger than that together: the body becomes a part of its own */

static enum err_code no_room(struct parts *b)
{
    if (b->n_states + 1 >= AUTO_MAX_NFA || b->n_arcs + 1 >= AUTO_MAX_NFA)
        return parts_fail(b, b->place, ERR_TOO_LARGE, "the grammar is too large");
    return err_no_memory(b->e, b->n_states * sizeof *b->head, "a grammar");
}

enum err_code parts_fail(const struct parts *b, uint32_t rule, enum err_code code, const char *what)
{
    const struct str name = rule ? b->g->rule[rule].name : STR("");
    if (!name.n)
        return err_set(b->e, code, "%s", what);
    return err_set(b->e, code, "in the rule \"%.*s\": %s", (int)(name.n < 64 ? name.n : 64), name.p, what);
}

static enum err_code add_state(struct parts *b, uint32_t *out)
{
    if (!mem_grow(&b->head, &b->cap_states, b->n_states + 1, sizeof *b->head, AUTO_MAX_NFA))
        return no_room(b);
    b->head[b->n_states] = 0;
    *out = (uint32_t)b->n_states++;
    return ERR_OK;
}

static enum err_code add_arc(struct parts *b, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    if (!mem_grow(&b->arc, &b->cap_arcs, b->n_arcs + 1, sizeof *b->arc, AUTO_MAX_NFA))
        return no_room(b);
    b->arc[b->n_arcs] = (struct part_arc){ lo, hi, to, b->head[from] };
    b->head[from] = (uint32_t)b->n_arcs++;
    return ERR_OK;
}

static enum err_code add_eps(struct parts *b, uint32_t from, uint32_t to)
{
    return add_arc(b, from, ARC_FREE, 0, to);
}

static enum err_code add_part(struct parts *b, struct part p, uint32_t *out)
{
    if (!mem_grow(&b->part, &b->cap_parts, b->n_parts + 1, sizeof *b->part, AUTO_MAX_NFA))
        return no_room(b);
    b->part[b->n_parts] = p;
    *out = (uint32_t)b->n_parts++;
    return ERR_OK;
}

static enum err_code add_call(struct parts *b, uint32_t from, uint32_t part, uint32_t *to)
{
    enum err_code code = add_state(b, to);
    return code ? code : add_arc(b, from, ARC_CALL, part, *to);
}

/* ---- leaves -------------------------------------------------------------------------------- */

static enum err_code emit_bytes(struct parts *b, struct str bytes, uint32_t from, uint32_t *to)
{
    enum err_code code = ERR_OK;
    *to = from;
    for (size_t i = 0; !code && i < bytes.n; i++) {
        const uint8_t c = (uint8_t)bytes.p[i];
        from = *to;
        code = add_state(b, to);
        if (!code)
            code = add_arc(b, from, c, c, *to);
    }
    return code;
}

/* The sequences of n bytes, each between those of lo and hi. */
static enum err_code emit_block(struct parts *b, const char *lo, const char *hi, size_t n, uint32_t from, uint32_t to)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < n; i++) {
        uint32_t next = to;
        if (i + 1 < n)
            code = add_state(b, &next);
        if (!code)
            code = add_arc(b, from, (uint8_t)lo[i], (uint8_t)hi[i], next);
        from = next;
    }
    return code;
}

/* Characters lo..hi as UTF-8. Cuts the range at lengths and where a byte in the middle turns over, so that each piece is
 * one range for each byte. */
static enum err_code emit_range(struct parts *b, uint32_t lo, uint32_t hi, uint32_t from, uint32_t to)
{
    static const uint32_t last[] = { 0x7F, 0x7FF, 0xFFFF, 0x10FFFF };
    enum err_code code = ERR_OK;
    while (!code && lo <= hi) {
        uint32_t top = hi;
        for (size_t i = 0; i < 4; i++)
            if (lo <= last[i]) {
                top = top < last[i] ? top : last[i];
                break;
            }
        for (unsigned bits = 6; lo > 0x7F && bits <= 18; bits += 6) {
            const uint32_t block = (1u << bits) - 1;
            if ((lo & ~block) == (top & ~block))
                break; /* they differ in these bits alone */
            if (lo & block) {
                top = lo | block;
                break;
            }
            if ((top & block) != block)
                top = (top & ~block) - 1;
        }
        char first[4], end[4];
        const size_t n = utf8_put(lo, first);
        (void)utf8_put(top, end);
        code = emit_block(b, first, end, n, from, to);
        lo = top + 1;
    }
    return code;
}

static enum err_code emit_set(struct parts *b, const struct node *n, uint32_t from, uint32_t *to)
{
    enum err_code code = add_state(b, to);
    for (uint32_t i = 0; !code && i < n->n; i++)
        code = emit_range(b, n->u.range[i].lo, n->u.range[i].hi, from, *to);
    return code;
}

enum err_code parts_find_token(struct parts *b, const struct token_leaf *leaf, uint32_t *id)
{
    const size_t n = b->v->n_tokens;
    *id = UINT32_MAX;
    if (leaf->by_id) {
        if (leaf->id >= n)
            return err_set(b->e, ERR_INVALID, "the vocabulary of %zu has no token %u", n, leaf->id);
        *id = leaf->id;
        return ERR_OK;
    }
    int32_t found = tokenizer_find(b->v->t, leaf->text);
    enum token_type type = found < 0 ? TOKEN_NORMAL : tokenizer_type(b->v->t, found);
    if (found >= 0 && (leaf->exact || type == TOKEN_CONTROL || type == TOKEN_USER_DEFINED))
        *id = (uint32_t)found;
    else if (leaf->exact)
        return err_set(b->e, ERR_INVALID, "the vocabulary has no token \"%.*s\"",
                       (int)(leaf->text.n < 64 ? leaf->text.n : 64), leaf->text.p);
    return ERR_OK;
}

/* Every token but `id` and those that end a generation: the runs between these, which v->eog lists in order. */
static enum err_code emit_other_tokens(struct parts *b, uint32_t id, uint32_t from, uint32_t to)
{
    const struct grammar_vocab *v = b->v;
    enum err_code code = ERR_OK;
    uint32_t lo = 0, next;
    bool passed = false; /* id */
    for (size_t i = 0; !code && lo < v->n_tokens; lo = next + 1) {
        next = i < v->n_eog ? v->eog[i] : (uint32_t)v->n_tokens;
        if (!passed && id <= next) {
            passed = true;
            i += id == next && i < v->n_eog;
            next = id;
        } else if (i < v->n_eog) {
            i++;
        }
        if (next > lo)
            code = add_arc(b, from, SYM_TOKEN + lo, SYM_TOKEN + next - 1, to);
    }
    return code;
}

static enum err_code emit_token(struct parts *b, const struct token_leaf *leaf, uint32_t from, uint32_t *to)
{
    uint32_t id;
    enum err_code code = parts_find_token(b, leaf, &id);
    if (code)
        return code;
    if (id == UINT32_MAX)
        return emit_bytes(b, leaf->text, from, to);
    code = add_state(b, to);
    if (code)
        return code;
    return leaf->negated ? emit_other_tokens(b, id, from, *to)
                         : add_arc(b, from, SYM_TOKEN + id, SYM_TOKEN + id, *to);
}

/* ---- what holds nodes ---------------------------------------------------------------------- */

static enum err_code emit(struct parts *b, uint32_t node, uint32_t from, uint32_t *to);

/* The node as a part of its own. */
static enum err_code emit_shared(struct parts *b, uint32_t node, enum part_kind kind, uint32_t from, uint32_t *to)
{
    enum err_code code = ERR_OK;
    if (b->part_of_node[node] == NO_PART)
        code = add_part(b, (struct part){ .kind = kind, .node = node }, &b->part_of_node[node]);
    return code ? code : add_call(b, from, b->part_of_node[node], to);
}

static enum err_code emit_ref(struct parts *b, uint32_t rule, uint32_t from, uint32_t *to)
{
    enum err_code code = ERR_OK;
    if (b->part_of_rule[rule] == NO_PART)
        code = add_part(b, (struct part){ .kind = PART_NODE, .node = b->g->rule[rule].node, .rule = rule },
                        &b->part_of_rule[rule]);
    return code ? code : add_call(b, from, b->part_of_rule[rule], to);
}

static enum err_code emit_alt(struct parts *b, const struct node *n, uint32_t from, uint32_t *to)
{
    enum err_code code = add_state(b, to);
    for (uint32_t i = 0; !code && i < n->n; i++) {
        uint32_t begin = 0, end = 0;
        code = add_state(b, &begin);
        if (!code)
            code = add_eps(b, from, begin);
        if (!code)
            code = emit(b, n->u.child[i], begin, &end);
        if (!code)
            code = add_eps(b, end, *to);
    }
    return code;
}

static enum err_code emit_many(struct parts *b, uint32_t node, uint32_t from, uint32_t *to)
{
    uint32_t begin = 0, end = 0;
    enum err_code code = add_state(b, &begin);
    if (!code)
        code = add_state(b, to);
    if (!code)
        code = add_eps(b, from, begin);
    if (!code)
        code = emit(b, node, begin, &end);
    if (!code)
        code = add_eps(b, end, begin);
    return code ? code : add_eps(b, begin, *to);
}

/* Copies of the body, one behind the other; from the min-th on, each can be the last. */
static enum err_code emit_repeat(struct parts *b, uint32_t node, uint32_t min, uint32_t max, uint32_t from,
                                 uint32_t *to)
{
    const uint32_t copies = max == GRAM_MANY ? min : max;
    const size_t before = b->n_states;
    bool share = false;
    uint32_t at = 0, end = 0;
    enum err_code code = add_state(b, &at);
    if (!code)
        code = add_eps(b, from, at);
    if (!code && max != GRAM_MANY)
        code = add_state(b, &end);
    for (uint32_t i = 0; !code && i < copies; i++) {
        if (i >= min)
            code = add_eps(b, at, end);
        uint32_t next = at;
        if (!code)
            code = share ? emit_shared(b, node, PART_NODE, at, &next) : emit(b, node, at, &next);
        at = next;
        if (i == 0)
            share = copies > SHARE_COPIES && (b->n_states - before) * copies > SHARE_STATES &&
                    b->n_states - before > 8;
    }
    if (!code && max == GRAM_MANY)
        return emit_many(b, node, at, to);
    *to = end;
    return code ? code : add_eps(b, at, end);
}

static enum err_code emit(struct parts *b, uint32_t node, uint32_t from, uint32_t *to)
{
    const struct node *n = &b->g->node[node];
    enum err_code code = ERR_OK;
    switch (n->kind) {
    case NODE_LITERAL:
        return emit_bytes(b, (struct str){ n->u.bytes, n->n }, from, to);
    case NODE_SET:
        return emit_set(b, n, from, to);
    case NODE_DFA:
        return emit_shared(b, node, PART_DFA, from, to);
    case NODE_TOKEN:
        return emit_token(b, n->u.token, from, to);
    case NODE_TEXT:
        return emit_shared(b, node, PART_TEXT, from, to);
    case NODE_SEQ:
        for (uint32_t i = 0; !code && i < n->n; i++, from = *to)
            code = emit(b, n->u.child[i], from, to);
        if (n->n == 0)
            *to = from;
        return code;
    case NODE_ALT:
        return emit_alt(b, n, from, to);
    case NODE_REPEAT:
        return emit_repeat(b, n->u.repeat.node, n->u.repeat.min, n->u.repeat.max, from, to);
    case NODE_REF:
        return emit_ref(b, n->u.rule, from, to);
    case NODE_NONE:
        break;
    }
    return err_set(b->e, ERR_INTERNAL, "a node of no kind");
}

/* ---- parts --------------------------------------------------------------------------------- */

enum err_code parts_create(struct parts *b, const struct gram *g, const struct grammar_vocab *v, struct err *e)
{
    *b = (struct parts){ .g = g, .v = v, .e = e, .n_arcs = 1 };
    b->part_of_rule = mem_alloc(g->n_rules * sizeof *b->part_of_rule);
    b->part_of_node = mem_alloc(g->n_nodes * sizeof *b->part_of_node);
    if (!b->part_of_rule || !b->part_of_node ||
        !mem_grow(&b->arc, &b->cap_arcs, 64, sizeof *b->arc, AUTO_MAX_NFA))
        return err_no_memory(e, g->n_nodes * sizeof *b->part_of_node, "a grammar");
    memset(b->part_of_rule, 0xFF, g->n_rules * sizeof *b->part_of_rule);
    memset(b->part_of_node, 0xFF, g->n_nodes * sizeof *b->part_of_node);
    enum err_code code = add_part(b, (struct part){ .kind = PART_NODE, .node = g->rule[g->start].node, .rule = g->start },
                                  &b->part_of_rule[g->start]);
    for (uint32_t i = 0; !code && i < b->n_parts; i++) {
        if (b->part[i].kind != PART_NODE)
            continue;
        uint32_t start = 0, end = 0;
        if (b->part[i].rule)
            b->place = b->part[i].rule;
        code = add_state(b, &start);
        if (!code)
            code = emit(b, b->part[i].node, start, &end);
        b->part[i].start = start;
        b->part[i].end = end;
    }
    return code;
}

void parts_finish(struct parts *b)
{
    mem_free(b->head);
    mem_free(b->arc);
    mem_free(b->part);
    mem_free(b->part_of_rule);
    mem_free(b->part_of_node);
}
