#include "cli/line.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/line_priv.h"

void line_init(struct line *l, struct interrupt *i)
{
    const char *kind = getenv("TERM");

    *l = (struct line){ .interrupt = i };
    l->editing = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind && *kind &&
                 strcmp(kind, "dumb") != 0;
    buf_init(&l->ahead, LINE_MAX_AHEAD);
}

void line_finish(struct line *l)
{
    for (size_t i = 0; i < l->n_history; i++)
        mem_free(l->history[i]);
    buf_finish(&l->ahead);
    arena_finish(&l->kept);
}

enum err_code line_fill(struct line *l, int timeout_ms, struct err *e)
{
    char bytes[4096];
    enum err_code code = interrupt_wait(l->interrupt, STDIN_FILENO, POLLIN, timeout_ms, e);
    ssize_t n;

    if (code != ERR_OK)
        return code;
    n = read(STDIN_FILENO, bytes, sizeof bytes);
    if (n > 0)
        buf_put(&l->ahead, bytes, (size_t)n);
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        return err_set(e, ERR_NOT_FOUND, "the input has ended");
    if (l->ahead.failed)
        return err_set(e, ERR_TOO_LARGE, "a line is longer than %zu bytes", LINE_MAX_AHEAD);
    return ERR_OK;
}

void line_drop(struct line *l, size_t n)
{
    l->ahead.n -= n;
    memmove(l->ahead.p, l->ahead.p + n, l->ahead.n);
}

/* Moves the first line of what was read ahead to `out`; false: there is none yet. */
static bool take_ahead(struct line *l, struct buf *out)
{
    char *end = l->ahead.n ? memchr(l->ahead.p, '\n', l->ahead.n) : NULL;

    if (!end)
        return false;
    buf_put(out, l->ahead.p, (size_t)(end - l->ahead.p));
    line_drop(l, (size_t)(end - l->ahead.p) + 1);
    return true;
}

static enum err_code read_plain(struct line *l, const char *prompt, struct buf *out, struct err *e)
{
    enum err_code code = ERR_OK;

    fputs(prompt, stdout);
    fflush(stdout);
    while (code == ERR_OK && !take_ahead(l, out))
        code = line_fill(l, -1, e);
    if (code == ERR_CANCELLED || code == ERR_NOT_FOUND)
        fputs("\n", stdout);
    return code;
}

static void remember(struct line *l, const char *text)
{
    char *copy;

    if (!*text || (l->n_history > 0 && strcmp(l->history[l->n_history - 1], text) == 0))
        return;
    copy = mem_strdup(text);
    if (!copy)
        return; /* a line not remembered is no reason to stop */
    if (l->n_history == LINE_HISTORY) {
        mem_free(l->history[0]);
        memmove(l->history, l->history + 1, (LINE_HISTORY - 1) * sizeof *l->history);
        l->n_history--;
    }
    l->history[l->n_history++] = copy;
}

enum err_code line_read(struct line *l, const char *prompt, struct buf *out, struct err *e)
{
    size_t before = out->n;
    enum err_code code = l->editing ? line_edit(l, prompt, out, e) : read_plain(l, prompt, out, e);

    if (code == ERR_OK && out->failed)
        code = err_no_memory(e, out->n, "a line");
    if (code == ERR_OK && out->n > before)
        remember(l, out->p + before);
    if (code == ERR_CANCELLED) {
        interrupt_clear(l->interrupt);
        buf_clear(&l->ahead);
    }
    return code;
}
