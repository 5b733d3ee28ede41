#include "store/modelfile.h"

#include <stdint.h>
#include <string.h>

/* ---- the table ------------------------------------------------------------------------------- */

enum shape {
    SHAPE_TEXT,  /* any value, the empty one too */
    SHAPE_WORD,  /* a value that is not empty */
    SHAPE_NAMED, /* a name, then any value */
};

static const struct row {
    const char *name, *wants; /* what stands behind it, for sentences */
    enum shape shape;
} rows[MODELFILE_KINDS] = {
    [MODELFILE_FROM] = { "FROM", "a model's name or a path", SHAPE_WORD },
    [MODELFILE_PARAMETER] = { "PARAMETER", "a name and a value", SHAPE_NAMED },
    [MODELFILE_TEMPLATE] = { "TEMPLATE", "a text", SHAPE_TEXT },
    [MODELFILE_SYSTEM] = { "SYSTEM", "a text", SHAPE_TEXT },
    [MODELFILE_ADAPTER] = { "ADAPTER", "a path", SHAPE_WORD },
    [MODELFILE_DRAFT] = { "DRAFT", "a path", SHAPE_WORD },
    [MODELFILE_LICENSE] = { "LICENSE", "a text", SHAPE_TEXT },
    [MODELFILE_MESSAGE] = { "MESSAGE", "a role and a text", SHAPE_NAMED },
    [MODELFILE_RENDERER] = { "RENDERER", "a name", SHAPE_WORD },
    [MODELFILE_PARSER] = { "PARSER", "a name", SHAPE_WORD },
    [MODELFILE_REQUIRES] = { "REQUIRES", "a version", SHAPE_WORD },
};

const char *modelfile_name(enum modelfile_kind kind)
{
    return rows[kind].name;
}

/* ---- bytes -> clean UTF-8 -------------------------------------------------------------------- */

#define REPLACEMENT 0xFFFDU

static bool is_left_out(uint32_t c)
{
    return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || (c >= 0x7F && c <= 0x9F);
}

static void put_char(struct buf *out, uint32_t c)
{
    char bytes[4];
    if (!is_left_out(c))
        buf_put(out, bytes, utf8_put(c, bytes));
}

static void clean_utf8(struct str in, struct buf *out)
{
    for (size_t i = 0; i < in.n;) {
        uint32_t c = REPLACEMENT;
        size_t n = utf8_step(in.p + i, in.n - i, &c);
        put_char(out, c);
        i += n ? n : 1;
    }
}

static uint32_t unit_at(struct str in, size_t i, bool big)
{
    const unsigned char *p = (const unsigned char *)in.p + i;
    return big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static void clean_utf16(struct str in, bool big, struct buf *out)
{
    size_t i = 0;
    while (i + 1 < in.n) {
        uint32_t c = unit_at(in, i, big);
        i += 2;
        uint32_t low = (c & 0xFC00U) == 0xD800U && i + 1 < in.n ? unit_at(in, i, big) : 0;
        if ((low & 0xFC00U) == 0xDC00U) {
            c = 0x10000U + ((c & 0x3FFU) << 10 | (low & 0x3FFU));
            i += 2;
        }
        put_char(out, (c & 0xF800U) == 0xD800U ? REPLACEMENT : c);
    }
    if (i < in.n)
        put_char(out, REPLACEMENT);
}

static struct str without(struct str s, size_t n)
{
    return n ? (struct str){ s.p + n, s.n - n } : s; /* an empty one may be at NULL */
}

static enum err_code clean(struct str in, struct buf *out, struct err *e)
{
    if (in.n > MODELFILE_MAX_BYTES)
        return err_set(e, ERR_TOO_LARGE, "the Modelfile has %zu bytes; at most %zu are taken", in.n,
                       MODELFILE_MAX_BYTES);
    buf_init(out, 3 * MODELFILE_MAX_BYTES + 1); /* what a bad byte becomes is three bytes long */
    if (str_starts(in, STR("\xEF\xBB\xBF")))
        clean_utf8(without(in, 3), out);
    else if (str_starts(in, STR("\xFF\xFE")))
        clean_utf16(without(in, 2), false, out);
    else if (str_starts(in, STR("\xFE\xFF")))
        clean_utf16(without(in, 2), true, out);
    else if (in.n > 1 && !in.p[0] != !in.p[1])
        clean_utf16(in, !in.p[0], out);
    else
        clean_utf8(in, out);
    buf_put(out, "", 0);
    return out->failed ? err_no_memory(e, in.n, "a Modelfile") : ERR_OK;
}

/* ---- characters ------------------------------------------------------------------------------ */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_line_end(char c)
{
    return c == '\r' || c == '\n';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_letter(c) || is_digit(c) || c == '_';
}

/* Length of the white space that p begins with (Unicode's White_Space, and the zero-width two), or 0. */
static size_t space_at(const char *p, size_t n)
{
    static const struct {
        uint32_t first, last;
    } wide[] = { { 0xA0, 0xA0 },     { 0x1680, 0x1680 }, { 0x2000, 0x200B }, { 0x2028, 0x2029 },
                 { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 }, { 0xFEFF, 0xFEFF } };
    uint32_t c = 0;
    size_t step = utf8_step(p, n, &c);
    if (c < 0x80)
        return step && (is_blank(*p) || is_line_end(*p)) ? 1 : 0;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (c >= wide[i].first && c <= wide[i].last)
            return step;
    return 0;
}

/* Without white space at either end. */
static struct str trimmed(struct str s)
{
    size_t n, end = 0;
    while ((n = space_at(s.p, s.n)))
        s = without(s, n);
    for (size_t i = 0; i < s.n; i += n) {
        size_t space = space_at(s.p + i, s.n - i);
        n = space ? space : utf8_step(s.p + i, s.n - i, NULL);
        n = n ? n : 1;
        if (!space)
            end = i + n;
    }
    return (struct str){ s.p, end };
}

/* What a sentence shows of it: its first line, and not too much of that. */
static struct str shown(struct str s)
{
    size_t n = 0;
    while (n < s.n && n < 40 && !is_line_end(s.p[n]))
        n++;
    return (struct str){ s.p, n < s.n ? utf8_complete(s.p, n) : n };
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reader {
    const char *p, *end;
    size_t line;
    struct modelfile *out;
};

static void step_line_end(struct reader *r)
{
    r->p += r->p[0] == '\r' && r->p + 1 < r->end && r->p[1] == '\n' ? 2 : 1;
    r->line++;
}

static void skip_blanks(struct reader *r)
{
    while (r->p < r->end && is_blank(*r->p))
        r->p++;
}

static bool at_line_end(const struct reader *r)
{
    return r->p == r->end || is_line_end(*r->p);
}

static void skip_spaces(struct reader *r)
{
    size_t n;
    while (!at_line_end(r) && (n = space_at(r->p, (size_t)(r->end - r->p))))
        r->p += n;
}

static void skip_line(struct reader *r)
{
    while (!at_line_end(r))
        r->p++;
}

/* Past empty lines and comments. */
static void skip_to_command(struct reader *r)
{
    for (;;) {
        skip_spaces(r);
        if (r->p < r->end && *r->p == '#')
            skip_line(r);
        if (r->p == r->end || !is_line_end(*r->p))
            return;
        step_line_end(r);
    }
}

static struct str take(struct reader *r, bool (*of)(char c))
{
    const char *from = r->p;
    while (r->p < r->end && of(*r->p))
        r->p++;
    return (struct str){ from, (size_t)(r->p - from) };
}

static size_t quotes_at(struct str s)
{
    return str_starts(s, STR("\"\"\"")) ? 3 : str_starts(s, STR("\"")) ? 1 : 0;
}

/* To the first line whose text ends with as many quotes as the value began with: with none, to the end of this one. */
static bool read_quoted(struct reader *r, size_t quotes, struct str *value)
{
    const char *from = r->p, *last = r->p; /* behind the last character that is no white space */
    while (true) {
        if (at_line_end(r)) {
            size_t n = (size_t)(last - from);
            if (n >= 2 * quotes && memcmp(last - quotes, "\"\"\"", quotes) == 0) {
                *value = (struct str){ from + quotes, n - 2 * quotes };
                return true;
            }
            if (r->p == r->end)
                return false;
            step_line_end(r);
            continue;
        }
        size_t left = (size_t)(r->end - r->p), space = space_at(r->p, left);
        r->p += space ? space : utf8_step(r->p, left, NULL);
        last = space ? last : r->p;
    }
}

static enum err_code read_value(struct reader *r, struct modelfile_command *c, struct err *e)
{
    skip_spaces(r);
    size_t quotes = quotes_at((struct str){ r->p, (size_t)(r->end - r->p) });
    if (read_quoted(r, quotes, &c->value))
        return ERR_OK;
    return err_set(e, ERR_FORMAT,
                   "line %zu: the value of %s begins with %.*s and never ends: a line must end with %.*s",
                   c->line, rows[c->kind].name, (int)quotes, "\"\"\"", (int)quotes, "\"\"\"");
}

static enum err_code unknown_command(const struct reader *r, struct str word, struct err *e)
{
    struct buf all;
    buf_init(&all, 256);
    for (size_t i = 0; i < MODELFILE_KINDS; i++)
        buf_printf(&all, "%s%s", i == 0 ? "" : i + 1 < MODELFILE_KINDS ? ", " : " or ", rows[i].name);
    word = shown(word);
    enum err_code c = err_set(e, ERR_FORMAT, "line %zu: '%.*s' is not a command: expected %s", r->line,
                              (int)word.n, word.p,
                              all.failed ? "FROM, PARAMETER, ..." : all.p);
    buf_finish(&all);
    return c;
}

static struct str rest_of_word(const struct reader *r, struct str word)
{
    const char *p = r->p;
    while (p < r->end && !is_blank(*p) && !is_line_end(*p))
        p++;
    return (struct str){ word.p, (size_t)(p - word.p) };
}

static enum err_code read_kind(struct reader *r, struct modelfile_command *c, struct err *e)
{
    struct str word = take(r, is_letter);
    size_t k = 0;
    while (k < MODELFILE_KINDS && !str_ieq(word, str_from(rows[k].name)))
        k++;
    if (k == MODELFILE_KINDS || (!at_line_end(r) && !is_blank(*r->p)))
        return unknown_command(r, rest_of_word(r, word), e);
    c->kind = (enum modelfile_kind)k;
    skip_blanks(r);
    return ERR_OK;
}

static enum err_code wants(const struct modelfile_command *c, struct err *e)
{
    return err_set(e, ERR_FORMAT, "line %zu: %s needs %s", c->line, rows[c->kind].name,
                   rows[c->kind].wants);
}

static enum err_code read_name(struct reader *r, struct modelfile_command *c, struct err *e)
{
    c->name = take(r, is_name_char);
    if (at_line_end(r) || !is_blank(*r->p))
        return wants(c, e);
    if (c->kind != MODELFILE_MESSAGE || str_is(c->name, "system") || str_is(c->name, "user") ||
        str_is(c->name, "assistant"))
        return ERR_OK;
    struct str role = shown(c->name);
    return err_set(e, ERR_FORMAT, "line %zu: the role of a MESSAGE is system, user or assistant, not '%.*s'",
                   c->line, (int)role.n, role.p);
}

static enum err_code check_version(struct modelfile_command *c, struct err *e)
{
    struct str found = shown(c->value);
    if (!modelfile_version(c->value))
        return err_set(e, ERR_FORMAT, "line %zu: REQUIRES needs a version such as 0.14.0, not '%.*s'", c->line,
                       (int)found.n, found.p);
    if (c->value.p[0] == 'v')
        c->value = without(c->value, 1);
    return ERR_OK;
}

static enum err_code read_command(struct reader *r, struct modelfile_command *c, struct err *e)
{
    enum err_code code = read_kind(r, c, e);
    if (!code && rows[c->kind].shape == SHAPE_NAMED)
        code = read_name(r, c, e);
    if (!code)
        code = read_value(r, c, e);
    if (!code && rows[c->kind].shape == SHAPE_WORD && !c->value.n)
        code = wants(c, e);
    if (!code && c->kind == MODELFILE_REQUIRES)
        code = check_version(c, e);
    return code;
}

static enum err_code add(struct modelfile *m, const struct modelfile_command *c, struct err *e)
{
    if (m->n == MODELFILE_MAX_COMMANDS)
        return err_set(e, ERR_TOO_LARGE, "line %zu: the Modelfile has more than %d commands", c->line,
                       MODELFILE_MAX_COMMANDS);
    if (!mem_grow(&m->commands, &m->cap, m->n + 1, sizeof *m->commands, MODELFILE_MAX_COMMANDS))
        return err_no_memory(e, (m->n + 1) * sizeof *m->commands, "a Modelfile");
    m->commands[m->n++] = *c;
    return ERR_OK;
}

static enum err_code read_all(struct reader *r, struct err *e)
{
    enum err_code code = ERR_OK;
    for (skip_to_command(r); !code && r->p < r->end; skip_to_command(r)) {
        struct modelfile_command c = { .line = r->line };
        code = read_command(r, &c, e);
        if (!code)
            code = add(r->out, &c, e);
    }
    if (!code && !modelfile_last(r->out, MODELFILE_FROM))
        code = err_set(e, ERR_FORMAT, "the Modelfile has no FROM: it says which model or file to begin with");
    return code;
}

/* Every value is given its NUL: what stands behind one is a quote or the end of its line. */
static void terminate(struct modelfile *m)
{
    for (size_t i = 0; i < m->n; i++)
        m->text.p[m->commands[i].value.p + m->commands[i].value.n - m->text.p] = '\0';
}

enum err_code modelfile_parse(struct str bytes, struct modelfile *out, struct err *e)
{
    *out = (struct modelfile){ 0 };
    enum err_code code = clean(bytes, &out->text, e);
    if (!code) {
        struct reader r = { out->text.p, out->text.p + out->text.n, 1, out };
        code = read_all(&r, e);
    }
    if (code)
        modelfile_finish(out);
    else
        terminate(out);
    return code;
}

void modelfile_finish(struct modelfile *m)
{
    buf_finish(&m->text);
    mem_free(m->commands);
    *m = (struct modelfile){ 0 };
}

const struct modelfile_command *modelfile_last(const struct modelfile *m, enum modelfile_kind kind)
{
    for (size_t i = m->n; i-- > 0;)
        if (m->commands[i].kind == kind)
            return &m->commands[i];
    return NULL;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Whether a line of s, white space behind it left out, ends with three quotes. */
static bool closes_early(struct str s)
{
    while (s.n) {
        const char *end = memchr(s.p, '\n', s.n), *cr = memchr(s.p, '\r', s.n);
        end = cr && (!end || cr < end) ? cr : end;
        if (!end)
            return false; /* its end is the value's */
        if (str_ends(trimmed((struct str){ s.p, (size_t)(end - s.p) }), STR("\"\"\"")))
            return true;
        s = without(s, (size_t)(end - s.p) + 1);
    }
    return false;
}

static bool is_clean(struct str s)
{
    for (size_t i = 0, n; i < s.n; i += n) {
        uint32_t c = 0;
        n = utf8_step(s.p + i, s.n - i, &c);
        if (!n || is_left_out(c))
            return false;
    }
    return true;
}

static const char *quotes_for(struct str s)
{
    bool bare = !quotes_at(s) && str_eq(trimmed(s), s) && !memchr(s.p ? s.p : "", '\n', s.n) &&
                !memchr(s.p ? s.p : "", '\r', s.n);
    return bare ? "" : memchr(s.p, '"', s.n) ? "\"\"\"" : "\"";
}

bool modelfile_put(struct buf *out, const struct modelfile_command *c)
{
    const char *quotes = quotes_for(c->value);
    buf_printf(out, "%s ", rows[c->kind].name);
    if (rows[c->kind].shape == SHAPE_NAMED) {
        buf_put(out, c->name.p, c->name.n);
        buf_putc(out, ' ');
    }
    buf_puts(out, quotes);
    buf_put(out, c->value.p, c->value.n);
    buf_puts(out, quotes);
    buf_putc(out, '\n');
    return is_clean(c->value) && !(*quotes && closes_early(c->value));
}

/* ---- versions -------------------------------------------------------------------------------- */

static bool is_identifier_char(char c)
{
    return is_letter(c) || is_digit(c) || c == '-';
}

/* A number without a leading zero. */
static bool take_number(struct str *s)
{
    size_t n = 0;
    while (n < s->n && is_digit(s->p[n]))
        n++;
    bool ok = n == 1 || (n > 1 && s->p[0] != '0');
    *s = without(*s, n);
    return ok;
}

/* Identifiers between dots; numbers among them without leading zeros where `strict`. */
static bool take_identifiers(struct str *s, bool strict)
{
    do {
        size_t n = 0;
        bool number = true;
        *s = without(*s, 1); /* the sign, or a dot */
        while (n < s->n && is_identifier_char(s->p[n])) {
            number = number && is_digit(s->p[n]);
            n++;
        }
        if (!n || (strict && number && n > 1 && s->p[0] == '0'))
            return false;
        *s = without(*s, n);
    } while (s->n && *s->p == '.');
    return true;
}

bool modelfile_version(struct str s)
{
    int numbers = 1;
    if (s.n && *s.p == 'v')
        s = without(s, 1);
    if (!take_number(&s))
        return false;
    while (numbers < 3 && s.n && *s.p == '.') {
        s = without(s, 1);
        if (!take_number(&s))
            return false;
        numbers++;
    }
    if (numbers == 3 && s.n && *s.p == '-' && !take_identifiers(&s, true))
        return false;
    if (numbers == 3 && s.n && *s.p == '+' && !take_identifiers(&s, false))
        return false;
    return s.n == 0;
}

/* Up to one of the ends; *s goes on behind it and its mark. */
static struct str cut_at(struct str *s, const char *ends)
{
    struct str part = { s->p, 0 };
    while (part.n < s->n && !strchr(ends, s->p[part.n]))
        part.n++;
    *s = without(*s, part.n);
    return part;
}

static int order_numbers(struct str a, struct str b)
{
    if (a.n != b.n) /* none has leading zeros */
        return a.n < b.n ? -1 : 1;
    return a.n ? memcmp(a.p, b.p, a.n) : 0;
}

static bool all_digits(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_digit(s.p[i]))
            return false;
    return true;
}

/* Numbers by value and before texts, texts by ASCII. */
static int order_identifiers(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    bool number = all_digits(a), other = all_digits(b);
    if (number && other)
        return order_numbers(a, b);
    if (number != other)
        return number ? -1 : 1;
    int order = memcmp(a.p, b.p, n);
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

/* Behind the dash; none at all comes last. */
static int order_prereleases(struct str a, struct str b)
{
    if (!a.n || !b.n)
        return (a.n == 0) - (b.n == 0);
    while (a.n && b.n) {
        a = without(a, 1);
        b = without(b, 1);
        int order = order_identifiers(cut_at(&a, ".+"), cut_at(&b, ".+"));
        if (order)
            return order;
    }
    return (a.n > 0) - (b.n > 0);
}

bool modelfile_version_newer(struct str a, struct str b)
{
    struct str *const both[] = { &a, &b };
    int order = 0;
    for (int i = 0; i < 2; i++) {
        struct str s = *both[i];
        if (s.n && *s.p == 'v')
            s = without(s, 1);
        s.n = cut_at(&(struct str){ s.p, s.n }, "+").n;
        *both[i] = s;
    }
    for (int i = 0; !order && i < 3; i++) {
        struct str number[2];
        for (int k = 0; k < 2; k++) {
            number[k] = cut_at(both[k], ".-");
            if (!number[k].n)
                number[k] = STR("0"); /* Go's short forms */
            if (both[k]->n && *both[k]->p == '.')
                *both[k] = without(*both[k], 1);
        }
        order = order_numbers(number[0], number[1]);
    }
    return (order ? order : order_prereleases(a, b)) > 0;
}
