/* Requests: the fields of each kind (protocol_chat.c: messages, tools, format). */
#include "daemon/protocol.h"

#include <inttypes.h>
#include <string.h>

#include "daemon/protocol_priv.h"

static const char *const paths[] = {
    [GEN_GENERATE] = "/api/generate",     [GEN_CHAT] = "/api/chat",
    [GEN_TOKENIZE] = "/api/tokenize",     [GEN_DETOKENIZE] = "/api/detokenize",
    [GEN_RENDER] = "/api/render",         [GEN_SCORE] = "/api/score",
};
static const char *const think_names[] = {
    [THINK_LOW] = "low",
    [THINK_MEDIUM] = "medium",
    [THINK_HIGH] = "high",
    [THINK_MAX] = "max",
};

const char *gen_request_path(enum gen_kind kind)
{
    return paths[kind];
}

void gen_request_init(struct gen_request *r, enum gen_kind kind)
{
    *r = (struct gen_request){
        .kind = kind,
        .stream = true,
        .n = 1,
        .truncate = true,
        .shift = true,
        .add_generation_prompt = true,
        .parse_special = true,
    };
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* {"model": ...}, or "name" as older clients have it. */
static enum err_code read_any_model(const json_t *root, struct str *model, struct err *e)
{
    if (read_string(root, "name", model, e) || read_string(root, "model", model, e))
        return ERR_INVALID;
    if (model->n && memchr(model->p, 0, model->n))
        return err_set(e, ERR_INVALID, "the model's name holds a NUL character");
    return ERR_OK;
}

static enum err_code read_model(const json_t *root, struct str *model, struct err *e)
{
    enum err_code c = read_any_model(root, model, e);
    return c || model->n ? c : err_set(e, ERR_INVALID, "model is required");
}

static enum err_code read_keep_alive(const json_t *root, struct gen_request *r, struct err *e)
{
    const json_t *v = member(root, "keep_alive");
    if (!v)
        return ERR_OK;
    r->has_keep_alive = true;
    if (json_is_number(v)) {
        double s = json_number_value(v);
        r->keep_alive_ns = s < 0 ? KEEP_ALIVE_FOREVER : s > 9e9 ? INT64_MAX : (int64_t)(s * 1e9);
        return ERR_OK;
    }
    if (!json_is_string(v))
        return err_set(e, ERR_INVALID, "\"keep_alive\" must be seconds or a duration like \"5m\"");
    if (!duration_read(json_slice(v), false, &r->keep_alive_ns))
        return err_set(e, ERR_INVALID, "\"keep_alive\": \"%.60s\" is not a duration like \"5m\"",
                       json_string_value(v));
    if (r->keep_alive_ns < 0)
        r->keep_alive_ns = KEEP_ALIVE_FOREVER;
    return ERR_OK;
}

static enum err_code read_think(const json_t *root, struct gen_request *r, struct err *e)
{
    const json_t *v = member(root, "think");
    if (!v)
        return ERR_OK;
    if (json_is_boolean(v)) {
        r->think = json_is_true(v) ? THINK_ON : THINK_OFF;
        return ERR_OK;
    }
    for (enum think t = THINK_LOW; t <= THINK_MAX; t++)
        if (json_is_string(v) && str_is(json_slice(v), think_names[t])) {
            r->think = t;
            return ERR_OK;
        }
    return err_set(e, ERR_INVALID,
                   "\"think\" must be true, false, \"high\", \"medium\", \"low\" or \"max\"");
}

static enum err_code read_id_array(const json_t *root, const char *key, const json_t **out,
                                   struct err *e)
{
    if (read_array(root, key, out, e))
        return ERR_INVALID;
    for (size_t i = 0; i < json_array_size(*out); i++) {
        int64_t id;
        if (!integer_of(json_array_get(*out, i), &id) || id < 0 || id > INT32_MAX)
            return err_set(e, ERR_INVALID, "\"%s\"[%zu] is not a token id", key, i);
    }
    return ERR_OK;
}

static enum err_code read_logprobs(const json_t *root, struct gen_request *r, struct err *e)
{
    int64_t top = 0;
    if (read_bool(root, "logprobs", &r->logprobs, e))
        return ERR_INVALID;
    if (read_int(root, "top_logprobs", INT64_MIN, INT64_MAX, &top, e))
        return ERR_INVALID;
    if (top < 0 || top > PROTOCOL_MAX_TOP_LOGPROBS)
        return err_set(e, ERR_INVALID, "top_logprobs must be between 0 and %d",
                       PROTOCOL_MAX_TOP_LOGPROBS);
    r->top_logprobs = (uint32_t)top;
    return ERR_OK;
}

/* What generate and chat have in common. */
static enum err_code read_running(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c;
    int64_t n = 1;
    if ((c = read_bool(root, "stream", &r->stream, e)) ||
        (c = read_int(root, "n", 1, PROTOCOL_MAX_CHOICES, &n, e)) ||
        (c = read_bool(root, "truncate", &r->truncate, e)) ||
        (c = read_bool(root, "shift", &r->shift, e)) || (c = read_keep_alive(root, r, e)) ||
        (c = read_format(root, r, e)) || (c = read_logprobs(root, r, e)))
        return c;
    r->n = (uint32_t)n;
    return gen_options_read(json_object_get(root, "options"), &r->options, e);
}

/* What turns a request into prompt text. */
static enum err_code read_prompting(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c;
    r->has_prompt = member(root, "prompt") != NULL;
    if ((c = read_string(root, "prompt", &r->prompt, e)) ||
        (c = read_string(root, "suffix", &r->suffix, e)) ||
        (c = read_string(root, "system", &r->system, e)) ||
        (c = read_string(root, "template", &r->template, e)) ||
        (c = read_bool(root, "raw", &r->raw, e)) || (c = read_think(root, r, e)) ||
        (c = read_object(root, "chat_template_kwargs", &r->template_kwargs, e)) ||
        (c = read_conversation(root, r, e)))
        return c;
    const json_t *images;
    if (read_array(root, "images", &images, e))
        return ERR_INVALID;
    r->n_images += json_array_size(images);
    return ERR_OK;
}

static enum err_code read_generate(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c;
    if ((c = read_prompting(root, r, e)) || (c = read_running(root, r, e)) ||
        (c = read_bool(root, "echo", &r->echo, e)) ||
        (c = read_id_array(root, "context", &r->context, e)))
        return c;
    if (r->raw && (r->template.n || r->system.n || json_array_size(r->context)))
        return err_set(e, ERR_INVALID,
                       "raw mode does not support template, system, or context");
    return ERR_OK;
}

static enum err_code read_chat(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c = read_prompting(root, r, e);
    return c ? c : read_running(root, r, e);
}

static enum err_code read_render(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c;
    r->has_generation_prompt = member(root, "add_generation_prompt") != NULL;
    if ((c = read_prompting(root, r, e)) ||
        (c = read_bool(root, "add_generation_prompt", &r->add_generation_prompt, e)))
        return c;
    if (r->has_prompt == (r->messages != NULL))
        return err_set(e, ERR_INVALID, "give either \"messages\" or \"prompt\"");
    return ERR_OK;
}

static enum err_code read_content(const json_t *root, struct gen_request *r, struct err *e)
{
    r->has_content = member(root, "content") != NULL;
    return read_string(root, "content", &r->content, e);
}

static enum err_code read_tokenize(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c;
    if ((c = read_content(root, r, e)) || (c = read_bool(root, "add_special", &r->add_special, e)) ||
        (c = read_bool(root, "parse_special", &r->parse_special, e)) ||
        (c = read_bool(root, "pieces", &r->pieces, e)) ||
        (c = read_bool(root, "with_pieces", &r->pieces, e)))
        return c;
    return r->has_content ? ERR_OK : err_set(e, ERR_INVALID, "content is required");
}

static enum err_code read_detokenize(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c = read_id_array(root, "tokens", &r->tokens, e);
    if (c)
        return c;
    return r->tokens ? ERR_OK : err_set(e, ERR_INVALID, "tokens is required");
}

static enum err_code read_score(const json_t *root, struct gen_request *r, struct err *e)
{
    enum err_code c;
    int64_t window = 0;
    if ((c = read_content(root, r, e)) || (c = read_id_array(root, "tokens", &r->tokens, e)) ||
        (c = read_int(root, "window", 0, INT32_MAX, &window, e)) ||
        (c = read_keep_alive(root, r, e)) ||
        (c = gen_options_read(json_object_get(root, "options"), &r->options, e)))
        return c;
    r->window = (uint32_t)window;
    if (window == 1)
        return err_set(e, ERR_INVALID, "\"window\" must be 0 or at least 2");
    if (r->has_content == (r->tokens != NULL))
        return err_set(e, ERR_INVALID, "give either \"content\" or \"tokens\"");
    return ERR_OK;
}

enum err_code gen_request_read(enum gen_kind kind, json_t *root, struct gen_request *r,
                               struct err *e)
{
    static enum err_code (*const readers[])(const json_t *, struct gen_request *, struct err *) = {
        [GEN_GENERATE] = read_generate,     [GEN_CHAT] = read_chat,
        [GEN_TOKENIZE] = read_tokenize,     [GEN_DETOKENIZE] = read_detokenize,
        [GEN_RENDER] = read_render,         [GEN_SCORE] = read_score,
    };
    gen_request_init(r, kind);
    r->root = root;
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    enum err_code c = read_model(root, &r->model, e);
    return c ? c : readers[kind](root, r, e);
}

void gen_request_finish(struct gen_request *r)
{
    json_decref(r->root);
    *r = (struct gen_request){ 0 };
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void put_tree(struct json_out *j, const char *key, const json_t *v)
{
    if (v) {
        json_key(j, key);
        json_tree_value(j, v);
    }
}

static void put_bool_unless(struct json_out *j, const char *key, bool v, bool usual)
{
    if (v != usual)
        json_kbool(j, key, v);
}

static void put_think(struct json_out *j, enum think t)
{
    if (t == THINK_ON || t == THINK_OFF)
        json_kbool(j, "think", t == THINK_ON);
    else if (t != THINK_UNSET)
        json_kstr(j, "think", think_names[t]);
}

static void put_keep_alive(struct json_out *j, const struct gen_request *r)
{
    if (!r->has_keep_alive)
        return;
    json_key(j, "keep_alive");
    if (r->keep_alive_ns < 0)
        json_int_value(j, -1);
    else
        json_num_value(j, (double)r->keep_alive_ns / 1e9);
}

static void put_prompting(struct json_out *j, const struct gen_request *r)
{
    if (r->prompt.p || r->has_prompt)
        put_str(j, "prompt", r->prompt);
    put_str_if(j, "suffix", r->suffix);
    put_str_if(j, "system", r->system);
    put_str_if(j, "template", r->template);
    put_bool_unless(j, "raw", r->raw, false);
    put_tree(j, "context", r->context);
    put_tree(j, "messages", r->messages);
    put_tree(j, "tools", r->tools);
    put_tool_choice(j, r);
    put_tree(j, "chat_template_kwargs", r->template_kwargs);
    put_think(j, r->think);
    put_bool_unless(j, "add_generation_prompt", r->add_generation_prompt, !r->has_generation_prompt);
}

static void put_running(struct json_out *j, const struct gen_request *r)
{
    if (r->kind == GEN_GENERATE || r->kind == GEN_CHAT)
        json_kbool(j, "stream", r->stream);
    put_tree(j, "format", r->format);
    put_keep_alive(j, r);
    if (r->options.given) {
        json_key(j, "options");
        size_t at = j->b->n;
        gen_options_write(j->b, &r->options);
        j->comma = j->b->n > at;
    }
    put_bool_unless(j, "logprobs", r->logprobs, false);
    if (r->top_logprobs)
        json_kint(j, "top_logprobs", r->top_logprobs);
    put_bool_unless(j, "echo", r->echo, false);
    if (r->n > 1)
        json_kint(j, "n", r->n);
    put_bool_unless(j, "truncate", r->truncate, true);
    put_bool_unless(j, "shift", r->shift, true);
}

void gen_request_write(struct buf *out, const struct gen_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str(&j, "model", r->model);
    put_prompting(&j, r);
    put_running(&j, r);
    if (r->content.p || r->has_content)
        put_str(&j, "content", r->content);
    put_tree(&j, "tokens", r->tokens);
    put_bool_unless(&j, "add_special", r->add_special, false);
    put_bool_unless(&j, "parse_special", r->parse_special, true);
    put_bool_unless(&j, "pieces", r->pieces, false);
    if (r->window)
        json_kint(&j, "window", r->window);
    json_obj_end(&j);
}

/* ---- requests about models --------------------------------------------------------------------- */

static enum err_code read_path(const json_t *root, struct model_request *r, struct err *e)
{
    if (read_any_model(root, &r->model, e) || read_string(root, "path", &r->path, e) ||
        read_bool(root, "reference", &r->reference, e) || read_bool(root, "stream", &r->stream, e))
        return ERR_INVALID;
    if (r->path.n == 0 || memchr(r->path.p, 0, r->path.n) || *r->path.p != '/')
        return err_set(e, ERR_INVALID, "\"path\" must be an absolute path");
    return ERR_OK;
}

static enum err_code read_copy(const json_t *root, struct model_request *r, struct err *e)
{
    if (read_string(root, "source", &r->source, e) ||
        read_string(root, "destination", &r->destination, e))
        return ERR_INVALID;
    if (!r->source.n || !r->destination.n)
        return err_set(e, ERR_INVALID, "source and destination are required");
    if (memchr(r->source.p, 0, r->source.n) || memchr(r->destination.p, 0, r->destination.n))
        return err_set(e, ERR_INVALID, "a model's name holds a NUL character");
    return ERR_OK;
}

enum err_code model_request_read(enum model_request_kind kind, json_t *root,
                                 struct model_request *r, struct err *e)
{
    *r = (struct model_request){ .root = root };
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    switch (kind) {
    case REQUEST_COPY:
        return read_copy(root, r, e);
    case REQUEST_IMPORT:
        return read_path(root, r, e);
    case REQUEST_SHOW:
        if (read_bool(root, "verbose", &r->verbose, e) || read_string(root, "system", &r->system, e) ||
            read_string(root, "template", &r->template, e))
            return ERR_INVALID;
        break;
    case REQUEST_DELETE:
        break;
    }
    return read_model(root, &r->model, e);
}

void model_request_write(struct buf *out, enum model_request_kind kind,
                         const struct model_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    if (kind == REQUEST_COPY) {
        put_str(&j, "source", r->source);
        put_str(&j, "destination", r->destination);
    } else {
        put_str(&j, "model", r->model);
    }
    put_bool_unless(&j, "verbose", r->verbose, false);
    put_str_if(&j, "path", r->path);
    put_bool_unless(&j, "reference", r->reference, false);
    put_bool_unless(&j, "stream", r->stream, false);
    json_obj_end(&j);
}

void model_request_finish(struct model_request *r)
{
    json_decref(r->root);
    *r = (struct model_request){ 0 };
}
