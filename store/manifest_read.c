#include "store/manifest.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/json.h"

/* A layer is some dozen values; annotations that we do not read count as well. */
#define MAX_VALUES ((size_t)64 * MANIFEST_MAX_LAYERS)

static const char *const title_keys[] = { MANIFEST_TITLE, "org.cncf.model.filepath" };

/* What the text of a sentence is to show of a stranger's string. */
static const char *shown(const json_t *text)
{
    const char *s = json_string_value(text);
    size_t n = s ? strlen(s) : 0;
    for (size_t i = 0; i < n; i++)
        if (s[i] < ' ' || s[i] > '~')
            return "?";
    return s && n <= 120 ? s : "?";
}

/* A text of the manifest's into the arena. */
static enum err_code take_text(const json_t *v, const char *what, struct arena *a, const char **out,
                               struct err *e)
{
    size_t n = json_string_length(v);
    if (n > MANIFEST_MAX_TEXT)
        return err_set(e, ERR_TOO_LARGE, "the manifest: %s has %zu bytes; at most %d are taken", what, n,
                       MANIFEST_MAX_TEXT);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)json_string_value(v)[i] < ' ')
            return err_set(e, ERR_FORMAT, "the manifest: %s holds a control character", what);
    *out = arena_strndup(a, json_string_value(v), n);
    return *out ? ERR_OK : err_no_memory(e, n, "a manifest");
}

static enum err_code take_title(const json_t *layer, struct arena *a, const char **out, struct err *e)
{
    const json_t *notes = json_object_get(layer, "annotations");
    for (size_t i = 0; i < sizeof title_keys / sizeof *title_keys; i++) {
        const json_t *title = json_object_get(notes, title_keys[i]);
        if (json_is_string(title))
            return take_text(title, "a title", a, out, e);
    }
    return ERR_OK;
}

/* Small letters alone: a manifest names a blob in one way (OCI's image specification, digests). */
static bool take_digest(const json_t *v, struct digest *out)
{
    struct str text = { json_string_value(v), json_string_length(v) };
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] >= 'A' && text.p[i] <= 'F')
            return false;
    return json_is_string(v) && str_starts(text, STR("sha256:")) && digest_parse(text, out);
}

/* `what`: "its config", "layer 3" */
static enum err_code take_layer(const json_t *v, const char *what, struct arena *a, struct manifest_layer *out,
                                struct err *e)
{
    const json_t *type = json_object_get(v, "mediaType"), *digest = json_object_get(v, "digest");
    const json_t *size = json_object_get(v, "size");
    *out = (struct manifest_layer){ 0 };
    if (!json_is_string(type) || !digest || !size)
        return err_set(e, ERR_FORMAT, "the manifest: %s must have mediaType, digest and size", what);
    if (!take_digest(digest, &out->digest))
        return err_set(e, ERR_FORMAT,
                       "the manifest: the digest of %s is '%s' and must be sha256: and 64 hex digits, a to f small",
                       what, shown(digest));
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return err_set(e, ERR_FORMAT, "the manifest: the size of %s is no number of bytes", what);
    out->size = (uint64_t)json_integer_value(size);
    enum err_code code = take_text(type, "a media type", a, &out->media_type, e);
    if (!code)
        code = take_title(v, a, &out->title, e);
    return code;
}

static enum err_code check_kind(const struct manifest_layer *l, const char *what, struct err *e)
{
    if (l->kind == MEDIA_UNKNOWN)
        return err_set(e, ERR_UNSUPPORTED, "the manifest: %s is '%s'%s%s, which is no part of a model here", what,
                       l->media_type, l->title ? " named " : "", l->title ? l->title : "");
    if (!media_is_file(l->kind) && l->size > MEDIA_TEXT_MAX)
        return err_set(e, ERR_TOO_LARGE, "the manifest: %s (%s) has %" PRIu64 " bytes; at most %zu are taken",
                       what, media_kind_name(l->kind), l->size, MEDIA_TEXT_MAX);
    return ERR_OK;
}

/* The same digest with another size is a lie about one of the two. */
static enum err_code check_twins(const struct manifest_layer *l, const struct manifest_layer *before, size_t n,
                                 struct err *e)
{
    char text[DIGEST_TEXT_SIZE];
    for (size_t i = 0; i < n; i++)
        if (before[i].size != l->size && digest_eq(&before[i].digest, &l->digest)) {
            digest_text(&l->digest, text);
            return err_set(e, ERR_FORMAT, "the manifest: %s is said to have %" PRIu64 " and %" PRIu64 " bytes",
                           text, before[i].size, l->size);
        }
    return ERR_OK;
}

static enum err_code take_layers(const json_t *list, struct arena *a, struct manifest *out, struct err *e)
{
    size_t n = json_array_size(list);
    uint64_t texts = 0;
    bool model = false;
    struct manifest_layer *layers = arena_zero(a, n + 1, sizeof *layers); /* the config before them */
    if (!layers)
        return err_no_memory(e, n * sizeof *layers, "a manifest");
    layers[0] = out->config;
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < n; i++) {
        struct manifest_layer *l = &layers[i + 1];
        char what[32];
        snprintf(what, sizeof what, "layer %zu", i + 1);
        code = take_layer(json_array_get(list, i), what, a, l, e);
        if (!code) {
            l->kind = media_kind_of(l->media_type, l->title);
            code = check_kind(l, what, e);
        }
        if (!code && !media_is_file(l->kind) && (texts += l->size) > MANIFEST_MAX_TEXTS)
            code = err_set(e, ERR_TOO_LARGE, "the manifest: its texts have more than %zu bytes, which are the most that are "
                           "taken", MANIFEST_MAX_TEXTS);
        if (!code)
            code = check_twins(l, layers, i + 1, e);
        if (!code && l->size > (uint64_t)INT64_MAX - out->size)
            code = err_set(e, ERR_FORMAT, "the manifest: its layers are more bytes than there can be");
        out->size += l->size;
        model = model || l->kind == MEDIA_MODEL;
    }
    out->layers = layers + 1;
    out->n_layers = n;
    if (!code && !model)
        code = err_set(e, ERR_UNSUPPORTED, "the manifest: none of its %zu layers is a GGUF model", n);
    return code;
}

static enum err_code check_document(const json_t *v, struct err *e)
{
    const json_t *version = json_object_get(v, "schemaVersion"), *layers = json_object_get(v, "layers");
    if (!json_is_object(v))
        return err_set(e, ERR_FORMAT, "the manifest is no JSON object");
    if (json_object_get(v, "manifests"))
        return err_set(e, ERR_UNSUPPORTED,
                       "the manifest is an index of several: name one of them by its tag or its digest");
    if (json_integer_value(version) != 2)
        return err_set(e, json_object_get(v, "fsLayers") ? ERR_UNSUPPORTED : ERR_FORMAT,
                       "the manifest is not of schema version 2");
    if (!json_is_array(layers))
        return err_set(e, ERR_FORMAT, "the manifest has no list of layers");
    if (json_array_size(layers) > MANIFEST_MAX_LAYERS)
        return err_set(e, ERR_TOO_LARGE, "the manifest has %zu layers; at most %d are taken",
                       json_array_size(layers), MANIFEST_MAX_LAYERS);
    return ERR_OK;
}

enum err_code manifest_read(struct str bytes, struct arena *a, struct manifest *out, struct err *e)
{
    json_t *v = NULL;
    *out = (struct manifest){ 0 };
    enum err_code code = json_read_bounded(bytes, MANIFEST_MAX_BYTES, MAX_VALUES, "manifest", &v, e);
    if (code == ERR_INVALID) { /* not the request is: what a place sent */
        code = ERR_FORMAT;
        if (e)
            e->code = code;
    }
    if (!code)
        code = check_document(v, e);
    if (!code)
        code = take_layer(json_object_get(v, "config"), "its config", a, &out->config, e);
    if (!code) {
        out->config.kind = MEDIA_CONFIG;
        code = check_kind(&out->config, "its config", e);
    }
    if (!code)
        code = take_layers(json_object_get(v, "layers"), a, out, e);
    json_decref(v);
    return code;
}
