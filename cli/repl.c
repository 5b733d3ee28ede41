#include "cli/repl.h"

#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/line.h"
#include "daemon/protocol_create.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define MAX_MESSAGE PROTOCOL_MAX_BODY
#define QUOTES "\"\"\""

struct repl {
    struct cli *c;
    struct line line;
    struct gen_request request; /* model, keep-alive and options of every question */
    char *model;                /* owned */
    struct buf system;
    json_t *messages;           /* what was said, without the system prompt */
    json_t *format;             /* of the request, or NULL */
    struct answer_print print;
    bool verbose, done;
};

/* A slash command: the rest of its line is `args`. */
typedef enum err_code slash_run(struct repl *r, struct str args, struct err *e);
struct slash {
    const char *name, *args, *text;
    slash_run *run;
};
static const struct slash *slash_commands(void), *slash_settings(void);

/* ---- words of a line ----------------------------------------------------------------------------- */

static struct str trim(struct str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = (struct str){ s.p + 1, s.n - 1 };
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    return s;
}

static struct str take_word(struct str *rest)
{
    struct str word = trim(*rest);
    size_t n = 0;

    *rest = word;
    while (n < word.n && word.p[n] != ' ' && word.p[n] != '\t')
        n++;
    *rest = trim((struct str){ rest->p + n, rest->n - n });
    return (struct str){ word.p, n };
}

static const struct slash *find(const struct slash *table, struct str name)
{
    while (table->name && !str_is(name, table->name))
        table++;
    return table->name ? table : NULL;
}

static void print_table(const struct slash *table, const char *before)
{
    for (; table->name; table++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s %s", before, table->name, table->args);
        fprintf(stderr, "  %-32s %s\n", left, table->text);
    }
}

/* Text between triple quotes may go on over several lines; `first` is what stands on this one.
 * ERR_NOT_FOUND: the input ended inside. */
static enum err_code take_block(struct repl *r, struct str first, struct buf *out, struct err *e)
{
    struct buf next;
    enum err_code code = ERR_OK;
    const char *end;

    if (!str_starts(first, STR(QUOTES))) {
        buf_put(out, first.p, first.n);
        return ERR_OK;
    }
    buf_put(out, first.p + 3, first.n - 3);
    buf_init(&next, MAX_MESSAGE);
    while (code == ERR_OK && !(end = out->p ? strstr(out->p, QUOTES) : NULL)) {
        buf_clear(&next);
        code = line_read(&r->line, "... ", &next, e);
        if (out->n > 0 || code != ERR_OK)
            buf_putc(out, '\n');
        buf_put(out, next.p, next.n);
        if (out->failed)
            code = err_no_memory(e, out->n, "a message");
    }
    if (code == ERR_OK) {
        out->n = (size_t)(end - out->p);
        while (out->n > 0 && out->p[out->n - 1] == '\n')
            out->n--;
    }
    buf_finish(&next);
    return code;
}

/* ---- questions ------------------------------------------------------------------------------------ */

static enum err_code remember(struct repl *r, const char *role, struct str text, struct err *e)
{
    json_t *m = json_pack("{s:s, s:s%}", "role", role, "content", text.p ? text.p : "", text.n);

    if (!m) /* a line of the terminal need not be UTF-8 */
        return err_set(e, ERR_INVALID, "the text is not valid UTF-8");
    if (json_array_append_new(r->messages, m) != 0)
        return err_no_memory(e, text.n, "a message");
    return ERR_OK;
}

/* The conversation with its system prompt in front; a new reference. */
static json_t *whole_conversation(const struct repl *r)
{
    json_t *all = json_array(), *m = NULL;

    if (all && r->system.n > 0) {
        m = json_pack("{s:s, s:s%}", "role", "system", "content", r->system.p, r->system.n);
        if (json_array_append_new(all, m) != 0)
            goto failed;
    }
    if (all && json_array_extend(all, r->messages) == 0)
        return all;
failed:
    json_decref(all);
    return NULL;
}

static void print_end(struct repl *r, enum err_code code, const struct answer *a)
{
    term_progress_end(&r->c->term);
    answer_print_done(&r->print);
    if (a->text.n > 0 || code == ERR_CANCELLED)
        fputs("\n", stdout);
    fflush(stdout);
    if (code == ERR_OK)
        answer_print_cut(r->c, a);
    if (code == ERR_OK && r->verbose)
        answer_print_stats(&a->metrics);
    fputs("\n", stdout);
    fflush(stdout);
}

/* The answer becomes part of the conversation, its thinking with it. */
static enum err_code remember_answer(struct repl *r, const struct answer *a, struct err *e)
{
    enum err_code code = remember(r, "assistant", buf_str(&a->text), e);
    json_t *m = json_array_get(r->messages, json_array_size(r->messages) - 1);

    if (code == ERR_OK && a->thinking.n > 0 &&
        json_object_set_new(m, "thinking", json_stringn(a->thinking.p, a->thinking.n)) != 0)
        code = err_no_memory(e, a->thinking.n, "a message");
    return code;
}

/* A question that failed is forgotten; one that was stopped stays, with what had come. */
static enum err_code ask(struct repl *r, struct str text, struct err *e)
{
    struct gen_request request = r->request;
    struct answer a = { 0 };
    enum err_code code = remember(r, "user", text, e);
    json_t *all = NULL;

    if (code != ERR_OK)
        return code;
    all = whole_conversation(r);
    if (!all) {
        code = err_no_memory(e, 0, "the conversation");
        goto out;
    }
    request.kind = GEN_CHAT;
    request.messages = all;
    term_progress(&r->c->term, "...");
    code = answer_get(&r->c->client, &request, false, answer_print_piece, &r->print, &a, e);
    print_end(r, code, &a);
    if ((code == ERR_OK || code == ERR_CANCELLED) && a.text.n > 0) {
        enum err_code kept = remember_answer(r, &a, e);
        code = code == ERR_OK ? kept : code;
    }
out:
    if (code == ERR_CANCELLED) {
        interrupt_clear(&r->c->interrupt);
        code = ERR_OK;
    } else if (code != ERR_OK) {
        json_array_remove(r->messages, json_array_size(r->messages) - 1);
    }
    answer_finish(&a);
    json_decref(all);
    return code;
}

/* An empty question loads the model. */
static enum err_code load(struct repl *r, struct err *e)
{
    struct gen_request request = r->request;
    struct answer a = { 0 };
    enum err_code code;

    request.kind = GEN_GENERATE;
    request.has_prompt = true;
    request.prompt = STR("");
    term_progress(&r->c->term, "loading %s ...", r->model);
    code = answer_get(&r->c->client, &request, false, NULL, NULL, &a, e);
    term_progress_end(&r->c->term);
    answer_finish(&a);
    return code;
}

/* ---- slash commands ------------------------------------------------------------------------------- */

static enum err_code slash_bye(struct repl *r, struct str args, struct err *e)
{
    (void)args;
    (void)e;
    r->done = true;
    return ERR_OK;
}

static enum err_code slash_clear(struct repl *r, struct str args, struct err *e)
{
    (void)args;
    (void)e;
    json_array_clear(r->messages);
    fprintf(stderr, "Forgot the conversation.\n");
    return ERR_OK;
}

static enum err_code slash_help(struct repl *r, struct str args, struct err *e)
{
    (void)r;
    (void)e;
    if (str_is(args, "set") || str_is(args, "/set")) {
        print_table(slash_settings(), "/set ");
        return ERR_OK;
    }
    print_table(slash_commands(), "/");
    fprintf(stderr, "\n  %-32s %s\n  %-32s %s\n  %-32s %s\n", QUOTES,
            "begins and ends text of several lines", "Ctrl-C", "stops an answer", "Ctrl-D",
            "leaves");
    return ERR_OK;
}

static enum err_code slash_set(struct repl *r, struct str args, struct err *e)
{
    const struct slash *s = find(slash_settings(), take_word(&args));

    if (s)
        return s->run(r, args, e);
    print_table(slash_settings(), "/set ");
    return ERR_OK;
}

static enum err_code set_system(struct repl *r, struct str args, struct err *e)
{
    buf_clear(&r->system);
    if (take_block(r, args, &r->system, e) == ERR_OK)
        fprintf(stderr, "Set the system prompt.\n");
    return ERR_OK;
}

/* stop and its like take the rest of the line as it is. */
static enum err_code set_parameter(struct repl *r, struct str args, struct err *e)
{
    struct str name = take_word(&args);
    enum err_code code;

    if (name.n == 0 || args.n == 0) {
        fprintf(stderr, "usage: /set parameter NAME VALUE, where NAME is one of");
        for (int k = 0; k < OPTION_COUNT; k++)
            fprintf(stderr, " %s", gen_option_name((enum gen_option)k));
        fprintf(stderr, "\n");
        return ERR_OK;
    }
    /* The options keep slices of their text: it has to stay. */
    args.p = arena_strndup(&r->line.kept, args.p, args.n);
    if (!args.p)
        return err_no_memory(e, args.n, "a parameter");
    code = gen_options_set(&r->request.options, name, args, e);
    if (code == ERR_OK)
        fprintf(stderr, "Set parameter '%.*s' to '%.*s'.\n", (int)name.n, name.p, (int)args.n, args.p);
    return code;
}

static enum err_code set_verbose(struct repl *r, struct str args, struct err *e)
{
    (void)args;
    (void)e;
    r->verbose = true;
    fprintf(stderr, "Timings follow each answer.\n");
    return ERR_OK;
}

static enum err_code set_quiet(struct repl *r, struct str args, struct err *e)
{
    (void)args;
    (void)e;
    r->verbose = false;
    fprintf(stderr, "No timings.\n");
    return ERR_OK;
}

static enum err_code set_format(struct repl *r, struct str args, struct err *e)
{
    char *text = mem_strndup(args.p, args.n);
    json_t *format = NULL;
    enum err_code code = text ? ERR_OK : err_no_memory(e, args.n, "a format");

    if (code == ERR_OK && args.n == 0)
        fprintf(stderr, "usage: /set format json, or a JSON schema, or a file of one\n");
    else if (code == ERR_OK)
        code = answer_read_format(text, &format, e);
    if (format) {
        json_decref(r->format);
        r->request.format = r->format = format;
        fprintf(stderr, "Answers come in this format.\n");
    }
    mem_free(text);
    return code;
}

static enum err_code set_noformat(struct repl *r, struct str args, struct err *e)
{
    (void)args;
    (void)e;
    json_decref(r->format);
    r->request.format = r->format = NULL;
    fprintf(stderr, "Answers are free.\n");
    return ERR_OK;
}

static enum err_code set_think(struct repl *r, struct str args, struct err *e)
{
    char level[16];
    enum err_code code;

    snprintf(level, sizeof level, "%.*s", (int)(args.n < 16 ? args.n : 15), args.n ? args.p : "");
    code = answer_read_think(level, &r->request.think, e);
    if (code == ERR_OK)
        fprintf(stderr, "Set 'think' mode%s%s.\n", *level ? " to " : "", level);
    return code;
}

static enum err_code set_nothink(struct repl *r, struct str args, struct err *e)
{
    (void)args;
    (void)e;
    r->request.think = THINK_OFF;
    fprintf(stderr, "Set 'nothink' mode.\n");
    return ERR_OK;
}

static void show_parameters(const struct repl *r)
{
    struct buf text;

    buf_init(&text, MAX_MESSAGE);
    gen_options_write(&text, &r->request.options);
    printf("%.*s\n", (int)text.n, text.p);
    buf_finish(&text);
}

static enum err_code slash_show(struct repl *r, struct str args, struct err *e)
{
    static const struct {
        const char *name;
        enum arg option; /* of `hearth show`; ARG_COUNT: none */
    } parts[] = {
        { "info", ARG_COUNT },
        { "license", ARG_LICENSE },
        { "modelfile", ARG_MODELFILE },
        { "parameters", ARG_PARAMETERS },
        { "system", ARG_SHOW_SYSTEM },
        { "template", ARG_TEMPLATE },
    };
    char *argv[] = { r->model };
    struct cli show = *r->c;
    struct str what = take_word(&args);
    enum err_code code = ERR_OK;
    size_t i = 0;

    while (i < sizeof parts / sizeof *parts && !str_is(what, parts[i].name))
        i++;

    if (str_is(what, "system") && r->system.n) {
        printf("%.*s\n", (int)r->system.n, r->system.p);
    } else if (str_is(what, "parameters") && r->request.options.given) {
        show_parameters(r);
    } else if (what.n == 0 || i < sizeof parts / sizeof *parts) {
        memset(show.given, 0, sizeof show.given);
        if (what.n > 0 && parts[i].option != ARG_COUNT)
            show.given[parts[i].option] = true;
        show.argc = 1;
        show.argv = argv;
        code = show_run(&show, e);
    } else {
        fprintf(stderr, "usage: /show info|license|modelfile|parameters|system|template\n");
    }
    fflush(stdout);
    return code;
}

/* The options of this conversation as a model's parameters. */
static enum err_code options_tree(const struct repl *r, json_t **out, struct err *e)
{
    struct buf text;
    enum err_code code;

    buf_init(&text, MAX_MESSAGE);
    gen_options_write(&text, &r->request.options);
    code = text.failed ? err_no_memory(e, text.n, "a request") :
                         json_read(buf_str(&text), MAX_MESSAGE, "options", out, e);
    buf_finish(&text);
    return code;
}

/* A model of this one, with what was set and said. */
static enum err_code slash_save(struct repl *r, struct str args, struct err *e)
{
    struct create_request ask;
    json_t *options = NULL;
    struct buf body, reply;
    enum err_code code;

    create_request_init(&ask);
    ask.model = take_word(&args);
    if (ask.model.n == 0) {
        fprintf(stderr, "usage: /save MODEL\n");
        return ERR_OK;
    }
    if ((code = options_tree(r, &options, e)) != ERR_OK)
        return code;
    ask.from = str_from(r->model);
    ask.system = buf_str(&r->system);
    ask.parameters = options;
    ask.messages = r->messages;
    ask.stream = false;
    buf_init(&body, MAX_MESSAGE);
    buf_init(&reply, 0);
    create_request_write(&body, &ask);
    code = body.failed ? err_set(e, ERR_TOO_LARGE, "the conversation is too long to be saved") :
                         client_call(&r->c->client, "POST", "/api/create", buf_str(&body), &reply, e);
    if (code == ERR_OK)
        fprintf(stderr, "Created new model '%.*s'.\n", (int)ask.model.n, ask.model.p);
    buf_finish(&body);
    buf_finish(&reply);
    json_decref(options);
    return code == ERR_OK ? code : answer_explain(code, e);
}

static enum err_code slash_load(struct repl *r, struct str args, struct err *e)
{
    struct str name = take_word(&args);
    char *before = r->model;
    enum err_code code;

    if (name.n == 0) {
        fprintf(stderr, "usage: /load MODEL\n");
        return ERR_OK;
    }
    r->model = mem_strndup(name.p, name.n);
    code = r->model ? ERR_OK : err_no_memory(e, name.n, "a name");
    r->request.model = str_from(r->model);
    if (code == ERR_OK)
        code = load(r, e);
    if (code != ERR_OK) {
        mem_free(r->model);
        r->model = before;
        r->request.model = str_from(before);
        return answer_explain(code, e);
    }
    mem_free(before);
    json_array_clear(r->messages);
    return ERR_OK;
}

static enum err_code slash_list(struct repl *r, struct str args, struct err *e)
{
    struct cli list = *r->c;
    enum err_code code;

    (void)args;
    memset(list.given, 0, sizeof list.given);
    list.argc = 0;
    code = list_run(&list, e);
    fflush(stdout);
    return code;
}

static const struct slash *slash_commands(void)
{
    static const struct slash rows[] = {
        { "set", "...", "change a setting (/set alone lists them)", slash_set },
        { "show", "info|template|...", "what the model is and how it is set", slash_show },
        { "load", "MODEL", "go on with another model", slash_load },
        { "save", "MODEL", "a model of this one, with what was set and said", slash_save },
        { "list", "", "models in the store", slash_list },
        { "clear", "", "forget the conversation", slash_clear },
        { "bye", "", "leave", slash_bye },
        { "exit", "", "leave", slash_bye },
        { "help", "", "this list", slash_help },
        { "?", "", "this list", slash_help },
        { 0 },
    };

    return rows;
}

static const struct slash *slash_settings(void)
{
    static const struct slash rows[] = {
        { "system", "TEXT", "the system prompt", set_system },
        { "parameter", "NAME VALUE", "an option of the model, such as temperature", set_parameter },
        { "format", "json|SCHEMA|FILE", "answers in JSON, or by a schema", set_format },
        { "noformat", "", "answers are free", set_noformat },
        { "think", "[LEVEL]", "think before answering", set_think },
        { "nothink", "", "answer at once", set_nothink },
        { "verbose", "", "timings after each answer", set_verbose },
        { "quiet", "", "no timings", set_quiet },
        { 0 },
    };

    return rows;
}

/* ---- the loop -------------------------------------------------------------------------------------- */

static enum err_code take_line(struct repl *r, struct str text, struct err *e)
{
    const struct slash *s;
    struct str word;
    struct buf block;
    enum err_code code;

    if (text.n == 0)
        return ERR_OK;
    if (text.p[0] == '/') {
        text = (struct str){ text.p + 1, text.n - 1 };
        word = take_word(&text);
        s = find(slash_commands(), word);
        if (s)
            return s->run(r, text, e);
        fprintf(stderr, "Unknown command '/%.*s'. /? lists them.\n", (int)word.n, word.p);
        return ERR_OK;
    }
    buf_init(&block, MAX_MESSAGE);
    code = take_block(r, text, &block, e);
    if (code == ERR_OK && block.n > 0)
        code = ask(r, buf_str(&block), e);
    else if (code == ERR_CANCELLED || code == ERR_NOT_FOUND)
        code = ERR_OK; /* the block was given up */
    buf_finish(&block);
    return code;
}

static enum err_code loop(struct repl *r, struct err *e)
{
    struct buf text;
    enum err_code code = ERR_OK;

    buf_init(&text, MAX_MESSAGE);
    while (!r->done) {
        buf_clear(&text);
        code = line_read(&r->line, ">>> ", &text, e);
        if (code == ERR_CANCELLED) {
            fprintf(stderr, "Use Ctrl-D or /bye to leave.\n");
            continue;
        }
        if (code != ERR_OK) /* the end of the input, too */
            break;
        code = take_line(r, trim(buf_str(&text)), e);
        if (code != ERR_OK)
            fprintf(stderr, "%serror: %s%s\n", term_on(&r->c->term, STYLE_RED), e->text,
                    term_on(&r->c->term, STYLE_PLAIN));
    }
    buf_finish(&text);
    return r->done || code == ERR_NOT_FOUND ? ERR_OK : code;
}

enum err_code repl_run(struct cli *c, struct err *e)
{
    struct repl r = { .c = c, .verbose = c->given[ARG_VERBOSE],
                      .print = { c, c->given[ARG_HIDE_THINKING], false } };
    enum err_code code;

    buf_init(&r.system, MAX_MESSAGE);
    buf_puts(&r.system, c->value[ARG_SYSTEM] ? c->value[ARG_SYSTEM] : "");
    line_init(&r.line, &c->interrupt);
    r.messages = json_array();
    r.model = mem_strdup(c->argv[0]);
    code = r.messages && r.model ? ERR_OK : err_no_memory(e, 0, "a conversation");
    gen_request_init(&r.request, GEN_CHAT);
    r.request.model = str_from(r.model);
    if (code == ERR_OK)
        code = answer_take_options(c, &r.request, &r.format, e);
    if (code == ERR_OK)
        code = load(&r, e);
    if (code == ERR_OK)
        code = loop(&r, e);
    json_decref(r.format);
    json_decref(r.messages);
    mem_free(r.model);
    line_finish(&r.line);
    buf_finish(&r.system);
    return code;
}
