/* $id, $anchor and $ref: which schema of the document a reference means. URIs are resolved as RFC 3986, section
 * 5.2 says; nothing is ever fetched. Pointers are RFC 6901's. */
#include <string.h>

#include "runtime/text/json_schema_priv.h"

#define MAX_RESOURCES 4096

struct uri {
    struct str scheme, authority, path, query; /* with their marks: "http:", "//host", "/a/b", "?q" */
};

static struct uri split_uri(struct str s)
{
    struct uri u = { { s.p, 0 }, { 0 }, { 0 }, { 0 } };
    size_t i = 0;
    while (i < s.n && s.p[i] != ':' && s.p[i] != '/' && s.p[i] != '?')
        i++;
    if (i && i < s.n && s.p[i] == ':')
        u.scheme.n = i + 1;
    i = u.scheme.n;
    u.authority = (struct str){ s.p + i, 0 };
    if (s.n - i >= 2 && s.p[i] == '/' && s.p[i + 1] == '/')
        for (u.authority.n = 2; i + u.authority.n < s.n && !strchr("/?", s.p[i + u.authority.n]);)
            u.authority.n++;
    i += u.authority.n;
    u.path = (struct str){ s.p + i, 0 };
    while (i + u.path.n < s.n && s.p[i + u.path.n] != '?')
        u.path.n++;
    u.query = (struct str){ s.p + i + u.path.n, s.n - i - u.path.n };
    return u;
}

static void put(struct buf *b, struct str s)
{
    buf_put(b, s.p ? s.p : "", s.n);
}

/* Section 5.2.4: a/./b/../c -> a/c. `from` is where the path begins in b. */
static void put_path(struct buf *b, struct str path)
{
    size_t from = b->n, at = 0;
    while (at < path.n) {
        size_t n = path.p[at] == '/' ? 1 : 0;
        while (at + n < path.n && path.p[at + n] != '/')
            n++;
        struct str segment = { path.p + at, n };
        bool last = at + n == path.n, up = str_is(segment, "/..") || str_is(segment, "..");
        if (up)
            while (b->n > from && b->p[--b->n] != '/')
                ;
        if (!up && !str_is(segment, "/.") && !str_is(segment, "."))
            put(b, segment);
        else if (last)
            buf_putc(b, '/');
        at += n;
    }
}

/* The absolute form of a reference without its fragment. */
static bool resolve_uri(struct schema *c, struct str base, struct str ref, struct str *out)
{
    struct uri b = split_uri(base), r = split_uri(ref);
    struct buf t;
    buf_init(&t, base.n + ref.n + 16);
    bool absolute = r.scheme.n > 0, host = absolute || r.authority.n > 0;
    put(&t, absolute ? r.scheme : b.scheme);
    put(&t, host ? r.authority : b.authority);
    if (host || (r.path.n && r.path.p[0] == '/')) {
        put_path(&t, r.path);
    } else if (!r.path.n) {
        put(&t, b.path);
    } else {
        struct buf merged;
        buf_init(&merged, base.n + ref.n + 1);
        size_t n = b.path.n;
        while (n && b.path.p[n - 1] != '/')
            n--;
        if (b.authority.n && !b.path.n)
            buf_putc(&merged, '/');
        put(&merged, (struct str){ b.path.p, n });
        put(&merged, r.path);
        put_path(&t, buf_str(&merged));
        t.failed |= merged.failed;
        buf_finish(&merged);
    }
    put(&t, host || r.path.n || r.query.n ? r.query : b.query);
    char *copy = t.failed ? NULL : arena_strndup(&c->arena, t.p ? t.p : "", t.n);
    *out = (struct str){ copy, t.n };
    buf_finish(&t);
    return copy || schema_no_memory(c);
}

/* Cuts a reference at its #; *fragment.p NULL: it has none. */
static struct str cut_fragment(const char *text, struct str *fragment)
{
    const char *mark = strchr(text, '#');
    *fragment = mark ? str_from(mark + 1) : (struct str){ 0 };
    return mark ? (struct str){ text, (size_t)(mark - text) } : str_from(text);
}

/* ---- what the document holds ---- */

static bool add_anchor(struct schema *c, const json_t *s, uint32_t of, struct str name)
{
    if (c->n_anchors >= MAX_RESOURCES)
        return schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "more than %d anchors", MAX_RESOURCES);
    if (!mem_grow(&c->anchor, &c->anchors_cap, c->n_anchors + 1, sizeof *c->anchor, MAX_RESOURCES))
        return schema_no_memory(c);
    c->anchor[c->n_anchors++] = (struct anchor){ s, of, name };
    return true;
}

static bool add_resource(struct schema *c, const json_t *s, struct str uri)
{
    if (c->n_resources >= MAX_RESOURCES)
        return schema_refuse(c, ERR_TOO_LARGE, NULL, NULL, "more than %d $ids", MAX_RESOURCES);
    if (!mem_grow(&c->resource, &c->resources_cap, c->n_resources + 1, sizeof *c->resource, MAX_RESOURCES))
        return schema_no_memory(c);
    c->resource[c->n_resources++] = (struct resource){ s, uri };
    return true;
}

static bool read_names(struct schema *c, const json_t *s, uint32_t *of)
{
    const char *id = json_string_value(json_object_get(s, "$id"));
    const char *anchors[] = { json_string_value(json_object_get(s, "$anchor")),
                              json_string_value(json_object_get(s, "$dynamicAnchor")) };
    struct str fragment, uri;
    if (id && !(c->draft == JSON_SCHEMA_7 && json_object_get(s, "$ref"))) {
        struct str front = cut_fragment(id, &fragment);
        if (front.n && s != c->root) {
            if (!resolve_uri(c, c->resource[*of].uri, front, &uri) || !add_resource(c, s, uri))
                return false;
            *of = (uint32_t)c->n_resources - 1;
        }
        if (fragment.n && !add_anchor(c, s, *of, fragment))
            return false;
    }
    for (size_t i = 0; i < 2; i++)
        if (anchors[i] && !add_anchor(c, s, *of, str_from(anchors[i])))
            return false;
    return true;
}

/* Keywords that hold schemas, and how. */
static const struct holder {
    const char *name;
    enum { HOLDS_ONE, HOLDS_LIST, HOLDS_MAP } how;
} holders[] = {
    { "$defs", HOLDS_MAP },          { "definitions", HOLDS_MAP },          { "properties", HOLDS_MAP },
    { "patternProperties", HOLDS_MAP }, { "dependentSchemas", HOLDS_MAP },  { "dependencies", HOLDS_MAP },
    { "allOf", HOLDS_LIST },         { "anyOf", HOLDS_LIST },               { "oneOf", HOLDS_LIST },
    { "prefixItems", HOLDS_LIST },   { "items", HOLDS_LIST },               { "items", HOLDS_ONE },
    { "additionalItems", HOLDS_ONE }, { "additionalProperties", HOLDS_ONE }, { "propertyNames", HOLDS_ONE },
    { "contains", HOLDS_ONE },       { "not", HOLDS_ONE },                  { "if", HOLDS_ONE },
    { "then", HOLDS_ONE },           { "else", HOLDS_ONE },                 { "unevaluatedItems", HOLDS_ONE },
    { "unevaluatedProperties", HOLDS_ONE },
};

static bool walk(struct schema *c, const json_t *s, uint32_t of)
{
    if (!json_is_object(s))
        return true;
    if (!schema_step(c, 1) || !read_names(c, s, &of))
        return false;
    for (size_t i = 0; i < sizeof holders / sizeof holders[0]; i++) {
        const json_t *v = json_object_get(s, holders[i].name);
        bool good = true;
        const char *name;
        json_t *part;
        if (!v)
            continue;
        if (holders[i].how == HOLDS_ONE)
            good = walk(c, v, of);
        for (size_t k = 0; holders[i].how == HOLDS_LIST && k < json_array_size(v) && good; k++)
            good = walk(c, json_array_get(v, k), of);
        if (holders[i].how == HOLDS_MAP)
            json_object_foreach((json_t *)(uintptr_t)v, name, part)
                good = good && walk(c, part, of);
        if (!good)
            return false;
    }
    return true;
}

bool schema_find_resources(struct schema *c)
{
    const char *id = json_string_value(json_object_get(c->root, "$id"));
    struct str fragment, uri = { "", 0 };
    if (id && !resolve_uri(c, uri, cut_fragment(id, &fragment), &uri))
        return false;
    return add_resource(c, c->root, uri) && walk(c, c->root, 0);
}

uint32_t schema_resource(const struct schema *c, const json_t *s, uint32_t of)
{
    if (!json_object_get(s, "$id"))
        return of;
    for (size_t i = 0; i < c->n_resources; i++)
        if (c->resource[i].root == s)
            return (uint32_t)i;
    return of;
}

/* ---- references ---- */

static bool unescape(struct str *s, struct buf *out)
{
    static const char hex[] = "0123456789abcdef";
    buf_clear(out);
    for (size_t i = 0; i < s->n; i++) {
        char c = s->p[i];
        const char *hi = NULL, *lo = NULL;
        if (c == '%' && i + 2 < s->n) {
            hi = strchr(hex, s->p[i + 1] | 32);
            lo = strchr(hex, s->p[i + 2] | 32);
        }
        if (hi && lo) {
            c = (char)((hi - hex) << 4 | (lo - hex));
            i += 2;
        }
        buf_putc(out, c);
    }
    return !out->failed;
}

/* One step of a pointer, whose token is at p (behind its /), of n bytes. */
static const json_t *pointer_step(const json_t *at, const char *p, size_t n, struct buf *name)
{
    buf_clear(name);
    for (size_t i = 0; i < n; i++)
        if (p[i] == '~' && i + 1 < n && (p[i + 1] == '0' || p[i + 1] == '1'))
            buf_putc(name, p[++i] == '0' ? '~' : '/');
        else
            buf_putc(name, p[i]);
    buf_putc(name, '\0');
    if (name->failed)
        return NULL;
    if (json_is_object(at))
        return json_object_get(at, name->p);
    size_t index = 0;
    for (size_t i = 0; i < n; i++)
        index = p[i] >= '0' && p[i] <= '9' && index < 1000000 ? index * 10 + (size_t)(p[i] - '0') : 1000000;
    return n ? json_array_get(at, index) : NULL;
}

static const json_t *follow(struct schema *c, struct str pointer, uint32_t *of)
{
    const json_t *at = c->resource[*of].root;
    struct buf name;
    buf_init(&name, GRAM_MAX_SOURCE);
    for (size_t i = 0; at && i < pointer.n;) {
        size_t n = 0;
        for (i++; i + n < pointer.n && pointer.p[i + n] != '/';)
            n++;
        at = pointer_step(at, pointer.p + i, n, &name);
        if (at)
            *of = schema_resource(c, at, *of);
        i += n;
    }
    buf_finish(&name);
    return at;
}

static const json_t *target(struct schema *c, struct str front, struct str fragment, uint32_t *of)
{
    struct str uri = c->resource[*of].uri;
    if (front.n) {
        if (!resolve_uri(c, uri, front, &uri))
            return NULL;
        size_t i = 0;
        while (i < c->n_resources && !str_eq(c->resource[i].uri, uri))
            i++;
        if (i == c->n_resources)
            return NULL;
        *of = (uint32_t)i;
    }
    if (!fragment.n || fragment.p[0] == '/')
        return follow(c, fragment, of);
    for (size_t i = 0; i < c->n_anchors; i++)
        if (c->anchor[i].of == *of && str_eq(c->anchor[i].name, fragment))
            return c->anchor[i].at;
    return NULL;
}

bool schema_resolve(struct schema *c, const json_t *s, const char *keyword, uint32_t of, struct term *out)
{
    const char *ref = json_string_value(json_object_get(s, keyword));
    struct str fragment, front;
    struct buf plain;
    if (!ref)
        return schema_refuse(c, ERR_INVALID, s, keyword, "must be a string");
    front = cut_fragment(ref, &fragment);
    buf_init(&plain, GRAM_MAX_SOURCE);
    const json_t *at = unescape(&fragment, &plain) ? target(c, front, buf_str(&plain), &of) : NULL;
    buf_finish(&plain);
    *out = (struct term){ TERM_SCHEMA, of, at };
    if (json_is_boolean(at))
        out->of = 0;
    return at || c->failed ? !c->failed
                           : schema_refuse(c, ERR_UNSUPPORTED, s, keyword, "\"%.100s\" is not in the schema", ref);
}
