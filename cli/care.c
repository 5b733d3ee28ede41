/* hearth verify and prune: is what is in the store whole, and does anything lie there for nothing? */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/secrets.h"
#include "daemon/protocol_care.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"

static enum err_code call(struct cli *c, const char *path, struct care_request *r, json_t **last, struct err *e)
{
    struct buf body;
    buf_init(&body, 65536);
    r->stream = true;
    care_request_write(&body, r);
    enum err_code code = body.failed ? err_set(e, ERR_USAGE, "the name is too long")
                                     : follow_call(c, path, buf_str(&body), last, e);
    buf_finish(&body);
    return answer_explain(code, e);
}

/* ---- verify ---------------------------------------------------------------------------------------- */

static void print_clean(struct str s)
{
    struct buf clean;
    buf_init(&clean, 4 * s.n + 1);
    term_clean(&clean, s);
    printf("%.*s\n", (int)clean.n, clean.n ? clean.p : "");
    buf_finish(&clean);
}

static enum err_code print_verified(struct cli *c, const json_t *last, struct verify_reply *sum, struct err *e)
{
    struct verify_reply r;
    struct damaged_entry *v = NULL;
    size_t n = 0;
    enum err_code code = verify_reply_read(last, &r, &v, &n, e);
    for (size_t i = 0; code == ERR_OK && i < n && !c->given[ARG_JSON]; i++)
        print_clean(v[i].text);
    mem_free(v);
    sum->files += r.files;
    sum->bytes += r.bytes;
    sum->bad += r.bad;
    sum->repaired += r.repaired;
    return code;
}

static enum err_code verify_one(struct cli *c, const char *model, struct verify_reply *sum, struct err *e)
{
    struct care_request r = { .model = str_from(model), .repair = c->given[ARG_REPAIR],
                              .insecure = c->given[ARG_INSECURE] };
    struct secrets secrets = { 0 };
    json_t *last = NULL;
    if (r.repair)
        secrets_find(&c->client.reach, "hf.co/a/b", &secrets); /* under whatever name it is here */
    if (r.repair && model && !secrets_is_hub(model))
        secrets_find(&c->client.reach, model, &secrets);
    r.hf_token = secrets.hf_token;
    r.username = secrets.username;
    r.password = secrets.password;
    enum err_code code = call(c, "/api/verify", &r, &last, e);
    secrets_finish(&secrets);
    if (code == ERR_OK)
        code = print_verified(c, last, sum, e);
    json_decref(last);
    return code;
}

enum err_code verify_run(struct cli *c, struct err *e)
{
    struct verify_reply sum = { 0 };
    char size[WORDS_SIZE];
    if (c->given[ARG_INSECURE] && !c->given[ARG_REPAIR])
        return err_set(e, ERR_USAGE, "--insecure is for --repair: without it no other place is asked");
    enum err_code code = c->argc ? ERR_OK : verify_one(c, NULL, &sum, e);
    for (int i = 0; code == ERR_OK && i < c->argc; i++)
        code = verify_one(c, c->argv[i], &sum, e);
    if (code != ERR_OK)
        return code;
    if (!c->given[ARG_JSON])
        printf("%" PRIu64 " file%s of %s verified: %s\n", sum.files, sum.files == 1 ? "" : "s",
               words_bytes(sum.bytes, size), sum.bad ? "not all are sound" : "all are sound");
    if (sum.bad)
        return err_set(e, ERR_FORMAT, "%" PRIu64 " file%s not sound%s", sum.bad, sum.bad == 1 ? " is" : "s are",
                       c->given[ARG_REPAIR] ? "" : "; `hearth verify --repair` fetches what is damaged");
    return ERR_OK;
}

/* ---- prune ----------------------------------------------------------------------------------------- */

static enum err_code print_pruned(const json_t *last, const char *which, size_t *n, struct err *e)
{
    struct pruned_entry *v = NULL;
    char size[WORDS_SIZE];
    enum err_code code = pruned_read(last, which, &v, n, e);
    for (size_t i = 0; code == ERR_OK && i < *n; i++) {
        struct buf clean;
        buf_init(&clean, 4 * v[i].name.n + 1);
        term_clean(&clean, v[i].name);
        printf("%-9.*s %-9s %.*s\n", (int)v[i].kind.n, v[i].kind.n ? v[i].kind.p : "",
               words_bytes(v[i].size, size), (int)clean.n, clean.n ? clean.p : "");
        buf_finish(&clean);
    }
    mem_free(v);
    return code;
}

static enum err_code print_prune(struct cli *c, const json_t *last, struct err *e)
{
    size_t n = 0, strangers = 0;
    char size[WORDS_SIZE];
    uint64_t freed = (uint64_t)json_integer_value(json_object_get(last, "freed"));
    enum err_code code = print_pruned(last, "removed", &n, e);
    if (code == ERR_OK)
        code = print_pruned(last, "strangers", &strangers, e);
    if (code == ERR_OK)
        printf("%zu file%s %s, %s\n", n, n == 1 ? "" : "s", c->given[ARG_TELL_ONLY] ? "would go" : "removed",
               words_bytes(freed, size));
    if (code == ERR_OK && strangers)
        printf("%zu in blobs/ that Hearth did not put there: left alone\n", strangers);
    return code;
}

enum err_code prune_run(struct cli *c, struct err *e)
{
    struct care_request r = { .dry_run = c->given[ARG_TELL_ONLY], .has_older = c->given[ARG_OLDER] };
    json_t *last = NULL;
    int64_t ns = 0;
    if (r.has_older && (!duration_read(str_from(c->value[ARG_OLDER]), true, &ns) || ns < 0))
        return err_set(e, ERR_USAGE, "--older-than %s: not a duration, as 90m or 24h", c->value[ARG_OLDER]);
    r.older_s = (uint64_t)ns / 1000000000;
    enum err_code code = call(c, "/api/prune", &r, &last, e);
    if (code == ERR_OK && !c->given[ARG_JSON])
        code = print_prune(c, last, e);
    json_decref(last);
    return code;
}
