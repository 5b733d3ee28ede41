/* Rotary position embedding: the host's float64 table.
 *
 * Pair i of a head turns by position * freq[i]; cos and sin are multiplied by `scale`.
 *   freq[i] = base^(-2i/n_rot) / factor[i]                      (Su et al., arXiv:2104.09864)
 *   linear:   freq[i] / rope_factor                             (Chen et al., arXiv:2306.15595)
 *   YaRN:     between the two by a ramp over the pairs, and scale = 1 + 0.1 ln(rope_factor), where
 *             the file names no other                           (Peng et al., arXiv:2309.00071)
 *   longrope: factor[i] from one of two tensors, chosen once by the session's context, not by the
 *             position (Ding et al., arXiv:2402.13753); Llama 3.1's rope_freqs likewise
 * Angles are reduced and turned in float64, because Vulkan bounds sin and cos only within +-pi.
 * Thread: any. */
#ifndef HEARTH_MODEL_ROPE_H
#define HEARTH_MODEL_ROPE_H

#include "runtime/base/err.h"
#include "runtime/model/hparams.h"
#include "runtime/model/weights.h"

struct rope {
    uint32_t n_pairs; /* n_rot / 2; 0 where the model uses no positions */
    double scale;
    double *freq;     /* [n_pairs], radians a position */
};

/* factors: [n_rot / 2] divisors or NULL. local: for the layers that look through the window. */
enum err_code rope_init(struct rope *r, const struct hparams *hp, const float *factors, bool local,
                        struct err *e);
/* The same with the file's own factors for sessions of n_ctx tokens. */
enum err_code rope_load(struct rope *r, const struct gguf *g, const struct hparams *hp,
                        const struct weights *w, uint32_t n_ctx, bool local, struct err *e);
void rope_finish(struct rope *r);

/* cos_out, sin_out: [n_pairs] */
void rope_at(const struct rope *r, uint32_t position, float *cos_out, float *sin_out);

#endif
