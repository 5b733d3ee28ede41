/* What the files of the tokenizer share. For runtime/text/tokenizer*.c only.
 *
 * A map, in the order of a call: tokenizer.c checks the text and cuts it at special tokens
 * (tokenizer_special.c); what is between goes to the kind's `encode`: tokenizer_bpe.c and
 * tokenizer_spm.c cut it into words, and a word that is no token by itself goes through
 * tokenizer_merge.c; tokenizer_ugm.c looks for the best cutting of a word, tokenizer_wpm.c for the
 * longest tokens from its left. tokenizer_roles.c says what well-known texts are for;
 * tokenizer_decode.c is the way back. */
#ifndef HEARTH_TEXT_TOKENIZER_PRIV_H
#define HEARTH_TEXT_TOKENIZER_PRIV_H

#include <stdatomic.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"
#include "runtime/text/charsmap.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/trie.h"

#define SPACE_SIGN "\xE2\x96\x81" /* U+2581, a space in SentencePiece's vocabularies */

#define NO_SYMBOL UINT32_MAX
#define NO_RANK UINT32_MAX
#define TOKENIZER_MAX_TEXT ((size_t)1 << 30)       /* bytes of one text */
#define TOKENIZER_MAX_VOCAB ((size_t)1 << 24)      /* tokens, and merges */
#define TOKENIZER_MAX_VOCAB_TEXT ((size_t)1 << 30) /* bytes of all tokens */
#define TOKENIZER_MAX_PIECE ((size_t)512) /* bytes: longer tokens are not looked for at each place */

/* ---- a heap of numbers, least first -------------------------------------------------------- */

struct heap {
    uint64_t *key;
    size_t n, cap;
};
bool heap_push(struct heap *h, uint64_t key); /* false: no memory */
uint64_t heap_pop(struct heap *h);            /* h->n > 0 */

/* ---- pairs to merge, least first ------------------------------------------------------------ */

/* Keys are a rank and, below it, a place. Pairs of one rank mostly come from left to right: they
 * wait in order in a run, picked by the rank, and only what does not fit there is put in a heap. */
#define QUEUE_RUNS 16
struct queue {
    struct run {
        uint64_t *key;
        size_t at, n, cap; /* key[at..n) wait */
    } run[QUEUE_RUNS];
    unsigned filled; /* bit i: run[i] has keys */
    struct heap late;
};
void queue_clear(struct queue *q);
void queue_finish(struct queue *q);
bool queue_put(struct queue *q, uint64_t key);   /* false: no memory */
bool queue_take(struct queue *q, uint64_t *key); /* false: empty */

/* ---- merging ------------------------------------------------------------------------------- */

/* A word under merging: a list of symbols in text order. */
struct symbol {
    uint32_t start, len; /* in the word's text; len 0: merged into the one before */
    uint32_t id;         /* a token, a symbol of the kind's own, or NO_SYMBOL */
    uint32_t rank, into; /* of merging it with the next one; NO_RANK: they do not merge */
    uint32_t prev, next; /* NO_SYMBOL at the ends */
};

/* A word met before in this text, and its ids. */
struct seen {
    uint64_t ends[2]; /* its first and last bytes: all of a word of up to 16 */
    const char *p;
    uint32_t len, n;  /* bytes; ids. n 0: free */
    union {
        int32_t id[2];
        size_t at;    /* in encoder.out, where there are more than two */
    } ids;
};
#define SEEN_SLOTS 2048
#define SEEN_MIN_TEXT 4096 /* shorter texts do without */

/* The best way to the end of a token: UGM's Viterbi. */
struct cutting {
    double score;
    uint32_t from, to; /* where the token begins; where the one from here ends */
    int32_t id;        /* TOKEN_NONE: a character that no token covers */
};

/* Code points. */
struct chars {
    uint32_t *c;
    size_t n, cap;
};

struct encoder {
    const struct tokenizer *t;
    struct token_list *out;
    struct err *e;
    struct symbol *symbol;
    size_t n_symbols, cap_symbols;
    struct queue queue;
    struct cutting *cutting; /* [word.n + 1] UGM */
    size_t cap_cutting;
    struct chars chars; /* a word, WPM */
    struct pre_match *match;
    struct buf scratch; /* the text as the vocabulary writes it */
    size_t after_unk;   /* out->n after an unknown token was pushed; SIZE_MAX: none was */
    struct seen *seen;  /* [SEEN_SLOTS] by hash, or NULL; its words lie in the part under way */
    bool seen_used;     /* it is not empty */
};

/* Looks up what a and b, neighbours in `text`, become: sets a->rank and a->into. */
typedef void (*merge_pair_fn)(const struct tokenizer *t, const char *text, struct symbol *a,
                              const struct symbol *b);
/* Makes n symbols of an empty list; the caller sets start, len and id of each. */
enum err_code merge_begin(struct encoder *x, size_t n);
/* Merges the pair of least rank, leftmost first, until none is left. Cost: O(n log n). */
enum err_code merge_run(struct encoder *x, const char *text, merge_pair_fn pair);

/* ---- special tokens ------------------------------------------------------------------------ */

struct specials {
    struct trie trie; /* -> id */
    bool begins[256]; /* whether one begins with this byte */
};

enum err_code specials_init(struct tokenizer *t, struct err *e);

/* Calls text() and token() for the parts of `s` in order. */
struct part_sink {
    enum err_code (*text)(void *user, struct str part);
    enum err_code (*token)(void *user, int32_t id);
    void *user;
};
/* What of special tokens is matched in a text. User-defined ones always are. */
struct parsing {
    bool control;                /* control tokens and the unknown one */
    const struct spans *content; /* but for those that touch these ranges of the text; or NULL */
};
enum err_code specials_partition(const struct tokenizer *t, struct str s,
                                 const struct parsing *parsing, const struct part_sink *sink);

/* ---- the tokenizer ------------------------------------------------------------------------- */

enum token_flag {
    TOKEN_EOG = 1,
    TOKEN_LSTRIP = 2, /* white space before it goes */
    TOKEN_RSTRIP = 4,
    TOKEN_SHOWN = 8, /* a control token whose text is shown */
    TOKEN_TURNS = 16, /* user-defined by the file, but it looks like a mark of turns */
};

/* Whether the merges of a token's own text end in that one token: found out when first asked. */
enum memo { MEMO_UNKNOWN, MEMO_WHOLE, MEMO_PARTS };

struct bpe_pair {
    uint32_t left, right, rank, into;
};

struct bpe {
    struct pretokenizer *pre;
    unsigned flags;           /* of enum pre_flag */
    bool lower;               /* PRE_WORDS: letters lose their case */
    struct bpe_pair *pair;    /* open addressing; rank NO_RANK: free */
    size_t pair_mask;
    uint32_t n_symbols;       /* tokens, and texts that only merges name */
    struct arena texts;       /* of the latter */
    uint32_t byte[256];       /* symbol of a byte */
};

struct spm {
    uint32_t *rank;    /* [n_tokens] least first, from the scores */
    bool words_apart;  /* no token has U+2581 after another character: words merge apart */
    bool space_prefix, remove_extra;
};

struct ugm {
    struct charsmap rules;
    struct trie pieces; /* -> id */
    double *score;      /* [n_tokens] */
    double unknown;     /* score of a character that is no token */
    bool words_apart;   /* as in struct spm */
    bool space_prefix, remove_extra;
};

struct wpm {
    bool hashes; /* tokens that go on a word begin with "##"; else those that begin one with U+2581 */
    bool lower, strip; /* letters lose their case, their accents */
};

struct tokenizer {
    const struct kind *kind;
    char *text;         /* all tokens, one after the other */
    uint32_t *offset;   /* [n_tokens + 1] */
    uint8_t *type;      /* enum token_type */
    uint8_t *flag;      /* enum token_flag */
    _Atomic uint8_t *memo;
    size_t n_tokens;
    size_t max_len;     /* bytes of the longest token */
    struct map ids;     /* text -> symbol; the lowest of equal tokens */
    struct specials specials;
    int32_t bos, eos, unk;
    int32_t tail;          /* what add_eos puts behind a text: EOS, or BERT's SEP */
    bool add_bos, add_eos;
    int32_t fim[FIM_COUNT];
    int32_t byte_token[256]; /* "<0xXX>", or TOKEN_NONE */
    struct bpe bpe;
    struct spm spm;
    struct ugm ugm;
    struct wpm wpm;
};

struct kind {
    const char *model;
    int32_t bos, eos, unk; /* where the file names none, if that token may be one */
    enum err_code (*create)(struct tokenizer *t, const struct tokenizer_spec *spec, struct err *e);
    enum err_code (*encode)(struct encoder *x, struct str text);
    void (*piece)(const struct tokenizer *t, struct str text, struct buf *out); /* decode */
    bool (*drops_space)(const struct tokenizer *t); /* of the first word, when decoding */
};
extern const struct kind kind_bpe, kind_bpe_raw, kind_spm, kind_ugm, kind_wpm;

/* What the vocabulary's well-known texts mean; tokenizer_roles.c. */
void set_roles(struct tokenizer *t, const struct tokenizer_spec *spec);
/* Tokens that take white space beside them: files do not carry tokenizer.json's lstrip, rstrip. */
void set_strips(struct tokenizer *t, const struct tokenizer_spec *spec);

struct str token_text(const struct tokenizer *t, uint32_t id);
/* May text become this symbol? Tokens of control and of bytes never come from text. */
bool token_from_text(const struct tokenizer *t, uint32_t id);
enum err_code encoder_push(struct encoder *x, int32_t id);
/* The bytes of `text` as byte tokens; where the vocabulary lacks one, a single `unk` for all of
 * it and what went before and was unknown too; nothing where it lacks that as well. */
enum err_code encoder_push_bytes(struct encoder *x, struct str text);
/* Tries `text` as one token by what is known of its merges. *id: the token, or TOKEN_NONE;
 * *known: whether *id says it all. */
void memo_get(const struct tokenizer *t, struct str text, bool always, int32_t *id, bool *known);
void memo_set(const struct tokenizer *t, int32_t id, bool whole);
/* Words that take merging come again: their ids are copied from the first time. */
enum err_code seen_begin(struct encoder *x, size_t text_bytes); /* of a new part */
bool seen_again(struct encoder *x, struct str word, enum err_code *code);
void seen_put(struct encoder *x, struct str word, size_t at);
/* Whether U+2581 begins a word inside the token: after another character than itself. */
bool crosses_words(struct str token);
/* Calls `word` with the words of an escaped text, or with all of it if they are not `apart`; a word
 * met before is not cut again. */
enum err_code encode_words(struct encoder *x, struct str text, bool apart,
                           enum err_code (*word)(struct encoder *x, struct str word));
bool char_is_white(uint32_t c); /* Unicode's White_Space */
/* "▁" for every space, and back. */
void put_escaped(struct buf *b, struct str text);
void put_unescaped(struct buf *b, struct str text);

#endif
