/* What the kill test kills.
 *
 *   worker HOME list                      opens, lists and resolves everything, one name a line
 *   worker HOME do KILL-AT WORD...        one operation; the KILL-AT-th file operation of it (1..) is
 *                                         the last of the process; 0: none. `open` counts as one
 *   worker HOME fail AT WORD...           one operation whose AT-th file operation fails with EIO;
 *                                         then the process is killed, whatever came of it
 *   worker HOME loop                      reads operations from stdin, a line each
 *
 * Operations: import NAME copy|reference FILE... · cp FROM TO · rm NAME · export FILE NAME... · bundle NAME FILE ·
 *             verify · prune · texts NAME FILE: as a pull commits it, with a template and a licence
 * Before each, "> OPERATION", after it "< CODE", written at once: what was acknowledged. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "store/bundle.h"
#include "store/commit.h"
#include "store/verify.h"
#include "tests/store/fault.h"
#include "tests/store/record.h"

#define MAX_WORDS 16

static void say(const char *mark, char *const *words, size_t n)
{
    char line[4096];
    int at = snprintf(line, sizeof line, "%s", mark);
    for (size_t i = 0; i < n && at < (int)sizeof line - 300; i++)
        at += snprintf(line + at, sizeof line - (size_t)at, " %.255s", words[i]);
    line[at] = '\n';
    record_said(line, (size_t)at);
    if (write(1, line, (size_t)at + 1) < 0)
        _exit(4);
}

static enum err_code import(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct store_import_file files[MAX_WORDS];
    struct store_import in = { .name = words[1],
                               .files = files,
                               .n_files = n - 3,
                               .mode = strcmp(words[2], "copy") == 0 ? STORE_COPY : STORE_REFERENCE,
                               .facts = { .format = "gguf", .family = "llama", .n_params = 1 } };
    for (size_t i = 0; i < in.n_files; i++)
        files[i] = (struct store_import_file){ .fd = open(words[3 + i], O_RDONLY),
                                               .path = words[3 + i] };
    enum err_code code = store_import(s, &in, NULL, e);
    for (size_t i = 0; i < in.n_files; i++)
        close(files[i].fd);
    return code;
}

static enum err_code to_file(void *user, const void *p, size_t n, struct err *e)
{
    return fwrite(p, 1, n, user) == n ? ERR_OK : err_set(e, ERR_IO, "writing a bundle failed");
}

static enum err_code export(struct store *s, char *const *words, size_t n, struct err *e)
{
    const char *names[MAX_WORDS];
    FILE *f = fopen(words[1], "wb");
    for (size_t i = 2; i < n; i++)
        names[i - 2] = words[i];
    enum err_code code = f ? store_export(s, names, n - 2, &(struct tar_sink){ to_file, f }, NULL, e)
                           : err_set(e, ERR_IO, "opening %s failed", words[1]);
    if (f && fclose(f) && !code)
        code = err_set(e, ERR_IO, "writing a bundle failed");
    return code;
}

static enum err_code bundle(struct store *s, char *const *words, struct err *e)
{
    struct store_bundle in = { .fd = open(words[2], O_RDONLY), .path = words[2], .as = words[1] };
    enum err_code code = store_import_bundle(s, &in, e);
    close(in.fd);
    return code;
}

static enum err_code looked_into(void *user, const char *const *paths, size_t n, struct str template, struct arena *a, struct store_facts *out,
                                 struct err *e)
{
    (void)template;
    (void)user, (void)paths, (void)n, (void)a, (void)e;
    *out = (struct store_facts){ .format = "gguf", .family = "llama", .n_params = 1 };
    return ERR_OK;
}

static enum err_code commit(struct store *s, const char *name, struct commit_layer *layers, struct err *e)
{
    struct name parsed;
    struct buf manifest;
    struct manifest_layer rows[4];
    struct store_facts facts = { .format = "gguf" };
    struct commit c = { .name = &parsed, .layers = layers, .n_layers = 4, .facts = &facts, .kind = "registry",
                        .source = "https://registry.example/v2/m" };
    for (size_t i = 0; i < 4; i++)
        rows[i] = (struct manifest_layer){ .media_type = layers[i].media_type, .digest = layers[i].digest,
                                           .size = layers[i].size };
    buf_init(&manifest, MANIFEST_MAX_BYTES);
    enum err_code code = store_new_name(name, &parsed, e);
    code = code ? code : store_facts_check(&facts, e);
    code = code ? code : manifest_write(&rows[0], rows + 1, 3, &manifest, &c.digest, e);
    c.manifest = buf_str(&manifest);
    code = code ? code : store_commit(s, &c, NULL, e);
    buf_finish(&manifest);
    return code;
}

static enum err_code texts(struct store *s, const char *name, const char *file, struct err *e)
{
    static const struct {
        enum media_kind kind;
        const char *text;
    } rows[4] = { { MEDIA_CONFIG, "{}" }, { MEDIA_MODEL, NULL }, { MEDIA_TEMPLATE, "a template" },
                  { MEDIA_LICENSE, "a licence" } };
    struct commit_layer layers[4];
    struct blob_part part;
    struct buf chunks;
    struct blob_meter meter = { 0 };
    struct blob_source from = { .fd = open(file, O_RDONLY), .path = file };
    buf_init(&chunks, CHUNK_HASHES_MAX);
    enum err_code code = blob_stage(&s->blobs, &from, &meter, &part, &chunks, e);
    close(from.fd);
    for (size_t i = 0; !code && i < 4; i++) {
        struct str text = str_from(rows[i].text);
        layers[i] = (struct commit_layer){ .media_type = media_type_of(rows[i].kind), .where = COMMIT_TEXT,
                                           .text = text, .size = text.n };
        code = manifest_digest(text, &layers[i].digest, e);
    }
    if (code)
        goto out;
    layers[1] = (struct commit_layer){ .media_type = media_type_of(MEDIA_MODEL), .where = COMMIT_PART,
                                       .part = &part, .digest = part.digest, .size = part.size,
                                       .chunks = buf_str(&chunks) };
    code = commit(s, name, layers, e);
out:
    blob_discard(&s->blobs, &part);
    buf_finish(&chunks);
    return code;
}

static enum err_code verify(struct store *s, struct err *e)
{
    struct store_verified v;
    enum err_code code = store_verify(s, &(struct store_verify){ .threads = 1 }, &v, e);
    return code || !v.bad ? code : err_set(e, ERR_FORMAT, "files are damaged");
}

static enum err_code operate(struct store *s, char *const *words, size_t n)
{
    struct err e = { 0 };
    enum err_code code = ERR_USAGE;
    say(">", words, n);
    if (n > 3 && strcmp(words[0], "import") == 0)
        code = import(s, words, n, &e);
    else if (n > 2 && strcmp(words[0], "export") == 0)
        code = export(s, words, n, &e);
    else if (n == 3 && strcmp(words[0], "bundle") == 0)
        code = bundle(s, words, &e);
    else if (n == 3 && strcmp(words[0], "cp") == 0)
        code = store_copy(s, words[1], words[2], &e);
    else if (n == 2 && strcmp(words[0], "rm") == 0)
        code = store_remove(s, words[1], NULL, &e);
    else if (n == 3 && strcmp(words[0], "texts") == 0)
        code = texts(s, words[1], words[2], &e);
    else if (n == 1 && strcmp(words[0], "verify") == 0)
        code = verify(s, &e);
    else if (n == 1 && strcmp(words[0], "prune") == 0)
        code = store_prune(s, &(struct store_prune){ 0 }, NULL, &e);
    char *answer[] = { (char *)err_name(code), e.text };
    say("<", answer, 2);
    return code;
}

static int list(struct store *s)
{
    struct store_list *l;
    struct err e;
    int bad = store_list(s, &l, &e) ? 1 : 0;
    for (size_t i = 0; !bad && i < l->n; i++) {
        struct store_model *m = NULL;
        bad = store_resolve(s, l->models[i].canonical, &m, &e) ? 1 : 0;
        if (!bad)
            printf("%s %s\n", m->name, m->digest_hex);
        store_model_destroy(m);
    }
    if (bad)
        fprintf(stderr, "%s\n", e.text);
    else
        store_list_destroy(l);
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
    if (argc < 3 || store_setup(&e))
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
    store_set_inspector(s, looked_into, NULL);
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
