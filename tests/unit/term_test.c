/* The command's words for sizes, spans and durations, its tables, and what it keeps from a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/term.h"

#define COUNT(rows) (sizeof(rows) / sizeof *(rows))
#define SECOND INT64_C(1000000000)

static void durations_are_gos(void **state)
{
    static const struct {
        int64_t ns;
        const char *text;
    } rows[] = {
        { 1, "1ns" },
        { 999, "999ns" },
        { 1000, "1\xc2\xb5s" },
        { 413011, "413.011\xc2\xb5s" },
        { 1500000, "1.5ms" },
        { 130079000, "130.079ms" },
        { 999999999, "999.999999ms" },
        { SECOND, "1s" },
        { 1234567891, "1.234567891s" },
        { 60 * SECOND, "1m0s" },
        { 62 * SECOND + SECOND / 2, "1m2.5s" },
        { 3600 * SECOND, "1h0m0s" },
        { 5403 * SECOND + 1, "1h30m3.000000001s" },
        { INT64_MAX, "2562047h47m16.854775807s" },
    };
    char out[WORDS_SIZE];
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_string_equal(words_duration(rows[i].ns, out), rows[i].text);
}

static void spans_are_round(void **state)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } rows[] = {
        { 0, "Less than a second" }, { 1, "1 second" },       { 59, "59 seconds" },
        { 61, "About a minute" },    { 185, "3 minutes" },    { -185, "3 minutes" },
        { 4000, "About an hour" },   { 7200, "2 hours" },     { 172800, "2 days" },
        { 1209600, "2 weeks" },      { 5184000, "2 months" }, { 63072000, "2 years" },
    };
    char out[WORDS_SIZE];
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_string_equal(words_span(rows[i].seconds * SECOND, out), rows[i].text);
}

static void sizes_are_decimal(void **state)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {
        { 0, "0 B" },           { 999, "999 B" },         { 1000, "1.0 KB" },
        { 98362432, "98 MB" },  { 4200000000, "4.2 GB" }, { 42000000000, "42 GB" },
        { UINT64_MAX, "18447 PB" },
    };
    char out[WORDS_SIZE];
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_string_equal(words_bytes(rows[i].bytes, out), rows[i].text);
}

static void control_characters_do_not_pass(void **state)
{
    static const char raw[] = "a\x1b[31m\tb\n\r\x07\x7f\xc2\x9b\xff\xe6\xbc\xa2";
    struct buf out;
    (void)state;
    buf_init(&out, 256);
    term_clean(&out, (struct str){ raw, sizeof raw - 1 });
#define R "\xef\xbf\xbd"
    assert_string_equal(out.p, "a" R "[31m\tb\n" R R R R R "\xe6\xbc\xa2");
    buf_finish(&out);
    assert_int_equal(term_columns(STR("a\xe6\xbc\xa2\xcc\x81" "b")), 4); /* wide, and a combining mark */
}

/* What table_print wrote to stdout. */
static size_t printed(struct table *t, char *out, size_t size)
{
    FILE *file = tmpfile();
    int kept = dup(STDOUT_FILENO);
    size_t n;
    assert_non_null(file);
    fflush(stdout);
    dup2(fileno(file), STDOUT_FILENO);
    bool good = table_print(t);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    rewind(file);
    n = fread(out, 1, size - 1, file);
    fclose(file);
    out[n] = '\0';
    assert_true(good);
    return n;
}

static void columns_line_up(void **state)
{
    static const char *const heads[] = { "NAME", "SIZE" };
    char out[256];
    struct table t;
    (void)state;
    table_init(&t, heads, 2);
    table_cell(&t, "%s", "\xe6\xbc\xa2\xe5\xad\x97"); /* four columns, six bytes */
    table_cell(&t, "%d", 1);
    table_cell(&t, "%s", "longer name");
    table_cell(&t, "%s", "\x1b[2J");
    printed(&t, out, sizeof out);
    assert_string_equal(out, "NAME           SIZE\n\xe6\xbc\xa2\xe5\xad\x97           1\nlonger name    " R "[2J\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_gos),
        cmocka_unit_test(spans_are_round),
        cmocka_unit_test(sizes_are_decimal),
        cmocka_unit_test(control_characters_do_not_pass),
        cmocka_unit_test(columns_line_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
