/* What the sweeps of failures do again and again: words, device, load, eight tokens, unload. Each call
 * goes on from wherever an earlier one failed. */
#ifndef HEARTH_TESTS_ENGINE_LIFE_H
#define HEARTH_TESTS_ENGINE_LIFE_H

#include "runtime/engine/runtime.h"

#define LIFE_TOKENS 8

struct life {
    const char *path, *device, *cache_dir; /* the caller's; all below as_gpu begins as zeros */
    bool as_gpu;
    struct words *words;
    struct runtime *rt;
    struct model *model;
    struct session *session;
    int32_t tokens[LIFE_TOKENS];
    uint32_t n_tokens;
};
/* Another on the same path and device. */
struct life life_like(const struct life *l);
/* From the file to the eighth token; ERR_OK: they are there. */
enum err_code life_live(struct life *l, struct err *e);
void life_unload(struct life *l); /* device and words stay */
void life_end(struct life *l);
bool life_same_tokens(const struct life *a, const struct life *b);

#endif
