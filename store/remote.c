#include "store/remote.h"

#include <string.h>

/* The first that takes a name has it. */
static const struct remote_kind *const kinds[] = { &remote_hub, &remote_url, &remote_registry };

enum err_code remote_online(struct store *s, const char *what, uint64_t limit_rate, struct transport **out,
                            struct err *e)
{
    const struct transport_options o = { .offline = s->net.offline, .ca_file = s->net.ca_file,
                                         .connections = s->net.connections, .limit_rate = limit_rate };
    return s->net.offline ? err_set(e, ERR_CONFLICT, "offline: %.200s was not asked for", what)
                          : transport_curl_create(&o, out, e);
}

/* The name that the model is to have here: checked before anything is asked. */
static enum err_code check_as(const struct remote_request *r, struct name *as, struct err *e)
{
    return r->as && r->as[0] ? store_new_name(r->as, as, e) : ERR_OK;
}

static const struct remote_kind *kind_of(const char *text)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i]->takes(str_from(text)))
            return kinds[i];
    return NULL;
}

static enum err_code find_kind(const struct remote_request *r, const struct remote_kind **kind, struct err *e)
{
    struct source source;
    enum err_code code = source_parse(str_from(r->text), &source, e);
    *kind = code ? NULL : kind_of(r->text);
    if (code || *kind)
        return code;
    return err_set(e, ERR_INVALID, "'%.200s' is a file of this machine, which is imported, not pulled", r->text);
}

enum err_code remote_check(const struct remote_request *r, struct err *e)
{
    const struct remote_kind *kind;
    struct name as;
    enum err_code code = check_as(r, &as, e);
    return code ? code : find_kind(r, &kind, e);
}

static enum err_code remote_create(struct store *s, struct transport *t, const struct remote_request *r,
                                   struct remote **out, struct err *e)
{
    const struct remote_kind *kind;
    enum err_code code = find_kind(r, &kind, e);
    if (code)
        return code;
    struct remote *made = mem_zero(1, sizeof *made);
    if (!made)
        return err_no_memory(e, sizeof *made, "asking for a model");
    *made = (struct remote){ .kind = kind, .store = s, .transport = t, .request = *r };
    *out = made;
    return ERR_OK;
}

enum err_code remote_open(struct store *s, struct transport *t, const struct remote_request *r,
                          struct remote **out, const struct remote_model **model, struct err *e)
{
    struct name as;
    struct remote *made = NULL;
    enum err_code code = check_as(r, &as, e);
    if (!code)
        code = remote_create(s, t, r, &made, e);
    if (!code)
        code = made->kind->open(made, e);
    if (code) {
        remote_close(made);
        return code;
    }
    if (r->as && r->as[0])
        made->model.name = as;
    made->model.remote = made;
    *out = made;
    *model = &made->model;
    return ERR_OK;
}

void remote_close(struct remote *r)
{
    if (!r)
        return;
    if (r->kind->close)
        r->kind->close(r);
    arena_finish(&r->arena);
    mem_free(r);
}

enum err_code remote_authorize(void *remote, bool refused, const char **value, struct err *e)
{
    struct remote *r = remote;
    *value = NULL;
    return r->kind->authorize ? r->kind->authorize(r, refused, value, e) : ERR_OK;
}

enum err_code remote_revision(struct store *s, struct transport *t, const struct remote_request *r,
                              char revision[80], struct err *e)
{
    struct remote *made = NULL;
    enum err_code code = remote_create(s, t, r, &made, e);
    if (!code)
        code = made->kind->revision(made, revision, e);
    remote_close(made);
    return code;
}
