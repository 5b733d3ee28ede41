#include "runtime/text/dfa.h"

#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/dfa_priv.h"

struct dfa *dfa_nothing(struct err *e)
{
    struct nfa m = { 0 };
    uint32_t start = nfa_state(&m);
    return nfa_take(&m, start, nfa_state(&m), e);
}

struct dfa *dfa_words(const struct str *words, size_t n, struct err *e)
{
    struct nfa m = { 0 };
    uint32_t start = nfa_state(&m), final = nfa_state(&m);
    for (size_t i = 0; i < n; i++)
        nfa_text(&m, start, words[i], final);
    return nfa_take(&m, start, final, e);
}

struct dfa *dfa_literal(struct str text, struct err *e)
{
    return dfa_words(&text, 1, e);
}

struct dfa *dfa_code_points(const uint32_t *ranges, size_t n, struct err *e)
{
    struct nfa m = { 0 };
    uint32_t start = nfa_state(&m), final = nfa_state(&m);
    for (size_t i = 0; i < n; i++)
        nfa_code_points(&m, start, ranges[2 * i], ranges[2 * i + 1], final);
    return nfa_take(&m, start, final, e);
}

/* ---- lengths ---- */

/* Bytes of UTF-8 by what may follow them (RFC 3629, section 4). */
enum utf8_class { U_ASCII, U_80, U_90, U_A0, U_C2, U_E0, U_E1, U_ED, U_F0, U_F1, U_F4, U_BAD };

static uint8_t utf8_class_of(size_t b)
{
    static const struct {
        uint8_t first, class;
    } rows[] = { { 0xF5, U_BAD }, { 0xF4, U_F4 }, { 0xF1, U_F1 }, { 0xF0, U_F0 }, { 0xEE, U_E1 },
                 { 0xED, U_ED },  { 0xE1, U_E1 }, { 0xE0, U_E0 }, { 0xC2, U_C2 }, { 0xC0, U_BAD },
                 { 0xA0, U_A0 },  { 0x90, U_90 }, { 0x80, U_80 }, { 0x00, U_ASCII } };
    size_t i = 0;
    while (b < rows[i].first)
        i++;
    return rows[i].class;
}

/* One character from state `from` to state `to`. */
static void add_character(struct draft *d, uint32_t from, uint32_t to)
{
    uint32_t one = draft_state(d, false), two = draft_state(d, false), three = draft_state(d, false);
    uint32_t e0 = draft_state(d, false), ed = draft_state(d, false);
    uint32_t f0 = draft_state(d, false), f4 = draft_state(d, false);
    const struct {
        uint32_t from, class, to;
    } edges[] = {
        { from, U_ASCII, to }, { from, U_C2, one }, { from, U_E0, e0 },   { from, U_E1, two },
        { from, U_ED, ed },    { from, U_F0, f0 },  { from, U_F1, three }, { from, U_F4, f4 },
        { one, U_80, to },     { one, U_90, to },   { one, U_A0, to },
        { two, U_80, one },    { two, U_90, one },  { two, U_A0, one },
        { three, U_80, two },  { three, U_90, two }, { three, U_A0, two },
        { e0, U_A0, one },     { ed, U_80, one },   { ed, U_90, one },
        { f0, U_90, two },     { f0, U_A0, two },   { f4, U_80, two },
    };
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        draft_edge(d, edges[i].from, edges[i].class, edges[i].to);
}

struct dfa *dfa_length(size_t min, size_t max, struct err *e)
{
    struct draft d;
    uint8_t class_of[256];
    for (size_t b = 0; b < 256; b++)
        class_of[b] = utf8_class_of(b);
    draft_init(&d, class_of);
    size_t last = max == DFA_NO_MAX ? min : max;
    uint32_t at = d.start = min <= max ? draft_state(&d, min == 0) : DFA_DEAD;
    for (size_t i = 0; i < last && min <= max && !d.trouble; i++) {
        uint32_t next = draft_state(&d, i + 1 >= min);
        add_character(&d, at, next);
        at = next;
    }
    if (max == DFA_NO_MAX)
        add_character(&d, at, at);
    return draft_take(&d, e);
}

/* ---- two automata at once ---- */

struct pairs {
    struct draft d;
    const struct dfa *a, *b;
    uint64_t *v; /* of state i: a's and b's */
    size_t n, cap;
    uint32_t *slots, n_slots;
    uint8_t of_a[256], of_b[256]; /* classes of a class */
    enum pair_kind { PAIR_UNION, PAIR_MEET, PAIR_MINUS } kind;
};

static uint32_t pair_slot(const struct pairs *p, uint64_t pair)
{
    uint64_t h = pair * 0x9E3779B97F4A7C15U;
    uint32_t at = (uint32_t)(h >> 32) & (p->n_slots - 1);
    while (p->slots[at] && p->v[p->slots[at]] != pair)
        at = (at + 1) & (p->n_slots - 1);
    return at;
}

static bool pair_room(struct pairs *p)
{
    if (!mem_grow(&p->v, &p->cap, p->n + 1, sizeof *p->v, DFA_MAX_STATES + 1))
        return false;
    if (p->n * 2 < p->n_slots)
        return true;
    mem_free(p->slots);
    p->n_slots = p->n_slots ? p->n_slots * 2 : 256;
    p->slots = mem_zero(p->n_slots, sizeof *p->slots);
    for (uint32_t i = 1; p->slots && i < p->n; i++)
        p->slots[pair_slot(p, p->v[i])] = i;
    return p->slots != NULL;
}

static uint32_t pair_state(struct pairs *p, uint32_t a, uint32_t b)
{
    bool dead = p->kind == PAIR_UNION ? !a && !b : p->kind == PAIR_MEET ? !a || !b : !a;
    if (dead || p->d.trouble)
        return DFA_DEAD;
    if (!pair_room(p)) {
        p->d.trouble = DFA_NO_MEMORY;
        return DFA_DEAD;
    }
    uint64_t pair = (uint64_t)a << 32 | b;
    uint32_t at = pair_slot(p, pair);
    if (p->slots[at])
        return p->slots[at];
    bool in_a = p->a->accept[a], in_b = p->b->accept[b];
    bool in = p->kind == PAIR_UNION  ? in_a || in_b
              : p->kind == PAIR_MEET ? in_a && in_b
                                     : in_a && !in_b;
    uint32_t s = draft_state(&p->d, in);
    if (!s)
        return DFA_DEAD;
    p->slots[at] = s;
    p->v[p->n++] = pair;
    return s;
}

static struct dfa *both(const struct dfa *a, const struct dfa *b, enum pair_kind kind, struct err *e)
{
    struct pairs p = { .a = a, .b = b, .kind = kind, .n = 1 };
    uint8_t class_of[256];
    uint32_t k = 0;
    for (size_t i = 0; i < 256; i++) {
        uint32_t c = 0;
        while (c < k && (p.of_a[c] != a->class_of[i] || p.of_b[c] != b->class_of[i]))
            c++;
        if (c == k)
            k++;
        p.of_a[c] = a->class_of[i];
        p.of_b[c] = b->class_of[i];
        class_of[i] = (uint8_t)c;
    }
    draft_init(&p.d, class_of);
    p.d.start = pair_state(&p, a->start, b->start);
    for (uint32_t s = 1; s < p.n && !p.d.trouble; s++) {
        const uint32_t *row_a = a->next + (size_t)(p.v[s] >> 32) * a->n_classes;
        const uint32_t *row_b = b->next + (size_t)(p.v[s] & UINT32_MAX) * b->n_classes;
        for (uint32_t c = 0; c < k; c++)
            draft_edge(&p.d, s, c, pair_state(&p, row_a[p.of_a[c]], row_b[p.of_b[c]]));
    }
    mem_free(p.v);
    mem_free(p.slots);
    return draft_take(&p.d, e);
}

struct dfa *dfa_union(const struct dfa *a, const struct dfa *b, struct err *e)
{
    return both(a, b, PAIR_UNION, e);
}

struct dfa *dfa_meet(const struct dfa *a, const struct dfa *b, struct err *e)
{
    return both(a, b, PAIR_MEET, e);
}

struct dfa *dfa_minus(const struct dfa *a, const struct dfa *b, struct err *e)
{
    return both(a, b, PAIR_MINUS, e);
}

/* ---- one after the other ---- */

struct dfa *dfa_concat(const struct dfa *a, const struct dfa *b, struct err *e)
{
    struct nfa m = { 0 };
    uint32_t start = nfa_state(&m), mid = nfa_state(&m), final = nfa_state(&m);
    nfa_dfa(&m, start, a, mid);
    nfa_dfa(&m, mid, b, final);
    return nfa_take(&m, start, final, e);
}

struct dfa *dfa_repeat(const struct dfa *d, size_t min, size_t max, struct err *e)
{
    struct nfa m = { 0 };
    uint32_t start = nfa_state(&m), final = nfa_state(&m), at = start;
    size_t last = max == DFA_NO_MAX ? min : max;
    for (size_t i = 0; i < last && min <= max && !m.trouble; i++) {
        uint32_t next = nfa_state(&m);
        if (i >= min)
            nfa_edge(&m, NFA_EMPTY, at, final);
        nfa_dfa(&m, at, d, next);
        at = next;
    }
    if (max == DFA_NO_MAX) {
        uint32_t loop = nfa_state(&m);
        nfa_edge(&m, NFA_EMPTY, at, loop);
        nfa_dfa(&m, loop, d, loop);
        at = loop;
    }
    if (min <= max)
        nfa_edge(&m, NFA_EMPTY, at, final);
    return nfa_take(&m, start, final, e);
}

/* ---- questions ---- */

bool dfa_is_empty(const struct dfa *d)
{
    return d->start == DFA_DEAD;
}

bool dfa_equal(const struct dfa *a, const struct dfa *b)
{
    return a->n_states == b->n_states && a->n_classes == b->n_classes && a->start == b->start &&
           memcmp(a->class_of, b->class_of, sizeof a->class_of) == 0 &&
           memcmp(a->next, b->next, (size_t)a->n_states * a->n_classes * sizeof *a->next) == 0 &&
           memcmp(a->accept, b->accept, a->n_states) == 0;
}

bool dfa_accepts(const struct dfa *d, struct str text)
{
    uint32_t s = d->start;
    for (size_t i = 0; i < text.n && s != DFA_DEAD; i++)
        s = dfa_step(d, s, (uint8_t)text.p[i]);
    return d->accept[s];
}

/* Rounds backwards from the accepting states; edges into a state are found by a sort by target. */
bool dfa_distances(const struct dfa *d, uint32_t *far)
{
    size_t n = d->n_states, k = d->n_classes, n_queue = 0;
    uint32_t *at = mem_zero(n + 2, sizeof *at), *from = mem_zero(n * k, sizeof *from);
    uint32_t *queue = mem_zero(n, sizeof *queue);
    bool good = at && from && queue;
    for (size_t i = 0; good && i < n * k; i++)
        at[d->next[i] + 2]++;
    for (size_t s = 2; good && s < n + 2; s++)
        at[s] += at[s - 1];
    for (size_t i = 0; good && i < n * k; i++)
        from[at[d->next[i] + 1]++] = (uint32_t)(i / k);
    for (uint32_t s = 0; good && s < n; s++) {
        far[s] = d->accept[s] ? 0 : DFA_FAR;
        if (d->accept[s])
            queue[n_queue++] = s;
    }
    for (size_t i = 0; good && i < n_queue; i++)
        for (uint32_t j = at[queue[i]]; j < at[queue[i] + 1]; j++)
            if (far[from[j]] == DFA_FAR) {
                far[from[j]] = far[queue[i]] + 1;
                queue[n_queue++] = from[j];
            }
    mem_free(at);
    mem_free(from);
    mem_free(queue);
    return good;
}
