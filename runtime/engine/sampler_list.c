#include "runtime/engine/sampler_priv.h"

/* ---- order ---------------------------------------------------------------------------------------- */

static bool better(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Restores a heap, the worst on top, whose entry i may be out of place. */
static void sift(struct candidate *h, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t top = i, left = 2 * i + 1, right = left + 1;
        if (left < n && better(h[top], h[left]))
            top = left;
        if (right < n && better(h[top], h[right]))
            top = right;
        if (top == i)
            return;
        struct candidate t = h[i];
        h[i] = h[top];
        h[top] = t;
        i = top;
    }
}

static void heap_up(struct candidate *h, uint32_t n)
{
    for (uint32_t j = n / 2 + 1; j-- > 0;)
        sift(h, n, j);
}

/* Sorts a heap, best first. */
static void sort_down(struct candidate *h, uint32_t k)
{
    for (uint32_t n = k; n > 1; n--) {
        struct candidate worst = h[0];
        h[0] = h[n - 1];
        h[n - 1] = worst;
        sift(h, n - 1, 0);
    }
}

/* Brings the k best to the front, sorted. */
static void select_best(struct candidate *c, uint32_t n, uint32_t k)
{
    heap_up(c, k);
    for (uint32_t i = k; i < n; i++)
        if (better(c[i], c[0])) {
            struct candidate t = c[i];
            c[i] = c[0];
            c[0] = t;
            sift(c, k, 0);
        }
    sort_down(c, k);
}

/* ---- the row becomes a list ------------------------------------------------------------------------ */

/* Which of the 32 tokens from 32 * w may come. */
static uint32_t allowed(const struct list *l, uint32_t w)
{
    uint32_t n = l->s->n_vocab - w * 32;
    return (l->in->mask ? l->in->mask[w] : UINT32_MAX) & (n < 32 ? (UINT32_C(1) << n) - 1 : UINT32_MAX);
}

static uint32_t n_words(const struct list *l)
{
    uint32_t n = (l->s->n_vocab + 31) / 32;
    return l->in->mask && l->in->n_mask < n ? (uint32_t)l->in->n_mask : n;
}

static bool any_above(const float *v, float limit)
{
    int any = 0;
    for (int i = 0; i < 32; i++)
        any |= v[i] > limit;
    return any != 0;
}

static int32_t lowest_allowed(const struct list *l)
{
    for (uint32_t w = 0; w < n_words(l); w++)
        if (allowed(l, w))
            return (int32_t)(w * 32 + (uint32_t)__builtin_ctz(allowed(l, w)));
    return 0;
}

static void formed(struct list *l)
{
    l->whole = false;
    if (l->n == 0)
        l->c[l->n++] = (struct candidate){ 0, lowest_allowed(l) };
    if (list_best(l) == INFINITY)
        list_only_best(l);
}

/* All of more than `limit`. */
static void gather(struct list *l, float limit)
{
    const float *v = l->in->logits;
    l->n = 0;
    for (uint32_t w = 0; w < n_words(l); w++)
        for (uint32_t bits = allowed(l, w); bits; bits &= bits - 1) {
            uint32_t i = w * 32 + (uint32_t)__builtin_ctz(bits);
            if (v[i] > limit)
                l->c[l->n++] = (struct candidate){ v[i], (int32_t)i };
        }
    l->sorted = false;
    formed(l);
}

/* The k best of a row: a heap of them, and most of the row is seen in blocks that hold nothing better. */
static void gather_top(struct list *l, uint32_t k)
{
    const float *v = l->in->logits;
    float limit = -INFINITY;
    l->n = 0;
    for (uint32_t w = 0; w < n_words(l); w++) {
        uint32_t bits = allowed(l, w);
        if (bits == UINT32_MAX && !any_above(v + w * 32, limit))
            continue;
        for (; bits; bits &= bits - 1) {
            uint32_t i = w * 32 + (uint32_t)__builtin_ctz(bits);
            if (!(v[i] > limit))
                continue;
            struct candidate c = { v[i], (int32_t)i };
            if (l->n < k) {
                l->c[l->n++] = c;
                if (l->n == k)
                    heap_up(l->c, k);
            } else {
                l->c[0] = c;
                sift(l->c, k, 0);
            }
            limit = l->n == k ? l->c[0].logit : limit;
        }
    }
    if (l->n < k)
        heap_up(l->c, l->n);
    sort_down(l->c, l->n);
    l->sorted = true;
    formed(l);
}

void list_all(struct list *l)
{
    if (l->whole)
        gather(l, -INFINITY);
}

static float row_best(const struct list *l)
{
    if (!l->in->mask)
        return row_max(l->in->logits, l->s->n_vocab);
    float best = -INFINITY;
    for (uint32_t w = 0; w < n_words(l); w++)
        for (uint32_t bits = allowed(l, w); bits; bits &= bits - 1) {
            float v = l->in->logits[w * 32 + (uint32_t)__builtin_ctz(bits)];
            best = v > best ? v : best;
        }
    return best;
}

float list_best(const struct list *l)
{
    if (l->whole)
        return row_best(l);
    float best = l->c[0].logit;
    for (uint32_t i = 1; i < l->n && !l->sorted; i++)
        best = l->c[i].logit > best ? l->c[i].logit : best;
    return best;
}

/* ---- fewer ------------------------------------------------------------------------------------------ */

void list_above(struct list *l, double limit)
{
    if (l->whole)
        gather(l, nextafterf((float)limit, -INFINITY)); /* a little more than asked for, or just that */
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if ((double)l->c[i].logit >= limit || l->n == 1)
            l->c[n++] = l->c[i];
    l->n = n;
}

void list_top(struct list *l, uint32_t k)
{
    if (l->whole && k < l->s->n_vocab) {
        gather_top(l, k);
        return;
    }
    list_all(l);
    k = k < l->n ? k : l->n;
    if (!l->sorted)
        select_best(l->c, l->n, k);
    l->n = k;
    l->sorted = true;
}

void list_only_best(struct list *l)
{
    if (l->whole || !l->sorted)
        list_top(l, 1);
    l->n = 1;
}

/* ---- those nearest to a centre ------------------------------------------------------------------------ */

#define SORT_ALL 256   /* shorter lists are sorted whole */
#define BUCKETS 256
#define A_NAT 16       /* buckets of it */

static bool nearer(struct candidate a, struct candidate b, double centre)
{
    double x = fabs((double)a.logit - centre), y = fabs((double)b.logit - centre);
    return x < y || (x == y && better(a, b));
}

static void sift_far(struct candidate *h, uint32_t n, uint32_t i, double centre)
{
    for (;;) {
        uint32_t top = i, left = 2 * i + 1, right = left + 1;
        if (left < n && nearer(h[top], h[left], centre))
            top = left;
        if (right < n && nearer(h[top], h[right], centre))
            top = right;
        if (top == i)
            return;
        struct candidate t = h[i];
        h[i] = h[top];
        h[top] = t;
        i = top;
    }
}

static void sort_near(struct candidate *c, uint32_t n, double centre)
{
    for (uint32_t j = n / 2 + 1; j-- > 0;)
        sift_far(c, n, j, centre);
    for (; n > 1; n--) {
        struct candidate t = c[0];
        c[0] = c[n - 1];
        c[n - 1] = t;
        sift_far(c, n - 1, 0, centre);
    }
}

static bool enough(double sum, double goal, bool beyond)
{
    return beyond ? sum > goal : sum >= goal;
}

/* How many of c, in order, bring the sum to the goal. */
static uint32_t count_to(const struct list *l, const struct candidate *c, uint32_t n, float best, double sum,
                         double goal, bool beyond)
{
    struct list part = { .c = (struct candidate *)c, .scale = l->scale };
    uint32_t i = 0;
    while (i < n && !enough(sum, goal, beyond))
        sum += (double)list_weight(&part, best, i++);
    return i;
}

static uint32_t bucket_of(const struct list *l, uint32_t i, double centre)
{
    double far = fabs((double)l->c[i].logit - centre) * l->scale * A_NAT;
    return far < BUCKETS - 1 ? (uint32_t)far : BUCKETS - 1;
}

/* Long lists: only the bucket in which the goal lies is sorted. Cost: linear. */
static void nearest_of_many(struct list *l, double centre, double p, bool beyond)
{
    double mass[BUCKETS] = { 0 }, total = 0, sum = 0;
    float best = list_best(l);
    for (uint32_t i = 0; i < l->n; i++)
        mass[bucket_of(l, i, centre)] += (double)list_weight(l, best, i);
    for (uint32_t b = 0; b < BUCKETS; b++)
        total += mass[b];
    uint32_t last = 0, n = 0, edge = 0;
    while (last < BUCKETS - 1 && !enough(sum + mass[last], p * total, beyond))
        sum += mass[last++];
    for (uint32_t i = 0; i < l->n; i++) {
        uint32_t b = bucket_of(l, i, centre);
        if (b < last)
            l->c[n++] = l->c[i];
        else if (b == last)
            l->s->scratch[edge++] = l->c[i];
    }
    sort_near(l->s->scratch, edge, centre);
    edge = count_to(l, l->s->scratch, edge, best, sum, p * total, beyond);
    memcpy(l->c + n, l->s->scratch, edge * sizeof *l->c);
    l->n = n + edge;
    l->sorted = false;
}

void list_nearest(struct list *l, double centre, double p, bool beyond)
{
    list_all(l);
    float best = list_best(l);
    bool by_logit = centre == (double)best;
    if (l->n > SORT_ALL && !(by_logit && l->sorted)) {
        nearest_of_many(l, centre, p, beyond);
    } else {
        if (!(by_logit && l->sorted))
            sort_near(l->c, l->n, centre);
        l->n = count_to(l, l->c, l->n, best, 0, p * list_total(l, best), beyond);
        l->sorted = by_logit;
    }
}

/* ---- the draw --------------------------------------------------------------------------------------- */

double list_total(const struct list *l, float best)
{
    double total = 0;
    for (uint32_t i = 0; i < l->n; i++)
        total += (double)list_weight(l, best, i);
    return total;
}

int32_t list_draw(const struct list *l, double u, double *p)
{
    float best = list_best(l);
    double total = list_total(l, best), at = u * total;
    uint32_t i = 0;
    for (; i + 1 < l->n; i++) {
        at -= (double)list_weight(l, best, i);
        if (at < 0)
            break;
    }
    *p = (double)list_weight(l, best, i) / total;
    return l->c[i].id;
}
