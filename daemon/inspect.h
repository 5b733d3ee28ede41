/* What a model file says of itself, in the store's words: for import, pull and create, whose store
 * parses no model file. Thread: any; blocks on the disk. */
#ifndef HEARTH_DAEMON_INSPECT_H
#define HEARTH_DAEMON_INSPECT_H

#include "runtime/base/err.h"
#include "store/store.h"

/* A store_inspect: paths are those of the shards, in order; strings go into the arena. `user` is not
 * used. ERR_FORMAT, ERR_UNSUPPORTED: it is no model that can be run here. */
store_inspect inspect_files;

#endif
