/* arch, hparams, weights, budget: what a file's keys and tensors are taken for, family by family. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/budget.h"
#include "runtime/model/hparams.h"
#include "runtime/model/weights.h"
#include "tests/model/gguf_writer.h"

/* A model from a writer: its file, opened, read and bound as far as it goes. */
struct loaded {
    unsigned char *p;
    struct gguf *g;
    struct hparams hp;
    struct weights w;
    enum err_code code;
    struct err e;
};

static struct loaded load_with(struct gguf_writer *w, bool data)
{
    struct loaded l = { 0 };
    size_t n;
    l.p = gw_file(w, data, &n, NULL);
    l.code = gguf_open_memory(l.p, n, n + w->data, &l.g, &l.e);
    gguf_writer_finish(w);
    if (l.code == ERR_OK)
        l.code = hparams_read(l.g, &l.hp, &l.e);
    if (l.code == ERR_OK)
        l.code = weights_bind(l.g, &l.hp, &l.w, &l.e);
    return l;
}

static struct loaded load(struct gguf_writer *w)
{
    return load_with(w, false);
}

static void unload(struct loaded *l)
{
    weights_finish(&l->w);
    gguf_close(l->g);
    mem_free(l->p);
}

static struct loaded load_tiny(const struct tiny *t)
{
    struct gguf_writer w;
    gw_tiny(&w, t);
    return load(&w);
}

static void expect(struct loaded l, enum err_code code, const char *words)
{
    if (l.code != code || (words && !strstr(l.e.text, words)))
        fail_msg("got %s \"%s\", expected %s \"%s\"", err_name(l.code), l.e.text, err_name(code),
                 words ? words : "");
    unload(&l);
}

static void expect_writer(struct gguf_writer *w, enum err_code code, const char *words)
{
    expect(load(w), code, words);
}

/* A tiny llama without `key`, for the test to say it otherwise. */
static struct gguf_writer llama_but(const char *key)
{
    struct gguf_writer w;
    gw_tiny(&w, &(struct tiny){ .arch = "llama", .omit = key });
    return w;
}

/* ---- every family -------------------------------------------------------------------------------- */

static void every_family_binds(void **state)
{
    (void)state;
    assert_int_equal(arch_count(), 8);
    assert_null(arch_at(8));
    assert_null(arch_find(STR("llama4")));
    for (size_t i = 0; i < arch_count(); i++)
        for (int form = 0; form < 4; form++) {
            const char *name = arch_at(i)->name;
            struct loaded l = load_tiny(&(struct tiny){ .arch = name,
                                                        .fused_qkv = form & 1,
                                                        .fused_up = arch_at(i)->gated && form & 2,
                                                        .untied = form & 2,
                                                        .biased = form & 1 });
            if (l.code != ERR_OK)
                fail_msg("%s: %s", name, l.e.text);
            assert_ptr_equal(l.hp.arch, arch_find(str_from(name)));
            assert_int_equal(l.w.n_unused, 0);
            assert_int_equal(l.w.n_layer, 2);
            assert_int_equal(budget_weights(&l.w), gguf_tensor_bytes(l.g));
            bool phi3 = strcmp(name, "phi3") == 0;
            assert_int_equal(l.w.qkv_fused, phi3 || form & 1);
            assert_int_equal(l.w.gate_in_up, phi3 || (arch_at(i)->gated && form & 2));
            bool untied = l.w.t[W_OUTPUT] != NULL;
            assert_ptr_equal(weights_output(&l.w), l.w.t[untied ? W_OUTPUT : W_TOKEN_EMBD]);
            const struct layer_weights *last = &l.w.layer[1];
            assert_int_equal(!last->t[W_GATE], !arch_at(i)->gated || l.w.gate_in_up);
            assert_int_equal(!last->t[W_Q_NORM], !arch_at(i)->qk_norm);
            assert_int_equal(!last->t[W_POST_FFN], !arch_at(i)->sandwich);
            assert_int_equal(!last->t[W_FFN_NORM], arch_at(i)->parallel);
            assert_true(str_is(last->t[W_DOWN]->name, "blk.1.ffn_down.weight"));
            unload(&l);
        }
}

static void what_absent_keys_mean(void **state)
{
    (void)state;
    const struct {
        const char *arch;
        uint32_t n_layer;
        float embd_scale, attn_scale, attn_cap, final_cap, base_local;
        uint32_t window;
        const char *local;
    } rows[] = {
        { "llama", 4, 1, 0.25f, 0, 0, 1e4f, 0, "0000" },
        { "qwen2", 4, 1, 0.25f, 0, 0, 1e4f, 0, "0000" },
        { "phi2", 4, 1, 0.25f, 0, 0, 1e4f, 0, "0000" },
        { "granite", 4, 1, 0.25f, 0, 0, 1e4f, 0, "0000" },
        { "gemma2", 4, 8, 0.25f, 50, 30, 1e4f, 4096, "1010" },
        { "gemma3", 4, 8, 0.25f, 0, 0, 1e4f, 0, "0000" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct loaded l = load_tiny(&(struct tiny){ .arch = rows[i].arch, .n_layer = rows[i].n_layer });
        const struct hparams *hp = &l.hp;
        assert_int_equal(l.code, ERR_OK);
        assert_true(hp->embd_scale == rows[i].embd_scale && hp->attn_scale == rows[i].attn_scale);
        assert_true(hp->attn_cap == rows[i].attn_cap && hp->final_cap == rows[i].final_cap);
        assert_true(hp->rope && hp->rope_base == 1e4f && hp->rope_base_local == rows[i].base_local);
        assert_true(hp->rope_factor == 1 && hp->rope_attn == 1 && hp->yarn_ext == 0);
        assert_true(hp->residual_scale == 1 && hp->logit_scale == 1);
        assert_int_equal(hp->window, rows[i].window);
        for (uint32_t k = 0; k < hp->n_layer; k++)
            assert_int_equal(hp->local[k], rows[i].local[k] - '0');
        assert_true(hp->n_vocab == 40 && hp->n_embd == 64 && hp->n_ff == 96 && hp->n_head == 4);
        assert_true(hp->n_head_kv == 2 && hp->head_k == 16 && hp->head_v == 16 && hp->n_rot == 16);
        assert_true(hp->n_ctx_train == 256 && hp->n_ctx_orig == 256 && hp->norm_eps == 1e-5f);
        unload(&l);
    }
}

static void the_deep_sizes_scale_queries_by_width(void **state)
{
    (void)state;
    struct gguf_writer w;
    gw_tiny(&w, &(struct tiny){ .arch = "gemma2", .n_layer = 46 });
    gw_u32(&w, "{arch}.attention.key_length", 16);
    gw_u32(&w, "{arch}.attention.value_length", 16);
    struct loaded l = load(&w);
    assert_int_equal(l.code, ERR_OK);
    assert_true(l.hp.attn_scale == 0.25f); /* 64 / 4 is 16 as well */
    l.hp = (struct hparams){ 0 };
    unload(&l);
    gw_tiny(&w, &(struct tiny){ .arch = "gemma3", .n_layer = 62 });
    gw_u32(&w, "{arch}.attention.key_length", 64);
    gw_u32(&w, "{arch}.attention.value_length", 64);
    l = load(&w);
    assert_int_equal(l.code, ERR_FORMAT); /* the tensors are of heads of 16 */
    assert_non_null(strstr(l.e.text, "blk.0.attn_q.weight"));
    assert_true(l.hp.attn_scale == 0.25f && l.hp.head_k == 64);
    unload(&l);
}

/* ---- tensors --------------------------------------------------------------------------------------- */

static bool is_optional(const char *arch, const char *name)
{
    size_t n = strlen(name);
    return n > 5 && strcmp(name + n - 5, ".bias") == 0 &&
           (strcmp(arch, "phi2") != 0 || strstr(name, "attn_q") || strstr(name, "attn_k") ||
            strstr(name, "attn_v"));
}

/* Calls `test` with the name of every tensor of the family's tiny model. */
static void for_tensors(const struct tiny *t, void (*test)(const struct tiny *, const char *))
{
    struct loaded l = load_tiny(t);
    char name[GGUF_MAX_NAME_BYTES + 1];
    assert_int_equal(l.code, ERR_OK);
    for (size_t i = 0; i < gguf_n_tensors(l.g); i++) {
        struct str s = gguf_tensor_at(l.g, i)->name;
        snprintf(name, sizeof name, "%.*s", (int)s.n, s.p);
        test(t, name);
    }
    unload(&l);
}

static void test_missing(const struct tiny *t, const char *name)
{
    struct tiny without = *t;
    char words[128];
    without.omit = name;
    snprintf(words, sizeof words, "tensor '%s' is missing", name);
    if (strcmp(name, "output.weight") == 0 || is_optional(t->arch, name))
        expect(load_tiny(&without), ERR_OK, NULL);
    else if (strstr(name, "attn_qkv.weight")) /* then the three are asked for */
        expect(load_tiny(&without), t->biased || strcmp(t->arch, "phi2") == 0 ? ERR_UNSUPPORTED
                                                                              : ERR_FORMAT, "attn_q");
    else
        expect(load_tiny(&without), ERR_FORMAT, words);
}

static void test_shape(const struct tiny *t, const char *name)
{
    struct tiny wrong = *t;
    char words[128];
    wrong.reshape = name;
    snprintf(words, sizeof words, "tensor '%s' has shape [", name);
    expect(load_tiny(&wrong), ERR_FORMAT, words);
}

static void test_type(const struct tiny *t, const char *name)
{
    const struct {
        uint32_t id;
        const char *words;
    } rows[] = { { 26, "type I32" }, { 99, "type 99" }, { 4, "type Q4_2" } };
    for (size_t i = 0; i < 3; i++) {
        struct tiny wrong = *t;
        char words[128];
        wrong.retype = name;
        wrong.type = rows[i].id;
        snprintf(words, sizeof words, "tensor '%s' has %s", name, rows[i].words);
        expect(load_tiny(&wrong), ERR_UNSUPPORTED, words);
    }
}

static void every_tensor_is_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < arch_count(); i++)
        for (int form = 0; form < 2; form++) {
            struct tiny t = { .arch = arch_at(i)->name, .untied = form, .biased = form,
                              .fused_qkv = form };
            for_tensors(&t, test_missing);
            for_tensors(&t, test_shape);
            for_tensors(&t, test_type);
        }
}

static void matrices_may_be_of_every_type_and_vectors_not(void **state)
{
    (void)state;
    struct loaded l;
    expect(load_tiny(&(struct tiny){ .arch = "llama", .matrix_type = TENSOR_Q5_1 }), ERR_OK, NULL);
    expect(load_tiny(&(struct tiny){ .arch = "llama", .matrix_type = TENSOR_BF16 }), ERR_OK, NULL);
    expect(load_tiny(&(struct tiny){ .arch = "llama", .matrix_type = 20 }), ERR_UNSUPPORTED,
           "tensor 'token_embd.weight' has type IQ4_NL");
    expect(load_tiny(&(struct tiny){ .arch = "llama", .retype = "blk.1.ffn_norm.weight",
                                     .type = TENSOR_Q8_0 }),
           ERR_UNSUPPORTED, "type Q8_0, which this build does not run for a vector");
    const uint32_t plain[] = { TENSOR_F32, TENSOR_F16, TENSOR_BF16 };
    float x[64];
    for (size_t i = 0; i < 3; i++) {
        struct gguf_writer w;
        gw_tiny(&w, &(struct tiny){ .arch = "llama", .retype = "blk.1.ffn_norm.weight",
                                    .type = plain[i] });
        l = load_with(&w, true);
        const struct gguf_tensor *t = l.w.layer[1].t[W_FFN_NORM];
        assert_int_equal(weights_read_vector(l.g, t, x, 64, &l.e), ERR_OK);
        unsigned char raw[256];
        float want[64];
        assert_int_equal(gguf_read_tensor(l.g, t, 0, (size_t)t->bytes, raw, &l.e), ERR_OK);
        t->type->decode(raw, 64, want);
        assert_memory_equal(x, want, sizeof x);
        assert_int_equal(weights_read_vector(l.g, t, x, 63, &l.e), ERR_INVALID);
        unload(&l);
    }
}

static void tensors_without_a_place_are_refused_or_counted(void **state)
{
    (void)state;
    struct gguf_writer w = llama_but(NULL);
    gw_tensor(&w, "blk.0.attn_q_norm.weight", TENSOR_F32, (const uint64_t[4]){ 16 });
    expect_writer(&w, ERR_UNSUPPORTED,
                  "tensor 'blk.0.attn_q_norm.weight' has no place here in family 'llama'");
    gw_tiny(&w, &(struct tiny){ .arch = "phi2" });
    gw_tensor(&w, "blk.0.ffn_gate.weight", TENSOR_F32, (const uint64_t[4]){ 64, 96 });
    expect_writer(&w, ERR_UNSUPPORTED, "blk.0.ffn_gate.weight");
    gw_tiny(&w, &(struct tiny){ .arch = "llama", .fused_qkv = true });
    gw_tensor(&w, "blk.1.attn_k.bias", TENSOR_F32, (const uint64_t[4]){ 32 });
    expect_writer(&w, ERR_UNSUPPORTED, "blk.1.attn_k.bias");
    gw_tiny(&w, &(struct tiny){ .arch = "llama", .fused_up = true, .omit = "blk.1.ffn_up.weight" });
    gw_tensor(&w, "blk.1.ffn_up.weight", TENSOR_F32, (const uint64_t[4]){ 64, 96 });
    gw_tensor(&w, "blk.1.ffn_gate.weight", TENSOR_F32, (const uint64_t[4]){ 64, 96 });
    expect_writer(&w, ERR_UNSUPPORTED, "'blk.1' are fused otherwise than those of 'blk.0'");
    w = llama_but(NULL);
    gw_tensor(&w, "blk.0.something", 26, (const uint64_t[4]){ 16 });
    gw_tensor(&w, "blk.2.attn_norm.weight", 99, (const uint64_t[4]){ 16 });
    struct loaded l = load(&w);
    assert_int_equal(l.code, ERR_OK);
    assert_int_equal(l.w.n_unused, 2);
    unload(&l);
    w = llama_but(NULL);
    gw_tensor(&w, "rope_factors_long.weight", TENSOR_F32, (const uint64_t[4]){ 8 });
    expect_writer(&w, ERR_FORMAT, "one of the two is missing");
    w = llama_but(NULL);
    gw_tensor(&w, "rope_freqs.weight", TENSOR_F32, (const uint64_t[4]){ 16 });
    expect_writer(&w, ERR_FORMAT, "'rope_freqs.weight' has shape [16, 1, 1, 1]; expected [8, 1]");
}

/* ---- keys ------------------------------------------------------------------------------------------- */

static void missing_keys_are_named(void **state)
{
    (void)state;
    const char *const keys[] = { "{arch}.context_length", "{arch}.embedding_length",
                                 "{arch}.block_count", "{arch}.feed_forward_length",
                                 "{arch}.attention.head_count",
                                 "{arch}.attention.layer_norm_rms_epsilon" };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char words[96];
        snprintf(words, sizeof words, "key 'llama%s' is missing", keys[i] + 6);
        struct gguf_writer w = llama_but(keys[i]);
        expect_writer(&w, ERR_FORMAT, words);
    }
    struct gguf_writer w = llama_but("{arch}.attention.head_count_kv");
    expect_writer(&w, ERR_FORMAT, "blk.0.attn_k.weight"); /* then it is n_head */
    gguf_writer_init(&w, NULL);
    expect_writer(&w, ERR_FORMAT, "key 'general.architecture' is missing");
    gw_tiny(&w, &(struct tiny){ .arch = "phi2", .omit = "{arch}.attention.layer_norm_epsilon" });
    expect_writer(&w, ERR_FORMAT, "key 'phi2.attention.layer_norm_epsilon' is missing");
}

static void sizes_out_of_range_are_named(void **state)
{
    (void)state;
    const struct {
        const char *key;
        uint32_t value;
        const char *words;
    } rows[] = {
        { "{arch}.context_length", 0, "'llama.context_length' is 0, not within 1 to" },
        { "{arch}.context_length", UINT32_MAX, "'llama.context_length' is 4294967295" },
        { "{arch}.embedding_length", 0, "'llama.embedding_length' is 0" },
        { "{arch}.embedding_length", 1u << 18, "'llama.embedding_length' is 262144" },
        { "{arch}.embedding_length", 66, "'llama.attention.head_count' does not divide" },
        { "{arch}.block_count", 0, "'llama.block_count' is 0, not within 1 to 512" },
        { "{arch}.block_count", 513, "'llama.block_count' is 513" },
        { "{arch}.block_count", 3, "tensor 'blk.2.attn_norm.weight' is missing" },
        { "{arch}.feed_forward_length", 0, "'llama.feed_forward_length' is 0" },
        { "{arch}.feed_forward_length", UINT32_MAX, "'llama.feed_forward_length'" },
        { "{arch}.attention.head_count", 0, "'llama.attention.head_count' is 0" },
        { "{arch}.attention.head_count", 1 << 16, "'llama.attention.head_count' is 65536" },
        { "{arch}.attention.head_count_kv", 0, "'llama.attention.head_count_kv' is 0" },
        { "{arch}.attention.head_count_kv", 3, "'llama.attention.head_count_kv' does not divide" },
        { "{arch}.attention.head_count_kv", 8, "'llama.attention.head_count_kv' is 8" },
        { "{arch}.attention.key_length", 0, "'llama.attention.key_length' is 0" },
        { "{arch}.attention.key_length", 4096, "'llama.attention.key_length' is 4096" },
        { "{arch}.attention.value_length", 0, "'llama.attention.value_length' is 0" },
        { "{arch}.rope.dimension_count", 0, "'llama.rope.dimension_count' is 0" },
        { "{arch}.rope.dimension_count", 17, "'llama.rope.dimension_count' is 17, not within 2 to 16" },
        { "{arch}.rope.dimension_count", 7, "'llama.rope.dimension_count' is odd" },
        { "{arch}.attention.sliding_window_pattern", 1000, "sliding_window_pattern' is 1000" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = llama_but(rows[i].key);
        gw_u32(&w, rows[i].key, rows[i].value);
        expect_writer(&w, ERR_FORMAT, rows[i].words);
    }
}

static void numbers_out_of_range_are_named(void **state)
{
    (void)state;
    const struct {
        const char *key;
        float value;
    } rows[] = {
        { "{arch}.attention.layer_norm_rms_epsilon", -1e-5f },
        { "{arch}.attention.layer_norm_rms_epsilon", NAN },
        { "{arch}.rope.freq_base", 0.0f },
        { "{arch}.rope.freq_base", 1.0f },
        { "{arch}.rope.freq_base", INFINITY },
        { "{arch}.rope.scaling.factor", -2.0f },
        { "{arch}.rope.scaling.factor", 1e-9f },
        { "{arch}.rope.scaling.attn_factor", 0.0f },
        { "{arch}.attn_logit_softcapping", -1.0f },
        { "{arch}.final_logit_softcapping", NAN },
        { "{arch}.logit_scale", INFINITY },
        { "{arch}.embedding_scale", NAN },
        { "{arch}.residual_scale", 1e9f },
        { "{arch}.attention.scale", -INFINITY },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char words[96];
        struct gguf_writer w = llama_but(rows[i].key);
        gw_f32(&w, rows[i].key, rows[i].value);
        snprintf(words, sizeof words, "key 'llama%s' is ", rows[i].key + 6);
        expect_writer(&w, ERR_FORMAT, words);
    }
}

static void keys_of_the_wrong_type_are_named(void **state)
{
    (void)state;
    struct gguf_writer w = llama_but("{arch}.embedding_length");
    gw_str(&w, "{arch}.embedding_length", "64");
    expect_writer(&w, ERR_FORMAT, "memory: key 'llama.embedding_length' must be an integer, but is string");
    w = llama_but("{arch}.context_length");
    gw_f32(&w, "{arch}.context_length", 256);
    expect_writer(&w, ERR_FORMAT, "key 'llama.context_length' must be an integer, but is f32");
    w = llama_but(NULL);
    gw_u32(&w, "{arch}.rope.scaling.type", 1);
    expect_writer(&w, ERR_FORMAT, "key 'llama.rope.scaling.type' must be a string");
    w = llama_but("{arch}.block_count");
    gw_key(&w, "{arch}.block_count", GGUF_U64);
    gw_int(&w.keys, 2, 8);
    expect_writer(&w, ERR_OK, NULL);
}

static void what_we_do_not_run_is_refused_by_name(void **state)
{
    (void)state;
    struct gguf_writer w;
    gguf_writer_init(&w, "mamba\x1B");
    expect_writer(&w, ERR_UNSUPPORTED, "model family 'mamba?' is not one that this build runs");
    w = llama_but(NULL);
    buf_clear(&w.tensors);
    w.n_tensors = 0;
    w.data = 0;
    expect_writer(&w, ERR_UNSUPPORTED, "but no weights");
    w = llama_but(NULL);
    gw_u32(&w, "{arch}.expert_count", 8);
    expect_writer(&w, ERR_UNSUPPORTED, "key 'llama.expert_count' asks for a mixture of experts");
    w = llama_but(NULL);
    gw_u32(&w, "{arch}.expert_count", 0);
    expect_writer(&w, ERR_OK, NULL);
    w = llama_but(NULL);
    gw_bool(&w, "{arch}.attention.causal", false);
    expect_writer(&w, ERR_UNSUPPORTED, "llama.attention.causal");
    w = llama_but(NULL);
    gw_str(&w, "general.type", "adapter");
    expect_writer(&w, ERR_UNSUPPORTED, "general.type");
    w = llama_but(NULL);
    gw_str(&w, "{arch}.rope.scaling.type", "su");
    expect_writer(&w, ERR_UNSUPPORTED, "llama.rope.scaling.type");
}

static void per_layer_arrays_must_agree(void **state)
{
    (void)state;
    const struct {
        uint32_t n;
        int32_t second;
        enum err_code code;
        const char *words;
    } rows[] = { { 2, 4, ERR_OK, NULL },
                 { 3, 4, ERR_OK, NULL },
                 { 2, 2, ERR_UNSUPPORTED, "'llama.attention.head_count' differs from layer to layer" },
                 { 1, 0, ERR_FORMAT, "an array of one for each layer" },
                 { 0, 0, ERR_FORMAT, "an array of one for each layer" } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = llama_but("{arch}.attention.head_count");
        gw_array(&w, "{arch}.attention.head_count", GGUF_I32, rows[i].n);
        for (uint32_t k = 0; k < rows[i].n; k++)
            gw_int(&w.keys, (uint32_t)(k ? rows[i].second : 4), 4);
        expect_writer(&w, rows[i].code, rows[i].words);
    }
    struct gguf_writer w = llama_but("{arch}.feed_forward_length");
    gw_array(&w, "{arch}.feed_forward_length", GGUF_I64, 2);
    gw_int(&w.keys, UINT64_MAX, 8);
    gw_int(&w.keys, UINT64_MAX, 8);
    expect_writer(&w, ERR_FORMAT, "llama.feed_forward_length");
}

static void vocabularies_are_found(void **state)
{
    (void)state;
    struct loaded l = load_tiny(&(struct tiny){ .arch = "llama" });
    struct gguf_writer w;
    struct hparams hp;
    struct gguf *g;
    size_t n;
    unload(&l);
    for (int form = 0; form < 3; form++) {
        gw_tiny(&w, &(struct tiny){ .arch = "qwen2", .omit = form == 2 ? "token_embd.weight" : "" });
        unsigned char *p = gw_file(&w, true, &n, NULL), *found = NULL;
        for (size_t i = 0; i + 21 < n && !found; i++)
            if (memcmp(p + i, "tokenizer.ggml.tokens", 21) == 0)
                found = p + i;
        assert_non_null(found);
        found[0] = 'T'; /* no tokens any more */
        assert_int_equal(gguf_open_memory(p, n, n, &g, &l.e), ERR_OK);
        enum err_code c = hparams_read(g, &hp, &l.e);
        assert_int_equal(c, form == 2 ? ERR_FORMAT : ERR_OK);
        assert_true(form == 2 ? strstr(l.e.text, "qwen2.vocab_size") != NULL : hp.n_vocab == 40);
        gguf_close(g);
        mem_free(p);
        gguf_writer_finish(&w);
    }
}

/* ---- windows, scales, rope ---------------------------------------------------------------------------- */

static struct loaded load_pattern(const char *arch, uint32_t window, int period)
{
    struct gguf_writer w;
    gw_tiny(&w, &(struct tiny){ .arch = arch, .n_layer = 7 });
    gw_u32(&w, "{arch}.attention.sliding_window", window);
    if (period >= 0)
        gw_u32(&w, "{arch}.attention.sliding_window_pattern", (uint32_t)period);
    return load(&w);
}

static void windows_follow_their_pattern(void **state)
{
    (void)state;
    const struct {
        const char *arch;
        uint32_t window;
        int period; /* -1: no key */
        const char *local;
    } rows[] = {
        { "llama", 32, -1, "1111111" },  { "llama", 32, 3, "1101101" },
        { "llama", 0, 3, "0000000" },    { "gemma2", 32, -1, "1010101" },
        { "gemma2", 32, 1, "0000000" },  { "gemma2", 32, 0, "1111111" },
        { "gemma2", 0, -1, "0000000" },  { "gemma3", 32, -1, "1111101" },
        { "phi3", 2047, -1, "1111111" }, { "qwen3", UINT32_MAX, -1, "1111111" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct loaded l = load_pattern(rows[i].arch, rows[i].window, rows[i].period);
        assert_int_equal(l.code, ERR_OK);
        assert_int_equal(l.hp.window, rows[i].window);
        for (uint32_t k = 0; k < 7; k++)
            assert_int_equal(l.hp.local[k], rows[i].local[k] - '0');
        unload(&l);
    }
    for (uint32_t n = 1; n <= 2; n++) {
        struct gguf_writer w = llama_but(NULL);
        gw_u32(&w, "{arch}.attention.sliding_window", 8);
        gw_array(&w, "{arch}.attention.sliding_window_pattern", GGUF_BOOL, n);
        gw_int(&w.keys, 0x0100, (int)n); /* false, true */
        struct loaded l = load(&w);
        assert_int_equal(l.code, n == 2 ? ERR_OK : ERR_FORMAT);
        assert_true(n == 1 || (!l.hp.local[0] && l.hp.local[1]));
        unload(&l);
    }
}

static void multipliers_are_read_and_zero_is_absent(void **state)
{
    (void)state;
    for (int zero = 0; zero < 2; zero++) {
        struct gguf_writer w;
        gw_tiny(&w, &(struct tiny){ .arch = "granite" });
        gw_f32(&w, "{arch}.embedding_scale", zero ? 0 : 12.0f);
        gw_f32(&w, "{arch}.residual_scale", zero ? 0 : 0.22f);
        gw_f32(&w, "{arch}.logit_scale", zero ? 0 : 8.0f);
        gw_f32(&w, "{arch}.attention.scale", zero ? 0 : 0.015625f);
        gw_bool(&w, "{arch}.rope.scaling.finetuned", zero);
        struct loaded l = load(&w);
        assert_int_equal(l.code, ERR_OK);
        assert_true(l.hp.embd_scale == (zero ? 1 : 12.0f));
        assert_true(l.hp.residual_scale == (zero ? 1 : 0.22f));
        assert_true(l.hp.logit_scale == (zero ? 1 : 8.0f));
        assert_true(l.hp.attn_scale == (zero ? 0.25f : 0.015625f));
        assert_int_equal(l.hp.rope, zero);
        unload(&l);
    }
    struct gguf_writer w = llama_but(NULL);
    gw_bool(&w, "{arch}.rope.scaling.finetuned", false); /* says nothing elsewhere */
    struct loaded l = load(&w);
    assert_true(l.code == ERR_OK && l.hp.rope);
    unload(&l);
}

static void rope_scaling_is_read(void **state)
{
    (void)state;
    const float yarn = 1.0f + 0.1f * logf(4.0f);
    const struct {
        const char *type;
        float factor, attn, yarn_attn, log_mul; /* 0: no key */
        float want_factor, want_attn, want_ext;
    } rows[] = {
        { NULL, 0, 0, 0, 0, 1, 1, 0 },
        { NULL, 8, 0, 0, 0, 8, 1, 0 },
        { "linear", 2, 1.5f, 0, 0, 2, 1.5f, 0 },
        { "none", 2, 0, 0, 0, 1, 1, 0 },
        { "longrope", 0, 1.19f, 0, 0, 1, 1.19f, 0 },
        { "yarn", 4, 0, 0, 0, 4, yarn, 1 },
        { "yarn", 4, 2, 0, 0, 4, 2 * yarn, 1 },
        { "yarn", 4, 0, 0.5f, 0, 4, 0.5f, 1 },
        { "yarn", 4, 0, 0, 1, 4, 1, 1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gguf_writer w = llama_but(NULL);
        const struct {
            const char *key;
            float v;
        } keys[] = { { "{arch}.rope.scaling.factor", rows[i].factor },
                     { "{arch}.rope.scaling.attn_factor", rows[i].attn },
                     { "{arch}.rope.scaling.yarn_attn_factor", rows[i].yarn_attn },
                     { "{arch}.rope.scaling.yarn_log_multiplier", rows[i].log_mul } };
        if (rows[i].type)
            gw_str(&w, "{arch}.rope.scaling.type", rows[i].type);
        for (size_t k = 0; k < 4; k++)
            if (keys[k].v != 0)
                gw_f32(&w, keys[k].key, keys[k].v);
        struct loaded l = load(&w);
        assert_int_equal(l.code, ERR_OK);
        assert_true(l.hp.rope_factor == rows[i].want_factor && l.hp.yarn_ext == rows[i].want_ext);
        assert_true(fabsf(l.hp.rope_attn - rows[i].want_attn) < 1e-6f);
        unload(&l);
    }
    struct gguf_writer w = llama_but(NULL); /* the key's old name */
    gw_f32(&w, "{arch}.rope.scale_linear", 3.0f);
    struct loaded l = load(&w);
    assert_true(l.code == ERR_OK && l.hp.rope_factor == 3.0f);
    unload(&l);
}

/* ---- budget, memory ------------------------------------------------------------------------------------ */

static void budgets_add_up(void **state)
{
    (void)state;
    const struct tensor_type *f16 = tensor_type_find(TENSOR_F16), *f32 = tensor_type_find(TENSOR_F32),
                             *q8 = tensor_type_find(TENSOR_Q8_0);
    struct loaded l = load_pattern("gemma2", 32, -1); /* 4 local layers of 7, 2 kv heads of 16 */
    struct budget_kv b = budget_kv_token(&l.hp, f16, f16);
    assert_int_equal(b.full, 3 * 2 * (32 + 32));
    assert_int_equal(b.local, 4 * 2 * (32 + 32));
    b = budget_kv_token(&l.hp, f32, q8);
    assert_int_equal(b.full, 3 * 2 * (64 + 34)); /* half a block of q8_0 takes a whole one's room */
    assert_int_equal(budget_kv(&l.hp, f16, f16, 1000, 3), 7 * 2 * 64 * 3000);
    assert_true(budget_kv(&l.hp, f16, f16, UINT64_MAX, 3) == UINT64_MAX);
    assert_int_equal(budget_weights(&l.w), gguf_tensor_bytes(l.g));
    unload(&l);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct loaded l = load_tiny(&(struct tiny){ .arch = "llama" });
    weights_finish(&l.w);
    uint64_t live = mem_live();
    mem_fail_after(1, true);
    assert_int_equal(weights_bind(l.g, &l.hp, &l.w, &l.e), ERR_NO_MEMORY);
    mem_fail_after(0, false);
    weights_finish(&l.w);
    assert_int_equal(mem_live(), live);
    uint64_t count = mem_count();
    assert_int_equal(weights_bind(l.g, &l.hp, &l.w, &l.e), ERR_OK);
    assert_int_equal(mem_count() - count, 1);
    unload(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_binds),
        cmocka_unit_test(what_absent_keys_mean),
        cmocka_unit_test(the_deep_sizes_scale_queries_by_width),
        cmocka_unit_test(every_tensor_is_checked),
        cmocka_unit_test(matrices_may_be_of_every_type_and_vectors_not),
        cmocka_unit_test(tensors_without_a_place_are_refused_or_counted),
        cmocka_unit_test(missing_keys_are_named),
        cmocka_unit_test(sizes_out_of_range_are_named),
        cmocka_unit_test(numbers_out_of_range_are_named),
        cmocka_unit_test(keys_of_the_wrong_type_are_named),
        cmocka_unit_test(what_we_do_not_run_is_refused_by_name),
        cmocka_unit_test(per_layer_arrays_must_agree),
        cmocka_unit_test(vocabularies_are_found),
        cmocka_unit_test(windows_follow_their_pattern),
        cmocka_unit_test(multipliers_are_read_and_zero_is_absent),
        cmocka_unit_test(rope_scaling_is_read),
        cmocka_unit_test(budgets_add_up),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
