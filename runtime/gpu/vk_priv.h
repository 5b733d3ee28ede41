/* The Vulkan implementation's own structs. device -> memory -> buffer -> kernel -> command, each
 * readable without the next. Vulkan 1.2 through volk: instance calls by volk's pointers (which are the
 * loader's own, the same for every instance), device calls by the device's table.
 *
 * A test makes calls fail by giving volkInitializeCustom its own vkGetInstanceProcAddr before
 * gpu_open: device.c calls volkInitialize only where nobody has. */
#ifndef HEARTH_GPU_VK_PRIV_H
#define HEARTH_GPU_VK_PRIV_H

#include <volk.h>

#include "runtime/gpu/gpu_priv.h"

/* Slabs: a buffer of at least VK_SLAB_OWN bytes has one of its own, smaller ones share. */
#define VK_SLAB_OWN ((uint64_t)16 << 20)
#define VK_SLAB_SHARED ((uint64_t)32 << 20)
#define VK_STAGING ((uint64_t)8 << 20) /* bytes of each half of the staging ring */
#define VK_SLOTS 16                    /* submits in flight */
#define VK_SPIN_NS 50000
#define VK_WAIT_NS ((int64_t)10 * 1000000000)
/* A software device compiles a kernel when it first runs: a cold cache on a busy machine. */
#define VK_WAIT_SOFTWARE_NS ((int64_t)180 * 1000000000)

struct vk_range {
    uint64_t at, bytes;
};
struct vk_slab { /* one VkDeviceMemory */
    struct vk_slab *next;
    VkDeviceMemory memory;
    uint8_t *map; /* NULL where the host cannot see it */
    bool ours;    /* the memory is a mapping of our own that the device was given */
    struct vk_slab *twin; /* it is this one's, of another device: nothing is handed out here */
    uint64_t bytes;
    uint64_t used; /* bytes from here on were never handed out */
    uint32_t type;
    struct vk_range *free; /* ascending, never touching */
    size_t n_free, cap_free, n_taken; /* taken: ranges, and twins of the whole */
};
struct vk_place {
    struct vk_slab *slab;
    uint64_t at, bytes;
    uint64_t dirty; /* the first bytes of it that may not be zero */
};

struct vk_view { /* a texel view of a part of a buffer */
    VkBufferView handle;
    uint64_t offset, bytes;
};
struct vk_buffer {
    struct gpu_buffer base;
    VkBuffer handle;
    struct vk_place place;
    struct vk_view *views;
    size_t n_views, cap_views;
};

struct vk_layout { /* of a kernel; made with its first pipeline */
    VkShaderModule module;
    VkDescriptorSetLayout set;
    VkPipelineLayout pipeline;
};
struct vk_pipeline {
    enum kernel kernel;
    uint32_t spec[N_SPEC];
    VkPipeline handle;
    VkResult result; /* of its making */
};

struct vk_staging { /* copies to and from memory that the host cannot see */
    struct gpu_buffer *half[2];
    VkCommandBuffer command[2];
    uint64_t ticket[2]; /* of the last copy through it */
};

struct vk_device {
    struct gpu base;
    VkInstance instance;
    VkPhysicalDevice physical;
    VkDevice device;
    struct VolkDeviceTable fn;
    VkQueue queue;
    uint32_t family;
    VkPhysicalDeviceProperties props;
    VkPhysicalDeviceMemoryProperties heaps;
    bool host_memory;      /* device memory is the host's: GPU_DEVICE buffers are mapped */
    bool memory_budget;    /* VK_EXT_memory_budget */
    bool import_host;      /* VK_EXT_external_memory_host on a software device */
    bool full_subgroups;   /* pipelines require info.subgroup lanes */
    bool stuck;            /* it did not answer in time: its objects cannot be destroyed */
    struct vk_slab *slabs;

    struct vk_layout layouts[KERNEL_COUNT];
    struct vk_pipeline *pipelines;
    size_t n_pipelines, cap_pipelines;
    size_t n_made; /* of them; the others are being made */
    VkPipelineCache cache;
    char *cache_path; /* NULL: not kept */
    size_t cache_seen; /* pipelines made when it was last saved */

    VkCommandPool pool;
    VkSemaphore timeline; /* its value is the last finished ticket */
    uint64_t submitted, done;
    VkQueryPool stamps;   /* two a slot; none where the queue has no clock */
    VkCommandBuffer stamp[VK_SLOTS][2];
    uint32_t stamp_bits;  /* of a time stamp that count */
    uint64_t slot_ticket[VK_SLOTS];
    uint32_t next_slot;
    struct vk_staging staging;
};

/* device.c: ERR_OK, or the code and sentence for a failed call: "call: result (what)". */
enum err_code vk_check(struct vk_device *d, VkResult r, struct err *e, const char *call,
                       const char *what);
extern const struct gpu_ops vk_ops;

/* memory.c */
enum err_code vk_place(struct vk_device *d, const VkMemoryRequirements *need, enum gpu_memory where,
                       struct vk_place *out, struct err *e);
/* The same place in a twin of its slab. */
enum err_code vk_place_twin(struct vk_device *d, const struct vk_place *of, struct vk_place *out,
                            struct err *e);
void vk_unplace(struct vk_device *d, struct vk_place *p);
uint64_t vk_heap_bytes(const struct vk_device *d);

/* buffer.c */
enum err_code vk_buffer_create(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                               struct gpu_buffer **out, struct err *e);
void vk_buffer_destroy(struct gpu *g, struct gpu_buffer *b);
enum err_code vk_buffer_write(struct gpu *g, struct gpu_buffer *b, uint64_t offset, const void *src,
                              uint64_t bytes, struct err *e);
enum err_code vk_buffer_read(struct gpu *g, struct gpu_buffer *b, uint64_t offset, void *dst,
                             uint64_t bytes, struct err *e);
/* The texel view of that part; owned by the buffer. */
enum err_code vk_buffer_view(struct vk_device *d, struct vk_buffer *b, uint64_t offset,
                             uint64_t bytes, VkBufferView *out, struct err *e);
void vk_staging_finish(struct vk_device *d);

/* kernel.c, kernel_cache.c */
enum err_code vk_pipeline(struct vk_device *d, enum kernel k, const uint32_t spec[N_SPEC],
                          VkPipeline *out, struct err *e);
enum err_code vk_prepare(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e);
void vk_kernels_finish(struct vk_device *d);
enum err_code vk_cache_open(struct vk_device *d, const char *dir, struct err *e);
void vk_cache_save(struct gpu *g);

/* command.c */
enum err_code vk_queue_init(struct vk_device *d, struct err *e);
void vk_queue_finish(struct vk_device *d);
enum err_code vk_command_buffers(struct vk_device *d, VkCommandBuffer *out, uint32_t n,
                                 struct err *e);
/* Sends n command buffers as one submit; *ticket is the value that the timeline then reaches. */
enum err_code vk_send(struct vk_device *d, const VkCommandBuffer *c, uint32_t n, uint64_t *ticket,
                      struct err *e);
enum err_code vk_wait_for(struct vk_device *d, uint64_t ticket, struct err *e);
/* Nothing runs any more, or the device is lost (and may be stuck). */
void vk_settle(struct vk_device *d);
void vk_rest(struct gpu *g);
enum err_code vk_command_create(struct gpu *g, struct gpu_command **out, struct err *e);
void vk_command_destroy(struct gpu_command *c);
enum err_code vk_command_launch(struct gpu_command *c, const struct gpu_launch *l, struct err *e);
enum err_code vk_command_end(struct gpu_command *c, struct err *e);
enum err_code vk_submit(struct gpu *g, struct gpu_command *const *c, size_t n, uint64_t *ticket,
                        struct err *e);
enum err_code vk_wait(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e);

#endif
