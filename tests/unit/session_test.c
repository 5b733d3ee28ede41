/* challenge, origin: what a registry says of its tokens, and where URLs lead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "store/challenge.h"
#include "store/origin.h"
#include "store/session.h"
#include "store/store_priv.h"

static void challenges(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        enum challenge_kind kind;
        const char *realm, *service, *scope;
    } rows[] = {
        { "", CHALLENGE_NONE, "", "", "" },
        { "Bearer realm=\"https://a/t\",service=\"s\",scope=\"x y\"", CHALLENGE_BEARER, "https://a/t", "s", "x y" },
        { "bearer REALM=\"https://a/t\" , Service=s", CHALLENGE_BEARER, "https://a/t", "s", "" },
        { "Bearer realm = \"a\\\"b\\\\c\"", CHALLENGE_BEARER, "a\"b\\c", "", "" },
        { "Bearer realm=\"a\",realm=\"b\"", CHALLENGE_BEARER, "a", "", "" },
        { "Bearer realm=\"a\",error=\"insufficient_scope\",x=y", CHALLENGE_BEARER, "a", "", "" },
        { "Basic realm=\"r, s\"", CHALLENGE_BASIC, "r, s", "", "" },
        { "Basic", CHALLENGE_BASIC, "", "", "" },
        { "Basic realm=\"b\", Bearer realm=\"a\",service=\"s\"", CHALLENGE_BEARER, "a", "s", "" },
        { "Bearer realm=\"a\", Basic realm=\"b\"", CHALLENGE_BEARER, "a", "", "" },
        { "Negotiate, Basic realm=\"b\"", CHALLENGE_BASIC, "b", "", "" },
        { "Negotiate YII+/abc==, Basic realm=\"b\"", CHALLENGE_BASIC, "b", "", "" },
        { "Negotiate YII== , Basic realm=\"b\"", CHALLENGE_BASIC, "b", "", "" },
        { "Digest realm=\"d\", nonce=\"n\", Bearer realm=\"a\"", CHALLENGE_BEARER, "a", "", "" },
        { "Digest realm=\"d\"", CHALLENGE_NONE, "d", "", "" },
        { ",, Basic realm=\"b\" ,", CHALLENGE_BASIC, "b", "", "" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct challenge c;
        struct err e = { 0 };
        if (challenge_parse(str_from(rows[i].header), &c, &e))
            fail_msg("%s: %s", rows[i].header, e.text);
        if (c.kind != rows[i].kind)
            fail_msg("%s: kind %d", rows[i].header, (int)c.kind);
        if (c.kind == CHALLENGE_NONE)
            continue;
        assert_string_equal(c.realm, rows[i].realm);
        assert_string_equal(c.service, rows[i].service);
        assert_string_equal(c.scope, rows[i].scope);
    }
}

static void broken_challenges(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "Bearer", "Bearer service=\"s\"", "Bearer realm=\"\"", "Bearer realm=\"a", "Bearer realm=\"a\\",
        "Bearer realm=\"a\\\"", "Bearer realm=", "Bearer realm=,x=y", "Bearer realm=\"a\"b", "Bearer realm=\"a\" x=y",
        "Bearer realm=\"a\nb\"", "Bearer realm=\"caf\xc3\xa9\"", "Bearer \"realm\"", "=", "\"", "Bearer=x", "(x)",
        "Bearer realm=\"a\";x=y", "Bearer realm=\"a\",service=", "Bearer realm=\"a\",service=,x=y", "Bearer realm=\"a\",=x",
        "Bearer realm=\"a\x7f\"", "Bearer realm=a\x7f", "Basic\trealm=\"b\"", "Negotiate ==",
    };
    struct challenge c;
    struct err e;
    char header[CHALLENGE_MAX + 64];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        e = (struct err){ 0 };
        if (challenge_parse(str_from(rows[i]), &c, &e) != ERR_FORMAT)
            fail_msg("'%s' got through", rows[i]);
        assert_true(strlen(e.text) > 10);
    }
    for (size_t over = 0; over < 2; over++) { /* a value at its limit, and one over */
        memset(header, 'x', sizeof header);
        memcpy(header, "Bearer realm=\"", 14);
        header[14 + CHALLENGE_VALUE_MAX + over] = '"';
        assert_int_equal(challenge_parse((struct str){ header, 15 + CHALLENGE_VALUE_MAX + over }, &c, NULL),
                         over ? ERR_FORMAT : ERR_OK);
    }
    for (size_t over = 0; over < 2; over++) { /* without quotes */
        memset(header, 'x', sizeof header);
        memcpy(header, "Bearer realm=", 13);
        assert_int_equal(challenge_parse((struct str){ header, 13 + CHALLENGE_VALUE_MAX + over }, &c, NULL),
                         over ? ERR_FORMAT : ERR_OK);
    }
    memset(header, ',', sizeof header);
    assert_int_equal(challenge_parse((struct str){ header, CHALLENGE_MAX }, &c, NULL), ERR_OK);
    assert_int_equal(challenge_parse((struct str){ header, CHALLENGE_MAX + 1 }, &c, NULL), ERR_FORMAT);
}

/* What stands behind the header in memory is none of it, wherever it ends. */
static void cut_challenges(void **state)
{
    (void)state;
    static const char whole[] = "Digest a=b, Negotiate YI/I==, Basic realm = \"b\\\"\", Bearer realm=\"a\",service=s";
    for (size_t n = 0; n < sizeof whole; n++) {
        char alone[sizeof whole] = "";
        struct challenge c = { 0 }, d = { 0 };
        memcpy(alone, whole, n);
        if (challenge_parse((struct str){ whole, n }, &c, NULL) != challenge_parse((struct str){ alone, n }, &d, NULL) ||
            c.kind != d.kind || strcmp(c.realm, d.realm) != 0 || strcmp(c.service, d.service) != 0)
            fail_msg("'%s' is not read alone", alone);
    }
}

/* Whatever bytes come: an end, and no byte in a value that could end a line. */
static void random_challenges(void **state)
{
    (void)state;
    static const char *const parts[] = { "Bearer ", "Basic ", "realm=", "\"", "a", ",", " ", "=", "\\", "service=\"s\"", "\t",
                                         "scope", "\x80", "\n", "Negotiate " };
    uint64_t x = 88172645463325252u;
    size_t through = 0;
    for (int round = 0; round < 200000; round++) {
        char text[128];
        size_t n = 0;
        for (;;) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            const char *part = parts[(x >> 20) % (sizeof parts / sizeof *parts)];
            if (x % 13 == 0 || n + strlen(part) > sizeof text)
                break;
            memcpy(text + n, part, strlen(part));
            n += strlen(part);
        }
        struct challenge c;
        if (challenge_parse((struct str){ text, n }, &c, NULL))
            continue;
        through++;
        assert_true(c.kind != CHALLENGE_BEARER || c.realm[0]);
        for (const char *p = c.realm; *p; p++)
            assert_true(*p >= ' ' && *p <= '~');
    }
    assert_true(through > 1000);
}

static void origins(void **state)
{
    (void)state;
    static const struct {
        const char *url, *host;
        unsigned port;
        bool https;
    } good[] = { { "https://a.b/c", "a.b", 443, true },        { "HTTP://A:80", "A", 80, false },
                 { "http://a:8080?x", "a", 8080, false },      { "https://a_b-c.d:1/#", "a_b-c.d", 1, true } };
    static const char *const bad[] = { "", "https://", "https:///x", "ftp://a/", "//a", "/x", "a", "https:/a", "https//a",
                                       "https://a b/", "https://u@a/", "https://u:p@a/", "https://a:/", "https://a:0/",
                                       "https://a:65536/", "https://a:1:2/", "https://[::1]/", "https://a\\b/", "https://a%2e/",
                                       "https://a\n/", "https://caf\xc3\xa9/", "httpss://a", "https://a:+1/", "https://a~b/", "https://a[b/",
                                       "https://a]b/", "https://a:000080/", "https://a:4294967376/", "https://a:8.0/" };
    struct origin o, p;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!origin_of(str_from(good[i].url), &o))
            fail_msg("%s", good[i].url);
        assert_true(str_is(o.host, good[i].host));
        assert_int_equal(o.port, good[i].port);
        assert_int_equal(o.https, good[i].https);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (origin_of(str_from(bad[i]), &o))
            fail_msg("'%s' got through", bad[i]);
    assert_true(origin_of(STR("https://A.b:443/x"), &o) && origin_of(STR("https://a.B/y"), &p) && origin_eq(&o, &p));
    assert_true(origin_of(STR("http://a.b:443/x"), &p) && !origin_eq(&o, &p));
    assert_true(origin_of(STR("https://a.b:444/x"), &p) && !origin_eq(&o, &p));
    assert_true(origin_of(STR("https://a.b.c/x"), &p) && !origin_eq(&o, &p));
}

static void joins(void **state)
{
    (void)state;
    static const struct {
        const char *location, *to; /* NULL: refused */
    } rows[] = { { "https://c/d?e", "https://c/d?e" }, { "/v2/x?y=z", "https://a.b:5/v2/x?y=z" }, { "/", "https://a.b:5/" },
                 { "//evil/x", NULL },  { "x/y", NULL },       { "", NULL },          { "file:///etc/passwd", NULL },
                 { "/a b", NULL },      { "/a\r\nX: y", NULL }, { "javascript:x", NULL }, { "/\\evil", NULL } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b;
        buf_init(&b, 100);
        bool good = origin_join(STR("https://a.b:5/p/q?r"), str_from(rows[i].location), &b);
        if (good != (rows[i].to != NULL))
            fail_msg("'%s'", rows[i].location);
        if (good)
            assert_string_equal(b.p, rows[i].to);
        buf_finish(&b);
    }
    struct buf b;
    buf_init(&b, 3);
    assert_false(origin_join(STR("https://a/"), STR("/abc"), &b));
    buf_finish(&b);
    buf_init(&b, 100);
    origin_escape(&b, STR("a-_.~Z9 /:,%&=+\xc3\n"));
    assert_string_equal(b.p, "a-_.~Z9+%2F%3A%2C%25%26%3D%2B%C3%0A");
    buf_finish(&b);
}

/* ---- who is asked for a token, and with what ------------------------------------------------------ */

/* A registry that wants a token, and whoever else is asked. */
struct places {
    struct transport base;
    const char *challenge;
    struct transfer x;
    struct transport_head head;
    unsigned elsewhere, basic; /* requests to others than the registry's own /v2/, and those with a login */
    bool redirects;            /* one of them would have followed a redirect */
};

static const char *const tokens[] = { "{\"token\":\"t\"}", "{\"access_token\":\"t\"}",
                                      "{\"token\":\"\",\"access_token\":\"t\"}" };

static enum err_code p_start(struct transport *t, const struct transport_request *r, struct transfer **out,
                             struct err *e)
{
    struct places *p = (struct places *)t;
    bool api = strstr(r->url, "/v2/") != NULL, token = r->authorization && strcmp(r->authorization, "Bearer t") == 0;
    assert_true(!r->authorization || !strstr(r->url, "://blobs.example/"));
    p->head = (struct transport_head){
        .status = api && !token ? 401 : 200, .retry_after_s = -1, .url = "", .location = "", .content_type = "",
        .etag = "", .docker_digest = "", .linked_etag = "", .linked_size = "", .repo_commit = "", .next_url = "",
        .range = "", .www_authenticate = api ? p->challenge : "",
    };
    if (!api) {
        p->elsewhere++;
        p->basic += r->authorization && strncmp(r->authorization, "Basic ", 6) == 0;
        p->redirects |= !r->no_redirect;
    }
    p->x = (struct transfer){ .head = p->head, .user = r->user };
    enum err_code code = r->on_head(r->user, &p->head, e);
    const char *made = tokens[p->elsewhere % 3];
    if (!code && !api)
        code = r->on_body(r->user, made, strlen(made), e);
    *out = &p->x;
    return code;
}

static struct transfer *p_wait(struct transport *t, struct transfer *only, int timeout_ms)
{
    (void)only, (void)timeout_ms;
    return &((struct places *)t)->x;
}

static void p_end(struct transport *t, struct transfer *x)
{
    (void)t, (void)x;
}

static const struct transport_ops p_ops = { .start = p_start, .wait = p_wait, .end = p_end };

static const struct {
    const char *name, *user, *realm;
    unsigned asked, basic;
} realm_rows[] = {
    { "registry.example.com/a/b", "u", "https://registry.example.com/token", 1, 1 },
    { "registry.example.com/a/b", NULL, "https://registry.example.com/token", 1, 0 },
    { "registry.example.com/a/b", "", "https://registry.example.com/token", 1, 0 },
    { "registry.example.com/a/b", "u", "http://registry.example.com/token", 0, 0 },
    { "registry.example.com/a/b", "u", "https://git.example.com/token", 0, 0 },
    { "registry.example.com/a/b", NULL, "https://git.example.com/token", 1, 0 },
    { "registry.example.com/a/b", "", "https://git.example.com/token", 1, 0 },
    { "registry.example.com/a/b", NULL, "https://GIT.Example.com/token", 1, 0 },
    { "registry.example.com/a/b", NULL, "https://example.com/token", 1, 0 },
    { "registry.example.com/a/b", NULL, "https://evilexample.com/token", 0, 0 },
    { "registry.example.com/a/b", NULL, "https://git.exomple.com/token", 0, 0 },
    { "registry.example.com/a/b", NULL, "https://example.org/token", 0, 0 },
    { "registry.example.com/a/b", NULL, "https://exomple.com/token", 0, 0 },
    { "registry.example.com/a/b", NULL, "https://a.bc/token", 0, 0 },
    { "registry.example.com/a/b", "u", "https://registry.example.com/token#x", 0, 0 },
    { "registry.example.com/a/b", "u", "https://paired.example/token", 1, 1 },
    { "registry.example.com/a/b", "u", "https://paired.example.com/token", 0, 0 },
    { "registry.example.com/a/b", "u", "https://two.example.org/token", 1, 1 },
    { "registry.example.com/a/b", "u", "https://two.example/token", 0, 0 },
    { "example.com/a/b", NULL, "https://other.com/token", 0, 0 },
    { "192.0.2.1/a/b", NULL, "https://10.0.2.1/token", 0, 0 },
    { "docker.io/a/b", "u", "https://auth.docker.io/token", 1, 1 },
    { "registry-1.docker.io/a/b", "u", "https://auth.docker.io/token", 1, 1 },
    { "docker.io/a/b", "u", "https://auth.docker.io.example/token", 0, 0 },
    { "registry.gitlab.com/a/b", "u", "https://gitlab.com/jwt/auth", 1, 1 },
    { "a/b", "u", "https://elsewhere.example/token", 0, 0 },
    { "http://127.0.0.1:5000/a/b", "u", "http://127.0.0.1:5000/token", 1, 1 },
    { "http://127.0.0.1:5000/a/b", "u", "http://127.0.0.1:5001/token", 0, 0 },
    { "http://127.0.0.1:5000/a/b", "u", "http://localhost:5000/token", 0, 0 },
    { "http://127.0.0.1:5000/a/b", "u", "http://127.0.0.1.example:5000/token", 0, 0 },
};

/* Asks the registry of a row for a manifest; the reply is thrown away. */
static enum err_code ask_registry(struct session *s, const char *base, struct err *e)
{
    struct buf body;
    struct transfer *x = NULL;
    char url[200];
    snprintf(url, sizeof url, "%s/v2/a/b/manifests/latest", base);
    struct transport_request r = { .url = url, .max_body = 1000, .body_fd = -1 };
    enum err_code code = session_ask(s, &r, 1, &body, &x, e);
    if (!code)
        buf_finish(&body);
    return code;
}

/* The token of an open session: for the registry alone, and a new one before the old one has run out. */
static void use_token(struct session *s, struct places *p, unsigned asked)
{
    const char *value;
    struct err e = { 0 };
    assert_int_equal(ask_registry(s, "https://blobs.example", &e), ERR_OK); /* its 401 is not answered */
    assert_int_equal(session_authorize(s, false, &value, &e), ERR_OK);
    assert_int_equal(p->elsewhere, asked);
    s->expires_ns = clock_ns() + INT64_C(5000000000);
    assert_int_equal(session_authorize(s, false, &value, &e), ERR_OK);
    assert_string_equal(value, "Bearer t");
    assert_int_equal(p->elsewhere, asked + 1);
    assert_int_equal(session_authorize(s, true, &value, &e), ERR_OK); /* whatever it says of itself */
    assert_int_equal(p->elsewhere, asked + 2);
}

static void tokens_are_asked_for_where_they_may_be(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof realm_rows / sizeof *realm_rows; i++) {
        struct store store = { .net.realms = "other.example=paired.example.com,registry.example.com=paired.example, "
                                             "registry.example.com=two.example.org" };
        struct arena a = { 0 };
        struct err e = { 0 };
        struct name n;
        char challenge[200];
        struct store_secrets secrets = { .username = realm_rows[i].user, .password = "p" };
        struct places p = { .base = { .ops = &p_ops }, .challenge = challenge };
        struct session s = { .store = &store, .transport = &p.base, .secrets = &secrets, .arena = &a };
        snprintf(challenge, sizeof challenge, "Bearer realm=\"%s\",service=\"s\"", realm_rows[i].realm);
        assert_int_equal(name_parse(str_from(realm_rows[i].name), &n, &e), ERR_OK);
        assert_int_equal(session_open(&s, &n, false, &e), ERR_OK);
        enum err_code code = ask_registry(&s, s.url, &e);
        if (p.elsewhere != realm_rows[i].asked || p.basic != realm_rows[i].basic || p.redirects ||
            (code == ERR_OK) != (realm_rows[i].asked > 0))
            fail_msg("%s, %s: asked %u times, %u with a login%s; %s", realm_rows[i].name, realm_rows[i].realm,
                     p.elsewhere, p.basic, p.redirects ? ", following redirects" : "", e.text);
        if (!code)
            use_token(&s, &p, realm_rows[i].asked);
        arena_finish(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenges), cmocka_unit_test(broken_challenges), cmocka_unit_test(cut_challenges),
        cmocka_unit_test(random_challenges),
        cmocka_unit_test(origins),    cmocka_unit_test(joins),
        cmocka_unit_test(tokens_are_asked_for_where_they_may_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
