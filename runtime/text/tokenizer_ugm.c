/* SentencePiece's unigram model (Kudo 2018): of all ways to cut a word into tokens the one with
 * the highest sum of scores, found by Viterbi.
 *
 * The text is normalised first by the vocabulary's own rules (charsmap.h), spaces become U+2581.
 * Sums are doubles, as in Hugging Face's; SentencePiece itself stores floats, and of several
 * cuttings that are equally good may take another. A character that no token covers costs the
 * least score less 10; runs of such are one unknown token, or byte tokens where there are these.
 *
 * Where no token has U+2581 after another character (all vocabularies known to us), words are cut
 * one by one. */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

#define UNKNOWN_PENALTY 10.0
#define NOWHERE UINT32_MAX

/* ---- making -------------------------------------------------------------------------------- */

/* What SentencePiece says a user-defined token is worth. */
static double score_of(const struct tokenizer *t, const struct tokenizer_spec *spec, size_t id,
                       double max)
{
    if (t->type[id] == TOKEN_USER_DEFINED)
        return (double)token_text(t, (uint32_t)id).n * max - 0.1;
    return spec->scores ? (double)spec->scores[id] : 0.0;
}

static void set_scores(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    double least = 0, most = 0;
    bool any = false;
    for (size_t i = 0; i < t->n_tokens; i++) {
        if (t->type[i] != TOKEN_NORMAL)
            continue;
        double s = spec->scores ? (double)spec->scores[i] : 0.0;
        least = !any || s < least ? s : least;
        most = !any || s > most ? s : most;
        any = true;
    }
    for (size_t i = 0; i < t->n_tokens; i++)
        t->ugm.score[i] = score_of(t, spec, i, most);
    t->ugm.unknown = least - UNKNOWN_PENALTY;
}

static enum err_code add_pieces(struct tokenizer *t, struct err *e)
{
    struct trie_entry *entry = mem_zero(t->n_tokens, sizeof *entry);
    size_t n = 0;
    t->ugm.words_apart = true;
    for (uint32_t i = 0; entry && i < t->n_tokens; i++) {
        struct str text = token_text(t, i);
        if (text.n == 0 || text.n > TOKENIZER_MAX_PIECE ||
            (t->type[i] != TOKEN_NORMAL && t->type[i] != TOKEN_USER_DEFINED))
            continue;
        entry[n++] = (struct trie_entry){ text, i };
        t->ugm.words_apart = t->ugm.words_apart && !crosses_words(text);
    }
    bool ok = entry && trie_init(&t->ugm.pieces, entry, n);
    mem_free(entry);
    return ok ? ERR_OK : err_no_memory(e, t->n_tokens * sizeof *entry, "the vocabulary");
}

static enum err_code create(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    struct ugm *u = &t->ugm;
    enum err_code code = charsmap_init(&u->rules, spec->charsmap, e);
    if (code)
        return code;
    u->score = mem_zero(t->n_tokens, sizeof *u->score);
    if (!u->score)
        return err_no_memory(e, t->n_tokens * sizeof *u->score, "scores");
    set_scores(t, spec);
    u->space_prefix = spec->add_space_prefix != 0;
    u->remove_extra = spec->remove_extra_whitespaces != 0;
    if (spec->add_eos < 0)
        t->add_eos = true;
    return add_pieces(t, e);
}

/* ---- normalising --------------------------------------------------------------------------- */

/* Puts `text` with "▁" for spaces. *after_space: drop those at its front; kept up to date. */
static void put_chunk(struct buf *b, struct str text, bool remove_extra, bool *after_space)
{
    while (*after_space && text.n && text.p[0] == ' ')
        text = (struct str){ text.p + 1, text.n - 1 };
    put_escaped(b, text);
    if (text.n)
        *after_space = remove_extra && text.p[text.n - 1] == ' ';
}

static void trim_end(struct buf *b)
{
    while (b->n >= 3 && memcmp(b->p + b->n - 3, SPACE_SIGN, 3) == 0)
        b->n -= 3;
}

static void normalise(const struct tokenizer *t, struct str text, struct buf *b)
{
    const struct ugm *u = &t->ugm;
    bool after_space = u->remove_extra, begun = !u->space_prefix;
    for (size_t i = 0; i < text.n;) {
        struct str rest = { text.p + i, text.n - i }, chunk;
        size_t n = charsmap_find(&u->rules, rest, &chunk);
        if (n == 0) {
            n = utf8_step(rest.p, rest.n, NULL);
            chunk = (struct str){ rest.p, n };
        }
        i += n;
        bool blank = after_space && chunk.n == 1 && chunk.p[0] == ' ';
        if (!begun && !blank) {
            buf_puts(b, SPACE_SIGN);
            begun = true;
        }
        put_chunk(b, chunk, u->remove_extra, &after_space);
    }
    if (u->remove_extra)
        trim_end(b);
}

/* ---- cutting ------------------------------------------------------------------------------- */

/* Takes the token that ends at `end` for the best way there if it is better. */
static void offer(struct cutting *c, size_t begin, size_t end, int32_t id, double score)
{
    double sum = c[begin].score + score;
    if (c[end].from != NOWHERE && !(sum > c[end].score))
        return;
    c[end] = (struct cutting){ .score = sum, .from = (uint32_t)begin, .id = id };
}

static void offer_from(const struct tokenizer *t, struct cutting *c, struct str word, size_t begin,
                       size_t char_len)
{
    const struct ugm *u = &t->ugm;
    bool covered = false;
    uint32_t node = 0;
    for (size_t i = begin; i < word.n; i++) {
        node = trie_step(&u->pieces, node, (unsigned char)word.p[i]);
        if (!node)
            break;
        uint32_t id = u->pieces.value[node];
        if (id == TRIE_NONE)
            continue;
        offer(c, begin, i + 1, (int32_t)id, u->score[id]);
        covered = covered || i + 1 == begin + char_len;
    }
    if (!covered)
        offer(c, begin, begin + char_len, TOKEN_NONE, u->unknown);
}

static enum err_code push_cutting(struct encoder *x, struct str word)
{
    struct cutting *c = x->cutting;
    enum err_code code = ERR_OK;
    for (size_t at = word.n; at > 0; at = c[at].from)
        c[c[at].from].to = (uint32_t)at;
    for (size_t at = 0; !code && at < word.n; at = c[at].to) {
        size_t end = c[at].to;
        int32_t id = c[end].id;
        code = id != TOKEN_NONE
                   ? encoder_push(x, id)
                   : encoder_push_bytes(x, (struct str){ word.p + at, end - at });
    }
    return code;
}

static enum err_code encode_word(struct encoder *x, struct str word)
{
    if (!mem_grow(&x->cutting, &x->cap_cutting, word.n + 1, sizeof *x->cutting,
                  TOKENIZER_MAX_TEXT * 4))
        return err_no_memory(x->e, word.n * sizeof *x->cutting, "cutting a word");
    for (size_t i = 0; i <= word.n; i++)
        x->cutting[i] = (struct cutting){ .from = NOWHERE };
    for (size_t i = 0; i < word.n;) {
        size_t n = utf8_step(word.p + i, word.n - i, NULL);
        /* A token may end inside a character where the vocabulary is odd: nothing begins there. */
        offer_from(x->t, x->cutting, word, i, n);
        i += n;
    }
    return push_cutting(x, word);
}

static enum err_code encode(struct encoder *x, struct str text)
{
    struct buf *b = &x->scratch;
    buf_clear(b);
    normalise(x->t, text, b);
    if (b->failed)
        return err_no_memory(x->e, b->n, "normalised text");
    return encode_words(x, buf_str(b), x->t->ugm.words_apart, encode_word);
}

static void piece(const struct tokenizer *t, struct str text, struct buf *out)
{
    (void)t;
    put_unescaped(out, text);
}

static bool drops_space(const struct tokenizer *t)
{
    return t->ugm.space_prefix;
}

const struct kind kind_ugm = {
    .model = "t5",
    .bos = TOKEN_NONE,
    .eos = 1,
    .unk = 2,
    .create = create,
    .encode = encode,
    .piece = piece,
    .drops_space = drops_space,
};
