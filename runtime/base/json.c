#include "runtime/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

/* jansson's lexer leaves out a byte that it has no memory for and goes on; without the quote that ends a string it
 * reads past its buffer (2.14). So what it asks for then is lent to it, once, and what it has not read yet is taken
 * away: that it reports as an error. */
struct feed {
    struct str rest;
    char *window; /* jansson's: what it reads next */
    size_t n_window;
    void *spare;  /* as much as its buffer for a text of this length can be */
    size_t n_spare;
    bool starved;
};
static _Thread_local struct feed *feeding; /* the reading on this thread */

static void *alloc(size_t n)
{
    struct feed *f = feeding;
    void *p = mem_alloc(n);
    if (p || !f || f->starved)
        return p;
    f->starved = true;
    f->rest.n = 0;
    if (f->window)
        memset(f->window, 0, f->n_window);
    return n <= f->n_spare ? f->spare : NULL;
}

static void release(void *p)
{
    if (!feeding || p != feeding->spare)
        mem_free(p);
}

static size_t feed(void *window, size_t n, void *user)
{
    struct feed *f = user;
    f->window = window;
    f->n_window = n;
    n = n < f->rest.n ? n : f->rest.n;
    if (n)
        memcpy(window, f->rest.p, n);
    f->rest.p += n;
    f->rest.n -= n;
    return n;
}

void json_setup(void)
{
    json_set_alloc_funcs(alloc, release);
    json_object_seed(0);
}

/* *starved: there was not memory enough. */
static json_t *parse(struct str text, size_t flags, json_error_t *why, bool *starved)
{
    json_t *v = NULL;
    struct feed f = { .rest = { text.p ? text.p : "", text.n }, .n_spare = text.n <= SIZE_MAX / 4 ? 2 * text.n + 64 : 0 };
    f.spare = mem_alloc(f.n_spare);
    f.starved = !f.spare;
    if (f.spare) {
        feeding = &f;
        v = json_load_callback(feed, &f, flags, why);
        if (v && f.starved) {
            json_decref(v);
            v = NULL;
        }
        feeding = NULL;
        mem_free(f.spare);
    }
    *starved = f.starved;
    return v;
}

json_t *json_parse(struct str text, size_t flags, json_error_t *why)
{
    bool starved;
    return parse(text, flags, why, &starved);
}

/* Nesting is checked on the text, before a tree is built: jansson's own cap is 2048. *values: how many
 * values the tree would have at most (each opening and each comma brings one). */
static bool too_deep(struct str text, size_t *values)
{
    size_t depth = 0;
    bool in_string = false;
    *values = 1;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            ++*values;
            if (++depth > JSON_MAX_DEPTH)
                return true;
        } else if (c == ',') {
            ++*values;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

enum err_code json_read(struct str text, size_t max_bytes, const char *what, json_t **out,
                        struct err *e)
{
    return json_read_bounded(text, max_bytes, SIZE_MAX, what, out, e);
}

enum err_code json_read_bounded(struct str text, size_t max_bytes, size_t max_values, const char *what,
                                json_t **out, struct err *e)
{
    size_t values;
    bool starved;
    *out = NULL;
    if (text.n > max_bytes)
        return err_set(e, ERR_TOO_LARGE, "%s has %zu bytes; at most %zu are taken", what, text.n,
                       max_bytes);
    if (text.n && memchr(text.p, 0, text.n))
        return err_set(e, ERR_INVALID, "%s holds a NUL byte", what);
    if (too_deep(text, &values))
        return err_set(e, ERR_INVALID, "%s is nested deeper than %d levels", what, JSON_MAX_DEPTH);
    if (values > max_values)
        return err_set(e, ERR_TOO_LARGE, "%s has more than %zu values", what, max_values);
    json_error_t je;
    *out = parse(text, JSON_ALLOW_NUL | JSON_DECODE_ANY, &je, &starved);
    if (*out)
        return ERR_OK;
    if (starved)
        return err_no_memory(e, text.n, what);
    return err_set(e, ERR_INVALID, "%s is not valid JSON: %s (line %d, column %d)", what, je.text,
                   je.line, je.column);
}

void json_begin(struct json_out *j, struct buf *b)
{
    *j = (struct json_out){ .b = b };
}

static void before_value(struct json_out *j)
{
    if (j->comma)
        buf_putc(j->b, ',');
    j->comma = true;
}

static void opening(struct json_out *j, char c)
{
    before_value(j);
    buf_putc(j->b, c);
    j->comma = false;
}

static void closing(struct json_out *j, char c)
{
    buf_putc(j->b, c);
    j->comma = true;
}

void json_obj(struct json_out *j)
{
    opening(j, '{');
}

void json_obj_end(struct json_out *j)
{
    closing(j, '}');
}

void json_arr(struct json_out *j)
{
    opening(j, '[');
}

void json_arr_end(struct json_out *j)
{
    closing(j, ']');
}

static void put_escaped(struct buf *b, unsigned char c)
{
    static const char short_form[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    for (const char *s = short_form; *s; s += 2)
        if ((unsigned char)s[0] == c) {
            char pair[2] = { '\\', s[1] };
            buf_put(b, pair, 2);
            return;
        }
    buf_printf(b, "\\u%04x", c);
}

static void put_string(struct buf *b, struct str s)
{
    buf_putc(b, '"');
    size_t plain = 0, i = 0;
    while (i < s.n) {
        unsigned char c = (unsigned char)s.p[i];
        size_t step = c < 0x80 ? 1 : utf8_step(s.p + i, s.n - i, NULL);
        if (step && c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) {
            i += step;
            continue;
        }
        buf_put(b, s.p + plain, i - plain);
        if (step)
            put_escaped(b, c);
        else
            buf_puts(b, "\xEF\xBF\xBD");
        plain = ++i;
    }
    if (s.n > plain)
        buf_put(b, s.p + plain, s.n - plain);
    buf_putc(b, '"');
}

void json_key(struct json_out *j, const char *key)
{
    before_value(j);
    put_string(j->b, str_from(key));
    buf_putc(j->b, ':');
    j->comma = false;
}

void json_str_value(struct json_out *j, struct str s)
{
    before_value(j);
    put_string(j->b, s);
}

void json_int_value(struct json_out *j, int64_t v)
{
    before_value(j);
    if (v < 0)
        buf_putc(j->b, '-');
    buf_put_uint(j->b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void json_uint_value(struct json_out *j, uint64_t v)
{
    before_value(j);
    buf_put_uint(j->b, v);
}

void json_num_value(struct json_out *j, double v)
{
    before_value(j);
    if (!isfinite(v)) {
        buf_puts(j->b, "null");
        return;
    }
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_puts(j->b, text);
}

void json_bool_value(struct json_out *j, bool v)
{
    before_value(j);
    buf_puts(j->b, v ? "true" : "false");
}

void json_null_value(struct json_out *j)
{
    before_value(j);
    buf_puts(j->b, "null");
}

void json_raw_value(struct json_out *j, struct str json)
{
    before_value(j);
    buf_put(j->b, json.p, json.n);
}

static void put_object(struct json_out *j, const json_t *v)
{
    json_obj(j);
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)v, key, item) {
        json_key(j, key);
        json_tree_value(j, item);
    }
    json_obj_end(j);
}

static void put_array(struct json_out *j, const json_t *v)
{
    json_arr(j);
    for (size_t i = 0; i < json_array_size(v); i++)
        json_tree_value(j, json_array_get(v, i));
    json_arr_end(j);
}

void json_tree_value(struct json_out *j, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        put_object(j, v);
        break;
    case JSON_ARRAY:
        put_array(j, v);
        break;
    case JSON_STRING:
        json_str_value(j, (struct str){ json_string_value(v), json_string_length(v) });
        break;
    case JSON_INTEGER:
        json_int_value(j, json_integer_value(v));
        break;
    case JSON_REAL:
        json_num_value(j, json_real_value(v));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        json_bool_value(j, json_is_true(v));
        break;
    case JSON_NULL:
        json_null_value(j);
        break;
    }
}

void json_kstr(struct json_out *j, const char *key, const char *v)
{
    json_key(j, key);
    json_str_value(j, str_from(v));
}

void json_kint(struct json_out *j, const char *key, int64_t v)
{
    json_key(j, key);
    json_int_value(j, v);
}

void json_knum(struct json_out *j, const char *key, double v)
{
    json_key(j, key);
    json_num_value(j, v);
}

void json_kbool(struct json_out *j, const char *key, bool v)
{
    json_key(j, key);
    json_bool_value(j, v);
}
