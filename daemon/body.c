#include "daemon/body.h"

#include "runtime/base/mem.h"

#define OWNER(type, member, p) ((type *)(void *)((char *)(p) - offsetof(type, member)))

struct body {
    struct job job;
    struct daemon *d;
    struct http_request *http;
    route_handler *handler;
    int arg;
    char *text;      /* until it is read */
    size_t n, max;
    json_t *root;    /* until body_json takes it */
    struct err err;
};

static enum err_code read_text(struct str text, size_t max, json_t **root, struct err *e)
{
    return json_read_bounded(text, max, BODY_MAX_VALUES, "request body", root, e);
}

static void work_read(struct job *j)
{
    struct body *b = OWNER(struct body, job, j);
    b->err.code = read_text((struct str){ b->text, b->n }, b->max, &b->root, &b->err);
    mem_free(b->text);
    b->text = NULL;
}

static void free_body(struct body *b)
{
    json_decref(b->root);
    mem_free(b->text);
    mem_free(b);
}

static void done_read(struct job *j)
{
    struct body *b = OWNER(struct body, job, j);
    struct http_request *r = b->http;
    r->read = b;
    b->handler(b->d, r, b->arg);
    free_body(b);
}

static enum err_code start(struct body *b, struct err *e)
{
    b->text = http_take_body(b->http, &b->n);
    if (!b->text)
        return err_no_memory(e, b->n, "a request");
    b->job = (struct job){ .work = work_read, .done = done_read };
    return jobs_submit(b->d->jobs, LANE_WORDS, &b->job, e);
}

void body_begin(struct daemon *d, struct http_request *r, size_t max, route_handler *handler, int arg)
{
    struct err e;
    if (r->body.n <= BODY_ON_LOOP) {
        handler(d, r, arg);
        return;
    }
    struct body *b = mem_zero(1, sizeof *b);
    if (b) {
        *b = (struct body){ .d = d, .http = r, .handler = handler, .arg = arg, .max = max };
        if (start(b, &e) == ERR_OK)
            return;
        free_body(b);
    } else {
        err_no_memory(&e, sizeof *b, "a request");
    }
    reply_err(d, r, &e);
}

enum err_code body_json(const struct http_request *r, json_t **root, struct err *e)
{
    struct body *b = r->read;
    *root = NULL;
    if (!b && !r->body.n)
        return err_set(e, ERR_INVALID, "missing request body");
    if (!b)
        return read_text(r->body, BODY_ON_LOOP, root, e);
    if (b->err.code)
        return err_set(e, b->err.code, "%s", b->err.text);
    *root = b->root;
    b->root = NULL;
    return ERR_OK;
}

bool body_is_empty(const struct http_request *r)
{
    return !r->read && !r->body.n;
}
