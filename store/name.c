#include "store/name.h"

#include <stdio.h>
#include <string.h>

/* What each part may be made of. The sentence of a refusal is built from its row. */
struct rule {
    const char *part, *also; /* allowed beside letters and digits, and the same for people */
    const char *for_people;
    size_t max;
};
static const struct rule rule_host = { "host", "_.-", "'_', '.' and '-'", NAME_HOST_MAX };
static const struct rule rule_namespace = { "namespace", "_-", "'_' and '-'", NAME_PART_MAX };
static const struct rule rule_model = { "model", "_.-", "'_', '.' and '-'", NAME_PART_MAX };
static const struct rule rule_tag = { "tag", "_.-", "'_', '.' and '-'", NAME_PART_MAX };

/* The rules of one place. */
struct rules {
    const struct rule *namespace, *model, *tag;
};
static const struct rules registry_rules = { &rule_namespace, &rule_model, &rule_tag };
static const struct rules hub_rules = {
    &(const struct rule){ "organisation", "_.-", "'_', '.' and '-'", NAME_HUB_OWNER_MAX },
    &(const struct rule){ "repository", "_.-", "'_', '.' and '-'", NAME_HUB_REPO_MAX },
    &(const struct rule){ "quantisation or file", "_.-", "'_', '.' and '-'", NAME_HUB_TAG_MAX },
};

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Where a "user:password@" stands, behind a URL's scheme or before a host. */
static struct str user_part(struct str s)
{
    const char *scheme = s.n ? memmem(s.p, s.n, "://", 3) : NULL;
    struct str host = scheme ? (struct str){ scheme + 3, (size_t)(s.p + s.n - scheme - 3) } : s;
    const char *slash = host.n ? memchr(host.p, '/', host.n) : NULL;
    host.n = slash ? (size_t)(slash - host.p) : scheme ? host.n : 0; /* "model@sha256:..." has no user */
    const char *end = host.n ? memrchr(host.p, '@', host.n) : NULL;
    return (struct str){ host.p, end ? (size_t)(end + 1 - host.p) : 0 };
}

const char *name_shown(struct str s, char *out, size_t cap)
{
    size_t n = 0, i = 0;
    struct str user = user_part(s);
    for (; i < s.n && n < cap - 4 && s.p[i] != '?'; i++) {
        if (user.n && s.p + i >= user.p && s.p + i < user.p + user.n)
            continue;
        out[n++] = s.p[i] >= ' ' && s.p[i] <= '~' && s.p[i] != '"' ? s.p[i] : '?';
    }
    memcpy(out + n, i < s.n ? "..." : "", i < s.n ? 4 : 1);
    return out;
}

/* The same, short enough for a sentence. */
struct quoted {
    char text[96];
};
static struct quoted quote(struct str s)
{
    struct quoted q;
    name_shown(s, q.text, sizeof q.text);
    return q;
}

static enum err_code check_part(const struct rule *r, struct str part, struct str all,
                                struct err *e)
{
    if (part.n == 0)
        return err_set(e, ERR_INVALID, "'%s' is not a model name: its %s is empty", quote(all).text,
                       r->part);
    if (part.n > r->max)
        return err_set(e, ERR_INVALID,
                       "'%s' is not a model name: its %s has %zu characters; at most %zu are taken",
                       quote(all).text, r->part, part.n, r->max);
    if (!is_alnum(part.p[0]) && part.p[0] != '_')
        return err_set(e, ERR_INVALID,
                       "'%s' is not a model name: its %s must begin with a letter, a digit or '_'",
                       quote(all).text, r->part);
    for (size_t i = 0; i < part.n; i++)
        if (!is_alnum(part.p[i]) && (!part.p[i] || !strchr(r->also, part.p[i])))
            return err_set(e, ERR_INVALID,
                           "'%s' is not a model name: its %s may hold letters, digits, %s",
                           quote(all).text, r->part, r->for_people);
    return ERR_OK;
}

/* Cuts `*s` at the first (or last) `c`: what follows it goes to `*tail`. False: there is none. */
static bool cut(struct str *s, char c, bool at_last, struct str *tail)
{
    const char *at = !s->n ? NULL : at_last ? memrchr(s->p, c, s->n) : memchr(s->p, c, s->n);
    if (!at)
        return false;
    *tail = (struct str){ at + 1, (size_t)(s->p + s->n - at - 1) };
    s->n = (size_t)(at - s->p);
    return true;
}

static void copy_part(char *out, struct str part)
{
    memcpy(out, part.p, part.n);
    out[part.n] = '\0';
}

static enum err_code parse_scheme(struct str *rest, struct str all, bool *given, bool *http,
                                  struct err *e)
{
    *given = *http = false;
    for (size_t i = 0; i + 2 < rest->n; i++) {
        if (memcmp(rest->p + i, "://", 3) != 0)
            continue;
        struct str scheme = { rest->p, i };
        *given = true;
        *http = str_ieq(scheme, STR("http"));
        if (!*http && !str_ieq(scheme, STR("https")))
            return err_set(e, ERR_INVALID,
                           "'%s' is not a model name: its scheme must be https or http",
                           quote(all).text);
        *rest = (struct str){ rest->p + i + 3, rest->n - i - 3 };
        return ERR_OK;
    }
    return ERR_OK;
}

static enum err_code check_host(struct str host, struct str all, struct err *e)
{
    struct str name = host, port;
    if (host.n > NAME_HOST_MAX)
        return check_part(&rule_host, host, all, e);
    if (host.n && host.p[0] == '[')
        return err_set(e, ERR_INVALID,
                       "'%s' is not a model name: its host is an IPv6 address, which has to be "
                       "written as a name (/etc/hosts gives it one)",
                       quote(all).text);
    if (cut(&name, ':', false, &port)) {
        unsigned value = 0;
        for (size_t i = 0; i < port.n && i < 6; i++)
            value = port.p[i] >= '0' && port.p[i] <= '9' ? value * 10 + (unsigned)(port.p[i] - '0')
                                                         : 1000000;
        if (port.n > 5 || value == 0 || value > 65535)
            return err_set(e, ERR_INVALID,
                           "'%s' is not a model name: its port must be a number from 1 to 65535",
                           quote(all).text);
    }
    return check_part(&rule_host, name, all, e);
}

static bool is_hub(struct str host)
{
    return str_ieq(host, STR(NAME_HUB_HOST)) || str_ieq(host, STR("huggingface.co"));
}

/* Does the first of two parts read as a host? */
static bool looks_like_host(struct str s)
{
    return s.n && (memchr(s.p, '.', s.n) || memchr(s.p, ':', s.n) || str_ieq(s, STR("localhost")));
}

/* The name in its pieces, as views of the text. */
struct pieces {
    struct str host, namespace, model, tag;
};

/* More than one level: a registry's deeper path, or a folder on the hub. */
static enum err_code check_levels(const struct pieces *p, struct str all, struct err *e)
{
    size_t levels = 1;
    for (size_t i = 0; i < p->namespace.n; i++)
        levels += p->namespace.p[i] == '/';
    if (levels == 1)
        return ERR_OK;
    if (is_hub(p->host) && memchr(p->namespace.p, ':', p->namespace.n))
        return err_set(e, ERR_INVALID,
                       "'%s' is not a model name: a file of a repository is named without its folder",
                       quote(all).text);
    return err_set(e, ERR_INVALID,
                   "'%s' is not a model name: it has %zu levels of namespace; one is taken "
                   "(host/namespace/model:tag)",
                   quote(all).text, levels);
}

/* Cuts [host/][namespace/]model[:tag]. What is missing is filled in. */
static struct pieces cut_pieces(struct str rest, bool scheme, bool *tagged)
{
    struct pieces p = { .host = STR(NAME_DEFAULT_HOST),
                        .namespace = STR(NAME_DEFAULT_NAMESPACE),
                        .tag = STR(NAME_DEFAULT_TAG) };
    struct str tail;
    bool slash = cut(&rest, '/', true, &p.model);
    if (!slash)
        p.model = rest;
    *tagged = cut(&p.model, ':', false, &p.tag);
    if (!slash)
        return p;
    if (cut(&rest, '/', false, &tail)) {
        p.host = rest;
        p.namespace = tail;
    } else if (scheme || looks_like_host(rest)) {
        p.host = rest;
    } else {
        p.namespace = rest;
    }
    return p;
}

static enum err_code check_pieces(const struct pieces *p, struct str all, struct err *e)
{
    const struct rules *r = is_hub(p->host) ? &hub_rules : &registry_rules;
    enum err_code code = check_part(r->model, p->model, all, e);
    if (!code)
        code = check_part(r->tag, p->tag, all, e);
    if (!code)
        code = check_host(p->host, all, e);
    if (!code)
        code = check_levels(p, all, e);
    return code ? code : check_part(r->namespace, p->namespace, all, e);
}

enum err_code name_parse(struct str text, struct name *out, struct err *e)
{
    struct name n = { 0 };
    struct str rest = text, digest;
    bool scheme;
    if (text.n == 0)
        return err_set(e, ERR_INVALID, "a model name is missing");
    enum err_code code = parse_scheme(&rest, text, &scheme, &n.http, e);
    if (code)
        return code;
    n.pinned = cut(&rest, '@', false, &digest);
    if (n.pinned && !digest_parse(digest, &n.digest))
        return err_set(e, ERR_INVALID,
                       "'%s' is not a model name: after '@' stands sha256: and 64 hex digits",
                       quote(text).text);
    if (scheme && !(rest.n && memchr(rest.p, '/', rest.n)))
        return err_set(e, ERR_INVALID, "'%s' is not a model name: a scheme needs a host and a model",
                       quote(text).text);
    struct pieces p = cut_pieces(rest, scheme, &n.tagged);
    code = check_pieces(&p, text, e);
    if (code)
        return code;
    copy_part(n.host, is_hub(p.host) ? STR(NAME_HUB_HOST) : p.host);
    copy_part(n.namespace, p.namespace);
    copy_part(n.model, p.model);
    copy_part(n.tag, p.tag);
    *out = n;
    return ERR_OK;
}

void name_canonical(const struct name *n, char out[NAME_TEXT_MAX + 1])
{
    snprintf(out, NAME_TEXT_MAX + 1, "%s/%s/%s:%s", n->host, n->namespace, n->model, n->tag);
}

void name_short(const struct name *n, char out[NAME_TEXT_MAX + 1])
{
    bool host = !str_ieq(str_from(n->host), STR(NAME_DEFAULT_HOST));
    bool space = !str_ieq(str_from(n->namespace), STR(NAME_DEFAULT_NAMESPACE));
    if (host || looks_like_host(str_from(n->namespace)))
        name_canonical(n, out);
    else
        snprintf(out, NAME_TEXT_MAX + 1, "%s%s%s:%s", space ? n->namespace : "", space ? "/" : "",
                 n->model, n->tag);
}

bool name_eq(const struct name *a, const struct name *b)
{
    return str_ieq(str_from(a->host), str_from(b->host)) &&
           str_ieq(str_from(a->namespace), str_from(b->namespace)) &&
           str_ieq(str_from(a->model), str_from(b->model)) &&
           str_ieq(str_from(a->tag), str_from(b->tag));
}

bool name_same(struct str a, struct str b)
{
    struct name x, y;
    return name_parse(a, &x, NULL) == ERR_OK && name_parse(b, &y, NULL) == ERR_OK && name_eq(&x, &y);
}

/* ---- sources --------------------------------------------------------------------------------- */

static bool ends_in_gguf(struct str s)
{
    return s.n >= 5 && str_ieq((struct str){ s.p + s.n - 5, 5 }, STR(".gguf"));
}

/* "name-00001-of-00003" -> "name" */
static struct str without_shard(struct str stem)
{
    static const char form[] = "-#####-of-#####";
    size_t n = sizeof form - 1;
    if (stem.n <= n)
        return stem;
    const char *p = stem.p + stem.n - n;
    for (size_t i = 0; i < n; i++)
        if (form[i] == '#' ? p[i] < '0' || p[i] > '9' : p[i] != form[i])
            return stem;
    return (struct str){ stem.p, stem.n - n };
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The byte at *i of a URL's path, or of a plain path; *i moves past it. */
static char next_byte(struct str s, bool url, size_t *i)
{
    char c = s.p[(*i)++];
    if (!url || c != '%' || *i + 2 > s.n)
        return c;
    int high = hex_digit(s.p[*i]), low = hex_digit(s.p[*i + 1]);
    if (high < 0 || low < 0)
        return c;
    *i += 2;
    return (char)(high << 4 | low);
}

/* file: a file's name without a folder. */
static void name_of_file(struct str file, bool url, struct name *n)
{
    struct str stem = file;
    stem.n -= ends_in_gguf(file) ? strlen(".gguf") : 0;
    stem = without_shard(stem);
    size_t used = 0;
    for (size_t i = 0; i < stem.n && used < NAME_PART_MAX;) {
        char c = next_byte(stem, url, &i);
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        if (is_alnum(c) || c == '_' || (used && c == '.'))
            n->model[used++] = c;
        else if (used && n->model[used - 1] != '-')
            n->model[used++] = '-';
    }
    while (used && n->model[used - 1] == '-')
        used--;
    n->model[used] = '\0';
    if (!used)
        snprintf(n->model, sizeof n->model, "model");
    snprintf(n->host, sizeof n->host, NAME_DEFAULT_HOST);
    snprintf(n->namespace, sizeof n->namespace, NAME_DEFAULT_NAMESPACE);
    snprintf(n->tag, sizeof n->tag, NAME_DEFAULT_TAG);
}

static struct str last_piece(struct str path)
{
    struct str piece = path, head = path;
    cut(&head, '/', true, &piece);
    return piece;
}

/* A URL in its pieces: scheme://host/path, without query and fragment. */
struct url {
    struct str whole, shown, host, file;
    bool http;
};

static bool cut_url(struct str text, struct url *u)
{
    struct str rest = text, drop;
    bool scheme;
    if (parse_scheme(&rest, text, &scheme, &u->http, NULL) || !scheme)
        return false;
    u->whole = text;
    cut(&u->whole, '#', false, &drop);
    const char *pin = u->whole.n ? memmem(u->whole.p, u->whole.n, "@sha256:", 8) : NULL;
    if (pin)
        u->whole.n = (size_t)(pin - u->whole.p);
    u->shown = u->whole;
    cut(&u->shown, '?', false, &drop);
    if (rest.p >= u->shown.p + u->shown.n)
        return false;
    rest.n = (size_t)(u->shown.p + u->shown.n - rest.p);
    u->host = rest;
    if (!cut(&u->host, '/', false, &drop))
        return false;
    u->file = last_piece(drop);
    return ends_in_gguf(u->file);
}

static enum err_code check_url(const struct url *u, struct err *e)
{
    struct str all = u->whole, user;
    if (u->whole.n > SOURCE_TEXT_MAX)
        return err_set(e, ERR_INVALID, "a model's URL has %zu characters; at most %d are taken",
                       u->whole.n, SOURCE_TEXT_MAX);
    for (size_t i = 0; i < all.n; i++)
        if (all.p[i] <= ' ' || all.p[i] > '~' || strchr("\"<>\\^`{|}", all.p[i]))
            return err_set(e, ERR_INVALID,
                           "a model's URL holds a byte (0x%02x at %zu) that has to be written as %%%02X",
                           (unsigned char)all.p[i], i, (unsigned char)all.p[i]);
    struct str host = u->host;
    if (cut(&host, '@', true, &user))
        return err_set(e, ERR_INVALID,
                       "a model's URL holds a user or a password: they would be kept with the model");
    return check_host(u->host, u->shown, e);
}

static enum err_code parse_file(struct str text, struct source *s, struct err *e)
{
    struct str path = { text.p + strlen("file:"), text.n - strlen("file:") };
    if (str_starts(path, STR("//"))) {
        path = (struct str){ path.p + 2, path.n - 2 };
        if (!path.n || path.p[0] != '/')
            return err_set(e, ERR_INVALID,
                           "'%s' is not a file of this machine: write file:PATH or file:///PATH",
                           quote(text).text);
    }
    if (path.n == 0 || path.p[path.n - 1] == '/' || path.n > SOURCE_TEXT_MAX ||
        memchr(path.p, '\0', path.n))
        return err_set(e, ERR_INVALID, "'%s' is not the path of a file (1 to %d bytes, none of them NUL)",
                       quote(text).text, SOURCE_TEXT_MAX);
    s->kind = SOURCE_FILE;
    copy_part(s->text, path);
    s->public_n = path.n;
    name_of_file(last_piece(path), false, &s->name);
    return ERR_OK;
}

static enum err_code parse_url(const struct url *u, struct source *s, struct err *e)
{
    enum err_code code = check_url(u, e);
    if (code)
        return code;
    s->kind = SOURCE_URL;
    copy_part(s->text, u->whole);
    s->public_n = u->shown.n;
    name_of_file(u->file, true, &s->name);
    s->name.http = u->http;
    return ERR_OK;
}

/* A name, or one of the hub with @REVISION behind it. */
static enum err_code parse_model_source(struct str text, struct source *s, struct err *e)
{
    struct str name = text, revision;
    struct name hub;
    enum err_code code = name_parse(text, &s->name, e);
    if (code && cut(&name, '@', false, &revision) && !str_starts(revision, STR("sha256:")) &&
        !name_parse(name, &hub, NULL) && is_hub(str_from(hub.host))) {
        s->name = hub;
        if (e)
            err_clear(e);
        code = ERR_OK;
    }
    s->kind = !code && is_hub(str_from(s->name.host)) ? SOURCE_HUB : SOURCE_REGISTRY;
    return code;
}

enum err_code source_parse(struct str text, struct source *out, struct err *e)
{
    struct source s = { 0 };
    struct url u;
    enum err_code code;
    if (text.n >= 5 && str_ieq((struct str){ text.p, 5 }, STR("file:"))) {
        code = parse_file(text, &s, e);
    } else if (text.n && cut_url(text, &u) && !memchr(u.file.p, ':', u.file.n)) {
        code = parse_url(&u, &s, e);
    } else {
        code = parse_model_source(text, &s, e);
    }
    if (!code)
        *out = s;
    return code;
}
