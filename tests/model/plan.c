/* plan FILE N_CTX: what the model room makes of a file, as JSON; the tool of plan_oracle.py. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/model/budget.h"
#include "runtime/model/gguf.h"
#include "runtime/model/hparams.h"
#include "runtime/model/rope.h"
#include "runtime/model/weights.h"

static void print_hparams(const struct hparams *hp)
{
    printf("\"arch\":\"%s\",\"n_layer\":%u,\"n_embd\":%u,\"n_head\":%u,\"n_head_kv\":%u,"
           "\"head_k\":%u,\"head_v\":%u,\"n_rot\":%u,\"n_vocab\":%u,\"window\":%u,",
           hp->arch->name, hp->n_layer, hp->n_embd, hp->n_head, hp->n_head_kv, hp->head_k,
           hp->head_v, hp->n_rot, hp->n_vocab, hp->window);
    printf("\"eps\":%.9g,\"embd_scale\":%.9g,\"residual_scale\":%.9g,\"logit_scale\":%.9g,"
           "\"query_scale\":%.9g,\"attn_cap\":%.9g,\"final_cap\":%.9g,\"local\":[",
           (double)hp->norm_eps, (double)hp->embd_scale, (double)hp->residual_scale,
           (double)hp->logit_scale, (double)hp->attn_scale, (double)hp->attn_cap,
           (double)hp->final_cap);
    for (uint32_t i = 0; i < hp->n_layer; i++)
        printf("%s%d", i ? "," : "", hp->local[i]);
    printf("]");
}

static enum err_code print_rope(const struct gguf *g, const struct hparams *hp,
                                const struct weights *w, uint32_t n_ctx, bool local, struct err *e)
{
    struct rope r;
    enum err_code c = rope_load(&r, g, hp, w, n_ctx, local, e);
    if (c == ERR_OK)
        printf(",\"%s\":{\"scale\":%.17g,\"freq\":[", local ? "rope_local" : "rope_global", r.scale);
    for (uint32_t i = 0; i < r.n_pairs; i++)
        printf("%s%.17g", i ? "," : "", r.freq[i]);
    if (c == ERR_OK)
        printf("]}");
    rope_finish(&r);
    return c;
}

static enum err_code print_plan(const struct gguf *g, uint32_t n_ctx, struct err *e)
{
    struct hparams hp;
    struct weights w = { 0 };
    const struct tensor_type *half = tensor_type_find(TENSOR_F16);
    enum err_code c = hparams_read(g, &hp, e);
    if (c != ERR_OK || (c = weights_bind(g, &hp, &w, e)) != ERR_OK)
        goto out;
    printf("{");
    print_hparams(&hp);
    printf(",\"weights\":%" PRIu64 ",\"kv\":%" PRIu64 ",\"unused\":%u,\"gate_in_up\":%d,"
           "\"qkv_fused\":%d,\"tied\":%d",
           budget_weights(&w), budget_kv(&hp, half, half, 1, 1), w.n_unused, w.gate_in_up,
           w.qkv_fused, weights_output(&w) == w.t[W_TOKEN_EMBD]);
    if ((c = print_rope(g, &hp, &w, n_ctx, false, e)) == ERR_OK)
        c = print_rope(g, &hp, &w, n_ctx, true, e);
    printf("}\n");
out:
    weights_finish(&w);
    return c;
}

int main(int argc, char **argv)
{
    struct gguf *g = NULL;
    struct err e;
    if (argc != 3) {
        fprintf(stderr, "usage: plan FILE N_CTX\n");
        return 2;
    }
    enum err_code c = gguf_open(argv[1], &g, &e);
    if (c == ERR_OK)
        c = print_plan(g, (uint32_t)strtoul(argv[2], NULL, 10), &e);
    gguf_close(g);
    if (c != ERR_OK)
        fprintf(stderr, "%s: %s\n", err_name(c), e.text);
    return c == ERR_OK ? 0 : 1;
}
