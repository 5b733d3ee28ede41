/* Readers find the parts of a model by their names. Blobs and parts of a call have none: they are given some in
 * tmp/ for as long as it takes. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/store_priv.h"

/* Of one owner at a time: it lives as long as its names do. */
static void part_name(const void *owner, size_t k, size_t n, char out[80])
{
    snprintf(out, 80, "parts-%jx-%05zu-of-%05zu.gguf", (uintmax_t)(uintptr_t)owner, k, n);
}

bool store_parts_are_named(const char *const *paths, size_t n)
{
    char end[64];
    for (size_t k = 0; k < n; k++) {
        size_t used = strlen(paths[k]);
        snprintf(end, sizeof end, "-%05zu-of-%05zu.gguf", k + 1, n);
        if (used < strlen(end) || strlen(paths[0]) != used || strcmp(paths[k] + used - strlen(end), end) != 0 ||
            strncmp(paths[k], paths[0], used - strlen(end)) != 0)
            return false;
    }
    return true;
}

void store_unname_parts(struct store *s, const void *owner, size_t n)
{
    char name[80];
    for (size_t k = 1; n > 1 && k <= n; k++) {
        part_name(owner, k, n, name);
        s->ops->unlink(s->blobs.tmp, name); /* a start of the store would remove it as well */
    }
}

enum err_code store_name_parts(struct store *s, const void *owner, const char *const *paths, size_t n, struct arena *a,
                               const char *const **out, struct err *e)
{
    char name[80];
    *out = paths;
    if (n < 2 || store_parts_are_named(paths, n))
        return ERR_OK;
    const char **named = arena_zero(a, n, sizeof *named);
    size_t size = strlen(s->home) + sizeof "/tmp/" + sizeof name;
    for (size_t k = 0; named && k < n; k++) {
        char *path = arena_alloc(a, size);
        if (!path)
            return err_no_memory(e, size, "a path");
        part_name(owner, k + 1, n, name);
        snprintf(path, size, "%s/tmp/%s", s->home, name);
        named[k] = path;
        if (s->ops->link(paths[k], s->blobs.tmp, name) < 0)
            return err_errno(e, ERR_IO, errno, "naming a part of a model");
    }
    *out = named;
    return named ? ERR_OK : err_no_memory(e, n * sizeof *named, "the parts of a model");
}
