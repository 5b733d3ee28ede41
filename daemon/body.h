/* The JSON of a request about models and the store.
 *
 *   routes.c ⇒ body_begin: a short body goes to the handler as it is; a longer one is read on a thread of
 *   LANE_WORDS first, so that the loop does not stop for it ⇒ handler ⇒ body_json
 *
 * The number of values is bounded, for the loop walks the tree and frees it. Thread: loop. */
#ifndef HEARTH_DAEMON_BODY_H
#define HEARTH_DAEMON_BODY_H

#include "daemon/routes.h"
#include "runtime/base/json.h"

#define BODY_ON_LOOP 8192      /* bytes that are read on the loop: 1 ms at the most */
#define BODY_MAX_VALUES 32768

/* Calls the handler, now or later. max: of the body's bytes. */
void body_begin(struct daemon *d, struct http_request *r, size_t max, route_handler *handler, int arg);

/* For a handler, before it returns. The caller json_decref()s. An empty body is ERR_INVALID. */
enum err_code body_json(const struct http_request *r, json_t **root, struct err *e);
bool body_is_empty(const struct http_request *r);

#endif
