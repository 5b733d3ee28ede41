#include "runtime/model/arch.h"

static const struct arch archs[] = {
    { .name = "llama", .rope_pairs = ROPE_NEXT, .gated = true },
    { .name = "granite", .rope_pairs = ROPE_NEXT, .gated = true, .rope_optional = true },
    { .name = "qwen2", .rope_pairs = ROPE_HALF, .gated = true },
    { .name = "qwen3", .rope_pairs = ROPE_HALF, .gated = true, .qk_norm = true },
    { .name = "phi3", .rope_pairs = ROPE_HALF, .gated = true },
    { .name = "phi2",
      .rope_pairs = ROPE_HALF,
      .norm = NORM_LAYER,
      .act = ACT_GELU_TANH,
      .parallel = true,
      .biased = true },
    { .name = "gemma2",
      .rope_pairs = ROPE_HALF,
      .act = ACT_GELU_TANH,
      .gated = true,
      .sandwich = true,
      .embd_sqrt = true,
      .window = 4096,
      .window_period = 2,
      .deep = 46,
      .attn_cap = 50.0f,
      .final_cap = 30.0f },
    { .name = "gemma3",
      .rope_pairs = ROPE_HALF,
      .act = ACT_GELU_TANH,
      .gated = true,
      .qk_norm = true,
      .sandwich = true,
      .embd_sqrt = true,
      .local_rope = true,
      .window_period = 6,
      .deep = 62 },
};

#define N_ARCHS (sizeof archs / sizeof archs[0])

size_t arch_count(void)
{
    return N_ARCHS;
}

const struct arch *arch_at(size_t i)
{
    return i < N_ARCHS ? &archs[i] : NULL;
}

const struct arch *arch_find(struct str name)
{
    for (size_t i = 0; i < N_ARCHS; i++)
        if (str_is(name, archs[i].name))
            return &archs[i];
    return NULL;
}
