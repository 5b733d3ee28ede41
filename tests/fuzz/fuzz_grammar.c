/* Any bytes as a grammar: it is refused with a reason, or walks through its masks end in a sentence, within the limit,
 * and within counts of work. A NUL byte ends the grammar; the bytes behind it choose the tokens. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/text/constraint.h"
#include "runtime/text/gbnf.h"
#include "tests/unit/grammar_kit.h"

static struct kit_vocab kit;
static struct tokenizer *tokenizer;
static struct grammar_vocab *vocab;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const pieces[] = { "a", "ab", "\": \"", "\"}", "[[", "]]", "{\"", "tr", "ue", ", ", "\xC3\xA9", ("\xC3\xA9" "a"), "12" };
    (void)argc, (void)argv;
    kit_begin(&kit);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        kit_add(&kit, pieces[i], TOKEN_NORMAL);
    kit_add(&kit, "<t>", TOKEN_CONTROL);
    kit_add(&kit, "<u>", TOKEN_USER_DEFINED);
    struct err e = { 0 };
    tokenizer = kit_tokenizer(&kit, &e);
    if (!tokenizer || grammar_vocab_create(tokenizer, &vocab, &e))
        abort();
    return 0;
}

static int32_t pick(const uint32_t *mask, size_t words, size_t k)
{
    size_t n = 0;
    for (size_t i = 0; i < words; i++)
        n += (size_t)__builtin_popcount(mask[i]);
    k %= n;
    for (size_t i = 0; i < words; i++)
        for (uint32_t bits = mask[i]; bits; bits &= bits - 1)
            if (k-- == 0)
                return (int32_t)(i * 32 + (size_t)__builtin_ctz(bits));
    abort();
}

static void walk(struct grammar *g, const uint8_t *choice, size_t n)
{
    const uint32_t least = grammar_min_tokens(g), limit = least + 6;
    struct constraint *c = NULL;
    struct err e = { 0 };
    enum err_code code = least > 200 ? ERR_TOO_LARGE : constraint_create(g, limit, &c, &e);
    for (uint32_t left = limit, i = 0; !code && left && !constraint_done(c); left--, i++) {
        const uint32_t *mask;
        code = constraint_mask(c, left, &mask, &e);
        if (code)
            break;
        const int32_t id = pick(mask, constraint_mask_words(c), n ? choice[i % n] * (size_t)(i + 7) : i);
        code = constraint_accept(c, id, &e);
        if (id == 2)
            break;
    }
    if (code == ERR_INVALID || (!code && !constraint_may_end(c)))
        abort();
    constraint_destroy(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, 0, size) : NULL;
    const size_t n = end ? (size_t)(end - data) : size;
    const uint64_t live = mem_live();
    struct gram *tree = NULL;
    struct grammar *g = NULL;
    struct err e = { 0 };
    enum err_code code = gbnf_parse((struct str){ (const char *)data, n }, &tree, &e);
    if (!code)
        code = grammar_create(tree, vocab, &g, &e);
    if (code && (e.code != code || e.text[0] == '\0' || code == ERR_INTERNAL))
        abort();
    if (!code)
        walk(g, end ? end + 1 : data, end ? size - n - 1 : size);
    grammar_unref(g);
    gram_destroy(tree);
    if (mem_live() != live)
        abort();
    return 0;
}
