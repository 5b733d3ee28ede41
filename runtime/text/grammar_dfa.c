/* Subset construction (Rabin & Scott 1959), part by part, into one table of states. */
#include "runtime/text/grammar_auto.h"

#include <stdlib.h>
#include <string.h>

/* ---- the table ----------------------------------------------------------------------------- */

void automaton_finish(struct automaton *a)
{
    mem_free(a->state);
    mem_free(a->arc);
    mem_free(a->call);
    *a = (struct automaton){ 0 };
}

uint32_t automaton_add_state(struct automaton *a, uint32_t rule, bool final)
{
    if (!mem_grow(&a->state, &a->cap_states, a->n_states + 1, sizeof *a->state, AUTO_MAX_STATES))
        return AUTO_FAR;
    a->state[a->n_states] = (struct state){
        .arc = (uint32_t)a->n_arcs, .call = (uint32_t)a->n_calls, .rule = rule, .final = final
    };
    return (uint32_t)a->n_states++;
}

bool automaton_add_arc(struct automaton *a, uint32_t lo, uint32_t hi, uint32_t to)
{
    struct state *s = &a->state[a->n_states - 1];
    struct arc *last = s->n_arcs ? &a->arc[a->n_arcs - 1] : NULL;
    if (last && last->to == to && last->hi + 1 == lo && lo != SYM_TOKEN) {
        last->hi = hi;
        return true;
    }
    if (!mem_grow(&a->arc, &a->cap_arcs, a->n_arcs + 1, sizeof *a->arc, AUTO_MAX_ARCS))
        return false;
    a->arc[a->n_arcs++] = (struct arc){ lo, hi, to };
    s->n_arcs++;
    s->n_byte_arcs += hi < SYM_TOKEN;
    return true;
}

static bool add_call(struct automaton *a, uint32_t part, uint32_t to)
{
    if (!mem_grow(&a->call, &a->cap_calls, a->n_calls + 1, sizeof *a->call, AUTO_MAX_ARCS))
        return false;
    a->call[a->n_calls++] = (struct call){ part, to };
    a->state[a->n_states - 1].n_calls++;
    return true;
}

/* ---- which parts hold the empty sentence --------------------------------------------------- */

/* States of the nfa that lead from a part's start to its end without a symbol, given what is known so far. */
static bool reaches_end(const struct parts *b, const struct part *p, uint32_t *stack, uint32_t *seen, uint32_t epoch)
{
    size_t n = 0;
    stack[n++] = p->start;
    seen[p->start] = epoch;
    while (n) {
        uint32_t s = stack[--n];
        if (s == p->end)
            return true;
        for (uint32_t i = b->head[s]; i; i = b->arc[i].next) {
            const struct part_arc *arc = &b->arc[i];
            bool free_way = arc->lo == ARC_FREE || (arc->lo == ARC_CALL && b->part[arc->hi].nullable);
            if (free_way && seen[arc->to] != epoch) {
                seen[arc->to] = epoch;
                stack[n++] = arc->to;
            }
        }
    }
    return false;
}

static void find_nullable(struct parts *b, uint32_t *stack, uint32_t *seen)
{
    uint32_t epoch = 0;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = b->n_parts; i-- > 0;) {
            struct part *p = &b->part[i];
            if (p->kind == PART_NODE && !p->nullable && reaches_end(b, p, stack, seen, ++epoch))
                p->nullable = changed = true;
        }
    }
}

/* ---- subsets ------------------------------------------------------------------------------- */

struct edge {
    uint32_t lo, hi, to;
};

struct subsets {
    struct parts *b;
    struct automaton *a;
    uint32_t *stack, *seen, epoch; /* [nfa states] */
    uint32_t *now;                 /* [nfa states] the set under work */
    size_t n_now;
    struct edge *edge;             /* arcs that leave the set */
    size_t n_edges, cap_edges;
    uint32_t *cut;                 /* symbols where an edge begins or is over */
    size_t n_cuts, cap_cuts;
    struct { uint32_t first, n; } *set;
    size_t n_sets, cap_sets;
    uint32_t *pool;                /* members of all sets of this part */
    size_t n_pool, cap_pool;
    uint32_t *slot;                /* sets by hash; UINT32_MAX: free */
    size_t mask;
    size_t work;
};

static enum err_code too_large(const struct subsets *x)
{
    if (x->work > AUTO_MAX_WORK || x->a->n_states + x->n_sets + 1 >= AUTO_MAX_STATES ||
        x->a->n_arcs + 1 >= AUTO_MAX_ARCS || x->n_pool + x->n_now >= AUTO_MAX_WORK)
        return parts_fail(x->b, x->b->place, ERR_TOO_LARGE, "the grammar is too large or too ambiguous");
    return err_no_memory(x->b->e, x->n_pool * sizeof *x->pool, "a grammar");
}

static void add_closed(struct subsets *x, uint32_t state)
{
    const struct parts *b = x->b;
    size_t n = 0;
    if (x->seen[state] == x->epoch)
        return;
    x->seen[state] = x->epoch;
    x->stack[n++] = state;
    while (n) {
        uint32_t s = x->stack[--n];
        x->now[x->n_now++] = s;
        for (uint32_t i = b->head[s]; i; i = b->arc[i].next) {
            const struct part_arc *arc = &b->arc[i];
            x->work++;
            bool free_way = arc->lo == ARC_FREE || (arc->lo == ARC_CALL && b->part[arc->hi].nullable);
            if (free_way && x->seen[arc->to] != x->epoch) {
                x->seen[arc->to] = x->epoch;
                x->stack[n++] = arc->to;
            }
        }
    }
}

static int by_number(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Drops members that nothing leaves but free ways: they tell no two sets apart. */
static void keep_telling(struct subsets *x, uint32_t end)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n_now; i++) {
        bool tells = x->now[i] == end;
        for (uint32_t j = x->b->head[x->now[i]]; j && !tells; j = x->b->arc[j].next)
            tells = x->b->arc[j].lo != ARC_FREE;
        if (tells)
            x->now[n++] = x->now[i];
    }
    x->n_now = n;
}

static bool rehash(struct subsets *x)
{
    size_t slots = x->slot ? 2 * (x->mask + 1) : 64;
    uint32_t *slot = mem_alloc(slots * sizeof *slot);
    if (!slot)
        return false;
    memset(slot, 0xFF, slots * sizeof *slot);
    mem_free(x->slot);
    x->slot = slot;
    x->mask = slots - 1;
    for (uint32_t i = 0; i < x->n_sets; i++) {
        struct str key = { (const char *)(x->pool + x->set[i].first), x->set[i].n * sizeof *x->pool };
        size_t h = map_hash(key) & x->mask;
        while (slot[h] != UINT32_MAX)
            h = (h + 1) & x->mask;
        slot[h] = i;
    }
    return true;
}

/* The number of the set in `now`, in *out; a new one is put behind the others. */
static enum err_code find_set(struct subsets *x, uint32_t end, uint32_t *out)
{
    keep_telling(x, end);
    qsort(x->now, x->n_now, sizeof *x->now, by_number);
    x->work += 4 * x->n_now + 1; /* sorting */
    if (x->work > AUTO_MAX_WORK || x->a->n_states + x->n_sets >= AUTO_MAX_STATES || (2 * (x->n_sets + 1) > x->mask && !rehash(x)))
        return too_large(x);
    const size_t bytes = x->n_now * sizeof *x->now;
    size_t h = map_hash((struct str){ (const char *)x->now, bytes }) & x->mask;
    for (; x->slot[h] != UINT32_MAX; h = (h + 1) & x->mask) {
        uint32_t i = x->slot[h];
        if (x->set[i].n == x->n_now && memcmp(x->pool + x->set[i].first, x->now, bytes) == 0) {
            *out = i;
            return ERR_OK;
        }
    }
    if (!mem_grow(&x->set, &x->cap_sets, x->n_sets + 1, sizeof *x->set, AUTO_MAX_STATES) ||
        !mem_grow(&x->pool, &x->cap_pool, x->n_pool + x->n_now, sizeof *x->pool, AUTO_MAX_WORK))
        return too_large(x);
    if (bytes)
        memcpy(x->pool + x->n_pool, x->now, bytes);
    x->set[x->n_sets].first = (uint32_t)x->n_pool;
    x->set[x->n_sets].n = (uint32_t)x->n_now;
    x->n_pool += x->n_now;
    x->slot[h] = *out = (uint32_t)x->n_sets++;
    return ERR_OK;
}

/* The set of what the edges that fit lead to. Calls have lo ARC_CALL and the part in hi. */
static enum err_code follow(struct subsets *x, uint32_t lo, uint32_t hi, uint32_t end, bool *any, uint32_t *set)
{
    *any = false;
    x->n_now = 0;
    x->epoch++;
    for (size_t i = 0; i < x->n_edges; i++) {
        const struct edge *g = &x->edge[i];
        if (lo == ARC_CALL ? g->lo == ARC_CALL && g->hi == hi : g->lo <= lo && hi <= g->hi) {
            add_closed(x, g->to);
            *any = true;
        }
    }
    x->work += x->n_edges;
    return *any ? find_set(x, end, set) : ERR_OK;
}

static bool collect_edges(struct subsets *x, uint32_t set)
{
    x->n_edges = x->n_cuts = 0;
    for (uint32_t i = 0; i < x->set[set].n; i++)
        for (uint32_t j = x->b->head[x->pool[x->set[set].first + i]]; j; j = x->b->arc[j].next) {
            const struct part_arc *arc = &x->b->arc[j];
            if (arc->lo == ARC_FREE)
                continue;
            if (!mem_grow(&x->edge, &x->cap_edges, x->n_edges + 1, sizeof *x->edge, AUTO_MAX_NFA) ||
                !mem_grow(&x->cut, &x->cap_cuts, x->n_cuts + 2, sizeof *x->cut, 2 * AUTO_MAX_NFA))
                return false;
            x->edge[x->n_edges++] = (struct edge){ arc->lo, arc->hi, arc->to };
            x->cut[x->n_cuts++] = arc->lo == ARC_CALL ? arc->hi : arc->lo;
            if (arc->lo != ARC_CALL)
                x->cut[x->n_cuts++] = arc->hi + 1;
        }
    return true;
}

/* Splits the list of edges: those of symbols stay, those of calls go to the other end. Gives how many stay. */
static size_t calls_last(struct subsets *x)
{
    size_t n = 0;
    for (size_t i = 0; i < x->n_edges; i++)
        if (x->edge[i].lo != ARC_CALL) {
            struct edge t = x->edge[n];
            x->edge[n++] = x->edge[i];
            x->edge[i] = t;
        }
    return n;
}

static size_t sort_cuts(struct subsets *x)
{
    size_t n = 0;
    if (x->n_cuts)
        qsort(x->cut, x->n_cuts, sizeof *x->cut, by_number);
    for (size_t i = 0; i < x->n_cuts; i++)
        if (n == 0 || x->cut[n - 1] != x->cut[i])
            x->cut[n++] = x->cut[i];
    return n;
}

/* The arcs of a set's state, which was added last; states of the part begin at `first`. */
static enum err_code make_arcs(struct subsets *x, uint32_t set, uint32_t first, uint32_t end)
{
    if (!collect_edges(x, set))
        return too_large(x);
    enum err_code code = ERR_OK;
    const size_t n_edges = x->n_edges, n_symbols = calls_last(x);
    bool any = false;
    uint32_t to = 0;
    x->n_cuts = 0;
    for (size_t i = 0; i < n_symbols; i++) {
        x->cut[x->n_cuts++] = x->edge[i].lo;
        x->cut[x->n_cuts++] = x->edge[i].hi + 1;
    }
    x->n_edges = n_symbols;
    size_t n = sort_cuts(x);
    for (size_t i = 0; !code && i + 1 < n; i++) {
        code = follow(x, x->cut[i], x->cut[i + 1] - 1, end, &any, &to);
        if (!code && any && !automaton_add_arc(x->a, x->cut[i], x->cut[i + 1] - 1, first + to))
            code = too_large(x);
    }
    x->n_cuts = 0;
    x->n_edges = n_edges;
    for (size_t i = n_symbols; i < n_edges; i++)
        x->cut[x->n_cuts++] = x->edge[i].hi;
    n = sort_cuts(x);
    for (size_t i = 0; !code && i < n; i++) {
        code = follow(x, ARC_CALL, x->cut[i], end, &any, &to);
        if (!code && !add_call(x->a, x->cut[i], first + to))
            code = too_large(x);
    }
    return code;
}

static enum err_code make_part(struct subsets *x, uint32_t index)
{
    const struct part p = x->b->part[index];
    const uint32_t first = (uint32_t)x->a->n_states;
    uint32_t set;
    x->n_sets = x->n_pool = x->n_now = 0;
    mem_free(x->slot);
    x->slot = NULL;
    x->mask = 0;
    x->epoch++;
    add_closed(x, p.start);
    enum err_code code = find_set(x, p.end, &set);
    for (uint32_t i = 0; !code && i < x->n_sets; i++) {
        bool final = false;
        for (uint32_t j = 0; j < x->set[i].n; j++)
            final |= x->pool[x->set[i].first + j] == p.end;
        if (automaton_add_state(x->a, index, final) == AUTO_FAR)
            code = too_large(x);
        else
            code = make_arcs(x, i, first, p.end);
    }
    x->b->part[index].first = first;
    return code;
}

/* An automaton of bytes goes into the table as it is. */
static enum err_code copy_dfa(struct subsets *x, uint32_t index)
{
    const struct dfa *d = x->b->g->node[x->b->part[index].node].u.dfa;
    const uint32_t first = (uint32_t)x->a->n_states;
    for (uint32_t s = 0; s < d->n_states; s++) {
        if (automaton_add_state(x->a, index, d->accept[s]) == AUTO_FAR)
            return too_large(x);
        for (uint32_t c = 0; s != DFA_DEAD && c < 256; c++) {
            uint32_t to = dfa_step(d, s, (uint8_t)c);
            if (to != DFA_DEAD && !automaton_add_arc(x->a, c, c, first + to))
                return too_large(x);
        }
    }
    x->b->part[index].first = first + d->start;
    x->b->part[index].nullable = d->accept[d->start];
    return ERR_OK;
}

/* What a call begins with: a twin of the part's first state that is not final. Then calls know states. */
static enum err_code make_entries(struct parts *b, struct automaton *a)
{
    for (uint32_t i = 0; i < b->n_parts; i++) {
        struct part *p = &b->part[i];
        const struct state first = a->state[p->first];
        p->entry = p->first;
        if (!first.final)
            continue;
        p->entry = automaton_add_state(a, i, false);
        if (p->entry == AUTO_FAR)
            return parts_fail(b, 0, ERR_TOO_LARGE, "the grammar is too large");
        a->state[p->entry] = first;
        a->state[p->entry].final = false;
    }
    for (size_t i = 0; i < a->n_calls; i++)
        a->call[i].entry = b->part[a->call[i].entry].entry;
    a->start = b->part[0].first;
    return ERR_OK;
}

/* Leaves say whether they may be empty before the rules that use them are looked at. */
static enum err_code make_leaves(struct subsets *x)
{
    enum err_code code = ERR_OK;
    for (uint32_t i = 0; !code && i < x->b->n_parts; i++) {
        if (x->b->part[i].kind == PART_DFA)
            code = copy_dfa(x, i);
        else if (x->b->part[i].kind == PART_TEXT)
            code = text_automaton(x->b, i, x->a);
    }
    return code;
}

enum err_code automaton_build(struct parts *b, struct automaton *a)
{
    struct subsets x = { .b = b, .a = a };
    const size_t n = b->n_states + 1;
    enum err_code code = ERR_OK;
    x.stack = mem_alloc(n * sizeof *x.stack);
    x.seen = mem_zero(n, sizeof *x.seen);
    x.now = mem_alloc(n * sizeof *x.now);
    if (!x.stack || !x.seen || !x.now || automaton_add_state(a, 0, false) != STATE_END)
        code = err_no_memory(b->e, n * sizeof *x.now, "a grammar");
    if (!code)
        code = make_leaves(&x);
    if (!code)
        find_nullable(b, x.stack, x.seen);
    if (!code)
        memset(x.seen, 0, n * sizeof *x.seen);
    for (uint32_t i = 0; !code && i < b->n_parts; i++) {
        if (b->part[i].rule)
            b->place = b->part[i].rule;
        if (b->part[i].kind == PART_NODE)
            code = make_part(&x, i);
    }
    if (!code)
        code = make_entries(b, a);
    mem_free(x.stack);
    mem_free(x.seen);
    mem_free(x.now);
    mem_free(x.edge);
    mem_free(x.cut);
    mem_free(x.set);
    mem_free(x.pool);
    mem_free(x.slot);
    return code;
}
