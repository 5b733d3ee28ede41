/* How it works: an output's weights are first brought into *streams* that are plain in k, a chunk of 1024
 * inputs at a time (the shortest run that fills whole quads of every plane):
 *   - a bit plane: fields of 4, 2 or 1 bits, the first weight lowest, seen as 16-bit words;
 *   - scales, or the weights themselves of float types: whole quads.
 * Then two outputs are zipped: by 16 bits, lo in the low half, for bit planes; as the table says for the rest.
 * push.h's planes are just these streams, lane by lane. */
#include "runtime/model/repack.h"

#include <stdbool.h>
#include <string.h>

#define CHUNK 1024 /* inputs */
#define CHUNK_BLOCKS (CHUNK / 32)
#define LONGEST_BLOCK 256 /* bytes */

/* One output's streams for a chunk. */
struct streams {
    uint16_t bits[2][CHUNK / 4];    /* fields, in words */
    uint32_t scales[2][CHUNK / 32]; /* quads, in words */
};

/* A row of the table: a type's planes, and how its blocks become streams. */
struct packing {
    uint32_t id;
    uint8_t bits[2];        /* of the bit planes; 0: none */
    struct {
        uint16_t span; /* inputs that a quad of one output's stream covers; 0: none */
        uint8_t unit;  /* bits that lo and hi take turns by: 16, 32, or 128 (whole quads) */
    } scales[2];       /* float types' weights are such a plane, at offset 0 = plane[0] */
    int zero, shift;        /* q = a + (b << shift); weight = scale * (q - zero) - or + min */
    void (*to_streams)(const uint8_t *block, uint32_t n_blocks, struct streams *to);
};

/* ---- pieces ------------------------------------------------------------------------------------ */

/* 16 bytes at once: compilers do not find these shuffles themselves. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint16_t words8 __attribute__((vector_size(16)));

static inline words8 load(const uint8_t *from)
{
    words8 v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* The low bytes of a's words, then of b's. */
static inline bytes16 narrow(words8 a, words8 b)
{
    return __builtin_shufflevector((bytes16)a, (bytes16)b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24,
                                   26, 28, 30);
}

/* In each word the low nibbles of its two bytes, the lower byte's first; and the high ones. */
static inline words8 low_nibbles(words8 v)
{
    return (v & 15) | (v >> 4 & 0xF0);
}

static inline words8 high_nibbles(words8 v)
{
    return (v >> 4 & 15) | (v >> 8 & 0xF0);
}

/* 16 bytes -> 8 of low nibbles, then 8 of high ones. */
static inline void split_16(const uint8_t *from, uint8_t *to)
{
    words8 v = load(from);
    bytes16 both = narrow(low_nibbles(v), high_nibbles(v));
    memcpy(to, &both, sizeof both);
}

/* 32 bytes -> 16 of low nibbles, 16 of high ones. */
static inline void split_32(const uint8_t *from, uint8_t *low, uint8_t *high)
{
    words8 a = load(from), b = load(from + 16);
    bytes16 l = narrow(low_nibbles(a), low_nibbles(b)), h = narrow(high_nibbles(a), high_nibbles(b));
    memcpy(low, &l, sizeof l);
    memcpy(high, &h, sizeof h);
}

/* 32 bytes of four 2-bit fields -> four runs of 32 fields, 8 bytes each. */
static inline void split_pairs(const uint8_t *from, uint8_t *to)
{
    words8 a = load(from), b = load(from + 16);
    for (int j = 0; j < 4; j++, a >>= 2, b >>= 2) {
        words8 fields_a = a & 0x0303, fields_b = b & 0x0303;
        words8 four = (words8)narrow(fields_a | fields_a >> 6, fields_b | fields_b >> 6) & 0x0F0F;
        four |= four >> 4;
        bytes16 run = narrow(four, four);
        memcpy(to + 8 * j, &run, 8);
    }
}

/* 32 bytes -> eight runs of 32 bits, 4 bytes each: run g has bit g of every byte (Hacker's Delight 7-3). */
static inline void split_bits(const uint8_t *from, uint8_t *to)
{
    for (int i = 0; i < 4; i++) {
        uint64_t v, t;
        memcpy(&v, from + 8 * i, 8);
        t = (v ^ v >> 7) & 0x00AA00AA00AA00AA;
        v ^= t ^ t << 7;
        t = (v ^ v >> 14) & 0x0000CCCC0000CCCC;
        v ^= t ^ t << 14;
        t = (v ^ v >> 28) & 0x00000000F0F0F0F0;
        v ^= t ^ t << 28;
        for (int g = 0; g < 8; g++)
            to[4 * g + i] = (uint8_t)(v >> (8 * g));
    }
}

/* The streams as bytes: fields lie in them lowest first, little-endian. */
static uint8_t *bits_at(struct streams *to, int plane, uint32_t byte)
{
    return (uint8_t *)to->bits[plane] + byte;
}

static uint8_t *scales_at(struct streams *to, int plane, uint32_t byte)
{
    return (uint8_t *)to->scales[plane] + byte;
}

/* ---- blocks of 32 -------------------------------------------------------------------------------- */

static void q4_0(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 18) {
        memcpy(scales_at(to, 0, 2 * i), b, 2);
        split_16(b + 2, bits_at(to, 0, 16 * i));
    }
}

static void q4_1(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 20) {
        memcpy(scales_at(to, 0, 4 * i), b, 4);
        split_16(b + 4, bits_at(to, 0, 16 * i));
    }
}

static void q5_0(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 22) {
        memcpy(scales_at(to, 0, 2 * i), b, 2);
        memcpy(bits_at(to, 1, 4 * i), b + 2, 4);
        split_16(b + 6, bits_at(to, 0, 16 * i));
    }
}

static void q5_1(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 24) {
        memcpy(scales_at(to, 0, 4 * i), b, 4);
        memcpy(bits_at(to, 1, 4 * i), b + 4, 4);
        split_16(b + 8, bits_at(to, 0, 16 * i));
    }
}

static void q8_0(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 34) {
        uint8_t q[32];
        for (int j = 0; j < 32; j++)
            q[j] = b[2 + j] ^ 0x80; /* int8 + 128 */
        memcpy(scales_at(to, 0, 2 * i), b, 2);
        split_32(q, bits_at(to, 0, 16 * i), bits_at(to, 1, 16 * i));
    }
}

/* ---- blocks of 256 ------------------------------------------------------------------------------- */

static void q2_k(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 84) {
        memcpy(scales_at(to, 0, 16 * i), b, 16);
        memcpy(scales_at(to, 1, 4 * i), b + 80, 4);
        split_pairs(b + 16, bits_at(to, 0, 64 * i));
        split_pairs(b + 48, bits_at(to, 0, 64 * i + 32));
    }
}

static void q3_k(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 110) {
        const uint8_t *scales = b + 96;
        uint8_t *sc = scales_at(to, 0, 16 * i), *sd = scales_at(to, 1, 4 * i);
        for (int g = 0; g < 16; g++) {
            int low = scales[g % 8] >> (g / 8 * 4) & 15, high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
            sc[g] = (uint8_t)((low | high << 4) - 32);
        }
        memcpy(sd, b + 108, 2);
        memset(sd + 2, 0, 2);
        split_bits(b, bits_at(to, 1, 32 * i));
        split_pairs(b + 32, bits_at(to, 0, 64 * i));
        split_pairs(b + 64, bits_at(to, 0, 64 * i + 32));
    }
}

/* 12 bytes of eight 6-bit scales and minima (tensor_type.h) -> sc, mn by turns. */
static void scales_k45(const uint8_t *scales, uint8_t *to)
{
    for (int g = 0; g < 4; g++) {
        to[2 * g] = scales[g] & 63;
        to[2 * g + 1] = scales[4 + g] & 63;
        to[8 + 2 * g] = (uint8_t)((scales[8 + g] & 15) | scales[g] >> 6 << 4);
        to[8 + 2 * g + 1] = (uint8_t)(scales[8 + g] >> 4 | scales[4 + g] >> 6 << 4);
    }
}

static void q4_k(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 144) {
        memcpy(scales_at(to, 1, 4 * i), b, 4);
        scales_k45(b + 4, scales_at(to, 0, 16 * i));
        for (uint32_t c = 0; c < 4; c++)
            split_32(b + 16 + 32 * c, bits_at(to, 0, 128 * i + 32 * c),
                     bits_at(to, 0, 128 * i + 32 * c + 16));
    }
}

static void q5_k(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 176) {
        memcpy(scales_at(to, 1, 4 * i), b, 4);
        scales_k45(b + 4, scales_at(to, 0, 16 * i));
        split_bits(b + 16, bits_at(to, 1, 32 * i));
        for (uint32_t c = 0; c < 4; c++)
            split_32(b + 48 + 32 * c, bits_at(to, 0, 128 * i + 32 * c),
                     bits_at(to, 0, 128 * i + 32 * c + 16));
    }
}

static void q6_k(const uint8_t *b, uint32_t n, struct streams *to)
{
    for (uint32_t i = 0; i < n; i++, b += 210) {
        uint8_t *sd = scales_at(to, 1, 4 * i);
        memcpy(scales_at(to, 0, 16 * i), b + 192, 16);
        memcpy(sd, b + 208, 2);
        memset(sd + 2, 0, 2);
        for (uint32_t c = 0; c < 4; c++) { /* c: half of the block, then run of 32 low nibbles */
            uint32_t at = 128 * i + c / 2 * 64 + c % 2 * 16;
            split_32(b + 32 * c, bits_at(to, 0, at), bits_at(to, 0, at + 32));
        }
        split_pairs(b + 128, bits_at(to, 1, 64 * i));
        split_pairs(b + 160, bits_at(to, 1, 64 * i + 32));
    }
}

/* ---- the table ----------------------------------------------------------------------------------- */

#define S32 { 128, 128 }, { 0, 0 }
#define S16 { 256, 16 }, { 0, 0 }
#define SKD { 256, 16 }, { 1024, 32 }
#define FLOATS(n) { n, 128 }, { 0, 0 }
static const struct packing packings[] = {
    /*                bits      scales     Z    shift */
    { TENSOR_Q4_0, { 4, 0 }, { S16 }, 8, 0, q4_0 },
    { TENSOR_Q4_1, { 4, 0 }, { S32 }, 0, 0, q4_1 },
    { TENSOR_Q5_0, { 4, 1 }, { S16 }, 16, 4, q5_0 },
    { TENSOR_Q5_1, { 4, 1 }, { S32 }, 0, 4, q5_1 },
    { TENSOR_Q8_0, { 4, 4 }, { S16 }, 128, 4, q8_0 },
    { TENSOR_Q2_K, { 2, 0 }, { SKD }, 0, 0, q2_k },
    { TENSOR_Q3_K, { 2, 1 }, { SKD }, 4, 2, q3_k },
    { TENSOR_Q4_K, { 4, 0 }, { SKD }, 0, 0, q4_k },
    { TENSOR_Q5_K, { 4, 1 }, { SKD }, 0, 4, q5_k },
    { TENSOR_Q6_K, { 4, 2 }, { SKD }, 32, 4, q6_k },
    { TENSOR_F32, { 0, 0 }, { FLOATS(4) }, 0, 0, NULL },
    { TENSOR_F16, { 0, 0 }, { FLOATS(8) }, 0, 0, NULL },
    { TENSOR_BF16, { 0, 0 }, { FLOATS(8) }, 0, 0, NULL },
};

static const struct packing *find(uint32_t id)
{
    for (size_t i = 0; i < sizeof packings / sizeof packings[0]; i++)
        if (packings[i].id == id)
            return &packings[i];
    return NULL;
}

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
    return a / b + (a % b != 0);
}

/* Quads of a lane in plane i. */
static uint64_t lane_quads(const struct packing *t, uint32_t k, int i)
{
    if (i < 2)
        return t->bits[i] ? ceil_div(k, 64u / t->bits[i]) : 0;
    uint32_t span = t->scales[i - 2].span;
    if (!span)
        return 0;
    return t->scales[i - 2].unit == 128 ? 2 * (uint64_t)ceil_div(k, span) : ((uint64_t)2 * k + span - 1) / span;
}

enum err_code repack_layout(const struct tensor_type *type, uint32_t k, uint32_t m,
                            struct repack_layout *out, struct err *e)
{
    const struct packing *t = type ? find(type->id) : NULL;
    if (!t)
        return err_set(e, ERR_UNSUPPORTED, "weights of type %s cannot be run",
                       type ? type->name : "unknown");
    uint32_t step = type->block_len < 32 ? 32 : type->block_len;
    if (k == 0 || k % step)
        return err_set(e, ERR_UNSUPPORTED, "rows of %u weights of type %s: must be a multiple of %u", k,
                       type->name, step);
    if (m == 0)
        return err_set(e, ERR_INVALID, "a matrix without rows");
    struct repack_layout l = { .k = k, .n_ob = 2 * ceil_div(m, 2 * BLOCK_OUTPUTS) };
    uint64_t at = 0;
    for (int i = 0; i < 4; i++) {
        uint64_t quads = lane_quads(t, k, i) * BLOCK_LANES;
        l.plane[i] = quads ? (uint32_t)at : 0;
        if (quads > UINT32_MAX / l.n_ob || (at += quads * l.n_ob) > UINT32_MAX)
            return err_set(e, ERR_TOO_LARGE, "a matrix of %u rows of %u weights", m, k);
    }
    l.bytes = at * 16;
    *out = l;
    return ERR_OK;
}

/* ---- zipping ------------------------------------------------------------------------------------- */

/* n quads of a lane: 4 words of lo and of hi make one. Two a turn: streams have room for a whole chunk,
 * so the last turn may read one too many. */
static void zip_16(const uint16_t *lo, const uint16_t *hi, uint32_t n, uint32_t *to)
{
    for (uint32_t i = 0; i < n; i += 2, lo += 8, hi += 8, to += 2 * 4 * LANE_STEP) {
        words8 l, h;
        memcpy(&l, lo, sizeof l);
        memcpy(&h, hi, sizeof h);
        words8 first = __builtin_shufflevector(l, h, 0, 8, 1, 9, 2, 10, 3, 11);
        words8 second = __builtin_shufflevector(l, h, 4, 12, 5, 13, 6, 14, 7, 15);
        memcpy(to, &first, sizeof first);
        if (i + 1 < n)
            memcpy(to + 4 * LANE_STEP, &second, sizeof second);
    }
}

/* n quads: 2 words of 32 bits of lo and of hi make one. */
static void zip_32(const uint32_t *lo, const uint32_t *hi, uint32_t n, uint32_t *to)
{
    for (uint32_t i = 0; i < n; i++, lo += 2, hi += 2, to += 4 * LANE_STEP)
        to[0] = lo[0], to[1] = hi[0], to[2] = lo[1], to[3] = hi[1];
}

/* n quads of lo and as many of hi. */
static void zip_128(const uint8_t *lo, const uint8_t *hi, uint32_t n, uint32_t *to)
{
    for (uint32_t i = 0; i < n; i++, lo += 16, hi += 16, to += 2 * 4 * LANE_STEP) {
        memcpy(to, lo, 16);
        memcpy(to + 4 * LANE_STEP, hi, 16);
    }
}

/* A lane of output block ob, from input k0 (a multiple of CHUNK) on, and how many inputs. */
struct piece {
    uint64_t ob;
    uint32_t lane, k0, n;
};

/* Where the piece is in plane i. */
static uint32_t *piece_at(const struct packing *t, const struct repack_layout *l, const struct piece *p,
                          int i, uint64_t first_quad, uint32_t *dst)
{
    uint64_t n = lane_quads(t, l->k, i);
    return dst + 4 * (l->plane[i] + LANE_QUAD(p->ob, n, first_quad, p->lane));
}

/* The weights of a pair of rows (NULL: zeros) as a lane. */
static void pack_quantised(const struct packing *t, const struct tensor_type *type,
                           const struct repack_layout *l, const uint8_t *const pair[2],
                           const struct piece *p, uint32_t *dst)
{
    struct streams s[2];
    for (int h = 0; h < 2; h++) {
        if (p->n < CHUNK || !pair[h])
            memset(&s[h], 0, sizeof s[h]);
        if (pair[h])
            t->to_streams(pair[h] + (size_t)(p->k0 / type->block_len) * type->block_bytes,
                          p->n / type->block_len, &s[h]);
    }
    for (int i = 0; i < 2; i++)
        if (t->bits[i])
            zip_16(s[0].bits[i], s[1].bits[i], ceil_div(p->n, 64u / t->bits[i]),
                   piece_at(t, l, p, i, p->k0 / (64u / t->bits[i]), dst));
    for (int i = 0; i < 2; i++) {
        uint32_t span = t->scales[i].span;
        if (!span)
            continue;
        const uint32_t *lo = s[0].scales[i], *hi = s[1].scales[i];
        uint32_t *to = piece_at(t, l, p, 2 + i, 2 * (uint64_t)p->k0 / span, dst);
        if (t->scales[i].unit == 128)
            zip_128((const uint8_t *)lo, (const uint8_t *)hi, ceil_div(p->n, span), to);
        else if (t->scales[i].unit == 32)
            zip_32(lo, hi, ceil_div(2 * p->n, span), to);
        else
            zip_16((const uint16_t *)lo, (const uint16_t *)hi, ceil_div(2 * p->n, span), to);
    }
}

static void pack_floats(const struct packing *t, const struct repack_layout *l,
                        const uint8_t *const pair[2], const struct piece *p, uint32_t *dst)
{
    static const uint8_t zeros[16 * CHUNK / 4];
    const uint8_t *from[2];
    uint32_t span = t->scales[0].span;
    for (int h = 0; h < 2; h++)
        from[h] = pair[h] ? pair[h] + (size_t)(p->k0 / span) * 16 : zeros;
    zip_128(from[0], from[1], p->n / span, piece_at(t, l, p, 2, 2 * (uint64_t)p->k0 / span, dst));
}

uint32_t repack_output(enum repack_order order, uint32_t head_dim, uint32_t place)
{
    uint32_t ob = place / BLOCK_OUTPUTS, h = place / BLOCK_LANES % 2, lane = place % BLOCK_LANES;
    if (order == ORDER_QUADS)
        return QUADS_OUTPUT(ob, lane, h);
    if (order == ORDER_GLU)
        return 2 * GLU_PAIR(ob, lane) + h;
    uint32_t head = place / head_dim, u = place % head_dim / BLOCK_OUTPUTS * BLOCK_LANES + lane;
    return head * head_dim + (order == ORDER_NEOX ? u + h * head_dim / 2 : 2 * u + h);
}

void repack_blocks(const struct tensor_type *type, const struct repack_layout *l, const void *src,
                   const uint32_t *perm, uint32_t first_ob, uint32_t n_ob, void *dst)
{
    const struct packing *t = find(type->id);
    size_t row_bytes = (size_t)(l->k / type->block_len) * type->block_bytes;
    for (uint32_t ob = 0; ob < n_ob; ob++, perm += BLOCK_OUTPUTS)
        for (uint32_t k0 = 0; k0 < l->k; k0 += CHUNK)
            for (uint32_t lane = 0; lane < BLOCK_LANES; lane++) {
                struct piece p = { first_ob + ob, lane, k0, l->k - k0 < CHUNK ? l->k - k0 : CHUNK };
                const uint8_t *pair[2];
                for (int h = 0; h < 2; h++) {
                    uint32_t from = perm[lane + (uint32_t)h * BLOCK_LANES];
                    pair[h] = from == REPACK_NONE ? NULL : (const uint8_t *)src + from * row_bytes;
                }
                if (t->to_streams)
                    pack_quantised(t, type, l, pair, &p, dst);
                else
                    pack_floats(t, l, pair, &p, dst);
            }
}

/* ---- unpacking: push.h read word for word ---------------------------------------------------------- */

struct place { /* of an output */
    const uint32_t *planes;
    uint64_t ob;
    uint32_t lane, h;
};

/* Field i of a bit plane. */
static int field(const struct packing *t, const struct repack_layout *l, const struct place *p, int plane,
                 uint32_t i)
{
    uint32_t bits = t->bits[plane], in_word = 16 / bits;
    uint64_t n = lane_quads(t, l->k, plane),
             quad = l->plane[plane] + LANE_QUAD(p->ob, n, (uint64_t)i / (4 * in_word), p->lane);
    uint32_t word = p->planes[4 * quad + i / in_word % 4];
    return (int)(word >> (16 * p->h + i % in_word * bits) & ((1u << bits) - 1));
}

/* Word i of output p->h in a scale plane, in units of 16 or 32 bits as the plane is zipped; of whole quads
 * for unit 128: four words of 32 bits each. */
static uint32_t scale_word(const struct packing *t, const struct repack_layout *l, const struct place *p,
                           int plane, uint32_t i)
{
    uint64_t n = lane_quads(t, l->k, plane);
    uint8_t unit = t->scales[plane - 2].unit;
    uint64_t quad = unit == 128 ? (uint64_t)i / 4 * 2 + p->h : i / (64u / unit);
    const uint32_t *q = p->planes + 4 * (l->plane[plane] + LANE_QUAD(p->ob, n, quad, p->lane));
    if (unit == 128)
        return q[i % 4];
    return unit == 32 ? q[i % 2 * 2 + p->h] : q[i % 4] >> (16 * p->h) & 0xFFFF;
}

/* Scale and minimum of input i, as the type has them. */
static void scale_of(const struct packing *t, const struct repack_layout *l, const struct place *p,
                     uint32_t i, float *scale, float *min)
{
    uint32_t s = scale_word(t, l, p, 2, i / 32);
    *min = 0;
    if (!t->scales[1].span) {
        *scale = half_to_float((uint16_t)s);
        if (t->scales[0].unit == 128)
            *min = half_to_float((uint16_t)(s >> 16));
        return;
    }
    uint32_t d = scale_word(t, l, p, 3, i / 256), byte = s >> (i % 32 / 16 * 8) & 255;
    float scale_d = half_to_float((uint16_t)d), min_d = half_to_float((uint16_t)(d >> 16));
    if (t->id == TENSOR_Q2_K) {
        *scale = scale_d * (float)(byte & 15);
        *min = min_d * (float)(byte >> 4);
    } else if (t->zero) {
        *scale = scale_d * (float)(int8_t)byte;
    } else {
        *scale = scale_d * (float)(s & 255);
        *min = min_d * (float)(s >> 8 & 255);
    }
}

/* The quad of a float type's output that begins with input i. */
static const uint32_t *float_quad(const struct packing *t, const struct repack_layout *l,
                                  const struct place *p, uint32_t i)
{
    uint64_t n = lane_quads(t, l->k, 2), quad = (uint64_t)i / t->scales[0].span * 2 + p->h;
    return p->planes + 4 * (l->plane[2] + LANE_QUAD(p->ob, n, quad, p->lane));
}

void repack_unpack(const struct tensor_type *type, const struct repack_layout *l, const void *planes,
                   uint32_t output, float *out)
{
    const struct packing *t = find(type->id);
    struct place p = { planes, output / BLOCK_OUTPUTS, output % BLOCK_LANES,
                       output / BLOCK_LANES % 2 };
    if (!t->to_streams) {
        for (uint32_t i = 0; i < l->k; i += t->scales[0].span)
            type->decode(float_quad(t, l, &p, i), t->scales[0].span, out + i);
        return;
    }
    for (uint32_t i = 0; i < l->k; i++) {
        int q = field(t, l, &p, 0, i) - t->zero;
        float scale, min;
        if (t->bits[1])
            q += field(t, l, &p, 1, i) << t->shift;
        scale_of(t, l, &p, i, &scale, &min);
        if (t->scales[0].unit == 128)
            out[i] = scale * (float)q + min;
        else if (t->zero)
            out[i] = scale * (float)q;
        else
            out[i] = scale * (float)q - min;
    }
}
