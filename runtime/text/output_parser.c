/* Text -> reasoning, content and the beginnings of calls; the queue of events. */
#include "runtime/text/output_parser_priv.h"

#include <string.h>

bool is_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

bool one_of(const char *set, char c)
{
    return c && strchr(set, c);
}

struct str str_trim(struct str s)
{
    while (s.n && is_blank(s.p[0]))
        s = (struct str){ s.p + 1, s.n - 1 };
    while (s.n && is_blank(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool str_holds(struct str text, struct str what)
{
    return what.n && text.n && memmem(text.p, text.n, what.p, what.n) != NULL;
}

struct str output_slice(const struct output_parser *p, size_t begin, size_t end)
{
    return (struct str){ p->in.p ? p->in.p + begin : "", end - begin };
}

/* ---- events -------------------------------------------------------------------------------- */

static bool is_text(enum output_event_kind k)
{
    return k == OUTPUT_REASONING || k == OUTPUT_CONTENT || k == OUTPUT_CALL_ARGUMENTS;
}

static void add_event(struct output_parser *p, enum output_event_kind kind, const char *text,
                      size_t n)
{
    size_t begin = p->text.n;
    struct output_event *last = p->n_events ? &p->event[p->n_events - 1] : NULL;
    buf_put(&p->text, text, n);
    if (last && last->kind == kind && is_text(kind) && last->call == p->n_calls) {
        last->end = p->text.n;
        return;
    }
    if (!mem_grow(&p->event, &p->cap_events, p->n_events + 1, sizeof *p->event,
                  SIZE_MAX / sizeof *p->event)) {
        p->failed = true;
        return;
    }
    p->event[p->n_events++] = (struct output_event){ kind, p->n_calls, begin, p->text.n };
}

/* The begun UTF-8 sequence at the end of a text waits here for its rest. */
static void take_carry(struct output_parser *p)
{
    struct output_event *last = p->n_events ? &p->event[p->n_events - 1] : NULL;
    if (!last || !is_text(last->kind) || !p->text.p)
        return;
    size_t n = last->end - last->begin, whole = utf8_complete(p->text.p + last->begin, n);
    p->n_carry = n - whole;
    memcpy(p->carry, p->text.p + last->begin + whole, p->n_carry);
    p->carry_kind = last->kind;
    p->text.n = last->end -= p->n_carry;
    if (last->end == last->begin)
        p->n_events--;
}

static void put_carry(struct output_parser *p)
{
    size_t n = p->n_carry;
    p->n_carry = 0;
    if (n)
        add_event(p, p->carry_kind, p->carry, n);
}

void output_emit(struct output_parser *p, enum output_event_kind kind, struct str text)
{
    if (!p->mute && (text.n || !is_text(kind)))
        add_event(p, kind, text.p ? text.p : "", text.n);
}

/* Without control tokens, and without what the prompt said. */
static void emit_text(struct output_parser *p, size_t begin, size_t end, bool whole)
{
    enum output_event_kind kind = p->in_thought ? OUTPUT_REASONING : OUTPUT_CONTENT;
    if (begin < p->silent)
        begin = p->silent < end ? p->silent : end;
    while (begin < end) {
        size_t to = begin;
        bool control = p->flags.p[begin];
        while (to < end && p->flags.p[to] == (char)control)
            to++;
        if (!control || whole)
            output_emit(p, kind, output_slice(p, begin, to));
        begin = to;
    }
}

void output_flush(struct output_parser *p, size_t to)
{
    emit_text(p, p->base, to, true);
    p->base = p->at = p->solid = to;
}

const struct output_event *output_parser_events(const struct output_parser *p, size_t *n)
{
    *n = p->n_events;
    return p->event;
}

struct str output_event_text(const struct output_parser *p, const struct output_event *e)
{
    return (struct str){ p->text.p ? p->text.p + e->begin : "", e->end - e->begin };
}

void output_parser_taken(struct output_parser *p)
{
    p->n_events = 0;
    buf_clear(&p->text);
}

/* ---- markers ------------------------------------------------------------------------------- */

/* Blanks that the marker does not have are passed between brackets only. */
static bool loose(char before, char c)
{
    return one_of(">]}", before) || one_of("<[{", c);
}

static enum match ran_out(const struct output_parser *p)
{
    return p->ended ? MATCH_NO : MATCH_MORE;
}

enum match match_at(const struct output_parser *p, size_t at, const struct marker *m, size_t *end)
{
    if (!m->n)
        return MATCH_NO;
    for (size_t i = 0; i < m->n;) {
        bool blank = is_blank(m->p[i]);
        while (i < m->n && is_blank(m->p[i]))
            i++;
        size_t from = at;
        if (blank || (i && loose(m->p[i - 1], m->p[i])))
            while (at < p->in.n && is_blank(p->in.p[at]) && at - from < BLANKS_MAX)
                at++;
        if (at == p->in.n)
            return ran_out(p);
        if (p->in.p[at] != m->p[i] || (m->control[i] && !p->flags.p[at]))
            return MATCH_NO;
        at++;
        i++;
    }
    *end = at;
    return MATCH_YES;
}

bool take_blanks(struct output_parser *p)
{
    while (p->at < p->in.n && is_blank(p->in.p[p->at]))
        p->at++;
    return p->at < p->in.n || p->ended;
}

enum match take_marker(struct output_parser *p, const struct marker *m)
{
    size_t end;
    if (!take_blanks(p))
        return MATCH_MORE;
    enum match got = match_at(p, p->at, m, &end);
    if (got == MATCH_YES)
        p->at = end;
    return got;
}

/* ---- text: reasoning and content ------------------------------------------------------------- */

/* Which markers count where. A control token counts anywhere; others only where they belong. */
static bool real(const struct marker *m)
{
    return m->n && m->control[0];
}

/* Tries a marker at p->at. MATCH_YES: in *end. Keeps MATCH_MORE in *more. */
bool output_meets(const struct output_parser *p, const struct marker *m, bool when, size_t *end,
                  bool *more)
{
    enum match got = when && m->n ? match_at(p, p->at, m, end) : MATCH_NO;
    *more |= got == MATCH_MORE;
    return got == MATCH_YES;
}

void output_turn(struct output_parser *p, size_t end, bool in_thought)
{
    p->in_thought = in_thought;
    p->fresh = p->skip_blanks = true;
    p->base = p->at = p->solid = end;
}

/* What begins at p->at may come to nothing: the blanks before it are content then. */
void output_mark(struct output_parser *p)
{
    if (p->skip_blanks)
        p->base = p->at;
}

static bool open_call(struct output_parser *p, bool *more)
{
    size_t end;
    for (size_t i = 0; p->tools && i < p->f->n_spellings; i++) {
        const struct spelling *sp = &p->f->spelling[i];
        const struct marker *open = &sp->section_open;
        bool thought = !p->in_thought || real(open->n ? open : &sp->call_open);
        bool section = output_meets(p, open, thought, &end, more);
        bool call = !section && output_meets(p, &sp->call_open, thought, &end, more);
        bool brace = !open->n && !sp->call_open.n && p->fresh && !p->in_thought &&
                     one_of(sp->array ? "[" : "{", p->in.p[p->at]);
        if (!section && !call && !brace)
            continue;
        output_mark(p);
        p->in_thought = false;
        p->in_section = false;
        p->stage = 0;
        p->sp = sp;
        if (call || (brace && !sp->array))
            call_start(p, sp, call ? end : p->at);
        else {
            p->at = brace ? p->at : end;
            p->phase = PHASE_SECTION;
        }
        return true;
    }
    return false;
}

/* Whether a marker begins at p->at and what it turns. */
static bool turn_here(struct output_parser *p, bool *more)
{
    const struct output_format *f = p->f;
    size_t end = 0;
    if (f->spelling[0].style == STYLE_CHANNEL)
        return channel_turn(p, more);
    bool think = p->thinking && f->reasoning, text = !p->in_thought;
    if (output_meets(p, &f->think_close, think && (p->in_thought || p->fresh), &end, more)) {
        output_turn(p, end, false);
        return true;
    }
    if (output_meets(p, &f->think_open, think && text && (p->fresh || real(&f->think_open)), &end, more)) {
        output_turn(p, end, true);
        return true;
    }
    bool opens = text && (p->fresh || real(&f->content_open));
    if (output_meets(p, &f->content_open, opens, &end, more)) {
        output_turn(p, end, false);
        p->in_frame = true;
        return true;
    }
    if (*more)
        return false; /* it could begin as a call does */
    bool closes = text && (p->in_frame || real(&f->content_close));
    if (output_meets(p, &f->content_close, closes, &end, more)) {
        output_turn(p, end, false);
        p->in_frame = false;
        return true;
    }
    return open_call(p, more);
}

/* [base, solid) is text, [solid, at) blanks that may turn out to be layout. */
static void put_text(struct output_parser *p, size_t to)
{
    if (to > p->base) {
        emit_text(p, p->base, to, false);
        p->base = to;
    }
}

static enum step step_text(struct output_parser *p)
{
    for (; p->at < p->in.n; p->at++) {
        char c = p->in.p[p->at];
        bool more = false;
        if (is_blank(c)) {
            if (p->at - p->solid >= BLANKS_MAX && !p->skip_blanks)
                p->solid++;
            continue;
        }
        if (p->first[(unsigned char)c]) {
            put_text(p, p->solid);
            if (turn_here(p, &more))
                return STEP_ON;
        }
        if (more && !p->ended)
            return STEP_MORE;
        if (p->skip_blanks)
            p->base = p->at;
        p->skip_blanks = p->fresh = false;
        p->solid = p->at + 1;
    }
    put_text(p, p->solid);
    if (p->skip_blanks)
        p->base = p->solid = p->at;
    if (p->ended && !p->in_thought && !p->f->trims_end)
        put_text(p, p->at);
    return STEP_MORE;
}

/* ---- feeding --------------------------------------------------------------------------------- */

static void run(struct output_parser *p)
{
    enum step s = STEP_ON;
    while (s == STEP_ON && !p->failed)
        switch (p->phase) {
        case PHASE_TEXT:
            s = step_text(p);
            break;
        case PHASE_SECTION:
            s = output_section(p);
            break;
        case PHASE_CALL:
            s = output_call(p);
            break;
        case PHASE_BETWEEN:
            s = output_between(p);
            break;
        }
}

/* Forgets in[0, base). Every offset into it moves along. */
static void drop_settled(struct output_parser *p)
{
    size_t n = p->base;
    if (!n)
        return;
    memmove(p->in.p, p->in.p + n, p->in.n - n);
    memmove(p->flags.p, p->flags.p + n, p->in.n - n);
    p->in.n = p->flags.n = p->in.n - n;
    size_t *const offset[] = { &p->base, &p->at, &p->solid, &p->silent, &p->mark, &p->key_begin,
                               &p->key_end, &p->args_begin, &p->args_end, &p->id_begin,
                               &p->id_end };
    for (size_t i = 0; i < sizeof offset / sizeof *offset; i++)
        *offset[i] -= *offset[i] < n ? *offset[i] : n;
}

static enum err_code result(struct output_parser *p, struct err *e)
{
    if (p->text.failed || p->text.n > OUTPUT_MAX_EVENTS)
        return err_set(e, ERR_TOO_LARGE, "over %zu bytes of output wait to be taken",
                       OUTPUT_MAX_EVENTS);
    if (p->failed || p->in.failed || p->flags.failed)
        return err_no_memory(e, p->in.n, "a model's output");
    return ERR_OK;
}

static void put_in(struct output_parser *p, struct str piece, bool control)
{
    buf_put(&p->in, piece.p ? piece.p : "", piece.n);
    for (size_t i = 0; i < piece.n; i++)
        buf_putc(&p->flags, control);
}

enum err_code output_parser_feed(struct output_parser *p, struct str piece, bool control,
                                 struct err *e)
{
    put_in(p, piece, control);
    if (!p->in.failed && !p->flags.failed) {
        put_carry(p);
        run(p);
        drop_settled(p);
        take_carry(p);
    }
    return result(p, e);
}

enum err_code output_parser_end(struct output_parser *p, struct err *e)
{
    put_carry(p);
    p->ended = true;
    run(p);
    return result(p, e);
}

/* ---- making one ------------------------------------------------------------------------------ */

static void may_begin(struct output_parser *p, const struct marker *m)
{
    if (m->n)
        p->first[(unsigned char)m->p[0]] = 1;
}

static void find_firsts(struct output_parser *p)
{
    const struct output_format *f = p->f;
    may_begin(p, &f->think_open);
    may_begin(p, &f->think_close);
    may_begin(p, &f->content_open);
    may_begin(p, &f->content_close);
    if (f->spelling[0].style == STYLE_CHANNEL)
        p->first['<'] = p->first['t'] = 1;
    for (size_t i = 0; p->tools && i < f->n_spellings; i++) {
        const struct spelling *sp = &f->spelling[i];
        may_begin(p, &sp->section_open);
        may_begin(p, &sp->call_open);
        if (!sp->section_open.n && !sp->call_open.n)
            p->first[sp->array ? '[' : '{'] = 1;
    }
}

/* Bytes at the prompt's end with which the marker begins. */
static size_t overlap(struct str prompt, const struct marker *m)
{
    size_t n = m->n < prompt.n ? m->n : prompt.n;
    while (n && memcmp(prompt.p + prompt.n - n, m->p, n) != 0)
        n--;
    return n;
}

/* What the prompt opened: a thought, or the first bytes of the marker of all that follows. */
static void seed(struct output_parser *p, struct str prompt)
{
    const struct output_format *f = p->f;
    if (p->thinking && output_format_in_thought(f, prompt)) {
        output_turn(p, 0, true);
        return;
    }
    size_t n = f->opened ? overlap(prompt, &f->spelling[0].call_open) : 0;
    if (n) {
        put_in(p, (struct str){ prompt.p + prompt.n - n, n }, true);
        p->silent = n;
    }
}

enum err_code output_parser_create(const struct output_format *f, const struct output_options *o,
                                   struct output_parser **out, struct err *e)
{
    struct output_parser *p = mem_zero(1, sizeof *p);
    *out = p;
    if (!p)
        return err_no_memory(e, sizeof *p, "a model's output");
    p->f = f;
    p->tools = f->tools && json_array_size(o->tools) ? o->tools : NULL;
    p->thinking = o->thinking;
    p->fresh = true;
    p->skip_blanks = f->skip_blanks;
    buf_init(&p->in, SIZE_MAX);
    buf_init(&p->flags, SIZE_MAX);
    buf_init(&p->args, SIZE_MAX);
    buf_init(&p->text, OUTPUT_MAX_EVENTS);
    find_firsts(p);
    seed(p, o->prompt);
    enum err_code c = ERR_OK;
    if (o->prefill.n) {
        p->mute = true;
        c = output_parser_feed(p, o->prefill, true, e);
        p->mute = false;
        p->n_calls = 0;
        p->silent = p->in.n;
    }
    if (c) {
        output_parser_destroy(p);
        *out = NULL;
    }
    return c;
}

void output_parser_destroy(struct output_parser *p)
{
    if (!p)
        return;
    buf_finish(&p->in);
    buf_finish(&p->flags);
    buf_finish(&p->args);
    buf_finish(&p->text);
    mem_free(p->event);
    mem_free(p);
}
