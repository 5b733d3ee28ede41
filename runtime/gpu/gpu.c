/* The door of gpu.h: arguments are checked here, once, for both implementations. */
#include "runtime/gpu/gpu_priv.h"

#include <string.h>
#include <unistd.h>

#define KERNEL(name, source, push, bindings, defines)                                              \
    _Static_assert(sizeof(struct push) <= GPU_MAX_PUSH && sizeof(struct push) % 4 == 0, #name);    \
    _Static_assert(sizeof(bindings) - 1 <= GPU_MAX_BINDINGS, #name);                               \
    extern const uint32_t spirv_##name##_0[], spirv_##name##_0_end[];                              \
    extern const uint32_t spirv_##name##_1[], spirv_##name##_1_end[];
#include "shaders/kernels.def"
#undef KERNEL

static const struct {
    struct kernel_info info;
    const uint32_t *code[2], *end[2]; /* by texel loads */
} kernels[KERNEL_COUNT] = {
#define KERNEL(name, source, push, bindings, defines)                                              \
    { { #name, bindings, sizeof(struct push) },                                                    \
      { spirv_##name##_0, spirv_##name##_1 },                                                      \
      { spirv_##name##_0_end, spirv_##name##_1_end } },
#include "shaders/kernels.def"
#undef KERNEL
};

const struct kernel_info *kernel_info(enum kernel k)
{
    return (unsigned)k < KERNEL_COUNT ? &kernels[k].info : NULL;
}

struct spirv kernel_spirv(enum kernel k, bool texel_loads)
{
    const uint32_t *code = kernels[k].code[texel_loads], *end = kernels[k].end[texel_loads];
    return (struct spirv){ code, (size_t)((uintptr_t)end - (uintptr_t)code) };
}

uint64_t host_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 0;
}

/* ---- device -------------------------------------------------------------------------------- */

enum err_code gpu_open(const struct gpu_options *o, struct gpu **out, struct err *e)
{
    static const struct gpu_options none = { 0 };
    *out = NULL;
    o = o ? o : &none;
    if (o->device && strcmp(o->device, "ref") == 0)
        return gpu_ref_open(o, out, e);
    return gpu_team_open(o, out, e);
}

void gpu_close(struct gpu *g)
{
    if (g)
        g->ops->close(g);
}

const struct gpu_info *gpu_info(const struct gpu *g)
{
    return &g->info;
}

enum err_code gpu_list(struct buf *out, struct err *e)
{
    enum err_code rc = gpu_vk_list(out, e);
    if (rc && rc != ERR_NO_DEVICE)
        return rc;
    err_clear(e);
    buf_puts(out, "ref  C twins on the CPU, without Vulkan\n");
    return out->failed ? err_no_memory(e, out->n, "the list of devices") : ERR_OK;
}

struct gpu_counters gpu_counters(const struct gpu *g)
{
    return g->counters;
}

void gpu_save_cache(struct gpu *g)
{
    if (!g->lost)
        g->ops->save_cache(g);
}

static enum err_code lost(const struct gpu *g, struct err *e)
{
    return g->lost ? err_set(e, ERR_GPU_LOST, "%s was lost: it must be opened again", g->info.name)
                   : ERR_OK;
}

/* ---- buffers ------------------------------------------------------------------------------- */

enum err_code gpu_buffer_create(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                                struct gpu_buffer **out, struct err *e)
{
    *out = NULL;
    if (lost(g, e))
        return ERR_GPU_LOST;
    if (bytes == 0 || bytes > GPU_MAX_BUFFER)
        return err_set(e, ERR_INVALID, "a buffer of %llu bytes: it must have 1 to %llu",
                       (unsigned long long)bytes, (unsigned long long)GPU_MAX_BUFFER);
    enum err_code rc = g->ops->buffer_create(g, bytes, where, out, e);
    if (rc)
        return rc;
    g->counters.buffers++;
    g->counters.bytes += bytes;
    return ERR_OK;
}

void gpu_buffer_destroy(struct gpu *g, struct gpu_buffer *b)
{
    if (b)
        g->ops->buffer_destroy(g, b);
}

uint64_t gpu_buffer_bytes(const struct gpu_buffer *b)
{
    return b->bytes;
}

void *gpu_buffer_map(struct gpu_buffer *b)
{
    return b->map;
}

static enum err_code check_copy(const struct gpu *g, const struct gpu_buffer *b, uint64_t offset,
                                uint64_t bytes, const char *verb, struct err *e)
{
    if (lost(g, e))
        return ERR_GPU_LOST;
    if (offset <= b->bytes && bytes <= b->bytes - offset)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "%s of bytes %llu + %llu in a buffer of %llu", verb,
                   (unsigned long long)offset, (unsigned long long)bytes,
                   (unsigned long long)b->bytes);
}

enum err_code gpu_buffer_write(struct gpu *g, struct gpu_buffer *b, uint64_t offset, const void *src,
                               uint64_t bytes, struct err *e)
{
    enum err_code rc = check_copy(g, b, offset, bytes, "write", e);
    return rc || bytes == 0 ? rc : g->ops->buffer_write(g, b, offset, src, bytes, e);
}

enum err_code gpu_buffer_read(struct gpu *g, struct gpu_buffer *b, uint64_t offset, void *dst,
                              uint64_t bytes, struct err *e)
{
    enum err_code rc = check_copy(g, b, offset, bytes, "read", e);
    return rc || bytes == 0 ? rc : g->ops->buffer_read(g, b, offset, dst, bytes, e);
}

/* ---- launches ------------------------------------------------------------------------------ */

uint64_t gpu_bind_bytes(const struct gpu_bind *b)
{
    return b->bytes ? b->bytes : b->buffer->bytes - b->offset;
}

static enum err_code check_bind(const struct gpu *g, const struct kernel_info *k, unsigned i,
                                const struct gpu_bind *b, struct err *e)
{
    if (!b->buffer)
        return err_set(e, ERR_INVALID, "%s: binding %u has no buffer", k->name, i);
    if (b->offset % GPU_BIND_ALIGN)
        return err_set(e, ERR_INVALID, "%s: binding %u begins at %llu, not a multiple of %d",
                       k->name, i, (unsigned long long)b->offset, GPU_BIND_ALIGN);
    if (b->offset >= b->buffer->bytes || b->bytes > b->buffer->bytes - b->offset)
        return err_set(e, ERR_INVALID, "%s: binding %u is bytes %llu + %llu of a buffer of %llu",
                       k->name, i, (unsigned long long)b->offset, (unsigned long long)b->bytes,
                       (unsigned long long)b->buffer->bytes);
    bool texel = k->bindings[i] == 'q' && g->info.texel_loads;
    uint64_t most = texel ? g->info.max_texel_range : g->info.max_storage_range;
    if (gpu_bind_bytes(b) > most)
        return err_set(e, ERR_INVALID, "%s: binding %u spans %llu bytes, %s binds at most %llu",
                       k->name, i, (unsigned long long)gpu_bind_bytes(b), g->info.name,
                       (unsigned long long)most);
    return ERR_OK;
}

static enum err_code check_groups(const struct kernel_info *k, const struct gpu_launch *l,
                                  struct err *e)
{
    if (!l->indirect) {
        for (int i = 0; i < 3; i++)
            if (l->groups[i] == 0 || l->groups[i] > GPU_MAX_GROUPS)
                return err_set(e, ERR_INVALID, "%s: %u groups in dimension %d: 1 to %d can be run",
                               k->name, l->groups[i], i, GPU_MAX_GROUPS);
        return ERR_OK;
    }
    uint64_t bytes = l->indirect->bytes, at = l->indirect_offset;
    if (l->indirect->where != GPU_HOST || at % 4 || at > bytes || bytes - at < 12)
        return err_set(e, ERR_INVALID,
                       "%s: group counts at %llu of a %s buffer of %llu bytes: they must be three "
                       "words of a host buffer",
                       k->name, (unsigned long long)at,
                       l->indirect->where == GPU_HOST ? "host" : "device",
                       (unsigned long long)bytes);
    return ERR_OK;
}

static enum err_code check_launch(const struct gpu *g, const struct gpu_launch *l, struct err *e)
{
    const struct kernel_info *k = kernel_info(l->kernel);
    if (!k)
        return err_set(e, ERR_INVALID, "no kernel has number %d", (int)l->kernel);
    if (k->push_bytes && !l->push)
        return err_set(e, ERR_INVALID, "%s: no push constants", k->name);
    uint32_t local = l->spec[SPEC_LOCAL];
    if (local == 0 || local > g->info.max_local)
        return err_set(e, ERR_INVALID, "%s: a workgroup of %u: 1 to %u can be had", k->name, local,
                       g->info.max_local);
    for (unsigned i = 0; k->bindings[i]; i++) {
        enum err_code rc = check_bind(g, k, i, &l->bind[i], e);
        if (rc)
            return rc;
    }
    return check_groups(k, l, e);
}

enum err_code gpu_prepare(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e)
{
    if (lost(g, e))
        return ERR_GPU_LOST;
    for (size_t i = 0; i < n; i++)
        if (!kernel_info(p[i].kernel))
            return err_set(e, ERR_INVALID, "no kernel has number %d", (int)p[i].kernel);
    return g->ops->prepare(g, p, n, e);
}

/* ---- commands ------------------------------------------------------------------------------ */

enum err_code gpu_command_create(struct gpu *g, struct gpu_command **out, struct err *e)
{
    *out = NULL;
    return lost(g, e) ? ERR_GPU_LOST : g->ops->command_create(g, out, e);
}

void gpu_command_destroy(struct gpu_command *c)
{
    if (c)
        c->gpu->ops->command_destroy(c);
}

enum err_code gpu_command_launch(struct gpu_command *c, const struct gpu_launch *l, struct err *e)
{
    if (lost(c->gpu, e))
        return ERR_GPU_LOST;
    if (c->ended)
        return err_set(e, ERR_INVALID, "a launch into a command that has ended");
    enum err_code rc = check_launch(c->gpu, l, e);
    if (rc)
        return rc;
    rc = c->gpu->ops->command_launch(c, l, e);
    c->launches += !rc;
    c->torn |= rc != ERR_OK;
    return rc;
}

enum err_code gpu_command_end(struct gpu_command *c, struct err *e)
{
    if (lost(c->gpu, e))
        return ERR_GPU_LOST;
    if (c->ended)
        return err_set(e, ERR_INVALID, "a command ended twice");
    if (c->torn)
        return err_set(e, ERR_INVALID, "a command that could not be recorded");
    enum err_code rc = c->gpu->ops->command_end(c, e);
    c->ended = !rc;
    c->torn = !c->ended;
    return rc;
}

uint32_t gpu_command_launches(const struct gpu_command *c)
{
    return c->launches;
}

/* What the caller does about an error is to write the buffers of what failed anew: nothing may be using
 * them still. */
static enum err_code at_rest(struct gpu *g, enum err_code rc)
{
    if (rc)
        g->ops->rest(g);
    return rc;
}

enum err_code gpu_submit(struct gpu *g, struct gpu_command *const *c, size_t n, uint64_t *ticket,
                         struct err *e)
{
    if (lost(g, e))
        return ERR_GPU_LOST;
    uint64_t launches = 0;
    for (size_t i = 0; i < n; i++) {
        if (c[i]->gpu != g || !c[i]->ended)
            return err_set(e, ERR_INVALID, "command %zu of a submit %s", i,
                           c[i]->ended ? "belongs to another device" : "has not ended");
        launches += c[i]->launches;
    }
    enum err_code rc = at_rest(g, g->ops->submit(g, c, n, ticket, e));
    if (rc)
        return rc;
    g->counters.submits++;
    g->counters.launches += launches;
    return ERR_OK;
}

enum err_code gpu_wait(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e)
{
    if (device_ns)
        *device_ns = 0;
    return lost(g, e) ? ERR_GPU_LOST : at_rest(g, g->ops->wait(g, ticket, device_ns, e));
}
