/* One tar -> models. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "store/bundle.h"
#include "store/commit.h"
#include "store/manifest.h"

#define BYTES ((size_t)1 << 20)
#define MAX_VALUES 200000

/* One blob that the bundle holds. */
struct piece {
    struct digest digest;
    uint64_t size;
    bool there;             /* in the store; leased */
    struct blob_part part;  /* else: in tmp/ until a commit moves it */
    struct buf chunks;
    struct str text;        /* what it holds, once it was wanted as a text; else p NULL */
};

struct bundle {
    struct store *s;
    const struct store_bundle *in;
    uint64_t at, total;     /* bytes of the tar */
    struct store_pace pace;
    struct tar_reader tar;
    uint8_t *bytes;         /* [BYTES] */
    struct buf layout, index;
    struct arena texts;     /* of pieces */
    size_t n_texts;         /* bytes of them */
    struct piece *piece;
    size_t n_pieces, cap_pieces;
};

/* ---- the file ------------------------------------------------------------------------------------ */

static enum err_code advance(struct bundle *b, size_t n, struct err *e)
{
    b->at += n;
    if (store_job_cancelled(&b->in->job))
        return err_set(e, ERR_CANCELLED, "reading '%s' was cancelled", b->in->path);
    if (b->in->job.event && store_pace_due(&b->pace, b->at == b->total))
        b->in->job.event(b->in->job.user, &(struct store_event){ .status = "reading the bundle", .total = b->total,
                                                                 .completed = b->at });
    return ERR_OK;
}

static enum err_code read_file(void *user, void *p, size_t n, size_t *got, struct err *e)
{
    struct bundle *b = user;
    ssize_t r = file_read_all(b->s->ops, b->in->fd, p, n, b->at);
    if (r < 0)
        return err_errno(e, ERR_IO, errno, "reading '%s'", b->in->path);
    *got = (size_t)r;
    return advance(b, *got, e);
}

bool store_is_bundle(int fd)
{
    char first[TAR_BLOCK];
    return pread(fd, first, sizeof first, 0) == (ssize_t)sizeof first && tar_is(first, sizeof first);
}

/* ---- blobs ----------------------------------------------------------------------------------------- */

static struct piece *find(struct bundle *b, const struct digest *d)
{
    for (size_t i = 0; i < b->n_pieces; i++)
        if (digest_eq(&b->piece[i].digest, d))
            return &b->piece[i];
    return NULL;
}

/* The entry's bytes: hashed, and written to fd where there is one. */
static enum err_code pass_blob(struct bundle *b, struct piece *p, int fd, const char *name, struct err *e)
{
    struct hasher h = { 0 };
    struct digest is;
    size_t got = 1;
    uint64_t at = 0;
    enum err_code code = hasher_begin(&h, fd < 0 ? NULL : &p->chunks, e);
    while (!code && at < p->size) {
        code = tar_read(&b->tar, b->bytes, BYTES, &got, e);
        if (!code)
            code = hasher_add(&h, b->bytes, got, e);
        if (!code && fd >= 0 && !file_write_all(b->s->ops, fd, b->bytes, got, at))
            code = err_errno(e, ERR_IO, errno, "copying '%s' into the store", b->in->path);
        at += got;
    }
    if (!code)
        code = hasher_end(&h, &is, e);
    if (!code && !digest_eq(&is, &p->digest))
        code = err_set(e, ERR_FORMAT, "'%s' holds other bytes than its name says", name);
    hasher_finish(&h);
    return code;
}

/* What the store has of this size is compared and not written again. Texts are needed here, and short. */
static enum err_code take_blob(struct bundle *b, const struct tar_entry *entry, struct err *e)
{
    struct digest d;
    char text[sizeof "sha256:" + DIGEST_HEX_SIZE] = "sha256:";
    int fd = -1;
    snprintf(text + 7, sizeof text - 7, "%s", entry->name + sizeof BUNDLE_BLOBS);
    if (!digest_parse(str_from(text), &d) || strpbrk(text + 7, "ABCDEF"))
        return err_set(e, ERR_FORMAT, "'%s' is not named by a digest", entry->name);
    if (find(b, &d))
        return err_set(e, ERR_FORMAT, "'%s' is in the bundle twice", entry->name);
    if (!mem_grow(&b->piece, &b->cap_pieces, b->n_pieces + 1, sizeof *b->piece, SIZE_MAX / sizeof *b->piece))
        return err_no_memory(e, sizeof *b->piece, "a bundle");
    struct piece *p = &b->piece[b->n_pieces++];
    *p = (struct piece){ .digest = d, .size = entry->size };
    buf_init(&p->chunks, CHUNK_HASHES_MAX);
    p->there = entry->size > MEDIA_TEXT_MAX && !store_lease(b->s, &d, NULL, NULL);
    if (p->there)
        return pass_blob(b, p, -1, entry->name, e);
    if (entry->size > b->total)
        return err_set(e, ERR_FORMAT, "'%s' is said to be longer than the whole bundle", entry->name);
    enum err_code code = blob_part_create(&b->s->blobs, entry->size, &p->part, &fd, e);
    if (code)
        return code;
    code = pass_blob(b, p, fd, entry->name, e);
    if (!code)
        code = blob_part_seal(&b->s->blobs, &p->part, fd, &d, entry->size, e);
    if (b->s->ops->close(fd) < 0 && !code)
        code = err_errno(e, ERR_IO, errno, "copying '%s' into the store", b->in->path);
    return code;
}

static enum err_code take_text(struct bundle *b, const struct tar_entry *entry, struct buf *to, struct err *e)
{
    size_t got;
    if (to->n)
        return err_set(e, ERR_FORMAT, "'%s' is in the bundle twice", entry->name);
    if (!entry->size || entry->size > MEDIA_TEXT_MAX)
        return err_set(e, ERR_FORMAT, "'%s' has %" PRIu64 " bytes; 1 to %zu are taken", entry->name, entry->size,
                       MEDIA_TEXT_MAX);
    enum err_code code = ERR_OK;
    while (!code && b->tar.left) {
        code = tar_read(&b->tar, b->bytes, BYTES, &got, e);
        if (!code)
            buf_put(to, (char *)b->bytes, got);
    }
    return !code && to->failed ? err_no_memory(e, (size_t)entry->size, "a bundle's index") : code;
}

/* Other files that tools put beside a layout, for older readers. */
static bool is_passed_over(const struct tar_entry *entry)
{
    static const char *const rows[] = { "manifest.json", "repositories" };
    static const char *const dirs[] = { ".", "blobs", BUNDLE_BLOBS };
    for (size_t i = 0; entry->is_dir && i < sizeof dirs / sizeof *dirs; i++)
        if (strcmp(entry->name, dirs[i]) == 0)
            return true;
    for (size_t i = 0; !entry->is_dir && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(entry->name, rows[i]) == 0)
            return true;
    return false;
}

static enum err_code take_entry(struct bundle *b, struct tar_entry *entry, struct err *e)
{
    if (strncmp(entry->name, "./", 2) == 0)
        memmove(entry->name, entry->name + 2, strlen(entry->name) - 1);
    bool blob = strncmp(entry->name, BUNDLE_BLOBS "/", sizeof BUNDLE_BLOBS) == 0;
    if (is_passed_over(entry))
        return ERR_OK;
    if (!entry->is_dir && blob)
        return take_blob(b, entry, e);
    if (!entry->is_dir && strcmp(entry->name, BUNDLE_LAYOUT) == 0)
        return take_text(b, entry, &b->layout, e);
    if (!entry->is_dir && strcmp(entry->name, BUNDLE_INDEX) == 0)
        return take_text(b, entry, &b->index, e);
    return err_set(e, ERR_FORMAT, "'%s' is no part of a bundle, which is an OCI image layout", entry->name);
}

static enum err_code read_entries(struct bundle *b, struct err *e)
{
    struct tar_entry entry;
    bool end = false;
    enum err_code code = ERR_OK;
    for (size_t n = 0; !code && !end; n++) {
        code = tar_next(&b->tar, &entry, &end, e);
        if (!code && !end && n == BUNDLE_MAX_ENTRIES)
            code = err_set(e, ERR_FORMAT, "the bundle has more than %d entries", BUNDLE_MAX_ENTRIES);
        if (!code && !end)
            code = take_entry(b, &entry, e);
    }
    return code;
}

/* ---- a model ---------------------------------------------------------------------------------------- */

/* A model on its way from descriptors to a commit. */
struct model {
    struct bundle *b;
    struct name name;
    struct arena arena;
    struct commit commit;
    struct store_facts facts;
    const char **paths;      /* of its model files, for the inspector */
    size_t n_paths;
};

/* The blob of a descriptor: it must be in the bundle, of that size. */
static enum err_code take_piece(struct bundle *b, const struct digest *d, uint64_t size, const char *what,
                                struct piece **out, struct err *e)
{
    char text[DIGEST_TEXT_SIZE];
    digest_text(d, text);
    *out = find(b, d);
    if (!*out)
        return err_set(e, ERR_FORMAT, "the bundle lacks %s, %s", what, text);
    if (size != (*out)->size)
        return err_set(e, ERR_FORMAT, "%s has %" PRIu64 " bytes in the bundle, and %" PRIu64 " by its descriptor", text,
                       (*out)->size, size);
    return ERR_OK;
}

static enum err_code take_manifest_piece(struct bundle *b, const json_t *v, struct piece **out, struct err *e)
{
    const json_t *digest = json_object_get(v, "digest"), *size = json_object_get(v, "size");
    struct str text = { json_string_value(digest), json_string_length(digest) };
    struct digest d;
    if (!str_starts(text, STR("sha256:")) || !digest_parse(text, &d) || !json_is_integer(size) || json_integer_value(size) < 0)
        return err_set(e, ERR_FORMAT, "the bundle's descriptor of a manifest has no digest by SHA-256 or no size");
    return take_piece(b, &d, (uint64_t)json_integer_value(size), "a manifest", out, e);
}

/* Into memory, once however many layers it is. */
static enum err_code read_text(struct bundle *b, struct piece *p, struct err *e)
{
    char *text = arena_alloc(&b->texts, (size_t)p->size + 1);
    if (!text)
        return err_no_memory(e, (size_t)p->size, "a text of a bundle");
    int fd = b->s->ops->open(b->s->blobs.tmp, p->part.name, O_RDONLY, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "reading a part of '%s'", b->in->path);
    ssize_t n = file_read_all(b->s->ops, fd, text, (size_t)p->size, 0);
    enum err_code code = n == (ssize_t)p->size ? ERR_OK : err_errno(e, ERR_IO, n < 0 ? errno : EIO, "reading a part of '%s'", b->in->path);
    b->s->ops->close(fd);
    text[p->size] = '\0';
    p->text = (struct str){ text, (size_t)p->size };
    return code;
}

static enum err_code part_text(struct bundle *b, struct piece *p, struct str *out, struct err *e)
{
    enum err_code code = ERR_OK;
    if (p->size > MEDIA_TEXT_MAX)
        return err_set(e, ERR_FORMAT, "a text of the bundle has %" PRIu64 " bytes; at most %zu are taken", p->size, MEDIA_TEXT_MAX);
    if (!p->text.p && (b->n_texts += (size_t)p->size) > BUNDLE_MAX_TEXTS)
        return err_set(e, ERR_TOO_LARGE, "the bundle's manifests and texts have more than %zu bytes, which are the most that are "
                       "taken", BUNDLE_MAX_TEXTS);
    if (!p->text.p)
        code = read_text(b, p, e);
    *out = p->text;
    return code;
}

/* A path for the inspector: of the part, or of the file that the store has. */
static enum err_code path_of(struct model *m, const struct piece *p, struct err *e)
{
    struct store *s = m->b->s;
    char path[PATH_MAX + 128];
    const char **out = &m->paths[m->n_paths++];
    if (p->there)
        return store_blob_path(s, &p->digest, p->size, &m->arena, out, e);
    snprintf(path, sizeof path, "%s/tmp/%s", s->home, p->part.name);
    *out = arena_strndup(&m->arena, path, strlen(path));
    return *out ? ERR_OK : err_no_memory(e, strlen(path), "a path");
}

static enum err_code take_layer(struct model *m, const struct manifest_layer *from, struct err *e)
{
    struct piece *p = NULL;
    struct commit_layer *l = &m->commit.layers[m->commit.n_layers];
    enum err_code code = take_piece(m->b, &from->digest, from->size, from->kind == MEDIA_CONFIG ? "a config" : "a layer",
                                    &p, e);
    if (code)
        return code;
    *l = (struct commit_layer){ .kind = from->kind, .digest = p->digest, .size = p->size, .media_type = from->media_type };
    if (!media_is_file(from->kind)) {
        l->where = COMMIT_TEXT;
        code = part_text(m->b, p, &l->text, e);
    } else {
        l->where = p->there ? COMMIT_THERE : COMMIT_PART;
        l->part = &p->part;
        l->chunks = buf_str(&p->chunks);
        code = from->kind == MEDIA_MODEL ? path_of(m, p, e) : ERR_OK;
    }
    m->commit.n_layers += !code;
    return code;
}

static enum err_code take_layers(struct model *m, struct err *e)
{
    struct manifest from;
    enum err_code code = manifest_read(m->commit.manifest, &m->arena, &from, e);
    if (code)
        return err_prefix(e, "'%s' of the bundle", m->name.model);
    m->commit.layers = arena_zero(&m->arena, from.n_layers + 1, sizeof *m->commit.layers);
    m->paths = arena_zero(&m->arena, from.n_layers, sizeof *m->paths);
    if (!m->commit.layers || !m->paths)
        return err_no_memory(e, from.n_layers * sizeof *m->commit.layers, "a bundle's layers");
    code = take_layer(m, &from.config, e);
    for (size_t i = 0; !code && i < from.n_layers; i++)
        code = take_layer(m, &from.layers[i], e);
    return code;
}

static enum err_code make_model(struct model *m, const json_t *descriptor, struct err *e)
{
    struct piece *p = NULL;
    struct str template = { 0 };
    enum err_code code = take_manifest_piece(m->b, descriptor, &p, e);
    if (!code)
        code = part_text(m->b, p, &m->commit.manifest, e);
    if (!code)
        code = take_layers(m, e);
    for (size_t i = 0; !code && i < m->commit.n_layers; i++)
        if (m->commit.layers[i].kind == MEDIA_TEMPLATE)
            template = m->commit.layers[i].text;
    if (!code)
        code = store_look_into(m->b->s, m->paths, m->n_paths, template, &m->arena, &m->facts, e);
    if (!code)
        code = store_facts_check(&m->facts, e);
    if (code)
        return code;
    m->commit.name = &m->name;
    m->commit.digest = p->digest;
    m->commit.facts = &m->facts;
    m->commit.kind = "bundle";
    m->commit.source = m->b->in->path;
    return ERR_OK;
}

/* What a commit has moved is in the store: a later model of the bundle finds it there. */
static enum err_code after_commit(struct model *m, struct err *e)
{
    for (size_t i = 0; i < m->commit.n_layers; i++) {
        struct piece *p = find(m->b, &m->commit.layers[i].digest);
        if (p->part.name[0] || p->there)
            continue;
        p->there = !store_lease(m->b->s, &p->digest, NULL, NULL);
        if (!p->there)
            return err_set(e, ERR_CONFLICT, "a file of '%s' went while the bundle was imported: try again", m->name.model);
    }
    return ERR_OK;
}

static enum err_code commit_model(struct model *m, struct err *e)
{
    struct model_box *box = NULL;
    enum err_code code = store_commit(m->b->s, &m->commit, &box, e);
    if (!code)
        code = after_commit(m, e);
    if (box && m->b->in->took)
        m->b->in->took(m->b->in->user, &box->model);
    model_box_destroy(box);
    return code;
}

static enum err_code name_of(struct bundle *b, const json_t *descriptor, struct name *out, struct err *e)
{
    const json_t *notes = json_object_get(descriptor, "annotations");
    const char *name = b->in->as;
    name = name ? name : json_string_value(json_object_get(notes, "io.containerd.image.name"));
    name = name ? name : json_string_value(json_object_get(notes, BUNDLE_REF_NAME));
    if (!name)
        return err_set(e, ERR_INVALID, "a model of '%s' has no name: give it one", b->in->path);
    return store_new_name(name, out, e);
}

/* ---- all of them -------------------------------------------------------------------------------------- */

static enum err_code check_layout(struct bundle *b, struct err *e)
{
    json_t *root = NULL;
    if (!b->layout.n || !b->index.n)
        return err_set(e, ERR_FORMAT, "'%s' is not a bundle: it has no %s", b->in->path, b->layout.n ? BUNDLE_INDEX : BUNDLE_LAYOUT);
    enum err_code code = json_read(buf_str(&b->layout), MEDIA_TEXT_MAX, BUNDLE_LAYOUT, &root, e);
    const char *version = json_string_value(json_object_get(root, "imageLayoutVersion"));
    if (!code && (!version || strncmp(version, "1.", 2) != 0))
        code = err_set(e, ERR_UNSUPPORTED, "'%s' is an OCI layout of version %.20s; 1.0.0 is known", b->in->path, version ? version : "?");
    json_decref(root);
    return code;
}

/* All models are looked at before the first is committed. */
static enum err_code take_models(struct bundle *b, const json_t *list, size_t n, struct model *m, struct err *e)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < n; i++) {
        m[i].b = b;
        code = name_of(b, json_array_get(list, i), &m[i].name, e);
        if (!code)
            code = make_model(&m[i], json_array_get(list, i), e);
    }
    for (size_t i = 0; !code && i < n; i++) {
        for (size_t k = 0; k < m[i].commit.n_layers; k++) { /* the models before may have moved some */
            struct commit_layer *l = &m[i].commit.layers[k];
            if (l->where == COMMIT_PART && find(b, &l->digest)->there)
                l->where = COMMIT_THERE;
        }
        code = commit_model(&m[i], e);
    }
    for (size_t i = 0; i < n; i++)
        arena_finish(&m[i].arena);
    return code;
}

static enum err_code take_index(struct bundle *b, struct err *e)
{
    json_t *root = NULL;
    enum err_code code = json_read_bounded(buf_str(&b->index), MEDIA_TEXT_MAX, MAX_VALUES, BUNDLE_INDEX, &root, e);
    const json_t *list = json_object_get(root, "manifests");
    size_t n = json_array_size(list);
    struct model *models = NULL;
    if (!code && (n == 0 || n > BUNDLE_MAX_MODELS))
        code = err_set(e, ERR_FORMAT, "the bundle's index has %zu models; 1 to %d are taken", n, BUNDLE_MAX_MODELS);
    if (!code && n > 1 && b->in->as)
        code = err_set(e, ERR_INVALID, "'%s' has %zu models: they keep their names", b->in->path, n);
    if (!code && !(models = mem_zero(n, sizeof *models)))
        code = err_no_memory(e, n * sizeof *models, "a bundle's models");
    if (!code)
        code = take_models(b, list, n, models, e);
    mem_free(models);
    json_decref(root);
    return code;
}

static void bundle_finish(struct bundle *b)
{
    for (size_t i = 0; i < b->n_pieces; i++) {
        struct piece *p = &b->piece[i];
        blob_discard(&b->s->blobs, &p->part);
        buf_finish(&p->chunks);
        if (p->there)
            store_release(b->s, &p->digest);
    }
    mem_free(b->piece);
    mem_free(b->bytes);
    arena_finish(&b->texts);
    buf_finish(&b->layout);
    buf_finish(&b->index);
}

enum err_code store_import_bundle(struct store *s, const struct store_bundle *in, struct err *e)
{
    struct bundle b = { .s = s, .in = in, .bytes = mem_alloc(BYTES) };
    struct stat st;
    enum err_code code = b.bytes ? ERR_OK : err_no_memory(e, BYTES, "a bundle");
    buf_init(&b.layout, MEDIA_TEXT_MAX);
    buf_init(&b.index, MEDIA_TEXT_MAX);
    tar_reader_init(&b.tar, &(struct tar_source){ read_file, &b });
    if (!code && s->ops->stat(in->fd, &st) < 0)
        code = err_errno(e, ERR_IO, errno, "looking at '%s'", in->path);
    if (!code && !S_ISREG(st.st_mode))
        code = err_set(e, ERR_INVALID, "'%s' is not a regular file", in->path);
    b.total = code ? 0 : (uint64_t)st.st_size;
    if (!code)
        code = read_entries(&b, e);
    if (!code)
        code = check_layout(&b, e);
    if (!code)
        code = take_index(&b, e);
    bundle_finish(&b);
    return code;
}
