#include "store/web.h"

#include <string.h>
#include <time.h>

#include "store/origin.h"

#define WEB_TRIES 5
#define WEB_PATIENCE_S 60

bool web_is_loopback(struct str host)
{
    bool digits_and_dots = true;
    for (size_t i = 0; i < host.n; i++)
        digits_and_dots = digits_and_dots && host.p[i] && strchr("0123456789.", host.p[i]);
    return str_ieq(host, STR("localhost")) || (digits_and_dots && str_starts(host, STR("127.")));
}

enum err_code web_check(struct str url, bool insecure, const char *what, bool *plain, struct err *e)
{
    struct origin o;
    if (!origin_of(url, &o))
        return err_set(e, ERR_INVALID, "%s is not a URL (https://HOST/...; no user, no IPv6 address)", what);
    *plain = !o.https;
    if (!o.https && !insecure && !web_is_loopback(o.host))
        return err_set(e, ERR_FORBIDDEN,
                       "%s is plain http, which anybody on the way can read and change: use https, or say "
                       "--insecure",
                       what);
    return ERR_OK;
}

void web_escape(struct buf *b, struct str path, bool slashes)
{
    for (size_t i = 0; i < path.n; i++) {
        char c = path.p[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c && strchr("-_.~", c)) || (slashes && c == '/');
        if (plain)
            buf_putc(b, c);
        else
            buf_printf(b, "%%%02X", (unsigned char)c);
    }
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c | 32 : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

bool web_unescape(struct buf *b, struct str text)
{
    for (size_t i = 0; i < text.n; i++) {
        int high, low;
        if (text.p[i] != '%') {
            buf_putc(b, text.p[i]);
            continue;
        }
        high = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1;
        low = i + 2 < text.n ? hex_digit(text.p[i + 2]) : -1;
        if (high < 0 || low < 0 || (high | low) == 0)
            return false;
        buf_putc(b, (char)(high << 4 | low));
        i += 2;
    }
    return true;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static enum err_code wait_for(long seconds, const struct store_job *job, struct err *e)
{
    const struct timespec slice = { 0, 100 * 1000 * 1000 };
    for (long i = 0; i < seconds * 10; i++) {
        if (store_job_cancelled(job))
            return err_set(e, ERR_CANCELLED, "cancelled");
        nanosleep(&slice, NULL);
    }
    return ERR_OK;
}

/* The server has had enough of us for now. */
static bool wants_patience(const struct transfer *x)
{
    return x->head.status == 429 || x->head.status == 503;
}

enum err_code web_fetch(struct transport *t, const struct transport_request *r,
                        const struct store_job *job, struct buf *body, struct transfer **out,
                        struct err *e)
{
    enum err_code code = ERR_OK;
    for (int tries = 1; !code; tries++) {
        code = transport_fetch(t, r, job ? job->cancel : NULL, body, out, e);
        if (code || !wants_patience(*out))
            return code;
        int status = (*out)->head.status;
        long wait = (*out)->head.retry_after_s;
        struct origin at = { 0 };
        origin_of(str_from(r->url), &at);
        transport_end(t, *out);
        *out = NULL;
        if (body)
            buf_finish(body);
        if (tries == WEB_TRIES || wait > WEB_PATIENCE_S)
            return err_set(e, ERR_BUSY, "%.*s takes no more requests for now (status %d%s): try again later",
                           (int)at.text.n, at.text.n ? at.text.p : "", status, status == 429 ? ", too many" : "");
        code = wait_for(wait >= 0 ? wait : 1L << (tries - 1), job, e);
    }
    return code;
}
