/* SHA-256 of a file and of each MiB of it, in one pass over its bytes in order.
 *
 * Thread: one at a time. Errors: ERR_NO_MEMORY, ERR_INTERNAL (the library refused). */
#ifndef HEARTH_STORE_HASHER_H
#define HEARTH_STORE_HASHER_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "store/digest.h"

#define CHUNK_BYTES ((uint64_t)1024 * 1024)
#define CHUNK_HASHES_MAX ((size_t)64 * 1024 * 1024) /* of a file of 2 TiB */

struct hasher {
    void *whole, *chunk; /* the library's */
    struct buf *hashes;  /* the caller's; NULL: of the whole only */
    uint64_t at;
};

/* Adds to *hashes, which must be empty with a cap of CHUNK_HASHES_MAX, 32 bytes for each MiB. */
enum err_code hasher_begin(struct hasher *h, struct buf *hashes, struct err *e);
enum err_code hasher_add(struct hasher *h, const void *p, size_t n, struct err *e);
/* No more bytes come: the last, shorter MiB is hashed too. */
enum err_code hasher_end(struct hasher *h, struct digest *out, struct err *e);
void hasher_finish(struct hasher *h); /* a zeroed one is fine */

#endif
