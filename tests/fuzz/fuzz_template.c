/* Any bytes as a chat template: parsing and rendering end in a text or an error, within their
 * caps. A NUL byte in the input ends the template; what follows are the variables, as JSON. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/chat_template.h"

static const char usual[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be terse.\"},{\"role\":\"user\",\"content\":"
    "[{\"type\":\"text\",\"text\":\"\\u00dcber <b> "
    "'x'\"}]},{\"role\":\"assistant\",\"content\":null,"
    "\"reasoning_content\":\"hm\",\"tool_calls\":[{\"id\":\"c0\",\"type\":\"function\","
    "\"function\":"
    "{\"name\":\"f\",\"arguments\":{\"a\":1,\"b\":[2.5,true]}}}]}],\"add_generation_prompt\":true,"
    "\"bos_token\":\"<s>\",\"a\":1,\"b\":\"bee\",\"s\":\"Some Text\",\"n\":null,\"xs\":[3,1,2],"
    "\"d\":{\"a\":1,\"k\":\"v\",\"items\":[1,2]},\"f\":2.5,\"t\":[[\"p\",1],[\"q\",2]],"
    "\"e\":[{\"a\":2},{\"a\":1,\"b\":\"Y\"}]}";

/* Ascending, not empty, apart, within the text. */
static bool in_order(const struct spans *s, size_t n)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].begin >= s->v[i].end || s->v[i].end > n ||
            (i && s->v[i].begin <= s->v[i - 1].end))
            return false;
    return true;
}

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
    struct chat_template *t = NULL;
    json_t *vars = NULL;
    struct buf out;
    struct spans content = { 0 };
    struct err e = { 0 };
    buf_init(&out, (size_t)8 << 20);
    if (json_read(json, 1 << 20, "vars", &vars, &e) || !json_is_object(vars))
        goto out;
    enum err_code code = chat_template_create((struct str){ source, n }, "t", &t, &e);
    if (!code)
        code = chat_template_render(t, vars, 1764000000, &out, &content, &e);
    if (code && (out.n != 0 || content.n != 0 || e.code != code || e.text[0] == '\0'))
        abort();
    if (!code && (utf8_valid(out.p ? out.p : "", out.n) != out.n || !in_order(&content, out.n)))
        abort();
out:
    chat_template_destroy(t);
    json_decref(vars);
    buf_finish(&out);
    spans_finish(&content);
    if (mem_live() != live)
        abort();
    return 0;
}
