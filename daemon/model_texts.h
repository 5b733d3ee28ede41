/* What a model has beside its weights: template, system text, parameters and messages that its makers
 * chose, as layers of the store. They take the place of what a request leaves out.
 *
 * Thread: a store thread for reading (it blocks on the disk); then whoever has it, one at a time. */
#ifndef HEARTH_DAEMON_MODEL_TEXTS_H
#define HEARTH_DAEMON_MODEL_TEXTS_H

#include "daemon/protocol.h"
#include "runtime/base/mem.h"
#include "store/store.h"

struct model_texts {
    struct arena arena;
    struct str template, system;  /* empty: none */
    struct str renderer, parser, requires; /* of the config, which other programs heed; empty: none */
    json_t *params;               /* object, or NULL */
    json_t *messages;             /* array of {role, content}, or NULL */
    struct gen_options options;   /* of params, from which it borrows */
    bool has_adapter;             /* a LoRA layer */
};
/* ERR_FORMAT: a layer is not what it is called; the sentence names the model. */
enum err_code model_texts_read(struct store *s, const struct store_model *m, struct model_texts *out,
                               struct err *e);
void model_texts_finish(struct model_texts *t); /* a zeroed one is fine */

/* REQUIRES counts in Ollama's versions: this is the one whose formats and API we speak. */
#define OLLAMA_SPOKEN "0.32.0"
/* ERR_UNSUPPORTED: `requires` is a version after it. `name`: the model's. */
enum err_code model_texts_check_version(struct str requires, const char *name, struct err *e);

/* The model's own where the request is silent: options, and the system text. */
void model_texts_apply(const struct model_texts *t, struct gen_request *r);
/* The conversation that comes before the request's, or NULL. */
const json_t *model_texts_history(const struct model_texts *t, const struct gen_request *r);

/* For show: "stop   \"<|end|>\"" lines; and all of it as a Modelfile. template: the one that is used. */
void model_texts_parameters(const struct model_texts *t, struct buf *out);
void model_texts_modelfile(const struct model_texts *t, const struct store_model *m, struct str template,
                           const struct str *licenses, size_t n_licenses, struct buf *out);

#endif
