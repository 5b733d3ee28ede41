#include "tests/golden/engine_life.h"

#include <string.h>

static enum err_code generate(struct life *l, struct err *e)
{
    static const int32_t prompt[] = { 5, 6, 7, 8, 9 };
    struct turn t = { .kind = TURN_GENERATE,
                      .tokens = prompt,
                      .n_tokens = sizeof prompt / sizeof *prompt,
                      .max_tokens = LIFE_TOKENS,
                      .words = l->words,
                      .ignore_eog = true,
                      .sampling = sampling_default(),
                      .want_logprob = true };
    struct step step;
    l->n_tokens = 0;
    enum err_code code = session_begin(l->session, &t, NULL, e);
    while (code == ERR_OK && session_active(l->session)) {
        code = model_step(l->model, &step, e);
        for (size_t i = 0; code == ERR_OK && i < step.n_events; i++)
            l->tokens[l->n_tokens++] = step.events[i].token;
    }
    return code;
}

struct life life_like(const struct life *l)
{
    return (struct life){
        .path = l->path, .device = l->device, .cache_dir = l->cache_dir, .as_gpu = l->as_gpu
    };
}

enum err_code life_live(struct life *l, struct err *e)
{
    struct runtime_options ro = { .device = l->device, .cache_dir = l->cache_dir, .as_gpu = l->as_gpu };
    struct model_options mo = { .path = l->path, .n_ctx = 32, .n_seq = 2 };
    enum err_code code = l->words ? ERR_OK : words_load(l->path, &l->words, e);
    if (code == ERR_OK && !l->rt)
        code = runtime_create(&ro, &l->rt, e);
    if (code == ERR_OK && !l->model)
        code = model_load(l->rt, &mo, &l->model, e);
    if (code == ERR_OK && !l->session)
        code = session_create(l->model, &l->session, e);
    return code == ERR_OK ? generate(l, e) : code;
}

void life_unload(struct life *l)
{
    session_destroy(l->session);
    model_unload(l->model);
    l->session = NULL;
    l->model = NULL;
}

void life_end(struct life *l)
{
    life_unload(l);
    runtime_destroy(l->rt);
    words_destroy(l->words);
    l->rt = NULL;
    l->words = NULL;
}

bool life_same_tokens(const struct life *a, const struct life *b)
{
    return a->n_tokens == b->n_tokens && memcmp(a->tokens, b->tokens, sizeof a->tokens) == 0;
}
