/* Merging a word's symbols, the pair of least rank first.
 *
 * Each symbol keeps the rank of merging it with the next. Long words take the least from a heap,
 * whose entries go stale when a neighbour changes: an entry counts only while the symbol still
 * has the rank it was put in with (a pair of one place never comes back once one of the two has
 * grown). Short words scan. Both take the leftmost of equal ranks. */
#include "runtime/text/tokenizer_priv.h"

#define SCAN_MAX 24 /* symbols: below this a scan costs less than the heap */

bool heap_push(struct heap *h, uint64_t key)
{
    if (!mem_grow(&h->key, &h->cap, h->n + 1, sizeof *h->key, SIZE_MAX / sizeof *h->key))
        return false;
    size_t i = h->n++;
    for (; i > 0 && h->key[(i - 1) / 2] > key; i = (i - 1) / 2)
        h->key[i] = h->key[(i - 1) / 2];
    h->key[i] = key;
    return true;
}

uint64_t heap_pop(struct heap *h)
{
    uint64_t least = h->key[0], last = h->key[--h->n];
    size_t i = 0;
    for (size_t child = 1; child < h->n; child = 2 * i + 1) {
        if (child + 1 < h->n && h->key[child + 1] < h->key[child])
            child++;
        if (h->key[child] >= last)
            break;
        h->key[i] = h->key[child];
        i = child;
    }
    if (h->n)
        h->key[i] = last;
    return least;
}

enum err_code merge_begin(struct encoder *x, size_t n)
{
    if (!mem_grow(&x->symbol, &x->cap_symbols, n, sizeof *x->symbol, TOKENIZER_MAX_TEXT * 4))
        return err_no_memory(x->e, n * sizeof *x->symbol, "merging");
    for (size_t i = 0; i < n; i++) {
        x->symbol[i].prev = i ? (uint32_t)i - 1 : NO_SYMBOL;
        x->symbol[i].next = i + 1 < n ? (uint32_t)i + 1 : NO_SYMBOL;
    }
    x->n_symbols = n;
    return ERR_OK;
}

static void rank_with_next(struct encoder *x, const char *text, merge_pair_fn pair, uint32_t i)
{
    struct symbol *s = &x->symbol[i];
    s->rank = NO_RANK;
    if (s->next != NO_SYMBOL)
        pair(x->t, text, s, &x->symbol[s->next]);
}

/* Symbol i takes in the next one; ranks around it are found anew. */
static void merge_at(struct encoder *x, const char *text, merge_pair_fn pair, uint32_t i)
{
    struct symbol *s = &x->symbol[i], *gone = &x->symbol[s->next];
    s->len += gone->len;
    s->id = s->into;
    s->next = gone->next;
    gone->len = 0;
    gone->rank = NO_RANK;
    if (s->next != NO_SYMBOL)
        x->symbol[s->next].prev = i;
    rank_with_next(x, text, pair, i);
    if (s->prev != NO_SYMBOL)
        rank_with_next(x, text, pair, s->prev);
}

static void run_scan(struct encoder *x, const char *text, merge_pair_fn pair)
{
    for (;;) {
        uint32_t best = 0;
        for (uint32_t i = 0; i != NO_SYMBOL; i = x->symbol[i].next)
            if (x->symbol[i].rank < x->symbol[best].rank)
                best = i;
        if (x->symbol[best].rank == NO_RANK)
            return;
        merge_at(x, text, pair, best);
    }
}

static bool queue(struct encoder *x, uint32_t i)
{
    return i == NO_SYMBOL || x->symbol[i].rank == NO_RANK ||
           heap_push(&x->heap, (uint64_t)x->symbol[i].rank << 32 | i);
}

static bool run_heap(struct encoder *x, const char *text, merge_pair_fn pair)
{
    x->heap.n = 0;
    for (uint32_t i = 0; i < x->n_symbols; i++)
        if (!queue(x, i))
            return false;
    while (x->heap.n) {
        uint64_t key = heap_pop(&x->heap);
        uint32_t i = (uint32_t)key;
        if (x->symbol[i].rank != key >> 32)
            continue;
        merge_at(x, text, pair, i);
        if (!queue(x, i) || !queue(x, x->symbol[i].prev))
            return false;
    }
    return true;
}

enum err_code merge_run(struct encoder *x, const char *text, merge_pair_fn pair)
{
    for (uint32_t i = 0; i < x->n_symbols; i++)
        rank_with_next(x, text, pair, i);
    if (x->n_symbols <= SCAN_MAX)
        run_scan(x, text, pair);
    else if (!run_heap(x, text, pair))
        return err_no_memory(x->e, x->heap.n * sizeof *x->heap.key, "merging");
    return ERR_OK;
}
