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
    { "huggingface.co/Org/Repo:q8_0", "hf.co/Org/Repo:q8_0", "hf.co/Org/Repo:q8_0" },
    { "https://HuggingFace.co/org.x/Repo.v1", "hf.co/org.x/Repo.v1:latest",
      "hf.co/org.x/Repo.v1:latest" },
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
    { "a/b/c/d", "2 levels of namespace" },
    { "localhost:5000/a/b/c:tag", "2 levels of namespace" },
    { "h.io/a/../b/c", "3 levels of namespace" },
    { "hf.co/org/repo:sub/file.gguf", "without its folder" },
    { "hf.co/org/sub/repo", "2 levels of namespace" },
    { "hf.co/../repo", "organisation must begin" },
    { "hf.co/org/..", "repository must begin" },
    { "hf.co/org/repo:..", "quantisation or file must begin" },
    { "hf.co/org/repo:a%2fb", "quantisation or file may hold" },
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
    { "h:000080/n/m", "port must be" },
    { "h:99999999999/n/m", "port must be" },
    { "h:80a/n/m", "port must be" },
    { "h:-1/n/m", "port must be" },
    { "h:1:2/n/m", "port must be" },
    { ":80/n/m", "host is empty" },
    { "[::1]:80/n/m", "IPv6" },
    { "[::1]/m", "IPv6" },
    { "https://[::1]:80/n/m", "IPv6" },
    { "::1/n/m", "port must be" },
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
                 { "", ":5000/n/m:t", 345, "host" },
                 { "h.io/", "/m:t", 80, "namespace" },
                 { "h.io/n/", ":t", 80, "model" },
                 { "h.io/n/m:", "", 80, "tag" },
                 { "hf.co/", "/m:t", 42, "organisation" },
                 { "huggingface.co/n/", ":t", 96, "repository" },
                 { "hf.co/n/m:", "", 128, "file" } };
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
    static const char *const others[] = { "h.i/n/m:t", "h.iop/n/m:t", "h.io/o/m:t", "h.io/n/mm:t", "h.io/n/m:t2" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(name_parse(str_from(others[i]), &b, NULL), ERR_OK);
        assert_false(name_eq(&a, &b));
    }
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

/* ---- sources --------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    enum source_kind kind;
    const char *kept, *shown;
    int hidden; /* bytes at the end of kept that are a query */
    bool http;
} sources[] = {
    { "smollm2:135m", SOURCE_REGISTRY, "", "smollm2:135m", 0, false },
    { "ghcr.io/o/m@sha256:" HEX, SOURCE_REGISTRY, "", "ghcr.io/o/m:latest", 0, false },
    { "http://h.io/n/m", SOURCE_REGISTRY, "", "h.io/n/m:latest", 0, true },
    { "https://h.io/n/m.gguf:t", SOURCE_REGISTRY, "", "h.io/n/m.gguf:t", 0, false },
    { "https://h.io/n/m:t.gguf", SOURCE_REGISTRY, "", "h.io/n/m:t.gguf", 0, false },
    { "m.gguf", SOURCE_REGISTRY, "", "m.gguf:latest", 0, false },
    { "hf.co/o/r:Q4_0", SOURCE_HUB, "", "hf.co/o/r:Q4_0", 0, false },
    { "huggingface.co/o/r", SOURCE_HUB, "", "hf.co/o/r:latest", 0, false },
    { "https://hf.co/o/r:x.gguf", SOURCE_HUB, "", "hf.co/o/r:x.gguf", 0, false },
    { "hf.co/o/r:Q4_0@refs/pr/3", SOURCE_HUB, "", "hf.co/o/r:Q4_0", 0, false },
    { "hf.co/o/r@v1.0", SOURCE_HUB, "", "hf.co/o/r:latest", 0, false },
    { "https://h.io/a/b/My-Model.Q8_0.gguf", SOURCE_URL, "https://h.io/a/b/My-Model.Q8_0.gguf",
      "my-model.q8_0:latest", 0, false },
    { "HTTPS://H.io:8443/X.GGUF?sig=a/b:c@d#frag", SOURCE_URL, "HTTPS://H.io:8443/X.GGUF?sig=a/b:c@d",
      "x:latest", 12, false },
    { "https://h.io/a/b/x.gguf@sha256:" , SOURCE_URL, "https://h.io/a/b/x.gguf", "x:latest", 0, false },
    { "http://localhost:80/x.gguf", SOURCE_URL, "http://localhost:80/x.gguf", "x:latest", 0, true },
    { "https://h.io/a%20b%2e%2e%2Fc%00d.gguf", SOURCE_URL, "https://h.io/a%20b%2e%2e%2Fc%00d.gguf",
      "a-b..-c-d:latest", 0, false },
    { "https://h.io/%2e%2e.gguf", SOURCE_URL, "https://h.io/%2e%2e.gguf", "model:latest", 0, false },
    { "https://h.io/%zz%4.gguf", SOURCE_URL, "https://h.io/%zz%4.gguf", "zz-4:latest", 0, false },
    { "https://h.io/big-00001-of-00003.gguf", SOURCE_URL, "https://h.io/big-00001-of-00003.gguf",
      "big:latest", 0, false },
    { "https://h.io/-00001-of-00003.gguf", SOURCE_URL, "https://h.io/-00001-of-00003.gguf",
      "00001-of-00003:latest", 0, false },
    { "https://huggingface.co/o/r/resolve/main/f.gguf", SOURCE_URL,
      "https://huggingface.co/o/r/resolve/main/f.gguf", "f:latest", 0, false },
    { "file:x", SOURCE_FILE, "x", "x:latest", 0, false },
    { "file:../Sm o/../Tiny.gguf", SOURCE_FILE, "../Sm o/../Tiny.gguf", "tiny:latest", 0, false },
    { "FILE:///srv/m%20x.gguf", SOURCE_FILE, "/srv/m%20x.gguf", "m-20x:latest", 0, false },
    { "file:/a/caf\xc3\xa9-\n.gguf", SOURCE_FILE, "/a/caf\xc3\xa9-\n.gguf", "caf:latest", 0, false },
    { "file:/a/..", SOURCE_FILE, "/a/..", "model:latest", 0, false },
    { "file:.gguf", SOURCE_FILE, ".gguf", "model:latest", 0, false },
    { "library/file:x", SOURCE_REGISTRY, "", "file:x", 0, false },
};

static void sources_by_kind(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        struct source s;
        struct err e = { 0 };
        char shown[NAME_TEXT_MAX + 1];
        if (source_parse(str_from(sources[i].text), &s, &e))
            fail_msg("%s: %s", sources[i].text, e.text);
        name_short(&s.name, shown);
        assert_string_equal(shown, sources[i].shown);
        assert_string_equal(s.text, sources[i].kept);
        assert_int_equal(s.kind, sources[i].kind);
        assert_int_equal(s.public_n, strlen(sources[i].kept) - (size_t)sources[i].hidden);
        assert_int_equal(s.name.http, sources[i].http);
        struct name again;
        assert_int_equal(name_parse(str_from(shown), &again, &e), ERR_OK);
        assert_true(name_eq(&s.name, &again));
    }
}

static void hostile_sources_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } rows[] = {
        { "", "missing" },
        { "ftp://h.io/x.gguf", "scheme must be" },
        { "https://user:secret@h.io/x.gguf", "user or a password" },
        { "https://token@h.io/x.gguf", "user or a password" },
        { "https://user:secret@h.io/n/m", "64 hex" },
        { "https://h.io/n/m?key=secret", "model may hold" },
        { "https://h.io/a b.gguf", "0x20 at 14) that has to be written as %20" },
        { "https://h.io/a\nb.gguf", "0x0a" },
        { "https://h.io/caf\xc3\xa9.gguf", "%C3" },
        { "https://h.io/a\x7f" "b.gguf", "0x7f" },
        { "https://h.io\\@evil/x.gguf", "0x5c" },
        { "https:///x.gguf", "host is empty" },
        { "https://h.io:0/x.gguf", "port must be" },
        { "https://h.io:/x.gguf", "port must be" },
        { "https://[::1]/x.gguf", "IPv6" },
        { "https://../x.gguf", "host must begin" },
        { "https://h%2eio/x.gguf", "host may hold" },
        { "https://x.gguf", "needs a host" },
        { "file:", "not the path" },
        { "file:/a/", "not the path" },
        { "file://host/x.gguf", "file of this machine" },
        { "file://", "file of this machine" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct source s, before;
        struct err e = { 0 };
        memset(&s, 0xa5, sizeof s);
        before = s;
        if (source_parse(str_from(rows[i].text), &s, &e) != ERR_INVALID)
            fail_msg("'%s' got through", rows[i].text);
        if (!strstr(e.text, rows[i].sentence))
            fail_msg("'%s': '%s' does not say '%s'", rows[i].text, e.text, rows[i].sentence);
        assert_null(strstr(e.text, "secret"));
        assert_null(strstr(e.text, "token"));
        assert_memory_equal(&s, &before, sizeof s);
    }
}

static void sources_at_their_limits(void **state)
{
    (void)state;
    static const char *const heads[] = { "https://h.io/", "file:/" };
    struct source s;
    char text[SOURCE_TEXT_MAX + 32];
    for (size_t i = 0; i < 2; i++)
        for (size_t over = 0; over < 2; over++) {
            size_t skip = i ? strlen("file:") : 0, n = SOURCE_TEXT_MAX + skip + over;
            memset(text, 'x', sizeof text);
            memcpy(text, heads[i], strlen(heads[i]));
            memcpy(text + n - 5, ".gguf", 5);
            assert_int_equal(source_parse((struct str){ text, n }, &s, NULL),
                             over ? ERR_INVALID : ERR_OK);
            if (!over)
                assert_int_equal(strlen(s.name.model), NAME_PART_MAX);
        }
    static const char nul[] = "file:/a\0b", url[] = "https://h.io/a\0b.gguf";
    assert_int_equal(source_parse((struct str){ nul, sizeof nul - 1 }, &s, NULL), ERR_INVALID);
    assert_int_equal(source_parse((struct str){ url, sizeof url - 1 }, &s, NULL), ERR_INVALID);
}

/* Whatever follows the scheme, a source's name is a name. */
static void random_sources(void **state)
{
    (void)state;
    static const char alphabet[] = "ab.A0_-/:@~%2eF\\ \n\0\xc3?#[]", tail[] = ".gguf";
    static const char *const heads[] = { "https://", "http://h/", "file:", "file://" };
    uint64_t x = 88172645463325252u;
    size_t through = 0;
    for (int round = 0; round < 200000; round++) {
        char text[48], out[NAME_TEXT_MAX + 1];
        size_t n = strlen(heads[round % 4]);
        memcpy(text, heads[round % 4], n);
        for (; n < sizeof text - sizeof tail; n++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            if (x % 11 == 0)
                break;
            text[n] = alphabet[(x >> 20) % (sizeof alphabet - 1)];
        }
        memcpy(text + n, tail, 5);
        struct source s;
        struct name again;
        struct err e = { 0 };
        if (source_parse((struct str){ text, n + 5 }, &s, &e)) {
            assert_int_equal(utf8_valid(e.text, strlen(e.text)), strlen(e.text));
            continue;
        }
        through++;
        assert_true(s.public_n <= strlen(s.text));
        name_canonical(&s.name, out);
        assert_int_equal(name_parse(str_from(out), &again, NULL), ERR_OK);
        assert_true(name_eq(&s.name, &again));
    }
    assert_true(through > 1000);
}

static void shown_without_secrets(void **state)
{
    static const struct {
        const char *text, *shown;
    } rows[] = {
        { "https://h.io/x.gguf?key=secret", "https://h.io/x.gguf..." },
        { "https://user:secret@h.io/x.gguf", "https://h.io/x.gguf" },
        { "user:secret@h.io/n/m:t", "h.io/n/m:t" },
        { "h.io/n/m@sha256:00", "h.io/n/m@sha256:00" },
        { "m@sha256:00", "m@sha256:00" },
        { "hf.co/o/r@refs/pr/1", "hf.co/o/r@refs/pr/1" },
        { "a\" b\n\xC3\xA9", "a? b???" },
        { "0123456789012345678901234567890", "0123456789012345678901234567..." },
        { "", "" },
    };
    char out[32];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(name_shown(str_from(rows[i].text), out, sizeof out), rows[i].shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grammar),
        cmocka_unit_test(shown_without_secrets),
        cmocka_unit_test(hostile_names_are_refused),
        cmocka_unit_test(nul_bytes_are_refused),
        cmocka_unit_test(limits),
        cmocka_unit_test(huge_input_is_refused_quickly),
        cmocka_unit_test(parts_that_are_not_identity),
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(digests),
        cmocka_unit_test(sources_by_kind),
        cmocka_unit_test(hostile_sources_are_refused),
        cmocka_unit_test(sources_at_their_limits),
        cmocka_unit_test(random_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
