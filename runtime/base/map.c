#include "runtime/base/map.h"

#include <string.h>

#include "runtime/base/mem.h"

struct map_slot {
    const char *p; /* NULL: free */
    uint32_t n, value;
    uint64_t hash;
};

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t r = (a ^ a >> 32) * b;
    return r ^ r >> 29;
}

/* Multiply and fold over 8-byte words: for tables of our own, not against an attacker who picks
 * the keys (those tables are bounded by the caps on a vocabulary). */
uint64_t map_hash(struct str key)
{
    const uint64_t k0 = 0x9E3779B97F4A7C15U, k1 = 0xD1B54A32D192ED03U;
    uint64_t h = mix((uint64_t)key.n ^ k0, k1);
    size_t i = 0;
    for (; i + 8 <= key.n; i += 8) {
        uint64_t w;
        memcpy(&w, key.p + i, 8);
        h = mix(h ^ w, k0);
    }
    uint64_t w = 0;
    if (i < key.n)
        memcpy(&w, key.p + i, key.n - i);
    return mix(h ^ w, k1);
}

static struct map_slot *find(const struct map *m, struct str key, uint64_t hash)
{
    for (size_t i = hash & m->mask;; i = (i + 1) & m->mask) {
        struct map_slot *s = &m->slots[i];
        if (!s->p || (s->hash == hash && s->n == key.n && memcmp(s->p, key.p, key.n) == 0))
            return s;
    }
}

static bool rehash(struct map *m, size_t slots)
{
    struct map bigger = { mem_zero(slots, sizeof *bigger.slots), m->n, slots - 1 };
    if (!bigger.slots)
        return false;
    for (size_t i = 0; m->slots && i <= m->mask; i++) {
        const struct map_slot *s = &m->slots[i];
        if (s->p)
            *find(&bigger, (struct str){ s->p, s->n }, s->hash) = *s;
    }
    mem_free(m->slots);
    *m = bigger;
    return true;
}

bool map_init(struct map *m, size_t expected)
{
    *m = (struct map){ 0 };
    size_t slots = 16;
    while (slots < expected * 2 && slots < SIZE_MAX / 4)
        slots *= 2;
    return rehash(m, slots);
}

void map_finish(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){ 0 };
}

bool map_put(struct map *m, struct str key, uint32_t value)
{
    if (key.n > UINT32_MAX)
        return false;
    if ((!m->slots || (m->n + 1) * 3 > (m->mask + 1) * 2) &&
        !rehash(m, m->slots ? (m->mask + 1) * 2 : 16))
        return false;
    uint64_t hash = map_hash(key);
    struct map_slot *s = find(m, key, hash);
    if (!s->p)
        m->n++;
    *s = (struct map_slot){ key.p ? key.p : "", (uint32_t)key.n, value, hash };
    return true;
}

bool map_get(const struct map *m, struct str key, uint32_t *value)
{
    if (!m->slots)
        return false;
    const struct map_slot *s = find(m, key.p ? key : STR(""), map_hash(key));
    if (!s->p)
        return false;
    *value = s->value;
    return true;
}
