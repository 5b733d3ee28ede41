/* One registry, asked with whatever it wants to see: nothing, a token, or a name and a password.
 *
 * What goes where (the transport keeps a credential to the origin that it was given for):
 *   - name and password, and the token, to the registry's own origin
 *   - name and password to the realm of a Bearer challenge when it is https (or the plain origin
 *     itself) and on the registry's own host, on a host that the table below pairs it with
 *     (docker.io and auth.docker.io), or on one that store_net.realms names for it
 *   - no request at all to a realm elsewhere, but for one: without a name and a password, a realm
 *     under the same parent domain (registry.example.com and git.example.com) is asked for a
 *     token for anybody
 *   - Ollama's registry, and those of store_net.key_hosts, are shown a signature by the store's key
 *     where no name and password were given
 *
 * Thread: the job's. */
#ifndef HEARTH_STORE_SESSION_H
#define HEARTH_STORE_SESSION_H

#include "runtime/base/mem.h"
#include "store/challenge.h"
#include "store/job.h"
#include "store/name.h"
#include "store/origin.h"
#include "store/store_priv.h"
#include "store/transport.h"

#define SESSION_ERROR_MAX 8192   /* bytes of an error's body that are read */
#define SESSION_TOKEN_MAX 65536  /* of a token server's reply */

struct session {
    struct store *store;
    struct transport *transport;
    const struct store_secrets *secrets; /* may be NULL */
    const struct store_job *job;         /* may be NULL */
    struct arena *arena;                 /* what the strings below live in */
    const char *host;                    /* the registry, as the name has it */
    const char *url;                     /* "https://host[:port]": what is asked */
    const char *path;                    /* namespace/model */
    bool plain, push;
    struct challenge challenge;
    bool challenged;
    const char *authorization;           /* NULL: none so far */
    int64_t expires_ns;                  /* clock_ns; 0: never */
};

/* insecure: the registry's certificate is not checked (that of no other place is taken for it), and plain http may be
 * used, if https is not to be had there.
 * ERR_INVALID: a name with http:// that nobody has allowed. */
enum err_code session_open(struct session *s, const struct name *n, bool insecure, struct err *e);

/* transport_fetch with the credential that is due; a challenge is answered once, and a place that has
 * no time (429, 5xx) or cannot be reached is asked `tries` times. Any other status is handed out, and
 * so is the 401 to what answered a challenge. *body (may be NULL) is the caller's after ERR_OK, *out to be ended. */
enum err_code session_ask(struct session *s, const struct transport_request *r, unsigned tries,
                          struct buf *body, struct transfer **out, struct err *e);
/* The sentence for a status that is not what was hoped for: "the registry HOST ... WHAT: ITS MESSAGE". */
enum err_code session_refused(const struct session *s, int status, struct str body, const char *what,
                              struct err *e);
/* The value of Authorization for the registry's origin, NULL: none; renewed when it was refused or is
 * about to expire. */
enum err_code session_authorize(struct session *s, bool refused, const char **value, struct err *e);
/* Waits, unless the job is cancelled meanwhile. */
enum err_code session_rest(const struct session *s, int64_t ms, struct err *e);

#endif
