/* Pipelines, made ahead or when a launch first asks for their kernel and specialisation, kept by the device. */
#include "runtime/gpu/vk_priv.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define MAX_PIPELINES 4096
#define MAX_THREADS 8

/* ---- layouts: one a kernel, from the letters of its bindings ---------------------------------- */

static enum err_code make_module(struct vk_device *d, enum kernel k, struct vk_layout *l,
                                 struct err *e)
{
    const char *name = kernel_info(k)->name;
    struct spirv code = kernel_spirv(k, d->base.info.texel_loads);
    VkResult r = d->fn.vkCreateShaderModule(
        d->device,
        &(VkShaderModuleCreateInfo){ .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = code.bytes,
                                     .pCode = code.code },
        NULL, &l->module);
    enum err_code rc = vk_check(d, r, e, "vkCreateShaderModule", name);
    if (rc)
        l->module = VK_NULL_HANDLE;
    return rc;
}

static enum err_code make_set_layout(struct vk_device *d, enum kernel k, struct vk_layout *l,
                                     struct err *e)
{
    const struct kernel_info *info = kernel_info(k);
    VkDescriptorSetLayoutBinding b[GPU_MAX_BINDINGS];
    uint32_t n = 0;
    for (; info->bindings[n]; n++)
        b[n] = (VkDescriptorSetLayoutBinding){
            .binding = n,
            .descriptorType = info->bindings[n] == 'q' && d->base.info.texel_loads
                                  ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER
                                  : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
            .descriptorCount = 1,
            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    VkResult r = d->fn.vkCreateDescriptorSetLayout(
        d->device,
        &(VkDescriptorSetLayoutCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
            .bindingCount = n,
            .pBindings = b },
        NULL, &l->set);
    enum err_code rc = vk_check(d, r, e, "vkCreateDescriptorSetLayout", info->name);
    if (rc)
        l->set = VK_NULL_HANDLE;
    return rc;
}

static enum err_code make_pipeline_layout(struct vk_device *d, enum kernel k, struct vk_layout *l,
                                          struct err *e)
{
    const struct kernel_info *info = kernel_info(k);
    VkPushConstantRange push = { VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH_SHARE + 4 };
    VkResult r = d->fn.vkCreatePipelineLayout(
        d->device,
        &(VkPipelineLayoutCreateInfo){ .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .setLayoutCount = 1,
                                       .pSetLayouts = &l->set,
                                       .pushConstantRangeCount = 1,
                                       .pPushConstantRanges = &push },
        NULL, &l->pipeline);
    enum err_code rc = vk_check(d, r, e, "vkCreatePipelineLayout", info->name);
    if (rc)
        l->pipeline = VK_NULL_HANDLE;
    return rc;
}

/* What a failed attempt made is kept for the next one. */
static enum err_code layout_ready(struct vk_device *d, enum kernel k, struct err *e)
{
    struct vk_layout *l = &d->layouts[k];
    enum err_code rc = ERR_OK;
    if (!l->module)
        rc = make_module(d, k, l, e);
    if (!rc && !l->set)
        rc = make_set_layout(d, k, l, e);
    if (!rc && !l->pipeline)
        rc = make_pipeline_layout(d, k, l, e);
    return rc;
}

/* ---- pipelines ----------------------------------------------------------------------------- */

static VkResult make_pipeline(const struct vk_device *d, enum kernel k, const uint32_t spec[N_SPEC],
                              VkPipeline *out)
{
    VkSpecializationMapEntry map[N_SPEC];
    for (uint32_t i = 0; i < N_SPEC; i++)
        map[i] = (VkSpecializationMapEntry){ i, i * 4, 4 };
    VkSpecializationInfo special = { N_SPEC, map, N_SPEC * 4, spec };
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT lanes = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize = d->base.info.subgroup
    };
    bool full = d->full_subgroups && spec[SPEC_LOCAL] % d->base.info.subgroup == 0;
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                   .pNext = d->full_subgroups ? &lanes : NULL,
                   .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT
                                 : 0u,
                   .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                   .module = d->layouts[k].module,
                   .pName = "main",
                   .pSpecializationInfo = &special },
        .layout = d->layouts[k].pipeline
    };
    return d->fn.vkCreateComputePipelines(d->device, d->cache, 1, &info, NULL, out);
}

static struct vk_pipeline *find(struct vk_device *d, enum kernel k, const uint32_t spec[N_SPEC])
{
    for (size_t i = 0; i < d->n_pipelines; i++)
        if (d->pipelines[i].kernel == k &&
            memcmp(d->pipelines[i].spec, spec, sizeof d->pipelines[i].spec) == 0)
            return &d->pipelines[i];
    return NULL;
}

/* Lists those that are not there, behind n_made. */
static enum err_code list_missing(struct vk_device *d, const struct gpu_pipeline *p, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        if (find(d, p[i].kernel, p[i].spec))
            continue;
        if (!mem_grow(&d->pipelines, &d->cap_pipelines, d->n_pipelines + 1, sizeof *d->pipelines,
                      MAX_PIPELINES))
            return err_no_memory(e, sizeof *d->pipelines, "the pipelines");
        enum err_code rc = layout_ready(d, p[i].kernel, e);
        if (rc)
            return rc;
        struct vk_pipeline *to = &d->pipelines[d->n_pipelines++];
        *to = (struct vk_pipeline){ .kernel = p[i].kernel };
        memcpy(to->spec, p[i].spec, sizeof to->spec);
    }
    return ERR_OK;
}

/* Keeps what was made of the list, and tells what went wrong with the rest. */
static enum err_code take_made(struct vk_device *d, enum err_code rc, struct err *e)
{
    size_t end = d->n_pipelines;
    d->n_pipelines = d->n_made;
    for (size_t i = d->n_made; i < end; i++) {
        struct vk_pipeline p = d->pipelines[i];
        if (!rc)
            rc = vk_check(d, p.result, e, "vkCreateComputePipelines", kernel_info(p.kernel)->name);
        if (p.handle && p.result == VK_SUCCESS)
            d->pipelines[d->n_pipelines++] = p;
    }
    d->base.counters.pipelines += d->n_pipelines - d->n_made;
    d->n_made = d->n_pipelines;
    return rc;
}

struct making { /* shared by the threads that make pipelines */
    struct gpu *const *g;
    size_t n_g, most; /* devices; the longest of their lists */
    atomic_size_t next;
};

static void *make_some(void *arg)
{
    struct making *m = arg;
    for (size_t k; (k = atomic_fetch_add(&m->next, 1)) < m->most * m->n_g;) {
        const struct vk_device *d = (const struct vk_device *)m->g[k % m->n_g];
        size_t i = d->n_made + k / m->n_g;
        struct vk_pipeline *p = i < d->n_pipelines ? &d->pipelines[i] : NULL;
        if (p)
            p->result = make_pipeline(d, p->kernel, p->spec, &p->handle);
    }
    return NULL;
}

/* On this thread and so many more, as far as they can be had; they take no signals. */
static void make_all(struct making *m, uint32_t more)
{
    pthread_t thread[MAX_THREADS];
    sigset_t all, old;
    uint32_t n = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    while (n < more && n < MAX_THREADS && pthread_create(&thread[n], NULL, make_some, m) == 0)
        n++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    make_some(m);
    while (n > 0)
        pthread_join(thread[--n], NULL);
}

enum err_code gpu_vk_prepare(struct gpu *const *g, uint32_t n_g, const struct gpu_pipeline *p, size_t n,
                             uint32_t threads, struct err *e)
{
    struct making m = { .g = g, .n_g = n_g };
    enum err_code rc = ERR_OK;
    size_t jobs = 0;
    for (uint32_t i = 0; i < n_g; i++) {
        struct vk_device *d = (struct vk_device *)g[i];
        if (!rc)
            rc = list_missing(d, p, n, e);
        size_t missing = d->n_pipelines - d->n_made;
        m.most = missing > m.most ? missing : m.most;
        jobs += missing;
    }
    if (!rc && jobs > 0)
        make_all(&m, (uint32_t)(jobs < threads ? jobs : threads) - 1);
    for (uint32_t i = 0; i < n_g; i++)
        rc = take_made((struct vk_device *)g[i], rc, e);
    return rc;
}

enum err_code vk_prepare(struct gpu *g, const struct gpu_pipeline *p, size_t n, struct err *e)
{
    long cores = g->info.software ? 1 : sysconf(_SC_NPROCESSORS_ONLN);
    return gpu_vk_prepare(&g, 1, p, n, cores < 1 ? 1 : cores > MAX_THREADS ? MAX_THREADS : (uint32_t)cores, e);
}

enum err_code vk_pipeline(struct vk_device *d, enum kernel k, const uint32_t spec[N_SPEC],
                          VkPipeline *out, struct err *e)
{
    struct gpu *g = &d->base;
    struct gpu_pipeline one = { .kernel = k };
    memcpy(one.spec, spec, sizeof one.spec);
    enum err_code rc = find(d, k, spec) ? ERR_OK : gpu_vk_prepare(&g, 1, &one, 1, 1, e);
    if (!rc)
        *out = find(d, k, spec)->handle;
    return rc;
}

void vk_kernels_finish(struct vk_device *d)
{
    for (size_t i = 0; i < d->n_pipelines; i++)
        d->fn.vkDestroyPipeline(d->device, d->pipelines[i].handle, NULL);
    for (int k = 0; k < KERNEL_COUNT; k++) {
        struct vk_layout *l = &d->layouts[k];
        d->fn.vkDestroyPipelineLayout(d->device, l->pipeline, NULL);
        d->fn.vkDestroyDescriptorSetLayout(d->device, l->set, NULL);
        d->fn.vkDestroyShaderModule(d->device, l->module, NULL);
    }
    d->fn.vkDestroyPipelineCache(d->device, d->cache, NULL);
    mem_free(d->pipelines);
}
