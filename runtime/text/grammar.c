#include "runtime/text/grammar_auto.h"

#include <stdlib.h>
#include <string.h>

#define SHARED_BYTES ((size_t)64 << 20) /* of verdicts that a grammar keeps */
#define FEW 1024                        /* tokens that need no bits */

enum err_code grammar_create(struct gram *tree, const struct grammar_vocab *v, struct grammar **out, struct err *e)
{
    struct parts b = { 0 };
    *out = NULL;
    enum err_code code = gram_error(tree, e);
    if (code)
        return code;
    struct grammar *g = mem_zero(1, sizeof *g);
    if (!g)
        return err_no_memory(e, sizeof *g, "a grammar");
    atomic_init(&g->refs, 1);
    g->v = v;
    g->max_calls = tree->max_calls;
    code = parts_create(&b, tree, v, e);
    if (!code)
        code = automaton_build(&b, &g->a);
    if (!code)
        code = automaton_cost(&b, &g->a);
    parts_finish(&b);
    if (!code) {
        g->verdict = mem_zero(g->a.n_states, sizeof *g->verdict);
        if (!g->verdict)
            code = err_no_memory(e, g->a.n_states * sizeof *g->verdict, "a grammar");
        atomic_init(&g->bytes, g->a.cap_states * (sizeof *g->a.state + sizeof *g->verdict) +
                                   g->a.cap_arcs * sizeof *g->a.arc + g->a.cap_calls * sizeof *g->a.call);
    }
    if (code) {
        grammar_unref(g);
        g = NULL;
    }
    *out = g;
    return code;
}

struct grammar *grammar_ref(struct grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void grammar_unref(struct grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1)
        return;
    for (size_t i = 0; g->verdict && i < g->a.n_states; i++)
        verdict_destroy(atomic_load(&g->verdict[i]));
    mem_free(g->verdict);
    automaton_finish(&g->a);
    mem_free(g);
}

uint32_t grammar_min_tokens(const struct grammar *g)
{
    return g->a.state[g->a.start].tokens;
}

size_t grammar_bytes(const struct grammar *g)
{
    return atomic_load(&g->bytes);
}

/* ---- verdicts ------------------------------------------------------------------------------ */

void verdict_destroy(struct verdict *v)
{
    if (!v)
        return;
    mem_free(v->bits);
    mem_free(v->odd);
    mem_free(v->exit);
    mem_free(v);
}

struct collect {
    const struct grammar_vocab *v;
    struct verdict *out;
    size_t cap_odd, cap_exits;
    bool failed;
};

static void collect_token(struct collect *c, uint32_t id, uint32_t tokens)
{
    struct verdict *o = c->out;
    if (!mem_grow(&o->odd, &c->cap_odd, o->n_odd + 1, sizeof *o->odd, SIZE_MAX / sizeof *o->odd)) {
        c->failed = true;
        return;
    }
    o->odd[o->n_odd++] = (struct odd_token){ tokens, id };
}

static void collect_node(void *user, uint32_t node, uint32_t tokens, bool ends)
{
    struct collect *c = user;
    struct verdict *o = c->out;
    for (uint32_t i = c->v->first[node]; i < c->v->first[node + 1]; i++)
        collect_token(c, c->v->id[i], tokens);
    if (!ends || c->v->end[node] == node + 1)
        return;
    if (!mem_grow(&o->exit, &c->cap_exits, o->n_exits + 1, sizeof *o->exit, SIZE_MAX / sizeof *o->exit)) {
        c->failed = true;
        return;
    }
    o->exit[o->n_exits++] = node;
}

/* Tokens that the frames, closed, name as such. Those that end a generation depend on what is below. */
static void collect_symbols(struct collect *c, struct sim *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct state *st = &s->a->state[s->level.v[i].state];
        for (uint32_t j = st->n_byte_arcs; j < st->n_arcs; j++) {
            const struct arc arc = s->a->arc[st->arc + j];
            const struct frame f = { arc.to, s->level.v[i].below };
            const uint32_t tokens = sim_tokens(s, &f, 1);
            for (uint32_t id = arc.lo - SYM_TOKEN; id <= arc.hi - SYM_TOKEN; id++)
                if (!vocab_is_eog(c->v, id))
                    collect_token(c, id, tokens);
        }
    }
}

static int by_tokens(const void *a, const void *b)
{
    const struct odd_token *x = a, *y = b;
    if (x->tokens != y->tokens)
        return x->tokens < y->tokens ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Turns the largest group of tokens that have as many to go into bits. */
static bool make_bits(struct verdict *o, size_t words)
{
    uint32_t count[256] = { 0 }, best = 0;
    for (size_t i = 0; i < o->n_odd; i++)
        if (o->odd[i].tokens < 256)
            count[o->odd[i].tokens]++;
    for (uint32_t i = 0; i < 256; i++)
        if (count[i] > count[best])
            best = i;
    if (count[best] <= FEW)
        return true;
    o->bits = mem_zero(words, sizeof *o->bits);
    if (!o->bits)
        return false;
    o->common = best;
    size_t n = 0;
    for (size_t i = 0; i < o->n_odd; i++)
        if (o->odd[i].tokens == best)
            o->bits[o->odd[i].id / 32] |= 1u << o->odd[i].id % 32;
        else
            o->odd[n++] = o->odd[i];
    o->n_odd = n;
    return true;
}

static bool shrink(void *array, size_t n, size_t size)
{
    void *old;
    memcpy(&old, array, sizeof old);
    void *p = mem_resize(old, n ? n : 1, size);
    if (p)
        memcpy(array, &p, sizeof p);
    return p != NULL;
}

static struct verdict *make_verdict(const struct grammar *g, struct sim *s, uint32_t state)
{
    struct verdict *o = mem_zero(1, sizeof *o);
    struct collect c = { .v = g->v, .out = o };
    struct frame_list l = { 0 };
    if (!o)
        return NULL;
    sim_clear(s);
    s->work = 0;
    const struct frame start = { state, SET_END };
    s->level.n = 0;
    if (!mem_grow(&s->level.v, &s->level.cap, 1, sizeof *s->level.v, 1024))
        goto failed;
    s->level.v[s->level.n++] = start;
    (void)sim_close(s, &s->level, 0);
    const size_t n = s->level.n;
    collect_symbols(&c, s, n);
    l.v = mem_alloc(n * sizeof *l.v);
    if (!l.v)
        goto failed;
    memcpy(l.v, s->level.v, n * sizeof *l.v);
    sim_walk(s, l.v, n, 0, collect_node, &c);
    if (c.failed || s->failed)
        goto failed;
    if (!make_bits(o, g->v->words))
        goto failed;
    if (o->n_odd)
        qsort(o->odd, o->n_odd, sizeof *o->odd, by_tokens);
    o->max_tokens = o->n_odd ? o->odd[o->n_odd - 1].tokens : 0;
    if (o->bits && o->common > o->max_tokens)
        o->max_tokens = o->common;
    if (!shrink(&o->odd, o->n_odd, sizeof *o->odd) ||
        !shrink(&o->exit, o->n_exits, sizeof *o->exit))
        goto failed;
    o->bytes = sizeof *o + o->n_odd * sizeof *o->odd + o->n_exits * sizeof *o->exit + (o->bits ? g->v->words * 4 : 0);
    mem_free(l.v);
    return o;
failed:
    mem_free(l.v);
    verdict_destroy(o);
    return NULL;
}

struct verdict *grammar_verdict(struct grammar *g, struct sim *s, uint32_t state)
{
    struct verdict *v = atomic_load(&g->verdict[state]);
    if (v)
        return v;
    v = make_verdict(g, s, state);
    if (!v || atomic_load(&g->bytes) + v->bytes > SHARED_BYTES)
        return v;
    v->shared = true;
    struct verdict *other = NULL;
    if (!atomic_compare_exchange_strong(&g->verdict[state], &other, v)) {
        verdict_destroy(v); /* another thread was first, with the same */
        return other;
    }
    atomic_fetch_add(&g->bytes, v->bytes);
    return v;
}
