#include "runtime/text/grammar_auto.h"

#include <stdlib.h>
#include <string.h>

/* A token and its bytes, while the trie is made. */
struct spelled {
    const uint8_t *p;
    uint32_t n, id;
};

static int by_bytes(const void *a, const void *b)
{
    const struct spelled *x = a, *y = b;
    int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);
    if (c == 0)
        c = (x->n > y->n) - (x->n < y->n);
    return c ? c : (x->id > y->id) - (x->id < y->id);
}

/* May text have this token in it? Bytes from 0xF8 on are never part of UTF-8. */
static bool is_text(const struct tokenizer *t, int32_t id, struct str bytes)
{
    enum token_type type = tokenizer_type(t, id);
    if (bytes.n == 0 || bytes.n >= UINT16_MAX || tokenizer_is_eog(t, id) ||
        (type != TOKEN_NORMAL && type != TOKEN_USER_DEFINED && type != TOKEN_BYTE))
        return false;
    bool ok = true;
    for (size_t i = 0; i < bytes.n; i++)
        ok &= (uint8_t)bytes.p[i] < 0xF8;
    return ok;
}

/* The bytes of every token, one after the other in `all`; *n of them are text. The token is decoded twice in a row,
 * for the first of a text may lose its space. */
static enum err_code spell(const struct tokenizer *t, struct buf *all, struct spelled *out, size_t *n, struct err *e)
{
    struct buf one;
    enum err_code code = ERR_OK;
    buf_init(&one, (size_t)1 << 24);
    for (size_t i = 0; !code && i < tokenizer_n_tokens(t); i++) {
        const int32_t id = (int32_t)i, twice[2] = { id, id };
        buf_clear(&one);
        code = tokenizer_decode(t, twice, 2, false, &one, e);
        size_t len = (one.n + 1) / 2;
        struct str bytes = { one.p ? one.p + one.n - len : "", len };
        if (code || !is_text(t, id, bytes))
            continue;
        out[(*n)++] = (struct spelled){ NULL, (uint32_t)len, (uint32_t)i };
        buf_put(all, bytes.p, len);
    }
    buf_finish(&one);
    if (!code && all->failed)
        code = err_no_memory(e, all->n, "the bytes of a vocabulary");
    const uint8_t *p = (const uint8_t *)all->p;
    for (size_t i = 0; !code && i < *n; p += out[i++].n)
        out[i].p = p;
    return code;
}

static size_t common_prefix(const struct spelled *a, const struct spelled *b)
{
    size_t n = a->n < b->n ? a->n : b->n, i = 0;
    while (i < n && a->p[i] == b->p[i])
        i++;
    return i;
}

/* Ends the nodes of the path that are deeper than `depth`. */
static void end_nodes(struct grammar_vocab *v, uint32_t *path, size_t *path_n, size_t depth)
{
    while (*path_n > depth)
        v->end[path[(*path_n)--]] = (uint32_t)v->n_nodes;
}

static void make_trie(struct grammar_vocab *v, const struct spelled *s, size_t n, uint32_t *path)
{
    size_t path_n = 0;
    v->n_nodes = 1;
    path[0] = 0;
    for (size_t i = 0; i < n; i++) {
        end_nodes(v, path, &path_n, i ? common_prefix(&s[i - 1], &s[i]) : 0);
        while (path_n < s[i].n) {
            uint32_t node = (uint32_t)v->n_nodes++;
            v->byte[node] = s[i].p[path_n];
            v->depth[node] = (uint16_t)(path_n + 1);
            v->first[node] = (uint32_t)i;
            path[++path_n] = node;
        }
        v->node_of[s[i].id] = path[path_n];
        v->id[i] = s[i].id;
        v->has_byte[s[i].p[0]] |= s[i].n == 1;
        if (s[i].n > v->max_depth)
            v->max_depth = (uint16_t)s[i].n;
    }
    end_nodes(v, path, &path_n, 0);
    v->end[0] = (uint32_t)v->n_nodes;
    v->first[v->n_nodes] = (uint32_t)n;
    v->n_ids = n;
    for (uint32_t c = 1; c < v->n_nodes; c = v->end[c])
        v->root[v->byte[c]] = c;
}

static size_t count_nodes(const struct spelled *s, size_t n)
{
    size_t nodes = 1;
    for (size_t i = 0; i < n; i++)
        nodes += s[i].n - (i ? common_prefix(&s[i - 1], &s[i]) : 0);
    return nodes;
}

static bool list_eog(struct grammar_vocab *v)
{
    for (size_t i = 0; i < v->n_tokens; i++)
        v->n_eog += tokenizer_is_eog(v->t, (int32_t)i);
    v->eog = mem_zero(v->n_eog + 1, sizeof *v->eog);
    size_t n = 0;
    for (size_t i = 0; v->eog && i < v->n_tokens; i++)
        if (tokenizer_is_eog(v->t, (int32_t)i))
            v->eog[n++] = (uint32_t)i;
    return v->eog != NULL;
}

enum err_code grammar_vocab_create(const struct tokenizer *t, struct grammar_vocab **out, struct err *e)
{
    size_t n = 0, n_tokens = tokenizer_n_tokens(t);
    uint32_t *path = NULL;
    struct buf all;
    buf_init(&all, (size_t)1 << 30);
    struct grammar_vocab *v = mem_zero(1, sizeof *v);
    struct spelled *s = mem_zero(n_tokens + 1, sizeof *s);
    enum err_code code = v && s ? spell(t, &all, s, &n, e) : err_no_memory(e, n_tokens * sizeof *s, "a vocabulary");
    if (code)
        goto out;
    qsort(s, n, sizeof *s, by_bytes);
    size_t nodes = count_nodes(s, n);
    v->t = t;
    v->n_tokens = n_tokens;
    v->words = (n_tokens + 31) / 32;
    v->byte = mem_zero(nodes, sizeof *v->byte);
    v->depth = mem_zero(nodes, sizeof *v->depth);
    v->end = mem_zero(nodes, sizeof *v->end);
    v->first = mem_zero(nodes + 1, sizeof *v->first);
    v->id = mem_zero(n + 1, sizeof *v->id);
    v->node_of = mem_zero(n_tokens + 1, sizeof *v->node_of);
    path = mem_zero((size_t)UINT16_MAX + 1, sizeof *path);
    if (v->byte && v->depth && v->end && v->first && v->id && v->node_of && path && list_eog(v))
        make_trie(v, s, n, path);
    else
        code = err_no_memory(e, nodes * 11, "the trie of a vocabulary");
out:
    mem_free(path);
    mem_free(s);
    buf_finish(&all);
    if (code) {
        grammar_vocab_destroy(v);
        v = NULL;
    }
    *out = v;
    return code;
}

void grammar_vocab_destroy(struct grammar_vocab *v)
{
    if (!v)
        return;
    mem_free(v->byte);
    mem_free(v->depth);
    mem_free(v->end);
    mem_free(v->first);
    mem_free(v->id);
    mem_free(v->node_of);
    mem_free(v->eog);
    mem_free(v);
}

uint32_t vocab_child(const struct grammar_vocab *v, uint32_t node, uint8_t byte)
{
    if (node == 0)
        return v->root[byte];
    for (uint32_t c = node + 1; c < v->end[node]; c = v->end[c])
        if (v->byte[c] == byte)
            return c;
    return 0;
}

bool vocab_is_eog(const struct grammar_vocab *v, uint32_t id)
{
    return tokenizer_is_eog(v->t, (int32_t)id);
}
