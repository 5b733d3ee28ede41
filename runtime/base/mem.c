#include "runtime/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The fault switch and the counters are the module's one piece of global state: they are what a
 * test asks of the allocator as a whole. */
static atomic_uint_least64_t allocations;
static atomic_uint_least64_t live_blocks;
static atomic_uint_least64_t fail_in; /* 0: off */
static atomic_bool fail_sticky;

void mem_fail_after(uint64_t n, bool sticky)
{
    atomic_store(&fail_sticky, sticky);
    atomic_store(&fail_in, n);
}

uint64_t mem_count(void)
{
    return atomic_load(&allocations);
}

uint64_t mem_live(void)
{
    return atomic_load(&live_blocks);
}

static bool must_fail(void)
{
    uint64_t n = atomic_load_explicit(&fail_in, memory_order_relaxed);
    while (n > 1)
        if (atomic_compare_exchange_weak(&fail_in, &n, n - 1))
            return false;
    if (n == 0)
        return false;
    if (!atomic_load(&fail_sticky))
        atomic_store(&fail_in, 0);
    return true;
}

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add_explicit(&live_blocks, 1, memory_order_relaxed);
    return p;
}

static bool allowed(void)
{
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return !must_fail();
}

void *mem_alloc(size_t bytes)
{
    return allowed() ? counted(malloc(bytes ? bytes : 1)) : NULL;
}

void *mem_zero(size_t count, size_t size)
{
    if (!allowed())
        return NULL;
    return count && size ? counted(calloc(count, size)) : counted(calloc(1, 1));
}

void *mem_resize(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || !allowed())
        return NULL;
    void *q = realloc(p, bytes ? bytes : 1);
    return p ? q : counted(q);
}

void mem_free(void *p)
{
    if (p)
        atomic_fetch_sub_explicit(&live_blocks, 1, memory_order_relaxed);
    free(p);
}

char *mem_strndup(const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? mem_alloc(n + 1) : NULL;
    if (p) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

bool mem_grow(void *array, size_t *cap, size_t need, size_t size, size_t max)
{
    if (need <= *cap)
        return true;
    if (need > max)
        return false;
    size_t want = *cap < 8 ? 8 : *cap;
    while (want < need)
        want = want > max / 2 ? max : want * 2;
    void *old;
    memcpy(&old, array, sizeof old);
    void *p = mem_resize(old, want, size);
    if (!p)
        return false;
    memcpy(array, &p, sizeof p);
    *cap = want;
    return true;
}

struct mem_block {
    struct mem_block *next;
    size_t size, used;
    _Alignas(16) unsigned char bytes[];
};

#define ARENA_BLOCK ((size_t)16 * 1024)

static struct mem_block *block_with_room(struct arena *a, size_t bytes)
{
    if (a->head && a->head->size - a->head->used >= bytes)
        return a->head;
    size_t size = bytes > ARENA_BLOCK ? bytes : ARENA_BLOCK;
    if (size > SIZE_MAX - sizeof(struct mem_block))
        return NULL;
    struct mem_block *b = mem_alloc(sizeof *b + size);
    if (!b)
        return NULL;
    *b = (struct mem_block){ .next = a->head, .size = size };
    a->head = b;
    return b;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - 16)
        return NULL;
    size_t need = ((bytes ? bytes : 1) + 15) & ~(size_t)15;
    if (a->limit && (need > a->limit || a->used > a->limit - need))
        return NULL;
    struct mem_block *b = block_with_room(a, need);
    if (!b)
        return NULL;
    void *p = b->bytes + b->used;
    b->used += need;
    a->used += need;
    return p;
}

void *arena_zero(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    void *p = arena_alloc(a, bytes);
    if (p)
        memset(p, 0, bytes);
    return p;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
    char *p = n < SIZE_MAX ? arena_alloc(a, n + 1) : NULL;
    if (p) {
        memcpy(p, s, n);
        p[n] = '\0';
    }
    return p;
}

void arena_finish(struct arena *a)
{
    while (a->head) {
        struct mem_block *next = a->head->next;
        mem_free(a->head);
        a->head = next;
    }
    a->used = 0;
}
