/* engine_fault MODEL: the n-th allocation fails, for every n, over words, device (ref), load, eight
 * tokens and unload; once, and from then on. Nothing crashes, nothing leaks, a failure says why, and the
 * next life gives the right tokens. */
#include <stdio.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "tests/golden/engine_life.h"

/* NULL, or what is wrong. */
static const char *point(const struct life *clean, uint64_t n, bool sticky, struct err *e)
{
    struct life l = life_like(clean);
    uint64_t base = mem_live();
    *e = (struct err){ 0 };
    mem_fail_after(n, sticky);
    enum err_code code = life_live(&l, e);
    mem_fail_after(0, false);
    if (code != ERR_OK && (code != ERR_NO_MEMORY || !e->text[0]))
        return "the error does not say it";
    if (code != ERR_OK)
        code = life_live(&l, e); /* what there is already is still usable */
    if (code != ERR_OK || !life_same_tokens(&l, clean))
        return "it does not go on";
    life_end(&l);
    return mem_live() == base ? NULL : "blocks are left";
}

static int sweep(const struct life *clean, bool sticky, uint64_t total)
{
    struct err e;
    for (uint64_t n = 1; n <= total; n++) {
        const char *wrong = point(clean, n, sticky, &e);
        if (wrong) {
            printf("allocation %llu%s: %s: %s\n", (unsigned long long)n, sticky ? " and on" : "", wrong,
                   e.text);
            return 1;
        }
    }
    printf("%llu allocations%s: ok\n", (unsigned long long)total, sticky ? ", sticky" : "");
    return 0;
}

int main(int argc, char **argv)
{
    struct life clean = { .path = argc > 1 ? argv[1] : "", .device = "ref" };
    struct err e;
    json_setup();
    if (argc < 2 || life_live(&clean, &e) != ERR_OK) {
        fprintf(stderr, "engine_fault MODEL: %s\n", argc < 2 ? "no model" : e.text);
        return 2;
    }
    life_end(&clean);
    uint64_t total = mem_count();
    life_live(&clean, &e);
    life_end(&clean);
    total = mem_count() - total;
    return sweep(&clean, false, total) + sweep(&clean, true, total);
}
