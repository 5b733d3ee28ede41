/* seeds_gguf FOLDER: writes the seeds of fuzz_gguf, headers of tiny models of every family. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "tests/model/gguf_writer.h"

static int save(const char *folder, const char *name, const struct gguf_writer *w, bool with_data)
{
    char path[512];
    size_t n = 0;
    unsigned char *p = gw_file(w, with_data, &n, NULL);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    bool good = f && fwrite(p, 1, n, f) == n;
    good = f && fclose(f) == 0 && good;
    mem_free(p);
    if (!good)
        fprintf(stderr, "cannot write %s\n", path);
    return good ? 0 : 1;
}

/* Every optional key that changes a plan. */
static void add_keys(struct gguf_writer *w)
{
    static const char *const numbers[] = {
        "embedding_scale", "residual_scale", "logit_scale", "attention.scale",
        "attn_logit_softcapping", "final_logit_softcapping", "rope.freq_base",
        "rope.freq_base_swa", "rope.scaling.factor", "rope.scaling.attn_factor",
        "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_log_multiplier", "rope.scaling.yarn_ext_factor",
    };
    char key[96];
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        snprintf(key, sizeof key, "{arch}.%s", numbers[i]);
        gw_f32(w, key, i == 6 || i == 7 ? 10000.0f : 1.0f);
    }
    gw_str(w, "{arch}.rope.scaling.type", "yarn");
    gw_u32(w, "{arch}.rope.dimension_count", 16);
    gw_u32(w, "{arch}.attention.key_length", 16);
    gw_u32(w, "{arch}.attention.value_length", 16);
    gw_u32(w, "{arch}.attention.sliding_window", 32);
    gw_u32(w, "{arch}.rope.scaling.original_context_length", 64);
    gw_array(w, "{arch}.attention.sliding_window_pattern", GGUF_BOOL, 2);
    gw_int(&w->keys, 1, 2);
    gw_u32(w, "general.alignment", 32);
}

static int save_types(const char *folder)
{
    struct gguf_writer w;
    char key[16];
    gguf_writer_init(&w, NULL);
    w.version = 2;
    for (uint32_t t = 0; t < GGUF_TYPE_COUNT; t++) {
        if (t == GGUF_STRING || t == GGUF_ARRAY)
            continue;
        snprintf(key, sizeof key, "v%u", t);
        gw_key(&w, key, t);
        gw_int(&w.keys, 1, (const int[]){ 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 }[t]);
        snprintf(key, sizeof key, "a%u", t);
        gw_array(&w, key, t, 1);
        gw_int(&w.keys, 1, (const int[]){ 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 }[t]);
    }
    for (size_t i = 0; i < tensor_type_count(); i++) {
        const struct tensor_type *t = tensor_type_at(i);
        gw_tensor(&w, t->name, t->id, (const uint64_t[4]){ t->block_len ? t->block_len : 1 });
    }
    int rc = save(folder, "types", &w, true);
    gguf_writer_finish(&w);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct tiny models[] = {
        { .arch = "llama", .n_layer = 1 },
        { .arch = "llama", .n_layer = 1, .fused_qkv = true, .fused_up = true, .untied = true },
        { .arch = "granite", .n_layer = 1 },
        { .arch = "qwen2", .n_layer = 1, .biased = true, .matrix_type = TENSOR_Q4_0 },
        { .arch = "qwen3", .n_layer = 1, .matrix_type = TENSOR_Q8_0 },
        { .arch = "phi3", .n_layer = 1, .matrix_type = TENSOR_F16 },
        { .arch = "phi2", .n_layer = 1 },
        { .arch = "gemma2", .n_layer = 1 },
        { .arch = "gemma3", .n_layer = 1 },
    };
    char name[64];
    int rc = argc == 2 ? save_types(argv[1]) : 2;
    for (size_t i = 0; rc == 0 && i < sizeof models / sizeof models[0]; i++) {
        struct gguf_writer w;
        gw_tiny(&w, &models[i]);
        if (i % 2 == 0)
            add_keys(&w);
        if (i < 6)
            gw_tensor(&w, "rope_factors_long.weight", TENSOR_F32, (const uint64_t[4]){ 8 });
        if (i < 6)
            gw_tensor(&w, "rope_factors_short.weight", TENSOR_F32, (const uint64_t[4]){ 8 });
        snprintf(name, sizeof name, "%s-%zu", models[i].arch, i);
        rc = save(argv[1], name, &w, false);
        gguf_writer_finish(&w);
    }
    if (rc == 2)
        fprintf(stderr, "usage: seeds_gguf FOLDER\n");
    return rc;
}
