#include "daemon/auth.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"

#define KEY_FILE_MAX 65536

static enum err_code read_keys(const char *path, char **out, struct err *e)
{
    enum err_code c = ERR_OK;
    char *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        c = err_errno(e, ERR_IO, errno, "reading the API keys of %s", path);
        goto out;
    }
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) || st.st_size > KEY_FILE_MAX) {
        c = err_set(e, ERR_USAGE, "%s must be a file of mode 0600 with API keys, one a line", path);
        goto out;
    }
    text = mem_zero((size_t)st.st_size + 1, 1);
    if (!text) {
        c = err_no_memory(e, (size_t)st.st_size, "API keys");
        goto out;
    }
    ssize_t n = read(fd, text, (size_t)st.st_size);
    if (n < 0)
        c = err_errno(e, ERR_IO, errno, "reading the API keys of %s", path);
    else if (strspn(text, " \t\r\n") == strlen(text))
        c = err_set(e, ERR_USAGE, "%s holds no API key", path);
out:
    if (fd >= 0)
        close(fd);
    if (c) {
        mem_free(text);
        text = NULL;
    }
    *out = text;
    return c;
}

enum err_code auth_init(struct auth *a, const char *allow_host, const char *origins,
                        const char *api_key_file, struct err *e)
{
    *a = (struct auth){ .allow_host = allow_host, .origins = origins };
    return *api_key_file ? read_keys(api_key_file, &a->keys, e) : ERR_OK;
}

void auth_finish(struct auth *a)
{
    mem_free(a->keys);
    *a = (struct auth){ 0 };
}

/* Takes the next item of a comma-separated list off its front. */
static bool next_item(const char **list, struct str *item)
{
    while (**list == ',' || **list == ' ')
        (*list)++;
    const char *p = *list;
    size_t n = strcspn(p, ",");
    *list = p + n;
    while (n && (p[n - 1] == ' ' || p[n - 1] == '/'))
        n--;
    *item = (struct str){ p, n };
    return n > 0;
}

static bool listed(const char *list, struct str s)
{
    struct str item;
    while (next_item(&list, &item))
        if (str_ieq(item, s))
            return true;
    return false;
}

/* ---- Host ------------------------------------------------------------------------------------ */

/* name[:port] or [v6][:port]; the name without brackets and without a root dot. */
static bool split_host(struct str host, struct str *name, bool *is_v6)
{
    *is_v6 = host.n && host.p[0] == '[';
    const char *close = *is_v6 ? memchr(host.p, ']', host.n) : NULL;
    if (*is_v6 && !close)
        return false;
    size_t n = 0;
    if (*is_v6) {
        *name = (struct str){ host.p + 1, (size_t)(close - host.p) - 1 };
        n = name->n + 2;
    } else {
        while (n < host.n && host.p[n] != ':')
            n++;
        *name = (struct str){ host.p, n };
    }
    if (n < host.n) { /* :port */
        if (host.p[n] != ':' || host.n - n > 6)
            return false;
        for (size_t i = n + 1; i < host.n; i++)
            if (host.p[i] < '0' || host.p[i] > '9')
                return false;
    }
    for (size_t i = 0; i < name->n; i++) {
        char c = name->p[i];
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!word && !(*is_v6 ? c == ':' || c == '.' : c == '.' || c == '-' || c == '_'))
            return false;
    }
    if (!*is_v6 && name->n > 1 && name->p[name->n - 1] == '.')
        name->n--;
    return name->n > 0 && name->n <= 253;
}

/* An address as 16 bytes, IPv4 as ::ffff:a.b.c.d. */
static bool address_of(const struct sockaddr *a, unsigned char out[16])
{
    static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF };
    if (a && a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;
        memcpy(out, mapped, 12);
        memcpy(out + 12, &in->sin_addr, 4);
        return true;
    }
    if (a && a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)a;
        memcpy(out, &in->sin6_addr, 16);
        return true;
    }
    return false;
}

static bool parse_address(struct str name, bool is_v6, unsigned char out[16])
{
    char text[INET6_ADDRSTRLEN];
    if (name.n >= sizeof text)
        return false;
    memcpy(text, name.p, name.n);
    text[name.n] = '\0';
    if (is_v6)
        return inet_pton(AF_INET6, text, out) == 1;
    struct sockaddr_in in = { .sin_family = AF_INET };
    return inet_pton(AF_INET, text, &in.sin_addr) == 1 && address_of((const void *)&in, out);
}

static bool is_loopback_bytes(const unsigned char a[16])
{
    static const unsigned char zero[15] = { 0 };
    static const unsigned char mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF };
    if (memcmp(a, mapped, 12) == 0)
        return a[12] == 127;
    return memcmp(a, zero, 15) == 0 && a[15] == 1;
}

bool auth_is_loopback(const struct sockaddr *a)
{
    unsigned char b[16];
    return address_of(a, b) && is_loopback_bytes(b);
}

static bool is_own_address(const unsigned char a[16], const struct sockaddr *local)
{
    unsigned char b[16];
    if (address_of(local, b) && memcmp(a, b, 16) == 0)
        return true;
    struct ifaddrs *list;
    if (getifaddrs(&list))
        return false;
    bool own = false;
    for (const struct ifaddrs *i = list; i && !own; i = i->ifa_next)
        own = address_of(i->ifa_addr, b) && memcmp(a, b, 16) == 0;
    freeifaddrs(list);
    return own;
}

int auth_host(const struct auth *a, struct str host, const struct sockaddr *local, struct err *e)
{
    struct str name;
    bool is_v6;
    unsigned char b[16];
    if (!split_host(host, &name, &is_v6)) {
        err_set(e, ERR_INVALID, "the Host header is missing or malformed");
        return 400;
    }
    if (parse_address(name, is_v6, b)) {
        if (is_loopback_bytes(b) || is_own_address(b, local))
            return 0;
    } else if (is_v6) {
        err_set(e, ERR_INVALID, "the Host header is malformed");
        return 400;
    } else {
        struct str tail = name.n > 10 ? (struct str){ name.p + name.n - 10, 10 } : name;
        if (str_ieq(name, STR("localhost")) || str_ieq(tail, STR(".localhost")))
            return 0;
    }
    if (listed(a->allow_host, name))
        return 0;
    err_set(e, ERR_FORBIDDEN,
            "this daemon does not answer to the host name '%.*s'; hearthd --allow-host adds one",
            (int)(name.n < 100 ? name.n : 100), name.p);
    return 421;
}

/* ---- Origin ---------------------------------------------------------------------------------- */

int auth_page(const struct auth *a, const struct auth_page *p, struct err *e)
{
    if (p->has_origin && !listed(a->origins, p->origin)) {
        err_set(e, ERR_FORBIDDEN, "web pages of this origin may not call; hearthd --origins adds one");
        return 403;
    }
    if (!p->has_origin &&
        (str_ieq(p->fetch_site, STR("cross-site")) || str_ieq(p->fetch_site, STR("same-site")))) {
        err_set(e, ERR_FORBIDDEN, "other web pages may not call; hearthd --origins adds an origin");
        return 403;
    }
    struct str type = p->content_type;
    for (size_t i = 0; i < type.n; i++)
        if (type.p[i] == ';' || type.p[i] == ' ')
            type.n = i;
    if (p->has_origin && p->takes_body && !str_ieq(type, STR("application/json"))) {
        err_set(e, ERR_FORBIDDEN, "a web page must send Content-Type: application/json");
        return 415;
    }
    return 0;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* Without an early way out: time tells nothing about where they differ. */
static bool same_key(struct str a, struct str b)
{
    unsigned diff = a.n != b.n;
    for (size_t i = 0; i < a.n; i++)
        diff |= (unsigned char)a.p[i] ^ (unsigned char)(b.n ? b.p[i % b.n] : 0);
    return diff == 0;
}

bool auth_key(const struct auth *a, struct str authorization, struct str x_api_key)
{
    struct str key = x_api_key;
    if (authorization.n > 7 && str_ieq((struct str){ authorization.p, 7 }, STR("Bearer ")))
        key = (struct str){ authorization.p + 7, authorization.n - 7 };
    bool found = false;
    for (const char *p = a->keys; *p;) {
        size_t n = strcspn(p, "\r\n");
        struct str line = { p, n };
        while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t'))
            line.n--;
        if (line.n && key.n && *line.p != '#')
            found |= same_key(key, line);
        p += n;
        p += strspn(p, "\r\n");
    }
    return found;
}
