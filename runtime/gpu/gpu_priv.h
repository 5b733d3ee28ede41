/* What the two implementations of gpu.h share: gpu.c checks every call at the door and hands it to
 * one of them through `struct gpu_ops`. For this folder only; knows no Vulkan (that is vk_priv.h). */
#ifndef HEARTH_GPU_PRIV_H
#define HEARTH_GPU_PRIV_H

#include "runtime/gpu/gpu.h"

#define GPU_BIND_ALIGN 256 /* Vulkan's largest allowed minimum offset alignment of a binding */
#define GPU_MAX_GROUPS 65535
#define GPU_MAX_PUSH PUSH_SHARE
#define QUAD_BYTES 16

struct gpu_ops {
    void (*close)(struct gpu *g);
    void (*save_cache)(struct gpu *g);
    enum err_code (*buffer_create)(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                                   struct gpu_buffer **out, struct err *e);
    void (*buffer_destroy)(struct gpu *g, struct gpu_buffer *b);
    enum err_code (*buffer_write)(struct gpu *g, struct gpu_buffer *b, uint64_t offset,
                                  const void *src, uint64_t bytes, struct err *e);
    enum err_code (*buffer_read)(struct gpu *g, struct gpu_buffer *b, uint64_t offset, void *dst,
                                 uint64_t bytes, struct err *e);
    enum err_code (*prepare)(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e);
    enum err_code (*command_create)(struct gpu *g, struct gpu_command **out, struct err *e);
    void (*command_destroy)(struct gpu_command *c);
    enum err_code (*command_launch)(struct gpu_command *c, const struct gpu_launch *l,
                                    struct err *e);
    enum err_code (*command_end)(struct gpu_command *c, struct err *e);
    enum err_code (*submit)(struct gpu *g, struct gpu_command *const *c, size_t n, uint64_t *ticket,
                            struct err *e);
    enum err_code (*wait)(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e);
    void (*rest)(struct gpu *g); /* after a failed submit or wait: nothing runs any more, or it is lost */
};

/* Each is the first member of an implementation's own struct. */
struct gpu {
    const struct gpu_ops *ops;
    struct gpu_info info;
    struct gpu_counters counters;
    bool lost;
};
struct gpu_buffer {
    uint64_t bytes;
    enum gpu_memory where;
    void *map; /* NULL: the host cannot see it */
};
struct gpu_command {
    struct gpu *gpu;
    uint32_t launches;
    bool ended;
    bool torn; /* something went wrong while it was recorded */
};

/* core: what threads the driver makes for a software device stay on that core, the n-th of those that the
 * calling thread may run on; GPU_ANY_CORE: where the system puts them, as those of a real GPU. */
#define GPU_ANY_CORE UINT32_MAX
enum err_code gpu_vk_open(const struct gpu_options *o, uint32_t core, struct gpu **out, struct err *e);
enum err_code gpu_vk_list(struct buf *out, struct err *e);
/* gpu_team.c: several software devices as one, where there are cores for them; else like gpu_vk_open. */
enum err_code gpu_team_open(const struct gpu_options *o, struct gpu **out, struct err *e);
/* buffer.c: whether a device's buffers can have twins, and the twin of one on another device of that kind:
 * the same memory. The twin goes first. */
bool gpu_vk_shares_memory(const struct gpu *g);
enum err_code gpu_vk_buffer_twin(struct gpu *g, const struct gpu_buffer *of, struct gpu_buffer **out,
                                 struct err *e);
/* kernel.c: gpu_prepare for all of these devices, by so many threads together. */
enum err_code gpu_vk_prepare(struct gpu *const *g, uint32_t n_g, const struct gpu_pipeline *p, size_t n,
                             uint32_t threads, struct err *e);
enum err_code gpu_ref_open(const struct gpu_options *o, struct gpu **out, struct err *e);

struct spirv {
    const uint32_t *code;
    size_t bytes;
};
struct spirv kernel_spirv(enum kernel k, bool texel_loads);

uint64_t host_memory_bytes(void); /* this machine's; 0: unknown */

/* Bytes that a binding spans (0 in the bind means: to the buffer's end). */
uint64_t gpu_bind_bytes(const struct gpu_bind *b);

#endif
