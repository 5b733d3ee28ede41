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

#endif
