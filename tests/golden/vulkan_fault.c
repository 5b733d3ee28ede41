/* vulkan_fault MODEL CACHE-DIR [STRIDE [WARM-STRIDE] | gpu]: the n-th Vulkan call fails, over device, load, eight
 * tokens and unload; with every result that the specification lets such a call give, once and from
 * then on. Nothing crashes; the error says which call it was; what there is goes on (a lost device: a
 * new one) and gives the right tokens; no Vulkan object and no block of memory is left.
 *
 * In two places: WARM, on a device that has run the model before, over a load, eight tokens and an
 * unload (20 ms a point); and OWN, with a device for each n, where the software driver makes code again
 * (300 ms): the first `each` calls of every function, and every STRIDE-th (64; WARM: every) of the
 * others. STRIDE 1: every row in both places. `gpu`: planned, bound and copied as for a real GPU; of OWN
 * only the lost device. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vulkan/vulkan_core.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "tests/golden/engine_life.h"
#include "tests/gpu/vk_fault.h"

enum { WARM = 1, OWN = 2 };

static const struct row {
    VkResult result;
    enum err_code code;
    bool sticky;
    unsigned where;
    uint64_t each;
    const char *name;
} rows[] = {
    { VK_ERROR_OUT_OF_HOST_MEMORY, ERR_NO_MEMORY, false, WARM, 1, "out of host memory" },
    { VK_ERROR_OUT_OF_HOST_MEMORY, ERR_NO_MEMORY, true, OWN, 1, "out of host memory, and on" },
    { VK_ERROR_OUT_OF_DEVICE_MEMORY, ERR_NO_DEVICE_MEMORY, false, OWN, 1, "out of device memory" },
    { VK_ERROR_OUT_OF_DEVICE_MEMORY, ERR_NO_DEVICE_MEMORY, true, WARM, 1,
      "out of device memory, and on" },
    { VK_ERROR_INITIALIZATION_FAILED, ERR_GPU, false, OWN, 3, "initialization failed" },
    { VK_ERROR_DEVICE_LOST, ERR_GPU_LOST, false, OWN, 5, "device lost" }, /* it stays lost */
};

struct sweep {
    struct life clean; /* what is right */
    struct life warm;  /* its device lives on; without a path each point has its own */
    uint64_t blocks;
    int64_t objects;   /* that are there between two points */
    uint64_t points, felt;
    struct err e;
};

static bool says_it(const struct row *r, enum err_code code, const struct err *e)
{
    if (r->code == ERR_GPU_LOST)
        return code == ERR_GPU_LOST && strstr(e->text, "lost");
    /* a driver that finds no device says so by "initialization failed" */
    if (r->code == ERR_GPU && code == ERR_NO_DEVICE)
        return strstr(e->text, "no Vulkan driver finds a device");
    /* from then on: the first may have been done without */
    return code == r->code && strstr(e->text, r->sticky ? "vk" : vk_fault_failed());
}

static void end(struct sweep *s, struct life *l)
{
    if (l == &s->warm)
        life_unload(l);
    else
        life_end(l);
}

/* NULL, or what is wrong. */
static const char *point(struct sweep *s, const struct row *r, uint64_t n)
{
    struct life own = life_like(&s->clean), *l = s->warm.path ? &s->warm : &own;
    s->e = (struct err){ 0 };
    vk_fault_nth(n, r->result, r->sticky);
    enum err_code code = life_live(l, &s->e);
    bool rests = code == ERR_GPU_LOST || !vk_fault_flying();
    bool said = code == ERR_OK ? life_same_tokens(l, &s->clean) : says_it(r, code, &s->e);
    if (code == ERR_OK || code == ERR_GPU_LOST)
        end(s, l);
    if (!vk_fault_failed())
        return "no call failed";
    vk_fault_nth(0, 0, false);
    s->points++;
    s->felt += code != ERR_OK;
    if (!said)
        return "the error does not say it, or the tokens are wrong";
    if (!rests)
        return "it gives up while the device is at work";
    code = life_live(l, &s->e);
    if (code != ERR_OK || !life_same_tokens(l, &s->clean))
        return "it does not go on";
    end(s, l);
    if (vk_fault_objects() != s->objects)
        return "Vulkan objects are left";
    return mem_live() == s->blocks ? NULL : "blocks of memory are left";
}

/* The functions of a life's calls that count for a row, in order; NULL: that life failed. */
static const char **names_of(struct sweep *s, const struct row *r, uint64_t *n)
{
    struct life own = life_like(&s->clean), *l = s->warm.path ? &s->warm : &own;
    vk_fault_nth(0, r->result, false);
    if (life_live(l, &s->e) != ERR_OK)
        return NULL;
    end(s, l);
    *n = vk_fault_calls();
    const char **names = calloc(*n + 1, sizeof *names);
    for (uint64_t i = 0; names && i < *n; i++)
        names[i] = vk_fault_name(i + 1);
    return names;
}

static bool wanted(const char **names, uint64_t i, uint64_t each, uint64_t stride)
{
    uint64_t before = 0;
    for (uint64_t k = 0; k < i; k++)
        before += names[k] == names[i];
    return before < each || before % stride == 0;
}

static bool sweep(struct sweep *s, const struct row *r, uint64_t stride)
{
    uint64_t n = 0;
    const char **names = names_of(s, r, &n);
    const char *wrong = names ? NULL : "a life without a failure fails";
    s->points = s->felt = 0;
    for (uint64_t i = 0; i < n && !wrong; i++)
        if (wanted(names, i, r->each, stride) && (wrong = point(s, r, i + 1)))
            printf("%s, call %llu (%s): %s: %s\n", r->name, (unsigned long long)i + 1, names[i], wrong,
                   s->e.text);
    free((void *)names);
    if (!wrong)
        printf("%s: %llu of %llu calls failed, %llu were felt\n", r->name,
               (unsigned long long)s->points, (unsigned long long)n, (unsigned long long)s->felt);
    fflush(stdout);
    return !wrong && s->felt > 0;
}

static bool sweeps(struct sweep *s, unsigned where, uint64_t stride, bool all_rows)
{
    bool good = true;
    s->blocks = mem_live();
    s->objects = vk_fault_objects();
    for (size_t i = 0; i < sizeof rows / sizeof *rows && good; i++) {
        bool lost = rows[i].code == ERR_GPU_LOST, at_open = rows[i].code == ERR_GPU;
        bool can = where == WARM ? !lost && !at_open : lost || !s->clean.as_gpu;
        if (can && (all_rows || (rows[i].where & where)))
            good = sweep(s, &rows[i], stride);
    }
    return good;
}

static bool run(struct sweep *s, uint64_t stride, uint64_t warm_stride)
{
    if (life_live(&s->clean, &s->e) != ERR_OK) {
        printf("%s\n", s->e.text);
        return false;
    }
    life_unload(&s->clean);
    s->warm = s->clean;
    printf("on a device that has run the model before:\n");
    bool good = sweeps(s, WARM, warm_stride, stride == 1);
    life_end(&s->warm);
    s->warm.path = NULL;
    printf("with a device of its own for each:\n");
    return good && vk_fault_objects() == 0 && sweeps(s, OWN, stride, stride == 1);
}

int main(int argc, char **argv)
{
    bool gpu = argc > 3 && strcmp(argv[3], "gpu") == 0;
    uint64_t stride = argc > 3 && !gpu ? strtoull(argv[3], NULL, 10) : 64;
    uint64_t warm_stride = argc > 4 ? strtoull(argv[4], NULL, 10) : 1;
    struct sweep s = { 0 };
    json_setup();
    log_set_level(LOG_ERROR);
    if (argc < 3 || stride == 0 || warm_stride == 0 || !vk_fault_install()) {
        fprintf(stderr, "vulkan_fault MODEL CACHE-DIR [STRIDE [WARM-STRIDE] | gpu], or there is no Vulkan\n");
        return 2;
    }
    s.clean = (struct life){ .path = argv[1], .cache_dir = argv[2], .as_gpu = gpu };
    bool good = run(&s, stride, warm_stride) && mem_live() == 0;
    vk_fault_remove();
    return !good;
}
