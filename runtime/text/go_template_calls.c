#include <string.h>
#include <time.h>

#include "runtime/text/go_template_priv.h"

/* ---- index, slice, len ---- */

/* A number from 0 to limit. */
static bool index_of(struct go_render *r, const struct go_value *v, size_t limit, size_t *out)
{
    if (v->kind != GO_INT && v->kind != GO_UINT8)
        return go_fail(r, ERR_INVALID, "cannot index slice/array with type %s", go_type_name(v));
    if (v->u.i < 0 || (uint64_t)v->u.i > limit)
        return go_fail(r, ERR_INVALID, "index out of range: %lld", (long long)v->u.i);
    *out = (size_t)v->u.i;
    return true;
}

static bool index_map(struct go_render *r, const struct go_value *m, const struct go_value *key,
                      struct go_value *out)
{
    const struct go_value *found;
    if (key->kind != GO_STRING)
        return go_fail(r, ERR_INVALID, "error calling index: key has type %s; should be string",
                       go_type_name(key));
    *out = go_map_get(&m->u.map, key->u.s, &found) ? *found : go_zero(m->type->of);
    return true;
}

static bool index_one(struct go_render *r, const struct go_value *v, const struct go_value *key,
                      struct go_value *out)
{
    size_t i = 0, n = v->kind == GO_STRING ? v->u.s.n : v->u.list.n;
    if (v->kind == GO_MAP)
        return index_map(r, v, key, out);
    if (v->kind != GO_LIST && v->kind != GO_STRING)
        return go_fail(r, ERR_INVALID, "can't index item of type %s", go_type_name(v));
    if (!index_of(r, key, n, &i))
        return false;
    if (i == n)
        return go_fail(r, ERR_INVALID, "index out of range: %zu", i);
    if (v->kind == GO_LIST)
        *out = v->u.list.v[i];
    else
        *out = (struct go_value){ .kind = GO_UINT8, .type = &go_uint8,
                                  .u.i = (unsigned char)v->u.s.p[i] };
    return true;
}

static bool call_index(struct go_render *r, const struct go_value *a, size_t n,
                       struct go_value *out)
{
    struct go_value v = a[0];
    if (v.kind == GO_INVALID || v.kind == GO_NIL)
        return go_fail(r, ERR_INVALID, "error calling index: index of untyped nil");
    for (size_t i = 1; i < n; i++) {
        struct go_value from = v;
        if (!index_one(r, &from, &a[i], &v))
            return false;
    }
    *out = v;
    return true;
}

static bool call_slice(struct go_render *r, const struct go_value *a, size_t n,
                       struct go_value *out)
{
    struct go_value v = a[0];
    bool string = v.kind == GO_STRING;
    if (v.kind != GO_LIST && !string)
        return go_fail(r, ERR_INVALID, "can't slice item of type %s", go_type_name(&v));
    if (n == 4 && string)
        return go_fail(r, ERR_INVALID, "cannot 3-index slice a string");
    size_t len = string ? v.u.s.n : v.u.list.n, at[3] = { 0, len, len };
    for (size_t i = 1; i < n; i++)
        if (!index_of(r, &a[i], len, &at[i - 1]))
            return false;
    if (at[0] > at[1] || at[1] > at[2])
        return go_fail(r, ERR_INVALID, "invalid slice index: %zu > %zu",
                       at[0] > at[1] ? at[0] : at[1], at[0] > at[1] ? at[1] : at[2]);
    if (string)
        return go_piece(r, &v, at[0], at[1] - at[0], out);
    *out = v;
    out->u.list.v = v.u.list.v ? v.u.list.v + at[0] : NULL;
    out->u.list.n = at[1] - at[0];
    return true;
}

/* Bytes of what base64 text holds. */
static size_t decoded(struct str s)
{
    while (s.n && s.p[s.n - 1] == '=')
        s.n--;
    return s.n / 4 * 3 + s.n % 4 * 3 / 4;
}

static bool call_len(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    size_t len;
    (void)n;
    switch (a->kind) {
    case GO_STRING:
        len = a->u.s.n;
        break;
    case GO_BYTES:
        len = decoded(a->u.s);
        break;
    case GO_LIST:
        len = a->u.list.n;
        break;
    case GO_MAP:
        len = a->u.map.n;
        break;
    default:
        return go_fail(r, ERR_INVALID, "len of type %s", go_type_name(a));
    }
    *out = go_of_int((int64_t)len);
    return true;
}

/* ---- comparison ---- */

/* Kinds that eq and lt know; any other is GO_INVALID. Integers are one kind. */
static enum go_kind basic(const struct go_value *v)
{
    enum go_kind k = v->kind == GO_UINT8 ? GO_INT : (enum go_kind)v->kind;
    return k >= GO_BOOL && k <= GO_STRING ? k : GO_INVALID;
}

static bool is_nil(const struct go_value *v)
{
    return v->kind == GO_INVALID || v->kind == GO_NIL ||
           ((v->kind == GO_LIST || v->kind == GO_MAP || v->kind == GO_POINTER) && v->nil);
}

static bool equal_basic(const struct go_value *a, const struct go_value *b)
{
    switch (basic(a)) {
    case GO_BOOL:
        return a->u.b == b->u.b;
    case GO_INT:
        return a->u.i == b->u.i;
    case GO_FLOAT:
        return a->u.f == b->u.f;
    default:
        return str_eq(a->u.s, b->u.s);
    }
}

static bool nothing(const struct go_value *v)
{
    return v->kind == GO_INVALID || v->kind == GO_NIL;
}

static bool equal(struct go_render *r, const struct go_value *a, const struct go_value *b,
                  bool *out)
{
    *out = false;
    if (basic(a) != basic(b))
        return nothing(a) || nothing(b) ||
               go_fail(r, ERR_INVALID, "incompatible types for comparison: %s and %s",
                       go_type_name(a), go_type_name(b));
    if (basic(a)) {
        if (a->kind == GO_STRING && !go_spend(r, a->u.s.n < b->u.s.n ? a->u.s.n : b->u.s.n))
            return false;
        *out = equal_basic(a, b);
        return true;
    }
    bool same_kind = a->kind == b->kind || nothing(a) || nothing(b);
    if (same_kind && (is_nil(a) || is_nil(b))) {
        *out = is_nil(a) == is_nil(b);
        return true;
    }
    if (!same_kind || a->kind != GO_POINTER)
        return go_fail(r, ERR_INVALID, "non-comparable types %s and %s", go_type_name(a),
                       go_type_name(b));
    *out = a->type == b->type && a->u.fields == b->u.fields;
    return true;
}

static bool call_eq(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    bool same = false;
    if (n < 2)
        return go_fail(r, ERR_INVALID, "error calling eq: missing argument for comparison");
    for (size_t i = 1; i < n && !same; i++)
        if (!equal(r, &a[0], &a[i], &same))
            return false;
    *out = go_of_bool(same);
    return true;
}

static bool call_ne(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    bool same;
    (void)n;
    if (!equal(r, &a[0], &a[1], &same))
        return false;
    *out = go_of_bool(!same);
    return true;
}

static int compare_str(struct str a, struct str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static bool less(struct go_render *r, const struct go_value *a, const struct go_value *b, bool *out)
{
    enum go_kind k = basic(a);
    if (k != basic(b))
        return go_fail(r, ERR_INVALID, "incompatible types for comparison: %s and %s",
                       go_type_name(a), go_type_name(b));
    if (k != GO_INT && k != GO_FLOAT && k != GO_STRING)
        return go_fail(r, ERR_INVALID, "invalid type for comparison: %s", go_type_name(a));
    *out = k == GO_INT     ? a->u.i < b->u.i
           : k == GO_FLOAT ? a->u.f < b->u.f
                           : compare_str(a->u.s, b->u.s) < 0;
    return true;
}

static bool call_lt(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    bool yes;
    (void)n;
    if (!less(r, &a[0], &a[1], &yes))
        return false;
    *out = go_of_bool(yes);
    return true;
}

static bool call_le(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    bool yes;
    (void)n;
    if (!less(r, &a[0], &a[1], &yes))
        return false;
    *out = go_of_bool(yes || equal_basic(&a[0], &a[1]));
    return true;
}

static bool opposite(bool ok, struct go_value *v)
{
    v->u.b = !v->u.b;
    return ok;
}

static bool call_gt(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    return call_le(r, a, n, out) && opposite(true, out);
}

static bool call_ge(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    return call_lt(r, a, n, out) && opposite(true, out);
}

static bool call_not(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    (void)r, (void)n;
    *out = go_of_bool(!go_true(a));
    return true;
}

/* ---- text ---- */

static bool call_print(struct go_render *r, const struct go_value *a, size_t n,
                       struct go_value *out)
{
    struct go_text t = go_text_new(r);
    return go_sprint(&t, a, n, false) && go_text_take(&t, out);
}

static bool call_println(struct go_render *r, const struct go_value *a, size_t n,
                         struct go_value *out)
{
    struct go_text t = go_text_new(r);
    return go_sprint(&t, a, n, true) && go_text_take(&t, out);
}

static bool call_printf(struct go_render *r, const struct go_value *a, size_t n,
                        struct go_value *out)
{
    struct go_text t = go_text_new(r);
    return go_sprintf(&t, a, n) && go_text_take(&t, out);
}

static bool call_json(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    struct go_text t = go_text_new(r);
    (void)n;
    return go_json(&t, a) && go_text_take(&t, out);
}

/* The arguments as an action prints them; no value is <no value>. */
static bool printed(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    struct go_value *v = go_alloc(r, n, sizeof *v);
    struct go_text t = go_text_new(r);
    if (!v)
        return false;
    for (size_t i = 0; i < n; i++) {
        v[i] = a[i];
        if (nothing(&a[i]))
            v[i] = go_of_str(STR("<no value>"), NULL);
        if (a[i].kind == GO_POINTER && !a[i].nil && a[i].type->of->kind == GO_STRUCT) {
            v[i].kind = GO_STRUCT;
            v[i].type = a[i].type->of;
        }
    }
    return go_sprint(&t, v, n, false) && go_text_take(&t, out);
}

/* Puts what stands for the character at s.p[i]; *n: its bytes. */
typedef bool escape_fn(struct go_text *t, struct str s, size_t i, size_t *n);

static bool escaped(struct go_render *r, const struct go_value *a, size_t n, escape_fn *escape,
                    struct go_value *out)
{
    struct go_value v;
    struct go_text t = go_text_new(r);
    if (!printed(r, a, n, &v) || !go_spend(r, v.u.s.n))
        return false;
    for (size_t i = 0, step; i < v.u.s.n; i += step)
        if (!escape(&t, v.u.s, i, &step))
            return false;
    if (!go_text_take(&t, out))
        return false;
    out->content = v.content ? GO_ALL : NULL;
    return true;
}

static bool escape_html(struct go_text *t, struct str s, size_t i, size_t *n)
{
    char c = s.p[i];
    *n = 1;
    switch (c) {
    case '\0':
        return go_puts(t, "\xEF\xBF\xBD");
    case '"':
        return go_puts(t, "&#34;");
    case '\'':
        return go_puts(t, "&#39;");
    case '&':
        return go_puts(t, "&amp;");
    case '<':
        return go_puts(t, "&lt;");
    case '>':
        return go_puts(t, "&gt;");
    default:
        return go_put(t, &c, 1);
    }
}

static bool put_hex(struct go_text *t, const char *fmt, uint32_t c)
{
    char text[16];
    snprintf(text, sizeof text, fmt[0] == '%' ? "%%%02X" : "\\u%04X", (unsigned)c);
    return go_puts(t, text);
}

static bool escape_js(struct go_text *t, struct str s, size_t i, size_t *n)
{
    uint32_t cp;
    char pair[2] = { '\\', s.p[i] };
    *n = utf8_step(s.p + i, s.n - i, &cp);
    if (!*n) {
        *n = 1;
        cp = 0xFFFD;
    } else if (cp < 0x80 ? cp >= ' ' && !strchr("\\'\"<>&=", (int)cp) : go_is_print(cp)) {
        return go_put(t, s.p + i, *n);
    }
    if (cp == '\\' || cp == '\'' || cp == '"')
        return go_put(t, pair, 2);
    if (cp == 0xFFFD)
        return *n == 1 ? go_put(t, s.p + i, 1) : go_put(t, s.p + i, *n);
    return put_hex(t, "u", cp);
}

static bool escape_url(struct go_text *t, struct str s, size_t i, size_t *n)
{
    char c = s.p[i];
    *n = 1;
    if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
        (c && strchr("-_.~", c)))
        return go_put(t, &c, 1);
    return c == ' ' ? go_puts(t, "+") : put_hex(t, "%", (unsigned char)c);
}

static bool call_html(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    return escaped(r, a, n, escape_html, out);
}

static bool call_js(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    return escaped(r, a, n, escape_js, out);
}

static bool call_urlquery(struct go_render *r, const struct go_value *a, size_t n,
                          struct go_value *out)
{
    return escaped(r, a, n, escape_url, out);
}

/* ---- Ollama's own ---- */

static bool date(struct go_render *r, int days, struct go_value *out)
{
    time_t now = (time_t)r->now;
    struct tm tm;
    char text[32];
    struct go_text t = go_text_new(r);
    if (!localtime_r(&now, &tm))
        return go_fail(r, ERR_INVALID, "the time cannot be told");
    tm.tm_mday += days;
    tm.tm_hour = 12; /* no change of the clocks moves it to another day */
    tm.tm_isdst = -1;
    mktime(&tm);
    size_t n = strftime(text, sizeof text, "%Y-%m-%d", &tm);
    return go_put(&t, text, n) && go_text_take(&t, out);
}

static bool call_today(struct go_render *r, const struct go_value *a, size_t n,
                       struct go_value *out)
{
    (void)a, (void)n;
    return date(r, 0, out);
}

static bool call_yesterday(struct go_render *r, const struct go_value *a, size_t n,
                           struct go_value *out)
{
    (void)a, (void)n;
    return date(r, -1, out);
}

static const char *typescript(struct str type)
{
    static const char *const rows[][2] = {
        { "string", "string" },   { "number", "number" },
        { "integer", "number" },  { "boolean", "boolean" },
        { "array", "any[]" },     { "object", "Record<string, any>" },
        { "null", "null" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_is(type, rows[i][0]))
            return rows[i][1];
    return "any";
}

/* v: a property. Its alternatives, else its types, joined by |. */
static bool put_typescript(struct go_text *t, const struct go_value *v, int depth)
{
    enum { ANY_OF, TYPE }; /* the first fields of go_property */
    const struct go_list *of = &v->u.fields[ANY_OF].u.list;
    const struct go_list *types = &v->u.fields[TYPE].u.list;
    if (depth > GO_MAX_WALK)
        return go_fail(t->r, ERR_TOO_LARGE, "a property is nested too deeply");
    for (size_t i = 0; i < of->n; i++)
        if ((i && !go_puts(t, " | ")) || !put_typescript(t, &of->v[i], depth + 1))
            return false;
    if (of->n)
        return true;
    for (size_t i = 0; i < types->n; i++)
        if ((i && !go_puts(t, " | ")) || !go_puts(t, typescript(types->v[i].u.s)))
            return false;
    return types->n || go_puts(t, "any");
}

static bool call_typescript(struct go_render *r, const struct go_value *a, size_t n,
                            struct go_value *out)
{
    struct go_text t = go_text_new(r);
    (void)n;
    if (a->kind != GO_STRUCT || a->type != &go_property)
        return go_puts(&t, "any") && go_text_take(&t, out);
    return put_typescript(&t, a, 0) && go_text_take(&t, out);
}

/* There is nothing in a template's data that could be called. */
static bool call_call(struct go_render *r, const struct go_value *a, size_t n, struct go_value *out)
{
    (void)n, (void)out;
    return go_fail(r, ERR_INVALID, "call of a value of type %s, which is no function",
                   go_type_name(a));
}

#define ANY UINT8_MAX
const struct go_call *go_find_call(struct str name)
{
    static const struct go_call rows[] = {
        { "and", NULL, 1, ANY, 0, GO_AND },
        { "or", NULL, 1, ANY, 0, GO_OR },
        { "not", call_not, 1, 1, 0, GO_EAGER },
        { "eq", call_eq, 1, ANY, 0, GO_EAGER },
        { "ne", call_ne, 2, 2, 0, GO_EAGER },
        { "lt", call_lt, 2, 2, 0, GO_EAGER },
        { "le", call_le, 2, 2, 0, GO_EAGER },
        { "gt", call_gt, 2, 2, 0, GO_EAGER },
        { "ge", call_ge, 2, 2, 0, GO_EAGER },
        { "len", call_len, 1, 1, 0, GO_EAGER },
        { "index", call_index, 1, ANY, 0, GO_EAGER },
        { "slice", call_slice, 1, 4, 0, GO_EAGER },
        { "print", call_print, 0, ANY, 0, GO_EAGER },
        { "println", call_println, 0, ANY, 0, GO_EAGER },
        { "printf", call_printf, 1, ANY, 1, GO_EAGER },
        { "html", call_html, 0, ANY, 0, GO_EAGER },
        { "js", call_js, 0, ANY, 0, GO_EAGER },
        { "urlquery", call_urlquery, 0, ANY, 0, GO_EAGER },
        { "call", call_call, 1, ANY, 0, GO_EAGER },
        { "json", call_json, 1, 1, 0, GO_EAGER },
        { "currentDate", call_today, 0, ANY, 2, GO_EAGER },
        { "yesterdayDate", call_yesterday, 0, ANY, 2, GO_EAGER },
        { "toTypeScriptType", call_typescript, 1, 1, 0, GO_EAGER },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (str_is(name, rows[i].name))
            return &rows[i];
    return NULL;
}

/* ---- methods ---- */

static bool method_string(struct go_render *r, const struct go_value *a, size_t n,
                          struct go_value *out)
{
    (void)n;
    return go_string_of(r, a, out);
}

static bool method_len(struct go_render *r, const struct go_value *a, size_t n,
                       struct go_value *out)
{
    (void)r, (void)n;
    *out = go_of_int((int64_t)a->u.map.n);
    return true;
}

/* Properties in their order -> a map that can be walked. */
static bool method_to_map(struct go_render *r, const struct go_value *a, size_t n,
                          struct go_value *out)
{
    (void)n;
    *out = *a;
    out->kind = GO_MAP;
    out->type = &go_plain_properties;
    return a->nil || go_sort_map(r, &out->u.map);
}

const struct go_call *go_find_method(const struct go_value *v, struct str name)
{
    static const struct go_call string = { "String", method_string, 1, 1, 0, GO_EAGER };
    static const struct go_call typescript_type = { "ToTypeScriptType", call_typescript, 1, 1, 0,
                                                    GO_EAGER };
    static const struct go_call len = { "Len", method_len, 1, 1, 0, GO_EAGER };
    static const struct go_call to_map = { "ToMap", method_to_map, 1, 1, 0, GO_EAGER };
    const struct go_type *t = go_type_of(v);
    if (t && t->string && str_is(name, string.name))
        return &string;
    if (t == &go_property && str_is(name, typescript_type.name))
        return &typescript_type;
    if (t == &go_ordered_properties)
        return str_is(name, len.name) ? &len : str_is(name, to_map.name) ? &to_map : NULL;
    return NULL;
}
