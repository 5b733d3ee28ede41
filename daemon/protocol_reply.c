/* Replies. */
#include <math.h>
#include <string.h>

#include "daemon/protocol_priv.h"
#include "runtime/base/mem.h"

/* ---- errors, version -------------------------------------------------------------------------- */

void error_write(struct buf *out, const char *text)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "error", text);
    json_obj_end(&j);
}

enum err_code error_of_status(int status)
{
    for (enum err_code c = ERR_INVALID; c < ERR_COUNT; c++)
        if (c != ERR_USAGE && err_http_status(c) == status)
            return c;
    if (status >= 200 && status < 300)
        return ERR_OK;
    return status >= 400 && status < 500 ? ERR_INVALID : ERR_INTERNAL;
}

/* A line of a stream has no status of its own: ours says the code by name. */
static enum err_code code_named(const char *name, enum err_code otherwise)
{
    for (enum err_code c = ERR_INVALID; name && c < ERR_COUNT; c++)
        if (strcmp(err_name(c), name) == 0)
            return c;
    return otherwise;
}

enum err_code error_read(const json_t *root, int status, struct err *e)
{
    const json_t *v = member(root, "error");
    enum err_code code = error_of_status(status);
    if (code == ERR_OK)
        code = ERR_INTERNAL; /* an error line inside a stream: its status was 200 */
    code = code_named(json_string_value(member(root, "code")), code);
    if (json_is_object(v)) /* {"error": {"message": ...}} */
        v = member(v, "message");
    if (json_is_string(v))
        return err_set(e, code, "%s", json_string_value(v));
    return err_set(e, code, "the daemon answered with HTTP status %d", status);
}

void version_write(struct buf *out, const char *spoken, const char *hearth)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "version", spoken);
    json_kstr(&j, "hearth", hearth);
    json_obj_end(&j);
}

/* ---- generate and chat ------------------------------------------------------------------------- */

static void put_logprob(struct json_out *j, const struct gen_logprob *p)
{
    put_str(j, "token", p->token);
    json_knum(j, "logprob", p->logprob);
    json_key(j, "bytes");
    json_arr(j);
    for (size_t i = 0; i < p->token.n; i++)
        json_int_value(j, (unsigned char)p->token.p[i]);
    json_arr_end(j);
}

static void put_logprobs(struct json_out *j, const struct gen_logprobs *v, size_t n)
{
    json_key(j, "logprobs");
    json_arr(j);
    for (size_t i = 0; i < n; i++) {
        json_obj(j);
        put_logprob(j, &v[i].chosen);
        if (v[i].n_top) {
            json_key(j, "top_logprobs");
            json_arr(j);
            for (size_t k = 0; k < v[i].n_top; k++) {
                json_obj(j);
                put_logprob(j, &v[i].top[k]);
                json_obj_end(j);
            }
            json_arr_end(j);
        }
        json_obj_end(j);
    }
    json_arr_end(j);
}

struct metric {
    const char *name;
    size_t offset;
};
#define METRIC(field) { #field, offsetof(struct gen_metrics, field) }
/* In the order that Ollama writes them; ours behind. All are 64 bits wide. */
static const struct metric metrics[] = {
    METRIC(total_duration),       METRIC(load_duration), METRIC(prompt_eval_count),
    METRIC(prompt_eval_duration), METRIC(eval_count),    METRIC(eval_duration),
    METRIC(prompt_cached_count),  METRIC(queue_duration),
};
#define N_METRICS (sizeof metrics / sizeof *metrics)

static void put_metrics(struct json_out *j, const struct gen_metrics *m)
{
    for (size_t i = 0; i < N_METRICS; i++) {
        int64_t v;
        memcpy(&v, (const char *)m + metrics[i].offset, sizeof v);
        if (v)
            json_kint(j, metrics[i].name, v);
    }
}

static void put_tool_calls(struct json_out *j, const struct gen_tool_call *v, size_t n)
{
    if (!n)
        return;
    json_key(j, "tool_calls");
    json_arr(j);
    for (size_t i = 0; i < n; i++) {
        json_obj(j);
        put_str(j, "id", v[i].id);
        json_key(j, "function");
        json_obj(j);
        json_kint(j, "index", v[i].index);
        put_str(j, "name", v[i].name);
        json_key(j, "arguments");
        json_raw_value(j, v[i].arguments);
        json_obj_end(j);
        json_obj_end(j);
    }
    json_arr_end(j);
}

static void put_message(struct json_out *j, const struct gen_chunk *c)
{
    json_key(j, "message");
    json_obj(j);
    json_kstr(j, "role", "assistant");
    put_str(j, "content", c->text);
    put_str_if(j, "thinking", c->thinking);
    put_tool_calls(j, c->tool_calls, c->n_tool_calls);
    json_obj_end(j);
}

static void put_said(struct json_out *j, const struct gen_chunk *c)
{
    if (c->kind == GEN_CHAT) {
        put_message(j, c);
    } else {
        put_str(j, "response", c->text);
        put_str_if(j, "thinking", c->thinking);
    }
}

static void put_reason(struct json_out *j, const struct gen_chunk *c)
{
    put_str_if(j, "done_reason", c->done_reason);
    if (c->n_logprobs)
        put_logprobs(j, c->logprobs, c->n_logprobs);
}

static void put_choices(struct json_out *j, const struct gen_chunk *c, size_t n)
{
    json_key(j, "choices");
    json_arr(j);
    for (size_t i = 0; i < n; i++) {
        json_obj(j);
        json_kint(j, "index", c[i].index);
        put_said(j, &c[i]);
        put_reason(j, &c[i]);
        json_kint(j, "eval_count", (int64_t)c[i].metrics.eval_count);
        json_obj_end(j);
    }
    json_arr_end(j);
}

void gen_chunk_write(struct buf *out, const struct gen_chunk *c)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str(&j, "model", c->model);
    put_time(&j, "created_at", c->created_wall_ns);
    if (c->has_index)
        json_kint(&j, "index", c->index);
    put_said(&j, c);
    json_kbool(&j, "done", c->done);
    put_reason(&j, c);
    if (c->n_choices)
        put_choices(&j, c->choices, c->n_choices);
    if (c->context)
        put_tokens(&j, "context", c->context, c->n_context);
    if (c->has_metrics)
        put_metrics(&j, &c->metrics);
    if (c->dropped_messages)
        json_kint(&j, "truncated_messages", (int64_t)c->dropped_messages);
    json_obj_end(&j);
}

static enum err_code read_metrics(const json_t *line, struct gen_metrics *m, struct err *e)
{
    for (size_t i = 0; i < N_METRICS; i++) {
        int64_t v = 0;
        if (read_int(line, metrics[i].name, 0, INT64_MAX, &v, e))
            return ERR_INVALID;
        memcpy((char *)m + metrics[i].offset, &v, sizeof v);
    }
    return ERR_OK;
}

enum err_code gen_chunk_read(const json_t *line, struct gen_chunk *c, struct err *e)
{
    *c = (struct gen_chunk){ 0 };
    if (!json_is_object(line))
        return err_set(e, ERR_INVALID, "a line of the reply is not an object");
    if (member(line, "error")) {
        int64_t status = 0;
        read_int(line, "status", 0, 999, &status, NULL);
        return error_read(line, (int)status, e);
    }
    const json_t *message = member(line, "message");
    const json_t *text = message ? message : line;
    c->kind = message ? GEN_CHAT : GEN_GENERATE;
    uint64_t dropped = 0;
    int64_t index = 0;
    if (read_string(line, "model", &c->model, e) ||
        read_int(line, "index", 0, PROTOCOL_MAX_CHOICES - 1, &index, e) ||
        read_time(line, "created_at", &c->created_wall_ns, e) ||
        read_string(text, message ? "content" : "response", &c->text, e) ||
        read_string(text, "thinking", &c->thinking, e) || read_bool(line, "done", &c->done, e) ||
        read_string(line, "done_reason", &c->done_reason, e) ||
        read_uint(line, "truncated_messages", &dropped, e) || read_metrics(line, &c->metrics, e))
        return ERR_INVALID;
    c->dropped_messages = dropped;
    c->has_index = member(line, "index") != NULL;
    c->index = (uint32_t)index;
    c->has_metrics = member(line, "total_duration") != NULL;
    return ERR_OK;
}

/* ---- lists of models --------------------------------------------------------------------------- */

static void put_count_if(struct json_out *j, const char *key, uint64_t n)
{
    if (n) {
        json_key(j, key);
        json_uint_value(j, n);
    }
}

static void put_details(struct json_out *j, const struct model_details *d)
{
    json_key(j, "details");
    json_obj(j);
    put_str(j, "parent_model", d->parent_model);
    put_str(j, "format", d->format);
    put_str(j, "family", d->family);
    json_key(j, "families");
    json_arr(j);
    if (d->family.n)
        json_str_value(j, d->family);
    json_arr_end(j);
    put_str(j, "parameter_size", d->parameter_size);
    put_str(j, "quantization_level", d->quantization_level);
    put_count_if(j, "context_length", d->context_length);
    put_count_if(j, "embedding_length", d->embedding_length);
    json_obj_end(j);
}

/* "a,b" -> ["a", "b"]; absent when empty. */
static void put_words_if(struct json_out *j, const char *key, struct str list)
{
    if (!list.n)
        return;
    json_key(j, key);
    json_arr(j);
    for (const char *end = list.p + list.n; list.p < end;) {
        const char *comma = memchr(list.p, ',', (size_t)(end - list.p));
        json_str_value(j, (struct str){ list.p, (size_t)((comma ? comma : end) - list.p) });
        list.p = comma ? comma + 1 : end;
    }
    json_arr_end(j);
}

static void put_entry(struct json_out *j, enum model_list_kind kind, const struct model_entry *v)
{
    json_obj(j);
    put_str(j, "name", v->name);
    put_str(j, "model", v->name);
    if (kind == LIST_TAGS)
        put_time(j, "modified_at", v->modified_wall_ns);
    json_key(j, "size");
    json_uint_value(j, v->size);
    put_str(j, "digest", v->digest);
    put_details(j, &v->details);
    if (kind == LIST_PS) {
        put_time(j, "expires_at", v->expires_wall_ns);
        json_key(j, "size_vram");
        json_uint_value(j, v->size_vram);
        json_kint(j, "sessions", (int64_t)v->sessions);
        json_kint(j, "active", (int64_t)v->active);
        json_kbool(j, "reproducible", v->reproducible);
    }
    put_count_if(j, "context_length", v->context_length);
    if (kind == LIST_TAGS)
        put_count_if(j, "embedding_length", v->details.embedding_length);
    if (v->referenced)
        json_kbool(j, "referenced", true);
    put_str_if(j, "path", v->path);
    put_words_if(j, "capabilities", v->capabilities);
    put_str_if(j, "origin", v->origin);
    put_str_if(j, "source", v->source);
    put_str_if(j, "revision", v->revision);
    put_str_if(j, "license", v->license);
    json_obj_end(j);
}

void model_list_write(struct buf *out, enum model_list_kind kind, const struct model_entry *v,
                      size_t n, struct str transfers)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_key(&j, "models");
    json_arr(&j);
    for (size_t i = 0; i < n; i++)
        put_entry(&j, kind, &v[i]);
    json_arr_end(&j);
    if (transfers.n) {
        json_key(&j, "transfers");
        json_raw_value(&j, transfers);
    }
    json_obj_end(&j);
}

static enum err_code read_details(const json_t *o, struct model_details *d, struct err *e)
{
    const json_t *v;
    *d = (struct model_details){ 0 };
    if (read_object(o, "details", &v, e))
        return ERR_INVALID;
    if (v && (read_string(v, "parent_model", &d->parent_model, e) ||
              read_string(v, "format", &d->format, e) || read_string(v, "family", &d->family, e) ||
              read_string(v, "parameter_size", &d->parameter_size, e) ||
              read_string(v, "quantization_level", &d->quantization_level, e) ||
              read_uint(v, "context_length", &d->context_length, e) ||
              read_uint(v, "embedding_length", &d->embedding_length, e)))
        return ERR_INVALID;
    return ERR_OK;
}

static enum err_code read_entry(const json_t *o, enum model_list_kind kind, struct model_entry *v,
                                struct err *e)
{
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, "an entry of \"models\" is not an object");
    if (read_string(o, "model", &v->name, e) || read_string(o, "name", &v->name, e) ||
        read_string(o, "digest", &v->digest, e) || read_uint(o, "size", &v->size, e) ||
        read_details(o, &v->details, e) ||
        read_uint(o, "context_length", &v->context_length, e) ||
        read_bool(o, "referenced", &v->referenced, e) || read_string(o, "path", &v->path, e) ||
        read_string(o, "origin", &v->origin, e) || read_string(o, "source", &v->source, e) ||
        read_string(o, "revision", &v->revision, e))
        return ERR_INVALID;
    if (kind == LIST_TAGS)
        return read_time(o, "modified_at", &v->modified_wall_ns, e);
    if (read_time(o, "expires_at", &v->expires_wall_ns, e) ||
        read_uint(o, "size_vram", &v->size_vram, e) || read_uint(o, "sessions", &v->sessions, e) ||
        read_uint(o, "active", &v->active, e) || read_bool(o, "reproducible", &v->reproducible, e))
        return ERR_INVALID;
    return ERR_OK;
}

enum err_code model_list_read(const json_t *root, enum model_list_kind kind, struct model_entry **v,
                              size_t *n, struct err *e)
{
    const json_t *models;
    *v = NULL;
    *n = 0;
    if (read_array(root, "models", &models, e))
        return ERR_INVALID;
    size_t count = json_array_size(models);
    struct model_entry *list = mem_zero(count, sizeof *list);
    if (!list)
        return err_no_memory(e, count * sizeof *list, "the list of models");
    for (size_t i = 0; i < count; i++) {
        enum err_code c = read_entry(json_array_get(models, i), kind, &list[i], e);
        if (c) {
            mem_free(list);
            return c;
        }
    }
    *v = list;
    *n = count;
    return ERR_OK;
}

/* ---- show ----------------------------------------------------------------------------------------- */

static void put_raw_or_tree(struct json_out *j, const char *key, struct str raw, const json_t *tree,
                            bool always)
{
    if (!raw.n && !tree && !always)
        return;
    json_key(j, key);
    if (raw.n)
        json_raw_value(j, raw);
    else if (tree)
        json_tree_value(j, tree);
    else
        json_raw_value(j, STR("{}"));
}

void show_reply_write(struct buf *out, const struct show_reply *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str_if(&j, "license", r->license);
    put_str_if(&j, "modelfile", r->modelfile);
    put_str_if(&j, "parameters", r->parameters);
    put_str_if(&j, "template", r->template);
    put_str_if(&j, "template_family", r->template_family);
    put_str_if(&j, "system", r->system);
    put_str_if(&j, "renderer", r->renderer);
    put_str_if(&j, "parser", r->parser);
    put_str_if(&j, "requires", r->requires);
    if (json_array_size(r->messages)) {
        json_key(&j, "messages");
        json_tree_value(&j, r->messages);
    }
    put_details(&j, &r->details);
    put_raw_or_tree(&j, "model_info", r->model_info, r->model_info_tree, true);
    put_raw_or_tree(&j, "tensors", r->tensors, r->tensors_tree, false);
    json_key(&j, "capabilities");
    json_arr(&j);
    for (size_t i = 0; i < r->n_capabilities; i++)
        json_str_value(&j, r->capabilities[i]);
    json_arr_end(&j);
    put_time(&j, "modified_at", r->modified_wall_ns);
    put_str_if(&j, "digest", r->digest);
    put_count_if(&j, "size", r->size);
    put_str_if(&j, "path", r->path);
    put_str_if(&j, "origin", r->origin);
    put_str_if(&j, "source", r->source);
    put_str_if(&j, "revision", r->revision);
    json_obj_end(&j);
}

static enum err_code read_capabilities(const json_t *root, struct show_reply *r, struct err *e)
{
    const json_t *v;
    if (read_array(root, "capabilities", &v, e))
        return ERR_INVALID;
    const size_t max = sizeof r->capabilities / sizeof *r->capabilities;
    for (size_t i = 0; i < json_array_size(v) && r->n_capabilities < max; i++)
        if (json_is_string(json_array_get(v, i)))
            r->capabilities[r->n_capabilities++] = json_slice(json_array_get(v, i));
    return ERR_OK;
}

enum err_code show_reply_read(const json_t *root, struct show_reply *r, struct err *e)
{
    *r = (struct show_reply){ 0 };
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the reply to show is not an object");
    if (read_string(root, "license", &r->license, e) ||
        read_string(root, "modelfile", &r->modelfile, e) ||
        read_string(root, "parameters", &r->parameters, e) ||
        read_string(root, "template", &r->template, e) ||
        read_string(root, "template_family", &r->template_family, e) ||
        read_string(root, "renderer", &r->renderer, e) || read_string(root, "parser", &r->parser, e) ||
        read_string(root, "requires", &r->requires, e) ||
        read_string(root, "system", &r->system, e) || read_details(root, &r->details, e) ||
        read_object(root, "model_info", &r->model_info_tree, e) ||
        read_array(root, "tensors", &r->tensors_tree, e) || read_array(root, "messages", &r->messages, e) ||
        read_capabilities(root, r, e) ||
        read_time(root, "modified_at", &r->modified_wall_ns, e) ||
        read_string(root, "digest", &r->digest, e) || read_uint(root, "size", &r->size, e) ||
        read_string(root, "path", &r->path, e) || read_string(root, "origin", &r->origin, e) ||
        read_string(root, "source", &r->source, e) || read_string(root, "revision", &r->revision, e))
        return ERR_INVALID;
    return ERR_OK;
}

/* ---- tokens, scores ---------------------------------------------------------------------------- */

static void put_piece(struct json_out *j, struct str s)
{
    if (utf8_valid(s.p, s.n) == s.n) {
        json_str_value(j, s);
        return;
    }
    json_arr(j);
    for (size_t i = 0; i < s.n; i++)
        json_int_value(j, (unsigned char)s.p[i]);
    json_arr_end(j);
}

void tokens_write(struct buf *out, const struct tokens_reply *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_tokens(&j, "tokens", r->tokens, r->n);
    if (r->pieces) {
        json_key(&j, "pieces");
        json_arr(&j);
        for (size_t i = 0; i < r->n; i++)
            put_piece(&j, r->pieces[i]);
        json_arr_end(&j);
    }
    json_obj_end(&j);
}

enum err_code tokens_read(const json_t *root, const char *key, int32_t **v, size_t *n,
                          struct err *e)
{
    *v = NULL;
    *n = 0;
    const json_t *array;
    if (read_array(root, key, &array, e))
        return ERR_INVALID;
    size_t count = json_array_size(array);
    int32_t *id = mem_zero(count, sizeof *id);
    if (!id)
        return err_no_memory(e, count * sizeof *id, "token ids");
    for (size_t i = 0; i < count; i++) {
        int64_t x;
        if (!integer_of(json_array_get(array, i), &x) || x < 0 || x > INT32_MAX) {
            mem_free(id);
            return err_set(e, ERR_INVALID, "\"%s\"[%zu] is not a token id", key, i);
        }
        id[i] = (int32_t)x;
    }
    *v = id;
    *n = count;
    return ERR_OK;
}

void render_write(struct buf *out, struct str prompt, const int32_t *tokens, size_t n)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str(&j, "prompt", prompt);
    put_tokens(&j, "tokens", tokens, n);
    json_obj_end(&j);
}

void score_write(struct buf *out, const int32_t *tokens, const float *logprobs, size_t n)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_tokens(&j, "tokens", tokens, n);
    json_key(&j, "logprobs");
    json_arr(&j);
    for (size_t i = 0; i < n; i++)
        json_num_value(&j, (double)logprobs[i]);
    json_arr_end(&j);
    json_obj_end(&j);
}

enum err_code score_read(const json_t *root, struct score_reply *r, struct err *e)
{
    *r = (struct score_reply){ 0 };
    const json_t *logprobs;
    enum err_code c;
    if ((c = read_array(root, "logprobs", &logprobs, e)) ||
        (c = tokens_read(root, "tokens", &r->tokens, &r->n, e)))
        return c;
    r->logprobs = mem_zero(r->n, sizeof *r->logprobs);
    if (!r->logprobs) {
        c = err_no_memory(e, r->n * sizeof *r->logprobs, "log-probabilities");
    } else if (json_array_size(logprobs) != r->n) {
        c = err_set(e, ERR_INVALID, "a score has %zu tokens and %zu log-probabilities", r->n,
                    json_array_size(logprobs));
    } else {
        for (size_t i = 0; i < r->n; i++) {
            const json_t *v = json_array_get(logprobs, i);
            r->logprobs[i] = json_is_number(v) ? json_number_value(v) : (double)NAN;
        }
        return ERR_OK;
    }
    score_reply_finish(r);
    return c;
}

void score_reply_finish(struct score_reply *r)
{
    mem_free(r->tokens);
    mem_free(r->logprobs);
    *r = (struct score_reply){ 0 };
}
