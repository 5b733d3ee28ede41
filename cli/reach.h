/* Finding the daemon: which address, a connected socket, and a daemon of the user's own when none
 * answers and none was named. Thread: any; nothing is kept between calls. */
#ifndef HEARTH_CLI_REACH_H
#define HEARTH_CLI_REACH_H

#include <stdbool.h>

#include "cli/interrupt.h"
#include "runtime/base/err.h"

#define REACH_SERVICE_SOCKET "/run/hearth/hearth.sock"

enum reach_kind { REACH_UNIX, REACH_TCP };
struct reach_target {
    enum reach_kind kind;
    char path[108];  /* of the Unix socket */
    char host[256], port[16];
    char label[300]; /* as a person would write it */
};

struct reach {
    struct reach_target named; /* --host or HEARTH_HOST */
    bool has_named;
    struct reach_target found; /* the one that answered last */
    bool may_start;            /* start a daemon for the user when none answers */
    const struct interrupt *interrupt;
};
/* `host` (may be NULL) is --host; else HEARTH_HOST counts. "unix:///path", "/path",
 * "http://host:port", "host:port", "host". ERR_USAGE. */
enum err_code reach_init(struct reach *r, const char *host, const struct interrupt *i,
                         struct err *e);
/* A connected, blocking-free socket (O_NONBLOCK, close-on-exec); the caller closes it.
 * ERR_NO_DAEMON: none answers, or one that is there refuses; the sentence says what to do. */
enum err_code reach_connect(struct reach *r, int *fd, struct err *e);
/* The path of hearthd: beside this program, else on the PATH. */
enum err_code reach_find_daemon(char *path, size_t size, struct err *e);

#endif
