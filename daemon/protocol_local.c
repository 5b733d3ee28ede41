#include "daemon/protocol_local.h"

#include <string.h>

#include "daemon/protocol_priv.h"

/* A field that must be there; without a NUL inside. */
static enum err_code read_needed(const json_t *root, const char *key, struct str *out, struct err *e)
{
    if (read_string(root, key, out, e))
        return ERR_INVALID;
    if (!out->n || memchr(out->p, 0, out->n))
        return err_set(e, ERR_INVALID, "\"%s\" is required: a text without NUL characters", key);
    return ERR_OK;
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
