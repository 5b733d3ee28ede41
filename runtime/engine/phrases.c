#include "runtime/engine/phrases.h"

#include <string.h>

#include "runtime/base/mem.h"

#define MAX_TEXT ((size_t)1 << 22)

void phrases_init(struct phrases *p, const struct tokenizer *t, const struct str *s, size_t n)
{
    *p = (struct phrases){ .t = t, .s = s, .n = n };
    buf_init(&p->piece, MAX_TEXT);
    buf_init(&p->text, MAX_TEXT);
    for (size_t i = 0; i < n; i++)
        p->longest = s[i].n > p->longest ? s[i].n : p->longest;
}

void phrases_finish(struct phrases *p)
{
    buf_finish(&p->piece);
    buf_finish(&p->text);
}

/* Decoded twice in a row: only the first of a text may lose its space. */
struct str phrases_piece(struct phrases *p, int32_t token)
{
    const int32_t twice[] = { token, token };
    buf_clear(&p->piece);
    if (tokenizer_decode(p->t, twice, 2, false, &p->piece, NULL) || p->piece.n == 0)
        return (struct str){ "", 0 };
    size_t n = (p->piece.n + 1) / 2;
    return (struct str){ p->piece.p + p->piece.n - n, n };
}

/* Where one of them first begins that ends after `from`; text.n: nowhere. */
static size_t find(const struct phrases *p, struct str text, size_t from)
{
    size_t first = text.n;
    for (size_t i = 0; i < p->n; i++) {
        struct str s = p->s[i];
        size_t begin = from + 1 > s.n ? from + 1 - s.n : 0;
        if (s.n == 0 || begin + s.n > text.n)
            continue;
        const char *at = memmem(text.p + begin, text.n - begin, s.p, s.n);
        if (at && (size_t)(at - text.p) < first)
            first = (size_t)(at - text.p);
    }
    return first;
}

bool phrases_in_token(struct phrases *p, int32_t token)
{
    struct str piece = phrases_piece(p, token);
    return find(p, piece, 0) < piece.n;
}

bool phrases_end(struct phrases *p, const int32_t *tokens, size_t n)
{
    size_t first = n - 1, before = 0;
    while (first > 0 && before + 1 < p->longest && n - first < p->longest)
        before += phrases_piece(p, tokens[--first]).n;
    buf_clear(&p->text);
    for (size_t i = first; i < n; i++) {
        struct str piece = phrases_piece(p, tokens[i]);
        before = i + 1 == n ? p->text.n : before;
        buf_put(&p->text, piece.p, piece.n);
    }
    return find(p, buf_str(&p->text), before) < p->text.n;
}

size_t phrases_since(struct phrases *p, const int32_t *tokens, size_t n)
{
    size_t k = 0;
    while (k < n && !phrases_end(p, tokens, n - k))
        k++;
    return k;
}

/* ---- banned phrases ------------------------------------------------------------------------------- */

enum err_code hold_create(struct hold **out, const struct tokenizer *t, const struct str *s, size_t n,
                          struct err *e)
{
    struct hold *h = *out = mem_zero(1, sizeof *h);
    if (!h)
        return err_no_memory(e, sizeof *h, "banned phrases");
    phrases_init(&h->phrases, t, s, n);
    buf_init(&h->text, MAX_TEXT);
    h->event = mem_zero(HOLD_MAX, sizeof *h->event);
    if (h->event)
        return ERR_OK;
    hold_destroy(h);
    *out = NULL;
    return err_no_memory(e, HOLD_MAX * sizeof *h->event, "banned phrases");
}

void hold_destroy(struct hold *h)
{
    if (!h)
        return;
    phrases_finish(&h->phrases);
    buf_finish(&h->text);
    mem_free(h->event);
    mem_free(h);
}

/* The token whose text has this byte. */
static uint32_t holder_of(const struct hold *h, size_t at)
{
    uint32_t i = h->n;
    while (i > 0 && h->at[i - 1] > at)
        i--;
    return i > 0 ? i - 1 : h->n;
}

int hold_check(struct hold *h, int32_t token)
{
    struct str piece = phrases_piece(&h->phrases, token);
    size_t before = h->text.n;
    buf_put(&h->text, piece.p, piece.n);
    size_t at = find(&h->phrases, buf_str(&h->text), before);
    bool clean = piece.n == 0 || at == h->text.n;
    if (h->text.n > before) {
        h->text.n = before;
        h->text.p[before] = '\0';
    }
    return clean ? HOLD_CLEAN : at >= before ? (int)h->n : (int)holder_of(h, at);
}

bool hold_ban(struct hold *h, uint32_t position, int32_t token)
{
    if (h->n_tried == HOLD_BANS)
        return false;
    h->n_tried++;
    h->ban[h->n_ban].position = position;
    h->ban[h->n_ban++].token = token;
    return true;
}

size_t hold_banned(struct hold *h, uint32_t position)
{
    size_t n = 0;
    for (uint32_t i = 0; i < h->n_ban; i++)
        if (h->ban[i].position == position)
            h->here[n++] = h->ban[i].token;
    return n;
}

void hold_back_to(struct hold *h, uint32_t i, uint32_t position)
{
    uint32_t n = 0;
    if (i < h->n) {
        h->text.n = h->at[i];
        h->n = i;
    }
    for (uint32_t k = 0; k < h->n_ban; k++)
        if (h->ban[k].position <= position)
            h->ban[n++] = h->ban[k];
    h->n_ban = n;
}

void hold_push(struct hold *h, const struct event *ev, double mu)
{
    struct str piece = phrases_piece(&h->phrases, ev->token);
    h->at[h->n] = h->text.n;
    h->mu[h->n] = mu;
    h->event[h->n++] = *ev;
    buf_put(&h->text, piece.p, piece.n);
}

/* Where in the text the longest beginning of a phrase stands that reaches to its end. */
static size_t begun(const struct hold *h)
{
    size_t longest = 0;
    for (size_t i = 0; i < h->phrases.n; i++) {
        struct str s = h->phrases.s[i];
        size_t n = s.n == 0 ? 0 : s.n - 1 < h->text.n ? s.n - 1 : h->text.n;
        while (n > longest && memcmp(h->text.p + h->text.n - n, s.p, n) != 0)
            n--;
        longest = n > longest ? n : longest;
    }
    return h->text.n - longest;
}

/* Those whose text is all before this byte. */
static uint32_t count_before(const struct hold *h, size_t at)
{
    uint32_t i = holder_of(h, at);
    return i < h->n ? i : 0;
}

size_t hold_release(struct hold *h, bool all, struct event *out)
{
    size_t keep = all ? h->text.n : begun(h);
    uint32_t n = keep == h->text.n ? h->n : count_before(h, keep);
    n = h->n - n == HOLD_MAX ? 1 : n;
    size_t gone = n < h->n && h->at[n] < keep ? h->at[n] : keep, behind = all ? 0 : h->phrases.longest;
    gone = gone > behind ? gone - behind : 0;
    if (gone > 0) {
        memmove(h->text.p, h->text.p + gone, h->text.n - gone);
        h->text.n -= gone;
    }
    for (uint32_t i = n; i < h->n; i++)
        h->at[i] -= gone;
    memcpy(out, h->event, n * sizeof *out);
    h->n -= n;
    memmove(h->event, h->event + n, h->n * sizeof *h->event);
    memmove(h->at, h->at + n, h->n * sizeof *h->at);
    memmove(h->mu, h->mu + n, h->n * sizeof *h->mu);
    return n;
}
