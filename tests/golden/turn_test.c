/* Turns on a tiny model, on the C twins: what may come and what may not, forks.
 *
 *   turn_test MODEL...        each with a vocabulary of bytes */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/engine/engine.h"
#include "runtime/text/constraint.h"

#define N_CTX 128
#define MOST 80
#define PROMPT 40

struct bench {
    const char *name;
    struct words *words;
    struct model *m;
    int32_t prompt[PROMPT];
    int failed;
};
struct answer {
    int32_t token[MOST];
    size_t n;
    enum finish finish;
    struct buf text; /* of its tokens but the last one of a FINISH_STOP */
};

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(2);
}

static void check(struct bench *b, bool ok, const char *what)
{
    printf("%-40s %-44s %s\n", b->name, what, ok ? "ok" : "FAILED");
    b->failed += !ok;
}

static struct turn turn_of(struct bench *b)
{
    struct turn t = { .kind = TURN_GENERATE, .tokens = b->prompt, .n_tokens = PROMPT, .max_tokens = 40,
                      .words = b->words, .ignore_eog = true, .sampling = sampling_default() };
    t.sampling.seed = 5;
    return t;
}

/* Steps until the turn is over; with `pauses`, the session sits out now and then beside another's turn. */
static void run(struct bench *b, struct session *s, const struct turn *t, bool pauses, struct answer *a)
{
    struct err e;
    struct step step;
    buf_finish(&a->text);
    *a = (struct answer){ 0 };
    buf_init(&a->text, 1 << 16);
    struct phrases p;
    phrases_init(&p, words_tokenizer(b->words), NULL, 0);
    if (session_begin(s, t, NULL, &e) != ERR_OK)
        die("begin", &e);
    for (int i = 0; session_active(s) && i < 2000; i++) {
        session_pause(s, pauses && i % 3 == 1);
        if (model_step(b->m, &step, &e) != ERR_OK)
            die("step", &e);
        for (size_t k = 0; k < step.n_events; k++) {
            const struct event *ev = &step.events[k];
            if (ev->session != s)
                continue;
            a->finish = ev->finish;
            if (ev->finish == FINISH_STOP || ev->finish == FINISH_FAILED)
                break;
            if (ev->position != PROMPT + a->n || a->n == MOST)
                b->failed++;
            a->token[a->n++ % MOST] = ev->token;
            struct str piece = phrases_piece(&p, ev->token);
            buf_put(&a->text, piece.p, piece.n);
        }
    }
    phrases_finish(&p);
}

static bool same(const struct answer *x, const struct answer *y)
{
    return x->n == y->n && memcmp(x->token, y->token, x->n * sizeof *x->token) == 0;
}

static bool holds(const struct answer *a, struct str s)
{
    return a->text.n >= s.n && memmem(a->text.p, a->text.n, s.p, s.n) != NULL;
}

/* ---- what may come ---------------------------------------------------------------------------------- */

static void bans(struct bench *b, struct session *s)
{
    struct answer plain = { 0 }, a = { 0 };
    struct turn t = turn_of(b);
    run(b, s, &t, false, &plain);
    t.ban = plain.token;
    t.n_ban = plain.n;
    run(b, s, &t, false, &a);
    bool clean = a.n == 40;
    for (size_t i = 0; i < a.n; i++)
        for (size_t k = 0; k < plain.n; k++)
            clean = clean && a.token[i] != plain.token[k];
    check(b, clean, "banned tokens do not come");
    t = turn_of(b);
    t.stop = &plain.token[6];
    t.n_stop = 1;
    run(b, s, &t, false, &a);
    check(b, a.finish == FINISH_STOP && a.n <= 6 && memcmp(a.token, plain.token, a.n * sizeof *a.token) == 0,
          "a stop token ends the turn");
    t.min_tokens = 20;
    run(b, s, &t, false, &a);
    check(b, a.n >= 20, "but not before min_tokens");
    struct token_bias bias = { plain.token[0], 1000 };
    t = turn_of(b);
    t.sampling.bias = &bias;
    t.sampling.n_bias = 1;
    run(b, s, &t, false, &a);
    check(b, a.n == 40 && a.token[0] == bias.token && a.token[39] == bias.token, "a bias of 1000 is always taken");
    buf_finish(&plain.text);
    buf_finish(&a.text);
}

static void pauses(struct bench *b, struct session *s)
{
    struct answer x = { 0 }, y = { 0 };
    struct session *other;
    struct err e;
    struct turn t = turn_of(b), long_one = turn_of(b);
    t.sampling.mirostat = 2;
    t.sampling.mirostat_tau = 3;
    t.sampling.dry_multiplier = 0.5f;
    run(b, s, &t, false, &x);
    long_one.max_tokens = N_CTX - PROMPT;
    if (session_create(b->m, &other, &e) != ERR_OK || session_begin(other, &long_one, NULL, &e) != ERR_OK)
        die("other", &e);
    run(b, s, &t, true, &y);
    session_destroy(other);
    check(b, x.n == 40 && same(&x, &y), "mirostat goes on after pauses");
    buf_finish(&x.text);
    buf_finish(&y.text);
}

/* ---- banned phrases --------------------------------------------------------------------------------------- */

/* Phrases are cut from what comes without them, so that each has to be met and left again. */
static void phrases(struct bench *b, struct session *s, uint64_t seed)
{
    struct answer a = { 0 }, again = { 0 };
    struct turn t = turn_of(b);
    struct str banned[6];
    char text[6][16];
    bool clean = true;
    t.sampling.seed = seed;
    t.want_logprob = true;
    for (size_t n = 0; n < 6; n++) {
        run(b, s, &t, false, &a);
        for (size_t i = 0; i < n; i++)
            clean = clean && !holds(&a, banned[i]);
        clean = clean && a.finish == FINISH_LENGTH && a.n == 40;
        size_t len = 1 + (seed + 3 * n) % 9, at = (7 * n + 3) % (a.text.n > len ? a.text.n - len : 1);
        memcpy(text[n], a.text.p + at, len);
        banned[n] = (struct str){ text[n], len };
        t.phrase = banned;
        t.n_phrase = n + 1;
    }
    run(b, s, &t, false, &a);
    run(b, s, &t, true, &again);
    for (size_t i = 0; i < 6; i++)
        clean = clean && !holds(&a, banned[i]);
    check(b, clean, "banned phrases do not come, all tokens do");
    check(b, same(&a, &again), "and it is repeatable");
    buf_finish(&a.text);
    buf_finish(&again.text);
}

/* The first bytes of what would come stay; the token that began the phrase is another. */
static void rolls_back(struct bench *b, struct session *s)
{
    struct answer plain = { 0 }, a = { 0 };
    struct turn t = turn_of(b);
    struct phrases p;
    size_t before = 0, len = 0;
    phrases_init(&p, words_tokenizer(b->words), NULL, 0);
    run(b, s, &t, false, &plain);
    for (size_t i = 0; i < 12; i++) {
        size_t n = phrases_piece(&p, plain.token[i]).n;
        before += i < 8 ? n : 0;
        len += i < 8 ? 0 : n;
    }
    struct str phrase = { plain.text.p + before, len };
    struct str first = { plain.text.p, before + len };
    size_t met = (size_t)((char *)memmem(plain.text.p, plain.text.n, phrase.p, phrase.n) - plain.text.p);
    t.phrase = &phrase;
    t.n_phrase = 1;
    run(b, s, &t, false, &a);
    bool ok = !holds(&a, phrase) && !holds(&a, first);
    if (met == before && len > 0)
        ok = ok && memcmp(a.token, plain.token, 8 * sizeof *a.token) == 0 && a.token[8] != plain.token[8];
    check(b, ok, "the token that began a phrase is replaced");
    phrases_finish(&p);
    buf_finish(&plain.text);
    buf_finish(&a.text);
}

/* Every byte there is: nothing with text is left but what is no text. */
static void no_way(struct bench *b, struct session *s)
{
    struct answer a = { 0 };
    struct turn t = turn_of(b);
    struct str one = { "a", 1 };
    struct token_bias bias[2] = { { 0, 0 }, { 0, 0 } };
    int32_t id = tokenizer_find(words_tokenizer(b->words), STR("<0x61>"));
    if (id < 0)
        id = tokenizer_find(words_tokenizer(b->words), STR("a"));
    uint32_t n_vocab = model_info(b->m)->n_vocab;
    int32_t *ban = calloc(n_vocab, sizeof *ban);
    for (uint32_t i = 0; ban && i < n_vocab; i++)
        ban[i] = (int32_t)i == id ? (id ? 0 : 1) : (int32_t)i;
    bias[0].token = id;
    t.ban = ban;
    t.n_ban = n_vocab;
    t.phrase = &one;
    t.n_phrase = 1;
    t.sampling.bias = bias;
    t.sampling.n_bias = 1;
    run(b, s, &t, false, &a);
    check(b, !holds(&a, one) && (a.finish == FINISH_FAILED || a.n == 40), "where there is no way, no phrase either");
    free(ban);
    buf_finish(&a.text);
}

/* ---- constraints --------------------------------------------------------------------------------------------- */

/* Digits, least to most of them, then a semicolon. */
static struct grammar *digits(const struct grammar_vocab *v, uint32_t least, uint32_t most)
{
    struct err e;
    struct grammar *out;
    struct gram *g = gram_create();
    struct gram_range range = { '0', '9' };
    uint32_t rule = gram_rule(g, STR("start"));
    gram_define(g, rule, gram_seq_of(g, gram_repeat(g, gram_set(g, &range, 1, false), least, most),
                                     gram_literal(g, STR(";"))));
    gram_start(g, rule);
    if (grammar_create(g, v, &out, &e) != ERR_OK)
        die("grammar", &e);
    gram_destroy(g);
    return out;
}

static bool is_number(const struct answer *a, size_t least, size_t most)
{
    size_t n = 0;
    while (n < a->text.n && a->text.p[n] >= '0' && a->text.p[n] <= '9')
        n++;
    return n >= least && n <= most && a->text.n == n + 1 && a->text.p[n] == ';';
}

static void constrained(struct bench *b, struct session *s)
{
    struct grammar_vocab *v;
    struct err e;
    struct answer a = { 0 };
    bool ok = true, cut = true, phrase = true;
    if (grammar_vocab_create(words_tokenizer(b->words), &v, &e) != ERR_OK)
        die("vocabulary", &e);
    struct grammar *g = digits(v, 2, 9), *endless = digits(v, 0, GRAM_MANY);
    struct str seven = STR("7");
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct turn t = turn_of(b);
        t.ignore_eog = seed % 2; /* its end comes all the same */
        t.sampling.seed = seed;
        t.sampling.temperature = seed % 3 ? 1.5f : 0;
        t.max_tokens = seed < 6 ? 40 : 5;
        t.n_phrase = seed % 4 == 3;
        t.phrase = &seven;
        struct grammar *which = seed < 6 ? g : endless;
        if (constraint_create(which, t.max_tokens, &t.constraint, &e) != ERR_OK)
            die("constraint", &e);
        run(b, s, &t, false, &a);
        if (seed < 6)
            ok = ok && a.finish == FINISH_STOP && is_number(&a, 2, 9);
        else
            cut = cut && is_number(&a, 0, 5) && a.n <= 5;
        phrase = phrase && (!t.n_phrase || !holds(&a, seven));
        constraint_destroy(t.constraint);
    }
    check(b, ok, "a constraint is kept, and ends the turn");
    check(b, cut, "also at the limit of tokens");
    check(b, phrase, "and with a banned phrase");
    grammar_unref(g);
    grammar_unref(endless);
    grammar_vocab_destroy(v);
    buf_finish(&a.text);
}

/* ---- forks ----------------------------------------------------------------------------------------------------- */

/* Logits of `n` steps after the prompt, kept. */
static void rows(struct bench *b, struct session *s, const int32_t *tokens, size_t n, float *out)
{
    struct err e;
    struct step step;
    struct turn t = turn_of(b);
    uint32_t n_vocab = model_info(b->m)->n_vocab;
    t.tokens = tokens;
    t.n_tokens = n;
    t.max_tokens = 8;
    t.want_logits = true;
    if (session_begin(s, &t, NULL, &e) != ERR_OK)
        die("begin", &e);
    for (size_t at = 0; session_active(s);) {
        if (model_step(b->m, &step, &e) != ERR_OK)
            die("step", &e);
        for (size_t i = 0; i < step.n_events; i++)
            memcpy(out + n_vocab * at++, step.events[i].logits, n_vocab * sizeof *out);
    }
}

static void forks(struct bench *b)
{
    struct err e;
    struct session *s, *f[2];
    size_t bytes = 8 * model_info(b->m)->n_vocab * sizeof(float);
    float *want = malloc(bytes), *got = malloc(bytes);
    int32_t other[PROMPT];
    uint32_t n_free = b->m->kv.n_free;
    memcpy(other, b->prompt, sizeof other);
    other[35] = other[36]; /* differs within the second page of 32 */
    bool ok = true, alone = true;
    if (session_create(b->m, &s, &e) != ERR_OK)
        die("session", &e);
    rows(b, s, other, PROMPT, want);
    session_destroy(s);
    if (session_create(b->m, &s, &e) != ERR_OK)
        die("session", &e);
    rows(b, s, b->prompt, PROMPT, got);
    uint32_t held = b->m->kv.n_free;
    for (int i = 0; i < 2; i++)
        if (session_fork(s, &f[i], &e) != ERR_OK)
            die("fork", &e);
    check(b, held - b->m->kv.n_free == 2 && session_n_tokens(f[0]) == session_n_tokens(s),
          "a fork takes a page of its own for the last part alone");
    float *mine = malloc(bytes);
    rows(b, s, b->prompt, PROMPT, mine);
    alone = alone && memcmp(mine, got, bytes) == 0;
    rows(b, f[0], other, PROMPT, mine); /* goes back into the shared timeline and on another way */
    ok = ok && memcmp(mine, want, bytes) == 0;
    rows(b, f[1], b->prompt, PROMPT, mine);
    alone = alone && memcmp(mine, got, bytes) == 0;
    rows(b, f[1], other, 20, mine); /* within the shared page */
    rows(b, s, b->prompt, PROMPT, mine);
    alone = alone && memcmp(mine, got, bytes) == 0;
    session_destroy(s);
    rows(b, f[0], other, PROMPT, mine);
    ok = ok && memcmp(mine, want, bytes) == 0;
    check(b, ok, "a fork's bits are those of a session of its own");
    check(b, alone, "and it leaves the others' alone");
    session_destroy(f[0]);
    session_destroy(f[1]);
    bool once = b->m->kv.n_free == n_free;
    for (uint32_t i = 0; i < b->m->kv.n_pages; i++)
        once = once && b->m->kv.refs[i] == 0;
    check(b, once, "pages are free once their last reader has gone");
    free(want);
    free(got);
    free(mine);
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

static void refusals(struct bench *b, struct session *s)
{
    struct err e;
    static struct token_bias many[SAMPLING_MAX_BIAS + 1];
    char long_text[SAMPLING_MAX_STRING + 1] = { 'x' };
    struct str long_phrase = { long_text, sizeof long_text }, phrase = STR("x");
    int32_t beyond = (int32_t)model_info(b->m)->n_vocab;
    struct token_bias off = { beyond, 1 };
    struct turn t[7];
    bool ok = true;
    for (int i = 0; i < 7; i++)
        t[i] = turn_of(b);
    t[0].ban = &beyond, t[0].n_ban = 1;
    t[1].stop = &beyond, t[1].n_stop = 1;
    t[2].sampling.bias = &off, t[2].sampling.n_bias = 1;
    t[3].sampling.bias = many, t[3].sampling.n_bias = SAMPLING_MAX_BIAS + 1;
    t[4].phrase = &long_phrase, t[4].n_phrase = 1;
    t[5].phrase = &phrase, t[5].n_phrase = 1, t[5].want_logits = true;
    t[6].phrase = &phrase, t[6].n_phrase = 1, t[6].words = NULL;
    for (int i = 0; i < 7; i++)
        ok = ok && session_begin(s, &t[i], NULL, &e) == ERR_INVALID && !session_active(s);
    check(b, ok, "what cannot be is refused");
}

static int one(struct runtime *rt, const char *path)
{
    struct err e;
    struct session *s;
    struct bench b = { .name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path };
    struct model_options o = { .path = path, .n_ctx = N_CTX, .n_seq = 4 };
    uint64_t live = mem_live();
    if (words_load(path, &b.words, &e) != ERR_OK || model_load(rt, &o, &b.m, &e) != ERR_OK ||
        session_create(b.m, &s, &e) != ERR_OK)
        die(path, &e);
    for (uint32_t i = 0; i < PROMPT; i++)
        b.prompt[i] = (int32_t)((i * 7919u + i * i * 31u) % model_info(b.m)->n_vocab);
    bans(&b, s);
    pauses(&b, s);
    for (uint64_t seed = 1; seed < 4; seed++)
        phrases(&b, s, seed);
    rolls_back(&b, s);
    no_way(&b, s);
    constrained(&b, s);
    refusals(&b, s);
    session_destroy(s);
    forks(&b);
    model_unload(b.m);
    words_destroy(b.words);
    check(&b, mem_live() == live, "nothing is left behind");
    return b.failed;
}

int main(int argc, char **argv)
{
    struct runtime *rt;
    struct err e;
    int failed = 0;
    json_setup();
    if (runtime_create(&(struct runtime_options){ .device = "ref" }, &rt, &e) != ERR_OK)
        die("device", &e);
    for (int i = 1; i < argc; i++)
        failed += one(rt, argv[i]);
    runtime_destroy(rt);
    return failed || argc < 2 ? 1 : 0;
}
