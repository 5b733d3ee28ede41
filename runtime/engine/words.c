/* A file's words: header, metadata, tokenizer and template, without its weights. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"
#include "runtime/engine/words_priv.h"
#include "runtime/model/hparams.h"
#include "runtime/model/weights.h"
#include "runtime/text/family_template.h"

struct words {
    struct gguf *g;
    struct tokenizer *tokenizer;
    int32_t *eog;
    size_t n_eog;
    struct chat_template *template;
    const struct family_template *family; /* the template's, where the file has none */
    struct err no_tokenizer, no_template; /* why not, when the file has one that is not for us */
    struct model_header header;
};

/* ---- the header ---------------------------------------------------------------------------- */

static void copy_text(char *to, size_t cap, struct str s)
{
    size_t n = s.n < cap ? s.n : cap - 1;
    n = utf8_complete(s.p, n);
    memcpy(to, s.p, n);
    to[n] = '\0';
}

/* The type that most weights have. */
static const char *main_type(const struct gguf *g)
{
    const struct gguf_tensor *best = NULL;
    uint64_t most = 0;
    for (size_t i = 0; i < tensor_type_count(); i++) {
        uint64_t sum = 0;
        const struct gguf_tensor *one = NULL;
        for (size_t k = 0; k < gguf_n_tensors(g); k++)
            if (gguf_tensor_at(g, k)->type == tensor_type_at(i)) {
                one = gguf_tensor_at(g, k);
                sum += one->n_elements;
            }
        if (sum > most) {
            most = sum;
            best = one;
        }
    }
    return best ? best->type->name : "";
}

static enum err_code read_file_type(const struct gguf *g, struct model_header *h, struct err *e)
{
    uint32_t id = UINT32_MAX;
    enum err_code code = gguf_u32(g, "general.file_type", &id, e);
    const char *name = id == UINT32_MAX ? NULL : file_type_name(id);
    copy_text(h->file_type, sizeof h->file_type, str_from(name ? name : main_type(g)));
    return code;
}

static enum err_code read_sizes(const struct gguf *g, struct model_header *h, struct err *e)
{
    const struct {
        const char *key;
        uint32_t *to;
    } rows[] = {
        { "{arch}.vocab_size", &h->n_vocab },
        { "{arch}.context_length", &h->n_ctx_train },
        { "{arch}.embedding_length", &h->n_embd },
        { "{arch}.block_count", &h->n_layer },
    };
    enum err_code code = ERR_OK;
    const struct gguf_value *tokens = gguf_find(g, "tokenizer.ggml.tokens");
    if (tokens && tokens->is_array && tokens->n <= UINT32_MAX)
        h->n_vocab = (uint32_t)tokens->n;
    for (size_t i = 0; !code && i < sizeof rows / sizeof rows[0]; i++)
        code = gguf_u32(g, rows[i].key, rows[i].to, e);
    return code;
}

static void count_tensors(const struct gguf *g, struct model_header *h)
{
    h->n_tensors = (uint32_t)gguf_n_tensors(g);
    h->tensor_bytes = gguf_tensor_bytes(g);
    h->has_weights = h->n_tensors > 0;
    for (size_t i = 0; i < gguf_n_tensors(g); i++)
        h->n_params += gguf_tensor_at(g, i)->n_elements;
}

/* Whether this build can run the file, from the header alone: what a load would say, it says. */
static enum err_code judge(const struct words *w, struct model_header *h, struct err *e)
{
    struct err why = { 0 };
    struct weights weights = { 0 };
    struct hparams *hp = mem_zero(1, sizeof *hp);
    if (!hp)
        return err_no_memory(e, sizeof *hp, "a file's header");
    enum err_code code = ERR_OK;
    if (!h->has_weights)
        code = err_set(&why, ERR_UNSUPPORTED, "the file has no weights");
    if (!code)
        code = hparams_read(w->g, hp, &why);
    if (!code)
        code = weights_bind(w->g, hp, &weights, &why);
    if (!code && !w->tokenizer) {
        code = ERR_UNSUPPORTED;
        if (w->no_tokenizer.code)
            why = w->no_tokenizer;
        else
            err_set(&why, code, "the file has no tokenizer");
    }
    h->runnable = code == ERR_OK;
    copy_text(h->why, sizeof h->why, str_from(why.text));
    weights_finish(&weights);
    mem_free(hp);
    if (code == ERR_NO_MEMORY && e)
        *e = why;
    return code == ERR_NO_MEMORY ? code : ERR_OK;
}

static enum err_code read_header(struct words *w, struct err *e)
{
    struct model_header *h = &w->header;
    struct str arch = STR(""), name = STR("");
    enum err_code code;
    if ((code = gguf_str(w->g, "general.architecture", &arch, e)) ||
        (code = gguf_str(w->g, "general.name", &name, e)) ||
        (code = read_file_type(w->g, h, e)) || (code = read_sizes(w->g, h, e)))
        return code;
    copy_text(h->arch, sizeof h->arch, arch);
    copy_text(h->name, sizeof h->name, name);
    count_tensors(w->g, h);
    return judge(w, h, e);
}

/* ---- loading ------------------------------------------------------------------------------- */

static enum err_code use_family(struct words *w, struct err *e)
{
    w->family = w->tokenizer ? family_template_of(w->tokenizer) : NULL;
    return w->family ? chat_template_create(str_from(w->family->source), w->family->name,
                                            &w->template, e)
                     : ERR_OK;
}

static enum err_code read_template(struct words *w, struct err *e)
{
    static const char key[] = "tokenizer.chat_template";
    struct str source = STR("");
    enum err_code code = gguf_str(w->g, key, &source, e);
    if (code)
        return code;
    if (source.n == 0)
        return use_family(w, e);
    code = chat_template_create(source, key, &w->template, &w->no_template);
    if (code == ERR_NO_MEMORY && e)
        *e = w->no_template;
    return code == ERR_NO_MEMORY ? code : ERR_OK;
}

static enum err_code read_tokenizer(struct words *w, struct err *e)
{
    enum err_code code = words_read_tokenizer(w->g, &w->tokenizer, &w->no_tokenizer);
    if (code == ERR_OK || code == ERR_UNSUPPORTED)
        return ERR_OK;
    if (e)
        *e = w->no_tokenizer;
    return code;
}

static enum err_code list_eog(struct words *w, struct err *e)
{
    size_t n = w->tokenizer ? tokenizer_n_tokens(w->tokenizer) : 0, cap = 0;
    for (size_t i = 0; i < n; i++) {
        if (!tokenizer_is_eog(w->tokenizer, (int32_t)i))
            continue;
        if (!mem_grow(&w->eog, &cap, w->n_eog + 1, sizeof *w->eog, n))
            return err_no_memory(e, sizeof *w->eog, "end-of-generation tokens");
        w->eog[w->n_eog++] = (int32_t)i;
    }
    return ERR_OK;
}

enum err_code words_load(const char *path, struct words **out, struct err *e)
{
    *out = NULL;
    struct words *w = mem_zero(1, sizeof *w);
    if (!w)
        return err_no_memory(e, sizeof *w, path);
    enum err_code code = gguf_open(path, &w->g, e);
    if (code)
        goto out;
    if ((code = read_tokenizer(w, e)) || (code = list_eog(w, e)) || (code = read_template(w, e)) ||
        (code = read_header(w, e))) {
        err_prefix(e, "%s", path);
        goto out;
    }
    *out = w;
    w = NULL;
out:
    words_destroy(w);
    return code;
}

void words_destroy(struct words *w)
{
    if (!w)
        return;
    chat_template_destroy(w->template);
    tokenizer_destroy(w->tokenizer);
    mem_free(w->eog);
    gguf_close(w->g);
    mem_free(w);
}

const struct tokenizer *words_tokenizer(const struct words *w)
{
    return w->tokenizer;
}

const int32_t *words_eog(const struct words *w, size_t *n)
{
    *n = w->n_eog;
    return w->eog;
}

const struct chat_template *words_template(const struct words *w)
{
    return w->template;
}

const char *words_template_family(const struct words *w)
{
    return w->family ? w->family->name : NULL;
}

const struct err *words_no_tokenizer(const struct words *w)
{
    return &w->no_tokenizer;
}

const struct err *words_no_template(const struct words *w)
{
    return &w->no_template;
}

const struct model_header *words_header(const struct words *w)
{
    return &w->header;
}

/* ---- as JSON ------------------------------------------------------------------------------- */

static void put_number(struct json_out *j, const struct gguf_value *v, uint64_t i)
{
    int64_t n;
    double d;
    if (v->type == GGUF_U64 && !gguf_at_i64(v, i, &n)) {
        uint64_t u;
        memcpy(&u, v->p + 8 * i, sizeof u);
        json_uint_value(j, u);
    } else if (gguf_at_i64(v, i, &n)) {
        if (v->type == GGUF_BOOL)
            json_bool_value(j, n != 0);
        else
            json_int_value(j, n);
    } else if (gguf_at_f64(v, i, &d) && v->type == GGUF_F32) {
        /* the shortest text that reads back as this float */
        char text[32];
        int digits = 6;
        do
            snprintf(text, sizeof text, "%.*g", digits, d);
        while (strtof(text, NULL) != (float)d && ++digits <= 9);
        json_num_value(j, strtod(text, NULL));
    } else {
        json_num_value(j, d);
    }
}

static void put_array(struct json_out *j, const struct gguf_value *v)
{
    struct gguf_strings at = gguf_strings(v);
    struct str s;
    json_arr(j);
    if (v->type == GGUF_STRING)
        while (gguf_next_str(&at, &s))
            json_str_value(j, s);
    else
        for (uint64_t i = 0; i < v->n; i++)
            put_number(j, v, i);
    json_arr_end(j);
}

static void put_value(struct json_out *j, const struct gguf_value *v, size_t max_array)
{
    if (v->is_array && v->n > max_array)
        json_null_value(j);
    else if (v->is_array)
        put_array(j, v);
    else if (v->type == GGUF_STRING)
        json_str_value(j, (struct str){ (const char *)v->p, (size_t)v->n });
    else
        put_number(j, v, 0);
}

static enum err_code put_failed(const struct buf *b, struct err *e)
{
    return b->failed ? err_no_memory(e, b->n, "a file's metadata as JSON") : ERR_OK;
}

struct str words_text(const struct words *w, const char *key)
{
    const struct gguf_value *v = gguf_find(w->g, key);
    bool text = v && v->type == GGUF_STRING && !v->is_array;
    return text ? (struct str){ (const char *)v->p, (size_t)v->n } : (struct str){ 0 };
}

enum err_code words_metadata(const struct words *w, size_t max_array, struct buf *json,
                             struct err *e)
{
    struct json_out j;
    struct buf key;
    buf_init(&key, GGUF_MAX_KEY_BYTES);
    json_begin(&j, json);
    json_obj(&j);
    for (size_t i = 0; i < gguf_n_keys(w->g); i++) {
        const struct gguf_value *v = gguf_key_at(w->g, i);
        if (str_is(v->key, "tokenizer.chat_template"))
            continue;
        buf_clear(&key);
        buf_put(&key, v->key.p, v->key.n);
        json->failed = json->failed || key.failed;
        json_key(&j, key.failed ? "" : key.p);
        put_value(&j, v, max_array);
    }
    if (!gguf_find(w->g, "general.parameter_count")) {
        json_key(&j, "general.parameter_count");
        json_uint_value(&j, words_header(w)->n_params);
    }
    json_obj_end(&j);
    buf_finish(&key);
    return put_failed(json, e);
}

enum err_code words_tensors(const struct words *w, struct buf *json, struct err *e)
{
    struct json_out j;
    json_begin(&j, json);
    json_arr(&j);
    for (size_t i = 0; i < gguf_n_tensors(w->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(w->g, i);
        json_obj(&j);
        json_key(&j, "name");
        json_str_value(&j, t->name);
        json_kstr(&j, "type", t->type ? t->type->name : "unknown");
        json_key(&j, "shape");
        json_arr(&j);
        for (uint32_t d = 0; d < t->n_dims; d++)
            json_uint_value(&j, t->shape[d]);
        json_arr_end(&j);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    return put_failed(json, e);
}
