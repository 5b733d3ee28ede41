/* Cutting a text at special tokens: from the left, the longest that begins at a place, as Hugging
 * Face's tokenizers do it. A trie says which begin there. */
#include "runtime/text/tokenizer_priv.h"

/* Only whole characters are cut out of a text. */
static bool is_special(const struct tokenizer *t, uint32_t id)
{
    struct str text = token_text(t, id);
    return text.n > 0 && text.n <= TOKENIZER_MAX_PIECE && utf8_valid(text.p, text.n) == text.n &&
           (t->type[id] == TOKEN_CONTROL || t->type[id] == TOKEN_USER_DEFINED ||
            t->type[id] == TOKEN_UNKNOWN);
}

enum err_code specials_init(struct tokenizer *t, struct err *e)
{
    struct specials *s = &t->specials;
    struct trie_entry *entry = mem_zero(t->n_tokens, sizeof *entry);
    size_t n = 0;
    for (uint32_t id = 0; entry && id < t->n_tokens; id++)
        if (is_special(t, id)) {
            entry[n] = (struct trie_entry){ token_text(t, id), id };
            s->begins[(unsigned char)entry[n++].text.p[0]] = true;
        }
    bool ok = entry && trie_init(&s->trie, entry, n);
    mem_free(entry);
    return ok ? ERR_OK : err_no_memory(e, t->n_tokens * sizeof *entry, "special tokens");
}

struct cut {
    const struct tokenizer *t;
    struct str s;
    const struct parsing *parsing;
};

/* Whether the token may stand at [begin, end). */
static bool may_stand(const struct cut *c, uint32_t id, size_t begin, size_t end)
{
    const struct spans *content = c->parsing->content;
    bool control = c->t->type[id] != TOKEN_USER_DEFINED;
    bool guarded = control || (c->t->flag[id] & TOKEN_TURNS);
    return (!control || c->parsing->control) &&
           !(guarded && content && spans_touch(content, begin, end));
}

/* The longest token at `at`, or TRIE_NONE. */
static uint32_t longest(const struct cut *c, size_t at)
{
    const struct trie *trie = &c->t->specials.trie;
    uint32_t node = 0, best = TRIE_NONE;
    for (size_t i = at; i < c->s.n; i++) {
        node = trie_step(trie, node, (unsigned char)c->s.p[i]);
        if (!node)
            break;
        uint32_t id = trie->value[node];
        if (id != TRIE_NONE && may_stand(c, id, at, i + 1))
            best = id;
    }
    return best;
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

static enum err_code give_text(const struct cut *c, size_t begin, size_t end,
                               const struct part_sink *sink)
{
    return begin < end ? sink->text(sink->user, (struct str){ c->s.p + begin, end - begin })
                       : ERR_OK;
}

/* The token at [*begin, *end) with the white space that it takes, but none before `from`. */
static void strip(const struct cut *c, unsigned flag, size_t from, size_t *begin, size_t *end)
{
    size_t n;
    while ((flag & TOKEN_LSTRIP) && *begin > from && (n = white_before(c->s, *begin)) > 0)
        *begin -= n;
    while ((flag & TOKEN_RSTRIP) && *end < c->s.n && (n = white_at(c->s, *end)) > 0)
        *end += n;
}

enum err_code specials_partition(const struct tokenizer *t, struct str s,
                                 const struct parsing *parsing, const struct part_sink *sink)
{
    const struct cut c = { t, s, parsing };
    enum err_code code = ERR_OK;
    size_t from = 0;
    for (size_t at = 0; !code && at < s.n;) {
        bool may = t->specials.begins[(unsigned char)s.p[at]];
        uint32_t id = may ? longest(&c, at) : TRIE_NONE;
        if (id == TRIE_NONE) {
            at++;
            continue;
        }
        size_t begin = at, end = at + token_text(t, id).n;
        strip(&c, t->flag[id], from, &begin, &end);
        code = give_text(&c, from, begin, sink);
        if (!code)
            code = sink->token(sink->user, (int32_t)id);
        at = from = end;
    }
    return code ? code : give_text(&c, from, s.n, sink);
}
