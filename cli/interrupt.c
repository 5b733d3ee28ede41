#include "cli/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "runtime/base/clock.h"

enum err_code interrupt_init(struct interrupt *i, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    i->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (i->fd < 0)
        return err_errno(e, ERR_IO, errno, "cannot listen for Ctrl-C");
    return ERR_OK;
}

void interrupt_finish(struct interrupt *i)
{
    if (i->fd >= 0)
        close(i->fd);
    i->fd = -1;
}

void interrupt_release(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void interrupt_clear(struct interrupt *i)
{
    struct signalfd_siginfo seen;

    while (read(i->fd, &seen, sizeof seen) > 0)
        ;
}

enum err_code interrupt_wait(const struct interrupt *i, int fd, short events, int timeout_ms,
                             struct err *e)
{
    struct pollfd p[2] = { { .fd = i->fd, .events = POLLIN }, { .fd = fd, .events = events } };
    int64_t end = clock_ns() + (int64_t)timeout_ms * 1000000;

    for (;;) {
        int64_t left = (end - clock_ns()) / 1000000;
        int n = poll(p, 2, timeout_ms < 0 ? -1 : left < 0 ? 0 : (int)left);
        if (n < 0 && errno != EINTR)
            return err_errno(e, ERR_IO, errno, "cannot wait for input");
        if (n > 0 && p[0].revents)
            return err_set(e, ERR_CANCELLED, "interrupted");
        if (n > 0)
            return ERR_OK;
        if (timeout_ms >= 0 && clock_ns() >= end)
            return err_set(e, ERR_TIMEOUT, "nothing came within %d ms", timeout_ms);
    }
}
