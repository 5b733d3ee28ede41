#include "daemon/prompt.h"

#include <string.h>

#include "daemon/messages.h"
#include "runtime/base/mem.h"

#define MAX_TEXT ((size_t)4 << 20)

static bool holds(struct str text, const char *what)
{
    return text.n && memmem(text.p, text.n, what, strlen(what)) != NULL;
}

static bool fills_in(const struct tokenizer *t)
{
    return t && tokenizer_fim(t, FIM_PREFIX) != TOKEN_NONE &&
           tokenizer_fim(t, FIM_SUFFIX) != TOKEN_NONE && tokenizer_fim(t, FIM_MIDDLE) != TOKEN_NONE;
}

struct model_can model_can(const struct words *w, const struct chat_template *t, const struct output_format *f)
{
    struct str source = t ? chat_template_source(t) : (struct str){ 0 };
    const struct model_header *h = words_header(w);
    struct output_format_info info = output_format_info(f);
    return (struct model_can){
        .completion = h->has_weights && h->runnable,
        .tools = info.tools,
        .thinking = info.reasoning || holds(source, "enable_thinking"),
        .insert = fills_in(words_tokenizer(w)) || (t && chat_template_fills_in(t)),
    };
}

void prompt_init(struct prompt *p)
{
    *p = (struct prompt){ 0 };
    buf_init(&p->text, MAX_TEXT);
}

void prompt_finish(struct prompt *p)
{
    output_format_destroy(p->own_format);
    buf_finish(&p->text);
    spans_finish(&p->content);
    token_list_finish(&p->tokens);
}

/* ---- the template's variables ------------------------------------------------------------------ */

static json_t *string_of(struct str s)
{
    return json_stringn(s.p ? s.p : "", s.n);
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

/* All but messages and add_generation_prompt. */
static json_t *vars_of(const struct prompt_want *w)
{
    const struct gen_request *r = w->req;
    const struct tokenizer *t = words_tokenizer(w->words);
    json_t *vars = json_object();
    bool ok = vars && set_token(vars, "bos_token", t, tokenizer_bos(t)) &&
              set_token(vars, "eos_token", t, tokenizer_eos(t)) && set_think(vars, r->think);
    if (ok && json_array_size(r->tools) && r->tool_choice != TOOLS_NONE)
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

/* ---- rendering ------------------------------------------------------------------------------------ */

struct rendering {
    const struct prompt_want *w;
    const struct chat_template *t;
    json_t *vars;
    struct prompt *out;
};

static enum err_code render(const struct rendering *x, bool generation_prompt, struct err *e)
{
    struct prompt *out = x->out;
    buf_clear(&out->text);
    out->content.n = 0;
    if (json_object_set_new(x->vars, "add_generation_prompt", json_boolean(generation_prompt)))
        return err_no_memory(e, 0, "the template's variables");
    return chat_template_render(x->t, x->vars, x->w->now_s, &out->text, &out->content, e);
}

static void cut(struct prompt *p, size_t n)
{
    struct spans *s = &p->content;
    while (s->n && s->v[s->n - 1].begin >= n)
        s->n--;
    if (s->n && s->v[s->n - 1].end > n)
        s->v[s->n - 1].end = n;
    p->text.n = n;
    p->text.p[n] = '\0';
}

static struct str trimmed(struct str s, bool front)
{
    while (front && s.n && strchr(" \t\r\n", *s.p))
        s = (struct str){ s.p + 1, s.n - 1 };
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Where the last occurrence of `what` begins in b, or b->n. */
static size_t find_last(const struct buf *b, struct str what)
{
    for (size_t at = b->n >= what.n ? b->n - what.n + 1 : 0; at-- > 0;)
        if (memcmp(b->p + at, what.p, what.n) == 0)
            return at;
    return b->n;
}

/* The text ends behind what the assistant had begun to say, as transformers' continue_final_message
 * has it: blanks that the template cut off are not put back. */
static enum err_code cut_behind(struct prompt *p, struct str begun, struct err *e)
{
    struct str core = trimmed(begun, true);
    size_t front = (size_t)(core.p - begun.p), at = find_last(&p->text, core);
    if (at == p->text.n)
        return err_set(e, ERR_INVALID,
                       "the template does not show the assistant's last message, so it cannot be continued");
    size_t whole = begun.n - front; /* with the blanks behind */
    bool kept = at + whole <= p->text.n && memcmp(p->text.p + at, core.p, whole) == 0;
    cut(p, at + (kept ? whole : core.n));
    return ERR_OK;
}

/* The conversation without the assistant's begun message says where its answer begins. */
static enum err_code find_answer(const struct rendering *x, size_t *answer_at, struct err *e)
{
    json_t *messages = json_object_get(x->vars, "messages");
    size_t n = json_array_size(messages);
    json_t *last = json_incref(json_array_get(messages, n - 1));
    json_array_remove(messages, n - 1);
    struct prompt before;
    prompt_init(&before);
    struct rendering y = *x;
    y.out = &before;
    enum err_code c = render(&y, true, NULL);
    size_t at = 0, most = before.text.n < x->out->text.n ? before.text.n : x->out->text.n;
    while (!c && at < most && before.text.p[at] == x->out->text.p[at])
        at++;
    *answer_at = c ? x->out->text.n : at; /* a template that cannot do without it: nothing is known */
    prompt_finish(&before);
    return json_array_append_new(messages, last) ? err_no_memory(e, 0, "messages") : ERR_OK;
}

/* An assistant's message at the end is gone on with, where the caller does not say otherwise. */
static enum err_code render_whole(const struct rendering *x, struct err *e)
{
    const struct gen_request *r = x->w->req;
    json_t *messages = json_object_get(x->vars, "messages");
    struct str begun = r->has_generation_prompt ? (struct str){ 0 } : messages_begun(messages);
    enum err_code c = render(x, !begun.n && r->add_generation_prompt, e);
    if (c || !trimmed(begun, true).n) {
        x->out->answer_at = x->out->text.n;
        return c;
    }
    if ((c = cut_behind(x->out, begun, e)))
        return c;
    return find_answer(x, &x->out->answer_at, e);
}

/* Leaves out old messages until the prompt fits. */
static enum err_code render_fitting(const struct rendering *x, struct err *e)
{
    const struct prompt_want *w = x->w;
    struct prompt *out = x->out;
    for (;;) {
        enum err_code c = render_whole(x, e);
        if (c || (c = tokens_of(w, out, e)))
            return c;
        if (!w->n_ctx || out->tokens.n <= w->n_ctx || !w->req->truncate ||
            !messages_drop_oldest(json_object_get(x->vars, "messages")))
            return ERR_OK;
        out->dropped++;
    }
}

/* A template that raises an error over calls may want them in another form: the first error is the
 * one that is told. */
static enum err_code render_any(struct rendering *x, struct err *e)
{
    enum err_code first = ERR_OK;
    struct err again;
    for (enum call_form form = 0; form < CALL_FORMS; form++) {
        json_t *messages = messages_for(x->w->req, x->w->history, chat_template_source(x->t), form);
        if (!messages || json_object_set_new(x->vars, "messages", messages))
            return err_no_memory(e, 0, "the template's messages");
        x->out->dropped = 0;
        enum err_code c = render_fitting(x, form ? &again : e);
        if (c != ERR_INVALID || !messages_have_calls(messages))
            return form && c ? first : c;
        first = c;
    }
    return first;
}

static enum err_code render_template(const struct prompt_want *w, const struct chat_template *t,
                                     struct prompt *out, struct err *e)
{
    enum err_code c = check_kwargs(w->req, e);
    if (c)
        return c;
    struct rendering x = { w, t, vars_of(w), out };
    c = x.vars ? render_any(&x, e) : err_no_memory(e, 0, "the template's variables");
    json_decref(x.vars);
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
    out->answer_at = out->text.n;
    return tokens_of(w, out, e);
}

/* A token of the vocabulary, then text in which none is parsed. */
static enum err_code put_part(const struct tokenizer *t, int32_t token, struct str text,
                              struct prompt *out, struct err *e)
{
    struct token_list *l = &out->tokens;
    struct str name = tokenizer_text(t, token);
    buf_put(&out->text, name.p, name.n);
    buf_put(&out->text, text.n ? text.p : "", text.n);
    if (!mem_grow(&l->id, &l->cap, l->n + 1, sizeof *l->id, SIZE_MAX / sizeof *l->id))
        return err_no_memory(e, sizeof *l->id, "tokens");
    l->id[l->n++] = token;
    return tokenizer_encode(t, text.n ? text : STR(""), false, false, l, e);
}

static enum err_code fill_in(const struct prompt_want *w, struct prompt *out, struct err *e)
{
    const struct gen_request *r = w->req;
    const struct tokenizer *t = words_tokenizer(w->words);
    if (!fills_in(t))
        return err_set(e, ERR_INVALID, "\"%.*s\" does not support insert", (int)r->model.n,
                       r->model.p);
    enum err_code c = add_context(r, &out->tokens, e);
    if (!c && !out->tokens.n) /* BOS, where the model adds one */
        c = encode(t, STR(""), NULL, &out->tokens, e);
    if (c || (c = put_part(t, tokenizer_fim(t, FIM_PREFIX), r->prompt, out, e)) ||
        (c = put_part(t, tokenizer_fim(t, FIM_SUFFIX), r->suffix, out, e)) ||
        (c = put_part(t, tokenizer_fim(t, FIM_MIDDLE), (struct str){ 0 }, out, e)))
        return c;
    out->answer_at = out->text.n;
    return out->text.failed ? err_set(e, ERR_TOO_LARGE, "the prompt's text is over %zu bytes", MAX_TEXT)
                            : ERR_OK;
}

/* The same by a template that has a place for the suffix. */
static enum err_code fill_in_template(const struct prompt_want *w, const struct chat_template *t,
                                      struct prompt *out, struct err *e)
{
    const struct gen_request *r = w->req;
    json_t *vars = vars_of(w);
    bool ok = vars && !json_object_set_new(vars, "prompt", string_of(r->prompt)) &&
              !json_object_set_new(vars, "suffix", string_of(r->suffix));
    enum err_code c = ok ? chat_template_render(t, vars, w->now_s, &out->text, &out->content, e)
                         : err_no_memory(e, r->suffix.n, "the template's variables");
    json_decref(vars);
    out->answer_at = out->text.n;
    return c ? c : tokens_of(w, out, e);
}

/* By a template, or without one. */
static enum err_code make_by(const struct prompt_want *w, const struct chat_template *t,
                             struct prompt *out, struct err *e)
{
    const struct gen_request *r = w->req;
    if (r->suffix.n)
        return t && chat_template_fills_in(t) ? fill_in_template(w, t, out, e) : fill_in(w, out, e);
    if (!t && !r->raw && words_no_template(w->words)->code)
        return err_set(e, ERR_UNSUPPORTED, "the template of \"%.*s\" cannot be used: %s",
                       (int)r->model.n, r->model.p, words_no_template(w->words)->text);
    if (!t && r->messages)
        return err_set(e, ERR_INVALID, "\"%.*s\" does not support chat: its file has no template",
                       (int)r->model.n, r->model.p);
    return t ? render_template(w, t, out, e) : plain(w, out, e);
}

static enum err_code make(const struct prompt_want *w, struct prompt *out, struct err *e)
{
    const struct gen_request *r = w->req;
    struct chat_template *own = NULL;
    enum err_code c = ERR_OK;
    if (r->template.n && !r->raw)
        c = chat_template_create(r->template, "template", &own, e);
    if (!c && (r->raw || r->suffix.n))
        c = output_format_create(NULL, NULL, &out->own_format, e);
    else if (!c && own)
        c = output_format_create(own, words_tokenizer(w->words), &out->own_format, e);
    if (!c)
        c = make_by(w, r->raw ? NULL : own ? own : w->template, out, e);
    chat_template_destroy(own);
    return c;
}

/* GGUF holds more than models; general.type tells. */
static const struct {
    const char *type, *says;
} no_models[] = {
    { "adapter", "it is a LoRA adapter: a Modelfile takes it with ADAPTER, beside FROM and the model it was made for" },
    { "imatrix", "it is an importance matrix, which tools that quantise read" },
    { "mmproj", "it is a projector (of images or sound), which goes beside a model and gives no answers" },
};

const char *prompt_no_model(const struct words *w)
{
    struct str type = strcmp(words_header(w)->arch, "clip") == 0 ? STR("mmproj") : words_text(w, "general.type");
    for (size_t i = 0; i < sizeof no_models / sizeof *no_models; i++)
        if (str_is(type, no_models[i].type))
            return no_models[i].says;
    return NULL;
}

enum err_code prompt_no_tokenizer(const struct words *w, struct err *e)
{
    const struct err *why = words_no_tokenizer(w);
    if (prompt_no_model(w))
        return err_set(e, ERR_UNSUPPORTED, "this file is no model by itself: %s", prompt_no_model(w));
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
    return ERR_OK;
}
