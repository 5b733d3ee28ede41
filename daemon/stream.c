#include "daemon/stream.h"

#include <string.h>

void stream_init(struct stream *s, const struct tokenizer *t, const struct str *stop, size_t n_stop,
                 bool thinking, bool in_thought)
{
    *s = (struct stream){
        .stop = stop,
        .n_stop = n_stop,
        .phase = in_thought ? STREAM_OPENED : thinking ? STREAM_START : STREAM_ANSWER,
    };
    detokenizer_init(&s->detok, t, false, false);
    buf_init(&s->raw, STREAM_MAX_TEXT);
    buf_init(&s->held, STREAM_MAX_TEXT);
    buf_init(&s->text, STREAM_MAX_TEXT);
    buf_init(&s->thinking, STREAM_MAX_TEXT);
}

void stream_finish(struct stream *s)
{
    buf_finish(&s->raw);
    buf_finish(&s->held);
    buf_finish(&s->text);
    buf_finish(&s->thinking);
}

void stream_taken(struct stream *s)
{
    buf_clear(&s->text);
    buf_clear(&s->thinking);
}

static void drop_front(struct buf *b, size_t n)
{
    if (n) {
        memmove(b->p, b->p + n, b->n - n);
        b->n -= n;
        b->p[b->n] = '\0';
    }
}

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

/* ---- thinking -------------------------------------------------------------------------------------- */

static const struct str open_tag = { "<think>", 7 }, close_tag = { "</think>", 8 };

static size_t blanks(const struct buf *b)
{
    size_t n = 0;
    while (n < b->n && strchr(" \t\r\n", b->p[n]))
        n++;
    return n;
}

/* Each phase takes what it can of `held` and says whether there may be more to do. */
static bool sort_start(struct stream *s, bool end)
{
    size_t n = blanks(&s->held);
    struct str rest = { s->held.n ? s->held.p + n : "", s->held.n - n };
    if (str_starts(rest, open_tag)) {
        drop_front(&s->held, n + open_tag.n);
        s->phase = STREAM_OPENED;
        return true;
    }
    bool maybe = rest.n < open_tag.n && memcmp(rest.p, open_tag.p, rest.n) == 0;
    if (maybe && !end)
        return false;
    s->phase = STREAM_ANSWER;
    return true;
}

static bool sort_thinking(struct stream *s, bool end)
{
    size_t at = find(&s->held, close_tag);
    bool closed = at < s->held.n;
    size_t n = closed || end ? at : s->held.n - begun(&s->held, close_tag);
    buf_put(&s->thinking, s->held.p ? s->held.p : "", n);
    drop_front(&s->held, n + (closed ? close_tag.n : 0));
    if (closed)
        s->phase = STREAM_AFTER;
    return closed;
}

static bool sort_blanks(struct stream *s, enum stream_phase next)
{
    drop_front(&s->held, blanks(&s->held));
    if (!s->held.n)
        return false;
    s->phase = next;
    return true;
}

static void sort_out(struct stream *s, bool end)
{
    bool more = true;
    while (more)
        switch (s->phase) {
        case STREAM_START:
            more = sort_start(s, end);
            break;
        case STREAM_OPENED:
            more = sort_blanks(s, STREAM_THINKING);
            break;
        case STREAM_THINKING:
            more = sort_thinking(s, end);
            break;
        case STREAM_AFTER:
            more = sort_blanks(s, STREAM_ANSWER);
            break;
        case STREAM_ANSWER:
            buf_put(&s->text, s->held.p ? s->held.p : "", s->held.n);
            buf_clear(&s->held);
            more = false;
            break;
        }
}

/* ---- stop strings ---------------------------------------------------------------------------------- */

static void let_out(struct stream *s, bool end)
{
    size_t n = s->raw.n, hold = 0;
    for (size_t i = 0; i < s->n_stop; i++) {
        size_t at = find(&s->raw, s->stop[i]), could = begun(&s->raw, s->stop[i]);
        if (at < s->raw.n) {
            s->stopped = true;
            n = at < n ? at : n;
        }
        hold = could > hold ? could : hold;
    }
    if (!s->stopped && !end)
        n -= hold;
    buf_put(&s->held, s->raw.p ? s->raw.p : "", n);
    drop_front(&s->raw, s->stopped ? s->raw.n : n);
    sort_out(s, end || s->stopped);
}

static enum err_code result(const struct stream *s, struct err *e)
{
    if (s->raw.failed || s->held.failed || s->text.failed || s->thinking.failed)
        return err_set(e, ERR_NO_MEMORY, "out of memory: the text of an answer");
    return ERR_OK;
}

enum err_code stream_feed(struct stream *s, int32_t token, struct err *e)
{
    if (s->stopped)
        return ERR_OK;
    enum err_code c = detokenizer_feed(&s->detok, token, &s->raw, e);
    if (c)
        return c;
    let_out(s, false);
    return result(s, e);
}

enum err_code stream_end(struct stream *s, struct err *e)
{
    if (!s->stopped) {
        detokenizer_flush(&s->detok, &s->raw);
        let_out(s, true);
    } else {
        sort_out(s, true);
    }
    return result(s, e);
}
