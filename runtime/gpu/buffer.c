/* Buffers: one VkBuffer each, in a slab. Copies go straight where the memory is mapped, else through
 * a staging ring of two halves: the host fills one while the device empties the other. */
#include "runtime/gpu/vk_priv.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

#define MAX_VIEWS ((size_t)1 << 20)

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- life ---------------------------------------------------------------------------------- */

static VkBufferUsageFlags usage(const struct vk_device *d, enum gpu_memory where)
{
    return VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
           VK_BUFFER_USAGE_TRANSFER_DST_BIT |
           (d->base.info.texel_loads ? VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT : 0u) |
           (where == GPU_HOST ? VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT : 0u);
}

/* The device's bytes are rounded up to whole binding units, so that the last quad can be read. of: the
 * buffer's memory is that one's; NULL: its own. */
static enum err_code place_buffer(struct vk_device *d, struct vk_buffer *b, const struct vk_buffer *of,
                                  struct err *e)
{
    char what[64];
    VkMemoryRequirements need;
    snprintf(what, sizeof what, "a buffer of %llu bytes", (unsigned long long)b->base.bytes);
    VkExternalMemoryBufferCreateInfo import = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
        .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
    };
    VkResult r = d->fn.vkCreateBuffer(
        d->device,
        &(VkBufferCreateInfo){ .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .pNext = d->import_host ? &import : NULL,
                               .size = round_up(b->base.bytes, GPU_BIND_ALIGN),
                               .usage = usage(d, b->base.where),
                               .sharingMode = VK_SHARING_MODE_EXCLUSIVE },
        NULL, &b->handle);
    enum err_code rc = vk_check(d, r, e, "vkCreateBuffer", what);
    if (rc) {
        b->handle = VK_NULL_HANDLE;
        return rc;
    }
    d->fn.vkGetBufferMemoryRequirements(d->device, b->handle, &need);
    rc = of ? vk_place_twin(d, &of->place, &b->place, e) : vk_place(d, &need, b->base.where, &b->place, e);
    if (rc)
        return rc;
    r = d->fn.vkBindBufferMemory(d->device, b->handle, b->place.slab->memory, b->place.at);
    if (b->place.slab->map)
        b->base.map = b->place.slab->map + b->place.at;
    return vk_check(d, r, e, "vkBindBufferMemory", what);
}

static enum err_code clear(struct vk_device *d, struct vk_buffer *b, struct err *e);

enum err_code vk_buffer_create(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                               struct gpu_buffer **out, struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    struct vk_buffer *b = mem_zero(1, sizeof *b);
    if (!b)
        return err_no_memory(e, sizeof *b, "a buffer");
    b->base.bytes = bytes;
    b->base.where = where;
    enum err_code rc = place_buffer(d, b, NULL, e);
    if (!rc)
        rc = clear(d, b, e);
    if (rc)
        vk_buffer_destroy(g, &b->base);
    else
        *out = &b->base;
    return rc;
}

bool gpu_vk_shares_memory(const struct gpu *g)
{
    return ((const struct vk_device *)g)->import_host;
}

enum err_code gpu_vk_buffer_twin(struct gpu *g, const struct gpu_buffer *of, struct gpu_buffer **out,
                                 struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    struct vk_buffer *b = mem_zero(1, sizeof *b);
    if (!b)
        return err_no_memory(e, sizeof *b, "a buffer's twin");
    b->base.bytes = of->bytes;
    b->base.where = of->where;
    enum err_code rc = place_buffer(d, b, (const struct vk_buffer *)of, e);
    if (rc)
        vk_buffer_destroy(g, &b->base);
    else
        *out = &b->base;
    return rc;
}

void vk_buffer_destroy(struct gpu *g, struct gpu_buffer *base)
{
    struct vk_device *d = (struct vk_device *)g;
    struct vk_buffer *b = (struct vk_buffer *)base;
    vk_settle(d);
    if (!d->stuck) {
        for (size_t i = 0; i < b->n_views; i++)
            d->fn.vkDestroyBufferView(d->device, b->views[i].handle, NULL);
        if (b->handle)
            d->fn.vkDestroyBuffer(d->device, b->handle, NULL);
        vk_unplace(d, &b->place);
    }
    mem_free(b->views);
    mem_free(b);
}

/* ---- texel views --------------------------------------------------------------------------- */

enum err_code vk_buffer_view(struct vk_device *d, struct vk_buffer *b, uint64_t offset,
                             uint64_t bytes, VkBufferView *out, struct err *e)
{
    for (size_t i = 0; i < b->n_views; i++)
        if (b->views[i].offset == offset && b->views[i].bytes == bytes) {
            *out = b->views[i].handle;
            return ERR_OK;
        }
    if (!mem_grow(&b->views, &b->cap_views, b->n_views + 1, sizeof *b->views, MAX_VIEWS))
        return err_no_memory(e, sizeof *b->views, "a buffer's views");
    VkResult r = d->fn.vkCreateBufferView(
        d->device,
        &(VkBufferViewCreateInfo){ .sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                   .buffer = b->handle,
                                   .format = VK_FORMAT_R32G32B32A32_UINT,
                                   .offset = offset,
                                   .range = bytes },
        NULL, out);
    enum err_code rc = vk_check(d, r, e, "vkCreateBufferView", "a texel view");
    if (!rc)
        b->views[b->n_views++] = (struct vk_view){ *out, offset, bytes };
    return rc;
}

/* ---- copies -------------------------------------------------------------------------------- */

void vk_staging_finish(struct vk_device *d)
{
    for (int i = 0; i < 2; i++)
        if (d->staging.half[i])
            vk_buffer_destroy(&d->base, d->staging.half[i]);
    d->staging = (struct vk_staging){ 0 };
}

static enum err_code staging_ready(struct vk_device *d, struct err *e)
{
    struct vk_staging *s = &d->staging;
    enum err_code rc = ERR_OK;
    if (!s->command[0])
        rc = vk_command_buffers(d, s->command, 2, e);
    for (int i = 0; i < 2 && !rc; i++)
        if (!s->half[i])
            rc = vk_buffer_create(&d->base, VK_STAGING, GPU_HOST, &s->half[i], e);
    return rc;
}

/* A part of a copy between a buffer and a half of the ring; neither: bytes are cleared. */
struct part {
    struct vk_buffer *buffer;
    uint64_t offset, bytes;
    enum { TO_DEVICE, TO_HOST, CLEAR } way;
};

static void record_part(struct vk_device *d, VkCommandBuffer c, const struct part *p, int half)
{
    const VkAccessFlags shader = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT,
                        copy = VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
    VkMemoryBarrier before = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL,
                               VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT |
                                   VK_ACCESS_HOST_WRITE_BIT,
                               copy };
    VkMemoryBarrier after = { VK_STRUCTURE_TYPE_MEMORY_BARRIER, NULL, VK_ACCESS_TRANSFER_WRITE_BIT,
                              shader | copy | VK_ACCESS_HOST_READ_BIT };
    d->fn.vkCmdPipelineBarrier(c,
                               VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
                                   VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT,
                               VK_PIPELINE_STAGE_TRANSFER_BIT, 0, 1, &before, 0, NULL, 0, NULL);
    if (p->way == CLEAR) {
        d->fn.vkCmdFillBuffer(c, p->buffer->handle, 0, VK_WHOLE_SIZE, 0);
    } else {
        VkBuffer ring = ((struct vk_buffer *)d->staging.half[half])->handle;
        bool in = p->way == TO_DEVICE;
        VkBufferCopy region = { in ? 0 : p->offset, in ? p->offset : 0, p->bytes };
        d->fn.vkCmdCopyBuffer(c, in ? ring : p->buffer->handle, in ? p->buffer->handle : ring, 1,
                              &region);
    }
    d->fn.vkCmdPipelineBarrier(c, VK_PIPELINE_STAGE_TRANSFER_BIT,
                               VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
                                   VK_PIPELINE_STAGE_TRANSFER_BIT | VK_PIPELINE_STAGE_HOST_BIT,
                               0, 1, &after, 0, NULL, 0, NULL);
}

static enum err_code send_part(struct vk_device *d, const struct part *p, int half, struct err *e)
{
    struct vk_staging *s = &d->staging;
    VkCommandBuffer c = s->command[half];
    VkResult r = d->fn.vkBeginCommandBuffer(
        c, &(VkCommandBufferBeginInfo){ .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                        .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT });
    enum err_code rc = vk_check(d, r, e, "vkBeginCommandBuffer", "a copy");
    if (rc)
        return rc;
    record_part(d, c, p, half);
    r = d->fn.vkEndCommandBuffer(c);
    rc = vk_check(d, r, e, "vkEndCommandBuffer", "a copy");
    return rc ? rc : vk_send(d, &c, 1, &s->ticket[half], e);
}

static enum err_code clear(struct vk_device *d, struct vk_buffer *b, struct err *e)
{
    uint64_t bytes = round_up(b->base.bytes, GPU_BIND_ALIGN);
    if (b->base.map) {
        memset(b->base.map, 0, at_most(bytes, b->place.dirty));
        return ERR_OK;
    }
    enum err_code rc = staging_ready(d, e);
    if (!rc)
        rc = vk_wait_for(d, d->staging.ticket[0], e);
    if (!rc)
        rc = send_part(d, &(struct part){ .buffer = b, .way = CLEAR }, 0, e);
    return rc ? rc : vk_wait_for(d, d->staging.ticket[0], e);
}

/* Part i of a copy goes through half i & 1. */
static enum err_code write_staged(struct vk_device *d, struct part p, const char *src,
                                  uint64_t bytes, struct err *e)
{
    struct vk_staging *s = &d->staging;
    enum err_code rc = ERR_OK;
    for (uint64_t done = 0, i = 0; done < bytes && !rc; done += p.bytes, i++) {
        int half = i & 1;
        struct part now = p;
        now.offset += done;
        now.bytes = p.bytes = at_most(bytes - done, VK_STAGING);
        rc = vk_wait_for(d, s->ticket[half], e);
        if (rc)
            return rc;
        memcpy(s->half[half]->map, src + done, now.bytes);
        rc = send_part(d, &now, half, e);
    }
    return rc ? rc : vk_wait_for(d, d->submitted, e);
}

/* Part i is on its way while the host takes part i - 1. */
static enum err_code read_staged(struct vk_device *d, struct part p, char *dst, uint64_t bytes,
                                 struct err *e)
{
    struct vk_staging *s = &d->staging;
    uint64_t parts = (bytes + VK_STAGING - 1) / VK_STAGING;
    enum err_code rc = vk_wait_for(d, d->submitted, e); /* both halves are free */
    for (uint64_t i = 0; i <= parts && !rc; i++) {
        uint64_t at = i * VK_STAGING, before = at - VK_STAGING;
        struct part now = { p.buffer, p.offset + at, 0, TO_HOST };
        if (i < parts) {
            now.bytes = at_most(bytes - at, VK_STAGING);
            rc = send_part(d, &now, i & 1, e);
        }
        if (rc || i == 0)
            continue;
        rc = vk_wait_for(d, s->ticket[~i & 1], e);
        if (!rc)
            memcpy(dst + before, s->half[~i & 1]->map, at_most(bytes - before, VK_STAGING));
    }
    return rc;
}

enum err_code vk_buffer_write(struct gpu *g, struct gpu_buffer *base, uint64_t offset,
                              const void *src, uint64_t bytes, struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    struct part p = { .buffer = (struct vk_buffer *)base, .offset = offset, .way = TO_DEVICE };
    enum err_code rc = base->map ? vk_wait_for(d, d->submitted, e) : staging_ready(d, e);
    if (!rc && base->map)
        memcpy((char *)base->map + offset, src, bytes);
    else if (!rc)
        rc = write_staged(d, p, src, bytes, e);
    return rc;
}

enum err_code vk_buffer_read(struct gpu *g, struct gpu_buffer *base, uint64_t offset, void *dst,
                             uint64_t bytes, struct err *e)
{
    struct vk_device *d = (struct vk_device *)g;
    struct part p = { .buffer = (struct vk_buffer *)base, .offset = offset, .way = TO_HOST };
    enum err_code rc = base->map ? vk_wait_for(d, d->submitted, e) : staging_ready(d, e);
    if (!rc && base->map)
        memcpy(dst, (const char *)base->map + offset, bytes);
    else if (!rc)
        rc = read_staged(d, p, dst, bytes, e);
    return rc;
}
