/* Every route of the API as one table, and the handlers that its rows name. */
#ifndef HEARTH_DAEMON_ROUTES_H
#define HEARTH_DAEMON_ROUTES_H

#include "daemon/daemon.h"

typedef void route_handler(struct daemon *d, struct http_request *r, int arg); /* one shape for all */

/* Hands a request to its handler, or answers 404 or 405. */
void routes_dispatch(struct daemon *d, struct http_request *r);
/* Whether the request's handler takes its body as it comes (http.h). */
bool routes_streams(const struct http_request *r);
void routes_help(struct buf *out); /* method, path, sentence: one line each */

/* models_api.c */
route_handler models_version, models_key, models_tags, models_ps, models_show, models_copy, models_delete;
/* bundle_api.c */
route_handler bundle_export;
/* transfer_api.c */
route_handler transfer_import, transfer_stop;
/* quantize_api.c, adopt_api.c */
route_handler transfer_quantize, transfer_adopt;
/* pull_api.c; arg: an enum pull_route */
enum pull_route { PULL_PULL, PULL_PUSH, PULL_OUTDATED };
route_handler transfer_pull;
/* care_api.c; arg: an enum care_route */
enum care_route { CARE_VERIFY, CARE_PRUNE };
route_handler store_care;
/* create_api.c */
route_handler models_create;
/* blobs_api.c */
route_handler blobs_head, blobs_post;
/* health_api.c */
route_handler health_root, health_live, health_ready, health_metrics;

/* Counts the status, replies b as JSON (or 500 where it could not be built), frees b. */
void reply_json(struct daemon *d, struct http_request *r, int status, struct buf *b);
void reply_err(struct daemon *d, struct http_request *r, const struct err *e);
/* A path is opened for whoever may open it without us: ERR_FORBIDDEN for all but a client of the daemon's own
 * user on the Unix socket. */
enum err_code path_allowed(const struct http_request *r, struct err *e);

#endif
