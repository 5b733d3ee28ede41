/* "options" of a request -> how its tokens are drawn. */
#include <string.h>
#include <sys/random.h>

#include "daemon/gen.h"
#include "runtime/base/clock.h"
#include "runtime/base/json.h"

/* An option that is a number, and the member of struct sampling that it sets. */
enum to { TO_FLOAT, TO_INT, TO_UINT };
struct number_row {
    enum gen_option option;
    size_t from;
    bool integer; /* of the option */
    enum to to;
    size_t offset;
};
#define FLOAT(key, field)                                                                                              \
    { key, offsetof(struct gen_options, field), false, TO_FLOAT, offsetof(struct sampling, field) }
#define INTEGER(key, field, to)                                                                                        \
    { key, offsetof(struct gen_options, field), true, to, offsetof(struct sampling, field) }
static const struct number_row numbers[] = {
    FLOAT(OPTION_TEMPERATURE, temperature),
    FLOAT(OPTION_DYNATEMP_RANGE, dynatemp_range),
    FLOAT(OPTION_DYNATEMP_EXPONENT, dynatemp_exponent),
    INTEGER(OPTION_TOP_K, top_k, TO_INT),
    FLOAT(OPTION_TOP_P, top_p),
    FLOAT(OPTION_MIN_P, min_p),
    FLOAT(OPTION_TYPICAL_P, typical_p),
    FLOAT(OPTION_TOP_N_SIGMA, top_n_sigma),
    FLOAT(OPTION_XTC_PROBABILITY, xtc_probability),
    FLOAT(OPTION_XTC_THRESHOLD, xtc_threshold),
    FLOAT(OPTION_REPEAT_PENALTY, repeat_penalty),
    INTEGER(OPTION_REPEAT_LAST_N, repeat_last_n, TO_INT),
    FLOAT(OPTION_PRESENCE_PENALTY, presence_penalty),
    FLOAT(OPTION_FREQUENCY_PENALTY, frequency_penalty),
    FLOAT(OPTION_DRY_MULTIPLIER, dry_multiplier),
    FLOAT(OPTION_DRY_BASE, dry_base),
    INTEGER(OPTION_DRY_ALLOWED_LENGTH, dry_allowed_length, TO_INT),
    INTEGER(OPTION_DRY_PENALTY_LAST_N, dry_penalty_last_n, TO_INT),
    INTEGER(OPTION_MIROSTAT, mirostat, TO_UINT),
    FLOAT(OPTION_MIROSTAT_TAU, mirostat_tau),
    FLOAT(OPTION_MIROSTAT_ETA, mirostat_eta),
};

static int32_t clamp(int64_t v)
{
    return v > INT32_MAX ? INT32_MAX : v < -1 ? -1 : (int32_t)v;
}

static void set_number(const struct gen_options *o, const struct number_row *r, struct sampling *s)
{
    const char *from = (const char *)o + r->from;
    char *to = (char *)s + r->offset;
    int32_t integer = r->integer ? clamp(*(const int64_t *)(const void *)from) : 0;
    switch (r->to) {
    case TO_FLOAT:
        *(float *)(void *)to = (float)*(const double *)(const void *)from;
        break;
    case TO_INT:
        *(int32_t *)(void *)to = integer;
        break;
    case TO_UINT:
        *(uint32_t *)(void *)to = (uint32_t)integer;
        break;
    }
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = (uint64_t)clock_wall_ns();
    return seed;
}

/* ---- lists ----------------------------------------------------------------------------------------- */

/* NULL: no memory, but for an empty list. */
static struct str *strings_of(struct gen *g, const json_t *list)
{
    size_t n = json_array_size(list);
    struct str *s = arena_zero(&g->lists, n + 1, sizeof *s);
    for (size_t i = 0; s && i < n; i++) {
        const json_t *v = json_array_get(list, i);
        s[i] = (struct str){ json_string_value(v), json_string_length(v) };
    }
    return s;
}

static int32_t *ids_of(struct gen *g, const json_t *list)
{
    size_t n = json_array_size(list);
    int32_t *id = arena_zero(&g->lists, n + 1, sizeof *id);
    for (size_t i = 0; id && i < n; i++)
        id[i] = (int32_t)json_number_value(json_array_get(list, i));
    return id;
}

static size_t bias_n(const json_t *list)
{
    return json_is_object(list) ? json_object_size(list) : json_array_size(list);
}

static struct token_bias *bias_of(struct gen *g, const json_t *list)
{
    size_t n = bias_n(list);
    struct token_bias *b = arena_zero(&g->lists, n + 1, sizeof *b);
    for (size_t i = 0; b && i < n; i++) {
        int64_t token;
        double bias;
        gen_option_bias(list, i, &token, &bias);
        b[i] = (struct token_bias){ (int32_t)token, (float)bias };
    }
    return b;
}

static const struct str usual_breakers[] = { { "\n", 1 }, { ":", 1 }, { "\"", 1 }, { "*", 1 } };

static enum err_code set_lists(struct gen *g, struct sampling *s, struct run *r, struct err *e)
{
    const struct gen_options *o = &g->req.options;
    bool breakers = option_given(o, OPTION_DRY_SEQUENCE_BREAKERS);
    s->dry_breaker = breakers ? strings_of(g, o->dry_sequence_breakers) : usual_breakers;
    s->n_dry_breaker = breakers ? (uint32_t)json_array_size(o->dry_sequence_breakers)
                                : sizeof usual_breakers / sizeof *usual_breakers;
    s->bias = bias_of(g, o->logit_bias);
    s->n_bias = (uint32_t)bias_n(o->logit_bias);
    r->stop = ids_of(g, o->stop_token_ids);
    r->n_stop = json_array_size(o->stop_token_ids);
    r->ban = ids_of(g, o->banned_tokens);
    r->n_ban = json_array_size(o->banned_tokens);
    r->phrase = strings_of(g, o->banned_strings);
    r->n_phrase = json_array_size(o->banned_strings);
    struct str *order = strings_of(g, o->samplers);
    if (!s->dry_breaker || !s->bias || !r->stop || !r->ban || !r->phrase || !order)
        return err_no_memory(e, bias_n(o->logit_bias) * sizeof *s->bias, "a request's options");
    if (!option_given(o, OPTION_SAMPLERS))
        return ERR_OK;
    enum err_code c = sampling_order(s, order, json_array_size(o->samplers), e);
    return c ? err_prefix(e, "option \"samplers\"") : ERR_OK;
}

enum err_code gen_sampling(struct gen *g, struct err *e)
{
    const struct gen_options *o = &g->req.options;
    struct sampling s = sampling_default();
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (option_given(o, numbers[i].option))
            set_number(o, &numbers[i], &s);
    s.seed = option_given(o, OPTION_SEED) && o->seed != -1 ? (uint64_t)o->seed : random_seed();
    arena_finish(&g->lists);
    struct run *first = &g->choice[0].run;
    enum err_code c = set_lists(g, &s, first, e);
    for (uint32_t i = 0; i < g->req.n && !c; i++, s.seed++) {
        struct run *r = &g->choice[i].run;
        r->stop = first->stop, r->n_stop = first->n_stop;
        r->ban = first->ban, r->n_ban = first->n_ban;
        r->phrase = first->phrase, r->n_phrase = first->n_phrase;
        r->sampling = s;
        r->ignore_eog = option_given(o, OPTION_IGNORE_EOS) && o->ignore_eos;
        r->min_tokens = option_given(o, OPTION_MIN_TOKENS) ? (uint32_t)o->min_tokens : 0;
    }
    return c;
}
