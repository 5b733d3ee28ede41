/* hearth export, and what import needs to know of a bundle. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/bundle.h"
#include "cli/follow.h"
#include "daemon/protocol_transfer.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define MAX_BODY ((size_t)1 << 20)

bool bundle_is_one(const char *path)
{
    char first[263] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool is = fd >= 0 && read(fd, first, sizeof first) == (ssize_t)sizeof first &&
              memcmp(first + 257, "ustar", 5) == 0;

    if (fd >= 0)
        close(fd);
    return is;
}

void bundle_print_imported(const json_t *last)
{
    const json_t *models = json_object_get(last, "models"), *m;
    size_t i;

    json_array_foreach(models, i, m)
        printf("imported '%s'\n", json_string_value(json_object_get(m, "model")));
}

/* ---- to standard output ------------------------------------------------------------------------------ */

/* The daemon writes into a named pipe of ours, and a thread passes on what comes out of it. Where nobody reads that
 * any more, the pipe ends, and the export with it. */
struct tap {
    char folder[64], path[80];
    int from, keep; /* our ends; keep: for writing, so that the pipe does not end before all is said */
    int error;      /* of standard output */
};

static void *pass_on(void *user)
{
    struct tap *t = user;
    char bytes[1 << 15];

    for (ssize_t n; !t->error && ((n = read(t->from, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR));)
        for (ssize_t done = 0, w; done < n && !t->error; done += w > 0 ? w : 0) {
            w = write(STDOUT_FILENO, bytes + done, (size_t)(n - done));
            if (w < 0 && errno != EINTR)
                t->error = errno;
        }
    close(t->from);
    t->from = -1;
    return NULL;
}

static enum err_code tap_open(struct tap *t, struct err *e)
{
    const char *tmp = getenv("TMPDIR");

    *t = (struct tap){ .from = -1, .keep = -1 };
    snprintf(t->folder, sizeof t->folder, "%.40s/hearth-XXXXXX", tmp && *tmp == '/' && strlen(tmp) <= 40 ? tmp : "/tmp");
    if (!mkdtemp(t->folder)) {
        t->folder[0] = '\0';
        return err_errno(e, ERR_IO, errno, "making a folder for a pipe");
    }
    snprintf(t->path, sizeof t->path, "%s/bundle", t->folder);
    if (mkfifo(t->path, 0600) == 0) {
        t->from = open(t->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        t->keep = open(t->path, O_WRONLY | O_CLOEXEC);
    }
    if (t->from < 0 || t->keep < 0 || fcntl(t->from, F_SETFL, 0) < 0)
        return err_errno(e, ERR_IO, errno, "making a pipe");
    return ERR_OK;
}

static void tap_close(struct tap *t)
{
    if (t->from >= 0)
        close(t->from);
    if (t->keep >= 0)
        close(t->keep);
    if (t->folder[0]) {
        unlink(t->path);
        rmdir(t->folder);
    }
}

static enum err_code no_news(void *user, json_t *root, struct str raw, struct err *e)
{
    (void)user, (void)root, (void)raw, (void)e;
    return ERR_OK;
}

static enum err_code export_to_output(struct cli *c, struct export_request *r, struct err *e)
{
    struct tap t;
    struct buf body;
    pthread_t thread;
    enum err_code code = tap_open(&t, e);

    buf_init(&body, MAX_BODY);
    signal(SIGPIPE, SIG_IGN); /* the folder goes in any case */
    r->path = str_from(t.path);
    export_request_write(&body, r);
    if (!code && body.failed)
        code = err_no_memory(e, body.n, "a request");
    if (!code && pthread_create(&thread, NULL, pass_on, &t))
        code = err_set(e, ERR_NO_MEMORY, "starting a thread failed");
    if (!code) {
        code = client_stream(&c->client, "/api/export", buf_str(&body), no_news, NULL, e);
        close(t.keep);
        t.keep = -1;
        pthread_join(thread, NULL);
        if (t.error && code != ERR_CANCELLED)
            code = err_errno(e, ERR_IO, t.error, "writing to standard output");
    }
    buf_finish(&body);
    tap_close(&t);
    return code;
}

/* ---- to a file ----------------------------------------------------------------------------------------- */

/* The file need not be there yet, but its folder must. */
static enum err_code absolute(const char *path, char out[PATH_MAX], struct err *e)
{
    char folder[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;

    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    if (!*base || strlen(path) >= PATH_MAX)
        return err_set(e, ERR_USAGE, "'%s' is no name for a file", path);
    if (!realpath(folder, real))
        return err_errno(e, ERR_IO, errno, "cannot export to %s", path);
    if (snprintf(out, PATH_MAX, "%s/%s", strcmp(real, "/") == 0 ? "" : real, base) >= PATH_MAX)
        return err_set(e, ERR_USAGE, "'%s' is too long a path", path);
    return ERR_OK;
}

static enum err_code export_to_file(struct cli *c, struct export_request *r, const char *file, struct err *e)
{
    struct buf body;
    char path[PATH_MAX];
    enum err_code code = absolute(file, path, e);

    buf_init(&body, MAX_BODY);
    r->path = str_from(path);
    if (!code)
        export_request_write(&body, r);
    if (!code && body.failed)
        code = err_no_memory(e, body.n, "a request");
    if (!code)
        code = follow_call(c, "/api/export", buf_str(&body), NULL, e);
    if (!code && !c->given[ARG_JSON])
        printf("exported %d model%s to '%s'\n", c->argc, c->argc == 1 ? "" : "s", file);
    buf_finish(&body);
    return code;
}

enum err_code export_run(struct cli *c, struct err *e)
{
    const char *file = c->value[ARG_OUTPUT];
    struct export_request r = { .stream = true };
    json_t *models = json_array();
    enum err_code code = ERR_OK;

    for (int i = 0; i < c->argc; i++)
        if (!models || json_array_append_new(models, json_string(c->argv[i])))
            code = err_no_memory(e, 0, "a request");
    r.models = models;
    if (!code && !file)
        code = err_set(e, ERR_USAGE, "say where to: `hearth export %s -o FILE.tar`, or -o - for standard output", c->argv[0]);
    else if (!code && strcmp(file, "-") != 0)
        code = export_to_file(c, &r, file, e);
    else if (!code && isatty(STDOUT_FILENO))
        code = err_set(e, ERR_USAGE, "a bundle is nothing for a terminal: lead it into a file or a pipe");
    else if (!code)
        code = export_to_output(c, &r, e);
    json_decref(models);
    return code;
}
