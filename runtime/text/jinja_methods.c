/* Methods of strings, dicts and the other types: value.NAME(...). A row without a handler is a
 * method that exists (it is defined, and true) but that a template cannot call. */
#include <math.h>
#include <string.h>

#include "runtime/text/jinja.h"

#define METHOD(name) \
    static bool name(struct render *r, const struct value *a, const struct args *args, \
                     struct value *out)

/* ---- strip ---- */

static bool strip(struct render *r, const struct value *a, bool left, bool right,
                  struct value *out)
{
    struct str chars = { 0 };
    if (value_given(&a[1]) && a[1].type != V_NONE && !jinja_str_arg(r, &a[1], &chars))
        return false;
    *out = value_part(&a[0], jinja_strip_chars(a[0].u.s, chars, left, right));
    return jinja_spend_bytes(r, a[0].u.s.n);
}

METHOD(str_strip)
{
    (void)args;
    return strip(r, a, true, true, out);
}

METHOD(str_lstrip)
{
    (void)args;
    return strip(r, a, true, false, out);
}

METHOD(str_rstrip)
{
    (void)args;
    return strip(r, a, false, true, out);
}

METHOD(str_removeprefix)
{
    struct str s = a[0].u.s, p;
    (void)args;
    if (!jinja_str_arg(r, &a[1], &p))
        return false;
    if (str_starts(s, p)) {
        s.p += p.n;
        s.n -= p.n;
    }
    *out = value_part(&a[0], s);
    out->markup = false;
    return true;
}

METHOD(str_removesuffix)
{
    struct str s = a[0].u.s, p;
    (void)args;
    if (!jinja_str_arg(r, &a[1], &p))
        return false;
    if (str_ends(s, p))
        s.n -= p.n;
    *out = value_part(&a[0], s);
    out->markup = false;
    return true;
}

/* ---- split ---- */

static bool piece(struct gather *g, const struct value *self, const char *p, size_t n)
{
    struct value v = value_part(self, (struct str){ p, n });
    return jinja_spend(g->r, 1) && jinja_gather(g, &v);
}

static bool split_space(struct gather *g, const struct value *self, int64_t most)
{
    struct str s = jinja_strip(self->u.s, true, false);
    while (s.n) {
        size_t end = 0;
        uint32_t cp;
        if (most-- == 0)
            return piece(g, self, s.p, s.n);
        while (end < s.n) {
            size_t n = jinja_utf8(s, end, &cp);
            if (jinja_is_space(cp))
                break;
            end += n;
        }
        if (!piece(g, self, s.p, end))
            return false;
        s = jinja_strip((struct str){ s.p + end, s.n - end }, true, false);
    }
    return true;
}

static bool split_at(struct gather *g, const struct value *self, struct str sep, int64_t most)
{
    struct str s = self->u.s;
    size_t start = 0, at;
    while (most-- != 0 && (at = jinja_find_str(s, sep, start)) != SIZE_MAX) {
        if (!piece(g, self, s.p + start, at - start))
            return false;
        start = at + sep.n;
    }
    return piece(g, self, s.p + start, s.n - start);
}

static void turn_round(struct gather *g)
{
    for (size_t i = 0; i < g->n / 2; i++) {
        struct value v = g->v[i];
        g->v[i] = g->v[g->n - 1 - i];
        g->v[g->n - 1 - i] = v;
    }
}

static bool rsplit_space(struct gather *g, const struct value *self, int64_t most)
{
    struct str s = jinja_strip(self->u.s, false, true);
    while (s.n) {
        if (most-- == 0) {
            if (!piece(g, self, s.p, s.n))
                return false;
            break;
        }
        size_t start = s.n;
        uint32_t cp;
        while (start > 0) {
            size_t back = start;
            do
                back--;
            while (back > 0 && ((unsigned char)s.p[back] & 0xC0) == 0x80);
            jinja_utf8(s, back, &cp);
            if (jinja_is_space(cp))
                break;
            start = back;
        }
        if (!piece(g, self, s.p + start, s.n - start))
            return false;
        s = jinja_strip((struct str){ s.p, start }, false, true);
    }
    turn_round(g);
    return true;
}

static bool rsplit_at(struct gather *g, const struct value *self, struct str sep, int64_t most)
{
    struct str s = self->u.s;
    size_t end = s.n, at;
    while (most-- != 0 && (at = jinja_rfind_str(s, sep, end)) != SIZE_MAX) {
        if (!piece(g, self, s.p + at + sep.n, end - at - sep.n))
            return false;
        end = at;
    }
    if (!piece(g, self, s.p, end))
        return false;
    turn_round(g);
    return true;
}

static bool split(struct render *r, const struct value *a, bool from_right, struct value *out)
{
    struct gather g = { .r = r };
    struct str sep = { 0 };
    int64_t most;
    bool space = !value_given(&a[1]) || a[1].type == V_NONE;
    if ((!space && !jinja_str_arg(r, &a[1], &sep)) || !jinja_int_arg(r, &a[2], -1, &most) ||
        !jinja_spend_bytes(r, a[0].u.s.n))
        return false;
    if (!space && sep.n == 0)
        return jinja_fail(r, "empty separator");
    most = most < 0 ? -1 : most;
    bool ok = space ? (from_right ? rsplit_space : split_space)(&g, &a[0], most)
                    : (from_right ? rsplit_at : split_at)(&g, &a[0], sep, most);
    return ok && jinja_list(r, (struct list){ g.v, g.n }, V_LIST, out);
}

METHOD(str_split)
{
    (void)args;
    return split(r, a, false, out);
}

METHOD(str_rsplit)
{
    (void)args;
    return split(r, a, true, out);
}

METHOD(str_splitlines)
{
    struct gather g = { .r = r };
    struct str s = a[0].u.s;
    bool keep = false;
    (void)args;
    if (value_given(&a[1]) && !jinja_truth(r, &a[1], &keep))
        return false;
    for (size_t at = 0; at < s.n;) {
        size_t end = at, newline = 0;
        while (end < s.n && !(newline = jinja_newline_at(s, end)))
            end++;
        if (!piece(&g, &a[0], s.p + at, end - at + (keep ? newline : 0)))
            return false;
        at = end + newline;
    }
    return jinja_spend_bytes(r, s.n) && jinja_list(r, (struct list){ g.v, g.n }, V_LIST, out);
}

static bool partition(struct render *r, const struct value *a, bool last, struct value *out)
{
    struct str s = a[0].u.s, sep;
    struct list l = { jinja_alloc(r, 3, sizeof *l.v), 3 };
    if (!l.v || !jinja_str_arg(r, &a[1], &sep) || !jinja_spend_bytes(r, s.n))
        return false;
    if (sep.n == 0)
        return jinja_fail(r, "empty separator");
    size_t at = last ? jinja_rfind_str(s, sep, s.n) : jinja_find_str(s, sep, 0);
    if (at == SIZE_MAX) {
        at = last ? 0 : s.n;
        sep.n = 0;
    }
    l.v[0] = value_part(&a[0], (struct str){ s.p, at });
    l.v[1] = value_part(&a[0], (struct str){ s.p + at, sep.n });
    l.v[2] = value_part(&a[0], (struct str){ s.p + at + sep.n, s.n - at - sep.n });
    return jinja_list(r, l, V_TUPLE, out);
}

METHOD(str_partition)
{
    (void)args;
    return partition(r, a, false, out);
}

METHOD(str_rpartition)
{
    (void)args;
    return partition(r, a, true, out);
}

METHOD(str_join)
{
    struct text t = { .r = r };
    struct iter *it = jinja_iter(r, &a[1]);
    struct value item;
    enum iter_step step = ITER_FAIL;
    size_t n = 0;
    (void)args;
    while (it && (step = jinja_next(r, it, &item)) == ITER_ITEM) {
        if (a[0].markup ? !jinja_escape(r, &item, &item) : item.type != V_STR)
            return jinja_fail(r, "sequence item %zu: expected str instance, %s found", n,
                              jinja_type_name((enum value_type)item.type));
        if (n++)
            text_all(&t, &a[0]);
        text_all(&t, &item);
    }
    if (step != ITER_END || !text_take(&t, out))
        return false;
    out->markup = a[0].markup;
    return true;
}

/* ---- find ---- */

/* The part of s between the code point indices of a[at], a[at + 1]; *from: its byte offset.
 * False in *inside when start lies beyond the end. */
static bool window(struct render *r, const struct value *a, int at, struct str *out, size_t *from,
                   bool *inside)
{
    struct str s = a[0].u.s;
    *out = s;
    *from = 0;
    *inside = true;
    bool any = false;
    for (int i = at; i < at + 2; i++)
        any = any || (value_given(&a[i]) && a[i].type != V_NONE);
    if (!any)
        return true;
    int64_t n = (int64_t)jinja_cp_count(s), b[2] = { 0, n };
    for (int i = 0; i < 2; i++) {
        if (value_given(&a[at + i]) && a[at + i].type != V_NONE &&
            !jinja_int_arg(r, &a[at + i], 0, &b[i]))
            return false;
        if (b[i] < 0)
            b[i] = b[i] + n < 0 ? 0 : b[i] + n;
    }
    b[1] = b[1] > n ? n : b[1];
    *inside = b[0] <= b[1];
    if (!*inside)
        return true;
    *from = jinja_cp_offset(s, (size_t)b[0]);
    *out = (struct str){ s.p + *from, jinja_cp_offset(s, (size_t)b[1]) - *from };
    return true;
}

static bool find(struct render *r, const struct value *a, bool last, bool must,
                 struct value *out)
{
    struct str s, needle;
    size_t from, at = SIZE_MAX;
    bool inside;
    if (!jinja_str_arg(r, &a[1], &needle) || !window(r, a, 2, &s, &from, &inside) ||
        !jinja_spend_bytes(r, s.n))
        return false;
    if (inside)
        at = last ? jinja_rfind_str(s, needle, s.n) : jinja_find_str(s, needle, 0);
    if (at == SIZE_MAX && must)
        return jinja_fail(r, "substring not found");
    *out = value_int(at == SIZE_MAX
                         ? -1
                         : (int64_t)jinja_cp_count((struct str){ a[0].u.s.p, from + at }));
    return true;
}

METHOD(str_find)
{
    (void)args;
    return find(r, a, false, false, out);
}

METHOD(str_rfind)
{
    (void)args;
    return find(r, a, true, false, out);
}

METHOD(str_index)
{
    (void)args;
    return find(r, a, false, true, out);
}

METHOD(str_rindex)
{
    (void)args;
    return find(r, a, true, true, out);
}

METHOD(str_count)
{
    struct str s, needle;
    size_t from, at = 0;
    bool inside;
    int64_t n = 0;
    (void)args;
    if (!jinja_str_arg(r, &a[1], &needle) || !window(r, a, 2, &s, &from, &inside) ||
        !jinja_spend_bytes(r, s.n))
        return false;
    if (needle.n == 0)
        n = inside ? (int64_t)jinja_cp_count(s) + 1 : 0;
    else
        while (inside && (at = jinja_find_str(s, needle, at)) != SIZE_MAX) {
            n++;
            at += needle.n;
        }
    *out = value_int(n);
    return true;
}

static bool affix(struct render *r, const struct value *a, bool end, struct value *out)
{
    struct str s, part;
    size_t from;
    bool inside, yes = false;
    struct list one = { (struct value[1]){ a[1] }, 1 };
    const struct list *l = a[1].type == V_TUPLE ? a[1].u.list : &one;
    if (!window(r, a, 2, &s, &from, &inside))
        return false;
    for (size_t i = 0; i < l->n && !yes; i++) {
        if (!jinja_str_arg(r, &l->v[i], &part))
            return false;
        yes = inside && (end ? str_ends(s, part) : str_starts(s, part));
    }
    *out = value_bool(yes);
    return true;
}

METHOD(str_startswith)
{
    (void)args;
    return affix(r, a, false, out);
}

METHOD(str_endswith)
{
    (void)args;
    return affix(r, a, true, out);
}

/* ---- replace and case ---- */

METHOD(str_replace)
{
    struct text t = { .r = r };
    struct str s = a[0].u.s;
    struct value old = a[1], new = a[2];
    int64_t most;
    (void)args;
    if (!jinja_str_arg(r, &old, &old.u.s) || !jinja_str_arg(r, &new, &new.u.s) ||
        !jinja_int_arg(r, &a[3], -1, &most))
        return false;
    if (a[0].markup && (!jinja_escape(r, &old, &old) || !jinja_escape(r, &new, &new)))
        return false;
    struct str from = old.u.s;
    size_t at = 0;
    uint32_t cp;
    while (most-- != 0 && !t.failed) {
        size_t found = jinja_find_str(s, from, at);
        if (found == SIZE_MAX)
            break;
        text_from(&t, &a[0], s.p + at, found - at);
        text_all(&t, &new);
        at = found + from.n;
        if (from.n == 0) {
            if (at == s.n) {
                at = s.n;
                break;
            }
            size_t n = jinja_utf8(s, at, &cp);
            text_from(&t, &a[0], s.p + at, n);
            at += n;
        }
        if (!jinja_spend(r, 1))
            return false;
    }
    text_from(&t, &a[0], s.p + at, s.n - at);
    if (!jinja_spend_bytes(r, s.n) || !text_take(&t, out))
        return false;
    out->markup = a[0].markup;
    return true;
}

#define CASE_METHOD(name, kind) \
    METHOD(name) \
    { \
        bool markup = a[0].markup; \
        (void)args; \
        if (!jinja_case(r, &a[0], kind, out)) \
            return false; \
        out->markup = markup; \
        return true; \
    }
CASE_METHOD(str_upper, CASE_UPPER)
CASE_METHOD(str_lower, CASE_LOWER)
CASE_METHOD(str_capitalize, CASE_CAPITALIZE)
CASE_METHOD(str_title, CASE_TITLE)
CASE_METHOD(str_swapcase, CASE_SWAP)
CASE_METHOD(str_casefold, CASE_FOLD)

#define CLASS_METHOD(name, what) \
    METHOD(name) \
    { \
        (void)r, (void)args; \
        *out = value_bool(jinja_str_is(a[0].u.s, what)); \
        return true; \
    }
CLASS_METHOD(str_isalpha, 'a')
CLASS_METHOD(str_isdigit, 'd')
CLASS_METHOD(str_isdecimal, 'D')
CLASS_METHOD(str_isnumeric, 'n')
CLASS_METHOD(str_isalnum, 'w')
CLASS_METHOD(str_isspace, 's')
CLASS_METHOD(str_isprintable, 'p')
CLASS_METHOD(str_isidentifier, 'i')
CLASS_METHOD(str_islower, 'l')
CLASS_METHOD(str_isupper, 'u')
CLASS_METHOD(str_istitle, 't')
CLASS_METHOD(str_isascii, '7')

/* ---- padding ---- */

/* how: '<' '>' '^' */
static bool justify(struct render *r, const struct value *a, char how, struct value *out)
{
    struct text t = { .r = r };
    struct value with = value_given(&a[2]) ? a[2] : value_text(" ");
    struct str fill;
    int64_t width;
    uint32_t cp = ' ';
    if (!jinja_int_arg(r, &a[1], 0, &width) || !jinja_str_arg(r, &with, &fill))
        return false;
    if (fill.n == 0 || jinja_utf8(fill, 0, &cp) != fill.n)
        return jinja_fail(r, "the fill character must be exactly one character long");
    int64_t room = width - (int64_t)jinja_cp_count(a[0].u.s);
    room = room < 0 ? 0 : room;
    int64_t left = how == '<' ? 0 : how == '>' ? room : room / 2 + (room & width & 1);
    text_fill(&t, cp, left);
    text_made(&t, 0, &with, fill.p, fill.n);
    text_all(&t, &a[0]);
    size_t start = t.n;
    text_fill(&t, cp, room - left);
    text_made(&t, start, &with, fill.p, fill.n);
    bool markup = a[0].markup;
    if (!text_take(&t, out))
        return false;
    out->markup = markup;
    return true;
}

METHOD(str_ljust)
{
    (void)args;
    return justify(r, a, '<', out);
}

METHOD(str_rjust)
{
    (void)args;
    return justify(r, a, '>', out);
}

METHOD(str_center)
{
    (void)args;
    return justify(r, a, '^', out);
}

METHOD(str_zfill)
{
    struct text t = { .r = r };
    struct str s = a[0].u.s;
    int64_t width;
    (void)args;
    if (!jinja_int_arg(r, &a[1], 0, &width))
        return false;
    size_t sign = s.n && (s.p[0] == '-' || s.p[0] == '+');
    text_from(&t, &a[0], s.p, sign);
    text_fill(&t, '0', width - (int64_t)jinja_cp_count(s));
    text_from(&t, &a[0], s.p + sign, s.n - sign);
    bool markup = a[0].markup;
    if (!text_take(&t, out))
        return false;
    out->markup = markup;
    return true;
}

METHOD(str_expandtabs)
{
    struct text t = { .r = r };
    struct str s = a[0].u.s;
    int64_t size, column = 0;
    (void)args;
    if (!jinja_int_arg(r, &a[1], 8, &size))
        return false;
    for (size_t i = 0; i < s.n && !t.failed;) {
        uint32_t cp;
        size_t n = jinja_utf8(s, i, &cp);
        if (cp == '\t') {
            int64_t step = size > 0 ? size - column % size : 0;
            size_t start = t.n;
            text_fill(&t, ' ', step);
            text_made(&t, start, &a[0], s.p + i, n);
            column += step;
        } else {
            text_from(&t, &a[0], s.p + i, n);
            column = cp == '\n' || cp == '\r' ? 0 : column + 1;
        }
        i += n;
    }
    return text_take(&t, out);
}

METHOD(str_format)
{
    return jinja_str_format(r, &a[0], args, out);
}

METHOD(str_format_map)
{
    (void)args;
    if (a[1].type != V_DICT)
        return jinja_fail(r, "format_map needs a mapping");
    const struct dict *d = a[1].u.dict;
    struct kwarg *kw = jinja_alloc(r, d->n, sizeof *kw);
    struct args all = { .kw = kw };
    if (!kw)
        return false;
    for (size_t i = 0; i < d->n; i++)
        if (d->e[i].key.type == V_STR)
            kw[all.nkw++] = (struct kwarg){ d->e[i].key.u.s, d->e[i].key.origin, d->e[i].value };
    return jinja_str_format(r, &a[0], &all, out);
}

/* ---- dicts ---- */

METHOD(dict_get)
{
    bool found;
    (void)args;
    struct value fallback = value_given(&a[2]) ? a[2] : value_none();
    if (!jinja_dict_find(r, a[0].u.dict, &a[1], out, &found))
        return false;
    if (!found)
        *out = fallback;
    return true;
}

static bool view(const struct value *self, uint8_t what, struct value *out)
{
    *out = (struct value){ .type = V_VIEW, .reason = what, .u.dict = self->u.dict };
    return true;
}

METHOD(dict_keys)
{
    (void)r, (void)args;
    return view(&a[0], 0, out);
}

METHOD(dict_values)
{
    (void)r, (void)args;
    return view(&a[0], 1, out);
}

METHOD(dict_items)
{
    (void)r, (void)args;
    return view(&a[0], 2, out);
}

METHOD(give_self)
{
    (void)r, (void)args;
    *out = a[0];
    return true;
}

/* ---- lists ---- */

METHOD(list_index)
{
    const struct list *l = a[0].u.list;
    int64_t n = (int64_t)l->n, b[2] = { 0, n };
    bool same = false;
    (void)args;
    for (int i = 0; i < 2; i++) {
        if (!jinja_int_arg(r, &a[2 + i], b[i], &b[i]))
            return false;
        if (b[i] < 0)
            b[i] = b[i] + n < 0 ? 0 : b[i] + n;
    }
    for (int64_t i = b[0]; i < b[1] && i < n; i++) {
        if (!jinja_equal(r, &l->v[i], &a[1], &same))
            return false;
        if (same) {
            *out = value_int(i);
            return true;
        }
    }
    return jinja_fail(r, "the value is not in the list");
}

METHOD(list_count)
{
    const struct list *l = a[0].u.list;
    int64_t n = 0;
    bool same;
    (void)args;
    for (size_t i = 0; i < l->n; i++) {
        if (!jinja_equal(r, &l->v[i], &a[1], &same))
            return false;
        n += same;
    }
    *out = value_int(n);
    return true;
}

/* ---- numbers, loops, cyclers ---- */

METHOD(float_is_integer)
{
    (void)r, (void)args;
    *out = value_bool(isfinite(a[0].u.f) && a[0].u.f == floor(a[0].u.f));
    return true;
}

METHOD(int_bit_length)
{
    int64_t v = value_as_int(&a[0]);
    uint64_t u = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    (void)r, (void)args;
    *out = value_int(u ? 64 - __builtin_clzll(u) : 0);
    return true;
}

METHOD(loop_cycle)
{
    if (args->n == 0 || args->nkw)
        return jinja_fail(r, "no items for cycling given");
    *out = args->v[(size_t)a[0].u.loop->index0 % args->n];
    return true;
}

METHOD(loop_changed)
{
    struct loop *l = a[0].u.loop;
    struct list now = { jinja_alloc(r, args->n, sizeof *now.v), args->n };
    struct value v;
    bool same = false;
    if (!now.v)
        return false;
    if (now.n)
        memcpy(now.v, args->v, now.n * sizeof *now.v);
    if (!jinja_list(r, now, V_TUPLE, &v) ||
        (value_given(&l->changed) && !jinja_equal(r, &l->changed, &v, &same)))
        return false;
    l->changed = v;
    *out = value_bool(!same);
    return true;
}

METHOD(cycler_next)
{
    struct cycler *c = a[0].u.cycler;
    (void)r, (void)args;
    *out = c->items.v[c->at];
    c->at = (c->at + 1) % c->items.n;
    return true;
}

METHOD(cycler_reset)
{
    (void)r, (void)args;
    a[0].u.cycler->at = 0;
    *out = value_none();
    return true;
}

static const struct method_row methods[] = {
    { V_DICT, { "get", dict_get, 1, { "", "" } } },
    { V_DICT, { "items", dict_items, 0, { NULL } } },
    { V_DICT, { "keys", dict_keys, 0, { NULL } } },
    { V_DICT, { "values", dict_values, 0, { NULL } } },
    { V_DICT, { "copy", give_self, 0, { NULL } } },
    { V_DICT, { "fromkeys", NULL, 0, { NULL } } },
    { V_DICT, { "pop", NULL, 0, { NULL } } },
    { V_DICT, { "popitem", NULL, 0, { NULL } } },
    { V_DICT, { "clear", NULL, 0, { NULL } } },
    { V_DICT, { "update", NULL, 0, { NULL } } },
    { V_DICT, { "setdefault", NULL, 0, { NULL } } },
    { V_VIEW, { "mapping", NULL, 0, { NULL } } },
    { V_VIEW, { "isdisjoint", NULL, 0, { NULL } } },
    { V_STR, { "split", str_split, 0, { "sep", "maxsplit" } } },
    { V_STR, { "rsplit", str_rsplit, 0, { "sep", "maxsplit" } } },
    { V_STR, { "splitlines", str_splitlines, 0, { "keepends" } } },
    { V_STR, { "strip", str_strip, 0, { "" } } },
    { V_STR, { "lstrip", str_lstrip, 0, { "" } } },
    { V_STR, { "rstrip", str_rstrip, 0, { "" } } },
    { V_STR, { "format", str_format, -1, { NULL } } },
    { V_STR, { "format_map", str_format_map, 1, { "" } } },
    { V_STR, { "startswith", str_startswith, 1, { "", "", "" } } },
    { V_STR, { "endswith", str_endswith, 1, { "", "", "" } } },
    { V_STR, { "replace", str_replace, 2, { "", "", "" } } },
    { V_STR, { "join", str_join, 1, { "" } } },
    { V_STR, { "find", str_find, 1, { "", "", "" } } },
    { V_STR, { "rfind", str_rfind, 1, { "", "", "" } } },
    { V_STR, { "index", str_index, 1, { "", "", "" } } },
    { V_STR, { "rindex", str_rindex, 1, { "", "", "" } } },
    { V_STR, { "count", str_count, 1, { "", "", "" } } },
    { V_STR, { "partition", str_partition, 1, { "" } } },
    { V_STR, { "rpartition", str_rpartition, 1, { "" } } },
    { V_STR, { "removeprefix", str_removeprefix, 1, { "" } } },
    { V_STR, { "removesuffix", str_removesuffix, 1, { "" } } },
    { V_STR, { "upper", str_upper, 0, { NULL } } },
    { V_STR, { "lower", str_lower, 0, { NULL } } },
    { V_STR, { "capitalize", str_capitalize, 0, { NULL } } },
    { V_STR, { "title", str_title, 0, { NULL } } },
    { V_STR, { "swapcase", str_swapcase, 0, { NULL } } },
    { V_STR, { "ljust", str_ljust, 1, { "", "" } } },
    { V_STR, { "rjust", str_rjust, 1, { "", "" } } },
    { V_STR, { "center", str_center, 1, { "", "" } } },
    { V_STR, { "zfill", str_zfill, 1, { "" } } },
    { V_STR, { "expandtabs", str_expandtabs, 0, { "tabsize" } } },
    { V_STR, { "isalpha", str_isalpha, 0, { NULL } } },
    { V_STR, { "isdigit", str_isdigit, 0, { NULL } } },
    { V_STR, { "isdecimal", str_isdecimal, 0, { NULL } } },
    { V_STR, { "isnumeric", str_isnumeric, 0, { NULL } } },
    { V_STR, { "isalnum", str_isalnum, 0, { NULL } } },
    { V_STR, { "isspace", str_isspace, 0, { NULL } } },
    { V_STR, { "isprintable", str_isprintable, 0, { NULL } } },
    { V_STR, { "isidentifier", str_isidentifier, 0, { NULL } } },
    { V_STR, { "islower", str_islower, 0, { NULL } } },
    { V_STR, { "isupper", str_isupper, 0, { NULL } } },
    { V_STR, { "istitle", str_istitle, 0, { NULL } } },
    { V_STR, { "isascii", str_isascii, 0, { NULL } } },
    { V_STR, { "encode", NULL, 0, { NULL } } },
    { V_STR, { "casefold", str_casefold, 0, { NULL } } },
    { V_STR, { "translate", NULL, 0, { NULL } } },
    { V_STR, { "maketrans", NULL, 0, { NULL } } },
    { V_LIST, { "index", list_index, 1, { "", "", "" } } },
    { V_LIST, { "count", list_count, 1, { "" } } },
    { V_LIST, { "copy", give_self, 0, { NULL } } },
    { V_LIST, { "pop", NULL, 0, { NULL } } },
    { V_LIST, { "append", NULL, 0, { NULL } } },
    { V_LIST, { "extend", NULL, 0, { NULL } } },
    { V_LIST, { "insert", NULL, 0, { NULL } } },
    { V_LIST, { "remove", NULL, 0, { NULL } } },
    { V_LIST, { "reverse", NULL, 0, { NULL } } },
    { V_LIST, { "sort", NULL, 0, { NULL } } },
    { V_LIST, { "clear", NULL, 0, { NULL } } },
    { V_TUPLE, { "index", list_index, 1, { "", "", "" } } },
    { V_TUPLE, { "count", list_count, 1, { "" } } },
    { V_RANGE, { "index", NULL, 0, { NULL } } },
    { V_RANGE, { "count", NULL, 0, { NULL } } },
    { V_FLOAT, { "is_integer", float_is_integer, 0, { NULL } } },
    { V_FLOAT, { "conjugate", give_self, 0, { NULL } } },
    { V_FLOAT, { "hex", NULL, 0, { NULL } } },
    { V_FLOAT, { "fromhex", NULL, 0, { NULL } } },
    { V_FLOAT, { "as_integer_ratio", NULL, 0, { NULL } } },
    { V_INT, { "bit_length", int_bit_length, 0, { NULL } } },
    { V_INT, { "conjugate", give_self, 0, { NULL } } },
    { V_INT, { "bit_count", NULL, 0, { NULL } } },
    { V_INT, { "to_bytes", NULL, 0, { NULL } } },
    { V_INT, { "from_bytes", NULL, 0, { NULL } } },
    { V_INT, { "as_integer_ratio", NULL, 0, { NULL } } },
    { V_BOOL, { "bit_length", int_bit_length, 0, { NULL } } },
    { V_LOOP, { "cycle", loop_cycle, -1, { NULL } } },
    { V_LOOP, { "changed", loop_changed, -1, { NULL } } },
    { V_CYCLER, { "next", cycler_next, 0, { NULL } } },
    { V_CYCLER, { "reset", cycler_reset, 0, { NULL } } },
};

const struct builtin *jinja_method(enum value_type type, struct str name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].type == type && str_is(name, methods[i].fn.name))
            return &methods[i].fn;
    return NULL;
}

bool jinja_is_method(struct str name)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (str_is(name, methods[i].fn.name))
            return true;
    return false;
}
