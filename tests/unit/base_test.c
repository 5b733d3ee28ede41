/* err, mem, str, map, json: what the rest of the tree leans on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/err.h"
#include "runtime/base/json.h"
#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"

static void err_carries_code_and_sentence(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_set(&e, ERR_NOT_FOUND, "no model '%s'", "x"), ERR_NOT_FOUND);
    assert_string_equal(e.text, "no model 'x'");
    assert_int_equal(err_prefix(&e, "show"), ERR_NOT_FOUND);
    assert_string_equal(e.text, "show: no model 'x'");
    assert_int_equal(err_http_status(ERR_NOT_FOUND), 404);
    assert_int_equal(err_exit_status(ERR_BUSY), 5);
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), ERR_IO);
}

static void err_cuts_between_code_points(void **state)
{
    (void)state;
    struct err e;
    char long_text[600];
    for (size_t i = 0; i + 1 < sizeof long_text; i += 2)
        memcpy(long_text + i, "\xC3\xA9", 2);
    long_text[sizeof long_text - 2] = '\0';
    for (int shift = 0; shift < 2; shift++) {
        err_set(&e, ERR_IO, "%s%s", shift ? "x" : "", long_text);
        size_t n = strlen(e.text);
        assert_true(n >= sizeof e.text - 4);
        assert_int_equal(utf8_valid(e.text, n), n);
    }
}

static void nth_allocation_fails_once_or_for_ever(void **state)
{
    (void)state;
    mem_fail_after(2, false);
    void *a = mem_alloc(1), *b = mem_alloc(1), *c = mem_alloc(1);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    mem_fail_after(1, true);
    assert_null(mem_alloc(1));
    assert_null(mem_zero(1, 1));
    mem_fail_after(0, false);
    mem_free(a);
    mem_free(c);
    assert_null(mem_resize(NULL, SIZE_MAX / 2, 3));
}

static void arena_aligns_and_respects_its_limit(void **state)
{
    (void)state;
    struct arena a = { .limit = 100000 };
    for (size_t i = 0; i < 100; i++) {
        unsigned char *p = arena_alloc(&a, i);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, 0xAA, i);
    }
    assert_null(arena_alloc(&a, 100000));
    assert_null(arena_alloc(&a, SIZE_MAX - 3));
    assert_non_null(arena_alloc(&a, 50000));
    arena_finish(&a);
    assert_int_equal(a.used, 0);
}

static void buf_stops_at_its_cap(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 10);
    buf_puts(&b, "12345");
    buf_printf(&b, "%d", 678);
    assert_string_equal(b.p, "12345678");
    buf_puts(&b, "9ab");
    assert_true(b.failed);
    assert_null(buf_take(&b));
    buf_puts(&b, "ok");
    char *p = buf_take(&b);
    assert_string_equal(p, "ok");
    mem_free(p);
}

static void utf8_refuses_what_rfc3629_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = { "\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xED\xA0\x80",
                                       "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xE2\x82", "\xFF" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(utf8_step(bad[i], strlen(bad[i]), NULL), 0);
    for (uint32_t cp = 0; cp <= 0x10FFFF; cp++) {
        char s[4];
        uint32_t back;
        size_t n = utf8_put(cp, s);
        if (cp >= 0xD800 && cp <= 0xDFFF) {
            assert_int_equal(n, 0);
            continue;
        }
        assert_int_equal(utf8_step(s, n, &back), n);
        assert_int_equal(back, cp);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(utf8_complete(s, cut), 0);
        assert_int_equal(utf8_complete(s, n), n);
    }
}

static void map_holds_many_and_replaces(void **state)
{
    (void)state;
    static char keys[5000][8];
    struct map m;
    assert_true(map_init(&m, 4));
    for (uint32_t i = 0; i < 5000; i++) {
        int n = snprintf(keys[i], sizeof keys[i], "k%u", i);
        assert_true(map_put(&m, (struct str){ keys[i], (size_t)n }, i));
    }
    assert_true(map_put(&m, STR("k7"), 99));
    assert_true(map_put(&m, STR(""), 5));
    assert_int_equal(m.n, 5001);
    uint32_t v;
    assert_true(map_get(&m, STR("k4999"), &v));
    assert_int_equal(v, 4999);
    assert_true(map_get(&m, STR("k7"), &v));
    assert_int_equal(v, 99);
    assert_true(map_get(&m, (struct str){ NULL, 0 }, &v));
    assert_int_equal(v, 5);
    assert_false(map_get(&m, STR("k5000"), &v));
    map_finish(&m);
}

static void json_reads_strictly(void **state)
{
    (void)state;
    struct err e;
    json_t *v;
    assert_int_equal(json_read(STR("{\"a\":1}"), 100, "body", &v, &e), ERR_OK);
    assert_int_equal(json_integer_value(json_object_get(v, "a")), 1);
    json_decref(v);
    static const char *const bad[] = { "", "{", "{'a':1}", "[01]", "[1,]", "\"\xFF\"", "nul", "[1] x" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(json_read(str_from(bad[i]), 100, "body", &v, &e), ERR_INVALID);
        assert_null(v);
    }
    assert_int_equal(json_read((struct str){ "[1\0]", 4 }, 100, "body", &v, &e), ERR_INVALID);
    assert_int_equal(json_read(STR("[1,2,3]"), 3, "body", &v, &e), ERR_TOO_LARGE);
    assert_int_equal(json_read_bounded(STR("[1,{},\",[{,\"]"), 100, 5, "body", &v, &e), ERR_OK);
    json_decref(v);
    assert_int_equal(json_read_bounded(STR("[1,{},\",[{,\"]"), 100, 4, "body", &v, &e), ERR_TOO_LARGE);
    assert_string_equal(e.text, "body has more than 4 values");
    char deep[200];
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    assert_int_equal(json_read((struct str){ deep, 200 }, 1000, "body", &v, &e), ERR_INVALID);
}

/* With any allocation refused, once or from there on, it is refused whole: no byte of it is missing, and none is read
 * that is not there, wherever in a text the reader's buffer is full. */
static void json_reads_all_or_nothing(void **state)
{
    (void)state;
    char text[300];
    struct err e;
    size_t refused = 0;
    for (int length = 0; length < 140; length++) {
        json_t *whole, *v = NULL;
        snprintf(text, sizeof text, "{\"%0*d\":\"%0*d\",\"n\":[1,-2.5e10,true,\"\\u00e9\"]}", length / 2, 0, length, 0);
        assert_int_equal(json_read(str_from(text), 1000, "body", &whole, &e), ERR_OK);
        uint64_t live = mem_live();
        for (uint64_t n = 2; !v; n++) { /* each twice */
            mem_fail_after(n / 2, n % 2);
            enum err_code code = json_read(str_from(text), 1000, "body", &v, &e);
            mem_fail_after(0, false);
            assert_int_equal(code, v ? ERR_OK : ERR_NO_MEMORY);
            refused += !v;
            assert_true(v || mem_live() == live);
        }
        assert_true(json_equal(v, whole));
        json_decref(v);
        json_decref(whole);
    }
    assert_true(refused > 140 * 20);
}

static void json_writes_what_reads_back(void **state)
{
    (void)state;
    struct buf b;
    struct json_out j;
    buf_init(&b, 1000);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "s", "a\"\\\n\x01\xC3\xA9\xFFz");
    json_knum(&j, "f", 0.1);
    json_knum(&j, "n", (double)NAN);
    json_kint(&j, "i", INT64_MIN);
    json_kbool(&j, "t", true);
    json_key(&j, "l");
    json_arr(&j);
    json_int_value(&j, 1);
    json_null_value(&j);
    json_arr_end(&j);
    json_obj_end(&j);
    assert_string_equal(b.p, "{\"s\":\"a\\\"\\\\\\n\\u0001\xC3\xA9\xEF\xBF\xBDz\",\"f\":0.1,\"n\":null,"
                             "\"i\":-9223372036854775808,\"t\":true,\"l\":[1,null]}");
    buf_finish(&b);
}

int main(void)
{
    json_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_carries_code_and_sentence),
        cmocka_unit_test(err_cuts_between_code_points),
        cmocka_unit_test(nth_allocation_fails_once_or_for_ever),
        cmocka_unit_test(arena_aligns_and_respects_its_limit),
        cmocka_unit_test(buf_stops_at_its_cap),
        cmocka_unit_test(utf8_refuses_what_rfc3629_refuses),
        cmocka_unit_test(map_holds_many_and_replaces),
        cmocka_unit_test(json_reads_strictly),
        cmocka_unit_test(json_reads_all_or_nothing),
        cmocka_unit_test(json_writes_what_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
