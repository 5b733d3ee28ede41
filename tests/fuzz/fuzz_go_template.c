/* Any bytes as a Go template: parsing and rendering end in a text or an error, within their caps,
 * and what is marked as content lies in the text. A NUL byte ends the template; what follows are
 * the variables, as JSON. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/go_template.h"

static const char usual[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be terse.\"},{\"role\":\"user\",\"content\":"
    "\"\\u00dcber <b> 'x'\"},{\"role\":\"assistant\",\"thinking\":\"hm\",\"tool_calls\":[{\"id\":"
    "\"c0\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":[2.5,true]}}}]}],\"think\":true,"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"a\":{\"type\":[\"string\",\"null\"],\"enum\":[1,\"x\"]}}}}}]}";

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    json_setup();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *source = (const char *)data;
    const char *end = size ? memchr(source, '\0', size) : NULL;
    size_t n = end ? (size_t)(end - source) : size;
    struct str json = end ? (struct str){ end + 1, size - n - 1 } : str_from(usual);
    uint64_t live = mem_live();
    struct go_template *t = NULL;
    struct spans content = { 0 };
    struct str open, close;
    json_t *vars = NULL;
    struct buf out;
    struct err e = { 0 };
    buf_init(&out, (size_t)8 << 20);
    (void)go_template_looks_like((struct str){ source, n });
    if (json_read(json, 1 << 20, "vars", &vars, &e) || !json_is_object(vars))
        goto out;
    enum err_code code = go_template_create((struct str){ source, n }, "t", &t, &e);
    if (!code) {
        (void)go_template_uses(t, ".Suffix");
        (void)go_template_thinking_tags(t, &open, &close);
        code = go_template_render(t, vars, 1764000000, &out, &content, &e);
    }
    if (code && (out.n != 0 || e.code != code || e.text[0] == '\0'))
        abort();
    for (size_t i = 0; i < content.n; i++)
        if (content.v[i].begin >= content.v[i].end || content.v[i].end > out.n ||
            (i && content.v[i].begin <= content.v[i - 1].end))
            abort();
out:
    go_template_destroy(t);
    json_decref(vars);
    spans_finish(&content);
    buf_finish(&out);
    if (mem_live() != live)
        abort();
    return 0;
}
