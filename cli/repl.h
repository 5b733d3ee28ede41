/* A conversation: lines in, answers out, slash commands. */
#ifndef HEARTH_CLI_REPL_H
#define HEARTH_CLI_REPL_H

#include "cli/cli.h"

/* Until /bye or Ctrl-D (ERR_OK). Errors of a single question are printed and the conversation goes
 * on; what ends it is a model that cannot be loaded or a terminal that is gone. */
enum err_code repl_run(struct cli *c, struct err *e);

#endif
