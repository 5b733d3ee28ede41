#include "daemon/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- Unix socket -------------------------------------------------------------------------------- */

static enum err_code fill_path(const char *path, struct sockaddr_un *a, struct err *e)
{
    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    int n = snprintf(a->sun_path, sizeof a->sun_path, "%s", path);
    if (n <= 0 || (size_t)n >= sizeof a->sun_path)
        return err_set(e, ERR_USAGE, "the socket's path must have 1 to %zu bytes: %s",
                       sizeof a->sun_path - 1, path);
    return ERR_OK;
}

/* Is there a socket that somebody answers on? Anything else than a socket is left alone. */
static enum err_code check_taken(const char *path, struct err *e)
{
    struct sockaddr_un a;
    struct stat st;
    if (lstat(path, &st))
        return errno == ENOENT ? ERR_OK : err_errno(e, ERR_IO, errno, "looking at %s", path);
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_USAGE, "%s is there and is no socket", path);
    if (fill_path(path, &a, e))
        return ERR_USAGE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "making a socket");
    enum err_code c = ERR_OK;
    struct ucred cred;
    socklen_t n = sizeof cred;
    if (connect(fd, (void *)&a, sizeof a) == 0 || errno == EAGAIN) {
        bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0 && cred.pid > 0;
        c = known ? err_set(e, ERR_CONFLICT, "process %d already serves %s", (int)cred.pid, path)
                  : err_set(e, ERR_CONFLICT, "another process already serves %s", path);
    } else if (errno != ECONNREFUSED && errno != ENOENT) {
        c = err_errno(e, ERR_IO, errno, "trying the socket %s", path);
    }
    close(fd);
    return c;
}

/* Bound and listening under a name beside the final one, then renamed onto it: nobody sees it
 * half made, and a stale one is replaced in one step. */
static enum err_code bind_at(int fd, const char *path, struct err *e)
{
    char beside[128];
    struct sockaddr_un a;
    snprintf(beside, sizeof beside, "%s.%d", path, (int)getpid());
    if (fill_path(beside, &a, NULL) && fill_path(path, &a, e))
        return ERR_USAGE;
    unlink(a.sun_path);
    bool service = strncmp(path, "/run/hearth/", 12) == 0;
    mode_t old = umask(service ? 0117 : 0177);
    int rc = bind(fd, (void *)&a, sizeof a);
    umask(old);
    if (rc)
        return err_errno(e, ERR_IO, errno, "binding the socket %s", path);
    if (listen(fd, 1024) || (strcmp(a.sun_path, path) != 0 && rename(a.sun_path, path))) {
        err_errno(e, ERR_IO, errno, "listening on %s", path);
        unlink(a.sun_path);
        return ERR_IO;
    }
    return ERR_OK;
}

enum err_code listen_unix(const char *path, struct unix_door *d, struct err *e)
{
    *d = (struct unix_door){ .fd = -1 };
    struct sockaddr_un a;
    struct stat st;
    enum err_code c = fill_path(path, &a, e);
    if (c || (c = check_taken(path, e)))
        return c;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "making a socket");
    c = bind_at(fd, path, e);
    if (!c && lstat(path, &st))
        c = err_errno(e, ERR_IO, errno, "looking at %s", path);
    if (c) {
        close(fd);
        return c;
    }
    d->fd = fd;
    snprintf(d->path, sizeof d->path, "%s", path);
    d->dev = st.st_dev;
    d->ino = st.st_ino;
    return ERR_OK;
}

void listen_unix_remove(struct unix_door *d)
{
    struct stat st;
    if (*d->path && lstat(d->path, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino)
        unlink(d->path);
    *d->path = '\0';
}

/* ---- TCP ----------------------------------------------------------------------------------------- */

static enum err_code bind_tcp(const struct addrinfo *ai, const char *where, int *out, struct err *e)
{
    int on = 1;
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "making a socket for %s", where);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) || listen(fd, 1024)) {
        enum err_code c = errno == EADDRINUSE ? ERR_CONFLICT : ERR_IO;
        c = c == ERR_CONFLICT ? err_set(e, c, "the port of %s is taken by another program", where)
                              : err_errno(e, c, errno, "listening on %s", where);
        close(fd);
        return c;
    }
    *out = fd;
    return ERR_OK;
}

static enum err_code split(const char *where, char host[256], char port[8], struct err *e)
{
    const char *colon = strrchr(where, ':');
    size_t n = colon ? (size_t)(colon - where) : 0;
    const char *p = where;
    if (n > 1 && p[0] == '[' && p[n - 1] == ']') {
        p++;
        n -= 2;
    }
    bool digits = colon && colon[1] && strlen(colon + 1) <= 5 &&
                  strspn(colon + 1, "0123456789") == strlen(colon + 1);
    if (!digits || n >= 256 || strtol(colon + 1, NULL, 10) > 65535)
        return err_set(e, ERR_USAGE, "'%s' is not ADDR:PORT", where);
    memcpy(host, p, n);
    host[n] = '\0';
    snprintf(port, 8, "%s", colon + 1);
    return ERR_OK;
}

enum err_code listen_tcp(const char *where, const struct auth *auth, int fd[LISTEN_MAX], size_t *n,
                         struct err *e)
{
    char host[256], port[8];
    *n = 0;
    if (split(where, host, port, e))
        return ERR_USAGE;
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM }, *list;
    bool named = strcmp(host, "localhost") == 0;
    hints.ai_flags = AI_NUMERICSERV | (*host ? 0 : AI_PASSIVE) | (named ? 0 : AI_NUMERICHOST);
    int rc = getaddrinfo(*host ? host : NULL, port, &hints, &list);
    if (rc)
        return err_set(e, ERR_USAGE, "'%s' is not ADDR:PORT: %s", where, gai_strerror(rc));
    enum err_code c = ERR_OK;
    for (const struct addrinfo *ai = list; ai && !c && *n < LISTEN_MAX; ai = ai->ai_next) {
        if (!auth->keys && !auth_is_loopback(ai->ai_addr))
            c = err_set(e, ERR_USAGE,
                        "%s is reachable from other machines: give --api-key-file, or listen on "
                        "127.0.0.1",
                        where);
        else
            c = bind_tcp(ai, where, &fd[*n], e);
        if (!c)
            ++*n;
        else if (c == ERR_IO && *n) /* localhost without IPv6: one of both is enough */
            c = ERR_OK;
    }
    freeaddrinfo(list);
    while (c && *n)
        close(fd[--*n]);
    return c;
}

void listen_name(int fd, char *out, size_t size)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[64], port[16];
    snprintf(out, size, "?");
    if (getsockname(fd, (void *)&a, &n))
        return;
    if (a.ss_family == AF_UNIX)
        snprintf(out, size, "%s", ((struct sockaddr_un *)(void *)&a)->sun_path);
    else if (!getnameinfo((void *)&a, n, host, sizeof host, port, sizeof port,
                          NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(out, size, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

/* ---- systemd -------------------------------------------------------------------------------------- */

size_t listen_passed(int fd[LISTEN_MAX])
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    size_t n = 0;
    if (pid && count && strtol(pid, NULL, 10) == (long)getpid()) {
        long want = strtol(count, NULL, 10);
        for (int i = 0; i < want && n < LISTEN_MAX; i++) {
            int flags = fcntl(3 + i, F_GETFL);
            if (flags < 0)
                continue;
            fcntl(3 + i, F_SETFD, FD_CLOEXEC);
            fcntl(3 + i, F_SETFL, flags | O_NONBLOCK);
            fd[n++] = 3 + i;
        }
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return n;
}

void listen_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof a.sun_path)
        return;
    size_t n = strlen(path);
    memcpy(a.sun_path, path, n);
    if (*path == '@')
        a.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    sendto(fd, state, strlen(state), MSG_NOSIGNAL, (void *)&a,
           (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    close(fd);
}
