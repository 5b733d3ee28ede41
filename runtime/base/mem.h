/* Heap memory for the whole program, and the arena that requests, loads and pulls own.
 *
 * Every allocation goes through here, so that a test can count them, and make the n-th one
 * fail (mem_fail_after). NULL means no memory: callers return ERR_NO_MEMORY.
 * Sizes are bytes; a product that overflows counts as no memory. Thread: any. */
#ifndef HEARTH_BASE_MEM_H
#define HEARTH_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);              /* not cleared; bytes 0 gives a valid pointer */
void *mem_zero(size_t count, size_t size);  /* cleared */
void *mem_resize(void *p, size_t count, size_t size); /* old block is kept on failure */
void mem_free(void *p);                     /* NULL is fine */
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n); /* adds the NUL */

/* For tests. The n-th allocation from now fails (1 = the next one), and with `sticky` all
 * after it; 0 turns it off. */
void mem_fail_after(uint64_t n, bool sticky);
uint64_t mem_count(void); /* allocations made since the program began */
uint64_t mem_live(void);  /* blocks not yet freed */

/* Grows `*array` of `size`-byte elements so that it holds `need`; doubles. False: no memory or
 * more than `max` elements. */
bool mem_grow(void *array, size_t *cap, size_t need, size_t size, size_t max);

/* A bump allocator: many small blocks, freed together. Zero-initialised is empty and usable. */
struct mem_block;
struct arena {
    struct mem_block *head;
    size_t used;  /* bytes handed out */
    size_t limit; /* 0: none; else arena_alloc gives NULL beyond it */
};
void *arena_alloc(struct arena *a, size_t bytes); /* 16-byte aligned, not cleared */
void *arena_zero(struct arena *a, size_t count, size_t size);
char *arena_strndup(struct arena *a, const char *s, size_t n);
void arena_finish(struct arena *a); /* frees all; the arena is empty and usable again */

#endif
