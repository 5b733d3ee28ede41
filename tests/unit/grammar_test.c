/* grammar_ir: nodes are made within their limits, and the first error stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/text/grammar_priv.h"

static void fails_with(struct gram *g, enum err_code code, const char *part)
{
    struct err e = { 0 };
    assert_int_equal(gram_error(g, &e), code);
    if (part && !strstr(e.text, part))
        fail_msg("'%s' does not say '%s'", e.text, part);
    gram_destroy(g);
}

static void the_first_error_stays(void **state)
{
    (void)state;
    struct gram *g = gram_create();
    gram_place(g, "line %d", 3);
    assert_int_equal(gram_literal(g, STR("\xFF")), GRAM_NONE);
    gram_place(g, "line %d", 4);
    assert_int_equal(gram_repeat(g, gram_literal(g, STR("a")), 2, 1), GRAM_NONE);
    assert_true(gram_failed(g));
    fails_with(g, ERR_INVALID, "line 3: a text is not UTF-8");
}

static void rules_are_defined_once(void **state)
{
    (void)state;
    struct gram *g = gram_create();
    uint32_t a = gram_rule(g, STR("a")), nameless = gram_rule(g, STR(""));
    assert_int_equal(gram_rule(g, STR("a")), a);
    assert_int_not_equal(gram_rule(g, STR("")), nameless);
    gram_define(g, a, gram_literal(g, STR("x")));
    gram_define(g, a, gram_literal(g, STR("y")));
    fails_with(g, ERR_INVALID, "\"a\" is defined twice");

    g = gram_create();
    gram_place(g, "line 7");
    gram_start(g, gram_rule(g, STR("b")));
    fails_with(g, ERR_INVALID, "line 7: the rule \"b\" is used and not defined");

    g = gram_create();
    fails_with(g, ERR_INVALID, "no start");
}

static void limits_hold(void **state)
{
    (void)state;
    struct gram *g = gram_create();
    uint32_t x = gram_literal(g, STR("x"));
    assert_int_not_equal(gram_repeat(g, x, 0, GRAM_MAX_REPEAT), GRAM_NONE);
    assert_int_equal(gram_repeat(g, x, 0, GRAM_MAX_REPEAT + 1), GRAM_NONE);
    fails_with(g, ERR_TOO_LARGE, "10000");

    g = gram_create();
    for (int i = 0; i <= GRAM_MAX_RULES; i++)
        gram_define(g, gram_rule(g, STR("")), gram_literal(g, STR("x")));
    fails_with(g, ERR_TOO_LARGE, "rules");

    g = gram_create();
    x = gram_literal(g, STR("x"));
    for (int i = 0; i < 1000; i++)
        x = gram_repeat(g, x, 0, 2);
    assert_int_equal(x, GRAM_NONE);
    fails_with(g, ERR_TOO_LARGE, "nested");
}

static void sets_are_sorted_and_apart(void **state)
{
    (void)state;
    struct gram *g = gram_create();
    const struct gram_range ranges[] = { { 'm', 'z' }, { 'a', 'c' }, { 'b', 'n' }, { 0xD000, 0xE100 } };
    const struct node *n = &g->node[gram_set(g, ranges, 4, false)];
    uint64_t size = 0;
    for (uint32_t i = 0; i < n->n; i++)
        size += n->u.range[i].hi - n->u.range[i].lo + 1;
    assert_int_equal(size, 26 + 0x1101 - 0x800);
    n = &g->node[gram_set(g, ranges, 4, true)];
    for (uint32_t i = 0; i < n->n; i++)
        size += n->u.range[i].hi - n->u.range[i].lo + 1;
    assert_int_equal(size, 0x110000 - 0x800);
    n = &g->node[gram_set(g, NULL, 0, false)];
    assert_int_equal(n->n, 0);
    n = &g->node[gram_set(g, (struct gram_range[]){ { 0, 0x10FFFF } }, 1, true)];
    assert_int_equal(n->n, 0);
    gram_destroy(g);
}

static uint32_t build(struct gram *g)
{
    const struct gram_marker m[] = { { STR("<end>"), true }, { STR("stop"), false } };
    uint32_t list = gram_rule(g, STR("list"));
    uint32_t item = gram_alt_of(g, gram_literal(g, STR("a")), gram_token(g, STR("<t>")), gram_ref(g, list));
    gram_define(g, list, gram_seq_of(g, gram_literal(g, STR("[")), gram_repeat(g, item, 0, GRAM_MANY),
                                     gram_until(g, m, 2, 1, GRAM_CONTROL), gram_text(g, m, 2, 0),
                                     gram_token_not(g, gram_token_exact(g, STR("<u>")))));
    gram_start(g, list);
    return list;
}

static void memory_may_run_out(void **state)
{
    (void)state;
    uint64_t live = mem_live();
    bool whole = false;
    for (uint64_t n = 1; !whole; n++) {
        struct err e = { 0 };
        mem_fail_after(n, true);
        struct gram *g = gram_create();
        if (g) {
            build(g);
            enum err_code code = gram_error(g, &e);
            assert_true(code == ERR_OK || code == ERR_NO_MEMORY);
            whole = code == ERR_OK;
        }
        gram_destroy(g);
        mem_fail_after(0, false);
        assert_int_equal(mem_live(), live);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_error_stays),
        cmocka_unit_test(rules_are_defined_once),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(sets_are_sorted_and_apart),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
