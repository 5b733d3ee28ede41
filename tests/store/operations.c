#include "tests/store/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/adopt.h"
#include "store/bundle.h"
#include "store/create.h"
#include "store/keys.h"
#include "store/pull.h"
#include "store/verify.h"
#include "tests/store/record.h"

static const struct store_facts any_facts = { .format = "gguf", .family = "llama", .n_params = 1 };

void say(const char *mark, const char *const *words, size_t n)
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

enum err_code operation_inspect(void *user, const char *const *paths, size_t n, struct str template,
                                struct arena *a, struct store_facts *out, struct err *e)
{
    (void)user, (void)paths, (void)n, (void)template, (void)a, (void)e;
    *out = any_facts;
    return ERR_OK;
}

static enum err_code no_file(const char *path, struct err *e)
{
    return err_errno(e, ERR_IO, errno, "the test's own file '%s'", path);
}

/* ---- in from outside ------------------------------------------------------------------------- */

static enum err_code do_import(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct store_import_file files[MAX_WORDS];
    struct store_import in = { .name = words[1],
                               .files = files,
                               .n_files = n - 3,
                               .mode = strcmp(words[2], "copy") == 0 ? STORE_COPY : STORE_REFERENCE,
                               .facts = any_facts };
    for (size_t i = 0; i < in.n_files; i++)
        files[i] = (struct store_import_file){ .fd = open(words[3 + i], O_RDONLY | O_CLOEXEC),
                                               .path = words[3 + i] };
    enum err_code code = store_import(s, &in, NULL, e);
    for (size_t i = 0; i < in.n_files; i++)
        close(files[i].fd);
    return code;
}

static enum err_code do_pull(struct store *s, char *const *words, size_t n, struct err *e)
{
    (void)n;
    return store_pull(s, &(struct store_pull){ .name = words[2], .as = words[1] }, NULL, e);
}

static enum err_code do_bundle(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct store_bundle in = { .fd = open(words[2], O_RDONLY | O_CLOEXEC), .path = words[2], .as = words[1] };
    (void)n;
    enum err_code code = store_import_bundle(s, &in, e);
    close(in.fd);
    return code;
}

static enum err_code do_adopt(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct adopt_root root = { words[2], words[3] };
    struct adopt_list *l = NULL;
    size_t i = 0;
    (void)n;
    enum err_code code = adopt_find(s, &root, 1, NULL, &l, e);
    while (!code && i < l->n_found && strcmp(l->found[i].name, words[1]) != 0)
        i++;
    if (!code)
        code = i < l->n_found ? store_adopt(s, &l->found[i], NULL, NULL, e)
                              : err_set(e, ERR_USAGE, "no '%s' is found there", words[1]);
    adopt_list_destroy(l);
    return code;
}

/* ---- made here ------------------------------------------------------------------------------- */

static struct store_create_text text_of(enum media_kind kind, const char *text)
{
    return (struct store_create_text){ .kind = kind, .text = str_from(text) };
}

static enum err_code do_text(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct store_create_text texts[] = { text_of(MEDIA_TEMPLATE, words[3]), text_of(MEDIA_SYSTEM, words[4]) };
    struct store_create in = { .name = words[1], .from = words[2], .texts = texts, .n_texts = 2 };
    (void)n;
    return store_create(s, &in, NULL, e);
}

static enum err_code send(struct uploads *u, const char *p, size_t n, struct store_create_file *f, struct err *e)
{
    struct upload *x = NULL;
    enum err_code code = manifest_digest((struct str){ p, n }, &f->digest, e);
    if (!code)
        code = upload_begin(u, &f->digest, true, n, &x, e);
    if (code || !x)
        return code;
    for (size_t at = 0, part; !code && at < n; at += part) {
        part = n - at < 100000 ? n - at : 100000;
        code = upload_write(x, p + at, part, e);
    }
    if (code)
        upload_abort(x);
    return code ? code : upload_end(x, e);
}

static enum err_code do_blob(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct store_create_text text = text_of(MEDIA_TEMPLATE, words[3]);
    struct store_create_file file = { .kind = MEDIA_MODEL, .name = words[2], .has_digest = true, .fd = -1 };
    struct uploads *u = NULL;
    struct stat st;
    (void)n;
    int fd = open(words[2], O_RDONLY | O_CLOEXEC);
    char *bytes = fd >= 0 && fstat(fd, &st) == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    bool good = bytes && read(fd, bytes, (size_t)st.st_size) == st.st_size;
    enum err_code code = good ? uploads_create(s, &u, e) : no_file(words[2], e);
    if (!code)
        code = send(u, bytes, (size_t)st.st_size, &file, e);
    if (!code)
        code = store_create(s, &(struct store_create){ .name = words[1], .files = &file, .n_files = 1,
                                                       .texts = &text, .n_texts = 1, .uploads = u }, NULL, e);
    uploads_destroy(u);
    free(bytes);
    if (fd >= 0)
        close(fd);
    return code;
}

static enum err_code plan_pattern(void *user, const char *path, uint64_t *bytes, const char **status, struct err *e)
{
    (void)user, (void)path, (void)e;
    *bytes = QUANTIZED_BYTES;
    *status = "quantizing";
    return ERR_OK;
}

static enum err_code write_pattern(void *user, const struct derive_sink *sink, struct err *e)
{
    unsigned char some[QUANTIZED_BYTES / 3];
    enum err_code code = ERR_OK;
    (void)user;
    for (size_t i = 0; i < sizeof some; i++)
        some[i] = (unsigned char)(i * i >> 3);
    for (int i = 0; !code && i < 3; i++)
        code = sink->write(sink->user, some, sizeof some, e);
    return code;
}

static enum err_code do_quantize(struct store *s, char *const *words, size_t n, struct err *e)
{
    static const struct derive_writer writer = { plan_pattern, write_pattern, NULL };
    (void)n;
    return store_create(s, &(struct store_create){ .name = words[1], .from = words[2], .writer = &writer }, NULL, e);
}

static enum err_code do_key(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct buf b;
    (void)words, (void)n;
    buf_init(&b, 4096);
    enum err_code code = keys_public(s, &b, e);
    if (!code)
        say("=", &(const char *){ b.p }, 1);
    buf_finish(&b);
    return code;
}

/* ---- looked after, and out -------------------------------------------------------------------- */

static enum err_code verify(struct store *s, const char *name, bool repair, struct err *e)
{
    struct store_verify in = { .name = name, .repair = repair, .threads = 1 };
    struct store_verified out;
    enum err_code code = store_verify(s, &in, &out, e);
    return code || !repair || !out.bad ? code : err_set(e, ERR_FORMAT, "%s was not repaired", name);
}

static enum err_code do_verify(struct store *s, char *const *words, size_t n, struct err *e)
{
    (void)n;
    return verify(s, words[1], false, e);
}

static enum err_code do_repair(struct store *s, char *const *words, size_t n, struct err *e)
{
    (void)n;
    return verify(s, words[1], true, e);
}

/* The first of the model's files that is ours and has a byte; false: there is none. */
static bool own_file(const struct catalog_layer *layers, size_t n, struct digest *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; layers[i].size && k < layers[i].n_files; k++)
            if (!layers[i].files[k].path[0]) {
                *out = layers[i].digest;
                return true;
            }
    return false;
}

/* No time stamp tells of it, and no power cut undoes it. */
static bool damage_file(struct store *s, const struct digest *d)
{
    char name[DIGEST_FILE_SIZE];
    struct stat st;
    unsigned char byte = 0;
    digest_file_name(d, name);
    if (fchmodat(s->blobs.blobs, name, 0640, 0) < 0)
        return false;
    record_begin();
    int fd = openat(s->blobs.blobs, name, O_RDWR | O_CLOEXEC);
    bool good = fd >= 0 && fstat(fd, &st) == 0 && pread(fd, &byte, 1, st.st_size / 2) == 1;
    byte++;
    good = good && pwrite(fd, &byte, 1, st.st_size / 2) == 1 &&
           futimens(fd, (const struct timespec[]){ st.st_atim, st.st_mtim }) == 0 && fchmod(fd, 0440) == 0;
    if (good) {
        record_write(fd, &byte, 1, (uint64_t)st.st_size / 2);
        record_fd('S', fd, 0);
    }
    record_end();
    if (fd >= 0)
        close(fd);
    return good;
}

static enum err_code do_damage(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct name name;
    struct catalog_ref ref;
    struct catalog_layer *layers = NULL;
    struct model_box *box = NULL;
    struct digest d;
    char hex[DIGEST_HEX_SIZE];
    (void)n;
    enum err_code code = store_find(s, words[1], &name, &ref, e);
    if (!code)
        code = model_box_read(s, &ref, &box, &layers, &n, e);
    if (!code && !own_file(layers, n, &d))
        code = err_set(e, ERR_NOT_FOUND, "no file of '%s' is in blobs/", words[1]);
    if (!code) {
        digest_hex(&d, hex);
        say("~", &(const char *){ hex }, 1);
        code = damage_file(s, &d) ? ERR_OK : no_file(hex, e);
    }
    model_box_destroy(box);
    return code;
}

static enum err_code do_prune(struct store *s, char *const *words, size_t n, struct err *e)
{
    struct store_model *m = NULL;
    struct store_prune in = { .older_s = strtoull(words[1], NULL, 10) };
    enum err_code code = n > 2 ? store_resolve(s, words[2], &m, e) : ERR_OK;
    if (m)
        code = store_remove(s, words[2], NULL, e);
    store_model_destroy(m);
    return code ? code : store_prune(s, &in, NULL, e);
}

static enum err_code do_remove(struct store *s, char *const *words, size_t n, struct err *e)
{
    (void)n;
    return store_remove(s, words[1], NULL, e);
}

static enum err_code do_copy(struct store *s, char *const *words, size_t n, struct err *e)
{
    (void)n;
    return store_copy(s, words[1], words[2], e);
}

static enum err_code to_file(void *user, const void *p, size_t n, struct err *e)
{
    return fwrite(p, 1, n, user) == n ? ERR_OK : err_set(e, ERR_IO, "writing a bundle failed");
}

static enum err_code do_export(struct store *s, char *const *words, size_t n, struct err *e)
{
    const char *names[MAX_WORDS];
    FILE *f = fopen(words[1], "wb");
    for (size_t i = 2; i < n; i++)
        names[i - 2] = words[i];
    enum err_code code = f ? store_export(s, names, n - 2, &(struct tar_sink){ to_file, f }, NULL, e)
                           : no_file(words[1], e);
    if (f && fclose(f) && !code)
        code = err_set(e, ERR_IO, "writing a bundle failed");
    return code;
}

static const struct {
    const char *name;
    size_t least, most; /* words */
    enum err_code (*run)(struct store *s, char *const *words, size_t n, struct err *e);
} rows[] = {
    { "import", 4, MAX_WORDS, do_import }, { "pull", 3, 3, do_pull },     { "bundle", 3, 3, do_bundle },
    { "text", 5, 5, do_text },             { "blob", 4, 4, do_blob },     { "export", 3, MAX_WORDS, do_export },
    { "quantize", 3, 3, do_quantize },     { "adopt", 4, 4, do_adopt },   { "key", 1, 1, do_key },
    { "verify", 2, 2, do_verify },         { "repair", 2, 2, do_repair }, { "prune", 2, 3, do_prune },
    { "rm", 2, 2, do_remove },             { "cp", 3, 3, do_copy },       { "damage", 2, 2, do_damage },
};

enum err_code operation_run(struct store *s, char *const *words, size_t n, struct err *e)
{
    for (size_t i = 0; n && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(words[0], rows[i].name) == 0 && n >= rows[i].least && n <= rows[i].most)
            return rows[i].run(s, words, n, e);
    return err_set(e, ERR_USAGE, "see operations.h");
}
