/* Keys tokenizer.ggml.* -> tokenizer_spec. */
#include "runtime/base/mem.h"
#include "runtime/engine/words_priv.h"

#define KEY(name) "tokenizer.ggml." name

/* An array of strings as slices into the file's header. *out is NULL when the key is absent. */
static enum err_code read_strings(const struct gguf *g, const char *key, const struct str **out,
                                  size_t *n, struct err *e)
{
    const struct gguf_value *v;
    enum err_code code = gguf_array(g, key, &v, e);
    if (code || !v)
        return code;
    if (v->type != GGUF_STRING)
        return err_set(e, ERR_FORMAT, "key '%s' is not an array of strings", key);
    struct str *s = mem_zero((size_t)v->n, sizeof *s);
    if (!s)
        return err_no_memory(e, (size_t)v->n * sizeof *s, key);
    *out = s;
    *n = (size_t)v->n;
    struct gguf_strings at = gguf_strings(v);
    for (size_t i = 0; i < *n && gguf_next_str(&at, &s[i]); i++) {
    }
    return ERR_OK;
}

/* An array with a number for every token; *v is NULL when absent. */
static enum err_code find_per_token(const struct gguf *g, const char *key, size_t n_tokens,
                                    const struct gguf_value **v, struct err *e)
{
    enum err_code code = gguf_array(g, key, v, e);
    if (!code && *v && (*v)->n < n_tokens)
        code = err_set(e, ERR_FORMAT, "key '%s' has %llu elements for %zu tokens", key,
                       (unsigned long long)(*v)->n, n_tokens);
    return code;
}

static enum err_code read_scores(const struct gguf *g, size_t n, float **out, struct err *e)
{
    const struct gguf_value *v;
    enum err_code code = find_per_token(g, KEY("scores"), n, &v, e);
    if (code || !v)
        return code;
    if (!(*out = mem_zero(n, sizeof **out)))
        return err_no_memory(e, n * sizeof **out, KEY("scores"));
    for (size_t i = 0; i < n; i++) {
        double d;
        if (!gguf_at_f64(v, i, &d))
            return err_set(e, ERR_FORMAT, "key '%s' is not an array of numbers", KEY("scores"));
        (*out)[i] = (float)d;
    }
    return ERR_OK;
}

static enum err_code read_types(const struct gguf *g, size_t n, int32_t **out, struct err *e)
{
    const struct gguf_value *v;
    enum err_code code = find_per_token(g, KEY("token_type"), n, &v, e);
    if (code || !v)
        return code;
    if (!(*out = mem_zero(n, sizeof **out)))
        return err_no_memory(e, n * sizeof **out, KEY("token_type"));
    for (size_t i = 0; i < n; i++) {
        int64_t t;
        if (!gguf_at_i64(v, i, &t))
            return err_set(e, ERR_FORMAT, "key '%s' is not an array of integers",
                           KEY("token_type"));
        (*out)[i] = t >= TOKEN_NORMAL && t <= TOKEN_BYTE ? (int32_t)t : 0;
    }
    return ERR_OK;
}

/* Ids that are no id of this vocabulary are left out: such files are about, and run. Of two names
 * for one id the later row counts. */
static enum err_code read_ids(const struct gguf *g, struct tokenizer_spec *s,
                              int32_t fim[FIM_COUNT], struct err *e)
{
    const struct {
        const char *key;
        int32_t *id;
    } rows[] = {
        { KEY("cls_token_id"), &s->bos }, /* what BERT calls it */
        { KEY("bos_token_id"), &s->bos },
        { KEY("eos_token_id"), &s->eos },
        { KEY("unknown_token_id"), &s->unk },
        { KEY("padding_token_id"), &s->pad },
        { KEY("seperator_token_id"), &s->sep }, /* the format's spelling */
        { KEY("mask_token_id"), &s->mask },
        { KEY("eot_token_id"), &s->eot },
        { KEY("eom_token_id"), &s->eom },
        { KEY("prefix_token_id"), &fim[FIM_PREFIX] }, /* these three: old names */
        { KEY("suffix_token_id"), &fim[FIM_SUFFIX] },
        { KEY("middle_token_id"), &fim[FIM_MIDDLE] },
        { KEY("fim_pre_token_id"), &fim[FIM_PREFIX] },
        { KEY("fim_suf_token_id"), &fim[FIM_SUFFIX] },
        { KEY("fim_mid_token_id"), &fim[FIM_MIDDLE] },
        { KEY("fim_pad_token_id"), &fim[FIM_PAD] },
        { KEY("fim_rep_token_id"), &fim[FIM_REPO] },
        { KEY("fim_sep_token_id"), &fim[FIM_SEP] },
    };
    enum err_code code = ERR_OK;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        *rows[i].id = TOKEN_NONE;
    for (size_t i = 0; !code && i < sizeof rows / sizeof rows[0]; i++) {
        int64_t id = TOKEN_NONE;
        code = gguf_i64(g, rows[i].key, &id, e);
        if (id >= 0 && id < (int64_t)s->n_tokens)
            *rows[i].id = (int32_t)id;
    }
    return code;
}

static enum err_code read_switches(const struct gguf *g, struct tokenizer_spec *s, struct err *e)
{
    const struct {
        const char *key;
        int *to;
    } rows[] = {
        { KEY("add_bos_token"), &s->add_bos },
        { KEY("add_eos_token"), &s->add_eos },
        { KEY("add_space_prefix"), &s->add_space_prefix },
        { KEY("remove_extra_whitespaces"), &s->remove_extra_whitespaces },
        { KEY("add_sep_token"), &s->add_sep },
        { KEY("normalizer.lowercase"), &s->lowercase },
        { KEY("normalizer.strip_accents"), &s->strip_accents },
    };
    enum err_code code = ERR_OK;
    for (size_t i = 0; !code && i < sizeof rows / sizeof rows[0]; i++) {
        bool on = false;
        code = gguf_bool(g, rows[i].key, &on, e);
        *rows[i].to = gguf_find(g, rows[i].key) ? on : -1;
    }
    return code;
}

/* SentencePiece's rules: bytes, which some files type as signed. */
static enum err_code read_charsmap(const struct gguf *g, struct str *out, struct err *e)
{
    const struct gguf_value *v;
    enum err_code code = gguf_array(g, KEY("precompiled_charsmap"), &v, e);
    if (code || !v)
        return code;
    if (v->type != GGUF_U8 && v->type != GGUF_I8)
        return err_set(e, ERR_FORMAT, "key '%s' is not an array of bytes",
                       KEY("precompiled_charsmap"));
    *out = (struct str){ (const char *)v->p, (size_t)v->n };
    return ERR_OK;
}

enum err_code words_read_tokenizer(const struct gguf *g, struct tokenizer **out, struct err *e)
{
    struct tokenizer_spec s = { .model = STR("") };
    float *scores = NULL;
    int32_t *types = NULL, fim[FIM_COUNT];
    enum err_code code;
    *out = NULL;
    if ((code = gguf_str(g, KEY("model"), &s.model, e)))
        return code;
    if (s.model.n == 0 || str_is(s.model, "none") || str_is(s.model, "no_vocab"))
        return ERR_OK;
    if ((code = gguf_str(g, KEY("pre"), &s.pre, e)) ||
        (code = gguf_str(g, "general.name", &s.name, e)) ||
        (code = gguf_str(g, "general.architecture", &s.arch, e)) ||
        (code = read_charsmap(g, &s.charsmap, e)) ||
        (code = read_strings(g, KEY("tokens"), &s.tokens, &s.n_tokens, e)) ||
        (code = read_strings(g, KEY("merges"), &s.merges, &s.n_merges, e)) ||
        (code = read_scores(g, s.n_tokens, &scores, e)) ||
        (code = read_types(g, s.n_tokens, &types, e)) || (code = read_ids(g, &s, fim, e)) ||
        (code = read_switches(g, &s, e)))
        goto out;
    s.scores = scores;
    s.types = types;
    s.fim = fim;
    code = tokenizer_create(&s, out, e);
out:
    mem_free((void *)(uintptr_t)s.tokens);
    mem_free((void *)(uintptr_t)s.merges);
    mem_free(scores);
    mem_free(types);
    return code;
}
