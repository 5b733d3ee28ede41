/* Durations, time stamps, and typed look-ups. */
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/protocol_priv.h"
#include "runtime/base/mem.h"

/* ---- durations ------------------------------------------------------------------------------- */

struct unit {
    const char *name;
    double ns;
};
/* The longer name of two that begin alike comes first. */
static const struct unit units[] = {
    { "ns", 1.0 },  { "us", 1e3 },  { "\xC2\xB5s", 1e3 }, { "\xCE\xBCs", 1e3 },
    { "ms", 1e6 },  { "s", 1e9 },   { "m", 60e9 },        { "h", 3600e9 },
};

/* Digits with an optional fraction at *p; moves *p behind them. */
static bool take_number(struct str *t, double *out)
{
    double v = 0, place = 1;
    bool digits = false, fraction = false;
    while (t->n) {
        char c = *t->p;
        if (c == '.' && !fraction) {
            fraction = true;
        } else if (c >= '0' && c <= '9') {
            digits = true;
            if (fraction)
                v += (c - '0') * (place /= 10);
            else
                v = v * 10 + (c - '0');
        } else {
            break;
        }
        t->p++;
        t->n--;
    }
    *out = v;
    return digits;
}

static bool take_unit(struct str *t, double *ns)
{
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        struct str name = str_from(units[i].name);
        if (str_starts(*t, name)) {
            t->p += name.n;
            t->n -= name.n;
            *ns = units[i].ns;
            return true;
        }
    }
    return false;
}

static int64_t clamp_ns(double ns)
{
    if (ns >= 9.2e18)
        return INT64_MAX;
    return ns <= -9.2e18 ? -INT64_MAX : (int64_t)(ns < 0 ? ns - 0.5 : ns + 0.5);
}

bool duration_read(struct str t, bool bare_seconds, int64_t *ns)
{
    double total = 0, sign = 1;
    if (t.n && (*t.p == '-' || *t.p == '+')) {
        sign = *t.p == '-' ? -1 : 1;
        t.p++;
        t.n--;
    }
    if (!t.n)
        return false;
    for (bool first = true; t.n; first = false) {
        double v, unit;
        if (!take_number(&t, &v))
            return false;
        if (!t.n && first && (bare_seconds || v == 0))
            unit = 1e9;
        else if (!take_unit(&t, &unit))
            return false;
        total += v * unit;
    }
    *ns = clamp_ns(sign * total);
    return true;
}

void duration_write(struct buf *out, int64_t ns)
{
    uint64_t v = ns < 0 ? (uint64_t)0 - (uint64_t)ns : (uint64_t)ns;
    if (ns < 0)
        buf_putc(out, '-');
    uint64_t h = v / 3600000000000, m = v / 60000000000 % 60;
    if (h)
        buf_printf(out, "%" PRIu64 "h", h);
    if (h || m)
        buf_printf(out, "%" PRIu64 "m", m);
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64 ".%09" PRIu64, v / 1000000000 % 60, v % 1000000000);
    size_t n = strlen(text);
    while (text[n - 1] == '0')
        n--;
    if (text[n - 1] == '.')
        n--;
    buf_put(out, text, n);
    buf_putc(out, 's');
}

/* ---- time stamps ------------------------------------------------------------------------------ */

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar. */
static int64_t days_of(int64_t y, int64_t m, int64_t d)
{
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

const char *rfc3339_write(int64_t wall_ns, char out[RFC3339_SIZE])
{
    int64_t ns = wall_ns % 1000000000;
    time_t s = (time_t)(wall_ns / 1000000000 - (ns < 0));
    ns += ns < 0 ? 1000000000 : 0;
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(out, RFC3339_SIZE - 12, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, RFC3339_SIZE - n, ".%09" PRId64 "Z", ns);
    return out;
}

/* `n` digits at the front of *t as a number. */
static bool take_digits(struct str *t, size_t n, int64_t *out)
{
    if (t->n < n)
        return false;
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (t->p[i] < '0' || t->p[i] > '9')
            return false;
        *out = *out * 10 + (t->p[i] - '0');
    }
    t->p += n;
    t->n -= n;
    return true;
}

static bool take_char(struct str *t, const char *any)
{
    if (!t->n || !strchr(any, *t->p) || !*t->p)
        return false;
    t->p++;
    t->n--;
    return true;
}

static bool take_fraction(struct str *t, int64_t *ns)
{
    *ns = 0;
    if (!take_char(t, "."))
        return true;
    int64_t scale = 100000000, digit;
    bool any = false;
    while (take_digits(t, 1, &digit)) {
        *ns += digit * scale;
        scale /= 10;
        any = true;
    }
    return any;
}

static bool take_offset(struct str *t, int64_t *seconds)
{
    *seconds = 0;
    if (take_char(t, "Zz"))
        return true;
    if (!t->n)
        return false;
    int64_t sign = *t->p == '-' ? -1 : 1, h, m;
    if (!take_char(t, "+-") || !take_digits(t, 2, &h) || !take_char(t, ":") ||
        !take_digits(t, 2, &m) || h > 23 || m > 59)
        return false;
    *seconds = sign * (h * 3600 + m * 60);
    return true;
}

bool rfc3339_read(struct str t, int64_t *wall_ns)
{
    int64_t y, mon, d, h, min, s, ns, offset;
    if (!take_digits(&t, 4, &y) || !take_char(&t, "-") || !take_digits(&t, 2, &mon) ||
        !take_char(&t, "-") || !take_digits(&t, 2, &d) || !take_char(&t, "Tt ") ||
        !take_digits(&t, 2, &h) || !take_char(&t, ":") || !take_digits(&t, 2, &min) ||
        !take_char(&t, ":") || !take_digits(&t, 2, &s) || !take_fraction(&t, &ns) ||
        !take_offset(&t, &offset) || t.n)
        return false;
    if (mon < 1 || mon > 12 || d < 1 || d > 31 || h > 23 || min > 59 || s > 60)
        return false;
    int64_t seconds = days_of(y, mon, d) * 86400 + h * 3600 + min * 60 + s - offset;
    if (__builtin_mul_overflow(seconds, 1000000000, &seconds) ||
        __builtin_add_overflow(seconds, ns, wall_ns))
        *wall_ns = y < 1970 ? INT64_MIN : INT64_MAX;
    return true;
}

/* ---- typed look-ups --------------------------------------------------------------------------- */

const json_t *member(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_null(v) ? NULL : v;
}

struct str json_slice(const json_t *string)
{
    return (struct str){ json_string_value(string), json_string_length(string) };
}

static enum err_code wrong(struct err *e, const char *key, const char *what)
{
    return err_set(e, ERR_INVALID, "\"%s\" must be %s", key, what);
}

enum err_code read_string(const json_t *o, const char *key, struct str *out, struct err *e)
{
    const json_t *v = member(o, key);
    if (v && !json_is_string(v))
        return wrong(e, key, "a string");
    if (v && (json_string_length(v) || !out->n))
        *out = json_slice(v);
    return ERR_OK;
}

bool is_plain(const json_t *v)
{
    return json_is_string(v) && !memchr(json_string_value(v), 0, json_string_length(v));
}

enum err_code read_plain(const json_t *o, const char *key, struct str *out, struct err *e)
{
    const json_t *v = member(o, key);
    if (json_is_string(v) && !is_plain(v))
        return err_set(e, ERR_INVALID, "\"%s\" holds a NUL character", key);
    return read_string(o, key, out, e);
}

enum err_code read_bool(const json_t *o, const char *key, bool *out, struct err *e)
{
    const json_t *v = member(o, key);
    if (v && !json_is_boolean(v))
        return wrong(e, key, "true or false");
    if (v)
        *out = json_is_true(v);
    return ERR_OK;
}

bool integer_of(const json_t *v, int64_t *out)
{
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    if (!json_is_real(v))
        return false;
    double r = json_real_value(v);
    if (!(r >= -9.2e18 && r <= 9.2e18) || r != floor(r))
        return false;
    *out = (int64_t)r;
    return true;
}

enum err_code read_int(const json_t *o, const char *key, int64_t min, int64_t max, int64_t *out,
                       struct err *e)
{
    const json_t *v = member(o, key);
    if (!v)
        return ERR_OK;
    int64_t n;
    if (!integer_of(v, &n))
        return wrong(e, key, "an integer");
    if (n < min || n > max)
        return err_set(e, ERR_INVALID, "\"%s\" must be between %" PRId64 " and %" PRId64, key, min,
                       max);
    *out = n;
    return ERR_OK;
}

enum err_code read_uint(const json_t *o, const char *key, uint64_t *out, struct err *e)
{
    int64_t n = (int64_t)*out;
    enum err_code c = read_int(o, key, 0, INT64_MAX, &n, e);
    *out = (uint64_t)n;
    return c;
}

enum err_code read_object(const json_t *o, const char *key, const json_t **out, struct err *e)
{
    const json_t *v = member(o, key);
    if (v && !json_is_object(v))
        return wrong(e, key, "an object");
    *out = v;
    return ERR_OK;
}

enum err_code read_array(const json_t *o, const char *key, const json_t **out, struct err *e)
{
    const json_t *v = member(o, key);
    if (v && !json_is_array(v))
        return wrong(e, key, "an array");
    *out = v;
    return ERR_OK;
}

enum err_code read_elements(const json_t *root, const char *key, size_t size, read_element *read, void **out, size_t *n,
                        struct err *e)
{
    const json_t *all;
    *out = NULL;
    *n = 0;
    if (read_array(root, key, &all, e))
        return ERR_INVALID;
    size_t count = json_array_size(all);
    char *list = mem_zero(count, size);
    if (!list)
        return err_no_memory(e, count * size, key);
    for (size_t i = 0; i < count; i++) {
        const json_t *o = json_array_get(all, i);
        enum err_code c = json_is_object(o) ? read(o, list + i * size, e)
                                            : err_set(e, ERR_INVALID, "an entry of \"%s\" is not an object", key);
        if (c) {
            mem_free(list);
            return c;
        }
    }
    *out = list;
    *n = count;
    return ERR_OK;
}

enum err_code read_time(const json_t *o, const char *key, int64_t *wall_ns, struct err *e)
{
    struct str text = { 0 };
    enum err_code c = read_string(o, key, &text, e);
    if (c == ERR_OK && text.p && !rfc3339_read(text, wall_ns))
        return wrong(e, key, "a time as RFC 3339 writes it");
    return c;
}

void put_str(struct json_out *j, const char *key, struct str s)
{
    json_key(j, key);
    json_str_value(j, s);
}

void put_str_if(struct json_out *j, const char *key, struct str s)
{
    if (s.n)
        put_str(j, key, s);
}

void put_time(struct json_out *j, const char *key, int64_t wall_ns)
{
    char text[RFC3339_SIZE];
    json_kstr(j, key, rfc3339_write(wall_ns, text));
}

void put_tokens(struct json_out *j, const char *key, const int32_t *id, size_t n)
{
    json_key(j, key);
    json_arr(j);
    for (size_t i = 0; i < n; i++)
        json_int_value(j, id[i]);
    json_arr_end(j);
}
