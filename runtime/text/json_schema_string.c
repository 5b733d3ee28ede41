/* Strings: languages of decoded texts, and how they are written. */
#include <string.h>

#include "runtime/text/dfa_priv.h"
#include "runtime/text/json_schema_priv.h"
#include "runtime/text/regex.h"

static const struct dfa *pattern_of(struct schema *c, const json_t *s)
{
    const json_t *v = json_object_get(s, "pattern");
    if (!json_is_string(v)) {
        schema_refuse(c, ERR_INVALID, s, "pattern", "must be a string");
        return NULL;
    }
    struct err e = { 0 };
    struct dfa *d = regex_dfa((struct str){ json_string_value(v), json_string_length(v) }, REGEX_SEARCH, &e);
    if (!d) {
        schema_refuse(c, e.code, s, "pattern", "%s", e.text);
        return NULL;
    }
    return lang_own(c, d);
}

static const struct dfa *limits_of(struct schema *c, const json_t *s)
{
    uint32_t min, max;
    if (!schema_count(c, s, "minLength", 0, &min) || !schema_count(c, s, "maxLength", NO_MAX, &max))
        return NULL;
    return lang_length(c, min, max == NO_MAX ? DFA_NO_MAX : max);
}

const struct shape *schema_string(struct schema *c, const json_t *s)
{
    struct shape *out = schema_alloc(c, 1, sizeof *out);
    const json_t *format = json_object_get(s, "format");
    bool known = false;
    if (format && !json_is_string(format)) {
        schema_refuse(c, ERR_INVALID, s, "format", "must be a string");
        return NULL;
    }
    const struct dfa *d = limits_of(c, s);
    if (d && json_object_get(s, "pattern"))
        d = lang_meet(c, d, pattern_of(c, s));
    if (d && format) {
        struct str name = { json_string_value(format), json_string_length(format) };
        const struct dfa *f = format_language(c, s, name, &known);
        if (known)
            d = lang_meet(c, d, f);
    }
    if (!out || c->failed)
        return NULL;
    *out = *c->any;
    out->string = d;
    return out;
}

/* ---- as JSON ---- */

/* What stands behind the backslash. 0: \u00XX. */
static char short_escape(uint8_t b)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = b ? strchr(from, b) : NULL;
    return at ? to[at - from] : '\0';
}

void string_literal(struct buf *out, struct str text)
{
    buf_putc(out, '"');
    for (size_t i = 0; i < text.n; i++) {
        uint8_t b = (uint8_t)text.p[i];
        char brief[] = { '\\', short_escape(b) };
        if (brief[1])
            buf_put(out, brief, 2);
        else if (b < 0x20)
            buf_printf(out, "\\u%04x", b);
        else
            buf_putc(out, (char)b);
    }
    buf_putc(out, '"');
}

static void add_escape(struct nfa *m, uint32_t from, uint8_t b, uint32_t to)
{
    static const char hex[] = "0123456789abcdef";
    char text[] = { '\\', 'u', '0', '0', hex[b >> 4], hex[b & 15] };
    char brief[] = { '\\', short_escape(b) };
    nfa_text(m, from, brief[1] ? (struct str){ brief, 2 } : (struct str){ text, 6 }, to);
}

struct dfa *string_literals(const struct dfa *d, struct err *e)
{
    struct nfa m = { 0 };
    uint32_t start = nfa_state(&m), final = nfa_state(&m), base = (uint32_t)m.n;
    for (uint32_t s = 0; s < d->n_states; s++)
        nfa_state(&m);
    for (uint32_t s = 1; s < d->n_states && !m.trouble; s++) {
        if (d->accept[s])
            nfa_bytes(&m, base + s, '"', '"', final);
        for (size_t lo = 0, hi; lo < 256; lo = hi + 1) {
            uint32_t next = dfa_step(d, s, (uint8_t)lo);
            bool escaped = lo < 0x20 || lo == '"' || lo == '\\';
            for (hi = lo; !escaped && hi < 255 && dfa_step(d, s, (uint8_t)(hi + 1)) == next && hi + 1 != '"' &&
                          hi + 1 != '\\';)
                hi++;
            if (next && escaped)
                add_escape(&m, base + s, (uint8_t)lo, base + next);
            else if (next)
                nfa_bytes(&m, base + s, (uint8_t)lo, (uint8_t)hi, base + next);
        }
    }
    nfa_bytes(&m, start, '"', '"', base + d->start);
    return nfa_take(&m, start, final, e);
}
