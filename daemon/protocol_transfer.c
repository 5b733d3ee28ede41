#include "daemon/protocol_transfer.h"

#include <math.h>
#include <string.h>

#include "daemon/protocol_priv.h"

static void put_bytes(struct json_out *j, const char *key, uint64_t n)
{
    json_key(j, key);
    json_uint_value(j, n);
}

void transfer_event_write(struct buf *out, const struct transfer_event *ev)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    put_str(&j, "status", ev->status);
    put_str_if(&j, "digest", ev->digest);
    if (ev->has_total) {
        put_bytes(&j, "total", ev->total);
        put_bytes(&j, "completed", ev->completed);
    }
    json_obj_end(&j);
}

enum err_code transfer_event_read(const json_t *line, struct transfer_event *ev, struct err *e)
{
    *ev = (struct transfer_event){ 0 };
    if (read_string(line, "status", &ev->status, e) || read_string(line, "digest", &ev->digest, e) ||
        read_uint(line, "total", &ev->total, e) || read_uint(line, "completed", &ev->completed, e))
        return ERR_INVALID;
    ev->has_total = json_object_get(line, "total") != NULL; /* the last line may have a digest too: the model's */
    return ERR_OK;
}

void transfer_entry_put(struct buf *out, const struct transfer_entry *v, size_t n)
{
    struct json_out j;
    json_begin(&j, out);
    json_arr(&j);
    for (size_t i = 0; i < n; i++) {
        json_obj(&j);
        put_str(&j, "name", v[i].name);
        put_str(&j, "kind", v[i].kind);
        put_str(&j, "status", v[i].status);
        put_bytes(&j, "completed", v[i].completed);
        put_bytes(&j, "total", v[i].total);
        put_time(&j, "started_at", v[i].started_wall_ns);
        json_kbool(&j, "detached", v[i].detached);
        json_obj_end(&j);
    }
    json_arr_end(&j);
}

static enum err_code read_transfer(const json_t *o, void *out, struct err *e)
{
    struct transfer_entry *v = out;
    if (read_string(o, "name", &v->name, e) || read_string(o, "kind", &v->kind, e) ||
        read_string(o, "status", &v->status, e) || read_uint(o, "completed", &v->completed, e) ||
        read_uint(o, "total", &v->total, e) || read_bool(o, "detached", &v->detached, e))
        return ERR_INVALID;
    return read_time(o, "started_at", &v->started_wall_ns, e);
}

enum err_code transfer_list_read(const json_t *root, struct transfer_entry **v, size_t *n, struct err *e)
{
    void *list;
    enum err_code c = read_elements(root, "transfers", sizeof **v, read_transfer, &list, n, e);
    *v = list;
    return c;
}

/* ---- pull, push ---------------------------------------------------------------------------------- */

/* Texts and switches of a request, one row each; which of them a route knows is its own matter. */
static const struct {
    const char *key;
    size_t offset; /* of a struct str */
} pull_texts[] = {
    { "name", offsetof(struct pull_request, model) },
    { "model", offsetof(struct pull_request, model) },
    { "as", offsetof(struct pull_request, as) },
    { "filter", offsetof(struct pull_request, filter) },
    { "destination", offsetof(struct pull_request, destination) },
    { "username", offsetof(struct pull_request, username) },
    { "password", offsetof(struct pull_request, password) },
    { "hf_token", offsetof(struct pull_request, hf_token) },
};
static const struct {
    const char *key;
    size_t offset; /* of a bool */
} pull_switches[] = {
    { "insecure", offsetof(struct pull_request, insecure) },
    { "stream", offsetof(struct pull_request, stream) },
    { "detach", offsetof(struct pull_request, detach) },
    { "dry_run", offsetof(struct pull_request, dry_run) },
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct str *text_at(const struct pull_request *r, size_t i)
{
    return (struct str *)(void *)((char *)(uintptr_t)r + pull_texts[i].offset);
}

static bool *switch_at(const struct pull_request *r, size_t i)
{
    return (bool *)((char *)(uintptr_t)r + pull_switches[i].offset);
}

void pull_request_init(struct pull_request *r)
{
    *r = (struct pull_request){ .stream = true };
}

bool rate_read(struct str t, uint64_t *bytes)
{
    static const char letters[] = "kmgt";
    double value = 0, place = 1, unit = 1;
    bool digits = false, fraction = false;
    for (; t.n && ((*t.p >= '0' && *t.p <= '9') || (*t.p == '.' && !fraction)); t.p++, t.n--) {
        if (*t.p == '.')
            fraction = true;
        else
            value += fraction ? (*t.p - '0') * (place /= 10) : 9 * value + (*t.p - '0');
        digits |= *t.p != '.';
    }
    const char *letter = t.n && *t.p ? strchr(letters, *t.p | 0x20) : NULL;
    bool binary = letter && t.n > 1 && t.p[1] == 'i';
    for (const char *l = letters; letter && l <= letter; l++)
        unit *= binary ? 1024 : 1000;
    size_t skip = letter ? (binary ? 2 : 1) : 0;
    t = (struct str){ t.p + skip, t.n - skip };
    if (t.n == 1 && (*t.p | 0x20) == 'b')
        t.n = 0;
    value *= unit;
    if (!digits || t.n || !(value >= 1) || value >= 9e18)
        return false;
    *bytes = (uint64_t)value;
    return true;
}

static enum err_code read_rate(const json_t *root, uint64_t *rate, struct err *e)
{
    const json_t *v = member(root, "limit_rate");
    if (!v || !json_is_string(v))
        return read_uint(root, "limit_rate", rate, e);
    if (!rate_read(json_slice(v), rate))
        return err_set(e, ERR_INVALID, "\"limit_rate\" must be bytes a second, as 10M");
    return ERR_OK;
}

enum err_code pull_request_read(json_t *root, bool wants_model, struct pull_request *r, struct err *e)
{
    pull_request_init(r);
    r->root = root;
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    for (size_t i = 0; i < COUNT(pull_texts); i++)
        if (read_plain(root, pull_texts[i].key, text_at(r, i), e))
            return ERR_INVALID;
    for (size_t i = 0; i < COUNT(pull_switches); i++)
        if (read_bool(root, pull_switches[i].key, switch_at(r, i), e))
            return ERR_INVALID;
    if (wants_model && !r->model.n)
        return err_set(e, ERR_INVALID, "model is required");
    return read_rate(root, &r->limit_rate, e);
}

void pull_request_write(struct buf *out, const struct pull_request *r)
{
    struct pull_request usual;
    struct json_out j;
    pull_request_init(&usual);
    json_begin(&j, out);
    json_obj(&j);
    for (size_t i = 1; i < COUNT(pull_texts); i++) /* not the old "name" */
        put_str_if(&j, pull_texts[i].key, *text_at(r, i));
    for (size_t i = 0; i < COUNT(pull_switches); i++)
        if (*switch_at(r, i) != *switch_at(&usual, i))
            json_kbool(&j, pull_switches[i].key, *switch_at(r, i));
    if (r->limit_rate)
        put_bytes(&j, "limit_rate", r->limit_rate);
    json_obj_end(&j);
}

void pull_request_finish(struct pull_request *r)
{
    json_decref(r->root);
    *r = (struct pull_request){ 0 };
}

/* ---- export -------------------------------------------------------------------------------------- */

enum err_code export_request_read(json_t *root, struct export_request *r, struct err *e)
{
    const json_t *name;
    size_t i;
    *r = (struct export_request){ .root = root, .stream = true };
    if (!json_is_object(root))
        return err_set(e, ERR_INVALID, "the request body must be a JSON object");
    if (read_array(root, "models", &r->models, e) || read_plain(root, "path", &r->path, e) ||
        read_bool(root, "stream", &r->stream, e))
        return ERR_INVALID;
    if (!json_array_size(r->models) || json_array_size(r->models) > EXPORT_MAX_MODELS)
        return err_set(e, ERR_INVALID, "\"models\" must be 1 to %d names", EXPORT_MAX_MODELS);
    json_array_foreach(r->models, i, name)
        if (!is_plain(name) || !json_string_length(name))
            return err_set(e, ERR_INVALID, "\"models\"[%zu] is not a name", i);
    if (!r->path.n || *r->path.p != '/')
        return err_set(e, ERR_INVALID, "\"path\" must be an absolute path");
    return ERR_OK;
}

void export_request_write(struct buf *out, const struct export_request *r)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_key(&j, "models");
    json_tree_value(&j, r->models);
    put_str(&j, "path", r->path);
    if (!r->stream)
        json_kbool(&j, "stream", false);
    json_obj_end(&j);
}

void export_request_finish(struct export_request *r)
{
    json_decref(r->root);
    *r = (struct export_request){ 0 };
}

/* ---- the plan of a pull -------------------------------------------------------------------------- */

bool plan_fits_disk(const struct plan_reply *p)
{
    return p->missing <= p->disk_free;
}

bool plan_fits_device(const struct plan_reply *p)
{
    return !p->device.n || !p->device_needs || p->device_needs <= p->device_budget;
}

static void put_plan_files(struct json_out *j, const struct plan_reply *p)
{
    json_key(j, "files");
    json_arr(j);
    for (size_t i = 0; i < p->n_files; i++) {
        json_obj(j);
        put_str(j, "name", p->files[i].name);
        put_str(j, "kind", p->files[i].kind);
        put_bytes(j, "size", p->files[i].size);
        put_bytes(j, "missing", p->files[i].missing);
        json_obj_end(j);
    }
    json_arr_end(j);
}

void plan_write(struct buf *out, const struct plan_reply *p)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "status", "plan");
    put_str(&j, "model", p->model);
    put_str(&j, "source", p->source);
    put_str(&j, "revision", p->revision);
    put_str(&j, "license", p->license);
    json_kbool(&j, "present", p->present);
    put_bytes(&j, "size", p->size);
    put_bytes(&j, "missing", p->missing);
    put_bytes(&j, "disk_free", p->disk_free);
    json_kbool(&j, "fits_disk", plan_fits_disk(p));
    if (p->device.n) {
        put_str(&j, "device", p->device);
        put_bytes(&j, "device_budget", p->device_budget);
        put_bytes(&j, "device_needs", p->device_needs);
        json_kbool(&j, "fits_device", plan_fits_device(p));
    }
    put_plan_files(&j, p);
    json_obj_end(&j);
}

static enum err_code read_plan_file(const json_t *o, void *out, struct err *e)
{
    struct plan_file *f = out;
    if (read_string(o, "name", &f->name, e) || read_string(o, "kind", &f->kind, e) ||
        read_uint(o, "size", &f->size, e) || read_uint(o, "missing", &f->missing, e))
        return ERR_INVALID;
    return ERR_OK;
}

enum err_code plan_read(const json_t *root, struct plan_reply *p, struct plan_file **files,
                        struct err *e)
{
    void *list;
    *p = (struct plan_reply){ 0 };
    *files = NULL;
    if (read_string(root, "model", &p->model, e) || read_string(root, "source", &p->source, e) ||
        read_string(root, "revision", &p->revision, e) || read_string(root, "license", &p->license, e) ||
        read_bool(root, "present", &p->present, e) || read_uint(root, "size", &p->size, e) ||
        read_uint(root, "missing", &p->missing, e) || read_uint(root, "disk_free", &p->disk_free, e) ||
        read_string(root, "device", &p->device, e) ||
        read_uint(root, "device_budget", &p->device_budget, e) ||
        read_uint(root, "device_needs", &p->device_needs, e))
        return ERR_INVALID;
    enum err_code c = read_elements(root, "files", sizeof **files, read_plan_file, &list, &p->n_files, e);
    p->files = *files = list;
    return c;
}

/* ---- outdated -------------------------------------------------------------------------------------- */

void outdated_write(struct buf *out, const struct outdated_entry *v, size_t n)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_key(&j, "models");
    json_arr(&j);
    for (size_t i = 0; i < n; i++) {
        json_obj(&j);
        put_str(&j, "name", v[i].name);
        put_str(&j, "model", v[i].name);
        put_str(&j, "source", v[i].source);
        json_kbool(&j, "outdated", v[i].outdated);
        put_str_if(&j, "revision", v[i].revision);
        put_str_if(&j, "error", v[i].error);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    json_obj_end(&j);
}

static enum err_code read_outdated(const json_t *o, void *out, struct err *e)
{
    struct outdated_entry *v = out;
    if (read_string(o, "name", &v->name, e) || read_string(o, "source", &v->source, e) ||
        read_bool(o, "outdated", &v->outdated, e) ||
        read_string(o, "revision", &v->revision, e) || read_string(o, "error", &v->error, e))
        return ERR_INVALID;
    return ERR_OK;
}

enum err_code outdated_read(const json_t *root, struct outdated_entry **v, size_t *n, struct err *e)
{
    void *list;
    enum err_code c = read_elements(root, "models", sizeof **v, read_outdated, &list, n, e);
    *v = list;
    return c;
}
