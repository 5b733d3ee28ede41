/* What a vocabulary's well-known texts mean, where the file does not say. */
#include "runtime/text/tokenizer_priv.h"

enum role {
    ROLE_EOG = 1,     /* ends a generation */
    ROLE_CONTROL = 2, /* a control token, whatever type the file gives it */
    ROLE_SHOWN = 4,   /* its text is shown (gpt-oss' channels) */
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
    { "<|channel|>", ROLE_CONTROL | ROLE_SHOWN },
    { "<|message|>", ROLE_CONTROL | ROLE_SHOWN },
    { "<|start|>", ROLE_CONTROL | ROLE_SHOWN },
    { "<|constrain|>", ROLE_CONTROL | ROLE_SHOWN },
};

/* Fill in the middle: the first of these that the vocabulary has, where the file names none. */
static const struct {
    enum fim which;
    const char *text;
} fim_texts[] = {
    { FIM_PREFIX, "<|fim_prefix|>" },
    { FIM_PREFIX, "<fim-prefix>" },
    { FIM_PREFIX, "<fim_prefix>" },
    { FIM_PREFIX, "<\xEF\xBD\x9C" "fim\xE2\x96\x81" "begin\xEF\xBD\x9C>" },
    { FIM_PREFIX, "<PRE>" },
    { FIM_PREFIX, "\xE2\x96\x81<PRE>" },
    { FIM_PREFIX, "<|code_prefix|>" },
    { FIM_PREFIX, "<|prefix|>" },
    { FIM_SUFFIX, "<|fim_suffix|>" },
    { FIM_SUFFIX, "<fim-suffix>" },
    { FIM_SUFFIX, "<fim_suffix>" },
    { FIM_SUFFIX, "<\xEF\xBD\x9C" "fim\xE2\x96\x81hole\xEF\xBD\x9C>" },
    { FIM_SUFFIX, "<SUF>" },
    { FIM_SUFFIX, "\xE2\x96\x81<SUF>" },
    { FIM_SUFFIX, "<|code_suffix|>" },
    { FIM_SUFFIX, "<|suffix|>" },
    { FIM_MIDDLE, "<|fim_middle|>" },
    { FIM_MIDDLE, "<fim-middle>" },
    { FIM_MIDDLE, "<fim_middle>" },
    { FIM_MIDDLE, "<\xEF\xBD\x9C" "fim\xE2\x96\x81" "end\xEF\xBD\x9C>" },
    { FIM_MIDDLE, "<MID>" },
    { FIM_MIDDLE, "\xE2\x96\x81<MID>" },
    { FIM_MIDDLE, "<|code_middle|>" },
    { FIM_MIDDLE, "<|middle|>" },
    { FIM_PAD, "<|fim_pad|>" },
    { FIM_PAD, "<fim-pad>" },
    { FIM_PAD, "<fim_pad>" },
    { FIM_PAD, "<PAD>" },
    { FIM_PAD, "[PAD]" },
    { FIM_REPO, "<|fim_repo|>" },
    { FIM_REPO, "<|repo_name|>" },
    { FIM_REPO, "<fim-repo>" },
    { FIM_REPO, "<REPO>" },
    { FIM_REPO, "<reponame>" },
    { FIM_SEP, "<|file_sep|>" },
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
    if (role & ROLE_SHOWN)
        t->flag[id] |= TOKEN_SHOWN;
}

static void set_end(struct tokenizer *t, int32_t id)
{
    if (id >= 0 && (size_t)id < t->n_tokens)
        t->flag[id] |= TOKEN_EOG;
}

static void set_fim(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    for (size_t i = 0; i < FIM_COUNT; i++) {
        int32_t id = spec->fim ? spec->fim[i] : TOKEN_NONE;
        t->fim[i] = id >= 0 && (size_t)id < t->n_tokens ? id : TOKEN_NONE;
    }
    for (size_t i = 0; i < sizeof fim_texts / sizeof fim_texts[0]; i++) {
        int32_t *id = &t->fim[fim_texts[i].which];
        if (*id == TOKEN_NONE) {
            *id = tokenizer_find(t, str_from(fim_texts[i].text));
            if (*id != TOKEN_NONE)
                set_role(t, *id, ROLE_CONTROL);
        }
    }
    /* These stand between files: an answer ends there. */
    set_end(t, t->fim[FIM_PAD]);
    set_end(t, t->fim[FIM_REPO]);
    set_end(t, t->fim[FIM_SEP]);
}

/* "<|user|>" and the like, which some files type as user-defined. */
static bool looks_like_turn(struct str s)
{
    const struct str wide = STR("\xEF\xBD\x9C"); /* U+FF5C */
    if (s.n < 5 || s.p[0] != '<' || s.p[s.n - 1] != '>')
        return false;
    struct str in = { s.p + 1, s.n - 2 };
    return (in.p[0] == '|' && in.p[in.n - 1] == '|') ||
           (in.n > 6 && str_starts(in, wide) && str_ends(in, wide));
}

void set_roles(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    for (size_t i = 0; i < sizeof known_texts / sizeof known_texts[0]; i++) {
        int32_t id = tokenizer_find(t, str_from(known_texts[i].text));
        if (id != TOKEN_NONE)
            set_role(t, id, known_texts[i].role);
    }
    for (uint32_t i = 0; i < t->n_tokens; i++)
        if (t->type[i] == TOKEN_USER_DEFINED && looks_like_turn(token_text(t, i)))
            t->flag[i] |= TOKEN_TURNS;
    set_end(t, t->eos);
    set_end(t, spec->eot);
    set_end(t, spec->eom);
    set_fim(t, spec);
    /* gpt-oss and Solar end single messages with <|end|>, and turns with others. */
    bool call = has(t, "<|call|>") || has(t, "<|calls|>");
    int32_t end = tokenizer_find(t, STR("<|end|>"));
    if (end != TOKEN_NONE && call && (has(t, "<|return|>") || has(t, "<|flush|>"))) {
        t->flag[end] &= (uint8_t)~TOKEN_EOG;
        set_role(t, end, ROLE_SHOWN);
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
void set_strips(struct tokenizer *t, const struct tokenizer_spec *spec)
{
    if (contains(spec->pre, "jina-v2-de") || contains(spec->pre, "jina-v2-es") ||
        contains(spec->pre, "jina-v2-code") || contains(spec->arch, "nomic-bert-moe") ||
        contains(spec->arch, "jina-bert-v3")) {
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
