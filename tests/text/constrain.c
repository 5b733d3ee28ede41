/* constrain FILE.gguf gbnf GRAMMAR | schema SCHEMA | json | object   [walks [limit [seed]]]
 *     random walks through the masks; each text on a line of its own, as a JSON string
 * constrain FILE.gguf bench gbnf GRAMMAR | schema SCHEMA | json | object < text
 *     reads a text of the language token by token: what masks cost, cold and warm
 *
 * GRAMMAR and SCHEMA are files. A walk picks any allowed token; limit 0 is 2000 tokens. It must end in a whole
 * sentence, and one of JSON must be read back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/engine/words_priv.h"
#include "runtime/text/constraint.h"
#include "runtime/text/gbnf.h"
#include "runtime/text/json_schema.h"

struct run {
    struct gguf *file;
    struct tokenizer *t;
    struct grammar_vocab *v;
    struct grammar *g;
    struct err e;
};

static int fail(const struct err *e)
{
    fprintf(stderr, "constrain: %s: %s\n", err_name(e->code), e->text);
    return 1;
}

static bool read_all(FILE *f, struct buf *b)
{
    char block[65536];
    size_t n;
    buf_init(b, (size_t)64 << 20);
    while (f && (n = fread(block, 1, sizeof block, f)) > 0)
        buf_put(b, block, n);
    return f && !b->failed;
}

static void read_tree(struct run *r, const char *kind, const char *path, struct gram **tree)
{
    struct buf text;
    json_t *schema = NULL;
    FILE *f = fopen(path, "rb");
    if (!read_all(f, &text)) {
        (void)err_set(&r->e, ERR_IO, "%s: cannot be read", path);
    } else if (kind[0] == 'g') {
        (void)gbnf_parse(buf_str(&text), tree, &r->e);
    } else if (!json_read(buf_str(&text), GRAM_MAX_SOURCE, path, &schema, &r->e)) {
        struct gram *g = *tree = gram_create();
        const uint32_t rule = gram_rule(g, STR("root"));
        gram_define(g, rule, json_schema_node(g, schema, NULL, JSON_SCHEMA_BY_ITSELF));
        gram_start(g, rule);
        (void)gram_error(g, &r->e);
    }
    json_decref(schema);
    if (f)
        fclose(f);
    buf_finish(&text);
}

/* Takes the words that name a grammar; gives how many. */
static int open_tree(struct run *r, char **word, int n, struct gram **tree)
{
    if (n >= 2 && (strcmp(word[0], "gbnf") == 0 || strcmp(word[0], "schema") == 0)) {
        const int64_t t0 = clock_ns();
        read_tree(r, word[0], word[1], tree);
        fprintf(stderr, "tree %.3f ms, ", (double)(clock_ns() - t0) / 1e6);
        return 2;
    }
    if (n >= 1 && (strcmp(word[0], "json") == 0 || strcmp(word[0], "object") == 0)) {
        struct gram *g = gram_create();
        const uint32_t rule = gram_rule(g, STR("root"));
        gram_define(g, rule, gram_json(g, word[0][0] == 'o'));
        gram_start(g, rule);
        *tree = g;
        return 1;
    }
    (void)err_set(&r->e, ERR_USAGE, "a grammar is wanted: gbnf FILE, schema FILE, json or object");
    return 0;
}

static bool open_all(struct run *r, const char *path, struct gram *tree)
{
    int64_t t0 = clock_ns();
    if (gguf_open(path, &r->file, &r->e) || words_read_tokenizer(r->file, &r->t, &r->e))
        return false;
    int64_t t1 = clock_ns();
    if (grammar_vocab_create(r->t, &r->v, &r->e))
        return false;
    int64_t t2 = clock_ns();
    if (grammar_create(tree, r->v, &r->g, &r->e))
        return false;
    fprintf(stderr, "tokenizer %.1f ms, trie %.1f ms, grammar %.3f ms, %zu tokens, shortest sentence %u\n",
            (double)(t1 - t0) / 1e6, (double)(t2 - t1) / 1e6, (double)(clock_ns() - t2) / 1e6,
            tokenizer_n_tokens(r->t), grammar_min_tokens(r->g));
    return true;
}

static uint64_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005U + 1442695040888963407U;
    return *s >> 33;
}

/* Any allowed token, each as likely. */
static int32_t pick(const uint32_t *mask, size_t words, uint64_t *seed)
{
    uint64_t n = 0;
    for (size_t i = 0; i < words; i++)
        n += (uint64_t)__builtin_popcount(mask[i]);
    uint64_t k = next_random(seed) % n;
    for (size_t i = 0; i < words; i++)
        for (uint32_t bits = mask[i]; bits; bits &= bits - 1)
            if (k-- == 0)
                return (int32_t)(i * 32 + (size_t)__builtin_ctz(bits));
    return TOKEN_NONE;
}

static bool walk(struct run *r, uint32_t limit, uint64_t *seed, struct buf *text)
{
    struct constraint *c = NULL;
    if (constraint_create(r->g, limit, &c, &r->e))
        return false;
    for (uint32_t left = limit; left && !constraint_done(c); left--) {
        const uint32_t *mask;
        if (constraint_mask(c, left, &mask, &r->e))
            break;
        const int32_t id = pick(mask, constraint_mask_words(c), seed);
        const bool end = tokenizer_is_eog(r->t, id);
        const int32_t two[2] = { id, id };
        struct buf piece;
        buf_init(&piece, 1 << 20);
        (void)tokenizer_decode(r->t, two, end ? 0 : 2, true, &piece, &r->e);
        const size_t len = (piece.n + 1) / 2;
        if (len)
            buf_put(text, piece.p + piece.n - len, len);
        buf_finish(&piece);
        if (constraint_accept(c, id, &r->e) || end)
            break;
    }
    if (!r->e.code && !constraint_may_end(c))
        (void)err_set(&r->e, ERR_INTERNAL, "the walk ended in the middle of a sentence");
    constraint_destroy(c);
    return !r->e.code;
}

/* What reads JSON must take it. */
static void check_json(struct run *r, struct str text)
{
    json_t *tree = NULL;
    (void)json_read(text, (size_t)64 << 20, "what was walked", &tree, &r->e);
    json_decref(tree);
}

static void walks(struct run *r, bool json, int n, uint32_t limit, uint64_t seed)
{
    if (n == 0)
        n = 10;
    for (int i = 0; i < n && !r->e.code; i++) {
        struct buf text, line;
        struct json_out j;
        buf_init(&text, (size_t)64 << 20);
        buf_init(&line, (size_t)256 << 20);
        if (walk(r, limit ? limit : 2000, &seed, &text)) {
            if (json)
                check_json(r, buf_str(&text));
            json_begin(&j, &line);
            json_str_value(&j, buf_str(&text));
            printf("%s\n", line.p);
        }
        buf_finish(&text);
        buf_finish(&line);
    }
}

static int by_time(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void print_times(const char *what, int64_t *ns, size_t n)
{
    int64_t sum = 0;
    qsort(ns, n, sizeof *ns, by_time);
    for (size_t i = 0; i < n; i++)
        sum += ns[i];
    printf("%-18s %6zu times, mean %9.2f us, median %9.2f us, 99%% %9.2f us, most %9.2f us\n", what, n,
           (double)sum / 1e3 / (double)n, (double)ns[n / 2] / 1e3, (double)ns[n * 99 / 100] / 1e3,
           (double)ns[n - 1] / 1e3);
}

/* One pass over the text: the time of every mask, and of every token read. */
static bool pass(struct run *r, struct constraint *c, const struct token_list *ids, uint32_t limit, int64_t *mask_ns,
                 int64_t *accept_ns)
{
    for (size_t i = 0; i < ids->n; i++) {
        const uint32_t *mask;
        int64_t t0 = clock_ns();
        if (constraint_mask(c, limit ? limit - (uint32_t)i : 0, &mask, &r->e))
            return false;
        int64_t t1 = clock_ns();
        if (constraint_accept(c, ids->id[i], &r->e))
            return false;
        mask_ns[i] = t1 - t0;
        accept_ns[i] = clock_ns() - t1;
    }
    return true;
}

static void bench(struct run *r)
{
    struct buf text;
    struct token_list ids = { 0 };
    struct constraint *c = NULL, *d = NULL;
    int64_t *ns = NULL;
    if (!read_all(stdin, &text) || tokenizer_encode(r->t, buf_str(&text), false, false, &ids, &r->e) || ids.n == 0)
        goto out;
    ns = mem_zero(ids.n * 2, sizeof *ns);
    if (!ns)
        goto out;
    for (int i = 0; i < 3; i++) {
        static const char *const name[] = { "mask, first", "mask, grammar warm", "mask, tight limit" };
        constraint_destroy(c);
        c = NULL;
        if (constraint_create(r->g, 0, &c, &r->e) || !pass(r, c, &ids, i == 2 ? (uint32_t)ids.n + 8 : 0, ns, ns + ids.n))
            goto out;
        print_times(name[i], ns, ids.n);
        print_times("accept", ns + ids.n, ids.n);
    }
    printf("%zu bytes, %zu tokens; grammar %zu KiB\n", text.n, ids.n, grammar_bytes(r->g) / 1024);
out:
    mem_free(ns);
    constraint_destroy(c);
    constraint_destroy(d);
    token_list_finish(&ids);
    buf_finish(&text);
}

int main(int argc, char **argv)
{
    struct run r = { 0 };
    struct gram *tree = NULL;
    if (argc < 3) {
        fprintf(stderr, "constrain FILE.gguf [bench] gbnf GRAMMAR | json | object [walks [limit [seed]]]\n");
        return 2;
    }
    json_setup();
    const bool timed = strcmp(argv[2], "bench") == 0;
    char **word = argv + (timed ? 3 : 2);
    const char *kind = word[0] ? word[0] : "";
    if (access(argv[1], R_OK) != 0)
        return 77; /* ctest: skipped */
    int n = argc - (timed ? 3 : 2);
    const int used = open_tree(&r, word, n, &tree);
    word += used;
    n -= used;
    if (!r.e.code && open_all(&r, argv[1], tree)) {
        if (timed)
            bench(&r);
        else
            walks(&r, strcmp(kind, "gbnf") != 0, n > 0 ? (int)strtol(word[0], NULL, 10) : 0, n > 1 ? (uint32_t)strtoul(word[1], NULL, 10) : 0,
                  n > 2 ? strtoull(word[2], NULL, 10) : 1);
    }
    gram_destroy(tree);
    grammar_unref(r.g);
    grammar_vocab_destroy(r.v);
    tokenizer_destroy(r.t);
    gguf_close(r.file);
    return r.e.code ? fail(&r.e) : 0;
}
