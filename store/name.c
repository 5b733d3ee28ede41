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

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The name as it can stand in a sentence: cut, and with what is not plain ASCII as '?'. */
struct quoted {
    char text[96];
};
static struct quoted quote(struct str s)
{
    struct quoted q;
    size_t n = s.n < sizeof q.text - 4 ? s.n : sizeof q.text - 4;
    for (size_t i = 0; i < n; i++)
        q.text[i] = s.p[i] >= ' ' && s.p[i] <= '~' ? s.p[i] : '?';
    memcpy(q.text + n, n < s.n ? "..." : "", n < s.n ? 4 : 1);
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

static enum err_code parse_host(struct str host, struct str all, struct name *n, struct err *e)
{
    struct str name = host, port;
    if (host.n > NAME_HOST_MAX)
        return check_part(&rule_host, host, all, e);
    if (cut(&name, ':', false, &port)) {
        unsigned value = 0;
        for (size_t i = 0; i < port.n && i < 6; i++)
            value = port.p[i] >= '0' && port.p[i] <= '9' ? value * 10 + (unsigned)(port.p[i] - '0')
                                                         : 1000000;
        if (port.n == 0 || port.n > 5 || value == 0 || value > 65535)
            return err_set(e, ERR_INVALID,
                           "'%s' is not a model name: its port must be a number from 1 to 65535",
                           quote(all).text);
    }
    enum err_code code = check_part(&rule_host, name, all, e);
    if (!code)
        copy_part(n->host, host);
    return code;
}

/* Does the first of two parts read as a host? */
static bool looks_like_host(struct str s)
{
    return s.n && (memchr(s.p, '.', s.n) || memchr(s.p, ':', s.n) || str_ieq(s, STR("localhost")));
}

static enum err_code parse_model(struct str *rest, struct str all, struct name *n, struct err *e)
{
    struct str model = *rest, tag = STR(NAME_DEFAULT_TAG);
    cut(rest, '/', true, &model);
    n->tagged = cut(&model, ':', false, &tag);
    enum err_code code = check_part(&rule_model, model, all, e);
    if (!code)
        code = check_part(&rule_tag, tag, all, e);
    if (code)
        return code;
    copy_part(n->model, model);
    copy_part(n->tag, tag);
    return ERR_OK;
}

/* rest: what stood before the model, without its slash: "host/namespace", "host" or "namespace" */
static enum err_code parse_place(struct str rest, bool scheme, struct str all, struct name *n,
                                 struct err *e)
{
    struct str host = STR(NAME_DEFAULT_HOST), space = STR(NAME_DEFAULT_NAMESPACE), tail;
    if (cut(&rest, '/', false, &tail)) {
        host = rest;
        space = tail;
    } else if (scheme || looks_like_host(rest)) {
        host = rest;
    } else {
        space = rest;
    }
    enum err_code code = parse_host(host, all, n, e);
    if (!code)
        code = check_part(&rule_namespace, space, all, e);
    if (!code)
        copy_part(n->namespace, space);
    return code;
}

enum err_code name_parse(struct str text, struct name *out, struct err *e)
{
    struct name n = { .host = NAME_DEFAULT_HOST, .namespace = NAME_DEFAULT_NAMESPACE };
    struct str rest = text, digest;
    bool scheme, slash;
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
    slash = rest.n && memchr(rest.p, '/', rest.n);
    if (scheme && !slash)
        return err_set(e, ERR_INVALID, "'%s' is not a model name: a scheme needs a host and a model",
                       quote(text).text);
    code = parse_model(&rest, text, &n, e);
    if (!code && slash)
        code = parse_place(rest, scheme, text, &n, e);
    if (!code)
        *out = n;
    return code;
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
