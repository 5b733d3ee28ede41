/* name, digest: the grammar as a table, and what must never get through it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "store/name.h"

#define HEX "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef"
#define LOW "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const struct {
    const char *text, *canonical, *shown;
} good[] = {
    { "smollm2", "registry.ollama.ai/library/smollm2:latest", "smollm2:latest" },
    { "smollm2:135m", "registry.ollama.ai/library/smollm2:135m", "smollm2:135m" },
    { "SmolLM2:135M", "registry.ollama.ai/library/SmolLM2:135M", "SmolLM2:135M" },
    { "me/smollm2", "registry.ollama.ai/me/smollm2:latest", "me/smollm2:latest" },
    { "LIBRARY/x:y", "registry.ollama.ai/LIBRARY/x:y", "x:y" },
    { "Registry.Ollama.AI/library/x", "Registry.Ollama.AI/library/x:latest", "x:latest" },
    { "registry.ollama.ai/me/x", "registry.ollama.ai/me/x:latest", "me/x:latest" },
    { "hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M" },
    { "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Llama-3.2-1B-Instruct-Q4_0.gguf",
      "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Llama-3.2-1B-Instruct-Q4_0.gguf",
      "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Llama-3.2-1B-Instruct-Q4_0.gguf" },
    { "localhost:5000/ns/m:t", "localhost:5000/ns/m:t", "localhost:5000/ns/m:t" },
    { "localhost:5000/m", "localhost:5000/library/m:latest", "localhost:5000/library/m:latest" },
    { "localhost/m", "localhost/library/m:latest", "localhost/library/m:latest" },
    { "ghcr.io/m:1.0", "ghcr.io/library/m:1.0", "ghcr.io/library/m:1.0" },
    { "http://localhost:5000/ns/m", "localhost:5000/ns/m:latest", "localhost:5000/ns/m:latest" },
    { "https://intranet/m", "intranet/library/m:latest", "intranet/library/m:latest" },
    { "registry.ollama.ai/localhost/m", "registry.ollama.ai/localhost/m:latest",
      "registry.ollama.ai/localhost/m:latest" },
    { "m@sha256:" HEX, "registry.ollama.ai/library/m:latest", "m:latest" },
    { "h.io/n/m:t@sha256-" HEX, "h.io/n/m:t", "h.io/n/m:t" },
    { "_x/_y:_z", "registry.ollama.ai/_x/_y:_z", "_x/_y:_z" },
    { "a..b:1..2", "registry.ollama.ai/library/a..b:1..2", "a..b:1..2" },
    { "sha256-" LOW, "registry.ollama.ai/library/sha256-" LOW ":latest", "sha256-" LOW ":latest" },
    { "con:nul", "registry.ollama.ai/library/con:nul", "con:nul" },
};

static void grammar(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct name n, again;
        struct err e = { 0 };
        char text[NAME_TEXT_MAX + 1];
        if (name_parse(str_from(good[i].text), &n, &e))
            fail_msg("%s: %s", good[i].text, e.text);
        name_canonical(&n, text);
        assert_string_equal(text, good[i].canonical);
        assert_int_equal(name_parse(str_from(text), &again, &e), ERR_OK);
        assert_true(name_eq(&n, &again));
        name_short(&n, text);
        assert_string_equal(text, good[i].shown);
        assert_int_equal(name_parse(str_from(text), &again, &e), ERR_OK);
        assert_true(name_eq(&n, &again));
    }
}

/* what is wrong is named in the sentence */
static const struct {
    const char *text, *sentence;
} bad[] = {
    { "", "missing" },
    { "/", "model is empty" },
    { "a/", "model is empty" },
    { "/a", "namespace is empty" },
    { "//a", "host is empty" },
    { "h//a", "namespace is empty" },
    { "a:", "tag is empty" },
    { ":a", "model is empty" },
    { "a:b:c", "tag may hold" },
    { ".", "model must begin" },
    { "..", "model must begin" },
    { "../x", "host must begin" },
    { "../../x", "host must begin" },
    { "../../../etc/passwd", "host must begin" },
    { "/etc/passwd", "host is empty" },
    { "h.io/../x", "namespace must begin" },
    { "h.io/n/..", "model must begin" },
    { "h.io/n/x:..", "tag must begin" },
    { "h.io/n.s/x", "namespace may hold" },
    { "a/b/c/d", "namespace may hold" },
    { "a\\b", "model may hold" },
    { "..\\..\\x", "model must begin" },
    { "a b", "model may hold" },
    { " a", "model must begin" },
    { "a ", "model may hold" },
    { "a\n", "model may hold" },
    { "a\x01", "model may hold" },
    { "-rf", "model must begin" },
    { "a:-t", "tag must begin" },
    { "a:t/b", "port must be" },
    { "~/x", "namespace must begin" },
    { "$HOME", "model must begin" },
    { "a%2f..%2fb", "model may hold" },
    { "caf\xc3\xa9", "model may hold" },
    { "a\xff", "model may hold" },
    { "\xe2\x80\xaex", "model must begin" },
    { "file:///etc/passwd", "scheme must be" },
    { "file://x/y/z", "scheme must be" },
    { "ftp://h/n/m", "scheme must be" },
    { "://h/n/m", "scheme must be" },
    { "http://m", "scheme needs a host" },
    { "https:///n/m", "host is empty" },
    { "https://user:pw@h/n/m", "64 hex" },
    { "https://h/n/m?x=y", "model may hold" },
    { "h:/n/m", "port must be" },
    { "h:0/n/m", "port must be" },
    { "h:65536/n/m", "port must be" },
    { "h:99999999999/n/m", "port must be" },
    { "h:80a/n/m", "port must be" },
    { "h:-1/n/m", "port must be" },
    { "h:1:2/n/m", "port must be" },
    { ":80/n/m", "host is empty" },
    { "[::1]:80/n/m", "port must be" },
    { "-h.io/n/m", "host must begin" },
    { ".h.io/n/m", "host must begin" },
    { "m@", "64 hex" },
    { "m@sha256:", "64 hex" },
    { "m@sha256:0123", "64 hex" },
    { "m@sha256:" LOW "0", "64 hex" },
    { "m@sha512:" LOW, "64 hex" },
    { "m@SHA256:" LOW, "64 hex" },
    { "m@sha256/" LOW, "64 hex" },
    { "m@sha256:../../../../../../../../../../../../../../../../../../../etc/shadow", "64 hex" },
    { "m@sha256:g123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "64 hex" },
    { "m@sha256:" LOW "@sha256:" LOW, "64 hex" },
    { "@sha256:" LOW, "model is empty" },
};

static void hostile_names_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct name n, before;
        struct err e = { 0 };
        memset(&n, 0xa5, sizeof n);
        before = n;
        if (name_parse(str_from(bad[i].text), &n, &e) != ERR_INVALID)
            fail_msg("'%s' got through", bad[i].text);
        if (!strstr(e.text, bad[i].sentence))
            fail_msg("'%s': '%s' does not say '%s'", bad[i].text, e.text, bad[i].sentence);
        assert_memory_equal(&n, &before, sizeof n);
        assert_int_equal(utf8_valid(e.text, strlen(e.text)), strlen(e.text));
        for (const char *p = e.text; *p; p++)
            assert_true(*p >= ' ' && *p <= '~');
    }
}

static void nul_bytes_are_refused(void **state)
{
    (void)state;
    struct name n;
    const char text[] = "a\0b";
    for (size_t i = 0; i < 3; i++) {
        char t[8] = "a/b:c";
        t[i * 2] = '\0';
        assert_int_equal(name_parse((struct str){ t, 5 }, &n, NULL), ERR_INVALID);
    }
    assert_int_equal(name_parse((struct str){ text, 3 }, &n, NULL), ERR_INVALID);
    assert_int_equal(name_parse((struct str){ NULL, 0 }, &n, NULL), ERR_INVALID);
}

/* Each part just at its limit, and one over. */
static void limits(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
        size_t max;
        const char *part;
    } rows[] = { { "", "/n/m:t", 350, "host" },
                 { "h.io/", "/m:t", 80, "namespace" },
                 { "h.io/n/", ":t", 80, "model" },
                 { "h.io/n/m:", "", 80, "tag" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t over = 0; over < 2; over++) {
            char fill[400], text[500];
            struct name n;
            struct err e = { 0 };
            memset(fill, 'x', sizeof fill);
            snprintf(text, sizeof text, "%s%.*s%s", rows[i].before, (int)(rows[i].max + over), fill,
                     rows[i].after);
            assert_int_equal(name_parse(str_from(text), &n, &e), over ? ERR_INVALID : ERR_OK);
            if (over)
                assert_non_null(strstr(e.text, rows[i].part));
        }
    char longest[350 + 1 + 80 + 1 + 80 + 1 + 80 + 1], out[NAME_TEXT_MAX + 1];
    memset(longest, 'x', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    longest[350] = longest[431] = '/';
    longest[512] = ':';
    struct name n;
    assert_int_equal(name_parse(str_from(longest), &n, NULL), ERR_OK);
    name_canonical(&n, out);
    assert_string_equal(out, longest);
}

static void huge_input_is_refused_quickly(void **state)
{
    (void)state;
    size_t size = 1 << 20;
    char *text = malloc(size);
    struct name n;
    static const char fill[] = "a/:@.:/";
    assert_non_null(text);
    for (size_t i = 0; i < sizeof fill - 1; i++) {
        memset(text, fill[i], size);
        assert_int_equal(name_parse((struct str){ text, size }, &n, NULL), ERR_INVALID);
    }
    free(text);
}

static void parts_that_are_not_identity(void **state)
{
    (void)state;
    struct name a, b;
    assert_int_equal(name_parse(STR("http://H.io/N/M:T@sha256:" HEX), &a, NULL), ERR_OK);
    assert_int_equal(name_parse(STR("h.IO/n/m:t"), &b, NULL), ERR_OK);
    assert_true(a.http && a.tagged && a.pinned);
    assert_true(!b.http && b.tagged && !b.pinned);
    assert_true(name_eq(&a, &b));
    assert_int_equal(name_parse(STR("h.io/n/m"), &b, NULL), ERR_OK);
    assert_true(!b.tagged && !name_eq(&a, &b));
}

/* Whatever bytes come in: no crash, and what gets through has no byte that a path could use. */
static void random_bytes(void **state)
{
    (void)state;
    static const char alphabet[] = "ab.A0_-/:@~\\ \n\0\xc3%shttp://sha256:";
    uint64_t x = 88172645463325252u;
    size_t through = 0;
    for (int round = 0; round < 300000; round++) {
        char text[24];
        size_t n = 0;
        for (; n < sizeof text; n++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            if (x % 17 == 0)
                break;
            text[n] = alphabet[(x >> 20) % (sizeof alphabet - 1)];
        }
        struct name name, again;
        char out[NAME_TEXT_MAX + 1];
        if (name_parse((struct str){ text, n }, &name, NULL))
            continue;
        through++;
        const char *parts[] = { name.host, name.namespace, name.model, name.tag };
        for (size_t i = 0; i < 4; i++)
            assert_true(parts[i][0] && parts[i][0] != '.' && !strpbrk(parts[i], "/\\~ \n%@"));
        name_short(&name, out);
        assert_int_equal(name_parse(str_from(out), &again, NULL), ERR_OK);
        assert_true(name_eq(&name, &again));
    }
    assert_true(through > 1000);
}

static void digests(void **state)
{
    (void)state;
    struct digest d, other;
    char text[DIGEST_TEXT_SIZE], file[DIGEST_FILE_SIZE];
    assert_true(digest_parse(STR("sha256:" HEX), &d));
    assert_true(digest_parse(STR("sha256-" LOW), &other));
    assert_true(digest_eq(&d, &other));
    assert_int_equal(d.b[0], 0x01);
    assert_int_equal(d.b[31], 0xef);
    digest_text(&d, text);
    assert_string_equal(text, "sha256:" LOW);
    digest_file_name(&d, file);
    assert_string_equal(file, "sha256-" LOW);
    other.b[31] ^= 1;
    assert_false(digest_eq(&d, &other));
    assert_false(digest_parse(STR(LOW), &d));
    assert_false(digest_parse(STR(""), &d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammar),
        cmocka_unit_test(hostile_names_are_refused),
        cmocka_unit_test(nul_bytes_are_refused),
        cmocka_unit_test(limits),
        cmocka_unit_test(huge_input_is_refused_quickly),
        cmocka_unit_test(parts_that_are_not_identity),
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(digests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
