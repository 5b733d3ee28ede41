/* The judge of the kernels: every row of shaders/kernels.def runs on a device and, with the same bytes,
 * as its C twin on `ref`; what both wrote is compared, and so is what neither may have touched.
 *
 * A check makes the bindings of one launch (struct call), runs it on both (call_run), says for each float
 * how far the two may be apart, and compares (judge_floats). Tables of shapes, modes and fills drive it. */
#ifndef HEARTH_TESTS_JUDGE_H
#define HEARTH_TESTS_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/gpu/gpu.h"
#include "runtime/model/repack.h"

struct judge {
    struct gpu *dev, *ref;
    const struct gpu_info *info; /* of dev */
    struct arena *arena;         /* of the current case */
    uint64_t seed;
    uint32_t share, of;          /* only every of-th case of a kernel runs, from number `share` on; of 0: all */
    char label[256];             /* of the current case */
    /* of the current kernel */
    enum kernel kernel;
    uint64_t cases, ran, failures, shown;
    double worst; /* largest error as a share of what is allowed */
};

/* Memory of the current case, zeroed; the program ends when there is none. */
void *judge_alloc(struct judge *j, size_t bytes);
/* Begins a case: its name, for when it fails. */
void judge_case(struct judge *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void judge_fail(struct judge *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- a launch on both ------------------------------------------------------------------------ */

struct call {
    uint32_t spec[N_SPEC];
    const void *push;
    uint32_t groups[3];
    bool by_rows; /* see gpu_launch */
    struct {
        void *data;     /* before the launch */
        uint64_t bytes; /* a multiple of 16 */
        void *dev, *ref; /* after it, of those that are written */
    } bind[GPU_MAX_BINDINGS];
};
/* Room for a binding; written ones are filled with a pattern that no kernel writes. */
void *call_bind(struct judge *j, struct call *c, uint32_t at, uint64_t bytes);
bool call_run(struct judge *j, struct call *c); /* false: failed, and said so; or not in our share */

#define UNTOUCHED 0xC7D5E3A1u

/* n floats of binding `at` from `first` on: within allow[i] of each other; equal to the bit where the
 * twin left the pattern alone. `allow` NULL: equal to the bit, but for the payload of a NaN. */
void judge_floats(struct judge *j, const struct call *c, uint32_t at, size_t n, const double *allow);
/* Bytes that the twin did not touch are untouched: all of binding `at`, by words. */
void judge_untouched(struct judge *j, const struct call *c, uint32_t at);
/* Blocks of q8: int8 q within one (and few of them), scales within a millionth, sums of the device's
 * own q. rows of k inputs, `stride` quads apart. */
void judge_q8(struct judge *j, const struct call *c, uint32_t at, uint32_t rows, uint32_t k, uint32_t stride);

/* A page buffer's elements as floats, within `near` of the block's largest; f16 may round either way. */
void judge_pages(struct judge *j, const struct call *c, uint32_t at, uint32_t n_slots, uint32_t kvt,
                 uint32_t kv_dim, double near);

/* ---- inputs ------------------------------------------------------------------------------------- */

uint32_t judge_random(struct judge *j);
float judge_uniform(struct judge *j); /* -1 .. 1 */
uint32_t *judge_step(struct judge *j, struct call *c, uint32_t n_rows, uint32_t n_out); /* binding 0 */

enum fill { PLAIN, ZEROS, HUGE_ONES, TINY, SPIKES, SIGNS, VANISHING /* subnormal, or nearly */ };
const char *fill_name(enum fill f);
void fill_floats(struct judge *j, float *x, size_t n, enum fill f);

/* How the blocks of a weight matrix look. */
enum blocks { SANE, ALL_ONES, ALL_ZERO, ANY_SCALE /* infinities and NaN too */, EXTREME };
struct weights {
    const struct tensor_type *type;
    struct repack_layout l;
    uint32_t m;
    uint8_t *src;     /* [m] rows of blocks */
    size_t row_bytes;
};
struct weights weights_make(struct judge *j, uint32_t type_id, uint32_t k, uint32_t m, enum blocks how);
void weights_row(const struct weights *w, uint32_t row, float *out); /* by the type's own decoder */
/* Row r is output r of that order (repack_output). */
void weights_pack(struct judge *j, const struct weights *w, enum repack_order order, uint32_t head_dim,
                  void *planes);

uint64_t page_bytes(uint32_t n_kv, uint32_t kvt, uint32_t kv_dim); /* of a K or V page */

/* Which tensor type a kernel is for. UINT32_MAX: none. */
uint32_t kernel_type(enum kernel k);

/* ---- the checks ------------------------------------------------------------------------------------ */

void check_embed(struct judge *j);
void check_norm(struct judge *j);
void check_matmul(struct judge *j);
void check_rope(struct judge *j);
void check_attention(struct judge *j);
void check_join(struct judge *j);
void check_meet(struct judge *j);

struct bench_options {
    uint32_t cols, blocks, kparts, local; /* 0: as the engine would choose */
    bool json;
};
bool bench(struct judge *j, const char *only, const struct bench_options *o);

#endif
