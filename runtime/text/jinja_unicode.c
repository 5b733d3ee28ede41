/* Code points of UTF-8 texts: counting, white space, case and classes, as Python has them.
 * Properties come from utf8proc; the mappings to several letters are those of Unicode's
 * SpecialCasing.txt without conditions. */
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/jinja.h"

size_t jinja_utf8(struct str s, size_t at, uint32_t *cp)
{
    unsigned char c = (unsigned char)s.p[at];
    if (c < 0x80) {
        *cp = c;
        return 1;
    }
    size_t n = utf8_step(s.p + at, s.n - at, cp);
    if (n)
        return n;
    *cp = 0xFFFD;
    return 1;
}

size_t jinja_cp_count(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xC0) != 0x80;
    return n;
}

size_t jinja_cp_offset(struct str s, size_t index)
{
    size_t i = 0;
    uint32_t cp;
    while (index-- && i < s.n)
        i += jinja_utf8(s, i, &cp);
    return i;
}

bool jinja_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= 9 && cp <= 13) || (cp >= 0x1C && cp <= 0x1F);
    return cp == 0x85 || cp == 0xA0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static utf8proc_category_t category(uint32_t cp)
{
    return utf8proc_category((utf8proc_int32_t)cp);
}

static bool is_alpha(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}

bool jinja_is_printable(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= 0x20 && cp != 0x7F;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

bool jinja_is_name_start(uint32_t cp)
{
    if (cp < 0x80)
        return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || cp == '_';
    return is_alpha(cp) || category(cp) == UTF8PROC_CATEGORY_NL;
}

bool jinja_is_name_part(uint32_t cp)
{
    if (cp < 0x80)
        return jinja_is_name_start(cp) || (cp >= '0' && cp <= '9');
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return jinja_is_name_start(cp);
    }
}

/* ---- strip, find, lines ---- */

/* Start of the code point that ends before `end`. */
static size_t previous(struct str s, size_t end)
{
    do
        end--;
    while (end > 0 && ((unsigned char)s.p[end] & 0xC0) == 0x80);
    return end;
}

static bool in_set(struct str chars, const char *p, size_t n)
{
    return jinja_find_str(chars, (struct str){ p, n }, 0) != SIZE_MAX;
}

/* chars.p NULL: white space. */
struct str jinja_strip_chars(struct str s, struct str chars, bool left, bool right)
{
    uint32_t cp;
    while (left && s.n) {
        size_t n = jinja_utf8(s, 0, &cp);
        if (chars.p ? !in_set(chars, s.p, n) : !jinja_is_space(cp))
            break;
        s.p += n;
        s.n -= n;
    }
    while (right && s.n) {
        size_t at = previous(s, s.n);
        jinja_utf8(s, at, &cp);
        if (chars.p ? !in_set(chars, s.p + at, s.n - at) : !jinja_is_space(cp))
            break;
        s.n = at;
    }
    return s;
}

struct str jinja_strip(struct str s, bool left, bool right)
{
    return jinja_strip_chars(s, (struct str){ 0 }, left, right);
}

size_t jinja_newline_at(struct str s, size_t at)
{
    uint32_t cp;
    size_t n = jinja_utf8(s, at, &cp);
    if (cp == '\r')
        return at + 1 < s.n && s.p[at + 1] == '\n' ? 2 : 1;
    return (cp >= '\n' && cp <= '\f') || (cp >= 0x1C && cp <= 0x1E) || cp == 0x85 ||
                   cp == 0x2028 || cp == 0x2029
               ? n
               : 0;
}

size_t jinja_find_str(struct str s, struct str needle, size_t from)
{
    if (from > s.n || needle.n > s.n - from)
        return SIZE_MAX;
    if (needle.n == 0)
        return from;
    const char *p = memmem(s.p + from, s.n - from, needle.p, needle.n);
    return p ? (size_t)(p - s.p) : SIZE_MAX;
}

/* The last occurrence that ends at or before `end`. */
size_t jinja_rfind_str(struct str s, struct str needle, size_t end)
{
    if (needle.n > end)
        return SIZE_MAX;
    for (size_t i = end - needle.n + 1; i-- > 0;)
        if (needle.n == 0 || memcmp(s.p + i, needle.p, needle.n) == 0)
            return i;
    return SIZE_MAX;
}

/* ---- case ---- */

static const struct {
    uint32_t cp;
    const char *upper, *title;
} special[] = {
    { 0x00DF, "\x53\x53", "\x53\x73" }, { 0x0149, "\xCA\xBC\x4E", "\xCA\xBC\x4E" },
    { 0x01F0, "\x4A\xCC\x8C", "\x4A\xCC\x8C" },
    { 0x0390, "\xCE\x99\xCC\x88\xCC\x81", "\xCE\x99\xCC\x88\xCC\x81" },
    { 0x03B0, "\xCE\xA5\xCC\x88\xCC\x81", "\xCE\xA5\xCC\x88\xCC\x81" },
    { 0x0587, "\xD4\xB5\xD5\x92", "\xD4\xB5\xD6\x82" }, { 0x1E96, "\x48\xCC\xB1", "\x48\xCC\xB1" },
    { 0x1E97, "\x54\xCC\x88", "\x54\xCC\x88" }, { 0x1E98, "\x57\xCC\x8A", "\x57\xCC\x8A" },
    { 0x1E99, "\x59\xCC\x8A", "\x59\xCC\x8A" }, { 0x1E9A, "\x41\xCA\xBE", "\x41\xCA\xBE" },
    { 0x1F50, "\xCE\xA5\xCC\x93", "\xCE\xA5\xCC\x93" },
    { 0x1F52, "\xCE\xA5\xCC\x93\xCC\x80", "\xCE\xA5\xCC\x93\xCC\x80" },
    { 0x1F54, "\xCE\xA5\xCC\x93\xCC\x81", "\xCE\xA5\xCC\x93\xCC\x81" },
    { 0x1F56, "\xCE\xA5\xCC\x93\xCD\x82", "\xCE\xA5\xCC\x93\xCD\x82" },
    { 0x1F80, "\xE1\xBC\x88\xCE\x99", "\xE1\xBE\x88" },
    { 0x1F81, "\xE1\xBC\x89\xCE\x99", "\xE1\xBE\x89" },
    { 0x1F82, "\xE1\xBC\x8A\xCE\x99", "\xE1\xBE\x8A" },
    { 0x1F83, "\xE1\xBC\x8B\xCE\x99", "\xE1\xBE\x8B" },
    { 0x1F84, "\xE1\xBC\x8C\xCE\x99", "\xE1\xBE\x8C" },
    { 0x1F85, "\xE1\xBC\x8D\xCE\x99", "\xE1\xBE\x8D" },
    { 0x1F86, "\xE1\xBC\x8E\xCE\x99", "\xE1\xBE\x8E" },
    { 0x1F87, "\xE1\xBC\x8F\xCE\x99", "\xE1\xBE\x8F" },
    { 0x1F88, "\xE1\xBC\x88\xCE\x99", "\xE1\xBE\x88" },
    { 0x1F89, "\xE1\xBC\x89\xCE\x99", "\xE1\xBE\x89" },
    { 0x1F8A, "\xE1\xBC\x8A\xCE\x99", "\xE1\xBE\x8A" },
    { 0x1F8B, "\xE1\xBC\x8B\xCE\x99", "\xE1\xBE\x8B" },
    { 0x1F8C, "\xE1\xBC\x8C\xCE\x99", "\xE1\xBE\x8C" },
    { 0x1F8D, "\xE1\xBC\x8D\xCE\x99", "\xE1\xBE\x8D" },
    { 0x1F8E, "\xE1\xBC\x8E\xCE\x99", "\xE1\xBE\x8E" },
    { 0x1F8F, "\xE1\xBC\x8F\xCE\x99", "\xE1\xBE\x8F" },
    { 0x1F90, "\xE1\xBC\xA8\xCE\x99", "\xE1\xBE\x98" },
    { 0x1F91, "\xE1\xBC\xA9\xCE\x99", "\xE1\xBE\x99" },
    { 0x1F92, "\xE1\xBC\xAA\xCE\x99", "\xE1\xBE\x9A" },
    { 0x1F93, "\xE1\xBC\xAB\xCE\x99", "\xE1\xBE\x9B" },
    { 0x1F94, "\xE1\xBC\xAC\xCE\x99", "\xE1\xBE\x9C" },
    { 0x1F95, "\xE1\xBC\xAD\xCE\x99", "\xE1\xBE\x9D" },
    { 0x1F96, "\xE1\xBC\xAE\xCE\x99", "\xE1\xBE\x9E" },
    { 0x1F97, "\xE1\xBC\xAF\xCE\x99", "\xE1\xBE\x9F" },
    { 0x1F98, "\xE1\xBC\xA8\xCE\x99", "\xE1\xBE\x98" },
    { 0x1F99, "\xE1\xBC\xA9\xCE\x99", "\xE1\xBE\x99" },
    { 0x1F9A, "\xE1\xBC\xAA\xCE\x99", "\xE1\xBE\x9A" },
    { 0x1F9B, "\xE1\xBC\xAB\xCE\x99", "\xE1\xBE\x9B" },
    { 0x1F9C, "\xE1\xBC\xAC\xCE\x99", "\xE1\xBE\x9C" },
    { 0x1F9D, "\xE1\xBC\xAD\xCE\x99", "\xE1\xBE\x9D" },
    { 0x1F9E, "\xE1\xBC\xAE\xCE\x99", "\xE1\xBE\x9E" },
    { 0x1F9F, "\xE1\xBC\xAF\xCE\x99", "\xE1\xBE\x9F" },
    { 0x1FA0, "\xE1\xBD\xA8\xCE\x99", "\xE1\xBE\xA8" },
    { 0x1FA1, "\xE1\xBD\xA9\xCE\x99", "\xE1\xBE\xA9" },
    { 0x1FA2, "\xE1\xBD\xAA\xCE\x99", "\xE1\xBE\xAA" },
    { 0x1FA3, "\xE1\xBD\xAB\xCE\x99", "\xE1\xBE\xAB" },
    { 0x1FA4, "\xE1\xBD\xAC\xCE\x99", "\xE1\xBE\xAC" },
    { 0x1FA5, "\xE1\xBD\xAD\xCE\x99", "\xE1\xBE\xAD" },
    { 0x1FA6, "\xE1\xBD\xAE\xCE\x99", "\xE1\xBE\xAE" },
    { 0x1FA7, "\xE1\xBD\xAF\xCE\x99", "\xE1\xBE\xAF" },
    { 0x1FA8, "\xE1\xBD\xA8\xCE\x99", "\xE1\xBE\xA8" },
    { 0x1FA9, "\xE1\xBD\xA9\xCE\x99", "\xE1\xBE\xA9" },
    { 0x1FAA, "\xE1\xBD\xAA\xCE\x99", "\xE1\xBE\xAA" },
    { 0x1FAB, "\xE1\xBD\xAB\xCE\x99", "\xE1\xBE\xAB" },
    { 0x1FAC, "\xE1\xBD\xAC\xCE\x99", "\xE1\xBE\xAC" },
    { 0x1FAD, "\xE1\xBD\xAD\xCE\x99", "\xE1\xBE\xAD" },
    { 0x1FAE, "\xE1\xBD\xAE\xCE\x99", "\xE1\xBE\xAE" },
    { 0x1FAF, "\xE1\xBD\xAF\xCE\x99", "\xE1\xBE\xAF" },
    { 0x1FB2, "\xE1\xBE\xBA\xCE\x99", "\xE1\xBE\xBA\xCD\x85" },
    { 0x1FB3, "\xCE\x91\xCE\x99", "\xE1\xBE\xBC" },
    { 0x1FB4, "\xCE\x86\xCE\x99", "\xCE\x86\xCD\x85" },
    { 0x1FB6, "\xCE\x91\xCD\x82", "\xCE\x91\xCD\x82" },
    { 0x1FB7, "\xCE\x91\xCD\x82\xCE\x99", "\xCE\x91\xCD\x82\xCD\x85" },
    { 0x1FBC, "\xCE\x91\xCE\x99", "\xE1\xBE\xBC" },
    { 0x1FC2, "\xE1\xBF\x8A\xCE\x99", "\xE1\xBF\x8A\xCD\x85" },
    { 0x1FC3, "\xCE\x97\xCE\x99", "\xE1\xBF\x8C" },
    { 0x1FC4, "\xCE\x89\xCE\x99", "\xCE\x89\xCD\x85" },
    { 0x1FC6, "\xCE\x97\xCD\x82", "\xCE\x97\xCD\x82" },
    { 0x1FC7, "\xCE\x97\xCD\x82\xCE\x99", "\xCE\x97\xCD\x82\xCD\x85" },
    { 0x1FCC, "\xCE\x97\xCE\x99", "\xE1\xBF\x8C" },
    { 0x1FD2, "\xCE\x99\xCC\x88\xCC\x80", "\xCE\x99\xCC\x88\xCC\x80" },
    { 0x1FD3, "\xCE\x99\xCC\x88\xCC\x81", "\xCE\x99\xCC\x88\xCC\x81" },
    { 0x1FD6, "\xCE\x99\xCD\x82", "\xCE\x99\xCD\x82" },
    { 0x1FD7, "\xCE\x99\xCC\x88\xCD\x82", "\xCE\x99\xCC\x88\xCD\x82" },
    { 0x1FE2, "\xCE\xA5\xCC\x88\xCC\x80", "\xCE\xA5\xCC\x88\xCC\x80" },
    { 0x1FE3, "\xCE\xA5\xCC\x88\xCC\x81", "\xCE\xA5\xCC\x88\xCC\x81" },
    { 0x1FE4, "\xCE\xA1\xCC\x93", "\xCE\xA1\xCC\x93" },
    { 0x1FE6, "\xCE\xA5\xCD\x82", "\xCE\xA5\xCD\x82" },
    { 0x1FE7, "\xCE\xA5\xCC\x88\xCD\x82", "\xCE\xA5\xCC\x88\xCD\x82" },
    { 0x1FF2, "\xE1\xBF\xBA\xCE\x99", "\xE1\xBF\xBA\xCD\x85" },
    { 0x1FF3, "\xCE\xA9\xCE\x99", "\xE1\xBF\xBC" },
    { 0x1FF4, "\xCE\x8F\xCE\x99", "\xCE\x8F\xCD\x85" },
    { 0x1FF6, "\xCE\xA9\xCD\x82", "\xCE\xA9\xCD\x82" },
    { 0x1FF7, "\xCE\xA9\xCD\x82\xCE\x99", "\xCE\xA9\xCD\x82\xCD\x85" },
    { 0x1FFC, "\xCE\xA9\xCE\x99", "\xE1\xBF\xBC" }, { 0xFB00, "\x46\x46", "\x46\x66" },
    { 0xFB01, "\x46\x49", "\x46\x69" }, { 0xFB02, "\x46\x4C", "\x46\x6C" },
    { 0xFB03, "\x46\x46\x49", "\x46\x66\x69" }, { 0xFB04, "\x46\x46\x4C", "\x46\x66\x6C" },
    { 0xFB05, "\x53\x54", "\x53\x74" }, { 0xFB06, "\x53\x54", "\x53\x74" },
    { 0xFB13, "\xD5\x84\xD5\x86", "\xD5\x84\xD5\xB6" },
    { 0xFB14, "\xD5\x84\xD4\xB5", "\xD5\x84\xD5\xA5" },
    { 0xFB15, "\xD5\x84\xD4\xBB", "\xD5\x84\xD5\xAB" },
    { 0xFB16, "\xD5\x8E\xD5\x86", "\xD5\x8E\xD5\xB6" },
    { 0xFB17, "\xD5\x84\xD4\xBD", "\xD5\x84\xD5\xAD" },
};

static const char *special_case(uint32_t cp, bool title)
{
    size_t low = 0, high = sizeof special / sizeof *special;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (special[mid].cp < cp)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == sizeof special / sizeof *special || special[low].cp != cp)
        return NULL;
    return title ? special[low].title : special[low].upper;
}

static bool is_cased(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    if (c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT)
        return true;
    return utf8proc_tolower((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp ||
           utf8proc_toupper((utf8proc_int32_t)cp) != (utf8proc_int32_t)cp;
}

static bool is_ignorable(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return cp == '\'' || cp == '.' || cp == ':' || cp == 0xB7 || cp == 0x2018 ||
               cp == 0x2019 || cp == 0x2024 || cp == 0x2027;
    }
}

/* Is the sigma of n bytes at `at` the last letter of a word? */
static bool final_sigma(struct str s, size_t at, size_t n)
{
    uint32_t cp = 0;
    size_t i = at;
    bool before = false;
    while (i > 0) {
        i = previous(s, i);
        jinja_utf8(s, i, &cp);
        if (!is_ignorable(cp)) {
            before = is_cased(cp);
            break;
        }
    }
    for (i = at + n; before && i < s.n;) {
        i += jinja_utf8(s, i, &cp);
        if (!is_ignorable(cp))
            return !is_cased(cp);
    }
    return before;
}

static void put_lower(struct text *t, struct str s, size_t at, size_t n, uint32_t cp)
{
    if (cp == 0x130)
        text_lit(t, "i\xCC\x87");
    else if (cp == 0x3A3)
        text_cp(t, final_sigma(s, at, n) ? 0x3C2 : 0x3C3);
    else
        text_cp(t, (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp));
}

static void put_folded(struct text *t, uint32_t cp)
{
    utf8proc_int32_t to[8];
    int boundary = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, to, 8, UTF8PROC_CASEFOLD,
                                                 &boundary);
    for (utf8proc_ssize_t i = 0; i < n && i < 8; i++)
        text_cp(t, (uint32_t)to[i]);
}

static void put_upper(struct text *t, uint32_t cp, bool title)
{
    const char *many = special_case(cp, title);
    if (many)
        text_lit(t, many);
    else
        text_cp(t, (uint32_t)(title ? utf8proc_totitle((utf8proc_int32_t)cp)
                                    : utf8proc_toupper((utf8proc_int32_t)cp)));
}

static bool is_upper_cp(uint32_t cp)
{
    return cp < 0x80 ? cp >= 'A' && cp <= 'Z' : utf8proc_isupper((utf8proc_int32_t)cp) != 0;
}

static bool is_lower_cp(uint32_t cp)
{
    return cp < 0x80 ? cp >= 'a' && cp <= 'z'
                     : category(cp) == UTF8PROC_CATEGORY_LL ||
                           utf8proc_islower((utf8proc_int32_t)cp) != 0 || cp == 0xAA ||
                           cp == 0xBA;
}

static bool ascii_case(struct render *r, const struct value *v, enum case_kind kind,
                       struct value *out)
{
    struct str s = v->u.s;
    uint32_t origin;
    char *p = jinja_alloc(r, s.n, 1);
    if (!p || !jinja_spend_bytes(r, s.n) || !origin_move(r, v, p, &origin))
        return false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (kind == CASE_UPPER)
            p[i] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
        else
            p[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    *out = value_str((struct str){ p, s.n });
    out->origin = origin;
    return true;
}

bool jinja_case(struct render *r, const struct value *v, enum case_kind kind, struct value *out)
{
    struct text t = { .r = r };
    struct str s = v->u.s;
    bool word = false;
    if ((kind == CASE_UPPER || kind == CASE_LOWER || kind == CASE_FOLD) && jinja_str_is(s, '7'))
        return ascii_case(r, v, kind, out);
    for (size_t i = 0; i < s.n && !t.failed;) {
        uint32_t cp;
        size_t n = jinja_utf8(s, i, &cp), start = t.n;
        bool first = kind == CASE_TITLE ? !word : i == 0;
        if (kind == CASE_UPPER || (kind == CASE_SWAP && is_lower_cp(cp)))
            put_upper(&t, cp, false);
        else if ((kind == CASE_CAPITALIZE || kind == CASE_TITLE) && first)
            put_upper(&t, cp, true);
        else if (kind == CASE_FOLD)
            put_folded(&t, cp);
        else if (kind == CASE_SWAP && !is_upper_cp(cp))
            text_put(&t, s.p + i, n);
        else
            put_lower(&t, s, i, n, cp);
        text_made(&t, start, v, s.p + i, n);
        word = is_cased(cp);
        i += n;
    }
    return text_take(&t, out);
}

/* ---- classes of whole strings ---- */

static bool is_digit(uint32_t cp, char what)
{
    utf8proc_category_t c = category(cp);
    if (c == UTF8PROC_CATEGORY_ND)
        return true;
    if (what == 'D')
        return false;
    if (what == 'd')
        return cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 ||
               (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
               (cp >= 0x2460 && cp <= 0x2468);
    return c == UTF8PROC_CATEGORY_NO || c == UTF8PROC_CATEGORY_NL;
}

static bool cp_is(uint32_t cp, char what, size_t at)
{
    switch (what) {
    case 'a':
        return is_alpha(cp);
    case 'd':
    case 'D':
    case 'n':
        return is_digit(cp, what);
    case 'w':
        return is_alpha(cp) || is_digit(cp, 'n');
    case 's':
        return jinja_is_space(cp);
    case 'p':
        return jinja_is_printable(cp);
    case 'i':
        return at == 0 ? jinja_is_name_start(cp) : jinja_is_name_part(cp);
    default:
        return cp < 0x80;
    }
}

/* islower, isupper: one cased letter at least and none of the other case; istitle: upper case
 * letters only at the beginning of words, lower case only inside. */
static bool case_is(struct str s, char what)
{
    bool any = false, cased = false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        i += jinja_utf8(s, i, &cp);
        bool upper = is_upper_cp(cp) || category(cp) == UTF8PROC_CATEGORY_LT;
        bool lower = is_lower_cp(cp);
        if ((what == 'l' && upper) || (what == 'u' && lower))
            return false;
        if (what == 't' && ((upper && cased) || (lower && !cased)))
            return false;
        cased = upper || lower;
        any = any || (what == 'l' ? lower : what == 'u' ? upper : cased);
    }
    return any;
}

bool jinja_str_is(struct str s, char what)
{
    if (what == '7') {
        unsigned char all = 0;
        for (size_t i = 0; i < s.n; i++)
            all |= (unsigned char)s.p[i];
        return all < 0x80;
    }
    if (what == 'l' || what == 'u' || what == 't')
        return case_is(s, what);
    if (s.n == 0)
        return what == 'p';
    for (size_t i = 0; i < s.n;) {
        uint32_t cp;
        size_t n = jinja_utf8(s, i, &cp);
        if (!cp_is(cp, what, i))
            return false;
        i += n;
    }
    return true;
}
