#include "tests/gpu/vk_fault.h"

#include <string.h>

#include <volk.h>

/* Every call of runtime/gpu that can fail: name, parameters, arguments. */
#define INSTANCE_CALLS(X)                                                                          \
    X(vkCreateInstance, (const VkInstanceCreateInfo *a, const VkAllocationCallbacks *b, VkInstance *c), (a, b, c)) \
    X(vkEnumeratePhysicalDevices, (VkInstance a, uint32_t *b, VkPhysicalDevice *c), (a, b, c)) \
    X(vkEnumerateDeviceExtensionProperties, (VkPhysicalDevice a, const char *b, uint32_t *c, VkExtensionProperties *d), (a, b, c, d)) \
    X(vkCreateDevice, (VkPhysicalDevice a, const VkDeviceCreateInfo *b, const VkAllocationCallbacks *c, VkDevice *d), (a, b, c, d))
#define DEVICE_CALLS(X)                                                                            \
    X(vkAllocateMemory, (VkDevice a, const VkMemoryAllocateInfo *b, const VkAllocationCallbacks *c, VkDeviceMemory *d), (a, b, c, d)) \
    X(vkMapMemory, (VkDevice a, VkDeviceMemory b, VkDeviceSize c, VkDeviceSize d, VkMemoryMapFlags e, void **f), (a, b, c, d, e, f)) \
    X(vkBindBufferMemory, (VkDevice a, VkBuffer b, VkDeviceMemory c, VkDeviceSize d), (a, b, c, d)) \
    X(vkCreateBuffer, (VkDevice a, const VkBufferCreateInfo *b, const VkAllocationCallbacks *c, VkBuffer *d), (a, b, c, d)) \
    X(vkCreateBufferView, (VkDevice a, const VkBufferViewCreateInfo *b, const VkAllocationCallbacks *c, VkBufferView *d), (a, b, c, d)) \
    X(vkCreateShaderModule, (VkDevice a, const VkShaderModuleCreateInfo *b, const VkAllocationCallbacks *c, VkShaderModule *d), (a, b, c, d)) \
    X(vkCreateDescriptorSetLayout, (VkDevice a, const VkDescriptorSetLayoutCreateInfo *b, const VkAllocationCallbacks *c, VkDescriptorSetLayout *d), (a, b, c, d)) \
    X(vkCreatePipelineLayout, (VkDevice a, const VkPipelineLayoutCreateInfo *b, const VkAllocationCallbacks *c, VkPipelineLayout *d), (a, b, c, d)) \
    X(vkCreatePipelineCache, (VkDevice a, const VkPipelineCacheCreateInfo *b, const VkAllocationCallbacks *c, VkPipelineCache *d), (a, b, c, d)) \
    X(vkGetPipelineCacheData, (VkDevice a, VkPipelineCache b, size_t *c, void *d), (a, b, c, d)) \
    X(vkCreateComputePipelines, (VkDevice a, VkPipelineCache b, uint32_t c, const VkComputePipelineCreateInfo *d, const VkAllocationCallbacks *e, VkPipeline *f), (a, b, c, d, e, f)) \
    X(vkCreateCommandPool, (VkDevice a, const VkCommandPoolCreateInfo *b, const VkAllocationCallbacks *c, VkCommandPool *d), (a, b, c, d)) \
    X(vkAllocateCommandBuffers, (VkDevice a, const VkCommandBufferAllocateInfo *b, VkCommandBuffer *c), (a, b, c)) \
    X(vkBeginCommandBuffer, (VkCommandBuffer a, const VkCommandBufferBeginInfo *b), (a, b))        \
    X(vkEndCommandBuffer, (VkCommandBuffer a), (a))                                                \
    X(vkCreateSemaphore, (VkDevice a, const VkSemaphoreCreateInfo *b, const VkAllocationCallbacks *c, VkSemaphore *d), (a, b, c, d)) \
    X(vkCreateQueryPool, (VkDevice a, const VkQueryPoolCreateInfo *b, const VkAllocationCallbacks *c, VkQueryPool *d), (a, b, c, d)) \
    X(vkCreateDescriptorPool, (VkDevice a, const VkDescriptorPoolCreateInfo *b, const VkAllocationCallbacks *c, VkDescriptorPool *d), (a, b, c, d)) \
    X(vkAllocateDescriptorSets, (VkDevice a, const VkDescriptorSetAllocateInfo *b, VkDescriptorSet *c), (a, b, c)) \
    X(vkQueueSubmit, (VkQueue a, uint32_t b, const VkSubmitInfo *c, VkFence d), (a, b, c, d))      \
    X(vkGetSemaphoreCounterValue, (VkDevice a, VkSemaphore b, uint64_t *c), (a, b, c))             \
    X(vkWaitSemaphores, (VkDevice a, const VkSemaphoreWaitInfo *b, uint64_t c), (a, b, c))         \
    X(vkGetQueryPoolResults, (VkDevice a, VkQueryPool b, uint32_t c, uint32_t d, size_t e, void *f, VkDeviceSize g, VkQueryResultFlags h), (a, b, c, d, e, f, g, h))

static struct {
#define X(name, parameters, arguments) PFN_##name name;
    INSTANCE_CALLS(X) DEVICE_CALLS(X)
#undef X
    PFN_vkCmdPipelineBarrier vkCmdPipelineBarrier;
    PFN_vkGetDeviceProcAddr vkGetDeviceProcAddr;
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
    PFN_vkDeviceWaitIdle vkDeviceWaitIdle;
    VkDevice device;
} real;

static struct {
    uint64_t after, calls, barriers;
    VkResult result;
    const char *failed, *next;
} fault;

/* A lost device runs nothing: what was submitted must have ended before the loss is told. */
static void settle(void)
{
    if (real.device && real.vkDeviceWaitIdle)
        real.vkDeviceWaitIdle(real.device);
}

static bool must_fail(const char *name)
{
    fault.calls++;
    if (strcmp(name, "vkCreateInstance") == 0)
        real.device = VK_NULL_HANDLE; /* the last one's is gone */
    bool again = fault.failed && fault.result == VK_ERROR_DEVICE_LOST &&
                 (strcmp(name, "vkQueueSubmit") == 0 || strcmp(name, "vkWaitSemaphores") == 0 ||
                  strcmp(name, "vkGetSemaphoreCounterValue") == 0);
    if (fault.next && strcmp(name, fault.next) == 0)
        fault.after = fault.calls;
    if (fault.calls != fault.after)
        return again;
    fault.next = NULL;
    fault.failed = name;
    if (fault.result == VK_ERROR_DEVICE_LOST)
        settle();
    return true;
}

#define X(name, parameters, arguments)                                                             \
    static VKAPI_ATTR VkResult VKAPI_CALL fault_##name parameters                                  \
    {                                                                                              \
        return must_fail(#name) ? fault.result : real.name arguments;                              \
    }
INSTANCE_CALLS(X) DEVICE_CALLS(X)
#undef X

static VKAPI_ATTR void VKAPI_CALL
fault_vkCmdPipelineBarrier(VkCommandBuffer a, VkPipelineStageFlags b, VkPipelineStageFlags c,
                           VkDependencyFlags d, uint32_t e, const VkMemoryBarrier *f, uint32_t g,
                           const VkBufferMemoryBarrier *h, uint32_t i, const VkImageMemoryBarrier *j)
{
    fault.barriers++;
    real.vkCmdPipelineBarrier(a, b, c, d, e, f, g, h, i, j);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
    PFN_vkVoidFunction p = real.vkGetDeviceProcAddr(device, name);
    if (real.device != device) {
        real.device = device;
        real.vkDeviceWaitIdle =
            (PFN_vkDeviceWaitIdle)real.vkGetDeviceProcAddr(device, "vkDeviceWaitIdle");
    }
#define X(call, parameters, arguments)                                                             \
    if (p && strcmp(name, #call) == 0) {                                                           \
        real.call = (PFN_##call)p;                                                                 \
        return (PFN_vkVoidFunction)fault_##call;                                                   \
    }
    DEVICE_CALLS(X)
    X(vkCmdPipelineBarrier, , )
    return p;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction p = real.vkGetInstanceProcAddr(instance, name);
    INSTANCE_CALLS(X)
#undef X
    if (p && strcmp(name, "vkGetDeviceProcAddr") == 0) {
        real.vkGetDeviceProcAddr = (PFN_vkGetDeviceProcAddr)p;
        return (PFN_vkVoidFunction)device_proc;
    }
    return p;
}

bool vk_fault_install(void)
{
    memset(&fault, 0, sizeof fault);
    memset(&real, 0, sizeof real);
    if (volkInitialize() != VK_SUCCESS)
        return false;
    real.vkGetInstanceProcAddr = vkGetInstanceProcAddr;
    volkInitializeCustom(instance_proc);
    return true;
}

void vk_fault_remove(void)
{
    volkInitializeCustom(real.vkGetInstanceProcAddr);
}

void vk_fault_after(uint64_t n, int result)
{
    fault.after = n;
    fault.result = (VkResult)result;
    fault.calls = fault.barriers = 0;
    fault.failed = fault.next = NULL;
}

void vk_fault_next(const char *call, int result)
{
    vk_fault_after(0, result);
    fault.next = call;
}

uint64_t vk_fault_calls(void)
{
    return fault.calls;
}

const char *vk_fault_failed(void)
{
    return fault.failed;
}

uint64_t vk_fault_barriers(void)
{
    return fault.barriers;
}
