#include "store/adopt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "store/manifest.h"

/* ---- Ollama ------------------------------------------------------------------------------------ */

static struct adopt_file blob_of(struct scan *c, const char *root, const struct manifest_layer *l)
{
    char file[DIGEST_FILE_SIZE];
    digest_file_name(&l->digest, file);
    return (struct adopt_file){ .path = scan_text(c, "%s/blobs/%s", root, file), .media_type = l->media_type,
                                .kind = l->kind, .size = l->size, .has_digest = true, .digest = l->digest };
}

static const char *blob_problem(struct scan *c, const struct adopt_file *f)
{
    struct stat st;
    if (c->s->ops->stat_path(f->path, &st) < 0)
        return scan_text(c, "%s: %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size)
        return scan_text(c, "%s has %jd bytes, and its manifest says %ju", f->path, (intmax_t)st.st_size,
                         (uintmax_t)f->size);
    return NULL;
}

static enum err_code take_manifest(struct scan *c, const char *root, const char *path, const char *name,
                                   struct err *e)
{
    struct adopt_found f = { .path = path, .name = name };
    struct manifest m;
    struct err why = { 0 };
    enum err_code code = adopt_read(c, path, MANIFEST_MAX_BYTES, &f.manifest, &why);
    if (!code)
        code = manifest_read(f.manifest, &c->arena, &m, &why);
    if (code) {
        scan_note(c, path, "%s", why.text);
        return code == ERR_NO_MEMORY ? err_no_memory(e, f.manifest.n, "a manifest") : ERR_OK;
    }
    struct adopt_file *files = arena_zero(&c->arena, m.n_layers + 1, sizeof *files);
    if (!files)
        return err_no_memory(e, m.n_layers * sizeof *files, "the files of a model");
    for (size_t i = 0; i <= m.n_layers; i++) {
        files[i] = blob_of(c, root, i < m.n_layers ? &m.layers[i] : &m.config);
        f.problem = f.problem ? f.problem : blob_problem(c, &files[i]);
    }
    f.files = files;
    f.n_files = m.n_layers + 1;
    return scan_add(c, &f, e);
}

/* manifests/HOST/NAMESPACE/MODEL/TAG: `level` directories lie between. */
static enum err_code walk_manifests(struct scan *c, const char *root, const char *dir, unsigned level,
                                    struct err *e)
{
    struct entries all;
    enum err_code code = scan_dir(c, dir, &all, e);
    for (size_t i = 0; !code && i < all.n; i++) {
        const struct entry *x = &all.v[i];
        if (level && x->directory) {
            code = walk_manifests(c, root, x->path, level - 1, e);
            continue;
        }
        if (level || x->directory)
            continue;
        const char *parts = x->path + strlen(root) + strlen("/manifests/"), *tag = strrchr(parts, '/');
        const char *text = scan_text(c, "%.*s:%s", (int)(tag - parts), parts, tag + 1);
        char name[NAME_TEXT_MAX + 1];
        struct name n;
        struct err why = { 0 };
        if (name_parse(str_from(text), &n, &why)) {
            scan_note(c, x->path, "%s", why.text);
            continue;
        }
        name_short(&n, name);
        code = take_manifest(c, root, x->path, scan_text(c, "%s", name), e);
    }
    return code;
}

static enum err_code find_ollama(struct scan *c, const char *root, struct err *e)
{
    return walk_manifests(c, root, scan_text(c, "%s/manifests", root), 3, e);
}

/* ---- GGUF files in a directory ----------------------------------------------------------------- */

/* How a finder names a file, and what it knows of its digest; both may be NULL. */
struct naming {
    const char *(*name)(struct scan *c, const struct naming *n, const struct entry *x);
    bool (*digest)(struct scan *c, const struct entry *x, struct digest *out);
    const char *repo, *revision;
    bool flat; /* one directory for all models: a projector goes with those whose name begins as its own */
};

/* A directory that is looked through. */
struct folder {
    struct entries all;
    const struct entry **projectors; /* of them */
    size_t n_projectors;
};

static bool is_gguf(const struct entry *x)
{
    size_t n = strlen(x->name);
    return !x->directory && n > 5 && str_ieq((struct str){ x->name + n - 5, 5 }, STR(".gguf"));
}

static bool is_projector(const struct entry *x)
{
    return strcasestr(x->name, "mmproj") != NULL;
}

/* "-00001-of-00003.gguf": the two numbers. */
static bool shard_of(const struct entry *x, unsigned *no, unsigned *count)
{
    size_t n = strlen(x->name);
    int used = 0;
    return n > 20 && sscanf(x->name + n - 20, "-%5u-of-%5u.gguf%n", no, count, &used) == 2 && used == 20;
}

static bool begins_as_model(const char *path)
{
    char magic[4] = "";
    int fd = adopt_open(path, 0);
    bool is = fd >= 0 && pread(fd, magic, 4, 0) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (fd >= 0)
        close(fd);
    return is;
}

/* The file's own name as a model's. */
static const char *stem_name(struct scan *c, const struct entry *x)
{
    struct source *src = mem_alloc(sizeof *src);
    char name[NAME_TEXT_MAX + 1];
    struct err e;
    const char *text = scan_text(c, "file:%s", x->path), *out = NULL;
    if (src && !source_parse(str_from(text), src, &e)) {
        name_short(&src->name, name);
        out = scan_text(c, "%s", name);
    }
    mem_free(src);
    return out;
}

/* Those among the files of one directory, in their order; NULL: no memory. */
static const struct entry **projectors_among(struct scan *c, const struct entries *all, size_t *n)
{
    const struct entry **list = arena_alloc(&c->arena, (all->n + 1) * sizeof(struct entry *));
    *n = 0;
    for (size_t i = 0; list && i < all->n; i++)
        if (is_gguf(&all->v[i]) && is_projector(&all->v[i]))
            list[(*n)++] = &all->v[i];
    return list;
}

static const struct entry *projector_for(const struct folder *in, const struct entry *x, bool flat)
{
    for (size_t i = 0; i < in->n_projectors; i++) {
        const struct entry *p = in->projectors[i];
        size_t n = (size_t)(strcasestr(p->name, "mmproj") - p->name);
        if (!flat || (n > 1 && strncmp(p->name, x->name, n) == 0))
            return p;
    }
    return NULL;
}

static struct adopt_file file_of(struct scan *c, const struct naming *n, const struct entry *x,
                                 enum media_kind kind)
{
    struct adopt_file f = { .path = x->path, .media_type = media_type_of(kind), .kind = kind, .size = x->size };
    f.has_digest = n->digest && n->digest(c, x, &f.digest);
    return f;
}

/* The shards of which `first` is the first; NULL: there is one missing. */
static const struct entry *shard_no(const struct entries *all, const struct entry *first, unsigned no)
{
    char name[NAME_MAX + 1], number[16];
    snprintf(name, sizeof name, "%s", first->name);
    snprintf(number, sizeof number, "%05u", no);
    memcpy(name + strlen(name) - 19, number, 5);
    const struct entry wanted = { .name = name };
    return bsearch(&wanted, all->v, all->n, sizeof wanted, entry_by_name);
}

/* A model is found by the first of its shards that is here. */
static bool is_first_here(const struct entries *all, const struct entry *x, unsigned no)
{
    for (unsigned i = 1; i < no; i++)
        if (shard_no(all, x, i))
            return false;
    return true;
}

static enum err_code take_gguf(struct scan *c, const struct naming *n, const struct folder *in,
                               const struct entry *x, struct err *e)
{
    unsigned no = 1, count = 1;
    bool split = shard_of(x, &no, &count);
    const struct entry *projector = projector_for(in, x, n->flat);
    if (split && (no < 1 || no > count || count > STORE_MAX_FILES - 1)) {
        scan_note(c, x->path, "its number is that of no part of a model");
        return ERR_OK;
    }
    if (!is_first_here(&in->all, x, no) || scan_seen(c, x->device, x->inode)) /* two snapshots may lead to one file */
        return ERR_OK;
    struct adopt_found f = { .path = x->path, .revision = n->revision };
    f.name = n->name ? n->name(c, n, x) : NULL;
    f.name = f.name ? f.name : stem_name(c, x);
    if (!f.name || !*f.name) {
        scan_note(c, x->path, "its name cannot be made a model's");
        return ERR_OK;
    }
    struct adopt_file *files = arena_zero(&c->arena, count + 1, sizeof *files);
    if (!files)
        return err_no_memory(e, count * sizeof *files, "the files of a model");
    for (unsigned i = 1; i <= count; i++) {
        const struct entry *part = split ? shard_no(&in->all, x, i) : x;
        if (part && begins_as_model(part->path))
            files[f.n_files++] = file_of(c, n, part, MEDIA_MODEL);
        else if (!f.problem)
            f.problem = part ? scan_text(c, "%s is no GGUF file", part->path)
                             : scan_text(c, "part %u of %u is missing", i, count);
    }
    if (projector && begins_as_model(projector->path))
        files[f.n_files++] = file_of(c, n, projector, MEDIA_PROJECTOR);
    f.files = files;
    return scan_add(c, &f, e);
}

static enum err_code walk_files(struct scan *c, const struct naming *n, const char *dir, unsigned depth,
                                struct err *e)
{
    struct folder in;
    enum err_code code = scan_dir(c, dir, &in.all, e);
    if (code)
        return code;
    in.projectors = projectors_among(c, &in.all, &in.n_projectors);
    if (!in.projectors)
        return err_no_memory(e, in.all.n * sizeof *in.projectors, "the entries of a directory");
    for (size_t i = 0; !code && i < in.all.n; i++) {
        const struct entry *x = &in.all.v[i];
        if (x->directory && depth < ADOPT_MAX_DEPTH)
            code = walk_files(c, n, x->path, depth + 1, e);
        else if (is_gguf(x) && !is_projector(x))
            code = take_gguf(c, n, &in, x, e);
    }
    return code;
}

static enum err_code find_directory(struct scan *c, const char *root, struct err *e)
{
    struct naming n = { 0 };
    return walk_files(c, &n, root, 0, e);
}

/* ---- llama.cpp: an etag beside each file ---------------------------------------------------------- */

/* "\"HEX\"" or HEX, 64 digits. */
static bool digest_of_tag(struct str tag, struct digest *out)
{
    char text[DIGEST_TEXT_SIZE];
    while (tag.n && (tag.p[tag.n - 1] == '\n' || tag.p[tag.n - 1] == '"'))
        tag.n--;
    if (tag.n && tag.p[0] == '"') {
        tag.p++;
        tag.n--;
    }
    if (tag.n != 64)
        return false;
    snprintf(text, sizeof text, "sha256:%.64s", tag.p);
    return digest_parse(str_from(text), out);
}

static bool etag_digest(struct scan *c, const struct entry *x, struct digest *out)
{
    struct str text;
    struct err e;
    json_t *root = NULL;
    if (adopt_read(c, scan_text(c, "%s.etag", x->path), 4096, &text, &e) == ERR_OK)
        return digest_of_tag(text, out);
    if (adopt_read(c, scan_text(c, "%s.json", x->path), 65536, &text, &e) ||
        json_read_bounded(text, 65536, 1000, "a file's etag", &root, &e))
        return false;
    const json_t *tag = json_object_get(root, "etag");
    bool is = json_is_string(tag) &&
              digest_of_tag((struct str){ json_string_value(tag), json_string_length(tag) }, out);
    json_decref(root);
    return is;
}

static enum err_code find_llama_cpp(struct scan *c, const char *root, struct err *e)
{
    struct naming n = { .digest = etag_digest, .flat = true };
    return walk_files(c, &n, root, ADOPT_MAX_DEPTH, e);
}

/* ---- the Hugging Face hub -------------------------------------------------------------------------- */

static const char *hub_name(struct scan *c, const struct naming *n, const struct entry *x)
{
    char name[NAME_TEXT_MAX + 1];
    struct name parsed;
    struct err e;
    const char *text = scan_text(c, NAME_HUB_HOST "/%s:%s", n->repo, x->name);
    if (name_parse(str_from(text), &parsed, &e))
        return NULL;
    name_short(&parsed, name);
    return scan_text(c, "%s", name);
}

/* A snapshot's file is a link to blobs/HEX: 64 digits are a SHA-256 (40 are git's, of a small file). */
static bool hub_digest(struct scan *c, const struct entry *x, struct digest *out)
{
    char to[PATH_MAX];
    (void)c;
    ssize_t n = readlink(x->path, to, sizeof to - 1);
    if (n <= 0)
        return false;
    to[n] = '\0';
    const char *base = strrchr(to, '/');
    return digest_of_tag(str_from(base ? base + 1 : to), out);
}

/* "models--ORG--REPO" */
static const char *hub_repo(struct scan *c, const char *name)
{
    const char *rest = strncmp(name, "models--", 8) == 0 ? name + 8 : NULL;
    const char *cut = rest ? strstr(rest, "--") : NULL;
    return cut && cut > rest && cut[2] ? scan_text(c, "%.*s/%s", (int)(cut - rest), rest, cut + 2) : NULL;
}

/* The snapshot that `main` stands at comes first, so that the plain name is its. */
static enum err_code walk_snapshots(struct scan *c, const char *dir, const char *repo, struct err *e)
{
    struct entries all;
    struct str main_is = { 0 };
    struct err why;
    if (adopt_read(c, scan_text(c, "%s/refs/main", dir), 256, &main_is, &why))
        main_is = STR("");
    enum err_code code = scan_dir(c, scan_text(c, "%s/snapshots", dir), &all, e);
    for (int others = 0; !code && others < 2; others++)
        for (size_t i = 0; !code && i < all.n; i++) {
            const struct entry *x = &all.v[i];
            struct naming n = { .name = hub_name, .digest = hub_digest, .repo = repo, .revision = x->name };
            if (x->directory && str_is(main_is, x->name) != (bool)others)
                code = walk_files(c, &n, x->path, 2, e);
        }
    return code;
}

static enum err_code find_huggingface(struct scan *c, const char *root, struct err *e)
{
    struct entries all;
    enum err_code code = scan_dir(c, root, &all, e);
    for (size_t i = 0; !code && i < all.n; i++) {
        const char *repo = all.v[i].directory ? hub_repo(c, all.v[i].name) : NULL;
        if (repo)
            code = walk_snapshots(c, all.v[i].path, repo, e);
    }
    return code;
}

/* ---- the table ------------------------------------------------------------------------------------- */

const struct finder adopt_finders[] = {
    { "ollama", find_ollama },       { "huggingface", find_huggingface }, { "lm-studio", find_directory },
    { "llama.cpp", find_llama_cpp }, { "directory", find_directory },
};
const size_t adopt_finder_count = sizeof adopt_finders / sizeof adopt_finders[0];
