// A weight matrix as push.h lays it out. The type comes by -DTYPE_x; each gives:
//   PLANE_A, PLANE_B  bits of the two planes (B 0: none), SHIFT_B: q = a + (b << SHIFT_B)
//   ZERO              what is subtracted from q
//   SCALE_x           where the scales are;  SUB16: they change every 16 inputs;  HAS_MIN: m is there
// Needs before it: QUADS(1, weights) and the push block `p`.
#if defined(TYPE_Q4_0)
#define PLANE_A 4
#define PLANE_B 0
#define ZERO 8
#define SCALE_S16
#elif defined(TYPE_Q4_1)
#define PLANE_A 4
#define PLANE_B 0
#define ZERO 0
#define SCALE_S32
#define HAS_MIN
#elif defined(TYPE_Q5_0)
#define PLANE_A 4
#define PLANE_B 1
#define SHIFT_B 4
#define ZERO 16
#define SCALE_S16
#elif defined(TYPE_Q5_1)
#define PLANE_A 4
#define PLANE_B 1
#define SHIFT_B 4
#define ZERO 0
#define SCALE_S32
#define HAS_MIN
#elif defined(TYPE_Q8_0)
#define PLANE_A 4
#define PLANE_B 4
#define SHIFT_B 4
#define ZERO 128
#define SCALE_S16
#elif defined(TYPE_Q2_K)
#define PLANE_A 2
#define PLANE_B 0
#define ZERO 0
#define SCALE_SK
#define SUB16
#define HAS_MIN
#elif defined(TYPE_Q3_K)
#define PLANE_A 2
#define PLANE_B 1
#define SHIFT_B 2
#define ZERO 4
#define SCALE_SK
#define SUB16
#elif defined(TYPE_Q4_K)
#define PLANE_A 4
#define PLANE_B 0
#define ZERO 0
#define SCALE_SK
#define HAS_MIN
#elif defined(TYPE_Q5_K)
#define PLANE_A 4
#define PLANE_B 1
#define SHIFT_B 4
#define ZERO 0
#define SCALE_SK
#define HAS_MIN
#elif defined(TYPE_Q6_K)
#define PLANE_A 4
#define PLANE_B 2
#define SHIFT_B 4
#define ZERO 32
#define SCALE_SK
#define SUB16
#endif

#ifdef PLANE_A // quantised

// The words of plane `bits` that hold block kb of a lane's output pair.
#define FETCH_PLANE(bits, plane, ob, kb, lane, words)                                              \
    {                                                                                              \
        if (bits == 4) {                                                                           \
            uint at_ = plane + ((ob) * p.n_kb + (kb)) * 16 + lane;                                 \
            uvec4 q0_ = QUAD(weights, at_), q1_ = QUAD(weights, at_ + 8);                          \
            words[0] = q0_.x; words[1] = q0_.y; words[2] = q0_.z; words[3] = q0_.w;                \
            words[4] = q1_.x; words[5] = q1_.y; words[6] = q1_.z; words[7] = q1_.w;                \
        } else if (bits == 2) {                                                                    \
            uvec4 q0_ = QUAD(weights, plane + ((ob) * p.n_kb + (kb)) * 8 + lane);                  \
            words[0] = q0_.x; words[1] = q0_.y; words[2] = q0_.z; words[3] = q0_.w;                \
        } else if (bits == 1) {                                                                    \
            uvec4 q0_ = QUAD(weights, plane + ((ob) * ((p.n_kb + 1) / 2) + (kb) / 2) * 8 + lane);  \
            words[0] = ((kb) & 1) == 0 ? q0_.x : q0_.z;                                            \
            words[1] = ((kb) & 1) == 0 ? q0_.y : q0_.w;                                            \
        }                                                                                          \
    }
// Input i (0..31) of a block: output lo in the low half, hi in the high half.
#define PLANE_PAIR(bits, words, i)                                                                 \
    (bits == 4   ? words[(i) >> 2] >> (4 * ((i) & 3)) & 0x000F000Fu                                \
     : bits == 2 ? words[(i) >> 3] >> (2 * ((i) & 7)) & 0x00030003u                                \
                 : words[(i) >> 4] >> ((i) & 15) & 0x00010001u)

// The scale words of output h (0 lo, 1 hi) of a lane for the blocks around kb.
struct scale_words {
    uvec4 s;
    uint d;
};

scale_words fetch_scales(uint ob, uint kb, uint h, uint lane)
{
    scale_words w;
    w.d = 0;
#if defined(SCALE_S32)
    w.s = QUAD(weights, p.plane2 + ((ob * ((p.n_kb + 3) / 4) + kb / 4) * 2 + h) * 8 + lane);
#elif defined(SCALE_S16)
    w.s = QUAD(weights, p.plane2 + ((ob * ((p.n_kb + 7) / 8) + kb / 8) * 2 + h) * 8 + lane);
#else
    uint n_sb = p.n_kb / 8, sb = kb / 8;
    w.s = QUAD(weights, p.plane2 + ((ob * n_sb + sb) * 2 + h) * 8 + lane);
    w.d = QUAD(weights, p.plane3 + ((ob * ((n_sb + 3) / 4) + sb / 4) * 2 + h) * 8 + lane)[sb & 3];
#endif
    return w;
}

// Scale and minimum of the 16 inputs `part` (0, 1) of block kb: weight = x * (q - ZERO) + y.
vec2 scale_of(scale_words w, uint kb, uint part)
{
#if defined(SCALE_S32)
    return unpackHalf2x16(w.s[kb & 3]);
#elif defined(SCALE_S16)
    vec2 d = unpackHalf2x16(w.s[(kb & 7) >> 1]);
    return vec2((kb & 1) == 0 ? d.x : d.y, 0);
#else
    vec2 d = unpackHalf2x16(w.d);
    uint two = w.s[(kb & 7) >> 1] >> (16 * (kb & 1));
#if defined(TYPE_Q4_K) || defined(TYPE_Q5_K)
    return vec2(d.x * float(two & 255u), -(d.y * float(two >> 8 & 255u)));
#elif defined(TYPE_Q2_K)
    uint b = two >> (8 * part);
    return vec2(d.x * float(b & 15u), -(d.y * float(b >> 4 & 15u)));
#else
    return vec2(d.x * float(int(two << (24 - 8 * part)) >> 24), 0);
#endif
#endif
}
#endif

// Input words of float types: `count` values of output h from input 4*i4 (F32) or 8*i8 (16 bits) on.
vec4 f32_quad(uint ob, uint k4, uint h, uint lane)
{
    return uintBitsToFloat(QUAD(weights, p.plane0 + ((ob * p.n_kb * 8 + k4) * 2 + h) * 8 + lane));
}

// Two 16-bit floats of a word, the lower one first.
vec2 two_floats(uint w)
{
#ifdef TYPE_BF16
    return uintBitsToFloat(uvec2(w << 16, w & 0xFFFF0000u));
#else
    return unpackHalf2x16(w);
#endif
}

uvec4 half_quad(uint ob, uint k8, uint h, uint lane)
{
    return QUAD(weights, p.plane0 + ((ob * p.n_kb * 4 + k8) * 2 + h) * 8 + lane);
}
