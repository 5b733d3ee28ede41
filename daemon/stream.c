#include "daemon/stream.h"

#include <string.h>

/* Of each byte of raw: in text, the first of a control token, another of it. */
enum mark { MARK_TEXT, MARK_CONTROL, MARK_MORE };

enum err_code stream_init(struct stream *s, const struct stream_options *o, struct err *e)
{
    *s = (struct stream){ .o = *o };
    detokenizer_init(&s->detok, o->tokenizer, false, false);
    buf_init(&s->raw, STREAM_MAX_TEXT);
    buf_init(&s->marks, STREAM_MAX_TEXT);
    buf_init(&s->text, STREAM_MAX_TEXT);
    buf_init(&s->thinking, STREAM_MAX_TEXT);
    buf_init(&s->call_name, OUTPUT_MAX_CALL);
    buf_init(&s->call_id, OUTPUT_MAX_CALL);
    buf_init(&s->call_arguments, OUTPUT_MAX_CALL);
    return output_parser_create(o->format, &o->output, &s->parser, e);
}

void stream_finish(struct stream *s)
{
    output_parser_destroy(s->parser);
    buf_finish(&s->raw);
    buf_finish(&s->marks);
    buf_finish(&s->text);
    buf_finish(&s->thinking);
    buf_finish(&s->call_name);
    buf_finish(&s->call_id);
    buf_finish(&s->call_arguments);
    mem_free(s->calls);
    arena_finish(&s->call_texts);
    *s = (struct stream){ 0 };
}

void stream_taken(struct stream *s)
{
    buf_clear(&s->text);
    buf_clear(&s->thinking);
    s->n_calls = 0;
    arena_finish(&s->call_texts);
}

/* ---- calls ------------------------------------------------------------------------------------ */

/* "call_" and eight letters or digits, as Ollama's. */
static struct str make_id(struct stream *s)
{
    static const char set[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    char id[] = "call_........";
    uint64_t x = s->o.id_seed + (s->n_called + 1) * UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    x ^= x >> 31;
    for (size_t i = 5; i < sizeof id - 1; i++, x /= 36)
        id[i] = set[x % 36];
    return (struct str){ arena_strndup(&s->call_texts, id, sizeof id - 1), sizeof id - 1 };
}

static struct str keep(struct stream *s, const struct buf *b)
{
    return (struct str){ arena_strndup(&s->call_texts, b->n ? b->p : "", b->n), b->n };
}

/* JSON without blanks between its parts: a line of a stream holds no line end. */
static void squeeze(struct buf *json)
{
    bool text = false, escaped = false;
    size_t n = 0;
    for (size_t i = 0; i < json->n; i++) {
        char c = json->p[i];
        if (text || !strchr(" \t\r\n", c))
            json->p[n++] = c;
        text ^= c == '"' && !escaped;
        escaped = text && c == '\\' && !escaped;
    }
    json->n = n;
}

static enum err_code end_call(struct stream *s, struct err *e)
{
    bool whole = !s->call_name.failed && !s->call_id.failed && !s->call_arguments.failed;
    if (!whole || !mem_grow(&s->calls, &s->cap_calls, s->n_calls + 1, sizeof *s->calls, SIZE_MAX / 4))
        return err_no_memory(e, sizeof *s->calls, "a tool call");
    squeeze(&s->call_arguments);
    struct gen_tool_call c = {
        .id = s->call_id.n ? keep(s, &s->call_id) : make_id(s),
        .name = keep(s, &s->call_name),
        .arguments = keep(s, &s->call_arguments),
        .index = s->n_called++,
    };
    if (!c.id.p || !c.name.p || !c.arguments.p)
        return err_no_memory(e, s->call_arguments.n, "a tool call");
    s->calls[s->n_calls++] = c;
    return ERR_OK;
}

static void begin_call(struct stream *s, struct str name)
{
    buf_clear(&s->call_name);
    buf_clear(&s->call_id);
    buf_clear(&s->call_arguments);
    buf_put(&s->call_name, name.p, name.n);
}

/* ---- events of the parser ----------------------------------------------------------------------- */

static enum err_code take_event(struct stream *s, const struct output_event *ev, struct err *e)
{
    struct str text = output_event_text(s->parser, ev);
    switch (ev->kind) {
    case OUTPUT_REASONING:
        buf_put(&s->thinking, text.p, text.n);
        break;
    case OUTPUT_CONTENT:
        buf_put(&s->text, text.p, text.n);
        break;
    case OUTPUT_CALL_BEGIN:
        begin_call(s, text);
        break;
    case OUTPUT_CALL_ID:
        buf_put(&s->call_id, text.p, text.n);
        break;
    case OUTPUT_CALL_ARGUMENTS:
        buf_put(&s->call_arguments, text.p, text.n);
        break;
    case OUTPUT_CALL_END:
        return end_call(s, e);
    case OUTPUT_CALL_DROPPED:
        break; /* never went out */
    }
    return ERR_OK;
}

static enum err_code take_events(struct stream *s, struct err *e)
{
    size_t n;
    enum err_code c = ERR_OK;
    const struct output_event *ev = output_parser_events(s->parser, &n);
    for (size_t i = 0; i < n && !c; i++)
        c = take_event(s, &ev[i], e);
    output_parser_taken(s->parser);
    if (!c && (s->text.failed || s->thinking.failed))
        c = err_set(e, ERR_NO_MEMORY, "out of memory: the text of an answer");
    return c;
}

/* ---- stop strings ---------------------------------------------------------------------------------- */

/* Offset of `what` in b, or b->n. */
static size_t find(const struct buf *b, struct str what)
{
    const char *at = what.n && b->n ? memmem(b->p, b->n, what.p, what.n) : NULL;
    return at ? (size_t)(at - b->p) : b->n;
}

/* How many bytes at b's end could be the beginning of `what`. */
static size_t begun(const struct buf *b, struct str what)
{
    size_t n = what.n ? what.n - 1 : 0;
    if (n > b->n)
        n = b->n;
    while (n && memcmp(b->p + b->n - n, what.p, n) != 0)
        n--;
    return n;
}

static void drop_front(struct buf *b, size_t n)
{
    if (n) {
        memmove(b->p, b->p + n, b->n - n);
        b->n -= n;
        b->p[b->n] = '\0';
    }
}

/* How many bytes of raw are settled: no stop string can begin in them. */
static size_t settled(struct stream *s, bool end)
{
    size_t n = s->raw.n, hold = 0;
    for (size_t i = 0; i < s->o.n_stop; i++) {
        size_t at = find(&s->raw, s->o.stop[i]), could = begun(&s->raw, s->o.stop[i]);
        if (at < s->raw.n) {
            s->stopped = true;
            n = at < n ? at : n;
        }
        hold = could > hold ? could : hold;
    }
    if (s->stopped || end)
        return n;
    n -= hold;
    while (n && n < s->raw.n && s->marks.p[n] == MARK_MORE)
        n--; /* a control token goes out whole */
    return n;
}

/* The parser gets text and control tokens apart. */
static enum err_code let_out(struct stream *s, bool end, struct err *e)
{
    if (s->raw.failed || s->marks.failed)
        return err_set(e, ERR_NO_MEMORY, "out of memory: the text of an answer");
    size_t n = settled(s, end);
    enum err_code c = ERR_OK;
    for (size_t at = 0, to; at < n && !c; at = to) {
        bool control = s->marks.p[at] != MARK_TEXT;
        for (to = at + 1; to < n && s->marks.p[to] == (control ? MARK_MORE : MARK_TEXT);)
            to++;
        c = output_parser_feed(s->parser, (struct str){ s->raw.p + at, to - at }, control, e);
    }
    drop_front(&s->raw, s->stopped ? s->raw.n : n);
    drop_front(&s->marks, s->stopped ? s->marks.n : n);
    return c ? c : take_events(s, e);
}

static void mark(struct stream *s, enum mark first, enum mark more)
{
    for (enum mark m = first; !s->marks.failed && s->marks.n < s->raw.n; m = more)
        buf_putc(&s->marks, (char)m);
}

enum err_code stream_feed(struct stream *s, int32_t token, struct err *e)
{
    bool control = tokenizer_type(s->o.tokenizer, token) == TOKEN_CONTROL;
    struct str text = tokenizer_text(s->o.tokenizer, token);
    if (s->stopped)
        return ERR_OK;
    if (control)
        detokenizer_flush(&s->detok, &s->raw);
    enum err_code c = detokenizer_feed(&s->detok, token, &s->raw, e);
    if (c)
        return c;
    mark(s, MARK_TEXT, MARK_TEXT);
    if (control)
        buf_put(&s->raw, text.p, text.n);
    mark(s, MARK_CONTROL, MARK_MORE);
    return let_out(s, false, e);
}

enum err_code stream_end(struct stream *s, struct err *e)
{
    enum err_code c = ERR_OK;
    if (!s->stopped) {
        detokenizer_flush(&s->detok, &s->raw);
        mark(s, MARK_TEXT, MARK_TEXT);
        c = let_out(s, true, e);
    }
    if (!c)
        c = output_parser_end(s->parser, e);
    return c ? c : take_events(s, e);
}
