/* What a sampling may say: defaults, the samplers' names and their order, ranges. */
#include <math.h>
#include <string.h>

#include "runtime/engine/runtime.h"

/* By kind; the usual order is this one too. The second name is another that peers know it by. */
static const char *const names[SAMPLERS][2] = {
    [SAMPLER_PENALTIES] = { "penalties", "repeat_penalty" },
    [SAMPLER_DRY] = { "dry", "dry" },
    [SAMPLER_TOP_N_SIGMA] = { "top_n_sigma", "top-n-sigma" },
    [SAMPLER_TOP_K] = { "top_k", "top-k" },
    [SAMPLER_TYPICAL_P] = { "typ_p", "typical_p" },
    [SAMPLER_TOP_P] = { "top_p", "top-p" },
    [SAMPLER_MIN_P] = { "min_p", "min-p" },
    [SAMPLER_XTC] = { "xtc", "xtc" },
    [SAMPLER_TEMPERATURE] = { "temperature", "temp" },
};

struct sampling sampling_default(void)
{
    struct sampling s = {
        .temperature = 0.8f,
        .dynatemp_exponent = 1,
        .top_k = 40,
        .top_p = 0.9f,
        .typical_p = 1,
        .xtc_threshold = 0.1f,
        .dry_base = 1.75f,
        .dry_allowed_length = 2,
        .dry_penalty_last_n = -1,
        .mirostat_tau = 5,
        .mirostat_eta = 0.1f,
        .repeat_penalty = 1,
        .repeat_last_n = 64,
        .n_chain = SAMPLERS,
    };
    for (uint8_t k = 0; k < SAMPLERS; k++)
        s.chain[k] = k;
    return s;
}

static int find(struct str name)
{
    for (int k = 0; k < SAMPLERS; k++)
        if (str_is(name, names[k][0]) || str_is(name, names[k][1]))
            return k;
    return -1;
}

enum err_code sampling_order(struct sampling *s, const struct str *name, size_t n, struct err *e)
{
    uint8_t chain[SAMPLERS];
    for (size_t i = 0; i < n; i++) {
        int k = find(name[i]);
        if (k < 0)
            return err_set(e, ERR_INVALID, "there is no sampler '%.*s'", (int)(name[i].n < 64 ? name[i].n : 64),
                           name[i].p);
        if (memchr(chain, k, i < SAMPLERS ? i : SAMPLERS))
            return err_set(e, ERR_INVALID, "the sampler '%s' stands twice in the order", names[k][0]);
        chain[i] = (uint8_t)k;
    }
    memcpy(s->chain, chain, n);
    s->n_chain = (uint32_t)n;
    return ERR_OK;
}
