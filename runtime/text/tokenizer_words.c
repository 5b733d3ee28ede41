/* Words of a text, and what is known of them already. */
#include <string.h>

#include "runtime/text/tokenizer_priv.h"

void memo_get(const struct tokenizer *t, struct str text, bool always, int32_t *id, bool *known)
{
    uint32_t found;
    *id = TOKEN_NONE;
    *known = false;
    if (text.n > t->max_len || !map_get(&t->ids, text, &found) || !token_from_text(t, found))
        return;
    *id = (int32_t)found;
    *known = always || atomic_load_explicit(&t->memo[found], memory_order_relaxed) == MEMO_WHOLE;
}

void memo_set(const struct tokenizer *t, int32_t id, bool whole)
{
    atomic_store_explicit(&t->memo[id], whole ? MEMO_WHOLE : MEMO_PARTS, memory_order_relaxed);
}

enum err_code seen_begin(struct encoder *x, size_t text_bytes)
{
    if (!x->seen && text_bytes < SEEN_MIN_TEXT)
        return ERR_OK;
    if (!x->seen && !(x->seen = mem_zero(SEEN_SLOTS, sizeof *x->seen)))
        return err_no_memory(x->e, SEEN_SLOTS * sizeof *x->seen, "words");
    if (x->seen_used)
        memset(x->seen, 0, SEEN_SLOTS * sizeof *x->seen);
    x->seen_used = false;
    return ERR_OK;
}

/* The word's first and last eight bytes, which say all of one of up to sixteen. */
static void read_ends(struct str word, uint64_t ends[2])
{
    ends[0] = ends[1] = 0;
    if (word.n >= 8) {
        memcpy(&ends[0], word.p, 8);
        memcpy(&ends[1], word.p + word.n - 8, 8);
    } else if (word.n >= 4) {
        memcpy(&ends[0], word.p, 4);
        memcpy(&ends[1], word.p + word.n - 4, 4);
    } else {
        memcpy(&ends[0], word.p, word.n);
    }
}

static struct seen *seen_slot(const struct encoder *x, const uint64_t ends[2], size_t len)
{
    uint64_t h = (ends[0] ^ (ends[1] << 23 | ends[1] >> 41) ^ len) * 0x9E3779B97F4A7C15U;
    return &x->seen[(h ^ h >> 32) * 0x9E3779B97F4A7C15U >> 53];
}

bool seen_again(struct encoder *x, struct str word, enum err_code *code)
{
    uint64_t ends[2];
    if (!x->seen)
        return false;
    read_ends(word, ends);
    const struct seen *s = seen_slot(x, ends, word.n);
    if (s->n == 0 || s->len != word.n || s->ends[0] != ends[0] || s->ends[1] != ends[1] ||
        (word.n > 16 && memcmp(s->p, word.p, word.n) != 0))
        return false;
    *code = ERR_OK;
    for (size_t i = 0; !*code && i < s->n; i++)
        *code = encoder_push(x, s->n <= 2 ? s->ids.id[i] : x->out->id[s->ids.at + i]);
    return true;
}

void seen_put(struct encoder *x, struct str word, size_t at)
{
    size_t n = x->out->n - at;
    /* Unknown tokens run together: what they are depends on what was before. */
    if (!x->seen || x->after_unk != SIZE_MAX || word.n > UINT32_MAX || n > UINT32_MAX || n == 0)
        return;
    struct seen s = { .p = word.p, .len = (uint32_t)word.n, .n = (uint32_t)n };
    read_ends(word, s.ends);
    if (n <= 2)
        memcpy(s.ids.id, x->out->id + at, n * sizeof *s.ids.id);
    else
        s.ids.at = at;
    *seen_slot(x, s.ends, word.n) = s;
    x->seen_used = true;
}

static bool starts_with_space(const char *p, size_t n)
{
    return n >= 3 && memcmp(p, SPACE_SIGN, 3) == 0;
}

/* Whether a word may begin at p + i: U+2581 after something else. */
static bool word_border(struct str s, size_t i)
{
    return i > 0 && starts_with_space(s.p + i, s.n - i) &&
           !(i >= 3 && starts_with_space(s.p + i - 3, 3));
}

bool crosses_words(struct str token)
{
    for (size_t i = 1; i < token.n; i++)
        if (word_border(token, i))
            return true;
    return false;
}

enum err_code encode_words(struct encoder *x, struct str text, bool apart,
                           enum err_code (*encode_word)(struct encoder *x, struct str word))
{
    enum err_code code = seen_begin(x, text.n);
    for (size_t from = 0, end; !code && from < text.n; from = end) {
        end = apart ? from + 1 : text.n;
        while (end < text.n && !word_border(text, end))
            end++;
        struct str word = { text.p + from, end - from };
        size_t at = x->out->n;
        if (seen_again(x, word, &code))
            continue;
        code = encode_word(x, word);
        if (!code)
            seen_put(x, word, at);
    }
    return code;
}

bool char_is_white(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}
