/* SentencePiece's BPE (Kudo & Richardson 2018): two neighbours merge when their joined text is a
 * token, the highest score first. Spaces are written U+2581; characters that are no token come
 * out as byte tokens.
 *
 * Where no token has U+2581 after another character (all vocabularies known to us), merges never
 * cross the border before it, so that words are merged one by one. */
#include <math.h>
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

/* Orders as the scores do, highest first; NaN last. */
static uint32_t rank_of_score(float score)
{
    if (isnan(score))
        return NO_RANK - 1;
    score += 0.0F; /* -0 is 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    uint32_t rising = bits & 0x80000000U ? ~bits : bits | 0x80000000U;
    return ~rising;
}

static enum err_code create(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    struct spm *s = &t->spm;
    s->rank = mem_zero(t->n_tokens, sizeof *s->rank);
    if (!s->rank)
        return err_no_memory(e, t->n_tokens * sizeof *s->rank, "scores");
    s->words_apart = true;
    for (size_t i = 0; i < t->n_tokens; i++) {
        s->rank[i] = rank_of_score(spec->scores ? spec->scores[i] : 0.0F);
        if (s->words_apart && token_from_text(t, (uint32_t)i))
            s->words_apart = !crosses_words(token_text(t, (uint32_t)i));
    }
    s->space_prefix = spec->add_space_prefix != 0;
    s->remove_extra = spec->remove_extra_whitespaces > 0;
    if (spec->add_bos < 0)
        t->add_bos = true;
    return ERR_OK;
}

static void pair(const struct tokenizer *t, const char *text, struct symbol *a,
                 const struct symbol *b)
{
    struct str joined = { text + a->start, (size_t)a->len + b->len };
    uint32_t id;
    if (joined.n > t->max_len || !map_get(&t->ids, joined, &id) || !token_from_text(t, id))
        return;
    a->rank = t->spm.rank[id];
    a->into = id;
}

static enum err_code begin_chars(struct encoder *x, struct str word)
{
    size_t n = 0;
    for (size_t i = 0; i < word.n; i += utf8_step(word.p + i, word.n - i, NULL))
        n++;
    enum err_code code = merge_begin(x, n);
    uint32_t at = 0;
    for (size_t i = 0; !code && i < n; i++) {
        uint32_t len = (uint32_t)utf8_step(word.p + at, word.n - at, NULL);
        struct symbol *s = &x->symbol[i];
        *s = (struct symbol){ .start = at, .len = len, .prev = s->prev, .next = s->next };
        if (!map_get(&x->t->ids, (struct str){ word.p + at, len }, &s->id))
            s->id = NO_SYMBOL;
        at += len;
    }
    return code;
}

static enum err_code push_merged(struct encoder *x, const char *text)
{
    enum err_code code = ERR_OK;
    for (uint32_t i = 0; !code && i != NO_SYMBOL; i = x->symbol[i].next) {
        const struct symbol *s = &x->symbol[i];
        code = token_from_text(x->t, s->id)
                   ? encoder_push(x, (int32_t)s->id)
                   : encoder_push_bytes(x, (struct str){ text + s->start, s->len });
    }
    return code;
}

static enum err_code encode_word(struct encoder *x, struct str word)
{
    int32_t id;
    bool known;
    memo_get(x->t, word, false, &id, &known);
    if (known)
        return encoder_push(x, id);
    enum err_code code = begin_chars(x, word);
    if (!code)
        code = merge_run(x, word.p, pair);
    if (!code && id != TOKEN_NONE)
        memo_set(x->t, id, x->symbol[0].next == NO_SYMBOL);
    return code ? code : push_merged(x, word.p);
}

/* Runs of spaces become one, those at the ends go (SentencePiece's remove_extra_whitespaces). */
static void put_trimmed(struct buf *b, struct str text)
{
    size_t from = 0;
    while (from < text.n) {
        size_t begin = from;
        while (begin < text.n && text.p[begin] == ' ')
            begin++;
        size_t end = begin;
        while (end < text.n && text.p[end] != ' ')
            end++;
        if (from > 0 && end > begin)
            buf_puts(b, SPACE_SIGN);
        buf_put(b, text.p + begin, end - begin);
        from = end;
    }
}

static enum err_code encode(struct encoder *x, struct str text)
{
    struct buf *b = &x->scratch;
    buf_clear(b);
    if (x->t->spm.space_prefix)
        buf_puts(b, SPACE_SIGN);
    size_t prefix = b->n;
    if (x->t->spm.remove_extra)
        put_trimmed(b, text);
    else
        put_escaped(b, text);
    if (b->n == prefix)
        return b->failed ? err_no_memory(x->e, b->n, "escaped text") : ERR_OK;
    if (b->failed)
        return err_no_memory(x->e, b->n, "escaped text");
    return encode_words(x, buf_str(b), x->t->spm.words_apart, encode_word);
}

static void piece(const struct tokenizer *t, struct str text, struct buf *out)
{
    (void)t;
    put_unescaped(out, text);
}

static bool drops_space(const struct tokenizer *t)
{
    return t->spm.space_prefix;
}

const struct kind kind_spm = {
    .model = "llama",
    .bos = 1,
    .eos = 2,
    .unk = 0,
    .create = create,
    .encode = encode,
    .piece = piece,
    .drops_space = drops_space,
};
