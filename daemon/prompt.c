#include "daemon/prompt.h"

#include <string.h>

#include "runtime/base/mem.h"

#define MAX_TEXT ((size_t)4 << 20)

static bool holds(struct str text, const char *what)
{
    return text.n && memmem(text.p, text.n, what, strlen(what)) != NULL;
}

struct model_can model_can(const struct words *w)
{
    const struct chat_template *t = words_template(w);
    struct str source = t ? chat_template_source(t) : (struct str){ 0 };
    const struct model_header *h = words_header(w);
    return (struct model_can){
        .completion = h->has_weights && h->runnable,
        .tools = holds(source, "tools"),
        .thinking = holds(source, "<think>") || holds(source, "enable_thinking"),
    };
}

void prompt_init(struct prompt *p)
{
    *p = (struct prompt){ 0 };
    buf_init(&p->text, MAX_TEXT);
}

void prompt_finish(struct prompt *p)
{
    buf_finish(&p->text);
    spans_finish(&p->content);
    token_list_finish(&p->tokens);
}

/* ---- the template's variables ------------------------------------------------------------------ */

static json_t *string_of(struct str s)
{
    return json_stringn(s.p ? s.p : "", s.n);
}

static json_t *message(const char *role, struct str content)
{
    json_t *m = json_object();
    if (json_object_set_new(m, "role", json_string(role)) ||
        json_object_set_new(m, "content", string_of(content))) {
        json_decref(m);
        return NULL;
    }
    return m;
}

/* The messages that the template sees: a list of its own, so that some can be left out. */
static json_t *messages_of(const struct gen_request *r)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    bool leads = r->messages && json_array_size(r->messages) &&
                 str_is((struct str){ json_string_value(json_object_get(
                                          json_array_get(r->messages, 0), "role")),
                                      json_string_length(json_object_get(
                                          json_array_get(r->messages, 0), "role")) },
                        "system");
    if (ok && r->system.n && !leads)
        ok = json_array_append_new(list, message("system", r->system)) == 0;
    if (ok && !r->messages)
        ok = json_array_append_new(list, message("user", r->prompt)) == 0;
    for (size_t i = 0; ok && i < json_array_size(r->messages); i++)
        ok = json_array_append(list, json_array_get(r->messages, i)) == 0;
    if (!ok)
        json_decref(list);
    return ok ? list : NULL;
}

static bool set_token(json_t *vars, const char *key, const struct tokenizer *t, int32_t id)
{
    return json_object_set_new(vars, key, string_of(tokenizer_text(t, id))) == 0;
}

static bool set_think(json_t *vars, enum think think)
{
    static const char *const level[] = {
        [THINK_ON] = "medium",      [THINK_LOW] = "low",   [THINK_MEDIUM] = "medium",
        [THINK_HIGH] = "high", [THINK_MAX] = "max",
    };
    if (think == THINK_UNSET)
        return true;
    if (json_object_set_new(vars, "enable_thinking", json_boolean(think != THINK_OFF)) ||
        json_object_set_new(vars, "thinking", json_boolean(think != THINK_OFF)))
        return false;
    return think == THINK_OFF ||
           json_object_set_new(vars, "reasoning_effort", json_string(level[think])) == 0;
}

/* The request's own fields say these; and no client speaks for the vocabulary. */
static enum err_code check_kwargs(const struct gen_request *r, struct err *e)
{
    json_t *all = (json_t *)(uintptr_t)r->template_kwargs; /* iterators do not change it */
    for (void *i = json_object_iter(all); i; i = json_object_iter_next(all, i)) {
        struct str k = { json_object_iter_key(i), json_object_iter_key_len(i) };
        if (str_is(k, "messages") || str_is(k, "tools") || chat_template_trusts(k))
            return err_set(e, ERR_INVALID, "\"chat_template_kwargs\" cannot set \"%s\"", k.p);
    }
    return ERR_OK;
}

static json_t *vars_of(const struct prompt_want *w)
{
    const struct gen_request *r = w->req;
    const struct tokenizer *t = words_tokenizer(w->words);
    json_t *vars = json_object();
    bool ok = vars && json_object_set_new(vars, "messages", messages_of(r)) == 0 &&
              json_object_set_new(vars, "add_generation_prompt",
                                  json_boolean(r->add_generation_prompt)) == 0 &&
              set_token(vars, "bos_token", t, tokenizer_bos(t)) &&
              set_token(vars, "eos_token", t, tokenizer_eos(t)) && set_think(vars, r->think);
    if (ok && json_array_size(r->tools))
        ok = json_object_set(vars, "tools", (json_t *)(uintptr_t)r->tools) == 0;
    if (ok && r->template_kwargs)
        ok = json_object_update(vars, (json_t *)(uintptr_t)r->template_kwargs) == 0;
    if (!ok)
        json_decref(vars);
    return ok ? vars : NULL;
}

/* ---- text and tokens ------------------------------------------------------------------------------ */

static enum err_code add_context(const struct gen_request *r, struct token_list *out, struct err *e)
{
    size_t n = json_array_size(r->context);
    if (!mem_grow(&out->id, &out->cap, out->n + n, sizeof *out->id, SIZE_MAX / sizeof *out->id))
        return err_no_memory(e, n * sizeof *out->id, "the context's tokens");
    for (size_t i = 0; i < n; i++)
        out->id[out->n++] =
            (int32_t)json_number_value(json_array_get(r->context, i)); /* checked when read */
    return ERR_OK;
}

/* Appends the ids of the text, with the model's BOS in front of a text that lacks it. */
static enum err_code encode(const struct tokenizer *t, struct str text,
                            const struct spans *content, struct token_list *out, struct err *e)
{
    bool first = out->n == 0;
    enum err_code c = tokenizer_encode_spans(t, text, content, false, out, e);
    int32_t bos = tokenizer_bos(t);
    if (c || !first || !tokenizer_adds_bos(t) || bos == TOKEN_NONE || (out->n && out->id[0] == bos))
        return c;
    if (!mem_grow(&out->id, &out->cap, out->n + 1, sizeof *out->id, SIZE_MAX / sizeof *out->id))
        return err_no_memory(e, sizeof *out->id, "tokens");
    memmove(out->id + 1, out->id, out->n * sizeof *out->id);
    out->id[0] = bos;
    out->n++;
    return ERR_OK;
}

static enum err_code tokens_of(const struct prompt_want *w, struct prompt *out, struct err *e)
{
    out->tokens.n = 0;
    enum err_code c = add_context(w->req, &out->tokens, e);
    if (c)
        return c;
    if (out->text.failed)
        return err_set(e, ERR_TOO_LARGE, "the prompt's text is over %zu bytes", MAX_TEXT);
    return encode(words_tokenizer(w->words), buf_str(&out->text), &out->content, &out->tokens,
                  e);
}

static bool is_system(const json_t *m)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    return role && strcmp(role, "system") == 0;
}

/* Leaves out the oldest message that may go. False: none may. */
static bool drop_oldest(json_t *messages)
{
    size_t n = json_array_size(messages);
    for (size_t i = 0; i + 1 < n; i++)
        if (!is_system(json_array_get(messages, i)))
            return json_array_remove(messages, i) == 0;
    return false;
}

static bool ends_in_thought(struct str text)
{
    while (text.n && strchr(" \t\r\n", text.p[text.n - 1]))
        text.n--;
    return str_ends(text, STR("<think>"));
}

static enum err_code render(const struct prompt_want *w, const struct chat_template *t,
                            struct prompt *out, struct err *e)
{
    enum err_code c = check_kwargs(w->req, e);
    json_t *vars = c ? NULL : vars_of(w);
    if (c)
        return c;
    if (!vars)
        return err_no_memory(e, 0, "the template's variables");
    json_t *messages = json_object_get(vars, "messages");
    for (;;) {
        buf_clear(&out->text);
        out->content.n = 0;
        if ((c = chat_template_render(t, vars, w->now_s, &out->text, &out->content, e)) ||
            (c = tokens_of(w, out, e)))
            break;
        if (!w->n_ctx || out->tokens.n <= w->n_ctx || !w->req->truncate || !drop_oldest(messages))
            break;
        out->dropped++;
    }
    json_decref(vars);
    return c;
}

/* Without a template: the prompt as it stands, after the system text. */
static enum err_code plain(const struct prompt_want *w, struct prompt *out, struct err *e)
{
    const struct gen_request *r = w->req;
    if (r->system.n && !r->raw) {
        buf_put(&out->text, r->system.p, r->system.n);
        buf_puts(&out->text, "\n\n");
    }
    buf_put(&out->text, r->prompt.p ? r->prompt.p : "", r->prompt.n);
    return tokens_of(w, out, e);
}

static enum err_code make(const struct prompt_want *w, struct prompt *out, struct err *e)
{
    const struct gen_request *r = w->req;
    const struct chat_template *t = words_template(w->words);
    struct chat_template *own = NULL;
    if (r->raw)
        return plain(w, out, e);
    if (r->template.n) {
        enum err_code c = chat_template_create(r->template, "template", &own, e);
        if (c)
            return c;
        t = own;
    }
    if (!t && words_no_template(w->words)->code)
        return err_set(e, ERR_UNSUPPORTED, "the template of \"%.*s\" cannot be used: %s",
                       (int)r->model.n, r->model.p, words_no_template(w->words)->text);
    if (!t && r->messages)
        return err_set(e, ERR_INVALID, "\"%.*s\" does not support chat: its file has no template",
                       (int)r->model.n, r->model.p);
    enum err_code c = t ? render(w, t, out, e) : plain(w, out, e);
    chat_template_destroy(own);
    return c;
}

enum err_code prompt_no_tokenizer(const struct words *w, struct err *e)
{
    const struct err *why = words_no_tokenizer(w);
    return err_set(e, ERR_UNSUPPORTED, "this model has no tokenizer: %s",
                   why->code ? why->text : "its file's key 'tokenizer.ggml.model' names none");
}

enum err_code prompt_make(const struct prompt_want *w, struct prompt *out, struct err *e)
{
    if (!words_tokenizer(w->words))
        return prompt_no_tokenizer(w->words, e);
    enum err_code c = make(w, out, e);
    if (c)
        return c;
    if (w->n_ctx && out->tokens.n > w->n_ctx)
        return err_set(e, ERR_INVALID,
                       "the prompt has %zu tokens and the context %u: raise num_ctx or say less",
                       out->tokens.n, w->n_ctx);
    out->in_thought = ends_in_thought(buf_str(&out->text));
    return ERR_OK;
}
