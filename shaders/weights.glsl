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

// Where a lane's quads begin in each plane; its next ones are LANE_STEP quads apart.
struct lane_at {
    uint a, b, s, d;
};
uint first_quad(uint plane, uint ob, uint per_lane, uint lane)
{
    return plane + LANE_QUAD(ob, per_lane, 0, lane);
}

#ifdef PLANE_A // quantised

#define PLANE_QUADS(bits, n_kb) (bits == 4 ? 2 * (n_kb) : bits == 2 ? (n_kb) : ((n_kb) + 1) / 2)
lane_at lane_begin(uint ob, uint lane)
{
    uint n_kb = p.n_kb, n_groups = (n_kb + 3) / 4;
    lane_at at;
    at.a = first_quad(p.plane0, ob, PLANE_QUADS(PLANE_A, n_kb), lane);
    at.b = PLANE_B == 0 ? 0 : first_quad(p.plane1, ob, PLANE_QUADS(PLANE_B, n_kb), lane);
#if defined(SCALE_S32)
    at.s = first_quad(p.plane2, ob, 2 * n_groups, lane);
#else
    at.s = first_quad(p.plane2, ob, n_groups, lane);
#endif
    at.d = 0;
#ifdef SCALE_SK
    at.d = first_quad(p.plane3, ob, (n_groups + 3) / 4, lane);
#endif
    return at;
}

// The words of a plane of `bits` bits that hold block kb of the lane's output pair; `at` is where the
// plane's quads of block 0 are.
#define FETCH_PLANE(bits, at, kb, words)                                                           \
    {                                                                                              \
        if (bits == 4) {                                                                           \
            uvec4 q0_ = QUAD(weights, at + (kb) * (2 * LANE_STEP));                                \
            uvec4 q1_ = QUAD(weights, at + (kb) * (2 * LANE_STEP) + LANE_STEP);                    \
            words[0] = q0_.x; words[1] = q0_.y; words[2] = q0_.z; words[3] = q0_.w;                \
            words[4] = q1_.x; words[5] = q1_.y; words[6] = q1_.z; words[7] = q1_.w;                \
        } else if (bits == 2) {                                                                    \
            uvec4 q0_ = QUAD(weights, at + (kb) * LANE_STEP);                                      \
            words[0] = q0_.x; words[1] = q0_.y; words[2] = q0_.z; words[3] = q0_.w;                \
        } else if (bits == 1) {                                                                    \
            uvec4 q0_ = QUAD(weights, at + ((kb) / 2) * LANE_STEP);                                \
            words[0] = ((kb) & 1) == 0 ? q0_.x : q0_.z;                                            \
            words[1] = ((kb) & 1) == 0 ? q0_.y : q0_.w;                                            \
        }                                                                                          \
    }
// Input i (0..31) of the block whose words begin at words[at]: output lo in the low half, hi in the high.
#define PLANE_PAIR(bits, words, at, i)                                                             \
    (bits == 4   ? words[(at) + ((i) >> 2)] >> (4 * ((i) & 3)) & 0x000F000Fu                       \
     : bits == 2 ? words[(at) + ((i) >> 3)] >> (2 * ((i) & 7)) & 0x00030003u                       \
                 : words[(at) + ((i) >> 4)] >> ((i) & 15) & 0x00010001u)

// The same of one output: h 0 lo, 1 hi.
#define PLANE_FIELD(bits, words, at, i, h)                                                         \
    (bits == 4   ? words[(at) + ((i) >> 2)] >> (16 * (h) + 4 * ((i) & 3)) & 15u                    \
     : bits == 2 ? words[(at) + ((i) >> 3)] >> (16 * (h) + 2 * ((i) & 7)) & 3u                     \
                 : words[(at) + ((i) >> 4)] >> (16 * (h) + ((i) & 15)) & 1u)

// The scales of the lane's pair for the 4 blocks of group g.
struct scale_words {
    uvec4 s, s_hi; // s_hi: S32 only
    uvec2 d;       // SK only: lo, hi
};

scale_words fetch_scales(lane_at at, uint g)
{
    scale_words w;
    w.s_hi = uvec4(0);
    w.d = uvec2(0);
#if defined(SCALE_S32)
    w.s = QUAD(weights, at.s + g * (2 * LANE_STEP));
    w.s_hi = QUAD(weights, at.s + g * (2 * LANE_STEP) + LANE_STEP);
#else
    w.s = QUAD(weights, at.s + g * LANE_STEP);
#endif
#ifdef SCALE_SK
    uvec4 d = QUAD(weights, at.d + (g / 4) * LANE_STEP);
    w.d = (g & 2) == 0 ? d.xy : d.zw;
#endif
    return w;
}

// Scale and minimum of the 16 inputs `part` (0, 1) of the group's block j, of output h (0 lo, 1 hi):
// weight = x * (q - ZERO) + y.
vec2 scale_of(scale_words w, uint j, uint h, uint part)
{
#if defined(SCALE_S32)
    return unpackHalf2x16(h == 0 ? w.s[j] : w.s_hi[j]);
#elif defined(SCALE_S16)
    return vec2(unpackHalf2x16(w.s[j])[h], 0);
#else
    vec2 d = unpackHalf2x16(w.d[h]);
    uint two = w.s[j] >> (16 * h);
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

#else // floats

lane_at lane_begin(uint ob, uint lane)
{
#ifdef TYPE_F32
    uint per_lane = p.n_kb * 16;
#else
    uint per_lane = p.n_kb * 8;
#endif
    return lane_at(first_quad(p.plane0, ob, per_lane, lane), 0, 0, 0);
}

// Inputs 4i .. 4i+3 (F32) or 8i .. 8i+7 (16 bits) of output h.
uvec4 float_quad(lane_at at, uint i, uint h)
{
    return QUAD(weights, at.a + (2 * i + h) * LANE_STEP);
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
#endif
