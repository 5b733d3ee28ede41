#include "daemon/protocol_care.h"

#include <string.h>

#include "daemon/protocol_priv.h"

enum err_code care_request_read(json_t *root, struct care_request *r, struct err *e)
{
    *r = (struct care_request){ .root = root, .stream = true };
    if (!root)
        return ERR_OK;
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    if (read_plain(root, "name", &r->model, e) || read_plain(root, "model", &r->model, e) ||
        read_bool(root, "repair", &r->repair, e) || read_bool(root, "insecure", &r->insecure, e) ||
        read_plain(root, "hf_token", &r->hf_token, e) || read_plain(root, "username", &r->username, e) ||
        read_plain(root, "password", &r->password, e) ||
        read_bool(root, "dry_run", &r->dry_run, e) || read_uint(root, "older_s", &r->older_s, e) ||
        read_bool(root, "stream", &r->stream, e))
        return ERR_INVALID;
    r->has_older = json_object_get(root, "older_s") != NULL;
    return ERR_OK;
}

void care_request_write(struct buf *out, const struct care_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str_if(&j, "model", r->model);
    if (r->repair)
        json_kbool(&j, "repair", true);
    if (r->insecure)
        json_kbool(&j, "insecure", true);
    put_str_if(&j, "hf_token", r->hf_token);
    put_str_if(&j, "username", r->username);
    put_str_if(&j, "password", r->password);
    if (r->dry_run)
        json_kbool(&j, "dry_run", true);
    if (r->has_older)
        json_kint(&j, "older_s", (int64_t)r->older_s);
    json_kbool(&j, "stream", r->stream);
    json_obj_end(&j);
}

void care_request_finish(struct care_request *r)
{
    json_decref(r->root);
    *r = (struct care_request){ 0 };
}

static enum err_code read_damaged(const json_t *o, void *entry, struct err *e)
{
    struct damaged_entry *v = entry;
    if (read_string(o, "model", &v->model, e) || read_string(o, "digest", &v->digest, e) ||
        read_string(o, "text", &v->text, e) || read_bool(o, "repaired", &v->repaired, e))
        return ERR_INVALID;
    return ERR_OK;
}

enum err_code verify_reply_read(const json_t *root, struct verify_reply *r, struct damaged_entry **v,
                                size_t *n, struct err *e)
{
    void *list = NULL;
    *r = (struct verify_reply){ 0 };
    if (read_uint(root, "files", &r->files, e) || read_uint(root, "bytes", &r->bytes, e) ||
        read_uint(root, "bad", &r->bad, e) || read_uint(root, "repaired", &r->repaired, e))
        return ERR_INVALID;
    enum err_code c = read_elements(root, "damaged", sizeof **v, read_damaged, &list, n, e);
    *v = list;
    return c;
}

static enum err_code read_pruned(const json_t *o, void *entry, struct err *e)
{
    struct pruned_entry *v = entry;
    if (read_string(o, "name", &v->name, e) || read_string(o, "kind", &v->kind, e) ||
        read_uint(o, "size", &v->size, e))
        return ERR_INVALID;
    return ERR_OK;
}

enum err_code pruned_read(const json_t *root, const char *which, struct pruned_entry **v, size_t *n,
                          struct err *e)
{
    void *list = NULL;
    enum err_code c = read_elements(root, which, sizeof **v, read_pruned, &list, n, e);
    *v = list;
    return c;
}
