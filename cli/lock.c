/* hearth lock, hearth sync: the models that a project uses, by digest. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/lock_file.h"
#include "cli/secrets.h"
#include "daemon/protocol.h"
#include "daemon/protocol_transfer.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/name.h"

#define USUAL_FILE "hearth.lock"
#define MAX_BODY 65536
#define SHORT 12

/* What the daemon has, and what the file asks for. */
struct sync {
    struct cli *c;
    json_t *root;
    struct model_entry *here; /* [n_here] */
    size_t n_here;
    struct lock_file lock;
    size_t brought, wrong;
    bool told; /* the last error names both digests */
};

static enum err_code ask_what_is_here(struct sync *s, struct err *e)
{
    enum err_code code = client_json(&s->c->client, "GET", "/api/tags", (struct str){ 0 }, &s->root, e);

    return code ? code : model_list_read(s->root, LIST_TAGS, &s->here, &s->n_here, e);
}

static void sync_finish(struct sync *s)
{
    mem_free(s->here);
    json_decref(s->root);
    lock_file_finish(&s->lock);
}

static bool same_name(struct str a, struct str b)
{
    return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

/* However it is spelt. */
static const struct model_entry *find(const struct sync *s, struct str name)
{
    char text[NAME_TEXT_MAX + 1];
    struct name n;

    if (name_parse(name, &n, NULL) == ERR_OK && !n.pinned) {
        name_short(&n, text);
        name = str_from(text);
    }
    for (size_t i = 0; i < s->n_here; i++)
        if (same_name(s->here[i].name, name))
            return &s->here[i];
    return NULL;
}

/* ---- lock ------------------------------------------------------------------------------------------ */

static enum err_code lock_one(struct sync *s, struct lock_file *to, struct str name, struct err *e)
{
    const struct model_entry *m = find(s, name);

    if (!m)
        return err_set(e, ERR_NOT_FOUND, "model '%.*s' not found: pull it first", (int)name.n, name.p);
    return lock_file_put(to, &(struct lock_row){ .name = m->name, .digest = m->digest, .size = m->size, .origin = m->origin,
                                                 .source = m->source, .revision = m->revision }, e);
}

/* The lines that there are; of standard output ("-") there are none. */
static enum err_code lines_before(const struct cli *c, const char *file, struct lock_file *out, struct err *e)
{
    bool none = strcmp(file, "-") == 0;
    enum err_code code = none ? ERR_NOT_FOUND : lock_file_read(file, out, e);

    if (code != ERR_NOT_FOUND || c->argc == 0)
        return none ? err_set(e, ERR_USAGE, "which models? `hearth lock MODEL... -o -` writes their lines") : code;
    err_clear(e);
    return ERR_OK;
}

static enum err_code put_out(const char *file, struct lock_file *to, struct err *e)
{
    struct buf text;
    enum err_code code = ERR_OK;

    if (strcmp(file, "-") != 0) {
        code = lock_file_write(file, to, e);
        if (!code)
            printf("%zu model%s in '%s'\n", to->n, to->n == 1 ? "" : "s", file);
        return code;
    }
    buf_init(&text, LOCK_FILE_MAX);
    lock_file_text(to, &text);
    if (text.failed)
        code = err_no_memory(e, text.n, "the lines of the models");
    else
        fwrite(text.p, 1, text.n, stdout);
    buf_finish(&text);
    return code;
}

/* Models that are named come to those of the file; without names those of the file are looked at anew. */
enum err_code lock_run(struct cli *c, struct err *e)
{
    const char *file = c->value[ARG_OUTPUT] ? c->value[ARG_OUTPUT] : USUAL_FILE;
    struct sync s = { .c = c };
    struct lock_file to = { 0 };
    enum err_code code = lines_before(c, file, &s.lock, e);

    if (!code)
        code = ask_what_is_here(&s, e);
    for (size_t i = 0; !code && i < s.lock.n; i++)
        code = c->argc > 0 ? lock_file_put(&to, &s.lock.row[i], e) : lock_one(&s, &to, s.lock.row[i].name, e);
    for (int i = 0; !code && i < c->argc; i++)
        code = lock_one(&s, &to, str_from(c->argv[i]), e);
    if (!code)
        code = put_out(file, &to, e);
    lock_file_finish(&to);
    sync_finish(&s);
    return code;
}

/* ---- sync ------------------------------------------------------------------------------------------ */

static enum err_code call_models(struct cli *c, const char *method, const char *path, enum model_request_kind kind,
                                 const struct model_request *r, struct err *e)
{
    struct buf body, reply;
    enum err_code code;

    buf_init(&body, MAX_BODY);
    model_request_write(&body, kind, r);
    code = client_call(&c->client, method, path, buf_str(&body), &reply, e);
    buf_finish(&body);
    buf_finish(&reply);
    return code;
}

/* `text` is what to pull, under the name `as`. *found: the digest of what came. */
static enum err_code pull(struct cli *c, struct str text, struct str as, struct str *found, json_t **last, struct err *e)
{
    struct pull_request r;
    struct secrets secrets = { 0 };
    struct buf body;
    char name[1024];
    enum err_code code;

    snprintf(name, sizeof name, "%.*s", (int)text.n, text.p);
    secrets_find(&c->client.reach, name, &secrets);
    pull_request_init(&r);
    r.model = text;
    r.as = as;
    r.hf_token = secrets.hf_token;
    r.username = secrets.username;
    r.password = secrets.password;
    r.insecure = c->given[ARG_INSECURE];
    buf_init(&body, MAX_BODY);
    pull_request_write(&body, &r);
    code = body.failed ? err_set(e, ERR_USAGE, "the name is too long") : follow_call(c, "/api/pull", buf_str(&body), last, e);
    if (!code)
        *found = str_from(json_string_value(json_object_get(*last, "model_digest")));
    buf_finish(&body);
    secrets_finish(&secrets);
    return code;
}

static enum err_code another(struct sync *s, const struct lock_row *row, struct str found, const char *where, struct err *e)
{
    s->told = true;
    return err_set(e, ERR_CONFLICT, "'%.*s' is locked at %.*s, and %s is %.*s", (int)row->name.n, row->name.p,
                   (int)row->digest.n, row->digest.p, where, found.n ? (int)found.n : 9, found.n ? found.p : "not known");
}

/* https://HOST/ORG/REPO/blob/REVISION/FILE, hf.co/ORG/REPO[:WANT][@REVISION], as store/hub.c makes them. */
static void pin_hub(const struct lock_row *row, struct str base, struct buf *out)
{
    const char *view = strstr(row->source.p, "/blob/"), *file = view ? strchr(view + 6, '/') : NULL;

    if (str_starts(row->source, STR("https://")) && file)
        buf_printf(out, "%.*s%s%s", (int)(view + 6 - row->source.p), row->source.p, row->revision.p, file);
    else
        buf_printf(out, "%.*s@%s", (int)base.n, base.p, row->revision.p);
}

/* What is to be pulled so that it is the locked one, as far as its place can pin: a registry by the digest, the hub by
 * its revision, a URL not at all. False: it came from no network. */
static bool pinned(const struct lock_row *row, struct buf *out)
{
    const char *at = row->source.n ? memchr(row->source.p, '@', row->source.n) : NULL;
    struct str base = { row->source.p, at ? (size_t)(at - row->source.p) : row->source.n };

    if (str_is(row->origin, "registry"))
        buf_printf(out, "%.*s@sha256:%.*s", (int)base.n, base.p, (int)row->digest.n, row->digest.p);
    else if (str_is(row->origin, "hub") && row->revision.n)
        pin_hub(row, base, out);
    else if (str_is(row->origin, "url") || str_is(row->origin, "hub"))
        buf_put(out, row->source.p, row->source.n);
    else
        return false;
    return row->source.n > 0;
}

/* Under a name of its own first: the one that is meant changes only to what is locked. */
static enum err_code pull_locked(struct sync *s, const struct lock_row *row, struct err *e)
{
    struct buf text;
    struct str found = { 0 };
    json_t *last = NULL;
    char own[64];
    enum err_code code;

    buf_init(&text, MAX_BODY);
    if (!pinned(row, &text)) {
        buf_finish(&text);
        return err_set(e, ERR_NOT_FOUND, "'%.*s' (sha256:%.*s) is not here, and came from no network but by %.*s: bring it by "
                       "`hearth export` and `hearth import`", (int)row->name.n, row->name.p, (int)row->digest.n, row->digest.p,
                       (int)row->origin.n, row->origin.p);
    }
    snprintf(own, sizeof own, "sync/%.*s:locked", SHORT, row->digest.p);
    code = pull(s->c, buf_str(&text), str_from(own), &found, &last, e);
    if (!code) {
        struct err dropped = { 0 };
        if (same_name(found, row->digest))
            code = call_models(s->c, "POST", "/api/copy", REQUEST_COPY,
                               &(struct model_request){ .source = str_from(own), .destination = row->name }, e);
        else
            code = another(s, row, found, "what its place gives", e);
        call_models(s->c, "DELETE", "/api/delete", REQUEST_DELETE, &(struct model_request){ .model = str_from(own) }, &dropped);
    }
    json_decref(last);
    buf_finish(&text);
    return code;
}

/* The same model may be here under another name. */
static enum err_code bring(struct sync *s, const struct lock_row *row, struct err *e)
{
    for (size_t i = 0; i < s->n_here; i++)
        if (same_name(s->here[i].digest, row->digest))
            return call_models(s->c, "POST", "/api/copy", REQUEST_COPY,
                               &(struct model_request){ .source = s->here[i].name, .destination = row->name }, e);
    return pull_locked(s, row, e);
}

/* One that is here as another model stays so, unless the lock is to be the truth. */
static enum err_code sync_row(struct sync *s, const struct lock_row *row, struct err *e)
{
    const struct model_entry *m = find(s, row->name);
    enum err_code code;

    if (m && same_name(m->digest, row->digest))
        return ERR_OK;
    if (m && !s->c->given[ARG_FROZEN]) {
        s->wrong++;
        fprintf(stderr, "'%.*s' is locked at %.*s, and here it is %.*s: --frozen brings the locked one\n", (int)row->name.n, row->name.p,
                SHORT, row->digest.p, SHORT, m->digest.p);
        return ERR_OK;
    }
    s->told = false;
    code = bring(s, row, e);
    s->brought += code == ERR_OK;
    if (code && code != ERR_CANCELLED && !s->told)
        err_prefix(e, "'%.*s' is locked at %.*s, and here %s%.*s", (int)row->name.n, row->name.p, (int)row->digest.n,
                   row->digest.p, m ? "it is " : "it is not", m ? (int)m->digest.n : 0, m ? m->digest.p : "");
    return code;
}

/* All are tried; the first that failed is what it comes to. */
static enum err_code sync_all(struct sync *s, struct err *e)
{
    enum err_code first = ERR_OK;

    for (size_t i = 0; i < s->lock.n && first != ERR_CANCELLED; i++) {
        struct err own = { 0 };
        enum err_code code = sync_row(s, &s->lock.row[i], &own);
        if (code && first)
            fprintf(stderr, "hearth: %s\n", own.text);
        if (code && !first) {
            first = code;
            *e = own;
        }
    }
    return first;
}

enum err_code sync_run(struct cli *c, struct err *e)
{
    const char *file = c->argc > 0 ? c->argv[0] : USUAL_FILE;
    struct sync s = { .c = c };
    enum err_code code = lock_file_read(file, &s.lock, e);

    if (!code)
        code = ask_what_is_here(&s, e);
    if (!code)
        code = sync_all(&s, e);
    if (!code && c->given[ARG_JSON])
        printf("{\"status\":\"success\",\"models\":%zu,\"brought\":%zu,\"wrong\":%zu}\n", s.lock.n, s.brought, s.wrong);
    else if (!code && s.wrong)
        printf("%zu of %zu models are not as '%s' has them\n", s.wrong, s.lock.n, file);
    else if (!code)
        printf("%zu model%s as '%s' has %s, %zu brought\n", s.lock.n, s.lock.n == 1 ? "" : "s", file,
               s.lock.n == 1 ? "it" : "them", s.brought);
    sync_finish(&s);
    return code;
}
