#include "daemon/inspect.h"

#include <stdio.h>
#include <string.h>

#include "daemon/prompt.h"
#include "runtime/base/mem.h"
#include "runtime/text/chat_template.h"

static const char *keep(struct arena *a, const char *text)
{
    return text ? arena_strndup(a, text, strlen(text)) : "";
}

static const char *capabilities(const struct words *w, const struct chat_template *t, const struct output_format *f,
                                struct arena *a)
{
    struct model_can can = model_can(w, t, f);
    char text[64];
    snprintf(text, sizeof text, "%s%s%s%s", words_header(w)->has_weights && !prompt_no_model(w) ? "completion," : "",
             can.tools ? "tools," : "", can.insert ? "insert," : "", can.thinking ? "thinking," : "");
    size_t n = strlen(text);
    return arena_strndup(a, text, n ? n - 1 : 0);
}

static enum err_code read_facts(const struct words *w, const struct chat_template *t, const struct output_format *f,
                                struct arena *a, struct store_facts *out, struct err *e)
{
    const struct model_header *h = words_header(w);
    *out = (struct store_facts){
        .format = "gguf",
        .family = keep(a, h->arch),
        .quantization = keep(a, h->file_type),
        .capabilities = capabilities(w, t, f, a),
        .n_params = h->n_params,
        .context_length = h->n_ctx_train,
        .embedding_length = h->n_embd,
        .has_weights = h->has_weights,
    };
    struct str license = words_text(w, "general.license"); /* its short name: "apache-2.0" */
    out->license = license.n ? arena_strndup(a, license.p, license.n) : "";
    return out->family && out->quantization && out->capabilities && out->license
               ? ERR_OK
               : err_no_memory(e, 64, "a model's facts");
}

enum err_code inspect_files(void *user, const char *const *paths, size_t n, struct str template, struct arena *a,
                            struct store_facts *out, struct err *e)
{
    struct words *w = NULL;
    struct chat_template *own = NULL;
    struct output_format *format = NULL;
    (void)user, (void)n;
    enum err_code c = words_load(paths[0], &w, e);
    if (!c && prompt_no_model(w) && strcmp(words_header(w)->arch, "clip") != 0) /* a projector goes beside a model */
        c = err_set(e, ERR_UNSUPPORTED, "this file is no model by itself (general.type): %s", prompt_no_model(w));
    if (!c && template.n) {
        c = chat_template_create(template, "the model's template", &own, e);
        c = c == ERR_NO_MEMORY ? c : ERR_OK; /* one that cannot be read gives way to the file's */
    }
    const struct chat_template *t = own || c ? own : words_template(w);
    c = c ? c : output_format_create(t, words_tokenizer(w), &format, e);
    c = c ? c : read_facts(w, t, format, a, out, e);
    output_format_destroy(format);
    chat_template_destroy(own);
    words_destroy(w);
    return c;
}
