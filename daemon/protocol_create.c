#include "daemon/protocol_create.h"

#include <string.h>

#include "daemon/protocol_priv.h"
#include "runtime/base/mem.h"

/* ---- parameters ------------------------------------------------------------------------------------ */

/* Names that models carry for other programs: kept, and of no effect here. */
static const struct {
    const char *name;
    enum { FOREIGN_INTEGER, FOREIGN_BOOLEAN, FOREIGN_GONE } type; /* GONE: no longer anybody's */
} foreign[] = {
    { "num_batch", FOREIGN_INTEGER },        { "num_gpu", FOREIGN_INTEGER },
    { "main_gpu", FOREIGN_INTEGER },         { "num_thread", FOREIGN_INTEGER },
    { "draft_num_predict", FOREIGN_INTEGER }, { "use_mmap", FOREIGN_BOOLEAN },
    { "penalize_newline", FOREIGN_GONE },    { "low_vram", FOREIGN_GONE },
    { "f16_kv", FOREIGN_GONE },              { "logits_all", FOREIGN_GONE },
    { "vocab_only", FOREIGN_GONE },          { "use_mlock", FOREIGN_GONE },
    { "numa", FOREIGN_GONE },                { "tfs_z", FOREIGN_GONE },
};
#define N_FOREIGN (sizeof foreign / sizeof *foreign)

static enum err_code set_foreign(json_t *parameters, size_t i, struct str value, struct err *e)
{
    struct gen_options o = { 0 };
    json_t *v = NULL;
    bool integer = foreign[i].type == FOREIGN_INTEGER;
    /* read as one of ours of that type */
    if (gen_options_set(&o, integer ? STR("num_ctx") : STR("ignore_eos"), value, NULL))
        return err_set(e, ERR_INVALID, "option \"%s\" must be of type %s", foreign[i].name,
                       integer ? "integer" : "boolean");
    v = integer ? json_integer(o.num_ctx) : json_boolean(o.ignore_eos);
    return json_object_set_new(parameters, foreign[i].name, v) ? err_no_memory(e, 0, "parameters") : ERR_OK;
}

/* The one value of o, as JSON has it, into parameters. */
static enum err_code put_option(json_t *parameters, const struct gen_options *o, struct err *e)
{
    struct buf text;
    json_t *one = NULL;
    buf_init(&text, 1 << 20);
    gen_options_write(&text, o);
    enum err_code c = text.failed ? err_no_memory(e, text.n, "parameters")
                                  : json_read(buf_str(&text), 1 << 20, "a parameter", &one, e);
    buf_finish(&text);
    json_t *stops = json_object_get(parameters, "stop");
    bool more = !c && stops && json_object_get(one, "stop");
    if (more && json_array_extend(stops, json_object_get(one, "stop")))
        c = err_no_memory(e, 0, "parameters");
    if (!c && !more && json_object_update(parameters, one))
        c = err_no_memory(e, 0, "parameters");
    json_decref(one);
    return c;
}

enum err_code create_parameter_set(json_t *parameters, struct str name, struct str value, bool *ignored,
                                   struct err *e)
{
    struct gen_options o = { 0 };
    *ignored = false;
    for (size_t i = 0; i < N_FOREIGN; i++)
        if (str_is(name, foreign[i].name)) {
            *ignored = foreign[i].type == FOREIGN_GONE;
            return *ignored ? ERR_OK : set_foreign(parameters, i, value, e);
        }
    enum err_code c = gen_options_set(&o, name, value, e);
    if (c == ERR_NOT_FOUND)
        return err_set(e, ERR_INVALID, "unknown parameter '%.*s'", (int)(name.n < 100 ? name.n : 100), name.p);
    return c ? c : put_option(parameters, &o, e);
}

/* ---- reading --------------------------------------------------------------------------------------- */

static const struct {
    const char *key;
    enum err_code (*read)(const json_t *o, const char *key, struct str *out, struct err *e);
    size_t offset; /* of a struct str */
} texts[] = {
    { "name", read_plain, offsetof(struct create_request, model) },
    { "model", read_plain, offsetof(struct create_request, model) },
    { "from", read_plain, offsetof(struct create_request, from) },
    { "template", read_string, offsetof(struct create_request, template) },
    { "system", read_string, offsetof(struct create_request, system) },
    { "quantization", read_plain, offsetof(struct create_request, quantize) },
    { "quantize", read_plain, offsetof(struct create_request, quantize) },
    { "renderer", read_plain, offsetof(struct create_request, renderer) },
    { "parser", read_plain, offsetof(struct create_request, parser) },
    { "requires", read_plain, offsetof(struct create_request, requires) },
    { "remote_host", read_plain, offsetof(struct create_request, remote_host) },
};
static const struct {
    const char *key;
    size_t offset; /* of a const json_t * */
    bool array;    /* else an object */
} trees[] = {
    { "files", offsetof(struct create_request, files), false },
    { "adapters", offsetof(struct create_request, adapters), false },
    { "parameters", offsetof(struct create_request, parameters), false },
    { "info", offsetof(struct create_request, info), false },
    { "paths", offsetof(struct create_request, paths), true },
    { "adapter_paths", offsetof(struct create_request, adapter_paths), true },
    { "messages", offsetof(struct create_request, messages), true },
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct str *text_at(const struct create_request *r, size_t i)
{
    return (struct str *)(void *)((char *)(uintptr_t)r + texts[i].offset);
}

void create_request_init(struct create_request *r)
{
    *r = (struct create_request){ .stream = true };
}

static enum err_code check_strings(const json_t *list, const char *key, struct err *e)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!json_is_string(json_array_get(list, i)))
            return err_set(e, ERR_INVALID, "\"%s\" must be an array of strings", key);
    return ERR_OK;
}

static enum err_code check_paths(const json_t *list, const char *key, struct err *e)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!is_plain(json_array_get(list, i)))
            return err_set(e, ERR_INVALID, "\"%s\" must be an array of paths", key);
    return ERR_OK;
}

static enum err_code check_digests(const json_t *object, const char *key, struct err *e)
{
    const char *name;
    json_t *v;
    json_object_foreach ((json_t *)(uintptr_t)object, name, v)
        if (!is_plain(v))
            return err_set(e, ERR_INVALID, "\"%s\" must be an object of file names and digests", key);
    return ERR_OK;
}

/* As a chat has it: a role of either case; who says nothing has a content that is empty. */
static enum err_code check_message(json_t *m, size_t number, struct err *e)
{
    static const char *const roles[] = { "system", "user", "assistant", "tool" };
    bool lowered = json_is_object(m) && message_lower_role(m, NULL) == ERR_OK;
    struct str role = json_slice(lowered ? json_object_get(m, "role") : NULL);
    size_t k = 0;
    while (k < COUNT(roles) && !str_is(role, roles[k]))
        k++;
    if (k < COUNT(roles) && !member(m, "content"))
        return json_object_set_new(m, "content", json_string("")) ? err_no_memory(e, 1, "a message") : ERR_OK;
    if (k == COUNT(roles) || !json_is_string(json_object_get(m, "content")))
        return err_set(e, ERR_INVALID, "message %zu needs a role (system, user, assistant or tool) and a content",
                       number);
    return ERR_OK;
}

static enum err_code check_messages(const json_t *list, struct err *e)
{
    enum err_code c = ERR_OK;
    for (size_t i = 0; !c && i < json_array_size(list); i++)
        c = check_message(json_array_get(list, i), i + 1, e);
    return c;
}

static enum err_code read_license(const json_t *root, struct create_request *r, struct err *e)
{
    r->license = member(root, "license");
    if (r->license && !json_is_string(r->license) && !json_is_array(r->license))
        return err_set(e, ERR_INVALID, "\"license\" must be a string or an array of strings");
    return check_strings(r->license, "license", e);
}

static enum err_code read_fields(const json_t *root, struct create_request *r, struct err *e)
{
    const json_t *drafts = member(root, "draft_files");
    struct gen_options ignored;
    enum err_code c = json_is_object(root) ? ERR_OK : err_set(e, ERR_INVALID, "the request must be a JSON object");
    for (size_t i = 0; !c && i < COUNT(texts); i++)
        c = texts[i].read(root, texts[i].key, text_at(r, i), e);
    for (size_t i = 0; !c && i < COUNT(trees); i++) {
        const json_t **to = (const json_t **)(void *)((char *)r + trees[i].offset);
        c = trees[i].array ? read_array(root, trees[i].key, to, e) : read_object(root, trees[i].key, to, e);
    }
    if (!c)
        c = read_bool(root, "reference", &r->reference, e);
    if (!c)
        c = read_bool(root, "stream", &r->stream, e);
    if (!c && !r->model.n)
        c = err_set(e, ERR_INVALID, "\"model\" is missing: what the model is to be called");
    r->drafts = json_object_size(drafts) > 0;
    if (c || (c = read_license(root, r, e)) || (c = check_digests(r->files, "files", e)) ||
        (c = check_digests(r->adapters, "adapters", e)) || (c = check_paths(r->paths, "paths", e)) ||
        (c = check_paths(r->adapter_paths, "adapter_paths", e)) || (c = check_messages(r->messages, e)))
        return c;
    return gen_options_read(r->parameters, &ignored, e);
}

enum err_code create_request_read(json_t *root, struct create_request *r, struct err *e)
{
    create_request_init(r);
    r->root = root;
    enum err_code c = read_fields(root, r, e);
    if (c)
        create_request_finish(r);
    return c;
}

void create_request_write(struct buf *out, const struct create_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str(&j, "model", r->model);
    for (size_t i = 2; i < COUNT(texts); i++)
        if (strcmp(texts[i].key, "quantization") != 0)
            put_str_if(&j, texts[i].key, *text_at(r, i));
    for (size_t i = 0; i < COUNT(trees); i++) {
        const json_t *tree = *(const json_t *const *)(const void *)((const char *)r + trees[i].offset);
        if (!json_object_size(tree) && !json_array_size(tree))
            continue;
        json_key(&j, trees[i].key);
        json_tree_value(&j, tree);
    }
    if (r->license) {
        json_key(&j, "license");
        json_tree_value(&j, r->license);
    }
    if (r->reference)
        json_kbool(&j, "reference", true);
    if (!r->stream)
        json_kbool(&j, "stream", false);
    json_obj_end(&j);
}

void create_request_finish(struct create_request *r)
{
    json_decref(r->root);
    *r = (struct create_request){ 0 };
}
