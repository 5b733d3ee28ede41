#include "store/origin.h"

#include <string.h>

static bool is_alnum(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] > '~' || strchr("\"<>\\^`{|}", s.p[i]))
            return false;
    return true;
}

static bool parse_port(struct str s, unsigned *port)
{
    unsigned value = 0;
    if (s.n == 0 || s.n > 5)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return false;
        value = value * 10 + (unsigned)(s.p[i] - '0');
    }
    *port = value;
    return value > 0 && value <= 65535;
}

static bool is_host(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!is_alnum(s.p[i]) && !strchr(".-_", s.p[i]))
            return false;
    return s.n > 0;
}

bool origin_of(struct str url, struct origin *out)
{
    struct str rest = url;
    struct origin o = { 0 };
    if (!is_plain(url))
        return false;
    for (size_t i = 0; i < 2; i++) {
        struct str scheme = i ? STR("http://") : STR("https://");
        if (url.n > scheme.n && str_ieq((struct str){ url.p, scheme.n }, scheme)) {
            o.https = i == 0;
            rest = (struct str){ url.p + scheme.n, url.n - scheme.n };
        }
    }
    if (rest.p == url.p)
        return false;
    size_t n = 0;
    while (n < rest.n && !strchr("/?#", rest.p[n]))
        n++;
    o.text = (struct str){ url.p, (size_t)(rest.p - url.p) + n };
    const char *colon = memchr(rest.p, ':', n);
    o.host = (struct str){ rest.p, colon ? (size_t)(colon - rest.p) : n };
    o.port = o.https ? 443 : 80;
    if (!is_host(o.host) ||
        (colon && !parse_port((struct str){ colon + 1, n - o.host.n - 1 }, &o.port)))
        return false;
    *out = o;
    return true;
}

bool origin_eq(const struct origin *a, const struct origin *b)
{
    return a->https == b->https && a->port == b->port && str_ieq(a->host, b->host);
}

bool origin_join(struct str base, struct str location, struct buf *out)
{
    struct origin from, to;
    if (origin_of(location, &to)) {
        buf_put(out, location.p, location.n);
        return !out->failed;
    }
    if (!origin_of(base, &from) || !is_plain(location) || !str_starts(location, STR("/")) ||
        str_starts(location, STR("//")))
        return false;
    buf_put(out, from.text.p, from.text.n);
    buf_put(out, location.p, location.n);
    return !out->failed;
}

void origin_escape(struct buf *out, struct str value)
{
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (is_alnum(c) || (c && strchr("-_.~", c)))
            buf_putc(out, c);
        else if (c == ' ')
            buf_putc(out, '+');
        else
            buf_printf(out, "%%%02X", (unsigned char)c);
    }
}
