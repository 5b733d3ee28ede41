/* URLs as text, and what the hub and plain URLs ask of a transport in the same way.
 * Thread: that of the job. */
#ifndef HEARTH_STORE_WEB_H
#define HEARTH_STORE_WEB_H

#include "store/job.h"
#include "store/transport.h"

/* host, without a port: localhost or 127.x.y.z */
bool web_is_loopback(struct str host);
/* Checks that `url` is https, or http where that is wanted (`insecure`) or leads to this machine. *plain:
 * for transport_request. ERR_INVALID: no URL (origin.h). ERR_FORBIDDEN: http. `what` names it in the
 * sentence ("HF_ENDPOINT"). */
enum err_code web_check(struct str url, bool insecure, const char *what, bool *plain, struct err *e);
/* Appends `path` with %XX for all but letters, digits and -_.~ (and '/' where `slashes`). */
void web_escape(struct buf *b, struct str path, bool slashes);
/* Appends what %XX stands for. False: a '%' without two hex digits, or a NUL byte. */
bool web_unescape(struct buf *b, struct str text);

/* transport_fetch, which waits and asks again after 429 and 503: 5 times, at most a minute each.
 * ERR_BUSY: the server still says so, or asks for more patience. The rest is the caller's to judge. */
enum err_code web_fetch(struct transport *t, const struct transport_request *r,
                        const struct store_job *job, struct buf *body, struct transfer **out,
                        struct err *e);

#endif
