#include "cli/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/term.h"
#include "runtime/base/clock.h"
#include "runtime/base/str.h"

#define CONNECT_MS 5000
#define START_MS 15000
#define AGAIN_MS 20
#define STATUS_ANOTHER 3 /* hearthd: another has the store or the socket */
#define DEFAULT_PORT "11434"
#define LAST_WORDS_SIZE 300

extern char **environ;

/* ---- addresses ------------------------------------------------------------------------------- */

static enum err_code target_unix(struct reach_target *t, const char *path, struct err *e)
{
    *t = (struct reach_target){ .kind = REACH_UNIX };
    if (path[0] != '/')
        return err_set(e, ERR_USAGE, "socket path \"%s\" is not absolute", path);
    if (strlen(path) >= sizeof t->path)
        return err_set(e, ERR_USAGE, "socket path \"%s\" is longer than %zu bytes", path,
                       sizeof t->path - 1);
    snprintf(t->path, sizeof t->path, "%s", path);
    snprintf(t->label, sizeof t->label, "unix://%s", path);
    return ERR_OK;
}

static bool port_good(struct str s)
{
    long value = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9' || i > 4)
            return false;
        value = value * 10 + (s.p[i] - '0');
    }
    return s.n > 0 && value > 0 && value < 65536;
}

/* "host", "host:port", "[::1]:port" */
static enum err_code target_tcp(struct reach_target *t, struct str s, const char *default_port,
                                struct err *e)
{
    struct str host = s, port = str_from(default_port);
    const char *bracket = s.n && s.p[0] == '[' ? memchr(s.p, ']', s.n) : NULL;
    const char *colon = bracket ? (bracket + 1 < s.p + s.n && bracket[1] == ':' ? bracket + 1 : NULL)
                                : memrchr(s.p, ':', s.n);

    *t = (struct reach_target){ .kind = REACH_TCP };
    if (colon) {
        host.n = (size_t)(colon - s.p);
        port = (struct str){ colon + 1, s.n - host.n - 1 };
    }
    if (bracket)
        host = (struct str){ s.p + 1, (size_t)(bracket - s.p) - 1 };
    if (host.n == 0 || host.n >= sizeof t->host || !port_good(port))
        return err_set(e, ERR_USAGE, "\"%.*s\" is no host:port", (int)s.n, s.p);
    snprintf(t->host, sizeof t->host, "%.*s", (int)host.n, host.p);
    snprintf(t->port, sizeof t->port, "%.*s", (int)port.n, port.p);
    snprintf(t->label, sizeof t->label, bracket ? "http://[%s]:%s" : "http://%s:%s", t->host, t->port);
    return ERR_OK;
}

static enum err_code target_parse(struct reach_target *t, const char *text, struct err *e)
{
    struct str s = str_from(text);

    if (str_starts(s, STR("unix://")))
        return target_unix(t, text + 7, e);
    if (text[0] == '/')
        return target_unix(t, text, e);
    if (str_starts(s, STR("https://")))
        return err_set(e, ERR_USAGE,
                       "\"%s\": the command speaks plain HTTP; reach a remote daemon through ssh -L", text);
    if (str_starts(s, STR("http://"))) {
        s = (struct str){ s.p + 7, s.n - 7 };
        if (s.n && s.p[s.n - 1] == '/')
            s.n--;
        return target_tcp(t, s, "80", e);
    }
    return target_tcp(t, s, DEFAULT_PORT, e);
}

enum err_code reach_init(struct reach *r, const char *host, const struct interrupt *i,
                         struct err *e)
{
    const char *name = host ? host : getenv("HEARTH_HOST");

    *r = (struct reach){ .may_start = true, .interrupt = i };
    if (!name || !*name)
        return ERR_OK;
    r->has_named = true;
    if (target_parse(&r->named, name, e) == ERR_OK)
        return ERR_OK;
    return err_prefix(e, "%s", host ? "--host" : "HEARTH_HOST");
}

/* Where a daemon of this user listens. */
static enum err_code user_socket(struct reach_target *t, struct err *e)
{
    const char *socket = getenv("HEARTH_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR"),
               *home = getenv("HEARTH_HOME"), *data = getenv("XDG_DATA_HOME"),
               *user = getenv("HOME");
    char path[512];

    if (socket && strcmp(socket, "off") == 0)
        return err_set(e, ERR_USAGE, "HEARTH_SOCKET is off: name the daemon by --host");
    if (socket && *socket)
        return target_unix(t, socket, e);
    if (runtime && *runtime)
        snprintf(path, sizeof path, "%s/hearth.sock", runtime);
    else if (home && *home)
        snprintf(path, sizeof path, "%s/hearth.sock", home);
    else if (data && *data)
        snprintf(path, sizeof path, "%s/hearth/hearth.sock", data);
    else if (user && *user)
        snprintf(path, sizeof path, "%s/.local/share/hearth/hearth.sock", user);
    else
        return err_set(e, ERR_NO_DAEMON, "neither HEARTH_HOST, XDG_RUNTIME_DIR nor HOME is set");
    return target_unix(t, path, e);
}

/* ---- connecting ------------------------------------------------------------------------------ */

/* 0, or the errno of the failure; *fd is then -1. */
static int connect_address(const struct sockaddr *address, socklen_t size, const struct reach *r,
                           int *fd, struct err *e)
{
    int error = 0;
    socklen_t n = sizeof error;

    *fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*fd < 0)
        return errno;
    if (connect(*fd, address, size) == 0)
        return 0;
    error = errno;
    if (error == EINPROGRESS || error == EAGAIN) {
        enum err_code code = interrupt_wait(r->interrupt, *fd, POLLOUT, CONNECT_MS, e);
        error = code == ERR_CANCELLED ? EINTR : code != ERR_OK ? ETIMEDOUT : 0;
        if (error == 0 && getsockopt(*fd, SOL_SOCKET, SO_ERROR, &error, &n) != 0)
            error = errno;
        if (error == 0)
            return 0;
    }
    close(*fd);
    *fd = -1;
    return error;
}

static int connect_unix(const struct reach_target *t, const struct reach *r, int *fd, struct err *e)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    snprintf(address.sun_path, sizeof address.sun_path, "%s", t->path);
    return connect_address((const struct sockaddr *)&address, sizeof address, r, fd, e);
}

/* Names are looked up with Ctrl-C at its usual work, for the resolver cannot be polled. */
static int look_up(const struct reach_target *t, struct addrinfo **list)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
    sigset_t old;
    int rc;

    pthread_sigmask(SIG_SETMASK, NULL, &old);
    interrupt_release();
    rc = getaddrinfo(t->host, t->port, &hints, list);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

static enum err_code refused(const struct reach_target *t, int error, struct err *e)
{
    if (error == EINTR)
        return err_set(e, ERR_CANCELLED, "interrupted");
    if (t->kind == REACH_UNIX && (error == EACCES || error == EPERM))
        return err_set(e, ERR_NO_DAEMON,
                       "no permission to use %s: it belongs to another user or to the service "
                       "(become a member of group hearth, or name a daemon by --host)", t->path);
    if (t->kind == REACH_UNIX && error == ECONNREFUSED)
        return err_set(e, ERR_NO_DAEMON,
                       "%s is there but nothing answers on it: start the daemon with "
                       "`hearth serve`, which takes the socket over", t->path);
    return err_errno(e, ERR_NO_DAEMON, error, "no daemon answers at %s", t->label);
}

static enum err_code connect_tcp(const struct reach_target *t, const struct reach *r, int *fd,
                                 struct err *e)
{
    struct addrinfo *list = NULL;
    int error = ECONNREFUSED, rc = look_up(t, &list);

    if (rc != 0)
        return err_set(e, ERR_NO_DAEMON, "cannot look up %s: %s", t->host, gai_strerror(rc));
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        error = connect_address(a->ai_addr, a->ai_addrlen, r, fd, e);
        if (error == 0 || error == EINTR)
            break;
    }
    freeaddrinfo(list);
    return error == 0 ? ERR_OK : refused(t, error, e);
}

static enum err_code connect_named(struct reach *r, const struct reach_target *t, int *fd,
                                   struct err *e)
{
    int error;

    r->found = *t;
    if (t->kind == REACH_TCP)
        return connect_tcp(t, r, fd, e);
    error = connect_unix(t, r, fd, e);
    return error == 0 ? ERR_OK : refused(t, error, e);
}

/* ---- a daemon of the user's own ---------------------------------------------------------------- */

static bool executable(const char *path)
{
    struct stat s;

    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

enum err_code reach_find_daemon(char *path, size_t size, struct err *e)
{
    char self[512];
    const char *list = getenv("PATH");
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n > 0) {
        self[n] = '\0';
        *strrchr(self, '/') = '\0';
        if ((size_t)snprintf(path, size, "%s/hearthd", self) < size && executable(path))
            return ERR_OK;
    }
    while (list && *list) {
        size_t part = strcspn(list, ":");
        if ((size_t)snprintf(path, size, "%.*s/hearthd", (int)part, list) < size && part > 0 &&
            executable(path))
            return ERR_OK;
        list += part + (list[part] == ':');
    }
    return err_set(e, ERR_NO_DAEMON,
                   "no daemon answers, and hearthd is neither beside this command nor on the PATH");
}

/* Its log is the user's state, not the store's: the store holds nothing but its own. */
static int open_log(char *path, size_t size)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char folder[512];

    if (state && *state)
        snprintf(folder, sizeof folder, "%s/hearth", state);
    else
        snprintf(folder, sizeof folder, "%s/.local/state/hearth", home ? home : "/tmp");
    for (char *p = folder + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(folder, 0700);
        *p = '/';
    }
    mkdir(folder, 0700);
    snprintf(path, size, "%s/hearthd.log", folder);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static enum err_code spawn_daemon(const char *daemon, char *log, size_t log_size, pid_t *pid,
                                  struct err *e)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    char *const argv[] = { (char[]){ "hearthd" }, NULL };
    int fd = open_log(log, log_size), rc;

    if (fd < 0)
        return err_errno(e, ERR_NO_DAEMON, errno, "cannot write the daemon's log %s", log);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, fd, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK);
    rc = posix_spawn(pid, daemon, &files, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    close(fd);
    if (rc != 0)
        return err_errno(e, ERR_NO_DAEMON, rc, "cannot start %s", daemon);
    return ERR_OK;
}

/* What it said last, less its name; "": nothing that can be read. */
static void last_words(const char *log, char out[LAST_WORDS_SIZE])
{
    char tail[LAST_WORDS_SIZE];
    struct stat st;
    struct buf clean;
    int fd = open(log, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t from = fd >= 0 && fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof tail ? st.st_size - (off_t)sizeof tail : 0;
    ssize_t n = fd < 0 ? -1 : pread(fd, tail, sizeof tail, from);
    struct str line = { tail, n > 0 ? (size_t)n : 0 };

    if (fd >= 0)
        close(fd);
    while (line.n && line.p[line.n - 1] == '\n')
        line.n--;
    const char *before = line.n ? memrchr(line.p, '\n', line.n) : NULL;
    if (before)
        line = (struct str){ before + 1, line.n - (size_t)(before + 1 - line.p) };
    if (str_starts(line, STR("hearthd: ")))
        line = (struct str){ line.p + 9, line.n - 9 };
    buf_init(&clean, LAST_WORDS_SIZE - 1);
    term_clean(&clean, line);
    snprintf(out, LAST_WORDS_SIZE, "%s", clean.n ? clean.p : "");
    buf_finish(&clean);
}

/* How a daemon that was started has ended, in words. */
static enum err_code ended(int status, const char *log, struct err *e)
{
    char words[LAST_WORDS_SIZE];

    last_words(log, words);
    return err_set(e, ERR_NO_DAEMON, "hearthd was started but ended with %s %d%s%s (its log is %s)",
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), words[0] ? ": " : "", words, log);
}

/* Starts a daemon and waits for its socket. One that ends with status 3 has found another at the
 * store: either one that a second command started in the same moment, which will answer, or one that
 * is about to end, after which the next will do. */
static enum err_code start_daemon(struct reach *r, const struct reach_target *t, int *fd,
                                  struct err *e)
{
    int64_t end = clock_ns() + (int64_t)START_MS * 1000000;
    char daemon[1024], log[600];
    pid_t pid = 0;
    enum err_code code = reach_find_daemon(daemon, sizeof daemon, e);

    r->found = *t;
    while (code == ERR_OK && clock_ns() < end) {
        int status = 0, error;
        if (pid == 0 && (code = spawn_daemon(daemon, log, sizeof log, &pid, e)) != ERR_OK)
            return code;
        error = connect_unix(t, r, fd, e);
        if (error == 0)
            return ERR_OK;
        if (error == EINTR || interrupt_wait(r->interrupt, -1, 0, AGAIN_MS, e) == ERR_CANCELLED)
            return err_set(e, ERR_CANCELLED, "interrupted");
        if (waitpid(pid, &status, WNOHANG) != pid)
            continue;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS_ANOTHER)
            return ended(status, log, e);
        pid = 0;
    }
    if (code != ERR_OK)
        return code;
    return err_set(e, ERR_NO_DAEMON, "hearthd was started but %s does not answer after %d s: see %s",
                   t->path, START_MS / 1000, log);
}

enum err_code reach_connect(struct reach *r, int *fd, struct err *e)
{
    struct reach_target user, service;
    enum err_code code;
    int error;

    *fd = -1;
    if (r->has_named)
        return connect_named(r, &r->named, fd, e);
    if ((code = user_socket(&user, e)) != ERR_OK)
        return code;
    error = connect_unix(&user, r, fd, e);
    r->found = user;
    if (error == 0)
        return ERR_OK;
    if (error != ENOENT && error != ENOTDIR)
        return refused(&user, error, e);
    (void)target_unix(&service, REACH_SERVICE_SOCKET, e);
    error = connect_unix(&service, r, fd, e);
    if (error == 0) {
        r->found = service;
        return ERR_OK;
    }
    if (error != ENOENT && error != ENOTDIR)
        return refused(&service, error, e);
    if (!r->may_start)
        return err_set(e, ERR_NO_DAEMON, "no daemon answers at %s or %s", user.path, service.path);
    return start_daemon(r, &user, fd, e);
}
