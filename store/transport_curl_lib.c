#define CURL_LIB_ITSELF
#include "store/transport_curl_lib.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct curl_lib curl_lib;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct err failure; /* code ERR_OK: it is loaded */

static bool find_functions(void *library)
{
    static const struct {
        const char *name;
        size_t at;
    } rows[] = {
#define X(name) { #name, offsetof(struct curl_lib, name##_) },
        CURL_FUNCTIONS(X)
#undef X
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        void *f = dlsym(library, rows[i].name);
        if (!f)
            return false;
        memcpy((char *)&curl_lib + rows[i].at, &f, sizeof f);
    }
    return true;
}

static void load(void)
{
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        err_set(&failure, ERR_UNSUPPORTED, "no network without libcurl: install Debian's libcurl4 or its like (%.200s)",
                dlerror());
        return;
    }
    signal(SIGPIPE, SIG_IGN);
    if (!find_functions(library) || curl_lib.curl_global_init_(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        err_set(&failure, ERR_UNSUPPORTED, "no network: the libcurl that is installed is too old or does not start");
}

enum err_code curl_lib_load(struct err *e)
{
    pthread_once(&once, load);
    if (failure.code && e)
        *e = failure;
    return failure.code;
}
