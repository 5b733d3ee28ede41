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

/* --color: neighbours differ. The colours are the terminal's own, and asked for, so that they come
 * without a terminal too. */
static const char *colour_of(const struct cli *c, size_t i)
{
    static const char *const colours[] = { "\033[30;46m", "\033[30;43m", "\033[30;42m", "\033[30;45m" };

    return c->given[ARG_COLOR] ? colours[i % (sizeof colours / sizeof *colours)] : "";
}

static const char *plain(const struct cli *c)
{
    return c->given[ARG_COLOR] ? "\033[0m" : "";
}

/* With what would move the cursor or drive the terminal written out. */
static void put_shown(struct buf *out, struct str piece)
{
    for (size_t i = 0; i < piece.n; i++) {
        unsigned char byte = (unsigned char)piece.p[i];
        if (byte == '\n')
            buf_puts(out, "\\n");
        else if (byte == '\\')
            buf_puts(out, "\\\\");
        else if (byte < ' ' || byte == 0x7F)
            buf_printf(out, "\\x%02x", byte);
        else
            buf_putc(out, piece.p[i]);
    }
}

/* A piece that is no UTF-8 by itself comes as its bytes. */
static void put_bytes(struct buf *out, const json_t *piece)
{
    const json_t *byte;
    size_t i;

    json_array_foreach(piece, i, byte)
        buf_printf(out, "%s%02x", i ? " " : "", (unsigned)json_integer_value(byte));
}

static void print_token(const struct cli *c, size_t i, const json_t *id, const json_t *piece)
{
    const char *quote = json_is_string(piece) ? "'" : "";
    struct buf shown;

    buf_init(&shown, CLIENT_MAX_REPLY);
    if (json_is_string(piece))
        put_shown(&shown, (struct str){ json_string_value(piece), json_string_length(piece) });
    else
        put_bytes(&shown, piece);
    printf("%8" PRId64 " %s%s%.*s%s%s\n", (int64_t)json_integer_value(id), colour_of(c, i), quote,
           (int)shown.n, shown.n ? shown.p : "", quote, plain(c));
    buf_finish(&shown);
}

/* The text in one, each token in its colour; lines end where the text's do. */
static void print_coloured(const struct cli *c, const json_t *pieces)
{
    const json_t *piece;
    struct buf all;
    size_t i;

    buf_init(&all, CLIENT_MAX_REPLY);
    json_array_foreach(pieces, i, piece) {
        struct str s = { json_string_value(piece), json_string_length(piece) };
        buf_puts(&all, colour_of(c, i));
        if (json_is_string(piece))
            put_shown(&all, s);
        else
            put_bytes(&all, piece);
        buf_puts(&all, plain(c));
        if (s.n > 0 && s.p[s.n - 1] == '\n')
            buf_putc(&all, '\n');
    }
    printf("%.*s\n\n", (int)all.n, all.n ? all.p : "");
    buf_finish(&all);
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
    if (c->given[ARG_COLOR])
        print_coloured(c, pieces);
    json_array_foreach(tokens, i, id)
        print_token(c, i, id, json_array_get(pieces, i));
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
