/* What a SPIR-V module asks of the device once its specialisation constants are known, read from the
 * module itself, so that no formula here can differ from a shader. Follows the SPIR-V specification 1.6,
 * sections 2.3 and 3.52. */
#ifndef HEARTH_TESTS_UNIT_SPIRV_SHARED_H
#define HEARTH_TESTS_UNIT_SPIRV_SHARED_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of shared memory (storage class Workgroup). spec: values by SpecId, n of them. Of what this
 * does not understand it says UINT64_MAX. */
uint64_t spirv_shared_bytes(const uint32_t *code, size_t bytes, const uint32_t *spec, uint32_t n);

#endif
