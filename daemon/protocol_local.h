/* The part of the API about models that are on this machine already: quantising one, and adopting those of
 * other programs. The rules are those of protocol.h. */
#ifndef HEARTH_DAEMON_PROTOCOL_LOCAL_H
#define HEARTH_DAEMON_PROTOCOL_LOCAL_H

#include "daemon/protocol.h"

/* /api/quantize; its events are those of protocol_transfer.h. Strings end with NUL where they were read. */
struct quantize_request {
    json_t *root;
    struct str model;       /* of the store; or */
    struct str path;        /* of this machine, absolute: only over the Unix socket, from the daemon's user */
    struct str destination; /* what the new model is called */
    struct str type;        /* "quantize": "Q4_K_M" */
    bool stream;            /* default true */
};
enum err_code quantize_request_read(json_t *root, struct quantize_request *r, struct err *e); /* takes over root */
void quantize_request_write(struct buf *out, const struct quantize_request *r);
void quantize_request_finish(struct quantize_request *r);

/* /api/adopt: paths are of this machine, so only over the Unix socket, from the daemon's user. Without names
 * and `all` it only lists. Events as of /api/quantize; the last line is adopt_reply's. */
struct adopt_where {
    struct str kind, path; /* "ollama", "huggingface", "lm-studio", "llama.cpp", "directory"; absolute */
};
#define ADOPT_MAX_ROOTS 32
#define ADOPT_MAX_NAMES 1000
struct adopt_request {
    json_t *root;
    struct adopt_where roots[ADOPT_MAX_ROOTS];
    size_t n_roots;
    struct str *names; /* mem_alloc'ed */
    size_t n_names;
    bool all, stream;  /* stream: default true */
};
enum err_code adopt_request_read(json_t *root, struct adopt_request *r, struct err *e); /* takes over root */
void adopt_request_write(struct buf *out, const struct adopt_request *r);
void adopt_request_finish(struct adopt_request *r); /* names, and root when there is one */

struct adopt_entry {
    struct str name, kind, path;
    struct str family, quantization;
    uint64_t size;
    bool here, adopted;    /* here: the store had a model of this name; adopted: by this call */
    struct str problem;    /* why it cannot be, or was not */
};
struct adopt_remark {
    struct str path, why;
};
struct adopt_reply {
    struct adopt_entry *models; /* when read: one block, mem_free both; strings borrow from the tree */
    size_t n_models;
    struct adopt_remark *notes;
    size_t n_notes;
};
/* One object without a newline, "status": "success" among it. */
void adopt_reply_write(struct buf *out, const struct adopt_reply *r);
enum err_code adopt_reply_read(const json_t *root, struct adopt_reply *r, struct err *e);
void adopt_reply_finish(struct adopt_reply *r);

#endif
