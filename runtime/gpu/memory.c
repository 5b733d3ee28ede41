/* Device memory: slabs, and a first-fit list of free ranges in each.
 *
 * A software device is given slabs that we map ourselves (VK_EXT_external_memory_host): they are zero
 * without being touched, so that a KV cache is resident only as far as it has been filled. (Huge pages
 * were tried: the matvec is no faster, and a fresh virtual machine takes 4 times as long to touch
 * them first.) */
#include "runtime/gpu/vk_priv.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/base/mem.h"

#define MAX_RANGES ((size_t)1 << 20)
#define WHOLE_PAGES ((uint64_t)64 << 10) /* of any machine, and what drivers ask of imported memory */

/* ---- which memory -------------------------------------------------------------------------- */

/* How well a memory type suits, or -1. Types with properties that we know nothing of are left alone. */
static int suits(const struct vk_device *d, uint32_t type, enum gpu_memory where)
{
    const VkMemoryPropertyFlags local = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
                                visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                          VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
                                cached = VK_MEMORY_PROPERTY_HOST_CACHED_BIT;
    VkMemoryPropertyFlags f = d->heaps.memoryTypes[type].propertyFlags;
    if (f & ~(local | visible | cached))
        return -1;
    bool seen = (f & visible) == visible;
    if (where == GPU_HOST) /* on a card, host memory is better read by the host outside the card */
        return !seen ? -1 : 1 + 2 * !!(f & cached) + !(f & local);
    if (d->host_memory)
        return (seen ? 4 : 0) + 2 * !!(f & local) + !!(f & cached);
    return 2 * !!(f & local) + !(f & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
}

static uint64_t heap_of(const struct vk_device *d, uint32_t type)
{
    return d->heaps.memoryHeaps[d->heaps.memoryTypes[type].heapIndex].size;
}

/* Of equally good types the one with the larger heap; UINT32_MAX: none. */
static uint32_t pick(const struct vk_device *d, uint32_t allowed, enum gpu_memory where)
{
    uint32_t best = UINT32_MAX;
    int good = -1;
    for (uint32_t i = 0; i < d->heaps.memoryTypeCount; i++) {
        int s = allowed >> i & 1 ? suits(d, i, where) : -1;
        if (s > good || (s >= 0 && s == good && heap_of(d, i) > heap_of(d, best))) {
            best = i;
            good = s;
        }
    }
    return best;
}

uint64_t vk_heap_bytes(const struct vk_device *d)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < d->heaps.memoryHeapCount; i++)
        if ((d->heaps.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) &&
            d->heaps.memoryHeaps[i].size > most)
            most = d->heaps.memoryHeaps[i].size;
    return most;
}

/* ---- how much is left ---------------------------------------------------------------------- */

/* The first number of a /proc file that `format` finds; 0: none. */
static uint64_t proc_number(const char *path, const char *format)
{
    char line[256];
    unsigned long long n = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    while (n == 0 && fgets(line, sizeof line, f))
        if (sscanf(line, format, &n) != 1)
            n = 0;
    fclose(f);
    return n;
}

/* A software device would take more than there is, and be killed when it touches it. What was
 * handed out and not touched yet is not free, though the kernel says so: slabs less what this process
 * has of its own in memory. */
static uint64_t host_available(const struct vk_device *d)
{
    uint64_t free = proc_number("/proc/meminfo", "MemAvailable: %llu kB") << 10;
    uint64_t touched = proc_number("/proc/self/status", "RssAnon: %llu kB") << 10, promised = 0;
    for (const struct vk_slab *s = d->slabs; s; s = s->next)
        promised += s->twin ? 0 : s->bytes;
    if (free == 0)
        return UINT64_MAX;
    uint64_t owed = promised > touched ? promised - touched : 0;
    return free > owed ? free - owed : 0;
}

static uint64_t available(const struct vk_device *d, uint32_t type)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT
    };
    VkPhysicalDeviceMemoryProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget
    };
    if (d->base.info.software)
        return host_available(d);
    if (!d->memory_budget)
        return UINT64_MAX;
    uint32_t heap = d->heaps.memoryTypes[type].heapIndex;
    vkGetPhysicalDeviceMemoryProperties2(d->physical, &p);
    uint64_t most = budget.heapBudget[heap], used = budget.heapUsage[heap];
    return most == 0 ? UINT64_MAX : most > used ? most - used : 0;
}

/* ---- slabs --------------------------------------------------------------------------------- */

static void slab_destroy(struct vk_device *d, struct vk_slab *s)
{
    if (!s)
        return;
    if (s->memory)
        d->fn.vkFreeMemory(d->device, s->memory, NULL); /* unmaps */
    if (s->ours)
        munmap(s->map, s->bytes);
    mem_free(s->free);
    mem_free(s);
}

/* Zeroed; NULL: none. */
static uint8_t *map_pages(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static enum err_code allocate(struct vk_device *d, struct vk_slab *s, bool map, struct err *e)
{
    char what[64];
    snprintf(what, sizeof what, "%llu bytes", (unsigned long long)s->bytes);
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
    };
    if (d->import_host) {
        import.pHostPointer = s->map = map_pages(s->bytes);
        s->ours = s->map != NULL;
        if (!s->map)
            return err_set(e, ERR_NO_DEVICE_MEMORY, "mmap: no memory (%s)", what);
    }
    VkResult r = d->fn.vkAllocateMemory(
        d->device,
        &(VkMemoryAllocateInfo){ .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = s->ours ? &import : NULL,
                                 .allocationSize = s->bytes,
                                 .memoryTypeIndex = s->type },
        NULL, &s->memory);
    enum err_code rc = vk_check(d, r, e, "vkAllocateMemory", what);
    if (rc)
        s->memory = VK_NULL_HANDLE;
    if (rc || !map || s->ours)
        return rc;
    r = d->fn.vkMapMemory(d->device, s->memory, 0, VK_WHOLE_SIZE, 0, (void **)&s->map);
    return vk_check(d, r, e, "vkMapMemory", what);
}

static enum err_code slab_create(struct vk_device *d, uint32_t type, uint64_t bytes, bool map,
                                 struct vk_slab **out, struct err *e)
{
    uint64_t left = available(d, type);
    if (d->import_host)
        bytes = (bytes + WHOLE_PAGES - 1) / WHOLE_PAGES * WHOLE_PAGES;
    if (bytes > left)
        return err_set(e, ERR_NO_DEVICE_MEMORY, "%llu bytes of device memory: %llu are left",
                       (unsigned long long)bytes, (unsigned long long)left);
    struct vk_slab *s = mem_zero(1, sizeof *s);
    if (!s || !mem_grow(&s->free, &s->cap_free, 1, sizeof *s->free, MAX_RANGES)) {
        mem_free(s);
        return err_no_memory(e, sizeof *s, "a slab");
    }
    s->bytes = bytes;
    s->used = d->import_host ? 0 : bytes; /* memory from elsewhere may hold anything */
    s->type = type;
    s->free[s->n_free++] = (struct vk_range){ 0, bytes };
    enum err_code rc = allocate(d, s, map, e);
    if (rc) {
        slab_destroy(d, s);
        return rc;
    }
    s->next = d->slabs;
    d->slabs = s;
    *out = s;
    return ERR_OK;
}

/* ---- ranges -------------------------------------------------------------------------------- */

/* Takes an aligned range out of s. n taken ranges leave at most n + 1 free ones: there is always room
 * for these, so that giving back cannot fail. */
static bool slab_take(struct vk_slab *s, uint64_t bytes, uint64_t align, uint64_t *at)
{
    if (!mem_grow(&s->free, &s->cap_free, s->n_taken + 2, sizeof *s->free, MAX_RANGES))
        return false;
    for (size_t i = 0; i < s->n_free; i++) {
        struct vk_range r = s->free[i];
        uint64_t from = (r.at + align - 1) / align * align, skip = from - r.at;
        if (skip > r.bytes || bytes > r.bytes - skip)
            continue;
        struct vk_range before = { r.at, skip }, after = { from + bytes, r.bytes - skip - bytes };
        size_t keep = (before.bytes ? 1u : 0u) + (after.bytes ? 1u : 0u);
        memmove(&s->free[i + keep], &s->free[i + 1], (s->n_free - i - 1) * sizeof r);
        s->n_free += keep - 1;
        if (after.bytes)
            s->free[i + keep - 1] = after;
        if (before.bytes)
            s->free[i] = before;
        *at = from;
        s->n_taken++;
        return true;
    }
    return false;
}

static void slab_give(struct vk_slab *s, struct vk_range r)
{
    size_t i = 0;
    s->n_taken--;
    while (i < s->n_free && s->free[i].at < r.at)
        i++;
    bool joins_before = i > 0 && s->free[i - 1].at + s->free[i - 1].bytes == r.at;
    bool joins_after = i < s->n_free && r.at + r.bytes == s->free[i].at;
    if (joins_before && joins_after) {
        s->free[i - 1].bytes += r.bytes + s->free[i].bytes;
        memmove(&s->free[i], &s->free[i + 1], (s->n_free - i - 1) * sizeof r);
        s->n_free--;
    } else if (joins_before) {
        s->free[i - 1].bytes += r.bytes;
    } else if (joins_after) {
        s->free[i] = (struct vk_range){ r.at, r.bytes + s->free[i].bytes };
    } else {
        memmove(&s->free[i + 1], &s->free[i], (s->n_free - i) * sizeof r);
        s->free[i] = r;
        s->n_free++;
    }
}

/* ---- places -------------------------------------------------------------------------------- */

enum err_code vk_place(struct vk_device *d, const VkMemoryRequirements *need, enum gpu_memory where,
                       struct vk_place *out, struct err *e)
{
    uint32_t type = pick(d, need->memoryTypeBits, where);
    bool map = where == GPU_HOST || d->host_memory;
    bool own = need->size >= VK_SLAB_OWN;
    struct vk_slab *s = NULL;
    if (type == UINT32_MAX)
        return err_set(e, ERR_NO_DEVICE_MEMORY, "%s has no memory for a %s buffer",
                       d->base.info.name, where == GPU_HOST ? "host" : "device");
    map = map && (d->heaps.memoryTypes[type].propertyFlags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT);
    *out = (struct vk_place){ .bytes = need->size };
    for (s = own ? NULL : d->slabs; s; s = s->next)
        if (!s->twin && s->type == type && !!s->map == map &&
            slab_take(s, need->size, need->alignment, &out->at))
            break;
    if (!s) {
        enum err_code rc = slab_create(d, type, own ? need->size : VK_SLAB_SHARED, map, &s, e);
        if (rc == ERR_NO_DEVICE_MEMORY && !own)
            rc = slab_create(d, type, need->size, map, &s, e);
        if (rc)
            return rc;
        if (!slab_take(s, need->size, need->alignment, &out->at)) {
            d->slabs = s->next;
            slab_destroy(d, s);
            return err_no_memory(e, sizeof *s, "a slab's free list");
        }
    }
    out->slab = s;
    out->dirty = s->used > out->at ? s->used - out->at : 0;
    if (s->used < out->at + out->bytes)
        s->used = out->at + out->bytes;
    return ERR_OK;
}

static enum err_code slab_twin(struct vk_device *d, struct vk_slab *of, struct vk_slab **out,
                               struct err *e)
{
    struct vk_slab *s = mem_zero(1, sizeof *s);
    if (!s)
        return err_no_memory(e, sizeof *s, "a slab");
    *s = (struct vk_slab){ .map = of->map, .bytes = of->bytes, .type = of->type, .twin = of };
    VkImportMemoryHostPointerInfoEXT import = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
        .pHostPointer = of->map,
    };
    VkResult r = d->fn.vkAllocateMemory(
        d->device,
        &(VkMemoryAllocateInfo){ .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &import,
                                 .allocationSize = s->bytes,
                                 .memoryTypeIndex = s->type },
        NULL, &s->memory);
    enum err_code rc = vk_check(d, r, e, "vkAllocateMemory", "a twin");
    if (rc) {
        s->memory = VK_NULL_HANDLE;
        slab_destroy(d, s);
        return rc;
    }
    of->n_taken++;
    s->next = d->slabs;
    d->slabs = *out = s;
    return ERR_OK;
}

enum err_code vk_place_twin(struct vk_device *d, const struct vk_place *of, struct vk_place *out,
                            struct err *e)
{
    struct vk_slab *s = d->slabs;
    while (s && s->twin != of->slab)
        s = s->next;
    enum err_code rc = s ? ERR_OK : slab_twin(d, of->slab, &s, e);
    if (rc)
        return rc;
    s->n_taken++;
    *out = (struct vk_place){ .slab = s, .at = of->at, .bytes = of->bytes };
    return ERR_OK;
}

void vk_unplace(struct vk_device *d, struct vk_place *p)
{
    struct vk_slab *s = p->slab;
    if (!s)
        return;
    if (s->twin)
        s->n_taken--;
    else
        slab_give(s, (struct vk_range){ p->at, p->bytes });
    p->slab = NULL;
    if (s->n_taken)
        return;
    struct vk_slab **link = &d->slabs;
    while (*link != s)
        link = &(*link)->next;
    *link = s->next;
    if (s->twin)
        s->twin->n_taken--;
    slab_destroy(d, s);
}
