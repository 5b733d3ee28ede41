/* check_kernels [--device X] [--storage] [--only NAME] [--seed N] [--share N/OF] [--bench]
 *               [--json]
 *
 * Every kernel of shaders/kernels.def on a device against its C twin (judge.h). --only takes part of a
 * kernel's name, --share 0/3 one of every three cases; --storage: storage-buffer loads where the device would take texel loads; without --device,
 * $HEARTH_TEST_DEVICE. --bench measures the products instead; --cols --blocks --kparts --local N: how they
 * are cut up, else as the engine would.
 * Exit: 0 all agree, 1 some do not, 2 usage, 77 no such device. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "tests/check_kernels/judge.h"

static const struct {
    const char *prefix;
    void (*check)(struct judge *j);
} checks[] = {
    { "embed_", check_embed },
    { "norm", check_norm },
    { "matmul_", check_matmul },
    { "rope", check_rope },
    { "attention_join", check_join },
    { "meet", check_meet },
    { "attention", check_attention },
};

struct options {
    struct gpu_options gpu;
    struct bench_options bench;
    const char *only;
    uint64_t seed;
    uint32_t share, of;
    bool run_bench;
};

static bool number(const char *text, uint32_t *out)
{
    char *end;
    unsigned long v = strtoul(text, &end, 10);
    *out = (uint32_t)v;
    return *text && !*end && v <= UINT32_MAX;
}

/* "1/3" */
static bool share(char *text, struct options *o)
{
    char *slash = strchr(text, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return number(text, &o->share) && number(slash + 1, &o->of) && o->share < o->of;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option table[] = {
        { "device", 1, NULL, 'd' }, { "storage", 0, NULL, 's' }, { "only", 1, NULL, 'o' },
        { "bench", 0, NULL, 'b' },  { "json", 0, NULL, 'j' },    { "seed", 1, NULL, 'S' },
        { "cols", 1, NULL, 'C' },   { "blocks", 1, NULL, 'B' },  { "kparts", 1, NULL, 'K' },
        { "local", 1, NULL, 'L' },  { "share", 1, NULL, 'H' },   { 0 },
    };
    uint32_t seed = 1;
    bool good = true;
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1 && good;) {
        switch (c) {
        case 'd': o->gpu.device = optarg; break;
        case 's': o->gpu.storage_loads = true; break;
        case 'o': o->only = optarg; break;
        case 'b': o->run_bench = true; break;
        case 'j': o->bench.json = true; break;
        case 'S': good = number(optarg, &seed); break;
        case 'H': good = share(optarg, o); break;
        case 'C': good = number(optarg, &o->bench.cols); break;
        case 'B': good = number(optarg, &o->bench.blocks); break;
        case 'K': good = number(optarg, &o->bench.kparts); break;
        case 'L': good = number(optarg, &o->bench.local); break;
        default: good = false;
        }
    }
    o->seed = seed;
    return good && optind == argc;
}

/* Begins a kernel: the same inputs whether it is judged alone or after the others. */
static void judge_kernel(struct judge *j, enum kernel k, uint64_t seed)
{
    j->kernel = k;
    j->seed = seed * 1000003 + (uint64_t)k;
    j->cases = j->ran = j->failures = j->shown = 0;
    j->worst = 0;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        if (strncmp(kernel_info(k)->name, checks[i].prefix, strlen(checks[i].prefix)) == 0) {
            checks[i].check(j);
            break;
        }
    if (!j->ran)
        judge_fail(j, "no check for this kernel");
    arena_finish(j->arena);
}

static void report(const struct judge *j, struct json_out *json)
{
    const char *name = kernel_info(j->kernel)->name;
    if (!json) {
        printf("%-16s %4llu cases  %s  worst error %.2f of what is allowed\n", name,
               (unsigned long long)j->ran, j->failures ? "FAILED" : "ok", j->worst);
        fflush(stdout);
        return;
    }
    json_obj(json);
    json_kstr(json, "kernel", name);
    json_kint(json, "cases", (int64_t)j->ran);
    json_kint(json, "failures", (int64_t)j->failures);
    json_knum(json, "worst", j->worst);
    json_obj_end(json);
}

static bool judge_all(struct judge *j, const struct options *o)
{
    struct buf text;
    struct json_out out, *json = o->bench.json ? &out : NULL;
    uint64_t failures = 0, kernels = 0;
    buf_init(&text, 1 << 20);
    json_begin(&out, &text);
    json_arr(&out);
    for (int k = 0; k < KERNEL_COUNT; k++) {
        if (o->only && !strstr(kernel_info((enum kernel)k)->name, o->only))
            continue;
        judge_kernel(j, (enum kernel)k, o->seed);
        report(j, json);
        failures += j->failures;
        kernels++;
    }
    json_arr_end(&out);
    if (json)
        printf("%.*s\n", (int)text.n, text.p);
    else
        printf("%llu kernels, %llu failures\n", (unsigned long long)kernels, (unsigned long long)failures);
    buf_finish(&text);
    return failures == 0 && kernels > 0;
}

int main(int argc, char **argv)
{
    struct options o = { .gpu.device = getenv("HEARTH_TEST_DEVICE") };
    struct arena arena = { 0 };
    struct judge j = { .arena = &arena };
    struct err e;
    int status = 1;
    log_set_level(LOG_WARN);
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "check_kernels [--device X] [--storage] [--only NAME] [--seed N] [--share N/OF] [--bench] "
                        "[--json]\n  with --bench: [--cols N] [--blocks N] [--kparts N] [--local N]\n");
        return 2;
    }
    if (gpu_open(&o.gpu, &j.dev, &e) || gpu_open(&(struct gpu_options){ .device = "ref" }, &j.ref, &e)) {
        fprintf(stderr, "check_kernels: %s\n", e.text);
        status = e.code == ERR_NO_DEVICE ? 77 : 1;
        goto out;
    }
    j.info = gpu_info(j.dev);
    j.share = o.share;
    j.of = o.of;
    if (!o.bench.json)
        printf("%s, %s: subgroup %u, %s loads\n", j.info->name, j.info->driver, j.info->subgroup,
               j.info->texel_loads ? "texel" : "storage");
    if (o.run_bench)
        status = bench(&j, o.only, &o.bench) ? 0 : 1;
    else
        status = judge_all(&j, &o) ? 0 : 1;
out:
    arena_finish(&arena);
    gpu_close(j.dev);
    gpu_close(j.ref);
    return status;
}
