/* Any bytes as a vocabulary and a text. The first byte chooses the kind, the second the
 * pre-tokenizer, the third the switches; then come tokens, merges and the charsmap, and the text.
 * Whatever a vocabulary is, encoding ends in ids of it or an error, and what comes out of ids and
 * of a stream of them is the same text. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer.h"

#define MAX_TOKENS 96
#define MAX_MERGES 48

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t n;
};

static uint8_t take_byte(struct input *in)
{
    if (in->n == 0)
        return 0;
    in->n--;
    return *in->p++;
}

/* A length in one byte, then so many bytes. */
static struct str take_text(struct input *in, size_t most)
{
    size_t n = take_byte(in) % (most + 1);
    n = n < in->n ? n : in->n;
    struct str s = { (const char *)in->p, n };
    in->p += n;
    in->n -= n;
    return s;
}

struct vocabulary {
    struct tokenizer_spec spec;
    struct str token[MAX_TOKENS + 260];
    float score[MAX_TOKENS + 260];
    int32_t type[MAX_TOKENS + 260];
    struct str merge[MAX_MERGES];
    int32_t fim[FIM_COUNT];
    char bytes[256][8];
};

static void add(struct vocabulary *v, struct str text, int32_t type, float score)
{
    size_t i = v->spec.n_tokens++;
    v->token[i] = text;
    v->type[i] = type;
    v->score[i] = score;
}

static void add_bytes(struct vocabulary *v)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t b = 0; b < 256; b++) {
        memcpy(v->bytes[b], "<0x__>", 7);
        v->bytes[b][3] = hex[b >> 4];
        v->bytes[b][4] = hex[b & 15];
        add(v, (struct str){ v->bytes[b], 6 }, TOKEN_BYTE, 0);
    }
}

static void take_vocabulary(struct input *in, struct vocabulary *v)
{
    static const char *const models[] = { "gpt2", "llama", "t5", "bert", "gemma4", "whitespace" };
    struct tokenizer_spec *s = &v->spec;
    size_t n_rows = 0;
    while (pretokenizer_name(n_rows))
        n_rows++;
    s->model = str_from(models[take_byte(in) % 6]);
    s->pre = str_from(pretokenizer_name(take_byte(in) % n_rows));
    uint8_t bits = take_byte(in);
    s->add_bos = bits & 1 ? 1 : -1;
    s->add_eos = bits & 2 ? 1 : -1;
    s->add_space_prefix = bits & 4 ? 1 : 0;
    s->remove_extra_whitespaces = bits & 8 ? 1 : 0;
    s->lowercase = bits & 16 ? 0 : -1;
    s->strip_accents = bits & 32 ? 1 : -1;
    s->add_sep = -1;
    s->name = bits & 64 ? STR("phi-3") : STR("");
    if (bits & 128)
        add_bytes(v);
    s->bos = take_byte(in);
    s->eos = take_byte(in);
    s->unk = take_byte(in);
    s->sep = take_byte(in);
    s->pad = s->mask = s->eot = s->eom = TOKEN_NONE;
    for (size_t i = 0; i < FIM_COUNT; i++)
        v->fim[i] = (int32_t)i - 1;
    s->fim = v->fim;
    for (size_t n = take_byte(in) % MAX_TOKENS; n > 0; n--) {
        int32_t type = take_byte(in) % 8;
        float score = (float)take_byte(in) - 128;
        add(v, take_text(in, 24), type, score);
    }
    for (size_t n = take_byte(in) % MAX_MERGES; n > 0; n--)
        v->merge[s->n_merges++] = take_text(in, 24);
    s->charsmap = take_text(in, 255);
    s->tokens = v->token;
    s->scores = v->score;
    s->types = v->type;
    s->merges = v->merge;
}

static void require(bool ok)
{
    if (!ok)
        abort();
}

/* The ids' text, at once and as a stream: the same where all of it is UTF-8. */
static void check_text(const struct tokenizer *t, const struct token_list *ids)
{
    struct buf at_once, stream;
    struct detokenizer d;
    struct err e = { 0 };
    buf_init(&at_once, (size_t)8 << 20);
    buf_init(&stream, (size_t)8 << 20);
    require(tokenizer_decode(t, ids->id, ids->n, true, &at_once, &e) == ERR_OK);
    detokenizer_init(&d, t, true, false);
    for (size_t i = 0; i < ids->n; i++) {
        require(detokenizer_feed(&d, ids->id[i], &stream, &e) == ERR_OK);
        require(utf8_valid(stream.p ? stream.p : "", stream.n) == stream.n);
    }
    detokenizer_flush(&d, &stream);
    if (at_once.n && utf8_valid(at_once.p, at_once.n) == at_once.n)
        require(str_eq(buf_str(&at_once), buf_str(&stream)));
    buf_finish(&at_once);
    buf_finish(&stream);
}

/* An id that stands for text that is no token. */
static bool may_be_unknown(const struct vocabulary *v, int32_t id)
{
    return id == v->spec.unk || id == 0 || id == 2 || id == 100; /* the kinds' usual ones */
}

static void check_ids(const struct tokenizer *t, const struct vocabulary *v, struct str text,
                      size_t begin, size_t end)
{
    struct token_list ids = { 0 }, guarded = { 0 };
    struct spans content = { 0 };
    struct err e = { 0 };
    require(spans_add(&content, begin, end));
    enum err_code code = tokenizer_encode(t, text, true, true, &ids, &e);
    require((code == ERR_OK) == (utf8_valid(text.p, text.n) == text.n));
    require(tokenizer_encode_spans(t, text, &content, true, &guarded, &e) == code);
    for (size_t i = 0; i < ids.n; i++)
        require(ids.id[i] >= 0 && (size_t)ids.id[i] < tokenizer_n_tokens(t));
    check_text(t, &ids);
    /* All of it is content: no control token comes but those around the text. */
    content.n = 0;
    require(spans_add(&content, 0, text.n));
    guarded.n = 0;
    if (!code && tokenizer_encode_spans(t, text, &content, false, &guarded, &e) == ERR_OK)
        for (size_t i = 0; i < guarded.n; i++)
            require(tokenizer_type(t, guarded.id[i]) != TOKEN_CONTROL ||
                    may_be_unknown(v, guarded.id[i]));
    spans_finish(&content);
    token_list_finish(&ids);
    token_list_finish(&guarded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    uint64_t live = mem_live();
    struct vocabulary *v = mem_zero(1, sizeof *v);
    struct tokenizer *t = NULL;
    struct err e = { 0 };
    if (!v)
        return 0;
    take_vocabulary(&in, v);
    size_t begin = take_byte(&in), end = begin + take_byte(&in);
    enum err_code code = tokenizer_create(&v->spec, &t, &e);
    require(code == ERR_OK || (!t && e.text[0]));
    if (t)
        check_ids(t, v, (struct str){ (const char *)in.p, in.n }, begin, end);
    tokenizer_destroy(t);
    mem_free(v);
    require(mem_live() == live);
    return 0;
}
