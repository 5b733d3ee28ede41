/* hearth adopt: models that other programs have on this machine, listed, and taken in place. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/follow.h"
#include "daemon/protocol_local.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

/* Where they may be: below a variable's value, below the home directory, or at a place of its own. Where a
 * variable is set, the rows behind it that have `unless` do not count. */
static const struct {
    const char *kind, *variable, *below;
    const char *unless; /* NULL: always */
} places[] = {
    { "ollama", "OLLAMA_MODELS", "", NULL },
    { "ollama", "HOME", "/.ollama/models", "OLLAMA_MODELS" },
    { "ollama", NULL, "/usr/share/ollama/.ollama/models", NULL },
    { "ollama", NULL, "/var/lib/ollama/models", NULL },
    { "huggingface", "HF_HUB_CACHE", "", NULL },
    { "huggingface", "HF_HOME", "/hub", "HF_HUB_CACHE" },
    { "huggingface", "XDG_CACHE_HOME", "/huggingface/hub", "HF_HOME" },
    { "huggingface", "HOME", "/.cache/huggingface/hub", "HF_HOME" },
    { "lm-studio", "HOME", "/.lmstudio/models", NULL },
    { "lm-studio", "HOME", "/.cache/lm-studio/models", NULL },
    { "llama.cpp", "LLAMA_CACHE", "", NULL },
    { "llama.cpp", "XDG_CACHE_HOME", "/llama.cpp", "LLAMA_CACHE" },
    { "llama.cpp", "HOME", "/.cache/llama.cpp", "LLAMA_CACHE" },
};
enum { N_PLACES = sizeof places / sizeof places[0] };

static bool is_set(const char *variable)
{
    const char *v = variable ? getenv(variable) : NULL;
    return v && *v;
}

/* The daemon's working directory is its own: only absolute paths go there. */
static void add_root(struct adopt_request *r, const char *kind, const char *path, char **keep)
{
    char real[PATH_MAX];
    if (r->n_roots == ADOPT_MAX_ROOTS || !realpath(path, real))
        return;
    for (size_t i = 0; i < r->n_roots; i++)
        if (str_is(r->roots[i].path, real))
            return;
    char *copy = mem_strdup(real);
    if (!copy)
        return;
    keep[r->n_roots] = copy;
    r->roots[r->n_roots++] = (struct adopt_where){ str_from(kind), str_from(copy) };
}

static void add_known(struct adopt_request *r, char **keep)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < N_PLACES; i++) {
        const char *variable = places[i].variable;
        if ((variable && !is_set(variable)) || is_set(places[i].unless))
            continue;
        int n = snprintf(path, sizeof path, "%s%s", variable ? getenv(variable) : "", places[i].below);
        if (n > 0 && n < (int)sizeof path)
            add_root(r, places[i].kind, path, keep);
    }
}

static const char *state_of(const struct adopt_entry *x)
{
    return x->adopted ? "adopted" : x->problem.n ? "cannot be taken" : x->here ? "here" : "";
}

static bool print_table(const struct adopt_reply *r)
{
    static const char *const heads[] = { "NAME", "SIZE", "TYPE", "FROM", "STATE", "WHERE" };
    struct table t;
    char size[WORDS_SIZE];
    table_init(&t, heads, sizeof heads / sizeof *heads);
    for (size_t i = 0; i < r->n_models; i++) {
        const struct adopt_entry *x = &r->models[i];
        table_cell(&t, "%.*s", (int)x->name.n, x->name.p);
        table_cell(&t, "%s", words_bytes(x->size, size));
        table_cell(&t, "%.*s", (int)x->quantization.n, x->quantization.n ? x->quantization.p : "");
        table_cell(&t, "%.*s", (int)x->kind.n, x->kind.p);
        table_cell(&t, "%s", state_of(x));
        table_cell(&t, "%.*s", (int)x->path.n, x->path.p);
    }
    return table_print(&t);
}

/* Of paths in other programs' folders anybody may have chosen the letters. */
static void print_remark(const char *what, struct str name, struct str why)
{
    fprintf(stderr, "%s", what);
    for (size_t i = 0; i < name.n; i++)
        fputc((unsigned char)name.p[i] < 32 || name.p[i] == 127 ? '?' : name.p[i], stderr);
    fprintf(stderr, ": %.*s\n", (int)why.n, why.p);
}

static enum err_code print_reply(const struct cli *c, const json_t *last, struct err *e)
{
    struct adopt_reply r;
    size_t adopted = 0;
    enum err_code code = adopt_reply_read(last, &r, e);
    if (!code && r.n_models && !print_table(&r))
        code = err_no_memory(e, 0, "a table");
    for (size_t i = 0; !code && i < r.n_models; i++) {
        adopted += r.models[i].adopted;
        if (r.models[i].problem.n)
            print_remark("", r.models[i].name, r.models[i].problem);
    }
    for (size_t i = 0; !code && i < r.n_notes; i++)
        print_remark("not looked at: ", r.notes[i].path, r.notes[i].why);
    if (!code && !r.n_models)
        printf("no models of other programs were found\n");
    else if (!code && !adopted && !c->argc && !c->given[ARG_EVERY])
        printf("`hearth adopt NAME` or `hearth adopt --all` takes them where they are, without a copy\n");
    adopt_reply_finish(&r);
    return code;
}

enum err_code adopt_run(struct cli *c, struct err *e)
{
    struct adopt_request r = { .all = c->given[ARG_EVERY], .stream = true, .n_names = (size_t)c->argc };
    struct buf body;
    char *keep[ADOPT_MAX_ROOTS] = { 0 };
    json_t *last = NULL;
    enum err_code code = ERR_OK;
    r.names = mem_zero(r.n_names + 1, sizeof *r.names);
    for (size_t i = 0; r.names && i < r.n_names; i++)
        r.names[i] = str_from(c->argv[i]);
    if (c->given[ARG_FROM])
        add_root(&r, "directory", c->value[ARG_FROM], keep);
    else
        add_known(&r, keep);
    buf_init(&body, (size_t)1 << 20);
    adopt_request_write(&body, &r);
    if (c->given[ARG_FROM] && !r.n_roots)
        code = err_set(e, ERR_NOT_FOUND, "there is no directory %s", c->value[ARG_FROM]);
    else if (body.failed || !r.names)
        code = err_no_memory(e, body.n, "a request");
    if (!code)
        code = follow_call(c, "/api/adopt", buf_str(&body), &last, e);
    if (!code && last && !c->given[ARG_JSON])
        code = print_reply(c, last, e);
    json_decref(last);
    buf_finish(&body);
    for (size_t i = 0; i < r.n_roots; i++)
        mem_free(keep[i]);
    adopt_request_finish(&r);
    return code;
}
