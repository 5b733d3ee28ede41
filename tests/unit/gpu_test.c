/* gpu.h as its callers see it: buffers, hazards, replay, indirect launches, limits, the pipeline cache,
 * the choice of a device. Every test runs on `ref` and on Vulkan, with texel and with storage loads:
 *
 *   unit_gpu [ref | vulkan | storage | staged]
 *
 * The one kernel that is launched is norm without a norm: y = scale * x, or y += scale * x. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu.h"

#define ROW 64 /* floats in a row of the tests: 256 bytes, an aligned binding */

struct fixture {
    struct gpu_options options;
    struct gpu *g;
    struct gpu_buffer *step;
};

static void ok(enum err_code rc, const struct err *e)
{
    if (rc)
        fail_msg("%s: %s", err_name(rc), e->text);
}

static struct gpu_buffer *make(struct fixture *f, uint64_t bytes, enum gpu_memory where)
{
    struct gpu_buffer *b;
    struct err e;
    ok(gpu_buffer_create(f->g, bytes, where, &b, &e), &e);
    assert_int_equal(gpu_buffer_bytes(b), bytes);
    return b;
}

static void put(struct fixture *f, struct gpu_buffer *b, uint64_t at, const void *src, uint64_t n)
{
    struct err e;
    ok(gpu_buffer_write(f->g, b, at, src, n, &e), &e);
}

static void get(struct fixture *f, struct gpu_buffer *b, uint64_t at, void *dst, uint64_t n)
{
    struct err e;
    ok(gpu_buffer_read(f->g, b, at, dst, n, &e), &e);
}

static int open_device(void **state)
{
    struct fixture *f = *state;
    struct err e;
    uint32_t step[STEP_WORDS] = { [STEP_N_ROWS] = MAX_STEP_ROWS };
    if (gpu_open(&f->options, &f->g, &e)) {
        print_error("%s\n", e.text);
        return -1;
    }
    f->step = make(f, sizeof step, GPU_HOST);
    put(f, f->step, 0, step, sizeof step);
    return 0;
}

static int close_device(void **state)
{
    struct fixture *f = *state;
    gpu_buffer_destroy(f->g, f->step);
    gpu_close(f->g);
    f->g = NULL;
    return mem_live() == 0 ? 0 : -1;
}

/* ---- launches: rows [from, from + rows) of buffers of rows ----------------------------------------- */

struct copy {
    struct gpu_buffer *x, *y;
    uint32_t x_row, y_row, rows;
    bool add;
    float scale;
};

static struct gpu_launch launch_of(struct fixture *f, const struct copy *c, struct push_norm *push)
{
    const struct gpu_info *info = gpu_info(f->g);
    uint64_t bytes = (uint64_t)c->rows * ROW * 4;
    struct gpu_bind x = { c->x, (uint64_t)c->x_row * ROW * 4, bytes };
    struct gpu_bind y = { c->y, (uint64_t)c->y_row * ROW * 4, bytes };
    *push = (struct push_norm){ .n = ROW, .x_stride = ROW, .y_stride = ROW, .scale = c->scale };
    struct gpu_launch l = { .kernel = KERNEL_norm,
                            .push = push,
                            .bind = { { f->step, 0, 0 }, x, x, y, y },
                            .groups = { c->rows, 1, 1 } };
    l.spec[SPEC_LOCAL] = l.spec[SPEC_SUBGROUP] = info->subgroup;
    l.spec[SPEC_MODE] = c->add ? NM_ADD : NM_TO_F32;
    return l;
}

static struct gpu_command *begin(struct fixture *f)
{
    struct gpu_command *c;
    struct err e;
    ok(gpu_command_create(f->g, &c, &e), &e);
    return c;
}

static void launch(struct fixture *f, struct gpu_command *c, const struct copy *what)
{
    struct push_norm push;
    struct gpu_launch l = launch_of(f, what, &push);
    struct err e;
    ok(gpu_command_launch(c, &l, &e), &e);
}

static void end(struct gpu_command *c)
{
    struct err e;
    ok(gpu_command_end(c, &e), &e);
}

static uint64_t submit(struct fixture *f, struct gpu_command *const *c, size_t n)
{
    struct err e;
    uint64_t ticket;
    ok(gpu_submit(f->g, c, n, &ticket, &e), &e);
    return ticket;
}

static void run(struct fixture *f, struct gpu_command *const *c, size_t n)
{
    struct err e;
    ok(gpu_wait(f->g, submit(f, c, n), NULL, &e), &e);
}

static float first(struct fixture *f, struct gpu_buffer *b)
{
    float v[ROW];
    get(f, b, 0, v, sizeof v);
    for (int i = 1; i < ROW; i++)
        assert_true(v[i] == v[0]);
    return v[0];
}

static struct gpu_buffer *filled(struct fixture *f, float value, uint32_t rows)
{
    struct gpu_buffer *b = make(f, (uint64_t)rows * ROW * 4, GPU_DEVICE);
    for (uint32_t r = 0; r < rows; r++) {
        float v[ROW];
        for (int i = 0; i < ROW; i++)
            v[i] = value;
        put(f, b, (uint64_t)r * sizeof v, v, sizeof v);
    }
    return b;
}

/* ---- buffers ------------------------------------------------------------------------------- */

static void buffers_are_zeroed_and_hold_what_is_written(void **state)
{
    struct fixture *f = *state;
    static const uint64_t sizes[] = { 1, 15, 4097, 1u << 20, (20u << 20) + 3 };
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        uint64_t n = sizes[i / 2];
        uint8_t *a = mem_alloc(n), *b = mem_alloc(n);
        struct gpu_buffer *x;
        for (int again = 0; again < 2; again++) { /* the second one stands where the first stood */
            x = make(f, n, i & 1 ? GPU_HOST : GPU_DEVICE);
            memset(a, 0, n);
            memset(b, 0xAA, n);
            get(f, x, 0, b, n);
            assert_memory_equal(a, b, n);
            for (uint64_t j = 0; j < n; j++)
                a[j] = (uint8_t)(j * 31 + (j >> 13) + 7);
            put(f, x, 0, a, n);
            get(f, x, 0, b, n);
            assert_memory_equal(a, b, n);
            put(f, x, n / 3, "x", 1);
            get(f, x, n / 3, b, 1);
            assert_int_equal(*b, 'x');
            get(f, x, n, b, 0);
            gpu_buffer_destroy(f->g, x);
        }
        mem_free(a);
        mem_free(b);
    }
}

static void maps_are_where_they_are_promised(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *h = make(f, 100, GPU_HOST), *d = make(f, 100, GPU_DEVICE);
    assert_non_null(gpu_buffer_map(h));
    assert_int_equal((uintptr_t)gpu_buffer_map(h) % 16, 0);
    if (gpu_info(f->g)->software)
        assert_true(!!gpu_buffer_map(d) != f->options.staged_copies);
    gpu_buffer_destroy(f->g, h);
    gpu_buffer_destroy(f->g, d);
    gpu_buffer_destroy(f->g, NULL);
}

static void many_buffers_come_and_go(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *b[300] = { 0 };
    uint32_t r = 1;
    for (int round = 0; round < 2000; round++) {
        r = r * 1664525 + 1013904223;
        uint32_t i = (r >> 8) % 300, v;
        if (b[i]) {
            get(f, b[i], 0, &v, sizeof v);
            assert_int_equal(v, i);
            gpu_buffer_destroy(f->g, b[i]);
            b[i] = NULL;
            continue;
        }
        b[i] = make(f, 4 + (r >> 12) % (r & 64 ? 100000 : 300), r & 32 ? GPU_HOST : GPU_DEVICE);
        put(f, b[i], 0, &i, sizeof i);
    }
    for (int i = 0; i < 300; i++)
        gpu_buffer_destroy(f->g, b[i]);
}

/* More than the machine has is refused, though nothing of it was touched yet. */
static void memory_that_is_not_there_is_refused(void **state)
{
    struct fixture *f = *state;
    const struct gpu_info *info = gpu_info(f->g);
    struct gpu_buffer *b[256] = { 0 };
    struct err e;
    size_t n = 0;
    enum err_code rc = ERR_OK;
    /* Staged ones are cleared by the device: that would really take the memory. */
    if (info->ref || f->options.staged_copies || !info->software ||
        info->memory_bytes > (uint64_t)200 << 30)
        skip();
    while (n < 256 && !(rc = gpu_buffer_create(f->g, GPU_MAX_BUFFER, GPU_DEVICE, &b[n], &e)))
        n++;
    assert_int_equal(rc, ERR_NO_DEVICE_MEMORY);
    assert_non_null(strstr(e.text, "left"));
    assert_true(n <= info->memory_bytes / GPU_MAX_BUFFER);
    while (n > 0)
        gpu_buffer_destroy(f->g, b[--n]);
}

static void buffer_limits_are_errors(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *b;
    struct err e;
    char byte = 0;
    assert_int_equal(gpu_buffer_create(f->g, 0, GPU_HOST, &b, &e), ERR_INVALID);
    assert_null(b);
    assert_int_equal(gpu_buffer_create(f->g, GPU_MAX_BUFFER + 1, GPU_DEVICE, &b, &e), ERR_INVALID);
    b = make(f, 10, GPU_DEVICE);
    assert_int_equal(gpu_buffer_write(f->g, b, 10, &byte, 1, &e), ERR_INVALID);
    assert_int_equal(gpu_buffer_read(f->g, b, 11, &byte, 0, &e), ERR_INVALID);
    assert_int_equal(gpu_buffer_read(f->g, b, 1, &byte, UINT64_MAX, &e), ERR_INVALID);
    assert_non_null(strstr(e.text, "10"));
    gpu_buffer_destroy(f->g, b);
}

/* ---- order --------------------------------------------------------------------------------- */

static void a_chain_runs_in_order(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 1), *b = filled(f, 0, 1);
    struct gpu_command *c = begin(f);
    for (int i = 0; i < 10; i++) /* reads what was written, writes what was read */
        launch(f, c, &(struct copy){ i & 1 ? b : a, i & 1 ? a : b, 0, 0, 1, false, 2 });
    end(c);
    assert_int_equal(gpu_command_launches(c), 10);
    run(f, &c, 1);
    assert_true(first(f, a) == 1024);
    assert_true(first(f, b) == 512);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

/* Launches over overlapping parts of three buffers, against the same on the host. */
static void random_overlaps_are_ordered(void **state)
{
    enum { BUFFERS = 3, ROWS = 16, LAUNCHES = 60, PARTS = 6 };
    struct fixture *f = *state;
    struct gpu_buffer *b[BUFFERS];
    float want[BUFFERS][ROWS][ROW], v[ROWS][ROW];
    uint32_t r = 12345;
    for (int i = 0; i < BUFFERS; i++) {
        b[i] = make(f, sizeof v, GPU_DEVICE);
        for (int j = 0; j < ROWS * ROW; j++)
            want[i][j / ROW][j % ROW] = (float)(i * 1000 + j);
        put(f, b[i], 0, want[i], sizeof v);
    }
    struct gpu_command *c[PARTS];
    for (int i = 0; i < LAUNCHES; i++) {
        if (i % (LAUNCHES / PARTS) == 0)
            c[i / (LAUNCHES / PARTS)] = begin(f);
        r = r * 1664525 + 1013904223;
        uint32_t from = (r >> 8) % BUFFERS, to = (from + 1 + (r >> 11) % (BUFFERS - 1)) % BUFFERS;
        uint32_t rows = 1 + (r >> 14) % 8, x = (r >> 18) % (ROWS - rows), y = (r >> 23) % (ROWS - rows);
        bool add = r >> 31;
        launch(f, c[i / (LAUNCHES / PARTS)],
               &(struct copy){ b[from], b[to], x, y, rows, add, add ? 0.5f : 0.25f });
        for (uint32_t j = 0; j < rows * ROW; j++) {
            float s = want[from][x + j / ROW][j % ROW], *d = &want[to][y + j / ROW][j % ROW];
            *d = add ? *d + 0.5f * s : 0.25f * s;
        }
        if ((i + 1) % (LAUNCHES / PARTS) == 0)
            end(c[i / (LAUNCHES / PARTS)]);
    }
    run(f, c, PARTS);
    for (int i = 0; i < BUFFERS; i++) {
        get(f, b[i], 0, v, sizeof v);
        for (int j = 0; j < ROWS * ROW; j++) {
            float w = want[i][j / ROW][j % ROW], diff = v[j / ROW][j % ROW] - w;
            assert_true(diff * diff <= 1e-10f * w * w + 1e-12f);
        }
        gpu_buffer_destroy(f->g, b[i]);
    }
    for (int i = 0; i < PARTS; i++)
        gpu_command_destroy(c[i]);
}

static void a_recording_can_be_replayed(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 1), *b = filled(f, 0, 1);
    struct gpu_command *c = begin(f);
    struct err e;
    launch(f, c, &(struct copy){ a, b, 0, 0, 1, true, 1 });
    end(c);
    uint64_t tickets[40], before = gpu_counters(f->g).submits;
    for (int i = 0; i < 40; i++) /* more in flight than there are slots */
        tickets[i] = submit(f, &c, 1);
    for (int i = 39; i >= 0; i--)
        ok(gpu_wait(f->g, tickets[i], NULL, &e), &e);
    assert_true(first(f, b) == 40);
    for (int i = 0; i < 60; i++) {
        int64_t ns = -1;
        ok(gpu_wait(f->g, submit(f, &c, 1), &ns, &e), &e);
        assert_true(ns >= 0 && ns < (int64_t)10 * 1000000000);
    }
    assert_true(first(f, b) == 100);
    assert_int_equal(gpu_counters(f->g).submits - before, 100);
    assert_int_equal(gpu_wait(f->g, tickets[39] + 1000, NULL, &e), ERR_INVALID);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

static void a_submit_takes_any_number_of_commands_in_order(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 1), *b = filled(f, 0, 1);
    struct gpu_command *c[8], *list[80];
    struct err e;
    for (int i = 0; i < 8; i++) {
        c[i] = begin(f);
        launch(f, c[i], &(struct copy){ a, b, 0, 0, 1, i % 4 != 0, (float)(1 << i) });
        end(c[i]);
    }
    for (int i = 0; i < 80; i++)
        list[i] = c[i % 8];
    uint64_t before = gpu_counters(f->g).launches;
    run(f, list, 80);
    assert_true(first(f, b) == 16 + 32 + 64 + 128);
    assert_int_equal(gpu_counters(f->g).launches - before, 80);
    run(f, list, 3);
    assert_true(first(f, b) == 1 + 2 + 4);
    run(f, NULL, 0);
    struct gpu_command *open = begin(f);
    uint64_t ticket;
    assert_int_equal(gpu_submit(f->g, &open, 1, &ticket, &e), ERR_INVALID);
    gpu_command_destroy(open);
    for (int i = 0; i < 8; i++)
        gpu_command_destroy(c[i]);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

static void the_device_says_how_long_it_took(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 4096), *b = filled(f, 0, 4096);
    struct gpu_command *c = begin(f);
    struct err e;
    int64_t ns = 0;
    for (int i = 0; i < 8; i++)
        launch(f, c, &(struct copy){ a, b, 0, 0, 4096, true, 1 });
    end(c);
    for (int i = 0; i < 3; i++)
        ok(gpu_wait(f->g, submit(f, &c, 1), &ns, &e), &e);
    assert_true(ns > 1000 && ns < (int64_t)10 * 1000000000);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

static void group_counts_can_come_from_a_buffer(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 3), *b = filled(f, 0, 3);
    struct gpu_buffer *counts = make(f, 64, GPU_HOST);
    struct gpu_command *c = begin(f);
    struct push_norm push;
    struct gpu_launch l = launch_of(f, &(struct copy){ a, b, 0, 0, 3, true, 1 }, &push);
    struct err e;
    float v[3 * ROW];
    l.indirect = counts;
    l.indirect_offset = 20;
    l.groups[0] = l.groups[1] = l.groups[2] = 0;
    ok(gpu_command_launch(c, &l, &e), &e);
    end(c);
    uint32_t *n = gpu_buffer_map(counts);
    static const uint32_t runs[][3] = { { 3, 1, 1 }, { 0, 1, 1 }, { 1, 1, 1 }, { 3, 0, 1 }, { 2, 1, 0 } };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        memcpy(n + 5, runs[i], sizeof runs[i]);
        run(f, &c, 1);
    }
    get(f, b, 0, v, sizeof v);
    assert_true(v[0] == 2 && v[ROW - 1] == 2 && v[ROW] == 1 && v[3 * ROW - 1] == 1);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, counts);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

static void commands_grow_and_share_pipelines(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 1), *b = filled(f, 0, 300);
    struct gpu_command *c[8];
    for (int i = 0; i < 8; i++) {
        c[i] = begin(f);
        for (uint32_t j = 0; j < 300; j++)
            launch(f, c[i], &(struct copy){ a, b, 0, j, 1, true, 1 });
        end(c[i]);
    }
    uint64_t pipelines = gpu_counters(f->g).pipelines;
    assert_true(pipelines == (gpu_info(f->g)->ref ? 0 : 1));
    for (int i = 0; i < 8; i++)
        run(f, &c[i], 1);
    float v[300][ROW];
    get(f, b, 0, v, sizeof v);
    for (int j = 0; j < 300; j++)
        assert_true(v[j][0] == 8);
    for (int i = 0; i < 8; i++)
        gpu_command_destroy(c[i]);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

static void pipelines_can_be_made_ahead(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 1), *b = filled(f, 0, 1);
    struct gpu_pipeline p[20];
    struct push_norm push;
    struct err e;
    uint64_t kinds = gpu_info(f->g)->ref ? 0 : 10;
    for (uint32_t i = 0; i < 20; i++) { /* each twice */
        struct gpu_launch l = launch_of(f, &(struct copy){ a, b, 0, 0, 1, true, 1 }, &push);
        p[i].kernel = l.kernel;
        memcpy(p[i].spec, l.spec, sizeof p[i].spec);
        p[i].spec[SPEC_MODE] = (i % 5 < 1 ? NM_ADD : NM_TO_F32) | (i % 5 << 8);
        p[i].spec[SPEC_LOCAL] <<= i / 5 % 2;
    }
    for (int i = 0; i < 2; i++) {
        ok(gpu_prepare(f->g, p, 20, &e), &e);
        assert_int_equal(gpu_counters(f->g).pipelines, kinds);
    }
    struct gpu_command *c = begin(f);
    launch(f, c, &(struct copy){ a, b, 0, 0, 1, true, 1 });
    end(c);
    run(f, &c, 1);
    float v[ROW];
    get(f, b, 0, v, sizeof v);
    assert_true(v[0] == 1 && v[ROW - 1] == 1);
    assert_int_equal(gpu_counters(f->g).pipelines, kinds);
    p[3].kernel = KERNEL_COUNT;
    assert_int_equal(gpu_prepare(f->g, p, 20, &e), ERR_INVALID);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

/* ---- limits -------------------------------------------------------------------------------- */

static void refused(struct gpu_command *c, const struct gpu_launch *l, const char *says)
{
    struct err e;
    assert_int_equal(gpu_command_launch(c, l, &e), ERR_INVALID);
    if (!strstr(e.text, says))
        fail_msg("'%s' does not say '%s'", e.text, says);
}

static void launches_out_of_bounds_are_refused(void **state)
{
    struct fixture *f = *state;
    struct gpu_buffer *a = filled(f, 1, 4), *b = filled(f, 0, 4);
    struct gpu_command *c = begin(f);
    struct push_norm push;
    const struct gpu_launch good = launch_of(f, &(struct copy){ a, b, 0, 0, 2, false, 1 }, &push);
    struct gpu_launch l;
    struct err e;
#define REFUSED(says, ...)                                                                         \
    do {                                                                                           \
        l = good;                                                                                  \
        __VA_ARGS__;                                                                               \
        refused(c, &l, says);                                                                      \
    } while (0)
    REFUSED("no kernel", l.kernel = KERNEL_COUNT);
    REFUSED("push", l.push = NULL);
    REFUSED("workgroup of 0", l.spec[SPEC_LOCAL] = 0);
    REFUSED("workgroup of 65536", l.spec[SPEC_LOCAL] = 65536);
    REFUSED("binding 2 has no buffer", l.bind[2].buffer = NULL);
    REFUSED("not a multiple of 256", l.bind[1].offset = 16);
    REFUSED("binding 3 is bytes", l.bind[3].offset = 1024);
    REFUSED("binding 3 is bytes", l.bind[3].bytes = 1025);
    REFUSED("0 groups", l.groups[1] = 0);
    REFUSED("65536 groups in dimension 0", l.groups[0] = 65536);
    REFUSED("host buffer", l.indirect = a);
    REFUSED("host buffer", (l.indirect = f->step, l.indirect_offset = 2));
    REFUSED("host buffer", (l.indirect = f->step, l.indirect_offset = STEP_WORDS * 4 - 8));
#undef REFUSED
    ok(gpu_command_launch(c, &good, &e), &e);
    end(c);
    assert_int_equal(gpu_command_launch(c, &good, &e), ERR_INVALID);
    assert_int_equal(gpu_command_end(c, &e), ERR_INVALID);
    assert_int_equal(gpu_command_launches(c), 1);
    run(f, &c, 1);
    assert_true(first(f, b) == 1);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

static void bindings_span_no_more_than_the_device_allows(void **state)
{
    struct fixture *f = *state;
    const struct gpu_info *info = gpu_info(f->g);
    if (info->max_storage_range >= GPU_MAX_BUFFER || info->memory_bytes < (uint64_t)4 << 30)
        skip();
    struct gpu_buffer *a = filled(f, 3, 4);
    struct gpu_buffer *b = make(f, info->max_storage_range + 4096, GPU_DEVICE);
    struct gpu_command *c = begin(f);
    struct push_norm push;
    struct gpu_launch l = launch_of(f, &(struct copy){ a, b, 0, 0, 2, false, 1 }, &push);
    float v[ROW];
    l.bind[3].bytes = 0;
    refused(c, &l, "binds at most");
    l.bind[3].offset = info->max_storage_range + 4096 - 512; /* past the limit, but a short range */
    struct err e;
    ok(gpu_command_launch(c, &l, &e), &e);
    end(c);
    run(f, &c, 1);
    get(f, b, l.bind[3].offset + 256, v, sizeof v);
    assert_true(v[0] == 3 && v[ROW - 1] == 3);
    gpu_command_destroy(c);
    gpu_buffer_destroy(f->g, a);
    gpu_buffer_destroy(f->g, b);
}

/* ---- choice -------------------------------------------------------------------------------- */

static void devices_are_chosen_by_name_and_index(void **state)
{
    struct fixture *f = *state;
    struct gpu_options o = { .device = "there is no such thing" };
    struct buf text;
    struct err e;
    struct gpu *g = (struct gpu *)&o;
    if (gpu_info(f->g)->ref)
        skip(); /* the choice is among Vulkan's */
    assert_int_equal(gpu_open(&o, &g, &e), ERR_NO_DEVICE);
    assert_null(g);
    assert_non_null(strstr(e.text, gpu_info(f->g)->name)); /* it says what there is */
    o.device = "4711";
    assert_int_equal(gpu_open(&o, &g, &e), ERR_NO_DEVICE);
    o.device = "99999999999999999999999999";
    assert_int_equal(gpu_open(&o, &g, &e), ERR_NO_DEVICE);
    char part[5] = { 0 };
    memcpy(part, gpu_info(f->g)->name, 4);
    part[0] ^= 0x20; /* the other case */
    o.device = part;
    ok(gpu_open(&o, &g, &e), &e); /* a second device beside the first */
    gpu_close(g);
    o.device = "0";
    ok(gpu_open(&o, &g, &e), &e);
    gpu_close(g);
    gpu_close(NULL);
    buf_init(&text, 10000);
    ok(gpu_list(&text, &e), &e);
    assert_non_null(strstr(text.p, gpu_info(f->g)->name));
    assert_non_null(strstr(text.p, "\nref  "));
    buf_finish(&text);
}

static void the_device_says_what_it_is(void **state)
{
    struct fixture *f = *state;
    const struct gpu_info *i = gpu_info(f->g);
    const uint8_t none[16] = { 0 };
    assert_true(i->name[0] && i->driver[0] && memcmp(i->uuid, none, 16) != 0);
    assert_true(i->subgroup >= 1 && i->subgroup <= 128 && (i->subgroup & (i->subgroup - 1)) == 0);
    assert_true(i->cores >= 1 && i->max_local >= 128 && i->max_shared >= 16384);
    assert_true(i->max_storage_range >= (uint64_t)1 << 27 && i->max_texel_range >= 1 << 20);
    assert_true(i->memory_bytes >= (uint64_t)1 << 28);
    assert_int_equal(i->texel_loads, i->software && !i->ref && !f->options.storage_loads);
    for (int k = 0; k < KERNEL_COUNT; k++)
        assert_true(strlen(kernel_info((enum kernel)k)->bindings) <= GPU_MAX_BINDINGS &&
                    kernel_info((enum kernel)k)->push_bytes <= 128);
    assert_string_equal(kernel_info(KERNEL_norm)->name, "norm");
    assert_null(kernel_info(KERNEL_COUNT));
}

/* ---- pipeline cache -------------------------------------------------------------------------- */

/* Opens with that cache folder, makes a pipeline, runs it, closes. */
static void use_cache(const struct fixture *f, const char *dir)
{
    struct fixture own = { .options = f->options };
    void *state = &own;
    own.options.cache_dir = dir;
    assert_int_equal(open_device(&state), 0);
    struct gpu_buffer *a = filled(&own, 1, 1), *b = filled(&own, 0, 1);
    struct gpu_command *c = begin(&own);
    launch(&own, c, &(struct copy){ a, b, 0, 0, 1, false, 7 });
    end(c);
    run(&own, &c, 1);
    assert_true(first(&own, b) == 7);
    gpu_save_cache(own.g);
    gpu_command_destroy(c);
    gpu_buffer_destroy(own.g, a);
    gpu_buffer_destroy(own.g, b);
    gpu_buffer_destroy(own.g, own.step);
    gpu_close(own.g);
}

static char *only_file(const char *dir, char *path, size_t n)
{
    int found = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *x; (x = readdir(d));)
        if (x->d_name[0] != '.' && ++found)
            snprintf(path, n, "%s/%.200s", dir, x->d_name);
    closedir(d);
    return found == 1 ? path : NULL;
}

static size_t slurp(const char *path, uint8_t *out, size_t cap)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(out, 1, cap, file);
    fclose(file);
    return n;
}

static void spill(const char *path, const uint8_t *p, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(p, 1, n, file), n);
    fclose(file);
}

static void the_pipeline_cache_survives_damage(void **state)
{
    struct fixture *f = *state;
    static uint8_t good[1 << 20], now[1 << 20];
    char dir[] = "/tmp/hearth-gpu-test-XXXXXX", path[512];
    assert_non_null(mkdtemp(dir));
    use_cache(f, dir);
    if (gpu_info(f->g)->ref) {
        assert_null(only_file(dir, path, sizeof path));
        rmdir(dir);
        return;
    }
    assert_non_null(only_file(dir, path, sizeof path));
    size_t n = slurp(path, good, sizeof good);
    assert_true(n > 24 && n < sizeof good);
    use_cache(f, dir); /* read again */
    assert_non_null(only_file(dir, path, sizeof path));
    for (size_t cut = 0; cut < n; cut += 1 + n / 7) { /* cut short: rewritten whole */
        spill(path, good, cut);
        use_cache(f, dir);
        assert_true(slurp(path, now, sizeof now) >= n);
    }
    for (size_t at = 0; at < n; at += at < 64 ? 5 : 1 + n / 7) { /* a changed bit */
        memcpy(now, good, n);
        now[at] ^= 0x10;
        spill(path, now, n);
        use_cache(f, dir);
    }
    unlink(path);
    mkdir(path, 0700); /* a folder where the file should be: nothing can be kept */
    use_cache(f, dir);
    rmdir(path);
    use_cache(f, "/nonexistent/folder");
    assert_null(only_file(dir, path, sizeof path)); /* and no part file is left */
    assert_int_equal(rmdir(dir), 0);
}

/* ---- all ----------------------------------------------------------------------------------- */

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_device, close_device)

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "ref";
    struct fixture f = { .options = { .device = strcmp(mode, "ref") == 0 ? "ref" : "",
                                      .storage_loads = strcmp(mode, "storage") == 0,
                                      .staged_copies = strcmp(mode, "staged") == 0 } };
    struct CMUnitTest tests[] = {
        TEST(buffers_are_zeroed_and_hold_what_is_written),
        TEST(maps_are_where_they_are_promised),
        TEST(many_buffers_come_and_go),
        TEST(memory_that_is_not_there_is_refused),
        TEST(buffer_limits_are_errors),
        TEST(devices_are_chosen_by_name_and_index),
        TEST(the_device_says_what_it_is),
        TEST(a_chain_runs_in_order),
        TEST(random_overlaps_are_ordered),
        TEST(a_recording_can_be_replayed),
        TEST(a_submit_takes_any_number_of_commands_in_order),
        TEST(the_device_says_how_long_it_took),
        TEST(group_counts_can_come_from_a_buffer),
        TEST(commands_grow_and_share_pipelines),
        TEST(pipelines_can_be_made_ahead),
        TEST(launches_out_of_bounds_are_refused),
        TEST(bindings_span_no_more_than_the_device_allows),
        TEST(the_pipeline_cache_survives_damage),
    };
    log_set_level(LOG_ERROR);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tests[i].initial_state = &f;
    return cmocka_run_group_tests_name(mode, tests, NULL, NULL);
}
