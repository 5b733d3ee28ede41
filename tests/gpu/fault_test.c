/* What happens when things fail: for every n, the n-th Vulkan call (or host allocation) of a device's
 * whole life fails, and nothing crashes, nothing leaks, the sentence says what failed, and the next life
 * succeeds. Under the validation layer the objects are counted too.
 *
 *   gpu_fault [ref | vulkan | storage | staged] */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <vulkan/vulkan_core.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/gpu/gpu.h"
#include "tests/gpu/vk_fault.h"

#define ROW 64

/* Several devices as one (gpu_team.c). */
static bool in_a_team(void)
{
    const char *threads = getenv("HEARTH_CPU_THREADS");
    return !threads || strcmp(threads, "1") != 0;
}

struct life {
    struct gpu_options options;
    struct gpu *g;
    struct gpu_buffer *step, *x, *y;
    struct gpu_command *c;
};

static enum err_code launch(struct life *l, float scale, uint64_t y_row, struct err *e)
{
    const struct gpu_info *info = gpu_info(l->g);
    struct push_norm push = { .n = ROW, .x_stride = ROW, .y_stride = ROW, .scale = scale };
    struct gpu_launch n = {
        .kernel = KERNEL_norm,
        .push = &push,
        .bind = { { l->step, 0, 0 },
                  { l->x, 0, ROW * 4 },
                  { l->x, 0, ROW * 4 },
                  { l->y, y_row * ROW * 4, ROW * 4 },
                  { l->y, y_row * ROW * 4, ROW * 4 } },
        .groups = { 1, 1, 1 },
    };
    n.spec[SPEC_LOCAL] = n.spec[SPEC_SUBGROUP] = info->subgroup;
    n.spec[SPEC_MODE] = NM_ADD;
    return gpu_command_launch(l->c, &n, e);
}

static enum err_code prepare(struct life *l, struct err *e)
{
    uint32_t step[STEP_WORDS] = { [STEP_N_ROWS] = 1 };
    float v[ROW];
    for (int i = 0; i < ROW; i++)
        v[i] = 1;
    enum err_code rc = gpu_open(&l->options, &l->g, e);
    if (!rc)
        rc = gpu_buffer_create(l->g, sizeof step, GPU_HOST, &l->step, e);
    if (!rc)
        rc = gpu_buffer_create(l->g, sizeof v, GPU_DEVICE, &l->x, e);
    if (!rc) /* larger than a half of the staging ring */
        rc = gpu_buffer_create(l->g, (17u << 20) + 4, GPU_DEVICE, &l->y, e);
    if (!rc)
        rc = gpu_buffer_write(l->g, l->step, 0, step, sizeof step, e);
    if (!rc)
        rc = gpu_buffer_write(l->g, l->x, 0, v, sizeof v, e);
    return rc;
}

static enum err_code record(struct life *l, struct err *e)
{
    enum err_code rc = gpu_command_create(l->g, &l->c, e);
    for (int i = 0; i < 3 && !rc; i++)
        rc = launch(l, (float)(1 << i), (uint64_t)(i & 1), e);
    return rc ? rc : gpu_command_end(l->c, e);
}

static enum err_code run(struct life *l, struct err *e)
{
    uint64_t ticket[20];
    int64_t ns;
    enum err_code rc = ERR_OK;
    for (int i = 0; i < 20 && !rc; i++)
        rc = gpu_submit(l->g, &l->c, 1, &ticket[i], e);
    if (!rc)
        rc = gpu_wait(l->g, ticket[18], &ns, e);
    return rc ? rc : gpu_wait(l->g, ticket[19], NULL, e);
}

static enum err_code check(struct life *l, struct err *e)
{
    float v[2 * ROW];
    char *whole = malloc(17u << 20);
    assert_non_null(whole);
    enum err_code rc = gpu_buffer_read(l->g, l->y, 0, v, sizeof v, e);
    if (!rc)
        assert_true(v[0] == 20 * 5 && v[ROW - 1] == 20 * 5 && v[ROW] == 20 * 2);
    if (!rc)
        rc = gpu_buffer_read(l->g, l->y, 4, whole, 17u << 20, e);
    free(whole);
    return rc;
}

static void finish(struct life *l)
{
    gpu_command_destroy(l->c);
    if (l->g) {
        gpu_buffer_destroy(l->g, l->step);
        gpu_buffer_destroy(l->g, l->x);
        gpu_buffer_destroy(l->g, l->y);
    }
    gpu_close(l->g);
}

/* From open to close. */
static enum err_code live(const struct gpu_options *o, struct err *e)
{
    struct life l = { .options = *o };
    struct err again;
    enum err_code rc = prepare(&l, e);
    if (!rc)
        rc = record(&l, e);
    if (!rc)
        rc = run(&l, e);
    if (!rc)
        rc = check(&l, e);
    if (l.g && rc == ERR_GPU_LOST) /* it stays lost */
        assert_int_equal(gpu_buffer_create(l.g, 1, GPU_HOST, &(struct gpu_buffer *){ NULL }, &again),
                         ERR_GPU_LOST);
    finish(&l);
    return rc;
}

static void lives(const struct gpu_options *o)
{
    struct err e;
    if (live(o, &e))
        fail_msg("%s", e.text);
    assert_int_equal(mem_live(), 0);
}

static void every_vulkan_call_may_fail(void **state)
{
    const struct gpu_options *o = *state;
    static const struct {
        VkResult result;
        enum err_code code;
    } results[] = { { VK_ERROR_DEVICE_LOST, ERR_GPU_LOST },
                    { VK_ERROR_OUT_OF_DEVICE_MEMORY, ERR_NO_DEVICE_MEMORY },
                    { VK_ERROR_OUT_OF_HOST_MEMORY, ERR_NO_MEMORY },
                    { VK_ERROR_UNKNOWN, ERR_GPU } };
    bool all = !o->staged_copies && !in_a_team(); /* the later ones differ in their sentence alone */
    size_t n_results = all ? 4 : 2;
    assert_true(vk_fault_install());
    lives(o);
    for (size_t r = 0; r < n_results; r++) {
        uint64_t failed = 0, shrugged = 0, n = 0;
        do {
            struct err e = { 0 };
            vk_fault_after(++n, results[r].result);
            enum err_code rc = live(o, &e);
            /* A loss may be told by a later call than the first that knew. */
            bool lost = results[r].code == ERR_GPU_LOST;
            if (rc && (rc != results[r].code ||
                       !strstr(e.text, lost ? "lost" : vk_fault_failed())))
                fail_msg("call %llu, %s: %s: %s", (unsigned long long)n, vk_fault_failed(),
                         err_name(rc), e.text);
            assert_int_equal(mem_live(), 0);
            failed += !!rc;
            shrugged += !rc && vk_fault_failed();
        } while (vk_fault_failed());
        print_message("VkResult %d: %llu calls failed a life, %llu were done without\n",
                      (int)results[r].result, (unsigned long long)failed,
                      (unsigned long long)shrugged);
        assert_true(failed > 60 && shrugged < failed / 4);
    }
    vk_fault_after(0, 0);
    lives(o);
    vk_fault_remove();
}

static void every_allocation_may_fail(void **state)
{
    const struct gpu_options *o = *state;
    lives(o);
    for (int sticky = 0; sticky < 2; sticky++) {
        enum err_code rc;
        uint64_t n = 0, before;
        do {
            struct err e = { 0 };
            before = mem_count();
            mem_fail_after(++n, sticky);
            rc = live(o, &e);
            mem_fail_after(0, false);
            if (rc && rc != ERR_NO_MEMORY)
                fail_msg("allocation %llu: %s: %s", (unsigned long long)n, err_name(rc), e.text);
            assert_true(!rc || e.text[0]);
            assert_int_equal(mem_live(), 0);
        } while (mem_count() - before >= n);
        assert_int_equal(rc, ERR_OK);
        assert_true(n > 5);
    }
}

/* A submit is sent in pieces, and to each member of a team: whichever of them fails, what was sent before
 * it ends, soon, and the device goes on. */
static void a_submit_may_fail_half_way(void **state)
{
    struct life l = { .options = *(const struct gpu_options *)*state };
    struct gpu_command *list[70];
    struct err e;
    uint64_t before, half, sent = 0;
    bool failed;
    float v;
    assert_true(vk_fault_install());
    assert_int_equal(prepare(&l, &e), ERR_OK);
    assert_int_equal(gpu_command_create(l.g, &l.c, &e), ERR_OK);
    assert_int_equal(launch(&l, 1, 2, &e), ERR_OK);
    assert_int_equal(gpu_command_end(l.c, &e), ERR_OK);
    struct gpu_command *one = l.c;
    assert_int_equal(record(&l, &e), ERR_OK);
    for (int i = 0; i < 70; i++)
        list[i] = l.c;
    int64_t began = clock_ns();
    do {
        assert_int_equal(gpu_submit(l.g, &one, 1, &before, &e), ERR_OK);
        vk_fault_nth(++sent, VK_ERROR_OUT_OF_DEVICE_MEMORY, false);
        enum err_code rc = gpu_submit(l.g, list, 70, &half, &e);
        failed = vk_fault_failed();
        vk_fault_nth(0, 0, false);
        assert_int_equal(rc, failed ? ERR_NO_DEVICE_MEMORY : ERR_OK);
        assert_int_equal(gpu_wait(l.g, before, NULL, &e), ERR_OK);
        assert_int_equal(gpu_buffer_read(l.g, l.y, (uint64_t)2 * ROW * 4, &v, sizeof v, &e), ERR_OK);
        assert_true(v == (float)sent);
    } while (failed);
    assert_true(sent > 3 && clock_ns() - began < (int64_t)20 * 1000000000);
    gpu_command_destroy(one);
    finish(&l);
    vk_fault_remove();
}

/* Nothing is allocated by a submit or a wait. */
static void a_step_allocates_nothing(void **state)
{
    struct life l = { .options = *(const struct gpu_options *)*state };
    struct err e;
    assert_int_equal(prepare(&l, &e), ERR_OK);
    assert_int_equal(record(&l, &e), ERR_OK);
    uint64_t before = mem_count();
    assert_int_equal(run(&l, &e), ERR_OK);
    assert_int_equal(mem_count(), before);
    finish(&l);
}

/* The n-th wait for a submit: in a team there is one for each member. It comes back before the close: then
 * nothing is left behind. */
static bool does_not_answer(const struct gpu_options *o, uint64_t n)
{
    struct life l = { .options = *o };
    struct err e;
    uint64_t ticket;
    assert_true(vk_fault_install());
    assert_int_equal(prepare(&l, &e), ERR_OK);
    assert_int_equal(record(&l, &e), ERR_OK);
    assert_int_equal(gpu_submit(l.g, &l.c, 1, &ticket, &e), ERR_OK);
    vk_fault_nth(n, VK_TIMEOUT, false);
    enum err_code rc = gpu_wait(l.g, ticket, NULL, &e);
    bool failed = vk_fault_failed();
    assert_int_equal(rc, failed ? ERR_GPU_LOST : ERR_OK);
    if (failed) {
        assert_non_null(strstr(e.text, "does not answer"));
        assert_int_equal(gpu_wait(l.g, ticket, NULL, &e), ERR_GPU_LOST);
        assert_int_equal(gpu_submit(l.g, &l.c, 1, &ticket, &e), ERR_GPU_LOST);
        usleep(200000);
    }
    finish(&l);
    assert_int_equal(mem_live(), 0);
    vk_fault_remove();
    return failed;
}

static void a_device_that_does_not_answer_is_lost(void **state)
{
    uint64_t n = 1;
    while (does_not_answer(*state, n))
        n++;
    assert_true(n > (in_a_team() ? 2 : 1));
    lives(*state);
}

/* Only launches that touch what another one wrote are held apart. */
static void barriers_stand_where_they_must(void **state)
{
    struct life l = { .options = *(const struct gpu_options *)*state };
    struct err e;
    assert_true(vk_fault_install());
    assert_int_equal(prepare(&l, &e), ERR_OK);
    vk_fault_after(0, 0);
    assert_int_equal(gpu_command_create(l.g, &l.c, &e), ERR_OK);
    for (uint64_t i = 0; i < 8; i++) /* eight rows, one input */
        assert_int_equal(launch(&l, 1, i, &e), ERR_OK);
    assert_int_equal(vk_fault_barriers(), 1); /* the command's first */
    assert_int_equal(launch(&l, 1, 3, &e), ERR_OK);
    assert_int_equal(vk_fault_barriers(), 2);
    assert_int_equal(launch(&l, 1, 4, &e), ERR_OK);
    assert_int_equal(vk_fault_barriers(), 2);
    assert_int_equal(launch(&l, 1, 3, &e), ERR_OK);
    assert_int_equal(vk_fault_barriers(), 3);
    assert_int_equal(gpu_command_end(l.c, &e), ERR_OK);
    assert_int_equal(vk_fault_barriers(), 4);
    finish(&l);
    vk_fault_remove();
}

static void empty(const char *dir)
{
    DIR *d = opendir(dir);
    char path[512];
    for (struct dirent *x; d && (x = readdir(d));)
        if (x->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%.200s", dir, x->d_name);
            unlink(path);
        }
    if (d)
        closedir(d);
    rmdir(dir);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "ref";
    char dir[] = "/tmp/hearth-gpu-fault-XXXXXX";
    bool ref = strcmp(mode, "ref") == 0;
    struct gpu_options o = { .device = ref ? "ref" : "",
                             .storage_loads = strcmp(mode, "storage") == 0,
                             .staged_copies = strcmp(mode, "staged") == 0,
                             .cache_dir = mkdtemp(dir) };
    const struct CMUnitTest both[] = {
        cmocka_unit_test_prestate(a_step_allocates_nothing, &o),
        cmocka_unit_test_prestate(every_allocation_may_fail, &o),
    };
    const struct CMUnitTest vulkan[] = {
        cmocka_unit_test_prestate(a_submit_may_fail_half_way, &o),
        cmocka_unit_test_prestate(a_device_that_does_not_answer_is_lost, &o),
        cmocka_unit_test_prestate(every_vulkan_call_may_fail, &o),
    };
    log_set_level(LOG_ERROR);
    int failed = cmocka_run_group_tests_name(mode, both, NULL, NULL);
    const struct CMUnitTest alone[] = {
        cmocka_unit_test_prestate(barriers_stand_where_they_must, &o), /* in a team: around each meeting too */
    };
    if (!ref)
        failed += cmocka_run_group_tests_name(mode, vulkan, NULL, NULL);
    if (!ref && !in_a_team())
        failed += cmocka_run_group_tests_name(mode, alone, NULL, NULL);
    empty(dir);
    return failed;
}
