/* hearth list, ps, show, rm, cp, stop. */
#include <ctype.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "daemon/protocol_transfer.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define NS_DAY INT64_C(86400000000000)
#define ID_LETTERS 12
#define MAX_PATH 4096

/* ---- requests about one model -------------------------------------------------------------------- */

/* Sends `r` and gives the raw reply (buf_finish in any case). */
static enum err_code send_request(struct cli *c, const char *method, const char *path,
                                  enum model_request_kind kind, const struct model_request *r,
                                  struct buf *reply, struct err *e)
{
    struct buf body;
    enum err_code code;

    buf_init(&body, 65536);
    model_request_write(&body, kind, r);
    if (body.failed) {
        buf_init(reply, 0);
        code = err_set(e, ERR_USAGE, "the name is too long");
    } else {
        code = client_call(&c->client, method, path, buf_str(&body), reply, e);
    }
    buf_finish(&body);
    return answer_explain(code, e);
}

enum err_code cp_run(struct cli *c, struct err *e)
{
    struct model_request r = { .source = str_from(c->argv[0]), .destination = str_from(c->argv[1]) };
    struct buf reply;
    enum err_code code = send_request(c, "POST", "/api/copy", REQUEST_COPY, &r, &reply, e);

    if (code == ERR_OK)
        printf("copied '%s' to '%s'\n", c->argv[0], c->argv[1]);
    buf_finish(&reply);
    return code;
}

/* An empty prompt that is kept for no time: out of memory with it. */
static enum err_code unload(struct cli *c, const char *name, struct err *e)
{
    struct gen_request r;
    struct answer a = { 0 };
    enum err_code code;

    gen_request_init(&r, GEN_GENERATE);
    r.model = str_from(name);
    r.prompt = STR("");
    r.has_prompt = r.has_keep_alive = true;
    r.keep_alive_ns = 0;
    r.stream = false;
    code = answer_get(&c->client, &r, false, NULL, NULL, &a, e);
    answer_finish(&a);
    return code;
}

/* A pull that goes on without a client has no other way to be ended. */
static bool stop_transfer(struct cli *c)
{
    struct model_request r = { .model = str_from(c->argv[0]) };
    struct buf reply;
    struct err e;
    bool stopped = send_request(c, "DELETE", "/api/pull", REQUEST_DELETE, &r, &reply, &e) == ERR_OK;

    if (stopped)
        printf("stopped what was under way for '%s'\n", c->argv[0]);
    buf_finish(&reply);
    return stopped;
}

enum err_code stop_run(struct cli *c, struct err *e)
{
    enum err_code code = unload(c, c->argv[0], e);

    if (code == ERR_NOT_FOUND && stop_transfer(c))
        code = ERR_OK;
    if (code == ERR_NOT_FOUND)
        err_set(e, code, "couldn't find model \"%s\" to stop", c->argv[0]);
    return code;
}

enum err_code rm_run(struct cli *c, struct err *e)
{
    enum err_code code = ERR_OK;

    for (int i = 0; i < c->argc && code == ERR_OK; i++) {
        struct model_request r = { .model = str_from(c->argv[i]) };
        struct buf reply;
        code = send_request(c, "DELETE", "/api/delete", REQUEST_DELETE, &r, &reply, e);
        if (code == ERR_OK)
            printf("deleted '%s'\n", c->argv[i]);
        buf_finish(&reply);
    }
    return code;
}

/* ---- lists ----------------------------------------------------------------------------------------- */

static bool prefixed(const struct cli *c, struct str name)
{
    return c->argc == 0 || str_starts(name, str_from(c->argv[0]));
}

static void cell(struct table *t, struct str s)
{
    table_cell(t, "%.*s", (int)s.n, s.n ? s.p : "");
}

static void tags_row(struct table *t, const struct model_entry *m)
{
    char size[WORDS_SIZE], span[WORDS_SIZE];

    cell(t, m->name);
    table_cell(t, "%.*s", (int)(m->digest.n < ID_LETTERS ? m->digest.n : ID_LETTERS),
               m->digest.n ? m->digest.p : "");
    table_cell(t, "%s", words_bytes(m->size, size));
    table_cell(t, "%s ago", words_span(clock_wall_ns() - m->modified_wall_ns, span));
}

static void processor_cell(struct table *t, const struct model_entry *m)
{
    if (m->size == 0 || m->size_vram > m->size)
        table_cell(t, "Unknown");
    else if (m->size_vram == 0 || m->size_vram == m->size)
        table_cell(t, "100%% %s", m->size_vram ? "GPU" : "CPU");
    else
        table_cell(t, "%.0f%%/%.0f%% CPU/GPU",
                   100.0 * (double)(m->size - m->size_vram) / (double)m->size,
                   100.0 * (double)m->size_vram / (double)m->size);
}

static void until_cell(struct table *t, const struct model_entry *m)
{
    int64_t left = m->expires_wall_ns - clock_wall_ns();
    char span[WORDS_SIZE];

    if (m->expires_wall_ns <= 0)
        table_cell(t, "Never");
    else if (left < 0)
        table_cell(t, "Stopping...");
    else if (left > 20 * 365 * NS_DAY)
        table_cell(t, "Forever");
    else
        table_cell(t, "%s from now", words_span(left, span));
}

static void ps_row(struct table *t, const struct model_entry *m)
{
    char size[WORDS_SIZE];

    cell(t, m->name);
    table_cell(t, "%.*s", (int)(m->digest.n < ID_LETTERS ? m->digest.n : ID_LETTERS),
               m->digest.n ? m->digest.p : "");
    table_cell(t, "%s", words_bytes(m->size, size));
    processor_cell(t, m);
    table_cell(t, "%" PRIu64, m->context_length);
    until_cell(t, m);
}

struct list {
    enum model_list_kind kind;
    const char *path;
    size_t n_columns;
    const char *heads[6];
    void (*row)(struct table *t, const struct model_entry *m);
};

static enum err_code print_list(struct cli *c, const struct list *list, const json_t *root,
                                struct err *e)
{
    struct model_entry *models = NULL;
    size_t n = 0;
    struct table table;
    enum err_code code = model_list_read(root, list->kind, &models, &n, e);

    if (code != ERR_OK)
        return code;
    table_init(&table, list->heads, list->n_columns);
    for (size_t i = 0; i < n; i++)
        if (list->kind == LIST_TAGS || prefixed(c, models[i].name))
            list->row(&table, &models[i]);
    mem_free(models);
    return table_print(&table) ? ERR_OK : err_no_memory(e, 0, "a table");
}

/* What is under way, below the table; nothing where nothing is. */
static enum err_code print_transfers(const json_t *ps, struct err *e)
{
    static const char *const heads[] = { "UNDER WAY", "WHAT", "STATUS", "DONE", "SINCE" };
    struct transfer_entry *v = NULL;
    struct table table;
    size_t n = 0;
    char have[WORDS_SIZE], of[WORDS_SIZE];
    enum err_code code = transfer_list_read(ps, &v, &n, e);

    if (code != ERR_OK || n == 0) {
        mem_free(v);
        return code;
    }
    printf("\n");
    table_init(&table, heads, 5);
    for (size_t i = 0; i < n; i++) {
        cell(&table, v[i].name);
        table_cell(&table, "%.*s%s", (int)v[i].kind.n, v[i].kind.n ? v[i].kind.p : "",
                   v[i].detached ? " (detached)" : "");
        cell(&table, v[i].status);
        if (v[i].total > 0)
            table_cell(&table, "%s of %s (%d%%)", words_bytes(v[i].completed, have), words_bytes(v[i].total, of),
                       (int)(100.0 * (double)v[i].completed / (double)v[i].total));
        else
            table_cell(&table, "%s", "");
        table_cell(&table, "%s ago", words_span(clock_wall_ns() - v[i].started_wall_ns, have));
    }
    mem_free(v);
    return table_print(&table) ? ERR_OK : err_no_memory(e, 0, "a table");
}

/* The list of models says it too; a daemon that cannot tell is no error there. */
static enum err_code list_transfers(struct cli *c, const struct list *list, const json_t *root, struct err *e)
{
    json_t *ps = NULL;
    enum err_code code = ERR_OK;

    if (list->kind == LIST_PS)
        return print_transfers(root, e);
    if (client_json(&c->client, "GET", "/api/ps", (struct str){ 0 }, &ps, NULL) == ERR_OK && ps)
        code = print_transfers(ps, e);
    json_decref(ps);
    return code;
}

/* The words of a filter go to the daemon, which knows what they mean (store/filter.h). */
static void put_filter(struct buf *path, const struct cli *c)
{
    buf_puts(path, "?filter=");
    for (int i = 0; i < c->argc; i++) {
        if (i)
            buf_putc(path, '+');
        for (const unsigned char *p = (const unsigned char *)c->argv[i]; *p; p++)
            if (isalnum(*p) || strchr("-._~/:", *p))
                buf_putc(path, (char)*p);
            else
                buf_printf(path, "%%%02X", *p);
    }
}

static enum err_code get_list(struct cli *c, const struct list *list, struct buf *reply, struct err *e)
{
    struct buf path;
    buf_init(&path, MAX_PATH);
    buf_puts(&path, list->path);
    if (list->kind == LIST_TAGS && c->argc > 0)
        put_filter(&path, c);
    enum err_code code = path.failed ? err_set(e, ERR_USAGE, "the filter is too long")
                                     : client_call(&c->client, "GET", path.p, (struct str){ 0 }, reply, e);
    if (path.failed)
        buf_init(reply, 0);
    buf_finish(&path);
    return code;
}

static enum err_code show_list(struct cli *c, const struct list *list, struct err *e)
{
    struct buf reply;
    json_t *root = NULL;
    enum err_code code = get_list(c, list, &reply, e);

    if (code == ERR_OK && c->given[ARG_JSON])
        cli_print_json(buf_str(&reply));
    else if (code == ERR_OK)
        code = json_read(buf_str(&reply), CLIENT_MAX_REPLY, "the daemon's reply", &root, e);
    if (root)
        code = print_list(c, list, root, e);
    if (root && code == ERR_OK)
        code = list_transfers(c, list, root, e);
    json_decref(root);
    buf_finish(&reply);
    return code;
}

static enum err_code print_outdated(const json_t *root, struct err *e)
{
    static const char *const heads[] = { "NAME", "STATE", "THERE" };
    struct outdated_entry *v = NULL;
    struct table table;
    size_t n = 0;
    enum err_code code = outdated_read(root, &v, &n, e);

    if (code != ERR_OK)
        return code;
    table_init(&table, heads, 3);
    for (size_t i = 0; i < n; i++) {
        if (!v[i].outdated && v[i].error.n == 0)
            continue;
        cell(&table, v[i].name);
        table_cell(&table, "%s", v[i].error.n ? "not known" : "outdated");
        cell(&table, v[i].error.n ? v[i].error : v[i].revision);
    }
    mem_free(v);
    return table_print(&table) ? ERR_OK : err_no_memory(e, 0, "a table");
}

static enum err_code list_outdated(struct cli *c, struct err *e)
{
    json_t *reply = NULL;
    enum err_code code = pull_outdated(c, &reply, e);

    if (code == ERR_OK && c->given[ARG_JSON]) {
        char *text = json_dumps(reply, JSON_COMPACT);
        cli_print_json(str_from(text));
        mem_free(text);
    } else if (code == ERR_OK) {
        code = print_outdated(reply, e);
    }
    json_decref(reply);
    return code;
}

enum err_code list_run(struct cli *c, struct err *e)
{
    static const struct list list = { LIST_TAGS, "/api/tags", 4, { "NAME", "ID", "SIZE", "MODIFIED" },
                                      tags_row };
    if (c->given[ARG_INSECURE] && !c->given[ARG_OUTDATED])
        return err_set(e, ERR_USAGE, "--insecure is for --outdated: a list of what is here asks no other place");
    return c->given[ARG_OUTDATED] ? list_outdated(c, e) : show_list(c, &list, e);
}

enum err_code ps_run(struct cli *c, struct err *e)
{
    static const struct list list = {
        LIST_PS, "/api/ps", 6, { "NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL" }, ps_row
    };
    return show_list(c, &list, e);
}

/* ---- show ------------------------------------------------------------------------------------------ */

static void show_pair(const char *name, struct str value)
{
    struct buf clean;

    if (value.n == 0)
        return;
    buf_init(&clean, 3 * value.n + 1);
    term_clean(&clean, value);
    printf("    %-20s %.*s\n", name, (int)clean.n, clean.p);
    buf_finish(&clean);
}

static void show_number(const char *name, const json_t *info, struct str arch, const char *key)
{
    char path[160];
    const json_t *v;

    snprintf(path, sizeof path, "%.*s.%s", (int)arch.n, arch.n ? arch.p : "", key);
    v = json_object_get(info, path);
    if (json_is_integer(v))
        printf("    %-20s %" PRId64 "\n", name, (int64_t)json_integer_value(v));
}

static void show_block(const char *title, struct str text, int lines)
{
    struct buf clean;

    if (text.n == 0)
        return;
    buf_init(&clean, 3 * text.n + 1);
    term_clean(&clean, text);
    printf("\n  %s\n", title);
    for (const char *p = clean.p; p && *p && lines != 0; lines--) {
        size_t n = strcspn(p, "\n");
        printf("    %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    buf_finish(&clean);
}

static void show_metadata(const json_t *info)
{
    const char *key;
    json_t *value;

    printf("\n  Metadata\n");
    json_object_foreach((json_t *)info, key, value) {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        struct str s = str_from(text);
        printf("    %s    ", key);
        printf("%.*s%s\n", (int)(s.n > 120 ? utf8_complete(s.p, 120) : s.n), s.n ? s.p : "",
               s.n > 120 ? "..." : "");
        mem_free(text);
    }
}

static void show_tensors(const json_t *tensors)
{
    const json_t *t;
    size_t i;

    if (json_array_size(tensors) > 0)
        printf("\n  Tensors\n");
    json_array_foreach(tensors, i, t) {
        char *shape = json_dumps(json_object_get(t, "shape"), JSON_ENCODE_ANY | JSON_COMPACT);
        printf("    %-40s %-6s %s\n", json_string_value(json_object_get(t, "name")),
               json_string_value(json_object_get(t, "type")), shape ? shape : "");
        mem_free(shape);
    }
}

/* The file's own template needs no word. */
static void show_family(struct str family)
{
    char text[160];

    snprintf(text, sizeof text, "%.*s's, for the file has none", (int)(family.n < 99 ? family.n : 99),
             family.n ? family.p : "");
    if (family.n)
        show_pair("template", str_from(text));
}

/* Where it is from, which one, and when it came. */
static void show_origin(const struct show_reply *r)
{
    char span[WORDS_SIZE], when[WORDS_SIZE + 8];

    if (r->origin.n == 0 && r->source.n == 0)
        return;
    printf("\n  Origin\n");
    show_pair("kind", r->origin);
    show_pair("source", r->source);
    show_pair("revision", r->revision);
    snprintf(when, sizeof when, "%s ago", words_span(clock_wall_ns() - r->modified_wall_ns, span));
    show_pair("came", str_from(when));
}

static void show_reply_print(const struct cli *c, const struct show_reply *r)
{
    const json_t *info = r->model_info_tree;
    struct str arch = str_from(json_string_value(json_object_get(info, "general.architecture")));
    char size[WORDS_SIZE];

    printf("  Model\n");
    show_pair("architecture", arch);
    show_pair("parameters", r->details.parameter_size);
    show_number("context length", info, arch, "context_length");
    show_number("embedding length", info, arch, "embedding_length");
    show_pair("quantization", r->details.quantization_level);
    show_pair("size", str_from(r->size ? words_bytes(r->size, size) : NULL));
    show_pair("file", r->path);
    show_family(r->template_family);
    show_pair("requires", r->requires);
    show_pair("renderer", r->renderer);
    show_pair("parser", r->parser);
    if (r->n_capabilities > 0)
        printf("\n  Capabilities\n");
    for (size_t i = 0; i < r->n_capabilities; i++)
        printf("    %.*s\n", (int)r->capabilities[i].n, r->capabilities[i].p);
    show_origin(r);
    show_block("Parameters", r->parameters, -1);
    show_block("System", r->system, 2);
    show_block("License", r->license, 2);
    if (c->given[ARG_VERBOSE]) {
        show_metadata(info);
        show_tensors(r->tensors_tree);
    }
}

/* What can be printed alone, exactly as it is. */
static const struct {
    enum arg option;
    size_t offset; /* of a struct str in struct show_reply */
} show_parts[] = {
    { ARG_TEMPLATE, offsetof(struct show_reply, template) },
    { ARG_PARAMETERS, offsetof(struct show_reply, parameters) },
    { ARG_SHOW_SYSTEM, offsetof(struct show_reply, system) },
    { ARG_LICENSE, offsetof(struct show_reply, license) },
    { ARG_MODELFILE, offsetof(struct show_reply, modelfile) },
};
#define N_SHOW_PARTS (sizeof show_parts / sizeof *show_parts)

/* The one part that was asked for, or N_SHOW_PARTS. */
static enum err_code asked_part(const struct cli *c, size_t *part, struct err *e)
{
    *part = N_SHOW_PARTS;
    for (size_t i = 0; i < N_SHOW_PARTS; i++) {
        if (!c->given[show_parts[i].option])
            continue;
        if (*part < N_SHOW_PARTS)
            return err_set(e, ERR_USAGE, "--%s and --%s: choose one of them",
                           cli_options[show_parts[*part].option].name,
                           cli_options[show_parts[i].option].name);
        *part = i;
    }
    return ERR_OK;
}

static void print_part(const struct cli *c, const struct show_reply *r, size_t part)
{
    const struct str *s = (const struct str *)(const void *)((const char *)r + show_parts[part].offset);

    if (s->n == 0)
        return;
    term_write(&c->term, *s);
    if (s->p[s->n - 1] != '\n')
        printf("\n");
}

enum err_code show_run(struct cli *c, struct err *e)
{
    struct model_request r = { .model = str_from(c->argv[0]), .verbose = c->given[ARG_VERBOSE] };
    struct show_reply show;
    struct buf reply;
    json_t *root = NULL;
    size_t part;
    enum err_code code = asked_part(c, &part, e);

    if (code != ERR_OK)
        return code;
    code = send_request(c, "POST", "/api/show", REQUEST_SHOW, &r, &reply, e);
    if (code == ERR_OK && c->given[ARG_JSON]) {
        cli_print_json(buf_str(&reply));
    } else if (code == ERR_OK) {
        code = json_read(buf_str(&reply), CLIENT_MAX_REPLY, "the daemon's reply", &root, e);
        if (code == ERR_OK)
            code = show_reply_read(root, &show, e);
        if (code == ERR_OK && part < N_SHOW_PARTS)
            print_part(c, &show, part);
        else if (code == ERR_OK)
            show_reply_print(c, &show);
    }
    json_decref(root);
    buf_finish(&reply);
    return code;
}
