#include "cli/term.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utf8proc.h>

#define CELLS_MAX ((size_t)64 << 20)

void term_init(struct term *t)
{
    const char *kind = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool dumb = !kind || strcmp(kind, "dumb") == 0;

    *t = (struct term){ .in_tty = isatty(STDIN_FILENO) == 1,
                        .out_tty = isatty(STDOUT_FILENO) == 1,
                        .err_tty = isatty(STDERR_FILENO) == 1 };
    t->colour = t->out_tty && t->err_tty && !dumb && !(no_colour && *no_colour);
}

const char *term_on(const struct term *t, enum term_style s)
{
    static const char *const codes[] = { "\033[0m", "\033[2m", "\033[1m", "\033[31m" };

    return t->colour ? codes[s] : "";
}

void term_progress(struct term *t, const char *fmt, ...)
{
    va_list args;

    if (!t->err_tty)
        return;
    fputs("\r\033[K", stderr);
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fflush(stderr);
    t->progress_shown = true;
}

void term_progress_end(struct term *t)
{
    if (t->progress_shown)
        fputs("\r\033[K", stderr);
    t->progress_shown = false;
}

static bool controls(uint32_t cp)
{
    return (cp < 0x20 && cp != '\n' && cp != '\t') || (cp >= 0x7f && cp < 0xa0);
}

void term_clean(struct buf *out, struct str s)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t cp = 0;

        n = utf8_step(s.p + i, s.n - i, &cp);
        if (n == 0 || controls(cp))
            buf_puts(out, "\xef\xbf\xbd");
        else
            buf_put(out, s.p + i, n);
        if (n == 0)
            n = 1;
    }
}

void term_write(const struct term *t, struct str s)
{
    struct buf clean;

    if (!t->out_tty) {
        fwrite(s.p, 1, s.n, stdout);
    } else {
        buf_init(&clean, 3 * s.n + 1);
        term_clean(&clean, s);
        fwrite(clean.p, 1, clean.n, stdout);
        buf_finish(&clean);
    }
    fflush(stdout);
}

size_t term_columns(struct str s)
{
    size_t columns = 0;

    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t cp = 0;

        n = utf8_step(s.p + i, s.n - i, &cp);
        if (n == 0) {
            n = 1;
            columns++;
        } else {
            int width = utf8proc_charwidth((utf8proc_int32_t)cp);
            columns += width > 0 ? (size_t)width : 0;
        }
    }
    return columns;
}

/* ---- tables ---------------------------------------------------------------------------------- */

void table_init(struct table *t, const char *const *heads, size_t n_columns)
{
    *t = (struct table){ .n_columns = n_columns };
    buf_init(&t->cells, CELLS_MAX);
    for (size_t i = 0; i < n_columns; i++)
        table_cell(t, "%s", heads[i]);
}

void table_cell(struct table *t, const char *fmt, ...)
{
    char small[512];
    va_list args;

    va_start(args, fmt);
    vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    term_clean(&t->cells, str_from(small));
    buf_putc(&t->cells, '\0');
    t->n_cells++;
}

static void column_widths(const struct table *t, size_t *widths)
{
    const char *cell = t->cells.p;

    for (size_t i = 0; i < t->n_cells; i++, cell += strlen(cell) + 1) {
        size_t width = term_columns(str_from(cell));
        if (width > widths[i % t->n_columns])
            widths[i % t->n_columns] = width;
    }
}

bool table_print(struct table *t)
{
    size_t widths[16] = { 0 };
    bool good = !t->cells.failed && t->n_columns <= 16;
    const char *cell = t->cells.p;

    if (good)
        column_widths(t, widths);
    for (size_t i = 0; good && i < t->n_cells; i++, cell += strlen(cell) + 1) {
        size_t column = i % t->n_columns;
        bool last = column + 1 == t->n_columns;
        size_t pad = last ? 0 : widths[column] + 4 - term_columns(str_from(cell));
        printf("%s%*s%s", cell, (int)pad, "", last ? "\n" : "");
    }
    buf_finish(&t->cells);
    return good;
}

/* ---- words ----------------------------------------------------------------------------------- */

const char *words_bytes(uint64_t bytes, char out[WORDS_SIZE])
{
    static const char *const units[] = { "B", "KB", "MB", "GB", "TB", "PB" };
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    snprintf(out, WORDS_SIZE, unit > 0 && value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return out;
}

const char *words_span(int64_t ns, char out[WORDS_SIZE])
{
    static const struct {
        double below, unit; /* in seconds */
        const char *one, *many;
    } rows[] = {
        { 1, 1, "Less than a second", NULL },
        { 2, 1, "1 second", NULL },
        { 60, 1, NULL, "seconds" },
        { 120, 60, "About a minute", NULL },
        { 3600, 60, NULL, "minutes" },
        { 5400, 3600, "About an hour", NULL },
        { 172800, 3600, NULL, "hours" },
        { 1209600, 86400, NULL, "days" },
        { 5184000, 604800, NULL, "weeks" },
        { 63072000, 2592000, NULL, "months" },
        { 1e18, 31536000, NULL, "years" },
    };
    double seconds = (double)(ns < 0 ? -ns : ns) / 1e9;
    size_t i = 0;

    while (i + 1 < sizeof rows / sizeof *rows && seconds >= rows[i].below)
        i++;
    if (rows[i].one)
        snprintf(out, WORDS_SIZE, "%s", rows[i].one);
    else
        snprintf(out, WORDS_SIZE, "%.0f %s", (double)(int64_t)(seconds / rows[i].unit + 0.5),
                 rows[i].many);
    return out;
}

/* `value` in units of 10^digits, without trailing zeros: 1500, 3 -> "1.5" */
static void put_decimal(struct buf *out, int64_t value, int digits)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%0*lld", digits + 1, (long long)value);
    int whole = n - digits;

    while (n > whole && text[n - 1] == '0')
        n--;
    buf_printf(out, "%.*s%s%.*s", whole, text, n > whole ? "." : "", n - whole, text + whole);
}

const char *words_duration(int64_t ns, char out[WORDS_SIZE])
{
    static const struct {
        int64_t below;
        int digits;
        const char *unit;
    } rows[] = { { 1000, 0, "ns" }, { 1000000, 3, "\xc2\xb5s" }, { 1000000000, 6, "ms" } };
    const int64_t minute = INT64_C(60000000000);
    struct buf text;
    size_t i = 0;

    buf_init(&text, WORDS_SIZE - 1);
    while (i < 3 && ns >= rows[i].below)
        i++;
    if (i == 3 && ns >= 60 * minute)
        buf_printf(&text, "%lldh", (long long)(ns / (60 * minute)));
    if (i == 3 && ns >= minute)
        buf_printf(&text, "%lldm", (long long)(ns / minute % 60));
    put_decimal(&text, i == 3 ? ns % minute : ns, i == 3 ? 9 : rows[i].digits);
    buf_puts(&text, i == 3 ? "s" : rows[i].unit);
    snprintf(out, WORDS_SIZE, "%s", text.p ? text.p : "");
    buf_finish(&text);
    return out;
}
