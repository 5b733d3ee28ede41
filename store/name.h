/* Model names: one grammar, one canonical form, one short form for people; and the other ways to
 * say where a model is.
 *
 *   [scheme://][host[:port]/][namespace/]model[:tag][@sha256:HEX]
 *
 *   scheme     http or https (the default); needs a host
 *   host       1..350 of A-Z a-z 0-9 _ . -, then an optional port 1..65535
 *   namespace  1..80 of A-Z a-z 0-9 _ -; one level
 *   model, tag 1..80 of A-Z a-z 0-9 _ - .
 * On the hub (host hf.co; huggingface.co is written so) they are its own: an organisation of
 * 1..42 of A-Z a-z 0-9 _ - . , a repository of 1..96, and as the tag a quantisation or the name of
 * a file without its folder, 1..128.
 * Every part begins with a letter, a digit or '_'. Missing parts are registry.ollama.ai, library
 * and latest. Of two parts `a/b`, the first is a host when it holds '.' or ':', is `localhost`, or
 * follows a scheme; else it is a namespace.
 *
 * Names compare without regard to ASCII case. The scheme and the digest say how and what to get;
 * they are not part of a model's identity. A name never becomes a path.
 * Limits: Ollama's (names of its registry and of hf.co parse unchanged). An IPv6 address is no
 * host: its colons are a tag's; it needs a name.
 * Thread: any; nothing here allocates. */
#ifndef HEARTH_STORE_NAME_H
#define HEARTH_STORE_NAME_H

#include <stdbool.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "store/digest.h"

#define NAME_HOST_MAX 350
#define NAME_PART_MAX 80
#define NAME_HUB_OWNER_MAX 42
#define NAME_HUB_REPO_MAX 96
#define NAME_HUB_TAG_MAX 128
/* of both forms below */
#define NAME_TEXT_MAX (NAME_HOST_MAX + NAME_PART_MAX + NAME_HUB_REPO_MAX + NAME_HUB_TAG_MAX + 3)

#define NAME_HUB_HOST "hf.co"
#define NAME_DEFAULT_HOST "registry.ollama.ai"
#define NAME_DEFAULT_NAMESPACE "library"
#define NAME_DEFAULT_TAG "latest"

struct name {
    char host[NAME_HOST_MAX + 1]; /* with its port */
    char namespace[NAME_PART_MAX + 1];
    char model[NAME_HUB_REPO_MAX + 1];
    char tag[NAME_HUB_TAG_MAX + 1];
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
/* What anybody wrote as a name or URL, for a list, the log or a sentence: cut to cap (at least 8) bytes, without what may
 * be secret in it (user and query), and with '?' for a quote and what is not plain ASCII. Gives `out`. */
const char *name_shown(struct str text, char *out, size_t cap);
/* Same host, namespace, model and tag, but for case. */
bool name_eq(const struct name *a, const struct name *b);
/* Two spellings of one name. */
bool name_same(struct str a, struct str b);

/* Where a model is to come from.
 *
 *   SOURCE_REGISTRY  a name as above
 *   SOURCE_HUB       a name as above whose host is the hub's, or with @REVISION (hub.h) instead of a digest
 *   SOURCE_URL       http[s]://HOST[:PORT]/...FILE.gguf[?QUERY]: the last piece of the path ends in
 *                    .gguf and holds no ':' (else it is a name with a tag; write %3A)
 *                    behind it may stand the file's digest, as @sha256:HEX or #sha256=HEX (url.c)
 *   SOURCE_FILE      file:PATH or file:///PATH, a path of this machine as it stands, not decoded (a
 *                    model that is called file is library/file:tag)
 *
 * A URL and a file have no name of their own: they get registry.ollama.ai/library/STEM:latest, where
 * STEM is the file's name in lower case without .gguf and a shard's number, percent escapes of a
 * URL decoded, and with '-' for each run of bytes that no model's name may hold. */
enum source_kind { SOURCE_REGISTRY, SOURCE_HUB, SOURCE_URL, SOURCE_FILE };

#define SOURCE_TEXT_MAX 4095

struct source {
    enum source_kind kind;
    struct name name;                /* http: the scheme was http, also of a URL */
    char text[SOURCE_TEXT_MAX + 1];  /* URL without digest and #fragment; path; else "" */
    size_t public_n;                 /* bytes of text that may be shown and kept: up to a query */
};

/* ERR_INVALID with a sentence that names the part at fault, never a URL's query or user; *out is
 * then untouched. */
enum err_code source_parse(struct str text, struct source *out, struct err *e);

#endif
