/* Secrets that the command finds for one pull, push or repair, and hands to the daemon with it.
 *
 * The hub's token: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, the file HF_TOKEN_PATH, $HF_HOME/token, or
 * ~/.cache/huggingface/token. A registry's user: the "auths" of $DOCKER_CONFIG/config.json or
 * ~/.docker/config.json, else HEARTH_REGISTRY_USER and HEARTH_REGISTRY_PASSWORD (only for a host
 * that the name says). Programs that docker would ask (credHelpers) are not run.
 *
 * Where they go: to a daemon on a Unix socket or on loopback, no other; the token only with names of
 * the hub. Thread: any. */
#ifndef HEARTH_CLI_SECRETS_H
#define HEARTH_CLI_SECRETS_H

#include "cli/reach.h"
#include "runtime/base/mem.h"
#include "runtime/base/str.h"

struct secrets {
    struct str hf_token, username, password; /* in `arena`; empty: none */
    struct arena arena;
};
/* name: as the user wrote it. Zero-initialised by the caller, ended by secrets_finish. What cannot be read
 * is passed over: a public model needs none. */
void secrets_find(const struct reach *r, const char *name, struct secrets *out);
/* The same for a place that the user did not name, but some model came from: without a registry's user of the
 * environment, which is for the registry that is named. */
void secrets_find_kept(const struct reach *r, const char *source, struct secrets *out);
void secrets_finish(struct secrets *s);

/* The registry's host of a name, with its port: "registry.ollama.ai" where none is written. */
struct str secrets_host(const char *name);
/* hf.co, huggingface.co, HF_ENDPOINT's. */
bool secrets_is_hub(const char *name);

#endif
