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
#include "runtime/base/json.h"

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

/* What the words of the command line ask for. */
static enum err_code make_request(struct cli *c, struct str prompt, struct gen_request *r,
                                  json_t **format, struct err *e)
{
    gen_request_init(r, c->given[ARG_DRY_RUN] ? GEN_RENDER : GEN_GENERATE);
    r->model = str_from(c->argv[0]);
    r->prompt = prompt;
    r->has_prompt = true;
    r->system = str_from(c->value[ARG_SYSTEM]);
    r->suffix = str_from(c->value[ARG_SUFFIX]);
    return answer_take_options(c, r, format, e);
}

static enum err_code answer_once(struct cli *c, const struct gen_request *r, struct err *e)
{
    struct answer_print print = { c, c->given[ARG_HIDE_THINKING], false };
    struct answer a = { 0 };
    enum err_code code;

    term_progress(&c->term, "waiting for %s ...", c->argv[0]);
    code = answer_get(&c->client, r, c->given[ARG_JSON], answer_print_piece, &print, &a, e);
    term_progress_end(&c->term);
    answer_print_done(&print);
    if (a.text.n > 0 && a.text.p[a.text.n - 1] != '\n' && !c->given[ARG_JSON])
        term_write(&c->term, STR("\n"));
    if (code == ERR_OK && !c->given[ARG_JSON])
        answer_print_cut(c, &a);
    if (code == ERR_OK && c->given[ARG_VERBOSE])
        answer_print_stats(&a.metrics);
    answer_finish(&a);
    return code;
}

static enum err_code print_rendered(struct cli *c, struct str reply, struct err *e)
{
    json_t *root = NULL;
    enum err_code code = json_read(reply, CLIENT_MAX_REPLY, "the daemon's reply", &root, e);
    const json_t *prompt = json_object_get(root, "prompt");

    if (code != ERR_OK)
        return code;
    term_write(&c->term, (struct str){ json_string_value(prompt), json_string_length(prompt) });
    printf("\n%s%zu tokens%s\n", term_on(&c->term, STYLE_DIM),
           json_array_size(json_object_get(root, "tokens")), term_on(&c->term, STYLE_PLAIN));
    json_decref(root);
    return ERR_OK;
}

/* The prompt that the model would be given. */
static enum err_code dry_run(struct cli *c, const struct gen_request *r, struct err *e)
{
    struct buf body, reply;
    enum err_code code;

    buf_init(&body, PROTOCOL_MAX_BODY);
    buf_init(&reply, 0);
    gen_request_write(&body, r);
    code = body.failed ? err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes", MAX_PROMPT) :
                         client_call(&c->client, "POST", gen_request_path(r->kind), buf_str(&body),
                                     &reply, e);
    if (code == ERR_OK && c->given[ARG_JSON])
        cli_print_json(buf_str(&reply));
    else if (code == ERR_OK)
        code = print_rendered(c, buf_str(&reply), e);
    buf_finish(&reply);
    buf_finish(&body);
    return code;
}

static enum err_code run_once(struct cli *c, struct str prompt, struct err *e)
{
    struct gen_request r;
    json_t *format = NULL;
    enum err_code code;

    if (c->argc == 1 && c->term.in_tty && c->term.out_tty && !c->given[ARG_DRY_RUN])
        return repl_run(c, e);
    code = make_request(c, prompt, &r, &format, e);
    if (code == ERR_OK)
        code = c->given[ARG_DRY_RUN] ? dry_run(c, &r, e) : answer_once(c, &r, e);
    json_decref(format);
    return code;
}

/* The two ways in which the daemon says that it has no such model; a file of one that is gone is not among
 * them. */
static bool is_missing(const struct err *e)
{
    struct str text = str_from(e->text);

    return e->code == ERR_NOT_FOUND &&
           (str_ends(text, STR(" not found")) || str_ends(text, STR(" not found, try pulling it first")));
}

/* A model that is not there is pulled, where the daemon may; nothing of an answer has come by then. Where it
 * cannot be, it is still no such model (and offline, nothing more is to be said). */
static enum err_code run_pulling(struct cli *c, struct str prompt, struct err *e)
{
    char called[PULL_NAME_SIZE];
    struct err why = { 0 };
    enum err_code code = run_once(c, prompt, e);

    if (code == ERR_OK || c->given[ARG_DRY_RUN] || !is_missing(e))
        return answer_explain(code, e);
    switch (pull_missing(c, c->argv[0], called, &why)) {
    case ERR_OK:
        c->argv[0] = called;
        code = run_once(c, prompt, e);
        c->argv[0] = NULL; /* its text ends here */
        return code;
    case ERR_CANCELLED:
        *e = why;
        return why.code;
    case ERR_CONFLICT:
        return answer_explain(ERR_NOT_FOUND, e);
    default:
        return err_set(e, ERR_NOT_FOUND, "model '%s' not found, and it cannot be pulled: %s", c->argv[0], why.text);
    }
}

enum err_code run_run(struct cli *c, struct err *e)
{
    struct buf prompt;
    enum err_code code;

    buf_init(&prompt, MAX_PROMPT);
    code = gather_prompt(c, &prompt, e);
    if (code == ERR_OK)
        code = run_pulling(c, buf_str(&prompt), e);
    buf_finish(&prompt);
    return code;
}
