/* bars: what a person sees of a transfer; names of registries and hubs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bars.h"
#include "cli/secrets.h"
#include "runtime/base/mem.h"

#define S INT64_C(1000000000)

static struct transfer_event event(const char *status, const char *digest, uint64_t completed, uint64_t total)
{
    return (struct transfer_event){ .status = str_from(status), .digest = str_from(digest),
                                    .has_total = total > 0, .total = total, .completed = completed };
}

static const char *drawn(const struct bar *x, size_t width, char out[512])
{
    struct buf b;
    buf_init(&b, 511);
    bar_put(&b, x, width);
    assert_false(b.failed);
    assert_true(term_columns(buf_str(&b)) <= width);
    snprintf(out, 512, "%s", b.n ? b.p : "");
    buf_finish(&b);
    return out;
}

/* Narrow terminals lose columns, never the first, and no line is wider than there is room. */
static void columns_by_width(void **state)
{
    (void)state;
    struct bar x = { .label = "pulling 0123456789ab", .has_total = true, .completed = 380000000,
                     .total = 1000000000, .per_s = 25e6 };
    char text[512];
    assert_string_equal(drawn(&x, 30, text), "pulling 0123456789ab  38%");
    assert_string_equal(drawn(&x, 48, text), "pulling 0123456789ab  38%   380 MB/1.0 GB");
    assert_string_equal(drawn(&x, 60, text), "pulling 0123456789ab  38%   380 MB/1.0 GB  25 MB/s");
    assert_string_equal(drawn(&x, 80, text), "pulling 0123456789ab  38%   380 MB/1.0 GB  25 MB/s    25s left");
    assert_non_null(strstr(drawn(&x, 120, text), "\xe2\x96\x88"));
    for (size_t width = 1; width < 200; width++)
        drawn(&x, width, text);
    assert_string_equal(drawn(&x, 10, text), "pulling 01");
    x.completed = 999999999;
    assert_non_null(strstr(drawn(&x, 80, text), " 99%"));
    x.completed = x.total;
    assert_string_equal(drawn(&x, 30, text), "pulling 0123456789ab 100%");
    assert_null(strstr(drawn(&x, 80, text), "left"));
}

static const char *sum(const struct bars *b, char out[512])
{
    struct buf text;
    buf_init(&text, 511);
    bars_put_sum(&text, b);
    snprintf(out, 512, "%s", text.n ? text.p : "");
    buf_finish(&text);
    return out;
}

static void tell(struct bars *b, const char *digest, uint64_t completed, int64_t at)
{
    struct transfer_event ev = event("pulling x", digest, completed, 100000000);
    bars_event(b, &ev, at);
}

/* What was there at the beginning is no speed; a stall is seen. */
static void speed_and_time_left(void **state)
{
    (void)state;
    struct bars b = { .line_ns = INT64_MAX / 2 }; /* no line is printed */
    char text[512];
    tell(&b, "sha256:a", 50000000, 10 * S);
    assert_string_equal(sum(&b, text), "pulling: 50 MB of 100 MB (50%)");
    tell(&b, "sha256:a", 55000000, 11 * S);
    assert_string_equal(sum(&b, text), "pulling: 55 MB of 100 MB (55%), 5.0 MB/s, 9s left");
    tell(&b, "sha256:b", 0, 11 * S);
    tell(&b, "sha256:b", 5000000, 12 * S);
    assert_string_equal(sum(&b, text), "pulling: 60 MB of 200 MB (30%), 10 MB/s, 14s left");
    bars_idle(&b, 30 * S);
    assert_string_equal(sum(&b, text), "pulling: 60 MB of 200 MB (30%)");
    tell(&b, "sha256:a", 100000000, 31 * S);
    tell(&b, "sha256:b", 100000000, 31 * S);
    assert_string_equal(sum(&b, text), "pulling: 200 MB of 200 MB (100%)");
    mem_free(b.bar);
}

static void what_has_arrived(void **state)
{
    (void)state;
    struct bars b = { .line_ns = INT64_MAX / 2 };
    struct transfer_event ev = event("pulling", "sha256:a", 0, 2);
    bars_event(&b, &ev, S);
    assert_false(bars_arrived(&b));
    ev.completed = 1;
    bars_event(&b, &ev, S);
    assert_true(bars_arrived(&b));
    mem_free(b.bar);
}

static void nothing_drives_the_terminal(void **state)
{
    (void)state;
    struct bars b = { .line_ns = INT64_MAX / 2 };
    struct transfer_event ev = event("pull\033[2Jing", "sha256:a", 1, 2);
    bars_event(&b, &ev, S);
    assert_null(strchr(b.bar[0].label, '\033'));
    mem_free(b.bar);
}

static void hosts_of_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *host;
        bool hub;
    } rows[] = {
        { "smollm2", "registry.ollama.ai", false },
        { "team/m:1", "registry.ollama.ai", false },
        { "r.example/team/m:1", "r.example", false },
        { "localhost/m", "localhost", false },
        { "box:5000/m", "box:5000", false },
        { "http://box/m", "box", false },
        { "hf.co/o/r:Q4_0", "hf.co", true },
        { "HuggingFace.co/o/r", "HuggingFace.co", true },
        { "https://huggingface.co/o/r/resolve/main/x.gguf", "huggingface.co", true },
        { "hf.co", "registry.ollama.ai", false },
        { "evil.example/hf.co/r", "evil.example", false },
        { "hf.co.evil.example/o/r", "hf.co.evil.example", false },
        { "https://hf.co@evil.example/o/r", "hf.co@evil.example", false },
    };
    unsetenv("HF_ENDPOINT");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_true(str_is(secrets_host(rows[i].name), rows[i].host));
        assert_int_equal(secrets_is_hub(rows[i].name), rows[i].hub);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_by_width),
        cmocka_unit_test(speed_and_time_left),
        cmocka_unit_test(what_has_arrived),
        cmocka_unit_test(nothing_drives_the_terminal),
        cmocka_unit_test(hosts_of_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
