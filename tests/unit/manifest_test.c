/* manifest: reading Ollama's, Docker's and OCI's; what is refused, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/json.h"
#include "store/manifest.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
#define D(c) "\"digest\":\"sha256:" HEX #c "\""
#define CONFIG "{\"mediaType\":\"application/vnd.docker.container.image.v1+json\"," D(0) ",\"size\":2}"
#define MODEL "{\"mediaType\":\"application/vnd.ollama.image.model\"," D(1) ",\"size\":5}"
#define LAYERS(list) "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" list "]}"
#define LAYER(type, rest) "{\"mediaType\":\"" type "\"," rest "}"

static enum err_code read_text(const char *text, size_t n, struct arena *a, struct manifest *m, struct err *e)
{
    return manifest_read((struct str){ text, n }, a, m, e);
}

static void three_dialects_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        uint64_t size;
        enum media_kind kinds[4];
    } rows[] = {
        { LAYERS(MODEL "," LAYER("application/vnd.ollama.image.template", D(2) ",\"size\":7") ","
                 LAYER("application/vnd.ollama.image.license", D(3) ",\"size\":0")),
          3, 12, { MEDIA_MODEL, MEDIA_TEMPLATE, MEDIA_LICENSE } },
        { "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":"
          LAYER("application/vnd.docker.ai.model.config.v0.1+json", D(0) ",\"size\":200") ",\"layers\":["
          LAYER("application/vnd.docker.ai.gguf.v3", D(1) ",\"size\":9,\"annotations\":{\"x\":1}") ","
          LAYER("application/vnd.docker.ai.license", D(2) ",\"size\":1") "]}",
          2, 10, { MEDIA_MODEL, MEDIA_LICENSE } },
        { "{\"schemaVersion\":2,\"artifactType\":\"application/x-model\",\"config\":"
          LAYER("application/vnd.oci.empty.v1+json", D(0) ",\"size\":2,\"data\":\"e30=\"") ",\"layers\":["
          LAYER("application/octet-stream", D(1) ",\"size\":9,\"annotations\":"
                "{\"org.opencontainers.image.title\":\"m-00001-of-00002.gguf\"}") ","
          LAYER("application/octet-stream", D(2) ",\"size\":9,\"annotations\":"
                "{\"org.cncf.model.filepath\":\"../m-00002-of-00002.gguf\"}") ","
          LAYER("application/octet-stream", D(3) ",\"size\":1,\"annotations\":"
                "{\"org.opencontainers.image.title\":\"mmproj-f16.gguf\"}") "]}",
          3, 19, { MEDIA_MODEL, MEDIA_MODEL, MEDIA_PROJECTOR } },
        { LAYERS(MODEL "," MODEL), 2, 10, { MEDIA_MODEL, MEDIA_MODEL } }, /* the same bytes twice */
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":9223372036854775807")), 1, INT64_MAX,
          { MEDIA_MODEL } },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena a = { 0 };
        struct manifest m;
        struct err e = { 0 };
        if (read_text(rows[i].text, strlen(rows[i].text), &a, &m, &e))
            fail_msg("%zu: %s", i, e.text);
        assert_int_equal(m.n_layers, rows[i].n);
        assert_int_equal(m.size, rows[i].size);
        assert_int_equal(m.config.kind, MEDIA_CONFIG);
        for (size_t k = 0; k < m.n_layers; k++)
            assert_int_equal(m.layers[k].kind, rows[i].kinds[k]);
        if (i == 2)
            assert_string_equal(m.layers[1].title, "../m-00002-of-00002.gguf");
        arena_finish(&a);
    }
}

#define FULL LAYER("application/vnd.ollama.image.license", D(2) ",\"size\":4194304")

static void what_is_no_manifest_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err_code code;
        const char *sentence;
    } rows[] = {
        { "", ERR_FORMAT, "manifest" },
        { "[]", ERR_FORMAT, "no JSON object" },
        { "{}", ERR_FORMAT, "schema version 2" },
        { "{\"schemaVersion\":1,\"fsLayers\":[]}", ERR_UNSUPPORTED, "schema version 2" },
        { "{\"schemaVersion\":2,\"manifests\":[]}", ERR_UNSUPPORTED, "an index of several" },
        { "{\"schemaVersion\":2,\"config\":" CONFIG "}", ERR_FORMAT, "no list of layers" },
        { "{\"schemaVersion\":2,\"layers\":[" MODEL "]}", ERR_FORMAT, "its config must have" },
        { "{\"schemaVersion\":2,\"config\":7,\"layers\":[" MODEL "]}", ERR_FORMAT, "its config must have" },
        { LAYERS(""), ERR_UNSUPPORTED, "none of its 0 layers" },
        { LAYERS("7"), ERR_FORMAT, "layer 1 must have" },
        { LAYERS(MODEL ",{}"), ERR_FORMAT, "layer 2 must have" },
        { LAYERS(MODEL "," LAYER("application/vnd.ollama.image.tensor", D(2) ",\"size\":7")), ERR_UNSUPPORTED,
          "layer 2 is 'application/vnd.ollama.image.tensor', which is no part" },
        { LAYERS(MODEL "," LAYER("application/octet-stream", D(2) ",\"size\":7,\"annotations\":"
                 "{\"org.opencontainers.image.title\":\"run.sh\"}")), ERR_UNSUPPORTED, "named run.sh" },
        { LAYERS(LAYER("application/vnd.ollama.image.template", D(2) ",\"size\":7")), ERR_UNSUPPORTED,
          "none of its 1 layers" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":-1")), ERR_FORMAT, "size of layer 1" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":1.5")), ERR_FORMAT, "size of layer 1" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":\"5\"")), ERR_FORMAT,
          "size of layer 1" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":9223372036854775808")), ERR_FORMAT, "" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":9223372036854775807") ","
                 LAYER("application/vnd.ollama.image.model", D(2) ",\"size\":1")), ERR_FORMAT,
          "more bytes than there can be" },
        { LAYERS(MODEL "," LAYER("application/vnd.ollama.image.model", D(1) ",\"size\":6")), ERR_FORMAT,
          "is said to have 5 and 6 bytes" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", D(0) ",\"size\":6")), ERR_FORMAT,
          "is said to have 2 and 6 bytes" },
        { LAYERS(MODEL "," LAYER("application/vnd.ollama.image.params", D(2) ",\"size\":4194305")), ERR_TOO_LARGE,
          "layer 2 (params) has 4194305 bytes" },
        { LAYERS(MODEL "," FULL "," FULL "," FULL "," FULL "," FULL), ERR_TOO_LARGE,
          "its texts have more than 16777216 bytes" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":\"sha256-" HEX "1\",\"size\":1")), ERR_FORMAT,
          "must be sha256:" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":\"sha512:" HEX "1\",\"size\":1")), ERR_FORMAT,
          "must be sha256:" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":\"sha256:../../etc/passwd\",\"size\":1")),
          ERR_FORMAT, "'sha256:../../etc/passwd' and must be" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":\"sha256:" HEX "\",\"size\":1")), ERR_FORMAT,
          "must be sha256:" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":7,\"size\":1")), ERR_FORMAT,
          "must be sha256:" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":\"caf\u00e9\",\"size\":1")), ERR_FORMAT, "is '?'" },
        { LAYERS(LAYER("application/vnd.ollama.image.model", "\"digest\":\"\x7f\",\"size\":1")), ERR_FORMAT, "is '?'" },
        { LAYERS("{\"mediaType\":\"application/vnd.ollama.image.model\",\"size\":5}"), ERR_FORMAT, "layer 1 must have" },
        { LAYERS("{\"mediaType\":\"application/vnd.ollama.image.model\"," D(1) "}"), ERR_FORMAT, "layer 1 must have" },
        { LAYERS(LAYER("a\\nb", D(1) ",\"size\":1")), ERR_FORMAT, "control character" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena a = { 0 };
        struct manifest m;
        struct err e = { 0 };
        enum err_code code = read_text(rows[i].text, strlen(rows[i].text), &a, &m, &e);
        if (code != rows[i].code || !strstr(e.text, rows[i].sentence))
            fail_msg("%s: %s: '%s'", rows[i].text, err_name(code), e.text);
        arena_finish(&a);
    }
}

/* Many layers, much text, deep nesting: none takes long or much memory. */
static void limits_hold(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct arena a = { 0 };
    struct manifest m;
    struct buf b;
    static const size_t counts[] = { MANIFEST_MAX_LAYERS, MANIFEST_MAX_LAYERS + 1 };
    for (size_t i = 0; i < 2; i++) {
        buf_init(&b, MANIFEST_MAX_BYTES);
        buf_puts(&b, "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[" MODEL);
        for (size_t k = 1; k < counts[i]; k++)
            buf_puts(&b, "," MODEL);
        buf_puts(&b, "]}");
        assert_false(b.failed);
        assert_int_equal(read_text(b.p, b.n, &a, &m, &e), i ? ERR_TOO_LARGE : ERR_OK);
        buf_finish(&b);
        arena_finish(&a);
    }
    assert_non_null(strstr(e.text, "1025 layers"));
    buf_init(&b, 2 * MANIFEST_MAX_BYTES);
    for (size_t i = 0; i < 1000; i++)
        buf_putc(&b, '[');
    assert_int_equal(read_text(b.p, b.n, &a, &m, &e), ERR_FORMAT);
    buf_clear(&b);
    buf_puts(&b, "{\"layers\":[0");
    for (size_t i = 0; i < 1000000; i++)
        buf_puts(&b, ",0");
    buf_puts(&b, "]}");
    assert_int_equal(read_text(b.p, b.n, &a, &m, &e), ERR_TOO_LARGE);
    while (b.n <= MANIFEST_MAX_BYTES)
        buf_putc(&b, ' ');
    assert_int_equal(read_text(b.p, b.n, &a, &m, &e), ERR_TOO_LARGE);
    buf_clear(&b);
    buf_puts(&b, "{\"schemaVersion\":2,\"config\":" CONFIG ",\"layers\":[{\"mediaType\":\"");
    for (size_t i = 0; i < 300; i++)
        buf_putc(&b, 'x');
    buf_puts(&b, "\"," D(1) ",\"size\":1}]}");
    assert_int_equal(read_text(b.p, b.n, &a, &m, &e), ERR_TOO_LARGE);
    assert_non_null(strstr(e.text, "media type has 300 bytes"));
    buf_finish(&b);
    arena_finish(&a);
}

static void what_we_write_we_read(void **state)
{
    (void)state;
    struct manifest_layer in[3] = { { .media_type = media_type_of(MEDIA_CONFIG), .size = 2 },
                                    { .media_type = media_type_of(MEDIA_MODEL), .size = 1, .title = "a \"b\".gguf" },
                                    { .media_type = media_type_of(MEDIA_LICENSE), .size = 3 } };
    struct buf b;
    struct digest d;
    struct err e = { 0 };
    struct arena a = { 0 };
    struct manifest m;
    for (size_t i = 0; i < 3; i++)
        in[i].digest.b[0] = (uint8_t)i;
    buf_init(&b, MANIFEST_MAX_BYTES);
    assert_int_equal(manifest_write(&in[0], in + 1, 2, &b, &d, &e), ERR_OK);
    assert_int_equal(read_text(b.p, b.n, &a, &m, &e), ERR_OK);
    assert_true(digest_eq(&m.config.digest, &in[0].digest) && digest_eq(&m.layers[1].digest, &in[2].digest));
    assert_string_equal(m.layers[0].title, "a \"b\".gguf");
    assert_null(m.layers[1].title);
    assert_int_equal(m.size, 4);
    arena_finish(&a);
    buf_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_dialects_are_read),
        cmocka_unit_test(what_is_no_manifest_is_refused),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(what_we_write_we_read),
    };
    json_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
