/* Manifests and configs, as Ollama's registry and store write them.
 *
 * manifest: {schemaVersion, mediaType, config {mediaType, digest, size}, layers [{mediaType,
 * digest, size}]}; the SHA-256 of its bytes is the model's digest. config: what the model is, in
 * one JSON object. Both are written canonically: same input, same bytes.
 *
 * Reading takes Ollama's, Docker's (v2) and OCI's, of which it wants the same: a config and layers whose
 * kinds media.h knows. Thread: any. */
#ifndef HEARTH_STORE_MANIFEST_H
#define HEARTH_STORE_MANIFEST_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"
#include "store/digest.h"
#include "store/media.h"
#include "store/store.h"

#define MANIFEST_MAX_BYTES ((size_t)4 * 1024 * 1024)
#define MANIFEST_TITLE "org.opencontainers.image.title"
#define MANIFEST_MEDIA_CONFIG "application/vnd.docker.container.image.v1+json"
#define MANIFEST_MEDIA_MODEL "application/vnd.ollama.image.model"

struct manifest_layer {
    const char *media_type;
    struct digest digest;
    uint64_t size;
    enum media_kind kind; /* for readers; what is written is media_type */
    const char *title;    /* org.opencontainers.image.title; NULL: none */
};

/* "134.5M", "8.0B"; "" for 0. */
void manifest_parameter_size(uint64_t n_params, char out[24]);

enum err_code manifest_digest(struct str bytes, struct digest *out, struct err *e);
/* Write to empty buffers of at least MANIFEST_MAX_BYTES, which the facts and layers that
 * store_import admits cannot fill. *config_layer's media type is static. */
enum err_code manifest_config(const struct store_facts *f, struct buf *out,
                              struct manifest_layer *config_layer, struct err *e);
enum err_code manifest_write(const struct manifest_layer *config, const struct manifest_layer *layers,
                             size_t n, struct buf *out, struct digest *digest, struct err *e);

/* ---- reading a stranger's -------------------------------------------------------------------- */

#define MANIFEST_MAX_LAYERS 1024
#define MANIFEST_MAX_TEXTS (4 * MEDIA_TEXT_MAX) /* bytes of all texts: they are held in memory until the commit */
#define MANIFEST_MAX_TEXT 255 /* bytes of a media type or a title */

struct manifest {
    struct manifest_layer config;        /* of the kind CONFIG */
    const struct manifest_layer *layers; /* in their order; at least one is a MODEL. No kind is UNKNOWN,
                                            texts have at most MEDIA_TEXT_MAX bytes, and together
                                            MANIFEST_MAX_TEXTS. A title is a stranger's text: it names no
                                            file of ours */
    size_t n_layers;
    uint64_t size;                       /* of the layers; at most INT64_MAX */
};

/* Into the arena. ERR_TOO_LARGE: over one of the limits. ERR_FORMAT: no manifest, or one that
 * contradicts itself. ERR_UNSUPPORTED: an index of several, an older version, a layer that is no part
 * of a model. */
enum err_code manifest_read(struct str bytes, struct arena *a, struct manifest *out, struct err *e);

#endif
