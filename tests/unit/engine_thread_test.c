/* engine: the thread between the loop and the runtime, on a runtime that fails when told to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/engine.h"
#include "runtime/base/mem.h"
#include "tests/unit/fake_runtime.h"

#define SEC UINT64_C(1000000000)

struct bench {
    uv_loop_t loop;
    struct jobs *jobs;
    struct engine *engine;
    struct engine_load load;
    bool loaded, unloaded, checked;
    int lost;
    struct engine_check check;
    struct engine_unload unload;
};

struct client {
    struct run run;
    int32_t prompt[64], got[8192];
    size_t n;
    enum finish finish;
    bool ended, hold; /* hold: takes nothing from the ring */
    float scores[256];
};

/* ---- helpers -------------------------------------------------------------------------------------- */

static void on_lost(void *user)
{
    ((struct bench *)user)->lost++;
}

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e;
    fake = (struct fake_runtime){ .memory = (uint64_t)8 << 30, .n_ctx = 4096 };
    assert_non_null(b);
    uv_loop_init(&b->loop);
    struct jobs_options jo = { .loop = &b->loop, .max_queue = { [LANE_ENGINE] = 64 } };
    assert_int_equal(jobs_create(&jo, &b->jobs, &e), 0);
    struct engine_options eo = { .jobs = b->jobs, .lost = on_lost, .user = b };
    assert_int_equal(engine_create(&eo, &b->engine, &e), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    assert_true(engine_stop(b->engine, 5 * (int64_t)SEC));
    jobs_destroy(b->jobs);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->loop), 0);
    engine_destroy(b->engine);
    assert_int_equal(fake.sessions, 0);
    assert_int_equal(fake.loads, fake.unloads);
    free(b);
    return 0;
}

static void wait_for(struct bench *b, const bool *flag)
{
    uint64_t until = uv_hrtime() + 20 * SEC;
    while (!*flag) {
        assert_true(uv_hrtime() < until);
        uv_run(&b->loop, UV_RUN_NOWAIT);
        usleep(100);
    }
}

static void spin(struct bench *b, int ms)
{
    uint64_t until = uv_hrtime() + (uint64_t)ms * 1000000;
    while (uv_hrtime() < until) {
        uv_run(&b->loop, UV_RUN_NOWAIT);
        usleep(100);
    }
}

static void on_loaded(struct job *j)
{
    struct bench *b = (struct bench *)(void *)((char *)j - offsetof(struct bench, load.job));
    b->loaded = true;
}

static void load(struct bench *b, uint32_t n_ctx, uint32_t n_seq)
{
    struct err e;
    b->loaded = false;
    b->load.options = (struct model_options){ .path = "m", .n_ctx = n_ctx, .n_seq = n_seq };
    b->load.job.done = on_loaded;
    assert_int_equal(engine_load(b->engine, &b->load, &e), 0);
    wait_for(b, &b->loaded);
}

static void on_unloaded(struct job *j)
{
    struct bench *b = (struct bench *)(void *)((char *)j - offsetof(struct bench, unload.job));
    b->unloaded = true;
}

static void unload(struct bench *b)
{
    b->unloaded = false;
    b->unload.model = b->load.model;
    b->unload.job.done = on_unloaded;
    assert_int_equal(engine_unload(b->engine, &b->unload, NULL), 0);
    wait_for(b, &b->unloaded);
}

static void on_run(struct run *r)
{
    struct client *c = r->user;
    struct run_event ev;
    while (!c->hold && run_next(r, &ev)) {
        assert_true(c->n < sizeof c->got / sizeof *c->got);
        c->got[c->n++] = ev.token;
        c->finish = ev.finish;
    }
    c->ended = run_ended(r);
}

static struct client *begin(struct bench *b, int32_t seed, size_t n_prompt, uint32_t max_tokens)
{
    struct client *c = calloc(1, sizeof *c);
    struct err e;
    assert_non_null(c);
    for (size_t i = 0; i < n_prompt; i++)
        c->prompt[i] = seed + (int32_t)i;
    assert_int_equal(run_init(&c->run, &e), 0);
    c->run.model = b->load.model;
    c->run.tokens = c->prompt;
    c->run.n_tokens = n_prompt;
    c->run.max_tokens = max_tokens;
    c->run.scores = c->scores;
    c->run.notify = on_run;
    c->run.user = c;
    return c;
}

static void submit(struct bench *b, struct client *c)
{
    struct err e;
    assert_int_equal(run_submit(b->engine, &c->run, &e), 0);
}

static void end(struct client *c)
{
    run_finish(&c->run);
    free(c);
}

static void assert_tokens(const struct client *c, size_t n)
{
    int32_t last = c->prompt[c->run.n_tokens - 1];
    assert_int_equal(c->n, n);
    for (size_t i = 0; i < n; i++) {
        last = fake_next(last, (uint32_t)(c->run.n_tokens + i));
        assert_int_equal(c->got[i], last);
    }
}

/* ---- tests -------------------------------------------------------------------------------------------- */

static void device_opens_at_the_first_load(void **state)
{
    struct bench *b = *state;
    spin(b, 10);
    assert_int_equal(fake.opened, 0);
    assert_false(engine_stats(b->engine).open);
    load(b, 256, 2);
    assert_int_equal(b->load.err.code, 0);
    assert_non_null(b->load.model);
    assert_int_equal(b->load.info.n_ctx, 256);
    assert_int_equal(fake.opened, 1);
    unload(b);
    assert_int_equal(fake.unloads, 1);
    load(b, 256, 2);
    assert_int_equal(fake.opened, 1); /* stays open */
}

static void one_run(void **state)
{
    struct bench *b = *state;
    load(b, 256, 2);
    struct client *c = begin(b, 5, 3, 10);
    submit(b, c);
    wait_for(b, &c->ended);
    assert_int_equal(c->run.err.code, 0);
    assert_int_equal(c->finish, FINISH_LENGTH);
    assert_tokens(c, 10);
    assert_true(c->run.begun_ns > 0 && c->run.first_ns >= c->run.begun_ns);
    assert_true(c->run.last_ns >= c->run.first_ns);
    end(c);
}

static void many_runs_share_the_batch_and_wait(void **state)
{
    struct bench *b = *state;
    struct client *c[20];
    fake.step_us = 200;
    load(b, 256, 4);
    for (int i = 0; i < 20; i++) {
        c[i] = begin(b, 100 * i, 4, 12);
        submit(b, c[i]);
    }
    for (int i = 0; i < 20; i++) {
        wait_for(b, &c[i]->ended);
        assert_tokens(c[i], 12);
        end(c[i]);
    }
    assert_int_equal(fake.most_sessions, 4);
    /* 20 runs of 12 steps by fours: 60 steps, where one by one were 240. */
    assert_true(fake.steps < 120);
}

static void warm_prefix_is_found(void **state)
{
    struct bench *b = *state;
    load(b, 256, 3);
    struct client *a = begin(b, 1, 20, 5), *o = begin(b, 1000, 20, 5), *next;
    submit(b, a);
    wait_for(b, &a->ended);
    submit(b, o);
    wait_for(b, &o->ended);
    /* The first conversation goes on: its answer and a new question behind it. */
    next = begin(b, 1, 20, 5);
    memcpy(next->prompt + 20, a->got, 5 * sizeof *a->got);
    for (int i = 25; i < 30; i++)
        next->prompt[i] = 7;
    next->run.n_tokens = 30;
    submit(b, next);
    wait_for(b, &next->ended);
    assert_true(next->run.n_cached >= 24);
    assert_tokens(next, 5);
    assert_int_equal(fake.most_sessions, 2);
    end(a);
    end(o);
    end(next);
}

static void unlike_prompts_take_a_fresh_session(void **state)
{
    struct bench *b = *state;
    load(b, 256, 3);
    struct client *c[3];
    for (int i = 0; i < 3; i++) { /* they begin alike by two tokens of twenty */
        c[i] = begin(b, 1000 * i, 20, 2);
        c[i]->prompt[0] = 1;
        c[i]->prompt[1] = 2;
        submit(b, c[i]);
        wait_for(b, &c[i]->ended);
    }
    assert_int_equal(fake.most_sessions, 3);
    struct client *again = begin(b, 0, 20, 2); /* the first is still warm */
    again->prompt[0] = 1;
    again->prompt[1] = 2;
    submit(b, again);
    wait_for(b, &again->ended);
    assert_int_equal(again->run.n_cached, 19);
    for (int i = 0; i < 3; i++)
        end(c[i]);
    end(again);
}

static void one_prompt_is_computed_once(void **state)
{
    struct bench *b = *state;
    struct client *c[4];
    fake.step_us = 2000;
    load(b, 256, 4);
    for (int i = 0; i < 4; i++) {
        c[i] = begin(b, 1, 60, 20);
        submit(b, c[i]);
    }
    for (int i = 0; i < 4; i++)
        wait_for(b, &c[i]->ended);
    assert_int_equal(fake.shares, 3);
    assert_int_equal(c[0]->run.n_cached, 0);
    for (int i = 0; i < 4; i++) {
        assert_true(i == 0 || c[i]->run.n_cached == 59);
        assert_tokens(c[i], 20);
        end(c[i]);
    }
    assert_true(fake.steps < 40); /* side by side; one by one were 80 */
}

static void cancel_running_and_waiting(void **state)
{
    struct bench *b = *state;
    fake.step_us = 1000;
    load(b, 4096, 1);
    struct client *first = begin(b, 1, 3, 4000), *second = begin(b, 50, 3, 4000),
                  *third = begin(b, 90, 3, 2);
    submit(b, first);
    submit(b, second);
    submit(b, third);
    spin(b, 10);
    run_cancel(&second->run);
    wait_for(b, &second->ended);
    assert_int_equal(second->run.err.code, ERR_CANCELLED);
    assert_int_equal(second->n, 0);
    assert_false(first->ended);
    run_cancel(&first->run);
    wait_for(b, &first->ended);
    assert_int_equal(first->run.err.code, ERR_CANCELLED);
    wait_for(b, &third->ended); /* gets the seat */
    assert_tokens(third, 2);
    end(first);
    end(second);
    end(third);
}

static void slow_client_pauses_and_loses_nothing(void **state)
{
    struct bench *b = *state;
    load(b, 4096, 2);
    struct client *slow = begin(b, 1, 3, 500), *other = begin(b, 77, 3, 300);
    slow->hold = true;
    submit(b, slow);
    submit(b, other);
    wait_for(b, &other->ended); /* not held up */
    assert_tokens(other, 300);
    spin(b, 20);
    assert_false(slow->ended);
    assert_int_equal(slow->run.put, RUN_RING - SESSION_MAX_EVENTS + 1);
    uint64_t until = uv_hrtime() + 20 * SEC;
    while (!slow->ended) { /* one event at a time */
        struct run_event ev;
        assert_true(uv_hrtime() < until);
        if (run_next(&slow->run, &ev)) {
            slow->got[slow->n++] = ev.token;
            slow->finish = ev.finish;
        }
        uv_run(&b->loop, UV_RUN_NOWAIT);
    }
    slow->hold = false;
    on_run(&slow->run);
    assert_tokens(slow, 500);
    assert_int_equal(slow->finish, FINISH_LENGTH);
    end(slow);
    end(other);
}

static void cancelled_while_paused(void **state)
{
    struct bench *b = *state;
    load(b, 4096, 1);
    struct client *c = begin(b, 1, 3, 0);
    c->hold = true;
    submit(b, c);
    spin(b, 20);
    run_cancel(&c->run);
    wait_for(b, &c->ended);
    assert_int_equal(c->run.err.code, ERR_CANCELLED);
    end(c);
}

static void scores(void **state)
{
    struct bench *b = *state;
    load(b, 256, 2);
    struct client *c = begin(b, 1, 60, 0);
    c->run.kind = TURN_SCORE;
    submit(b, c);
    wait_for(b, &c->ended);
    assert_int_equal(c->run.err.code, 0);
    for (int i = 1; i < 60; i++)
        assert_true(c->scores[i] == -(float)i);
    end(c);
}

static void too_long_a_prompt_fails_alone(void **state)
{
    struct bench *b = *state;
    load(b, 32, 1);
    struct client *long_one = begin(b, 1, 33, 1), *c = begin(b, 1, 32, 1);
    submit(b, long_one);
    submit(b, c);
    wait_for(b, &long_one->ended);
    wait_for(b, &c->ended);
    assert_int_equal(long_one->run.err.code, ERR_INVALID);
    assert_int_equal(c->run.err.code, 0);
    end(long_one);
    end(c);
}

static void a_failed_step_ends_its_runs_only(void **state)
{
    struct bench *b = *state;
    load(b, 256, 2);
    fake.fail_at_step = 3;
    struct client *c = begin(b, 1, 3, 10);
    submit(b, c);
    wait_for(b, &c->ended);
    assert_int_equal(c->run.err.code, ERR_GPU);
    assert_int_equal(b->lost, 0);
    struct client *after = begin(b, 1, 3, 10);
    submit(b, after);
    wait_for(b, &after->ended);
    assert_tokens(after, 10);
    end(c);
    end(after);
}

static void a_lost_device_is_opened_anew(void **state)
{
    struct bench *b = *state;
    struct client *c[5];
    fake.step_us = 500;
    load(b, 256, 2);
    fake.lose_at_step = 5;
    for (int i = 0; i < 5; i++) {
        c[i] = begin(b, i, 3, 100);
        submit(b, c[i]);
    }
    for (int i = 0; i < 5; i++) {
        wait_for(b, &c[i]->ended);
        assert_int_equal(c[i]->run.err.code, ERR_GPU_LOST);
        end(c[i]);
    }
    for (int i = 0; i < 2000 && b->lost == 0; i++)
        spin(b, 5);
    assert_int_equal(b->lost, 1);
    assert_int_equal(fake.unloads, 1);
    struct client *late = begin(b, 1, 3, 1); /* on the model that is gone */
    submit(b, late);
    wait_for(b, &late->ended);
    assert_int_equal(late->run.err.code, ERR_GPU_LOST);
    end(late);
    unload(b);
    load(b, 256, 2);
    assert_int_equal(fake.opened, 2);
    struct client *after = begin(b, 1, 3, 10);
    submit(b, after);
    wait_for(b, &after->ended);
    assert_tokens(after, 10);
    end(after);
}

static void a_failed_load_is_an_error(void **state)
{
    struct bench *b = *state;
    fake.fail_load = ERR_NO_DEVICE_MEMORY;
    load(b, 256, 2);
    assert_int_equal(b->load.err.code, ERR_NO_DEVICE_MEMORY);
    assert_null(b->load.model);
    fake.fail_load = ERR_GPU_LOST;
    load(b, 256, 2);
    assert_int_equal(b->load.err.code, ERR_GPU_LOST);
    fake.fail_load = 0;
    load(b, 256, 2);
    assert_int_equal(b->load.err.code, 0);
    assert_int_equal(fake.opened, 2);
}

static void on_checked(struct job *j)
{
    struct bench *b = (struct bench *)(void *)((char *)j - offsetof(struct bench, check.job));
    b->checked = true;
}

static void check(struct bench *b)
{
    b->checked = false;
    b->check.job.done = on_checked;
    assert_int_equal(engine_check(b->engine, &b->check, NULL), 0);
    wait_for(b, &b->checked);
}

static void health(void **state)
{
    struct bench *b = *state;
    check(b);
    assert_false(b->check.open);
    assert_int_equal(fake.checks, 0);
    load(b, 256, 1);
    check(b);
    assert_true(b->check.open);
    assert_int_equal(b->check.err.code, 0);
    assert_int_equal(fake.checks, 1);
}

static void lanes_are_bounded(void **state)
{
    struct bench *b = *state;
    struct client *c[80];
    struct err e;
    fake.step_us = 200000; /* the engine is away in a step meanwhile */
    load(b, 256, 1);
    c[0] = begin(b, 1, 3, 1);
    submit(b, c[0]);
    spin(b, 50);
    int n = 1, busy = 0;
    for (; n < 80 && !busy; n++) {
        c[n] = begin(b, n, 3, 1);
        busy = run_submit(b->engine, &c[n]->run, &e) == ERR_BUSY;
    }
    assert_int_equal(busy, 1);
    assert_int_equal(n, 66); /* one in the step, 64 in the lane, and the one refused */
    fake.step_us = 0;
    for (int i = 0; i < n - 1; i++)
        wait_for(b, &c[i]->ended);
    for (int i = 0; i < n; i++)
        end(c[i]);
}

/* Every allocation of load, run and unload fails once. */
static void out_of_memory(void **state)
{
    struct bench *b = *state;
    for (uint64_t n = 1; n < 30; n++) {
        mem_fail_after(n, false);
        load(b, 256, 2);
        if (!b->load.model) {
            assert_int_equal(b->load.err.code, ERR_NO_MEMORY);
            mem_fail_after(0, false);
            continue;
        }
        struct err e;
        struct client *c = calloc(1, sizeof *c);
        assert_non_null(c);
        if (run_init(&c->run, &e) == ERR_OK) {
            c->run.model = b->load.model;
            c->run.tokens = c->prompt;
            c->run.n_tokens = 3;
            c->run.max_tokens = 4;
            c->run.notify = on_run;
            c->run.user = c;
            submit(b, c);
            wait_for(b, &c->ended);
            assert_true(c->run.err.code == ERR_OK || c->run.err.code == ERR_NO_MEMORY);
        }
        end(c);
        mem_fail_after(0, false);
        unload(b);
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(device_opens_at_the_first_load),
        T(one_run),
        T(many_runs_share_the_batch_and_wait),
        T(warm_prefix_is_found),
        T(unlike_prompts_take_a_fresh_session), T(one_prompt_is_computed_once),
        T(cancel_running_and_waiting),
        T(slow_client_pauses_and_loses_nothing),
        T(cancelled_while_paused),
        T(scores),
        T(too_long_a_prompt_fails_alone),
        T(a_failed_step_ends_its_runs_only),
        T(a_lost_device_is_opened_anew),
        T(a_failed_load_is_an_error),
        T(health),
        T(lanes_are_bounded),
        T(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
