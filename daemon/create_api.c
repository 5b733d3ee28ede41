/* POST /api/create: from a request to a call of the store (store/create.h), whose news goes to the client
 * as store_job.h has it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/body.h"
#include "daemon/daemon.h"
#include "daemon/model_texts.h"
#include "daemon/protocol_create.h"
#include "daemon/quantize.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/chat_template.h"
#include "store/create.h"
#include "store/modelfile.h"
#include "store/pull.h"

struct create {
    struct daemon *d;
    struct create_request req;
    struct arena arena;     /* names, paths and texts of what follows */
    struct store_create in;
    struct store_create_file *files;
    struct store_create_text *texts;
    json_t *config;
};

static void create_free(struct create *c)
{
    for (size_t i = 0; i < c->in.n_files; i++)
        if (!c->files[i].has_digest && c->files[i].fd >= 0)
            close(c->files[i].fd);
    json_decref(c->config);
    create_request_finish(&c->req);
    arena_finish(&c->arena);
    mem_free(c);
}

static enum err_code no_memory(struct err *e)
{
    return err_no_memory(e, 0, "creating a model");
}

static char *text_of(struct create *c, struct str s)
{
    return s.n ? arena_strndup(&c->arena, s.p, s.n) : NULL;
}

/* ---- files ------------------------------------------------------------------------------------------ */

/* Relative, without a way up: it names, and never leads anywhere. */
static bool is_plain_path(const char *p)
{
    if (!p[0] || p[0] == '/' || strlen(p) > 4096)
        return false;
    for (const char *part = p; part; part = strchr(part, '/')) {
        part += part[0] == '/';
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        part += n;
        if (!part[0])
            break;
    }
    return true;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* What is plainly something else is told so; anything else shows when it is looked into. */
static enum err_code check_format(const char *name, struct err *e)
{
    static const char *const others[] = { ".safetensors", ".bin", ".pth", ".pt", ".json", ".model", ".onnx" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (str_ends(str_from(name), str_from(others[i])))
            return err_set(e, ERR_UNSUPPORTED,
                           "'%s' is no GGUF file, and models are made of these alone: convert it first, for example "
                           "with llama.cpp's convert_hf_to_gguf.py", name);
    return ERR_OK;
}

static enum media_kind kind_of(const char *name, bool adapter)
{
    enum media_kind k = media_kind_of("application/octet-stream", base_of(name));
    return adapter ? MEDIA_ADAPTER : k == MEDIA_PROJECTOR ? MEDIA_PROJECTOR : MEDIA_MODEL;
}

static enum err_code add_blob(struct create *c, const char *name, const json_t *digest, bool adapter, struct err *e)
{
    struct store_create_file *f = &c->files[c->in.n_files];
    struct str text = { json_string_value(digest), json_string_length(digest) };
    if (!is_plain_path(name))
        return err_set(e, ERR_INVALID, "file path must be relative: '%.200s'", name);
    if (check_format(name, e))
        return ERR_UNSUPPORTED;
    *f = (struct store_create_file){ .kind = kind_of(name, adapter), .has_digest = true, .fd = -1 };
    if (!digest_parse(text, &f->digest))
        return err_set(e, ERR_INVALID, "invalid digest format of '%.200s': '%.100s'", name, text.p);
    f->name = arena_strndup(&c->arena, name, strlen(name));
    c->in.n_files++;
    return f->name ? ERR_OK : no_memory(e);
}

static enum err_code add_path(struct create *c, const char *path, bool adapter, struct err *e)
{
    struct store_create_file *f = &c->files[c->in.n_files];
    if (path[0] != '/')
        return err_set(e, ERR_INVALID, "'%.200s' is no absolute path", path);
    if (check_format(path, e))
        return ERR_UNSUPPORTED;
    *f = (struct store_create_file){ .kind = kind_of(path, adapter), .fd = -1 };
    f->path = arena_strndup(&c->arena, path, strlen(path));
    if (!f->path)
        return no_memory(e);
    f->name = base_of(f->path);
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    c->in.n_files++;
    if (f->fd >= 0)
        return ERR_OK;
    return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "opening '%s'", f->path);
}

static int by_name(const void *a, const void *b)
{
    const struct store_create_file *x = a, *y = b;
    if ((x->kind == MEDIA_ADAPTER) != (y->kind == MEDIA_ADAPTER))
        return x->kind == MEDIA_ADAPTER ? 1 : -1;
    return strcmp(x->name, y->name);
}

static enum err_code add_files(struct create *c, struct err *e)
{
    const struct create_request *r = &c->req;
    const json_t *objects[] = { r->files, r->adapters }, *lists[] = { r->paths, r->adapter_paths };
    size_t n = 0;
    enum err_code code = ERR_OK;
    for (int k = 0; k < 2; k++)
        n += json_object_size(objects[k]) + json_array_size(lists[k]);
    c->files = arena_zero(&c->arena, n + 1, sizeof *c->files);
    if (!c->files)
        return no_memory(e);
    for (int k = 0; k < 2; k++) {
        const char *name;
        json_t *v;
        json_object_foreach ((json_t *)(uintptr_t)objects[k], name, v)
            if (!code)
                code = add_blob(c, name, v, k == 1, e);
        for (size_t i = 0; !code && i < json_array_size(lists[k]); i++)
            code = add_path(c, json_string_value(json_array_get(lists[k], i)), k == 1, e);
    }
    qsort(c->files, c->in.n_files, sizeof *c->files, by_name);
    c->in.files = c->files;
    return code;
}

/* ---- texts ------------------------------------------------------------------------------------------ */

static enum err_code add_text(struct create *c, enum media_kind kind, struct str text, struct err *e)
{
    if (c->in.n_texts == CREATE_MAX_TEXTS)
        return err_set(e, ERR_INVALID, "a model has at most %d texts", CREATE_MAX_TEXTS);
    c->texts[c->in.n_texts++] = (struct store_create_text){ kind, text };
    return ERR_OK;
}

static enum err_code add_json(struct create *c, enum media_kind kind, const json_t *tree, struct err *e)
{
    struct json_out j;
    struct buf b;
    if (!json_object_size(tree) && !json_array_size(tree))
        return ERR_OK;
    buf_init(&b, MEDIA_TEXT_MAX);
    json_begin(&j, &b);
    json_tree_value(&j, tree);
    char *copy = b.failed ? NULL : arena_strndup(&c->arena, b.p, b.n);
    struct str text = { copy, b.n };
    buf_finish(&b);
    return copy ? add_text(c, kind, text, e)
                : err_set(e, ERR_TOO_LARGE, "the model's %s are too large", media_kind_name(kind));
}

static enum err_code check_template(struct str source, struct err *e)
{
    struct chat_template *t = NULL;
    enum err_code c = chat_template_create(source, "template", &t, e);
    chat_template_destroy(t);
    return c == ERR_OK || c == ERR_NO_MEMORY ? c : err_prefix(e, "template error");
}

static enum err_code add_texts(struct create *c, struct err *e)
{
    const struct create_request *r = &c->req;
    enum err_code code = ERR_OK;
    c->texts = arena_zero(&c->arena, CREATE_MAX_TEXTS, sizeof *c->texts);
    if (!c->texts)
        return no_memory(e);
    if (r->template.n && (code = check_template(r->template, e)))
        return code;
    if (r->template.n)
        code = add_text(c, MEDIA_TEMPLATE, r->template, e);
    if (!code && r->system.n)
        code = add_text(c, MEDIA_SYSTEM, r->system, e);
    if (!code && json_string_length(r->license))
        code = add_text(c, MEDIA_LICENSE, (struct str){ json_string_value(r->license), json_string_length(r->license) }, e);
    for (size_t i = 0; !code && i < json_array_size(r->license); i++) {
        const json_t *v = json_array_get(r->license, i);
        code = add_text(c, MEDIA_LICENSE, (struct str){ json_string_value(v), json_string_length(v) }, e);
    }
    if (!code)
        code = add_json(c, MEDIA_PARAMS, r->parameters, e);
    if (!code)
        code = add_json(c, MEDIA_MESSAGES, r->messages, e);
    c->in.texts = c->texts;
    return code;
}

/* ---- config ----------------------------------------------------------------------------------------- */

static bool set(json_t *o, const char *key, struct str s)
{
    return !s.n || json_object_set_new(o, key, json_stringn(s.p, s.n)) == 0;
}

static const struct {
    const char *info, *config;
    bool number;
} info_rows[] = {
    { "model_family", "model_family", false },     { "base_name", "base_name", false },
    { "quantization_level", "file_type", false },  { "parameter_size", "model_type", false },
    { "context_length", "context_length", true },  { "embedding_length", "embedding_length", true },
};

static enum err_code add_info(struct create *c, const json_t *info, struct err *e)
{
    const json_t *capabilities = json_object_get(info, "capabilities");
    bool ok = true;
    for (size_t i = 0; i < sizeof info_rows / sizeof *info_rows; i++) {
        json_t *v = json_object_get(info, info_rows[i].info);
        if (!v || json_is_null(v))
            continue;
        if (info_rows[i].number ? !json_is_integer(v) || json_integer_value(v) < 0 : !json_is_string(v))
            return err_set(e, ERR_INVALID, "info field \"%s\" must be a %s", info_rows[i].info,
                           info_rows[i].number ? "non-negative integer" : "string");
        ok = ok && json_object_set(c->config, info_rows[i].config, v) == 0;
    }
    json_t *family = json_object_get(info, "model_family"), *level = json_object_get(info, "quantization_level");
    if (json_string_length(family))
        ok = ok && json_object_set_new(c->config, "model_families", json_pack("[O]", family)) == 0;
    if (json_is_array(capabilities))
        ok = ok && json_object_set(c->config, "capabilities", (json_t *)(uintptr_t)capabilities) == 0;
    c->in.family = json_string_length(family) ? json_string_value(family) : NULL;
    c->in.quantization = json_string_length(level) ? json_string_value(level) : NULL;
    return ok ? ERR_OK : no_memory(e);
}

static enum err_code add_config(struct create *c, struct err *e)
{
    const struct create_request *r = &c->req;
    c->config = json_object();
    if (!c->config || !set(c->config, "renderer", r->renderer) || !set(c->config, "parser", r->parser) ||
        !set(c->config, "requires", r->requires))
        return no_memory(e);
    c->in.config = c->config;
    if (r->requires.n && !modelfile_version(r->requires))
        return err_set(e, ERR_INVALID, "\"requires\" must be a version such as 0.14.0");
    if (model_texts_check_version(r->requires, c->in.name, e))
        return ERR_UNSUPPORTED;
    return r->info ? add_info(c, r->info, e) : ERR_OK;
}

/* ---- the call --------------------------------------------------------------------------------------- */

static enum err_code check_asked(const struct create *c, struct err *e)
{
    const struct create_request *r = &c->req;
    bool files = json_object_size(r->files) || json_array_size(r->paths);
    if (r->remote_host.n)
        return err_set(e, ERR_UNSUPPORTED, "\"remote_host\": models run here, and nowhere else");
    if (r->drafts)
        return err_set(e, ERR_UNSUPPORTED, "\"draft_files\": models with a draft model are not run yet");
    if (!r->from.n && !files)
        return err_set(e, ERR_INVALID, "neither 'from' or 'files' was specified");
    if (r->from.n && files)
        return err_set(e, ERR_INVALID, "a model comes from another (\"from\") or from files: not from both");
    if (json_object_size(r->adapters) + json_array_size(r->adapter_paths) > 1)
        return err_set(e, ERR_INVALID, "only one adapter is currently supported");
    return ERR_OK;
}

static enum err_code fill(struct create *c, struct err *e)
{
    enum err_code code = check_asked(c, e);
    if (code)
        return code;
    c->in.name = text_of(c, c->req.model);
    c->in.from = text_of(c, c->req.from);
    if (!c->in.name || (c->req.from.n && !c->in.from))
        return no_memory(e);
    c->in.mode = c->req.reference ? STORE_REFERENCE : STORE_COPY;
    c->in.uploads = c->d->uploads;
    if ((code = add_files(c, e)) || (code = add_texts(c, e)))
        return code;
    return add_config(c, e);
}

/* A model to start from that is not here is pulled first, as clients expect; unless no network may be asked. */
static enum err_code bring_base(struct create *c, struct err *e)
{
    struct name to; /* nothing is fetched for one that is none */
    struct store_model *m = NULL;
    struct err why = { 0 };
    const struct store_pull in = { .name = c->in.from, .job = c->in.job };
    enum err_code code = name_parse(c->req.model, &to, e);
    if (code || !in.name)
        return code;
    code = store_known(c->d->store, in.name, &why);
    if (code != ERR_NOT_FOUND)
        return code ? err_set(e, code, "%s", why.text) : ERR_OK;
    code = store_pull(c->d->store, &in, &m, &why);
    if (code)
        return err_set(e, code == ERR_CONFLICT ? ERR_NOT_FOUND : code, "model '%s' not found, and it cannot be pulled: %s",
                       in.name, why.text);
    c->in.from = arena_strndup(&c->arena, m->name, strlen(m->name)); /* what it is called here */
    store_model_destroy(m);
    return c->in.from ? ERR_OK : no_memory(e);
}

/* Renderers and parsers are other programs' own code: the template and what it tells of the model's answers
 * do their work here. */
static void warn(const struct create *c)
{
    const struct {
        const char *what, *instead;
        struct str name;
    } rows[] = { { "renderer", "the template makes the prompts", c->req.renderer },
                 { "parser", "answers are read as the template writes them", c->req.parser } };
    char text[256];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct str s = rows[i].name;
        if (!s.n)
            continue;
        snprintf(text, sizeof text, "warning: the %s '%.*s' is kept, but not known here: %s", rows[i].what,
                 (int)(s.n < 60 ? s.n : 60), s.p, rows[i].instead);
        if (utf8_valid(text, strlen(text)) != strlen(text)) /* cut within a character */
            snprintf(text, sizeof text, "warning: the %s is kept, but not known here: %s", rows[i].what, rows[i].instead);
        store_job_tell(&c->in.job, text);
    }
}

static enum err_code create_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct create *c = user;
    (void)last;
    c->in.job = *job;
    struct quantize_writer writer = { 0 };
    char *type = text_of(c, c->req.quantize);
    enum err_code code = fill(c, e);
    if (!code)
        warn(c);
    if (!code && c->req.quantize.n)
        code = type ? quantize_writer_init(&writer, type, e) : no_memory(e);
    code = code ? code : bring_base(c, e);
    if (!code && type)
        c->in.writer = &writer.writer;
    code = code ? code : store_create(c->d->store, &c->in, NULL, e);
    if (type)
        quantize_writer_finish(&writer);
    return code;
}

static void create_done(void *user, enum err_code result)
{
    (void)result;
    create_free(user);
}

static enum err_code create_read(struct create *c, const struct http_request *r, struct err *e)
{
    json_t *root = NULL;
    enum err_code code = body_json(r, &root, e);
    code = code ? code : create_request_read(root, &c->req, e);
    bool paths = !code && (json_array_size(c->req.paths) || json_array_size(c->req.adapter_paths));
    if (paths && path_allowed(r, NULL))
        return err_set(e, ERR_FORBIDDEN, "a path is taken only over the Unix socket, from the daemon's own user: "
                       "upload the file instead (POST /api/blobs/sha256:...)");
    return code;
}

void models_create(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e = { 0 };
    struct create *c = mem_zero(1, sizeof *c);
    enum err_code code = c ? create_read(c, r, &e) : err_no_memory(&e, sizeof *c, "a request");
    if (code) {
        reply_err(d, r, &e);
        if (c)
            create_free(c);
        return;
    }
    c->d = d;
    store_call_start(d, r, &(struct store_call_options){
        .kind = "create",
        .name = c->req.model,
        .stream = c->req.stream,
        .user = c,
        .work = create_work,
        .done = create_done,
    });
}
