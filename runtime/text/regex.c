#include "runtime/text/regex.h"

#include "runtime/base/mem.h"
#include "runtime/text/regex_priv.h"

#define MAX_WIDE_SETS 64 /* sets beyond ASCII that become automata of their own */

/* ASCII sets are edges; for the others, a small automaton is made once and copied in. */
static bool make_sets(struct regex *x)
{
    size_t n_wide = 0;
    for (size_t i = 0; i < x->n_sets; i++) {
        struct regex_set *s = &x->sets[i];
        if (!s->r.n || s->r.v[s->r.n - 1] < 0x80)
            continue;
        if (s->r.n > 2 && ++n_wide > MAX_WIDE_SETS)
            return regex_fail(x, ERR_TOO_LARGE, 0, "more than %d classes beyond ASCII", MAX_WIDE_SETS);
        if (s->r.n > 2 && !(s->d = dfa_code_points(s->r.v, s->r.n / 2, x->e)))
            return false;
    }
    return true;
}

static void emit_set(const struct regex_set *s, struct nfa *m, uint32_t from, uint32_t to)
{
    if (s->d) {
        nfa_dfa(m, from, s->d, to);
        return;
    }
    for (size_t i = 0; i < s->r.n; i += 2)
        nfa_code_points(m, from, s->r.v[i], s->r.v[i + 1], to);
}

/* No edge of a part leads back to `from` or out of `to`, but in the loop of a repetition. */
static void emit(const struct regex *x, uint32_t node, struct nfa *m, uint32_t from, uint32_t to);

static void emit_repeat(const struct regex *x, const struct regex_node *v, struct nfa *m,
                        uint32_t from, uint32_t to)
{
    bool endless = v->max == UINT32_MAX;
    uint32_t copies = endless ? (v->min ? v->min - 1 : 0) : v->max, at = from;
    for (uint32_t i = 0; i < copies && !m->trouble; i++) {
        uint32_t next = nfa_state(m);
        if (i >= v->min)
            nfa_edge(m, NFA_EMPTY, at, to);
        emit(x, v->first, m, at, next);
        at = next;
    }
    if (endless) {
        uint32_t in = nfa_state(m), out = nfa_state(m);
        nfa_edge(m, NFA_EMPTY, at, in);
        if (!v->min)
            nfa_edge(m, NFA_EMPTY, at, out);
        emit(x, v->first, m, in, out);
        nfa_edge(m, NFA_EMPTY, out, in);
        at = out;
    }
    nfa_edge(m, NFA_EMPTY, at, to);
}

static void emit(const struct regex *x, uint32_t node, struct nfa *m, uint32_t from, uint32_t to)
{
    const struct regex_node *v = &x->v[node - 1];
    switch (v->kind) {
    case RX_SET:
        emit_set(&x->sets[v->set], m, from, to);
        break;
    case RX_BEGIN:
        nfa_edge(m, NFA_BEGIN, from, to);
        break;
    case RX_END:
        nfa_edge(m, NFA_END, from, to);
        break;
    case RX_REPEAT:
        emit_repeat(x, v, m, from, to);
        break;
    case RX_ALT:
        for (uint32_t i = v->first; i && !m->trouble; i = x->v[i - 1].next)
            emit(x, i, m, from, to);
        break;
    case RX_SEQ:
        for (uint32_t i = v->first; i && !m->trouble; i = x->v[i - 1].next) {
            uint32_t next = nfa_state(m);
            emit(x, i, m, from, next);
            from = next;
        }
        nfa_edge(m, NFA_EMPTY, from, to);
        break;
    }
}

/* Around a search, any bytes: what is not UTF-8 goes in the end. */
static struct dfa *search(struct nfa *m, uint32_t start, uint32_t final, struct err *e)
{
    nfa_bytes(m, start, 0, 255, start);
    nfa_bytes(m, final, 0, 255, final);
    struct dfa *bytes = nfa_take(m, start, final, e), *out = NULL;
    struct dfa *texts = bytes ? dfa_length(0, DFA_NO_MAX, e) : NULL;
    if (texts)
        out = dfa_meet(bytes, texts, e);
    dfa_destroy(bytes);
    dfa_destroy(texts);
    return out;
}

struct dfa *regex_dfa(struct str pattern, enum regex_mode mode, struct err *e)
{
    struct regex x = { .p = pattern, .e = e };
    struct nfa m = { 0 };
    struct dfa *out = NULL;
    uint32_t root = regex_parse(&x);
    if (root && make_sets(&x)) {
        uint32_t start = nfa_state(&m), body = nfa_state(&m), final = nfa_state(&m);
        nfa_edge(&m, NFA_EMPTY, start, body);
        emit(&x, root, &m, body, final);
        out = mode == REGEX_SEARCH ? search(&m, start, final, e) : nfa_take(&m, start, final, e);
    }
    for (size_t i = 0; i < x.n_sets; i++) {
        ranges_finish(&x.sets[i].r);
        dfa_destroy(x.sets[i].d);
    }
    mem_free(x.sets);
    mem_free(x.v);
    return out;
}
