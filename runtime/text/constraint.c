#include "runtime/text/constraint.h"

#include <string.h>

#include "runtime/text/grammar_auto.h"

#define CONSTRAINT_MAX_SETS ((size_t)1 << 15) /* sets of frames; over that, all but the state are forgotten */
#define CONSTRAINT_MAX_MASKS 32

struct kept_mask {
    uint32_t set;      /* SET_NONE: free */
    uint32_t tokens;   /* most to go after an allowed token */
    uint64_t used;
    uint32_t *bits;
};

struct constraint {
    struct grammar *g;
    struct sim sim;      /* of this generation: its sets live on */
    struct sim scratch;  /* of verdicts */
    uint32_t now;        /* the set of frames after the last symbol */
    struct frame_list closed; /* the same, closed */
    bool may_end, over;  /* over: an end token was accepted */
    struct kept_mask mask[CONSTRAINT_MAX_MASKS];
    uint64_t tick;
    uint32_t *limited;   /* bits of a mask that is not kept */
};

static enum err_code no_room(struct err *e)
{
    return err_no_memory(e, sizeof(struct constraint), "a constraint, or its grammar is too ambiguous");
}

/* ---- the state ----------------------------------------------------------------------------- */

static void forget_masks(struct constraint *c)
{
    for (size_t i = 0; i < CONSTRAINT_MAX_MASKS; i++)
        c->mask[i].set = SET_NONE;
}

/* The frames of a set, in a list of its own. */
static bool list_set(const struct constraint *c, uint32_t set, struct frame_list *l)
{
    const struct frame_set f = c->sim.set[set];
    *l = (struct frame_list){ 0 };
    if (!mem_grow(&l->v, &l->cap, f.n, sizeof *l->v, SIZE_MAX / sizeof *l->v))
        return false;
    memcpy(l->v, c->sim.frame + f.first, f.n * sizeof *l->v);
    l->n = f.n;
    return true;
}

/* Makes `set` the state. */
static bool move_to(struct constraint *c, uint32_t set)
{
    mem_free(c->closed.v);
    c->closed = (struct frame_list){ 0 };
    c->now = set;
    if (set == SET_NONE || !list_set(c, set, &c->closed))
        return false;
    c->may_end = sim_close(&c->sim, &c->closed, 0);
    return !c->sim.failed;
}

static bool start(struct constraint *c, struct grammar *g)
{
    c->g = grammar_ref(g);
    c->limited = mem_zero(g->v->words + 1, sizeof *c->limited);
    return sim_init(&c->sim, &g->a, g->v) && sim_init(&c->scratch, &g->a, g->v) && c->limited;
}

enum err_code constraint_create(struct grammar *g, uint32_t max_tokens, struct constraint **out, struct err *e)
{
    const uint32_t least = grammar_min_tokens(g);
    *out = NULL;
    if (max_tokens && least > max_tokens)
        return err_set(e, ERR_INVALID, "the shortest answer that the format allows takes %u tokens, the limit is %u",
                       least, max_tokens);
    struct constraint *c = mem_zero(1, sizeof *c);
    if (!c)
        return no_room(e);
    const struct frame first = { g->a.start, SET_END };
    if (!start(c, g) || !move_to(c, sim_set(&c->sim, &first, 1))) {
        constraint_destroy(c);
        return no_room(e);
    }
    *out = c;
    return ERR_OK;
}

enum err_code constraint_clone(const struct constraint *c, struct constraint **out, struct err *e)
{
    *out = NULL;
    struct constraint *d = mem_zero(1, sizeof *d);
    if (!d)
        return no_room(e);
    if (!start(d, c->g) || !move_to(d, sim_copy(&d->sim, &c->sim, c->now))) {
        constraint_destroy(d);
        return no_room(e);
    }
    d->over = c->over;
    *out = d;
    return ERR_OK;
}

void constraint_destroy(struct constraint *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < CONSTRAINT_MAX_MASKS; i++)
        mem_free(c->mask[i].bits);
    mem_free(c->limited);
    mem_free(c->closed.v);
    sim_finish(&c->sim);
    sim_finish(&c->scratch);
    grammar_unref(c->g);
    mem_free(c);
}

size_t constraint_mask_words(const struct constraint *c)
{
    return c->g->v->words;
}

bool constraint_may_end(const struct constraint *c)
{
    return c->over || c->may_end;
}

bool constraint_done(const struct constraint *c)
{
    bool open = false;
    for (size_t i = 0; i < c->closed.n; i++) {
        const struct state *s = &c->g->a.state[c->closed.v[i].state];
        open |= s->n_arcs > 0;
    }
    return c->over || (c->may_end && !open);
}

/* ---- masks --------------------------------------------------------------------------------- */

struct filling {
    const struct grammar_vocab *v;
    uint32_t *bits;
    uint32_t left; /* tokens that may be to go after an allowed one */
    uint32_t most; /* that are to go after any */
};

static void fill_node(void *user, uint32_t node, uint32_t tokens, bool ends)
{
    (void)ends;
    struct filling *f = user;
    const uint32_t from = f->v->first[node], to = f->v->first[node + 1];
    if (from == to)
        return;
    if (tokens > f->most)
        f->most = tokens;
    if (tokens > f->left)
        return;
    for (uint32_t i = from; i < to; i++)
        f->bits[f->v->id[i] / 32] |= 1u << f->v->id[i] % 32;
}

/* What the verdict allows when `below` tokens close what is below. */
static void fill_verdict(struct filling *f, const struct verdict *v, uint32_t below)
{
    if ((v->bits || v->n_odd) && v->max_tokens + below > f->most)
        f->most = v->max_tokens + below;
    if (below > f->left)
        return;
    const uint32_t left = f->left - below;
    if (v->bits && v->common <= left)
        for (size_t i = 0; i < f->v->words; i++)
            f->bits[i] |= v->bits[i];
    for (size_t i = 0; i < v->n_odd && v->odd[i].tokens <= left; i++)
        f->bits[v->odd[i].id / 32] |= 1u << v->odd[i].id % 32;
}

/* Tokens that go beyond a rule: on with what is below it. */
static bool fill_exits(struct constraint *c, struct filling *f, const struct verdict *v, uint32_t below)
{
    struct frame_list l;
    if (below == SET_END || v->n_exits == 0)
        return true;
    const bool ok = list_set(c, below, &l);
    if (ok)
        (void)sim_close(&c->sim, &l, 0);
    for (size_t i = 0; ok && i < v->n_exits; i++)
        sim_walk(&c->sim, l.v, l.n, v->exit[i], fill_node, f);
    mem_free(l.v);
    return ok && !c->sim.failed;
}

/* End tokens: where the sentence may end, or where it may after them. */
static void fill_ends(struct constraint *c, struct filling *f)
{
    for (size_t i = 0; i < f->v->n_eog; i++) {
        const uint32_t id = f->v->eog[i];
        bool ok = c->may_end;
        if (!ok) {
            struct frame_list *l = &c->closed;
            const size_t n = l->n;
            sim_step(&c->sim, l, 0, n, SYM_TOKEN + id);
            ok = l->n > n && sim_close(&c->sim, l, n);
            l->n = n;
        }
        if (ok)
            f->bits[id / 32] |= 1u << id % 32;
    }
}

static bool fill(struct constraint *c, struct filling *f)
{
    struct frame_list l;
    bool ok = list_set(c, c->now, &l);
    c->sim.work = 0;
    memset(f->bits, 0, f->v->words * sizeof *f->bits);
    if (ok)
        sim_return(&c->sim, &l, 0);
    for (size_t i = 0; ok && i < l.n; i++) {
        const struct frame frame = l.v[i];
        if (frame.state == STATE_END)
            continue;
        struct verdict *v = grammar_verdict(c->g, &c->scratch, frame.state);
        ok = v != NULL;
        if (ok) {
            fill_verdict(f, v, c->sim.set[frame.below].tokens);
            ok = fill_exits(c, f, v, frame.below);
        }
        if (ok && !v->shared)
            verdict_destroy(v);
    }
    mem_free(l.v);
    fill_ends(c, f);
    return ok && !c->sim.failed;
}

/* The mask without a limit, kept or made anew in the place of the one that was used longest ago. */
static struct kept_mask *full_mask(struct constraint *c)
{
    struct kept_mask *oldest = &c->mask[0];
    for (size_t i = 0; i < CONSTRAINT_MAX_MASKS; i++) {
        struct kept_mask *m = &c->mask[i];
        if (m->set == c->now) {
            m->used = ++c->tick;
            return m;
        }
        if (m->used < oldest->used)
            oldest = m;
    }
    if (!oldest->bits)
        oldest->bits = mem_zero(c->g->v->words + 1, sizeof *oldest->bits);
    struct filling f = { .v = c->g->v, .bits = oldest->bits, .left = AUTO_FAR };
    oldest->set = SET_NONE;
    if (!oldest->bits || !fill(c, &f))
        return NULL;
    oldest->set = c->now;
    oldest->tokens = f.most;
    oldest->used = ++c->tick;
    return oldest;
}

enum err_code constraint_mask(struct constraint *c, uint32_t left, const uint32_t **mask, struct err *e)
{
    const struct frame_set now = c->sim.set[c->now];
    *mask = NULL;
    if (c->over)
        return err_set(e, ERR_INVALID, "the answer has been ended");
    if (now.depth > c->g->max_calls && (left == 0 || left > now.tokens) && now.tokens)
        left = now.tokens;
    const struct kept_mask *m = full_mask(c);
    if (!m)
        return no_room(e);
    const uint32_t *bits = m->bits;
    if (left && left - 1 < m->tokens) {
        struct filling f = { .v = c->g->v, .bits = c->limited, .left = left - 1 };
        if (!fill(c, &f))
            return no_room(e);
        bits = c->limited;
    }
    for (size_t i = 0; i < c->g->v->words; i++)
        if (bits[i]) {
            *mask = bits;
            return ERR_OK;
        }
    return err_set(e, ERR_INVALID, "no token can come next: %u more are needed, %u are left", now.tokens, left);
}

/* ---- tokens -------------------------------------------------------------------------------- */

/* Forgets sets that nothing needs any more, once there are many. */
static bool tidy_up(struct constraint *c)
{
    struct sim fresh;
    if (c->sim.n_sets < CONSTRAINT_MAX_SETS)
        return true;
    bool ok = sim_init(&fresh, &c->g->a, c->g->v);
    uint32_t now = ok ? sim_copy(&fresh, &c->sim, c->now) : SET_NONE;
    ok = ok && now != SET_NONE;
    struct sim old = ok ? c->sim : fresh;
    if (ok)
        c->sim = fresh;
    sim_finish(&old);
    forget_masks(c);
    return ok && move_to(c, now);
}

/* The frames after the bytes of the token, behind the closed ones of the state; how many. */
static size_t read_bytes(struct constraint *c, uint32_t id)
{
    const struct grammar_vocab *v = c->g->v;
    struct frame_list *l = &c->closed;
    const uint32_t leaf = v->node_of[id];
    size_t from = 0, n = l->n;
    for (uint32_t node = 0; node != leaf && n;) {
        node = node ? node + 1 : 1;
        while (v->end[node] <= leaf)
            node = v->end[node];
        if (from)
            (void)sim_close(&c->sim, l, from);
        const size_t at = l->n;
        sim_step(&c->sim, l, from, at - from, v->byte[node]);
        from = at;
        n = l->n - at;
    }
    return leaf ? n : 0;
}

/* The set after the token, or SET_NONE; the closed frames are as before. */
static uint32_t read_token(struct constraint *c, uint32_t id)
{
    struct frame_list *l = &c->closed;
    const size_t before = l->n;
    uint32_t set = SET_NONE;
    size_t n = read_bytes(c, id);
    if (n)
        set = sim_set(&c->sim, l->v + l->n - n, n);
    l->n = before;
    sim_step(&c->sim, l, 0, before, SYM_TOKEN + id);
    if (l->n > before) {
        uint32_t symbol = sim_set(&c->sim, l->v + before, l->n - before);
        set = set == SET_NONE ? symbol : sim_unite(&c->sim, set, symbol);
    }
    l->n = before;
    return set;
}

enum err_code constraint_accept(struct constraint *c, int32_t token, struct err *e)
{
    const uint32_t id = (uint32_t)token, before = c->now;
    if (c->over)
        return err_set(e, ERR_INVALID, "the answer has been ended");
    if (token < 0 || id >= c->g->v->n_tokens)
        return err_set(e, ERR_INVALID, "token %d is not in the vocabulary", token);
    const bool ends = vocab_is_eog(c->g->v, id);
    if (ends && c->may_end) {
        c->over = true;
        return ERR_OK;
    }
    const uint32_t set = read_token(c, id);
    if (c->sim.failed)
        return no_room(e);
    if (set == SET_NONE)
        return err_set(e, ERR_INVALID, "token %d cannot come here", token);
    if (!move_to(c, set))
        return no_room(e);
    if (ends && !c->may_end) {
        (void)move_to(c, before);
        return err_set(e, ERR_INVALID, "token %d cannot come here", token);
    }
    c->over = ends;
    return tidy_up(c) ? ERR_OK : no_room(e);
}
