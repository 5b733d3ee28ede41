#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = { "error", "warn", "info", "debug" };

/* What the operator asked to see: one value for the process, as stderr is. */
static atomic_int shown = LOG_INFO;

bool log_level_parse(const char *name, enum log_level *out)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    return false;
}

void log_set_level(enum log_level level)
{
    atomic_store(&shown, (int)level);
}

static size_t put_prefix(char *line, size_t cap, enum log_level level)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(line, cap, "ts=%Y-%m-%dT%H:%M:%S", &tm);
    int more = snprintf(line + n, cap - n, ".%03ldZ level=%s ", now.tv_nsec / 1000000, names[level]);
    return n + (size_t)more;
}

void log_line(enum log_level level, const char *fmt, ...)
{
    if ((int)level > atomic_load_explicit(&shown, memory_order_relaxed))
        return;
    char line[4096];
    size_t n = put_prefix(line, sizeof line, level);
    va_list ap;
    va_start(ap, fmt);
    int more = vsnprintf(line + n, sizeof line - n - 1, fmt, ap);
    va_end(ap);
    if (more < 0)
        return;
    size_t end = n + (size_t)more < sizeof line - 2 ? n + (size_t)more : sizeof line - 2;
    for (size_t i = n; i < end; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7F)
            line[i] = '?';
    line[end] = '\n';
    ssize_t put = write(STDERR_FILENO, line, end + 1);
    (void)put; /* nowhere to report it */
}
