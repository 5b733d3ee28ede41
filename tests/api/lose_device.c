/* Linked into a daemon: its Vulkan device is lost at every n-th call that can say so (two or three a
 * step), n from HEARTH_TEST_LOSE. */
#include <stdlib.h>

#include <vulkan/vulkan_core.h>

#include "tests/gpu/vk_fault.h"

__attribute__((constructor)) static void lose_device(void)
{
    const char *n = getenv("HEARTH_TEST_LOSE");
    if (n && vk_fault_install())
        vk_fault_every(strtoull(n, NULL, 10), VK_ERROR_DEVICE_LOST);
}
