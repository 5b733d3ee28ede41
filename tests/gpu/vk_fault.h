/* Makes Vulkan calls fail. Between vk_fault_install and vk_fault_remove every call that can fail goes
 * through a wrapper that volk was given instead of the loader's entry; a failing one does not reach the
 * driver. For one thread (but several may make pipelines), and devices of one driver, at most 16 at a
 * time, made after vk_fault_install and closed before vk_fault_remove. */
#ifndef HEARTH_TESTS_VK_FAULT_H
#define HEARTH_TESTS_VK_FAULT_H

#include <stdbool.h>
#include <stdint.h>

bool vk_fault_install(void); /* false: there is no Vulkan loader */
void vk_fault_remove(void);

/* The n-th call from now (1: the next) gives `result` (a VkResult below 0); n = 0: none. With
 * VK_ERROR_DEVICE_LOST all later calls of that device that wait or submit do so too; other devices go on.
 * What it had begun ends before something of it is destroyed. */
void vk_fault_after(uint64_t n, int result);
/* The same, counting only calls that may give this result by the specification: out of host or of
 * device memory, device lost, initialisation failed. `sticky`: so do all of them from then on, but
 * those that wait for work that is on its way. */
void vk_fault_nth(uint64_t n, int result, bool sticky);
void vk_fault_every(uint64_t n, int result); /* and every n-th after it */
/* As vk_fault_after, for the next call of that name; `result` may be a success too (VK_TIMEOUT). */
void vk_fault_next(const char *call, int result);
uint64_t vk_fault_calls(void);      /* that count, since the last vk_fault_after or _nth */
const char *vk_fault_name(uint64_t n); /* of the n-th of these; NULL: none, or beyond 65536 */
const char *vk_fault_failed(void);  /* the call that failed; NULL: none yet */
uint64_t vk_fault_barriers(void);   /* vkCmdPipelineBarrier since the last vk_fault_after */
/* Instances, devices and what they made, less what was destroyed, since vk_fault_install. */
int64_t vk_fault_objects(void);
/* Something was submitted that nobody has waited for. */
bool vk_fault_flying(void);

#endif
