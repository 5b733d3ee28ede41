/* Tokens of a template. Which white space around a tag is kept is decided here, exactly as
 * Jinja 2 does it with trim_blocks and lstrip_blocks on:
 *   a tag that begins with "-" takes all white space before it, with "+" none; without either,
 *   a block or comment that stands first on its line takes the blanks before it;
 *   a tag that ends with "-" takes all white space after it; else a block or comment takes one
 *   newline, unless it ends with "+". One newline at the end of the source is dropped. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/jinja.h"

static const struct {
    const char *text;
    enum token_kind kind;
} operators[] = {
    { "//", T_FLOORDIV }, { "**", T_POW },     { "==", T_EQ },     { "!=", T_NE },
    { ">=", T_GE },       { "<=", T_LE },      { "+", T_ADD },     { "-", T_SUB },
    { "/", T_DIV },       { "*", T_MUL },      { "%", T_MOD },     { "~", T_TILDE },
    { "[", T_LBRACKET },  { "]", T_RBRACKET }, { "(", T_LPAREN },  { ")", T_RPAREN },
    { "{", T_LBRACE },    { "}", T_RBRACE },   { ">", T_GT },      { "<", T_LT },
    { "=", T_ASSIGN },    { ".", T_DOT },      { ":", T_COLON },   { "|", T_PIPE },
    { ",", T_COMMA },     { ";", T_SEMICOLON },
};

const char *jinja_token_name(enum token_kind k)
{
    static const char *const names[] = {
        [T_EOF] = "end of template",       [T_DATA] = "template data",
        [T_BLOCK_BEGIN] = "{%",            [T_BLOCK_END] = "%}",
        [T_VARIABLE_BEGIN] = "{{",         [T_VARIABLE_END] = "}}",
        [T_NAME] = "name",                 [T_STRING] = "string",
        [T_INTEGER] = "integer",           [T_FLOAT] = "float",
    };
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (operators[i].kind == k)
            return operators[i].text;
    return names[k];
}

static bool lex_fail(struct lexer *l, const char *reason)
{
    err_set(l->e, ERR_FORMAT, "%s:%u: %s", l->name, l->line, reason);
    return false;
}

static bool has(const struct lexer *l, size_t at, const char *s)
{
    size_t n = strlen(s);
    return at <= l->src.n && l->src.n - at >= n && memcmp(l->src.p + at, s, n) == 0;
}

static char at(const struct lexer *l, size_t i)
{
    return i < l->src.n ? l->src.p[i] : '\0';
}

static size_t skip_space(const struct lexer *l, size_t i)
{
    uint32_t cp;
    while (i < l->src.n) {
        size_t n = jinja_utf8(l->src, i, &cp);
        if (!jinja_is_space(cp))
            break;
        i += n;
    }
    return i;
}

/* Moves to `end`, counting lines. */
static void move_to(struct lexer *l, size_t end)
{
    for (; l->pos < end; l->pos++)
        l->line += l->src.p[l->pos] == '\n';
}

bool jinja_lex_init(struct lexer *l, struct str source, const char *name, struct arena *a,
                    struct err *e)
{
    *l = (struct lexer){ .line = 1, .line_starting = true, .arena = a, .name = name, .e = e };
    char *p = arena_alloc(a, source.n + 1);
    if (!p) {
        err_no_memory(e, source.n, "a chat template");
        return false;
    }
    size_t n = 0;
    for (size_t i = 0; i < source.n; i++) {
        bool cr = source.p[i] == '\r';
        p[n++] = cr ? '\n' : source.p[i];
        if (cr && i + 1 < source.n && source.p[i + 1] == '\n')
            i++;
    }
    if (n && p[n - 1] == '\n')
        n--;
    l->src = (struct str){ p, n };
    size_t valid = utf8_valid(p, n);
    if (valid == n)
        return true;
    move_to(l, valid);
    return lex_fail(l, "bytes that are not UTF-8");
}

/* ---- text outside of tags ---- */

/* The text before a tag that begins with `sign`. */
static struct str text_before(const struct lexer *l, struct str text, char sign, bool lstrip)
{
    if (sign == '-')
        return jinja_strip(text, false, true);
    if (sign == '+' || !lstrip)
        return text;
    size_t line = text.n;
    while (line > 0 && text.p[line - 1] != '\n')
        line--;
    if (line == 0 && !l->line_starting)
        return text;
    struct str rest = { text.p + line, text.n - line };
    return jinja_strip(rest, false, true).n == 0 ? (struct str){ text.p, line } : text;
}

static void queue(struct lexer *l, enum token_kind kind, struct str text)
{
    if (kind == T_DATA && text.n == 0)
        return;
    l->queue[l->nqueue++] = (struct token){ .kind = kind, .line = l->line, .text = text };
}

/* Ends a tag at i, where its sign (if any) and closing brackets stand: the offset after it and
 * after the white space that it takes. */
static size_t after_end(const struct lexer *l, size_t i, const char *close, bool block)
{
    char sign = at(l, i);
    if (sign == '-')
        return skip_space(l, i + 1 + strlen(close));
    if (sign == '+')
        return i + 1 + strlen(close);
    i += strlen(close);
    return block && at(l, i) == '\n' ? i + 1 : i;
}

/* Does a tag end at i? "+" does it only for blocks. */
static bool ends_at(const struct lexer *l, size_t i, const char *close, bool plus)
{
    char sign = at(l, i);
    return has(l, i, close) ||
           ((sign == '-' || (plus && sign == '+')) && has(l, i + 1, close));
}

static void finish_tag(struct lexer *l, size_t end)
{
    move_to(l, end);
    l->line_starting = end > 0 && l->src.p[end - 1] == '\n';
}

static bool skip_comment(struct lexer *l)
{
    size_t i = l->pos;
    while (i < l->src.n && !ends_at(l, i, "#}", true))
        i++;
    if (i == l->src.n)
        return lex_fail(l, "missing end of comment tag");
    finish_tag(l, after_end(l, i, "#}", true));
    return true;
}

/* "{%" is at i: the offset after "{% raw %}", or 0 when it is another block. */
static size_t raw_begin(const struct lexer *l, size_t i)
{
    i += 2;
    if (at(l, i) == '-' || at(l, i) == '+')
        i++;
    i = skip_space(l, i);
    if (!has(l, i, "raw"))
        return 0;
    i = skip_space(l, i + 3);
    if (has(l, i, "-%}"))
        return skip_space(l, i + 3);
    return has(l, i, "%}") ? i + 2 : 0;
}

/* "{%" is at i: the offset of the end of "{% endraw %}", or 0. */
static size_t raw_end(const struct lexer *l, size_t i, char *sign)
{
    i += 2;
    *sign = at(l, i);
    if (*sign == '-' || *sign == '+')
        i++;
    i = skip_space(l, i);
    if (!has(l, i, "endraw"))
        return 0;
    i = skip_space(l, i + 6);
    return ends_at(l, i, "%}", true) ? after_end(l, i, "%}", true) : 0;
}

static bool read_raw(struct lexer *l, size_t begin)
{
    finish_tag(l, begin);
    char sign = '\0';
    for (size_t i = l->pos; i < l->src.n; i++) {
        size_t end = has(l, i, "{%") ? raw_end(l, i, &sign) : 0;
        if (!end)
            continue;
        struct str text = { l->src.p + l->pos, i - l->pos };
        queue(l, T_DATA, text_before(l, text, sign, true));
        finish_tag(l, end);
        return true;
    }
    return lex_fail(l, "missing end of raw directive");
}

static size_t find_tag(const struct lexer *l)
{
    size_t i = l->pos;
    while (i < l->src.n) {
        const char *p = memchr(l->src.p + i, '{', l->src.n - i);
        if (!p)
            break;
        i = (size_t)(p - l->src.p);
        char c = at(l, i + 1);
        if (c == '%' || c == '{' || c == '#')
            return i;
        i++;
    }
    return l->src.n;
}

/* Queues the text up to the next tag, and the tag's beginning. */
static bool read_text(struct lexer *l)
{
    size_t i = find_tag(l);
    struct str text = { l->src.p + l->pos, i - l->pos };
    if (i == l->src.n) {
        queue(l, T_DATA, text);
        move_to(l, i);
        if (l->nqueue == 0)
            queue(l, T_EOF, (struct str){ 0 });
        return true;
    }
    char type = at(l, i + 1), sign = at(l, i + 2);
    queue(l, T_DATA, text_before(l, text, sign, type != '{'));
    size_t raw = type == '%' ? raw_begin(l, i) : 0;
    move_to(l, i);
    if (raw)
        return read_raw(l, raw);
    move_to(l, i + 2 + (sign == '-' || sign == '+'));
    if (type == '#')
        return skip_comment(l);
    l->mode = type == '%' ? LEX_BLOCK : LEX_VARIABLE;
    queue(l, type == '%' ? T_BLOCK_BEGIN : T_VARIABLE_BEGIN, (struct str){ 0 });
    return true;
}

/* ---- inside of tags ---- */

static bool digit_of(char c, int base)
{
    int d = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : 99;
    return d < base;
}

/* Digits with single underscores between them, from i; `lead`: an underscore may come first. */
static size_t digits(const struct lexer *l, size_t i, int base, bool lead)
{
    size_t end = i;
    bool one = lead;
    while (i < l->src.n) {
        if (digit_of(l->src.p[i], base)) {
            end = ++i;
            one = true;
        } else if (l->src.p[i] == '_' && one) {
            one = false;
            i++;
        } else {
            break;
        }
    }
    return end;
}

static size_t float_end(const struct lexer *l, size_t i)
{
    size_t e = digits(l, i, 10, false), fraction = 0;
    if (at(l, e) == '.' && digits(l, e + 1, 10, false) > e + 1)
        e = fraction = digits(l, e + 1, 10, false);
    if (at(l, e) == 'e' || at(l, e) == 'E') {
        size_t x = e + 1 + (at(l, e + 1) == '+' || at(l, e + 1) == '-');
        if (digits(l, x, 10, false) > x)
            return digits(l, x, 10, false);
    }
    return fraction;
}

static bool read_number(struct lexer *l, struct token *t)
{
    size_t i = l->pos, end = 0;
    char *copy = NULL;
    int base = 10;
    t->kind = T_INTEGER;
    if (i == 0 || l->src.p[i - 1] != '.')
        end = float_end(l, i);
    if (end) {
        t->kind = T_FLOAT;
    } else if (at(l, i) == '0') {
        char c = (char)(at(l, i + 1) | 32);
        base = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 10;
        if (base != 10 && digits(l, i + 2, base, true) > i + 2)
            end = digits(l, i += 2, base, true);
        else
            for (base = 10, end = i + 1; at(l, end) == '0' || at(l, end) == '_'; end++)
                if (at(l, end) == '_' && at(l, end + 1) != '0')
                    break;
    } else {
        end = digits(l, i, 10, false);
    }
    copy = arena_alloc(l->arena, end - i + 1);
    if (!copy) {
        err_no_memory(l->e, end - i, "a chat template");
        return false;
    }
    size_t n = 0;
    for (size_t k = i; k < end; k++)
        if (l->src.p[k] != '_')
            copy[n++] = l->src.p[k];
    copy[n] = '\0';
    move_to(l, end);
    if (t->kind == T_FLOAT) {
        t->f = strtod(copy, NULL);
        return true;
    }
    errno = 0;
    t->i = strtoll(copy, NULL, base);
    return errno == 0 || lex_fail(l, "an integer that needs more than 64 bits");
}

static bool read_hex(struct lexer *l, struct str s, size_t *i, size_t n, uint32_t *cp)
{
    *cp = 0;
    for (size_t k = 0; k < n; k++, ++*i) {
        if (*i >= s.n || !digit_of(s.p[*i], 16))
            return lex_fail(l, "truncated \\x, \\u or \\U escape");
        char c = s.p[*i];
        *cp = *cp * 16 + (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return true;
}

/* The escape after a backslash; s.p[*i] is the character after it. */
static bool unescape(struct lexer *l, struct str s, size_t *i, char *out, size_t *n)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = s.p[(*i)++];
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t cp = 0;
    if (c == '\n')
        return true;
    if (simple) {
        out[(*n)++] = to[simple - from];
        return true;
    }
    if (c >= '0' && c <= '7') {
        --*i;
        for (int k = 0; k < 3 && *i < s.n && digit_of(s.p[*i], 8); k++)
            cp = cp * 8 + (uint32_t)(s.p[(*i)++] - '0');
    } else if (c == 'x' || c == 'u' || c == 'U') {
        if (!read_hex(l, s, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, &cp))
            return false;
    } else if (c == 'N') {
        return lex_fail(l, "\\N{...} escapes are not supported");
    } else {
        out[(*n)++] = '\\';
        out[(*n)++] = c;
        return true;
    }
    char utf8[4];
    size_t k = utf8_put(cp, utf8);
    if (!k)
        return lex_fail(l, "an escape that is not a code point");
    memcpy(out + *n, utf8, k);
    *n += k;
    return true;
}

static bool read_string(struct lexer *l, struct token *t)
{
    char quote = l->src.p[l->pos];
    size_t end = l->pos + 1;
    bool escapes = false;
    while (end < l->src.n && l->src.p[end] != quote) {
        bool esc = l->src.p[end] == '\\';
        escapes = escapes || esc;
        end += esc ? 2 : 1;
    }
    if (end >= l->src.n)
        return lex_fail(l, "a string without its end");
    struct str s = { l->src.p + l->pos + 1, end - l->pos - 1 };
    t->kind = T_STRING;
    t->text = s;
    if (escapes) {
        char *p = arena_alloc(l->arena, s.n + 4); /* an octal escape is never longer than itself */
        size_t n = 0;
        if (!p) {
            err_no_memory(l->e, s.n, "a chat template");
            return false;
        }
        for (size_t i = 0; i < s.n;) {
            if (s.p[i] != '\\')
                p[n++] = s.p[i++];
            else if (++i, !unescape(l, s, &i, p, &n))
                return false;
        }
        t->text = (struct str){ p, n };
    }
    move_to(l, end + 1);
    return true;
}

static bool read_name(struct lexer *l, struct token *t)
{
    size_t i = l->pos;
    uint32_t cp;
    size_t n = jinja_utf8(l->src, i, &cp);
    if (!jinja_is_name_start(cp))
        return false;
    do {
        i += n;
        n = i < l->src.n ? jinja_utf8(l->src, i, &cp) : 0;
    } while (n && jinja_is_name_part(cp));
    t->kind = T_NAME;
    t->text = (struct str){ l->src.p + l->pos, i - l->pos };
    move_to(l, i);
    return true;
}

static bool balance(struct lexer *l, char c)
{
    static const char opening[] = "([{", closing[] = ")]}";
    const char *o = strchr(opening, c), *k = strchr(closing, c);
    if (o) {
        if (l->nopen == sizeof l->open)
            return lex_fail(l, "brackets nested too deeply");
        l->open[l->nopen++] = closing[o - opening];
    } else if (k && (l->nopen == 0 || l->open[--l->nopen] != c)) {
        return lex_fail(l, "a closing bracket that does not match");
    }
    return true;
}

static bool read_operator(struct lexer *l, struct token *t)
{
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!has(l, l->pos, operators[i].text))
            continue;
        t->kind = operators[i].kind;
        if (!balance(l, operators[i].text[0]))
            return false;
        move_to(l, l->pos + strlen(operators[i].text));
        return true;
    }
    char message[64];
    uint32_t cp;
    jinja_utf8(l->src, l->pos, &cp);
    snprintf(message, sizeof message, "unexpected character U+%04X", (unsigned)cp);
    return lex_fail(l, message);
}

static bool read_tag(struct lexer *l, struct token *t)
{
    bool block = l->mode == LEX_BLOCK;
    const char *close = block ? "%}" : "}}";
    move_to(l, skip_space(l, l->pos));
    *t = (struct token){ .line = l->line };
    if (l->pos == l->src.n) {
        t->kind = T_EOF;
        return true;
    }
    if (l->nopen == 0 && ends_at(l, l->pos, close, block)) {
        t->kind = block ? T_BLOCK_END : T_VARIABLE_END;
        l->mode = LEX_TEXT;
        finish_tag(l, after_end(l, l->pos, close, block));
        return true;
    }
    char c = l->src.p[l->pos];
    if (c >= '0' && c <= '9')
        return read_number(l, t);
    if (c == '\'' || c == '"')
        return read_string(l, t);
    return read_name(l, t) || read_operator(l, t);
}

bool jinja_lex_next(struct lexer *l, struct token *t)
{
    if (l->mode != LEX_TEXT && l->nqueue == 0)
        return read_tag(l, t);
    while (l->nqueue == 0)
        if (!read_text(l))
            return false;
    *t = l->queue[0];
    l->queue[0] = l->queue[1];
    l->nqueue--;
    return true;
}
