/* GBNF: what grammars hold and do not hold, byte by byte, and what is wrong with the bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/constraint.h"
#include "runtime/text/gbnf.h"
#include "tests/unit/grammar_kit.h"
#include "tests/unit/text_kit.h"

struct world {
    struct kit_vocab kit;
    struct tokenizer *t;
    struct grammar_vocab *v;
};

static int make_world(void **state)
{
    struct world *w = mem_zero(1, sizeof *w);
    struct err e = { 0 };
    kit_begin(&w->kit);
    kit_add(&w->kit, "<think>", TOKEN_CONTROL);    /* 259 */
    kit_add(&w->kit, "</think>", TOKEN_CONTROL);   /* 260 */
    kit_add(&w->kit, "<call>", TOKEN_USER_DEFINED); /* 261 */
    kit_add(&w->kit, "Hello", TOKEN_NORMAL);       /* 262 */
    w->t = kit_tokenizer(&w->kit, &e);
    if (!w->t || grammar_vocab_create(w->t, &w->v, &e))
        fail_msg("%s", e.text);
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    struct world *w = *state;
    grammar_vocab_destroy(w->v);
    tokenizer_destroy(w->t);
    mem_free(w);
    return 0;
}

static struct grammar *compile(const struct world *w, const char *source)
{
    struct gram *tree = NULL;
    struct grammar *g = NULL;
    struct err e = { 0 };
    if (gbnf_parse(str_from(source), &tree, &e) || grammar_create(tree, w->v, &g, &e))
        fail_msg("%s: %s", source, e.text);
    gram_destroy(tree);
    return g;
}

/* Is the text a sentence? Its bytes are read one by one; "\1", "\2", "\3", "\4" stand for the tokens 259 to 262. */
static bool holds(struct grammar *g, const char *text)
{
    struct constraint *c;
    struct err e = { 0 };
    bool ok = true;
    assert_int_equal(constraint_create(g, 0, &c, &e), ERR_OK);
    for (; ok && *text; text++)
        ok = constraint_accept(c, *text <= 4 && *text > 0 ? 258 + *text : 3 + (unsigned char)*text, &e) == ERR_OK;
    ok = ok && constraint_may_end(c);
    constraint_destroy(c);
    return ok;
}

struct row {
    const char *source;
    const char *in[6], *out[6];
};

static const struct row rows[] = {
    { "root ::= \"yes\" | \"no\"", { "yes", "no" }, { "", "y", "yesno", "Yes" } },
    { "root ::= a b? # end\na ::= \"x\" |\n  \"y\"\nb ::= (\n \"1\"\n \"2\" | # or\n \"3\"\n)", { "x", "y12", "x3" }, { "x1", "12" } },
    { "root ::= [a-c]+ [^a-c\\n] .", { "ax!", "abc\xC3\xA9\xE2\x82\xAC", "az\n" }, { "x", "a\nb", "abc", "ax\xC3" } },
    { "root ::= \"\\x41\\u00e9\\U0001F600\\n\\\"\\\\\" [\\]\\-\\^]", { "A\xC3\xA9\xF0\x9F\x98\x80\n\"\\]", "A\xC3\xA9\xF0\x9F\x98\x80\n\"\\-" }, { "A" } },
    { "root ::= [-a] [a-] [\\x61-\\u0063]", { "--a", "aac", "-ab" }, { "ba-", "aad" } },
    { "root ::= \"ab\"{2} \"c\"{1,} \"d\"{0,2}", { "ababc", "ababcccdd" }, { "abc", "abab", "ababcddd", "abbc" } },
    { "root ::= (\"a\" | \"b\" \"c\")* \"\"", { "", "a", "bc", "abca" }, { "b", "ac" } },
    { "root ::= \"(\" root \")\" | \"x\"", { "x", "(x)", "((((x))))" }, { "((x)", "()", "(x))" } },
    { "root ::= e (\"+\" e)*\ne ::= [0-9]+ | \"(\" root \")\"", { "1", "1+2", "(1+(23))+4" }, { "1+", "(1", "+1" } },
    { "root ::= | \"x\"", { "", "x" }, { "xx" } },
    { "root ::= <think> [a-z]* </think> \"!\"", { "\1ab\2!", "\1\2!" }, { "<think>a\2!", "\1!", "\1a\2", "\3\2!" } },
    { "root ::= <[259]> !</think>* <[260]>", { "\1\2", "\1a\3\4b\2", "\1\1\2" }, { "\1\2\2", "\1" } },
    { "root ::= !<[260]> \"a\"", { "\1a", "\3a", "ba" }, { "\2a", "a" } },
    { "root ::= \"Hello\" <call>", { "Hello\3", "\4\3" }, { "Hello<call>", "\4" } },
    { "root ::= \"<call>\" \"x\"", { "<call>x", "\3x" }, { "\3" } },
    { "root ::= \"<think>\"", { "<think>" }, { "\1" } },
    { "root::=\"a\"\r\n\r\nb ::= \"c\"\r\n", { "a" }, { "c" } },
};

static void sentences(void **state)
{
    const struct world *w = *state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct grammar *g = compile(w, rows[i].source);
        for (size_t k = 0; k < 6 && rows[i].in[k]; k++)
            if (!holds(g, rows[i].in[k]))
                fail_msg("'%s' must hold '%s'", rows[i].source, rows[i].in[k]);
        for (size_t k = 0; k < 6 && rows[i].out[k]; k++)
            if (holds(g, rows[i].out[k]))
                fail_msg("'%s' must not hold '%s'", rows[i].source, rows[i].out[k]);
        grammar_unref(g);
    }
}

/* Any token but one: not that one, and none that ends the generation, wherever it stands in the vocabulary. */
static void any_token_but_one(void **state)
{
    static const int32_t but[] = { 1, 2, 3, 260, 262 };
    for (size_t i = 0; i < sizeof but / sizeof *but; i++) {
        char source[32];
        struct err e = { 0 };
        const uint32_t *mask;
        struct constraint *c;
        snprintf(source, sizeof source, "root ::= !<[%d]>", (int)but[i]);
        struct grammar *g = compile(*state, source);
        assert_int_equal(constraint_create(g, 0, &c, &e), ERR_OK);
        assert_int_equal(constraint_mask(c, 0, &mask, &e), ERR_OK);
        for (int32_t id = 3; id < 263; id++)
            assert_int_equal(mask[id / 32] >> (id % 32) & 1, id != but[i]);
        assert_int_equal(mask[0] >> 2 & 1, 0);
        assert_int_equal(constraint_accept(c, 2, &e), ERR_INVALID); /* </s> */
        assert_int_equal(constraint_accept(c, but[i], &e), ERR_INVALID);
        assert_int_equal(constraint_accept(c, 259, &e), ERR_OK);
        assert_true(constraint_may_end(c));
        constraint_destroy(c);
        grammar_unref(g);
    }
}

static void errors(void **state)
{
    static const char *const bad[][2] = {
        { "", "no rule \"root\"" },
        { "a ::= \"x\"", "no rule \"root\"" },
        { "root ::= \"x", "line 1, column 12: a text is not closed; the text ends here" },
        { "root ::= [a", "line 1, column 12: a character is wanted" },
        { "root ::= (\"x\"\n\"y\"", "line 2, column 4: ')' is wanted" },
        { "root ::= \"x\" )", "line 1, column 14: a part of a rule, or the end of the line is wanted, found ')'" },
        { "root ::= \"\\q\"", "line 1, column 12: there is no such escape, found 'q'" },
        { "root ::= \"\\ud800\"", "not the number of a character" },
        { "root ::= \"\\x4\"", "line 1, column 14: a hexadecimal digit is wanted, found '\"'" },
        { "root ::= [b-a]", "column 14: a range goes backwards" },
        { "root = \"x\"", "column 6: '::=' is wanted, found '='" },
        { "root ::= \"x\"{2", "'}' is wanted" },
        { "root ::= \"x\"{,3}", "a number is wanted, found ','" },
        { "root ::= \"x\"{3,2}", "at least 3 and at most 2" },
        { "root ::= \"x\"{20000}", "a repetition of more than 10000" },
        { "root ::= \"x\"{99999999999999999999}", "a repetition of more than 10000" },
        { "root ::= \"x\"\nroot ::= \"y\"", "line 2, column 13: the rule \"root\" is defined twice" },
        { "root ::= \"x\"\n  y", "'::=' is wanted" },
        { "root ::= a\na ::= \"x\" b", "line 2, column 11: the rule \"b\" is used and not defined" },
        { "root ::= <think", "'>' is wanted" },
        { "root ::= !\"x\"", "behind '!'" },
        { "root ::= <[x]>", "a number is wanted" },
        { "root ::= \"\xFF\"", "not UTF-8 at its byte 10" },
        { "root ::= *", "a part of a rule, or the end of the line is wanted, found '*'" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gram *tree = NULL;
        struct err e = { 0 };
        const enum err_code code = gbnf_parse(str_from(bad[i][0]), &tree, &e);
        if (!code || tree || !strstr(e.text, bad[i][1]))
            fail_msg("'%s': '%s', want '%s'", bad[i][0], e.text, bad[i][1]);
    }
}

static void what_cannot_be_compiled(void **state)
{
    static const char *const bad[][2] = {
        { "root ::= root \"x\" | \"y\"", "\"root\": it begins with itself (left recursion)" },
        { "root ::= a \"x\"\na ::= b? c\nb ::= \"b\"\nc ::= a | \"z\"", "left recursion" },
        { "root ::= \"x\" root", "\"root\": no sentence of it" },
        { "root ::= []", "no sentence" },
        { "root ::= <nothing>", "the vocabulary has no token \"<nothing>\"" },
        { "root ::= <[263]>", "the vocabulary of 263 has no token 263" },
        { "root ::= ((((\"x\"{10000}){10000}){10000}){10000})", "no sentence" },
        { "root ::= (\"a\"|\"b\")* \"a\" (\"a\"|\"b\"){40}", "too large or too ambiguous" },
    };
    const struct world *w = *state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gram *tree = NULL;
        struct grammar *g = NULL;
        struct err e = { 0 };
        if (gbnf_parse(str_from(bad[i][0]), &tree, &e))
            fail_msg("'%s': %s", bad[i][0], e.text);
        (void)grammar_create(tree, w->v, &g, &e);
        if (g || !strstr(e.text, bad[i][1]))
            fail_msg("'%s': '%s', want '%s'", bad[i][0], e.text, bad[i][1]);
        gram_destroy(tree);
    }
}

static void json_is_json(void **state)
{
    static const char *const good[] = {
        "{}", "[]", "null", "true", "-0.5e+10", "123", "\"\"", "{\"a\": [1, 2, {\"b\": null}], \"c\":\"\\u00e9\\n\"}",
        "[\n  \"\xC3\xA9\\ud83d\\ude00\",\n  1.25\n]", "[ ]", "{ }", "\"\\u0001\\uD7FF\\uE000\\uABCD\"", "[[[[[[]]]]]]",
    };
    static const char *const bad[] = {
        "", "{", "01", "1.", ".5", "+1", "nul", "\"a", "[1,]", "{\"a\"}", "{a:1}", "[1 2]", "\"\\x\"", "\"\n\"",
        "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "\"\\u0000\"", "1e400", " 1", "1 ", "{} {}", "\"\xFF\"",
        "{\"a\":1,}", "'a'", "NaN",
    };
    const struct world *w = *state;
    struct gram *tree = gram_create();
    struct grammar *g = NULL;
    struct err e = { 0 };
    const uint32_t rule = gram_rule(tree, STR("json"));
    gram_define(tree, rule, gram_json(tree, false));
    gram_start(tree, rule);
    assert_int_equal(grammar_create(tree, w->v, &g, &e), ERR_OK);
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!holds(g, good[i]))
            fail_msg("%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (holds(g, bad[i]))
            fail_msg("%s", bad[i]);
    grammar_unref(g);
    gram_destroy(tree);
}

static void memory_may_run_out(void **state)
{
    const struct world *w = *state;
    const uint64_t live = mem_live();
    bool whole = false;
    for (uint64_t n = 1; !whole; n++) {
        struct gram *tree = NULL;
        struct grammar *g = NULL;
        struct constraint *c = NULL, *d = NULL;
        const uint32_t *mask;
        struct err e = { 0 };
        mem_fail_after(n, true);
        enum err_code code = gbnf_parse(STR("root ::= [a-z]+ (\",\" root)? | <think> \"(\" root \")\"{0,3}"), &tree, &e);
        if (!code)
            code = grammar_create(tree, w->v, &g, &e);
        if (!code)
            code = constraint_create(g, 100, &c, &e);
        for (int i = 0; !code && i < 4; i++) {
            code = constraint_mask(c, 100 - (uint32_t)i, &mask, &e);
            if (!code)
                code = constraint_accept(c, i == 0 ? 259 : i == 1 ? 3 + '(' : 3 + 'a', &e);
        }
        if (!code)
            code = constraint_clone(c, &d, &e);
        if (!code)
            code = constraint_mask(d, 2, &mask, &e);
        whole = code == ERR_OK;
        if (code && code != ERR_NO_MEMORY)
            fail_msg("allocation %llu: %s", (unsigned long long)n, e.text);
        mem_fail_after(0, false);
        constraint_destroy(c);
        constraint_destroy(d);
        grammar_unref(g);
        gram_destroy(tree);
        assert_int_equal(mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sentences, make_world, end_world),
        cmocka_unit_test_setup_teardown(any_token_but_one, make_world, end_world),
        cmocka_unit_test(errors),
        cmocka_unit_test_setup_teardown(what_cannot_be_compiled, make_world, end_world),
        cmocka_unit_test_setup_teardown(json_is_json, make_world, end_world),
        cmocka_unit_test_setup_teardown(memory_may_run_out, make_world, end_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
