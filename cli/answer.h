/* One request for words and its streamed reply: what `run`, the conversation and `bench` share.
 * Thread: the client's. */
#ifndef HEARTH_CLI_ANSWER_H
#define HEARTH_CLI_ANSWER_H

#include "cli/cli.h"
#include "daemon/protocol.h"

#define ANSWER_MAX_TEXT ((size_t)64 << 20)

struct answer {
    struct buf text, thinking; /* all of it */
    struct gen_metrics metrics;
    char done_reason[16];
    int64_t sent_ns, first_ns, end_ns; /* clock_ns: request sent, first piece of text, last line */
    uint64_t n_pieces;         /* lines that held text */
};
/* Sees each piece of text as it comes (may be NULL). */
typedef void answer_piece(void *user, struct str text, bool thinking);

/* Prints pieces as they come; thinking stands between two lines of its own, as in Ollama. */
struct answer_print {
    struct cli *c;
    bool hide_thinking;
    bool in_thought;
};
answer_piece answer_print_piece; /* user: a struct answer_print */
void answer_print_done(struct answer_print *p); /* after the last piece */

/* Sends `r` and reads to the end. `a` is filled on failure too (what had come), and wants
 * answer_finish in any case. With `raw_lines` each line goes to stdout as it is.
 * Errors: the daemon's; ERR_CANCELLED on Ctrl-C. */
enum err_code answer_get(struct client *c, const struct gen_request *r, bool raw_lines,
                         answer_piece *piece, void *user, struct answer *a, struct err *e);
void answer_finish(struct answer *a);

/* The timings after an answer, on stderr, in Ollama's words; a line for each that is not 0. */
void answer_print_stats(const struct gen_metrics *m);
/* "(cut after 64 tokens)" on stderr when the answer did not end by itself. */
void answer_print_cut(const struct cli *c, const struct answer *a);

/* --option, --keepalive, --think and --format of the command line into a request. *format is the tree
 * that the request borrows (json_decref it; NULL without --format). ERR_USAGE. */
enum err_code answer_take_options(const struct cli *c, struct gen_request *r, json_t **format,
                                  struct err *e);
/* "json", a schema as text, the path of a schema or of a .gbnf grammar -> what "format" takes; a new
 * reference. ERR_USAGE, ERR_IO. */
enum err_code answer_read_format(const char *text, json_t **out, struct err *e);
/* "true", "false", a level; NULL or "": on. ERR_USAGE. */
enum err_code answer_read_think(const char *text, enum think *out, struct err *e);
/* Says what to do when there is no such model. */
enum err_code answer_explain(enum err_code code, struct err *e);

#endif
