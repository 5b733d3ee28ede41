#include "cli/secrets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "runtime/base/json.h"

#define DEFAULT_HOST "registry.ollama.ai"
#define MAX_TOKEN 4096
#define MAX_CONFIG ((size_t)1 << 20)

/* ---- names ----------------------------------------------------------------------------------------- */

static struct str after_scheme(const char *name)
{
    const char *scheme = strstr(name, "://");
    return str_from(scheme ? scheme + 3 : name);
}

struct str secrets_host(const char *name)
{
    struct str s = after_scheme(name);
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    struct str first = { s.p, slash ? (size_t)(slash - s.p) : s.n };
    bool host = slash && (s.p != name || memchr(first.p, '.', first.n) || memchr(first.p, ':', first.n) ||
                          str_ieq(first, STR("localhost")));
    return host ? first : STR(DEFAULT_HOST);
}

bool secrets_is_hub(const char *name)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    struct str host = secrets_host(name);
    if (str_ieq(host, STR("hf.co")) || str_ieq(host, STR("huggingface.co")))
        return true;
    if (!endpoint || !*endpoint)
        return false;
    struct str own = after_scheme(endpoint);
    const char *slash = own.n ? memchr(own.p, '/', own.n) : NULL;
    return str_ieq(host, (struct str){ own.p, slash ? (size_t)(slash - own.p) : own.n });
}

/* ---- files ----------------------------------------------------------------------------------------- */

static bool read_file(const char *path, size_t max, struct buf *out)
{
    char bytes[4096];
    ssize_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    buf_init(out, max);
    while (fd >= 0 && !out->failed && ((n = read(fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR)))
        if (n > 0)
            buf_put(out, bytes, (size_t)n);
    if (fd >= 0)
        close(fd);
    return fd >= 0 && n == 0 && !out->failed;
}

static struct str trimmed(struct str s)
{
    while (s.n && strchr(" \t\r\n", s.p[s.n - 1]))
        s.n--;
    while (s.n && strchr(" \t\r\n", *s.p))
        s = (struct str){ s.p + 1, s.n - 1 };
    return s;
}

static struct str keep(struct secrets *s, struct str text)
{
    const char *p = text.n ? arena_strndup(&s->arena, text.p, text.n) : NULL;
    return (struct str){ p, p ? text.n : 0 };
}

/* ---- the hub --------------------------------------------------------------------------------------- */

/* Where the token's file is: the first of these whose variable is set. */
static const struct {
    const char *variable, *below;
} token_files[] = {
    { "HF_TOKEN_PATH", "" },
    { "HF_HOME", "/token" },
    { "XDG_CACHE_HOME", "/huggingface/token" },
    { "HOME", "/.cache/huggingface/token" },
};

static void find_hf_token(struct secrets *s)
{
    static const char *const variables[] = { "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN" };
    for (size_t i = 0; i < 2 && !s->hf_token.n; i++)
        s->hf_token = keep(s, trimmed(str_from(getenv(variables[i]))));
    for (size_t i = 0; i < sizeof token_files / sizeof *token_files && !s->hf_token.n; i++) {
        const char *base = getenv(token_files[i].variable);
        char path[4096];
        struct buf text;
        if (!base || !*base)
            continue;
        snprintf(path, sizeof path, "%s%s", base, token_files[i].below);
        if (read_file(path, MAX_TOKEN, &text))
            s->hf_token = keep(s, trimmed(buf_str(&text)));
        buf_finish(&text);
        break;
    }
}

/* ---- a registry ------------------------------------------------------------------------------------ */

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static bool base64_read(struct str s, struct buf *out)
{
    unsigned bits = 0, n = 0;
    while (s.n && s.p[s.n - 1] == '=')
        s.n--;
    for (size_t i = 0; i < s.n; i++) {
        int digit = base64_digit(s.p[i]);
        if (digit < 0)
            return false;
        bits = (bits << 6 | (unsigned)digit) & 0xffff;
        n += 6;
        if (n >= 8) {
            n -= 8;
            buf_putc(out, (char)(bits >> n & 0xff));
        }
    }
    return !out->failed;
}

/* "https://host/v1/" and "host" both are keys of docker's for one registry. */
static bool key_is(const char *key, struct str host)
{
    struct str s = after_scheme(key);
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    return str_ieq((struct str){ s.p, slash ? (size_t)(slash - s.p) : s.n }, host);
}

static void take_auth(struct secrets *s, const json_t *entry)
{
    const json_t *auth = json_object_get(entry, "auth");
    struct buf both;
    buf_init(&both, MAX_TOKEN);
    if (json_is_string(auth) &&
        base64_read((struct str){ json_string_value(auth), json_string_length(auth) }, &both)) {
        struct str text = buf_str(&both);
        const char *colon = text.n ? memchr(text.p, ':', text.n) : NULL;
        size_t n = colon ? (size_t)(colon - text.p) : 0;
        if (colon && !memchr(text.p, 0, text.n)) {
            s->username = keep(s, (struct str){ text.p, n });
            s->password = keep(s, (struct str){ colon + 1, text.n - n - 1 });
        }
    }
    buf_finish(&both);
}

static void find_in_docker(struct secrets *s, struct str host)
{
    const char *folder = getenv("DOCKER_CONFIG"), *user = getenv("HOME"), *key;
    char path[4096];
    struct buf text;
    json_t *root = NULL, *entry;
    if (folder && *folder)
        snprintf(path, sizeof path, "%s/config.json", folder);
    else
        snprintf(path, sizeof path, "%s/.docker/config.json", user ? user : "");
    if (read_file(path, MAX_CONFIG, &text) &&
        json_read(buf_str(&text), MAX_CONFIG, path, &root, NULL) == ERR_OK)
        json_object_foreach(json_object_get(root, "auths"), key, entry)
            if (!s->username.n && key_is(key, host))
                take_auth(s, entry);
    json_decref(root);
    buf_finish(&text);
}

static void find_registry_user(struct secrets *s, struct str host, bool named)
{
    find_in_docker(s, host);
    if (s->username.n || !named || str_is(host, DEFAULT_HOST))
        return;
    s->username = keep(s, str_from(getenv("HEARTH_REGISTRY_USER")));
    s->password = keep(s, str_from(getenv("HEARTH_REGISTRY_PASSWORD")));
}

/* ---- both ------------------------------------------------------------------------------------------ */

/* A name such as 127.example.org is not loopback: only an address is. */
static bool near(const struct reach *r)
{
    const struct reach_target *t = &r->named;
    struct in_addr v4;
    return !r->has_named || t->kind == REACH_UNIX || strcasecmp(t->host, "localhost") == 0 ||
           strcmp(t->host, "::1") == 0 ||
           (inet_pton(AF_INET, t->host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static void find_secrets(const struct reach *r, const char *name, bool named, struct secrets *out)
{
    if (!near(r))
        return;
    if (secrets_is_hub(name))
        find_hf_token(out);
    else
        find_registry_user(out, secrets_host(name), named);
}

void secrets_find(const struct reach *r, const char *name, struct secrets *out)
{
    find_secrets(r, name, true, out);
}

void secrets_find_kept(const struct reach *r, const char *source, struct secrets *out)
{
    find_secrets(r, source, false, out);
}

void secrets_finish(struct secrets *s)
{
    arena_finish(&s->arena);
    *s = (struct secrets){ 0 };
}
