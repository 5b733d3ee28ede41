#include "runtime/text/trie.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"

static int by_text(const void *a, const void *b)
{
    const struct trie_entry *x = a, *y = b;
    size_t n = x->text.n < y->text.n ? x->text.n : y->text.n;
    int c = memcmp(x->text.p, y->text.p, n);
    if (c == 0)
        c = (x->text.n > y->text.n) - (x->text.n < y->text.n);
    return c ? c : (x->value > y->value) - (x->value < y->value);
}

/* A node under construction stands for a run of the sorted entries that share their first bytes. */
struct run {
    uint32_t begin, end, depth;
};

struct builder {
    struct trie *t;
    const struct trie_entry *entry;
    struct run *run; /* of each node */
    size_t cap_run, cap_byte;
};

static bool add_node(struct builder *b, struct run run, unsigned char byte)
{
    size_t n = b->t->n;
    if (!mem_grow(&b->run, &b->cap_run, n + 1, sizeof *b->run, TRIE_NONE - 1) ||
        !mem_grow(&b->t->byte, &b->cap_byte, n + 1, 1, TRIE_NONE - 1))
        return false;
    b->run[n] = run;
    b->t->byte[n] = byte;
    b->t->n++;
    return true;
}

/* One child for each byte that comes next in the node's run. */
static bool add_children(struct builder *b, size_t node)
{
    struct run r = b->run[node];
    const struct trie_entry *entry = b->entry;
    while (r.begin < r.end && entry[r.begin].text.n == r.depth)
        r.begin++; /* these end at the node itself */
    while (r.begin < r.end) {
        char byte = entry[r.begin].text.p[r.depth];
        uint32_t end = r.begin + 1;
        while (end < r.end && entry[end].text.p[r.depth] == byte)
            end++;
        if (!add_node(b, (struct run){ r.begin, end, r.depth + 1 }, (unsigned char)byte))
            return false;
        r.begin = end;
    }
    return true;
}

static bool set_links(struct builder *b)
{
    struct trie *t = b->t;
    t->first = mem_zero(t->n + 1, sizeof *t->first);
    t->value = mem_zero(t->n, sizeof *t->value);
    if (!t->first || !t->value)
        return false;
    uint32_t next = 1; /* children come in the order of their parents */
    for (size_t i = 0; i < t->n; i++) {
        const struct run *r = &b->run[i];
        t->first[i] = next;
        while (next < t->n && b->run[next].begin >= r->begin && b->run[next].end <= r->end &&
               b->run[next].depth == r->depth + 1)
            next++;
        bool ends = r->begin < r->end && b->entry[r->begin].text.n == r->depth;
        t->value[i] = ends ? b->entry[r->begin].value : TRIE_NONE;
    }
    t->first[t->n] = next;
    return true;
}

bool trie_init(struct trie *t, struct trie_entry *entry, size_t n)
{
    *t = (struct trie){ 0 };
    struct builder b = { .t = t, .entry = entry };
    if (n)
        qsort(entry, n, sizeof *entry, by_text);
    bool ok = n < TRIE_NONE && add_node(&b, (struct run){ 0, (uint32_t)n, 0 }, 0);
    for (size_t i = 0; ok && i < t->n; i++)
        ok = add_children(&b, i);
    ok = ok && set_links(&b);
    mem_free(b.run);
    if (!ok)
        trie_finish(t);
    return ok;
}

void trie_finish(struct trie *t)
{
    mem_free(t->first);
    mem_free(t->value);
    mem_free(t->byte);
    *t = (struct trie){ 0 };
}

uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte)
{
    uint32_t begin = t->first[node];
    const unsigned char *at = memchr(t->byte + begin, byte, t->first[node + 1] - begin);
    return at ? (uint32_t)(at - t->byte) : 0;
}
