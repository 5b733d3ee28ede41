#include "daemon/protocol_transfer.h"

#include "daemon/protocol_priv.h"
#include "runtime/base/mem.h"

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
    ev->has_total = ev->total > 0 || ev->digest.n;
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

static enum err_code read_transfer(const json_t *o, struct transfer_entry *v, struct err *e)
{
    if (!json_is_object(o))
        return err_set(e, ERR_INVALID, "an entry of \"transfers\" is not an object");
    if (read_string(o, "name", &v->name, e) || read_string(o, "kind", &v->kind, e) ||
        read_string(o, "status", &v->status, e) || read_uint(o, "completed", &v->completed, e) ||
        read_uint(o, "total", &v->total, e) || read_bool(o, "detached", &v->detached, e))
        return ERR_INVALID;
    return read_time(o, "started_at", &v->started_wall_ns, e);
}

enum err_code transfer_list_read(const json_t *root, struct transfer_entry **v, size_t *n, struct err *e)
{
    const json_t *all;
    *v = NULL;
    *n = 0;
    if (read_array(root, "transfers", &all, e))
        return ERR_INVALID;
    size_t count = json_array_size(all);
    struct transfer_entry *list = mem_zero(count, sizeof *list);
    if (!list)
        return err_no_memory(e, count * sizeof *list, "the list of transfers");
    enum err_code c = ERR_OK;
    for (size_t i = 0; i < count && !c; i++)
        c = read_transfer(json_array_get(all, i), &list[i], e);
    if (c) {
        mem_free(list);
        return c;
    }
    *v = list;
    *n = count;
    return ERR_OK;
}
