#include "runtime/model/rope.h"

#include <inttypes.h>
#include <math.h>

#include "runtime/base/mem.h"

/* The pair that turns `times` times within the original context, as a real number. */
static double pair_turning(const struct hparams *hp, double base, double times)
{
    const double tau = 6.283185307179586476925286766559;
    return hp->n_rot * log(hp->n_ctx_orig / (times * tau)) / (2.0 * log(base));
}

struct ramp {
    double low, high;
};

static struct ramp yarn_ramp(const struct hparams *hp, double base)
{
    double low = floor(pair_turning(hp, base, (double)hp->yarn_beta_fast));
    double high = ceil(pair_turning(hp, base, (double)hp->yarn_beta_slow));
    return (struct ramp){ fmax(low, 0.0), fmin(high, hp->n_rot - 1.0) };
}

/* Share of the plain frequency in pair i: 1 where it turns often, 0 where it hardly does. */
static double ramp_share(struct ramp r, uint32_t i)
{
    double y = (i - r.low) / fmax(0.001, r.high - r.low);
    return 1.0 - fmin(1.0, fmax(0.0, y));
}

enum err_code rope_init(struct rope *r, const struct hparams *hp, const float *factors, bool local,
                        struct err *e)
{
    bool scaled = !(local && hp->arch->local_rope);
    double base = (double)(local ? hp->rope_base_local : hp->rope_base);
    double slow = scaled ? 1.0 / (double)hp->rope_factor : 1.0;
    double ext = scaled ? (double)hp->yarn_ext : 0.0;
    struct ramp ramp = yarn_ramp(hp, base);
    *r = (struct rope){ .scale = scaled ? (double)hp->rope_attn : 1.0 };
    uint32_t n = hp->rope ? hp->n_rot / 2 : 0;
    r->freq = mem_zero(n, sizeof *r->freq);
    if (!r->freq)
        return err_no_memory(e, n * sizeof *r->freq, "RoPE's frequencies");
    r->n_pairs = n;
    for (uint32_t i = 0; i < n; i++) {
        double divisor = factors && scaled ? (double)factors[i] : 1.0;
        double plain = pow(base, -2.0 * i / hp->n_rot) / divisor;
        double share = ext != 0.0 ? ramp_share(ramp, i) * ext : 0.0;
        r->freq[i] = plain * slow * (1.0 - share) + plain * share;
    }
    return ERR_OK;
}

static enum err_code load_factors(const struct gguf *g, const struct gguf_tensor *t, float *out,
                                  size_t n, struct err *e)
{
    enum err_code c = weights_read_vector(g, t, out, n, e);
    for (size_t i = 0; i < n && c == ERR_OK; i++)
        if (!(out[i] > 0.0f && isfinite(out[i])))
            c = err_set(e, ERR_FORMAT, "%s: tensor '%s': element %zu is %g, not a positive number",
                        gguf_name(g, t->file), gguf_quote(t->name).text, i, (double)out[i]);
    return c;
}

enum err_code rope_load(struct rope *r, const struct gguf *g, const struct hparams *hp,
                        const struct weights *w, uint32_t n_ctx, bool local, struct err *e)
{
    const struct gguf_tensor *t = weights_rope_factors(w, hp, n_ctx);
    float *factors = NULL;
    enum err_code c = ERR_OK;
    *r = (struct rope){ 0 };
    if (t) {
        factors = mem_zero(hp->n_rot / 2, sizeof *factors);
        c = factors ? load_factors(g, t, factors, hp->n_rot / 2, e)
                    : err_no_memory(e, hp->n_rot / 2 * sizeof *factors, "RoPE's factors");
    }
    if (c == ERR_OK)
        c = rope_init(r, hp, factors, local, e);
    mem_free(factors);
    return c;
}

void rope_finish(struct rope *r)
{
    mem_free(r->freq);
    *r = (struct rope){ 0 };
}

void rope_at(const struct rope *r, uint32_t position, float *cos_out, float *sin_out)
{
    for (uint32_t i = 0; i < r->n_pairs; i++) {
        double angle = position * r->freq[i];
        cos_out[i] = (float)(cos(angle) * r->scale);
        sin_out[i] = (float)(sin(angle) * r->scale);
    }
}
