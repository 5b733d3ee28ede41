/* Ctrl-C as something to poll for. SIGINT is blocked and read from a descriptor, so that every
 * wait of the command can end by it and nothing is torn in the middle.
 * Thread: make it before the first other thread; any thread may poll or look. */
#ifndef HEARTH_CLI_INTERRUPT_H
#define HEARTH_CLI_INTERRUPT_H

#include <stdbool.h>

#include "runtime/base/err.h"

struct interrupt {
    int fd; /* readable while a Ctrl-C is waiting; -1: none can */
};
enum err_code interrupt_init(struct interrupt *i, struct err *e);
void interrupt_finish(struct interrupt *i);
void interrupt_release(void); /* gives Ctrl-C back its usual meaning, before an exec */
void interrupt_clear(struct interrupt *i); /* it has been seen to */

/* Waits until `fd` has `events` (poll's) or `timeout_ms` (-1: for ever) have gone by.
 * ERR_CANCELLED: Ctrl-C; ERR_TIMEOUT. `fd` -1 only sleeps. */
enum err_code interrupt_wait(const struct interrupt *i, int fd, short events, int timeout_ms,
                             struct err *e);

#endif
