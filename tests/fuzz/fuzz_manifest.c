/* Any bytes as a manifest: read or refused with a sentence, within its limits; what is read is written and
 * read again the same. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "store/manifest.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    json_setup();
    return 0;
}

static void check(bool right)
{
    if (!right)
        abort();
}

static bool same(const struct manifest_layer *a, const struct manifest_layer *b)
{
    return digest_eq(&a->digest, &b->digest) && a->size == b->size && a->kind == b->kind &&
           strcmp(a->media_type, b->media_type) == 0 && !a->title == !b->title &&
           (!a->title || strcmp(a->title, b->title) == 0);
}

static void write_and_read(const struct manifest *m)
{
    struct buf b;
    struct digest d;
    struct arena a = { 0 };
    struct manifest again;
    bool model = false;
    buf_init(&b, MANIFEST_MAX_BYTES);
    check(manifest_write(&m->config, m->layers, m->n_layers, &b, &d, NULL) == ERR_OK);
    check(manifest_read(buf_str(&b), &a, &again, NULL) == ERR_OK);
    check(again.n_layers == m->n_layers && again.size == m->size && same(&again.config, &m->config));
    for (size_t i = 0; i < m->n_layers; i++) {
        check(same(&again.layers[i], &m->layers[i]) && m->layers[i].kind != MEDIA_UNKNOWN);
        check(media_is_file(m->layers[i].kind) || m->layers[i].size <= MEDIA_TEXT_MAX);
        model = model || m->layers[i].kind == MEDIA_MODEL;
    }
    check(model);
    arena_finish(&a);
    buf_finish(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t live = mem_live();
    struct arena a = { 0 };
    struct manifest m;
    struct err e = { 0 };
    enum err_code code = manifest_read((struct str){ (const char *)data, size }, &a, &m, &e);
    check(code != ERR_INTERNAL && code != ERR_NO_MEMORY && !code == !e.text[0]);
    if (!code) {
        check(m.n_layers > 0 && m.n_layers <= MANIFEST_MAX_LAYERS && m.size <= INT64_MAX);
        write_and_read(&m);
    }
    arena_finish(&a);
    check(mem_live() == live);
    return 0;
}
