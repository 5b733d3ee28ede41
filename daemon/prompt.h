/* A request -> the exact text and tokens that the model is given. Pure; runs on a worker, so that
 * a long prompt holds up nobody.
 *
 * Rules: chat goes through the model's template (or the request's); generate too, as one user
 * message after the system text, unless `raw`; without a template it is the text as it stands, but one
 * that cannot be used is an error. A BOS that the model wants is put in front where
 * the text does not begin with it. A control token is one only where the template wrote it: what
 * came from messages, tools and chat_template_kwargs makes none. A last message of the assistant is
 * gone on with: the text ends behind what it had begun to say. With a suffix the prompt is both, in the order
 * prefix, suffix, middle, each behind its token of the vocabulary, and no token is parsed in them. Where the prompt is longer than the context and `truncate` is
 * on, the oldest messages but the system's are left out, the last one never; how many is said. */
#ifndef HEARTH_DAEMON_PROMPT_H
#define HEARTH_DAEMON_PROMPT_H

#include "daemon/protocol.h"
#include "runtime/engine/runtime.h"
#include "runtime/text/output_parser.h"

struct model_can {
    bool completion, tools, thinking;
    bool insert; /* the vocabulary or the template can fill in the middle */
};
/* t: the template that is used, or NULL; f: of it. */
struct model_can model_can(const struct words *w, const struct chat_template *t, const struct output_format *f);

struct prompt_want {
    const struct words *words;
    const struct chat_template *template; /* the model's; NULL: it has none */
    const json_t *history;                /* messages of the model's that come first; NULL */
    const struct gen_request *req;
    uint32_t n_ctx;   /* most tokens; 0: no limit */
    int64_t now_s;    /* what strftime_now sees */
};
struct prompt {
    struct buf text;          /* what was tokenised */
    struct spans content;     /* of it: what came from the request, where a template was used */
    size_t answer_at;         /* where the answer begins in it: its end, but for one that is gone on with */
    struct token_list tokens;
    uint64_t dropped;         /* messages left out */
    struct output_format *own_format; /* of the answer, where it is not the model's own: the request has a
                                 template, or none is used; else NULL */
};
/* Chat, generate and render. ERR_INVALID: too long, a template's own objection, or a name in
 * chat_template_kwargs that is not for a client to set. */
enum err_code prompt_make(const struct prompt_want *w, struct prompt *out, struct err *e);
/* What a file is that is no model by itself, as its general.type says; NULL: a model. */
const char *prompt_no_model(const struct words *w);
enum err_code prompt_no_tokenizer(const struct words *w, struct err *e); /* the error: why there is none */
void prompt_init(struct prompt *p);
void prompt_finish(struct prompt *p);

#endif
