/* Messages with a header that says for whom they are, as gpt-oss speaks (OpenAI's harmony):
 *   <|channel|>analysis<|message|>..<|end|><|start|>assistant<|channel|>final<|message|>..<|return|>
 *   <|channel|>commentary to=functions.f <|constrain|>json<|message|>{..}<|call|>
 * analysis is reasoning, what is for a function a call, the rest content. */
#include "runtime/text/output_parser_priv.h"

#include <string.h>

static const struct marker recipient = { "to=", { false }, 3 };

/* In a spelling of this style: section_open <|channel|>, call_open <|start|>, name_end <|message|>,
 * call_close <|call|>, section_close <|end|>, value_close <|return|>. */
bool channel_turn(struct output_parser *p, bool *more)
{
    const struct spelling *sp = &p->f->spelling[0];
    size_t end = 0;
    if (output_meets(p, &sp->section_close, true, &end, more) ||
        output_meets(p, &sp->value_close, true, &end, more) ||
        output_meets(p, &sp->call_close, true, &end, more)) {
        output_turn(p, end, false);
        return true;
    }
    if (!output_meets(p, &sp->section_open, true, &end, more) &&
        !output_meets(p, &sp->call_open, true, &end, more) &&
        !output_meets(p, &recipient, p->fresh && !p->in_thought, &end, more))
        return false;
    p->sp = sp;
    p->in_thought = false;
    output_mark(p);
    p->mark = p->at;
    p->at = end;
    p->phase = PHASE_SECTION;
    p->stage = 0;
    return true;
}

/* Whom the header names behind "to=". */
static struct str header_recipient(struct str header)
{
    const char *at = header.n ? memmem(header.p, header.n, "to=", 3) : NULL;
    if (!at)
        return STR("");
    struct str to = { at + 3, header.n - (size_t)(at + 3 - header.p) };
    size_t n = 0;
    while (n < to.n && !is_blank(to.p[n]) && to.p[n] != '<')
        n++;
    return (struct str){ to.p, n };
}

/* The header of in[mark, at) is whole; the message begins at `end`. */
static enum step got_header(struct output_parser *p, size_t end)
{
    struct str header = output_slice(p, p->mark, p->at), to = header_recipient(header);
    struct str prefix = STR("functions.");
    p->at = end;
    if (!to.n) {
        p->phase = PHASE_TEXT;
        output_turn(p, end, str_holds(header, STR("analysis")));
        p->skip_blanks = p->fresh = false;
        return STEP_ON;
    }
    if (str_starts(to, prefix))
        to = (struct str){ to.p + prefix.n, to.n - prefix.n };
    const json_t *tool = call_tool(p, to);
    if (!tool)
        return call_fail(p);
    call_start(p, p->sp, end);
    p->tool = tool;
    return STEP_ON;
}

/* Both phases of a channel: the header, then (PHASE_CALL) the arguments. */
enum step channel_head(struct output_parser *p)
{
    if (p->phase == PHASE_CALL) {
        if (p->stage == 0) {
            call_begin(p);
            begin_value(p, 1);
        }
        enum step s = stream_arguments(p);
        return s == STEP_ON ? call_end(p) : s;
    }
    for (; p->at < p->in.n && p->at - p->mark <= KEY_MAX; p->at++) {
        size_t end;
        enum match m = match_at(p, p->at, &p->sp->name_end, &end);
        if (m == MATCH_MORE)
            return STEP_MORE;
        if (m == MATCH_YES)
            return got_header(p, end);
    }
    return p->ended || p->at < p->in.n ? call_fail(p) : STEP_MORE;
}
