/* Instance, choice of the device, what is asked of it, and its end. */
#include "runtime/gpu/vk_priv.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define MAX_DEVICES 16
#define MAX_EXTENSIONS 1024

/* ---- failed calls -------------------------------------------------------------------------- */

static const struct {
    VkResult result;
    enum err_code code;
    const char *name;
} results[] = {
    { VK_ERROR_OUT_OF_HOST_MEMORY, ERR_NO_MEMORY, "out of host memory" },
    { VK_ERROR_OUT_OF_DEVICE_MEMORY, ERR_NO_DEVICE_MEMORY, "out of device memory" },
    { VK_ERROR_OUT_OF_POOL_MEMORY, ERR_NO_DEVICE_MEMORY, "out of pool memory" },
    { VK_ERROR_FRAGMENTATION, ERR_NO_DEVICE_MEMORY, "fragmentation" },
    { VK_ERROR_FRAGMENTED_POOL, ERR_NO_DEVICE_MEMORY, "fragmented pool" },
    { VK_ERROR_TOO_MANY_OBJECTS, ERR_NO_DEVICE_MEMORY, "too many objects" },
    { VK_ERROR_DEVICE_LOST, ERR_GPU_LOST, "device lost" },
    { VK_ERROR_MEMORY_MAP_FAILED, ERR_GPU, "memory map failed" },
    { VK_ERROR_INITIALIZATION_FAILED, ERR_GPU, "initialization failed" },
    { VK_ERROR_LAYER_NOT_PRESENT, ERR_GPU, "layer not present" },
    { VK_ERROR_EXTENSION_NOT_PRESENT, ERR_GPU, "extension not present" },
    { VK_ERROR_FEATURE_NOT_PRESENT, ERR_GPU, "feature not present" },
    { VK_ERROR_INCOMPATIBLE_DRIVER, ERR_GPU, "incompatible driver" },
    { VK_TIMEOUT, ERR_GPU_LOST, "timeout" },
};

static enum err_code failed(VkResult r, struct err *e, const char *call, const char *what)
{
    for (size_t i = 0; i < sizeof results / sizeof *results; i++)
        if (results[i].result == r)
            return err_set(e, results[i].code, "%s: %s (%s)", call, results[i].name, what);
    return err_set(e, ERR_GPU, "%s: VkResult %d (%s)", call, (int)r, what);
}

enum err_code vk_check(struct vk_device *d, VkResult r, struct err *e, const char *call,
                       const char *what)
{
    if (r >= 0 && r != VK_TIMEOUT)
        return ERR_OK;
    enum err_code code = failed(r, e, call, what);
    d->base.lost |= code == ERR_GPU_LOST;
    return code;
}

/* ---- instance ------------------------------------------------------------------------------ */

static enum err_code instance_create(VkInstance *out, struct err *e)
{
    *out = VK_NULL_HANDLE;
    if (!vkGetInstanceProcAddr && volkInitialize() != VK_SUCCESS)
        return err_set(e, ERR_NO_DEVICE, "there is no Vulkan here: libvulkan.so.1 is not installed");
    if (!vkCreateInstance || volkGetInstanceVersion() < VK_API_VERSION_1_2)
        return err_set(e, ERR_NO_DEVICE, "the Vulkan loader is older than 1.2");
    VkResult r = vkCreateInstance(
        &(VkInstanceCreateInfo){
            .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
            .pApplicationInfo = &(VkApplicationInfo){ .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                                      .pApplicationName = "hearth",
                                                      .pEngineName = "hearth",
                                                      .apiVersion = VK_API_VERSION_1_2 } },
        NULL, out);
    if (r == VK_ERROR_INCOMPATIBLE_DRIVER)
        return err_set(e, ERR_NO_DEVICE, "there is no Vulkan driver here");
    if (r != VK_SUCCESS)
        return failed(r, e, "vkCreateInstance", "Vulkan 1.2");
    volkLoadInstanceOnly(*out);
    return ERR_OK;
}

static void instance_destroy(VkInstance instance)
{
    if (instance)
        vkDestroyInstance(instance, NULL);
}

/* ---- devices and what they can do ----------------------------------------------------------- */

struct candidate {
    VkPhysicalDevice physical;
    VkPhysicalDeviceProperties props;
    char driver[256];
    uint32_t family;
    const char *lacks; /* NULL: Hearth can run on it */
    int rank;          /* lower is better */
};
struct candidates {
    struct candidate at[MAX_DEVICES];
    uint32_t n;
};

static int rank(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return 0;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return 1;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return 2;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return 4;
    default:
        return 3;
    }
}

/* A queue family that computes; one that only computes leaves the display's alone. */
static bool compute_family(VkPhysicalDevice p, uint32_t *out)
{
    VkQueueFamilyProperties f[32];
    uint32_t n = 32, best = UINT32_MAX;
    vkGetPhysicalDeviceQueueFamilyProperties(p, &n, f);
    for (uint32_t i = 0; i < n; i++) {
        if (!(f[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || !f[i].queueCount)
            continue;
        bool alone = !(f[i].queueFlags & VK_QUEUE_GRAPHICS_BIT);
        if (best == UINT32_MAX || (alone && (f[best].queueFlags & VK_QUEUE_GRAPHICS_BIT)))
            best = i;
    }
    *out = best;
    return best != UINT32_MAX;
}

/* What the shaders' SPIR-V declares (held by tests/unit/spirv_test) and what command.c waits with. */
static const char *lacking(const struct candidate *c)
{
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES
    };
    VkPhysicalDeviceFeatures2 f = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                    .pNext = &f12 };
    VkPhysicalDeviceSubgroupProperties sub = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES
    };
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                      .pNext = &sub };
    const VkSubgroupFeatureFlags ops =
        VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    if (c->props.apiVersion < VK_API_VERSION_1_2)
        return "Vulkan 1.2";
    if (c->family == UINT32_MAX)
        return "a compute queue";
    vkGetPhysicalDeviceFeatures2(c->physical, &f);
    vkGetPhysicalDeviceProperties2(c->physical, &p);
    if (!f12.timelineSemaphore)
        return "timeline semaphores";
    if ((sub.supportedOperations & ops) != ops ||
        !(sub.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT))
        return "subgroup shuffles in compute shaders";
    return NULL;
}

static void examine(VkPhysicalDevice p, struct candidate *c)
{
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES
    };
    VkPhysicalDeviceProperties2 props = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                          .pNext = &driver };
    *c = (struct candidate){ .physical = p };
    vkGetPhysicalDeviceProperties(p, &c->props);
    if (c->props.apiVersion >= VK_API_VERSION_1_2)
        vkGetPhysicalDeviceProperties2(p, &props);
    snprintf(c->driver, sizeof c->driver, "%.120s %.120s", driver.driverName, driver.driverInfo);
    compute_family(p, &c->family);
    c->rank = rank(c->props.deviceType);
    c->lacks = lacking(c);
}

static enum err_code enumerate(VkInstance instance, struct candidates *out, struct err *e)
{
    VkPhysicalDevice list[MAX_DEVICES];
    out->n = MAX_DEVICES;
    VkResult r = vkEnumeratePhysicalDevices(instance, &out->n, list);
    if (r == VK_ERROR_INITIALIZATION_FAILED)
        return err_set(e, ERR_NO_DEVICE, "no Vulkan driver finds a device");
    if (r != VK_SUCCESS && r != VK_INCOMPLETE)
        return failed(r, e, "vkEnumeratePhysicalDevices", "every device");
    for (uint32_t i = 0; i < out->n; i++)
        examine(list[i], &out->at[i]);
    return ERR_OK;
}

static void print(const struct candidates *all, struct buf *out, const char *between)
{
    for (uint32_t i = 0; i < all->n; i++) {
        const struct candidate *c = &all->at[i];
        buf_printf(out, "%u  %s  (%s)", i, c->props.deviceName, c->driver);
        if (c->lacks)
            buf_printf(out, ", unusable: it lacks %s", c->lacks);
        buf_puts(out, between);
    }
}

enum err_code gpu_vk_list(struct buf *out, struct err *e)
{
    struct candidates all;
    VkInstance instance;
    enum err_code rc = instance_create(&instance, e);
    if (!rc)
        rc = enumerate(instance, &all, e);
    if (!rc)
        print(&all, out, "\n");
    instance_destroy(instance);
    return rc;
}

/* ---- choice -------------------------------------------------------------------------------- */

static enum err_code none_fits(const struct candidates *all, const char *asked, struct err *e)
{
    struct buf text;
    buf_init(&text, 2000);
    print(all, &text, "; ");
    enum err_code rc = err_set(e, ERR_NO_DEVICE, "%s%s%s; there is: %sref", asked ? "no device '" : "",
                               asked ? asked : "no device can be used", asked ? "'" : "",
                               text.p ? text.p : "");
    buf_finish(&text);
    return rc;
}

static const struct candidate *best(const struct candidates *all)
{
    const struct candidate *found = NULL;
    for (uint32_t i = 0; i < all->n; i++)
        if (!all->at[i].lacks && (!found || all->at[i].rank < found->rank))
            found = &all->at[i];
    return found;
}

/* By index where `asked` is all digits, else the first whose name holds it. */
static const struct candidate *named(const struct candidates *all, const char *asked)
{
    if (asked[strspn(asked, "0123456789")] == '\0') {
        unsigned long i = strtoul(asked, NULL, 10);
        return i < all->n ? &all->at[i] : NULL;
    }
    size_t n = strlen(asked);
    for (uint32_t i = 0; i < all->n; i++)
        for (const char *at = all->at[i].props.deviceName; *at; at++)
            if (strncasecmp(at, asked, n) == 0)
                return &all->at[i];
    return NULL;
}

static enum err_code choose(const struct candidates *all, const struct gpu_options *o,
                            const struct candidate **out, struct err *e)
{
    const char *asked = o->device;
    bool any = !asked || !*asked;
    const struct candidate *c = any ? best(all) : named(all, asked);
    *out = c;
    if (!c)
        return none_fits(all, any ? NULL : asked, e);
    if (c->lacks)
        return err_set(e, ERR_NO_DEVICE, "%s cannot be used: it lacks %s", c->props.deviceName,
                       c->lacks);
    return ERR_OK;
}

/* ---- properties ---------------------------------------------------------------------------- */

struct extensions {
    VkExtensionProperties *at;
    uint32_t n;
};

static enum err_code extensions_read(VkPhysicalDevice p, struct extensions *out, struct err *e)
{
    VkResult r = vkEnumerateDeviceExtensionProperties(p, NULL, &out->n, NULL);
    if (r != VK_SUCCESS)
        return failed(r, e, "vkEnumerateDeviceExtensionProperties", "count");
    if (out->n > MAX_EXTENSIONS)
        out->n = MAX_EXTENSIONS;
    out->at = mem_zero(out->n, sizeof *out->at);
    if (!out->at)
        return err_no_memory(e, out->n * sizeof *out->at, "the device's extensions");
    r = vkEnumerateDeviceExtensionProperties(p, NULL, &out->n, out->at);
    if (r < 0)
        return failed(r, e, "vkEnumerateDeviceExtensionProperties", "list");
    return ERR_OK;
}

static bool has(const struct extensions *x, const char *name)
{
    for (uint32_t i = 0; i < x->n; i++)
        if (strcmp(x->at[i].extensionName, name) == 0)
            return true;
    return false;
}

static uint32_t at_least_one(uint32_t n)
{
    return n ? n : 1;
}

/* Compute units, from whoever says it. */
static uint32_t count_cores(const struct vk_device *d, const struct extensions *x)
{
    VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nv = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV
    };
    VkPhysicalDeviceShaderCoreProperties2AMD amd = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_2_AMD
    };
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2 };
    if (has(x, VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME))
        p.pNext = &nv;
    else if (has(x, VK_AMD_SHADER_CORE_PROPERTIES_2_EXTENSION_NAME))
        p.pNext = &amd;
    vkGetPhysicalDeviceProperties2(d->physical, &p);
    if (d->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU)
        return at_least_one((uint32_t)sysconf(_SC_NPROCESSORS_ONLN));
    if (p.pNext)
        return at_least_one(nv.shaderSMCount + amd.activeComputeUnitCount);
    return d->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU ? 32 : 8;
}

/* FNV-1a, 64 bits. */
static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    return h;
}

/* Names whatever a driver makes of our shaders: driver, device, version, vector width. */
static void make_uuid(const struct vk_device *d, const VkPhysicalDeviceIDProperties *id,
                      uint8_t out[16])
{
    uint64_t h[2] = { 0xcbf29ce484222325u, 0x84222325cbf29ce4u };
    for (int i = 0; i < 2; i++) {
        h[i] = hash(h[i], id->driverUUID, VK_UUID_SIZE);
        h[i] = hash(h[i], id->deviceUUID, VK_UUID_SIZE);
        h[i] = hash(h[i], d->props.pipelineCacheUUID, VK_UUID_SIZE);
        h[i] = hash(h[i], &d->props.driverVersion, sizeof d->props.driverVersion);
        h[i] = hash(h[i], d->props.deviceName, strlen(d->props.deviceName));
        h[i] = hash(h[i], d->base.info.driver, strlen(d->base.info.driver));
        h[i] = hash(h[i], &d->base.info.subgroup, sizeof d->base.info.subgroup);
    }
    memcpy(out, h, 16);
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void fill_info(struct vk_device *d, const struct candidate *c, const struct extensions *x,
                      const struct gpu_options *o)
{
    VkPhysicalDeviceIDProperties id = { .sType =
                                            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES };
    VkPhysicalDeviceSubgroupProperties sub = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &id
    };
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                      .pNext = &sub };
    const VkPhysicalDeviceLimits *l = &c->props.limits;
    struct gpu_info *info = &d->base.info;
    vkGetPhysicalDeviceProperties2(d->physical, &p);
    snprintf(info->name, sizeof info->name, "%s", c->props.deviceName);
    snprintf(info->driver, sizeof info->driver, "%s", c->driver);
    info->software = c->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    info->texel_loads = info->software && !o->storage_loads;
    info->subgroup = sub.subgroupSize;
    info->cores = count_cores(d, x);
    info->max_local = (uint32_t)at_most(l->maxComputeWorkGroupInvocations,
                                        l->maxComputeWorkGroupSize[0]);
    info->max_shared = l->maxComputeSharedMemorySize;
    info->max_storage_range = at_most(l->maxStorageBufferRange, GPU_MAX_BUFFER);
    info->max_texel_range =
        at_most((uint64_t)l->maxTexelBufferElements * QUAD_BYTES, GPU_MAX_BUFFER);
    info->memory_bytes = info->software ? host_memory_bytes() : vk_heap_bytes(d);
    make_uuid(d, &id, info->uuid);
}

/* ---- device -------------------------------------------------------------------------------- */

/* Pipelines can demand the reported subgroup size, and that no subgroup is partly filled. */
static bool can_fix_subgroups(const struct vk_device *d, const struct extensions *x)
{
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT f = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT
    };
    VkPhysicalDeviceFeatures2 features = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                           .pNext = &f };
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT s = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT
    };
    VkPhysicalDeviceProperties2 p = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                      .pNext = &s };
    if (!has(x, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME))
        return false;
    vkGetPhysicalDeviceFeatures2(d->physical, &features);
    vkGetPhysicalDeviceProperties2(d->physical, &p);
    return f.subgroupSizeControl && f.computeFullSubgroups &&
           (s.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
           s.minSubgroupSize <= d->base.info.subgroup && d->base.info.subgroup <= s.maxSubgroupSize;
}

static enum err_code device_create(struct vk_device *d, const struct extensions *x, struct err *e)
{
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sub = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE,
    };
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = d->full_subgroups ? &sub : NULL,
        .timelineSemaphore = VK_TRUE,
    };
    const char *names[4];
    uint32_t n = 0;
    if (d->full_subgroups)
        names[n++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    if (d->memory_budget)
        names[n++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (d->import_host)
        names[n++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    if (has(x, "VK_KHR_portability_subset")) /* must be enabled where it is there */
        names[n++] = "VK_KHR_portability_subset";
    VkResult r = vkCreateDevice(
        d->physical,
        &(VkDeviceCreateInfo){
            .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
            .pNext = &f12,
            .queueCreateInfoCount = 1,
            .pQueueCreateInfos =
                &(VkDeviceQueueCreateInfo){ .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                            .queueFamilyIndex = d->family,
                                            .queueCount = 1,
                                            .pQueuePriorities = &(float){ 1.0f } },
            .enabledExtensionCount = n,
            .ppEnabledExtensionNames = names },
        NULL, &d->device);
    if (r != VK_SUCCESS) {
        d->device = VK_NULL_HANDLE;
        return failed(r, e, "vkCreateDevice", d->base.info.name);
    }
    volkLoadDeviceTable(&d->fn, d->device);
    d->fn.vkGetDeviceQueue(d->device, d->family, 0, &d->queue);
    return ERR_OK;
}

/* Threads inherit what their maker may run on, and vkCreateDevice makes a software device's. */
static enum err_code device_create_on(struct vk_device *d, const struct extensions *x, uint32_t core,
                                      struct err *e)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    bool pin = core != GPU_ANY_CORE && d->base.info.software && sched_getaffinity(0, sizeof all, &all) == 0;
    uint32_t k = 0;
    for (size_t cpu = 0; pin && cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && k++ == core)
            CPU_SET(cpu, &one);
    pin = pin && CPU_COUNT(&one) == 1 && sched_setaffinity(0, sizeof one, &one) == 0;
    enum err_code rc = device_create(d, x, e);
    if (pin)
        sched_setaffinity(0, sizeof all, &all);
    return rc;
}

static void device_close(struct gpu *g)
{
    struct vk_device *d = (struct vk_device *)g;
    if (d->device)
        vk_settle(d);
    if (d->stuck) {
        log_line(LOG_ERROR, "msg=\"the device does not answer: its objects are left behind\"");
        return;
    }
    if (d->device) {
        gpu_save_cache(g);
        vk_staging_finish(d);
        vk_queue_finish(d);
        vk_kernels_finish(d);
        d->fn.vkDestroyDevice(d->device, NULL);
    }
    instance_destroy(d->instance);
    mem_free(d->cache_path);
    mem_free(d);
}

static enum err_code set_up(struct vk_device *d, const struct candidate *c, const struct gpu_options *o,
                            uint32_t core, struct err *e)
{
    struct extensions x = { 0 };
    d->physical = c->physical;
    d->family = c->family;
    d->props = c->props;
    vkGetPhysicalDeviceMemoryProperties(d->physical, &d->heaps);
    enum err_code rc = extensions_read(d->physical, &x, e);
    if (rc)
        goto out;
    fill_info(d, c, &x, o);
    d->host_memory = !o->staged_copies &&
                     (d->base.info.software ||
                      c->props.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU);
    d->memory_budget = has(&x, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    /* With one memory type there is no question which one imports. */
    d->import_host = d->host_memory && d->base.info.software && d->heaps.memoryTypeCount == 1 &&
                     has(&x, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    d->full_subgroups = can_fix_subgroups(d, &x);
    rc = device_create_on(d, &x, core, e);
    if (!rc)
        rc = vk_queue_init(d, e);
    if (!rc)
        rc = vk_cache_open(d, o->cache_dir, e);
out:
    mem_free(x.at);
    return rc;
}

enum err_code gpu_vk_open(const struct gpu_options *o, uint32_t core, struct gpu **out, struct err *e)
{
    struct candidates all;
    const struct candidate *c;
    struct vk_device *d = mem_zero(1, sizeof *d);
    if (!d)
        return err_no_memory(e, sizeof *d, "a device");
    d->base.ops = &vk_ops;
    enum err_code rc = instance_create(&d->instance, e);
    if (!rc)
        rc = enumerate(d->instance, &all, e);
    if (!rc)
        rc = choose(&all, o, &c, e);
    if (!rc)
        rc = set_up(d, c, o, core, e);
    if (!rc)
        *out = &d->base;
    else
        device_close(&d->base);
    return rc;
}

const struct gpu_ops vk_ops = {
    device_close,      vk_cache_save,  vk_buffer_create,  vk_buffer_destroy,
    vk_buffer_write,   vk_buffer_read, vk_prepare,        vk_command_create, vk_command_destroy,
    vk_command_launch, vk_command_end, vk_submit,         vk_wait,
    vk_rest,
};
