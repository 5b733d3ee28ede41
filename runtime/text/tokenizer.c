#include "runtime/text/tokenizer.h"

#include <string.h>

#include "runtime/text/tokenizer_priv.h"

/* ---- making -------------------------------------------------------------------------------- */

static const struct {
    const char *model;
    const struct kind *kind;
} kinds[] = {
    { "gpt2", &kind_bpe },
    { "gemma4", &kind_bpe_raw },
    { "whitespace", &kind_bpe }, /* its pre-tokenizer is of this name too */
    { "llama", &kind_spm },
    { "t5", &kind_ugm },
    { "bert", &kind_wpm },
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
    t->tail = t->eos;
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
    t->add_eos = t->add_eos && t->tail != TOKEN_NONE;
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
    charsmap_finish(&t->ugm.rules);
    trie_finish(&t->ugm.pieces);
    mem_free(t->ugm.score);
    trie_finish(&t->specials.trie);
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
        code = specials_partition(t, text, parsing, &sink);
    if (!code && add_special && t->add_eos)
        code = encoder_push(x, t->tail);
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
    mem_free(x.cutting);
    mem_free(x.chars.c);
    queue_finish(&x.queue);
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
    if (id < 0 || (size_t)id >= t->n_tokens)
        return TOKEN_UNUSED;
    return t->flag[id] & TOKEN_SHOWN ? TOKEN_USER_DEFINED : (enum token_type)t->type[id];
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

int32_t tokenizer_fim(const struct tokenizer *t, enum fim which)
{
    return t->fim[which];
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
