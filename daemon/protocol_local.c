#include "daemon/protocol_local.h"

#include <string.h>

#include "daemon/protocol_priv.h"
#include "runtime/base/mem.h"

/* A text that must be there. */
static enum err_code read_needed(const json_t *root, const char *key, struct str *out, struct err *e)
{
    if (read_plain(root, key, out, e))
        return ERR_INVALID;
    return out->n ? ERR_OK : err_set(e, ERR_INVALID, "\"%s\" is required", key);
}

enum err_code quantize_request_read(json_t *root, struct quantize_request *r, struct err *e)
{
    *r = (struct quantize_request){ .root = root, .stream = true };
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    if (read_needed(root, "destination", &r->destination, e) || read_needed(root, "quantize", &r->type, e) ||
        read_bool(root, "stream", &r->stream, e))
        return ERR_INVALID;
    if (!json_object_get(root, "path"))
        return read_needed(root, "model", &r->model, e);
    if (read_needed(root, "path", &r->path, e))
        return ERR_INVALID;
    return r->path.p[0] == '/' ? ERR_OK : err_set(e, ERR_INVALID, "\"path\" must be an absolute path");
}

void quantize_request_write(struct buf *out, const struct quantize_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str_if(&j, "model", r->model);
    put_str_if(&j, "path", r->path);
    put_str(&j, "destination", r->destination);
    put_str(&j, "quantize", r->type);
    json_kbool(&j, "stream", r->stream);
    json_obj_end(&j);
}

void quantize_request_finish(struct quantize_request *r)
{
    json_decref(r->root);
    *r = (struct quantize_request){ 0 };
}

/* ---- adopt ---------------------------------------------------------------------------------------- */

static enum err_code read_roots(const json_t *root, struct adopt_request *r, struct err *e)
{
    const json_t *all = NULL;
    if (read_array(root, "roots", &all, e))
        return ERR_INVALID;
    if (json_array_size(all) > ADOPT_MAX_ROOTS)
        return err_set(e, ERR_TOO_LARGE, "at most %d \"roots\" are looked into", ADOPT_MAX_ROOTS);
    for (size_t i = 0; i < json_array_size(all); i++) {
        struct adopt_where *w = &r->roots[i];
        const json_t *o = json_array_get(all, i);
        if (!json_is_object(o))
            return err_set(e, ERR_INVALID, "an entry of \"roots\" is not an object");
        if (read_needed(o, "kind", &w->kind, e) || read_needed(o, "path", &w->path, e))
            return ERR_INVALID;
        r->n_roots++;
    }
    return ERR_OK;
}

static enum err_code read_names(const json_t *root, struct adopt_request *r, struct err *e)
{
    const json_t *all = NULL;
    if (read_array(root, "names", &all, e))
        return ERR_INVALID;
    size_t n = json_array_size(all);
    if (n > ADOPT_MAX_NAMES)
        return err_set(e, ERR_TOO_LARGE, "at most %d \"names\" are taken", ADOPT_MAX_NAMES);
    r->names = mem_zero(n + 1, sizeof *r->names);
    if (!r->names)
        return err_no_memory(e, n * sizeof *r->names, "names");
    for (size_t i = 0; i < n; i++) {
        if (!is_plain(json_array_get(all, i)))
            return err_set(e, ERR_INVALID, "an entry of \"names\" is not a name");
        r->names[r->n_names++] = json_slice(json_array_get(all, i));
    }
    return ERR_OK;
}

enum err_code adopt_request_read(json_t *root, struct adopt_request *r, struct err *e)
{
    *r = (struct adopt_request){ .root = root, .stream = true };
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    if (read_bool(root, "all", &r->all, e) || read_bool(root, "stream", &r->stream, e))
        return ERR_INVALID;
    enum err_code c = read_roots(root, r, e);
    return c ? c : read_names(root, r, e);
}

void adopt_request_write(struct buf *out, const struct adopt_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_key(&j, "roots");
    json_arr(&j);
    for (size_t i = 0; i < r->n_roots; i++) {
        json_obj(&j);
        put_str(&j, "kind", r->roots[i].kind);
        put_str(&j, "path", r->roots[i].path);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    json_key(&j, "names");
    json_arr(&j);
    for (size_t i = 0; i < r->n_names; i++)
        json_str_value(&j, r->names[i]);
    json_arr_end(&j);
    json_kbool(&j, "all", r->all);
    json_kbool(&j, "stream", r->stream);
    json_obj_end(&j);
}

void adopt_request_finish(struct adopt_request *r)
{
    mem_free(r->names);
    json_decref(r->root);
    *r = (struct adopt_request){ 0 };
}

static void put_entry(struct json_out *j, const struct adopt_entry *x)
{
    json_obj(j);
    put_str(j, "name", x->name);
    put_str(j, "kind", x->kind);
    put_str(j, "path", x->path);
    put_str(j, "family", x->family);
    put_str(j, "quantization_level", x->quantization);
    json_key(j, "size");
    json_uint_value(j, x->size);
    json_kbool(j, "here", x->here);
    json_kbool(j, "adopted", x->adopted);
    put_str_if(j, "problem", x->problem);
    json_obj_end(j);
}

void adopt_reply_write(struct buf *out, const struct adopt_reply *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "status", "success");
    json_key(&j, "models");
    json_arr(&j);
    for (size_t i = 0; i < r->n_models; i++)
        put_entry(&j, &r->models[i]);
    json_arr_end(&j);
    json_key(&j, "notes");
    json_arr(&j);
    for (size_t i = 0; i < r->n_notes; i++) {
        json_obj(&j);
        put_str(&j, "path", r->notes[i].path);
        put_str(&j, "why", r->notes[i].why);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    json_obj_end(&j);
}

static enum err_code read_entry(const json_t *o, void *element, struct err *e)
{
    struct adopt_entry *x = element;
    if (read_string(o, "name", &x->name, e) || read_string(o, "kind", &x->kind, e) ||
        read_string(o, "path", &x->path, e) || read_string(o, "family", &x->family, e) ||
        read_string(o, "quantization_level", &x->quantization, e) || read_uint(o, "size", &x->size, e) ||
        read_bool(o, "here", &x->here, e) || read_bool(o, "adopted", &x->adopted, e))
        return ERR_INVALID;
    return read_string(o, "problem", &x->problem, e);
}

static enum err_code read_remark(const json_t *o, void *element, struct err *e)
{
    struct adopt_remark *x = element;
    enum err_code c = read_string(o, "path", &x->path, e);
    return c ? c : read_string(o, "why", &x->why, e);
}

enum err_code adopt_reply_read(const json_t *root, struct adopt_reply *r, struct err *e)
{
    void *models = NULL, *notes = NULL;
    *r = (struct adopt_reply){ 0 };
    enum err_code c = read_elements(root, "models", sizeof *r->models, read_entry, &models, &r->n_models, e);
    r->models = models;
    c = c ? c : read_elements(root, "notes", sizeof *r->notes, read_remark, &notes, &r->n_notes, e);
    r->notes = notes;
    return c;
}

void adopt_reply_finish(struct adopt_reply *r)
{
    mem_free(r->models);
    mem_free(r->notes);
    *r = (struct adopt_reply){ 0 };
}
