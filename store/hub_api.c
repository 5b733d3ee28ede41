#include "store/hub.h"

#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "runtime/base/json.h"

#define LICENSE_MAX 64

/* ---- text that came from outside -------------------------------------------------------------- */

static enum err_code wrong(struct err *e, const char *what)
{
    return err_set(e, ERR_FORMAT, "the hub's answer is not what its API gives: %s", what);
}

static enum err_code read_reply(struct str json, json_t **out, struct err *e)
{
    struct err why = { 0 };
    enum err_code code = json_read_bounded(json, HUB_REPLY_MAX, HUB_REPLY_VALUES, "the hub's answer", out, &why);
    return !code ? ERR_OK : err_set(e, code == ERR_INVALID ? ERR_FORMAT : code, "%s", why.text);
}

static struct str text_of(const json_t *v)
{
    return (struct str){ json_string_value(v), json_string_length(v) };
}

static bool is_hex(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!s.p[i] || !strchr("0123456789abcdefABCDEF", s.p[i]))
            return false;
    return s.n != 0;
}

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : ((unsigned)c | 32u) - 'a' + 10;
}

/* A path in a repository: pieces between single slashes, none of them `.` or `..`. */
static bool is_path(struct str s)
{
    if (!s.n || s.n > HUB_PATH_MAX)
        return false;
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < ' ' || s.p[i] == 127 || s.p[i] == '\\')
            return false;
    for (size_t at = 0; at <= s.n;) {
        const char *slash = at < s.n ? memchr(s.p + at, '/', s.n - at) : NULL;
        struct str piece = { s.p + at, slash ? (size_t)(slash - s.p) - at : s.n - at };
        if (!piece.n || str_eq(piece, STR(".")) || str_eq(piece, STR("..")))
            return false;
        at += piece.n + 1;
    }
    return true;
}

/* ---- /api/models/ORG/REPO --------------------------------------------------------------------- */

/* One word that can stand in a list: "apache-2.0". */
static const char *license_of(const json_t *card, struct arena *a)
{
    const char *keys[] = { "license", "license_name" }; /* "other" has a name of its own */
    struct str found = { 0 };
    for (size_t k = 0; k < 2; k++) {
        const json_t *v = json_object_get(card, keys[k]);
        if (json_is_array(v))
            v = json_array_get(v, 0);
        struct str text = json_is_string(v) ? text_of(v) : (struct str){ 0 };
        if (text.n && text.n <= LICENSE_MAX && (k == 0 || str_is(found, "other")))
            found = text;
    }
    for (size_t i = 0; i < found.n; i++)
        if (found.p[i] <= ' ' || found.p[i] > '~' || found.p[i] == '"')
            return "";
    return found.n ? arena_strndup(a, found.p, found.n) : "";
}

static enum err_code take_info(const json_t *root, struct arena *a, struct hub_repo *r, struct err *e)
{
    const json_t *sha = json_object_get(root, "sha"), *gated = json_object_get(root, "gated");
    struct str commit = text_of(sha);
    if ((commit.n != 40 && commit.n != 64) || !is_hex(commit))
        return wrong(e, "a commit has 40 hex digits");
    memcpy(r->commit, commit.p, commit.n);
    r->commit[commit.n] = '\0';
    r->gated = json_is_string(gated) || json_is_true(gated); /* "auto", "manual" */
    r->license = license_of(json_object_get(root, "cardData"), a);
    return r->license ? ERR_OK : err_no_memory(e, LICENSE_MAX, "reading the hub's answer");
}

enum err_code hub_read_info(struct str json, struct arena *a, struct hub_repo *r, struct err *e)
{
    json_t *root;
    enum err_code code = read_reply(json, &root, e);
    if (!code)
        code = take_info(root, a, r, e);
    json_decref(root);
    return code;
}

/* ---- /api/models/ORG/REPO/tree/REVISION -------------------------------------------------------- */

static bool take_size(const json_t *v, uint64_t *out)
{
    json_int_t n = json_is_integer(v) ? json_integer_value(v) : -1;
    if (n < 0 || (uint64_t)n > HUB_FILE_MAX)
        return false;
    *out = (uint64_t)n;
    return true;
}

static bool take_blob(const json_t *v, struct hub_file *f)
{
    struct str hex = json_is_string(v) ? text_of(v) : (struct str){ 0 };
    if (!is_hex(hex) || (hex.n != 40 && hex.n != 64))
        return false;
    f->has_blob = hex.n == 40;
    for (size_t i = 0; f->has_blob && i < sizeof f->blob; i++)
        f->blob[i] = (uint8_t)(hex_value(hex.p[2 * i]) << 4 | hex_value(hex.p[2 * i + 1]));
    return true;
}

/* {"oid": SHA-256 in hex, "size", "pointerSize"}; the git blob is then that of the pointer. */
static enum err_code take_lfs(const json_t *lfs, struct hub_file *f, struct err *e)
{
    const json_t *oid = json_object_get(lfs, "oid");
    char text[DIGEST_TEXT_SIZE] = "sha256:";
    uint64_t size;
    if (!lfs || json_is_null(lfs))
        return ERR_OK;
    if (json_string_length(oid) != 64)
        return wrong(e, "the digest of a large file has 64 hex digits");
    memcpy(text + 7, json_string_value(oid), 65);
    if (!digest_parse(str_from(text), &f->sha256))
        return wrong(e, "the digest of a large file has 64 hex digits");
    if (!take_size(json_object_get(lfs, "size"), &size) || size != f->size)
        return wrong(e, "a large file has two sizes");
    f->has_sha256 = true;
    f->has_blob = false;
    return ERR_OK;
}

static enum err_code take_file(const json_t *v, struct arena *a, struct hub_repo *r, struct err *e)
{
    struct hub_file f = { 0 };
    const json_t *path = json_object_get(v, "path");
    if (!json_is_string(path) || !is_path(text_of(path)))
        return wrong(e, "a file's path is relative, without '..' and control characters");
    if (!take_size(json_object_get(v, "size"), &f.size))
        return wrong(e, "a file's size is a number of bytes up to 4 TiB");
    if (!take_blob(json_object_get(v, "oid"), &f))
        return wrong(e, "a file's oid has 40 hex digits");
    enum err_code code = take_lfs(json_object_get(v, "lfs"), &f, e);
    if (code)
        return code;
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 64;
        struct hub_file *more = arena_zero(a, cap, sizeof *more);
        if (!more)
            return err_no_memory(e, cap * sizeof *more, "reading the hub's answer");
        if (r->n)
            memcpy(more, r->files, r->n * sizeof *more);
        r->files = more;
        r->cap = cap;
    }
    f.path = arena_strndup(a, json_string_value(path), json_string_length(path));
    if (!f.path)
        return err_no_memory(e, json_string_length(path), "reading the hub's answer");
    r->files[r->n++] = f;
    return ERR_OK;
}

static enum err_code take_tree(const json_t *root, struct arena *a, struct hub_repo *r, struct err *e)
{
    enum err_code code = ERR_OK;
    if (!json_is_array(root))
        return wrong(e, "a repository's files are a list");
    for (size_t i = 0; !code && i < json_array_size(root); i++) {
        const json_t *v = json_array_get(root, i), *type = json_object_get(v, "type");
        if (++r->entries > HUB_MAX_FILES)
            return err_set(e, ERR_TOO_LARGE, "the repository has more than %d files", HUB_MAX_FILES);
        if (!json_is_string(type))
            return wrong(e, "an entry of a repository has a type");
        if (strcmp(json_string_value(type), "file") == 0)
            code = take_file(v, a, r, e);
    }
    return code;
}

enum err_code hub_read_tree(struct str json, struct arena *a, struct hub_repo *r, struct err *e)
{
    json_t *root;
    enum err_code code = read_reply(json, &root, e);
    if (!code)
        code = take_tree(root, a, r, e);
    json_decref(root);
    return code;
}

bool hub_blob_is(const struct hub_file *f, struct str bytes)
{
    uint8_t sha[EVP_MAX_MD_SIZE];
    char head[32];
    int n = snprintf(head, sizeof head, "blob %zu", bytes.n); /* its NUL is hashed too */
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool done = ctx && EVP_DigestInit_ex(ctx, EVP_sha1(), NULL) &&
                EVP_DigestUpdate(ctx, head, (size_t)n + 1) &&
                EVP_DigestUpdate(ctx, bytes.p ? bytes.p : "", bytes.n) && EVP_DigestFinal_ex(ctx, sha, NULL);
    EVP_MD_CTX_free(ctx);
    return done && memcmp(sha, f->blob, sizeof f->blob) == 0;
}
