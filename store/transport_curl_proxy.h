/* The proxy between a transport and an origin, as the environment names it. */
#ifndef HEARTH_STORE_TRANSPORT_CURL_PROXY_H
#define HEARTH_STORE_TRANSPORT_CURL_PROXY_H

#include <stdbool.h>

#include "runtime/base/err.h"

/* By the variables that libcurl reads, looked at here so as to know whether the address that is connected
 * to is the origin's; *out: the environment's own text, or "" where there is none. ERR_INVALID: libcurl
 * would not take it, and would say so with the password that stands in it. */
enum err_code proxy_for(bool https, const char *host, const char **out, struct err *e);

#endif
