/* tokens FILE.gguf ids [special] [parse] < texts    texts end with NUL bytes; a line of ids each
 * tokens FILE.gguf text < lines of ids              texts that end with NUL bytes
 * tokens FILE.gguf bench < text                     MB/s of this text and of hostile ones
 * tokens FILE.gguf eog                              ids that end a generation
 * tokens NAME pieces < texts                        lengths of a pre-tokenizer's pieces, in bytes
 * tokens - rows                                     names of the pre-tokenizers
 *
 * special: with BOS and EOS where the model adds them; parse: control tokens are recognised. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/engine/words_priv.h"
#include "runtime/text/pretokenizer.h"

static bool read_all(struct buf *b)
{
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0)
        buf_put(b, block, n);
    buf_put(b, "", 0);
    return !b->failed;
}

static int fail(const struct err *e)
{
    fprintf(stderr, "tokens: %s: %s\n", err_name(e->code), e->text);
    return 1;
}

static int print_ids(const struct tokenizer *t, struct str in, bool special, bool parse)
{
    struct token_list ids = { 0 };
    struct err e = { 0 };
    while (in.n) {
        const char *end = memchr(in.p, 0, in.n);
        struct str text = { in.p, end ? (size_t)(end - in.p) : in.n };
        ids.n = 0;
        if (tokenizer_encode(t, text, special, parse, &ids, &e))
            break;
        for (size_t i = 0; i < ids.n; i++)
            printf("%s%d", i ? " " : "", ids.id[i]);
        printf("\n");
        in.p += text.n + (end != NULL);
        in.n -= text.n + (end != NULL);
    }
    token_list_finish(&ids);
    return e.code ? fail(&e) : 0;
}

static int print_texts(const struct tokenizer *t, struct str in)
{
    struct err e = { 0 };
    struct buf out;
    struct detokenizer d;
    detokenizer_init(&d, t, true, false);
    buf_init(&out, (size_t)1 << 30);
    for (char *p = (char *)(uintptr_t)in.p; *p && !e.code;) {
        if (*p == '\n') {
            detokenizer_flush(&d, &out);
            detokenizer_init(&d, t, true, false);
            buf_put(&out, "", 1);
            p++;
        } else {
            (void)detokenizer_feed(&d, (int32_t)strtol(p, &p, 10), &out, &e);
        }
        while (*p == ' ')
            p++;
    }
    fwrite(out.p, 1, out.n, stdout);
    buf_finish(&out);
    return e.code ? fail(&e) : 0;
}

static int print_eog(const struct tokenizer *t)
{
    for (int32_t id = 0; id < (int32_t)tokenizer_n_tokens(t); id++)
        if (tokenizer_is_eog(t, id))
            printf("%d ", id);
    printf("\n");
    return 0;
}

static enum err_code print_piece(void *user, struct str piece)
{
    (void)user;
    printf("%zu ", piece.n);
    return ERR_OK;
}

static int print_pieces(const char *name, struct str in)
{
    struct err e = { 0 };
    struct pretokenizer *p = NULL;
    struct pre_match *m = NULL;
    if (pretokenizer_create(str_from(name), &p, &e) || pre_match_create(p, &m, &e))
        goto out;
    for (size_t n; in.n && !e.code; in.p += n, in.n -= n) {
        const char *end = memchr(in.p, 0, in.n);
        n = end ? (size_t)(end - in.p) : in.n;
        (void)pretokenizer_split(p, m, (struct str){ in.p, n }, print_piece, NULL, &e);
        printf("\n");
        n += end != NULL;
    }
out:
    pre_match_destroy(m);
    pretokenizer_destroy(p);
    return e.code ? fail(&e) : 0;
}

/* The processor's time, which a busy machine leaves alone. */
static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int time_one(const struct tokenizer *t, const char *what, struct str text)
{
    struct token_list ids = { 0 };
    struct err e = { 0 };
    int64_t best = INT64_MAX;
    for (int i = 0; i < 5 && !e.code; i++) {
        ids.n = 0;
        int64_t begin = cpu_ns();
        (void)tokenizer_encode(t, text, false, true, &ids, &e);
        int64_t took = cpu_ns() - begin;
        best = took < best ? took : best;
    }
    printf("%-24s %9zu bytes %8zu tokens %8.2f ms %8.2f MB/s\n", what, text.n, ids.n,
           (double)best / 1e6, (double)text.n * 1e3 / (double)best);
    token_list_finish(&ids);
    return e.code ? fail(&e) : 0;
}

static int bench(const struct tokenizer *t, struct str text)
{
    static const char *const fill[] = { "a", " ", "\n", "1", "A", "'", "\xE4\xB8\xAD", "\xCC\x81",
                                        "\xF0\x9F\x98\x80", "ab", "a ", " \n", "<|", "aA1", "1a" };
    int rc = time_one(t, "the text", text);
    struct buf random;
    buf_init(&random, 1 << 21);
    for (uint32_t r = 1; random.n < 1 << 20;) {
        char four[4];
        r = r * 1664525U + 1013904223U;
        buf_put(&random, four, utf8_put((r >> 8) % 0x110000, four));
    }
    rc = rc ? rc : time_one(t, "random code points", buf_str(&random));
    buf_finish(&random);
    for (size_t i = 0; !rc && i < sizeof fill / sizeof fill[0]; i++)
        for (int tail = 0; !rc && tail < 2; tail++) {
            struct buf b;
            buf_init(&b, 1 << 21);
            while (b.n < 1 << 20)
                buf_puts(&b, fill[i]);
            buf_puts(&b, tail ? "z" : "");
            char what[32];
            snprintf(what, sizeof what, "1 MiB of '%s'%s", fill[i][0] == '\n' ? "\\n" : fill[i],
                     tail ? ", z" : "");
            rc = time_one(t, what, buf_str(&b));
            buf_finish(&b);
        }
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: tokens FILE.gguf ids [special] [parse] | text | eog | bench;  tokens NAME pieces\n");
        return 2;
    }
    struct err e = { 0 };
    struct gguf *g = NULL;
    struct tokenizer *t = NULL;
    struct buf in;
    buf_init(&in, (size_t)1 << 30);
    bool special = false, parse = false;
    for (int i = 3; i < argc; i++) {
        special = special || strcmp(argv[i], "special") == 0;
        parse = parse || strcmp(argv[i], "parse") == 0;
    }
    int rc = 1;
    if (strcmp(argv[2], "pieces") == 0) {
        rc = read_all(&in) ? print_pieces(argv[1], buf_str(&in)) : 1;
        goto out;
    }
    if (strcmp(argv[2], "rows") == 0) {
        for (size_t i = 0; pretokenizer_name(i); i++)
            printf("%s\n", pretokenizer_name(i));
        rc = 0;
        goto out;
    }
    int64_t begin = clock_ns();
    if (gguf_open(argv[1], &g, &e) || words_read_tokenizer(g, &t, &e) || !t || !read_all(&in)) {
        fail(&e);
        goto out;
    }
    fprintf(stderr, "opened in %.1f ms\n", (double)(clock_ns() - begin) / 1e6);
    if (strcmp(argv[2], "eog") == 0)
        rc = print_eog(t);
    else if (strcmp(argv[2], "ids") == 0)
        rc = print_ids(t, buf_str(&in), special, parse);
    else if (strcmp(argv[2], "text") == 0)
        rc = print_texts(t, buf_str(&in));
    else
        rc = bench(t, buf_str(&in));
out:
    buf_finish(&in);
    tokenizer_destroy(t);
    gguf_close(g);
    return rc;
}
