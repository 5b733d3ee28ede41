#include "daemon/grammars.h"

#include <pthread.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/text/dfa.h"
#include "runtime/text/gbnf.h"
#include "runtime/text/json_schema.h"
#include "runtime/text/output_grammar.h"
#include "runtime/text/regex.h"

struct kept {
    char *key; /* NULL: free */
    size_t key_n;
    struct grammar *grammar;
    uint64_t used;
};

struct grammars {
    pthread_mutex_t lock; /* of all below; held while one is compiled */
    const struct tokenizer *tokenizer;
    struct grammar_vocab *vocab;
    struct kept kept[GRAMMARS_KEEP];
    uint64_t clock;
};

enum err_code grammars_create(const struct tokenizer *t, struct grammars **out, struct err *e)
{
    struct grammars *g = *out = mem_zero(1, sizeof *g);
    if (!g)
        return err_no_memory(e, sizeof *g, "the cache of grammars");
    g->tokenizer = t;
    pthread_mutex_init(&g->lock, NULL);
    return ERR_OK;
}

static void forget(struct kept *k)
{
    grammar_unref(k->grammar);
    mem_free(k->key);
    *k = (struct kept){ 0 };
}

void grammars_destroy(struct grammars *g)
{
    if (!g)
        return;
    for (size_t i = 0; i < GRAMMARS_KEEP; i++)
        forget(&g->kept[i]);
    grammar_vocab_destroy(g->vocab);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
}

/* ---- what binds the content ---------------------------------------------------------------------- */

static uint32_t content_json(struct gram *g, const json_t *of)
{
    (void)of;
    return gram_json(g, true);
}

static uint32_t content_schema(struct gram *g, const json_t *of)
{
    return json_schema_node(g, of, "format", JSON_SCHEMA_BY_ITSELF);
}

/* The tree was begun with the grammar, which calls its start so. */
static uint32_t content_grammar(struct gram *g, const json_t *of)
{
    (void)of;
    return gram_ref(g, gram_rule(g, STR("root")));
}

static uint32_t content_regex(struct gram *g, const json_t *of)
{
    struct err e = { 0 };
    struct dfa *d = regex_dfa((struct str){ json_string_value(of), json_string_length(of) }, REGEX_WHOLE, &e);
    gram_place(g, "format.regex");
    uint32_t node = d ? gram_dfa(g, d) : gram_fail(g, e.code, "%s", e.text);
    dfa_destroy(d);
    return node;
}

static uint32_t content_choice(struct gram *g, const json_t *of)
{
    size_t n = json_array_size(of);
    uint32_t *node = mem_alloc(n * sizeof *node);
    if (!node)
        return gram_fail(g, ERR_NO_MEMORY, "out of memory: a choice");
    gram_place(g, "format.choice");
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_array_get(of, i);
        node[i] = gram_literal(g, (struct str){ json_string_value(s), json_string_length(s) });
    }
    uint32_t all = gram_alt(g, node, n);
    mem_free(node);
    return all;
}

static uint32_t (*const content_of[])(struct gram *g, const json_t *of) = {
    [FORMAT_JSON] = content_json,   [FORMAT_SCHEMA] = content_schema, [FORMAT_GRAMMAR] = content_grammar,
    [FORMAT_REGEX] = content_regex, [FORMAT_CHOICE] = content_choice,
};

/* ---- what binds the answer ----------------------------------------------------------------------- */

static struct output_binding binding_of(const struct grammar_want *w)
{
    const struct gen_request *r = w->req;
    bool must = r->tool_choice == TOOLS_REQUIRED || r->tool_choice == TOOLS_NAMED;
    return (struct output_binding){
        .calls = !w->tools ? OUTPUT_CALLS_NONE : must ? OUTPUT_CALLS_MUST : OUTPUT_CALLS_FREE,
        .tools = r->tools,
        .named = r->tool_name,
        .thinking = w->thinking,
        .prompt = w->prompt,
        .content = r->format_kind == FORMAT_NONE ? GRAM_NONE : GRAM_NONE + 1, /* for output_binds */
    };
}

static enum err_code begin_tree(const struct gen_request *r, struct gram **out, struct err *e)
{
    if (r->format_kind == FORMAT_GRAMMAR) {
        struct str text = { json_string_value(r->format_of), json_string_length(r->format_of) };
        enum err_code c = gbnf_parse(text, out, e);
        return c ? err_prefix(e, "format.grammar") : ERR_OK;
    }
    *out = gram_create();
    return *out ? ERR_OK : err_no_memory(e, 0, "a grammar");
}

static enum err_code compile(struct grammars *g, const struct grammar_want *w, struct output_binding *b,
                             struct grammar **out, struct err *e)
{
    enum err_code c = g->vocab ? ERR_OK : grammar_vocab_create(g->tokenizer, &g->vocab, e);
    struct gram *tree = NULL;
    if (c || (c = begin_tree(w->req, &tree, e)))
        return c;
    if (w->req->format_kind != FORMAT_NONE)
        b->content = content_of[w->req->format_kind](tree, w->req->format_of);
    if (!gram_failed(tree)) {
        uint32_t start = gram_rule(tree, STR(""));
        gram_define(tree, start, output_grammar(tree, w->format, g->tokenizer, b));
        gram_start(tree, start);
    }
    c = grammar_create(tree, g->vocab, out, e);
    gram_destroy(tree);
    return c;
}

/* ---- keys ------------------------------------------------------------------------------------------ */

static int put_json(const char *text, size_t n, void *user)
{
    buf_put(user, text, n);
    return ((struct buf *)user)->failed;
}

/* All that a grammar of the model's own format is made of: of the prompt, how it ends. */
static enum err_code make_key(const struct grammar_want *w, const struct output_binding *b, struct buf *key,
                              struct err *e)
{
    const struct gen_request *r = w->req;
    size_t tail = b->prompt.n < 64 ? b->prompt.n : 64;
    buf_printf(key, "%d %d %d %.*s\n", (int)b->calls, b->thinking,
               (int)r->format_kind, (int)b->named.n, b->named.n ? b->named.p : "");
    buf_put(key, b->prompt.n ? b->prompt.p + b->prompt.n - tail : "", tail);
    buf_putc(key, '\n');
    if (r->format_of)
        json_dump_callback(r->format_of, put_json, key, JSON_COMPACT | JSON_ENCODE_ANY);
    buf_putc(key, '\n');
    if (b->calls != OUTPUT_CALLS_NONE)
        json_dump_callback(r->tools, put_json, key, JSON_COMPACT | JSON_ENCODE_ANY);
    return key->failed ? err_no_memory(e, key->n, "a grammar's key") : ERR_OK;
}

/* ---- the cache --------------------------------------------------------------------------------------- */

static struct kept *find(struct grammars *g, const struct buf *key)
{
    for (size_t i = 0; i < GRAMMARS_KEEP; i++)
        if (g->kept[i].key && g->kept[i].key_n == key->n && memcmp(g->kept[i].key, key->p, key->n) == 0)
            return &g->kept[i];
    return NULL;
}

static struct kept *oldest(struct grammars *g)
{
    struct kept *least = NULL;
    for (size_t i = 0; i < GRAMMARS_KEEP; i++)
        if (g->kept[i].key && (!least || g->kept[i].used < least->used))
            least = &g->kept[i];
    return least;
}

/* Makes room: an empty place, and no more bytes than may be kept. Grammars grow with use. */
static struct kept *make_room(struct grammars *g)
{
    for (;;) {
        struct kept *empty = NULL;
        size_t bytes = 0;
        for (size_t i = 0; i < GRAMMARS_KEEP; i++) {
            if (g->kept[i].key)
                bytes += grammar_bytes(g->kept[i].grammar);
            else
                empty = &g->kept[i];
        }
        struct kept *old = oldest(g);
        if (!old || (empty && bytes <= GRAMMARS_BYTES))
            return empty;
        forget(old);
    }
}

/* It is only not kept where there is no memory for that. */
static void keep(struct grammars *g, struct buf *key, struct grammar *grammar)
{
    struct kept *k = make_room(g);
    size_t n = key->n;
    char *text = buf_take(key);
    if (text)
        *k = (struct kept){ text, n, grammar_ref(grammar), ++g->clock };
}

static enum err_code get_locked(struct grammars *g, const struct grammar_want *w, struct output_binding *b,
                                struct buf *key, struct grammar **out, struct err *e)
{
    struct kept *k = w->own_format ? NULL : find(g, key);
    if (k) {
        k->used = ++g->clock;
        *out = grammar_ref(k->grammar);
        return ERR_OK;
    }
    enum err_code c = compile(g, w, b, out, e);
    if (!c && !w->own_format)
        keep(g, key, *out);
    return c;
}

enum err_code grammars_get(struct grammars *g, const struct grammar_want *w, struct grammar **out,
                           struct err *e)
{
    struct output_binding b = binding_of(w);
    struct buf key;
    *out = NULL;
    if (!output_binds(w->format, &b))
        return ERR_OK;
    b.content = GRAM_NONE;
    buf_init(&key, 2 * PROTOCOL_MAX_BODY);
    enum err_code c = make_key(w, &b, &key, e);
    if (!c) {
        pthread_mutex_lock(&g->lock);
        c = get_locked(g, w, &b, &key, out, e);
        pthread_mutex_unlock(&g->lock);
    }
    buf_finish(&key);
    return c;
}
