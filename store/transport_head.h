/* A reply's head, line by line, into a struct transport_head; and the addresses and proxies that the
 * rules of transport.h speak of. Nothing here has a socket. Thread: any. */
#ifndef HEARTH_STORE_TRANSPORT_HEAD_H
#define HEARTH_STORE_TRANSPORT_HEAD_H

#include <sys/socket.h>

#include "runtime/base/mem.h"
#include "store/transport.h"

#define HEAD_MAX_BYTES ((size_t)64 * 1024)

struct head_reader {
    struct transport_head head;
    struct arena *arena; /* owns the strings of `head` */
    size_t bytes;        /* of the whole head so far, interim replies and trailers included */
    bool status_line;    /* seen */
    bool chunked;        /* a length beside it does not count */
};

void head_begin(struct head_reader *r, struct arena *arena); /* of each hop */

enum head_line { HEAD_MORE, HEAD_DONE, HEAD_BAD };
/* One line, its line end included. DONE: the empty line after a final reply; one after an interim
 * reply (1xx) begins anew. BAD: ERR_TOO_LARGE, ERR_FORBIDDEN (a content coding, lengths that
 * contradict each other), ERR_NO_MEMORY; `host` is for the sentence. */
enum head_line head_line(struct head_reader *r, const char *line, size_t n, const char *host,
                         struct err *e);

/* Digits and nothing else, at most UINT64_MAX. */
bool head_number(struct str text, uint64_t *out);
/* "bytes 0-99/200"; a size of "*" is none. */
bool head_range(struct str text, uint64_t *first, uint64_t *last, uint64_t *total);

/* False for the addresses that only this machine or its network know: unspecified, loopback, link-local
 * (169.254.169.254 with them), private, shared (100.64/10), unique local, multicast, broadcast, and
 * IPv4 ones of these kinds in an IPv6 coat. False for a family that is not IP. */
bool address_is_public(const struct sockaddr *sa);
bool address_text_is_public(const char *text); /* "192.0.2.1", "2001:db8::1%eth0" */

/* Whether no_proxy ("example.org, .lan, 10.0.0.0/8, *") names the host. NULL: no. */
bool proxy_bypassed(const char *no_proxy, const char *host);

#endif
