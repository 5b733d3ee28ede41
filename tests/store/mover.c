/* The store's calls that want a network, for tests that bring the other end.
 *
 *   mover HOME pull NAME [AS]        mover HOME push NAME [TO]      mover HOME plan NAME
 *   mover HOME outdated NAME         mover HOME show NAME           mover HOME import NAME FILE...
 *   mover HOME reference NAME FILE   mover HOME text NAME KIND NTH  mover HOME key
 *   mover HOME remove NAME           mover HOME verify NAME         mover HOME repair NAME
 *                                    (- for NAME: all models)
 *
 *   --insecure --offline --ca FILE --mirror URL --realms LIST --key-hosts LIST --hf-endpoint URL
 *   --user NAME --password TEXT --hf-token TEXT --rate BYTES
 *   --fail-alloc N: the N-th allocation of the command fails
 *   --stall S, --give-up S: seconds without a byte after which a transfer, and a download, end
 *
 * What happens is told in lines of JSON on stdout. A failure is one line on stderr, "CODE: SENTENCE", and the
 * exit status that the command would have. SIGINT cancels. The inspector here takes any file that begins
 * with GGUF. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "store/commit.h"
#include "store/download.h"
#include "store/keys.h"
#include "store/pull.h"
#include "store/push.h"
#include "store/transport.h"
#include "store/verify.h"

#define MAX_WORDS 16

struct options {
    struct store_net net;
    struct store_secrets secrets;
    bool insecure;
    const char *rate, *fail_alloc, *stall, *give_up;
    char *words[MAX_WORDS];
    size_t n;
};

static atomic_bool cancelled;

static void on_signal(int sig)
{
    (void)sig;
    atomic_store(&cancelled, true);
}

static enum err_code look_into(void *user, const char *const *paths, size_t n, struct str template, struct arena *a,
                               struct store_facts *out, struct err *e)
{
    char magic[4] = "";
    (void)template;
    (void)user;
    (void)a;
    for (size_t i = 0; i < n; i++) {
        int fd = open(paths[i], O_RDONLY);
        ssize_t got = fd < 0 ? -1 : read(fd, magic, sizeof magic);
        if (fd >= 0)
            close(fd);
        if (got != 4 || memcmp(magic, "GGUF", 4) != 0)
            return err_set(e, ERR_FORMAT, "what came begins like no GGUF file");
    }
    *out = (struct store_facts){ .format = "gguf", .family = "llama", .quantization = "Q8_0", .n_params = 1 };
    return ERR_OK;
}

/* ---- patience ---------------------------------------------------------------------------------- */

/* The linker leads the store's calls of these two here (--wrap): patience is no setting of the store's. */
static unsigned stall_s, give_up_s; /* 0: as the store has it */

enum err_code __real_transport_curl_create(const struct transport_options *o, struct transport **out, struct err *e);
enum err_code __wrap_transport_curl_create(const struct transport_options *o, struct transport **out, struct err *e);
enum err_code __real_download_blob(struct store *s, struct transport *t, const struct download *d,
                                   const struct store_job *job, struct downloaded *out, struct err *e);
enum err_code __wrap_download_blob(struct store *s, struct transport *t, const struct download *d,
                                   const struct store_job *job, struct downloaded *out, struct err *e);

enum err_code __wrap_transport_curl_create(const struct transport_options *o, struct transport **out, struct err *e)
{
    struct transport_options mine = *o;
    mine.stall_s = stall_s ? stall_s : o->stall_s;
    return __real_transport_curl_create(&mine, out, e);
}

enum err_code __wrap_download_blob(struct store *s, struct transport *t, const struct download *d,
                                   const struct store_job *job, struct downloaded *out, struct err *e)
{
    struct download mine = *d;
    mine.give_up_s = give_up_s ? give_up_s : d->give_up_s;
    return __real_download_blob(s, t, &mine, job, out, e);
}

/* ---- lines ------------------------------------------------------------------------------------- */

static void put_line(struct buf *b)
{
    buf_putc(b, '\n');
    if (!b->failed && write(1, b->p, b->n) < 0)
        _exit(4);
    buf_finish(b);
}

static void on_event(void *user, const struct store_event *ev)
{
    (void)user;
    struct buf b;
    struct json_out j;
    char digest[DIGEST_TEXT_SIZE];
    buf_init(&b, 65536);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "status", ev->status);
    if (ev->has_digest) {
        digest_text(&ev->digest, digest);
        json_kstr(&j, "digest", digest);
        json_kint(&j, "total", (int64_t)ev->total);
        json_kint(&j, "completed", (int64_t)ev->completed);
    }
    json_obj_end(&j);
    put_line(&b);
}

static void show_model(const struct store_model *m)
{
    struct buf b;
    struct json_out j;
    char digest[DIGEST_TEXT_SIZE];
    buf_init(&b, (size_t)1 << 24);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "name", m->name);
    json_kstr(&j, "digest", m->digest_hex);
    json_kstr(&j, "source", m->source);
    json_kstr(&j, "revision", m->revision);
    json_kstr(&j, "origin", m->origin);
    json_kint(&j, "size", (int64_t)m->size);
    json_kstr(&j, "manifest", m->manifest);
    json_kstr(&j, "config", m->config);
    json_kstr(&j, "license", m->facts.license);
    json_key(&j, "files");
    json_arr(&j);
    for (size_t i = 0; i < m->n_files; i++) {
        digest_text(&m->files[i].digest, digest);
        json_obj(&j);
        json_kstr(&j, "path", m->files[i].path);
        json_kstr(&j, "kind", media_kind_name(m->files[i].kind));
        json_kstr(&j, "digest", digest);
        json_kint(&j, "size", (int64_t)m->files[i].size);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    json_obj_end(&j);
    put_line(&b);
}

static void show_plan(const struct store_plan *p)
{
    struct buf b;
    struct json_out j;
    buf_init(&b, (size_t)1 << 20);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "name", p->name);
    json_kstr(&j, "source", p->source);
    json_kstr(&j, "revision", p->revision);
    json_kstr(&j, "license", p->license);
    json_kint(&j, "size", (int64_t)p->size);
    json_kint(&j, "missing", (int64_t)p->missing);
    json_kbool(&j, "present", p->present);
    json_kbool(&j, "room", p->disk_free > 0);
    json_key(&j, "files");
    json_arr(&j);
    for (size_t i = 0; i < p->n_files; i++) {
        json_obj(&j);
        json_kstr(&j, "name", p->files[i].name);
        json_kstr(&j, "kind", p->files[i].kind);
        json_kint(&j, "size", (int64_t)p->files[i].size);
        json_kint(&j, "missing", (int64_t)p->files[i].missing);
        json_obj_end(&j);
    }
    json_arr_end(&j);
    json_obj_end(&j);
    put_line(&b);
}

/* ---- commands ---------------------------------------------------------------------------------- */

static struct store_job the_job(void)
{
    return (struct store_job){ .event = on_event, .cancel = &cancelled };
}

static struct store_pull pull_of(const struct options *o)
{
    return (struct store_pull){ .name = o->words[2],
                                .as = o->words[3],
                                .insecure = o->insecure,
                                .limit_rate = o->rate ? strtoull(o->rate, NULL, 10) : 0,
                                .secrets = o->secrets,
                                .job = the_job() };
}

static enum err_code do_pull(struct store *s, const struct options *o, struct err *e)
{
    struct store_pull in = pull_of(o);
    struct store_model *m = NULL;
    enum err_code code = store_pull(s, &in, &m, e);
    if (!code)
        show_model(m);
    store_model_destroy(m);
    return code;
}

static enum err_code do_plan(struct store *s, const struct options *o, struct err *e)
{
    struct store_pull in = pull_of(o);
    struct store_plan *p = NULL;
    enum err_code code = store_pull_plan(s, &in, &p, e);
    if (!code)
        show_plan(p);
    store_plan_destroy(p);
    return code;
}

static enum err_code do_push(struct store *s, const struct options *o, struct err *e)
{
    struct store_push in = { .name = o->words[2],
                             .to = o->words[3],
                             .insecure = o->insecure,
                             .limit_rate = o->rate ? strtoull(o->rate, NULL, 10) : 0,
                             .secrets = o->secrets,
                             .job = the_job() };
    return store_push(s, &in, e);
}

static enum err_code do_outdated(struct store *s, const struct options *o, struct err *e)
{
    bool outdated = false;
    char revision[80] = "";
    struct store_pull in = pull_of(o);
    enum err_code code = store_outdated(s, &in, &outdated, revision, NULL, e);
    if (!code)
        printf("{\"outdated\":%s,\"revision\":\"%s\"}\n", outdated ? "true" : "false", revision);
    return code;
}

static enum err_code do_show(struct store *s, const struct options *o, struct err *e)
{
    struct store_model *m = NULL;
    enum err_code code = store_resolve(s, o->words[2], &m, e);
    if (!code)
        show_model(m);
    store_model_destroy(m);
    return code;
}

static enum err_code do_remove(struct store *s, const struct options *o, struct err *e)
{
    return store_remove(s, o->words[2], NULL, e);
}

static void on_verdict(void *user, const struct store_verdict *v)
{
    (void)user;
    struct buf b;
    struct json_out j;
    buf_init(&b, 65536);
    json_begin(&j, &b);
    json_obj(&j);
    json_kstr(&j, "verdict", v->text);
    json_kbool(&j, "sound", v->verdict == VERDICT_SOUND);
    json_kbool(&j, "repaired", v->verdict == VERDICT_REPAIRED);
    json_kint(&j, "bad_mib", (int64_t)v->n_bad);
    json_obj_end(&j);
    put_line(&b);
}

static enum err_code do_verify(struct store *s, const struct options *o, struct err *e)
{
    struct store_verified v;
    const struct store_verify in = { .name = strcmp(o->words[2], "-") == 0 ? NULL : o->words[2],
                                     .repair = strcmp(o->words[1], "repair") == 0,
                                     .insecure = o->insecure,
                                     .secrets = o->secrets,
                                     .job = the_job(),
                                     .report = on_verdict };
    enum err_code code = store_verify(s, &in, &v, e);
    if (!code)
        printf("{\"files\":%llu,\"bad\":%llu,\"repaired\":%llu}\n", (unsigned long long)v.files,
               (unsigned long long)v.bad, (unsigned long long)v.repaired);
    return code;
}

static enum err_code do_text(struct store *s, const struct options *o, struct err *e)
{
    struct store_model *m = NULL;
    struct arena a = { 0 };
    struct str text = { 0 };
    enum err_code code = store_resolve(s, o->words[2], &m, e);
    if (!code)
        code = store_layer_text(s, m, media_kind_named(o->words[3]), strtoul(o->words[4], NULL, 10), &a, &text, e);
    if (!code && text.p)
        fwrite(text.p, 1, text.n, stdout);
    store_model_destroy(m);
    arena_finish(&a);
    return code;
}

static enum err_code do_import(struct store *s, const struct options *o, struct err *e)
{
    struct store_import_file files[MAX_WORDS];
    struct store_import in = { .name = o->words[2],
                               .files = files,
                               .n_files = o->n - 3,
                               .mode = strcmp(o->words[1], "import") == 0 ? STORE_COPY : STORE_REFERENCE,
                               .facts = { .format = "gguf", .family = "llama", .n_params = 1 } };
    for (size_t i = 0; i < in.n_files; i++)
        files[i] = (struct store_import_file){ .fd = open(o->words[3 + i], O_RDONLY),
                                               .path = o->words[3 + i] };
    enum err_code code = store_import(s, &in, NULL, e);
    for (size_t i = 0; i < in.n_files; i++)
        close(files[i].fd);
    return code;
}

static enum err_code do_key(struct store *s, const struct options *o, struct err *e)
{
    struct buf b;
    (void)o;
    buf_init(&b, 4096);
    enum err_code code = keys_public(s, &b, e);
    if (!code)
        put_line(&b);
    buf_finish(&b);
    return code;
}

static const struct {
    const char *name;
    size_t words;
    enum err_code (*run)(struct store *s, const struct options *o, struct err *e);
} commands[] = { { "pull", 3, do_pull },     { "push", 3, do_push },          { "plan", 3, do_plan },
                 { "outdated", 3, do_outdated }, { "show", 3, do_show },      { "text", 5, do_text },
                 { "import", 4, do_import }, { "reference", 4, do_import },   { "key", 2, do_key },
                 { "remove", 3, do_remove }, { "verify", 3, do_verify },      { "repair", 3, do_verify } };

/* ---- arguments --------------------------------------------------------------------------------- */

static bool parse(struct options *o, int argc, char **argv)
{
    struct {
        const char *name;
        const char **text;
        bool *flag;
    } rows[] = { { "--ca", &o->net.ca_file, NULL },           { "--mirror", &o->net.mirror, NULL },
                 { "--realms", &o->net.realms, NULL },        { "--key-hosts", &o->net.key_hosts, NULL },
                 { "--user", &o->secrets.username, NULL },    { "--password", &o->secrets.password, NULL },
                 { "--hf-token", &o->secrets.hf_token, NULL }, { "--hf-endpoint", &o->net.hf_endpoint, NULL },
                 { "--rate", &o->rate, NULL },                { "--insecure", NULL, &o->insecure },
                 { "--fail-alloc", &o->fail_alloc, NULL },    { "--stall", &o->stall, NULL },
                 { "--give-up", &o->give_up, NULL },
                 { "--offline", NULL, &o->net.offline } };
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        while (k < sizeof rows / sizeof *rows && strcmp(argv[i], rows[k].name) != 0)
            k++;
        if (k == sizeof rows / sizeof *rows) {
            if (o->n == MAX_WORDS - 1)
                return false;
            o->words[o->n++] = argv[i];
        } else if (rows[k].flag) {
            *rows[k].flag = true;
        } else if (++i < argc) {
            *rows[k].text = argv[i];
        } else {
            return false;
        }
    }
    return o->n >= 2;
}

static enum err_code run(const struct options *o, struct err *e)
{
    struct store *s = NULL;
    uint64_t before = 0;
    size_t k = 0;
    while (k < sizeof commands / sizeof *commands && strcmp(commands[k].name, o->words[1]) != 0)
        k++;
    if (k == sizeof commands / sizeof *commands || o->n < commands[k].words)
        return err_set(e, ERR_USAGE, "see the head of mover.c");
    enum err_code code = store_open(o->words[0], &s, e);
    if (!code)
        code = store_set_net(s, &o->net, e);
    if (!code) {
        store_set_inspector(s, look_into, NULL);
        before = mem_count();
        if (o->fail_alloc)
            mem_fail_after(strtoull(o->fail_alloc, NULL, 10), false);
        code = commands[k].run(s, o, e);
        mem_fail_after(0, false);
        log_line(LOG_DEBUG, "msg=\"the command is done\" allocations=%llu",
                 (unsigned long long)(mem_count() - before));
    }
    store_close(s);
    return code;
}

/* Of this program; a parent's pages count in getrusage. */
static long peak_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && kib < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, "VmHWM:", 6) == 0)
            kib = strtol(line + 6, NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

int main(int argc, char **argv)
{
    struct options o = { 0 };
    struct err e = { 0 };
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGINT, &action, NULL);
    json_setup();
    log_set_level(LOG_DEBUG);
    enum err_code code = parse(&o, argc, argv) ? store_setup(&e) : err_set(&e, ERR_USAGE, "see the head of mover.c");
    stall_s = o.stall ? (unsigned)strtoul(o.stall, NULL, 10) : 0;
    give_up_s = o.give_up ? (unsigned)strtoul(o.give_up, NULL, 10) : 0;
    if (!code)
        code = run(&o, &e);
    fflush(stdout);
    log_line(LOG_DEBUG, "msg=\"memory at its most\" peak_kib=%ld", peak_kib());
    if (mem_live() > 0)
        log_line(LOG_ERROR, "msg=\"memory that was not given back\" blocks=%llu", (unsigned long long)mem_live());
    if (code)
        fprintf(stderr, "%s: %s\n", err_name(code), e.text);
    return err_exit_status(code);
}
