/* repack: what is unpacked is what the type's decoder gives, bit for bit, wherever a row was put. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/repack.h"

static uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

static void *need(size_t bytes)
{
    void *p = mem_alloc(bytes);
    assert_non_null(p);
    return p;
}

/* How the blocks of a test look. */
enum fill { RANDOM, ZEROS, ONES, RAMP, N_FILLS };

static void fill_bytes(uint8_t *p, size_t n, enum fill how, uint64_t *seed)
{
    for (size_t i = 0; i < n; i++)
        p[i] = how == ZEROS ? 0 : how == ONES ? 0xFF : how == RAMP ? (uint8_t)i : (uint8_t)next(seed);
}

/* Equal bits, or both NaN. */
static void assert_same(const float *a, const float *b, size_t n, const char *what, uint32_t output)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t x, y;
        memcpy(&x, a + i, 4);
        memcpy(&y, b + i, 4);
        if (x != y && !(isnan(a[i]) && isnan(b[i])))
            fail_msg("%s output %u weight %zu: %a, not %a", what, output, i, (double)a[i], (double)b[i]);
    }
}

struct matrix {
    const struct tensor_type *type;
    struct repack_layout l;
    size_t row_bytes;
    uint32_t rows;    /* in the file */
    uint8_t *src;     /* not aligned */
    uint32_t *planes; /* then a quad that must stay as it is */
    uint32_t *perm;
};

static struct matrix matrix_make(const struct tensor_type *type, uint32_t k, uint32_t m, enum fill how,
                                 uint64_t *seed)
{
    struct matrix x = { .type = type, .rows = m };
    assert_int_equal(repack_layout(type, k, m, &x.l, NULL), ERR_OK);
    assert_int_equal(x.l.k, k);
    assert_int_equal(x.l.n_ob, (m + 31) / 32 * 2);
    assert_int_equal(x.l.bytes % 16, 0);
    x.row_bytes = (size_t)k / type->block_len * type->block_bytes;
    uint8_t *src = need(x.row_bytes * m + 1);
    fill_bytes(src + 1, x.row_bytes * m, how, seed);
    x.src = src + 1;
    x.planes = need(x.l.bytes + 16);
    memset(x.planes, 0xA5, x.l.bytes + 16);
    x.perm = need(x.l.n_ob * 16 * sizeof *x.perm);
    for (uint32_t i = 0; i < x.l.n_ob * 16; i++)
        x.perm[i] = i < m ? i : REPACK_NONE;
    return x;
}

static void matrix_free(struct matrix *x)
{
    mem_free(x->src - 1);
    mem_free(x->planes);
    mem_free(x->perm);
}

static void matrix_check(const struct matrix *x)
{
    uint32_t k = x->l.k;
    float *want = need(k * sizeof *want), *got = need(k * sizeof *got);
    for (uint32_t o = 0; o < x->l.n_ob * 16; o++) {
        memset(want, 0, k * sizeof *want);
        if (x->perm[o] != REPACK_NONE)
            x->type->decode(x->src + x->perm[o] * x->row_bytes, k / x->type->block_len, want);
        repack_unpack(x->type, &x->l, x->planes, o, got);
        if (x->perm[o] == REPACK_NONE)
            for (uint32_t i = 0; i < k; i++)
                assert_true(got[i] == 0);
        else
            assert_same(got, want, k, x->type->name, o);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(x->planes[x->l.bytes / 4 + (uint64_t)i], 0xA5A5A5A5);
    mem_free(want);
    mem_free(got);
}

/* Bytes of the layout that repack_blocks left alone: none, whatever the shape. */
static void matrix_check_whole(struct matrix *x)
{
    uint32_t *again = need(x->l.bytes);
    memset(again, 0x5A, x->l.bytes);
    repack_blocks(x->type, &x->l, x->src, x->perm, 0, x->l.n_ob, again);
    assert_memory_equal(again, x->planes, x->l.bytes);
    mem_free(again);
}

static void every_type_shape_and_fill(void **state)
{
    (void)state;
    static const uint32_t ks[] = { 32, 64, 96, 256, 512, 576, 1024, 1056, 1280, 2304, 4096 };
    static const uint32_t ms[] = { 1, 7, 16, 17, 40 };
    uint64_t seed = 1;
    for (size_t t = 0; t < tensor_type_count(); t++) {
        const struct tensor_type *type = tensor_type_at(t);
        for (size_t s = 0; type->decode && s < sizeof ks / sizeof ks[0]; s++)
            for (size_t r = 0; r < sizeof ms / sizeof ms[0]; r++) {
                if (ks[s] % type->block_len)
                    continue;
                struct matrix x = matrix_make(type, ks[s], ms[r], (enum fill)((s + r) % N_FILLS), &seed);
                if (r % 2 == 0) /* RANDOM above all */
                    fill_bytes(x.src, x.row_bytes * x.rows, RANDOM, &seed);
                repack_blocks(type, &x.l, x.src, x.perm, 0, x.l.n_ob, x.planes);
                matrix_check(&x);
                matrix_check_whole(&x);
                matrix_free(&x);
            }
    }
}

/* Zero, subnormal, infinite and NaN scales: d, m and dmin are the first or the last bytes of a block. */
static void every_type_with_hard_halves(void **state)
{
    (void)state;
    static const uint16_t halves[] = { 0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0xFBFF,
                                       0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF, 0x3C00 };
    uint64_t seed = 2;
    for (size_t t = 0; t < tensor_type_count(); t++) {
        const struct tensor_type *type = tensor_type_at(t);
        if (!type->decode)
            continue;
        struct matrix x = matrix_make(type, 1024, 16, RANDOM, &seed);
        for (size_t at = 0; at + type->block_bytes <= x.row_bytes * x.rows; at += type->block_bytes)
            for (uint32_t i = 0; type->block_bytes >= 18 && i < 4; i++) {
                uint16_t v = halves[next(&seed) % (sizeof halves / sizeof halves[0])];
                memcpy(x.src + at + (i < 2 ? 2 * i : type->block_bytes - 2 * (i - 1)), &v, 2);
            }
        repack_blocks(type, &x.l, x.src, x.perm, 0, x.l.n_ob, x.planes);
        matrix_check(&x);
        matrix_free(&x);
    }
}

/* Rows anywhere, twice, or not at all; runs of output blocks in any order. */
static void permutations_and_ranges(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (size_t t = 0; t < tensor_type_count(); t++) {
        const struct tensor_type *type = tensor_type_at(t);
        if (!type->decode)
            continue;
        struct matrix x = matrix_make(type, 1280, 83, RANDOM, &seed);
        for (uint32_t i = 0; i < x.l.n_ob * 16; i++)
            x.perm[i] = next(&seed) % 8 == 0 ? REPACK_NONE : next(&seed) % 83;
        static const uint32_t runs[][2] = { { 4, 2 }, { 0, 1 }, { 3, 1 }, { 1, 2 } };
        for (int i = 0; i < 4; i++)
            repack_blocks(type, &x.l, x.src, x.perm + runs[i][0] * 16, runs[i][0], runs[i][1], x.planes);
        matrix_check(&x);
        matrix_check_whole(&x);
        matrix_free(&x);
    }
}

static void assert_planes(uint32_t id, uint32_t k, uint32_t m, const uint32_t want[4], uint64_t quads)
{
    struct repack_layout l;
    assert_int_equal(repack_layout(tensor_type_find(id), k, m, &l, NULL), ERR_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(l.plane[i], want[i]);
    assert_int_equal(l.bytes, quads * 16);
}

/* Sizes by hand, from push.h: two output blocks, as always, of 11 or 32 blocks of inputs. */
static void planes_lie_where_the_specification_says(void **state)
{
    (void)state;
    assert_planes(TENSOR_Q4_0, 352, 17, (uint32_t[]){ 0, 0, 352, 0 }, 352 + 3 * 16);
    assert_planes(TENSOR_Q4_1, 352, 32, (uint32_t[]){ 0, 0, 352, 0 }, 352 + 6 * 16);
    assert_planes(TENSOR_Q5_0, 352, 17, (uint32_t[]){ 0, 352, 352 + 96, 0 }, 352 + 96 + 48);
    assert_planes(TENSOR_Q8_0, 352, 17, (uint32_t[]){ 0, 352, 704, 0 }, 704 + 48);
    assert_planes(TENSOR_Q6_K, 1024, 17, (uint32_t[]){ 0, 1024, 1536, 1664 }, 1664 + 32);
    assert_planes(TENSOR_Q3_K, 1280, 1, (uint32_t[]){ 0, 640, 960, 1120 }, 1120 + 48);
    assert_planes(TENSOR_F32, 32, 1, (uint32_t[]){ 0, 0, 0, 0 }, 16 * 16);
    assert_planes(TENSOR_BF16, 32, 1, (uint32_t[]){ 0, 0, 0, 0 }, 8 * 16);
}

/* Two blocks whose words were worked out by hand: not merely pack and unpack agreeing. */
static void words_lie_where_the_specification_says(void **state)
{
    (void)state;
    uint8_t src[2][18] = { { 0x00, 0x3C }, { 0x00, 0x40 } }; /* d = 1, d = 2 */
    for (int j = 0; j < 16; j++) {
        src[0][2 + j] = (uint8_t)(j | (15 - j) << 4); /* inputs 0..15 then 15..0 */
        src[1][2 + j] = 0x5A;
    }
    uint32_t perm[16], planes[(32 + 16) * 4];
    for (int i = 0; i < 16; i++)
        perm[i] = REPACK_NONE;
    perm[3] = 0;
    perm[11] = 1;
    struct repack_layout l;
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_Q4_0), 32, 16, &l, NULL), ERR_OK);
    repack_blocks(tensor_type_find(TENSOR_Q4_0), &l, src, perm, 0, 1, planes);
    assert_int_equal(l.bytes, sizeof planes);
    static const uint32_t first[4] = { 0xAAAA3210, 0xAAAA7654, 0xAAAABA98, 0xAAAAFEDC };
    static const uint32_t second[4] = { 0x5555CDEF, 0x555589AB, 0x55554567, 0x55550123 };
    assert_memory_equal(planes + 4 * 3, first, 16);
    assert_memory_equal(planes + 4 * (16 + 3), second, 16);
    assert_int_equal(planes[4 * (32 + 3)], 0x40003C00);
    assert_int_equal(planes[4 * (32 + 3) + 1], 0);
}

static void what_cannot_be_packed_is_refused(void **state)
{
    (void)state;
    struct repack_layout l;
    struct err e;
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_Q4_K), 576, 16, &l, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "576"));
    assert_non_null(strstr(e.text, "Q4_K"));
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_F16), 72, 16, &l, &e), ERR_UNSUPPORTED);
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_F32), 0, 16, &l, &e), ERR_UNSUPPORTED);
    assert_int_equal(repack_layout(tensor_type_find(20), 256, 16, &l, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "IQ4_NL"));
    assert_int_equal(repack_layout(NULL, 256, 16, &l, &e), ERR_UNSUPPORTED);
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_F32), 32, 0, &l, &e), ERR_INVALID);
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_F32), 4294967264u, 4294967295u, &l, &e),
                     ERR_TOO_LARGE);
    assert_int_equal(repack_layout(tensor_type_find(TENSOR_Q4_0), 4294967264u, 256, &l, &e), ERR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_shape_and_fill),
        cmocka_unit_test(every_type_with_hard_halves),
        cmocka_unit_test(permutations_and_ranges),
        cmocka_unit_test(planes_lie_where_the_specification_says),
        cmocka_unit_test(words_lie_where_the_specification_says),
        cmocka_unit_test(what_cannot_be_packed_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
