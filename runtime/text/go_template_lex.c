#include <string.h>

#include "runtime/text/go_template_priv.h"

struct lexer {
    struct str in;
    size_t start, pos;
    uint32_t line, start_line; /* at pos, at start */
    int parens;
    struct go_tokens *out;
    bool failed;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static char at(const struct lexer *l, size_t i)
{
    return i < l->in.n ? l->in.p[i] : '\0';
}

static bool left_trim(const struct lexer *l, size_t i)
{
    return i + 1 < l->in.n && l->in.p[i] == '-' && is_space(l->in.p[i + 1]);
}

static bool right_trim(const struct lexer *l, size_t i)
{
    return i + 1 < l->in.n && is_space(l->in.p[i]) && l->in.p[i + 1] == '-';
}

static bool starts(const struct lexer *l, size_t i, const char *with)
{
    size_t n = strlen(with);
    return i <= l->in.n && l->in.n - i >= n && memcmp(l->in.p + i, with, n) == 0;
}

static bool at_right(const struct lexer *l, bool *trim)
{
    *trim = right_trim(l, l->pos) && starts(l, l->pos + 2, "}}");
    return *trim || starts(l, l->pos, "}}");
}

/* What lies between start and pos is behind us. */
static void skip(struct lexer *l)
{
    for (size_t i = l->start; i < l->pos; i++)
        l->line += l->in.p[i] == '\n';
    l->start = l->pos;
    l->start_line = l->line;
}

static void push(struct lexer *l, enum go_token_type type, struct str val)
{
    struct go_tokens *t = l->out;
    if (!mem_grow(&t->v, &t->cap, t->n + 1, sizeof *t->v, SIZE_MAX / sizeof *t->v)) {
        l->failed = true;
        return;
    }
    t->v[t->n++] = (struct go_token){ (uint8_t)type, l->start_line, val };
}

static void emit(struct lexer *l, enum go_token_type type)
{
    push(l, type, (struct str){ l->in.p + l->start, l->pos - l->start });
    skip(l);
}

static bool error(struct lexer *l, const char *why)
{
    push(l, GO_T_ERROR, str_from(why));
    return false;
}

static void skip_spaces(struct lexer *l)
{
    while (is_space(at(l, l->pos)))
        l->pos++;
    skip(l);
}

/* Past }} with its marker, and the spaces that a marker takes away. */
static void right(struct lexer *l, bool trim)
{
    if (trim) {
        l->pos += 2;
        skip(l);
    }
    l->pos += 2;
}

static bool comment(struct lexer *l)
{
    bool trim;
    const char *end = memmem(l->in.p + l->pos + 2, l->in.n - l->pos - 2, "*/", 2);
    if (!end)
        return error(l, "unclosed comment");
    l->pos = (size_t)(end - l->in.p) + 2;
    if (!at_right(l, &trim))
        return error(l, "comment ends before closing delimiter");
    right(l, trim);
    skip(l);
    if (trim)
        skip_spaces(l);
    return true;
}

static uint32_t peek(const struct lexer *l, size_t *n)
{
    uint32_t cp = 0;
    *n = l->pos < l->in.n ? utf8_step(l->in.p + l->pos, l->in.n - l->pos, &cp) : 0;
    return cp;
}

static void word(struct lexer *l)
{
    size_t n;
    uint32_t cp;
    while ((cp = peek(l, &n)), n && go_is_letter_or_digit(cp))
        l->pos += n;
}

/* Where a name may end. */
static bool terminated(const struct lexer *l)
{
    char c = at(l, l->pos);
    return l->pos >= l->in.n || is_space(c) || (c && strchr(".,|:)(", c)) || starts(l, l->pos, "}}");
}

static bool name(struct lexer *l)
{
    static const struct {
        const char *word;
        enum go_token_type type;
    } words[] = {
        { "block", GO_T_BLOCK },       { "break", GO_T_BREAK }, { "continue", GO_T_CONTINUE },
        { "define", GO_T_DEFINE },     { "else", GO_T_ELSE },   { "end", GO_T_END },
        { "if", GO_T_IF },             { "nil", GO_T_NIL },     { "range", GO_T_RANGE },
        { "template", GO_T_TEMPLATE }, { "with", GO_T_WITH },   { "true", GO_T_BOOL },
        { "false", GO_T_BOOL },
    };
    enum go_token_type type = GO_T_NAME;
    word(l);
    if (!terminated(l))
        return error(l, "bad character in a name");
    struct str s = { l->in.p + l->start, l->pos - l->start };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (str_is(s, words[i].word))
            type = words[i].type;
    emit(l, type);
    return true;
}

/* .name or $name; the first character is behind us. */
static bool field(struct lexer *l, enum go_token_type type)
{
    if (terminated(l)) {
        emit(l, type == GO_T_FIELD ? GO_T_DOT : type);
        return true;
    }
    word(l);
    if (!terminated(l))
        return error(l, "bad character in a name");
    emit(l, type);
    return true;
}

static bool quoted(struct lexer *l, char quote, enum go_token_type type)
{
    for (;;) {
        char c = at(l, l->pos);
        if (l->pos >= l->in.n || (c == '\n' && quote != '`'))
            return error(l, "unterminated quoted string");
        l->pos++;
        if (c == quote)
            break;
        if (c == '\\' && quote != '`') {
            if (l->pos >= l->in.n || at(l, l->pos) == '\n')
                return error(l, "unterminated quoted string");
            l->pos++;
        }
    }
    emit(l, type);
    return true;
}

static void accept(struct lexer *l, const char *set, bool run)
{
    while (at(l, l->pos) && strchr(set, at(l, l->pos))) {
        l->pos++;
        if (!run)
            return;
    }
}

/* Takes more than numbers are; go_number decides. */
static bool number(struct lexer *l)
{
    const char *digits = "0123456789_";
    size_t n;
    uint32_t cp;
    bool hex = false, decimal = true;
    accept(l, "+-", false);
    if (at(l, l->pos) == '0') {
        char mark = (char)(at(l, ++l->pos) | 32);
        hex = mark == 'x';
        decimal = !hex && mark != 'o' && mark != 'b';
        if (!decimal) {
            l->pos++;
            digits = hex ? "0123456789abcdefABCDEF_" : mark == 'o' ? "01234567_" : "01_";
        }
    }
    accept(l, digits, true);
    if (at(l, l->pos) == '.') {
        l->pos++;
        accept(l, digits, true);
    }
    if ((decimal && (at(l, l->pos) | 32) == 'e') || (hex && (at(l, l->pos) | 32) == 'p')) {
        l->pos++;
        accept(l, "+-", false);
        accept(l, "0123456789_", true);
    }
    cp = peek(l, &n);
    if ((n && go_is_letter_or_digit(cp)) || at(l, l->pos) == '+' || at(l, l->pos) == '-')
        return error(l, "bad number syntax");
    emit(l, GO_T_NUMBER);
    return true;
}

static void spaces(struct lexer *l)
{
    while (is_space(at(l, l->pos)))
        l->pos++;
    bool trim;
    l->pos--; /* the last space belongs to a marker */
    if (!at_right(l, &trim) || !trim)
        l->pos++;
    if (l->pos > l->start)
        emit(l, GO_T_SPACE);
}

static bool single(struct lexer *l, char c)
{
    static const struct {
        char c;
        enum go_token_type type;
    } rows[] = { { '=', GO_T_ASSIGN }, { '|', GO_T_PIPE }, { '(', GO_T_OPEN }, { ')', GO_T_CLOSE } };
    enum go_token_type type = GO_T_COMMA;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].c == c)
            type = rows[i].type;
    if (type == GO_T_COMMA && (c < ' ' || c > '~'))
        return error(l, "unrecognized character in action");
    l->parens += (c == '(') - (c == ')');
    if (l->parens < 0)
        return error(l, "unexpected right paren");
    l->pos++;
    if (c == ':') {
        if (at(l, l->pos) != '=')
            return error(l, "expected :=");
        l->pos++;
        type = GO_T_DECLARE;
    }
    emit(l, type);
    return true;
}

/* One token inside {{ and }}. */
static bool inside(struct lexer *l)
{
    size_t n;
    uint32_t cp = peek(l, &n);
    char c = at(l, l->pos);
    if (!n)
        return error(l, "unclosed action");
    if (is_space(c)) {
        spaces(l);
        return true;
    }
    if (c == '"' || c == '`' || c == '\'') {
        l->pos++;
        return quoted(l, c, c == '"' ? GO_T_STRING : c == '`' ? GO_T_RAW : GO_T_CHAR);
    }
    char next = at(l, l->pos + 1);
    if (c == '$' || (c == '.' && l->pos + 1 < l->in.n && (next < '0' || next > '9'))) {
        l->pos++;
        return field(l, c == '$' ? GO_T_VARIABLE : GO_T_FIELD);
    }
    if (c == '.' || c == '+' || c == '-' || (c >= '0' && c <= '9'))
        return number(l);
    if (go_is_letter_or_digit(cp))
        return name(l);
    return single(l, c);
}

static bool action(struct lexer *l)
{
    bool trim = left_trim(l, l->pos + 2);
    size_t mark = trim ? 2 : 0;
    if (starts(l, l->pos + 2 + mark, "/*")) {
        l->pos += 2 + mark;
        skip(l);
        return comment(l);
    }
    l->pos += 2;
    emit(l, GO_T_LEFT);
    l->pos += mark;
    skip(l);
    l->parens = 0;
    while (!at_right(l, &trim))
        if (!inside(l))
            return false;
    if (l->parens)
        return error(l, "unclosed left paren");
    right(l, trim);
    emit(l, GO_T_RIGHT);
    if (trim)
        skip_spaces(l);
    return true;
}

/* The text before the next {{, without what its marker takes away. */
static void text(struct lexer *l)
{
    const char *open = memmem(l->in.p + l->pos, l->in.n - l->pos, "{{", 2);
    size_t end = open ? (size_t)(open - l->in.p) : l->in.n;
    l->pos = end;
    if (open && left_trim(l, end + 2))
        while (l->pos > l->start && is_space(l->in.p[l->pos - 1]))
            l->pos--;
    if (l->pos > l->start)
        emit(l, GO_T_TEXT);
    l->pos = end;
    skip(l);
}

bool go_lex(struct str source, struct go_tokens *out)
{
    struct lexer l = { .in = source, .line = 1, .start_line = 1, .out = out };
    bool going = true;
    while (going && !l.failed) {
        text(&l);
        if (l.pos >= l.in.n)
            break;
        going = action(&l);
    }
    if (going)
        push(&l, GO_T_EOF, STR("EOF"));
    return !l.failed;
}
