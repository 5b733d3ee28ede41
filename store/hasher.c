#include "store/hasher.h"

#include <openssl/evp.h>

static enum err_code bad(struct err *e)
{
    return err_set(e, ERR_INTERNAL, "hashing a file failed in the crypto library");
}

enum err_code hasher_begin(struct hasher *h, struct buf *hashes, struct err *e)
{
    *h = (struct hasher){ .hashes = hashes, .whole = EVP_MD_CTX_new() };
    if (hashes)
        h->chunk = EVP_MD_CTX_new();
    if (!h->whole || (hashes && !h->chunk) || !EVP_DigestInit_ex(h->whole, EVP_sha256(), NULL) ||
        (hashes && !EVP_DigestInit_ex(h->chunk, EVP_sha256(), NULL)))
        return err_no_memory(e, 0, "hashing a file");
    return ERR_OK;
}

static enum err_code end_chunk(struct hasher *h, struct err *e)
{
    struct digest d;
    if (!EVP_DigestFinal_ex(h->chunk, d.b, NULL) || !EVP_DigestInit_ex(h->chunk, EVP_sha256(), NULL))
        return bad(e);
    buf_put(h->hashes, d.b, sizeof d.b);
    return h->hashes->failed ? err_no_memory(e, h->hashes->n, "the hashes of a file's parts") : ERR_OK;
}

static enum err_code add_to_chunks(struct hasher *h, const char *p, size_t n, struct err *e)
{
    enum err_code code = ERR_OK;
    while (!code && n) {
        uint64_t room = CHUNK_BYTES - h->at % CHUNK_BYTES;
        size_t some = n < room ? n : (size_t)room;
        if (!EVP_DigestUpdate(h->chunk, p, some))
            return bad(e);
        h->at += some;
        p += some;
        n -= some;
        if (h->at % CHUNK_BYTES == 0)
            code = end_chunk(h, e);
    }
    return code;
}

enum err_code hasher_add(struct hasher *h, const void *p, size_t n, struct err *e)
{
    if (!EVP_DigestUpdate(h->whole, p, n))
        return bad(e);
    return h->hashes ? add_to_chunks(h, p, n, e) : ERR_OK;
}

enum err_code hasher_end(struct hasher *h, struct digest *out, struct err *e)
{
    if (!EVP_DigestFinal_ex(h->whole, out->b, NULL))
        return bad(e);
    return h->hashes && h->at % CHUNK_BYTES ? end_chunk(h, e) : ERR_OK;
}

void hasher_finish(struct hasher *h)
{
    EVP_MD_CTX_free(h->whole);
    EVP_MD_CTX_free(h->chunk);
    *h = (struct hasher){ 0 };
}
