/* The tokenizer against merging by brute force, and against hostile vocabularies. Real ones:
 * vocabulary_test.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/text/pretokenizer.h"
#include "runtime/text/tokenizer.h"
#include "tests/unit/vocab_kit.h"

static void text_is(const struct tokenizer *t, const int32_t *ids, size_t n, bool show,
                    const char *want)
{
    struct buf got;
    struct err e = { 0 };
    buf_init(&got, 4096);
    buf_puts(&got, "");
    assert_int_equal(tokenizer_decode(t, ids, n, show, &got, &e), ERR_OK);
    assert_string_equal(got.p, want);
    buf_finish(&got);
}

/* ---- merging, against brute force ---------------------------------------------------------- */

/* Random merges over the letters a..d: each joins two texts that are there already. */
static void add_random_merges(struct vocab *v, uint64_t *seed, size_t n)
{
    size_t first = v->spec.n_tokens;
    for (int c = 'a'; c <= 'd'; c++)
        if (v->spec.model.n == 5)
            add(v, (struct str){ (const char[]){ (char)c }, 1 }, TOKEN_NORMAL, -100);
    size_t letters = v->spec.model.n == 5 ? first : 'a';
    for (size_t i = 0; i < n; i++) {
        size_t known = 4 + (v->spec.n_tokens - (v->spec.model.n == 5 ? first + 4 : first));
        struct str half[2];
        for (int k = 0; k < 2; k++) {
            size_t pick = next_random(seed) % known;
            half[k] = pick < 4 ? v->token[letters + pick]
                               : v->token[(v->spec.model.n == 5 ? first : first - 4) + pick];
        }
        char text[256];
        if (half[0].n + half[1].n > 100)
            continue;
        snprintf(text, sizeof text, "%.*s %.*s", (int)half[0].n, half[0].p, (int)half[1].n,
                 half[1].p);
        add_merge(v, text);
        snprintf(text, sizeof text, "%.*s%.*s", (int)half[0].n, half[0].p, (int)half[1].n,
                 half[1].p);
        bool twice = false;
        for (size_t k = first; k < v->spec.n_tokens; k++)
            twice = twice || str_is(v->token[k], text);
        if (twice)
            v->spec.n_merges--;
        else
            add(v, str_from(text), TOKEN_NORMAL, (float)(next_random(seed) % 7));
    }
}

static int32_t find_token(const struct vocab *v, struct str text)
{
    for (size_t i = 0; i < v->spec.n_tokens; i++)
        if (str_eq(v->token[i], text))
            return (int32_t)i;
    return TOKEN_NONE;
}

/* How early these two merge: less is earlier; INFINITY: never. */
static double brute_rank(const struct vocab *v, struct str a, struct str b)
{
    struct str both = { a.p, a.n + b.n };
    if (v->spec.model.n == 5) {
        int32_t id = find_token(v, both);
        return id == TOKEN_NONE ? (double)INFINITY : -(double)v->score[id];
    }
    for (size_t i = 0; i < v->spec.n_merges; i++) {
        struct str m = v->merge[i];
        if (m.n == both.n + 1 && m.p[a.n] == ' ' && memcmp(m.p, a.p, a.n) == 0 &&
            memcmp(m.p + a.n + 1, b.p, b.n) == 0)
            return (double)i;
    }
    return (double)INFINITY;
}

/* The definition, word for word: find the best pair, leftmost first; join it; again. */
static size_t brute_merge(const struct vocab *v, struct str text, struct str *part)
{
    size_t n = text.n;
    for (size_t i = 0; i < n; i++)
        part[i] = (struct str){ text.p + i, 1 };
    for (;;) {
        double best = (double)INFINITY;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            double r = brute_rank(v, part[i], part[i + 1]);
            if (r < best) {
                best = r;
                at = i;
            }
        }
        if (isinf(best))
            return n;
        part[at].n += part[at + 1].n;
        memmove(&part[at + 1], &part[at + 2], (n - at - 2) * sizeof *part);
        n--;
    }
}

static void check_against_brute(const char *model, uint64_t seed)
{
    struct vocab *v = vocab_new(model, "gpt-2");
    if (str_is(v->spec.model, "gpt2"))
        add_gpt2_bytes(v);
    else
        add_byte_tokens(v);
    v->spec.add_space_prefix = 0;
    add_random_merges(v, &seed, 60);
    struct tokenizer *t = make(v);
    struct token_list ids = { 0 };
    for (int i = 0; i < 60; i++) {
        char text[128];
        struct str part[128];
        size_t n = 1 + next_random(&seed) % (i % 4 ? 12 : 100);
        for (size_t k = 0; k < n; k++)
            text[k] = (char)('a' + next_random(&seed) % 4);
        encode(t, (struct str){ text, n }, false, &ids);
        size_t want = brute_merge(v, (struct str){ text, n }, part);
        assert_int_equal(ids.n, want);
        for (size_t k = 0; k < want; k++)
            assert_int_equal(ids.id[k], find_token(v, part[k]));
    }
    token_list_finish(&ids);
    tokenizer_destroy(t);
    vocab_free(v);
}

static void test_bpe_is_the_definition(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        check_against_brute("gpt2", seed);
}

static void test_spm_is_the_definition(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++)
        check_against_brute("llama", seed);
}

/* 4 MiB of one letter, with merges all the way up: nothing quadratic gets through this. */
static void test_long_word(void **state)
{
    (void)state;
    static const char *const models[] = { "gpt2", "llama" };
    for (int i = 0; i < 2; i++) {
        struct vocab *v = vocab_new(models[i], "gpt-2");
        add_gpt2_bytes(v);
        char text[65] = "aa";
        for (float score = 1; strlen(text) <= 32; score++) {
            char merge[64];
            int half = (int)strlen(text) / 2;
            snprintf(merge, sizeof merge, "%.*s %.*s", half, text, half, text);
            add_merge(v, merge);
            add(v, str_from(text), TOKEN_NORMAL, -score);
            memcpy(text + 2 * half, text, 2 * (size_t)half);
            text[4 * half] = '\0';
        }
        v->spec.add_space_prefix = 0;
        struct tokenizer *t = make(v);
        struct token_list ids = { 0 };
        struct buf b;
        buf_init(&b, 1 << 23);
        while (b.n < 1 << 22)
            buf_puts(&b, "aaaaaaaaaaaaaaaa");
        encode(t, buf_str(&b), false, &ids);
        assert_int_equal(ids.n, (1 << 22) / 32);
        buf_finish(&b);
        token_list_finish(&ids);
        tokenizer_destroy(t);
        vocab_free(v);
    }
}

/* ---- special tokens ------------------------------------------------------------------------ */

static void test_special_tokens(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    add_gpt2_bytes(v);
    v->spec.bos = add_text(v, "<s>", TOKEN_CONTROL);         /* 256 */
    v->spec.eos = add_text(v, "</s>", TOKEN_CONTROL);        /* 257 */
    add_text(v, "[X]", TOKEN_USER_DEFINED);                  /* 258 */
    add_text(v, "ab", TOKEN_USER_DEFINED);                   /* 259 */
    add_text(v, "bcd", TOKEN_USER_DEFINED);                  /* 260 */
    add_text(v, "abcd!", TOKEN_CONTROL);                     /* 261 */
    add_text(v, "<unk>", TOKEN_UNKNOWN);                     /* 262 */
    add_merge(v, "< /");
    add_merge(v, "</ s");
    add_merge(v, "</s >"); /* text must not become a control token */
    struct tokenizer *t = make(v);
    ids_are(t, "<s>", false, true, "256");
    ids_are(t, "<s>", false, false, "60 115 62");
    ids_are(t, "</s>", false, false, "60 47 115 62");
    ids_are(t, "a[X]b</s>", false, false, "97 258 98 60 47 115 62");
    ids_are(t, "a[X]b</s>", false, true, "97 258 98 257");
    ids_are(t, "abcd", false, false, "259 99 100");  /* the leftmost first */
    ids_are(t, "abcd!", false, false, "259 99 100 33");
    ids_are(t, "abcd!", false, true, "261");
    ids_are(t, "abab", false, false, "259 259");
    ids_are(t, "<unk>", false, false, "60 117 110 107 62");
    ids_are(t, "<unk>", false, true, "262");
    ids_are(t, "", true, true, ""); /* BPE adds neither unless told */
    assert_false(tokenizer_adds_bos(t));
    assert_int_equal(tokenizer_bos(t), 256);
    assert_int_equal(tokenizer_eos(t), 257);
    assert_true(tokenizer_is_eog(t, 257));
    assert_false(tokenizer_is_eog(t, 256));
    assert_false(tokenizer_is_eog(t, -1));
    assert_int_equal(tokenizer_type(t, 258), TOKEN_USER_DEFINED);
    assert_int_equal(tokenizer_find(t, STR("[X]")), 258);
    assert_int_equal(tokenizer_find(t, STR("[Y]")), TOKEN_NONE);
    assert_true(str_is(tokenizer_text(t, 261), "abcd!"));
    assert_int_equal(tokenizer_text(t, 9999).n, 0);
    text_is(t, (int32_t[]){ 256, 97, 258, 257 }, 4, false, "a[X]");
    text_is(t, (int32_t[]){ 256, 97, 258, 257 }, 4, true, "<s>a[X]</s>");
    tokenizer_destroy(t);
    v->spec.add_bos = v->spec.add_eos = 1;
    t = make(v);
    ids_are(t, "a", true, true, "256 97 257");
    ids_are(t, "a", false, true, "97");
    ids_are(t, "", true, true, "256 257");
    tokenizer_destroy(t);
    vocab_free(v);
}

/* Where tokens overlap: the leftmost, and of these the longest; against that rule by brute force. */
static void brute_partition(const struct vocab *v, struct str s, struct buf *out)
{
    for (size_t at = 0, n; at < s.n; at += n) {
        size_t best = SIZE_MAX;
        for (size_t i = 256; i < v->spec.n_tokens; i++) {
            bool here = str_starts((struct str){ s.p + at, s.n - at }, v->token[i]);
            if (here && (best == SIZE_MAX || v->token[i].n > v->token[best].n))
                best = i;
        }
        n = best == SIZE_MAX ? 1 : v->token[best].n;
        buf_printf(out, "%zu ", best == SIZE_MAX ? (size_t)(unsigned char)s.p[at] : best);
    }
}

static void test_overlapping_tokens(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (int round = 0; round < 200; round++) {
        struct vocab *v = vocab_new("gpt2", "gpt-2");
        add_gpt2_bytes(v);
        for (int i = 0; i < 8; i++) {
            char text[8] = "";
            size_t n = 1 + next_random(&seed) % 6;
            for (size_t k = 0; k < n; k++)
                text[k] = (char)('a' + next_random(&seed) % 2);
            if (n > 1 && find_token(v, str_from(text)) == TOKEN_NONE)
                add_text(v, text, TOKEN_USER_DEFINED);
        }
        struct tokenizer *t = make(v);
        for (int i = 0; i < 20; i++) {
            char text[40] = "";
            struct buf want, got;
            struct token_list ids = { 0 };
            size_t n = 1 + next_random(&seed) % 36;
            for (size_t k = 0; k < n; k++)
                text[k] = (char)('a' + next_random(&seed) % 2);
            buf_init(&want, 4096);
            buf_init(&got, 4096);
            brute_partition(v, str_from(text), &want);
            encode(t, str_from(text), false, &ids);
            for (size_t k = 0; k < ids.n; k++)
                buf_printf(&got, "%d ", ids.id[k]);
            assert_string_equal(got.p, want.p);
            buf_finish(&want);
            buf_finish(&got);
            token_list_finish(&ids);
        }
        tokenizer_destroy(t);
        vocab_free(v);
    }
}

static void test_ends_of_generation(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    add_gpt2_bytes(v);
    int32_t im_end = add_text(v, "<|im_end|>", TOKEN_NORMAL);
    int32_t end = add_text(v, "<|end|>", TOKEN_CONTROL);
    int32_t ret = add_text(v, "<|return|>", TOKEN_CONTROL);
    int32_t channel = add_text(v, "<|channel|>", TOKEN_CONTROL);
    struct tokenizer *t = make(v);
    assert_true(tokenizer_is_eog(t, im_end));
    assert_int_equal(tokenizer_type(t, im_end), TOKEN_CONTROL);
    assert_true(tokenizer_is_eog(t, end));
    assert_int_equal(tokenizer_type(t, channel), TOKEN_USER_DEFINED);
    tokenizer_destroy(t);
    add_text(v, "<|call|>", TOKEN_CONTROL);
    const int32_t fim[FIM_COUNT] = { [FIM_PREFIX] = -1, [FIM_SUFFIX] = 99999, [FIM_MIDDLE] = 's',
                                     [FIM_PAD] = 'q', [FIM_REPO] = 99999, [FIM_SEP] = -1 };
    int32_t prefix = add_text(v, "<fim_prefix>", TOKEN_NORMAL);
    add_text(v, "<fim_middle>", TOKEN_NORMAL);
    int32_t sep = add_text(v, "<|file_sep|>", TOKEN_CONTROL);
    v->spec.fim = fim;
    t = make(v);
    assert_false(tokenizer_is_eog(t, end)); /* gpt-oss: a message's end, not the turn's */
    assert_true(tokenizer_is_eog(t, ret));
    assert_true(tokenizer_is_eog(t, 'q'));
    assert_false(tokenizer_is_eog(t, 'r'));
    assert_int_equal(tokenizer_fim(t, FIM_PREFIX), prefix); /* by its text */
    assert_int_equal(tokenizer_type(t, prefix), TOKEN_CONTROL);
    assert_int_equal(tokenizer_fim(t, FIM_SUFFIX), TOKEN_NONE);
    assert_int_equal(tokenizer_fim(t, FIM_MIDDLE), 's'); /* the file knows better */
    assert_int_equal(tokenizer_fim(t, FIM_PAD), 'q');
    assert_int_equal(tokenizer_fim(t, FIM_REPO), TOKEN_NONE);
    assert_int_equal(tokenizer_fim(t, FIM_SEP), sep);
    assert_true(tokenizer_is_eog(t, sep));
    assert_false(tokenizer_is_eog(t, 's'));
    tokenizer_destroy(t);
    vocab_free(v);
}

/* ---- SPM ----------------------------------------------------------------------------------- */

static struct vocab *spm_vocab(void)
{
    struct vocab *v = vocab_new("llama", "");
    add_text(v, "<unk>", TOKEN_UNKNOWN);
    add_text(v, "<s>", TOKEN_CONTROL);
    add_text(v, "</s>", TOKEN_CONTROL);
    add_byte_tokens(v);                                           /* 3.. */
    add(v, STR("\xE2\x96\x81"), TOKEN_NORMAL, -10);               /* 259 */
    add(v, STR("h"), TOKEN_NORMAL, -11);                          /* 260 */
    add(v, STR("i"), TOKEN_NORMAL, -12);                          /* 261 */
    add(v, STR("hi"), TOKEN_NORMAL, -2);                          /* 262 */
    add(v, STR("\xE2\x96\x81hi"), TOKEN_NORMAL, -3);              /* 263 */
    add(v, STR("\xE2\x96\x81\xE2\x96\x81"), TOKEN_NORMAL, -1);    /* 264 */
    return v;
}

static void test_spm(void **state)
{
    (void)state;
    struct vocab *v = spm_vocab();
    struct tokenizer *t = make(v);
    ids_are(t, "hi", true, false, "1 263");
    ids_are(t, "", true, false, "1");
    ids_are(t, " hi hi", false, false, "264 262 263");
    ids_are(t, "hi</s>hi", false, true, "263 2 263"); /* each stretch of text gets its space */
    ids_are(t, "h\xC3\xA9", false, false, "259 260 198 172");
    ids_are(t, "<0x41>", false, false, "259 63 51 123 55 52 65"); /* no byte token from text */
    text_is(t, (int32_t[]){ 1, 263, 263 }, 3, false, "hi hi");
    text_is(t, (int32_t[]){ 264, 262 }, 2, false, " hi");
    text_is(t, (int32_t[]){ 198, 172, 263 }, 3, false, "\xC3\xA9 hi");
    tokenizer_destroy(t);
    v->spec.add_space_prefix = 0;
    v->spec.add_bos = 0;
    v->spec.add_eos = 1;
    t = make(v);
    ids_are(t, "hi hi", true, false, "262 263 2");
    text_is(t, (int32_t[]){ 263, 263 }, 2, false, " hi hi");
    tokenizer_destroy(t);
    v->spec.add_space_prefix = 1;
    v->spec.remove_extra_whitespaces = 1;
    t = make(v);
    ids_are(t, "  hi   hi ", false, false, "263 263");
    ids_are(t, "   ", false, false, "");
    tokenizer_destroy(t);
    vocab_free(v);
}

/* Without byte tokens a character that is no token is one unknown token. */
static void test_spm_without_bytes(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("llama", "");
    v->spec.unk = add_text(v, "<unk>", TOKEN_UNKNOWN);
    add(v, STR("\xE2\x96\x81"), TOKEN_NORMAL, 0);
    add(v, STR("a\xE2\x96\x81" "b"), TOKEN_NORMAL, 0); /* words do not merge apart here */
    add(v, STR("a"), TOKEN_NORMAL, 0);
    add(v, STR("\xE2\x96\x81" "b"), TOKEN_NORMAL, 0);
    v->spec.add_bos = 0;
    struct tokenizer *t = make(v);
    ids_are(t, "\xC3\xA9", false, false, "1 0");
    ids_are(t, "a b", false, false, "1 2");
    tokenizer_destroy(t);
    vocab_free(v);
}

/* ---- what comes from elsewhere ------------------------------------------------------------- */

/* The ids of `text`, in which what stands between ` and ` is content; the marks are no text. */
static void spans_are(const struct tokenizer *t, const char *text, const char *want)
{
    struct spans content = { 0 };
    struct token_list ids = { 0 };
    struct err e = { 0 };
    struct buf plain, got;
    size_t begin = 0;
    bool inside = false;
    buf_init(&plain, 4096);
    buf_init(&got, 4096);
    for (; *text; text++) {
        if (*text != '`') {
            buf_putc(&plain, *text);
            continue;
        }
        if (inside)
            assert_true(spans_add(&content, begin, plain.n));
        begin = plain.n;
        inside = !inside;
    }
    assert_int_equal(tokenizer_encode_spans(t, buf_str(&plain), &content, false, &ids, &e), ERR_OK);
    buf_puts(&got, "");
    for (size_t i = 0; i < ids.n; i++)
        buf_printf(&got, "%s%d", i ? " " : "", ids.id[i]);
    if (strcmp(got.p, want) != 0)
        fail_msg("'%s': got %s, want %s", plain.p, got.p, want);
    buf_finish(&plain);
    buf_finish(&got);
    token_list_finish(&ids);
    spans_finish(&content);
}

static void test_content_forges_no_turn(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    add_gpt2_bytes(v);
    add_text(v, "<s>", TOKEN_CONTROL);        /* 256 */
    add_text(v, "[X]", TOKEN_USER_DEFINED);   /* 257 */
    add_text(v, "<s>>", TOKEN_CONTROL);       /* 258 */
    add_text(v, "<unk>", TOKEN_UNKNOWN);      /* 259 */
    add_text(v, "<|start|>", TOKEN_CONTROL);  /* 260: shown, but shapes turns */
    add_text(v, "ab", TOKEN_NORMAL);          /* 261 */
    add_text(v, "<|User|>", TOKEN_USER_DEFINED); /* 262: as some files type it */
    add_merge(v, "a b");
    struct tokenizer *t = make(v);
    spans_are(t, "`<|User|>`<|User|>", "60 124 85 115 101 114 124 62 262");
    ids_are(t, "<|User|>", false, false, "262");
    spans_are(t, "<s>a<s>", "256 97 256");
    spans_are(t, "<s>`a`<s>", "256 97 256");
    spans_are(t, "<s>`<s>`<s>", "256 60 115 62 256");
    spans_are(t, "`<`s>", "60 115 62");
    spans_are(t, "<s`>`", "60 115 62");
    spans_are(t, "<`s`>", "60 115 62");
    spans_are(t, "<s>`>`", "256 62");         /* the longer one would reach into content */
    spans_are(t, "`<unk>`<unk>", "60 117 110 107 62 259");
    spans_are(t, "`[X]`[`X`]", "257 257");    /* user-defined ones are text to everybody */
    spans_are(t, "a`b`", "261");              /* words go across the border */
    spans_are(t, "`<|start|>`<|start|>", "60 124 115 116 97 114 116 124 62 260");
    ids_are(t, "<|start|>", false, true, "260");
    ids_are(t, "<|start|>", false, false, "60 124 115 116 97 114 116 124 62");
    text_is(t, (int32_t[]){ 260, 256 }, 2, false, "<|start|>");
    struct token_list ids = { 0 };
    struct err e = { 0 };
    assert_int_equal(tokenizer_encode_spans(t, STR("<s>"), NULL, false, &ids, &e), ERR_OK);
    assert_int_equal(ids.n, 1);
    assert_int_equal(tokenizer_encode_spans(t, STR("a\xFF"), NULL, false, &ids, &e), ERR_INVALID);
    token_list_finish(&ids);
    tokenizer_destroy(t);
    vocab_free(v);
}

/* ---- unigram ------------------------------------------------------------------------------- */

/* A charsmap that writes "x" as "yy": unit 0 is the root, whose children hang from 256; 256 ^ 'x' is
 * the node of 'x', whose leaf is the next but one. */
#define MAP_UNITS 512
static const char map_of_x[4 + 4 * MAP_UNITS + 3] = {
    [0] = 0, [1] = 8,                                  /* 2048 bytes of units */
    [4 + 1] = 0, [4 + 2] = 4,                          /* unit 0: children at 256 */
    [4 + 4 * (256 ^ 'x')] = 'x',                       /* its byte */
    [4 + 4 * (256 ^ 'x') + 1] = 9,                     /* a leaf hangs below, at 2 */
    [4 + 4 * (256 ^ 'x' ^ 2) + 3] = (char)0x80,        /* the leaf: offset 0 */
    [4 + 4 * MAP_UNITS] = 'y', 'y', 0,
};

static void test_unigram(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("t5", "");
    v->spec.unk = add_text(v, "<unk>", TOKEN_UNKNOWN);       /* 0 */
    v->spec.eos = add_text(v, "</s>", TOKEN_CONTROL);        /* 1 */
    add(v, STR("\xE2\x96\x81"), TOKEN_NORMAL, -3);          /* 2 */
    add(v, STR("a"), TOKEN_NORMAL, -2);                      /* 3 */
    add(v, STR("ab"), TOKEN_NORMAL, -5);                     /* 4 */
    add(v, STR("b"), TOKEN_NORMAL, -2);                      /* 5 */
    add(v, STR("bb"), TOKEN_NORMAL, -3);                     /* 6 */
    add(v, STR("\xE2\x96\x81" "a"), TOKEN_NORMAL, -4);      /* 7 */
    add(v, STR("yy"), TOKEN_NORMAL, -4);                     /* 8 */
    add(v, STR("c"), TOKEN_UNUSED, 0);                       /* 9 */
    struct tokenizer *t = make(v);
    ids_are(t, "ab", true, false, "7 5 1");         /* -6; "_ ab" is -8 */
    ids_are(t, " a  abb ", false, false, "7 7 6");  /* extra spaces go */
    ids_are(t, "", true, false, "1");
    ids_are(t, "   ", false, false, "");
    ids_are(t, "aqqa", false, false, "7 0 3");      /* unknown ones run together */
    ids_are(t, "c", false, false, "2 0");           /* unused is no token */
    ids_are(t, "</s>a", false, true, "1 7");
    text_is(t, (int32_t[]){ 7, 7, 6, 1 }, 4, false, "a abb");
    tokenizer_destroy(t);
    v->spec.charsmap = (struct str){ map_of_x, sizeof map_of_x };
    v->spec.add_space_prefix = v->spec.remove_extra_whitespaces = 0;
    t = make(v);
    ids_are(t, "x a ", false, false, "8 7 2");
    tokenizer_destroy(t);
    static const struct {
        size_t n;
        const char *bytes;
    } bad[] = { { 3, "abc" }, { 5, "\xFF\0\0\0z" }, { 6, "\x02\0\0\0zz" }, { 5, "\0\0\0\0z" } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err e = { 0 };
        v->spec.charsmap = (struct str){ bad[i].bytes, bad[i].n };
        assert_int_equal(tokenizer_create(&v->spec, &t, &e), ERR_FORMAT);
        assert_non_null(strstr(e.text, "precompiled_charsmap"));
    }
    vocab_free(v);
}

/* ---- WordPiece ----------------------------------------------------------------------------- */

static void check_word_piece(bool hashes)
{
    const char *const tokens[] = { "[UNK]", "[CLS]", "[SEP]", "un", "##a", "##ff", "##able", "e",
                                   ",", "\xE4\xB8\xAD", "##e", "u" };
    struct vocab *v = vocab_new("bert", "");
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        char text[32];
        bool goes_on = tokens[i][0] == '#';
        snprintf(text, sizeof text, "%s%s", hashes || goes_on || i < 3 ? "" : "\xE2\x96\x81",
                 tokens[i] + (goes_on && !hashes ? 2 : 0));
        add_text(v, text, i < 3 ? TOKEN_CONTROL : TOKEN_NORMAL);
    }
    v->spec.unk = 0;
    v->spec.bos = 1;
    v->spec.sep = 2;
    struct tokenizer *t = make(v);
    ids_are(t, "Unaffable", true, false, "1 3 4 5 6 2");
    ids_are(t, "\xC3\x89 \xC3\xA9\xE2\x80\x8B,\xE4\xB8\xAD" "e", false, false, "7 7 8 9 7");
    ids_are(t, "unz un", false, false, "0 3");       /* all of a word or nothing */
    ids_are(t, "", true, false, "1 2");
    ids_are(t, "[SEP]", false, true, "2");
    text_is(t, (int32_t[]){ 1, 3, 4, 8, 2 }, 5, false, "una ,");
    char longest[102];
    memset(longest, 'e', sizeof longest);
    longest[0] = 'u';
    longest[101] = '\0';
    ids_are(t, longest, false, false, "0");          /* 101 characters */
    struct token_list ids = { 0 };
    encode(t, (struct str){ longest, 100 }, false, &ids);
    assert_int_equal(ids.n, 100);
    token_list_finish(&ids);
    tokenizer_destroy(t);
    v->spec.strip_accents = v->spec.lowercase = 0;
    t = make(v);
    ids_are(t, "e E \xC3\xA9", false, false, "7 0 0");
    tokenizer_destroy(t);
    vocab_free(v);
}

static void test_word_piece(void **state)
{
    (void)state;
    check_word_piece(false);
    check_word_piece(true);
}

/* ---- raw BPE (Gemma 4) --------------------------------------------------------------------- */

static void test_raw_bpe(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gemma4", "");
    v->spec.bos = add_text(v, "<bos>", TOKEN_CONTROL);
    add_byte_tokens(v);                                  /* 1.. */
    add_text(v, "\xE2\x96\x81", TOKEN_NORMAL);           /* 257 */
    add_text(v, "a", TOKEN_NORMAL);                      /* 258 */
    add_text(v, "\xE2\x96\x81" "a", TOKEN_NORMAL);       /* 259 */
    add_text(v, "\n", TOKEN_NORMAL);                     /* 260 */
    add_text(v, "\n\n", TOKEN_NORMAL);                   /* 261 */
    add_merge(v, "\xE2\x96\x81 a");
    struct tokenizer *t = make(v);
    ids_are(t, "a a\n\n\xC3\xA9", true, false, "0 258 259 261 196 170");
    text_is(t, (int32_t[]){ 258, 259, 261, 196, 170 }, 5, false, "a a\n\n\xC3\xA9");
    tokenizer_destroy(t);
    vocab_free(v);
}

/* ---- streaming ----------------------------------------------------------------------------- */

static void feed_all(struct detokenizer *d, const int32_t *ids, size_t n, struct buf *out)
{
    struct err e = { 0 };
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(detokenizer_feed(d, ids[i], out, &e), ERR_OK);
        assert_int_equal(utf8_valid(out->p, out->n), out->n); /* never a half sequence */
    }
}

static void check_stream(const struct tokenizer *t, struct str text)
{
    struct token_list ids = { 0 };
    encode(t, text, false, &ids);
    for (size_t cut = 0; cut <= ids.n; cut++) {
        struct detokenizer d;
        struct buf out;
        buf_init(&out, 1 << 16);
        detokenizer_init(&d, t, false, false);
        feed_all(&d, ids.id, cut, &out);
        assert_true(out.n <= text.n && memcmp(text.p, out.p ? out.p : "", out.n) == 0);
        feed_all(&d, ids.id + cut, ids.n - cut, &out);
        detokenizer_flush(&d, &out);
        assert_true(str_eq(buf_str(&out), text));
        buf_finish(&out);
    }
    token_list_finish(&ids);
}

static void test_streaming(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    struct vocab *s = spm_vocab();
    add_gpt2_bytes(v);
    uint64_t seed = 5;
    struct tokenizer *t = make(v), *u = make(s);
    for (int i = 0; i < 100; i++) {
        struct buf text;
        buf_init(&text, 4096);
        buf_puts(&text, "x");
        put_random_text(&text, &seed, next_random(&seed) % 30);
        check_stream(t, buf_str(&text));
        check_stream(u, buf_str(&text));
        buf_finish(&text);
    }
    tokenizer_destroy(t);
    tokenizer_destroy(u);
    vocab_free(v);
    vocab_free(s);
}

/* Bytes that are no UTF-8: a U+FFFD for each maximal subpart (Unicode 15, table 3-8). */
static void test_broken_stream(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *want;
    } rows[] = {
        { "a\xC3", "a\xEF\xBF\xBD" },
        { "\xC3(", "\xEF\xBF\xBD(" },
        { "\xE2\x96", "\xEF\xBF\xBD" },
        { "\xF0\x9F\x98", "\xEF\xBF\xBD" },
        { "\xF0\x9F\x98z", "\xEF\xBF\xBDz" },
        { "\xF4\x8F\xBF", "\xEF\xBF\xBD" },
        { "\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" },
        { "\xE0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" },
        { "\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" },
        { "\xED\x9F", "\xEF\xBF\xBD" },
        { "\xE0\xA0\xC3\xA9", "\xEF\xBF\xBD\xC3\xA9" },
        { "\x80\xFF" "b", "\xEF\xBF\xBD\xEF\xBF\xBD" "b" },
        { "\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD" },
        { "\xF0\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" },
    };
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    add_gpt2_bytes(v);
    struct tokenizer *t = make(v);
    struct err e = { 0 };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct detokenizer d;
        struct buf out;
        buf_init(&out, 256);
        detokenizer_init(&d, t, false, false);
        for (const char *p = rows[i].bytes; *p; p++)
            assert_int_equal(detokenizer_feed(&d, (unsigned char)*p, &out, &e), ERR_OK);
        detokenizer_flush(&d, &out);
        assert_string_equal(out.p, rows[i].want);
        buf_finish(&out);
    }
    struct detokenizer d;
    struct buf out;
    buf_init(&out, 256);
    detokenizer_init(&d, t, false, false);
    assert_int_equal(detokenizer_feed(&d, 256, &out, &e), ERR_INVALID);
    assert_int_equal(detokenizer_feed(&d, -1, &out, &e), ERR_INVALID);
    buf_finish(&out);
    tokenizer_destroy(t);
    vocab_free(v);
}

static void test_stream_start(void **state)
{
    (void)state;
    struct vocab *v = spm_vocab();
    struct tokenizer *t = make(v);
    struct err e = { 0 };
    for (int continues = 0; continues < 2; continues++) {
        struct detokenizer d;
        struct buf out;
        buf_init(&out, 256);
        detokenizer_init(&d, t, false, continues != 0);
        feed_all(&d, (int32_t[]){ 1, 263, 263 }, 3, &out);
        assert_string_equal(out.p, continues ? " hi hi" : "hi hi");
        assert_int_equal(detokenizer_feed(&d, 2, &out, &e), ERR_OK);
        buf_finish(&out);
    }
    tokenizer_destroy(t);
    vocab_free(v);
}

/* ---- what is refused ----------------------------------------------------------------------- */

static void test_not_utf8(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    add_gpt2_bytes(v);
    struct tokenizer *t = make(v);
    struct token_list ids = { 0 };
    struct err e = { 0 };
    assert_int_equal(tokenizer_encode(t, STR("abc"), false, false, &ids, &e), ERR_OK);
    assert_int_equal(tokenizer_encode(t, STR("ab\xC3(c"), false, false, &ids, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "byte 2"));
    assert_int_equal(ids.n, 3);
    assert_int_equal(tokenizer_encode(t, STR("a\0b"), false, false, &ids, &e), ERR_OK);
    assert_int_equal(ids.n, 6); /* NUL is a byte like others */
    assert_int_equal(tokenizer_decode(t, (int32_t[]){ 256 }, 1, false, NULL, &e), ERR_INVALID);
    token_list_finish(&ids);
    tokenizer_destroy(t);
    vocab_free(v);
}

static void refused(const struct vocab *v, enum err_code code, const char *word)
{
    struct err e = { 0 };
    struct tokenizer *t = NULL;
    assert_int_equal(tokenizer_create(&v->spec, &t, &e), code);
    assert_null(t);
    if (!strstr(e.text, word))
        fail_msg("'%s' does not say '%s'", e.text, word);
}

static void test_refused_specs(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "gpt-2");
    refused(v, ERR_FORMAT, "no token");
    add_gpt2_bytes(v);
    static const char *const others[] = { "rwkv", "plamo2", "hybriddna", "" };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        v->spec.model = str_from(others[i]);
        refused(v, ERR_UNSUPPORTED, others[i]);
    }
    v->spec.model = STR("gpt2");
    v->spec.pre = STR("strange");
    refused(v, ERR_UNSUPPORTED, "strange");
    v->spec.pre = STR("");
    v->spec.merges = NULL;
    refused(v, ERR_FORMAT, "merges");
    v->spec.merges = v->merge;
    static const char *const bad[] = { "ab", "", " ", "a ", " a", "ab " };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        v->spec.n_merges = 0;
        add_merge(v, "a b");
        add_merge(v, bad[i]);
        refused(v, ERR_FORMAT, "number 1");
    }
    v->spec.n_tokens = (size_t)1 << 40;
    refused(v, ERR_TOO_LARGE, "tokens");
    vocab_free(v);
}

/* Sane where a spec is odd: nothing here may crash, and text still comes back. */
static void test_odd_specs(void **state)
{
    (void)state;
    struct vocab *v = vocab_new("gpt2", "llama-bpe");
    add_gpt2_bytes(v);
    add_text(v, "", TOKEN_NORMAL);             /* 256: empty */
    add_text(v, "", TOKEN_CONTROL);            /* 257: empty */
    add_text(v, "ab", TOKEN_NORMAL);           /* 258 */
    add_text(v, "ab", TOKEN_NORMAL);           /* 259: twice */
    add_text(v, "a b", TOKEN_NORMAL);          /* 260: a space as it is, not as GPT-2 writes it */
    add_text(v, "zz", 77);                     /* 261: a type that is none */
    add_text(v, "<0xZZ>", TOKEN_BYTE);         /* 262: no byte */
    add_text(v, "\xC4", TOKEN_NORMAL);         /* 263: half a character */
    add_merge(v, "a b");
    add_merge(v, "a b");
    add_merge(v, "ab nowhere");
    add_merge(v, "q q");   /* makes a text that is no token */
    add_merge(v, "qq q");
    v->score[3] = NAN;
    v->spec.bos = 1000000;
    v->spec.eos = -5;
    v->spec.pad = INT32_MAX;
    struct tokenizer *t = make(v);
    ids_are(t, "ab", true, true, "258");
    ids_are(t, "qqq", false, false, "113 113 113");
    ids_are(t, "a b", false, false, "97 32 98");
    assert_int_equal(tokenizer_bos(t), TOKEN_NONE);
    assert_int_equal(tokenizer_eos(t), TOKEN_NONE);
    assert_int_equal(tokenizer_find(t, STR("")), TOKEN_NONE);
    text_is(t, (int32_t[]){ 256, 257, 259, 260, 261, 262 }, 6, true, "aba bzz<0xZZ>");
    check_round_trip(t, STR("qqqq ab nowhere\n\xF0\x9F\x98\x80"));
    tokenizer_destroy(t);
    vocab_free(v);
}

static void test_odd_scores(void **state)
{
    (void)state;
    struct vocab *v = spm_vocab();
    static const float odd[] = { NAN, INFINITY, -INFINITY, -0.0F, 0.0F, 1e-45F };
    uint64_t seed = 9;
    for (int i = 0; i < 50; i++) {
        for (size_t k = 259; k < v->spec.n_tokens; k++)
            v->score[k] = odd[next_random(&seed) % 6];
        struct tokenizer *t = make(v);
        check_round_trip(t, STR("hihi  hi h i"));
        tokenizer_destroy(t);
    }
    v->spec.scores = NULL;
    v->spec.types = NULL;
    struct tokenizer *t = make(v);
    check_round_trip(t, STR("hihi  hi"));
    tokenizer_destroy(t);
    vocab_free(v);
}

/* Vocabularies of random texts, types and merges: an error or a tokenizer, and no crash. */
static void test_random_specs(void **state)
{
    (void)state;
    static const char *const models[] = { "gpt2", "llama", "gemma4", "t5", "bert", "whitespace" };
    uint64_t seed = 11;
    for (int i = 0; i < 300; i++) {
        const char *pre = pretokenizer_name(next_random(&seed) % 100);
        struct vocab *v = vocab_new(models[i % 6], pre ? pre : "gpt-2");
        struct token_list ids = { 0 };
        struct err e = { 0 };
        struct tokenizer *t = NULL;
        for (size_t n = next_random(&seed) % 60; n > 0; n--) {
            struct buf b;
            buf_init(&b, 4096);
            put_random_text(&b, &seed, next_random(&seed) % 5);
            int32_t type = (int32_t)(next_random(&seed) % 9) - 1;
            add(v, buf_str(&b), type, (float)(next_random(&seed) % 5));
            if (b.n > 1) {
                buf_put(&b, " a", 1 + next_random(&seed) % 2);
                add_merge(v, b.p);
            }
            buf_finish(&b);
        }
        v->spec.bos = (int32_t)(next_random(&seed) % 100) - 20;
        v->spec.eos = (int32_t)(next_random(&seed) % 100) - 20;
        enum err_code code = tokenizer_create(&v->spec, &t, &e);
        assert_true(code == ERR_OK || code == ERR_FORMAT);
        for (int k = 0; t && k < 5; k++) {
            struct buf b;
            buf_init(&b, 4096);
            put_random_text(&b, &seed, next_random(&seed) % 60);
            ids.n = 0;
            assert_int_equal(tokenizer_encode(t, buf_str(&b), true, k % 2, &ids, &e), ERR_OK);
            buf_clear(&b);
            assert_int_equal(tokenizer_decode(t, ids.id, ids.n, true, &b, &e), ERR_OK);
            buf_finish(&b);
        }
        token_list_finish(&ids);
        tokenizer_destroy(t);
        vocab_free(v);
    }
}

/* ---- no memory ----------------------------------------------------------------------------- */

static enum err_code all_of_it(const struct vocab *v, struct buf *text, struct err *e)
{
    struct tokenizer *t = NULL;
    struct token_list ids = { 0 };
    struct detokenizer d;
    static const char in[] = "<s>hi hihihihihihihihihihihihihihihihihihihihihihi 12 \xE4\xB8\xAD</s> x";
    enum err_code code = tokenizer_create(&v->spec, &t, e);
    if (!code)
        code = tokenizer_encode(t, str_from(in), true, true, &ids, e);
    if (!code)
        code = tokenizer_decode(t, ids.id, ids.n, true, text, e);
    detokenizer_init(&d, t, true, false);
    for (size_t i = 0; !code && i < ids.n; i++)
        code = detokenizer_feed(&d, ids.id[i], text, e);
    token_list_finish(&ids);
    tokenizer_destroy(t);
    return code;
}

static void sweep(const struct vocab *v)
{
    uint64_t live = mem_live(), n = 1;
    for (enum err_code code = ERR_NO_MEMORY; code; n++) {
        struct err e = { 0 };
        struct buf text;
        buf_init(&text, 4096);
        mem_fail_after(n, n % 2 == 0);
        code = all_of_it(v, &text, &e);
        mem_fail_after(0, false);
        assert_true(code == ERR_OK || (code == ERR_NO_MEMORY && e.text[0]));
        buf_finish(&text);
        assert_true(mem_live() == live);
    }
    assert_true(n > 12);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct vocab *s = spm_vocab();
    struct vocab *v = vocab_new("gpt2", "deepseek-llm");
    add_gpt2_bytes(v);
    v->spec.bos = add_text(v, "<s>", TOKEN_CONTROL);
    add_text(v, "</s>", TOKEN_CONTROL);
    add_merge(v, "h i");
    add_merge(v, "hi hi");
    add_text(v, "hi", TOKEN_NORMAL);
    sweep(v);
    sweep(s);
    v->spec.model = STR("gemma4");
    sweep(v);
    v->spec.model = STR("bert");
    sweep(v);
    v->spec.model = STR("t5");
    v->spec.charsmap = (struct str){ map_of_x, sizeof map_of_x };
    sweep(v);
    vocab_free(v);
    vocab_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bpe_is_the_definition),
        cmocka_unit_test(test_spm_is_the_definition),
        cmocka_unit_test(test_long_word),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_overlapping_tokens),
        cmocka_unit_test(test_ends_of_generation),
        cmocka_unit_test(test_spm),
        cmocka_unit_test(test_spm_without_bytes),
        cmocka_unit_test(test_content_forges_no_turn),
        cmocka_unit_test(test_unigram),
        cmocka_unit_test(test_word_piece),
        cmocka_unit_test(test_raw_bpe),
        cmocka_unit_test(test_streaming),
        cmocka_unit_test(test_broken_stream),
        cmocka_unit_test(test_stream_start),
        cmocka_unit_test(test_not_utf8),
        cmocka_unit_test(test_refused_specs),
        cmocka_unit_test(test_odd_specs),
        cmocka_unit_test(test_odd_scores),
        cmocka_unit_test(test_random_specs),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
