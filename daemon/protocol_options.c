/* "options": one table row a key. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/protocol_priv.h"

enum option_type { TYPE_INTEGER, TYPE_FLOAT, TYPE_BOOLEAN, TYPE_STRINGS, TYPE_LIST, TYPE_IDS, TYPE_BIAS };

struct option_row {
    const char *name;
    enum option_type type;
    size_t offset;
    double min, max; /* of a number; both 0: any */
};
#define ROW(key, type, field) [key] = { #field, type, offsetof(struct gen_options, field), 0, 0 }
#define RANGE(key, type, field, min, max) [key] = { #field, type, offsetof(struct gen_options, field), min, max }
static const struct option_row rows[OPTION_COUNT] = {
    ROW(OPTION_NUM_CTX, TYPE_INTEGER, num_ctx),
    ROW(OPTION_NUM_PREDICT, TYPE_INTEGER, num_predict),
    ROW(OPTION_NUM_KEEP, TYPE_INTEGER, num_keep),
    ROW(OPTION_SEED, TYPE_INTEGER, seed),
    ROW(OPTION_TOP_K, TYPE_INTEGER, top_k),
    ROW(OPTION_REPEAT_LAST_N, TYPE_INTEGER, repeat_last_n),
    ROW(OPTION_TEMPERATURE, TYPE_FLOAT, temperature),
    ROW(OPTION_TOP_P, TYPE_FLOAT, top_p),
    ROW(OPTION_MIN_P, TYPE_FLOAT, min_p),
    ROW(OPTION_TYPICAL_P, TYPE_FLOAT, typical_p),
    ROW(OPTION_REPEAT_PENALTY, TYPE_FLOAT, repeat_penalty),
    ROW(OPTION_PRESENCE_PENALTY, TYPE_FLOAT, presence_penalty),
    ROW(OPTION_FREQUENCY_PENALTY, TYPE_FLOAT, frequency_penalty),
    ROW(OPTION_REPRODUCIBLE, TYPE_BOOLEAN, reproducible),
    ROW(OPTION_IGNORE_EOS, TYPE_BOOLEAN, ignore_eos),
    ROW(OPTION_STOP, TYPE_STRINGS, stop),
    RANGE(OPTION_DYNATEMP_RANGE, TYPE_FLOAT, dynatemp_range, 0, 100),
    RANGE(OPTION_DYNATEMP_EXPONENT, TYPE_FLOAT, dynatemp_exponent, 0, 100),
    RANGE(OPTION_TOP_N_SIGMA, TYPE_FLOAT, top_n_sigma, -1, 100),
    RANGE(OPTION_XTC_PROBABILITY, TYPE_FLOAT, xtc_probability, 0, 1),
    RANGE(OPTION_XTC_THRESHOLD, TYPE_FLOAT, xtc_threshold, 0, 1),
    RANGE(OPTION_DRY_MULTIPLIER, TYPE_FLOAT, dry_multiplier, 0, 100),
    RANGE(OPTION_DRY_BASE, TYPE_FLOAT, dry_base, 0, 100),
    RANGE(OPTION_DRY_ALLOWED_LENGTH, TYPE_INTEGER, dry_allowed_length, 0, INT32_MAX),
    RANGE(OPTION_DRY_PENALTY_LAST_N, TYPE_INTEGER, dry_penalty_last_n, -1, INT32_MAX),
    ROW(OPTION_DRY_SEQUENCE_BREAKERS, TYPE_LIST, dry_sequence_breakers),
    RANGE(OPTION_MIROSTAT, TYPE_INTEGER, mirostat, 0, 2),
    RANGE(OPTION_MIROSTAT_TAU, TYPE_FLOAT, mirostat_tau, 0, 100),
    RANGE(OPTION_MIROSTAT_ETA, TYPE_FLOAT, mirostat_eta, 0, 1),
    RANGE(OPTION_MIN_TOKENS, TYPE_INTEGER, min_tokens, 0, INT32_MAX),
    ROW(OPTION_STOP_TOKEN_IDS, TYPE_IDS, stop_token_ids),
    ROW(OPTION_BANNED_TOKENS, TYPE_IDS, banned_tokens),
    ROW(OPTION_BANNED_STRINGS, TYPE_LIST, banned_strings),
    ROW(OPTION_LOGIT_BIAS, TYPE_BIAS, logit_bias),
    ROW(OPTION_SAMPLERS, TYPE_LIST, samplers),
};
static const char *const type_names[] = {
    [TYPE_INTEGER] = "integer",
    [TYPE_FLOAT] = "float32",
    [TYPE_BOOLEAN] = "boolean",
    [TYPE_STRINGS] = "array",
    [TYPE_LIST] = "array",
    [TYPE_IDS] = "array",
    [TYPE_BIAS] = "object",
};

const char *gen_option_name(enum gen_option k)
{
    return rows[k].name;
}

static void *field(struct gen_options *o, enum gen_option k)
{
    return (char *)o + rows[k].offset;
}

static const void *const_field(const struct gen_options *o, enum gen_option k)
{
    return (const char *)o + rows[k].offset;
}

static void mark(struct gen_options *o, enum gen_option k)
{
    o->given |= UINT64_C(1) << k;
}

static enum err_code wrong_type(enum gen_option k, struct err *e)
{
    return err_set(e, ERR_INVALID, "option \"%s\" must be of type %s", rows[k].name,
                   type_names[rows[k].type]);
}

static enum err_code add_stop(struct gen_options *o, struct str s, struct err *e)
{
    if (s.n == 0)
        return ERR_OK; /* would stop before the first token: as if it were not there */
    if (o->n_stop == PROTOCOL_MAX_STOPS)
        return err_set(e, ERR_INVALID, "option \"stop\" takes at most %d strings",
                       PROTOCOL_MAX_STOPS);
    o->stop[o->n_stop++] = s;
    return ERR_OK;
}

static enum err_code read_stops(const json_t *v, struct gen_options *o, struct err *e)
{
    o->n_stop = 0;
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *s = json_array_get(v, i);
        if (!json_is_string(s))
            return err_set(e, ERR_INVALID, "option \"stop\" must be of an array of strings");
        enum err_code c = add_stop(o, json_slice(s), e);
        if (c)
            return c;
    }
    return ERR_OK;
}

/* ---- lists: checked here, read by who uses them ------------------------------------------------- */

static enum err_code check_size(enum gen_option k, size_t n, size_t max, struct err *e)
{
    if (n <= max)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "option \"%s\" has %zu entries; at most %zu are taken", rows[k].name, n, max);
}

static enum err_code check_list(const json_t *v, enum gen_option k, struct err *e)
{
    if (!json_is_array(v))
        return wrong_type(k, e);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *s = json_array_get(v, i);
        if (!json_is_string(s))
            return err_set(e, ERR_INVALID, "option \"%s\" must be of an array of strings", rows[k].name);
        if (json_string_length(s) > PROTOCOL_MAX_STRING_BYTES)
            return err_set(e, ERR_INVALID, "option \"%s\" has a string of %zu bytes; at most %d are taken",
                           rows[k].name, json_string_length(s), PROTOCOL_MAX_STRING_BYTES);
    }
    return check_size(k, json_array_size(v), PROTOCOL_MAX_STRINGS, e);
}

static bool is_id(const json_t *v)
{
    int64_t id;
    return integer_of(v, &id) && id >= 0 && id <= INT32_MAX;
}

static enum err_code check_ids(const json_t *v, enum gen_option k, struct err *e)
{
    if (!json_is_array(v))
        return wrong_type(k, e);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!is_id(json_array_get(v, i)))
            return err_set(e, ERR_INVALID, "option \"%s\" must be of an array of token ids", rows[k].name);
    return check_size(k, json_array_size(v), PROTOCOL_MAX_IDS, e);
}

static bool is_bias(const json_t *v)
{
    return json_is_number(v) || json_is_false(v);
}

static bool id_of_text(const char *text, int64_t *id)
{
    char *end;
    *id = strtoll(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && *id <= INT32_MAX;
}

static enum err_code check_bias(const json_t *v, enum gen_option k, struct err *e)
{
    const char *key;
    json_t *bias;
    int64_t id;
    bool ok = json_is_object(v) || json_is_array(v);
    if (json_is_object(v))
        json_object_foreach ((json_t *)v, key, bias)
            ok = ok && id_of_text(key, &id) && is_bias(bias);
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        const json_t *pair = json_array_get(v, i);
        ok = json_array_size(pair) == 2 && is_id(json_array_get(pair, 0)) && is_bias(json_array_get(pair, 1));
    }
    if (!ok)
        return err_set(e, ERR_INVALID, "option \"%s\" must be of token ids and numbers: {\"id\": bias, ...} or [[id, "
                       "bias], ...]; false for never", rows[k].name);
    return check_size(k, json_is_object(v) ? json_object_size(v) : json_array_size(v), PROTOCOL_MAX_IDS, e);
}

void gen_option_bias(const json_t *logit_bias, size_t i, int64_t *token, double *bias)
{
    const json_t *pair = json_array_get(logit_bias, i), *value = json_array_get(pair, 1);
    if (json_is_object(logit_bias)) {
        void *at = json_object_iter((json_t *)logit_bias);
        while (i-- > 0)
            at = json_object_iter_next((json_t *)logit_bias, at);
        id_of_text(json_object_iter_key(at), token);
        value = json_object_iter_value(at);
    } else {
        integer_of(json_array_get(pair, 0), token);
    }
    *bias = json_is_false(value) ? -INFINITY : json_number_value(value);
}

static bool is_list(enum option_type t)
{
    return t >= TYPE_LIST;
}

static enum err_code read_list(const json_t *v, enum gen_option k, struct gen_options *o, struct err *e)
{
    enum err_code c = rows[k].type == TYPE_LIST  ? check_list(v, k, e)
                      : rows[k].type == TYPE_IDS ? check_ids(v, k, e)
                                                 : check_bias(v, k, e);
    if (c)
        return c;
    *(const json_t **)field(o, k) = v;
    mark(o, k);
    return ERR_OK;
}

/* ---- one value ------------------------------------------------------------------------------------- */

static enum err_code check_range(const struct gen_options *o, enum gen_option k, struct err *e)
{
    const struct option_row *r = &rows[k];
    bool number = r->type == TYPE_INTEGER || r->type == TYPE_FLOAT;
    if (!number || (r->min == 0 && r->max == 0))
        return ERR_OK;
    double v = r->type == TYPE_INTEGER ? (double)*(const int64_t *)const_field(o, k)
                                       : *(const double *)const_field(o, k);
    if (v >= r->min && v <= r->max)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "option \"%s\" must be between %.10g and %.10g", r->name, r->min, r->max);
}

static enum err_code read_option(const json_t *v, enum gen_option k, struct gen_options *o,
                                 struct err *e)
{
    void *to = field(o, k);
    bool ok = true;
    switch (rows[k].type) {
    case TYPE_INTEGER:
        ok = integer_of(v, to);
        break;
    case TYPE_FLOAT:
        ok = json_is_number(v);
        if (ok)
            *(double *)to = json_number_value(v);
        break;
    case TYPE_BOOLEAN:
        ok = json_is_boolean(v);
        if (ok)
            *(bool *)to = json_is_true(v);
        break;
    case TYPE_STRINGS:
        ok = json_is_array(v);
        if (ok && read_stops(v, o, e))
            return ERR_INVALID;
        break;
    case TYPE_LIST:
    case TYPE_IDS:
    case TYPE_BIAS:
        return read_list(v, k, o, e);
    }
    if (!ok)
        return wrong_type(k, e);
    mark(o, k);
    return check_range(o, k, e);
}

enum err_code gen_options_read(const json_t *object, struct gen_options *o, struct err *e)
{
    *o = (struct gen_options){ 0 };
    if (!object || json_is_null(object))
        return ERR_OK;
    if (!json_is_object(object))
        return err_set(e, ERR_INVALID, "\"options\" must be an object");
    for (enum gen_option k = 0; k < OPTION_COUNT; k++) {
        const json_t *v = member(object, rows[k].name);
        enum err_code c = v ? read_option(v, k, o, e) : ERR_OK;
        if (c)
            return c;
    }
    return ERR_OK;
}

static void write_option(struct json_out *j, const struct gen_options *o, enum gen_option k)
{
    const void *from = const_field(o, k);
    json_key(j, rows[k].name);
    switch (rows[k].type) {
    case TYPE_INTEGER:
        json_int_value(j, *(const int64_t *)from);
        break;
    case TYPE_FLOAT:
        json_num_value(j, *(const double *)from);
        break;
    case TYPE_BOOLEAN:
        json_bool_value(j, *(const bool *)from);
        break;
    case TYPE_STRINGS:
        json_arr(j);
        for (size_t i = 0; i < o->n_stop; i++)
            json_str_value(j, o->stop[i]);
        json_arr_end(j);
        break;
    case TYPE_LIST:
    case TYPE_IDS:
    case TYPE_BIAS:
        json_tree_value(j, *(const json_t *const *)from);
        break;
    }
}

void gen_options_write(struct buf *out, const struct gen_options *o)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    for (enum gen_option k = 0; k < OPTION_COUNT; k++)
        if (option_given(o, k))
            write_option(&j, o, k);
    json_obj_end(&j);
}

/* The whole slice as a number. */
static bool number_of(struct str text, double *real, int64_t *integer, bool *is_integer)
{
    char copy[64], *end;
    if (text.n == 0 || text.n >= sizeof copy || memchr(text.p, 0, text.n))
        return false;
    memcpy(copy, text.p, text.n);
    copy[text.n] = '\0';
    *real = strtod(copy, &end);
    if (*end || end == copy || !isfinite(*real))
        return false;
    errno = 0;
    *integer = strtoll(copy, &end, 10);
    *is_integer = *end == '\0' && errno != ERANGE;
    return true;
}

/* Go's ways to write one: models that were made for Ollama have them. */
static bool boolean_of(struct str text, bool *out)
{
    static const char *const ways[] = { "false", "true", "False", "True", "FALSE", "TRUE", "f", "t", "F", "T", "0", "1" };
    size_t i = 0;
    while (i < sizeof ways / sizeof *ways && !str_is(text, ways[i]))
        i++;
    *out = i % 2;
    return i < sizeof ways / sizeof *ways;
}

enum err_code gen_options_set(struct gen_options *o, struct str name, struct str value,
                              struct err *e)
{
    enum gen_option k = 0;
    while (k < OPTION_COUNT && !str_is(name, rows[k].name))
        k++;
    if (k == OPTION_COUNT)
        return err_set(e, ERR_NOT_FOUND, "unknown parameter '%.*s'", (int)name.n, name.p);
    double real;
    int64_t integer;
    bool is_integer;
    if (is_list(rows[k].type))
        return err_set(e, ERR_INVALID, "option \"%s\" is a list: it can be given in a request only", rows[k].name);
    switch (rows[k].type) {
    case TYPE_INTEGER:
        if (!number_of(value, &real, &integer, &is_integer) || !is_integer)
            return wrong_type(k, e);
        *(int64_t *)field(o, k) = integer;
        break;
    case TYPE_FLOAT:
        if (!number_of(value, &real, &integer, &is_integer))
            return wrong_type(k, e);
        *(double *)field(o, k) = real;
        break;
    case TYPE_BOOLEAN:
        if (!boolean_of(value, field(o, k)))
            return wrong_type(k, e);
        break;
    case TYPE_STRINGS:
        if (add_stop(o, value, e))
            return ERR_INVALID;
        break;
    case TYPE_LIST:
    case TYPE_IDS:
    case TYPE_BIAS:
        break;
    }
    mark(o, k);
    return check_range(o, k, e);
}

void gen_options_merge(struct gen_options *o, const struct gen_options *over)
{
    static const size_t sizes[] = {
        [TYPE_INTEGER] = sizeof(int64_t),
        [TYPE_FLOAT] = sizeof(double),
        [TYPE_BOOLEAN] = sizeof(bool),
        [TYPE_STRINGS] = sizeof o->stop,
        [TYPE_LIST] = sizeof o->samplers,
        [TYPE_IDS] = sizeof o->banned_tokens,
        [TYPE_BIAS] = sizeof o->logit_bias,
    };
    for (enum gen_option k = 0; k < OPTION_COUNT; k++)
        if (option_given(over, k)) {
            memcpy(field(o, k), const_field(over, k), sizes[rows[k].type]);
            mark(o, k);
        }
    if (option_given(over, OPTION_STOP))
        o->n_stop = over->n_stop;
}
