/* store_job, progress: what a client sees of a long call, and when the call ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/progress.h"
#include "daemon/store_job.h"
#include "runtime/base/clock.h"
#include "runtime/base/mem.h"

#define CALLS_MAX 100

/* ---- progress --------------------------------------------------------------------------------------- */

static struct store_event news(const char *status, uint8_t blob, uint64_t completed)
{
    struct store_event ev = { .status = status };
    if (blob) {
        ev.has_digest = true;
        ev.digest.b[0] = blob;
        ev.completed = completed;
        ev.total = 1000;
    }
    return ev;
}

static void put(struct progress *p, const char *status, uint8_t blob, uint64_t completed)
{
    struct store_event ev = news(status, blob, completed);
    progress_put(p, &ev);
}

static void next_is(struct progress *p, const char *status, uint64_t completed)
{
    struct progress_line l;
    assert_true(progress_take(p, &l));
    assert_string_equal(l.status, status);
    assert_int_equal(l.completed, completed);
}

static void newest_of_each_blob(void **state)
{
    (void)state;
    struct progress p;
    struct progress_line l;
    uint64_t completed, total;
    assert_int_equal(progress_init(&p, NULL), ERR_OK);
    put(&p, "pulling manifest", 0, 0);
    put(&p, "pulling manifest", 0, 0); /* says nothing new */
    put(&p, "pulling a", 1, 1);
    put(&p, "pulling b", 2, 5);
    put(&p, "pulling a", 1, 700);
    put(&p, "checking", 0, 0);
    put(&p, "pulling a", 1, 1000); /* not before "checking" */
    progress_sum(&p, &completed, &total);
    assert_int_equal(completed, 1005);
    assert_int_equal(total, 2000);
    next_is(&p, "pulling manifest", 0);
    next_is(&p, "pulling a", 700);
    next_is(&p, "pulling b", 5);
    next_is(&p, "checking", 0);
    next_is(&p, "pulling a", 1000);
    assert_false(progress_take(&p, &l));
    progress_finish(&p);
}

/* Whatever comes, no more wait than the ring holds; statuses outlive the news of blobs. */
static void bounded(void **state)
{
    (void)state;
    struct progress p;
    struct progress_line l;
    char text[32];
    size_t n = 0, statuses = 0;
    assert_int_equal(progress_init(&p, NULL), ERR_OK);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "step %u", i);
        put(&p, text, 0, 0);
        for (uint8_t b = 1; b < 20; b++)
            put(&p, text, b, i);
    }
    for (; progress_take(&p, &l); n++)
        if (!l.has_total) {
            snprintf(text, sizeof text, "step %zu", statuses++);
            assert_string_equal(l.status, text);
        }
    assert_int_equal(n, PROGRESS_LINES);
    assert_int_equal(statuses, 100);
    for (unsigned i = 0; i < 2 * PROGRESS_LINES; i++) {
        snprintf(text, sizeof text, "step %u", i);
        put(&p, text, 0, 0);
    }
    snprintf(text, sizeof text, "step %u", PROGRESS_LINES);
    next_is(&p, text, 0);
    progress_finish(&p);
}

/* ---- a daemon of one route --------------------------------------------------------------------------- */

/* What a call does, and what became of it. */
struct deed {
    struct bench *bench;
    enum err_code (*act)(struct deed *x, const struct store_job *job, struct buf *last, struct err *e);
    bool stream, detach;
    atomic_bool started, go, ended;
    bool done;
    enum err_code result;
};

struct bench {
    struct daemon d;
    char socket[64];
    struct deed deed[CALLS_MAX]; /* of the n-th request */
    size_t n_requests;
};

static enum err_code deed_work(void *user, const struct store_job *job, struct buf *last, struct err *e)
{
    struct deed *x = user;
    atomic_store(&x->started, true);
    enum err_code c = x->act(x, job, last, e);
    atomic_store(&x->ended, true);
    return c;
}

static void deed_done(void *user, enum err_code result)
{
    struct deed *x = user;
    assert_false(x->done);
    x->done = true;
    x->result = result;
}

static void on_request(void *user, struct http_request *r)
{
    struct bench *b = user;
    assert_true(b->n_requests < CALLS_MAX);
    struct deed *x = &b->deed[b->n_requests++];
    store_call_start(&b->d, r, &(struct store_call_options){
        .kind = "pull", .name = STR("m"), .stream = x->stream, .detach = x->detach, .user = x,
        .work = deed_work, .done = deed_done });
}

static int set_up(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct err e;
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    assert_non_null(b);
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&b->d.loop);
    snprintf(b->socket, sizeof b->socket, "/tmp/hearth-store-job-%d", (int)getpid());
    snprintf(a.sun_path, sizeof a.sun_path, "%s", b->socket);
    unlink(b->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && bind(fd, (void *)&a, sizeof a) == 0 && listen(fd, 64) == 0);
    struct jobs_options jobs = { .loop = &b->d.loop };
    assert_int_equal(jobs_create(&jobs, &b->d.jobs, &e), 0);
    struct http_options http = { .loop = &b->d.loop, .auth = &b->d.auth, .max_body = 1000,
                                 .on_request = on_request, .user = b };
    assert_int_equal(http_server_create(&http, &b->d.http, &e), 0);
    assert_int_equal(http_server_listen(b->d.http, fd, &e), 0);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    http_server_close(b->d.http, NULL, NULL);
    jobs_destroy(b->d.jobs);
    uv_run(&b->d.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&b->d.loop), 0);
    assert_null(b->d.calls);
    unlink(b->socket);
    free(b);
    assert_int_equal(mem_live(), 0);
    return 0;
}

static void turn(struct bench *b)
{
    uv_run(&b->d.loop, UV_RUN_NOWAIT);
    usleep(1000);
}

#define TURN_UNTIL(b, condition)                                                                     \
    do {                                                                                             \
        int64_t end_ = clock_ns() + INT64_C(20000000000);                                            \
        while (!(condition) && clock_ns() < end_)                                                    \
            turn(b);                                                                                 \
        assert_true(condition);                                                                      \
    } while (0)

static int ask(struct bench *b)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    static const char text[] = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                               "Content-Length: 2\r\n\r\n{}";
    snprintf(a.sun_path, sizeof a.sun_path, "%s", b->socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0 && connect(fd, (void *)&a, sizeof a) == 0);
    assert_int_equal(send(fd, text, sizeof text - 1, 0), sizeof text - 1);
    return fd;
}

/* The whole reply, with the head, until the daemon closes. */
static const char *answer(struct bench *b, int fd, char *out, size_t size)
{
    size_t n = 0;
    int64_t end = clock_ns() + INT64_C(20000000000);
    for (ssize_t got = -1; got && clock_ns() < end;) {
        turn(b);
        got = recv(fd, out + n, size - n - 1, 0);
        n += got > 0 ? (size_t)got : 0;
        assert_true(n < size - 1);
    }
    close(fd);
    out[n] = '\0';
    return out;
}

static const char *call(struct bench *b, struct deed x, char *out, size_t size)
{
    x.bench = b;
    b->deed[b->n_requests] = x;
    return answer(b, ask(b), out, size);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++)
        n++;
    return n;
}

/* ---- what a client sees ----------------------------------------------------------------------------- */

static enum err_code act_pull(struct deed *x, const struct store_job *job, struct buf *last,
                              struct err *e)
{
    struct digest d = { { 0xab } };
    struct store_event ev = { .status = "pulling abab", .has_digest = true, .digest = d, .total = 10 };
    (void)x, (void)last, (void)e;
    job->event(job->user, &(struct store_event){ .status = "pulling manifest" });
    for (ev.completed = 0; ev.completed <= 10; ev.completed += 5)
        job->event(job->user, &ev);
    job->event(job->user, &(struct store_event){ .status = "success" });
    return ERR_OK;
}

static void lines_in_order(void **state)
{
    char text[8192];
    const char *s = call(*state, (struct deed){ .act = act_pull, .stream = true }, text, sizeof text);
    assert_non_null(strstr(s, "HTTP/1.1 200 OK\r\n"));
    assert_non_null(strstr(s, "Content-Type: application/x-ndjson\r\n"));
    const char *manifest = strstr(s, "{\"status\":\"pulling manifest\"}\n");
    const char *whole = strstr(s, "{\"status\":\"pulling abab\",\"digest\":\"sha256:ab00");
    const char *end = strstr(s, "{\"status\":\"success\"}\n");
    assert_non_null(manifest);
    assert_non_null(whole);
    assert_non_null(end);
    assert_true(manifest < whole && whole < end);
    assert_non_null(strstr(s, "\"total\":10,\"completed\":10}\n"));
    assert_int_equal(count(s, "success"), 1);
}

static void one_object(void **state)
{
    char text[8192];
    const char *s = call(*state, (struct deed){ .act = act_pull }, text, sizeof text);
    assert_non_null(strstr(s, "Content-Type: application/json; charset=utf-8\r\n"));
    assert_non_null(strstr(s, "\r\n\r\n{\"status\":\"success\"}"));
    assert_null(strstr(s, "manifest"));
}

static enum err_code act_last(struct deed *x, const struct store_job *job, struct buf *last,
                              struct err *e)
{
    (void)x, (void)job, (void)e;
    buf_puts(last, "{\"plan\":1}");
    return ERR_OK;
}

static void a_last_line_of_its_own(void **state)
{
    char text[8192];
    const char *s = call(*state, (struct deed){ .act = act_last, .stream = true }, text, sizeof text);
    assert_non_null(strstr(s, "{\"plan\":1}\n"));
    assert_null(strstr(s, "success"));
}

static enum err_code act_missing(struct deed *x, const struct store_job *job, struct buf *last,
                                 struct err *e)
{
    (void)x, (void)job, (void)last;
    return err_set(e, ERR_NOT_FOUND, "no such \"model\"");
}

static void first_error_has_its_status(void **state)
{
    char text[8192];
    for (int stream = 0; stream < 2; stream++) {
        const char *s = call(*state, (struct deed){ .act = act_missing, .stream = stream }, text, sizeof text);
        assert_non_null(strstr(s, "HTTP/1.1 404 "));
        assert_non_null(strstr(s, "{\"error\":\"no such \\\"model\\\"\"}"));
    }
}

static enum err_code act_break(struct deed *x, const struct store_job *job, struct buf *last,
                               struct err *e)
{
    act_pull(x, job, last, e);
    buf_puts(last, "{\"half\":");
    return err_set(e, ERR_TIMEOUT, "nothing came");
}

static void later_error_is_a_line(void **state)
{
    char text[8192];
    const char *s = call(*state, (struct deed){ .act = act_break, .stream = true }, text, sizeof text);
    assert_non_null(strstr(s, "HTTP/1.1 200 "));
    assert_non_null(strstr(s, "{\"error\":\"nothing came\",\"code\":\"timeout\"}\n"));
    assert_null(strstr(s, "success"));
    assert_null(strstr(s, "half"));
    s = call(*state, (struct deed){ .act = act_break }, text, sizeof text);
    assert_non_null(strstr(s, "HTTP/1.1 504 "));
}

#define FLOOD 300000
static enum err_code act_flood(struct deed *x, const struct store_job *job, struct buf *last,
                               struct err *e)
{
    (void)x, (void)last, (void)e;
    for (uint64_t i = 1; i <= FLOOD; i++) {
        struct store_event ev = { .status = "pulling", .has_digest = true, .total = FLOOD, .completed = i };
        ev.digest.b[0] = (uint8_t)(i % 64);
        job->event(job->user, &ev);
    }
    job->event(job->user, &(struct store_event){ .status = "writing manifest" });
    return ERR_OK;
}

/* A reader that takes nothing does not hold up the work, and gets the newest in the end. */
static void slow_reader(void **state)
{
    struct bench *b = *state;
    static char text[8 << 20];
    b->deed[0] = (struct deed){ .act = act_flood, .stream = true };
    int fd = ask(b), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    TURN_UNTIL(b, atomic_load(&b->deed[0].ended));
    answer(b, fd, text, sizeof text);
    assert_non_null(strstr(text, "\"total\":300000,\"completed\":300000}\n"));
    assert_non_null(strstr(text, "{\"status\":\"writing manifest\"}\n"));
    assert_true(count(text, "\n{") < FLOOD / 4);
}

/* ---- its end ------------------------------------------------------------------------------------------ */

static enum err_code act_wait(struct deed *x, const struct store_job *job, struct buf *last,
                              struct err *e)
{
    (void)last;
    job->event(job->user, &(struct store_event){ .status = "pulling abab", .total = 9, .completed = 4 });
    while (!store_job_cancelled(job) && !atomic_load(&x->go))
        usleep(1000);
    return store_job_cancelled(job) ? err_set(e, ERR_CANCELLED, "cancelled") : ERR_OK;
}

static void a_client_that_leaves_cancels(void **state)
{
    struct bench *b = *state;
    for (int stream = 0; stream < 2; stream++) {
        struct deed *x = &b->deed[b->n_requests];
        *x = (struct deed){ .act = act_wait, .stream = stream };
        int fd = ask(b);
        TURN_UNTIL(b, atomic_load(&x->started));
        close(fd);
        TURN_UNTIL(b, x->done);
        assert_int_equal(x->result, ERR_CANCELLED);
    }
}

static void unless_it_asked_to_detach(void **state)
{
    struct bench *b = *state;
    struct deed *x = b->deed;
    struct transfer_entry v;
    *x = (struct deed){ .act = act_wait, .stream = true, .detach = true };
    int fd = ask(b);
    TURN_UNTIL(b, atomic_load(&x->started));
    assert_int_equal(store_call_list(&b->d, &v, 1), 1);
    assert_false(v.detached);
    close(fd);
    for (int i = 0; i < 50; i++)
        turn(b);
    assert_false(x->done);
    assert_int_equal(store_call_list(&b->d, &v, 1), 1);
    assert_true(v.detached && str_is(v.name, "m") && str_is(v.kind, "pull"));
    assert_true(str_is(v.status, "pulling abab") && v.total == 9 && v.completed == 4);
    atomic_store(&x->go, true);
    TURN_UNTIL(b, x->done);
    assert_int_equal(x->result, ERR_OK);
    assert_int_equal(store_call_list(&b->d, &v, 1), 0);
}

static void stopped_by_name(void **state)
{
    struct bench *b = *state;
    struct deed *x = b->deed;
    *x = (struct deed){ .act = act_wait, .stream = true, .detach = true };
    close(ask(b));
    TURN_UNTIL(b, atomic_load(&x->started));
    assert_int_equal(store_call_stop(&b->d, STR("other")), 0);
    assert_int_equal(store_call_stop(&b->d, STR("M")), 1);
    TURN_UNTIL(b, x->done);
    assert_int_equal(x->result, ERR_CANCELLED);
}

/* Eight at work, as many waiting as the lane takes, the rest refused; and at the end of the daemon none
 * is begun that waited, and those at work say why they ended. */
static void many_and_the_end(void **state)
{
    struct bench *b = *state;
    static char text[CALLS_MAX][2048];
    int fd[8 + 64 + 2];
    size_t n = sizeof fd / sizeof *fd, busy = 0, begun = 0, told = 0;
    for (size_t i = 0; i < n; i++) {
        b->deed[i] = (struct deed){ .act = act_wait, .stream = true, .detach = i % 2 };
        fd[i] = ask(b);
        TURN_UNTIL(b, b->n_requests == i + 1);
        TURN_UNTIL(b, i >= 8 || atomic_load(&b->deed[i].started));
    }
    struct transfer_entry v[CALLS_MAX];
    assert_int_equal(store_call_list(&b->d, v, CALLS_MAX), 8 + 64);
    assert_true(str_is(v[8].status, "waiting"));
    b->d.draining = true;
    store_call_stop_all(&b->d);
    TURN_UNTIL(b, !b->d.calls);
    for (size_t i = 0; i < n; i++) {
        answer(b, fd[i], text[i], sizeof text[i]);
        busy += strstr(text[i], "HTTP/1.1 503 ") && strstr(text[i], "too much work waits for transfers");
        told += strstr(text[i], "the daemon is shutting down") != NULL;
        begun += atomic_load(&b->deed[i].started);
        assert_true(b->deed[i].done);
    }
    assert_int_equal(busy, 2);
    assert_int_equal(begun, 8);
    assert_int_equal(told, 8 + 64);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newest_of_each_blob),
        cmocka_unit_test(bounded),
        T(lines_in_order),
        T(one_object),
        T(a_last_line_of_its_own),
        T(first_error_has_its_status),
        T(later_error_is_a_line),
        T(slow_reader),
        T(a_client_that_leaves_cancels),
        T(unless_it_asked_to_detach),
        T(stopped_by_name),
        T(many_and_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
