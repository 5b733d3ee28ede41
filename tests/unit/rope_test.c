/* rope: the table against the papers' formulas, worked out here in another way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/rope.h"
#include "tests/model/gguf_writer.h"

static struct hparams plain(uint32_t n_rot, float base)
{
    return (struct hparams){ .arch = arch_find(STR("llama")), .n_rot = n_rot, .head_k = n_rot,
                             .rope = true, .rope_base = base, .rope_base_local = base,
                             .rope_factor = 1, .rope_attn = 1, .n_ctx_train = 2048,
                             .n_ctx_orig = 2048, .yarn_beta_fast = 32, .yarn_beta_slow = 1 };
}

static void assert_close(double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(1e-300, fabs(want))))
        fail_msg("%.17g is not %.17g", got, want);
}

static void frequencies_fall_geometrically(void **state)
{
    (void)state;
    const uint32_t widths[] = { 2, 16, 64, 80, 128, 1024 };
    for (size_t k = 0; k < sizeof widths / sizeof widths[0]; k++) {
        struct hparams hp = plain(widths[k], 500000.0f);
        struct rope r;
        assert_int_equal(rope_init(&r, &hp, NULL, false, NULL), ERR_OK);
        assert_int_equal(r.n_pairs, widths[k] / 2);
        for (uint32_t i = 0; i < r.n_pairs; i++)
            assert_close(r.freq[i], exp(-log(500000.0) * 2 * i / widths[k]), 1e-14);
        rope_finish(&r);
    }
}

static void angles_stay_exact_far_away(void **state)
{
    (void)state;
    struct hparams hp = plain(128, 10000.0f);
    struct rope r;
    float c[64], s[64];
    assert_int_equal(rope_init(&r, &hp, NULL, false, NULL), ERR_OK);
    rope_at(&r, 0, c, s);
    for (int i = 0; i < 64; i++)
        assert_true(c[i] == 1.0f && s[i] == 0.0f);
    const uint32_t positions[] = { 1, 4095, 131071, 1000000 };
    for (size_t k = 0; k < 4; k++) {
        rope_at(&r, positions[k], c, s);
        for (int i = 0; i < 64; i++) {
            long double angle = positions[k] * expl(-logl(10000.0L) * i / 64);
            assert_true(fabs((double)c[i] - (double)cosl(angle)) < 1e-7);
            assert_true(fabs((double)s[i] - (double)sinl(angle)) < 1e-7);
        }
    }
    rope_finish(&r);
}

static void linear_scaling_slows_positions(void **state)
{
    (void)state;
    struct hparams hp = plain(64, 10000.0f);
    struct rope one, four;
    float c1[32], s1[32], c4[32], s4[32];
    assert_int_equal(rope_init(&one, &hp, NULL, false, NULL), ERR_OK);
    hp.rope_scaling = ROPE_SCALE_LINEAR;
    hp.rope_factor = 4;
    hp.rope_attn = 2;
    assert_int_equal(rope_init(&four, &hp, NULL, false, NULL), ERR_OK);
    rope_at(&one, 100, c1, s1);
    rope_at(&four, 400, c4, s4);
    for (int i = 0; i < 32; i++)
        assert_true(c4[i] == 2 * c1[i] && s4[i] == 2 * s1[i]);
    rope_finish(&one);
    rope_finish(&four);
}

/* 64 dimensions, base 10000, 2048 positions, factor 4: pairs up to 8 turn more than 32 times and
 * keep their frequency, those from 21 on turn less than once and are slowed by 4. In between the share
 * of the plain frequency falls in 13 equal steps (8 = floor(64 ln(2048/(32*2pi)) / (2 ln 1e4)),
 * 21 = ceil(64 ln(2048/2pi) / (2 ln 1e4))). */
static void yarn_ramps_between_both(void **state)
{
    (void)state;
    struct hparams hp = plain(64, 10000.0f);
    hp.rope_scaling = ROPE_SCALE_YARN;
    hp.rope_factor = 4;
    hp.yarn_ext = 1;
    hp.rope_attn = 1.1386294f;
    struct rope r;
    assert_int_equal(rope_init(&r, &hp, NULL, false, NULL), ERR_OK);
    assert_true(r.scale == (double)1.1386294f);
    for (uint32_t i = 0; i < 32; i++) {
        double freq = pow(10000.0, -(double)i / 32);
        double slowed = i <= 8 ? 0 : i >= 21 ? 1 : (i - 8) / 13.0;
        assert_close(r.freq[i], freq * (1 - slowed) + freq / 4 * slowed, 1e-12);
    }
    rope_finish(&r);
    hp.yarn_ext = 0; /* switched off, it is linear scaling */
    assert_int_equal(rope_init(&r, &hp, NULL, false, NULL), ERR_OK);
    for (uint32_t i = 0; i < 32; i++)
        assert_close(r.freq[i], pow(10000.0, -(double)i / 32) / 4, 1e-12);
    rope_finish(&r);
}

static void factors_divide_frequencies(void **state)
{
    (void)state;
    struct hparams hp = plain(8, 10000.0f);
    const float factors[] = { 1, 2, 8, 0.5f };
    struct rope r;
    assert_int_equal(rope_init(&r, &hp, factors, false, NULL), ERR_OK);
    assert_close(r.freq[0], 1, 1e-15);
    assert_close(r.freq[1], 0.05, 1e-14);
    assert_close(r.freq[2], 0.00125, 1e-14);
    assert_close(r.freq[3], 0.002, 1e-14);
    rope_finish(&r);
}

static void local_layers_have_their_own_base(void **state)
{
    (void)state;
    struct hparams hp = plain(8, 1e6f);
    const float factors[] = { 2, 2, 2, 2 };
    hp.arch = arch_find(STR("gemma3"));
    hp.rope_base_local = 10000.0f;
    hp.rope_factor = 8;
    hp.rope_attn = 3;
    struct rope r;
    assert_int_equal(rope_init(&r, &hp, factors, true, NULL), ERR_OK);
    assert_close(r.freq[1], 0.1, 1e-14);
    assert_true(r.scale == 1.0);
    rope_finish(&r);
    assert_int_equal(rope_init(&r, &hp, factors, false, NULL), ERR_OK);
    assert_close(r.freq[0], 1.0 / 16, 1e-14);
    assert_true(r.scale == 3.0);
    rope_finish(&r);
    hp.arch = arch_find(STR("gemma2")); /* scaled alike */
    assert_int_equal(rope_init(&r, &hp, NULL, true, NULL), ERR_OK);
    assert_close(r.freq[0], 1.0 / 8, 1e-14);
    rope_finish(&r);
}

static void models_without_positions_have_no_pairs(void **state)
{
    (void)state;
    struct hparams hp = plain(8, 10000.0f);
    struct rope r;
    hp.rope = false;
    assert_int_equal(rope_init(&r, &hp, NULL, false, NULL), ERR_OK);
    assert_int_equal(r.n_pairs, 0);
    rope_at(&r, 5, NULL, NULL);
    rope_finish(&r);
}

/* ---- from files ------------------------------------------------------------------------------------ */

struct file {
    unsigned char *p;
    struct gguf *g;
    struct hparams hp;
    struct weights w;
};

/* A tiny model with vectors of 8 factors; `bad` is what element 3 of the first one becomes. */
static struct file model_with(const char *const names[2], const float *bad)
{
    struct file f = { 0 };
    struct gguf_writer w;
    size_t n;
    struct err e;
    gw_tiny(&w, &(struct tiny){ .arch = "llama" });
    gw_u32(&w, "{arch}.rope.scaling.original_context_length", 64);
    for (int i = 0; i < 2 && names[i]; i++)
        gw_tensor(&w, names[i], TENSOR_F32, (const uint64_t[4]){ 8 });
    f.p = gw_file(&w, true, &n, NULL);
    gguf_writer_finish(&w);
    assert_int_equal(gguf_open_memory(f.p, n, n, &f.g, &e), ERR_OK);
    const struct gguf_tensor *t = gguf_find_tensor(f.g, str_from(names[0]));
    if (bad)
        memcpy(f.p + t->offset + 12, bad, 4);
    assert_int_equal(hparams_read(f.g, &f.hp, &e), ERR_OK);
    assert_int_equal(weights_bind(f.g, &f.hp, &f.w, &e), ERR_OK);
    return f;
}

static void file_close(struct file *f)
{
    weights_finish(&f->w);
    gguf_close(f->g);
    mem_free(f->p);
}

static void the_context_chooses_the_factors(void **state)
{
    (void)state;
    struct file f = model_with((const char *const[]){ "rope_factors_long.weight",
                                                      "rope_factors_short.weight" }, NULL);
    for (uint32_t n_ctx = 64; n_ctx <= 65; n_ctx++) {
        const struct gguf_tensor *t = weights_rope_factors(&f.w, &f.hp, n_ctx);
        assert_true(str_is(t->name, n_ctx == 65 ? "rope_factors_long.weight"
                                                : "rope_factors_short.weight"));
        float factors[8];
        struct rope r, want;
        assert_int_equal(weights_read_vector(f.g, t, factors, 8, NULL), ERR_OK);
        assert_int_equal(rope_load(&r, f.g, &f.hp, &f.w, n_ctx, false, NULL), ERR_OK);
        assert_int_equal(rope_init(&want, &f.hp, factors, false, NULL), ERR_OK);
        assert_memory_equal(r.freq, want.freq, 8 * sizeof *r.freq);
        rope_finish(&r);
        rope_finish(&want);
    }
    file_close(&f);
    f = model_with((const char *const[]){ "rope_freqs.weight", NULL }, NULL);
    assert_ptr_equal(weights_rope_factors(&f.w, &f.hp, 64), f.w.t[W_ROPE_FREQS]);
    assert_ptr_equal(weights_rope_factors(&f.w, &f.hp, 65), f.w.t[W_ROPE_FREQS]);
    file_close(&f);
}

static void factors_that_are_no_divisors_are_named(void **state)
{
    (void)state;
    const float bad[] = { 0.0f, -1.0f, NAN, INFINITY };
    for (size_t i = 0; i < 4; i++) {
        struct file f = model_with((const char *const[]){ "rope_freqs.weight", NULL }, &bad[i]);
        struct rope r;
        struct err e;
        assert_int_equal(rope_load(&r, f.g, &f.hp, &f.w, 64, false, &e), ERR_FORMAT);
        assert_non_null(strstr(e.text, "tensor 'rope_freqs.weight': element 3 is"));
        rope_finish(&r);
        file_close(&f);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct file f = model_with((const char *const[]){ "rope_freqs.weight", NULL }, NULL);
    uint64_t live = mem_live();
    for (int n = 1; n <= 3; n++) {
        struct rope r;
        struct err e;
        mem_fail_after((uint64_t)n, false);
        enum err_code c = rope_load(&r, f.g, &f.hp, &f.w, 64, false, &e);
        mem_fail_after(0, false);
        assert_int_equal(c, n < 3 ? ERR_NO_MEMORY : ERR_OK);
        rope_finish(&r);
        assert_int_equal(mem_live(), live);
    }
    file_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequencies_fall_geometrically),
        cmocka_unit_test(angles_stay_exact_far_away),
        cmocka_unit_test(linear_scaling_slows_positions),
        cmocka_unit_test(yarn_ramps_between_both),
        cmocka_unit_test(factors_divide_frequencies),
        cmocka_unit_test(local_layers_have_their_own_base),
        cmocka_unit_test(models_without_positions_have_no_pairs),
        cmocka_unit_test(the_context_chooses_the_factors),
        cmocka_unit_test(factors_that_are_no_divisors_are_named),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
