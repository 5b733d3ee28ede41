/* Where a URL leads: scheme, host and port; and what a Location means.
 *
 * Strict, and less than RFC 3986: http or https, a host of letters, digits, '.', '-' and '_', no user
 * and no IPv6 address. What does not fit is no URL. Views point into the text. Thread: any; nothing
 * here allocates. */
#ifndef HEARTH_STORE_ORIGIN_H
#define HEARTH_STORE_ORIGIN_H

#include <stdbool.h>

#include "runtime/base/str.h"

struct origin {
    bool https;
    struct str host;
    unsigned port;   /* 80 and 443 where none is written */
    struct str text; /* "scheme://host[:port]" as it was written */
};

bool origin_of(struct str url, struct origin *out);
bool origin_eq(const struct origin *a, const struct origin *b);

/* A Location: a URL, or a path from the root of `base`, which is a URL. False when it is neither (or
 * goes over the cap of *out, which is appended to). */
bool origin_join(struct str base, struct str location, struct buf *out);

/* As a part of a query: all but letters, digits and -_.~ as %XX, a space as '+'. */
void origin_escape(struct buf *out, struct str value);

#endif
