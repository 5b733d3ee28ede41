/* Sets of states, one step at a time: the subset construction.
 *
 * A set keeps the states that matter later: those with an edge over bytes or an end assertion,
 * and the final one. Sets are sorted, so that equal ones are equal arrays. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/dfa_priv.h"

uint32_t nfa_state(struct nfa *m)
{
    if (m->trouble)
        return 0;
    if (m->n >= DFA_MAX_NFA)
        m->trouble = DFA_TOO_LARGE;
    else if (!mem_grow(&m->first, &m->cap, m->n + 1, sizeof *m->first, DFA_MAX_NFA))
        m->trouble = DFA_NO_MEMORY;
    if (m->trouble)
        return 0;
    m->first[m->n] = 0;
    return (uint32_t)m->n++;
}

static void add_edge(struct nfa *m, uint32_t from, struct nfa_edge edge)
{
    if (m->trouble)
        return;
    if (m->n_edges >= DFA_MAX_NFA)
        m->trouble = DFA_TOO_LARGE;
    else if (!mem_grow(&m->edges, &m->edges_cap, m->n_edges + 1, sizeof *m->edges, DFA_MAX_NFA))
        m->trouble = DFA_NO_MEMORY;
    if (m->trouble)
        return;
    edge.next = m->first[from];
    m->edges[m->n_edges++] = edge;
    m->first[from] = (uint32_t)m->n_edges;
}

void nfa_edge(struct nfa *m, enum nfa_kind kind, uint32_t from, uint32_t to)
{
    add_edge(m, from, (struct nfa_edge){ .to = to, .kind = (uint8_t)kind });
}

void nfa_bytes(struct nfa *m, uint32_t from, uint8_t lo, uint8_t hi, uint32_t to)
{
    add_edge(m, from, (struct nfa_edge){ .to = to, .kind = NFA_BYTES, .lo = lo, .hi = hi });
}

void nfa_text(struct nfa *m, uint32_t from, struct str text, uint32_t to)
{
    if (!text.n)
        nfa_edge(m, NFA_EMPTY, from, to);
    for (size_t i = 0; i < text.n; i++) {
        uint32_t s = i + 1 < text.n ? nfa_state(m) : to;
        nfa_bytes(m, from, (uint8_t)text.p[i], (uint8_t)text.p[i], s);
        from = s;
    }
}

/* lo and hi have sequences of one length, and their last bytes run freely where the first differ. */
static void add_sequences(struct nfa *m, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    char a[4], b[4];
    size_t n = utf8_put(lo, a);
    utf8_put(hi, b);
    for (size_t i = 0; i < n; i++) {
        uint32_t s = i + 1 < n ? nfa_state(m) : to;
        nfa_bytes(m, from, (uint8_t)a[i], (uint8_t)b[i], s);
        from = s;
    }
}

void nfa_code_points(struct nfa *m, uint32_t from, uint32_t lo, uint32_t hi, uint32_t to)
{
    static const uint32_t ends[] = { 0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF };
    while (lo <= hi && !m->trouble) {
        uint32_t end = hi;
        for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
            if (lo <= ends[i] && end > ends[i])
                end = ends[i];
        for (uint32_t low = 0x3F; low < 0x40000 && low < end; low = low << 6 | 0x3F) {
            if ((lo & ~low) == (end & ~low) || end < 0x80)
                break;
            if (lo & low)
                end = lo | low; /* up to where the trailing bytes start over */
            else if ((end & low) != low)
                end = (end & ~low) - 1;
        }
        if (lo < 0xD800 || lo > 0xDFFF)
            add_sequences(m, from, lo, end, to);
        lo = end + 1;
    }
}

void nfa_dfa(struct nfa *m, uint32_t from, const struct dfa *d, uint32_t to)
{
    uint32_t base = (uint32_t)m->n;
    for (uint32_t s = 0; s < d->n_states; s++) /* the dead one too: state s is base + s */
        nfa_state(m);
    for (uint32_t s = 1; s < d->n_states && !m->trouble; s++) {
        if (d->accept[s])
            nfa_edge(m, NFA_EMPTY, base + s, to);
        for (size_t lo = 0, hi; lo < 256; lo = hi + 1) {
            uint32_t next = dfa_step(d, s, (uint8_t)lo);
            for (hi = lo; hi < 255 && dfa_step(d, s, (uint8_t)(hi + 1)) == next;)
                hi++;
            if (next)
                nfa_bytes(m, base + s, (uint8_t)lo, (uint8_t)hi, base + next);
        }
    }
    nfa_edge(m, NFA_EMPTY, from, base + d->start);
}

void nfa_free(struct nfa *m)
{
    mem_free(m->first);
    mem_free(m->edges);
    *m = (struct nfa){ 0 };
}

/* ---- determinisation ---- */

struct set {
    size_t at;
    uint32_t n;
};

struct sets {
    struct nfa *m;
    uint32_t final;
    struct draft d;       /* set i is state i + 1 */
    uint32_t *pool;       /* members of all sets */
    size_t pool_n, pool_cap;
    struct set *v;
    size_t n, cap;
    uint32_t *slots, n_slots; /* open addressing: set + 1 */
    uint32_t *stack, *found, *seen, stamp;
    size_t n_found;
    uint32_t *targets, *targets_at; /* of one set, by class */
    size_t targets_cap;
    size_t work;
};

/* All states reached from those in `found` over empty edges. */
static void close_over(struct sets *s, bool begin, bool end)
{
    const struct nfa *m = s->m;
    size_t n = 0, n_found = s->n_found;
    s->stamp++;
    s->n_found = 0;
    for (size_t i = n_found; i-- > 0;)
        if (s->seen[s->found[i]] != s->stamp) {
            s->seen[s->found[i]] = s->stamp;
            s->stack[n++] = s->found[i];
        }
    while (n) {
        uint32_t at = s->stack[--n];
        bool matters = at == s->final;
        for (uint32_t i = m->first[at]; i; i = m->edges[i - 1].next) {
            const struct nfa_edge *g = &m->edges[i - 1];
            s->work++;
            matters |= g->kind == NFA_BYTES || g->kind == NFA_END;
            if (g->kind == NFA_BYTES || (g->kind == NFA_BEGIN && !begin) ||
                (g->kind == NFA_END && !end) || s->seen[g->to] == s->stamp)
                continue;
            s->seen[g->to] = s->stamp;
            s->stack[n++] = g->to;
        }
        if (matters)
            s->found[s->n_found++] = at;
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t hash_of(const uint32_t *v, size_t n)
{
    uint64_t h = 14695981039346656037U;
    for (size_t i = 0; i < n; i++)
        h = (h ^ v[i]) * 1099511628211U;
    return (uint32_t)(h ^ h >> 32);
}

static bool grow_slots(struct sets *s)
{
    uint32_t n = s->n_slots ? s->n_slots * 2 : 1024;
    uint32_t *slots = mem_zero(n, sizeof *slots);
    if (!slots)
        return false;
    for (size_t i = 0; i < s->n; i++) {
        uint32_t h = hash_of(s->pool + s->v[i].at, s->v[i].n) & (n - 1);
        while (slots[h])
            h = (h + 1) & (n - 1);
        slots[h] = (uint32_t)i + 1;
    }
    mem_free(s->slots);
    s->slots = slots;
    s->n_slots = n;
    return true;
}

/* Whether a set accepts at the end of the text; uses up `found`. */
static bool accepts(struct sets *s, bool begin)
{
    close_over(s, begin, true);
    for (size_t i = 0; i < s->n_found; i++)
        if (s->found[i] == s->final)
            return true;
    return false;
}

/* The state of the set in `found`, which may be new. */
static uint32_t state_of(struct sets *s, bool begin)
{
    struct nfa *m = s->m;
    size_t n = s->n_found;
    if (m->trouble || (!n && !begin))
        return DFA_DEAD;
    qsort(s->found, n, sizeof *s->found, by_number);
    if (s->n * 2 >= s->n_slots && !grow_slots(s)) {
        m->trouble = DFA_NO_MEMORY;
        return DFA_DEAD;
    }
    uint32_t h = hash_of(s->found, n) & (s->n_slots - 1);
    for (; s->slots[h]; h = (h + 1) & (s->n_slots - 1)) {
        struct set have = s->v[s->slots[h] - 1];
        /* The first set is apart: assertions of the beginning hold there alone. */
        if (s->slots[h] > 1 && have.n == n &&
            memcmp(s->pool + have.at, s->found, n * sizeof *s->found) == 0)
            return s->slots[h];
    }
    s->work += n;
    if (s->work > DFA_MAX_WORK || s->pool_n + n > DFA_MAX_WORK / 4)
        m->trouble = DFA_TOO_LARGE;
    else if (!mem_grow(&s->pool, &s->pool_cap, s->pool_n + n + 1, sizeof *s->pool, DFA_MAX_WORK / 4 + 1) ||
             !mem_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v, DFA_MAX_STATES))
        m->trouble = s->n >= DFA_MAX_STATES ? DFA_TOO_LARGE : DFA_NO_MEMORY;
    if (m->trouble)
        return DFA_DEAD;
    memcpy(s->pool + s->pool_n, s->found, n * sizeof *s->found);
    s->v[s->n] = (struct set){ s->pool_n, (uint32_t)n };
    s->pool_n += n;
    s->slots[h] = (uint32_t)++s->n;
    return draft_state(&s->d, accepts(s, begin));
}

/* Sorts the targets of a set's edges by class: two passes, count and place. */
static bool gather(struct sets *s, struct set set)
{
    const struct nfa *m = s->m;
    uint32_t k = s->d.n_classes;
    memset(s->targets_at, 0, (k + 2) * sizeof *s->targets_at);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < set.n; i++)
            for (uint32_t g = m->first[s->pool[set.at + i]]; g; g = m->edges[g - 1].next) {
                const struct nfa_edge *edge = &m->edges[g - 1];
                if (edge->kind != NFA_BYTES)
                    continue;
                uint32_t last = s->d.class_of[edge->hi];
                for (uint32_t c = s->d.class_of[edge->lo]; c <= last; c++) {
                    if (pass == 0)
                        s->targets_at[c + 2]++;
                    else
                        s->targets[s->targets_at[c + 1]++] = edge->to;
                }
                s->work += last - s->d.class_of[edge->lo] + 1;
            }
        if (pass == 1)
            break;
        for (uint32_t c = 2; c < k + 2; c++)
            s->targets_at[c] += s->targets_at[c - 1];
        if (!mem_grow(&s->targets, &s->targets_cap, s->targets_at[k + 1] + (size_t)1, sizeof *s->targets,
                      DFA_MAX_NFA * 256))
            return false;
    }
    return true;
}

static void step_all(struct sets *s)
{
    for (size_t i = 0; i < s->n && !s->m->trouble; i++) {
        if (!gather(s, s->v[i])) {
            s->m->trouble = DFA_NO_MEMORY;
            return;
        }
        const uint32_t *before = NULL;
        size_t n_before = 0;
        uint32_t to = DFA_DEAD;
        for (uint32_t c = 0; c < s->d.n_classes; c++) {
            const uint32_t *targets = s->targets + s->targets_at[c];
            size_t n = s->targets_at[c + 1] - s->targets_at[c];
            if (!n)
                continue;
            if (n != n_before || memcmp(targets, before, n * sizeof *targets) != 0) {
                /* Targets may repeat: those not seen yet fit into `found`. */
                s->stamp++;
                s->n_found = 0;
                for (size_t t = 0; t < n; t++)
                    if (s->seen[targets[t]] != s->stamp) {
                        s->seen[targets[t]] = s->stamp;
                        s->found[s->n_found++] = targets[t];
                    }
                close_over(s, false, false);
                to = state_of(s, false);
                before = targets;
                n_before = n;
            }
            draft_edge(&s->d, (uint32_t)i + 1, c, to);
        }
        if (s->d.trouble)
            s->m->trouble = s->d.trouble;
    }
}

/* Classes are runs of bytes between the ends of ranges. */
static void byte_classes(const struct nfa *m, uint8_t class_of[256])
{
    bool cut[257] = { false };
    for (size_t i = 0; i < m->n_edges; i++)
        if (m->edges[i].kind == NFA_BYTES) {
            cut[m->edges[i].lo] = true;
            cut[m->edges[i].hi + 1] = true;
        }
    uint8_t c = 0;
    for (size_t b = 0; b < 256; b++) {
        if (b && cut[b])
            c++;
        class_of[b] = c;
    }
}

struct dfa *nfa_take(struct nfa *m, uint32_t start, uint32_t final, struct err *e)
{
    struct sets s = { .m = m, .final = final };
    struct dfa *out = NULL;
    uint8_t class_of[256];
    byte_classes(m, class_of);
    draft_init(&s.d, class_of);
    s.stack = mem_zero(m->n + 1, sizeof *s.stack);
    s.found = mem_zero(m->n + 1, sizeof *s.found);
    s.seen = mem_zero(m->n + 1, sizeof *s.seen);
    s.targets_at = mem_zero(s.d.n_classes + 2, sizeof *s.targets_at);
    if (!s.stack || !s.found || !s.seen || !s.targets_at)
        m->trouble = m->trouble ? m->trouble : DFA_NO_MEMORY;
    if (!m->trouble) {
        s.found[s.n_found++] = start;
        close_over(&s, true, false);
        s.d.start = state_of(&s, true);
        step_all(&s);
    }
    if (m->trouble) {
        dfa_fail(m->trouble, e);
        draft_finish(&s.d);
    } else {
        out = draft_take(&s.d, e);
    }
    void *blocks[] = { s.stack, s.found, s.seen, s.targets_at, s.targets, s.pool, s.v, s.slots };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        mem_free(blocks[i]);
    nfa_free(m);
    return out;
}
