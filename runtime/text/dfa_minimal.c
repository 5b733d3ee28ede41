/* Drafts and their minimal form: Hopcroft's partition, then the one numbering that is by order of
 * first visit, so that equal languages are equal bytes. */
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/dfa_priv.h"

enum err_code dfa_fail(enum dfa_trouble t, struct err *e)
{
    if (t == DFA_NO_MEMORY)
        return err_no_memory(e, 0, "an automaton");
    return err_set(e, ERR_TOO_LARGE, "an automaton of more than %zu states or %zu cells",
                   DFA_MAX_STATES, DFA_MAX_CELLS);
}

void draft_init(struct draft *d, const uint8_t class_of[256])
{
    *d = (struct draft){ 0 };
    memcpy(d->class_of, class_of, 256);
    for (size_t b = 0; b < 256; b++)
        if (class_of[b] >= d->n_classes)
            d->n_classes = class_of[b] + 1u;
    draft_state(d, false);
}

uint32_t draft_state(struct draft *d, bool accept)
{
    size_t k = d->n_classes, need = ((size_t)d->n + 1) * k;
    if (d->trouble)
        return DFA_DEAD;
    if (d->n >= DFA_MAX_STATES || need > DFA_MAX_CELLS) {
        d->trouble = DFA_TOO_LARGE;
        return DFA_DEAD;
    }
    if (!mem_grow(&d->next, &d->next_cap, need, sizeof *d->next, DFA_MAX_CELLS) ||
        !mem_grow(&d->accept, &d->accept_cap, d->n + 1, 1, DFA_MAX_STATES)) {
        d->trouble = DFA_NO_MEMORY;
        return DFA_DEAD;
    }
    memset(d->next + (size_t)d->n * k, 0, k * sizeof *d->next);
    d->accept[d->n] = accept;
    return d->n++;
}

void draft_edge(struct draft *d, uint32_t from, uint32_t byte_class, uint32_t to)
{
    if (!d->trouble)
        d->next[(size_t)from * d->n_classes + byte_class] = to;
}

void draft_finish(struct draft *d)
{
    mem_free(d->next);
    mem_free(d->accept);
    *d = (struct draft){ 0 };
}

/* ---- Hopcroft ---- */

struct partition {
    const struct draft *d;
    uint32_t *elems, *place, *block_of;   /* states in order of block; where each stands */
    uint32_t *first, *end, *marked;       /* of each block, in elems */
    uint32_t n_blocks;
    uint32_t *into, *into_at;             /* who steps into a state: by class, then state */
    uint32_t *work, n_work, *touched, n_touched, *members;
    uint32_t *memory;
};

static bool partition_init(struct partition *p, const struct draft *d)
{
    size_t n = d->n, k = d->n_classes;
    *p = (struct partition){ .d = d };
    p->memory = mem_zero(9 * n + n * k + n * k + 2, sizeof(uint32_t));
    if (!p->memory)
        return false;
    uint32_t **parts[] = { &p->elems, &p->place, &p->block_of, &p->first, &p->end,
                           &p->marked, &p->work, &p->touched, &p->members };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        *parts[i] = p->memory + i * n;
    p->into = p->memory + 9 * n;
    p->into_at = p->into + n * k;
    for (size_t s = 0; s < n; s++)
        for (size_t c = 0; c < k; c++)
            p->into_at[c * n + d->next[s * k + c] + 2]++;
    for (size_t i = 1; i < n * k + 2; i++)
        p->into_at[i] += p->into_at[i - 1];
    for (size_t s = 0; s < n; s++) /* moves each entry to its end, which the next one begins at */
        for (size_t c = 0; c < k; c++)
            p->into[p->into_at[c * n + d->next[s * k + c] + 1]++] = (uint32_t)s;
    return true;
}

static void mark(struct partition *p, uint32_t s)
{
    uint32_t b = p->block_of[s], at = p->place[s], to = p->first[b] + p->marked[b];
    if (at < to)
        return;
    if (p->marked[b]++ == 0)
        p->touched[p->n_touched++] = b;
    uint32_t other = p->elems[to];
    p->elems[to] = s;
    p->elems[at] = other;
    p->place[s] = to;
    p->place[other] = at;
}

static void split(struct partition *p, uint32_t b)
{
    uint32_t cut = p->first[b] + p->marked[b];
    p->marked[b] = 0;
    if (cut == p->end[b])
        return;
    uint32_t fresh = p->n_blocks++;
    if (cut - p->first[b] <= p->end[b] - cut) { /* the smaller part becomes the new block */
        p->first[fresh] = p->first[b];
        p->end[fresh] = cut;
        p->first[b] = cut;
    } else {
        p->first[fresh] = cut;
        p->end[fresh] = p->end[b];
        p->end[b] = cut;
    }
    for (uint32_t i = p->first[fresh]; i < p->end[fresh]; i++)
        p->block_of[p->elems[i]] = fresh;
    p->work[p->n_work++] = fresh;
}

static void refine(struct partition *p)
{
    size_t n = p->d->n, k = p->d->n_classes;
    while (p->n_work) {
        uint32_t b = p->work[--p->n_work], n_members = p->end[b] - p->first[b];
        memcpy(p->members, p->elems + p->first[b], n_members * sizeof *p->members);
        for (size_t c = 0; c < k; c++) {
            for (uint32_t i = 0; i < n_members; i++) {
                size_t at = c * n + p->members[i];
                for (uint32_t j = p->into_at[at]; j < p->into_at[at + 1]; j++)
                    mark(p, p->into[j]);
            }
            while (p->n_touched)
                split(p, p->touched[--p->n_touched]);
        }
    }
}

static void first_blocks(struct partition *p)
{
    uint32_t n = p->d->n, at = 0;
    for (uint32_t side = 0; side < 2; side++) {
        uint32_t begin = at;
        for (uint32_t s = 0; s < n; s++)
            if (p->d->accept[s] == side) {
                p->block_of[s] = p->n_blocks;
                p->place[s] = at;
                p->elems[at++] = s;
            }
        if (at > begin) {
            p->first[p->n_blocks] = begin;
            p->end[p->n_blocks] = at;
            p->work[p->n_work++] = p->n_blocks++;
        }
    }
}

/* ---- the final form ---- */

/* Classes whose columns are equal become one. Numbered by their first byte. */
static uint32_t merge_classes(const struct partition *p, uint8_t class_of[256], uint8_t sample[256])
{
    const struct draft *d = p->d;
    size_t k = d->n_classes;
    uint8_t to[256];
    bool seen[256] = { false };
    uint32_t n = 0;
    for (size_t b = 0; b < 256; b++) {
        uint8_t c = d->class_of[b];
        if (!seen[c]) {
            uint32_t m = 0;
            for (bool same = false; m < n && !same; m += !same) {
                same = true;
                for (uint32_t i = 0; same && i < p->n_blocks; i++) {
                    const uint32_t *row = d->next + (size_t)p->elems[p->first[i]] * k;
                    same = p->block_of[row[c]] == p->block_of[row[sample[m]]];
                }
            }
            if (m == n)
                sample[n++] = c;
            seen[c] = true;
            to[c] = (uint8_t)m;
        }
        class_of[b] = to[c];
    }
    return n;
}

static struct dfa *dfa_new(uint32_t n_states, uint32_t n_classes)
{
    size_t cells = (size_t)n_states * n_classes;
    struct dfa *d = mem_zero(1, sizeof *d + cells * sizeof *d->next + n_states);
    if (!d)
        return NULL;
    d->n_states = n_states;
    d->n_classes = n_classes;
    d->next = (uint32_t *)(d + 1);
    d->accept = (uint8_t *)(d->next + cells);
    return d;
}

/* Numbers the blocks by first visit from the start; `dead` stays 0. Gives how many there are. */
static uint32_t number_blocks(struct partition *p, uint32_t dead, const uint8_t *sample, uint32_t k,
                              uint32_t *number, uint32_t *order)
{
    const struct draft *d = p->d;
    uint32_t n = 1, start = p->block_of[d->start];
    order[0] = dead;
    if (start != dead) {
        number[start] = n;
        order[n++] = start;
    }
    for (uint32_t at = 1; at < n; at++) {
        const uint32_t *row = d->next + (size_t)p->elems[p->first[order[at]]] * d->n_classes;
        for (uint32_t c = 0; c < k; c++) {
            uint32_t b = p->block_of[row[sample[c]]];
            if (b != dead && !number[b]) {
                number[b] = n;
                order[n++] = b;
            }
        }
    }
    return n;
}

static struct dfa *final_form(struct partition *p)
{
    const struct draft *d = p->d;
    uint8_t class_of[256], sample[256];
    uint32_t k = merge_classes(p, class_of, sample), dead = p->block_of[DFA_DEAD];
    uint32_t *number = p->work, *order = p->members;
    memset(number, 0, d->n * sizeof *number);
    uint32_t n = number_blocks(p, dead, sample, k, number, order);
    struct dfa *out = dfa_new(n, k);
    if (!out)
        return NULL;
    memcpy(out->class_of, class_of, 256);
    out->start = number[p->block_of[d->start]];
    for (uint32_t i = 1; i < n; i++) {
        uint32_t s = p->elems[p->first[order[i]]];
        out->accept[i] = d->accept[s];
        for (uint32_t c = 0; c < k; c++)
            out->next[(size_t)i * k + c] =
                number[p->block_of[d->next[(size_t)s * d->n_classes + sample[c]]]];
    }
    return out;
}

static struct dfa *minimal(const struct draft *d)
{
    struct partition p;
    struct dfa *out = NULL;
    if (partition_init(&p, d)) {
        first_blocks(&p);
        refine(&p);
        out = final_form(&p);
    }
    mem_free(p.memory);
    return out;
}

/* Bytes that only unreachable states tell apart must share a class in the end. */
static bool keep_reachable(struct draft *d)
{
    size_t k = d->n_classes;
    uint32_t *number = mem_zero(d->n, sizeof *number), *order = mem_zero(d->n, sizeof *order);
    uint32_t n = 1;
    bool good = number && order;
    if (good && d->start) {
        number[d->start] = n;
        order[n++] = d->start;
    }
    for (uint32_t at = 1; good && at < n; at++)
        for (size_t c = 0; c < k; c++) {
            uint32_t to = d->next[order[at] * k + c];
            if (to && !number[to]) {
                number[to] = n;
                order[n++] = to;
            }
        }
    if (good && n < d->n) {
        struct draft kept;
        draft_init(&kept, d->class_of);
        for (uint32_t i = 1; i < n; i++)
            draft_state(&kept, d->accept[order[i]]);
        for (uint32_t i = 1; i < n; i++)
            for (uint32_t c = 0; c < k; c++)
                draft_edge(&kept, i, c, number[d->next[order[i] * k + c]]);
        kept.start = number[d->start];
        draft_finish(d);
        *d = kept;
        good = !d->trouble;
    }
    mem_free(number);
    mem_free(order);
    return good;
}

struct dfa *draft_take(struct draft *d, struct err *e)
{
    struct dfa *out = NULL;
    if (!d->trouble && !keep_reachable(d))
        d->trouble = DFA_NO_MEMORY;
    if (!d->trouble) {
        out = minimal(d);
        d->trouble = out ? DFA_FINE : DFA_NO_MEMORY;
    }
    if (d->trouble)
        dfa_fail(d->trouble, e);
    draft_finish(d);
    return out;
}

struct dfa *dfa_copy(const struct dfa *d, struct err *e)
{
    struct dfa *out = dfa_new(d->n_states, d->n_classes);
    if (!out) {
        dfa_fail(DFA_NO_MEMORY, e);
        return NULL;
    }
    out->start = d->start;
    memcpy(out->class_of, d->class_of, sizeof d->class_of);
    memcpy(out->next, d->next, (size_t)d->n_states * d->n_classes * sizeof *d->next);
    memcpy(out->accept, d->accept, d->n_states);
    return out;
}

void dfa_destroy(struct dfa *d)
{
    mem_free(d);
}
