/* The text of one value -> JSON, by what the tool's schema says of it. */
#include "runtime/text/output_parser_priv.h"

#include <stdlib.h>
#include <string.h>

void value_string(struct buf *out, struct str text)
{
    struct json_out j;
    json_begin(&j, out);
    json_str_value(&j, text);
}

bool value_key(struct str key)
{
    for (size_t i = 0; i < key.n; i++)
        if ((unsigned char)key.p[i] < 0x20)
            return false;
    return key.n > 0;
}

/* ---- schemas ------------------------------------------------------------------------------- */

enum { T_STRING = 1, T_INTEGER = 2, T_NUMBER = 4, T_BOOLEAN = 8, T_NULL = 16, T_OBJECT = 32,
       T_ARRAY = 64 };
static const struct {
    const char *name;
    unsigned mask;
} types[] = {
    { "string", T_STRING },   { "integer", T_INTEGER }, { "number", T_NUMBER | T_INTEGER },
    { "boolean", T_BOOLEAN }, { "null", T_NULL },       { "object", T_OBJECT },
    { "array", T_ARRAY },     { "str", T_STRING },      { "int", T_INTEGER },
    { "float", T_NUMBER | T_INTEGER }, { "bool", T_BOOLEAN }, { "dict", T_OBJECT },
    { "list", T_ARRAY },
};

static unsigned type_named(const json_t *name)
{
    const char *s = json_string_value(name);
    for (size_t i = 0; s && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, s) == 0)
            return types[i].mask;
    return 0;
}

static unsigned type_of(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
        return T_STRING;
    case JSON_INTEGER:
        return T_INTEGER;
    case JSON_REAL:
        return T_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE:
        return T_BOOLEAN;
    case JSON_NULL:
        return T_NULL;
    case JSON_OBJECT:
        return T_OBJECT;
    default:
        return T_ARRAY;
    }
}

/* "#/$defs/name": the schema it stands for; at most a few in a row. */
static const json_t *resolve(const json_t *schema, const json_t *root)
{
    for (int i = 0; i < 8 && schema; i++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        if (!ref || ref[0] != '#')
            break;
        const json_t *at = root;
        char part[128];
        for (const char *p = ref + 1; at && *p == '/';) {
            size_t n = strcspn(p + 1, "/");
            if (n >= sizeof part)
                return NULL;
            memcpy(part, p + 1, n);
            part[n] = '\0';
            at = json_object_get(at, part);
            p += n + 1;
        }
        schema = at;
    }
    return schema;
}

/* Which types the schema allows; 0 where it does not say. */
static unsigned schema_types(const json_t *schema, const json_t *root, int depth)
{
    static const char *const either[] = { "anyOf", "oneOf", "allOf" };
    unsigned mask = 0;
    schema = resolve(schema, root);
    if (!json_is_object(schema) || depth > 8)
        return 0;
    const json_t *type = json_object_get(schema, "type"), *v;
    if (json_is_string(type))
        mask = type_named(type);
    for (size_t i = 0; i < json_array_size(type); i++)
        mask |= type_named(json_array_get(type, i));
    if (mask && json_is_true(json_object_get(schema, "nullable")))
        mask |= T_NULL;
    if (mask)
        return mask;
    if ((v = json_object_get(schema, "const")))
        return type_of(v);
    if ((v = json_object_get(schema, "enum"))) {
        for (size_t i = 0; i < json_array_size(v); i++)
            mask |= type_of(json_array_get(v, i));
        return mask;
    }
    for (size_t k = 0; k < 3; k++) {
        v = json_object_get(schema, either[k]);
        for (size_t i = 0; i < json_array_size(v); i++)
            mask |= schema_types(json_array_get(v, i), root, depth + 1);
    }
    if (!mask && json_object_get(schema, "properties"))
        mask = T_OBJECT;
    return !mask && json_object_get(schema, "items") ? T_ARRAY : mask;
}

const json_t *schema_property(const json_t *schema, struct str key, const json_t *root)
{
    const json_t *properties = json_object_get(resolve(schema, root), "properties");
    return key.n ? json_object_getn(properties, key.p, key.n) : NULL;
}

const json_t *schema_items(const json_t *schema, const json_t *root)
{
    return json_object_get(resolve(schema, root), "items");
}

/* ---- literals of Python and of Gemma --------------------------------------------------------- */

struct reader {
    struct str s;
    size_t at;
    struct buf *out;
    bool gemma;
    unsigned depth;
};

static bool read_value(struct reader *r);

static void skip(struct reader *r)
{
    while (r->at < r->s.n && is_blank(r->s.p[r->at]))
        r->at++;
}

static char peek(const struct reader *r)
{
    return r->at < r->s.n ? r->s.p[r->at] : '\0';
}

static bool read_word(struct reader *r)
{
    static const char *const word[][2] = {
        { "True", "true" }, { "False", "false" }, { "None", "null" }, { "true", "true" },
        { "false", "false" }, { "null", "null" },
    };
    struct str rest = { r->s.p + r->at, r->s.n - r->at };
    for (size_t i = 0; i < sizeof word / sizeof *word; i++)
        if (str_starts(rest, str_from(word[i][0]))) {
            buf_puts(r->out, word[i][1]);
            r->at += strlen(word[i][0]);
            return true;
        }
    return false;
}

static bool read_number(struct reader *r)
{
    struct json_scan scan = { 0 };
    size_t from = r->at, end = r->at;
    enum scan_result got = SCAN_MORE;
    while (end < r->s.n && got == SCAN_MORE)
        if ((got = json_scan_byte(&scan, r->s.p[end])) == SCAN_MORE)
            end++;
    if (got == SCAN_MORE)
        got = json_scan_byte(&scan, ' ');
    /* One that readers of JSON cannot hold (an integer over 64 bits, 1e400) is no number: its text is taken. */
    struct str text = { r->s.p + from, end - from };
    json_t *held = got == SCAN_BEFORE ? json_parse(text, JSON_DECODE_ANY, NULL) : NULL;
    if (!held)
        return false;
    json_decref(held);
    buf_put(r->out, r->s.p + from, end - from);
    r->at = end;
    return true;
}

/* \n, \x41, \u0041, \U00000041 and the like; what is unknown stays as it is. */
static void read_escape(struct reader *r, struct buf *text)
{
    static const char from[] = "ntrbfav\\'\"0", to[] = "\n\t\r\b\f\a\v\\'\"";
    char c = peek(r), four[4];
    r->at++;
    if (c == '\n')
        return;
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (digits && r->s.n - r->at >= digits) {
        char hex[9] = { 0 }, *end;
        memcpy(hex, r->s.p + r->at, digits);
        unsigned long cp = strtoul(hex, &end, 16);
        size_t n = *end || !one_of("0123456789abcdefABCDEF", hex[0]) || cp > 0x10FFFF
                       ? 0
                       : utf8_put((uint32_t)cp, four);
        if (n) {
            buf_put(text, four, n);
            r->at += digits;
            return;
        }
    }
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        buf_putc(text, to[known - from]);
        return;
    }
    buf_putc(text, '\\');
    if (c)
        buf_putc(text, c);
}

/* See quote_ends in output_parser_keyword.c: the same rule. */
static bool quote_closes(const struct reader *r)
{
    size_t i = r->at + 1;
    while (i < r->s.n && is_blank(r->s.p[i]))
        i++;
    return i == r->s.n || one_of(",)]}:", r->s.p[i]);
}

static bool read_string(struct reader *r)
{
    struct buf text;
    char quote = peek(r);
    bool closed = false;
    buf_init(&text, OUTPUT_MAX_CALL);
    for (r->at++; r->at < r->s.n && !closed;) {
        char c = r->s.p[r->at];
        if (c == '\\') {
            r->at++;
            read_escape(r, &text);
            continue;
        }
        closed = c == quote && quote_closes(r);
        if (!closed)
            buf_putc(&text, c);
        r->at++;
    }
    closed = closed && !text.failed;
    if (closed)
        value_string(r->out, buf_str(&text));
    buf_finish(&text);
    return closed;
}

static bool read_gemma_string(struct reader *r, struct str mark)
{
    const char *from = r->s.p + r->at + mark.n;
    size_t left = r->s.n - r->at - mark.n;
    const char *end = left ? memmem(from, left, mark.p, mark.n) : NULL;
    if (!end)
        return false;
    value_string(r->out, (struct str){ from, (size_t)(end - from) });
    r->at = (size_t)(end - r->s.p) + mark.n;
    return true;
}

/* A key: a string, a number or (Gemma) a word. */
static bool read_key_text(struct reader *r)
{
    struct str mark = STR("<|\"|>"), rest = { r->s.p + r->at, r->s.n - r->at };
    if (!r->gemma) {
        char c = peek(r);
        if (c == '\'' || c == '"')
            return read_string(r);
        size_t from = r->out->n;
        buf_putc(r->out, '"');
        bool ok = read_number(r) || read_word(r);
        buf_putc(r->out, '"');
        return ok && r->out->n > from;
    }
    if (str_starts(rest, mark))
        return read_gemma_string(r, mark);
    const char *end = memchr(rest.p, ':', rest.n);
    if (!end || end == rest.p)
        return false;
    value_string(r->out, str_trim((struct str){ rest.p, (size_t)(end - rest.p) }));
    r->at += (size_t)(end - rest.p);
    return true;
}

static bool read_key(struct reader *r)
{
    size_t from = r->out->n;
    bool ok = read_key_text(r) && !r->out->failed;
    return ok && !str_holds((struct str){ r->out->p + from, r->out->n - from }, STR("\\u0000"));
}

static bool read_items(struct reader *r, char open)
{
    char close = open == '{' ? '}' : open == '[' ? ']' : ')';
    bool object = open == '{';
    r->at++;
    buf_putc(r->out, object ? '{' : '[');
    for (bool first = true;; first = false) {
        skip(r);
        if (peek(r) == close)
            break;
        if (!first)
            buf_puts(r->out, ", ");
        if (object) {
            bool ok = read_key(r);
            skip(r);
            if (!ok || peek(r) != ':')
                return false;
            r->at++;
            buf_puts(r->out, ": ");
        }
        if (!read_value(r))
            return false;
        skip(r);
        if (peek(r) != ',')
            break;
        r->at++;
    }
    bool ok = peek(r) == close;
    r->at++;
    buf_putc(r->out, object ? '}' : ']');
    return ok;
}

static bool read_value(struct reader *r)
{
    struct str mark = STR("<|\"|>");
    skip(r);
    char c = peek(r);
    if (r->depth > JSON_MAX_DEPTH - 2)
        return false;
    if (r->gemma && c == '<' && str_starts((struct str){ r->s.p + r->at, r->s.n - r->at }, mark))
        return read_gemma_string(r, mark);
    if (!r->gemma && (c == '\'' || c == '"'))
        return read_string(r);
    if (c == '{' || c == '[' || (c == '(' && !r->gemma)) {
        r->depth++;
        bool ok = read_items(r, c);
        r->depth--;
        return ok;
    }
    return c && (read_word(r) || read_number(r));
}

bool value_literal(struct buf *out, struct str text, bool gemma)
{
    size_t start = out->n;
    struct reader r = { .s = text, .out = out, .gemma = gemma };
    bool ok = read_value(&r);
    skip(&r);
    if (ok && r.at == text.n)
        return true;
    if (!out->failed)
        out->n = start;
    return false;
}

/* ---- by schema ------------------------------------------------------------------------------- */

/* Appends text as JSON where its type is one of the mask's (0: any). */
static bool put_json(struct buf *out, struct str text, unsigned mask)
{
    json_t *v = json_parse(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    unsigned type = v ? type_of(v) : 0;
    double d = type == T_NUMBER ? json_real_value(v) : 0.5;
    bool whole = d > -1e15 && d < 1e15 && d == (double)(int64_t)d;
    bool ok = v && (!mask || (type & mask) || (whole && (mask & T_INTEGER)));
    json_decref(v);
    if (ok)
        buf_put(out, text.p, text.n);
    return ok;
}

void value_json(struct buf *out, struct str text, const json_t *schema, const json_t *root)
{
    unsigned mask = schema_types(schema, root, 0);
    struct str v = str_trim(text);
    size_t start = out->n;
    struct buf literal;
    if (mask != T_STRING && v.n) {
        unsigned wanted = mask & ~(unsigned)T_STRING;
        bool text_allowed = !mask || (mask & T_STRING);
        if (v.p[0] != '"' || !text_allowed)
            if (put_json(out, v, wanted))
                return;
        buf_init(&literal, OUTPUT_MAX_CALL);
        bool ok = value_literal(&literal, v, false) && !literal.failed &&
                  (v.p[0] != '\'' && v.p[0] != '"') && put_json(out, buf_str(&literal), wanted);
        buf_finish(&literal);
        if (ok)
            return;
    }
    if (!out->failed)
        out->n = start;
    value_string(out, text);
}
