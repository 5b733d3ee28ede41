/* Merging a word's symbols, the pair of least rank first.
 *
 * Each symbol keeps the rank of merging it with the next. Long words take the least from a queue,
 * whose entries go stale when a neighbour changes: an entry counts only while the symbol still
 * has the rank it was put in with (a pair of one place never comes back once one of the two has
 * grown). Short words scan. Both take the leftmost of equal ranks. */
#include "runtime/text/tokenizer_priv.h"

#define SCAN_MAX 24 /* symbols: below this a scan costs less than the queue */

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

void queue_clear(struct queue *q)
{
    for (size_t i = 0; i < QUEUE_RUNS; i++)
        q->run[i].at = q->run[i].n = 0;
    q->late.n = 0;
    q->filled = 0;
}

void queue_finish(struct queue *q)
{
    for (size_t i = 0; i < QUEUE_RUNS; i++)
        mem_free(q->run[i].key);
    mem_free(q->late.key);
    *q = (struct queue){ 0 };
}

bool queue_put(struct queue *q, uint64_t key)
{
    unsigned i = (uint32_t)(key >> 32) * 0x9E3779B1U >> 28;
    struct run *r = &q->run[i];
    if (r->n && key < r->key[r->n - 1])
        return heap_push(&q->late, key);
    if (r->n == r->cap && !mem_grow(&r->key, &r->cap, r->n + 1, sizeof key, SIZE_MAX / sizeof key))
        return false;
    r->key[r->n++] = key;
    q->filled |= 1U << i;
    return true;
}

bool queue_take(struct queue *q, uint64_t *key)
{
    struct run *best = NULL;
    uint64_t least = q->late.n ? q->late.key[0] : UINT64_MAX;
    for (unsigned left = q->filled; left; left &= left - 1) {
        struct run *r = &q->run[__builtin_ctz(left)];
        if (r->key[r->at] < least) {
            best = r;
            least = r->key[r->at];
        }
    }
    *key = least;
    if (!best)
        return q->late.n && (heap_pop(&q->late), true);
    if (++best->at == best->n) {
        best->at = best->n = 0;
        q->filled &= ~(1U << (best - q->run));
    }
    return true;
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

static bool put_pair(struct encoder *x, uint32_t i)
{
    return i == NO_SYMBOL || x->symbol[i].rank == NO_RANK ||
           queue_put(&x->queue, (uint64_t)x->symbol[i].rank << 32 | i);
}

static bool run_queue(struct encoder *x, const char *text, merge_pair_fn pair)
{
    uint64_t key;
    queue_clear(&x->queue);
    for (uint32_t i = 0; i < x->n_symbols; i++)
        if (!put_pair(x, i))
            return false;
    while (queue_take(&x->queue, &key)) {
        uint32_t i = (uint32_t)key;
        if (x->symbol[i].rank != key >> 32)
            continue;
        merge_at(x, text, pair, i);
        if (!put_pair(x, i) || !put_pair(x, x->symbol[i].prev))
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
    else if (!run_queue(x, text, pair))
        return err_no_memory(x->e, x->n_symbols * sizeof(uint64_t), "merging");
    return ERR_OK;
}
