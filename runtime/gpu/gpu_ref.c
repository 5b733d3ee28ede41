/* gpu.h on the CPU: a buffer is heap memory, a command a list of launches, and a submit runs the C
 * twin of each launch before it returns. */
#include "runtime/gpu/gpu_priv.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/ref/ref.h"

#define MAX_LAUNCHES ((size_t)1 << 20)
#define TICKETS 64 /* times of the last submits are kept */

struct ref_launch {
    struct ref_call call; /* push is set when it runs */
    uint64_t push[GPU_MAX_PUSH / 8];
    const uint32_t *indirect; /* NULL: call.groups */
};

struct ref_command {
    struct gpu_command base;
    struct ref_launch *launch;
    size_t cap;
};

struct ref_gpu {
    struct gpu base;
    uint64_t submitted;
    int64_t took_ns[TICKETS];
};

static void ref_close(struct gpu *g)
{
    mem_free(g);
}

static void ref_save_cache(struct gpu *g)
{
    (void)g;
}

static enum err_code ref_buffer_create(struct gpu *g, uint64_t bytes, enum gpu_memory where,
                                       struct gpu_buffer **out, struct err *e)
{
    (void)g;
    struct gpu_buffer *b = mem_zero(1, sizeof *b);
    void *p = b ? mem_zero(bytes, 1) : NULL;
    if (!p) {
        mem_free(b);
        return err_no_memory(e, bytes, "a buffer");
    }
    *b = (struct gpu_buffer){ bytes, where, p };
    *out = b;
    return ERR_OK;
}

static void ref_buffer_destroy(struct gpu *g, struct gpu_buffer *b)
{
    (void)g;
    mem_free(b->map);
    mem_free(b);
}

static enum err_code ref_buffer_write(struct gpu *g, struct gpu_buffer *b, uint64_t offset,
                                      const void *src, uint64_t bytes, struct err *e)
{
    (void)g, (void)e;
    memcpy((char *)b->map + offset, src, bytes);
    return ERR_OK;
}

static enum err_code ref_buffer_read(struct gpu *g, struct gpu_buffer *b, uint64_t offset, void *dst,
                                     uint64_t bytes, struct err *e)
{
    (void)g, (void)e;
    memcpy(dst, (const char *)b->map + offset, bytes);
    return ERR_OK;
}

static enum err_code ref_prepare(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e)
{
    (void)g, (void)p, (void)n, (void)e;
    return ERR_OK; /* the twins are compiled */
}

static enum err_code ref_command_create(struct gpu *g, struct gpu_command **out, struct err *e)
{
    struct ref_command *c = mem_zero(1, sizeof *c);
    if (!c)
        return err_no_memory(e, sizeof *c, "a command");
    c->base.gpu = g;
    *out = &c->base;
    return ERR_OK;
}

static void ref_command_destroy(struct gpu_command *base)
{
    struct ref_command *c = (struct ref_command *)base;
    mem_free(c->launch);
    mem_free(c);
}

static enum err_code ref_command_launch(struct gpu_command *base, const struct gpu_launch *l,
                                        struct err *e)
{
    struct ref_command *c = (struct ref_command *)base;
    const struct kernel_info *k = kernel_info(l->kernel);
    size_t n = base->launches;
    if (l->first_group || l->first_row || l->row_gap)
        return err_set(e, ERR_INVALID, "%s: ref does whole launches", k->name);
    if (!mem_grow(&c->launch, &c->cap, n + 1, sizeof *c->launch, MAX_LAUNCHES))
        return err_no_memory(e, (n + 1) * sizeof *c->launch, "a command's launches");
    struct ref_launch *r = &c->launch[n];
    *r = (struct ref_launch){ .call.kernel = l->kernel };
    memcpy(r->call.spec, l->spec, sizeof l->spec);
    memcpy(r->call.groups, l->groups, sizeof l->groups);
    if (k->push_bytes)
        memcpy(r->push, l->push, k->push_bytes);
    for (unsigned i = 0; k->bindings[i]; i++) {
        r->call.at[i] = (char *)l->bind[i].buffer->map + l->bind[i].offset;
        r->call.bytes[i] = gpu_bind_bytes(&l->bind[i]);
    }
    if (l->indirect)
        r->indirect = (const uint32_t *)(const void *)((const char *)l->indirect->map +
                                                       l->indirect_offset);
    return ERR_OK;
}

static enum err_code ref_command_end(struct gpu_command *c, struct err *e)
{
    (void)c, (void)e;
    return ERR_OK;
}

static void run(const struct ref_launch *r)
{
    struct ref_call call = r->call;
    call.push = r->push;
    if (r->indirect)
        memcpy(call.groups, r->indirect, sizeof call.groups);
    if (call.groups[0] && call.groups[1] && call.groups[2])
        ref_kernels[call.kernel](&call);
}

static enum err_code ref_submit(struct gpu *g, struct gpu_command *const *c, size_t n,
                                uint64_t *ticket, struct err *e)
{
    (void)e;
    struct ref_gpu *r = (struct ref_gpu *)g;
    int64_t began = clock_ns();
    for (size_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < c[i]->launches; j++)
            run(&((const struct ref_command *)c[i])->launch[j]);
    *ticket = ++r->submitted;
    r->took_ns[*ticket % TICKETS] = clock_ns() - began;
    return ERR_OK;
}

static enum err_code ref_wait(struct gpu *g, uint64_t ticket, int64_t *device_ns, struct err *e)
{
    const struct ref_gpu *r = (const struct ref_gpu *)g;
    if (ticket > r->submitted)
        return err_set(e, ERR_INVALID, "no submit has ticket %llu", (unsigned long long)ticket);
    if (device_ns && r->submitted - ticket < TICKETS)
        *device_ns = r->took_ns[ticket % TICKETS];
    return ERR_OK;
}

static void ref_rest(struct gpu *g)
{
    (void)g; /* a submit is done when it returns */
}

static const struct gpu_ops ref_ops = {
    ref_close,        ref_save_cache,     ref_buffer_create,   ref_buffer_destroy,
    ref_buffer_write, ref_buffer_read,    ref_prepare,         ref_command_create, ref_command_destroy,
    ref_command_launch, ref_command_end,  ref_submit,          ref_wait,
    ref_rest,
};

enum err_code gpu_ref_open(const struct gpu_options *o, struct gpu **out, struct err *e)
{
    (void)o;
    struct ref_gpu *r = mem_zero(1, sizeof *r);
    if (!r)
        return err_no_memory(e, sizeof *r, "a device");
    r->base.ops = &ref_ops;
    r->base.info = (struct gpu_info){
        .name = "ref",
        .driver = "C twins on the CPU",
        .uuid = "hearth-ref",
        .software = true,
        .ref = true,
        .subgroup = 1,
        .cores = 1,
        .max_local = 1024,
        .max_shared = 32768,
        .max_storage_range = GPU_MAX_BUFFER,
        .max_texel_range = GPU_MAX_BUFFER,
        .memory_bytes = host_memory_bytes(),
    };
    *out = &r->base;
    return ERR_OK;
}
