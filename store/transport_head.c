#include "store/transport_head.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

#include "runtime/base/clock.h"

#define MAX_RETRY_S 86400
#define SHORT_TEXT 1024
#define LONG_TEXT 8192 /* signed URLs, a challenge with many scopes */

void head_begin(struct head_reader *r, struct arena *arena)
{
    static const struct transport_head none = {
        .retry_after_s = -1, .url = "", .location = "", .content_type = "", .etag = "", .last_modified = "",
        .docker_digest = "", .www_authenticate = "", .linked_etag = "", .linked_size = "",
        .repo_commit = "", .next_url = "", .range = "",
    };
    size_t bytes = r->bytes;
    *r = (struct head_reader){ .head = none, .arena = arena, .bytes = bytes };
}

/* ---- values ---------------------------------------------------------------------------------- */

static struct str trim(struct str s)
{
    while (s.n && (*s.p == ' ' || *s.p == '\t'))
        s = (struct str){ s.p + 1, s.n - 1 };
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    return s;
}

bool head_number(struct str text, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.n; i++) {
        uint64_t digit = (uint64_t)(unsigned char)text.p[i] - '0';
        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = v;
    return text.n > 0;
}

/* Cuts `text` at the first `c`; what stood before it. */
static bool cut(struct str *text, char c, struct str *before)
{
    const char *at = text->n ? memchr(text->p, c, text->n) : NULL;
    if (!at)
        return false;
    size_t n = (size_t)(at - text->p);
    *before = (struct str){ text->p, n };
    *text = (struct str){ at + 1, text->n - n - 1 };
    return true;
}

bool head_range(struct str text, uint64_t *first, uint64_t *last, uint64_t *total)
{
    struct str unit, a, b;
    return cut(&text, ' ', &unit) && str_ieq(unit, STR("bytes")) && cut(&text, '-', &a) &&
           cut(&text, '/', &b) && head_number(a, first) && head_number(b, last) &&
           head_number(text, total) && *first <= *last && *last < *total;
}

static long retry_after(struct str v)
{
    uint64_t s = 0;
    char text[64];
    struct tm tm = { 0 };
    if (head_number(v, &s))
        return s > MAX_RETRY_S ? MAX_RETRY_S : (long)s;
    if (v.n >= sizeof text)
        return -1;
    memcpy(text, v.p, v.n);
    text[v.n] = '\0';
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end)
        return -1;
    int64_t left = (int64_t)timegm(&tm) - clock_wall_ns() / 1000000000;
    return left < 0 ? 0 : left > MAX_RETRY_S ? MAX_RETRY_S : (long)left;
}

/* ---- headers --------------------------------------------------------------------------------- */

struct header_row {
    const char *name;
    enum err_code (*take)(struct head_reader *r, const struct header_row *row, struct str v);
    size_t offset; /* of a string in struct transport_head */
    size_t max;
};

/* Only what can be seen and is ASCII: what is longer or holds anything else is as good as absent. */
static enum err_code take_text(struct head_reader *r, const struct header_row *row, struct str v)
{
    bool plain = v.n <= row->max;
    for (size_t i = 0; plain && i < v.n; i++)
        plain = v.p[i] >= ' ' && v.p[i] <= '~';
    char *text = arena_strndup(r->arena, v.p, plain ? v.n : 0);
    if (!text)
        return ERR_NO_MEMORY;
    memcpy((char *)&r->head + row->offset, &text, sizeof text);
    return ERR_OK;
}

static enum err_code take_length(struct head_reader *r, const struct header_row *row, struct str v)
{
    (void)row;
    uint64_t n;
    if (!head_number(v, &n) || (r->head.has_length && r->head.length != n))
        return ERR_FORBIDDEN;
    r->head.has_length = true;
    r->head.length = n;
    return ERR_OK;
}

static enum err_code take_range(struct head_reader *r, const struct header_row *row, struct str v)
{
    (void)row;
    struct transport_head *h = &r->head;
    h->has_range = head_range(v, &h->first, &h->last, &h->total);
    return ERR_OK;
}

static enum err_code take_ranges(struct head_reader *r, const struct header_row *row, struct str v)
{
    (void)row;
    r->head.accepts_ranges |= str_ieq(v, STR("bytes"));
    return ERR_OK;
}

static enum err_code take_retry(struct head_reader *r, const struct header_row *row, struct str v)
{
    (void)row;
    r->head.retry_after_s = retry_after(v);
    return ERR_OK;
}

static enum err_code take_coding(struct head_reader *r, const struct header_row *row, struct str v)
{
    (void)r;
    (void)row;
    return v.n == 0 || str_ieq(v, STR("identity")) ? ERR_OK : ERR_FORBIDDEN;
}

static enum err_code take_transfer(struct head_reader *r, const struct header_row *row, struct str v)
{
    (void)row;
    r->chunked = str_ieq(v, STR("chunked"));
    return r->chunked || str_ieq(v, STR("identity")) ? ERR_OK : ERR_FORBIDDEN;
}

/* Link: <https://...?page=2>; rel="next", <...>; rel="last" */
static enum err_code take_link(struct head_reader *r, const struct header_row *row, struct str v)
{
    struct str url, before, parameters;
    while (cut(&v, '<', &before) && cut(&v, '>', &url)) {
        parameters = v;
        struct str upto;
        struct str rest = v;
        if (cut(&rest, '<', &upto))
            parameters = upto;
        for (size_t i = 0; i + 8 <= parameters.n; i++)
            if (str_ieq((struct str){ parameters.p + i, 8 }, STR("rel=next")) ||
                (i + 10 <= parameters.n &&
                 str_ieq((struct str){ parameters.p + i, 10 }, STR("rel=\"next\""))))
                return take_text(r, row, url);
    }
    return ERR_OK;
}

#define TEXT(name, field, max) { name, take_text, offsetof(struct transport_head, field), max }

static const struct header_row headers[] = {
    { "content-length", take_length, 0, 0 },
    { "content-range", take_range, 0, 0 },
    { "accept-ranges", take_ranges, 0, 0 },
    { "retry-after", take_retry, 0, 0 },
    { "content-encoding", take_coding, 0, 0 },
    { "transfer-encoding", take_transfer, 0, 0 },
    { "link", take_link, offsetof(struct transport_head, next_url), LONG_TEXT },
    TEXT("location", location, LONG_TEXT),
    TEXT("content-type", content_type, SHORT_TEXT),
    TEXT("etag", etag, SHORT_TEXT),
    TEXT("last-modified", last_modified, SHORT_TEXT),
    TEXT("docker-content-digest", docker_digest, SHORT_TEXT),
    TEXT("www-authenticate", www_authenticate, LONG_TEXT),
    TEXT("x-linked-etag", linked_etag, SHORT_TEXT),
    TEXT("x-linked-size", linked_size, SHORT_TEXT),
    TEXT("x-repo-commit", repo_commit, SHORT_TEXT),
    TEXT("range", range, SHORT_TEXT),
};

static enum head_line bad(enum err_code code, struct str name, const char *host, struct err *e)
{
    if (code == ERR_NO_MEMORY)
        err_no_memory(e, name.n, "the head of a reply");
    else
        err_set(e, code, "%s sent a header that may not be: a '%.*s' that was not asked for, or that "
                "contradicts another", host, (int)name.n, name.p);
    return HEAD_BAD;
}

static enum head_line one_header(struct head_reader *r, struct str line, const char *host,
                                 struct err *e)
{
    struct str name;
    if (!cut(&line, ':', &name))
        return HEAD_MORE;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        const struct header_row *row = &headers[i];
        if (!str_ieq(name, str_from(row->name)))
            continue;
        enum err_code code = row->take(r, row, trim(line));
        return code ? bad(code, str_from(row->name), host, e) : HEAD_MORE;
    }
    return HEAD_MORE;
}

/* "HTTP/1.1 200 OK" */
static void status_line(struct head_reader *r, struct str line)
{
    struct str version;
    uint64_t status = 0;
    head_begin(r, r->arena);
    if (cut(&line, ' ', &version) && line.n >= 3 && head_number((struct str){ line.p, 3 }, &status))
        r->head.status = (int)status;
    r->status_line = true;
}

enum head_line head_line(struct head_reader *r, const char *line, size_t n, const char *host,
                         struct err *e)
{
    r->bytes += n;
    if (r->bytes > HEAD_MAX_BYTES) {
        err_set(e, ERR_TOO_LARGE, "%s sent a head of more than %zu bytes", host, HEAD_MAX_BYTES);
        return HEAD_BAD;
    }
    struct str s = trim((struct str){ line, n });
    if (!r->status_line && str_starts(s, STR("HTTP/"))) {
        status_line(r, s);
        return HEAD_MORE;
    }
    if (s.n)
        return r->status_line ? one_header(r, s, host, e) : HEAD_MORE;
    if (r->head.status < 200) {
        r->status_line = false;
        return HEAD_MORE;
    }
    r->head.accepts_ranges |= r->head.has_range;
    r->head.ends = r->head.has_length || r->chunked;
    if (r->chunked) {
        r->head.has_length = false;
        r->head.length = 0;
    }
    return HEAD_DONE;
}

/* ---- addresses ------------------------------------------------------------------------------- */

struct net4 {
    uint32_t net;
    unsigned bits; /* 1 to 32 */
};

static bool within4(uint32_t a, const struct net4 *n)
{
    return (a ^ n->net) >> (32 - n->bits) == 0;
}

static bool public4(uint32_t a)
{
    static const struct net4 ours[] = {
        { 0x00000000, 8 },  /* this network */
        { 0x0a000000, 8 },  /* private */
        { 0x64400000, 10 }, /* shared, behind a carrier's NAT */
        { 0x7f000000, 8 },  /* loopback */
        { 0xa9fe0000, 16 }, /* link-local */
        { 0xac100000, 12 }, /* private */
        { 0xc0000000, 24 }, /* protocol assignments */
        { 0xc0a80000, 16 }, /* private */
        { 0xc6120000, 15 }, /* benchmarking */
        { 0xe0000000, 3 },  /* multicast, reserved, broadcast */
    };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (within4(a, &ours[i]))
            return false;
    return true;
}

static uint32_t word(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool public6(const uint8_t a[16])
{
    static const uint8_t zero[16];
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return public4(word(a + 12));
    if (memcmp(a, zero, 12) == 0) /* ::, ::1 and the old compatible ones */
        return false;
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return public4(word(a + 2));
    bool unique_local = (a[0] & 0xfe) == 0xfc;
    bool link_local = a[0] == 0xfe && (a[1] & 0x80) == 0x80; /* and the old site-local ones */
    return !unique_local && !link_local && a[0] != 0xff;
}

bool address_is_public(const struct sockaddr *sa)
{
    if (sa->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, sa, sizeof v4);
        return public4(ntohl(v4.sin_addr.s_addr));
    }
    if (sa->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, sa, sizeof v6);
        return public6(v6.sin6_addr.s6_addr);
    }
    return false;
}

/* Without an interface ("%eth0") and brackets. */
static bool parse_address(struct str text, uint8_t v4[4], uint8_t v6[16], bool *is4)
{
    char plain[INET6_ADDRSTRLEN];
    struct str address = text;
    if (text.n > 2 && text.p[0] == '[' && text.p[text.n - 1] == ']')
        text = address = (struct str){ text.p + 1, text.n - 2 };
    cut(&text, '%', &address);
    if (address.n >= sizeof plain)
        return false;
    memcpy(plain, address.p, address.n);
    plain[address.n] = '\0';
    *is4 = inet_pton(AF_INET, plain, v4) == 1;
    return *is4 || inet_pton(AF_INET6, plain, v6) == 1;
}

bool address_text_is_public(const char *text)
{
    uint8_t v4[4], v6[16];
    bool is4;
    if (!parse_address(str_from(text), v4, v6, &is4))
        return false;
    return is4 ? public4(word(v4)) : public6(v6);
}

/* ---- proxies --------------------------------------------------------------------------------- */

static bool same_bits(const uint8_t *a, const uint8_t *b, uint64_t bits)
{
    size_t whole = (size_t)(bits / 8);
    unsigned rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (!rest || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

/* An address, or a network of them. */
static bool in_network(struct str entry, struct str host)
{
    uint8_t e4[4], e6[16], h4[4], h6[16];
    bool entry4, host4;
    struct str address = entry, bits = entry;
    uint64_t n;
    bool has_bits = cut(&bits, '/', &address);
    if (!parse_address(address, e4, e6, &entry4) || !parse_address(host, h4, h6, &host4) ||
        entry4 != host4)
        return false;
    uint64_t most = entry4 ? 32 : 128;
    if (!has_bits)
        n = most;
    else if (!head_number(bits, &n) || n > most)
        return false;
    return entry4 ? same_bits(e4, h4, n) : same_bits(e6, h6, n);
}

static bool names_host(struct str entry, struct str host)
{
    if (str_is(entry, "*"))
        return true;
    if (entry.n && entry.p[0] == '.')
        entry = (struct str){ entry.p + 1, entry.n - 1 };
    if (!entry.n || entry.n > host.n)
        return false;
    struct str tail = { host.p + host.n - entry.n, entry.n };
    return str_ieq(tail, entry) && (entry.n == host.n || host.p[host.n - entry.n - 1] == '.');
}

bool proxy_bypassed(const char *no_proxy, const char *host)
{
    struct str h = str_from(host);
    if (h.n && h.p[h.n - 1] == '.')
        h.n--;
    for (const char *p = no_proxy ? no_proxy : ""; *p;) {
        size_t n = strcspn(p, ", \t");
        struct str entry = { p, n };
        if (n && (names_host(entry, h) || in_network(entry, h)))
            return true;
        p += n + (p[n] != '\0');
    }
    return false;
}
