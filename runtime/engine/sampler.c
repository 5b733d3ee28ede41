#include "runtime/engine/sampler.h"

#include "runtime/base/mem.h"
#include "runtime/engine/sampler_priv.h"

enum err_code sampler_init(struct sampler *s, uint32_t n_vocab, uint32_t n_ctx, struct err *e)
{
    *s = (struct sampler){ .n_vocab = n_vocab, .n_ctx = n_ctx };
    s->list = mem_alloc(n_vocab * sizeof *s->list);
    s->scratch = mem_alloc(n_vocab * sizeof *s->scratch);
    s->undo = mem_alloc(n_vocab * sizeof *s->undo);
    s->edited = mem_zero(n_vocab / 32 + 1, sizeof *s->edited);
    s->count = mem_zero(n_vocab, sizeof *s->count);
    s->match = mem_alloc(n_ctx * sizeof *s->match);
    if (s->list && s->scratch && s->undo && s->edited && s->count && s->match)
        return ERR_OK;
    sampler_finish(s);
    return err_no_memory(e, n_vocab * 3 * sizeof *s->list, "the sampler");
}

void sampler_finish(struct sampler *s)
{
    mem_free(s->list);
    mem_free(s->scratch);
    mem_free(s->undo);
    mem_free(s->edited);
    mem_free(s->count);
    mem_free(s->match);
    *s = (struct sampler){ 0 };
}

/* ---- whole rows ------------------------------------------------------------------------------- */

/* The largest of 16 interleaved strands, which a compiler turns into vector code; NaN loses. */
float row_max(const float *v, uint32_t n)
{
    float best[16];
    for (int k = 0; k < 16; k++)
        best[k] = -INFINITY;
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t k = 0; k < 16; k++)
            best[k] = v[i + k] > best[k] ? v[i + k] : best[k];
    for (; i < n; i++)
        best[0] = v[i] > best[0] ? v[i] : best[0];
    for (int k = 1; k < 16; k++)
        best[0] = best[k] > best[0] ? best[k] : best[0];
    return best[0];
}

/* Sum of exp((v - best) * scale) over one block. */
#define BLOCK 1024
static double block_sum(const float *v, uint32_t n, float best, float scale)
{
    float part[16] = { 0 };
    uint32_t i = 0;
    double sum = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t k = 0; k < 16; k++)
            part[k] += exp_neg((v[i + k] - best) * scale);
    for (; i < n; i++)
        part[0] += exp_neg((v[i] - best) * scale);
    for (int k = 0; k < 16; k++)
        sum += (double)part[k];
    return sum;
}

static uint32_t block_n(uint32_t n, uint32_t from)
{
    return n - from < BLOCK ? n - from : BLOCK;
}

static double row_sum(const float *v, uint32_t n, float best, float scale)
{
    double sum = 0;
    for (uint32_t from = 0; from < n; from += BLOCK)
        sum += block_sum(v + from, block_n(n, from), best, scale);
    return sum;
}

double sampler_log_sum(const float *logits, uint32_t n)
{
    float best = row_max(logits, n);
    if (!(best > -INFINITY))
        return -INFINITY;
    return (double)best + log(row_sum(logits, n, best, 1));
}

void sampler_top(const float *logits, uint32_t n_vocab, uint32_t n, int32_t *ids)
{
    float best[20];
    uint32_t have = 0;
    n = n < 20 ? n : 20;
    for (uint32_t i = 0; i < n_vocab; i++) {
        float v = logits[i] == logits[i] ? logits[i] : -INFINITY;
        if (have == n && (n == 0 || !(v > best[n - 1])))
            continue;
        uint32_t at = have < n ? have++ : n - 1;
        for (; at > 0 && v > best[at - 1]; at--) {
            best[at] = best[at - 1];
            ids[at] = ids[at - 1];
        }
        best[at] = v;
        ids[at] = (int32_t)i;
    }
}

/* ---- edits ---------------------------------------------------------------------------------------- */

void row_edit(struct sampler *s, float *v, int32_t id, float logit)
{
    uint32_t bit = UINT32_C(1) << (id % 32), *word = &s->edited[id / 32];
    if (!(*word & bit)) {
        s->undo[s->n_undo++] = (struct candidate){ v[id], id };
        *word |= bit;
    }
    v[id] = logit;
}

static void put_back(struct sampler *s, float *v)
{
    for (uint32_t i = 0; i < s->n_undo; i++) {
        v[s->undo[i].id] = s->undo[i].logit;
        s->edited[s->undo[i].id / 32] = 0;
    }
    s->n_undo = 0;
}

static bool is_token(const struct sampler *s, int32_t id)
{
    return id >= 0 && (uint32_t)id < s->n_vocab;
}

static void bias_and_ban(struct list *l)
{
    float *v = l->in->logits;
    for (uint32_t i = 0; i < l->how->n_bias; i++) {
        const struct token_bias *b = &l->how->bias[i];
        if (is_token(l->s, b->token))
            row_edit(l->s, v, b->token, v[b->token] + b->bias);
    }
    for (int k = 0; k < SAMPLER_BANS; k++)
        for (size_t i = 0; i < l->in->ban[k].n; i++)
            if (is_token(l->s, l->in->ban[k].id[i]))
                row_edit(l->s, v, l->in->ban[k].id[i], -INFINITY);
}

/* ---- the draw ------------------------------------------------------------------------------------ */

double sampler_random(uint64_t seed, uint32_t position, enum random_use use)
{
    uint64_t z = seed + ((uint64_t)position + 1) * 0x9E3779B97F4A7C15U + (uint64_t)use * 0xD1342543DE82EF95U;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9U;
    z = (z ^ z >> 27) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

static double draw_number(const struct list *l)
{
    return sampler_random(l->how->seed, l->in->position, RANDOM_DRAW);
}

/* From the whole row, without a list of it: first the block, then the token in it. -1: not so. */
static int32_t draw_row(const struct list *l)
{
    const float *v = l->in->logits;
    uint32_t n = l->s->n_vocab, from = 0;
    float best = row_max(v, n), scale = (float)l->scale;
    if (best == INFINITY)
        return -1;
    double at = draw_number(l) * row_sum(v, n, best, scale), sum;
    for (;; from += BLOCK, at -= sum) {
        sum = block_sum(v + from, block_n(n, from), best, scale);
        if (at < sum || from + BLOCK >= n)
            break;
    }
    int32_t last = -1;
    for (uint32_t i = from; i < from + block_n(n, from); i++) {
        if (!(v[i] > -INFINITY))
            continue;
        last = (int32_t)i;
        at -= (double)exp_neg((v[i] - best) * scale);
        if (at < 0)
            break;
    }
    return last;
}

static struct list begin(struct sampler *s, const struct sampling *how, const struct sampler_input *in)
{
    struct list l = { .s = s, .how = how, .in = in, .c = s->list, .n = s->n_vocab, .whole = true, .scale = 1 };
    bias_and_ban(&l);
    if (!(how->temperature > 0)) {
        chain_edits(&l);
        list_only_best(&l);
    } else if (how->mirostat) {
        chain_mirostat(&l);
    } else {
        chain_run(&l);
    }
    return l;
}

uint32_t sampler_candidates(struct sampler *s, const struct sampling *how, const struct sampler_input *in,
                            const struct candidate **out)
{
    struct list l = begin(s, how, in);
    list_all(&l);
    float best = list_best(&l);
    for (uint32_t i = 0; i < l.n; i++)
        l.c[i].logit = l.n > 1 ? (float)(((double)l.c[i].logit - (double)best) * l.scale) : 0;
    put_back(s, in->logits);
    *out = l.c;
    return l.n;
}

/* Steers the surprise of what comes next towards tau. */
static void learn_mu(const struct list *l, double p)
{
    if (l->how->mirostat && l->how->temperature > 0 && l->in->mu)
        *l->in->mu -= (double)l->how->mirostat_eta * (-log2(p) - (double)l->how->mirostat_tau);
}

int32_t sampler_pick(struct sampler *s, const struct sampling *how, const struct sampler_input *in)
{
    struct list l = begin(s, how, in);
    int32_t id = -1;
    double p = 1;
    if (l.whole && !in->mask)
        id = draw_row(&l);
    if (id < 0) {
        list_all(&l);
        id = list_draw(&l, draw_number(&l), &p);
    }
    learn_mu(&l, p);
    put_back(s, in->logits);
    return id;
}
