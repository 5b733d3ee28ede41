/* Uploads: what the daemon keeps of them beside its routes. Thread: loop. */
#ifndef HEARTH_DAEMON_BLOBS_H
#define HEARTH_DAEMON_BLOBS_H

#include "daemon/daemon.h"
#include "store/upload.h"

/* Those under way end with an error: the daemon is going. */
void blobs_stop_all(struct daemon *d);

#endif
