#include "runtime/text/tokenizer.h"

#include <string.h>

#include "runtime/text/tokenizer_priv.h"

/* ---- what a vocabulary's well-known texts mean --------------------------------------------- */

enum role {
    ROLE_EOG = 1,     /* ends a generation */
    ROLE_CONTROL = 2, /* a control token, whatever type the file gives it */
    ROLE_TEXT = 4,    /* a control token that is shown (gpt-oss' channels) */
};
#define ROLE_END (ROLE_EOG | ROLE_CONTROL)

/* Files often do not name their end-of-turn tokens, nor type them as control. */
static const struct {
    const char *text;
    unsigned role;
} known_texts[] = {
    { "<|eot_id|>", ROLE_END },
    { "<|im_end|>", ROLE_END },
    { "<|end|>", ROLE_END },
    { "<|return|>", ROLE_END },
    { "<|call|>", ROLE_END },
    { "<|flush|>", ROLE_END },
    { "<|calls|>", ROLE_END },
    { "<end_of_turn>", ROLE_END },
    { "<|endoftext|>", ROLE_END },
    { "</s>", ROLE_END },
    { "<|eom_id|>", ROLE_END },
    { "<EOT>", ROLE_END },
    { "_<EOT>", ROLE_END },
    { "[EOT]", ROLE_END },
    { "[EOS]", ROLE_END },
    { "<|end_of_text|>", ROLE_END },
    { "<end_of_utterance>", ROLE_END },
    { "<eos>", ROLE_END },
    { "<turn|>", ROLE_END },
    { "<|tool_response>", ROLE_END },
    { "<\xEF\xBD\x9C" "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>", ROLE_END },
    { "[e~[", ROLE_END },
    { "<|fim_pad|>", ROLE_END },
    { "<fim-pad>", ROLE_END },
    { "<fim_pad>", ROLE_END },
    { "<PAD>", ROLE_END },
    { "[PAD]", ROLE_END },
    { "<|fim_repo|>", ROLE_END },
    { "<|repo_name|>", ROLE_END },
    { "<fim-repo>", ROLE_END },
    { "<REPO>", ROLE_END },
    { "<reponame>", ROLE_END },
    { "<|file_sep|>", ROLE_END },
    { "<|fim_prefix|>", ROLE_CONTROL },
    { "<fim-prefix>", ROLE_CONTROL },
    { "<fim_prefix>", ROLE_CONTROL },
    { "<\xEF\xBD\x9C" "fim\xE2\x96\x81" "begin\xEF\xBD\x9C>", ROLE_CONTROL },
    { "<PRE>", ROLE_CONTROL },
    { "\xE2\x96\x81<PRE>", ROLE_CONTROL },
    { "<|code_prefix|>", ROLE_CONTROL },
    { "<|prefix|>", ROLE_CONTROL },
    { "<|fim_suffix|>", ROLE_CONTROL },
    { "<fim-suffix>", ROLE_CONTROL },
    { "<fim_suffix>", ROLE_CONTROL },
    { "<\xEF\xBD\x9C" "fim\xE2\x96\x81hole\xEF\xBD\x9C>", ROLE_CONTROL },
    { "<SUF>", ROLE_CONTROL },
    { "\xE2\x96\x81<SUF>", ROLE_CONTROL },
    { "<|code_suffix|>", ROLE_CONTROL },
    { "<|suffix|>", ROLE_CONTROL },
    { "<|fim_middle|>", ROLE_CONTROL },
    { "<fim-middle>", ROLE_CONTROL },
    { "<fim_middle>", ROLE_CONTROL },
    { "<\xEF\xBD\x9C" "fim\xE2\x96\x81" "end\xEF\xBD\x9C>", ROLE_CONTROL },
    { "<MID>", ROLE_CONTROL },
    { "\xE2\x96\x81<MID>", ROLE_CONTROL },
    { "<|code_middle|>", ROLE_CONTROL },
    { "<|middle|>", ROLE_CONTROL },
    { "<|channel|>", ROLE_TEXT },
    { "<|message|>", ROLE_TEXT },
    { "<|start|>", ROLE_TEXT },
    { "<|constrain|>", ROLE_TEXT },
};

static bool has(const struct tokenizer *t, const char *text)
{
    return tokenizer_find(t, str_from(text)) != TOKEN_NONE;
}

static void set_role(struct tokenizer *t, int32_t id, unsigned role)
{
    if (role & ROLE_EOG)
        t->flag[id] |= TOKEN_EOG;
    if (role & ROLE_CONTROL)
        t->type[id] = TOKEN_CONTROL;
    if (role & ROLE_TEXT) {
        t->type[id] = TOKEN_USER_DEFINED;
        t->flag[id] |= TOKEN_TURNS;
    }
}

static void set_end(struct tokenizer *t, int32_t id)
{
    if (id >= 0 && (size_t)id < t->n_tokens)
        t->flag[id] |= TOKEN_EOG;
}

static void set_roles(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    for (size_t i = 0; i < sizeof known_texts / sizeof known_texts[0]; i++) {
        int32_t id = tokenizer_find(t, str_from(known_texts[i].text));
        if (id != TOKEN_NONE)
            set_role(t, id, known_texts[i].role);
    }
    set_end(t, t->eos);
    set_end(t, spec->eot);
    set_end(t, spec->eom);
    for (size_t i = 0; i < spec->n_more_eog; i++)
        set_end(t, spec->more_eog[i]);
    /* gpt-oss and Solar end single messages with <|end|>, and turns with others. */
    bool call = has(t, "<|call|>") || has(t, "<|calls|>");
    int32_t end = tokenizer_find(t, STR("<|end|>"));
    if (end != TOKEN_NONE && call && (has(t, "<|return|>") || has(t, "<|flush|>"))) {
        t->flag[end] &= (uint8_t)~TOKEN_EOG;
        set_role(t, end, ROLE_TEXT);
    }
    /* To Gemma 4 </s> is a tag of HTML. */
    int32_t s = tokenizer_find(t, STR("</s>"));
    if (s != TOKEN_NONE && has(t, "<|tool_response>")) {
        t->flag[s] &= (uint8_t)~TOKEN_EOG;
        t->type[s] = TOKEN_NORMAL;
    }
}

static bool contains(struct str s, const char *part)
{
    struct str p = str_from(part);
    for (size_t i = 0; p.n <= s.n && i <= s.n - p.n; i++)
        if (str_ieq((struct str){ s.p + i, p.n }, p))
            return true;
    return false;
}

static void set_strip(struct tokenizer *t, const char *text, uint8_t flag, bool on)
{
    int32_t id = tokenizer_find(t, str_from(text));
    if (id != TOKEN_NONE)
        t->flag[id] = (uint8_t)(on ? t->flag[id] | flag : t->flag[id] & ~flag);
}

/* Files do not carry the lstrip and rstrip of tokenizer.json; these families have them. */
static void set_strips(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    if (contains(spec->pre, "jina-v2-de") || contains(spec->pre, "jina-v2-es") ||
        contains(spec->pre, "jina-v2-code")) {
        set_strip(t, "<mask>", TOKEN_LSTRIP, true);
    } else if (contains(spec->name, "phi-3") || contains(spec->name, "phi3")) {
        for (size_t id = 0; id < t->n_tokens; id++)
            if (t->type[id] == TOKEN_CONTROL || t->type[id] == TOKEN_USER_DEFINED ||
                t->type[id] == TOKEN_UNKNOWN)
                t->flag[id] |= TOKEN_RSTRIP;
        set_strip(t, "</s>", TOKEN_RSTRIP, true);
        set_strip(t, "<unk>", TOKEN_RSTRIP, false);
        set_strip(t, "<s>", TOKEN_RSTRIP, false);
        set_strip(t, "<|endoftext|>", TOKEN_RSTRIP, false);
    } else if (contains(spec->name, "modern-bert")) {
        set_strip(t, "[MASK]", TOKEN_LSTRIP, true);
    }
}

/* ---- making -------------------------------------------------------------------------------- */

static const struct {
    const char *model;
    const struct kind *kind;
} kinds[] = {
    { "gpt2", &kind_bpe },
    { "gemma4", &kind_bpe_raw },
    { "llama", &kind_spm },
};

static const struct kind *find_kind(struct str model)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (str_is(model, kinds[i].model))
            return kinds[i].kind;
    return NULL;
}

static enum err_code copy_texts(struct tokenizer *t, const struct tokenizer_spec *spec,
                                struct err *e)
{
    size_t total = 0, n = spec->n_tokens;
    for (size_t i = 0; i < n; i++) {
        if (spec->tokens[i].n > TOKENIZER_MAX_VOCAB_TEXT - total)
            return err_set(e, ERR_TOO_LARGE, "tokenizer.ggml.tokens: over %zu bytes",
                           TOKENIZER_MAX_VOCAB_TEXT);
        total += spec->tokens[i].n;
    }
    t->text = mem_alloc(total + 1);
    t->offset = mem_zero(n + 1, sizeof *t->offset);
    t->type = mem_zero(n, sizeof *t->type);
    t->flag = mem_zero(n, sizeof *t->flag);
    t->memo = mem_zero(n, sizeof *t->memo);
    if (!t->text || !t->offset || !t->type || !t->flag || !t->memo)
        return err_no_memory(e, total, "the vocabulary");
    total = 0;
    for (size_t i = 0; i < n; i++) {
        if (spec->tokens[i].n)
            memcpy(t->text + total, spec->tokens[i].p, spec->tokens[i].n);
        total += spec->tokens[i].n;
        t->offset[i + 1] = (uint32_t)total;
        int32_t type = spec->types ? spec->types[i] : TOKEN_NORMAL;
        t->type[i] = type >= TOKEN_NORMAL && type <= TOKEN_BYTE ? (uint8_t)type : TOKEN_NORMAL;
        if (spec->tokens[i].n > t->max_len)
            t->max_len = spec->tokens[i].n;
    }
    t->n_tokens = n;
    return ERR_OK;
}

/* Of equal tokens the lowest id is found by text. An empty one is never found. */
static enum err_code index_texts(struct tokenizer *t, struct err *e)
{
    if (!map_init(&t->ids, t->n_tokens))
        return err_no_memory(e, t->n_tokens, "the vocabulary");
    for (size_t i = t->n_tokens; i-- > 0;) {
        struct str text = token_text(t, (uint32_t)i);
        if (text.n && !map_put(&t->ids, text, (uint32_t)i))
            return err_no_memory(e, t->n_tokens, "the vocabulary");
    }
    static const char hex[] = "0123456789ABCDEF";
    for (size_t b = 0; b < 256; b++) {
        const char text[6] = { '<', '0', 'x', hex[b >> 4], hex[b & 15], '>' };
        t->byte_token[b] = tokenizer_find(t, (struct str){ text, sizeof text });
    }
    return ERR_OK;
}

/* The file's id, else the kind's usual one where that token can play the part. An id out of
 * range counts as none: files with a padding id one past the end are about. */
static int32_t special_id(const struct tokenizer *t, const struct tokenizer_spec *spec, int32_t id,
                          int32_t usual)
{
    if (id >= 0 && (size_t)id < t->n_tokens)
        return id;
    if (usual < 0 || (size_t)usual >= t->n_tokens)
        return TOKEN_NONE;
    return !spec->types || t->type[usual] == TOKEN_CONTROL || t->type[usual] == TOKEN_UNKNOWN
               ? usual
               : TOKEN_NONE;
}

static void set_ids(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    t->bos = special_id(t, spec, spec->bos, t->kind->bos);
    t->eos = special_id(t, spec, spec->eos, t->kind->eos);
    t->unk = special_id(t, spec, spec->unk, t->kind->unk);
    t->add_bos = spec->add_bos > 0;
    t->add_eos = spec->add_eos > 0;
}

static enum err_code check_spec(const struct tokenizer_spec *spec, struct err *e)
{
    if (spec->n_tokens == 0 || !spec->tokens)
        return err_set(e, ERR_FORMAT, "tokenizer.ggml.tokens: no token");
    if (spec->n_tokens > TOKENIZER_MAX_VOCAB)
        return err_set(e, ERR_TOO_LARGE, "tokenizer.ggml.tokens: %zu tokens, at most %zu",
                       spec->n_tokens, TOKENIZER_MAX_VOCAB);
    if (spec->n_merges > TOKENIZER_MAX_VOCAB)
        return err_set(e, ERR_TOO_LARGE, "tokenizer.ggml.merges: %zu merges, at most %zu",
                       spec->n_merges, TOKENIZER_MAX_VOCAB);
    return ERR_OK;
}

enum err_code tokenizer_create(const struct tokenizer_spec *spec, struct tokenizer **out,
                               struct err *e)
{
    *out = NULL;
    const struct kind *kind = find_kind(spec->model);
    if (!kind)
        return err_set(e, ERR_UNSUPPORTED, "tokenizer.ggml.model: no tokenizer \"%.*s\"",
                       (int)(spec->model.n < 64 ? spec->model.n : 64), spec->model.p);
    enum err_code code = check_spec(spec, e);
    if (code)
        return code;
    struct tokenizer *t = mem_zero(1, sizeof *t);
    if (!t)
        return err_no_memory(e, sizeof *t, "the vocabulary");
    t->kind = kind;
    if ((code = copy_texts(t, spec, e)) || (code = index_texts(t, e)))
        goto out;
    set_ids(t, spec);
    set_roles(t, spec);
    set_strips(t, spec);
    if ((code = kind->create(t, spec, e)) || (code = specials_init(t, e)))
        goto out;
    t->add_bos = t->add_bos && t->bos != TOKEN_NONE;
    t->add_eos = t->add_eos && t->eos != TOKEN_NONE;
    *out = t;
    t = NULL;
out:
    tokenizer_destroy(t);
    return code;
}

void tokenizer_destroy(struct tokenizer *t)
{
    if (!t)
        return;
    pretokenizer_destroy(t->bpe.pre);
    mem_free(t->bpe.pair);
    arena_finish(&t->bpe.texts);
    mem_free(t->spm.rank);
    specials_finish(&t->specials);
    map_finish(&t->ids);
    mem_free(t->text);
    mem_free(t->offset);
    mem_free(t->type);
    mem_free(t->flag);
    mem_free((void *)t->memo);
    mem_free(t);
}

/* ---- encoding ------------------------------------------------------------------------------ */

struct str token_text(const struct tokenizer *t, uint32_t id)
{
    return (struct str){ t->text + t->offset[id], t->offset[id + 1] - t->offset[id] };
}

bool token_from_text(const struct tokenizer *t, uint32_t id)
{
    return id < t->n_tokens && t->type[id] != TOKEN_CONTROL && t->type[id] != TOKEN_UNKNOWN &&
           t->type[id] != TOKEN_BYTE && !(t->flag[id] & TOKEN_TURNS);
}

enum err_code encoder_push(struct encoder *x, int32_t id)
{
    struct token_list *l = x->out;
    if (!mem_grow(&l->id, &l->cap, l->n + 1, sizeof *l->id, SIZE_MAX / sizeof *l->id))
        return err_no_memory(x->e, l->n * sizeof *l->id, "tokens");
    l->id[l->n++] = id;
    return ERR_OK;
}

static enum err_code push_unknown(struct encoder *x)
{
    if (x->t->unk == TOKEN_NONE || x->after_unk == x->out->n)
        return ERR_OK;
    enum err_code code = encoder_push(x, x->t->unk);
    x->after_unk = x->out->n;
    return code;
}

enum err_code encoder_push_bytes(struct encoder *x, struct str text)
{
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < text.n; i++)
        if (x->t->byte_token[(unsigned char)text.p[i]] == TOKEN_NONE)
            return push_unknown(x);
    for (size_t i = 0; !code && i < text.n; i++)
        code = encoder_push(x, x->t->byte_token[(unsigned char)text.p[i]]);
    return code;
}

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
    if (x->seen)
        memset(x->seen, 0, SEEN_SLOTS * sizeof *x->seen);
    else if (text_bytes >= SEEN_MIN_TEXT && !(x->seen = mem_zero(SEEN_SLOTS, sizeof *x->seen)))
        return err_no_memory(x->e, SEEN_SLOTS * sizeof *x->seen, "words");
    return ERR_OK;
}

static struct seen *seen_slot(const struct encoder *x, struct str word)
{
    return &x->seen[(map_hash(word) >> 20) % SEEN_SLOTS];
}

bool seen_again(struct encoder *x, struct str word, enum err_code *code)
{
    const struct seen *s = x->seen ? seen_slot(x, word) : NULL;
    if (!s || s->n == 0 || !str_eq(s->word, word))
        return false;
    *code = ERR_OK;
    for (size_t i = 0; !*code && i < s->n; i++)
        *code = encoder_push(x, x->out->id[s->at + i]);
    return true;
}

void seen_put(struct encoder *x, struct str word, size_t at)
{
    /* Unknown tokens run together: what they are depends on what was before. */
    if (x->seen && x->after_unk == SIZE_MAX)
        *seen_slot(x, word) = (struct seen){ word, at, x->out->n - at };
}

static enum err_code encode_text(void *user, struct str part)
{
    struct encoder *x = user;
    return x->t->kind->encode(x, part);
}

static enum err_code encode_token(void *user, int32_t id)
{
    return encoder_push(user, id);
}

static enum err_code encode_parts(struct encoder *x, struct str text, bool add_special,
                                  const struct parsing *parsing)
{
    const struct tokenizer *t = x->t;
    const struct part_sink sink = { encode_text, encode_token, x };
    enum err_code code = ERR_OK;
    if (add_special && t->add_bos)
        code = encoder_push(x, t->bos);
    if (!code)
        code = specials_partition(t, text, parsing, &sink, x->e);
    if (!code && add_special && t->add_eos)
        code = encoder_push(x, t->eos);
    return code;
}

static enum err_code encode_all(const struct tokenizer *t, struct str text, bool add_special,
                                const struct parsing *parsing, struct token_list *out,
                                struct err *e)
{
    if (text.n > TOKENIZER_MAX_TEXT)
        return err_set(e, ERR_TOO_LARGE, "text of %zu bytes, at most %zu", text.n,
                       TOKENIZER_MAX_TEXT);
    size_t valid = utf8_valid(text.p, text.n);
    if (valid < text.n)
        return err_set(e, ERR_INVALID, "text is not UTF-8 at byte %zu", valid);
    struct encoder x = { .t = t, .out = out, .e = e, .after_unk = SIZE_MAX };
    size_t before = out->n;
    buf_init(&x.scratch, SIZE_MAX / 2);
    enum err_code code = encode_parts(&x, text, add_special, parsing);
    if (code)
        out->n = before;
    mem_free(x.seen);
    mem_free(x.symbol);
    mem_free(x.heap.key);
    pre_match_destroy(x.match);
    buf_finish(&x.scratch);
    return code;
}

enum err_code tokenizer_encode(const struct tokenizer *t, struct str text, bool add_special,
                               bool parse_special, struct token_list *out, struct err *e)
{
    const struct parsing parsing = { .control = parse_special };
    return encode_all(t, text, add_special, &parsing, out, e);
}

enum err_code tokenizer_encode_spans(const struct tokenizer *t, struct str text,
                                     const struct spans *content, bool add_special,
                                     struct token_list *out, struct err *e)
{
    const struct parsing parsing = { .control = true, .content = content };
    return encode_all(t, text, add_special, &parsing, out, e);
}

void token_list_finish(struct token_list *l)
{
    mem_free(l->id);
    *l = (struct token_list){ 0 };
}

/* ---- decoding ------------------------------------------------------------------------------ */

void put_escaped(struct buf *b, struct str text)
{
    size_t from = 0;
    for (size_t i = 0; i < text.n; i++)
        if (text.p[i] == ' ') {
            buf_put(b, text.p + from, i - from);
            buf_put(b, "\xE2\x96\x81", 3);
            from = i + 1;
        }
    if (from < text.n)
        buf_put(b, text.p + from, text.n - from);
}

void put_unescaped(struct buf *b, struct str text)
{
    size_t from = 0;
    for (size_t i = 0; i + 3 <= text.n; i++)
        if (memcmp(text.p + i, "\xE2\x96\x81", 3) == 0) {
            buf_put(b, text.p + from, i - from);
            buf_putc(b, ' ');
            from = i + 3;
            i += 2;
        }
    if (from < text.n)
        buf_put(b, text.p + from, text.n - from);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of "<0xXX>", or -1. */
static int byte_of(struct str s)
{
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    int high = hex_digit(s.p[3]), low = hex_digit(s.p[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* One token's bytes. *begun: whether anything of the text was there before; kept up to date. */
static void put_piece(const struct tokenizer *t, int32_t id, bool show_special, bool *begun,
                      struct buf *out)
{
    struct str text = token_text(t, (uint32_t)id);
    unsigned type = t->type[id];
    bool hidden = type == TOKEN_CONTROL || type == TOKEN_UNKNOWN;
    if (hidden && !show_special)
        return;
    int byte = type == TOKEN_BYTE ? byte_of(text) : -1;
    size_t before = out->n;
    if (byte >= 0)
        buf_putc(out, (char)byte);
    else if (hidden || type == TOKEN_USER_DEFINED)
        buf_put(out, text.p, text.n);
    else
        t->kind->piece(t, text, out);
    bool drop = !*begun && type == TOKEN_NORMAL && !out->failed && out->n > before &&
                out->p[before] == ' ' && t->kind->drops_space(t);
    if (drop) {
        memmove(out->p + before, out->p + before + 1, out->n - before); /* and the NUL */
        out->n--;
    }
    *begun = *begun || text.n > 0;
}

static enum err_code check_room(const struct buf *out, struct err *e)
{
    return out->failed ? err_no_memory(e, out->n, "decoded text") : ERR_OK;
}

static enum err_code check_id(const struct tokenizer *t, int32_t id, struct err *e)
{
    if (id >= 0 && (size_t)id < t->n_tokens)
        return ERR_OK;
    return err_set(e, ERR_INVALID, "token %d is not in the vocabulary of %zu", id, t->n_tokens);
}

enum err_code tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                               bool show_special, struct buf *out, struct err *e)
{
    bool begun = false;
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < n; i++)
        code = check_id(t, ids[i], e);
    for (size_t i = 0; !code && i < n; i++)
        put_piece(t, ids[i], show_special, &begun, out);
    return code ? code : check_room(out, e);
}

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool show_special,
                      bool continues)
{
    *d = (struct detokenizer){ .t = t, .show_special = show_special, .begun = continues };
}

/* Length of the sequence at p, 0 when it is begun well but not complete; *valid false: that many
 * bytes are no part of any (the "maximal subpart" of Unicode 15, section 3.9). */
static size_t sequence(const char *p, size_t n, bool *valid)
{
    size_t len = utf8_step(p, n, NULL);
    *valid = len > 0;
    if (len)
        return len;
    /* Some completion is valid if the bytes so far, filled up, are: try the bounds of the second
     * byte where it is missing, and any third and fourth. */
    static const char fill[][4] = { { 0, (char)0x80, (char)0x80, (char)0x80 },
                                    { 0, (char)0xA0, (char)0x80, (char)0x80 } };
    for (size_t keep = n < 3 ? n : 3; keep > 0; keep--)
        for (size_t f = 0; f < 2; f++) {
            char whole[4];
            memcpy(whole, fill[f], 4);
            memcpy(whole, p, keep);
            if (utf8_step(whole, 4, NULL) > keep) {
                *valid = keep == n;
                return keep == n ? 0 : keep;
            }
        }
    return 1;
}

/* Makes out->p[from..] valid UTF-8; what is begun at its end goes back to d->held. */
static void settle(struct detokenizer *d, struct buf *out, size_t from)
{
    size_t ok = from + utf8_valid(out->p + from, out->n - from);
    if (ok == out->n)
        return;
    struct buf tail;
    buf_init(&tail, SIZE_MAX / 2);
    buf_put(&tail, out->p + ok, out->n - ok);
    out->n = ok;
    for (size_t i = 0; i < tail.n && !tail.failed;) {
        bool valid;
        size_t len = sequence(tail.p + i, tail.n - i, &valid);
        if (len == 0) {
            d->n_held = tail.n - i;
            memcpy(d->held, tail.p + i, d->n_held);
            break;
        }
        buf_put(out, valid ? tail.p + i : "\xEF\xBF\xBD", valid ? len : 3);
        i += len;
    }
    out->failed = out->failed || tail.failed;
    buf_put(out, "", 0);
    buf_finish(&tail);
}

enum err_code detokenizer_feed(struct detokenizer *d, int32_t id, struct buf *out, struct err *e)
{
    enum err_code code = check_id(d->t, id, e);
    if (code)
        return code;
    size_t from = out->n;
    buf_put(out, d->held, d->n_held);
    d->n_held = 0;
    put_piece(d->t, id, d->show_special, &d->begun, out);
    if (!out->failed)
        settle(d, out, from);
    return check_room(out, e);
}

void detokenizer_flush(struct detokenizer *d, struct buf *out)
{
    if (d->n_held)
        buf_puts(out, "\xEF\xBF\xBD");
    d->n_held = 0;
}

/* ---- asking -------------------------------------------------------------------------------- */

size_t tokenizer_n_tokens(const struct tokenizer *t)
{
    return t->n_tokens;
}

struct str tokenizer_text(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens ? token_text(t, (uint32_t)id) : STR("");
}

enum token_type tokenizer_type(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens ? (enum token_type)t->type[id] : TOKEN_UNUSED;
}

int32_t tokenizer_find(const struct tokenizer *t, struct str text)
{
    uint32_t id;
    return map_get(&t->ids, text, &id) && id < t->n_tokens ? (int32_t)id : TOKEN_NONE;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_adds_bos(const struct tokenizer *t)
{
    return t->add_bos;
}

bool tokenizer_adds_eos(const struct tokenizer *t)
{
    return t->add_eos;
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (size_t)id < t->n_tokens && (t->flag[id] & TOKEN_EOG);
}
