#include "daemon/quantize.h"

static enum err_code plan(void *user, const char *path, uint64_t *bytes, const char **status, struct err *e)
{
    struct quantize_writer *w = user;
    quantizer_close(w->quantizer);
    w->quantizer = NULL;
    enum err_code c = quantizer_open(path, w->type, &w->quantizer, e);
    if (c)
        return c;
    *bytes = quantizer_bytes(w->quantizer);
    *status = quantizer_text(w->quantizer);
    return ERR_OK;
}

static enum err_code write_file(void *user, const struct derive_sink *sink, struct err *e)
{
    struct quantize_writer *w = user;
    return quantizer_run(w->quantizer, QUANTIZE_THREADS, sink->write, sink->user, e);
}

enum err_code quantize_writer_init(struct quantize_writer *w, const char *type, struct err *e)
{
    *w = (struct quantize_writer){ .writer = { .plan = plan, .write = write_file, .user = w }, .type = type };
    return quantizer_check(type, e);
}

void quantize_writer_finish(struct quantize_writer *w)
{
    quantizer_close(w->quantizer);
    w->quantizer = NULL;
}
