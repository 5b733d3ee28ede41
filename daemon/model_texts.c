#include "daemon/model_texts.h"

#include <string.h>

#include "runtime/base/json.h"
#include "store/commit.h"
#include "store/modelfile.h"

static enum err_code read_tree(struct store *s, const struct store_model *m, enum media_kind kind, bool array,
                               struct arena *a, json_t **out, struct err *e)
{
    struct str text = { 0 };
    json_t *tree = NULL;
    enum err_code c = store_layer_text(s, m, kind, 0, a, &text, e);
    if (c || !text.n)
        return c;
    c = json_read(text, MEDIA_TEXT_MAX, media_kind_name(kind), &tree, e);
    if (!c && !(array ? json_is_array(tree) : json_is_object(tree))) {
        json_decref(tree);
        c = err_set(e, ERR_FORMAT, "the layer is no JSON %s", array ? "array" : "object");
    }
    if (c)
        return err_prefix(e, "the %s of '%s'", media_kind_name(kind), m->name);
    *out = tree;
    return ERR_OK;
}

static enum err_code check_messages(const struct model_texts *t, const struct store_model *m, struct err *e)
{
    for (size_t i = 0; i < json_array_size(t->messages); i++)
        if (!json_is_string(json_object_get(json_array_get(t->messages, i), "role")))
            return err_set(e, ERR_FORMAT, "the messages of '%s': number %zu has no role", m->name, i + 1);
    return ERR_OK;
}

/* What other programs are told by the model's config. */
static const struct {
    enum modelfile_kind kind;
    const char *key;
    size_t offset; /* of a struct str in struct model_texts */
} config_rows[] = {
    { MODELFILE_RENDERER, "renderer", offsetof(struct model_texts, renderer) },
    { MODELFILE_PARSER, "parser", offsetof(struct model_texts, parser) },
    { MODELFILE_REQUIRES, "requires", offsetof(struct model_texts, requires) },
};
#define N_CONFIG_ROWS (sizeof config_rows / sizeof *config_rows)

/* A config that cannot be read has no word in it for us. */
static enum err_code read_config(const struct store_model *m, struct model_texts *t, struct err *e)
{
    json_t *config = NULL;
    enum err_code c = ERR_OK;
    if (!m->config || json_read(str_from(m->config), MEDIA_TEXT_MAX, "a model's config", &config, NULL))
        return ERR_OK;
    for (size_t i = 0; !c && i < N_CONFIG_ROWS; i++) {
        const json_t *v = json_object_get(config, config_rows[i].key);
        struct str *s = (void *)((char *)t + config_rows[i].offset);
        s->n = json_string_length(v);
        s->p = s->n ? arena_strndup(&t->arena, json_string_value(v), s->n) : NULL;
        if (s->n && !s->p)
            c = err_no_memory(e, s->n, "a model's config");
    }
    json_decref(config);
    return c;
}

enum err_code model_texts_check_version(struct str requires, const char *name, struct err *e)
{
    if (!modelfile_version(requires) || !modelfile_version_newer(requires, STR(OLLAMA_SPOKEN)))
        return ERR_OK;
    return err_set(e, ERR_UNSUPPORTED, "'%.200s' requires Ollama's version %.*s, and this Hearth speaks that of %s: a newer one is needed",
                   name, (int)(requires.n < 60 ? requires.n : 60), requires.p, OLLAMA_SPOKEN);
}

static enum err_code read_all(struct store *s, const struct store_model *m, struct model_texts *t, struct err *e)
{
    enum err_code c;
    if ((c = read_config(m, t, e)) || (c = store_layer_text(s, m, MEDIA_TEMPLATE, 0, &t->arena, &t->template, e)) ||
        (c = store_layer_text(s, m, MEDIA_SYSTEM, 0, &t->arena, &t->system, e)) ||
        (c = read_tree(s, m, MEDIA_PARAMS, false, &t->arena, &t->params, e)) ||
        (c = read_tree(s, m, MEDIA_MESSAGES, true, &t->arena, &t->messages, e)) || (c = check_messages(t, m, e)))
        return c;
    c = gen_options_read(t->params, &t->options, e);
    if (c)
        return err_prefix(e, "the parameters of '%s'", m->name);
    for (size_t i = 0; i < m->n_files; i++)
        t->has_adapter |= m->files[i].kind == MEDIA_ADAPTER;
    return ERR_OK;
}

enum err_code model_texts_read(struct store *s, const struct store_model *m, struct model_texts *out,
                               struct err *e)
{
    *out = (struct model_texts){ 0 };
    enum err_code c = read_all(s, m, out, e);
    if (c)
        model_texts_finish(out);
    return c;
}

void model_texts_finish(struct model_texts *t)
{
    json_decref(t->params);
    json_decref(t->messages);
    arena_finish(&t->arena);
    *t = (struct model_texts){ 0 };
}

void model_texts_apply(const struct model_texts *t, struct gen_request *r)
{
    if (t->options.given) {
        struct gen_options both = t->options;
        gen_options_merge(&both, &r->options);
        r->options = both;
    }
    if (!r->system.n && !r->raw && !r->suffix.n)
        r->system = t->system;
}

const json_t *model_texts_history(const struct model_texts *t, const struct gen_request *r)
{
    return r->raw || r->suffix.n || json_array_size(r->context) ? NULL : t->messages;
}

/* ---- for people ------------------------------------------------------------------------------------ */

static void put_parameter(struct buf *out, const char *name, const json_t *v)
{
    struct json_out j;
    buf_printf(out, "%s%-30s ", out->n ? "\n" : "", name);
    json_begin(&j, out);
    json_tree_value(&j, v);
}

void model_texts_parameters(const struct model_texts *t, struct buf *out)
{
    const char *name;
    json_t *v;
    json_object_foreach (t->params, name, v) {
        if (!json_is_array(v))
            put_parameter(out, name, v);
        for (size_t i = 0; i < json_array_size(v); i++)
            put_parameter(out, name, json_array_get(v, i));
    }
}

static void put_command(struct buf *out, enum modelfile_kind kind, struct str name, struct str value)
{
    struct modelfile_command c = { .kind = kind, .name = name, .value = value };
    struct buf line;
    buf_init(&line, MEDIA_TEXT_MAX * 2);
    if (!modelfile_put(&line, &c))
        buf_puts(out, "# A Modelfile has no way to say this exactly:\n");
    buf_put(out, line.p ? line.p : "", line.n);
    out->failed |= line.failed;
    buf_finish(&line);
}

static void put_value(struct buf *out, const char *name, const json_t *v)
{
    struct json_out j;
    struct buf text;
    struct str s = { json_string_value(v), json_string_length(v) };
    buf_init(&text, MEDIA_TEXT_MAX);
    if (!json_is_string(v)) {
        json_begin(&j, &text);
        json_tree_value(&j, v);
        s = buf_str(&text);
    }
    put_command(out, MODELFILE_PARAMETER, str_from(name), s);
    out->failed |= text.failed;
    buf_finish(&text);
}

static void put_parameters(struct buf *out, const json_t *params)
{
    const char *name;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)params, name, v) {
        bool list = json_is_array(v);
        if (!list)
            put_value(out, name, v);
        for (size_t i = 0; list && i < json_array_size(v); i++)
            put_value(out, name, json_array_get(v, i));
    }
}

static void put_config(struct buf *out, const struct model_texts *t)
{
    for (size_t i = 0; i < N_CONFIG_ROWS; i++) {
        const struct str *s = (const void *)((const char *)t + config_rows[i].offset);
        if (s->n)
            put_command(out, config_rows[i].kind, (struct str){ 0 }, *s);
    }
}

void model_texts_modelfile(const struct model_texts *t, const struct store_model *m, struct str template,
                           const struct str *licenses, size_t n_licenses, struct buf *out)
{
    buf_printf(out, "# Modelfile of %s\n# To make a model of this one, put in the place of the next lines:\n# FROM %s\n\n",
               m->name, m->name);
    for (size_t i = 0; i < m->n_files; i++)
        put_command(out, m->files[i].kind == MEDIA_ADAPTER ? MODELFILE_ADAPTER : MODELFILE_FROM, (struct str){ 0 },
                    str_from(m->files[i].path));
    if (template.n)
        put_command(out, MODELFILE_TEMPLATE, (struct str){ 0 }, template);
    if (t->system.n)
        put_command(out, MODELFILE_SYSTEM, (struct str){ 0 }, t->system);
    put_parameters(out, t->params);
    put_config(out, t);
    for (size_t i = 0; i < n_licenses; i++)
        put_command(out, MODELFILE_LICENSE, (struct str){ 0 }, licenses[i]);
    for (size_t i = 0; i < json_array_size(t->messages); i++) {
        const json_t *x = json_array_get(t->messages, i), *role = json_object_get(x, "role"),
                     *content = json_object_get(x, "content");
        put_command(out, MODELFILE_MESSAGE, (struct str){ json_string_value(role), json_string_length(role) },
                    (struct str){ json_string_value(content), json_string_length(content) });
    }
}
