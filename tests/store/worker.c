/* What the kill test kills.
 *
 *   worker HOME list                      opens, lists and resolves everything: a line "NAME DIGEST" each, or
 *                                         "NAME ! CODE" for one that cannot be loaded; and "key KEY", where
 *                                         there is one
 *   worker HOME do KILL-AT WORD...        one operation; the KILL-AT-th file operation of it (1..) is
 *                                         the last of the process; 0: none. `open` counts as one
 *   worker HOME fail AT WORD...           one operation whose AT-th file operation fails with EIO;
 *                                         then the process is killed, whatever came of it
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

int main(int argc, char **argv)
{
    struct store *s = NULL;
    struct err e;
    json_setup();
    log_set_level(LOG_ERROR);
    if (argc < 3 || store_setup(&e) || transport_setup(&e))
        return 2;
    fault_install();
    const char *log = getenv("HEARTH_TEST_RECORD"); /* all file operations go there: record.h */
    if (log)
        record_to(log);
    bool fail = strcmp(argv[2], "fail") == 0, one = (fail || strcmp(argv[2], "do") == 0) && argc > 4;
    uint64_t kill_at = one ? strtoull(argv[3], NULL, 10) : 0;
    bool opening = one && strcmp(argv[4], "open") == 0;
    if (opening)
        fault_after(kill_at, 0, false);
    if (store_open_with(&fault_ops, argv[1], &s, &e)) {
        fprintf(stderr, "%s\n", e.text);
        return 3;
    }
    store_set_inspector(s, operation_inspect, NULL);
    say("> open", NULL, 0);
    int status = 0;
    if (one && !opening) {
        fault_after(kill_at, fail ? EIO : 0, false);
        status = operate(s, argv + 4, (size_t)argc - 4) != ERR_OK;
        if (fail)
            raise(SIGKILL);
    } else if (!one) {
        status = strcmp(argv[2], "list") == 0 ? list(s) : loop(s);
    }
    store_close(s); /* its file operations count as well */
    fault_after(0, 0, false);
    return status;
}
