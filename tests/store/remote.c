/* Where a model can be had, for tests that bring the place: one JSON object on stdout.
 *
 *   remote HOME open|revision TEXT [--ca FILE] [--endpoint URL] [--mirror URL] [--token T] [--as NAME]
 *                                  [--insecure] [--offline] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "store/remote.h"

struct options {
    struct store_net net;
    struct store_secrets secrets;
    struct remote_request request;
};

static void take_options(int argc, char **argv, struct options *o)
{
    const struct {
        const char *name;
        const char **to;
        bool *flag;
    } rows[] = { { "--ca", &o->net.ca_file, NULL },        { "--endpoint", &o->net.hf_endpoint, NULL },
                 { "--mirror", &o->net.mirror, NULL },     { "--token", &o->secrets.hf_token, NULL },
                 { "--as", &o->request.as, NULL },         { "--insecure", NULL, &o->request.insecure },
                 { "--offline", NULL, &o->net.offline } };
    for (int i = 4; i < argc; i++) {
        size_t k = 0;
        while (k < sizeof rows / sizeof *rows && strcmp(rows[k].name, argv[i]) != 0)
            k++;
        if (k == sizeof rows / sizeof *rows || (rows[k].to && i + 1 == argc))
            exit(2);
        if (rows[k].to)
            *rows[k].to = argv[++i];
        else
            *rows[k].flag = true;
    }
}

static void put_layer(struct json_out *j, const struct remote_layer *l)
{
    char digest[DIGEST_TEXT_SIZE] = "";
    if (l->has_digest)
        digest_text(&l->digest, digest);
    json_obj(j);
    json_kstr(j, "kind", media_kind_name(l->kind));
    json_kstr(j, "media_type", l->media_type);
    json_kstr(j, "file", l->file_name);
    json_kstr(j, "digest", digest);
    json_kint(j, "size", l->has_size ? (int64_t)l->size : -1);
    json_kstr(j, "url", l->url);
    json_kstr(j, "mirror", l->mirror);
    json_kstr(j, "etag", l->etag);
    json_obj_end(j);
}

static void put_model(struct json_out *j, const struct remote_model *m)
{
    char name[NAME_TEXT_MAX + 1];
    name_short(&m->name, name);
    json_kstr(j, "name", name);
    json_kstr(j, "kind", m->kind);
    json_kstr(j, "source", m->source);
    json_kstr(j, "revision", m->revision);
    json_kstr(j, "license", m->license);
    json_kbool(j, "plain", m->plain);
    json_key(j, "layers");
    json_arr(j);
    for (size_t i = 0; i < m->n_layers; i++)
        put_layer(j, &m->layers[i]);
    json_arr_end(j);
}

static enum err_code ask(struct store *s, const struct options *o, const char *what, struct json_out *j,
                         struct err *e)
{
    const struct transport_options net = { .offline = o->net.offline, .ca_file = o->net.ca_file };
    const struct remote_model *model;
    struct transport *t = NULL;
    struct remote *r = NULL;
    char revision[80] = "";
    enum err_code code = transport_curl_create(&net, &t, e);
    if (!code && strcmp(what, "open") == 0) {
        code = remote_open(s, t, &o->request, &r, &model, e);
        if (!code) {
            const char *value = NULL;
            code = remote_authorize(model->remote, false, &value, e);
            json_kstr(j, "authorization", value);
            put_model(j, model);
        }
    } else if (!code) {
        code = remote_revision(s, t, &o->request, revision, e);
        json_kstr(j, "revision", revision);
    }
    remote_close(r);
    transport_destroy(t);
    return code;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    struct options o = { .request = { .text = argv[3], .secrets = &o.secrets } };
    struct store *s = NULL;
    struct err e = { 0 };
    struct buf out;
    struct json_out j;
    buf_init(&out, (size_t)16 << 20);
    json_begin(&j, &out);
    take_options(argc, argv, &o);
    json_setup();
    json_obj(&j);
    enum err_code code = store_setup(&e);
    if (!code)
        code = store_open(argv[1], &s, &e);
    if (!code)
        code = store_set_net(s, &o.net, &e);
    if (!code)
        code = ask(s, &o, argv[2], &j, &e);
    store_close(s);
    json_kstr(&j, "code", err_name(code));
    json_kstr(&j, "error", e.text);
    json_obj_end(&j);
    if (code && !e.text[0])
        return 3; /* every refusal has a sentence */
    printf("%.*s\n", (int)out.n, out.p);
    buf_finish(&out);
    return 0;
}
