/* libcurl, loaded when a network is first wanted: with the thirty libraries that Debian's build of it
 * draws in, it would double what an idle daemon holds and slow its start; and who never pulls needs
 * none of it. transport_curl*.c alone include this, and call libcurl by its usual names. */
#ifndef HEARTH_STORE_TRANSPORT_CURL_LIB_H
#define HEARTH_STORE_TRANSPORT_CURL_LIB_H

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

#include "runtime/base/err.h"

#define CURL_FUNCTIONS(X)                                                                          \
    X(curl_global_init) X(curl_version_info) X(curl_free) X(curl_slist_append) X(curl_slist_free_all) \
    X(curl_url) X(curl_url_cleanup) X(curl_url_get) X(curl_url_set)                                \
    X(curl_easy_init) X(curl_easy_setopt) X(curl_easy_getinfo) X(curl_easy_pause)                  \
    X(curl_easy_cleanup) X(curl_easy_strerror)                                                     \
    X(curl_multi_init) X(curl_multi_setopt) X(curl_multi_add_handle) X(curl_multi_remove_handle)   \
    X(curl_multi_perform) X(curl_multi_poll) X(curl_multi_wakeup) X(curl_multi_info_read)          \
    X(curl_multi_cleanup) X(curl_multi_strerror)

struct curl_lib {
#define X(name) __typeof__(&(name)) name##_;
    CURL_FUNCTIONS(X)
#undef X
};
extern struct curl_lib curl_lib; /* whole once curl_lib_load has said ERR_OK */

/* Once in a process; any later call gives the first one's answer. ERR_UNSUPPORTED: it is not installed.
 * Thread: any. */
enum err_code curl_lib_load(struct err *e);

#ifndef CURL_LIB_ITSELF
#define curl_version_info        curl_lib.curl_version_info_
#define curl_free                curl_lib.curl_free_
#define curl_slist_append        curl_lib.curl_slist_append_
#define curl_slist_free_all      curl_lib.curl_slist_free_all_
#define curl_url                 curl_lib.curl_url_
#define curl_url_cleanup         curl_lib.curl_url_cleanup_
#define curl_url_get             curl_lib.curl_url_get_
#define curl_url_set             curl_lib.curl_url_set_
#define curl_easy_init           curl_lib.curl_easy_init_
#define curl_easy_setopt         curl_lib.curl_easy_setopt_
#define curl_easy_getinfo        curl_lib.curl_easy_getinfo_
#define curl_easy_pause          curl_lib.curl_easy_pause_
#define curl_easy_cleanup        curl_lib.curl_easy_cleanup_
#define curl_easy_strerror       curl_lib.curl_easy_strerror_
#define curl_multi_init          curl_lib.curl_multi_init_
#define curl_multi_setopt        curl_lib.curl_multi_setopt_
#define curl_multi_add_handle    curl_lib.curl_multi_add_handle_
#define curl_multi_remove_handle curl_lib.curl_multi_remove_handle_
#define curl_multi_perform       curl_lib.curl_multi_perform_
#define curl_multi_poll          curl_lib.curl_multi_poll_
#define curl_multi_wakeup        curl_lib.curl_multi_wakeup_
#define curl_multi_info_read     curl_lib.curl_multi_info_read_
#define curl_multi_cleanup       curl_lib.curl_multi_cleanup_
#define curl_multi_strerror      curl_lib.curl_multi_strerror_
#endif

#endif
