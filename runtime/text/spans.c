#include "runtime/text/spans.h"

#include <stdint.h>

#include "runtime/base/mem.h"

bool spans_join(struct spans *s, size_t begin, size_t end)
{
    if (begin >= end)
        return true;
    if (!s->n || begin > s->v[s->n - 1].end)
        return false;
    if (end > s->v[s->n - 1].end)
        s->v[s->n - 1].end = end;
    return true;
}

bool spans_add(struct spans *s, size_t begin, size_t end)
{
    if (spans_join(s, begin, end))
        return true;
    if (!mem_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v, SIZE_MAX / sizeof *s->v))
        return false;
    s->v[s->n++] = (struct span){ begin, end };
    return true;
}

bool spans_touch(const struct spans *s, size_t begin, size_t end)
{
    size_t low = 0, high = s->n;
    while (low < high) { /* the first range that ends behind begin */
        size_t mid = low + (high - low) / 2;
        if (s->v[mid].end > begin)
            high = mid;
        else
            low = mid + 1;
    }
    return begin < end && low < s->n && s->v[low].begin < end;
}

void spans_finish(struct spans *s)
{
    mem_free(s->v);
    *s = (struct spans){ 0 };
}
