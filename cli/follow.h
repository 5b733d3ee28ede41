/* A long call of the daemon, followed to its end: bars on a terminal, lines in a pipe, the events
 * themselves with --json. */
#ifndef HEARTH_CLI_FOLLOW_H
#define HEARTH_CLI_FOLLOW_H

#include "cli/cli.h"

/* POSTs `body` to `path`. *last (may be NULL): the last line, to be json_decref()ed; NULL where there is
 * none. With --detach it returns as soon as the daemon has begun (ERR_OK, no last).
 * ERR_CANCELLED: Ctrl-C; the daemon has stopped the work. */
enum err_code follow_call(struct cli *c, const char *path, struct str body, json_t **last,
                          struct err *e);

#endif
