#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/text/pretokenizer.h"

#include <pcre2.h>
#include <stdint.h>
#include <string.h>

#include "runtime/base/mem.h"

/* ---- the table ----------------------------------------------------------------------------- */

enum how {
    HOW_MATCH,      /* each match is a piece */
    HOW_THREES,     /* each match is cut into groups of three characters, counted from its right */
    HOW_THREES_CUT, /* the same, but a leading group of one or two stays with what is before it, and
                       the last group with what comes after */
};

struct step {
    const char *regex; /* NULL: no more */
    enum how how;
};

#define PRE_STEPS 6

struct row {
    const char *name;
    unsigned flags;
    struct step step[PRE_STEPS + 1];
};

/* Shared parts of the expressions. */
#define CONTRACTION "'s|'t|'re|'ve|'m|'ll|'d"
#define CONTRACTION_I "(?i:" CONTRACTION ")"
#define SPACES "\\s+(?!\\S)|\\s+"
#define LINES_SPACES "\\s*[\\r\\n]+|" SPACES
#define LETTERS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"

/* Whole expressions. */
#define RE_GPT2 CONTRACTION "| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" SPACES
#define RE_LLAMA3 CONTRACTION_I "|" LETTERS "|\\p{N}{1,3}|" SYMBOLS "|" LINES_SPACES
#define RE_QWEN2 CONTRACTION_I "|" LETTERS "|\\p{N}|" SYMBOLS "|" LINES_SPACES
#define RE_QWEN35                                                                                  \
    CONTRACTION_I "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"                                  \
                  "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES_SPACES
#define RE_MINICPM5 CONTRACTION_I "|" LETTERS "|\\p{N}+|" SYMBOLS "|" LINES_SPACES
#define RE_SEED                                                                                    \
    CONTRACTION_I "|" LETTERS "|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES_SPACES
#define RE_BAILING                                                                                 \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}"                                  \
    "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|" SPACES
/* Possessive where the model's own expression is greedy: nothing after the group can make it give
 * back, and a run of a million letters keeps no stack. */
#define RE_EXAONE_MOE                                                                              \
    CONTRACTION_I                                                                                  \
    "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}"                      \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" SPACES
#define RE_JAIS2                                                                                   \
    CONTRACTION_I                                                                                  \
    "|" LETTERS "|\\p{N}{1,3}|" SYMBOLS "|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)"           \
    "|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)"    \
    "|\\s{1,2}(?!\\S)|\\s{1}"

/* Words that begin in capitals or go on in small letters; `upper`, `lower` are classes, `tail` an
 * optional contraction. */
#define RE_CASED(upper, lower, tail, digits, symbols)                                              \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower    \
    "*" tail "|" digits "| ?[^\\s\\p{L}\\p{N}]+" symbols "*|" LINES_SPACES
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
/* The same without Han, written as complements: PCRE2 has no intersection of classes. */
#define HAN "\\p{sc:Han}" /* \p{Han} alone would be script extensions */
#define UPPER_NO_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
#define LOWER_NO_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
#define RE_TEKKEN RE_CASED(UPPER, LOWER, "", "\\p{N}", "[\\r\\n/]")
#define RE_GPT4O RE_CASED(UPPER, LOWER, CONTRACTION_I "?", "\\p{N}{1,3}", "[\\r\\n/]")
#define RE_YOUTU RE_CASED(UPPER, LOWER, CONTRACTION_I "?", "\\p{N}", "[\\r\\n/]")
#define RE_KIMI                                                                                    \
    HAN "+|" RE_CASED(UPPER_NO_HAN, LOWER_NO_HAN, CONTRACTION_I "?", "\\p{N}{1,3}", "[\\r\\n]")

#define RE_DEEPSEEK3                                                                               \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"                                        \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES_SPACES
#define RE_CJK_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define RE_CJK_HANGUL "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
/* Letters with case, as DeepSeek LLM's tokenizer.json lists them. */
#define RE_CASED_LETTERS                                                                           \
    "\\s?["                                                                                        \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}"        \
    "\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}"         \
    "\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"                 \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                  \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"        \
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"         \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                  \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"                 \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"               \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"         \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}]+"
#define RE_PUNCTUATION                                                                             \
    "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+"
#define RE_BLOOM                                                                                   \
    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
#define RE_YOUTU_SCRIPTS                                                                           \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+"                                                    \
    "|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}"          \
    "\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" RE_CJK_KANA
#define RE_ASIAN                                                                                   \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}"                \
    "\\x{30A0}-\\x{30FF}\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}"  \
    "\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}"                 \
    "\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+"
#define RE_NEWLINES "[^\\n]+|[\\n]+"
/* Oniguruma's \w, which the models' tokenizer.json mean: Alphabetic, marks, digits, connectors, and
 * the raised digits and fractions of Latin-1. PCRE2's is another set in each of its versions. */
#define WORD                                                                                       \
    "[\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}\\x{24B6}-\\x{24E9}"             \
    "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}]"
/* Runs of digits that end at a word's end; others are stepped over whole, so that a long run is
 * looked at once. */
#define RE_DIGITS_TO_WORD_END "\\d++(?:(?!" WORD ")|(*SKIP)(*FAIL))"
#define RE_LAST_SPACES "\\s++(?:$|(*SKIP)(*FAIL))" /* \s+$, likewise */

/* Steps of a row. */
#define ONE(re) { { re, HOW_MATCH } }
#define TWO(a, b) { { a, HOW_MATCH }, { b, HOW_MATCH } }
#define GPT2 ONE(RE_GPT2)
#define DIGIT_GPT2 TWO("\\p{N}", RE_GPT2)
#define LLAMA3 ONE(RE_LLAMA3)
#define QWEN2 ONE(RE_QWEN2)
#define GPT4O ONE(RE_GPT4O)
#define DEEPSEEK3                                                                                  \
    { { "\\p{N}{1,3}", HOW_MATCH }, { RE_CJK_KANA, HOW_MATCH }, { RE_DEEPSEEK3, HOW_MATCH } }
#define THREES_GPT4O { { RE_DIGITS_TO_WORD_END, HOW_THREES }, { RE_GPT4O, HOW_MATCH } }
#define LLAMA3_FLAGS (PRE_IGNORE_MERGES | PRE_ADD_BOS)

static const struct row rows[] = {
    { "default", 0,
      { { "[\\p{P}\\$\\+<=>\\^~\\|]+", HOW_MATCH },
        { RE_GPT2, HOW_MATCH },
        { "\\p{N}+", HOW_MATCH },
        { "[0-9][0-9][0-9]", HOW_MATCH } } },
    { "gpt-2", 0, GPT2 },
    { "phi-2", 0, GPT2 },
    { "mpt", 0, GPT2 },
    { "olmo", 0, GPT2 },
    { "jais", 0, GPT2 },
    { "exaone4", 0, GPT2 },
    { "trillion", 0, GPT2 },
    { "granite-docling", 0, GPT2 },
    { "gigachat", 0, GPT2 },
    { "a.x-4.0", 0, GPT2 },
    { "mellum", 0, GPT2 },
    { "modern-bert", 0, GPT2 },
    { "roberta-bpe", 0, GPT2 },
    { "jina-es", 0, GPT2 },
    { "jina-de", 0, GPT2 },
    { "jina-v1-en", 0, GPT2 },
    { "jina-v2-es", 0, GPT2 },
    { "jina-v2-de", 0, GPT2 },
    { "jina-v2-code", 0, GPT2 },
    { "smollm", 0, DIGIT_GPT2 },
    { "starcoder", 0, DIGIT_GPT2 },
    { "refact", 0, DIGIT_GPT2 },
    { "command-r", 0, DIGIT_GPT2 },
    { "codeshell", 0, DIGIT_GPT2 },
    { "exaone", 0, DIGIT_GPT2 },
    { "minerva-7b", 0, DIGIT_GPT2 },
    { "mellum2", 0, DIGIT_GPT2 },
    { "llama-bpe", LLAMA3_FLAGS, LLAMA3 },
    { "llama3", LLAMA3_FLAGS, LLAMA3 },
    { "llama-v3", LLAMA3_FLAGS, LLAMA3 },
    { "falcon3", LLAMA3_FLAGS, LLAMA3 },
    { "falcon-h1", LLAMA3_FLAGS, LLAMA3 },
    { "pixtral", LLAMA3_FLAGS, LLAMA3 },
    { "midm-2.0", LLAMA3_FLAGS, LLAMA3 },
    { "lfm2", LLAMA3_FLAGS, LLAMA3 },
    { "jina-v5-nano", LLAMA3_FLAGS, LLAMA3 },
    { "dbrx", 0, LLAMA3 },
    { "smaug-bpe", 0, LLAMA3 },
    { "chatglm-bpe", PRE_NO_BOS, LLAMA3 },
    { "glm4", PRE_NO_BOS, LLAMA3 },
    { "jais-2", 0, ONE(RE_JAIS2) },
    { "qwen2", 0, QWEN2 },
    { "deepseek-r1-qwen", 0, QWEN2 },
    { "kormo", 0, QWEN2 },
    { "f2llmv2", 0, QWEN2 },
    { "megrez", 0, QWEN2 },
    { "stablelm2", 0, QWEN2 },
    { "hunyuan", 0, QWEN2 },
    { "solar-open", 0, QWEN2 },
    { "grok-2", 0, QWEN2 },
    { "laguna", 0, TWO(RE_NEWLINES, RE_QWEN2) },
    { "qwen35", 0, ONE(RE_QWEN35) },
    { "minicpm5", PRE_IGNORE_MERGES, TWO("\\p{N}{1,3}", RE_MINICPM5) },
    { "seed-coder", 0, ONE(RE_SEED) },
    { "bailingmoe", 0, ONE(RE_BAILING) },
    { "bailingmoe2", 0, ONE(RE_BAILING) },
    { "llada-moe", 0, ONE(RE_BAILING) },
    { "exaone-moe", 0, ONE(RE_EXAONE_MOE) },
    { "gpt-4o", 0, GPT4O },
    { "llama4", 0, GPT4O },
    { "kanana2", 0, GPT4O },
    { "talkie", 0, GPT4O },
    { "minimax-m2", 0, GPT4O },
    { "granite-embed-multi-97m", PRE_IGNORE_MERGES, GPT4O },
    { "tiny_aya", 0, THREES_GPT4O },
    { "cohere2moe", 0, THREES_GPT4O },
    { "tekken", PRE_IGNORE_MERGES | PRE_ADD_BOS, ONE(RE_TEKKEN) },
    { "youtu", PRE_IGNORE_MERGES, TWO(RE_YOUTU_SCRIPTS, RE_YOUTU) },
    { "kimi-k2", 0, ONE(RE_KIMI) },
    { "deepseek-llm", 0,
      { { "[\\r\\n]", HOW_MATCH },
        { RE_CASED_LETTERS, HOW_MATCH },
        { RE_PUNCTUATION, HOW_MATCH },
        { RE_LAST_SPACES, HOW_MATCH },
        { RE_CJK_HANGUL, HOW_MATCH },
        { "\\p{N}+", HOW_MATCH } } },
    { "deepseek-coder", 0,
      { { "[\\r\\n]", HOW_MATCH },
        { "\\s?\\p{L}+", HOW_MATCH },
        { "\\s?\\p{P}+", HOW_MATCH },
        { RE_CJK_HANGUL, HOW_MATCH },
        { "\\p{N}", HOW_MATCH } } },
    { "deepseek-v3", 0, DEEPSEEK3 },
    { "hunyuan-dense", 0, DEEPSEEK3 },
    { "joyai-llm", 0, DEEPSEEK3 },
    { "afmoe", 0,
      { { "\\p{N}+", HOW_THREES }, { RE_ASIAN, HOW_MATCH }, { RE_DEEPSEEK3, HOW_MATCH } } },
    { "falcon", 0,
      { { "[\\p{P}\\$\\+<=>\\^~\\|`]+", HOW_MATCH },
        { RE_GPT2, HOW_MATCH },
        { "[0-9][0-9][0-9]", HOW_MATCH } } },
    { "bloom", 0, ONE(RE_BLOOM) },
    { "poro-chat", 0, ONE(RE_BLOOM) },
    { "gpt3-finnish", 0, ONE(RE_BLOOM) },
    { "viking", 0, TWO(RE_BLOOM, "\\p{N}") },
    { "superbpe", 0, { { "\\p{N}+", HOW_MATCH }, { "\\d++", HOW_THREES_CUT } } },
    { "chameleon", PRE_ADD_BOS,
      { { "<sentinel:[0-9]+>", HOW_MATCH },
        { "IMGIMG[A-I]{1,4}Z", HOW_MATCH },
        { "[\\t\\n]|    |  ", HOW_MATCH },
        { "\\p{N}", HOW_MATCH },
        { "[\\p{P}!-/:-@\\[-`{-~]", HOW_MATCH },
        { RE_GPT2, HOW_MATCH } } },
    { "gemma4", PRE_RAW | PRE_NEWLINES | PRE_FORCE_BOS, ONE(RE_NEWLINES) },
    { "granite-embed-multi-311m", PRE_RAW | PRE_NEWLINES | PRE_FORCE_BOS, ONE(RE_NEWLINES) },
    { "sarvam-moe", PRE_RAW, ONE(RE_NEWLINES) },
    { "whitespace", PRE_RAW | PRE_WORDS, ONE("\\S+") },
};

#define N_ROWS (sizeof rows / sizeof rows[0])

const char *pretokenizer_name(size_t i)
{
    return i < N_ROWS ? rows[i].name : NULL;
}

static const struct row *find_row(struct str name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (str_is(name.n ? name : STR("default"), rows[i].name))
            return &rows[i];
    return NULL;
}

/* ---- compiling ----------------------------------------------------------------------------- */

struct pretokenizer {
    const struct row *row;
    pcre2_general_context *memory;
    pcre2_compile_context *compile;
    pcre2_match_context *limits;
    pcre2_code *code[PRE_STEPS];
    bool jit[PRE_STEPS];
    size_t n_steps;
};

static void *take_memory(size_t bytes, void *user)
{
    (void)user;
    return mem_alloc(bytes);
}

static void give_memory(void *p, void *user)
{
    (void)user;
    mem_free(p);
}

/* Writes the members of White_Space for every \s, and the complement for \S outside a class. */
static void expand_spaces(const char *regex, struct buf *out)
{
    static const char white[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                                "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
    bool in_class = false;
    for (const char *p = regex; *p; p++) {
        bool escape = *p == '\\' && p[1];
        if (escape && (p[1] == 's' || p[1] == 'S') && !(in_class && p[1] == 'S')) {
            buf_puts(out, in_class ? "" : p[1] == 's' ? "[" : "[^");
            buf_puts(out, white);
            buf_puts(out, in_class ? "" : "]");
            p++;
        } else if (escape) {
            buf_put(out, p++, 2);
        } else {
            in_class = *p == '[' || (in_class && *p != ']');
            buf_putc(out, *p);
        }
    }
}

static enum err_code compile_step(struct pretokenizer *t, size_t i, struct err *e)
{
    enum err_code code = ERR_OK;
    struct buf text;
    buf_init(&text, 64 << 10);
    expand_spaces(t->row->step[i].regex, &text);
    if (text.failed) {
        code = err_no_memory(e, text.n, "a pre-tokenizer's expression");
        goto out;
    }
    int number;
    PCRE2_SIZE offset;
    t->code[i] = pcre2_compile((PCRE2_SPTR)text.p, text.n,
                               PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_NO_AUTO_CAPTURE |
                                   PCRE2_DOLLAR_ENDONLY,
                               &number, &offset, t->compile);
    if (!t->code[i]) {
        code = number == PCRE2_ERROR_HEAP_FAILED
                   ? err_no_memory(e, text.n, "a pre-tokenizer's expression")
                   : err_set(e, ERR_INTERNAL, "pre-tokenizer \"%s\": expression %zu: error %d at %zu",
                             t->row->name, i, number, (size_t)offset);
        goto out;
    }
    /* Where the system forbids executable memory the interpreter does the same, slower. */
    t->jit[i] = pcre2_jit_compile(t->code[i], PCRE2_JIT_COMPLETE) == 0;
    t->n_steps = i + 1;
out:
    buf_finish(&text);
    return code;
}

enum err_code pretokenizer_create(struct str name, struct pretokenizer **out, struct err *e)
{
    *out = NULL;
    const struct row *row = find_row(name);
    if (!row)
        return err_set(e, ERR_UNSUPPORTED, "tokenizer.ggml.pre: no pre-tokenizer \"%.*s\"",
                       (int)(name.n < 64 ? name.n : 64), name.p);
    enum err_code code = ERR_OK;
    struct pretokenizer *t = mem_zero(1, sizeof *t);
    if (!t)
        return err_no_memory(e, sizeof *t, "a pre-tokenizer");
    t->row = row;
    t->memory = pcre2_general_context_create(take_memory, give_memory, NULL);
    t->compile = t->memory ? pcre2_compile_context_create(t->memory) : NULL;
    t->limits = t->memory ? pcre2_match_context_create(t->memory) : NULL;
    if (!t->compile || !t->limits) {
        code = err_no_memory(e, 0, "a pre-tokenizer");
        goto out;
    }
    pcre2_set_match_limit(t->limits, 10000000);
    pcre2_set_heap_limit(t->limits, 64 << 10); /* KiB, of the interpreter */
    for (size_t i = 0; !code && row->step[i].regex; i++)
        code = compile_step(t, i, e);
    if (!code) {
        *out = t;
        t = NULL;
    }
out:
    pretokenizer_destroy(t);
    return code;
}

void pretokenizer_destroy(struct pretokenizer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < PRE_STEPS; i++)
        pcre2_code_free(t->code[i]);
    pcre2_match_context_free(t->limits);
    pcre2_compile_context_free(t->compile);
    pcre2_general_context_free(t->memory);
    mem_free(t);
}

unsigned pretokenizer_flags(const struct pretokenizer *t)
{
    return t->row->flags;
}

/* ---- matching ------------------------------------------------------------------------------ */

struct pre_match {
    pcre2_match_data *data;
    pcre2_match_context *deep; /* with a stack of its own, made when the default one is too small */
    pcre2_jit_stack *stack;
};

enum err_code pre_match_create(const struct pretokenizer *t, struct pre_match **out, struct err *e)
{
    struct pre_match *m = mem_zero(1, sizeof *m);
    if (m)
        m->data = pcre2_match_data_create(1, t->memory);
    if (!m || !m->data) {
        pre_match_destroy(m);
        return err_no_memory(e, sizeof *m, "matching");
    }
    *out = m;
    return ERR_OK;
}

void pre_match_destroy(struct pre_match *m)
{
    if (!m)
        return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->deep);
    pcre2_jit_stack_free(m->stack);
    mem_free(m);
}

static int match_once(const struct pretokenizer *t, struct pre_match *m, size_t i, struct str text,
                      size_t from, const pcre2_match_context *limits)
{
    pcre2_match_context *c = (pcre2_match_context *)(uintptr_t)limits; /* PCRE2 only reads it */
    return t->jit[i] ? pcre2_jit_match(t->code[i], (PCRE2_SPTR)text.p, text.n, from, 0, m->data, c)
                     : pcre2_match(t->code[i], (PCRE2_SPTR)text.p, text.n, from,
                                   PCRE2_NO_UTF_CHECK, m->data, c);
}

/* A context with up to 8 MiB of stack for the JIT's backtracking; its default is 32 KiB. */
static bool make_deep(const struct pretokenizer *t, struct pre_match *m)
{
    if (m->deep)
        return true;
    m->stack = pcre2_jit_stack_create(32 << 10, 8 << 20, t->memory);
    pcre2_match_context *c = m->stack ? pcre2_match_context_copy(t->limits) : NULL;
    if (!c) {
        pcre2_jit_stack_free(m->stack);
        m->stack = NULL;
        return false;
    }
    pcre2_jit_stack_assign(c, NULL, m->stack);
    m->deep = c;
    return true;
}

static bool ran_over(int rc)
{
    return rc == PCRE2_ERROR_JIT_STACKLIMIT || rc == PCRE2_ERROR_MATCHLIMIT ||
           rc == PCRE2_ERROR_DEPTHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT;
}

/* The first match at or after `from`: *begin and *end, or both text.n when there is none. */
static enum err_code next_match(const struct pretokenizer *t, struct pre_match *m, size_t i,
                                struct str text, size_t from, size_t *begin, size_t *end,
                                struct err *e)
{
    int rc = match_once(t, m, i, text, from, m->deep ? m->deep : t->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->deep) {
        if (!make_deep(t, m))
            return err_no_memory(e, 32 << 10, "matching");
        rc = match_once(t, m, i, text, from, m->deep);
    }
    if (ran_over(rc) && text.n - from > PRE_CHUNK) {
        struct str part = { text.p, from + utf8_complete(text.p + from, PRE_CHUNK) };
        rc = match_once(t, m, i, part, from, m->deep ? m->deep : t->limits);
        *begin = *end = part.n;
    } else {
        *begin = *end = text.n;
    }
    if (rc == PCRE2_ERROR_NOMEMORY)
        return err_no_memory(e, 0, "matching");
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH && !ran_over(rc))
        return err_set(e, ERR_INTERNAL, "pre-tokenizer \"%s\": expression %zu: match error %d",
                       t->row->name, i, rc);
    if (rc >= 0) {
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m->data);
        *begin = v[0];
        *end = v[1];
    } else if (ran_over(rc)) {
        *begin = from;
    }
    return ERR_OK;
}

struct walk {
    const struct pretokenizer *t;
    struct pre_match *m;
    pre_piece_fn piece;
    void *user;
    struct err *e;
};

static enum err_code walk_step(const struct walk *w, size_t i, struct str text);

static enum err_code emit(const struct walk *w, size_t i, const char *p, size_t n)
{
    return n ? walk_step(w, i + 1, (struct str){ p, n }) : ERR_OK;
}

static size_t count_chars(const char *p, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += ((unsigned char)p[i] & 0xC0U) != 0x80U;
    return count;
}

static size_t skip_chars(const char *p, size_t n, size_t count)
{
    size_t i = 0;
    for (; count && i < n; count--)
        i += utf8_step(p + i, n - i, NULL);
    return i;
}

/* The match [begin, end) in groups of three from the right. *done: up to where pieces are out. */
static enum err_code emit_threes(const struct walk *w, size_t i, struct str text, size_t begin,
                                 size_t end, size_t *done)
{
    bool isolated = w->t->row->step[i].how == HOW_THREES;
    size_t first = count_chars(text.p + begin, end - begin) % 3;
    size_t at = begin + skip_chars(text.p + begin, end - begin, first);
    enum err_code code = ERR_OK;
    if (isolated && !code) {
        code = emit(w, i, text.p + *done, begin - *done);
        *done = begin;
    }
    while (!code && at < end) {
        code = emit(w, i, text.p + *done, at - *done);
        *done = at;
        at += skip_chars(text.p + at, end - at, 3);
    }
    if (isolated && !code) {
        code = emit(w, i, text.p + *done, end - *done);
        *done = end;
    }
    return code;
}

static enum err_code walk_step(const struct walk *w, size_t i, struct str text)
{
    if (i == w->t->n_steps)
        return w->piece(w->user, text);
    size_t done = 0, from = 0, begin = 0, end = 0;
    enum err_code code = ERR_OK;
    while (!code && from < text.n) {
        code = next_match(w->t, w->m, i, text, from, &begin, &end, w->e);
        if (code || begin == end) {
            from = code ? text.n : end;
            continue;
        }
        if (w->t->row->step[i].how != HOW_MATCH) {
            code = emit_threes(w, i, text, begin, end, &done);
        } else {
            code = emit(w, i, text.p + done, begin - done);
            if (!code)
                code = emit(w, i, text.p + begin, end - begin);
            done = end;
        }
        from = end;
    }
    return code ? code : emit(w, i, text.p + done, text.n - done);
}

enum err_code pretokenizer_split(const struct pretokenizer *t, struct pre_match *m, struct str text,
                                 pre_piece_fn piece, void *user, struct err *e)
{
    const struct walk w = { t, m, piece, user, e };
    return text.n ? walk_step(&w, 0, text) : ERR_OK;
}
