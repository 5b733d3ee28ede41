#include "cli/line.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_AHEAD ((size_t)16 << 20)

void line_init(struct line *l, struct interrupt *i)
{
    *l = (struct line){ .interrupt = i };
    buf_init(&l->ahead, MAX_AHEAD);
}

void line_finish(struct line *l)
{
    buf_finish(&l->ahead);
    arena_finish(&l->kept);
}

/* Moves the first line of what was read ahead to `out`; false: there is none yet. */
static bool take_ahead(struct line *l, struct buf *out)
{
    char *end = l->ahead.n ? memchr(l->ahead.p, '\n', l->ahead.n) : NULL;
    size_t n = end ? (size_t)(end - l->ahead.p) : 0;

    if (!end)
        return false;
    buf_put(out, l->ahead.p, n);
    l->ahead.n -= n + 1;
    memmove(l->ahead.p, end + 1, l->ahead.n);
    return true;
}

enum err_code line_read(struct line *l, const char *prompt, struct buf *out, struct err *e)
{
    char bytes[4096];
    enum err_code code = ERR_OK;
    ssize_t n;

    fputs(prompt, stdout);
    fflush(stdout);
    while (code == ERR_OK && !take_ahead(l, out)) {
        code = interrupt_wait(l->interrupt, STDIN_FILENO, POLLIN, -1, e);
        if (code != ERR_OK)
            break;
        n = read(STDIN_FILENO, bytes, sizeof bytes);
        if (n > 0)
            buf_put(&l->ahead, bytes, (size_t)n);
        else if (n == 0 || (errno != EINTR && errno != EAGAIN))
            code = err_set(e, ERR_NOT_FOUND, "the input has ended");
        if (l->ahead.failed)
            code = err_set(e, ERR_TOO_LARGE, "a line is longer than %zu bytes", MAX_AHEAD);
    }
    if (code == ERR_CANCELLED) {
        interrupt_clear(l->interrupt);
        buf_clear(&l->ahead);
    }
    if (code == ERR_CANCELLED || code == ERR_NOT_FOUND)
        fputs("\n", stdout);
    return code;
}
