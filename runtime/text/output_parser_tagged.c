/* Calls with one element a parameter: <parameter=key>value</parameter> and its like. */
#include "runtime/text/output_parser_priv.h"

#include <string.h>

enum { T_NAME, T_NAME_END, T_NEXT, T_KEY, T_VALUE };

static enum step tagged_name(struct output_parser *p)
{
    if (!take_blanks(p))
        return STEP_MORE;
    enum match m = call_name(p);
    p->stage = m == MATCH_YES ? T_NAME_END : T_NAME;
    return m == MATCH_YES ? STEP_ON : m == MATCH_MORE ? STEP_MORE : STEP_FAIL;
}

static enum step tagged_name_end(struct output_parser *p)
{
    enum match m = p->sp->name_end.n ? take_marker(p, &p->sp->name_end) : MATCH_YES;
    if (m != MATCH_YES)
        return m == MATCH_MORE ? STEP_MORE : STEP_FAIL;
    p->stage = T_NEXT;
    return STEP_ON;
}

/* A parameter, or the call's end: the call stands once that is certain. */
static enum step tagged_next(struct output_parser *p)
{
    const struct spelling *sp = p->sp;
    if (!take_blanks(p))
        return STEP_MORE;
    size_t end;
    enum match close = match_at(p, p->at, &sp->call_close, &end);
    if (close == MATCH_MORE)
        return STEP_MORE;
    if (close == MATCH_YES) {
        if (!p->begun)
            call_begin(p);
        call_arguments(p, p->n_params ? STR("}") : STR("{}"));
        return call_end(p);
    }
    enum match open = match_at(p, p->at, &sp->key_open, &end);
    if (open != MATCH_YES)
        return open == MATCH_MORE ? STEP_MORE : STEP_FAIL;
    if (!p->begun)
        call_begin(p);
    p->at = p->mark = end;
    p->stage = T_KEY;
    return STEP_ON;
}

static enum step tagged_key(struct output_parser *p)
{
    const struct spelling *sp = p->sp;
    for (; p->at < p->in.n; p->at++) {
        size_t end = 0;
        enum match text = sp->key_close_text.n ? match_at(p, p->at, &sp->key_close_text, &end)
                                               : MATCH_NO;
        enum match any = text == MATCH_YES ? MATCH_NO : match_at(p, p->at, &sp->key_close, &end);
        if (text == MATCH_YES || any == MATCH_YES) {
            p->text_value = text == MATCH_YES;
            p->key_begin = p->mark;
            p->key_end = p->at;
            p->at = p->mark = end;
            p->nest = 0;
            p->stage = T_VALUE;
            return value_key(output_slice(p, p->key_begin, p->key_end)) ? STEP_ON : STEP_FAIL;
        }
        if (text == MATCH_MORE || any == MATCH_MORE)
            return STEP_MORE;
        if (p->at - p->mark > KEY_MAX)
            return STEP_FAIL;
    }
    return STEP_MORE;
}

/* ---- values ------------------------------------------------------------------------------ */

/* A value on lines of its own: one newline at each side is layout. */
static struct str without_layout(const struct spelling *sp, struct str v)
{
    if (sp->newline_before && v.n && v.p[0] == '\n') {
        v.p++;
        v.n--;
    }
    if (sp->newline_after && v.n && v.p[v.n - 1] == '\n')
        v.n--;
    struct str open = STR("<![CDATA["), close = STR("]]>");
    if (str_starts(v, open) && str_ends(v, close) && v.n >= open.n + close.n)
        v = (struct str){ v.p + open.n, v.n - open.n - close.n };
    return v;
}

/* One element <key>..</key> of s at *at, each tag behind `ns`; *at behind it. */
static bool element(struct str s, size_t *at, struct str ns, struct str *key, struct str *inner)
{
    char close[MARKER_MAX + KEY_MAX + 4], open[MARKER_MAX + KEY_MAX + 4];
    struct str rest = { s.p + *at, s.n - *at };
    const char *gt = str_starts(rest, ns) ? memchr(rest.p + ns.n, '>', rest.n - ns.n) : NULL;
    if (!gt)
        return false;
    *key = (struct str){ rest.p + ns.n, (size_t)(gt - rest.p) - ns.n };
    if (!value_key(*key) || key->n > KEY_MAX || key->p[0] == '/')
        return false;
    size_t n_open = 0, n_close = 0;
    memcpy(open, ns.p, ns.n);
    memcpy(open + ns.n, key->p, key->n);
    open[n_open = ns.n + key->n] = '>';
    n_open++;
    memcpy(close, ns.p, ns.n);
    close[ns.n] = '/';
    memcpy(close + ns.n + 1, key->p, key->n);
    close[n_close = ns.n + 1 + key->n] = '>';
    n_close++;
    size_t begin = n_open, deep = 0;
    for (size_t i = begin; i < rest.n; i++) {
        struct str here = { rest.p + i, rest.n - i };
        if (here.p[0] != ns.p[0])
            continue;
        if (str_starts(here, (struct str){ open, n_open }))
            deep++;
        else if (str_starts(here, (struct str){ close, n_close }) && deep-- == 0) {
            *inner = (struct str){ rest.p + begin, i - begin };
            *at += i + n_close;
            return true;
        }
    }
    return false;
}

/* Elements inside of a value: an object, or an array where they are called item. */
static void nested(struct buf *out, struct str v, struct str ns, const json_t *schema,
                   const json_t *root, unsigned depth)
{
    struct str key, inner, body = str_trim(v);
    size_t at = 0, start = out->n;
    char end = '\0';
    if (depth < 16)
        while (at < body.n && element(body, &at, ns, &key, &inner)) {
            bool item = str_is(key, "item");
            const json_t *sub = item ? schema_items(schema, root)
                                     : schema_property(schema, key, root);
            if (end && (end == ']') != item)
                break;
            buf_puts(out, end ? ", " : item ? "[" : "{");
            end = item ? ']' : '}';
            if (!item) {
                value_string(out, key);
                buf_puts(out, ": ");
            }
            nested(out, inner, ns, sub, root, depth + 1);
            while (at < body.n && is_blank(body.p[at]))
                at++;
        }
    if (end && at == body.n && !out->failed) {
        buf_putc(out, end);
        return;
    }
    if (!out->failed)
        out->n = start;
    value_json(out, v, schema, root);
}

static void put_parameter(struct output_parser *p, struct str value)
{
    struct str key = output_slice(p, p->key_begin, p->key_end);
    const json_t *root = tool_parameters(p->tool), *schema = schema_property(root, key, root);
    struct str v = without_layout(p->sp, value);
    buf_clear(&p->args);
    buf_puts(&p->args, p->n_params ? ", " : "{");
    value_string(&p->args, key);
    buf_puts(&p->args, ": ");
    if (p->text_value)
        value_string(&p->args, v);
    else if (p->sp->close_key)
        nested(&p->args, v, marker_str(&p->sp->key_open), schema, root, 0);
    else
        value_json(&p->args, v, schema, p->sp->key_close_text.n ? NULL : root);
    p->failed |= p->args.failed;
    p->n_params = true;
    call_arguments(p, buf_str(&p->args));
}

/* The closing marker at p->at, with the key and ">" where it repeats the key. */
static enum match value_close(struct output_parser *p, size_t *end)
{
    enum match m = match_at(p, p->at, &p->sp->value_close, end);
    if (m != MATCH_YES || !p->sp->close_key)
        return m;
    struct str key = output_slice(p, p->key_begin, p->key_end);
    struct str rest = output_slice(p, *end, p->in.n);
    if (rest.n <= key.n && str_starts(key, rest))
        return p->ended ? MATCH_NO : MATCH_MORE;
    if (!str_starts(rest, key) || rest.p[key.n] != '>')
        return MATCH_NO;
    *end += key.n + 1;
    return MATCH_YES;
}

/* Whether an element of the same name opens inside of the value. */
static enum match same_open(const struct output_parser *p, size_t *end)
{
    enum match m = match_at(p, p->at, &p->sp->key_open, end);
    if (m != MATCH_YES)
        return m;
    struct str key = output_slice(p, p->key_begin, p->key_end);
    struct str rest = output_slice(p, *end, p->in.n);
    if (rest.n <= key.n && str_starts(key, rest))
        return p->ended ? MATCH_NO : MATCH_MORE;
    return str_starts(rest, key) && rest.p[key.n] == '>' ? MATCH_YES : MATCH_NO;
}

static enum step tagged_value(struct output_parser *p)
{
    for (; p->at < p->in.n; p->at++) {
        size_t end;
        enum match m = value_close(p, &end);
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES && p->nest == 0) {
            put_parameter(p, output_slice(p, p->mark, p->at));
            p->at = end;
            p->stage = T_NEXT;
            return STEP_ON;
        }
        if (m == MATCH_YES)
            p->nest--;
        else if (p->sp->close_key && (m = same_open(p, &end)) == MATCH_YES && p->nest < 255)
            p->nest++;
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (p->at - p->base > OUTPUT_MAX_CALL)
            return STEP_FAIL;
    }
    return STEP_MORE;
}

enum step call_tagged(struct output_parser *p)
{
    switch (p->stage) {
    case T_NAME:
        return tagged_name(p);
    case T_NAME_END:
        return tagged_name_end(p);
    case T_NEXT:
        return tagged_next(p);
    case T_KEY:
        return tagged_key(p);
    default:
        return tagged_value(p);
    }
}
