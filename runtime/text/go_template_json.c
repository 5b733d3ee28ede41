#include <math.h>
#include <stdio.h>
#include <string.h>

#include "runtime/text/go_template_priv.h"

/* As Go's encoding/json writes: keys of maps ascending, <, > and & escaped. */

static bool put_char(struct go_text *t, uint32_t cp)
{
    static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
    const char *known = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    char text[8];
    if (known)
        snprintf(text, sizeof text, "\\%c", to[known - from]);
    else
        snprintf(text, sizeof text, "\\u%04x", (unsigned)cp);
    return go_puts(t, text);
}

static bool put_string(struct go_text *t, struct str s)
{
    size_t begin = 0;
    if (!go_puts(t, "\""))
        return false;
    for (size_t i = 0; i < s.n;) {
        uint32_t cp = 0;
        size_t step = utf8_step(s.p + i, s.n - i, &cp);
        bool escape = !step || cp < ' ' || cp == 0x2028 || cp == 0x2029 ||
                      (cp < 0x80 && strchr("\"\\<>&", (int)cp));
        if (escape && (!go_put(t, s.p + begin, i - begin) ||
                       !(step ? put_char(t, cp) : go_puts(t, "\\ufffd"))))
            return false;
        i += step ? step : 1;
        if (escape)
            begin = i;
    }
    return go_put(t, s.p + begin, s.n - begin) && go_puts(t, "\"");
}

/* The fewest digits; an exponent below 1e-6 and from 1e21 on. */
static bool put_float(struct go_text *t, double f)
{
    char d[24], text[64];
    int point;
    if (f == 0)
        return go_puts(t, signbit(f) ? "-0" : "0");
    int n = (int)go_float_digits(f, d, &point);
    const char *sign = f < 0 ? "-" : "";
    if (fabs(f) < 1e-6 || fabs(f) >= 1e21)
        snprintf(text, sizeof text, "%s%c%s%.*se%+d", sign, d[0], n > 1 ? "." : "", n - 1, d + 1,
                 point - 1);
    else if (point <= 0)
        snprintf(text, sizeof text, "%s0.%.*s%.*s", sign, -point, "000000", n, d);
    else if (point >= n)
        snprintf(text, sizeof text, "%s%.*s%.*s", sign, n, d, point - n, "000000000000000000000");
    else
        snprintf(text, sizeof text, "%s%.*s.%.*s", sign, point, d, n - point, d + point);
    return go_puts(t, text);
}

static bool put_value(struct go_text *t, const struct go_value *v, int depth);

static bool put_map(struct go_text *t, const struct go_map *m, int depth)
{
    if (!go_puts(t, "{"))
        return false;
    for (size_t i = 0; i < m->n; i++)
        if ((i && !go_puts(t, ",")) || !put_string(t, m->e[i].key) || !go_puts(t, ":") ||
            !put_value(t, &m->e[i].v, depth + 1))
            return false;
    return go_puts(t, "}");
}

static bool put_list(struct go_text *t, const struct go_list *l, int depth)
{
    if (!go_puts(t, "["))
        return false;
    for (size_t i = 0; i < l->n; i++)
        if ((i && !go_puts(t, ",")) || !put_value(t, &l->v[i], depth + 1))
            return false;
    return go_puts(t, "]");
}

static bool is_empty(const struct go_value *v)
{
    return v->kind != GO_STRUCT && !go_true(v);
}

static bool put_struct(struct go_text *t, const struct go_type *type, const struct go_value *v,
                       int depth)
{
    bool comma = false;
    if (!go_puts(t, "{"))
        return false;
    for (size_t i = 0; i < type->n; i++) {
        if (type->fields[i].omit_empty && is_empty(&v[i]) && type->fields[i].type->kind != GO_NIL)
            continue;
        if (type->fields[i].omit_empty && v[i].kind == GO_NIL)
            continue;
        if ((comma && !go_puts(t, ",")) || !put_string(t, str_from(type->fields[i].out)) ||
            !go_puts(t, ":") || !put_value(t, &v[i], depth + 1))
            return false;
        comma = true;
    }
    return go_puts(t, "}");
}

static bool put_bytes(struct go_text *t, struct str base64)
{
    return go_puts(t, "\"") && go_put(t, base64.p, base64.n) && go_puts(t, "\"");
}

static bool put_value(struct go_text *t, const struct go_value *v, int depth)
{
    char text[32];
    if (depth > GO_MAX_WALK)
        return go_fail(t->r, ERR_TOO_LARGE, "a value is nested too deeply for JSON");
    switch (v->kind) {
    case GO_BOOL:
        return go_puts(t, v->u.b ? "true" : "false");
    case GO_INT:
    case GO_UINT8:
        snprintf(text, sizeof text, "%lld", (long long)v->u.i);
        return go_puts(t, text);
    case GO_FLOAT:
        return put_float(t, v->u.f);
    case GO_STRING:
        return put_string(t, v->u.s);
    case GO_LIST:
        if (v->type->string == GO_STRING_TYPE && v->u.list.n == 1)
            return put_value(t, v->u.list.v, depth + 1);
        return v->nil ? go_puts(t, "null") : put_list(t, &v->u.list, depth);
    case GO_MAP:
        return v->nil ? go_puts(t, "null") : put_map(t, &v->u.map, depth);
    case GO_POINTER:
        if (v->nil)
            return go_puts(t, "null");
        if (v->type->of->kind == GO_MAP)
            return put_map(t, &v->u.map, depth);
        return put_struct(t, v->type->of, v->u.fields, depth);
    case GO_STRUCT:
        return put_struct(t, v->type, v->u.fields, depth);
    case GO_BYTES:
        return put_bytes(t, v->u.s);
    default:
        return go_puts(t, "null");
    }
}

/* Finite all the way down? Infinities have no JSON, and then there is no text at all. */
static bool has_json(const struct go_value *v, int depth)
{
    bool list = v->kind == GO_LIST;
    if (v->kind == GO_FLOAT)
        return isfinite(v->u.f);
    for (size_t i = 0; depth <= GO_MAX_WALK && list && i < v->u.list.n; i++)
        if (!has_json(&v->u.list.v[i], depth + 1))
            return false;
    for (size_t i = 0; depth <= GO_MAX_WALK && v->kind == GO_MAP && i < v->u.map.n; i++)
        if (!has_json(&v->u.map.e[i].v, depth + 1))
            return false;
    return true;
}

bool go_json(struct go_text *t, const struct go_value *v)
{
    struct go_text j = go_text_new(t->r);
    bool own = v->kind == GO_BOOL || v->kind == GO_INT || v->kind == GO_INVALID ||
               v->kind == GO_NIL || (v->kind == GO_STRING && !v->content);
    if (!has_json(v, 0))
        return true;
    if (!put_value(&j, v, 0))
        return false;
    return own ? go_put(t, j.p, j.n) : go_put_outside(t, j.p, j.n);
}
