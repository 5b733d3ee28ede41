/* /api/quantize: a model, or a file of this machine, made into one of a smaller type. */

#include "daemon/body.h"
#include "daemon/protocol_local.h"
#include "daemon/quantize.h"
#include "daemon/routes.h"
#include "daemon/store_job.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

struct quantize {
    struct daemon *d;
    struct quantize_request req;
};

static void put_made(struct buf *out, const struct store_model *m)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kstr(&j, "status", "success");
    json_kstr(&j, "model", m->name);
    json_kstr(&j, "digest", m->digest_hex);
    json_kint(&j, "size", (int64_t)m->size);
    json_obj_end(&j);
}

static enum err_code quantize_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct quantize *q = user;
    struct quantize_writer writer;
    struct store_model *m = NULL;
    enum err_code c = quantize_writer_init(&writer, q->req.type.p, e);
    if (!c) {
        struct store_derive in = {
            .from = q->req.model.n ? q->req.model.p : NULL,
            .from_path = q->req.path.p,
            .to = q->req.destination.p,
            .writer = &writer.writer,
            .job = *job,
        };
        c = store_derive(q->d->store, &in, &m, e);
    }
    if (!c)
        put_made(last, m);
    store_model_destroy(m);
    quantize_writer_finish(&writer);
    return c;
}

static void quantize_free(struct quantize *q)
{
    quantize_request_finish(&q->req);
    mem_free(q);
}

static void quantize_done(void *user, enum err_code result)
{
    (void)result;
    quantize_free(user);
}

static enum err_code read_request(struct quantize *q, const struct http_request *r, struct err *e)
{
    json_t *root = NULL;
    enum err_code c = body_json(r, &root, e);
    c = c ? c : quantize_request_read(root, &q->req, e);
    c = c ? c : quantizer_check(q->req.type.p, e); /* before the first line, so that it has its status */
    return c || !q->req.path.n ? c : path_allowed(r, e);
}

void transfer_quantize(struct daemon *d, struct http_request *r, int arg)
{
    (void)arg;
    struct err e = { 0 };
    struct quantize *q = mem_zero(1, sizeof *q);
    enum err_code c = q ? read_request(q, r, &e) : err_no_memory(&e, sizeof *q, "a request");
    if (c) {
        reply_err(d, r, &e);
        if (q)
            quantize_free(q);
        return;
    }
    q->d = d;
    store_call_start(d, r, &(struct store_call_options){
        .kind = "quantize",
        .name = q->req.destination,
        .stream = q->req.stream,
        .user = q,
        .work = quantize_work,
        .done = quantize_done,
    });
}
