#include "runtime/engine/runtime.h"

#include <stdio.h>
#include <string.h>

#include "runtime/engine/engine.h"
#include "runtime/model/budget.h"

/* ---- device --------------------------------------------------------------------------------------- */

enum err_code runtime_create(const struct runtime_options *o, struct runtime **out, struct err *e)
{
    *out = NULL;
    struct runtime *r = mem_zero(1, sizeof *r);
    if (!r)
        return err_no_memory(e, sizeof *r, "the runtime");
    struct gpu_options go = { .device = o->device, .cache_dir = o->cache_dir, .cpu_threads = o->cpu_threads,
                              .storage_loads = o->as_gpu, .staged_copies = o->as_gpu };
    enum err_code code = gpu_open(&go, &r->gpu, e);
    if (code != ERR_OK) {
        mem_free(r);
        return code;
    }
    const struct gpu_info *info = gpu_info(r->gpu);
    memcpy(r->info.name, info->name, sizeof r->info.name);
    memcpy(r->info.driver, info->driver, sizeof r->info.driver);
    r->info.software = info->software && !o->as_gpu;
    r->info.memory_bytes = info->memory_bytes;
    r->reproducible = o->reproducible;
    r->plan_device = plan_device_of(info);
    if (o->as_gpu)
        r->plan_device.software = r->plan_device.ref = r->plan_device.q8 = false;
    *out = r;
    return ERR_OK;
}

void runtime_destroy(struct runtime *r)
{
    if (!r)
        return;
    gpu_close(r->gpu);
    mem_free(r);
}

const struct device_info *runtime_device(const struct runtime *r)
{
    return &r->info;
}

/* ---- the health check: 32 numbers through the quantiser, and back --------------------------------- */

static enum err_code check_launch(struct gpu *g, struct gpu_command *c, struct gpu_buffer *const b[3],
                                  uint32_t local, uint32_t subgroup, struct err *e)
{
    struct push_norm push = { .n = 32, .x_stride = 32, .y_stride = 32, .scale = 2 };
    struct gpu_launch l = { .kernel = KERNEL_norm, .push = &push, .groups = { 1, 1, 1 } };
    l.spec[SPEC_LOCAL] = local;
    l.spec[SPEC_COLS] = l.spec[SPEC_BLOCKS] = l.spec[SPEC_KPARTS] = 1;
    l.spec[SPEC_SUBGROUP] = subgroup;
    l.spec[SPEC_MODE] = NM_TO_F32;
    for (int i = 0; i < 5; i++)
        l.bind[i] = (struct gpu_bind){ .buffer = b[i == 0 ? 0 : i < 3 ? 1 : 2] };
    enum err_code code = gpu_command_launch(c, &l, e);
    if (code == ERR_OK)
        code = gpu_command_end(c, e);
    uint64_t ticket;
    if (code == ERR_OK)
        code = gpu_submit(g, &c, 1, &ticket, e);
    return code == ERR_OK ? gpu_wait(g, ticket, NULL, e) : code;
}

enum err_code runtime_check(struct runtime *r, struct err *e)
{
    struct gpu_buffer *b[3] = { 0 };
    struct gpu_command *c = NULL;
    const struct gpu_info *info = gpu_info(r->gpu);
    enum err_code code = ERR_OK;
    for (int i = 0; i < 3 && code == ERR_OK; i++)
        code = gpu_buffer_create(r->gpu, STEP_WORDS * 4, GPU_HOST, &b[i], e);
    if (code == ERR_OK)
        code = gpu_command_create(r->gpu, &c, e);
    if (code == ERR_OK) {
        float *x = gpu_buffer_map(b[1]);
        for (int i = 0; i < 32; i++)
            x[i] = (float)i;
        uint32_t local = info->software ? (info->subgroup > 8 ? info->subgroup : 8) : 64;
        code = check_launch(r->gpu, c, b, local, info->subgroup, e);
    }
    const float *y = b[2] ? gpu_buffer_map(b[2]) : NULL;
    for (int i = 0; code == ERR_OK && i < 32; i++)
        if (y[i] != 2 * (float)i)
            code = err_set(e, ERR_GPU, "the device computed %g where %d was right", (double)y[i], 2 * i);
    gpu_command_destroy(c);
    for (int i = 0; i < 3; i++)
        gpu_buffer_destroy(r->gpu, b[i]);
    return code;
}

/* ---- what a load would take ------------------------------------------------------------------------- */

/* The plan of a file for a device, from its header alone; all three are finished by drop_plan. */
struct paper {
    struct gguf *g;
    struct hparams hp;
    struct weights w;
    struct plan *plan;
};

static void drop_plan(struct paper *p)
{
    plan_destroy(p->plan);
    weights_finish(&p->w);
    gguf_close(p->g);
}

static enum err_code plan_on_paper(const char *path, const struct plan_device *d,
                                   const struct plan_options *o, struct paper *p, struct err *e)
{
    *p = (struct paper){ 0 };
    enum err_code code = gguf_open(path, &p->g, e);
    if (code == ERR_OK)
        code = hparams_read(p->g, &p->hp, e);
    if (code == ERR_OK)
        code = weights_bind(p->g, &p->hp, &p->w, e);
    if (code == ERR_OK)
        code = plan_create(&p->hp, &p->w, d, o, &p->plan, e);
    return code;
}

enum err_code model_estimate(const struct model_options *o, struct model_estimate *out, struct err *e)
{
    struct paper p;
    struct plan_device d = { .software = true, .q8 = true, .subgroup = 8, .cores = 1, .max_local = 256,
                             .max_range = GPU_MAX_BUFFER };
    struct plan_options po = { o->n_ctx, o->n_seq, o->kv_type, o->unfused };
    enum err_code code = plan_on_paper(o->path, &d, &po, &p, e);
    if (code == ERR_OK)
        *out = (struct model_estimate){ p.plan->weight_bytes, p.plan->kv_bytes, p.plan->scratch_bytes,
                                        p.plan->n_ctx, p.plan->n_seq };
    drop_plan(&p);
    return code;
}

enum err_code model_explain(const struct explain_options *o, struct buf *out, struct err *e)
{
    struct paper p;
    uint32_t subgroup = o->subgroup ? o->subgroup : 32;
    struct plan_device d = { .software = subgroup < 32,
                             .q8 = subgroup < 32,
                             .subgroup = subgroup,
                             .cores = o->cores ? o->cores : 32,
                             .max_local = o->max_local ? o->max_local : 1024,
                             .max_range = o->max_range ? o->max_range : (uint64_t)2 << 30 };
    if (o->runtime)
        d = o->runtime->plan_device;
    if (d.subgroup > 128 || (d.subgroup & (d.subgroup - 1)) != 0)
        return err_set(e, ERR_INVALID, "subgroups are of 1, 2, 4 ... 128 lanes, not %u", d.subgroup);
    struct plan_options po = { o->model.n_ctx, o->model.n_seq, o->model.kv_type, o->model.unfused };
    enum err_code code = plan_on_paper(o->model.path, &d, &po, &p, e);
    if (code == ERR_OK && o->runtime)
        buf_printf(out, "%s, %s\n", o->runtime->info.name, o->runtime->info.driver);
    if (code == ERR_OK)
        plan_print(p.plan, out);
    drop_plan(&p);
    return code;
}
