/* engine_fault MODEL: the n-th allocation fails, for every n, over words, device (ref), load, one
 * generation and unload; once, and from then on. Nothing crashes, nothing leaks, a failure says why, and
 * the next life succeeds. */
#include <stdio.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"

static enum err_code generate(struct model *m, const struct words *w, struct err *e)
{
    static const int32_t tokens[] = { 5, 6, 7, 8 };
    struct session *s = NULL;
    struct step step;
    struct turn t = { .kind = TURN_GENERATE, .tokens = tokens, .n_tokens = 4, .max_tokens = 4, .words = w,
                      .sampling = sampling_default(), .want_logprob = true };
    enum err_code code = session_create(m, &s, e);
    if (code == ERR_OK)
        code = session_begin(s, &t, NULL, e);
    while (code == ERR_OK && session_active(s))
        code = model_step(m, &step, e);
    session_destroy(s);
    return code;
}

static enum err_code live(const char *path, struct err *e)
{
    struct words *w = NULL;
    struct runtime *rt = NULL;
    struct model *m = NULL;
    struct runtime_options ro = { .device = "ref" };
    struct model_options mo = { .path = path, .n_ctx = 32, .n_seq = 2 };
    enum err_code code = words_load(path, &w, e);
    if (code == ERR_OK)
        code = runtime_create(&ro, &rt, e);
    if (code == ERR_OK)
        code = model_load(rt, &mo, &m, e);
    if (code == ERR_OK)
        code = generate(m, w, e);
    model_unload(m);
    runtime_destroy(rt);
    words_destroy(w);
    return code;
}

static int sweep(const char *path, bool sticky, uint64_t base, uint64_t total)
{
    for (uint64_t n = 1; n <= total; n++) {
        struct err e = { 0 };
        mem_fail_after(n, sticky);
        enum err_code code = live(path, &e);
        mem_fail_after(0, false);
        if (mem_live() != base || (code != ERR_OK && !e.text[0])) {
            printf("n = %llu%s: %llu blocks left, code %d '%s'\n", (unsigned long long)n,
                   sticky ? " and on" : "", (unsigned long long)(mem_live() - base), (int)code, e.text);
            return 1;
        }
        if (live(path, &e) != ERR_OK) {
            printf("after n = %llu the next life fails: %s\n", (unsigned long long)n, e.text);
            return 1;
        }
    }
    printf("%llu allocations%s: ok\n", (unsigned long long)total, sticky ? ", sticky" : "");
    return 0;
}

int main(int argc, char **argv)
{
    struct err e;
    json_setup();
    if (argc < 2 || live(argv[1], &e) != ERR_OK) {
        fprintf(stderr, "engine_fault MODEL: %s\n", argc < 2 ? "no model" : e.text);
        return 2;
    }
    uint64_t base = mem_live(), total = mem_count();
    live(argv[1], &e);
    total = mem_count() - total;
    return sweep(argv[1], false, base, total) + sweep(argv[1], true, base, total);
}
