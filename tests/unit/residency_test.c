/* residency: who goes, who stays, who waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/residency.h"

#define S INT64_C(1000000000)

static void fits_beside_others(void **state)
{
    (void)state;
    struct resident_fact m[] = { { .bytes = 30 }, { .bytes = 20 } };
    bool evict[2];
    assert_int_equal(residency_decide(m, 2, 50, 100, evict), RESIDENCY_FITS);
    assert_int_equal(residency_decide(m, 0, 100, 100, evict), RESIDENCY_FITS);
    assert_false(evict[0] || evict[1]);
}

static void longest_idle_goes_first(void **state)
{
    (void)state;
    struct resident_fact m[] = {
        { .bytes = 30, .idle_since = 3 * S, .keep_ns = 300 * S },
        { .bytes = 30, .idle_since = 1 * S, .keep_ns = 300 * S },
        { .bytes = 30, .idle_since = 2 * S, .keep_ns = 300 * S },
    };
    bool evict[3];
    assert_int_equal(residency_decide(m, 3, 40, 100, evict), RESIDENCY_EVICT);
    assert_true(!evict[0] && evict[1] && !evict[2]);
    assert_int_equal(residency_decide(m, 3, 70, 100, evict), RESIDENCY_EVICT);
    assert_true(!evict[0] && evict[1] && evict[2]);
    assert_int_equal(residency_decide(m, 3, 100, 100, evict), RESIDENCY_EVICT);
    assert_true(evict[0] && evict[1] && evict[2]);
}

static void kept_for_ever_goes_last(void **state)
{
    (void)state;
    struct resident_fact m[] = {
        { .bytes = 50, .idle_since = 1 * S, .keep_ns = -1 },
        { .bytes = 50, .idle_since = 9 * S, .keep_ns = 300 * S },
    };
    bool evict[2];
    assert_int_equal(residency_decide(m, 2, 30, 100, evict), RESIDENCY_EVICT);
    assert_true(!evict[0] && evict[1]);
    assert_int_equal(residency_decide(m, 2, 80, 100, evict), RESIDENCY_EVICT);
    assert_true(evict[0] && evict[1]);
}

static void busy_models_stay(void **state)
{
    (void)state;
    struct resident_fact m[] = {
        { .bytes = 60, .users = 1 },
        { .bytes = 30, .idle_since = S },
        { .bytes = 5, .moving = true },
    };
    bool evict[3];
    assert_int_equal(residency_decide(m, 3, 30, 100, evict), RESIDENCY_EVICT);
    assert_true(!evict[0] && evict[1] && !evict[2]);
    /* Room for it only when the busy one has gone: then nothing is thrown away for nothing. */
    assert_int_equal(residency_decide(m, 3, 50, 100, evict), RESIDENCY_WAIT);
    assert_true(!evict[0] && !evict[1] && !evict[2]);
}

static void too_large_is_refused(void **state)
{
    (void)state;
    struct resident_fact m[] = { { .bytes = UINT64_MAX, .users = 1 }, { .bytes = UINT64_MAX } };
    bool evict[2];
    assert_int_equal(residency_decide(m, 2, 101, 100, evict), RESIDENCY_REFUSE);
    assert_int_equal(residency_decide(m, 2, UINT64_MAX, 100, evict), RESIDENCY_REFUSE);
    assert_int_equal(residency_decide(m, 2, 10, 100, evict), RESIDENCY_WAIT); /* no overflow */
}

static void deadlines(void **state)
{
    (void)state;
    struct resident_fact m[] = {
        { .idle_since = 10 * S, .keep_ns = 5 * S },
        { .idle_since = 10 * S, .keep_ns = 0 },
        { .idle_since = 10 * S, .keep_ns = -1 },
        { .idle_since = 10 * S, .keep_ns = 5 * S, .users = 1 },
        { .idle_since = 10 * S, .keep_ns = 5 * S, .moving = true },
        { .idle_since = 10 * S, .keep_ns = INT64_MAX },
    };
    const int64_t want[] = { 15 * S, 10 * S, RESIDENCY_NEVER, RESIDENCY_NEVER, RESIDENCY_NEVER,
                             RESIDENCY_NEVER };
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(residency_deadline(&m[i]), want[i]);
    assert_int_equal(residency_next(m, 6), 10 * S);
    assert_int_equal(residency_next(m + 2, 4), RESIDENCY_NEVER);
    assert_int_equal(residency_next(m, 0), RESIDENCY_NEVER);
}

static void sequences_by_memory(void **state)
{
    (void)state;
    assert_int_equal(residency_parallel(3, 8, 1 << 20, 0, 1), 3);       /* the operator's word */
    assert_int_equal(residency_parallel(0, 8, 10, 100, 1000), 8);       /* an eighth of the budget */
    assert_int_equal(residency_parallel(0, 8, 20, 100, 1000), 4);       /* fits, but takes more */
    assert_int_equal(residency_parallel(0, 8, 300, 200, 1000), 2);
    assert_int_equal(residency_parallel(0, 8, 900, 200, 1000), 1);
    assert_int_equal(residency_parallel(0, 4, 10, 100, 1000), 4);    /* a CPU's usual number */
    assert_int_equal(residency_parallel(0, 8, UINT64_MAX / 2, 0, UINT64_MAX), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fits_beside_others),   cmocka_unit_test(longest_idle_goes_first),
        cmocka_unit_test(kept_for_ever_goes_last), cmocka_unit_test(busy_models_stay),
        cmocka_unit_test(too_large_is_refused), cmocka_unit_test(deadlines),
        cmocka_unit_test(sequences_by_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
