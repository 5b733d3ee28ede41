/* The pipeline cache on disk: cache_dir/pipelines-<uuid>.bin, one for each driver and device.
 *
 * The file: 8 bytes magic, u64 bytes of the driver's data, u64 FNV-1a hash of them, the data. The
 * driver's data begins with Vulkan's header (VkPipelineCacheHeaderVersionOne), which says whose it
 * is. A file that is cut, damaged or another's is not used, and is written anew at the end. */
#include "runtime/gpu/vk_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"

#define MAX_CACHE ((uint64_t)64 << 20)

static const char magic[8] = "HEARTHP1";

struct head {
    char magic[8];
    uint64_t bytes, hash;
};

static uint64_t hash(const uint8_t *p, uint64_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* ---- reading ------------------------------------------------------------------------------- */

static bool read_all(int fd, void *p, uint64_t n)
{
    for (uint64_t at = 0; at < n;) {
        ssize_t got = read(fd, (char *)p + at, n - at);
        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        at += got > 0 ? (uint64_t)got : 0;
    }
    return true;
}

static bool ours(const struct vk_device *d, const uint8_t *p, uint64_t n)
{
    VkPipelineCacheHeaderVersionOne h;
    if (n < sizeof h)
        return false;
    memcpy(&h, p, sizeof h);
    return h.headerSize >= sizeof h && h.headerSize <= n &&
           h.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
           h.vendorID == d->props.vendorID && h.deviceID == d->props.deviceID &&
           memcmp(h.pipelineCacheUUID, d->props.pipelineCacheUUID, VK_UUID_SIZE) == 0;
}

/* The driver's data, to be freed; NULL: none that can be used. */
static uint8_t *load(const struct vk_device *d, uint64_t *bytes)
{
    struct head h;
    struct stat st;
    uint8_t *p = NULL;
    bool good = false;
    int fd = open(d->cache_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && read_all(fd, &h, sizeof h) &&
        memcmp(h.magic, magic, sizeof magic) == 0 && h.bytes <= MAX_CACHE &&
        (uint64_t)st.st_size == sizeof h + h.bytes)
        p = mem_alloc(h.bytes);
    if (p)
        good = read_all(fd, p, h.bytes) && hash(p, h.bytes) == h.hash && ours(d, p, h.bytes);
    close(fd);
    if (good) {
        *bytes = h.bytes;
        return p;
    }
    log_line(LOG_WARN, "msg=\"pipeline cache is damaged or another driver's: not used\" path=\"%s\"",
             d->cache_path);
    mem_free(p);
    return NULL;
}

static enum err_code make_path(struct vk_device *d, const char *dir, struct err *e)
{
    char hex[33];
    size_t n = strlen(dir) + 64;
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", d->base.info.uuid[i]);
    d->cache_path = mem_alloc(n);
    if (!d->cache_path)
        return err_no_memory(e, n, "the pipeline cache's path");
    snprintf(d->cache_path, n, "%s/pipelines-%s.bin", dir, hex);
    return ERR_OK;
}

static VkResult create(struct vk_device *d, const uint8_t *data, uint64_t bytes)
{
    VkPipelineCacheCreateInfo info = { .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                       .initialDataSize = bytes,
                                       .pInitialData = data };
    VkResult r = d->fn.vkCreatePipelineCache(d->device, &info, NULL, &d->cache);
    if (r != VK_SUCCESS)
        d->cache = VK_NULL_HANDLE;
    return r;
}

enum err_code vk_cache_open(struct vk_device *d, const char *dir, struct err *e)
{
    uint64_t bytes = 0;
    uint8_t *data = NULL;
    if (dir && make_path(d, dir, e))
        return ERR_NO_MEMORY;
    if (d->cache_path)
        data = load(d, &bytes);
    VkResult r = create(d, data, bytes);
    if (r != VK_SUCCESS && r != VK_ERROR_DEVICE_LOST && data)
        r = create(d, NULL, 0);
    mem_free(data);
    return vk_check(d, r, e, "vkCreatePipelineCache", "empty");
}

/* ---- writing ------------------------------------------------------------------------------- */

static bool write_all(int fd, const void *p, uint64_t n)
{
    for (uint64_t at = 0; at < n;) {
        ssize_t put = write(fd, (const char *)p + at, n - at);
        if (put < 0 && errno != EINTR)
            return false;
        at += put > 0 ? (uint64_t)put : 0;
    }
    return true;
}

/* Another process may write the same file: each has its own part file, and the rename is atomic. */
static bool replace(const char *path, const struct head *h, const uint8_t *data)
{
    char part[4096];
    int n = snprintf(part, sizeof part, "%s.%ld.part", path, (long)getpid());
    if (n < 0 || (size_t)n >= sizeof part)
        return false;
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool good = write_all(fd, h, sizeof *h) && write_all(fd, data, h->bytes) && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    good = good && rename(part, path) == 0;
    if (!good)
        unlink(part);
    return good;
}

void vk_cache_save(struct gpu *g)
{
    struct vk_device *d = (struct vk_device *)g;
    size_t n = 0;
    if (!d->cache_path || !d->cache || d->cache_seen == d->n_pipelines ||
        d->fn.vkGetPipelineCacheData(d->device, d->cache, &n, NULL) != VK_SUCCESS ||
        n > MAX_CACHE)
        return;
    uint8_t *data = mem_alloc(n);
    if (data && d->fn.vkGetPipelineCacheData(d->device, d->cache, &n, data) == VK_SUCCESS) {
        struct head h = { .bytes = n, .hash = hash(data, n) };
        memcpy(h.magic, magic, sizeof magic);
        if (replace(d->cache_path, &h, data))
            d->cache_seen = d->n_pipelines;
        else
            log_line(LOG_WARN, "msg=\"pipeline cache cannot be written: %s\" path=\"%s\"",
                     strerror(errno), d->cache_path);
    }
    mem_free(data);
}
