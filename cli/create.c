/* hearth create: a model as a Modelfile says. The command reads the file and finds what its paths mean;
 * a daemon of the same user opens the files itself, any other is sent them first (/api/blobs). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "cli/cli.h"
#include "cli/follow.h"
#include "daemon/protocol_create.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/modelfile.h"

#define HASH_BYTES ((size_t)1 << 20)
#define MAX_SHARDS 1024

struct making {
    struct cli *c;
    struct modelfile file;
    struct create_request r;
    char dir[PATH_MAX];      /* where the Modelfile's relative paths begin */
    json_t *paths, *adapter_paths, *files, *adapters;
    json_t *parameters, *messages, *licenses;
};

static enum err_code no_memory(struct err *e)
{
    return err_no_memory(e, 0, "a request");
}

/* ---- paths ----------------------------------------------------------------------------------- */

/* ~ and ~user, and what is relative to the Modelfile. False: too long, or no such user. */
static bool expand(const struct making *m, const char *text, char out[PATH_MAX])
{
    const char *home = getenv("HOME"), *rest = text;
    char user[256];
    int n;
    if (text[0] == '~') {
        size_t len = strcspn(text + 1, "/");
        struct passwd *p = NULL;
        if (len >= sizeof user)
            return false;
        memcpy(user, text + 1, len);
        user[len] = '\0';
        rest = text + 1 + len;
        if (len > 0 || !home)
            p = len > 0 ? getpwnam(user) : getpwuid(geteuid());
        home = p ? p->pw_dir : len > 0 ? NULL : home;
        n = home ? snprintf(out, PATH_MAX, "%s%s", home, rest) : -1;
    } else if (text[0] == '/') {
        n = snprintf(out, PATH_MAX, "%s", text);
    } else {
        n = snprintf(out, PATH_MAX, "%s/%s", m->dir, text);
    }
    return n >= 0 && n < PATH_MAX;
}

bool is_surely_path(const char *text)
{
    size_t n = strlen(text);
    bool hub = strncasecmp(text, "hf.co/", 6) == 0 || strncasecmp(text, "huggingface.co/", 15) == 0;
    return strchr("/.~", text[0]) || (n > 5 && strcmp(text + n - 5, ".gguf") == 0 && !strchr(text, ':') && !hub);
}

static bool ends(const char *s, const char *tail)
{
    return str_ends(str_from(s), str_from(tail));
}

static enum err_code add_path(json_t *list, const char *path, struct err *e)
{
    char real[PATH_MAX];
    struct stat st;
    if (!realpath(path, real) || stat(real, &st) < 0)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot open '%s'", path);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "'%s' is not a regular file", path);
    return json_array_append_new(list, json_string(real)) ? no_memory(e) : ERR_OK;
}

/* The parts of a model beside its first, or the file alone. */
static enum err_code add_model(json_t *list, const char *path, struct err *e)
{
    char part[PATH_MAX];
    unsigned one, count;
    int used = 0;
    size_t n = strlen(path);
    if (n < 20 || n >= sizeof part || sscanf(path + n - 20, "-%5u-of-%5u.gguf%n", &one, &count, &used) != 2 ||
        used != 20 || count < 1 || count > MAX_SHARDS)
        return add_path(list, path, e);
    enum err_code c = ERR_OK;
    for (unsigned i = 1; !c && i <= count; i++) {
        snprintf(part, sizeof part, "%.*s-%05u-of-%05u.gguf", (int)(n - 20), path, i, count);
        c = add_path(list, part, e);
    }
    return c;
}

struct found {
    char first[NAME_MAX + 1];   /* a model's file, or the first of its parts */
    char foreign[NAME_MAX + 1]; /* one of another format */
    size_t n_models;
};

static bool is_later_part(const char *name)
{
    size_t n = strlen(name);
    unsigned number, count;
    return n > 20 && sscanf(name + n - 20, "-%5u-of-%5u.gguf", &number, &count) == 2 && number != 1;
}

static enum err_code look_at(const char *dir, const char *name, struct found *f, json_t *projectors, struct err *e)
{
    char path[PATH_MAX];
    if (name[0] == '.')
        return ERR_OK;
    if (ends(name, ".safetensors") || ends(name, ".bin") || ends(name, ".pth"))
        snprintf(f->foreign, sizeof f->foreign, "%s", name);
    if (!ends(name, ".gguf") || is_later_part(name))
        return ERR_OK;
    if (strncmp(name, "mmproj", 6) == 0) {
        int n = snprintf(path, sizeof path, "%s/%s", dir, name);
        return n < (int)sizeof path ? add_path(projectors, path, e)
                                    : err_set(e, ERR_INVALID, "'%s' is too long a path", dir);
    }
    snprintf(f->first, sizeof f->first, "%s", name);
    f->n_models++;
    return ERR_OK;
}

static enum err_code look_around(const char *dir, struct found *f, json_t *projectors, struct err *e)
{
    enum err_code c = ERR_OK;
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(e, ERR_IO, errno, "cannot read the folder '%s'", dir);
    for (struct dirent *x; !c && (x = readdir(d));)
        c = look_at(dir, x->d_name, f, projectors, e);
    closedir(d);
    return c;
}

static enum err_code add_found(json_t *list, const char *dir, const struct found *f, struct err *e)
{
    char path[PATH_MAX];
    if (f->n_models > 1)
        return err_set(e, ERR_INVALID, "'%s' has %zu models: name one of its files", dir, f->n_models);
    if (!f->n_models && f->foreign[0])
        return err_set(e, ERR_UNSUPPORTED,
                       "'%s' has no GGUF file, only others ('%s'): convert the model to GGUF first, for example with "
                       "llama.cpp's convert_hf_to_gguf.py", dir, f->foreign);
    if (!f->n_models)
        return err_set(e, ERR_NOT_FOUND, "'%s' has no model file (*.gguf)", dir);
    int n = snprintf(path, sizeof path, "%s/%s", dir, f->first);
    return n < (int)sizeof path ? add_model(list, path, e) : err_set(e, ERR_INVALID, "'%s' is too long a path", dir);
}

/* A folder with the files of one model: itself first. */
static enum err_code add_folder(json_t *list, const char *dir, struct err *e)
{
    struct found f = { 0 };
    json_t *projectors = json_array();
    enum err_code c = projectors ? look_around(dir, &f, projectors, e) : no_memory(e);
    if (!c)
        c = add_found(list, dir, &f, e);
    if (!c && json_array_extend(list, projectors))
        c = no_memory(e);
    json_decref(projectors);
    return c;
}

/* ---- what the Modelfile says ------------------------------------------------------------------- */

static enum err_code take_from(struct making *m, const struct modelfile_command *x, struct err *e)
{
    char path[PATH_MAX];
    struct stat st;
    bool there = expand(m, x->value.p, path) && stat(path, &st) == 0;
    if (!there && is_surely_path(x->value.p))
        return err_set(e, ERR_NOT_FOUND, "there is no file '%s'", x->value.p);
    if (!there)
        m->r.from = x->value;
    if (!there)
        return ERR_OK;
    return S_ISDIR(st.st_mode) ? add_folder(m->paths, path, e) : add_model(m->paths, path, e);
}

static enum err_code take_adapter(struct making *m, const struct modelfile_command *x, struct err *e)
{
    char path[PATH_MAX];
    if (!expand(m, x->value.p, path))
        return err_set(e, ERR_NOT_FOUND, "there is no file '%s'", x->value.p);
    json_array_clear(m->adapter_paths); /* of several, the last */
    return add_path(m->adapter_paths, path, e);
}

static enum err_code take_parameter(struct making *m, const struct modelfile_command *x, struct err *e)
{
    bool ignored;
    enum err_code c = create_parameter_set(m->parameters, x->name, x->value, &ignored, e);
    if (!c && ignored)
        fprintf(stderr, "warning: line %zu: parameter %.*s is no longer of any effect\n", x->line, (int)x->name.n,
                x->name.p);
    return c;
}

static enum err_code take_command(struct making *m, const struct modelfile_command *x, struct err *e)
{
    json_t *v;
    switch (x->kind) {
    case MODELFILE_FROM:
        return take_from(m, x, e);
    case MODELFILE_ADAPTER:
        return take_adapter(m, x, e);
    case MODELFILE_PARAMETER:
        return take_parameter(m, x, e);
    case MODELFILE_DRAFT:
        return err_set(e, ERR_UNSUPPORTED, "DRAFT: models with a draft model are not run yet");
    case MODELFILE_TEMPLATE:
        m->r.template = x->value;
        break;
    case MODELFILE_SYSTEM:
        m->r.system = x->value;
        break;
    case MODELFILE_RENDERER:
        m->r.renderer = x->value;
        break;
    case MODELFILE_PARSER:
        m->r.parser = x->value;
        break;
    case MODELFILE_REQUIRES:
        m->r.requires = x->value;
        break;
    case MODELFILE_LICENSE:
        return json_array_append_new(m->licenses, json_stringn(x->value.p, x->value.n)) ? no_memory(e) : ERR_OK;
    case MODELFILE_MESSAGE:
        v = json_pack("{s:s%, s:s%}", "role", x->name.p, x->name.n, "content", x->value.p, x->value.n);
        return json_array_append_new(m->messages, v) ? no_memory(e) : ERR_OK;
    case MODELFILE_KINDS:
        break;
    }
    return ERR_OK;
}

static enum err_code take_commands(struct making *m, struct err *e)
{
    for (size_t i = 0; i < m->file.n; i++) {
        const struct modelfile_command *x = &m->file.commands[i];
        if (take_command(m, x, e))
            return err_prefix(e, "line %zu", x->line);
    }
    if (json_array_size(m->paths) && m->r.from.n)
        return err_set(e, ERR_INVALID, "FROM names files and the model '%.*s': a model is made of one or the other",
                       (int)m->r.from.n, m->r.from.p);
    m->r.license = json_array_size(m->licenses) ? m->licenses : NULL;
    m->r.parameters = m->parameters;
    m->r.messages = m->messages;
    return ERR_OK;
}

/* ---- files that are sent ----------------------------------------------------------------------- */

static enum err_code hash_file(const struct making *m, int fd, const char *path, uint64_t size, char out[80],
                               struct err *e)
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    unsigned char *chunk = mem_alloc(HASH_BYTES), d[32];
    bool ok = sha && chunk && EVP_DigestInit_ex(sha, EVP_sha256(), NULL);
    enum err_code c = ok ? ERR_OK : no_memory(e);
    ssize_t n = 1;
    for (uint64_t at = 0; !c && n > 0; at += (uint64_t)n) {
        n = pread(fd, chunk, HASH_BYTES, (off_t)at);
        if (n < 0)
            c = err_errno(e, ERR_IO, errno, "reading '%s'", path);
        else if (!EVP_DigestUpdate(sha, chunk, (size_t)n))
            c = err_set(e, ERR_INTERNAL, "hashing '%s' failed", path);
        else
            c = interrupt_wait(m->c->client.reach.interrupt, -1, 0, 0, e) == ERR_CANCELLED ? ERR_CANCELLED : ERR_OK;
        if (!c && size)
            term_progress(&m->c->term, "hashing %s: %.0f %%", path, 100.0 * (double)at / (double)size);
        n = c ? 0 : n;
    }
    if (!c && !EVP_DigestFinal_ex(sha, d, NULL))
        c = err_set(e, ERR_INTERNAL, "hashing '%s' failed", path);
    size_t used = (size_t)snprintf(out, 80, "sha256:");
    for (int i = 0; !c && i < 32; i++)
        used += (size_t)snprintf(out + used, 80 - used, "%02x", d[i]);
    EVP_MD_CTX_free(sha);
    mem_free(chunk);
    return c;
}

struct sending {
    struct term *term;
    const char *path;
};

static void on_sent(void *user, uint64_t sent, uint64_t size)
{
    const struct sending *s = user;
    term_progress(s->term, "sending %s: %.0f %%", s->path, size ? 100.0 * (double)sent / (double)size : 100.0);
}

static enum err_code send_file(struct making *m, const char *path, json_t *into, struct err *e)
{
    struct sending s = { &m->c->term, path };
    const char *base = strrchr(path, '/');
    char digest[80], route[120];
    struct stat st;
    struct buf reply = { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        enum err_code code = err_errno(e, ERR_IO, errno, "cannot open '%s'", path);
        if (fd >= 0)
            close(fd);
        return code;
    }
    enum err_code c = hash_file(m, fd, path, (uint64_t)st.st_size, digest, e);
    snprintf(route, sizeof route, "/api/blobs/%s", c ? "" : digest);
    if (!c && client_call(&m->c->client, "HEAD", route, (struct str){ 0 }, &reply, NULL) != ERR_OK)
        c = client_send_file(&m->c->client, route, fd, (uint64_t)st.st_size, on_sent, &s, e);
    buf_finish(&reply);
    term_progress_end(&m->c->term);
    close(fd);
    if (!c && json_object_set_new(into, base ? base + 1 : path, json_string(digest)))
        c = no_memory(e);
    return c ? err_prefix(e, "sending '%s'", path) : c;
}

static enum err_code send_files(struct making *m, struct err *e)
{
    json_t *const lists[] = { m->paths, m->adapter_paths }, *const into[] = { m->files, m->adapters };
    enum err_code c = ERR_OK;
    if (m->c->given[ARG_REFERENCE])
        return err_set(e, ERR_USAGE, "--reference: only a daemon of your own on the Unix socket can use a file where it is");
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; !c && i < json_array_size(lists[k]); i++)
            c = send_file(m, json_string_value(json_array_get(lists[k], i)), into[k], e);
    m->r.files = m->files;
    m->r.adapters = m->adapters;
    return c;
}

/* The daemon opens what its own user names on its socket; anybody else sends the bytes. */
static enum err_code hand_files(struct making *m, struct err *e)
{
    struct client *client = &m->c->client;
    struct buf reply;
    if (!json_array_size(m->paths) && !json_array_size(m->adapter_paths))
        return ERR_OK;
    enum err_code c = client_call(client, "GET", "/api/version", (struct str){ 0 }, &reply, e);
    buf_finish(&reply);
    if (c)
        return c;
    if (client->reach.found.kind != REACH_UNIX || client->peer_uid != geteuid())
        return send_files(m, e);
    m->r.paths = m->paths;
    m->r.adapter_paths = m->adapter_paths;
    m->r.reference = m->c->given[ARG_REFERENCE];
    return ERR_OK;
}

/* ---- the command ------------------------------------------------------------------------------- */

static enum err_code read_file(const char *path, struct buf *out, struct err *e)
{
    char chunk[65536];
    size_t n;
    FILE *f = fopen(path, "re");
    if (!f)
        return err_errno(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "cannot read the Modelfile '%s'", path);
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0)
        buf_put(out, chunk, n);
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad)
        return err_set(e, ERR_IO, "cannot read the Modelfile '%s'", path);
    return out->failed ? err_set(e, ERR_TOO_LARGE, "'%s' has more than the %zu bytes of a Modelfile", path,
                                 MODELFILE_MAX_BYTES) : ERR_OK;
}

static enum err_code read_modelfile(struct making *m, struct err *e)
{
    const char *path = m->c->given[ARG_FILE] ? m->c->value[ARG_FILE] : "Modelfile";
    bool input = strcmp(path, "-") == 0;
    char real[PATH_MAX];
    struct buf text;
    buf_init(&text, MODELFILE_MAX_BYTES);
    enum err_code c = input ? cli_read_input(m->c, &text, e) : read_file(path, &text, e);
    if (!c && input)
        snprintf(m->dir, sizeof m->dir, ".");
    if (!c && !input && realpath(path, real)) {
        *strrchr(real, '/') = '\0';
        snprintf(m->dir, sizeof m->dir, "%s", real[0] ? real : "/");
    }
    if (!c)
        c = modelfile_parse(buf_str(&text), &m->file, e);
    if (c == ERR_FORMAT)
        err_prefix(e, "%s", input ? "standard input" : path);
    buf_finish(&text);
    return c;
}

static bool make_trees(struct making *m)
{
    json_t **const lists[] = { &m->paths, &m->adapter_paths, &m->messages, &m->licenses };
    json_t **const objects[] = { &m->files, &m->adapters, &m->parameters };
    bool ok = true;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        ok = (*lists[i] = json_array()) != NULL && ok;
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        ok = (*objects[i] = json_object()) != NULL && ok;
    return ok;
}

static void making_finish(struct making *m)
{
    json_t *const trees[] = { m->paths, m->adapter_paths, m->messages, m->licenses,
                              m->files, m->adapters,      m->parameters };
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++)
        json_decref(trees[i]);
    modelfile_finish(&m->file);
}

static enum err_code ask(struct making *m, struct err *e)
{
    struct buf body;
    buf_init(&body, PROTOCOL_MAX_BODY);
    create_request_write(&body, &m->r);
    enum err_code c = body.failed ? err_set(e, ERR_TOO_LARGE, "the Modelfile's texts are too large")
                                  : follow_call(m->c, "/api/create", buf_str(&body), NULL, e);
    buf_finish(&body);
    return c;
}

enum err_code create_from_path(struct cli *c, const char *path, const char *name, const char *type, struct err *e)
{
    struct making m = { .c = c };
    struct stat st;
    create_request_init(&m.r);
    m.r.model = str_from(name);
    m.r.quantize = str_from(type);
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    enum err_code code = !make_trees(&m) ? no_memory(e) : folder ? add_folder(m.paths, path, e) : add_model(m.paths, path, e);
    if (!code)
        code = hand_files(&m, e);
    if (!code)
        code = ask(&m, e);
    making_finish(&m);
    return code;
}

enum err_code create_run(struct cli *c, struct err *e)
{
    struct making m = { .c = c };
    create_request_init(&m.r);
    m.r.model = str_from(c->argv[0]);
    m.r.quantize = str_from(c->given[ARG_QUANTIZE] ? c->value[ARG_QUANTIZE] : NULL);
    enum err_code code = make_trees(&m) ? read_modelfile(&m, e) : no_memory(e);
    if (!code)
        code = take_commands(&m, e);
    if (!code)
        code = hand_files(&m, e);
    if (!code)
        code = ask(&m, e);
    making_finish(&m);
    if (!code && !c->given[ARG_JSON])
        printf("created '%s'\n", c->argv[0]);
    return code;
}
