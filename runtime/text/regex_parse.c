/* Pattern -> tree. A group, an alternative and a sequence keep their parts as a list of siblings. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/regex_priv.h"

#define MAX_NODES ((size_t)1 << 19)
#define MAX_SETS 4096 /* that differ from each other and go beyond ASCII, or not */
#define NO_CHAR UINT32_MAX

bool regex_fail(struct regex *x, enum err_code code, size_t at, const char *fmt, ...)
{
    if (x->failed)
        return false;
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err_set(x->e, code, "%s at byte %zu of the pattern", text, at);
    x->failed = true;
    return false;
}

static bool no_memory(struct regex *x)
{
    return regex_fail(x, ERR_NO_MEMORY, x->at, "no memory for a regular expression");
}

static uint32_t add(struct regex *x, struct regex_node node)
{
    if (x->failed)
        return 0;
    if (x->n >= MAX_NODES) {
        regex_fail(x, ERR_TOO_LARGE, x->at, "more than %zu parts", MAX_NODES);
        return 0;
    }
    if (!mem_grow(&x->v, &x->cap, x->n + 1, sizeof *x->v, MAX_NODES)) {
        no_memory(x);
        return 0;
    }
    x->v[x->n++] = node;
    return (uint32_t)x->n;
}

static bool more(const struct regex *x)
{
    return !x->failed && x->at < x->p.n;
}

static char peek(const struct regex *x)
{
    return x->at < x->p.n ? x->p.p[x->at] : '\0';
}

static bool take(struct regex *x, const char *word)
{
    size_t n = strlen(word);
    if (x->p.n - x->at < n || memcmp(x->p.p + x->at, word, n) != 0)
        return false;
    x->at += n;
    return true;
}

/* Takes over the ranges; gives the node. */
static uint32_t add_set(struct regex *x, struct ranges *r)
{
    ranges_sort(r);
    size_t i = 0;
    while (i < x->n_sets && (x->sets[i].r.n != r->n ||
                             (r->n && memcmp(x->sets[i].r.v, r->v, r->n * sizeof *r->v) != 0)))
        i++;
    if (i < x->n_sets) {
        ranges_finish(r);
    } else if (x->n_sets >= MAX_SETS) {
        ranges_finish(r);
        regex_fail(x, ERR_TOO_LARGE, x->at, "more than %d classes of characters", MAX_SETS);
    } else if (!mem_grow(&x->sets, &x->sets_cap, x->n_sets + 1, sizeof *x->sets, MAX_SETS)) {
        ranges_finish(r);
        no_memory(x);
    } else {
        x->sets[x->n_sets++] = (struct regex_set){ .r = *r };
    }
    return add(x, (struct regex_node){ .kind = RX_SET, .set = (uint32_t)i });
}

/* ---- characters ---- */

static uint32_t character(struct regex *x)
{
    uint32_t cp = NO_CHAR;
    size_t n = utf8_step(x->p.p + x->at, x->p.n - x->at, &cp);
    if (!n) {
        regex_fail(x, ERR_INVALID, x->at, "not UTF-8");
        return NO_CHAR;
    }
    x->at += n;
    return cp;
}

static bool hex(struct regex *x, size_t digits, uint32_t *out)
{
    uint32_t v = 0;
    if (x->p.n - x->at < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        char c = x->p.p[x->at + i];
        const char *all = "0123456789abcdef", *at = c ? strchr(all, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
        if (!at)
            return false;
        v = v << 4 | (uint32_t)(at - all);
    }
    x->at += digits;
    *out = v;
    return true;
}

/* Behind \u. */
static uint32_t unicode_escape(struct regex *x, size_t at)
{
    uint32_t cp = 0, low = 0;
    if (take(x, "{")) {
        size_t n = 0;
        while (x->at + n < x->p.n && x->p.p[x->at + n] != '}')
            n++;
        if (n >= 1 && n <= 6 && hex(x, n, &cp) && take(x, "}") && cp <= 0x10FFFF)
            return cp;
    } else if (hex(x, 4, &cp)) {
        size_t behind = x->at;
        if (cp >= 0xD800 && cp < 0xDC00 && take(x, "\\u") && hex(x, 4, &low) && low >= 0xDC00 && low < 0xE000)
            return 0x10000 + ((cp - 0xD800) << 10 | (low - 0xDC00));
        x->at = behind;
        return cp; /* a lone surrogate is in no text: such a set is empty */
    }
    regex_fail(x, ERR_INVALID, at, "\\u without the digits of a code point");
    return NO_CHAR;
}

/* An escape for one character, behind the backslash. */
static uint32_t escape(struct regex *x, size_t at)
{
    static const char from[] = "tnvfr0", to[] = "\t\n\v\f\r";
    uint32_t cp = 0;
    char c = peek(x);
    const char *known = c ? strchr(from, c) : NULL;
    if (c == '0' && x->at + 1 < x->p.n && x->p.p[x->at + 1] >= '0' && x->p.p[x->at + 1] <= '9')
        known = NULL;
    if (known) {
        x->at++;
        return (uint32_t)to[known - from];
    }
    if (take(x, "x")) {
        if (hex(x, 2, &cp))
            return cp;
        regex_fail(x, ERR_INVALID, at, "\\x without two hexadecimal digits");
    } else if (take(x, "u")) {
        return unicode_escape(x, at);
    } else if (take(x, "c")) {
        c = peek(x);
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
            x->at++;
            return (uint32_t)c & 31;
        }
        regex_fail(x, ERR_INVALID, at, "\\c without a letter");
    } else if (c >= '0' && c <= '9') {
        regex_fail(x, ERR_UNSUPPORTED, at, "a back-reference");
    } else if (c == 'k') {
        regex_fail(x, ERR_UNSUPPORTED, at, "a back-reference by name");
    } else if (c == 'b' || c == 'B') {
        regex_fail(x, ERR_UNSUPPORTED, at, "a word boundary");
    } else if (!more(x)) {
        regex_fail(x, ERR_INVALID, at, "a backslash without what it escapes");
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        regex_fail(x, ERR_INVALID, at, "\\%c is no escape", c);
    } else {
        return character(x);
    }
    return NO_CHAR;
}

/* ---- classes ---- */

static bool property(struct regex *x, size_t at, struct ranges *r)
{
    bool negated = peek(x) == 'P', known = false;
    struct ranges own = { 0 };
    x->at++;
    size_t n = 0;
    while (x->at + n < x->p.n && x->p.p[x->at + n] != '}')
        n++;
    if (!take(x, "{") || x->at + n - 1 >= x->p.n)
        return regex_fail(x, ERR_INVALID, at, "\\p without a property");
    struct str name = { x->p.p + x->at, n - 1 };
    x->at += n;
    bool good = ranges_category(&own, name, &known);
    if (good && known)
        good = (!negated || ranges_negate(&own)) && ranges_add_all(r, own.v, own.n);
    ranges_finish(&own);
    if (!known)
        return regex_fail(x, ERR_UNSUPPORTED, at, "the property \"%.*s\"", (int)(name.n < 40 ? name.n : 40), name.p);
    return good || no_memory(x);
}

/* \d and its like. False: it is none, nothing was taken (or failed). */
static bool class_escape(struct regex *x, size_t at, struct ranges *r)
{
    char c = peek(x);
    if (c == 'p' || c == 'P')
        return property(x, at, r);
    if (!c || !strchr("dDwWsS", c))
        return false;
    x->at++;
    return ranges_class(r, c) || no_memory(x);
}

/* One end of a range in a class; NO_CHAR: it was a whole set, or failed. */
static uint32_t class_atom(struct regex *x, struct ranges *r)
{
    size_t at = x->at;
    if (!take(x, "\\"))
        return character(x);
    if (class_escape(x, at, r) || x->failed)
        return NO_CHAR;
    if (take(x, "b"))
        return '\b';
    return escape(x, at);
}

/* Behind the [. */
static uint32_t class(struct regex *x)
{
    size_t begin = x->at - 1;
    struct ranges r = { 0 };
    bool negated = take(x, "^"), good = true;
    while (more(x) && good && peek(x) != ']') {
        size_t at = x->at;
        uint32_t lo = class_atom(x, &r), hi = lo;
        if (x->failed || (lo == NO_CHAR && x->at < x->p.n && peek(x) != '-'))
            continue;
        if (peek(x) == '-' && x->at + 1 < x->p.n && x->p.p[x->at + 1] != ']') {
            x->at++;
            hi = class_atom(x, &r);
            if (lo == NO_CHAR || hi == NO_CHAR) /* [\w-x]: the - stands for itself */
                good = ranges_add(&r, '-', '-') && (lo == NO_CHAR || ranges_add(&r, lo, lo)) &&
                       (hi == NO_CHAR || ranges_add(&r, hi, hi));
            else if (lo > hi)
                regex_fail(x, ERR_INVALID, at, "a range of characters that runs backwards");
            else
                good = ranges_add(&r, lo, hi);
        } else if (lo != NO_CHAR) {
            good = ranges_add(&r, lo, lo);
        }
    }
    if (good && negated)
        good = ranges_negate(&r);
    if (!good)
        no_memory(x);
    else if (!take(x, "]"))
        regex_fail(x, ERR_INVALID, begin, "a class without its ]");
    if (!x->failed)
        return add_set(x, &r);
    ranges_finish(&r);
    return 0;
}

static uint32_t one_char(struct regex *x, uint32_t cp)
{
    struct ranges r = { 0 };
    if (cp == NO_CHAR)
        return 0;
    if (ranges_add(&r, cp, cp))
        return add_set(x, &r);
    no_memory(x);
    return 0;
}

static uint32_t any_char(struct regex *x)
{
    static const uint32_t ends[] = { '\n', '\n', '\r', '\r', 0x2028, 0x2029 };
    struct ranges r = { 0 };
    if (ranges_add_all(&r, ends, 6) && ranges_negate(&r))
        return add_set(x, &r);
    ranges_finish(&r);
    no_memory(x);
    return 0;
}

static uint32_t escaped(struct regex *x)
{
    size_t at = x->at - 1;
    struct ranges r = { 0 };
    if (class_escape(x, at, &r))
        return add_set(x, &r);
    ranges_finish(&r);
    return x->failed ? 0 : one_char(x, escape(x, at));
}

/* ---- the grammar ---- */

static uint32_t alternatives(struct regex *x);

/* Behind the (. */
static uint32_t group(struct regex *x)
{
    static const struct {
        const char *mark, *name;
    } refused[] = { { "?=", "a look-ahead" },   { "?!", "a negative look-ahead" },
                    { "?<=", "a look-behind" }, { "?<!", "a negative look-behind" } };
    size_t begin = x->at - 1;
    for (size_t i = 0; i < 4; i++)
        if (take(x, refused[i].mark))
            regex_fail(x, ERR_UNSUPPORTED, begin, "%s", refused[i].name);
    if (take(x, "?<") || take(x, "?P<")) {
        while (more(x) && peek(x) != '>')
            x->at++;
        if (!take(x, ">"))
            regex_fail(x, ERR_INVALID, begin, "a group's name without its >");
    } else if (!take(x, "?:") && peek(x) == '?') {
        regex_fail(x, ERR_UNSUPPORTED, begin, "flags inside");
    }
    if (++x->depth > REGEX_MAX_DEPTH)
        regex_fail(x, ERR_TOO_LARGE, begin, "groups nested deeper than %d", REGEX_MAX_DEPTH);
    uint32_t node = alternatives(x);
    x->depth--;
    if (!x->failed && !take(x, ")"))
        regex_fail(x, ERR_INVALID, begin, "a group without its )");
    return node;
}

static bool number(struct regex *x, uint32_t *out)
{
    size_t at = x->at;
    uint32_t v = 0;
    for (; peek(x) >= '0' && peek(x) <= '9'; x->at++)
        v = v > REGEX_MAX_REPEAT ? v : v * 10 + (uint32_t)(peek(x) - '0');
    *out = v;
    return x->at > at;
}

/* A quantifier in braces. Where it is none, the { is a character. */
static bool braces(struct regex *x, uint32_t *min, uint32_t *max)
{
    size_t begin = x->at;
    bool good = take(x, "{") && number(x, min);
    *max = *min;
    if (good && take(x, ",") && !number(x, max))
        *max = UINT32_MAX;
    if (!good || !take(x, "}")) {
        x->at = begin;
        return false;
    }
    if (*min > REGEX_MAX_REPEAT || (*max != UINT32_MAX && *max > REGEX_MAX_REPEAT))
        regex_fail(x, ERR_TOO_LARGE, begin, "a repetition of more than %d", REGEX_MAX_REPEAT);
    else if (*max < *min)
        regex_fail(x, ERR_INVALID, begin, "a repetition whose end is before its beginning");
    return true;
}

static bool quantifier(struct regex *x, uint32_t *min, uint32_t *max)
{
    *min = 0;
    *max = UINT32_MAX;
    if (take(x, "+"))
        *min = 1;
    else if (take(x, "?"))
        *max = 1;
    else if (!take(x, "*") && !braces(x, min, max))
        return false;
    take(x, "?"); /* lazy: the same texts */
    return true;
}

static uint32_t atom(struct regex *x)
{
    if (take(x, "^"))
        return add(x, (struct regex_node){ .kind = RX_BEGIN });
    if (take(x, "$"))
        return add(x, (struct regex_node){ .kind = RX_END });
    if (take(x, "("))
        return group(x);
    if (take(x, "["))
        return class(x);
    if (take(x, "."))
        return any_char(x);
    if (take(x, "\\"))
        return escaped(x);
    uint32_t min, max;
    size_t at = x->at;
    if (quantifier(x, &min, &max)) {
        regex_fail(x, ERR_INVALID, at, "a repetition of nothing");
        return 0;
    }
    return one_char(x, character(x));
}

static uint32_t term(struct regex *x)
{
    uint32_t node = atom(x), min, max;
    size_t at = x->at;
    if (!x->failed && quantifier(x, &min, &max)) {
        if (x->v[node - 1].kind == RX_BEGIN || x->v[node - 1].kind == RX_END)
            regex_fail(x, ERR_INVALID, at, "a repetition of an anchor");
        node = add(x, (struct regex_node){ .kind = RX_REPEAT, .first = node, .min = min, .max = max });
        at = x->at;
        if (quantifier(x, &min, &max))
            regex_fail(x, ERR_INVALID, at, "a repetition of a repetition");
    }
    return node;
}

static uint32_t sequence(struct regex *x)
{
    uint32_t seq = add(x, (struct regex_node){ .kind = RX_SEQ }), last = 0;
    while (more(x) && peek(x) != '|' && peek(x) != ')') {
        uint32_t node = term(x);
        if (x->failed)
            break;
        if (last)
            x->v[last - 1].next = node;
        else
            x->v[seq - 1].first = node;
        last = node;
    }
    return seq;
}

static uint32_t alternatives(struct regex *x)
{
    uint32_t first = sequence(x), last = first;
    if (x->failed || peek(x) != '|')
        return first;
    uint32_t alt = add(x, (struct regex_node){ .kind = RX_ALT, .first = first });
    while (!x->failed && take(x, "|")) {
        uint32_t node = sequence(x);
        if (!x->failed)
            x->v[last - 1].next = node;
        last = node;
    }
    return alt;
}

uint32_t regex_parse(struct regex *x)
{
    uint32_t node = alternatives(x);
    if (!x->failed && x->at < x->p.n)
        regex_fail(x, ERR_INVALID, x->at, "a ) without its group");
    return x->failed ? 0 : node;
}
