/* Calls whose arguments are JSON: {"name": "f", "arguments": {..}}, f and JSON, {"f": {..}}. */
#include "runtime/text/output_parser_priv.h"

#include <string.h>

/* ---- one JSON value ------------------------------------------------------------------------ */

enum {
    S_VALUE,       /* a value must come */
    S_FIRST,       /* behind [: a value or ] */
    S_FIRST_KEY,   /* behind {: a key or } */
    S_KEY,         /* behind , in an object */
    S_COLON,
    S_AFTER,       /* behind a value inside of something */
    S_STRING,
    S_ESCAPE,
    S_HEX,         /* sub: digits to come */
    S_MINUS, S_ZERO, S_INT, S_POINT, S_FRACTION, S_E, S_E_SIGN, S_EXPONENT,
    S_WORD,        /* sub: word and place in it */
};

static const char *const words[] = { "true", "false", "null" };

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool in_object(const struct json_scan *s)
{
    return s->depth && (s->objects >> (s->depth - 1) & 1);
}

static enum scan_result value_done(struct json_scan *s)
{
    s->state = S_AFTER;
    return s->depth ? SCAN_MORE : SCAN_LAST;
}

static enum scan_result scan_open(struct json_scan *s, bool object)
{
    if (s->depth == JSON_MAX_DEPTH)
        return SCAN_BAD;
    s->objects = (s->objects & ~(UINT64_C(1) << s->depth)) | (uint64_t)object << s->depth;
    s->depth++;
    s->state = object ? S_FIRST_KEY : S_FIRST;
    return SCAN_MORE;
}

static enum scan_result scan_begin(struct json_scan *s, char c)
{
    if (is_blank(c))
        return SCAN_MORE;
    if (c == '{' || c == '[')
        return scan_open(s, c == '{');
    for (uint8_t i = 0; i < 3; i++)
        if (c == words[i][0]) {
            s->state = S_WORD;
            s->sub = (uint8_t)(i << 4 | 1);
            return SCAN_MORE;
        }
    s->key = false;
    s->state = c == '"' ? S_STRING : c == '-' ? S_MINUS : c == '0' ? S_ZERO : S_INT;
    return s->state == S_INT && !digit(c) ? SCAN_BAD : SCAN_MORE;
}

static enum scan_result scan_close(struct json_scan *s, char c)
{
    if (c != (in_object(s) ? '}' : ']'))
        return SCAN_BAD;
    s->depth--;
    return value_done(s);
}

static enum scan_result scan_after(struct json_scan *s, char c)
{
    if (is_blank(c))
        return SCAN_MORE;
    if (c != ',')
        return scan_close(s, c);
    s->state = in_object(s) ? S_KEY : S_VALUE;
    return SCAN_MORE;
}

static enum scan_result scan_key(struct json_scan *s, char c)
{
    if (is_blank(c))
        return SCAN_MORE;
    if (c == '"') {
        s->state = S_STRING;
        s->key = true;
        return SCAN_MORE;
    }
    return s->state == S_FIRST_KEY ? scan_close(s, c) : SCAN_BAD;
}

static enum scan_result scan_string(struct json_scan *s, char c)
{
    if (s->state == S_ESCAPE) {
        s->state = c == 'u' ? S_HEX : S_STRING;
        s->sub = 4;
        return c == 'u' || one_of("\"\\/bfnrt", c) ? SCAN_MORE : SCAN_BAD;
    }
    if (s->state == S_HEX) {
        bool hex = digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        if (--s->sub == 0)
            s->state = S_STRING;
        return hex ? SCAN_MORE : SCAN_BAD;
    }
    if ((unsigned char)c < 0x20)
        return SCAN_BAD;
    if (c == '\\')
        s->state = S_ESCAPE;
    if (c != '"')
        return SCAN_MORE;
    if (!s->key)
        return value_done(s);
    s->key = false;
    s->state = S_COLON;
    return SCAN_MORE;
}

static enum scan_result number_next(struct json_scan *s, uint8_t state)
{
    s->state = state;
    return SCAN_MORE;
}

static enum scan_result scan_number(struct json_scan *s, char c)
{
    uint8_t at = s->state;
    bool whole = at == S_ZERO || at == S_INT;
    if (digit(c)) {
        static const uint8_t next[] = { [S_INT] = S_INT, [S_POINT] = S_FRACTION,
                                        [S_FRACTION] = S_FRACTION, [S_E] = S_EXPONENT,
                                        [S_E_SIGN] = S_EXPONENT, [S_EXPONENT] = S_EXPONENT };
        if (at == S_MINUS)
            return number_next(s, c == '0' ? S_ZERO : S_INT);
        return at == S_ZERO ? SCAN_BAD : number_next(s, next[at]);
    }
    if (c == '.' && whole)
        return number_next(s, S_POINT);
    if ((c == 'e' || c == 'E') && (whole || at == S_FRACTION))
        return number_next(s, S_E);
    if ((c == '+' || c == '-') && at == S_E)
        return number_next(s, S_E_SIGN);
    if (!whole && at != S_FRACTION && at != S_EXPONENT)
        return SCAN_BAD;
    s->state = S_AFTER;
    return s->depth ? scan_after(s, c) : SCAN_BEFORE;
}

static enum scan_result scan_word(struct json_scan *s, char c)
{
    const char *w = words[s->sub >> 4];
    if (c != w[s->sub & 15])
        return SCAN_BAD;
    s->sub++;
    return w[s->sub & 15] ? SCAN_MORE : value_done(s);
}

enum scan_result json_scan_byte(struct json_scan *s, char c)
{
    switch (s->state) {
    case S_FIRST:
        if (c == ']')
            return scan_close(s, c);
        /* fallthrough */
    case S_VALUE:
        return scan_begin(s, c);
    case S_FIRST_KEY:
    case S_KEY:
        return scan_key(s, c);
    case S_COLON:
        if (c == ':')
            s->state = S_VALUE;
        return c == ':' || is_blank(c) ? SCAN_MORE : SCAN_BAD;
    case S_AFTER:
        return scan_after(s, c);
    case S_STRING:
    case S_ESCAPE:
    case S_HEX:
        return scan_string(s, c);
    case S_WORD:
        return scan_word(s, c);
    default:
        return scan_number(s, c);
    }
}

/* Passes the value that p->scan is in. STEP_ON: p->at is behind it. */
static enum step scan_value(struct output_parser *p)
{
    size_t most = p->begun ? OUTPUT_MAX_CALL : HEAD_MAX;
    while (p->at < p->in.n) {
        if (p->at - p->base > most)
            return STEP_FAIL;
        enum scan_result r = json_scan_byte(&p->scan, p->in.p[p->at]);
        if (r == SCAN_BAD)
            return STEP_FAIL;
        if (r != SCAN_BEFORE)
            p->at++;
        if (r != SCAN_MORE)
            return STEP_ON;
    }
    return STEP_MORE;
}

static bool is_value(struct str text, json_type type)
{
    json_t *v = json_parse(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    bool ok = v && json_typeof(v) == type;
    json_decref(v);
    return ok;
}

void begin_value(struct output_parser *p, uint8_t next)
{
    p->scan = (struct json_scan){ 0 };
    p->mark = p->at;
    p->stage = next;
}

/* The arguments object streams; what the scanner cannot see (a lone surrogate) is seen at its end. */
enum step stream_arguments(struct output_parser *p)
{
    size_t from = p->at;
    enum step s = scan_value(p);
    call_arguments(p, output_slice(p, from, p->at));
    if (s == STEP_ON && !is_value(output_slice(p, p->mark, p->at), JSON_OBJECT))
        return STEP_FAIL;
    return s;
}

/* ---- {"name": .., "arguments": ..} --------------------------------------------------------- */

enum {
    J_OPEN, /* { must come */
    J_KEY, /* a key, or } where none came yet */
    J_IN_KEY,
    J_COLON,
    J_VALUE,
    J_NAME, J_ID, J_ARGUMENTS, J_HELD, /* in such a value; held: the name is not known yet */
    J_OTHER,
    J_NEXT, /* , or } */
    J_NEXT_KEY,
    J_CLOSE,
};

static bool key_is(struct str key, const char *own, const char *const *known)
{
    if (own[0] && str_is(key, own))
        return true;
    for (; *known; known++)
        if (str_is(key, *known))
            return true;
    return false;
}

static uint8_t key_stage(const struct output_parser *p, struct str key)
{
    static const char *const name[] = { "name", "tool_name", "function_name", NULL };
    static const char *const args[] = { "arguments", "parameters", "args", NULL };
    static const char *const id[] = { "id", "tool_call_id", "call_id", NULL };
    const struct spelling *sp = p->sp;
    if (key_is(key, sp->arguments_key, args))
        return p->tool ? J_ARGUMENTS : J_HELD;
    return key_is(key, sp->name_key, name) ? J_NAME : key_is(key, sp->id_key, id) ? J_ID : J_OTHER;
}

/* A string of in[begin, end) with its quotes; the caller json_decref()s. */
static json_t *string_at(const struct output_parser *p, size_t begin, size_t end)
{
    json_t *v = json_parse((struct str){ p->in.p + begin, end - begin }, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!json_is_string(v)) {
        json_decref(v);
        return NULL;
    }
    return v;
}

static struct str json_text(const json_t *v)
{
    return (struct str){ json_string_value(v), json_string_length(v) };
}

/* Arguments that came before the name, or as JSON inside of a string. */
static enum step held_arguments(struct output_parser *p)
{
    struct str text = output_slice(p, p->args_begin, p->args_end);
    json_t *inner = NULL;
    if (text.n && text.p[0] == '"') {
        inner = string_at(p, p->args_begin, p->args_end);
        text = inner ? str_trim(json_text(inner)) : text;
    } else if (str_is(text, "null"))
        text = STR("{}");
    bool ok = is_value(text, JSON_OBJECT);
    if (ok) {
        call_arguments(p, text);
        p->args_out = true;
    }
    json_decref(inner);
    return ok ? STEP_ON : STEP_FAIL;
}

/* The id's value, in[id_begin, id_end): a string, or a number as it stands. */
static void emit_id(struct output_parser *p)
{
    json_t *v = string_at(p, p->id_begin, p->id_end);
    struct str text = v ? json_text(v) : output_slice(p, p->id_begin, p->id_end);
    if (text.n)
        output_emit(p, OUTPUT_CALL_ID, text);
    json_decref(v);
}

static enum step got_name(struct output_parser *p)
{
    json_t *v = string_at(p, p->mark, p->at);
    if (v && !p->tool)
        p->tool = call_tool(p, json_text(v));
    json_decref(v);
    if (!p->tool || p->begun)
        return STEP_FAIL;
    call_begin(p);
    if (p->id_end > p->id_begin)
        emit_id(p);
    return p->has_args ? held_arguments(p) : STEP_ON;
}

static enum step got_value(struct output_parser *p, uint8_t stage)
{
    p->stage = J_NEXT;
    if (stage == J_NAME)
        return got_name(p);
    if (stage == J_ID) {
        p->id_begin = p->mark;
        p->id_end = p->at;
        if (p->begun)
            emit_id(p);
    }
    if (stage == J_HELD) {
        if (p->has_args)
            return STEP_FAIL;
        p->has_args = true;
        p->args_begin = p->mark;
        p->args_end = p->at;
        return p->begun ? held_arguments(p) : STEP_ON;
    }
    if (stage == J_ARGUMENTS)
        p->args_out = true;
    return STEP_ON;
}

/* "function": {..} wraps the call; its keys count as the call's own. */
static enum step open_value(struct output_parser *p)
{
    struct str key = output_slice(p, p->key_begin, p->key_end);
    uint8_t stage = key_stage(p, key);
    char c = p->in.p[p->at];
    bool names = str_is(key, "function") || str_is(key, "tool_call");
    if (names && c == '{' && p->nest < 4) {
        p->stage = J_OPEN;
        return STEP_ON;
    }
    if (stage == J_OTHER && str_is(key, "function") && c == '"' && !p->tool)
        stage = J_NAME;
    if (stage == J_ARGUMENTS && c != '{')
        stage = J_HELD;
    if ((stage == J_ARGUMENTS || stage == J_HELD) && (p->args_out || p->has_args))
        return STEP_FAIL;
    if (stage == J_OTHER && !p->sp->section_open.n && !p->sp->call_open.n && !p->tool &&
        !str_is(key, "type"))
        return STEP_FAIL; /* without a marker any JSON may be meant: hold it back no longer */
    begin_value(p, stage);
    return STEP_ON;
}

static enum step punctuation(struct output_parser *p)
{
    char c = p->in.p[p->at];
    switch (p->stage) {
    case J_OPEN:
        p->nest++;
        p->stage = J_KEY;
        break;
    case J_COLON:
        p->stage = J_VALUE;
        break;
    default: /* J_NEXT, J_KEY */
        if (c == ',' && p->stage == J_NEXT)
            p->stage = J_NEXT_KEY;
        else if (c == '}')
            p->stage = --p->nest ? J_NEXT : J_CLOSE;
        else
            return STEP_FAIL;
        p->at++;
        return STEP_ON;
    }
    bool ok = c == (p->stage == J_KEY ? '{' : ':');
    p->at++;
    return ok ? STEP_ON : STEP_FAIL;
}

static enum step json_in_key(struct output_parser *p)
{
    enum step s = scan_value(p);
    if (s == STEP_ON) {
        p->key_begin = p->mark + 1;
        p->key_end = p->at - 1;
        p->stage = J_COLON;
    }
    return s;
}

static enum step json_closed(struct output_parser *p)
{
    if (!p->begun)
        return STEP_FAIL;
    if (!p->args_out)
        call_arguments(p, STR("{}"));
    return call_end(p);
}

enum step call_json(struct output_parser *p)
{
    uint8_t stage = p->stage;
    enum step s;
    if (stage == J_CLOSE)
        return json_closed(p);
    if (stage == J_IN_KEY)
        return json_in_key(p);
    if (stage >= J_NAME && stage <= J_OTHER) {
        s = stage == J_ARGUMENTS ? stream_arguments(p) : scan_value(p);
        return s == STEP_ON ? got_value(p, stage) : s;
    }
    if (!take_blanks(p))
        return STEP_MORE;
    if (p->at == p->in.n)
        return STEP_FAIL;
    if ((stage == J_KEY || stage == J_NEXT_KEY) && p->in.p[p->at] == '"') {
        begin_value(p, J_IN_KEY);
        return STEP_ON;
    }
    return stage == J_VALUE ? open_value(p) : punctuation(p);
}

/* ---- f <name_end> {..} --------------------------------------------------------------------- */

enum { N_BEGIN, N_ID, N_NAME, N_COUNT, N_NAME_END, N_ID_BEHIND, N_OPEN, N_ARGUMENTS };

/* An id: up to the marker behind it. */
static enum step named_id(struct output_parser *p, const struct marker *end, uint8_t next)
{
    for (; p->at < p->in.n; p->at++) {
        size_t behind;
        enum match m = match_at(p, p->at, end, &behind);
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES) {
            p->id_begin = p->mark;
            p->id_end = p->at;
            p->at = behind;
            p->stage = next;
            return STEP_ON;
        }
        if (p->at - p->mark > KEY_MAX)
            return STEP_FAIL;
    }
    return p->ended ? STEP_FAIL : STEP_MORE;
}

/* ":0" behind the name, where the id is the name's own text and the number. */
static enum step named_count(struct output_parser *p)
{
    while (p->at < p->in.n && (p->in.p[p->at] == ':' || digit(p->in.p[p->at])))
        p->at++;
    if (p->at == p->in.n && !p->ended)
        return STEP_MORE;
    p->id_begin = p->mark;
    p->id_end = p->at;
    p->stage = N_NAME_END;
    return STEP_ON;
}

static enum step named_name(struct output_parser *p)
{
    p->mark = p->at;
    struct str prefix = STR("functions."), rest = output_slice(p, p->at, p->in.n);
    if (p->sp->counted && rest.n < prefix.n && str_starts(prefix, rest) && !p->ended)
        return STEP_MORE;
    if (p->sp->counted && str_starts(rest, prefix))
        p->at += prefix.n;
    enum match m = call_name(p);
    if (m == MATCH_MORE)
        p->at = p->mark;
    p->stage = p->sp->counted ? N_COUNT : N_NAME_END;
    if (m == MATCH_MORE)
        p->stage = N_NAME;
    return m == MATCH_YES ? STEP_ON : m == MATCH_MORE ? STEP_MORE : STEP_FAIL;
}

/* The marker between name and arguments; a brace in its place will do. */
static enum step named_name_end(struct output_parser *p)
{
    enum match m = take_marker(p, &p->sp->name_end);
    if (m == MATCH_MORE)
        return STEP_MORE;
    if (m == MATCH_NO && (p->at == p->in.n || p->in.p[p->at] != '{'))
        return STEP_FAIL;
    p->mark = p->at;
    p->stage = p->sp->id_behind && m == MATCH_YES ? N_ID_BEHIND : N_OPEN;
    return STEP_ON;
}

static enum step named_open(struct output_parser *p)
{
    if (!take_blanks(p))
        return STEP_MORE;
    if (p->at == p->in.n || p->in.p[p->at] != '{')
        return STEP_FAIL;
    size_t id = p->id_begin, id_end = p->id_end;
    call_begin(p);
    if (id_end > id)
        output_emit(p, OUTPUT_CALL_ID, output_slice(p, id, id_end));
    begin_value(p, N_ARGUMENTS);
    return STEP_ON;
}

enum step call_named(struct output_parser *p)
{
    enum step s;
    switch (p->stage) {
    case N_BEGIN:
        if (!p->sp->id_first && !take_blanks(p))
            return STEP_MORE;
        p->mark = p->at;
        p->stage = p->sp->id_first ? N_ID : N_NAME;
        return STEP_ON;
    case N_ID:
        return named_id(p, &p->sp->id_end, N_NAME);
    case N_NAME:
        return named_name(p);
    case N_COUNT:
        return named_count(p);
    case N_NAME_END:
        return named_name_end(p);
    case N_ID_BEHIND:
        return named_id(p, &p->sp->id_end, N_OPEN);
    case N_OPEN:
        return named_open(p);
    default:
        s = stream_arguments(p);
        return s == STEP_ON ? call_end(p) : s;
    }
}

/* ---- {"f": {..}} --------------------------------------------------------------------------- */

enum { K_OPEN, K_NAME, K_IN_NAME, K_COLON, K_VALUE, K_ARGUMENTS, K_CLOSE };

static enum step keyed_name(struct output_parser *p)
{
    enum step s = scan_value(p);
    if (s != STEP_ON)
        return s;
    json_t *v = string_at(p, p->mark, p->at);
    p->tool = v ? call_tool(p, json_text(v)) : NULL;
    json_decref(v);
    p->stage = K_COLON;
    return p->tool ? STEP_ON : STEP_FAIL;
}

enum step call_keyed(struct output_parser *p)
{
    static const char want[] = { [K_OPEN] = '{', [K_NAME] = '"', [K_COLON] = ':',
                                 [K_VALUE] = '{', [K_CLOSE] = '}' };
    uint8_t stage = p->stage;
    if (stage == K_IN_NAME)
        return keyed_name(p);
    if (stage == K_ARGUMENTS) {
        enum step s = stream_arguments(p);
        p->stage = s == STEP_ON ? K_CLOSE : K_ARGUMENTS;
        return s;
    }
    if (!take_blanks(p))
        return STEP_MORE;
    if (p->at == p->in.n || p->in.p[p->at] != want[stage])
        return STEP_FAIL;
    if (stage == K_VALUE)
        call_begin(p);
    if (stage == K_NAME || stage == K_VALUE)
        begin_value(p, (uint8_t)(stage + 1));
    else {
        p->at++;
        p->stage = (uint8_t)(stage + 1);
    }
    return stage == K_CLOSE ? call_end(p) : STEP_ON;
}
