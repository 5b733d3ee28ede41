/* KV pages: which page of the device's K and V buffers holds which tokens of which timeline.
 *
 * A page is KV_PAGE_TOKENS tokens of every layer; pages are handed out from one pool, counted by their
 * readers (a page that two timelines share is freed by the last), and named in the device's page table,
 * one row of max_pages entries a session. Thread: engine. No allocation after kv_init. */
#ifndef HEARTH_ENGINE_KV_H
#define HEARTH_ENGINE_KV_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"

struct kv {
    uint32_t n_pages, max_pages; /* in all; of one session */
    uint32_t n_free;
    uint32_t *free;              /* stack */
    uint16_t *refs;              /* [n_pages] */
    uint32_t *table;             /* the device's page table, mapped: [session][max_pages] */
};

enum err_code kv_init(struct kv *kv, uint32_t n_pages, uint32_t max_pages, uint32_t *table,
                      struct err *e);
void kv_finish(struct kv *kv);

/* Makes session `s`, which holds *n_held pages, hold pages for n_tokens. False: the pool is empty, and
 * what could be had is held. */
bool kv_extend(struct kv *kv, uint32_t s, uint32_t *n_held, uint32_t n_tokens);
/* Gives back the pages beyond n_tokens. */
void kv_truncate(struct kv *kv, uint32_t s, uint32_t *n_held, uint32_t n_tokens);
/* Session `s`, which holds none, holds the first n pages of session `from` too. */
void kv_share(struct kv *kv, uint32_t s, uint32_t *n_held, uint32_t from, uint32_t n);
/* Has the i-th page of session `s` other readers? */
bool kv_shared(const struct kv *kv, uint32_t s, uint32_t i);
uint32_t kv_page(const struct kv *kv, uint32_t s, uint32_t i);

#endif
