/* The shortest way to end from every state (Knuth 1977, Dijkstra's algorithm for grammars), in symbols; then how many
 * tokens spell it. */
#include "runtime/text/grammar_auto.h"

#include <string.h>

/* ---- a heap of states by cost -------------------------------------------------------------- */

struct heap_entry {
    uint32_t cost, state;
};

struct cost {
    const struct parts *b;
    struct automaton *a;
    struct heap_entry *heap;
    size_t n_heap, cap_heap;
    uint32_t *arc_head, *arc_next;     /* arcs by the state they lead to: index + 1, 0: none */
    uint32_t *call_head, *call_next;   /* calls by entry (2 * index + 1) and by return (2 * index + 2) */
    uint32_t *arc_from, *call_from;
    uint32_t *order;                   /* states by cost */
    size_t n_order;
    bool *done;
};

static bool push(struct cost *x, uint32_t cost, uint32_t state)
{
    if (!mem_grow(&x->heap, &x->cap_heap, x->n_heap + 1, sizeof *x->heap, SIZE_MAX / 16))
        return false;
    size_t i = x->n_heap++;
    for (; i && x->heap[(i - 1) / 2].cost > cost; i = (i - 1) / 2)
        x->heap[i] = x->heap[(i - 1) / 2];
    x->heap[i] = (struct heap_entry){ cost, state };
    return true;
}

static struct heap_entry pop(struct cost *x)
{
    const struct heap_entry top = x->heap[0], last = x->heap[--x->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < x->n_heap; i = child) {
        if (child + 1 < x->n_heap && x->heap[child + 1].cost < x->heap[child].cost)
            child++;
        if (x->heap[child].cost >= last.cost)
            break;
        x->heap[i] = x->heap[child];
    }
    x->heap[i] = last;
    return top;
}

/* ---- symbols ------------------------------------------------------------------------------- */

/* The first symbol of an arc that some token can make, or AUTO_FAR. */
static uint32_t usable(const struct cost *x, const struct arc *arc)
{
    for (uint32_t s = arc->lo; s <= arc->hi; s++)
        if (s >= SYM_TOKEN || x->b->v->has_byte[s])
            return s;
    return AUTO_FAR;
}

static void link_edges(struct cost *x)
{
    const struct automaton *a = x->a;
    for (uint32_t s = 0; s < a->n_states; s++) {
        for (uint32_t i = a->state[s].arc; i < a->state[s].arc + a->state[s].n_arcs; i++) {
            x->arc_next[i] = x->arc_head[a->arc[i].to];
            x->arc_head[a->arc[i].to] = i + 1;
            x->arc_from[i] = s;
        }
        for (uint32_t i = a->state[s].call; i < a->state[s].call + a->state[s].n_calls; i++) {
            const struct call *c = &a->call[i];
            x->call_next[2 * i] = x->call_head[c->entry];
            x->call_head[c->entry] = 2 * i + 1;
            x->call_next[2 * i + 1] = x->call_head[c->to];
            x->call_head[c->to] = 2 * i + 2;
            x->call_from[i] = s;
        }
    }
}

static bool offer(struct cost *x, uint32_t state, uint32_t cost, uint32_t best, bool is_call)
{
    struct state *s = &x->a->state[state];
    if (cost >= s->symbols || cost >= AUTO_FAR)
        return true;
    s->symbols = cost;
    s->best = best;
    s->best_is_call = is_call;
    return push(x, cost, state);
}

/* What leads to a state whose cost is known gets an offer. */
static bool offer_before(struct cost *x, uint32_t state)
{
    const struct automaton *a = x->a;
    const uint32_t cost = a->state[state].symbols;
    bool ok = true;
    for (uint32_t i = x->arc_head[state]; ok && i; i = x->arc_next[i - 1])
        if (usable(x, &a->arc[i - 1]) != AUTO_FAR)
            ok = offer(x, x->arc_from[i - 1], cost + 1, i - 1, false);
    for (uint32_t i = x->call_head[state]; ok && i; i = x->call_next[i - 1]) {
        const uint32_t index = (i - 1) / 2;
        const struct call *c = &a->call[index];
        if (x->done[c->entry] && x->done[c->to])
            ok = offer(x, x->call_from[index], a->state[c->entry].symbols + a->state[c->to].symbols, index, true);
    }
    return ok;
}

static bool find_symbols(struct cost *x)
{
    struct automaton *a = x->a;
    bool ok = true;
    for (uint32_t s = 0; s < a->n_states; s++)
        a->state[s].symbols = AUTO_FAR;
    for (uint32_t s = 0; ok && s < a->n_states; s++)
        if (a->state[s].final || s == STATE_END) {
            a->state[s].symbols = 0;
            ok = push(x, 0, s);
        }
    while (ok && x->n_heap) {
        const struct heap_entry top = pop(x);
        if (x->done[top.state])
            continue;
        x->done[top.state] = true;
        x->order[x->n_order++] = top.state;
        ok = offer_before(x, top.state);
    }
    return ok;
}

/* ---- tokens -------------------------------------------------------------------------------- */

/* A reader of the best way: the state it is in, and those to go on with in the rules around. */
struct way {
    const struct cost *x;
    uint32_t state;
    uint32_t *stack;
    size_t n, cap;
    uint32_t below; /* tokens of the stack */
};

/* Takes calls and returns, as far as there are any. False: no memory. *ended: nothing is left to read. */
static bool way_settle(struct way *w, bool *ended)
{
    const struct automaton *a = w->x->a;
    *ended = false;
    for (;;) {
        const struct state *s = &a->state[w->state];
        if (s->symbols == 0 && w->n == 0) {
            *ended = true;
            return true;
        }
        if (s->symbols == 0) {
            w->state = w->stack[--w->n];
            w->below -= a->state[w->state].tokens;
        } else if (s->best_is_call) {
            const struct call *c = &a->call[s->best];
            if (!mem_grow(&w->stack, &w->cap, w->n + 1, sizeof *w->stack, AUTO_MAX_STATES))
                return false;
            w->stack[w->n++] = c->to;
            w->below += a->state[c->to].tokens;
            w->state = c->entry;
        } else {
            return true;
        }
    }
}

static uint32_t way_tokens(const struct way *w)
{
    return w->below + w->x->a->state[w->state].tokens;
}

/* The least of 1 + what is left after a token that spells the beginning of the best way from `state`. Every state that
 * it passes has fewer symbols to go, so its tokens are known. */
static bool count_tokens(const struct cost *x, struct way *w, uint32_t state)
{
    const struct automaton *a = x->a;
    const struct grammar_vocab *v = x->b->v;
    uint32_t least = AUTO_FAR, node = 0;
    bool ended;
    w->state = state;
    w->n = 0;
    w->below = 0;
    for (;;) {
        if (!way_settle(w, &ended))
            return false;
        if (ended)
            break;
        const struct arc *arc = &a->arc[a->state[w->state].best];
        const uint32_t symbol = usable(x, arc);
        if (symbol >= SYM_TOKEN && node)
            break;
        w->state = arc->to;
        if (symbol < SYM_TOKEN && !(node = vocab_child(v, node, (uint8_t)symbol)))
            break;
        if ((symbol >= SYM_TOKEN || v->first[node] < v->first[node + 1]) && way_tokens(w) + 1 < least)
            least = way_tokens(w) + 1;
        if (symbol >= SYM_TOKEN)
            break;
    }
    x->a->state[state].tokens = least < AUTO_FAR ? least : AUTO_FAR;
    return true;
}

static bool find_tokens(const struct cost *x)
{
    struct way w = { .x = x };
    bool ok = true;
    for (uint32_t s = 0; s < x->a->n_states; s++)
        x->a->state[s].tokens = AUTO_FAR;
    for (size_t i = 0; ok && i < x->n_order; i++) {
        const uint32_t s = x->order[i];
        if (x->a->state[s].symbols == 0)
            x->a->state[s].tokens = 0;
        else
            ok = count_tokens(x, &w, s);
    }
    mem_free(w.stack);
    return ok;
}

/* ---- what can never end, and what never begins ---------------------------------------------- */

/* Arcs and calls without a way to the end go. */
static void trim(struct automaton *a)
{
    for (uint32_t s = 0; s < a->n_states; s++) {
        struct state *st = &a->state[s];
        uint32_t n = 0, bytes = 0;
        for (uint32_t i = st->arc; i < st->arc + st->n_arcs; i++)
            if (a->state[a->arc[i].to].tokens < AUTO_FAR) {
                bytes += a->arc[i].hi < SYM_TOKEN;
                a->arc[st->arc + n++] = a->arc[i];
            }
        st->n_arcs = n;
        st->n_byte_arcs = bytes;
        n = 0;
        for (uint32_t i = st->call; i < st->call + st->n_calls; i++)
            if (a->state[a->call[i].entry].tokens < AUTO_FAR && a->state[a->call[i].to].tokens < AUTO_FAR)
                a->call[st->call + n++] = a->call[i];
        st->n_calls = n;
    }
}

/* Depth-first over what entries call at once; a way back to one that is open is left recursion. */
static enum err_code check_recursion(const struct cost *x)
{
    enum { NEW, OPEN, CLOSED };
    const struct automaton *a = x->a;
    struct { uint32_t state, call; } *stack = mem_alloc((x->b->n_parts + 1) * sizeof *stack);
    uint8_t *mark = mem_zero(a->n_states, sizeof *mark);
    enum err_code code = stack && mark ? ERR_OK : err_no_memory(x->b->e, a->n_states, "a grammar");
    for (size_t i = 0; !code && i < x->b->n_parts; i++) {
        size_t n = 0;
        if (mark[x->b->part[i].entry] != NEW)
            continue;
        stack[n].state = x->b->part[i].entry;
        stack[n++].call = 0;
        mark[x->b->part[i].entry] = OPEN;
        while (n && !code) {
            const struct state *s = &a->state[stack[n - 1].state];
            if (stack[n - 1].call == s->n_calls) {
                mark[stack[--n].state] = CLOSED;
                continue;
            }
            const uint32_t entry = a->call[s->call + stack[n - 1].call++].entry;
            if (mark[entry] == OPEN)
                code = parts_fail(x->b, x->b->part[a->state[entry].rule].rule, ERR_INVALID,
                                "it begins with itself (left recursion); write it with a repetition");
            if (mark[entry] != NEW)
                continue;
            mark[entry] = OPEN;
            stack[n].state = entry;
            stack[n++].call = 0;
        }
    }
    mem_free(stack);
    mem_free(mark);
    return code;
}

/* A twin comes with its own arcs and calls, so that what leads to a state is found in one table. */
static bool part_twins(struct automaton *a, const struct parts *b)
{
    for (size_t i = 0; i < b->n_parts; i++) {
        const uint32_t entry = b->part[i].entry;
        if (entry == b->part[i].first)
            continue;
        struct state *s = &a->state[entry];
        if (!mem_grow(&a->arc, &a->cap_arcs, a->n_arcs + s->n_arcs, sizeof *a->arc, AUTO_MAX_ARCS) ||
            !mem_grow(&a->call, &a->cap_calls, a->n_calls + s->n_calls, sizeof *a->call, AUTO_MAX_ARCS))
            return false;
        if (s->n_arcs)
            memcpy(a->arc + a->n_arcs, a->arc + s->arc, s->n_arcs * sizeof *a->arc);
        if (s->n_calls)
            memcpy(a->call + a->n_calls, a->call + s->call, s->n_calls * sizeof *a->call);
        s->arc = (uint32_t)a->n_arcs;
        s->call = (uint32_t)a->n_calls;
        a->n_arcs += s->n_arcs;
        a->n_calls += s->n_calls;
    }
    return true;
}

enum err_code automaton_cost(const struct parts *b, struct automaton *a)
{
    struct cost x = { .b = b, .a = a };
    enum err_code code = ERR_OK;
    bool ok = part_twins(a, b);
    x.arc_head = mem_zero(a->n_states, sizeof *x.arc_head);
    x.call_head = mem_zero(a->n_states, sizeof *x.call_head);
    x.order = mem_zero(a->n_states, sizeof *x.order);
    x.done = mem_zero(a->n_states, sizeof *x.done);
    x.arc_next = mem_zero(a->n_arcs + 1, sizeof *x.arc_next);
    x.arc_from = mem_zero(a->n_arcs + 1, sizeof *x.arc_from);
    x.call_next = mem_zero(2 * a->n_calls + 1, sizeof *x.call_next);
    x.call_from = mem_zero(a->n_calls + 1, sizeof *x.call_from);
    ok = ok && x.arc_head && x.call_head && x.order && x.done && x.arc_next && x.arc_from && x.call_next &&
         x.call_from;
    if (ok) {
        link_edges(&x);
        ok = find_symbols(&x) && find_tokens(&x);
    }
    if (!ok) {
        code = err_no_memory(b->e, a->n_states * sizeof *x.order, "a grammar");
    } else {
        trim(a);
        code = check_recursion(&x);
        if (!code && a->state[a->start].tokens >= AUTO_FAR)
            code = parts_fail(b, b->part[0].rule, ERR_INVALID, "no sentence of it can be spelled and ends");
    }
    mem_free(x.heap);
    mem_free(x.arc_head);
    mem_free(x.arc_next);
    mem_free(x.call_head);
    mem_free(x.call_next);
    mem_free(x.arc_from);
    mem_free(x.call_from);
    mem_free(x.order);
    mem_free(x.done);
    return code;
}
