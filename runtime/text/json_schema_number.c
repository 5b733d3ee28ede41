/* Numbers as regular languages: decimal texts  -?(0|[1-9]d*)(.d+)?  ordered against a constant, digit by digit.
 *
 * Every language here holds, with a text, all texts of the same value (1, 1.0, 1.00): so meet, join and complement
 * of texts are those of values. What is written in the end is a part of it (number_written). Doubles of the schema
 * are their shortest decimal text. Comparing the double of a text of at most 15 digits gives what comparing the
 * text gives (DBL_DIG), and an integer is exact everywhere: so validators that read doubles agree. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/dfa_priv.h"
#include "runtime/text/json_schema_priv.h"

#define MAX_DIGITS 400 /* of a double, before or behind the point */

/* All texts that limits speak of: wide enough for int64, and for the fractions of doubles. The language of all
 * numbers has one member more, which no limit keeps: it stands for the texts with an exponent. */
#define WHOLE_DIGITS 20
static const char universe[] = "-?(0|[1-9]\\d{0,19})(\\.\\d{1,32})?";
/* Integers as such, and with .0 as far as doubles are exact; fractions of 15 digits. */
static const char with_zero[] = "-?\\d+\\.0";
static const char integer[] = "-?\\d+(\\.0+)?", plain_integer[] = "-?\\d+";
static const char with_exponent[] = "-?(0|[1-9]\\d{0,14})(\\.\\d{1,15})?[eE][+-]?\\d{1,2}";

struct decimal {
    bool negative;
    size_t n_whole, n_frac;
    char whole[MAX_DIGITS + 1], frac[MAX_DIGITS + 1]; /* no leading and no trailing zeros; whole: at least one digit */
};

/* The shortest text that reads back as v. */
static void shortest(double v, char text[32])
{
    for (int digits = 1; digits <= 17; digits++) {
        (void)snprintf(text, 32, "%.*e", digits - 1, v);
        if (strtod(text, NULL) == v)
            break;
    }
}

/* d.ddde+xx -> whole and fraction. False: more digits than MAX_DIGITS. */
static bool spread(struct decimal *d, const char *text)
{
    char digits[32];
    size_t n = 0;
    long exponent = 0;
    for (; *text; text++)
        if (*text >= '0' && *text <= '9')
            digits[n++] = *text;
        else if (*text == 'e')
            exponent = strtol(text + 1, NULL, 10), text += strlen(text) - 1;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    d->n_whole = d->n_frac = 0;
    if (labs(exponent) > MAX_DIGITS - 32)
        return false;
    for (long at = 0; at <= exponent; at++)
        d->whole[d->n_whole++] = at < (long)n ? digits[at] : '0';
    if (exponent < 0)
        d->whole[d->n_whole++] = '0';
    for (long at = exponent + 1; at < (long)n; at++)
        d->frac[d->n_frac++] = at >= 0 ? digits[at] : '0';
    while (d->n_frac && d->frac[d->n_frac - 1] == '0')
        d->n_frac--;
    return true;
}

static bool decimal_of(const json_t *v, struct decimal *d)
{
    char text[32];
    d->n_frac = 0;
    if (json_is_integer(v)) {
        int n = snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        d->negative = text[0] == '-';
        d->n_whole = (size_t)n - d->negative;
        memcpy(d->whole, text + d->negative, d->n_whole);
        return true;
    }
    double x = json_real_value(v);
    d->negative = x < 0;
    shortest(x < 0 ? -x : x, text);
    return spread(d, text);
}

static bool is_zero(const struct decimal *d)
{
    return d->n_whole == 1 && d->whole[0] == '0' && d->n_frac == 0;
}

/* ---- order ---- */

enum byte_class { B_OTHER, B_MINUS, B_POINT, B_DIGIT }; /* B_DIGIT + d */

static void number_classes(uint8_t class_of[256])
{
    memset(class_of, B_OTHER, 256);
    class_of['-'] = B_MINUS;
    class_of['.'] = B_POINT;
    for (int d = 0; d < 10; d++)
        class_of['0' + d] = (uint8_t)(B_DIGIT + d);
}

/* What the magnitudes of a text and of v compare to, as an automaton of texts without a sign.
 * State (i, o): i digits of the whole part read, which stand in order o to v's first i; behind the point
 * the same with the fraction. */
struct compare {
    struct draft d;
    const struct decimal *v;
    unsigned accepts; /* orders of magnitude */
};

static const unsigned orders_of[3] = { NUMBER_LESS, NUMBER_EQUAL, NUMBER_MORE };

static unsigned whole_order(const struct decimal *v, size_t i, unsigned order)
{
    if (i != v->n_whole)
        return i < v->n_whole ? NUMBER_LESS : NUMBER_MORE;
    return order == NUMBER_EQUAL && v->n_frac ? NUMBER_LESS : order;
}

static unsigned digit_order(unsigned order, int digit, int of_v)
{
    if (order != NUMBER_EQUAL)
        return order;
    return digit < of_v ? NUMBER_LESS : digit > of_v ? NUMBER_MORE : NUMBER_EQUAL;
}

static bool in(const struct compare *m, unsigned order)
{
    return (m->accepts & order) != 0;
}

/* Fractions: state of order o that is settled, and n_frac + 1 states that are equal so far. */
static uint32_t fraction_state(struct compare *m, uint32_t first, size_t i, unsigned order)
{
    (void)m;
    return first + (order == NUMBER_LESS ? 0 : order == NUMBER_MORE ? 1 : 2 + (uint32_t)i);
}

static uint32_t add_fractions(struct compare *m)
{
    const struct decimal *v = m->v;
    uint32_t first = draft_state(&m->d, in(m, NUMBER_LESS));
    draft_state(&m->d, in(m, NUMBER_MORE));
    for (size_t i = 0; i <= v->n_frac; i++)
        draft_state(&m->d, in(m, i < v->n_frac ? NUMBER_LESS : NUMBER_EQUAL));
    for (uint32_t digit = 0; digit < 10; digit++) {
        draft_edge(&m->d, first, B_DIGIT + digit, first);
        draft_edge(&m->d, first + 1, B_DIGIT + digit, first + 1);
        for (size_t i = 0; i <= v->n_frac; i++) {
            unsigned order = digit_order(NUMBER_EQUAL, (int)digit, i < v->n_frac ? v->frac[i] - '0' : 0);
            size_t next = i < v->n_frac ? i + 1 : i;
            draft_edge(&m->d, first + 2 + (uint32_t)i, B_DIGIT + digit, fraction_state(m, first, next, order));
        }
    }
    return first;
}

/* The state before any digit. */
static uint32_t add_magnitudes(struct compare *m)
{
    const struct decimal *v = m->v;
    uint32_t fractions = add_fractions(m), start = draft_state(&m->d, false), first = m->d.n;
    size_t n = v->n_whole;
    for (size_t i = 1; i <= n + 1; i++) /* n + 1: more digits than v */
        for (int o = 0; o < 3; o++)
            draft_state(&m->d, in(m, whole_order(v, i, orders_of[o])));
    for (size_t i = 0; i <= n + 1; i++)
        for (uint32_t o = 0; o < 3; o++) {
            uint32_t s = i ? first + 3 * (uint32_t)(i - 1) + o : start;
            for (uint32_t digit = 0; digit < 10; digit++) {
                unsigned order = i < n ? digit_order(i ? orders_of[o] : NUMBER_EQUAL, (int)digit, v->whole[i] - '0')
                                       : NUMBER_MORE;
                uint32_t to = order == NUMBER_LESS ? 0 : order == NUMBER_EQUAL ? 1 : 2;
                size_t next = i <= n ? i + 1 : i;
                draft_edge(&m->d, s, B_DIGIT + digit, first + 3 * (uint32_t)(next - 1) + to);
            }
            if (!i)
                continue;
            unsigned order = i == n ? orders_of[o] : i < n ? NUMBER_LESS : NUMBER_MORE;
            /* Behind the point there must be a digit: a state of its own, which does not accept. */
            uint32_t point = draft_state(&m->d, false), from = fraction_state(m, fractions, 0, order);
            for (uint32_t digit = 0; digit < 10 && !m->d.trouble; digit++)
                draft_edge(&m->d, point, B_DIGIT + digit,
                           m->d.next[(size_t)from * m->d.n_classes + B_DIGIT + digit]);
            draft_edge(&m->d, s, B_POINT, point);
        }
    return start;
}

/* Orders that magnitudes must have, so that numbers of this sign stand in `orders` to v. */
static unsigned magnitude_orders(const struct decimal *v, bool negative_text, unsigned orders)
{
    bool less = orders & NUMBER_LESS, more = orders & NUMBER_MORE;
    unsigned equal = orders & NUMBER_EQUAL, all = NUMBER_LESS | NUMBER_EQUAL | NUMBER_MORE;
    if (is_zero(v)) /* magnitudes are equal or more */
        return equal | ((negative_text ? less : more) ? NUMBER_MORE : 0u);
    if (negative_text != v->negative)
        return (negative_text ? less : more) ? all : 0;
    if (!v->negative)
        return orders;
    return equal | (less ? NUMBER_MORE : 0u) | (more ? NUMBER_LESS : 0u);
}

const struct dfa *number_compare(struct schema *c, const json_t *v, unsigned orders)
{
    struct decimal d;
    if (!decimal_of(v, &d)) {
        schema_refuse(c, ERR_UNSUPPORTED, c->at, c->keyword, "a number of more than %d digits", MAX_DIGITS - 32);
        return NULL;
    }
    struct compare m = { .v = &d };
    uint8_t class_of[256];
    number_classes(class_of);
    draft_init(&m.d, class_of);
    m.accepts = magnitude_orders(&d, true, orders);
    uint32_t negative = add_magnitudes(&m);
    m.accepts = magnitude_orders(&d, false, orders);
    uint32_t positive = add_magnitudes(&m);
    uint32_t start = m.d.start = draft_state(&m.d, false);
    draft_edge(&m.d, start, B_MINUS, negative);
    for (uint32_t digit = 0; digit < 10 && !m.d.trouble; digit++)
        draft_edge(&m.d, start, B_DIGIT + digit,
                   m.d.next[(size_t)positive * m.d.n_classes + B_DIGIT + digit]);
    const struct dfa *out = lang_numbers(c, lang_own(c, draft_take(&m.d, &c->err)));
    if (!out && d.n_whole > WHOLE_DIGITS) /* not empty: beyond what we speak of */
        schema_refuse(c, ERR_UNSUPPORTED, c->at, c->keyword, "leaves only numbers of more than %d digits", WHOLE_DIGITS);
    return out;
}

/* ---- multiples ---- */

/* x is a multiple of step/10^places: places of its fraction count, digits behind those are 0.
 * State (f, r): f digits behind the point read (or none yet), the number so far modulo step is r. */
static const struct dfa *multiples(struct schema *c, uint32_t step, uint32_t places)
{
    struct draft d;
    uint8_t class_of[256];
    number_classes(class_of);
    draft_init(&d, class_of);
    uint32_t first = d.n;
    for (uint32_t f = 0; f <= places + 1; f++) /* f: 0 the whole part, else f - 1 digits behind the point */
        for (uint32_t r = 0; r < step && !d.trouble; r++) {
            uint64_t rest = r;
            for (uint32_t left = f ? places - (f - 1) : places; left; left--)
                rest = rest * 10 % step;
            draft_state(&d, rest == 0);
        }
    uint32_t sign = draft_state(&d, false), start = draft_state(&d, false);
    d.start = start;
    for (uint32_t f = 0; f <= places + 1; f++)
        for (uint32_t r = 0; r < step && !d.trouble; r++) {
            uint32_t s = first + f * step + r;
            for (uint32_t digit = 0; digit < 10; digit++) {
                uint32_t to = (uint32_t)(((uint64_t)r * 10 + digit) % step), next = f ? f + 1 : 0;
                if (f <= places)
                    draft_edge(&d, s, B_DIGIT + digit, first + next * step + to);
                else if (digit == 0)
                    draft_edge(&d, s, B_DIGIT, s);
                if (f == 0 && r == 0) {
                    draft_edge(&d, start, B_DIGIT + digit, first + to);
                    draft_edge(&d, sign, B_DIGIT + digit, first + to);
                }
            }
            if (f == 0)
                draft_edge(&d, s, B_POINT, first + step + r);
        }
    draft_edge(&d, start, B_MINUS, sign);
    return lang_own(c, draft_take(&d, &c->err));
}

static const struct dfa *multiple_of(struct schema *c, const json_t *v)
{
    struct decimal d;
    uint64_t step = 0;
    if (json_number_value(v) <= 0) {
        schema_refuse(c, ERR_INVALID, c->at, "multipleOf", "must be more than 0");
        return NULL;
    }
    if (!decimal_of(v, &d))
        step = DFA_MAX_STATES;
    for (size_t i = 0; i < d.n_whole && step < DFA_MAX_STATES; i++)
        step = step * 10 + (uint64_t)(d.whole[i] - '0');
    for (size_t i = 0; i < d.n_frac && step < DFA_MAX_STATES; i++)
        step = step * 10 + (uint64_t)(d.frac[i] - '0');
    if (step >= DFA_MAX_STATES || step * (d.n_frac + 2) >= DFA_MAX_STATES) {
        schema_refuse(c, ERR_TOO_LARGE, c->at, "multipleOf", "the step has too many digits");
        return NULL;
    }
    return multiples(c, (uint32_t)step, (uint32_t)d.n_frac);
}

/* ---- forms ---- */

bool schema_number_init(struct schema *c)
{
    c->plain_numbers = lang_regex(c, universe);
    const struct dfa *exponent = lang_own(c, dfa_literal(STR("e"), &c->err));
    c->all_numbers = lang_join(c, c->plain_numbers, exponent);
    return c->all_numbers != NULL;
}

const struct dfa *number_integers(struct schema *c)
{
    if (!c->integers)
        c->integers = lang_numbers(c, lang_regex(c, integer));
    return c->integers;
}

/* Values from -max to max. */
static const struct dfa *within(struct schema *c, json_int_t least, json_int_t most)
{
    json_t *lo = json_integer(least), *hi = json_integer(most);
    const struct dfa *out = NULL;
    if (lo && hi) {
        const struct dfa *a = number_compare(c, lo, NUMBER_EQUAL | NUMBER_MORE);
        const struct dfa *b = a ? number_compare(c, hi, NUMBER_EQUAL | NUMBER_LESS) : NULL;
        out = b ? lang_meet(c, a, b) : NULL;
    } else {
        schema_no_memory(c);
    }
    json_decref(lo);
    json_decref(hi);
    return out;
}

static const struct dfa *form(struct schema *c)
{
    char fraction[16 * 24], *p = fraction;
    for (int whole = 1; whole <= 14; whole++)
        p += snprintf(p, (size_t)(fraction + sizeof fraction - p), "%s\\d{%d}\\.\\d{1,%d}", whole > 1 ? "|" : "-?(",
                      whole, 15 - whole);
    (void)snprintf(p, (size_t)(fraction + sizeof fraction - p), ")");
    const json_int_t exact = (json_int_t)1 << 53;
    const struct dfa *longs = within(c, INT64_MIN, INT64_MAX), *exacts = within(c, -exact, exact);
    const struct dfa *plain = lang_regex(c, plain_integer), *zero = lang_regex(c, with_zero);
    const struct dfa *broken = lang_regex(c, fraction);
    if (!longs || !exacts || !plain || !zero || !broken)
        return NULL;
    plain = lang_meet(c, plain, longs);
    zero = lang_meet(c, zero, exacts);
    broken = lang_numbers(c, lang_minus(c, broken, number_integers(c)));
    return c->failed ? NULL : lang_join(c, lang_join(c, plain, zero), broken);
}

const struct dfa *number_written(struct schema *c, const struct dfa *d)
{
    if (!c->number_form)
        c->number_form = form(c);
    if (!c->number_form)
        return NULL;
    if (d == c->all_numbers) {
        const struct dfa *free_form = lang_regex(c, with_exponent);
        return free_form ? lang_join(c, c->number_form, free_form) : NULL;
    }
    return lang_join(c, lang_meet(c, d, c->number_form), lang_meet(c, d, c->constants));
}

bool number_constant(struct schema *c, const json_t *v)
{
    struct decimal d;
    char text[2 * MAX_DIGITS + 4];
    if (!decimal_of(v, &d))
        return true; /* number_compare has said so */
    int n = snprintf(text, sizeof text, "%s%.*s%s%.*s", d.negative ? "-" : "", (int)d.n_whole, d.whole,
                     d.n_frac ? "." : "", (int)d.n_frac, d.frac);
    const struct dfa *one = lang_own(c, dfa_literal((struct str){ text, (size_t)n }, &c->err));
    c->constants = lang_join(c, c->constants, one);
    return !c->failed;
}

/* ---- keywords ---- */

static bool bound(struct schema *c, const json_t *s, const char *keyword, unsigned orders, const struct dfa **d)
{
    const json_t *v = json_object_get(s, keyword);
    if (!v || json_is_boolean(v))
        return true;
    if (!json_is_number(v))
        return schema_refuse(c, ERR_INVALID, s, keyword, "must be a number");
    c->at = s;
    c->keyword = keyword;
    if (strcmp(keyword, "multipleOf") != 0) {
        *d = lang_meet(c, *d, number_compare(c, v, orders));
        return !c->failed;
    }
    /* Last, so that bounds have made it small: a step alone may need many states. */
    const struct dfa *part = multiple_of(c, v);
    if (part)
        *d = *d == c->all_numbers ? lang_numbers(c, part) : lang_meet(c, *d, part);
    return !c->failed;
}

/* Draft 4 and OpenAPI 3.0 have exclusiveMinimum: true beside minimum. */
static bool is_set(const json_t *s, const char *keyword)
{
    return json_is_true(json_object_get(s, keyword));
}

const struct shape *schema_number(struct schema *c, const json_t *s)
{
    struct shape *out = schema_alloc(c, 1, sizeof *out);
    const struct dfa *d = c->all_numbers;
    unsigned min = NUMBER_MORE | (is_set(s, "exclusiveMinimum") ? 0u : NUMBER_EQUAL);
    unsigned max = NUMBER_LESS | (is_set(s, "exclusiveMaximum") ? 0u : NUMBER_EQUAL);
    const char *format = json_string_value(json_object_get(s, "format"));
    if (!out || !bound(c, s, "minimum", min, &d) || !bound(c, s, "maximum", max, &d) ||
        !bound(c, s, "exclusiveMinimum", NUMBER_MORE, &d) || !bound(c, s, "exclusiveMaximum", NUMBER_LESS, &d) ||
        !bound(c, s, "multipleOf", 0, &d))
        return NULL;
    if (format && strcmp(format, "int32") == 0)
        d = lang_meet(c, d, within(c, INT32_MIN, INT32_MAX));
    else if (format && strcmp(format, "int64") == 0)
        d = lang_meet(c, d, within(c, INT64_MIN, INT64_MAX));
    *out = *c->any;
    out->number = d;
    return c->failed ? NULL : out;
}
