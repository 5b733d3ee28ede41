/* Recording, submitting, waiting.
 *
 * A command is one command buffer, recorded once. Before a launch that touches what an earlier one
 * of the command wrote (or writes what an earlier one touched) stands a barrier; the list of what was
 * touched is then empty again. One timeline semaphore counts submits: its value is the last finished
 * ticket. Around the commands of a submit stand two small recordings that write time stamps; they are
 * made at open, one pair for each of VK_SLOTS submits in flight. */
#include "runtime/gpu/vk_priv.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define SETS_A_POOL 64
#define SEND_AT_ONCE 32 /* command buffers of one vkQueueSubmit */
#define MAX_LIST ((size_t)1 << 24)

struct access {
    const struct gpu_buffer *buffer;
    uint64_t from, to;
    bool write;
};

struct vk_command {
    struct gpu_command base;
    VkCommandBuffer handle;
    VkDescriptorPool *pools;
    size_t n_pools, cap_pools;
    uint32_t sets_left; /* in the last pool */
    VkPipeline bound;
    struct access *touched; /* since the last barrier */
    size_t n_touched, cap_touched;
};

/* ---- queue --------------------------------------------------------------------------------- */

enum err_code vk_command_buffers(struct vk_device *d, VkCommandBuffer *out, uint32_t n,
                                 struct err *e)
{
    VkResult r = d->fn.vkAllocateCommandBuffers(
        d->device,
        &(VkCommandBufferAllocateInfo){ .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                        .commandPool = d->pool,
                                        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                        .commandBufferCount = n },
        out);
    enum err_code rc = vk_check(d, r, e, "vkAllocateCommandBuffers", "commands");
    if (rc)
        memset(out, 0, n * sizeof *out);
    return rc;
}

static enum err_code begin(struct vk_device *d, VkCommandBuffer c, struct err *e)
{
    VkResult r = d->fn.vkBeginCommandBuffer(
        c, &(VkCommandBufferBeginInfo){ .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT });
    return vk_check(d, r, e, "vkBeginCommandBuffer", "a command");
}

static enum err_code end(struct vk_device *d, VkCommandBuffer c, struct err *e)
{
    return vk_check(d, d->fn.vkEndCommandBuffer(c), e, "vkEndCommandBuffer", "a command");
}

/* stamp[slot][0] and [1]: the time when all before it has ended. A software queue does one thing after
 * another, so that it has ended at the top of the pipe too; asking at the bottom costs a flush. */
static enum err_code record_stamp(struct vk_device *d, uint32_t slot, uint32_t which,
                                  struct err *e)
{
    VkCommandBuffer c = d->stamp[slot][which];
    enum err_code rc = begin(d, c, e);
    if (rc)
        return rc;
    if (which == 0)
        d->fn.vkCmdResetQueryPool(c, d->stamps, 2 * slot, 2);
    d->fn.vkCmdWriteTimestamp(c,
                              d->base.info.software ? VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT
                                                    : VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT,
                              d->stamps, 2 * slot + which);
    return end(d, c, e);
}

static enum err_code stamps_init(struct vk_device *d, struct err *e)
{
    VkQueueFamilyProperties f[32];
    uint32_t n = 32;
    vkGetPhysicalDeviceQueueFamilyProperties(d->physical, &n, f);
    if (d->family >= n || f[d->family].timestampValidBits == 0)
        return ERR_OK;
    VkResult r = d->fn.vkCreateQueryPool(
        d->device,
        &(VkQueryPoolCreateInfo){ .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                  .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                  .queryCount = 2 * VK_SLOTS },
        NULL, &d->stamps);
    enum err_code rc = vk_check(d, r, e, "vkCreateQueryPool", "time stamps");
    if (rc) {
        d->stamps = VK_NULL_HANDLE;
        return rc;
    }
    d->stamp_bits = f[d->family].timestampValidBits;
    rc = vk_command_buffers(d, &d->stamp[0][0], 2 * VK_SLOTS, e);
    for (uint32_t i = 0; i < 2 * VK_SLOTS && !rc; i++)
        rc = record_stamp(d, i / 2, i % 2, e);
    return rc;
}

enum err_code vk_queue_init(struct vk_device *d, struct err *e)
{
    VkResult r = d->fn.vkCreateCommandPool(
        d->device,
        &(VkCommandPoolCreateInfo){ .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = d->family },
        NULL, &d->pool);
    enum err_code rc = vk_check(d, r, e, "vkCreateCommandPool", "one");
    if (rc) {
        d->pool = VK_NULL_HANDLE;
        return rc;
    }
    r = d->fn.vkCreateSemaphore(
        d->device,
        &(VkSemaphoreCreateInfo){
            .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
            .pNext =
                &(VkSemaphoreTypeCreateInfo){ .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                              .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE } },
        NULL, &d->timeline);
    rc = vk_check(d, r, e, "vkCreateSemaphore", "the timeline");
    if (rc)
        d->timeline = VK_NULL_HANDLE;
    return rc ? rc : stamps_init(d, e);
}

void vk_queue_finish(struct vk_device *d)
{
    d->fn.vkDestroyQueryPool(d->device, d->stamps, NULL);
    d->fn.vkDestroySemaphore(d->device, d->timeline, NULL);
    d->fn.vkDestroyCommandPool(d->device, d->pool, NULL); /* frees its command buffers */
}

enum err_code vk_send(struct vk_device *d, const VkCommandBuffer *c, uint32_t n, uint64_t *ticket,
                      struct err *e)
{
    uint64_t next = d->submitted + 1;
    VkResult r = d->fn.vkQueueSubmit(
        d->queue, 1,
        &(VkSubmitInfo){
            .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
            .pNext =
                &(VkTimelineSemaphoreSubmitInfo){
                    .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                    .signalSemaphoreValueCount = 1,
                    .pSignalSemaphoreValues = &next },
            .commandBufferCount = n,
            .pCommandBuffers = c,
            .signalSemaphoreCount = 1,
            .pSignalSemaphores = &d->timeline },
        VK_NULL_HANDLE);
    enum err_code rc = vk_check(d, r, e, "vkQueueSubmit", "commands");
    if (!rc)
        *ticket = d->submitted = next;
    return rc;
}

/* ---- waiting ------------------------------------------------------------------------------- */

static enum err_code look(struct vk_device *d, struct err *e)
{
    uint64_t value = 0;
    VkResult r = d->fn.vkGetSemaphoreCounterValue(d->device, d->timeline, &value);
    enum err_code rc = vk_check(d, r, e, "vkGetSemaphoreCounterValue", "the timeline");
    if (!rc && value > d->done)
        d->done = value;
    return rc;
}

static enum err_code spin(struct vk_device *d, uint64_t ticket, struct err *e)
{
    int64_t until = clock_ns() + VK_SPIN_NS;
    enum err_code rc = look(d, e);
    while (!rc && d->done < ticket && clock_ns() < until)
        rc = look(d, e);
    return rc;
}

enum err_code vk_wait_for(struct vk_device *d, uint64_t ticket, struct err *e)
{
    int64_t most = d->base.info.software ? VK_WAIT_SOFTWARE_NS : VK_WAIT_NS;
    if (ticket <= d->done)
        return ERR_OK;
    enum err_code rc = d->base.info.software ? ERR_OK : spin(d, ticket, e);
    if (rc || ticket <= d->done)
        return rc;
    VkResult r = d->fn.vkWaitSemaphores(
        d->device,
        &(VkSemaphoreWaitInfo){ .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                .semaphoreCount = 1,
                                .pSemaphores = &d->timeline,
                                .pValues = &ticket },
        (uint64_t)most);
    d->stuck |= r == VK_TIMEOUT;
    rc = vk_check(d, r, e, "vkWaitSemaphores", r == VK_TIMEOUT ? "it does not answer" : "a submit");
    if (!rc)
        d->done = ticket;
    return rc;
}

void vk_settle(struct vk_device *d)
{
    if (d->stuck) { /* perhaps it has come back */
        d->stuck = look(d, NULL) != ERR_OK || d->done < d->submitted;
        return;
    }
    /* A call that fails once may work the next time; a lost device runs nothing any more. */
    for (int i = 0; i < 3 && d->done < d->submitted && !d->base.lost; i++)
        vk_wait_for(d, d->submitted, NULL);
    if (d->done < d->submitted && !d->base.lost)
        d->base.lost = d->stuck = true;
}

/* ---- recording ----------------------------------------------------------------------------- */

#define STAGES (VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_DRAW_INDIRECT_BIT)
#define READS                                                                                      \
    (VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_INDIRECT_COMMAND_READ_BIT)

static void barrier(struct vk_device *d, VkCommandBuffer c, VkPipelineStageFlags from,
                    VkAccessFlags written, VkPipelineStageFlags to, VkAccessFlags read)
{
    VkMemoryBarrier b = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL, written, read };
    d->fn.vkCmdPipelineBarrier(c, from, to, 0, 1, &b, 0, NULL, 0, NULL);
}

enum err_code vk_command_create(struct gpu *g, struct gpu_command **out, struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    struct vk_command *c = mem_zero(1, sizeof *c);
    if (!c)
        return err_no_memory(e, sizeof *c, "a command");
    c->base.gpu = g;
    enum err_code rc = vk_command_buffers(d, &c->handle, 1, e);
    if (!rc)
        rc = begin(d, c->handle, e);
    if (rc) {
        vk_command_destroy(&c->base);
        return rc;
    }
    barrier(d, c->handle,
            STAGES | VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT,
            VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT | VK_ACCESS_HOST_WRITE_BIT,
            STAGES, READS);
    *out = &c->base;
    return ERR_OK;
}

void vk_command_destroy(struct gpu_command *base)
{
    struct vk_command *c = (struct vk_command *)base;
    struct vk_device *d = (struct vk_device *)base->gpu;
    vk_settle(d);
    if (!d->stuck) {
        if (c->handle)
            d->fn.vkFreeCommandBuffers(d->device, d->pool, 1, &c->handle);
        for (size_t i = 0; i < c->n_pools; i++)
            d->fn.vkDestroyDescriptorPool(d->device, c->pools[i], NULL);
    }
    mem_free(c->pools);
    mem_free(c->touched);
    mem_free(c);
}

static enum err_code add_pool(struct vk_device *d, struct vk_command *c, struct err *e)
{
    const uint32_t each = SETS_A_POOL * GPU_MAX_BINDINGS;
    VkDescriptorPoolSize size[2] = { { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, each },
                                     { VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, each } };
    VkDescriptorPool pool;
    if (!mem_grow(&c->pools, &c->cap_pools, c->n_pools + 1, sizeof *c->pools, MAX_LIST))
        return err_no_memory(e, sizeof *c->pools, "a command's descriptor pools");
    VkResult r = d->fn.vkCreateDescriptorPool(
        d->device,
        &(VkDescriptorPoolCreateInfo){ .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = SETS_A_POOL,
                                       .poolSizeCount = d->base.info.texel_loads ? 2 : 1,
                                       .pPoolSizes = size },
        NULL, &pool);
    enum err_code rc = vk_check(d, r, e, "vkCreateDescriptorPool", "a command");
    if (rc)
        return rc;
    c->pools[c->n_pools++] = pool;
    c->sets_left = SETS_A_POOL;
    return ERR_OK;
}

static enum err_code take_set(struct vk_device *d, struct vk_command *c, enum kernel k,
                              VkDescriptorSet *out, struct err *e)
{
    enum err_code rc = c->sets_left ? ERR_OK : add_pool(d, c, e);
    if (rc)
        return rc;
    VkResult r = d->fn.vkAllocateDescriptorSets(
        d->device,
        &(VkDescriptorSetAllocateInfo){ .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = c->pools[c->n_pools - 1],
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &d->layouts[k].set },
        out);
    rc = vk_check(d, r, e, "vkAllocateDescriptorSets", kernel_info(k)->name);
    if (!rc)
        c->sets_left--;
    return rc;
}

/* Whole quads, where the device's limit allows: the buffer is that long. */
static uint64_t range_of(const struct gpu_bind *b, uint64_t most)
{
    uint64_t bytes = gpu_bind_bytes(b), whole = (bytes + QUAD_BYTES - 1) / QUAD_BYTES * QUAD_BYTES;
    return whole <= most ? whole : bytes;
}

static enum err_code fill_set(struct vk_device *d, VkDescriptorSet set, const struct gpu_launch *l,
                              struct err *e)
{
    const char *letters = kernel_info(l->kernel)->bindings;
    VkDescriptorBufferInfo range[GPU_MAX_BINDINGS];
    VkBufferView view[GPU_MAX_BINDINGS];
    VkWriteDescriptorSet w[GPU_MAX_BINDINGS];
    uint32_t n = 0;
    for (; letters[n]; n++) {
        const struct gpu_bind *b = &l->bind[n];
        struct vk_buffer *buffer = (struct vk_buffer *)b->buffer;
        bool texel = letters[n] == 'q' && d->base.info.texel_loads;
        w[n] = (VkWriteDescriptorSet){
            .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
            .dstSet = set,
            .dstBinding = n,
            .descriptorCount = 1,
            .descriptorType = texel ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER
                                    : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .pBufferInfo = &range[n],
            .pTexelBufferView = &view[n],
        };
        range[n] = (VkDescriptorBufferInfo){ buffer->handle, b->offset,
                                             range_of(b, d->base.info.max_storage_range) };
        view[n] = VK_NULL_HANDLE;
        if (texel && vk_buffer_view(d, buffer, b->offset,
                                    range_of(b, d->base.info.max_texel_range), &view[n], e))
            return e ? e->code : ERR_GPU;
    }
    d->fn.vkUpdateDescriptorSets(d->device, n, w, 0, NULL);
    return ERR_OK;
}

/* ---- barriers: what a launch touches against what was touched since the last one ---------------- */

static bool clashes(const struct vk_command *c, const struct access *a)
{
    for (size_t i = 0; i < c->n_touched; i++) {
        const struct access *b = &c->touched[i];
        if ((a->write || b->write) && a->buffer == b->buffer && a->from < b->to && b->from < a->to)
            return true;
    }
    return false;
}

static uint32_t accesses(const struct gpu_launch *l, struct access out[GPU_MAX_BINDINGS + 1])
{
    const char *letters = kernel_info(l->kernel)->bindings;
    uint32_t n = 0;
    for (; letters[n]; n++) {
        const struct gpu_bind *b = &l->bind[n];
        out[n] = (struct access){ b->buffer, b->offset, b->offset + gpu_bind_bytes(b),
                                  letters[n] == 'w' };
    }
    if (l->indirect)
        out[n++] = (struct access){ l->indirect, l->indirect_offset, l->indirect_offset + 12,
                                    false };
    return n;
}

static enum err_code order(struct vk_device *d, struct vk_command *c, const struct gpu_launch *l,
                           struct err *e)
{
    struct access a[GPU_MAX_BINDINGS + 1];
    uint32_t n = accesses(l, a);
    bool must = false;
    if (!mem_grow(&c->touched, &c->cap_touched, c->n_touched + n, sizeof *a, MAX_LIST))
        return err_no_memory(e, sizeof a, "a command's accesses");
    for (uint32_t i = 0; i < n && !must; i++)
        must = clashes(c, &a[i]);
    if (must) {
        barrier(d, c->handle, STAGES, VK_ACCESS_SHADER_WRITE_BIT, STAGES, READS);
        c->n_touched = 0;
    }
    memcpy(c->touched + c->n_touched, a, n * sizeof *a);
    c->n_touched += n;
    return ERR_OK;
}

enum err_code vk_command_launch(struct gpu_command *base, const struct gpu_launch *l, struct err *e)
{
    struct vk_command *c = (struct vk_command *)base;
    struct vk_device *d = (struct vk_device *)base->gpu;
    const struct kernel_info *k = kernel_info(l->kernel);
    VkDescriptorSet set = VK_NULL_HANDLE;
    VkPipeline pipeline = VK_NULL_HANDLE;
    enum err_code rc = vk_pipeline(d, l->kernel, l->spec, &pipeline, e);
    if (!rc)
        rc = take_set(d, c, l->kernel, &set, e);
    if (!rc)
        rc = fill_set(d, set, l, e);
    if (!rc)
        rc = order(d, c, l, e);
    if (rc)
        return rc;
    VkPipelineLayout layout = d->layouts[l->kernel].pipeline;
    if (c->bound != pipeline)
        d->fn.vkCmdBindPipeline(c->handle, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    c->bound = pipeline;
    d->fn.vkCmdBindDescriptorSets(c->handle, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0,
                                  NULL);
    if (k->push_bytes)
        d->fn.vkCmdPushConstants(c->handle, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, k->push_bytes,
                                 l->push);
    uint32_t share = l->first_group | (uint32_t)l->first_row << 16 | (uint32_t)l->row_gap << 24;
    d->fn.vkCmdPushConstants(c->handle, layout, VK_SHADER_STAGE_COMPUTE_BIT, PUSH_SHARE, 4, &share);
    if (l->indirect)
        d->fn.vkCmdDispatchIndirect(c->handle, ((struct vk_buffer *)l->indirect)->handle,
                                    l->indirect_offset);
    else
        d->fn.vkCmdDispatch(c->handle, l->groups[0], l->groups[1], l->groups[2]);
    return ERR_OK;
}

enum err_code vk_command_end(struct gpu_command *base, struct err *e)
{
    struct vk_command *c = (struct vk_command *)base;
    struct vk_device *d = (struct vk_device *)base->gpu;
    barrier(d, c->handle, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_ACCESS_SHADER_WRITE_BIT,
            VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    mem_free(c->touched);
    c->touched = NULL;
    c->n_touched = c->cap_touched = 0;
    return end(d, c->handle, e);
}

/* ---- submits ------------------------------------------------------------------------------- */

void vk_rest(struct gpu *g)
{
    vk_settle((struct vk_device *)g);
}

enum err_code vk_submit(struct gpu *g, struct gpu_command *const *c, size_t n, uint64_t *ticket,
                        struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    VkCommandBuffer list[SEND_AT_ONCE];
    uint32_t slot = d->next_slot, used = 0;
    enum err_code rc = vk_wait_for(d, d->slot_ticket[slot], e);
    if (!rc && d->stamps)
        list[used++] = d->stamp[slot][0];
    for (size_t i = 0; i < n && !rc; i++) {
        if (used == SEND_AT_ONCE - 1) {
            rc = vk_send(d, list, used, ticket, e);
            used = 0;
        }
        list[used++] = ((const struct vk_command *)c[i])->handle;
    }
    if (rc)
        return rc;
    if (d->stamps)
        list[used++] = d->stamp[slot][1];
    rc = vk_send(d, list, used, ticket, e);
    if (rc)
        return rc;
    d->slot_ticket[slot] = *ticket;
    d->next_slot = (slot + 1) % VK_SLOTS;
    return ERR_OK;
}

/* Between the two stamps of that submit; 0 where they are no longer (or never were) there. */
static int64_t device_time(struct vk_device *d, uint64_t ticket)
{
    uint64_t t[2] = { 0, 0 };
    uint32_t slot = 0;
    while (slot < VK_SLOTS && d->slot_ticket[slot] != ticket)
        slot++;
    if (!d->stamps || slot == VK_SLOTS)
        return 0;
    VkResult r = d->fn.vkGetQueryPoolResults(d->device, d->stamps, 2 * slot, 2, sizeof t, t,
                                             sizeof *t, VK_QUERY_RESULT_64_BIT);
    if (vk_check(d, r, NULL, "vkGetQueryPoolResults", "time stamps") || r == VK_NOT_READY)
        return 0;
    uint64_t mask = d->stamp_bits >= 64 ? UINT64_MAX : ((uint64_t)1 << d->stamp_bits) - 1;
    return (int64_t)((double)((t[1] - t[0]) & mask) *
                     (double)d->props.limits.timestampPeriod);
}

enum err_code vk_wait(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    if (ticket > d->submitted)
        return err_set(e, ERR_INVALID, "no submit has ticket %llu", (unsigned long long)ticket);
    enum err_code rc = vk_wait_for(d, ticket, e);
    if (!rc && device_ns)
        *device_ns = device_time(d, ticket);
    return rc;
}
