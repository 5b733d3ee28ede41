#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "daemon/protocol.h"
#include "runtime/base/json.h"

#define B(id) ARG_BIT(id)

static command_run serve_run, key_run, version_run;

/* In the order of help's groups. */
const struct command cli_commands[] = {
    { "run", NULL, "MODEL [PROMPT...]", "ask a model, or talk with it",
      "With a PROMPT, or with text on standard input (which goes before it), prints one answer.\n"
      "Else it is a conversation: /? lists its commands, \"\"\" begins and ends text of several\n"
      "lines, Ctrl-C stops an answer, Ctrl-D leaves. A MODEL that is\n"
      "not here is pulled first.",
      B(ARG_VERBOSE) | B(ARG_KEEP_ALIVE) | B(ARG_OPTION) | B(ARG_SYSTEM) | B(ARG_FORMAT) |
          B(ARG_THINK) | B(ARG_HIDE_THINKING) | B(ARG_SUFFIX) | B(ARG_DRY_RUN) | B(ARG_JSON) |
          B(ARG_INSECURE), 1, -1,
      false, true, run_run },
    { "tokenize", NULL, "MODEL [TEXT...]", "a text as the model's tokens, or back",
      "Without TEXT, standard input is read. No weights are loaded.",
      B(ARG_JSON) | B(ARG_SPECIAL) | B(ARG_DECODE) | B(ARG_COLOR), 1, -1, false, true, tokenize_run },
    { "bench", NULL, "MODEL", "measure speed, or perplexity",
      "Speed: prefill and decode in tokens per second over all sequences together, time to first\n"
      "token, load time and peak memory; medians of the repeats. Prompts are random, so that no\n"
      "prefix is found in the cache. Perplexity: windows that do not overlap, the second half of\n"
      "each scored.",
      B(ARG_JSON) | B(ARG_PROMPT) | B(ARG_GEN) | B(ARG_PARALLEL) | B(ARG_REPEAT) |
          B(ARG_PERPLEXITY) | B(ARG_WINDOW), 1, 1, false, true, bench_run },
    { "list", "ls", "[FILTER...]", "models in the store",
      "All words of a FILTER must be true: a part of the name, family:llama, quant:Q4_K, cap:tools,\n"
      "source:hf.co, license:apache, 'context>=8192', 'size<4GB', 'params<8B'.",
      B(ARG_JSON) | B(ARG_OUTDATED) | B(ARG_INSECURE), 0, -1, false, true, list_run },
    { "show", NULL, "MODEL", "what a model is", NULL,
      B(ARG_JSON) | B(ARG_VERBOSE) | B(ARG_TEMPLATE) | B(ARG_PARAMETERS) | B(ARG_SHOW_SYSTEM) |
          B(ARG_LICENSE) | B(ARG_MODELFILE), 1, 1, false, true, show_run },
    { "cp", NULL, "SOURCE DESTINATION", "give a model a second name", NULL, 0, 2, 2, false, true, cp_run },
    { "rm", NULL, "MODEL...", "remove models", NULL, 0, 1, -1, false, true, rm_run },
    { "verify", NULL, "[MODEL...]", "whether models are as they came",
      "Every MiB of their files is hashed again; a damaged model is not loaded any more. With --repair\n"
      "the damaged MiB are fetched from where they came. Exit status 1: not all are sound.",
      B(ARG_REPAIR) | B(ARG_INSECURE) | B(ARG_JSON), 0, -1, false, true, verify_run },
    { "prune", NULL, "", "remove what nothing names", "Blobs without a model, and downloads that were given up.",
      B(ARG_TELL_ONLY) | B(ARG_OLDER) | B(ARG_JSON), 0, 0, false, true, prune_run },
    { "pull", NULL, "NAME", "bring a model from a registry, the Hugging Face hub or a URL",
      "NAME is [host/][namespace/]model[:tag] of Ollama's or any OCI registry,\n"
      "hf.co/ORG/REPO[:QUANT or file], or https://.../file.gguf. What is there already is not\n"
      "fetched again: a pull that was stopped goes on where it was. `hearth pull --all` brings every\n"
      "model anew whose place has another one now. HF_TOKEN (or the hub's own file) goes with names of\n"
      "the hub, the user of ~/.docker/config.json or HEARTH_REGISTRY_USER and\n"
      "HEARTH_REGISTRY_PASSWORD with those of a registry.",
      B(ARG_AS) | B(ARG_INSECURE) | B(ARG_LIMIT_RATE) | B(ARG_PLAN) | B(ARG_DETACH) | B(ARG_ALL) | B(ARG_JSON),
      0, 1, false, true, pull_run },
    { "push", NULL, "NAME [DESTINATION]", "bring a model to a registry",
      "DESTINATION is what it is called there; without it, NAME itself names a registry.",
      B(ARG_INSECURE) | B(ARG_LIMIT_RATE) | B(ARG_DETACH) | B(ARG_JSON), 1, 2, false, true, push_run },
    { "import", NULL, "FILE|DIR [NAME]", "give a GGUF file a name in the store, or take a bundle's models",
      "NAME is model[:tag]; without it the file's name is taken. Of a file in parts\n"
      "(-00001-of-0000N.gguf) name the first; a folder with the files of one model is one model, with\n"
      "the mmproj*.gguf that is there. The models of a bundle (`hearth export`) keep their names.",
      B(ARG_COPY) | B(ARG_REFERENCE) | B(ARG_JSON), 1, 2, false, true, import_run },
    { "export", NULL, "MODEL... -o FILE", "write models into one file, for machines without a network",
      "The file is a tar in OCI image layout: `hearth import FILE` takes it, and tools of OCI read it.\n"
      "-o - writes to standard output.",
      B(ARG_OUTPUT) | B(ARG_JSON), 1, -1, false, true, export_run },
    { "adopt", NULL, "[NAME...]", "take models of other programs where they are",
      "Without NAME: lists what Ollama, LM Studio, llama.cpp and the Hugging Face hub's tools have on this\n"
      "machine (their variables, as OLLAMA_MODELS and HF_HOME, count). A model that is taken is checked,\n"
      "and then used where it is: nothing is copied, and nothing there is ever changed.",
      B(ARG_EVERY) | B(ARG_FROM) | B(ARG_JSON), 0, -1, false, true, adopt_run },
    { "lock", NULL, "[MODEL...]", "write down which models a project uses, by digest",
      "Adds the models to hearth.lock (or -o FILE; -o - prints their lines); without names, renews the\n"
      "lines that are there.",
      B(ARG_OUTPUT), 0, -1, false, true, lock_run },
    { "sync", NULL, "[FILE]", "bring the models of hearth.lock",
      "Pulls what is missing, at the locked digest. A name that stands for another model here stays\n"
      "as it is, but with --frozen. With all here no network is used.",
      B(ARG_FROZEN) | B(ARG_INSECURE) | B(ARG_JSON), 0, 1, false, true, sync_run },
    { "key", NULL, "", "the store's public key, for Ollama's registry",
      "Put it among the keys of your account there, and `hearth push` may write to your names. It is made\n"
      "when first asked for, in keys/ of HEARTH_HOME.", B(ARG_JSON), 0, 0, false, true, key_run },
    { "create", NULL, "NAME", "make a model of another one, or of files, as a Modelfile says",
      "FROM names a model, a GGUF file, the first of its parts, or a folder with the files of one\n"
      "model. Beside it PARAMETER, TEMPLATE, SYSTEM, ADAPTER, LICENSE, MESSAGE and REQUIRES are taken.\n"
      "A daemon of your own on the Unix socket reads files where they are; any other is sent them.",
      B(ARG_FILE) | B(ARG_QUANTIZE) | B(ARG_REFERENCE) | B(ARG_JSON), 1, 1, false, true, create_run },
    { "quantize", NULL, "SOURCE NAME TYPE", "make a smaller model of one in F32, F16 or BF16",
      "SOURCE is a model of the store, or a GGUF file (a path that begins with / or . or ends in\n"
      ".gguf; of a file in parts the first). NAME is what the new one is called. TYPE is F16, BF16,\n"
      "Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q4_K_M, Q4_K_S or Q4_0. Template, parameters and licence stay.",
      B(ARG_JSON), 3, 3, false, true, quantize_run },
    { "ps", NULL, "[PREFIX]", "models in memory", NULL, B(ARG_JSON), 0, 1, false, true, ps_run },
    { "stop", NULL, "MODEL", "take a model out of memory, or end its pull", NULL, 0, 1, 1, false, true, stop_run },
    { "serve", "start", "[OPTIONS]", "run the daemon in the foreground",
      "All options are hearthd's: see hearthd --help.", 0, 0, -1, true, false, serve_run },
    { "version", NULL, "", "versions of the command and of the daemon", NULL, B(ARG_JSON), 0, 0,
      false, true, version_run },
    { "help", NULL, "[COMMAND]", "help on a command", NULL, 0, 0, 1, false, false, help_run },
    { "completion", NULL, "bash|man", "print the bash completion or the manual page", NULL, 0, 1, 1,
      false, false, completion_run },
};
const size_t cli_n_commands = sizeof cli_commands / sizeof *cli_commands;

const struct option_row cli_options[ARG_COUNT] = {
#define X(id, name, letter, value, text) { name, letter, value, text },
    OPTION_TABLE(X)
#undef X
};

const struct command *cli_command(const char *name)
{
    for (size_t i = 0; i < cli_n_commands; i++) {
        const struct command *c = &cli_commands[i];
        if (strcmp(c->name, name) == 0 || (c->alias && strcmp(c->alias, name) == 0))
            return c;
    }
    return NULL;
}

/* ---- small commands -------------------------------------------------------------------------- */

static enum err_code serve_run(struct cli *c, struct err *e)
{
    char path[1024];
    enum err_code code = reach_find_daemon(path, sizeof path, e);

    if (code != ERR_OK)
        return code;
    c->rest[0] = path;
    interrupt_release();
    execv(path, c->rest);
    return err_errno(e, ERR_NO_DAEMON, errno, "cannot run %s", path);
}

static enum err_code key_run(struct cli *c, struct err *e)
{
    json_t *root = NULL;
    enum err_code code = client_json(&c->client, "GET", "/api/key", (struct str){ 0 }, &root, e);
    const char *key = json_string_value(json_object_get(root, "key"));
    if (code == ERR_OK && !key)
        code = err_set(e, ERR_FORMAT, "the daemon's reply has no key");
    if (code == ERR_OK)
        printf(c->given[ARG_JSON] ? "{\"key\":\"%s\"}\n" : "%s\n", key);
    json_decref(root);
    return code;
}

/* Starting a daemon only to ask its version would be odd: without one there is none to tell. */
static enum err_code version_run(struct cli *c, struct err *e)
{
    json_t *root = NULL;
    const char *theirs = NULL;
    enum err_code code;

    c->client.reach.may_start = false;
    code = client_json(&c->client, "GET", "/api/version", (struct str){ 0 }, &root, e);
    if (code == ERR_OK)
        theirs = json_string_value(json_object_get(root, json_object_get(root, "hearth") ? "hearth" : "version"));
    if (c->given[ARG_JSON]) {
        printf("{\"version\":\"%s\",\"daemon\":", HEARTH_VERSION);
        printf(theirs ? "\"%s\"}\n" : "null}\n", theirs);
    } else {
        printf("hearth version is %s\n", HEARTH_VERSION);
        if (theirs && strcmp(theirs, HEARTH_VERSION) != 0)
            printf("warning: the daemon's version is %s\n", theirs);
        else if (!theirs && !c->client.reach.has_named)
            printf("no daemon is running\n");
    }
    json_decref(root);
    return code == ERR_NO_DAEMON && !c->client.reach.has_named ? ERR_OK : code;
}

void cli_print_json(struct str reply)
{
    printf("%.*s%s", (int)reply.n, reply.p, reply.n && reply.p[reply.n - 1] == '\n' ? "" : "\n");
}

/* ---- arguments ------------------------------------------------------------------------------- */

enum err_code cli_number(const struct cli *c, enum arg id, long min, long max, long otherwise,
                         long *out, struct err *e)
{
    const char *text = c->value[id];
    char *end;

    *out = otherwise;
    if (!c->given[id])
        return ERR_OK;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno || *out < min || *out > max)
        return err_set(e, ERR_USAGE, "--%s %s: not a whole number from %ld to %ld",
                       cli_options[id].name, text, min, max);
    return ERR_OK;
}

static enum err_code take_option(struct cli *c, enum arg id, const char *value, struct err *e)
{
    if (id == ARG_OPTION) {
        if (c->n_options == MAX_OPTION_VALUES)
            return err_set(e, ERR_USAGE, "more than %d times --option", MAX_OPTION_VALUES);
        c->options[c->n_options++] = value;
    }
    c->given[id] = true;
    c->value[id] = value;
    return ERR_OK;
}

bool option_value_optional(const struct option_row *o)
{
    return o->value && o->value[0] == '[';
}

/* Options that `command` takes, as getopt_long wants them; `val` of a row is 256 + id. */
static void getopt_rows(uint64_t allowed, struct option rows[ARG_COUNT + 1],
                        char letters[2 * ARG_COUNT + 2])
{
    size_t n = 0, k = 0;

    letters[k++] = ':';
    for (int id = 0; id < ARG_COUNT; id++) {
        const struct option_row *o = &cli_options[id];
        if (!(allowed & ARG_BIT(id)))
            continue;
        rows[n++] = (struct option){ o->name,
                                     option_value_optional(o) ? optional_argument :
                                     o->value                 ? required_argument :
                                                                no_argument,
                                     NULL, 256 + id };
        if (o->letter) {
            letters[k++] = o->letter;
            if (o->value)
                letters[k++] = ':';
        }
    }
    rows[n] = (struct option){ 0 };
    letters[k] = '\0';
}

/* Of those that the command takes: two commands may give one letter a meaning each. */
static int id_of_letter(uint64_t allowed, int letter)
{
    int id = 0;

    while (id < ARG_COUNT && (!(allowed & ARG_BIT(id)) || cli_options[id].letter != letter))
        id++;
    return id;
}

/* argv[0] is the command's name. */
static enum err_code parse(struct cli *c, const struct command *command, int argc, char **argv,
                           struct err *e)
{
    struct option rows[ARG_COUNT + 1];
    char letters[2 * ARG_COUNT + 2];
    uint64_t allowed = command->options | ARG_BIT(ARG_HELP) | (command->daemon ? ARG_BIT(ARG_HOST) : 0);
    enum err_code code = ERR_OK;
    int got;

    getopt_rows(allowed, rows, letters);
    opterr = 0;
    optind = 0;
    while (code == ERR_OK && (got = getopt_long(argc, argv, letters, rows, NULL)) != -1) {
        if (got == ':')
            code = err_set(e, ERR_USAGE, "%s wants a value", argv[optind - 1]);
        else if (got == '?' && optopt > 0 && optopt < 256) /* a letter, maybe of several */
            code = err_set(e, ERR_USAGE, "`hearth %s` does not know the option -%c", command->name, optopt);
        else if (got == '?')
            code = err_set(e, ERR_USAGE, "`hearth %s` does not know the option %s", command->name,
                           argv[optind - 1]);
        else
            code = take_option(c, got >= 256 ? (enum arg)(got - 256) : (enum arg)id_of_letter(allowed, got),
                               optarg, e);
    }
    c->argc = argc - optind;
    c->argv = argv + optind;
    if (code != ERR_OK || c->given[ARG_HELP])
        return code;
    if (c->argc < command->min_args || (command->max_args >= 0 && c->argc > command->max_args))
        return err_set(e, ERR_USAGE, "usage: hearth %s %s", command->name, command->args);
    return ERR_OK;
}

/* ---- main ------------------------------------------------------------------------------------ */

static enum err_code dispatch(struct cli *c, const struct command *command, int argc, char **argv,
                              struct err *e)
{
    enum err_code code = ERR_OK;

    c->rest = argv;
    if (!command->raw)
        code = parse(c, command, argc, argv, e);
    if (code == ERR_OK && c->given[ARG_HELP]) {
        help_command(stdout, command);
        return ERR_OK;
    }
    if (code == ERR_OK && command->daemon)
        code = client_init(&c->client, c->value[ARG_HOST], &c->interrupt, e);
    return code == ERR_OK ? command->run(c, e) : code;
}

static void report(const struct cli *c, const struct command *command, const struct err *e)
{
    if (e->code == ERR_CANCELLED) {
        fputs(c->term.err_tty && e->text[0] ? "\n" : "", stderr);
        return;
    }
    fprintf(stderr, "%shearth: %s%s\n", term_on(&c->term, STYLE_RED), e->text,
            term_on(&c->term, STYLE_PLAIN));
    if (e->code == ERR_USAGE && command)
        fprintf(stderr, "See `hearth help %s`.\n", command->name);
}

/* `hearth --host URL list` and `hearth list --host URL` are the same: what stands before the
 * command's name goes behind it. */
static char **command_first(int argc, char **argv)
{
    if (argc > 3 && strcmp(argv[1], "--host") == 0) {
        char *host = argv[1], *url = argv[2];
        argv[1] = argv[3];
        argv[2] = host;
        argv[3] = url;
    } else if (argc > 2 && strncmp(argv[1], "--host=", 7) == 0) {
        char *host = argv[1];
        argv[1] = argv[2];
        argv[2] = host;
    }
    return argv + 1;
}

int main(int argc, char **argv)
{
    struct cli c = { .interrupt = { -1 } };
    struct err e = { 0 };
    const struct command *command = NULL;
    const char *name;
    enum err_code code;

    setlocale(LC_CTYPE, "");
    json_setup();
    term_init(&c.term);
    if (argc < 2) {
        help_overview(stderr);
        return err_exit_status(ERR_USAGE);
    }
    argv = command_first(argc, argv);
    name = argv[0];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    else if (strcmp(name, "--version") == 0 || strcmp(name, "-v") == 0)
        name = "version";
    command = cli_command(name);
    if (!command)
        code = err_set(&e, ERR_USAGE, "there is no command \"%s\"; `hearth help` lists them", name);
    else if ((code = interrupt_init(&c.interrupt, &e)) == ERR_OK)
        code = dispatch(&c, command, argc - 1, argv, &e);
    term_progress_end(&c.term);
    if (code != ERR_OK)
        report(&c, command, &e);
    interrupt_finish(&c.interrupt);
    if (fflush(stdout) != 0 && code == ERR_OK)
        return err_exit_status(ERR_IO);
    return err_exit_status(code);
}
