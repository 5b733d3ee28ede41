/* hearth tokenize: a text as the model's tokens, and tokens as text. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "daemon/protocol.h"
#include "runtime/base/json.h"

/* The words of the command line, else standard input. */
static enum err_code gather_text(struct cli *c, struct buf *text, struct err *e)
{
    if (c->argc == 1)
        return cli_read_input(c, text, e);
    for (int i = 1; i < c->argc; i++) {
        if (i > 1)
            buf_putc(text, ' ');
        buf_puts(text, c->argv[i]);
    }
    return text->failed ? err_set(e, ERR_TOO_LARGE, "the text is too long") : ERR_OK;
}

/* "1 2 3" or "[1, 2, 3]" -> a JSON array */
static enum err_code parse_tokens(const char *text, json_t *array, struct err *e)
{
    while (*(text += strspn(text, " \t\r\n,[]"))) {
        char *end;
        long id;

        errno = 0;
        id = strtol(text, &end, 10);
        if (end == text || errno || id < 0 || id > INT32_MAX || !strchr(" \t\r\n,]", *end))
            return err_set(e, ERR_USAGE, "\"%.20s\" is no token id", text);
        if (json_array_append_new(array, json_integer(id)) != 0)
            return err_no_memory(e, 0, "token ids");
        text = end;
    }
    return ERR_OK;
}

static void print_piece(struct str piece)
{
    struct buf shown;

    buf_init(&shown, 8 * piece.n + 16);
    for (size_t i = 0; i < piece.n; i++) {
        if (piece.p[i] == '\n')
            buf_puts(&shown, "\\n");
        else if (piece.p[i] == '\\')
            buf_puts(&shown, "\\\\");
        else
            buf_putc(&shown, piece.p[i]);
    }
    printf("'%.*s'\n", (int)shown.n, shown.n ? shown.p : "");
    buf_finish(&shown);
}

/* A piece that is no UTF-8 by itself comes as its bytes. */
static void print_token(const json_t *id, const json_t *piece)
{
    size_t i;
    const json_t *byte;

    printf("%8" PRId64 " ", (int64_t)json_integer_value(id));
    if (json_is_string(piece)) {
        print_piece((struct str){ json_string_value(piece), json_string_length(piece) });
        return;
    }
    json_array_foreach(piece, i, byte)
        printf("%s%02x", i ? " " : "", (unsigned)json_integer_value(byte));
    printf("\n");
}

static void print_reply(const struct cli *c, const json_t *root)
{
    const json_t *tokens = json_object_get(root, "tokens"), *id;
    const json_t *pieces = json_object_get(root, "pieces");
    const json_t *content = json_object_get(root, "content");
    size_t i;

    if (json_is_string(content)) {
        term_write(&c->term, (struct str){ json_string_value(content), json_string_length(content) });
        printf("\n");
        return;
    }
    json_array_foreach(tokens, i, id)
        print_token(id, json_array_get(pieces, i));
    printf("%zu tokens\n", json_array_size(tokens));
}

static enum err_code send_words(struct cli *c, const struct gen_request *r, struct err *e)
{
    struct buf body, reply;
    json_t *root = NULL;
    enum err_code code;

    buf_init(&body, PROTOCOL_MAX_BODY);
    buf_init(&reply, 0);
    gen_request_write(&body, r);
    code = body.failed ? err_set(e, ERR_TOO_LARGE, "the text is too long") :
                         client_call(&c->client, "POST", gen_request_path(r->kind), buf_str(&body),
                                     &reply, e);
    if (code == ERR_OK && c->given[ARG_JSON])
        cli_print_json(buf_str(&reply));
    else if (code == ERR_OK)
        code = json_read(buf_str(&reply), CLIENT_MAX_REPLY, "the daemon's reply", &root, e);
    if (root)
        print_reply(c, root);
    json_decref(root);
    buf_finish(&reply);
    buf_finish(&body);
    return answer_explain(code, e);
}

enum err_code tokenize_run(struct cli *c, struct err *e)
{
    bool decode = c->given[ARG_DECODE];
    struct gen_request r;
    struct buf text;
    json_t *tokens = json_array();
    enum err_code code;

    buf_init(&text, PROTOCOL_MAX_BODY);
    gen_request_init(&r, decode ? GEN_DETOKENIZE : GEN_TOKENIZE);
    code = tokens ? gather_text(c, &text, e) : err_no_memory(e, 0, "token ids");
    r.model = str_from(c->argv[0]);
    r.pieces = !decode && !c->given[ARG_JSON];
    r.add_special = !decode && c->given[ARG_SPECIAL];
    if (code == ERR_OK && decode) {
        code = parse_tokens(text.n ? text.p : "", tokens, e);
        r.tokens = tokens;
    } else {
        r.content = text.n ? buf_str(&text) : STR("");
        r.has_content = true;
    }
    if (code == ERR_OK)
        code = send_words(c, &r, e);
    json_decref(tokens);
    buf_finish(&text);
    return code;
}
