#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"
#include "runtime/model/quantize.h"

struct quantizer {
    struct gguf *g;
    struct quantize_plan *plan;
    char what[96];
};

enum err_code quantizer_check(const char *type, struct err *e)
{
    return quantize_target_find(str_from(type), e) ? ERR_OK : ERR_INVALID;
}

enum err_code quantizer_open(const char *path, const char *type, struct quantizer **out, struct err *e)
{
    const struct quantize_target *target = quantize_target_find(str_from(type), e);
    struct quantizer *q = target ? mem_zero(1, sizeof *q) : NULL;
    *out = NULL;
    if (!q)
        return target ? err_no_memory(e, sizeof *q, "quantising a file") : ERR_INVALID;
    enum err_code c = gguf_open(path, &q->g, e);
    if (!c)
        c = quantize_plan_make(q->g, target, &q->plan, e);
    if (c) {
        quantizer_close(q);
        return c;
    }
    snprintf(q->what, sizeof q->what, "quantizing %s model to %s", q->plan->from_name, target->name);
    *out = q;
    return ERR_OK;
}

void quantizer_close(struct quantizer *q)
{
    if (!q)
        return;
    quantize_plan_destroy(q->plan);
    gguf_close(q->g);
    mem_free(q);
}

uint64_t quantizer_bytes(const struct quantizer *q)
{
    return q->plan->file_bytes;
}

const char *quantizer_text(const struct quantizer *q)
{
    return q->what;
}

enum err_code quantizer_run(struct quantizer *q, unsigned threads, quantizer_write *write, void *user,
                            struct err *e)
{
    struct quantize_sink sink = { .write = write, .user = user };
    return quantize_run(q->plan, &sink, threads, e);
}
