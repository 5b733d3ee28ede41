/* What a registry answers to a request without a sufficient credential: WWW-Authenticate, RFC 9110.
 *
 * Strict: a header that breaks the grammar has no challenge in it. Schemes that are not ours are
 * passed over; of several that are, Bearer is taken. Thread: any; nothing here allocates. */
#ifndef HEARTH_STORE_CHALLENGE_H
#define HEARTH_STORE_CHALLENGE_H

#include "runtime/base/err.h"
#include "runtime/base/str.h"

#define CHALLENGE_MAX 4096      /* bytes of the header */
#define CHALLENGE_VALUE_MAX 1024

enum challenge_kind { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
    enum challenge_kind kind;
    char realm[CHALLENGE_VALUE_MAX + 1], service[CHALLENGE_VALUE_MAX + 1],
        scope[CHALLENGE_VALUE_MAX + 1]; /* "" when absent */
};

/* NONE when there is none of ours. ERR_FORMAT: broken, over-long, or Bearer without a realm. */
enum err_code challenge_parse(struct str header, struct challenge *out, struct err *e);

#endif
