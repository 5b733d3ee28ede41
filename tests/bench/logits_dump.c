/* Logits of the scored half of windows of tokens, for kl.py:
 *
 *   logits_dump MODEL TOKENS OUT --window W [--device X] [--kv f16|f32]
 *
 * TOKENS: little-endian i32 [n][W]. OUT: little-endian f32 [n][W - 1 - W/2][n_vocab]: row r is the logits
 * after token W/2 + r. Every window starts from an empty session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/engine/runtime.h"

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(1);
}

static void window(struct model *m, struct session *s, const int32_t *tokens, uint32_t n, FILE *out)
{
    struct err e;
    struct step step;
    uint32_t n_vocab = model_info(m)->n_vocab;
    struct turn t = { .kind = TURN_SCORE, .tokens = tokens, .n_tokens = n, .want_logits = true };
    if (session_begin(s, &t, NULL, &e) != ERR_OK)
        die("window", &e);
    while (session_active(s)) {
        if (model_step(m, &step, &e) != ERR_OK)
            die("step", &e);
        for (size_t i = 0; i < step.n_events; i++)
            if (step.events[i].position - 1 >= n / 2)
                fwrite(step.events[i].logits, sizeof(float), n_vocab, out);
    }
}

int main(int argc, char **argv)
{
    const char *arg[3] = { 0 }, *device = NULL;
    uint32_t n = 512, n_arg = 0;
    enum kv_type kv = KV_F16;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--window") == 0 && i + 1 < argc)
            n = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            device = argv[++i];
        else if (strcmp(argv[i], "--kv") == 0 && i + 1 < argc)
            kv = strcmp(argv[++i], "f32") == 0 ? KV_F32 : KV_F16;
        else if (n_arg < 3)
            arg[n_arg++] = argv[i];
    }
    if (n_arg < 3 || n < 4) {
        fprintf(stderr, "usage: logits_dump MODEL TOKENS OUT --window W [--device X] [--kv T]\n");
        return 2;
    }
    struct err e;
    struct runtime *rt;
    struct model *m;
    struct session *s;
    json_setup();
    struct runtime_options ro = { .device = device };
    struct model_options mo = { .path = arg[0], .n_ctx = n, .n_seq = 1, .kv_type = kv };
    if (runtime_create(&ro, &rt, &e) != ERR_OK)
        die("device", &e);
    if (model_load(rt, &mo, &m, &e) != ERR_OK || session_create(m, &s, &e) != ERR_OK)
        die(arg[0], &e);
    FILE *in = fopen(arg[1], "rb"), *out = fopen(arg[2], "wb");
    int32_t *tokens = malloc(n * sizeof *tokens);
    if (!in || !out || !tokens) {
        fprintf(stderr, "cannot open %s or %s\n", arg[1], arg[2]);
        return 1;
    }
    while (fread(tokens, sizeof *tokens, n, in) == n)
        window(m, s, tokens, n, out);
    int bad = fclose(out);
    fclose(in);
    free(tokens);
    session_destroy(s);
    model_unload(m);
    runtime_destroy(rt);
    return bad ? 1 : 0;
}
