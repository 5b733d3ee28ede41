/* Free text until a marker: Aho & Corasick 1975 times the automaton of UTF-8 (RFC 3629). */
#include "runtime/text/grammar_auto.h"

#include <string.h>

#define MAX_MARKER_BYTES 4096 /* of all markers of a leaf */

enum { UTF8_STATES = 8, UTF8_NO = 8 };

struct utf8_row {
    uint8_t from, lo, hi, to;
};
/* 0: between characters; 1 to 3: so many bytes to come; 4 to 7: after E0, ED, F0, F4, whose next byte has bounds */
static const struct utf8_row utf8_rows[] = {
    { 0, 0x00, 0x7F, 0 }, { 0, 0xC2, 0xDF, 1 }, { 0, 0xE0, 0xE0, 4 }, { 0, 0xE1, 0xEC, 2 }, { 0, 0xED, 0xED, 5 },
    { 0, 0xEE, 0xEF, 2 }, { 0, 0xF0, 0xF0, 6 }, { 0, 0xF1, 0xF3, 3 }, { 0, 0xF4, 0xF4, 7 }, { 1, 0x80, 0xBF, 0 },
    { 2, 0x80, 0xBF, 1 }, { 3, 0x80, 0xBF, 2 }, { 4, 0xA0, 0xBF, 1 }, { 5, 0x80, 0x9F, 1 }, { 6, 0x90, 0xBF, 2 },
    { 7, 0x80, 0x8F, 2 },
};

static uint8_t utf8_next(uint8_t from, uint8_t byte)
{
    for (size_t i = 0; i < sizeof utf8_rows / sizeof *utf8_rows; i++)
        if (utf8_rows[i].from == from && utf8_rows[i].lo <= byte && byte <= utf8_rows[i].hi)
            return utf8_rows[i].to;
    return UTF8_NO;
}

/* What a marker that ends here does: ends the text, or must not come. A marker that is a token must not be spelled. */
enum outcome { GOES_ON, ENDS, FORBIDDEN };

struct matcher {
    const struct text_leaf *leaf;
    uint32_t *token;        /* [leaf->n] the token of a marker, or UINT32_MAX */
    uint32_t (*next)[256];  /* [n_nodes]; node 0 is the root */
    uint32_t *fail, *queue;
    uint8_t *outcome;
    size_t n_nodes;
};

static void matcher_finish(struct matcher *m)
{
    mem_free(m->token);
    mem_free(m->next);
    mem_free(m->fail);
    mem_free(m->queue);
    mem_free(m->outcome);
}

static void add_marker(struct matcher *m, size_t index)
{
    const struct str text = m->leaf->marker[index].text;
    uint32_t node = 0;
    for (size_t i = 0; i < text.n; i++) {
        uint32_t *next = &m->next[node][(uint8_t)text.p[i]];
        if (*next == 0)
            *next = (uint32_t)m->n_nodes++;
        node = *next;
    }
    const bool ends = index == m->leaf->which && m->token[index] == UINT32_MAX;
    if (m->outcome[node] != ENDS)
        m->outcome[node] = ends ? ENDS : FORBIDDEN;
}

/* Breadth first: what leads nowhere leads where the longest proper suffix leads. */
static void link_suffixes(struct matcher *m)
{
    size_t n = 0;
    for (unsigned c = 0; c < 256; c++)
        if (m->next[0][c])
            m->queue[n++] = m->next[0][c];
    for (size_t i = 0; i < n; i++) {
        const uint32_t node = m->queue[i], suffix = m->fail[node];
        if (m->outcome[suffix] == ENDS || m->outcome[node] == GOES_ON)
            m->outcome[node] = m->outcome[suffix];
        for (unsigned c = 0; c < 256; c++) {
            const uint32_t to = m->next[node][c];
            if (to) {
                m->fail[to] = m->next[suffix][c];
                m->queue[n++] = to;
            } else {
                m->next[node][c] = m->next[suffix][c];
            }
        }
    }
}

static enum err_code matcher_init(struct matcher *m, struct parts *b, const struct text_leaf *leaf)
{
    size_t bytes = 1;
    enum err_code code = ERR_OK;
    *m = (struct matcher){ .leaf = leaf, .n_nodes = 1 };
    for (size_t i = 0; i < leaf->n; i++)
        bytes += leaf->marker[i].text.n;
    if (bytes > MAX_MARKER_BYTES)
        return parts_fail(b, b->place, ERR_TOO_LARGE, "markers of more than 4095 bytes");
    m->token = mem_alloc((leaf->n + 1) * sizeof *m->token);
    m->next = mem_zero(bytes, sizeof *m->next);
    m->fail = mem_zero(bytes, sizeof *m->fail);
    m->queue = mem_zero(bytes, sizeof *m->queue);
    m->outcome = mem_zero(bytes, sizeof *m->outcome);
    if (!m->token || !m->next || !m->fail || !m->queue || !m->outcome)
        return err_no_memory(b->e, bytes * sizeof *m->next, "free text");
    for (size_t i = 0; !code && i < leaf->n; i++) {
        const struct token_leaf t = { .text = leaf->marker[i].text };
        m->token[i] = UINT32_MAX;
        if (leaf->marker[i].token)
            code = parts_find_token(b, &t, &m->token[i]);
        add_marker(m, i);
    }
    link_suffixes(m);
    return code;
}

/* ---- the product --------------------------------------------------------------------------- */

struct product {
    const struct parts *b;
    const struct matcher *m;
    struct automaton *a;
    uint32_t first;    /* state where a marker has ended; the others follow as they are met */
    uint32_t *index;   /* [n_nodes * UTF8_STATES] place in queue + 1, 0: not met */
    uint32_t *queue;   /* node * UTF8_STATES + state of UTF-8 */
    size_t n;
    struct arc *token; /* tokens that may come between characters; to: GOES_ON or ENDS */
    size_t n_tokens, cap_tokens;
};

static uint32_t meet(struct product *x, uint32_t node, uint8_t utf8)
{
    const uint32_t key = node * UTF8_STATES + utf8;
    if (!x->index[key]) {
        x->queue[x->n++] = key;
        x->index[key] = (uint32_t)x->n;
    }
    return x->first + x->index[key];
}

static enum outcome token_outcome(const struct product *x, uint32_t id)
{
    const struct text_leaf *leaf = x->m->leaf;
    bool marker = false;
    for (size_t i = 0; i < leaf->n; i++) {
        if (x->m->token[i] == id && i == leaf->which)
            return ENDS;
        marker |= x->m->token[i] == id;
    }
    if (marker || !(leaf->flags & GRAM_CONTROL) || vocab_is_eog(x->b->v, id) ||
        tokenizer_type(x->b->v->t, (int32_t)id) != TOKEN_CONTROL)
        return FORBIDDEN;
    return GOES_ON;
}

static bool list_tokens(struct product *x)
{
    for (uint32_t id = 0; id < x->b->v->n_tokens; id++) {
        const enum outcome o = token_outcome(x, id);
        struct arc *last = x->n_tokens ? &x->token[x->n_tokens - 1] : NULL;
        if (o == FORBIDDEN)
            continue;
        if (last && last->to == o && last->hi + 1 == SYM_TOKEN + id) {
            last->hi++;
            continue;
        }
        if (!mem_grow(&x->token, &x->cap_tokens, x->n_tokens + 1, sizeof *x->token, AUTO_MAX_ARCS))
            return false;
        x->token[x->n_tokens++] = (struct arc){ SYM_TOKEN + id, SYM_TOKEN + id, o };
    }
    return true;
}

static bool add_product_arcs(struct product *x, uint32_t node, uint8_t utf8)
{
    bool ok = true;
    for (unsigned c = 0; ok && c < 256; c++) {
        const uint8_t after = utf8_next(utf8, (uint8_t)c);
        const uint32_t to = x->m->next[node][c];
        if (after == UTF8_NO || x->m->outcome[to] == FORBIDDEN)
            continue;
        ok = automaton_add_arc(x->a, c, c, x->m->outcome[to] == ENDS ? x->first : meet(x, to, after));
    }
    for (size_t i = 0; ok && utf8 == 0 && i < x->n_tokens; i++)
        ok = automaton_add_arc(x->a, x->token[i].lo, x->token[i].hi,
                               x->token[i].to == ENDS ? x->first : meet(x, 0, 0));
    return ok;
}

enum err_code text_automaton(struct parts *b, uint32_t part, struct automaton *a)
{
    const struct text_leaf *leaf = b->g->node[b->part[part].node].u.text;
    const bool endless = leaf->which == leaf->n;
    struct matcher m;
    struct product x = { .b = b, .m = &m, .a = a, .first = (uint32_t)a->n_states };
    enum err_code code = matcher_init(&m, b, leaf);
    if (code)
        goto out;
    x.index = mem_zero(m.n_nodes * UTF8_STATES, sizeof *x.index);
    x.queue = mem_zero(m.n_nodes * UTF8_STATES, sizeof *x.queue);
    bool ok = x.index && x.queue && list_tokens(&x) && automaton_add_state(a, part, true) != AUTO_FAR;
    if (ok)
        (void)meet(&x, 0, 0);
    for (size_t i = 0; ok && i < x.n; i++) {
        const uint32_t node = x.queue[i] / UTF8_STATES;
        const uint8_t utf8 = x.queue[i] % UTF8_STATES;
        ok = automaton_add_state(a, part, endless && utf8 == 0) != AUTO_FAR && add_product_arcs(&x, node, utf8);
    }
    if (!ok)
        code = a->n_states + 1 >= AUTO_MAX_STATES || a->n_arcs + 1 >= AUTO_MAX_ARCS
                   ? parts_fail(b, b->place, ERR_TOO_LARGE, "the grammar is too large")
                   : err_no_memory(b->e, m.n_nodes * sizeof *m.next, "free text");
    b->part[part].first = x.first + 1;
    b->part[part].nullable = endless;
out:
    mem_free(x.index);
    mem_free(x.queue);
    mem_free(x.token);
    matcher_finish(&m);
    return code;
}
