/* The command: one table of subcommands and one of options print the help, the completion and the
 * manual page, and drive the parsing.
 *
 *   main.c    settings, the tables, dispatch          help.c   what the tables print
 *   client    HTTP over one connection                reach    finding or starting the daemon
 *   run.c     one answer      repl.c  a conversation  answer   the request both make, and its stats
 *   models.c  list ps show rm cp stop                 transfer.c import
 *   quantize.c quantize                               adopt.c  adopt
 *   pull.c    pull push list --outdated               secrets  what a registry and the hub ask for
 *   care.c    verify prune
 *   follow    a long call to its end                  bars     how far it is
 *   words.c   tokenize, detokenize                    bench.c  speeds and perplexity
 *   term      tables, colour, progress                line, edit  lines typed
 *   interrupt Ctrl-C
 *
 * Every command returns an error value; main prints its sentence and turns it into the exit status
 * (err_exit_status). Thread: one, but for bench. */
#ifndef HEARTH_CLI_CLI_H
#define HEARTH_CLI_CLI_H

#include <stdint.h>
#include <stdio.h>

#include "cli/client.h"
#include "cli/interrupt.h"
#include "cli/term.h"
#include "runtime/base/err.h"
#include "runtime/base/str.h"

/*        id               long          short  argument   what it says */
#define OPTION_TABLE(X)                                                                            \
    X(ARG_HOST,        "host",        0,   "URL",   "daemon to talk to: unix:///path or http://host:port") \
    X(ARG_JSON,        "json",        0,   NULL,    "print JSON")                                  \
    X(ARG_HELP,        "help",        'h', NULL,    "print this help")                             \
    X(ARG_VERBOSE,     "verbose",     'v', NULL,    "say more: timings after an answer, metadata and tensors in show") \
    X(ARG_KEEP_ALIVE,  "keepalive",   0,   "DUR",   "keep the model in memory that long (5m; -1: for ever; 0: not)") \
    X(ARG_OPTION,      "option",      'o', "K=V",   "an option of the model, such as temperature=0 (may be repeated)") \
    X(ARG_SYSTEM,      "system",      0,   "TEXT",  "system prompt")                               \
    X(ARG_FORMAT,      "format",      0,   "FORMAT", "answer in json, or by a JSON schema (text or file) or a .gbnf grammar (file)") \
    X(ARG_THINK,       "think",       0,   "[=LEVEL]", "think before answering: true, false, low, medium, high or max") \
    X(ARG_HIDE_THINKING, "hidethinking", 0, NULL,  "do not show the thinking")                     \
    X(ARG_SUFFIX,      "suffix",      0,   "TEXT",  "fill in what stands between the prompt and this text") \
    X(ARG_DRY_RUN,     "dry-run",     0,   NULL,    "print the exact prompt and its number of tokens, and ask nothing") \
    X(ARG_TEMPLATE,    "template",    0,   NULL,    "print the chat template alone")               \
    X(ARG_PARAMETERS,  "parameters",  0,   NULL,    "print the parameters alone")                  \
    X(ARG_SHOW_SYSTEM, "system",      0,   NULL,    "print the system prompt alone")               \
    X(ARG_LICENSE,     "license",     0,   NULL,    "print the license alone")                     \
    X(ARG_MODELFILE,   "modelfile",   0,   NULL,    "print the Modelfile alone")                   \
    X(ARG_COLOR,       "color",       0,   NULL,    "show the tokens in alternating colours")      \
    X(ARG_COPY,        "copy",        0,   NULL,    "copy the file into the store (the default)")  \
    X(ARG_REFERENCE,   "reference",   0,   NULL,    "leave the file where it is, and only name it") \
    X(ARG_SPECIAL,     "special",     0,   NULL,    "add the tokens that the model puts around a text") \
    X(ARG_DECODE,      "decode",      0,   NULL,    "the arguments are token ids: print their text") \
    X(ARG_PROMPT,      "prompt",      0,   "N",     "prompt tokens (128)")                         \
    X(ARG_GEN,         "gen",         0,   "N",     "tokens to generate (64)")                     \
    X(ARG_PARALLEL,    "parallel",    0,   "N",     "sequences at once (1)")                       \
    X(ARG_REPEAT,      "repeat",      0,   "N",     "times to measure; medians are printed (3)")   \
    X(ARG_PERPLEXITY,  "perplexity",  0,   "FILE",  "measure perplexity on a text instead of speed") \
    X(ARG_WINDOW,      "window",      0,   "N",     "tokens of a perplexity window (512)")         \
    X(ARG_AS,          "as",          0,   "NAME",  "another name for it here")                    \
    X(ARG_INSECURE,    "insecure",    0,   NULL,    "take plain http and unverified TLS from the model's place") \
    X(ARG_LIMIT_RATE,  "limit-rate",  0,   "RATE",  "bytes a second at most, as 500k or 10M")      \
    X(ARG_PLAN,        "dry-run",     0,   NULL,    "tell the files, sizes and licence and whether it fits, and fetch nothing") \
    X(ARG_DETACH,      "detach",      0,   NULL,    "begin it, and leave it to the daemon")        \
    X(ARG_ALL,         "all",         0,   NULL,    "every model whose place has another one now") \
    X(ARG_FILE,        "file",        'f', "FILE",  "the Modelfile (./Modelfile; - reads standard input)") \
    X(ARG_QUANTIZE,    "quantize",    'q', "TYPE",  "make its weights smaller: Q4_K_M, Q8_0, ...")   \
    X(ARG_OUTDATED,    "outdated",    0,   NULL,    "those whose place has another one now") \
    X(ARG_EVERY,       "all",         0,   NULL,    "take all that were found, but for names that are here") \
    X(ARG_FROM,        "from",        0,   "DIR",   "look in this directory, and nowhere else")        \
    X(ARG_REPAIR,      "repair",      0,   NULL,    "fetch what is damaged from where it came")    \
    X(ARG_TELL_ONLY,   "dry-run",     0,   NULL,    "tell what would go, and remove nothing")      \
    X(ARG_OLDER,       "older-than",  0,   "DUR",   "downloads that did not change for that long (24h)") \
    X(ARG_OUTPUT,      "output",      'o', "FILE",  "file to write") \
    X(ARG_FROZEN,      "frozen",      0,   NULL,    "exactly the locked models, or fail and say which differ")

enum arg {
#define X(id, name, letter, value, text) id,
    OPTION_TABLE(X)
#undef X
    ARG_COUNT
};
#define ARG_BIT(id) (UINT64_C(1) << (id))
#define MAX_OPTION_VALUES 64

struct cli {
    struct term term;
    struct interrupt interrupt;
    struct client client;      /* made before a command that wants a daemon runs */
    bool given[ARG_COUNT];
    const char *value[ARG_COUNT];
    const char *options[MAX_OPTION_VALUES]; /* each -o */
    size_t n_options;
    bool arrived;              /* the last long call told of bytes that are there */
    int argc;                  /* what is neither command nor option */
    char **argv;
    char **rest;               /* the command's name and all behind it: serve hands it on */
};

typedef enum err_code command_run(struct cli *c, struct err *e);
struct command {
    const char *name, *alias; /* alias may be NULL */
    const char *args;         /* as the usage line shows them */
    const char *text;         /* one sentence */
    const char *more;         /* paragraphs of `hearth help NAME`, or NULL */
    uint64_t options;         /* ARG_BITs, besides host and help */
    int min_args, max_args;   /* -1: any number */
    bool raw;                 /* all that follows is the command's own, options too */
    bool daemon;              /* talks to one */
    command_run *run;
};
extern const struct command cli_commands[];
extern const size_t cli_n_commands;
const struct command *cli_command(const char *name); /* by name or alias; NULL */

struct option_row {
    const char *name;
    char letter;
    const char *value, *text; /* value: NULL for none, "[=X]" for one that may be left out */
};
extern const struct option_row cli_options[ARG_COUNT];

bool option_value_optional(const struct option_row *o);

/* help.c */
void help_overview(FILE *to);
void help_command(FILE *to, const struct command *command);
command_run help_run, completion_run;

command_run run_run, list_run, ps_run, show_run, rm_run, cp_run, stop_run, import_run, export_run, lock_run, sync_run, create_run, pull_run,
    push_run, quantize_run, adopt_run, verify_run, prune_run, tokenize_run, bench_run;

/* pull.c: brings a model that a command found missing; says so. `called`: what it is called here, which may be
 * longer than `name` (a tag that was chosen), or another (of a URL). ERR_CONFLICT: the daemon is offline. */
#define PULL_NAME_SIZE 1024
enum err_code pull_missing(struct cli *c, const char *name, char called[PULL_NAME_SIZE], struct err *e);
/* create.c: what can be no model's name. */
bool is_surely_path(const char *text);
/* A model of a file or of a folder's files, as FROM in a Modelfile takes them. type: what it is quantised to;
 * NULL: as it is. */
enum err_code create_from_path(struct cli *c, const char *path, const char *name, const char *type, struct err *e);
/* Models whose place has another one now; the caller json_decref()s. */
enum err_code pull_outdated(struct cli *c, json_t **reply, struct err *e);

/* A whole number of an option's value, or `otherwise` when it is not given. ERR_USAGE. */
enum err_code cli_number(const struct cli *c, enum arg id, long min, long max, long otherwise,
                         long *out, struct err *e);
/* All of standard input, appended. ERR_TOO_LARGE, ERR_CANCELLED. */
enum err_code cli_read_input(struct cli *c, struct buf *out, struct err *e);
/* A reply as --json prints it. */
void cli_print_json(struct str reply);

#endif
