#include "runtime/engine/kv.h"

#include "runtime/base/mem.h"
#include "shaders/push.h"

enum err_code kv_init(struct kv *kv, uint32_t n_pages, uint32_t max_pages, uint32_t *table,
                      struct err *e)
{
    *kv = (struct kv){ .n_pages = n_pages, .max_pages = max_pages, .n_free = n_pages, .table = table };
    kv->free = mem_zero(n_pages, sizeof *kv->free);
    kv->refs = mem_zero(n_pages, sizeof *kv->refs);
    if (!kv->free || !kv->refs) {
        kv_finish(kv);
        return err_no_memory(e, n_pages * 6ul, "the KV page table");
    }
    for (uint32_t i = 0; i < n_pages; i++)
        kv->free[i] = n_pages - 1 - i;
    return ERR_OK;
}

void kv_finish(struct kv *kv)
{
    mem_free(kv->free);
    mem_free(kv->refs);
    *kv = (struct kv){ 0 };
}

static uint32_t pages_for(uint32_t n_tokens)
{
    return (n_tokens + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
}

bool kv_extend(struct kv *kv, uint32_t s, uint32_t *n_held, uint32_t n_tokens)
{
    uint32_t want = pages_for(n_tokens);
    while (*n_held < want) {
        if (kv->n_free == 0 || *n_held == kv->max_pages)
            return false;
        uint32_t page = kv->free[--kv->n_free];
        kv->refs[page] = 1;
        kv->table[s * kv->max_pages + (*n_held)++] = page;
    }
    return true;
}

void kv_truncate(struct kv *kv, uint32_t s, uint32_t *n_held, uint32_t n_tokens)
{
    uint32_t keep = pages_for(n_tokens);
    while (*n_held > keep) {
        uint32_t page = kv->table[s * kv->max_pages + --*n_held];
        if (--kv->refs[page] == 0)
            kv->free[kv->n_free++] = page;
    }
}

uint32_t kv_page(const struct kv *kv, uint32_t s, uint32_t i)
{
    return kv->table[s * kv->max_pages + i];
}

void kv_share(struct kv *kv, uint32_t s, uint32_t *n_held, uint32_t from, uint32_t n)
{
    for (; *n_held < n; ++*n_held) {
        uint32_t page = kv_page(kv, from, *n_held);
        kv->refs[page]++;
        kv->table[s * kv->max_pages + *n_held] = page;
    }
}

bool kv_shared(const struct kv *kv, uint32_t s, uint32_t i)
{
    return kv->refs[kv_page(kv, s, i)] > 1;
}
