#include "tests/gpu/vk_fault.h"

#include <limits.h>
#include <pthread.h>
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
#define DEVICES 16

/* One driver's: the same for all of its devices. */
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
    PFN_vkFreeCommandBuffers vkFreeCommandBuffers;
    PFN_vkGetDeviceProcAddr vkGetDeviceProcAddr;
    PFN_vkGetInstanceProcAddr vkGetInstanceProcAddr;
    PFN_vkDeviceWaitIdle vkDeviceWaitIdle;
} real;

static struct device {
    VkDevice handle; /* VK_NULL_HANDLE: a free place */
    bool lost;
    bool flying; /* a submit that no wait came after */
} devices[DEVICES];

static struct {
    uint64_t after, every, calls, barriers;
    VkResult result;
    unsigned kind;  /* only calls that give one of these count */
    bool sticky;
    const char *failed, *next;
    int64_t objects;
    const char *names[NAMES]; /* of the calls that counted */
} fault;

/* The device that this is the handle of, or of its queue or a command buffer: these begin with the same
 * word, by which layers know them too (the loader's interface to layers). NULL: another handle. */
static struct device *device_of(const void *handle)
{
    for (struct device *d = devices; d < devices + DEVICES; d++)
        if (d->handle && memcmp(handle, d->handle, sizeof(void *)) == 0)
            return d;
    return NULL;
}

static void note_device(VkDevice handle)
{
    for (struct device *d = devices; d < devices + DEVICES && !device_of(handle); d++)
        if (!d->handle)
            *d = (struct device){ .handle = handle };
}

/* The work of a lost device ends by itself, but late: when what it uses is destroyed. Whatever it waits
 * for must have come by then. */
static void settle(VkDevice handle)
{
    const struct device *d = device_of(handle);
    if (d && d->lost)
        real.vkDeviceWaitIdle(handle);
}

static VkResult again(const char *name, unsigned gives, const struct device *d)
{
    if (d && d->lost)
        return gives & WAITS || strcmp(name, "vkQueueSubmit") == 0 ? VK_ERROR_DEVICE_LOST : VK_SUCCESS;
    bool fails = fault.sticky && fault.failed && (gives & fault.kind) && !(gives & WAITS);
    return fails ? fault.result : VK_SUCCESS;
}

static VkResult counted(const char *name, unsigned gives, const void *handle)
{
    struct device *d = device_of(handle);
    if (!(gives & fault.kind))
        return again(name, gives, d);
    if (fault.calls < NAMES)
        fault.names[fault.calls] = name;
    fault.calls++;
    if (fault.next && strcmp(name, fault.next) == 0)
        fault.after = fault.calls;
    if (fault.calls != fault.after)
        return again(name, gives, d);
    fault.next = NULL;
    fault.failed = name;
    fault.after += fault.every;
    if (d)
        d->lost |= fault.result == VK_ERROR_DEVICE_LOST;
    return fault.result;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* pipelines are made by several threads */

/* What a call gives instead of being made; VK_SUCCESS: it is to be made. */
static VkResult fails(const char *name, unsigned gives, const void *handle)
{
    pthread_mutex_lock(&lock);
    VkResult r = counted(name, gives, handle);
    pthread_mutex_unlock(&lock);
    return r;
}

static void note_made(void)
{
    pthread_mutex_lock(&lock);
    fault.objects++;
    pthread_mutex_unlock(&lock);
}

static void note_flight(const char *name, const void *handle)
{
    struct device *d = device_of(handle);
    bool sent = strcmp(name, "vkQueueSubmit") == 0;
    if (d && (sent || strcmp(name, "vkWaitSemaphores") == 0))
        d->flying = sent;
}

#define X(name, gives, parameters, arguments)                                                      \
    static VKAPI_ATTR VkResult VKAPI_CALL fault_##name parameters                                  \
    {                                                                                              \
        VkResult r = fails(#name, gives, a);                                                       \
        if (r != VK_SUCCESS)                                                                       \
            return r;                                                                              \
        r = real.name arguments;                                                                   \
        note_flight(#name, a);                                                                     \
        if (((gives) & MAKES) && r == VK_SUCCESS)                                                  \
            note_made();                                                                           \
        return r;                                                                                  \
    }
INSTANCE_CALLS(X) DEVICE_CALLS(X)
#undef X

#define X(name, type)                                                                              \
    static VKAPI_ATTR void VKAPI_CALL fault_##name(VkDevice a, type b,                             \
                                                   const VkAllocationCallbacks *c)                 \
    {                                                                                              \
        settle(a);                                                                                 \
        fault.objects -= b != VK_NULL_HANDLE;                                                      \
        real.name(a, b, c);                                                                        \
    }
DESTROY_CALLS(X)
#undef X

static VKAPI_ATTR void VKAPI_CALL fault_vkDestroyDevice(VkDevice a, const VkAllocationCallbacks *b)
{
    struct device *d = device_of(a);
    settle(a);
    if (d)
        *d = (struct device){ .handle = VK_NULL_HANDLE };
    fault.objects -= a != VK_NULL_HANDLE;
    real.vkDestroyDevice(a, b);
}

static VKAPI_ATTR void VKAPI_CALL fault_vkDestroyInstance(VkInstance a,
                                                          const VkAllocationCallbacks *b)
{
    fault.objects -= a != VK_NULL_HANDLE;
    real.vkDestroyInstance(a, b);
}

static VKAPI_ATTR void VKAPI_CALL fault_vkFreeCommandBuffers(VkDevice a, VkCommandPool b, uint32_t c,
                                                             const VkCommandBuffer *d)
{
    settle(a);
    real.vkFreeCommandBuffers(a, b, c, d);
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
    note_device(device);
#define X(call, ...)                                                                               \
    if (p && strcmp(name, #call) == 0) {                                                           \
        real.call = (PFN_##call)p;                                                                 \
        return (PFN_vkVoidFunction)fault_##call;                                                   \
    }
    DEVICE_CALLS(X)
    DESTROY_CALLS(X)
    X(vkDestroyDevice, )
    X(vkCmdPipelineBarrier, )
    X(vkFreeCommandBuffers, )
    if (strcmp(name, "vkDeviceWaitIdle") == 0)
        real.vkDeviceWaitIdle = (PFN_vkDeviceWaitIdle)p;
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
    memset(devices, 0, sizeof devices);
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
    fault.sticky = false;
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
    for (const struct device *d = devices; d < devices + DEVICES; d++)
        if (d->handle && d->flying)
            return true;
    return false;
}
