#include "runtime/text/gbnf.h"

#include <string.h>

#include "runtime/base/mem.h"

struct nodes {
    uint32_t *v;
    size_t n, cap;
};

struct gbnf {
    struct gram *g;
    const char *text, *end, *p;
    const char *line; /* where the line of p begins */
    uint32_t line_no;
    int depth;
};

/* ---- characters ---------------------------------------------------------------------------- */

/* Errors from here on are at p. */
static void place(struct gbnf *x)
{
    uint32_t column = 1;
    for (const char *q = x->line; q < x->p; q++)
        column += ((unsigned char)*q & 0xC0) != 0x80;
    gram_place(x->g, "grammar, line %u, column %u", x->line_no, column);
}

static uint32_t fail(struct gbnf *x, const char *what)
{
    place(x);
    if (x->p >= x->end)
        return gram_fail(x->g, ERR_INVALID, "%s; the text ends here", what);
    const size_t n = utf8_step(x->p, (size_t)(x->end - x->p), NULL);
    if (*x->p == '\n' || *x->p == '\r')
        return gram_fail(x->g, ERR_INVALID, "%s; the line ends here", what);
    return gram_fail(x->g, ERR_INVALID, "%s, found '%.*s'", what, (int)n, x->p);
}

static char peek(const struct gbnf *x)
{
    return x->p < x->end ? *x->p : '\0';
}

static bool at_end(const struct gbnf *x)
{
    return x->p >= x->end || gram_failed(x->g);
}

static bool take(struct gbnf *x, char c)
{
    if (x->p >= x->end || *x->p != c)
        return false;
    x->p++;
    return true;
}

/* Over blanks and comments, and line ends if they mean nothing here. */
static void skip(struct gbnf *x, bool lines)
{
    while (x->p < x->end) {
        if (*x->p == '#') {
            const char *q = memchr(x->p, '\n', (size_t)(x->end - x->p));
            x->p = q ? q : x->end;
        } else if (*x->p == ' ' || *x->p == '\t' || (*x->p == '\r' && lines)) {
            x->p++;
        } else if (*x->p == '\n' && lines) {
            x->line = ++x->p;
            x->line_no++;
        } else {
            return;
        }
    }
}

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static struct str take_word(struct gbnf *x)
{
    const char *begin = x->p;
    while (x->p < x->end && is_word(*x->p))
        x->p++;
    return (struct str){ begin, (size_t)(x->p - begin) };
}

static uint32_t take_hex(struct gbnf *x, int digits)
{
    uint32_t c = 0;
    for (int i = 0; i < digits; i++) {
        const char d = peek(x);
        const int v = d >= '0' && d <= '9' ? d - '0' : d >= 'a' && d <= 'f' ? d - 'a' + 10 : d >= 'A' && d <= 'F' ? d - 'A' + 10 : -1;
        if (v < 0)
            return fail(x, "a hexadecimal digit is wanted");
        c = c << 4 | (uint32_t)v;
        x->p++;
    }
    return c;
}

/* One character of a text or a class, escapes resolved. */
static uint32_t take_character(struct gbnf *x)
{
    static const char plain[] = "\\\"[]-^", control[] = "nrt", value[] = "\n\r\t";
    uint32_t c = 0;
    if (x->p >= x->end || *x->p == '\n')
        return fail(x, "a character is wanted");
    if (!take(x, '\\')) {
        x->p += utf8_step(x->p, (size_t)(x->end - x->p), &c);
        return c;
    }
    const char e = peek(x);
    const char *found = e ? strchr(control, e) : NULL;
    if (found || (e && strchr(plain, e))) {
        x->p++;
        return found ? (unsigned char)value[found - control] : (unsigned char)e;
    }
    const int digits = e == 'x' ? 2 : e == 'u' ? 4 : e == 'U' ? 8 : 0;
    if (!digits)
        return fail(x, "there is no such escape");
    x->p++;
    c = take_hex(x, digits);
    char four[4];
    if (!gram_failed(x->g) && utf8_put(c, four) == 0)
        return fail(x, "this is not the number of a character");
    return c;
}

static bool take_number(struct gbnf *x, uint32_t *out)
{
    uint64_t n = 0;
    const char *begin = x->p;
    while (x->p < x->end && *x->p >= '0' && *x->p <= '9') {
        if (n < UINT32_MAX)
            n = n * 10 + (uint64_t)(*x->p - '0');
        x->p++;
    }
    *out = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX - 1;
    if (x->p == begin)
        (void)fail(x, "a number is wanted");
    return x->p > begin;
}

/* ---- items --------------------------------------------------------------------------------- */

static uint32_t parse_literal(struct gbnf *x)
{
    struct buf text;
    buf_init(&text, GRAM_MAX_SOURCE);
    buf_puts(&text, "");
    x->p++;
    while (!gram_failed(x->g) && !take(x, '"')) {
        if (x->p >= x->end || *x->p == '\n') {
            (void)fail(x, "a text is not closed");
            break;
        }
        char four[4];
        buf_put(&text, four, utf8_put(take_character(x), four));
    }
    uint32_t node = GRAM_NONE;
    if (text.failed)
        gram_fail(x->g, ERR_NO_MEMORY, "no memory for a text");
    else
        node = gram_literal(x->g, buf_str(&text));
    buf_finish(&text);
    return node;
}

static uint32_t parse_class(struct gbnf *x)
{
    struct gram_range *range = NULL;
    size_t n = 0, cap = 0;
    x->p++;
    const bool negated = take(x, '^');
    while (!gram_failed(x->g) && !take(x, ']')) {
        if (!mem_grow(&range, &cap, n + 1, sizeof *range, GRAM_MAX_SOURCE)) {
            gram_fail(x->g, ERR_NO_MEMORY, "no memory for a class");
            break;
        }
        range[n].lo = range[n].hi = take_character(x);
        if (x->p + 1 < x->end && x->p[0] == '-' && x->p[1] != ']') {
            x->p++;
            range[n].hi = take_character(x);
            if (range[n].hi < range[n].lo)
                (void)fail(x, "a range goes backwards");
        }
        n++;
    }
    const uint32_t node = gram_set(x->g, range, n, negated);
    mem_free(range);
    return node;
}

/* <name>, whose brackets belong to the name, or <[number]>. */
static uint32_t parse_token(struct gbnf *x)
{
    const bool other = take(x, '!');
    if (peek(x) != '<')
        return fail(x, "a token (<name> or <[number]>) is wanted behind '!'");
    const char *begin = x->p;
    uint32_t node, id;
    if (x->p + 1 < x->end && x->p[1] == '[') {
        x->p += 2;
        if (!take_number(x, &id))
            return GRAM_NONE;
        if (!take(x, ']') || !take(x, '>'))
            return fail(x, "']>' is wanted");
        node = gram_token_id(x->g, id);
    } else {
        while (x->p < x->end && *x->p != '>' && *x->p != '\n')
            x->p++;
        if (!take(x, '>'))
            return fail(x, "'>' is wanted");
        node = gram_token_exact(x->g, (struct str){ begin, (size_t)(x->p - begin) });
    }
    return other ? gram_token_not(x->g, node) : node;
}

static uint32_t parse_choice(struct gbnf *x, bool lines);

static uint32_t parse_group(struct gbnf *x)
{
    if (++x->depth > GRAM_MAX_DEPTH)
        return fail(x, "parentheses nest too deep");
    x->p++;
    skip(x, true);
    const uint32_t node = parse_choice(x, true);
    if (!gram_failed(x->g) && !take(x, ')'))
        return fail(x, "')' is wanted");
    x->depth--;
    return node;
}

/* GRAM_NONE without an error: no item begins here. */
static uint32_t parse_item(struct gbnf *x)
{
    static const struct gram_range any = { 0, 0x10FFFF };
    switch (peek(x)) {
    case '"':
        return parse_literal(x);
    case '[':
        return parse_class(x);
    case '(':
        return parse_group(x);
    case '<':
    case '!':
        return parse_token(x);
    case '.':
        x->p++;
        return gram_set(x->g, &any, 1, false);
    default:
        break;
    }
    const struct str name = take_word(x);
    return name.n ? gram_ref(x->g, gram_rule(x->g, name)) : GRAM_NONE;
}

static uint32_t parse_braces(struct gbnf *x, uint32_t node)
{
    uint32_t min, max;
    skip(x, true);
    if (!take_number(x, &min))
        return GRAM_NONE;
    skip(x, true);
    max = min;
    if (take(x, ',')) {
        skip(x, true);
        max = GRAM_MANY;
        if (peek(x) != '}' && !take_number(x, &max))
            return GRAM_NONE;
        skip(x, true);
    }
    if (!take(x, '}'))
        return fail(x, "'}' is wanted");
    return gram_repeat(x->g, node, min, max);
}

static uint32_t parse_repeated(struct gbnf *x, bool lines)
{
    place(x);
    uint32_t node = parse_item(x);
    for (bool more = node != GRAM_NONE; more && !gram_failed(x->g);) {
        skip(x, lines);
        place(x);
        if (take(x, '*'))
            node = gram_repeat(x->g, node, 0, GRAM_MANY);
        else if (take(x, '+'))
            node = gram_repeat(x->g, node, 1, GRAM_MANY);
        else if (take(x, '?'))
            node = gram_repeat(x->g, node, 0, 1);
        else if (take(x, '{'))
            node = parse_braces(x, node);
        else
            more = false;
    }
    return node;
}

/* ---- rules --------------------------------------------------------------------------------- */

static void put(struct gbnf *x, struct nodes *l, uint32_t node)
{
    if (!mem_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v, GRAM_MAX_NODES))
        gram_fail(x->g, ERR_NO_MEMORY, "no memory for a rule");
    else
        l->v[l->n++] = node;
}

static uint32_t parse_sequence(struct gbnf *x, bool lines)
{
    struct nodes l = { 0 };
    for (uint32_t node; !at_end(x) && (node = parse_repeated(x, lines)) != GRAM_NONE;)
        put(x, &l, node);
    const uint32_t node = gram_seq(x->g, l.v, l.n);
    mem_free(l.v);
    return node;
}

static uint32_t parse_choice(struct gbnf *x, bool lines)
{
    struct nodes l = { 0 };
    put(x, &l, parse_sequence(x, lines));
    while (!gram_failed(x->g) && take(x, '|')) {
        skip(x, true);
        put(x, &l, parse_sequence(x, lines));
    }
    const uint32_t node = gram_failed(x->g) ? GRAM_NONE : gram_alt(x->g, l.v, l.n);
    mem_free(l.v);
    return node;
}

static void parse_rule(struct gbnf *x)
{
    place(x);
    const struct str name = take_word(x);
    const uint32_t rule = name.n ? gram_rule(x->g, name) : fail(x, "the name of a rule is wanted");
    skip(x, false);
    if (!gram_failed(x->g) && !(take(x, ':') && take(x, ':') && take(x, '=')))
        (void)fail(x, "'::=' is wanted");
    skip(x, true);
    const uint32_t node = gram_failed(x->g) ? GRAM_NONE : parse_choice(x, false);
    if (!gram_failed(x->g) && x->p < x->end && *x->p != '\n' && *x->p != '\r')
        (void)fail(x, "a part of a rule, or the end of the line is wanted");
    if (!gram_failed(x->g))
        gram_define(x->g, rule, node);
}

enum err_code gbnf_parse(struct str text, struct gram **out, struct err *e)
{
    *out = NULL;
    if (text.n > GRAM_MAX_SOURCE)
        return err_set(e, ERR_TOO_LARGE, "the grammar has %zu bytes, more than %zu", text.n, GRAM_MAX_SOURCE);
    const size_t bad = utf8_valid(text.p, text.n);
    if (bad != text.n)
        return err_set(e, ERR_INVALID, "the grammar is not UTF-8 at its byte %zu", bad);
    struct gram *g = gram_create();
    if (!g)
        return err_no_memory(e, sizeof(void *), "a grammar");
    struct gbnf x = { .g = g, .text = text.p, .end = text.p + text.n, .p = text.p, .line = text.p, .line_no = 1 };
    for (skip(&x, true); !at_end(&x); skip(&x, true))
        parse_rule(&x);
    if (!gram_failed(g)) {
        gram_place(g, "grammar");
        const uint32_t root = gram_rule(g, STR("root"));
        if (!gram_defined(g, root))
            gram_fail(g, ERR_INVALID, "there is no rule \"root\"");
        gram_start(g, root);
    }
    const enum err_code code = gram_error(g, e);
    if (code)
        gram_destroy(g);
    else
        *out = g;
    return code;
}
