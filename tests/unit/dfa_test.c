/* Automata and regular expressions: against PCRE2 over random patterns and texts, and by the
 * laws of sets, which minimal automata obey byte by byte. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/text/regex.h"

static uint64_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005U + 1442695040888963407U;
    return *s >> 33;
}

static struct dfa *must(struct dfa *d, const struct err *e)
{
    if (!d)
        fail_msg("%s", e->text);
    return d;
}

static struct dfa *pattern(const char *text, enum regex_mode mode)
{
    struct err e = { 0 };
    struct dfa *d = regex_dfa(str_from(text), mode, &e);
    if (!d)
        fail_msg("%s: %s", text, e.text);
    return d;
}

/* ---- random patterns ---- */

static void put_pattern(struct buf *b, uint64_t *seed, int depth)
{
    static const char *const atoms[] = { "a",   "b",    "c",    "\xC3\xA9", "\xE2\x82\xAC", ".",
                                         "[ab]", "[^a]", "\\d", "\\w",      "[b-d1]",
                                         "\xF0\x9F\x98\x80", "[\xC3\xA9-\xF0\x9F\x98\x80]", "\\W" };
    static const char *const counts[] = { "*", "+", "?", "{2}", "{1,3}", "{2,}", "{0,2}", "*?" };
    size_t n = next_random(seed) % 4;
    for (size_t i = 0; i < n; i++) {
        uint64_t r = next_random(seed);
        if (r % 16 == 0) {
            buf_puts(b, r / 16 % 2 ? "^" : "$");
            continue;
        }
        if (depth > 0 && r % 4 == 1) {
            buf_puts(b, r / 16 % 2 ? "(" : "(?:");
            put_pattern(b, seed, depth - 1);
            buf_putc(b, ')');
        } else {
            buf_puts(b, atoms[r / 64 % (sizeof atoms / sizeof atoms[0])]);
        }
        if (r % 3 == 0)
            buf_puts(b, counts[r / 1024 % (sizeof counts / sizeof counts[0])]);
    }
    if (next_random(seed) % 4 == 0) {
        buf_putc(b, '|');
        put_pattern(b, seed, depth - 1);
    }
}

static void put_text(struct buf *b, uint64_t *seed)
{
    static const char *const chars[] = { "a", "b", "c", "d", "1", "_", "-", "\xC3\xA9", "\xE2\x82\xAC",
                                         "\xF0\x9F\x98\x80", "\xEF\xBF\xBD" };
    for (size_t n = next_random(seed) % 8; n > 0; n--)
        buf_puts(b, chars[next_random(seed) % (sizeof chars / sizeof chars[0])]);
}

static void patterns_are_those_of_pcre(void **state)
{
    (void)state;
    uint64_t seed = 7;
    struct buf p, t;
    size_t matched = 0, total = 0;
    buf_init(&p, 4096);
    buf_init(&t, 4096);
    for (int round = 0; round < 1500; round++) {
        struct err e = { 0 };
        buf_clear(&p);
        buf_puts(&p, "");
        put_pattern(&p, &seed, 3);
        int error;
        PCRE2_SIZE at;
        pcre2_code *code = pcre2_compile((PCRE2_SPTR)p.p, p.n, PCRE2_UTF | PCRE2_DOLLAR_ENDONLY,
                                         &error, &at, NULL);
        assert_non_null(code);
        pcre2_match_data *m = pcre2_match_data_create(1, NULL);
        bool whole = round % 3 == 0;
        struct dfa *d = must(regex_dfa(buf_str(&p), whole ? REGEX_WHOLE : REGEX_SEARCH, &e), &e);
        for (int i = 0; i < 40; i++) {
            buf_clear(&t);
            buf_puts(&t, "");
            put_text(&t, &seed);
            uint32_t options = whole ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0;
            bool want = pcre2_match(code, (PCRE2_SPTR)t.p, t.n, 0, options, m, NULL) >= 0;
            if (dfa_accepts(d, buf_str(&t)) != want)
                fail_msg("/%s/%s on '%s': %d wanted", p.p, whole ? " whole" : "", t.p, want);
            matched += want;
            total++;
        }
        dfa_destroy(d);
        pcre2_match_data_free(m);
        pcre2_code_free(code);
    }
    assert_in_range(matched, total / 5, total * 9 / 10);
    buf_finish(&p);
    buf_finish(&t);
}

/* ECMA-262 where PCRE2 has other ideas, and escapes. */
static void patterns_are_ecmas(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool want;
    } rows[] = {
        { "^a$", "a\n", false },
        { "^\\u00e9\\x41\\t\\cC$", "\xC3\xA9" "A\t\x03", true },
        { "^\\ud83d\\ude00$", "\xF0\x9F\x98\x80", true },
        { "^\\u{1F600}$", "\xF0\x9F\x98\x80", true },
        { "^\\d$", "\xD9\xA3", false },
        { "^\\D$", "\xD9\xA3", true },
        { "^\\w$", "\xC3\xA9", false },
        { "^\\W$", "\xC3\xA9", true },
        { "^\\s$", "\xEF\xBB\xBF", true },
        { "^\\s$", "\xE2\x80\xA9", true },
        { "^\\s$", "\xE2\x80\x8B", false },
        { "^\\S$", "\xE2\x80\x8B", true },
        { "^\\S$", "\x1C", false },
        { "^.$", "\xE2\x80\xA8", false },
        { "^.$", "\r", false },
        { "^[^x]$", "\n", true },
        { "^\\p{L}+$", "A\xC3\xA9\xD0\xB6", true },
        { "^\\p{L}+$", "A1", false },
        { "^\\p{Lu}\\P{Lu}$", "\xC3\x89\xC3\xA9", true },
        { "^\\p{gc=Nd}$", "\xD9\xA3", true },
        { "^[\\]\\-\\w]$", "-", true },
        { "^[\\w-.]+$", "a-.", true },
        { "^[a-]$", "-", true },
        { "^[\\b]$", "\b", true },
        { "^a{,2}$", "a{,2}", true },
        { "^{}]$", "{}]", true },
        { "^(?<year>\\d{4})$", "2024", true },
        { "a|^b$", "xa", true },
        { "a|^b$", "xb", false },
        { "^(a|b$)c?", "bc", false },
        { "(^a|b)c", "xac", false },
        { "", "anything", true },
        { "^$", "", true },
        { "$^", "", true },
        { "a^", "a", false },
        { "^[]$", "", false },
        { "^[^]$", "\n", true },
        { "^\\0$", "0", false },
        { "^\\/\\@\\.\\\"$", "/@.\"", true },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dfa *d = pattern(rows[i].pattern, REGEX_SEARCH);
        if (dfa_accepts(d, str_from(rows[i].text)) != rows[i].want)
            fail_msg("/%s/ on '%s': %d wanted", rows[i].pattern, rows[i].text, rows[i].want);
        dfa_destroy(d);
    }
    struct dfa *d = pattern("^a.b$", REGEX_SEARCH);
    assert_false(dfa_accepts(d, STR("a\xFF" "b"))); /* no text at all */
    dfa_destroy(d);
}

static void what_is_not_regular_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *pattern;
        enum err_code code;
        const char *says;
    } rows[] = {
        { "a(?=b)", ERR_UNSUPPORTED, "a look-ahead at byte 1" },
        { "(?!b)", ERR_UNSUPPORTED, "a negative look-ahead" },
        { "(?<=b)", ERR_UNSUPPORTED, "a look-behind" },
        { "(?<!b)", ERR_UNSUPPORTED, "a negative look-behind" },
        { "(a)\\1", ERR_UNSUPPORTED, "a back-reference at byte 3" },
        { "(?<n>a)\\k<n>", ERR_UNSUPPORTED, "a back-reference by name" },
        { "\\bword", ERR_UNSUPPORTED, "a word boundary" },
        { "(?i)a", ERR_UNSUPPORTED, "flags inside" },
        { "\\p{Script=Greek}", ERR_UNSUPPORTED, "the property \"Script=Greek\"" },
        { "(a", ERR_INVALID, "a group without its )" },
        { "a)", ERR_INVALID, "a ) without its group" },
        { "[a", ERR_INVALID, "a class without its ]" },
        { "[b-a]", ERR_INVALID, "runs backwards" },
        { "*a", ERR_INVALID, "a repetition of nothing" },
        { "a{3,2}", ERR_INVALID, "a repetition whose end" },
        { "a**", ERR_INVALID, "a repetition of a repetition" },
        { "^*", ERR_INVALID, "a repetition of an anchor" },
        { "\\y", ERR_INVALID, "\\y is no escape" },
        { "\\", ERR_INVALID, "a backslash" },
        { "\\u12", ERR_INVALID, "\\u without" },
        { "\\xg0", ERR_INVALID, "\\x without" },
        { "\\p", ERR_INVALID, "\\p without" },
        { "\xFF", ERR_INVALID, "not UTF-8" },
        { "a{10001}", ERR_TOO_LARGE, "a repetition of more than 10000" },
        { "(a{1000}){1000}", ERR_TOO_LARGE, "an automaton" },
        { "(((){1000}){1000}){1000}", ERR_TOO_LARGE, "an automaton" },
        { "^(a|b)*a(a|b){40}$", ERR_TOO_LARGE, "an automaton" },
        { "((a?){100}){100}b{9999}", ERR_TOO_LARGE, "an automaton" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err e = { 0 };
        uint64_t live = mem_live();
        struct dfa *d = regex_dfa(str_from(rows[i].pattern), REGEX_SEARCH, &e);
        if (d || e.code != rows[i].code || !strstr(e.text, rows[i].says))
            fail_msg("/%s/: \"%s\"", rows[i].pattern, e.text);
        assert_int_equal(mem_live(), live);
    }
}

/* ---- laws ---- */

static void same(struct dfa *a, struct dfa *b)
{
    assert_true(dfa_equal(a, b));
    dfa_destroy(a);
    dfa_destroy(b);
}

static void sets_obey_their_laws(void **state)
{
    (void)state;
    uint64_t seed = 11;
    struct err e = { 0 };
    struct buf p;
    struct dfa *all = must(dfa_length(0, DFA_NO_MAX, &e), &e);
    buf_init(&p, 4096);
    for (int round = 0; round < 150; round++) {
        struct dfa *v[2];
        for (int i = 0; i < 2; i++) {
            buf_clear(&p);
            buf_puts(&p, "");
            put_pattern(&p, &seed, 2);
            v[i] = must(regex_dfa(buf_str(&p), round % 2 ? REGEX_WHOLE : REGEX_SEARCH, &e), &e);
        }
        struct dfa *a = v[0], *b = v[1], *meet = must(dfa_meet(a, b, &e), &e);
        struct dfa *a_less_b = must(dfa_minus(a, b, &e), &e), *not_b = must(dfa_minus(all, b, &e), &e);
        same(dfa_union(a, b, &e), dfa_union(b, a, &e));
        same(dfa_meet(a, not_b, &e), dfa_copy(a_less_b, &e));
        same(dfa_union(a_less_b, meet, &e), dfa_copy(a, &e));
        same(dfa_minus(all, not_b, &e), dfa_copy(b, &e));
        same(dfa_minus(a, a, &e), dfa_nothing(&e));
        same(dfa_repeat(a, 2, 2, &e), dfa_concat(a, a, &e));
        struct dfa *star = must(dfa_repeat(a, 0, DFA_NO_MAX, &e), &e);
        same(dfa_concat(star, star, &e), dfa_copy(star, &e));
        struct dfa *tail = must(dfa_repeat(a, 3, DFA_NO_MAX, &e), &e), *head = must(dfa_repeat(a, 0, 2, &e), &e);
        same(dfa_union(head, tail, &e), dfa_copy(star, &e));
        struct dfa *rest[] = { a, b, meet, a_less_b, not_b, star, tail, head };
        for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++)
            dfa_destroy(rest[i]);
    }
    dfa_destroy(all);
    buf_finish(&p);
}

static void lengths_count_code_points(void **state)
{
    (void)state;
    struct err e = { 0 };
    for (size_t min = 0; min < 5; min++)
        for (size_t max = min; max < 8; max++) {
            struct dfa *d = must(dfa_length(min, max == 7 ? DFA_NO_MAX : max, &e), &e);
            char pat[32];
            (void)snprintf(pat, sizeof pat, max == 7 ? "[^]{%zu,}" : "[^]{%zu,%zu}", min, max);
            same(pattern(pat, REGEX_WHOLE), dfa_copy(d, &e));
            uint32_t *far = mem_zero(d->n_states, sizeof *far);
            assert_true(dfa_distances(d, far));
            assert_int_equal(far[d->start], min);
            assert_int_equal(far[DFA_DEAD], DFA_FAR);
            mem_free(far);
            dfa_destroy(d);
        }
    same(dfa_length(3, 2, &e), dfa_nothing(&e));
    struct dfa *d = must(dfa_length(0, 10000, &e), &e);
    assert_true(dfa_accepts(d, STR("\xF0\x9F\x98\x80")));
    dfa_destroy(d);
}

/* Every code point's sequence is in a range that holds it, and in no other. */
static void ranges_are_exact(void **state)
{
    (void)state;
    static const uint32_t ends[] = { 0,      0x20,   0x7F,   0x80,    0xBF,    0xC0,    0x7FF,
                                     0x800,  0xFFF,  0x1000, 0xD7FF,  0xE000,  0xFFFD,  0xFFFF,
                                     0x10000, 0x10FFF, 0x1F600, 0x3FFFF, 0x40000, 0xFFFFF, 0x10FFFF };
    size_t n = sizeof ends / sizeof ends[0];
    struct err e = { 0 };
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            uint32_t range[] = { ends[i], ends[j] };
            struct dfa *d = must(dfa_code_points(range, 1, &e), &e);
            for (size_t k = 0; k < n; k++)
                for (int by = -1; by <= 1; by++) {
                    char four[4];
                    uint32_t cp = ends[k] + (uint32_t)by;
                    size_t bytes = utf8_put(cp, four);
                    if (bytes)
                        assert_int_equal(dfa_accepts(d, (struct str){ four, bytes }),
                                         cp >= range[0] && cp <= range[1]);
                }
            dfa_destroy(d);
        }
}

static void words_are_found(void **state)
{
    (void)state;
    struct err e = { 0 };
    const struct str words[] = { STR("red"), STR("green"), STR(""), STR("gr\xC3\xBCn"), STR("red") };
    struct dfa *d = must(dfa_words(words, 5, &e), &e);
    same(pattern("red|green||gr\xC3\xBCn", REGEX_WHOLE), dfa_copy(d, &e));
    dfa_destroy(d);
    same(dfa_words(NULL, 0, &e), dfa_nothing(&e));
    same(dfa_literal(STR("x"), &e), pattern("x", REGEX_WHOLE));
}

static void memory_may_run_out(void **state)
{
    (void)state;
    uint64_t live = mem_live();
    for (uint64_t n = 1; n < 250; n++) {
        struct err e = { 0 };
        mem_fail_after(n, false);
        struct dfa *d = regex_dfa(STR("^(a|[^b]{2,3})+$"), REGEX_SEARCH, &e);
        mem_fail_after(0, false);
        if (!d)
            assert_int_equal(e.code, ERR_NO_MEMORY);
        dfa_destroy(d);
        assert_int_equal(mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_are_those_of_pcre), cmocka_unit_test(patterns_are_ecmas),
        cmocka_unit_test(what_is_not_regular_is_named), cmocka_unit_test(sets_obey_their_laws),
        cmocka_unit_test(lengths_count_code_points), cmocka_unit_test(ranges_are_exact),
        cmocka_unit_test(words_are_found), cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
