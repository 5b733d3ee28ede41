/* A whole answer: reasoning, content, and where calls may stand. */
#include "runtime/text/output_grammar.h"

#include <string.h>

#include "runtime/text/dfa.h"
#include "runtime/text/output_grammar_priv.h"

/* ---- free text ------------------------------------------------------------------------------------ */

/* What opens the calls of a spelling, as far as the mask waits for it: a control token, else the marker's
 * first text without blanks. */
static bool trigger(const struct output_maker *m, const struct spelling *sp, struct gram_marker *out, size_t *n)
{
    const struct marker *k = sp->section_open.n ? &sp->section_open : &sp->call_open;
    *n = 0;
    if (sp->style == STYLE_CHANNEL) {
        *out = (struct gram_marker){ STR("to=functions."), false };
        return true;
    }
    while (*n < k->n && k->control[*n] == k->control[0] && !is_blank(k->p[*n]))
        ++*n;
    struct str text = { k->p, *n };
    if (k->n && k->control[0])
        while (text.n > 1) { /* the longest control token at its front */
            int32_t id = tokenizer_find(m->words, text);
            if (id != TOKEN_NONE && tokenizer_type(m->words, id) == TOKEN_CONTROL)
                break;
            text.n--;
        }
    *n = text.n;
    *out = (struct gram_marker){ text, k->control[0] };
    return text.n > 0;
}

/* Nothing opens a call but its brace: text that does not begin as one does. */
static uint32_t not_a_call(struct output_maker *m)
{
    struct err e = { 0 };
    struct dfa *any = dfa_length(0, DFA_NO_MAX, &e), *begin = any ? dfa_literal(STR("{\"name\""), &e) : NULL;
    struct dfa *call = begin ? dfa_concat(begin, any, &e) : NULL;
    struct dfa *other = call ? dfa_minus(any, call, &e) : NULL;
    uint32_t node = other ? gram_dfa(m->g, other) : gram_fail(m->g, e.code, "%s", e.text);
    dfa_destroy(any);
    dfa_destroy(begin);
    dfa_destroy(call);
    dfa_destroy(other);
    return node;
}

static bool bare(const struct spelling *sp)
{
    return !sp->section_open.n && !sp->call_open.n && sp->style != STYLE_CHANNEL;
}

static bool opens_by_brace(const struct output_format *f)
{
    const struct spelling *sp = &f->spelling[0];
    return f->n_spellings && bare(sp) && sp->style == STYLE_JSON && !sp->array && strcmp(sp->name_key, "name") == 0;
}

/* ---- calls ---------------------------------------------------------------------------------------- */

/* All calls of a spelling, from its first marker on without `skip` bytes of that. */
static uint32_t section(struct output_maker *m, const struct spelling *sp, size_t skip, bool many)
{
    if (!sp->section_open.n || sp->style == STYLE_CHANNEL)
        return calls_node(m, sp, skip, many);
    return gram_seq_of(m->g, marker_node(m, &sp->section_open, skip), calls_node(m, sp, 0, many));
}

/* What may follow each marker that opens calls; spellings can share one. */
static size_t openings(struct output_maker *m, struct gram_marker marker[SPELLINGS_MAX], uint32_t rest[SPELLINGS_MAX])
{
    size_t n = 0, skip;
    for (size_t i = 0; i < m->f->n_spellings; i++) {
        const struct spelling *sp = &m->f->spelling[i];
        size_t k = 0;
        if (!trigger(m, sp, &marker[n], &skip))
            continue;
        uint32_t calls = section(m, sp, skip, true);
        while (k < n && !str_eq(marker[k].text, marker[n].text))
            k++;
        rest[k] = k < n ? gram_alt_of(m->g, rest[k], calls) : calls;
        n += k == n;
    }
    return n;
}

/* Text as the model likes, and behind each marker that opens calls, calls. */
static uint32_t calls_where_it_likes(struct output_maker *m)
{
    struct gram_marker marker[SPELLINGS_MAX];
    uint32_t part[SPELLINGS_MAX];
    size_t n = openings(m, marker, part);
    if (!n)
        return gram_alt_of(m->g, gram_seq_of(m->g, m->blank, calls_node(m, &m->f->spelling[0], 0, true), m->blank),
                           not_a_call(m));
    for (size_t i = 0; i < n; i++)
        part[i] = gram_seq_of(m->g, gram_until(m->g, marker, n, i, GRAM_CONTROL), part[i]);
    return gram_seq_of(m->g, gram_repeat(m->g, gram_alt(m->g, part, n), 0, GRAM_MANY),
                       gram_text(m->g, marker, n, GRAM_CONTROL));
}

/* The first calls of an answer: some, and nothing else. */
static uint32_t calls_at_once(struct output_maker *m, size_t opened)
{
    const struct spelling *sp = &m->f->spelling[0];
    bool many = m->f->parallel && !m->b->named.n;
    if (sp->style == STYLE_CHANNEL)
        return gram_seq_of(m->g, gram_token(m->g, marker_str(&sp->section_open)),
                           gram_literal(m->g, STR("commentary to=functions.")), calls_node(m, sp, 0, false));
    return gram_seq_of(m->g, section(m, sp, opened, many), m->blank);
}

/* ---- content -------------------------------------------------------------------------------------- */

static uint32_t content(struct output_maker *m, size_t opened)
{
    const struct output_format *f = m->f;
    const struct spelling *sp = &f->spelling[0];
    if (f->n_spellings && sp->style == STYLE_CHANNEL)
        return gram_seq_of(m->g, gram_token(m->g, marker_str(&sp->section_open)), gram_literal(m->g, STR("final")),
                           gram_token(m->g, marker_str(&sp->name_end)), m->b->content);
    if (!f->content_open.n)
        return m->b->content;
    uint32_t open = marker_node(m, &f->content_open, opened), close = marker_node(m, &f->content_close, 0);
    uint32_t framed = gram_seq_of(m->g, open, m->blank, m->b->content, m->blank, gram_repeat(m->g, close, 0, 1));
    return opened ? framed : gram_alt_of(m->g, m->b->content, framed);
}

/* ---- reasoning -------------------------------------------------------------------------------------- */

static uint32_t analysis(struct output_maker *m)
{
    const struct spelling *sp = &m->f->spelling[0];
    struct gram_marker end = { marker_str(&sp->section_close), true };
    return gram_seq_of(m->g, gram_token(m->g, marker_str(&sp->section_open)), gram_literal(m->g, STR("analysis")),
                       gram_token(m->g, marker_str(&sp->name_end)), gram_until(m->g, &end, 1, 0, 0),
                       gram_token(m->g, marker_str(&sp->call_open)), gram_literal(m->g, STR("assistant")));
}

/* A thought to its end, opened by the prompt or by the model, which need not; then what follows. */
static uint32_t behind_thought(struct output_maker *m, uint32_t rest)
{
    const struct output_format *f = m->f;
    if (f->n_spellings && f->spelling[0].style == STYLE_CHANNEL)
        return gram_seq_of(m->g, gram_repeat(m->g, analysis(m), 0, 1), rest);
    if (!m->b->thinking || !f->think_open.n || !f->think_close.n)
        return rest;
    /* The marker's end alone is looked for: blanks or several tokens before it are part of the thought. */
    bool control = f->think_close.control[f->think_close.n - 1];
    struct gram_marker end = { marker_str(&f->think_close), control };
    uint32_t thought = gram_seq_of(m->g, gram_until(m->g, &end, 1, 0, 0), m->blank);
    uint32_t whole = gram_seq_of(m->g, thought, rest);
    bool bound = m->b->calls == OUTPUT_CALLS_MUST || m->b->content != GRAM_NONE;
    if (output_format_in_thought(f, m->b->prompt)) /* where nothing need follow, it may be cut off as well */
        return bound ? whole : gram_alt_of(m->g, whole, gram_text(m->g, &end, 1, 0));
    uint32_t opened = gram_seq_of(m->g, m->blank, marker_node(m, &f->think_open, 0), thought);
    return gram_seq_of(m->g, gram_repeat(m->g, opened, 0, 1), rest);
}

/* ---- the answer ------------------------------------------------------------------------------------- */

/* Bytes of the first marker that the prompt has said already. */
static size_t opened_by(const struct output_format *f, struct str prompt)
{
    const struct marker *k = &f->spelling[0].call_open;
    size_t n = f->opened && f->n_spellings ? (k->n < prompt.n ? k->n : prompt.n) : 0;
    while (n && memcmp(prompt.p + prompt.n - n, k->p, n) != 0)
        n--;
    return n;
}

bool output_binds(const struct output_format *f, const struct output_binding *b)
{
    if (b->calls == OUTPUT_CALLS_MUST || b->content != GRAM_NONE)
        return true;
    if (b->calls == OUTPUT_CALLS_NONE)
        return false;
    for (size_t i = 0; i < f->n_spellings; i++)
        if (!bare(&f->spelling[i]))
            return true;
    return opens_by_brace(f);
}

static uint32_t answer(struct output_maker *m)
{
    size_t opened = opened_by(m->f, m->b->prompt);
    if (m->b->calls == OUTPUT_CALLS_MUST)
        return behind_thought(m, calls_at_once(m, opened));
    if (m->b->content == GRAM_NONE)
        return behind_thought(m, calls_where_it_likes(m));
    uint32_t rest = content(m, opened);
    if (m->b->calls == OUTPUT_CALLS_FREE)
        rest = gram_alt_of(m->g, rest, calls_at_once(m, opened));
    return behind_thought(m, rest);
}

uint32_t output_grammar(struct gram *g, const struct output_format *f, const struct tokenizer *words,
                        const struct output_binding *b)
{
    static const struct gram_range blanks[] = { { '\n', '\n' }, { ' ', ' ' } };
    size_t n = json_array_size(b->tools);
    struct output_maker m = { .g = g, .f = f, .words = words, .b = b };
    if (b->calls != OUTPUT_CALLS_NONE && (!f->n_spellings || !n))
        return gram_fail(g, ERR_INVALID, "this model has no way of calling tools");
    m.blank = gram_repeat(g, gram_set(g, blanks, 2, false), 0, 2);
    m.arguments = mem_zero(n + 1, sizeof *m.arguments);
    m.list = mem_zero(n + 1, sizeof *m.list);
    uint32_t node = m.arguments && m.list ? answer(&m) : gram_fail(g, ERR_NO_MEMORY, "out of memory: tools");
    mem_free(m.arguments);
    mem_free(m.list);
    return node;
}
