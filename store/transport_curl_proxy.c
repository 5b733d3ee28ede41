#include "store/transport_curl_proxy.h"

#include <stdlib.h>
#include <strings.h>

#include "store/transport_curl_lib.h"
#include "store/transport_head.h"

static bool is_known(const char *scheme)
{
    static const char *const schemes[] = { "http", "socks4", "socks4a", "socks5", "socks5h" };
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strcasecmp(scheme, schemes[i]) == 0)
            return true;
    return strcasecmp(scheme, "https") == 0 && curl_version_info(CURLVERSION_NOW)->features & CURL_VERSION_HTTPS_PROXY;
}

/* Read as libcurl reads it. */
static bool is_usable(const char *proxy)
{
    CURLU *u = curl_url();
    char *scheme = NULL;
    bool good = u && !curl_url_set(u, CURLUPART_URL, proxy, CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME) &&
                !curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) && is_known(scheme);
    curl_free(scheme);
    curl_url_cleanup(u);
    return good;
}

enum err_code proxy_for(bool https, const char *host, const char **out, struct err *e)
{
    /* no HTTP_PROXY: a CGI's client could set it */
    const char *names[] = { https ? "https_proxy" : "http_proxy", https ? "HTTPS_PROXY" : "http_proxy", "all_proxy",
                            "ALL_PROXY" };
    const char *none = getenv("no_proxy"), *proxy = NULL, *name = NULL;
    if (!none)
        none = getenv("NO_PROXY");
    for (size_t i = 0; !proxy && i < sizeof names / sizeof *names; i++)
        proxy = getenv(name = names[i]);
    *out = proxy && !proxy_bypassed(none, host) ? proxy : "";
    if (!**out || is_usable(*out))
        return ERR_OK;
    return err_set(e, ERR_INVALID, "%s was not asked: the proxy that %s names cannot be used: it is written "
                   "http://HOST:PORT (or https, socks4, socks5, socks5h), with NAME:PASSWORD@ before the host where it "
                   "wants them, each of their signs but letters and digits as %%XX", host, name);
}
