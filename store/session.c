#include "store/session.h"

#include <string.h>
#include <time.h>

#include <openssl/rand.h>

#include "runtime/base/clock.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "store/keys.h"
#include "store/web.h"

#define MAX_PAUSE_S 30
#define TOKEN_TEXT_MAX 32768
#define TOKEN_SECONDS 60          /* where the reply does not say */
#define EXPIRES_EARLY_NS (10 * INT64_C(1000000000))

/* Registries that are asked elsewhere than their name says, or have their tokens made elsewhere. */
static const struct place {
    const char *host, *api, *realm;
    bool shown_key;
} places[] = {
    { "docker.io", "registry-1.docker.io", "auth.docker.io", false },
    { "index.docker.io", "registry-1.docker.io", "auth.docker.io", false },
    { "registry-1.docker.io", NULL, "auth.docker.io", false },
    { "registry.gitlab.com", NULL, "gitlab.com", false },
    { NAME_DEFAULT_HOST, NULL, NULL, true },
};

static const struct place *place_of(const char *host)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (str_ieq(str_from(host), str_from(places[i].host)))
            return &places[i];
    return NULL;
}

/* Is `want` an element of "a,b,c"? */
static bool listed(const char *list, struct str want)
{
    for (const char *p = list ? list : ""; *p;) {
        size_t n = strcspn(p, ", ");
        if (n && str_ieq((struct str){ p, n }, want))
            return true;
        p += n + (p[n] != '\0');
    }
    return false;
}

static enum err_code no_memory(struct err *e)
{
    return err_no_memory(e, 0, "talking to a registry");
}

static bool has_login(const struct session *s)
{
    return s->secrets && s->secrets->username && s->secrets->username[0];
}

/* ---- waiting --------------------------------------------------------------------------------- */

enum err_code session_rest(const struct session *s, int64_t ms, struct err *e)
{
    int64_t until = clock_ns() + ms * 1000000;
    for (int64_t left = until - clock_ns(); left > 0; left = until - clock_ns()) {
        struct timespec t = { .tv_nsec = left < 50000000 ? left : 50000000 };
        if (store_job_cancelled(s->job))
            return err_set(e, ERR_CANCELLED, "cancelled");
        nanosleep(&t, NULL);
    }
    return ERR_OK;
}

/* ---- what a refusal says --------------------------------------------------------------------- */

/* Text from outside as it can stand in a sentence. */
static void put_printable(struct buf *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n && out->n < out->max;) {
        uint32_t cp = 0;
        size_t step = utf8_step(p + i, n - i, &cp);
        bool plain = step && cp >= ' ' && (cp < 0x7f || cp > 0x9f) && !(cp >= 0x2028 && cp <= 0x202e) &&
                     !(cp >= 0x2066 && cp <= 0x2069);
        if (plain && out->n + step <= out->max)
            buf_put(out, p + i, step);
        else if (plain)
            return;
        else
            buf_putc(out, '?');
        i += step ? step : 1;
    }
}

/* {"errors": [{"code", "message"}]}, or a token server's {"details"} or {"error"}. */
static void read_message(struct str body, struct buf *out)
{
    json_t *tree = NULL;
    if (json_read(body, SESSION_ERROR_MAX, "an error's reply", &tree, NULL))
        return;
    const json_t *first = json_array_get(json_object_get(tree, "errors"), 0);
    const json_t *texts[] = { json_object_get(first, "message"), json_object_get(first, "code"),
                              json_object_get(tree, "error_description"),
                              json_object_get(tree, "details"), json_object_get(tree, "message"),
                              json_object_get(tree, "error") };
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !out->n; i++)
        if (json_is_string(texts[i]))
            put_printable(out, json_string_value(texts[i]), json_string_length(texts[i]));
    json_decref(tree);
}

static const struct {
    int status;
    enum err_code code;
    const char *says;
} refusals[] = {
    { 401, ERR_FORBIDDEN, "wants a name and a password, or has refused those it was given, for" },
    { 403, ERR_FORBIDDEN, "has refused" },
    { 404, ERR_NOT_FOUND, "does not have" },
    { 405, ERR_FORBIDDEN, "does not allow" },
    { 413, ERR_TOO_LARGE, "takes no more bytes for" },
    { 429, ERR_IO, "is asked too often, lastly for" },
};

enum err_code session_refused(const struct session *s, int status, struct str body, const char *what,
                              struct err *e)
{
    struct buf message;
    enum err_code code = status >= 500 ? ERR_IO : ERR_FORMAT;
    const char *says = NULL;
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (refusals[i].status == status) {
            says = refusals[i].says;
            code = refusals[i].code;
        }
    buf_init(&message, 200);
    read_message(body, &message);
    const char *colon = message.n ? ": " : "", *text = message.n ? message.p : "";
    if (says)
        err_set(e, code, "the registry %s %s %s%s%s", s->host, says, what, colon, text);
    else
        err_set(e, code, "the registry %s answered %d when asked for %s%s%s", s->host, status, what, colon,
                text);
    buf_finish(&message);
    return code;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

enum trust { TRUST_NONE, TRUST_ANYBODY, TRUST_LOGIN };

static bool is_number(struct str label)
{
    for (size_t i = 0; i < label.n; i++)
        if (label.p[i] < '0' || label.p[i] > '9')
            return false;
    return true;
}

/* registry.example.com and example.com or git.example.com; never for addresses, nor under a
 * domain of one label. */
static bool same_parent(struct str host, struct str realm)
{
    const char *dot = memchr(host.p, '.', host.n);
    struct str parent = { dot ? dot + 1 : host.p, dot ? host.n - (size_t)(dot + 1 - host.p) : 0 };
    const char *last = parent.n ? memrchr(parent.p, '.', parent.n) : NULL;
    if (!last || is_number((struct str){ last + 1, (size_t)(parent.p + parent.n - last - 1) }))
        return false;
    if (realm.n == parent.n)
        return str_ieq(realm, parent);
    return realm.n > parent.n && realm.p[realm.n - parent.n - 1] == '.' &&
           str_ieq((struct str){ realm.p + realm.n - parent.n, parent.n }, parent);
}

/* "REGISTRY=HOST" of the user's settings, or of the table. */
static bool is_paired(const struct session *s, struct str realm)
{
    const struct place *p = place_of(s->host);
    char pair[2 * NAME_HOST_MAX + 2];
    if (p && str_ieq(realm, str_from(p->realm)))
        return true;
    struct buf b;
    buf_init(&b, sizeof pair - 1);
    buf_printf(&b, "%s=", s->host);
    buf_put(&b, realm.p, realm.n);
    bool found = !b.failed && listed(s->store->net.realms, buf_str(&b));
    buf_finish(&b);
    return found;
}

static enum trust trust_of(const struct session *s, const struct origin *realm)
{
    struct origin own;
    if (!origin_of(str_from(s->url), &own))
        return TRUST_NONE;
    if (!realm->https)
        return s->plain && origin_eq(realm, &own) ? TRUST_LOGIN : TRUST_NONE;
    if (str_ieq(realm->host, own.host) || is_paired(s, realm->host))
        return TRUST_LOGIN;
    return same_parent(own.host, realm->host) ? TRUST_ANYBODY : TRUST_NONE;
}

static enum err_code check_realm(const struct session *s, struct err *e)
{
    struct origin realm;
    if (!origin_of(str_from(s->challenge.realm), &realm) || strchr(s->challenge.realm, '#'))
        return err_set(e, ERR_FORMAT, "the registry %s names a realm for its tokens that is no URL", s->host);
    enum trust trust = trust_of(s, &realm);
    if (trust == TRUST_LOGIN || (trust == TRUST_ANYBODY && !has_login(s)))
        return ERR_OK;
    if (!realm.https)
        return err_set(e, ERR_FORBIDDEN, "the registry %s has its tokens made at %.*s, by plain http: it was "
                       "not asked",
                       s->host, (int)realm.text.n, realm.text.p);
    return err_set(e, ERR_FORBIDDEN,
                   "the registry %s has its tokens made at %.*s, which is another host: it was not asked, and "
                   "nothing was sent there (hearthd --realms %s=%.*s allows it)",
                   s->host, (int)realm.host.n, realm.host.p, s->host, (int)realm.host.n, realm.host.p);
}

static void put_query(struct buf *url, const char *key, struct str value)
{
    buf_putc(url, url->n && memchr(url->p, '?', url->n) ? '&' : '?');
    buf_printf(url, "%s=", key);
    origin_escape(url, value);
}

/* Each of the scopes, which blanks stand between. */
static void put_scopes(struct buf *url, const char *scopes)
{
    for (const char *p = scopes; *p;) {
        size_t n = strcspn(p, " ");
        if (n)
            put_query(url, "scope", (struct str){ p, n });
        p += n + (p[n] != '\0');
    }
}

static bool is_shown_key(const struct session *s)
{
    const struct place *p = place_of(s->host);
    return !has_login(s) &&
           ((p && p->shown_key) || listed(s->store->net.key_hosts, str_from(s->host)));
}

static bool put_nonce(struct buf *url)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[16];
    char text[2 * sizeof bytes];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    for (size_t i = 0; i < sizeof bytes; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    put_query(url, "nonce", (struct str){ text, sizeof text });
    return true;
}

/* The token server's URL. Keys in the order of the alphabet, as the signature's reader makes them. */
static enum err_code make_token_url(const struct session *s, bool key, struct buf *url, struct err *e)
{
    char scope[2 * NAME_PART_MAX + 64];
    snprintf(scope, sizeof scope, "repository:%s:%s", s->path, s->push ? "pull,push" : "pull");
    buf_puts(url, s->challenge.realm);
    if (key && !put_nonce(url))
        return err_set(e, ERR_INTERNAL, "making a nonce for a token");
    put_scopes(url, s->challenge.scope[0] ? s->challenge.scope : scope);
    if (s->challenge.service[0] || key)
        put_query(url, "service", str_from(s->challenge.service));
    if (key) {
        char seconds[24];
        snprintf(seconds, sizeof seconds, "%lld", (long long)(clock_wall_ns() / 1000000000));
        put_query(url, "ts", str_from(seconds));
    }
    return url->failed ? no_memory(e) : ERR_OK;
}

/* Ollama's: method, URL and the digest of the empty body, signed. */
static enum err_code sign_request(const struct session *s, struct str url, struct buf *out, struct err *e)
{
    static const char empty[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    struct buf text;
    buf_init(&text, url.n + 256);
    buf_puts(&text, "GET,");
    buf_put(&text, url.p, url.n);
    buf_putc(&text, ',');
    keys_base64(&text, empty, sizeof empty - 1);
    enum err_code code = text.failed ? no_memory(e) : keys_sign(s->store, buf_str(&text), out, e);
    buf_finish(&text);
    return code;
}

static enum err_code put_basic(const struct session *s, struct buf *out, struct err *e)
{
    struct buf both;
    const char *password = s->secrets->password ? s->secrets->password : "";
    if (strchr(s->secrets->username, ':'))
        return err_set(e, ERR_INVALID, "the user name for the registry %s may not hold a ':'", s->host);
    buf_init(&both, 8192);
    buf_printf(&both, "%s:%s", s->secrets->username, password);
    buf_puts(out, "Basic ");
    keys_base64(out, both.p, both.failed ? 0 : both.n);
    bool failed = both.failed || out->failed;
    if (both.p)
        memset(both.p, 0, both.n);
    buf_finish(&both);
    return failed ? err_set(e, ERR_INVALID, "the user name and the password for the registry %s are too long",
                            s->host)
                  : ERR_OK;
}

static enum err_code keep_token(struct session *s, const json_t *tree, struct err *e)
{
    const json_t *token = json_object_get(tree, "token"), *life = json_object_get(tree, "expires_in");
    if (!json_is_string(token) || !json_string_length(token))
        token = json_object_get(tree, "access_token");
    size_t n = json_is_string(token) ? json_string_length(token) : 0;
    const char *text = n ? json_string_value(token) : "";
    bool good = n > 0 && n <= TOKEN_TEXT_MAX;
    for (size_t i = 0; good && i < n; i++)
        good = text[i] > ' ' && text[i] <= '~';
    if (!good)
        return err_set(e, ERR_FORMAT, "the token that was made for the registry %s is none that can be sent",
                       s->host);
    char *value = arena_zero(s->arena, n + 8, 1);
    if (!value)
        return no_memory(e);
    memcpy(value, "Bearer ", 7);
    memcpy(value + 7, text, n);
    json_int_t seconds = json_is_integer(life) ? json_integer_value(life) : TOKEN_SECONDS;
    seconds = seconds < TOKEN_SECONDS ? TOKEN_SECONDS : seconds > 86400 ? 86400 : seconds;
    s->authorization = value;
    s->expires_ns = clock_ns() + (int64_t)seconds * 1000000000;
    return ERR_OK;
}

static enum err_code read_token(struct session *s, const struct transfer *x, struct str body,
                                struct err *e)
{
    json_t *tree = NULL;
    if (x->head.status != 200) {
        enum err_code code = session_refused(s, x->head.status, body, "a token", e);
        return code != ERR_NOT_FOUND
                   ? code
                   : err_set(e, ERR_FORMAT, "the registry %s has its tokens made where none are", s->host);
    }
    enum err_code code = json_read(body, SESSION_TOKEN_MAX, "the token server's reply", &tree, e);
    if (code)
        return err_set(e, ERR_FORMAT, "the token that was made for the registry %s came in no JSON", s->host);
    code = keep_token(s, tree, e);
    json_decref(tree);
    return code;
}

static enum err_code fetch(struct session *s, const struct transport_request *r, unsigned tries,
                           struct buf *body, struct transfer **out, struct err *e);

static enum err_code fetch_token(struct session *s, const char *url, const char *authorization,
                                 struct err *e)
{
    struct transport_request r = { .url = url,
                                   .authorization = authorization,
                                   .plain = s->plain,
                                   .no_redirect = true,
                                   .max_body = SESSION_TOKEN_MAX,
                                   .body_fd = -1 };
    struct transfer *x = NULL;
    struct buf body;
    enum err_code code = fetch(s, &r, 3, &body, &x, e);
    if (code)
        return code;
    code = read_token(s, x, buf_str(&body), e);
    transport_end(s->transport, x);
    buf_finish(&body);
    return code;
}

static enum err_code get_token(struct session *s, struct err *e)
{
    struct buf url, credential;
    bool key = is_shown_key(s);
    enum err_code code = check_realm(s, e);
    if (code)
        return code;
    buf_init(&url, 16384);
    buf_init(&credential, 16384);
    code = make_token_url(s, key, &url, e);
    if (!code && key)
        code = sign_request(s, buf_str(&url), &credential, e);
    else if (!code && has_login(s))
        code = put_basic(s, &credential, e);
    if (!code)
        code = fetch_token(s, url.p, credential.n ? credential.p : NULL, e);
    if (code == ERR_FORBIDDEN && key)
        err_prefix(e, "the store's public key (keys/id_ed25519.pub) is not known there");
    buf_finish(&url);
    buf_finish(&credential);
    return code;
}

static enum err_code get_basic(struct session *s, struct err *e)
{
    struct buf b;
    if (!has_login(s))
        return err_set(e, ERR_FORBIDDEN, "the registry %s wants a name and a password", s->host);
    buf_init(&b, 16384);
    enum err_code code = put_basic(s, &b, e);
    s->authorization = code ? NULL : arena_strndup(s->arena, b.p, b.n);
    s->expires_ns = 0;
    buf_finish(&b);
    return code || s->authorization ? code : no_memory(e);
}

/* Answers the last challenge. */
static enum err_code answer(struct session *s, struct err *e)
{
    s->authorization = NULL;
    switch (s->challenge.kind) {
    case CHALLENGE_BEARER:
        return get_token(s, e);
    case CHALLENGE_BASIC:
        return get_basic(s, e);
    case CHALLENGE_NONE:
        break;
    }
    return err_set(e, ERR_FORBIDDEN, "the registry %s wants a credential, but of no kind that is known here "
                   "(Bearer, Basic)",
                   s->host);
}

static enum err_code take_challenge(struct session *s, const struct transfer *x, struct err *e)
{
    enum err_code code = challenge_parse(str_from(x->head.www_authenticate), &s->challenge, e);
    s->challenged = !code;
    if (code)
        err_prefix(e, "the registry %s", s->host);
    return code;
}

/* ---- requests -------------------------------------------------------------------------------- */

/* How long to wait before the next try; -1: there is no use in one. */
static int64_t pause_ms(enum err_code code, const struct transfer *x, unsigned attempt)
{
    bool again = code == ERR_IO || code == ERR_TIMEOUT ||
                 (!code && (x->head.status == 429 || x->head.status >= 500));
    if (!again)
        return -1;
    long asked = code ? -1 : x->head.retry_after_s;
    if (asked > MAX_PAUSE_S) /* to come back sooner than it allows would be of no use */
        return -1;
    if (asked >= 0)
        return 1000 * (int64_t)asked;
    return (int64_t)250 << (attempt < 6 ? attempt : 6);
}

static enum err_code fetch(struct session *s, const struct transport_request *r, unsigned tries,
                           struct buf *body, struct transfer **out, struct err *e)
{
    const atomic_bool *cancel = s->job ? s->job->cancel : NULL;
    for (unsigned attempt = 0;; attempt++) {
        enum err_code code = transport_fetch(s->transport, r, cancel, body, out, e);
        int64_t ms = attempt + 1 < tries ? pause_ms(code, code ? NULL : *out, attempt) : -1;
        if (ms < 0)
            return code;
        if (!code) {
            transport_end(s->transport, *out);
            if (body)
                buf_finish(body);
        }
        code = session_rest(s, ms, e);
        if (code)
            return code;
    }
}

static bool is_own(const struct session *s, const char *url)
{
    struct origin own, to;
    return origin_of(str_from(s->url), &own) && origin_of(str_from(url), &to) && origin_eq(&own, &to);
}

enum err_code session_ask(struct session *s, const struct transport_request *r, unsigned tries,
                          struct buf *body, struct transfer **out, struct err *e)
{
    struct transport_request mine = *r;
    bool own = is_own(s, r->url);
    mine.plain = s->plain && own;
    for (bool answered = false;; answered = true) {
        const char *value = NULL;
        enum err_code code = own && s->challenged ? session_authorize(s, false, &value, e) : ERR_OK;
        mine.authorization = value;
        if (!code)
            code = fetch(s, &mine, tries, body, out, e);
        if (code || (*out)->head.status != 401 || !own || answered)
            return code;
        code = take_challenge(s, *out, e);
        transport_end(s->transport, *out);
        if (body)
            buf_finish(body);
        if (!code)
            code = answer(s, e);
        if (code)
            return code;
    }
}

/* What the registry wants, found out by its root: for a caller who saw a 401 that we did not. */
static enum err_code probe(struct session *s, struct err *e)
{
    struct buf url;
    struct transfer *x = NULL;
    buf_init(&url, 1024);
    buf_printf(&url, "%s/v2/", s->url);
    struct transport_request r = { .url = url.p, .max_body = SESSION_ERROR_MAX, .plain = s->plain, .body_fd = -1 };
    enum err_code code = url.failed ? no_memory(e) : fetch(s, &r, 3, NULL, &x, e);
    if (!code && x->head.status == 401)
        code = take_challenge(s, x, e);
    transport_end(s->transport, x);
    buf_finish(&url);
    return code;
}

enum err_code session_authorize(struct session *s, bool refused, const char **value, struct err *e)
{
    bool late = s->expires_ns && clock_ns() + EXPIRES_EARLY_NS > s->expires_ns;
    enum err_code code = ERR_OK;
    if (refused && !s->challenged)
        code = probe(s, e);
    if (!code && ((refused && s->challenged) || (s->authorization && late)))
        code = answer(s, e);
    *value = code ? NULL : s->authorization;
    return code;
}

/* ---- the beginning --------------------------------------------------------------------------- */

static enum err_code set_url(struct session *s, const char *scheme, struct err *e)
{
    const struct place *p = place_of(s->host);
    struct buf url;
    buf_init(&url, NAME_HOST_MAX + 16);
    buf_printf(&url, "%s://%s", scheme, p && p->api ? p->api : s->host);
    s->url = url.failed ? NULL : arena_strndup(s->arena, url.p, url.n);
    buf_finish(&url);
    return s->url ? ERR_OK : no_memory(e);
}

/* Is there https at all? What cannot be reached by it is then asked by http. */
static enum err_code choose_scheme(struct session *s, struct err *e)
{
    struct buf url;
    struct err why = { 0 };
    struct transfer *x = NULL;
    buf_init(&url, 1024);
    buf_printf(&url, "%s/v2/", s->url);
    struct transport_request r = { .url = url.p, .max_body = SESSION_ERROR_MAX, .body_fd = -1 };
    enum err_code code = url.failed ? no_memory(e) : fetch(s, &r, 1, NULL, &x, &why);
    transport_end(s->transport, x);
    buf_finish(&url);
    if (code == ERR_CANCELLED || code == ERR_NO_MEMORY)
        return code == ERR_CANCELLED ? err_set(e, code, "cancelled") : no_memory(e);
    if (!code)
        return ERR_OK;
    log_line(LOG_WARN, "msg=\"a registry is asked by plain http\" registry=%s why=\"%s\"", s->host, why.text);
    s->plain = true;
    return set_url(s, "http", e);
}

enum err_code session_open(struct session *s, const struct name *n, bool insecure, struct err *e)
{
    char path[NAME_PART_MAX + NAME_HUB_REPO_MAX + 2];
    if (n->http && !insecure && !web_is_loopback((struct str){ n->host, strcspn(n->host, ":") }))
        return err_set(e, ERR_INVALID,
                       "http://%s is neither encrypted nor proven to be %s: --insecure allows it", n->host,
                       n->host);
    snprintf(path, sizeof path, "%s/%s", n->namespace, n->model);
    s->host = arena_strndup(s->arena, n->host, strlen(n->host));
    s->path = arena_strndup(s->arena, path, strlen(path));
    s->plain = n->http;
    if (!s->host || !s->path)
        return no_memory(e);
    enum err_code code = set_url(s, n->http ? "http" : "https", e);
    if (code || n->http || !insecure)
        return code;
    code = transport_trust(s->transport, s->url, e);
    return code ? code : choose_scheme(s, e);
}
