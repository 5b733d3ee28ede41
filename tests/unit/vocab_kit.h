/* Vocabularies that tests make. */
#ifndef HEARTH_TESTS_VOCAB_KIT_H
#define HEARTH_TESTS_VOCAB_KIT_H

#include <stdio.h>

#include "runtime/base/mem.h"
#include "tests/unit/text_kit.h"

/* A spec and the memory that its texts lie in. */
struct vocab {
    struct tokenizer_spec spec;
    struct str token[4096];
    float score[4096];
    int32_t type[4096];
    struct str merge[2048];
    struct arena text;
};

static inline struct vocab *vocab_new(const char *model, const char *pre)
{
    struct vocab *v = mem_zero(1, sizeof *v);
    assert_non_null(v);
    v->spec = (struct tokenizer_spec){
        .model = str_from(model),
        .pre = str_from(pre),
        .tokens = v->token,
        .scores = v->score,
        .types = v->type,
        .merges = v->merge,
        .bos = TOKEN_NONE,
        .eos = TOKEN_NONE,
        .unk = TOKEN_NONE,
        .pad = TOKEN_NONE,
        .sep = TOKEN_NONE,
        .mask = TOKEN_NONE,
        .eot = TOKEN_NONE,
        .eom = TOKEN_NONE,
        .add_bos = -1,
        .add_eos = -1,
        .add_space_prefix = -1,
        .remove_extra_whitespaces = -1,
        .add_sep = -1,
        .lowercase = -1,
        .strip_accents = -1,
    };
    return v;
}

static inline void vocab_free(struct vocab *v)
{
    arena_finish(&v->text);
    mem_free(v);
}

static inline int32_t add(struct vocab *v, struct str text, int32_t type, float score)
{
    size_t i = v->spec.n_tokens++;
    assert_true(i < 4096);
    v->token[i] = (struct str){ arena_strndup(&v->text, text.p, text.n), text.n };
    v->type[i] = type;
    v->score[i] = score;
    return (int32_t)i;
}

static inline int32_t add_text(struct vocab *v, const char *text, int32_t type)
{
    return add(v, str_from(text), type, 0);
}

static inline void add_merge(struct vocab *v, const char *text)
{
    assert_true(v->spec.n_merges < 2048);
    v->merge[v->spec.n_merges++] =
        (struct str){ arena_strndup(&v->text, text, strlen(text)), strlen(text) };
}

/* GPT-2's characters of the bytes, in the order of the bytes: independent of tokenizer_bpe.c. */
static inline void add_gpt2_bytes(struct vocab *v)
{
    uint32_t extra = 256;
    for (uint32_t b = 0; b < 256; b++) {
        bool prints = (b > 32 && b < 127) || (b > 160 && b != 173);
        char four[4];
        add(v, (struct str){ four, utf8_put(prints ? b : extra, four) }, TOKEN_NORMAL, 0);
        extra += !prints;
    }
}

static inline void add_byte_tokens(struct vocab *v)
{
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        add_text(v, text, TOKEN_BYTE);
    }
}

static inline struct tokenizer *make(const struct vocab *v)
{
    struct err e = { 0 };
    struct tokenizer *t = NULL;
    if (tokenizer_create(&v->spec, &t, &e))
        fail_msg("%s", e.text);
    return t;
}

#endif
