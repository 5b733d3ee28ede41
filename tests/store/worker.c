/* What the kill test kills.
 *
 *   worker HOME list                      opens, lists and resolves everything: a line "NAME DIGEST" each, or
 *                                         "NAME ! CODE" for one that cannot be loaded; and "key KEY", where
 *                                         there is one
 *   worker HOME do KILL-AT WORD...        one operation; the KILL-AT-th file operation of it (1..) is
 *                                         the last of the process; 0: none. `open` counts as one
 *   worker HOME fail AT WORD...           one operation whose AT-th file operation fails with EIO;
 *                                         then the process is killed, whatever came of it
 *   worker HOME FAULT AT WORD...          one operation, at whose AT-th file operation or allocation FAULT
 *                                         begins: io, full, memory (once), io-on, full-on, memory-on (and all
 *                                         after it). Tells at its end "! FILE-OPERATIONS ALLOCATIONS" of the
 *                                         operation; exit status 5: it left memory behind
 *   worker HOME loop                      reads operations from stdin, a line each
 *
 * Operations: operations.h. Before each, "> OPERATION", after it "< CODE", written at once: what was
 * acknowledged. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "store/keys.h"
#include "store/transport.h"
#include "tests/store/fault.h"
#include "tests/store/operations.h"
#include "tests/store/record.h"

static enum err_code operate(struct store *s, char *const *words, size_t n)
{
    struct err e = { 0 };
    say(">", (const char *const *)words, n);
    enum err_code code = operation_run(s, words, n, &e);
    say("<", (const char *[]){ err_name(code), e.text }, 2);
    return code;
}

static bool list_key(struct store *s, struct err *e)
{
    struct buf b;
    if (faccessat(s->home_fd, "keys/id_ed25519", F_OK, 0) < 0)
        return true;
    buf_init(&b, 4096);
    bool good = keys_public(s, &b, e) == ERR_OK;
    if (good)
        printf("key %s\n", b.p);
    buf_finish(&b);
    return good;
}

static int list(struct store *s)
{
    struct store_list *l;
    struct err e;
    int bad = store_list(s, &l, &e) ? 1 : 0;
    for (size_t i = 0; !bad && i < l->n; i++) {
        struct store_model *m = NULL;
        enum err_code code = store_resolve(s, l->models[i].canonical, &m, &e);
        printf("%s %s%s\n", l->models[i].canonical, code ? "! " : "", code ? err_name(code) : m->digest_hex);
        store_model_destroy(m);
    }
    if (!bad)
        store_list_destroy(l);
    if (!bad && !list_key(s, &e))
        bad = 1;
    if (bad)
        fprintf(stderr, "%s\n", e.text);
    return bad;
}

static int loop(struct store *s)
{
    char line[4096];
    while (fgets(line, sizeof line, stdin)) {
        char *words[MAX_WORDS], *save = NULL;
        size_t n = 0;
        for (char *w = strtok_r(line, " \n", &save); w && n < MAX_WORDS;
             w = strtok_r(NULL, " \n", &save))
            words[n++] = w;
        operate(s, words, n);
    }
    return 0;
}

/* What happens at the AT-th step of the one operation. */
static const struct mode {
    const char *name;
    int errnum; /* of a file operation; 0: a kill */
    bool memory, sticky, killed, told;
} modes[] = {
    { "do", 0, false, false, false, false },          { "fail", EIO, false, false, true, false },
    { "io", EIO, false, false, false, true },         { "io-on", EIO, false, true, false, true },
    { "full", ENOSPC, false, false, false, true },    { "full-on", ENOSPC, false, true, false, true },
    { "memory", 0, true, false, false, true },        { "memory-on", 0, true, true, false, true },
};

static const struct mode *mode_of(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(name, modes[i].name) == 0)
            return &modes[i];
    return NULL;
}

static int one(struct store *s, const struct mode *m, uint64_t at, char *const *words, size_t n)
{
    char line[3][24];
    uint64_t files = fault_count(), allocations = mem_count();
    if (m->memory)
        mem_fail_after(at, m->sticky);
    else
        fault_after(at, m->errnum, m->sticky);
    enum err_code code = operate(s, words, n);
    mem_fail_after(0, false);
    if (m->killed)
        raise(SIGKILL);
    if (m->told) {
        fault_after(0, 0, false);
        snprintf(line[0], sizeof line[0], "%llu", (unsigned long long)(fault_count() - files));
        snprintf(line[1], sizeof line[1], "%llu", (unsigned long long)(mem_count() - allocations));
        snprintf(line[2], sizeof line[2], "%llu", (unsigned long long)fault_lost_syncs());
        say("!", (const char *[]){ line[0], line[1], line[2] }, 3);
    }
    return code != ERR_OK;
}

int main(int argc, char **argv)
{
    struct store *s = NULL;
    struct err e;
    json_setup();
    log_set_level(LOG_ERROR);
    if (argc < 3 || store_setup(&e))
        return 2;
    fault_install();
    const char *log = getenv("HEARTH_TEST_RECORD"); /* all file operations go there: record.h */
    if (log)
        record_to(log);
    const struct mode *m = argc > 4 ? mode_of(argv[2]) : NULL;
    uint64_t at = m ? strtoull(argv[3], NULL, 10) : 0;
    bool opening = m && strcmp(argv[4], "open") == 0;
    if (opening)
        fault_after(at, 0, false);
    if (store_open_with(&fault_ops, argv[1], &s, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 3;
    }
    store_set_inspector(s, operation_inspect, NULL);
    say("> open", NULL, 0);
    int status = 0;
    if (m && !opening)
        status = one(s, m, at, argv + 4, (size_t)argc - 4);
    else if (!m)
        status = strcmp(argv[2], "list") == 0 ? list(s) : loop(s);
    store_close(s); /* its file operations count as well */
    fault_after(0, 0, false);
    return mem_live() ? 5 : status;
}
