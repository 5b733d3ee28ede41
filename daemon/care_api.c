/* /api/verify and /api/prune. */
#include "daemon/body.h"
#include "daemon/protocol_care.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/verify.h"

#define MAX_LIST ((size_t)32 << 20)

struct care {
    struct daemon *d;
    struct care_request req;
    struct json_out removed, strangers; /* arrays, as they grow */
    struct buf lists[2];
};

/* ---- verify ---------------------------------------------------------------------------------------- */

static void put_damaged(void *user, const struct store_verdict *v)
{
    struct care *c = user;
    struct json_out *j = &c->removed;
    char digest[DIGEST_TEXT_SIZE];
    if (v->verdict == VERDICT_SOUND)
        return;
    digest_text(&v->digest, digest);
    json_obj(j);
    json_kstr(j, "model", v->model);
    json_kstr(j, "path", v->path);
    json_kstr(j, "digest", digest);
    json_kstr(j, "text", v->text);
    json_kbool(j, "repaired", v->verdict == VERDICT_REPAIRED);
    json_key(j, "mib");
    json_arr(j);
    for (size_t i = 0; i < v->n_bad; i++)
        json_uint_value(j, v->bad[i]);
    json_arr_end(j);
    json_kint(j, "of_mib", (int64_t)v->n_chunks);
    json_obj_end(j);
}

static const char *text_or_null(struct str s)
{
    return s.n ? s.p : NULL;
}

static enum err_code verify_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct care *c = user;
    struct store_verified v;
    struct json_out j;
    struct store_verify in = {
        .name = c->req.model.n ? c->req.model.p : NULL,
        .repair = c->req.repair,
        .insecure = c->req.insecure,
        .secrets = { .hf_token = text_or_null(c->req.hf_token),
                     .username = text_or_null(c->req.username),
                     .password = text_or_null(c->req.password) },
        .job = *job,
        .report = put_damaged,
        .user = c,
    };
    json_arr(&c->removed);
    enum err_code code = store_verify(c->d->store, &in, &v, e);
    json_arr_end(&c->removed);
    if (!code && c->lists[0].failed)
        code = err_no_memory(e, c->lists[0].n, "a reply");
    if (code)
        return code;
    json_begin(&j, last);
    json_obj(&j);
    json_kstr(&j, "status", "success");
    json_kint(&j, "files", (int64_t)v.files);
    json_kint(&j, "bytes", (int64_t)v.bytes);
    json_kint(&j, "bad", (int64_t)v.bad);
    json_kint(&j, "repaired", (int64_t)v.repaired);
    json_key(&j, "damaged");
    json_raw_value(&j, buf_str(&c->lists[0]));
    json_obj_end(&j);
    return ERR_OK;
}

/* ---- prune ----------------------------------------------------------------------------------------- */

static void put_item(void *user, const struct store_pruned_item *i)
{
    static const char *const kinds[] = { "blob", "download", "stranger" };
    struct care *c = user;
    struct json_out *j = i->kind == PRUNE_STRANGER ? &c->strangers : &c->removed;
    json_obj(j);
    json_kstr(j, "name", i->name);
    json_kstr(j, "kind", kinds[i->kind]);
    json_kint(j, "size", (int64_t)i->size);
    json_obj_end(j);
}

static enum err_code prune_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct care *c = user;
    struct json_out j;
    uint64_t freed = 0;
    struct store_prune in = {
        .dry_run = c->req.dry_run, .older_s = c->req.older_s, .item = put_item, .user = c
    };
    if (c->req.has_older && !in.older_s)
        in.older_s = 1; /* 0 stands for the default there */
    store_job_tell(job, "looking for what nothing names");
    json_arr(&c->removed);
    json_arr(&c->strangers);
    enum err_code code = store_prune(c->d->store, &in, &freed, e);
    json_arr_end(&c->removed);
    json_arr_end(&c->strangers);
    if (!code && (c->lists[0].failed || c->lists[1].failed))
        code = err_no_memory(e, c->lists[0].n, "a reply");
    if (code)
        return code;
    json_begin(&j, last);
    json_obj(&j);
    json_kstr(&j, "status", "success");
    json_kbool(&j, "dry_run", c->req.dry_run);
    json_kint(&j, "freed", (int64_t)freed);
    json_key(&j, "removed");
    json_raw_value(&j, buf_str(&c->lists[0]));
    json_key(&j, "strangers");
    json_raw_value(&j, buf_str(&c->lists[1]));
    json_obj_end(&j);
    return ERR_OK;
}

/* ---- requests -------------------------------------------------------------------------------------- */

static const struct {
    const char *kind, *of_all; /* of_all: what stands for the name in lists */
    enum err_code (*work)(void *user, const struct store_job *job, struct buf *last, struct err *e);
} kinds[] = { [CARE_VERIFY] = { "verify", "all models", verify_work },
              [CARE_PRUNE] = { "prune", "the store", prune_work } };

static void care_done(void *user, enum err_code result)
{
    struct care *c = user;
    (void)result;
    care_request_finish(&c->req);
    buf_finish(&c->lists[0]);
    buf_finish(&c->lists[1]);
    mem_free(c);
}

static enum err_code read_request(struct care *c, const struct http_request *r, struct err *e)
{
    json_t *root = NULL;
    enum err_code code = body_is_empty(r) ? ERR_OK : body_json(r, &root, e);
    return code ? code : care_request_read(root, &c->req, e);
}

void store_care(struct daemon *d, struct http_request *r, int kind)
{
    struct err e = { 0 };
    struct care *c = mem_zero(1, sizeof *c);
    enum err_code code = c ? read_request(c, r, &e) : err_no_memory(&e, sizeof *c, "a request");
    if (code) {
        reply_err(d, r, &e);
        if (c)
            care_done(c, code);
        return;
    }
    c->d = d;
    for (size_t i = 0; i < 2; i++)
        buf_init(&c->lists[i], MAX_LIST);
    json_begin(&c->removed, &c->lists[0]);
    json_begin(&c->strangers, &c->lists[1]);
    store_call_start(d, r, &(struct store_call_options){
        .kind = kinds[kind].kind,
        .name = c->req.model.n ? c->req.model : str_from(kinds[kind].of_all),
        .stream = c->req.stream,
        .user = c,
        .work = kinds[kind].work,
        .done = care_done,
    });
}
