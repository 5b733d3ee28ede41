/* hearth import: a file on this machine gets a name in the store. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/bundle.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "daemon/protocol.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/name.h"

/* As store/name.h names a file. */
static char *name_of_file(const char *path)
{
    char text[PATH_MAX + 8];
    struct source s;

    snprintf(text, sizeof text, "file:%s", path);
    return mem_strdup(source_parse(str_from(text), &s, NULL) == ERR_OK ? s.name.model : "");
}

/* The daemon opens the path, and its working directory is its own: the path goes absolute. */
static enum err_code import_file(struct cli *c, const char *path, const char *name, json_t **last, struct err *e)
{
    struct model_request r = { .reference = c->given[ARG_REFERENCE], .stream = true, .path = str_from(path),
                               .model = str_from(name) };
    struct buf body;
    enum err_code code;

    buf_init(&body, 65536);
    model_request_write(&body, REQUEST_IMPORT, &r);
    code = body.failed ? err_no_memory(e, 0, "a request") : follow_call(c, "/api/import", buf_str(&body), last, e);
    buf_finish(&body);
    return code;
}

enum err_code import_run(struct cli *c, struct err *e)
{
    char path[PATH_MAX], *name;
    json_t *last = NULL;
    struct stat st;
    bool bundle, sent;
    enum err_code code = ERR_OK;

    if (c->given[ARG_COPY] && c->given[ARG_REFERENCE])
        return err_set(e, ERR_USAGE, "--copy and --reference exclude each other");
    if (!realpath(c->argv[0], path) || stat(path, &st) < 0)
        return err_errno(e, ERR_IO, errno, "cannot import %s", c->argv[0]);
    bundle = S_ISREG(st.st_mode) && bundle_is_one(path);
    name = c->argc > 1 ? mem_strdup(c->argv[1]) : bundle ? mem_strdup("") :
           name_of_file(S_ISDIR(st.st_mode) ? path : c->argv[0]); /* of a link its own */
    if (!name)
        return err_no_memory(e, 0, "a request");
    if (bundle && c->given[ARG_REFERENCE]) {
        mem_free(name);
        return err_set(e, ERR_USAGE, "--reference is for GGUF files: the models of a bundle are copied out of it");
    }
    sent = S_ISDIR(st.st_mode);
    if (!sent) {
        code = import_file(c, path, name, &last, e);
        sent = code == ERR_FORBIDDEN && !bundle; /* a daemon that is not ours */
    }
    if (sent)
        code = create_from_path(c, path, name, NULL, e);
    if (code == ERR_OK && bundle && !c->given[ARG_JSON])
        bundle_print_imported(last);
    else if (code == ERR_OK && !c->given[ARG_JSON])
        printf("imported '%s' as '%s'\n", c->argv[0], name);
    json_decref(last);
    mem_free(name);
    return code;
}
