/* Heads, addresses and proxies, without a socket. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "store/transport_head.h"

static enum head_line read_head(struct head_reader *r, struct arena *a, const char *text, struct err *e)
{
    enum head_line line = HEAD_MORE;
    memset(r, 0, sizeof *r);
    head_begin(r, a);
    while (line == HEAD_MORE && *text) {
        size_t n = strcspn(text, "\n") + 1;
        line = head_line(r, text, n, "example.org", e);
        text += n;
    }
    return line;
}

static void test_head(void **state)
{
    struct arena a = { 0 };
    struct head_reader r;
    (void)state;
    assert_int_equal(read_head(&r, &a,
                               "HTTP/1.1 100 Continue\r\nETag: old\r\n\r\nHTTP/1.1 206 Partial\r\n"
                               "content-LENGTH:  10 \r\nContent-Range: bytes 5-14/100\r\n"
                               "X-Linked-Etag: \"e\"\r\nX-Repo-Commit: c0ffee\r\nETag:\r\n"
                               "Last-Modified: Mon\r\nDocker-Content-Digest: sha256:00\r\nno colon\r\n\r\n",
                               NULL),
                     HEAD_DONE);
    assert_int_equal(r.head.status, 206);
    assert_true(r.head.has_length && r.head.length == 10 && r.head.has_range && r.head.accepts_ranges);
    assert_true(r.head.first == 5 && r.head.last == 14 && r.head.total == 100);
    assert_string_equal(r.head.linked_etag, "\"e\"");
    assert_string_equal(r.head.repo_commit, "c0ffee");
    assert_string_equal(r.head.docker_digest, "sha256:00");
    assert_string_equal(r.head.etag, "");
    assert_string_equal(r.head.last_modified, "Mon");
    assert_int_equal(r.head.retry_after_s, -1);
    /* where chunks come, a length is no promise; and a header of other bytes than ASCII's is none */
    assert_int_equal(read_head(&r, &a, "HTTP/1.1 200 x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n"
                                       "ETag: \"\xe2\x80\xae\"\r\n\r\n", NULL), HEAD_DONE);
    assert_false(r.head.has_length);
    assert_int_equal(r.head.length, 0);
    assert_string_equal(r.head.etag, "");
    assert_int_equal(read_head(&r, &a, "HTTP/1.1 200 x\r\nContent-Length: 5\r\nTransfer-Encoding: identity\r\n"
                                       "Content-Encoding: identity\r\n\r\n", NULL), HEAD_DONE);
    assert_true(r.head.has_length && r.head.length == 5);
    arena_finish(&a);
}

static void test_head_refused(void **state)
{
    static const struct {
        const char *head;
        enum err_code code;
    } rows[] = {
        { "HTTP/1.1 200 x\r\nContent-Encoding: br\r\n", ERR_FORBIDDEN },
        { "HTTP/1.1 200 x\r\nTransfer-Encoding: gzip\r\n", ERR_FORBIDDEN },
        { "HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n", ERR_FORBIDDEN },
        { "HTTP/1.1 200 x\r\nContent-Length: +1\r\n", ERR_FORBIDDEN },
        { "HTTP/1.1 200 x\r\nContent-Length: 18446744073709551616\r\n", ERR_FORBIDDEN },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct arena a = { 0 };
        struct head_reader r;
        struct err e = { 0 };
        assert_int_equal(read_head(&r, &a, rows[i].head, &e), HEAD_BAD);
        assert_int_equal(e.code, rows[i].code);
        assert_non_null(strstr(e.text, "example.org"));
        arena_finish(&a);
    }
}

static void test_head_of_every_memory(void **state)
{
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct arena a = { 0 };
        struct head_reader r;
        struct err e = { 0 };
        mem_fail_after(n, false);
        enum head_line line = read_head(&r, &a, "HTTP/1.1 200 x\r\nETag: x\r\nLocation: y\r\n\r\n", &e);
        mem_fail_after(0, false);
        arena_finish(&a);
        if (line == HEAD_DONE && n > 1)
            break;
        assert_int_equal(e.code, ERR_NO_MEMORY);
    }
}

static void test_numbers(void **state)
{
    uint64_t a, b, c;
    (void)state;
    assert_true(head_number(STR("18446744073709551615"), &a) && a == UINT64_MAX);
    assert_false(head_number(STR("18446744073709551616"), &a));
    assert_false(head_number(STR(""), &a) || head_number(STR("1 "), &a) || head_number(STR("0x1"), &a));
    assert_true(head_range(STR("bytes 0-0/1"), &a, &b, &c) && a == 0 && b == 0 && c == 1);
    static const char *bad[] = { "bytes 1-0/2", "bytes 0-1/1", "bytes 0-1/*", "bytes */5", "0-1/2",
                                 "bytes=0-1/2", "bytes 0-1", "bytes -1-1/2", "bytes 0-1/2 ", "lines 0-1/2",
                                 "bytes -1/2", "bytes 0-/2" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        a = b = 0;
        c = 9;
        assert_false(head_range(str_from(bad[i]), &a, &b, &c));
    }
}

static void test_addresses(void **state)
{
    static const char *ours[] = {
        "0.0.0.0", "192.0.0.8", "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.127.255.255", "224.0.0.1", "255.255.255.255", "198.18.0.1",
        "::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fdff::1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "2002:0a00:0001::1", "[::1]", "[::1", "", "nowhere",
        "a text that is longer than any address can be: 8.8.8.8",
    };
    static const char *theirs[] = { "192.0.2.1", "198.51.100.1", "8.8.8.8", "172.32.0.1", "100.128.0.1",
                                    "172.15.255.255", "2001:db8::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
                                    "2002:0808:0808::1", "2606:4700::1", "fe00::1",
                                    "2602:0a00:0001::1", "2001:0a00:0001::1", "2a80::1" };
    (void)state;
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (address_text_is_public(ours[i]))
            fail_msg("%s is taken for public", ours[i]);
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++)
        if (!address_text_is_public(theirs[i]))
            fail_msg("%s is taken for one of ours", theirs[i]);
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001) };
    assert_false(address_is_public((struct sockaddr *)&v4));
    v4.sin_addr.s_addr = htonl(0x08080808);
    assert_true(address_is_public((struct sockaddr *)&v4));
    assert_false(address_is_public(&(struct sockaddr){ .sa_family = AF_UNIX }));
}

static void test_proxies(void **state)
{
    static const struct {
        const char *list, *host;
        bool bypassed;
    } rows[] = {
        { NULL, "example.org", false },
        { "", "example.org", false },
        { "*", "example.org", true },
        { "example.org", "example.org", true },
        { "example.org", "a.example.org", true },
        { ".example.org", "example.org", true },
        { "example.org", "badexample.org", false },
        { "example.org", "a.example.com", false },
        { "example.org", "example.com", false },
        { "EXAMPLE.org", "example.ORG.", true },
        { "a.example, ,b.example", "b.example", true },
        { "10.0.0.0/8", "10.255.0.1", true },
        { "10.0.0.0/8", "11.0.0.1", false },
        { "10.0.0.0/33", "10.0.0.1", false },
        { "192.168.1.0/30", "192.168.1.3", true },
        { "192.168.1.0/30", "192.168.1.4", false },
        { "2001:db8::/32", "[2001:db8::1]", true },
        { "10.0.0.1", "10.0.0.1", true },
        { "10.0.0.0/8", "ten.example", false },
        { "10.0.0.1/33", "10.0.0.1", false },
        { "10.0.0.0/x", "10.0.0.0", false },
        { "10.0.0.0/", "10.0.0.0", false },
        { "10.0.0.1", "::ffff:10.0.0.1", false },
        { "0.0.0.0/0", "2001:db8::1", false },
        { "::/0", "10.0.0.1", false },
        { "example.org", "org", false },
        { ".", "example.org", false },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (proxy_bypassed(rows[i].list, rows[i].host) != rows[i].bypassed)
            fail_msg("row %zu", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),      cmocka_unit_test(test_head_refused),
        cmocka_unit_test(test_head_of_every_memory), cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_proxies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
