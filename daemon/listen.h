/* The daemon's doors: listening sockets, and what systemd passes and wants to hear.
 * Plain descriptors; http_server_listen serves them. Thread: main, before the loop runs. */
#ifndef HEARTH_DAEMON_LISTEN_H
#define HEARTH_DAEMON_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "daemon/auth.h"
#include "runtime/base/err.h"

#define LISTEN_MAX 16

struct unix_door {
    int fd; /* -1: none */
    char path[108];
    dev_t dev; /* of the socket's file, so that only our own is removed */
    ino_t ino;
};
/* Makes and binds the socket: mode 0600, or 0660 in /run/hearth (a service, for its group), from
 * its first moment on. A socket that nobody listens on is taken over.
 * ERR_CONFLICT: somebody does listen; the sentence names its pid. ERR_USAGE: not a usable path. */
enum err_code listen_unix(const char *path, struct unix_door *d, struct err *e);
void listen_unix_remove(struct unix_door *d); /* unlinks it when it is still ours */

/* "ADDR:PORT", "[V6]:PORT", "localhost:PORT" (both loopbacks), ":PORT" (all addresses).
 * Without a key (auth->keys NULL) only loopback is served: ERR_USAGE else.
 * ERR_CONFLICT: the port is taken. Port 0: any that is free. */
enum err_code listen_tcp(const char *where, const struct auth *auth, int fd[LISTEN_MAX], size_t *n,
                         struct err *e);
/* "127.0.0.1:11434" of a listening socket. */
void listen_name(int fd, char *out, size_t size);

/* Descriptors passed by systemd (LISTEN_FDS, LISTEN_PID); 0 when there are none. The variables are
 * taken out of the environment. */
size_t listen_passed(int fd[LISTEN_MAX]);
/* sd_notify: "READY=1", "STOPPING=1"; nothing where NOTIFY_SOCKET is not set. */
void listen_notify(const char *state);

#endif
