#include "daemon/residency.h"

static bool idle(const struct resident_fact *m)
{
    return m->users == 0 && !m->moving;
}

static uint64_t used_bytes(const struct resident_fact *m, size_t n, const bool *evict)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        if (!evict[i] && __builtin_add_overflow(sum, m[i].bytes, &sum))
            return UINT64_MAX;
    return sum;
}

static bool fits(uint64_t used, uint64_t need, uint64_t budget)
{
    return used <= budget && need <= budget - used;
}

/* Of two idle models, does `a` go before `b`? */
static bool goes_first(const struct resident_fact *a, const struct resident_fact *b)
{
    if ((a->keep_ns < 0) != (b->keep_ns < 0))
        return b->keep_ns < 0;
    return a->idle_since < b->idle_since;
}

static size_t next_to_go(const struct resident_fact *m, size_t n, const bool *evict)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (idle(&m[i]) && !evict[i] && (best == n || goes_first(&m[i], &m[best])))
            best = i;
    return best;
}

enum residency_verdict residency_decide(const struct resident_fact *m, size_t n, uint64_t need,
                                        uint64_t budget, bool *evict)
{
    bool any = false;
    for (size_t i = 0; i < n; i++)
        evict[i] = false;
    if (need > budget)
        return RESIDENCY_REFUSE;
    while (!fits(used_bytes(m, n, evict), need, budget)) {
        size_t i = next_to_go(m, n, evict);
        if (i == n) { /* all that is left is busy: nothing goes for nothing */
            for (size_t k = 0; k < n; k++)
                evict[k] = false;
            return RESIDENCY_WAIT;
        }
        evict[i] = true;
        any = true;
    }
    return any ? RESIDENCY_EVICT : RESIDENCY_FITS;
}

int64_t residency_deadline(const struct resident_fact *m)
{
    int64_t at;
    if (!idle(m) || m->keep_ns < 0 || __builtin_add_overflow(m->idle_since, m->keep_ns, &at))
        return RESIDENCY_NEVER;
    return at;
}

int64_t residency_next(const struct resident_fact *m, size_t n)
{
    int64_t next = RESIDENCY_NEVER;
    for (size_t i = 0; i < n; i++) {
        int64_t at = residency_deadline(&m[i]);
        next = at < next ? at : next;
    }
    return next;
}

static bool parallel_fits(uint32_t n, uint64_t kv_bytes, uint64_t rest, uint64_t budget)
{
    uint64_t kv;
    return !__builtin_mul_overflow(kv_bytes, n, &kv) && fits(rest, kv, budget);
}

uint32_t residency_parallel(uint32_t wanted, uint32_t usual, uint64_t kv_bytes, uint64_t rest,
                            uint64_t budget)
{
    if (wanted)
        return wanted;
    for (uint32_t n = usual; n > 1; n /= 2)
        if (parallel_fits(n, kv_bytes, rest, budget) &&
            (n <= 4 || parallel_fits(n, kv_bytes, 0, budget / 8)))
            return n;
    return 1;
}
