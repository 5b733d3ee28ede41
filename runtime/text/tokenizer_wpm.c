/* WordPiece as BERT has it (Devlin et al. 2018): words and signs, each cut from the left into the
 * longest tokens that fit, or one unknown token for all of it.
 *
 * What a word is: Hugging Face's BertNormalizer and BertPreTokenizer. Control characters go,
 * white space parts words, ideographs and punctuation are words of their own; letters lose their
 * case and accents where the vocabulary says so.
 *
 * In files the tokens that begin a word have U+2581 in front, those that go on one are bare; a
 * vocabulary that has no U+2581 but "##" is taken as BERT's own vocab.txt has it. */
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/tokenizer_priv.h"

#define MAX_WORD 100    /* characters: longer ones are unknown */
#define MAX_REORDER 32  /* marks in a row that are put in canonical order */

/* ---- characters ---------------------------------------------------------------------------- */

/* Control characters, to BERT, are those of Unicode but for three: it drops U+0085, a space too. */
static bool is_dropped(uint32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r')
        return false;
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return c == 0 || c == 0xFFFD || k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_CO || k == UTF8PROC_CATEGORY_CS;
}

static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static bool is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
               (c >= 123 && c <= 126);
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* ---- making -------------------------------------------------------------------------------- */

static enum err_code create(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e)
{
    (void)e;
    bool spaces = false, hashes = false;
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        spaces = spaces || str_starts(token_text(t, i), STR(SPACE_SIGN));
        hashes = hashes || (token_text(t, i).n > 2 && str_starts(token_text(t, i), STR("##")));
    }
    t->wpm.hashes = hashes && !spaces;
    t->wpm.lower = spec->lowercase != 0;
    t->wpm.strip = spec->strip_accents < 0 ? t->wpm.lower : spec->strip_accents != 0;
    /* [CLS] text [SEP]; a file may call [SEP] its EOS as well. */
    if (t->bos == TOKEN_NONE)
        t->bos = tokenizer_find(t, STR("[CLS]"));
    t->tail = spec->sep >= 0 && (size_t)spec->sep < t->n_tokens ? spec->sep
              : t->eos != TOKEN_NONE                            ? t->eos
                                                                : tokenizer_find(t, STR("[SEP]"));
    t->add_bos = spec->add_bos != 0;
    t->add_eos = spec->add_sep != 0 || spec->add_eos > 0;
    return ERR_OK;
}

/* ---- cutting a word ------------------------------------------------------------------------ */

/* The longest token at the front of `rest`: its length there, or 0. */
static size_t longest(const struct tokenizer *t, struct str rest, bool first, uint32_t *id)
{
    char text[MAX_WORD * 4 + 3];
    const char *prefix = first ? (t->wpm.hashes ? "" : SPACE_SIGN) : t->wpm.hashes ? "##" : "";
    size_t n = strlen(prefix);
    if (!first && !t->wpm.hashes && str_starts(rest, STR(SPACE_SIGN)))
        return 0; /* bare tokens do not begin with the sign */
    memcpy(text, prefix, n);
    memcpy(text + n, rest.p, rest.n);
    size_t len = n + rest.n > t->max_len ? (t->max_len > n ? t->max_len - n : 0) : rest.n;
    while (len > 0) {
        if (map_get(&t->ids, (struct str){ text, n + len }, id) && token_from_text(t, *id))
            return len;
        len--;
        while (len > 0 && ((unsigned char)rest.p[len] & 0xC0U) == 0x80U)
            len--;
    }
    return 0;
}

static enum err_code push_word(struct encoder *x, struct str word, size_t n_chars)
{
    size_t before = x->out->n;
    enum err_code code = ERR_OK;
    bool known = n_chars <= MAX_WORD;
    for (size_t at = 0; !code && known && at < word.n;) {
        uint32_t id = 0;
        size_t n = longest(x->t, (struct str){ word.p + at, word.n - at }, at == 0, &id);
        known = n > 0;
        if (known)
            code = encoder_push(x, (int32_t)id);
        at += n;
    }
    if (code || known)
        return code;
    x->out->n = before;
    return x->t->unk == TOKEN_NONE ? ERR_OK : encoder_push(x, x->t->unk);
}

/* ---- cutting a text ------------------------------------------------------------------------ */

static enum err_code put_char(struct encoder *x, uint32_t c)
{
    struct chars *l = &x->chars;
    if (!mem_grow(&l->c, &l->cap, l->n + 1, sizeof *l->c, TOKENIZER_MAX_TEXT * 4))
        return err_no_memory(x->e, l->n * sizeof *l->c, "a word");
    l->c[l->n++] = c;
    return ERR_OK;
}

/* Marks that belong before the last ones move there (Unicode 15, 3.11, canonical ordering). */
static void reorder_last(struct chars *l)
{
    size_t i = l->n - 1;
    int class = utf8proc_get_property((utf8proc_int32_t)l->c[i])->combining_class;
    for (size_t steps = 0; class && i > 0 && steps < MAX_REORDER; steps++, i--) {
        uint32_t before = l->c[i - 1];
        if (utf8proc_get_property((utf8proc_int32_t)before)->combining_class <= class)
            break;
        l->c[i - 1] = l->c[i];
        l->c[i] = before;
    }
}

static enum err_code put_lower(struct encoder *x, uint32_t c)
{
    if (!x->t->wpm.lower)
        return put_char(x, c);
    if (c != 0x130) /* the one letter whose small form is two characters */
        return put_char(x, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
    enum err_code code = put_char(x, 'i');
    return code ? code : put_char(x, 0x307);
}

static enum err_code put_normalised(struct encoder *x, uint32_t c)
{
    utf8proc_int32_t part[4] = { (utf8proc_int32_t)c };
    utf8proc_ssize_t n = 1;
    if (x->t->wpm.strip && c >= 0xC0) {
        int last = 0;
        n = utf8proc_decompose_char((utf8proc_int32_t)c, part, 4, UTF8PROC_DECOMPOSE, &last);
    }
    enum err_code code = ERR_OK;
    for (utf8proc_ssize_t i = 0; !code && i < n && i < 4; i++) {
        if (x->t->wpm.strip && utf8proc_category(part[i]) == UTF8PROC_CATEGORY_MN)
            continue;
        code = put_lower(x, (uint32_t)part[i]);
        if (!code && x->t->wpm.strip)
            reorder_last(&x->chars);
    }
    return code;
}

/* The words and signs of x->chars. */
static enum err_code flush(struct encoder *x)
{
    size_t begin = 0, end = x->chars.n;
    enum err_code code = ERR_OK;
    while (!code && begin < end) {
        size_t n = 0;
        buf_clear(&x->scratch);
        do {
            char four[4];
            buf_put(&x->scratch, four, utf8_put(x->chars.c[begin + n], four));
            n++;
        } while (begin + n < end && !is_punctuation(x->chars.c[begin + n - 1]) &&
                 !is_punctuation(x->chars.c[begin + n]));
        code = x->scratch.failed ? err_no_memory(x->e, n * 4, "a word")
                                 : push_word(x, buf_str(&x->scratch), n);
        begin += n;
    }
    x->chars.n = 0;
    return code;
}

static enum err_code encode(struct encoder *x, struct str text)
{
    enum err_code code = ERR_OK;
    x->chars.n = 0;
    for (size_t i = 0; !code && i < text.n;) {
        uint32_t c = 0;
        i += utf8_step(text.p + i, text.n - i, &c);
        if (is_dropped(c))
            continue;
        bool space = char_is_white(c), apart = space || is_ideograph(c);
        if (apart)
            code = flush(x);
        if (!code && !space)
            code = put_normalised(x, c);
        if (!code && apart)
            code = flush(x);
    }
    return code ? code : flush(x);
}

/* ---- decoding ------------------------------------------------------------------------------ */

static void piece(const struct tokenizer *t, struct str text, struct buf *out)
{
    if (!t->wpm.hashes) {
        put_unescaped(out, text);
    } else if (str_starts(text, STR("##"))) {
        buf_put(out, text.p + 2, text.n - 2);
    } else {
        buf_putc(out, ' ');
        buf_put(out, text.p, text.n);
    }
}

static bool drops_space(const struct tokenizer *t)
{
    (void)t;
    return true;
}

const struct kind kind_wpm = {
    .model = "bert",
    .bos = 101,
    .eos = TOKEN_NONE,
    .unk = 100,
    .create = create,
    .encode = encode,
    .piece = piece,
    .drops_space = drops_space,
};
