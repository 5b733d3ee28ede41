#include "tests/gpu/vk_fault.h"

#include <limits.h>
#include <string.h>

#include <volk.h>

/* What the specification lets a call give, and what else is to be known of it. */
enum {
    HOST = 1 << 0,   /* VK_ERROR_OUT_OF_HOST_MEMORY */
    DEVICE = 1 << 1, /* VK_ERROR_OUT_OF_DEVICE_MEMORY */
    LOST = 1 << 2,   /* VK_ERROR_DEVICE_LOST */
    INIT = 1 << 3,   /* VK_ERROR_INITIALIZATION_FAILED */
    MAKES = 1 << 4,  /* one object, that a call of DESTROY_CALLS ends */
    WAITS = 1 << 5,
};

/* Every call of runtime/gpu that can fail: name, the above, parameters, arguments. */
#define INSTANCE_CALLS(X)                                                                          \
    X(vkCreateInstance, HOST | DEVICE | INIT | MAKES, (const VkInstanceCreateInfo *a, const VkAllocationCallbacks *b, VkInstance *c), (a, b, c)) \
    X(vkEnumeratePhysicalDevices, HOST | DEVICE | INIT, (VkInstance a, uint32_t *b, VkPhysicalDevice *c), (a, b, c)) \
    X(vkEnumerateDeviceExtensionProperties, HOST | DEVICE, (VkPhysicalDevice a, const char *b, uint32_t *c, VkExtensionProperties *d), (a, b, c, d)) \
    X(vkCreateDevice, HOST | DEVICE | INIT | LOST | MAKES, (VkPhysicalDevice a, const VkDeviceCreateInfo *b, const VkAllocationCallbacks *c, VkDevice *d), (a, b, c, d))
#define DEVICE_CALLS(X)                                                                            \
    X(vkAllocateMemory, HOST | DEVICE | MAKES, (VkDevice a, const VkMemoryAllocateInfo *b, const VkAllocationCallbacks *c, VkDeviceMemory *d), (a, b, c, d)) \
    X(vkMapMemory, HOST | DEVICE, (VkDevice a, VkDeviceMemory b, VkDeviceSize c, VkDeviceSize d, VkMemoryMapFlags e, void **f), (a, b, c, d, e, f)) \
    X(vkBindBufferMemory, HOST | DEVICE, (VkDevice a, VkBuffer b, VkDeviceMemory c, VkDeviceSize d), (a, b, c, d)) \
    X(vkCreateBuffer, HOST | DEVICE | MAKES, (VkDevice a, const VkBufferCreateInfo *b, const VkAllocationCallbacks *c, VkBuffer *d), (a, b, c, d)) \
    X(vkCreateBufferView, HOST | DEVICE | MAKES, (VkDevice a, const VkBufferViewCreateInfo *b, const VkAllocationCallbacks *c, VkBufferView *d), (a, b, c, d)) \
    X(vkCreateShaderModule, HOST | DEVICE | MAKES, (VkDevice a, const VkShaderModuleCreateInfo *b, const VkAllocationCallbacks *c, VkShaderModule *d), (a, b, c, d)) \
    X(vkCreateDescriptorSetLayout, HOST | DEVICE | MAKES, (VkDevice a, const VkDescriptorSetLayoutCreateInfo *b, const VkAllocationCallbacks *c, VkDescriptorSetLayout *d), (a, b, c, d)) \
    X(vkCreatePipelineLayout, HOST | DEVICE | MAKES, (VkDevice a, const VkPipelineLayoutCreateInfo *b, const VkAllocationCallbacks *c, VkPipelineLayout *d), (a, b, c, d)) \
    X(vkCreatePipelineCache, HOST | DEVICE | MAKES, (VkDevice a, const VkPipelineCacheCreateInfo *b, const VkAllocationCallbacks *c, VkPipelineCache *d), (a, b, c, d)) \
    X(vkGetPipelineCacheData, HOST | DEVICE, (VkDevice a, VkPipelineCache b, size_t *c, void *d), (a, b, c, d)) \
    X(vkCreateComputePipelines, HOST | DEVICE | MAKES, (VkDevice a, VkPipelineCache b, uint32_t c, const VkComputePipelineCreateInfo *d, const VkAllocationCallbacks *e, VkPipeline *f), (a, b, c, d, e, f)) \
    X(vkCreateCommandPool, HOST | DEVICE | MAKES, (VkDevice a, const VkCommandPoolCreateInfo *b, const VkAllocationCallbacks *c, VkCommandPool *d), (a, b, c, d)) \
    X(vkAllocateCommandBuffers, HOST | DEVICE, (VkDevice a, const VkCommandBufferAllocateInfo *b, VkCommandBuffer *c), (a, b, c)) \
    X(vkBeginCommandBuffer, HOST | DEVICE, (VkCommandBuffer a, const VkCommandBufferBeginInfo *b), (a, b)) \
    X(vkEndCommandBuffer, HOST | DEVICE, (VkCommandBuffer a), (a)) \
    X(vkCreateSemaphore, HOST | DEVICE | MAKES, (VkDevice a, const VkSemaphoreCreateInfo *b, const VkAllocationCallbacks *c, VkSemaphore *d), (a, b, c, d)) \
    X(vkCreateQueryPool, HOST | DEVICE | MAKES, (VkDevice a, const VkQueryPoolCreateInfo *b, const VkAllocationCallbacks *c, VkQueryPool *d), (a, b, c, d)) \
    X(vkCreateDescriptorPool, HOST | DEVICE | MAKES, (VkDevice a, const VkDescriptorPoolCreateInfo *b, const VkAllocationCallbacks *c, VkDescriptorPool *d), (a, b, c, d)) \
    X(vkAllocateDescriptorSets, HOST | DEVICE, (VkDevice a, const VkDescriptorSetAllocateInfo *b, VkDescriptorSet *c), (a, b, c)) \
    X(vkQueueSubmit, HOST | DEVICE | LOST, (VkQueue a, uint32_t b, const VkSubmitInfo *c, VkFence d), (a, b, c, d)) \
    X(vkGetSemaphoreCounterValue, HOST | DEVICE | LOST | WAITS, (VkDevice a, VkSemaphore b, uint64_t *c), (a, b, c)) \
    X(vkWaitSemaphores, HOST | DEVICE | LOST | WAITS, (VkDevice a, const VkSemaphoreWaitInfo *b, uint64_t c), (a, b, c)) \
    X(vkGetQueryPoolResults, HOST | DEVICE | LOST, (VkDevice a, VkQueryPool b, uint32_t c, uint32_t d, size_t e, void *f, VkDeviceSize g, VkQueryResultFlags h), (a, b, c, d, e, f, g, h))
#define DESTROY_CALLS(X)                                                                           \
    X(vkFreeMemory, VkDeviceMemory) X(vkDestroyBuffer, VkBuffer)                                   \
    X(vkDestroyBufferView, VkBufferView) X(vkDestroyShaderModule, VkShaderModule)                  \
    X(vkDestroyDescriptorSetLayout, VkDescriptorSetLayout)                                         \
    X(vkDestroyPipelineLayout, VkPipelineLayout) X(vkDestroyPipelineCache, VkPipelineCache)        \
    X(vkDestroyPipeline, VkPipeline) X(vkDestroyCommandPool, VkCommandPool)                        \
    X(vkDestroySemaphore, VkSemaphore) X(vkDestroyQueryPool, VkQueryPool)                          \
    X(vkDestroyDescriptorPool, VkDescriptorPool)

#define NAMES (1 << 16)

static struct {
#define X(name, gives, parameters, arguments) PFN_##name name;
    INSTANCE_CALLS(X) DEVICE_CALLS(X)
#undef X
#define X(name, type) PFN_##name name;
    DESTROY_CALLS(X)
#undef X
    PFN_vkDestroyDevice vkDestroyDevice;
    PFN_vkDestroyInstance vkDestroyInstance;
    PFN_vkCmdPipelineBarrier vkCmdPipelineBarrier;
    PFN_vkGetDeviceProcAddr vkGetDeviceProcAddr;
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
    PFN_vkDeviceWaitIdle vkDeviceWaitIdle;
    VkDevice device;
} real;

static struct {
    uint64_t after, every, calls, barriers;
    VkResult result;
    unsigned kind;  /* only calls that give one of these count */
    bool sticky;
    bool lost;      /* the device that there is */
    bool flying;    /* a submit that no wait came after */
    const char *failed, *next;
    int64_t objects;
    const char *names[NAMES]; /* of the calls that counted */
} fault;

/* A lost device runs nothing: what was submitted must have ended before the loss is told. */
static void settle(void)
{
    if (real.device && real.vkDeviceWaitIdle)
        real.vkDeviceWaitIdle(real.device);
}

static bool fails_again(const char *name, unsigned gives)
{
    if (fault.lost)
        return gives & WAITS || strcmp(name, "vkQueueSubmit") == 0;
    return fault.sticky && fault.failed && (gives & fault.kind) && !(gives & WAITS);
}

static bool must_fail(const char *name, unsigned gives)
{
    if (strcmp(name, "vkCreateInstance") == 0) {
        real.device = VK_NULL_HANDLE; /* the last one's is gone */
        fault.lost = false;
    }
    if (!(gives & fault.kind))
        return fails_again(name, gives);
    if (fault.calls < NAMES)
        fault.names[fault.calls] = name;
    fault.calls++;
    if (fault.next && strcmp(name, fault.next) == 0)
        fault.after = fault.calls;
    if (fault.calls != fault.after)
        return fails_again(name, gives);
    fault.next = NULL;
    fault.failed = name;
    fault.after += fault.every;
    fault.lost = fault.result == VK_ERROR_DEVICE_LOST;
    if (fault.lost)
        settle();
    return true;
}

#define X(name, gives, parameters, arguments)                                                      \
    static VKAPI_ATTR VkResult VKAPI_CALL fault_##name parameters                                  \
    {                                                                                              \
        if (must_fail(#name, gives))                                                               \
            return fault.result;                                                                   \
        VkResult r = real.name arguments;                                                          \
        if (strcmp(#name, "vkQueueSubmit") == 0 || strcmp(#name, "vkWaitSemaphores") == 0)         \
            fault.flying = strcmp(#name, "vkQueueSubmit") == 0;                                    \
        fault.objects += ((gives) & MAKES) && r == VK_SUCCESS;                                     \
        return r;                                                                                  \
    }
INSTANCE_CALLS(X) DEVICE_CALLS(X)
#undef X

#define X(name, type)                                                                              \
    static VKAPI_ATTR void VKAPI_CALL fault_##name(VkDevice a, type b,                             \
                                                   const VkAllocationCallbacks *c)                 \
    {                                                                                              \
        fault.objects -= b != VK_NULL_HANDLE;                                                      \
        real.name(a, b, c);                                                                        \
    }
DESTROY_CALLS(X)
#undef X

static VKAPI_ATTR void VKAPI_CALL fault_vkDestroyDevice(VkDevice a, const VkAllocationCallbacks *b)
{
    fault.objects -= a != VK_NULL_HANDLE;
    if (a == real.device)
        real.device = VK_NULL_HANDLE;
    real.vkDestroyDevice(a, b);
}

static VKAPI_ATTR void VKAPI_CALL fault_vkDestroyInstance(VkInstance a,
                                                          const VkAllocationCallbacks *b)
{
    fault.objects -= a != VK_NULL_HANDLE;
    real.vkDestroyInstance(a, b);
}

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
#define X(call, ...)                                                                               \
    if (p && strcmp(name, #call) == 0) {                                                           \
        real.call = (PFN_##call)p;                                                                 \
        return (PFN_vkVoidFunction)fault_##call;                                                   \
    }
    DEVICE_CALLS(X)
    DESTROY_CALLS(X)
    X(vkDestroyDevice, )
    X(vkCmdPipelineBarrier, )
    return p;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction p = real.vkGetInstanceProcAddr(instance, name);
    INSTANCE_CALLS(X)
    X(vkDestroyInstance, )
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
    fault.every = 0;
    fault.result = (VkResult)result;
    fault.kind = UINT_MAX;
    fault.calls = fault.barriers = 0;
    fault.failed = fault.next = NULL;
    fault.sticky = fault.lost = false;
}

static unsigned kind_of(VkResult r)
{
    switch (r) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return HOST;
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return DEVICE;
    case VK_ERROR_DEVICE_LOST:
        return LOST;
    case VK_ERROR_INITIALIZATION_FAILED:
        return INIT;
    default:
        return UINT_MAX;
    }
}

void vk_fault_nth(uint64_t n, int result, bool sticky)
{
    vk_fault_after(n, result);
    fault.kind = kind_of(fault.result);
    fault.sticky = sticky;
}

void vk_fault_every(uint64_t n, int result)
{
    vk_fault_nth(n, result, false);
    fault.every = n;
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

const char *vk_fault_name(uint64_t n)
{
    return n >= 1 && n <= fault.calls && n <= NAMES ? fault.names[n - 1] : NULL;
}

const char *vk_fault_failed(void)
{
    return fault.failed;
}

uint64_t vk_fault_barriers(void)
{
    return fault.barriers;
}

int64_t vk_fault_objects(void)
{
    return fault.objects;
}

bool vk_fault_flying(void)
{
    return fault.flying;
}
