#include "daemon/inspect.h"

#include <stdio.h>
#include <string.h>

#include "daemon/prompt.h"

static void put_capabilities(struct inspected *i, const struct output_format *f)
{
    struct model_can can = model_can(i->words, f);
    snprintf(i->capabilities, sizeof i->capabilities, "%s%s%s%s",
             words_header(i->words)->has_weights ? "completion," : "", can.tools ? "tools," : "",
             can.insert ? "insert," : "", can.thinking ? "thinking," : "");
    size_t n = strlen(i->capabilities);
    if (n)
        i->capabilities[n - 1] = '\0';
}

enum err_code inspect_file(const char *path, struct inspected *out, struct err *e)
{
    struct output_format *format = NULL;
    *out = (struct inspected){ 0 };
    enum err_code c = words_load(path, &out->words, e);
    if (!c)
        c = output_format_create(words_template(out->words), words_tokenizer(out->words), &format, e);
    if (c)
        return c;
    const struct model_header *h = words_header(out->words);
    put_capabilities(out, format);
    output_format_destroy(format);
    out->facts = (struct store_facts){
        .format = "gguf",
        .family = h->arch,
        .quantization = h->file_type,
        .capabilities = out->capabilities,
        .n_params = h->n_params,
        .context_length = h->n_ctx_train,
        .embedding_length = h->n_embd,
        .has_weights = h->has_weights,
    };
    return ERR_OK;
}

void inspected_finish(struct inspected *i)
{
    words_destroy(i->words);
    *i = (struct inspected){ 0 };
}
