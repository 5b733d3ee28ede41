/* A compute device and what runs on it: device -> buffer -> launch -> command -> submit, wait.
 *
 * Two implementations: Vulkan (device.c memory.c buffer.c kernel.c command.c), and `ref` (gpu_ref.c),
 * which runs the C twin of every kernel on the CPU, so that all above works where no Vulkan is.
 * Nothing here is process-global: every call carries its device. This room knows no transformer.
 *
 * The life of a program: buffers are made, kernels are launched into a command once (recording), and
 * the command is submitted again and again; what changes from step to step lies in host buffers.
 *
 * Thread: one thread at a time for a device. Errors: ERR_NO_DEVICE, ERR_NO_DEVICE_MEMORY, ERR_NO_MEMORY,
 * ERR_GPU (a call failed: the sentence names it), ERR_GPU_LOST (sticky: every later call gives it; close
 * and open again). No call aborts, no wait is unbounded. */
#ifndef HEARTH_GPU_H
#define HEARTH_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "shaders/push.h"

#define GPU_MAX_BUFFER ((uint64_t)1 << 30) /* one buffer's bytes: a slab is never larger */
#define GPU_MAX_BINDINGS 10

enum kernel {
#define KERNEL(name, source, push, bindings, defines) KERNEL_##name,
#include "shaders/kernels.def"
#undef KERNEL
    KERNEL_COUNT
};
struct kernel_info {
    const char *name;
    const char *bindings; /* letters of kernels.def */
    uint32_t push_bytes;
};
const struct kernel_info *kernel_info(enum kernel k);

/* ---- device -------------------------------------------------------------------------------- */

struct gpu;
struct gpu_options {
    const char *device;    /* "" or NULL: best real GPU, else software; index; part of a name; "ref" */
    const char *cache_dir; /* for the pipeline cache; NULL: none */
    uint32_t cpu_threads;  /* of a software device, at most 8; 0: HEARTH_CPU_THREADS */
    bool storage_loads;    /* test: storage-buffer loads even on a CPU device */
    bool staged_copies;    /* test: as if the host could not see device memory */
};
struct gpu_info {
    char name[256], driver[256];
    uint8_t uuid[16];      /* of driver and device: names the pipeline cache and the tuner's file */
    bool software;         /* a CPU device (lavapipe, ref) */
    bool ref;              /* the C twins: no limits to respect */
    bool texel_loads;      /* 'q' bindings are texel views */
    uint32_t subgroup;     /* lanes; 1 on ref */
    uint32_t cores;        /* compute units; a guess where the driver does not say */
    uint32_t max_local;    /* invocations of a workgroup */
    uint32_t max_shared;   /* bytes of shared memory */
    uint64_t max_storage_range, max_texel_range; /* bytes that one binding can span */
    uint64_t memory_bytes; /* of the heap that GPU_DEVICE buffers come from */
};
enum err_code gpu_open(const struct gpu_options *o, struct gpu **out, struct err *e);
void gpu_close(struct gpu *g); /* after its buffers and commands; NULL is fine */
/* A software device uses HEARTH_CPU_THREADS threads where the options say nothing (else LP_NUM_THREADS, else
 * one for each core, at most 8).
 * Both variables are set by the first gpu_open of a process, so another thread must not read the environment
 * beside it. */
const struct gpu_info *gpu_info(const struct gpu *g);
/* One line for each device there is: index, name, driver. */
enum err_code gpu_list(struct buf *out, struct err *e);

/* ---- buffers ------------------------------------------------------------------------------- */

enum gpu_memory {
    GPU_DEVICE, /* weights, KV, activations: fast for the device */
    GPU_HOST,   /* mapped and coherent: what the host writes or reads each step */
};
struct gpu_buffer;
/* bytes: 1..GPU_MAX_BUFFER; zeroed. Owned by the caller; destroy when no running command uses it. */
enum err_code gpu_buffer_create(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                                struct gpu_buffer **out, struct err *e);
void gpu_buffer_destroy(struct gpu *g, struct gpu_buffer *b); /* NULL is fine */
uint64_t gpu_buffer_bytes(const struct gpu_buffer *b);
/* The buffer's bytes: always for GPU_HOST; for GPU_DEVICE where its memory is the host's (software,
 * UMA), else NULL. */
void *gpu_buffer_map(struct gpu_buffer *b);
/* Blocking copies, straight where mapped, else through a staging ring. */
enum err_code gpu_buffer_write(struct gpu *g, struct gpu_buffer *b, uint64_t offset, const void *src,
                               uint64_t bytes, struct err *e);
enum err_code gpu_buffer_read(struct gpu *g, struct gpu_buffer *b, uint64_t offset, void *dst,
                              uint64_t bytes, struct err *e);

/* ---- launches and commands ------------------------------------------------------------------ */

struct gpu_bind {
    struct gpu_buffer *buffer;
    uint64_t offset; /* a multiple of 256 */
    uint64_t bytes;  /* 0: to the end; within the device's range limit */
};
struct gpu_launch {
    enum kernel kernel;
    uint32_t spec[N_SPEC]; /* by SPEC_* id */
    const void *push;      /* kernel_info.push_bytes, copied */
    struct gpu_bind bind[GPU_MAX_BINDINGS]; /* an unused binding may repeat another one's buffer */
    uint32_t groups[3];    /* each 1..65535; with `indirect`: groups[0] is the x that will always be there,
                              or 0 where that may change */
    bool by_rows;          /* to be shared out by y, not x: where x is small and y is many (kernels that know GROUP_Y) */
    /* a share of a larger launch, not on `ref`: added to the x of each workgroup's id; of y, the first and
     * how many others lie between two */
    uint16_t first_group;
    uint8_t first_row, row_gap;
    struct gpu_buffer *indirect; /* GPU_HOST: three u32 at indirect_offset (a multiple of 4) are the
                                    groups, read when the command runs; any 0: nothing runs */
    uint64_t indirect_offset;
};

/* What a launch runs as: made on the first launch that asks for it, and kept by the device. */
struct gpu_pipeline {
    enum kernel kernel;
    uint32_t spec[N_SPEC]; /* by SPEC_* id */
};
/* Makes those of n that are not there yet, several at a time: drivers compile for long. For before launches;
 * the order does not matter, and one may be listed twice. */
enum err_code gpu_prepare(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e);

/* A recording that can be submitted any number of times. Barriers between its launches are derived
 * from what they bind; a command begins with a barrier against all that was submitted before it. */
struct gpu_command;
enum err_code gpu_command_create(struct gpu *g, struct gpu_command **out, struct err *e);
enum err_code gpu_command_launch(struct gpu_command *c, const struct gpu_launch *l, struct err *e);
/* Now it can be submitted; not where a launch failed (but with ERR_INVALID, which changes nothing). */
enum err_code gpu_command_end(struct gpu_command *c, struct err *e);
void gpu_command_destroy(struct gpu_command *c); /* NULL is fine; not while it runs */
uint32_t gpu_command_launches(const struct gpu_command *c);

/* One submit of n commands in order. No allocation. *ticket names it for gpu_wait. After an error of
 * this or of gpu_wait, but ERR_GPU_LOST, nothing that was submitted runs any more. */
enum err_code gpu_submit(struct gpu *g, struct gpu_command *const *c, size_t n, uint64_t *ticket,
                         struct err *e);
/* Waits until that submit is done, at most 10 s (software devices, which compile a kernel when it
 * first runs: 180 s), then the device is lost; *device_ns (may be NULL): time that it took on the
 * device. Host reads of GPU_HOST buffers are valid afterwards. */
enum err_code gpu_wait(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e);

/* Counters since open. */
struct gpu_counters {
    uint64_t submits, launches, pipelines, buffers, bytes;
};
struct gpu_counters gpu_counters(const struct gpu *g);
void gpu_save_cache(struct gpu *g); /* the pipeline cache; gpu_close does it too */

#endif
