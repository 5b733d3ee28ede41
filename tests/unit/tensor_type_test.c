/* tensor_type: the table, halves, and blocks small enough to work out by hand. The comparison with
 * gguf.quants is tests/model/quants_oracle.py. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/model/tensor_type.h"

static void rows_are_whole_and_unique(void **state)
{
    (void)state;
    size_t decoders = 0;
    for (size_t i = 0; i < tensor_type_count(); i++) {
        const struct tensor_type *t = tensor_type_at(i);
        assert_ptr_equal(tensor_type_find(t->id), t);
        assert_ptr_equal(tensor_type_named(str_from(t->name)), t);
        assert_int_equal(t->block_len == 0, t->block_bytes == 0);
        assert_true(t->block_len <= 256 && (t->decode == NULL || t->block_len > 0));
        decoders += t->decode != NULL;
    }
    assert_int_equal(decoders, 13);
    assert_null(tensor_type_at(tensor_type_count()));
    assert_null(tensor_type_find(43));
    assert_null(tensor_type_find(UINT32_MAX));
    assert_string_equal(tensor_type_find(20)->name, "IQ4_NL");
    assert_int_equal(tensor_type_named(STR("q4_k"))->id, TENSOR_Q4_K);
    assert_null(tensor_type_named(STR("Q4")));
    for (uint32_t id = 0; id < 43; id++)
        assert_non_null(tensor_type_find(id));
}

static void files_have_names(void **state)
{
    (void)state;
    assert_string_equal(file_type_name(15), "Q4_K_M");
    assert_string_equal(file_type_name(1), "F16");
    assert_string_equal(file_type_name(3), "Q4_1");
    assert_null(file_type_name(4));
    assert_null(file_type_name(41));
    assert_null(file_type_name(1024));
}

/* IEEE 754 says what a half is worth; ldexp says it without bit tricks. */
static void every_half_is_exact(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float got = half_to_float((uint16_t)h);
        int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        double want = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        if (exponent == 31) {
            assert_int_equal(isnan(got) != 0, mantissa != 0);
            assert_int_equal(isinf(got) != 0, mantissa == 0);
        } else {
            assert_true(fabs((double)got) == want);
        }
        assert_int_equal(signbit(got) != 0, h >> 15);
    }
}

static void put_half(unsigned char *p, uint16_t h)
{
    p[0] = (unsigned char)(h & 255);
    p[1] = (unsigned char)(h >> 8);
}

enum { ONE = 0x3C00, TWO = 0x4000, HALF = 0x3800, MINUS_ONE = 0xBC00 };

static void blocks_of_32_by_hand(void **state)
{
    (void)state;
    unsigned char b[40];
    float x[32];
    memset(b, 0x3F, sizeof b); /* low nibbles 15, high nibbles 3 */
    put_half(b, TWO);
    tensor_type_find(TENSOR_Q4_0)->decode(b, 1, x);
    assert_true(x[0] == 14.0f && x[15] == 14.0f && x[16] == -10.0f && x[31] == -10.0f);
    put_half(b + 2, MINUS_ONE);
    tensor_type_find(TENSOR_Q4_1)->decode(b, 1, x);
    assert_true(x[0] == 29.0f && x[16] == 5.0f);
    memcpy(b + 2, "\x01\x00\x00\x80", 4); /* the fifth bits of weights 0 and 31 */
    memset(b + 6, 0x3F, 16);
    tensor_type_find(TENSOR_Q5_0)->decode(b, 1, x);
    assert_true(x[0] == 30.0f && x[1] == -2.0f && x[30] == -26.0f && x[31] == 6.0f);
    put_half(b + 2, HALF);
    memcpy(b + 4, "\x00\x01\x00\x00", 4); /* of weight 8 */
    memset(b + 8, 0x3F, 16);
    tensor_type_find(TENSOR_Q5_1)->decode(b, 1, x);
    assert_true(x[7] == 30.5f && x[8] == 62.5f && x[24] == 6.5f);
    for (int i = 0; i < 32; i++)
        b[2 + i] = (unsigned char)(i * 8 - 128);
    tensor_type_find(TENSOR_Q8_0)->decode(b, 1, x);
    assert_true(x[0] == -256.0f && x[16] == 0.0f && x[31] == 240.0f);
}

static void blocks_of_256_by_hand(void **state)
{
    (void)state;
    unsigned char b[256] = { 0 };
    float x[256];
    b[5] = 0x21;      /* Q2_K: group 5 has scale 1, minimum 2 */
    b[16 + 21] = 0xC8; /* weights 21, 53 (=32+21), 85, 117: 0, 2, 0, 3 */
    put_half(b + 80, TWO);
    put_half(b + 82, ONE);
    b[3] = 0x01;      /* group 3: weights 48..63 */
    tensor_type_find(TENSOR_Q2_K)->decode(b, 1, x);
    assert_true(x[53] == 4.0f && x[48] == 0.0f && x[80] == -2.0f && x[85] == -2.0f && x[117] == 0.0f);

    memset(b, 0, sizeof b);
    b[21] = 0x02;           /* Q3_K: weight 32 + 21 has its high bit */
    b[32 + 21] = 0x0C;      /* and low bits 3 */
    b[96 + 3] = 0x05;       /* group 3: low nibble 5 */
    b[96 + 8 + 3] = 0x02;   /* and high bits 2: 37 - 32 */
    put_half(b + 108, TWO);
    tensor_type_find(TENSOR_Q3_K)->decode(b, 1, x);
    assert_true(x[53] == 30.0f && x[48] == -40.0f && x[0] == 256.0f);

    memset(b, 0, sizeof b);
    put_half(b, TWO);
    put_half(b + 2, ONE);
    b[4 + 1] = 0x80 | 3;    /* group 1: scale 3; and bits 4, 5 of group 5's scale: 32 */
    b[4 + 5] = 0x40 | 7;    /* group 1: minimum 7; and of group 5's minimum: 16 */
    b[4 + 9] = 0x21;        /* group 5: scale 1 + 32, minimum 2 + 16 */
    b[16] = 0xF0;           /* weight 32 is 15 */
    b[16 + 64] = 0x10;      /* weight 160 (group 5) is 1 */
    tensor_type_find(TENSOR_Q4_K)->decode(b, 1, x);
    assert_true(x[32] == 83.0f && x[33] == -7.0f && x[160] == 48.0f && x[161] == -18.0f);
    assert_true(x[0] == 0.0f);
    memmove(b + 48, b + 16, 128);
    memset(b + 16, 0, 32);
    b[16] = 0x02;           /* Q5_K: the fifth bit of weight 32 */
    tensor_type_find(TENSOR_Q5_K)->decode(b, 1, x);
    assert_true(x[32] == 179.0f && x[33] == -7.0f && x[160] == 48.0f);

    memset(b, 0, sizeof b);
    put_half(b + 208, TWO);
    b[192 + 14] = (unsigned char)-3; /* Q6_K: group 14, weights 224..239 */
    b[64 + 32] = 0x50;               /* low nibble 5 of weight 128 + 96 */
    b[128 + 32] = 0xC0;              /* its high bits: 3, so 5 + 48 - 32 = 21 */
    tensor_type_find(TENSOR_Q6_K)->decode(b, 1, x);
    assert_true(x[224] == -126.0f && x[225] == 192.0f && x[223] == 0.0f);
}

static void alignment_and_number_of_blocks_do_not_matter(void **state)
{
    (void)state;
    unsigned char bytes[3 * 256 + 1];
    float at_once[3 * 256], alone[3 * 256];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 37 + 11) & 0x5F; /* no half is infinite */
    for (size_t i = 0; i < tensor_type_count(); i++) {
        const struct tensor_type *t = tensor_type_at(i);
        if (!t->decode)
            continue;
        t->decode(bytes + 1, 3, at_once);
        for (size_t k = 0; k < 3; k++)
            t->decode(bytes + 1 + k * t->block_bytes, 1, alone + k * t->block_len);
        assert_memory_equal(at_once, alone, 3 * t->block_len * sizeof *alone);
        t->decode(bytes, 0, alone); /* nothing */
        assert_memory_equal(at_once, alone, 3 * t->block_len * sizeof *alone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_whole_and_unique),
        cmocka_unit_test(files_have_names),
        cmocka_unit_test(every_half_is_exact),
        cmocka_unit_test(blocks_of_32_by_hand),
        cmocka_unit_test(blocks_of_256_by_hand),
        cmocka_unit_test(alignment_and_number_of_blocks_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
