/* Sets of code points, and those that have names. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/base/mem.h"
#include "runtime/text/regex_priv.h"

#define LAST 0x10FFFFu

bool ranges_add(struct ranges *r, uint32_t lo, uint32_t hi)
{
    if (!mem_grow(&r->v, &r->cap, r->n + 2, sizeof *r->v, RANGES_MAX))
        return false;
    r->v[r->n++] = lo;
    r->v[r->n++] = hi;
    return true;
}

bool ranges_add_all(struct ranges *r, const uint32_t *v, size_t n)
{
    bool good = true;
    for (size_t i = 0; i + 1 < n && good; i += 2)
        good = ranges_add(r, v[i], v[i + 1]);
    return good;
}

static int by_first(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void ranges_sort(struct ranges *r)
{
    size_t n = 0;
    if (r->n)
        qsort(r->v, r->n / 2, 2 * sizeof *r->v, by_first);
    for (size_t i = 0; i < r->n; i += 2) {
        uint32_t lo = r->v[i], hi = r->v[i + 1];
        if (n && lo <= r->v[n - 1] + 1) {
            if (hi > r->v[n - 1])
                r->v[n - 1] = hi;
            continue;
        }
        r->v[n++] = lo;
        r->v[n++] = hi;
    }
    r->n = n;
}

bool ranges_negate(struct ranges *r)
{
    struct ranges out = { 0 };
    uint32_t from = 0;
    bool good = true;
    ranges_sort(r);
    for (size_t i = 0; i < r->n && good; i += 2) {
        if (r->v[i] > from)
            good = ranges_add(&out, from, r->v[i] - 1);
        from = r->v[i + 1] + 1;
    }
    if (good && from <= LAST)
        good = ranges_add(&out, from, LAST);
    ranges_finish(r);
    *r = out;
    return good;
}

void ranges_finish(struct ranges *r)
{
    mem_free(r->v);
    *r = (struct ranges){ 0 };
}

#define ADD(r, table) ranges_add_all((r), (table), sizeof(table) / sizeof(table)[0])

bool ranges_class(struct ranges *r, char letter)
{
    static const uint32_t digit[] = { '0', '9' };
    static const uint32_t word[] = { '0', '9', 'A', 'Z', '_', '_', 'a', 'z' };
    static const uint32_t space[] = { 9, 13, ' ', ' ', 0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200A,
                                      0x2028, 0x2029, 0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000,
                                      0xFEFF, 0xFEFF };
    static const uint32_t python_space[] = { 0x1C, 0x1F, 0x85, 0x85 };
    struct ranges own = { 0 };
    bool good;
    switch (letter) {
    case 'd':
    case 'D':
        good = ADD(&own, digit);
        break;
    case 'w':
    case 'W':
        good = ADD(&own, word);
        break;
    default:
        good = ADD(&own, space) && (letter == 's' || ADD(&own, python_space));
    }
    if (good && letter < 'a')
        good = ranges_negate(&own);
    good = good && ranges_add_all(r, own.v, own.n);
    ranges_finish(&own);
    return good;
}

/* UAX #44, table 12. A group has the one letter that its members begin with. */
static const struct category {
    char name[3];
    const char *also;
} categories[] = {
    { "L", "Letter" },           { "Lu", "Uppercase_Letter" },  { "Ll", "Lowercase_Letter" },
    { "Lt", "Titlecase_Letter" }, { "Lm", "Modifier_Letter" },   { "Lo", "Other_Letter" },
    { "M", "Mark" },             { "Mn", "Nonspacing_Mark" },   { "Mc", "Spacing_Mark" },
    { "Me", "Enclosing_Mark" },  { "N", "Number" },             { "Nd", "Decimal_Number" },
    { "Nd", "digit" },           { "Nl", "Letter_Number" },     { "No", "Other_Number" },
    { "P", "Punctuation" },      { "P", "punct" },              { "Pc", "Connector_Punctuation" },
    { "Pd", "Dash_Punctuation" }, { "Ps", "Open_Punctuation" },  { "Pe", "Close_Punctuation" },
    { "Pi", "Initial_Punctuation" }, { "Pf", "Final_Punctuation" }, { "Po", "Other_Punctuation" },
    { "S", "Symbol" },           { "Sm", "Math_Symbol" },       { "Sc", "Currency_Symbol" },
    { "Sk", "Modifier_Symbol" }, { "So", "Other_Symbol" },      { "Z", "Separator" },
    { "Zs", "Space_Separator" }, { "Zl", "Line_Separator" },    { "Zp", "Paragraph_Separator" },
    { "C", "Other" },            { "Cc", "Control" },           { "Cf", "Format" },
    { "Co", "Private_Use" },     { "Cn", "Unassigned" },
};

bool ranges_category(struct ranges *r, struct str name, bool *known)
{
    static const char *const prefixes[] = { "General_Category=", "gc=" };
    for (size_t i = 0; i < 2; i++)
        if (str_starts(name, str_from(prefixes[i])))
            name = (struct str){ name.p + strlen(prefixes[i]), name.n - strlen(prefixes[i]) };
    *known = str_is(name, "Any") || str_is(name, "ASCII");
    if (*known)
        return ranges_add(r, 0, str_is(name, "Any") ? LAST : 0x7F);
    const struct category *c = NULL;
    for (size_t i = 0; i < sizeof categories / sizeof categories[0] && !c; i++)
        if (str_is(name, categories[i].name) || str_is(name, categories[i].also))
            c = &categories[i];
    *known = c != NULL;
    if (!c)
        return true;
    uint32_t from = 0;
    bool good = true, in = false;
    for (uint32_t cp = 0; cp <= LAST + 1 && good; cp++) {
        bool is = false;
        if (cp <= LAST) {
            const char *s = utf8proc_category_string((utf8proc_int32_t)cp);
            is = s[0] == c->name[0] && (!c->name[1] || s[1] == c->name[1]);
        }
        if (is && !in)
            from = cp;
        else if (!is && in)
            good = ranges_add(r, from, cp - 1);
        in = is;
    }
    return good;
}
