/* Cutting a text at special tokens.
 *
 * The rule, as llama.cpp has it: of all special tokens the longest goes first; each takes its
 * places from left to right in what the longer ones have left. (Longest at the leftmost place, as
 * a plain scanner would do it, differs where tokens overlap.) A trie gives, for every place, the
 * longest token that begins there; a heap takes the places in the rule's order; a place whose end
 * is taken meanwhile comes back with the longest token that still fits. */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

/* ---- building ------------------------------------------------------------------------------ */

static bool is_special(const struct tokenizer *t, size_t id)
{
    size_t len = t->offset[id + 1] - t->offset[id];
    return len > 0 && len <= TOKENIZER_MAX_PIECE &&
           (t->type[id] == TOKEN_CONTROL || t->type[id] == TOKEN_USER_DEFINED ||
            t->type[id] == TOKEN_UNKNOWN);
}

static uint32_t child_of(const struct specials *s, uint32_t at, unsigned char byte)
{
    uint32_t i = at ? s->node[at].child : s->root[byte];
    while (i && s->node[i].byte != byte)
        i = s->node[i].sibling;
    return i;
}

static uint32_t add_child(struct specials *s, uint32_t at, unsigned char byte)
{
    if (!mem_grow(&s->node, &s->cap_nodes, s->n_nodes + 1, sizeof *s->node, UINT32_MAX))
        return 0;
    uint32_t i = (uint32_t)s->n_nodes++;
    s->node[i] = (struct trie_node){ .rank = NO_RANK, .byte = byte };
    if (at) {
        s->node[i].sibling = s->node[at].child;
        s->node[at].child = i;
    } else {
        s->root[byte] = i;
    }
    return i;
}

static bool insert(struct specials *s, struct str text, uint32_t rank)
{
    uint32_t at = 0;
    for (size_t i = 0; i < text.n; i++) {
        unsigned char byte = (unsigned char)text.p[i];
        uint32_t next = child_of(s, at, byte);
        at = next ? next : add_child(s, at, byte);
        if (!at)
            return false;
    }
    if (s->node[at].rank == NO_RANK)
        s->node[at].rank = rank;
    return true;
}

enum err_code specials_init(struct tokenizer *t, struct err *e)
{
    struct specials *s = &t->specials;
    struct heap order = { 0 };
    bool ok = mem_grow(&s->node, &s->cap_nodes, 1, sizeof *s->node, UINT32_MAX);
    s->n_nodes = 1;
    for (size_t id = 0; ok && id < t->n_tokens; id++)
        if (is_special(t, id))
            ok = heap_push(&order, (uint64_t)(UINT32_MAX - token_text(t, (uint32_t)id).n) << 32 | id);
    s->n = order.n;
    s->id = ok ? mem_zero(s->n, sizeof *s->id) : NULL;
    ok = s->id != NULL;
    for (uint32_t rank = 0; ok && order.n; rank++) {
        uint32_t id = (uint32_t)heap_pop(&order);
        s->id[rank] = (int32_t)id;
        ok = insert(s, token_text(t, id), rank);
    }
    mem_free(order.key);
    return ok ? ERR_OK : err_no_memory(e, s->n * sizeof *s->node, "special tokens");
}

void specials_finish(struct specials *s)
{
    mem_free(s->node);
    mem_free(s->id);
    *s = (struct specials){ 0 };
}

/* ---- cutting ------------------------------------------------------------------------------- */

struct place {
    uint32_t at, rank;
    bool taken;
};

struct cut {
    const struct tokenizer *t;
    struct str s;
    const struct parsing *parsing;
    struct place *place;
    size_t n, cap;
    struct heap heap;
    bool *used; /* [s.n] bytes that a token, or its stripping, has taken */
};

/* Whether the token may stand at [at, at + len). */
static bool may_stand(const struct cut *c, int32_t id, size_t at, size_t len)
{
    const struct spans *content = c->parsing->content;
    bool control = c->t->type[id] != TOKEN_USER_DEFINED;
    bool guarded = control || (c->t->flag[id] & TOKEN_TURNS);
    return (!control || c->parsing->control) &&
           !(guarded && content && spans_touch(content, at, at + len));
}

/* The longest token at `at` of no more than `max` bytes. */
static uint32_t longest(const struct cut *c, size_t at, size_t max)
{
    const struct specials *s = &c->t->specials;
    uint32_t node = 0, best = NO_RANK;
    for (size_t i = 0; i < max; i++) {
        node = child_of(s, node, (unsigned char)c->s.p[at + i]);
        if (!node)
            break;
        uint32_t rank = s->node[node].rank;
        if (rank != NO_RANK && may_stand(c, s->id[rank], at, i + 1))
            best = rank;
    }
    return best;
}

static bool find_places(struct cut *c)
{
    const uint32_t *root = c->t->specials.root;
    for (size_t at = 0; at < c->s.n; at++) {
        uint32_t rank = root[(unsigned char)c->s.p[at]] ? longest(c, at, c->s.n - at) : NO_RANK;
        if (rank == NO_RANK)
            continue;
        if (!mem_grow(&c->place, &c->cap, c->n + 1, sizeof *c->place, TOKENIZER_MAX_TEXT))
            return false;
        c->place[c->n++] = (struct place){ .at = (uint32_t)at, .rank = rank };
    }
    return true;
}

/* Bytes of white space at s.p[at], and before it; 0: none. */
static size_t white_at(struct str s, size_t at)
{
    uint32_t c = 0;
    size_t n = utf8_step(s.p + at, s.n - at, &c);
    return char_is_white(c) ? n : 0;
}

static size_t white_before(struct str s, size_t at)
{
    size_t n = 1;
    while (n < 4 && n < at && ((unsigned char)s.p[at - n] & 0xC0U) == 0x80U)
        n++;
    return white_at((struct str){ s.p, at }, at - n) == n ? n : 0;
}

static void take(struct cut *c, struct place *p, size_t len)
{
    unsigned flag = c->t->flag[c->t->specials.id[p->rank]];
    size_t begin = p->at, end = p->at + len;
    while ((flag & TOKEN_LSTRIP) && begin > 0 && !c->used[begin - 1] && white_before(c->s, begin))
        begin -= white_before(c->s, begin);
    while ((flag & TOKEN_RSTRIP) && end < c->s.n && !c->used[end] && white_at(c->s, end))
        end += white_at(c->s, end);
    memset(c->used + begin, true, end - begin);
    p->taken = true;
}

static bool choose_places(struct cut *c)
{
    const struct specials *s = &c->t->specials;
    for (size_t i = 0; i < c->n; i++)
        if (!heap_push(&c->heap, (uint64_t)c->place[i].rank << 32 | i))
            return false;
    while (c->heap.n) {
        struct place *p = &c->place[(uint32_t)heap_pop(&c->heap)];
        size_t len = token_text(c->t, (uint32_t)s->id[p->rank]).n, room = 0;
        while (room < len && !c->used[p->at + room])
            room++;
        if (room == len) {
            take(c, p, len);
            continue;
        }
        p->rank = room ? longest(c, p->at, room) : NO_RANK;
        if (p->rank != NO_RANK &&
            !heap_push(&c->heap, (uint64_t)p->rank << 32 | (uint64_t)(p - c->place)))
            return false;
    }
    return true;
}

static enum err_code give_text(const struct cut *c, size_t begin, size_t end,
                               const struct part_sink *sink)
{
    while (begin < end && c->used[begin])
        begin++;
    while (end > begin && c->used[end - 1])
        end--;
    return begin < end ? sink->text(sink->user, (struct str){ c->s.p + begin, end - begin })
                       : ERR_OK;
}

static enum err_code give_parts(const struct cut *c, const struct part_sink *sink)
{
    enum err_code code = ERR_OK;
    size_t from = 0;
    for (size_t i = 0; !code && i < c->n; i++) {
        const struct place *p = &c->place[i];
        if (!p->taken)
            continue;
        int32_t id = c->t->specials.id[p->rank];
        code = give_text(c, from, p->at, sink);
        if (!code)
            code = sink->token(sink->user, id);
        from = p->at + token_text(c->t, (uint32_t)id).n;
    }
    return code ? code : give_text(c, from, c->s.n, sink);
}

enum err_code specials_partition(const struct tokenizer *t, struct str s,
                                 const struct parsing *parsing, const struct part_sink *sink,
                                 struct err *e)
{
    struct cut c = { .t = t, .s = s, .parsing = parsing };
    enum err_code code = ERR_OK;
    if (!t->specials.n || !s.n)
        return s.n ? sink->text(sink->user, s) : ERR_OK;
    bool ok = find_places(&c);
    if (ok && c.n == 0) {
        code = sink->text(sink->user, s);
        goto out;
    }
    c.used = ok ? mem_zero(s.n, sizeof *c.used) : NULL;
    ok = c.used && choose_places(&c);
    code = ok ? give_parts(&c, sink) : err_no_memory(e, s.n, "special tokens");
out:
    mem_free(c.place);
    mem_free(c.heap.key);
    mem_free(c.used);
    return code;
}
