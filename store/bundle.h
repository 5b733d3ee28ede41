/* Bundles: models in one tar file, for machines without a network.
 *
 * A bundle is an OCI image layout in a tar (image-spec, image-layout.md), which other tools of OCI read:
 *   oci-layout            {"imageLayoutVersion": "1.0.0"}
 *   index.json            a descriptor for each model: its manifest's digest and size, and its name as
 *                         org.opencontainers.image.ref.name
 *   blobs/sha256/HEX      manifests, configs, texts, then files; each once
 * Manifests and configs are what they are in the store, byte for byte, so all digests stay. The same models give the
 * same bytes.
 *
 * Threads and errors: as store.h. */
#ifndef HEARTH_STORE_BUNDLE_H
#define HEARTH_STORE_BUNDLE_H

#include "store/job.h"
#include "store/store.h"
#include "store/tar.h"

#define BUNDLE_MAX_ENTRIES 16384
#define BUNDLE_MAX_MODELS 256
#define BUNDLE_MAX_TEXTS ((size_t)32 << 20) /* bytes of manifests, configs and texts, each counted once */

/* Writes the models to `to`, from a few MiB of memory; nothing is read twice. Every file is hashed as it passes: one
 * that is no longer what it was is ERR_CONFLICT, and the caller throws away what was written. */
enum err_code store_export(struct store *s, const char *const *names, size_t n, const struct tar_sink *to,
                           const struct store_job *job, struct err *e);

struct store_bundle {
    int fd;             /* a regular file, open for reading; stays the caller's; its offset is not used */
    const char *path;   /* what to call it */
    const char *as;     /* the name for the one model in it; NULL: as the bundle has it */
    struct store_job job;
    /* Each model that is now in the store. May be NULL; must not call the store. */
    void (*took)(void *user, const struct store_model *m);
    void *user;
};
/* Reads the bundle from end to end, once, whatever the order of its entries: blobs are hashed as they come, and those
 * that are in the store already only compared. Then each model is committed by itself: a kill leaves those that
 * were `took`, and nothing of the others. ERR_FORMAT: the bundle is not what it should be; nothing of it was taken.
 * ERR_INVALID: it has several models and `as` is given, or one without a name. */
enum err_code store_import_bundle(struct store *s, const struct store_bundle *in, struct err *e);

/* Whether an open file begins as one (a tar of any content). */
bool store_is_bundle(int fd);

/* ---- between its two files ---------------------------------------------------------------------- */

#define BUNDLE_REF_NAME "org.opencontainers.image.ref.name"
#define BUNDLE_LAYOUT "oci-layout"
#define BUNDLE_INDEX "index.json"
#define BUNDLE_BLOBS "blobs/sha256"

#endif
