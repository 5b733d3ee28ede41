/* The line editor: a table from what keys send to what they do. Sequences are those of ECMA-48 and
 * xterm ("XTerm Control Sequences": cursor keys, 200~ and 201~ around pasted text). */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <utf8proc.h>

#include "cli/line_priv.h"

#define CONTINUATION "... "
#define ESCAPE_MS 50 /* a lone Esc is not followed by more within that */

enum outcome { GOING, ACCEPTED, ENDED };

struct editor {
    struct line *line;
    const char *prompt;
    struct buf text;
    size_t cursor;     /* byte offset into text */
    size_t row;        /* of the cursor below the prompt's, as it was drawn */
    size_t width;      /* columns of the terminal */
    size_t history;    /* which line is shown; n_history: the one being typed */
    struct buf typed;  /* that one, while another is shown */
    bool pasting;
    bool stale;        /* what is drawn is not what is there */
};

/* ---- drawing ----------------------------------------------------------------------------------- */

static size_t width_of(uint32_t cp)
{
    int w = utf8proc_charwidth((utf8proc_int32_t)cp);

    return w > 0 ? (size_t)w : 0;
}

struct place {
    size_t row, column;
};

/* Where the terminal's cursor stands after the prompt and `n` bytes of text. */
static struct place place_of(const struct editor *d, size_t n)
{
    struct place p = { 0, strlen(d->prompt) };

    for (size_t i = 0, step; i < n; i += step) {
        uint32_t cp = 0;
        step = utf8_step(d->text.p + i, d->text.n - i, &cp);
        step = step ? step : 1;
        if (cp == '\n') {
            p = (struct place){ p.row + 1, strlen(CONTINUATION) };
            continue;
        }
        if (p.column + width_of(cp) > d->width)
            p = (struct place){ p.row + 1, 0 };
        p.column += width_of(cp);
    }
    if (p.column >= d->width)
        p = (struct place){ p.row + 1, 0 };
    return p;
}

static void flush(struct buf *out)
{
    if (out->n > 0)
        fwrite(out->p, 1, out->n, stdout);
    fflush(stdout);
    buf_finish(out);
}

static void move_to(struct buf *out, struct place from, struct place to)
{
    if (from.row > to.row)
        buf_printf(out, "\033[%zuA", from.row - to.row);
    else if (to.row > from.row)
        buf_printf(out, "\033[%zuB", to.row - from.row);
    buf_putc(out, '\r');
    if (to.column > 0)
        buf_printf(out, "\033[%zuC", to.column);
}

static void draw(struct editor *d)
{
    struct place end = place_of(d, d->text.n), cursor = place_of(d, d->cursor);
    struct buf out;

    buf_init(&out, 2 * LINE_MAX_AHEAD);
    move_to(&out, (struct place){ d->row, 0 }, (struct place){ 0, 0 });
    buf_printf(&out, "\033[J%s", d->prompt);
    for (size_t i = 0; i < d->text.n; i++) {
        buf_putc(&out, d->text.p[i]);
        if (d->text.p[i] == '\n')
            buf_puts(&out, CONTINUATION);
    }
    if (end.column == 0 && end.row > 0)
        buf_puts(&out, " \r"); /* the terminal wraps only when something follows */
    move_to(&out, end, cursor);
    flush(&out);
    d->row = cursor.row;
    d->stale = false;
}

/* ---- text ---------------------------------------------------------------------------------------- */

static void put_text(struct editor *d, const char *s, size_t n)
{
    size_t tail = d->text.n - d->cursor;

    buf_put(&d->text, s, n);
    if (d->text.failed)
        return;
    memmove(d->text.p + d->cursor + n, d->text.p + d->cursor, tail);
    memcpy(d->text.p + d->cursor, s, n);
    d->cursor += n;
}

static void cut(struct editor *d, size_t from, size_t to)
{
    if (from == to)
        return;
    memmove(d->text.p + from, d->text.p + to, d->text.n - to);
    d->text.n -= to - from;
    d->text.p[d->text.n] = '\0';
    d->cursor = from;
    d->stale = true;
}

static bool joins(const struct editor *d, size_t at) /* not the beginning of a character */
{
    return at < d->text.n && ((unsigned char)d->text.p[at] & 0xc0) == 0x80;
}

static size_t before(const struct editor *d, size_t at)
{
    if (at > 0)
        at--;
    while (at > 0 && joins(d, at))
        at--;
    return at;
}

static size_t after(const struct editor *d, size_t at)
{
    if (at < d->text.n)
        at++;
    while (joins(d, at))
        at++;
    return at;
}

static bool blank(const struct editor *d, size_t at)
{
    return d->text.p[at] == ' ' || d->text.p[at] == '\n';
}

static size_t word_before(const struct editor *d, size_t at)
{
    while (at > 0 && blank(d, at - 1))
        at--;
    while (at > 0 && !blank(d, at - 1))
        at--;
    return at;
}

static size_t word_after(const struct editor *d, size_t at)
{
    while (at < d->text.n && blank(d, at))
        at++;
    while (at < d->text.n && !blank(d, at))
        at++;
    return at;
}

/* Text goes in at the cursor. At the end of a row that has room it is only printed. */
static void type(struct editor *d, const char *s, size_t n)
{
    bool plain = !d->stale && !d->pasting && d->cursor == d->text.n;

    put_text(d, s, n);
    if (!plain || place_of(d, d->cursor).row != d->row) {
        d->stale = true;
        return;
    }
    fwrite(s, 1, n, stdout);
    fflush(stdout);
}

/* ---- keys ---------------------------------------------------------------------------------------- */

typedef enum outcome key_run(struct editor *d);

static enum outcome go(struct editor *d, size_t at)
{
    d->stale |= d->cursor != at;
    d->cursor = at;
    return GOING;
}

static enum outcome key_home(struct editor *d)
{
    return go(d, 0);
}

static enum outcome key_end(struct editor *d)
{
    return go(d, d->text.n);
}

static enum outcome key_left(struct editor *d)
{
    return go(d, before(d, d->cursor));
}

static enum outcome key_right(struct editor *d)
{
    return go(d, after(d, d->cursor));
}

static enum outcome key_word_left(struct editor *d)
{
    return go(d, word_before(d, d->cursor));
}

static enum outcome key_word_right(struct editor *d)
{
    return go(d, word_after(d, d->cursor));
}

static enum outcome key_backspace(struct editor *d)
{
    cut(d, before(d, d->cursor), d->cursor);
    return GOING;
}

static enum outcome key_delete(struct editor *d)
{
    cut(d, d->cursor, after(d, d->cursor));
    return GOING;
}

static enum outcome key_cut_end(struct editor *d)
{
    cut(d, d->cursor, d->text.n);
    return GOING;
}

static enum outcome key_cut_start(struct editor *d)
{
    cut(d, 0, d->cursor);
    return GOING;
}

static enum outcome key_cut_word(struct editor *d)
{
    cut(d, word_before(d, d->cursor), d->cursor);
    return GOING;
}

static enum outcome key_end_of_input(struct editor *d)
{
    return d->text.n == 0 ? ENDED : key_delete(d);
}

static enum outcome key_enter(struct editor *d)
{
    (void)d;
    return ACCEPTED;
}

static enum outcome key_clear(struct editor *d)
{
    fputs("\033[H\033[2J", stdout);
    d->row = 0;
    d->stale = true;
    return GOING;
}

static enum outcome key_paste(struct editor *d)
{
    d->pasting = true;
    return GOING;
}

static enum outcome key_paste_end(struct editor *d)
{
    d->pasting = false;
    return GOING;
}

static void show_history(struct editor *d, size_t which)
{
    const struct line *l = d->line;

    if (which == d->history)
        return;
    if (d->history == l->n_history) {
        buf_clear(&d->typed);
        buf_put(&d->typed, d->text.n ? d->text.p : "", d->text.n);
    }
    buf_clear(&d->text);
    if (which < l->n_history)
        buf_puts(&d->text, l->history[which]);
    else
        buf_put(&d->text, d->typed.n ? d->typed.p : "", d->typed.n);
    d->history = which;
    d->cursor = d->text.n;
    d->stale = true;
}

static enum outcome key_up(struct editor *d)
{
    show_history(d, d->history > 0 ? d->history - 1 : 0);
    return GOING;
}

static enum outcome key_down(struct editor *d)
{
    show_history(d, d->history < d->line->n_history ? d->history + 1 : d->line->n_history);
    return GOING;
}

#define PASTE_END "\033[201~"
static const struct key {
    const char *sends;
    key_run *run;
} keys[] = {
    { "\n", key_enter },           { "\r", key_enter },
    { "\x01", key_home },          { "\033[H", key_home },
    { "\033OH", key_home },        { "\033[1~", key_home },
    { "\x05", key_end },           { "\033[F", key_end },
    { "\033OF", key_end },         { "\033[4~", key_end },
    { "\x02", key_left },          { "\033[D", key_left },
    { "\033OD", key_left },        { "\x06", key_right },
    { "\033[C", key_right },       { "\033OC", key_right },
    { "\033b", key_word_left },    { "\033[1;5D", key_word_left },
    { "\033f", key_word_right },   { "\033[1;5C", key_word_right },
    { "\x7f", key_backspace },     { "\x08", key_backspace },
    { "\033[3~", key_delete },     { "\x04", key_end_of_input },
    { "\x0b", key_cut_end },       { "\x15", key_cut_start },
    { "\x17", key_cut_word },      { "\x0c", key_clear },
    { "\x10", key_up },            { "\033[A", key_up },
    { "\033OA", key_up },          { "\x0e", key_down },
    { "\033[B", key_down },        { "\033OB", key_down },
    { "\033[200~", key_paste },    { PASTE_END, key_paste_end },
};

/* The key at the front of s. `partial`: there may be one when more has come. */
static const struct key *find_key(struct str s, bool pasting, bool *partial)
{
    *partial = false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct str sends = str_from(keys[i].sends);
        if (pasting && keys[i].run != key_paste_end)
            continue;
        if (str_starts(s, sends))
            return &keys[i];
        *partial |= str_starts(sends, s);
    }
    return NULL;
}

/* Length of a control sequence that no row knows: Esc [ parameters final, or Esc and a letter. */
static size_t unknown_sequence(struct str s)
{
    size_t n = 1;

    if (s.n > 1 && (s.p[1] == '[' || s.p[1] == 'O')) {
        n = 2;
        while (n < s.n && !(s.p[n] >= 0x40 && s.p[n] <= 0x7e))
            n++;
    }
    return n < s.n ? n + 1 : n;
}

/* Takes the text at the front of s, up to the next key, and leaves out control characters. Newlines
 * and tabs are text only in what was pasted. Bytes taken; 0: a character is not complete. */
static size_t take_text(struct editor *d, struct str s)
{
    size_t n = 0;
    struct buf run;

    buf_init(&run, s.n);
    while (n < s.n && s.p[n] != '\033') {
        uint32_t cp = 0;
        size_t step = utf8_step(s.p + n, s.n - n, &cp);
        bool control = step > 0 && (cp < 0x20 || cp == 0x7f);
        if (step == 0 && s.n - n < 4 && utf8_complete(s.p + n, s.n - n) == 0)
            break;
        if (control && !d->pasting && n > 0)
            break; /* may be a key */
        if (d->pasting && (cp == '\r' || cp == '\n'))
            buf_putc(&run, '\n');
        else if (d->pasting && cp == '\t')
            buf_putc(&run, ' ');
        else if (step > 0 && !control && !(cp >= 0x80 && cp < 0xa0))
            buf_put(&run, s.p + n, step);
        n += step ? step : 1;
        if (control && !d->pasting)
            break;
    }
    if (run.n > 0 && !run.failed)
        type(d, run.p, run.n);
    buf_finish(&run);
    return n;
}

/* Works off what was read. GOING: it wants more. */
static enum outcome work(struct editor *d, bool no_more)
{
    enum outcome outcome = GOING;

    while (outcome == GOING && d->line->ahead.n > 0) {
        struct str s = buf_str(&d->line->ahead);
        bool partial;
        const struct key *key = find_key(s, d->pasting, &partial);
        size_t n;

        if (!key && partial && !no_more)
            break;
        if (key) {
            n = strlen(key->sends);
            outcome = key->run(d);
        } else if (*s.p == '\0' && !d->pasting) {
            n = 1; /* what a Ctrl-D typed during the answer has become (Linux, n_tty) */
            outcome = key_end_of_input(d);
        } else if (*s.p == '\033' && !d->pasting) {
            n = unknown_sequence(s);
        } else if ((n = take_text(d, s)) == 0) {
            if (!no_more && *s.p != '\033')
                break;
            n = 1; /* what nothing completes */
        }
        line_drop(d->line, n);
    }
    if (d->stale && !d->pasting)
        draw(d);
    return outcome;
}

/* ---- the terminal ---------------------------------------------------------------------------------- */

/* Signals stay on, so that Ctrl-C comes as one; only suspending is off, for it would leave the
 * terminal like this. */
static void terminal_take(struct termios *old)
{
    struct termios raw;

    tcgetattr(STDIN_FILENO, old);
    raw = *old;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    raw.c_iflag &= ~(tcflag_t)IXON;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    raw.c_cc[VSUSP] = _POSIX_VDISABLE;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    fputs("\033[?2004h", stdout);
}

static void terminal_give_back(const struct termios *old)
{
    fputs("\033[?2004l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSADRAIN, old);
}

static size_t terminal_width(void)
{
    struct winsize size = { 0 };

    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20 ? size.ws_col : 80;
}

enum err_code line_edit(struct line *l, const char *prompt, struct buf *out, struct err *e)
{
    struct editor d = { .line = l, .prompt = prompt, .width = terminal_width(),
                        .history = l->n_history };
    struct termios old;
    enum outcome outcome = GOING;
    enum err_code code = ERR_OK;

    buf_init(&d.text, out->max);
    buf_init(&d.typed, out->max);
    terminal_take(&old);
    fputs(prompt, stdout);
    fflush(stdout);
    outcome = work(&d, false);
    while (code == ERR_OK && outcome == GOING) {
        bool waiting = l->ahead.n > 0;
        code = line_fill(l, waiting ? ESCAPE_MS : -1, e);
        if (code == ERR_TIMEOUT)
            code = ERR_OK;
        else
            waiting = false;
        if (code == ERR_OK)
            outcome = work(&d, waiting);
    }
    go(&d, d.text.n);
    if (d.stale)
        draw(&d);
    terminal_give_back(&old);
    fputs("\n", stdout);
    buf_put(out, d.text.n ? d.text.p : "", d.text.n);
    if (d.text.failed)
        code = err_set(e, ERR_TOO_LARGE, "a line is longer than %zu bytes", d.text.max);
    buf_finish(&d.text);
    buf_finish(&d.typed);
    return outcome == ENDED ? err_set(e, ERR_NOT_FOUND, "the input has ended") : code;
}
