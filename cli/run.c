/* hearth run: one answer, or the way into a conversation. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/repl.h"
#include "daemon/protocol.h"

#define MAX_PROMPT PROTOCOL_MAX_BODY

enum err_code cli_read_input(struct cli *c, struct buf *out, struct err *e)
{
    char bytes[65536];
    ssize_t n = 1;

    while (n != 0) {
        if (interrupt_wait(&c->interrupt, STDIN_FILENO, POLLIN, -1, e) != ERR_OK)
            return e->code;
        n = read(STDIN_FILENO, bytes, sizeof bytes);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return err_errno(e, ERR_IO, errno, "cannot read standard input");
        if (n > 0)
            buf_put(out, bytes, (size_t)n);
        if (out->failed)
            return err_set(e, ERR_TOO_LARGE, "standard input is larger than %zu bytes", out->max);
    }
    return ERR_OK;
}

/* What was piped in goes before the words of the command line, as in Ollama. */
static enum err_code gather_prompt(struct cli *c, struct buf *prompt, struct err *e)
{
    if (!c->term.in_tty && cli_read_input(c, prompt, e) != ERR_OK)
        return e->code;
    for (int i = 1; i < c->argc; i++) {
        if (prompt->n > 0)
            buf_putc(prompt, ' ');
        buf_puts(prompt, c->argv[i]);
    }
    if (prompt->failed)
        return err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes", MAX_PROMPT);
    return ERR_OK;
}

static void print_piece(void *user, struct str text)
{
    struct cli *c = user;

    term_progress_end(&c->term);
    term_write(&c->term, text);
}

static enum err_code answer_once(struct cli *c, struct str prompt, struct err *e)
{
    struct gen_request r;
    struct answer a = { 0 };
    enum err_code code;

    gen_request_init(&r, GEN_GENERATE);
    r.model = str_from(c->argv[0]);
    r.prompt = prompt;
    r.has_prompt = true;
    r.system = str_from(c->value[ARG_SYSTEM]);
    code = answer_take_options(c, &r, e);
    if (code != ERR_OK)
        return code;
    term_progress(&c->term, "waiting for %s ...", c->argv[0]);
    code = answer_get(&c->client, &r, c->given[ARG_JSON], print_piece, c, &a, e);
    term_progress_end(&c->term);
    if (a.text.n > 0 && a.text.p[a.text.n - 1] != '\n' && !c->given[ARG_JSON])
        term_write(&c->term, STR("\n"));
    if (code == ERR_OK && !c->given[ARG_JSON])
        answer_print_cut(c, &a);
    if (code == ERR_OK && c->given[ARG_VERBOSE])
        answer_print_stats(&a.metrics);
    answer_finish(&a);
    return code;
}

enum err_code run_run(struct cli *c, struct err *e)
{
    struct buf prompt;
    enum err_code code;

    buf_init(&prompt, MAX_PROMPT);
    code = gather_prompt(c, &prompt, e);
    if (code == ERR_OK && c->argc == 1 && c->term.in_tty && c->term.out_tty)
        code = repl_run(c, e);
    else if (code == ERR_OK)
        code = answer_once(c, buf_str(&prompt), e);
    buf_finish(&prompt);
    return answer_explain(code, e);
}
