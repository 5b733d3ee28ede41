/* Sets of stacks (Tomita 1985, without cycles: there is no left recursion), and walks of the trie with them. */
#include "runtime/text/grammar_auto.h"

#include <string.h>

#define MAX_FRAMES ((size_t)1 << 22)
#define MAX_LEVEL ((size_t)1 << 22)
#define MAX_WORK ((uint64_t)1 << 26) /* frames looked at for one mask; what comes later in the trie is left out */

bool sim_init(struct sim *s, const struct automaton *a, const struct grammar_vocab *v)
{
    *s = (struct sim){ .a = a, .v = v, .n_buckets = 1024 };
    s->seen = mem_zero(a->n_states, sizeof *s->seen);
    s->seen_at = mem_zero(a->n_states, sizeof *s->seen_at);
    s->bucket = mem_zero(s->n_buckets, sizeof *s->bucket);
    s->level_at = mem_zero((size_t)v->max_depth + 2, sizeof *s->level_at);
    s->failed = !s->seen || !s->seen_at || !s->bucket || !s->level_at;
    sim_clear(s);
    return !s->failed;
}

void sim_finish(struct sim *s)
{
    mem_free(s->frame);
    mem_free(s->set);
    mem_free(s->bucket);
    mem_free(s->seen);
    mem_free(s->seen_at);
    mem_free(s->level.v);
    mem_free(s->level_at);
    mem_free(s->dirty);
    *s = (struct sim){ 0 };
}

size_t sim_bytes(const struct sim *s)
{
    return s->cap_frames * sizeof *s->frame + s->cap_sets * sizeof *s->set + s->level.cap * sizeof *s->level.v +
           s->a->n_states * 2 * sizeof *s->seen + s->n_buckets * sizeof *s->bucket;
}

/* ---- sets ---------------------------------------------------------------------------------- */

void sim_clear(struct sim *s)
{
    const struct frame end = { STATE_END, SET_NONE };
    if (s->bucket)
        memset(s->bucket, 0, s->n_buckets * sizeof *s->bucket);
    s->n_frames = 0;
    s->n_sets = 1; /* set[SET_NONE] */
    if (!mem_grow(&s->set, &s->cap_sets, 64, sizeof *s->set, MAX_FRAMES)) {
        s->failed = true;
        return;
    }
    s->set[SET_NONE] = (struct frame_set){ 0 };
    (void)sim_set(s, &end, 1);
}

static bool grow_buckets(struct sim *s)
{
    uint32_t *bucket = mem_zero(2 * s->n_buckets, sizeof *bucket);
    if (!bucket)
        return false;
    mem_free(s->bucket);
    s->bucket = bucket;
    s->n_buckets *= 2;
    for (uint32_t i = 1; i < s->n_sets; i++) {
        uint32_t *head = &bucket[s->set[i].hash & (s->n_buckets - 1)];
        s->set[i].next = *head;
        *head = i;
    }
    return true;
}

uint32_t sim_tokens(const struct sim *s, const struct frame *v, size_t n)
{
    uint32_t least = AUTO_FAR;
    for (size_t i = 0; i < n; i++) {
        const uint32_t all = s->set[v[i].below].tokens + s->a->state[v[i].state].tokens;
        if (all < least)
            least = all;
    }
    return least;
}

static uint32_t fail(struct sim *s)
{
    s->failed = true;
    return SET_NONE;
}

/* The set of these frames, sorted. */
static uint32_t intern(struct sim *s, const struct frame *v, size_t n)
{
    uint32_t hash = 2166136261u, depth = 0;
    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ v[i].state) * 0x9E3779B1u;
        hash = (hash ^ v[i].below ^ hash >> 15) * 0x85EBCA77u;
        hash ^= hash >> 13;
        if (s->set[v[i].below].depth > depth)
            depth = s->set[v[i].below].depth;
    }
    for (uint32_t i = s->bucket[hash & (s->n_buckets - 1)]; i; i = s->set[i].next)
        if (s->set[i].hash == hash && s->set[i].n == n &&
            memcmp(s->frame + s->set[i].first, v, n * sizeof *v) == 0)
            return i;
    if (!mem_grow(&s->frame, &s->cap_frames, s->n_frames + n, sizeof *s->frame, MAX_FRAMES) ||
        !mem_grow(&s->set, &s->cap_sets, s->n_sets + 1, sizeof *s->set, MAX_FRAMES) ||
        (s->n_sets > s->n_buckets && !grow_buckets(s)))
        return fail(s);
    uint32_t *head = &s->bucket[hash & (s->n_buckets - 1)];
    memcpy(s->frame + s->n_frames, v, n * sizeof *v);
    s->set[s->n_sets] = (struct frame_set){
        .first = (uint32_t)s->n_frames, .n = (uint32_t)n, .tokens = sim_tokens(s, v, n), .depth = depth + 1,
        .hash = hash, .next = *head
    };
    s->n_frames += n;
    *head = (uint32_t)s->n_sets;
    return (uint32_t)s->n_sets++;
}

uint32_t sim_set(struct sim *s, const struct frame *v, size_t n)
{
    struct frame few[16], *sorted = n <= 16 ? few : mem_alloc(n * sizeof *sorted);
    if (!sorted || n == 0)
        return fail(s);
    for (size_t i = 0; i < n; i++) { /* lists are short, and nearly in order */
        size_t j = i;
        for (; j && sorted[j - 1].state > v[i].state; j--)
            sorted[j] = sorted[j - 1];
        sorted[j] = v[i];
    }
    s->work += n;
    const uint32_t set = intern(s, sorted, n);
    if (sorted != few)
        mem_free(sorted);
    return set;
}

/* What is in a or in b. Recursion: as deep as both stacks differ. */
uint32_t sim_unite(struct sim *s, uint32_t a, uint32_t b)
{
    if (a == b || s->failed)
        return a;
    const uint32_t na = s->set[a].n, nb = s->set[b].n;
    struct frame few[16], *out = na + nb <= 16 ? few : mem_alloc((size_t)(na + nb) * sizeof *out);
    if (!out)
        return fail(s);
    size_t n = 0;
    for (uint32_t i = 0, j = 0; i < na || j < nb;) {
        /* sets may move while they are united */
        const struct frame *x = i < na ? &s->frame[s->set[a].first + i] : NULL;
        const struct frame *y = j < nb ? &s->frame[s->set[b].first + j] : NULL;
        if (x && y && x->state == y->state) {
            out[n].state = x->state;
            const uint32_t both = sim_unite(s, x->below, y->below);
            out[n++].below = both;
            i++;
            j++;
        } else if (!y || (x && x->state < y->state)) {
            out[n++] = *x;
            i++;
        } else {
            out[n++] = *y;
            j++;
        }
    }
    s->work += n;
    const uint32_t set = s->failed ? SET_NONE : intern(s, out, n);
    if (out != few)
        mem_free(out);
    return set;
}

uint32_t sim_copy(struct sim *to, const struct sim *from, uint32_t set)
{
    if (set <= SET_END)
        return set;
    const struct frame_set *f = &from->set[set];
    struct frame few[16], *out = f->n <= 16 ? few : mem_alloc(f->n * sizeof *out);
    if (!out)
        return fail(to);
    for (uint32_t i = 0; i < f->n; i++) {
        out[i] = from->frame[f->first + i];
        out[i].below = sim_copy(to, from, out[i].below);
    }
    const uint32_t copy = to->failed ? SET_NONE : intern(to, out, f->n);
    if (out != few)
        mem_free(out);
    return copy;
}

/* ---- one symbol ---------------------------------------------------------------------------- */

/* Adds a frame to the list that `epoch` is of; a state that is there takes the union of what is below. Gives its
 * place, or SIZE_MAX: nothing changed. */
static size_t add(struct sim *s, struct frame_list *l, struct frame f)
{
    s->work++;
    if (s->seen[f.state] == s->epoch) {
        const size_t at = s->seen_at[f.state];
        if (l->v[at].below == f.below)
            return SIZE_MAX;
        const uint32_t both = sim_unite(s, l->v[at].below, f.below);
        if (both == l->v[at].below)
            return SIZE_MAX;
        l->v[at].below = both;
        return at;
    }
    if (!mem_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v, MAX_LEVEL)) {
        s->failed = true;
        return SIZE_MAX;
    }
    s->seen[f.state] = s->epoch;
    s->seen_at[f.state] = (uint32_t)l->n;
    l->v[l->n] = f;
    return l->n++;
}

static void next_epoch(struct sim *s)
{
    if (++s->epoch != 0)
        return;
    memset(s->seen, 0, s->a->n_states * sizeof *s->seen);
    s->epoch = 1;
}

void sim_step(struct sim *s, struct frame_list *l, size_t from, size_t n, uint32_t symbol)
{
    next_epoch(s);
    s->work += n;
    for (size_t i = from; i < from + n && !s->failed; i++) {
        const struct frame f = l->v[i];
        const uint32_t to = automaton_step(s->a, f.state, symbol);
        if (to != AUTO_FAR)
            (void)add(s, l, (struct frame){ to, f.below });
    }
}

/* ---- closure ------------------------------------------------------------------------------- */

/* Frames whose returns and calls are still to be added. */
struct closing {
    struct frame_list *l;
    size_t at, low; /* none before `low` is dirty */
    bool calls;     /* else returns only */
};

static void close_add(struct sim *s, struct closing *c, struct frame f)
{
    const size_t i = s->failed ? SIZE_MAX : add(s, c->l, f);
    if (i == SIZE_MAX)
        return;
    if (!mem_grow(&s->dirty, &s->cap_dirty, c->l->n - c->at, sizeof *s->dirty, MAX_LEVEL)) {
        s->failed = true;
        return;
    }
    s->dirty[i - c->at] = true;
    if (i < c->low)
        c->low = i;
}

static void close_frame(struct sim *s, struct closing *c, size_t i)
{
    const struct frame f = c->l->v[i];
    const struct state *st = &s->a->state[f.state];
    if (st->final) {
        const struct frame_set below = s->set[f.below];
        for (uint32_t j = 0; j < below.n; j++)
            close_add(s, c, s->frame[below.first + j]);
    }
    for (uint32_t j = 0; c->calls && j < st->n_calls && !s->failed; j++) {
        const struct call call = s->a->call[st->call + j];
        const struct state *to = &s->a->state[call.to];
        /* where nothing but the return follows the call, it returns further at once */
        const bool last = to->final && to->n_arcs == 0 && to->n_calls == 0;
        const struct frame back = { call.to, f.below };
        const uint32_t below = last ? f.below : intern(s, &back, 1);
        close_add(s, c, (struct frame){ call.entry, below });
    }
}

static bool close_list(struct sim *s, struct frame_list *l, size_t at, bool calls)
{
    struct closing c = { l, at, at, calls };
    next_epoch(s);
    if (!mem_grow(&s->dirty, &s->cap_dirty, l->n - at, sizeof *s->dirty, MAX_LEVEL)) {
        s->failed = true;
        return false;
    }
    for (size_t i = at; i < l->n; i++) {
        s->seen[l->v[i].state] = s->epoch;
        s->seen_at[l->v[i].state] = (uint32_t)i;
        s->dirty[i - at] = true;
    }
    while (c.low < l->n && !s->failed) {
        const size_t i = c.low++;
        if (!s->dirty[i - at])
            continue;
        s->dirty[i - at] = false;
        close_frame(s, &c, i);
    }
    return s->seen[STATE_END] == s->epoch;
}

bool sim_close(struct sim *s, struct frame_list *l, size_t at)
{
    const struct state *first = &s->a->state[l->v[at].state];
    if (l->n == at + 1 && !first->final && first->n_calls == 0)
        return l->v[at].state == STATE_END;
    return close_list(s, l, at, true);
}

void sim_return(struct sim *s, struct frame_list *l, size_t at)
{
    (void)close_list(s, l, at, false);
}

/* ---- walks --------------------------------------------------------------------------------- */

/* A frame that neither returns nor calls: a byte from it is one look-up. */
static inline bool is_plain(const struct sim *s, struct frame f)
{
    const struct state *st = &s->a->state[f.state];
    return !st->final && st->n_calls == 0 && f.state != STATE_END;
}

/* Appends what `byte` leads to from the frames of the depth above, which lie at at[-1], and closes it. False: nothing. */
static bool walk_down(struct sim *s, uint32_t *at, uint8_t byte, uint32_t *tokens, bool *ends)
{
    struct frame_list *l = &s->level;
    const uint32_t have = at[0] - at[-1];
    l->n = at[0];
    *ends = false;
    if (have == 1 && l->n < l->cap && is_plain(s, l->v[at[-1]])) {
        const struct frame f = l->v[at[-1]];
        const uint32_t to = automaton_step(s->a, f.state, byte);
        if (to == AUTO_FAR)
            return false;
        l->v[l->n++] = (struct frame){ to, f.below };
        *tokens = s->a->state[to].tokens + s->set[f.below].tokens;
    } else {
        sim_step(s, l, at[-1], have, byte);
        if (l->n == at[0])
            return false;
        *tokens = sim_tokens(s, l->v + at[0], l->n - at[0]);
    }
    if (l->n > at[0] + 1 || !is_plain(s, l->v[at[0]]))
        *ends = sim_close(s, l, at[0]);
    at[1] = (uint32_t)l->n;
    return true;
}

void sim_walk(struct sim *s, const struct frame *from, size_t n, uint32_t node, walk_fn found, void *user)
{
    const struct grammar_vocab *v = s->v;
    const uint16_t top = v->depth[node];
    struct frame_list *l = &s->level;
    uint32_t tokens;
    bool ends;
    if (n == 0 || !mem_grow(&l->v, &l->cap, n + v->max_depth, sizeof *l->v, MAX_LEVEL)) {
        s->failed |= n != 0;
        return;
    }
    memcpy(l->v, from, n * sizeof *from);
    s->level_at[0] = 0;
    s->level_at[1] = (uint32_t)n;
    for (uint32_t c = node + 1; c < v->end[node] && !s->failed && s->work < MAX_WORK;) {
        if (walk_down(s, &s->level_at[v->depth[c] - top], v->byte[c], &tokens, &ends)) {
            found(user, c, tokens, ends);
            c++;
        } else {
            c = v->end[c];
        }
    }
}
