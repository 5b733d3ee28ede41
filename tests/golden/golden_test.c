/* Every architecture row against Hugging Face transformers: the models of models.py, run here, against
 * the logits of reference.py.
 *
 *   golden_test MODELS MANIFEST [--device X] [--as-gpu] [--kv f32|f16|q8_0] [--only NAME] [--unfused]
 *
 * Per run: the largest error over all positions, as a share of the logits' spread (max - min of the
 * reference), and whether the top token agrees wherever the reference's best two are further apart than
 * twice the limit. Limits: 1e-3 with f32 KV; 1e-2 with f16 KV; quantised activations (a software device
 * with quantised weights) and q8_0 KV are reported without a limit of their own but must keep 0.15.
 * --as-gpu: the plan, the copies and the load path of a real GPU, on the software device. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/json.h"
#include "runtime/base/mem.h"
#include "runtime/engine/runtime.h"

struct options {
    const char *models, *manifest, *device, *only;
    enum kv_type kv;
    bool as_gpu;
    bool unfused;
};
struct run {
    const char *name;
    uint32_t n_ctx, n_vocab, n_pos;
    int32_t *tokens;
    float *want, *got;
    double spread;
    bool quantised;
};

static float *read_floats(const char *dir, const char *name, size_t n)
{
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (len < 0 || (size_t)len >= sizeof path) {
        fprintf(stderr, "%s: path too long\n", name);
        exit(2);
    }
    FILE *f = fopen(path, "rb");
    float *v = malloc(n * sizeof *v);
    size_t got = f && v ? fread(v, sizeof *v, n, f) : 0;
    if (f)
        fclose(f);
    if (got != n) {
        fprintf(stderr, "%s: %zu of %zu floats\n", path, got, n);
        exit(2);
    }
    return v;
}

static void die(const char *what, const struct err *e)
{
    fprintf(stderr, "%s: %s\n", what, e->text);
    exit(2);
}

/* Runs a turn to its end and copies each row of logits to its place. */
static void take(struct model *m, struct session *s, const struct turn *t, struct run *r)
{
    struct err e;
    struct step step;
    if (session_begin(s, t, NULL, &e) != ERR_OK)
        die(r->name, &e);
    while (session_active(s)) {
        if (model_step(m, &step, &e) != ERR_OK)
            die(r->name, &e);
        for (size_t i = 0; i < step.n_events; i++)
            memcpy(r->got + (size_t)(step.events[i].position - 1) * r->n_vocab, step.events[i].logits,
                   r->n_vocab * sizeof *r->got);
    }
}

static void compute(struct runtime *rt, const struct options *o, const char *file, struct run *r)
{
    char path[4096];
    struct err e;
    struct model *m;
    struct session *s = NULL;
    int len = snprintf(path, sizeof path, "%s/%s", o->models, file);
    if (len < 0 || (size_t)len >= sizeof path) {
        fprintf(stderr, "%s: path too long\n", file);
        exit(2);
    }
    struct model_options mo = { .path = path, .n_ctx = r->n_ctx, .n_seq = 1, .kv_type = o->kv,
                                .unfused = o->unfused };
    if (model_load(rt, &mo, &m, &e) != ERR_OK || session_create(m, &s, &e) != ERR_OK)
        die(r->name, &e);
    struct turn t = { .kind = TURN_SCORE, .tokens = r->tokens, .n_tokens = r->n_pos, .want_logits = true };
    take(m, s, &t, r);
    t.kind = TURN_GENERATE; /* the last row, whose next token nobody knows */
    t.max_tokens = 1;
    take(m, s, &t, r);
    session_destroy(s);
    model_unload(m);
}

static bool judge(const struct options *o, const struct run *r)
{
    double worst = 0, limit = o->kv == KV_F32 ? 1e-3 : 1e-2;
    if (r->quantised || o->kv == KV_Q8_0)
        limit = 0.15;
    uint32_t wrong = 0;
    for (uint32_t p = 0; p < r->n_pos; p++) {
        const float *w = r->want + (size_t)p * r->n_vocab, *g = r->got + (size_t)p * r->n_vocab;
        uint32_t best = 0, ours = 0;
        float second = -INFINITY;
        for (uint32_t i = 0; i < r->n_vocab; i++) {
            double d = fabs((double)w[i] - (double)g[i]);
            worst = d > worst || d != d ? d : worst;
            ours = g[i] > g[ours] ? i : ours;
            if (w[i] > w[best]) {
                second = w[best];
                best = i;
            } else if (i != best && w[i] > second) {
                second = w[i];
            }
        }
        wrong += ours != best && (double)w[best] - (double)second > 2 * limit * r->spread;
    }
    bool ok = worst / r->spread <= limit && wrong == 0;
    printf("%-28s error %.2e of the spread (limit %.0e), wrong tops %u: %s\n", r->name, worst / r->spread,
           limit, wrong, ok ? "ok" : "FAILED");
    return ok;
}

static bool has_quantised(const json_t *types)
{
    const char *name;
    json_t *v;
    if (json_is_string(types))
        return strchr("Qq", json_string_value(types)[0]) != NULL;
    json_object_foreach((json_t *)(uintptr_t)types, name, v)
        if (name[0] == 'Q' || name[0] == 'q')
            return true;
    for (size_t i = 0; i < json_array_size(types); i++)
        if (has_quantised(json_array_get(types, i)))
            return true;
    return false;
}

static bool one(struct runtime *rt, const struct options *o, const char *dir, const json_t *j)
{
    struct run r = {
        .name = json_string_value(json_object_get(j, "name")),
        .n_ctx = (uint32_t)json_integer_value(json_object_get(j, "n_ctx")),
        .n_vocab = (uint32_t)json_integer_value(json_object_get(j, "n_vocab")),
        .n_pos = (uint32_t)json_integer_value(json_object_get(j, "n_pos")),
        .spread = json_number_value(json_object_get(j, "spread")),
        .quantised = runtime_device(rt)->software && strcmp(runtime_device(rt)->name, "ref") != 0 &&
                     has_quantised(json_object_get(j, "types")),
    };
    const json_t *tokens = json_object_get(j, "tokens");
    size_t n = (size_t)r.n_pos * r.n_vocab;
    r.tokens = calloc(r.n_pos, sizeof *r.tokens);
    r.got = calloc(n, sizeof *r.got);
    r.want = read_floats(dir, json_string_value(json_object_get(j, "logits")), n);
    for (size_t i = 0; i < r.n_pos; i++)
        r.tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    compute(rt, o, json_string_value(json_object_get(j, "model")), &r);
    bool ok = judge(o, &r);
    free(r.tokens);
    free(r.got);
    free(r.want);
    return ok;
}

static void parse(int argc, char **argv, struct options *o)
{
    static const char *const kv_names[] = { "f16", "f32", "q8_0" };
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--device") == 0 && i + 1 < argc)
            o->device = argv[++i];
        else if (strcmp(argv[i], "--as-gpu") == 0)
            o->as_gpu = true;
        else if (strcmp(argv[i], "--unfused") == 0)
            o->unfused = true;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            o->only = argv[++i];
        else if (strcmp(argv[i], "--kv") == 0 && i + 1 < argc) {
            i++;
            for (int k = 0; k < 3; k++)
                if (strcmp(argv[i], kv_names[k]) == 0)
                    o->kv = (enum kv_type)k;
        } else if (!o->models)
            o->models = argv[i];
        else
            o->manifest = argv[i];
    }
    if (!o->manifest) {
        fprintf(stderr, "usage: golden_test MODELS MANIFEST [--device X] [--as-gpu] [--kv T] [--only NAME] "
                        "[--unfused]\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    struct options o = { .kv = KV_F32, .device = getenv("HEARTH_TEST_DEVICE") };
    struct err e;
    struct runtime *rt;
    json_error_t je;
    json_setup();
    parse(argc, argv, &o);
    json_t *all = json_load_file(o.manifest, 0, &je);
    if (!all) {
        fprintf(stderr, "%s: %s\n", o.manifest, je.text);
        return 2;
    }
    struct runtime_options ro = { .device = o.device, .as_gpu = o.as_gpu };
    if (runtime_create(&ro, &rt, &e) != ERR_OK)
        die("device", &e);
    char dir[4096];
    snprintf(dir, sizeof dir, "%s", o.manifest);
    char *slash = strrchr(dir, '/');
    if (slash)
        *slash = '\0';
    const json_t *runs = json_object_get(all, "runs");
    int failed = 0, passed = 0;
    printf("device %s\n", runtime_device(rt)->name);
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *j = json_array_get(runs, i);
        if (o.only && !strstr(json_string_value(json_object_get(j, "name")), o.only))
            continue;
        if (one(rt, &o, slash ? dir : ".", j))
            passed++;
        else
            failed++;
    }
    runtime_destroy(rt);
    json_decref(all);
    printf("%d passed, %d failed\n", passed, failed);
    return failed ? 1 : 0;
}
