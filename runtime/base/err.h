/* One error value that travels: a code for programs, a sentence for people.
 *
 * A function that can fail returns `enum err_code` (ERR_OK is 0) and fills the caller's
 * `struct err` with a sentence that says what was tried on what. The value is passed up
 * unchanged and logged once, where it is handled. `e` may always be NULL.
 *
 * The table is the only list: each row gives the code, its name in logs and JSON, the HTTP
 * status of the daemon and the exit status of the command (contract.md: 0 done, 1 failed,
 * 2 usage, 3 no daemon, 4 no such model, 5 busy, 130 interrupted).
 *
 * Thread: any; a struct err belongs to one caller. Nothing here allocates. */
#ifndef HEARTH_BASE_ERR_H
#define HEARTH_BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

/*        code             name              HTTP  exit */
#define ERR_TABLE(X)                                                                               \
    X(ERR_OK,              "ok",              200,   0)                                            \
    X(ERR_INVALID,         "invalid",         400,   1) /* the request or argument is wrong */     \
    X(ERR_USAGE,           "usage",           400,   2) /* the command line is wrong */            \
    X(ERR_FORBIDDEN,       "forbidden",       403,   1)                                            \
    X(ERR_NOT_FOUND,       "not_found",       404,   4) /* no such model (or route) */             \
    X(ERR_CONFLICT,        "conflict",        409,   1) /* exists, in use, offline */              \
    X(ERR_TOO_LARGE,       "too_large",       413,   1) /* over a cap: the sentence names it */    \
    X(ERR_FORMAT,          "format",          400,   1) /* a file breaks its format */             \
    X(ERR_UNSUPPORTED,     "unsupported",     400,   1) /* well formed, but not ours to run */     \
    X(ERR_BUSY,            "busy",            503,   5)                                            \
    X(ERR_NO_DAEMON,       "no_daemon",       502,   3)                                            \
    X(ERR_NO_MEMORY,       "no_memory",       500,   1) /* host allocation failed */               \
    X(ERR_NO_DEVICE_MEMORY, "no_device_memory", 500, 1)                                            \
    X(ERR_NO_DEVICE,       "no_device",       500,   1)                                            \
    X(ERR_GPU,             "gpu",             500,   1) /* a device call failed */                 \
    X(ERR_GPU_LOST,        "gpu_lost",        500,   1) /* the device is gone: reopen */           \
    X(ERR_TIMEOUT,         "timeout",         504,   1)                                            \
    X(ERR_IO,              "io",              500,   1)                                            \
    X(ERR_CANCELLED,       "cancelled",       499, 130)                                            \
    X(ERR_INTERNAL,        "internal",        500,   1) /* a broken promise of our own */

enum err_code {
#define X(code, name, http, exit) code,
    ERR_TABLE(X)
#undef X
    ERR_COUNT
};

struct err {
    enum err_code code;
    char text[512]; /* UTF-8, NUL-terminated, "" when ERR_OK; a longer sentence is cut */
};

/* Sets code and sentence, and returns the code: `return err_set(e, ERR_IO, "...")`. */
enum err_code err_set(struct err *e, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same, with ": " and strerror(errnum) appended. */
enum err_code err_errno(struct err *e, enum err_code code, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "fmt: " before the sentence that is there already; keeps and returns its code. */
enum err_code err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
enum err_code err_no_memory(struct err *e, size_t bytes, const char *what);
void err_clear(struct err *e);

const char *err_name(enum err_code code);
int err_http_status(enum err_code code);
int err_exit_status(enum err_code code);

#endif
