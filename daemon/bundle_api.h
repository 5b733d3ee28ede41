/* Bundles behind the API: what transfer_api.c asks of bundle_api.c. */
#ifndef HEARTH_DAEMON_BUNDLE_API_H
#define HEARTH_DAEMON_BUNDLE_API_H

#include "daemon/daemon.h"
#include "store/bundle.h"

/* An open file that is a bundle; `as` may be NULL. last: {"status": "success", "models": [{model, digest, size}]}.
 * Thread: a lane's. */
enum err_code bundle_import(struct daemon *d, int fd, const char *path, const char *as, const struct store_job *job,
                            struct buf *last, struct err *e);

#endif
