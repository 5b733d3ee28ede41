/* hearth quantize: a model of floats made into a smaller one. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/follow.h"
#include "daemon/protocol_local.h"

/* A name's tag may end as a file does: then it is a path where there is such a file. */
static bool is_path(const char *text)
{
    return is_surely_path(text) || (str_ends(str_from(text), STR(".gguf")) && access(text, F_OK) == 0);
}

enum err_code quantize_run(struct cli *c, struct err *e)
{
    struct quantize_request r = { .destination = str_from(c->argv[1]), .type = str_from(c->argv[2]),
                                  .stream = true };
    struct buf body;
    char path[PATH_MAX];
    if (!is_path(c->argv[0]))
        r.model = str_from(c->argv[0]);
    else if (realpath(c->argv[0], path))
        r.path = str_from(path);
    else
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot quantise %s",
                         c->argv[0]);
    buf_init(&body, 65536);
    quantize_request_write(&body, &r);
    enum err_code code = body.failed ? err_no_memory(e, body.n, "a request")
                                     : follow_call(c, "/api/quantize", buf_str(&body), NULL, e);
    buf_finish(&body);
    if (code == ERR_FORBIDDEN && r.path.n) /* a daemon that is not ours is sent the file */
        code = create_from_path(c, path, c->argv[1], c->argv[2], e);
    if (code == ERR_OK && !c->given[ARG_JSON])
        printf("'%s' is '%s' in %s\n", c->argv[1], c->argv[0], c->argv[2]);
    return code;
}
