/* Model names: one grammar, one canonical form, one short form for people.
 *
 *   [scheme://][host[:port]/][namespace/]model[:tag][@sha256:HEX]
 *
 *   scheme     http or https (the default); needs a host
 *   host       1..350 of A-Z a-z 0-9 _ . -, then an optional port 1..65535
 *   namespace  1..80 of A-Z a-z 0-9 _ -
 *   model, tag 1..80 of A-Z a-z 0-9 _ - .
 * Every part begins with a letter, a digit or '_'. Missing parts are registry.ollama.ai, library
 * and latest. Of two parts `a/b`, the first is a host when it holds '.' or ':', is `localhost`, or
 * follows a scheme; else it is a namespace.
 *
 * Names compare without regard to ASCII case. The scheme and the digest say how and what to get;
 * they are not part of a model's identity. A name never becomes a path.
 * Limits: Ollama's (names of its registry and of hf.co parse unchanged).
 * Thread: any; nothing here allocates. */
#ifndef HEARTH_STORE_NAME_H
#define HEARTH_STORE_NAME_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "store/digest.h"

#define NAME_HOST_MAX 350
#define NAME_PART_MAX 80
#define NAME_TEXT_MAX (NAME_HOST_MAX + 3 * NAME_PART_MAX + 3) /* of both forms below */

#define NAME_DEFAULT_HOST "registry.ollama.ai"
#define NAME_DEFAULT_NAMESPACE "library"
#define NAME_DEFAULT_TAG "latest"

struct name {
    char host[NAME_HOST_MAX + 1]; /* with its port */
    char namespace[NAME_PART_MAX + 1];
    char model[NAME_PART_MAX + 1];
    char tag[NAME_PART_MAX + 1];
    bool http;    /* http:// was written */
    bool tagged;  /* a tag was written, not filled in */
    bool pinned;  /* @sha256:... was written */
    struct digest digest; /* of the manifest, when pinned */
};

/* ERR_INVALID with a sentence that names the part at fault; *out is then untouched. */
enum err_code name_parse(struct str text, struct name *out, struct err *e);
/* host/namespace/model:tag, always all four. */
void name_canonical(const struct name *n, char out[NAME_TEXT_MAX + 1]);
/* Without the default host, and then without the default namespace; always with a tag. Parses
 * back to the same name. */
void name_short(const struct name *n, char out[NAME_TEXT_MAX + 1]);
/* Same host, namespace, model and tag, but for case. */
bool name_eq(const struct name *a, const struct name *b);

#endif
