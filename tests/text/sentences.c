#include "tests/text/sentences.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/text/grammar_priv.h"

static uint64_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005U + 1442695040888963407U;
    return *s >> 33;
}

/* ---- membership: where a node may end that begins at a place of the text ---- */

struct matcher {
    const struct gram *g;
    struct str text;
    size_t words;     /* of a set of places 0..n, one bit each */
    uint64_t **known; /* of rule r at place i: known[r * (n + 1) + i] */
};

static bool has(const uint64_t *set, size_t i)
{
    return set[i / 64] >> (i % 64) & 1;
}

static void put(uint64_t *set, size_t i)
{
    set[i / 64] |= (uint64_t)1 << (i % 64);
}

static uint64_t *new_set(const struct matcher *m)
{
    uint64_t *set = mem_zero(m->words, sizeof *set);
    if (!set)
        abort();
    return set;
}

static void ends(struct matcher *m, uint32_t node, size_t at, uint64_t *out);

/* The ends of a node over all beginnings. */
static void ends_of_all(struct matcher *m, uint32_t node, const uint64_t *from, uint64_t *out)
{
    for (size_t i = 0; i <= m->text.n; i++)
        if (has(from, i))
            ends(m, node, i, out);
}

static void leaf_ends(const struct matcher *m, const struct node *v, size_t at, uint64_t *out)
{
    uint32_t cp = 0;
    if (v->kind == NODE_LITERAL) {
        if (m->text.n - at >= v->n && (!v->n || memcmp(m->text.p + at, v->u.bytes, v->n) == 0))
            put(out, at + v->n);
    } else if (v->kind == NODE_SET) {
        size_t n = utf8_step(m->text.p + at, m->text.n - at, &cp);
        for (uint32_t i = 0; n && i < v->n; i++)
            if (cp >= v->u.range[i].lo && cp <= v->u.range[i].hi)
                put(out, at + n);
    } else {
        uint32_t s = v->u.dfa->start;
        for (;; s = dfa_step(v->u.dfa, s, (uint8_t)m->text.p[at++])) {
            if (v->u.dfa->accept[s])
                put(out, at);
            if (at == m->text.n || s == DFA_DEAD)
                break;
        }
    }
}

static void repeat_ends(struct matcher *m, const struct node *v, size_t at, uint64_t *out)
{
    uint64_t *now = new_set(m), *next = new_set(m);
    put(now, at);
    for (uint32_t i = 0; i <= v->u.repeat.max; i++) {
        bool any = false, more = false;
        for (size_t w = 0; w < m->words; w++) {
            any |= now[w] != 0;
            more |= (now[w] & ~out[w]) != 0;
            if (i >= v->u.repeat.min)
                out[w] |= now[w];
        }
        if (!any || (i > v->u.repeat.min && !more) || i == v->u.repeat.max)
            break;
        memset(next, 0, m->words * sizeof *next);
        ends_of_all(m, v->u.repeat.node, now, next);
        uint64_t *t = now;
        now = next;
        next = t;
    }
    mem_free(now);
    mem_free(next);
}

static void ends(struct matcher *m, uint32_t node, size_t at, uint64_t *out)
{
    const struct node *v = &m->g->node[node];
    uint64_t *now, *next;
    switch (v->kind) {
    case NODE_LITERAL:
    case NODE_SET:
    case NODE_DFA:
        leaf_ends(m, v, at, out);
        break;
    case NODE_ALT:
        for (uint32_t i = 0; i < v->n; i++)
            ends(m, v->u.child[i], at, out);
        break;
    case NODE_SEQ:
        now = new_set(m);
        put(now, at);
        for (uint32_t i = 0; i < v->n; i++) {
            next = new_set(m);
            ends_of_all(m, v->u.child[i], now, next);
            mem_free(now);
            now = next;
        }
        for (size_t w = 0; w < m->words; w++)
            out[w] |= now[w];
        mem_free(now);
        break;
    case NODE_REPEAT:
        repeat_ends(m, v, at, out);
        break;
    case NODE_REF: {
        uint64_t **known = &m->known[v->u.rule * (m->text.n + 1) + at];
        if (!*known) {
            *known = new_set(m); /* empty while it is looked for: no left recursion */
            next = new_set(m);
            ends(m, m->g->rule[v->u.rule].node, at, next);
            memcpy(*known, next, m->words * sizeof *next);
            mem_free(next);
        }
        for (size_t w = 0; w < m->words; w++)
            out[w] |= (*known)[w];
        break;
    }
    default:
        break;
    }
}

bool sentence_is(const struct gram *g, uint32_t node, struct str text)
{
    struct matcher m = { .g = g, .text = text, .words = text.n / 64 + 1 };
    size_t n = g->n_rules * (text.n + 1);
    m.known = mem_zero(n, sizeof *m.known);
    if (!m.known)
        abort();
    uint64_t *out = new_set(&m);
    ends(&m, node, 0, out);
    bool is = has(out, text.n);
    for (size_t i = 0; i < n; i++)
        mem_free(m.known[i]);
    mem_free(m.known);
    mem_free(out);
    return is;
}

/* ---- random sentences ---- */

#define FAR UINT32_MAX
#define DEEP 12 /* rules inside each other, from where on the shortest way is taken */

struct walker {
    const struct gram *g;
    uint64_t *seed;
    struct buf *out;
    uint32_t *shortest; /* bytes, of each rule; FAR: none */
    unsigned depth;
};

static uint32_t add(uint32_t a, uint32_t b)
{
    return a == FAR || b == FAR || a + b < a ? FAR : a + b;
}

static uint32_t dfa_shortest(const struct dfa *d)
{
    uint32_t *far = mem_zero(d->n_states, sizeof *far), n;
    if (!far || !dfa_distances(d, far))
        abort();
    n = far[d->start];
    mem_free(far);
    return n;
}

static uint32_t shortest(const struct walker *w, uint32_t node)
{
    const struct node *v = &w->g->node[node];
    uint32_t n = v->kind == NODE_ALT ? FAR : 0;
    switch (v->kind) {
    case NODE_LITERAL:
        return v->n;
    case NODE_SET:
        return v->n ? 1 : FAR;
    case NODE_DFA:
        return dfa_shortest(v->u.dfa);
    case NODE_ALT:
        for (uint32_t i = 0, k; i < v->n; i++)
            n = (k = shortest(w, v->u.child[i])) < n ? k : n;
        return n;
    case NODE_SEQ:
        for (uint32_t i = 0; i < v->n; i++)
            n = add(n, shortest(w, v->u.child[i]));
        return n;
    case NODE_REPEAT:
        n = v->u.repeat.min ? shortest(w, v->u.repeat.node) : 0;
        return n && v->u.repeat.min > FAR / 2 / (n == FAR ? 1 : n) ? FAR : n == FAR ? FAR : n * v->u.repeat.min;
    case NODE_REF:
        return w->shortest[v->u.rule];
    default:
        return FAR;
    }
}

static bool find_shortest(struct walker *w)
{
    w->shortest = mem_zero(w->g->n_rules, sizeof *w->shortest);
    if (!w->shortest)
        abort();
    for (size_t r = 0; r < w->g->n_rules; r++)
        w->shortest[r] = FAR;
    for (bool more = true; more;) {
        more = false;
        for (size_t r = w->g->n_rules - 1; r > 0; r--) {
            uint32_t n = w->g->rule[r].node ? shortest(w, w->g->rule[r].node) : FAR;
            more |= n < w->shortest[r];
            w->shortest[r] = n < w->shortest[r] ? n : w->shortest[r];
        }
    }
    return true;
}

static void put_code_point(struct buf *out, uint32_t cp)
{
    char four[4];
    buf_put(out, four, utf8_put(cp, four));
}

/* Goes on while a coin says so, then the shortest way home. */
static void walk_dfa(struct walker *w, const struct dfa *d)
{
    uint32_t *far = mem_zero(d->n_states, sizeof *far), s = d->start;
    if (!far || !dfa_distances(d, far))
        abort();
    bool home = false;
    while (far[s] != FAR && !w->out->failed) {
        home = home || next_random(w->seed) % 12 == 0 || w->depth > DEEP;
        if (d->accept[s] && home)
            break;
        uint8_t bytes[256];
        size_t n = 0;
        for (size_t b = 0; b < 256; b++) {
            uint32_t to = dfa_step(d, s, (uint8_t)b);
            bool ascii = b >= 0x20 && b < 0x7F;
            if (far[to] == FAR || (home && far[to] >= far[s]))
                continue;
            bytes[n++] = (uint8_t)b;
            for (int often = 0; ascii && often < 3 && n < 256; often++)
                bytes[n++] = (uint8_t)b;
            if (n == 256)
                break;
        }
        if (!n)
            break;
        uint8_t b = bytes[next_random(w->seed) % n];
        buf_putc(w->out, (char)b);
        s = dfa_step(d, s, b);
    }
    mem_free(far);
}

static void walk(struct walker *w, uint32_t node)
{
    const struct node *v = &w->g->node[node];
    if (w->out->failed)
        return;
    uint32_t best = FAR, n = 0, pick = 0;
    switch (v->kind) {
    case NODE_LITERAL:
        buf_put(w->out, v->u.bytes, v->n);
        break;
    case NODE_SET:
        if (v->n) {
            const struct gram_range *r = &v->u.range[next_random(w->seed) % v->n];
            put_code_point(w->out, r->lo + (uint32_t)(next_random(w->seed) % (r->hi - r->lo + 1)));
        }
        break;
    case NODE_DFA:
        walk_dfa(w, v->u.dfa);
        break;
    case NODE_ALT:
        for (uint32_t i = 0; i < v->n; i++) {
            uint32_t k = shortest(w, v->u.child[i]);
            if (k == FAR || (w->depth > DEEP && k > best))
                continue;
            n = w->depth > DEEP && k < best ? 1 : n + 1;
            best = k < best ? k : best;
            if (next_random(w->seed) % n == 0)
                pick = v->u.child[i];
        }
        if (pick)
            walk(w, pick);
        break;
    case NODE_SEQ:
        for (uint32_t i = 0; i < v->n; i++)
            walk(w, v->u.child[i]);
        break;
    case NODE_REPEAT:
        n = v->u.repeat.min;
        while (n < v->u.repeat.max && w->depth <= DEEP && shortest(w, v->u.repeat.node) != FAR &&
               next_random(w->seed) % 3 != 0)
            n++;
        for (uint32_t i = 0; i < n && !w->out->failed; i++)
            walk(w, v->u.repeat.node);
        break;
    case NODE_REF:
        w->depth++;
        walk(w, w->g->rule[v->u.rule].node);
        w->depth--;
        break;
    default:
        break;
    }
}

bool sentence_random(const struct gram *g, uint32_t node, uint64_t *seed, struct buf *out)
{
    struct walker w = { .g = g, .seed = seed, .out = out };
    bool good = find_shortest(&w) && shortest(&w, node) != FAR;
    buf_puts(out, "");
    if (good)
        walk(&w, node);
    mem_free(w.shortest);
    return good && !out->failed;
}
