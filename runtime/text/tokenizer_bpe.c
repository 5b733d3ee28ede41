/* Byte-level BPE: Sennrich et al. 2016, over bytes as in GPT-2.
 *
 * The vocabulary writes each byte as one printable character (GPT-2's bytes_to_unicode): those of
 * Latin-1 that print stand for themselves, the others for U+0100 and on in order. A word goes to
 * these characters, is looked up whole, and else merged from its bytes. Merges name texts; a text
 * that is no token still takes part as a symbol, and comes out as its bytes.
 *
 * The raw variant (Gemma 4) has plain UTF-8 tokens, U+2581 for a space, and "<0xXX>" bytes. */
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/tokenizer_priv.h"

/* ---- bytes as characters ------------------------------------------------------------------- */

static bool prints(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
}

/* Bytes below b that do not print: 0..20, 7F..A0, AD. */
static unsigned hidden_below(unsigned b)
{
    if (b <= 0x20)
        return b;
    if (b <= 0x7F)
        return 0x21;
    return b <= 0xA0 ? 0x21 + b - 0x7F : b <= 0xAD ? 0x43 : 0x44;
}

static uint32_t char_of_byte(unsigned b)
{
    return prints(b) ? b : 0x100 + hidden_below(b);
}

/* The byte that a character stands for, or -1. */
static int byte_of_char(uint32_t c)
{
    if (c < 0x100)
        return prints(c) ? (int)c : -1;
    if (c > 0x143)
        return -1;
    c -= 0x100;
    return (int)(c <= 0x20 ? c : c <= 0x42 ? c - 0x21 + 0x7F : 0xAD);
}

static size_t put_byte_char(unsigned b, char out[2])
{
    if (b >= 0x21 && b <= 0x7E) {
        out[0] = (char)b;
        return 1;
    }
    char four[4];
    size_t n = utf8_put(char_of_byte(b), four);
    memcpy(out, four, 2);
    return n;
}

/* ---- merges -------------------------------------------------------------------------------- */

static struct bpe_pair *find_pair(const struct bpe *b, uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15U;
    for (size_t i = (size_t)(h >> 32) & b->pair_mask;; i = (i + 1) & b->pair_mask) {
        struct bpe_pair *p = &b->pair[i];
        if (p->rank == NO_RANK || (p->left == left && p->right == right))
            return p;
    }
}

/* The symbol of a text: a token, or one that only merges name, made when it is new. */
static bool intern(struct tokenizer *t, struct str text, uint32_t *out)
{
    if (map_get(&t->ids, text, out))
        return true;
    char *copy = arena_strndup(&t->bpe.texts, text.p, text.n);
    *out = t->bpe.n_symbols++;
    return copy && map_put(&t->ids, (struct str){ copy, text.n }, *out);
}

/* "left right", the space being the first after the first byte. */
static bool cut_merge(struct str s, struct str *left, struct str *right)
{
    const char *space = s.n > 2 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
    if (!space || space + 1 == s.p + s.n)
        return false;
    *left = (struct str){ s.p, (size_t)(space - s.p) };
    *right = (struct str){ space + 1, s.n - left->n - 1 };
    return true;
}

static enum err_code add_merge(struct tokenizer *t, struct str text, uint32_t rank,
                               struct buf *joined, struct err *e)
{
    struct str left, right;
    uint32_t l, r, into;
    if (!cut_merge(text, &left, &right))
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.merges: number %u is not two texts", rank);
    buf_clear(joined);
    buf_put(joined, left.p, left.n);
    buf_put(joined, right.p, right.n);
    if (joined->failed || !intern(t, left, &l) || !intern(t, right, &r) ||
        !intern(t, buf_str(joined), &into))
        return err_no_memory(e, text.n, "merges");
    /* Text must not become a control token. */
    if (into < t->n_tokens && !token_from_text(t, into))
        return ERR_OK;
    struct bpe_pair *p = find_pair(&t->bpe, l, r);
    if (p->rank == NO_RANK)
        *p = (struct bpe_pair){ l, r, rank, into };
    return ERR_OK;
}

static enum err_code add_merges(struct tokenizer *t, const struct tokenizer_spec *spec,
                                struct err *e)
{
    size_t slots = 16;
    while (slots < spec->n_merges * 2)
        slots *= 2;
    t->bpe.pair = mem_alloc(slots * sizeof *t->bpe.pair);
    if (!t->bpe.pair)
        return err_no_memory(e, slots * sizeof *t->bpe.pair, "merges");
    for (size_t i = 0; i < slots; i++)
        t->bpe.pair[i].rank = NO_RANK;
    t->bpe.pair_mask = slots - 1;
    struct buf joined;
    buf_init(&joined, TOKENIZER_MAX_VOCAB_TEXT);
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < spec->n_merges; i++)
        code = add_merge(t, spec->merges[i], (uint32_t)i, &joined, e);
    buf_finish(&joined);
    return code;
}

static enum err_code add_bytes(struct tokenizer *t, struct err *e)
{
    for (unsigned b = 0; b < 256; b++) {
        char text[2];
        size_t n = put_byte_char(b, text);
        if (!intern(t, (struct str){ text, n }, &t->bpe.byte[b]))
            return err_no_memory(e, n, "the vocabulary");
    }
    return ERR_OK;
}

static enum err_code create(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    bool gemma = str_is(spec->model, "gemma4");
    enum err_code code =
        pretokenizer_create(gemma ? STR("gemma4") : spec->pre, &t->bpe.pre, e);
    if (code)
        return code;
    if (!spec->merges)
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.merges: missing");
    t->bpe.flags = pretokenizer_flags(t->bpe.pre);
    t->bpe.lower = spec->lowercase > 0;
    if (t->bpe.flags & PRE_RAW)
        t->kind = &kind_bpe_raw;
    if ((t->bpe.flags & PRE_NO_BOS) && spec->bos < 0)
        t->bos = TOKEN_NONE;
    if (spec->add_bos < 0)
        t->add_bos = (t->bpe.flags & PRE_ADD_BOS) != 0;
    if (t->bpe.flags & PRE_FORCE_BOS)
        t->add_bos = true;
    t->bpe.n_symbols = (uint32_t)t->n_tokens;
    if ((code = add_bytes(t, e)))
        return code;
    return add_merges(t, spec, e);
}

/* ---- encoding ------------------------------------------------------------------------------ */

static void pair(const struct tokenizer *t, const char *text, struct symbol *a,
                 const struct symbol *b)
{
    (void)text;
    const struct bpe_pair *p = find_pair(&t->bpe, a->id, b->id);
    a->rank = p->rank;
    a->into = p->into;
}

/* A symbol that is no token comes out as its bytes; bytes that the vocabulary lacks do not. */
static enum err_code push_symbol(struct encoder *x, const char *text, const struct symbol *s)
{
    const struct tokenizer *t = x->t;
    enum err_code code = ERR_OK;
    if (token_from_text(t, s->id))
        return encoder_push(x, (int32_t)s->id);
    if (t->bpe.flags & PRE_RAW)
        return encoder_push_bytes(x, (struct str){ text + s->start, s->len });
    for (uint32_t i = 0; !code && i < s->len; i++) {
        uint32_t id = t->bpe.byte[(unsigned char)text[s->start + i]];
        if (token_from_text(t, id))
            code = encoder_push(x, (int32_t)id);
    }
    return code;
}

static enum err_code push_merged(struct encoder *x, const char *text)
{
    enum err_code code = ERR_OK;
    for (uint32_t i = 0; !code && i != NO_SYMBOL; i = x->symbol[i].next)
        code = push_symbol(x, text, &x->symbol[i]);
    return code;
}

static enum err_code begin_bytes(struct encoder *x, struct str word)
{
    enum err_code code = merge_begin(x, word.n);
    for (uint32_t i = 0; !code && i < word.n; i++) {
        x->symbol[i].start = i;
        x->symbol[i].len = 1;
        x->symbol[i].id = x->t->bpe.byte[(unsigned char)word.p[i]];
    }
    return code;
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
        s->start = at;
        s->len = len;
        if (!map_get(&x->t->ids, (struct str){ word.p + at, len }, &s->id))
            s->id = NO_SYMBOL;
        at += len;
    }
    return code;
}

/* Merges the word, which the vocabulary writes as token `id` if it is one. */
static enum err_code merge_word(struct encoder *x, struct str word, int32_t id)
{
    bool raw = x->t->bpe.flags & PRE_RAW;
    enum err_code code = raw ? begin_chars(x, word) : begin_bytes(x, word);
    if (!code)
        code = merge_run(x, word.p, pair);
    if (!code && id != TOKEN_NONE)
        memo_set(x->t, id, x->symbol[0].next == NO_SYMBOL);
    return code ? code : push_merged(x, word.p);
}

/* The word as the vocabulary writes it, in `small` if it fits there. */
static struct str as_written(struct encoder *x, struct str word, char small[256])
{
    char *to = small;
    if (word.n > 128) {
        buf_clear(&x->scratch);
        for (size_t i = 0; i < word.n; i++) {
            char two[2];
            buf_put(&x->scratch, two, put_byte_char((unsigned char)word.p[i], two));
        }
        return buf_str(&x->scratch);
    }
    for (size_t i = 0; i < word.n; i++)
        to += put_byte_char((unsigned char)word.p[i], to);
    return (struct str){ small, (size_t)(to - small) };
}

static bool only_newlines(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\n')
            return false;
    return true;
}

static enum err_code encode_word(void *user, struct str word)
{
    struct encoder *x = user;
    const struct tokenizer *t = x->t;
    char small[256];
    int32_t id = TOKEN_NONE;
    bool known = false;
    uint32_t first = 0;
    if ((t->bpe.flags & PRE_WORDS) && utf8_step(word.p, word.n, &first) && char_is_white(first))
        return ERR_OK;
    enum err_code code;
    if (seen_again(x, word, &code))
        return code;
    bool always = (t->bpe.flags & PRE_IGNORE_MERGES) ||
                  ((t->bpe.flags & PRE_NEWLINES) && only_newlines(word));
    if (t->bpe.flags & PRE_RAW)
        memo_get(t, word, always, &id, &known);
    else if (word.n <= t->max_len)
        memo_get(t, as_written(x, word, small), always, &id, &known);
    if (x->scratch.failed)
        return err_no_memory(x->e, word.n, "a word");
    size_t at = x->out->n;
    code = known ? encoder_push(x, id) : merge_word(x, word, id);
    if (!code)
        seen_put(x, word, at);
    return code;
}

static enum err_code encode(struct encoder *x, struct str text)
{
    enum err_code code = seen_begin(x, text.n);
    if (code)
        return code;
    if (!x->match && (code = pre_match_create(x->t->bpe.pre, &x->match, x->e)))
        return code;
    return pretokenizer_split(x->t->bpe.pre, x->match, text, encode_word, x, x->e);
}

static void put_lower(struct buf *b, struct str text)
{
    for (size_t i = 0; i < text.n;) {
        uint32_t c = 0;
        char four[4];
        i += utf8_step(text.p + i, text.n - i, &c);
        buf_put(b, four, utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), four));
    }
}

static enum err_code encode_raw(struct encoder *x, struct str text)
{
    const struct bpe *bpe = &x->t->bpe;
    if ((bpe->flags & PRE_WORDS) && !bpe->lower)
        return encode(x, text);
    struct buf escaped;
    buf_init(&escaped, SIZE_MAX / 2);
    if (bpe->flags & PRE_WORDS)
        put_lower(&escaped, text);
    else
        put_escaped(&escaped, text);
    enum err_code code = escaped.failed ? err_no_memory(x->e, escaped.n, "escaped text")
                                        : encode(x, buf_str(&escaped));
    buf_finish(&escaped);
    return code;
}

/* ---- decoding ------------------------------------------------------------------------------ */

static void piece(const struct tokenizer *t, struct str text, struct buf *out)
{
    (void)t;
    for (size_t i = 0; i < text.n;) {
        uint32_t c;
        size_t n = utf8_step(text.p + i, text.n - i, &c);
        int byte = n ? byte_of_char(c) : -1;
        if (byte >= 0)
            buf_putc(out, (char)byte);
        else
            buf_put(out, text.p + i, n ? n : 1);
        i += n ? n : 1;
    }
}

static void piece_raw(const struct tokenizer *t, struct str text, struct buf *out)
{
    (void)t;
    put_unescaped(out, text);
}

static bool keeps_space(const struct tokenizer *t)
{
    (void)t;
    return false;
}

const struct kind kind_bpe = {
    .model = "gpt2",
    .bos = 11,
    .eos = 11,
    .unk = TOKEN_NONE,
    .create = create,
    .encode = encode,
    .piece = piece,
    .drops_space = keeps_space,
};

const struct kind kind_bpe_raw = {
    .model = "gemma4",
    .bos = TOKEN_NONE,
    .eos = TOKEN_NONE,
    .unk = TOKEN_NONE,
    .create = create,
    .encode = encode_raw,
    .piece = piece_raw,
    .drops_space = keeps_space,
};
