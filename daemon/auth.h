/* Who may talk to the daemon over TCP: the Host and Origin rules that keep web pages out, and API
 * keys. The Unix socket is guarded by its file mode and is asked nothing of this.
 *
 * Host: `localhost`, names under it, loopback addresses, the machine's own addresses, and what
 * --allow-host names, with any port; anything else could be a name that a web page's owner points
 * at us (DNS rebinding).
 * Origin: none but those of --origins.
 * Verdicts are HTTP statuses (0: pass) with a sentence. Thread: constant after auth_init. */
#ifndef HEARTH_DAEMON_AUTH_H
#define HEARTH_DAEMON_AUTH_H

#include <stdbool.h>
#include <sys/socket.h>

#include "runtime/base/err.h"
#include "runtime/base/str.h"

struct auth {
    const char *allow_host, *origins; /* comma-separated; borrowed */
    char *keys;                       /* the key file's text; NULL: no key is asked for */
};
/* ERR_USAGE: the key file is empty or open to others; ERR_IO: it cannot be read. */
enum err_code auth_init(struct auth *a, const char *allow_host, const char *origins,
                        const char *api_key_file, struct err *e);
void auth_finish(struct auth *a);

/* host: the header's value; local: the address that the client connected to (may be NULL). */
int auth_host(const struct auth *a, struct str host, const struct sockaddr *local, struct err *e);

struct auth_page { /* what a browser says about the page that calls; empty slices when absent */
    struct str origin, fetch_site, content_type;
    bool has_origin;
    bool takes_body; /* the method is one that changes things: not GET, HEAD, OPTIONS */
};
int auth_page(const struct auth *a, const struct auth_page *p, struct err *e);

/* The value of an Authorization or x-api-key header; takes as long for every key. */
bool auth_key(const struct auth *a, struct str authorization, struct str x_api_key);

/* True for 127.0.0.0/8, ::1 and what maps to them. */
bool auth_is_loopback(const struct sockaddr *a);

#endif
