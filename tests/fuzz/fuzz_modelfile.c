/* Any bytes as a Modelfile: they end in commands or in a sentence, and what the writer says is exact
 * reads back as the same commands. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "store/modelfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void same(const struct modelfile *a, const struct modelfile *b)
{
    if (a->n != b->n)
        abort();
    for (size_t i = 0; i < a->n; i++)
        if (a->commands[i].kind != b->commands[i].kind ||
            !str_eq(a->commands[i].name, b->commands[i].name) ||
            !str_eq(a->commands[i].value, b->commands[i].value))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str bytes = { (const char *)data, size };
    uint64_t live = mem_live();
    struct modelfile m, again;
    struct err e = { 0 };
    struct buf out;
    bool exact = true;
    enum err_code code = modelfile_parse(bytes, &m, &e);
    if (code && (code != e.code || !e.text[0] || utf8_valid(e.text, strlen(e.text)) != strlen(e.text)))
        abort();
    buf_init(&out, (size_t)4 << 20);
    for (size_t i = 0; i < m.n; i++) {
        exact = modelfile_put(&out, &m.commands[i]) && exact;
        if (m.commands[i].value.p[m.commands[i].value.n] || !m.commands[i].line)
            abort();
    }
    if (!code && exact) {
        if (modelfile_parse(buf_str(&out), &again, &e))
            abort();
        same(&m, &again);
        modelfile_finish(&again);
    }
    buf_finish(&out);
    modelfile_finish(&m);
    if (mem_live() != live)
        abort();
    return 0;
}
