/* spans: ranges join where they touch, and are found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/text/spans.h"

static void ranges_join(void **state)
{
    (void)state;
    struct spans s = { 0 };
    assert_true(spans_add(&s, 3, 3) && s.n == 0);
    assert_true(spans_add(&s, 3, 5) && spans_add(&s, 5, 7) && spans_add(&s, 6, 6));
    assert_int_equal(s.n, 1);
    assert_true(spans_add(&s, 9, 10));
    assert_int_equal(s.n, 2);
    assert_int_equal(s.v[0].end, 7);
    spans_finish(&s);
}

static void every_byte_is_found(void **state)
{
    (void)state;
    struct spans s = { 0 };
    bool in[64] = { 0 };
    for (size_t i = 2; i < 60; i += 5) {
        assert_true(spans_add(&s, i, i + 3));
        in[i] = in[i + 1] = in[i + 2] = true;
    }
    for (size_t begin = 0; begin < 64; begin++)
        for (size_t end = begin; end <= 64; end++) {
            bool want = false;
            for (size_t i = begin; i < end; i++)
                want |= in[i];
            assert_int_equal(spans_touch(&s, begin, end), want);
        }
    spans_finish(&s);
    assert_false(spans_touch(&s, 0, 9));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_join),
        cmocka_unit_test(every_byte_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
