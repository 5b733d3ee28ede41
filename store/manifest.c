#include "store/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "runtime/base/json.h"

void manifest_parameter_size(uint64_t n, char out[24])
{
    static const char units[] = "KMBTQ";
    uint64_t unit = 1000;
    size_t u = 0;
    out[0] = '\0';
    if (n < unit) {
        if (n)
            snprintf(out, 24, "%" PRIu64, n);
        return;
    }
    /* tenths of the unit, rounded; 999,950 is 1.0M and not 1000.0K */
    while (u + 1 < sizeof units - 1 && (n / (unit / 20) + 1) / 2 >= 10000) {
        unit *= 1000;
        u++;
    }
    uint64_t tenths = (n / (unit / 20) + 1) / 2;
    snprintf(out, 24, "%" PRIu64 ".%" PRIu64 "%c", tenths / 10, tenths % 10, units[u]);
}

enum err_code manifest_digest(struct str bytes, struct digest *out, struct err *e)
{
    if (!EVP_Digest(bytes.p ? bytes.p : "", bytes.n, out->b, NULL, EVP_sha256(), NULL))
        return err_no_memory(e, bytes.n, "hashing a manifest");
    return ERR_OK;
}

static void write_list(struct json_out *j, const char *key, const char *commas)
{
    json_key(j, key);
    json_arr(j);
    while (*commas) {
        size_t n = strcspn(commas, ",");
        if (n)
            json_str_value(j, (struct str){ commas, n });
        commas += n + (commas[n] == ',');
    }
    json_arr_end(j);
}

static void write_config(struct json_out *j, const struct store_facts *f)
{
    char size[24];
    manifest_parameter_size(f->n_params, size);
    json_obj(j);
    json_kstr(j, "model_format", f->format);
    json_kstr(j, "model_family", f->family);
    write_list(j, "model_families", f->family);
    json_kstr(j, "model_type", size);
    json_kstr(j, "file_type", f->quantization);
    if (f->capabilities[0])
        write_list(j, "capabilities", f->capabilities);
    if (f->context_length)
        json_kint(j, "context_length", f->context_length);
    if (f->embedding_length)
        json_kint(j, "embedding_length", f->embedding_length);
    json_kstr(j, "architecture", "amd64");
    json_kstr(j, "os", "linux");
    json_obj_end(j);
}

/* The caller has bounded the strings, so only memory can have run out. */
static enum err_code finished(const struct buf *b, const char *what, struct err *e)
{
    return b->failed ? err_no_memory(e, b->n, what) : ERR_OK;
}

enum err_code manifest_config(const struct store_facts *f, struct buf *out,
                              struct manifest_layer *config_layer, struct err *e)
{
    struct json_out j;
    json_begin(&j, out);
    write_config(&j, f);
    enum err_code code = finished(out, "the model's config", e);
    *config_layer = (struct manifest_layer){ .media_type = MANIFEST_MEDIA_CONFIG, .size = out->n,
                                             .kind = MEDIA_CONFIG };
    return code ? code : manifest_digest(buf_str(out), &config_layer->digest, e);
}

static void write_layer(struct json_out *j, const struct manifest_layer *l)
{
    char digest[DIGEST_TEXT_SIZE];
    digest_text(&l->digest, digest);
    json_obj(j);
    json_kstr(j, "mediaType", l->media_type);
    json_kstr(j, "digest", digest);
    json_key(j, "size");
    json_uint_value(j, l->size);
    if (l->title) {
        json_key(j, "annotations");
        json_obj(j);
        json_kstr(j, MANIFEST_TITLE, l->title);
        json_obj_end(j);
    }
    json_obj_end(j);
}

enum err_code manifest_write(const struct manifest_layer *config, const struct manifest_layer *layers,
                             size_t n, struct buf *out, struct digest *digest, struct err *e)
{
    struct json_out j;
    json_begin(&j, out);
    json_obj(&j);
    json_kint(&j, "schemaVersion", 2);
    json_kstr(&j, "mediaType", "application/vnd.docker.distribution.manifest.v2+json");
    json_key(&j, "config");
    write_layer(&j, config);
    json_key(&j, "layers");
    json_arr(&j);
    for (size_t i = 0; i < n; i++)
        write_layer(&j, &layers[i]);
    json_arr_end(&j);
    json_obj_end(&j);
    enum err_code code = finished(out, "the model's manifest", e);
    return code ? code : manifest_digest(buf_str(out), digest, e);
}
