#include "runtime/gpu/ref/ref.h"

ref_kernel *const ref_kernels[KERNEL_COUNT] = { 0 };
