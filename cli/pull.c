/* hearth pull, push, and what is outdated. */
#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/secrets.h"
#include "daemon/protocol_transfer.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

#define MAX_BODY 65536
#define PULL_SOURCE_SIZE 4096

/* ---- one call -------------------------------------------------------------------------------------- */

/* What the options say, and the secrets for `place`. */
static enum err_code make_request(struct cli *c, const char *place, struct pull_request *r,
                                  struct secrets *s, struct err *e)
{
    const char *rate = c->value[ARG_LIMIT_RATE];

    if (c->given[ARG_ALL])
        secrets_find_kept(&c->client.reach, place, s);
    else
        secrets_find(&c->client.reach, place, s);
    r->hf_token = s->hf_token;
    r->username = s->username;
    r->password = s->password;
    r->insecure = c->given[ARG_INSECURE];
    r->detach = c->given[ARG_DETACH];
    r->dry_run = c->given[ARG_PLAN];
    if (rate && !rate_read(str_from(rate), &r->limit_rate))
        return err_set(e, ERR_USAGE, "--limit-rate %s: not bytes a second, as 500k or 10M", rate);
    return ERR_OK;
}

static enum err_code call(struct cli *c, const char *path, const struct pull_request *r, json_t **last,
                          struct err *e)
{
    struct buf body;
    enum err_code code;

    buf_init(&body, MAX_BODY);
    pull_request_write(&body, r);
    code = body.failed ? err_set(e, ERR_USAGE, "the name is too long") :
                         follow_call(c, path, buf_str(&body), last, e);
    buf_finish(&body);
    return code;
}

/* How to go on, where something is there to go on with. before, other: its other name, or NULL, and what stands
 * between the two. */
static void say_how_to_go_on(const struct cli *c, const char *verb, const char *name, const char *before,
                             const char *other, struct err *e)
{
    const char *insecure = c->given[ARG_INSECURE] ? " --insecure" : "";

    before = other ? before : "";
    other = other ? other : "";
    if (e->code == ERR_CANCELLED) {
        fprintf(stderr, "%sstopped: `hearth %s %s%s%s%s` continues where it stopped\n", c->term.err_tty ? "\n" : "",
                verb, name, before, other, insecure);
        e->text[0] = '\0'; /* all is said */
    } else if (c->arrived && (e->code == ERR_IO || e->code == ERR_TIMEOUT))
        fprintf(stderr, "`hearth %s %s%s%s%s` goes on from what has arrived.\n", verb, name, before, other, insecure);
}

static void say_detached(const struct cli *c, const char *verb, const char *name)
{
    if (!c->given[ARG_JSON])
        printf("%s of '%s' goes on in the daemon: `hearth ps` shows it\n", verb, name);
}

/* ---- the plan -------------------------------------------------------------------------------------- */

static void print_fits(const struct plan_reply *p)
{
    char need[WORDS_SIZE], have[WORDS_SIZE];

    printf("\ndisk      %s to fetch, %s free: %s\n", words_bytes(p->missing, need),
           words_bytes(p->disk_free, have), plan_fits_disk(p) ? "fits" : "does not fit");
    if (p->device.n == 0)
        printf("device    cannot be asked\n");
    else if (p->device_needs == 0)
        printf("device    %.*s, size of the model not known\n", (int)p->device.n, p->device.p);
    else
        printf("device    about %s wanted, %s of %.*s: %s\n", words_bytes(p->device_needs, need),
               words_bytes(p->device_budget, have), (int)p->device.n, p->device.p,
               plan_fits_device(p) ? "fits" : "does not fit");
}

static void put_pair(const char *name, struct str value)
{
    struct buf clean;

    buf_init(&clean, 3 * value.n + 1);
    term_clean(&clean, value);
    if (value.n)
        printf("%-9s %.*s\n", name, (int)clean.n, clean.p);
    buf_finish(&clean);
}

static enum err_code print_plan(const json_t *root, struct err *e)
{
    static const char *const heads[] = { "FILE", "KIND", "SIZE", "TO FETCH" };
    struct plan_reply p;
    struct plan_file *files;
    struct table table;
    char size[WORDS_SIZE];

    if (plan_read(root, &p, &files, e) != ERR_OK)
        return e->code;
    put_pair("model", p.model);
    put_pair("from", p.source);
    put_pair("revision", p.revision);
    put_pair("licence", p.license.n ? p.license : STR("not told"));
    printf("%s\n", p.present ? "here      already\n" : "");
    table_init(&table, heads, 4);
    for (size_t i = 0; i < p.n_files; i++) {
        /* a digest is told from others by less than all of it */
        bool digest = str_starts(files[i].name, STR("sha256:")) && files[i].name.n > 19;
        table_cell(&table, "%.*s", digest ? 19 : (int)files[i].name.n, files[i].name.n ? files[i].name.p : "");
        table_cell(&table, "%.*s", (int)files[i].kind.n, files[i].kind.n ? files[i].kind.p : "");
        table_cell(&table, "%s", files[i].size ? words_bytes(files[i].size, size) : "not known");
        table_cell(&table, "%s", words_bytes(files[i].missing, size));
    }
    mem_free(files);
    if (!table_print(&table))
        return err_no_memory(e, 0, "a table");
    print_fits(&p);
    return ERR_OK;
}

/* ---- pull ------------------------------------------------------------------------------------------ */

static void print_pulled(const struct cli *c, const char *name, const char *model)
{
    size_t n = strlen(name);
    bool known = strncmp(model, name, n) == 0 && (!model[n] || strcmp(model + n, ":latest") == 0);

    if (!c->given[ARG_JSON] && !known)
        fprintf(stderr, "it is called '%s' here\n", model);
}

static enum err_code pull_one(struct cli *c, const char *name, const char *as, char called[PULL_NAME_SIZE],
                              struct err *e)
{
    struct pull_request r;
    struct secrets secrets = { 0 };
    json_t *last = NULL;
    const char *model;
    enum err_code code;

    pull_request_init(&r);
    r.model = str_from(name);
    r.as = str_from(as);
    code = make_request(c, name, &r, &secrets, e);
    if (code == ERR_OK)
        code = call(c, "/api/pull", &r, &last, e);
    model = json_string_value(json_object_get(last, "model"));
    snprintf(called, PULL_NAME_SIZE, "%s", model ? model : name);
    if (code != ERR_OK)
        say_how_to_go_on(c, "pull", name, " --as ", as, e);
    else if (r.detach)
        say_detached(c, "the pull", name);
    else if (r.dry_run && !c->given[ARG_JSON])
        code = print_plan(last, e);
    else if (!as)
        print_pulled(c, name, called);
    json_decref(last);
    secrets_finish(&secrets);
    return code;
}

enum err_code pull_missing(struct cli *c, const char *name, char called[PULL_NAME_SIZE], struct err *e)
{
    bool json = c->given[ARG_JSON];
    enum err_code code;

    fprintf(stderr, "'%s' is not here: pulling it\n", name);
    c->given[ARG_JSON] = false; /* standard output is for the answer */
    code = pull_one(c, name, NULL, called, e);
    c->given[ARG_JSON] = json;
    return code;
}

/* ---- outdated -------------------------------------------------------------------------------------- */

static enum err_code ask_outdated(struct cli *c, struct pull_request *r, const struct secrets *secrets, json_t **reply,
                                  struct err *e)
{
    struct buf body;
    enum err_code code;

    *reply = NULL;
    r->hf_token = secrets->hf_token;
    r->username = secrets->username;
    r->password = secrets->password;
    r->insecure = c->given[ARG_INSECURE];
    buf_init(&body, MAX_BODY);
    pull_request_write(&body, r);
    code = body.failed ? err_set(e, ERR_USAGE, "the filter is too long") :
                         client_json(&c->client, "POST", "/api/outdated", buf_str(&body), reply, e);
    buf_finish(&body);
    if (code == ERR_OK && !*reply)
        code = err_set(e, ERR_FORMAT, "the daemon's reply is empty");
    return code;
}

/* A name and a password are one registry's: where they may help, its models are asked for one by one. */
static enum err_code ask_with_login(struct cli *c, json_t *models, size_t i, struct err *e)
{
    const json_t *entry = json_array_get(models, i);
    const char *source = json_string_value(json_object_get(entry, "source"));
    struct secrets secrets = { 0 };
    struct pull_request r;
    json_t *reply = NULL;
    enum err_code code = ERR_OK;

    if (!json_object_get(entry, "error") || !source || secrets_is_hub(source))
        return ERR_OK;
    pull_request_init(&r);
    r.model = str_from(json_string_value(json_object_get(entry, "name")));
    secrets_find_kept(&c->client.reach, source, &secrets);
    if (secrets.username.n)
        code = ask_outdated(c, &r, &secrets, &reply, e);
    if (reply && json_array_size(json_object_get(reply, "models")) == 1)
        json_array_set(models, i, json_array_get(json_object_get(reply, "models"), 0));
    json_decref(reply);
    secrets_finish(&secrets);
    return code;
}

enum err_code pull_outdated(struct cli *c, json_t **reply, struct err *e)
{
    struct secrets secrets = { 0 };
    struct pull_request r;
    struct buf filter;
    json_t *models;
    enum err_code code;

    pull_request_init(&r);
    secrets_find_kept(&c->client.reach, "hf.co/a/b", &secrets);
    buf_init(&filter, MAX_BODY);
    for (int i = 0; i < c->argc; i++)
        buf_printf(&filter, "%s%s", i ? " " : "", c->argv[i]);
    r.filter = buf_str(&filter);
    *reply = NULL;
    code = filter.failed ? err_set(e, ERR_USAGE, "the filter is too long") : ask_outdated(c, &r, &secrets, reply, e);
    buf_finish(&filter);
    secrets_finish(&secrets);
    models = json_object_get(*reply, "models");
    for (size_t i = 0; code == ERR_OK && i < json_array_size(models); i++)
        code = ask_with_login(c, models, i, e);
    return code;
}

/* From its place, under the name that it has here. */
static enum err_code pull_anew(struct cli *c, const struct outdated_entry *m, struct err *e)
{
    char name[PULL_NAME_SIZE], called[PULL_NAME_SIZE], source[PULL_SOURCE_SIZE];
    struct str from = m->source.n ? m->source : m->name; /* an older daemon does not tell */

    snprintf(name, sizeof name, "%.*s", (int)m->name.n, m->name.n ? m->name.p : "");
    snprintf(source, sizeof source, "%.*s", (int)from.n, from.n ? from.p : "");
    fprintf(stderr, "%s\n", name);
    return pull_one(c, source, name, called, e);
}

/* All are tried; the first error counts. */
static enum err_code pull_all(struct cli *c, struct err *e)
{
    struct outdated_entry *v = NULL;
    json_t *reply = NULL;
    size_t n = 0, pulled = 0;
    enum err_code first = ERR_OK, code = pull_outdated(c, &reply, e);

    if (code == ERR_OK)
        code = outdated_read(reply, &v, &n, e);
    for (size_t i = 0; i < n && code == ERR_OK && first != ERR_CANCELLED; i++) {
        struct err own = { 0 };
        if (v[i].error.n)
            fprintf(stderr, "%.*s: %.*s\n", (int)v[i].name.n, v[i].name.p, (int)v[i].error.n, v[i].error.p);
        if (!v[i].outdated)
            continue;
        if (pull_anew(c, &v[i], &own) == ERR_OK)
            pulled++;
        else if (first == ERR_OK && (first = own.code) != ERR_OK)
            *e = own;
        else
            fprintf(stderr, "hearth: %s\n", own.text);
    }
    if (code == ERR_OK && !c->given[ARG_JSON])
        printf("%zu of %zu models %s anew\n", pulled, n, c->given[ARG_PLAN] ? "would be brought" : "brought");
    mem_free(v);
    json_decref(reply);
    return code != ERR_OK ? code : first;
}

enum err_code pull_run(struct cli *c, struct err *e)
{
    char called[PULL_NAME_SIZE];

    if (c->given[ARG_ALL] == (c->argc == 1))
        return err_set(e, ERR_USAGE, "name a model, or say --all");
    if (c->given[ARG_ALL] && c->given[ARG_AS])
        return err_set(e, ERR_USAGE, "--as gives one model a name: leave out --all");
    return c->given[ARG_ALL] ? pull_all(c, e) : pull_one(c, c->argv[0], c->value[ARG_AS], called, e);
}

/* ---- push ------------------------------------------------------------------------------------------ */

enum err_code push_run(struct cli *c, struct err *e)
{
    const char *to = c->argc > 1 ? c->argv[1] : NULL;
    struct pull_request r;
    struct secrets secrets = { 0 };
    enum err_code code;

    pull_request_init(&r);
    r.model = str_from(c->argv[0]);
    r.destination = str_from(to);
    code = make_request(c, to ? to : c->argv[0], &r, &secrets, e);
    if (code == ERR_OK)
        code = call(c, "/api/push", &r, NULL, e);
    if (code != ERR_OK)
        say_how_to_go_on(c, "push", c->argv[0], " ", to, e);
    else if (r.detach)
        say_detached(c, "the push", c->argv[0]);
    secrets_finish(&secrets);
    return answer_explain(code, e);
}
