#include "store/hub.h"

#include <string.h>

#include "store/web.h"

static struct str rest_of(struct str s, size_t at)
{
    return (struct str){ s.p + at, s.n - at };
}

static bool strip_ci(struct str *s, struct str with)
{
    if (s->n < with.n || !str_ieq((struct str){ s->p, with.n }, with))
        return false;
    *s = rest_of(*s, with.n);
    return true;
}

/* Drops scheme and host; false: they are not the hub's. */
static bool strip_host(struct str *s)
{
    static const char *const schemes[] = { "https://", "http://" };
    for (size_t i = 0; i < 2 && !strip_ci(s, str_from(schemes[i])); i++)
        ;
    return strip_ci(s, STR("hf.co/")) || strip_ci(s, STR("huggingface.co/"));
}

bool hub_takes(struct str text)
{
    return strip_host(&text);
}

static bool cut(struct str *s, char c, struct str *tail)
{
    const char *at = s->n ? memchr(s->p, c, s->n) : NULL;
    *tail = (struct str){ s->p + s->n, 0 };
    if (!at)
        return false;
    *tail = (struct str){ at + 1, (size_t)(s->p + s->n - at - 1) };
    s->n = (size_t)(at - s->p);
    return true;
}

static enum err_code check_revision(struct str rev, struct err *e)
{
    bool ok = rev.n && rev.n <= HUB_REVISION_MAX && rev.p[0] != '/' && rev.p[0] != '-';
    for (size_t i = 0; ok && i < rev.n; i++) {
        char c = rev.p[i];
        ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
             (c && strchr("._-/+", c)) != 0;
        ok = ok && !(c == '.' && i && rev.p[i - 1] == '.');
    }
    return ok ? ERR_OK
              : err_set(e, ERR_INVALID, "a revision on the hub is the name of a branch or a tag, or a commit: 1 "
                        "to %d letters, digits and ._-/+", HUB_REVISION_MAX);
}

/* hf.co/ORG/REPO, and the tag that the model will have here. */
static enum err_code parse_name(struct str repo, struct str tag, struct arena *a, struct hub_ask *out,
                                struct err *e)
{
    struct buf b;
    buf_init(&b, 4096);
    buf_puts(&b, NAME_HUB_HOST "/");
    buf_put(&b, repo.p, repo.n);
    if (tag.n) {
        buf_putc(&b, ':');
        buf_put(&b, tag.p, tag.n);
    }
    char *text = b.failed ? NULL : arena_strndup(a, b.p, b.n);
    size_t n = b.n;
    bool too_long = repo.n + tag.n > 4000;
    buf_finish(&b);
    if (too_long)
        return err_set(e, ERR_INVALID, "a name on the hub has at most 4000 characters");
    if (!text)
        return err_no_memory(e, repo.n + tag.n, "reading a name");
    enum err_code code = name_parse((struct str){ text, n }, &out->name, e);
    if (!code && !strchr(text + strlen(NAME_HUB_HOST "/"), '/'))
        return err_set(e, ERR_INVALID, "'%s' is not a model name: on the hub it is hf.co/ORGANISATION/REPOSITORY",
                       text);
    return code;
}

/* ORG/REPO/blob/REVISION/PATH, of a page's address; false: it is no such link. */
static bool cut_link(struct str s, struct str *repo, struct str *rev, struct str *path)
{
    static const char *const views[] = { "blob", "resolve", "raw" };
    struct str org = s, name, view, drop;
    cut(&org, '/', &name);
    cut(&name, '/', &view);
    cut(&view, '/', rev);
    if (!cut(rev, '/', path)) /* nor is there one where one before it was missing */
        return false;
    *repo = (struct str){ s.p, org.n + 1 + name.n };
    cut(path, '#', &drop);
    cut(path, '?', &drop);
    for (size_t i = 0; i < 3; i++)
        if (str_is(view, views[i]))
            return path->n != 0;
    return false;
}

static enum err_code decode(struct str text, struct arena *a, struct str *out, struct err *e)
{
    struct buf b;
    buf_init(&b, HUB_PATH_MAX);
    bool ok = text.n <= HUB_PATH_MAX && web_unescape(&b, text);
    char *copy = ok && !b.failed ? arena_strndup(a, b.p ? b.p : "", b.n) : NULL;
    *out = (struct str){ copy, b.n };
    buf_finish(&b);
    if (!ok)
        return err_set(e, ERR_INVALID, "the link to a file on the hub cannot be read: its path is longer than %d "
                       "bytes, or holds a '%%' without two hex digits", HUB_PATH_MAX);
    return copy ? ERR_OK : err_no_memory(e, text.n, "reading a name");
}

static enum err_code parse_link(struct str repo, struct str rev, struct str path, struct arena *a,
                                struct hub_ask *out, struct err *e)
{
    enum err_code code = decode(rev, a, &out->revision, e);
    if (!code)
        code = decode(path, a, &out->want, e);
    if (!code)
        code = check_revision(out->revision, e);
    if (code)
        return code;
    const char *slash = memrchr(out->want.p, '/', out->want.n);
    out->exact = true;
    return parse_name(repo, slash ? rest_of(out->want, (size_t)(slash - out->want.p) + 1) : out->want, a, out, e);
}

enum err_code hub_ask_parse(struct str text, struct arena *a, struct hub_ask *out, struct err *e)
{
    char *copy = arena_strndup(a, text.p ? text.p : "", text.n);
    struct str rest = { copy, text.n }, repo, rev, path;
    *out = (struct hub_ask){ 0 };
    if (!copy)
        return err_no_memory(e, text.n, "reading a name");
    if (!strip_host(&rest))
        return err_set(e, ERR_INVALID, "a name on the hub begins with hf.co/");
    if (cut_link(rest, &repo, &rev, &path))
        return parse_link(repo, rev, path, a, out, e);
    repo = rest;
    if (cut(&repo, '@', &rev) && !strip_ci(&(struct str){ rev.p, rev.n }, STR("sha256:"))) {
        enum err_code code = check_revision(rev, e);
        if (code)
            return code;
        out->revision = rev;
    } else {
        repo = rest; /* a digest is the name's own */
    }
    enum err_code code = parse_name(repo, (struct str){ repo.p, 0 }, a, out, e);
    if (!code && out->name.tagged && !str_ieq(str_from(out->name.tag), STR(NAME_DEFAULT_TAG))) {
        struct str base = repo, drop;
        cut(&base, '@', &drop);
        cut(&base, ':', &out->want);
    }
    return code;
}
