/* The part of the API that makes models: /api/create. The rules are those of protocol.h. */
#ifndef HEARTH_DAEMON_PROTOCOL_CREATE_H
#define HEARTH_DAEMON_PROTOCOL_CREATE_H

#include "daemon/protocol.h"

struct create_request {
    json_t *root;               /* owns what was read; else NULL */
    struct str model;           /* "model" or "name" */
    struct str from;            /* a model's name */
    const json_t *files;        /* {file name: digest}: blobs that were uploaded, or are in the store */
    const json_t *adapters;     /* the same */
    const json_t *paths;        /* ours: [absolute path]: files that the daemon opens */
    const json_t *adapter_paths;
    bool reference;             /* ours: files with a path stay where they are */
    struct str template, system;
    const json_t *license;      /* string or array of strings */
    const json_t *parameters;   /* {name: value} */
    const json_t *messages;     /* [{role, content}] */
    struct str quantize;        /* "quantize" or "quantization" */
    struct str renderer, parser, requires;
    const json_t *info;         /* {capabilities, model_family, ...}: instead of what the files say */
    struct str remote_host;     /* refused, and so is: */
    bool drafts;                /* a "draft_files" that names some */
    bool stream;                /* default true */
};
void create_request_init(struct create_request *r);
/* Takes over `root`. ERR_INVALID: a field of a wrong type, parameters that are known and of a wrong type,
 * a message without role and content. Parameters that are not known are let through, as Ollama does. */
enum err_code create_request_read(json_t *root, struct create_request *r, struct err *e);
void create_request_write(struct buf *out, const struct create_request *r); /* what differs from default */
void create_request_finish(struct create_request *r);

/* A PARAMETER of a Modelfile into `parameters`: one more "stop", else in the place of one of that name.
 * *ignored: it is one that Ollama no longer knows, and nothing was set. ERR_INVALID: none of that name, or a
 * value of a wrong type. */
enum err_code create_parameter_set(json_t *parameters, struct str name, struct str value, bool *ignored,
                                   struct err *e);

#endif
