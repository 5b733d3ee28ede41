/* Pipelines, made when a launch first asks for their kernel and specialisation, kept by the device. */
#include "runtime/gpu/vk_priv.h"

#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

#define MAX_PIPELINES 4096

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
    VkPushConstantRange push = { VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH_FIRST_GROUP + 4 };
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

static enum err_code make_pipeline(struct vk_device *d, enum kernel k, const uint32_t spec[N_SPEC],
                                   VkPipeline *out, struct err *e)
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
    VkResult r = d->fn.vkCreateComputePipelines(d->device, d->cache, 1, &info, NULL, out);
    return vk_check(d, r, e, "vkCreateComputePipelines", kernel_info(k)->name);
}

enum err_code vk_pipeline(struct vk_device *d, enum kernel k, const uint32_t spec[N_SPEC],
                          VkPipeline *out, struct err *e)
{
    for (size_t i = 0; i < d->n_pipelines; i++)
        if (d->pipelines[i].kernel == k &&
            memcmp(d->pipelines[i].spec, spec, sizeof d->pipelines[i].spec) == 0) {
            *out = d->pipelines[i].handle;
            return ERR_OK;
        }
    if (!mem_grow(&d->pipelines, &d->cap_pipelines, d->n_pipelines + 1, sizeof *d->pipelines,
                  MAX_PIPELINES))
        return err_no_memory(e, sizeof *d->pipelines, "the pipelines");
    enum err_code rc = layout_ready(d, k, e);
    if (!rc)
        rc = make_pipeline(d, k, spec, out, e);
    if (rc)
        return rc;
    struct vk_pipeline *p = &d->pipelines[d->n_pipelines++];
    *p = (struct vk_pipeline){ .kernel = k, .handle = *out };
    memcpy(p->spec, spec, sizeof p->spec);
    d->base.counters.pipelines++;
    return ERR_OK;
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
