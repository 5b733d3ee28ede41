#include "cli/bars.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define BARS_MAX 4096           /* more are not shown */
#define PAINT_NS INT64_C(50000000)
#define LINE_NS INT64_C(1000000000)
#define SAMPLE_NS INT64_C(500000000)
#define STALE_NS INT64_C(3000000000)

void bars_init(struct bars *b, const struct term *t)
{
    const char *kind = getenv("TERM");
    *b = (struct bars){ .tty = t->err_tty && kind && *kind && strcmp(kind, "dumb") != 0 };
}

/* ---- one bar ------------------------------------------------------------------------------------- */

static void put_label(struct buf *out, const struct bar *x, size_t width)
{
    (void)width;
    buf_puts(out, x->label);
}

static void put_percent(struct buf *out, const struct bar *x, size_t width)
{
    (void)width;
    /* 100 only when all of it is there */
    buf_printf(out, "%3d%%", x->total ? (int)(100.0 * (double)x->completed / (double)x->total) : 100);
}

static void put_blocks(struct buf *out, const struct bar *x, size_t width)
{
    size_t inner = width - 2;
    size_t full = x->total ? (size_t)((double)inner * (double)x->completed / (double)x->total) : inner;
    buf_puts(out, "\xe2\x96\x95");
    for (size_t i = 0; i < inner; i++)
        buf_puts(out, i < full ? "\xe2\x96\x88" : " ");
    buf_puts(out, "\xe2\x96\x8f");
}

static void put_bytes(struct buf *out, const struct bar *x, size_t width)
{
    char have[WORDS_SIZE], of[WORDS_SIZE], both[2 * WORDS_SIZE];
    if (x->completed >= x->total)
        snprintf(both, sizeof both, "%s", words_bytes(x->total, of));
    else
        snprintf(both, sizeof both, "%s/%s", words_bytes(x->completed, have), words_bytes(x->total, of));
    buf_printf(out, "%*s", (int)width, both);
}

static bool moves(const struct bar *x)
{
    return x->completed < x->total && x->per_s >= 1;
}

static void put_speed(struct buf *out, const struct bar *x, size_t width)
{
    char speed[WORDS_SIZE], text[WORDS_SIZE + 4] = "";
    if (moves(x))
        snprintf(text, sizeof text, "%s/s", words_bytes((uint64_t)x->per_s, speed));
    buf_printf(out, "%*s", (int)width, text);
}

/* "32s", "4m05s", "2h10m" */
static void left_words(double seconds, char out[WORDS_SIZE])
{
    long s = seconds < 360000 ? (long)(seconds + 0.5) : 360000;
    if (s < 100)
        snprintf(out, WORDS_SIZE, "%lds left", s);
    else if (s < 6000)
        snprintf(out, WORDS_SIZE, "%ldm%02lds left", s / 60, s % 60);
    else
        snprintf(out, WORDS_SIZE, "%ldh%02ldm left", s / 3600, s / 60 % 60);
}

static void put_left(struct buf *out, const struct bar *x, size_t width)
{
    char text[WORDS_SIZE] = "";
    if (moves(x))
        left_words((double)(x->total - x->completed) / x->per_s, text);
    buf_printf(out, "%*s", (int)width, text);
}

/* From left to right; 0: as wide as it is. The one that `grows` takes what is left. A column is there where
 * the terminal has `from` columns. */
static const struct {
    size_t width, from;
    bool grows;
    void (*put)(struct buf *out, const struct bar *x, size_t width);
} columns[] = {
    { 0,  0,   false, put_label },
    { 4,  0,   false, put_percent },
    { 12, 100, true,  put_blocks },
    { 15, 44,  false, put_bytes },
    { 8,  56,  false, put_speed },
    { 11, 72,  false, put_left },
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

void bar_put(struct buf *out, const struct bar *x, size_t width)
{
    size_t used = term_columns(str_from(x->label)), grown = 0, start = out->n;
    if (!x->has_total || used + 6 > width) {
        size_t n = strlen(x->label);
        while (n && term_columns((struct str){ x->label, n }) > width)
            n--;
        buf_put(out, x->label, utf8_complete(x->label, n));
        return;
    }
    for (size_t i = 1; i < N_COLUMNS; i++)
        used += width >= columns[i].from ? columns[i].width + 1 : 0;
    if (width > used)
        grown = width - used;
    for (size_t i = 0; i < N_COLUMNS; i++) {
        if (width < columns[i].from)
            continue;
        if (out->n > start)
            buf_putc(out, ' ');
        columns[i].put(out, x, columns[i].width + (columns[i].grows ? grown : 0));
    }
}

/* ---- all of them --------------------------------------------------------------------------------- */

static void sample(struct bar *x, int64_t now_ns)
{
    if (!x->at_ns || x->completed < x->at) { /* what was there is no speed */
        x->at_ns = now_ns;
        x->at = x->completed;
    } else if (now_ns - x->at_ns >= SAMPLE_NS) {
        double per_s = (double)(x->completed - x->at) * 1e9 / (double)(now_ns - x->at_ns);
        x->per_s = x->per_s > 0 ? 0.6 * x->per_s + 0.4 * per_s : per_s;
        x->at_ns = now_ns;
        x->at = x->completed;
    }
}

static struct bar *bar_of(struct bars *b, const struct transfer_event *ev)
{
    for (size_t i = b->n; i-- > 0;) {
        struct bar *x = &b->bar[i];
        if (x->has_total == ev->has_total && str_is(ev->digest, x->digest) && str_is(ev->status, x->label))
            return ev->has_total || i + 1 == b->n ? x : NULL;
    }
    return NULL;
}

static struct bar *add_bar(struct bars *b, const struct transfer_event *ev)
{
    struct buf clean;
    if (!mem_grow(&b->bar, &b->cap, b->n + 1, sizeof *b->bar, BARS_MAX))
        return NULL;
    struct bar *x = &b->bar[b->n++];
    *x = (struct bar){ .has_total = ev->has_total };
    buf_init(&clean, BARS_LABEL_SIZE - 1);
    term_clean(&clean, ev->status);
    snprintf(x->label, sizeof x->label, "%s", clean.p ? clean.p : "");
    snprintf(x->digest, sizeof x->digest, "%.*s", (int)ev->digest.n, ev->digest.n ? ev->digest.p : "");
    buf_finish(&clean);
    return x;
}

void bars_put_sum(struct buf *out, const struct bars *b)
{
    struct bar sum = { .has_total = true };
    char have[WORDS_SIZE], of[WORDS_SIZE], speed[WORDS_SIZE], left[WORDS_SIZE];
    const struct bar *last = NULL;
    for (size_t i = 0; i < b->n; i++) {
        const struct bar *x = &b->bar[i];
        sum.completed += x->completed;
        sum.total += x->total;
        sum.per_s += moves(x) ? x->per_s : 0;
        last = x->has_total ? x : last;
    }
    if (!last)
        return;
    buf_printf(out, "%.*s: %s of %s (%d%%)", (int)strcspn(last->label, " :"), last->label, words_bytes(sum.completed, have),
               words_bytes(sum.total, of),
               sum.total ? (int)(100.0 * (double)sum.completed / (double)sum.total) : 100);
    if (!moves(&sum))
        return;
    left_words((double)(sum.total - sum.completed) / sum.per_s, left);
    buf_printf(out, ", %s/s, %s", words_bytes((uint64_t)sum.per_s, speed), left);
}

/* ---- on a terminal ------------------------------------------------------------------------------- */

static void window(size_t *width, size_t *height)
{
    struct winsize w = { 0 };
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0;
    *width = known && w.ws_col > 8 ? w.ws_col : 80;
    *height = known && w.ws_row > 2 ? w.ws_row : 24;
}

static bool settled(const struct bars *b, size_t i)
{
    const struct bar *x = &b->bar[i];
    return x->has_total ? x->completed >= x->total : i + 1 < b->n;
}

/* Lines that will not change any more scroll away; the others are repainted, as many as there is room
 * for. */
static void paint(struct bars *b)
{
    size_t width, height, lines = 0;
    struct buf out;
    window(&width, &height);
    buf_init(&out, 1 << 20);
    if (b->painted)
        buf_printf(&out, "\033[%zuA", b->painted);
    buf_puts(&out, "\r\033[J");
    for (; b->settled < b->n && settled(b, b->settled); b->settled++) {
        bar_put(&out, &b->bar[b->settled], width - 1);
        buf_putc(&out, '\n');
    }
    for (size_t i = b->settled; i < b->n && lines + 1 < height; i++, lines++) {
        bar_put(&out, &b->bar[i], width - 1);
        buf_putc(&out, '\n');
    }
    b->painted = lines;
    if (!out.failed && out.n)
        fwrite(out.p, 1, out.n, stderr);
    fflush(stderr);
    buf_finish(&out);
}

/* ---- without one --------------------------------------------------------------------------------- */

static void print_sum(struct bars *b, int64_t now_ns, bool at_its_end)
{
    struct buf out;
    buf_init(&out, BARS_LINE_SIZE);
    bars_put_sum(&out, b);
    if (out.n && !out.failed && !(at_its_end && str_is(buf_str(&out), b->line))) { /* nothing is said twice */
        fprintf(stderr, "%s\n", out.p);
        snprintf(b->line, sizeof b->line, "%s", out.p);
    }
    fflush(stderr);
    buf_finish(&out);
    b->line_ns = now_ns;
}

/* One line a second; the first tells at once how much there is. */
static void print_event(struct bars *b, const struct bar *x, bool is_new, int64_t now_ns)
{
    if (!x->has_total && is_new) {
        fprintf(stderr, "%s\n", x->label);
        fflush(stderr);
    } else if (x->has_total && (!b->line_ns || now_ns - b->line_ns >= LINE_NS)) {
        print_sum(b, now_ns, false);
    }
}

void bars_event(struct bars *b, const struct transfer_event *ev, int64_t now_ns)
{
    struct bar *x = bar_of(b, ev);
    bool is_new = !x;
    if (!x && !(x = add_bar(b, ev)))
        return;
    x->completed = ev->completed;
    x->total = ev->total;
    if (x->has_total)
        sample(x, now_ns);
    if (!b->tty)
        print_event(b, x, is_new, now_ns);
    else if (is_new || now_ns - b->painted_ns >= PAINT_NS || x->completed >= x->total) {
        paint(b);
        b->painted_ns = now_ns;
    }
}

void bars_idle(struct bars *b, int64_t now_ns)
{
    bool any = false;
    for (size_t i = 0; i < b->n; i++) {
        struct bar *x = &b->bar[i];
        if (x->has_total && x->completed < x->total && now_ns - x->at_ns >= STALE_NS)
            x->per_s = 0;
        any |= x->has_total && x->completed < x->total;
    }
    if (any && b->tty)
        paint(b);
    else if (any && now_ns - b->line_ns >= LINE_NS)
        print_sum(b, now_ns, false);
}

bool bars_arrived(const struct bars *b)
{
    bool any = false;
    for (size_t i = 0; i < b->n; i++)
        any |= b->bar[i].completed > 0;
    return any;
}

void bars_finish(struct bars *b)
{
    bool bytes = false;
    for (size_t i = 0; i < b->n; i++)
        bytes |= b->bar[i].has_total;
    if (b->tty && b->n)
        paint(b);
    else if (bytes)
        print_sum(b, 0, true);
    mem_free(b->bar);
    *b = (struct bars){ 0 };
}
