/* What a model file says of itself, in the store's words: for import, pull and create, whose store
 * parses no model file. Thread: any; blocks on the disk. */
#ifndef HEARTH_DAEMON_INSPECT_H
#define HEARTH_DAEMON_INSPECT_H

#include "runtime/base/err.h"
#include "store/store.h"

struct inspected {
    struct store_facts facts; /* its strings live as long as this */
    struct words *words;
    char capabilities[64];
};
/* path: of the model's first file. inspected_finish in any case. ERR_FORMAT, ERR_UNSUPPORTED: it
 * is none that can be run here. */
enum err_code inspect_file(const char *path, struct inspected *out, struct err *e);
void inspected_finish(struct inspected *i);

#endif
