/* Media types: what a layer is, and where its bytes are kept. One table.
 *
 * Ollama's registry (application/vnd.ollama.image.*), Docker Model Runner
 * (application/vnd.docker.ai.*) and OCI artifacts (any type, told by the file name in
 * org.opencontainers.image.title) all become one kind. What is on no row is refused. */
#ifndef HEARTH_STORE_MEDIA_H
#define HEARTH_STORE_MEDIA_H

#include <stdbool.h>
#include <stddef.h>

enum media_kind {
    MEDIA_UNKNOWN, MEDIA_MODEL, MEDIA_PROJECTOR, MEDIA_ADAPTER, MEDIA_TEMPLATE, MEDIA_SYSTEM,
    MEDIA_PARAMS, MEDIA_MESSAGES, MEDIA_LICENSE, MEDIA_CONFIG, MEDIA_KINDS
};

#define MEDIA_TEXT_MAX ((size_t)4 << 20) /* bytes of a layer that is kept in the catalog */

enum media_kind media_kind_of(const char *media_type, const char *title /* may be NULL */);
/* True: a file of its own in blobs/. False: text, in the catalog, at most MEDIA_TEXT_MAX bytes. */
bool media_is_file(enum media_kind k);
const char *media_type_of(enum media_kind k); /* as we write it: Ollama's */
const char *media_type_alone(const char *media_type, enum media_kind k); /* this one, or ours, where only a title told k */
const char *media_kind_name(enum media_kind k); /* "model", "template"; "unknown" */
enum media_kind media_kind_named(const char *name);

#endif
