/* key=value lines on stderr. `ts=... level=... msg="..." key=value`, one line a call, written
 * with one write(2), at most 4 KiB. No prompt or output text is ever logged. Thread: any. */
#ifndef HEARTH_BASE_LOG_H
#define HEARTH_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

bool log_level_parse(const char *name, enum log_level *out); /* error warn info debug */
void log_set_level(enum log_level level); /* default info */
/* fmt is the rest of the line after the level, e.g. log_line(LOG_INFO, "msg=listening socket=%s", p).
 * Values that may hold spaces are written by the caller as msg=\"...\"; control bytes become '?'. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
