/* Calls: what all styles share. */
#include "runtime/text/output_parser_priv.h"

#include <string.h>

static enum step (*const style_step[STYLE_COUNT])(struct output_parser *) = {
    [STYLE_JSON] = call_json,     [STYLE_KEYED] = call_keyed,    [STYLE_NAMED] = call_named,
    [STYLE_TAGGED] = call_tagged, [STYLE_PYTHON] = call_keyword, [STYLE_GEMMA] = call_keyword,
    [STYLE_CHANNEL] = channel_head,
};

const char *tool_name(const json_t *tool)
{
    const json_t *f = json_object_get(tool, "function");
    return json_string_value(json_object_get(json_is_object(f) ? f : tool, "name"));
}

const json_t *tool_parameters(const json_t *tool)
{
    const json_t *f = json_object_get(tool, "function");
    const json_t *p = json_object_get(json_is_object(f) ? f : tool, "parameters");
    return p ? p : json_object_get(tool, "input_schema");
}

const json_t *call_tool(const struct output_parser *p, struct str name)
{
    for (size_t i = 0; i < json_array_size(p->tools); i++) {
        const json_t *tool = json_array_get(p->tools, i);
        const char *n = tool_name(tool);
        if (n && n[0] && str_is(name, n))
            return tool;
    }
    return NULL;
}

static bool name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-' || (unsigned char)c >= 0x80;
}

enum match call_name(struct output_parser *p)
{
    struct str rest = output_slice(p, p->at, p->in.n);
    size_t longest = 0;
    for (size_t i = 0; i < json_array_size(p->tools); i++) {
        const json_t *tool = json_array_get(p->tools, i);
        struct str name = str_from(tool_name(tool));
        if (!p->ended && name.n >= rest.n && str_starts(name, rest))
            return MATCH_MORE;
        if (name.n > longest && str_starts(rest, name)) {
            longest = name.n;
            p->tool = tool;
        }
    }
    if (!longest || (longest < rest.n && name_byte(rest.p[longest])))
        return MATCH_NO;
    p->at += longest;
    return MATCH_YES;
}

void call_begin(struct output_parser *p)
{
    p->begun = true;
    output_emit(p, OUTPUT_CALL_BEGIN, str_from(tool_name(p->tool)));
}

void call_arguments(struct output_parser *p, struct str text)
{
    if (text.n)
        output_emit(p, OUTPUT_CALL_ARGUMENTS, text);
}

enum step call_end(struct output_parser *p)
{
    output_emit(p, OUTPUT_CALL_END, STR(""));
    p->n_calls++;
    p->begun = false;
    p->base = p->solid = p->at;
    p->phase = PHASE_BETWEEN;
    p->stage = 0;
    return STEP_ON;
}

void call_start(struct output_parser *p, const struct spelling *sp, size_t at)
{
    p->sp = sp;
    p->at = p->mark = at;
    p->phase = PHASE_CALL;
    p->stage = p->nest = 0;
    p->tool = NULL;
    p->has_args = p->args_out = p->n_params = false;
    p->id_begin = p->id_end = 0;
    buf_clear(&p->args);
}

/* What was read of the call is content, and reading goes on behind it. */
enum step call_fail(struct output_parser *p)
{
    if (p->begun)
        output_emit(p, OUTPUT_CALL_DROPPED, STR(""));
    p->begun = p->in_section = false;
    p->phase = PHASE_TEXT;
    p->skip_blanks = false;
    if (p->at > p->base || p->ended) {
        p->fresh = false;
        output_flush(p, p->at);
    }
    return STEP_ON;
}

enum step output_call(struct output_parser *p)
{
    enum step s = style_step[p->sp->style](p);
    size_t n = p->at - p->base;
    bool over = n > OUTPUT_MAX_CALL || (!p->begun && n > HEAD_MAX);
    if (s == STEP_FAIL || (s == STEP_MORE && (p->ended || over)))
        return call_fail(p);
    return s;
}

static bool bare(const struct spelling *sp)
{
    return !sp->call_open.n;
}

/* Whether a call without an opening marker begins here. */
static bool bare_begins(const struct output_parser *p, const struct spelling *sp)
{
    char c = p->at < p->in.n ? p->in.p[p->at] : '\0';
    if (sp->style == STYLE_JSON || sp->style == STYLE_KEYED)
        return c == '{';
    return c && name_byte(c);
}

/* Behind section_open: a call must come. */
enum step output_section(struct output_parser *p)
{
    const struct spelling *sp = p->sp;
    if (sp->style == STYLE_CHANNEL)
        return channel_head(p);
    if (!take_blanks(p))
        return STEP_MORE;
    if (sp->array && !p->stage && p->at < p->in.n && p->in.p[p->at] == '[') {
        p->stage = 1;
        p->at++;
        return STEP_ON;
    }
    enum match m = bare(sp) ? (bare_begins(p, sp) ? MATCH_YES : MATCH_NO)
                            : take_marker(p, &sp->call_open);
    if (m == MATCH_MORE)
        return STEP_MORE;
    if (m == MATCH_NO)
        return call_fail(p);
    p->in_section = true;
    call_start(p, sp, p->at);
    return STEP_ON;
}

/* Text goes on; the blanks before it are layout. */
static enum step calls_over(struct output_parser *p)
{
    p->phase = PHASE_TEXT;
    p->base = p->solid = p->at;
    p->in_section = false;
    p->fresh = p->skip_blanks = true;
    return STEP_ON;
}

/* A closing marker; at the text's end a part of it will do, for its last token may end the answer. */
static enum match match_close(const struct output_parser *p, const struct marker *m, size_t *end)
{
    enum match got = match_at(p, p->at, m, end);
    size_t left = p->in.n - p->at;
    if (got == MATCH_NO && p->ended && left && left < m->n && m->n &&
        memcmp(p->in.p + p->at, m->p, left) == 0) {
        *end = p->in.n;
        return MATCH_YES;
    }
    return got;
}

enum { B_CLOSE, B_NEXT, B_END };

static enum step between_next(struct output_parser *p)
{
    const struct spelling *sp = p->sp;
    bool again = p->in_section || bare(sp);
    size_t end;
    if (sp->section_close.n) {
        enum match m = match_close(p, &sp->section_close, &end);
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES) {
            p->at = end;
            return calls_over(p);
        }
    }
    if (sp->call_open.n && again) {
        enum match m = match_at(p, p->at, &sp->call_open, &end);
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES) {
            p->base = p->at;
            call_start(p, sp, end);
            return STEP_ON;
        }
    }
    if (bare(sp) && p->stage == B_NEXT && bare_begins(p, sp)) {
        p->base = p->at;
        call_start(p, sp, p->at);
        return STEP_ON;
    }
    return calls_over(p);
}

/* Behind a call: its closing marker, a separator, the next call or the section's end. */
enum step output_between(struct output_parser *p)
{
    const struct spelling *sp = p->sp;
    if (p->stage == B_CLOSE) {
        size_t end = p->at;
        if (!take_blanks(p))
            return STEP_MORE;
        enum match m = sp->call_close.n ? match_close(p, &sp->call_close, &end) : MATCH_YES;
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES && sp->call_close.n)
            p->at = end;
        bool one = sp->style == STYLE_CHANNEL;
        p->stage = m == MATCH_YES && !one ? B_NEXT : B_END;
        p->base = p->at;
        return STEP_ON;
    }
    if (!take_blanks(p))
        return STEP_MORE;
    p->base = p->at;
    char c = p->at < p->in.n ? p->in.p[p->at] : '\0';
    if (p->stage == B_NEXT && one_of(sp->array ? ",]" : bare(sp) ? ",;" : "", c)) {
        p->base = ++p->at;
        if (c == ']')
            p->stage = B_END;
        return STEP_ON;
    }
    return between_next(p);
}
