/* Calls with keyword arguments: name(key=value, ..) as Python, name{key:value, ..} as Gemma. */
#include "runtime/text/output_parser_priv.h"

#include <string.h>

struct syntax {
    char open, assign, close;
    struct str quote; /* n 0: ' and " */
};
static const struct syntax python = { '(', '=', ')', { "", 0 } };
static const struct syntax gemma = { '{', ':', '}', { "<|\"|>", 5 } };

enum { P_NAME, P_OPEN, P_NEXT, P_KEY, P_VALUE, P_COMMA };

static const struct syntax *syntax_of(const struct output_parser *p)
{
    return p->sp->style == STYLE_GEMMA ? &gemma : &python;
}

static enum step keyword_end(struct output_parser *p)
{
    p->at++;
    call_arguments(p, p->n_params ? STR("}") : STR("{}"));
    return call_end(p);
}

static enum step keyword_punctuation(struct output_parser *p, const struct syntax *x)
{
    char c = p->in.p[p->at];
    switch (p->stage) {
    case P_OPEN:
        if (c != x->open)
            return STEP_FAIL;
        call_begin(p);
        p->stage = P_NEXT;
        break;
    case P_COMMA:
        if (c == x->close)
            return keyword_end(p);
        p->stage = P_NEXT;
        if (c != ',')
            return STEP_FAIL;
        break;
    default: /* P_NEXT */
        if (c == x->close)
            return keyword_end(p);
        p->mark = p->at;
        p->stage = P_KEY;
        return STEP_ON;
    }
    p->at++;
    return STEP_ON;
}

static enum step keyword_key(struct output_parser *p, const struct syntax *x)
{
    for (; p->at < p->in.n; p->at++) {
        char c = p->in.p[p->at];
        if (c == x->assign) {
            p->key_begin = p->mark;
            p->key_end = p->at;
            p->mark = ++p->at;
            p->quote = p->depth = 0;
            p->escaped = false;
            p->stage = P_VALUE;
            struct str key = str_trim(output_slice(p, p->key_begin, p->key_end));
            return value_key(key) ? STEP_ON : STEP_FAIL;
        }
        if (p->at - p->mark > KEY_MAX || one_of("(){}[],'\n", c))
            return STEP_FAIL;
    }
    return STEP_MORE;
}

/* ---- values: where one ends ---------------------------------------------------------------- */

/* A quote ends a string only where a value can end: models forget to escape apostrophes. */
static enum match quote_ends(const struct output_parser *p)
{
    size_t i = p->at + 1;
    while (i < p->in.n && is_blank(p->in.p[i]) && i - p->at < BLANKS_MAX)
        i++;
    if (i == p->in.n)
        return p->ended ? MATCH_YES : MATCH_MORE;
    return one_of(",)]}:", p->in.p[i]) ? MATCH_YES : MATCH_NO;
}

static enum match in_python_string(struct output_parser *p, char c)
{
    if (p->escaped || c == '\\') {
        p->escaped = !p->escaped;
        return MATCH_YES;
    }
    enum match m = (uint8_t)c == p->quote ? quote_ends(p) : MATCH_NO;
    if (m == MATCH_YES)
        p->quote = 0;
    return m == MATCH_MORE ? m : MATCH_YES;
}

static enum match gemma_quote(struct output_parser *p, const struct syntax *x)
{
    struct str rest = output_slice(p, p->at, p->in.n);
    if (rest.n < x->quote.n && str_starts(x->quote, rest) && !p->ended)
        return MATCH_MORE;
    if (!str_starts(rest, x->quote))
        return MATCH_NO;
    p->quote = !p->quote;
    p->at += x->quote.n - 1;
    return MATCH_YES;
}

/* Quotes: YES when the byte belongs to a string or its marks. */
static enum match quoted(struct output_parser *p, const struct syntax *x, char c)
{
    if (x->quote.n) {
        enum match m = c == x->quote.p[0] ? gemma_quote(p, x) : MATCH_NO;
        return m == MATCH_NO && p->quote ? MATCH_YES : m;
    }
    if (p->quote)
        return in_python_string(p, c);
    if (c != '\'' && c != '"')
        return MATCH_NO;
    p->quote = (uint8_t)c;
    return MATCH_YES;
}

static enum step put_keyword(struct output_parser *p, const struct syntax *x)
{
    struct str value = output_slice(p, p->mark, p->at);
    struct str key = str_trim(output_slice(p, p->key_begin, p->key_end));
    const json_t *root = tool_parameters(p->tool), *schema = schema_property(root, key, root);
    buf_clear(&p->args);
    buf_puts(&p->args, p->n_params ? ", " : "{");
    value_string(&p->args, key);
    buf_puts(&p->args, ": ");
    if (!value_literal(&p->args, value, x == &gemma)) {
        value = str_trim(value);
        if (!value.n)
            return STEP_FAIL;
        value_json(&p->args, value, schema, root);
    }
    p->failed |= p->args.failed;
    p->n_params = true;
    call_arguments(p, buf_str(&p->args));
    p->stage = P_COMMA;
    return STEP_ON;
}

static enum step keyword_value(struct output_parser *p, const struct syntax *x)
{
    for (; p->at < p->in.n; p->at++) {
        char c = p->in.p[p->at];
        enum match m = quoted(p, x, c);
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES)
            continue;
        if (p->depth == 0 && (c == ',' || c == x->close))
            return put_keyword(p, x);
        if (one_of("([{", c) && p->depth++ == JSON_MAX_DEPTH)
            return STEP_FAIL;
        if (one_of(")]}", c) && p->depth-- == 0)
            return STEP_FAIL;
        if (p->at - p->base > OUTPUT_MAX_CALL)
            return STEP_FAIL;
    }
    return STEP_MORE;
}

enum step call_keyword(struct output_parser *p)
{
    const struct syntax *x = syntax_of(p);
    if (p->stage == P_KEY)
        return keyword_key(p, x);
    if (p->stage == P_VALUE)
        return keyword_value(p, x);
    if (!take_blanks(p))
        return STEP_MORE;
    if (p->stage == P_NAME) {
        enum match m = call_name(p);
        p->stage = m == MATCH_YES ? P_OPEN : P_NAME;
        return m == MATCH_YES ? STEP_ON : m == MATCH_MORE ? STEP_MORE : STEP_FAIL;
    }
    return p->at < p->in.n ? keyword_punctuation(p, x) : STEP_FAIL;
}
