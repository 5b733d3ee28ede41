#include "store/filter.h"

#include <stddef.h>
#include <string.h>

enum test { TEST_HOLDS, TEST_IS, TEST_BEGINS, TEST_LISTS, TEST_NUMBER };
enum unit { UNIT_NONE, UNIT_BYTES, UNIT_COUNT, UNIT_TOKENS };

struct filter_key {
    const char *name;
    enum test test;
    size_t offset; /* of a const char * in struct store_model; of a number: which one */
    enum unit unit;
};

enum number { NUMBER_SIZE, NUMBER_PARAMS, NUMBER_CONTEXT };

static const struct filter_key keys[] = {
    { "name", TEST_HOLDS, offsetof(struct store_model, name), UNIT_NONE },
    { "family", TEST_IS, offsetof(struct store_model, facts.family), UNIT_NONE },
    { "quant", TEST_BEGINS, offsetof(struct store_model, facts.quantization), UNIT_NONE },
    { "cap", TEST_LISTS, offsetof(struct store_model, facts.capabilities), UNIT_NONE },
    { "source", TEST_HOLDS, offsetof(struct store_model, source), UNIT_NONE },
    { "license", TEST_HOLDS, offsetof(struct store_model, facts.license), UNIT_NONE },
    { "size", TEST_NUMBER, NUMBER_SIZE, UNIT_BYTES },
    { "params", TEST_NUMBER, NUMBER_PARAMS, UNIT_COUNT },
    { "context", TEST_NUMBER, NUMBER_CONTEXT, UNIT_TOKENS },
};
#define ALL_KEYS "name, family, quant, cap, source, license, size, params and context"

/* ---- parsing --------------------------------------------------------------------------------- */

static int shown(struct str s)
{
    return (int)(s.n < 80 ? s.n : 80);
}

static const struct filter_key *find_key(struct str name)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (str_ieq(name, str_from(keys[i].name)))
            return &keys[i];
    return NULL;
}

/* 1 for no unit, 0 for an unknown one. KB is 1000 bytes and KiB 1024; 8k tokens are 8192. */
static double unit_value(struct str u, enum unit unit)
{
    static const char letters[] = "KMGT";
    double step = unit == UNIT_TOKENS || (u.n == 3 && (u.p[1] | 0x20) == 'i') ? 1024 : 1000, value = 1;
    if (u.n == 0 || (unit == UNIT_BYTES && str_ieq(u, STR("B"))))
        return 1;
    if (unit == UNIT_COUNT && str_ieq(u, STR("B"))) /* billions */
        return 1e9;
    bool tail = u.n == 1 || (unit == UNIT_BYTES && ((u.n == 2 && (u.p[1] | 0x20) == 'b') ||
                                                    (u.n == 3 && (u.p[1] | 0x20) == 'i' && (u.p[2] | 0x20) == 'b')));
    for (const char *l = letters; tail && *l; l++) {
        value *= step;
        if ((u.p[0] & ~0x20) == *l)
            return value;
    }
    return 0;
}

/* Digits with at most one point, then a unit. */
static bool parse_number(struct str s, enum unit unit, double *out)
{
    double value = 0, place = 0;
    size_t i = 0, digits = 0;
    for (; i < s.n && ((s.p[i] >= '0' && s.p[i] <= '9') || (s.p[i] == '.' && place == 0)); i++) {
        if (s.p[i] == '.') {
            place = 1;
            continue;
        }
        value = value * 10 + (s.p[i] - '0');
        place *= 10;
        digits++;
    }
    double step = unit_value((struct str){ s.p + i, s.n - i }, unit);
    *out = value / (place > 0 ? place : 1) * step;
    return digits > 0 && digits <= 18 && step > 0;
}

/* "<=8192" -> which of less, equal, more it admits; the number follows. ':' is '='. */
static struct str cut_operator(struct str s, unsigned *holds)
{
    size_t n = 1;
    *holds = s.p[0] == '<' ? 1u : s.p[0] == '>' ? 4u : 2u;
    if (*holds != 2 && s.n > 1 && s.p[1] == '=') {
        *holds |= 2;
        n = 2;
    }
    return (struct str){ s.p + n, s.n - n };
}

static enum err_code parse_word(struct str word, struct filter_word *out, struct err *e)
{
    size_t n = 0;
    while (n < word.n && !strchr(":<>=", word.p[n]))
        n++;
    struct str value = { word.p + n, word.n - n };
    const struct filter_key *key = find_key((struct str){ word.p, n });
    *out = (struct filter_word){ .key = &keys[0], .text = word };
    if (n == word.n || (!key && word.p[n] == ':')) /* a name, perhaps with its tag */
        return ERR_OK;
    if (!key)
        return err_set(e, ERR_INVALID, "'%.*s': a filter compares " ALL_KEYS, shown(word), word.p);
    value = cut_operator(value, &out->holds);
    out->key = key;
    out->text = value;
    if (key->test != TEST_NUMBER && out->holds != 2)
        return err_set(e, ERR_INVALID, "'%.*s': of %s only ':' can be asked", shown(word), word.p, key->name);
    if (value.n == 0)
        return err_set(e, ERR_INVALID, "'%.*s': nothing stands behind %s", shown(word), word.p, key->name);
    if (key->test == TEST_NUMBER && !parse_number(value, key->unit, &out->number))
        return err_set(e, ERR_INVALID, "'%.*s': %s wants a number, as 8192, 4GB or 8B", shown(word), word.p,
                       key->name);
    return ERR_OK;
}

enum err_code store_filter_parse(struct str text, struct store_filter *out, struct err *e)
{
    enum err_code code = ERR_OK;
    out->n = 0;
    if (utf8_valid(text.p, text.n) != text.n)
        return err_set(e, ERR_INVALID, "the filter is not valid UTF-8");
    for (size_t at = 0; !code && at < text.n;) {
        size_t end = at;
        while (end < text.n && text.p[end] != ' ')
            end++;
        if (end > at && out->n == FILTER_MAX_WORDS)
            return err_set(e, ERR_TOO_LARGE, "a filter has at most %d words", FILTER_MAX_WORDS);
        if (end > at)
            code = parse_word((struct str){ text.p + at, end - at }, &out->words[out->n++], e);
        at = end + 1;
    }
    return code;
}

/* ---- matching -------------------------------------------------------------------------------- */

static bool begins(struct str s, struct str head)
{
    return s.n >= head.n && str_ieq((struct str){ s.p, head.n }, head);
}

static bool holds(struct str s, struct str part)
{
    for (size_t i = 0; i + part.n <= s.n; i++)
        if (begins((struct str){ s.p + i, s.n - i }, part))
            return true;
    return false;
}

static bool lists(struct str commas, struct str word)
{
    for (size_t at = 0, end; at <= commas.n; at = end + 1) {
        for (end = at; end < commas.n && commas.p[end] != ',';)
            end++;
        if (str_ieq((struct str){ commas.p + at, end - at }, word))
            return true;
    }
    return false;
}

static bool compares(const struct filter_word *w, const struct store_model *m)
{
    const double numbers[] = { [NUMBER_SIZE] = (double)m->size,
                               [NUMBER_PARAMS] = (double)m->facts.n_params,
                               [NUMBER_CONTEXT] = (double)m->facts.context_length };
    double is = numbers[w->key->offset];
    return (w->holds & (is < w->number ? 1u : is > w->number ? 4u : 2u)) != 0;
}

static bool word_matches(const struct filter_word *w, const struct store_model *m)
{
    if (w->key->test == TEST_NUMBER)
        return compares(w, m);
    struct str is = str_from(*(const char *const *)(const void *)((const char *)m + w->key->offset));
    switch (w->key->test) {
    case TEST_IS:
        return str_ieq(is, w->text);
    case TEST_BEGINS:
        return begins(is, w->text);
    case TEST_LISTS:
        return lists(is, w->text);
    default:
        return holds(is, w->text);
    }
}

bool store_filter_matches(const struct store_filter *f, const struct store_model *m)
{
    for (size_t i = 0; i < f->n; i++)
        if (!word_matches(&f->words[i], m))
            return false;
    return true;
}
