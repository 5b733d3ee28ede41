/* A vocabulary for the tests of grammars: SentencePiece with all bytes, some pieces and some control tokens. */
#ifndef HEARTH_TESTS_GRAMMAR_KIT_H
#define HEARTH_TESTS_GRAMMAR_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/text/tokenizer.h"

#define KIT_MAX 512

struct kit_vocab {
    struct str token[KIT_MAX];
    int32_t type[KIT_MAX];
    float score[KIT_MAX];
    size_t n;
    char bytes[256][8];
};

static inline int32_t kit_add(struct kit_vocab *v, const char *text, enum token_type type)
{
    v->token[v->n] = str_from(text);
    v->type[v->n] = (int32_t)type;
    v->score[v->n] = -(float)v->n;
    return (int32_t)v->n++;
}

/* <unk>, <s>, </s> (ends), 256 bytes from 3 on, then what the caller adds. */
static inline void kit_begin(struct kit_vocab *v)
{
    v->n = 0;
    kit_add(v, "<unk>", TOKEN_UNKNOWN);
    kit_add(v, "<s>", TOKEN_CONTROL);
    kit_add(v, "</s>", TOKEN_CONTROL);
    for (unsigned i = 0; i < 256; i++) {
        (void)snprintf(v->bytes[i], sizeof v->bytes[i], "<0x%02X>", i);
        kit_add(v, v->bytes[i], TOKEN_BYTE);
    }
}

static inline struct tokenizer *kit_tokenizer(const struct kit_vocab *v, struct err *e)
{
    const struct tokenizer_spec spec = {
        .model = STR("llama"), .tokens = v->token, .scores = v->score, .types = v->type, .n_tokens = v->n,
        .bos = 1, .eos = 2, .unk = 0, .pad = TOKEN_NONE, .sep = TOKEN_NONE, .mask = TOKEN_NONE, .eot = TOKEN_NONE,
        .eom = TOKEN_NONE, .add_bos = 0, .add_eos = 0, .add_space_prefix = 0, .remove_extra_whitespaces = 0,
    };
    struct tokenizer *t = NULL;
    (void)tokenizer_create(&spec, &t, e);
    return t;
}

#endif
