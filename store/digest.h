/* A SHA-256 digest: 32 bytes inside, text only at the edges.
 *
 * Whatever names a file in the store went through this type, so a string from outside can never
 * be part of a path. Thread: any; nothing here allocates. */
#ifndef HEARTH_STORE_DIGEST_H
#define HEARTH_STORE_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/str.h"

#define DIGEST_HEX_SIZE 65  /* 64 hex digits and the NUL */
#define DIGEST_TEXT_SIZE 72 /* "sha256:" + hex */
#define DIGEST_FILE_SIZE 72 /* "sha256-" + hex */

struct digest {
    uint8_t b[32];
};

/* `sha256:HEX` or `sha256-HEX`, 64 hex digits of either case; anything else is false. */
bool digest_parse(struct str text, struct digest *out);
bool digest_eq(const struct digest *a, const struct digest *b);
void digest_hex(const struct digest *d, char out[DIGEST_HEX_SIZE]);   /* lower case */
void digest_text(const struct digest *d, char out[DIGEST_TEXT_SIZE]); /* as manifests write it */
/* The one function that makes a file name of a digest. */
void digest_file_name(const struct digest *d, char out[DIGEST_FILE_SIZE]);

#endif
