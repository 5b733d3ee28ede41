#include "runtime/base/err.h"

#include <stdio.h>
#include <string.h>

struct err_row {
    const char *name;
    int http;
    int exit;
};

static const struct err_row rows[ERR_COUNT] = {
#define X(code, name, http, exit) [code] = { name, http, exit },
    ERR_TABLE(X)
#undef X
};

static const struct err_row *row_of(enum err_code code)
{
    return (unsigned)code < ERR_COUNT ? &rows[code] : &rows[ERR_INTERNAL];
}

/* Formats into at most n bytes; a cut never leaves half a UTF-8 sequence. */
static void format(char *out, size_t n, const char *fmt, va_list ap)
{
    int len = vsnprintf(out, n, fmt, ap);
    if (len < 0) {
        out[0] = '\0';
        return;
    }
    if ((size_t)len < n)
        return;
    size_t end = n - 1;
    while (end > 0 && ((unsigned char)out[end - 1] & 0xC0U) == 0x80U)
        end--;
    if (end > 0 && ((unsigned char)out[end - 1] & 0xC0U) == 0xC0U)
        end--;
    out[end] = '\0';
}

enum err_code err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (e) {
        va_list ap;
        va_start(ap, fmt);
        e->code = code;
        format(e->text, sizeof e->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

enum err_code err_errno(struct err *e, enum err_code code, int errnum, const char *fmt, ...)
{
    if (e) {
        char what[sizeof e->text];
        char why[128];
        va_list ap;
        va_start(ap, fmt);
        format(what, sizeof what, fmt, ap);
        va_end(ap);
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
        const char *reason = strerror_r(errnum, why, sizeof why);
#else
        const char *reason = strerror_r(errnum, why, sizeof why) == 0 ? why : "unknown error";
#endif
        err_set(e, code, "%s: %s", what, reason);
    }
    return code;
}

enum err_code err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e)
        return ERR_INTERNAL;
    char before[sizeof e->text];
    char after[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    format(before, sizeof before, fmt, ap);
    va_end(ap);
    memcpy(after, e->text, sizeof after);
    return err_set(e, e->code, "%s: %s", before, after);
}

enum err_code err_no_memory(struct err *e, size_t bytes, const char *what)
{
    return err_set(e, ERR_NO_MEMORY, "out of memory: %zu bytes for %s", bytes, what);
}

void err_clear(struct err *e)
{
    if (e) {
        e->code = ERR_OK;
        e->text[0] = '\0';
    }
}

const char *err_name(enum err_code code)
{
    return row_of(code)->name;
}

int err_http_status(enum err_code code)
{
    return row_of(code)->http;
}

int err_exit_status(enum err_code code)
{
    return row_of(code)->exit;
}
