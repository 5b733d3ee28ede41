/* Text <-> token ids.
 *
 * The kinds are rows: BPE (byte-level, Sennrich et al. 2016 / GPT-2), SPM (SentencePiece's
 * score-driven merges, Kudo & Richardson 2018), UGM (its unigram model, Kudo 2018) and WPM
 * (WordPiece, as BERT has it). docs/tokenizers.md says what was compared with whom. A tokenizer is
 * made from a `tokenizer_spec`, which the engine fills from a model file: this room knows no file
 * format.
 *
 * Ownership: the spec's slices must stay valid until tokenizer_create returns; the tokenizer
 * copies what it keeps. Thread: create and destroy by one thread; all else is const and may be
 * called from any number of threads at once. */
#ifndef HEARTH_TEXT_TOKENIZER_H
#define HEARTH_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"
#include "runtime/text/spans.h"

/* The values of tokenizer.ggml.token_type. */
enum token_type {
    TOKEN_NORMAL = 1,
    TOKEN_UNKNOWN = 2,
    TOKEN_CONTROL = 3,
    TOKEN_USER_DEFINED = 4,
    TOKEN_UNUSED = 5,
    TOKEN_BYTE = 6,
};

#define TOKEN_NONE (-1)

/* Tokens for filling in the middle. */
enum fim { FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FIM_PAD, FIM_REPO, FIM_SEP, FIM_COUNT };

struct tokenizer_spec {
    struct str model;         /* tokenizer.ggml.model: "gpt2" (BPE), "llama" (SPM), "t5" (UGM), "bert" (WPM) */
    struct str pre;           /* tokenizer.ggml.pre; "" when absent */
    const struct str *tokens; /* [n_tokens] */
    const float *scores;      /* [n_tokens] or NULL */
    const int32_t *types;     /* [n_tokens] of enum token_type, or NULL (all normal) */
    size_t n_tokens;
    const struct str *merges; /* [n_merges] "left right" (BPE) */
    size_t n_merges;
    int32_t bos, eos, unk, pad, sep, mask, eot, eom; /* TOKEN_NONE when the file has none */
    /* -1: the file does not say, take the kind's default */
    int add_bos, add_eos, add_space_prefix, remove_extra_whitespaces;
    struct str name; /* general.name: the Phi-3 family strips white space after special tokens */
    struct str arch; /* general.architecture, for the same reason */
    const int32_t *fim;      /* [FIM_COUNT], or NULL */
    int add_sep, lowercase, strip_accents; /* -1 as above (WPM) */
    struct str charsmap;     /* tokenizer.ggml.precompiled_charsmap (UGM) */
};

struct tokenizer;

/* ERR_UNSUPPORTED names the model or pre-tokenizer that we do not have; ERR_FORMAT what is wrong. */
enum err_code tokenizer_create(const struct tokenizer_spec *spec, struct tokenizer **out,
                               struct err *e);
void tokenizer_destroy(struct tokenizer *t);

struct token_list {
    int32_t *id;
    size_t n, cap;
};
void token_list_finish(struct token_list *l);

/* Appends the ids of `text` to *out.
 * add_special: put BOS/EOS where this model adds them. parse_special: text of control tokens
 * becomes these tokens; without it they are split like any text (user-defined ones always match).
 * ERR_INVALID with the byte offset when text is not UTF-8; on any error *out is as before.
 * Cost: linear in text.n. */
enum err_code tokenizer_encode(const struct tokenizer *t, struct str text, bool add_special,
                               bool parse_special, struct token_list *out, struct err *e);

/* The same for a text that has foreign parts, such as a rendered prompt: control tokens are parsed,
 * but none that has a byte in `content`, nor such a user-defined token that is written "<|...|>".
 * Others match everywhere, and the text is cut into words as one, so that content without control
 * text changes nothing. `content` may be NULL. */
enum err_code tokenizer_encode_spans(const struct tokenizer *t, struct str text,
                                     const struct spans *content, bool add_special,
                                     struct token_list *out, struct err *e);

/* Appends the bytes of the ids to *out. show_special: control tokens appear as their text.
 * The bytes of one token need not be whole UTF-8 sequences. ERR_INVALID: an id out of range. */
enum err_code tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n,
                               bool show_special, struct buf *out, struct err *e);

/* Streaming: feeds one token, appends what is complete to *out; holds back a begun UTF-8 sequence
 * and, at the start of a text, the space that SPM puts before the first word. */
struct detokenizer {
    const struct tokenizer *t;
    char held[8];
    size_t n_held;
    bool begun;        /* something was fed: no leading space is dropped any more */
    bool show_special;
};
void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, bool show_special,
                      bool continues); /* continues: the text goes on after earlier text */
enum err_code detokenizer_feed(struct detokenizer *d, int32_t id, struct buf *out, struct err *e);
/* End of text: an unfinished sequence comes out as U+FFFD. */
void detokenizer_flush(struct detokenizer *d, struct buf *out);

size_t tokenizer_n_tokens(const struct tokenizer *t);
/* The token's text as the vocabulary has it; the empty slice for an id out of range. */
struct str tokenizer_text(const struct tokenizer *t, int32_t id);
enum token_type tokenizer_type(const struct tokenizer *t, int32_t id);
int32_t tokenizer_find(const struct tokenizer *t, struct str text); /* TOKEN_NONE when not there */
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_eos(const struct tokenizer *t);
/* From the file, else by the texts that such tokens have; TOKEN_NONE. */
int32_t tokenizer_fim(const struct tokenizer *t, enum fim which);
bool tokenizer_adds_bos(const struct tokenizer *t);
bool tokenizer_adds_eos(const struct tokenizer *t); /* or BERT's SEP */
/* End of generation: EOS, EOT, EOM and the well-known end-of-turn tokens of the vocabulary. */
bool tokenizer_is_eog(const struct tokenizer *t, int32_t id);

#endif
