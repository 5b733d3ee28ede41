/* config: flags, environment, defaults, and sentences about what is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/config.h"

#define S INT64_C(1000000000)

static char *no_env(const char *name)
{
    return strcmp(name, "HOME") == 0 ? (char *)(uintptr_t) "/home/u" : NULL;
}

static char *full_env(const char *name)
{
    static const char *const vars[][2] = {
        { "HEARTH_SOCKET", "/run/s" },     { "HEARTH_LISTEN", "off" },
        { "HEARTH_HOME", "/h" },           { "HEARTH_KEEP_ALIVE", "90" },
        { "HEARTH_PARALLEL", "3" },        { "HEARTH_MAX_QUEUE", "7" },
        { "HEARTH_CONTEXT", "2048" },      { "HEARTH_KV_TYPE", "q8_0" },
        { "HEARTH_DEVICE", "ref" },        { "HEARTH_PRELOAD", "a,b" },
        { "HEARTH_MIRROR", "http://m" },   { "HEARTH_OFFLINE", "1" },
        { "HEARTH_API_KEY_FILE", "/k" },   { "HEARTH_ALLOW_HOST", "x" },
        { "HEARTH_ORIGINS", "https://o" }, { "HEARTH_LOG", "debug" },
        { "HEARTH_CPU_THREADS", "2" },
        { "XDG_RUNTIME_DIR", "/run/user/1" }, { "XDG_DATA_HOME", "/data" },
    };
    for (size_t i = 0; i < sizeof vars / sizeof *vars; i++)
        if (strcmp(vars[i][0], name) == 0)
            return (char *)(uintptr_t)vars[i][1];
    return NULL;
}

static char *xdg_env(const char *name)
{
    return strncmp(name, "XDG", 3) == 0 ? full_env(name) : NULL;
}

static enum err_code read_with(char *(*env)(const char *), struct config *c, struct err *e,
                               enum config_action *a, const char *first, ...)
{
    char *argv[16] = { (char *)(uintptr_t) "hearthd" };
    int n = 1;
    va_list ap;
    va_start(ap, first);
    for (const char *w = first; w; w = va_arg(ap, const char *))
        argv[n++] = (char *)(uintptr_t)w;
    va_end(ap);
    return config_read(n, argv, env, c, a, e);
}

static void defaults(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    enum config_action a;
    assert_int_equal(read_with(no_env, &c, &e, &a, NULL), ERR_OK);
    assert_int_equal(a, CONFIG_RUN);
    assert_string_equal(c.listen, "127.0.0.1:11434");
    assert_string_equal(c.home, "/home/u/.local/share/hearth");
    assert_string_equal(c.socket, "/home/u/.local/share/hearth/hearth.sock");
    assert_true(c.keep_alive_ns == 300 * S);
    assert_int_equal(c.max_queue, 512);
    assert_int_equal(c.parallel, 0);
    assert_int_equal(c.context, 0);
    assert_int_equal(c.kv_type, KV_F16);
    assert_int_equal(c.cpu_threads, 0);
    assert_string_equal(c.device, "");
    assert_false(c.offline || c.reproducible);
    assert_int_equal(c.log_level, LOG_INFO);
    assert_int_equal(read_with(xdg_env, &c, &e, &a, NULL), ERR_OK);
    assert_string_equal(c.home, "/data/hearth");
    assert_string_equal(c.socket, "/run/user/1/hearth.sock");
}

static void environment_and_flags(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    enum config_action a;
    assert_int_equal(read_with(full_env, &c, &e, &a, NULL), ERR_OK);
    assert_string_equal(c.socket, "/run/s");
    assert_string_equal(c.listen, "off");
    assert_true(c.keep_alive_ns == 90 * S);
    assert_int_equal(c.parallel, 3);
    assert_int_equal(c.max_queue, 7);
    assert_int_equal(c.context, 2048);
    assert_int_equal(c.kv_type, KV_Q8_0);
    assert_string_equal(c.device, "ref");
    assert_int_equal(c.cpu_threads, 2);
    assert_true(c.offline);
    assert_int_equal(c.log_level, LOG_DEBUG);
    assert_int_equal(read_with(full_env, &c, &e, &a, "--keep-alive", "-1", "--parallel=9",
                               "--reproducible", "--home", "/x", NULL), ERR_OK);
    assert_true(c.keep_alive_ns < 0);
    assert_int_equal(c.parallel, 9);
    assert_true(c.reproducible);
    assert_string_equal(c.home, "/x");
}

static void what_is_wrong_is_named(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    enum config_action a;
    static const char *const wrong[][3] = {
        { "--parallel", "many", "--parallel" },   { "--keep-alive", "5 parsecs", "--keep-alive" },
        { "--kv-type", "q2", "f16, q8_0 or f32" }, { "--log-level", "loud", "--log-level" },
        { "--frob", "x", "--frob" },              { "--parallel", "-3", "--parallel" },
        { "--max-queue", "99999999999", "--max-queue" }, { "stray", "x", "stray" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(read_with(no_env, &c, &e, &a, wrong[i][0], wrong[i][1], NULL), ERR_USAGE);
        assert_non_null(strstr(e.text, wrong[i][2]));
    }
    assert_int_equal(read_with(no_env, &c, &e, &a, "--home", NULL), ERR_USAGE);
}

static void other_actions(void **state)
{
    (void)state;
    struct config c;
    struct err e;
    enum config_action a;
    struct buf help;
    assert_int_equal(read_with(no_env, &c, &e, &a, "--nonsense", "--help", NULL), ERR_OK);
    assert_int_equal(a, CONFIG_HELP);
    assert_int_equal(read_with(no_env, &c, &e, &a, "--version", NULL), ERR_OK);
    assert_int_equal(a, CONFIG_VERSION);
    assert_int_equal(read_with(no_env, &c, &e, &a, "--explain", "m.gguf", "--subgroup", "64",
                               "--cores", "128", "--max-range", "128", "--max-local=256", NULL), ERR_OK);
    assert_int_equal(c.max_range_mib, 128);
    assert_int_equal(c.max_local, 256);
    assert_int_equal(a, CONFIG_EXPLAIN);
    assert_string_equal(c.explain, "m.gguf");
    assert_int_equal(c.subgroup, 64);
    assert_int_equal(c.cores, 128);
    buf_init(&help, 1 << 16);
    config_help(&help);
    static const char *const rows[] = { "--socket PATH", "HEARTH_LISTEN", "default: 512",
                                        "--reproducible", "127.0.0.1:11434" };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_non_null(strstr(help.p, rows[i]));
    buf_finish(&help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(environment_and_flags),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(other_actions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
