/* C twins of the kernels: what `--device ref` runs, and what the judge compares a device with. A twin
 * is written for reading, follows shaders/push.h to the letter, and does a whole launch: every group
 * of c->groups, in any order. It touches nothing outside the bindings' ranges.
 *
 * ref_kernels (ref/ref.c) has a row for each kernel of shaders/kernels.def. Kernels that differ in
 * their tensor type alone may share a twin: c->kernel says which one it is. */
#ifndef HEARTH_GPU_REF_H
#define HEARTH_GPU_REF_H

#include "runtime/gpu/gpu.h"

struct ref_call {
    enum kernel kernel;
    const void *push; /* struct push_* of the kernel, aligned to 8 */
    uint32_t spec[N_SPEC];
    uint32_t groups[3];            /* each at least 1 */
    void *at[GPU_MAX_BINDINGS];    /* first byte of each binding, aligned to 16 */
    uint64_t bytes[GPU_MAX_BINDINGS];
};
typedef void ref_kernel(const struct ref_call *c);
extern ref_kernel *const ref_kernels[KERNEL_COUNT];

#endif
