/* JSON (RFC 8259) as rules, in the bounds that readers have: numbers that a double and 64 bits hold, no NUL, no half of a
 * surrogate pair, white space of at most a line and its indent. */
#include "runtime/text/grammar_ir.h"

#define DEPTH 40 /* of values, before a token's worth of brackets more: readers stop at 64 */

static uint32_t text(struct gram *g, const char *s)
{
    return gram_literal(g, str_from(s));
}

static uint32_t digits(struct gram *g, uint32_t min, uint32_t max)
{
    return gram_repeat(g, gram_set(g, &(struct gram_range){ '0', '9' }, 1, false), min, max);
}

static uint32_t maybe(struct gram *g, uint32_t node)
{
    return gram_repeat(g, node, 0, 1);
}

/* One of these characters, then so many hexadecimal digits. */
static uint32_t hex(struct gram *g, const char *first, uint32_t more)
{
    static const struct gram_range all[] = { { '0', '9' }, { 'A', 'F' }, { 'a', 'f' } };
    struct gram_range in[32];
    size_t n = 0;
    for (; first[n] && n < 32; n++)
        in[n].lo = in[n].hi = (unsigned char)first[n];
    return gram_seq_of(g, gram_set(g, in, n, false), gram_repeat(g, gram_set(g, all, 3, false), more, more));
}

/* What follows "\\u": not 0000, and no half of a pair alone. */
static uint32_t escaped_unit(struct gram *g)
{
    static const char nonzero[] = "123456789ABCDEFabcdef";
    const uint32_t high = gram_seq_of(g, hex(g, "Dd", 0), hex(g, "89ABab", 2));
    const uint32_t low = gram_seq_of(g, hex(g, "Dd", 0), hex(g, "CDEFcdef", 2));
    return gram_alt_of(g, gram_seq_of(g, text(g, "000"), hex(g, nonzero, 0)),
                       gram_seq_of(g, text(g, "00"), hex(g, nonzero, 1)),
                       gram_seq_of(g, text(g, "0"), hex(g, nonzero, 2)), hex(g, "123456789ABCEFabcef", 3),
                       gram_seq_of(g, hex(g, "Dd", 0), hex(g, "01234567", 2)),
                       gram_seq_of(g, high, text(g, "\\u"), low));
}

static uint32_t string(struct gram *g)
{
    static const struct gram_range special[] = { { 0, 0x1F }, { '"', '"' }, { '\\', '\\' } };
    const uint32_t escape =
        gram_seq_of(g, text(g, "\\"), gram_alt_of(g, hex(g, "\"\\/bfnrt", 0), gram_seq_of(g, text(g, "u"), escaped_unit(g))));
    const uint32_t inner = gram_alt_of(g, gram_set(g, special, 3, true), escape);
    return gram_seq_of(g, text(g, "\""), gram_repeat(g, inner, 0, GRAM_MANY), text(g, "\""));
}

static uint32_t number(struct gram *g)
{
    const uint32_t whole = gram_alt_of(g, text(g, "0"), gram_seq_of(g, hex(g, "123456789", 0), digits(g, 0, 15)));
    const uint32_t part = gram_seq_of(g, text(g, "."), digits(g, 1, 16));
    const uint32_t power = gram_seq_of(g, hex(g, "eE", 0), maybe(g, hex(g, "+-", 0)), digits(g, 1, 2));
    return gram_seq_of(g, maybe(g, text(g, "-")), whole, maybe(g, part), maybe(g, power));
}

/* item, item, ... between brackets, or nothing. */
static uint32_t list(struct gram *g, const char *open, uint32_t item, const char *close, uint32_t white)
{
    const uint32_t next = gram_seq_of(g, text(g, ","), white, item, white);
    const uint32_t items = gram_seq_of(g, item, white, gram_repeat(g, next, 0, GRAM_MANY));
    return gram_seq_of(g, text(g, open), white, maybe(g, items), text(g, close));
}

uint32_t gram_json(struct gram *g, bool object_only)
{
    static const struct gram_range blank[] = { { ' ', ' ' }, { '\t', '\t' } };
    const uint32_t value = gram_rule(g, STR("")), object = gram_rule(g, STR("")), array = gram_rule(g, STR(""));
    const uint32_t string_rule = gram_rule(g, STR(""));
    const uint32_t indent = gram_seq_of(g, text(g, "\n"), gram_repeat(g, gram_set(g, blank, 2, false), 0, 20));
    const uint32_t white = maybe(g, gram_alt_of(g, text(g, " "), indent));
    const uint32_t member = gram_seq_of(g, gram_ref(g, string_rule), white, text(g, ":"), white, gram_ref(g, value));
    gram_define(g, string_rule, string(g));
    gram_define(g, object, list(g, "{", member, "}", white));
    gram_define(g, array, list(g, "[", gram_ref(g, value), "]", white));
    gram_define(g, value, gram_alt_of(g, gram_ref(g, object), gram_ref(g, array), gram_ref(g, string_rule), number(g),
                                      text(g, "true"), text(g, "false"), text(g, "null")));
    gram_max_calls(g, DEPTH);
    return gram_ref(g, object_only ? object : value);
}
