/* Constraints against a recogniser that knows trees only: random grammars, every prefix of random walks, every
 * token of the vocabulary. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/text/constraint.h"
#include "tests/unit/grammar_kit.h"
#include "tests/unit/text_kit.h"

#define TOKEN_SYMBOL 256u

/* ---- trees, as the recogniser sees them ---------------------------------------------------- */

enum kind { LIT, SET, TOK, TEXT, SEQ, ALT, REP, REF };
struct tree {
    enum kind kind;
    const char *text;         /* LIT */
    struct gram_range range;  /* SET */
    bool negated;
    uint32_t token;           /* TOK */
    size_t which;             /* TEXT; n_markers: none */
    int child[4];
    int n, min, max;          /* REP: max < 0: no limit. REF: n is the rule */
};

#define MAX_TREES 256
#define MAX_SYMBOLS 30
struct language {
    struct tree tree[MAX_TREES];
    int n, rule[3], n_rules;
    uint64_t seed;
};

static const struct gram_marker markers[] = { { { "ab", 2 }, false }, { { "<t>", 3 }, true }, { { "bb\xC3\xA9", 4 }, false } };
enum { N_MARKERS = 3 };
static uint32_t token_t, token_u;

static uint32_t pick(struct language *l, uint32_t n)
{
    return (uint32_t)(next_random(&l->seed) % n);
}

static int grow(struct language *l, int depth, bool may_refer);

static int new_tree(struct language *l, enum kind kind)
{
    assert_true(l->n < MAX_TREES);
    l->tree[l->n] = (struct tree){ .kind = kind };
    return l->n++;
}

static int grow_leaf(struct language *l)
{
    static const char *const texts[] = { "a", "b", "ab", "\xC3\xA9", "", "aab", ("\xE2\x82\xAC" "b"), "ba" };
    static const struct gram_range ranges[] = {
        { 'a', 'a' }, { 'a', 'b' }, { 'b', 0xE9 }, { 0xE9, 0x20AC }, { 'a', 0x10FFFF }, { 0x800, 0xFFFF }
    };
    int i;
    switch (pick(l, 8)) {
    case 0:
        i = new_tree(l, TOK);
        l->tree[i].token = pick(l, 2) ? token_t : token_u;
        return i;
    case 1:
        i = new_tree(l, TEXT);
        l->tree[i].which = pick(l, N_MARKERS + 1);
        return i;
    case 2:
    case 3:
        i = new_tree(l, SET);
        l->tree[i].range = ranges[pick(l, 6)];
        l->tree[i].negated = pick(l, 3) == 0;
        return i;
    default:
        i = new_tree(l, LIT);
        l->tree[i].text = texts[pick(l, 8)];
        return i;
    }
}

static int grow(struct language *l, int depth, bool may_refer)
{
    const uint32_t what = depth > 0 && l->n < MAX_TREES - 40 ? pick(l, 10) : 0;
    int i;
    if (what < 3) {
        if (!may_refer || pick(l, 2))
            return grow_leaf(l);
        i = new_tree(l, REF);
        l->tree[i].n = (int)pick(l, (uint32_t)l->n_rules);
        return i;
    }
    i = new_tree(l, what < 6 ? SEQ : what < 8 ? ALT : REP);
    int n = l->tree[i].kind == REP ? 1 : 2 + (int)pick(l, 2);
    for (int k = 0; k < n; k++) {
        int child = grow(l, depth - 1, may_refer && (k > 0 || n == 1 || pick(l, 4) == 0));
        l->tree[i].child[k] = child;
    }
    l->tree[i].n = n;
    l->tree[i].min = (int)pick(l, 3);
    l->tree[i].max = pick(l, 2) ? -1 : l->tree[i].min + (int)pick(l, 3);
    return i;
}

/* Every rule has a choice without rules, so that every tree has a sentence. */
static void grow_language(struct language *l, uint64_t seed)
{
    *l = (struct language){ .seed = seed };
    l->n_rules = 1 + (int)pick(l, 3);
    for (int r = 0; r < l->n_rules; r++) {
        int plain = grow(l, 1, false), any = grow(l, 3, true), i = new_tree(l, ALT);
        l->tree[i].n = 2;
        l->tree[i].child[0] = plain;
        l->tree[i].child[1] = any;
        l->rule[r] = i;
    }
}

static uint32_t build(const struct language *l, struct gram *g, int i)
{
    const struct tree *t = &l->tree[i];
    uint32_t child[4] = { 0 };
    char name[2] = { (char)('A' + t->n), 0 };
    switch (t->kind) {
    case LIT:
        return gram_literal(g, str_from(t->text));
    case SET:
        return gram_set(g, &t->range, 1, t->negated);
    case TOK:
        return gram_token(g, t->token == token_t ? STR("<t>") : STR("<u>"));
    case TEXT:
        return t->which == N_MARKERS ? gram_text(g, markers, N_MARKERS, 0)
                                     : gram_until(g, markers, N_MARKERS, t->which, 0);
    case REF:
        return gram_ref(g, gram_rule(g, str_from(name)));
    default:
        break;
    }
    for (int k = 0; k < t->n; k++)
        child[k] = build(l, g, t->child[k]);
    if (t->kind == REP)
        return gram_repeat(g, child[0], (uint32_t)t->min, t->max < 0 ? GRAM_MANY : (uint32_t)t->max);
    return t->kind == SEQ ? gram_seq(g, child, (size_t)t->n) : gram_alt(g, child, (size_t)t->n);
}

/* ---- the recogniser ------------------------------------------------------------------------ */

/* Where a tree's sentence may end that begins at `at`, a bit for each place, and BEYOND when the symbols may go on
 * inside it past their end. */
#define BEYOND ((uint32_t)1 << 31)

struct reading {
    const struct language *l;
    uint32_t symbol[MAX_SYMBOLS];
    int n;
    uint32_t memo[MAX_TREES][MAX_SYMBOLS + 1];
    bool known[MAX_TREES][MAX_SYMBOLS + 1];
};

static uint32_t read_tree(struct reading *r, int tree, int at);

/* The bytes at `at`, as far as there are any. */
static size_t bytes_at(const struct reading *r, int at, char out[MAX_SYMBOLS])
{
    size_t n = 0;
    while (at + (int)n < r->n && r->symbol[at + (int)n] < TOKEN_SYMBOL) {
        out[n] = (char)r->symbol[at + (int)n];
        n++;
    }
    return n;
}

static bool in_set(const struct tree *t, uint32_t c)
{
    return (t->range.lo <= c && c <= t->range.hi) != t->negated;
}

/* Can n bytes, too few, become a character of the set (any, without a tree)? */
static bool may_become(const struct tree *t, const char *p, size_t n)
{
    static const unsigned char fill[] = { 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xA9, 0x82, 0xAC, 0x81 };
    const size_t n_fill = sizeof fill;
    char full[4];
    memcpy(full, p, n);
    for (size_t i = 0, all = n_fill * n_fill * n_fill; i < all; i++) {
        full[n] = (char)fill[i % n_fill];
        if (n < 3)
            full[n + 1] = (char)fill[i / n_fill % n_fill];
        if (n < 2)
            full[n + 2] = (char)fill[i / n_fill / n_fill];
        uint32_t c;
        size_t len = utf8_step(full, 4, &c);
        if (len > n && (!t || in_set(t, c)))
            return true;
    }
    return false;
}

static uint32_t read_set(struct reading *r, const struct tree *t, int at)
{
    char bytes[MAX_SYMBOLS];
    const size_t n = bytes_at(r, at, bytes);
    uint32_t c;
    if (at == r->n)
        return BEYOND;
    const size_t len = utf8_step(bytes, n, &c);
    if (len)
        return in_set(t, c) ? (uint32_t)1 << (at + (int)len) : 0;
    return n > 0 && n < 4 && at + (int)n == r->n && may_become(t, bytes, n) ? BEYOND : 0;
}

static uint32_t read_text(struct reading *r, const struct tree *t, int at)
{
    uint32_t ends = 0;
    int i = at;
    for (;;) {
        if (t->which == N_MARKERS)
            ends |= (uint32_t)1 << i;
        if (i == r->n)
            return ends | BEYOND;
        if (r->symbol[i] == TOKEN_SYMBOL + token_t && t->which == 1)
            return ends | (uint32_t)1 << (i + 1);
        char bytes[MAX_SYMBOLS];
        const size_t n = bytes_at(r, i, bytes), len = utf8_step(bytes, n, NULL);
        if (!len)
            return n > 0 && n < 4 && i + (int)n == r->n && may_become(NULL, bytes, n) ? ends | BEYOND : ends;
        i += (int)len;
        bool which = false, any = false;
        for (size_t m = 0; m < N_MARKERS; m++) {
            bool here = i - at >= (int)markers[m].text.n;
            for (size_t k = 0; here && k < markers[m].text.n; k++)
                here = r->symbol[i - (int)markers[m].text.n + (int)k] == (unsigned char)markers[m].text.p[k];
            any |= here;
            which |= here && m == t->which && !markers[m].token;
        }
        if (any)
            return which ? ends | (uint32_t)1 << i : ends;
    }
}

static uint32_t read_each(struct reading *r, int tree, uint32_t from)
{
    uint32_t ends = from & BEYOND;
    for (int i = 0; i <= r->n; i++)
        if (from & (uint32_t)1 << i)
            ends |= read_tree(r, tree, i);
    return ends;
}

static uint32_t read_repeat(struct reading *r, const struct tree *t, int at)
{
    uint32_t now = (uint32_t)1 << at, ends = t->min == 0 ? now : 0;
    const int most = t->max < 0 ? t->min + MAX_SYMBOLS + 1 : t->max;
    for (int k = 1; k <= most; k++) {
        now = read_each(r, t->child[0], now);
        ends |= now & BEYOND;
        if (k >= t->min)
            ends |= now;
    }
    return ends;
}

static uint32_t read_any(struct reading *r, const struct tree *t, int at)
{
    uint32_t ends = 0;
    switch (t->kind) {
    case LIT:
        for (int i = 0;; i++) {
            if (!t->text[i])
                return (uint32_t)1 << (at + i);
            if (at + i == r->n)
                return BEYOND;
            if (r->symbol[at + i] != (unsigned char)t->text[i])
                return 0;
        }
    case SET:
        return read_set(r, t, at);
    case TOK:
        return at == r->n ? BEYOND : r->symbol[at] == TOKEN_SYMBOL + t->token ? (uint32_t)1 << (at + 1) : 0;
    case TEXT:
        return read_text(r, t, at);
    case SEQ:
        ends = (uint32_t)1 << at;
        for (int k = 0; k < t->n; k++)
            ends = read_each(r, t->child[k], ends);
        return ends;
    case ALT:
        for (int k = 0; k < t->n; k++)
            ends |= read_tree(r, t->child[k], at);
        return ends;
    case REP:
        return read_repeat(r, t, at);
    case REF:
        return read_tree(r, r->l->rule[t->n], at);
    }
    return 0;
}

static uint32_t read_tree(struct reading *r, int tree, int at)
{
    if (!r->known[tree][at]) {
        r->memo[tree][at] = 0; /* a rule that begins with itself and may be nothing else than empty */
        r->known[tree][at] = true;
        const uint32_t ends = read_any(r, &r->l->tree[tree], at);
        r->memo[tree][at] = ends;
    }
    return r->memo[tree][at];
}

static uint32_t read_all(struct reading *r)
{
    memset(r->known, 0, sizeof r->known);
    return read_tree(r, r->l->rule[0], 0);
}

/* ---- the vocabulary ------------------------------------------------------------------------ */

struct world {
    struct kit_vocab kit;
    struct tokenizer *t;
    struct grammar_vocab *v;
};

static int make_world(void **state)
{
    static const char *const pieces[] = {
        "a", "b", "ab", "ba", "aa", "aab", "abab", "\xC3\xA9", "a\xC3\xA9", ("b\xC3\xA9" "b"), "bb\xC3\xA9", "\xE2\x82\xAC",
        ("\xC3\xA9\xE2\x82\xAC" "a"), "bbb", "c", "ab",
    };
    struct world *w = mem_zero(1, sizeof *w);
    struct err e = { 0 };
    kit_begin(&w->kit);
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        kit_add(&w->kit, pieces[i], TOKEN_NORMAL);
    token_t = (uint32_t)kit_add(&w->kit, "<t>", TOKEN_CONTROL);
    token_u = (uint32_t)kit_add(&w->kit, "<u>", TOKEN_CONTROL);
    w->t = kit_tokenizer(&w->kit, &e);
    if (!w->t || grammar_vocab_create(w->t, &w->v, &e))
        fail_msg("%s", e.text);
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    struct world *w = *state;
    grammar_vocab_destroy(w->v);
    tokenizer_destroy(w->t);
    mem_free(w);
    return 0;
}

/* The symbols of a token behind those of r; false: it has none, or there is no room. */
static bool put_token(struct reading *r, const struct world *w, uint32_t id)
{
    const struct str text = w->kit.token[id];
    if (w->kit.type[id] == TOKEN_BYTE) {
        if (r->n + 1 > MAX_SYMBOLS)
            return false;
        r->symbol[r->n++] = id - 3;
        return true;
    }
    if (w->kit.type[id] == TOKEN_CONTROL) {
        if (r->n + 1 > MAX_SYMBOLS)
            return false;
        r->symbol[r->n++] = TOKEN_SYMBOL + id;
        return true;
    }
    if (w->kit.type[id] != TOKEN_NORMAL || r->n + (int)text.n > MAX_SYMBOLS)
        return false;
    for (size_t i = 0; i < text.n; i++)
        r->symbol[r->n++] = (unsigned char)text.p[i];
    return true;
}

static bool bit(const uint32_t *mask, uint32_t i)
{
    return mask[i / 32] >> i % 32 & 1;
}

/* ---- every token of every step ------------------------------------------------------------- */

static void check_mask(struct constraint *c, struct reading *r, const struct world *w, uint64_t seed)
{
    const uint32_t *mask = NULL;
    struct err e = { 0 };
    const uint32_t whole = read_all(r) >> r->n & 1;
    assert_int_equal(constraint_may_end(c), whole);
    if (constraint_mask(c, 0, &mask, &e))
        fail_msg("seed %llu: %s", (unsigned long long)seed, e.text);
    const int n = r->n;
    for (uint32_t id = 0; id < w->kit.n; id++) {
        bool want = id == 2 && whole;
        if (id != 2 && id != 1 && put_token(r, w, id))
            want = read_all(r) & (BEYOND | (uint32_t)1 << r->n);
        r->n = n;
        if (bit(mask, id) != want)
            fail_msg("seed %llu, %d symbols: token %u '%.*s' is %s", (unsigned long long)seed, n, id,
                     (int)w->kit.token[id].n, w->kit.token[id].p, want ? "missing" : "too much");
    }
}

static uint32_t pick_token(const uint32_t *mask, const struct world *w, uint64_t *seed, bool prefer_text)
{
    uint32_t allowed[KIT_MAX], n = 0;
    for (int pass = 0; pass < 2 && n == 0; pass++)
        for (uint32_t id = 0; id < w->kit.n; id++)
            if (bit(mask, id) && (pass || !prefer_text || id >= 259))
                allowed[n++] = id;
    assert_true(n > 0);
    return allowed[next_random(seed) % n];
}

static bool begin(struct language *l, const struct world *w, uint64_t seed, struct grammar **g)
{
    struct err e = { 0 };
    grow_language(l, seed);
    struct gram *tree = gram_create();
    for (int r = 0; r < l->n_rules; r++) {
        const char name[2] = { (char)('A' + r), 0 };
        gram_define(tree, gram_rule(tree, str_from(name)), build(l, tree, l->rule[r]));
    }
    gram_start(tree, gram_rule(tree, STR("A")));
    enum err_code code = grammar_create(tree, w->v, g, &e);
    gram_destroy(tree);
    if (code && !strstr(e.text, "left recursion"))
        fail_msg("seed %llu: %s", (unsigned long long)seed, e.text);
    return !code;
}

static void every_mask_is_the_definition(void **state)
{
    const struct world *w = *state;
    struct language *l = mem_zero(1, sizeof *l);
    struct reading *r = mem_zero(1, sizeof *r);
    size_t n_grammars = 0, n_masks = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct grammar *g;
        struct constraint *c;
        struct err e = { 0 };
        uint64_t walk = seed;
        if (!begin(l, w, seed, &g))
            continue;
        n_grammars++;
        assert_int_equal(constraint_create(g, 0, &c, &e), ERR_OK);
        *r = (struct reading){ .l = l };
        for (int step = 0; step < 8; step++) {
            const uint32_t *mask;
            check_mask(c, r, w, seed);
            n_masks++;
            assert_int_equal(constraint_mask(c, 0, &mask, &e), ERR_OK);
            const uint32_t id = pick_token(mask, w, &walk, next_random(&walk) % 4 != 0);
            if (id == 2 || !put_token(r, w, id) || r->n > MAX_SYMBOLS - 8)
                break;
            if (constraint_accept(c, (int32_t)id, &e))
                fail_msg("seed %llu: %s", (unsigned long long)seed, e.text);
        }
        constraint_destroy(c);
        grammar_unref(g);
    }
    print_message("%zu grammars, %zu masks of %zu tokens\n", n_grammars, n_masks, w->kit.n);
    assert_true(n_grammars > 150);
    mem_free(l);
    mem_free(r);
}

/* Some sentence ends within `left` tokens, says the recogniser. */
static bool can_end(struct reading *r, const struct world *w, uint32_t left)
{
    const int n = r->n;
    bool ok = read_all(r) >> n & 1;
    for (uint32_t id = 3; !ok && left && id < w->kit.n; id++) {
        if (put_token(r, w, id) && read_all(r) & (BEYOND | (uint32_t)1 << r->n))
            ok = can_end(r, w, left - 1);
        r->n = n;
    }
    return ok;
}

/* What a mask with a limit allows can be ended in time; *lost: tokens that could have been allowed too. */
static void check_limit(struct constraint *c, struct reading *r, const struct world *w, uint32_t left, size_t *kept,
                        size_t *lost)
{
    const uint32_t *mask, *full;
    struct err e = { 0 };
    uint32_t limited[KIT_MAX / 32];
    assert_int_equal(constraint_mask(c, left, &mask, &e), ERR_OK);
    memcpy(limited, mask, constraint_mask_words(c) * sizeof *mask);
    assert_int_equal(constraint_mask(c, 0, &full, &e), ERR_OK);
    const int n = r->n;
    for (uint32_t id = 3; id < w->kit.n; id++) {
        if (bit(full, id) && put_token(r, w, id)) {
            const bool want = can_end(r, w, left - 1);
            assert_true(want || !bit(limited, id));
            *kept += want;
            *lost += want && !bit(limited, id);
        }
        assert_true(bit(full, id) || !bit(limited, id));
        r->n = n;
    }
}

static void a_limit_is_kept(void **state)
{
    const struct world *w = *state;
    struct language *l = mem_zero(1, sizeof *l);
    struct reading *r = mem_zero(1, sizeof *r);
    size_t walks = 0, kept = 0, lost = 0;
    for (uint64_t seed = 1; seed <= 120; seed++) {
        struct grammar *g;
        struct constraint *c;
        struct err e = { 0 };
        if (!begin(l, w, seed, &g))
            continue;
        const uint32_t least = grammar_min_tokens(g);
        if (least > 1)
            assert_int_equal(constraint_create(g, least - 1, &c, &e), ERR_INVALID);
        for (uint32_t limit = least ? least : 1; limit < least + 8; limit++) {
            uint64_t walk = seed * 64 + limit;
            uint32_t left = limit;
            assert_int_equal(constraint_create(g, limit, &c, &e), ERR_OK);
            *r = (struct reading){ .l = l };
            bool fits = true;
            for (; left && fits; left--) {
                const uint32_t *mask;
                if (left == 1 || (left == 2 && seed % 16 == 0))
                    check_limit(c, r, w, left, &kept, &lost);
                if (constraint_mask(c, left, &mask, &e))
                    fail_msg("seed %llu, limit %u: %s", (unsigned long long)seed, limit, e.text);
                const uint32_t id = pick_token(mask, w, &walk, true);
                assert_int_equal(constraint_accept(c, (int32_t)id, &e), ERR_OK);
                if (id == 2)
                    break;
                fits = put_token(r, w, id) && r->n <= MAX_SYMBOLS - 14;
            }
            assert_true(constraint_may_end(c) || !fits);
            if (fits)
                assert_true(read_all(r) >> r->n & 1);
            walks++;
            constraint_destroy(c);
        }
        grammar_unref(g);
    }
    print_message("%zu walks; near the end %zu tokens that could be, %zu of them not allowed\n", walks, kept, lost);
    assert_true(walks > 300 && lost * 20 < kept);
    mem_free(l);
    mem_free(r);
}

/* Brackets as deep as the masks let them: past the calls that may be open, only closing ones are left. */
static void nesting_comes_to_an_end(void **state)
{
    const struct world *w = *state;
    struct gram *tree = gram_create();
    const uint32_t root = gram_rule(tree, STR("root"));
    gram_define(tree, root, gram_seq_of(tree, gram_literal(tree, STR("a")), gram_repeat(tree, gram_ref(tree, root), 0, 1),
                                        gram_literal(tree, STR("b"))));
    gram_start(tree, root);
    gram_max_calls(tree, 20);
    struct grammar *g;
    struct constraint *c, *twin;
    struct err e = { 0 };
    assert_int_equal(grammar_create(tree, w->v, &g, &e), ERR_OK);
    assert_int_equal(constraint_create(g, 0, &c, &e), ERR_OK);
    int open = 0, most = 0, steps = 0;
    for (; !constraint_done(c); steps++) {
        const uint32_t *mask, *same;
        assert_int_equal(constraint_mask(c, 0, &mask, &e), ERR_OK);
        const bool up = bit(mask, 3 + 'a');
        assert_true(up || bit(mask, 3 + 'b'));
        assert_int_equal(constraint_clone(c, &twin, &e), ERR_OK);
        assert_int_equal(constraint_mask(twin, 0, &same, &e), ERR_OK);
        assert_memory_equal(mask, same, constraint_mask_words(c) * sizeof *mask);
        constraint_destroy(twin);
        assert_int_equal(constraint_accept(c, 3 + (up ? 'a' : 'b'), &e), ERR_OK);
        open += up ? 1 : -1;
        most = open > most ? open : most;
        assert_true(steps < 100);
    }
    assert_int_equal(open, 0);
    assert_true(most >= 20 && most < 30);
    assert_int_equal(constraint_accept(c, 3 + 'b', &e), ERR_INVALID);
    assert_int_equal(constraint_accept(c, 2, &e), ERR_OK);
    assert_int_equal(constraint_accept(c, 2, &e), ERR_INVALID);
    constraint_destroy(c);
    grammar_unref(g);
    gram_destroy(tree);
}

/* An end token that a grammar names ends it; free text takes control tokens only where it says so. */
static void tokens_by_name(void **state)
{
    const struct world *w = *state;
    for (unsigned flags = 0; flags <= GRAM_CONTROL; flags++) {
        struct gram *tree = gram_create();
        const uint32_t root = gram_rule(tree, STR("root"));
        gram_define(tree, root, gram_seq_of(tree, gram_until(tree, &markers[1], 1, 0, flags), gram_literal(tree, STR("a")),
                                            gram_token(tree, STR("</s>"))));
        gram_start(tree, root);
        struct grammar *g;
        struct constraint *c;
        const uint32_t *mask;
        struct err e = { 0 };
        assert_int_equal(grammar_create(tree, w->v, &g, &e), ERR_OK);
        assert_int_equal(grammar_min_tokens(g), 3);
        assert_int_equal(constraint_create(g, 0, &c, &e), ERR_OK);
        assert_int_equal(constraint_mask(c, 0, &mask, &e), ERR_OK);
        assert_int_equal(bit(mask, token_u), flags == GRAM_CONTROL);
        assert_true(bit(mask, token_t) && bit(mask, 259) && !bit(mask, 2) && !bit(mask, 3 + 0xFF));
        for (const char *p = "<t"; *p; p++)
            assert_int_equal(constraint_accept(c, 3 + *p, &e), ERR_OK);
        assert_int_equal(constraint_mask(c, 0, &mask, &e), ERR_OK);
        assert_false(bit(mask, 3 + '>')); /* text must not spell the token */
        assert_int_equal(constraint_accept(c, (int32_t)token_t, &e), ERR_OK);
        assert_int_equal(constraint_accept(c, 2, &e), ERR_INVALID);
        assert_int_equal(constraint_accept(c, 3 + 'a', &e), ERR_OK);
        assert_false(constraint_may_end(c));
        assert_int_equal(constraint_mask(c, 1, &mask, &e), ERR_OK);
        assert_true(bit(mask, 2) && !bit(mask, 3 + 'a'));
        assert_int_equal(constraint_accept(c, 2, &e), ERR_OK);
        assert_true(constraint_done(c));
        constraint_destroy(c);
        grammar_unref(g);
        gram_destroy(tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_mask_is_the_definition, make_world, end_world),
        cmocka_unit_test_setup_teardown(a_limit_is_kept, make_world, end_world),
        cmocka_unit_test_setup_teardown(nesting_comes_to_an_end, make_world, end_world),
        cmocka_unit_test_setup_teardown(tokens_by_name, make_world, end_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
