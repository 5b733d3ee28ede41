/* HTTP/1.1 as the command speaks it: one request, one connection, JSON both ways.
 *
 * Errors carry the daemon's own sentence and the code that its status stands for. Ctrl-C ends any
 * call with ERR_CANCELLED and closes the connection, by which the daemon stops the work.
 * Thread: a client belongs to one thread at a time. */
#ifndef HEARTH_CLI_CLIENT_H
#define HEARTH_CLI_CLIENT_H

#include <jansson.h>
#include <sys/types.h>

#include "cli/reach.h"
#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define CLIENT_MAX_REPLY ((size_t)512 << 20) /* a whole reply that is not a stream */

struct client {
    struct reach reach;
    const char *api_key; /* HEARTH_API_KEY or NULL; sent to every daemon */
    /* Called about once a second while a reply is waited for and nothing comes; not ERR_OK ends the call
     * with it. NULL: nothing. */
    enum err_code (*idle)(void *user, struct err *e);
    void *idle_user;
    int peer_pid;        /* of the last daemon reached over a Unix socket; else 0 */
    uid_t peer_uid;      /* and its user; else -1 */
};
enum err_code client_init(struct client *c, const char *host, const struct interrupt *i,
                          struct err *e);

/* The whole reply into `reply` (initialised by the callee, buf_finish by the caller, also on
 * failure). An empty body sends none. */
enum err_code client_call(struct client *c, const char *method, const char *path, struct str body,
                          struct buf *reply, struct err *e);
/* The same, parsed; *root is NULL for an empty reply. The caller json_decref()s. */
enum err_code client_json(struct client *c, const char *method, const char *path, struct str body,
                          json_t **root, struct err *e);
/* POSTs a file's `size` bytes; `sent` (may be NULL) hears how far it is. */
enum err_code client_send_file(struct client *c, const char *path, int fd, uint64_t size,
                               void (*sent)(void *user, uint64_t sent, uint64_t size), void *user,
                               struct err *e);

/* One line of NDJSON: `root` is the callee's to read, `raw` its text. Not ERR_OK ends the call. */
typedef enum err_code client_line(void *user, json_t *root, struct str raw, struct err *e);
/* POST; `line` sees every line as it comes, but for {"error": ...}, which becomes the result.
 * A single JSON reply is one line. */
enum err_code client_stream(struct client *c, const char *path, struct str body, client_line *line,
                            void *user, struct err *e);

#endif
